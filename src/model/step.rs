//! A step: a durable unit inside a run.

use super::Json;
use crate::calendar::Timestamp;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// The state of a step.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepState {
    /// Finished; never executed again.
    Done,
    /// Failed for good in this attempt of the run. A replay returns the failure; a new attempt
    /// executes the step again.
    Failed,
    /// Failed, to be retried at `wakes_at`.
    Retrying,
    /// A durable sleep until `wakes_at`.
    Sleeping,
    /// Waits for the event of the same name, until `wakes_at` if there is one.
    Waiting,
}

/// A step as recorded. Its key is `(run, name)`; a later record replaces it, except that a done
/// step never changes.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct StepRecord {
    /// Identifies the step inside its run.
    pub name: Arc<str>,
    /// Current state.
    pub state: StepState,
    /// Executions so far.
    pub attempt: u32,
    /// Attempt of the run in which this was recorded.
    pub run_attempt: u32,
    /// Encoded result of a done step: for a wait, what the event brought, or none if the deadline
    /// passed.
    pub result: Option<Json>,
    /// Record of the newest error.
    pub error: Option<Json>,
    /// When a retrying or sleeping step continues. The deadline of a step that waits for an event.
    pub wakes_at: Option<Timestamp>,
    /// Start of its first execution in this attempt of the run; a later record does not change it.
    pub started_at: Timestamp,
    /// When it was recorded.
    pub finished_at: Timestamp,
}
