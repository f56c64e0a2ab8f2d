//! The store on PostgreSQL: any number of workers on any number of machines.
//!
//! Whatever the number of commands, a commit takes two round trips: it reads and locks the rows
//! that the commands need, applies the commands in memory by the same code as the in-memory store,
//! and writes what changed. `docs/decisions/0008-postgresql.md` explains why, and what it costs.

mod awaited_ends;
mod batch;
mod calendars;
mod candidates;
mod claim;
mod commit_counters;
mod completions;
mod config;
mod connect;
pub(super) mod connection;
mod deleted_limits;
mod end_point;
pub(super) mod error;
mod events;
mod expected_limits;
mod failed_runs;
mod fast_path;
mod fetch;
mod heartbeats;
mod hook_calls;
mod limits;
mod listener;
mod locked;
mod missing;
mod parameters;
mod passfile;
pub(super) mod pipeline;
mod pool;
mod prune;
pub(super) mod queries;
mod read;
pub(super) mod rows;
mod run_pages;
mod schedule_pages;
mod schema;
mod tls;
mod transaction;
mod write_back;

use super::{
    Answer, Command, DueSchedule, KeyedRun, NewRow, NextWork, Outcome, Page, ProjectStats, Rejection,
    RunFilter, ScheduleFilter, Shard, StoreError, StoreReads, StoreWrites, TransactionScript, WaitingParent,
};
use crate::calendar::Timestamp;
use crate::model::{
    CallKind, EntryRefusal, HookCall, LedgerEntry, LimitStatus, Peer, Run, RunId, Schedule, ScheduleId,
    StepRecord, StoredCalendar, Token, WaitingCalls, WorkerId, WorkflowEntry,
};
use crate::sync::Mutex;
use commit_counters::{COUNTERS, CommitCounters};
use completions::BusySchedules;
use config::ServerConfig;
use connection::{Connection, Session};
use error::{PgError, refusal};
use expected_limits::ExpectedLimits;
pub use listener::ChangeObserver;
use listener::{Attention, Listener};
use pool::Pool;
use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// Items that tests use directly.
pub mod internals {
    pub use super::commit_counters::CommitCounters;
    pub use super::config::{KEEPALIVES_IDLE, ServerConfig, TCP_USER_TIMEOUT};
    pub use super::end_point::hash as certificate_hash;
    pub use super::passfile::{Login, password_in};
    pub use super::queries::plans::QueryPlan;
    pub use super::rows::{decoded, encoded};
}

/// How to use a database.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct PostgresOptions {
    /// The most connections for concurrent reads.
    pub readers: usize,
    /// Refuse a database without our tables instead of creating them.
    pub must_exist: bool,
}

impl Default for PostgresOptions {
    fn default() -> Self {
        Self { readers: 4, must_exist: false }
    }
}

/// How often to repeat a transaction that the server rejected because of concurrent ones.
const COLLISIONS_MAX: u32 = 20;

/// How often to repeat a transaction on a new connection after its connection was cut.
const CUTS_MAX: u32 = 3;

/// A store in a PostgreSQL database.
pub struct PostgresStore {
    pub(super) server: Arc<ServerConfig>,
    writer: Mutex<Option<Connection>>,
    readers: Arc<Pool>,
    attention: Arc<Attention>,
    listener: Mutex<Option<Listener>>,
    /// The commit counter that this store uses.
    slot: usize,
    counters: Arc<CommitCounters>,
    /// Locking reads that missed a row and were repeated.
    misses: AtomicU64,
    /// A commit got no answer, and no commit has succeeded since.
    has_doubt: AtomicBool,
    expected_limits: ExpectedLimits,
    busy: BusySchedules,
}

