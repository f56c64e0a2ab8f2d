//! Periods of zones that no real zone has had.

use polos::calendar::internals::{push, with_fixed_shifts};

fn fixed_from(spans: &[(i64, i16)]) -> Vec<i64> {
    with_fixed_shifts(spans)
        .iter()
        .skip(1)
        .map(|entry| entry.start + i64::from(entry.offset) + i64::from(entry.fixed_shift))
        .collect()
}

/// No zone has had these, so that the tests with real data can't see them.
#[test]
fn changes_that_overlap_are_each_measured_by_what_the_clock_has_shown() {
    // Back by an hour twice within an hour: nothing is new until the clock is past where it first
    // turned.
    assert_eq!(fixed_from(&[(0, 120), (1000, 60), (1030, 0)]), [1120, 1120]);
    // Back, and forward again before the hour is over: only what the clock hasn't shown was
    // skipped.
    assert_eq!(fixed_from(&[(0, 120), (1000, 60), (1030, 120)]), [1120, 1120]);
    assert_eq!(fixed_from(&[(0, 120), (1000, 60), (1030, 180)]), [1120, 1120]);
    // Forward twice: the second gap begins where the first period ended.
    assert_eq!(fixed_from(&[(0, 0), (1000, 60), (1030, 120)]), [1000, 1090]);
    // Back by more than three hours is a new start, whatever was shown before.
    assert_eq!(fixed_from(&[(0, 240), (1000, 180), (1030, -60)]), [1240, 970]);
}

#[test]
fn spans_without_a_minute_or_a_change_are_dropped() {
    let mut spans = vec![(0, 10)];
    for (start, offset) in [(100, 20), (100, 30), (200, 30), (300, 40), (300, 30)] {
        push(&mut spans, start, offset);
    }
    assert_eq!(spans, [(0, 10), (100, 30)]);
}
