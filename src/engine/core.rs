//! One turn of the engine: settle, beat, watch, decide, claim, start. Owns no thread and no clock.

use super::config::{EngineConfig, WorkflowConfig};
use super::dispatcher::{Dispatcher, MissedSlots, Notice, Stop, StopReason};
use super::due_queue::DueQueue;
use super::message::Message;
use super::outage::OutageLog;
use super::peers::{Limits, PeerWatch};
use super::permits::{Permit, Permits, Reserved};
use super::stuck_parents::StuckParents;
use super::suspects::SuspectWatch;
use crate::calendar::Timestamp;
use crate::clock::Now;
use crate::model::spec::{CompiledSpec, SpecError};
use crate::model::{
    Admission, ClaimedRun, Completion, FirePlan, Json, Peer, Run, RunId, RunState, Schedule, ScheduleStatus,
    SlotOutcome, Token, WorkerEntry, WorkerId,
};
use crate::plan::{Backoff, Situation, plan_fire, recomputed};
use crate::store::{
    Answer, Codes, Command, DueSchedule, NextWork, Page, Patch, Rejection, RunFilter, ScheduleFilter, Shard,
    Store, StoreError, Suspects,
};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// A longer gap than this between two looks at what is due, beyond the planned wait, means that nobody was watching.
const AWAY_MIN: Duration = Duration::from_secs(1);

/// How long signing out is tried while the store fails. What is held then is free when the lease has run out; a process
/// that is to end must not wait for a database that may never come back.
const DEREGISTER_TIMEOUT: Duration = Duration::from_secs(5);

/// A worker without runs counts as dead when it has been still for so many of its beats. Its row is removed then; not much
/// later, since no one may live long enough to see that where workers come and go quickly.
const IDLE_HEARTBEATS: u32 = 3;

/// How long after a worker has left others decide again about the schedules that it declared: it may only be
/// restarting.
const RECONCILE_DELAY: Duration = Duration::from_secs(15);

/// How often finished runs are swept out, where any has ended meanwhile. Not sooner after the start either: a machine
/// that boots with a wrong clock has been put right by then, and nothing was thrown away for being "old".
const PRUNE_INTERVAL: Duration = Duration::from_secs(3_600);

/// Runs that are handed to the application at a time: the first of a crowd begin while the last are still on the way.
const START_MAX: usize = 128;

/// Most slots that are counted to size up a crowd.
const BURST_MAX: usize = 100_000;

/// Schedules that are looked over at once when slots may be wrong; beyond, a batch at a time, with a pause. A million must
/// not keep a core busy at every start.
const RECOMPUTE_BURST: usize = 5_000;

/// See [`RECOMPUTE_BURST`].
const RECOMPUTE_PAUSE: Duration = Duration::from_secs(1);

/// How often held runs are looked for while other things change. The first look comes at once.
const HELD_LOOK_INTERVAL: Duration = Duration::from_secs(5);

/// Compiled specifications kept; past it all are dropped (a million users have few distinct specifications).
const COMPILED_SPECS_MAX: usize = 20_000;

/// When the engine wants to be turned again. Whichever comes first; a message is a reason too.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Deadline {
    /// When the wall clock says so.
    pub wall: Option<Timestamp>,
    /// When the steady clock says so.
    pub mono: Duration,
    /// It has signed out: never again.
    pub is_over: bool,
}

/// A run under way here.
#[derive(Debug)]
struct Tracked {
    token: Token,
    /// Whether it takes up one of the places; no longer when its handler has returned and only the write is missing.
    holds_permit: bool,
    /// Its handler waits for another run, or for a long time: its permit is free meanwhile.
    is_blocked: bool,
    /// Its handler knows that somebody asked it to stop.
    is_stop_sent: bool,
}

#[derive(Copy, Clone, PartialEq, Eq, Debug)]
enum Phase {
    Working,
    Draining,
    Deregistering,
    Over,
}

/// A walk over all schedules.
#[derive(Debug, Default)]
struct Recomputation {
    /// The last one looked at.
    after: Option<String>,
    seen_count: usize,
    changed_count: u64,
    /// Not before.
    next: Duration,
}

/// The next slot, and how far ahead of it those that come due then must be claimed.
#[derive(Copy, Clone, Debug)]
struct Burst {
    slot: Timestamp,
    lead: Duration,
}

/// Decisions about a batch of due schedules.
#[derive(Debug, Default)]
struct Decided {
    commands: Vec<Command>,
    /// Those that they are about, in order.
    schedules: Vec<Schedule>,
    /// Places for the runs that they claim.
    permits: Option<Reserved>,
    /// There may be more that is due.
    is_full: bool,
}

#[derive(Debug)]
struct RetryState {
    retry_at: Duration,
    failure_count: u32,
}

/// The logic of one worker.
#[expect(clippy::struct_excessive_bools, reason = "independent facts, not states of one machine")]
pub struct Engine<S, D> {
    store: S,
    dispatcher: D,
    config: EngineConfig,
    workflow_ids: Vec<Arc<str>>,
    new_worker_id: Box<dyn FnMut() -> WorkerId + Send>,
    worker: WorkerId,
    is_registered: bool,
    phase: Phase,
    tracked: BTreeMap<RunId, Tracked>,
    suspects: SuspectWatch,
    codes: Arc<Codes>,
    /// Held runs are to be looked for: this worker has just registered, or something has changed since the last look.
    must_look_for_held: bool,
    /// Not before.
    next_look_for_held: Duration,
    /// Claims that others may have counted as interrupted, though this process lives.
    outlived: Vec<(RunId, Token)>,
    /// Its places, some of which others may take for runs that they create.
    permits: Arc<Permits>,
    /// Runs of ours that somebody asked to stop, and that we have not heard of yet.
    unacknowledged_stops: BTreeSet<RunId>,
    /// Claimed ahead of their time.
    early_claims: DueQueue<Timestamp, ClaimedRun>,
    /// Ends of attempts.
    timeouts: DueQueue<Duration, (RunId, Token)>,
    timers: DueQueue<Duration, u64>,
    watch: PeerWatch,
    compiled_specs: HashMap<Json, Arc<CompiledSpec>>,
    next_work: NextWork,
    is_next_work_stale: bool,
    burst: Option<Burst>,
    /// What is looked at first, where others are there too.
    shard: Shard,
    /// Its own part is done, and that of others isn't.
    is_helping: bool,
    must_refresh_peers: bool,
    change_mark: Option<u64>,
    last_poll: Option<Duration>,
    last_heartbeat: Duration,
    /// The same, in microseconds, for those who are about to execute something.
    last_alive: Arc<AtomicU64>,
    /// When to sweep next; the first turn sets it.
    next_prune: Option<Duration>,
    has_ended_runs: bool,
    /// Whether stored next slots are being looked over, and how far that has come.
    recomputation: Option<Recomputation>,
    stuck_parents: StuckParents,
    last_look: Option<Now>,
    /// How much of the time since then went by inside turns.
    spent_since_look: Duration,
    /// End of the last turn in which the store did all that was asked.
    last_full_tick: Option<Duration>,
    watching_since: Timestamp,
    retry: Option<RetryState>,
    /// What was logged about the store, and what is still to be logged.
    outage: OutageLog,
    /// A commit that would have claimed runs failed, and may have happened all the same.
    has_unknown_claims: bool,
    is_lost: bool,
    deregistering_since: Option<Duration>,
    /// Where it depends on other workers which declared schedules are retired: those that were live at the last
    /// decision.
    declarations_depend_on: Option<BTreeSet<WorkerId>>,
    /// When to decide again.
    reconcile_at: Option<Duration>,
}

