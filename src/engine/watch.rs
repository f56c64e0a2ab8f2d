//! Which peers have gone silent. Judged by our own steady clock alone: a peer is taken for dead when **we** have seen
//! its beat stand still for the lease time. No wall clock of ours or theirs has a say, so none can jump and lie.

use crate::model::{Peer, WorkerId};
use std::collections::BTreeMap;
use std::time::Duration;

/// What we saw of the peers that hold runs.
#[derive(Debug, Default)]
pub struct PeerWatch {
    seen: BTreeMap<WorkerId, Sighting>,
}

#[derive(Debug)]
struct Sighting {
    beat: i64,
    since: Duration,
    name: String,
    /// Whether other workers of its process were seen to hold runs.
    shares_process: bool,
}

/// A peer to be buried.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Silent {
    /// Which.
    pub worker: WorkerId,
    /// The beat that stood still.
    pub beat: i64,
    /// Its name for people.
    pub name: String,
    /// Whether other workers of its process were seen to hold runs.
    pub shares_process: bool,
}

impl PeerWatch {
    /// Takes in what the store says of the peers at `mono`. Peers that hold nothing need not beat and are not watched.
    pub fn observe(&mut self, own: &WorkerId, peers: &[Peer], mono: Duration) {
        self.seen.retain(|id, _| peers.iter().any(|peer| peer.id == *id && peer.held_count > 0));
        for peer in peers.iter().filter(|peer| peer.held_count > 0 && peer.id != *own) {
            let sighting = self.seen.entry(peer.id.clone()).or_insert_with(|| Sighting {
                beat: peer.beat,
                since: mono,
                name: format!("{} (app {}, pid {})", peer.id, peer.app, peer.pid),
                shares_process: false,
            });
            sighting.shares_process |= peer.shares_process(peers);
            if sighting.beat != peer.beat {
                sighting.beat = peer.beat;
                sighting.since = mono;
            }
        }
    }

    /// We were not looking until `mono`: silence counts from here.
    pub fn restart(&mut self, mono: Duration) {
        for sighting in self.seen.values_mut() {
            sighting.since = mono;
        }
    }

    /// The peers whose beat has stood still for `lease`.
    pub fn silent(&self, lease: Duration, mono: Duration) -> Vec<Silent> {
        self.seen
            .iter()
            .filter(|(_, sighting)| mono.saturating_sub(sighting.since) >= lease)
            .map(|(id, sighting)| Silent {
                worker: id.clone(),
                beat: sighting.beat,
                name: sighting.name.clone(),
                shares_process: sighting.shares_process,
            })
            .collect()
    }

    /// When the next of them will have been silent for `lease`.
    pub fn next_deadline(&self, lease: Duration) -> Option<Duration> {
        self.seen.values().map(|sighting| sighting.since + lease).min()
    }

    /// Stops watching one: it was buried, or has moved.
    pub fn forget(&mut self, worker: &WorkerId) {
        self.seen.remove(worker);
    }
}
