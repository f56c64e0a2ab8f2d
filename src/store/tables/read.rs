//! Queries.

use super::rows::{Pairs, RunRow, Tables};
use crate::calendar::Timestamp;
use crate::model::text::run_reason;
use crate::model::{
    EntryRefusal, LedgerEntry, Peer, Run, RunId, RunState, Schedule, ScheduleId, ScheduleStatus, SlotOutcome,
    StepRecord, Token, WorkerId, WorkflowEntry,
};
use crate::store::pagination::cut_page;
use crate::store::query::COUNTED_MAX;
use crate::store::tables::transitions::{BEHIND, LIVE, waits_for_child};
use crate::store::{
    DueSchedule, KeyedRun, NextWork, Page, ProjectStats, RunFilter, ScheduleFilter, WaitingParent,
};
use std::collections::BTreeSet;
use std::ops::Bound;
use std::sync::Arc;

impl Tables {
    pub fn due(
        &self,
        project: &str,
        workflows: &[Arc<str>],
        until: Timestamp,
        limit: usize,
    ) -> Vec<DueSchedule> {
        let workflows: BTreeSet<&Arc<str>> = workflows.iter().collect();
        let mut due: Vec<_> = workflows
            .into_iter()
            .filter_map(|workflow| self.due.get(project, workflow))
            .flat_map(|set| set.iter().take_while(|(slot, _)| *slot <= until).take(limit))
            .collect();
        due.sort_unstable();
        due.truncate(limit);
        due.into_iter()
            .map(|(_, id)| DueSchedule {
                schedule: self.schedules[id].schedule.clone(),
                unfinished_count: self.counted(id, LIVE) + self.counted(id, BEHIND),
                buffered_count: self.counted(id, BEHIND),
            })
            .collect()
    }

    /// Number of unfinished runs that the schedule has in this phase, counted up to a limit.
    fn counted(&self, schedule: &ScheduleId, phase: i64) -> u32 {
        count(self.unfinished_in_phase(schedule, phase).take(COUNTED_MAX as usize).count())
    }

    pub fn due_count(&self, project: &str, workflows: &[Arc<str>], until: Timestamp, limit: usize) -> usize {
        let workflows: BTreeSet<&Arc<str>> = workflows.iter().collect();
        workflows
            .into_iter()
            .filter_map(|workflow| self.due.get(project, workflow))
            .flat_map(|set| set.iter().take_while(|(slot, _)| *slot <= until))
            .take(limit)
            .count()
    }

    /// Unfinished runs of the schedule in this phase, by slot and creation.
    pub fn unfinished_in_phase(&self, schedule: &ScheduleId, phase: i64) -> impl Iterator<Item = &RunId> {
        let from = ((phase, None), 0);
        let until = ((phase + 1, None), 0);
        self.unfinished
            .get(schedule)
            .into_iter()
            .flat_map(move |runs| runs.range(from..until))
            .map(|(_, id)| id)
    }

    pub fn next_work(&self, project: &str, workflows: &[Arc<str>], now: Timestamp) -> NextWork {
        let slots = workflows.iter().filter_map(|workflow| Some(self.due.get(project, workflow)?.first()?.0));
        let rooms = self.rooms(project, workflows, now);
        let first = |runs: &Pairs<BTreeSet<(Timestamp, Option<Timestamp>, RunId)>>| {
            let of = |workflow: &Arc<str>| {
                let mut runs = runs.get(project, workflow)?.iter();
                let Some(room) = rooms.of(workflow) else { return Some(runs.next()?.0) };
                let opens_at = room.opens_at()?;
                let found = runs.find(|(.., id)| room.has_slot_for(&self.runs[id].run.key))?;
                Some(found.0.max(opens_at))
            };
            workflows.iter().filter_map(of).min()
        };
        let has_held = self.held_for_code.contains_key(project);
        NextWork { slot: slots.min(), run: first(&self.claimable), suspect: first(&self.suspects), has_held }
    }

    pub fn cancel_requests(&self, worker: &WorkerId) -> Vec<RunId> {
        self.asked_to_stop.get(worker).into_iter().flatten().cloned().collect()
    }

    pub fn may_enter(&self, id: &RunId, token: Token) -> Result<(), EntryRefusal> {
        let run = &self.claimed_row(id, token).ok_or(EntryRefusal::ClaimLost)?.run;
        let has_schedule = run.schedule_id.as_ref().is_some_and(|id| self.schedules.contains_key(id));
        if !has_schedule && self.may_be_unentered(run) {
            return Err(EntryRefusal::ScheduleDeleted);
        }
        Ok(())
    }

    /// Whether the run belongs to a slot, and nothing shows that its handler was entered.
    pub fn may_be_unentered(&self, run: &Run) -> bool {
        run.may_be_unentered(self.steps.contains_key(&run.id))
    }

