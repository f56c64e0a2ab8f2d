//! What retention makes of one-off schedules that have fired: nothing is left, and the room is used
//! again. With many of them it measures:
//! `cargo test --release --test it -- --ignored --nocapture one_off_retention`.

use super::fixture::{Fixture, PROJECT, at, compiled_spec, end, new_schedule, succeeded, text};
use super::rows_read::Administrator;
use super::server::Server;
use polos::model::{
    Admission, FirePlan, NewSchedule, PlannedRun, RunId, ScheduleId, ScheduleSpec, ScheduleStatus, Token,
};
use polos::store::{
    Answer, Command, Page, PostgresOptions, PostgresStore, RunFilter, ScheduleFilter, SqliteStore,
};
use std::time::{Duration, Instant};

/// What a worker prunes by one commit.
const BATCH: usize = 500;

const SLOT: i64 = 60;

fn one_off(number: usize) -> NewSchedule {
    let micros = at(SLOT).as_micros();
    let spec: ScheduleSpec =
        serde_json::from_str(&format!(r#"{{"at_us":{micros},"timezone":"UTC"}}"#)).unwrap();
    NewSchedule {
        spec: serde_json::to_string(&spec).unwrap().into(),
        compiled_spec: spec.trigger_key().into(),
        ..new_schedule(&format!("user-{number:07}"), Some(at(SLOT)))
    }
}

/// Creates schedules, fires their slots, and completes their runs.
fn fire(fixture: &Fixture<'_>, count: usize) {
    let numbers: Vec<usize> = (0..count).collect();
    for chunk in numbers.chunks(BATCH) {
        let new = chunk.iter().map(|number| one_off(*number)).collect();
        let ids = fixture.upsert_ids(at(0), new);
        let first = fixture.schedule(&ids[0]);
        let plan = |id: &ScheduleId| FirePlan {
            schedule: id.clone(),
            revision: first.revision,
            spec: compiled_spec(&first),
            next_slot: None,
            status: ScheduleStatus::Finished,
            runs: vec![PlannedRun {
                id: RunId::of_slot(id, at(SLOT)),
                slot: at(SLOT),
                last_slot: None,
                upcoming: None,
                available_at: at(SLOT),
                admission: Admission::Claim,
            }],
            ledger: Vec::new(),
            cancel_unfinished: false,
            settled: None,
        };
        let fire = |id| Command::Fire { worker: fixture.worker.clone(), plan: Box::new(plan(id)) };
        let complete = |id| end(&RunId::of_slot(id, at(SLOT)), Token(1), succeeded());
        for commands in [ids.iter().map(fire).collect::<Vec<_>>(), ids.iter().map(complete).collect()] {
            assert!(fixture.store.commit(&commands, at(SLOT)).unwrap().iter().all(Result::is_ok));
        }
    }
}

/// Prunes as a worker does. Returns the number of commits, and how long they took: all, and the
/// longest.
#[expect(clippy::disallowed_methods, reason = "measures; decides nothing by it")]
fn prune(fixture: &Fixture<'_>) -> (usize, Duration, Duration) {
    let (mut commits, mut all, mut longest) = (0, Duration::ZERO, Duration::ZERO);
    loop {
        let command = Command::Prune { project: text(PROJECT), before: at(1_000), keep: 10, limit: BATCH };
        let began = Instant::now();
        let answer = fixture.ok(at(2_000), command);
        let spent = began.elapsed();
        (commits, all, longest) = (commits + 1, all + spent, longest.max(spent));
        match answer {
            Answer::Count(count) if count > BATCH as u64 => panic!("{count} rows in one commit"),
            Answer::Count(count) if count == BATCH as u64 => {}
            Answer::Count(_) => break,
            other => panic!("{other:?}"),
        }
    }
    let page = Page { limit: 1, after: None };
    assert_eq!(fixture.store.schedules(PROJECT, &ScheduleFilter::default(), &page).unwrap(), []);
    assert_eq!(fixture.store.runs(PROJECT, &RunFilter::default(), &page).unwrap(), []);
    (commits, all, longest)
}

/// Fires and prunes as many schedules twice. Returns the sizes: at first, and after each time with
/// all rows and without them.
fn sizes(fixture: &Fixture<'_>, count: usize, size: impl Fn() -> i64) -> [i64; 5] {
    let mut sizes = [size(), 0, 0, 0, 0];
    for round in 0..2 {
        fire(fixture, count);
        sizes[1 + 2 * round] = size();
        let (commits, all, longest) = prune(fixture);
        sizes[2 + 2 * round] = size();
        eprintln!("pruned {count} schedules by {commits} commits in {all:?}, the longest {longest:?}");
        assert!(commits <= count / BATCH + 1, "{commits} commits");
    }
    eprintln!("bytes: {sizes:?}");
    sizes
}

fn on_sqlite(count: usize) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("polos.db");
    let store = SqliteStore::open(&path, super::quick()).unwrap();
    let fixture = Fixture::on(&store);
    let observer = rusqlite::Connection::open(&path).unwrap();
    let pages = |pragma: &str| -> i64 {
        observer.query_row(&format!("PRAGMA {pragma}"), [], |row| row.get(0)).unwrap()
    };
    // Pages without rows are used again, but stay in the file.
    let used = || (pages("page_count") - pages("freelist_count")) * pages("page_size");
    let [empty, _, pruned, _, again] = sizes(&fixture, count, used);
    assert!(pruned <= empty * 2 && again <= empty * 2, "the pages of all rows are free");
}

fn on_postgres(count: usize) {
    let server = Server::shared();
    let url = server.new_schema();
    let schema = url.rsplit_once("schema=").unwrap().1.to_owned();
    let store = PostgresStore::open(&url, PostgresOptions::default()).unwrap();
    let fixture = Fixture::on(&store);
    let administrator = Administrator::new(&server.url);
    let tables = ["schedule", "run", "ledger"].map(|table| format!("{schema}.{table}"));
    let sum = |function: &str| -> i64 {
        let size = |table| administrator.number(&format!("SELECT {function}('{table}')"));
        tables.iter().map(size).sum()
    };
    let size = || {
        administrator.execute(&format!("VACUUM {}", tables.join(", ")));
        eprintln!("indexes: {}", sum("pg_indexes_size"));
        sum("pg_table_size")
    };
    // The server uses the pages of deleted rows again, some of its indexes only after a later
    // vacuum. So the sizes are shown and not judged.
    sizes(&fixture, count, size);
}

#[test]
fn nothing_is_left_of_one_offs_on_sqlite() {
    on_sqlite(2_000);
}

#[test]
fn nothing_is_left_of_one_offs_on_postgres() {
    on_postgres(2_000);
}

#[test]
#[ignore = "measures; decides nothing"]
fn probe_sqlite() {
    on_sqlite(1_000_000);
}

#[test]
#[ignore = "measures; decides nothing"]
fn probe_postgres() {
    on_postgres(1_000_000);
}
