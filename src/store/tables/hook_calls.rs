//! Hook calls: which are recorded, and when one is handed to a worker.

use super::rows::Tables;
use crate::calendar::Timestamp;
use crate::model::{
    CallKind, HookCall, HookEvent, LedgerLine, Run, RunId, RunState, ScheduleId, WaitingCalls, WorkerId,
};
use crate::store::{Answer, Rejection};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What to do with a hook call that is due.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in crate::store) enum Standing {
    /// Call the hook.
    Call,
    /// Look again later: the run is claimed, and its worker may have died before it started it.
    Recheck,
    /// Forget it: the run started in time, or will never start.
    Drop,
}

/// What to do with a due call, asked by `worker`, given the run that it is about.
///
/// A claim counts as the start of its run if its worker is the one that asks, if the claim is still
/// there when the call is looked at again (others would have taken it from a dead worker by then),
/// or if the worker gave the run back after its time had come. A run whose worker died before it
/// recorded a step counts as not started: nothing shows that its handler was entered.
pub(in crate::store) fn standing(call: &HookCall, run: Option<&Run>, worker: &WorkerId) -> Standing {
    if matches!(call.event, Some(HookEvent::Skipped | HookEvent::Missed)) || call.is_late {
        return Standing::Call;
    }
    let Some(run) = run else { return Standing::Drop };
    if matches!(call.event, Some(HookEvent::Succeeded | HookEvent::Failed)) {
        return Standing::Call;
    }
    let Some(started_at) = run.started_at else {
        return if run.state.is_finished() { Standing::Drop } else { Standing::Call };
    };
    if started_at >= call.due_at {
        return Standing::Call;
    }
    match run.state {
        RunState::Queued if run.attempt == 1 && (run.interruptions > 0 || started_at >= run.available_at) => {
            Standing::Call
        }
        RunState::Running
            if run.attempt == 1
                && run.worker.as_ref() != Some(worker)
                && call.seen_token != Some(run.token) =>
        {
            Standing::Recheck
        }
        _ => Standing::Drop,
    }
}

impl Tables {
    /// Records the call about slots that were skipped or missed, if a worker wants it.
    pub(super) fn note_slots(&mut self, schedule: &ScheduleId, line: &LedgerLine, now: Timestamp) {
        if HookEvent::of_line(line).is_none() {
            return;
        }
        let Some(row) = self.schedules.get(schedule) else { return };
        let (project, workflow) = (&row.schedule.project, &row.schedule.workflow);
        if let Some(event) = self.rules_of(project, workflow).hooks.event_of(line) {
            let names = (project, workflow, &row.schedule.key);
            let call = HookCall::of_slots(event, names, schedule, line, now);
            self.add_hook_call(call);
        }
    }

    /// Records a call, unless it is recorded.
    pub(super) fn add_hook_call(&mut self, call: HookCall) {
        if !self.hook_calls.contains_key(&call.id) {
            self.touch(|touched| _ = touched.hook_calls.insert(Arc::clone(&call.id)));
            self.hook_calls.insert(Arc::clone(&call.id), call);
        }
    }

    /// Records that the run is late if it was to have started by now: its worker died, and nothing
    /// shows that its handler was entered.
    pub(super) fn note_interrupted_late(&mut self, run: &RunId, now: Timestamp) {
        let id = HookCall::late_id(run);
        if let Some(call) = self.hook_calls.get_mut(&id).filter(|call| call.due_at <= now) {
            call.is_late = true;
        }
        self.touch(|touched| touched.interrupted.push((id, now)));
    }

