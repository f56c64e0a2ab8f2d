//! Hands events from the core's threads to one event loop: a queue and a socket. The core's threads
//! never wait for the interpreter's lock; they push items and write one byte per batch, and the
//! loop's own thread drains the queue.

use super::errors::to_exception;
use polos::engine::wake_queue::WakeQueue;
use polos::engine::{Dispatcher, Notice, Stop, StopReason};
use polos::error::Error;
use polos::model::{ClaimedRun, ScheduleLabel, StepState};
use polos::sync::Mutex;
use pyo3::exceptions::{PyMemoryError, PyOSError};
use pyo3::prelude::*;
use pyo3::types::{PyList, PyString, PyTuple};
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

/// An event for the loop.
pub enum Item {
    /// Runs to start.
    Start(Vec<ClaimedRun>),
    /// Runs to stop.
    Stop(Vec<Stop>),
    /// Timers that expired.
    Timers(Vec<u64>),
    /// A notice to log.
    Notice(Notice),
    /// The response to a request of this loop.
    Answer(Py<PyAny>, Result<String, Error>),
    /// A step or a completion is durable (true), or its claim is lost (false).
    Recorded(Py<PyAny>, Result<bool, Error>),
    /// The engine has stopped.
    Stopped,
}

/// The part of the queue that threads share.
pub struct Line {
    queue: WakeQueue<Item>,
    wake_signal: WakeSignal,
}

enum WakeSignal {
    #[cfg(unix)]
    Socket(std::os::unix::net::UnixStream),
    /// For loops that can't watch a socket: a thread that calls into the interpreter.
    Thread(crossbeam_channel::Sender<()>),
}

impl WakeSignal {
    fn wake(&self) {
        match self {
            #[cfg(unix)]
            Self::Socket(stream) => {
                // A full buffer already holds a byte that wakes the loop; a closed socket has no
                // reader.
                let _ = std::io::Write::write(&mut &*stream, &[1]);
            }
            Self::Thread(sender) => {
                let _ = sender.send(());
            }
        }
    }
}

impl Line {
    /// Adds an item and wakes the loop, unless a wake-up is pending.
    pub fn push(&self, item: Item) {
        self.queue.push(item, || self.wake_signal.wake());
    }
}

/// The engine's dispatcher: sends runs to the event loop.
pub struct BridgeDispatcher(pub Arc<Line>);

impl Dispatcher for BridgeDispatcher {
    fn warm_up(&self) {
        // An empty batch: wakes the loop and warms up the path that starts runs.
        self.0.push(Item::Start(Vec::new()));
    }
    fn start(&self, runs: Vec<ClaimedRun>) {
        self.0.push(Item::Start(runs));
    }
    fn stop(&self, stops: Vec<Stop>) {
        self.0.push(Item::Stop(stops));
    }
    fn fire_timers(&self, timers: Vec<u64>) {
        self.0.push(Item::Timers(timers));
    }
    fn emit(&self, notice: Notice) {
        self.0.push(Item::Notice(notice));
    }
}

/// The receiving end of the queue, for one event loop.
#[pyclass(frozen, module = "polos._polos")]
pub struct Bridge {
    line: Arc<Line>,
    /// Items that were fetched but not delivered: Python had no memory for them.
    undelivered: Mutex<VecDeque<Item>>,
    #[cfg(unix)]
    wake_socket: Option<std::os::unix::net::UnixStream>,
}

impl Bridge {
    pub fn line(&self) -> Arc<Line> {
        Arc::clone(&self.line)
    }
}

#[pymethods]
impl Bridge {
    /// Without `wake`, the loop watches `fileno()`; with `wake`, a thread calls `wake()` for every
    /// batch.
    #[new]
    #[pyo3(signature = (wake=None))]
    fn new(wake: Option<Py<PyAny>>) -> PyResult<Self> {
        let make = |wake_signal| Arc::new(Line { queue: WakeQueue::new(), wake_signal });
        if let Some(wake) = wake {
            let (sender, receiver) = crossbeam_channel::unbounded();
            std::thread::Builder::new().name("polos-wake".to_owned()).spawn(move || {
                for () in &receiver {
                    // A closed loop refuses the call, and there is nothing left to wake.
                    while Python::try_attach(|py| lacks_memory(py, &wake)) == Some(true) {
                        pause();
                    }
                }
            })?;
            return Ok(Self {
                line: make(WakeSignal::Thread(sender)),
                undelivered: Mutex::default(),
                #[cfg(unix)]
                wake_socket: None,
            });
        }
        #[cfg(unix)]
        {
            let (wake_signal, wake_socket) = std::os::unix::net::UnixStream::pair()?;
            wake_signal.set_nonblocking(true)?;
            wake_socket.set_nonblocking(true)?;
            Ok(Self {
                line: make(WakeSignal::Socket(wake_signal)),
                undelivered: Mutex::default(),
                wake_socket: Some(wake_socket),
            })
        }
        #[cfg(not(unix))]
        Err(PyOSError::new_err("this system needs a `wake` callable"))
    }

