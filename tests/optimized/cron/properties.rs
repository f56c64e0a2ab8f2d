//! Searching and counting in civil time against a walk through the days, and parsing against
//! arbitrary texts.

use jiff::ToSpan;
use jiff::civil::Date;
use polos::cron::{CivilDate, CivilMinute, CronExpr, CronUnion, WeekCycle};
use proptest::prelude::*;

use crate::property::config;

use crate::calendar::oracle::Naive;

/// Days that the walk goes before it gives up: every leap day is within, except around a century.
const WALK_MAX: i64 = 8 * 366;

/// A field of the grammar: `size` values from `least`.
fn field(least: u32, most: u32) -> impl Strategy<Value = String> {
    let size = most - least + 1;
    let value = least..=most;
    let item = prop_oneof![
        3 => Just("*".to_owned()),
        6 => value.clone().prop_map(|value| value.to_string()),
        2 => (1..size).prop_map(|step| format!("*/{step}")),
        2 => (value.clone(), value.clone()).prop_map(|(a, b)| format!("{}-{}", a.min(b), a.max(b))),
        1 => (value.clone(), value.clone(), 1..size).prop_map(|(a, b, s)| format!("{}-{}/{s}", a.min(b), a.max(b))),
        1 => (value, 1..size).prop_map(|(a, step)| format!("{a}/{step}")),
    ];
    prop::collection::vec(item, 1..4).prop_map(|items| items.join(","))
}

fn dates() -> impl Strategy<Value = String> {
    let special = prop_oneof![
        Just("L".to_owned()),
        Just("LW".to_owned()),
        (1..=30u32).prop_map(|before| format!("L-{before}")),
        (1..=31u32).prop_map(|day| format!("{day}W")),
    ];
    with_special(field(1, 31), special)
}

fn weekdays() -> impl Strategy<Value = String> {
    let special = prop_oneof![
        (0..=7u32).prop_map(|day| format!("{day}L")),
        (0..=7u32, 1..=5u32).prop_map(|(day, week)| format!("{day}#{week}")),
    ];
    with_special(field(0, 7), special)
}

fn with_special(
    plain: impl Strategy<Value = String>,
    special: impl Strategy<Value = String>,
) -> impl Strategy<Value = String> {
    (plain, prop::option::weighted(0.3, special), any::<bool>()).prop_map(|(plain, special, alone)| {
        match special {
            Some(special) if alone => special,
            Some(special) => format!("{plain},{special}"),
            None => plain,
        }
    })
}

/// An expression of the grammar, not necessarily one that ever fires. Half of them leave the day of
/// week open.
pub fn expression() -> impl Strategy<Value = String> {
    let weekdays = prop_oneof![Just("*".to_owned()), weekdays()];
    let months = prop_oneof![Just("*".to_owned()), field(1, 12), Just("2".to_owned())];
    (field(0, 59), field(0, 23), dates(), months, weekdays)
        .prop_map(|(minute, hour, date, month, weekday)| format!("{minute} {hour} {date} {month} {weekday}"))
}

/// Minutes: none, a few days, or up to two years.
fn length() -> impl Strategy<Value = i64> {
    prop_oneof![1 => Just(0), 2 => 0i64..6_000, 4 => 0i64..1_000_000]
}

fn date(day: i64) -> Date {
    Date::constant(1970, 1, 1).checked_add(day.days()).unwrap()
}

/// The first matching minute at or after `from`, or the last at or before it if `step` is -1.
fn walk(naive: &Naive, from: i64, step: i64) -> Option<i64> {
    let times = naive.times();
    let first = from.div_euclid(1440);
    (0..WALK_MAX).map(|days| first + days * step).filter(|day| naive.matches_day(date(*day))).find_map(
        |day| {
            let minutes = times.iter().map(|time| day * 1440 + time);
            if step > 0 {
                minutes.into_iter().find(|minute| *minute >= from)
            } else {
                minutes.rev().find(|minute| *minute <= from)
            }
        },
    )
}

