//! Skips of coming slots, and pauses that end by another policy. It is noon; slots are at full
//! hours.

use super::*;

fn at_slot(verb: &str, id: &str, time: &str) -> Value {
    json!({verb: {"id": id, "at": micros(time)}})
}

fn skipped(schedule: &Value) -> Vec<i64> {
    serde_json::from_value(schedule["skipped"].clone()).unwrap()
}

#[test]
fn one_coming_slot_is_skipped_and_the_others_are_not() {
    let project = Project::new();
    let id = project.create("k", &hourly());
    let after = project.ask(at_slot("skip", &id, "15:00:00"));
    assert_eq!((&after["upcoming"], skipped(&after)), (&json!(micros("13:00:00")), vec![micros("15:00:00")]));
    let slots = project.ask(json!({"upcoming": {"id": id, "count": 3}}));
    let expected = ["13:00:00", "14:00:00", "16:00:00"].map(micros);
    assert_eq!(slots["slots"], json!(expected));
    let again = project.ask(at_slot("skip", &id, "15:00:00"));
    assert_eq!(again["updated_at"], after["updated_at"], "it is skipped already");
}

#[test]
fn the_error_about_a_slot_that_is_none_names_those_beside_it() {
    let project = Project::new();
    let id = project.create("k", &json!({"cron": "0 * * * *", "timezone": "Asia/Kolkata"}));
    let refusal = project.refusal(at_slot("skip", &id, "15:00:00"));
    assert!(refusal.contains("no slot at 2026-03-02 20:30 in Asia/Kolkata"), "{refusal}");
    assert!(refusal.contains("before is 2026-03-02 20:00 in Asia/Kolkata"), "{refusal}");
    assert!(refusal.contains("after is 2026-03-02 21:00 in Asia/Kolkata"), "{refusal}");
}

#[test]
fn a_slot_that_has_passed_is_not_skipped() {
    let project = Project::new();
    let id = project.create("k", &hourly());
    let refusal = project.refusal(at_slot("skip", &id, "12:00:00"));
    assert!(refusal.contains("is due already"), "{refusal}");
}

#[test]
fn the_next_slots_that_would_run_are_skipped() {
    let project = Project::new();
    let id = project.create("k", &json!({"cron": "0 */6 * * *", "skip_dates": ["2026-03-03"]}));
    let after = project.ask(json!({"skip": {"id": id, "count": 2}}));
    let expected = ["2026-03-02T18:00:00", "2026-03-04T00:00:00"].map(micros);
    assert_eq!(skipped(&after), expected);
    assert_eq!(after["upcoming"], micros("2026-03-04T06:00:00"));
}

#[test]
fn fewer_are_skipped_if_there_are_no_more() {
    let project = Project::new();
    let id = project.create("k", &json!({"cron": "0 * * * *", "end_at_us": micros("14:30:00")}));
    let after = project.ask(json!({"skip": {"id": id, "count": 5}}));
    assert_eq!((skipped(&after).len(), &after["status"]), (2, &json!("finished")));
    let refusal = project.refusal(json!({"skip": {"id": id}}));
    assert!(refusal.contains("no coming slot"), "{refusal}");
    let back = project.ask(json!({"unskip": {"id": id}}));
    assert_eq!((&back["status"], &back["upcoming"]), (&json!("active"), &json!(micros("13:00:00"))));
}

#[test]
fn the_slots_of_a_paused_schedule_are_skipped_from_now_on() {
    let project = Project::new();
    let id = project.create("k", &hourly());
    project.ask(json!({"pause": {"id": id}}));
    project.clock.advance_to(at("14:30:00"));
    let after = project.ask(json!({"skip": {"id": id}}));
    assert_eq!(skipped(&after), [micros("15:00:00")]);
}

#[test]
fn a_skip_is_taken_back_until_its_slot_has_passed() {
    let project = Project::new();
    let id = project.create("k", &hourly());
    project.ask(json!({"skip": {"id": id, "count": 3}}));
    let after = project.ask(at_slot("unskip", &id, "14:00:00"));
    assert_eq!(skipped(&after), ["13:00:00", "15:00:00"].map(micros));
    let history = project.ask(json!({"history": {"id": id}}));
    assert_eq!(history.as_array().unwrap().len(), 2, "{history}");
    let refusal = project.refusal(at_slot("unskip", &id, "14:00:00"));
    assert!(refusal.contains("skipped are 2026-03-02 13:00 in UTC, 2026-03-02 15:00 in UTC"), "{refusal}");
    project.clock.advance_to(at("13:00:00"));
    let after = project.ask(json!({"unskip": {"id": id}}));
    assert_eq!((skipped(&after), &after["upcoming"]), (vec![], &json!(micros("14:00:00"))));
    let history = project.ask(json!({"history": {"id": id}}));
    assert_eq!(history[0]["timestamp"], micros("13:00:00"), "what has passed stays skipped");
    assert_eq!(history.as_array().unwrap().len(), 1);
    let refusal = project.refusal(at_slot("unskip", &id, "14:00:00"));
    assert!(refusal.contains("no coming slot is"), "{refusal}");
}

#[test]
fn what_is_no_slot_any_more_stays_skipped() {
    let project = Project::new();
    let id = project.create("k", &hourly());
    project.ask(at_slot("skip", &id, "15:00:00"));
    project.ask(json!({"update": {"id": id, "changes": {"cron": "30 * * * *"}}}));
    let after = project.ask(json!({"unskip": {"id": id}}));
    assert_eq!(after["upcoming"], micros("12:30:00"));
    assert_eq!(project.ask(json!({"history": {"id": id}})).as_array().unwrap().len(), 1);
}

/// A schedule that was paused from noon to 15:30; its own policy is to run the newest slot.
fn paused() -> (Project, String) {
    let project = Project::new();
    let id = project.create("k", &hourly());
    project.ask(json!({"pause": {"id": id}}));
    project.clock.advance_to(at("15:30:00"));
    (project, id)
}

#[test]
fn a_pause_ends_without_catching_up() {
    let (project, id) = paused();
    let after = project.ask(json!({"resume": {"id": id, "catch_up": "none"}}));
    assert_eq!((&after["status"], &after["upcoming"]), (&json!("active"), &json!(micros("16:00:00"))));
    assert_eq!(after["catch_up"], "latest", "the policy stays");
    let history = project.ask(json!({"history": {"id": id}}));
    assert_eq!((&history[0]["status"], &history[0]["count"]), (&json!("missed"), &json!(3)));
    assert_eq!(history[0]["reason"], "the schedule was paused, and resumed with catch_up=none");
    assert_eq!(project.states(), []);
}

#[test]
fn a_pause_ends_with_all_of_its_slots() {
    let (project, id) = paused();
    project.ask(json!({"resume": {"id": id, "catch_up": "all"}}));
    assert_eq!(project.states(), [RunState::Queued, RunState::Buffered, RunState::Buffered]);
    assert_eq!(project.schedule(&id)["last_timestamp"], micros("15:00:00"));
    project.ask(json!({"resume": {"id": id, "catch_up": "all"}}));
    assert_eq!(project.states().len(), 3, "it is active already");
}

#[test]
fn a_pause_in_which_nothing_was_due_just_ends() {
    let project = Project::new();
    let id = project.create("k", &hourly());
    project.ask(json!({"pause": {"id": id}}));
    let after = project.ask(json!({"resume": {"id": id, "catch_up": "all"}}));
    assert_eq!((&after["status"], &after["upcoming"]), (&json!("active"), &json!(micros("13:00:00"))));
}
