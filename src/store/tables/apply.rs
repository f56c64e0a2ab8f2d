//! Applies commands: the dispatch of all commands, and those that create runs and record what they
//! do.

use super::completion::forget_interruptions;
use super::rows::{Steps, Tables};
use crate::calendar::Timestamp;
use crate::model::{
    Admission, ClaimedRun, Debounce, FirePlan, HookCall, Json, NewRun, Run, RunId, RunState, ScheduleId,
    StepRecord, StepState, Token, WorkerId,
};
use crate::store::tables::transitions::{self, LIVE};
use crate::store::{Answer, Command, Rejection};
use std::sync::Arc;

impl Tables {
    /// Applies one command. A rejected command changes nothing.
    pub(in crate::store) fn apply(&mut self, command: &Command, now: Timestamp) -> Result<Answer, Rejection> {
        match command {
            Command::RegisterWorker(entry) => self.register_worker(entry, now),
            Command::Reconcile { entry, silent } => self.reconcile(entry, silent, now),
            Command::Heartbeat { worker } => self.bump_heartbeat(worker, now),
            Command::DeregisterWorker { worker } => Ok(self.deregister_worker(worker, now)),
            Command::ExpireWorker { worker, heartbeat, shares_process } => {
                self.expire_worker(worker, *heartbeat, *shares_process, now)
            }
            Command::UncountInterruptions { claims } => Ok(self.uncount_interruptions(claims)),
            Command::UpsertSchedules(new) => self.upsert_schedules(new, now),
            Command::PatchSchedule { project, id, revision, patch } => {
                self.patch_schedule(project, id, *revision, patch, now)
            }
            Command::DeleteSchedule { project, id } => self.delete_schedule(project, id, now),
            Command::Fire { worker, plan } => self.fire(worker, plan, now),
            Command::ClaimRuns { project, worker, workflows, limit, until, suspects, codes } => {
                let mut rooms = self.rooms(project, workflows, now);
                let mut available =
                    self.available(project, workflows, *limit, (*until, *suspects), &mut rooms);
                let room = limit - available.len();
                let most = (room, *until);
                available.extend(self.held_for(project, codes.as_deref(), most, (&mut rooms, now)));
                self.claim_runs(project, worker, available, &rooms, now)
            }
            Command::SetLimit { project, name, values } => {
                self.set_limit(project, name, values.as_ref(), now)
            }
            Command::DeleteLimit { project, name } => self.delete_limit(project, name),
            Command::SetCalendar { project, name, dates } => {
                self.set_calendar(project, name, dates.as_ref(), now)
            }
            Command::CreateRun(new) => self.create_new_run(new, now),
            Command::DebounceRun { new, debounce } => Ok(self.debounce_run(new, debounce, now)),
            Command::RecordStep { run, token, step } => self.record_step(run, *token, step),
            Command::ReportProgress { run, token, progress } => self.report_progress(run, *token, progress),
            Command::AwaitEvent { run, token, step } => self.await_event(run, *token, step, now),
            Command::SendEvent(new) => self.send_event(new, now),
            Command::CompleteRun { run, token, ending, tells, .. } => {
                self.complete_run(run, *token, ending, *tells, now)
            }
            Command::CancelRun { project, run } => self.cancel_run(project, run, now),
            Command::RetryRun { project, run } => self.retry_run(project, run, now),
            Command::WakeParents { project, runs } => Ok(self.wake_parents(project, runs, now)),
            Command::TakeHookCalls { worker, calls, recheck_at } => {
                self.take_hook_calls(worker, calls, *recheck_at, now)
            }
            Command::EndHookCalls { worker, calls } => Ok(self.end_hook_calls(worker, calls)),
            Command::Prune { project, before, keep, limit } => {
                Ok(self.prune(project, *before, *keep, *limit))
            }
        }
    }

