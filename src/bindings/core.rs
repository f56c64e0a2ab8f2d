//! One open database, as seen from Python.

use super::bridge::{Bridge, Item};
use super::errors::to_exception;
use super::worker::WorkerCore;
use polos::calendar::Timestamp;
use polos::error::Error;
use polos::service::{Database, DatabaseOptions, Request, WaitId};
use polos::store::StoreError;
use polos::sync::Mutex;
use pyo3::prelude::*;
use std::sync::Arc;
use std::time::Duration;

/// An open database with its threads. After a fork, the child must not use it; its drop there
/// leaves alone what belongs to the parent.
#[pyclass(frozen, module = "polos._polos")]
pub struct Core {
    database: Mutex<Option<Arc<Database>>>,
    opener_pid: u32,
}

/// How long closing waits for a database that doesn't answer, unless the caller sets a limit.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

impl Core {
    fn database(&self) -> PyResult<Arc<Database>> {
        self.database.lock().clone().ok_or_else(|| to_exception(&Error::Store(StoreError::Closed)))
    }
}

#[pymethods]
impl Core {
    /// Opens the database that `options` (JSON) describe; creates it if it does not exist.
    #[new]
    fn new(py: Python<'_>, options: &str) -> PyResult<Self> {
        let options: DatabaseOptions = serde_json::from_str(options)
            .map_err(|error| to_exception(&Error::Argument(error.to_string())))?;
        let database = py.detach(|| Database::open(options)).map_err(|error| to_exception(&error))?;
        Ok(Self { database: Mutex::new(Some(Arc::new(database))), opener_pid: std::process::id() })
    }

    /// Answers a request (JSON in, JSON out) on the calling thread; `None` if `timeout`
    /// microseconds pass first.
    #[pyo3(signature = (request, timeout=None))]
    fn call(&self, py: Python<'_>, request: &str, timeout: Option<u64>) -> PyResult<Option<String>> {
        let database = self.database()?;
        let request = parse(request)?;
        py.detach(|| database.service.call(request, timeout.map(Duration::from_micros)))
            .map_err(|error| to_exception(&error))
    }

    /// Answers a request (JSON in, JSON out) within `limit` microseconds, even if the database
    /// hangs; `None` if there is no answer by then.
    fn call_within(&self, py: Python<'_>, request: &str, limit: u64) -> PyResult<Option<String>> {
        let database = self.database()?;
        let request = parse(request)?;
        py.detach(|| database.service.call_within(request, Duration::from_micros(limit)))
            .map_err(|error| to_exception(&error))
    }

    /// Answers a request through the bridge, as `("answer", future, json)` or `("failed", future,
    /// exception)`. For a request that waits for a run to finish, returns a number for `withdraw`.
    fn submit(&self, request: &str, bridge: &Bridge, future: Py<PyAny>) -> PyResult<Option<u64>> {
        let line = bridge.line();
        let done = Box::new(move |reply| line.push(Item::Answer(future, reply)));
        Ok(self.database()?.service.submit(parse(request)?, done).map(|wait| wait.0))
    }

    /// Forgets a request whose caller has given up. Does nothing if it was answered or the database
    /// is closed.
    fn withdraw(&self, wait: u64) {
        let database = self.database.lock().clone();
        if let Some(database) = database {
            database.service.withdraw(WaitId(wait));
        }
    }

    /// Number of requests that wait for a run to finish.
    fn wait_count(&self) -> PyResult<usize> {
        Ok(self.database()?.service.wait_count())
    }

    /// Starts a worker from `config` (JSON); its events arrive through the bridge.
    fn start_worker(&self, py: Python<'_>, config: &str, bridge: &Bridge) -> PyResult<WorkerCore> {
        WorkerCore::start(py, self.database()?, config, bridge)
    }

    /// The time of this database's clock, in microseconds since the epoch.
    fn now(&self) -> PyResult<i64> {
        Ok(self.database()?.clock.now().wall.as_micros())
    }

    /// Advances a manual clock; never backwards.
    fn advance_to(&self, wall: i64) -> PyResult<()> {
        if let Some(manual) = &self.database()?.manual {
            manual.advance_to(Timestamp::from_micros(wall));
        }
        Ok(())
    }

    /// Sets the wall time of a manual clock, as an administrator would; no monotonic time passes.
    fn set_wall(&self, wall: i64) -> PyResult<()> {
        if let Some(manual) = &self.database()?.manual {
            manual.set_wall(Timestamp::from_micros(wall));
        }
        Ok(())
    }

    /// Writes queued commands and closes, within `limit` microseconds. Returns false if the
    /// database doesn't answer in time. A second call does nothing.
    #[pyo3(signature = (limit=None))]
    fn close(&self, py: Python<'_>, limit: Option<u64>) -> bool {
        let database = self.database.lock().take();
        let limit = limit.map_or(CLOSE_TIMEOUT, Duration::from_micros);
        database.is_none_or(|database| py.detach(|| database.close_within(limit)))
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        if let Some(database) = self.database.lock().take() {
            if std::process::id() == self.opener_pid {
                database.close_within(CLOSE_TIMEOUT);
            } else {
                // A forked child: the threads live in the parent, and closing the files would
                // release its locks.
                std::mem::forget(database);
            }
        }
    }
}

fn parse(request: &str) -> PyResult<Request> {
    serde_json::from_str(request).map_err(|error| to_exception(&Error::Argument(error.to_string())))
}
