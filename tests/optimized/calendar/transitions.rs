//! Around the changes of the clocks of all zones, every answer is compared with the oracle's.

use std::collections::{BTreeSet, HashMap};

use jiff::ToSpan;
use polos::calendar::{Timestamp, Zone, count_of_union, next_of_union, prev_of_union, zone_names};
use polos::cron::{CivilDate, CronUnion, WeekCycle};

use super::oracle::{self, Naive};

/// Minutes compared on either side of a transition.
const AROUND: i64 = 36 * 60;

/// 1850-01-01, 1975-01-01 and 2100-01-01, minutes of UTC.
const FROM_FULL: i64 = -63_115_200;
const FROM: i64 = 2_629_440;
const TO: i64 = 68_374_080;

/// Everyday share of the transitions since 1975: one in so many. With `POLOS_FULL=1` all of them,
/// since 1850.
const SHARE: usize = 12;

pub fn minute(at: i64) -> Timestamp {
    Timestamp::from_second(at * 60)
}

pub fn offset(zone: &Zone, at: i64) -> i32 {
    zone.offset_seconds(minute(at))
}

/// First minutes after each change of the offset, found by halving.
pub fn transitions(zone: &Zone, from: i64, to: i64) -> Vec<i64> {
    const STRIDE: i64 = 12 * 60;
    let mut found = Vec::new();
    let mut low = from;
    while low < to {
        let high = low + STRIDE;
        if offset(zone, low) != offset(zone, high) {
            let (mut before, mut after) = (low, high);
            while after - before > 1 {
                let middle = i64::midpoint(before, after);
                if offset(zone, middle) == offset(zone, low) { before = middle } else { after = middle }
            }
            found.push(after);
        }
        low = high;
    }
    found
}

/// Expressions that are interesting at that change, and some that always are.
fn expressions(zone: &Zone, at: i64) -> Vec<String> {
    let local = |minute: i64, offset: i32| (minute * 60 + i64::from(offset)).div_euclid(60);
    let before = local(at, offset(zone, at - 1));
    let after = local(at, offset(zone, at));
    let inside = i64::midpoint(before, after);
    let part = |local: i64| {
        let date = jiff::Timestamp::from_second(local * 60).unwrap().to_zoned(jiff::tz::TimeZone::UTC);
        (date.minute(), date.hour(), date.day(), date.month(), date.weekday().to_sunday_zero_offset())
    };
    let (minute, hour, day, month, weekday) = part(inside);
    let (last_minute, last_hour, ..) = part(before.max(after) - 1);
    let (first_minute, first_hour, ..) = part(before.min(after));
    let nth = (day - 1) / 7 + 1;
    let mut all = vec![
        "* * * * *".to_owned(),
        "*/20 * * * *".to_owned(),
        "7 * * * *".to_owned(),
        "0 0-23 * * *".to_owned(),
        "0,30 0-3 * * *".to_owned(),
        "0 0 * * *".to_owned(),
        "30 2 * * *".to_owned(),
        "59 23 * * 1-5".to_owned(),
        "0-59 1-4 * * *".to_owned(),
        "0 */2 * * *".to_owned(),
        format!("{minute} {hour} * * *"),
        format!("{minute} {hour} {day} {month} *"),
        format!("{last_minute} {last_hour} * * *"),
        format!("{first_minute} {first_hour} * * {weekday}"),
        format!("{first_minute},{minute},{last_minute} {hour} * * {weekday}#{nth}"),
        format!("*/7 {hour} * * *"),
        format!("{minute} */{} * * *", (hour % 4) + 2),
        format!("{minute},{last_minute} {hour} L,{day}W * {weekday}L"),
    ];
    all.dedup();
    all
}

