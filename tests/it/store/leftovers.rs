//! What is removed leaves nothing behind, in tables that no question reads.

use super::fixture::{Fixture, PROJECT, at, done_step, new_worker, succeeded, text};
use super::quick;
use super::server::{Server, administer};
use polos::model::{RunId, WorkerId, WorkflowEntry};
use polos::store::{Command, PostgresOptions, PostgresStore, SqliteStore};

fn workflows(names: &[&str]) -> Vec<WorkflowEntry> {
    names.iter().map(|name| WorkflowEntry { id: text(name), schedulable: true }).collect()
}

/// A run that has recorded steps, and has ended.
fn finished_with_steps(fixture: &Fixture<'_>, id: &str) {
    let run = fixture.running(at(1), id);
    for step in ["one", "two"] {
        let step = done_step(step);
        fixture.ok(at(1), Command::RecordStep { run: run.id.clone(), token: run.token, step });
    }
    fixture.end(at(2), &run.id, succeeded());
}

fn prune(fixture: &Fixture<'_>) {
    fixture.ok(at(100), Command::Prune { project: text(PROJECT), before: at(50), keep: 0, limit: 100 });
    assert_eq!(fixture.find_run(&RunId::from("run_1")), None);
}

#[test]
fn sqlite_keeps_no_steps_of_pruned_runs_and_no_workflows_of_former_workers() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("polos.db");
    let store = SqliteStore::open(path.clone(), quick()).unwrap();
    let fixture = Fixture::on(&store);
    finished_with_steps(&fixture, "run_1");
    let rows = |table: &str| -> i64 {
        let connection = rusqlite::Connection::open(&path).unwrap();
        connection.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap()
    };
    assert_eq!(rows("step"), 2);
    prune(&fixture);
    assert_eq!(rows("step"), 0);

    let enter = |names: &[&str]| {
        let entry = polos::model::WorkerEntry { workflows: workflows(names), ..new_worker("wkr_2") };
        fixture.ok(at(3), Command::RegisterWorker(Box::new(entry)));
    };
    let of_the_first = rows("worker_workflow");
    enter(&["a", "b"]);
    assert_eq!(rows("worker_workflow"), of_the_first + 2);
    enter(&["b"]);
    assert_eq!(rows("worker_workflow"), of_the_first + 1);
    fixture.ok(at(4), Command::DeregisterWorker { worker: WorkerId::from("wkr_2") });
    assert_eq!(rows("worker_workflow"), of_the_first);
    enter(&["a", "b"]);
    let expire =
        Command::ExpireWorker { worker: WorkerId::from("wkr_2"), heartbeat: 1, shares_process: false };
    fixture.ok(at(5), expire);
    assert_eq!(rows("worker_workflow"), of_the_first);
}

#[test]
fn postgres_keeps_no_steps_of_pruned_runs() {
    let url = Server::shared().new_schema();
    let store = PostgresStore::open(&url, PostgresOptions::default()).unwrap();
    let fixture = Fixture::on(&store);
    finished_with_steps(&fixture, "run_1");
    let schema = url.rsplit_once("schema=").unwrap().1;
    let steps = || administer(&Server::shared().url, &format!("SELECT count(*) FROM {schema}.step"));
    assert_eq!(steps(), ["2"]);
    prune(&fixture);
    assert_eq!(steps(), ["0"]);
    finished_with_steps(&fixture, "run_2");
    assert_eq!(fixture.steps(&RunId::from("run_2")), ["one", "two"]);
}
