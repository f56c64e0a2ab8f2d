//! PostgreSQL: any number of workers on any number of machines.
//!
//! A commit reads the rows that its commands need, locked, in one trip, applies the rules in memory (those of the store
//! that is the reference for all), and writes what changed in a second one, whatever the number of commands. Why it is
//! built so, and what it costs: `docs/decisions/0008-postgresql.md`.

mod batch;
mod claim;
mod commit_counters;
mod config;
mod connect;
mod connection;
mod end_point;
mod error;
mod failed_runs;
mod fast_path;
mod fetch;
mod listener;
mod locked;
mod missing;
mod parameters;
mod passfile;
mod pipeline;
mod pool;
mod prune;
mod read;
mod read_set;
mod rows;
mod run_pages;
mod schema;
mod tls;
#[cfg(feature = "sqlite")]
mod transfer_target;
mod write_back;

use super::{
    Answer, Command, DueSchedule, NextWork, Outcome, Page, ProjectStats, Rejection, RunFilter,
    ScheduleFilter, Shard, Store, StoreError, WaitingParent,
};
use crate::calendar::Timestamp;
use crate::model::{
    LedgerEntry, Peer, Run, RunId, Schedule, ScheduleId, StepRecord, Token, WorkerId, WorkflowEntry,
};
use crate::sync::Mutex;
use commit_counters::{COUNTERS, CommitCounters};
use config::ServerConfig;
use connection::Connection;
use error::{PgError, refusal};
pub use listener::ChangeObserver;
use listener::Listener;
use pool::Pool;
use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
#[cfg(feature = "sqlite")]
pub(super) use transfer_target::TransferTarget;

/// What the tests examine on its own.
pub mod internals {
    pub use super::commit_counters::CommitCounters;
    pub use super::config::{KEEPALIVES_IDLE, ServerConfig, TCP_USER_TIMEOUT};
    pub use super::end_point::hash as certificate_hash;
    pub use super::passfile::{Login, password_in};
    pub use super::rows::{decoded, encoded};
}

/// How a database is used.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct PostgresOptions {
    /// Most connections that answer questions at the same time.
    pub readers: usize,
    /// Refuse a database without tables of ours instead of creating them.
    pub must_exist: bool,
}

impl Default for PostgresOptions {
    fn default() -> Self {
        Self { readers: 4, must_exist: false }
    }
}

/// How often a transaction that met others is done again.
const COLLISIONS_MAX: u32 = 20;

/// How often one whose connection was cut before its end is done again on another.
const CUTS_MAX: u32 = 3;

/// A store in a PostgreSQL database.
pub struct PostgresStore {
    server: Arc<ServerConfig>,
    writer: Mutex<Option<Connection>>,
    readers: Pool,
    ear: Mutex<Option<Listener>>,
    /// Its place among the counters of commits.
    slot: usize,
    counters: Arc<CommitCounters>,
    /// Locking reads that missed a row and were repeated.
    misses: AtomicU64,
    /// A commit was left without an answer, and none has been answered since.
    has_doubt: AtomicBool,
}

impl PostgresStore {
    /// Opens the database at `url`, creating the tables where there are none.
    pub fn open(url: &str, options: PostgresOptions) -> Result<Self, StoreError> {
        let server = Arc::new(ServerConfig::parse(url)?);
        let connection = Connection::open_to_work(&server)?;
        schema::prepare(&connection, &server, options.must_exist)?;
        connection.prepare_to_write().map_err(|error| error.into_store_error(&server))?;
        server.note_success();
        let readers = Pool::new(Arc::clone(&server), options.readers);
        let mut slot = [0];
        // Without randomness all take the first: they wait for each other now and then.
        let _ = getrandom::fill(&mut slot);
        let slot = usize::from(slot[0]) % COUNTERS;
        let (writer, ear) = (Mutex::new(Some(connection)), Mutex::new(None));
        let (counters, misses) = (Arc::default(), AtomicU64::new(0));
        let has_doubt = AtomicBool::new(false);
        Ok(Self { server, writer, readers, ear, slot, counters, misses, has_doubt })
    }

    /// Lets `listener` hear of other processes' commits, and others of ours. Once for a store.
    pub fn listen(&self, listener: Arc<dyn ChangeObserver>) -> Result<(), StoreError> {
        *self.ear.lock() =
            Some(Listener::open(Arc::clone(&self.server), listener, Arc::clone(&self.counters))?);
        Ok(())
    }

    /// Hears no more, and lets go of the connections that nobody uses, though others may still hold the store.
    pub fn close(&self) {
        let ear = self.ear.lock().take();
        drop(ear);
        // A commit that hangs holds the lock; its connection goes with the process.
        let connection = self.writer.try_lock().and_then(|mut writer| writer.take());
        drop(connection);
        self.readers.drop_idle();
    }

