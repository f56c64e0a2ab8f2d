//! A worker on a database in memory, assembled from the configuration that applications give.

use super::{HOUR, PROJECT, at, micros};
use crate::faults::FaultyStore;
use polos::engine::group_commit::GroupCommit;
use polos::engine::{Dispatcher, ExecutionOutcome, Notice, Stop};
use polos::error::Error;
use polos::model::{ClaimedRun, Origin, ScheduleStatus, StepRecord, StepState, Token};
use polos::service::{Claim, Database, Request, Worker, WorkerEvents, WorkerSetup};
use polos::store::{MemoryStore, Page, ScheduleFilter};
use polos::sync::Mutex;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

/// Collects the runs that start.
#[derive(Clone, Default)]
struct Started(Arc<Mutex<Vec<ClaimedRun>>>);

impl Dispatcher for Started {
    fn start(&self, runs: Vec<ClaimedRun>, _: Option<Duration>) {
        self.0.lock().extend(runs);
    }
    fn stop(&self, _: Vec<Stop>) {}
    fn fire_timers(&self, _: Vec<u64>) {}
    fn emit(&self, _: Notice) {}
}

struct Project {
    database: Arc<Database>,
    started: Started,
}

impl Project {
    fn new() -> Self {
        let options = json!({"project": PROJECT, "start": micros("12:00:00")});
        let database = Database::open(serde_json::from_value(options).unwrap()).unwrap();
        Self { database: Arc::new(database), started: Started::default() }
    }

    fn worker(&self, setup: Value) -> Result<Worker<Started>, Error> {
        let setup: WorkerSetup = serde_json::from_value(setup).unwrap();
        Worker::start(Arc::clone(&self.database), setup, self.started.clone(), ignored())
    }

    fn ask(&self, request: Value) -> Value {
        let request: Request = serde_json::from_value(request).unwrap();
        serde_json::from_str(&self.database.service.call(request, None).unwrap().unwrap()).unwrap()
    }

    fn run(&self, id: &str) -> Value {
        self.ask(json!({"get_run": {"id": id}}))
    }

    /// Starts a run of `wf` on the worker and returns its claim's run and token.
    fn started_run(&self, worker: &Worker<Started>) -> (String, i64) {
        self.ask(json!({"invoke": {"workflow": "wf", "is_local": true}}));
        self.next_start(worker)
    }

    fn next_start(&self, worker: &Worker<Started>) -> (String, i64) {
        worker.tick();
        let claimed = self.started.0.lock().pop().unwrap();
        (claimed.run.id.to_string(), claimed.run.token.0)
    }
}

/// What a worker says besides its runs, to nobody.
pub(super) fn ignored() -> WorkerEvents {
    WorkerEvents { on_advice: Arc::new(|_| {}), on_end: Box::new(|| {}), ask_loop: Box::new(|_| {}) }
}

pub(super) fn setup(declared: &Value) -> Value {
    json!({
        "app": "app",
        "aliases": [],
        "former": [],
        "version": "2",
        "is_whole": true,
        "about": {},
        "workflows": {"wf": {
            "is_schedulable": true,
            "retry_max": 1,
            "backoff": {"initial_us": 1_000_000, "factor": 2.0, "maximum_us": 9_000_000, "jitter": 0.0},
            "timeout": null,
            "code": "c1",
            "limit": null,
            "priority": 0,
        }},
        "declared": declared,
        "limits": {},
        "concurrency": 10,
        "lease": 15_000_000,
        "idle_heartbeat": 60_000_000,
        "lead": 0,
        "lead_per_slot": 0,
        "lead_max": 0,
        "poll_interval": 1_000_000,
        "retention": null,
        "batch_max": 10,
        "monitor": {"health": null, "stall": 30_000_000, "heartbeat_file": null},
    })
}

pub(super) fn nothing() -> Value {
    json!({"specs": [], "schedules": []})
}

