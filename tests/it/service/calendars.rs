//! Stored calendars. It is noon on 2 March 2026.

use super::*;
use polos::model::stored_calendar;
use polos::store::Patch;

fn set(project: &Project, name: &str, dates: &[&str]) {
    project.ask(json!({"set_calendar": {"name": name, "dates": dates}}));
}

fn daily() -> Value {
    json!({"cron": "0 9 * * *", "timezone": "UTC", "calendars": ["holidays"]})
}

fn try_create(project: &Project, spec: &Value) -> String {
    let draft = json!({"workflow": "wf", "key": "k", "spec": 0, "local": true});
    project.refusal(json!({"create": {"drafts": {"specs": [spec.to_string()], "schedules": [draft]}}}))
}

#[test]
fn a_schedule_can_only_name_calendars_that_exist() {
    let project = Project::new();
    let refusal = try_create(&project, &daily());
    assert!(refusal.contains("no calendar `holidays`") && refusal.contains("none yet"), "{refusal}");
    set(&project, "de", &[]);
    let refusal = try_create(&project, &daily());
    assert!(refusal.contains("there are `de`"), "{refusal}");
    set(&project, "holidays", &["2026-03-03"]);
    let id = project.create("k", &daily());
    assert_eq!(project.schedule(&id)["calendars"], json!(["holidays"]));
    let update = json!({"update": {"id": id, "changes": {"calendars": ["us"]}}});
    let refusal = project.refusal(update);
    assert!(refusal.contains("no calendar `us`") && refusal.contains("`de`, `holidays`"), "{refusal}");
}

#[test]
fn a_change_of_the_calendar_counts_for_the_schedules_that_name_it() {
    let project = Project::new();
    set(&project, "holidays", &["2026-03-03", "2026-03-04"]);
    let id = project.create("k", &daily());
    let upcoming = || project.schedule(&id)["upcoming"].clone();
    assert_eq!(upcoming(), micros("2026-03-05T09:00:00"));
    set(&project, "holidays", &["2026-03-04"]);
    assert_eq!(upcoming(), micros("2026-03-03T09:00:00"));
    let slots = project.ask(json!({"upcoming": {"id": id, "count": 2}}))["slots"].clone();
    assert_eq!(slots, json!([micros("2026-03-03T09:00:00"), micros("2026-03-05T09:00:00")]));
    let listed = project.ask(json!({"list_schedules": {"limit": 10}}));
    assert_eq!(listed[0]["upcoming"], micros("2026-03-03T09:00:00"));
}

#[test]
fn a_calendar_that_schedules_name_is_not_deleted_and_the_error_names_them() {
    let project = Project::new();
    set(&project, "holidays", &[]);
    let id = project.create("k", &daily());
    let refusal = project.refusal(json!({"delete_calendar": {"name": "holidays"}}));
    assert!(refusal.contains(&id) && refusal.contains("workflow `wf`, key `k`"), "{refusal}");
    project.ask(json!({"update": {"id": id, "changes": {"calendars": null}}}));
    project.ask(json!({"delete_calendar": {"name": "holidays"}}));
    let refusal = project.refusal(json!({"delete_calendar": {"name": "holidays"}}));
    assert!(refusal.contains("no calendar `holidays`"), "{refusal}");
}

#[test]
fn invalid_names_and_dates_are_refused() {
    let project = Project::new();
    let refused =
        |name: &str, dates: Value| project.refusal(json!({"set_calendar": {"name": name, "dates": dates}}));
    assert!(refused("2026", json!([])).contains("begins with a letter"));
    assert!(refused("a b", json!([])).contains("begins with a letter"));
    assert!(refused("a", json!(["25.12.2026"])).contains("`25.12.2026` is no date"));
    let many = vec!["2026-12-25"; stored_calendar::DATES_MAX + 1];
    assert!(refused("a", json!(many)).contains("at most 10000"));
    let refusal = try_create(&project, &json!({"cron": "0 9 * * *", "calendars": ["a\"b"]}));
    assert!(refusal.contains("can't be the name of a calendar"), "{refusal}");
    let refusal = try_create(&project, &json!({"cron": "0 9 * * *", "calendars": vec!["a"; 17]}));
    assert!(refusal.contains("at most 16"), "{refusal}");
}

#[test]
fn a_schedule_that_is_broken_without_its_calendar_continues_with_it() {
    let project = Project::new();
    set(&project, "holidays", &[]);
    let id = project.create("k", &daily());
    let status = |note: &str| Patch {
        status: Some(ScheduleStatus::Broken),
        note: Some(Some(note.into())),
        ..Patch::default()
    };
    let broken = |note: &str| {
        project.commit(Command::PatchSchedule {
            project: PROJECT.into(),
            id: ScheduleId::from(&*id),
            revision: None,
            patch: Box::new(status(note)),
        });
    };
    broken("something else");
    set(&project, "holidays", &[]);
    assert_eq!(project.schedule(&id)["status"], "broken");
    broken(&stored_calendar::missing("holidays"));
    set(&project, "other", &[]);
    let schedule = project.schedule(&id);
    assert_eq!((&schedule["status"], &schedule["note"]), (&json!("active"), &Value::Null));
}
