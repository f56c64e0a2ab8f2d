//! Opening a `SQLite` file: what is ours opens, what is not is refused with advice and left as it
//! was.

use super::fixture::{
    Fixture, PROJECT, at, check_former_counts, everything, former_history, new_schedule, text,
};
use super::quick;
use polos::model::{RunState, ScheduleStatus};
use polos::store::{Command, RunFilter, ScheduleFilter, SqliteStore, StoreError, StoreReads, StoreWrites};
use rusqlite::Connection;
use std::fs;
use std::path::{Path, PathBuf};

fn open(path: &Path) -> Result<SqliteStore, StoreError> {
    SqliteStore::open(path, quick())
}

/// A file name in a folder of its own.
fn permit() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("polos.db");
    (folder, path)
}

fn log_of(path: &Path) -> PathBuf {
    PathBuf::from(format!("{}-wal", path.display()))
}

/// A database of ours with so many schedules in it, closed.
fn database(path: &Path, schedules: usize) {
    let store = open(path).unwrap();
    let fixture = Fixture::on(&store);
    let new = (0..schedules).map(|number| new_schedule(&format!("{number:05}"), Some(at(60)))).collect();
    fixture.ok(at(0), Command::UpsertSchedules(new));
}

/// Everything in the folder, byte by byte.
fn contents(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file())
        .map(|path| (path.clone(), fs::read(path).unwrap()))
        .collect();
    files.sort();
    files
}

/// Opening is refused, and nothing at all has changed.
fn refused(path: &Path) -> StoreError {
    let folder = path.parent().unwrap();
    let before = contents(folder);
    let Err(error) = open(path) else { panic!("`{}` was opened", path.display()) };
    assert!(before == contents(folder), "{error}");
    let name = path.file_name().unwrap().to_str().unwrap();
    assert!(error.to_string().contains(name), "{error}");
    error
}

#[test]
fn a_new_file_is_its_owners_alone() {
    let (folder, path) = permit();
    let store = open(&path).unwrap();
    Fixture::on(&store);
    #[cfg(unix)]
    for (path, _) in contents(folder.path()) {
        use std::os::unix::fs::PermissionsExt;
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{}", path.display());
    }
    assert_eq!(store.path(), path);
    assert_eq!(contents(folder.path()).len(), 3, "the file, its log and the log's index");
}

#[test]
fn what_was_stored_is_there_again() {
    let (folder, path) = permit();
    database(&path, 3);
    assert_eq!(contents(folder.path()).len(), 1, "whoever leaves last cleans up");
    let store = open(&path).unwrap();
    assert_eq!(store.schedules(PROJECT, &ScheduleFilter::default(), &everything()).unwrap().len(), 3);
}

#[test]
fn an_empty_file_becomes_a_database() {
    let (_folder, path) = permit();
    fs::write(&path, b"").unwrap();
    Fixture::on(&open(&path).unwrap());
}

/// The schema version of a new file.
fn newest_version() -> u32 {
    let (_folder, path) = permit();
    database(&path, 1);
    Connection::open(&path).unwrap().query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap()
}

#[test]
fn a_file_says_whose_it_is() {
    let (_folder, path) = permit();
    database(&path, 1);
    let header = fs::read(&path).unwrap();
    assert_eq!(&header[68..72], b"polo");
    assert_eq!(header[60..64], newest_version().to_be_bytes());
}

#[test]
fn a_folder_is_no_database() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("polos.db");
    fs::create_dir(&path).unwrap();
    let error = refused(&path);
    assert!(matches!(error, StoreError::Unusable { action: "opened", .. }), "{error}");
    assert!(error.to_string().contains("folder"), "{error}");
}

#[test]
fn a_missing_folder_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let Err(error) = open(&folder.path().join("nowhere").join("polos.db")) else { panic!("it was opened") };
    assert!(matches!(error, StoreError::Unusable { action: "created", .. }), "{error}");
    assert!(error.to_string().contains("nowhere`"), "{error}");
    assert!(!folder.path().join("nowhere").exists());
}

#[test]
fn another_kind_of_file_is_foreign() {
    let noise: Vec<u8> = (0..8192_u32).map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()[3]).collect();
    for bytes in [b"x".as_slice(), b"{\"json\": true}", b"SQLite format 2\0", &noise] {
        let (_folder, path) = permit();
        fs::write(&path, bytes).unwrap();
        let error = refused(&path);
        assert!(matches!(error, StoreError::Foreign { .. }), "{error}");
    }
}

