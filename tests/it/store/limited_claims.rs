//! Claims under limits: what they cost with a long queue, and that they wait for each other.
//!
//! Counted are rows and index entries that PostgreSQL reads, and steps of SQLite's virtual machine.

use super::fixture::{Fixture, PROJECT, at, new_run, new_worker, text};
use super::rows_read::Administrator;
use super::server::Server;
use polos::model::{ClaimRules, DeclaredLimit, LimitSpec, NewRun, WorkerEntry, WorkerId, WorkflowEntry};
use polos::store::{Answer, Command, PostgresOptions, PostgresStore, SqliteStore, Store, Suspects};
use std::collections::BTreeMap;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

/// Queued runs under the limit.
const COUNTS: [i64; 2] = [1_000, 10_000];

/// Full limits, each of a workflow with the same name.
const LIMITS: [&str; 2] = ["all", "keys"];

/// A worker with one workflow for each limit, and `free` without one.
fn worker() -> WorkerEntry {
    let spec = |name| match name {
        "all" => LimitSpec { max: Some(1), ..LimitSpec::default() },
        _ => LimitSpec { max: Some(5), per_key: Some(1), ..LimitSpec::default() },
    };
    let names = LIMITS.into_iter().chain(["free"]);
    WorkerEntry {
        workflows: names.map(|id| WorkflowEntry { id: text(id), schedulable: true }).collect(),
        limits: LIMITS.map(|name| DeclaredLimit { name: text(name), spec: spec(name) }).to_vec(),
        rules: LIMITS
            .map(|name| (text(name), ClaimRules { limit: Some(text(name)), ..ClaimRules::default() }))
            .into_iter()
            .collect(),
        ..new_worker("wkr_1")
    }
}

/// Statements that queue runs, all with one key; the first of each limit is running.
fn rows(is_sqlite: bool, count: i64) -> String {
    let (column, value) = if is_sqlite { (", is_slot", ", 0") } else { ("", "") };
    let queue = |name| {
        format!(
            "INSERT INTO run (id, state, token, attempt, available_at, created_at, origin, project, workflow, key,
                 timezone, worker, limit_name{column})
             WITH RECURSIVE g (n) AS (SELECT CAST(1 AS bigint) UNION ALL SELECT n + 1 FROM g WHERE n < {count})
             SELECT 'run_{name}_' || n, CASE n WHEN 1 THEN 'running' ELSE 'queued' END, 1, 1, n, n, 'invoke',
                 '{PROJECT}', '{name}', 'k', 'UTC', CASE n WHEN 1 THEN 'wkr_1' END, '{name}'{value} FROM g;"
        )
    };
    LIMITS.map(queue).concat()
}

fn claim(fixture: &Fixture<'_>, workflows: &[&str]) -> usize {
    let command = Command::ClaimRuns {
        project: text(PROJECT),
        worker: fixture.worker.clone(),
        workflows: workflows.iter().map(|id| text(id)).collect(),
        limit: 50,
        until: at(60),
        suspects: Suspects::Never,
        codes: None,
    };
    match fixture.ok(at(60), command) {
        Answer::Claimed(runs) => runs.len(),
        other => panic!("{other:?}"),
    }
}

/// Work on a project with full limits.
type Work = (&'static str, fn(&Fixture<'_>));

const WORKS: [Work; 4] = [
    ("a claim of other runs beside a full limit", |fixture| {
        fixture
            .create(at(50), NewRun { workflow: text("free"), available_at: at(50), ..new_run("run_free") });
        assert_eq!(claim(fixture, &["all", "free"]), 1);
    }),
    ("a claim beside a full key", |fixture| assert_eq!(claim(fixture, &["keys"]), 0)),
    ("a claim of a key behind a full one", |fixture| {
        let new = NewRun { workflow: text("keys"), key: text("z"), available_at: at(50), ..new_run("run_z") };
        fixture.create(at(50), new);
        assert_eq!(claim(fixture, &["keys"]), 1);
    }),
    ("the next work", |fixture| {
        let workflows = [text("all"), text("keys")];
        assert_eq!(fixture.store.next_work(PROJECT, &workflows, at(0)).unwrap().run, None);
    }),
];

/// Costs of each work, by the number of queued runs.
type Costs = BTreeMap<(usize, i64), i64>;

