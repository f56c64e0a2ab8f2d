//! Reads. Each takes one round trip and, except for long histories, sees one snapshot.

use super::commit_counters::{COUNTERS, Counts};
use super::connection::Session;
use super::error::PgError;
use super::expected_limits::{Expected, ExpectedLimits};
use super::limits::limits_asked_at_once;
use super::pipeline::Statement;
use super::queries;
use super::rows::{Args, Columns, limit_to_sql};
use super::run_pages::{Way, runs_page};
use super::schedule_pages::schedules_page;
use crate::calendar::Timestamp;
use crate::model::text::run_reason;
use crate::model::{
    EntryRefusal, LedgerEntry, Peer, Run, RunId, RunState, Schedule, ScheduleId, ScheduleStatus, SlotOutcome,
    StepRecord, Token, WorkerId, WorkflowEntry,
};
use crate::store::pagination::cut_page;
use crate::store::query::MANY_RUNS;
use crate::store::row_reader::RowReader;
use crate::store::{
    DueSchedule, EVENTS_LOOKED_AT, KeyedRun, NextWork, Page, ProjectStats, RUNS_LOOKED_AT, RunFilter,
    ScheduleFilter, Shard, StoreError, WaitingParent,
};
use std::collections::BTreeSet;
use std::sync::Arc;
use tokio_postgres::Row;

type Result<T> = std::result::Result<T, PgError>;

