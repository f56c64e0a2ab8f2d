//! A store that hangs, or fails for a while: no caller waits longer than necessary.
#![allow(clippy::unwrap_used, reason = "test helpers")]

use crate::faults::FaultyStore;
use crate::store::fixture::new_run;
use crossbeam_channel::{Receiver, Sender};
use polos::calendar::Timestamp;
use polos::clock::ManualClock;
use polos::engine::driver::Driver;
use polos::engine::group_commit::{GroupCommit, Job};
use polos::engine::{Dispatcher, Engine, EngineConfig, Message, Notice, PermitPools, Stop, WorkflowConfig};
use polos::model::{ClaimedRun, WorkerId};
use polos::service::{Request, Service};
use polos::store::{Command, MemoryStore, StoreError, StoreWrites};
use polos::sync::Mutex;
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;

const PROJECT: &str = "default";
/// Long enough for anything that happens at all.
const BUSY_TIMEOUT: Duration = Duration::from_secs(30);
/// Long enough to distinguish waiting from not waiting.
const SHORT: Duration = Duration::from_millis(20);

/// Runs `work` on another thread; fails the test if it never ends.
fn in_time<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let (sender, done) = crossbeam_channel::bounded(1);
    std::thread::spawn(move || sender.send(work()));
    // Longer than any timeout inside `work`.
    done.recv_timeout(BUSY_TIMEOUT * 2).expect("it takes forever")
}

struct NullDispatcher;

impl Dispatcher for NullDispatcher {
    fn start(&self, _: Vec<ClaimedRun>, _: Option<Duration>) {}
    fn stop(&self, _: Vec<Stop>) {}
    fn fire_timers(&self, _: Vec<u64>) {}
    fn emit(&self, _: Notice) {}
}

fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::new(Timestamp::from_micros(0)))
}

/// A store whose commits hang until the gate is dropped, and a channel that reports when one hangs.
fn hanging() -> (FaultyStore, Sender<()>, Receiver<()>) {
    let store = FaultyStore::new(MemoryStore::new());
    let (gate, opened) = crossbeam_channel::bounded::<()>(0);
    let (hangs, seen) = crossbeam_channel::unbounded();
    store.trouble.lock().on_commit = Some(Box::new(move || {
        let _ = hangs.send(());
        // Ends when the gate is dropped.
        let _ = opened.recv();
    }));
    (store, gate, seen)
}

#[test]
fn a_hung_engine_is_abandoned_and_ends_when_its_store_returns() {
    let (store, gate, hangs) = hanging();
    let workflow = WorkflowConfig {
        is_schedulable: true,
        retry_max: 0,
        backoff: polos::plan::Backoff::default(),
        timeout: None,
        rules: polos::model::ClaimRules::default(),
        calls: Vec::new(),
        code: "code".into(),
    };
    let config = EngineConfig { workflows: [("wf".into(), workflow)].into(), ..crate::engine::config("w") };
    let engine =
        Engine::new(Arc::new(store.clone()), store, NullDispatcher, config, Box::new(|| WorkerId::from("w")));
    let (ended, end) = crossbeam_channel::bounded(1);
    let on_end = Box::new(move || ended.send(()).unwrap_or(()));
    let mut driver = Driver::start(engine, clock(), on_end).unwrap();
    hangs.recv_timeout(BUSY_TIMEOUT).unwrap();
    driver.send(Message::Deregister);
    let (has_ended, _driver) = in_time(move || (driver.join_for(SHORT), driver));
    assert!(!has_ended, "it hangs");
    drop(gate);
    end.recv_timeout(BUSY_TIMEOUT).expect("it deregisters when its store answers");
}

#[test]
fn a_hung_commit_does_not_block_closing() {
    let (store, gate, hangs) = hanging();
    let group = GroupCommit::start(Arc::new(store), clock()).unwrap();
    let (sender, received) = crossbeam_channel::unbounded();
    let submit = |id: &str| {
        let (sender, name) = (sender.clone(), id.to_owned());
        group.submit(Job {
            commands: vec![Command::CreateRun(Box::new(new_run(id)))],
            retries_when_busy: true,
            // A test that has failed receives nothing any more.
            done: Box::new(move |report| sender.send((name, report.map(|_| ()))).unwrap_or(())),
        });
    };
    submit("run_1");
    hangs.recv_timeout(BUSY_TIMEOUT).unwrap();
    submit("run_2");
    let closing = group.clone();
    assert!(!in_time(move || closing.close_within(SHORT)));
    let closed = Err(StoreError::Closed);
    assert_eq!(
        received.recv_timeout(BUSY_TIMEOUT).unwrap(),
        ("run_2".to_owned(), closed),
        "it is never written"
    );
    drop(gate);
    assert_eq!(
        received.recv_timeout(BUSY_TIMEOUT).unwrap(),
        ("run_1".to_owned(), Ok(())),
        "the actual outcome, late"
    );
}

