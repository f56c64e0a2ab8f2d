//! The engine driven by hand: real decisions and a real store, a manual clock, and handlers that do
//! what the test says.
#![allow(clippy::unwrap_used, reason = "test helpers")]

use crate::faults::{Fault, FaultyStore, Sent, SentLog};
use crate::store::fixture::new_run;
use polos::calendar::Timestamp;
use polos::clock::{Clock, ManualClock};
use polos::engine::driver::Driver;
use polos::engine::{
    Deadline, Dispatcher, Engine, EngineConfig, Message, Notice, Stop, StopReason, WorkflowConfig,
};
use polos::model::spec::CompiledSpec;
use polos::model::{
    ClaimedRun, Completion, LedgerEntry, NewRun, NewSchedule, Origin, Run, RunId, RunState, Schedule,
    ScheduleId, ScheduleSpec, ScheduleStatus, SlotOutcome, WorkerId,
};
use polos::plan::Backoff;
use polos::store::{
    Answer, Command, MemoryStore, Page, Patch, Rejection, RunFilter, StoreReads, StoreWrites,
};
use polos::sync::Mutex;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

mod clocks;
mod completion;
mod due_queue;
mod idle_workers;
mod lending;
mod metrics;
mod older_claims;
mod outage;
mod owners;
mod peers;
mod permits;
mod stuck_parents;
mod suspects;
mod upkeep;
mod vitals;

const PROJECT: &str = "default";
const LEASE: Duration = Duration::from_secs(15);
const LEAD: Duration = Duration::from_millis(500);
const POLL: Duration = Duration::from_secs(5);

fn at(time: &str) -> Timestamp {
    let text = if time.contains('T') { format!("{time}Z") } else { format!("2026-03-02T{time}Z") };
    Timestamp::from_micros(text.parse::<jiff::Timestamp>().unwrap().as_microsecond())
}

pub(crate) fn config(name: &str) -> EngineConfig {
    let workflow = WorkflowConfig {
        is_schedulable: true,
        retry_max: 0,
        backoff: Backoff::default(),
        timeout: None,
        rules: polos::model::ClaimRules::default(),
        calls: Vec::new(),
        code: "code".into(),
    };
    EngineConfig {
        project: PROJECT.into(),
        app: "app".into(),
        aliases: Vec::new(),
        former: Vec::new(),
        version: None,
        is_whole: true,
        host: "host".into(),
        pid: 1,
        process_mark: name.into(),
        about: "{}".into(),
        workflows: [("wf".into(), workflow)].into(),
        declared: Vec::new(),
        run_on_create: BTreeSet::new(),
        limits: Vec::new(),
        concurrency: 10,
        lease: LEASE,
        idle_heartbeat: Duration::from_secs(60),
        lead: LEAD,
        lead_per_slot: Duration::from_millis(20),
        lead_max: LEAD * 10,
        poll_interval: POLL,
        retention: None,
        retention_keep: 10,
        batch_max: 100,
    }
}

/// A configuration with more permits than any test needs.
fn roomy(name: &str) -> EngineConfig {
    EngineConfig { concurrency: 1_000, ..config(name) }
}

/// A worker with its own clock.
struct Worker {
    engine: Engine<FaultyStore, SentLog>,
    clock: ManualClock,
    store: FaultyStore,
    door: SentLog,
    notices: Vec<Notice>,
    started: Vec<ClaimedRun>,
    /// When the claim of each started run was confirmed.
    confirmed: Vec<Option<Duration>>,
    stops: Vec<Stop>,
    rung: Vec<u64>,
    next: Deadline,
}

impl Worker {
    fn new(store: &MemoryStore, name: &str, time: &str) -> Self {
        Self::with(store, config(name), time)
    }

    fn with(store: &MemoryStore, config: EngineConfig, time: &str) -> Self {
        let (faulty, door, mut count) = (FaultyStore::new(store.clone()), SentLog::default(), 0);
        faulty.trouble.lock().commands = Some(Vec::new());
        let name = config.process_mark.to_string();
        let new_id = move || {
            count += 1;
            WorkerId::from(format!("{name}{count}"))
        };
        let reads = Arc::new(faulty.clone());
        let engine = Engine::new(reads, faulty.clone(), door.clone(), config, Box::new(new_id));
        let next = Deadline { wall: None, mono: Duration::ZERO, is_over: false };
        Self {
            engine,
            clock: ManualClock::new(at(time)),
            store: faulty,
            door,
            notices: Vec::new(),
            started: Vec::new(),
            confirmed: Vec::new(),
            stops: Vec::new(),
            rung: Vec::new(),
            next,
        }
    }

    /// Ticks until the engine wants to wait.
    fn tick(&mut self) -> &mut Self {
        let now = self.clock.now();
        for _ in 0..50 {
            self.next = self.engine.tick(now);
            let is_due = self.next.mono <= now.mono || self.next.wall.is_some_and(|wall| wall <= now.wall);
            if self.next.is_over || !is_due {
                for sent in self.door.take() {
                    match sent {
                        Sent::Start(run, confirmed_at) => {
                            self.confirmed.push(confirmed_at);
                            self.started.push(run);
                        }
                        Sent::Stop(stop) => self.stops.push(stop),
                        Sent::Ring(timer) => self.rung.push(timer),
                        Sent::Tell(notice) => self.notices.push(notice),
                    }
                }
                return self;
            }
        }
        panic!("it never wants to wait: {:?} at {now:?}", self.next);
    }

    fn now(&self) -> Timestamp {
        self.clock.now().wall
    }

    /// Advances time, with every tick that the engine asks for.
    fn run_until(&mut self, wall: Timestamp) -> &mut Self {
        while self.tick().now() < wall && !self.next.is_over {
            let now = self.clock.now();
            let wait_us = i64::try_from(self.next.mono.saturating_sub(now.mono).as_micros()).unwrap();
            let by_mono = Timestamp::from_micros(now.wall.as_micros() + wait_us);
            self.clock.advance_to(self.next.wall.unwrap_or(Timestamp::MAX).min(by_mono).min(wall));
        }
        self
    }

    fn until(&mut self, time: &str) -> &mut Self {
        self.run_until(at(time))
    }

    fn wait(&mut self, duration: Duration) -> &mut Self {
        self.run_until(self.now().saturating_add(duration))
    }

    /// Time passes without the worker noticing: SIGSTOP, a starved machine.
    fn pause(&mut self, duration: Duration) -> &mut Self {
        self.clock.advance_to(self.now().saturating_add(duration));
        self
    }

    fn hear(&mut self, message: Message) -> &mut Self {
        self.engine.receive(message, self.clock.now());
        self
    }

    /// The run's handler ends and its completion is durable.
    fn end(&mut self, run: &Run, ending: Completion) -> Result<Answer, Rejection> {
        let (id, token) = (run.id.clone(), run.token);
        self.hear(Message::Returned { run: id.clone(), token });
        let command = Command::CompleteRun {
            run: id.clone(),
            token,
            ending: Box::new(ending),
            stands_alone: false,
            tells: false,
        };
        let outcome = self.store.inner.commit(&[command], self.now()).unwrap().remove(0);
        self.hear(Message::Settled { run: id, token, is_accepted: outcome.is_ok(), leaves_work: true });
        outcome
    }

    fn succeed(&mut self, run: &Run) {
        self.end(run, Completion::Succeeded { result: None }).unwrap();
    }

    fn slots_started(&self) -> Vec<String> {
        self.started.iter().map(|claimed| time_of(claimed.run.slot.unwrap())).collect()
    }

    fn take_commands(&self) -> Vec<Command> {
        std::mem::take(self.store.trouble.lock().commands.as_mut().unwrap())
    }

    fn count_notices(&self, is_such: impl Fn(&Notice) -> bool) -> usize {
        self.notices.iter().filter(|notice| is_such(notice)).count()
    }
}

/// Advances time for all of them, a tenth of a second at a time.
fn together(workers: &mut [&mut Worker], time: &str) {
    let mut now = workers[0].now();
    while now < at(time) {
        now = now.saturating_add(Duration::from_millis(100)).min(at(time));
        for worker in &mut *workers {
            worker.run_until(now);
        }
    }
}

fn time_of(at: Timestamp) -> String {
    at.to_string().trim_start_matches("2026-03-02T").trim_end_matches('Z').to_owned()
}

