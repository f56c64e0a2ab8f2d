//! One open database, with what its clients and workers share.

use super::Service;
use super::hints::{HintHandler, Hints, StoreObserver};
use crate::calendar::Timestamp;
use crate::clock::{Clock, ManualClock, SharedClock, SystemClock};
use crate::engine::PermitPools;
use crate::engine::group_commit::GroupCommit;
use crate::error::Error;
use crate::store::{
    MemoryStore, PostgresOptions, PostgresStore, SqliteOptions, SqliteStore, StoreError, Synchronous,
};
use crate::sync::Mutex;
use serde::Deserialize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// How to open a database.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub struct DatabaseOptions {
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

/// An open database with its threads.
pub struct Database {
    /// Reads, and writes in groups.
    pub store: GroupCommit,
    /// The namespace of all schedules and runs.
    pub project: Arc<str>,
    /// The database's clock.
    pub clock: Arc<dyn Clock>,
    /// Present if the clock is manual (tests).
    pub manual: Option<ManualClock>,
    /// Answers requests.
    pub service: Service,
    /// Notifications from the store.
    pub(super) hints: Arc<Hints>,
    /// The workers' permits: a run created here may start at once.
    pub(super) permit_pools: Arc<PermitPools>,
    /// Present for PostgreSQL: its connections have to be closed.
    server: Option<Arc<PostgresStore>>,
    /// Present for SQLite while it is open.
    file: Arc<Mutex<Option<Arc<SqliteStore>>>>,
}

impl Database {
    /// Opens the database; creates it if it doesn't exist.
    pub fn open(options: DatabaseOptions) -> Result<Self, Error> {
        let must_exist = options.must_exist;
        let io_trouble = |error: std::io::Error| StoreError::Unavailable(error.to_string());
        let hints = Arc::new(Hints::default());
        let mut server = None;
        let mut file = None;
        let (store, clock, manual) = if let Some(url) = options.url {
            let store = Arc::new(PostgresStore::open(
                &url,
                PostgresOptions { must_exist, ..PostgresOptions::default() },
            )?);
            server = Some(Arc::clone(&store));
            let clock = SharedClock::new(|| store.time())?;
            store.listen(Arc::new(StoreObserver { hints: Arc::clone(&hints), clock: clock.clone() }))?;
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
            let store = Arc::new(SqliteStore::open(&path, sqlite_options)?);
            file = Some(Arc::clone(&store));
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
        let file = Arc::new(Mutex::new(file));
        let waits = service.waits();
        hints.add(HintHandler {
            change: Box::new({
                let waits = waits.clone();
                move || waits.note_change()
            }),
            ends: Box::new({
                let waits = waits.clone();
                move |runs| waits.note_ends(runs)
            }),
            rollback: Box::new(|| {}),
            advice: Box::new(|_| {}),
        });
        let (watched, changed) = (Arc::downgrade(&file), Arc::downgrade(&hints));
        waits.on_first_wait(Box::new(move || {
            if let (Some(file), Some(hints)) = (watched.upgrade(), changed.upgrade())
                && let Some(file) = &*file.lock()
            {
                // The first worker says so if the file can't be watched; a wait then takes longer.
                let _ = file.listen(Box::new(move || hints.changed()));
            }
        }));
        let project = options.project;
        Ok(Self { store, project, clock, manual, service, hints, permit_pools, server, file })
    }

    /// Adds a worker's callbacks. PostgreSQL is listened to from the beginning. A file is watched
    /// from its first worker on, or its first wait for another process: systems count how many
    /// files a user watches.
    pub(super) fn add_hints(&self, handler: HintHandler) {
        self.hints.add(handler);
        let Some(file) = &*self.file.lock() else { return };
        let hints = Arc::clone(&self.hints);
        if let Err(error) = file.listen(Box::new(move || hints.changed())) {
            self.hints.advise(&format!(
                "work that other processes add to the database starts up to 0.2 s later: its file can't \
                 be watched ({error}); raise the system's fs.inotify.max_user_instances, or its limit of \
                 open files"
            ));
        }
    }

    /// Writes queued commands and closes, within `limit`. Returns whether all threads have ended;
    /// otherwise they hang in the database and are abandoned.
    pub fn close_within(&self, limit: Duration) -> bool {
        // The machine's clock: this database's clock may be manual.
        let clock = SystemClock::new();
        let began = clock.now().mono;
        let rest = || limit.saturating_sub(clock.now().mono.saturating_sub(began));
        let has_ended = self.service.close_within(rest());
        let has_written = self.store.close_within(rest());
        if let Some(server) = &self.server {
            server.close();
        }
        let is_idle = has_written && has_ended;
        if let Some(file) = self.file.lock().take() {
            if is_idle {
                file.close();
            } else {
                // Closing its connections would hang too.
                file.stop_listening();
            }
        }
        is_idle
    }
}