    /// What the database's clock says.
    pub fn time(&self) -> Result<Timestamp, StoreError> {
        self.readers.read(async |session| session.time().await)
    }

    /// The database for people: its URL without password and parameters.
    pub fn name(&self) -> &str {
        self.server.name()
    }

    /// Whether the server speaks TLS with us. For tests.
    #[doc(hidden)]
    pub fn is_encrypted(&self) -> Result<bool, StoreError> {
        self.readers.read(async |session| session.is_encrypted().await)
    }

    /// How many locking reads have missed a row so far. For tests: it should stay 0.
    #[doc(hidden)]
    pub fn missed_reads(&self) -> u64 {
        self.misses.load(Ordering::Relaxed)
    }

    /// Has the server count at once what the connections that read have read so far, where it is version 15 or newer.
    /// For tests.
    #[doc(hidden)]
    pub fn settle_statistics(&self) -> Result<(), StoreError> {
        self.readers.read(async |session| {
            session.script("SELECT pg_stat_force_next_flush()").await?;
            session.script("SELECT 1").await
        })
    }

    fn write(&self, commands: &[Command], now: &dyn Fn() -> Timestamp) -> Result<Vec<Outcome>, StoreError> {
        let mut place = self.writer.lock();
        let mut work = batch::Work::new(commands);
        let (mut collisions, mut cuts) = (0, 0);
        let mut is_careful = false;
        loop {
            let connection = match place.take().filter(|connection| connection.is_usable(&self.server)) {
                Some(connection) => connection,
                None => Connection::open_to_write(&self.server)?,
            };
            let is_ending = Cell::new(false);
            let done = connection.with(async |session| {
                let edits = self.server.edits();
                let (slot, counters) = (self.slot, &*self.counters);
                let misses = &self.misses;
                let must_commit = self.has_doubt.load(Ordering::Acquire);
                let terms = batch::Terms { now, edits, must_commit, is_careful, slot, counters, misses };
                batch::commit(session, &mut work, terms, &is_ending).await
            });
            let error = match done {
                Ok(()) => {
                    if is_ending.get() {
                        self.has_doubt.store(false, Ordering::Release);
                    }
                    *place = Some(connection);
                    let answers = work.outcomes();
                    if let Some(ear) = &*self.ear.lock() {
                        ear.emit_rollback();
                        ear.notify_others_of(commands, &answers);
                    }
                    return Ok(answers);
                }
                Err(error) => error,
            };
            if error.is_broken() {
                // Where the end of the transaction was not even asked for, nothing has happened.
                let did_nothing = !is_ending.get() || error.was_rolled_back();
                if !did_nothing || work.is_unsure() {
                    self.has_doubt.store(true, Ordering::Release);
                }
                if !did_nothing || cuts == CUTS_MAX || matches!(error, PgError::Store(_) | PgError::Silence) {
                    return Err(error.into_store_error(&self.server));
                }
                cuts += 1;
                continue;
            }
            if error.is_collision() && collisions < COLLISIONS_MAX {
                collisions += 1;
                connection.idle(pause_after(collisions));
            } else if !is_careful && refusal(&error).is_some() {
                is_careful = true;
            } else {
                *place = Some(connection);
                return Err(error.into_store_error(&self.server));
            }
            *place = Some(connection);
        }
    }
}

/// A random wait before the next try: those who met must not meet again.
fn pause_after(collisions: u32) -> Duration {
    let mut bytes = [0; 2];
    // Without randomness it is the longest wait.
    let shard = getrandom::fill(&mut bytes).map_or(u16::MAX, |()| u16::from_le_bytes(bytes));
    Duration::from_micros(u64::from(collisions.min(8)) * 4 * u64::from(shard) / 65 + 100)
}

impl Store for PostgresStore {
    fn commit_when(
        &self,
        commands: &[Command],
        now: &dyn Fn() -> Timestamp,
    ) -> Result<Vec<Result<Answer, Rejection>>, StoreError> {
        if commands.is_empty() {
            return Ok(Vec::new());
        }
        self.write(commands, now)
    }

    fn barrier(&self) -> Result<(), StoreError> {
        // What others must wait for is only what may take claims back: edits, which share this lock while they are under way.
        let key = self.server.edits();
        self.readers.read(async |session| {
            let sql = format!(
                "BEGIN; SET LOCAL lock_timeout = 5000; SELECT pg_advisory_xact_lock({key}); ROLLBACK"
            );
            let done = session.script(&sql).await;
            if done.is_err() {
                // Whoever uses the connection next must not find a transaction on it.
                let _ = session.script("ROLLBACK").await;
            }
            done
        })
    }

