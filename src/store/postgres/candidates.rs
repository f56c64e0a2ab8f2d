//! Statements that find the runs that a claim may take, whatever number of runs is queued.

use super::expected_limits::PlainLimit;
use super::pipeline::Statement;
use super::queries;
use super::rows::{Args, limit_to_sql};
use crate::calendar::Timestamp;
use crate::store::limits::KEYS_MAX;

/// What a claim looks for.
#[derive(Clone, Copy)]
pub(super) struct Search<'c> {
    pub project: &'c str,
    pub until: Timestamp,
    /// Returns at most this many runs.
    pub limit: usize,
}

impl<'c> Search<'c> {
    fn args(self, workflows: impl IntoIterator<Item = &'c str>) -> Args<'c> {
        let mut args = Args::default();
        args.text(self.project);
        args.texts(workflows);
        args.int(self.until.as_micros());
        args
    }

    fn heads(self, workflows: impl IntoIterator<Item = &'c str>) -> Args<'c> {
        let mut args = self.args(workflows);
        // Some are passed over, because others have locked them.
        args.int(limit_to_sql(self.limit.saturating_mul(4).saturating_add(64)));
        args.int(limit_to_sql(self.limit));
        args
    }

    /// The first runs of those of the workflows that have no limit.
    pub fn unlimited(self, workflows: impl IntoIterator<Item = &'c str>) -> Statement<'c> {
        Statement::Query(queries::CLAIMABLE_RUNS, self.heads(workflows))
    }

    /// The first runs of these workflows, which have a limit.
    pub fn limited(self, workflows: impl IntoIterator<Item = &'c str>) -> Statement<'c> {
        Statement::Query(queries::LIMITED_RUNS, self.heads(workflows))
    }

    /// The first runs of the workflows of a limit, as far as it has room.
    pub fn under(self, limit: &'c PlainLimit) -> Statement<'c> {
        let mut args = self.heads(limit.workflows.iter().map(|id| &**id));
        args.text(&limit.name);
        args.int(i64::from(limit.max));
        Statement::Query(queries::RUNS_UNDER_LIMIT, args)
    }

    /// The first runs of each of the first keys of a workflow, by name, that are none of `full`.
    pub fn by_key(
        self,
        workflow: &'c str,
        full: impl IntoIterator<Item = &'c str>,
        per_key: usize,
    ) -> Statement<'c> {
        let mut args = Args::default();
        args.text(self.project);
        args.text(workflow);
        args.int(self.until.as_micros());
        args.int(limit_to_sql(KEYS_MAX));
        args.int(limit_to_sql(per_key));
        args.texts(full);
        Statement::Query(queries::LIMITED_RUNS_BY_KEY, args)
    }

    /// The first suspect of those of the workflows that have no limit.
    pub fn first_suspect(self, workflows: impl IntoIterator<Item = &'c str>) -> Statement<'c> {
        Statement::Query(queries::FIRST_SUSPECT, self.args(workflows))
    }

    /// The first suspects of these workflows, which have a limit.
    pub fn limited_suspects(self, workflows: impl IntoIterator<Item = &'c str>) -> Statement<'c> {
        let mut args = self.args(workflows);
        args.int(limit_to_sql(self.limit));
        Statement::Query(queries::LIMITED_SUSPECTS, args)
    }
}
