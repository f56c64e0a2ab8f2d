//! What is durable: commands that change it, queries that read it, and the trait that every database implements.
//!
//! Commands are data, so that a store can commit a batch as one transaction, a test can fail one before or after it
//! took effect, and a caller that never got the answer can send it again: each is written so that a second time
//! changes nothing.

mod cadence_change;
mod command;
mod declarations;
mod error;
mod memory;
mod pagination;
#[cfg_attr(
    not(any(feature = "sqlite", feature = "postgres")),
    allow(dead_code, reason = "only databases spell most of them")
)]
#[cfg(feature = "postgres")]
mod postgres;
mod query;
#[cfg(feature = "sqlite")]
mod sqlite;
#[cfg(all(feature = "sqlite", feature = "postgres"))]
mod transfer;
mod transitions;

pub use command::{Answer, Codes, Command, Outcome, Patch, Rejection, Suspects};
pub use error::StoreError;
pub use memory::MemoryStore;
#[cfg(feature = "postgres")]
pub use postgres::{ChangeObserver, PostgresOptions, PostgresStore};
pub use query::{DueSchedule, NextWork, Page, ProjectStats, RunFilter, ScheduleFilter, Shard, WaitingParent};
#[cfg(feature = "sqlite")]
pub use sqlite::{SqliteOptions, SqliteStore, Synchronous};
#[cfg(all(feature = "sqlite", feature = "postgres"))]
pub use transfer::{
    TransferError, TransferOptions, TransferProgress, TransferredProject, TransferredTable, abandon_transfer,
    transfer_projects,
};

/// What the tests examine on its own.
#[doc(hidden)]
pub mod internals {
    #[cfg(feature = "postgres")]
    pub use super::postgres::internals::*;
    #[cfg(feature = "sqlite")]
    pub use super::sqlite::internals::*;
}

use crate::calendar::Timestamp;
use crate::model::{
    LedgerEntry, Peer, Run, RunId, Schedule, ScheduleId, StepRecord, Token, WorkerId, WorkflowEntry,
};
use std::sync::Arc;

