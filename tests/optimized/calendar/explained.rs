//! What `explain` says about clock changes.

use polos::calendar::{Zone, explain};
use polos::cron::CronExpr;

fn notes(cron: &str, zone: &str) -> Vec<String> {
    let expr = CronExpr::parse(cron).unwrap();
    explain(&expr.into(), &Zone::get(zone).unwrap(), super::at("2026-11-22T00:00:00Z"), 0).notes
}

#[test]
fn the_next_change_that_touches_a_run_is_named() {
    let new_york = "America/New_York";
    for (cron, zone, expected) in [
        (
            "30 2 * * *",
            new_york,
            "02:30 does not exist on 2027-03-14 in America/New_York: the run is at 03:00 that day",
        ),
        (
            "0,30 2 * * *",
            new_york,
            "02:00 and 02:30 do not exist on 2027-03-14 in America/New_York: there is one run for all of them at 03:00 that day",
        ),
        (
            "*/30 2 * * *",
            new_york,
            "02:00 and 02:30 do not exist on 2027-03-14 in America/New_York: no run stands in, because an expression whose minutes or hours start with `*` follows real time",
        ),
        (
            "0,10,20,30,40 2 * * *",
            new_york,
            "times from 02:00 to 02:59 do not exist on 2027-03-14 in America/New_York: there is one run for all of them at 03:00 that day",
        ),
        (
            "0,10,20,30 2 * * *",
            new_york,
            "02:00, 02:10, 02:20 and 02:30 do not exist on 2027-03-14 in America/New_York: there is one run for all of them at 03:00 that day",
        ),
        (
            "30 1 * * *",
            new_york,
            "01:30 happens twice on 2027-11-07 in America/New_York: the run is at the first pass",
        ),
        (
            "*/30 1 * * *",
            new_york,
            "01:00 and 01:30 happen twice on 2027-11-07 in America/New_York: there is a run each time",
        ),
        (
            "30 1 * * *",
            "Europe/Dublin",
            "01:30 does not exist on 2027-03-28 in Europe/Dublin: the run is at 02:00 that day",
        ),
        (
            "0 2 * * *",
            "Pacific/Auckland",
            "02:00 does not exist on 2027-09-26 in Pacific/Auckland: the run is at 03:00 that day",
        ),
        (
            "15 2 * * *",
            "Australia/Lord_Howe",
            "02:15 does not exist on 2027-10-03 in Australia/Lord_Howe: the run is at 02:30 that day",
        ),
    ] {
        let notes = notes(cron, zone);
        assert!(notes.iter().any(|note| note == expected), "{cron} in {zone}: {notes:?}");
    }
}

#[test]
fn the_next_gap_and_the_next_repeat_are_both_named() {
    assert_eq!(
        notes("30 1,2 * * *", "America/New_York"),
        [
            "02:30 does not exist on 2027-03-14 in America/New_York: the run is at 03:00 that day",
            "01:30 happens twice on 2027-11-07 in America/New_York: the run is at the first pass",
        ]
    );
}

#[test]
fn changes_are_named_ten_years_ahead() {
    let expr = CronExpr::parse("0 9 30 12 *").unwrap();
    let zone = Zone::get("Pacific/Apia").unwrap();
    for (after, count) in [("2001-12-01T00:00:00Z", 0), ("2002-01-01T00:00:00Z", 1)] {
        let notes = explain(&expr.clone().into(), &zone, super::at(after), 0).notes;
        assert_eq!(notes.len(), count, "{after}: {notes:?}");
    }
}

#[test]
fn where_nothing_is_special_there_is_no_note() {
    for (cron, zone) in [
        ("30 2 * * *", "UTC"),
        ("30 2 * * *", "Asia/Tokyo"),
        ("0 9 * * *", "America/New_York"),
        ("0 3 * * *", "America/New_York"),
        ("*/15 * * * *", "America/New_York"),
        ("0 * * * *", "America/New_York"),
        ("30 2 * * 1", "America/New_York"),
    ] {
        assert_eq!(notes(cron, zone), Vec::<String>::new(), "{cron} in {zone}");
    }
}

/// The notes on changes after `from` and before `until`.
fn notes_between(cron: &str, zone: &str, from: &str, until: &str) -> Vec<String> {
    let expr = CronExpr::parse(cron).unwrap();
    let range = (super::at(from), super::at(until));
    polos::calendar::notes(&expr.into(), &Zone::get(zone).unwrap(), range, &|_| false)
}

