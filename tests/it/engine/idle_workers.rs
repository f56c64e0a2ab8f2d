//! Workers that die without runs: nothing waits for them, but their rows must not pile up.

use super::*;
use polos::model::{BusyProcesses, Peer};
use std::collections::BTreeSet;

/// How long an idle worker must be silent before its peers expire it.
const SILENCE: Duration = Duration::from_secs(3 * 60);

fn pair(store: &MemoryStore) -> (Worker, Worker) {
    let (mut a, mut b) = (Worker::new(store, "a", "10:00:30"), Worker::new(store, "b", "10:00:30"));
    together(&mut [&mut a, &mut b], "10:00:40");
    (a, b)
}

fn ids(store: &MemoryStore) -> Vec<String> {
    store.peers(PROJECT).unwrap().iter().map(|peer| peer.id.to_string()).collect()
}

fn is_lease_lost(notice: &Notice) -> bool {
    matches!(notice, Notice::LeaseLost { .. })
}

#[test]
fn a_dead_idle_worker_expires_after_the_limit_and_not_before() {
    let store = MemoryStore::new();
    let (_dead, mut live) = pair(&store);
    live.wait(SILENCE.saturating_sub(Duration::from_secs(30)));
    assert_eq!(ids(&store), ["a1", "b1"]);
    live.wait(Duration::from_secs(60));
    assert_eq!(ids(&store), ["b1"]);
    assert_eq!(live.count_notices(|notice| matches!(notice, Notice::TookOver { .. })), 0);
    live.take_commands();
    live.wait(Duration::from_secs(3_600));
    assert!(live.take_commands().is_empty(), "an idle worker without peers writes nothing");
}

#[test]
fn live_idle_workers_do_not_expire() {
    let store = MemoryStore::new();
    let (mut a, mut b) = pair(&store);
    for _ in 0..240 {
        a.wait(Duration::from_secs(30));
        b.wait(Duration::from_secs(30));
    }
    assert_eq!(ids(&store), ["a1", "b1"]);
}

#[test]
fn idle_workers_suspended_together_or_cut_off_together_do_not_expire() {
    let store = MemoryStore::new();
    let (mut a, mut b) = pair(&store);
    for worker in [&mut a, &mut b] {
        worker.pause(SILENCE * 2);
    }
    b.tick();
    a.tick();
    assert_eq!(ids(&store), ["a1", "b1"]);
    for worker in [&mut a, &mut b] {
        worker.store.trouble.lock().is_down = true;
        worker.wait(SILENCE * 2);
        worker.store.trouble.lock().is_down = false;
    }
    for worker in [&mut b, &mut a] {
        worker.wait(Duration::from_secs(3));
        assert_eq!(worker.count_notices(is_lease_lost), 0);
    }
    assert_eq!(ids(&store), ["a1", "b1"]);
}

#[test]
fn an_idle_worker_that_expired_while_suspended_registers_again_and_works() {
    let store = MemoryStore::new();
    let (mut sleeper, mut live) = pair(&store);
    live.wait(SILENCE * 2);
    assert_eq!(ids(&store), ["b1"]);
    live.hear(Message::Deregister).tick();
    sleeper.pause(SILENCE * 2).tick();
    assert_eq!(sleeper.count_notices(is_lease_lost), 1);
    sleeper.wait(Duration::from_secs(1));
    assert_eq!(ids(&store), ["a2"]);
    create(&store, "k", &json!({"at_us": at("10:40:00").as_micros()}), "10:31:00");
    sleeper.until("10:40:01");
    assert_eq!(sleeper.slots_started(), ["10:40:00"]);
}

#[test]
fn workers_share_polling_while_changes_are_announced_and_no_longer() {
    let store = MemoryStore::new();
    let mut workers: Vec<Worker> =
        (0..4).map(|number| Worker::new(&store, &format!("w{number}-"), "10:00:30")).collect();
    let advance = |workers: &mut Vec<Worker>, time| {
        together(&mut workers.iter_mut().collect::<Vec<_>>(), time);
        workers.iter().map(|worker| worker.store.trouble.lock().poll_count).collect::<Vec<_>>()
    };
    let mut counts = vec![advance(&mut workers, "10:01:00")];
    for (announces, time) in [(true, "10:05:00"), (false, "10:05:30")] {
        for worker in &workers {
            worker.store.trouble.lock().announces = announces;
        }
        counts.push(advance(&mut workers, time));
    }
    let polls =
        |from: usize| counts[from].iter().zip(&counts[from + 1]).map(|(before, after)| after - before);
    // Every 20 seconds for four minutes; then every 5 seconds for half a minute.
    assert!(polls(0).all(|count| (11..=13).contains(&count)), "{counts:?}");
    assert!(polls(1).all(|count| (6..=7).contains(&count)), "{counts:?}");
    assert_eq!(ids(&store).len(), 4, "each has seen the heartbeats of the others");
}

