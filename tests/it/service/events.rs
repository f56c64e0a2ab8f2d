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

/// A webhook delivers an event again, with its idempotency key, whatever has happened meanwhile.
#[test]
fn an_event_for_a_key_that_is_sent_again_is_answered_alike() {
    let project = Project::new();
    let invoke = || {
        let start = json!({"key": "k"});
        let invoke = json!({"workflow": "wf", "payload": null, "is_local": true, "start": start});
        project.ask(json!({"invoke": invoke}))["run_id"].as_str().unwrap().to_owned()
    };
    let first = invoke();
    let send = |key: &str, id: &str| {
        json!({"send_event": {
            "workflow": "wf", "key": key, "name": "signed", "payload": 1, "idempotency_key": id,
        }})
    };
    let accepted = json!({"run_id": first, "is_accepted": true});
    assert_eq!(project.ask(send("k", "evt_1")), accepted);
    let second = invoke();
    assert_eq!(project.ask(send("k", "evt_1")), accepted, "with several unfinished runs");
    let refusal = project.refusal(send("k", "evt_2"));
    assert!(refusal.contains("several unfinished runs"), "{refusal}");
    project.ask(json!({"cancel_run": {"id": first}}));
    assert_eq!(project.ask(send("k", "evt_1")), accepted, "with another run");
    let other = json!({"run_id": second, "is_accepted": true});
    assert_eq!(project.ask(send("k", "evt_2")), other, "the other run has not got the first event");
    project.ask(json!({"cancel_run": {"id": second}}));
    assert_eq!(project.ask(send("k", "evt_1")), accepted, "with no unfinished run");
    assert_eq!(project.ask(send("k", "evt_2")), other);
    for (key, id) in [("k", "evt_3"), ("l", "evt_1")] {
        let refusal = project.refusal(send(key, id));
        assert!(refusal.contains("no unfinished run"), "{refusal}");
    }
}