#[test]
fn a_change_at_the_end_of_the_range_is_not_in_it() {
    for (until, count) in [("2027-03-14T07:00:00Z", 0), ("2027-03-14T07:01:00Z", 1)] {
        let notes = notes_between("30 2 * * *", "America/New_York", "2027-01-01T00:00:00Z", until);
        assert_eq!(notes.len(), count, "{until}: {notes:?}");
    }
}

#[test]
fn what_is_repeated_for_more_than_three_hours_runs_twice() {
    // The day on which Alaska changed its side of the date line.
    let notes = notes_between("0 9 * * *", "America/Juneau", "1867-10-01T00:00:00Z", "1867-12-01T00:00:00Z");
    assert_eq!(
        notes,
        ["09:00 happens twice on 1867-10-18/1867-10-19 in America/Juneau: there is a run each time"]
    );
    // Three hours.
    let notes =
        notes_between("30 0 * * *", "Antarctica/Casey", "2010-03-01T00:00:00Z", "2010-03-10T00:00:00Z");
    assert_eq!(
        notes,
        ["00:30 happens twice on 2010-03-04/2010-03-05 in Antarctica/Casey: the run is at the first pass"]
    );
}

#[test]
fn a_repeat_that_ends_at_midnight_is_on_one_day() {
    let notes =
        notes_between("30 23 * * *", "America/Asuncion", "2020-03-01T00:00:00Z", "2020-04-01T00:00:00Z");
    assert_eq!(
        notes,
        ["23:30 happens twice on 2020-03-21 in America/Asuncion: the run is at the first pass"]
    );
}

/// There, clocks changed at one minute past midnight.
#[test]
fn a_gap_of_an_hour_that_begins_at_an_odd_minute_leaves_the_pace_alone() {
    let notes =
        notes_between("0 * * * *", "America/St_Johns", "2010-01-01T00:00:00Z", "2010-12-31T00:00:00Z");
    assert_eq!(notes, Vec::<String>::new());
}

/// A run would stand in on the day after the gap.
#[test]
fn no_run_stands_in_on_an_excluded_day() {
    let expr = CronExpr::parse("45 23 * * *").unwrap();
    let zone = Zone::get("Asia/Pyongyang").unwrap();
    let range = (super::at("2018-05-01T00:00:00Z"), super::at("2018-06-01T00:00:00Z"));
    for (excluded, count) in [(5, 0), (6, 1)] {
        let notes = polos::calendar::notes(&expr.clone().into(), &zone, range, &|day| day.day == excluded);
        assert_eq!(notes.len(), count, "{notes:?}");
    }
}

#[test]
fn a_day_that_is_left_out_has_no_run() {
    let expr = CronExpr::parse("0 9 * * *").unwrap();
    let zone = Zone::get("Pacific/Apia").unwrap();
    let notes = explain(&expr.into(), &zone, super::at("2011-12-01T00:00:00Z"), 0).notes;
    assert_eq!(notes, ["09:00 does not exist on 2011-12-30 in Pacific/Apia: there is no run for it"]);
}

#[test]
fn the_gap_before_midnight_leads_to_the_next_day() {
    let expr = CronExpr::parse("45 23 * * *").unwrap();
    let zone = Zone::get("Asia/Pyongyang").unwrap();
    let notes = explain(&expr.into(), &zone, super::at("2018-05-01T00:00:00Z"), 0).notes;
    assert_eq!(
        notes,
        ["23:45 does not exist on 2018-05-04 in Asia/Pyongyang: the run is at 00:00 the day after"]
    );
}

#[test]
fn the_next_runs_come_with_it() {
    let expr = CronExpr::parse("0 17 * * 1-5").unwrap();
    let zone = Zone::get("America/New_York").unwrap();
    let explanation = explain(&expr.into(), &zone, super::at("2026-11-20T00:00:00Z"), 3);
    assert_eq!(explanation.english, "At 17:00, Monday to Friday");
    let upcoming: Vec<String> = explanation.upcoming.iter().map(ToString::to_string).collect();
    assert_eq!(upcoming, ["2026-11-20T22:00:00Z", "2026-11-23T22:00:00Z", "2026-11-24T22:00:00Z"]);
}
