//! Each filter of runs and schedules, and each combination of filters of runs, costs a bounded
//! number of rows.
//!
//! Counted are rows and index entries that PostgreSQL reads, and steps of SQLite's virtual machine.

use super::fixture::{PROJECT, at, tags, text};
use super::rows_read::Administrator;
use super::server::Server;
use polos::calendar::Timestamp;
use polos::model::{RunState, ScheduleId, ScheduleStatus};
use polos::store::{Page, PostgresOptions, PostgresStore, RunFilter, ScheduleFilter, SqliteStore, Store};

/// Runs, and schedules.
const MANY: i64 = 20_000;

/// Most rows and index entries for a page of ten on PostgreSQL, catalogs left out.
const ROWS_MAX: i64 = 1_200;

/// Most steps for a page of ten on SQLite: a few for each row.
const STEPS_MAX: i64 = 25_000;

/// Statements that fill a database, for both of them. The older half of the runs has the key
/// `global` and belongs to many schedules; the newer half has the key `heavy` and belongs to one. A
/// few are of another workflow, of another key, or have failed.
fn rows(is_sqlite: bool) -> String {
    let (column, value) = if is_sqlite { (", is_slot", ", 1") } else { ("", "") };
    let zero = at(0).as_micros();
    let runs = format!(
        "INSERT INTO run (id, state, token, attempt, available_at, created_at, finished_at, slot, origin, project,
             workflow, key, timezone, worker, schedule_id{column})
         WITH RECURSIVE g (n) AS (SELECT CAST(1 AS bigint) UNION ALL SELECT n + 1 FROM g WHERE n < {MANY})
         SELECT CASE WHEN n > {MANY} / 2 THEN 'run_heavy_' ELSE 'run_' || (n / 2) || '_' END || ({zero} + n * 1000000),
             CASE WHEN n % 5000 = 1 THEN 'failed' WHEN n % 5000 = 2 THEN 'running' WHEN n % 5000 = 3 THEN 'queued'
             ELSE 'succeeded' END, 1, 1, 0, {zero} + n * 1000000,
             CASE WHEN n % 5000 IN (2, 3) THEN NULL ELSE {zero} + n * 1000000 END, {zero} + n * 1000000, 'schedule',
             '{PROJECT}', CASE WHEN n % 5000 = 6 AND n < {MANY} / 2 THEN 'v' ELSE 'w' END,
             CASE WHEN n > {MANY} / 2 THEN 'heavy' WHEN n % 5000 = 7 THEN 'rare' ELSE 'global' END, 'UTC', 'wkr_1',
             CASE WHEN n > {MANY} / 2 THEN 'sch_heavy' ELSE 'sch_' || (n / 2) END{value} FROM g;"
    );
    let schedules = format!(
        "INSERT INTO schedule (id, revision, status, next_slot, attended_from, created_at, updated_at, project,
             workflow, key, owner, cadence, spec, tags)
         WITH RECURSIVE g (n) AS (SELECT CAST(1 AS bigint) UNION ALL SELECT n + 1 FROM g WHERE n < {MANY})
         SELECT 'sch_' || n, 1, CASE WHEN n % 5000 = 1 THEN 'paused' ELSE 'active' END, {zero} + n, 0, 0, 0,
             '{PROJECT}', CASE WHEN n % 5000 = 3 THEN 'v' ELSE 'w' END, 'user-' || n,
             CASE WHEN n % 5000 IN (3, 4) THEN 'a.py' END, '', '{{}}',
             CASE WHEN n % 5000 = 3 THEN '{{\"env\":\"test\",\"team\":\"rare\"}}'
             ELSE '{{\"env\":\"test\",\"team\":\"common\"}}' END FROM g;"
    );
    // On PostgreSQL, a trigger does this.
    let tags = "INSERT INTO schedule_tag (project, name, value, schedule_id)
        SELECT s.project, j.key, j.value, s.id FROM schedule s, json_each(s.tags) j;";
    format!("{runs} {schedules} {}", if is_sqlite { tags } else { "" })
}

