//! Manual triggers, and the effect of the overlap policy on them.

use super::*;

/// Triggers one second later, so that runs have an order.
fn trigger(project: &Project, id: &str) -> Result<Value, Error> {
    project.clock.advance_to(project.now().saturating_add(Duration::from_secs(1)));
    project.try_ask(json!({"trigger": {"id": id, "applies_overlap": true}}))
}

fn with_overlap(overlap: &str) -> (Project, String) {
    let project = Project::new();
    let id = project.create("k", &json!({"cron": "0 * * * *", "overlap": overlap}));
    (project, id)
}

#[test]
fn skip_rejects_a_trigger_beside_an_unfinished_run() {
    let (project, id) = with_overlap("skip");
    trigger(&project, &id).unwrap();
    let refusal = trigger(&project, &id).unwrap_err().to_string();
    assert!(refusal.contains("no other may start"), "{refusal}");
    assert_eq!(project.states(), [RunState::Queued]);
}

#[test]
fn buffer_one_rejects_a_second_buffered_run() {
    let (project, id) = with_overlap("buffer_one");
    trigger(&project, &id).unwrap();
    trigger(&project, &id).unwrap();
    let refusal = trigger(&project, &id).unwrap_err().to_string();
    assert!(refusal.contains("waits for an earlier run already"), "{refusal}");
    assert_eq!(project.states(), [RunState::Queued, RunState::Buffered]);
}

#[test]
fn buffer_all_buffers_every_trigger() {
    let (project, id) = with_overlap("buffer_all");
    for _ in 0..3 {
        trigger(&project, &id).unwrap();
    }
    assert_eq!(project.states(), [RunState::Queued, RunState::Buffered, RunState::Buffered]);
}

#[test]
fn cancel_running_cancels_the_run_before() {
    let (project, id) = with_overlap("cancel_running");
    let first = trigger(&project, &id).unwrap()["run_id"].as_str().unwrap().to_owned();
    let second = trigger(&project, &id).unwrap()["run_id"].as_str().unwrap().to_owned();
    assert_eq!(project.run(&first)["status"], "cancelled");
    assert_eq!(project.run(&second)["status"], "queued");
}

#[test]
fn without_the_policy_a_trigger_starts_beside_other_runs() {
    let (project, id) = with_overlap("skip");
    for _ in 0..2 {
        project.ask(json!({"trigger": {"id": id}}));
    }
    assert_eq!(project.states(), [RunState::Queued, RunState::Queued]);
}

/// A worker has claimed the slot of 13:00 when a run is triggered manually.
#[test]
fn a_trigger_revokes_an_early_claim() {
    let (project, id) = with_overlap("buffer_one");
    project.clock.advance_to(at("12:59:59"));
    project.claim_early(&id, at("13:00:00"));
    assert_eq!(project.schedule(&id)["upcoming"], micros("14:00:00"));
    project.ask(json!({"trigger": {"id": id}}));
    assert_eq!(project.states(), [RunState::Queued]);
    assert_eq!(project.schedule(&id)["upcoming"], micros("13:00:00"));
}
