//! The engine of one worker: each tick settles claims, heartbeats, refreshes peers, decides slots,
//! claims runs, and starts them. It owns no thread and no clock.

mod calendars;
mod claims;
mod deadline;
mod health;
mod hooks;
mod maintenance;
mod membership;
mod peers;
mod scheduling;

use crate::calendar::Timestamp;
use crate::clock::Now;
use crate::engine::config::{EngineConfig, WorkflowConfig};
use crate::engine::dispatcher::{Dispatcher, Notice, Stop, StopReason};
use crate::engine::due_queue::DueQueue;
use crate::engine::message::Message;
use crate::engine::metrics::Metrics;
use crate::engine::permits::Permits;
use crate::engine::vitals::{Stage, Vitals};
use crate::model::WorkerId;
use crate::store::{Answer, Command, Rejection, StoreError, StoreReads, StoreWrites};
use calendars::MissingCalendars;
use claims::Claims;
use health::Health;
use hooks::Hooks;
use maintenance::Maintenance;
use membership::Membership;
use peers::Peers;
use scheduling::Scheduling;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::Duration;

/// A gap between two checks of due slots that exceeds the planned wait by more than this means that
/// this worker was not watching.
const AWAY_MIN: Duration = Duration::from_secs(1);

/// Give up deregistering after this long while the store fails; the lease then frees our runs. A
/// process that must exit cannot wait for a database that may never come back.
const DEREGISTER_TIMEOUT: Duration = Duration::from_secs(5);

/// When to tick the engine again: at whichever instant comes first, or when a message arrives.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Deadline {
    /// The deadline by the wall clock.
    pub wall: Option<Timestamp>,
    /// The deadline by the steady clock.
    pub mono: Duration,
    /// Whether the engine has deregistered and needs no further tick.
    pub is_over: bool,
}

#[derive(Copy, Clone, PartialEq, Eq, Debug)]
enum Phase {
    Working,
    Draining,
    Deregistering,
    Over,
}

/// The logic of one worker.
pub struct Engine<W, D> {
    reads: Arc<dyn StoreReads>,
    writes: W,
    dispatcher: D,
    config: EngineConfig,
    workflow_ids: Vec<Arc<str>>,
    phase: Phase,
    timers: DueQueue<Duration, u64>,
    membership: Membership,
    peers: Peers,
    scheduling: Scheduling,
    claims: Claims,
    maintenance: Maintenance,
    health: Health,
    vitals: Arc<Vitals>,
    metrics: Arc<Metrics>,
    hooks: Hooks,
    calendars: MissingCalendars,
}

impl<W: StoreWrites, D: Dispatcher> Engine<W, D> {
    /// Creates an engine that registers at its first tick. `new_worker_id` returns a fresh id for
    /// each registration.
    pub fn new(
        reads: Arc<dyn StoreReads>,
        writes: W,
        dispatcher: D,
        config: EngineConfig,
        mut new_worker_id: Box<dyn FnMut() -> WorkerId + Send>,
    ) -> Self {
        let workflow_ids: Vec<Arc<str>> = config.workflows.keys().cloned().collect();
        let code = |(id, config): (&Arc<str>, &WorkflowConfig)| (Arc::clone(id), Arc::clone(&config.code));
        let codes = config.workflows.iter().map(code).collect();
        let hooks = Hooks::new(&config);
        let worker = new_worker_id();
        let project = Arc::clone(&config.project);
        let permits = Permits::new(project, workflow_ids.clone(), config.concurrency, worker.clone());
        let permits = Arc::new(permits);
        let metrics = Arc::new(Metrics::new(workflow_ids.iter()));
        Self {
            reads,
            writes,
            dispatcher,
            config,
            workflow_ids,
            phase: Phase::Working,
            timers: DueQueue::new(),
            membership: Membership::new(worker, new_worker_id),
            peers: Peers::new(),
            scheduling: Scheduling::new(),
            claims: Claims::new(permits, codes),
            maintenance: Maintenance::default(),
            health: Health::default(),
            vitals: Arc::new(Vitals::new()),
            metrics,
            hooks,
            calendars: MissingCalendars::default(),
        }
    }

    /// The id under which this worker is registered.
    pub fn worker(&self) -> &WorkerId {
        &self.membership.worker
    }