impl<S: Store, D: Dispatcher> Engine<S, D> {
    /// An engine that signs in at its first turn. `new_worker_id` gives a fresh id whenever it has to sign in.
    pub fn new(
        store: S,
        dispatcher: D,
        config: EngineConfig,
        mut new_worker_id: Box<dyn FnMut() -> WorkerId + Send>,
    ) -> Self {
        let workflow_ids: Vec<Arc<str>> = config.workflows.keys().cloned().collect();
        let code = |(id, config): (&Arc<str>, &WorkflowConfig)| (Arc::clone(id), Arc::clone(&config.code));
        let codes = config.workflows.iter().map(code).collect();
        let worker = new_worker_id();
        let project = Arc::clone(&config.project);
        let permits = Permits::new(project, workflow_ids.clone(), config.concurrency, worker.clone());
        Self {
            store,
            dispatcher,
            config,
            workflow_ids,
            new_worker_id,
            worker,
            is_registered: false,
            phase: Phase::Working,
            tracked: BTreeMap::new(),
            suspects: SuspectWatch::default(),
            codes: Arc::new(codes),
            must_look_for_held: false,
            next_look_for_held: Duration::ZERO,
            outlived: Vec::new(),
            permits: Arc::new(permits),
            unacknowledged_stops: BTreeSet::new(),
            early_claims: DueQueue::new(),
            timeouts: DueQueue::new(),
            timers: DueQueue::new(),
            watch: PeerWatch::default(),
            compiled_specs: HashMap::new(),
            next_work: NextWork::default(),
            is_next_work_stale: true,
            burst: None,
            shard: Shard::WHOLE,
            is_helping: false,
            must_refresh_peers: true,
            change_mark: None,
            last_poll: None,
            last_heartbeat: Duration::ZERO,
            last_alive: Arc::default(),
            next_prune: None,
            has_ended_runs: false,
            recomputation: None,
            stuck_parents: StuckParents::default(),
            last_look: None,
            spent_since_look: Duration::ZERO,
            last_full_tick: None,
            watching_since: Timestamp::MAX,
            retry: None,
            outage: OutageLog::default(),
            has_unknown_claims: false,
            is_lost: false,
            deregistering_since: None,
            declarations_depend_on: None,
            reconcile_at: None,
        }
    }

    /// The id that it is signed in with.
    pub fn worker(&self) -> &WorkerId {
        &self.worker
    }

