//! Commands that complete, cancel, and retry runs, and what these release.

use super::batch::{Applied, Batch};
use super::queries;
use super::rows::Columns;
use super::schedules::RunToChange;
use crate::calendar::Timestamp;
use crate::model::{
    Completion, HookCall, Origin, RunId, RunState, ScheduleId, ScheduleStatus, Token, WorkerId, backfill,
};
use crate::store::row_reader::RowReader;
use crate::store::tables::transitions::{self, BEHIND, Claim, LIVE};
use crate::store::{Answer, Rejection};
use rusqlite::{Result, Row, params};
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

/// A claim, as far as its completion needs it.
struct ClaimRow {
    no: i64,
    state: RunState,
    token: Token,
    claim: Claim,
    schedule: Option<ScheduleId>,
    parent: Option<RunId>,
    ended_token: Option<i64>,
    ended_print: Option<i64>,
    ended_state: RunState,
    ended_released: bool,
    refused_by: Option<Arc<str>>,
    is_limited: bool,
    id: RunId,
}

impl ClaimRow {
    fn read(row: &Row<'_>) -> Result<Self> {
        let mut columns = Columns::of(row);
        Ok(Self {
            no: columns.int()?,
            state: columns.state()?,
            token: Token(columns.int()?),
            claim: Claim {
                attempt: columns.small_count()?,
                available_at: columns.time()?,
                cancel_requested: columns.flag()?,
                child_ended: columns.flag()?,
            },
            schedule: columns.optional_schedule_id()?,
            parent: columns.optional_run_id()?,
            ended_token: columns.optional_int()?,
            ended_print: columns.optional_int()?,
            ended_state: columns.state()?,
            ended_released: columns.flag()?,
            refused_by: columns.optional_text()?,
            is_limited: columns.optional_text()?.is_some(),
            id: columns.run_id()?,
        })
    }
}

impl RunToChange {
    fn read(row: &Row<'_>) -> Result<Self> {
        let mut columns = Columns::of(row);
        Ok(Self {
            no: columns.int()?,
            state: columns.state()?,
            origin: columns.word()?.unwrap_or(Origin::Invoke),
            parent: columns.optional_run_id()?,
            schedule: columns.optional_schedule_id()?,
            id: columns.run_id()?,
        })
    }
}