fn declared(key: &str, fields: &Value, now: Timestamp) -> NewSchedule {
    let spec: ScheduleSpec = serde_json::from_value(fields.clone()).unwrap();
    let compiled_spec = CompiledSpec::new(spec.clone()).unwrap();
    NewSchedule {
        id: ScheduleId::from(format!("sch_{key}")),
        project: PROJECT.into(),
        workflow: "wf".into(),
        key: key.into(),
        owner: None,
        spec: serde_json::to_string(&spec).unwrap().into(),
        compiled_spec: spec.trigger_key().into(),
        version: None,
        tags: None,
        input: None,
        next_slot: compiled_spec.next(now),
    }
}

fn create(store: &MemoryStore, key: &str, fields: &Value, time: &str) -> ScheduleId {
    let new = declared(key, fields, at(time));
    let id = new.id.clone();
    store.commit(&[Command::UpsertSchedules(vec![new])], at(time)).unwrap().remove(0).unwrap();
    id
}

fn set_status(store: &MemoryStore, id: &ScheduleId, status: ScheduleStatus, time: &str) {
    let patch = Box::new(Patch { status: Some(status), ..Patch::default() });
    let command = Command::PatchSchedule { project: PROJECT.into(), id: id.clone(), revision: None, patch };
    store.commit(&[command], at(time)).unwrap().remove(0).unwrap();
}

fn schedule(store: &MemoryStore, id: &ScheduleId) -> Schedule {
    store.schedule(PROJECT, id).unwrap().unwrap()
}

fn runs(store: &MemoryStore) -> Vec<Run> {
    let mut runs = store.runs(PROJECT, &RunFilter::default(), &Page { limit: 10_000, after: None }).unwrap();
    runs.sort_by(|a, b| (a.slot, &a.id).cmp(&(b.slot, &b.id)));
    runs
}

fn history(store: &MemoryStore, id: &ScheduleId) -> Vec<LedgerEntry> {
    let mut lines = store.history(PROJECT, id, &Page { limit: 100_000, after: None }).unwrap().unwrap();
    lines.reverse();
    lines
}

fn run(store: &MemoryStore, id: &RunId) -> Run {
    store.run(PROJECT, id).unwrap().unwrap()
}

fn is_beat(command: &Command) -> bool {
    matches!(command, Command::Heartbeat { .. })
}

fn every_minute() -> Value {
    json!({"cron": "* * * * *"})
}

// ---- registering and idling ------------------------------------------------------------------

#[test]
fn a_worker_registers_once_and_then_writes_nothing() {
    let store = MemoryStore::new();
    let mut worker = Worker::new(&store, "a", "10:00:00");
    worker.until("11:00:00");
    let commands = worker.take_commands();
    assert!(matches!(commands[..], [Command::RegisterWorker(_)]), "{commands:?}");
    assert_eq!(worker.notices, [Notice::Registered("a1".into())]);
    assert_eq!(store.peers(PROJECT).unwrap().len(), 1);
}

#[test]
fn registration_is_retried_under_the_same_id_after_a_lost_reply() {
    let store = MemoryStore::new();
    let mut worker = Worker::new(&store, "a", "10:00:00");
    worker.store.trouble.lock().scripted.push_back(Some(Fault::After));
    worker.until("10:01:00");
    assert_eq!(store.peers(PROJECT).unwrap().len(), 1);
    assert!(worker.engine.is_registered());
}

#[test]
fn declared_schedules_start_when_the_worker_registers() {
    let store = MemoryStore::new();
    // The store was unavailable for an hour before the worker could register.
    let stale = declared("code", &every_minute(), at("09:00:00"));
    let config = EngineConfig { declared: vec![stale], ..config("a") };
    let mut worker = Worker::with(&store, config, "10:00:30");
    worker.until("10:00:45");
    assert_eq!(schedule(&store, &"sch_code".into()).next_slot, Some(at("10:01:00")));
    assert_eq!(worker.slots_started(), Vec::<String>::new(), "no slot from before it existed");
}

#[test]
fn a_declared_schedule_may_begin_with_a_run() {
    let store = MemoryStore::new();
    for (name, time, count) in [("a", "10:00:30", 1), ("b", "10:00:40", 1)] {
        let new = NewSchedule {
            id: ScheduleId::from(format!("sch_{name}")),
            owner: Some("app.py".into()),
            ..declared("code", &json!({"cron": "0 * * * *"}), at(time))
        };
        let run_on_create = BTreeSet::from([new.id.clone()]);
        let config = EngineConfig { declared: vec![new], run_on_create, ..config(name) };
        let mut worker = Worker::with(&store, config, time);
        worker.run_until(at(time));
        assert_eq!(runs(&store).len(), count, "{name}");
    }
    assert_eq!(runs(&store)[0].id, RunId::of_creation(&"sch_a".into()));
}

// ---- claiming and starting -------------------------------------------------------------------

#[test]
fn a_slot_is_claimed_early_and_started_at_its_instant() {
    let store = MemoryStore::new();
    create(&store, "k", &every_minute(), "10:00:30");
    let mut worker = Worker::new(&store, "a", "10:00:30");
    worker.until("10:00:59.499");
    assert!(runs(&store).is_empty(), "nothing is claimed earlier than the lead");
    worker.until("10:00:59.500");
    assert_eq!(runs(&store)[0].state, RunState::Running);
    assert_eq!((worker.started.len(), worker.engine.held_count()), (0, (1, 1)));
    worker.until("10:00:59.999");
    assert!(worker.started.is_empty(), "never early");
    worker.until("10:01:00");
    assert_eq!(worker.slots_started(), ["10:01:00"]);
}

#[test]
fn a_warm_up_starts_nothing_and_writes_nothing() {
    let store = MemoryStore::new();
    create(&store, "k", &every_minute(), "11:59:30");
    let mut worker = Worker::new(&store, "w", "11:59:30");
    worker.until("11:59:59.999");
    worker.take_commands();
    worker.engine.warm_up_start();
    worker.engine.warm_up_start();
    assert!(worker.door.take().is_empty());
    assert!(worker.take_commands().is_empty());
    worker.until("12:00:00");
    assert_eq!(worker.slots_started(), ["12:00:00"]);
}

#[test]
fn a_burst_is_claimed_earlier_and_started_at_its_instant() {
    let store = MemoryStore::default();
    for number in 0..40 {
        create(&store, &format!("key-{number}"), &every_minute(), "08:59:30");
    }
    let config = EngineConfig { concurrency: 100, ..config("w") };
    let mut worker = Worker::with(&store, config, "08:59:31");
    worker.until("08:59:59.1");
    assert_eq!(runs(&store).len(), 0);
    worker.until("08:59:59.2"); // 40 of 20 ms each
    assert_eq!((runs(&store).len(), worker.started.len()), (40, 0));
    worker.until("09:00");
    assert_eq!(worker.started.len(), 40);
    assert_eq!(schedule(&store, &runs(&store)[0].schedule_id.clone().unwrap()).next_slot, Some(at("09:01")));
}

#[test]
fn a_burst_that_arrives_late_is_claimed_at_once() {
    let store = MemoryStore::default();
    create(&store, "first", &every_minute(), "08:59:30");
    let config = EngineConfig { concurrency: 100, ..config("w") };
    let mut worker = Worker::with(&store, config, "08:59:31");
    worker.until("08:59:59");
    for number in 0..60 {
        create(&store, &format!("key-{number}"), &every_minute(), "08:59:59");
    }
    worker.engine.receive(Message::Changed, worker.clock.now());
    worker.tick();
    assert_eq!((runs(&store).len(), worker.started.len()), (61, 0));
    worker.until("09:00");
    assert_eq!(worker.started.len(), 61);
}

#[test]
fn a_change_does_not_stop_a_burst_that_is_being_claimed() {
    let store = MemoryStore::default();
    for number in 0..40 {
        create(&store, &format!("key-{number}"), &every_minute(), "08:59:30");
    }
    let config = EngineConfig { concurrency: 100, batch_max: 10, ..config("w") };
    let mut worker = Worker::with(&store, config, "08:59:31");
    worker.until("08:59:59.1");
    assert_eq!(runs(&store).len(), 0);
    worker.pause(Duration::from_millis(100));
    // Each tick claims one batch, and somebody commits between any two of them.
    for _ in 0..8 {
        let now = worker.clock.now();
        worker.hear(Message::Changed).engine.tick(now);
    }
    assert_eq!(runs(&store).len(), 40);
}

