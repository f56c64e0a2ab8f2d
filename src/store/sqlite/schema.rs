//! The tables, and how a file gets them.

use super::error::{at_opening, foreign};
use crate::store::StoreError;
use rusqlite::{Connection, Result};
use std::path::Path;

/// Marks a file as ours: `polo` in ASCII.
pub(super) const APPLICATION_ID: i64 = 0x706f_6c6f;

/// One script per version; each updates the version before it.
const MIGRATIONS: &[&str] = &[
    include_str!("migrations/0001_tables.sql"),
    include_str!("migrations/0002_runs_by_state.sql"),
    include_str!("migrations/0003_runs_that_wait_for_a_child.sql"),
    include_str!("migrations/0004_interruptions.sql"),
    include_str!("migrations/0005_declarations.sql"),
    include_str!("migrations/0006_code_of_runs.sql"),
    include_str!("migrations/0007_runs_by_key.sql"),
    include_str!("migrations/0008_runs_by_error.sql"),
    include_str!("migrations/0009_settled_slots.sql"),
    include_str!("migrations/0010_debounced_runs.sql"),
    include_str!("migrations/0011_progress.sql"),
    include_str!("migrations/0012_events.sql"),
    include_str!("migrations/0013_limits.sql"),
    include_str!("migrations/0014_finished_once.sql"),
    include_str!("migrations/0015_hook_calls.sql"),
    include_str!("migrations/0016_tags.sql"),
    include_str!("migrations/0017_calendars.sql"),
    include_str!("migrations/0018_slot_counts.sql"),
    include_str!("migrations/0019_inserts_without_triggers.sql"),
    include_str!("migrations/0020_events_by_key.sql"),
];

/// The newest version that this release knows.
pub(super) fn newest_version() -> i64 {
    i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX)
}

/// What a file says about itself.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) struct Header {
    pub application_id: i64,
    pub version: i64,
    /// Whether the file has no tables yet.
    pub is_blank: bool,
}

impl Header {
    pub fn read(connection: &Connection) -> Result<Self> {
        let value = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, i64>(0));
        let application_id = value("PRAGMA application_id")?;
        let version = value("PRAGMA user_version")?;
        let tables = value("SELECT count(*) FROM sqlite_schema")?;
        Ok(Self { application_id, version, is_blank: application_id == 0 && version == 0 && tables == 0 })
    }

    /// Refuses a file that is not ours.
    pub fn check(self, path: &Path) -> std::result::Result<(), StoreError> {
        if self.is_blank {
            return Ok(());
        }
        if self.application_id != APPLICATION_ID {
            return Err(other_application(path));
        }
        if self.version > newest_version() {
            return Err(StoreError::Newer {
                path: path.into(),
                found: self.version,
                known: newest_version(),
            });
        }
        Ok(())
    }
}

/// The error for a `SQLite` file that is not ours.
pub(super) fn other_application(path: &Path) -> StoreError {
    foreign(path, "it is the SQLite database of another application")
}

/// Updates the file to the newest version, even if other processes try the same.
pub(super) fn migrate(connection: &Connection, path: &Path) -> std::result::Result<(), StoreError> {
    let failed = |error: rusqlite::Error| at_opening(path, &error);
    connection.execute_batch("BEGIN IMMEDIATE").map_err(failed)?;
    let migrated = migrate_locked(connection, path);
    match migrated {
        Ok(()) => connection.execute_batch("COMMIT").map_err(failed),
        Err(error) => {
            // The error says what happened. A connection that fails to roll back is discarded.
            let _ = connection.execute_batch("ROLLBACK");
            Err(error)
        }
    }
}

fn migrate_locked(connection: &Connection, path: &Path) -> std::result::Result<(), StoreError> {
    let failed = |error: rusqlite::Error| at_opening(path, &error);
    let header = Header::read(connection).map_err(failed)?;
    header.check(path)?;
    let done = usize::try_from(header.version).unwrap_or(0);
    for script in MIGRATIONS.iter().skip(done) {
        connection.execute_batch(script).map_err(failed)?;
    }
    connection.pragma_update(None, "application_id", APPLICATION_ID).map_err(failed)?;
    connection.pragma_update(None, "user_version", newest_version()).map_err(failed)
}
