//! Runs that wait for a worker with other code.

use super::super::fixture::{PROJECT, Stage, at, done_step, failed, new_run, new_worker, text};
use super::cases;
use polos::calendar::Timestamp;
use polos::model::{Ending, NewRun, RunId, RunState};
use polos::store::{Answer, Codes, Command, Page, Suspects, Wake};
use std::sync::Arc;

cases! {
    a_held_run_waits_with_a_note,
    a_held_run_is_claimed_by_other_code_only,
    code_that_refused_a_run_never_claims_it_again,
    a_held_run_waits_for_no_child,
    a_child_that_ends_gives_a_held_run_to_other_code_only,
    a_held_run_is_cancelled_at_once,
    a_run_that_was_to_stop_is_not_held,
    a_retry_forgets_who_refused_it,
    a_claimed_held_run_that_is_freed_stays_with_other_code,
    holding_is_answered_again_the_same_way,
}

fn codes(code: &str) -> Arc<Codes> {
    Arc::new([(text("w"), text(code))].into())
}

fn claim(stage: &Stage<'_>, now: Timestamp, codes: Option<Arc<Codes>>) -> Vec<String> {
    let command = Command::ClaimRuns {
        project: text(PROJECT),
        worker: stage.worker.clone(),
        workflows: vec![text("w")],
        limit: 10,
        until: now,
        suspects: Suspects::Alone,
        codes,
    };
    match stage.ok(now, command) {
        Answer::Claimed(claimed) => claimed.iter().map(|claimed| claimed.run.id.to_string()).collect(),
        other => panic!("{other:?}"),
    }
}

fn hold(stage: &Stage<'_>, now: Timestamp, run: &RunId, code: &str) -> RunState {
    stage.end(now, run, Ending::Held { code: text(code), note: text("held") }).0
}

fn held(stage: &Stage<'_>, code: &str) -> RunId {
    let run = stage.running(at(1), "run_1").id;
    assert_eq!(hold(stage, at(2), &run, code), RunState::Waiting);
    run
}

fn nothing() -> Vec<String> {
    Vec::new()
}

fn a_held_run_waits_with_a_note(stage: &Stage<'_>) {
    let id = held(stage, "old");
    let run = stage.run(&id);
    assert_eq!((run.state, run.attempt, run.note.as_deref()), (RunState::Waiting, 1, Some("held")));
    assert_eq!(claim(stage, at(9_999_999_999), None), nothing());
    assert_eq!(stage.store.remarkable_runs(PROJECT, 9).unwrap(), [run]);
    let wake = stage.store.next_wake(PROJECT, &[text("w")]).unwrap();
    assert_eq!(wake, Wake { has_held: true, ..Wake::default() });
}

fn a_held_run_is_claimed_by_other_code_only(stage: &Stage<'_>) {
    let id = held(stage, "old");
    assert_eq!(claim(stage, at(3), Some(codes("old"))), nothing());
    let other_workflow = Some(Arc::new(Codes::from([(text("v"), text("new"))])));
    assert_eq!(claim(stage, at(3), other_workflow), nothing());
    assert_eq!(claim(stage, at(3), Some(codes("new"))), [id.to_string()]);
    let run = stage.run(&id);
    assert_eq!((run.state, run.note, run.available_at), (RunState::Running, None, at(3)));
    assert!(!stage.store.next_wake(PROJECT, &[text("w")]).unwrap().has_held);
}

fn code_that_refused_a_run_never_claims_it_again(stage: &Stage<'_>) {
    let id = held(stage, "old");
    claim(stage, at(3), Some(codes("new")));
    stage.end(at(4), &id, Ending::Parked { wakes_at: at(10) });
    assert_eq!(claim(stage, at(11), None), nothing());
    assert_eq!(claim(stage, at(11), Some(codes("old"))), nothing());
    assert_eq!(claim(stage, at(11), Some(codes("new"))), [id.to_string()]);
    hold(stage, at(12), &id, "new");
    assert_eq!(claim(stage, at(13), Some(codes("new"))), nothing());
    assert_eq!(claim(stage, at(13), Some(codes("old"))), nothing(), "nor does the one before");
    assert_eq!(claim(stage, at(13), Some(codes("newer"))), [id.to_string()]);
}

fn a_held_run_waits_for_no_child(stage: &Stage<'_>) {
    held(stage, "old");
    let page = Page { limit: 10, after: None };
    assert_eq!(stage.store.waiting_parents(PROJECT, &page).unwrap(), []);
}

fn a_child_that_ends_gives_a_held_run_to_other_code_only(stage: &Stage<'_>) {
    let parent = stage.running(at(1), "run_1").id;
    let child = NewRun { parent: Some(parent.clone()), available_at: at(1), ..new_run("run_2") };
    let child = stage.create(at(1), child);
    hold(stage, at(2), &parent, "old");
    assert_eq!(claim(stage, at(3), Some(codes("old"))), [child.to_string()]);
    stage.end(at(4), &child, failed());
    assert_eq!(claim(stage, at(5), Some(codes("old"))), nothing());
    assert_eq!(claim(stage, at(5), Some(codes("new"))), [parent.to_string()]);
}

fn a_held_run_is_cancelled_at_once(stage: &Stage<'_>) {
    let id = held(stage, "old");
    let cancel = Command::CancelRun { project: text(PROJECT), run: id };
    assert_eq!(stage.ok(at(3), cancel), Answer::State(RunState::Cancelled));
    assert_eq!(claim(stage, at(4), Some(codes("new"))), nothing());
}

fn a_run_that_was_to_stop_is_not_held(stage: &Stage<'_>) {
    let id = stage.running(at(1), "run_1").id;
    stage.ok(at(2), Command::CancelRun { project: text(PROJECT), run: id.clone() });
    assert_eq!(hold(stage, at(3), &id, "old"), RunState::Cancelled);
}

fn a_retry_forgets_who_refused_it(stage: &Stage<'_>) {
    let id = held(stage, "old");
    claim(stage, at(3), Some(codes("new")));
    stage.end(at(4), &id, failed());
    stage.ok(at(5), Command::RetryRun { project: text(PROJECT), run: id.clone() });
    assert_eq!(stage.run(&id).refused_by, None);
    assert_eq!(claim(stage, at(6), None), [id.to_string()]);
}

fn a_claimed_held_run_that_is_freed_stays_with_other_code(stage: &Stage<'_>) {
    let id = held(stage, "old");
    claim(stage, at(3), Some(codes("new")));
    stage.ok(at(4), Command::LeaveWorker { worker: stage.worker.clone() });
    stage.ok(at(4), Command::EnterWorker(Box::new(new_worker("wkr_1"))));
    assert_eq!(stage.state(&id), RunState::Queued);
    assert_eq!(claim(stage, at(5), Some(codes("old"))), nothing());
    assert_eq!(claim(stage, at(5), Some(codes("new"))), [id.to_string()]);
}

fn holding_is_answered_again_the_same_way(stage: &Stage<'_>) {
    let run = stage.running(at(1), "run_1");
    let step = Command::RecordStep { run: run.id.clone(), token: run.token, step: done_step("a") };
    stage.ok(at(1), step);
    let command = super::super::fixture::end(
        &run.id,
        run.token,
        Ending::Held { code: text("old"), note: text("held") },
    );
    let first = stage.ok(at(2), command.clone());
    assert_eq!(stage.ok(at(3), command), first);
    assert_eq!(stage.run(&run.id).refused_by.as_deref(), Some("old"));
}
