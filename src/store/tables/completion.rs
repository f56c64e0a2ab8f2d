//! Commands that complete, cancel, and retry runs, and what that releases.

use super::rows::{EndedClaim, RunRow, Tables};
use crate::calendar::Timestamp;
use crate::model::{Completion, HookCall, Run, RunId, RunState, ScheduleId, StepState, Token, backfill};
use crate::store::tables::transitions::{self, BEHIND, Claim, LIVE};
use crate::store::{Answer, Rejection};
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

impl Tables {
    pub(super) fn complete_run(
        &mut self,
        id: &RunId,
        token: Token,
        ending: &Completion,
        tells: bool,
        now: Timestamp,
    ) -> Result<Answer, Rejection> {
        let print = transitions::completion_print(ending);
        let Some(row) = self.claimed_row(id, token) else {
            let ended = self.runs.get(id).and_then(|row| row.ended.as_ref());
            let again = ended.filter(|ended| ended.token == token && ended.print == print);
            return again.map(|ended| ended.answer.clone()).ok_or(Rejection::Fenced);
        };
        if let Completion::Skipped { reason } = ending
            && !self.steps.contains_key(id)
            && let (Some(schedule), Some(slot)) = (row.run.schedule_id.clone(), row.run.slot)
        {
            let run = row.run.clone();
            self.delete_run(id);
            if let Some(mut stored) = self.schedules.get(&schedule).cloned() {
                transitions::undo_run(&mut stored.schedule, &run, slot);
                self.store_schedule(stored);
            }
            let line = transitions::skipped_line(slot, reason);
            self.add_ledger(&run.project, &schedule, &line);
            self.note_slots(&schedule, &line, now);
            let released =
                self.release_after(&schedule, run.idempotency_key.as_deref(), now) || run.limit.is_some();
            return Ok(Answer::Ended { state: RunState::Cancelled, released });
        }
        let claim = claim_of(&row.run, row.child_ended);
        let schedule = row.run.schedule_id.clone();
        let state = self.end_claim(id, &transitions::end(&claim, ending, now), now);
        if state == RunState::Waiting
            && let Some((refused_by, note)) = transitions::hold(self.runs[id].run.refused_by.as_ref(), ending)
        {
            self.edit_run(id, |row| {
                row.run.refused_by = Some(refused_by);
                row.run.note = Some(note);
            });
        }
        if tells && let Some(call) = HookCall::outcome(&self.runs[id].run, now) {
            self.add_hook_call(call);
        }
        if let Some(schedule) = &schedule {
            self.count_failures(schedule, state, now);
        }
        // A permit of its limit is free, whatever else is.
        let released = self.after_finish(id, true, now) || self.runs[id].run.limit.is_some();
        let answer = Answer::Ended { state, released };
        let ended = EndedClaim { token, print, answer: answer.clone() };
        self.edit_run(id, |row| row.ended = Some(ended));
        Ok(answer)
    }

    /// Writes the result of a completion into its run.
    fn end_claim(&mut self, id: &RunId, ended: &transitions::Ended, now: Timestamp) -> RunState {
        self.edit_run(id, |row| {
            let run = &mut row.run;
            run.state = ended.state;
            if run.attempt != ended.attempt {
                forget_interruptions(row);
            }
            let run = &mut row.run;
            run.attempt = ended.attempt;
            run.available_at = ended.available_at;
            run.result.clone_from(&ended.result);
            if !ended.keeps_error {
                run.error.clone_from(&ended.error);
            }
            if run.state.is_finished() {
                run.finished_at = Some(now);
            }
            run.state
        })
    }

    fn count_failures(&mut self, id: &ScheduleId, state: RunState, now: Timestamp) {
        let Some(row) = self.schedules.get(id) else { return };
        let mut row = row.clone();
        let schedule = &mut row.schedule;
        match state {
            RunState::Succeeded if schedule.failure_count > 0 => schedule.failure_count = 0,
            RunState::Failed => {
                schedule.failure_count = schedule.failure_count.saturating_add(1);
                let count = schedule.failure_count;
                if transitions::pauses_after(&schedule.spec, schedule.status, count) {
                    self.revoke_early_claims(schedule, now);
                    transitions::pause_itself(schedule, now);
                }
            }
            _ => return,
        }
        self.store_schedule(row);
    }

