//! Requests of clients, answered from an in-memory store with a clock that stands still.
#![allow(clippy::unwrap_used, reason = "test helpers")]

use crate::store::fixture::{new_schedule, new_worker};
use polos::calendar::Timestamp;
use polos::clock::ManualClock;
use polos::engine::PermitPools;
use polos::engine::group_commit::GroupCommit;
use polos::error::Error;
use polos::model::{
    Admission, FirePlan, NewSchedule, PlannedRun, RunId, RunState, ScheduleId, ScheduleStatus, WorkerEntry,
    WorkerId, WorkflowEntry,
};
use polos::process;
use polos::service::{Request, Service};
use polos::store::{Command, MemoryStore, Page, RunFilter, StoreReads, StoreWrites};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

mod backfills;
mod calendars;
#[cfg(all(feature = "sqlite", target_os = "linux"))]
mod closing;
mod deletions;
mod events;
mod lists;
mod monitor;
mod skips;
mod triggers;
#[cfg(all(feature = "sqlite", target_os = "linux"))]
mod watching;
mod workers;

const PROJECT: &str = "default";
const HOUR: Duration = Duration::from_secs(3_600);

fn at(time: &str) -> Timestamp {
    let text = if time.contains('T') { format!("{time}Z") } else { format!("2026-03-02T{time}Z") };
    Timestamp::from_micros(text.parse::<jiff::Timestamp>().unwrap().as_microsecond())
}

fn micros(time: &str) -> i64 {
    at(time).as_micros()
}

/// A project at noon, with a worker that has registered the workflow `wf`.
struct Project {
    store: MemoryStore,
    clock: Arc<ManualClock>,
    service: Service,
}

impl Project {
    fn new() -> Self {
        let store = MemoryStore::new();
        let clock = Arc::new(ManualClock::new(at("12:00:00")));
        let group = GroupCommit::inline(Arc::new(store.clone()), Arc::clone(&clock) as _);
        let service = Service::open(group, PROJECT.into(), Arc::new(PermitPools::default())).unwrap();
        let project = Self { store, clock, service };
        project.register(WorkerEntry {
            workflows: vec![WorkflowEntry { id: "wf".into(), schedulable: true }],
            ..new_worker("wkr_1")
        });
        project
    }

    fn register(&self, entry: WorkerEntry) {
        self.commit(Command::RegisterWorker(Box::new(entry)));
    }

    fn commit(&self, command: Command) {
        let now = self.now();
        self.store.commit(&[command], now).unwrap().remove(0).unwrap();
    }

    fn now(&self) -> Timestamp {
        use polos::clock::Clock as _;
        self.clock.now().wall
    }

    fn try_ask(&self, request: Value) -> Result<Value, Error> {
        let request: Request = serde_json::from_value(request).unwrap();
        let answer = self.service.call(request, None)?.unwrap();
        Ok(serde_json::from_str(&answer).unwrap())
    }

    fn ask(&self, request: Value) -> Value {
        self.try_ask(request).unwrap()
    }

    fn refusal(&self, request: Value) -> String {
        self.try_ask(request).unwrap_err().to_string()
    }

    /// Creates a schedule of `wf`; returns its id.
    fn create(&self, key: &str, spec: &Value) -> String {
        let draft = json!({"workflow": "wf", "key": key, "spec": 0, "local": true});
        let ids =
            self.ask(json!({"create": {"drafts": {"specs": [spec.to_string()], "schedules": [draft]}}}));
        ids[0].as_str().unwrap().to_owned()
    }