    pub fn peers(&self, project: &str) -> Vec<Peer> {
        let rows = self.workers.values().filter(|row| &*row.project == project);
        rows.map(|row| {
            let held_count = self.held.get(&row.peer.id).map_or(0, |runs| runs.len() as u64);
            Peer { held_count, ..row.peer.clone() }
        })
        .collect()
    }

    pub fn workflows(&self, project: &str) -> Vec<WorkflowEntry> {
        self.workflows
            .of(project)
            .map(|(id, row)| WorkflowEntry { id: Arc::clone(id), schedulable: row.schedulable })
            .collect()
    }

    pub fn list_schedules(&self, project: &str, filter: &ScheduleFilter, page: &Page) -> Vec<Schedule> {
        if let Some(prefix) = &filter.key_prefix {
            return self.list_schedules_by_prefix(project, filter, prefix, page);
        }
        let after = page.after.as_deref().map(ScheduleId::from);
        let from = after.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        let Some(ids) = self.schedules_of.get(project) else { return Vec::new() };
        ids.range::<ScheduleId, _>((from, Bound::Unbounded))
            .map(|id| &self.schedules[id].schedule)
            .filter(|schedule| is_wanted(schedule, filter))
            .take(page.limit)
            .cloned()
            .collect()
    }

    fn list_schedules_by_prefix(
        &self,
        project: &str,
        filter: &ScheduleFilter,
        prefix: &str,
        page: &Page,
    ) -> Vec<Schedule> {
        let after = page.after.as_deref().and_then(ScheduleFilter::parse_cursor);
        let place = |schedule: &Schedule| (Arc::clone(&schedule.key), Arc::clone(&schedule.workflow));
        let mut found: Vec<&Schedule> = self
            .schedules_of
            .get(project)
            .into_iter()
            .flatten()
            .map(|id| &self.schedules[id].schedule)
            .filter(|schedule| schedule.key.starts_with(prefix) && is_wanted(schedule, filter))
            .filter(|schedule| after.is_none_or(|after| (&*schedule.key, &*schedule.workflow) > after))
            .collect();
        found.sort_by_key(|schedule| place(schedule));
        found.into_iter().take(page.limit).cloned().collect()
    }

    pub fn coming(&self, project: &str, until: Timestamp, limit: usize) -> Vec<Schedule> {
        let workflows: Vec<Arc<str>> =
            self.due.of(project).map(|(workflow, _)| Arc::clone(workflow)).collect();
        let due = self.due(project, &workflows, until, limit);
        due.into_iter().map(|due| due.schedule).collect()
    }

    pub fn project_stats(&self, project: &str, due_before: Timestamp, count_to: usize) -> ProjectStats {
        let schedules = || {
            let ids = self.schedules_of.get(project).into_iter().flatten();
            ids.map(|id| &self.schedules[id].schedule)
        };
        let of_status = |status| {
            let is_counted = |schedule: &&Schedule| {
                schedule.status == status
                    && (status != ScheduleStatus::Active || schedule.next_slot.is_some())
            };
            schedules().filter(is_counted).take(count_to).count()
        };
        let runs = || {
            let ids = self.created.get(project).into_iter().flatten();
            ids.map(|(_, id)| &self.runs[id].run)
        };
        let in_state = |state| runs().filter(|run| run.state == state).take(count_to).count();
        let slots = || self.due.of(project).flat_map(|(_, set)| set).map(|(slot, _)| *slot);
        let overdue = || slots().filter(|slot| *slot < due_before);
        ProjectStats {
            schedules: ScheduleStatus::ALL.into_iter().map(|status| (status, of_status(status))).collect(),
            runs: RunState::UNFINISHED.into_iter().map(|state| (state, in_state(state))).collect(),
            overdue: overdue().take(count_to).count(),
            oldest_due: overdue().min(),
        }
    }

    pub fn history(&self, project: &str, id: &ScheduleId, page: &Page) -> Option<Vec<LedgerEntry>> {
        let before = page.after.as_deref().and_then(|text| text.parse().ok()).map(Timestamp::from_micros);
        let is_ours = |row: &&RunRow| {
            let run = &row.run;
            &*run.project == project && run.origin.is_slot() && run.slot.is_some()
        };
        let runs = || {
            let slots = self.by_slot.get(id).into_iter().flat_map(|slots| slots.values().rev());
            slots.map(|run| &self.runs[run]).filter(is_ours)
        };
        let lines = || {
            let lines = self.ledger.get(id).into_iter().flat_map(|lines| lines.values().rev());
            lines.filter(|(of, _)| &**of == project).map(|(_, line)| line)
        };
        let exists =
            self.schedule(project, id).is_some() || runs().next().is_some() || lines().next().is_some();
        if !exists {
            return None;
        }
        let runs = runs().map(|row| {
            let run = &row.run;
            let slot = run.slot.unwrap_or(run.created_at);
            LedgerEntry {
                from: slot,
                until: slot,
                count: 1,
                outcome: SlotOutcome::Ran,
                reason: run_reason(run.state, run.interruptions),
                run: Some(run.id.clone()),
                started_at: run.started_at,
                worker: run.worker.clone(),
            }
        });
        let lines = lines().map(|line| LedgerEntry {
            from: line.from,
            until: line.until,
            count: line.count,
            outcome: line.outcome,
            reason: Arc::clone(&line.reason),
            run: None,
            started_at: None,
            worker: None,
        });
        let mut entries: Vec<_> =
            runs.chain(lines).filter(|entry| before.is_none_or(|before| entry.from < before)).collect();
        entries.sort_by_key(|entry| std::cmp::Reverse(entry.from));
        cut_page(&mut entries, page.limit);
        Some(entries)
    }

