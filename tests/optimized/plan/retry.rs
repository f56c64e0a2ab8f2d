//! The wait after a failed attempt.

use polos::calendar::Timestamp;
use polos::plan::Backoff;

#[test]
fn waits_double_up_to_the_maximum() {
    let backoff = Backoff { initial_us: 1_000_000, factor: 2.0, maximum_us: 5_000_000, jitter: 0.0 };
    let waits: Vec<i64> =
        (1..=5).map(|failed| backoff.retry_at("r", failed, Timestamp::from_micros(0)).as_micros()).collect();
    assert_eq!(waits, [1_000_000, 2_000_000, 4_000_000, 5_000_000, 5_000_000]);
}

#[test]
fn jitter_shortens_a_wait_by_up_to_its_fraction() {
    let backoff = Backoff { jitter: 0.5, initial_us: 1_000_000, factor: 1.0, maximum_us: 5_000_000 };
    let wait = |name: usize| backoff.retry_at(&format!("r{name}"), 1, Timestamp::from_micros(0)).as_micros();
    let waits: Vec<i64> = (0..1_000).map(wait).collect();
    assert!(waits.iter().all(|wait| (500_000..=1_000_000).contains(wait)));
    let shortest = waits.iter().min().expect("there are some");
    let longest = waits.iter().max().expect("there are some");
    assert!(*shortest < 510_000 && *longest > 990_000, "{shortest} to {longest}");
}

#[test]
fn the_thousandth_attempt_still_waits_the_maximum() {
    let at = Backoff { jitter: 0.0, ..Backoff::default() }.retry_at("r", u32::MAX, Timestamp::from_micros(7));
    assert_eq!(at.as_micros(), 300_000_007);
}
