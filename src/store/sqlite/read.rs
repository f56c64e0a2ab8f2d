//! Questions, each answered from one snapshot.

use super::k_merge::merge;
use super::queries;
use super::rows::{Columns, limit_to_sql};
use super::run_id_range::ids;
use super::statements::Session;
use crate::calendar::Timestamp;
use crate::model::text::{run_reason, state_word};
use crate::model::{
    LedgerEntry, Peer, Run, RunId, RunState, Schedule, ScheduleId, ScheduleStatus, SlotOutcome, StepRecord,
    Token, WorkerId, WorkflowEntry,
};
use crate::store::pagination::cut_page;
use crate::store::query::{COUNTED_MAX, MANY_RUNS};
use crate::store::{DueSchedule, NextWork, Page, ProjectStats, RunFilter, ScheduleFilter, WaitingParent};
use rusqlite::{Result, Row, params};
use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::sync::Arc;

/// A snapshot.
pub(super) struct View<'c> {
    pub session: Session<'c>,
}

/// A part of a list of runs, by itself in order.
enum Part {
    /// Those of a workflow in a state that few runs are in.
    InState(RunState, Arc<str>),
    /// Those that a worker holds.
    HeldBy(Arc<str>),
}

/// How a list of runs is found.
pub(super) enum Way {
    /// All runs of the schedule are read and sorted: they are few.
    Schedule,
    /// Those with a key are walked, workflow by workflow.
    Key(Arc<str>, Vec<Arc<str>>),
    /// Those in states that few runs are in.
    States,
    /// Those of each workflow.
    Workflows,
}