    /// Releases what a finished run blocked: the next run of its schedule, and its parent. Returns
    /// whether that made a run claimable. `was_live`: it was not buffered.
    fn after_finish(&mut self, id: &RunId, was_live: bool, now: Timestamp) -> bool {
        let run = &self.runs[id].run;
        if !run.state.is_finished() {
            return false;
        }
        let (schedule, parent) = (run.schedule_id.clone(), run.parent.clone());
        let key = run.idempotency_key.clone().filter(|_| was_live);
        let released = schedule.is_some_and(|schedule| self.release_after(&schedule, key.as_deref(), now));
        let woken = parent.is_some_and(|parent| self.wake(&parent, now));
        released || woken
    }

    /// Queues the next buffered run of the schedule, unless another run is still to finish.
    pub(super) fn release(&mut self, schedule: &ScheduleId, now: Timestamp) -> bool {
        self.release_after(schedule, None, now)
    }

    /// The same when the run with the idempotency key `ended` has finished.
    fn release_after(&mut self, schedule: &ScheduleId, ended: Option<&str>, now: Timestamp) -> bool {
        let Some(next) = self.unfinished_in_phase(schedule, BEHIND).next().cloned() else { return false };
        let takes_over = backfill::takes_over(self.runs[&next].run.idempotency_key.as_deref(), ended);
        if !takes_over && self.unfinished_in_phase(schedule, LIVE).next().is_some() {
            return false;
        }
        self.edit_run(&next, |row| {
            row.run.state = RunState::Queued;
            row.run.available_at = row.run.available_at.max(now);
        });
        true
    }

    fn wake(&mut self, parent: &RunId, now: Timestamp) -> bool {
        let Some(row) = self.runs.get(parent) else { return false };
        match row.run.state {
            RunState::Waiting => {
                self.edit_run(parent, |row| row.run.available_at = row.run.available_at.min(now));
                true
            }
            RunState::Running => {
                self.edit_run(parent, |row| row.child_ended = true);
                false
            }
            _ => false,
        }
    }

    pub(super) fn wake_parents(&mut self, project: &str, runs: &[RunId], now: Timestamp) -> Answer {
        let mut woken = 0;
        for id in runs {
            let waits = self.run(project, id).is_some_and(|row| transitions::waits_for_child(&row.run));
            if waits && self.wake(id, now) {
                woken += 1;
            }
        }
        Answer::Count(woken)
    }

    pub(super) fn uncount_interruptions(&mut self, claims: &[(RunId, Token)]) -> Answer {
        for (id, token) in claims {
            if self.runs.get(id).is_some_and(|row| row.interrupted_token == Some(*token)) {
                self.edit_run(id, |row| {
                    row.run.interruptions = row.run.interruptions.saturating_sub(1);
                    row.run.interrupted_alone = false;
                    row.interrupted_token = None;
                });
            }
        }
        Answer::Done
    }

    /// Counts an interruption of a running run whose worker has died.
    pub(super) fn count_interruption(&mut self, id: &RunId, was_alone: bool, now: Timestamp) {
        let is_interrupted = self.edit_run(id, |row| {
            let is_interrupted = transitions::count_interruption(&mut row.run, was_alone, now);
            if is_interrupted {
                row.interrupted_token = Some(row.run.token);
            }
            is_interrupted && row.run.slot.is_some()
        });
        if is_interrupted {
            self.note_interrupted_late(id, now);
        }
    }

    /// Takes a run from its worker.
    pub(super) fn free_run(&mut self, id: &RunId, now: Timestamp) {
        let row = &self.runs[id];
        let claim = claim_of(&row.run, row.child_ended);
        self.end_claim(id, &transitions::end(&claim, &Completion::Released, now), now);
        self.after_finish(id, true, now);
    }

