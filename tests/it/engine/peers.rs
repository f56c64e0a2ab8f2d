//! Workers that differ in their workflows and processes, and what each learns of the others.

use super::*;
use crate::store::fixture::new_worker;
use polos::model::WorkerEntry;

/// Executes only this workflow.
fn of_workflow(name: &str, workflow: &str) -> EngineConfig {
    let mut config = config(name);
    let (_, of_wf) = config.workflows.pop_first().unwrap();
    config.workflows = [(workflow.into(), of_wf)].into();
    config
}

#[test]
fn a_run_that_cancels_the_previous_one_stops_its_handler_at_once() {
    let store = MemoryStore::new();
    create(&store, "k", &json!({"cron": "* * * * *", "overlap": "cancel_running"}), "10:00:30");
    let mut worker = Worker::new(&store, "a", "10:00:30");
    worker.until("10:01:00");
    let first = worker.started[0].run.clone();
    worker.until("10:02:00");
    let stop = Stop { run: first.id.clone(), token: first.token, reason: StopReason::Cancelled };
    assert_eq!(worker.stops, [stop]);
}

#[test]
fn a_run_that_was_interrupted_beside_others_of_its_process_was_not_alone() {
    for (pids, was_alone) in [([1, 1], false), ([1, 2], true)] {
        let store = MemoryStore::new();
        let mut commands = Vec::new();
        for (name, pid) in ["a", "b"].into_iter().zip(pids) {
            let entry = WorkerEntry { pid, ..new_worker(&format!("wkr_{name}")) };
            let claim_for = Some(entry.id.clone());
            let id = format!("run_{name}");
            let new = NewRun { available_at: at("10:00:00"), claim_for, ..new_run(&id) };
            commands.push(Command::RegisterWorker(Box::new(entry)));
            commands.push(Command::CreateRun(Box::new(new)));
        }
        assert!(store.commit(&commands, at("10:00:00")).unwrap().iter().all(Result::is_ok));
        let mut heir = Worker::with(&store, of_workflow("heir", "third"), "10:00:01");
        heir.until("10:01:00");
        assert_eq!(heir.count_notices(|notice| matches!(notice, Notice::TookOver { .. })), 2);
        for id in ["run_a", "run_b"] {
            let run = run(&store, &id.into());
            assert_eq!((run.interruptions, run.interrupted_alone), (1, was_alone), "{id}");
        }
    }
}

#[test]
fn a_worker_with_an_unusable_store_stops_and_reports_it_once() {
    let store = MemoryStore::new();
    let mut worker = Worker::new(&store, "a", "10:00:30");
    worker.tick();
    {
        let mut trouble = worker.store.trouble.lock();
        (trouble.is_down, trouble.is_closed) = (true, true);
    }
    worker.wait(POLL * 2);
    assert!(worker.next.is_over && worker.engine.is_leaving());
    assert_eq!(worker.count_notices(|notice| matches!(notice, Notice::StoreLost(_))), 1);
}

#[test]
fn a_worker_of_other_workflows_decides_no_share_of_the_slots() {
    let store = MemoryStore::new();
    for number in 0..20 {
        create(&store, &format!("{number}"), &json!({"at_us": at("10:01:00").as_micros()}), "10:00:30");
    }
    let mut other = Worker::with(&store, of_workflow("a", "v"), "10:00:30");
    let mut alone = Worker::with(&store, roomy("b"), "10:00:30");
    together(&mut [&mut other, &mut alone], "10:00:59.6");
    assert_eq!((decisions(&other), decisions(&alone)), (0, 20), "it waits for nobody");
}

/// Removes a worker from the store, as another does that takes it for dead.
fn remove(store: &MemoryStore, worker: &Worker) {
    let removed = Command::DeregisterWorker { worker: worker.engine.worker().clone() };
    store.commit(&[removed], worker.now()).unwrap().remove(0).unwrap();
}

#[test]
fn a_refused_completion_tells_a_worker_at_once_that_it_has_expired() {
    let store = MemoryStore::new();
    create(&store, "k", &json!({"at_us": at("10:01:00").as_micros()}), "10:00:30");
    let mut worker = Worker::new(&store, "w", "10:00:30");
    worker.until("10:01:00");
    let run = worker.started[0].run.clone();
    // It has just looked for changes, and nothing is left to claim.
    worker.wait(Duration::from_secs(1));
    remove(&store, &worker);
    let cancel = Command::CancelRun { project: PROJECT.into(), run: run.id.clone() };
    store.commit(&[cancel], worker.now()).unwrap().remove(0).unwrap();
    let (run, token) = (run.id, run.token);
    worker.hear(Message::Settled { run, token, is_accepted: false, leaves_work: false }).tick();
    assert_eq!(worker.engine.worker().as_str(), "w2", "it has registered again");
}

#[test]
fn slots_that_are_missed_beside_a_refused_claim_are_told() {
    let store = MemoryStore::new();
    let every_five = json!({"every_us": 5_000_000, "catch_up": "none"});
    let late = create(&store, "late", &every_five, "10:00:30");
    create(&store, "due", &json!({"at_us": at("10:01:02").as_micros()}), "10:00:30");
    set_status(&store, &late, ScheduleStatus::Paused, "10:00:31");
    let mut worker = Worker::new(&store, "w", "10:00:40");
    worker.until("10:01:01");
    set_status(&store, &late, ScheduleStatus::Active, "10:01:01");
    remove(&store, &worker);
    worker.pause(Duration::from_millis(900)).hear(Message::Added).tick();
    assert_eq!(worker.engine.worker().as_str(), "w2", "the claim was refused");
    assert_eq!(worker.count_notices(|notice| matches!(notice, Notice::Missed(_))), 1);
}

#[test]
fn a_refused_heartbeat_tells_a_worker_that_it_has_expired() {
    let store = MemoryStore::new();
    create(&store, "k", &json!({"at_us": at("10:01:00").as_micros()}), "10:00:30");
    let rarely = EngineConfig { poll_interval: Duration::from_secs(600), ..config("w") };
    let mut worker = Worker::with(&store, rarely, "10:00:30");
    worker.until("10:01:00");
    remove(&store, &worker);
    worker.wait(LEASE);
    assert_eq!(worker.engine.worker().as_str(), "w2");
}
