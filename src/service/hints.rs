//! Distributes notifications from a store to the workers that use it.

use crate::calendar::Timestamp;
use crate::clock::SharedClock;
use crate::model::RunId;
use crate::store::{ChangeObserver, StoreError};
use crate::sync::Mutex;
use std::sync::Arc;

/// The callbacks of all workers of one open database.
#[derive(Default)]
pub(super) struct Hints {
    handlers: Mutex<Vec<HintHandler>>,
    /// Advice so far, for handlers that are added later.
    advice_so_far: Mutex<Vec<String>>,
}

/// Called with the runs that have ended.
type OnEnds = Box<dyn Fn(&[RunId]) + Send>;

/// The callbacks of one worker.
pub(super) struct HintHandler {
    /// Another process committed.
    pub change: Box<dyn Fn() + Send>,
    /// Runs that this process waits for have ended.
    pub ends: OnEnds,
    /// Rollback detected: the database was restored to an earlier state.
    pub rollback: Box<dyn Fn() + Send>,
    /// Advice for a person.
    pub advice: Box<dyn Fn(&str) + Send>,
}

impl Hints {
    /// Adds a handler, and gives it the advice so far.
    pub fn add(&self, handler: HintHandler) {
        for what in self.advice_so_far.lock().iter() {
            (handler.advice)(what);
        }
        self.handlers.lock().push(handler);
    }

    /// Another process committed.
    pub fn changed(&self) {
        for handler in self.handlers.lock().iter() {
            (handler.change)();
        }
    }

    /// Tells all handlers, also those that are added later, what an operator should know: each
    /// once.
    pub fn advise(&self, what: &str) {
        let mut so_far = self.advice_so_far.lock();
        if so_far.iter().any(|earlier| earlier == what) {
            return;
        }
        so_far.push(what.to_owned());
        drop(so_far);
        for handler in self.handlers.lock().iter() {
            (handler.advice)(what);
        }
    }
}

/// Receives notifications for all users of the store.
pub(super) struct StoreObserver {
    pub hints: Arc<Hints>,
    pub clock: SharedClock,
}

impl ChangeObserver for StoreObserver {
    fn on_change(&self) {
        self.hints.changed();
    }

    fn on_ends(&self, runs: &[RunId]) {
        for handler in self.hints.handlers.lock().iter() {
            (handler.ends)(runs);
        }
    }

    fn on_rollback(&self) {
        for handler in self.hints.handlers.lock().iter() {
            (handler.rollback)();
        }
    }

    fn on_advice(&self, what: &str) {
        self.hints.advise(what);
    }

    fn may_set_clock(&self, ask: &dyn Fn() -> Result<Timestamp, StoreError>) {
        if self.clock.is_look_due() {
            // While the database doesn't answer, time continues by the machine's monotonic clock.
            let _ = self.clock.look(ask);
        }
    }
}