    pub fn list_runs(&self, project: &str, filter: &RunFilter, page: &Page) -> Vec<Run> {
        let Some(created) = self.created.get(project) else { return Vec::new() };
        let until = match &page.after {
            None => Bound::Unbounded,
            Some(after) => match self.run(project, &RunId::from(after.as_str())) {
                Some(row) => Bound::Excluded((row.run.created_at, row.no)),
                None => return Vec::new(),
            },
        };
        created
            .range((Bound::Unbounded, until))
            .rev()
            .take_while(|((at, _), _)| filter.since.is_none_or(|since| *at >= since))
            .map(|(_, id)| &self.runs[id].run)
            .filter(|run| {
                filter.workflow.as_ref().is_none_or(|workflow| *workflow == run.workflow)
                    && filter.key.as_ref().is_none_or(|key| *key == run.key)
                    && filter.schedule.as_ref().is_none_or(|id| Some(id) == run.schedule_id.as_ref())
                    && (filter.states.is_empty() || filter.states.contains(&run.state))
                    && filter.wants_error_of(run)
            })
            .take(page.limit)
            .cloned()
            .collect()
    }

    pub fn runs_with_keys(
        &self,
        project: &str,
        workflow: &str,
        keys: (&str, &str),
        limit: usize,
    ) -> Vec<KeyedRun> {
        let Some(found) = self.by_idempotency_key.get(project, workflow) else { return Vec::new() };
        let range = (Bound::Excluded(Arc::from(keys.0)), Bound::Excluded(Arc::from(keys.1)));
        let runs = found.range::<Arc<str>, _>(range).take(limit);
        runs.map(|(key, run)| KeyedRun {
            key: Arc::clone(key),
            run: run.clone(),
            state: self.runs[run].run.state,
        })
        .collect()
    }

    pub fn waiting_parents(&self, project: &str, page: &Page) -> Vec<WaitingParent> {
        let after = page.after.as_deref().map(RunId::from);
        let from = after.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        self.runs
            .range::<RunId, _>((from, Bound::Unbounded))
            .map(|(_, row)| &row.run)
            .filter(|run| &*run.project == project && waits_for_child(run))
            .take(page.limit)
            .map(|run| {
                let mut children = self.children.get(&run.id).into_iter().flatten();
                let is_stuck = children.all(|child| self.runs[child].run.state.is_finished());
                WaitingParent { run: run.id.clone(), is_stuck }
            })
            .collect()
    }

    pub fn remarkable_runs(&self, project: &str, limit: usize) -> Vec<Run> {
        let created = self.created.get(project).into_iter().flatten().rev();
        created
            .map(|(_, id)| &self.runs[id].run)
            .filter(|run| !run.state.is_finished() && (run.interruptions > 0 || run.note.is_some()))
            .take(limit)
            .cloned()
            .collect()
    }

    pub fn steps_of(&self, id: &RunId) -> Vec<StepRecord> {
        self.steps.get(id).map_or_else(Vec::new, |steps| steps.records.clone())
    }

    pub fn previous_result(&self, schedule: &ScheduleId, before: &RunId) -> Option<Run> {
        let created_at = self.runs.get(before)?.run.created_at;
        self.by_slot
            .get(schedule)?
            .values()
            .rev()
            .map(|id| &self.runs[id].run)
            .find(|run| run.state == RunState::Succeeded && run.finished_at.is_some_and(|at| at < created_at))
            .cloned()
    }
}

fn is_wanted(schedule: &Schedule, filter: &ScheduleFilter) -> bool {
    filter.workflow.as_ref().is_none_or(|workflow| *workflow == schedule.workflow)
        && filter.key.as_ref().is_none_or(|key| *key == schedule.key)
        && filter.status.is_none_or(|status| status == schedule.status)
        && filter.owner.as_ref().is_none_or(|owner| Some(owner) == schedule.owner.as_ref())
        && filter.wants_tags_of(schedule)
}

fn count(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}
