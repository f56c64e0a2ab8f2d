//! Stored calendars.

use super::super::fixture::{Fixture, PROJECT, at, everything, new_schedule, patch_command, text};
use super::cases;
use polos::calendar::Timestamp;
use polos::model::{Json, NewSchedule, Schedule, StoredCalendar};
use polos::store::{Answer, Command, Page, Patch, Rejection, attach_calendars};
use std::time::Duration;

/// 09:00 on 2027-01-15.
const NINE: Timestamp = Timestamp::from_micros(1_800_003_600_000_000);

cases! {
    calendars_are_listed_by_name,
    a_calendar_is_replaced_as_a_whole,
    calendars_belong_to_their_project,
    a_calendar_that_no_schedule_names_is_deleted,
    a_calendar_that_a_schedule_names_stays,
    schedules_that_name_calendars_are_found,
    a_schedule_knows_the_dates_of_its_calendars,
    a_schedule_whose_calendar_is_missing_says_so,
}

fn set(name: &str, dates: &[&str]) -> Command {
    let dates: Json = serde_json::to_string(dates).unwrap().into();
    Command::SetCalendar { project: text(PROJECT), name: text(name), dates: Some(dates) }
}

fn delete(name: &str) -> Command {
    Command::SetCalendar { project: text(PROJECT), name: text(name), dates: None }
}

fn shown(calendars: &[StoredCalendar]) -> Vec<String> {
    let dates = |calendar: &StoredCalendar| {
        calendar.dates.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
    };
    calendars.iter().map(|calendar| format!("{}: {}", calendar.name, dates(calendar))).collect()
}

fn all(fixture: &Fixture<'_>) -> Vec<String> {
    shown(&fixture.store.calendars(PROJECT, None).unwrap())
}

fn naming(key: &str, calendars: &[&str]) -> NewSchedule {
    let spec = serde_json::json!({"cron": "0 9 * * *", "calendars": calendars}).to_string();
    NewSchedule { spec: spec.into(), ..new_schedule(key, Some(NINE)) }
}

fn users(fixture: &Fixture<'_>, page: &Page) -> Vec<String> {
    let found = fixture.store.schedules_with_calendars(PROJECT, page).unwrap();
    found.iter().map(|schedule| schedule.key.to_string()).collect()
}

fn calendars_are_listed_by_name(fixture: &Fixture<'_>) {
    fixture.ok(at(1), set("us", &["2026-07-04"]));
    fixture.ok(at(2), set("de", &["2026-10-03", "2026-12-25"]));
    assert_eq!(all(fixture), ["de: 2026-10-03,2026-12-25", "us: 2026-07-04"]);
    let named = [text("us"), text("none")];
    let found = fixture.store.calendars(PROJECT, Some(&named)).unwrap();
    assert_eq!(shown(&found), ["us: 2026-07-04"]);
    assert_eq!(found[0].updated_at, at(1));
    assert!(fixture.store.calendars(PROJECT, Some(&[])).unwrap().is_empty());
}

fn a_calendar_is_replaced_as_a_whole(fixture: &Fixture<'_>) {
    fixture.ok(at(1), set("us", &["2026-07-04"]));
    assert_eq!(fixture.ok(at(2), set("us", &["2027-07-04"])), Answer::Done);
    assert_eq!(all(fixture), ["us: 2027-07-04"]);
    assert_eq!(fixture.store.calendars(PROJECT, None).unwrap()[0].updated_at, at(2));
}

fn calendars_belong_to_their_project(fixture: &Fixture<'_>) {
    fixture.ok(at(1), set("us", &["2026-07-04"]));
    assert!(fixture.store.calendars("other", None).unwrap().is_empty());
    let other = Command::SetCalendar { project: text("other"), name: text("us"), dates: None };
    fixture.ok(at(2), other);
    assert_eq!(all(fixture), ["us: 2026-07-04"]);
}

fn a_calendar_that_no_schedule_names_is_deleted(fixture: &Fixture<'_>) {
    fixture.ok(at(1), set("us", &[]));
    fixture.put(at(1), naming("k", &["us-east", "a.us"]));
    assert_eq!(fixture.ok(at(2), delete("us")), Answer::Done);
    assert!(all(fixture).is_empty());
    // As if the answer had been lost.
    assert_eq!(fixture.ok(at(2), delete("us")), Answer::Done);
}

fn a_calendar_that_a_schedule_names_stays(fixture: &Fixture<'_>) {
    fixture.ok(at(1), set("us", &["2026-07-04"]));
    let schedule = fixture.put(at(1), naming("k", &["de", "us"]));
    assert_eq!(fixture.no(at(2), delete("us")), Rejection::CalendarInUse(text("us")));
    assert_eq!(all(fixture), ["us: 2026-07-04"]);
    let without = naming("k", &[]);
    let spec = Some((without.spec, without.compiled_spec, without.next_slot));
    fixture.ok(at(3), patch_command(&schedule.id, None, Patch { spec, ..Patch::default() }));
    fixture.ok(at(4), delete("us"));
    assert!(all(fixture).is_empty());
}

fn schedules_that_name_calendars_are_found(fixture: &Fixture<'_>) {
    fixture.put(at(1), new_schedule("none", Some(at(60))));
    for key in ["a", "b", "c"] {
        fixture.put(at(1), naming(key, &["us"]));
    }
    assert_eq!(users(fixture, &everything()), ["a", "b", "c"]);
    assert_eq!(users(fixture, &Page { limit: 2, after: None }), ["a", "b"]);
    let found = fixture.store.schedules_with_calendars(PROJECT, &Page { limit: 2, after: None }).unwrap();
    let after = Some(found[1].id.to_string());
    assert_eq!(users(fixture, &Page { limit: 2, after }), ["c"]);
    assert!(fixture.store.schedules_with_calendars("other", &everything()).unwrap().is_empty());
}

fn attached(fixture: &Fixture<'_>, schedule: &Schedule) -> Schedule {
    let mut schedule = fixture.schedule(&schedule.id);
    attach_calendars(fixture.store, PROJECT, [&mut schedule]).unwrap();
    schedule
}

fn a_schedule_knows_the_dates_of_its_calendars(fixture: &Fixture<'_>) {
    let schedule = fixture.put(at(0), naming("k", &["de", "us"]));
    fixture.ok(at(1), set("us", &["2027-01-15"]));
    fixture.ok(at(1), set("de", &["2027-01-16"]));
    let upcoming = |fixture: &Fixture<'_>| {
        attached(fixture, &schedule).compiled_spec().unwrap().upcoming(at(0)).unwrap()
    };
    assert_eq!(upcoming(fixture), NINE.saturating_add(Duration::from_secs(2 * 86_400)));
    fixture.ok(at(2), set("us", &[]));
    assert_eq!(upcoming(fixture), NINE);
}

fn a_schedule_whose_calendar_is_missing_says_so(fixture: &Fixture<'_>) {
    let schedule = fixture.put(at(0), naming("k", &["de", "us"]));
    fixture.ok(at(1), set("de", &[]));
    let compiled_spec = attached(fixture, &schedule).compiled_spec().unwrap();
    assert_eq!((compiled_spec.missing_calendar(), compiled_spec.upcoming(at(0))), (Some("us"), None));
    let unread = fixture.schedule(&schedule.id).compiled_spec().unwrap();
    assert!(unread.missing_calendar().is_some());
}
