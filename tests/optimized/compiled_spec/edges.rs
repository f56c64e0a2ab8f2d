//! The largest lists, the last exceptions, and what makes two specifications equal.

use super::{at, parse};
use polos::calendar::Timestamp;
use polos::model::SlotOutcome;
use polos::model::missed::MissedSpan;
use polos::model::spec::CompiledSpec;
use serde_json::{Value, json};

const HOUR_US: i64 = 3_600_000_000;
const DAY_US: i64 = 24 * HOUR_US;

fn spec(fields: &Value) -> CompiledSpec {
    parse(fields).unwrap()
}

fn instant(time: &str) -> Timestamp {
    let time: jiff::Timestamp = format!("{time}Z").parse().unwrap();
    Timestamp::from_micros(time.as_microsecond())
}

#[test]
fn lists_have_a_largest_length() {
    let crons = |count: usize| (0..count).map(|minute| format!("{minute} 9 * * *")).collect::<Vec<_>>();
    let skips = |count: usize| (1..=count).map(|n| format!("* * {} {} *", n % 28 + 1, n % 12 + 1));
    let names = |count: usize| (0..count).map(|n| format!("calendar-{n}")).collect::<Vec<_>>();
    let of = |crons: Vec<String>, skips: Vec<String>, names: Vec<String>| {
        let fields = json!({"cron": crons, "skip_cron": skips, "calendars": names});
        parse(&fields).map_err(|error| error.to_string())
    };
    assert!(of(crons(32), skips(32).collect(), names(16)).is_ok());
    for (refused, message) in [
        (of(crons(33), Vec::new(), Vec::new()), "`cron` has 33 expressions; give at most 32"),
        (of(crons(1), skips(33).collect(), Vec::new()), "`skip` has 33 cron expressions; give at most 32"),
        (of(crons(1), skips(34).collect(), Vec::new()), "`skip` has 34 cron expressions; give at most 32"),
        (of(crons(1), Vec::new(), names(17)), "`skip` names 17 calendars; give at most 16"),
        (of(crons(1), Vec::new(), names(18)), "`skip` names 18 calendars; give at most 16"),
        (of(crons(1), Vec::new(), vec!["1a".to_owned()]), "`1a` can't be the name of a calendar"),
    ] {
        let refusal = refused.unwrap_err();
        assert!(refusal.contains(message), "{refusal}");
    }
}

#[test]
fn weeks_are_counted_in_english() {
    for (weeks, ordinal) in [
        (4, "4th"),
        (11, "11th"),
        (12, "12th"),
        (13, "13th"),
        (21, "21st"),
        (22, "22nd"),
        (23, "23rd"),
        (111, "111th"),
    ] {
        let fields = json!({"cron": "0 9 * * 1", "weeks": weeks, "start_at_us": at("00:00:00").as_micros()});
        let english = spec(&fields).explain(at("12:00:00"), 0).english;
        assert!(english.contains(&format!("every {ordinal} week")), "{english}");
    }
}

#[test]
fn two_specifications_have_one_grid_if_their_slots_are_the_same() {
    let every = |period: i64, start: i64| {
        spec(&json!({"every_us": period * HOUR_US, "start_at_us": start * HOUR_US}))
    };
    let once = |hour: i64| spec(&json!({"at_us": hour * HOUR_US}));
    let cron = |text: &str, zone: &str| spec(&json!({"cron": text, "timezone": zone}));
    for (one, other, expected) in [
        (every(2, 1), every(2, 5), true),
        (every(2, 1), every(2, 4), false),
        (every(2, 1), every(4, 1), false),
        (once(1), once(1), true),
        (once(1), once(2), false),
        (cron("0 9 * * *", "UTC"), cron("0 9 * * *", "UTC"), true),
        (cron("0 9 * * *", "UTC"), cron("0 9 * * *", "Asia/Tokyo"), false),
        (cron("0 9 * * *", "UTC"), cron("0 8 * * *", "UTC"), false),
        (every(1, 0), cron("0 * * * *", "UTC"), false),
    ] {
        assert_eq!(one.has_same_grid(&other), expected, "{one:?} {other:?}");
    }
    assert!(once(1).is_one_off() && !every(1, 0).is_one_off());
}