#[test]
fn slots_fire_one_after_the_other() {
    let store = MemoryStore::new();
    let id = create(&store, "k", &every_minute(), "10:00:30");
    let mut worker = Worker::new(&store, "a", "10:00:30");
    for minute in 1..=5 {
        worker.until(&format!("10:0{minute}:00"));
        let claimed = worker.started.last().unwrap().run.clone();
        worker.succeed(&claimed);
    }
    assert_eq!(worker.slots_started(), ["10:01:00", "10:02:00", "10:03:00", "10:04:00", "10:05:00"]);
    assert!(history(&store, &id).iter().all(|line| line.outcome == SlotOutcome::Ran));
    let upcoming: Vec<_> = worker.started.iter().map(|claimed| claimed.run.upcoming.unwrap()).collect();
    let slots: Vec<_> = worker.started.iter().map(|claimed| claimed.run.slot.unwrap()).collect();
    assert_eq!(upcoming[..4], slots[1..]);
}

#[test]
fn a_schedule_deleted_between_claim_and_start_starts_nothing() {
    let store = MemoryStore::new();
    let id = create(&store, "k", &every_minute(), "10:00:30");
    let mut worker = Worker::new(&store, "a", "10:00:30");
    worker.until("10:00:59.700");
    let delete = Command::DeleteSchedule { project: PROJECT.into(), id };
    store.commit(&[delete], at("10:00:59.700")).unwrap().remove(0).unwrap();
    worker.until("10:02:30");
    assert!(worker.started.is_empty());
    assert_eq!(worker.engine.held_count(), (0, 0));
}

fn delete(store: &MemoryStore, id: &ScheduleId, time: &str) {
    let delete = Command::DeleteSchedule { project: PROJECT.into(), id: id.clone() };
    store.commit(&[delete], at(time)).unwrap().remove(0).unwrap();
}

#[test]
fn a_claim_is_confirmed_when_the_store_is_asked_and_not_later() {
    let store = MemoryStore::new();
    create(&store, "k", &every_minute(), "10:00:30");
    let mut worker = Worker::new(&store, "a", "10:00:30");
    let began = worker.clock.now();
    worker.until("10:01:00.500");
    let slot = began.mono + Duration::from_secs(30);
    assert_eq!(worker.confirmed, [Some(slot)], "an early claim is confirmed at its slot");
}

#[test]
fn a_due_run_of_a_deleted_schedule_is_started_unconfirmed() {
    let store = MemoryStore::new();
    let id = create(&store, "k", &every_minute(), "10:00:30");
    let mut worker = Worker::new(&store, "a", "10:00:30");
    worker.until("10:00:59.700");
    // The slot has passed when the deletion is decided, so its run is not taken back.
    delete(&store, &id, "10:01:00");
    worker.until("10:01:00");
    assert_eq!((worker.slots_started(), &*worker.confirmed), (vec!["10:01:00".to_owned()], &[None][..]));
}

#[test]
fn a_run_of_a_deleted_schedule_that_is_claimed_again_is_started_unconfirmed() {
    let store = MemoryStore::new();
    let id = create(&store, "k", &every_minute(), "10:00:30");
    let mut a = Worker::new(&store, "a", "10:00:30");
    a.until("10:01:00");
    assert_eq!(a.started.len(), 1);
    delete(&store, &id, "10:01:00");
    // Nothing shows whether `a` has entered the run.
    let run = a.started[0].run.clone();
    a.end(&run, Completion::Released).unwrap();
    let mut b = Worker::new(&store, "b", "10:01:01");
    b.until("10:01:02");
    assert_eq!((b.slots_started(), &*b.confirmed), (vec!["10:01:00".to_owned()], &[None][..]));
}

#[test]
fn a_run_that_is_claimed_again_is_confirmed_by_the_store() {
    let store = MemoryStore::new();
    create(&store, "k", &every_minute(), "10:00:30");
    let mut a = Worker::new(&store, "a", "10:00:30");
    a.until("10:01:00");
    let run = a.started[0].run.clone();
    a.end(&run, Completion::Released).unwrap();
    let mut b = Worker::new(&store, "b", "10:01:01");
    b.until("10:01:02");
    assert_eq!(b.slots_started(), ["10:01:00"]);
    assert!(b.confirmed[0].is_some());
}

#[test]
fn a_schedule_paused_between_claim_and_start_waits_for_its_resumption() {
    let store = MemoryStore::new();
    let id = create(&store, "k", &json!({"cron": "0 * * * *"}), "10:59:30");
    let mut worker = Worker::new(&store, "a", "10:59:30");
    worker.until("10:59:59.700");
    set_status(&store, &id, ScheduleStatus::Paused, "10:59:59.700");
    worker.until("11:20:00");
    assert!(worker.started.is_empty());
    set_status(&store, &id, ScheduleStatus::Active, "11:20:00");
    worker.until("11:20:06");
    assert_eq!(worker.slots_started(), ["11:00:00"], "the slot follows the catch-up policy");
}

#[test]
fn a_slot_that_was_claimed_early_waits_for_a_run_that_was_triggered_meanwhile() {
    let store = MemoryStore::new();
    let id = create(&store, "k", &json!({"cron": "0 * * * *"}), "10:59:30");
    let (mut a, mut b) = (Worker::new(&store, "a", "10:59:30"), Worker::new(&store, "b", "10:59:30"));
    together(&mut [&mut a, &mut b], "10:59:59.700");
    let new = NewRun {
        workflow: "wf".into(),
        schedule_id: Some(id.clone()),
        slot: Some(at("10:59:59.700")),
        origin: Origin::Trigger,
        available_at: at("10:59:59.700"),
        revokes_claims: true,
        ..new_run("run_by_hand")
    };
    let trigger = Command::CreateRun(Box::new(new));
    store.commit(&[trigger], at("10:59:59.700")).unwrap().remove(0).unwrap();
    together(&mut [&mut a, &mut b], "11:00:10");
    let started: Vec<_> = a.started.iter().chain(&b.started).map(|claimed| claimed.run.clone()).collect();
    assert_eq!(started.iter().map(|run| run.id.as_str()).collect::<Vec<_>>(), ["run_by_hand"]);
    let holder = if a.started.is_empty() { &mut b } else { &mut a };
    holder.succeed(&started[0]);
    together(&mut [&mut a, &mut b], "11:00:20");
    let slots: Vec<_> = [a.slots_started(), b.slots_started()].concat();
    assert!(slots.contains(&"11:00:00".to_owned()), "buffer_one runs it after the triggered one");
}

/// An edit that moves no slot: early claims are revoked all the same.
fn edit_input(store: &MemoryStore, id: &ScheduleId, time: &str) {
    let patch = Box::new(Patch { input: Some(Some("1".into())), ..Patch::default() });
    let command = Command::PatchSchedule { project: PROJECT.into(), id: id.clone(), revision: None, patch };
    store.commit(&[command], at(time)).unwrap().remove(0).unwrap();
}

#[test]
fn a_slot_revoked_and_claimed_again_starts_once() {
    let store = MemoryStore::new();
    let id = create(&store, "k", &every_minute(), "10:00:30");
    let (mut a, mut b) = (Worker::new(&store, "a", "10:00:30"), Worker::new(&store, "b", "10:00:30"));
    b.until("10:00:59");
    a.until("10:00:59.600");
    edit_input(&store, &id, "10:00:59.600");
    b.until("10:00:59.900");
    a.until("10:01:00");
    b.until("10:01:00");
    assert_eq!((a.started.len(), b.started.len()), (0, 1), "whose claim was taken back must not start it");
}

#[test]
fn a_slot_claimed_again_by_the_same_worker_starts_once_with_one_permit() {
    let store = MemoryStore::new();
    let id = create(&store, "k", &every_minute(), "10:00:30");
    let mut worker = Worker::with(&store, EngineConfig { concurrency: 2, ..config("a") }, "10:00:30");
    worker.until("10:00:59.600");
    edit_input(&store, &id, "10:00:59.600");
    worker.hear(Message::Changed).until("10:01:00");
    assert_eq!(worker.slots_started(), ["10:01:00"]);
    for key in ["x", "y"] {
        create(&store, key, &json!({"at_us": at("10:01:10").as_micros()}), "10:01:00");
    }
    let run = worker.started[0].run.clone();
    worker.succeed(&run);
    worker.until("10:01:20");
    assert_eq!(worker.started.len(), 3, "both places are free again");
}

