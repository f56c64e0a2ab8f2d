//! Commands about schedules and workers.

use super::batch::{Applied, Batch, BatchError};
use super::queries;
use super::read::read_peers;
use super::rows::{Columns, count_to_sql};
use super::run_id_range::ids;
use crate::calendar::Timestamp;
use crate::model::{
    FirePlan, HookCall, LedgerLine, NewSchedule, Origin, Reconciliation, RunId, RunState, Schedule,
    ScheduleId, Token, WorkerEntry, WorkerId,
};
use crate::store::row_reader::RowReader;
use crate::store::tables::declarations::{self, Declared, LiveDeclarations, Undeclared};
use crate::store::tables::transitions::{self, BEHIND, LIVE, RevokedRun, StoredSchedule};
use crate::store::{Answer, Patch, Rejection, UpsertOutcome, Upserted};
use rusqlite::{Result, params};
use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

impl Batch<'_> {
    pub(super) fn register_worker(&mut self, entry: &WorkerEntry) -> Applied {
        self.guarded(|batch| batch.enter(entry))
    }

    fn enter(&mut self, entry: &WorkerEntry) -> Applied {
        self.run(
            queries::REGISTER_WORKER,
            params![
                entry.id,
                entry.project,
                entry.app,
                entry.host,
                entry.pid,
                entry.process_mark,
                entry.about,
                self.now(),
                entry.declares()
            ],
        )?;
        self.run(queries::DELETE_WORKER_WORKFLOWS, [&entry.id])?;
        for workflow in &entry.workflows {
            self.run(queries::INSERT_WORKER_WORKFLOW, params![entry.id, workflow.id])?;
            self.run(queries::UPSERT_WORKFLOW, params![entry.project, workflow.id, workflow.schedulable])?;
        }

        self.reconciled(entry, &[])
    }

    pub(super) fn reconcile(&mut self, entry: &WorkerEntry, silent: &[(WorkerId, i64)]) -> Applied {
        if !self.is_registered(&entry.id)? {
            return Err(Rejection::WorkerGone.into());
        }
        self.guarded(|batch| batch.reconciled(entry, silent))
    }

    /// Upserts the schedules that the worker declares, and decides about those that it does not.
    fn reconciled(&mut self, entry: &WorkerEntry, silent: &[(WorkerId, i64)]) -> Applied {
        let peers = read_peers(&mut self.session, &entry.project)?;
        let live = LiveDeclarations::of(&peers, &entry.id, silent);
        let mut report = Reconciliation::default();
        self.declare_limits(entry, &live, &mut report)?;
        let mut declared = BTreeSet::new();
        for new in &entry.declared {
            if let Some(row) = self.schedule_with_key(new)? {
                let compared = declarations::declared(&row.schedule, new, &live);
                compared.note(&row.schedule, &mut report);
                if compared == Declared::IsOutdated {
                    declared.insert(row.schedule.id);
                    continue;
                }
            }
            declared.insert(self.upsert_schedule(new)?.id);
        }
        let mut owned = Vec::new();
        for owner in entry.owners() {
            owned.extend(self.all_rows(queries::OWNED, params![entry.project, owner], |row| {
                Columns::of(row).stored_schedule()
            })?);
        }
        owned.sort_by(|one, other| one.schedule.id.cmp(&other.schedule.id));
        owned.dedup_by(|one, other| one.schedule.id == other.schedule.id);
        for mut row in owned {
            if declared.contains(&row.schedule.id) {
                continue;
            }
            let decided = declarations::undeclared(&row.schedule, entry, &live);
            decided.note(&row.schedule, &mut report);
            match decided {
                Undeclared::Stays | Undeclared::IsProtected => {}
                Undeclared::IsAdopted => {
                    declarations::adopt(&mut row.schedule, &entry.app);
                    self.update_schedule(&row)?;
                }
                Undeclared::Retires => {
                    self.revoke_early_claims(&mut row.schedule, NO_RUN)?;
                    let spec = row.schedule.spec.clone();
                    self.attach_calendars(&mut row.schedule)?;
                    let lines = transitions::retire(&mut row.schedule, &entry.app, self.now());
                    row.schedule.spec = spec;
                    self.update_schedule(&row)?;
                    self.add_ledger(&entry.project, &row.schedule.id, &lines)?;
                    self.release(&row.schedule.id, NO_RUN)?;
                }
            }
        }
        Ok(Answer::Reconciled(Box::new(report)))
    }

    pub(super) fn heartbeat(&mut self, worker: &WorkerId) -> Applied {
        if !self.is_registered(worker)? {
            return Err(Rejection::WorkerGone.into());
        }
        self.bump_heartbeat(worker)?;
        Ok(Answer::Done)
    }

    pub(super) fn deregister_worker(&mut self, worker: &WorkerId) -> Applied {
        self.write_heartbeats()?;
        self.remove_worker(worker, None)
    }

    /// Removes a worker. If it died, `death` says whether it shared its process with others that
    /// held runs.
    fn remove_worker(&mut self, worker: &WorkerId, death: Option<bool>) -> Applied {
        let held = self.free_held_runs(worker, death)?;
        if self.run(queries::DELETE_WORKER, [worker])? > 0 {
            self.run(queries::DELETE_WORKER_WORKFLOWS, [worker])?;
        }
        Ok(Answer::Count(held))
    }

    pub(super) fn expire_worker(
        &mut self,
        worker: &WorkerId,
        heartbeat: i64,
        shares_process: bool,
    ) -> Applied {
        self.write_heartbeats()?;
        match self.one(queries::HEARTBEAT, [worker], |row| row.get::<_, i64>(0))? {
            Some(newest) if newest != heartbeat => Err(Rejection::Stale.into()),
            Some(_) | None => self.remove_worker(worker, Some(shares_process)),
        }
    }

    pub(super) fn upsert_schedules(&mut self, new: &[NewSchedule]) -> Applied {
        self.check_calendars_of(new)?;
        // A single schedule is rejected before anything is written.
        if new.len() > 1 {
            self.check_ids(new)?;
        }
        let mut upserted: Vec<Option<Upserted>> = vec![None; new.len()];
        for place in in_order_of_ids(new) {
            upserted[place] = Some(self.upsert_schedule(&new[place])?);
        }
        Ok(Answer::Schedules(upserted.into_iter().flatten().collect()))
    }

    /// Checks all ids before anything is written. A savepoint could undo what is written before the
    /// first rejection, but releasing the statements within it takes time that grows with the
    /// square of their number: SQLite goes through its journal of the savepoint for each.
    fn check_ids(&mut self, new: &[NewSchedule]) -> Applied<()> {
        let distinct: HashSet<_> = new.iter().map(|new| &new.id).collect();
        let ends = distinct.iter().min().zip(distinct.iter().max());
        let Some((first, last)) = ends else { return Ok(()) };
        let in_use: HashSet<ScheduleId> = self
            .all_rows(queries::IDS_IN_USE, [first, last], |row| Ok(row.get::<_, String>(0)?.into()))?
            .into_iter()
            .collect();
        if in_use.is_empty() && distinct.len() == new.len() {
            return Ok(());
        }
        let has_key = |new: &NewSchedule| Ok(self.schedule_with_key(new)?.is_some());
        transitions::check_ids(new, has_key, |id| in_use.contains(id))
    }

    fn upsert_schedule(&mut self, new: &NewSchedule) -> Applied<Upserted> {
        // If there are many, most are new, and an insertion finds out by itself.
        if self.insert_schedule(new)? {
            return Ok(Upserted { id: new.id.clone(), outcome: UpsertOutcome::Created });
        }
        let mut row = self.schedule_with_key(new)?.ok_or_else(|| transitions::id_in_use(&new.id))?;
        let id = row.schedule.id.clone();
        let changes = transitions::upsert_changes(&row, new, self.now());
        if changes {
            self.revoke_early_claims(&mut row.schedule, NO_RUN)?;
            self.attach_calendars(&mut row.schedule)?;
            let missed = transitions::upsert(&mut row, new, self.now());
            self.update_schedule(&row)?;
            self.add_ledger(&new.project, &id, &missed)?;
            self.release(&id, NO_RUN)?;
        }
        let outcome = transitions::upsert_outcome(&id, new, changes);
        Ok(Upserted { id, outcome })
    }

    fn schedule_with_key(&mut self, new: &NewSchedule) -> Result<Option<StoredSchedule>> {
        self.one(queries::STORED_SCHEDULE_BY_KEY, params![new.project, new.key, new.workflow], |row| {
            Columns::of(row).stored_schedule()
        })
    }

    /// Returns whether the schedule was new.
    fn insert_schedule(&mut self, new: &NewSchedule) -> Result<bool> {
        let StoredSchedule { schedule, compiled_spec } = transitions::create_schedule(new, self.now());
        let inserted = self.run(
            queries::INSERT_SCHEDULE,
            params![
                schedule.id,
                schedule.project,
                schedule.workflow,
                schedule.key,
                schedule.owner,
                schedule.spec.text(),
                compiled_spec,
                schedule.input,
                schedule.status,
                schedule.next_slot,
                self.now(),
                schedule.declaration
            ],
        )?;
        // Apart, because most have none: a trigger keeps the rows by which tags are found.
        if inserted > 0 && schedule.tags.is_some() {
            self.run(queries::SET_TAGS, params![schedule.id, schedule.tags])?;
        }
        Ok(inserted > 0)
    }

    pub(super) fn update_schedule(&mut self, row: &StoredSchedule) -> Result<()> {
        let schedule = &row.schedule;
        self.run(
            queries::UPDATE_SCHEDULE,
            params![
                schedule.id,
                schedule.owner,
                schedule.spec.text(),
                row.compiled_spec,
                schedule.input,
                schedule.status,
                schedule.note,
                schedule.next_slot,
                schedule.last_slot,
                count_to_sql(schedule.run_count),
                schedule.failure_count,
                schedule.attended_from,
                schedule.updated_at,
                schedule.revision,
                schedule.declaration,
                schedule.settled,
                schedule.tags
            ],
        )?;
        Ok(())
    }

    pub(super) fn add_ledger(
        &mut self,
        project: &str,
        schedule: &ScheduleId,
        lines: &[LedgerLine],
    ) -> Result<()> {
        for line in lines {
            self.run(
                queries::INSERT_LEDGER,
                params![
                    project,
                    schedule,
                    line.from,
                    line.until,
                    count_to_sql(line.count),
                    line.outcome,
                    line.reason
                ],
            )?;
        }
        self.note_slots(schedule, lines)
    }

    /// Revokes early claims: deletes the runs that were created ahead of their slots, and gives the
    /// slots back to the schedule. Ignores `ended`, which is being deleted.
    pub(super) fn revoke_early_claims(&mut self, schedule: &mut Schedule, ended: i64) -> Result<()> {
        let ahead = self.all_rows(queries::MADE_AHEAD, params![schedule.id, self.now()], |row| {
            let mut columns = Columns::of(row);
            let no = columns.int()?;
            let (slot, last_slot) = (columns.time()?, columns.optional_time()?);
            Ok((no, RevokedRun { slot, last_slot, token: Token(columns.int()?) }))
        })?;
        let ahead: Vec<_> = ahead.into_iter().filter(|(no, _)| *no != ended).collect();
        if ahead.is_empty() {
            return Ok(());
        }
        let settled = self.newest_settled(schedule, &ahead)?;
        let mut taken = Vec::with_capacity(ahead.len());
        for (no, run) in ahead {
            // A slot before one that keeps its outcome is not given back, or the schedule would
            // decide the later one a second time.
            if Some(run.slot) > settled {
                self.delete_run(no)?;
                taken.push(run);
            }
        }
        transitions::revoke_early_claims(schedule, &taken);
        Ok(())
    }

    /// The newest slot that has an outcome, ignoring the runs `ahead`.
    fn newest_settled(
        &mut self,
        schedule: &Schedule,
        ahead: &[(i64, RevokedRun)],
    ) -> Result<Option<Timestamp>> {
        let id = &schedule.id;
        let skipped = schedule.settled_slots();
        // Skips of coming slots are recorded too, but these slots are not slots of the schedule.
        let mut settled = self.first(
            queries::NEWEST_LINES,
            [id],
            |row| Columns::of(row).time(),
            |slot| skipped.binary_search(slot).is_err(),
        )?;
        let limit = i64::try_from(ahead.len() + 1).unwrap_or(i64::MAX);
        let (first, behind) = ids(id);
        let slots = self.all_rows(queries::NEWEST_SLOTS, params![id, first, behind, limit], |row| {
            let mut columns = Columns::of(row);
            Ok((columns.int()?, columns.time()?))
        })?;
        let newest = slots.into_iter().find(|(no, _)| ahead.iter().all(|(taken, _)| taken != no));
        settled = settled.max(newest.map(|(_, slot)| slot));
        Ok(settled)
    }

    pub(super) fn stored_schedule(&mut self, project: &str, id: &ScheduleId) -> Applied<StoredSchedule> {
        let stored = self.one(queries::STORED_SCHEDULE, [id], |row| Columns::of(row).stored_schedule())?;
        stored
            .filter(|row| &*row.schedule.project == project)
            .ok_or_else(|| Rejection::ScheduleNotFound(id.clone()).into())
    }

    pub(super) fn patch_schedule(
        &mut self,
        project: &str,
        id: &ScheduleId,
        revision: Option<i64>,
        patch: &Patch,
    ) -> Applied {
        let stored = self.stored_schedule(project, id)?;
        if revision.is_some_and(|revision| revision != stored.schedule.revision) {
            return Err(BatchError::Rejected(Rejection::Stale));
        }
        let mut row = stored.clone();
        transitions::patch(&mut row, patch, self.now());
        if row == stored && patch.ledger.is_empty() && patch.fire.is_none() {
            return Ok(Answer::Schedule(Box::new(stored.schedule)));
        }
        self.check_calendars(project, transitions::newly_named(&stored.schedule, patch))?;
        // Only these can be rejected after something was written.
        if patch.ledger.is_empty() && patch.unskipped.is_empty() && patch.fire.is_none() {
            return self.apply_patch(stored, patch);
        }
        self.guarded(|batch| batch.apply_patch(stored, patch))
    }

    fn apply_patch(&mut self, mut row: StoredSchedule, patch: &Patch) -> Applied {
        if transitions::patch_revokes_claims(patch, &row.schedule) {
            self.revoke_early_claims(&mut row.schedule, NO_RUN)?;
        }
        transitions::check_skips(&row.schedule, patch)?;
        let removed = transitions::removed_skips(&row.schedule, patch);
        let spec = row.schedule.spec.clone();
        self.attach_calendars(&mut row.schedule)?;
        let missed = transitions::patch(&mut row, patch, self.now());
        if patch.spec.is_none() {
            row.schedule.spec = spec;
        }
        transitions::touch(&mut row.schedule, self.now());
        transitions::check_fire(&row.schedule, patch)?;
        self.update_schedule(&row)?;
        let StoredSchedule { mut schedule, .. } = row;
        let (project, id) = (Arc::clone(&schedule.project), schedule.id.clone());
        let has_outcomes = !removed.is_empty() || !patch.ledger.is_empty();
        for slot in removed {
            self.run(queries::DELETE_SKIP, params![id, slot])?;
            self.run(queries::FORGET_HOOK_CALL, [HookCall::skipped_id(&id, slot)])?;
        }
        self.add_ledger(&project, &id, &missed)?;
        self.add_ledger(&project, &id, &patch.ledger)?;
        if let Some(plan) = &patch.fire {
            let plan = FirePlan { revision: schedule.revision, ..(**plan).clone() };
            self.fire(&WorkerId::from(""), &plan)?;
        }
        if patch.fire.is_some() || has_outcomes || !missed.is_empty() {
            schedule = self.stored_schedule(&project, &id)?.schedule;
        }
        self.release(&id, NO_RUN)?;
        Ok(Answer::Schedule(Box::new(schedule)))
    }

    pub(super) fn delete_schedule(&mut self, project: &str, id: &ScheduleId) -> Applied {
        let mut row = self.stored_schedule(project, id)?;
        declarations::check_deletion(&row.schedule)?;
        // Also those that are revoked: a worker whose clock is ahead may be about to enter one.
        let is_claimed = self.any(queries::IS_CLAIMED, [id])?;
        self.revoke_early_claims(&mut row.schedule, NO_RUN)?;
        self.attach_calendars(&mut row.schedule)?;
        let missed = transitions::missed_by_deletion(&row.schedule, self.now());
        self.add_ledger(project, id, &missed)?;
        self.run(queries::DELETE_SCHEDULE, [id])?;
        for phase in [LIVE, BEHIND] {
            for run in self.unfinished(id, phase)? {
                if matches!(run.state, RunState::Queued | RunState::Buffered) && run.origin.is_slot() {
                    self.run(queries::CANCEL_NOW, params![run.no, self.now()])?;
                }
            }
        }
        self.release(id, NO_RUN)?;
        Ok(Answer::Deleted { is_claimed })
    }
}

/// A number that no run has.
pub(super) const NO_RUN: i64 = -1;

/// A run, as far as a change of its state needs it.
pub(super) struct RunToChange {
    pub no: i64,
    pub state: RunState,
    pub origin: Origin,
    pub parent: Option<RunId>,
    pub schedule: Option<ScheduleId>,
    pub id: RunId,
}

/// The smallest number of schedules for which sorting pays.
const MANY: usize = 32;

/// The order in which to upsert schedules: that in which they are stored, so that each page is
/// written once. If a key occurs twice, the given order, because the second change depends on the
/// first.
fn in_order_of_ids(new: &[NewSchedule]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..new.len()).collect();
    if new.len() >= MANY {
        let keys: HashSet<_> = new.iter().map(|new| (&new.project, &new.workflow, &new.key)).collect();
        if keys.len() == new.len() {
            order.sort_by_key(|place| &new[*place].id);
        }
    }
    order
}
