//! Backfills: which slots, in which order, and how many.

use super::*;

fn backfill(id: &str, start: &str, end: &str, dry_run: bool) -> Value {
    json!({"backfill": {"id": id, "start": micros(start), "end": micros(end), "dry_run": dry_run}})
}

fn slots(answer: &Value) -> Vec<i64> {
    serde_json::from_value(answer["slots"].clone()).unwrap()
}

#[test]
fn the_start_is_inclusive_and_the_end_exclusive() {
    let project = Project::new();
    let id = project.create("k", &hourly());
    let made = project.ask(backfill(&id, "06:00:00", "09:00:00", false));
    assert_eq!(slots(&made), ["06:00:00", "07:00:00", "08:00:00"].map(micros));
}

#[test]
fn each_run_has_the_slots_around_its_own() {
    let project = Project::new();
    let id = project.create("k", &hourly());
    project.ask(backfill(&id, "06:00:00", "08:00:00", false));
    let runs = project.ask(json!({"list_runs": {"schedule": id}}));
    let mut seen: Vec<(i64, i64, i64)> = Vec::new();
    for run in runs.as_array().unwrap() {
        let run = project.run(run["id"].as_str().unwrap());
        let micros = |name: &str| run[name].as_i64().unwrap();
        seen.push((micros("last_timestamp"), micros("timestamp"), micros("upcoming")));
    }
    seen.sort_unstable();
    let times = |last, slot, next| (micros(last), micros(slot), micros(next));
    assert_eq!(seen, [times("05:00:00", "06:00:00", "07:00:00"), times("06:00:00", "07:00:00", "08:00:00")]);
}

#[test]
fn a_slot_with_a_run_is_left_out_also_of_a_dry_run() {
    let project = Project::new();
    let id = project.create("k", &hourly());
    project.ask(backfill(&id, "06:00:00", "08:00:00", false));
    let missing = project.ask(backfill(&id, "06:00:00", "09:00:00", true));
    assert_eq!(slots(&missing), [micros("08:00:00")]);
    let made = project.ask(backfill(&id, "06:00:00", "09:00:00", false));
    assert_eq!(slots(&made), [micros("08:00:00")]);
    assert_eq!(project.states().len(), 3);
}

#[test]
fn its_runs_wait_for_each_other_unless_they_may_overlap() {
    let project = Project::new();
    let id = project.create("k", &hourly());
    project.ask(backfill(&id, "06:00:00", "08:00:00", false));
    assert_eq!(project.states(), [RunState::Queued, RunState::Buffered]);

    let project = Project::new();
    let id = project.create("k", &json!({"cron": "0 * * * *", "overlap": "allow"}));
    project.ask(backfill(&id, "06:00:00", "08:00:00", false));
    assert_eq!(project.states(), [RunState::Queued, RunState::Queued]);
}

#[test]
fn excluded_dates_are_left_out() {
    let project = Project::new();
    let id = project.create("k", &json!({"cron": "0 9 * * *", "skip_dates": ["2026-02-28"]}));
    let made = project.ask(backfill(&id, "2026-02-27T00:00:00", "2026-03-02T00:00:00", false));
    assert_eq!(slots(&made), ["2026-02-27T09:00:00", "2026-03-01T09:00:00"].map(micros));
}

#[test]
fn a_future_or_empty_range_is_rejected() {
    let project = Project::new();
    let id = project.create("k", &hourly());
    let refusal = project.refusal(backfill(&id, "06:00:00", "12:00:01", false));
    assert!(refusal.contains("is in the future"), "{refusal}");
    let refusal = project.refusal(backfill(&id, "06:00:00", "06:00:00", false));
    assert!(refusal.contains("must be later than"), "{refusal}");
    project.ask(backfill(&id, "06:00:00", "12:00:00", false));
}

