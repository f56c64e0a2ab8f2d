//! Another transaction updates a row between the snapshot and the lock of one of our statements.
//!
//! PostgreSQL checks such a row again (`EvalPlanQual`). A statement of the wrong form loses the
//! row, and the store takes it for deleted. Every statement that locks rows has a case here.

use super::fixture::{
    Fixture, PROJECT, at, done_step, end, failed, minute_after, new_run, new_schedule, new_worker,
    patch_command, spec, succeeded, text,
};
use super::rows_read::Administrator;
use super::server::Server;
use polos::calendar::Timestamp;
use polos::model::{
    Admission, Completion, Debounce, NewRun, NewSchedule, Origin, RunId, RunState, Schedule, ScheduleId,
    ScheduleStatus, Token, WorkerId,
};
use polos::store::{
    Answer, Command, Outcome, Patch, PostgresOptions, PostgresStore, StoreWrites, Suspects, UpsertOutcome,
    Upserted,
};
use std::thread::ScopedJoinHandle;

/// What another transaction updates, what we commit meanwhile, and what must result. Each function
/// takes a number, so that a case can be repeated with other rows.
pub(super) struct Case {
    pub name: &'static str,
    pub prepare: fn(&Fixture<'_>, i64),
    /// The table and the id of the row that the other transaction updates.
    touched: fn(i64) -> (&'static str, String),
    pub commands: fn(&Fixture<'_>, i64) -> Vec<Command>,
    check: fn(&Fixture<'_>, i64, &[Outcome]),
}

/// How often to try each case: the third time, the statement is prepared on the server.
const ROUNDS: i64 = 3;

/// The start of a round.
fn start(n: i64) -> i64 {
    n * 10_000
}

fn key(n: i64) -> String {
    format!("s{n}")
}

fn schedule_id(n: i64) -> ScheduleId {
    ScheduleId::from(format!("sch_{}", key(n)))
}

fn put(fixture: &Fixture<'_>, n: i64) -> Schedule {
    fixture.put(at(start(n)), new_schedule(&key(n), Some(at(start(n)))))
}

/// The run of the slot this many seconds after the start.
fn slot_run(n: i64, seconds: i64) -> RunId {
    RunId::of_slot(&schedule_id(n), at(start(n) + seconds))
}

/// Fires slots, each this many seconds after the start, at the time of the first.
fn fire(fixture: &Fixture<'_>, n: i64, slots: &[(i64, Admission)]) {
    fire_slots(fixture, n, &put(fixture, n), slots);
}

fn fire_slots(fixture: &Fixture<'_>, n: i64, schedule: &Schedule, slots: &[(i64, Admission)]) {
    let slots: Vec<_> = slots.iter().map(|(seconds, how)| (at(start(n) + seconds), *how)).collect();
    fixture.commit_plan(slots[0].0, fixture.plan(schedule, &slots));
}

fn run(name: &str, n: i64) -> RunId {
    RunId::from(format!("{name}_{n}"))
}

fn is_ok(outcomes: &[Outcome]) {
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
}

fn running(fixture: &Fixture<'_>, name: &str, n: i64) {
    let claim_for = Some(fixture.worker.clone());
    let id = run(name, n);
    fixture.create(at(start(n)), NewRun { claim_for, ..new_run(id.as_str()) });
    assert_eq!(fixture.state(&id), RunState::Running);
}

/// A parent that waits for a running child.
fn family(fixture: &Fixture<'_>, n: i64) {
    running(fixture, "parent", n);
    let claim_for = Some(fixture.worker.clone());
    let child = run("child", n);
    let parent = Some(run("parent", n));
    let origin = Origin::Child;
    fixture.create(at(start(n)), NewRun { claim_for, parent, origin, ..new_run(child.as_str()) });
    fixture.end(at(start(n)), &run("parent", n), Completion::Parked { wakes_at: Timestamp::MAX });
}

fn parent_is_awake(fixture: &Fixture<'_>, n: i64, outcomes: &[Outcome]) {
    is_ok(outcomes);
    assert!(fixture.run(&run("parent", n)).available_at < Timestamp::MAX, "the parent waits forever");
}

fn cancel(name: &str, n: i64) -> Vec<Command> {
    vec![Command::CancelRun { project: text(PROJECT), run: run(name, n) }]
}

fn pause(n: i64) -> Vec<Command> {
    let patch = Patch { status: Some(ScheduleStatus::Paused), ..Patch::default() };
    vec![patch_command(&schedule_id(n), None, patch)]
}

/// Fires one slot that waits for the others.
fn fire_behind(fixture: &Fixture<'_>, n: i64, cancels: bool) -> Vec<Command> {
    let mut plan =
        fixture.plan(&fixture.schedule(&schedule_id(n)), &[(at(start(n) + 600), Admission::Behind)]);
    plan.cancel_unfinished = cancels;
    vec![Command::Fire { worker: fixture.worker.clone(), plan: Box::new(plan) }]
}

fn deregister() -> Vec<Command> {
    vec![Command::DeregisterWorker { worker: WorkerId::from("wkr_1") }]
}

pub(super) fn register_again(fixture: &Fixture<'_>) {
    fixture.ok(at(0), Command::RegisterWorker(Box::new(new_worker("wkr_1"))));
}

const NOW: fn(i64) -> Timestamp = |n| at(start(n) + 100);

/// A debounced call with a key of this round.
fn debounce(name: &str, n: i64) -> Command {
    let delay = std::time::Duration::from_secs(3_600);
    let debounce = Debounce { key: text(&key(n)), delay, at_most: None };
    Command::DebounceRun { new: Box::new(new_run(run(name, n).as_str())), debounce }
}

pub(super) const CASES: &[Case] = &[
    Case {
        name: "a heartbeat",
        prepare: |_, _| {},
        touched: |_| ("worker", "wkr_1".to_owned()),
        commands: |fixture, _| vec![Command::Heartbeat { worker: fixture.worker.clone() }],
        check: |_, _, outcomes| is_ok(outcomes),
    },
    Case {
        name: "a worker that claims",
        prepare: |fixture, n| _ = fixture.create(at(0), new_run(run("run", n).as_str())),
        touched: |_| ("worker", "wkr_1".to_owned()),
        commands: |fixture, _| {
            vec![Command::ClaimRuns {
                project: text(PROJECT),
                worker: fixture.worker.clone(),
                workflows: vec![text("w")],
                limit: 10,
                until: at(0),
                suspects: Suspects::Never,
                codes: None,
            }]
        },
        check: |_, _, outcomes| {
            assert!(matches!(&outcomes[0], Ok(Answer::Claimed(runs)) if runs.len() == 1), "{outcomes:?}");
        },
    },
    Case {
        name: "a schedule by its id",
        prepare: |fixture, n| _ = put(fixture, n),
        touched: |n| ("schedule", schedule_id(n).to_string()),
        commands: |_, n| pause(n),
        check: |_, _, outcomes| is_ok(outcomes),
    },
    Case {
        name: "a schedule by its key",
        prepare: |fixture, n| _ = put(fixture, n),
        touched: |n| ("schedule", schedule_id(n).to_string()),
        commands: |_, n| {
            vec![Command::UpsertSchedules(vec![NewSchedule {
                id: ScheduleId::from(format!("sch_other_{n}")),
                spec: spec("5 * * * *"),
                ..new_schedule(&key(n), Some(at(start(n))))
            }])]
        },
        check: |fixture, n, outcomes| {
            let updated = Upserted { id: schedule_id(n), outcome: UpsertOutcome::Updated };
            assert_eq!(outcomes[0], Ok(Answer::Schedules(vec![updated])));
            assert_eq!(fixture.schedule(&schedule_id(n)).spec, spec("5 * * * *"));
        },
    },
    Case {
        name: "a schedule by its owner",
        prepare: |fixture, n| {
            let owner = Some(text("app.py"));
            fixture.put(at(0), NewSchedule { owner, ..new_schedule(&key(n), Some(at(start(n)))) });
        },
        touched: |n| ("schedule", schedule_id(n).to_string()),
        commands: |_, n| vec![Command::RegisterWorker(Box::new(new_worker(&format!("wkr_other_{n}"))))],
        check: |fixture, n, outcomes| {
            is_ok(outcomes);
            assert_eq!(fixture.schedule(&schedule_id(n)).status, ScheduleStatus::Retired);
        },
    },
    Case {
        name: "the schedule of a run that completes",
        prepare: |fixture, n| fire(fixture, n, &[(0, Admission::Claim)]),
        touched: |n| ("schedule", schedule_id(n).to_string()),
        commands: |fixture, n| vec![end(&slot_run(n, 0), fixture.run(&slot_run(n, 0)).token, failed())],
        check: |fixture, n, outcomes| {
            is_ok(outcomes);
            assert_eq!(fixture.schedule(&schedule_id(n)).failure_count, 1);
        },
    },
    Case {
        name: "the schedule of a run that is retried",
        prepare: |fixture, n| {
            fire(fixture, n, &[(0, Admission::Claim)]);
            fixture.end(at(start(n)), &slot_run(n, 0), failed());
        },
        touched: |n| ("schedule", schedule_id(n).to_string()),
        commands: |_, n| vec![Command::RetryRun { project: text(PROJECT), run: slot_run(n, 0) }],
        check: |fixture, n, outcomes| {
            is_ok(outcomes);
            assert_eq!(fixture.schedule(&schedule_id(n)).revision, 3);
        },
    },
    Case {
        name: "the schedule of a run of a worker that deregisters",
        prepare: |fixture, n| fire(fixture, n, &[(0, Admission::Claim)]),
        touched: |n| ("schedule", schedule_id(n).to_string()),
        commands: |_, _| deregister(),
        check: |fixture, _, outcomes| {
            assert_eq!(outcomes[0], Ok(Answer::Count(1)));
            register_again(fixture);
        },
    },
    Case {
        name: "the schedule of a run that is cancelled",
        prepare: |fixture, n| fire(fixture, n, &[(0, Admission::Queue)]),
        touched: |n| ("schedule", schedule_id(n).to_string()),
        commands: |_, n| vec![Command::CancelRun { project: text(PROJECT), run: slot_run(n, 0) }],
        check: |_, _, outcomes| assert_eq!(outcomes[0], Ok(Answer::State(RunState::Cancelled))),
    },
    Case {
        name: "a schedule that fires",
        prepare: |fixture, n| _ = put(fixture, n),
        touched: |n| ("schedule", schedule_id(n).to_string()),
        commands: |fixture, n| fire_behind(fixture, n, false),
        check: |_, _, outcomes| is_ok(outcomes),
    },
    Case {
        name: "a schedule that is triggered",
        prepare: |fixture, n| _ = put(fixture, n),
        touched: |n| ("schedule", schedule_id(n).to_string()),
        commands: |_, n| {
            let new = new_run(run("triggered", n).as_str());
            let schedule_id = Some(schedule_id(n));
            vec![Command::CreateRun(Box::new(NewRun { schedule_id, origin: Origin::Trigger, ..new }))]
        },
        check: |_, _, outcomes| is_ok(outcomes),
    },
    Case {
        name: "a run that records a step",
        prepare: |fixture, n| running(fixture, "run", n),
        touched: |n| ("run", run("run", n).to_string()),
        commands: |_, n| {
            vec![Command::RecordStep { run: run("run", n), token: Token(1), step: done_step("a") }]
        },
        check: |_, _, outcomes| is_ok(outcomes),
    },
    Case {
        name: "a run that reports its progress",
        prepare: |fixture, n| running(fixture, "run", n),
        touched: |n| ("run", run("run", n).to_string()),
        commands: |_, n| {
            let progress = text(r#"{"fraction": 0.5}"#);
            vec![Command::ReportProgress { run: run("run", n), token: Token(1), progress }]
        },
        check: |_, _, outcomes| is_ok(outcomes),
    },
    Case {
        name: "a run that records a step beside a heartbeat",
        prepare: |fixture, n| running(fixture, "run", n),
        touched: |n| ("run", run("run", n).to_string()),
        commands: |fixture, n| {
            vec![
                Command::Heartbeat { worker: fixture.worker.clone() },
                Command::RecordStep { run: run("run", n), token: Token(1), step: done_step("a") },
            ]
        },
        check: |_, _, outcomes| is_ok(outcomes),
    },
    Case {
        name: "a standalone run that completes",
        prepare: |fixture, n| running(fixture, "run", n),
        touched: |n| ("run", run("run", n).to_string()),
        commands: |_, n| vec![end(&run("run", n), Token(1), succeeded())],
        check: |_, _, outcomes| is_ok(outcomes),
    },
    Case {
        name: "a run that completes",
        prepare: |fixture, n| fire(fixture, n, &[(0, Admission::Claim)]),
        touched: |n| ("run", slot_run(n, 0).to_string()),
        commands: |fixture, n| vec![end(&slot_run(n, 0), fixture.run(&slot_run(n, 0)).token, succeeded())],
        check: |_, _, outcomes| is_ok(outcomes),
    },
    Case {
        name: "the parent of a run that completes",
        prepare: family,
        touched: |n| ("run", run("parent", n).to_string()),
        commands: |_, n| vec![end(&run("child", n), Token(1), succeeded())],
        check: parent_is_awake,
    },
    Case {
        name: "a run that is retried",
        prepare: |fixture, n| {
            running(fixture, "run", n);
            fixture.end(at(start(n)), &run("run", n), failed());
        },
        touched: |n| ("run", run("run", n).to_string()),
        commands: |_, n| vec![Command::RetryRun { project: text(PROJECT), run: run("run", n) }],
        check: |_, _, outcomes| is_ok(outcomes),
    },
    Case {
        name: "a run that is cancelled",
        prepare: |fixture, n| running(fixture, "run", n),
        touched: |n| ("run", run("run", n).to_string()),
        commands: |_, n| cancel("run", n),
        check: |fixture, n, outcomes| {
            is_ok(outcomes);
            assert!(fixture.run(&run("run", n)).cancel_requested);
        },
    },
    Case {
        name: "the child of a run that is cancelled",
        prepare: family,
        touched: |n| ("run", run("child", n).to_string()),
        commands: |_, n| cancel("parent", n),
        check: |fixture, n, outcomes| {
            is_ok(outcomes);
            assert!(fixture.run(&run("child", n)).cancel_requested);
        },
    },
    Case {
        name: "the parent of a run that is cancelled",
        prepare: |fixture, n| {
            running(fixture, "parent", n);
            let parent = Some(run("parent", n));
            let child = run("child", n);
            fixture.create(at(start(n)), NewRun { parent, ..new_run(child.as_str()) });
            fixture.end(at(start(n)), &run("parent", n), Completion::Parked { wakes_at: Timestamp::MAX });
        },
        touched: |n| ("run", run("parent", n).to_string()),
        commands: |_, n| cancel("child", n),
        check: parent_is_awake,
    },
    Case {
        name: "a run of a worker that deregisters",
        prepare: |fixture, n| running(fixture, "run", n),
        touched: |n| ("run", run("run", n).to_string()),
        commands: |_, _| deregister(),
        check: |fixture, n, outcomes| {
            assert_eq!(outcomes[0], Ok(Answer::Count(1)));
            assert_eq!(fixture.state(&run("run", n)), RunState::Queued);
            fixture.ok(at(0), cancel("run", n).remove(0));
            register_again(fixture);
        },
    },
    Case {
        name: "the parent of a run of a worker that deregisters",
        prepare: |fixture, n| {
            family(fixture, n);
            fixture.ok(at(start(n)), cancel("child", n).remove(0));
        },
        touched: |n| ("run", run("parent", n).to_string()),
        commands: |_, _| deregister(),
        check: |fixture, n, outcomes| {
            parent_is_awake(fixture, n, outcomes);
            fixture.ok(at(0), cancel("parent", n).remove(0));
            register_again(fixture);
        },
    },
    Case {
        name: "a run by its idempotency key",
        prepare: |fixture, n| {
            let idempotency_key = Some(text(&key(n)));
            fixture.create(at(0), NewRun { idempotency_key, ..new_run(run("run", n).as_str()) });
        },
        touched: |n| ("run", run("run", n).to_string()),
        commands: |_, n| {
            let idempotency_key = Some(text(&key(n)));
            let new = new_run(run("other", n).as_str());
            vec![Command::CreateRun(Box::new(NewRun { idempotency_key, ..new }))]
        },
        check: |_, n, outcomes| {
            let run = run("run", n);
            assert_eq!(outcomes[0], Ok(Answer::Created { run, is_new: false, claimed: None }));
        },
    },
    Case {
        name: "a run by its debounce key",
        prepare: |fixture, n| _ = fixture.ok(at(0), debounce("run", n)),
        touched: |n| ("run", run("run", n).to_string()),
        commands: |_, n| vec![debounce("other", n)],
        check: |_, n, outcomes| {
            let run = run("run", n);
            assert_eq!(outcomes[0], Ok(Answer::Created { run, is_new: false, claimed: None }));
        },
    },
    Case {
        name: "a run by its newest debounced call",
        prepare: |fixture, n| {
            fixture.ok(at(0), debounce("run", n));
            fixture.ok(at(0), debounce("other", n));
            fixture.ok(at(0), cancel("run", n).remove(0));
        },
        touched: |n| ("run", run("run", n).to_string()),
        commands: |_, n| vec![debounce("other", n)],
        check: |_, n, outcomes| {
            let run = run("run", n);
            assert_eq!(outcomes[0], Ok(Answer::Created { run, is_new: false, claimed: None }));
        },
    },
    Case {
        name: "the run that waits for one that completes",
        prepare: |fixture, n| fire(fixture, n, &[(0, Admission::Claim), (60, Admission::Behind)]),
        touched: |n| ("run", slot_run(n, 60).to_string()),
        commands: |fixture, n| vec![end(&slot_run(n, 0), fixture.run(&slot_run(n, 0)).token, succeeded())],
        check: |fixture, n, outcomes| {
            is_ok(outcomes);
            assert_eq!(fixture.state(&slot_run(n, 60)), RunState::Queued);
        },
    },
    Case {
        name: "a run that continues while another completes",
        prepare: |fixture, n| {
            let slots = [(0, Admission::Claim), (60, Admission::Claim), (70, Admission::Behind)];
            fire(fixture, n, &slots);
        },
        touched: |n| ("run", slot_run(n, 60).to_string()),
        commands: |fixture, n| vec![end(&slot_run(n, 0), fixture.run(&slot_run(n, 0)).token, succeeded())],
        check: |fixture, n, outcomes| {
            is_ok(outcomes);
            assert_eq!(fixture.state(&slot_run(n, 70)), RunState::Buffered);
        },
    },
    Case {
        name: "the run that a new one waits for",
        prepare: |fixture, n| fire(fixture, n, &[(0, Admission::Claim)]),
        touched: |n| ("run", slot_run(n, 0).to_string()),
        commands: |fixture, n| fire_behind(fixture, n, false),
        check: |fixture, n, outcomes| {
            is_ok(outcomes);
            assert_eq!(fixture.state(&slot_run(n, 600)), RunState::Buffered);
        },
    },
    Case {
        name: "a run that a newer slot cancels",
        prepare: |fixture, n| fire(fixture, n, &[(0, Admission::Claim)]),
        touched: |n| ("run", slot_run(n, 0).to_string()),
        commands: |fixture, n| fire_behind(fixture, n, true),
        check: |fixture, n, outcomes| {
            is_ok(outcomes);
            assert!(fixture.run(&slot_run(n, 0)).cancel_requested);
        },
    },
    Case {
        name: "a slot that has its run already",
        prepare: |fixture, n| fire(fixture, n, &[(600, Admission::Claim)]),
        touched: |n| ("run", slot_run(n, 600).to_string()),
        commands: |fixture, n| fire_behind(fixture, n, false),
        check: |fixture, n, outcomes| {
            assert_eq!(outcomes[0], Ok(Answer::Claimed(Vec::new())));
            assert_eq!(fixture.state(&slot_run(n, 600)), RunState::Running);
        },
    },
    Case {
        name: "a run whose early claim is revoked",
        prepare: |fixture, n| fire(fixture, n, &[(200, Admission::Claim)]),
        touched: |n| ("run", slot_run(n, 200).to_string()),
        commands: |_, n| pause(n),
        check: |fixture, n, outcomes| {
            is_ok(outcomes);
            assert_eq!(fixture.find_run(&slot_run(n, 200)), None);
        },
    },
    Case {
        name: "a run that was claimed early, before a pause after failures",
        prepare: |fixture, n| {
            let spec = r#"{"cron":"* * * * *","pause_after_failures":1}"#.into();
            let new = NewSchedule { spec, ..new_schedule(&key(n), Some(at(start(n)))) };
            let schedule = fixture.put(at(start(n)), new);
            fire_slots(fixture, n, &schedule, &[(0, Admission::Claim), (200, Admission::Claim)]);
        },
        touched: |n| ("run", slot_run(n, 200).to_string()),
        commands: |fixture, n| {
            vec![Command::CompleteRun {
                run: slot_run(n, 0),
                token: fixture.run(&slot_run(n, 0)).token,
                ending: Box::new(failed()),
                stands_alone: false,
                tells: false,
            }]
        },
        check: |fixture, n, outcomes| {
            is_ok(outcomes);
            assert_eq!(fixture.find_run(&slot_run(n, 200)), None);
        },
    },
    Case {
        name: "a run that has completed before its slot",
        prepare: |fixture, n| {
            fire(fixture, n, &[(200, Admission::Claim), (260, Admission::Claim)]);
            fixture.end(at(start(n) + 261), &slot_run(n, 260), succeeded());
        },
        touched: |n| ("run", slot_run(n, 260).to_string()),
        commands: |_, n| pause(n),
        check: |fixture, n, outcomes| {
            is_ok(outcomes);
            assert_eq!(
                fixture.state(&slot_run(n, 200)),
                RunState::Running,
                "its slot is before a settled one"
            );
        },
    },
    Case {
        name: "a run of a schedule that is deleted",
        prepare: |fixture, n| fire(fixture, n, &[(0, Admission::Queue)]),
        touched: |n| ("run", slot_run(n, 0).to_string()),
        commands: |_, n| vec![Command::DeleteSchedule { project: text(PROJECT), id: schedule_id(n) }],
        check: |fixture, n, outcomes| {
            is_ok(outcomes);
            assert_eq!(fixture.state(&slot_run(n, 0)), RunState::Cancelled);
        },
    },
    Case {
        name: "a worker for which a run is created",
        prepare: |_, _| {},
        touched: |_| ("worker", "wkr_1".to_owned()),
        commands: |fixture, n| {
            let claim_for = Some(fixture.worker.clone());
            vec![Command::CreateRun(Box::new(NewRun { claim_for, ..new_run(run("run", n).as_str()) }))]
        },
        check: |_, _, outcomes| {
            assert!(matches!(&outcomes[0], Ok(Answer::Created { claimed: Some(_), .. })), "{outcomes:?}");
        },
    },
    Case {
        name: "a run that the retention kept, of a schedule that fires",
        prepare: |fixture, n| {
            fire(fixture, n, &[(0, Admission::Claim)]);
            fixture.end(at(start(n)), &slot_run(n, 0), succeeded());
            let (project, before) = (text(PROJECT), at(start(n) + 50));
            let pruned =
                fixture.ok(at(start(n) + 60), Command::Prune { project, before, keep: 1, limit: 100 });
            assert_eq!(pruned, Answer::Count(0));
        },
        touched: |n| ("run", slot_run(n, 0).to_string()),
        commands: |fixture, n| {
            let mut commands = fire_behind(fixture, n, false);
            let before = at(start(n) + 50);
            commands.push(Command::Prune { project: text(PROJECT), before, keep: 1, limit: 100 });
            commands
        },
        check: |fixture, n, outcomes| {
            assert_eq!(outcomes[1], Ok(Answer::Count(1)));
            assert_eq!(fixture.find_run(&slot_run(n, 0)), None);
        },
    },
];

/// Waits for a connection of this name to wait for a lock. Panics if its commit ends before: then
/// it has executed no statement that the test is about.
pub(super) fn until_it_waits<T>(
    administrator: &Administrator,
    name: &str,
    committed: &ScopedJoinHandle<'_, T>,
) {
    let waiting = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = '{name}' AND wait_event_type = 'Lock'"
    );
    while administrator.number(&waiting) == 0 {
        assert!(!committed.is_finished(), "the commit of {name} waits for no lock");
        std::thread::yield_now();
    }
}

#[test]
fn a_row_that_another_transaction_has_just_updated_is_never_lost() {
    let server = Server::shared();
    let administrator = Administrator::new(&server.url);
    let mut lost = Vec::new();
    for case in CASES {
        let url = server.new_schema();
        let schema = url.rsplit_once("schema=").unwrap().1;
        let store = open(&url, schema);
        let fixture = Fixture::on(&store);
        for n in 1..=ROUNDS {
            (case.prepare)(&fixture, n);
            let commands = (case.commands)(&fixture, n);
            let (table, id) = (case.touched)(n);
            administrator.execute(&format!("BEGIN; UPDATE {schema}.{table} SET id = id WHERE id = '{id}'"));
            let outcomes = std::thread::scope(|scope| {
                let committed = scope.spawn(|| store.commit(&commands, NOW(n)).unwrap());
                until_it_waits(&administrator, schema, &committed);
                administrator.execute("COMMIT");
                committed.join().unwrap()
            });
            let check = std::panic::AssertUnwindSafe(|| (case.check)(&fixture, n, &outcomes));
            if std::panic::catch_unwind(check).is_err() || store.missed_reads() > 0 {
                lost.push(case.name);
                break;
            }
        }
    }
    assert_eq!(lost, Vec::<&str>::new());
}

#[test]
fn schedules_are_created_in_one_order_whatever_order_they_are_given_in() {
    let server = Server::shared();
    let (first, second) = (Administrator::new(&server.url), Administrator::new(&server.url));
    let url = server.new_schema();
    let schema = url.rsplit_once("schema=").unwrap().1;
    let store = open(&url, schema);
    let insert = |key: &str| {
        format!(
            "SET lock_timeout = '10s'; BEGIN; \
             INSERT INTO {schema}.schedule (id, revision, status, attended_from, created_at, updated_at, project, \
             workflow, key, cadence, spec) VALUES ('theirs_{key}', 1, 'active', 0, 0, 0, '{PROJECT}', 'w', '{key}', \
             '', '{{}}')"
        )
    };
    for many in [2, 4_000] {
        let key = |number: i64| format!("{many}_{number:04}");
        first.execute(&insert(&key(0)));
        // Neither their order nor their ids are that of the keys.
        let new = |number: i64| NewSchedule {
            id: ScheduleId::from(format!("sch_{}", key(many - number))),
            ..new_schedule(&key(number), Some(at(60)))
        };
        let upsert = Command::UpsertSchedules((0..many).rev().map(new).collect());
        let outcomes = std::thread::scope(|scope| {
            let committed = scope.spawn(|| store.commit(std::slice::from_ref(&upsert), at(0)).unwrap());
            until_it_waits(&second, schema, &committed);
            // It waits for the first key, and so has none of the others: who has one of them can't
            // be waiting for it.
            second.execute(&insert(&key(many - 1)));
            second.execute("ROLLBACK");
            first.execute("ROLLBACK");
            committed.join().unwrap()
        });
        is_ok(&outcomes);
    }
}

pub(super) fn open(url: &str, name: &str) -> PostgresStore {
    PostgresStore::open(&format!("{url}&application_name={name}"), PostgresOptions::default()).unwrap()
}

/// A store with a view in place of a table. A function decides about each row that is read.
struct Filtered {
    administrator: Administrator,
    schema: String,
    store: PostgresStore,
}

impl Filtered {
    fn new() -> Self {
        let server = Server::shared();
        let url = server.new_schema();
        let schema = url.rsplit_once("schema=").unwrap().1.to_owned();
        let store = open(&url, &schema);
        Self { administrator: Administrator::new(&server.url), schema, store }
    }

    /// Replaces a table. `body` is the body of the function; it has the row's key as `row_key`.
    fn filter(&self, table: &str, key: &str, kind: &str, body: &str) {
        let schema = &self.schema;
        self.administrator.execute(&format!(
            "CREATE FUNCTION {schema}.sees(row_key {kind}) RETURNS boolean LANGUAGE plpgsql AS \
             $$ BEGIN {body} RETURN true; END $$;
             ALTER TABLE {schema}.{table} RENAME TO {table}_rows;
             CREATE VIEW {schema}.{table} AS SELECT * FROM {schema}.{table}_rows WHERE {schema}.sees({key})"
        ));
    }

    /// Commits, and updates all rows of the table once a statement like `pattern` has its snapshot.
    fn commit_and_update(&self, table: &str, pattern: &str, command: Command) -> Answer {
        self.commit_and_set(table, pattern, command, "project = project")
    }

    /// The same, with the assignments of the update.
    fn commit_and_set(&self, table: &str, pattern: &str, command: Command, set: &str) -> Answer {
        let lock = format!("hashtext('{}')", self.schema);
        self.filter(
            table,
            "no",
            "bigint",
            &format!(
                "IF current_query() LIKE '{pattern}' THEN PERFORM pg_advisory_lock_shared({lock}); \
                 PERFORM pg_advisory_unlock_shared({lock}); END IF;"
            ),
        );
        self.administrator.execute(&format!("SELECT pg_advisory_lock({lock})"));
        let outcome = std::thread::scope(|scope| {
            let committed = scope.spawn(|| self.store.commit(&[command], at(100)).unwrap().remove(0));
            until_it_waits(&self.administrator, &self.schema, &committed);
            let schema = &self.schema;
            self.administrator.execute(&format!("UPDATE {schema}.{table}_rows SET {set}"));
            self.administrator.execute(&format!("SELECT pg_advisory_unlock({lock})"));
            committed.join().unwrap()
        });
        outcome.unwrap()
    }
}

/// Two finished runs of a schedule. The second is the newest.
fn two_ended(fixture: &Fixture<'_>) -> [RunId; 2] {
    let schedule = fixture.put(at(0), new_schedule("a", Some(at(0))));
    [0, 10].map(|slot| {
        let run = fixture.fire(at(slot), &schedule, at(slot), Admission::Claim);
        fixture.end(at(slot), &run, succeeded());
        run
    })
}

fn prune(keep: u32) -> Command {
    Command::Prune { project: text(PROJECT), before: at(90), keep, limit: 100 }
}

#[test]
fn runs_that_are_updated_while_they_are_claimed_are_claimed() {
    let filtered = Filtered::new();
    let fixture = Fixture::on(&filtered.store);
    for number in 0..3 {
        fixture.create(at(0), new_run(&format!("run_{number}")));
    }
    let command = Command::ClaimRuns {
        project: text(PROJECT),
        worker: fixture.worker.clone(),
        workflows: vec![text("w"), text("v")],
        limit: 10,
        until: at(100),
        suspects: Suspects::Never,
        codes: None,
    };
    let answer = filtered.commit_and_update("run", "%SKIP LOCKED%", command);
    assert!(matches!(&answer, Answer::Claimed(runs) if runs.len() == 3), "{answer:?}");
}

#[test]
fn runs_that_are_cancelled_while_they_are_claimed_are_not_claimed() {
    let filtered = Filtered::new();
    let fixture = Fixture::on(&filtered.store);
    fixture.create(at(0), new_run("run_1"));
    let command = Command::ClaimRuns {
        project: text(PROJECT),
        worker: fixture.worker.clone(),
        workflows: vec![text("w")],
        limit: 10,
        until: at(100),
        suspects: Suspects::Never,
        codes: None,
    };
    let set = "state = 'cancelled', finished_at = available_at";
    let answer = filtered.commit_and_set("run", "%SKIP LOCKED%", command, set);
    assert_eq!(answer, Answer::Claimed(Vec::new()));
}

#[test]
fn a_suspect_that_is_updated_while_it_is_claimed_is_claimed() {
    let filtered = Filtered::new();
    let fixture = Fixture::on(&filtered.store);
    fixture.create(at(0), new_run("run_1"));
    for _ in 0..2 {
        fixture.claim(at(0));
        let (worker, heartbeat) = (fixture.worker.clone(), fixture.heartbeat());
        fixture.ok(at(0), Command::ExpireWorker { worker, heartbeat, shares_process: false });
        register_again(&fixture);
    }
    let command = Command::ClaimRuns {
        project: text(PROJECT),
        worker: fixture.worker.clone(),
        workflows: vec![text("w")],
        limit: 10,
        until: at(100),
        suspects: Suspects::Alone,
        codes: None,
    };
    let answer = filtered.commit_and_update("run", "%LIMIT 1 FOR UPDATE OF r SKIP LOCKED%", command);
    assert!(matches!(&answer, Answer::Claimed(runs) if runs.len() == 1), "{answer:?}");
}

#[test]
fn old_runs_that_are_updated_while_they_are_pruned_are_deleted() {
    let filtered = Filtered::new();
    let fixture = Fixture::on(&filtered.store);
    let [old, new] = two_ended(&fixture);
    assert_eq!(filtered.commit_and_update("run", "%WITH o AS%", prune(1)), Answer::Count(1));
    assert_eq!((fixture.find_run(&old), fixture.state(&new)), (None, RunState::Succeeded));
}

#[test]
fn kept_runs_that_are_updated_while_they_are_reconsidered_are_deleted() {
    let filtered = Filtered::new();
    let fixture = Fixture::on(&filtered.store);
    let [old, _] = two_ended(&fixture);
    assert_eq!(fixture.ok(at(95), prune(2)), Answer::Count(0));
    assert_eq!(filtered.commit_and_update("run", "%kept >%", prune(1)), Answer::Count(1));
    assert_eq!(fixture.find_run(&old), None);
}

#[test]
fn old_ledger_lines_that_are_updated_while_they_are_pruned_are_deleted() {
    let filtered = Filtered::new();
    let fixture = Fixture::on(&filtered.store);
    let schedule = fixture.put(at(0), new_schedule("a", Some(at(0))));
    let mut plan = fixture.plan(&schedule, &[]);
    plan.next_slot = Some(minute_after(at(0)));
    plan.ledger = vec![super::fixture::missed(at(0))];
    fixture.commit_plan(at(0), plan);
    assert_eq!(filtered.commit_and_update("ledger", "DELETE%", prune(1)), Answer::Count(1));
}

/// Hides a row from the first locking read, as a read that loses rows does.
const HIDDEN_ONCE: &str = "IF row_key = 'KEY' AND current_query() LIKE '%STATEMENT%FOR UPDATE' \
    AND nextval('SCHEMA.looks') = 1 THEN RETURN false; END IF;";

#[test]
fn a_row_that_a_read_missed_is_not_taken_for_gone() {
    type Missed = (&'static str, &'static str, &'static str, fn(&Fixture<'_>) -> Command);
    let runs = "run r WHERE r.id = ANY(ARRAY";
    let cases: [Missed; 4] = [
        ("worker", "wkr_1", "worker w WHERE w.id = ANY", |fixture| Command::DeregisterWorker {
            worker: fixture.worker.clone(),
        }),
        ("schedule", "sch_s1", "schedule s WHERE s.id = ANY", |_| pause(1).remove(0)),
        ("run", "child_1", runs, |_| cancel("child", 1).remove(0)),
        ("run", "parent_1", runs, |_| end(&run("child", 1), Token(1), succeeded())),
    ];
    for (table, key, statement, command) in cases {
        let filtered = Filtered::new();
        let fixture = Fixture::on(&filtered.store);
        put(&fixture, 1);
        family(&fixture, 1);
        let body = HIDDEN_ONCE
            .replace("STATEMENT", statement)
            .replace("KEY", key)
            .replace("SCHEMA", &filtered.schema);
        let schema = &filtered.schema;
        filtered
            .administrator
            .execute(&format!("CREATE SEQUENCE {schema}.looks; GRANT ALL ON {schema}.looks TO PUBLIC"));
        filtered.filter(table, "id", "text", &body);
        fixture.ok(NOW(1), command(&fixture));
        assert_eq!(filtered.store.missed_reads(), 1, "{table} {key}");
        if key == "parent_1" {
            assert_eq!(fixture.run(&run("parent", 1)).available_at, NOW(1));
        }
    }
}

#[test]
fn commands_for_rows_that_do_not_exist_are_rejected() {
    let store = Server::shared().new_store();
    let fixture = Fixture::on(&store);
    let unknown = WorkerId::from("wkr_9");
    for command in [
        Command::Heartbeat { worker: unknown },
        pause(1).remove(0),
        cancel("run", 1).remove(0),
        end(&run("run", 1), Token(1), succeeded()),
    ] {
        fixture.no(at(0), command);
    }
    assert_eq!(store.missed_reads(), 0);
}

/// Commits while another transaction has locked the run `run_1`. The commit must not wait for it.
fn commit_beside_a_lock(filtered: &Filtered, command: Command) -> Answer {
    let schema = &filtered.schema;
    filtered.administrator.execute("BEGIN");
    filtered.administrator.execute(&format!("SELECT no FROM {schema}.run WHERE id = 'run_1' FOR UPDATE"));
    let answer = std::thread::scope(|scope| {
        let (sender, answer) = std::sync::mpsc::channel();
        scope.spawn(move || _ = sender.send(filtered.store.commit(&[command], at(100)).unwrap().remove(0)));
        let answer = answer.recv_timeout(std::time::Duration::from_secs(15));
        filtered.administrator.execute("ROLLBACK");
        answer.expect("the commit waits for the lock")
    });
    answer.unwrap()
}

fn claim_all(fixture: &Fixture<'_>, suspects: Suspects, code: Option<&str>) -> Command {
    Command::ClaimRuns {
        project: text(PROJECT),
        worker: fixture.worker.clone(),
        workflows: vec![text("w")],
        limit: 10,
        until: at(100),
        suspects,
        codes: code.map(|code| std::sync::Arc::new([(text("w"), text(code))].into())),
    }
}

fn claimed(answer: &Answer) -> Vec<&str> {
    match answer {
        Answer::Claimed(runs) => runs.iter().map(|claimed| claimed.run.id.as_str()).collect(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_claim_passes_over_what_another_transaction_has_locked() {
    let filtered = Filtered::new();
    let fixture = Fixture::on(&filtered.store);
    for id in ["run_1", "run_2"] {
        fixture.create(at(0), new_run(id));
    }
    let answer = commit_beside_a_lock(&filtered, claim_all(&fixture, Suspects::Never, None));
    assert_eq!(claimed(&answer), ["run_2"]);
}

#[test]
fn a_claim_of_a_suspect_passes_over_what_another_transaction_has_locked() {
    let filtered = Filtered::new();
    let fixture = Fixture::on(&filtered.store);
    fixture.create(at(0), new_run("run_1"));
    for _ in 0..2 {
        fixture.claim(at(0));
        let (worker, heartbeat) = (fixture.worker.clone(), fixture.heartbeat());
        fixture.ok(at(0), Command::ExpireWorker { worker, heartbeat, shares_process: false });
        register_again(&fixture);
    }
    let answer = commit_beside_a_lock(&filtered, claim_all(&fixture, Suspects::Alone, None));
    assert_eq!(claimed(&answer), [""; 0]);
}

#[test]
fn a_claim_of_held_runs_passes_over_what_another_transaction_has_locked() {
    let filtered = Filtered::new();
    let fixture = Fixture::on(&filtered.store);
    for id in ["run_1", "run_2"] {
        let run = fixture.running(at(0), id);
        fixture.end(at(1), &run.id, Completion::Held { code: text("old"), note: text("held") });
    }
    let answer = commit_beside_a_lock(&filtered, claim_all(&fixture, Suspects::Never, Some("new")));
    assert_eq!(claimed(&answer), ["run_2"]);
}

#[test]
fn pruning_passes_over_what_another_transaction_has_locked() {
    let filtered = Filtered::new();
    let fixture = Fixture::on(&filtered.store);
    for id in ["run_1", "run_2"] {
        let run = fixture.running(at(0), id);
        fixture.end(at(1), &run.id, succeeded());
    }
    assert_eq!(commit_beside_a_lock(&filtered, prune(0)), Answer::Count(1));
    assert_eq!(fixture.find_run(&RunId::from("run_2")), None);
}
