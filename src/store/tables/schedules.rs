//! Commands about schedules and workers.

use super::rows::{Tables, WorkerRow};
use crate::calendar::Timestamp;
use crate::model::{
    FirePlan, LedgerLine, NewSchedule, Origin, Peer, Reconciliation, RunId, RunState, Schedule, ScheduleId,
    ScheduleStatus, WorkerEntry, WorkerId, stored_calendar,
};
use crate::store::tables::declarations::{self, Declared, LiveDeclarations, Undeclared};
use crate::store::tables::transitions::{self, BEHIND, LIVE, RevokedRun};
use crate::store::{Answer, Patch, Rejection, UpsertOutcome, Upserted};
use std::collections::BTreeSet;
use std::sync::Arc;

impl Tables {
    pub(super) fn register_worker(
        &mut self,
        entry: &WorkerEntry,
        now: Timestamp,
    ) -> Result<Answer, Rejection> {
        self.check_upsert(&entry.declared)?;
        for workflow in &entry.workflows {
            self.workflows.slot(&entry.project, &workflow.id).schedulable = workflow.schedulable;
        }
        self.touch(|touched| {
            let workflows = entry.workflows.iter().map(|workflow| Arc::clone(&workflow.id));
            touched.workflows.extend(workflows.map(|workflow| (Arc::clone(&entry.project), workflow)));
            touched.workers.insert(entry.id.clone());
            touched.registered.insert(entry.id.clone());
        });
        let known = self.workers.get(&entry.id).map(|row| (row.peer.heartbeat, row.peer.entered_at));
        let (heartbeat, entered_at) = known.unwrap_or((1, now));
        let workflows: BTreeSet<_> =
            entry.workflows.iter().map(|workflow| Arc::clone(&workflow.id)).collect();
        let peer = Peer {
            id: entry.id.clone(),
            app: Arc::clone(&entry.app),
            host: Arc::clone(&entry.host),
            pid: entry.pid,
            process_mark: Arc::clone(&entry.process_mark),
            about: Arc::clone(&entry.about),
            heartbeat,
            held_count: 0,
            workflows: workflows.into_iter().collect(),
            entered_at,
            beat_at: now,
            declares: Some(entry.declares()),
        };
        self.workers.insert(entry.id.clone(), WorkerRow { project: Arc::clone(&entry.project), peer });
        Ok(Answer::Reconciled(Box::new(self.reconciled(entry, &[], now))))
    }

    pub(super) fn reconcile(
        &mut self,
        entry: &WorkerEntry,
        silent: &[(WorkerId, i64)],
        now: Timestamp,
    ) -> Result<Answer, Rejection> {
        if !self.workers.contains_key(&entry.id) {
            return Err(Rejection::WorkerGone);
        }
        self.check_upsert(&entry.declared)?;
        Ok(Answer::Reconciled(Box::new(self.reconciled(entry, silent, now))))
    }

    /// Upserts the schedules that the worker declares, and decides about those that it does not.
    fn reconciled(
        &mut self,
        entry: &WorkerEntry,
        silent: &[(WorkerId, i64)],
        now: Timestamp,
    ) -> Reconciliation {
        let peers = self.workers.values().filter(|row| row.project == entry.project).map(|row| &row.peer);
        let live = LiveDeclarations::of(peers, &entry.id, silent);
        let mut report = Reconciliation::default();
        self.declare_limits(entry, &live, &mut report, now);
        let mut declared = BTreeSet::new();
        for new in &entry.declared {
            if let Some(id) = self.schedule_with_key(new).cloned() {
                let schedule = &self.schedules[&id].schedule;
                let compared = declarations::declared(schedule, new, &live);
                compared.note(schedule, &mut report);
                if compared == Declared::IsOutdated {
                    declared.insert(id);
                    continue;
                }
            }
            declared.insert(self.upsert_schedule(new, now).id);
        }
        let owned: BTreeSet<ScheduleId> = entry
            .owners()
            .filter_map(|owner| self.owned.get(&entry.project, owner))
            .flatten()
            .filter(|id| !declared.contains(*id))
            .cloned()
            .collect();
        for id in owned {
            let mut row = self.schedules[&id].clone();
            if !matches!(row.schedule.status, ScheduleStatus::Active | ScheduleStatus::Paused) {
                continue;
            }
            let decided = declarations::undeclared(&row.schedule, entry, &live);
            decided.note(&row.schedule, &mut report);
            match decided {
                Undeclared::Stays | Undeclared::IsProtected => {}
                Undeclared::IsAdopted => {
                    declarations::adopt(&mut row.schedule, &entry.app);
                    self.store_schedule(row);
                }
                Undeclared::Retires => {
                    self.revoke_early_claims(&mut row.schedule, now);
                    let spec = row.schedule.spec.clone();
                    self.attach_calendars(&mut row.schedule, now);
                    let lines = transitions::retire(&mut row.schedule, &entry.app, now);
                    row.schedule.spec = spec;
                    self.store_schedule(row);
                    self.add_lines(&entry.project, &id, &lines, now);
                    self.release(&id, now);
                }
            }
        }
        report
    }

