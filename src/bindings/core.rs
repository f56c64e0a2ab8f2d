//! One open database, as seen from Python.

use super::bridge::{Bridge, Item};
use super::errors::to_exception;
use super::worker::WorkerCore;
use polos::calendar::Timestamp;
use polos::clock::{Clock, ManualClock, SharedClock, SystemClock};
use polos::engine::PermitPools;
use polos::engine::group_commit::GroupCommit;
use polos::error::Error;
use polos::service::{Request, Service, WaitId};
use polos::store::{
    ChangeObserver, MemoryStore, PostgresOptions, PostgresStore, SqliteOptions, SqliteStore, Store,
    StoreError, Synchronous,
};
use polos::sync::Mutex;
use pyo3::prelude::*;
use serde::Deserialize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// An open database with its threads. After a fork, the child must not use it; its drop there
/// leaves alone what belongs to the parent.
#[pyclass(frozen, module = "polos._polos")]
pub struct Core {
    inner: Mutex<Option<Arc<Inner>>>,
    opener_pid: u32,
}

pub(super) struct Inner {
    pub store: GroupCommit,
    pub project: Arc<str>,
    pub clock: Arc<dyn Clock>,
    /// Present if the clock is manual (tests).
    pub manual: Option<ManualClock>,
    /// Notifications from the store.
    pub hints: Arc<Hints>,
    /// Present for PostgreSQL: its connections have to be closed.
    server: Option<Arc<PostgresStore>>,
    /// The workers' permits: a run created here may start at once.
    pub permit_pools: Arc<PermitPools>,
    service: Service,
}

/// Distributes notifications from the store to the workers.
#[derive(Default)]
pub(super) struct Hints {
    handlers: Mutex<Vec<CoreHandler>>,
    /// Advice so far, for handlers that are added later.
    advice_so_far: Mutex<Vec<String>>,
}

/// The callbacks of one worker.
pub(super) struct CoreHandler {
    /// Another process committed.
    pub change: Box<dyn Fn() + Send>,
    /// Rollback detected: the database was restored to an earlier state.
    pub rollback: Box<dyn Fn() + Send>,
    /// Advice for a person.
    pub advice: Box<dyn Fn(&str) + Send>,
}

impl Hints {
    /// Adds a handler, and gives it the advice so far.
    pub fn add(&self, handler: CoreHandler) {
        for what in self.advice_so_far.lock().iter() {
            (handler.advice)(what);
        }
        self.handlers.lock().push(handler);
    }
}

/// Receives notifications for all users of the store.
struct CoreObserver {
    hints: Arc<Hints>,
    clock: SharedClock,
}

impl ChangeObserver for CoreObserver {
    fn on_change(&self) {
        for handler in self.hints.handlers.lock().iter() {
            (handler.change)();
        }
    }

    fn on_rollback(&self) {
        for handler in self.hints.handlers.lock().iter() {
            (handler.rollback)();
        }
    }

    fn on_advice(&self, what: &str) {
        self.hints.advice_so_far.lock().push(what.to_owned());
        for handler in self.hints.handlers.lock().iter() {
            (handler.advice)(what);
        }
    }

    fn may_set_clock(&self, ask: &dyn Fn() -> Result<Timestamp, StoreError>) {
        if self.clock.is_look_due() {
            // While the database doesn't answer, time continues by the machine's monotonic clock.
            let _ = self.clock.look(ask);
        }
    }
}

/// How to open a database.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
struct Options {
    project: Arc<str>,
    /// URL of a PostgreSQL database.
    url: Option<String>,
    /// Opens the PostgreSQL database for reading only: nothing may be created in it.
    #[serde(default)]
    must_exist: bool,
    /// Path of the database file. Without `url` and `path`, the database is in memory and its
    /// manual clock begins at `start`.
    path: Option<PathBuf>,
    #[serde(default)]
    synchronous: Durability,
    start: Option<Timestamp>,
}

#[derive(Copy, Clone, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Durability {
    #[default]
    Full,
    Normal,
}

fn open(options: Options) -> Result<Inner, Error> {
    let must_exist = options.must_exist;
    let io_trouble = |error: std::io::Error| StoreError::Unavailable(error.to_string());
    let hints = Arc::new(Hints::default());
    let mut server = None;
    let (store, clock, manual) = if let Some(url) = options.url {
        let store = Arc::new(PostgresStore::open(
            &url,
            PostgresOptions { must_exist, ..PostgresOptions::default() },
        )?);
        server = Some(Arc::clone(&store));
        let clock = SharedClock::new(|| store.time())?;
        store.listen(Arc::new(CoreObserver { hints: Arc::clone(&hints), clock: clock.clone() }))?;
        let clock: Arc<dyn Clock> = Arc::new(clock);
        (GroupCommit::start(store, Arc::clone(&clock)).map_err(io_trouble)?, clock, None)
    } else if let Some(path) = options.path {
        let sqlite_options = SqliteOptions {
            synchronous: match options.synchronous {
                Durability::Full => Synchronous::Full,
                Durability::Normal => Synchronous::Normal,
            },
            ..SqliteOptions::default()
        };
        let store: Arc<dyn Store> = Arc::new(SqliteStore::open(&path, sqlite_options)?);
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        (GroupCommit::start(store, Arc::clone(&clock)).map_err(io_trouble)?, clock, None)
    } else {
        let manual = ManualClock::new(options.start.unwrap_or(Timestamp::from_micros(0)));
        let clock: Arc<dyn Clock> = Arc::new(manual.clone());
        (GroupCommit::inline(Arc::new(MemoryStore::new()), Arc::clone(&clock)), clock, Some(manual))
    };
    let permit_pools = Arc::new(PermitPools::default());
    let service = Service::open(store.clone(), Arc::clone(&options.project), Arc::clone(&permit_pools))
        .map_err(io_trouble)?;
    Ok(Inner { store, project: options.project, clock, manual, hints, server, permit_pools, service })
}

