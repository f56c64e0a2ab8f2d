//! Ends the process when an orderly shutdown takes too long. Works while the interpreter is stuck:
//! its thread needs neither the interpreter's lock nor the event loop.

use polos::clock::{Clock, SystemClock};
use polos::sync::Mutex;
use polos::thread::Thread;
use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

/// Counts signals and ends the process after a deadline.
///
/// `signal.set_wakeup_fd(fileno())` lets the guard see each signal at the moment it arrives. The
/// guard repeats the byte on `echo_fileno()`, where the event loop can read it.
#[pyclass(frozen, module = "polos._polos")]
pub struct ExitGuard {
    /// Written by Python's C signal handler, and to wake the thread.
    input: UnixStream,
    echo: UnixStream,
    shared: Arc<Shared>,
}

struct Shared {
    clock: SystemClock,
    signals: Vec<u8>,
    /// A repeat of the same signal within this time is not counted.
    echo_time: Duration,
    /// Time until the process is ended: after the first signal, and after the second.
    limits: (Duration, Duration),
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    seen: Vec<(u8, Duration)>,
    count: u32,
    deadline: Option<(Duration, i32)>,
    is_over: bool,
}

impl Shared {
    /// Returns how long to wait for the next byte; `None` when the guard is done.
    fn wait(&self) -> Option<Option<Duration>> {
        let state = self.state.lock();
        if state.is_over {
            return None;
        }
        let Some((deadline, code)) = state.deadline else { return Some(None) };
        let rest = deadline.saturating_sub(self.clock.now().mono);
        if rest.is_zero() {
            let how =
                if state.count > 1 { "at once, after a repeated signal" } else { "now, after its timeout" };
            // Written directly to stderr: logging may be stuck.
            let _ = writeln!(
                std::io::stderr(),
                "polos: the worker hangs while it stops; the process ends {how}. Runs that were not released \
                 continue on another worker when the lease has expired"
            );
            std::process::exit(code);
        }
        Some(Some(rest))
    }

    fn see(&self, signal: u8) {
        if !self.signals.contains(&signal) {
            return;
        }
        let now = self.clock.now().mono;
        let mut state = self.state.lock();
        let last = state.seen.iter().find(|(number, _)| *number == signal).map(|(_, at)| *at);
        state.seen.retain(|(number, _)| *number != signal);
        state.seen.push((signal, now));
        if last.is_some_and(|at| now.saturating_sub(at) < self.echo_time) {
            return;
        }
        state.count += 1;
        let limit = if state.count == 1 { self.limits.0 } else { self.limits.1 };
        state.bring_forward(now + limit, 128 + i32::from(signal));
    }
}

impl State {
    fn bring_forward(&mut self, deadline: Duration, code: i32) {
        if self.deadline.is_none_or(|(known, _)| deadline < known) {
            self.deadline = Some((deadline, code));
        }
    }
}

fn guard(shared: &Shared, mut input: UnixStream, echo: &UnixStream) {
    let mut byte = [0];
    while let Some(limit) = shared.wait() {
        if input.set_read_timeout(limit).is_err() {
            return;
        }
        match input.read(&mut byte) {
            Ok(0) => return,
            Ok(_) => {
                shared.see(byte[0]);
                // A full buffer has woken the loop already.
                let _ = (&mut &*echo).write(&byte);
            }
            Err(error) => match error.kind() {
                ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted => {}
                _ => return,
            },
        }
    }
}

#[pymethods]
impl ExitGuard {
    /// Counts `signals`. The process ends `after_first` microseconds after the first, and
    /// `after_second` microseconds after the second; a repeat within `echo_time` microseconds is
    /// not counted.
    #[new]
    fn new(signals: Vec<u8>, after_first: u64, after_second: u64, echo_time: u64) -> PyResult<Self> {
        let failed = |error: std::io::Error| PyOSError::new_err(error.to_string());
        let (input, output) = UnixStream::pair().map_err(failed)?;
        let (echo_end, echo) = UnixStream::pair().map_err(failed)?;
        input.set_nonblocking(true).map_err(failed)?;
        echo.set_nonblocking(true).map_err(failed)?;
        echo_end.set_nonblocking(true).map_err(failed)?;
        let shared = Arc::new(Shared {
            clock: SystemClock::new(),
            signals,
            echo_time: Duration::from_micros(echo_time),
            limits: (Duration::from_micros(after_first), Duration::from_micros(after_second)),
            state: Mutex::default(),
        });
        let watched = Arc::clone(&shared);
        Thread::spawn("polos-exit", move || guard(&watched, output, &echo_end)).map_err(failed)?;
        Ok(Self { input, echo, shared })
    }

    /// For `signal.set_wakeup_fd`.
    fn fileno(&self) -> i32 {
        self.input.as_raw_fd()
    }

    /// Where the bytes of signals can be read.
    fn echo_fileno(&self) -> i32 {
        self.echo.as_raw_fd()
    }

    /// Whether a deadline is set.
    fn is_armed(&self) -> bool {
        self.shared.state.lock().deadline.is_some()
    }

    /// Ends the process in `within` microseconds with exit code `code`, unless an earlier deadline
    /// is set.
    fn arm(&self, within: u64, code: i32) {
        let deadline = self.shared.clock.now().mono + Duration::from_micros(within);
        self.shared.state.lock().bring_forward(deadline, code);
        // A byte that is no signal: it only wakes the thread.
        let _ = (&self.input).write(&[0]);
    }

    /// Clears the deadline.
    fn disarm(&self) {
        self.shared.state.lock().is_over = true;
        let _ = (&self.input).write(&[0]);
    }
}
