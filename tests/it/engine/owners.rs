//! Retiring schedules that code no longer declares, while workers register and deregister.

use super::*;
use polos::model::ScheduleLabel;

/// A worker of application `app` that declares these schedules, each every minute.
fn declaring(store: &MemoryStore, name: &str, keys: &[&str], time: &str) -> Worker {
    let declared = keys
        .iter()
        .map(|key| NewSchedule { owner: Some("app".into()), ..declared(key, &every_minute(), at(time)) })
        .collect();
    Worker::with(store, EngineConfig { declared, ..roomy(name) }, time)
}

fn status(store: &MemoryStore, key: &str) -> ScheduleStatus {
    schedule(store, &ScheduleId::from(format!("sch_{key}"))).status
}

fn label(key: &str) -> ScheduleLabel {
    ScheduleLabel { id: format!("sch_{key}").into(), workflow: "wf".into(), key: key.into() }
}

fn retired(worker: &Worker) -> Vec<ScheduleLabel> {
    let of_notice = |notice: &Notice| match notice {
        Notice::Retired { schedules, .. } => schedules.clone(),
        _ => Vec::new(),
    };
    worker.notices.iter().flat_map(of_notice).collect()
}

fn protected(worker: &Worker) -> usize {
    worker.count_notices(|notice| matches!(notice, Notice::Protected { .. }))
}

/// Completes all started runs, as handlers would, so that the worker is idle.
fn finish_all(worker: &mut Worker) {
    for claimed in std::mem::take(&mut worker.started) {
        worker.succeed(&claimed.run);
    }
    worker.tick();
}

#[test]
fn a_rolling_deploy_retires_when_the_last_old_worker_has_left() {
    let store = MemoryStore::new();
    let mut old = declaring(&store, "old", &["kept", "dropped"], "10:00:10");
    old.until("10:00:20");
    let mut new = declaring(&store, "new", &["kept"], "10:00:20");
    together(&mut [&mut old, &mut new], "10:00:40");
    assert_eq!((status(&store, "dropped"), protected(&new)), (ScheduleStatus::Active, 1));

    old.hear(Message::Deregister).tick();
    new.until("10:00:54");
    assert_eq!(status(&store, "dropped"), ScheduleStatus::Active, "it may only be restarting");
    new.until("10:01:05");
    assert_eq!(retired(&new), [label("dropped")]);
    assert_eq!(
        (status(&store, "dropped"), status(&store, "kept")),
        (ScheduleStatus::Retired, ScheduleStatus::Active)
    );
    new.until("10:10:00");
    assert_eq!((retired(&new).len(), protected(&new)), (1, 1), "each is said once");
}

#[test]
fn a_restart_of_the_old_worker_retires_nothing() {
    let store = MemoryStore::new();
    let mut old = declaring(&store, "old", &["dropped"], "10:00:10");
    old.until("10:00:20");
    let mut new = declaring(&store, "new", &[], "10:00:20");
    together(&mut [&mut old, &mut new], "10:00:40");
    for round in 0..5 {
        old.hear(Message::Deregister).tick();
        let restarted_at = format!("10:00:{}", 43 + 3 * round);
        new.until(&restarted_at);
        old = declaring(&store, &format!("old{round}"), &["dropped"], &restarted_at);
        together(&mut [&mut old, &mut new], &format!("10:00:{}", 44 + 3 * round));
    }
    together(&mut [&mut old, &mut new], "10:00:59");
    assert_eq!((status(&store, "dropped"), retired(&new)), (ScheduleStatus::Active, Vec::new()));
}

#[test]
fn a_dead_worker_without_runs_does_not_protect_forever() {
    let store = MemoryStore::new();
    let mut old = declaring(&store, "old", &["dropped"], "10:00:10");
    old.until("10:00:20");
    set_status(&store, &"sch_dropped".into(), ScheduleStatus::Paused, "10:00:20");
    let mut new = declaring(&store, "new", &[], "10:00:20");
    // Both are live: the schedule is kept, however long nothing happens.
    together(&mut [&mut old, &mut new], "10:20:00");
    assert_eq!(status(&store, "dropped"), ScheduleStatus::Paused);
    drop(old);
    new.until("10:22:00");
    assert_eq!(status(&store, "dropped"), ScheduleStatus::Paused);
    new.until("10:24:00");
    assert_eq!((status(&store, "dropped"), retired(&new)), (ScheduleStatus::Retired, vec![label("dropped")]));
}

#[test]
fn a_dead_worker_with_runs_protects_until_its_lease_expires() {
    let store = MemoryStore::new();
    let mut old = declaring(&store, "old", &["dropped"], "10:00:10");
    old.until("10:01:01");
    assert_eq!(old.started.len(), 1);
    let mut new = declaring(&store, "new", &[], "10:01:01");
    new.until("10:01:10");
    assert_eq!(status(&store, "dropped"), ScheduleStatus::Active);
    drop(old);
    new.until("10:01:45");
    assert_eq!(retired(&new), [label("dropped")]);
}

#[test]
fn workers_without_runs_send_heartbeats_rarely_and_only_beside_others() {
    let store = MemoryStore::new();
    let mut one = Worker::new(&store, "one", "10:00:00");
    one.until("10:30:00");
    assert_eq!(one.take_commands().iter().filter(|command| is_beat(command)).count(), 0);
    let mut other = Worker::new(&store, "other", "10:30:00");
    together(&mut [&mut one, &mut other], "10:40:00");
    for worker in [&mut one, &mut other] {
        let heartbeats = worker.take_commands().iter().filter(|command| is_beat(command)).count();
        assert!((9..=11).contains(&heartbeats), "{heartbeats}");
    }
}

#[test]
fn slots_of_a_schedule_that_stays_are_all_fired_through_a_deploy() {
    let store = MemoryStore::new();
    let mut old = declaring(&store, "old", &["kept", "dropped"], "10:00:10");
    old.until("10:02:30");
    finish_all(&mut old);
    let mut new = declaring(&store, "new", &["kept"], "10:02:30");
    together(&mut [&mut old, &mut new], "10:03:30");
    finish_all(&mut old);
    finish_all(&mut new);
    old.hear(Message::Deregister).tick();
    for minute in 4..9 {
        new.until(&format!("10:0{minute}:30"));
        finish_all(&mut new);
    }
    let kept = history(&store, &"sch_kept".into());
    let ran: Vec<_> =
        kept.iter().filter(|entry| entry.outcome == SlotOutcome::Ran).map(|e| time_of(e.from)).collect();
    let expected: Vec<_> = (1..9).map(|minute| format!("10:0{minute}:00")).collect();
    assert_eq!(ran, expected);
    let dropped = history(&store, &"sch_dropped".into());
    for pair in dropped.windows(2) {
        assert!(pair[0].until < pair[1].from, "{dropped:?}");
    }
    assert_eq!(dropped.iter().filter(|entry| entry.count == 0).count(), 1, "{dropped:?}");
}