/// Behind every identifier: no UTF-8 text begins with this byte, and texts compare as bytes.
const LAST: &[u8] = &[0xff];

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
            schedules.extend(self.session.one(queries::DUE_SCHEDULE, params![id, COUNTED_MAX], |row| {
                let mut columns = Columns::of(row);
                let schedule = columns.schedule()?;
                let live_count = columns.small_count()?;
                let buffered_count = columns.small_count()?;
                Ok(DueSchedule {
                    schedule,
                    unfinished_count: live_count.saturating_add(buffered_count),
                    buffered_count,
                })
            })?);
        }
        Ok(schedules)
    }

    /// Ids of those with the earliest slots. Each workflow is named once.
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
        let wake = self.next_work(project, &workflows)?;
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

    fn count(&mut self, sql: &'static str, params: impl rusqlite::Params) -> Result<usize> {
        let found = self.session.one(sql, params, |row| Columns::of(row).count())?;
        Ok(usize::try_from(found.unwrap_or(0)).unwrap_or(usize::MAX))
    }

    /// Runs that workers hold: whoever signs out or is buried lets go of his.
    fn count_held(&mut self, project: &str, count_to: usize) -> Result<usize> {
        let mut total = 0;
        for worker in self.workers()? {
            let most = limit_to_sql(count_to - total);
            total += self.count(queries::COUNT_HELD, params![worker, project, most])?;
        }
        Ok(total)
    }

    fn workers(&mut self) -> Result<Vec<Arc<str>>> {
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

    pub fn next_work(&mut self, project: &str, workflows: &[Arc<str>]) -> Result<NextWork> {
        let mut wake = NextWork::default();
        let earlier =
            |known: Option<Timestamp>, found: Option<Timestamp>| known.into_iter().chain(found).min();
        for workflow in workflows {
            let mut head =
                |sql| self.session.one(sql, params![project, workflow], |row| Columns::of(row).time());
            wake.slot = earlier(wake.slot, head(queries::NEXT_SLOT)?);
            wake.run = earlier(wake.run, head(queries::NEXT_AVAILABLE)?);
        }
        let suspect = |row: &Row<'_>| {
            let mut columns = Columns::of(row);
            let at = columns.time()?;
            columns.optional_time()?;
            columns.run_id()?;
            columns.int()?;
            Ok((at, columns.text()?))
        };
        let is_ours = |(_, workflow): &(_, Arc<str>)| workflows.contains(workflow);
        wake.has_held = self.session.any(queries::HELD_FOR_CODE, [project])?;
        wake.suspect = self.session.first(queries::SUSPECTS, [project], suspect, is_ours)?.map(|(at, _)| at);
        Ok(wake)
    }

    pub fn cancel_requests(&mut self, worker: &WorkerId) -> Result<Vec<RunId>> {
        self.session.all(queries::CANCEL_REQUESTS, [worker], |row| Columns::of(row).run_id())
    }

    pub fn claims_stand(&mut self, claims: &[(RunId, Token)]) -> Result<Vec<bool>> {
        claims.iter().map(|(run, token)| self.session.any(queries::STANDS, params![run, token])).collect()
    }

    pub fn peers(&mut self, project: &str) -> Result<Vec<Peer>> {
        read_peers(&mut self.session, project)
    }

    pub fn workflows(&mut self, project: &str) -> Result<Vec<WorkflowEntry>> {
        self.session.all(queries::WORKFLOWS, [project], |row| {
            let mut columns = Columns::of(row);
            Ok(WorkflowEntry { id: columns.text()?, schedulable: columns.flag()? })
        })
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
        let ScheduleFilter { workflow, key, status, owner, key_prefix } = filter;
        if let Some(prefix) = key_prefix {
            return self.schedules_by_prefix(project, filter, prefix, page);
        }
        let read = |row: &Row<'_>| Columns::of(row).schedule();
        let session = &mut self.session;
        if key.is_some() {
            let params = params![project, after, limit, status, owner, workflow, key];
            session.all(queries::SCHEDULES_BY_KEY, params, read)
        } else if status.is_some_and(|status| status != ScheduleStatus::Active) {
            let params = params![project, after, limit, status, owner, workflow];
            session.all(queries::SCHEDULES_BY_STATUS, params, read)
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

    /// A page by the beginning of the key.
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
        let ScheduleFilter { workflow: of, key, status, owner, .. } = filter;
        let limit = limit_to_sql(page.limit);
        self.session.all(
            queries::SCHEDULES_BY_PREFIX,
            params![project, first, behind, workflow, status, owner, of, key, limit],
            |row| Columns::of(row).schedule(),
        )
    }

    /// A page of a whole project: no index has them in this order, but each workflow's are.
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
        // One more than asked for shows whether the page cuts through slots that are equal.
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

    /// History in a range of slots, newest first, at least `count` where there are so many.
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

    #[expect(clippy::too_many_lines, reason = "one branch for each index that may serve the filter")]
    pub fn runs(&mut self, project: &str, filter: &RunFilter, page: &Page) -> Result<Vec<Run>> {
        if filter.error.is_some() {
            return self.runs_with_error(project, filter, page);
        }
        let Some(before) = self.before(project, page)? else { return Ok(Vec::new()) };
        let before_id = before.1;
        let since = filter.since.map_or(i64::MIN, Timestamp::as_micros);
        let states = spell(&filter.states);
        let head = |row: &Row<'_>| {
            let mut columns = Columns::of(row);
            let key = Reverse((columns.time()?, columns.run_id()?));
            Ok((key, columns.int()?))
        };
        let way = self.way_to(project, filter)?;
        if let Way::Key(key, workflows) = &way {
            let newest = merge(workflows.len(), page.limit, |source, offset, count| {
                self.session.all(
                    queries::RUN_HEADS_WITH_KEY,
                    params![
                        project,
                        key,
                        workflows[source],
                        before.0,
                        before_id,
                        since,
                        states,
                        filter.schedule,
                        limit_to_sql(count),
                        limit_to_sql(offset)
                    ],
                    head,
                )
            })?;
            return self.runs_by_no(newest);
        }
        if let (Way::Schedule, Some(schedule)) = (&way, &filter.schedule) {
            let (first, behind) = ids(schedule);
            return self.session.all(
                queries::RUNS_OF_SCHEDULE,
                params![
                    project,
                    schedule,
                    before.0,
                    before_id,
                    since,
                    filter.key,
                    states,
                    limit_to_sql(page.limit),
                    filter.workflow,
                    first,
                    behind
                ],
                |row| Columns::of(row).run(),
            );
        }
        if matches!(way, Way::States) {
            let parts = self.parts(project, filter)?;
            let newest = merge(parts.len(), page.limit, |source, offset, count| {
                let (sql, place, workflow): (_, &dyn rusqlite::ToSql, _) = match &parts[source] {
                    Part::InState(state, workflow) => (queries::RUN_HEADS_IN_STATE, state, Some(workflow)),
                    Part::HeldBy(worker) => (queries::RUN_HEADS_HELD, worker, filter.workflow.as_ref()),
                };
                self.session.all(
                    sql,
                    params![
                        project,
                        place,
                        workflow,
                        before.0,
                        before_id,
                        since,
                        filter.key,
                        limit_to_sql(count),
                        limit_to_sql(offset),
                        filter.schedule
                    ],
                    head,
                )
            })?;
            return self.runs_by_no(newest);
        }
        let workflows = match &filter.workflow {
            Some(workflow) => vec![Arc::clone(workflow)],
            None => self.skip_through(project, queries::FIRST_WORKFLOW, queries::NEXT_WORKFLOW)?,
        };
        let newest = merge(workflows.len(), page.limit, |source, offset, count| {
            self.session.all(
                queries::RUN_HEADS,
                params![
                    project,
                    workflows[source],
                    before.0,
                    before_id,
                    since,
                    filter.key,
                    states,
                    limit_to_sql(count),
                    limit_to_sql(offset)
                ],
                head,
            )
        })?;
        self.runs_by_no(newest)
    }

    /// The place behind which a page of runs begins, as time and id; `None` if its run is forgotten.
    pub(super) fn before<'p>(
        &mut self,
        project: &str,
        page: &'p Page,
    ) -> Result<Option<(i64, &'p dyn rusqlite::ToSql)>> {
        let Some(after) = &page.after else { return Ok(Some((i64::MAX, &LAST))) };
        let read = |row: &Row<'_>| row.get(0);
        let place: Option<i64> = self.session.one(queries::PLACE_OF_RUN, params![after, project], read)?;
        Ok(place.map(|created_at| (created_at, after as &dyn rusqlite::ToSql)))
    }

    /// How the runs that a filter asks for are found: by their key where there are few with it, or no rare states to look
    /// for. The runs of a schedule have its key and its workflow, and are walked where they are many.
    pub(super) fn way_to(&mut self, project: &str, filter: &RunFilter) -> Result<Way> {
        let many = limit_to_sql(MANY_RUNS);
        if let Some(id) = &filter.schedule {
            let read = |row: &Row<'_>| {
                let mut columns = Columns::of(row);
                Ok((columns.count()?, columns.optional_text()?, columns.optional_text()?))
            };
            let (first, behind) = ids(id);
            let slots =
                self.session.one(queries::COUNT_OF_SCHEDULE, params![id, first, behind, many], read)?;
            let others = self.session.one(queries::COUNT_OF_SCHEDULE_OFF_SLOT, params![id, many], read)?;
            let mut count = 0;
            let mut place = None;
            for (counted, key, workflow) in slots.into_iter().chain(others) {
                count += counted;
                place = place.or(key.zip(workflow));
            }
            let is_burst = count >= MANY_RUNS as u64;
            return Ok(match place {
                Some((key, workflow)) if is_burst && !filter.is_for_rare_states() => {
                    let is_alike = filter.key.as_ref().is_none_or(|wanted| *wanted == key)
                        && filter.workflow.as_ref().is_none_or(|wanted| *wanted == workflow);
                    // None of its runs has another key or another workflow.
                    Way::Key(key, if is_alike { vec![workflow] } else { Vec::new() })
                }
                Some(_) if is_burst => Way::States,
                _ => Way::Schedule,
            });
        }
        let Some(key) = &filter.key else {
            return Ok(if filter.is_for_rare_states() { Way::States } else { Way::Workflows });
        };
        if filter.is_for_rare_states()
            && self.count(queries::COUNT_BY_KEY, params![project, key, many])? >= MANY_RUNS
        {
            return Ok(Way::States);
        }
        if let Some(workflow) = &filter.workflow {
            return Ok(Way::Key(Arc::clone(key), vec![Arc::clone(workflow)]));
        }
        let read = |row: &Row<'_>| Columns::of(row).text();
        let mut workflows: Vec<Arc<str>> = Vec::new();
        let mut found = self.session.one(queries::FIRST_WITH_KEY, params![project, key], read)?;
        while let Some(workflow) = found {
            found = self.session.one(queries::NEXT_WITH_KEY, params![project, key, workflow], read)?;
            workflows.push(workflow);
        }
        Ok(Way::Key(Arc::clone(key), workflows))
    }

    pub(super) fn runs_by_no(&mut self, numbers: Vec<i64>) -> Result<Vec<Run>> {
        let mut runs = Vec::with_capacity(numbers.len());
        for no in numbers {
            runs.extend(self.session.one(queries::RUN_BY_NO, [no], |row| Columns::of(row).run())?);
        }
        Ok(runs)
    }

    /// Where runs in these states are, none of which is that of the many: succeeded.
    fn parts(&mut self, project: &str, filter: &RunFilter) -> Result<Vec<Part>> {
        let mut parts = Vec::new();
        for state in filter.states.iter().copied().collect::<BTreeSet<_>>() {
            if state == RunState::Running {
                parts.extend(self.workers()?.into_iter().map(Part::HeldBy));
            } else if let Some(workflow) = &filter.workflow {
                parts.push(Part::InState(state, Arc::clone(workflow)));
            } else {
                let workflows = self.workflows_in_state(project, state)?;
                parts.extend(workflows.into_iter().map(|workflow| Part::InState(state, workflow)));
            }
        }
        Ok(parts)
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

    /// Skips from one workflow to the next, whatever number of rows each has.
    fn skip_through(
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

    pub fn waiting_parents(&mut self, project: &str, page: &Page) -> Result<Vec<WaitingParent>> {
        let after = page.after.as_deref().unwrap_or("");
        let params = params![project, after, limit_to_sql(page.limit)];
        self.session.all(queries::WAITING_PARENTS, params, |row| {
            let mut columns = Columns::of(row);
            Ok(WaitingParent { run: columns.run_id()?, is_stuck: columns.flag()? })
        })
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

/// States in one text. No state's word is part of another's.
fn spell(states: &[RunState]) -> String {
    states.iter().map(|state| state_word(*state)).collect::<Vec<_>>().join(" ")
}

/// Workers of the project, with the runs that they hold.
pub(super) fn read_peers(session: &mut Session<'_>, project: &str) -> Result<Vec<Peer>> {
    let mut peers = session.all(queries::PEERS, [project], |row| {
        let mut columns = Columns::of(row);
        Ok(Peer {
            id: WorkerId::from(&*columns.text()?),
            app: columns.text()?,
            host: columns.text()?,
            pid: columns.int()?,
            process_mark: columns.text()?,
            about: columns.text()?,
            heartbeat: columns.int()?,
            entered_at: columns.time()?,
            beat_at: columns.time()?,
            declares: columns.optional_text()?,
            held_count: columns.count()?,
            workflows: Vec::new(),
        })
    })?;
    for peer in &mut peers {
        peer.workflows = session.all(queries::WORKER_WORKFLOWS, [&peer.id], |row| Columns::of(row).text())?;
    }
    Ok(peers)
}