proptest! {
    #![proptest_config(config(400))]

    #[test]
    fn searching_finds_what_a_walk_finds(text in expression(), from in -1_000_000_000i64..4_200_000_000) {
        let Ok(expr) = CronExpr::parse(&text) else {
            // Never fires, or so it says.
            let naive = Naive::new(&text);
            let from = CivilMinute(15_778_080).day();
            prop_assert!((from..from + WALK_MAX).all(|day| !naive.matches_day(date(day))), "{text}");
            return Ok(());
        };
        let naive = Naive::new(&text);
        let next = expr.next_civil(CivilMinute(from)).map(|hit| hit.0);
        match walk(&naive, from, 1) {
            Some(expected) => prop_assert_eq!(next, Some(expected)),
            None => prop_assert!(next.is_none_or(|hit| hit > from + (WALK_MAX - 2) * 1440)),
        }
        let previous = expr.previous_civil(CivilMinute(from)).map(|hit| hit.0);
        match walk(&naive, from, -1) {
            Some(expected) => prop_assert_eq!(previous, Some(expected)),
            None => prop_assert!(previous.is_none_or(|hit| hit < from - (WALK_MAX - 2) * 1440)),
        }
        prop_assert_eq!(expr.matches(CivilMinute(from)), next == Some(from));
    }

    #[test]
    fn counting_counts_what_a_walk_meets(
        text in expression(), from in -1_000_000_000i64..4_200_000_000, length in length(),
    ) {
        let Ok(expr) = CronExpr::parse(&text) else { return Ok(()) };
        let naive = Naive::new(&text);
        let (times, to) = (naive.times(), from + length);
        let expected: usize = (from.div_euclid(1440)..=to.div_euclid(1440))
            .filter(|day| naive.matches_day(date(*day)))
            .map(|day| times.iter().filter(|time| (from..=to).contains(&(day * 1440 + **time))).count())
            .sum();
        prop_assert_eq!(expr.count_civil(CivilMinute(from), CivilMinute(to)), expected as u64);
    }

    #[test]
    fn a_list_counts_the_minutes_that_any_of_it_names(
        texts in prop::collection::vec(expression(), 2..4), from in 0i64..40_000_000, length in 0i64..6_000,
    ) {
        let Ok(union) = CronUnion::parse(&texts) else { return Ok(()) };
        let minutes = (from..=from + length).map(CivilMinute);
        let named = minutes.filter(|minute| union.exprs().iter().any(|expr| expr.matches(*minute))).count();
        prop_assert_eq!(union.count_civil(CivilMinute(from), CivilMinute(from + length)), named as u64);
    }

    #[test]
    fn every_so_many_weeks_is_a_part_of_every_week(
        date_and_weekday in (prop_oneof![Just("*".to_owned()), dates()], prop_oneof![Just("*".to_owned()), weekdays()]),
        number in 1u32..6, anchor in 0i64..20_000, from in 0i64..20_000, length in 0i64..200,
    ) {
        let (date, weekday) = date_and_weekday;
        let Ok(every) = CronExpr::parse(&format!("0 0 {date} * {weekday}")) else { return Ok(()) };
        let (cycle, first) = (WeekCycle::new(number, CivilDate::from_days(anchor)), CivilDate::from_days(0));
        let Ok(some) = every.clone().in_weeks(cycle, first) else { return Ok(()) };
        let counts = |day: i64| (day + 3).div_euclid(7).abs_diff((anchor + 3).div_euclid(7)) % u64::from(number) == 0;
        let days: Vec<i64> = (from..=from + length)
            .filter(|day| every.matches(CivilMinute(day * 1440)) && counts(*day))
            .collect();
        let (start, end) = (CivilMinute(from * 1440), CivilMinute((from + length) * 1440));
        prop_assert_eq!(some.count_civil(start, end), days.len() as u64);
        let until = |hit: Option<CivilMinute>| hit.filter(|hit| (start.0..=end.0).contains(&hit.0)).map(CivilMinute::day);
        prop_assert_eq!(until(some.next_civil(start)), days.first().copied());
        prop_assert_eq!(until(some.previous_civil(end)), days.last().copied());
    }

    #[test]
    fn rare_days_are_found_however_far(weekday in 0u32..7, from in -1_000_000_000i64..4_000_000_000) {
        // Up to 40 years apart across a century.
        let expr = CronExpr::parse(&format!("0 0 29 2 */7,{weekday}")).unwrap();
        let naive = Naive::new(&format!("0 0 29 2 */7,{weekday}"));
        let mut year = date(from.div_euclid(1440)).year() - 1;
        let expected = loop {
            year += 1;
            if let Ok(day) = Date::new(year, 2, 29) {
                let minute = i64::from(date(0).until(day).unwrap().get_days()) * 1440;
                if minute >= from && naive.matches_day(day) {
                    break minute;
                }
            }
        };
        prop_assert_eq!(expr.next_civil(CivilMinute(from)), Some(CivilMinute(expected)));
        prop_assert_eq!(expr.previous_civil(CivilMinute(expected)), Some(CivilMinute(expected)));
        let back = expr.previous_civil(CivilMinute(expected - 1)).unwrap();
        prop_assert!(back.0 < from && expr.next_civil(CivilMinute(back.0 + 1)) == Some(CivilMinute(expected)));
    }

    #[test]
    fn every_day_number_is_its_date(day in -719_162i64..2_932_896) {
        let minute = CivilMinute(day * 1440 + 61);
        let (ours, theirs) = (minute.date(), date(day));
        prop_assert_eq!(format!("{:04}-{:02}-{:02}", ours.year, ours.month, ours.day), theirs.to_string());
        prop_assert_eq!(CivilMinute::new(ours, 1, 1), minute);
    }

    #[test]
    fn whatever_is_accepted_reads_back_and_can_be_explained(text in expression()) {
        let Ok(expr) = CronExpr::parse(&text) else { return Ok(()) };
        prop_assert_eq!(expr.text(), &text);
        prop_assert!(expr.describe().len() > 10);
        let _ = (expr.warnings(), expr.is_too_frequent());
    }
}