fn failure(is_final: bool) -> ExecutionOutcome {
    ExecutionOutcome::Failed { error: Some(r#"{"type":"E","message":"","traceback":""}"#.into()), is_final }
}

fn claim(run: &str, token: i64, attempt: u32) -> Claim {
    Claim { run: run.into(), token: Token(token), workflow: "wf".into(), attempt, origin: Origin::Invoke }
}

#[test]
fn a_failed_run_is_queued_for_its_retry_and_fails_when_none_is_left() {
    let project = Project::new();
    let worker = project.worker(setup(&nothing())).unwrap();
    let (id, token) = project.started_run(&worker);
    worker.complete_run(&claim(&id, token, 1), failure(false), None, None);
    assert_eq!(project.run(&id)["status"], "queued");
    project.database.manual.as_ref().unwrap().advance_to(at("12:00:01"));
    let (again, token) = project.next_start(&worker);
    assert_eq!(again, id);
    worker.complete_run(&claim(&id, token, 2), failure(false), None, None);
    assert_eq!(project.run(&id)["status"], "failed");
}

#[test]
fn a_final_failure_is_not_retried() {
    let project = Project::new();
    let worker = project.worker(setup(&nothing())).unwrap();
    let (id, token) = project.started_run(&worker);
    worker.complete_run(&claim(&id, token, 1), failure(true), None, None);
    assert_eq!(project.run(&id)["status"], "failed");
}

#[test]
fn a_last_failure_counts_for_its_schedules_pause() {
    let declared = json!({
        "specs": [json!({"cron": "0 * * * *", "pause_after_failures": 1}).to_string()],
        "schedules": [["wf", "global", 0, null, true]],
    });
    let project = Project::new();
    let worker = project.worker(setup(&declared)).unwrap();
    worker.tick();
    let schedules = project.ask(json!({"list_schedules": {}}));
    let schedule = schedules[0]["id"].as_str().unwrap();
    project.database.manual.as_ref().unwrap().advance_to(at("13:00:00"));
    let (id, token) = project.next_start(&worker);
    let claim = Claim { origin: Origin::Schedule, ..claim(&id, token, 2) };
    worker.complete_run(&claim, failure(false), None, None);
    assert_eq!(project.ask(json!({"get_schedule": {"id": schedule}}))["status"], "paused");
}

#[test]
fn a_completion_reads_nothing_before_it_is_written() {
    let declared = json!({
        "specs": [json!({"cron": "0 * * * *", "pause_after_failures": 1}).to_string()],
        "schedules": [["wf", "global", 0, null, true]],
    });
    let store = FaultyStore::new(MemoryStore::new());
    let mut project = Project::new();
    let database = Arc::get_mut(&mut project.database).unwrap();
    database.store = GroupCommit::inline(Arc::new(store.clone()), Arc::clone(&database.clock));
    let worker = project.worker(setup(&declared)).unwrap();
    worker.tick();
    project.database.manual.as_ref().unwrap().advance_to(at("13:00:00"));
    let (id, token) = project.next_start(&worker);
    let read_count = store.trouble.lock().read_count;
    worker.complete_run(
        &Claim { origin: Origin::Schedule, ..claim(&id, token, 2) },
        failure(false),
        None,
        None,
    );
    assert_eq!(store.trouble.lock().read_count, read_count, "the event loop's thread waits for it");
    let page = Page { limit: 10, after: None };
    let schedules = store.inner.schedules(PROJECT, &ScheduleFilter::default(), &page).unwrap();
    assert_eq!(schedules[0].status, ScheduleStatus::Paused);
}

#[test]
fn a_step_is_recorded_only_under_a_claim_that_is_valid() {
    let project = Project::new();
    let worker = project.worker(setup(&nothing())).unwrap();
    let (id, token) = project.started_run(&worker);
    let step = |name: &str| StepRecord {
        name: name.into(),
        state: StepState::Done,
        attempt: 1,
        run_attempt: 1,
        result: Some("1".into()),
        error: None,
        wakes_at: None,
        started_at: at("12:00:00"),
        finished_at: at("12:00:00"),
    };
    let answers = Arc::new(Mutex::new(Vec::new()));
    for (name, token) in [("first", token), ("second", token + 1)] {
        let answers = Arc::clone(&answers);
        worker.record_step(&id, token, step(name), move |answer| answers.lock().push(answer.unwrap()));
    }
    assert_eq!(*answers.lock(), [true, false]);
    assert_eq!(project.run(&id)["steps"].as_array().unwrap().len(), 1);
}

#[test]
fn a_worker_trusts_its_claims_for_one_lease_after_a_heartbeat() {
    let project = Project::new();
    let worker = project.worker(setup(&nothing())).unwrap();
    assert!(worker.is_trusted());
    project.database.manual.as_ref().unwrap().advance_to(at("12:00:00").saturating_add(HOUR));
    assert!(!worker.is_trusted());
}

#[test]
fn a_schedule_that_cannot_be_read_is_an_error_at_the_start() {
    let declared = json!({
        "specs": [json!({"cron": "0 25 * * *", "timezone": "UTC"}).to_string()],
        "schedules": [["wf", "global", 0, null, true]],
    });
    assert!(Project::new().worker(setup(&declared)).is_err());
}
