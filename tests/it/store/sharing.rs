//! Several stores on one file: threads, and processes that are this very binary started again.

use super::fixture::{self, Fixture, PROJECT, at, new_run, new_schedule, patch_command, text};
use super::quick;
use polos::model::{NewRun, RunId, ScheduleId};
use polos::store::{
    Answer, Command, Page, Patch, Rejection, RunFilter, SqliteOptions, SqliteStore, Store, StoreError,
    StoreReads, StoreWrites,
};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{self, Stdio};
use std::sync::Barrier;
use std::time::Duration;

/// What a child process shall do, and where.
const ROLE: &str = "POLOS_TEST_ROLE";
const PLACE: &str = "POLOS_TEST_PLACE";
const NAME: &str = "POLOS_TEST_NAME";

/// Starts this binary as another process with a role.
fn start(role: &str, permit: &Path, name: usize) -> process::Child {
    process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "store::sharing::another_process", "--ignored", "--nocapture"])
        .env(ROLE, role)
        .env(PLACE, permit)
        .env(NAME, name.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap()
}

/// What a child says: its lines that are for us.
fn said(child: &mut process::Child) -> impl Iterator<Item = String> + use<> {
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    lines.map_while(Result::ok).filter_map(|line| Some(line.split_once("say ")?.1.to_owned()))
}

#[expect(clippy::print_stdout, reason = "this is how it is heard")]
fn say(what: &str) {
    println!("say {what}");
    std::io::stdout().flush().unwrap();
}

/// Not a test: the other process of those below.
#[test]
#[ignore = "started by other tests as another process"]
fn another_process() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let permit = PathBuf::from(std::env::var(PLACE).unwrap());
    let name: usize = std::env::var(NAME).unwrap().parse().unwrap();
    match role.as_str() {
        "count" => {
            let store = SqliteStore::open(&permit, quick()).unwrap();
            count_up(&store, name, COUNT);
            say("done");
        }
        "write" => write_for_ever(&SqliteStore::open(&permit, SqliteOptions::default()).unwrap(), name),
        "fill" => fill(&SqliteStore::open(&permit, quick()).unwrap()),
        other => panic!("there is no role `{other}`"),
    }
}

const COUNT: usize = 40;

fn counter() -> ScheduleId {
    new_schedule("counter", None).id
}

/// Counts on one row by compare-and-set, and makes runs, some of which others make too.
fn count_up(store: &dyn Store, name: usize, times: usize) {
    Fixture::on(store).put(at(0), new_schedule("counter", Some(at(60))));
    for time in 0..times {
        loop {
            let seen = store.schedule(PROJECT, &counter()).unwrap().unwrap();
            let before: u64 = seen.note.as_deref().unwrap_or("0").parse().unwrap();
            let patch = Patch { note: Some(Some(text(&(before + 1).to_string()))), ..Patch::default() };
            let mine = Command::CreateRun(Box::new(new_run(&format!("run_{name}_{time}"))));
            let shared = NewRun {
                idempotency_key: Some(text(&time.to_string())),
                ..new_run(&format!("run_shared_{name}_{time}"))
            };
            let commands = [
                patch_command(&counter(), Some(seen.revision), patch),
                mine,
                Command::CreateRun(Box::new(shared)),
            ];
            let answers = store.commit(&commands, at(1)).unwrap();
            match &answers[0] {
                Ok(Answer::Schedule(_)) => break,
                Err(Rejection::Stale) => {}
                other => panic!("{other:?}"),
            }
        }
    }
}

fn check_counts(permit: &Path, counters: usize, times: usize) {
    let store = SqliteStore::open(permit, quick()).unwrap();
    let counted = store.schedule(PROJECT, &counter()).unwrap().unwrap();
    assert_eq!(counted.note.as_deref(), Some((counters * times).to_string().as_str()), "no update is lost");
    let page = Page { limit: usize::MAX, after: None };
    let runs = store.runs(PROJECT, &RunFilter::default(), &page).unwrap();
    assert_eq!(runs.len(), counters * times + times);
}

#[test]
fn eight_stores_open_and_share_one_new_file() {
    let folder = tempfile::tempdir().unwrap();
    let permit = folder.path().join("polos.db");
    let together = Barrier::new(8);
    std::thread::scope(|threads| {
        for name in 0..8 {
            let (permit, together) = (&permit, &together);
            threads.spawn(move || {
                together.wait();
                count_up(&SqliteStore::open(permit, quick()).unwrap(), name, COUNT);
            });
        }
    });
    check_counts(&permit, 8, COUNT);
}

#[test]
fn processes_share_one_new_file() {
    let folder = tempfile::tempdir().unwrap();
    let permit = folder.path().join("polos.db");
    let mut children: Vec<_> = (0..4).map(|name| start("count", &permit, name)).collect();
    for child in &mut children {
        assert_eq!(said(child).last().as_deref(), Some("done"));
        assert!(child.wait().unwrap().success());
    }
    check_counts(&permit, 4, COUNT);
}

#[test]
fn a_commit_elsewhere_changes_the_mark() {
    let folder = tempfile::tempdir().unwrap();
    let permit = folder.path().join("polos.db");
    let [one, two] = [(); 2].map(|()| SqliteStore::open(&permit, quick()).unwrap());
    let fixture = Fixture::on(&one);
    let marks = || [one.change_mark().unwrap(), two.change_mark().unwrap()];
    let before = marks();
    assert_eq!(marks(), before);
    fixture.put(at(1), new_schedule("a", None));
    let after = marks();
    assert_ne!(after[0], before[0], "its own");
    assert_ne!(after[1], before[1], "another's");
    assert!(two.schedule(PROJECT, &new_schedule("a", None).id).unwrap().is_some());
    assert_eq!(marks(), after, "a look changes nothing");
}