#[test]
fn a_change_without_a_notification_is_found_by_polling() {
    let store = MemoryStore::new();
    let mut worker = Worker::new(&store, "a", "10:00:00");
    worker.until("10:00:31");
    create(&store, "k", &json!({"every_us": 1_000_000}), "10:00:31");
    worker.wait(POLL);
    assert!(!worker.started.is_empty());
}

#[test]
fn a_change_with_a_notification_is_seen_at_once() {
    let store = MemoryStore::new();
    let mut worker = Worker::new(&store, "a", "10:00:00");
    worker.until("10:00:31");
    create(&store, "k", &json!({"every_us": 1_000_000}), "10:00:31");
    worker.hear(Message::Changed).until("10:00:32");
    assert_eq!(worker.slots_started(), ["10:00:32"]);
}

// ---- permits ---------------------------------------------------------------------------------

#[test]
fn runs_without_a_permit_are_queued_in_the_order_of_slots() {
    let store = MemoryStore::new();
    for (key, second) in [("c", 3), ("a", 1), ("d", 4), ("b", 2)] {
        create(&store, key, &json!({"at_us": at("10:01:00").as_micros() + second * 1_000_000}), "10:00:30");
    }
    let mut worker = Worker::with(&store, EngineConfig { concurrency: 1, ..config("a") }, "10:00:30");
    worker.until("10:01:10");
    assert_eq!(worker.slots_started(), ["10:01:01"]);
    assert_eq!(runs(&store).iter().filter(|run| run.state == RunState::Queued).count(), 3);
    for count in 2..=4 {
        let run = worker.started.last().unwrap().run.clone();
        worker.succeed(&run);
        worker.tick();
        assert_eq!(worker.started.len(), count);
    }
    assert_eq!(worker.slots_started(), ["10:01:01", "10:01:02", "10:01:03", "10:01:04"]);
}

#[test]
fn a_slot_that_comes_due_does_not_overtake_a_queued_run() {
    let store = MemoryStore::new();
    for (key, second) in [("a", 1), ("b", 2), ("c", 10)] {
        create(&store, key, &json!({"at_us": at("10:01:00").as_micros() + second * 1_000_000}), "10:00:30");
    }
    let mut worker = Worker::with(&store, EngineConfig { concurrency: 1, ..config("a") }, "10:00:30");
    worker.until("10:01:09");
    // The permit becomes free at the very moment when the third slot is due.
    let run = worker.started[0].run.clone();
    worker.pause(Duration::from_secs(1)).succeed(&run);
    worker.tick();
    assert_eq!(worker.slots_started(), ["10:01:01", "10:01:02"]);
}

#[test]
fn another_worker_claims_what_the_first_has_no_permit_for() {
    let store = MemoryStore::new();
    for key in ["a", "b"] {
        create(&store, key, &json!({"at_us": at("10:01:00").as_micros()}), "10:00:30");
    }
    let mut full = Worker::with(&store, EngineConfig { concurrency: 1, ..config("a") }, "10:00:30");
    let mut free = Worker::new(&store, "b", "10:00:30");
    together(&mut [&mut full, &mut free], "10:01:00");
    assert_eq!((full.started.len(), free.started.len()), (1, 1));
}

// ---- stopping --------------------------------------------------------------------------------

#[test]
fn a_run_that_takes_too_long_is_stopped_once() {
    let store = MemoryStore::new();
    create(&store, "k", &json!({"at_us": at("10:01:00").as_micros()}), "10:00:30");
    let mut config = config("a");
    config.workflows.get_mut("wf").unwrap().timeout = Some(Duration::from_secs(30));
    let mut worker = Worker::with(&store, config, "10:00:30");
    worker.until("10:01:29.999");
    assert!(worker.stops.is_empty());
    worker.until("10:05:00");
    let reasons: Vec<_> = worker.stops.iter().map(|stop| stop.reason).collect();
    assert_eq!(reasons, [StopReason::TimedOut]);
}

#[test]
fn the_timeout_of_a_run_that_ended_stops_nothing() {
    let store = MemoryStore::new();
    create(&store, "k", &json!({"at_us": at("10:01:00").as_micros()}), "10:00:30");
    let mut config = config("a");
    config.workflows.get_mut("wf").unwrap().timeout = Some(Duration::from_secs(30));
    let mut worker = Worker::with(&store, config, "10:00:30");
    worker.until("10:01:00");
    let run = worker.started[0].run.clone();
    worker.succeed(&run);
    worker.until("10:05:00");
    assert!(worker.stops.is_empty());
}

#[test]
fn a_cancellation_request_reaches_the_handler_once() {
    let store = MemoryStore::new();
    create(&store, "k", &json!({"at_us": at("10:01:00").as_micros()}), "10:00:30");
    create(&store, "other", &json!({"every_us": 7_000_000}), "10:00:30");
    let mut worker = Worker::new(&store, "a", "10:00:30");
    worker.until("10:01:00");
    let held = worker.started.iter().find(|claimed| claimed.run.key.as_ref() == "k").unwrap().run.clone();
    let cancel = Command::CancelRun { project: PROJECT.into(), run: held.id.clone() };
    store.commit(&[cancel], at("10:01:00")).unwrap().remove(0).unwrap();
    worker.wait(POLL + POLL);
    // A handler that cleans up must not be interrupted again whenever anything changes.
    let stop = Stop { run: held.id.clone(), token: held.token, reason: StopReason::Cancelled };
    assert_eq!(worker.stops, [stop]);
    worker.end(&held, Completion::Cancelled { error: None }).unwrap();
    assert_eq!(run(&store, &held.id).state, RunState::Cancelled);
}

#[test]
fn timers_fire_once_by_the_monotonic_clock() {
    let store = MemoryStore::new();
    let mut worker = Worker::new(&store, "a", "10:00:00");
    worker.tick();
    worker.hear(Message::SetTimer { id: 7, delay: Duration::from_secs(3) });
    worker.clock.set_wall(at("12:00:00"));
    worker.wait(Duration::from_millis(2_999));
    assert!(worker.rung.is_empty());
    worker.wait(Duration::from_secs(60));
    assert_eq!(worker.rung, [7]);
}

// ---- leases ----------------------------------------------------------------------------------

#[test]
fn only_a_worker_that_holds_runs_sends_heartbeats() {
    let store = MemoryStore::new();
    create(&store, "k", &json!({"at_us": at("10:01:00").as_micros()}), "10:00:30");
    let mut worker = Worker::new(&store, "a", "10:00:30");
    worker.until("10:01:00");
    worker.take_commands();
    worker.until("10:02:00");
    let commands = worker.take_commands();
    assert!(commands.iter().all(is_beat));
    assert!((10..=13).contains(&commands.len()), "{} heartbeats in a minute", commands.len());
    let run = worker.started[0].run.clone();
    worker.succeed(&run);
    worker.until("10:10:00");
    assert!(worker.take_commands().is_empty());
}

#[test]
fn a_worker_that_commits_without_claiming_still_sends_heartbeats() {
    let store = MemoryStore::new();
    create(&store, "long", &json!({"every_us": 2_000_000, "overlap": "skip"}), "10:00:00");
    let mut worker = Worker::new(&store, "a", "10:00:00");
    worker.until("10:00:30");
    worker.take_commands();
    worker.until("10:01:30");
    let heartbeats = worker.take_commands().iter().filter(|command| is_beat(command)).count();
    assert!(heartbeats >= 10, "{heartbeats} heartbeats while slots were skipped for a minute");
}

#[test]
fn a_silent_worker_expires_after_the_lease_and_not_before() {
    let store = MemoryStore::new();
    create(&store, "k", &json!({"at_us": at("10:01:00").as_micros()}), "10:00:30");
    let mut dead = Worker::new(&store, "dead", "10:00:30");
    let mut heir = Worker::new(&store, "heir", "10:00:30");
    together(&mut [&mut dead, &mut heir], "10:01:00");
    heir.until("10:01:14");
    assert!(heir.started.is_empty());
    // Its last heartbeat may have been seen as late as one poll after it was sent.
    heir.until("10:01:21");
    let taken = &heir.started[0].run;
    assert_eq!(
        (taken.slot, taken.token, taken.attempt),
        (Some(at("10:01:00")), dead.started[0].run.token.next(), 1)
    );
    assert_eq!(heir.count_notices(|notice| matches!(notice, Notice::TookOver { run_count: 1, .. })), 1);
}

