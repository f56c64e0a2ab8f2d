//! A limit is deleted while a worker declares it, in two transactions at once.

use super::calendars::Race;
use super::conformance::limits::{limit, worker};
use super::fixture::{Fixture, PROJECT, at, text};
use polos::model::{WorkerEntry, WorkerId};
use polos::store::{Answer, Command, Rejection, StoreReads};

fn entry(id: &str) -> Box<WorkerEntry> {
    Box::new(worker(id, &[limit("openai", 1)], &[("w", Some("openai"))]))
}

/// A limit that a worker has declared.
fn declared() -> Race {
    let race = Race::new();
    Fixture::on(&race.store).ok(at(0), Command::RegisterWorker(entry("wkr_1")));
    race
}

#[test]
fn a_worker_declares_a_limit_again_that_is_deleted_meanwhile() {
    let race = declared();
    let worker = WorkerId::from("wkr_1");
    Fixture::on(&race.store).ok(at(0), Command::DeregisterWorker { worker });
    let deleted = "DELETE FROM @run_limit; UPDATE @workflow SET limit_name = NULL, declaration = NULL";
    let outcome = race.commit_beside(deleted, Command::RegisterWorker(entry("wkr_2")), "COMMIT");
    assert!(matches!(outcome, Ok(Answer::Reconciled(_))), "{outcome:?}");
    let stored = race.store.limits(PROJECT, 10, at(2)).unwrap().remove(0);
    assert_eq!((&*stored.name, stored.workflows), ("openai", vec![text("w")]));
}

#[test]
fn a_limit_is_not_deleted_that_a_worker_declares_meanwhile() {
    let race = declared();
    let nothing = format!("UPDATE {}.worker SET declares = '[]'", race.schema);
    race.administrator.execute(&nothing);
    let declares = "SELECT FROM @run_limit FOR UPDATE; \
                    UPDATE @worker SET declares = '[[\"\",\"limit openai\",\"\"]]'";
    let delete = Command::DeleteLimit { project: text(PROJECT), name: text("openai") };
    let outcome = race.commit_beside(declares, delete, "COMMIT");
    assert_eq!(outcome, Err(Rejection::LimitDeclared(text("openai"), text("app.py"))));
}
