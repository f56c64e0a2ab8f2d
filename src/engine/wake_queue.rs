//! A queue from threads that must not block to one thread that sleeps until it is woken.

use super::sync::{AtomicBool, Mutex, Ordering};

/// Items for one consumer, which is woken once per batch, not once per item.
pub struct WakeQueue<T> {
    items: Mutex<Vec<T>>,
    is_woken: AtomicBool,
}

impl<T> WakeQueue<T> {
    /// Creates an empty queue.
    pub fn new() -> Self {
        Self { items: Mutex::new(Vec::new()), is_woken: AtomicBool::new(false) }
    }

    /// Adds an item and calls `wake`, unless the consumer was woken already and has not drained
    /// yet.
    pub fn push(&self, item: T, wake: impl FnOnce()) {
        self.items.lock().push(item);
        if !self.is_woken.swap(true, Ordering::SeqCst) {
            wake();
        }
    }

    /// Takes all items, in order; `acknowledge` clears the wake-up signal. The order is essential:
    /// first the signal, then the flag, then the items, so that an item pushed after the items were
    /// taken wakes the consumer again.
    pub fn drain(&self, acknowledge: impl FnOnce()) -> Vec<T> {
        acknowledge();
        // A swap, not a store: with a store, the tests' model checker finds a consumer that is
        // never woken.
        self.is_woken.swap(false, Ordering::SeqCst);
        std::mem::take(&mut *self.items.lock())
    }
}

impl<T> Default for WakeQueue<T> {
    fn default() -> Self {
        Self::new()
    }
}
