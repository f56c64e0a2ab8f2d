//! The retry decision, and what else the end of an execution means for its run.

use super::at;
use polos::calendar::Timestamp;
use polos::engine::{ExecutionOutcome, WorkflowConfig};
use polos::model::Completion;
use polos::plan::Backoff;

fn workflow(retry_max: u32) -> WorkflowConfig {
    WorkflowConfig {
        is_schedulable: false,
        retry_max,
        backoff: Backoff { initial_us: 1_000_000, factor: 2.0, maximum_us: 60_000_000, jitter: 0.0 },
        timeout: None,
        rules: polos::model::ClaimRules::default(),
        calls: Vec::new(),
        code: "c1".into(),
    }
}

/// How many microseconds later attempt number `attempt` is retried.
fn retry_after(policy: Option<&WorkflowConfig>, attempt: u32, is_final: bool) -> Option<i64> {
    let now = at("12:00:00");
    let outcome = ExecutionOutcome::Failed { error: Some(r#"{"type":"E"}"#.into()), is_final };
    match outcome.completion(policy, "run_1", attempt, now) {
        Completion::Failed { error, retry_at } => {
            assert_eq!(&*error, r#"{"type":"E"}"#);
            retry_at.map(|later| later.as_micros() - now.as_micros())
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_failure_is_retried_as_often_as_its_workflow_allows_with_growing_delays() {
    let policy = workflow(2);
    let delays: Vec<_> = (1..=4).map(|attempt| retry_after(Some(&policy), attempt, false)).collect();
    assert_eq!(delays, [Some(1_000_000), Some(2_000_000), None, None]);
    assert_eq!(retry_after(Some(&workflow(0)), 1, false), None);
}

#[test]
fn a_failure_that_the_application_calls_final_is_not_retried() {
    assert_eq!(retry_after(Some(&workflow(2)), 1, true), None);
}

#[test]
fn a_failure_of_a_workflow_that_this_worker_does_not_know_is_not_retried() {
    assert_eq!(retry_after(None, 1, false), None);
}

#[test]
fn what_an_outcome_leaves_out_has_a_default() {
    let policy = workflow(0);
    let completion =
        |outcome: ExecutionOutcome| outcome.completion(Some(&policy), "run_1", 1, at("12:00:00"));
    let failed = Completion::Failed { error: "{}".into(), retry_at: None };
    assert_eq!(completion(ExecutionOutcome::Failed { error: None, is_final: false }), failed);
    let forever = Completion::Parked { wakes_at: Timestamp::from_micros(i64::MAX) };
    assert_eq!(completion(ExecutionOutcome::Parked { wakes_at: None }), forever);
    let held = Completion::Held { code: "c1".into(), note: "its code has changed".into() };
    assert_eq!(completion(ExecutionOutcome::Held { note: None }), held);
    let skipped = Completion::Skipped { reason: "left out".into() };
    assert_eq!(completion(ExecutionOutcome::Skipped { reason: None }), skipped);
}
