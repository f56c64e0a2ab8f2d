//! One worker: an engine with its thread, and what its runs record.

use super::hints::HintHandler;
use super::monitor::{Health, HealthMonitor, LoopPulse, Monitor, Reserved, Site};
use super::worker_setup::WorkerSetup;
use super::{Database, random_bits};
use crate::calendar::Timestamp;
use crate::engine::driver::Driver;
use crate::engine::entry::is_confirmed;
use crate::engine::group_commit::{GroupCommit, Job, Report};
use crate::engine::metrics::{Metrics, SlotCount};
use crate::engine::{Deadline, Dispatcher, Engine, ExecutionOutcome, Message, Permits, WorkflowConfig};
use crate::error::Error;
use crate::model::{
    BusyProcesses, Completion, HookCall, Origin, Run, RunId, RunState, StepRecord, Token, WorkerId,
};
use crate::process;
use crate::store::{Answer, Command, Rejection, StoreWrites};
use crate::sync::Mutex;
use crossbeam_channel::{Receiver, Sender};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// What a worker calls besides its dispatcher, on threads of the core.
pub struct WorkerEvents {
    /// Advice for a person.
    pub on_advice: Arc<dyn Fn(&str) + Send + Sync>,
    /// The engine has stopped. Not called with a manual clock.
    pub on_end: Box<dyn FnOnce() + Send>,
    /// Asks the application's event loop to call [`LoopPulse::answer`].
    pub ask_loop: Box<dyn Fn(Arc<LoopPulse>) + Send + Sync>,
}

/// Is passed the id of the hook call to make about a run's outcome, if there is one.
pub type Tell = Box<dyn FnOnce(Option<Arc<str>>) + Send>;

/// A claim, and what its completion needs to know about the run.
pub struct Claim {
    /// The run.
    pub run: RunId,
    /// The claim's token.
    pub token: Token,
    /// Id of the run's workflow.
    pub workflow: Arc<str>,
    /// The current attempt, starting at 1.
    pub attempt: u32,
    /// What created the run.
    pub origin: Origin,
}

impl Claim {
    /// The claim of a run that was just claimed.
    pub fn of(run: &Run) -> Self {
        let (id, workflow) = (run.id.clone(), Arc::clone(&run.workflow));
        Self { run: id, token: run.token, workflow, attempt: run.attempt, origin: run.origin }
    }
}

/// A running engine. After a fork, the child must not use it; its drop there leaves alone what
/// belongs to the parent.
pub struct Worker<D: Dispatcher> {
    database: Arc<Database>,
    sender: Sender<Message>,
    workflows: BTreeMap<Arc<str>, WorkflowConfig>,
    drive: Drive<D>,
    last_alive: Arc<AtomicU64>,
    permits: Arc<Permits>,
    has_suspect: Arc<AtomicBool>,
    lease: Duration,
    metrics: Arc<Metrics>,
    health: Arc<HealthMonitor>,
    monitor: Mutex<Option<Monitor>>,
    starter_pid: u32,
}

enum Drive<D: Dispatcher> {
    Thread(Mutex<Option<Driver>>),
    /// With a manual clock: ticked by hand.
    Hand(Box<Mutex<Engine<GroupCommit, D>>>, Receiver<Message>),
}

