//! Commands about runs and steps: creating and claiming them.

use super::batch::{Applied, Batch};
use super::k_merge::merge;
use super::queries;
use super::rows::{Columns, limit_to_sql};
use super::run_id_range::is_slot;
use super::schedules::NOBODY;
use crate::calendar::Timestamp;
use crate::model::{
    Admission, ClaimedRun, FirePlan, NewRun, Run, RunId, RunState, ScheduleId, ScheduleStatus, StepRecord,
    Token, WorkerId,
};
use crate::store::transitions;
use crate::store::{Answer, Codes, Rejection, Suspects};
use rusqlite::{Result, Row, params};
use std::collections::BTreeSet;
use std::sync::Arc;

/// A place in the order in which runs are claimed.
type Place = (Timestamp, Option<Timestamp>, RunId);

/// What a fire needs of its schedule.
struct Decided {
    project: Arc<str>,
    workflow: Arc<str>,
    key: Arc<str>,
    spec: Arc<str>,
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
            spec: columns.text()?,
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

        let mut created = 0;
        let mut last_slot = schedule.last_slot;
        let mut claimed = Vec::with_capacity(plan.runs.len());
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
            let mut run = transitions::planned_run(planned, &facts, self.now());
            match planned.admission {
                Admission::Claim => {
                    transitions::claim(&mut run, worker, self.now());
                }
                Admission::Queue => {}
                Admission::Behind => run.state = self.state_behind(&plan.schedule)?,
            }
            if !self.insert_run(&run)? {
                continue;
            }
            created += 1;
            last_slot = Some(planned.slot);
            if planned.admission == Admission::Claim {
                claimed.push(ClaimedRun { run, journal: Vec::new() });
            }
        }
        if created > 0 && schedule.has_kept_run {
            self.reconsider_runs(&plan.schedule)?;
        }
        if !claimed.is_empty() {
            self.bump_heartbeat(worker)?;
        }

        if plan.status == ScheduleStatus::Active {
            self.run(queries::MOVE_ON, params![plan.schedule, plan.next_slot, last_slot, created])?;
        } else {
            self.run(
                queries::MOVE_ON_TO_STATUS,
                params![plan.schedule, plan.next_slot, last_slot, created, plan.status],
            )?;
        }
        self.add_ledger(&schedule.project, &plan.schedule, &plan.ledger)?;
        Ok(Answer::Claimed(claimed))
    }

    /// The state of a new run that is to wait for the others of its schedule.
    fn state_behind(&mut self, schedule: &ScheduleId) -> Result<RunState> {
        let is_behind = self.any(queries::HAS_LIVE, params![schedule, NOBODY])?;
        Ok(if is_behind { RunState::Buffered } else { RunState::Queued })
    }

    /// Inserts a run, unless it exists.
    fn insert_run(&mut self, run: &Run) -> Result<bool> {
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
                run.idempotency_key
            ],
        )?;
        Ok(inserted > 0)
    }

    pub(super) fn claim_runs(
        &mut self,
        project: &str,
        worker: &WorkerId,
        workflows: &[Arc<str>],
        (limit, until): (usize, Timestamp),
        suspects: Suspects,
        codes: Option<&Codes>,
    ) -> Applied {
        if !self.is_registered(worker)? {
            return Err(Rejection::WorkerGone.into());
        }
        let suspect = match suspects {
            Suspects::Never => None,
            Suspects::Alone => self.first_suspect(project, workflows)?.filter(|(key, _)| key.0 <= until),
            Suspects::Since(since) => {
                self.first_suspect(project, workflows)?.filter(|(key, _)| key.0 <= since.min(until))
            }
        };
        let workflows: Vec<&Arc<str>> = workflows.iter().collect::<BTreeSet<_>>().into_iter().collect();
        let mut available = merge(workflows.len(), limit, |source, offset, count| {
            self.all_rows(
                queries::CLAIMABLE_HEADS,
                params![project, workflows[source], until, limit_to_sql(count), limit_to_sql(offset)],
                |row| {
                    let mut columns = Columns::of(row);
                    let key = (columns.time()?, columns.optional_time()?, columns.run_id()?);
                    let no = columns.int()?;
                    Ok((key.clone(), (key, no)))
                },
            )
        })?;
        if let Some(suspect) = suspect {
            let is_first = available.first().is_none_or(|first| suspect < *first);
            match suspects {
                Suspects::Alone if is_first => available = vec![suspect],
                Suspects::Since(_) => {
                    available.push(suspect);
                    available.sort_unstable();
                }
                Suspects::Alone | Suspects::Never => {}
            }
        }
        available.truncate(limit);
        let mut claimed = Vec::with_capacity(available.len());
        let held = match codes {
            Some(codes) => self.held_for(project, codes, limit - available.len())?,
            None => Vec::new(),
        };
        for no in available.into_iter().map(|(_, no)| no).chain(held) {
            claimed.extend(self.claim_run(no, worker)?);
        }
        if !claimed.is_empty() {
            self.bump_heartbeat(worker)?;
        }
        Ok(Answer::Claimed(claimed))
    }

    /// Held runs that this code has not refused, by number.
    fn held_for(&mut self, project: &str, codes: &Codes, limit: usize) -> Result<Vec<i64>> {
        let held = self.all_rows(queries::HELD_FOR_CODE, [project], |row| {
            let mut columns = Columns::of(row);
            columns.run_id()?;
            Ok((columns.int()?, columns.text()?, columns.text()?))
        })?;
        let is_ours = |(_, workflow, refused_by): &(i64, Arc<str>, Arc<str>)| {
            let is_new = |code: &Arc<str>| !refused_by.split(' ').any(|refused| *refused == **code);
            codes.get(workflow).is_some_and(is_new)
        };
        Ok(held.into_iter().filter(is_ours).take(limit).map(|(no, ..)| no).collect())
    }

    /// The earliest claimable suspect of these workflows: its place in the order, and its number.
    fn first_suspect(&mut self, project: &str, workflows: &[Arc<str>]) -> Result<Option<(Place, i64)>> {
        self.first(
            queries::SUSPECTS,
            [project],
            |row| {
                let mut columns = Columns::of(row);
                let key = (columns.time()?, columns.optional_time()?, columns.run_id()?);
                Ok(((key, columns.int()?), columns.text()?))
            },
            |(_, workflow)| workflows.contains(workflow),
        )
        .map(|found| found.map(|(suspect, _)| suspect))
    }

    fn claim_run(&mut self, no: i64, worker: &WorkerId) -> Result<Option<ClaimedRun>> {
        let Some(mut run) = self.one(queries::RUN_BY_NO, [no], |row| Columns::of(row).run())? else {
            return Ok(None);
        };
        let is_fresh = run.started_at.is_none();
        transitions::claim(&mut run, worker, self.now());
        self.run(
            queries::CLAIM_RUN,
            params![no, run.token, run.worker, run.started_at, run.available_at, run.note],
        )?;
        let journal = if is_fresh {
            Vec::new()
        } else {
            self.all_rows(queries::STEPS, [no], |row| Columns::of(row).step())?
        };
        Ok(Some(ClaimedRun { run, journal }))
    }

    pub(super) fn create_run(&mut self, new: &NewRun) -> Applied {
        if self.any(queries::HAS_RUN, [&new.id])? {
            return Ok(Answer::Created { run: new.id.clone(), is_new: false, claimed: None });
        }
        if let Some(key) = &new.idempotency_key {
            let known =
                self.one(queries::RUN_BY_IDEMPOTENCY_KEY, params![new.project, new.workflow, key], |row| {
                    Columns::of(row).run_id()
                })?;
            if let Some(run) = known {
                return Ok(Answer::Created { run, is_new: false, claimed: None });
            }
        }
        if let Some(id) = transitions::needs_schedule(new)
            && !self.any(queries::HAS_SCHEDULE, params![id, new.project])?
        {
            return Err(Rejection::ScheduleNotFound(id.clone()).into());
        }
        if let Some(id) = &new.schedule_id
            && (new.takes_back || new.revision.is_some())
        {
            let mut row = self.stored_schedule(&new.project, id)?;
            if new.revision.is_some_and(|revision| revision != row.schedule.revision) {
                return Err(Rejection::Stale.into());
            }
            if new.takes_back {
                self.take_back(&mut row.schedule, NOBODY)?;
                self.update_schedule(&row)?;
                if new.behind {
                    self.release(id, NOBODY)?;
                }
            }
        }
        let mut run = transitions::new_run(new, self.now());
        if let Some(id) = &new.schedule_id {
            if new.behind {
                run.state = self.state_behind(id)?;
            }
            if let Some(revision) = self.bump_revision(id)? {
                run.token = transitions::first_token(new.origin, revision);
            }
            if self.one(queries::HAS_KEPT_RUN, [id], |row| row.get(0))?.unwrap_or(false) {
                self.reconsider_runs(id)?;
            }
        }
        let mut is_claimed = false;
        if let Some(worker) = &new.claim_for
            && transitions::is_claimable(&run, self.now())
            && self.is_registered(worker)?
        {
            transitions::claim(&mut run, worker, self.now());
            self.bump_heartbeat(worker)?;
            is_claimed = true;
        }
        self.insert_run(&run)?;
        let id = run.id.clone();
        Ok(Answer::Created { run: id, is_new: true, claimed: is_claimed.then(|| Box::new(run)) })
    }

    pub(super) fn record_step(&mut self, run: &RunId, token: Token, step: &StepRecord) -> Applied {
        let (no, interruptions) = self
            .one(queries::STANDS, params![run, token], |row| {
                Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?))
            })?
            .ok_or(Rejection::Fenced)?;
        let recorded = self.run(
            queries::RECORD_STEP,
            params![
                no,
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
        if interruptions > 0 && recorded > 0 {
            self.run(queries::FORGET_INTERRUPTIONS, [no])?;
        }
        Ok(Answer::Done)
    }
}
