//! What the end of an execution means for its run.

use super::config::WorkflowConfig;
use crate::calendar::Timestamp;
use crate::model::{Completion, Json};
use std::sync::Arc;

/// How an execution of a run's handler ended, as the application reports it.
#[derive(Clone, PartialEq, Debug)]
pub enum ExecutionOutcome {
    /// The handler returned.
    Succeeded {
        /// Encoded return value.
        result: Option<Json>,
    },
    /// The handler raised.
    Failed {
        /// Record of the error; `{}` if there is none.
        error: Option<Json>,
        /// Whether the application rules out a retry.
        is_final: bool,
    },
    /// Cancelled on request.
    Cancelled {
        /// Why, for people.
        error: Option<Json>,
    },
    /// The run sleeps or waits for a child. Without `wakes_at`, only the child's end wakes it.
    Parked {
        /// When the run continues.
        wakes_at: Option<Timestamp>,
    },
    /// The code of this worker can't continue the run.
    Held {
        /// Why, for people.
        note: Option<Arc<str>>,
    },
    /// Given back unfinished.
    Released,
    /// The application skips the run's slot.
    Skipped {
        /// Why, for people.
        reason: Option<Arc<str>>,
    },
}

impl ExecutionOutcome {
    /// The completion of attempt number `attempt` of `run`, which ended at `now`. A failure is
    /// retried by the policy of its workflow; a worker that doesn't know the workflow retries
    /// nothing.
    pub fn completion(
        self,
        workflow: Option<&WorkflowConfig>,
        run: &str,
        attempt: u32,
        now: Timestamp,
    ) -> Completion {
        match self {
            Self::Succeeded { result } => Completion::Succeeded { result },
            Self::Failed { error, is_final } => {
                let policy = workflow.filter(|policy| !is_final && attempt <= policy.retry_max);
                let retry_at = policy.map(|policy| policy.backoff.retry_at(run, attempt, now));
                Completion::Failed { error: error.unwrap_or_else(|| "{}".into()), retry_at }
            }
            Self::Cancelled { error } => Completion::Cancelled { error },
            Self::Parked { wakes_at } => {
                Completion::Parked { wakes_at: wakes_at.unwrap_or(Timestamp::from_micros(i64::MAX)) }
            }
            Self::Held { note } => Completion::Held {
                code: workflow.map_or_else(|| "".into(), |known| Arc::clone(&known.code)),
                note: note.unwrap_or_else(|| "its code has changed".into()),
            },
            Self::Released => Completion::Released,
            Self::Skipped { reason } => {
                Completion::Skipped { reason: reason.unwrap_or_else(|| "left out".into()) }
            }
        }
    }
}