impl<D: Dispatcher> Worker<D> {
    /// Starts a worker. Workers of this machine whose process has ended are expired first.
    pub fn start(
        database: Arc<Database>,
        setup: WorkerSetup,
        dispatcher: D,
        events: WorkerEvents,
    ) -> Result<Self, Error> {
        let now = database.clock.now().wall;
        let stall = setup.monitor.stall();
        let reserved = Reserved::new(setup.monitor.clone())?;
        let config = setup.into_config(&database, now)?;
        let (workflows, lease) = (config.workflows.clone(), config.lease);
        expire_dead_peers(&database, now)?;
        let new_worker_id = Box::new(|| WorkerId::from_random(random_bits()));
        let (reads, writes) = (database.store.reads(), database.store.clone());
        let mut engine = Engine::new(reads, writes, dispatcher, config, new_worker_id);
        let (last_alive, permits, has_suspect) =
            (engine.last_alive(), engine.permits(), engine.suspect_flag());
        let health = Arc::new(HealthMonitor {
            vitals: engine.vitals(),
            pulse: Arc::default(),
            ask_loop: events.ask_loop,
            clock: Arc::clone(&database.clock),
            lease,
            stall,
        });
        let on_advice = Arc::clone(&events.on_advice);
        let metrics = engine.metrics();
        let site = Site {
            health: Arc::clone(&health),
            metrics: Arc::clone(&metrics),
            permits: Arc::clone(&permits),
        };
        let monitor = reserved.start(site, lease, Box::new(move |what| on_advice(what)))?;
        let (sender, drive) = if database.manual.is_some() {
            let (sender, receiver) = crossbeam_channel::unbounded();
            engine.tick(database.clock.now());
            (sender, Drive::Hand(Box::new(Mutex::new(engine)), receiver))
        } else {
            let driver = Driver::start(engine, Arc::clone(&database.clock), events.on_end)
                .map_err(|error| Error::State(error.to_string()))?;
            (driver.sender(), Drive::Thread(Mutex::new(Some(driver))))
        };
        database.permit_pools.add(&permits, sender.clone());
        let on_advice = events.on_advice;
        subscribe(&database, &sender, Box::new(move |what| on_advice(what)));
        let starter_pid = std::process::id();
        Ok(Self {
            database,
            sender,
            workflows,
            drive,
            last_alive,
            permits,
            has_suspect,
            lease,
            metrics,
            health,
            monitor: Mutex::new(monitor),
            starter_pid,
        })
    }

    /// Records a step under a claim; calls `done` when it is durable, with whether the claim was
    /// still valid.
    pub fn record_step(
        &self,
        run: &str,
        token: i64,
        step: StepRecord,
        done: impl FnOnce(Result<bool, Error>) + Send + 'static,
    ) {
        let (run, token) = (RunId::from(run), Token(token));
        let sender = self.sender.clone();
        let has_suspect = Arc::clone(&self.has_suspect);
        let command = Command::RecordStep { run: run.clone(), token, step };
        commit(&self.database.store, command, move |report| {
            let outcome = was_valid(report);
            if matches!(outcome, Ok(false)) {
                let _ = sender.send(Message::Fenced { run, token });
            } else if matches!(outcome, Ok(true)) && has_suspect.load(Ordering::Acquire) {
                let _ = sender.send(Message::Progressed { run, token });
            }
            done(outcome);
        });
    }

    /// Replaces the progress of a run; calls `done` when that is written, with whether the claim
    /// was still valid. A later completion of the claim is written after it.
    pub fn report_progress(
        &self,
        run: &str,
        token: i64,
        progress: &str,
        done: impl FnOnce(Result<bool, Error>) + Send + 'static,
    ) {
        let command =
            Command::ReportProgress { run: run.into(), token: Token(token), progress: progress.into() };
        commit(&self.database.store, command, move |report| done(was_valid(report)));
    }

    /// Waits for an event under a claim; calls `done` with the step as it stands, or with `None` if
    /// the claim is no longer valid. The deadline of `step` counts only if the run has not waited
    /// for this event before.
    pub fn await_event(
        &self,
        run: &str,
        token: i64,
        step: StepRecord,
        done: impl FnOnce(Result<Option<StepRecord>, Error>) + Send + 'static,
    ) {
        let (run, token) = (RunId::from(run), Token(token));
        let sender = self.sender.clone();
        let command = Command::AwaitEvent { run: run.clone(), token, step };
        commit(&self.database.store, command, move |report| {
            done(match report.map(|mut outcomes| outcomes.remove(0)) {
                Ok(Ok(Answer::Wait(step))) => Ok(Some(*step)),
                Ok(Ok(other)) => unreachable!("a wait is answered with its step, not {other:?}"),
                Ok(Err(Rejection::Fenced)) => {
                    let _ = sender.send(Message::Fenced { run, token });
                    Ok(None)
                }
                Ok(Err(rejection)) => Err(rejection.into()),
                Err(error) => Err(error.into()),
            });
        });
    }

