//! `SharedClock`: a clock that several processes follow.

use polos::calendar::Timestamp;
use polos::clock::{Clock, ManualClock, SharedClock, SystemClock};
use std::convert::Infallible;

fn mono_us(clock: &SystemClock) -> i64 {
    i64::try_from(clock.now().mono.as_micros()).unwrap_or(i64::MAX)
}

#[test]
fn a_shared_clock_follows_the_other_clock_and_is_never_ahead() {
    let other = ManualClock::new(Timestamp::from_micros(1_000_000_000));
    let asked = || Ok::<_, Infallible>(other.now().wall);
    let clock = SharedClock::new(asked).unwrap();
    let before = clock.now().wall.as_micros();
    // Fractions of a microsecond put it behind, never ahead.
    assert!((999_999_999..1_060_000_000).contains(&before), "{before}: not the machine's");
    assert!(!clock.is_look_due());
    other.set_wall(Timestamp::from_micros(5_000_000_000));
    clock.look(asked).unwrap();
    let after = clock.now().wall.as_micros();
    assert!((4_999_999_999..5_060_000_000).contains(&after), "{after}");
}

#[test]
fn a_slow_reading_does_not_put_the_clock_ahead() {
    let machine = SystemClock::new();
    // The followed clock is this machine's monotonic one: ours must never be ahead of it.
    let clock = SharedClock::new(|| Ok::<_, Infallible>(Timestamp::from_micros(mono_us(&machine)))).unwrap();
    let shown = clock.now().wall.as_micros();
    assert!(shown <= mono_us(&machine));
}
