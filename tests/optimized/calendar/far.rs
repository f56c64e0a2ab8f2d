//! Fires far ahead or back: the search passes over the periods in between.

use polos::calendar::{Zone, count_fires, next_fire, prev_fire};
use polos::cron::{CivilMinute, CronExpr};

use super::transitions::{minute, offset, transitions};

/// 1990-01-01 and 2030-01-01, minutes of UTC.
const FROM: i64 = 10_519_200;
const TO: i64 = 31_557_600;
const DAY: i64 = 1440;

/// The expression that names the wall clock's minute at an instant, once a year.
fn yearly(zone: &Zone, at: i64) -> CronExpr {
    let local = CivilMinute((at * 60 + i64::from(offset(zone, at))).div_euclid(60));
    let (date, (hour, minute)) = (local.date(), local.time());
    CronExpr::parse(&format!("{minute} {hour} {} {} *", date.day, date.month)).unwrap()
}

#[test]
fn a_fire_is_the_same_from_far_away() {
    for name in [
        "America/New_York",
        "Europe/London",
        "Australia/Lord_Howe",
        "Pacific/Apia",
        "Pacific/Kiritimati",
        "Pacific/Auckland",
        "Antarctica/Troll",
        "Antarctica/Casey",
        "Africa/Casablanca",
        "America/Asuncion",
        "Asia/Pyongyang",
    ] {
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
