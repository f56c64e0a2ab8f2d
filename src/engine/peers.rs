//! Detects silent peers by our own steady clock alone: a peer is presumed dead when **we** have
//! seen its heartbeat unchanged for the lease time. No wall clock is consulted, so a clock jump
//! cannot cause a false verdict.

use crate::model::{BusyProcesses, Peer, WorkerId};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// The peers as last observed.
#[derive(Debug, Default)]
pub struct PeerWatch {
    seen: BTreeMap<WorkerId, Sighting>,
}

#[derive(Debug)]
struct Sighting {
    heartbeat: i64,
    since: Duration,
    /// Whether it holds runs, so that it must heartbeat within its lease.
    holds_runs: bool,
    name: String,
    /// Whether other workers of its process were seen to hold runs.
    shares_process: bool,
}

/// How many dead workers without runs are expired in one commit.
const EXPIRED_AT_ONCE_MAX: usize = 100;

/// How long a heartbeat stays unchanged before its worker is expired.
#[derive(Copy, Clone, Debug)]
pub struct Limits {
    /// For a worker that holds runs.
    pub lease: Duration,
    /// For a worker that holds none. Nothing waits for it, but its row would stay forever.
    pub idle: Duration,
}

impl Limits {
    fn of(self, holds_runs: bool) -> Duration {
        if holds_runs { self.lease } else { self.idle }
    }
}

/// A peer that has gone silent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Silent {
    /// The silent worker.
    pub worker: WorkerId,
    /// Its last heartbeat.
    pub heartbeat: i64,
    /// Its display name.
    pub name: String,
    /// Whether other workers of its process were seen to hold runs.
    pub shares_process: bool,
}

impl PeerWatch {
    /// Records the store's list of peers at `mono`.
    pub fn observe(&mut self, own: &WorkerId, peers: &[Peer], mono: Duration) {
        let present: BTreeSet<&WorkerId> = peers.iter().map(|peer| &peer.id).collect();
        self.seen.retain(|id, _| present.contains(id));
        let busy = BusyProcesses::of(peers);
        for peer in peers.iter().filter(|peer| peer.id != *own) {
            let holds_runs = peer.held_count > 0;
            let sighting = self.seen.entry(peer.id.clone()).or_insert_with(|| Sighting {
                heartbeat: peer.heartbeat,
                since: mono,
                holds_runs,
                name: format!("{} (app {}, pid {})", peer.id, peer.app, peer.pid),
                shares_process: false,
            });
            sighting.shares_process |= busy.has_another(peer);
            // A peer that begins to hold runs has a whole lease from then on.
            if sighting.heartbeat != peer.heartbeat || (holds_runs && !sighting.holds_runs) {
                sighting.heartbeat = peer.heartbeat;
                sighting.since = mono;
            }
            sighting.shares_process &= holds_runs;
            sighting.holds_runs = holds_runs;
        }
    }

    /// Restarts all silence at `mono`: we were not watching before.
    pub fn restart(&mut self, mono: Duration) {
        for sighting in self.seen.values_mut() {
            sighting.since = mono;
        }
    }

    /// The peers that hold runs and whose heartbeat has been unchanged for the lease.
    pub fn silent(&self, lease: Duration, mono: Duration) -> Vec<Silent> {
        let of = |(id, sighting): (&WorkerId, &Sighting)| Silent {
            worker: id.clone(),
            heartbeat: sighting.heartbeat,
            name: sighting.name.clone(),
            shares_process: sighting.shares_process,
        };
        let silent = self.seen.iter();
        silent.filter(|(_, seen)| seen.holds_runs && seen.is_still(lease, mono)).map(of).collect()
    }

    /// The first peers without runs whose heartbeat has been unchanged for `limit`, with that
    /// heartbeat.
    pub fn silent_idle(&self, limit: Duration, mono: Duration) -> Vec<(WorkerId, i64)> {
        let silent = self.seen.iter().filter(|(_, seen)| !seen.holds_runs && seen.is_still(limit, mono));
        silent.map(|(id, seen)| (id.clone(), seen.heartbeat)).take(EXPIRED_AT_ONCE_MAX).collect()
    }

    /// When the next peer will reach the limit for its kind.
    pub fn next_deadline(&self, limits: Limits) -> Option<Duration> {
        let deadline = |seen: &Sighting| seen.since.saturating_add(limits.of(seen.holds_runs));
        self.seen.values().map(deadline).min()
    }

    /// The number of other workers.
    pub fn count(&self) -> usize {
        self.seen.len()
    }

    /// Whether another worker holds runs.
    pub fn is_any_busy(&self) -> bool {
        self.seen.values().any(|seen| seen.holds_runs)
    }

    /// Whether there are other workers.
    pub fn has_peers(&self) -> bool {
        !self.seen.is_empty()
    }

    /// The peers whose heartbeat has been unchanged for `limit`, with that heartbeat.
    pub fn still(&self, limit: Duration, mono: Duration) -> Vec<(WorkerId, i64)> {
        let still = self.seen.iter().filter(|(_, sighting)| sighting.is_still(limit, mono));
        still.map(|(id, sighting)| (id.clone(), sighting.heartbeat)).collect()
    }

    /// The peers whose heartbeat has changed within `limit`.
    pub fn live(&self, limit: Duration, mono: Duration) -> BTreeSet<WorkerId> {
        let live = self.seen.iter().filter(|(_, sighting)| !sighting.is_still(limit, mono));
        live.map(|(id, _)| id.clone()).collect()
    }

    /// Stops watching a peer: it was expired, or its heartbeat has changed.
    pub fn forget(&mut self, worker: &WorkerId) {
        self.seen.remove(worker);
    }
}

impl Sighting {
    fn is_still(&self, limit: Duration, mono: Duration) -> bool {
        mono.saturating_sub(self.since) >= limit
    }
}
