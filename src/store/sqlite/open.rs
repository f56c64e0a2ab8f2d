//! Opens databases. Changes nothing before the file is known to be ours.

use super::SqliteOptions;
use super::Synchronous;
use super::busy::BusyRetry;
use super::error::{at_opening, is_busy};
use super::file::{self, DatabaseFile};
use super::schema::{APPLICATION_ID, Header, migrate, newest_version, other_application};
use crate::store::StoreError;
use crate::sync::Mutex;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags, Result};
use std::path::Path;
use std::time::Duration;

/// One opening at a time in this process. Closing any descriptor of a file drops all locks that the
/// process holds on it, so a file must not come into use while it is created or examined by hand.
static OPENING: Mutex<()> = Mutex::new(());

/// Opens the database, and creates it if it doesn't exist. Returns the connection to write with.
pub(in crate::store) fn open(
    path: &Path,
    options: &SqliteOptions,
) -> std::result::Result<(DatabaseFile, Connection), StoreError> {
    let failed = |error: rusqlite::Error| at_opening(path, &error);
    let _one_at_a_time = OPENING.lock();
    let has_log = file::has_log(path);
    if file::prepare(path, has_log)? > 0 {
        look(path, has_log)?;
    }
    let connection = connect_raw(path, options).map_err(failed)?;
    let header = with_busy_retry(options, || Header::read(&connection)).map_err(failed)?;
    header.check(path)?;
    if header.version < newest_version() {
        migrate(&connection, path)?;
    }
    use_log(&connection, path, options)?;
    // The first read creates the log. From then on, the connection keeps other processes from
    // removing it.
    with_busy_retry(options, || Header::read(&connection)).map_err(failed)?;
    let file = DatabaseFile::opened(path)?;
    with_busy_retry(options, || configure(&connection, Purpose::Write)).map_err(failed)?;
    Ok((file, connection))
}

/// Examines a file without touching it or anything beside it, and refuses a file that is not ours.
fn look(path: &Path, has_log: bool) -> std::result::Result<(), StoreError> {
    let flags =
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_URI;
    let looked = Connection::open_with_flags(file::immutable_uri(path)?, flags)
        .and_then(|connection| Header::read(&connection));
    match looked {
        // One of ours has its tables before it has a log.
        Ok(header) if header.is_blank && has_log => Err(other_application(path)),
        Ok(header) => header.check(path),
        // While a log is to be written back, or an interrupted creation to be rolled back, the file
        // alone looks damaged.
        Err(error)
            if error.sqlite_error_code() == Some(ErrorCode::DatabaseCorrupt)
                && (file::has_log(path)
                    || file::has_journal(path) && file::is_marked(path, APPLICATION_ID)) =>
        {
            Ok(())
        }
        Err(error)
            if error.sqlite_error_code() == Some(ErrorCode::NotADatabase)
                && !has_log
                && file::is_creation_to_be_undone(path) =>
        {
            Ok(())
        }
        Err(error) => Err(at_opening(path, &error)),
    }
}

/// Switches the file to a write-ahead log, which is permanent.
fn use_log(
    connection: &Connection,
    path: &Path,
    options: &SqliteOptions,
) -> std::result::Result<(), StoreError> {
    let switch = || -> Result<String> {
        let mode: String = connection.query_row("PRAGMA journal_mode", [], |row| row.get(0))?;
        if mode == "wal" {
            return Ok(mode);
        }
        connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))
    };
    let mode = with_busy_retry(options, switch).map_err(|error| at_opening(path, &error))?;
    if mode == "wal" {
        return Ok(());
    }
    Err(StoreError::Unusable {
        path: path.into(),
        action: "opened",
        reason:
            "its file system can't share memory between processes, as network drives often can't; choose a \
                 path on a local disk"
                .into(),
    })
}

