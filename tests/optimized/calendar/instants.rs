//! Timestamps: their limits, and how they are written.

use std::time::Duration;

use polos::calendar::{Timestamp, Zone, count_fires, next_fire, prev_fire};
use polos::cron::CronExpr;

#[test]
fn written_in_utc_with_a_fraction_only_where_there_is_one() {
    for (micros, expected) in [
        (0, "1970-01-01T00:00:00Z"),
        (1, "1970-01-01T00:00:00.000001Z"),
        (-1, "1969-12-31T23:59:59.999999Z"),
        (1_805_007_600_000_000, "2027-03-14T07:00:00Z"),
        (951_782_400_500_000, "2000-02-29T00:00:00.500000Z"),
        (Timestamp::MIN.as_micros(), "0001-01-01T00:00:00Z"),
        (Timestamp::MAX.as_micros(), "9999-12-31T23:59:59.999999Z"),
    ] {
        let at = Timestamp::from_micros(micros);
        assert_eq!(at.to_string(), expected);
        assert_eq!(at.as_micros(), micros);
    }
}

#[test]
fn never_outside_the_years_1_to_9999() {
    assert_eq!(Timestamp::from_micros(i64::MAX), Timestamp::MAX);
    assert_eq!(Timestamp::from_second(i64::MIN), Timestamp::MIN);
    assert_eq!(Timestamp::MAX.saturating_add(Duration::MAX), Timestamp::MAX);
    assert_eq!(Timestamp::MIN.saturating_sub(Duration::MAX), Timestamp::MIN);
    assert_eq!(Timestamp::MIN.saturating_since(Timestamp::MAX), Duration::ZERO);
    let second = |second| Timestamp::from_second(second);
    assert_eq!(second(5).saturating_since(second(3)), Duration::from_secs(2));
    assert_eq!(format!("{:?}", second(5)), "1970-01-01T00:00:05Z");
    let far: Timestamp = serde_json::from_str("9223372036854775807").unwrap();
    assert_eq!(far, Timestamp::MAX);
    assert_eq!(serde_json::to_string(&Timestamp::from_micros(-5)).unwrap(), "-5");
}

#[test]
fn fires_end_where_time_ends() {
    for zone in ["UTC", "America/New_York", "Pacific/Kiritimati"].map(|name| Zone::get(name).unwrap()) {
        for text in ["* * * * *", "0 9 * * *", "0 0 29 2 *", "*/30 2 8-14 3 */7"] {
            let expr = CronExpr::parse(text).unwrap();
            assert_eq!(next_fire(&expr, &zone, Timestamp::MAX), None);
            let last = prev_fire(&expr, &zone, Timestamp::MAX);
            let first = next_fire(&expr, &zone, Timestamp::MIN);
            let total = count_fires(&expr, &zone, Timestamp::MIN, Timestamp::MAX);
            if let (Some(first), Some(last)) = (first, last) {
                assert_eq!(next_fire(&expr, &zone, last), None, "{text} in {zone:?}");
                let before = Timestamp::from_micros(first.as_micros() - 1);
                let earlier = prev_fire(&expr, &zone, before);
                assert!(earlier.is_none_or(|fire| fire == Timestamp::MIN), "{text} in {zone:?}: {earlier:?}");
                assert_eq!(count_fires(&expr, &zone, first, last) + 1, total, "{text} in {zone:?}");
            }
        }
    }
    // Always in the gap since the rule of 2007, hence none to come.
    let expr = CronExpr::parse("*/30 2 8-14 3 */7").unwrap();
    let zone = Zone::get("America/New_York").unwrap();
    assert_eq!(next_fire(&expr, &zone, super::at("2026-01-01T00:00:00Z")), None);
    assert_eq!(count_fires(&expr, &zone, super::at("2026-01-01T00:00:00Z"), Timestamp::MAX), 0);
}

#[test]
fn a_fraction_of_a_minute_changes_nothing() {
    let (expr, zone) = (CronExpr::parse("0 9 * * *").unwrap(), Zone::utc());
    let nine = super::at("2026-11-22T09:00:00Z");
    let tomorrow = super::at("2026-11-23T09:00:00Z");
    let micros = |by: i64| Timestamp::from_micros(nine.as_micros() + by);
    assert_eq!(next_fire(&expr, &zone, micros(-1)), Some(nine));
    assert_eq!(next_fire(&expr, &zone, nine), Some(tomorrow));
    assert_eq!(next_fire(&expr, &zone, micros(59_999_999)), Some(tomorrow));
    assert_eq!(prev_fire(&expr, &zone, nine), Some(nine));
    assert_eq!(prev_fire(&expr, &zone, micros(1)), Some(nine));
    assert_ne!(prev_fire(&expr, &zone, micros(-1)), Some(nine));
    assert_eq!(count_fires(&expr, &zone, nine, tomorrow), 1);
    assert_eq!(count_fires(&expr, &zone, micros(-1), tomorrow), 2);
    assert_eq!(count_fires(&expr, &zone, tomorrow, nine), 0);
}
