//! One worker, as seen from Python.

use super::bridge::{Bridge, BridgeDispatcher, Item};
use super::claimed_run::ClaimedRun;
use super::errors::to_exception;
use polos::calendar::Timestamp;
use polos::engine::metrics::{FINISHED, SlotCount};
use polos::engine::{Dispatcher, ExecutionOutcome, Message, Notice};
use polos::error::Error;
use polos::model::{Json, StepRecord, StepState, Token};
use polos::service::{Database, Tell, Worker, WorkerEvents, WorkerSetup, wait_response};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use std::sync::Arc;
use std::time::Duration;

/// A running engine.
#[pyclass(frozen, module = "polos._polos")]
pub struct WorkerCore {
    database: Arc<Database>,
    worker: Worker<BridgeDispatcher>,
}

impl WorkerCore {
    pub(super) fn start(
        py: Python<'_>,
        database: Arc<Database>,
        setup: &str,
        bridge: &Bridge,
    ) -> PyResult<Self> {
        let setup: WorkerSetup =
            serde_json::from_str(setup).map_err(|error| to_exception(&Error::Argument(error.to_string())))?;
        let line = bridge.line();
        // Weak: the core outlives its workers, and must not keep the socket of a worker that is
        // gone.
        let (on_stop, line_of_handler) = (Arc::clone(&line), Arc::downgrade(&line));
        let line_of_loop = Arc::downgrade(&line);
        let events = WorkerEvents {
            on_advice: Arc::new(move |what| {
                if let Some(line) = line_of_handler.upgrade() {
                    BridgeDispatcher(line).emit(Notice::Advice(what.to_owned()));
                }
            }),
            on_end: Box::new(move || on_stop.push(Item::Stopped)),
            ask_loop: Box::new(move |pulse| {
                if let Some(line) = line_of_loop.upgrade() {
                    line.push(Item::Ping(pulse));
                }
            }),
        };
        let worker = py
            .detach(|| Worker::start(Arc::clone(&database), setup, BridgeDispatcher(line), events))
            .map_err(|error| to_exception(&error))?;
        Ok(Self { database, worker })
    }
}

fn step_state(word: &str) -> PyResult<StepState> {
    StepState::of_word(word)
        .ok_or_else(|| PyValueError::new_err(format!("no state of a step is called `{word}`")))
}