#[test]
fn settled_slots_are_not_counted() {
    let (eight, nine, ten) = (at("08:00:00"), at("09:00:00"), at("10:00:00"));
    let hourly = |settled: Vec<Timestamp>| spec(&json!({"cron": "0 * * * *"})).without(settled);
    assert_eq!(hourly(vec![]).count(eight, ten), 2);
    assert_eq!(hourly(vec![nine]).count(eight, ten), 1);
    assert_eq!(hourly(vec![ten]).count(eight, ten), 1);
    assert_eq!(hourly(vec![eight, at("11:00:00")]).count(eight, ten), 2);
    assert_eq!(hourly(vec![at("09:30:00")]).count(eight, ten), 2, "no slot");
}

#[test]
fn what_is_known_about_its_slots_makes_a_specification_another_one() {
    let plain = || spec(&json!({"cron": "0 9 * * *", "calendars": ["a"]}));
    let dated = |date: &str| plain().with_calendars(|_| Some([date.parse().unwrap()].into()));
    assert_eq!(plain(), plain());
    assert_ne!(plain(), spec(&json!({"cron": "0 9 * * *"})));
    assert_ne!(plain(), plain().without(vec![at("09:00:00")]));
    assert_ne!(plain(), plain().with_moved(vec![at("09:30:00")], at("09:00:00")));
    assert_eq!(dated("2026-12-25"), dated("2026-12-25"));
    assert_ne!(dated("2026-12-25"), dated("2026-12-26"));
    assert!(!plain().has_moves() && plain().with_moved(vec![at("09:30:00")], at("09:00:00")).has_moves());
    assert!(!plain().with_moved(Vec::new(), at("09:00:00")).has_moves());
    assert!(spec(&json!({"cron": "0 9 * * *", "on_skip": "next_workday"})).has_moves());
}

#[test]
fn an_excluded_date_without_a_slot_does_not_divide_what_was_missed() {
    // Mondays; 2026-03-04 is a Wednesday.
    let weekly = spec(&json!({"cron": "0 9 * * 1", "skip_dates": ["2026-03-04"]}));
    let span = MissedSpan::new(&weekly, None);
    let lines = span.missed(instant("2026-03-02T09:00:00"), instant("2026-03-09T12:00:00"), "down");
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert_eq!((lines[0].count, lines[0].outcome), (2, SlotOutcome::Missed));
}

#[test]
fn a_date_on_which_the_clocks_change_is_excluded_as_a_whole() {
    let fields = json!({"cron": "0 * * * *", "timezone": "America/New_York", "skip_dates": ["2027-03-14"]});
    let hourly = spec(&fields);
    let span = MissedSpan::new(&hourly, None);
    let lines = span.missed(instant("2027-03-14T05:00:00"), instant("2027-03-15T03:00:00"), "down");
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert_eq!((lines[0].count, lines[0].outcome), (23, SlotOutcome::Skipped));
    let stretches = hourly.excluded_stretches(instant("2027-03-01T00:00:00"), instant("2027-04-01T00:00:00"));
    let last = Timestamp::from_micros(instant("2027-03-15T04:00:00").as_micros() - 1);
    assert_eq!(stretches, [("2027-03-14".parse().unwrap(), instant("2027-03-14T05:00:00"), last)]);
}

/// There, the day came twice: the clock was set back by 23 hours at its end.
#[test]
fn the_end_of_a_date_that_came_twice_is_excluded() {
    let fields = json!({"cron": "0 * * * *", "timezone": "Pacific/Kwajalein", "skip_dates": ["1969-09-30"]});
    let hourly = spec(&fields);
    let (from, until) = (instant("1969-10-01T10:00:00"), instant("1969-10-01T11:00:00"));
    assert_eq!(hourly.zone().local_date(from).to_string(), "1969-09-30");
    assert_eq!(hourly.excluded_stretches(from, until).len(), 1);
}

