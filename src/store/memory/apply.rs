//! Commands about runs, and the one place that tells commands apart.

use super::tables::{EndedClaim, RunRow, Steps, Tables};
use crate::calendar::Timestamp;
use crate::model::{
    Admission, ClaimedRun, Completion, FirePlan, NewRun, Run, RunId, RunState, ScheduleId, ScheduleStatus,
    StepRecord, StepState, Token, WorkerId,
};
use crate::store::transitions::{self, BEHIND, Claim, LIVE};
use crate::store::{Answer, Codes, Command, Rejection, Suspects};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

impl Tables {
    /// Applies one command, or leaves no trace of it.
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
                let mut available = self.available(project, workflows, *limit, *until, *suspects);
                let room = limit - available.len();
                available.extend(self.held_for(project, codes.as_deref(), room));
                self.claim_runs(worker, available, now)
            }
            Command::CreateRun(new) => self.create_new_run(new, now),
            Command::RecordStep { run, token, step } => self.record_step(run, *token, step),
            Command::CompleteRun { run, token, ending, pause_after_failures, .. } => {
                self.complete_run(run, *token, ending, *pause_after_failures, now)
            }
            Command::CancelRun { project, run } => self.cancel_run(project, run, now),
            Command::RetryRun { project, run } => self.retry_run(project, run, now),
            Command::WakeParents { project, runs } => Ok(self.wake_parents(project, runs, now)),
            Command::Prune { project, before, keep, limit } => {
                Ok(self.prune(project, *before, *keep, *limit))
            }
        }
    }

    fn fire(&mut self, worker: &WorkerId, plan: &FirePlan, now: Timestamp) -> Result<Answer, Rejection> {
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
            timezone: &transitions::zone_of(&schedule.spec),
            revision: plan.revision,
        };
        for planned in &plan.runs {
            if self.runs.contains_key(&planned.id) {
                continue;
            }
            let mut run = transitions::planned_run(planned, &facts, now);
            match planned.admission {
                Admission::Claim => {
                    transitions::claim(&mut run, worker, now);
                    claimed.push(ClaimedRun { run: run.clone(), journal: Vec::new() });
                }
                Admission::Queue => {}
                Admission::Behind => run.state = self.state_behind(&plan.schedule),
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
        row.schedule.revision += 1;
        self.store_schedule(row);
        for line in &plan.ledger {
            self.add_ledger(&schedule.project, &plan.schedule, line);
        }
        Ok(Answer::Claimed(claimed))
    }

    /// The state of a new run that is to wait for the others of its schedule.
    fn state_behind(&self, schedule: &ScheduleId) -> RunState {
        if self.unfinished_in_phase(schedule, LIVE).next().is_some() {
            RunState::Buffered
        } else {
            RunState::Queued
        }
    }

    /// The runs that a claim takes, in order.
    fn available(
        &self,
        project: &str,
        workflows: &[Arc<str>],
        limit: usize,
        until: Timestamp,
        suspects: Suspects,
    ) -> Vec<RunId> {
        let workflows: BTreeSet<&Arc<str>> = workflows.iter().collect();
        let first_suspect = workflows
            .iter()
            .filter_map(|workflow| self.suspects.get(project, workflow)?.first())
            .filter(|(at, ..)| *at <= until)
            .min();
        let mut available: Vec<_> = workflows
            .iter()
            .filter_map(|workflow| self.claimable.get(project, workflow))
            .flat_map(|set| set.iter().take_while(|(at, ..)| *at <= until).take(limit))
            .collect();
        available.sort_unstable();
        if let Some(suspect) = first_suspect {
            let is_first = available.first().is_none_or(|first| suspect < *first);
            match suspects {
                Suspects::Alone if is_first => available = vec![suspect],
                Suspects::Since(since) if suspect.0 <= since => {
                    available.push(suspect);
                    available.sort_unstable();
                }
                Suspects::Alone | Suspects::Since(_) | Suspects::Never => {}
            }
        }
        available.into_iter().take(limit).map(|(.., id)| id.clone()).collect()
    }

    /// Held runs that this code has not refused.
    fn held_for(&self, project: &str, codes: Option<&Codes>, limit: usize) -> Vec<RunId> {
        let Some(codes) = codes else { return Vec::new() };
        let held = self.held_for_code.get(project).into_iter().flatten();
        held.filter(|id| {
            let run = &self.runs[*id].run;
            codes.get(&run.workflow).is_some_and(|code| transitions::is_claimable_when_held(run, code))
        })
        .take(limit)
        .cloned()
        .collect()
    }

    fn claim_runs(
        &mut self,
        worker: &WorkerId,
        available: Vec<RunId>,
        now: Timestamp,
    ) -> Result<Answer, Rejection> {
        if !self.workers.contains_key(worker) {
            return Err(Rejection::WorkerGone);
        }
        let mut claimed = Vec::with_capacity(available.len());
        for id in available {
            let (run, is_fresh) = self.edit_run(&id, |row| {
                let is_fresh = row.run.started_at.is_none();
                transitions::claim(&mut row.run, worker, now);
                row.child_ended = false;
                (row.run.clone(), is_fresh)
            });
            let journal = if is_fresh { Vec::new() } else { self.steps_of(&id) };
            claimed.push(ClaimedRun { run, journal });
        }
        if !claimed.is_empty() {
            self.bump_heartbeat(worker, now)?;
        }
        Ok(Answer::Claimed(claimed))
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
            if new.takes_back {
                let mut row = row.clone();
                self.take_back(&mut row.schedule, now);
                self.store_schedule(row);
                if new.behind {
                    self.release(id, now);
                }
            }
        }
        let mut run = transitions::new_run(new, now);
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

    /// Makes decisions stale that did not count on a new unfinished run.
    fn bump_revision(&mut self, schedule: &ScheduleId) {
        if let Some(row) = self.schedules.get_mut(schedule) {
            row.schedule.revision += 1;
            self.touch(|touched| _ = touched.schedules.insert(schedule.clone()));
        }
    }

    fn record_step(&mut self, run: &RunId, token: Token, step: &StepRecord) -> Result<Answer, Rejection> {
        self.claimed_row(run, token).ok_or(Rejection::Fenced)?;
        let steps: &mut Steps = self.steps.entry(run.clone()).or_default();
        match steps.by_name.get(&step.name) {
            Some(place) if steps.records[*place].state == StepState::Done => return Ok(Answer::Done),
            Some(place) => {
                let started_at = steps.records[*place].started_at;
                steps.records[*place] = StepRecord { started_at, ..step.clone() };
            }
            None => {
                steps.by_name.insert(Arc::clone(&step.name), steps.records.len());
                steps.records.push(step.clone());
            }
        }
        self.touch(|touched| touched.steps.push((run.clone(), Arc::clone(&step.name))));
        if self.runs[run].run.interruptions > 0 {
            self.edit_run(run, forget_interruptions);
        }
        Ok(Answer::Done)
    }

    fn complete_run(
        &mut self,
        id: &RunId,
        token: Token,
        ending: &Completion,
        pause_after_failures: Option<u32>,
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
            let (project, last_slot) = (Arc::clone(&row.run.project), row.run.last_slot);
            self.delete_run(id);
            if let Some(mut stored) = self.schedules.get(&schedule).cloned() {
                transitions::leave_out(&mut stored.schedule, slot, last_slot);
                self.store_schedule(stored);
            }
            self.add_ledger(&project, &schedule, &transitions::left_out_line(slot, reason));
            let released = self.release(&schedule, now);
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
        if let Some(schedule) = &schedule {
            self.count_failures(schedule, state, pause_after_failures, now);
        }
        let released = self.after_finish(id, now);
        let answer = Answer::Ended { state, released };
        let ended = EndedClaim { token, print, answer: answer.clone() };
        self.edit_run(id, |row| row.ended = Some(ended));
        Ok(answer)
    }

    /// Writes the end of a claim into its run.
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

    fn count_failures(
        &mut self,
        id: &ScheduleId,
        state: RunState,
        pause_after_failures: Option<u32>,
        now: Timestamp,
    ) {
        let Some(row) = self.schedules.get(id) else { return };
        let mut row = row.clone();
        let schedule = &mut row.schedule;
        match state {
            RunState::Succeeded if schedule.failure_count > 0 => schedule.failure_count = 0,
            RunState::Failed => {
                schedule.failure_count = schedule.failure_count.saturating_add(1);
                let is_enough = pause_after_failures.is_some_and(|most| schedule.failure_count >= most);
                if is_enough && schedule.status == ScheduleStatus::Active {
                    self.take_back(schedule, now);
                    transitions::pause_itself(schedule, now);
                }
            }
            _ => return,
        }
        self.store_schedule(row);
    }

    /// What the end of a run sets free: the next run of its schedule, and its parent. Nothing where it goes on.
    fn after_finish(&mut self, id: &RunId, now: Timestamp) -> bool {
        let run = &self.runs[id].run;
        if !run.state.is_finished() {
            return false;
        }
        let (schedule, parent) = (run.schedule_id.clone(), run.parent.clone());
        let released = schedule.is_some_and(|schedule| self.release(&schedule, now));
        let woken = parent.is_some_and(|parent| self.wake(&parent, now));
        released || woken
    }

    /// Queues the next buffered run of the schedule, unless another is still to end.
    pub(super) fn release(&mut self, schedule: &ScheduleId, now: Timestamp) -> bool {
        if self.unfinished_in_phase(schedule, LIVE).next().is_some() {
            return false;
        }
        let Some(next) = self.unfinished_in_phase(schedule, BEHIND).next().cloned() else { return false };
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

    fn wake_parents(&mut self, project: &str, runs: &[RunId], now: Timestamp) -> Answer {
        let mut woken = 0;
        for id in runs {
            let waits = self.run(project, id).is_some_and(|row| transitions::waits_for_child(&row.run));
            if waits && self.wake(id, now) {
                woken += 1;
            }
        }
        Answer::Count(woken)
    }

    fn uncount_interruptions(&mut self, claims: &[(RunId, Token)]) -> Answer {
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

    /// Counts that the worker of a running run has died.
    pub(super) fn count_interruption(&mut self, id: &RunId, was_alone: bool, now: Timestamp) {
        self.edit_run(id, |row| {
            if transitions::count_interruption(&mut row.run, was_alone, now) {
                row.interrupted_token = Some(row.run.token);
            }
        });
    }

    /// Takes a run from its worker.
    pub(super) fn free_run(&mut self, id: &RunId, now: Timestamp) {
        let row = &self.runs[id];
        let claim = claim_of(&row.run, row.child_ended);
        self.end_claim(id, &transitions::end(&claim, &Completion::Released, now), now);
        self.after_finish(id, now);
    }

    /// Cancels an unfinished run, whatever else that sets free.
    pub(super) fn cancel_now(&mut self, id: &RunId, now: Timestamp) {
        self.edit_run(id, |row| {
            row.run.state = RunState::Cancelled;
            row.run.finished_at = Some(now);
        });
    }

    fn cancel_unfinished(&mut self, schedule: &ScheduleId, now: Timestamp) {
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
            match self.runs[&id].run.state {
                RunState::Succeeded | RunState::Failed | RunState::Cancelled => continue,
                RunState::Running => self.edit_run(&id, |row| row.run.cancel_requested = true),
                RunState::Buffered | RunState::Queued | RunState::Waiting => {
                    self.cancel_now(&id, now);
                    self.after_finish(&id, now);
                }
            }
            let children = self.children.get(&id).into_iter().flatten();
            queue.extend(children.filter(|child| seen.insert((*child).clone())).cloned());
        }
    }

    fn cancel_run(&mut self, project: &str, id: &RunId, now: Timestamp) -> Result<Answer, Rejection> {
        self.run(project, id).ok_or_else(|| Rejection::RunNotFound(id.clone()))?;
        self.cancel_tree(id, now);
        Ok(Answer::State(self.runs[id].run.state))
    }

    fn retry_run(&mut self, project: &str, id: &RunId, now: Timestamp) -> Result<Answer, Rejection> {
        let run = &self.run(project, id).ok_or_else(|| Rejection::RunNotFound(id.clone()))?.run;
        if !matches!(run.state, RunState::Failed | RunState::Cancelled) {
            return Err(Rejection::RunNotFinished(id.clone(), run.state));
        }
        let schedule = run.schedule_id.clone();
        self.edit_run(id, |row| {
            let run = &mut row.run;
            run.state = RunState::Queued;
            run.available_at = now;
            run.attempt += 1;
            run.finished_at = None;
            run.cancel_requested = false;
            run.note = None;
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
        Ok(Answer::State(RunState::Queued))
    }

    fn prune(&mut self, project: &Arc<str>, before: Timestamp, keep: u32, limit: usize) -> Answer {
        let old = self.finished.get(project).map(|runs| runs.range(..(before, 0)));
        let runs: Vec<RunId> = old
            .into_iter()
            .flatten()
            .map(|(_, id)| id)
            .filter(|id| !self.is_kept(id, keep))
            .take(limit)
            .cloned()
            .collect();
        for id in &runs {
            self.delete_run(id);
        }
        let old = self.ledger_by_age.get(project).map(|lines| lines.range(..(before, 0)));
        let lines: Vec<(Timestamp, u64)> =
            old.into_iter().flatten().map(|(key, _)| *key).take(limit - runs.len()).collect();
        for (until, no) in &lines {
            self.delete_ledger(project, *until, *no);
        }
        Answer::Count((runs.len() + lines.len()) as u64)
    }

    /// Whether the run is among the newest of its schedule.
    fn is_kept(&self, id: &RunId, keep: u32) -> bool {
        let row = &self.runs[id];
        let keep = keep as usize;
        let (Some(schedule), Some(_)) = (&row.run.schedule_id, row.run.slot) else { return false };
        let none = BTreeMap::new();
        let newer = self.by_slot.get(schedule).unwrap_or(&none).range((row.run.slot, row.no + 1)..);
        newer.take(keep).count() < keep
    }
}

fn forget_interruptions(row: &mut RunRow) {
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
