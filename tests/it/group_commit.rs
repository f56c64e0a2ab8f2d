//! Group commit under load: many submitters, a store that fails before and after it did its work,
//! and a close in the middle. Every job's report is compared with the contents of the store.
#![allow(clippy::unwrap_used, reason = "test helpers")]

use crate::faults::FaultyStore;
use crate::store::fixture::new_run;
use polos::calendar::Timestamp;
use polos::clock::ManualClock;
use polos::engine::group_commit::{GroupCommit, Job, Report};
use polos::store::{Answer, Command, MemoryStore, StoreError, StoreReads, StoreWrites};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Duration;

const PROJECT: &str = "default";
const SUBMITTERS: usize = 6;
const JOBS_EACH: usize = 120;
/// More commands than fit into one transaction.
const LARGE: usize = 2_100;
const BATCH_MAX: usize = 2_000;
/// Long enough for anything that happens at all.
const BUSY_TIMEOUT: Duration = Duration::from_secs(30);

fn create(id: &str) -> Command {
    Command::CreateRun(Box::new(new_run(id)))
}

fn ids_of(submitter: usize, number: usize) -> Vec<String> {
    let count = if (submitter, number) == (0, 5) { LARGE } else { 1 + number % 3 };
    (0..count).map(|part| format!("run_{submitter}_{number}_{part}")).collect()
}

fn retries_when_busy(number: usize) -> bool {
    !number.is_multiple_of(4)
}

/// The report that a job received.
struct JobReport {
    submitter: usize,
    number: usize,
    report: Report,
    was_closing: bool,
    was_observed: bool,
}

fn writer(store: &FaultyStore) -> GroupCommit {
    let clock = ManualClock::new(Timestamp::from_micros(0));
    GroupCommit::start(Arc::new(store.clone()), Arc::new(clock)).unwrap()
}

#[test]
fn every_job_is_reported_once_correctly_and_in_order() {
    for seed in 0..4 {
        let inner = MemoryStore::new();
        let store = FaultyStore::new(inner.clone());
        {
            let mut trouble = store.trouble.lock();
            trouble.rng.0 = seed;
            (trouble.before, trouble.after) = (80, 80);
        }
        let group = writer(&store);
        let observed: Arc<Mutex<BTreeSet<String>>> = Arc::default();
        let largest = Arc::new(AtomicUsize::new(0));
        {
            let (observed, largest) = (Arc::clone(&observed), Arc::clone(&largest));
            group.observe(Box::new(move |commands, outcomes| {
                assert_eq!(commands.len(), outcomes.len());
                let is_one_job = matches!(&commands[0], Command::CreateRun(new) if new.id.as_str().starts_with("run_0_5_"));
                largest.fetch_max(if is_one_job { 0 } else { commands.len() }, Ordering::Relaxed);
                let mut observed = observed.lock().unwrap();
                for command in commands {
                    let Command::CreateRun(new) = command else { panic!("{command:?} was not submitted") };
                    observed.insert(new.id.to_string());
                }
            }));
        }
        // Half of the runs close the store after a third of the jobs were answered.
        let closes_early = seed % 2 == 1;
        let is_closing = Arc::new(AtomicBool::new(false));
        let (sender, receiver) = mpsc::channel::<JobReport>();
        let mut reports = Vec::new();
        thread::scope(|scope| {
            for submitter in 0..SUBMITTERS {
                let (group, sender, is_closing, observed) =
                    (group.clone(), sender.clone(), Arc::clone(&is_closing), Arc::clone(&observed));
                scope.spawn(move || {
                    for number in 0..JOBS_EACH {
                        let ids = ids_of(submitter, number);
                        let commands = ids.iter().map(|id| create(id)).collect();
                        let (sender, is_closing, observed) =
                            (sender.clone(), Arc::clone(&is_closing), Arc::clone(&observed));
                        let done = move |report: Report| {
                            let was_closing = is_closing.load(Ordering::SeqCst);
                            let was_observed = ids.iter().all(|id| observed.lock().unwrap().contains(id));
                            sender
                                .send(JobReport { submitter, number, report, was_closing, was_observed })
                                .unwrap();
                        };
                        group.submit(Job {
                            commands,
                            retries_when_busy: retries_when_busy(number),
                            done: Box::new(done),
                        });
                    }
                });
            }
            drop(sender);
            let all = SUBMITTERS * JOBS_EACH;
            let until = if closes_early { all / 3 } else { all };
            reports.extend(receiver.iter().take(until));
            is_closing.store(true, Ordering::SeqCst);
            group.close();
            // Ends when every job was reported: no sender is left.
            reports.extend(receiver.iter());
        });
        check(&reports, &inner, seed);
        assert!(largest.load(Ordering::Relaxed) <= BATCH_MAX, "seed {seed}");
        let (sender, receiver) = mpsc::channel();
        let done = Box::new(move |report: Report| sender.send(report).unwrap());
        group.submit(Job { commands: vec![create("late")], retries_when_busy: true, done });
        let reports = receiver.recv_timeout(BUSY_TIMEOUT).expect("a writer that has ended answers no job");
        assert!(matches!(reports, Err(StoreError::Closed)));
    }
}

