//! A worker on a file starts at once what another process adds.

use super::workers::{ignored, nothing, setup};
use polos::engine::{Dispatcher, Notice, Stop};
use polos::model::ClaimedRun;
use polos::service::{Database, Worker};
use serde_json::json;
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::time::Duration;

struct Starts(mpsc::Sender<String>);

impl Dispatcher for Starts {
    fn start(&self, runs: Vec<ClaimedRun>, _: Option<Duration>) {
        for claimed in runs {
            let _ = self.0.send(claimed.run.id.to_string());
        }
    }
    fn stop(&self, _: Vec<Stop>) {}
    fn fire_timers(&self, _: Vec<u64>) {}
    fn emit(&self, _: Notice) {}
}

pub fn open(path: &Path) -> Arc<Database> {
    let options = json!({"project": "default", "path": path});
    Arc::new(Database::open(serde_json::from_value(options).unwrap()).unwrap())
}

#[test]
fn a_run_that_another_process_adds_is_started_without_polling() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("polos.db");
    let (database, client) = (open(&path), open(&path));
    let mut config = setup(&nothing());
    // So long that it cannot be what finds the run.
    config["poll_interval"] = json!(3_600_000_000_u64);
    let (sender, starts) = mpsc::channel();
    let config = serde_json::from_value(config).unwrap();
    let worker = Worker::start(Arc::clone(&database), config, Starts(sender), ignored()).unwrap();
    // The client knows the workflow itself: the worker may not have registered yet.
    for _ in 0..3 {
        let request = json!({"invoke": {"workflow": "wf", "is_local": true}});
        let answer = client.service.call(serde_json::from_value(request).unwrap(), None).unwrap().unwrap();
        let started = starts.recv_timeout(Duration::from_secs(30)).unwrap();
        assert!(answer.contains(&started), "{started} is not in {answer}");
    }
    drop(worker);
    assert!(database.close_within(Duration::from_secs(30)));
}

/// A limit that another process raises lets runs start, without polling.
fn check_raised_limit((database, client): (Arc<Database>, Arc<Database>)) {
    let mut config = setup(&nothing());
    // So long that it cannot be what notices the change.
    config["poll_interval"] = json!(3_600_000_000_u64);
    config["workflows"]["limited"] = config["workflows"]["wf"].clone();
    config["workflows"]["limited"]["limit"] = json!("openai");
    config["limits"] = json!({"openai": {"max": 0}});
    let (sender, starts) = mpsc::channel();
    let config = serde_json::from_value(config).unwrap();
    let worker = Worker::start(Arc::clone(&database), config, Starts(sender), ignored()).unwrap();
    let ask = |request: serde_json::Value| {
        client.service.call(serde_json::from_value(request).unwrap(), None).unwrap().unwrap()
    };
    let started = || starts.recv_timeout(Duration::from_secs(30)).unwrap();
    let invoke = |workflow: &str| ask(json!({"invoke": {"workflow": workflow, "is_local": true}}));
    // Once it starts a run, the worker has declared the limit.
    assert!(invoke("wf").contains(&started()));
    for max in 1..=3 {
        let answer = invoke("limited");
        assert!(starts.try_recv().is_err(), "the limit has no room");
        ask(json!({"set_limit": {"name": "openai", "changes": {"max": max}}}));
        assert!(answer.contains(&started()));
    }
    drop(worker);
    assert!(database.close_within(Duration::from_secs(30)));
}

#[test]
fn a_limit_that_another_process_raises_lets_runs_start_without_polling() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("polos.db");
    check_raised_limit((open(&path), open(&path)));
}

#[cfg(feature = "postgres")]
#[test]
fn a_limit_that_another_process_raises_on_a_server_lets_runs_start_without_polling() {
    let url = crate::store::server::Server::shared().new_schema();
    let open = || {
        let options = json!({"project": "default", "url": url});
        Arc::new(Database::open(serde_json::from_value(options).unwrap()).unwrap())
    };
    check_raised_limit((open(), open()));
}