/// Compares all fires, and the answers for starts in between, from `from` to `to`.
fn compare(union: &CronUnion, zone: &Zone, from: i64, to: i64, expected: &[i64]) {
    let context =
        || format!("{:?} in {} from {} to {}", union.exprs(), zone.name(), minute(from), minute(to));
    let mut forward = Vec::new();
    let mut last = minute(from - 1);
    while let Some(fire) = next_of_union(union, zone, last).filter(|fire| *fire <= minute(to)) {
        assert!(fire > last, "{}", context());
        forward.push(fire);
        last = fire;
    }
    let expected: Vec<Timestamp> = expected.iter().map(|at| minute(*at)).collect();
    assert_eq!(forward, expected, "next, {}", context());

    let mut backward = Vec::new();
    let mut at = minute(to);
    while let Some(fire) = prev_of_union(union, zone, at).filter(|fire| *fire >= minute(from)) {
        backward.push(fire);
        at = Timestamp::from_micros(fire.as_micros() - 1);
    }
    backward.reverse();
    assert_eq!(backward, expected, "previous, {}", context());

    let start = minute(from - 1);
    assert_eq!(count_of_union(union, zone, start, minute(to)), expected.len() as u64, "count, {}", context());
    for at in (from..to).step_by(97).chain(expected.iter().take(20).map(|fire| fire.as_micros() / 60_000_000))
    {
        let passed = expected.partition_point(|fire| *fire <= minute(at));
        assert_eq!(
            count_of_union(union, zone, start, minute(at)),
            passed as u64,
            "count to {at}, {}",
            context()
        );
        let left = (expected.len() - passed) as u64;
        assert_eq!(
            count_of_union(union, zone, minute(at), minute(to)),
            left,
            "count from {at}, {}",
            context()
        );
        if let Some(next) = expected.get(passed) {
            assert_eq!(next_of_union(union, zone, minute(at)), Some(*next), "next after {at}, {}", context());
        }
        if let Some(previous) = passed.checked_sub(1).map(|n| expected[n]) {
            assert_eq!(
                prev_of_union(union, zone, minute(at)),
                Some(previous),
                "previous to {at}, {}",
                context()
            );
        }
    }
}

fn compare_around(zone: &Zone, at: i64) {
    let texts = expressions(zone, at);
    let naive: Vec<Naive> = texts.iter().map(|text| Naive::new(text)).collect();
    let (from, to) = (at - AROUND, at + AROUND);
    let expected = oracle::fires(&naive, zone, from, to);
    for (text, expected) in texts.iter().zip(&expected) {
        compare(&union(&[text]), zone, from, to, expected);
    }
    // Fixed and wild ones together, those with few fires so that each is seen on its own, and those
    // that meet at the end of a gap.
    for members in [[2, 3, 4], [9, 11, 13], [6, 14, 15]] {
        let named: Vec<&String> = members.iter().map(|number| &texts[*number]).collect();
        let merged: BTreeSet<i64> = members.iter().flat_map(|number| &expected[*number]).copied().collect();
        let merged: Vec<i64> = merged.into_iter().collect();
        compare(&union(&named), zone, from, to, &merged);
    }
    compare_weeks(zone, at, &texts);
}

/// Every second week, counted from this one and from the one before, and both day fields at once.
fn compare_weeks(zone: &Zone, at: i64, texts: &[String]) {
    let (from, to) = (at - AROUND, at + AROUND);
    let local = (at - 1) * 60 + i64::from(offset(zone, at - 1));
    let this = jiff::Timestamp::from_second(local).unwrap().to_zoned(jiff::tz::TimeZone::UTC).date();
    let members = [&texts[10], &texts[15]];
    for anchor in [this, this.checked_sub(7.days()).unwrap()] {
        let naive = members.map(|text| Naive::new(text).both().in_weeks(2, anchor));
        let merged: BTreeSet<i64> = oracle::fires(&naive, zone, from, to).into_iter().flatten().collect();
        let merged: Vec<i64> = merged.into_iter().collect();
        let civil = CivilDate {
            year: anchor.year().into(),
            month: anchor.month().unsigned_abs().into(),
            day: anchor.day().unsigned_abs().into(),
        };
        let union = union(&members).with_both_days().unwrap();
        let union = union.in_weeks(WeekCycle::new(2, civil), civil).unwrap();
        compare(&union, zone, from, to, &merged);
    }
}

fn union<T: AsRef<str>>(texts: &[T]) -> CronUnion {
    CronUnion::parse(texts).unwrap()
}

