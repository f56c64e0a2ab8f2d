//! Pages of runs: chooses the index that serves a filter, and reads only as many rows as a page
//! holds.

use super::k_merge::merge;
use super::queries;
use super::read::View;
use super::rows::{Columns, limit_to_sql};
use super::run_id_range::ids;
use crate::calendar::Timestamp;
use crate::model::text::state_word;
use crate::model::{Run, RunState, ScheduleId};
use crate::store::query::MANY_RUNS;
use crate::store::row_reader::RowReader;
use crate::store::{Page, RunFilter};
use rusqlite::{Result, Row, ToSql, params};
use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::sync::Arc;

/// How to find the runs that match a filter.
pub(super) enum AccessPath {
    /// Read and sort all runs of the schedule: they are few.
    Schedule,
    /// Walk the runs with this key, workflow by workflow.
    Key(Arc<str>, Vec<Arc<str>>),
    /// Walk the runs in states that few runs are in.
    States,
    /// Walk the runs of each workflow.
    Workflows,
}

/// A source of runs that is ordered by itself.
enum Source {
    /// The runs of a workflow in a state that few runs are in.
    InState(RunState, Arc<str>),
    /// The runs that a worker holds.
    HeldBy(Arc<str>),
}

/// The place after which a page begins: that of the last run before it.
#[derive(Copy, Clone)]
pub(super) struct Cursor {
    pub created_at: i64,
    pub no: i64,
}

/// A page to read: the parameters that all access paths share.
struct RunPage<'p> {
    project: &'p str,
    filter: &'p RunFilter,
    before: Cursor,
    since: i64,
    /// The words of the states; no state's word is part of another's.
    states: String,
    limit: usize,
}

/// The order of runs on a page: newest first, by time of creation and then by number.
type RunOrder = Reverse<(Timestamp, i64)>;

/// Reads the place of a run in the order, and the run's number.
pub(super) fn run_head(row: &Row<'_>) -> Result<(RunOrder, i64)> {
    let mut columns = Columns::of(row);
    let (created_at, no) = (columns.time()?, columns.int()?);
    Ok((Reverse((created_at, no)), no))
}

