//! What frees a permit, and which run gets it next.

use super::*;
use polos::engine::PermitPools;
use polos::model::Token;

fn invoked(store: &MemoryStore, id: &str, time: &str) {
    let new = NewRun { available_at: at(time), workflow: "wf".into(), ..new_run(id) };
    store.commit(&[Command::CreateRun(Box::new(new))], at(time)).unwrap().remove(0).unwrap();
}

fn with_one_permit(store: &MemoryStore) -> Worker {
    Worker::with(store, EngineConfig { concurrency: 1, ..config("a") }, "10:00:00")
}

fn ids_started(worker: &Worker) -> Vec<&str> {
    worker.started.iter().map(|claimed| claimed.run.id.as_str()).collect()
}

#[test]
fn a_buffered_run_starts_at_once_when_the_previous_one_completes() {
    let store = MemoryStore::new();
    create(&store, "k", &every_minute(), "10:00:30");
    let mut worker = Worker::new(&store, "a", "10:00:30");
    worker.until("10:02:00");
    assert_eq!(worker.slots_started(), ["10:01:00"]);
    let run = worker.started[0].run.clone();
    worker.succeed(&run);
    worker.tick();
    assert_eq!(worker.slots_started(), ["10:01:00", "10:02:00"], "not only at the next poll");
}

#[test]
fn a_fenced_run_gives_its_permit_back_and_its_handler_is_stopped() {
    let store = MemoryStore::new();
    invoked(&store, "run_1", "10:00:00");
    invoked(&store, "run_2", "10:00:00");
    let mut worker = with_one_permit(&store);
    worker.tick();
    assert_eq!(ids_started(&worker), ["run_1"]);
    let run = worker.started[0].run.clone();
    worker.hear(Message::Fenced { run: run.id.clone(), token: run.token }).tick();
    let stop = Stop { run: run.id, token: run.token, reason: StopReason::LeaseLost };
    assert_eq!(worker.stops, [stop]);
    assert_eq!(ids_started(&worker), ["run_1", "run_2"]);
}

#[test]
fn a_step_of_an_older_claim_that_was_fenced_stops_nothing() {
    let store = MemoryStore::new();
    invoked(&store, "run_1", "10:00:00");
    let mut worker = with_one_permit(&store);
    worker.tick();
    let run = worker.started[0].run.clone();
    worker.hear(Message::Fenced { run: run.id.clone(), token: Token(run.token.0 - 1) }).tick();
    assert_eq!(worker.stops, []);
    assert_eq!(worker.engine.held_count(), (1, 0));
}

#[test]
fn lost_claims_on_all_pages_start_in_order_and_those_of_others_do_not() {
    let store = MemoryStore::new();
    let config = EngineConfig { batch_max: 3, ..config("a") };
    let mut worker = Worker::with(&store, config, "09:59:59");
    worker.tick();
    // The order of ids differs from the order in which they were queued.
    for (id, time) in [("run_3", "10:00:00"), ("run_2", "10:00:01"), ("run_1", "10:00:02")] {
        invoked(&store, id, time);
    }
    // Another worker has one that is newer than they, and has waited for longer.
    let new = NewRun { available_at: at("09:59:00"), workflow: "wf".into(), ..new_run("run_other") };
    let late = at("10:00:02.5");
    store.commit(&[Command::CreateRun(Box::new(new))], late).unwrap().remove(0).unwrap();
    let one = EngineConfig { concurrency: 1, ..super::config("other") };
    let mut other = Worker::with(&store, one, "10:00:02.5");
    other.tick();
    assert_eq!(ids_started(&other), ["run_other"]);
    worker.clock.advance_to(at("10:00:03"));
    worker.engine.receive(Message::Changed, worker.clock.now());
    worker.store.trouble.lock().scripted.push_back(Some(Fault::After));
    worker.wait(Duration::from_secs(3));
    assert_eq!(ids_started(&worker), ["run_3", "run_2", "run_1"]);
}

#[test]
fn a_second_worker_of_the_process_lends_a_permit_when_the_first_has_none() {
    let store = MemoryStore::new();
    let mut full = with_one_permit(&store);
    invoked(&store, "run_1", "10:00:00");
    full.tick();
    let mut free = Worker::new(&store, "free", "10:00:00");
    free.tick();
    let offers = PermitPools::default();
    let (sender, _told) = crossbeam_channel::unbounded();
    offers.add(&full.engine.permits(), sender.clone());
    offers.add(&free.engine.permits(), sender);
    let (permit, _) = offers.reserve(PROJECT, "wf", Duration::ZERO).expect("there is one");
    assert_eq!(permit.worker(), free.engine.worker());
    permit.settle();
}

#[test]
fn a_schedule_that_the_store_rejects_for_good_is_marked_broken_once() {
    let store = MemoryStore::new();
    let id = create(&store, "k", &every_minute(), "10:00:30");
    let mut worker = Worker::new(&store, "a", "10:00:30");
    worker.tick();
    worker.store.trouble.lock().refuses = Some(|command| matches!(command, Command::Fire { .. }));
    worker.until("10:05:00");
    assert_eq!(schedule(&store, &id).status, ScheduleStatus::Broken);
    let is_broken = |notice: &Notice| matches!(notice, Notice::ScheduleBroken(..));
    assert_eq!(worker.count_notices(is_broken), 1);
}
