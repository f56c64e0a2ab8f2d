//! Being a worker: registering, heartbeats, deregistering, and losing the lease.

use super::maintenance::Recomputation;
use super::{Engine, Phase};
use crate::clock::Now;
use crate::engine::dispatcher::{Dispatcher, Notice, Stop, StopReason};
use crate::model::{NewRun, WorkerEntry, WorkerId};
use crate::store::{Answer, Command, Rejection, StoreError, StoreWrites};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// An idle worker expires after missing this many heartbeat intervals, and its row is removed. The
/// number is small: where workers come and go quickly, few live long enough to expire others.
pub(super) const IDLE_HEARTBEATS: u32 = 3;

/// How long after a worker has left the others re-decide the schedules that it declared: it may
/// only be restarting.
const RECONCILE_DELAY: Duration = Duration::from_secs(15);

/// The id of this worker, whether it is registered, and how long that is valid.
pub(super) struct Membership {
    /// Returns a fresh id for each registration.
    pub(super) new_worker_id: Box<dyn FnMut() -> WorkerId + Send>,
    pub(super) worker: WorkerId,
    pub(super) is_registered: bool,
    pub(super) last_heartbeat: Duration,
    /// The same in microseconds, shared with threads that are about to execute something.
    pub(super) last_alive: Arc<AtomicU64>,
    pub(super) deregistering_since: Option<Duration>,
    /// The workers that were live at the last decision about declared schedules, where that
    /// decision depends on them.
    pub(super) declarations_depend_on: Option<BTreeSet<WorkerId>>,
    /// When to decide again.
    pub(super) reconcile_at: Option<Duration>,
}

impl Membership {
    /// Not registered yet.
    pub(super) fn new(worker: WorkerId, new_worker_id: Box<dyn FnMut() -> WorkerId + Send>) -> Self {
        Self {
            new_worker_id,
            worker,
            is_registered: false,
            last_heartbeat: Duration::ZERO,
            last_alive: Arc::default(),
            deregistering_since: None,
            declarations_depend_on: None,
            reconcile_at: None,
        }
    }
}

impl<W: StoreWrites, D: Dispatcher> Engine<W, D> {
    pub(super) fn register(&mut self, now: Now) -> Result<(), StoreError> {
        let entry = self.entry(now);
        let first = entry.declared.iter().filter(|new| self.config.run_on_create.contains(&new.id));
        let first: Vec<_> = first.map(|new| Box::new(NewRun::of_creation(new, now.wall))).collect();
        let register = std::iter::once(Command::RegisterWorker(entry));
        let commands: Vec<_> = register.chain(first.into_iter().map(Command::CreateRun)).collect();
        let mut outcomes = self.writes.commit(&commands, now.wall)?;
        for first_run in outcomes.drain(1..) {
            match first_run {
                // The schedule existed before.
                Ok(_) | Err(Rejection::Stale | Rejection::ScheduleNotFound(_)) => {}
                Err(rejection) => self.dispatcher.emit(Notice::Advice(format!(
                    "the first run of a declared schedule could not be started: {rejection}"
                ))),
            }
        }
        let answer = outcomes.pop().unwrap_or(Err(Rejection::Stale)).map_err(|rejection| {
            // Registration asks for nothing that can be rejected; if it is rejected, a retry would
            // fare no better.
            StoreError::Unavailable(format!("the worker could not sign in: {rejection}"))
        })?;
        self.membership.is_registered = true;
        self.vitals.update(|signs| signs.is_registered = true);
        self.note_reconciled(answer, now);
        self.calendars.note_registered();
        self.claims.must_look_for_held = true;
        self.dispatcher.emit(Notice::Registered(self.membership.worker.clone()));
        self.note_alive(now.mono);
        self.maintenance.recomputation = Some(Recomputation::default());
        self.maintenance.stuck_parents.restart();
        self.scheduling.watching_since = self.scheduling.watching_since.min(now.wall);
        self.scheduling.is_next_work_stale = true;
        self.peers.must_refresh = true;
        Ok(())
    }

    /// The registration command.
    pub(super) fn entry(&mut self, now: Now) -> Box<WorkerEntry> {
        let mut entry = Box::new(self.config.entry(&self.membership.worker));
        for declared in &mut entry.declared {
            // Declarations were computed at program start; since then the store may have been
            // unavailable, or this worker expired.
            if let Ok(compiled_spec) = declared.spec.compiled() {
                declared.next_slot = compiled_spec.first(now.wall);
            }
        }
        entry
    }

    /// Re-decides declared schedules, if that depends on other workers and the set of workers has
    /// changed.
    pub(super) fn reconcile(&mut self, now: Now) -> Result<(), StoreError> {
        let Some(depends_on) = &self.membership.declarations_depend_on else { return Ok(()) };
        let limit = self.config.idle_heartbeat.saturating_mul(IDLE_HEARTBEATS);
        if self.membership.reconcile_at.is_none() && self.peers.watch.live(limit, now.mono) != *depends_on {
            self.membership.reconcile_at = Some(now.mono + RECONCILE_DELAY.min(self.config.lease));
        }
        if self.membership.reconcile_at.is_none_or(|at| now.mono < at) {
            return Ok(());
        }
        let (entry, silent) = (self.entry(now), self.peers.watch.still(limit, now.mono));
        match self.commit_one(Command::Reconcile { entry, silent }, now)? {
            Ok(answer) => self.note_reconciled(answer, now),
            Err(Rejection::WorkerGone) => self.lose_everything(),
            Err(rejection) => {
                self.membership.reconcile_at = None;
                self.membership.declarations_depend_on = None;
                self.dispatcher.emit(Notice::Advice(format!(
                    "the declared schedules could not be compared with the stored ones: {rejection}"
                )));
            }
        }
        Ok(())
    }

