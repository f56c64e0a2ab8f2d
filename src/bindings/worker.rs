//! One worker, as seen from Python.

use super::bridge::{Bridge, BridgeDispatcher, Item, Line};
use super::core::{CoreHandler, Inner};
use super::errors::to_exception;
use crossbeam_channel::{Receiver, Sender};
use polos::calendar::Timestamp;
use polos::engine::driver::Driver;
use polos::engine::group_commit::{GroupCommit, Job, Report};
use polos::engine::{Dispatcher, Engine, EngineConfig, Message, Notice, Permits, WorkflowConfig};
use polos::error::Error;
use polos::model::{BusyProcesses, Completion, RunId, ScheduleSpec, StepRecord, StepState, Token, WorkerId};
use polos::plan::Backoff;
use polos::process;
use polos::service::{Drafts, new_schedules, random_bits};
use polos::store::{Command, Rejection, Store};
use polos::sync::Mutex;
use polos::thread::Thread;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// Newest runs of each schedule that pruning keeps whatever their age.
const RETENTION_KEEP: u32 = 10;

/// A worker's configuration; durations in microseconds.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Setup {
    app: Arc<str>,
    aliases: Vec<Arc<str>>,
    former: Vec<Arc<str>>,
    version: Option<Arc<str>>,
    is_whole: bool,
    about: serde_json::Value,
    workflows: BTreeMap<Arc<str>, WorkflowSetup>,
    declared: Drafts,
    concurrency: usize,
    lease: u64,
    idle_heartbeat: u64,
    lead: u64,
    lead_per_slot: u64,
    lead_max: u64,
    poll_interval: u64,
    retention: Option<u64>,
    batch_max: usize,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WorkflowSetup {
    is_schedulable: bool,
    retry_max: u32,
    backoff: Option<Backoff>,
    timeout: Option<u64>,
    code: Arc<str>,
}

/// A running engine.
#[pyclass(frozen, module = "polos._polos")]
pub struct WorkerCore {
    inner: Arc<Inner>,
    sender: Sender<Message>,
    workflows: BTreeMap<Arc<str>, WorkflowConfig>,
    drive: Drive,
    last_alive: Arc<AtomicU64>,
    permits: Arc<Permits>,
    has_suspect: Arc<AtomicBool>,
    lease: Duration,
    /// A thread that reads what a failure needs before it can be written, so that the application's
    /// threads don't wait for the database. Started on first use.
    failures: Mutex<Option<(Sender<Work>, Thread)>>,
    starter_pid: u32,
}

type Work = Box<dyn FnOnce() + Send>;

enum Drive {
    Thread(Mutex<Option<Driver>>),
    Hand(Box<Mutex<Engine<GroupCommit, BridgeDispatcher>>>, Receiver<Message>),
}

impl WorkerCore {
    pub(super) fn start(py: Python<'_>, inner: Arc<Inner>, setup: &str, bridge: &Bridge) -> PyResult<Self> {
        let setup: Setup =
            serde_json::from_str(setup).map_err(|error| to_exception(&Error::Argument(error.to_string())))?;
        let line = bridge.line();
        py.detach(|| Self::start_detached(inner, setup, line)).map_err(|error| to_exception(&error))
    }

