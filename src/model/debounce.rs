//! Debouncing: calls that come in quick succession become one run.

use super::{NewRun, Run, RunId, RunState};
use crate::calendar::Timestamp;
use std::sync::Arc;
use std::time::Duration;

/// A call that replaces the payload of the waiting run with the same key, or creates that run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Debounce {
    /// Calls with the same key, project, and workflow belong together.
    pub key: Arc<str>,
    /// The run starts this long after the newest call.
    pub delay: Duration,
    /// The run starts at most this long after the first call.
    pub at_most: Option<Duration>,
}

/// What is stored with a run that a debounced call created.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Debounced {
    /// See [`Debounce::key`].
    pub key: Arc<str>,
    /// The latest start.
    pub until: Timestamp,
    /// The newest call: the id that it would have given to a new run. A repetition of the call is
    /// recognized by it.
    pub call: RunId,
}

impl Debounce {
    /// What is stored with the run that the first call creates, and when that run starts.
    pub fn first(&self, new: &NewRun, now: Timestamp) -> (Debounced, Timestamp) {
        let until = self.at_most.map_or(Timestamp::MAX, |at_most| now.saturating_add(at_most));
        let debounced = Debounced { key: Arc::clone(&self.key), until, call: new.id.clone() };
        (debounced, self.start(until, now))
    }

    /// When a run starts that a further call has found.
    pub fn start(&self, until: Timestamp, now: Timestamp) -> Timestamp {
        now.saturating_add(self.delay).min(until)
    }
}

/// Whether a debounced call may still replace the payload: no worker has claimed the run. A retried
/// run is another attempt of what has started.
pub fn is_replaceable(run: &Run) -> bool {
    run.state == RunState::Queued && run.started_at.is_none() && run.attempt == 1
}
