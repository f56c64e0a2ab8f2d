//! A store in one file, for any number of processes on one machine.
//!
//! Commits go through one connection, a batch as one transaction. Reads go through a few others and
//! never wait for a commit. The reasons and the costs: `docs/decisions/0003-sqlite.md`.

mod batch;
mod busy;
mod calendars;
mod candidates;
mod claim;
mod completion;
mod debounce;
pub(super) mod error;
mod events;
mod failed_runs;
pub(super) mod file;
mod hook_calls;
mod k_merge;
mod limits;
#[cfg(target_os = "linux")]
mod listener;
pub(super) mod open;
mod pool;
mod prune;
mod queries;
mod read;
mod rows;
mod run_id_range;
mod run_pages;
mod runs;
mod schedules;
mod schema;
mod statements;
mod successes;

use super::{
    Answer, Command, DueSchedule, KeyedRun, NextWork, Page, ProjectStats, Rejection, RunFilter,
    ScheduleFilter, StoreError, StoreReads, StoreWrites, WaitingParent,
};
use crate::calendar::Timestamp;
use crate::model::{
    CallKind, EntryRefusal, HookCall, LedgerEntry, LimitStatus, Peer, Run, RunId, Schedule, ScheduleId,
    StepRecord, StoredCalendar, Token, WaitingCalls, WorkerId, WorkflowEntry,
};
#[cfg(target_os = "linux")]
use crate::sync::Mutex;
use pool::{Lane, Pool};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Internals that the tests examine directly.
pub mod internals {
    pub use super::error::{at_opening as failed_at_opening, in_use as failed_in_use};
    pub use super::open::connect_raw;
}

/// What a commit survives once it is answered.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub enum Synchronous {
    /// Loss of power.
    #[default]
    Full,
    /// The end of the process. Loss of power may undo the newest commits, but nothing else.
    Normal,
}

/// How to use a database.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct SqliteOptions {
    /// What a commit survives.
    pub synchronous: Synchronous,
    /// How long to wait while another process holds the file.
    pub busy_timeout: Duration,
    /// Most connections that read at the same time.
    pub readers: usize,
}

impl Default for SqliteOptions {
    fn default() -> Self {
        Self { synchronous: Synchronous::default(), busy_timeout: open::BUSY_TIMEOUT, readers: 4 }
    }
}

/// A store in a `SQLite` file.
pub struct SqliteStore {
    /// Dropped first: it uses the writer.
    #[cfg(target_os = "linux")]
    listener: Mutex<Option<listener::Listener>>,
    writer: Arc<Lane>,
    readers: Pool,
    /// A connection of its own, because a connection doesn't count its own commits as changes.
    mark: Lane,
    /// Waits for commits of other processes, without waiting for the writer of this one.
    guard: Lane,
    marks_renewed: AtomicU64,
}

impl SqliteStore {
    /// Opens the database at `path`, and creates the file if it doesn't exist (its folder must
    /// exist).
    pub fn open(path: impl AsRef<Path>, options: SqliteOptions) -> Result<Self, StoreError> {
        // A later change of the current folder must not lead to another file.
        let path = std::path::absolute(path.as_ref()).map_err(|error| StoreError::Unusable {
            path: path.as_ref().into(),
            action: "opened",
            reason: error.to_string(),
        })?;
        let (file, connection) = open::open(&path, &options)?;
        let file = Arc::new(file);
        let watching = open::connect(&file, &options, open::Purpose::Read)?;
        let guarding = open::connect(&file, &options, open::Purpose::Guard)?;
        Ok(Self {
            #[cfg(target_os = "linux")]
            listener: Mutex::new(None),
            writer: Arc::new(Lane::new(Arc::clone(&file), options, open::Purpose::Write, connection)),
            readers: Pool::new(Arc::clone(&file), options),
            mark: Lane::new(Arc::clone(&file), options, open::Purpose::Read, watching),
            guard: Lane::new(file, options, open::Purpose::Guard, guarding),
            marks_renewed: AtomicU64::new(0),
        })
    }

    /// The path of the file.
    pub fn path(&self) -> &Path {
        &self.writer.file().path
    }