    /// Raises the worker's heartbeat, also for a claim.
    pub(super) fn bump_heartbeat(&mut self, worker: &WorkerId, now: Timestamp) -> Result<Answer, Rejection> {
        let row = self.workers.get_mut(worker).ok_or(Rejection::WorkerGone)?;
        row.peer.heartbeat += 1;
        row.peer.beat_at = now;
        self.touch(|touched| _ = touched.workers.insert(worker.clone()));
        Ok(Answer::Done)
    }

    pub(super) fn deregister_worker(&mut self, worker: &WorkerId, now: Timestamp) -> Answer {
        let held: Vec<RunId> = self.held.get(worker).into_iter().flatten().cloned().collect();
        self.remove_worker(worker, &held, now)
    }

    fn remove_worker(&mut self, worker: &WorkerId, held: &[RunId], now: Timestamp) -> Answer {
        for run in held {
            self.free_run(run, now);
        }
        if self.workers.remove(worker).is_some() {
            self.touch(|touched| {
                touched.workers.insert(worker.clone());
                touched.registered.remove(worker);
            });
        }
        Answer::Count(held.len() as u64)
    }

    pub(super) fn expire_worker(
        &mut self,
        worker: &WorkerId,
        heartbeat: i64,
        shares_process: bool,
        now: Timestamp,
    ) -> Result<Answer, Rejection> {
        if self.workers.get(worker).is_some_and(|row| row.peer.heartbeat != heartbeat) {
            return Err(Rejection::Stale);
        }
        let held: Vec<RunId> = self.held.get(worker).into_iter().flatten().cloned().collect();
        let entered_at = self.workers.get(worker).map_or(now, |row| row.peer.entered_at);
        for run in &held {
            let steps = self.steps.get(run);
            if steps.is_none_or(|steps| steps.records.iter().all(|step| step.finished_at < entered_at)) {
                self.count_interruption(run, held.len() == 1 && !shares_process, now);
            }
        }
        Ok(self.remove_worker(worker, &held, now))
    }

    pub(super) fn upsert_schedules(
        &mut self,
        new: &[NewSchedule],
        now: Timestamp,
    ) -> Result<Answer, Rejection> {
        self.check_calendars_of(new)?;
        self.check_upsert(new)?;
        Ok(Answer::Schedules(new.iter().map(|new| self.upsert_schedule(new, now)).collect()))
    }

    /// The same, and returns the rows of the new schedules, by key, instead of storing them. Tables
    /// with all their indexes would cost more than anything else, and nobody looks at them again.
    #[cfg(feature = "postgres")]
    pub(in crate::store) fn upsert_many(
        &mut self,
        new: &[NewSchedule],
        now: Timestamp,
    ) -> Result<(Answer, Vec<transitions::StoredSchedule>), Rejection> {
        self.check_calendars_of(new)?;
        let mut absent: Vec<&NewSchedule> =
            new.iter().filter(|new| self.schedule_with_key(new).is_none()).collect();
        let ids_ascend = absent.is_sorted_by(|a, b| a.id < b.id);
        absent.sort_by(|a, b| a.unique_key().cmp(&b.unique_key()));
        let keys_differ = absent.is_sorted_by(|a, b| a.unique_key() < b.unique_key());
        // A request gives ascending ids. The second of two with one key changes what the first
        // creates.
        if !ids_ascend || !keys_differ || absent.iter().any(|new| self.schedules.contains_key(&new.id)) {
            return Ok((self.upsert_schedules(new, now)?, Vec::new()));
        }
        let mut upserted = Vec::with_capacity(new.len());
        for new in new {
            upserted.push(if self.schedule_with_key(new).is_some() {
                self.upsert_schedule(new, now)
            } else {
                Upserted { id: new.id.clone(), outcome: UpsertOutcome::Created }
            });
        }
        let created = absent.into_iter().map(|new| transitions::create_schedule(new, now)).collect();
        Ok((Answer::Schedules(upserted), created))
    }

