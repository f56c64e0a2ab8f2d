//! Several expressions in one schedule, both day fields at once, and every so many weeks.

use polos::cron::{CivilDate, CivilMinute, CronExpr, CronUnion, WeekCycle};

fn union(texts: &[&str]) -> CronUnion {
    CronUnion::parse(texts).unwrap()
}

fn date(year: i32, month: u32, day: u32) -> CivilDate {
    CivilDate { year, month, day }
}

/// The next dates on which `expr` fires, from `from` on.
fn dates(expr: &CronExpr, from: CivilDate, count: usize) -> Vec<(u32, u32)> {
    let mut found: Vec<CivilDate> = Vec::new();
    let mut minute = CivilMinute::new(from, 0, 0);
    while found.len() < count {
        let hit = expr.next_civil(minute).unwrap();
        found.push(hit.date());
        minute = CivilMinute::new(hit.date(), 24, 0);
    }
    found.into_iter().map(|date| (date.month, date.day)).collect()
}

#[test]
fn a_list_has_each_expression_once_and_no_order() {
    let one = union(&["0 9 * * 1-5", "0 11 * * 6"]);
    assert_eq!(one, union(&["0 11 * * 6", "0  9 * * 1-5", "0 9 * * 1-5"]));
    assert_ne!(one, union(&["0 9 * * 1-5"]));
    assert_ne!(one, union(&["0 9 * * 1-5", "0 12 * * 6"]));
}

#[test]
fn an_invalid_expression_of_a_list_is_the_one_named() {
    let error = CronUnion::parse(&["0 9 * * *", "0 25 * * *"]).unwrap_err();
    assert!(error.to_string().contains("`0 25 * * *`"), "{error}");
}

#[test]
fn a_list_is_described_in_its_order() {
    let list = union(&["0 9 * * 1-5", "0 11 * * 6"]);
    assert_eq!(list.describe(), "At 09:00, Monday to Friday; and every Saturday at 11:00");
    assert_eq!(list.warnings(), Vec::<String>::new());
    let frequent = union(&["*/2 * * * *", "0 11 * * 6"]).warnings();
    assert!(
        frequent.iter().all(|warning| warning.starts_with("`*/2 * * * *`: runs less than")),
        "{frequent:?}"
    );
}

#[test]
fn a_list_is_too_frequent_if_two_expressions_come_close() {
    for (texts, expected) in [
        (&["0 9 * * *", "4 9 * * *"][..], true),
        (&["0 9 * * *", "5 9 * * *"], false),
        (&["4 9 * * *", "0 9 * * *"], true),
        (&["5 9 * * *", "0 9 * * *"], false),
        (&["0 9 * * *", "0 9 * * 1"], false),
        (&["0 9 * * 1", "4 9 * * 2"], false),
        (&["0 9 13 * *", "4 9 * * 5"], true),
        (&["58 23 * * 1", "2 0 * * 2"], true),
        (&["58 23 * * 1", "3 0 * * 2"], false),
        // On 1 March, which neither names first.
        (&["58 23 1 * *", "2 0 2 3 *"], true),
        (&["58 23 * * 1", "2 0 * * 1"], false),
        (&["0 9 * * *", "* 12 1 1 *"], true),
        // First in 2003.
        (&["0 9 1 1 *", "4 9 * * 3"], true),
    ] {
        assert_eq!(union(texts).is_too_frequent(), expected, "{texts:?}");
        assert_eq!(!union(texts).warnings().is_empty(), expected, "{texts:?}");
    }
}

#[test]
fn both_days_must_match_where_that_is_asked_for() {
    let friday_13th = CronExpr::parse("0 9 13 * FRI").unwrap().with_both_days().unwrap();
    assert_eq!(dates(&friday_13th, date(2026, 1, 1), 4), [(2, 13), (3, 13), (11, 13), (8, 13)]);
    assert_eq!(friday_13th.warnings(), Vec::<String>::new());
    let never = CronExpr::parse("0 9 1-7 * 1#2").unwrap().with_both_days().unwrap_err();
    assert!(never.to_string().contains("`days=\"and\"`"), "{never}");
}

#[test]
fn weeks_begin_on_monday_and_count_in_both_directions() {
    // 2026-11-29 is a Sunday: its week began on the 23rd.
    let sunday = date(2026, 11, 29);
    let daily = CronExpr::parse("0 9 * * *").unwrap();
    let every_other = daily.clone().in_weeks(WeekCycle::new(2, sunday), sunday).unwrap();
    assert_eq!(dates(&every_other, sunday, 3), [(11, 29), (12, 7), (12, 8)]);
    let monday = date(2026, 11, 23);
    assert_eq!(every_other, daily.clone().in_weeks(WeekCycle::new(2, monday), monday).unwrap());
    assert_ne!(every_other, daily.clone().in_weeks(WeekCycle::new(4, monday), monday).unwrap());
    let earlier = every_other.previous_civil(CivilMinute::new(monday, 0, 0)).unwrap();
    assert_eq!(earlier.date(), date(2026, 11, 15));
    // The years have 52 and 53 weeks; the count goes on.
    let tuesdays = CronExpr::parse("0 9 * * 2").unwrap();
    let third = tuesdays.in_weeks(WeekCycle::new(3, date(2026, 12, 8)), sunday).unwrap();
    assert_eq!(dates(&third, date(2026, 12, 1), 3), [(12, 8), (12, 29), (1, 19)]);
}

#[test]
fn an_expression_without_a_day_in_such_a_week_is_refused() {
    let from = date(9990, 1, 1);
    let rare = CronExpr::parse("0 9 29 2 *").unwrap();
    let leap_day = date(9992, 2, 29);
    assert!(rare.clone().in_weeks(WeekCycle::new(2, leap_day), from).is_ok());
    let week_later = CivilDate::from_days(leap_day.days() + 7);
    let error = rare.in_weeks(WeekCycle::new(520, week_later), from).unwrap_err();
    assert!(error.to_string().contains("`weeks`"), "{error}");
}
