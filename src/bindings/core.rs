//! One open database, seen from Python.

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

/// An open database with its threads. In a process that was forked from the opener's, it must not be used, and it
/// takes care not to close what belongs to the parent.
#[pyclass(frozen, module = "polos._polos")]
pub struct Core {
    inner: Mutex<Option<Arc<Inner>>>,
    opener_pid: u32,
}

pub(super) struct Inner {
    pub store: GroupCommit,
    pub project: Arc<str>,
    pub clock: Arc<dyn Clock>,
    /// Where time is turned by hand.
    pub manual: Option<ManualClock>,
    /// What the store hears of its own accord.
    pub hints: Arc<Hints>,
    /// Where there are connections to close.
    server: Option<Arc<PostgresStore>>,
    /// Where runs that are created here may start at once.
    pub permit_pools: Arc<PermitPools>,
    service: Service,
}

/// What the store hears of its own accord, for those who want to know.
#[derive(Default)]
pub(super) struct Hints {
    handlers: Mutex<Vec<CoreHandler>>,
    /// What was said so far.
    said: Mutex<Vec<String>>,
}

/// Who hears.
pub(super) struct CoreHandler {
    /// Another process committed something.
    pub changed: Box<dyn Fn() + Send>,
    /// The database has become an older one.
    pub set_back: Box<dyn Fn() + Send>,
    /// Something that a person should know.
    pub on_advice: Box<dyn Fn(&str) + Send>,
}

impl Hints {
    /// Lets somebody hear, also of what was said before.
    pub fn add(&self, handler: CoreHandler) {
        for what in self.said.lock().iter() {
            (handler.on_advice)(what);
        }
        self.handlers.lock().push(handler);
    }
}

/// Hears for all who use the store.
struct CoreObserver {
    hints: Arc<Hints>,
    clock: SharedClock,
}

impl ChangeObserver for CoreObserver {
    fn on_change(&self) {
        for handler in self.hints.handlers.lock().iter() {
            (handler.changed)();
        }
    }

    fn on_rollback(&self) {
        for handler in self.hints.handlers.lock().iter() {
            (handler.set_back)();
        }
    }

    fn on_advice(&self, what: &str) {
        self.hints.said.lock().push(what.to_owned());
        for handler in self.hints.handlers.lock().iter() {
            (handler.on_advice)(what);
        }
    }

    fn may_set_clock(&self, ask: &dyn Fn() -> Result<Timestamp, StoreError>) {
        if self.clock.is_look_due() {
            // Where the database doesn't answer, time goes on by the machine's steady clock.
            let _ = self.clock.look(ask);
        }
    }
}

/// How to open.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
struct Options {
    project: Arc<str>,
    /// URL of a PostgreSQL database.
    url: Option<String>,
    /// Whether such a database is only looked at, so that nothing may be created in it.
    #[serde(default)]
    must_exist: bool,
    /// Path of the database file; without either, it is in memory and time is turned by hand from `start`.
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

/// How long closing waits for a database that doesn't answer, unless the caller says otherwise.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

impl Inner {
    /// Writes what is in line and closes, within `limit`. Returns whether all threads have ended; otherwise they hang in
    /// the database and are left alone.
    fn close_within(&self, limit: Duration) -> bool {
        // By the machine's clock: the one of this database may be turned by hand.
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
    /// Opens the database that `options` (JSON) describe, creating it where it does not exist.
    #[new]
    fn new(py: Python<'_>, options: &str) -> PyResult<Self> {
        let options: Options = serde_json::from_str(options)
            .map_err(|error| to_exception(&Error::Argument(error.to_string())))?;
        let inner = py.detach(|| open(options)).map_err(|error| to_exception(&error))?;
        Ok(Self { inner: Mutex::new(Some(Arc::new(inner))), opener_pid: std::process::id() })
    }

    /// Answers a request (JSON in, JSON out) on the calling thread; `None` when `timeout` microseconds pass first.
    #[pyo3(signature = (request, timeout=None))]
    fn call(&self, py: Python<'_>, request: &str, timeout: Option<u64>) -> PyResult<Option<String>> {
        let inner = self.inner()?;
        let request = parse(request)?;
        py.detach(|| inner.service.call(request, timeout.map(Duration::from_micros)))
            .map_err(|error| to_exception(&error))
    }

    /// Answers a request (JSON in, JSON out) within `limit` microseconds, whatever the database does; `None` when there
    /// is no answer by then.
    fn call_within(&self, py: Python<'_>, request: &str, limit: u64) -> PyResult<Option<String>> {
        let inner = self.inner()?;
        let request = parse(request)?;
        py.detach(|| inner.service.call_within(request, Duration::from_micros(limit)))
            .map_err(|error| to_exception(&error))
    }

    /// Answers a request through the bridge, as `("answer", future, json)` or `("failed", future, exception)`. For
    /// one that waits for the end of a run, returns a number for `withdraw`.
    fn submit(&self, request: &str, bridge: &Bridge, future: Py<PyAny>) -> PyResult<Option<u64>> {
        let line = bridge.line();
        let done = Box::new(move |reply| line.push(Item::Answer(future, reply)));
        Ok(self.inner()?.service.submit(parse(request)?, done).map(|wait| wait.0))
    }

    /// Forgets a request whose caller has given up. Does nothing where it was answered or the database is closed.
    fn withdraw(&self, wait: u64) {
        let inner = self.inner.lock().clone();
        if let Some(inner) = inner {
            inner.service.withdraw(WaitId(wait));
        }
    }

    /// How many requests wait for the end of a run.
    fn wait_count(&self) -> PyResult<usize> {
        Ok(self.inner()?.service.wait_count())
    }

    /// Starts a worker as `config` (JSON) says; its events arrive through the bridge.
    fn start_worker(&self, py: Python<'_>, config: &str, bridge: &Bridge) -> PyResult<WorkerCore> {
        WorkerCore::start(py, self.inner()?, config, bridge)
    }

    /// What the clock of this database says, in microseconds since the epoch.
    fn now(&self) -> PyResult<i64> {
        Ok(self.inner()?.clock.now().wall.as_micros())
    }

    /// Turns a clock that is turned by hand; not backwards.
    fn advance_to(&self, wall: i64) -> PyResult<()> {
        if let Some(manual) = &self.inner()?.manual {
            manual.advance_to(Timestamp::from_micros(wall));
        }
        Ok(())
    }

    /// Sets a clock that is turned by hand to another wall time, as an administrator would; no time passes.
    fn set_wall(&self, wall: i64) -> PyResult<()> {
        if let Some(manual) = &self.inner()?.manual {
            manual.set_wall(Timestamp::from_micros(wall));
        }
        Ok(())
    }

    /// Writes what is in line and closes, within `limit` microseconds. Returns whether that was possible: not where the
    /// database doesn't answer. A second time does nothing.
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
                // A forked child: the threads live in the parent, and closing the files would let go of its locks.
                std::mem::forget(inner);
            }
        }
    }
}

fn parse(request: &str) -> PyResult<Request> {
    serde_json::from_str(request).map_err(|error| to_exception(&Error::Argument(error.to_string())))
}
