//! Tracks what other workers and clients did: changes, cancellations, and peers that went silent.

use super::Engine;
use super::membership::IDLE_HEARTBEATS;
use crate::clock::Now;
use crate::engine::dispatcher::{Dispatcher, Notice, Stop, StopReason};
use crate::engine::peers::{Limits, PeerWatch};
use crate::model::{Peer, WorkerId};
use crate::store::{Answer, Command, Shard, StoreError, StoreWrites};
use std::sync::Arc;
use std::time::Duration;

/// The longest interval between polls that workers share, in poll intervals: what an announcement
/// missed is found so much later at most.
const SHARED_POLL_MAX: u32 = 15;

/// The same while another worker holds runs: they are taken over so much later at most if it dies.
const SHARED_POLL_MAX_BESIDE_RUNS: u32 = 5;

/// The known peers, and how recent that knowledge is.
pub(super) struct Peers {
    pub(super) watch: PeerWatch,
    pub(super) must_refresh: bool,
    pub(super) change_mark: Option<u64>,
    pub(super) last_poll: Option<Duration>,
    /// When the peers were last read.
    last_refresh: Option<Duration>,
}

impl Peers {
    /// Nothing is known yet.
    pub(super) fn new() -> Self {
        Self {
            watch: PeerWatch::default(),
            must_refresh: true,
            change_mark: None,
            last_poll: None,
            last_refresh: None,
        }
    }
}

impl<W: StoreWrites, D: Dispatcher> Engine<W, D> {
    pub(super) fn poll(&mut self, now: Now) -> Result<(), StoreError> {
        if self.peers.last_poll.is_none_or(|last| now.mono >= last + self.poll_interval()) {
            self.peers.last_poll = Some(now.mono);
            let mark = self.reads.change_mark()?;
            if self.peers.change_mark != Some(mark) {
                self.claims.must_look_for_held = true;
                self.peers.change_mark = Some(mark);
                self.scheduling.note_change();
                self.peers.must_refresh = true;
            }
        }
        if self.peers.must_refresh || self.next_refresh().is_some_and(|at| now.mono >= at) {
            let peers = self.reads.peers(&self.config.project)?;
            let is_expired = !peers.iter().any(|peer| peer.id == self.membership.worker);
            if self.membership.is_registered && is_expired {
                self.lose_everything();
            }
            self.peers.watch.observe(&self.membership.worker, &peers, now.mono);
            self.scheduling.shard = shard_of(&self.membership.worker, &peers, &self.workflow_ids);
            if !self.claims.tracked.is_empty() || self.claims.permits.is_in_use() {
                self.pass_on_cancellations()?;
            }
            self.peers.must_refresh = false;
            self.peers.last_refresh = Some(now.mono);
        }
        Ok(())
    }

    /// How often to poll for changes. If the store announces them, polling finds only what an
    /// announcement missed, so the workers share it: together they poll about as often as one.
    pub(super) fn poll_interval(&self) -> Duration {
        let every = self.config.poll_interval;
        if !self.reads.announces_changes() {
            return every;
        }
        let workers = self.peers.watch.count().saturating_add(1);
        let most = if self.peers.watch.is_any_busy() { SHARED_POLL_MAX_BESIDE_RUNS } else { SHARED_POLL_MAX };
        every.saturating_mul(u32::try_from(workers).unwrap_or(u32::MAX).min(most))
    }

    /// When to read the peers again if nothing else asks for it: the heartbeats of idle ones need
    /// not count as changes.
    pub(super) fn next_refresh(&self) -> Option<Duration> {
        let last = self.peers.last_refresh.filter(|_| self.peers.watch.has_peers())?;
        Some(last.saturating_add(self.config.idle_heartbeat))
    }

    fn pass_on_cancellations(&mut self) -> Result<(), StoreError> {
        let mut stops = Vec::new();
        self.claims.unacknowledged_stops.clear();
        for run in self.reads.cancel_requests(&self.membership.worker)? {
            match self.claims.tracked.get_mut(&run) {
                Some(tracked) if tracked.is_stop_sent => {}
                Some(tracked) => {
                    tracked.is_stop_sent = true;
                    stops.push(Stop { run, token: tracked.token, reason: StopReason::Cancelled });
                }
                None => _ = self.claims.unacknowledged_stops.insert(run),
            }
        }
        if !stops.is_empty() {
            self.dispatcher.stop(stops);
        }
        Ok(())
    }

    pub(super) fn expire_silent_peers(&mut self, now: Now) -> Result<(), StoreError> {
        for silent in self.peers.watch.silent(self.config.lease, now.mono) {
            let command = Command::ExpireWorker {
                worker: silent.worker.clone(),
                heartbeat: silent.heartbeat,
                shares_process: silent.shares_process,
            };
            let outcome = self.commit_one(command, now)?;
            self.peers.watch.forget(&silent.worker);
            self.peers.must_refresh = true;
            if let Ok(Answer::Count(run_count)) = outcome {
                self.scheduling.is_next_work_stale = true;
                self.dispatcher.emit(Notice::TookOver { worker: silent.name, run_count });
            }
        }
        self.expire_idle(now)
    }

    /// Expires workers that died without runs. A worker that is alive after all registers again.
    fn expire_idle(&mut self, now: Now) -> Result<(), StoreError> {
        let silent = self.peers.watch.silent_idle(self.expiry_limits().idle, now.mono);
        if silent.is_empty() {
            return Ok(());
        }
        let expire = |(worker, heartbeat): &(WorkerId, i64)| Command::ExpireWorker {
            worker: worker.clone(),
            heartbeat: *heartbeat,
            shares_process: false,
        };
        let commands: Vec<Command> = silent.iter().map(expire).collect();
        for outcome in self.writes.commit(&commands, now.wall)? {
            // The peer sent a heartbeat, or claimed a run.
            self.peers.must_refresh |= outcome.is_err();
        }
        for (worker, _) in &silent {
            self.peers.watch.forget(worker);
        }
        Ok(())
    }

    pub(super) fn expiry_limits(&self) -> Limits {
        // An observed heartbeat is as old as the last poll, and the peer finds its own peers by
        // polling, too.
        let unseen = self.poll_interval().saturating_mul(2);
        let idle = self.config.idle_heartbeat.saturating_mul(IDLE_HEARTBEATS).saturating_add(unseen);
        Limits { lease: self.config.lease, idle }
    }

    pub(super) fn refresh_next_work(&mut self, now: Now) -> Result<(), StoreError> {
        if self.scheduling.is_next_work_stale || self.scheduling.is_next_run_stale {
            self.scheduling.next_work =
                self.reads.next_work(&self.config.project, &self.workflow_ids, now.wall)?;
            self.scheduling.is_next_work_stale = false;
            self.scheduling.is_next_run_stale = false;
            self.hooks.is_stale = true;
        }
        Ok(())
    }
}

/// The shard of schedules that this worker decides first, among the workers that execute some of
/// the same workflows. A dead worker that has not expired yet still has a shard; all others check
/// it a little later.
fn shard_of(own: &WorkerId, peers: &[Peer], workflows: &[Arc<str>]) -> Shard {
    let mut alike: Vec<&WorkerId> = peers
        .iter()
        .filter(|peer| peer.id == *own || peer.workflows.iter().any(|id| workflows.contains(id)))
        .map(|peer| &peer.id)
        .collect();
    alike.sort();
    match alike.iter().position(|id| *id == own) {
        Some(permit) => {
            Shard { part: u32::try_from(permit).unwrap_or(0), of: u32::try_from(alike.len()).unwrap_or(1) }
        }
        None => Shard::WHOLE,
    }
}
