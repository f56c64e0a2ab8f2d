//! What the tests of stores share: short ways to say commands, and a way to open each store.

use polos::calendar::Timestamp;
use polos::model::schedule::Tags;
use polos::model::spec::CompiledSpec;
use polos::model::{
    Admission, ClaimedRun, Completion, FirePlan, LedgerLine, NewRun, NewSchedule, Origin, PlannedRun, Run,
    RunId, RunState, Schedule, ScheduleId, ScheduleStatus, StepRecord, StepState, StoredSpec, Token,
    WorkerEntry, WorkerId, WorkflowEntry,
};
use polos::store::{Answer, Command, Page, Patch, Rejection, Store, Suspects, Upserted};
use std::collections::BTreeMap;
use std::sync::{Arc, mpsc};
use std::time::Duration;

pub const PROJECT: &str = "default";

/// So many seconds after the beginning of the test's time.
pub fn at(seconds: i64) -> Timestamp {
    Timestamp::from_micros(1_800_000_000_000_000 + seconds * 1_000_000)
}

pub fn text(text: &str) -> Arc<str> {
    text.into()
}

pub fn everything() -> Page {
    Page { limit: 10_000, after: None }
}

pub fn spec(cron: &str) -> StoredSpec {
    format!(r#"{{"cron":"{cron}","timezone":"Europe/Berlin"}}"#).into()
}

/// Tags with these names and values.
pub fn tags(given: &[(&str, &str)]) -> Tags {
    given.iter().map(|(name, value)| (text(name), text(value))).collect()
}

/// A schedule of workflow `w` that next fires at `next`.
pub fn new_schedule(key: &str, next: Option<Timestamp>) -> NewSchedule {
    NewSchedule {
        id: ScheduleId::from(format!("sch_{key}")),
        project: text(PROJECT),
        workflow: text("w"),
        key: text(key),
        owner: None,
        spec: spec("* * * * *"),
        compiled_spec: text("* * * * *|UTC"),
        version: None,
        tags: None,
        input: None,
        next_slot: next,
    }
}

/// What a schedule's specification compiles to; if it can't be read, every minute of UTC.
pub fn compiled_spec(schedule: &Schedule) -> Arc<CompiledSpec> {
    let minutely = || Arc::new(CompiledSpec::parse(r#"{"cron":"* * * * *"}"#).expect("a specification"));
    schedule.compiled_spec().unwrap_or_else(|_| minutely())
}

pub fn new_run(id: &str) -> NewRun {
    NewRun {
        id: RunId::from(id),
        project: text(PROJECT),
        workflow: text("w"),
        key: text("global"),
        schedule_id: None,
        slot: None,
        last_slot: None,
        upcoming: None,
        timezone: text("UTC"),
        origin: Origin::Invoke,
        payload: None,
        input: None,
        available_at: at(0),
        behind: false,
        revokes_claims: false,
        revision: None,
        parent: None,
        idempotency_key: None,
        together: None,
        claim_for: None,
        priority: None,
    }
}

pub fn new_worker(id: &str) -> WorkerEntry {
    WorkerEntry {
        id: WorkerId::from(id),
        project: text(PROJECT),
        app: text("app.py"),
        aliases: Vec::new(),
        former: Vec::new(),
        version: None,
        is_whole: true,
        host: text("host"),
        pid: 1,
        process_mark: text("mark"),
        about: text("{}"),
        workflows: vec![WorkflowEntry { id: text("w"), schedulable: true }],
        declared: Vec::new(),
        limits: Vec::new(),
        rules: BTreeMap::new(),
    }
}

pub fn done_step(name: &str) -> StepRecord {
    StepRecord {
        name: text(name),
        state: StepState::Done,
        attempt: 1,
        run_attempt: 1,
        result: Some(text("1")),
        error: None,
        wakes_at: None,
        started_at: at(0),
        finished_at: at(0),
    }
}

pub fn missed(from: Timestamp) -> LedgerLine {
    LedgerLine {
        from,
        until: from,
        count: 1,
        outcome: polos::model::SlotOutcome::Missed,
        reason: text("late"),
    }
}

pub fn succeeded() -> Completion {
    Completion::Succeeded { result: Some(text("42")) }
}

pub fn failed() -> Completion {
    Completion::Failed { error: text(r#"{"type":"ValueError"}"#), retry_at: None }
}

/// A store, and the worker `wkr_1` that is signed in to it.
pub struct Fixture<'a> {
    pub store: &'a dyn Store,
    pub worker: WorkerId,
}

impl<'a> Fixture<'a> {
    pub fn on(store: &'a dyn Store) -> Self {
        let fixture = Self { store, worker: WorkerId::from("wkr_1") };
        fixture.ok(at(0), Command::RegisterWorker(Box::new(new_worker("wkr_1"))));
        fixture
    }

    pub fn try_one(&self, now: Timestamp, command: Command) -> Result<Answer, Rejection> {
        let mut answers = self.store.commit(&[command], now).expect("the store works");
        assert_eq!(answers.len(), 1);
        answers.remove(0)
    }

    pub fn ok(&self, now: Timestamp, command: Command) -> Answer {
        self.try_one(now, command).expect("the command is accepted")
    }

    pub fn no(&self, now: Timestamp, command: Command) -> Rejection {
        self.try_one(now, command).expect_err("the command is rejected")
    }

    pub fn put(&self, now: Timestamp, new: NewSchedule) -> Schedule {
        let upserted = self.upsert(now, vec![new]).remove(0);
        self.schedule(&upserted.id)
    }

    pub fn upsert(&self, now: Timestamp, new: Vec<NewSchedule>) -> Vec<Upserted> {
        match self.ok(now, Command::UpsertSchedules(new)) {
            Answer::Schedules(upserted) => upserted,
            other => panic!("{other:?}"),
        }
    }

    /// The ids of upserted schedules, in order.
    pub fn upsert_ids(&self, now: Timestamp, new: Vec<NewSchedule>) -> Vec<ScheduleId> {
        self.upsert(now, new).into_iter().map(|upserted| upserted.id).collect()
    }

    pub fn schedule(&self, id: &ScheduleId) -> Schedule {
        self.find_schedule(id).expect("the schedule exists")
    }

    pub fn find_schedule(&self, id: &ScheduleId) -> Option<Schedule> {
        self.store.schedule(PROJECT, id).expect("the store works")
    }

    pub fn run(&self, id: &RunId) -> Run {
        self.find_run(id).expect("the run exists")
    }

    pub fn find_run(&self, id: &RunId) -> Option<Run> {
        self.store.run(PROJECT, id).expect("the store works")
    }

    pub fn state(&self, id: &RunId) -> RunState {
        self.run(id).state
    }

    /// A plan for the slots, each admitted so; the next slot is a minute after the last.
    pub fn plan(&self, schedule: &Schedule, slots: &[(Timestamp, Admission)]) -> FirePlan {
        let schedule = self.schedule(&schedule.id);
        let mut last_slot = schedule.last_slot;
        let mut runs = Vec::new();
        for (slot, admission) in slots {
            runs.push(PlannedRun {
                id: RunId::of_slot(&schedule.id, *slot),
                slot: *slot,
                last_slot,
                upcoming: Some(minute_after(*slot)),
                available_at: *slot,
                admission: *admission,
            });
            last_slot = Some(*slot);
        }
        FirePlan {
            schedule: schedule.id.clone(),
            revision: schedule.revision,
            spec: compiled_spec(&schedule),
            next_slot: slots.last().map_or(schedule.next_slot, |(slot, _)| Some(minute_after(*slot))),
            status: ScheduleStatus::Active,
            runs,
            ledger: Vec::new(),
            cancel_unfinished: false,
            settled: None,
        }
    }

    pub fn commit_plan(&self, now: Timestamp, plan: FirePlan) -> Vec<ClaimedRun> {
        match self.ok(now, Command::Fire { worker: self.worker.clone(), plan: Box::new(plan) }) {
            Answer::Claimed(claimed) => claimed,
            other => panic!("{other:?}"),
        }
    }

    /// Fires one slot and gives the run's id.
    pub fn fire(&self, now: Timestamp, schedule: &Schedule, slot: Timestamp, admission: Admission) -> RunId {
        self.commit_plan(now, self.plan(schedule, &[(slot, admission)]));
        RunId::of_slot(&schedule.id, slot)
    }

    pub fn create(&self, now: Timestamp, new: NewRun) -> RunId {
        match self.ok(now, Command::CreateRun(Box::new(new))) {
            Answer::Created { run, .. } => run,
            other => panic!("{other:?}"),
        }
    }

    pub fn claim(&self, now: Timestamp) -> Vec<ClaimedRun> {
        self.claim_up_to(now, 100)
    }

    pub fn claim_up_to(&self, now: Timestamp, limit: usize) -> Vec<ClaimedRun> {
        let command = Command::ClaimRuns {
            project: text(PROJECT),
            worker: self.worker.clone(),
            workflows: vec![text("w")],
            limit,
            until: now,
            suspects: Suspects::Never,
            codes: None,
        };
        match self.ok(now, command) {
            Answer::Claimed(claimed) => claimed,
            other => panic!("{other:?}"),
        }
    }

    /// A run that `wkr_1` holds.
    pub fn running(&self, now: Timestamp, id: &str) -> Run {
        self.create(now, NewRun { available_at: now, ..new_run(id) });
        self.claim(now).pop().expect("it is claimed").run
    }

    pub fn end(&self, now: Timestamp, run: &RunId, ending: Completion) -> (RunState, bool) {
        let token = self.run(run).token;
        match self.ok(now, end(run, token, ending)) {
            Answer::Ended { state, released } => (state, released),
            other => panic!("{other:?}"),
        }
    }

    pub fn patch(&self, now: Timestamp, id: &ScheduleId, patch: Patch) -> Schedule {
        match self.ok(now, patch_command(id, None, patch)) {
            Answer::Schedule(schedule) => *schedule,
            other => panic!("{other:?}"),
        }
    }

    pub fn delete(&self, now: Timestamp, id: &ScheduleId) {
        self.ok(now, Command::DeleteSchedule { project: text(PROJECT), id: id.clone() });
    }

    /// History, newest first: the slot, and the reason or state.
    pub fn history(&self, id: &ScheduleId) -> Vec<(Timestamp, String)> {
        let entries = self.store.history(PROJECT, id, &everything()).expect("the store works");
        entries.unwrap_or_default().into_iter().map(|entry| (entry.from, entry.reason.to_string())).collect()
    }

    pub fn steps(&self, run: &RunId) -> Vec<String> {
        let steps = self.store.steps(run).expect("the store works");
        steps.into_iter().map(|step| step.name.to_string()).collect()
    }

    pub fn heartbeat(&self) -> i64 {
        let peers = self.store.peers(PROJECT).expect("the store works");
        peers.iter().find(|peer| peer.id == self.worker).expect("it is signed in").heartbeat
    }
}

pub fn minute_after(slot: Timestamp) -> Timestamp {
    Timestamp::from_micros(slot.as_micros() + 60_000_000)
}

/// Said to stand alone, whether it does or not: where that is wrong, nothing may come of it.
pub fn end(run: &RunId, token: Token, ending: Completion) -> Command {
    Command::CompleteRun {
        run: run.clone(),
        token,
        ending: Box::new(ending),
        stands_alone: true,
        tells: false,
    }
}

pub fn patch_command(id: &ScheduleId, revision: Option<i64>, patch: Patch) -> Command {
    Command::PatchSchedule { project: text(PROJECT), id: id.clone(), revision, patch: Box::new(patch) }
}

/// Two stores on one database, as two processes have them: `client` is in the middle of an edit
/// that takes a claim back when `worker` comes to the slot.
pub fn a_start_waits_for_an_edit(worker: &dyn Store, client: &dyn Store) {
    let fixture = Fixture::on(worker);
    let schedule = fixture.put(at(0), new_schedule("a", Some(at(60))));
    fixture.store.commit(&[Command::RegisterWorker(Box::new(new_worker("w")))], at(0)).unwrap();
    let run = fixture.fire(at(59), &schedule, at(60), Admission::Claim);
    let claim = (run.clone(), fixture.run(&run).token);

    let (started, is_started) = mpsc::channel();
    let (passed, is_passed) = mpsc::channel();
    std::thread::scope(|scope| {
        let claim = &claim;
        scope.spawn(move || {
            is_started.recv().unwrap();
            worker.barrier().unwrap();
            passed.send(worker.claims_stand(std::slice::from_ref(claim)).unwrap()).unwrap();
        });
        let pause = Patch { status: Some(ScheduleStatus::Paused), ..Patch::default() };
        let edit = patch_command(&schedule.id, None, pause);
        let now = || {
            // Decided a second before the slot; while it is under way, the worker comes to the
            // slot.
            started.send(()).unwrap();
            let early = is_passed.recv_timeout(Duration::from_millis(100));
            assert_eq!(early, Err(mpsc::RecvTimeoutError::Timeout), "the worker went ahead of the edit");
            at(59)
        };
        client.commit_when(&[edit], &now).unwrap()[0].as_ref().unwrap();
        assert_eq!(is_passed.recv().unwrap(), [false]);
    });
    assert_eq!(fixture.find_run(&run), None);
}

/// The schedule `sch_former` and its history, as the first release stored it, in SQL. Some of the
/// runs that it counted have been pruned. `schema` ends with a dot, if there is one.
pub fn former_history(schema: &str) -> String {
    let run = |name: &str, origin: &str, slot: i64| {
        format!(
            "INSERT INTO {schema}run (id, is_slot, state, token, attempt, available_at, created_at, finished_at, \
             slot, origin, project, workflow, key, schedule_id, timezone) VALUES ('{name}', 0, 'succeeded', 1, 1, \
             {slot}, {slot}, {slot}, {slot}, '{origin}', '{PROJECT}', 'w', 'former', 'sch_former', 'UTC'); "
        )
    };
    let line = |fate: &str, from: i64, count: i64| {
        format!(
            "INSERT INTO {schema}ledger (project, schedule_id, from_slot, until_slot, slot_count, fate, reason) \
             VALUES ('{PROJECT}', 'sch_former', {from}, {from}, {count}, '{fate}', ''); "
        )
    };
    [
        format!(
            "INSERT INTO {schema}schedule (id, revision, status, next_slot, run_count, attended_from, created_at, \
             updated_at, project, workflow, key, cadence, spec) VALUES ('sch_former', 1, 'active', 60, 5, 0, 0, 0, \
             '{PROJECT}', 'w', 'former', '* * * * *', '{{\"cron\":\"* * * * *\"}}'); "
        ),
        run("former_1", "schedule", 1),
        run("former_2", "schedule", 2),
        run("former_3", "backfill", 3),
        run("former_4", "trigger", 4),
        line("skipped", 5, 2),
        line("missed", 6, 3),
        line("missed", 7, 4),
    ]
    .concat()
}

/// What the schedule of [`former_history`] has counted: that history, and no pruned runs.
pub fn check_former_counts(store: &dyn Store) {
    let former = store.schedule(PROJECT, &"sch_former".into()).unwrap().unwrap();
    assert_eq!((former.ran_count(), former.counts.skipped, former.counts.missed), (3, 2, 7));
}
