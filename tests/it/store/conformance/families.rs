//! Parents and children that different workers execute, and parents that nothing would wake.

use super::super::fixture::{
    PROJECT, Stage, at, end, everything, failed, new_run, new_worker, succeeded, text,
};
use super::cases;
use polos::calendar::Timestamp;
use polos::model::{Ending, NewRun, Origin, RunId, RunState, Token, WorkerEntry, WorkerId, WorkflowEntry};
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
fn waiting(stage: &Stage<'_>, id: &str) -> RunId {
    let claim_for = Some(stage.worker.clone());
    let id = stage.create(at(0), NewRun { claim_for, ..new_run(id) });
    stage.end(at(0), &id, Ending::Parked { wakes_at: Timestamp::MAX });
    id
}

/// A worker that executes the workflow `v` alone.
fn other_worker(stage: &Stage<'_>, id: &str) -> WorkerId {
    let workflows = vec![WorkflowEntry { id: text("v"), schedulable: false }];
    let entry = WorkerEntry { app: text("other.py"), workflows, ..new_worker(id) };
    stage.ok(at(0), Command::EnterWorker(Box::new(entry)));
    WorkerId::from(id)
}

fn child(stage: &Stage<'_>, parent: &RunId) -> RunId {
    let parent = Some(parent.clone());
    let (workflow, origin) = (text("v"), Origin::Child);
    stage.create(at(0), NewRun { workflow, origin, parent, ..new_run("run_child") })
}

/// Has a worker claim what it can of workflow `v`.
fn claim(stage: &Stage<'_>, worker: &WorkerId) -> Vec<(RunId, Token)> {
    let command = Command::ClaimRuns {
        project: text(PROJECT),
        worker: worker.clone(),
        workflows: vec![text("v")],
        limit: 10,
        until: at(1),
        suspects: Suspects::Never,
        codes: None,
    };
    match stage.ok(at(1), command) {
        Answer::Claimed(runs) => {
            runs.into_iter().map(|claimed| (claimed.run.id, claimed.run.token)).collect()
        }
        other => panic!("{other:?}"),
    }
}

fn listed(stage: &Stage<'_>, page: &Page) -> Vec<(String, bool)> {
    let parents = stage.store.waiting_parents(PROJECT, page).unwrap();
    parents.into_iter().map(|parent| (parent.run.to_string(), parent.is_stuck)).collect()
}

fn wake(stage: &Stage<'_>, runs: &[&RunId]) -> Answer {
    let runs = runs.iter().map(|run| (*run).clone()).collect();
    stage.ok(at(50), Command::WakeParents { project: text(PROJECT), runs })
}

fn a_child_on_another_worker_wakes_its_parent(stage: &Stage<'_>) {
    for ending in [succeeded(), failed(), Ending::Cancelled { error: None }] {
        let other = other_worker(stage, "wkr_2");
        let parent = waiting(stage, "run_parent");
        let child = child(stage, &parent);
        assert_eq!(claim(stage, &other), [(child.clone(), Token(1))]);
        stage.ok(at(9), end(&child, Token(1), ending));
        assert_eq!((stage.state(&parent), stage.run(&parent).available_at), (RunState::Waiting, at(9)));
        // Out of the way of the next.
        let project = text(PROJECT);
        stage.ok(at(9), Command::CancelRun { project: text(PROJECT), run: parent });
        stage.ok(at(9), Command::Sweep { project, before: at(10), keep: 0, limit: 10 });
    }
}

fn a_child_of_a_dead_worker_wakes_its_parent_when_it_has_ended_elsewhere(stage: &Stage<'_>) {
    let (dead, alive) = (other_worker(stage, "wkr_2"), other_worker(stage, "wkr_3"));
    let parent = waiting(stage, "run_parent");
    let child = child(stage, &parent);
    claim(stage, &dead);
    stage.ok(at(1), Command::LeaveWorker { worker: dead });
    assert_eq!(stage.run(&parent).available_at, Timestamp::MAX, "the child has not ended");
    assert_eq!(claim(stage, &alive), [(child.clone(), Token(2))]);
    stage.no(at(2), end(&child, Token(1), succeeded()));
    stage.ok(at(3), end(&child, Token(2), succeeded()));
    assert_eq!(stage.run(&parent).available_at, at(3));
}

fn runs_that_wait_for_a_child_are_listed_page_by_page(stage: &Stage<'_>) {
    for id in ["run_c", "run_a", "run_b"] {
        waiting(stage, id);
    }
    let sleeping = stage.running(at(0), "run_sleeping").id;
    stage.end(at(0), &sleeping, Ending::Parked { wakes_at: at(99_999) });
    stage.running(at(0), "run_running");
    stage.create(at(0), new_run("run_queued"));
    let all = [("run_a".to_owned(), true), ("run_b".to_owned(), true), ("run_c".to_owned(), true)];
    assert_eq!(listed(stage, &everything()), all);
    assert_eq!(listed(stage, &Page { limit: 2, after: None }), all[..2]);
    assert_eq!(listed(stage, &Page { limit: 2, after: Some("run_b".to_owned()) }), all[2..]);
    assert_eq!(stage.store.waiting_parents("other", &everything()).unwrap(), []);
}

fn a_parent_with_an_unfinished_child_is_not_stuck(stage: &Stage<'_>) {
    let parent = waiting(stage, "run_parent");
    child(stage, &parent);
    let expected = [WaitingParent { run: parent, is_stuck: false }];
    assert_eq!(stage.store.waiting_parents(PROJECT, &everything()).unwrap(), expected);
}

fn stuck_parents_are_woken_and_nobody_else(stage: &Stage<'_>) {
    let stuck = waiting(stage, "run_stuck");
    let running = stage.running(at(0), "run_running").id;
    let sleeping = stage.running(at(0), "run_sleeping").id;
    stage.end(at(0), &sleeping, Ending::Parked { wakes_at: at(99_999) });
    let over = stage.running(at(0), "run_over").id;
    stage.end(at(0), &over, succeeded());
    let gone = RunId::from("run_gone");
    let others = [&running, &sleeping, &over].map(|run| stage.run(run));
    assert_eq!(wake(stage, &[&stuck, &running, &sleeping, &over, &gone]), Answer::Count(1));
    assert_eq!((stage.state(&stuck), stage.run(&stuck).available_at), (RunState::Waiting, at(50)));
    for before in others {
        assert_eq!(stage.run(&before.id), before);
    }
    assert_eq!(wake(stage, &[&stuck]), Answer::Count(0), "a second time changes nothing");
    let runs = vec![waiting(stage, "run_ours")];
    let foreign = Command::WakeParents { project: text("other"), runs };
    assert_eq!(stage.ok(at(60), foreign), Answer::Count(0));
    // What ran meanwhile does not take this for the end of a child.
    stage.end(at(70), &running, Ending::Parked { wakes_at: Timestamp::MAX });
    assert_eq!(stage.run(&running).available_at, Timestamp::MAX);
}

fn a_woken_parent_can_be_claimed(stage: &Stage<'_>) {
    let stuck = waiting(stage, "run_stuck");
    assert_eq!(stage.claim(at(49)), []);
    wake(stage, &[&stuck]);
    assert_eq!(stage.store.next_wake(PROJECT, &[text("w")]).unwrap().run, Some(at(50)));
    assert_eq!(stage.claim(at(50))[0].run.id, stuck);
}
