//! A store on a file tells when other processes commit. Another store on the same file is as good
//! as another process: SQLite tells connections apart, not processes.

use super::fixture::{Fixture, at, new_run};
use super::quick;
use polos::store::{Command, SqliteStore};
use std::sync::mpsc;
use std::time::Duration;

/// How long it may take on a machine that is busy with other things.
const TIMEOUT: Duration = Duration::from_secs(30);

#[test]
fn commits_of_others_are_told_and_own_ones_are_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("polos.db");
    let (ours, theirs) =
        (SqliteStore::open(&path, quick()).unwrap(), SqliteStore::open(&path, quick()).unwrap());
    let (ours_does, theirs_does) = (Fixture::on(&ours), Fixture::on(&theirs));
    let (sender, changes) = mpsc::channel();
    ours.listen(Box::new(move || sender.send(()).unwrap_or(()))).unwrap();
    let create = |id: &str| Command::CreateRun(Box::new(new_run(id)));
    for round in 0..3 {
        // For longer than the pause after which a second message would come.
        for number in 0..300 {
            ours_does.ok(at(1), create(&format!("run_own_{round}_{number}")));
        }
        theirs_does.ok(at(1), create(&format!("run_their_{round}")));
        changes.recv_timeout(TIMEOUT).unwrap();
    }
    ours_does.ok(at(1), create("run_last"));
    ours.stop_listening();
    assert_eq!(changes.iter().count(), 0, "each commit of the others is told once");
    theirs_does.ok(at(1), create("run_after"));
}

#[test]
fn a_second_listener_does_not_replace_the_first() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("polos.db");
    let (ours, theirs) =
        (SqliteStore::open(&path, quick()).unwrap(), SqliteStore::open(&path, quick()).unwrap());
    let (sender, changes) = mpsc::channel();
    let first = sender.clone();
    ours.listen(Box::new(move || first.send(1).unwrap_or(()))).unwrap();
    ours.listen(Box::new(move || sender.send(2).unwrap_or(()))).unwrap();
    Fixture::on(&theirs);
    assert_eq!(changes.recv_timeout(TIMEOUT).unwrap(), 1);
}