    fn check_calendars_of(&self, new: &[NewSchedule]) -> Result<(), Rejection> {
        for new in new {
            let names = stored_calendar::named([&new.spec]);
            self.check_calendars(&new.project, names.iter().map(|name| &**name))?;
        }
        Ok(())
    }

    fn schedule_with_key(&self, new: &NewSchedule) -> Option<&ScheduleId> {
        self.schedule_by_key.get(&new.project, &new.workflow)?.get(&new.key)
    }

    fn check_upsert(&self, new: &[NewSchedule]) -> Result<(), Rejection> {
        let has_key = |new: &NewSchedule| Ok(self.schedule_with_key(new).is_some());
        transitions::check_ids(new, has_key, |id| self.schedules.contains_key(id))
    }

    fn upsert_schedule(&mut self, new: &NewSchedule, now: Timestamp) -> Upserted {
        let Some(id) = self.schedule_with_key(new).cloned() else {
            self.store_schedule(transitions::create_schedule(new, now));
            return Upserted { id: new.id.clone(), outcome: UpsertOutcome::Created };
        };
        let changes = transitions::upsert_changes(&self.schedules[&id], new, now);
        if changes {
            let mut row = self.schedules[&id].clone();
            self.revoke_early_claims(&mut row.schedule, now);
            self.attach_calendars(&mut row.schedule, now);
            let missed = transitions::upsert(&mut row, new, now);
            self.store_schedule(row);
            self.add_lines(&new.project, &id, &missed, now);
            self.release(&id, now);
        }
        let outcome = transitions::upsert_outcome(&id, new, changes);
        Upserted { id, outcome }
    }

    fn add_lines(&mut self, project: &Arc<str>, id: &ScheduleId, lines: &[LedgerLine], now: Timestamp) {
        for line in lines {
            self.add_ledger(project, id, line);
            self.note_slots(id, line, now);
        }
    }

    /// Revokes early claims: deletes the runs that were created ahead of their slots, and gives the
    /// slots back to the schedule.
    pub(super) fn revoke_early_claims(&mut self, row: &mut Schedule, now: Timestamp) {
        let (runs, taken) = self.early_claims(row, now);
        for id in runs {
            self.delete_run(&id);
        }
        transitions::revoke_early_claims(row, &taken);
    }

    /// The runs that a revocation deletes, and what it gives back.
    fn early_claims(&self, row: &Schedule, now: Timestamp) -> (Vec<RunId>, Vec<RevokedRun>) {
        let schedule = &row.id;
        let mut ahead: Vec<RunId> = [LIVE, BEHIND]
            .into_iter()
            .flat_map(|phase| self.unfinished_in_phase(schedule, phase))
            .filter(|id| {
                let run = &self.runs[*id].run;
                transitions::is_untouched(run)
                    && run.slot.is_some_and(|slot| slot > now)
                    // A run with a recorded step was started by a faster clock, and its steps must
                    // not be executed again.
                    && !self.steps.contains_key(*id)
            })
            .cloned()
            .collect();
        // A slot before one that keeps its outcome is not given back, or the schedule would decide
        // the later one a second time.
        let lines = self.ledger.get(schedule).into_iter().flat_map(|lines| lines.values().rev());
        let newest_line = transitions::newest_decided(row, lines.map(|(_, line)| line.until));
        let runs = self.by_slot.get(schedule).into_iter().flat_map(|runs| runs.values().rev());
        let newest_run = runs
            .filter(|id| !ahead.contains(id))
            .map(|id| &self.runs[id].run)
            .find(|run| run.origin == Origin::Schedule)
            .and_then(|run| run.slot);
        let settled = newest_line.max(newest_run);
        ahead.retain(|id| self.runs[id].run.slot > settled);
        let revoked = |id: &RunId| {
            let run = &self.runs[id].run;
            run.slot.map(|slot| RevokedRun { slot, last_slot: run.last_slot, token: run.token })
        };
        let taken = ahead.iter().filter_map(revoked).collect();
        (ahead, taken)
    }

