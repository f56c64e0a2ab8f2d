//! Runs that are claimed by the commit that creates them.

use super::*;
use polos::engine::Permit;
use polos::model::Token;

/// A run about to be created in the worker's process, with the permit that it gets.
fn reserved(worker: &Worker, id: &str) -> (Command, Option<Permit>) {
    let now = worker.clock.now();
    let permit = worker.engine.permits().reserve(PROJECT, "wf", now.mono).expect("it executes that").ok();
    let mut new = crate::store::fixture::new_run(id);
    (new.project, new.workflow, new.available_at) = (PROJECT.into(), "wf".into(), now.wall);
    new.claim_for = permit.as_ref().map(|permit| permit.worker().clone());
    (Command::CreateRun(Box::new(new)), permit)
}

/// Commits it, and returns the message for the worker.
fn commit(worker: &Worker, (command, permit): (Command, Option<Permit>)) -> Message {
    let outcome = worker.store.inner.commit(std::slice::from_ref(&command), worker.now()).unwrap().remove(0);
    match (outcome, permit) {
        (Ok(Answer::Created { claimed: Some(run), .. }), Some(permit)) => Message::Claimed {
            run: Box::new(ClaimedRun { run: *run, journal: Vec::new(), is_first: true }),
            permit,
        },
        (outcome, permit) => {
            permit.into_iter().for_each(Permit::settle);
            Message::news_of(&command, &outcome).expect("a queued run is news")
        }
    }
}

fn created(worker: &mut Worker, id: &str) {
    let message = commit(worker, reserved(worker, id));
    worker.hear(message);
}

fn claims(worker: &Worker) -> usize {
    worker.take_commands().iter().filter(|command| matches!(command, Command::ClaimRuns { .. })).count()
}

#[test]
fn a_run_created_in_the_process_starts_without_another_commit() {
    let store = MemoryStore::new();
    let mut worker = Worker::new(&store, "w", "12:00:00");
    worker.tick();
    worker.take_commands();
    created(&mut worker, "run_1");
    worker.tick();
    assert_eq!(worker.started.len(), 1);
    assert!(worker.take_commands().is_empty(), "who created it has written all there is");
    let run = worker.started[0].run.clone();
    worker.succeed(&run);
    assert_eq!(super::run(&store, &run.id).state, RunState::Succeeded);
    assert_eq!(worker.tick().engine.held_count(), (0, 0));
}

/// How often a worker tries to claim after it has heard that runs were added.
fn claims_when_added(worker: &mut Worker) -> usize {
    worker.take_commands();
    worker.hear(Message::Added);
    worker.tick();
    claims(worker)
}

#[test]
fn a_worker_claims_without_looking_first_as_long_as_it_finds_runs() {
    let store = MemoryStore::new();
    let mut worker = Worker::new(&store, "w", "12:00:00");
    worker.tick();
    assert_eq!(claims_when_added(&mut worker), 0, "it looked, and there was nothing");
    let mut new = crate::store::fixture::new_run("run_1");
    (new.project, new.workflow, new.available_at) = (PROJECT.into(), "wf".into(), worker.now());
    commit(&worker, (Command::CreateRun(Box::new(new)), None));
    assert_eq!(claims_when_added(&mut worker), 1);
    assert_eq!(worker.started.len(), 1);
    assert_eq!(claims_when_added(&mut worker), 1, "the last claim found a run");
    assert_eq!(claims_when_added(&mut worker), 0, "the last claim found none");
}

#[test]
fn no_permit_is_lent_before_registration_or_while_draining() {
    let store = MemoryStore::new();
    let mut worker = Worker::new(&store, "w", "12:00:00");
    assert!(reserved(&worker, "run_1").1.is_none());
    worker.tick();
    assert!(reserved(&worker, "run_1").1.is_some());
    assert!(
        worker.engine.permits().reserve(PROJECT, "other", Duration::ZERO).is_none(),
        "of that it knows nothing"
    );
    assert!(worker.engine.permits().reserve("other", "wf", Duration::ZERO).is_none());
    worker.hear(Message::Drain);
    assert!(reserved(&worker, "run_1").1.is_none());
}