/// One zone of each history since `from`, with its transitions.
fn distinct_zones(from: i64) -> Vec<(Zone, Vec<i64>)> {
    let mut known = HashMap::new();
    let mut zones = Vec::new();
    for name in zone_names() {
        let zone = Zone::get(&name).unwrap();
        let transitions = transitions(&zone, from, TO);
        let history: Vec<(i64, i32)> = transitions.iter().map(|at| (*at, offset(&zone, *at))).collect();
        if known.insert((offset(&zone, from), history), name).is_none() {
            zones.push((zone, transitions));
        }
    }
    zones
}

#[test]
fn around_changes_of_the_clocks_all_answers_are_the_oracles() {
    let full = std::env::var_os("POLOS_FULL").is_some();
    let mut number = 0;
    for (zone, transitions) in distinct_zones(if full { FROM_FULL } else { FROM }) {
        for at in transitions {
            number += 1;
            if full || number % SHARE == 0 {
                compare_around(&zone, at);
            }
        }
    }
    assert!(number > 10_000, "only {number} transitions found: is there zone data?");
}

#[test]
fn the_odd_transitions_of_history_are_the_oracles() {
    for (name, from, to) in [
        // Odd seconds, and 24 hours twice.
        ("America/New_York", -60_000_000, -40_000_000),
        ("America/Juneau", -60_000_000, -30_000_000),
        ("Asia/Manila", -90_000_000, -30_000_000),
        ("Africa/Monrovia", -60_000_000, 2_000_000),
        ("Europe/Amsterdam", -60_000_000, -14_000_000),
        ("Europe/Dublin", -60_000_000, -14_000_000),
        ("Europe/London", -16_000_000, -11_000_000),
        ("Asia/Singapore", -60_000_000, 10_000_000),
        // 23 and 24 hours.
        ("Pacific/Kwajalein", -40_000_000, 13_000_000),
        ("Pacific/Apia", -60_000_000, 24_000_000),
        ("Pacific/Enderbury", 0, 20_000_000),
        ("Pacific/Guam", -70_000_000, 0),
        // 3 hours, 2 hours, half an hour, twenty minutes.
        ("Antarctica/Casey", -1_000_000, 30_000_000),
        ("Antarctica/Vostok", -10_000_000, 30_000_000),
        ("Antarctica/Troll", 18_000_000, 21_000_000),
        ("Australia/Lord_Howe", 0, 14_000_000),
        ("Asia/Pyongyang", -40_000_000, 30_000_000),
        ("Africa/Accra", -60_000_000, -10_000_000),
        ("Asia/Kathmandu", -60_000_000, 10_000_000),
        ("Africa/Casablanca", 59_000_000, 68_000_000),
    ] {
        let zone = Zone::get(name).unwrap();
        for at in transitions(&zone, from, to) {
            compare_around(&zone, at);
        }
    }
}

#[test]
fn the_rules_go_on_to_the_year_9999() {
    for name in ["America/New_York", "Africa/Cairo", "America/Nuuk", "Australia/Lord_Howe", "Asia/Tokyo"] {
        let zone = Zone::get(name).unwrap();
        for year in [2499, 2500, 2501, 2899, 2900, 3000, 7300, 9998] {
            let new_year = jiff::civil::date(year, 1, 1).to_zoned(jiff::tz::TimeZone::UTC).unwrap();
            let from = new_year.timestamp().as_second() / 60;
            for at in transitions(&zone, from - 1440, from + 366 * 1440) {
                compare_around(&zone, at);
            }
            compare_around(&zone, from);
        }
    }
}

#[test]
fn between_changes_of_the_clocks_too() {
    let texts = ["*/5 * * * *", "13 7 * * *", "0 12 1,15,L * 5", "0 0 * * 0", "30 6 15W * 2#3"];
    let naive: Vec<Naive> = texts.iter().map(|text| Naive::new(text)).collect();
    for name in ["UTC", "Europe/Berlin", "Asia/Kolkata", "Pacific/Kiritimati"] {
        let zone = Zone::get(name).unwrap();
        let (from, to) = (29_000_000, 29_000_000 + 120 * 1440);
        for (text, expected) in texts.iter().zip(oracle::fires(&naive, &zone, from, to)) {
            compare(&union(&[text]), &zone, from, to, &expected);
        }
    }
}