/// If one of them dies, the others must find out soon.
#[test]
fn workers_poll_more_often_beside_one_that_holds_runs() {
    let store = MemoryStore::new();
    let mut workers: Vec<Worker> =
        (0..9).map(|number| Worker::new(&store, &format!("w{number}-"), "10:00:30")).collect();
    for worker in &workers {
        worker.store.trouble.lock().announces = true;
    }
    let mut polls_until = |time| {
        together(&mut workers.iter_mut().collect::<Vec<_>>(), time);
        workers.iter().map(|worker| worker.store.trouble.lock().poll_count).collect::<Vec<_>>()
    };
    let mut counts = vec![polls_until("10:01:30"), polls_until("10:06:30")];
    let new = NewRun { available_at: at("10:06:30"), workflow: "wf".into(), ..new_run("run_1") };
    store.commit(&[Command::CreateRun(Box::new(new))], at("10:06:30")).unwrap().remove(0).unwrap();
    counts.extend([polls_until("10:08:00"), polls_until("10:13:00")]);
    let holder = workers.iter().position(|worker| !worker.started.is_empty()).unwrap();
    let polls = |from: usize, worker: usize| counts[from + 1][worker] - counts[from][worker];
    for worker in (0..9).filter(|worker| *worker != holder) {
        // Every 45 seconds for five minutes, and then every 25.
        assert!((6..=7).contains(&polls(0, worker)), "{counts:?}");
        assert!((11..=13).contains(&polls(2, worker)), "{counts:?}");
    }
}

#[test]
fn a_heartbeat_at_the_last_moment_saves_an_idle_worker() {
    let store = MemoryStore::new();
    let mut a = Worker::new(&store, "a", "10:00:30");
    a.until("10:00:50");
    let mut live = Worker::new(&store, "b", "10:00:50");
    together(&mut [&mut a, &mut live], "10:01:40");
    // The first worker's last heartbeat was at 10:01:30; the second's are at second 50.
    live.until("10:04:39").take_commands();
    let (shared, id) = (store.clone(), a.engine.worker().clone());
    live.store.trouble.lock().on_commit = Some(Box::new(move || {
        // Just before the other worker's decision is committed, so that it could not see this.
        let heartbeat = Command::Heartbeat { worker: id.clone() };
        shared.commit(&[heartbeat], at("10:04:39")).unwrap().remove(0).unwrap();
    }));
    live.until("10:04:49");
    live.store.trouble.lock().on_commit = None;
    let is_removal = |command: &Command| matches!(command, Command::ExpireWorker { .. });
    assert!(live.take_commands().iter().any(is_removal), "it tried");
    assert_eq!(ids(&store), ["a1", "b1"]);
    live.until("10:07:30");
    assert_eq!(ids(&store), ["a1", "b1"], "its silence begins again");
    live.until("10:08:30");
    assert_eq!(ids(&store), ["b1"]);
}

#[test]
fn many_dead_workers_expire_in_bounded_commits() {
    let store = MemoryStore::new();
    for number in 0..250 {
        Worker::new(&store, &format!("dead{number:03}-"), "10:00:30").tick();
    }
    let mut live = Worker::new(&store, "live", "10:00:30");
    live.tick().take_commands();
    live.until("10:03:29");
    assert_eq!(ids(&store).len(), 251);
    live.take_commands();
    let (left, seen) = (store.clone(), crossbeam_channel::unbounded());
    live.store.trouble.lock().on_commit = Some(Box::new(move || {
        seen.0.send(left.peers(PROJECT).unwrap().len()).unwrap();
    }));
    live.until("10:04:00");
    assert_eq!(ids(&store), ["live1"]);
    let is_removal = |command: &&Command| matches!(command, Command::ExpireWorker { .. });
    assert_eq!(live.take_commands().iter().filter(is_removal).count(), 250, "each once");
    let counts: BTreeSet<usize> = seen.1.try_iter().collect();
    assert!(counts.is_superset(&[251, 151, 51].into()), "{counts:?}");
}

fn peer(number: usize, pid: i64, held_count: u64) -> Peer {
    Peer {
        id: WorkerId::from(format!("w{number}")),
        app: "app".into(),
        host: "host".into(),
        pid,
        process_mark: "mark".into(),
        about: "{}".into(),
        heartbeat: 1,
        held_count,
        workflows: Vec::new(),
        entered_at: at("10:00:00"),
        beat_at: at("10:00:00"),
        declares: None,
    }
}

#[test]
fn a_process_is_shared_with_peers_that_hold_runs_but_never_with_itself() {
    let peers: Vec<Peer> = (0..4_u64)
        .flat_map(|pid| (0..3_u64).map(move |permit| (pid, u64::from(permit < pid))))
        .enumerate()
        .map(|(number, (pid, held))| peer(number, i64::try_from(pid).unwrap(), held))
        .collect();
    let busy = BusyProcesses::of(&peers);
    for peer in &peers {
        let is_other = |other: &&Peer| other.id != peer.id && other.pid == peer.pid;
        let expected = peers.iter().filter(is_other).any(|other| other.held_count > 0);
        assert_eq!(busy.has_another(peer), expected, "{peer:?}");
    }
}
