//! A decision about the due slots of one schedule, ready to be committed.

use super::{LedgerLine, RunId, ScheduleId, ScheduleStatus};
use crate::calendar::Timestamp;

/// How a planned run enters the store.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Admission {
    /// Running, claimed by the worker that commits.
    Claim,
    /// Queued for whoever has room, from `available_at` on.
    Queue,
    /// Behind the unfinished runs of the schedule. The store looks again while it commits: where none is left by
    /// then, the run is queued, since nobody's end would ever release it.
    Behind,
}

/// One run that a slot makes.
#[derive(Clone, PartialEq, Debug)]
pub struct PlannedRun {
    /// [`RunId::of_slot`].
    pub id: RunId,
    /// The slot.
    pub slot: Timestamp,
    /// Slot of the run before.
    pub last_slot: Option<Timestamp>,
    /// The slot that comes next; `None` after the last one.
    pub upcoming: Option<Timestamp>,
    /// The slot plus its jitter.
    pub available_at: Timestamp,
    /// How it enters the store.
    pub admission: Admission,
}

/// What shall happen to the due slots of one schedule. Commits as a whole, on `revision` only.
#[derive(Clone, PartialEq, Debug)]
pub struct FirePlan {
    /// The schedule.
    pub schedule: ScheduleId,
    /// The revision that the decision was made from.
    pub revision: i64,
    /// Its coming slot from now on.
    pub next_slot: Option<Timestamp>,
    /// Its status from now on: active, or finished where no slot is left.
    pub status: ScheduleStatus,
    /// Runs to create, oldest slot first.
    pub runs: Vec<PlannedRun>,
    /// Slots that make no run.
    pub ledger: Vec<LedgerLine>,
    /// First cancel the unfinished runs of the schedule.
    pub cancel_unfinished: bool,
}
