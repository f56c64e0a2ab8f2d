//! Parents that their child's completion did not wake: an earlier release left such rows.

use super::*;
use std::collections::BTreeSet;

/// Runs that wait for a child, with no child left that could wake them.
fn stuck(store: &MemoryStore, ids: &[&str]) -> BTreeSet<RunId> {
    let time = at("11:00:00");
    let mut dead = Worker::new(store, "dead", "11:00:00");
    dead.tick();
    for id in ids {
        let mut new = crate::store::fixture::new_run(id);
        (new.project, new.workflow, new.available_at) = (PROJECT.into(), "wf".into(), time);
        new.claim_for = Some(dead.engine.worker().clone());
        store.commit(&[Command::CreateRun(Box::new(new))], time).unwrap().remove(0).unwrap();
        let run = run(store, &RunId::from(*id));
        let ending = Completion::Parked { wakes_at: Timestamp::MAX };
        let end = crate::store::fixture::end(&run.id, run.token, ending);
        store.commit(&[end], time).unwrap().remove(0).unwrap();
    }
    let leave = Command::DeregisterWorker { worker: dead.engine.worker().clone() };
    store.commit(&[leave], time).unwrap().remove(0).unwrap();
    ids.iter().map(|id| RunId::from(*id)).collect()
}

fn is_notice(notice: &Notice) -> bool {
    matches!(notice, Notice::WokeParents(_))
}

#[test]
fn a_worker_wakes_stuck_parents_when_it_starts_and_reports_it_once() {
    let store = MemoryStore::new();
    let runs = stuck(&store, &["run_1", "run_2", "run_3"]);
    // In pages of two.
    let mut worker = Worker::with(&store, EngineConfig { batch_max: 2, ..config("w") }, "12:00:00");
    worker.tick();
    worker.until("12:00:10");
    let started: BTreeSet<_> = worker.started.iter().map(|claimed| claimed.run.id.clone()).collect();
    assert_eq!(started, runs);
    assert!(worker.notices.contains(&Notice::WokeParents(3)), "{:?}", worker.notices);
    worker.until("12:40:00");
    assert_eq!(worker.count_notices(is_notice), 1);
}

#[test]
fn parents_that_wait_rightly_do_not_hide_those_behind_them() {
    let store = MemoryStore::new();
    stuck(&store, &["run_1", "run_2", "run_3"]);
    for parent in ["run_1", "run_2"] {
        let mut child = crate::store::fixture::new_run(&format!("child_of_{parent}"));
        (child.project, child.workflow) = (PROJECT.into(), "of nobody".into());
        child.parent = Some(parent.into());
        store.commit(&[Command::CreateRun(Box::new(child))], at("11:00:01")).unwrap().remove(0).unwrap();
    }
    let mut worker = Worker::with(&store, EngineConfig { batch_max: 2, ..config("w") }, "12:00:00");
    worker.until("12:00:10");
    let started: Vec<_> = worker.started.iter().map(|claimed| claimed.run.id.as_str()).collect();
    assert_eq!(started, ["run_3"]);
}

#[test]
fn a_parent_that_gets_stuck_while_a_worker_runs_is_woken_within_minutes() {
    let store = MemoryStore::new();
    let mut worker = Worker::new(&store, "w", "11:00:00");
    worker.tick();
    stuck(&store, &["run_1"]);
    worker.until("11:11:00");
    assert_eq!(worker.started.len(), 1);
    assert_eq!(worker.count_notices(is_notice), 1);
}

#[test]
fn a_worker_writes_nothing_when_no_parent_is_stuck() {
    let store = MemoryStore::new();
    let mut worker = Worker::new(&store, "w", "12:00:00");
    worker.tick();
    worker.take_commands();
    worker.until("12:30:00");
    assert!(worker.take_commands().is_empty());
    assert_eq!(worker.count_notices(is_notice), 0);
}