    /// Completes a claim. A failure is retried by the workflow's policy.
    ///
    /// With `tell`, a hook is called about the outcome: the call is recorded with it, and passed to
    /// `tell` when that is durable. `tell` gets `None` if there is nothing to tell, because the
    /// outcome is another one or was not recorded.
    pub fn complete_run(
        &self,
        claim: &Claim,
        outcome: ExecutionOutcome,
        entered_at: Option<Duration>,
        tell: Option<Tell>,
    ) {
        let (run, token, attempt) = (claim.run.clone(), claim.token, claim.attempt);
        let workflow = self.workflows.get(&*claim.workflow);
        let ending = outcome.completion(workflow, run.as_str(), attempt, self.database.clock.now().wall);
        let sender = self.sender.clone();
        if self.permits.is_short() {
            // An engine that has stopped needs no messages.
            let _ = sender.send(Message::Returned { run: run.clone(), token });
        }
        let is_skipped = matches!(ending, Completion::Skipped { .. });
        let ended = EndedExecution::new(&self.metrics, claim, entered_at, is_skipped);
        let clock = Arc::clone(&self.database.clock);
        // Such a run has neither schedule nor parent.
        let stands_alone = claim.origin == Origin::Invoke;
        let (ending, tells) = (Box::new(ending), tell.is_some());
        let command = Command::CompleteRun { run: run.clone(), token, ending, stands_alone, tells };
        commit(&self.database.store, command, move |report| {
            let report = report.ok();
            let outcome = report.as_ref().and_then(|outcomes| outcomes.first());
            if let Some(Ok(Answer::Ended { state, .. })) = outcome {
                ended.count(*state, clock.now().mono);
            }
            let call = match outcome {
                Some(Ok(Answer::Ended { state, .. })) => HookCall::outcome_id(&run, attempt, *state),
                _ => None,
            };
            if let (Some(_), Some(call)) = (&tell, &call) {
                let held = Message::HookHeld { run: run.clone(), token, call: Arc::clone(call) };
                let _ = sender.send(held);
            }
            let _ = sender.send(Message::settled(run, token, is_skipped, outcome));
            if let Some(tell) = tell {
                tell(call);
            }
        });
    }

    /// Notes that a handler is entered, for the first time if `slot` is given. Returns the time by
    /// the steady clock.
    pub fn note_entry(&self, workflow: &str, slot: Option<Timestamp>) -> Duration {
        let now = self.database.clock.now();
        if let Some(slot) = slot
            && let Some(counts) = self.metrics.of(workflow)
        {
            let late = now.wall.as_micros().saturating_sub(slot.as_micros());
            counts.lateness.add(Duration::from_micros(u64::try_from(late).unwrap_or(0)));
        }
        now.mono
    }

    /// What this worker has committed.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Sends a message to the engine. An engine that has stopped ignores it.
    pub fn send(&self, message: Message) {
        let _ = self.sender.send(message);
    }

    /// Whether this worker has sent a heartbeat within the lease, so that no other worker can have
    /// claimed its runs. If not (the process was stopped, the machine slept), a claim has to be
    /// confirmed before anything is executed under it.
    pub fn is_trusted(&self) -> bool {
        let seen = Duration::from_micros(self.last_alive.load(Ordering::Acquire));
        self.database.clock.now().mono.saturating_sub(seen) < self.lease
    }

    /// Whether the run may be entered without asking the store: its claim was confirmed at
    /// `confirmed_at` of the steady clock, a moment ago. In virtual time, which stands still
    /// meanwhile, asks the store in memory.
    pub fn is_confirmed(&self, run: &str, token: i64, confirmed_at: Option<Duration>) -> bool {
        if self.database.store.is_inline() {
            let answers = self.database.store.reads().may_enter(&[(run.into(), Token(token))]);
            return answers.is_ok_and(|answers| answers == [Ok(())]);
        }
        confirmed_at.is_some_and(|at| is_confirmed(at, self.steady_now()))
    }

    /// The time by the steady clock.
    pub fn steady_now(&self) -> Duration {
        self.database.clock.now().mono
    }

    /// Whether the worker is alive, and whether it is ready. Never blocks.
    pub fn health(&self) -> Health {
        self.health.check()
    }

    /// The address on which probes are answered.
    pub fn health_address(&self) -> Option<SocketAddr> {
        self.monitor.lock().as_ref().and_then(Monitor::address)
    }

    /// Gives back held runs and deregisters; blocks for at most `limit`. Returns false if the
    /// database doesn't answer in time. Probes are answered until then.
    pub fn deregister(&self, limit: Duration) -> bool {
        let has_ended = self.end_engine(limit);
        if let Some(monitor) = self.monitor.lock().take() {
            monitor.stop();
        }
        has_ended
    }

    fn end_engine(&self, limit: Duration) -> bool {
        match &self.drive {
            Drive::Thread(driver) => {
                let driver = driver.lock().take();
                self.send(Message::Deregister);
                driver.is_none_or(|mut driver| driver.join_for(limit))
            }
            Drive::Hand(..) => {
                self.send(Message::Deregister);
                self.tick();
                true
            }
        }
    }