    pub(super) fn fire(
        &mut self,
        worker: &WorkerId,
        plan: &FirePlan,
        now: Timestamp,
    ) -> Result<Answer, Rejection> {
        let schedule = self.decided(&plan.schedule, plan.revision)?.clone();
        let claims = plan.runs.iter().any(|run| run.admission == Admission::Claim);
        if claims && !self.workers.contains_key(worker) {
            return Err(Rejection::WorkerGone);
        }
        if plan.cancel_unfinished {
            self.cancel_unfinished(&plan.schedule, now);
        }

        let mut created = 0;
        let mut last_slot = schedule.last_slot;
        let mut claimed = Vec::new();
        let facts = transitions::ScheduleFacts {
            id: &plan.schedule,
            project: &schedule.project,
            workflow: &schedule.workflow,
            key: &schedule.key,
            input: schedule.input.as_ref(),
            spec: plan.spec.spec(),
            revision: plan.revision,
            rules: &self.rules_of(&schedule.project, &schedule.workflow),
        };
        for planned in &plan.runs {
            if self.runs.contains_key(&planned.id) {
                continue;
            }
            let mut run = transitions::planned_run(planned, &facts, now);
            match planned.admission {
                // Only a claim knows whether the limit has room.
                Admission::Claim if run.limit.is_some() => {}
                Admission::Claim => {
                    transitions::claim(&mut run, worker, now);
                    claimed.push(ClaimedRun { run: run.clone(), journal: Vec::new(), is_first: true });
                }
                Admission::Queue => {}
                Admission::Behind => run.state = self.state_behind(&plan.schedule),
            }
            if let Some(late_after_us) = facts.rules.hooks.late_after_us {
                self.add_hook_call(HookCall::late(&run, facts.id, planned.slot, late_after_us));
            }
            self.create_run(run);
            created += 1;
            last_slot = Some(planned.slot);
        }
        if !claimed.is_empty() {
            self.bump_heartbeat(worker, now)?;
        }

        let mut row = self.schedules[&plan.schedule].clone();
        row.schedule.next_slot = plan.next_slot;
        row.schedule.last_slot = last_slot;
        row.schedule.run_count += created;
        row.schedule.status = plan.status;
        if let Some(settled) = &plan.settled {
            row.schedule.settled.clone_from(settled);
        }
        row.schedule.revision += 1;
        self.store_schedule(row);
        for line in &plan.ledger {
            self.add_ledger(&schedule.project, &plan.schedule, line);
            self.note_slots(&plan.schedule, line, now);
        }
        Ok(Answer::Claimed(claimed))
    }

    /// The state of a new run that waits until the other runs of its schedule have finished.
    fn state_behind(&self, schedule: &ScheduleId) -> RunState {
        if self.unfinished_in_phase(schedule, LIVE).next().is_some() {
            RunState::Buffered
        } else {
            RunState::Queued
        }
    }

    fn create_new_run(&mut self, new: &NewRun, now: Timestamp) -> Result<Answer, Rejection> {
        if self.runs.contains_key(&new.id) {
            return Ok(Answer::Created { run: new.id.clone(), is_new: false, claimed: None });
        }
        if let Some(key) = &new.idempotency_key {
            let keys = self.by_idempotency_key.get(&new.project, &new.workflow);
            if let Some(run) = keys.and_then(|keys| keys.get(key)) {
                return Ok(Answer::Created { run: run.clone(), is_new: false, claimed: None });
            }
        }
        if let Some(id) = transitions::needs_schedule(new) {
            let row =
                self.schedule(&new.project, id).ok_or_else(|| Rejection::ScheduleNotFound(id.clone()))?;
            if new.revision.is_some_and(|revision| revision != row.schedule.revision) {
                return Err(Rejection::Stale);
            }
            if new.revokes_claims {
                let mut row = row.clone();
                self.revoke_early_claims(&mut row.schedule, now);
                self.store_schedule(row);
                if new.behind {
                    self.release(id, now);
                }
            }
        }
        let rules = self.rules_of(&new.project, &new.workflow);
        let mut run = transitions::new_run(new, &rules, now);
        if let Some(id) = &new.schedule_id {
            if new.behind {
                run.state = self.state_behind(id);
            }
            if let Some(row) = self.schedules.get(id) {
                run.token = transitions::first_token(new.origin, row.schedule.revision);
            }
            self.bump_revision(id);
        }
        let worker = new.claim_for.as_ref().filter(|id| self.workers.contains_key(id));
        let claimed = match worker.filter(|_| transitions::is_claimable(&run, now)) {
            Some(worker) => {
                transitions::claim(&mut run, worker, now);
                self.bump_heartbeat(worker, now)?;
                Some(Box::new(run.clone()))
            }
            None => None,
        };
        self.create_run(run);
        Ok(Answer::Created { run: new.id.clone(), is_new: true, claimed })
    }

