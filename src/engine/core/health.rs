//! Detects gaps in watching, and failures of the store.

use super::maintenance::Recomputation;
use super::{AWAY_MIN, Engine, Phase};
use crate::calendar::Timestamp;
use crate::clock::Now;
use crate::engine::dispatcher::{Dispatcher, Notice};
use crate::engine::outage::OutageLog;
use crate::plan::Backoff;
use crate::store::{StoreError, StoreWrites};
use std::time::Duration;

/// Whether this worker watches without gaps, and whether its store works.
#[derive(Default)]
pub(super) struct Health {
    /// When slots were last checked.
    pub(super) last_look: Option<Now>,
    /// How much of the time since then was spent inside ticks.
    pub(super) spent_since_look: Duration,
    /// When the last tick ended in which every request to the store succeeded.
    pub(super) last_full_tick: Option<Duration>,
    pub(super) retry: Option<RetryState>,
    /// When the first of the requests failed that have failed in a row.
    pub(super) failing_since: Option<Duration>,
    /// What was logged about the store, and what is still to be logged.
    pub(super) outage: OutageLog,
    /// The store is unusable for good.
    pub(super) is_lost: bool,
}

#[derive(Debug)]
pub(super) struct RetryState {
    pub(super) retry_at: Duration,
    pub(super) failure_count: u32,
}

impl<W: StoreWrites, D: Dispatcher> Engine<W, D> {
    /// Detects that the machine slept, the process was stopped, or the store could not be read. No
    /// worker was watching then, so the catch-up policy decides about slots of that time.
    pub(super) fn notice_absence(&mut self, now: Now) {
        let Some(last) = self.health.last_look else { return };
        let planned = self.config.poll_interval;
        let away = Duration::from_micros(
            u64::try_from(now.wall.as_micros().saturating_sub(last.wall.as_micros())).unwrap_or(0),
        );
        // Wall time beyond the steady clock's means that the wall clock was set forward, or the
        // machine slept.
        let jumped = away.saturating_sub(now.mono.saturating_sub(last.mono));
        if away > planned + AWAY_MIN || jumped > AWAY_MIN {
            self.scheduling.watching_since = now.wall;
            // After store trouble, the notice of recovery replaces this one.
            if self.health.spent_since_look >= away / 2 {
                self.dispatcher.emit(Notice::StoreStalled(away));
            } else if self.health.retry.is_none() {
                self.dispatcher.emit(Notice::WasAway(away));
            }
        } else if now.wall < last.wall {
            // The clock was set back; we have been watching since before this time, whatever it
            // says.
            self.scheduling.watching_since = self.scheduling.watching_since.min(now.wall);
            self.maintenance.recomputation = Some(Recomputation::default());
            // Tokens of rates that were taken by the former time return sooner than it says.
            self.scheduling.is_next_run_stale |=
                self.scheduling.next_work.run.is_some_and(|at| at > now.wall);
        }
    }

    pub(super) fn note_failure_of_store(&mut self, error: &StoreError, now: Now) {
        let failure_count = self.health.retry.as_ref().map_or(1, |retry| retry.failure_count + 1);
        let backoff = Backoff { initial_us: 50_000, factor: 2.0, maximum_us: 2_000_000, jitter: 0.5 };
        let wait = backoff
            .retry_at(self.membership.worker.as_str(), failure_count, Timestamp::from_micros(0))
            .as_micros();
        self.health.failing_since.get_or_insert(now.mono);
        let retry_at = now.mono + Duration::from_micros(u64::try_from(wait).unwrap_or(0));
        if let Some(notice) = self.health.outage.note_failure(error, now.mono) {
            self.dispatcher.emit(notice);
        }
        if !error.is_passing() && !self.health.is_lost {
            self.health.is_lost = true;
            self.dispatcher.emit(Notice::StoreLost(error.to_string()));
            self.phase = Phase::Over;
        }
        self.scheduling.is_next_work_stale = true;
        self.peers.must_refresh = true;
        self.health.retry = Some(RetryState { retry_at, failure_count });
    }
}