/// Another application's database, in this journal mode, left by a process that was killed.
fn other_application(path: &Path, mode: &str, application_id: i64) {
    let scratch = path.with_extension("scratch");
    let connection = Connection::open(&scratch).unwrap();
    connection.pragma_update(None, "journal_mode", mode).unwrap();
    connection.pragma_update(None, "application_id", application_id).unwrap();
    connection.execute_batch("CREATE TABLE schedule (id TEXT); INSERT INTO schedule VALUES ('a')").unwrap();
    // Copied while in use: the log stays behind, as after a kill.
    fs::copy(&scratch, path).unwrap();
    if log_of(&scratch).exists() {
        fs::copy(log_of(&scratch), log_of(path)).unwrap();
    }
    drop(connection);
    fs::remove_file(scratch).unwrap();
}

#[test]
fn the_database_of_another_application_is_foreign() {
    for mode in ["delete", "wal"] {
        for application_id in [0, 7] {
            let (_folder, path) = permit();
            other_application(&path, mode, application_id);
            let error = refused(&path);
            assert!(matches!(error, StoreError::Foreign { .. }), "{mode} {application_id}: {error}");
        }
    }
}

#[test]
fn a_newer_schema_asks_for_an_upgrade() {
    let (_folder, path) = permit();
    database(&path, 1);
    Connection::open(&path).unwrap().pragma_update(None, "user_version", 99).unwrap();
    let error = refused(&path);
    let newest = i64::from(newest_version());
    assert!(matches!(error, StoreError::Newer { found: 99, known, .. } if known == newest), "{error}");
    assert!(error.to_string().contains("upgrade"), "{error}");
}

#[test]
fn a_newer_schema_is_seen_in_the_log_too() {
    let (folder, path) = permit();
    let scratch = folder.path().join("scratch.db");
    database(&scratch, 1);
    let newer = Connection::open(&scratch).unwrap();
    newer.pragma_update(None, "user_version", 99).unwrap();
    fs::copy(&scratch, &path).unwrap();
    fs::copy(log_of(&scratch), log_of(&path)).unwrap();
    let before = [fs::read(&path).unwrap(), fs::read(log_of(&path)).unwrap()];
    let Err(error) = open(&path) else { panic!("it was opened") };
    assert!(matches!(error, StoreError::Newer { found: 99, .. }), "{error}");
    assert!(before == [fs::read(&path).unwrap(), fs::read(log_of(&path)).unwrap()]);
}

#[test]
fn a_file_of_the_release_before_is_brought_up_to_date_while_that_release_works_on_it() {
    let (_folder, path) = permit();
    let old = Connection::open(&path).unwrap();
    old.execute_batch(include_str!("../../../src/store/sqlite/migrations/0001_tables.sql")).unwrap();
    // The log comes last: one of ours has its tables before it has a log.
    old.execute_batch(
        "PRAGMA application_id = 1886350447; PRAGMA user_version = 1; PRAGMA journal_mode = wal;",
    )
    .unwrap();
    old.execute(
        "WITH g (key) AS (VALUES ('00000'), ('00001'), ('00002'))
         INSERT INTO schedule (id, revision, status, next_slot, attended_from, created_at, updated_at, project,
             workflow, key, cadence, spec)
         SELECT 'sch_' || key, 1, 'active', 60, 0, 0, 0, ?1, 'w', key, '* * * * *', '{\"cron\":\"* * * * *\"}' FROM g",
        [PROJECT],
    )
    .unwrap();
    let mut pause = old.prepare("UPDATE schedule SET status = 'paused' WHERE key = ?1").unwrap();
    let insert = "INSERT INTO run (id, is_slot, state, token, attempt, available_at, created_at, origin, project, \
        workflow, key, timezone) VALUES (?1, 0, 'queued', 0, 1, 0, 0, 'invoke', ?2, 'w', 'global', 'UTC')";
    let mut insert = old.prepare(insert).unwrap();
    insert.execute(("run_before", PROJECT)).unwrap();
    old.execute_batch(&former_history("")).unwrap();

    let store = open(&path).unwrap();
    check_former_counts(&store);
    let version: u32 = old.query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap();
    assert_eq!(version, newest_version());
    assert_eq!(pause.execute(["00001"]).unwrap(), 1);
    insert.execute(("run_after", PROJECT)).unwrap();
    let queued = RunFilter { states: vec![RunState::Queued], ..RunFilter::default() };
    let found = store.runs(PROJECT, &queued, &everything()).unwrap();
    assert_eq!(found.iter().map(|run| run.id.as_str()).collect::<Vec<_>>(), ["run_after", "run_before"]);
    let project_stats = store.project_stats(PROJECT, at(0), 10).unwrap();
    assert_eq!(project_stats.schedules[..2], [(ScheduleStatus::Active, 3), (ScheduleStatus::Paused, 1)]);
}