/// Every combination of filters of runs, with what is rare and what is common of each.
fn run_filters() -> Vec<RunFilter> {
    let workflows = [None, Some("w"), Some("v")];
    let keys = [None, Some("global"), Some("heavy"), Some("rare"), Some("nobody")];
    let schedules = [None, Some("sch_heavy"), Some("sch_3")];
    let states: [&[RunState]; 4] =
        [&[], &[RunState::Failed], &[RunState::Queued, RunState::Running], &[RunState::Succeeded]];
    let since: [Option<Timestamp>; 2] = [None, Some(at(MANY / 2))];
    let mut filters = Vec::new();
    for workflow in workflows {
        for key in keys {
            for schedule in schedules {
                for states in states {
                    for since in since {
                        filters.push(RunFilter {
                            workflow: workflow.map(text),
                            key: key.map(text),
                            schedule: schedule.map(ScheduleId::from),
                            states: states.to_vec(),
                            since,
                            error: None,
                        });
                    }
                }
            }
        }
    }
    filters
}

/// Statements that fill a database with runs that have all failed: most with two common errors, a
/// few with a rare one, and a few of another workflow or with another key.
fn failed_rows(is_sqlite: bool) -> String {
    let (column, value) = if is_sqlite { (", is_slot", ", 0") } else { ("", "") };
    let zero = at(0).as_micros();
    format!(
        "INSERT INTO run (id, state, token, attempt, available_at, created_at, finished_at, origin, project,
             workflow, key, timezone, error{column})
         WITH RECURSIVE g (n) AS (SELECT CAST(1 AS bigint) UNION ALL SELECT n + 1 FROM g WHERE n < {MANY})
         SELECT 'run_' || n, 'failed', 1, 1, 0, {zero} + n * 1000000, {zero} + n * 1000000, 'invoke', '{PROJECT}',
             CASE WHEN n % 5000 = 6 THEN 'v' ELSE 'w' END,
             CASE WHEN n % 5000 = 7 THEN 'rare' ELSE 'global' END, 'UTC', '{{\"type\": \"' ||
             CASE WHEN n % 5000 < 9 THEN 'shop:Rare' WHEN n < {MANY} / 2 THEN 'shop:Old' ELSE 'shop:New' END
             || '\", \"message\": \"' || n || '\"}}'{value} FROM g;"
    )
}

/// Combinations with an error of failed runs. A key that many runs have is left out, as with other
/// rare states.
fn error_filters() -> Vec<RunFilter> {
    let mut filters = Vec::new();
    for error in ["Rare", "Old", "shop.New", "Nothing"] {
        for workflow in [None, Some("w"), Some("v")] {
            for key in [None, Some("rare"), Some("nobody")] {
                for since in [None, Some(at(MANY / 2)), Some(at(MANY - 50))] {
                    filters.push(RunFilter {
                        error: Some(text(error)),
                        workflow: workflow.map(text),
                        key: key.map(text),
                        since,
                        ..RunFilter::default()
                    });
                }
            }
        }
    }
    filters
}

fn schedule_filters() -> Vec<ScheduleFilter> {
    let all = ScheduleFilter::default;
    let of = |workflow: &str| Some(text(workflow));
    vec![
        all(),
        ScheduleFilter { workflow: of("v"), ..all() },
        ScheduleFilter { workflow: of("w"), ..all() },
        ScheduleFilter { key: of("user-777"), ..all() },
        ScheduleFilter { key: of("user-777"), workflow: of("w"), ..all() },
        ScheduleFilter { status: Some(ScheduleStatus::Paused), ..all() },
        ScheduleFilter { status: Some(ScheduleStatus::Paused), workflow: of("v"), ..all() },
        ScheduleFilter { status: Some(ScheduleStatus::Active), ..all() },
        ScheduleFilter { status: Some(ScheduleStatus::Active), workflow: of("v"), ..all() },
        ScheduleFilter { owner: of("a.py"), ..all() },
        ScheduleFilter { owner: of("a.py"), workflow: of("w"), ..all() },
        ScheduleFilter { owner: of("a.py"), status: Some(ScheduleStatus::Active), ..all() },
        ScheduleFilter { owner: of("nobody.py"), ..all() },
        ScheduleFilter { key_prefix: of("user-1"), ..all() },
        ScheduleFilter { key_prefix: of("nobody"), ..all() },
        ScheduleFilter { tags: tags(&[("team", "common")]), ..all() },
        ScheduleFilter { tags: tags(&[("team", "rare")]), ..all() },
        ScheduleFilter { tags: tags(&[("team", "nobody")]), ..all() },
        ScheduleFilter { tags: tags(&[("env", "test"), ("team", "common")]), ..all() },
        ScheduleFilter { tags: tags(&[("team", "common")]), workflow: of("w"), ..all() },
        ScheduleFilter { tags: tags(&[("team", "common")]), key: of("user-777"), ..all() },
        ScheduleFilter { tags: tags(&[("team", "common")]), status: Some(ScheduleStatus::Paused), ..all() },
        ScheduleFilter { tags: tags(&[("team", "common")]), key_prefix: of("user-1"), ..all() },
    ]
}

