//! Deletions of schedules, while workers may be about to enter their runs.

use super::*;
use crossbeam_channel::{Receiver, TryRecvError};
use polos::engine::ENTRY_WINDOW;
use polos::model::{Admission, FirePlan, PlannedRun, RunId, Schedule, ScheduleId, ScheduleStatus, Token};
use polos::store::StoreError;

type Replied = Receiver<Result<String, Error>>;

/// A project whose writes have a thread of their own, as those of a real database have. Its clock
/// moves by hand.
fn project() -> Project {
    let store = MemoryStore::new();
    let clock = Arc::new(ManualClock::new(at("12:00:00")));
    let group = GroupCommit::start(Arc::new(store.clone()), Arc::clone(&clock) as _).unwrap();
    let service = Service::open(group, PROJECT.into(), Arc::new(PermitPools::default())).unwrap();
    let project = Project { store, clock, service };
    project.register(WorkerEntry {
        workflows: vec![WorkflowEntry { id: "wf".into(), schedulable: true }],
        ..new_worker("wkr_1")
    });
    project
}

fn stored(project: &Project, id: &str) -> Schedule {
    project.store.schedule(PROJECT, &ScheduleId::from(id)).unwrap().unwrap()
}

/// Fires the slot of 13:00 at 13:00.
fn fired(project: &Project, id: &str, admission: Admission) -> RunId {
    project.clock.advance_to(at("13:00:00"));
    let schedule = stored(project, id);
    let slot = at("13:00:00");
    let run = RunId::of_slot(&schedule.id, slot);
    let planned = PlannedRun {
        id: run.clone(),
        slot,
        last_slot: None,
        upcoming: Some(at("14:00:00")),
        available_at: slot,
        admission,
    };
    let plan = FirePlan {
        revision: schedule.revision,
        spec: schedule.compiled_spec().unwrap(),
        schedule: schedule.id,
        next_slot: Some(at("14:00:00")),
        status: ScheduleStatus::Active,
        runs: vec![planned],
        ledger: Vec::new(),
        cancel_unfinished: false,
        settled: None,
    };
    project.commit(Command::Fire { worker: WorkerId::from("wkr_1"), plan: Box::new(plan) });
    run
}

fn submit(project: &Project, request: &Value) -> Replied {
    let request: Request = serde_json::from_value(request.clone()).unwrap();
    let (sender, replied) = crossbeam_channel::bounded(1);
    project.service.submit(request, Box::new(move |reply| _ = sender.send(reply)));
    replied
}

fn delete(project: &Project, id: &str) -> Replied {
    submit(project, &json!({"delete": {"id": id}}))
}

/// Waits until the deletion is committed, and whatever answers at once has been answered.
fn settle(project: &Project, id: &str) {
    // Requests are begun in order, and so are commits.
    let other = json!({"update": {"id": id, "changes": {"every_us": 60_000_000}}});
    let _ = submit(project, &other).recv().unwrap();
    assert_eq!(project.store.schedule(PROJECT, &ScheduleId::from(id)).unwrap(), None);
    let another = project.create("another", &hourly());
    assert_eq!(answer(&delete(project, &another)), "null");
}

/// The answer to a request that needs nothing but the store. One that waits for the clock, which
/// stands still, would never come.
fn answer(replied: &Replied) -> String {
    replied.recv_timeout(Duration::from_secs(30)).expect("answered while the clock stands still").unwrap()
}

fn micros_of(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap()
}

fn after(time: &str, duration: Duration) -> Timestamp {
    Timestamp::from_micros(at(time).as_micros() + micros_of(duration))
}

#[test]
fn a_deletion_waits_for_workers_that_may_be_about_to_enter_a_run() {
    let project = project();
    let id = project.create("k", &hourly());
    fired(&project, &id, Admission::Claim);
    let replied = delete(&project, &id);
    settle(&project, &id);
    assert_eq!(replied.try_recv().unwrap_err(), TryRecvError::Empty);
    project.clock.advance_to(after("13:00:00", ENTRY_WINDOW));
    assert_eq!(replied.recv().unwrap().unwrap(), "null");
}

#[test]
fn a_deletion_with_no_claimed_run_is_answered_at_once() {
    let project = project();
    let id = project.create("k", &hourly());
    assert_eq!(answer(&delete(&project, &id)), "null");
    let queued = project.create("queued", &hourly());
    fired(&project, &queued, Admission::Queue);
    assert_eq!(answer(&delete(&project, &queued)), "null");
}

#[test]
fn other_requests_are_answered_while_a_deletion_waits() {
    let project = project();
    let id = project.create("k", &hourly());
    fired(&project, &id, Admission::Claim);
    let replied = delete(&project, &id);
    settle(&project, &id);
    let other = project.create("other", &hourly());
    assert_eq!(project.schedule(&other)["key"], "other");
    assert_eq!(replied.try_recv().unwrap_err(), TryRecvError::Empty);
}

#[test]
fn a_service_that_closes_answers_deletions_that_wait() {
    let project = project();
    let id = project.create("k", &hourly());
    fired(&project, &id, Admission::Claim);
    let replied = delete(&project, &id);
    settle(&project, &id);
    assert!(project.service.close_within(HOUR));
    assert!(matches!(replied.recv().unwrap(), Err(Error::Store(StoreError::Closed))));
    assert!(delete(&project, &id).recv().unwrap().is_err());
}

#[test]
fn claims_are_told_whether_their_runs_may_be_entered() {
    let project = Project::new();
    let (kept, deleted) = (project.create("kept", &hourly()), project.create("deleted", &hourly()));
    let runs = [fired(&project, &kept, Admission::Claim), fired(&project, &deleted, Admission::Claim)];
    project.ask(json!({"delete": {"id": deleted}}));
    let token = |run: &RunId| project.store.run(PROJECT, run).unwrap().unwrap().token;
    let mut claims: Vec<(&str, i64)> = runs.iter().map(|run| (run.as_str(), token(run).0)).collect();
    claims.push((runs[0].as_str(), Token(99).0));
    let answers = project.ask(json!({"may_enter": {"claims": claims}}));
    assert_eq!(answers, json!([null, "schedule_deleted", "claim_lost"]));
}
