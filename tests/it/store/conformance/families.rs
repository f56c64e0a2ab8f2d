//! Parents and children that different workers execute, and parents that nothing would wake.

use super::super::fixture::{
    Fixture, PROJECT, at, end, everything, failed, new_run, new_worker, succeeded, text,
};
use super::cases;
use polos::calendar::Timestamp;
use polos::model::{
    Completion, NewRun, Origin, RunId, RunState, Token, WorkerEntry, WorkerId, WorkflowEntry,
};
use polos::store::{Answer, Command, Page, Suspects, WaitingParent};

cases! {
    a_child_on_another_worker_wakes_its_parent,
    a_child_of_a_dead_worker_wakes_its_parent_when_it_has_ended_elsewhere,
    runs_that_wait_for_a_child_are_listed_page_by_page,
    a_parent_with_an_unfinished_child_is_not_stuck,
    stuck_parents_are_woken_and_nobody_else,
    a_woken_parent_can_be_claimed,
}

/// A run of `w` that `wkr_1` executes and that waits for a child, if it has any.
fn waiting(fixture: &Fixture<'_>, id: &str) -> RunId {
    let claim_for = Some(fixture.worker.clone());
    let id = fixture.create(at(0), NewRun { claim_for, ..new_run(id) });
    fixture.end(at(0), &id, Completion::Parked { wakes_at: Timestamp::MAX });
    id
}

/// A worker that executes the workflow `v` alone.
fn other_worker(fixture: &Fixture<'_>, id: &str) -> WorkerId {
    let workflows = vec![WorkflowEntry { id: text("v"), schedulable: false }];
    let entry = WorkerEntry { app: text("other.py"), workflows, ..new_worker(id) };
    fixture.ok(at(0), Command::RegisterWorker(Box::new(entry)));
    WorkerId::from(id)
}

fn child(fixture: &Fixture<'_>, parent: &RunId) -> RunId {
    let parent = Some(parent.clone());
    let (workflow, origin) = (text("v"), Origin::Child);
    fixture.create(at(0), NewRun { workflow, origin, parent, ..new_run("run_child") })
}

/// Has a worker claim what it can of workflow `v`.
fn claim(fixture: &Fixture<'_>, worker: &WorkerId) -> Vec<(RunId, Token)> {
    let command = Command::ClaimRuns {
        project: text(PROJECT),
        worker: worker.clone(),
        workflows: vec![text("v")],
        limit: 10,
        until: at(1),
        suspects: Suspects::Never,
        codes: None,
    };
    match fixture.ok(at(1), command) {
        Answer::Claimed(runs) => {
            runs.into_iter().map(|claimed| (claimed.run.id, claimed.run.token)).collect()
        }
        other => panic!("{other:?}"),
    }
}

fn listed(fixture: &Fixture<'_>, page: &Page) -> Vec<(String, bool)> {
    let parents = fixture.store.waiting_parents(PROJECT, page).unwrap();
    parents.into_iter().map(|parent| (parent.run.to_string(), parent.is_stuck)).collect()
}

fn wake(fixture: &Fixture<'_>, runs: &[&RunId]) -> Answer {
    let runs = runs.iter().map(|run| (*run).clone()).collect();
    fixture.ok(at(50), Command::WakeParents { project: text(PROJECT), runs })
}

fn a_child_on_another_worker_wakes_its_parent(fixture: &Fixture<'_>) {
    for ending in [succeeded(), failed(), Completion::Cancelled { error: None }] {
        let other = other_worker(fixture, "wkr_2");
        let parent = waiting(fixture, "run_parent");
        let child = child(fixture, &parent);
        assert_eq!(claim(fixture, &other), [(child.clone(), Token(1))]);
        fixture.ok(at(9), end(&child, Token(1), ending));
        assert_eq!((fixture.state(&parent), fixture.run(&parent).available_at), (RunState::Waiting, at(9)));
        // Out of the way of the next.
        let project = text(PROJECT);
        fixture.ok(at(9), Command::CancelRun { project: text(PROJECT), run: parent });
        fixture.ok(at(9), Command::Prune { project, before: at(10), keep: 0, limit: 10 });
    }
}

