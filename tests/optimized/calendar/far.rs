//! Fires far ahead or back: the search passes over the periods in between.

use std::iter::successors;

use polos::calendar::{Timestamp, Zone, count_fires, next_fire, prev_fire};
use polos::cron::{CivilMinute, CronExpr};

use super::transitions::{minute, offset, transitions};

/// 1945-01-01, 1990-01-01 and 2030-01-01, minutes of UTC.
const FROM_EARLY: i64 = -13_149_360;
const FROM: i64 = 10_519_200;
const TO: i64 = 31_557_600;
const DAY: i64 = 1440;

const ZONES: [&str; 12] = [
    "America/New_York",
    "Europe/London",
    "Australia/Lord_Howe",
    "Pacific/Apia",
    "Pacific/Kwajalein",
    "Pacific/Kiritimati",
    "Pacific/Auckland",
    "Antarctica/Troll",
    "Antarctica/Casey",
    "Africa/Casablanca",
    "America/Asuncion",
    "Asia/Pyongyang",
];

/// The expression that names the wall clock's minute at an instant, once a year.
fn yearly(zone: &Zone, at: i64) -> CronExpr {
    let (minute, hour, day, month) = wall_clock(zone, at);
    CronExpr::parse(&format!("{minute} {hour} {day} {month} *")).unwrap()
}

fn wall_clock(zone: &Zone, at: i64) -> (u32, u32, u32, u32) {
    let local = CivilMinute((at * 60 + i64::from(offset(zone, at))).div_euclid(60));
    let (date, (hour, minute)) = (local.date(), local.time());
    (minute, hour, date.day, date.month)
}

#[test]
fn a_fire_is_the_same_from_far_away() {
    for name in ZONES {
        let zone = Zone::get(name).unwrap();
        for at in transitions(&zone, FROM, TO) {
            for beside in [-50 * 60, -27 * 60, -90, -1, 0, 1, 45, 90, 27 * 60, 50 * 60] {
                let expr = yearly(&zone, at + beside);
                let (before, after) = (at + beside - 3 * DAY, at + beside + 3 * DAY);
                let next = next_fire(&expr, &zone, minute(before));
                let previous = prev_fire(&expr, &zone, minute(after));
                for days in [40, 100, 200, 300] {
                    let context = || format!("{expr} in {name}, {days} days from {}", minute(at));
                    let (early, late) = (before - days * DAY, after + days * DAY);
                    if count_fires(&expr, &zone, minute(early), minute(before)) == 0 {
                        assert_eq!(next_fire(&expr, &zone, minute(early)), next, "{}", context());
                    }
                    if count_fires(&expr, &zone, minute(after), minute(late)) == 0 {
                        assert_eq!(prev_fire(&expr, &zone, minute(late)), previous, "{}", context());
                    }
                }
            }
        }
    }
}

/// The count looks at each period for itself.
#[test]
fn a_walk_through_a_year_meets_what_is_counted() {
    for name in ZONES {
        let zone = Zone::get(name).unwrap();
        for at in transitions(&zone, FROM_EARLY, TO) {
            for (beside, start) in [-1470, -90, -31, -1, 0, 29, 1410]
                .into_iter()
                .flat_map(|beside| [-1500, -61, -30, -1, 0, 30, 61, 1500].map(|start| (beside, at + start)))
            {
                let (at_minute, hour, day, month) = wall_clock(&zone, at + beside);
                for text in
                    [format!("{at_minute} {hour} {day} {month} *"), format!("*/30 {hour} {day} {month} *")]
                {
                    let expr = CronExpr::parse(&text).unwrap();
                    let end = start + 400 * DAY;
                    let count = count_fires(&expr, &zone, minute(start), minute(end));
                    let context = || format!("{text} in {name} from {}", minute(start));
                    let next = |from| next_fire(&expr, &zone, from).filter(|fire| *fire <= minute(end));
                    let forward = successors(next(minute(start)), |fire| next(*fire)).count();
                    assert_eq!(forward as u64, count, "{}", context());
                    let previous = |to| prev_fire(&expr, &zone, to).filter(|fire| *fire > minute(start));
                    let before = |fire: &Timestamp| Timestamp::from_micros(fire.as_micros() - 1);
                    let back = successors(previous(minute(end)), |fire| previous(before(fire))).count();
                    assert_eq!(back as u64, count, "back, {}", context());
                }
            }
        }
    }
}