#[test]
fn lent_permits_count_towards_the_concurrency_limit() {
    let store = MemoryStore::new();
    let mut worker = Worker::with(&store, EngineConfig { concurrency: 3, ..config("w") }, "11:59:30");
    for key in ["a", "b", "c"] {
        create(&store, key, &every_minute(), "11:59:30");
    }
    worker.tick();
    let first = reserved(&worker, "run_1");
    let second = reserved(&worker, "run_2");
    // Two permits are lent; one slot gets the third.
    worker.until("12:00:00");
    assert_eq!(worker.started.len(), 1);
    assert!(reserved(&worker, "run_3").1.is_none());
    for pair in [first, second] {
        let message = commit(&worker, pair);
        worker.hear(message).tick();
    }
    assert_eq!(worker.started.len(), 3);
    // A permit becomes free, and the queued run is older than the new one.
    let run = worker.started[1].run.clone();
    worker.succeed(&run);
    worker.tick();
    assert_eq!(worker.started.len(), 4);
    assert_eq!(worker.started[3].run.slot, Some(at("12:00:00")));
}

#[test]
fn a_new_run_does_not_overtake_a_queued_one() {
    let store = MemoryStore::new();
    let mut worker = Worker::with(&store, EngineConfig { concurrency: 1, ..config("w") }, "12:00:00");
    worker.tick();
    created(&mut worker, "run_1");
    worker.tick();
    created(&mut worker, "run_2");
    worker.tick();
    // Its permit is free, and the engine has not ticked since: run_2 precedes new callers.
    let run = worker.started[0].run.clone();
    worker.succeed(&run);
    assert!(reserved(&worker, "run_3").1.is_none());
    worker.tick();
    assert_eq!(worker.started.last().unwrap().run.id.as_str(), "run_2");
}

#[test]
fn a_queued_run_gets_a_permit_before_a_later_one() {
    let store = MemoryStore::new();
    let mut worker = Worker::with(&store, EngineConfig { concurrency: 2, ..config("w") }, "12:00:00");
    let reserve = |worker: &Worker| worker.engine.permits().reserve(PROJECT, "wf", Duration::ZERO).unwrap();
    // The worker has not registered: two runs are queued.
    let lines = [reserve(&worker).expect_err("closed"), reserve(&worker).expect_err("closed")];
    worker.tick();
    assert!(reserve(&worker).is_err(), "their runs are being created, and there is room for two");
    for id in ["run_1", "run_2"] {
        let mut new = crate::store::fixture::new_run(id);
        (new.project, new.workflow, new.available_at) = (PROJECT.into(), "wf".into(), worker.now());
        store.commit(&[Command::CreateRun(Box::new(new))], worker.now()).unwrap().remove(0).unwrap();
    }
    drop(lines);
    assert!(reserve(&worker).is_err(), "they are queued, and the worker has not looked");
    worker.tick();
    let started: Vec<_> = worker.started.iter().map(|claimed| claimed.run.id.as_str()).collect();
    assert_eq!(started, ["run_1", "run_2"], "found without being told");
    let run = worker.started[0].run.clone();
    worker.succeed(&run);
    worker.tick();
    assert!(reserve(&worker).is_ok());
}

#[test]
fn a_lent_claim_with_a_lost_reply_is_recovered_and_starts_once() {
    let store = MemoryStore::new();
    let mut worker = Worker::new(&store, "w", "12:00:00");
    worker.tick();
    let heard = reserved(&worker, "run_heard");
    let (command, permit) = reserved(&worker, "run_lost");
    store.commit(&[command], worker.now()).unwrap().remove(0).unwrap();
    // The connection was cut: the outcome of the commit is unknown.
    drop(permit);
    let message = commit(&worker, heard);
    worker.tick();
    assert!(worker.started.is_empty(), "one of the two is on its way and must not be found as well");
    assert!(reserved(&worker, "run_more").1.is_none());
    worker.hear(message).tick();
    let mut started: Vec<_> = worker.started.iter().map(|claimed| claimed.run.id.to_string()).collect();
    started.sort_unstable();
    assert_eq!(started, ["run_heard", "run_lost"]);
    assert!(reserved(&worker, "run_more").1.is_some());
}