    /// The time of the last proof of life, in microseconds of the worker's steady clock; shared,
    /// and kept up to date.
    pub fn last_alive(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.membership.last_alive)
    }

    /// The engine's vital signs; shared, and kept up to date.
    pub fn vitals(&self) -> Arc<Vitals> {
        Arc::clone(&self.vitals)
    }

    /// What this worker has committed; shared, and kept up to date.
    pub fn metrics(&self) -> Arc<Metrics> {
        Arc::clone(&self.metrics)
    }

    /// Whether this worker executes a suspect; shared, and kept up to date. While it is set,
    /// whoever records steps sends [`Message::Progressed`].
    pub fn suspect_flag(&self) -> Arc<AtomicBool> {
        self.claims.suspects.flag()
    }

    /// The worker's permits, for callers that create runs.
    pub fn permits(&self) -> Arc<Permits> {
        Arc::clone(&self.claims.permits)
    }

    /// Whether this worker is registered.
    pub fn is_registered(&self) -> bool {
        self.membership.is_registered
    }

    /// When the next held run is due to start.
    pub fn next_start(&self) -> Option<Timestamp> {
        self.claims.early.next_deadline()
    }

    /// Exercises the code path of the next start without starting anything.
    pub fn warm_up_start(&self) {
        let Some(next) = self.claims.early.iter().next() else { return };
        self.dispatcher.warm_up();
        self.writes.warm_up_start(&[(next.run.id.clone(), next.run.token)]);
    }

    /// Whether the engine is deregistering or has ended. Runs that it had dispatched but that have
    /// not started yet must not start: deregistering gives them back, and may already have done so
    /// although its reply was lost.
    pub fn is_leaving(&self) -> bool {
        matches!(self.phase, Phase::Deregistering | Phase::Over)
    }

    /// The number of held runs, and how many of them wait for their start time.
    pub fn held_count(&self) -> (usize, usize) {
        (self.claims.tracked.len(), self.claims.early.len())
    }

    /// Accepts a message; the next tick acts on it.
    pub fn receive(&mut self, message: Message, now: Now) {
        self.claims.was_added |= matches!(message, Message::Added);
        match message {
            Message::Returned { run, token } => self.free_permit(&run, token),
            Message::Blocked { run, token } => self.block(&run, token),
            Message::Unblocked { run, token } => self.unblock(&run, token),
            Message::Settled { run, token, is_accepted, leaves_work } => {
                self.free_permit(&run, token);
                if self.claims.tracked.get(&run).is_some_and(|tracked| tracked.token == token) {
                    self.claims.tracked.remove(&run);
                }
                self.scheduling.is_next_work_stale |= self.claims.suspects.release(&run, token);
                if !is_accepted {
                    self.peers.must_refresh = true;
                    self.claims.outlived.push((run, token));
                }
                self.maintenance.note_end(now.mono);
                self.scheduling.is_next_work_stale |= leaves_work;
            }
            Message::Progressed { run, token } => {
                self.scheduling.is_next_work_stale |= self.claims.suspects.release(&run, token);
            }
            Message::Fenced { run, token } => {
                self.claims.outlived.push((run.clone(), token));
                if self.claims.tracked.get(&run).is_some_and(|tracked| tracked.token == token) {
                    self.untrack(&run, token);
                    self.dispatcher.stop(vec![Stop { run, token, reason: StopReason::LeaseLost }]);
                }
            }
            Message::Claimed { run, permit } => self.accept_created(*run, permit, now),
            // No slot has moved, so the burst at the next slot need not be counted again.
            Message::Added => self.scheduling.is_next_work_stale = true,
            Message::Changed => {
                self.claims.must_look_for_held = true;
                self.scheduling.note_change();
                self.peers.must_refresh = true;
            }
            // After a rollback, another worker may own our runs, under the same tokens.
            Message::RollbackDetected => {
                let held_count = self.untrack_everything();
                self.dispatcher.emit(Notice::RollbackDetected { held_count });
            }
            Message::SetTimer { id, delay } => self.timers.insert(now.mono + delay, id),
            Message::HookCalled(call) => self.hooks.note_made(call),
            Message::HookHeld { run, token, call } => {
                let is_held = self.claims.tracked.get(&run).is_some_and(|tracked| tracked.token == token);
                self.hooks.note_held(call, is_held.then(|| self.membership.worker.clone()));
            }
            Message::Drain => {
                self.claims.permits.close();
                if self.phase == Phase::Working {
                    self.phase = Phase::Draining;
                }
            }
            Message::Deregister => {
                self.claims.permits.close();
                if self.phase != Phase::Over {
                    self.phase = Phase::Deregistering;
                    self.membership.deregistering_since.get_or_insert(now.mono);
                }
            }
        }
    }

    /// Records how long the last tick took. Ticks compute next to nothing: a long one means that
    /// the store did not answer.
    pub fn note_tick_took(&mut self, duration: Duration) {
        self.health.spent_since_look += duration;
        self.vitals.update(|signs| signs.last_beat += duration);
    }

    /// Does what is due at `now`. The work per tick is bounded: if more remains, the returned
    /// deadline is immediate.
    pub fn tick(&mut self, now: Now) -> Deadline {
        self.vitals.update(|signs| {
            signs.last_beat = now.mono;
            signs.is_ticking = true;
        });
        let deadline = self.do_what_is_due(now);
        let failing_since = self.health.failing_since;
        self.vitals.update(|signs| {
            signs.is_ticking = false;
            signs.is_registered = self.membership.is_registered;
            signs.failing_since = failing_since;
            signs.stage = match self.phase {
                Phase::Working => Stage::Working,
                Phase::Draining | Phase::Deregistering => Stage::Draining,
                Phase::Over => Stage::Over,
            };
        });
        deadline
    }

    fn do_what_is_due(&mut self, now: Now) -> Deadline {
        self.fire_due_timers(now);
        self.stop_overdue(now);
        if self.phase == Phase::Over {
            return self.next(now, false);
        }
        if self.health.retry.as_ref().is_some_and(|retry| now.mono < retry.retry_at) {
            return self.next(now, false);
        }
        let queued = self.claims.permits.queued();
        self.scheduling.is_next_work_stale |= queued > 0;
        let ticked = self.tick_with_store(now);
        if ticked.is_ok() {
            self.claims.permits.forget_queued(queued);
        }
        self.claims.permits.set_open(ticked.is_ok() && self.has_permit_to_lend(now));
        match ticked {
            Ok(has_more) => {
                self.health.last_full_tick = Some(now.mono);
                self.health.retry = None;
                self.health.failing_since = None;
                let is_over = self.phase == Phase::Over;
                if let Some(notice) = self.health.outage.note_success(now.mono, is_over) {
                    self.dispatcher.emit(notice);
                }
                self.next(now, has_more)
            }
            Err(error) => {
                self.note_failure_of_store(&error, now);
                if self
                    .membership
                    .deregistering_since
                    .is_some_and(|since| now.mono >= since + DEREGISTER_TIMEOUT)
                {
                    self.phase = Phase::Over;
                }
                self.next(now, false)
            }
        }
    }

    fn tick_with_store(&mut self, now: Now) -> Result<bool, StoreError> {
        let planned = self.config.poll_interval + AWAY_MIN;
        if self.health.last_full_tick.is_some_and(|last| now.mono > last + planned) {
            // While we were stopped, or the store was unavailable, peers may have been unable to
            // heartbeat.
            self.peers.watch.restart(now.mono);
        }
        if self.phase == Phase::Deregistering {
            self.deregister(now)?;
            return Ok(false);
        }
        if self.phase == Phase::Draining {
            self.release_early_claims(now)?;
        }
        self.start_early_claims(now)?;
        if !self.membership.is_registered {
            self.register(now)?;
        }
        self.heartbeat(now)?;
        if !self.membership.is_registered {
            return Ok(true);
        }
        self.end_hook_calls(now)?;
        self.uncount_interruptions(now)?;
        self.claims.has_unknown |= self.claims.permits.take_unknown();
        self.find_unknown_claims(now)?;
        if self.phase == Phase::Draining {
            self.release_early_claims(now)?;
        }
        self.poll(now)?;
        self.expire_silent_peers(now)?;
        let mut has_more = false;
        if self.phase == Phase::Working {
            self.reconcile(now)?;
            if !self.membership.is_registered {
                return Ok(true);
            }
            self.notice_absence(now);
            let claims_at_once = self.claims_at_once();
            if !claims_at_once {
                self.refresh_next_work(now)?;
            }
            has_more |= self.call_hooks(now)?;
            if !self.membership.is_registered {
                return Ok(true);
            }
            // Claim queued runs first: a slot that comes due now must not take a permit that older
            // work waits for.
            has_more |= self.claim_waiting(claims_at_once, now)?;
            if !self.membership.is_registered {
                return Ok(true);
            }
            has_more |= self.fire_due(now)?;
            if !has_more {
                self.tend_calendars(now)?;
                has_more = self.recompute(now)? || self.prune(now)? || self.wake_stuck_parents(now)?;
            }
            self.health.last_look = Some(now);
            self.health.spent_since_look = Duration::ZERO;
        }
        self.start_early_claims(now)?;
        self.refresh_next_work(now)?;
        if self.phase == Phase::Working {
            // Decisions of this tick may have recorded hook calls.
            has_more |= self.call_hooks(now)?;
        }
        Ok(has_more | self.estimate_burst(now)?)
    }

    fn fire_due_timers(&mut self, now: Now) {
        let mut fired = Vec::new();
        while let Some(id) = self.timers.pop_due(now.mono) {
            fired.push(id);
        }
        if !fired.is_empty() {
            self.dispatcher.fire_timers(fired);
        }
    }

    fn commit_one(&self, command: Command, now: Now) -> Result<Result<Answer, Rejection>, StoreError> {
        let mut outcomes = self.writes.commit(&[command], now.wall)?;
        outcomes.pop().ok_or_else(|| StoreError::Unavailable("the store gave no answer".to_owned()))
    }
}
