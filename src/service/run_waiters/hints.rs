//! Tells waits what other processes have done.

use super::{Awaited, RunWaiters};
use crate::model::RunId;
use std::sync::{Arc, Weak};

/// The waits of one database, for whoever notices what other processes do. Does not keep them open.
#[derive(Clone)]
pub(in crate::service) struct WaitHints(Weak<RunWaiters>);

impl WaitHints {
    pub fn of(waiters: &Arc<RunWaiters>) -> Self {
        Self(Arc::downgrade(waiters))
    }

    /// Another process has committed something.
    pub fn note_change(&self) {
        if let Some(waiters) = self.0.upgrade() {
            waiters.note_change();
        }
    }

    /// Runs have ended in other processes.
    pub fn note_ends(&self, runs: &[RunId]) {
        if let Some(waiters) = self.0.upgrade() {
            waiters.note_ends(runs);
        }
    }

    /// Has `action` called before the first wait for another process.
    pub fn on_first_wait(&self, action: Box<dyn FnOnce() + Send>) {
        if let Some(waiters) = self.0.upgrade() {
            waiters.state.lock().on_first_wait = Some(action);
        }
    }
}

impl RunWaiters {
    /// Another process has committed something.
    fn note_change(&self) {
        let mut state = self.state.lock();
        if state.waiting.is_empty() {
            return;
        }
        if self.reads.announces_changes() {
            // Ends are announced apart from changes, of which there may be many.
            let steps: Vec<Awaited> = state
                .waiting
                .keys()
                .filter(|awaited| matches!(awaited, Awaited::Step(..)))
                .cloned()
                .collect();
            if steps.is_empty() {
                return;
            }
            state.to_check.extend(steps);
        } else {
            state.must_poll = true;
        }
        self.wake.notify_one();
    }

    /// Runs have ended in other processes.
    fn note_ends(&self, runs: &[RunId]) {
        let mut state = self.state.lock();
        for run in runs {
            let awaited = Awaited::End(run.clone());
            if state.waiting.contains_key(&awaited) {
                state.to_check.insert(awaited);
            }
        }
        if !state.to_check.is_empty() {
            self.wake.notify_one();
        }
    }
}
