//! Fires in time zones: the rules for clock changes.
#![allow(clippy::unwrap_used, reason = "test helpers")]

mod explained;
mod far;
mod instants;
mod offsets;
pub mod oracle;
mod properties;
mod transitions;
mod zones;

use polos::calendar::{Timestamp, Zone, next_fire, prev_fire};
use polos::cron::CronExpr;

fn at(text: &str) -> Timestamp {
    Timestamp::from_micros(text.parse::<jiff::Timestamp>().unwrap().as_microsecond())
}

/// Fires of `cron` in `zone` after local noon before `day`, as local times with offset.
fn fires(cron: &str, zone: &str, after: &str, count: usize) -> Vec<String> {
    let (expr, zone) = (CronExpr::parse(cron).unwrap(), Zone::get(zone).unwrap());
    let mut at = at(after);
    let mut found = Vec::new();
    for _ in 0..count {
        let fire = next_fire(&expr, &zone, at).unwrap();
        assert_eq!(prev_fire(&expr, &zone, fire), Some(fire));
        let offset = jiff::tz::Offset::from_seconds(zone.offset_seconds(fire)).unwrap();
        let local = offset.to_datetime(jiff::Timestamp::from_microsecond(fire.as_micros()).unwrap());
        found.push(format!("{}{offset}", local.strftime("%m-%d %H:%M")));
        at = fire;
    }
    found
}

#[test]
fn the_table_of_examples_for_users() {
    let new_york = "America/New_York";
    for (cron, zone, after, expected) in [
        ("30 2 * * *", new_york, "2026-03-08T05:00:00Z", &["03-08 03:00-04", "03-09 02:30-04"][..]),
        ("0,30 2 * * *", new_york, "2026-03-08T05:00:00Z", &["03-08 03:00-04", "03-09 02:00-04"]),
        ("0 2,3 * * *", new_york, "2026-03-08T05:00:00Z", &["03-08 03:00-04", "03-09 02:00-04"]),
        ("*/30 2 * * *", new_york, "2026-03-08T05:00:00Z", &["03-09 02:00-04"]),
        (
            "0 */2 * * *",
            new_york,
            "2026-03-08T04:59:59Z",
            &["03-08 00:00-05", "03-08 04:00-04", "03-08 06:00-04"],
        ),
        ("30 1 * * *", new_york, "2026-11-01T04:00:00Z", &["11-01 01:30-04", "11-02 01:30-05"]),
        (
            "*/30 * * * *",
            new_york,
            "2026-11-01T04:30:00Z",
            &["11-01 01:00-04", "11-01 01:30-04", "11-01 01:00-05", "11-01 01:30-05"],
        ),
        ("0 0-23 * * *", new_york, "2026-11-01T04:30:00Z", &["11-01 01:00-04", "11-01 02:00-05"]),
        ("15 2 * * *", "Australia/Lord_Howe", "2026-10-03T12:00:00Z", &["10-04 02:30+11"]),
        ("0 0 * * *", "America/Sao_Paulo", "2018-11-03T12:00:00Z", &["11-04 01:00-02"]),
        ("30 1 * * *", "Antarctica/Troll", "2026-03-28T12:00:00Z", &["03-29 03:00+02"]),
        ("45 23 * * *", "Asia/Pyongyang", "2018-05-04T12:00:00Z", &["05-05 00:00+09", "05-05 23:45+09"]),
        ("0 9 * * *", "Pacific/Apia", "2011-12-29T12:00:00Z", &["12-29 09:00-10", "12-31 09:00+14"]),
        ("30 1 * * *", "Europe/Dublin", "2026-10-24T12:00:00Z", &["10-25 01:30+01", "10-26 01:30+00"]),
    ] {
        assert_eq!(fires(cron, zone, after, expected.len()), expected, "{cron} in {zone}");
    }
}