fn check(costs: &Costs) {
    let mut dear = Vec::new();
    for (number, (what, _)) in WORKS.iter().enumerate() {
        let [few, many] = COUNTS.map(|count| costs[&(number, count)]);
        eprintln!("{what:<48} {few:>8} {many:>8}");
        if many > few + few / 2 + 60 {
            dear.push(format!("{what}: {few}, {many}"));
        }
    }
    assert_eq!(dear, Vec::<String>::new(), "with {COUNTS:?} queued runs");
}

#[test]
fn a_claim_costs_the_same_on_sqlite_however_many_runs_a_full_limit_holds_back() {
    let folder = tempfile::tempdir().unwrap();
    let mut costs = Costs::new();
    for count in COUNTS {
        let path = folder.path().join(format!("{count}.db"));
        let store = SqliteStore::open(&path, super::quick()).unwrap();
        let fixture = Fixture::on(&store);
        fixture.ok(at(0), Command::RegisterWorker(Box::new(worker())));
        rusqlite::Connection::open(&path).unwrap().execute_batch(&rows(true, count)).unwrap();
        for (number, (_, act)) in WORKS.iter().enumerate() {
            let before = SqliteStore::steps_taken();
            act(&fixture);
            costs.insert((number, count), (SqliteStore::steps_taken() - before) as i64);
        }
    }
    check(&costs);
}

#[test]
fn a_claim_costs_the_same_on_postgres_however_many_runs_a_full_limit_holds_back() {
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
        let store = open(&filler);
        Fixture::on(&store).ok(at(0), Command::RegisterWorker(Box::new(worker())));
        drop(store);
        administrator.execute(&format!("ALTER TABLE {schema}.run SET (autovacuum_enabled = false)"));
        administrator.execute(&format!("SET search_path = {schema}; {} ANALYZE run", rows(false, count)));
        let mut before = administrator.read_by(&filler, &schema);
        for (number, (_, act)) in WORKS.iter().enumerate() {
            let name = format!("{schema}_{number}");
            let store = open(&name);
            act(&Fixture { store: &store as &dyn Store, worker: WorkerId::from("wkr_1") });
            drop(store);
            let after = administrator.read_by(&name, &schema);
            costs.insert((number, count), after - before);
            before = after;
        }
    }
    check(&costs);
}

#[test]
fn claims_under_one_limit_wait_for_each_other() {
    let server = Server::shared();
    let url = server.new_schema();
    let schema = url.rsplit_once("schema=").unwrap().1.to_owned();
    let store =
        PostgresStore::open(&format!("{url}&application_name={schema}"), PostgresOptions::default()).unwrap();
    let fixture = Fixture::on(&store);
    fixture.ok(at(0), Command::RegisterWorker(Box::new(worker())));
    for id in ["run_1", "run_2"] {
        fixture.create(at(1), NewRun { workflow: text("all"), available_at: at(1), ..new_run(id) });
    }
    // Another worker has counted, and has not committed its claim yet.
    let administrator = Administrator::new(&server.url);
    administrator.execute("BEGIN");
    administrator.execute(&format!(
        "SELECT name FROM {schema}.run_limit WHERE name = 'all' FOR UPDATE; \
         UPDATE {schema}.run SET state = 'running', worker = 'wkr_2' WHERE id = 'run_1'"
    ));
    let observer = Administrator::new(&server.url);
    let waits = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = '{schema}' AND wait_event_type = 'Lock'"
    );
    let claimed = std::thread::scope(|scope| {
        let (sender, answer) = channel();
        let fixture = &fixture;
        scope.spawn(move || _ = sender.send(claim(fixture, &["all"])));
        loop {
            match answer.recv_timeout(Duration::from_millis(1)) {
                Ok(claimed) => {
                    administrator.execute("ROLLBACK");
                    panic!("it did not wait, and claimed {claimed}");
                }
                Err(RecvTimeoutError::Timeout) if observer.number(&waits) == 0 => {}
                Err(RecvTimeoutError::Timeout) => break,
                Err(RecvTimeoutError::Disconnected) => panic!("the claim failed"),
            }
        }
        administrator.execute("COMMIT");
        answer.recv().unwrap()
    });
    assert_eq!(claimed, 0, "the limit is full");
}