    /// Cancels an unfinished run. The caller releases what it blocked.
    pub(super) fn cancel_now(&mut self, id: &RunId, now: Timestamp) {
        self.edit_run(id, |row| {
            row.run.state = RunState::Cancelled;
            row.run.finished_at = Some(now);
        });
    }

    pub(super) fn cancel_unfinished(&mut self, schedule: &ScheduleId, now: Timestamp) {
        let unfinished: Vec<RunId> = [BEHIND, LIVE]
            .into_iter()
            .flat_map(|phase| self.unfinished_in_phase(schedule, phase))
            .cloned()
            .collect();
        for run in unfinished {
            self.cancel_tree(&run, now);
        }
    }

    /// Cancels a run and the unfinished children below it, parents first.
    fn cancel_tree(&mut self, root: &RunId, now: Timestamp) {
        let mut seen = BTreeSet::from([root.clone()]);
        let mut queue = VecDeque::from([root.clone()]);
        while let Some(id) = queue.pop_front() {
            let state = self.runs[&id].run.state;
            match state {
                RunState::Succeeded | RunState::Failed | RunState::Cancelled => continue,
                RunState::Running => self.edit_run(&id, |row| row.run.cancel_requested = true),
                RunState::Buffered | RunState::Queued | RunState::Waiting => {
                    self.cancel_now(&id, now);
                    self.after_finish(&id, state != RunState::Buffered, now);
                }
            }
            let children = self.children.get(&id).into_iter().flatten();
            queue.extend(children.filter(|child| seen.insert((*child).clone())).cloned());
        }
    }

    pub(super) fn cancel_run(
        &mut self,
        project: &str,
        id: &RunId,
        now: Timestamp,
    ) -> Result<Answer, Rejection> {
        self.run(project, id).ok_or_else(|| Rejection::RunNotFound(id.clone()))?;
        self.cancel_tree(id, now);
        Ok(Answer::State(self.runs[id].run.state))
    }

    pub(super) fn retry_run(
        &mut self,
        project: &str,
        id: &RunId,
        now: Timestamp,
    ) -> Result<Answer, Rejection> {
        let run = &self.run(project, id).ok_or_else(|| Rejection::RunNotFound(id.clone()))?.run;
        if !matches!(run.state, RunState::Failed | RunState::Cancelled) {
            return Err(Rejection::RunNotFinished(id.clone(), run.state));
        }
        let schedule = run.schedule_id.clone();
        let live = schedule.iter().flat_map(|schedule| self.unfinished_in_phase(schedule, LIVE));
        let live = live.map(|id| self.runs[id].run.idempotency_key.as_deref());
        let must_wait = backfill::must_wait(run.idempotency_key.as_deref(), live);
        let state = if must_wait { RunState::Buffered } else { RunState::Queued };
        self.edit_run(id, |row| {
            let run = &mut row.run;
            run.state = state;
            run.available_at = now;
            run.attempt += 1;
            run.finished_at = None;
            run.cancel_requested = false;
            run.note = None;
            run.progress = None;
            run.refused_by = None;
            forget_interruptions(row);
        });
        self.touch(|touched| _ = touched.retried.insert(id.clone()));
        if let Some(steps) = self.steps.get_mut(id) {
            steps.records.retain(|step| step.state != StepState::Failed);
            let places = steps.records.iter().enumerate();
            steps.by_name = places.map(|(place, step)| (Arc::clone(&step.name), place)).collect();
        }
        if let Some(schedule) = schedule {
            self.bump_revision(&schedule);
        }
        Ok(Answer::State(state))
    }
}

pub(super) fn forget_interruptions(row: &mut RunRow) {
    row.run.interruptions = 0;
    row.run.interrupted_alone = false;
    row.interrupted_token = None;
}

fn claim_of(run: &Run, child_ended: bool) -> Claim {
    Claim {
        attempt: run.attempt,
        available_at: run.available_at,
        cancel_requested: run.cancel_requested,
        child_ended,
    }
}