    fn note_reconciled(&mut self, answer: Answer, now: Now) {
        let Answer::Reconciled(report) = answer else {
            unreachable!("a registration is answered with what was decided, not {answer:?}")
        };
        self.membership.reconcile_at = None;
        let limit = self.config.idle_heartbeat.saturating_mul(IDLE_HEARTBEATS);
        let is_known = self.membership.declarations_depend_on.is_some();
        self.membership.declarations_depend_on =
            report.depends_on_peers().then(|| self.peers.watch.live(limit, now.mono));
        if !report.retired.is_empty() {
            self.scheduling.is_next_work_stale = true;
        }
        let app = || Arc::clone(&self.config.app);
        if !report.retired.is_empty() {
            self.dispatcher.emit(Notice::Retired { app: app(), schedules: report.retired });
        }
        if !report.adopted.is_empty() {
            self.dispatcher.emit(Notice::Adopted { app: app(), schedules: report.adopted });
        }
        // Report this once, not whenever another worker registers or deregisters.
        if !report.overridden.is_empty() && !is_known {
            self.dispatcher.emit(Notice::Overridden { app: app(), schedules: report.overridden });
        }
        if !report.outdated.is_empty() && !is_known {
            self.dispatcher.emit(Notice::Outdated { app: app(), schedules: report.outdated });
        }
        if !report.outdated_limits.is_empty() && !is_known {
            let names: Vec<_> = report.outdated_limits.iter().map(|name| format!("`{name}`")).collect();
            self.dispatcher.emit(Notice::Advice(format!(
                "the declarations of limits in `{}` are older than those of other live workers, which stay: {}; \
                 restart this worker with the newer code, or stop the others",
                self.config.app,
                names.join(", ")
            )));
        }
        if !report.protected.is_empty() && !is_known {
            self.dispatcher.emit(Notice::Protected { app: app(), schedules: report.protected });
        }
    }

    pub(super) fn deregister(&mut self, now: Now) -> Result<(), StoreError> {
        if self.membership.is_registered {
            self.end_hook_calls(now)?;
            // Rejected or not, this worker is deregistered.
            let _ =
                self.commit_one(Command::DeregisterWorker { worker: self.membership.worker.clone() }, now)?;
        }
        self.claims.tracked.clear();
        self.claims.early.clear();
        self.phase = Phase::Over;
        Ok(())
    }

    /// Reports that this process survived the loss of its claims.
    pub(super) fn uncount_interruptions(&mut self, now: Now) -> Result<(), StoreError> {
        if !self.claims.outlived.is_empty() {
            let command = Command::UncountInterruptions { claims: self.claims.outlived.clone() };
            let _ = self.commit_one(command, now)?;
            self.claims.outlived.clear();
        }
        Ok(())
    }

    /// Heartbeats: within the lease while holding runs; otherwise rarely, and only where other
    /// workers may look for it.
    pub(super) fn heartbeat(&mut self, now: Now) -> Result<(), StoreError> {
        if self.next_heartbeat().is_none_or(|at| now.mono < at) {
            return Ok(());
        }
        match self.commit_one(Command::Heartbeat { worker: self.membership.worker.clone() }, now)? {
            Err(Rejection::WorkerGone) => self.lose_everything(),
            Ok(_) | Err(_) => self.note_alive(now.mono),
        }
        Ok(())
    }

    /// Records that this worker was alive at `mono`.
    pub(super) fn note_alive(&mut self, mono: Duration) {
        self.membership.last_heartbeat = self.membership.last_heartbeat.max(mono);
        let micros = u64::try_from(self.membership.last_heartbeat.as_micros()).unwrap_or(u64::MAX);
        self.membership.last_alive.store(micros, Ordering::Release);
    }

    pub(super) fn next_heartbeat(&self) -> Option<Duration> {
        let interval = match (self.claims.tracked.is_empty(), self.peers.watch.has_peers()) {
            (false, _) => self.config.lease / 3,
            (true, true) => self.config.idle_heartbeat,
            (true, false) => return None,
        };
        Some(self.membership.last_heartbeat.saturating_add(interval))
    }

    /// Another worker expired this one. All claims are void; it continues as a new worker.
    pub(super) fn lose_everything(&mut self) {
        self.claims
            .outlived
            .extend(self.claims.tracked.iter().map(|(run, tracked)| (run.clone(), tracked.token)));
        let held_count = self.untrack_everything();
        self.dispatcher.emit(Notice::LeaseLost { held_count });
    }

    /// Stops all held runs and prepares to register under another id. Returns how many runs it
    /// held.
    pub(super) fn untrack_everything(&mut self) -> usize {
        let stops: Vec<Stop> = self
            .claims
            .tracked
            .iter()
            .map(|(run, tracked)| Stop {
                run: run.clone(),
                token: tracked.token,
                reason: StopReason::LeaseLost,
            })
            .collect();
        let held_count = stops.len();
        self.claims
            .permits
            .give_back(self.claims.tracked.values().filter(|tracked| tracked.holds_permit).count());
        self.claims.tracked.clear();
        self.claims.suspects.clear();
        self.claims.early.clear();
        self.claims.unacknowledged_stops.clear();
        self.claims.has_unknown = false;
        self.membership.is_registered = false;
        self.vitals.update(|signs| signs.is_registered = false);
        self.membership.declarations_depend_on = None;
        self.membership.reconcile_at = None;
        self.membership.worker = (self.membership.new_worker_id)();
        self.claims.permits.close_for(self.membership.worker.clone());
        self.peers.must_refresh = true;
        if !stops.is_empty() {
            self.dispatcher.stop(stops);
        }
        held_count
    }
}
