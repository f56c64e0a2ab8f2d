//! What was seen of the counters of commits, by which is noticed that the database has become an older one: a copy that
//! lagged behind has taken its place, or a backup was restored. Counters only grow while it is the same.

use crate::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

/// Counters of commits: each process has one of them, so that processes rarely wait for each other there.
pub(super) const COUNTERS: usize = 64;

/// One value for each counter.
pub(super) type Counts = [i64; COUNTERS];

/// The highest values seen.
#[derive(Copy, Clone)]
pub(super) struct Seen {
    counts: Counts,
    /// How often the database went back before: what was seen then says nothing about what it is now.
    setbacks: u32,
}

/// What was seen, and by whom it is shared.
pub(super) struct Counters {
    seen: Mutex<Seen>,
    went_back: AtomicBool,
}

impl Default for Counters {
    fn default() -> Self {
        let seen = Seen { counts: [0; COUNTERS], setbacks: 0 };
        Self { seen: Mutex::new(seen), went_back: AtomicBool::new(false) }
    }
}

impl Counters {
    /// What was seen by now: whoever asks from now on must find at least as much.
    pub fn seen(&self) -> Seen {
        *self.seen.lock()
    }

    /// Takes in what a question found that was asked when so much had been seen.
    pub fn note(&self, before: &Seen, found: &Counts) {
        let mut seen = self.seen.lock();
        if before.setbacks != seen.setbacks {
            return;
        }
        if before.counts.iter().zip(found).any(|(before, found)| found < before) {
            self.note_setback(&mut seen, found);
            return;
        }
        for (seen, found) in seen.counts.iter_mut().zip(found) {
            *seen = (*seen).max(*found);
        }
    }

    /// Takes in the number of a commit of our own, made when so much had been seen.
    pub fn note_own(&self, before: &Seen, slot: usize, number: i64) {
        let mut seen = self.seen.lock();
        if before.setbacks != seen.setbacks {
            return;
        }
        if number <= before.counts[slot] {
            // How far it went back elsewhere, the next question finds.
            self.note_setback(&mut seen, &[0; COUNTERS]);
        }
        seen.counts[slot] = seen.counts[slot].max(number);
    }

    fn note_setback(&self, seen: &mut Seen, counts: &Counts) {
        *seen = Seen { counts: *counts, setbacks: seen.setbacks.wrapping_add(1) };
        self.went_back.store(true, Ordering::Release);
    }

    /// Whether it went back since this was last asked.
    pub fn take_setback(&self) -> bool {
        self.went_back.swap(false, Ordering::AcqRel)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growing_is_no_setback_in_whatever_order_it_is_noted() {
        let counters = Counters::default();
        let before = counters.seen();
        let mut older = before.counts;
        older[3] = 7;
        counters.note_own(&before, 3, 8);
        // Asked before our commit, answered after it.
        counters.note(&before, &older);
        assert!(!counters.take_setback());
        assert_eq!(counters.seen().counts[3], 8);
    }

    #[test]
    fn a_counter_that_is_behind_is_a_setback_told_once() {
        let counters = Counters::default();
        let mut found = counters.seen().counts;
        found[5] = 100;
        counters.note(&counters.seen(), &found);
        let before = counters.seen();
        found[5] = 99;
        counters.note(&counters.seen(), &found);
        assert!(counters.take_setback());
        // Somebody else asked at the same time.
        counters.note(&before, &found);
        counters.note_own(&before, 5, 100);
        counters.note(&counters.seen(), &found);
        assert!(!counters.take_setback());
    }

    #[test]
    fn a_number_of_our_own_that_was_given_before_is_a_setback() {
        let counters = Counters::default();
        counters.note_own(&counters.seen(), 0, 10);
        counters.note_own(&counters.seen(), 0, 10);
        assert!(counters.take_setback());
        counters.note_own(&counters.seen(), 0, 11);
        assert!(!counters.take_setback());
    }
}