    /// For tests: treats this worker's process as gone, so no new run may be claimed for it.
    pub fn abandon(&self) {
        self.permits.close();
    }

    /// With a manual clock: one tick of the engine. Returns its deadline, and how long until then.
    pub fn tick(&self) -> Option<(Deadline, Duration)> {
        let Drive::Hand(engine, receiver) = &self.drive else { return None };
        let mut engine = engine.lock();
        let now = self.database.clock.now();
        for message in receiver.try_iter() {
            engine.receive(message, now);
        }
        let next = engine.tick(now);
        let within = next.mono.saturating_sub(now.mono);
        Some((next, within))
    }
}

impl<D: Dispatcher> Drop for Worker<D> {
    fn drop(&mut self) {
        if std::process::id() == self.starter_pid {
            return;
        }
        // A forked child: the threads live in the parent.
        std::mem::forget(self.monitor.lock().take());
        if let Drive::Thread(driver) = &self.drive
            && let Some(driver) = driver.lock().take()
        {
            std::mem::forget(driver);
        }
    }
}

/// What is counted about an execution when its end is committed.
struct EndedExecution {
    metrics: Arc<Metrics>,
    workflow: Arc<str>,
    is_withdrawn: bool,
    is_of_slot: bool,
    entered_at: Option<Duration>,
}

impl EndedExecution {
    fn new(metrics: &Arc<Metrics>, claim: &Claim, entered_at: Option<Duration>, is_withdrawn: bool) -> Self {
        Self {
            metrics: Arc::clone(metrics),
            workflow: Arc::clone(&claim.workflow),
            is_withdrawn,
            is_of_slot: claim.origin == Origin::Schedule,
            entered_at,
        }
    }

    fn count(&self, state: RunState, now: Duration) {
        if self.is_withdrawn {
            if self.is_of_slot {
                self.metrics.add_slots(&self.workflow, SlotCount::Withdrawn, 1);
            }
            return;
        }
        self.metrics.add_run(&self.workflow, state);
        if let Some(entered_at) = self.entered_at
            && let Some(counts) = self.metrics.of(&self.workflow)
        {
            counts.duration.add(now.saturating_sub(entered_at));
        }
    }
}

/// Sends the engine what others commit: other processes, and other users of this database here.
fn subscribe(database: &Database, sender: &Sender<Message>, on_advice: Box<dyn Fn(&str) + Send>) {
    let (changes, rollbacks) = (sender.clone(), sender.clone());
    database.add_hints(HintHandler {
        change: Box::new(move || _ = changes.send(Message::Changed)),
        ends: Box::new(|_| {}),
        rollback: Box::new(move || _ = rollbacks.send(Message::RollbackDetected)),
        advice: on_advice,
    });
    let changes = sender.clone();
    database.store.observe(Box::new(move |commands, outcomes| {
        let mut has_added = false;
        for (command, outcome) in commands.iter().zip(outcomes) {
            match Message::news_of(command, outcome) {
                Some(Message::Added) => has_added = true,
                // This message covers everything; an engine that has stopped needs none.
                Some(message) => return drop(changes.send(message)),
                None => {}
            }
        }
        if has_added {
            let _ = changes.send(Message::Added);
        }
    }));
}

fn commit(store: &GroupCommit, command: Command, done: impl FnOnce(Report) + Send + 'static) {
    store.submit(Job { commands: vec![command], retries_when_busy: true, done: Box::new(done) });
}

/// Expires workers of this machine whose process has ended, so that their runs continue now instead
/// of after their lease.
fn expire_dead_peers(database: &Database, now: Timestamp) -> Result<(), Error> {
    let peers = database.store.reads().peers(&database.project)?;
    let busy = BusyProcesses::of(&peers);
    let dead: Vec<Command> = peers
        .iter()
        .filter(|peer| process::is_gone(&peer.host, peer.pid, &peer.process_mark))
        .map(|peer| Command::ExpireWorker {
            worker: peer.id.clone(),
            heartbeat: peer.heartbeat,
            shares_process: busy.has_another(peer),
        })
        .collect();
    if !dead.is_empty() {
        // A rejection means that another worker expired this one first.
        let _ = database.store.commit(&dead, now)?;
    }
    Ok(())
}

/// Returns whether the claim was still valid.
fn was_valid(report: Report) -> Result<bool, Error> {
    match report?.remove(0) {
        Ok(_) => Ok(true),
        Err(Rejection::Fenced) => Ok(false),
        Err(rejection) => Err(rejection.into()),
    }
}
