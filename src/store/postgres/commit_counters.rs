//! What was seen of the counters of commits, by which is noticed that the database has become an older one: a copy that
//! lagged behind has taken its place, or a backup was restored. Counters only grow while it is the same.

use crate::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

/// Counters of commits: each process has one of them, so that processes rarely wait for each other there.
pub const COUNTERS: usize = 64;

/// One value for each counter.
pub type Counts = [i64; COUNTERS];

/// The highest values seen.
#[derive(Copy, Clone)]
pub struct Seen {
    pub counts: Counts,
    /// How often the database went back before: what was seen then says nothing about what it is now.
    rollbacks: u32,
}

/// What was seen, and by whom it is shared.
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
    /// What was seen by now: whoever asks from now on must find at least as much.
    pub fn seen(&self) -> Seen {
        *self.seen.lock()
    }

    /// Takes in what a question found that was asked when so much had been seen.
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

    /// Takes in the number of a commit of our own, made when so much had been seen.
    pub fn note_own(&self, before: &Seen, slot: usize, number: i64) {
        let mut seen = self.seen.lock();
        if before.rollbacks != seen.rollbacks {
            return;
        }
        if number <= before.counts[slot] {
            // How far it went back elsewhere, the next question finds.
            self.note_rollback(&mut seen, &[0; COUNTERS]);
        }
        seen.counts[slot] = seen.counts[slot].max(number);
    }

    fn note_rollback(&self, seen: &mut Seen, counts: &Counts) {
        *seen = Seen { counts: *counts, rollbacks: seen.rollbacks.wrapping_add(1) };
        self.went_back.store(true, Ordering::Release);
    }

    /// Whether it went back since this was last asked.
    pub fn take_rollback(&self) -> bool {
        self.went_back.swap(false, Ordering::AcqRel)
    }
}
