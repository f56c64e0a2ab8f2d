//! Stored calendars.

use super::super::fixture::{
    Fixture, PROJECT, at, everything, new_schedule, new_worker, patch_command, spec, text,
};
use super::cases;
use polos::calendar::Timestamp;
use polos::model::{
    Admission, Json, NewSchedule, Schedule, ScheduleId, ScheduleStatus, SlotOutcome, StoredCalendar,
    WorkerEntry, WorkerId,
};
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
    a_schedule_gets_no_calendar_that_does_not_exist,
    a_declared_schedule_keeps_a_calendar_that_does_not_exist,
    due_slots_of_a_changed_schedule_are_skipped_on_the_dates_of_its_calendars,
    a_moved_slot_comes_after_a_return,
    a_moved_slot_that_has_run_does_not_come_after_a_return,
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
    let mark = || fixture.store.change_mark().unwrap();
    let none = mark();
    fixture.ok(at(1), set("us", &["2026-07-04"]));
    let new = mark();
    assert_ne!(new, none, "other processes have to read it");
    assert_eq!(fixture.ok(at(2), set("us", &["2027-07-04"])), Answer::Done);
    assert_ne!(mark(), new);
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
    for name in ["us", "us-east", "a.us"] {
        fixture.ok(at(1), set(name, &[]));
    }
    fixture.put(at(1), naming("k", &["us-east", "a.us"]));
    assert_eq!(fixture.ok(at(2), delete("us")), Answer::Done);
    assert_eq!(all(fixture), ["a.us: ", "us-east: "]);
    // As if the answer had been lost.
    assert_eq!(fixture.ok(at(2), delete("us")), Answer::Done);
}

fn a_calendar_that_a_schedule_names_stays(fixture: &Fixture<'_>) {
    fixture.ok(at(1), set("us", &["2026-07-04"]));
    fixture.ok(at(1), set("de", &[]));
    let schedule = fixture.put(at(1), naming("k", &["de", "us"]));
    assert_eq!(fixture.no(at(2), delete("us")), Rejection::CalendarInUse(text("us")));
    assert_eq!(all(fixture), ["de: ", "us: 2026-07-04"]);
    let without = naming("k", &[]);
    let spec = Some((without.spec, without.compiled_spec, without.next_slot));
    fixture.ok(at(3), patch_command(&schedule.id, None, Patch { spec, ..Patch::default() }));
    fixture.ok(at(4), delete("us"));
    assert_eq!(all(fixture), ["de: "]);
}

/// A worker declares the schedule. Code can name calendars that nobody has created yet.
fn declare(fixture: &Fixture<'_>, new: NewSchedule) -> Schedule {
    let id = new.id.clone();
    let declared = vec![NewSchedule { owner: Some(text("app.py")), ..new }];
    fixture.ok(at(0), Command::RegisterWorker(Box::new(WorkerEntry { declared, ..new_worker("wkr_d") })));
    fixture.schedule(&id)
}

fn spec_patch(new: NewSchedule) -> Patch {
    Patch { spec: Some((new.spec, new.compiled_spec, new.next_slot)), ..Patch::default() }
}

fn a_schedule_gets_no_calendar_that_does_not_exist(fixture: &Fixture<'_>) {
    let missing = |name: &str| Rejection::CalendarNotFound(text(name));
    fixture.ok(at(0), set("us", &[]));
    let both = vec![naming("a", &["us"]), naming("b", &["de", "us"])];
    assert_eq!(fixture.no(at(1), Command::UpsertSchedules(both)), missing("de"));
    assert_eq!(fixture.find_schedule(&new_schedule("a", None).id), None, "all or none");
    let schedule = fixture.put(at(1), naming("a", &["us"]));
    let change = spec_patch(naming("a", &["de"]));
    assert_eq!(fixture.no(at(2), patch_command(&schedule.id, None, change)), missing("de"));
    assert_eq!(fixture.schedule(&schedule.id), schedule);
    fixture.ok(at(3), set("de", &[]));
    fixture.patch(at(4), &schedule.id, spec_patch(naming("a", &["de"])));
}

