//! Batches of 500 on SQLite, each in one transaction with one sync: due slots that are fired, and
//! queued runs that are claimed, with and without a limit. The baseline is bare statements that insert
//! one row and advance one row for each.
//!
//! The files are in `BENCH_FOLDER`: on a RAM disk the work of polos dominates, on a disk the syncs do.

use criterion::measurement::WallTime;
use criterion::{BatchSize, BenchmarkGroup, BenchmarkId, Criterion, Throughput};
use polos::calendar::Timestamp;
use polos::model::stored_spec;
use polos::model::{
    Admission, ClaimRules, Completion, DeclaredLimit, FirePlan, LimitSpec, NewRun, NewSchedule, Origin,
    PlannedRun, RunId, ScheduleId, ScheduleStatus, Token, WorkerEntry, WorkerId, WorkflowEntry,
};
use polos::store::{Answer, Command, SqliteOptions, SqliteStore, Store, Suspects};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

const BATCH: usize = 500;
const STORED: usize = 10_000;
const PROJECT: &str = "default";
const WORKFLOW: &str = "w";
const LIMITED: &str = "limited";
const HOUR: i64 = 3_600;

pub fn claims(criterion: &mut Criterion) {
    let permit =
        std::env::var_os("BENCH_FOLDER").map_or_else(|| env!("CARGO_TARGET_TMPDIR").into(), PathBuf::from);
    let folder = tempfile::tempdir_in(permit).unwrap();
    let mut group = criterion.benchmark_group("batch");
    group.throughput(Throughput::Elements(BATCH as u64));
    let store = SqliteStore::open(folder.path().join("polos.db"), SqliteOptions::default()).unwrap();
    one(&store, Command::RegisterWorker(Box::new(worker())), at(0));
    fire(&mut group, &store);
    claim(&mut group, &store, WORKFLOW, "claim");
    claim(&mut group, &store, LIMITED, "limited claim");
    bare(&mut group, &folder.path().join("baseline.db"));
    group.finish();
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second)
}

fn one(store: &dyn Store, command: Command, now: Timestamp) -> Answer {
    store.commit(&[command], now).unwrap().remove(0).unwrap()
}

fn worker() -> WorkerEntry {
    WorkerEntry {
        aliases: Vec::new(),
        former: Vec::new(),
        version: None,
        is_whole: true,
        id: WorkerId::from("wkr_1"),
        project: PROJECT.into(),
        app: "bench".into(),
        host: "host".into(),
        pid: 1,
        process_mark: "mark".into(),
        about: "{}".into(),
        workflows: [WORKFLOW, LIMITED].map(|id| WorkflowEntry { id: id.into(), schedulable: true }).into(),
        declared: Vec::new(),
        limits: vec![DeclaredLimit {
            name: LIMITED.into(),
            spec: LimitSpec { max: Some(1_000_000), ..LimitSpec::default() },
        }],
        rules: BTreeMap::from([(
            LIMITED.into(),
            ClaimRules { limit: Some(LIMITED.into()), ..ClaimRules::default() },
        )]),
    }
}

fn schedule(number: usize) -> NewSchedule {
    NewSchedule {
        id: ScheduleId::new(at(0), number as u64),
        project: PROJECT.into(),
        workflow: WORKFLOW.into(),
        key: format!("user-{number}").into(),
        owner: None,
        spec: r#"{"cron":"0 * * * *","timezone":"UTC"}"#.into(),
        compiled_spec: "0 * * * *|UTC".into(),
        version: None,
        tags: None,
        input: None,
        next_slot: Some(at(HOUR)),
    }
}

/// Reads 500 due schedules, fires each, and commits.
fn fire(group: &mut BenchmarkGroup<'_, WallTime>, store: &dyn Store) {
    one(store, Command::UpsertSchedules((0..STORED).map(schedule).collect()), at(0));
    let mut hour = HOUR;
    let mut fired = 0;
    group.bench_function(BenchmarkId::new("fire", "polos"), |bench| {
        bench.iter(|| {
            let due = store.due(PROJECT, &[WORKFLOW.into()], at(hour), BATCH).unwrap();
            let plans: Vec<_> = due
                .into_iter()
                .map(|due| fire_plan(due.schedule.id, due.schedule.revision, due.schedule.last_slot, hour))
                .collect();
            let answers = store.commit(&plans, at(hour)).unwrap();
            assert!(answers.len() == BATCH && answers.iter().all(Result::is_ok));
            fired += BATCH;
            if fired == STORED {
                (fired, hour) = (0, hour + HOUR);
            }
        });
    });
}

