//! Debounced calls.

use super::super::fixture::{Fixture, PROJECT, at, new_run, new_worker, succeeded, text};
use super::cases;
use polos::calendar::Timestamp;
use polos::model::{ClaimRules, Debounce, NewRun, Run, RunId, RunState, WorkerEntry};
use polos::store::{Answer, Command};
use std::collections::BTreeMap;
use std::time::Duration;

cases! {
    a_debounced_call_creates_a_run_that_starts_later,
    a_further_call_replaces_the_payload_and_moves_the_start,
    a_further_call_replaces_the_priority,
    the_start_never_moves_beyond_the_limit_of_the_first_call,
    keys_workflows_and_projects_are_debounced_apart,
    a_claimed_run_is_not_changed,
    a_released_run_is_not_changed,
    a_cancelled_run_is_not_changed,
    a_run_that_is_retried_by_hand_is_not_changed,
    a_repeated_call_has_no_second_effect,
    calls_in_one_batch_are_one_run,
    a_run_that_is_created_and_cancelled_in_one_batch_is_not_changed,
}

fn debounce(key: &str) -> Debounce {
    Debounce { key: text(key), delay: Duration::from_secs(2), at_most: Some(Duration::from_secs(5)) }
}

fn call(id: &str, payload: &str) -> NewRun {
    NewRun { payload: Some(text(payload)), ..new_run(id) }
}

fn command(id: &str, payload: &str) -> Command {
    Command::DebounceRun { new: Box::new(call(id, payload)), debounce: debounce("u7") }
}

fn created(answer: Answer) -> (String, bool) {
    match answer {
        Answer::Created { run, is_new, claimed: None } => (run.as_str().to_owned(), is_new),
        other => panic!("{other:?}"),
    }
}

fn calls(fixture: &Fixture<'_>, now: i64, id: &str, payload: &str) -> (String, bool) {
    created(fixture.ok(at(now), command(id, payload)))
}

fn run(fixture: &Fixture<'_>, id: &str) -> Run {
    fixture.store.run(PROJECT, &RunId::from(id)).unwrap().unwrap()
}

fn waits(fixture: &Fixture<'_>, id: &str) -> (String, Timestamp) {
    let run = run(fixture, id);
    assert_eq!(run.state, RunState::Queued);
    (run.payload.unwrap().to_string(), run.available_at)
}

fn first(id: &str) -> (String, bool) {
    (id.to_owned(), true)
}

fn further(id: &str) -> (String, bool) {
    (id.to_owned(), false)
}

fn a_debounced_call_creates_a_run_that_starts_later(fixture: &Fixture<'_>) {
    assert_eq!(calls(fixture, 0, "run_1", "1"), first("run_1"));
    assert_eq!(waits(fixture, "run_1"), ("1".to_owned(), at(2)));
    assert!(fixture.claim(at(1)).is_empty());
    assert_eq!(fixture.claim(at(2)).len(), 1);
}

fn a_further_call_replaces_the_payload_and_moves_the_start(fixture: &Fixture<'_>) {
    calls(fixture, 0, "run_1", "1");
    assert_eq!(calls(fixture, 1, "run_2", "2"), further("run_1"));
    assert_eq!(waits(fixture, "run_1"), ("2".to_owned(), at(3)));
    assert!(fixture.store.run(PROJECT, &RunId::from("run_2")).unwrap().is_none());
    assert!(fixture.claim(at(2)).is_empty());
    let claimed = fixture.claim(at(3));
    assert_eq!(claimed[0].run.payload.as_deref(), Some("2"));
}

fn a_further_call_replaces_the_priority(fixture: &Fixture<'_>) {
    let rules = BTreeMap::from([(text("w"), ClaimRules { priority: 3, ..ClaimRules::default() })]);
    let worker = WorkerEntry { rules, ..new_worker("wkr_1") };
    fixture.ok(at(0), Command::RegisterWorker(Box::new(worker)));
    let priority_after = |now: i64, id: &str, priority: Option<u8>| {
        let new = Box::new(NewRun { priority, ..call(id, id) });
        let debounce = Debounce { key: text("u7"), delay: Duration::from_secs(60), at_most: None };
        fixture.ok(at(now), Command::DebounceRun { new, debounce });
        run(fixture, "run_1").priority
    };
    assert_eq!(priority_after(0, "run_1", Some(2)), 2);
    assert_eq!(priority_after(1, "run_2", Some(9)), 9);
    assert_eq!(priority_after(2, "run_3", Some(0)), 0);
    // That of the workflow.
    assert_eq!(priority_after(3, "run_4", None), 3);
    // The newest one counts: it is claimed before what has waited for longer.
    fixture.ok(at(4), Command::CreateRun(Box::new(NewRun { priority: Some(0), ..new_run("run_low") })));
    assert_eq!(priority_after(5, "run_5", Some(9)), 9);
    let claimed = fixture.claim(at(65));
    let order: Vec<&str> = claimed.iter().map(|claim| claim.run.id.as_str()).collect();
    assert_eq!(order, ["run_1", "run_low"]);
}

