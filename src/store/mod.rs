//! Durable state: commands that change it ([`StoreWrites`]), and queries that read it
//! ([`StoreReads`]). Every database implements both, and is then a [`Store`].
//!
//! Commands are data. A store can therefore commit a batch as one transaction, a test can make a
//! command fail before or after it takes effect, and a caller whose reply was lost can send the
//! command again: every command is idempotent.

mod calendars;
mod command;
mod effects;
mod error;
mod events;
mod limits;
mod memory;
mod pagination;
#[cfg_attr(
    not(any(feature = "sqlite", feature = "postgres")),
    allow(dead_code, reason = "only databases spell most of them")
)]
#[cfg(feature = "postgres")]
mod postgres;
mod query;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
mod row_reader;
#[cfg(feature = "sqlite")]
mod sqlite;
mod tables;
mod transaction;
#[cfg(all(feature = "sqlite", feature = "postgres"))]
mod transfer;

pub use calendars::{attach_calendars, attach_calendars_to_due, mending};
pub use command::{Answer, Codes, Command, Outcome, Patch, Rejection, Suspects, UpsertOutcome, Upserted};
pub use effects::Effect;
pub use error::StoreError;
pub use events::{EVENTS_LOOKED_AT, RUNS_LOOKED_AT, UNREAD_EVENTS_MAX};
pub use memory::MemoryStore;
#[cfg(feature = "postgres")]
pub use postgres::{ChangeObserver, PostgresOptions, PostgresStore};
pub use query::{
    DueSchedule, KeyedRun, NextWork, Page, ProjectStats, RunFilter, ScheduleFilter, Shard, WaitingParent,
};
#[cfg(feature = "sqlite")]
pub use sqlite::{SqliteOptions, SqliteStore, Synchronous};
pub use transaction::{NewRow, Part, TransactionScript, TransactionStatement, Value};
#[cfg(all(feature = "sqlite", feature = "postgres"))]
pub use transfer::{
    TransferError, TransferOptions, TransferProgress, TransferredProject, TransferredTable, abandon_transfer,
    transfer_projects,
};

/// Internals that the tests examine directly.
#[doc(hidden)]
pub mod internals {
    #[cfg(feature = "postgres")]
    pub use super::postgres::internals::*;
    #[cfg(feature = "sqlite")]
    pub use super::sqlite::internals::*;
}

use crate::calendar::Timestamp;
use crate::model::{
    CallKind, EntryRefusal, HookCall, LedgerEntry, LimitStatus, Peer, Run, RunId, Schedule, ScheduleId,
    StepRecord, StoredCalendar, Token, WaitingCalls, WorkerId, WorkflowEntry,
};
use std::sync::Arc;

/// A database of schedules, runs, and steps.
///
/// Every type that has both halves is a store. Code that only reads takes [`StoreReads`], so that
/// it cannot write.
pub trait Store: StoreReads + StoreWrites {}

impl<T: StoreReads + StoreWrites> Store for T {}

/// What changes a database, and what orders reads after changes.
///
/// All instants come from the caller.
pub trait StoreWrites: Send + Sync + 'static {
    /// Applies the commands in order as **one** transaction and returns one answer per command, in
    /// the same order.
    ///
    /// Each command is all-or-nothing by itself: a rejected command leaves no trace and does not
    /// affect the others.
    ///
    /// On return, the whole batch is durable. On `Err`, the caller must not rely on any of it,
    /// although it may have been committed (a lost reply).
    ///
    /// `now` is called once no other process can commit anything that this batch depends on. A
    /// decision made for an instant can therefore not become visible after a [`Self::barrier`] that
    /// was passed later than that instant.
    fn commit_when(
        &self,
        commands: &[Command],
        now: &dyn Fn() -> Timestamp,
    ) -> Result<Vec<Result<Answer, Rejection>>, StoreError>;

    /// Like [`Self::commit_when`], for an instant that is known in advance.
    fn commit(
        &self,
        commands: &[Command],
        now: Timestamp,
    ) -> Result<Vec<Result<Answer, Rejection>>, StoreError> {
        self.commit_when(commands, &|| now)
    }

    /// Returns when every commit that was in progress at the call has ended. Later reads see its
    /// effects.
    fn barrier(&self) -> Result<(), StoreError>;

    /// Runs [`Self::barrier`] and [`StoreReads::may_enter`] ahead of time, where that costs less
    /// than it saves: after an idle second, the real calls would find cold caches.
    fn warm_up_start(&self, _claims: &[(RunId, Token)]) {}
}

