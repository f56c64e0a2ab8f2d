//! When and under which key a caller wants a run to start.

use crate::calendar::Timestamp;
use crate::model::Debounce;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::sync::Arc;
use std::time::Duration;

/// When a run is to start, and under which key. The default is at once, under the key `global`.
#[derive(Deserialize, Debug, Default)]
#[serde(deny_unknown_fields, default)]
pub struct Start {
    /// The key of the run.
    pub key: Option<Arc<str>>,
    /// Microseconds from now.
    pub delay: Option<u64>,
    /// An instant. A past one is now.
    pub at: Option<Timestamp>,
    /// From 0 to 9; that of the workflow if none is given.
    pub priority: Option<u8>,
    /// Whether calls in quick succession become one run.
    pub debounce: Option<DebounceOptions>,
    /// Whether a hook call starts it.
    pub is_hook: bool,
}

/// See [`Debounce`]. Durations are microseconds.
#[derive(Deserialize, Debug)]
#[serde(deny_unknown_fields)]
pub struct DebounceOptions {
    key: Arc<str>,
    delay: u64,
    at_most: Option<u64>,
}

impl DebounceOptions {
    /// The same for the store.
    pub fn debounce(self) -> Debounce {
        Debounce {
            key: self.key,
            delay: Duration::from_micros(self.delay),
            at_most: self.at_most.map(Duration::from_micros),
        }
    }
}

impl Start {
    /// The instant from which on the run may be claimed.
    pub fn instant(&self, now: Timestamp) -> Timestamp {
        let delayed = self.delay.map_or(now, |delay| now.saturating_add(Duration::from_micros(delay)));
        self.at.map_or(delayed, |at| at.max(now))
    }
}

/// One of the runs that a caller starts together.
#[derive(Deserialize, Debug)]
#[serde(deny_unknown_fields)]
pub struct Invocation {
    /// The payload, as JSON text.
    pub payload: Option<Box<RawValue>>,
    /// A repeated invocation with the same key returns the first run.
    pub idempotency_key: Option<String>,
    /// When it starts.
    #[serde(default)]
    pub start: Start,
}