    /// Has a worker claim a slot of an hourly schedule before it comes due.
    fn claim_early(&self, id: &str, slot: Timestamp) -> RunId {
        let schedule = ScheduleId::from(id);
        let run = RunId::of_slot(&schedule, slot);
        let upcoming = slot.saturating_add(HOUR);
        let planned = PlannedRun {
            id: run.clone(),
            slot,
            last_slot: None,
            upcoming: Some(upcoming),
            available_at: slot,
            admission: Admission::Claim,
        };
        let row = self.store.schedule(PROJECT, &schedule).unwrap().unwrap();
        let plan = FirePlan {
            schedule,
            revision: row.revision,
            spec: row.compiled_spec().unwrap(),
            next_slot: Some(upcoming),
            status: ScheduleStatus::Active,
            runs: vec![planned],
            ledger: Vec::new(),
            cancel_unfinished: false,
            settled: None,
        };
        self.commit(Command::Fire { worker: WorkerId::from("wkr_1"), plan: Box::new(plan) });
        run
    }

    fn schedule(&self, id: &str) -> Value {
        self.ask(json!({"get_schedule": {"id": id}}))
    }

    fn run(&self, id: &str) -> Value {
        self.ask(json!({"get_run": {"id": id}}))
    }

    /// States of all runs, by slot.
    fn states(&self) -> Vec<RunState> {
        let page = Page { limit: 10_000, after: None };
        let mut runs = self.store.runs(PROJECT, &RunFilter::default(), &page).unwrap();
        runs.sort_by_key(|run| (run.slot, run.created_at));
        runs.into_iter().map(|run| run.state).collect()
    }
}

fn hourly() -> Value {
    json!({"cron": "0 * * * *"})
}

#[test]
fn an_update_replaces_the_trigger() {
    let project = Project::new();
    let id = project.create("k", &hourly());
    project.ask(json!({"update": {"id": id, "changes": {"every_us": 60_000_000}}}));
    let schedule = project.schedule(&id);
    assert_eq!((&schedule["cron"], &schedule["every"]), (&Value::Null, &json!(60_000_000)));
    project.ask(json!({"update": {"id": id, "changes": {"cron": "5 * * * *"}}}));
    let schedule = project.schedule(&id);
    assert_eq!((&schedule["cron"], &schedule["every"]), (&json!("5 * * * *"), &Value::Null));
}

#[test]
fn an_update_that_excludes_all_slots_is_rejected() {
    let project = Project::new();
    let id = project.create("k", &json!({"cron": "0 9 1 * *"}));
    let update = |changes| json!({"update": {"id": id, "changes": changes}});
    let refusal = project.refusal(update(json!({"skip_cron": ["* * 1 * *"]})));
    assert!(refusal.contains("excludes all slots"), "{refusal}");
    project.ask(update(json!({"skip_cron": ["* * 1 1 *"]})));
    let refusal = project.refusal(update(json!({"cron": "0 9 1 1 *"})));
    assert!(refusal.contains("excludes all slots"), "{refusal}");
}

#[test]
fn a_slot_is_skipped_until_it_is_due_and_the_history_says_so() {
    let project = Project::new();
    let id = project.create("k", &hourly());
    let skipped = project.ask(json!({"skip": {"id": id}}));
    assert_eq!(skipped["upcoming"], micros("14:00:00"));
    let history = project.ask(json!({"history": {"id": id}}));
    assert_eq!(history[0]["timestamp"], micros("13:00:00"));
    assert_eq!(
        (&history[0]["status"], &history[0]["reason"]),
        (&json!("skipped"), &json!("skipped on request"))
    );
    project.clock.advance_to(at("14:00:00"));
    let refusal = project.refusal(json!({"skip": {"id": id}}));
    assert!(refusal.contains("is due already"), "{refusal}");
}

#[test]
fn resuming_a_schedule_without_slots_finishes_it() {
    let project = Project::new();
    let id = project.create("k", &hourly());
    project.ask(json!({"pause": {"id": id}}));
    project.ask(json!({"update": {"id": id, "changes": {"end_at_us": micros("12:30:00")}}}));
    assert_eq!(project.ask(json!({"resume": {"id": id}}))["status"], "finished");
}