    fn debounce_run(&mut self, new: &NewRun, debounce: &Debounce, now: Timestamp) -> Answer {
        let waiting = self.debounced.get(&new.project, &new.workflow);
        let run = if self.runs.contains_key(&new.id) {
            new.id.clone()
        } else if let Some(run) = self.by_debounce_call.get(&new.id) {
            run.clone()
        } else if let Some(run) = waiting.and_then(|keys| keys.get(&debounce.key)).cloned() {
            let priority = new.priority_under(&self.rules_of(&new.project, &new.workflow));
            self.edit_run(&run, |row| {
                let debounced = row.debounced.as_mut().expect("only debounced runs are in the index");
                row.run.payload.clone_from(&new.payload);
                row.run.priority = priority;
                row.run.available_at = debounce.start(debounced.until, now);
                debounced.call = new.id.clone();
            });
            self.touch(|touched| _ = touched.replaced.insert(run.clone()));
            run
        } else {
            let (debounced, start) = debounce.first(new, now);
            let rules = self.rules_of(&new.project, &new.workflow);
            let run = Run { available_at: start, ..transitions::new_run(new, &rules, now) };
            self.create_debounced_run(run, debounced);
            return Answer::Created { run: new.id.clone(), is_new: true, claimed: None };
        };
        Answer::Created { run, is_new: false, claimed: None }
    }

    /// Makes decisions stale that did not count a new unfinished run.
    pub(super) fn bump_revision(&mut self, schedule: &ScheduleId) {
        if let Some(row) = self.schedules.get_mut(schedule) {
            row.schedule.revision += 1;
            self.touch(|touched| _ = touched.schedules.insert(schedule.clone()));
        }
    }

    fn record_step(&mut self, run: &RunId, token: Token, step: &StepRecord) -> Result<Answer, Rejection> {
        self.claimed_row(run, token).ok_or(Rejection::Fenced)?;
        if self.store_step(run, step.clone()) {
            self.note_progress(run);
        }
        Ok(Answer::Done)
    }

    /// Records a step, unless it is done. Whether it did.
    pub(super) fn store_step(&mut self, run: &RunId, step: StepRecord) -> bool {
        let name = Arc::clone(&step.name);
        let steps: &mut Steps = self.steps.entry(run.clone()).or_default();
        match steps.by_name.get(&step.name) {
            Some(place) if steps.records[*place].state == StepState::Done => return false,
            Some(place) => {
                let started_at = steps.records[*place].started_at;
                steps.records[*place] = StepRecord { started_at, ..step };
            }
            None => {
                steps.by_name.insert(Arc::clone(&step.name), steps.records.len());
                steps.records.push(step);
            }
        }
        self.touch(|touched| touched.steps.push((run.clone(), name)));
        true
    }

    /// The run has recorded a step: its interruptions are not in a row.
    pub(super) fn note_progress(&mut self, run: &RunId) {
        if self.runs[run].run.interruptions > 0 {
            self.edit_run(run, forget_interruptions);
        }
    }

    fn report_progress(&mut self, run: &RunId, token: Token, progress: &Json) -> Result<Answer, Rejection> {
        let row = self.claimed_row(run, token).ok_or(Rejection::Fenced)?;
        if row.run.progress.as_ref() != Some(progress) {
            self.edit_run(run, |row| row.run.progress = Some(progress.clone()));
        }
        Ok(Answer::Done)
    }
}
