//! Low-priority work of a worker: recomputing next slots, and pruning.

use super::*;

/// Schedules whose stored next slots are wrong, as after a change of zone data.
fn misplaced(store: &MemoryStore, count: usize) -> Vec<ScheduleId> {
    let wrong = at("10:00:30");
    let permit = |number: usize| {
        let new = NewSchedule {
            next_slot: Some(wrong),
            ..declared(&format!("k{number}"), &every_minute(), at("09:59:00"))
        };
        let id = new.id.clone();
        store.commit(&[Command::UpsertSchedules(vec![new])], at("09:59:00")).unwrap().remove(0).unwrap();
        id
    };
    (0..count).map(permit).collect()
}

#[test]
fn next_slots_of_all_schedules_are_recomputed_batch_by_batch() {
    let store = MemoryStore::new();
    let ids = misplaced(&store, 5);
    let mut worker = Worker::with(&store, EngineConfig { batch_max: 2, ..config("a") }, "09:59:01");
    worker.tick();
    for id in &ids {
        assert_eq!(schedule(&store, id).next_slot, Some(at("10:00:00")), "{id}");
    }
    assert_eq!(worker.count_notices(|notice| *notice == Notice::Recomputed(5)), 1);
}

#[test]
fn a_paused_schedule_keeps_its_next_slot() {
    let store = MemoryStore::new();
    let id = misplaced(&store, 1).remove(0);
    set_status(&store, &id, ScheduleStatus::Paused, "09:59:00");
    Worker::new(&store, "a", "09:59:01").tick();
    assert_eq!(schedule(&store, &id).next_slot, Some(at("10:00:30")));
}

const DAY: Duration = Duration::from_secs(86_400);

/// Runs that completed at noon on the day before.
fn old_runs(store: &MemoryStore, count: usize) {
    let then = at("2026-03-01T12:00:00");
    for number in 0..count {
        let id = format!("old_{number}");
        let new = NewRun { available_at: then, ..new_run(&id) };
        let cancel = Command::CancelRun { project: PROJECT.into(), run: id.as_str().into() };
        let outcomes = store.commit(&[Command::CreateRun(Box::new(new)), cancel], then).unwrap();
        assert!(outcomes.iter().all(Result::is_ok));
    }
}

fn old_left(store: &MemoryStore) -> usize {
    runs(store).iter().filter(|run| run.id.as_str().starts_with("old_")).count()
}

fn pruner(store: &MemoryStore, retention: Option<Duration>) -> Worker {
    let config = EngineConfig { retention, batch_max: 2, ..config("a") };
    let mut worker = Worker::with(store, config, "12:30:00");
    // A run completes, so that there is a reason to prune.
    let new = NewRun { available_at: at("12:30:00"), workflow: "wf".into(), ..new_run("run_1") };
    store.commit(&[Command::CreateRun(Box::new(new))], at("12:30:00")).unwrap().remove(0).unwrap();
    worker.hear(Message::Added).tick();
    let run = worker.started[0].run.clone();
    worker.succeed(&run);
    worker
}

#[test]
fn old_runs_are_pruned_an_hour_after_the_start_and_all_of_them() {
    let store = MemoryStore::new();
    old_runs(&store, 5);
    let mut worker = pruner(&store, Some(DAY));
    worker.until("13:29:59");
    assert_eq!(old_left(&store), 5, "the clock of a machine that has just started may be wrong");
    worker.until("13:30:01");
    assert_eq!(old_left(&store), 0, "all of them, though two fit into a batch");
    assert!(store.run(PROJECT, &"run_1".into()).unwrap().is_some(), "it is younger than a day");
}

#[test]
fn a_run_that_is_queued_during_a_prune_waits_for_one_batch() {
    let store = MemoryStore::new();
    old_runs(&store, 7);
    let mut worker = pruner(&store, Some(DAY));
    worker.until("13:29:59").pause(Duration::from_secs(1));
    let is_prune = |command: &Command| matches!(command, Command::Prune { limit: 2, .. });
    let tick = |worker: &mut Worker| {
        worker.take_commands();
        worker.engine.tick(worker.clock.now());
        worker.take_commands()
    };
    assert_eq!(tick(&mut worker).iter().filter(|command| is_prune(command)).count(), 1);
    assert_eq!(old_left(&store), 5, "one batch a tick");
    let new = NewRun { available_at: worker.now(), workflow: "wf".into(), ..new_run("run_2") };
    store.commit(&[Command::CreateRun(Box::new(new))], worker.now()).unwrap().remove(0).unwrap();
    worker.hear(Message::Added);
    let commands = tick(&mut worker);
    let place = |is: &dyn Fn(&Command) -> bool| commands.iter().position(is);
    let claim = place(&|command| matches!(command, Command::ClaimRuns { .. }));
    assert!(claim.is_some() && claim < place(&is_prune), "{commands:?}");
    assert_eq!(old_left(&store), 3);
}

#[test]
fn without_a_retention_nothing_is_pruned() {
    let store = MemoryStore::new();
    old_runs(&store, 1);
    pruner(&store, None).until("15:00:00");
    assert_eq!(old_left(&store), 1);
}

#[test]
fn the_last_completed_run_is_pruned_once_it_is_old_enough_and_then_nothing_is_written() {
    let store = MemoryStore::new();
    let mut worker = pruner(&store, Some(DAY));
    worker.wait(DAY);
    assert!(store.run(PROJECT, &"run_1".into()).unwrap().is_some());
    worker.wait(Duration::from_secs(7_200));
    assert!(store.run(PROJECT, &"run_1".into()).unwrap().is_none());
    worker.take_commands();
    worker.wait(3 * DAY);
    assert!(worker.take_commands().is_empty(), "there is no reason to prune again");
}

#[test]
fn without_a_completed_run_nothing_is_pruned() {
    let store = MemoryStore::new();
    old_runs(&store, 1);
    let config = EngineConfig { retention: Some(DAY), ..config("a") };
    Worker::with(&store, config, "12:30:00").until("15:00:00");
    assert_eq!(old_left(&store), 1);
}
