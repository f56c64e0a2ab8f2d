//! Permits of a worker, lent to callers that create runs in its process: such a run is created and
//! claimed by one commit, and starts without another one.

use super::message::Message;
use crate::model::WorkerId;
use crate::sync::Mutex;
use crossbeam_channel::Sender;
use std::sync::{Arc, Weak};
use std::time::Duration;

/// The permits of one worker. Its engine takes them for the runs that it claims; while no run is
/// queued for one, callers that create runs may take one ([`Self::reserve`]).
#[derive(Debug)]
pub struct Permits {
    project: Arc<str>,
    /// The workflows that the worker executes, in order.
    workflows: Vec<Arc<str>>,
    concurrency: usize,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    worker: WorkerId,
    is_open: bool,
    taken: usize,
    /// Taken permits whose callers wait for a commit, or whose outcome the engine has not received.
    awaited: usize,
    /// Runs that are being queued right now.
    queueing: usize,
    /// Queued runs that the engine has not looked for yet.
    queued: usize,
    /// A commit that would have claimed runs failed, but may have been applied all the same.
    has_unknown_claims: bool,
}

impl Permits {
    /// Creates closed permits, with none taken.
    pub fn new(project: Arc<str>, workflows: Vec<Arc<str>>, concurrency: usize, worker: WorkerId) -> Self {
        let state = State {
            worker,
            is_open: false,
            taken: 0,
            awaited: 0,
            queueing: 0,
            queued: 0,
            has_unknown_claims: false,
        };
        Self { project, workflows, concurrency, state: Mutex::new(state) }
    }

    /// Takes a permit for a run that is about to be created, at `now` of the steady clock. If none
    /// is free, or older runs are queued for it, the run has to be queued; `None` if the worker
    /// does not execute that workflow.
    pub fn reserve(
        self: &Arc<Self>,
        project: &str,
        workflow: &str,
        now: Duration,
    ) -> Option<Result<Permit, QueuedRequest>> {
        if *self.project != *project || !self.workflows.iter().any(|id| **id == *workflow) {
            return None;
        }
        let mut state = self.state.lock();
        if !state.is_open || state.taken + state.queueing + state.queued >= self.concurrency {
            state.queueing += 1;
            drop(state);
            return Some(Err(QueuedRequest { permits: Arc::clone(self) }));
        }
        state.taken += 1;
        state.awaited += 1;
        let worker = state.worker.clone();
        drop(state);
        let reserved = Reserved { permits: Arc::clone(self), count: 1 };
        Some(Ok(Permit { reserved, worker, asked_at: now, is_settled: false }))
    }

    /// How many runs were queued that [`Self::forget_queued`] has not subtracted yet.
    pub(super) fn queued(&self) -> usize {
        self.state.lock().queued
    }

    /// Subtracts `count` queued runs, which the engine has looked for.
    pub(super) fn forget_queued(&self, count: usize) {
        self.state.lock().queued -= count;
    }

    /// Allows or forbids callers to take permits.
    pub(super) fn set_open(&self, is_open: bool) {
        self.state.lock().is_open = is_open;
    }

    /// Closes the permits and switches to a new worker id. Permits reserved for the former one are
    /// given back as they are settled.
    pub(super) fn close_for(&self, worker: WorkerId) {
        let mut state = self.state.lock();
        state.is_open = false;
        state.has_unknown_claims = false;
        state.worker = worker;
    }

    /// The number of free permits.
    pub(super) fn room(&self) -> usize {
        self.concurrency.saturating_sub(self.state.lock().taken)
    }

    /// How many permits there are, and how many are taken.
    pub fn usage(&self) -> (usize, usize) {
        (self.concurrency, self.state.lock().taken)
    }

    /// Whether permits are scarce enough to free one before the completion of its run is durable.
    pub fn is_short(&self) -> bool {
        self.room() <= self.concurrency / 2
    }

    /// Whether any permit is taken.
    pub(super) fn is_in_use(&self) -> bool {
        self.state.lock().taken > 0
    }

