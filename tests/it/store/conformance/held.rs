//! Runs that wait for a worker with other code.

use super::super::fixture::{Fixture, PROJECT, at, done_step, failed, new_run, new_worker, text};
use super::cases;
use polos::calendar::Timestamp;
use polos::model::{Completion, NO_DEADLINE, NewRun, RunId, RunState};
use polos::store::{Answer, Codes, Command, NextWork, Page, Suspects};
use std::sync::Arc;

cases! {
    a_held_run_waits_with_a_note,
    a_held_run_is_claimed_by_other_code_only,
    held_runs_are_among_those_that_a_worker_has_room_for,
    code_that_refused_a_run_never_claims_it_again,
    a_held_run_waits_for_no_child,
    a_child_that_ends_gives_a_held_run_to_other_code_only,
    a_held_run_is_cancelled_at_once,
    a_run_that_was_to_stop_is_not_held,
    a_retry_forgets_who_refused_it,
    a_claimed_held_run_that_is_freed_stays_with_other_code,
    a_run_that_was_held_once_is_not_claimed_before_it_is_due,
    holding_is_answered_again_the_same_way,
}

fn codes(code: &str) -> Arc<Codes> {
    Arc::new([(text("w"), text(code))].into())
}

fn claim(fixture: &Fixture<'_>, now: Timestamp, codes: Option<Arc<Codes>>) -> Vec<String> {
    claim_up_to(fixture, now, 10, codes)
}

fn claim_up_to(
    fixture: &Fixture<'_>,
    now: Timestamp,
    limit: usize,
    codes: Option<Arc<Codes>>,
) -> Vec<String> {
    let command = Command::ClaimRuns {
        project: text(PROJECT),
        worker: fixture.worker.clone(),
        workflows: vec![text("w")],
        limit,
        until: now,
        suspects: Suspects::Alone,
        codes,
    };
    match fixture.ok(now, command) {
        Answer::Claimed(claimed) => claimed.iter().map(|claimed| claimed.run.id.to_string()).collect(),
        other => panic!("{other:?}"),
    }
}

fn hold(fixture: &Fixture<'_>, now: Timestamp, run: &RunId, code: &str) -> RunState {
    fixture.end(now, run, Completion::Held { code: text(code), note: text("held") }).0
}

fn held(fixture: &Fixture<'_>, code: &str) -> RunId {
    let run = fixture.running(at(1), "run_1").id;
    assert_eq!(hold(fixture, at(2), &run, code), RunState::Waiting);
    run
}

fn nothing() -> Vec<String> {
    Vec::new()
}

fn a_held_run_waits_with_a_note(fixture: &Fixture<'_>) {
    let id = held(fixture, "old");
    let run = fixture.run(&id);
    assert_eq!((run.state, run.attempt, run.note.as_deref()), (RunState::Waiting, 1, Some("held")));
    assert_eq!(claim(fixture, at(9_999_999_999), None), nothing());
    assert_eq!(fixture.store.remarkable_runs(PROJECT, 9).unwrap(), [run]);
    let wake = fixture.store.next_work(PROJECT, &[text("w")], at(0)).unwrap();
    assert_eq!(wake, NextWork { has_held: true, ..NextWork::default() });
}

fn a_held_run_is_claimed_by_other_code_only(fixture: &Fixture<'_>) {
    let id = held(fixture, "old");
    assert_eq!(claim(fixture, at(3), Some(codes("old"))), nothing());
    let other_workflow = Some(Arc::new(Codes::from([(text("v"), text("new"))])));
    assert_eq!(claim(fixture, at(3), other_workflow), nothing());
    assert_eq!(claim(fixture, at(3), Some(codes("new"))), [id.to_string()]);
    let run = fixture.run(&id);
    assert_eq!((run.state, run.note, run.available_at), (RunState::Running, None, at(3)));
    assert!(!fixture.store.next_work(PROJECT, &[text("w")], at(0)).unwrap().has_held);
}

fn held_runs_are_among_those_that_a_worker_has_room_for(fixture: &Fixture<'_>) {
    let id = held(fixture, "old");
    fixture.create(at(2), new_run("run_2"));
    fixture.create(at(2), new_run("run_3"));
    assert_eq!(claim_up_to(fixture, at(3), 2, Some(codes("new"))), ["run_2", "run_3"]);
    assert_eq!(claim_up_to(fixture, at(3), 2, Some(codes("new"))), [id.to_string()]);
}

fn code_that_refused_a_run_never_claims_it_again(fixture: &Fixture<'_>) {
    let id = held(fixture, "old");
    claim(fixture, at(3), Some(codes("new")));
    fixture.end(at(4), &id, Completion::Parked { wakes_at: at(10) });
    assert_eq!(claim(fixture, at(11), None), nothing());
    assert_eq!(claim(fixture, at(11), Some(codes("old"))), nothing());
    assert_eq!(claim(fixture, at(11), Some(codes("new"))), [id.to_string()]);
    hold(fixture, at(12), &id, "new");
    assert_eq!(claim(fixture, at(13), Some(codes("new"))), nothing());
    assert_eq!(claim(fixture, at(13), Some(codes("old"))), nothing(), "nor does the one before");
    assert_eq!(claim(fixture, at(13), Some(codes("newer"))), [id.to_string()]);
}