#[test]
fn a_lock_that_is_held_too_long_is_passing_trouble() {
    let folder = tempfile::tempdir().unwrap();
    let permit = folder.path().join("polos.db");
    let options = SqliteOptions { busy_timeout: Duration::from_millis(50), ..quick() };
    let store = SqliteStore::open(&permit, options).unwrap();
    let fixture = Fixture::on(&store);
    let other = rusqlite::Connection::open(&permit).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let command = Command::UpsertSchedules(vec![new_schedule("a", None)]);
    let error = store.commit(&[command], at(1)).unwrap_err();
    assert!(matches!(error, StoreError::Unavailable(_)) && error.is_passing(), "{error}");
    assert!(error.to_string().contains("locked by another process"), "{error}");
    assert!(fixture.find_schedule(&new_schedule("a", None).id).is_none(), "reading goes on");
    other.execute_batch("ROLLBACK").unwrap();
    fixture.put(at(2), new_schedule("a", None));
}

/// Commits runs one after another, come what may, and says which were answered.
fn write_for_ever(store: &dyn Store, round: usize) {
    for number in 0_u64.. {
        let id = format!("run_{round}_{number:06}");
        let other = format!("run_{round}_{number:06}_b");
        let commands = [&id, &other].map(|id| Command::CreateRun(Box::new(new_run(id))));
        match store.commit(&commands, at(1)) {
            Ok(_) => say(&id),
            Err(error) if error.is_passing() => say(&format!("no {error}")),
            Err(error) => panic!("{error:?}"),
        }
    }
}

#[test]
fn what_was_answered_survives_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let permit = folder.path().join("polos.db");
    let mut dice = super::model::Dice(11);
    let mut answered = Vec::new();
    for round in 0..10 {
        let mut child = start("write", &permit, round);
        let heard = usize::try_from(1 + dice.below(60)).unwrap();
        let mut lines = said(&mut child);
        answered.extend(lines.by_ref().take(heard));
        child.kill().unwrap();
        // It may have said more before it died.
        answered.extend(lines);
        child.wait().unwrap();

        let store = SqliteStore::open(&permit, quick()).unwrap();
        let has = |id: &str| store.run(PROJECT, &RunId::from(id)).unwrap().is_some();
        for id in &answered {
            assert!(has(id), "{id} was answered");
        }
        let page = Page { limit: usize::MAX, after: None };
        let runs = store.runs(PROJECT, &RunFilter::default(), &page).unwrap();
        for run in runs.iter().filter(|run| !run.id.as_str().ends_with("_b")) {
            assert!(has(&format!("{}_b", run.id)), "a batch happens wholly or not at all");
        }
        drop(store);
        let checked: String = rusqlite::Connection::open(&permit)
            .unwrap()
            .query_row("PRAGMA integrity_check", [], |row| row.get(0))
            .unwrap();
        assert_eq!(checked, "ok");
    }
    assert!(answered.len() >= 10);
}

/// Commits until there is no more room, then says what became of it.
fn fill(store: &dyn Store) {
    let payload = "x".repeat(20_000);
    for number in 0_u64.. {
        let id = format!("run_{number:06}");
        let new = NewRun { payload: Some(text(&payload)), ..new_run(&id) };
        match store.commit(&[Command::CreateRun(Box::new(new))], at(1)) {
            Ok(_) => say(&id),
            Err(StoreError::Unavailable(_)) => break,
            Err(error) => panic!("{error:?}"),
        }
    }
    let runs = store.runs(PROJECT, &RunFilter::default(), &Page { limit: 9, after: None }).unwrap();
    assert_eq!(runs.len(), 9, "reading goes on");
    say("full");
}

#[cfg(unix)]
#[test]
fn a_full_disk_loses_nothing_that_was_answered() {
    let folder = tempfile::tempdir().unwrap();
    let permit = folder.path().join("polos.db");
    drop(SqliteStore::open(&permit, quick()).unwrap());
    // A bound on the size of files, in blocks of 512 or 1024 bytes: what a quota does.
    let mut child = process::Command::new("sh")
        .arg("-c")
        .arg("trap '' XFSZ; ulimit -f 2000; exec \"$0\" \"$@\"")
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "store::sharing::another_process", "--ignored", "--nocapture"])
        .env(ROLE, "fill")
        .env(PLACE, &permit)
        .env(NAME, "0")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut answered: Vec<String> = said(&mut child).collect();
    assert!(child.wait().unwrap().success());
    assert_eq!(answered.pop().as_deref(), Some("full"));
    assert!(answered.len() > 10);

    let store = SqliteStore::open(&permit, quick()).unwrap();
    let page = Page { limit: usize::MAX, after: None };
    let runs = store.runs(PROJECT, &RunFilter::default(), &page).unwrap();
    assert_eq!(runs.len(), answered.len(), "neither lost nor half done");
    Fixture::on(&store).put(at(2), new_schedule("a", None));
}

#[test]
fn a_start_waits_for_an_edit_that_may_take_its_claim_back() {
    let folder = tempfile::tempdir().unwrap();
    let open = || SqliteStore::open(folder.path().join("polos.db"), quick()).unwrap();
    fixture::a_start_waits_for_an_edit(&open(), &open());
}