    /// Takes up to `count` free permits and holds them until the result is dropped.
    pub(super) fn reserve_up_to(self: &Arc<Self>, count: usize) -> Reserved {
        let mut state = self.state.lock();
        let count = count.min(self.concurrency.saturating_sub(state.taken));
        state.taken += count;
        Reserved { permits: Arc::clone(self), count }
    }

    /// Takes a permit for a held run, even if none is free.
    pub(super) fn take(&self) {
        self.state.lock().taken += 1;
    }

    /// Gives `count` permits back.
    pub(super) fn give_back(&self, count: usize) {
        let mut state = self.state.lock();
        debug_assert!(count <= state.taken, "only what was taken is given back");
        state.taken = state.taken.saturating_sub(count);
    }

    /// Whether a caller with a permit does not know the outcome of its commit. Resets on read.
    pub(super) fn take_unknown(&self) -> bool {
        std::mem::take(&mut self.state.lock().has_unknown_claims)
    }

    /// Lends no more permits. Returns whether all reserved ones have been settled.
    pub fn close(&self) -> bool {
        let mut state = self.state.lock();
        state.is_open = false;
        state.awaited == 0
    }
}

/// Permits that are held while the engine decides which runs take them.
#[derive(Debug)]
pub(super) struct Reserved {
    permits: Arc<Permits>,
    count: usize,
}

impl Reserved {
    /// The number of held permits.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Takes one more permit, if one is free.
    pub fn add(&mut self) -> bool {
        let mut one = self.permits.reserve_up_to(1);
        let has_room = one.count == 1;
        self.count += std::mem::take(&mut one.count);
        has_room
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.permits.give_back(self.count);
    }
}

/// A permit that is held for a run in creation, until the outcome of its commit is known.
#[derive(Debug)]
pub struct Permit {
    reserved: Reserved,
    worker: WorkerId,
    asked_at: Duration,
    is_settled: bool,
}

impl Permit {
    /// The worker that is to claim the run.
    pub fn worker(&self) -> &WorkerId {
        &self.worker
    }

    /// When the permit was taken, by the steady clock: the worker was alive then.
    pub(super) fn asked_at(&self) -> Duration {
        self.asked_at
    }

    /// Records that the outcome of the commit is known.
    pub fn settle(mut self) {
        self.is_settled = true;
    }
}

/// A permit dropped unsettled belongs to a commit with unknown outcome.
impl Drop for Permit {
    fn drop(&mut self) {
        let mut state = self.reserved.permits.state.lock();
        state.awaited -= 1;
        if !self.is_settled && state.worker == self.worker {
            state.has_unknown_claims = true;
        }
    }
}

/// Held while a run is being queued, until the engine has been notified: no later caller may take
/// the permit that it needs.
#[derive(Debug)]
pub struct QueuedRequest {
    permits: Arc<Permits>,
}

impl Drop for QueuedRequest {
    fn drop(&mut self) {
        let mut state = self.permits.state.lock();
        state.queueing -= 1;
        state.queued += 1;
    }
}

/// The permits of all workers in this process, with the channel that notifies each of a claim.
#[derive(Debug, Default)]
pub struct PermitPools {
    all: Mutex<Vec<(Weak<Permits>, Sender<Message>)>>,
}

impl PermitPools {
    /// Adds a worker; claims on its permits are sent through `sender`.
    pub fn add(&self, permits: &Arc<Permits>, sender: Sender<Message>) {
        let mut all = self.all.lock();
        all.retain(|(permits, _)| permits.strong_count() > 0);
        all.push((Arc::downgrade(permits), sender));
    }

    /// Calls [`Permits::reserve`] on each worker until one has a free permit.
    pub fn reserve(
        &self,
        project: &str,
        workflow: &str,
        now: Duration,
    ) -> Result<(Permit, Sender<Message>), Vec<QueuedRequest>> {
        let mut lines = Vec::new();
        for (permits, sender) in self.all.lock().iter() {
            match permits.upgrade().and_then(|permits| permits.reserve(project, workflow, now)) {
                Some(Ok(permit)) => return Ok((permit, sender.clone())),
                Some(Err(line)) => lines.push(line),
                None => {}
            }
        }
        Err(lines)
    }
}
