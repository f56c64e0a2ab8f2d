//! Events that are sent to a workflow and key.

use super::*;

/// A worker has claimed the slot of 13:00, and until then it can be taken back.
#[test]
fn a_run_that_is_claimed_early_gets_no_event_before_its_slot() {
    let project = Project::new();
    let id = project.create("k", &hourly());
    project.clock.advance_to(at("12:59:59"));
    let run = project.claim_early(&id, at("13:00:00"));
    let event = json!({"workflow": "wf", "key": "k", "name": "approval", "payload": 1});
    let refusal = project.refusal(json!({"send_event": event}));
    assert!(refusal.contains("no unfinished run of workflow `wf` with key `k`"), "{refusal}");
    let refusal = project.refusal(json!({"send_event": {"run": run, "name": "approval", "payload": 1}}));
    assert!(refusal.contains("its slot has not come"), "{refusal}");
    project.clock.advance_to(at("13:00:00"));
    let sent = project.ask(json!({"send_event": event}));
    assert_eq!(sent, json!({"run_id": run, "is_accepted": true}));
}