    /// The file descriptor to watch for reading.
    fn fileno(&self) -> PyResult<i32> {
        #[cfg(unix)]
        if let Some(wake_socket) = &self.wake_socket {
            return Ok(std::os::fd::AsRawFd::as_raw_fd(wake_socket));
        }
        Err(PyOSError::new_err("this bridge calls its `wake`; it has no file descriptor"))
    }

    /// Appends everything that has arrived, in order, as `(kind, ...)` tuples. Items that Python
    /// has no memory for are kept for the next call, and the loop is woken for it.
    fn drain(&self, py: Python<'_>, into: &Bound<'_, PyAny>) {
        let arrived = self.line.queue.drain(|| {
            #[cfg(unix)]
            if let Some(wake_socket) = &self.wake_socket {
                let mut buffer = [0_u8; 64];
                while matches!(std::io::Read::read(&mut &*wake_socket, &mut buffer), Ok(count) if count == buffer.len())
                {
                }
            }
        });
        // Outside of the lock: calls into Python may switch to another thread of the interpreter.
        let mut items = std::mem::take(&mut *self.undelivered.lock());
        items.extend(arrived);
        while items.front().is_some_and(|item| deliver(py, item, into)) {
            items.pop_front();
        }
        if !items.is_empty() {
            *self.undelivered.lock() = items;
            self.wake_again(py);
        }
    }

    /// Wakes the loop once more, soon, for items it had no memory to handle.
    fn wake_again(&self, py: Python<'_>) {
        py.detach(pause);
        self.line.wake_signal.wake();
    }
}

/// Delay before retrying items that Python had no memory for.
#[expect(clippy::disallowed_methods, reason = "no event reports that memory is free again")]
fn pause() {
    std::thread::sleep(Duration::from_millis(1));
}

/// Calls `wake`; returns whether that failed for lack of memory.
fn lacks_memory(py: Python<'_>, wake: &Py<PyAny>) -> bool {
    wake.call0(py).is_err_and(|error| error.is_instance_of::<PyMemoryError>(py))
}

/// Returns whether the loop has the item now. Items are always valid, so only lack of memory can
/// prevent it; some functions of the interpreter report that as an error, others by a panic.
fn deliver(py: Python<'_>, item: &Item, into: &Bound<'_, PyAny>) -> bool {
    catch_unwind(AssertUnwindSafe(|| {
        into.call_method1(pyo3::intern!(py, "append"), (convert(py, item)?,)).map(drop)
    }))
    .is_ok_and(|handed: PyResult<()>| handed.is_ok())
}

fn convert<'py>(py: Python<'py>, item: &Item) -> PyResult<Bound<'py, PyTuple>> {
    match item {
        Item::Start(runs) => {
            let mut seen = Interned::default();
            let list = PyList::empty(py);
            for claimed in runs {
                list.append(convert_run(py, claimed, &mut seen)?)?;
            }
            ("start", list).into_pyobject(py)
        }
        Item::Stop(stops) => {
            let stops: Vec<(&str, i64, &str)> = stops
                .iter()
                .map(|stop| {
                    let reason = match stop.reason {
                        StopReason::Cancelled => "cancelled",
                        StopReason::TimedOut => "timed_out",
                        StopReason::LeaseLost => "lease_lost",
                    };
                    (stop.run.as_str(), stop.token.0, reason)
                })
                .collect();
            ("stop", stops).into_pyobject(py)
        }
        Item::Timers(timers) => ("ring", timers).into_pyobject(py),
        Item::Notice(Notice::Missed(missed)) => {
            let missed: Vec<_> = missed
                .iter()
                .map(|slots| {
                    let line = &slots.line;
                    (
                        slots.schedule.as_str(),
                        &*slots.workflow,
                        &*slots.key,
                        line.from.as_micros(),
                        line.until.as_micros(),
                        line.count,
                        line.reason.to_string(),
                    )
                })
                .collect();
            ("missed", missed).into_pyobject(py)
        }
        Item::Notice(notice) => {
            let (kind, text) = describe(notice);
            ("notice", kind, text).into_pyobject(py)
        }
        Item::Answer(future, Ok(answer)) => ("answer", future, text(py, answer)?).into_pyobject(py),
        Item::Recorded(future, Ok(is_valid)) => ("recorded", future, *is_valid).into_pyobject(py),
        Item::Answer(future, Err(error)) | Item::Recorded(future, Err(error)) => {
            ("failed", future, to_exception(error).into_value(py)).into_pyobject(py)
        }
        Item::Stopped => ("over",).into_pyobject(py),
    }
}

