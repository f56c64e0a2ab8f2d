//! When to tick next: the earliest deadline of the parts.

use super::{Deadline, Engine, Phase};
use crate::calendar::Timestamp;
use crate::clock::Now;
use crate::engine::dispatcher::Dispatcher;
use crate::store::{Shard, StoreWrites};
use std::time::Duration;

impl<W: StoreWrites, D: Dispatcher> Engine<W, D> {
    /// When to tick next; at once with `has_more` left to do.
    pub(super) fn next(&self, now: Now, has_more: bool) -> Deadline {
        if self.phase == Phase::Over {
            return Deadline { wall: None, mono: now.mono, is_over: true };
        }
        if let Some(retry) = &self.health.retry {
            let own = [self.timers.next_deadline(), self.claims.timeouts.next_deadline()];
            let own = own.into_iter().flatten().min();
            let mono = own.map_or(retry.retry_at, |at| at.min(retry.retry_at));
            return Deadline { wall: None, mono, is_over: false };
        }
        if has_more {
            return Deadline { wall: None, mono: now.mono, is_over: false };
        }
        let parts = [
            self.membership_deadline(),
            self.peers_deadline(now),
            self.slots_deadline(now),
            self.claims_deadline(now),
            self.maintenance_deadline(),
            (self.hooks.next_deadline().filter(|_| self.is_working()), None),
            (None, self.health.outage.next_deadline()),
            (None, self.timers.next_deadline()),
        ];
        Deadline {
            wall: parts.iter().filter_map(|(wall, _)| *wall).min(),
            mono: parts.iter().filter_map(|(_, mono)| *mono).min().unwrap_or(now.mono),
            is_over: false,
        }
    }

    fn is_working(&self) -> bool {
        self.phase == Phase::Working
    }

    fn membership_deadline(&self) -> PartDeadline {
        let reconcile_at = self.membership.reconcile_at.filter(|_| self.is_working());
        (None, self.next_heartbeat().into_iter().chain(reconcile_at).min())
    }

    fn peers_deadline(&self, now: Now) -> PartDeadline {
        let poll = self.peers.last_poll.map_or(now.mono, |last| last + self.poll_interval());
        let silent = self.peers.watch.next_deadline(self.expiry_limits());
        (None, silent.into_iter().chain(self.next_refresh()).chain([poll]).min())
    }

    fn slots_deadline(&self, now: Now) -> PartDeadline {
        let slot = self.scheduling.next_work.slot;
        let slot = slot.filter(|_| self.is_working() && !self.is_about_to_start(now.wall));
        let wall = slot.map(|slot| {
            let burst = self.scheduling.burst.filter(|burst| burst.slot == slot);
            // First to count them, then to claim them, and finally to claim those that other
            // workers left.
            let unknown = self.config.lead_max.max(self.config.lead);
            let lead = burst.map_or(unknown, |burst| burst.lead);
            let early = early_or_due(slot, lead, now.wall);
            let is_second_look = early == slot && self.scheduling.shard != Shard::WHOLE;
            if is_second_look { early_or_due(slot, lead / 2, now.wall) } else { early }
        });
        (wall, None)
    }

    fn claims_deadline(&self, now: Now) -> PartDeadline {
        let claims = &self.claims;
        let next_work = &self.scheduling.next_work;
        let is_isolating = claims.suspects.is_isolating(now.mono);
        let has_room = self.is_working() && claims.permits.room() > 0 && !is_isolating;
        let suspect = if has_room {
            claims.suspects.next(self.is_idle(), next_work.suspect, now.mono)
        } else {
            (None, None)
        };
        let looks_for_held = has_room && next_work.has_held && claims.must_look_for_held;
        let early = |at| early_or_due(at, self.config.lead, now.wall);
        let wall = [
            claims.early.next_deadline(),
            next_work.run.filter(|_| has_room).map(early),
            suspect.0.map(early),
        ];
        let mono = [
            claims.timeouts.next_deadline(),
            claims.suspects.isolation_end(now.mono),
            suspect.1,
            looks_for_held.then_some(claims.next_look_for_held),
        ];
        (wall.into_iter().flatten().min(), mono.into_iter().flatten().min())
    }

    fn maintenance_deadline(&self) -> PartDeadline {
        if !self.is_working() {
            return (None, None);
        }
        let prune = self.maintenance.prune_due(self.config.retention);
        let recompute = self.maintenance.recomputation.as_ref().map(|walk| walk.next);
        (None, prune.into_iter().chain(recompute).min())
    }
}

/// A deadline by the wall clock, and one by the steady clock.
type PartDeadline = (Option<Timestamp>, Option<Duration>);

/// When to handle `instant`: the lead before it. If that moment has passed and the work is still
/// there, it could not be decided early, so its own time is next.
fn early_or_due(instant: Timestamp, lead: Duration, now: Timestamp) -> Timestamp {
    let lead_us = i64::try_from(lead.as_micros()).unwrap_or(0);
    let early = Timestamp::from_micros(instant.as_micros().saturating_sub(lead_us));
    if early > now { early } else { instant }
}