impl PostgresStore {
    /// Opens the database at `url`. Creates the tables if there are none.
    pub fn open(url: &str, options: PostgresOptions) -> Result<Self, StoreError> {
        let server = Arc::new(ServerConfig::parse(url)?);
        let connection = Connection::open_to_work(&server)?;
        schema::prepare(&connection, &server, options.must_exist)?;
        connection.prepare_to_write().map_err(|error| error.into_store_error(&server))?;
        server.note_success();
        let readers = Arc::new(Pool::new(Arc::clone(&server), options.readers));
        let mut slot = [0];
        // Without randomness, all stores use the first counter and sometimes wait for each other.
        let _ = getrandom::fill(&mut slot);
        let slot = usize::from(slot[0]) % COUNTERS;
        let (writer, listener) = (Mutex::new(Some(connection)), Mutex::new(None));
        let (counters, misses) = (Arc::default(), AtomicU64::new(0));
        let (has_doubt, expected_limits) = (AtomicBool::new(false), ExpectedLimits::default());
        let attention = Arc::default();
        Ok(Self {
            server,
            writer,
            readers,
            attention,
            listener,
            slot,
            counters,
            misses,
            has_doubt,
            expected_limits,
            busy: BusySchedules::default(),
        })
    }

    /// Notifies `observer` of other processes' commits, and other processes of ours. Call it once.
    pub fn listen(&self, observer: Arc<dyn ChangeObserver>) -> Result<(), StoreError> {
        *self.listener.lock() = Some(Listener::open(
            Arc::clone(&self.server),
            observer,
            Arc::clone(&self.counters),
            Arc::clone(&self.readers),
            Arc::clone(&self.attention),
        )?);
        Ok(())
    }

    /// Stops listening, and closes idle connections. The store can still be used.
    pub fn close(&self) {
        let listener = self.listener.lock().take();
        drop(listener);
        // A commit that hangs holds the lock. Its connection ends with the process.
        let connection = self.writer.try_lock().and_then(|mut writer| writer.take());
        drop(connection);
        self.readers.drop_idle();
    }

    /// The time by the database's clock.
    pub fn time(&self) -> Result<Timestamp, StoreError> {
        self.readers.read(async |session| session.time().await)
    }

    /// The URL without password and parameters, for messages.
    pub fn name(&self) -> &str {
        self.server.name()
    }

    /// Whether connections are encrypted. For tests.
    #[doc(hidden)]
    pub fn is_encrypted(&self) -> Result<bool, StoreError> {
        self.readers.read(async |session| session.is_encrypted().await)
    }

    /// How many locking reads have missed a row so far, which should stay 0. For tests.
    #[doc(hidden)]
    pub fn missed_reads(&self) -> u64 {
        self.misses.load(Ordering::Relaxed)
    }

    /// How many round trips to the server there were so far, and with how many statements. For
    /// tests.
    #[doc(hidden)]
    pub fn round_trips(&self) -> (u64, u64) {
        self.server.sent()
    }

    /// Has a server of release 15 or newer count at once what our reads have read so far. For
    /// tests.
    #[doc(hidden)]
    pub fn settle_statistics(&self) -> Result<(), StoreError> {
        self.readers.read(async |session| {
            session.script("SELECT pg_stat_force_next_flush()").await?;
            session.script("SELECT 1").await
        })
    }

    /// The plans of all constant statements. For tests.
    #[doc(hidden)]
    pub fn query_plans(&self) -> Result<Vec<internals::QueryPlan>, StoreError> {
        self.readers.read(async |session| queries::plans::of_all(session).await)
    }

    /// The plans of the statements that the writing connection and one idle reading connection have
    /// sent. For tests.
    #[doc(hidden)]
    pub fn sent_plans(&self) -> Result<Vec<internals::QueryPlan>, StoreError> {
        let mut plans = self.readers.read(async |session| queries::plans::of_sent(session).await)?;
        if let Some(connection) = &*self.writer.lock() {
            let sent = connection.with(async |session| queries::plans::of_sent(session).await);
            plans.extend(sent.map_err(|error| error.into_store_error(&self.server))?);
        }
        Ok(plans)
    }