#[test]
fn leap_days_are_found_from_any_day_also_beside_years_without_one() {
    let expr = CronExpr::parse("0 0 29 2 *").unwrap();
    let leap_days: Vec<i64> = (1888..=2112)
        .filter_map(|year| Date::new(year, 2, 29).ok())
        .map(|day| i64::from(date(0).until(day).unwrap().get_days()))
        .collect();
    for pair in leap_days.windows(2) {
        for day in [pair[0] + 1, pair[0] + 2, pair[0] + 700, pair[1] - 1, pair[1]] {
            assert_eq!(expr.next_civil(CivilMinute(day * 1440)).unwrap().day(), pair[1], "{day}");
        }
        for day in [pair[0], pair[0] + 1, pair[0] + 700, pair[1] - 2, pair[1] - 1] {
            assert_eq!(expr.previous_civil(CivilMinute(day * 1440)).unwrap().day(), pair[0], "{day}");
        }
    }
}

#[test]
fn days_are_found_up_to_the_ends_of_the_calendar() {
    // Two days more than the years 1 to 9999, for the zones.
    let (first, last) = (-719_164, 2_932_898);
    let minute = |day: i64| CivilMinute(day * 1440);
    let day = |hit: Option<CivilMinute>| hit.map(CivilMinute::day);
    for (text, at) in [("0 0 2 1 *", last), ("0 0 1 1 *", last - 1), ("0 0 31 12 *", last - 2)] {
        let expr = CronExpr::parse(text).unwrap();
        assert_eq!(day(expr.next_civil(minute(last - 300))), Some(at), "{text}");
        assert_eq!(day(expr.next_civil(minute(at))), Some(at), "{text}");
        assert_eq!(day(expr.next_civil(minute(at + 1))), None, "{text}");
    }
    for (text, at) in [("0 0 30 12 *", first), ("0 0 31 12 *", first + 1), ("0 0 1 1 *", first + 2)] {
        let expr = CronExpr::parse(text).unwrap();
        assert_eq!(day(expr.previous_civil(minute(first + 300))), Some(at), "{text}");
        assert_eq!(day(expr.previous_civil(minute(at))), Some(at), "{text}");
        assert_eq!(day(expr.previous_civil(minute(at - 1))), None, "{text}");
    }
}

proptest! {
    #![proptest_config(config(2000))]

    #[test]
    fn no_text_makes_the_parser_fall(text in "\\PC{0,60}") {
        check_text(&text)?;
    }

    #[test]
    fn nor_does_one_that_looks_like_an_expression(text in "[-0-9*,/LWlw#@? \tA-Ca-cMONTUEmon]{0,40}") {
        check_text(&text)?;
    }

    #[test]
    fn nor_does_one_with_a_slip(text in expression(), at in 0usize..30, slip in any::<char>()) {
        let mut chars: Vec<char> = text.chars().collect();
        let place = at.min(chars.len() - 1);
        chars[place] = slip;
        check_text(&chars.into_iter().collect::<String>())?;
    }
}

fn check_text(text: &str) -> Result<(), TestCaseError> {
    match CronExpr::parse(text) {
        Ok(expr) => {
            let again = CronExpr::parse(expr.text());
            prop_assert_eq!(again.as_ref(), Ok(&expr));
            prop_assert!(!expr.describe().is_empty());
        }
        Err(error) => {
            prop_assert!(error.to_string().starts_with("cron "));
            prop_assert!(error.position().is_none_or(|column| column >= 1 && column <= text.chars().count()));
        }
    }
    Ok(())
}
