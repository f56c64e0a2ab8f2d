//! What the store costs. Measures; decides nothing:
//! `cargo test --release -- --ignored --nocapture probe`.

use super::fixture::{
    PROJECT, at, done_step, end, minute_after, new_run, new_schedule, new_worker, succeeded, text,
};
use polos::model::{
    Admission, FirePlan, NewRun, NewSchedule, PlannedRun, RunId, ScheduleId, ScheduleStatus, Token, WorkerId,
};
use polos::store::{Answer, Command, SqliteOptions, SqliteStore, Store, StoreWrites, Suspects};
use std::path::Path;
use std::time::Instant;

const CHUNK: usize = 500;

#[expect(clippy::disallowed_methods, reason = "measures")]
fn timed<T>(what: &str, count: usize, work: impl FnOnce() -> T) -> T {
    let (start, busy) = (Instant::now(), busy_ns());
    let answer = work();
    let (spent, busy) = (start.elapsed(), busy_ns() - busy);
    let each = spent.as_secs_f64() * 1e6 / count as f64;
    let busy_each = busy as f64 / 1e3 / count as f64;
    eprintln!(
        "{what:<36} {:>8.1} ms {each:>8.2} us each, {busy_each:>7.2} us of it on the processor",
        each * count as f64 / 1e3
    );
    answer
}

/// Time that this thread spent on a processor, where the system tells.
fn busy_ns() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    text.split(' ').next().and_then(|first| first.parse().ok()).unwrap_or(0)
}

/// The same work without a store: the bare statements of a herd on a table with one index.
fn baseline(path: &Path) {
    let connection = rusqlite::Connection::open(path).unwrap();
    connection
        .execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;
             CREATE TABLE schedule (id TEXT PRIMARY KEY, next INTEGER, spec TEXT);
             CREATE INDEX due ON schedule (next);
             CREATE TABLE run (id TEXT PRIMARY KEY, schedule TEXT, slot INTEGER, state TEXT);
             BEGIN;",
        )
        .unwrap();
    let ids: Vec<String> = (0..10_000).map(|number| schedule(number).id.to_string()).collect();
    for id in &ids {
        let mut insert = connection.prepare_cached("INSERT INTO schedule VALUES (?1, 60, ?2)").unwrap();
        insert.execute((id, "* * * * *")).unwrap();
    }
    connection.execute_batch("COMMIT").unwrap();
    timed("baseline: one insert and one update each", ids.len(), || {
        for chunk in ids.chunks(CHUNK) {
            connection.execute_batch("BEGIN IMMEDIATE").unwrap();
            for id in chunk {
                let mut insert =
                    connection.prepare_cached("INSERT INTO run VALUES (?1, ?2, 60, 'running')").unwrap();
                insert.execute((format!("run_{id}_60"), id)).unwrap();
                let mut update =
                    connection.prepare_cached("UPDATE schedule SET next = next + 60 WHERE id = ?1").unwrap();
                update.execute([id]).unwrap();
            }
            connection.execute_batch("COMMIT").unwrap();
        }
    });
}

fn schedule(number: usize) -> NewSchedule {
    NewSchedule {
        id: ScheduleId::new(at(0), number as u64),
        ..new_schedule(&format!("user-{number}"), Some(at(60)))
    }
}

fn create(store: &dyn Store, from: usize, count: usize, chunk: usize, next: i64) {
    for start in (from..from + count).step_by(chunk) {
        let new = (start..start + chunk.min(from + count - start))
            .map(|number| NewSchedule { next_slot: Some(at(next)), ..schedule(number) })
            .collect();
        let answers = store.commit(&[Command::UpsertSchedules(new)], at(0)).unwrap();
        assert!(answers[0].is_ok());
    }
}

fn herd(store: &dyn Store, path: Option<&Path>, now: i64, count: usize) -> Vec<(RunId, Token)> {
    let worker = WorkerId::from("wkr_1");
    let workflows = [text("w")];
    let due = timed("due, in chunks of 500, no fire", count, || {
        store.due(PROJECT, &workflows, at(now), count).unwrap()
    });
    assert_eq!(due.len(), count);
    let plans: Vec<Command> = due
        .into_iter()
        .map(|due| {
            let slot = due.schedule.next_slot.unwrap();
            let plan = FirePlan {
                schedule: due.schedule.id.clone(),
                revision: due.schedule.revision,
                spec: due.schedule.compiled_spec().unwrap(),
                next_slot: Some(minute_after(slot)),
                status: ScheduleStatus::Active,
                runs: vec![PlannedRun {
                    id: RunId::of_slot(&due.schedule.id, slot),
                    slot,
                    last_slot: due.schedule.last_slot,
                    upcoming: Some(minute_after(slot)),
                    available_at: slot,
                    admission: Admission::Claim,
                }],
                ledger: Vec::new(),
                cancel_unfinished: false,
                settled: None,
            };
            Command::Fire { worker: worker.clone(), plan: Box::new(plan) }
        })
        .collect();
    let mut claims = Vec::new();
    let mut chunks = plans.chunks(CHUNK);
    let mut commit = |chunk: &[Command]| {
        for answer in store.commit(chunk, at(now)).unwrap() {
            let Ok(Answer::Claimed(claimed)) = answer else { panic!("{answer:?}") };
            claims.extend(claimed.into_iter().map(|claim| (claim.run.id, claim.run.token)));
        }
    };
    if let Some(path) = path {
        pages(path, "Fire, 500 in one commit", || commit(chunks.next().unwrap()));
    }
    timed("Fire, in chunks of 500", count - CHUNK, || chunks.for_each(&mut commit));
    claims
}

