//! A decision about the due slots of one schedule, ready to commit.

use super::spec::CompiledSpec;
use super::{Json, LedgerLine, RunId, ScheduleId, ScheduleStatus};
use crate::calendar::Timestamp;
use std::sync::Arc;

/// The state in which a planned run is created.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Admission {
    /// Running, claimed by the worker that commits.
    Claim,
    /// Queued for any worker with a free permit, from `available_at` on.
    Queue,
    /// Buffered behind the schedule's unfinished runs. The store checks again while it commits: if
    /// none is left by then, the run is queued, because no completion would ever release it.
    Behind,
}

/// A run to create for a slot.
#[derive(Clone, PartialEq, Debug)]
pub struct PlannedRun {
    /// [`RunId::of_slot`].
    pub id: RunId,
    /// The slot that it is for.
    pub slot: Timestamp,
    /// Slot of the schedule's previous run.
    pub last_slot: Option<Timestamp>,
    /// The next slot; `None` after the last one.
    pub upcoming: Option<Timestamp>,
    /// The slot plus its jitter.
    pub available_at: Timestamp,
    /// The state in which it is created.
    pub admission: Admission,
}

/// The plan for the due slots of one schedule. Commits as a whole, and only if the schedule is
/// still at `revision`.
#[derive(Clone, PartialEq, Debug)]
pub struct FirePlan {
    /// The schedule to change.
    pub schedule: ScheduleId,
    /// The revision that the decision was made from.
    pub revision: i64,
    /// The specification that the decision was made from, and that the runs take their time zone
    /// and priority from.
    pub spec: Arc<CompiledSpec>,
    /// The schedule's next slot after the commit.
    pub next_slot: Option<Timestamp>,
    /// The schedule's status after the commit: active, or finished if no slot is left.
    pub status: ScheduleStatus,
    /// Runs to create, oldest slot first.
    pub runs: Vec<PlannedRun>,
    /// Slots that get no run.
    pub ledger: Vec<LedgerLine>,
    /// Whether to cancel the schedule's unfinished runs first.
    pub cancel_unfinished: bool,
    /// The schedule's [`super::Schedule::settled`] after the commit, if it changes.
    pub settled: Option<Option<Json>>,
}
