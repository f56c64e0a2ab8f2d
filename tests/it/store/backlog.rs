//! What a decision costs does not depend on how many runs of its schedule are unfinished.
//!
//! Counted are rows and index entries that PostgreSQL reads, and steps of SQLite's virtual machine.

use super::fixture::{
    Fixture, PROJECT, at, failed, new_run, new_schedule, new_worker, spec, succeeded, text,
};
use super::rows_read::Administrator;
use super::server::Server;
use polos::calendar::Timestamp;
use polos::model::{
    Admission, Completion, NewRun, NewSchedule, Origin, RunId, ScheduleId, ScheduleStatus, WorkerEntry,
    WorkerId,
};
use polos::store::{Command, Patch, PostgresOptions, PostgresStore, SqliteStore};
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Unfinished runs of each schedule.
const COUNTS: [i64; 3] = [1, 100, 10_000];

/// When everything happens: after the slots of all unfinished runs.
const NOW: i64 = 20_000;

/// What the runs behind the first one of their schedule do.
#[derive(Copy, Clone, PartialEq, Eq)]
enum Kind {
    /// Each is queued: they overlap.
    Allow,
    /// Each waits for the one before it.
    Line,
}

/// Some work on a schedule of its own.
struct Work {
    name: &'static str,
    kind: Kind,
    /// The state of the schedule's first run.
    first: &'static str,
    act: fn(&Fixture<'_>, &ScheduleId),
}

const fn work(name: &'static str, kind: Kind, act: fn(&Fixture<'_>, &ScheduleId)) -> Work {
    Work { name, kind, first: "running", act }
}

fn now() -> Timestamp {
    at(NOW)
}

fn first_run(schedule: &ScheduleId) -> RunId {
    RunId::of_slot(schedule, at(1))
}

fn end(fixture: &Fixture<'_>, run: RunId, ending: Completion) {
    let token = fixture.run(&run).token;
    let ending = Box::new(ending);
    fixture.ok(now(), Command::CompleteRun { run, token, ending, stands_alone: false, tells: false });
}

fn fire(fixture: &Fixture<'_>, id: &ScheduleId, admission: Admission) {
    fixture.fire(now(), &fixture.schedule(id), at(NOW), admission);
}

fn trigger(fixture: &Fixture<'_>, id: &ScheduleId, revokes_claims: bool) {
    let new = new_run(&format!("run_by_hand_{id}"));
    let (schedule_id, origin) = (Some(id.clone()), Origin::Trigger);
    let new = NewRun { schedule_id, origin, behind: true, revokes_claims, ..new };
    fixture.create(now(), new);
}

fn pause(fixture: &Fixture<'_>, id: &ScheduleId) {
    fixture.patch(now(), id, Patch { status: Some(ScheduleStatus::Paused), ..Patch::default() });
}

fn changed(fixture: &Fixture<'_>, id: &ScheduleId) -> NewSchedule {
    let key = fixture.schedule(id).key;
    let owner = Some(text("app.py"));
    NewSchedule { spec: spec("5 * * * *"), owner, ..new_schedule(&key, Some(at(NOW + 60))) }
}

const WORKS: &[Work] = &[
    work("reading what is due", Kind::Allow, |fixture, _| {
        assert_eq!(fixture.store.due(PROJECT, &[text("w")], now(), 10).unwrap().len(), 10);
    }),
    work("a fire that claims", Kind::Allow, |fixture, id| fire(fixture, id, Admission::Claim)),
    work("a fire that queues", Kind::Allow, |fixture, id| fire(fixture, id, Admission::Queue)),
    work("a fire behind others", Kind::Line, |fixture, id| fire(fixture, id, Admission::Behind)),
    work("an end among many", Kind::Allow, |fixture, id| end(fixture, first_run(id), succeeded())),
    work("an end that releases", Kind::Line, |fixture, id| end(fixture, first_run(id), succeeded())),
    work("a failure that pauses", Kind::Allow, |fixture, id| end(fixture, first_run(id), failed())),
    work("a request to stop", Kind::Allow, |fixture, id| {
        fixture.ok(now(), Command::CancelRun { project: text(PROJECT), run: first_run(id) });
    }),
    Work {
        name: "a cancellation that releases",
        kind: Kind::Line,
        first: "queued",
        act: |fixture, id| {
            fixture.ok(now(), Command::CancelRun { project: text(PROJECT), run: first_run(id) });
        },
    },
    work("a pause", Kind::Allow, pause),
    work("a pause of a line", Kind::Line, pause),
    work("a change by key", Kind::Allow, |fixture, id| {
        fixture.ok(now(), Command::UpsertSchedules(vec![changed(fixture, id)]));
    }),
    work("a worker that starts and declares another one", Kind::Allow, |fixture, id| {
        let declared = vec![changed(fixture, id)];
        fixture.ok(now(), Command::RegisterWorker(Box::new(WorkerEntry { declared, ..new_worker("wkr_8") })));
    }),
    work("a trigger that takes back", Kind::Allow, |fixture, id| trigger(fixture, id, true)),
    work("a trigger behind others", Kind::Line, |fixture, id| trigger(fixture, id, false)),
    work("a worker that leaves", Kind::Line, |fixture, _| {
        fixture.ok(now(), Command::DeregisterWorker { worker: WorkerId::from("wkr_15") });
    }),
    work("a claim", Kind::Allow, |fixture, _| {
        fixture.claim_up_to(now(), 10);
    }),
];

