//! The ledger: what became of every slot.

use super::{RunId, WorkerId};
use crate::calendar::Timestamp;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// What became of a slot.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SlotOutcome {
    /// A run was created.
    Ran,
    /// Left out by a rule of the schedule (overlap, calendar, on request).
    Skipped,
    /// Nobody could run it in time.
    Missed,
}

/// Consecutive slots without a run that share one fate. Slots that made a run are on record as runs.
#[derive(Clone, PartialEq, Debug)]
pub struct LedgerLine {
    /// First slot.
    pub from: Timestamp,
    /// Last slot.
    pub until: Timestamp,
    /// How many.
    pub count: u64,
    /// Skipped or missed.
    pub outcome: SlotOutcome,
    /// Why, for people.
    pub reason: Arc<str>,
}

/// A line of a schedule's history, newest first: a run of a slot, or slots without one.
#[derive(Clone, PartialEq, Debug)]
pub struct LedgerEntry {
    /// First slot.
    pub from: Timestamp,
    /// Last slot.
    pub until: Timestamp,
    /// How many.
    pub count: u64,
    /// What became of them.
    pub outcome: SlotOutcome,
    /// Why they did not run, or the state of the run.
    pub reason: Arc<str>,
    /// The run.
    pub run: Option<RunId>,
    /// When the run was first claimed.
    pub started_at: Option<Timestamp>,
    /// Who claimed it last.
    pub worker: Option<WorkerId>,
}