fn outcome(
    kind: &str,
    data: Option<&str>,
    wakes_at: Option<i64>,
    is_final: bool,
) -> PyResult<ExecutionOutcome> {
    let json: Option<Json> = data.map(Into::into);
    Ok(match kind {
        "succeeded" => ExecutionOutcome::Succeeded { result: json },
        "failed" => ExecutionOutcome::Failed { error: json, is_final },
        "cancelled" => ExecutionOutcome::Cancelled { error: json },
        "parked" => ExecutionOutcome::Parked { wakes_at: wakes_at.map(Timestamp::from_micros) },
        "held" => ExecutionOutcome::Held { note: data.map(Into::into) },
        "released" => ExecutionOutcome::Released,
        "skipped" => ExecutionOutcome::Skipped { reason: data.map(Into::into) },
        other => return Err(PyValueError::new_err(format!("no ending is called `{other}`"))),
    })
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
        let step = StepRecord {
            name: name.into(),
            state: step_state(state)?,
            attempt,
            run_attempt,
            result: result.map(Into::into),
            error: error.map(Into::into),
            wakes_at: wakes_at.map(Timestamp::from_micros),
            started_at: Timestamp::from_micros(started_at),
            finished_at: self.database.clock.now().wall,
        };
        let line = bridge.line();
        self.worker.record_step(run, token, step, move |outcome| line.push(Item::Recorded(future, outcome)));
        Ok(())
    }

    /// Replaces the progress of a run (JSON); answers `("recorded", future, is_valid)` when that is
    /// written.
    fn report_progress(&self, bridge: &Bridge, future: Py<PyAny>, run: &str, token: i64, progress: &str) {
        let line = bridge.line();
        let report = move |outcome| line.push(Item::Recorded(future, outcome));
        self.worker.report_progress(run, token, progress, report);
    }

    /// Waits for the event `name`; answers `("answer", future, JSON)` with the step as it stands,
    /// or with `null` if the claim is no longer valid. The deadline `wakes_at` counts only if this
    /// is the first call for the step.
    #[expect(clippy::too_many_arguments, reason = "one crossing, flat arguments")]
    fn await_event(
        &self,
        bridge: &Bridge,
        future: Py<PyAny>,
        run: &str,
        token: i64,
        name: &str,
        run_attempt: u32,
        wakes_at: Option<i64>,
        started_at: i64,
    ) {
        let step = StepRecord {
            name: name.into(),
            state: StepState::Waiting,
            attempt: 1,
            run_attempt,
            result: None,
            error: None,
            wakes_at: wakes_at.map(Timestamp::from_micros),
            started_at: Timestamp::from_micros(started_at),
            finished_at: self.database.clock.now().wall,
        };
        let line = bridge.line();
        self.worker.await_event(run, token, step, move |stands| {
            let answer =
                stands.map(|step| step.map_or_else(|| "null".to_owned(), |step| wait_response(&step)));
            line.push(Item::Answer(future, answer));
        });
    }

    /// Completes a claim. `kind` is `succeeded`, `failed`, `cancelled`, `parked`, `held`,
    /// `released`, or `skipped`; `data` is its result or error (JSON), or why it is skipped or
    /// held. A failure is retried by the workflow's policy, unless `is_final`. `entered_at` is what
    /// `note_entry` returned, if the handler was entered. With `tells`, a hook is called about the
    /// outcome: answers `("tell", run, token, call)` through the bridge, with the id of the
    /// recorded call, or with `None` if there is nothing to tell.
    #[expect(clippy::too_many_arguments, reason = "one crossing, flat arguments")]
    #[pyo3(signature = (claimed, kind, data=None, wakes_at=None, is_final=false, entered_at=None, tells=None))]
    fn complete_run(
        &self,
        claimed: &ClaimedRun,
        kind: &str,
        data: Option<&str>,
        wakes_at: Option<i64>,
        is_final: bool,
        entered_at: Option<u64>,
        tells: Option<&Bridge>,
    ) -> PyResult<()> {
        let claim = &claimed.claim;
        let tell = tells.map(|bridge| -> Tell {
            let (line, run, token) = (bridge.line(), claim.run.clone(), claim.token);
            Box::new(move |call| line.push(Item::Tell(run, token, call)))
        });
        let entered_at = entered_at.map(Duration::from_micros);
        self.worker.complete_run(claim, outcome(kind, data, wakes_at, is_final)?, entered_at, tell);
        Ok(())
    }

    /// Notes that the handler is entered, to measure how late it is and how long it takes. Returns
    /// when, by the core's steady clock, in microseconds.
    fn note_entry(&self, claimed: &ClaimedRun) -> u64 {
        let entered_at = self.worker.note_entry(&claimed.claim.workflow, claimed.first_slot());
        u64::try_from(entered_at.as_micros()).unwrap_or(u64::MAX)
    }

    /// What this worker has committed:
    /// `[("slots" or "runs", workflow, outcome or status, count), ...]`.
    fn counts(&self) -> Vec<(&'static str, String, &'static str, u64)> {
        let mut found = Vec::new();
        for (workflow, counts) in self.worker.metrics().workflows() {
            for outcome in SlotCount::ALL {
                found.push(("slots", workflow.to_string(), outcome.word(), counts.slots(outcome)));
            }
            for (state, status) in FINISHED {
                found.push(("runs", workflow.to_string(), status, counts.runs(state)));
            }
        }
        found
    }

    /// The run's handler waits for another run, or for a long time: releases its permit for the
    /// meantime.
    fn block(&self, run: &str, token: i64) {
        self.worker.send(Message::Blocked { run: run.into(), token: Token(token) });
    }

    /// The handler continues: takes its permit back.
    fn unblock(&self, run: &str, token: i64) {
        self.worker.send(Message::Unblocked { run: run.into(), token: Token(token) });
    }

    /// Whether this worker has sent a heartbeat within the lease, so that no other worker can have
    /// claimed its runs. If not (the process was stopped, the machine slept), a claim has to be
    /// confirmed before anything is executed under it.
    fn is_trusted(&self) -> bool {
        self.worker.is_trusted()
    }

    /// Whether the run may be entered without asking the database: its claim was confirmed at
    /// `confirmed_at` of `steady_now()`, a moment ago.
    fn is_confirmed(&self, run: &str, token: i64, confirmed_at: Option<u64>) -> bool {
        self.worker.is_confirmed(run, token, confirmed_at.map(Duration::from_micros))
    }

    /// The time by the steady clock, in microseconds since an arbitrary moment.
    fn steady_now(&self) -> u64 {
        u64::try_from(self.worker.steady_now().as_micros()).unwrap_or(u64::MAX)
    }

    /// Fires timer `id` after `delay` microseconds, as `("ring", [id, ...])` through the bridge.
    fn set_timer(&self, id: u64, delay: u64) {
        self.worker.send(Message::SetTimer { id, delay: Duration::from_micros(delay) });
    }

    /// Whether the worker is alive and ready, as JSON. Never blocks.
    fn health(&self) -> String {
        serde_json::json!(self.worker.health()).to_string()
    }

    /// `HOST:PORT` where probes are answered, if they are.
    fn health_address(&self) -> Option<String> {
        self.worker.health_address().map(|address| address.to_string())
    }

    /// The hook call with this id has been made.
    fn hook_called(&self, call: &str) {
        self.worker.send(Message::HookCalled(call.into()));
    }

    /// Stops claiming runs.
    fn drain(&self) {
        self.worker.send(Message::Drain);
    }

    /// Gives back held runs and deregisters; blocks for at most `limit` microseconds. Returns false
    /// if the database doesn't answer in time.
    fn deregister(&self, py: Python<'_>, limit: u64) -> bool {
        py.detach(|| self.worker.deregister(Duration::from_micros(limit)))
    }

    /// For tests: treats this worker's process as gone, so no new run may be claimed for it.
    fn abandon(&self) {
        self.worker.abandon();
    }

    /// With a manual clock: one tick of the engine. Returns `(next instant or None, microseconds
    /// until the next tick, is_over)`.
    fn tick(&self) -> Option<(Option<i64>, u64, bool)> {
        let (next, within) = self.worker.tick()?;
        let within = u64::try_from(within.as_micros()).unwrap_or(u64::MAX);
        Some((next.wall.map(Timestamp::as_micros), within, next.is_over))
    }
}