#[test]
fn a_reset_restores_the_declaration_of_the_code() {
    let project = Project::new();
    let declared = NewSchedule {
        owner: Some("app.py".into()),
        input: Some("1".into()),
        ..new_schedule("k", Some(at("13:00:00")))
    };
    let id = declared.id.as_str().to_owned();
    project.register(WorkerEntry { declared: vec![declared], ..new_worker("wkr_2") });
    let edit = json!({"jitter_us": 5_000_000});
    project.ask(json!({"update": {"id": id, "changes": edit, "input": {"set": 2}}}));
    let changed = project.schedule(&id);
    let said = (&changed["input"], &changed["jitter"], &changed["overridden"]);
    assert_eq!(said, (&json!("2"), &json!(5_000_000), &json!(true)));
    project.ask(json!({"reset": {"id": id}}));
    let reset = project.schedule(&id);
    let said = (&reset["input"], &reset["jitter"], &reset["overridden"]);
    assert_eq!(said, (&json!("1"), &json!(0), &json!(false)));
}

#[test]
fn an_unknown_workflow_is_rejected_with_the_nearest_name() {
    let project = Project::new();
    let invoke = |workflow| json!({"invoke": {"workflow": workflow, "payload": null, "is_local": false}});
    let refusal = project.refusal(invoke("wg"));
    assert!(refusal.contains("no workflow `wg`") && refusal.contains("did you mean `wf`?"), "{refusal}");
    project.ask(invoke("wf"));
}

#[test]
fn a_run_that_a_step_invokes_knows_its_parent() {
    let project = Project::new();
    let invoke = json!({"invoke": {"workflow": "wf", "payload": null, "parent": "run_0", "is_local": true}});
    let run = project.ask(invoke)["run_id"].as_str().unwrap().to_owned();
    let run = project.run(&run);
    assert_eq!((&run["parent"], &run["origin"]), (&json!("run_0"), &json!("child")));
}

#[test]
fn a_withdrawn_wait_is_removed() {
    let project = Project::new();
    let invoke = json!({"invoke": {"workflow": "wf", "payload": null, "is_local": true}});
    let run = project.ask(invoke)["run_id"].clone();
    let wait = serde_json::from_value(json!({"await_run": {"id": run}})).unwrap();
    assert_eq!(project.service.call(wait, Some(Duration::from_millis(1))), Ok(None));
    assert_eq!(project.service.wait_count(), 0);
}

#[test]
fn a_worker_whose_process_has_ended_serves_no_workflow() {
    let project = Project::new();
    let mut child = std::process::Command::new("true").spawn().unwrap();
    let pid = i64::from(child.id());
    child.wait().unwrap();
    project.commit(Command::DeregisterWorker { worker: WorkerId::from("wkr_1") });
    project.register(WorkerEntry {
        host: process::host_id().into(),
        pid,
        process_mark: "1".into(),
        workflows: vec![WorkflowEntry { id: "wf".into(), schedulable: true }],
        ..new_worker("wkr_2")
    });
    let id = project.create("k", &hourly());
    assert_eq!(project.schedule(&id)["worker_available"], json!(false));
    let workers = project.ask(json!({"workers": {}}));
    assert_eq!(workers[0]["is_gone"], json!(true));

    // Another live process of this machine: this test itself.
    let pid = i64::from(std::process::id());
    project.register(WorkerEntry {
        host: process::host_id().into(),
        pid,
        process_mark: process::process_mark(pid).into(),
        workflows: vec![WorkflowEntry { id: "wf".into(), schedulable: true }],
        ..new_worker("wkr_3")
    });
    assert_eq!(project.schedule(&id)["worker_available"], json!(true));
}

#[test]
fn a_slot_counts_as_overdue_when_it_is_five_seconds_late() {
    let project = Project::new();
    project.create("k", &hourly());
    let overdue = || project.ask(json!({"overview": {"count_to": 100}}))["overdue"].clone();
    project.clock.advance_to(at("13:00:05"));
    assert_eq!(overdue(), json!(0));
    project.clock.advance_to(at("13:00:06"));
    assert_eq!(overdue(), json!(1));
}