/// Statements that fill a database, for both of them.
fn rows(is_sqlite: bool, count: i64) -> String {
    let mut sql = String::new();
    let (column, value) = if is_sqlite { (", is_slot", ", 1") } else { ("", "") };
    for (number, Work { kind, first, .. }) in WORKS.iter().enumerate() {
        let rest = if *kind == Kind::Allow { "queued" } else { "buffered" };
        let (zero, last, due) = (at(0).as_micros(), at(count).as_micros(), now().as_micros());
        let _ = write!(
            sql,
            "INSERT INTO schedule (id, revision, status, next_slot, last_slot, attended_from, created_at, updated_at,
                 project, workflow, key, cadence, spec)
             VALUES ('sch_b{number}', 5, 'active', {due}, {last}, {zero}, {zero}, {zero},
                 '{PROJECT}', 'w', 'b{number}', 'c', '{{\"cron\":\"* * * * *\",\"pause_after_failures\":1}}');
             INSERT INTO run (id, state, token, attempt, available_at, created_at, slot, origin, project, workflow,
                 key, timezone, worker, schedule_id{column})
             WITH RECURSIVE g (n) AS (SELECT CAST(1 AS bigint) UNION ALL SELECT n + 1 FROM g WHERE n < {count})
             SELECT 'run_b{number}_' || ({zero} + n * 1000000), CASE n WHEN 1 THEN '{first}' ELSE '{rest}' END, 1, 1,
                 {zero} + n * 1000000, {zero} + n * 1000000, {zero} + n * 1000000, 'schedule', '{PROJECT}', 'w',
                 'b{number}', 'UTC', CASE n WHEN 1 THEN 'wkr_{number}' END, 'sch_b{number}'{value} FROM g;"
        );
    }
    sql
}

fn id(number: usize) -> ScheduleId {
    ScheduleId::from(format!("sch_b{number}"))
}

/// Costs of each work, by the number of unfinished runs.
type Costs = BTreeMap<(usize, i64), i64>;

fn check(costs: &Costs) {
    let mut dear = Vec::new();
    for (number, work) in WORKS.iter().enumerate() {
        let [one, some, many] = COUNTS.map(|count| costs[&(number, count)]);
        eprintln!("{:<48} {one:>8} {some:>8} {many:>8}", work.name);
        if many > some + some / 2 + 60 {
            dear.push(format!("{}: {one}, {some}, {many}", work.name));
        }
    }
    assert_eq!(dear, Vec::<String>::new(), "with {COUNTS:?} unfinished runs");
}

#[test]
fn a_decision_costs_the_same_on_postgres_however_many_runs_are_unfinished() {
    let server = Server::shared();
    let administrator = Administrator::new(&server.url);
    let mut costs = Costs::new();
    for count in COUNTS {
        let url = server.new_schema();
        let schema = url.rsplit_once("schema=").unwrap().1.to_owned();
        let open = |name: &str| {
            let url = format!("{url}&application_name={name}");
            PostgresStore::open(&url, PostgresOptions::default()).unwrap()
        };
        let filler = format!("{schema}_filler");
        drop(Fixture::on(&open(&filler)));
        for table in ["run", "schedule", "step", "worker"] {
            administrator.execute(&format!("ALTER TABLE {schema}.{table} SET (autovacuum_enabled = false)"));
        }
        administrator.execute(&format!(
            "SET search_path = {schema}; {} ANALYZE schedule; ANALYZE run",
            rows(false, count)
        ));
        let mut before = administrator.read_by(&filler, &schema);
        for (number, work) in WORKS.iter().enumerate() {
            let name = format!("{schema}_{number}");
            let store = open(&name);
            (work.act)(&Fixture { store: &store, worker: WorkerId::from("wkr_1") }, &id(number));
            drop(store);
            let after = administrator.read_by(&name, &schema);
            costs.insert((number, count), after - before);
            before = after;
        }
    }
    check(&costs);
}

#[test]
fn a_decision_costs_the_same_on_sqlite_however_many_runs_are_unfinished() {
    let folder = tempfile::tempdir().unwrap();
    let mut costs = Costs::new();
    for count in COUNTS {
        let path = folder.path().join(format!("{count}.db"));
        let store = SqliteStore::open(&path, super::quick()).unwrap();
        let fixture = Fixture::on(&store);
        rusqlite::Connection::open(&path).unwrap().execute_batch(&rows(true, count)).unwrap();
        for (number, work) in WORKS.iter().enumerate() {
            let before = SqliteStore::steps_taken();
            (work.act)(&fixture, &id(number));
            costs.insert((number, count), (SqliteStore::steps_taken() - before) as i64);
        }
    }
    check(&costs);
}
