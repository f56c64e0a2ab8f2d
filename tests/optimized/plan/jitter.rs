//! Deterministic delays.

use polos::plan::jitter::delay_us;

#[test]
fn the_same_event_always_has_the_same_delay() {
    assert_eq!(delay_us("sch_a", 60, 1_000_000), delay_us("sch_a", 60, 1_000_000));
    assert_ne!(delay_us("sch_a", 60, 1_000_000), delay_us("sch_b", 60, 1_000_000));
    assert_eq!(delay_us("sch_a", 60, 0), 0);
}

#[test]
fn delays_spread_over_the_whole_range() {
    let mut tenths = [0; 10];
    for slot in 0..10_000 {
        tenths[usize::try_from(delay_us("sch_a", slot * 60, 1_000_000) / 100_000).unwrap()] += 1;
    }
    assert!(tenths.iter().all(|count| (850..1_150).contains(count)), "{tenths:?}");
}
