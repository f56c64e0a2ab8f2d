//! What an engine shows of itself to other threads.

use super::{Worker, at};
use polos::clock::Clock;
use polos::engine::{Message, Stage};
use polos::store::{Command, MemoryStore, StoreReads, StoreWrites};
use std::time::Duration;

fn worker(store: &MemoryStore, name: &str) -> Worker {
    Worker::new(store, name, "12:00:00")
}

#[test]
fn an_engine_shows_that_it_is_registered_drains_and_ends() {
    let mut one = worker(&MemoryStore::new(), "one");
    let vitals = one.engine.vitals();
    assert!(!vitals.read().is_registered);
    one.tick();
    let signs = vitals.read();
    assert_eq!((signs.is_registered, signs.is_ticking, signs.stage), (true, false, Stage::Working));
    let now = one.clock.now();
    one.engine.receive(Message::Drain, now);
    one.tick();
    assert_eq!(vitals.read().stage, Stage::Draining);
    one.engine.receive(Message::Deregister, now);
    one.tick();
    assert_eq!(vitals.read().stage, Stage::Over);
}

#[test]
fn an_engine_shows_since_when_its_store_fails() {
    let mut one = worker(&MemoryStore::new(), "one");
    let vitals = one.engine.vitals();
    one.tick();
    assert_eq!(vitals.read().failing_since, None);
    one.store.trouble.lock().is_down = true;
    one.clock.advance_to(at("12:00:10"));
    one.tick();
    let since = one.clock.now().mono;
    one.clock.advance_to(at("12:01:00"));
    one.tick();
    let signs = vitals.read();
    assert_eq!(signs.failing_since, Some(since), "the first failure counts");
    assert_eq!(signs.last_beat, one.clock.now().mono, "an engine whose store fails still moves");
    one.store.trouble.lock().is_down = false;
    one.clock.advance_to(at("12:02:00"));
    one.tick();
    assert_eq!(vitals.read().failing_since, None);
}

#[test]
fn an_engine_is_inside_a_tick_while_its_store_is_asked() {
    let mut one = worker(&MemoryStore::new(), "one");
    let vitals = one.engine.vitals();
    one.tick();
    let seen = std::sync::Arc::new(polos::sync::Mutex::new(Vec::new()));
    let (log, watched) = (seen.clone(), vitals.clone());
    one.store.trouble.lock().on_read =
        Some(std::sync::Arc::new(polos::sync::Mutex::new(move |_| log.lock().push(watched.read()))));
    one.clock.advance_to(at("12:00:30"));
    one.tick();
    let began = one.clock.now().mono;
    assert!(seen.lock().iter().all(|signs| signs.is_ticking && signs.last_beat == began));
    assert!(!seen.lock().is_empty());
    one.engine.note_tick_took(Duration::from_secs(3));
    assert_eq!(vitals.read().last_beat, began + Duration::from_secs(3), "it moved when the tick ended");
}

#[test]
fn an_engine_that_lost_its_lease_shows_when_it_is_registered_again() {
    let store = MemoryStore::new();
    let mut one = worker(&store, "one");
    let vitals = one.engine.vitals();
    one.tick();
    let peer = store.peers("default").unwrap().remove(0);
    let expire = Command::ExpireWorker { worker: peer.id, heartbeat: peer.heartbeat, shares_process: false };
    assert!(store.commit(&[expire], at("12:00:20")).unwrap()[0].is_ok());
    let former = one.engine.worker().clone();
    let now = one.clock.now();
    one.engine.receive(Message::RollbackDetected, now);
    one.store.trouble.lock().is_down = true;
    one.tick();
    assert!(!vitals.read().is_registered, "it cannot register");
    one.store.trouble.lock().is_down = false;
    one.clock.advance_to(at("12:01:00"));
    one.tick();
    assert!(vitals.read().is_registered);
    assert_ne!(*one.engine.worker(), former);
}