/// A text of any length; may fail for lack of memory.
fn text<'py>(py: Python<'py>, text: &str) -> PyResult<Bound<'py, PyString>> {
    PyString::from_bytes(py, text.as_bytes())
}

/// Caches strings that repeat within a batch of runs.
#[derive(Default)]
struct Interned<'py> {
    workflow: Option<(Arc<str>, Bound<'py, PyString>)>,
    timezone: Option<(Arc<str>, Bound<'py, PyString>)>,
}

fn interned<'py>(
    py: Python<'py>,
    slot: &mut Option<(Arc<str>, Bound<'py, PyString>)>,
    value: &Arc<str>,
) -> PyResult<Bound<'py, PyAny>> {
    if let Some((known, made)) = slot
        && known == value
    {
        return Ok(made.clone().into_any());
    }
    let made = text(py, value)?;
    *slot = Some((Arc::clone(value), made.clone()));
    Ok(made.into_any())
}

/// `(run_id, token, workflow, key, schedule_id, slot, last_slot, upcoming, timezone, origin,
/// attempt, payload, input, journal, interruptions, interrupted_alone)`; instants in microseconds.
fn convert_run<'py>(
    py: Python<'py>,
    claimed: &ClaimedRun,
    seen: &mut Interned<'py>,
) -> PyResult<Bound<'py, PyTuple>> {
    let run = &claimed.run;
    let text = |value: &str| PyResult::Ok(text(py, value)?.into_any());
    let maybe_text = |value: Option<&str>| value.map_or_else(|| Ok(py.None().into_bound(py)), text);
    let maybe_time = |value: Option<polos::calendar::Timestamp>| -> PyResult<Bound<'py, PyAny>> {
        Ok(value.map(polos::calendar::Timestamp::as_micros).into_pyobject(py)?)
    };
    let origin = match run.origin {
        polos::model::Origin::Schedule => "schedule",
        polos::model::Origin::Trigger => "trigger",
        polos::model::Origin::Backfill => "backfill",
        polos::model::Origin::Invoke => "invoke",
        polos::model::Origin::Child => "child",
    };
    let journal: Bound<'py, PyAny> = if claimed.journal.is_empty() {
        py.None().into_bound(py)
    } else {
        let steps = PyList::empty(py);
        for step in &claimed.journal {
            let state = match step.state {
                StepState::Done => "done",
                StepState::Failed => "failed",
                StepState::Retrying => "retrying",
                StepState::Sleeping => "sleeping",
            };
            steps.append((
                &*step.name,
                state,
                step.attempt,
                step.run_attempt,
                step.result.as_deref(),
                step.error.as_deref(),
                step.wakes_at.map(polos::calendar::Timestamp::as_micros),
            ))?;
        }
        steps.into_any()
    };
    PyTuple::new(
        py,
        [
            text(run.id.as_str())?,
            run.token.0.into_pyobject(py)?.into_any(),
            interned(py, &mut seen.workflow, &run.workflow)?,
            text(&run.key)?,
            maybe_text(run.schedule_id.as_ref().map(polos::model::ScheduleId::as_str))?,
            maybe_time(run.slot)?,
            maybe_time(run.last_slot)?,
            maybe_time(run.upcoming)?,
            interned(py, &mut seen.timezone, &run.timezone)?,
            text(origin)?,
            run.attempt.into_pyobject(py)?.into_any(),
            maybe_text(run.payload.as_deref())?,
            maybe_text(run.input.as_deref())?,
            journal,
            run.interruptions.into_pyobject(py)?.into_any(),
            run.interrupted_alone.into_pyobject(py)?.to_owned().into_any(),
        ],
    )
}

