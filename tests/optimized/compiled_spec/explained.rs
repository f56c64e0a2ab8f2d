//! What a specification means, in words.

use super::{at, micros, parse};
use serde_json::{Value, json};

fn explained(fields: &Value) -> (String, Vec<String>) {
    let explanation = parse(fields).unwrap().explain(at("12:00:00"), 0);
    (explanation.english, explanation.notes)
}

#[test]
fn each_trigger_is_said_in_english() {
    for (fields, english) in [
        (json!({"cron": "0 9 * * *"}), "At 09:00, every day"),
        (json!({"every_us": 60_000_000}), "Every minute"),
        (json!({"every_us": 5_400_000_000_i64}), "Every 1 hour 30 minutes"),
        (json!({"every_us": 1_500_000}), "Every 1.5 seconds"),
        (json!({"every_us": 604_800_000_000_i64}), "Every week, counted from 1970-01-01 00:00 in UTC"),
        (
            json!({"every_us": 3_600_000_000_i64, "start_at_us": micros("06:20:00"), "timezone": "Asia/Tokyo"}),
            "Every hour, counted from 2026-03-02 15:20 in Asia/Tokyo",
        ),
        (json!({"at_us": micros("06:20:05")}), "Once, at 2026-03-02 06:20:05 in UTC"),
    ] {
        assert_eq!(explained(&fields).0, english, "{fields}");
    }
}

#[test]
fn clock_changes_bounds_dates_and_jitter_are_noted() {
    let every = json!({"every_us": 21_600_000_000_i64, "timezone": "Europe/Paris"});
    let moves =
        "a period is elapsed time: when the clocks change in Europe/Paris, the local times of its slots move";
    assert_eq!(explained(&every).1, [moves]);
    assert_eq!(explained(&json!({"every_us": 21_600_000_000_i64})).1, Vec::<String>::new());
    let bounded = json!({
        "cron": "0 9 * * *", "start_at_us": micros("13:00:00"), "end_at_us": micros("23:00:00"),
        "max_runs": 3, "jitter_us": 90_000_000,
        "skip_dates": ["2026-03-01", "2026-03-02", "2026-12-25"],
    });
    assert_eq!(
        explained(&bounded).1,
        [
            "there is no slot before 2026-03-02 13:00 in UTC",
            "there is no slot at or after 2026-03-02 23:00 in UTC",
            "the schedule is finished after 3 runs",
            "slots on 2026-03-02 and 2026-12-25 are skipped",
            "each run starts up to 1 minute 30 seconds after its slot, always the same for a given slot",
        ]
    );
    let dates: Vec<String> = (1..=7).map(|day| format!("2026-04-0{day}")).collect();
    let notes = explained(&json!({"cron": "0 9 * * *", "skip_dates": dates})).1;
    assert!(notes[0].ends_with("2026-04-05 and 2 later dates are skipped"), "{notes:?}");
    let notes = explained(&json!({"cron": "0 9 * * *", "skip_dates": dates[..6]})).1;
    assert!(notes[0].ends_with("2026-04-05 and one later date are skipped"), "{notes:?}");
    let begins_now = json!({"cron": "0 9 * * *", "start_at_us": micros("12:00:00")});
    assert_eq!(explained(&begins_now).1, Vec::<String>::new());
}

#[test]
fn each_kind_of_schedule_is_described() {
    for (fields, english) in [
        (
            json!({"cron": ["0 9 * * 1-5", "0 11 * * 6"]}),
            "At 09:00, Monday to Friday; and every Saturday at 11:00",
        ),
        (
            json!({"cron": "0 9 1-7 * MON", "days": "and"}),
            "At 09:00 on days 1 to 7 of the month, but only if that day is a Monday",
        ),
        (
            json!({"cron": "0 9 1-7 * MON"}),
            "At 09:00 on days 1 to 7 of the month or on Monday (either one matches)",
        ),
    ] {
        assert_eq!(explained(&fields).0, english, "{fields}");
    }
    let weeks = |weeks: u32| {
        let start = micros("00:00:00");
        explained(&json!({"cron": "0 10 * * TUE", "weeks": weeks, "start_at_us": start})).0
    };
    for (number, pace) in [(2, "second"), (3, "third"), (4, "4th"), (11, "11th"), (21, "21st"), (52, "52nd")]
    {
        let expected =
            format!("Every Tuesday at 10:00; only in every {pace} week, counted from that of 2026-03-02");
        assert_eq!(weeks(number), expected);
    }
    assert_eq!(weeks(1), "Every Tuesday at 10:00");
}