#[test]
fn a_worker_with_heartbeats_does_not_expire() {
    let store = MemoryStore::new();
    create(&store, "k", &json!({"at_us": at("10:01:00").as_micros()}), "10:00:30");
    let (mut a, mut b) = (Worker::new(&store, "a", "10:00:30"), Worker::new(&store, "b", "10:00:30"));
    together(&mut [&mut a, &mut b], "10:11:00");
    assert_eq!((a.started.len(), b.started.len(), store.peers(PROJECT).unwrap().len()), (1, 0, 2));
}

#[test]
fn a_clock_jump_expires_no_worker() {
    let store = MemoryStore::new();
    create(&store, "k", &json!({"at_us": at("10:01:00").as_micros()}), "10:00:30");
    let (mut a, mut b) = (Worker::new(&store, "a", "10:00:30"), Worker::new(&store, "b", "10:00:30"));
    together(&mut [&mut a, &mut b], "10:01:01");
    b.clock.set_wall(at("2036-01-01T00:00:00"));
    b.wait(Duration::from_secs(10));
    assert_eq!(store.peers(PROJECT).unwrap().len(), 2);
}

#[test]
fn a_suspended_worker_gives_its_peers_a_full_lease_afterwards() {
    // All were suspended together (a container paused): the first to resume must not expire the
    // others.
    let store = MemoryStore::new();
    create(&store, "k", &json!({"at_us": at("10:01:00").as_micros()}), "10:00:30");
    let (mut a, mut b) = (Worker::new(&store, "a", "10:00:30"), Worker::new(&store, "b", "10:00:30"));
    together(&mut [&mut a, &mut b], "10:01:02");
    a.pause(LEASE * 4);
    b.pause(LEASE * 4);
    b.tick();
    a.tick();
    assert_eq!(store.peers(PROJECT).unwrap().len(), 2);
    assert_eq!(a.count_notices(|notice| matches!(notice, Notice::LeaseLost { .. })), 0);
}

#[test]
fn an_outage_of_the_store_costs_no_worker_its_runs() {
    let store = MemoryStore::new();
    create(&store, "k", &json!({"at_us": at("10:01:00").as_micros()}), "10:00:30");
    let (mut a, mut b) = (Worker::new(&store, "a", "10:00:30"), Worker::new(&store, "b", "10:00:30"));
    together(&mut [&mut a, &mut b], "10:01:02");
    for worker in [&mut a, &mut b] {
        worker.store.trouble.lock().is_down = true;
        worker.wait(LEASE * 4);
        worker.store.trouble.lock().is_down = false;
    }
    b.wait(Duration::from_secs(3));
    a.wait(Duration::from_secs(3));
    assert_eq!(store.peers(PROJECT).unwrap().len(), 2);
    assert_eq!(a.count_notices(|notice| matches!(notice, Notice::LeaseLost { .. })), 0);
}

#[test]
fn an_expired_worker_that_returns_stops_everything_and_registers_again() {
    let store = MemoryStore::new();
    for key in ["k", "l", "m", "n"] {
        create(&store, key, &json!({"at_us": at("10:01:00").as_micros()}), "10:00:30");
    }
    let busy = create(&store, "busy", &json!({"every_us": 1_000_000, "overlap": "allow"}), "10:00:30");
    let mut zombie = Worker::with(&store, roomy("zombie"), "10:00:30");
    let mut heir = Worker::with(&store, roomy("heir"), "10:00:30");
    together(&mut [&mut zombie, &mut heir], "10:01:00");
    let held = zombie.started.iter().find(|claimed| claimed.run.schedule_id.as_ref() != Some(&busy)).unwrap();
    let held = held.run.clone();
    heir.until("10:01:40");
    assert!(!store.peers(PROJECT).unwrap().iter().any(|peer| peer.id.as_str() == "zombie1"));
    zombie.pause(Duration::from_secs(40)).tick();
    assert!(zombie.stops.iter().any(|stop| stop.run == held.id && stop.reason == StopReason::LeaseLost));
    assert_eq!(zombie.count_notices(|notice| matches!(notice, Notice::LeaseLost { .. })), 1, "said once");
    assert_eq!(zombie.engine.worker().as_str(), "zombie2");
    zombie.wait(Duration::from_secs(1));
    assert!(store.peers(PROJECT).unwrap().iter().any(|peer| peer.id.as_str() == "zombie2"));
    let late = zombie.end(&held, Completion::Succeeded { result: None });
    assert_eq!(late, Err(Rejection::Fenced), "its late write is refused");
}

#[test]
fn after_a_rollback_a_worker_drops_its_claims_and_registers_again() {
    let store = MemoryStore::new();
    create(&store, "k", &json!({"at_us": at("10:01:00").as_micros()}), "10:00:30");
    let mut worker = Worker::new(&store, "w", "10:00:30");
    worker.until("10:01:00");
    let held = worker.started[0].run.clone();
    worker.hear(Message::RollbackDetected).tick();
    assert_eq!(
        worker.stops,
        [Stop { run: held.id.clone(), token: held.token, reason: StopReason::LeaseLost }]
    );
    assert_eq!(
        worker.count_notices(|notice| matches!(notice, Notice::RollbackDetected { held_count: 1 })),
        1
    );
    assert_eq!(worker.count_notices(|notice| matches!(notice, Notice::LeaseLost { .. })), 0);
    assert_eq!(worker.engine.worker().as_str(), "w2");
    // Its former registration is silent, so the run is free again after the lease, under another
    // token.
    worker.until("10:02:00");
    let again = &worker.started.last().unwrap().run;
    assert_eq!(again.id, held.id);
    assert!(again.token > held.token);
}

#[test]
fn a_fenced_step_stops_only_that_run() {
    let store = MemoryStore::new();
    create(&store, "a", &json!({"at_us": at("10:01:00").as_micros()}), "10:00:30");
    create(&store, "b", &json!({"at_us": at("10:01:00").as_micros()}), "10:00:30");
    let mut worker = Worker::new(&store, "w", "10:00:30");
    worker.until("10:01:00");
    let first = worker.started[0].run.clone();
    worker.hear(Message::Fenced { run: first.id.clone(), token: first.token }).tick();
    assert_eq!(worker.stops, [Stop { run: first.id, token: first.token, reason: StopReason::LeaseLost }]);
    assert_eq!(worker.engine.held_count(), (1, 0));
}

/// Number of decisions that were sent to the store so far.
fn decisions(worker: &Worker) -> usize {
    let trouble = worker.store.trouble.lock();
    let sent = trouble.commands.as_ref().unwrap();
    sent.iter().filter(|command| matches!(command, Command::Fire { .. })).count()
}

#[test]
fn concurrent_workers_decide_about_different_slots() {
    let store = MemoryStore::new();
    for number in 0..20 {
        let key = format!("{:02}", number * 7);
        create(&store, &key, &json!({"at_us": at("10:01:00").as_micros()}), "10:00:30");
    }
    let mut a = Worker::with(&store, roomy("a"), "10:00:30");
    let mut b = Worker::with(&store, roomy("b"), "10:00:30");
    together(&mut [&mut a, &mut b], "10:01:00");
    assert_eq!(a.started.len() + b.started.len(), 20);
    assert_eq!(decisions(&a) + decisions(&b), 20, "no slot is decided twice");
    assert!(decisions(&a) > 0 && decisions(&b) > 0);
}

#[test]
fn slots_of_a_dead_worker_s_shard_start_in_time() {
    let store = MemoryStore::new();
    for number in 0..20 {
        create(&store, &number.to_string(), &json!({"at_us": at("10:01:00").as_micros()}), "10:00:30");
    }
    let mut left = Worker::with(&store, roomy("left"), "10:00:30");
    let mut gone = Worker::with(&store, roomy("gone"), "10:00:30");
    together(&mut [&mut left, &mut gone], "10:00:50");
    left.until("10:01:00");
    assert_eq!(left.started.len(), 20);
    let late = left.started.iter().find(|claimed| claimed.run.started_at > claimed.run.slot);
    assert!(late.is_none(), "{late:?}");
}

