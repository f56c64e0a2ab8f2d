//! An event: data that somebody sends to a run by name, once.

use super::{Json, RunId};
use crate::calendar::Timestamp;
use std::sync::Arc;

/// When a run is available that waits for an event without a deadline: never, as far as anybody
/// lives to see, and yet before runs that wait for a child and for nothing else.
pub const NO_DEADLINE: Timestamp = Timestamp::from_micros(253_402_300_700_000_000);

/// An event as recorded. Its key is `(run, name)`; the first one under a name stays.
#[derive(Clone, PartialEq, Debug)]
pub struct EventRecord {
    /// The name under which the run waits for it: the name of the waiting step.
    pub name: Arc<str>,
    /// What was sent.
    pub payload: Json,
    /// Identifies the request of its sender, who may have to repeat it.
    pub idempotency_key: Option<Arc<str>>,
    /// When it was accepted.
    pub received_at: Timestamp,
}

/// An event that somebody sends.
#[derive(Clone, PartialEq, Debug)]
pub struct NewEvent {
    /// Namespace.
    pub project: Arc<str>,
    /// The run to send it to.
    pub run: RunId,
    /// See [`EventRecord::name`].
    pub name: Arc<str>,
    /// See [`EventRecord::payload`].
    pub payload: Json,
    /// See [`EventRecord::idempotency_key`].
    pub idempotency_key: Option<Arc<str>>,
    /// The workflow and key that it was sent to, if its sender did not name the run: of their runs,
    /// only one accepts an event with this name and idempotency key.
    pub sent_to: Option<(Arc<str>, Arc<str>)>,
}

impl NewEvent {
    /// What identifies the request among all runs of its workflow and key: project, workflow, key,
    /// name, and idempotency key. `None` if it was sent to a run, or has no idempotency key.
    pub fn shared_key(&self) -> Option<[&str; 5]> {
        let (workflow, key) = self.sent_to.as_ref()?;
        Some([&self.project, workflow, key, &self.name, self.idempotency_key.as_ref()?])
    }
}