/// Asks all questions, each measured by itself, and names those that cost too much.
fn check(
    store: &dyn Store,
    most: i64,
    run_filters: &[RunFilter],
    mut cost: impl FnMut(&mut dyn FnMut()) -> i64,
) {
    let mut dear = Vec::new();
    for filter in run_filters {
        let page = Page { limit: 10, after: None };
        let cost = cost(&mut || _ = store.runs(PROJECT, filter, &page).unwrap());
        if cost > most {
            dear.push(format!("{cost}: {filter:?}"));
        }
    }
    for filter in schedule_filters() {
        let page = Page { limit: 10, after: None };
        let cost = cost(&mut || _ = store.schedules(PROJECT, &filter, &page).unwrap());
        if cost > most {
            dear.push(format!("{cost}: {filter:?}"));
        }
    }
    assert!(dear.is_empty(), "{} cost more than {most}:\n{}", dear.len(), dear.join("\n"));
}

#[test]
fn every_filter_is_bounded_on_sqlite() {
    check_sqlite(&rows(true), &run_filters());
}

#[test]
fn a_filter_by_error_is_bounded_on_sqlite() {
    check_sqlite(&failed_rows(true), &error_filters());
}

fn check_sqlite(rows: &str, filters: &[RunFilter]) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("polos.db");
    let store = SqliteStore::open(&path, super::quick()).unwrap();
    let filler = rusqlite::Connection::open(&path).unwrap();
    filler.execute_batch(rows).unwrap();
    filler
        .execute_batch(&format!(
            "INSERT INTO worker (id, project, app, host, pid, process_mark, about, beat, entered_at, beat_at)
             VALUES ('wkr_1', '{PROJECT}', 'a', 'h', 1, 'm', '{{}}', 1, 0, 0)"
        ))
        .unwrap();
    check(&store, STEPS_MAX, filters, |ask| {
        let before = SqliteStore::steps_taken();
        ask();
        (SqliteStore::steps_taken() - before) as i64
    });
}

#[test]
fn every_filter_is_bounded_on_postgres() {
    check_postgres(&rows(false), &run_filters());
}

#[test]
fn a_filter_by_error_is_bounded_on_postgres() {
    check_postgres(&failed_rows(false), &error_filters());
}

fn check_postgres(rows: &str, filters: &[RunFilter]) {
    let server = Server::shared();
    let administrator = Administrator::new(&server.url);
    let url = server.new_schema();
    let schema = url.rsplit_once("schema=").unwrap().1.to_owned();
    let store =
        PostgresStore::open(&format!("{url}&application_name={schema}"), PostgresOptions::default()).unwrap();
    for table in ["run", "schedule", "worker"] {
        administrator.execute(&format!("ALTER TABLE {schema}.{table} SET (autovacuum_enabled = false)"));
    }
    administrator.execute(&format!(
        "SET search_path = {schema}; {rows} ANALYZE schedule; ANALYZE run;
         INSERT INTO worker VALUES ('wkr_1', '{PROJECT}', 'a', 'h', 1, 'm', '{{}}', 1, 0, 0, '{{w}}');",
    ));
    // A plan of the server says what it has read: the statistics of a connection come late.
    let read = || {
        administrator.number(&format!(
            "SELECT ((SELECT sum(seq_tup_read) FROM pg_stat_user_tables WHERE schemaname = '{schema}') \
             + (SELECT sum(idx_tup_read) FROM pg_stat_user_indexes WHERE schemaname = '{schema}'))::bigint"
        ))
    };
    check(&store, ROWS_MAX, filters, |ask| {
        store.settle_statistics().unwrap();
        let before = read();
        ask();
        store.settle_statistics().unwrap();
        read() - before
    });
}
