//! Slots that move from excluded dates to the next workday.

use super::parse;
use polos::calendar::Timestamp;
use polos::model::spec::CompiledSpec;
use serde_json::{Value, json};
use std::collections::BTreeSet;

const DAY_US: i64 = 86_400_000_000;
const MINUTE_US: i64 = 60_000_000;
/// In some of these, clocks change on Fridays or at midnight, or a day is left out.
const ZONES: [&str; 9] = [
    "UTC",
    "Africa/Cairo",
    "America/Havana",
    "America/New_York",
    "Asia/Amman",
    "Asia/Damascus",
    "Asia/Pyongyang",
    "Australia/Lord_Howe",
    "Pacific/Apia",
];

fn at(time: &str) -> Timestamp {
    let time: jiff::Timestamp = format!("{}Z", time.replace(' ', "T")).parse().unwrap();
    Timestamp::from_micros(time.as_microsecond())
}

fn spec(fields: &Value) -> CompiledSpec {
    let mut all = json!({"cron": "0 9 * * *", "on_skip": "next_workday"});
    let fields = fields.as_object().unwrap().clone();
    all.as_object_mut().unwrap().extend(fields);
    parse(&all).unwrap()
}

fn days(slots: &[Timestamp]) -> Vec<String> {
    slots.iter().map(|slot| slot.to_string()[..10].to_owned()).collect()
}

fn local(spec: &CompiledSpec, slot: Timestamp) -> i64 {
    slot.as_micros() + i64::from(spec.zone().offset_seconds(slot)) * 1_000_000
}

/// The first minute of the date, looked for one by one, at which the clock shows this time of day
/// or, if it never does, a later one.
fn first_minute(spec: &CompiledSpec, local_time: i64) -> Timestamp {
    let start = local_time - 27 * 3_600_000_000;
    let minutes = (0..54 * 60).map(|minute| Timestamp::from_micros(start + minute * MINUTE_US));
    minutes.into_iter().find(|minute| local(spec, *minute) >= local_time).unwrap()
}

#[test]
fn slots_move_to_the_minute_that_the_oracle_finds() {
    for zone in ZONES {
        for cron in ["0 0 * * *", "0 1 * * *", "30 0,2 * * *", "45 23 * * *"] {
            let excluded = |day: jiff::civil::Date| {
                matches!(day.weekday(), jiff::civil::Weekday::Thursday) || day.day() == 30
            };
            let fields = json!({"cron": cron, "timezone": zone, "skip_cron": ["* * * * 4", "* * 30 * *"]});
            let moving = spec(&fields);
            let plain = parse(&fields).unwrap();
            // Within these years, Samoa leaves out a day, and Cairo changes its clocks on Fridays.
            let (from, until) = (at("2010-03-01 00:00:00"), at("2012-03-01 00:00:00"));
            let mut expected = BTreeSet::new();
            let mut slot = plain.next(from);
            while let Some(this) = slot.filter(|slot| *slot < until) {
                let date = plain.zone().local_date(this);
                if excluded(date) {
                    let has_minutes = |day: &jiff::civil::Date| {
                        let midnight = day.to_datetime(jiff::civil::Time::midnight());
                        let midnight = jiff::tz::Offset::UTC.to_timestamp(midnight).unwrap().as_microsecond();
                        let first = first_minute(&plain, midnight);
                        plain.zone().local_date(first) == *day
                    };
                    let mut day = date.tomorrow().unwrap();
                    while excluded(day)
                        || matches!(
                            day.weekday(),
                            jiff::civil::Weekday::Saturday | jiff::civil::Weekday::Sunday
                        )
                        || !has_minutes(&day)
                    {
                        day = day.tomorrow().unwrap();
                    }
                    let midnight = day.to_datetime(jiff::civil::Time::midnight());
                    let midnight = jiff::tz::Offset::UTC.to_timestamp(midnight).unwrap().as_microsecond();
                    let time = local(&plain, this).rem_euclid(DAY_US);
                    expected.insert(first_minute(&plain, midnight + time));
                } else {
                    expected.insert(this);
                }
                slot = plain.next(this);
            }
            let expected: Vec<_> = expected.into_iter().filter(|slot| *slot < until).collect();
            let found = moving.upcoming_slots(from, expected.len());
            assert_eq!(found, expected, "{cron} in {zone}");
        }
    }
}

#[test]
fn a_slot_moves_over_the_weekend_and_over_further_excluded_days() {
    // 25 December 2026 is a Friday.
    let fields = json!({"cron": "0 9 25 * *", "skip_dates": ["2026-12-25", "2026-12-28"]});
    let slots = spec(&fields).upcoming_slots(at("2026-12-01 00:00:00"), 2);
    assert_eq!(days(&slots), ["2026-12-29", "2027-01-25"]);
    assert!(slots[0].to_string().contains("09:00:00"));
}

#[test]
fn a_weekend_that_is_not_excluded_keeps_its_slots() {
    let slots = spec(&json!({"skip_dates": ["2026-12-25"]})).upcoming_slots(at("2026-12-24 12:00:00"), 4);
    // The slot of Friday meets that of Monday, which comes once.
    assert_eq!(days(&slots), ["2026-12-26", "2026-12-27", "2026-12-28", "2026-12-29"]);
}