#[expect(clippy::too_many_lines, reason = "one sentence for each notice")]
fn describe(notice: &Notice) -> (&'static str, String) {
    match notice {
        Notice::Registered(id) => ("entered", id.to_string()),
        Notice::StoreTrouble(error) => {
            ("warning", format!("the database fails; the worker continues when it recovers: {error}"))
        }
        Notice::StoreDenied(error) => (
            "error",
            format!(
                "the database refuses this worker, which an administrator has to fix; the worker \
                 retries until it works: {error}"
            ),
        ),
        Notice::StoreRecovered(after) => {
            ("warning", format!("the database works again after {:.1} s", after.as_secs_f64()))
        }
        Notice::StoreLost(error) => {
            ("lost", format!("the worker stops because its database cannot be used: {error}"))
        }
        Notice::ScheduleBroken(id, reason) => {
            ("error", format!("the schedule {id} is broken and no longer fires: {reason}"))
        }
        Notice::LeaseLost { held_count: 0 } => (
            "info",
            "this worker was silent for so long that others removed it (suspended, or without its database); it held \
             no runs, and registers again"
                .to_owned(),
        ),
        Notice::LeaseLost { held_count } => (
            "warning",
            format!(
                "this worker was presumed dead (suspended, or starved for longer than its lease); \
                 other workers took over {held_count} of its runs, and their handlers are \
                 cancelled here"
            ),
        ),
        Notice::RollbackDetected { held_count } => (
            "error",
            format!(
                "the database went back in time: a replica that lagged behind was promoted, or a \
                 backup was restored. The newest commits are lost: slots and steps of that time \
                 are executed again, and runs and schedules created then are gone. {held_count} \
                 runs in progress here are released; they continue when their lease has run out"
            ),
        ),
        Notice::TookOver { worker, run_count } => (
            "warning",
            format!(
                "worker {worker} sent no heartbeat within its lease; {run_count} of its runs are \
                 queued again"
            ),
        ),
        Notice::Suspect { run, workflow, interruptions, is_alone } => (
            "warning",
            format!(
                "run {run} of workflow `{workflow}` was interrupted {interruptions} times in a row \
                 without recording a step: each time its worker died (killed, out of memory, \
                 crashed). It is executed again, {}",
                if *is_alone {
                    "and this worker claims no other run until it completes or records a step, for \
                     60 s at most"
                } else {
                    "beside other runs, because no worker was idle"
                }
            ),
        ),
        Notice::StoreStalled(duration) => (
            "warning",
            format!(
                "the database did not answer for {:.1} s (another process locked it, or the disk \
                 hung); slots of that time follow the catch-up policy",
                duration.as_secs_f64()
            ),
        ),
        Notice::WasAway(duration) => (
            "warning",
            format!(
                "this worker did not run for {:.1} s (suspended, or the clock was set forward); \
                 slots of that time follow the catch-up policy",
                duration.as_secs_f64()
            ),
        ),
        Notice::Advice(what) => ("warning", what.clone()),
        Notice::Recomputed(count) => (
            "warning",
            format!(
                "the next slots of {count} schedules did not match the current clock and time zone \
                 data and were recomputed"
            ),
        ),
        Notice::WokeParents(count) => (
            "warning",
            format!(
                "{count} {} waited for a child run that had already finished, and can continue \
                 now. A worker of an earlier release on PostgreSQL could cause this; upgrade all \
                 workers",
                if *count == 1 { "run" } else { "runs" }
            ),
        ),
        Notice::Retired { app, schedules } => (
            "warning",
            format!(
                "retired {}: `{app}` no longer declares {}, nor does any live worker. A retired \
                 schedule starts nothing, keeps its history, and comes back, with its pause and \
                 note, when code that declares it starts. If another program declares it, give \
                 each program a name: `Worker(app=...)` or `polos run --app`",
                listed(schedules),
                if schedules.len() == 1 { "it" } else { "them" },
            ),
        ),
        Notice::Protected { app, schedules } => (
            "info",
            format!(
                "`{app}` no longer declares {}; kept because another live worker does, and retired \
                 when none does",
                listed(schedules)
            ),
        ),
        Notice::Overridden { app, schedules } => (
            "warning",
            format!(
                "{} that `{app}` declares: a change made through the API or the command line \
                 overrides the decorator, until `schedules.reset(id)`, `polos schedules reset`, or \
                 a change of the decorator",
                listed(schedules)
            ),
        ),
        Notice::Outdated { app, schedules } => (
            "warning",
            format!(
                "`{app}` declares {} differently from live workers with newer code; the newer \
                 declaration wins while one of them is alive. If this is the newer code, set \
                 `Worker(version=...)`",
                listed(schedules)
            ),
        ),
        Notice::Adopted { app, schedules } => (
            "warning",
            format!(
                "`{app}` does not declare {}, which an older release of polos recorded for it. It \
                 is kept now, and retired at its next start unless the code declares it again",
                listed(schedules)
            ),
        ),
        Notice::Missed(missed) => ("info", format!("slots of {} schedules were missed", missed.len())),
    }
}

/// Formats schedules for a message: the first few by name.
fn listed(schedules: &[ScheduleLabel]) -> String {
    const NAMED_MAX: usize = 10;
    let names: Vec<_> = schedules
        .iter()
        .take(NAMED_MAX)
        .map(|label| format!("`{}` (key `{}`, {})", label.workflow, label.key, label.id))
        .collect();
    let noun = if schedules.len() == 1 { "the schedule" } else { "the schedules" };
    match schedules.len().saturating_sub(NAMED_MAX) {
        0 => format!("{noun} {}", names.join(", ")),
        more => format!("{noun} {} and {more} more", names.join(", ")),
    }
}