    /// When it last showed that it lives, in microseconds of its steady clock; shared, and kept up to date.
    pub fn last_alive(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.last_alive)
    }

    /// Whether it executes a suspect; shared, and kept up to date. Those who record steps then send
    /// [`Message::Progressed`].
    pub fn suspect_flag(&self) -> Arc<AtomicBool> {
        self.suspects.flag()
    }

    /// Its places, for those who create runs.
    pub fn permits(&self) -> Arc<Permits> {
        Arc::clone(&self.permits)
    }

    /// Whether it has signed in.
    pub fn is_registered(&self) -> bool {
        self.is_registered
    }

    /// When the next of the runs that it holds is to start.
    pub fn next_start(&self) -> Option<Timestamp> {
        self.early_claims.next_deadline()
    }

    /// Goes through what the next start will need, without starting anything.
    pub fn warm_up_start(&self) {
        let Some(next) = self.early_claims.iter().next() else { return };
        self.dispatcher.warm_up();
        self.store.warm_up_start(&[(next.run.id.clone(), next.run.token)]);
    }

    /// Whether it has deregistered, or given that up. What it had sent to be started by then is not to be started.
    pub fn is_over(&self) -> bool {
        self.phase == Phase::Over
    }

    /// Runs that it holds, and those of them that wait for their instant.
    pub fn held_count(&self) -> (usize, usize) {
        (self.tracked.len(), self.early_claims.len())
    }

    /// Takes in a message; what follows from it happens in the next turn.
    pub fn receive(&mut self, message: Message, now: Now) {
        match message {
            Message::Returned { run, token } => self.free_permit(&run, token),
            Message::Blocked { run, token } => self.block(&run, token),
            Message::Unblocked { run, token } => self.unblock(&run, token),
            Message::Settled { run, token, is_accepted, leaves_work } => {
                self.free_permit(&run, token);
                if self.tracked.get(&run).is_some_and(|tracked| tracked.token == token) {
                    self.tracked.remove(&run);
                }
                self.is_next_work_stale |= self.suspects.release(&run, token);
                if !is_accepted {
                    self.must_refresh_peers = true;
                    self.outlived.push((run, token));
                }
                self.has_ended_runs = true;
                self.is_next_work_stale |= leaves_work;
            }
            Message::Progressed { run, token } => {
                self.is_next_work_stale |= self.suspects.release(&run, token);
            }
            Message::Fenced { run, token } => {
                self.outlived.push((run.clone(), token));
                if self.tracked.get(&run).is_some_and(|tracked| tracked.token == token) {
                    self.untrack(&run, token);
                    self.dispatcher.stop(vec![Stop { run, token, reason: StopReason::LeaseLost }]);
                }
            }
            Message::Claimed { run, permit } => self.accept_created(*run, permit, now),
            // No slot has moved: who comes due next need not be counted again.
            Message::Added => self.is_next_work_stale = true,
            Message::Changed => {
                self.must_look_for_held = true;
                self.burst = None;
                self.is_next_work_stale = true;
                self.must_refresh_peers = true;
            }
            // What we hold, and under which token, may be somebody else's in what the store is now.
            Message::RollbackDetected => {
                let held_count = self.untrack_everything();
                self.dispatcher.emit(Notice::RollbackDetected { held_count });
            }
            Message::SetTimer { id, delay } => self.timers.insert(now.mono + delay, id),
            Message::Drain => {
                self.permits.close();
                if self.phase == Phase::Working {
                    self.phase = Phase::Draining;
                }
            }
            Message::Deregister => {
                self.permits.close();
                if self.phase != Phase::Over {
                    self.phase = Phase::Deregistering;
                    self.deregistering_since.get_or_insert(now.mono);
                }
            }
        }
    }

    /// Takes in how long the last turn was. Turns compute next to nothing: if one was long, the store did not answer.
    pub fn note_tick_took(&mut self, duration: Duration) {
        self.spent_since_look += duration;
    }

    /// Does what is due at `now`. Bounded work: with more left to do, it asks to be turned again at once.
    pub fn tick(&mut self, now: Now) -> Deadline {
        self.fire_due_timers(now);
        self.stop_overdue(now);
        if self.phase == Phase::Over {
            return self.next(now, false);
        }
        if self.retry.as_ref().is_some_and(|retry| now.mono < retry.retry_at) {
            return self.next(now, false);
        }
        let queued = self.permits.queued();
        self.is_next_work_stale |= queued > 0;
        let ticked = self.tick_with_store(now);
        if ticked.is_ok() {
            self.permits.forget_queued(queued);
        }
        self.permits.set_open(ticked.is_ok() && self.has_permit_to_lend(now));
        match ticked {
            Ok(has_more) => {
                self.last_full_tick = Some(now.mono);
                self.retry = None;
                let is_over = self.phase == Phase::Over;
                if let Some(notice) = self.outage.note_success(now.mono, is_over) {
                    self.dispatcher.emit(notice);
                }
                self.next(now, has_more)
            }
            Err(error) => {
                self.note_failure_of_store(&error, now);
                if self.deregistering_since.is_some_and(|since| now.mono >= since + DEREGISTER_TIMEOUT) {
                    self.phase = Phase::Over;
                }
                self.next(now, false)
            }
        }
    }

    fn tick_with_store(&mut self, now: Now) -> Result<bool, StoreError> {
        let planned = self.config.poll_interval + AWAY_MIN;
        if self.last_full_tick.is_some_and(|last| now.mono > last + planned) {
            // While we were stopped, or the store was away, nobody may have been able to beat.
            self.watch.restart(now.mono);
        }
        if self.phase == Phase::Deregistering {
            self.deregister(now)?;
            return Ok(false);
        }
        if self.phase == Phase::Draining {
            self.release_early_claims(now)?;
        }
        self.start_early_claims(now)?;
        if !self.is_registered {
            self.register(now)?;
        }
        self.heartbeat(now)?;
        if !self.is_registered {
            return Ok(true);
        }
        self.uncount_interruptions(now)?;
        self.has_unknown_claims |= self.permits.take_unknown();
        self.find_unknown_claims(now)?;
        if self.phase == Phase::Draining {
            self.release_early_claims(now)?;
        }
        self.poll(now)?;
        self.expire_silent_peers(now)?;
        let mut has_more = false;
        if self.phase == Phase::Working {
            self.reconcile(now)?;
            if !self.is_registered {
                return Ok(true);
            }
            self.notice_absence(now);
            // First what has waited longest: a slot that comes due now must not take the place that became free.
            has_more |= self.claim_waiting(now)?;
            if !self.is_registered {
                return Ok(true);
            }
            has_more |= self.fire_due(now)?;
            if !has_more {
                has_more = self.recompute(now)? || self.prune(now)? || self.wake_stuck_parents(now)?;
            }
            self.last_look = Some(now);
            self.spent_since_look = Duration::ZERO;
        }
        self.start_early_claims(now)?;
        self.refresh_next_work()?;
        Ok(has_more | self.estimate_burst(now)?)
    }

    // ---- being a worker ------------------------------------------------------------------------------------------

    fn register(&mut self, now: Now) -> Result<(), StoreError> {
        let entry = self.entry(now);
        let answer = self.commit_one(Command::RegisterWorker(entry), now)?.map_err(|rejection| {
            // Signing in asks for nothing that can be refused; if it is, no later try will fare better.
            StoreError::Unavailable(format!("the worker could not sign in: {rejection}"))
        })?;
        self.is_registered = true;
        self.note_reconciled(answer, now);
        self.must_look_for_held = true;
        self.dispatcher.emit(Notice::Registered(self.worker.clone()));
        self.note_alive(now.mono);
        self.recomputation = Some(Recomputation::default());
        self.stuck_parents.restart();
        self.watching_since = self.watching_since.min(now.wall);
        self.is_next_work_stale = true;
        self.must_refresh_peers = true;
        Ok(())
    }

    /// How it registers.
    fn entry(&mut self, now: Now) -> Box<WorkerEntry> {
        let mut entry = Box::new(self.config.entry(&self.worker));
        for declared in &mut entry.declared {
            // Worked out when the program started; since then a store may have been away, or we buried.
            if let Ok(compiled_spec) = self.compiled_spec(&declared.spec) {
                declared.next_slot = compiled_spec.first(now.wall);
            }
        }
        entry
    }

    /// Decides again about declared schedules, where that depends on other workers and they are no longer the same.
    fn reconcile(&mut self, now: Now) -> Result<(), StoreError> {
        let Some(depends_on) = &self.declarations_depend_on else { return Ok(()) };
        let limit = self.config.idle_heartbeat.saturating_mul(IDLE_HEARTBEATS);
        if self.reconcile_at.is_none() && self.watch.live(limit, now.mono) != *depends_on {
            self.reconcile_at = Some(now.mono + RECONCILE_DELAY.min(self.config.lease));
        }
        if self.reconcile_at.is_none_or(|at| now.mono < at) {
            return Ok(());
        }
        let (entry, silent) = (self.entry(now), self.watch.still(limit, now.mono));
        match self.commit_one(Command::Reconcile { entry, silent }, now)? {
            Ok(answer) => self.note_reconciled(answer, now),
            Err(Rejection::WorkerGone) => self.lose_everything(),
            Err(rejection) => {
                self.reconcile_at = None;
                self.declarations_depend_on = None;
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
        self.reconcile_at = None;
        let limit = self.config.idle_heartbeat.saturating_mul(IDLE_HEARTBEATS);
        let is_known = self.declarations_depend_on.is_some();
        self.declarations_depend_on = report.depends_on_peers().then(|| self.watch.live(limit, now.mono));
        if !report.retired.is_empty() {
            self.is_next_work_stale = true;
        }
        let app = || Arc::clone(&self.config.app);
        if !report.retired.is_empty() {
            self.dispatcher.emit(Notice::Retired { app: app(), schedules: report.retired });
        }
        if !report.adopted.is_empty() {
            self.dispatcher.emit(Notice::Adopted { app: app(), schedules: report.adopted });
        }
        // Said once, not whenever one of the others comes or goes.
        if !report.overridden.is_empty() && !is_known {
            self.dispatcher.emit(Notice::Overridden { app: app(), schedules: report.overridden });
        }
        if !report.outdated.is_empty() && !is_known {
            self.dispatcher.emit(Notice::Outdated { app: app(), schedules: report.outdated });
        }
        if !report.protected.is_empty() && !is_known {
            self.dispatcher.emit(Notice::Protected { app: app(), schedules: report.protected });
        }
    }

    fn deregister(&mut self, now: Now) -> Result<(), StoreError> {
        if self.is_registered {
            // Refused or not, we are out.
            let _ = self.commit_one(Command::DeregisterWorker { worker: self.worker.clone() }, now)?;
        }
        self.tracked.clear();
        self.early_claims.clear();
        self.phase = Phase::Over;
        Ok(())
    }

    /// Says of claims that were lost that this process did not die with them.
    fn uncount_interruptions(&mut self, now: Now) -> Result<(), StoreError> {
        if !self.outlived.is_empty() {
            let command = Command::UncountInterruptions { claims: self.outlived.clone() };
            let _ = self.commit_one(command, now)?;
            self.outlived.clear();
        }
        Ok(())
    }

    /// Heartbeat: within the lease while it holds runs; else rarely, and only where others may look for it.
    fn heartbeat(&mut self, now: Now) -> Result<(), StoreError> {
        if self.next_heartbeat().is_none_or(|at| now.mono < at) {
            return Ok(());
        }
        match self.commit_one(Command::Heartbeat { worker: self.worker.clone() }, now)? {
            Err(Rejection::WorkerGone) => self.lose_everything(),
            Ok(_) | Err(_) => self.note_alive(now.mono),
        }
        Ok(())
    }

    /// It lived at `mono`.
    fn note_alive(&mut self, mono: Duration) {
        self.last_heartbeat = self.last_heartbeat.max(mono);
        let micros = u64::try_from(self.last_heartbeat.as_micros()).unwrap_or(u64::MAX);
        self.last_alive.store(micros, Ordering::Release);
    }

    fn next_heartbeat(&self) -> Option<Duration> {
        let interval = match (self.tracked.is_empty(), self.watch.has_peers()) {
            (false, _) => self.config.lease / 3,
            (true, true) => self.config.idle_heartbeat,
            (true, false) => return None,
        };
        Some(self.last_heartbeat.saturating_add(interval))
    }

    /// Somebody took us for dead. All claims are void; we go on as a new worker.
    fn lose_everything(&mut self) {
        self.outlived.extend(self.tracked.iter().map(|(run, tracked)| (run.clone(), tracked.token)));
        let held_count = self.untrack_everything();
        self.dispatcher.emit(Notice::LeaseLost { held_count });
    }

    /// Stops all that it holds, and is to sign in under another id; how many runs it held.
    fn untrack_everything(&mut self) -> usize {
        let stops: Vec<Stop> = self
            .tracked
            .iter()
            .map(|(run, tracked)| Stop {
                run: run.clone(),
                token: tracked.token,
                reason: StopReason::LeaseLost,
            })
            .collect();
        let held_count = stops.len();
        self.permits.give_back(self.tracked.values().filter(|tracked| tracked.holds_permit).count());
        self.tracked.clear();
        self.suspects.clear();
        self.early_claims.clear();
        self.unacknowledged_stops.clear();
        self.has_unknown_claims = false;
        self.is_registered = false;
        self.declarations_depend_on = None;
        self.reconcile_at = None;
        self.worker = (self.new_worker_id)();
        self.permits.close_for(self.worker.clone());
        self.must_refresh_peers = true;
        if !stops.is_empty() {
            self.dispatcher.stop(stops);
        }
        held_count
    }

    // ---- noticing what others did --------------------------------------------------------------------------------

    fn poll(&mut self, now: Now) -> Result<(), StoreError> {
        if self.last_poll.is_none_or(|last| now.mono >= last + self.config.poll_interval) {
            self.last_poll = Some(now.mono);
            let mark = self.store.change_mark()?;
            if self.change_mark != Some(mark) {
                self.must_look_for_held = true;
                self.change_mark = Some(mark);
                self.burst = None;
                self.is_next_work_stale = true;
                self.must_refresh_peers = true;
            }
        }
        if self.must_refresh_peers {
            let peers = self.store.peers(&self.config.project)?;
            self.watch.observe(&self.worker, &peers, now.mono);
            self.shard = shard_of(&self.worker, &peers, &self.workflow_ids);
            if !self.tracked.is_empty() || self.permits.is_in_use() {
                self.pass_on_cancellations()?;
            }
            self.must_refresh_peers = false;
        }
        Ok(())
    }

    fn pass_on_cancellations(&mut self) -> Result<(), StoreError> {
        let mut stops = Vec::new();
        self.unacknowledged_stops.clear();
        for run in self.store.cancel_requests(&self.worker)? {
            match self.tracked.get_mut(&run) {
                Some(tracked) if tracked.is_stop_sent => {}
                Some(tracked) => {
                    tracked.is_stop_sent = true;
                    stops.push(Stop { run, token: tracked.token, reason: StopReason::Cancelled });
                }
                None => _ = self.unacknowledged_stops.insert(run),
            }
        }
        if !stops.is_empty() {
            self.dispatcher.stop(stops);
        }
        Ok(())
    }

    fn expire_silent_peers(&mut self, now: Now) -> Result<(), StoreError> {
        for silent in self.watch.silent(self.config.lease, now.mono) {
            let command = Command::ExpireWorker {
                worker: silent.worker.clone(),
                heartbeat: silent.heartbeat,
                shares_process: silent.shares_process,
            };
            let outcome = self.commit_one(command, now)?;
            self.watch.forget(&silent.worker);
            self.must_refresh_peers = true;
            if let Ok(Answer::Count(run_count)) = outcome {
                self.is_next_work_stale = true;
                self.dispatcher.emit(Notice::TookOver { worker: silent.name, run_count });
            }
        }
        self.expire_idle(now)
    }

    /// Removes the rows of workers that died without runs. A worker that is alive after all registers again.
    fn expire_idle(&mut self, now: Now) -> Result<(), StoreError> {
        let silent = self.watch.silent_idle(self.expiry_limits().idle, now.mono);
        if silent.is_empty() {
            return Ok(());
        }
        let expire = |(worker, heartbeat): &(WorkerId, i64)| Command::ExpireWorker {
            worker: worker.clone(),
            heartbeat: *heartbeat,
            shares_process: false,
        };
        let commands: Vec<Command> = silent.iter().map(expire).collect();
        for outcome in self.store.commit(&commands, now.wall)? {
            // It has shown that it lives, or claimed a run.
            self.must_refresh_peers |= outcome.is_err();
        }
        for (worker, _) in &silent {
            self.watch.forget(worker);
        }
        Ok(())
    }

    fn expiry_limits(&self) -> Limits {
        // What is seen of a beat is as old as the last poll, and the other one finds its peers by polling, too.
        let unseen = self.config.poll_interval.saturating_mul(2);
        let idle = self.config.idle_heartbeat.saturating_mul(IDLE_HEARTBEATS).saturating_add(unseen);
        Limits { lease: self.config.lease, idle }
    }

    /// A machine that slept, a process that was stopped, a store that could not be read: slots of that time had
    /// nobody to run them, and the catch-up policy decides.
    fn notice_absence(&mut self, now: Now) {
        let Some(last) = self.last_look else { return };
        let planned = self.config.poll_interval;
        let away = Duration::from_micros(
            u64::try_from(now.wall.as_micros().saturating_sub(last.wall.as_micros())).unwrap_or(0),
        );
        // By as much as the wall went on beyond the steady clock it was set forward, or the machine slept.
        let jumped = away.saturating_sub(now.mono.saturating_sub(last.mono));
        if away > planned + AWAY_MIN || jumped > AWAY_MIN {
            self.watching_since = now.wall;
            // Said in its place, where the store was in trouble: that it works again.
            if self.spent_since_look >= away / 2 {
                self.dispatcher.emit(Notice::StoreStalled(away));
            } else if self.retry.is_none() {
                self.dispatcher.emit(Notice::WasAway(away));
            }
        } else if now.wall < last.wall {
            // The clock was set back; we have been watching since before this time, whatever it says.
            self.watching_since = self.watching_since.min(now.wall);
            self.recomputation = Some(Recomputation::default());
        }
    }

    /// Throws out what is older than the retention, a small batch at a time. Whether there is more.
    fn prune(&mut self, now: Now) -> Result<bool, StoreError> {
        let Some(retention) = self.config.retention else { return Ok(false) };
        let due = *self.next_prune.get_or_insert(now.mono + PRUNE_INTERVAL);
        if now.mono < due || !self.has_ended_runs {
            return Ok(false);
        }
        let age_us = i64::try_from(retention.as_micros()).unwrap_or(i64::MAX);
        let command = Command::Prune {
            project: Arc::clone(&self.config.project),
            before: Timestamp::from_micros(now.wall.as_micros().saturating_sub(age_us)),
            keep: self.config.retention_keep,
            limit: self.config.batch_max,
        };
        let pruned = self.commit_one(command, now)?;
        if matches!(pruned, Ok(Answer::Count(count)) if count >= self.config.batch_max as u64) {
            return Ok(true);
        }
        self.next_prune = Some(now.mono + PRUNE_INTERVAL);
        self.has_ended_runs = false;
        Ok(false)
    }

    /// Wakes parents whose child has ended and did not wake them. Whether any can be claimed now.
    fn wake_stuck_parents(&mut self, now: Now) -> Result<bool, StoreError> {
        let limit = self.config.batch_max;
        let woken = self.stuck_parents.look(&self.store, &self.config.project, limit, now)?;
        self.is_next_work_stale |= woken.on_page > 0;
        if let Some(count) = woken.in_all {
            self.dispatcher.emit(Notice::WokeParents(count));
        }
        Ok(woken.on_page > 0)
    }

    fn refresh_next_work(&mut self) -> Result<(), StoreError> {
        if self.is_next_work_stale {
            self.next_work = self.store.next_work(&self.config.project, &self.workflow_ids)?;
            self.is_next_work_stale = false;
        }
        Ok(())
    }

    // ---- slots ---------------------------------------------------------------------------------------------------

    /// Finds out how many slots come next at once: a crowd has to be claimed earlier than the usual lead if the last
    /// is to start when it is due. Whether it is time for that already.
    fn estimate_burst(&mut self, now: Now) -> Result<bool, StoreError> {
        let (lead, lead_max) = (self.config.lead, self.config.lead_max);
        let Some(slot) = self.next_work.slot.filter(|_| self.phase == Phase::Working) else {
            return Ok(false);
        };
        let is_near = slot > now.wall.saturating_add(lead) && slot <= now.wall.saturating_add(lead_max);
        if !is_near || self.burst.is_some_and(|burst| burst.slot == slot) {
            return Ok(false);
        }
        let count = self.store.due_count(&self.config.project, &self.workflow_ids, slot, BURST_MAX)?;
        let needed = self.config.lead_per_slot.saturating_mul(u32::try_from(count).unwrap_or(u32::MAX));
        let burst = Burst { slot, lead: needed.clamp(lead, lead_max) };
        self.burst = Some(burst);
        Ok(slot <= now.wall.saturating_add(burst.lead))
    }

    /// Whether held runs are due before another batch would be committed: they must not wait for it.
    fn is_about_to_start(&self, now: Timestamp) -> bool {
        let batch_max = u32::try_from(self.config.batch_max).unwrap_or(u32::MAX);
        let batch = self.config.lead_per_slot.saturating_mul(batch_max).min(self.config.lead);
        self.early_claims.next_deadline().is_some_and(|at| at <= now.saturating_add(batch))
    }

    /// Up to when slots are decided at `now`.
    fn horizon(&self, now: Timestamp) -> Timestamp {
        self.horizon_with_lead(now, |lead| lead)
    }

    fn horizon_with_lead(&self, now: Timestamp, part: impl Fn(Duration) -> Duration) -> Timestamp {
        let usual = now.saturating_add(part(self.config.lead));
        match self.burst {
            Some(burst) if burst.slot <= now.saturating_add(part(burst.lead)) => usual.max(burst.slot),
            _ => usual,
        }
    }

    /// Decides about one batch of due schedules. Whether there may be more.
    fn fire_due(&mut self, now: Now) -> Result<bool, StoreError> {
        if self.is_about_to_start(now.wall) {
            return Ok(false);
        }
        let horizon = self.horizon(now.wall);
        if !self.is_next_work_stale && self.next_work.slot.is_none_or(|slot| slot > horizon) {
            return Ok(false);
        }
        // The places are free for others when the runs that were claimed have taken theirs.
        let Decided { commands, schedules, permits: _places, is_full } = self.decide_batch(now, horizon)?;
        // Whatever was due here a moment ago may have been decided elsewhere: what is known of the next slot is old.
        self.is_next_work_stale = true;
        if commands.is_empty() {
            return Ok(false);
        }
        self.has_unknown_claims = true;
        let outcomes = self.store.commit(&commands, now.wall)?;
        self.has_unknown_claims = false;
        let mut has_stale = false;
        let mut has_cancelled = false;
        let mut claimed = Vec::with_capacity(commands.len());
        let mut missed = Vec::new();
        for ((command, schedule), outcome) in commands.iter().zip(&schedules).zip(outcomes) {
            match outcome {
                Ok(Answer::Claimed(mut runs)) => {
                    claimed.append(&mut runs);
                    if matches!(command, Command::Fire { plan, .. } if plan.cancel_unfinished) {
                        // What it cancels may run here: the next turn, which is now, tells it so.
                        self.must_refresh_peers = true;
                        has_cancelled = true;
                    }
                    missed.extend(missed_by(command, schedule));
                }
                Ok(_) => {}
                Err(Rejection::WorkerGone) => {
                    self.lose_everything();
                    return Ok(true);
                }
                Err(Rejection::Stale) => has_stale = true,
                Err(rejection) => self.set_aside(command, &rejection, now)?,
            }
        }
        self.accept_claims(claimed, now);
        if !missed.is_empty() {
            self.dispatcher.emit(Notice::Missed(missed));
        }
        Ok(is_full || has_stale || has_cancelled)
    }

    /// Decides about a batch of due schedules: of our share, or else of all. What others should have decided is left to
    /// them for half of the time that there is; then they are gone, or slow.
    fn decide_batch(&mut self, now: Now, horizon: Timestamp) -> Result<Decided, StoreError> {
        if self.shard == Shard::WHOLE {
            return self.decide_shard(Shard::WHOLE, now, horizon);
        }
        if !self.is_helping {
            let own = self.decide_shard(self.shard, now, horizon)?;
            if !own.commands.is_empty() {
                return Ok(own);
            }
        }
        let early = self.horizon_with_lead(now.wall, |lead| lead / 2);
        let others = self.decide_shard(Shard::WHOLE, now, early)?;
        self.is_helping = others.is_full;
        Ok(others)
    }

    fn decide_shard(&mut self, shard: Shard, now: Now, horizon: Timestamp) -> Result<Decided, StoreError> {
        let limit = self.config.batch_max;
        let is_isolating = self.suspects.is_isolating(now.mono);
        let due = self.store.due_in_shard(&self.config.project, &self.workflow_ids, horizon, shard, limit)?;
        let mut permits = self.permits.reserve_up_to(0);
        let mut decided = Decided { is_full: due.len() == limit, ..Decided::default() };
        for due in due {
            if let Some(command) = self.decide(&due, now.wall, horizon, &mut permits, is_isolating)? {
                decided.commands.push(command);
                decided.schedules.push(due.schedule);
            }
        }
        decided.permits = Some(permits);
        Ok(decided)
    }

    fn decide(
        &mut self,
        due: &DueSchedule,
        now: Timestamp,
        horizon: Timestamp,
        permits: &mut Reserved,
        is_isolating: bool,
    ) -> Result<Option<Command>, StoreError> {
        let schedule = &due.schedule;
        let compiled_spec = match self.cadence_of(schedule) {
            Ok(compiled_spec) => compiled_spec,
            Err(error) => {
                let reason = error.to_string();
                self.dispatcher.emit(Notice::ScheduleBroken(schedule.id.clone(), reason.clone()));
                return Ok(Some(self.breaking(schedule.id.clone(), Some(schedule.revision), reason)));
            }
        };
        let situation = Situation {
            now,
            horizon,
            watching_since: self.watching_since,
            unfinished_count: due.unfinished_count,
            buffered_count: due.buffered_count,
        };
        let Some(mut plan) = plan_fire(schedule, &compiled_spec, &situation) else { return Ok(None) };
        if let Some(slot) = late_one_off(schedule, &compiled_spec, now) {
            if self.has_outcome(schedule, slot)? {
                plan.runs.clear();
                plan.ledger.clear();
                plan.cancel_unfinished = false;
            }
            self.dispatcher.emit(Notice::Advice(describe_late_one_off(schedule, slot, &plan)));
        }
        for run in &mut plan.runs {
            if run.admission == Admission::Claim && (is_isolating || !permits.add()) {
                run.admission = Admission::Queue;
            }
        }
        Ok(Some(Command::Fire { worker: self.worker.clone(), plan: Box::new(plan) }))
    }

    /// Whether the ledger has the slot already.
    fn has_outcome(&self, schedule: &Schedule, slot: Timestamp) -> Result<bool, StoreError> {
        let page = Page { limit: 1, after: Some((slot.as_micros() + 1).to_string()) };
        let newest = self.store.history(&self.config.project, &schedule.id, &page)?;
        Ok(newest.unwrap_or_default().iter().any(|entry| entry.count > 0 && entry.until >= slot))
    }

    /// Looks over a batch of schedules whose next slot may be wrong: at the start, and when the clock was set back.
    /// Whether there is more.
    fn recompute(&mut self, now: Now) -> Result<bool, StoreError> {
        let Some(Recomputation { after, seen_count, changed_count, next }) = &self.recomputation else {
            return Ok(false);
        };
        if now.mono < *next {
            return Ok(false);
        }
        let (mut seen_count, mut changed_count) = (*seen_count, *changed_count);
        let page = Page { limit: self.config.batch_max.max(1), after: after.clone() };
        let schedules = self.store.schedules(&self.config.project, &ScheduleFilter::default(), &page)?;
        let mut commands = Vec::new();
        for schedule in &schedules {
            // What can't be read is set aside when it is due.
            let Ok(compiled_spec) = self.cadence_of(schedule) else { continue };
            if let Some(slot) = recomputed(schedule, &compiled_spec, now.wall) {
                commands.push(Command::PatchSchedule {
                    project: Arc::clone(&self.config.project),
                    id: schedule.id.clone(),
                    revision: Some(schedule.revision),
                    patch: Box::new(Patch { next_slot: Some(Some(slot)), ..Patch::default() }),
                });
            }
        }
        if !commands.is_empty() {
            // One that is refused was changed by somebody else meanwhile, who knows the time as well.
            let outcomes = self.store.commit(&commands, now.wall)?;
            changed_count += outcomes.iter().filter(|outcome| outcome.is_ok()).count() as u64;
            self.is_next_work_stale = true;
        }
        if schedules.len() == page.limit {
            let after = schedules.last().map(|schedule| schedule.id.to_string());
            seen_count += schedules.len();
            let is_paced = seen_count >= RECOMPUTE_BURST;
            let next = if is_paced { now.mono + RECOMPUTE_PAUSE } else { now.mono };
            self.recomputation = Some(Recomputation { after, seen_count, changed_count, next });
            return Ok(!is_paced);
        }
        self.recomputation = None;
        if changed_count > 0 {
            self.dispatcher.emit(Notice::Recomputed(changed_count));
        }
        Ok(!commands.is_empty())
    }

    fn breaking(&self, id: crate::model::ScheduleId, revision: Option<i64>, reason: String) -> Command {
        let patch = Patch {
            status: Some(ScheduleStatus::Broken),
            note: Some(Some(reason.into())),
            ..Patch::default()
        };
        Command::PatchSchedule {
            project: Arc::clone(&self.config.project),
            id,
            revision,
            patch: Box::new(patch),
        }
    }

    /// The store refused a decision for good: the schedule must not come due again and again.
    fn set_aside(&mut self, command: &Command, rejection: &Rejection, now: Now) -> Result<(), StoreError> {
        if let Command::Fire { plan, .. } = command {
            let reason = rejection.to_string();
            self.dispatcher.emit(Notice::ScheduleBroken(plan.schedule.clone(), reason.clone()));
            let breaking = self.breaking(plan.schedule.clone(), None, reason);
            // If even this is refused, the schedule is gone, which serves as well.
            let _ = self.commit_one(breaking, now)?;
        }
        Ok(())
    }

    /// The remaining slots of a schedule.
    fn cadence_of(&mut self, schedule: &Schedule) -> Result<Arc<CompiledSpec>, SpecError> {
        let compiled_spec = self.compiled_spec(&schedule.spec)?;
        if schedule.settled.is_none() {
            return Ok(compiled_spec);
        }
        Ok(Arc::new((*compiled_spec).clone().without(schedule.settled_slots())))
    }

    fn compiled_spec(&mut self, spec: &Json) -> Result<Arc<CompiledSpec>, SpecError> {
        if let Some(compiled_spec) = self.compiled_specs.get(spec) {
            return Ok(Arc::clone(compiled_spec));
        }
        let compiled_spec = Arc::new(CompiledSpec::parse(spec)?);
        if self.compiled_specs.len() >= COMPILED_SPECS_MAX {
            self.compiled_specs.clear();
        }
        self.compiled_specs.insert(Arc::clone(spec), Arc::clone(&compiled_spec));
        Ok(compiled_spec)
    }

    // ---- runs ----------------------------------------------------------------------------------------------------

    /// Whether to look for held runs that the code of this worker can continue.
    fn looks_for_held(&self, mono: Duration) -> bool {
        self.next_work.has_held && self.must_look_for_held && mono >= self.next_look_for_held
    }

    /// Whether it holds no run, and none is on its way.
    fn is_idle(&self) -> bool {
        self.tracked.is_empty() && !self.permits.is_in_use()
    }

    fn claim_waiting(&mut self, now: Now) -> Result<bool, StoreError> {
        self.refresh_next_work()?;
        let horizon = now.wall.saturating_add(self.config.lead);
        if self.suspects.is_isolating(now.mono) {
            return Ok(false);
        }
        let times = (now.wall, horizon, now.mono);
        let suspects = self.suspects.wanted(self.is_idle(), self.next_work.suspect, times);
        let codes = self.looks_for_held(now.mono).then(|| Arc::clone(&self.codes));
        if suspects == Suspects::Never && codes.is_none() && self.next_work.run.is_none_or(|at| at > horizon)
        {
            return Ok(false);
        }
        let permits = self.permits.reserve_up_to(self.config.batch_max);
        let limit = permits.count();
        if limit == 0 {
            return Ok(false);
        }
        self.is_next_work_stale = true;
        let command = Command::ClaimRuns {
            project: Arc::clone(&self.config.project),
            worker: self.worker.clone(),
            workflows: self.workflow_ids.clone(),
            limit,
            until: horizon,
            suspects,
            codes: codes.clone(),
        };
        self.has_unknown_claims = true;
        let outcome = self.commit_one(command, now)?;
        self.has_unknown_claims = false;
        match outcome {
            Ok(Answer::Claimed(runs)) => {
                let is_full = runs.len() == limit;
                if codes.is_some() {
                    self.must_look_for_held = is_full;
                    self.next_look_for_held = now.mono + HELD_LOOK_INTERVAL;
                }
                if suspects != Suspects::Never && !runs.iter().any(|claimed| claimed.run.is_suspect()) {
                    self.suspects.found_none(now.mono);
                }
                self.accept_claims(runs, now);
                Ok(is_full)
            }
            Err(Rejection::WorkerGone) => {
                self.lose_everything();
                Ok(true)
            }
            Ok(_) | Err(_) => Ok(false),
        }
    }

    /// Takes in the runs of a claim whose reply was lost. Nobody else would: they are ours as long as we beat.
    fn find_unknown_claims(&mut self, now: Now) -> Result<(), StoreError> {
        // What is on its way to us must not be found here as well.
        if !self.has_unknown_claims || !self.permits.close() {
            return Ok(());
        }
        let filter = RunFilter { states: vec![RunState::Running], ..RunFilter::default() };
        let mut page = Page { limit: self.config.batch_max.max(1), after: None };
        let mut found = Vec::new();
        loop {
            let runs = self.store.runs(&self.config.project, &filter, &page)?;
            page.after = runs.last().map(|run| run.id.to_string());
            let is_last = runs.len() < page.limit;
            for run in runs {
                let is_held = self.tracked.get(&run.id).is_some_and(|tracked| tracked.token == run.token);
                if run.worker.as_ref() == Some(&self.worker) && !is_held {
                    let journal = self.store.steps(&run.id)?;
                    found.push(ClaimedRun { run, journal });
                }
            }
            if is_last {
                break;
            }
        }
        if !found.is_empty() {
            // A primary that stops shows for a moment what its synchronous standby never received. A
            // commit that is acknowledged after the read proves that what was read is kept.
            match self.commit_one(Command::Heartbeat { worker: self.worker.clone() }, now)? {
                Err(Rejection::WorkerGone) => {
                    self.lose_everything();
                    return Ok(());
                }
                Ok(_) | Err(_) => self.note_alive(now.mono),
            }
        }
        self.has_unknown_claims = false;
        // As they would have been claimed, in the order of slots.
        found.sort_by_key(|claimed| (claimed.run.available_at, claimed.run.slot));
        self.accept_claims(found, now);
        Ok(())
    }

    /// New claims: those whose time has come start now, the others wait for it.
    fn accept_claims(&mut self, runs: Vec<ClaimedRun>, now: Now) {
        if runs.is_empty() {
            return;
        }
        // The claim counted as a sign of life.
        self.note_alive(now.mono);
        self.track(runs, now, now.mono);
    }

    /// Takes in a run that was claimed as it was created.
    fn accept_created(&mut self, claimed: ClaimedRun, permit: Permit, now: Now) {
        if *permit.worker() == self.worker && self.phase != Phase::Over {
            // Asked to stop before we heard of it: the next look tells it so.
            self.must_refresh_peers |= self.unacknowledged_stops.contains(&claimed.run.id);
            // It was committed later than the place was taken; how much later, and whether we slept since, nobody knows.
            self.note_alive(permit.asked_at());
            self.track(vec![claimed], now, permit.asked_at());
        }
        permit.settle();
    }

    /// Holds runs that were claimed at `claimed_at` of the steady clock or later.
    fn track(&mut self, runs: Vec<ClaimedRun>, now: Now, claimed_at: Duration) {
        let may_be_lost = now.mono.saturating_sub(claimed_at) >= self.config.lease;
        let mut ready = Vec::with_capacity(runs.len());
        for claimed in runs {
            let run = &claimed.run;
            let tracked =
                Tracked { token: run.token, holds_permit: true, is_blocked: false, is_stop_sent: false };
            // What we claimed ahead may have been taken back and be ours again under another token.
            let former = self.tracked.insert(run.id.clone(), tracked);
            if former.is_none_or(|former| !former.holds_permit) {
                self.permits.take();
            }
            if self.suspects.track(run, self.tracked.len() == 1, now.mono) {
                self.note_suspect(run, now);
            }
            // Who drains starts nothing more: what turns up now is given back. What waits is asked about before it starts.
            if run.available_at > now.wall || may_be_lost || self.phase != Phase::Working {
                self.early_claims.insert(run.available_at, claimed);
            } else {
                ready.push(claimed);
            }
        }
        self.start(ready, now);
    }

    fn note_suspect(&self, run: &Run, now: Now) {
        let is_alone = self.suspects.is_isolating(now.mono);
        if is_alone {
            self.permits.set_open(false);
        }
        self.dispatcher.emit(Notice::Suspect {
            run: run.id.clone(),
            workflow: Arc::clone(&run.workflow),
            interruptions: run.interruptions,
            is_alone,
        });
    }

    /// Starts what was claimed ahead and is due now, unless somebody took it back meanwhile.
    fn start_early_claims(&mut self, now: Now) -> Result<(), StoreError> {
        if self.early_claims.next_deadline().is_none_or(|at| at > now.wall) {
            return Ok(());
        }
        // An edit that was decided before this instant may be on its way to the disk, and take claims back. Later ones don't.
        self.store.barrier()?;
        // In parts, so that the first start before the last have been asked about.
        while self.early_claims.next_deadline().is_some_and(|at| at <= now.wall) {
            self.start_due_claims(now)?;
        }
        Ok(())
    }

    fn start_due_claims(&mut self, now: Now) -> Result<(), StoreError> {
        let due: Vec<ClaimedRun> =
            std::iter::from_fn(|| self.early_claims.pop_due(now.wall)).take(START_MAX).collect();
        let claims: Vec<(RunId, Token)> =
            due.iter().map(|claimed| (claimed.run.id.clone(), claimed.run.token)).collect();
        match self.store.claims_stand(&claims) {
            Ok(standing) => {
                let mut ready = Vec::with_capacity(due.len());
                for (claimed, stands) in due.into_iter().zip(standing) {
                    if stands {
                        ready.push(claimed);
                    } else {
                        self.untrack(&claimed.run.id, claimed.run.token);
                    }
                }
                self.start(ready, now);
                Ok(())
            }
            Err(error) => {
                // Not knowing is no reason to start: a deleted schedule must stay silent.
                for claimed in due {
                    self.early_claims.insert(claimed.run.available_at, claimed);
                }
                Err(error)
            }
        }
    }

    /// Gives back what was claimed ahead: it is to start on time, elsewhere.
    fn release_early_claims(&mut self, now: Now) -> Result<(), StoreError> {
        if self.early_claims.is_empty() {
            return Ok(());
        }
        let release = |claimed: &ClaimedRun| Command::CompleteRun {
            run: claimed.run.id.clone(),
            token: claimed.run.token,
            ending: Box::new(Completion::Released),
            pause_after_failures: None,
            stands_alone: false,
        };
        let commands: Vec<Command> = self.early_claims.iter().map(release).collect();
        // One that is refused was taken back meanwhile.
        let _ = self.store.commit(&commands, now.wall)?;
        while let Some(claimed) = self.early_claims.pop_due(Timestamp::MAX) {
            self.untrack(&claimed.run.id, claimed.run.token);
        }
        Ok(())
    }

    fn start(&mut self, runs: Vec<ClaimedRun>, now: Now) {
        if runs.is_empty() {
            return;
        }
        for claimed in &runs {
            let run = &claimed.run;
            if let Some(timeout) = self.config.workflows.get(&run.workflow).and_then(|config| config.timeout)
            {
                self.timeouts.insert(now.mono + timeout, (run.id.clone(), run.token));
            }
        }
        let mut rest = runs;
        while !rest.is_empty() {
            let later = rest.split_off(rest.len().min(START_MAX));
            self.dispatcher.start(rest);
            rest = later;
        }
    }

    fn stop_overdue(&mut self, now: Now) {
        let mut stops = Vec::new();
        while let Some((run, token)) = self.timeouts.pop_due(now.mono) {
            let is_executed = |tracked: &Tracked| tracked.holds_permit || tracked.is_blocked;
            if self.tracked.get(&run).is_some_and(|tracked| tracked.token == token && is_executed(tracked)) {
                stops.push(Stop { run, token, reason: StopReason::TimedOut });
            }
        }
        if !stops.is_empty() {
            self.dispatcher.stop(stops);
        }
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

    fn free_permit(&mut self, run: &RunId, token: Token) {
        let Some(tracked) = self.tracked.get_mut(run).filter(|tracked| tracked.token == token) else {
            return;
        };
        tracked.is_blocked = false;
        if std::mem::take(&mut tracked.holds_permit) {
            self.permits.give_back(1);
        }
    }

    /// A handler that waits must not keep the permit that the awaited run may need.
    fn block(&mut self, run: &RunId, token: Token) {
        if let Some(tracked) =
            self.tracked.get_mut(run).filter(|tracked| tracked.token == token && tracked.holds_permit)
        {
            tracked.holds_permit = false;
            tracked.is_blocked = true;
            self.permits.give_back(1);
        }
    }

    /// Takes the permit back at once: a handler that had to wait for a free one could wait for a run that waits for it.
    fn unblock(&mut self, run: &RunId, token: Token) {
        if let Some(tracked) =
            self.tracked.get_mut(run).filter(|tracked| tracked.token == token && tracked.is_blocked)
        {
            tracked.holds_permit = true;
            tracked.is_blocked = false;
            self.permits.take();
        }
    }

    fn untrack(&mut self, run: &RunId, token: Token) {
        self.free_permit(run, token);
        if self.tracked.get(run).is_some_and(|tracked| tracked.token == token) {
            self.tracked.remove(run);
        }
        self.is_next_work_stale |= self.suspects.release(run, token);
    }

    /// Whether those who create runs may take places: not ahead of what waits already.
    fn has_permit_to_lend(&self, now: Now) -> bool {
        self.phase == Phase::Working
            && self.is_registered
            && !self.has_unknown_claims
            && !self.suspects.is_isolating(now.mono)
            && self.next_work.run.is_none_or(|at| at > now.wall)
    }

    // ---- the store -----------------------------------------------------------------------------------------------

    fn commit_one(&self, command: Command, now: Now) -> Result<Result<Answer, Rejection>, StoreError> {
        let mut outcomes = self.store.commit(&[command], now.wall)?;
        outcomes.pop().ok_or_else(|| StoreError::Unavailable("the store gave no answer".to_owned()))
    }

    fn note_failure_of_store(&mut self, error: &StoreError, now: Now) {
        let failure_count = self.retry.as_ref().map_or(1, |retry| retry.failure_count + 1);
        let backoff = Backoff { initial_us: 50_000, factor: 2.0, maximum_us: 2_000_000, jitter: 0.5 };
        let wait =
            backoff.retry_at(self.worker.as_str(), failure_count, Timestamp::from_micros(0)).as_micros();
        let retry_at = now.mono + Duration::from_micros(u64::try_from(wait).unwrap_or(0));
        if let Some(notice) = self.outage.note_failure(error, now.mono) {
            self.dispatcher.emit(notice);
        }
        if !error.is_passing() && !self.is_lost {
            self.is_lost = true;
            self.dispatcher.emit(Notice::StoreLost(error.to_string()));
            self.phase = Phase::Over;
        }
        self.is_next_work_stale = true;
        self.must_refresh_peers = true;
        self.retry = Some(RetryState { retry_at, failure_count });
    }

    // ---- when next -----------------------------------------------------------------------------------------------

    fn next(&self, now: Now, has_more: bool) -> Deadline {
        if self.phase == Phase::Over {
            return Deadline { wall: None, mono: now.mono, is_over: true };
        }
        if let Some(retry) = &self.retry {
            let own =
                [self.timers.next_deadline(), self.timeouts.next_deadline()].into_iter().flatten().min();
            return Deadline {
                wall: None,
                mono: own.map_or(retry.retry_at, |at| at.min(retry.retry_at)),
                is_over: false,
            };
        }
        if has_more {
            return Deadline { wall: None, mono: now.mono, is_over: false };
        }
        let is_working = self.phase == Phase::Working;
        let has_room = is_working && self.permits.room() > 0 && !self.suspects.is_isolating(now.mono);
        let next_suspect = self.suspects.next(self.is_idle(), self.next_work.suspect, now.mono);
        let next_suspect = if has_room { next_suspect } else { (None, None) };
        let mono = [
            Some(self.last_poll.map_or(now.mono, |last| last + self.config.poll_interval)),
            self.timers.next_deadline(),
            self.timeouts.next_deadline(),
            self.watch.next_deadline(self.expiry_limits()),
            self.next_heartbeat(),
            self.reconcile_at.filter(|_| self.phase == Phase::Working),
            self.next_prune.filter(|_| self.has_ended_runs && self.phase == Phase::Working),
            self.recomputation.as_ref().map(|walk| walk.next).filter(|_| self.phase == Phase::Working),
            self.outage.next_deadline(),
            self.suspects.isolation_end(now.mono),
            next_suspect.1,
            (has_room && self.next_work.has_held && self.must_look_for_held)
                .then_some(self.next_look_for_held),
        ];
        let wall = [
            self.early_claims.next_deadline(),
            self.next_work.slot.filter(|_| is_working && !self.is_about_to_start(now.wall)).map(|slot| {
                let burst = self.burst.filter(|burst| burst.slot == slot);
                // First to see how many they are, then for them, at last for those that others left.
                let unknown = self.config.lead_max.max(self.config.lead);
                let lead = burst.map_or(unknown, |burst| burst.lead);
                let early = ahead_of(slot, lead, now.wall);
                let is_second_look = early == slot && self.shard != Shard::WHOLE;
                if is_second_look { ahead_of(slot, lead / 2, now.wall) } else { early }
            }),
            self.next_work.run.filter(|_| has_room).map(|at| ahead_of(at, self.config.lead, now.wall)),
            next_suspect.0.map(|at| ahead_of(at, self.config.lead, now.wall)),
        ];
        Deadline {
            wall: wall.into_iter().flatten().min(),
            mono: mono.into_iter().flatten().min().unwrap_or(now.mono),
            is_over: false,
        }
    }
}

/// The part of the schedules that a worker looks at first, among those that execute some of the same workflows. Who is gone and
/// was not noticed yet has a part as well, which all others look at a little later.
fn shard_of(own: &WorkerId, peers: &[Peer], workflows: &[Arc<str>]) -> Shard {
    let mut alike: Vec<&WorkerId> = peers
        .iter()
        .filter(|peer| peer.id == *own || peer.workflows.iter().any(|id| workflows.contains(id)))
        .map(|peer| &peer.id)
        .collect();
    alike.sort();
    match alike.iter().position(|id| *id == own) {
        Some(permit) => {
            Shard { part: u32::try_from(permit).unwrap_or(0), of: u32::try_from(alike.len()).unwrap_or(1) }
        }
        None => Shard::WHOLE,
    }
}

/// When to deal with `instant`: the lead before it. Where that moment has passed and it is still there, it could
/// not be decided ahead of time, so its own time is next.
fn ahead_of(instant: Timestamp, lead: Duration, now: Timestamp) -> Timestamp {
    let lead_us = i64::try_from(lead.as_micros()).unwrap_or(0);
    let early = Timestamp::from_micros(instant.as_micros().saturating_sub(lead_us));
    if early > now { early } else { instant }
}

/// The slot of a schedule that fires once, where it had passed when the schedule was made or changed.
fn late_one_off(schedule: &Schedule, compiled_spec: &CompiledSpec, now: Timestamp) -> Option<Timestamp> {
    let slot = schedule.next_slot.filter(|slot| *slot <= now && *slot < schedule.attended_from)?;
    compiled_spec.is_one_off().then_some(slot)
}

fn describe_late_one_off(schedule: &Schedule, slot: Timestamp, plan: &FirePlan) -> String {
    let (workflow, key) = (&schedule.workflow, &schedule.key);
    let outcome = match (plan.runs.is_empty(), plan.ledger.first()) {
        (false, _) => "it runs once, late".to_owned(),
        (true, Some(line)) => format!("it does not run: {}", line.reason),
        (true, None) => "it does not run again: this slot is in the history already".to_owned(),
    };
    format!("`at` of the schedule of `{workflow}` (key `{key}`) is {slot}, which has passed; {outcome}")
}

/// What a decision lets nobody run.
fn missed_by(command: &Command, schedule: &Schedule) -> Vec<MissedSlots> {
    let Command::Fire { plan, .. } = command else { return Vec::new() };
    let missed = plan.ledger.iter().filter(|line| line.outcome == SlotOutcome::Missed);
    missed
        .map(|line| MissedSlots {
            schedule: schedule.id.clone(),
            workflow: Arc::clone(&schedule.workflow),
            key: Arc::clone(&schedule.key),
            line: line.clone(),
        })
        .collect()
}