fn fire_plan(schedule: ScheduleId, revision: i64, last_slot: Option<Timestamp>, second: i64) -> Command {
    let (slot, next) = (at(second), at(second + HOUR));
    let run = PlannedRun {
        id: RunId::of_slot(&schedule, slot),
        slot,
        last_slot,
        upcoming: Some(next),
        available_at: slot,
        admission: Admission::Claim,
    };
    let plan = FirePlan {
        schedule,
        revision,
        spec: stored_spec::compiled(r#"{"cron":"0 * * * *"}"#).unwrap(),
        next_slot: Some(next),
        status: ScheduleStatus::Active,
        runs: vec![run],
        ledger: Vec::new(),
        cancel_unfinished: false,
        settled: None,
    };
    Command::Fire { worker: WorkerId::from("wkr_1"), plan: Box::new(plan) }
}

/// Claims 500 queued runs. Completes the previous ones first, since a limit counts running runs.
fn claim(group: &mut BenchmarkGroup<'_, WallTime>, store: &dyn Store, workflow: &str, name: &str) {
    let mut made = 0_usize;
    let mut queue = || {
        let ends: Vec<_> = (made.saturating_sub(BATCH)..made).map(|number| end(workflow, number)).collect();
        assert!(store.commit(&ends, at(1)).unwrap().iter().all(Result::is_ok));
        let runs: Vec<_> =
            (made..made + BATCH).map(|number| Command::CreateRun(Box::new(run(workflow, number)))).collect();
        made += BATCH;
        assert!(store.commit(&runs, at(0)).unwrap().iter().all(Result::is_ok));
    };
    let claim = |()| {
        let command = Command::ClaimRuns {
            project: PROJECT.into(),
            worker: WorkerId::from("wkr_1"),
            workflows: vec![workflow.into()],
            limit: BATCH,
            until: at(1),
            suspects: Suspects::Never,
            codes: None,
        };
        let Answer::Claimed(claimed) = one(store, command, at(1)) else { panic!("claims were asked for") };
        assert_eq!(claimed.len(), BATCH);
    };
    group.bench_function(BenchmarkId::new(name, "polos"), |bench| {
        bench.iter_batched(&mut queue, claim, BatchSize::PerIteration);
    });
}

fn end(workflow: &str, number: usize) -> Command {
    Command::CompleteRun {
        run: RunId::from(format!("run_{workflow}{number:020}")),
        token: Token(1),
        ending: Box::new(Completion::Succeeded { result: None }),
        stands_alone: true,
        tells: false,
    }
}

fn run(workflow: &str, number: usize) -> NewRun {
    NewRun {
        id: RunId::from(format!("run_{workflow}{number:020}")),
        project: PROJECT.into(),
        workflow: workflow.into(),
        key: "global".into(),
        schedule_id: None,
        slot: None,
        last_slot: None,
        upcoming: None,
        timezone: "UTC".into(),
        origin: Origin::Invoke,
        payload: None,
        input: None,
        available_at: at(0),
        behind: false,
        parent: None,
        idempotency_key: None,
        together: None,
        priority: None,
        claim_for: None,
        revokes_claims: false,
        revision: None,
    }
}

fn bare(group: &mut BenchmarkGroup<'_, WallTime>, path: &Path) {
    let database = rusqlite::Connection::open(path).unwrap();
    database
        .execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;
             CREATE TABLE schedule (id TEXT PRIMARY KEY, next INTEGER, spec TEXT) WITHOUT ROWID;
             CREATE INDEX due ON schedule (next);
             CREATE TABLE run (id TEXT PRIMARY KEY, schedule TEXT, slot INTEGER, state TEXT);
             BEGIN",
        )
        .unwrap();
    let ids: Vec<String> = (0..STORED).map(|number| schedule(number).id.to_string()).collect();
    for id in &ids {
        let mut insert = database.prepare_cached("INSERT INTO schedule VALUES (?1, 0, '')").unwrap();
        insert.execute([id]).unwrap();
    }
    database.execute_batch("COMMIT").unwrap();
    let mut chunks = ids.chunks(BATCH).cycle();
    let mut round = 0;
    group.bench_function(BenchmarkId::new("fire", "baseline"), |bench| {
        bench.iter(|| {
            round += 1;
            database.execute_batch("BEGIN IMMEDIATE").unwrap();
            for id in chunks.next().unwrap() {
                let mut insert =
                    database.prepare_cached("INSERT INTO run VALUES (?1, ?2, ?3, 'running')").unwrap();
                insert.execute((format!("run_{id}_{round}"), id, round)).unwrap();
                let mut advance =
                    database.prepare_cached("UPDATE schedule SET next = ?2 WHERE id = ?1").unwrap();
                advance.execute((id, round)).unwrap();
            }
            database.execute_batch("COMMIT").unwrap();
        });
    });
}
