//! Commands that create and claim runs, and record steps.

use super::batch::{Applied, Batch};
use super::queries;
use super::rows::{Columns, limit_to_sql};
use super::run_id_range::is_slot;
use super::schedules::NO_RUN;
use crate::calendar::Timestamp;
use crate::model::{
    Admission, ClaimedRun, FirePlan, HookCall, Json, NewRun, Origin, PlannedRun, Run, RunId, RunState,
    ScheduleId, ScheduleStatus, StepRecord, Token, WorkerId,
};
use crate::store::row_reader::RowReader;
use crate::store::tables::transitions;
use crate::store::{Answer, Rejection};
use rusqlite::{Result, Row, params};
use std::sync::Arc;

/// What a fire needs of its schedule.
struct Decided {
    project: Arc<str>,
    workflow: Arc<str>,
    key: Arc<str>,
    input: Option<Arc<str>>,
    last_slot: Option<Timestamp>,
    has_kept_run: bool,
}

impl Decided {
    fn read(row: &Row<'_>) -> Result<Self> {
        let mut columns = Columns::of(row);
        Ok(Self {
            project: columns.text()?,
            workflow: columns.text()?,
            key: columns.text()?,
            input: columns.optional_text()?,
            last_slot: columns.optional_time()?,
            has_kept_run: columns.flag()?,
        })
    }
}