/// A database of schedules, runs and steps.
///
/// Reads see every commit that was answered before the read began. All instants are the caller's.
pub trait Store: Send + Sync + 'static {
    /// Applies the commands in order as **one** transaction and answers each in its place. Each is all-or-nothing by
    /// itself: a rejected one leaves no trace and does not disturb the others. On return the whole is durable; on
    /// `Err` none of it may be relied upon, though it may have happened (a lost reply).
    ///
    /// `now` is asked when nobody else can commit any more what this depends on: what is decided for an instant can't become
    /// visible after a [`Self::barrier`] that was passed later than that instant.
    fn commit_when(
        &self,
        commands: &[Command],
        now: &dyn Fn() -> Timestamp,
    ) -> Result<Vec<Result<Answer, Rejection>>, StoreError>;

    /// The same for an instant that is known.
    fn commit(
        &self,
        commands: &[Command],
        now: Timestamp,
    ) -> Result<Vec<Result<Answer, Rejection>>, StoreError> {
        self.commit_when(commands, &|| now)
    }

    /// Returns when every commit that was under way at the call has ended; reads see then what it did.
    fn barrier(&self) -> Result<(), StoreError>;

    /// Goes through [`Self::barrier`] and [`Self::claims_stand`] where that takes less time than it saves: after a quiet second
    /// the real ones would find everything cold.
    fn warm_up_start(&self, _claims: &[(RunId, Token)]) {}

    /// Active schedules of these workflows whose next slot is at or before `until`, earliest slot first (then by id).
    fn due(
        &self,
        project: &str,
        workflows: &[Arc<str>],
        until: Timestamp,
        limit: usize,
    ) -> Result<Vec<DueSchedule>, StoreError>;

    /// Of the same, some that are in the share, earliest slot first: none only if none of the earliest `limit` for each part is.
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

    /// How many active schedules of these workflows have their next slot at or before `until`; at most `limit`.
    fn due_count(
        &self,
        project: &str,
        workflows: &[Arc<str>],
        until: Timestamp,
        limit: usize,
    ) -> Result<usize, StoreError>;

    /// When there is next something to do for a worker with these workflows.
    fn next_work(&self, project: &str, workflows: &[Arc<str>]) -> Result<NextWork, StoreError>;

    /// Of the runs that `worker` holds, those that somebody asked to stop.
    fn cancel_requests(&self, worker: &WorkerId) -> Result<Vec<RunId>, StoreError>;

    /// Which of these claims still stand (the run is running under the token), in order. Asked before a run that was claimed ahead of its
    /// time is started, when anything has changed since.
    fn claims_stand(&self, claims: &[(RunId, Token)]) -> Result<Vec<bool>, StoreError>;

    /// All workers of the project that have signed in and were neither signed out nor buried.
    fn peers(&self, project: &str) -> Result<Vec<Peer>, StoreError>;

    /// All workflows that any worker of the project ever signed in with.
    fn workflows(&self, project: &str) -> Result<Vec<WorkflowEntry>, StoreError>;

    /// One schedule.
    fn schedule(&self, project: &str, id: &ScheduleId) -> Result<Option<Schedule>, StoreError>;

    /// Schedules by filter, ordered by id; with `key_prefix`, by key and workflow.
    fn schedules(
        &self,
        project: &str,
        filter: &ScheduleFilter,
        page: &Page,
    ) -> Result<Vec<Schedule>, StoreError>;

    /// Active schedules of all workflows whose next slot is at or before `until`, earliest slot first (then by id).
    fn coming(&self, project: &str, until: Timestamp, limit: usize) -> Result<Vec<Schedule>, StoreError>;

    /// How many schedules and unfinished runs there are, each kind counted to `count_to` at most, and how many schedules
    /// are behind: active ones with a next slot before `due_before`.
    fn project_stats(
        &self,
        project: &str,
        due_before: Timestamp,
        count_to: usize,
    ) -> Result<ProjectStats, StoreError>;

    /// History of a schedule, newest slot first: its slots' runs (origin schedule or backfill) and its ledger lines. `page.after` is the
    /// `from` of the last entry seen, in microseconds. `None` where neither the schedule nor any history exists.
    fn history(
        &self,
        project: &str,
        id: &ScheduleId,
        page: &Page,
    ) -> Result<Option<Vec<LedgerEntry>>, StoreError>;

    /// One run.
    fn run(&self, project: &str, id: &RunId) -> Result<Option<Run>, StoreError>;

    /// Runs by filter, newest creation first (then by id, descending).
    fn runs(&self, project: &str, filter: &RunFilter, page: &Page) -> Result<Vec<Run>, StoreError>;

    /// Runs of the project that wait for a child run, ordered by id. `page.limit` bounds the work, whatever the answer
    /// says of each.
    fn waiting_parents(&self, project: &str, page: &Page) -> Result<Vec<WaitingParent>, StoreError>;

    /// Unfinished runs whose executions were interrupted, or that wait with a note; newest creation first (then by id,
    /// descending).
    fn remarkable_runs(&self, project: &str, limit: usize) -> Result<Vec<Run>, StoreError>;

    /// Recorded steps of a run, in the order of their first recording.
    fn steps(&self, id: &RunId) -> Result<Vec<StepRecord>, StoreError>;

    /// The newest succeeded run of a schedule that finished before the run `before` was created.
    fn previous_result(&self, schedule: &ScheduleId, before: &RunId) -> Result<Option<Run>, StoreError>;

    /// A number that differs from an earlier answer whenever anything was committed in between, by whichever process.
    /// Cheap enough to ask many times a second: no transaction, no page read.
    fn change_mark(&self) -> Result<u64, StoreError>;
}