    fn start_detached(inner: Arc<Inner>, setup: Setup, line: Arc<Line>) -> Result<Self, Error> {
        let now = inner.clock.now().wall;
        let mut declared = new_schedules(&inner.project, Some(&setup.app), setup.declared, now)?;
        for new in &mut declared {
            new.version.clone_from(&setup.version);
        }
        let workflows: BTreeMap<Arc<str>, WorkflowConfig> = setup
            .workflows
            .into_iter()
            .map(|(id, workflow)| {
                let config = WorkflowConfig {
                    is_schedulable: workflow.is_schedulable,
                    retry_max: workflow.retry_max,
                    backoff: workflow.backoff.unwrap_or_default(),
                    timeout: workflow.timeout.map(Duration::from_micros),
                    code: workflow.code,
                };
                (id, config)
            })
            .collect();
        let pid = i64::from(std::process::id());
        let config = EngineConfig {
            project: Arc::clone(&inner.project),
            app: setup.app,
            aliases: setup.aliases,
            former: setup.former,
            version: setup.version,
            is_whole: setup.is_whole,
            host: process::host_id().into(),
            pid,
            process_mark: process::process_mark(pid).into(),
            about: setup.about.to_string().into(),
            workflows: workflows.clone(),
            declared,
            concurrency: setup.concurrency,
            lease: Duration::from_micros(setup.lease),
            idle_heartbeat: Duration::from_micros(setup.idle_heartbeat),
            lead: Duration::from_micros(setup.lead),
            lead_per_slot: Duration::from_micros(setup.lead_per_slot),
            lead_max: Duration::from_micros(setup.lead_max),
            poll_interval: Duration::from_micros(setup.poll_interval),
            retention: setup.retention.map(Duration::from_micros),
            retention_keep: RETENTION_KEEP,
            batch_max: setup.batch_max,
        };
        let lease = config.lease;
        expire_dead_peers(&inner, now)?;
        // Weak: the core outlives its workers, and must not keep the socket of a worker that is
        // gone.
        let (on_stop, line_of_handler) = (Arc::clone(&line), Arc::downgrade(&line));
        let new_worker_id = Box::new(|| WorkerId::from_random(random_bits()));
        let mut engine = Engine::new(inner.store.clone(), BridgeDispatcher(line), config, new_worker_id);
        let last_alive = engine.last_alive();
        let permits = engine.permits();
        let has_suspect = engine.suspect_flag();
        let (sender, drive) = if inner.manual.is_some() {
            let (sender, receiver) = crossbeam_channel::unbounded();
            engine.tick(inner.clock.now());
            (sender, Drive::Hand(Box::new(Mutex::new(engine)), receiver))
        } else {
            let on_end = Box::new(move || on_stop.push(Item::Stopped));
            let driver = Driver::start(engine, Arc::clone(&inner.clock), on_end)
                .map_err(|error| Error::State(error.to_string()))?;
            (driver.sender(), Drive::Thread(Mutex::new(Some(driver))))
        };
        inner.permit_pools.add(&permits, sender.clone());
        let (changes, rollbacks) = (sender.clone(), sender.clone());
        inner.hints.add(CoreHandler {
            change: Box::new(move || _ = changes.send(Message::Changed)),
            rollback: Box::new(move || _ = rollbacks.send(Message::RollbackDetected)),
            advice: Box::new(move |what| {
                if let Some(line) = line_of_handler.upgrade() {
                    BridgeDispatcher(line).emit(Notice::Advice(what.to_owned()));
                }
            }),
        });
        let changes = sender.clone();
        inner.store.observe(Box::new(move |commands, outcomes| {
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
        Ok(Self {
            inner,
            sender,
            workflows,
            drive,
            last_alive,
            permits,
            has_suspect,
            lease,
            failures: Mutex::default(),
            starter_pid: std::process::id(),
        })
    }

    fn commit(&self, command: Command, done: impl FnOnce(Report) + Send + 'static) {
        commit(&self.inner.store, command, done);
    }

    /// Runs `work`, which waits for the database, on a separate thread; with a manual clock, on the
    /// calling one.
    fn run_on_thread(&self, py: Python<'_>, work: Work) {
        if matches!(self.drive, Drive::Hand(..)) {
            return py.detach(work);
        }
        let mut failures = self.failures.lock();
        if failures.is_none() {
            let (sender, receiver) = crossbeam_channel::unbounded::<Work>();
            let serve = move || receiver.into_iter().for_each(|work| work());
            *failures = Thread::spawn("polos-failures", serve).ok().map(|thread| (sender, thread));
        }
        let refused = match &*failures {
            Some((sender, _)) => sender.send(work).err().map(|refused| refused.0),
            None => Some(work),
        };
        drop(failures);
        // If no thread can be started, the caller waits.
        if let Some(work) = refused {
            py.detach(work);
        }
    }
}

fn commit(store: &GroupCommit, command: Command, done: impl FnOnce(Report) + Send + 'static) {
    store.submit(Job { commands: vec![command], retries_when_busy: true, done: Box::new(done) });
}

/// Returns after how many consecutive failures the schedule of `run` pauses. Reads the schedule as
/// it is now, because it may have changed since the claim. If it can't be read, this failure
/// doesn't pause the schedule; the next one will.
fn pause_after_failures(inner: &Inner, run: &RunId) -> Option<u32> {
    let (store, project) = (&inner.store, &inner.project);
    let id = store.run(project, run).ok()??.schedule_id?;
    let schedule = store.schedule(project, &id).ok()??;
    let spec: ScheduleSpec = serde_json::from_str(&schedule.spec).ok()?;
    spec.pause_after_failures
}

/// Expires workers of this machine whose process has ended, so that their runs continue now instead
/// of after their lease.
fn expire_dead_peers(inner: &Inner, now: Timestamp) -> Result<(), Error> {
    let peers = inner.store.peers(&inner.project)?;
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
        let _ = inner.store.commit(&dead, now)?;
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

#[pymethods]
impl WorkerCore {
    /// Records a step; answers `("recorded", future, is_valid)` when it is durable. `state` is
    /// `done`, `failed`, `retrying`, or `sleeping`.
    #[expect(clippy::too_many_arguments, reason = "one crossing, flat arguments: a step costs microseconds")]
    fn record_step(
        &self,
        bridge: &Bridge,
        future: Py<PyAny>,
        run: &str,
        token: i64,
        name: &str,
        state: &str,
        attempt: u32,
        run_attempt: u32,
        result: Option<&str>,
        error: Option<&str>,
        wakes_at: Option<i64>,
        started_at: i64,
    ) -> PyResult<()> {
        let state = match state {
            "done" => StepState::Done,
            "failed" => StepState::Failed,
            "retrying" => StepState::Retrying,
            "sleeping" => StepState::Sleeping,
            other => return Err(PyValueError::new_err(format!("no state of a step is called `{other}`"))),
        };
        let step = StepRecord {
            name: name.into(),
            state,
            attempt,
            run_attempt,
            result: result.map(Into::into),
            error: error.map(Into::into),
            wakes_at: wakes_at.map(Timestamp::from_micros),
            started_at: Timestamp::from_micros(started_at),
            finished_at: self.inner.clock.now().wall,
        };
        let (run, token, line) = (RunId::from(run), Token(token), bridge.line());
        let sender = self.sender.clone();
        let has_suspect = Arc::clone(&self.has_suspect);
        self.commit(Command::RecordStep { run: run.clone(), token, step }, move |report| {
            let outcome = was_valid(report);
            if matches!(outcome, Ok(false)) {
                let _ = sender.send(Message::Fenced { run, token });
            } else if matches!(outcome, Ok(true)) && has_suspect.load(Ordering::Acquire) {
                let _ = sender.send(Message::Progressed { run, token });
            }
            line.push(Item::Recorded(future, outcome));
        });
        Ok(())
    }

    /// Completes a claim. `kind` is `succeeded`, `failed`, `cancelled`, `parked`, `held`,
    /// `released`, or `skipped`; `data` is its result or error (JSON), or why it is skipped or
    /// held. A run that `stands_alone` has neither schedule nor parent. A failure is retried by the
    /// workflow's policy, unless `is_final`.
    #[expect(clippy::too_many_arguments, reason = "one crossing, flat arguments")]
    #[pyo3(signature = (run, token, workflow, attempt, kind, stands_alone, data=None, wakes_at=None, is_final=false))]
    fn complete_run(
        &self,
        py: Python<'_>,
        run: &str,
        token: i64,
        workflow: &str,
        attempt: u32,
        kind: &str,
        stands_alone: bool,
        data: Option<&str>,
        wakes_at: Option<i64>,
        is_final: bool,
    ) -> PyResult<()> {
        let data: Option<polos::model::Json> = data.map(Into::into);
        let ending = match kind {
            "succeeded" => Completion::Succeeded { result: data },
            "failed" => {
                let policy =
                    self.workflows.get(workflow).filter(|policy| !is_final && attempt <= policy.retry_max);
                let now = self.inner.clock.now().wall;
                let retry_at = policy.map(|policy| policy.backoff.retry_at(run, attempt, now));
                Completion::Failed { error: data.unwrap_or_else(|| "{}".into()), retry_at }
            }
            "cancelled" => Completion::Cancelled { error: data },
            "parked" => Completion::Parked { wakes_at: Timestamp::from_micros(wakes_at.unwrap_or(i64::MAX)) },
            "held" => Completion::Held {
                code: self.workflows.get(workflow).map_or_else(|| "".into(), |known| Arc::clone(&known.code)),
                note: data.unwrap_or_else(|| "its code has changed".into()),
            },
            "released" => Completion::Released,
            "skipped" => Completion::Skipped { reason: data.unwrap_or_else(|| "left out".into()) },
            other => return Err(PyValueError::new_err(format!("no ending is called `{other}`"))),
        };
        let (run_id, run, token) = (run, RunId::from(run), Token(token));
        let sender = self.sender.clone();
        if self.permits.is_short() {
            // An engine that has stopped needs no messages.
            let _ = sender.send(Message::Returned { run: run.clone(), token });
        }
        let may_pause = !stands_alone && matches!(ending, Completion::Failed { retry_at: None, .. });
        let is_skipped = matches!(ending, Completion::Skipped { .. });
        let inner = Arc::clone(&self.inner);
        let write = move |pause_after_failures: Option<u32>| {
            let command = Command::CompleteRun {
                run: run.clone(),
                token,
                ending: Box::new(ending),
                pause_after_failures,
                stands_alone,
            };
            commit(&inner.store, command, move |report| {
                let _ = sender.send(Message::settled(
                    run,
                    token,
                    is_skipped,
                    report.ok().as_ref().and_then(|outcomes| outcomes.first()),
                ));
            });
        };
        if may_pause {
            let (inner, run) = (Arc::clone(&self.inner), RunId::from(run_id));
            self.run_on_thread(py, Box::new(move || write(pause_after_failures(&inner, &run))));
        } else {
            write(None);
        }
        Ok(())
    }

    /// The run's handler waits for another run, or for a long time: releases its permit for the
    /// meantime.
    fn block(&self, run: &str, token: i64) {
        let _ = self.sender.send(Message::Blocked { run: run.into(), token: Token(token) });
    }

    /// The handler continues: takes its permit back.
    fn unblock(&self, run: &str, token: i64) {
        let _ = self.sender.send(Message::Unblocked { run: run.into(), token: Token(token) });
    }

    /// Whether this worker has sent a heartbeat within the lease, so that no other worker can have
    /// claimed its runs. If not (the process was stopped, the machine slept), a claim has to be
    /// confirmed before anything is executed under it.
    fn is_trusted(&self) -> bool {
        let seen = Duration::from_micros(self.last_alive.load(Ordering::Acquire));
        self.inner.clock.now().mono.saturating_sub(seen) < self.lease
    }

    /// Fires timer `id` after `delay` microseconds, as `("ring", [id, ...])` through the bridge.
    fn set_timer(&self, id: u64, delay: u64) {
        let _ = self.sender.send(Message::SetTimer { id, delay: Duration::from_micros(delay) });
    }

    /// Stops claiming runs.
    fn drain(&self) {
        let _ = self.sender.send(Message::Drain);
    }

    /// Gives back held runs and deregisters; blocks for at most `limit` microseconds. Returns false
    /// if the database doesn't answer in time.
    fn deregister(&self, py: Python<'_>, limit: u64) -> bool {
        let failures = self.failures.lock().take();
        match &self.drive {
            Drive::Thread(driver) => {
                let driver = driver.lock().take();
                let limit = Duration::from_micros(limit);
                py.detach(|| {
                    // First write the pending failures: deregistering gives their runs back.
                    let is_done = failures.is_none_or(|(sender, thread)| {
                        drop(sender);
                        thread.join_for(limit)
                    });
                    let _ = self.sender.send(Message::Deregister);
                    let limit = if is_done { limit } else { Duration::ZERO };
                    driver.is_none_or(|mut driver| driver.join_for(limit))
                })
            }
            Drive::Hand(..) => {
                let _ = self.sender.send(Message::Deregister);
                self.tick();
                true
            }
        }
    }

    /// For tests: treats this worker's process as gone, so no new run may be claimed for it.
    fn abandon(&self) {
        self.permits.close();
    }

    /// With a manual clock: one tick of the engine. Returns `(next instant or None, microseconds
    /// until the next tick, is_over)`.
    fn tick(&self) -> Option<(Option<i64>, u64, bool)> {
        let Drive::Hand(engine, receiver) = &self.drive else { return None };
        let mut engine = engine.lock();
        let now = self.inner.clock.now();
        for message in receiver.try_iter() {
            engine.receive(message, now);
        }
        let next = engine.tick(now);
        let within = u64::try_from(next.mono.saturating_sub(now.mono).as_micros()).unwrap_or(u64::MAX);
        Some((next.wall.map(Timestamp::as_micros), within, next.is_over))
    }
}

impl Drop for WorkerCore {
    fn drop(&mut self) {
        if std::process::id() != self.starter_pid
            && let Drive::Thread(driver) = &self.drive
            && let Some(driver) = driver.lock().take()
        {
            // A forked child: the thread lives in the parent.
            std::mem::forget(driver);
            std::mem::forget(self.failures.lock().take());
        }
    }
}
