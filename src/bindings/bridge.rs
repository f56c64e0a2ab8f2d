//! Hands events from the core's threads to one event loop: a queue and a socket. The core's threads
//! never wait for the interpreter's lock; they push items and write one byte per batch, and the
//! loop's own thread drains the queue.

use super::convert::convert;
use polos::engine::wake_queue::WakeQueue;
use polos::engine::{Dispatcher, Notice, Stop};
use polos::error::Error;
use polos::model::{ClaimedRun, RunId, Token};
use polos::service::monitor::LoopPulse;
use polos::sync::Mutex;
use pyo3::exceptions::{PyMemoryError, PyOSError};
use pyo3::prelude::*;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

/// An event for the loop.
pub enum Item {
    /// Runs to start, and when their claims were confirmed.
    Start(Vec<ClaimedRun>, Option<Duration>),
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
    /// The hook call to make about the outcome of a run that ended under this claim, if there is
    /// one.
    Tell(RunId, Token, Option<Arc<str>>),
    /// A question whether the loop still runs: it is answered by taking it.
    Ping(Arc<LoopPulse>),
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
    Socket(Mutex<Option<std::os::unix::net::UnixStream>>),
    /// For loops that can't watch a socket: a thread that calls into the interpreter.
    Thread(crossbeam_channel::Sender<()>),
}

impl WakeSignal {
    fn wake(&self) {
        match self {
            #[cfg(unix)]
            Self::Socket(stream) => {
                if let Some(stream) = &*stream.lock() {
                    // A full buffer already holds a byte that wakes the loop.
                    let _ = std::io::Write::write(&mut &*stream, &[1]);
                }
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
        self.0.push(Item::Start(Vec::new(), None));
    }
    fn start(&self, runs: Vec<ClaimedRun>, confirmed_at: Option<Duration>) {
        self.0.push(Item::Start(runs, confirmed_at));
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
    wake_socket: Mutex<Option<std::os::unix::net::UnixStream>>,
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
                wake_socket: Mutex::default(),
            });
        }
        #[cfg(unix)]
        {
            let (wake_signal, wake_socket) = std::os::unix::net::UnixStream::pair()?;
            wake_signal.set_nonblocking(true)?;
            wake_socket.set_nonblocking(true)?;
            Ok(Self {
                line: make(WakeSignal::Socket(Mutex::new(Some(wake_signal)))),
                undelivered: Mutex::default(),
                wake_socket: Mutex::new(Some(wake_socket)),
            })
        }
        #[cfg(not(unix))]
        Err(PyOSError::new_err("this system needs a `wake` callable"))
    }

    /// The file descriptor to watch for reading.
    fn fileno(&self) -> PyResult<i32> {
        #[cfg(unix)]
        if let Some(wake_socket) = &*self.wake_socket.lock() {
            return Ok(std::os::fd::AsRawFd::as_raw_fd(wake_socket));
        }
        Err(PyOSError::new_err("this bridge is closed, or calls its `wake`; it has no file descriptor"))
    }

    /// Closes the sockets: nothing wakes the loop any more. The loop must not watch `fileno()`.
    fn close(&self) {
        #[cfg(unix)]
        {
            if let WakeSignal::Socket(stream) = &self.line.wake_signal {
                drop(stream.lock().take());
            }
            drop(self.wake_socket.lock().take());
        }
    }

    /// Appends everything that has arrived, in order, as `(kind, ...)` tuples. Items that Python
    /// has no memory for are kept for the next call, and the loop is woken for it.
    fn drain(&self, py: Python<'_>, into: &Bound<'_, PyAny>) {
        let arrived = self.line.queue.drain(|| {
            #[cfg(unix)]
            if let Some(wake_socket) = &*self.wake_socket.lock() {
                let mut buffer = [0_u8; 64];
                while matches!(std::io::Read::read(&mut &*wake_socket, &mut buffer), Ok(count) if count == buffer.len())
                {
                }
            }
        });
        // Outside of the lock: calls into Python may switch to another thread of the interpreter.
        let mut items = std::mem::take(&mut *self.undelivered.lock());
        items.extend(arrived.into_iter().filter_map(|item| match item {
            Item::Ping(pulse) => {
                pulse.answer();
                None
            }
            item => Some(item),
        }));
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