impl Batch<'_> {
    pub(super) fn fire(&mut self, worker: &WorkerId, plan: &FirePlan) -> Applied {
        let schedule = self
            .one(queries::DECIDED, params![plan.schedule, plan.revision], Decided::read)?
            .ok_or(Rejection::Stale)?;
        let claims = plan.runs.iter().any(|run| run.admission == Admission::Claim);
        if claims && !self.is_registered(worker)? {
            return Err(Rejection::WorkerGone.into());
        }
        if plan.cancel_unfinished {
            self.cancel_unfinished(&plan.schedule)?;
        }

        let facts = transitions::ScheduleFacts {
            id: &plan.schedule,
            project: &schedule.project,
            workflow: &schedule.workflow,
            key: &schedule.key,
            input: schedule.input.as_ref(),
            spec: plan.spec.spec(),
            revision: plan.revision,
            rules: &self.rules_of(&schedule.project, &schedule.workflow)?,
        };
        let mut created = Vec::with_capacity(plan.runs.len());
        for planned in &plan.runs {
            let run = self.planned_run(planned, &facts, worker)?;
            if self.insert_run(&run)? {
                if let Some(late_after_us) = facts.rules.hooks.late_after_us {
                    self.add_hook_call(&HookCall::late(&run, facts.id, planned.slot, late_after_us))?;
                }
                created.push(run);
            }
        }
        if !created.is_empty() && schedule.has_kept_run {
            self.reconsider_runs(&plan.schedule)?;
        }
        let last_slot = created.last().map_or(schedule.last_slot, |run| run.slot);
        self.advance(plan, last_slot, created.len())?;
        self.add_ledger(&schedule.project, &plan.schedule, &plan.ledger)?;
        created.retain(|run| run.state == RunState::Running);
        if !created.is_empty() {
            self.bump_heartbeat(worker)?;
        }
        let claimed = created.into_iter().map(|run| ClaimedRun { run, journal: Vec::new(), is_first: true });
        Ok(Answer::Claimed(claimed.collect()))
    }

    /// The run of a slot, in the state that the plan gives it.
    fn planned_run(
        &mut self,
        planned: &PlannedRun,
        schedule: &transitions::ScheduleFacts<'_>,
        worker: &WorkerId,
    ) -> Result<Run> {
        let mut run = transitions::planned_run(planned, schedule, self.now());
        match planned.admission {
            // Only a claim knows whether the limit has room.
            Admission::Claim if run.limit.is_some() => {}
            Admission::Claim => transitions::claim(&mut run, worker, self.now()),
            Admission::Queue => {}
            Admission::Behind => run.state = self.state_behind(schedule.id)?,
        }
        Ok(run)
    }

    /// Moves the schedule to its next slot.
    fn advance(&mut self, plan: &FirePlan, last_slot: Option<Timestamp>, created: usize) -> Result<()> {
        let created = limit_to_sql(created);
        if plan.status == ScheduleStatus::Active {
            self.run(queries::MOVE_ON, params![plan.schedule, plan.next_slot, last_slot, created])?;
        } else {
            self.run(
                queries::MOVE_ON_TO_STATUS,
                params![plan.schedule, plan.next_slot, last_slot, created, plan.status],
            )?;
        }
        if let Some(settled) = &plan.settled {
            self.run(queries::SET_SETTLED, params![plan.schedule, settled])?;
        }
        Ok(())
    }

    /// The state of a new run that waits until the other runs of its schedule have finished.
    fn state_behind(&mut self, schedule: &ScheduleId) -> Result<RunState> {
        let is_behind = self.any(queries::HAS_LIVE, params![schedule, NO_RUN])?;
        Ok(if is_behind { RunState::Buffered } else { RunState::Queued })
    }

    /// Inserts a run, unless it exists. Returns whether it did.
    pub(super) fn insert_run(&mut self, run: &Run) -> Result<bool> {
        let inserted = self.run(
            queries::INSERT_RUN,
            params![
                run.id,
                is_slot(run),
                run.project,
                run.workflow,
                run.key,
                run.schedule_id,
                run.slot,
                run.last_slot,
                run.upcoming,
                run.timezone,
                run.origin,
                run.payload,
                run.input,
                run.state,
                run.attempt,
                run.token,
                run.worker,
                run.available_at,
                run.created_at,
                run.started_at,
                run.parent,
                run.idempotency_key,
                run.limit,
                run.priority
            ],
        )?;
        if inserted > 0 && run.origin == Origin::Backfill && run.slot.is_some() {
            self.run(queries::COUNT_BACKFILLED, params![run.schedule_id])?;
        }
        Ok(inserted > 0)
    }

    pub(super) fn create_run(&mut self, new: &NewRun) -> Applied {
        if let Some(run) = self.existing_run(new)? {
            return Ok(Answer::Created { run, is_new: false, claimed: None });
        }
        self.prepare_schedule_of(new)?;
        let rules = self.rules_of(&new.project, &new.workflow)?;
        let mut run = transitions::new_run(new, &rules, self.now());
        if let Some(schedule) = &new.schedule_id {
            self.add_to_schedule(&mut run, schedule, new.behind)?;
        }
        let is_claimed = match &new.claim_for {
            Some(worker) => self.claim_at_creation(&mut run, worker)?,
            None => false,
        };
        self.insert_run(&run)?;
        let id = run.id.clone();
        Ok(Answer::Created { run: id, is_new: true, claimed: is_claimed.then(|| Box::new(run)) })
    }

    /// The run that has the id or the idempotency key of `new`.
    fn existing_run(&mut self, new: &NewRun) -> Result<Option<RunId>> {
        if self.any(queries::HAS_RUN, [&new.id])? {
            return Ok(Some(new.id.clone()));
        }
        let Some(key) = &new.idempotency_key else { return Ok(None) };
        let params = params![new.project, new.workflow, key];
        self.one(queries::RUN_BY_IDEMPOTENCY_KEY, params, |row| Columns::of(row).run_id())
    }

    /// Checks that the schedule of a new run exists at the expected revision, and revokes its early
    /// claims if the run requires that.
    fn prepare_schedule_of(&mut self, new: &NewRun) -> Applied<()> {
        if let Some(id) = transitions::needs_schedule(new)
            && !self.any(queries::HAS_SCHEDULE, params![id, new.project])?
        {
            return Err(Rejection::ScheduleNotFound(id.clone()).into());
        }
        let Some(id) = &new.schedule_id else { return Ok(()) };
        if !new.revokes_claims && new.revision.is_none() {
            return Ok(());
        }
        let mut row = self.stored_schedule(&new.project, id)?;
        if new.revision.is_some_and(|revision| revision != row.schedule.revision) {
            return Err(Rejection::Stale.into());
        }
        if new.revokes_claims {
            self.revoke_early_claims(&mut row.schedule, NO_RUN)?;
            self.update_schedule(&row)?;
            if new.behind {
                self.release(id, NO_RUN)?;
            }
        }
        Ok(())
    }

    /// Gives a new run its state and its first token among the runs of its schedule.
    fn add_to_schedule(&mut self, run: &mut Run, schedule: &ScheduleId, is_behind: bool) -> Result<()> {
        if is_behind {
            run.state = self.state_behind(schedule)?;
        }
        if let Some(revision) = self.bump_revision(schedule)? {
            run.token = transitions::first_token(run.origin, revision);
        }
        if self.one(queries::HAS_KEPT_RUN, [schedule], |row| row.get(0))?.unwrap_or(false) {
            self.reconsider_runs(schedule)?;
        }
        Ok(())
    }

    /// Claims a new run for the worker, if both are ready. Returns whether it did.
    fn claim_at_creation(&mut self, run: &mut Run, worker: &WorkerId) -> Result<bool> {
        if !transitions::is_claimable(run, self.now()) || !self.is_registered(worker)? {
            return Ok(false);
        }
        transitions::claim(run, worker, self.now());
        self.bump_heartbeat(worker)?;
        Ok(true)
    }

    pub(super) fn record_step(&mut self, run: &RunId, token: Token, step: &StepRecord) -> Applied {
        let (no, interruptions) = self
            .one(queries::STANDS, params![run, token], |row| {
                Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?))
            })?
            .ok_or(Rejection::Fenced)?;
        let is_recorded = self.store_step(no, step)?;
        if interruptions > 0 && is_recorded {
            self.run(queries::FORGET_INTERRUPTIONS, [no])?;
        }
        Ok(Answer::Done)
    }

    /// Records a step, unless it is done. Whether it did.
    pub(super) fn store_step(&mut self, run: i64, step: &StepRecord) -> Result<bool> {
        let recorded = self.run(
            queries::RECORD_STEP,
            params![
                run,
                step.name,
                step.state,
                step.attempt,
                step.run_attempt,
                step.wakes_at,
                step.started_at,
                step.finished_at,
                step.result,
                step.error
            ],
        )?;
        Ok(recorded > 0)
    }

    pub(super) fn report_progress(&mut self, run: &RunId, token: Token, progress: &Json) -> Applied {
        let no = self
            .one(queries::STANDS, params![run, token], |row| row.get::<_, i64>(0))?
            .ok_or(Rejection::Fenced)?;
        self.run(queries::REPORT_PROGRESS, params![no, progress])?;
        Ok(Answer::Done)
    }
}
