//! How a worker executes suspects: runs that have interrupted their workers repeatedly
//! (`docs/decisions/0013-interruptions.md`).
//!
//! A worker executes one suspect at a time. Meanwhile it claims no other run for up to
//! [`ISOLATION_MAX`], so that a suspect that ends the process interrupts no other run, and is known
//! to be the cause. A worker that is busy leaves suspects to idle ones for [`IDLE_WORKER_WAIT`].

use crate::calendar::Timestamp;
use crate::model::{Run, RunId, Token};
use crate::store::Suspects;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How long a suspect keeps other runs out of its worker. Bounded, because the suspect may wait for
/// one of them.
pub const ISOLATION_MAX: Duration = Duration::from_secs(60);

/// How long a suspect waits for an idle worker before it is executed beside other runs.
pub const IDLE_WORKER_WAIT: Duration = Duration::from_secs(30);

/// The delay before suspects that could not be claimed are requested again.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// The suspect that one worker holds, if any.
#[derive(Debug, Default)]
pub(super) struct SuspectWatch {
    held: Option<(RunId, Token)>,
    isolated_until: Duration,
    next_look: Duration,
    has_suspect: Arc<AtomicBool>,
}

impl SuspectWatch {
    /// Whether the worker holds a suspect; shared, and kept up to date.
    pub fn flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.has_suspect)
    }

    /// Tracks a run that the worker now holds; `is_alone` if it is the only one. Returns whether it
    /// is a suspect.
    pub fn track(&mut self, run: &Run, is_alone: bool, mono: Duration) -> bool {
        if !run.is_suspect() {
            return false;
        }
        self.isolated_until = if is_alone { mono + ISOLATION_MAX } else { mono };
        self.held = Some((run.id.clone(), run.token));
        self.has_suspect.store(true, Ordering::Release);
        true
    }

    /// Releases a run that is no longer held, or has recorded a step. Returns whether it was the
    /// suspect.
    pub fn release(&mut self, run: &RunId, token: Token) -> bool {
        let is_it = self.held.as_ref().is_some_and(|held| held.0 == *run && held.1 == token);
        if is_it {
            self.clear();
        }
        is_it
    }

    /// Releases the suspect: the worker holds nothing any more.
    pub fn clear(&mut self) {
        self.held = None;
        self.has_suspect.store(false, Ordering::Release);
    }

    /// Whether other runs are kept out at `mono`.
    pub fn is_isolating(&self, mono: Duration) -> bool {
        self.held.is_some() && mono < self.isolated_until
    }

    /// When the isolation ends.
    pub fn isolation_end(&self, mono: Duration) -> Option<Duration> {
        self.is_isolating(mono).then_some(self.isolated_until)
    }

    /// Which suspects to ask for now; `earliest` is when the first is available.
    pub fn wanted(
        &self,
        is_idle: bool,
        earliest: Option<Timestamp>,
        (wall, horizon, mono): (Timestamp, Timestamp, Duration),
    ) -> Suspects {
        let Some(earliest) = earliest else { return Suspects::Never };
        if self.held.is_some() || mono < self.next_look {
            return Suspects::Never;
        }
        if is_idle {
            return if earliest <= horizon { Suspects::Alone } else { Suspects::Never };
        }
        let since = wall.saturating_sub(IDLE_WORKER_WAIT);
        if earliest <= since { Suspects::Since(since) } else { Suspects::Never }
    }

    /// Records that a claim asked for suspects and got none: other workers were faster, or other
    /// runs came first.
    pub fn found_none(&mut self, mono: Duration) {
        self.next_look = mono + LOOK_AGAIN;
    }

    /// When to ask for suspects, by the wall clock and by the steady one.
    pub fn next(
        &self,
        is_idle: bool,
        earliest: Option<Timestamp>,
        mono: Duration,
    ) -> (Option<Timestamp>, Option<Duration>) {
        let Some(earliest) = earliest.filter(|_| self.held.is_none()) else { return (None, None) };
        if mono < self.next_look {
            return (None, Some(self.next_look));
        }
        (Some(if is_idle { earliest } else { earliest.saturating_add(IDLE_WORKER_WAIT) }), None)
    }
}