    /// Runs a short read that workers repeat. While there are few commits, it uses their
    /// connection, so that an idle worker has no connection for reads.
    fn look<T>(&self, read: impl AsyncFn(Session<'_>) -> Result<T, PgError>) -> Result<T, StoreError> {
        if self.attention.is_quiet()
            && let Some(mut writer) = self.writer.try_lock()
            && let Some(connection) = writer.take().filter(|connection| connection.is_usable(&self.server))
        {
            match connection.with(async |session| read(session.reading()).await) {
                Err(error) if error.is_broken() => {
                    if matches!(error, PgError::Silence) {
                        return Err(error.into_store_error(&self.server));
                    }
                }
                done => {
                    *writer = Some(connection);
                    return done.map_err(|error| error.into_store_error(&self.server));
                }
            }
        }
        self.readers.read(read)
    }

    fn write(&self, commands: &[Command], now: &dyn Fn() -> Timestamp) -> Result<Vec<Outcome>, StoreError> {
        self.attention.note_commit();
        let mut writer = self.writer.lock();
        let mut work = batch::Work::new(commands);
        let mut attempts = Attempts::default();
        loop {
            let connection = match writer.take().filter(|connection| connection.is_usable(&self.server)) {
                Some(connection) => connection,
                None => Connection::open_to_write(&self.server)?,
            };
            let commit_sent = Cell::new(false);
            let done = connection.with(async |session| {
                let terms = self.terms(now, attempts.is_careful);
                batch::commit(session, &mut work, terms, &commit_sent).await
            });
            let commit_sent = commit_sent.get();
            let error = match done {
                Ok(()) => {
                    if commit_sent {
                        self.has_doubt.store(false, Ordering::Release);
                    }
                    *writer = Some(connection);
                    let outcomes = work.outcomes();
                    self.notify_of(commands, &outcomes);
                    return Ok(outcomes);
                }
                Err(error) => error,
            };
            // A transaction whose commit was not even sent has not happened.
            let may_have_happened = error.is_broken() && commit_sent && !error.was_rolled_back();
            if may_have_happened || error.is_broken() && work.is_unsure() {
                self.has_doubt.store(true, Ordering::Release);
            }
            let next = if may_have_happened { AfterFailure::Fail } else { attempts.after(&error) };
            if let AfterFailure::RetryAfter(pause) = next {
                connection.idle(pause);
            }
            if !error.is_broken() {
                *writer = Some(connection);
            }
            if matches!(next, AfterFailure::Fail) {
                return Err(error.into_store_error(&self.server));
            }
        }
    }

    fn terms<'t>(&'t self, now: &'t dyn Fn() -> Timestamp, is_careful: bool) -> batch::Terms<'t> {
        batch::Terms {
            now,
            edits: self.server.edits(),
            schema: self.server.schema(),
            must_commit: self.has_doubt.load(Ordering::Acquire),
            is_careful,
            slot: self.slot,
            counts_idle: !self.attention.is_listening(),
            counters: &self.counters,
            misses: &self.misses,
            expected_limits: &self.expected_limits,
            busy: &self.busy,
        }
    }

    /// Notifies this process and others of a commit.
    fn notify_of(&self, commands: &[Command], outcomes: &[Outcome]) {
        if let Some(listener) = &*self.listener.lock() {
            listener.emit_rollback();
            listener.notify_others_of(commands, outcomes);
        }
    }
}

/// The failed attempts to commit a batch.
#[derive(Default)]
struct Attempts {
    collisions: u32,
    cuts: u32,
    /// Whether to apply each command separately, to find the one that the database refuses.
    is_careful: bool,
}

/// What to do after a failed attempt.
enum AfterFailure {
    Retry,
    RetryAfter(Duration),
    Fail,
}

impl Attempts {
    /// What to do after a transaction that did not happen because of this error.
    fn after(&mut self, error: &PgError) -> AfterFailure {
        if error.is_broken() {
            if self.cuts == CUTS_MAX || matches!(error, PgError::Store(_) | PgError::Silence) {
                return AfterFailure::Fail;
            }
            self.cuts += 1;
            AfterFailure::Retry
        } else if error.is_collision() && self.collisions < COLLISIONS_MAX {
            self.collisions += 1;
            AfterFailure::RetryAfter(pause_after(self.collisions))
        } else if !self.is_careful && refusal(error).is_some() {
            self.is_careful = true;
            AfterFailure::Retry
        } else {
            AfterFailure::Fail
        }
    }
}

/// A random wait before the next attempt, so that transactions don't collide again.
fn pause_after(collisions: u32) -> Duration {
    let mut bytes = [0; 2];
    // Without randomness, wait longest.
    let random = getrandom::fill(&mut bytes).map_or(u16::MAX, |()| u16::from_le_bytes(bytes));
    Duration::from_micros(u64::from(collisions.min(8)) * 4 * u64::from(random) / 65 + 100)
}

impl StoreWrites for PostgresStore {
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
        // Only edits may revoke claims. They share this lock while they are in progress.
        let key = self.server.edits();
        self.readers.read(async |session| {
            let sql = format!(
                "BEGIN; SET LOCAL lock_timeout = 5000; SELECT pg_advisory_xact_lock({key}); ROLLBACK"
            );
            let done = session.script(&sql).await;
            if done.is_err() {
                // End the transaction before another read uses the connection.
                let _ = session.script("ROLLBACK").await;
            }
            done
        })
    }
}