// ---- outages of the store --------------------------------------------------------------------

#[test]
fn an_outage_and_its_end_are_each_reported_once() {
    let store = MemoryStore::new();
    create(&store, "k", &json!({"every_us": 1_000_000, "overlap": "allow"}), "10:00:00");
    let mut worker = Worker::with(&store, EngineConfig { concurrency: 1_000, ..config("a") }, "10:00:00");
    worker.until("10:00:10");
    worker.store.trouble.lock().is_down = true;
    let before = worker.store.trouble.lock().failure_count;
    worker.until("10:01:10");
    let tries = worker.store.trouble.lock().failure_count - before;
    assert!((20..=70).contains(&tries), "{tries} tries in a minute");
    worker.store.trouble.lock().is_down = false;
    worker.until("10:01:20");
    let reported: Vec<_> =
        worker.notices.iter().filter(|notice| !matches!(notice, Notice::Missed(_))).collect();
    assert!(
        matches!(reported[..], [Notice::Registered(_), Notice::StoreTrouble(_), Notice::StoreRecovered(_)]),
        "{reported:?}"
    );
    assert!(worker.started.last().unwrap().run.slot >= Some(at("10:01:19")), "{:?}", worker.slots_started());
}

#[test]
fn a_store_that_needs_an_operator_is_retried_and_reported_once() {
    let store = MemoryStore::new();
    create(&store, "k", &json!({"every_us": 1_000_000, "overlap": "allow"}), "10:00:00");
    let mut worker = Worker::with(&store, EngineConfig { concurrency: 1_000, ..config("a") }, "10:00:00");
    worker.until("10:00:10");
    // As when a server restarts, and then rejects the login.
    worker.store.trouble.lock().is_down = true;
    worker.until("10:00:20");
    worker.store.trouble.lock().is_denying = true;
    worker.until("10:30:00");
    worker.store.trouble.lock().is_down = false;
    worker.until("10:30:20");
    let reported: Vec<_> =
        worker.notices.iter().filter(|notice| !matches!(notice, Notice::Missed(_))).collect();
    let [
        Notice::Registered(_),
        Notice::StoreTrouble(_),
        Notice::StoreDenied(_),
        Notice::StoreRecovered(after),
    ] = reported[..]
    else {
        panic!("{reported:?}")
    };
    assert!((1_780..1_800).contains(&after.as_secs()), "{after:?}");
    assert!(worker.started.last().unwrap().run.slot >= Some(at("10:30:19")), "{:?}", worker.slots_started());
}

#[test]
fn an_intermittently_failing_store_is_one_outage() {
    let store = MemoryStore::new();
    create(&store, "k", &json!({"every_us": 1_000_000, "overlap": "allow"}), "10:00:00");
    let mut worker = Worker::with(&store, EngineConfig { concurrency: 1_000, ..config("a") }, "10:00:00");
    worker.until("10:00:10");
    // Seven times in a few seconds, like a table whose columns are altered concurrently.
    for _ in 0..7 {
        worker.store.trouble.lock().scripted.push_back(Some(Fault::Before));
        let failures = worker.store.trouble.lock().failure_count;
        while worker.store.trouble.lock().failure_count == failures {
            worker.wait(Duration::from_millis(100));
        }
    }
    worker.until("10:01:00");
    let reported: Vec<_> =
        worker.notices.iter().filter(|notice| !matches!(notice, Notice::Missed(_))).collect();
    assert!(reported.len() <= 5, "{reported:?}");
    assert!(matches!(reported.last(), Some(Notice::StoreRecovered(_))), "{reported:?}");
}

#[test]
fn slots_of_an_outage_follow_the_catch_up_policy() {
    let store = MemoryStore::new();
    let id = create(&store, "k", &json!({"every_us": 1_000_000, "overlap": "allow"}), "10:00:00");
    let mut worker = Worker::new(&store, "a", "10:00:00");
    worker.until("10:00:10");
    worker.store.trouble.lock().is_down = true;
    worker.until("10:01:10");
    worker.store.trouble.lock().is_down = false;
    worker.until("10:01:20");
    let missed: u64 = history(&store, &id)
        .iter()
        .filter(|line| line.outcome == SlotOutcome::Missed)
        .map(|line| line.count)
        .sum();
    assert!((50..=62).contains(&missed), "{missed} missed in an outage of a minute");
}

#[test]
fn a_claim_with_a_lost_reply_is_recovered() {
    for schedule in [
        json!({"at_us": at("10:01:00").as_micros()}),
        // Queued first, so that the other query claims it.
        json!({"at_us": at("10:01:00").as_micros(), "jitter_us": 1_000_000}),
    ] {
        let store = MemoryStore::new();
        create(&store, "k", &schedule, "10:00:30");
        let mut worker = Worker::new(&store, "a", "10:00:30");
        worker.until("10:00:50");
        worker.store.trouble.lock().scripted.extend([Some(Fault::After), Some(Fault::After)]);
        worker.wait(Duration::from_secs(30));
        assert_eq!(worker.slots_started(), ["10:01:00"]);
        let run = worker.started[0].run.clone();
        worker.succeed(&run);
        worker.wait(LEASE * 2);
        assert_eq!((worker.started.len(), runs(&store)[0].state), (1, RunState::Succeeded));
    }
}

#[test]
fn a_lost_claim_is_recovered_while_other_runs_are_held() {
    let store = MemoryStore::new();
    create(&store, "held", &json!({"at_us": at("10:00:40").as_micros()}), "10:00:30");
    create(&store, "lost", &json!({"at_us": at("10:01:02").as_micros()}), "10:00:30");
    let mut worker = Worker::new(&store, "a", "10:00:30");
    worker.until("10:01:01");
    worker.store.trouble.lock().scripted.push_back(Some(Fault::After));
    worker.until("10:03:00");
    assert!(worker.slots_started().contains(&"10:01:02".to_owned()), "{:?}", worker.slots_started());
    assert_eq!(worker.started.len(), 2, "what was held is not started again");
}

// ---- absence ---------------------------------------------------------------------------------

#[test]
fn after_a_suspension_the_catch_up_policy_decides() {
    let store = MemoryStore::new();
    let latest = create(&store, "latest", &every_minute(), "10:00:30");
    let none = create(&store, "none", &json!({"cron": "* * * * *", "catch_up": "none"}), "10:00:30");
    let all = create(&store, "all", &json!({"cron": "* * * * *", "catch_up": "all"}), "10:00:30");
    let mut worker = Worker::new(&store, "a", "10:00:30");
    worker.until("10:00:45");
    worker.pause(Duration::from_secs(600)).tick();
    let outcomes = |id: &ScheduleId| -> Vec<(SlotOutcome, u64)> {
        history(&store, id).iter().map(|line| (line.outcome, line.count)).collect()
    };
    assert_eq!(outcomes(&latest), [(SlotOutcome::Missed, 9), (SlotOutcome::Ran, 1)]);
    assert_eq!(outcomes(&none), [(SlotOutcome::Missed, 10)]);
    assert_eq!(outcomes(&all), [(SlotOutcome::Ran, 1); 10]);
    assert_eq!(worker.count_notices(|notice| matches!(notice, Notice::WasAway(_))), 1);
}

#[test]
fn a_slow_store_is_not_reported_as_a_suspension() {
    let store = MemoryStore::new();
    let id = create(&store, "k", &every_minute(), "10:00:30");
    let mut worker = Worker::new(&store, "a", "10:00:30");
    worker.until("10:00:50").pause(Duration::from_secs(15));
    worker.engine.note_tick_took(Duration::from_secs(15));
    worker.until("10:01:20");
    assert!(worker.notices.contains(&Notice::StoreStalled(Duration::from_secs(15))), "{:?}", worker.notices);
    assert_eq!(worker.count_notices(|notice| matches!(notice, Notice::WasAway(_))), 0);
    assert_eq!(history(&store, &id)[0].outcome, SlotOutcome::Ran, "the catch-up policy decides");
    worker.pause(Duration::from_secs(15)).tick();
    assert!(worker.notices.contains(&Notice::WasAway(Duration::from_secs(15))), "{:?}", worker.notices);
}

/// Forwards the engine's notices.
#[derive(Clone)]
struct NoticeSender(crossbeam_channel::Sender<Notice>);

