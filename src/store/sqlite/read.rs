//! Queries, each on one snapshot.

use super::candidates;
use super::k_merge::merge;
use super::queries;
use super::rows::{Columns, limit_to_sql};
use super::run_id_range::ids;
use super::statements::Session;
use crate::calendar::Timestamp;
use crate::model::schedule::stored_tags;
use crate::model::text::run_reason;
use crate::model::{
    EntryRefusal, LedgerEntry, Peer, Run, RunId, RunState, Schedule, ScheduleId, ScheduleStatus, SlotOutcome,
    StepRecord, Token, WorkerId, WorkflowEntry,
};
use crate::store::limits::Room;
use crate::store::pagination::cut_page;
use crate::store::query::COUNTED_MAX;
use crate::store::row_reader::RowReader;
use crate::store::{DueSchedule, KeyedRun, NextWork, Page, ProjectStats, ScheduleFilter, WaitingParent};
use rusqlite::{Result, Row, params};
use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::sync::Arc;

/// A snapshot.
pub(super) struct View<'c> {
    pub session: Session<'c>,
}

/// Sorts after every identifier: no UTF-8 text begins with this byte, and texts compare as bytes.
pub(super) const LAST: &[u8] = &[0xff];

impl View<'_> {
    pub fn due(
        &mut self,
        project: &str,
        workflows: &[Arc<str>],
        until: Timestamp,
        limit: usize,
    ) -> Result<Vec<DueSchedule>> {
        let workflows: BTreeSet<&Arc<str>> = workflows.iter().collect();
        let workflows: Vec<Arc<str>> = workflows.into_iter().cloned().collect();
        let due = self.due_ids(project, &workflows, until, limit)?;
        let mut schedules = Vec::with_capacity(due.len());
        for id in due {
            let read = |row: &Row<'_>| Columns::of(row).due_schedule();
            schedules.extend(self.session.one(queries::DUE_SCHEDULE, params![id, COUNTED_MAX], read)?);
        }
        Ok(schedules)
    }

    /// Ids of the schedules with the earliest slots. Each workflow must be named once.
    fn due_ids(
        &mut self,
        project: &str,
        workflows: &[Arc<str>],
        until: Timestamp,
        limit: usize,
    ) -> Result<Vec<ScheduleId>> {
        merge(workflows.len(), limit, |source, offset, count| {
            self.session.all(
                queries::DUE_HEADS,
                params![project, workflows[source], until, limit_to_sql(count), limit_to_sql(offset)],
                |row| {
                    let mut columns = Columns::of(row);
                    let key = (columns.time()?, columns.schedule_id()?);
                    let id = key.1.clone();
                    Ok((key, id))
                },
            )
        })
    }

    pub fn coming(&mut self, project: &str, until: Timestamp, limit: usize) -> Result<Vec<Schedule>> {
        let workflows = self.skip_through(project, queries::FIRST_DUE, queries::NEXT_DUE)?;
        let mut schedules = Vec::new();
        for id in self.due_ids(project, &workflows, until, limit)? {
            schedules.extend(self.schedule(project, &id)?);
        }
        Ok(schedules)
    }

    pub fn project_stats(
        &mut self,
        project: &str,
        due_before: Timestamp,
        count_to: usize,
    ) -> Result<ProjectStats> {
        let workflows = self.skip_through(project, queries::FIRST_DUE, queries::NEXT_DUE)?;
        let wake = self.next_work(project, &workflows, due_before)?;
        let until = Timestamp::from_micros(due_before.as_micros().saturating_sub(1));
        let mut project_stats = ProjectStats {
            schedules: Vec::new(),
            runs: Vec::new(),
            overdue: self.due_count(project, &workflows, until, count_to)?,
            oldest_due: wake.slot.filter(|slot| *slot < due_before),
        };
        let most = limit_to_sql(count_to);
        for status in ScheduleStatus::ALL {
            let count = match status {
                ScheduleStatus::Active => self.count(queries::COUNT_ACTIVE, params![project, most])?,
                rare => self.count(queries::COUNT_IN_STATUS, params![project, rare, most])?,
            };
            project_stats.schedules.push((status, count));
        }
        for state in RunState::UNFINISHED {
            let count = match state {
                RunState::Running => self.count_held(project, count_to)?,
                rare => self.count(queries::COUNT_IN_STATE, params![project, rare, most])?,
            };
            project_stats.runs.push((state, count));
        }
        Ok(project_stats)
    }

    pub(super) fn count(&mut self, sql: &'static str, params: impl rusqlite::Params) -> Result<usize> {
        let found = self.session.one(sql, params, |row| Columns::of(row).count())?;
        Ok(usize::try_from(found.unwrap_or(0)).unwrap_or(usize::MAX))
    }

    /// Number of runs that workers hold. A worker that deregisters or expires holds none.
    fn count_held(&mut self, project: &str, count_to: usize) -> Result<usize> {
        let mut total = 0;
        for worker in self.workers()? {
            let most = limit_to_sql(count_to - total);
            total += self.count(queries::COUNT_HELD, params![worker, project, most])?;
        }
        Ok(total)
    }

    pub(super) fn workers(&mut self) -> Result<Vec<Arc<str>>> {
        self.session.all(queries::WORKERS, [], |row| Columns::of(row).text())
    }

    pub fn due_count(
        &mut self,
        project: &str,
        workflows: &[Arc<str>],
        until: Timestamp,
        limit: usize,
    ) -> Result<usize> {
        let mut total = 0;
        for workflow in workflows.iter().collect::<BTreeSet<_>>() {
            let rest = limit_to_sql(limit - total);
            let found =
                self.session.one(queries::DUE_COUNT, params![project, workflow, until, rest], |row| {
                    Columns::of(row).count()
                })?;
            total += usize::try_from(found.unwrap_or(0)).unwrap_or(limit).min(limit - total);
        }
        Ok(total)
    }

    pub fn next_work(&mut self, project: &str, workflows: &[Arc<str>], now: Timestamp) -> Result<NextWork> {
        let mut wake = NextWork::default();
        let earlier =
            |known: Option<Timestamp>, found: Option<Timestamp>| known.into_iter().chain(found).min();
        let rooms = candidates::rooms(&mut self.session, project, |id| workflows.contains(id), now)?;
        for workflow in workflows {
            let mut head =
                |sql| self.session.one(sql, params![project, workflow], |row| Columns::of(row).time());
            wake.slot = earlier(wake.slot, head(queries::NEXT_SLOT)?);
            if rooms.of(workflow).is_none() {
                wake.run = earlier(wake.run, head(queries::NEXT_AVAILABLE)?);
            }
        }
        for index in 0..rooms.rooms().len() {
            let next = candidates::next_limited(&mut self.session, project, &rooms, index)?;
            wake.run = earlier(wake.run, next);
        }
        let suspect = |row: &Row<'_>| {
            let mut columns = Columns::of(row);
            let found = candidates::candidate(&mut columns, &Arc::default(), candidates::Order::Time)?;
            Ok((found.at(), found.key, columns.text()?))
        };
        let is_ours = |(_, key, workflow): &(_, Arc<str>, Arc<str>)| {
            workflows.contains(workflow)
                && rooms.of(workflow).is_none_or(|room| room.opens_at().is_some() && room.has_slot_for(key))
        };
        wake.has_held = self.session.any(queries::HELD_FOR_CODE, [project])?;
        let found = self.session.first(queries::SUSPECTS, [project], suspect, is_ours)?;
        wake.suspect =
            found.map(|(at, _, workflow)| at.max(rooms.of(&workflow).and_then(Room::opens_at).unwrap_or(at)));
        Ok(wake)
    }

    pub fn cancel_requests(&mut self, worker: &WorkerId) -> Result<Vec<RunId>> {
        self.session.all(queries::CANCEL_REQUESTS, [worker], |row| Columns::of(row).run_id())
    }

    pub fn claims_stand(&mut self, claims: &[(RunId, Token)]) -> Result<Vec<bool>> {
        claims.iter().map(|(run, token)| self.session.any(queries::STANDS, params![run, token])).collect()
    }

    pub fn may_enter(
        &mut self,
        claims: &[(RunId, Token)],
    ) -> Result<Vec<std::result::Result<(), EntryRefusal>>> {
        let mut answers = Vec::with_capacity(claims.len());
        for (run, token) in claims {
            let found = self.session.one(queries::MAY_ENTER, params![run, token], |row| row.get(0))?;
            answers.push(EntryRefusal::of(found));
        }
        Ok(answers)
    }

    pub fn peers(&mut self, project: &str) -> Result<Vec<Peer>> {
        read_peers(&mut self.session, project)
    }

    pub fn workflows(&mut self, project: &str) -> Result<Vec<WorkflowEntry>> {
        self.session.all(queries::WORKFLOWS, [project], |row| Columns::of(row).workflow_entry())
    }

    pub fn schedule(&mut self, project: &str, id: &ScheduleId) -> Result<Option<Schedule>> {
        self.session.one(queries::SCHEDULE, params![id, project], |row| Columns::of(row).schedule())
    }

    pub fn schedules(
        &mut self,
        project: &str,
        filter: &ScheduleFilter,
        page: &Page,
    ) -> Result<Vec<Schedule>> {
        let after = page.after.as_deref().unwrap_or("");
        let limit = limit_to_sql(page.limit);
        let ScheduleFilter { workflow, key, status, owner, key_prefix, tags } = filter;
        if let Some(prefix) = key_prefix {
            return self.schedules_by_prefix(project, filter, prefix, page);
        }
        let read = |row: &Row<'_>| Columns::of(row).schedule();
        let session = &mut self.session;
        let wanted = stored_tags(tags);
        if key.is_some() {
            let params = params![project, after, limit, status, owner, workflow, key, wanted];
            session.all(queries::SCHEDULES_BY_KEY, params, read)
        } else if status.is_some_and(|status| status != ScheduleStatus::Active) {
            let params = params![project, after, limit, status, owner, workflow, wanted];
            session.all(queries::SCHEDULES_BY_STATUS, params, read)
        } else if let Some((name, value)) = tags.first_key_value() {
            let params = params![project, after, limit, status, owner, workflow, wanted, name, value];
            session.all(queries::SCHEDULES_BY_TAG, params, read)
        } else if owner.is_some() {
            let params = params![project, after, limit, status, owner, workflow];
            session.all(queries::SCHEDULES_BY_OWNER, params, read)
        } else if workflow.is_some() {
            let params = params![project, after, limit, status, owner, workflow];
            session.all(queries::SCHEDULES_BY_WORKFLOW, params, read)
        } else {
            self.all_schedules(project, *status, after, page.limit)
        }
    }

    /// A page of schedules whose key has a prefix.
    fn schedules_by_prefix(
        &mut self,
        project: &str,
        filter: &ScheduleFilter,
        prefix: &str,
        page: &Page,
    ) -> Result<Vec<Schedule>> {
        let (first, behind) = ScheduleFilter::key_range(prefix);
        let after = page.after.as_deref().and_then(ScheduleFilter::parse_cursor);
        let (first, workflow) = match after {
            Some((key, workflow)) => (first.max(key), Some(workflow)),
            None => (first, None),
        };
        let behind: &dyn rusqlite::ToSql = match &behind {
            Some(text) => text,
            None => &LAST,
        };
        let ScheduleFilter { workflow: of, key, status, owner, tags, .. } = filter;
        let limit = limit_to_sql(page.limit);
        self.session.all(
            queries::SCHEDULES_BY_PREFIX,
            params![project, first, behind, workflow, status, owner, of, key, limit, stored_tags(tags)],
            |row| Columns::of(row).schedule(),
        )
    }

    /// A page of a whole project. No index has this order, but each workflow's schedules have it.
    fn all_schedules(
        &mut self,
        project: &str,
        status: Option<ScheduleStatus>,
        after: &str,
        limit: usize,
    ) -> Result<Vec<Schedule>> {
        let workflows = self.skip_through(project, queries::FIRST_SCHEDULED, queries::NEXT_SCHEDULED)?;
        merge(workflows.len(), limit, |source, offset, count| {
            self.session.all(
                queries::SCHEDULE_HEADS,
                params![project, workflows[source], after, status, limit_to_sql(count), limit_to_sql(offset)],
                |row| {
                    let schedule = Columns::of(row).schedule()?;
                    Ok((schedule.id.clone(), schedule))
                },
            )
        })
    }

    pub fn history(
        &mut self,
        project: &str,
        id: &ScheduleId,
        page: &Page,
    ) -> Result<Option<Vec<LedgerEntry>>> {
        let before = page.after.as_deref().and_then(|text| text.parse().ok()).unwrap_or(i64::MAX);
        // One row more than requested shows whether the page cuts through equal slots.
        let count = page.limit.saturating_add(1);
        let mut entries = self.entries(project, id, i64::MIN..before, count)?;
        if let Some(newest) = entries.first().map(|entry| entry.from)
            && entries.get(page.limit).is_some_and(|entry| entry.from == newest)
        {
            let slot = newest.as_micros();
            entries = self.entries(project, id, slot..slot.saturating_add(1), usize::MAX)?;
        }
        cut_page(&mut entries, page.limit);
        if entries.is_empty() {
            let exists = self.session.any(queries::HAS_SCHEDULE, params![id, project])?
                || !self.entries(project, id, i64::MIN..i64::MAX, 1)?.is_empty();
            return Ok(exists.then_some(entries));
        }
        Ok(Some(entries))
    }

    /// History in a range of slots, newest first: at least `count` entries if there are that many.
    fn entries(
        &mut self,
        project: &str,
        id: &ScheduleId,
        slots: std::ops::Range<i64>,
        count: usize,
    ) -> Result<Vec<LedgerEntry>> {
        let count = limit_to_sql(count);
        let read = |row: &Row<'_>| {
            let mut columns = Columns::of(row);
            let (slot, no, state) = (columns.time()?, columns.int()?, columns.state()?);
            let mut entry = LedgerEntry {
                from: slot,
                until: slot,
                count: 1,
                outcome: SlotOutcome::Ran,
                reason: Arc::default(),
                run: Some(columns.run_id()?),
                started_at: columns.optional_time()?,
                worker: columns.optional_worker_id()?,
            };
            entry.reason = run_reason(state, columns.small_count()?);
            Ok((no, entry))
        };
        let (first, behind) = ids(id);
        let mut runs = self.session.all(
            queries::HISTORY_RUNS,
            params![id, slots.end, slots.start, project, first, behind, count],
            read,
        )?;
        runs.extend(self.session.all(
            queries::HISTORY_RUNS_OFF_SLOT,
            params![id, slots.end, slots.start, project, count],
            read,
        )?);
        runs.sort_by_key(|(no, entry)| Reverse((entry.from, *no)));
        let lines = self.session.all(
            queries::HISTORY_LINES,
            params![id, slots.end, slots.start, project, count],
            |row| {
                let mut columns = Columns::of(row);
                Ok(LedgerEntry {
                    from: columns.time()?,
                    until: columns.time()?,
                    count: columns.count()?,
                    outcome: columns.word()?.unwrap_or(SlotOutcome::Missed),
                    reason: columns.text()?,
                    run: None,
                    started_at: None,
                    worker: None,
                })
            },
        )?;
        let mut entries: Vec<_> = runs.into_iter().map(|(_, entry)| entry).chain(lines).collect();
        entries.sort_by_key(|entry| Reverse(entry.from));
        Ok(entries)
    }

    pub fn remarkable_runs(&mut self, project: &str, limit: usize) -> Result<Vec<Run>> {
        let params = params![project, limit_to_sql(limit)];
        self.session.all(queries::REMARKABLE_RUNS, params, |row| Columns::of(row).run())
    }

    pub fn run(&mut self, project: &str, id: &RunId) -> Result<Option<Run>> {
        self.session.one(queries::RUN, params![id, project], |row| Columns::of(row).run())
    }

    /// Skips from one workflow to the next, however many rows each has.
    pub(super) fn skip_through(
        &mut self,
        project: &str,
        first: &'static str,
        next: &'static str,
    ) -> Result<Vec<Arc<str>>> {
        let mut workflows: Vec<Arc<str>> = Vec::new();
        let mut found = self.session.one(first, [project], |row| Columns::of(row).text())?;
        while let Some(workflow) = found {
            found = self.session.one(next, params![project, workflow], |row| Columns::of(row).text())?;
            workflows.push(workflow);
        }
        Ok(workflows)
    }

    pub fn runs_with_keys(
        &mut self,
        project: &str,
        workflow: &str,
        keys: (&str, &str),
        limit: usize,
    ) -> Result<Vec<KeyedRun>> {
        let params = params![project, workflow, keys.0, keys.1, limit_to_sql(limit)];
        self.session.all(queries::RUNS_WITH_KEYS, params, |row| Columns::of(row).keyed_run())
    }

    pub fn run_with_event(
        &mut self,
        project: &str,
        (workflow, key): (&str, &str),
        name: &str,
        idempotency_key: &str,
    ) -> Result<Option<RunId>> {
        self.session.run_with_event([project, workflow, key, name, idempotency_key])
    }

    pub fn waiting_parents(&mut self, project: &str, page: &Page) -> Result<Vec<WaitingParent>> {
        let after = page.after.as_deref().unwrap_or("");
        let params = params![project, after, limit_to_sql(page.limit)];
        self.session.all(queries::WAITING_PARENTS, params, |row| Columns::of(row).waiting_parent())
    }

    pub fn steps(&mut self, id: &RunId) -> Result<Vec<StepRecord>> {
        self.session.all(queries::STEPS_OF_RUN, [id], |row| Columns::of(row).step())
    }

    pub fn previous_result(&mut self, schedule: &ScheduleId, before: &RunId) -> Result<Option<Run>> {
        let created_at: Option<i64> = self.session.one(queries::CREATED_AT, [before], |row| row.get(0))?;
        let Some(created_at) = created_at else { return Ok(None) };
        let read = |row: &Row<'_>| {
            let mut columns = Columns::of(row);
            Ok(((columns.optional_time()?, columns.int()?), columns.run()?))
        };
        let (first, behind) = ids(schedule);
        let by_id =
            self.session.one(queries::PREVIOUS_RESULT, params![schedule, created_at, first, behind], read)?;
        let others =
            self.session.one(queries::PREVIOUS_RESULT_OFF_SLOT, params![schedule, created_at], read)?;
        let newest = by_id.into_iter().chain(others).max_by_key(|(place, _)| *place);
        Ok(newest.map(|(_, run)| run))
    }
}

/// Workers of the project, with the number of runs that they hold.
pub(super) fn read_peers(session: &mut Session<'_>, project: &str) -> Result<Vec<Peer>> {
    let mut peers = session.all(queries::PEERS, [project], |row| {
        let mut columns = Columns::of(row);
        let peer = columns.peer()?;
        Ok(Peer { held_count: columns.count()?, ..peer })
    })?;
    for peer in &mut peers {
        peer.workflows = session.all(queries::WORKER_WORKFLOWS, [&peer.id], |row| Columns::of(row).text())?;
    }
    Ok(peers)
}