#[test]
fn where_no_workday_follows_slots_do_not_move() {
    let dates = |days: i64| {
        let first: jiff::civil::Date = "2026-03-02".parse().unwrap();
        (0..days).map(move |day| first.checked_add(jiff::Span::new().days(day)).unwrap().to_string())
    };
    let fields = |days| json!({"cron": "0 9 * * *", "on_skip": "next_workday", "skip_dates": dates(days).collect::<Vec<_>>()});
    let first = "2026-03-02".parse().unwrap();
    assert_eq!(spec(&fields(31)).exclusion(first), "2026-03-02 is excluded; moved to 2026-04-02");
    let without = "2026-03-02 is excluded, and no workday follows within a month";
    assert_eq!(spec(&fields(40)).exclusion(first), without);
    // Ten years of them.
    let listed = spec(&json!({"cron": "0 9 * * *", "skip_dates": dates(3_700).collect::<Vec<_>>()}));
    let last: jiff::civil::Date = dates(3_701).next_back().unwrap().parse().unwrap();
    let next = listed.upcoming(at("00:00:00")).map(|slot| listed.zone().local_date(slot));
    assert_eq!(next, Some(last));
}

#[test]
fn a_slot_does_not_move_to_the_end_of_the_schedule() {
    // Friday 2026-03-06; Monday is the 9th.
    let slots = |end: &str| {
        let fields = json!({
            "cron": "0 9 * * 5", "on_skip": "next_workday", "skip_dates": ["2026-03-06"],
            "end_at_us": instant(end).as_micros(),
        });
        spec(&fields).upcoming_slots(at("00:00:00"), 1)
    };
    assert_eq!(slots("2026-03-09T09:00:00"), []);
    assert_eq!(slots("2026-03-09T09:00:01"), [instant("2026-03-09T09:00:00")]);
}

#[test]
fn slots_that_have_moved_come_although_no_other_slot_moves_any_more() {
    let fixed = spec(&json!({"cron": "0 9 * * 5", "skip_dates": ["2026-03-13"]}));
    let moved = instant("2026-03-09T09:00:00");
    let slots = fixed.with_moved(vec![moved], instant("2026-03-06T09:00:01"));
    let after = instant("2026-03-06T12:00:00");
    assert_eq!(slots.upcoming_slots(after, 2), [moved, instant("2026-03-20T09:00:00")]);
    assert_eq!(slots.count(after, instant("2026-03-19T00:00:00")), 2);
}

#[test]
fn calendars_do_not_count_where_expressions_exclude_too_much() {
    let fields = json!({"cron": "0 9 1,2 * *", "skip_cron": ["* * 1 * *"], "calendars": ["holidays"]});
    spec(&fields).check_new().unwrap();
}

#[test]
fn whole_days_in_a_zone_are_answered_with_a_cron_expression() {
    let objection = |days: i64| {
        let fields = json!({
            "every_us": days * DAY_US, "timezone": "America/New_York",
            "start_at_us": instant("2026-03-02T14:30:00").as_micros(),
        });
        spec(&fields).check_new().unwrap_err().to_string()
    };
    assert!(objection(1).contains("`every` is 1 day in the zone"), "{}", objection(1));
    assert!(objection(1).contains("use `cron=\"30 9 * * *\"`; for"), "{}", objection(1));
    assert!(objection(2).contains("`every` is 2 days in the zone"), "{}", objection(2));
    assert!(!objection(2).contains("cron="), "{}", objection(2));
    assert!(objection(7).contains("use `cron=\"30 9 * * 1\"`; for"), "{}", objection(7));
    assert!(objection(14).contains("use `cron=\"30 9 * * 1\"` with `weeks=2`"), "{}", objection(14));
}