fn a_child_of_a_dead_worker_wakes_its_parent_when_it_has_ended_elsewhere(fixture: &Fixture<'_>) {
    let (dead, alive) = (other_worker(fixture, "wkr_2"), other_worker(fixture, "wkr_3"));
    let parent = waiting(fixture, "run_parent");
    let child = child(fixture, &parent);
    claim(fixture, &dead);
    fixture.ok(at(1), Command::DeregisterWorker { worker: dead });
    assert_eq!(fixture.run(&parent).available_at, Timestamp::MAX, "the child has not ended");
    assert_eq!(claim(fixture, &alive), [(child.clone(), Token(2))]);
    fixture.no(at(2), end(&child, Token(1), succeeded()));
    fixture.ok(at(3), end(&child, Token(2), succeeded()));
    assert_eq!(fixture.run(&parent).available_at, at(3));
}

fn runs_that_wait_for_a_child_are_listed_page_by_page(fixture: &Fixture<'_>) {
    for id in ["run_c", "run_a", "run_b"] {
        waiting(fixture, id);
    }
    let sleeping = fixture.running(at(0), "run_sleeping").id;
    fixture.end(at(0), &sleeping, Completion::Parked { wakes_at: at(99_999) });
    fixture.running(at(0), "run_running");
    fixture.create(at(0), new_run("run_queued"));
    let all = [("run_a".to_owned(), true), ("run_b".to_owned(), true), ("run_c".to_owned(), true)];
    assert_eq!(listed(fixture, &everything()), all);
    assert_eq!(listed(fixture, &Page { limit: 2, after: None }), all[..2]);
    assert_eq!(listed(fixture, &Page { limit: 2, after: Some("run_b".to_owned()) }), all[2..]);
    assert_eq!(fixture.store.waiting_parents("other", &everything()).unwrap(), []);
}

fn a_parent_with_an_unfinished_child_is_not_stuck(fixture: &Fixture<'_>) {
    let parent = waiting(fixture, "run_parent");
    child(fixture, &parent);
    let expected = [WaitingParent { run: parent, is_stuck: false }];
    assert_eq!(fixture.store.waiting_parents(PROJECT, &everything()).unwrap(), expected);
}

fn stuck_parents_are_woken_and_nobody_else(fixture: &Fixture<'_>) {
    let stuck = waiting(fixture, "run_stuck");
    let running = fixture.running(at(0), "run_running").id;
    let sleeping = fixture.running(at(0), "run_sleeping").id;
    fixture.end(at(0), &sleeping, Completion::Parked { wakes_at: at(99_999) });
    let over = fixture.running(at(0), "run_over").id;
    fixture.end(at(0), &over, succeeded());
    let gone = RunId::from("run_gone");
    let others = [&running, &sleeping, &over].map(|run| fixture.run(run));
    assert_eq!(wake(fixture, &[&stuck, &running, &sleeping, &over, &gone]), Answer::Count(1));
    assert_eq!((fixture.state(&stuck), fixture.run(&stuck).available_at), (RunState::Waiting, at(50)));
    for before in others {
        assert_eq!(fixture.run(&before.id), before);
    }
    assert_eq!(wake(fixture, &[&stuck]), Answer::Count(0), "a second time changes nothing");
    let runs = vec![waiting(fixture, "run_ours")];
    let foreign = Command::WakeParents { project: text("other"), runs };
    assert_eq!(fixture.ok(at(60), foreign), Answer::Count(0));
    // What ran meanwhile does not take this for the end of a child.
    fixture.end(at(70), &running, Completion::Parked { wakes_at: Timestamp::MAX });
    assert_eq!(fixture.run(&running).available_at, Timestamp::MAX);
}

fn a_woken_parent_can_be_claimed(fixture: &Fixture<'_>) {
    let stuck = waiting(fixture, "run_stuck");
    assert_eq!(fixture.claim(at(49)), []);
    wake(fixture, &[&stuck]);
    assert_eq!(fixture.store.next_work(PROJECT, &[text("w")], at(0)).unwrap().run, Some(at(50)));
    assert_eq!(fixture.claim(at(50))[0].run.id, stuck);
}
