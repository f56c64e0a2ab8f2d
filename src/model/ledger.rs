//! The ledger: the outcome of every slot.

use super::{RunId, WorkerId};
use crate::calendar::Timestamp;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// The outcome of a slot.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SlotOutcome {
    /// A run was created.
    Ran,
    /// Skipped by a rule of the schedule (overlap, calendar) or on request.
    Skipped,
    /// No worker could run it in time.
    Missed,
}

/// Consecutive slots without a run that share one outcome. Slots with a run are recorded by the
/// run.
#[derive(Clone, PartialEq, Debug)]
pub struct LedgerLine {
    /// First slot.
    pub from: Timestamp,
    /// Last slot.
    pub until: Timestamp,
    /// Number of slots.
    pub count: u64,
    /// Skipped or missed.
    pub outcome: SlotOutcome,
    /// Why, for people.
    pub reason: Arc<str>,
}

/// A line of a schedule's history: the run of a slot, or slots without one.
#[derive(Clone, PartialEq, Debug)]
pub struct LedgerEntry {
    /// First slot.
    pub from: Timestamp,
    /// Last slot.
    pub until: Timestamp,
    /// Number of slots.
    pub count: u64,
    /// Outcome shared by all of them.
    pub outcome: SlotOutcome,
    /// Why they did not run, or the state of the run.
    pub reason: Arc<str>,
    /// The run.
    pub run: Option<RunId>,
    /// When the run was first claimed.
    pub started_at: Option<Timestamp>,
    /// The worker that claimed the run last.
    pub worker: Option<WorkerId>,
}
