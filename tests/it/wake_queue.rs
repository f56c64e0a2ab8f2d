//! The queue between the engine's threads and an event loop, in every interleaving of two producers
//! and one consumer.
//!
//! `loom` rather than `shuttle`, because it visits all interleavings (bounded by the number of
//! preemptions) instead of a sample. The source is compiled a second time, with loom's lock and
//! flag in place of the real ones.

use loom::sync::Notify;
use loom::thread;
use queue::WakeQueue;
use std::sync::Arc;

#[path = "../../src/engine/wake_queue.rs"]
mod queue;

/// The modules that the queue's source imports.
mod sync {
    pub use loom::sync::MutexGuard;
    pub use loom::sync::atomic::{AtomicBool, Ordering};

    /// Without poisoning, like the real one.
    pub struct Mutex<T>(loom::sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub fn new(value: T) -> Self {
            Self(loom::sync::Mutex::new(value))
        }

        pub fn lock(&self) -> MutexGuard<'_, T> {
            self.0.lock().expect("no test panics with a lock held")
        }
    }
}

/// `(producer, number)`
type Item = (u8, u8);

const SENT: [(u8, u8); 2] = [(0, 2), (1, 1)];

/// If an item waits and the consumer sleeps without ever being woken, that is a deadlock; loom
/// panics on it.
fn explore<Q: Send + Sync + 'static>(
    new: fn() -> Q,
    push: fn(&Q, Item, &Notify),
    drain: fn(&Q) -> Vec<Item>,
) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(move || {
        // A wake-up stays pending until it is received, like a byte in a socket.
        let line = Arc::new((new(), Notify::new()));
        for (producer, count) in SENT {
            let line = Arc::clone(&line);
            thread::spawn(move || {
                for number in 0..count {
                    push(&line.0, (producer, number), &line.1);
                }
            });
        }
        let total: usize = SENT.iter().map(|(_, count)| usize::from(*count)).sum();
        let mut got = Vec::new();
        while got.len() < total {
            line.1.wait();
            got.append(&mut drain(&line.0));
        }
        for (producer, count) in SENT {
            let of_producer = got.iter().filter(|item| item.0 == producer).map(|item| item.1);
            assert!(of_producer.eq(0..count), "lost, doubled or out of order: {got:?}");
        }
    });
}

#[test]
fn every_item_arrives_once_in_order_and_wakes_the_sleeper() {
    explore(
        WakeQueue::new,
        |queue, item, wake_up| queue.push(item, || wake_up.notify()),
        // Receiving the wake-up has cleared it.
        |queue| queue.drain(|| ()),
    );
}

/// The same with two lines of `drain` swapped.
#[test]
#[should_panic(expected = "deadlock")]
fn clearing_the_flag_after_the_items_loses_a_wake_up() {
    struct Swapped {
        items: sync::Mutex<Vec<Item>>,
        has_rung: sync::AtomicBool,
    }
    explore(
        || Swapped { items: sync::Mutex::new(Vec::new()), has_rung: sync::AtomicBool::new(false) },
        |queue, item, wake_up| {
            queue.items.lock().push(item);
            if !queue.has_rung.swap(true, sync::Ordering::SeqCst) {
                wake_up.notify();
            }
        },
        |queue| {
            let items = std::mem::take(&mut *queue.items.lock());
            queue.has_rung.swap(false, sync::Ordering::SeqCst);
            items
        },
    );
}
