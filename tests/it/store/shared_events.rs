//! An event for a workflow and key is accepted by one of their runs, also when two transactions
//! send it at the same time.

use super::fixture::{Fixture, PROJECT, at, new_run, text};
use super::rows_read::Administrator;
use super::server::Server;
use polos::model::{NewEvent, NewRun, RunId};
use polos::store::{Answer, Command, PostgresOptions, PostgresStore};
use std::sync::mpsc::channel;
use std::time::Duration;

fn send(run: &RunId) -> Command {
    Command::SendEvent(Box::new(NewEvent {
        project: text(PROJECT),
        run: run.clone(),
        name: text("a"),
        payload: text("1"),
        idempotency_key: Some(text("evt_1")),
        sent_to: Some((text("w"), text("k"))),
    }))
}

#[test]
fn two_senders_of_one_event_wait_for_each_other() {
    let server = Server::shared();
    let url = server.new_schema();
    let schema = url.rsplit_once("schema=").unwrap().1.to_owned();
    // One group of commands at a time: two stores are two processes.
    let stores = [(); 2].map(|()| {
        let url = format!("{url}&application_name={schema}");
        PostgresStore::open(&url, PostgresOptions::default()).unwrap()
    });
    let fixture = Fixture::on(&stores[0]);
    let runs = ["run_1", "run_2"].map(|id| fixture.create(at(0), NewRun { key: text("k"), ..new_run(id) }));
    let administrator = Administrator::new(&server.url);
    administrator.execute("BEGIN");
    administrator.execute(&format!("SELECT id FROM {schema}.run WHERE id = 'run_1' FOR UPDATE"));
    let observer = Administrator::new(&server.url);
    let waits = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = '{schema}' AND wait_event_type = 'Lock'"
    );
    let answers = std::thread::scope(|scope| {
        let (sender, answers) = channel();
        let begin = |number: usize| {
            let (sender, command) = (sender.clone(), send(&runs[number]));
            let fixture = Fixture::on(&stores[number]);
            scope.spawn(move || _ = sender.send((number, fixture.ok(at(1), command))));
        };
        for number in 0..2 {
            // The first waits for the row of its run, the second for the first.
            begin(number);
            while observer.number(&waits) != number as i64 + 1 {
                if let Ok(early) = answers.recv_timeout(Duration::from_millis(1)) {
                    administrator.execute("ROLLBACK");
                    panic!("it did not wait: {early:?}");
                }
            }
        }
        administrator.execute("ROLLBACK");
        let mut found = [answers.recv().unwrap(), answers.recv().unwrap()];
        found.sort_by_key(|(number, _)| *number);
        found.map(|(_, answer)| answer)
    });
    let accepted = Answer::Accepted { is_accepted: true, woken: false };
    assert_eq!(answers, [accepted, Answer::AcceptedBy(runs[0].clone())]);
}