/// Tries again while others hold the database. Not every lock calls the busy handler.
pub(super) fn with_busy_retry<T>(options: &SqliteOptions, mut work: impl FnMut() -> Result<T>) -> Result<T> {
    let mut busy_retry = None;
    loop {
        match work() {
            Err(error) if is_busy(&error) => {
                let busy_retry =
                    busy_retry.get_or_insert_with(|| BusyRetry::of(options.busy_timeout, seed()));
                if !busy_retry.wait() {
                    return Err(error);
                }
            }
            done => return done,
        }
    }
}

/// Differs in each process and thread.
fn seed() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(std::process::id())
}

/// Opens a connection to a file that exists.
pub fn connect_raw(path: &Path, options: &SqliteOptions) -> Result<Connection> {
    // Without CREATE: an empty database must never replace one that has vanished.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags)?;
    // SQLite silently opens a file for reading if this user may not write it.
    if connection.is_readonly("main")? {
        let failure = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_READONLY);
        return Err(rusqlite::Error::SqliteFailure(failure, None));
    }
    let mut busy_retry = BusyRetry::of(options.busy_timeout, seed());
    connection.busy_handler(Some(move |tries: i32| {
        if tries == 0 {
            busy_retry.renew();
        }
        busy_retry.wait()
    }))?;
    connection.set_prepared_statement_cache_capacity(128);
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_FKEY, false)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
    // Plans don't depend on values. Otherwise SQLite prepares a statement again whenever a value is
    // bound that may decide about a partial index, which costs more than most of our statements.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    // Otherwise the last connection to close would write the log back, even into a file that is not
    // ours.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    connection.pragma_update(
        None,
        "synchronous",
        match options.synchronous {
            Synchronous::Full => "FULL",
            Synchronous::Normal => "NORMAL",
        },
    )?;
    Ok(connection)
}

/// The purpose of a connection.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum Purpose {
    /// Commits.
    Write,
    /// Reads.
    Read,
    /// Waits for commits of others. It writes nothing, but takes the write lock, for which it must
    /// be allowed to write.
    Guard,
}

/// Opens another connection to a database that was opened and checked.
pub(super) fn connect(
    file: &DatabaseFile,
    options: &SqliteOptions,
    purpose: Purpose,
) -> std::result::Result<Connection, StoreError> {
    file.check()?;
    let connection = with_busy_retry(options, || {
        let connection = connect_raw(&file.path, options)?;
        configure(&connection, purpose)?;
        Ok(connection)
    });
    let connection = connection.map_err(|error| at_opening(&file.path, &error).after_success())?;
    // The file may have been replaced between the check and the opening.
    file.check()?;
    Ok(connection)
}

fn configure(connection: &Connection, purpose: Purpose) -> Result<()> {
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false)?;
    connection.pragma_update(None, "cell_size_check", true)?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    match purpose {
        Purpose::Write => {
            connection.pragma_update(None, "cache_size", -WRITE_CACHE_KIB)?;
            connection.pragma_update(None, "wal_autocheckpoint", PAGES_PER_CHECKPOINT)?;
            connection.pragma_update(None, "journal_size_limit", LOG_SIZE_KEPT)?;
        }
        Purpose::Guard => {}
        Purpose::Read => {
            connection.pragma_update(None, "cache_size", -READ_CACHE_KIB)?;
            connection.pragma_update(None, "query_only", true)?;
        }
    }
    Ok(())
}

/// Discards a connection that failed. Writes nothing back, and leaves the log where it is.
pub(super) fn abandon(connection: Connection) {
    // Even if that fails, the connection has to be closed.
    let _ = connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true);
    drop(connection);
}

/// Page cache of the writing connection.
const WRITE_CACHE_KIB: i64 = 16 * 1024;
/// Page cache of a reading connection.
const READ_CACHE_KIB: i64 = 1024;
/// The log is written back after this many pages: 16 MB. More makes a checkpoint cheaper per
/// commit, but longer.
const PAGES_PER_CHECKPOINT: i64 = 4096;
/// A longer log shrinks to this size when it starts over.
const LOG_SIZE_KEPT: i64 = 64 * 1024 * 1024;

/// The default of `SqliteOptions::busy_timeout`.
pub(super) const BUSY_TIMEOUT: Duration = Duration::from_secs(30);