    /// Calls `on_change` after other processes have committed. Does nothing if somebody listens
    /// already, or where the system can't tell.
    pub fn listen(&self, on_change: Box<dyn Fn() + Send>) -> std::io::Result<()> {
        #[cfg(target_os = "linux")]
        {
            let mut listener = self.listener.lock();
            if listener.is_none() {
                *listener = Some(listener::Listener::open(Arc::clone(&self.writer), on_change)?);
            }
        }
        #[cfg(not(target_os = "linux"))]
        drop((self, on_change));
        Ok(())
    }

    /// Ends what [`Self::listen`] began.
    pub fn stop_listening(&self) {
        #[cfg(target_os = "linux")]
        drop(self.listener.lock().take());
    }

    /// Stops listening and closes all connections, whoever still refers to the store: an exception
    /// that an application keeps refers to the run that raised it, and the run to its worker.
    pub fn close(&self) {
        self.stop_listening();
        self.writer.file().close();
        self.readers.close();
        for lane in [&*self.writer, &self.mark, &self.guard] {
            lane.close();
        }
    }

    /// Steps of SQLite's virtual machine that calls of this thread have taken so far. For tests.
    #[doc(hidden)]
    pub fn steps_taken() -> u64 {
        statements::steps_taken()
    }

    /// The query plan of each statement: its name, and the lines of its plan. For tests.
    #[doc(hidden)]
    pub fn query_plans(&self) -> Result<Vec<(&'static str, Vec<String>)>, StoreError> {
        self.writer.with(|connection| {
            let plan = |sql: &str| -> rusqlite::Result<Vec<String>> {
                let mut statement = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}"))?;
                statement.raw_query().mapped(|row| row.get(3)).collect()
            };
            queries::ALL.iter().map(|(name, sql)| Ok((*name, plan(sql)?))).collect()
        })
    }
}

impl StoreWrites for SqliteStore {
    fn commit_when(
        &self,
        commands: &[Command],
        now: &dyn Fn() -> Timestamp,
    ) -> Result<Vec<Result<Answer, Rejection>>, StoreError> {
        if commands.is_empty() {
            return Ok(Vec::new());
        }
        let answers = self.writer.with(|connection| batch::commit(connection, commands, now))?;
        self.writer.bound_log();
        Ok(answers)
    }

    fn barrier(&self) -> Result<(), StoreError> {
        // The holder of the write lock is alone, among all processes.
        self.guard.with(|connection| {
            connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
            connection.prepare_cached("ROLLBACK")?.execute([]).map(drop)
        })
    }

    fn warm_up_start(&self, claims: &[(RunId, Token)]) {
        // The real calls will report errors.
        let _ = self.barrier();
        let _ = self.may_enter(claims);
    }
}

impl StoreReads for SqliteStore {
    fn due(
        &self,
        project: &str,
        workflows: &[Arc<str>],
        until: Timestamp,
        limit: usize,
    ) -> Result<Vec<DueSchedule>, StoreError> {
        self.readers.read(|view| view.due(project, workflows, until, limit))
    }

    fn due_count(
        &self,
        project: &str,
        workflows: &[Arc<str>],
        until: Timestamp,
        limit: usize,
    ) -> Result<usize, StoreError> {
        self.readers.read(|view| view.due_count(project, workflows, until, limit))
    }

    fn next_work(
        &self,
        project: &str,
        workflows: &[Arc<str>],
        now: Timestamp,
    ) -> Result<NextWork, StoreError> {
        self.readers.read(|view| view.next_work(project, workflows, now))
    }

    fn cancel_requests(&self, worker: &WorkerId) -> Result<Vec<RunId>, StoreError> {
        self.readers.read(|view| view.cancel_requests(worker))
    }

    fn claims_stand(&self, claims: &[(RunId, Token)]) -> Result<Vec<bool>, StoreError> {
        self.readers.read(|view| view.claims_stand(claims))
    }

    fn may_enter(&self, claims: &[(RunId, Token)]) -> Result<Vec<Result<(), EntryRefusal>>, StoreError> {
        self.readers.read(|view| view.may_enter(claims))
    }

    fn peers(&self, project: &str) -> Result<Vec<Peer>, StoreError> {
        self.readers.read(|view| view.peers(project))
    }

    fn hook_calls(
        &self,
        project: &str,
        kinds: &[CallKind],
        limit: usize,
    ) -> Result<Vec<HookCall>, StoreError> {
        self.readers.read(|view| view.hook_calls(project, kinds, limit))
    }