impl StoreReads for PostgresStore {
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

    fn next_work(
        &self,
        project: &str,
        workflows: &[Arc<str>],
        now: Timestamp,
    ) -> Result<NextWork, StoreError> {
        self.look(async |session| session.next_work(project, workflows, now, &self.expected_limits).await)
    }

    fn cancel_requests(&self, worker: &WorkerId) -> Result<Vec<RunId>, StoreError> {
        self.look(async |session| session.cancel_requests(worker).await)
    }

    fn claims_stand(&self, claims: &[(RunId, Token)]) -> Result<Vec<bool>, StoreError> {
        self.readers.read(async |session| session.claims_stand(claims).await)
    }

    fn may_enter(&self, claims: &[(RunId, Token)]) -> Result<Vec<Result<(), EntryRefusal>>, StoreError> {
        self.readers.read(async |session| session.may_enter(claims).await)
    }

    fn peers(&self, project: &str) -> Result<Vec<Peer>, StoreError> {
        self.look(async |session| session.peers(project).await)
    }

    fn hook_calls(
        &self,
        project: &str,
        kinds: &[CallKind],
        limit: usize,
    ) -> Result<Vec<HookCall>, StoreError> {
        self.look(async |session| session.hook_calls(project, kinds, limit).await)
    }

    fn waiting_hook_calls(&self, project: &str, now: Timestamp) -> Result<Vec<WaitingCalls>, StoreError> {
        self.readers.read(async |session| session.waiting_hook_calls(project, now).await)
    }

    fn limits(&self, project: &str, count_to: usize, now: Timestamp) -> Result<Vec<LimitStatus>, StoreError> {
        self.readers.read(async |session| session.limits(project, count_to, now).await)
    }

    fn calendars(
        &self,
        project: &str,
        names: Option<&[Arc<str>]>,
    ) -> Result<Vec<StoredCalendar>, StoreError> {
        self.readers.read(async |session| session.calendars(project, names).await)
    }

    fn schedules_with_calendars(&self, project: &str, page: &Page) -> Result<Vec<Schedule>, StoreError> {
        self.readers.read(async |session| {
            session.schedules_with_calendars(project, page.after.as_deref(), page.limit).await
        })
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

    fn runs_with_keys(
        &self,
        project: &str,
        workflow: &str,
        keys: (&str, &str),
        limit: usize,
    ) -> Result<Vec<KeyedRun>, StoreError> {
        self.readers.read(async |session| session.runs_with_keys(project, workflow, keys, limit).await)
    }

    fn running_with_key(&self, project: &str, limit: &str, key: &str) -> Result<u64, StoreError> {
        self.readers.read(async |session| session.running_with_key(project, limit, key).await)
    }

    fn run_with_event(
        &self,
        project: &str,
        of: (&str, &str),
        name: &str,
        idempotency_key: &str,
    ) -> Result<Option<RunId>, StoreError> {
        self.readers.read(async |session| session.run_with_event(project, of, name, idempotency_key).await)
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

    fn in_transaction(
        &self,
        new: NewRow<'_>,
        now: Timestamp,
    ) -> Result<Option<TransactionScript>, StoreError> {
        self.script_for(new, now).map(Some)
    }

    fn change_mark(&self) -> Result<u64, StoreError> {
        let before = self.counters.seen();
        let found = self.look(async |session| session.commit_counts().await)?;
        self.counters.note(&before, &found);
        if let Some(listener) = &*self.listener.lock() {
            listener.emit_rollback();
        }
        Ok(found.iter().fold(0, |sum: u64, count| sum.wrapping_add(count.cast_unsigned())))
    }

    fn announces_changes(&self) -> bool {
        self.attention.is_listening()
    }

    fn await_ends(&self, runs: &[RunId]) {
        if let Some(listener) = &*self.listener.lock() {
            listener.ask_for_ends(runs);
        }
    }
}
