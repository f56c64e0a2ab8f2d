//! Against the crates `cron` and `croner`, where they mean the same by an expression.
//!
//! Both in UTC only: their ideas of a change of the clocks differ from ours on purpose. Left out,
//! because they differ by design: with `cron`, days of month and week restricted at once (it wants
//! both), years after 2100 (it stops), `L`, `W`, `#`; its weekdays count from Sunday = 1 and are
//! translated. With `croner`, a day field that starts with `*` but isn't one beside another
//! restricted one (it takes either).

use std::str::FromStr;

use chrono::{DateTime, Utc};
use polos::calendar::{Timestamp, Zone, next_fire, prev_fire};
use polos::cron::CronExpr;
use proptest::prelude::*;

use crate::property::config;

/// 1971 to 2090, seconds.
const SECONDS: std::ops::Range<i64> = 31_536_000..3_786_912_000;

fn utc(second: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(second, 0).unwrap()
}

/// A field in the subset that all dialects share.
fn field(least: u32, most: u32) -> impl Strategy<Value = String> {
    let size = most - least + 1;
    prop_oneof![
        2 => Just("*".to_owned()),
        1 => (2..size).prop_map(|step| format!("*/{step}")),
        2 => (least..=most, least..=most, least..=most).prop_map(|(a, b, c)| format!("{a},{b},{c}")),
        2 => (least..most, least..most).prop_map(move |(a, b)| format!("{}-{}", a.min(b), a.max(b) + 1)),
        1 => (least..most, 1..size).prop_map(move |(a, step)| format!("{a}-{most}/{step}")),
        2 => (least..=most).prop_map(|value| value.to_string()),
    ]
}

/// Adds one to every weekday in the field.
fn quartz_weekdays(field: &str) -> String {
    let (days, step) = field.split_once('/').map_or((field, None), |(days, step)| (days, Some(step)));
    let shifted: String = days
        .chars()
        .map(|char| char.to_digit(10).map_or(char, |digit| char::from_digit(digit + 1, 10).unwrap()))
        .collect();
    step.map_or_else(|| shifted.clone(), |step| format!("{shifted}/{step}"))
}

proptest! {
    #![proptest_config(config(300))]

    #[test]
    fn the_cron_crate_agrees(
        minute in field(0, 59), hour in field(0, 23), date in field(1, 28), month in field(1, 12),
        weekday in field(0, 6), by_date in any::<bool>(), start in SECONDS,
    ) {
        let (date, weekday) = if by_date { (date, "*".to_owned()) } else { ("*".to_owned(), weekday) };
        let ours = CronExpr::parse(&format!("{minute} {hour} {date} {month} {weekday}")).unwrap();
        let theirs = format!("0 {minute} {hour} {date} {month} {}", quartz_weekdays(&weekday));
        let theirs = cron::Schedule::from_str(&theirs).unwrap();
        let mut last = Timestamp::from_second(start);
        for fire in theirs.after(&utc(start)).take(20) {
            let before = last;
            last = next_fire(&ours, &Zone::utc(), before).unwrap();
            prop_assert_eq!(last.as_second(), fire.timestamp());
            prop_assert_eq!(prev_fire(&ours, &Zone::utc(), last), Some(last));
        }
    }

    #[test]
    fn croner_agrees(
        minute in field(0, 59), hour in field(0, 23), month in field(1, 12), weekday in field(0, 6),
        date in prop_oneof![
            4 => field(1, 28),
            1 => Just("L".to_owned()),
            1 => (1..=31u32).prop_map(|day| format!("{day}W")),
        ],
        nth in prop::option::weighted(0.3, (0..7u32, 1..=4u32)),
        start in SECONDS,
    ) {
        let weekday = nth.map_or(weekday, |(day, week)| format!("{day}#{week}"));
        let half_open = |field: &str| field.starts_with('*') && field != "*";
        prop_assume!(!half_open(&date) || weekday == "*");
        prop_assume!(!half_open(&weekday) || date == "*");
        let text = format!("{minute} {hour} {date} {month} {weekday}");
        let Ok(ours) = CronExpr::parse(&text) else { return Ok(()) };
        let theirs = croner::Cron::from_str(&text).unwrap();
        let mut last = Timestamp::from_second(start);
        for _ in 0..10 {
            let fire = theirs.find_next_occurrence(&utc(last.as_second()), false).unwrap();
            last = next_fire(&ours, &Zone::utc(), last).unwrap();
            prop_assert_eq!(last.as_second(), fire.timestamp(), "{}", text);
        }
    }
}

#[test]
fn where_the_cron_crate_differs() {
    // Sunday is 1, and 0 is refused: the "every Monday" of five-field cron means Sunday.
    let monday = cron::Schedule::from_str("0 0 8 * * 1").unwrap();
    let fire = monday.after(&utc(1_800_000_000)).next().unwrap();
    assert_eq!(fire.format("%a").to_string(), "Sun");
    assert!(cron::Schedule::from_str("0 0 8 * * 0").is_err());
    // Both day fields have to match: the next Friday the 13th rather than the next Friday.
    let both = cron::Schedule::from_str("0 0 0 13 * 6").unwrap();
    let fire = both.after(&utc(1_800_000_000)).next().unwrap();
    assert_eq!(fire.format("%a %d").to_string(), "Fri 13");
    // After 2100 there is nothing.
    let daily = cron::Schedule::from_str("0 0 9 * * *").unwrap();
    assert_eq!(daily.after(&utc(4_133_980_800)).next(), None);
    // A run that the change of the clocks skips is lost.
    let early = cron::Schedule::from_str("0 30 2 * * *").unwrap();
    let noon = utc(1_772_884_800).with_timezone(&chrono_tz::America::New_York);
    let fires: Vec<String> =
        early.after(&noon).take(2).map(|fire| fire.format("%m-%d").to_string()).collect();
    assert_eq!(fires, ["03-09", "03-10"]);
}

#[test]
fn where_croner_differs() {
    // A field that starts with a star doesn't make both fields count.
    let odd_mondays = croner::Cron::from_str("0 0 */2 * 1").unwrap();
    let fire = odd_mondays.find_next_occurrence(&utc(1_798_761_600), false).unwrap();
    assert_eq!(fire.format("%a %d").to_string(), "Sun 03");
    // Slips pass.
    assert!(croner::Cron::from_str("1,,2 * * * *").is_ok());
    assert!(croner::Cron::from_str("MON * * * *").is_ok());
    // A day that the clocks skip ends the schedule with an error.
    let daily = croner::Cron::from_str("0 9 * * *").unwrap();
    let apia = utc(1_325_188_800).with_timezone(&chrono_tz::Pacific::Apia);
    assert!(daily.find_next_occurrence(&apia, false).is_err());
}