fn a_held_run_waits_for_no_child(fixture: &Fixture<'_>) {
    held(fixture, "old");
    let page = Page { limit: 10, after: None };
    assert_eq!(fixture.store.waiting_parents(PROJECT, &page).unwrap(), []);
}

fn a_child_that_ends_gives_a_held_run_to_other_code_only(fixture: &Fixture<'_>) {
    let parent = fixture.running(at(1), "run_1").id;
    let child = NewRun { parent: Some(parent.clone()), available_at: at(1), ..new_run("run_2") };
    let child = fixture.create(at(1), child);
    hold(fixture, at(2), &parent, "old");
    assert_eq!(claim(fixture, at(3), Some(codes("old"))), [child.to_string()]);
    fixture.end(at(4), &child, failed());
    assert_eq!(claim(fixture, at(5), Some(codes("old"))), nothing());
    assert_eq!(claim(fixture, at(5), Some(codes("new"))), [parent.to_string()]);
}

fn a_held_run_is_cancelled_at_once(fixture: &Fixture<'_>) {
    let id = held(fixture, "old");
    let cancel = Command::CancelRun { project: text(PROJECT), run: id };
    assert_eq!(fixture.ok(at(3), cancel), Answer::State(RunState::Cancelled));
    assert_eq!(claim(fixture, at(4), Some(codes("new"))), nothing());
}

fn a_run_that_was_to_stop_is_not_held(fixture: &Fixture<'_>) {
    let id = fixture.running(at(1), "run_1").id;
    fixture.ok(at(2), Command::CancelRun { project: text(PROJECT), run: id.clone() });
    assert_eq!(hold(fixture, at(3), &id, "old"), RunState::Cancelled);
}

fn a_retry_forgets_who_refused_it(fixture: &Fixture<'_>) {
    let id = held(fixture, "old");
    claim(fixture, at(3), Some(codes("new")));
    fixture.end(at(4), &id, failed());
    fixture.ok(at(5), Command::RetryRun { project: text(PROJECT), run: id.clone() });
    assert_eq!(fixture.run(&id).refused_by, None);
    assert_eq!(claim(fixture, at(6), None), [id.to_string()]);
}

fn a_claimed_held_run_that_is_freed_stays_with_other_code(fixture: &Fixture<'_>) {
    let id = held(fixture, "old");
    claim(fixture, at(3), Some(codes("new")));
    fixture.ok(at(4), Command::DeregisterWorker { worker: fixture.worker.clone() });
    fixture.ok(at(4), Command::RegisterWorker(Box::new(new_worker("wkr_1"))));
    assert_eq!(fixture.state(&id), RunState::Queued);
    assert_eq!(claim(fixture, at(5), Some(codes("old"))), nothing());
    assert_eq!(claim(fixture, at(5), Some(codes("new"))), [id.to_string()]);
}

fn a_run_that_was_held_once_is_not_claimed_before_it_is_due(fixture: &Fixture<'_>) {
    let id = held(fixture, "old");
    let again = Completion::Failed { error: text("{}"), retry_at: Some(at(200)) };
    for (wakes_at, ending) in [(100, Completion::Parked { wakes_at: at(100) }), (200, again)] {
        assert_eq!(claim(fixture, at(wakes_at - 50), Some(codes("new"))), [id.to_string()]);
        fixture.end(at(wakes_at - 50), &id, ending);
        assert_eq!(claim(fixture, at(wakes_at - 1), Some(codes("new"))), nothing());
        assert_eq!(claim(fixture, at(wakes_at), Some(codes("old"))), nothing());
    }
    assert_eq!(claim(fixture, at(200), Some(codes("new"))), [id.to_string()]);
    fixture.end(at(200), &id, Completion::Parked { wakes_at: NO_DEADLINE });
    assert_eq!(claim(fixture, at(1_000_000), Some(codes("new"))), nothing(), "it waits for an event");
}

fn holding_is_answered_again_the_same_way(fixture: &Fixture<'_>) {
    let run = fixture.running(at(1), "run_1");
    let step = Command::RecordStep { run: run.id.clone(), token: run.token, step: done_step("a") };
    fixture.ok(at(1), step);
    let command = super::super::fixture::end(
        &run.id,
        run.token,
        Completion::Held { code: text("old"), note: text("held") },
    );
    let first = fixture.ok(at(2), command.clone());
    assert_eq!(fixture.ok(at(3), command), first);
    assert_eq!(fixture.run(&run.id).refused_by.as_deref(), Some("old"));
}