#[test]
fn a_log_that_was_left_behind_is_used() {
    let (folder, path) = permit();
    let scratch = folder.path().join("scratch.db");
    let store = open(&scratch).unwrap();
    Fixture::on(&store).put(at(0), new_schedule("a", Some(at(60))));
    fs::copy(&scratch, &path).unwrap();
    fs::copy(log_of(&scratch), log_of(&path)).unwrap();
    let schedule = open(&path).unwrap().schedule(PROJECT, &new_schedule("a", None).id).unwrap();
    assert!(schedule.is_some());
}

#[test]
fn a_truncated_file_is_corrupt() {
    for part in [2, 4, 10] {
        let (_folder, path) = permit();
        database(&path, 500);
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, &bytes[..bytes.len() / part]).unwrap();
        let error = refused(&path);
        assert!(matches!(error, StoreError::Corrupt { .. }), "{error}");
        assert!(error.to_string().contains("restore"), "{error}");
    }
}

/// A rollback journal that says how many pages the file had, and holds none of them.
fn journal(page_count: u32) -> Vec<u8> {
    let mut bytes = vec![0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7];
    let nonce = 7_u32;
    for number in [0, nonce, page_count, 512, 4096] {
        bytes.extend(number.to_be_bytes());
    }
    bytes.resize(512, 0);
    bytes
}

#[test]
fn power_lost_during_creation_leaves_what_can_be_opened() {
    let (folder, path) = permit();
    // The pages were on their way, and the first one was not the first to arrive.
    let mut bytes = vec![0; 4096];
    bytes.resize(12_288, 7);
    let journal_path = folder.path().join(format!("{}-journal", path.file_name().unwrap().display()));
    fs::write(&path, &bytes).unwrap();
    assert!(
        matches!(refused(&path), StoreError::Foreign { .. }),
        "nothing says that it is an interrupted creation"
    );
    fs::write(&journal_path, journal(3)).unwrap();
    assert!(matches!(refused(&path), StoreError::Foreign { .. }), "there was something before");
    fs::write(&journal_path, journal(0)).unwrap();
    Fixture::on(&open(&path).unwrap());
}

#[test]
fn a_log_without_its_database_is_no_new_database() {
    for bytes in [None, Some(b"")] {
        let (folder, path) = permit();
        let scratch = folder.path().join("scratch.db");
        let store = open(&scratch).unwrap();
        Fixture::on(&store);
        fs::copy(log_of(&scratch), log_of(&path)).unwrap();
        if let Some(bytes) = bytes {
            fs::write(&path, bytes).unwrap();
        }
        let error = refused(&path);
        assert!(matches!(error, StoreError::Unusable { .. }), "{error}");
    }
}

#[test]
fn a_flipped_byte_is_noticed_or_harmless() {
    let (folder, path) = permit();
    database(&path, 200);
    let whole = fs::read(&path).unwrap();
    let flipped = folder.path().join("flipped.db");
    let mut dice = super::model::Dice(7);
    for round in 0..120 {
        let mut bytes = whole.clone();
        // The first page is the most delicate one.
        let permit = if round % 3 == 0 { dice.below(4096) } else { dice.below(whole.len() as u64) };
        bytes[usize::try_from(permit).unwrap()] ^= 1 << dice.below(8);
        fs::write(&flipped, &bytes).unwrap();
        let _ = fs::remove_file(log_of(&flipped));
        // Whatever comes of it: an answer or an error, and the process lives.
        if let Ok(store) = open(&flipped) {
            let _ = store.due(PROJECT, &[text("w")], at(99), 1000);
            let _ = store.schedules(PROJECT, &ScheduleFilter::default(), &everything());
            let _ = store.commit(&[Command::UpsertSchedules(vec![new_schedule("new", None)])], at(1));
        }
    }
}