    fn waiting_hook_calls(&self, project: &str, now: Timestamp) -> Result<Vec<WaitingCalls>, StoreError> {
        self.readers.read(|view| view.waiting_hook_calls(project, now))
    }

    fn limits(&self, project: &str, count_to: usize, now: Timestamp) -> Result<Vec<LimitStatus>, StoreError> {
        self.readers.read(|view| view.limits(project, count_to, now))
    }

    fn calendars(
        &self,
        project: &str,
        names: Option<&[Arc<str>]>,
    ) -> Result<Vec<StoredCalendar>, StoreError> {
        self.readers.read(|view| view.calendars(project, names))
    }

    fn schedules_with_calendars(&self, project: &str, page: &Page) -> Result<Vec<Schedule>, StoreError> {
        self.readers.read(|view| view.schedules_with_calendars(project, page.after.as_deref(), page.limit))
    }

    fn workflows(&self, project: &str) -> Result<Vec<WorkflowEntry>, StoreError> {
        self.readers.read(|view| view.workflows(project))
    }

    fn schedule(&self, project: &str, id: &ScheduleId) -> Result<Option<Schedule>, StoreError> {
        self.readers.read(|view| view.schedule(project, id))
    }

    fn schedules(
        &self,
        project: &str,
        filter: &ScheduleFilter,
        page: &Page,
    ) -> Result<Vec<Schedule>, StoreError> {
        self.readers.read(|view| view.schedules(project, filter, page))
    }

    fn coming(&self, project: &str, until: Timestamp, limit: usize) -> Result<Vec<Schedule>, StoreError> {
        self.readers.read(|view| view.coming(project, until, limit))
    }

    fn project_stats(
        &self,
        project: &str,
        due_before: Timestamp,
        count_to: usize,
    ) -> Result<ProjectStats, StoreError> {
        self.readers.read(|view| view.project_stats(project, due_before, count_to))
    }

    fn history(
        &self,
        project: &str,
        id: &ScheduleId,
        page: &Page,
    ) -> Result<Option<Vec<LedgerEntry>>, StoreError> {
        self.readers.read(|view| view.history(project, id, page))
    }

    fn run(&self, project: &str, id: &RunId) -> Result<Option<Run>, StoreError> {
        self.readers.read(|view| view.run(project, id))
    }

    fn runs(&self, project: &str, filter: &RunFilter, page: &Page) -> Result<Vec<Run>, StoreError> {
        self.readers.read(|view| view.runs(project, filter, page))
    }

    fn runs_with_keys(
        &self,
        project: &str,
        workflow: &str,
        keys: (&str, &str),
        limit: usize,
    ) -> Result<Vec<KeyedRun>, StoreError> {
        self.readers.read(|view| view.runs_with_keys(project, workflow, keys, limit))
    }

    fn running_with_key(&self, project: &str, limit: &str, key: &str) -> Result<u64, StoreError> {
        self.readers.read(|view| view.running_with_key(project, limit, key))
    }

    fn run_with_event(
        &self,
        project: &str,
        of: (&str, &str),
        name: &str,
        idempotency_key: &str,
    ) -> Result<Option<RunId>, StoreError> {
        self.readers.read(|view| view.run_with_event(project, of, name, idempotency_key))
    }

    fn waiting_parents(&self, project: &str, page: &Page) -> Result<Vec<WaitingParent>, StoreError> {
        self.readers.read(|view| view.waiting_parents(project, page))
    }

    fn remarkable_runs(&self, project: &str, limit: usize) -> Result<Vec<Run>, StoreError> {
        self.readers.read(|view| view.remarkable_runs(project, limit))
    }

    fn steps(&self, id: &RunId) -> Result<Vec<StepRecord>, StoreError> {
        self.readers.read(|view| view.steps(id))
    }

    fn previous_result(&self, schedule: &ScheduleId, before: &RunId) -> Result<Option<Run>, StoreError> {
        self.readers.read(|view| view.previous_result(schedule, before))
    }

    fn change_mark(&self) -> Result<u64, StoreError> {
        let version: i64 = self.mark.with_renewals(&self.marks_renewed, |connection| {
            connection.prepare_cached("PRAGMA data_version")?.query_row([], |row| row.get(0))
        })?;
        // A new connection starts to count again.
        let renewed = self.marks_renewed.load(Ordering::Acquire);
        Ok(renewed << 32 | (version.cast_unsigned() & 0xffff_ffff))
    }
}