fn check(reports: &[JobReport], store: &MemoryStore, seed: u64) {
    let each: BTreeSet<_> = reports.iter().map(|report| (report.submitter, report.number)).collect();
    assert_eq!(
        (reports.len(), each.len()),
        (SUBMITTERS * JOBS_EACH, SUBMITTERS * JOBS_EACH),
        "seed {seed}: each once"
    );
    let mut newest = [None; SUBMITTERS];
    for JobReport { submitter, number, report, was_closing, was_observed } in reports {
        let what = format!("seed {seed}, job {number} of {submitter}");
        match report {
            Ok(outcomes) => {
                let ids = ids_of(*submitter, *number);
                assert_eq!(outcomes.len(), ids.len(), "{what}");
                for (outcome, id) in outcomes.iter().zip(&ids) {
                    let is_its = matches!(outcome, Ok(Answer::Created { run, .. }) if run.as_str() == id);
                    assert!(is_its, "{what}: reported {outcome:?} of {id}");
                    assert!(
                        store.run(PROJECT, &id.as_str().into()).unwrap().is_some(),
                        "{what} was not done"
                    );
                }
                assert!(was_observed, "{what}: its owner was answered before the observers");
                let former = newest[*submitter].replace(*number);
                assert!(former < Some(*number), "{what} overtook {former:?}");
            }
            Err(StoreError::Closed) => assert!(was_closing, "{what} was refused before anybody closed"),
            Err(error) => {
                assert!(
                    !retries_when_busy(*number) || *was_closing,
                    "{what} got {error}, although it had time"
                );
            }
        }
    }
}

#[test]
fn a_panic_of_the_writing_thread_fails_waiting_jobs() {
    let store = FaultyStore::new(MemoryStore::new());
    store.trouble.lock().on_commit = Some(Box::new(|| panic!("for the test")));
    let group = writer(&store);
    let now = Timestamp::from_micros(0);
    for _ in 0..2 {
        assert!(matches!(group.commit(&[create("run_a")], now), Err(StoreError::Closed)));
    }
    group.close();
}

/// Submits a job to a failing store, and returns the channel of its report.
fn report_of_failing_store(
    retries_when_busy: bool,
    is_closed: bool,
) -> (GroupCommit, mpsc::Receiver<Report>) {
    let store = FaultyStore::new(MemoryStore::new());
    let (hit, was_hit) = mpsc::channel();
    {
        let mut trouble = store.trouble.lock();
        (trouble.is_down, trouble.is_closed) = (true, is_closed);
        trouble.on_commit = Some(Box::new(move || _ = hit.send(())));
    }
    let group = writer(&store);
    let (sender, reports) = mpsc::channel();
    let done = Box::new(move |report: Report| _ = sender.send(report));
    group.submit(Job { commands: vec![create("run_a")], retries_when_busy, done });
    was_hit.recv_timeout(BUSY_TIMEOUT).expect("it is tried");
    (group, reports)
}

#[test]
fn a_job_without_busy_retry_fails_at_once() {
    let (group, reports) = report_of_failing_store(false, false);
    assert!(matches!(reports.recv_timeout(BUSY_TIMEOUT), Ok(Err(StoreError::Unavailable(_)))));
    assert!(group.close_within(BUSY_TIMEOUT));
}

#[test]
fn no_job_retries_a_permanent_error() {
    let (group, reports) = report_of_failing_store(true, true);
    assert!(matches!(reports.recv_timeout(BUSY_TIMEOUT), Ok(Err(StoreError::Closed))));
    assert!(group.close_within(BUSY_TIMEOUT));
}

#[test]
fn closing_fails_jobs_that_are_still_retrying() {
    let (group, reports) = report_of_failing_store(true, false);
    assert!(group.close_within(BUSY_TIMEOUT), "it does not wait for the store");
    assert!(matches!(reports.recv_timeout(BUSY_TIMEOUT), Ok(Err(StoreError::Unavailable(_)))));
}