impl Dispatcher for NoticeSender {
    fn start(&self, _: Vec<ClaimedRun>, _: Option<Duration>) {}
    fn stop(&self, _: Vec<Stop>) {}
    fn fire_timers(&self, _: Vec<u64>) {}
    fn emit(&self, notice: Notice) {
        // The send fails once the test no longer listens.
        let _ = self.0.send(notice);
    }
}

#[test]
fn the_worker_thread_tells_a_slow_store_from_a_suspension() {
    let store = MemoryStore::new();
    let clock = ManualClock::new(at("10:00:30"));
    let (sender, receiver) = crossbeam_channel::unbounded();
    let faulty = FaultyStore::new(store);
    let slow = clock.clone();
    faulty.trouble.lock().on_read = Some(Arc::new(Mutex::new(move |count| {
        if count == 10 {
            slow.advance_to(slow.now().wall.saturating_add(Duration::from_secs(20)));
        }
    })));
    let new_id = Box::new(|| WorkerId::from("w"));
    let reads = Arc::new(faulty.clone());
    let engine = Engine::new(reads, faulty.clone(), NoticeSender(sender), config("a"), new_id);
    let mut driver = Driver::start(engine, Arc::new(clock.clone()), Box::new(|| {})).unwrap();
    // Only this one read moves the clock, so nothing else can report an absence.
    let reported = loop {
        driver.send(Message::Changed);
        if let Ok(notice @ (Notice::StoreStalled(_) | Notice::WasAway(_))) =
            receiver.recv_timeout(Duration::from_millis(1))
        {
            break notice;
        }
    };
    assert_eq!(reported, Notice::StoreStalled(Duration::from_secs(20)));
    driver.send(Message::Deregister);
    driver.join();
}

#[test]
fn a_clock_set_back_repeats_no_slot_and_the_future_still_fires() {
    for back in [Duration::from_secs(1), Duration::from_secs(3_600), Duration::from_secs(86_400)] {
        let store = MemoryStore::new();
        create(&store, "k", &json!({"cron": "* * * * *", "overlap": "allow"}), "10:00:30");
        let mut worker = Worker::new(&store, "a", "10:00:30");
        worker.until("10:03:30");
        worker.clock.set_wall(worker.now().saturating_sub(back));
        worker.until("10:03:59");
        assert_eq!(worker.slots_started(), ["10:01:00", "10:02:00", "10:03:00"], "back by {back:?}");
        worker.until("10:05:30");
        assert_eq!(
            worker.slots_started(),
            ["10:01:00", "10:02:00", "10:03:00", "10:04:00", "10:05:00"],
            "back by {back:?}"
        );
    }
}

#[test]
fn a_slot_that_a_clock_set_back_moved_away_is_not_started_early() {
    let store = MemoryStore::new();
    create(&store, "k", &every_minute(), "10:00:30");
    let mut worker = Worker::new(&store, "a", "10:00:30");
    worker.until("10:00:59.700");
    worker.clock.set_wall(at("09:59:59"));
    worker.until("10:00:59.900");
    assert!(worker.started.is_empty());
    worker.until("10:01:00");
    assert_eq!(worker.slots_started(), ["10:01:00"]);
}

#[test]
fn a_clock_set_forward_by_ten_years_makes_one_run_in_a_few_ticks() {
    let store = MemoryStore::new();
    let id = create(&store, "k", &json!({"every_us": 1_000_000}), "10:00:30.5");
    let mut worker = Worker::new(&store, "a", "10:00:30.5");
    worker.until("10:00:31");
    let run = worker.started[0].run.clone();
    worker.succeed(&run);
    worker.clock.set_wall(at("2036-03-02T10:00:00.5"));
    worker.tick();
    assert_eq!(runs(&store).len(), 2);
    let lines = history(&store, &id);
    assert!(lines.len() <= 5, "{lines:?}");
    assert_eq!(schedule(&store, &id).next_slot, Some(at("2036-03-02T10:00:01")));
}

#[test]
fn a_worker_started_in_the_wrong_century_recovers_when_the_clock_is_set() {
    for wrong in ["1970-01-01T00:00:10", "2099-01-01T00:00:00"] {
        let store = MemoryStore::new();
        create(&store, "k", &json!({"cron": "* * * * *", "overlap": "allow"}), "10:00:30");
        let mut worker = Worker::new(&store, "a", wrong);
        worker.wait(Duration::from_secs(30));
        worker.clock.set_wall(at("10:00:30"));
        worker.tick();
        worker.until("10:03:00");
        if wrong.starts_with('1') {
            assert_eq!(worker.slots_started().last().unwrap(), "10:03:00");
        }
    }
}

// ---- broken schedules ------------------------------------------------------------------------

#[test]
fn a_broken_schedule_is_marked_once_and_the_others_run() {
    let store = MemoryStore::new();
    create(&store, "good", &every_minute(), "10:00:30");
    let mut broken = declared("broken", &every_minute(), at("10:00:30"));
    broken.spec = r#"{"cron": "61 * * * *"}"#.into();
    store.commit(&[Command::UpsertSchedules(vec![broken])], at("10:00:30")).unwrap().remove(0).unwrap();
    let mut worker = Worker::new(&store, "a", "10:00:30");
    worker.until("10:02:30");
    assert_eq!(worker.count_notices(|notice| matches!(notice, Notice::ScheduleBroken(..))), 1);
    let broken = schedule(&store, &"sch_broken".into());
    assert_eq!(broken.status, ScheduleStatus::Broken);
    assert!(broken.note.unwrap().contains("61"));
    assert_eq!(worker.slots_started(), ["10:01:00"]);
}

// ---- stored calendars ------------------------------------------------------------------------

fn set_calendar(store: &MemoryStore, dates: &str, now: &str) {
    let (project, name, dates) = (PROJECT.into(), "holidays".into(), Some(dates.into()));
    let command = Command::SetCalendar { project, name, dates };
    store.commit(&[command], at(now)).unwrap().remove(0).unwrap();
}

#[test]
fn a_worker_follows_a_calendar_that_changes() {
    let store = MemoryStore::new();
    set_calendar(&store, "[]", "10:00:30");
    let spec = json!({"cron": "* * * * *", "overlap": "allow", "calendars": ["holidays"]});
    let id = create(&store, "k", &spec, "10:00:30");
    let mut worker = Worker::new(&store, "a", "10:00:30");
    worker.until("10:01:30");
    let today = at("10:01:30").as_micros() / 1_000_000;
    let today = jiff::Timestamp::from_second(today).unwrap().to_string();
    set_calendar(&store, &format!("[\"{}\"]", &today[..10]), "10:01:30");
    worker.until("10:03:30");
    set_calendar(&store, "[]", "10:03:30");
    worker.until("10:04:30");
    assert_eq!(worker.slots_started(), ["10:01:00", "10:04:00"]);
    let outcomes: Vec<_> = history(&store, &id).iter().map(|line| line.outcome).collect();
    let (ran, skipped) = (SlotOutcome::Ran, SlotOutcome::Skipped);
    assert_eq!(outcomes, [ran, skipped, skipped, ran]);
}

/// A schedule that another application declares before anybody has set its calendar.
fn create_without_calendar(store: &MemoryStore) -> ScheduleId {
    let spec = json!({"cron": "* * * * *", "overlap": "allow", "calendars": ["holidays"]});
    let declared = NewSchedule { owner: Some("other".into()), ..declared("k", &spec, at("10:00:30")) };
    let id = declared.id.clone();
    let worker = crate::store::fixture::new_worker("other");
    let entry = polos::model::WorkerEntry { app: "other".into(), declared: vec![declared], ..worker };
    let leave = Command::DeregisterWorker { worker: entry.id.clone() };
    for command in [Command::RegisterWorker(Box::new(entry)), leave] {
        store.commit(&[command], at("10:00:30")).unwrap().remove(0).unwrap();
    }
    id
}

#[test]
fn a_schedule_whose_calendar_is_missing_is_marked_broken_once_and_runs_nothing() {
    let store = MemoryStore::new();
    let id = create_without_calendar(&store);
    let mut worker = Worker::new(&store, "a", "10:00:30");
    worker.until("10:02:30");
    assert_eq!(worker.count_notices(|notice| matches!(notice, Notice::ScheduleBroken(..))), 1);
    let broken = schedule(&store, &id);
    assert_eq!(broken.status, ScheduleStatus::Broken);
    assert!(broken.note.unwrap().contains("no calendar `holidays`"));
    assert!(runs(&store).is_empty());
}

