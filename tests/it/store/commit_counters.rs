//! Counters of commits, by which a database that went back is noticed.

use polos::store::internals::CommitCounters;

#[test]
fn growing_is_no_setback_in_whatever_order_it_is_noted() {
    let counters = CommitCounters::default();
    let before = counters.seen();
    let mut older = before.counts;
    older[3] = 7;
    counters.note_own(&before, 3, 8);
    // Asked before our commit, answered after it.
    counters.note(&before, &older);
    assert!(!counters.take_rollback());
    assert_eq!(counters.seen().counts[3], 8);
}

#[test]
fn a_counter_that_is_behind_is_a_setback_told_once() {
    let counters = CommitCounters::default();
    let mut found = counters.seen().counts;
    found[5] = 100;
    counters.note(&counters.seen(), &found);
    let before = counters.seen();
    found[5] = 99;
    counters.note(&counters.seen(), &found);
    assert!(counters.take_rollback());
    // Somebody else asked at the same time.
    counters.note(&before, &found);
    counters.note_own(&before, 5, 100);
    counters.note(&counters.seen(), &found);
    assert!(!counters.take_rollback());
}

#[test]
fn a_number_of_our_own_that_was_given_before_is_a_setback() {
    let counters = CommitCounters::default();
    counters.note_own(&counters.seen(), 0, 10);
    counters.note_own(&counters.seen(), 0, 10);
    assert!(counters.take_rollback());
    counters.note_own(&counters.seen(), 0, 11);
    assert!(!counters.take_rollback());
}