fn a_declared_schedule_keeps_a_calendar_that_does_not_exist(fixture: &Fixture<'_>) {
    let schedule = declare(fixture, naming("k", &["de"]));
    let weekly = NewSchedule {
        spec: r#"{"cron":"0 9 * * 1","calendars":["de"]}"#.into(),
        ..new_schedule("k", Some(NINE))
    };
    fixture.patch(at(1), &schedule.id, spec_patch(weekly));
    fixture.patch(at(2), &schedule.id, spec_patch(naming("k", &[])));
    let more = patch_command(&schedule.id, None, spec_patch(naming("k", &["de", "us"])));
    assert_eq!(fixture.no(at(3), more), Rejection::CalendarNotFound(text("de")));
    // Back to what the code declares.
    let back = fixture.patch(at(4), &schedule.id, spec_patch(naming("k", &["de"])));
    assert_eq!(back.spec, schedule.spec);
}

/// The outcomes of the schedule, oldest first.
fn outcomes(fixture: &Fixture<'_>, id: &ScheduleId) -> Vec<(i64, SlotOutcome, String)> {
    let entries = fixture.store.history(PROJECT, id, &everything()).unwrap().unwrap();
    let slots = entries.into_iter().rev().filter(|entry| entry.count > 0);
    let day = |at: Timestamp| (at.as_micros() - NINE.as_micros()) / 86_400_000_000;
    slots.map(|entry| (day(entry.from), entry.outcome, entry.reason.to_string())).collect()
}

/// A change of the schedule.
type Change<'c> = &'c dyn Fn(&Schedule) -> Command;

