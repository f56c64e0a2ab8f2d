//! A queue with a bell, between threads that must not wait and one that sleeps until it is rung for.

use super::sync::{AtomicBool, Mutex, Ordering};

/// Items on their way to the one that drains them. It is rung for once per batch, not once per item.
pub struct WakeQueue<T> {
    items: Mutex<Vec<T>>,
    is_woken: AtomicBool,
}

impl<T> WakeQueue<T> {
    /// Empty, and silent.
    pub fn new() -> Self {
        Self { items: Mutex::new(Vec::new()), is_woken: AtomicBool::new(false) }
    }

    /// Adds an item and rings, unless it has rung and nobody has come yet.
    pub fn push(&self, item: T, wake: impl FnOnce()) {
        self.items.lock().push(item);
        if !self.is_woken.swap(true, Ordering::SeqCst) {
            wake();
        }
    }

    /// Takes what has arrived, in order; `acknowledge` silences the bell. First the bell, then the flag, then the items: so
    /// an item that comes after we looked rings again.
    pub fn drain(&self, acknowledge: impl FnOnce()) -> Vec<T> {
        acknowledge();
        // A swap, not a store: with a store the model checker of the tests finds a sleeper that nobody wakes.
        self.is_woken.swap(false, Ordering::SeqCst);
        std::mem::take(&mut *self.items.lock())
    }
}

impl<T> Default for WakeQueue<T> {
    fn default() -> Self {
        Self::new()
    }
}
