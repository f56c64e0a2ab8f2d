//! Connections, and the replacement of one that failed.

use super::SqliteOptions;
use super::error::{in_use, is_poison};
use super::file::{self, DatabaseFile};
use super::open::{Purpose, abandon, connect, with_busy_retry};
use super::read::View;
use super::statements::Session;
use crate::store::StoreError;
use crate::sync::{Condvar, Mutex};
use rusqlite::{Connection, Result};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A log longer than this is written back at once, even if that delays commits: 128 MB.
const LOG_SIZE_MAX: u64 = 128 * 1024 * 1024;

/// A connection that callers use in turn. One that failed is discarded, and the next use opens
/// another.
pub(super) struct Lane {
    file: Arc<DatabaseFile>,
    options: SqliteOptions,
    purpose: Purpose,
    connection: Mutex<Option<Connection>>,
    /// How often callers have asked for the connection.
    uses: AtomicU64,
}

impl Lane {
    pub fn new(
        file: Arc<DatabaseFile>,
        options: SqliteOptions,
        purpose: Purpose,
        connection: Connection,
    ) -> Self {
        Self { file, options, purpose, connection: Mutex::new(Some(connection)), uses: AtomicU64::new(0) }
    }

    pub fn file(&self) -> &DatabaseFile {
        &self.file
    }

    /// How often the connection was used, or is about to be.
    pub fn uses(&self) -> u64 {
        self.uses.load(Ordering::Acquire)
    }

    /// Runs `work` with the connection.
    pub fn with<T>(&self, work: impl Fn(&Connection) -> Result<T>) -> std::result::Result<T, StoreError> {
        self.with_renewals(&AtomicU64::new(0), work)
    }

    /// Like [`Self::with`], and counts how often the connection was opened.
    pub fn with_renewals<T>(
        &self,
        renewals: &AtomicU64,
        work: impl Fn(&Connection) -> Result<T>,
    ) -> std::result::Result<T, StoreError> {
        self.file.check()?;
        self.uses.fetch_add(1, Ordering::AcqRel);
        self.run(&mut self.connection.lock(), renewals, work)
    }

    /// Like [`Self::with`], unless the connection is in use: `None`. Not counted.
    pub fn with_unused<T>(
        &self,
        work: impl Fn(&Connection) -> Result<T>,
    ) -> Option<std::result::Result<T, StoreError>> {
        let mut place = self.connection.try_lock()?;
        let checked = self.file.check();
        Some(checked.and_then(|()| self.run(&mut place, &AtomicU64::new(0), work)))
    }

    fn run<T>(
        &self,
        place: &mut Option<Connection>,
        renewals: &AtomicU64,
        work: impl Fn(&Connection) -> Result<T>,
    ) -> std::result::Result<T, StoreError> {
        if place.is_none() {
            renewals.fetch_add(1, Ordering::AcqRel);
            *place = Some(connect(&self.file, &self.options, self.purpose)?);
        }
        let Some(connection) = &*place else { return Err(StoreError::Closed) };
        with_busy_retry(&self.options, || work(connection)).map_err(|error| {
            if is_poison(&error)
                && let Some(connection) = place.take()
            {
                abandon(connection);
            }
            in_use(&self.file.path, &error)
        })
    }

    /// Closes the connection, unless it is in use: then it goes with the lane.
    pub fn close(&self) {
        if let Some(mut connection) = self.connection.try_lock() {
            drop(connection.take());
        }
    }

    /// Bounds the log if readers keep cutting checkpoints short.
    pub fn bound_log(&self) {
        if file::log_size(&self.file) <= LOG_SIZE_MAX {
            return;
        }
        if let Some(connection) = &*self.connection.lock() {
            // What stays in the log is still safe there. The next commit tries again.
            let _ = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
        }
    }
}

/// Connections for reading.
pub(super) struct Pool {
    file: Arc<DatabaseFile>,
    options: SqliteOptions,
    state: Mutex<PoolState>,
    returned: Condvar,
}

#[derive(Default)]
struct PoolState {
    idle: Vec<Connection>,
    open: usize,
}

impl Pool {
    pub fn new(file: Arc<DatabaseFile>, options: SqliteOptions) -> Self {
        Self { file, options, state: Mutex::default(), returned: Condvar::new() }
    }

    /// Runs a query on one snapshot.
    pub fn read<T>(
        &self,
        question: impl Fn(&mut View<'_>) -> Result<T>,
    ) -> std::result::Result<T, StoreError> {
        self.file.check()?;
        let connection = self.take()?;
        let answer = with_busy_retry(&self.options, || {
            connection.prepare_cached("BEGIN")?.execute([])?;
            let answer = question(&mut View { session: Session::on(&connection) });
            let ended = connection.prepare_cached("COMMIT").and_then(|mut end| end.execute([]));
            if ended.is_err() && !connection.is_autocommit() {
                let _ = connection.execute_batch("ROLLBACK");
            }
            let answer = answer?;
            ended.map(|_| answer)
        });
        match answer {
            Ok(answer) => {
                self.put_back(Some(connection));
                Ok(answer)
            }
            Err(error) => {
                if is_poison(&error) {
                    abandon(connection);
                    self.put_back(None);
                } else {
                    self.put_back(Some(connection));
                }
                Err(in_use(&self.file.path, &error))
            }
        }
    }

    fn take(&self) -> std::result::Result<Connection, StoreError> {
        let mut state = self.state.lock();
        loop {
            if let Some(connection) = state.idle.pop() {
                return Ok(connection);
            }
            if state.open < self.options.readers.max(1) {
                state.open += 1;
                break;
            }
            self.returned.wait(&mut state);
        }
        drop(state);
        connect(&self.file, &self.options, Purpose::Read).inspect_err(|_| self.put_back(None))
    }

    fn put_back(&self, connection: Option<Connection>) {
        let mut state = self.state.lock();
        match connection {
            Some(connection) if !self.file.is_closed() => state.idle.push(connection),
            _ => state.open -= 1,
        }
        drop(state);
        self.returned.notify_one();
    }

    /// Closes the connections; those in use are closed when they are put back.
    pub fn close(&self) {
        let mut state = self.state.lock();
        state.open -= state.idle.len();
        state.idle.clear();
    }
}
