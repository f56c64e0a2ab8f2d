//! What workers count is what the ledger says, whatever happens to their commits.

use super::*;
use polos::engine::metrics::{DURATION_BOUNDS, LATENESS_BOUNDS, Metrics, SlotCount};

/// Slots that ran, were skipped, and were missed.
type Counts = [u64; 3];

fn counted(workers: &[&Worker]) -> Counts {
    let of = |outcome| workers.iter().map(|it| it.engine.metrics().of("wf").unwrap().slots(outcome)).sum();
    [of(SlotCount::Ran), of(SlotCount::Skipped), of(SlotCount::Missed)]
}

fn in_ledger(store: &MemoryStore, ids: &[ScheduleId]) -> Counts {
    let lines: Vec<LedgerEntry> = ids.iter().flat_map(|id| history(store, id)).collect();
    let of = |outcome| lines.iter().filter(|line| line.outcome == outcome).map(|line| line.count).sum();
    [of(SlotOutcome::Ran), of(SlotOutcome::Skipped), of(SlotOutcome::Missed)]
}

/// One schedule for each policy that a slot's outcome may depend on.
fn schedules(store: &MemoryStore) -> Vec<ScheduleId> {
    [
        json!({"cron": "* * * * *", "overlap": "allow"}),
        json!({"cron": "* * * * *", "overlap": "skip"}),
        json!({"cron": "* * * * *", "overlap": "allow", "catch_up": "none"}),
        json!({"cron": "*/2 * * * *", "overlap": "allow", "catch_up": "all"}),
    ]
    .iter()
    .enumerate()
    .map(|(index, fields)| create(store, &format!("k{index}"), fields, "10:00:00"))
    .collect()
}

#[test]
fn a_worker_counts_what_it_decides() {
    let store = MemoryStore::new();
    let ids = schedules(&store);
    let mut worker = Worker::with(&store, roomy("a"), "10:00:00");
    worker.until("10:05:10").pause(Duration::from_secs(600)).until("10:20:10");
    let counts = counted(&[&worker]);
    assert_eq!(counts, in_ledger(&store, &ids));
    assert!(counts.iter().all(|count| *count > 0), "{counts:?}");
}

#[test]
fn slots_of_a_commit_that_failed_count_when_they_are_decided_again() {
    let store = MemoryStore::new();
    let ids = schedules(&store);
    let mut worker = Worker::with(&store, roomy("a"), "10:00:00");
    worker.until("10:02:30");
    worker.store.trouble.lock().before = 300;
    worker.until("10:10:30");
    worker.store.trouble.lock().before = 0;
    worker.until("10:12:30");
    assert_eq!(counted(&[&worker]), in_ledger(&store, &ids));
}

#[test]
fn slots_of_a_commit_whose_reply_was_lost_never_count_twice() {
    for seed in 0..20 {
        let store = MemoryStore::new();
        let ids = schedules(&store);
        let mut worker = Worker::with(&store, roomy("a"), "10:00:00");
        worker.until("10:00:05");
        {
            let mut trouble = worker.store.trouble.lock();
            trouble.rng.0 = seed;
            (trouble.before, trouble.after, trouble.reads) = (150, 150, 50);
        }
        worker.until("10:20:10").pause(Duration::from_secs(300)).until("10:40:10");
        let (counted, ledger) = (counted(&[&worker]), in_ledger(&store, &ids));
        let is_at_most_once = counted.iter().zip(&ledger).all(|(counted, told)| counted <= told);
        assert!(is_at_most_once && counted[0] > 0, "seed {seed}: {counted:?} of {ledger:?}");
    }
}

#[test]
fn several_workers_never_count_a_slot_twice_under_any_faults() {
    for seed in 0..10 {
        let store = MemoryStore::new();
        let ids = schedules(&store);
        let mut a = Worker::with(&store, roomy("a"), "10:00:00");
        let mut b = Worker::with(&store, roomy("b"), "10:00:00");
        together(&mut [&mut a, &mut b], "10:00:05");
        for (index, worker) in [&a, &b].into_iter().enumerate() {
            let mut trouble = worker.store.trouble.lock();
            trouble.rng.0 = seed * 2 + index as u64;
            (trouble.before, trouble.after, trouble.reads) = (100, 100, 30);
        }
        together(&mut [&mut a, &mut b], "10:10:10");
        for worker in [&a, &b] {
            let mut trouble = worker.store.trouble.lock();
            (trouble.before, trouble.after, trouble.reads) = (0, 0, 0);
        }
        together(&mut [&mut a, &mut b], "10:12:10");
        let (counted, ledger) = (counted(&[&a, &b]), in_ledger(&store, &ids));
        let is_at_most_once = counted.iter().zip(&ledger).all(|(counted, told)| counted <= told);
        assert!(is_at_most_once, "seed {seed}: {counted:?} of {ledger:?}");
    }
}

#[test]
fn a_histogram_counts_a_duration_in_its_bucket_and_all_above() {
    let workflow = "wf".into();
    let metrics = Metrics::new([&workflow].into_iter());
    let counts = metrics.of("wf").unwrap();
    for millis in [0, 1, 2, 7_200_000] {
        counts.lateness.add(Duration::from_millis(millis));
    }
    let reading = counts.lateness.read();
    let up_to: Vec<u64> = reading.up_to.iter().map(|(_, count)| *count).collect();
    assert_eq!(up_to, [2, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3]);
    assert_eq!((reading.count, reading.sum), (4, Duration::from_millis(7_200_003)));
    assert!(LATENESS_BOUNDS.is_sorted() && DURATION_BOUNDS.is_sorted());
}