    pub(super) fn patch_schedule(
        &mut self,
        project: &Arc<str>,
        id: &ScheduleId,
        revision: Option<i64>,
        patch: &Patch,
        now: Timestamp,
    ) -> Result<Answer, Rejection> {
        let stored =
            self.schedule(project, id).ok_or_else(|| Rejection::ScheduleNotFound(id.clone()))?.clone();
        if revision.is_some_and(|revision| revision != stored.schedule.revision) {
            return Err(Rejection::Stale);
        }
        let mut row = stored.clone();
        transitions::patch(&mut row, patch, now);
        if row == stored && patch.ledger.is_empty() && patch.fire.is_none() {
            return Ok(Answer::Schedule(Box::new(stored.schedule)));
        }
        self.check_calendars(project, transitions::newly_named(&stored.schedule, patch))?;
        let mut row = stored;
        let (revoked, taken) = if transitions::patch_revokes_claims(patch, &row.schedule) {
            self.early_claims(&row.schedule, now)
        } else {
            (Vec::new(), Vec::new())
        };
        transitions::revoke_early_claims(&mut row.schedule, &taken);
        transitions::check_skips(&row.schedule, patch)?;
        let removed = transitions::removed_skips(&row.schedule, patch);
        let spec = row.schedule.spec.clone();
        self.attach_calendars(&mut row.schedule, now);
        let missed = transitions::patch(&mut row, patch, now);
        if patch.spec.is_none() {
            row.schedule.spec = spec;
        }
        transitions::touch(&mut row.schedule, now);
        transitions::check_fire(&row.schedule, patch)?;
        let revision = row.schedule.revision;
        for id in revoked {
            self.delete_run(&id);
        }
        self.store_schedule(row);
        for slot in removed {
            self.remove_skip(id, slot);
            self.forget_skipped(id, slot);
        }
        self.add_lines(project, id, &missed, now);
        self.add_lines(project, id, &patch.ledger, now);
        if let Some(plan) = &patch.fire {
            let plan = FirePlan { revision, ..(**plan).clone() };
            self.fire(&WorkerId::from(""), &plan, now)?;
        }
        self.release(id, now);
        Ok(Answer::Schedule(Box::new(self.schedules[id].schedule.clone())))
    }

    pub(super) fn delete_schedule(
        &mut self,
        project: &Arc<str>,
        id: &ScheduleId,
        now: Timestamp,
    ) -> Result<Answer, Rejection> {
        let mut row =
            self.schedule(project, id).ok_or_else(|| Rejection::ScheduleNotFound(id.clone()))?.clone();
        declarations::check_deletion(&row.schedule)?;
        // Also those that are revoked: a worker whose clock is ahead may be about to enter one.
        let is_claimed = self.unfinished_in_phase(id, LIVE).any(|id| {
            let run = &self.runs[id].run;
            run.state == RunState::Running && self.may_be_unentered(run)
        });
        self.revoke_early_claims(&mut row.schedule, now);
        self.attach_calendars(&mut row.schedule, now);
        self.add_lines(project, id, &transitions::missed_by_deletion(&row.schedule, now), now);
        self.remove_schedule(id);
        let waiting: Vec<RunId> = [LIVE, BEHIND]
            .into_iter()
            .flat_map(|phase| self.unfinished_in_phase(id, phase))
            .filter(|id| {
                let run = &self.runs[*id].run;
                matches!(run.state, RunState::Queued | RunState::Buffered) && run.origin.is_slot()
            })
            .cloned()
            .collect();
        for run in waiting {
            self.cancel_now(&run, now);
        }
        self.release(id, now);
        Ok(Answer::Deleted { is_claimed })
    }

    /// The schedule that a decision was made for, if it has not changed since.
    pub(super) fn decided(&self, id: &ScheduleId, revision: i64) -> Result<&Schedule, Rejection> {
        let schedule = &self.schedules.get(id).ok_or(Rejection::Stale)?.schedule;
        if schedule.status != ScheduleStatus::Active || schedule.revision != revision {
            return Err(Rejection::Stale);
        }
        Ok(schedule)
    }
}