/// How long closing waits for a database that doesn't answer, unless the caller sets a limit.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

impl Inner {
    /// Writes queued commands and closes, within `limit`. Returns whether all threads have ended;
    /// otherwise they hang in the database and are abandoned.
    fn close_within(&self, limit: Duration) -> bool {
        // The machine's clock: this database's clock may be manual.
        let clock = SystemClock::new();
        let began = clock.now().mono;
        let rest = || limit.saturating_sub(clock.now().mono.saturating_sub(began));
        let has_ended = self.service.close_within(rest());
        let has_written = self.store.close_within(rest());
        if let Some(server) = &self.server {
            server.close();
        }
        has_written && has_ended
    }
}

impl Core {
    pub(super) fn inner(&self) -> PyResult<Arc<Inner>> {
        self.inner.lock().clone().ok_or_else(|| to_exception(&Error::Store(StoreError::Closed)))
    }
}

#[pymethods]
impl Core {
    /// Opens the database that `options` (JSON) describe; creates it if it does not exist.
    #[new]
    fn new(py: Python<'_>, options: &str) -> PyResult<Self> {
        let options: Options = serde_json::from_str(options)
            .map_err(|error| to_exception(&Error::Argument(error.to_string())))?;
        let inner = py.detach(|| open(options)).map_err(|error| to_exception(&error))?;
        Ok(Self { inner: Mutex::new(Some(Arc::new(inner))), opener_pid: std::process::id() })
    }

    /// Answers a request (JSON in, JSON out) on the calling thread; `None` if `timeout`
    /// microseconds pass first.
    #[pyo3(signature = (request, timeout=None))]
    fn call(&self, py: Python<'_>, request: &str, timeout: Option<u64>) -> PyResult<Option<String>> {
        let inner = self.inner()?;
        let request = parse(request)?;
        py.detach(|| inner.service.call(request, timeout.map(Duration::from_micros)))
            .map_err(|error| to_exception(&error))
    }

    /// Answers a request (JSON in, JSON out) within `limit` microseconds, even if the database
    /// hangs; `None` if there is no answer by then.
    fn call_within(&self, py: Python<'_>, request: &str, limit: u64) -> PyResult<Option<String>> {
        let inner = self.inner()?;
        let request = parse(request)?;
        py.detach(|| inner.service.call_within(request, Duration::from_micros(limit)))
            .map_err(|error| to_exception(&error))
    }

    /// Answers a request through the bridge, as `("answer", future, json)` or `("failed", future,
    /// exception)`. For a request that waits for a run to finish, returns a number for `withdraw`.
    fn submit(&self, request: &str, bridge: &Bridge, future: Py<PyAny>) -> PyResult<Option<u64>> {
        let line = bridge.line();
        let done = Box::new(move |reply| line.push(Item::Answer(future, reply)));
        Ok(self.inner()?.service.submit(parse(request)?, done).map(|wait| wait.0))
    }

    /// Forgets a request whose caller has given up. Does nothing if it was answered or the database
    /// is closed.
    fn withdraw(&self, wait: u64) {
        let inner = self.inner.lock().clone();
        if let Some(inner) = inner {
            inner.service.withdraw(WaitId(wait));
        }
    }

    /// Number of requests that wait for a run to finish.
    fn wait_count(&self) -> PyResult<usize> {
        Ok(self.inner()?.service.wait_count())
    }

    /// Starts a worker from `config` (JSON); its events arrive through the bridge.
    fn start_worker(&self, py: Python<'_>, config: &str, bridge: &Bridge) -> PyResult<WorkerCore> {
        WorkerCore::start(py, self.inner()?, config, bridge)
    }

    /// The time of this database's clock, in microseconds since the epoch.
    fn now(&self) -> PyResult<i64> {
        Ok(self.inner()?.clock.now().wall.as_micros())
    }

    /// Advances a manual clock; never backwards.
    fn advance_to(&self, wall: i64) -> PyResult<()> {
        if let Some(manual) = &self.inner()?.manual {
            manual.advance_to(Timestamp::from_micros(wall));
        }
        Ok(())
    }

    /// Sets the wall time of a manual clock, as an administrator would; no monotonic time passes.
    fn set_wall(&self, wall: i64) -> PyResult<()> {
        if let Some(manual) = &self.inner()?.manual {
            manual.set_wall(Timestamp::from_micros(wall));
        }
        Ok(())
    }

    /// Writes queued commands and closes, within `limit` microseconds. Returns false if the
    /// database doesn't answer in time. A second call does nothing.
    #[pyo3(signature = (limit=None))]
    fn close(&self, py: Python<'_>, limit: Option<u64>) -> bool {
        let inner = self.inner.lock().take();
        let limit = limit.map_or(CLOSE_TIMEOUT, Duration::from_micros);
        inner.is_none_or(|inner| py.detach(|| inner.close_within(limit)))
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        if let Some(inner) = self.inner.lock().take() {
            if std::process::id() == self.opener_pid {
                inner.close_within(CLOSE_TIMEOUT);
            } else {
                // A forked child: the threads live in the parent, and closing the files would
                // release its locks.
                std::mem::forget(inner);
            }
        }
    }
}

fn parse(request: &str) -> PyResult<Request> {
    serde_json::from_str(request).map_err(|error| to_exception(&Error::Argument(error.to_string())))
}
