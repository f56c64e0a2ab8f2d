//! The pool of connections for reads.

use super::config::ServerConfig;
use super::connection::{Connection, Session};
use super::error::PgError;
use crate::store::StoreError;
use crate::sync::{Condvar, Mutex};
use std::sync::Arc;

/// A connection is closed after being idle for so long.
const IDLE_SECONDS_MAX: u32 = 15;

/// Connections for reads. A connection that failed is closed.
pub(super) struct Pool {
    server: Arc<ServerConfig>,
    size: usize,
    state: Mutex<PoolState>,
    returned: Condvar,
}

#[derive(Default)]
struct PoolState {
    /// Each with the number of whole seconds that it has been idle.
    idle: Vec<(Connection, u32)>,
    open: usize,
}

impl Pool {
    pub fn new(server: Arc<ServerConfig>, size: usize) -> Self {
        Self { server, size: size.max(1), state: Mutex::default(), returned: Condvar::new() }
    }

    /// Runs a read. Repeats it if the connection turns out to have been cut while it was idle.
    #[expect(clippy::needless_pass_by_value, reason = "callers pass closures by value")]
    pub fn read<T>(&self, read: impl AsyncFn(Session<'_>) -> Result<T, PgError>) -> Result<T, StoreError> {
        loop {
            let (connection, is_fresh) = self.take()?;
            match connection.with(async |session| read(session.reading()).await) {
                Ok(answer) => {
                    self.put_back(Some(connection));
                    return Ok(answer);
                }
                Err(error) => {
                    let is_broken = error.is_broken();
                    self.put_back((!is_broken).then_some(connection));
                    if !is_broken || is_fresh || matches!(error, PgError::Silence) {
                        return Err(error.into_store_error(&self.server));
                    }
                    // The same event has probably cut the other idle connections too.
                    self.drop_idle();
                }
            }
        }
    }

    /// Called every second; closes connections that have been idle for long. The one that was used
    /// last is used next, so the others grow old.
    pub fn note_second(&self) {
        let mut state = self.state.lock();
        let mut old = Vec::new();
        for (connection, seconds) in std::mem::take(&mut state.idle) {
            if seconds >= IDLE_SECONDS_MAX {
                old.push(connection);
            } else {
                state.idle.push((connection, seconds + 1));
            }
        }
        state.open -= old.len();
        drop(state);
        drop(old);
    }

    /// Closes idle connections.
    pub fn drop_idle(&self) {
        let mut state = self.state.lock();
        let dropped = std::mem::take(&mut state.idle);
        state.open -= dropped.len();
        drop(state);
        drop(dropped);
        self.returned.notify_all();
    }

    fn take(&self) -> Result<(Connection, bool), StoreError> {
        let mut state = self.state.lock();
        loop {
            if let Some((connection, _)) = state.idle.pop() {
                // Not under the lock: this may have to ask the server.
                drop(state);
                if connection.is_usable(&self.server) {
                    return Ok((connection, false));
                }
                drop(connection);
                state = self.state.lock();
                state.open -= 1;
                continue;
            }
            if state.open < self.size {
                state.open += 1;
                break;
            }
            self.returned.wait(&mut state);
        }
        drop(state);
        let connection = Connection::open_to_work(&self.server).inspect_err(|_| self.put_back(None))?;
        Ok((connection, true))
    }

    fn put_back(&self, connection: Option<Connection>) {
        let mut state = self.state.lock();
        match connection {
            Some(connection) => state.idle.push((connection, 0)),
            None => state.open -= 1,
        }
        drop(state);
        self.returned.notify_one();
    }
}