/// Pages that one commit writes.
fn pages(path: &Path, what: &str, commit: impl FnOnce()) {
    let other = rusqlite::Connection::open(path).unwrap();
    other.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    commit();
    let log = std::fs::metadata(format!("{}-wal", path.display())).unwrap().len();
    eprintln!("{what:<36} {:>8} pages", log / 4120);
}

fn finish(store: &dyn Store, now: i64, claims: &[(RunId, Token)]) {
    timed("EndRun, in chunks of 500", claims.len(), || {
        for chunk in claims.chunks(CHUNK) {
            let commands: Vec<_> = chunk.iter().map(|(run, token)| end(run, *token, succeeded())).collect();
            assert!(store.commit(&commands, at(now)).unwrap().iter().all(Result::is_ok));
        }
    });
}

fn steps(store: &dyn Store, claims: &[(RunId, Token)], per_run: usize, chunk: usize) {
    let mut commands = Vec::new();
    for step in 0..per_run {
        for (run, token) in claims {
            commands.push(Command::RecordStep {
                run: run.clone(),
                token: *token,
                step: done_step(&format!("step {step}")),
            });
        }
    }
    timed(&format!("RecordStep, in chunks of {chunk}"), commands.len(), || {
        for chunk in commands.chunks(chunk) {
            assert!(store.commit(chunk, at(70)).unwrap().iter().all(Result::is_ok));
        }
    });
}

/// Nothing but a herd, in a new file.
fn herd_alone(path: &Path) {
    let store = SqliteStore::open(path, SqliteOptions::default()).unwrap();
    store.commit(&[Command::RegisterWorker(Box::new(new_worker("wkr_1")))], at(0)).unwrap();
    timed("create 10k in one PutSchedules", 10_000, || create(&store, 0, 10_000, 10_000, 60));
    for round in 1..4 {
        let claims = herd(&store, Some(path), 60 * round, 10_000);
        finish(&store, 60 * round, &claims);
    }
}

fn probe(store: &dyn Store, path: Option<&Path>) {
    store.commit(&[Command::RegisterWorker(Box::new(new_worker("wkr_1")))], at(0)).unwrap();
    timed("create 100k in one PutSchedules", 100_000, || {
        create(store, 1_000_000, 100_000, 100_000, 1_000_000);
    });
    timed("create 1k one by one", 1_000, || create(store, 2_000_000, 1_000, 1, 1_000_000));
    timed("create 10k in 500s", 10_000, || create(store, 0, 10_000, 500, 60));
    for round in 0..3 {
        let claims = herd(store, path, 60 * (round + 1), 10_000);
        if round == 0 {
            steps(store, &claims[..100], 100, 100);
            steps(store, &claims[..1], 1000, 1);
        }
        finish(store, 60 * (round + 1), &claims);
    }
    let new: Vec<_> = (0..10_000)
        .map(|number| {
            Command::CreateRun(Box::new(NewRun {
                available_at: at(0),
                ..new_run(&format!("run_{number:020}"))
            }))
        })
        .collect();
    timed("CreateRun, in chunks of 100", new.len(), || {
        for chunk in new.chunks(100) {
            store.commit(chunk, at(300)).unwrap();
        }
    });
    let mut claims = Vec::new();
    timed("ClaimRuns, 100 at a time", new.len(), || {
        for _ in 0..100 {
            let claim = Command::ClaimRuns {
                project: text(PROJECT),
                worker: WorkerId::from("wkr_1"),
                workflows: (0..10).map(|n| text(if n == 0 { "w" } else { "other" })).collect(),
                limit: 100,
                until: at(400),
                suspects: Suspects::Never,
                codes: None,
            };
            let Ok(Answer::Claimed(claimed)) = store.commit(&[claim], at(400)).unwrap().remove(0) else {
                panic!()
            };
            claims.extend(claimed.into_iter().map(|claim| (claim.run.id, claim.run.token)));
        }
    });
    assert_eq!(claims.len(), 10_000);
    finish(store, 400, &claims);
    let many: Vec<_> = (0..300).map(|n| text(&format!("w{n}"))).collect();
    timed("next_wake of 300 workflows", 100, || {
        for _ in 0..100 {
            store.next_work(PROJECT, &many, at(0)).unwrap();
        }
    });
    timed("change_mark", 100_000, || {
        for _ in 0..100_000 {
            store.change_mark().unwrap();
        }
    });
}

/// In a folder on disk, or the one named by `POLOS_PROBE_DIR`.
#[test]
#[ignore = "measures; decides nothing"]
fn probe_sqlite() {
    let permit = std::env::var("POLOS_PROBE_DIR").unwrap_or_else(|_| "/var/tmp".into());
    let folder = tempfile::tempdir_in(Path::new(&permit)).unwrap();
    let store = SqliteStore::open(folder.path().join("polos.db"), SqliteOptions::default()).unwrap();
    baseline(&folder.path().join("baseline.db"));
    herd_alone(&folder.path().join("herd.db"));
    baseline(&folder.path().join("baseline-between.db"));
    probe(&store, Some(store.path()));
    baseline(&folder.path().join("baseline-again.db"));
}

#[test]
#[ignore = "measures; decides nothing"]
fn probe_memory() {
    probe(&polos::store::MemoryStore::new(), None);
}