    fn due(
        &self,
        project: &str,
        workflows: &[Arc<str>],
        until: Timestamp,
        limit: usize,
    ) -> Result<Vec<DueSchedule>, StoreError> {
        self.due_in_shard(project, workflows, until, Shard::WHOLE, limit)
    }

    fn due_in_shard(
        &self,
        project: &str,
        workflows: &[Arc<str>],
        until: Timestamp,
        shard: Shard,
        limit: usize,
    ) -> Result<Vec<DueSchedule>, StoreError> {
        self.readers.read(async |session| session.due(project, workflows, until, shard, limit).await)
    }

    fn due_count(
        &self,
        project: &str,
        workflows: &[Arc<str>],
        until: Timestamp,
        limit: usize,
    ) -> Result<usize, StoreError> {
        self.readers.read(async |session| session.due_count(project, workflows, until, limit).await)
    }

    fn next_work(&self, project: &str, workflows: &[Arc<str>]) -> Result<NextWork, StoreError> {
        self.readers.read(async |session| session.next_work(project, workflows).await)
    }

    fn cancel_requests(&self, worker: &WorkerId) -> Result<Vec<RunId>, StoreError> {
        self.readers.read(async |session| session.cancel_requests(worker).await)
    }

    fn claims_stand(&self, claims: &[(RunId, Token)]) -> Result<Vec<bool>, StoreError> {
        self.readers.read(async |session| session.claims_stand(claims).await)
    }

    fn peers(&self, project: &str) -> Result<Vec<Peer>, StoreError> {
        self.readers.read(async |session| session.peers(project).await)
    }

    fn workflows(&self, project: &str) -> Result<Vec<WorkflowEntry>, StoreError> {
        self.readers.read(async |session| session.workflows(project).await)
    }

    fn schedule(&self, project: &str, id: &ScheduleId) -> Result<Option<Schedule>, StoreError> {
        self.readers.read(async |session| session.schedule(project, id).await)
    }

    fn schedules(
        &self,
        project: &str,
        filter: &ScheduleFilter,
        page: &Page,
    ) -> Result<Vec<Schedule>, StoreError> {
        self.readers.read(async |session| session.schedules(project, filter, page).await)
    }

    fn coming(&self, project: &str, until: Timestamp, limit: usize) -> Result<Vec<Schedule>, StoreError> {
        self.readers.read(async |session| session.coming(project, until, limit).await)
    }

    fn project_stats(
        &self,
        project: &str,
        due_before: Timestamp,
        count_to: usize,
    ) -> Result<ProjectStats, StoreError> {
        self.readers.read(async |session| session.project_stats(project, due_before, count_to).await)
    }

    fn history(
        &self,
        project: &str,
        id: &ScheduleId,
        page: &Page,
    ) -> Result<Option<Vec<LedgerEntry>>, StoreError> {
        self.readers.read(async |session| session.history(project, id, page).await)
    }

    fn run(&self, project: &str, id: &RunId) -> Result<Option<Run>, StoreError> {
        self.readers.read(async |session| session.run(project, id).await)
    }

    fn runs(&self, project: &str, filter: &RunFilter, page: &Page) -> Result<Vec<Run>, StoreError> {
        self.readers.read(async |session| {
            if filter.error.is_some() {
                session.runs_with_error(project, filter, page).await
            } else {
                session.runs(project, filter, page).await
            }
        })
    }

    fn waiting_parents(&self, project: &str, page: &Page) -> Result<Vec<WaitingParent>, StoreError> {
        self.readers.read(async |session| session.waiting_parents(project, page).await)
    }

    fn remarkable_runs(&self, project: &str, limit: usize) -> Result<Vec<Run>, StoreError> {
        self.readers.read(async |session| session.remarkable_runs(project, limit).await)
    }

    fn steps(&self, id: &RunId) -> Result<Vec<StepRecord>, StoreError> {
        self.readers.read(async |session| session.steps(id).await)
    }

    fn previous_result(&self, schedule: &ScheduleId, before: &RunId) -> Result<Option<Run>, StoreError> {
        self.readers.read(async |session| session.previous_result(schedule, before).await)
    }

    fn change_mark(&self) -> Result<u64, StoreError> {
        let before = self.counters.seen();
        let found = self.readers.read(async |session| session.commit_counts().await)?;
        self.counters.note(&before, &found);
        if let Some(ear) = &*self.ear.lock() {
            ear.emit_rollback();
        }
        Ok(found.iter().fold(0, |sum: u64, count| sum.wrapping_add(count.cast_unsigned())))
    }
}
