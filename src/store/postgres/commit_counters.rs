//! The highest values seen of the commit counters. They only grow, so a lower value shows that the
//! database is an earlier state of itself: a lagging standby was promoted, or a backup restored.

use crate::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

/// The number of commit counters. Each process uses one of them, so that processes rarely wait for
/// each other there.
pub const COUNTERS: usize = 64;

/// One value for each counter.
pub type Counts = [i64; COUNTERS];

/// The highest values seen.
#[derive(Copy, Clone)]
pub struct Seen {
    pub counts: Counts,
    /// How many rollbacks there were before. Values seen before a rollback say nothing about later
    /// ones.
    rollbacks: u32,
}

/// The counters, shared by the threads of a process.
pub struct CommitCounters {
    seen: Mutex<Seen>,
    went_back: AtomicBool,
}

impl Default for CommitCounters {
    fn default() -> Self {
        let seen = Seen { counts: [0; COUNTERS], rollbacks: 0 };
        Self { seen: Mutex::new(seen), went_back: AtomicBool::new(false) }
    }
}

impl CommitCounters {
    /// The values seen so far: a question asked from now on must find at least as much.
    pub fn seen(&self) -> Seen {
        *self.seen.lock()
    }

    /// Records the answer to a question that was asked when `before` had been seen.
    pub fn note(&self, before: &Seen, found: &Counts) {
        let mut seen = self.seen.lock();
        if before.rollbacks != seen.rollbacks {
            return;
        }
        if before.counts.iter().zip(found).any(|(before, found)| found < before) {
            self.note_rollback(&mut seen, found);
            return;
        }
        for (seen, found) in seen.counts.iter_mut().zip(found) {
            *seen = (*seen).max(*found);
        }
    }

    /// Records the number of a commit of our own, made when `before` had been seen.
    pub fn note_own(&self, before: &Seen, slot: usize, number: i64) {
        let mut seen = self.seen.lock();
        if before.rollbacks != seen.rollbacks {
            return;
        }
        if number <= before.counts[slot] {
            // The next question finds how far the other counters went back.
            self.note_rollback(&mut seen, &[0; COUNTERS]);
        }
        seen.counts[slot] = seen.counts[slot].max(number);
    }

    fn note_rollback(&self, seen: &mut Seen, counts: &Counts) {
        *seen = Seen { counts: *counts, rollbacks: seen.rollbacks.wrapping_add(1) };
        self.went_back.store(true, Ordering::Release);
    }

    /// Whether a rollback was noticed since the last call.
    pub fn take_rollback(&self) -> bool {
        self.went_back.swap(false, Ordering::AcqRel)
    }
}