impl View<'_> {
    pub fn runs(&mut self, project: &str, filter: &RunFilter, page: &Page) -> Result<Vec<Run>> {
        if filter.error.is_some() {
            return self.runs_with_error(project, filter, page);
        }
        let Some(before) = self.cursor(project, page)? else { return Ok(Vec::new()) };
        let since = filter.since.map_or(i64::MIN, Timestamp::as_micros);
        let states = filter.states.iter().map(|state| state_word(*state)).collect::<Vec<_>>().join(" ");
        let limit = page.limit;
        let page = RunPage { project, filter, before, since, states, limit };
        match (self.access_path(project, filter)?, &filter.schedule) {
            (AccessPath::Schedule, Some(schedule)) => self.runs_of_schedule(&page, schedule),
            (AccessPath::Key(key, workflows), _) => self.runs_with_key(&page, &key, &workflows),
            (AccessPath::States, _) => self.runs_in_states(&page),
            (AccessPath::Schedule | AccessPath::Workflows, _) => self.runs_of_workflows(&page),
        }
    }

    fn runs_of_schedule(&mut self, page: &RunPage<'_>, schedule: &ScheduleId) -> Result<Vec<Run>> {
        let (first, behind) = ids(schedule);
        self.session.all(
            queries::RUNS_OF_SCHEDULE,
            params![
                page.project,
                schedule,
                page.before.created_at,
                page.before.no,
                page.since,
                page.filter.key,
                page.states,
                limit_to_sql(page.limit),
                page.filter.workflow,
                first,
                behind
            ],
            |row| Columns::of(row).run(),
        )
    }

    fn runs_with_key(
        &mut self,
        page: &RunPage<'_>,
        key: &Arc<str>,
        workflows: &[Arc<str>],
    ) -> Result<Vec<Run>> {
        let newest = merge(workflows.len(), page.limit, |source, offset, count| {
            self.session.all(
                queries::RUN_HEADS_WITH_KEY,
                params![
                    page.project,
                    key,
                    workflows[source],
                    page.before.created_at,
                    page.before.no,
                    page.since,
                    page.states,
                    page.filter.schedule,
                    limit_to_sql(count),
                    limit_to_sql(offset)
                ],
                run_head,
            )
        })?;
        self.runs_by_no(newest)
    }

    fn runs_in_states(&mut self, page: &RunPage<'_>) -> Result<Vec<Run>> {
        let sources = self.sources_in_states(page.project, page.filter)?;
        let newest = merge(sources.len(), page.limit, |source, offset, count| {
            let (sql, value, workflow): (_, &dyn ToSql, _) = match &sources[source] {
                Source::InState(state, workflow) => (queries::RUN_HEADS_IN_STATE, state, Some(workflow)),
                Source::HeldBy(worker) => (queries::RUN_HEADS_HELD, worker, page.filter.workflow.as_ref()),
            };
            self.session.all(
                sql,
                params![
                    page.project,
                    value,
                    workflow,
                    page.before.created_at,
                    page.before.no,
                    page.since,
                    page.filter.key,
                    limit_to_sql(count),
                    limit_to_sql(offset),
                    page.filter.schedule
                ],
                run_head,
            )
        })?;
        self.runs_by_no(newest)
    }

    fn runs_of_workflows(&mut self, page: &RunPage<'_>) -> Result<Vec<Run>> {
        let workflows = match &page.filter.workflow {
            Some(workflow) => vec![Arc::clone(workflow)],
            None => self.skip_through(page.project, queries::FIRST_WORKFLOW, queries::NEXT_WORKFLOW)?,
        };
        let newest = merge(workflows.len(), page.limit, |source, offset, count| {
            self.session.all(
                queries::RUN_HEADS,
                params![
                    page.project,
                    workflows[source],
                    page.before.created_at,
                    page.before.no,
                    page.since,
                    page.filter.key,
                    page.states,
                    limit_to_sql(count),
                    limit_to_sql(offset)
                ],
                run_head,
            )
        })?;
        self.runs_by_no(newest)
    }

    /// Where the page begins. `None` if the run that the last page ended with has been pruned.
    pub(super) fn cursor(&mut self, project: &str, page: &Page) -> Result<Option<Cursor>> {
        let Some(after) = &page.after else {
            return Ok(Some(Cursor { created_at: i64::MAX, no: i64::MAX }));
        };
        let read = |row: &Row<'_>| Ok(Cursor { created_at: row.get(0)?, no: row.get(1)? });
        self.session.one(queries::PLACE_OF_RUN, params![after, project], read)
    }

    /// Chooses how to find the runs that match a filter: by their key if few runs have it or no
    /// rare state is wanted. The runs of a schedule share its key and its workflow, so many of them
    /// are walked by key.
    pub(super) fn access_path(&mut self, project: &str, filter: &RunFilter) -> Result<AccessPath> {
        if let Some(id) = &filter.schedule {
            return self.access_path_of_schedule(id, filter);
        }
        let Some(key) = &filter.key else {
            let is_rare = filter.is_for_rare_states();
            return Ok(if is_rare { AccessPath::States } else { AccessPath::Workflows });
        };
        let many = limit_to_sql(MANY_RUNS);
        if filter.is_for_rare_states()
            && self.count(queries::COUNT_BY_KEY, params![project, key, many])? >= MANY_RUNS
        {
            return Ok(AccessPath::States);
        }
        if let Some(workflow) = &filter.workflow {
            return Ok(AccessPath::Key(Arc::clone(key), vec![Arc::clone(workflow)]));
        }
        let read = |row: &Row<'_>| Columns::of(row).text();
        let mut workflows: Vec<Arc<str>> = Vec::new();
        let mut found = self.session.one(queries::FIRST_WITH_KEY, params![project, key], read)?;
        while let Some(workflow) = found {
            found = self.session.one(queries::NEXT_WITH_KEY, params![project, key, workflow], read)?;
            workflows.push(workflow);
        }
        Ok(AccessPath::Key(Arc::clone(key), workflows))
    }

    fn access_path_of_schedule(&mut self, id: &ScheduleId, filter: &RunFilter) -> Result<AccessPath> {
        let many = limit_to_sql(MANY_RUNS);
        let read = |row: &Row<'_>| {
            let mut columns = Columns::of(row);
            Ok((columns.count()?, columns.optional_text()?, columns.optional_text()?))
        };
        let (first, behind) = ids(id);
        let slots = self.session.one(queries::COUNT_OF_SCHEDULE, params![id, first, behind, many], read)?;
        let others = self.session.one(queries::COUNT_OF_SCHEDULE_OFF_SLOT, params![id, many], read)?;
        let mut count = 0;
        let mut labels = None;
        for (counted, key, workflow) in slots.into_iter().chain(others) {
            count += counted;
            labels = labels.or(key.zip(workflow));
        }
        let is_many = count >= MANY_RUNS as u64;
        Ok(match labels {
            Some((key, workflow)) if is_many && !filter.is_for_rare_states() => {
                let matches = filter.key.as_ref().is_none_or(|wanted| *wanted == key)
                    && filter.workflow.as_ref().is_none_or(|wanted| *wanted == workflow);
                // No run of the schedule has another key or another workflow.
                AccessPath::Key(key, if matches { vec![workflow] } else { Vec::new() })
            }
            Some(_) if is_many => AccessPath::States,
            _ => AccessPath::Schedule,
        })
    }

    pub(super) fn runs_by_no(&mut self, numbers: Vec<i64>) -> Result<Vec<Run>> {
        let mut runs = Vec::with_capacity(numbers.len());
        for no in numbers {
            runs.extend(self.session.one(queries::RUN_BY_NO, [no], |row| Columns::of(row).run())?);
        }
        Ok(runs)
    }

    /// The sources of runs in the wanted states, none of which is `succeeded`, the state of most
    /// runs.
    fn sources_in_states(&mut self, project: &str, filter: &RunFilter) -> Result<Vec<Source>> {
        let mut sources = Vec::new();
        for state in filter.states.iter().copied().collect::<BTreeSet<_>>() {
            if state == RunState::Running {
                sources.extend(self.workers()?.into_iter().map(Source::HeldBy));
            } else if let Some(workflow) = &filter.workflow {
                sources.push(Source::InState(state, Arc::clone(workflow)));
            } else {
                let workflows = self.workflows_in_state(project, state)?;
                sources.extend(workflows.into_iter().map(|workflow| Source::InState(state, workflow)));
            }
        }
        Ok(sources)
    }

    fn workflows_in_state(&mut self, project: &str, state: RunState) -> Result<Vec<Arc<str>>> {
        let mut workflows = Vec::new();
        let read = |row: &Row<'_>| Columns::of(row).text();
        let mut found = self.session.one(queries::FIRST_IN_STATE, params![project, state], read)?;
        while let Some(workflow) = found {
            found = self.session.one(queries::NEXT_IN_STATE, params![project, state, workflow], read)?;
            workflows.push(workflow);
        }
        Ok(workflows)
    }
}