fn the_start_never_moves_beyond_the_limit_of_the_first_call(fixture: &Fixture<'_>) {
    calls(fixture, 0, "run_1", "1");
    for (now, start) in [(1, 3), (2, 4), (3, 5), (4, 5)] {
        assert_eq!(calls(fixture, now, &format!("run_at_{now}"), &now.to_string()), further("run_1"));
        assert_eq!(waits(fixture, "run_1"), (now.to_string(), at(start)));
    }
    // Nobody has claimed it in time: the newest payload still counts.
    assert_eq!(calls(fixture, 9, "run_late", "9"), further("run_1"));
    assert_eq!(waits(fixture, "run_1"), ("9".to_owned(), at(5)));
}

fn keys_workflows_and_projects_are_debounced_apart(fixture: &Fixture<'_>) {
    calls(fixture, 0, "run_1", "1");
    let other = |new: NewRun, key: &str| {
        let command = Command::DebounceRun { new: Box::new(new), debounce: debounce(key) };
        created(fixture.ok(at(0), command))
    };
    assert_eq!(other(call("run_2", "2"), "u8"), first("run_2"));
    let new = NewRun { workflow: text("v"), ..call("run_3", "3") };
    assert_eq!(other(new, "u7"), first("run_3"));
    let new = NewRun { project: text("other"), ..call("run_4", "4") };
    assert_eq!(other(new, "u7"), first("run_4"));
    assert_eq!(waits(fixture, "run_1"), ("1".to_owned(), at(2)));
}

fn a_claimed_run_is_not_changed(fixture: &Fixture<'_>) {
    calls(fixture, 0, "run_1", "1");
    assert_eq!(fixture.claim(at(2)).len(), 1);
    assert_eq!(calls(fixture, 3, "run_2", "2"), first("run_2"));
    assert_eq!(run(fixture, "run_1").payload.as_deref(), Some("1"));
    assert_eq!(waits(fixture, "run_2"), ("2".to_owned(), at(5)));
    fixture.end(at(3), &RunId::from("run_1"), succeeded());
    assert_eq!(calls(fixture, 4, "run_3", "3"), further("run_2"));
}

fn a_released_run_is_not_changed(fixture: &Fixture<'_>) {
    calls(fixture, 0, "run_1", "1");
    fixture.claim(at(2));
    fixture.ok(at(3), Command::DeregisterWorker { worker: fixture.worker.clone() });
    assert_eq!(run(fixture, "run_1").state, RunState::Queued);
    assert_eq!(calls(fixture, 4, "run_2", "2"), first("run_2"));
    assert_eq!(run(fixture, "run_1").payload.as_deref(), Some("1"));
}

fn cancel(id: &str) -> Command {
    Command::CancelRun { project: text(PROJECT), run: RunId::from(id) }
}

fn a_cancelled_run_is_not_changed(fixture: &Fixture<'_>) {
    calls(fixture, 0, "run_1", "1");
    fixture.ok(at(1), cancel("run_1"));
    assert_eq!(calls(fixture, 1, "run_2", "2"), first("run_2"));
    assert_eq!(run(fixture, "run_1").state, RunState::Cancelled);
}

fn a_run_that_is_retried_by_hand_is_not_changed(fixture: &Fixture<'_>) {
    calls(fixture, 0, "run_1", "1");
    fixture.ok(at(1), cancel("run_1"));
    calls(fixture, 1, "run_2", "2");
    fixture.ok(at(1), Command::RetryRun { project: text(PROJECT), run: RunId::from("run_1") });
    assert_eq!(calls(fixture, 1, "run_3", "3"), further("run_2"));
    assert_eq!(run(fixture, "run_1").payload.as_deref(), Some("1"));
}

fn a_repeated_call_has_no_second_effect(fixture: &Fixture<'_>) {
    calls(fixture, 0, "run_1", "1");
    assert_eq!(calls(fixture, 1, "run_1", "1"), further("run_1"));
    assert_eq!(waits(fixture, "run_1"), ("1".to_owned(), at(2)));
    calls(fixture, 1, "run_2", "2");
    fixture.claim(at(3));
    // The answer was lost, and the run that has the payload has started since.
    assert_eq!(calls(fixture, 4, "run_2", "2"), further("run_1"));
    assert_eq!(calls(fixture, 4, "run_3", "3"), first("run_3"));
    assert_eq!(calls(fixture, 4, "run_2", "2"), further("run_1"));
    assert_eq!(waits(fixture, "run_3"), ("3".to_owned(), at(6)));
}

fn calls_in_one_batch_are_one_run(fixture: &Fixture<'_>) {
    let commands = [command("run_1", "1"), command("run_2", "2"), command("run_3", "3")];
    let answers = fixture.store.commit(&commands, at(0)).unwrap();
    let answers: Vec<_> = answers.into_iter().map(|answer| created(answer.unwrap())).collect();
    assert_eq!(answers, [first("run_1"), further("run_1"), further("run_1")]);
    assert_eq!(waits(fixture, "run_1"), ("3".to_owned(), at(2)));
}

fn a_run_that_is_created_and_cancelled_in_one_batch_is_not_changed(fixture: &Fixture<'_>) {
    let commands = [command("run_1", "1"), cancel("run_1"), command("run_2", "2")];
    let answers = fixture.store.commit(&commands, at(0)).unwrap();
    assert_eq!(created(answers[2].clone().unwrap()), first("run_2"));
    assert_eq!(waits(fixture, "run_2"), ("2".to_owned(), at(2)));
}