#[test]
fn odd_names_are_file_names() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["a b.db", "a?mode=memory", "a%20b#c.db", "ü💥.db", ":memory:", "file:x.db"] {
        let path = folder.path().join(name);
        database(&path, 1);
        database(&path, 2);
        assert!(path.is_file(), "{name}");
    }
    assert_eq!(contents(folder.path()).len(), 6);
}

#[test]
fn a_foreign_hand_does_not_hide_the_others() {
    let (_folder, path) = permit();
    database(&path, 5);
    let hand = Connection::open(&path).unwrap();
    hand.execute_batch(
        "UPDATE schedule SET spec = CAST(x'ff00fe' AS TEXT), run_count = -5 WHERE key = '00001';
         UPDATE schedule SET status = 'strange' WHERE key = '00002';",
    )
    .unwrap();
    assert!(hand.execute_batch("UPDATE schedule SET next_slot = 'soon' WHERE key = '00003'").is_err());
    let store = open(&path).unwrap();
    let due = store.due(PROJECT, &[text("w")], at(60), 10).unwrap();
    assert_eq!(due.len(), 4);
    assert_eq!(due[1].schedule.run_count, 0);
    let all = store.schedules(PROJECT, &ScheduleFilter::default(), &everything()).unwrap();
    assert_eq!(all[2].status, polos::model::ScheduleStatus::Broken);
}

/// Whether permissions bind this user: they don't bind root.
#[cfg(unix)]
fn is_bound(folder: &Path) -> bool {
    fs::write(folder.join("probe"), b"").is_err()
}

#[cfg(unix)]
#[test]
fn a_folder_without_write_permission_is_named() {
    use std::os::unix::fs::PermissionsExt;
    let (folder, path) = permit();
    database(&path, 1);
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o500)).unwrap();
    if is_bound(folder.path()) {
        let error = refused(&path);
        assert!(matches!(error, StoreError::Unusable { .. }), "{error}");
        let error = refused(&folder.path().join("new.db"));
        assert!(matches!(error, StoreError::Unusable { action: "created", .. }), "{error}");
    }
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o700)).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).unwrap();
    if fs::OpenOptions::new().write(true).open(&path).is_err() {
        let error = refused(&path);
        assert!(matches!(error, StoreError::Unusable { .. }), "{error}");
    }
    fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).unwrap();
    if fs::File::open(&path).is_err() {
        let Err(error) = open(&path) else { panic!("it was opened") };
        assert!(matches!(error, StoreError::Unusable { .. }), "{error}");
    }
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
}

#[cfg(unix)]
mod in_use {
    //! The file goes away while it is open.

    use super::{Fixture, at, database, fs, log_of, new_schedule, open, permit, text};
    use polos::store::{Command, Store, StoreError};
    use std::path::Path;

    fn gives_up(store: &dyn Store) {
        let command = Command::UpsertSchedules(vec![new_schedule("late", None)]);
        let error = store.commit(&[command], at(1)).unwrap_err();
        assert!(matches!(error, StoreError::Unusable { action: "written", .. }), "{error}");
        assert!(!error.is_passing());
        assert!(store.change_mark().is_err());
        assert!(store.due("default", &[text("w")], at(1), 1).is_err());
    }

    fn after(what: impl Fn(&Path)) {
        let (_folder, path) = permit();
        let store = open(&path).unwrap();
        Fixture::on(&store);
        what(&path);
        gives_up(&store);
    }

    #[test]
    fn a_deleted_file_is_not_written() {
        after(|path| fs::remove_file(path).unwrap());
    }

    #[test]
    fn a_deleted_log_is_not_written() {
        after(|path| fs::remove_file(log_of(path)).unwrap());
    }

    #[test]
    fn a_replaced_file_is_not_written() {
        after(|path| {
            let other = path.with_extension("other");
            database(&other, 1);
            fs::rename(other, path).unwrap();
        });
    }

    #[test]
    fn a_file_that_is_put_back_works_again() {
        let (_folder, path) = permit();
        let store = open(&path).unwrap();
        let fixture = Fixture::on(&store);
        let away = path.with_extension("away");
        fs::rename(&path, &away).unwrap();
        gives_up(&store);
        fs::rename(&away, &path).unwrap();
        fixture.put(at(2), new_schedule("a", None));
    }
}