#[test]
fn a_definite_failure_triggers_no_search_for_claims() {
    let store = MemoryStore::new();
    let mut worker = Worker::new(&store, "w", "12:00:00");
    worker.tick();
    let (_, permit) = reserved(&worker, "run_1");
    permit.unwrap().settle();
    worker.store.trouble.lock().reads = 1_000;
    assert_eq!(worker.tick().notices.len(), 1, "nothing was read: {:?}", worker.notices);
}

#[test]
fn a_claim_that_arrives_late_is_verified_before_it_starts() {
    let store = MemoryStore::new();
    let (mut worker, mut other) =
        (Worker::new(&store, "a", "12:00:00"), Worker::new(&store, "b", "12:00:00"));
    together(&mut [&mut worker, &mut other], "12:00:10");
    let message = commit(&worker, reserved(&worker, "run_1"));
    // The machine sleeps; the other worker expires this one.
    worker.pause(LEASE * 2);
    other.until("12:00:40");
    assert_eq!(other.started.len(), 1);
    worker.hear(message);
    assert!(worker.door.take().is_empty(), "nobody knows whether it is ours");
    worker.tick();
    assert!(worker.started.is_empty());
    assert_eq!(worker.engine.held_count(), (0, 0));
}

#[test]
fn a_lent_claim_counts_as_a_heartbeat_from_when_its_permit_was_taken() {
    let store = MemoryStore::new();
    let mut worker = Worker::new(&store, "w", "12:00:00");
    worker.until("12:00:20");
    let asked_at = worker.clock.now().mono;
    let message = commit(&worker, reserved(&worker, "run_1"));
    worker.pause(Duration::from_secs(7)).hear(message);
    let seen = worker.engine.last_alive().load(std::sync::atomic::Ordering::Acquire);
    assert_eq!(u128::from(seen), asked_at.as_micros());
    worker.take_commands();
    worker.tick();
    assert_eq!(
        worker.take_commands().iter().filter(|command| is_beat(command)).count(),
        1,
        "that was long ago"
    );
}

#[test]
fn a_claim_under_the_former_worker_id_is_not_accepted() {
    let store = MemoryStore::new();
    let mut worker = Worker::new(&store, "w", "12:00:00");
    worker.tick();
    let message = commit(&worker, reserved(&worker, "run_1"));
    worker.hear(Message::RollbackDetected).hear(message).tick();
    assert!(worker.started.is_empty());
    assert_eq!(worker.engine.held_count(), (0, 0));
    for number in 0..10 {
        assert!(reserved(&worker, &format!("run_more_{number}")).1.is_some(), "no place was lost");
    }
}

#[test]
fn a_claim_given_back_by_a_deregistration_without_a_reply_must_not_start() {
    let store = MemoryStore::new();
    let mut worker = Worker::new(&store, "w", "12:00:00");
    worker.tick();
    let message = commit(&worker, reserved(&worker, "run_1"));
    worker.store.trouble.lock().after = 1_000;
    worker.hear(message).hear(Message::Deregister).tick();
    assert_eq!(run(&store, &"run_1".into()).state, RunState::Queued);
    assert!(!worker.next.is_over && worker.engine.is_leaving(), "it tries again, and starts nothing");
    worker.store.trouble.lock().after = 0;
    worker.wait(POLL);
    assert!(worker.next.is_over && worker.engine.is_leaving());
}

#[test]
fn a_cancellation_that_arrives_before_the_claim_reaches_the_handler() {
    let store = MemoryStore::new();
    let mut worker = Worker::new(&store, "w", "12:00:00");
    worker.tick();
    let message = commit(&worker, reserved(&worker, "run_1"));
    let cancel = Command::CancelRun { project: PROJECT.into(), run: RunId::from("run_1") };
    store.commit(&[cancel], worker.now()).unwrap().remove(0).unwrap();
    worker.hear(Message::Changed).tick();
    assert!(worker.stops.is_empty());
    worker.hear(message).tick();
    assert_eq!(worker.started.len(), 1);
    assert_eq!(worker.stops.len(), 1);
}