fn request(value: serde_json::Value) -> Request {
    serde_json::from_value(value).unwrap()
}

#[test]
fn a_waiter_is_answered_whichever_reads_failed() {
    let inner = MemoryStore::new();
    let store = FaultyStore::new(inner.clone());
    store.trouble.lock().reads = 500;
    let group = GroupCommit::start(Arc::new(store), clock()).unwrap();
    let service =
        Arc::new(Service::open(group.clone(), PROJECT.into(), Arc::new(PermitPools::default())).unwrap());
    for number in 0..40 {
        let id = format!("run_{number}");
        let mut new = new_run(&id);
        new.project = PROJECT.into();
        // Created and completed by another process, so that only a read can notice it.
        let now = Timestamp::from_micros(number);
        inner.commit(&[Command::CreateRun(Box::new(new))], now).unwrap().remove(0).unwrap();
        let (sender, answer) = crossbeam_channel::bounded(1);
        let asking = Arc::clone(&service);
        let wanted = request(json!({"await_run": {"id": id}}));
        in_time(move || asking.submit(wanted, Box::new(move |reply| sender.send(reply).unwrap_or(()))));
        let cancel = Command::CancelRun { project: PROJECT.into(), run: id.as_str().into() };
        inner.commit(&[cancel], now).unwrap().remove(0).unwrap();
        answer.recv_timeout(BUSY_TIMEOUT).expect("nothing changes any more, and it waits").unwrap();
    }
    assert!(in_time(move || service.close_within(BUSY_TIMEOUT)));
    assert!(in_time(move || group.close_within(BUSY_TIMEOUT)));
}

#[test]
fn a_request_without_reads_does_not_wait_behind_a_hung_read() {
    let store = FaultyStore::new(MemoryStore::new());
    let (gate, opened) = crossbeam_channel::bounded::<()>(0);
    let (hangs, seen) = crossbeam_channel::unbounded();
    store.trouble.lock().on_read = Some(Arc::new(Mutex::new(move |_| {
        let _ = hangs.send(());
        let _ = opened.recv();
    })));
    let group = GroupCommit::start(Arc::new(store), clock()).unwrap();
    let service = Service::open(group.clone(), PROJECT.into(), Arc::new(PermitPools::default())).unwrap();
    service.submit(request(json!({"get_run": {"id": "run_1"}})), Box::new(|_| ()));
    seen.recv_timeout(BUSY_TIMEOUT).unwrap();
    let (sender, answer) = crossbeam_channel::bounded(1);
    service.submit(
        request(json!({"invoke": {"workflow": "wf", "payload": null, "is_local": true}})),
        Box::new(move |reply| _ = sender.send(reply)),
    );
    let received = answer.recv_timeout(BUSY_TIMEOUT);
    drop(gate);
    received.expect("it waits for an unrelated read").unwrap();
    assert!(service.close_within(BUSY_TIMEOUT));
    assert!(group.close_within(BUSY_TIMEOUT));
}

#[test]
fn a_late_response_is_none() {
    let store = FaultyStore::new(MemoryStore::new());
    let (gate, opened) = crossbeam_channel::bounded::<()>(0);
    store.trouble.lock().on_read = Some(Arc::new(Mutex::new(move |_| {
        let _ = opened.recv();
    })));
    let group = GroupCommit::start(Arc::new(store), clock()).unwrap();
    let service =
        Arc::new(Service::open(group.clone(), PROJECT.into(), Arc::new(PermitPools::default())).unwrap());
    let asking = Arc::clone(&service);
    let asked = in_time(move || asking.call_within(request(json!({"get_run": {"id": "run_1"}})), SHORT));
    assert_eq!(asked, Ok(None));
    assert!(!in_time(move || service.close_within(SHORT)), "its thread hangs and is abandoned");
    drop(gate);
    assert!(in_time(move || group.close_within(BUSY_TIMEOUT)));
}