/// The questions that a database answers.
///
/// A read sees every commit that was answered before the read began. All instants come from the
/// caller.
pub trait StoreReads: Send + Sync + 'static {
    /// Active schedules of these workflows whose next slot is at or before `until`, ordered by next
    /// slot, then by id.
    fn due(
        &self,
        project: &str,
        workflows: &[Arc<str>],
        until: Timestamp,
        limit: usize,
    ) -> Result<Vec<DueSchedule>, StoreError>;

    /// The schedules of [`Self::due`] that belong to the shard, earliest slot first.
    ///
    /// The result may be incomplete. It is empty only if none of the earliest `limit * shard.of`
    /// due schedules belongs to the shard.
    fn due_in_shard(
        &self,
        project: &str,
        workflows: &[Arc<str>],
        until: Timestamp,
        shard: Shard,
        limit: usize,
    ) -> Result<Vec<DueSchedule>, StoreError> {
        let of = usize::try_from(shard.of).unwrap_or(usize::MAX);
        let mut due = self.due(project, workflows, until, limit.saturating_mul(of))?;
        due.retain(|due| shard.holds(&due.schedule.id));
        due.truncate(limit);
        Ok(due)
    }

    /// Number of active schedules of these workflows whose next slot is at or before `until`,
    /// counted up to `limit`.
    fn due_count(
        &self,
        project: &str,
        workflows: &[Arc<str>],
        until: Timestamp,
        limit: usize,
    ) -> Result<usize, StoreError>;

    /// When a worker with these workflows next has something to do. Runs that a limit holds back
    /// count as available when the limit may have room, or not at all if only the end of a run
    /// makes room. What is available at `now` may be given with any earlier time.
    fn next_work(
        &self,
        project: &str,
        workflows: &[Arc<str>],
        now: Timestamp,
    ) -> Result<NextWork, StoreError>;

    /// Runs held by `worker` whose cancellation was requested.
    fn cancel_requests(&self, worker: &WorkerId) -> Result<Vec<RunId>, StoreError>;

    /// Whether each claim is still valid (the run is running under the token), in the given order.
    fn claims_stand(&self, claims: &[(RunId, Token)]) -> Result<Vec<bool>, StoreError>;

    /// Whether each claimed run may be entered, in the given order: its claim is still valid, and
    /// it either has a schedule or needs none, because it belongs to no slot, or was entered
    /// before.
    ///
    /// A worker checks this before it starts a run that it claimed early, or too long ago.
    fn may_enter(&self, claims: &[(RunId, Token)]) -> Result<Vec<Result<(), EntryRefusal>>, StoreError>;

    /// All registered workers of the project: those that neither deregistered nor expired.
    fn peers(&self, project: &str) -> Result<Vec<Peer>, StoreError>;

    /// Hook calls of these kinds that no registered worker has: the earliest by `check_at`, then
    /// by id, whether or not they are due.
    fn hook_calls(
        &self,
        project: &str,
        kinds: &[CallKind],
        limit: usize,
    ) -> Result<Vec<HookCall>, StoreError>;

    /// Hook calls that are due at `now` and that no registered worker has, by workflow.
    fn waiting_hook_calls(&self, project: &str, now: Timestamp) -> Result<Vec<WaitingCalls>, StoreError>;

    /// All limits of the project, by name, with their use. The runs that wait for one are counted
    /// up to `count_to`.
    fn limits(&self, project: &str, count_to: usize, now: Timestamp) -> Result<Vec<LimitStatus>, StoreError>;

    /// Number of running runs of the limit with this key.
    fn running_with_key(&self, project: &str, limit: &str, key: &str) -> Result<u64, StoreError>;

    /// The stored calendars with these names that exist, or all, by name.
    fn calendars(&self, project: &str, names: Option<&[Arc<str>]>)
    -> Result<Vec<StoredCalendar>, StoreError>;

    /// Schedules that name any stored calendar, by id.
    fn schedules_with_calendars(&self, project: &str, page: &Page) -> Result<Vec<Schedule>, StoreError>;

    /// All workflows that any worker of the project has ever registered.
    fn workflows(&self, project: &str) -> Result<Vec<WorkflowEntry>, StoreError>;

    /// One schedule.
    fn schedule(&self, project: &str, id: &ScheduleId) -> Result<Option<Schedule>, StoreError>;

    /// Schedules that match the filter, ordered by id. With `key_prefix`, ordered by key, then
    /// workflow.
    fn schedules(
        &self,
        project: &str,
        filter: &ScheduleFilter,
        page: &Page,
    ) -> Result<Vec<Schedule>, StoreError>;

    /// Active schedules of all workflows whose next slot is at or before `until`, ordered by next
    /// slot, then by id.
    fn coming(&self, project: &str, until: Timestamp, limit: usize) -> Result<Vec<Schedule>, StoreError>;

    /// Numbers of schedules, of unfinished runs, and of overdue schedules: active ones whose next
    /// slot is before `due_before`. Each kind is counted up to `count_to`.
    fn project_stats(
        &self,
        project: &str,
        due_before: Timestamp,
        count_to: usize,
    ) -> Result<ProjectStats, StoreError>;

    /// History of a schedule, newest slot first: the runs of its slots (origin schedule or
    /// backfill) and its ledger lines.
    ///
    /// `page.after` is the `from` of the last entry seen, in microseconds. `None` if neither the
    /// schedule nor any history exists.
    fn history(
        &self,
        project: &str,
        id: &ScheduleId,
        page: &Page,
    ) -> Result<Option<Vec<LedgerEntry>>, StoreError>;

    /// One run.
    fn run(&self, project: &str, id: &RunId) -> Result<Option<Run>, StoreError>;

    /// Runs that match the filter, newest first. Of the runs of one time of creation, the one that
    /// was created last comes first.
    fn runs(&self, project: &str, filter: &RunFilter, page: &Page) -> Result<Vec<Run>, StoreError>;

    /// Runs of the workflow with idempotency keys between two texts, both exclusive, ordered by
    /// key.
    fn runs_with_keys(
        &self,
        project: &str,
        workflow: &str,
        keys: (&str, &str),
        limit: usize,
    ) -> Result<Vec<KeyedRun>, StoreError>;

    /// A run of the workflow and key that has accepted an event with this name and idempotency key.
    ///
    /// It is found among the newest [`EVENTS_LOOKED_AT`] such events of all runs. If there are more
    /// of them, it is also looked for in the newest [`RUNS_LOOKED_AT`] runs of the workflow and key
    /// that are not running.
    fn run_with_event(
        &self,
        project: &str,
        of: (&str, &str),
        name: &str,
        idempotency_key: &str,
    ) -> Result<Option<RunId>, StoreError>;

    /// Runs of the project that wait for a child run, ordered by id. `page.limit` bounds the work,
    /// whether or not the runs found are stuck.
    fn waiting_parents(&self, project: &str, page: &Page) -> Result<Vec<WaitingParent>, StoreError>;

    /// Unfinished runs whose executions were interrupted, or that wait with a note, in the order of
    /// [`Self::runs`].
    fn remarkable_runs(&self, project: &str, limit: usize) -> Result<Vec<Run>, StoreError>;

    /// Recorded steps of a run, in the order in which each was first recorded.
    fn steps(&self, id: &RunId) -> Result<Vec<StepRecord>, StoreError>;

    /// The newest succeeded run of the schedule that finished before the run `before` was created.
    fn previous_result(&self, schedule: &ScheduleId, before: &RunId) -> Result<Option<Run>, StoreError>;

    /// The statements by which a transaction of the application creates a row in this database, at
    /// `now`; `None` where the database has no such transactions.
    fn in_transaction(
        &self,
        _new: NewRow<'_>,
        _now: Timestamp,
    ) -> Result<Option<TransactionScript>, StoreError> {
        Ok(None)
    }

    /// A number that differs from an earlier answer whenever any process committed in between. If
    /// changes are announced, the heartbeat of a worker that holds no run may leave it as it is.
    ///
    /// Cheap enough to poll many times a second: it opens no transaction and reads no page.
    fn change_mark(&self) -> Result<u64, StoreError>;

    /// Whether the store announces at present what other processes commit, so that
    /// [`Self::change_mark`] needs to be polled only for what an announcement missed.
    fn announces_changes(&self) -> bool {
        false
    }

    /// Asks the processes that complete these runs to announce it, if the store announces changes.
    /// Best effort: whoever completes one at this moment may not know yet.
    fn await_ends(&self, _runs: &[RunId]) {}
}