#[test]
fn the_number_of_slots_is_limited() {
    let project = Project::new();
    let id = project.create("k", &json!({"every_us": 1_000_000}));
    let end = micros("2026-03-01T00:00:00");
    let ask = |count: i64| {
        let start = end - count * 1_000_000;
        project.try_ask(json!({"backfill": {"id": id, "start": start, "end": end, "dry_run": true}}))
    };
    let refusal = ask(105_409).unwrap_err().to_string();
    assert!(refusal.contains("more than 105408 slots"), "{refusal}");
    assert_eq!(slots(&ask(105_408).unwrap()).len(), 105_408);
}

fn with(id: &str, more: &Value) -> Value {
    let mut request = backfill(id, "06:00:00", "12:00:00", false);
    let fields = request["backfill"].as_object_mut().unwrap();
    fields.extend(more.as_object().unwrap().clone());
    request
}

#[test]
fn a_limit_takes_the_oldest_slots_without_a_run_and_says_what_is_left() {
    let project = Project::new();
    let id = project.create("k", &hourly());
    project.ask(backfill(&id, "07:00:00", "08:00:00", false));
    let planned = project.ask(with(&id, &json!({"limit": 2, "dry_run": true})));
    assert_eq!(
        (slots(&planned), &planned["left"]),
        (["06:00:00", "08:00:00"].map(micros).to_vec(), &json!(3))
    );
    assert_eq!(planned["id"], Value::Null);
    let made = project.ask(with(&id, &json!({"limit": 2})));
    assert_eq!((slots(&made), &made["left"]), (slots(&planned), &json!(3)));
    assert_eq!(project.states().len(), 3);
    let rest = project.ask(with(&id, &json!({"limit": 5})));
    assert_eq!((slots(&rest).len(), &rest["left"]), (3, &json!(0)));
    let nothing = project.ask(with(&id, &json!({"limit": 5})));
    assert_eq!((slots(&nothing).len(), &nothing["id"]), (0, &Value::Null));
}

#[test]
fn its_concurrency_counts_whatever_the_policy() {
    for overlap in ["skip", "allow"] {
        let project = Project::new();
        let id = project.create("k", &json!({"cron": "0 * * * *", "overlap": overlap}));
        project.ask(with(&id, &json!({"concurrency": 2})));
        let (queued, buffered) = (RunState::Queued, RunState::Buffered);
        assert_eq!(project.states(), [queued, queued, buffered, buffered, buffered, buffered], "{overlap}");
    }
}

#[test]
fn it_is_watched_and_cancelled_as_a_whole() {
    let project = Project::new();
    let id = project.create("k", &hourly());
    project.ask(with(&id, &json!({"limit": 1})));
    let made = project.ask(with(&id, &json!({"concurrency": 2})));
    let backfill = made["id"].as_str().unwrap().to_owned();
    let counts = |answer: &Value| {
        let names = ["succeeded", "failed", "cancelled", "running", "waiting", "concurrency"];
        names.map(|name| answer[name].as_i64().unwrap_or(-1))
    };
    // Both were made at the same instant.
    let all = |listed: &Value, count: usize| {
        let mut found: Vec<_> = listed.as_array().unwrap().iter().map(|each| counts(each)[count]).collect();
        found.sort_unstable();
        found
    };
    let found = project.ask(json!({"get_backfill": {"id": backfill}}));
    assert_eq!((found["schedule_id"].as_str(), counts(&found)), (Some(&*id), [0, 0, 0, 0, 5, 2]));
    let listed = project.ask(json!({"list_backfills": {}}));
    assert_eq!(all(&listed, 4), [1, 5]);
    let cancelled = project.ask(json!({"cancel_backfill": {"id": backfill}}));
    assert_eq!(counts(&cancelled), [0, 0, 5, 0, 0, 2]);
    let other = project.ask(json!({"list_backfills": {}}));
    assert_eq!(all(&other, 2), [0, 5]);
    for id in ["bf_", "bf_a_b", "run_a", "bf_a_b:c"] {
        let refusal = project.refusal(json!({"cancel_backfill": {"id": id}}));
        assert!(refusal.contains("there is no backfill"), "{refusal}");
    }
}
