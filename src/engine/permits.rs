//! Places of a worker, and the offer of them to those who create runs in its process: such a run is created and claimed by
//! one commit, and starts without another one.

use super::message::Message;
use crate::model::WorkerId;
use crate::sync::Mutex;
use crossbeam_channel::Sender;
use std::sync::{Arc, Weak};
use std::time::Duration;

/// The places of one worker. Its engine takes them for what it claims; as long as nothing waits for one, whoever creates a run
/// may take one ([`Self::reserve`]).
#[derive(Debug)]
pub struct Permits {
    project: Arc<str>,
    /// What the worker executes, in order.
    workflows: Vec<Arc<str>>,
    concurrency: usize,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    worker: WorkerId,
    is_open: bool,
    taken: usize,
    /// Of those, the ones whose owners wait for a commit, or have not been heard yet.
    awaited: usize,
    /// Runs that are just being put in line.
    queueing: usize,
    /// Runs that were, and for which the engine has not looked yet.
    queued: usize,
    /// A commit that would have claimed runs failed, and may have happened all the same.
    has_unknown_claims: bool,
}

impl Permits {
    /// No place is taken, and none is offered yet.
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

    /// Takes a place for a run that is about to be created, at `now` of the steady clock. Where there is no room, or older runs wait for
    /// it, the run has to be queued; `None` where the worker doesn't execute that workflow.
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

    /// How many runs were put in line since this was last asked and followed by [`Self::forget_queued`].
    pub(super) fn queued(&self) -> usize {
        self.state.lock().queued
    }

    /// So many of them were found by the engine, if they are there.
    pub(super) fn forget_queued(&self, count: usize) {
        self.state.lock().queued -= count;
    }

    /// Lets others take places, or no longer.
    pub(super) fn set_open(&self, is_open: bool) {
        self.state.lock().is_open = is_open;
    }

    /// The worker has signed in under another id, or is about to. Places that were reserved for the former one are given back as they
    /// are settled.
    pub(super) fn close_for(&self, worker: WorkerId) {
        let mut state = self.state.lock();
        state.is_open = false;
        state.has_unknown_claims = false;
        state.worker = worker;
    }

    /// Places that are free.
    pub(super) fn room(&self) -> usize {
        self.concurrency.saturating_sub(self.state.lock().taken)
    }

    /// Whether it matters that a place is free again before the end of its run is durable.
    pub fn is_short(&self) -> bool {
        self.room() <= self.concurrency / 2
    }

    /// Whether any is taken.
    pub(super) fn is_in_use(&self) -> bool {
        self.state.lock().taken > 0
    }

    /// Takes as many as are free, at most `count`, for as long as the answer is kept.
    pub(super) fn reserve_up_to(self: &Arc<Self>, count: usize) -> Reserved {
        let mut state = self.state.lock();
        let count = count.min(self.concurrency.saturating_sub(state.taken));
        state.taken += count;
        Reserved { permits: Arc::clone(self), count }
    }

    /// Takes one for a run that is held, free or not.
    pub(super) fn take(&self) {
        self.state.lock().taken += 1;
    }

    /// Gives so many back.
    pub(super) fn give_back(&self, count: usize) {
        let mut state = self.state.lock();
        debug_assert!(count <= state.taken, "only what was taken is given back");
        state.taken = state.taken.saturating_sub(count);
    }

    /// Whether somebody who had a place does not know what became of the run. Answered once.
    pub(super) fn take_unknown(&self) -> bool {
        std::mem::take(&mut self.state.lock().has_unknown_claims)
    }

    /// Offers no more; whether what became of all runs for which places were reserved has been heard.
    pub fn close(&self) -> bool {
        let mut state = self.state.lock();
        state.is_open = false;
        state.awaited == 0
    }
}

/// Places that are kept free while it is decided which runs take them.
#[derive(Debug)]
pub(super) struct Reserved {
    permits: Arc<Permits>,
    count: usize,
}

impl Reserved {
    /// How many.
    pub fn count(&self) -> usize {
        self.count
    }

    /// One more, if it is free.
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

/// A place that is kept for a run which is being created, until it is known what became of it.
#[derive(Debug)]
pub struct Permit {
    reserved: Reserved,
    worker: WorkerId,
    asked_at: Duration,
    is_settled: bool,
}

impl Permit {
    /// For whom the run is to be claimed.
    pub fn worker(&self) -> &WorkerId {
        &self.worker
    }

    /// When it was taken, by the steady clock: the worker lived then.
    pub(super) fn asked_at(&self) -> Duration {
        self.asked_at
    }

    /// It is known what became of the run.
    pub fn settle(mut self) {
        self.is_settled = true;
    }
}

/// One that is dropped unsettled belongs to a commit of which nobody knows whether it happened.
impl Drop for Permit {
    fn drop(&mut self) {
        let mut state = self.reserved.permits.state.lock();
        state.awaited -= 1;
        if !self.is_settled && state.worker == self.worker {
            state.has_unknown_claims = true;
        }
    }
}

/// Kept while a run is put in line, until the engine has been told of it: nobody who comes later may take the place that it needs.
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

/// The offers of the workers in this process, and how to tell each of them that somebody took one.
#[derive(Debug, Default)]
pub struct PermitPools {
    all: Mutex<Vec<(Weak<Permits>, Sender<Message>)>>,
}

impl PermitPools {
    /// One more worker, which hears of the runs that are claimed for it through `sender`.
    pub fn add(&self, permits: &Arc<Permits>, sender: Sender<Message>) {
        let mut all = self.all.lock();
        all.retain(|(permits, _)| permits.strong_count() > 0);
        all.push((Arc::downgrade(permits), sender));
    }

    /// See [`Permits::reserve`]; of the first that has a place, or of all.
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
