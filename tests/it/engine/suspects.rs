//! Runs that have interrupted their workers repeatedly, and the runs beside them.

use super::*;

fn created(store: &MemoryStore, id: &str, time: &str) -> RunId {
    let mut new = crate::store::fixture::new_run(id);
    (new.project, new.workflow, new.available_at) = (PROJECT.into(), "wf".into(), at(time));
    store.commit(&[Command::CreateRun(Box::new(new))], at(time)).unwrap().remove(0).unwrap();
    RunId::from(id)
}

/// A worker claims all that it can, then dies.
fn die_with_all(store: &MemoryStore, time: &str) {
    let mut worker = Worker::with(store, roomy("dead"), time);
    worker.tick();
    let peers = store.peers(PROJECT).unwrap();
    let peer = peers.iter().find(|peer| peer.id.as_str() == "dead1").unwrap();
    let expire =
        Command::ExpireWorker { worker: peer.id.clone(), heartbeat: peer.heartbeat, shares_process: false };
    store.commit(&[expire], at(time)).unwrap().remove(0).unwrap();
}

/// Runs that were interrupted twice together.
fn suspects(store: &MemoryStore, ids: &[&str], time: &str) -> Vec<RunId> {
    let runs = ids.iter().map(|id| created(store, id, time)).collect();
    die_with_all(store, time);
    die_with_all(store, time);
    runs
}

fn started(worker: &mut Worker) -> Vec<String> {
    worker.tick();
    std::mem::take(&mut worker.started).iter().map(|claimed| claimed.run.id.to_string()).collect()
}

fn state(store: &MemoryStore, id: &RunId) -> RunState {
    run(store, id).state
}

#[test]
fn suspects_are_executed_one_at_a_time_with_nothing_beside_them() {
    let store = MemoryStore::new();
    let runs = suspects(&store, &["run_1", "run_2"], "10:00:00");
    created(&store, "run_3", "10:00:01");
    let mut worker = Worker::new(&store, "w", "10:00:02");
    assert_eq!(started(&mut worker), ["run_1"]);
    worker.wait(Duration::from_secs(20));
    assert_eq!(started(&mut worker), Vec::<String>::new());
    worker.succeed(&run(&store, &runs[0]));
    assert_eq!(started(&mut worker), ["run_2"], "the next suspect has waited for longer than the other run");
    worker.succeed(&run(&store, &runs[1]));
    assert_eq!(started(&mut worker), ["run_3"]);
    let told = worker.count_notices(|notice| matches!(notice, Notice::Suspect { is_alone: true, .. }));
    assert_eq!(told, 2);
}

#[test]
fn a_long_running_suspect_lets_other_runs_in() {
    let store = MemoryStore::new();
    let runs = suspects(&store, &["run_1", "run_2"], "10:00:00");
    created(&store, "run_3", "10:00:01");
    let mut worker = Worker::new(&store, "w", "10:00:02");
    assert_eq!(started(&mut worker), ["run_1"]);
    worker.until("10:01:01");
    assert_eq!(started(&mut worker), Vec::<String>::new());
    worker.until("10:01:02");
    assert_eq!(started(&mut worker), ["run_3"]);
    worker.wait(Duration::from_secs(600));
    assert_eq!(state(&store, &runs[1]), RunState::Queued, "never two suspects at once");
}

#[test]
fn a_suspect_that_records_a_step_is_no_longer_one() {
    let store = MemoryStore::new();
    suspects(&store, &["run_1", "run_2"], "10:00:00");
    created(&store, "run_3", "10:00:00");
    let mut worker = Worker::new(&store, "w", "10:00:02");
    assert_eq!(started(&mut worker), ["run_1"]);
    let held = run(&store, &RunId::from("run_1"));
    assert!(worker.engine.suspect_flag().load(std::sync::atomic::Ordering::Acquire));
    worker.hear(Message::Progressed { run: held.id.clone(), token: held.token });
    assert!(!worker.engine.suspect_flag().load(std::sync::atomic::Ordering::Acquire));
    assert_eq!(started(&mut worker), ["run_3"]);
}

#[test]
fn a_busy_worker_leaves_suspects_to_idle_ones_for_a_while() {
    let store = MemoryStore::new();
    suspects(&store, &["run_1"], "10:00:00");
    let mut busy = Worker::new(&store, "w", "09:59:00");
    created(&store, "run_0", "09:59:00");
    assert_eq!(started(&mut busy), ["run_0"]);
    busy.until("10:00:29");
    assert_eq!(started(&mut busy), Vec::<String>::new());
    busy.until("10:00:30");
    assert_eq!(started(&mut busy), ["run_1"]);
    created(&store, "run_2", "10:00:31");
    busy.hear(Message::Added);
    busy.until("10:00:31");
    assert_eq!(started(&mut busy), ["run_2"], "it was not alone anyway");
}

#[test]
fn slots_that_come_due_meanwhile_are_queued_for_others() {
    let store = MemoryStore::new();
    let runs = suspects(&store, &["run_1"], "10:00:00");
    let id = create(&store, "k", &json!({"at_us": at("10:00:10").as_micros()}), "10:00:00");
    let mut worker = Worker::new(&store, "w", "10:00:02");
    worker.until("10:00:11");
    assert_eq!(started(&mut worker), ["run_1"]);
    let slot = RunId::of_slot(&id, at("10:00:10"));
    assert_eq!(state(&store, &slot), RunState::Queued);
    assert!(worker.engine.permits().reserve(PROJECT, "wf", worker.clock.now().mono).unwrap().is_err());
    worker.succeed(&run(&store, &runs[0]));
    assert_eq!(started(&mut worker), [slot.to_string()]);
}

#[test]
fn a_worker_that_was_cut_off_clears_its_runs_of_the_interruption() {
    let store = MemoryStore::new();
    let id = created(&store, "run_1", "10:00:00");
    let mut cut_off = Worker::new(&store, "a", "10:00:00");
    assert_eq!(started(&mut cut_off), ["run_1"]);
    let mut heir = Worker::new(&store, "b", "10:00:00");
    heir.tick();
    heir.until("10:00:20");
    assert_eq!(run(&store, &id).interruptions, 1);
    cut_off.pause(Duration::from_secs(20));
    cut_off.tick();
    assert_eq!(cut_off.count_notices(|notice| matches!(notice, Notice::LeaseLost { .. })), 1);
    assert_eq!(run(&store, &id).interruptions, 0);
}

#[test]
fn an_expired_worker_counts_its_runs_as_interrupted() {
    let store = MemoryStore::new();
    let ids = ["run_1", "run_2"].map(|id| created(&store, id, "10:00:00"));
    let mut dead = Worker::new(&store, "a", "10:00:00");
    assert_eq!(started(&mut dead).len(), 2);
    let mut heir = Worker::new(&store, "b", "10:00:00");
    heir.until("10:00:20");
    assert_eq!(started(&mut heir).len(), 2);
    for id in &ids {
        let run = run(&store, id);
        assert_eq!((run.interruptions, run.interrupted_alone), (1, false));
    }
}