impl Batch<'_> {
    pub(super) fn complete_run(
        &mut self,
        id: &RunId,
        token: Token,
        ending: &Completion,
        tells: bool,
    ) -> Applied {
        let mut row = self.one(queries::CLAIM, [id], ClaimRow::read)?.ok_or(Rejection::Fenced)?;
        if self.is_unwritten_success(row.no) {
            self.write_successes()?;
            row = self.one(queries::CLAIM, [id], ClaimRow::read)?.ok_or(Rejection::Fenced)?;
        }
        let print = transitions::completion_print(ending);
        if row.state != RunState::Running || row.token != token {
            if row.ended_token == Some(token.0) && row.ended_print == Some(print) {
                return Ok(Answer::Ended { state: row.ended_state, released: row.ended_released });
            }
            return Err(Rejection::Fenced.into());
        }
        let success = match ending {
            Completion::Succeeded { result } if row.parent.is_none() && !row.is_limited && !tells => {
                Some(result)
            }
            _ => None,
        };
        if success.is_none() {
            self.write_successes()?;
        }
        if let Completion::Skipped { reason } = ending
            && !self.any(queries::HAS_STEP, [row.no])?
            && let Some(schedule) = &row.schedule
            && let Some(released) = self.skip_slot(row.no, schedule, reason)?
        {
            let released = released || row.is_limited;
            return Ok(Answer::Ended { state: RunState::Cancelled, released });
        }
        let ended = transitions::end(&row.claim, ending, self.now());
        let state = ended.state;
        if let Some(schedule) = &row.schedule {
            self.count_failures(schedule, row.no, state)?;
        }
        // A permit of its limit is free, whatever else is.
        let released =
            self.set_free(row.no, state, true, row.schedule.as_ref(), row.parent.as_ref())? || row.is_limited;
        if ended.attempt != row.claim.attempt {
            self.run(queries::FORGET_INTERRUPTIONS, [row.no])?;
        }
        if let (Some(result), false) = (success, released) {
            self.add_success(row.no, result.as_ref(), print)?;
            return Ok(Answer::Ended { state, released });
        }
        self.run(
            queries::END_CLAIM,
            params![
                row.no,
                state,
                ended.attempt,
                ended.available_at,
                ended.result,
                ended.keeps_error,
                ended.error,
                self.finished_at(state),
                token,
                print,
                state,
                released
            ],
        )?;
        if state == RunState::Waiting
            && let Some((refused_by, note)) = transitions::hold(row.refused_by.as_ref(), ending)
        {
            self.run(queries::HOLD_RUN, params![row.no, refused_by, note])?;
        }
        if tells {
            self.tell_outcome(row.no)?;
        }
        Ok(Answer::Ended { state, released })
    }

    /// Records the call about the outcome of a run, if it has one.
    fn tell_outcome(&mut self, no: i64) -> Result<()> {
        let run = self.one(queries::RUN_BY_NO, [no], |row| Columns::of(row).run())?;
        match run.and_then(|run| HookCall::outcome(&run, self.now())) {
            Some(call) => self.add_hook_call(&call),
            None => Ok(()),
        }
    }

    /// Deletes the run of a slot that the application skips. Returns whether that released another
    /// run, or `None` for a run without a slot.
    fn skip_slot(&mut self, no: i64, schedule: &ScheduleId, reason: &Arc<str>) -> Result<Option<bool>> {
        let found = self.one(queries::RUN_BY_NO, [no], |row| Columns::of(row).run())?;
        let Some((run, slot)) = found.and_then(|run| run.slot.map(|slot| (run, slot))) else {
            return Ok(None);
        };
        self.delete_run(no)?;
        let stored =
            self.one(queries::STORED_SCHEDULE, [schedule], |row| Columns::of(row).stored_schedule())?;
        if let Some(mut stored) = stored {
            transitions::undo_run(&mut stored.schedule, &run, slot);
            self.update_schedule(&stored)?;
        }
        self.add_ledger(&run.project, schedule, &[transitions::skipped_line(slot, reason)])?;
        self.release_after(schedule, no, run.idempotency_key.as_deref()).map(Some)
    }

    fn finished_at(&self, state: RunState) -> Option<Timestamp> {
        state.is_finished().then_some(self.now())
    }

    fn count_failures(&mut self, schedule: &ScheduleId, ended: i64, state: RunState) -> Result<()> {
        match state {
            RunState::Succeeded => {
                self.run(queries::RESET_FAILURES, [schedule])?;
            }
            RunState::Failed => {
                let counted = self.one(queries::COUNT_FAILURE, [schedule], |row| {
                    let mut columns = Columns::of(row);
                    Ok((columns.small_count()?, columns.word::<ScheduleStatus>()?, columns.text()?))
                })?;
                if let Some((failure_count, Some(status), spec)) = counted
                    && transitions::pauses_after(&spec.into(), status, failure_count)
                {
                    self.pause_itself(schedule, ended)?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn pause_itself(&mut self, schedule: &ScheduleId, ended: i64) -> Result<()> {
        let stored =
            self.one(queries::STORED_SCHEDULE, [schedule], |row| Columns::of(row).stored_schedule())?;
        if let Some(mut stored) = stored {
            self.revoke_early_claims(&mut stored.schedule, ended)?;
            transitions::pause_itself(&mut stored.schedule, self.now());
            self.update_schedule(&stored)?;
        }
        Ok(())
    }

    /// Releases what a finished run blocked: the next run of its schedule, and its parent. Returns
    /// whether that made a run claimable. `was_live`: it was not buffered.
    fn set_free(
        &mut self,
        no: i64,
        state: RunState,
        was_live: bool,
        schedule: Option<&ScheduleId>,
        parent: Option<&RunId>,
    ) -> Result<bool> {
        if !state.is_finished() {
            return Ok(false);
        }
        let released = match schedule {
            Some(schedule) if was_live => {
                let next = self.next_buffered(schedule)?;
                let is_backfilled = next.as_ref().is_some_and(|(_, key)| key.is_some());
                let key = if is_backfilled { self.idempotency_key(no)? } else { None };
                self.release_next(schedule, next, no, key.as_deref())?
            }
            Some(schedule) => self.release(schedule, no)?,
            None => false,
        };
        let woken = match parent {
            Some(parent) => self.wake(parent)?,
            None => false,
        };
        Ok(released || woken)
    }

    /// Queues the next buffered run of the schedule, unless a run other than `ended` is still to
    /// finish.
    pub(super) fn release(&mut self, schedule: &ScheduleId, ended: i64) -> Result<bool> {
        self.release_after(schedule, ended, None)
    }

    /// The same when the run `ended` with this idempotency key has finished.
    fn release_after(&mut self, schedule: &ScheduleId, ended: i64, key: Option<&str>) -> Result<bool> {
        let next = self.next_buffered(schedule)?;
        self.release_next(schedule, next, ended, key)
    }

    /// Number and idempotency key of the next buffered run.
    fn next_buffered(&mut self, schedule: &ScheduleId) -> Result<Option<(i64, Option<Arc<str>>)>> {
        self.one(queries::NEXT_BUFFERED, [schedule], |row| {
            let mut columns = Columns::of(row);
            Ok((columns.int()?, columns.optional_text()?))
        })
    }

    fn idempotency_key(&mut self, no: i64) -> Result<Option<Arc<str>>> {
        let found = self.one(queries::IDEMPOTENCY_KEY, [no], |row| Columns::of(row).optional_text())?;
        Ok(found.flatten())
    }

    fn release_next(
        &mut self,
        schedule: &ScheduleId,
        next: Option<(i64, Option<Arc<str>>)>,
        ended: i64,
        key: Option<&str>,
    ) -> Result<bool> {
        let Some((next, next_key)) = next else { return Ok(false) };
        self.write_successes()?;
        let takes_over = backfill::takes_over(next_key.as_deref(), key);
        if !takes_over && self.any(queries::HAS_LIVE, params![schedule, ended])? {
            return Ok(false);
        }
        self.run(queries::RELEASE_RUN, params![next, self.now()])?;
        Ok(true)
    }

    fn wake(&mut self, parent: &RunId) -> Result<bool> {
        let found = self.one(queries::PARENT, [parent], |row| {
            let mut columns = Columns::of(row);
            Ok((columns.int()?, columns.state()?))
        })?;
        match found {
            Some((no, RunState::Waiting)) => {
                self.run(queries::WAKE_PARENT, params![no, self.now()])?;
                Ok(true)
            }
            Some((no, RunState::Running)) => {
                self.run(queries::NOTE_CHILD, [no])?;
                Ok(false)
            }
            _ => Ok(false),
        }
    }

    pub(super) fn wake_parents(&mut self, project: &str, runs: &[RunId]) -> Applied {
        let mut woken = 0;
        for run in runs {
            let found =
                self.one(queries::WAITING_PARENT, params![run, project], |row| row.get::<_, i64>(0))?;
            if let Some(no) = found {
                self.run(queries::WAKE_PARENT, params![no, self.now()])?;
                woken += 1;
            }
        }
        Ok(Answer::Count(woken))
    }

    pub(super) fn uncount_interruptions(&mut self, claims: &[(RunId, Token)]) -> Applied {
        for (run, token) in claims {
            self.run(queries::UNCOUNT_INTERRUPTION, params![run, token])?;
        }
        Ok(Answer::Done)
    }

    /// Takes its runs from a worker. If the worker died, the interruptions are counted; `death`
    /// says whether it shared its process with others that held runs.
    pub(super) fn free_held_runs(&mut self, worker: &WorkerId, death: Option<bool>) -> Result<u64> {
        let held = self.all_rows(queries::HELD, [worker], ClaimRow::read)?;
        let entered_at = match death {
            Some(_) => self.one(queries::ENTERED_AT, [worker], |row| Columns::of(row).time())?,
            None => None,
        };
        let entered_at = entered_at.unwrap_or(self.now());
        for row in &held {
            if let Some(shares_process) = death
                && transitions::is_interrupted(row.claim.available_at, self.now())
                && !self.any(queries::HAS_STEP_SINCE, params![row.no, entered_at])?
            {
                let was_alone = held.len() == 1 && !shares_process;
                self.run(queries::COUNT_INTERRUPTION, params![row.no, was_alone])?;
                self.run(queries::NOTE_INTERRUPTED_LATE, params![HookCall::late_id(&row.id), self.now()])?;
            }
            let ended = transitions::end(&row.claim, &Completion::Released, self.now());
            let finished_at = self.finished_at(ended.state);
            self.run(queries::FREE_RUN, params![row.no, ended.state, ended.available_at, finished_at])?;
            self.set_free(row.no, ended.state, true, row.schedule.as_ref(), row.parent.as_ref())?;
        }
        Ok(held.len() as u64)
    }

    /// Unfinished runs of the schedule in this phase, by slot and creation.
    pub(super) fn unfinished(&mut self, schedule: &ScheduleId, phase: i64) -> Result<Vec<RunToChange>> {
        self.all_rows(queries::UNFINISHED, params![schedule, phase], RunToChange::read)
    }

    pub(super) fn cancel_unfinished(&mut self, schedule: &ScheduleId) -> Result<()> {
        let mut unfinished = self.unfinished(schedule, BEHIND)?;
        unfinished.extend(self.unfinished(schedule, LIVE)?);
        for run in unfinished {
            // Cancelling an earlier run may have changed this one.
            if let Some(run) = self.run_by_id(&run.id)? {
                self.cancel_tree(run)?;
            }
        }
        Ok(())
    }

    /// Cancels a run and the unfinished children below it, parents first. Returns the state of the
    /// first run.
    fn cancel_tree(&mut self, root: RunToChange) -> Result<RunState> {
        let mut root_state = None;
        let mut seen = BTreeSet::from([root.no]);
        let mut queue = VecDeque::from([root]);
        while let Some(run) = queue.pop_front() {
            let state = match run.state {
                RunState::Succeeded | RunState::Failed | RunState::Cancelled => run.state,
                RunState::Running => {
                    self.run(queries::REQUEST_CANCEL, [run.no])?;
                    RunState::Running
                }
                RunState::Buffered | RunState::Queued | RunState::Waiting => {
                    self.run(queries::CANCEL_NOW, params![run.no, self.now()])?;
                    let was_live = run.state != RunState::Buffered;
                    self.set_free(
                        run.no,
                        RunState::Cancelled,
                        was_live,
                        run.schedule.as_ref(),
                        run.parent.as_ref(),
                    )?;
                    RunState::Cancelled
                }
            };
            root_state.get_or_insert(state);
            if run.state.is_finished() {
                continue;
            }
            for child in self.all_rows(queries::CHILDREN, [&run.id], RunToChange::read)? {
                if seen.insert(child.no) {
                    queue.push_back(child);
                }
            }
        }
        Ok(root_state.unwrap_or(RunState::Cancelled))
    }

    fn run_by_id(&mut self, id: &RunId) -> Result<Option<RunToChange>> {
        self.one(queries::RUN_BY_ID, [id], RunToChange::read)
    }

    fn run_in(&mut self, project: &str, id: &RunId) -> Applied<RunToChange> {
        let run = self.one(queries::RUN_TO_CHANGE, params![id, project], RunToChange::read)?;
        run.ok_or_else(|| Rejection::RunNotFound(id.clone()).into())
    }

    /// Makes decisions stale that did not count a new unfinished run. Returns the previous
    /// revision.
    pub(super) fn bump_revision(&mut self, schedule: &ScheduleId) -> Result<Option<i64>> {
        self.one(queries::BUMP_REVISION, [schedule], |row| row.get(0))
    }

    pub(super) fn cancel_run(&mut self, project: &str, id: &RunId) -> Applied {
        let run = self.run_in(project, id)?;
        Ok(Answer::State(self.cancel_tree(run)?))
    }

    pub(super) fn retry_run(&mut self, project: &str, id: &RunId) -> Applied {
        let run = self.run_in(project, id)?;
        if !matches!(run.state, RunState::Failed | RunState::Cancelled) {
            return Err(Rejection::RunNotFinished(id.clone(), run.state).into());
        }
        let state =
            if self.must_wait_for_its_backfill(&run)? { RunState::Buffered } else { RunState::Queued };
        self.run(queries::RETRY_RUN, params![run.no, self.now(), state])?;
        self.run(queries::FORGET_FAILED_STEPS, [run.no])?;
        if let Some(schedule) = &run.schedule {
            self.bump_revision(schedule)?;
        }
        Ok(Answer::State(state))
    }

    /// Whether the backfill of a run that is retried has as many runs in progress as it may have.
    fn must_wait_for_its_backfill(&mut self, run: &RunToChange) -> Result<bool> {
        let Some(schedule) = run.schedule.as_ref().filter(|_| run.origin == Origin::Backfill) else {
            return Ok(false);
        };
        let key = self.idempotency_key(run.no)?;
        let live = self.all_rows(queries::LIVE_KEYS, [schedule], |row| Columns::of(row).optional_text())?;
        Ok(backfill::must_wait(key.as_deref(), live.iter().map(|key| key.as_deref())))
    }

    /// Deletes a run and its steps.
    pub(super) fn delete_run(&mut self, no: i64) -> Result<()> {
        self.run(queries::DELETE_STEPS, [no])?;
        self.run(queries::DELETE_RUN, [no])?;
        Ok(())
    }
}