fn due_slots_of_a_changed_schedule_are_skipped_on_the_dates_of_its_calendars(fixture: &Fixture<'_>) {
    let changes: [(&str, &str, Change<'_>); 4] = [
        ("upserted", "the schedule was changed", &|_| {
            Command::UpsertSchedules(vec![NewSchedule {
                spec: spec("* * * * *"),
                compiled_spec: text("* * * * *"),
                ..new_schedule("upserted", Some(at(9)))
            }])
        }),
        ("patched", "the schedule was changed", &|schedule| {
            let other = NewSchedule {
                spec: spec("* * * * *"),
                compiled_spec: text("* * * * *"),
                ..new_schedule("patched", Some(at(9)))
            };
            patch_command(&schedule.id, None, spec_patch(other))
        }),
        ("deleted", "the schedule was deleted", &|schedule| Command::DeleteSchedule {
            project: text(PROJECT),
            id: schedule.id.clone(),
        }),
        ("retired", "the schedule was retired", &|_| Command::RegisterWorker(Box::new(new_worker("wkr_e")))),
    ];
    fixture.ok(at(0), set("us", &["2027-01-16"]));
    fixture.ok(at(0), set("de", &["2027-01-18"]));
    for (key, missed, change) in changes {
        let new = naming(key, &["de", "us"]);
        let schedule = if key == "retired" { declare(fixture, new) } else { fixture.put(at(0), new) };
        fixture.ok(at(1), Command::DeregisterWorker { worker: WorkerId::from("wkr_d") });
        let now = NINE.saturating_add(Duration::from_secs(2 * 86_400 + 60));
        fixture.ok(now, change(&schedule));
        let skipped = (1, SlotOutcome::Skipped, "2027-01-16 is excluded".to_owned());
        let missed = |day| (day, SlotOutcome::Missed, missed.to_owned());
        assert_eq!(outcomes(fixture, &schedule.id), [missed(0), skipped, missed(2)], "{key}");
    }
    let retired = fixture.schedule(&new_schedule("retired", None).id);
    let unread = retired.spec.compiled().unwrap().missing_calendar();
    assert_eq!(unread, Some("de"), "its dates are not kept");
}

fn a_moved_slot_comes_after_a_return(fixture: &Fixture<'_>) {
    let moved = NINE.saturating_add(Duration::from_secs(3 * 86_400));
    let weekly = |key: &str| NewSchedule {
        spec: r#"{"cron":"0 9 * * 5","on_skip":"next_workday"}"#.into(),
        ..new_schedule(key, Some(NINE.saturating_add(Duration::from_secs(7 * 86_400))))
    };
    let schedule = declare(fixture, weekly("k"));
    let mut plan = fixture.plan(&schedule, &[]);
    plan.settled = Some(schedule.settled_with_moved(&[moved]));
    plan.next_slot = Some(moved);
    fixture.commit_plan(at(1), plan);
    let entry = |id: &str, declared| Box::new(WorkerEntry { declared, ..new_worker(id) });
    fixture.ok(at(2), Command::DeregisterWorker { worker: WorkerId::from("wkr_d") });
    fixture.ok(at(3), Command::RegisterWorker(entry("wkr_without", Vec::new())));
    assert_eq!(fixture.schedule(&schedule.id).status, ScheduleStatus::Retired);
    fixture.ok(at(4), Command::DeregisterWorker { worker: WorkerId::from("wkr_without") });
    let back = declare(fixture, weekly("k"));
    assert_eq!((back.status, back.next_slot), (ScheduleStatus::Active, Some(moved)));
}

fn a_moved_slot_that_has_run_does_not_come_after_a_return(fixture: &Fixture<'_>) {
    let spec = || r#"{"cron":"0 9 * * 5","on_skip":"next_workday"}"#.into();
    let weekly = |key: &str| NewSchedule {
        spec: spec(),
        ..new_schedule(key, Some(NINE.saturating_add(Duration::from_secs(7 * 86_400))))
    };
    let minute = Duration::from_secs(60);
    // At the time of the slot, and later.
    for (key, later) in [("a", Duration::ZERO), ("b", minute)] {
        let schedule = fixture.put(at(0), weekly(key));
        let moved = NINE.saturating_add(Duration::from_secs(3 * 86_400));
        let mut plan = fixture.plan(&schedule, &[(moved, Admission::Claim)]);
        plan.settled = Some(schedule.settled_with_moved(&[moved]));
        plan.next_slot = weekly(key).next_slot;
        fixture.commit_plan(moved, plan);
        let now = moved.saturating_add(later);
        let patch = Patch { status: Some(ScheduleStatus::Broken), ..Patch::default() };
        fixture.patch(now, &schedule.id, patch);
        let back = fixture.put(now, weekly(key));
        assert_eq!((back.status, back.next_slot), (ScheduleStatus::Active, weekly(key).next_slot), "{key}");
    }
}

fn schedules_that_name_calendars_are_found(fixture: &Fixture<'_>) {
    fixture.put(at(1), new_schedule("none", Some(at(60))));
    fixture.ok(at(1), set("us", &[]));
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
    fixture.ok(at(0), set("us", &["2027-01-15"]));
    fixture.ok(at(0), set("de", &["2027-01-16"]));
    let schedule = fixture.put(at(1), naming("k", &["de", "us"]));
    let upcoming = |fixture: &Fixture<'_>| {
        attached(fixture, &schedule).compiled_spec().unwrap().upcoming(at(0)).unwrap()
    };
    assert_eq!(upcoming(fixture), NINE.saturating_add(Duration::from_secs(2 * 86_400)));
    fixture.ok(at(2), set("us", &[]));
    assert_eq!(upcoming(fixture), NINE);
}

fn a_schedule_whose_calendar_is_missing_says_so(fixture: &Fixture<'_>) {
    let schedule = declare(fixture, naming("k", &["de", "us"]));
    fixture.ok(at(1), set("de", &[]));
    let compiled_spec = attached(fixture, &schedule).compiled_spec().unwrap();
    assert_eq!((compiled_spec.missing_calendar(), compiled_spec.upcoming(at(0))), (Some("us"), None));
    let unread = fixture.schedule(&schedule.id).compiled_spec().unwrap();
    assert!(unread.missing_calendar().is_some());
}