/// Converts each row.
pub(super) fn each<T>(
    rows: &[Row],
    mut read: impl FnMut(&mut Columns<'_>) -> std::result::Result<T, tokio_postgres::Error>,
) -> Result<Vec<T>> {
    Ok(rows.iter().map(|row| read(&mut Columns::of(row))).collect::<std::result::Result<_, _>>()?)
}

fn named(workflows: &[Arc<str>]) -> BTreeSet<&str> {
    workflows.iter().map(|id| &**id).collect()
}

impl Session<'_> {
    pub async fn due(
        self,
        project: &str,
        workflows: &[Arc<str>],
        until: Timestamp,
        shard: Shard,
        limit: usize,
    ) -> Result<Vec<DueSchedule>> {
        let mut args = Args::default();
        args.text(project);
        args.texts(named(workflows));
        args.int(until.as_micros());
        args.int(limit_to_sql(limit));
        let sql = if shard == Shard::WHOLE {
            queries::DUE
        } else {
            args.int(i64::from(shard.part));
            args.int(i64::from(shard.of));
            queries::DUE_IN_SHARD
        };
        each(&self.query(sql, args).await?, |columns| columns.due_schedule())
    }

    pub async fn due_count(
        self,
        project: &str,
        workflows: &[Arc<str>],
        until: Timestamp,
        limit: usize,
    ) -> Result<usize> {
        let mut args = Args::default();
        args.text(project);
        args.texts(named(workflows));
        args.int(until.as_micros());
        args.int(limit_to_sql(limit));
        let counts = each(&self.query(queries::DUE_COUNT, args).await?, |columns| columns.count())?;
        Ok(counts.first().map_or(0, |count| usize::try_from(*count).unwrap_or(usize::MAX)))
    }

    /// Takes one round trip if there are no limits, or those that were expected.
    pub async fn next_work(
        self,
        project: &str,
        workflows: &[Arc<str>],
        now: Timestamp,
        limits: &ExpectedLimits,
    ) -> Result<NextWork> {
        let mut args = Args::default();
        args.text(project);
        args.texts(named(workflows));
        let guess = limits.get();
        let mut statements = vec![Statement::Query(queries::NEXT_WORK, args)];
        statements.extend(limits_asked_at_once(project, workflows, &guess));
        let mut answers = self.all(statements).await?.into_iter();
        let rows = answers.next().unwrap_or_default();
        let found = each(&rows, |columns| {
            let next = NextWork {
                slot: columns.optional_time()?,
                run: columns.optional_time()?,
                suspect: columns.optional_time()?,
                has_held: columns.flag()?,
            };
            Ok((next, columns.flag()?))
        })?;
        let Some((mut next, has_limits)) = found.into_iter().next() else { return Ok(NextWork::default()) };
        if has_limits {
            let (run, suspect, found) = self.next_limited(project, workflows, now, answers.collect()).await?;
            limits.set(found);
            next.run = next.run.into_iter().chain(run).min();
            next.suspect = next.suspect.into_iter().chain(suspect).min();
        } else {
            limits.set(Expected::Nothing);
        }
        Ok(next)
    }

    pub async fn cancel_requests(self, worker: &WorkerId) -> Result<Vec<RunId>> {
        let mut args = Args::default();
        args.text(worker.as_str());
        each(&self.query(queries::CANCEL_REQUESTS, args).await?, |columns| columns.run_id())
    }

    pub async fn claims_stand(self, claims: &[(RunId, Token)]) -> Result<Vec<bool>> {
        let mut args = Args::default();
        args.texts(claims.iter().map(|(run, _)| run.as_str()));
        args.ints(claims.iter().map(|(_, token)| token.0));
        each(&self.query(queries::CLAIMS_STAND, args).await?, |columns| columns.flag())
    }

    pub async fn may_enter(
        self,
        claims: &[(RunId, Token)],
    ) -> Result<Vec<std::result::Result<(), EntryRefusal>>> {
        let mut args = Args::default();
        args.texts(claims.iter().map(|(run, _)| run.as_str()));
        args.ints(claims.iter().map(|(_, token)| token.0));
        each(&self.query(queries::MAY_ENTER, args).await?, |columns| {
            let (is_held, may_enter) = (columns.flag()?, columns.flag()?);
            Ok(EntryRefusal::of(is_held.then_some(may_enter)))
        })
    }

    pub async fn peers(self, project: &str) -> Result<Vec<Peer>> {
        let mut args = Args::default();
        args.text(project);
        each(&self.query(queries::PEERS, args).await?, |columns| {
            let peer = columns.worker()?;
            Ok(Peer { held_count: columns.count()?, ..peer })
        })
    }

    pub async fn workflows(self, project: &str) -> Result<Vec<WorkflowEntry>> {
        let mut args = Args::default();
        args.text(project);
        each(&self.query(queries::WORKFLOWS, args).await?, |columns| columns.workflow_entry())
    }

    pub async fn schedule(self, project: &str, id: &ScheduleId) -> Result<Option<Schedule>> {
        let mut args = Args::default();
        args.text(id.as_str());
        args.text(project);
        Ok(each(&self.query(queries::SCHEDULE, args).await?, |columns| columns.schedule())?.pop())
    }

    pub async fn schedules(
        self,
        project: &str,
        filter: &ScheduleFilter,
        page: &Page,
    ) -> Result<Vec<Schedule>> {
        each(&self.one(schedules_page(project, filter, page)).await?, |columns| columns.schedule())
    }

    pub async fn history(
        self,
        project: &str,
        id: &ScheduleId,
        page: &Page,
    ) -> Result<Option<Vec<LedgerEntry>>> {
        let before = page.after.as_deref().and_then(|text| text.parse().ok()).unwrap_or(i64::MAX);
        // One more than the page shows whether the page would end between entries of the same slot.
        let count = page.limit.saturating_add(1);
        let mut entries = self.entries(project, id, i64::MIN..before, count).await?;
        if let Some(newest) = entries.first().map(|entry| entry.from)
            && entries.get(page.limit).is_some_and(|entry| entry.from == newest)
        {
            let slot = newest.as_micros();
            entries = self.entries(project, id, slot..slot.saturating_add(1), usize::MAX).await?;
        }
        cut_page(&mut entries, page.limit);
        if entries.is_empty() {
            let exists = self.schedule(project, id).await?.is_some()
                || !self.entries(project, id, i64::MIN..i64::MAX, 1).await?.is_empty();
            return Ok(exists.then_some(entries));
        }
        Ok(Some(entries))
    }

    /// History in a range of slots, newest first: at least `count` entries if there are so many.
    async fn entries(
        self,
        project: &str,
        id: &ScheduleId,
        slots: std::ops::Range<i64>,
        count: usize,
    ) -> Result<Vec<LedgerEntry>> {
        let mut args = Args::default();
        args.text(project);
        args.text(id.as_str());
        args.int(slots.start);
        args.int(slots.end);
        args.int(limit_to_sql(count));
        each(&self.query(queries::HISTORY, args).await?, |columns| {
            columns.skip();
            let from = columns.time()?;
            columns.skip();
            let (until, count, outcome) = (columns.time()?, columns.count()?, columns.word()?);
            let reason = columns.text()?;
            let run = columns.optional_text()?.map(|id| RunId::from(&*id));
            let is_run = run.is_some();
            let (started_at, worker) = (columns.optional_time()?, columns.optional_worker_id()?);
            let interruptions = columns.small_count()?;
            Ok(LedgerEntry {
                from,
                until,
                count,
                outcome: if is_run { SlotOutcome::Ran } else { outcome.unwrap_or(SlotOutcome::Missed) },
                reason: if is_run { run_reason(state_of(&reason), interruptions) } else { reason },
                run,
                started_at,
                worker,
            })
        })
    }

    pub async fn remarkable_runs(self, project: &str, limit: usize) -> Result<Vec<Run>> {
        let mut args = Args::default();
        args.text(project);
        args.int(limit_to_sql(limit));
        each(&self.query(queries::REMARKABLE_RUNS, args).await?, |columns| columns.run())
    }

    pub async fn run(self, project: &str, id: &RunId) -> Result<Option<Run>> {
        let mut args = Args::default();
        args.text(id.as_str());
        args.text(project);
        Ok(each(&self.query(queries::RUN, args).await?, |columns| columns.run())?.pop())
    }

    pub async fn runs(self, project: &str, filter: &RunFilter, page: &Page) -> Result<Vec<Run>> {
        let way = self.way_to(project, filter).await?;
        each(&self.one(runs_page(&way, project, filter, page)).await?, |columns| columns.run())
    }

    /// Decides how to find the runs that a filter selects: by their key if few runs have it or the
    /// filter asks for no rare states. The runs of a schedule have its key and its workflow, so if
    /// they are many, they are found by these.
    pub(super) async fn way_to(self, project: &str, filter: &RunFilter) -> Result<Way> {
        let mut args = Args::default();
        let sql = if let Some(id) = &filter.schedule {
            args.text(id.as_str());
            args.int(limit_to_sql(MANY_RUNS));
            queries::COUNT_OF_SCHEDULE
        } else {
            let Some(key) = &filter.key else { return Ok(Way::Plain) };
            if !filter.is_for_rare_states() {
                return Ok(Way::Key(Arc::clone(key), filter.workflow.clone()));
            }
            args.text(project);
            args.text(key);
            args.int(limit_to_sql(MANY_RUNS));
            queries::COUNT_OF_KEY
        };
        let found = each(&self.query(sql, args).await?, |columns| {
            Ok((columns.count()?, columns.optional_text()?, columns.optional_text()?))
        })?;
        let Some((count, Some(key), Some(workflow))) = found.into_iter().next() else {
            return Ok(match &filter.key {
                Some(key) if filter.schedule.is_none() => Way::Key(Arc::clone(key), None),
                _ => Way::Schedule,
            });
        };
        let are_many = count >= MANY_RUNS as u64;
        if filter.schedule.is_none() {
            return Ok(if are_many { Way::Plain } else { Way::Key(key, filter.workflow.clone()) });
        }
        Ok(match (are_many, filter.is_for_rare_states()) {
            (false, _) => Way::Schedule,
            (true, true) => Way::Plain,
            (true, false) => Way::Key(key, Some(workflow)),
        })
    }

    pub async fn coming(self, project: &str, until: Timestamp, limit: usize) -> Result<Vec<Schedule>> {
        let mut args = Args::default();
        args.text(project);
        args.int(until.as_micros());
        args.int(limit_to_sql(limit));
        each(&self.query(queries::COMING, args).await?, |columns| columns.schedule())
    }

    pub async fn project_stats(
        self,
        project: &str,
        due_before: Timestamp,
        count_to: usize,
    ) -> Result<ProjectStats> {
        let mut args = Args::default();
        args.text(project);
        args.int(limit_to_sql(count_to));
        args.int(due_before.as_micros());
        let found = each(&self.query(queries::PROJECT_STATS, args).await?, |columns| {
            let mut count = || Ok(usize::try_from(columns.count()?).unwrap_or(usize::MAX));
            let mut project_stats =
                ProjectStats { schedules: Vec::new(), runs: Vec::new(), overdue: 0, oldest_due: None };
            for status in ScheduleStatus::ALL {
                project_stats.schedules.push((status, count()?));
            }
            for state in RunState::UNFINISHED {
                project_stats.runs.push((state, count()?));
            }
            project_stats.overdue = count()?;
            project_stats.oldest_due = columns.optional_time()?;
            Ok(project_stats)
        })?;
        found.into_iter().next().ok_or(PgError::Silence)
    }

    pub async fn runs_with_keys(
        self,
        project: &str,
        workflow: &str,
        keys: (&str, &str),
        limit: usize,
    ) -> Result<Vec<KeyedRun>> {
        let mut args = Args::default();
        args.text(project);
        args.text(workflow);
        args.text(keys.0);
        args.text(keys.1);
        args.int(limit_to_sql(limit));
        each(&self.query(queries::RUNS_WITH_KEYS, args).await?, |columns| columns.keyed_run())
    }

    pub async fn run_with_event(
        self,
        project: &str,
        (workflow, key): (&str, &str),
        name: &str,
        idempotency_key: &str,
    ) -> Result<Option<RunId>> {
        let args = |most| {
            let mut args = Args::default();
            for text in [project, workflow, key, name, idempotency_key] {
                args.text(text);
            }
            args.int(limit_to_sql(most));
            args
        };
        let rows = self.query(queries::RUNS_WITH_EVENT, args(EVENTS_LOOKED_AT)).await?;
        let found = each(&rows, |columns| Ok((columns.flag()?, columns.run_id()?)))?;
        let count = found.len();
        if let Some((_, run)) = found.into_iter().find(|(is_of, _)| *is_of) {
            return Ok(Some(run));
        }
        if count < EVENTS_LOOKED_AT {
            return Ok(None);
        }
        let rows = self.query(queries::RUN_OF_KEY_WITH_EVENT, args(RUNS_LOOKED_AT)).await?;
        Ok(each(&rows, |columns| columns.run_id())?.pop())
    }

    pub async fn waiting_parents(self, project: &str, page: &Page) -> Result<Vec<WaitingParent>> {
        let mut args = Args::default();
        args.text(project);
        args.text(page.after.as_deref().unwrap_or(""));
        args.int(limit_to_sql(page.limit));
        each(&self.query(queries::WAITING_PARENTS, args).await?, |columns| columns.waiting_parent())
    }

    pub async fn steps(self, id: &RunId) -> Result<Vec<StepRecord>> {
        let mut args = Args::default();
        args.text(id.as_str());
        each(&self.query(queries::STEPS_OF_RUN, args).await?, |columns| columns.step())
    }

    pub async fn previous_result(self, schedule: &ScheduleId, before: &RunId) -> Result<Option<Run>> {
        let mut args = Args::default();
        args.text(schedule.as_str());
        args.text(before.as_str());
        Ok(each(&self.query(queries::PREVIOUS_RESULT, args).await?, |columns| columns.run())?.pop())
    }

    /// The visible values of all commit counters.
    pub async fn commit_counts(self) -> Result<Counts> {
        let rows = self.query(queries::COMMIT_COUNTS, Args::default()).await?;
        if rows.len() != COUNTERS {
            // Missing counters must not count as zeros, which would look like a rollback.
            return Err(PgError::Store(StoreError::Denied(format!(
                "{} of the {COUNTERS} rows of the table `commits` can be seen: row-level security hides rows \
                 from this role, or somebody deleted them; let an administrator give the role BYPASSRLS, or \
                 restore the table",
                rows.len()
            ))));
        }
        let mut counts: Counts = [0; COUNTERS];
        for (count, found) in counts.iter_mut().zip(each(&rows, |columns| columns.int())?) {
            *count = found;
        }
        Ok(counts)
    }

    pub async fn is_encrypted(self) -> Result<bool> {
        let rows = self.query(queries::IS_ENCRYPTED, Args::default()).await?;
        Ok(each(&rows, |columns| columns.flag())?.pop().unwrap_or_default())
    }

    /// The time by the database's clock.
    pub async fn time(self) -> Result<Timestamp> {
        let rows = self.query(queries::CLOCK, Args::default()).await?;
        each(&rows, |columns| columns.time())?.pop().ok_or(PgError::Silence)
    }
}

/// The state of this name. An unknown one counts as failed.
fn state_of(word: &str) -> crate::model::RunState {
    crate::model::text::TextEnum::from_word(word).unwrap_or(crate::model::RunState::Failed)
}