#[test]
fn a_draining_worker_gives_back_lent_claims() {
    let store = MemoryStore::new();
    let mut worker = Worker::new(&store, "w", "12:00:00");
    worker.tick();
    let message = commit(&worker, reserved(&worker, "run_1"));
    worker.hear(Message::Drain).hear(message).tick();
    assert!(worker.started.is_empty());
    assert_eq!(super::run(&store, &RunId::from("run_1")).state, RunState::Queued);
}

#[test]
fn without_a_lent_permit_the_run_is_claimed_from_the_queue() {
    let store = MemoryStore::new();
    let mut worker = Worker::new(&store, "w", "12:00:00");
    worker.tick();
    let (mut command, permit) = reserved(&worker, "run_1");
    if let Command::CreateRun(new) = &mut command {
        new.claim_for = None;
    }
    let message = commit(&worker, (command, permit));
    worker.take_commands();
    worker.hear(message).tick();
    assert_eq!((worker.started.len(), claims(&worker)), (1, 1));
}

// ---- handlers that wait for other runs -------------------------------------------------------

fn blocked(run: &Run) -> Message {
    Message::Blocked { run: run.id.clone(), token: run.token }
}

fn unblocked(run: &Run) -> Message {
    Message::Unblocked { run: run.id.clone(), token: run.token }
}

/// A worker with one permit, a run in progress that holds it, and another run in the queue.
fn crowded(store: &MemoryStore, config: EngineConfig) -> (Worker, Run) {
    let mut worker = Worker::with(store, EngineConfig { concurrency: 1, ..config }, "12:00:00");
    worker.tick();
    created(&mut worker, "run_1");
    worker.tick();
    created(&mut worker, "run_2");
    worker.tick();
    assert_eq!(worker.started.len(), 1);
    let run = worker.started[0].run.clone();
    (worker, run)
}

#[test]
fn a_waiting_handler_leaves_its_permit_to_another_run() {
    let store = MemoryStore::new();
    let (mut worker, first) = crowded(&store, config("w"));
    worker.hear(blocked(&first)).tick();
    assert_eq!(worker.started.len(), 2, "run_2 has the permit of run_1");
    assert_eq!(worker.engine.held_count(), (2, 0));
    created(&mut worker, "run_3");
    worker.tick();
    assert_eq!(worker.started.len(), 2, "it is one permit");
    let second = worker.started[1].run.clone();
    worker.hear(unblocked(&first)).tick();
    worker.succeed(&second);
    worker.tick();
    assert_eq!(worker.started.len(), 2, "run_1 has taken its permit back");
    worker.succeed(&first);
    worker.tick();
    assert_eq!(worker.started.len(), 3);
}

#[test]
fn a_run_that_completes_while_its_handler_waits_gives_its_permit_back_once() {
    let store = MemoryStore::new();
    let (mut worker, first) = crowded(&store, config("w"));
    worker.hear(blocked(&first)).tick();
    worker.succeed(&first);
    worker.hear(unblocked(&first)).tick();
    created(&mut worker, "run_3");
    worker.tick();
    assert_eq!(worker.started.len(), 2, "run_2 has the only permit");
    let second = worker.started[1].run.clone();
    worker.succeed(&second);
    worker.tick();
    assert_eq!(worker.started.len(), 3);
}

#[test]
fn a_waiting_handler_is_stopped_at_its_timeout() {
    let store = MemoryStore::new();
    let mut config = config("w");
    config.workflows.get_mut("wf").unwrap().timeout = Some(Duration::from_secs(60));
    let (mut worker, first) = crowded(&store, config);
    worker.hear(blocked(&first)).wait(Duration::from_secs(61));
    assert!(worker.stops.iter().any(|stop| stop.run == first.id && stop.reason == StopReason::TimedOut));
}

#[test]
fn messages_of_a_former_claim_are_ignored() {
    let store = MemoryStore::new();
    let (mut worker, first) = crowded(&store, config("w"));
    let stale = Run { token: Token(first.token.0 + 1), ..first.clone() };
    worker.hear(blocked(&stale)).tick();
    assert_eq!(worker.started.len(), 1);
    worker.hear(blocked(&first)).hear(blocked(&first)).hear(unblocked(&stale)).tick();
    assert_eq!(worker.started.len(), 2);
}