    /// Calls that no registered worker is about to make, of these kinds: the earliest.
    pub fn open_hook_calls(&self, project: &str, kinds: &[CallKind], limit: usize) -> Vec<HookCall> {
        let kinds: BTreeSet<(HookEvent, &str)> =
            kinds.iter().map(|kind| (kind.event, &*kind.workflow)).collect();
        let is_open = |call: &&HookCall| {
            &*call.project == project
                && call.event.is_some_and(|event| kinds.contains(&(event, &*call.workflow)))
                && call.worker.as_ref().is_none_or(|worker| !self.workers.contains_key(worker))
        };
        let mut open: Vec<&HookCall> = self.hook_calls.values().filter(is_open).collect();
        open.sort_by(|a, b| (a.check_at, &a.id).cmp(&(b.check_at, &b.id)));
        open.into_iter().take(limit).cloned().collect()
    }

    /// Due calls that no registered worker is about to make.
    pub fn waiting_hook_calls(&self, project: &str, now: Timestamp) -> Vec<WaitingCalls> {
        let mut waiting: BTreeMap<Arc<str>, (u64, Timestamp)> = BTreeMap::new();
        for call in self.hook_calls.values() {
            let is_held = call.worker.as_ref().is_some_and(|worker| self.workers.contains_key(worker));
            if &*call.project == project && !is_held && call.check_at <= now {
                let entry = waiting.entry(Arc::clone(&call.workflow)).or_insert((0, call.due_at));
                *entry = (entry.0 + 1, entry.1.min(call.due_at));
            }
        }
        let waiting = waiting.into_iter();
        waiting.map(|(workflow, (count, since))| WaitingCalls { workflow, count, since }).collect()
    }

    /// Forgets the call about a skip that was undone, unless a worker is making it.
    pub(super) fn forget_skipped(&mut self, schedule: &ScheduleId, slot: Timestamp) {
        let id = HookCall::skipped_id(schedule, slot);
        let holder = self.hook_calls.get(&id).and_then(|call| call.worker.as_ref());
        if holder.is_none_or(|worker| !self.workers.contains_key(worker)) {
            self.hook_calls.remove(&id);
        }
    }

    pub(super) fn take_hook_calls(
        &mut self,
        worker: &WorkerId,
        calls: &[Arc<str>],
        recheck_at: Timestamp,
        now: Timestamp,
    ) -> Result<Answer, Rejection> {
        if !self.workers.contains_key(worker) {
            return Err(Rejection::WorkerGone);
        }
        let mut taken = Vec::new();
        for id in calls {
            let Some(mut call) = self.hook_calls.get(id).cloned() else { continue };
            if call.worker.as_ref() == Some(worker) {
                taken.push(call);
                continue;
            }
            let is_held = call.worker.as_ref().is_some_and(|other| self.workers.contains_key(other));
            if is_held || call.check_at > now {
                continue;
            }
            let run = HookCall::run_of(id).and_then(|run| self.runs.get(&RunId::from(run)));
            let run = run.map(|row| &row.run);
            match standing(&call, run, worker) {
                Standing::Call => {
                    call.worker = Some(worker.clone());
                    // Whatever becomes of the run, if this worker dies.
                    call.is_late = call.event == Some(HookEvent::Late);
                    taken.push(call.clone());
                    self.hook_calls.insert(Arc::clone(id), call);
                }
                Standing::Recheck => {
                    call.seen_token = run.map(|run| run.token);
                    call.check_at = recheck_at;
                    self.hook_calls.insert(Arc::clone(id), call);
                }
                Standing::Drop => _ = self.hook_calls.remove(id),
            }
            self.touch(|touched| _ = touched.hook_calls.insert(Arc::clone(id)));
        }
        Ok(Answer::HookCalls(taken))
    }

    pub(super) fn end_hook_calls(&mut self, worker: &WorkerId, calls: &[Arc<str>]) -> Answer {
        for id in calls {
            if self.hook_calls.get(id).is_some_and(|call| call.worker.as_ref() == Some(worker)) {
                self.hook_calls.remove(id);
                self.touch(|touched| _ = touched.hook_calls.insert(Arc::clone(id)));
            }
        }
        Answer::Done
    }
}
