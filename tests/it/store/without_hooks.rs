//! Outcomes that no hook is told of cost nothing: no statement touches the table of hook calls.

use super::fixture::{Fixture, at, end, failed, missed, new_schedule, succeeded, text};
use super::rows_read::Administrator;
use super::server::Server;
use polos::model::{Admission, Completion, FirePlan, RunId};
use polos::store::{Command, PostgresOptions, PostgresStore, SqliteStore, Store};

/// Every kind of outcome, on tables of which that of hook calls is dropped by `execute`.
fn outcomes_need_no_calls(store: &dyn Store, execute: &dyn Fn(&str)) {
    let fixture = Fixture::on(store);
    let schedule = fixture.put(at(0), new_schedule("a", Some(at(60))));
    execute("DROP TABLE hook_call");
    let alone = fixture.running(at(1), "run_alone");
    fixture.end(at(2), &alone.id, succeeded());
    let alone = fixture.running(at(3), "run_failed");
    fixture.end(at(4), &alone.id, failed());
    let plan =
        FirePlan { ledger: vec![missed(at(60))], ..fixture.plan(&schedule, &[(at(120), Admission::Claim)]) };
    fixture.commit_plan(at(120), plan);
    fixture.end(at(121), &RunId::of_slot(&schedule.id, at(120)), failed());
    let run = fixture.fire(at(180), &schedule, at(180), Admission::Claim);
    fixture.end(at(181), &run, Completion::Skipped { reason: text("not today") });
    // Otherwise this would prove nothing.
    let run = fixture.running(at(200), "run_told");
    let mut told = end(&run.id, run.token, succeeded());
    if let Command::CompleteRun { tells, .. } = &mut told {
        *tells = true;
    }
    assert!(store.commit(&[told], at(201)).is_err(), "a hook is told by that table");
}

#[test]
fn outcomes_without_hooks_touch_no_calls_in_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("polos.db");
    let store = SqliteStore::open(&path, super::quick()).unwrap();
    outcomes_need_no_calls(&store, &|sql| {
        rusqlite::Connection::open(&path).unwrap().execute_batch(sql).unwrap();
    });
}

#[test]
fn outcomes_without_hooks_touch_no_calls_on_a_server() {
    let url = Server::shared().new_schema();
    let (_, schema) = url.split_once("schema=").unwrap();
    let administrator = Administrator::new(&Server::shared().url);
    let store = PostgresStore::open(&url, PostgresOptions::default()).unwrap();
    outcomes_need_no_calls(&store, &|sql| {
        administrator.execute(&format!("SET search_path = {schema}; {sql}"));
    });
}