#[test]
fn a_schedule_continues_whose_calendar_was_set_before_it_was_marked_broken() {
    let store = MemoryStore::new();
    let id = create_without_calendar(&store);
    let mut first = Worker::new(&store, "a", "10:00:30");
    first.until("10:01:30");
    assert_eq!(schedule(&store, &id).status, ScheduleStatus::Broken);
    // As by a process that died before it looked which schedules are broken.
    set_calendar(&store, "[]", "10:01:30");
    let mut second = Worker::new(&store, "b", "10:01:30");
    second.until("10:02:30");
    assert_eq!(schedule(&store, &id).status, ScheduleStatus::Active);
    assert_eq!(schedule(&store, &id).note, None);
    assert_eq!(runs(&store).len(), 2, "the slot that was due, by its catch-up policy, and the next");
}

/// An older release marks a schedule broken whose specification has what it does not know, as each
/// release does: it runs nothing, and decides no slot.
#[test]
fn a_schedule_of_a_newer_release_is_left_alone_and_continues_with_a_newer_worker() {
    let store = MemoryStore::new();
    let id = create(&store, "k", &json!({"cron": "* * * * *", "overlap": "allow"}), "10:00:30");
    let readable = schedule(&store, &id);
    let newer = r#"{"cron":"* * * * *","overlap":"allow","of_the_future":["holidays"]}"#;
    let set_spec = |spec: polos::model::StoredSpec, time: &str| {
        let key = readable.spec.compiled().unwrap().trigger_key();
        let patch = Patch { spec: Some((spec, Arc::clone(key), None)), ..Patch::default() };
        let (project, patch) = (PROJECT.into(), Box::new(patch));
        let command = Command::PatchSchedule { project, id: id.clone(), revision: None, patch };
        store.commit(&[command], at(time)).unwrap().remove(0).unwrap();
    };
    set_spec(newer.into(), "10:00:30");
    let mut older = Worker::new(&store, "a", "10:00:30");
    older.until("10:03:30");
    assert_eq!(older.count_notices(|notice| matches!(notice, Notice::ScheduleBroken(..))), 1);
    let broken = schedule(&store, &id);
    assert_eq!((broken.status, broken.next_slot), (ScheduleStatus::Broken, Some(at("10:01:00"))));
    assert!(runs(&store).is_empty() && history(&store, &id).is_empty());
    // What a newer worker finds: it can read the specification.
    set_spec(readable.spec.clone(), "10:03:30");
    assert_eq!(schedule(&store, &id).note, broken.note);
    let mut newer = Worker::new(&store, "b", "10:03:30");
    newer.until("10:04:30");
    assert_eq!(schedule(&store, &id).status, ScheduleStatus::Active);
    let found = history(&store, &id);
    let mut found: Vec<_> = found.iter().map(|line| (line.from, line.count, line.outcome)).collect();
    found.sort_by_key(|line| line.0);
    let (ran, missed) = (SlotOutcome::Ran, SlotOutcome::Missed);
    let expected = [("10:01:00", 2, missed), ("10:03:00", 1, ran), ("10:04:00", 1, ran)];
    assert_eq!(found, expected.map(|(slot, count, outcome)| (at(slot), count, outcome)));
}

// ---- draining and deregistering --------------------------------------------------------------

#[test]
fn a_draining_worker_claims_nothing_more() {
    let store = MemoryStore::new();
    create(&store, "k", &json!({"cron": "* * * * *", "overlap": "allow"}), "10:00:30");
    let mut worker = Worker::new(&store, "a", "10:00:30");
    worker.until("10:01:30");
    worker.hear(Message::Drain).until("10:05:30");
    assert_eq!(worker.slots_started(), ["10:01:00"]);
    assert_eq!(runs(&store).len(), 1);
    assert!(worker.take_commands().iter().any(is_beat), "running handlers continue, with heartbeats");
}

#[test]
fn a_draining_worker_releases_early_claims() {
    for is_reply_lost in [false, true] {
        let store = MemoryStore::new();
        create(&store, "k", &json!({"at_us": at("10:01:00").as_micros()}), "10:00:30");
        let (mut a, mut b) = (Worker::new(&store, "a", "10:00:30"), Worker::new(&store, "b", "10:00:30"));
        together(&mut [&mut a, &mut b], "10:00:59.7");
        assert_eq!(a.engine.held_count(), (1, 1));
        if is_reply_lost {
            a.store.trouble.lock().scripted.push_back(Some(Fault::After));
        }
        a.hear(Message::Drain).tick();
        a.until("10:00:59.8");
        assert_eq!((a.engine.held_count(), runs(&store)[0].state), ((0, 0), RunState::Queued));
        b.hear(Message::Changed).until("10:00:59.9");
        assert_eq!(b.slots_started(), [""; 0], "it keeps its time");
        together(&mut [&mut a, &mut b], "10:01:01");
        assert_eq!((a.slots_started().len(), b.slots_started()), (0, vec!["10:01:00".to_owned()]));
    }
}

#[test]
fn a_draining_worker_without_a_store_starts_nothing_either() {
    let store = MemoryStore::new();
    create(&store, "k", &json!({"at_us": at("10:01:00").as_micros()}), "10:00:30");
    let mut worker = Worker::new(&store, "a", "10:00:30");
    worker.until("10:00:59.7");
    worker.store.trouble.lock().is_down = true;
    worker.hear(Message::Drain).until("10:01:05");
    worker.store.trouble.lock().is_down = false;
    worker.until("10:01:10");
    assert_eq!((worker.started.len(), runs(&store)[0].state), (0, RunState::Queued));
}

#[test]
fn a_lost_claim_recovered_by_a_draining_worker_is_released() {
    let store = MemoryStore::new();
    create(&store, "k", &json!({"at_us": at("10:01:00").as_micros()}), "10:00:30");
    let mut worker = Worker::new(&store, "a", "10:00:30");
    worker.until("10:00:59");
    worker.store.trouble.lock().scripted.push_back(Some(Fault::After));
    worker.until("10:00:59.51");
    assert_eq!((worker.engine.held_count(), runs(&store)[0].state), ((0, 0), RunState::Running));
    worker.hear(Message::Drain).until("10:01:10");
    assert_eq!((worker.started.len(), runs(&store)[0].state), (0, RunState::Queued));
}

#[test]
fn deregistering_frees_runs_at_once() {
    let store = MemoryStore::new();
    create(&store, "k", &json!({"at_us": at("10:01:00").as_micros()}), "10:00:30");
    create(&store, "soon", &json!({"at_us": at("10:01:00.4").as_micros()}), "10:00:30");
    let (mut a, mut b) = (Worker::new(&store, "a", "10:00:30"), Worker::new(&store, "b", "10:00:30"));
    together(&mut [&mut a, &mut b], "10:01:00");
    a.hear(Message::Drain).hear(Message::Deregister).tick();
    assert!(a.next.is_over);
    b.hear(Message::Changed).tick();
    assert_eq!(b.slots_started(), ["10:01:00"], "at once, not after the lease");
    b.until("10:01:01");
    assert_eq!(b.slots_started(), ["10:01:00", "10:01:00.400000"], "early claims keep their start time");
    assert_eq!(b.started[0].run.attempt, 1);
}

#[test]
fn deregistering_is_retried_until_the_store_recovers() {
    let store = MemoryStore::new();
    let mut worker = Worker::new(&store, "a", "10:00:00");
    worker.tick();
    worker.store.trouble.lock().is_down = true;
    worker.hear(Message::Deregister).wait(Duration::from_secs(2));
    assert!(!worker.next.is_over);
    worker.store.trouble.lock().is_down = false;
    worker.wait(Duration::from_secs(3));
    assert!(worker.next.is_over && store.peers(PROJECT).unwrap().is_empty());
}

#[test]
fn a_lasting_outage_does_not_keep_a_worker_from_stopping() {
    let store = MemoryStore::new();
    let mut worker = Worker::new(&store, "a", "10:00:00");
    worker.tick();
    worker.store.trouble.lock().is_down = true;
    worker.hear(Message::Deregister).wait(Duration::from_secs(8));
    assert!(worker.next.is_over, "what it held is free after the lease");
}
