//! Migrations of a PostgreSQL database that has rows, beside processes that write.

use super::fixture::{PROJECT, everything};
use super::rows_read::Administrator;
use super::server::Server;
use polos::model::RunState;
use polos::store::{PostgresOptions, PostgresStore, RunFilter, StoreReads};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc;

/// A database as the release before left it, with one run.
fn older_database() -> (String, String) {
    let url = Server::shared().new_schema();
    drop(PostgresStore::open(&url, PostgresOptions::default()).unwrap());
    let schema = url.rsplit_once("schema=").unwrap().1.to_owned();
    let administrator = Administrator::new(&Server::shared().url);
    administrator.execute(&format!(
        "SET search_path = {schema}; UPDATE version SET version = 21;
         DROP INDEX run_newest, run_newest_by_workflow, run_newest_by_key, run_newest_by_state;
         CREATE INDEX run_by_creation ON run (project, created_at, id);
         CREATE INDEX run_by_workflow ON run (project, workflow, created_at, id);
         CREATE INDEX run_by_key ON run (project, key, workflow, created_at, id);
         CREATE INDEX run_by_state ON run (project, state, workflow, created_at, id)
             WHERE state <> 'succeeded' AND state <> 'running';
         {}",
        insertion("run_before")
    ));
    (url, schema)
}

fn insertion(run: &str) -> String {
    format!(
        "INSERT INTO run (id, state, token, attempt, available_at, created_at, origin, project, workflow, key,
         timezone) VALUES ('{run}', 'queued', 0, 1, 0, 0, 'invoke', '{PROJECT}', 'w', 'global', 'UTC')"
    )
}

/// The ids of all runs, as a list has them; each index of lists has to be complete.
fn listed(url: &str, schema: &str) -> Vec<String> {
    let store = PostgresStore::open(url, PostgresOptions::default()).unwrap();
    let administrator = Administrator::new(&Server::shared().url);
    let count = |what: &str| {
        administrator.number(&format!(
            "SELECT count(*) FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid \
             WHERE c.relnamespace = '{schema}'::regnamespace AND {what}"
        ))
    };
    assert_eq!(count("NOT i.indisvalid"), 0);
    assert_eq!(count("c.relname LIKE 'run_newest%'"), 6);
    assert_eq!(count("c.relname IN ('run_by_creation', 'run_by_workflow', 'run_by_key', 'run_by_state')"), 0);
    let mut ids: Vec<_> = Vec::new();
    for filter in [
        RunFilter::default(),
        RunFilter { workflow: Some("w".into()), ..RunFilter::default() },
        RunFilter { key: Some("global".into()), ..RunFilter::default() },
        RunFilter { states: vec![RunState::Queued], ..RunFilter::default() },
    ] {
        let runs = store.runs(PROJECT, &filter, &everything()).unwrap();
        ids.push(runs.iter().map(|run| run.id.to_string()).collect::<Vec<_>>());
    }
    assert!(ids.iter().all(|found| *found == ids[0]), "{ids:?}");
    ids.swap_remove(0)
}

#[test]
fn an_index_whose_creation_was_interrupted_is_created_again() {
    let (url, schema) = older_database();
    // What a process leaves that is killed while it builds the index: without the row, and not
    // valid.
    let administrator = Administrator::new(&Server::shared().url);
    administrator.execute(&format!(
        "SET search_path = {schema};
         CREATE INDEX run_newest_by_key ON run (project, key, workflow, created_at, no)
             WHERE state <> 'running' AND id <> 'run_before';
         UPDATE pg_index SET indisvalid = false WHERE indexrelid = '{schema}.run_newest_by_key'::regclass"
    ));
    assert_eq!(listed(&url, &schema), ["run_before"]);
}

#[test]
fn a_migration_builds_indexes_while_others_write() {
    let (url, schema) = older_database();
    let (busy, other) =
        (Administrator::new(&Server::shared().url), Administrator::new(&Server::shared().url));
    // The build waits for this transaction, and nobody waits for the build.
    busy.execute(&format!("SET search_path = {schema}; BEGIN; {}", insertion("run_during")));
    let (done, is_done) = mpsc::channel();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            drop(PostgresStore::open(&url, PostgresOptions::default()).unwrap());
            done.send(()).unwrap();
        });
        let begun = format!(
            "SELECT count(*) FROM pg_locks WHERE relation = '{schema}.run'::regclass \
             AND mode IN ('ShareUpdateExclusiveLock', 'ShareLock')"
        );
        while other.number(&begun) == 0 {
            std::thread::yield_now();
        }
        let insertion = insertion("run_beside");
        let insert =
            || other.execute(&format!("SET search_path = {schema}; SET lock_timeout = 2000; {insertion}"));
        let inserted = catch_unwind(AssertUnwindSafe(insert));
        let is_waiting = is_done.try_recv().is_err();
        busy.execute("COMMIT");
        assert!(inserted.is_ok() && is_waiting);
    });
    is_done.recv().unwrap();
    let mut found = listed(&url, &schema);
    found.sort();
    assert_eq!(found, ["run_before", "run_beside", "run_during"]);
}