#[test]
fn a_slot_without_a_workday_within_a_month_is_dropped() {
    let fields = json!({"cron": "0 9 1 * *", "skip_cron": ["* * * 7-8 *"]});
    let slots = spec(&fields).upcoming_slots(at("2026-06-15 00:00:00"), 3);
    // That of August moves by exactly 31 days.
    assert_eq!(days(&slots), ["2026-09-01", "2026-10-01", "2026-11-01"]);
    // It is found from any day between the two.
    let fields = json!({"cron": "0 9 1 8 *", "skip_cron": ["* * * 8 *"]});
    let bound = spec(&fields).with_moved(Vec::new(), at("2026-07-01 00:00:00"));
    for day in ["2026-08-02", "2026-08-10", "2026-08-31"] {
        let next = bound.next(at(&format!("{day} 00:00:00"))).unwrap();
        assert_eq!(days(&[next]), ["2026-09-01"], "from {day}");
    }
    let fields =
        json!({"cron": "0 9 2 7 *", "skip_cron": ["* * * 7-8 *"], "end_at_us": at("2027-01-01 00:00:00")});
    assert_eq!(days(&spec(&fields).upcoming_slots(at("2026-06-15 00:00:00"), 3)), [""; 0]);
}

#[test]
fn slots_are_counted_and_found_backward_as_forward() {
    let fields = json!({"cron": "0 9,17 10,25 * *", "skip_cron": ["* * 25 * *", "* * 10 12 *"]});
    let (from, until) = (at("2026-01-01 00:00:00"), at("2027-01-15 00:00:00"));
    let bound = spec(&fields).with_moved(vec![at("2026-01-07 09:00:00")], from);
    let forward: Vec<_> = std::iter::successors(bound.next(from), |slot| bound.next(*slot))
        .take_while(|slot| *slot <= until)
        .collect();
    assert_eq!(bound.count(from, until), forward.len() as u64);
    let back: Vec<_> = std::iter::successors(bound.prev(until), |slot| {
        bound.prev(Timestamp::from_micros(slot.as_micros() - 1))
    })
    .take_while(|slot| *slot > from)
    .collect();
    assert_eq!(back.into_iter().rev().collect::<Vec<_>>(), forward);
    let kept = forward.iter().filter(|slot| bound.excluded_on(**slot).is_none()).count();
    // Two a day on twelve days that are not excluded; thirteen others move. One had moved before.
    assert_eq!((forward.len() - kept, kept), (2 * 13, 2 * (12 + 13) + 1));
}

#[test]
fn a_moved_slot_is_kept_until_it_has_passed() {
    let fields = json!({"cron": "0 9 25 * *", "skip_dates": ["2026-12-25"]});
    let (friday, monday) = (at("2026-12-25 09:00:00"), at("2026-12-28 09:00:00"));
    let bound = spec(&fields).with_moved(Vec::new(), friday);
    assert_eq!(bound.pending_after(friday), [monday]);
    // The calendar no longer excludes the date, but the slot has been moved.
    let later = spec(&json!({"cron": "0 9 25 * *"})).with_moved(vec![monday], monday);
    assert_eq!(later.next(friday), Some(monday));
    assert_eq!(later.pending_after(at("2026-12-28 10:30:00")), []);
    // A date that is excluded after its slot has run moves nothing.
    let ran = spec(&fields).with_moved(Vec::new(), at("2027-01-25 09:00:00"));
    assert_eq!(ran.next(friday), Some(at("2027-01-25 09:00:00")));
    // The workday is excluded in its turn.
    let fields = json!({"cron": "0 9 25 * *", "skip_dates": ["2026-12-28"]});
    let again = spec(&fields).with_moved(vec![monday], monday);
    assert_eq!(days(&again.pending_after(monday)), ["2026-12-28", "2026-12-29"]);
    // Only once it is decided: until then, the calendar may change again.
    assert_eq!(again.pending_after(friday), [monday]);
    // One that was skipped on request does not come back on another day.
    let skipped = spec(&fields).without(vec![monday]).with_moved(vec![monday], monday);
    assert_eq!(skipped.next(monday), Some(at("2027-01-25 09:00:00")));
}

#[test]
fn what_can_not_move_is_refused() {
    let refused = |fields: Value| parse(&fields).unwrap_err().to_string();
    let every = refused(json!({"every_us": DAY_US, "on_skip": "next_workday"}));
    assert!(every.contains("use `cron`"), "{every}");
    let often = refused(json!({"cron": "* * * * *", "on_skip": "next_workday"}));
    assert!(often.contains("every five minutes"), "{often}");
    let asked = refused(json!({"cron": "0 9 * * *", "on_skip": "next_workday", "skip_calendar": true}));
    assert!(asked.contains("calendars.set"), "{asked}");
    spec(&json!({"cron": "0 9 1 * *", "skip_cron": ["* * 1 * *"]})).check_new().unwrap();
}