#[test]
fn each_kind_of_skip_is_described() {
    let note = |fields: Value| {
        let mut all = json!({"cron": "0 9 * * *"});
        all.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        explained(&all).1.join("; ")
    };
    for (days, phrase) in [
        ("* * 1 * *", "on day 1 of every month"),
        ("* * L * *", "on the last day of every month"),
        ("* * 25,26 12 *", "on days 25 and 26 of December"),
        ("* * * 8 *", "in August"),
        ("* * * * SAT,SUN", "on Saturday and Sunday"),
        ("* * * * 1-3", "from Monday to Wednesday"),
        ("* * * * 1#1", "on the first Monday of every month"),
        ("* * 13 * 5", "on day 13 of the month or on Friday (either one matches)"),
    ] {
        let expected = format!("slots {phrase} (`cron:{days}`) are skipped");
        assert_eq!(note(json!({"skip_cron": [days]})), expected);
    }
    for (fields, expected) in [
        (json!({"skip_dates": ["2026-12-25"]}), "slots on 2026-12-25 are skipped"),
        (
            json!({"skip_dates": ["2026-12-25"], "on_skip": "next_workday"}),
            "slots on 2026-12-25 move to the next workday (Monday to Friday)",
        ),
        (
            json!({"skip_cron": ["* * * 8 *"], "on_skip": "next_workday"}),
            "slots in August (`cron:* * * 8 *`) move to the next workday (Monday to Friday)",
        ),
        (
            json!({"skip_calendar": true}),
            "the application's calendar decides about each slot when it comes due",
        ),
        (json!({"calendars": ["us"]}), "slots on the dates of the calendar `us` are skipped"),
        (
            json!({"calendars": ["de", "us"], "on_skip": "next_workday"}),
            "slots on the dates of the calendars `de` and `us` move to the next workday (Monday to Friday)",
        ),
    ] {
        assert_eq!(note(fields.clone()), expected, "{fields}");
    }
}

#[test]
fn the_coming_dates_of_calendars_are_named_if_they_are_known() {
    let explained = |dates: &[&str], on_skip: Option<&str>| {
        let spec = json!({"cron": "0 9 * * *", "calendars": ["us"], "on_skip": on_skip});
        let dates: std::sync::Arc<[_]> = dates.iter().map(|date| date.parse().unwrap()).collect();
        let spec = parse(&spec).unwrap().with_calendars(|_| Some(dates.clone()));
        let found = spec.explain(at("12:00:00"), 2);
        let slots: Vec<_> = found.upcoming.iter().map(|slot| slot.to_string()[..10].to_owned()).collect();
        (found.notes.join("; "), slots)
    };
    let (note, slots) = explained(&["2026-01-01", "2026-03-03", "2026-12-25"], None);
    assert_eq!(note, "slots on the dates of the calendar `us` are skipped: 2026-03-03 and 2026-12-25");
    assert_eq!(slots, ["2026-03-04", "2026-03-05"]);
    let (note, slots) = explained(&["2026-03-03"], Some("next_workday"));
    assert_eq!(
        note,
        "slots on the dates of the calendar `us` move to the next workday (Monday to Friday): 2026-03-03"
    );
    assert_eq!(slots, ["2026-03-04", "2026-03-05"], "where a moved slot meets another, there is one");
    let (note, _) = explained(&["2026-01-01"], None);
    assert_eq!(note, "slots on the dates of the calendar `us` are skipped; it has none from 2026-03-02 on");
    let days: Vec<String> = (1..=7).map(|day| format!("2026-04-0{day}")).collect();
    let (note, _) = explained(&days.iter().map(String::as_str).collect::<Vec<_>>(), None);
    assert!(note.ends_with("2026-04-05 and 2 later dates"), "{note}");
}

#[test]
fn clock_changes_without_a_slot_are_not_noted() {
    let notes = |fields: Value| {
        let mut all = json!({"cron": "30 2 * * *", "timezone": "America/New_York"});
        all.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        explained(&all).1
    };
    // The clocks change on Sundays: 2026-03-08 and 2026-11-01, then 2027-03-14.
    let gap = |date: &str| {
        format!("02:30 does not exist on {date} in America/New_York: the run is at 03:00 that day")
    };
    assert_eq!(notes(json!({})), [gap("2026-03-08")]);
    let first_of = |fields: Value| notes(fields).first().cloned().unwrap_or_default();
    assert_eq!(first_of(json!({"skip_dates": ["2026-03-08"]})), gap("2027-03-14"));
    assert!(!first_of(json!({"skip_cron": ["* * * * SUN"]})).contains("does not exist"));
    let ends = micros_of("2026-03-08T00:00:00Z");
    assert!(!first_of(json!({"end_at_us": ends})).contains("does not exist"));
    let starts = micros_of("2026-03-09T00:00:00Z");
    assert_eq!(first_of(json!({"start_at_us": starts})), gap("2027-03-14"));
    let repeated = json!({"cron": "30 1 * * *", "skip_dates": ["2026-11-01"]});
    assert!(first_of(repeated).contains("twice on 2027-11-07"), "that of 2026 is skipped");
}

fn micros_of(time: &str) -> i64 {
    time.parse::<jiff::Timestamp>().unwrap().as_microsecond()
}

#[test]
fn its_slots_respect_bounds_and_dates() {
    let spec = json!({
        "cron": "0 */6 * * *", "start_at_us": micros("11:00:00"), "max_runs": 3, "skip_dates": ["2026-03-03"],
    });
    let slots = parse(&spec).unwrap().explain(at("01:00:00"), 5).upcoming;
    let shown: Vec<String> = slots.iter().map(ToString::to_string).collect();
    assert_eq!(shown, ["2026-03-02T12:00:00Z", "2026-03-02T18:00:00Z", "2026-03-04T00:00:00Z"]);
}
