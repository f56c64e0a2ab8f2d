//! Migrations: creates the tables and brings them up to the newest version.

use super::config::{ServerConfig, quoted};
use super::connection::{Connection, Session, WITHOUT_LIMITS};
use super::error::PgError;
use super::queries;
use super::rows::Args;
use crate::store::StoreError;

/// One script per version. Workers of the previous release keep working during a script and after
/// it: scripts only add, and neither rename nor remove anything that a released version uses. If
/// that is impossible, `oldest` says so, and older releases refuse to open the database.
const MIGRATIONS: &[Migration] = &[
    Migration { script: include_str!("migrations/0001_tables.sql"), oldest: 1 },
    Migration { script: include_str!("migrations/0002_runs_by_state.sql"), oldest: 1 },
    Migration { script: include_str!("migrations/0003_first_statistics.sql"), oldest: 1 },
    Migration { script: include_str!("migrations/0004_runs_that_wait_for_a_child.sql"), oldest: 1 },
    Migration { script: include_str!("migrations/0005_interruptions.sql"), oldest: 1 },
    Migration { script: include_str!("migrations/0006_declarations.sql"), oldest: 1 },
    Migration { script: include_str!("migrations/0007_code_of_runs.sql"), oldest: 1 },
    Migration { script: include_str!("migrations/0008_runs_by_key.sql"), oldest: 1 },
    // Again, for the columns added since: without statistics, the planner takes their indexes for
    // no better than those of all queued runs.
    Migration { script: include_str!("migrations/0003_first_statistics.sql"), oldest: 1 },
    Migration { script: include_str!("migrations/0010_runs_by_error.sql"), oldest: 1 },
    Migration { script: include_str!("migrations/0011_settled_slots.sql"), oldest: 1 },
    Migration { script: include_str!("migrations/0012_debounced_runs.sql"), oldest: 1 },
    Migration { script: include_str!("migrations/0013_progress.sql"), oldest: 1 },
    Migration { script: include_str!("migrations/0014_events.sql"), oldest: 1 },
    Migration { script: include_str!("migrations/0015_limits.sql"), oldest: 1 },
    Migration { script: include_str!("migrations/0016_finished_once.sql"), oldest: 1 },
    Migration { script: include_str!("migrations/0017_database_id.sql"), oldest: 1 },
    Migration { script: include_str!("migrations/0018_hook_calls.sql"), oldest: 1 },
    Migration { script: include_str!("migrations/0019_tags.sql"), oldest: 1 },
    Migration { script: include_str!("migrations/0020_calendars.sql"), oldest: 1 },
    Migration { script: include_str!("migrations/0021_slot_counts.sql"), oldest: 1 },
    Migration { script: include_str!("migrations/0022_lists_without_held_runs.sql"), oldest: 1 },
    Migration { script: include_str!("migrations/0023_events_by_key.sql"), oldest: 1 },
    Migration { script: include_str!("migrations/0024_lists_in_order_of_creation.sql"), oldest: 1 },
];

struct Migration {
    script: &'static str,
    /// The oldest version whose releases may keep using the tables.
    oldest: i64,
}

/// Indexes to create before a script. In a database with rows they are built beforehand, while
/// other processes continue to write.
const INDEXES: &[Index] = &[
    Index {
        version: 23,
        name: "event_by_key",
        of: "@event (idempotency_key, name, run) WHERE idempotency_key IS NOT NULL",
    },
    // Lists read the runs that workers hold by `run_held`.
    Index { version: 24, name: "run_newest", of: "@run (project, created_at, no) WHERE state <> 'running'" },
    Index {
        version: 24,
        name: "run_newest_by_workflow",
        of: "@run (project, workflow, created_at, no) WHERE state <> 'running'",
    },
    Index {
        version: 24,
        name: "run_newest_by_key",
        of: "@run (project, key, workflow, created_at, no) WHERE state <> 'running'",
    },
    // The few runs that failed, wait, or are queued among millions that succeeded.
    Index {
        version: 24,
        name: "run_newest_by_state",
        of: "@run (project, state, workflow, created_at, no) WHERE state <> 'succeeded' AND state <> 'running'",
    },
    // The class is the first field of the error: `{"type": "module:Name", ...`.
    Index {
        version: 24,
        name: "run_newest_by_error",
        of: "@run (project, split_part(ltrim(substr(error, 9, 300), ' \"'), '\"', 1), workflow, created_at, no) \
             WHERE state = 'failed'",
    },
    // It is nearly empty.
    Index {
        version: 24,
        name: "run_newest_remarkable",
        of: "@run (project, created_at, no) WHERE (interruptions > 0 OR note IS NOT NULL) AND finished_at IS NULL",
    },
];

struct Index {
    /// The version whose script needs it.
    version: i64,
    name: &'static str,
    /// Its table, its columns, and which rows it has.
    of: &'static str,
}

/// The oldest supported server version.
const SERVER_MIN: i64 = 120_000;

/// The schema version of this release.
pub(super) fn newest_version() -> i64 {
    i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX)
}

/// The state of the schema in the database.
#[derive(Copy, Clone, Debug)]
struct Header {
    has_schema: bool,
    has_tables: bool,
    /// The version, and the oldest version that may use it.
    version: Option<(i64, i64)>,
}

/// Brings the tables up to the newest version, even if other processes try the same. With
/// `must_exist`, refuses a database without tables instead of creating them.
pub(super) fn prepare(
    connection: &Connection,
    server: &ServerConfig,
    must_exist: bool,
) -> Result<(), StoreError> {
    let into_store_error = |error: PgError| into_store_error(error, server);
    connection.with(async |session| check_server(session, server).await).map_err(into_store_error)?;
    let header = connection.with(async |session| header(session, server).await).map_err(into_store_error)?;
    check(header, server)?;
    if header.version.is_some_and(|(version, _)| version >= newest_version()) {
        return Ok(());
    }
    if must_exist && header.version.is_none() {
        let reason = format!(
            "it has no tables of polos in the schema `{}`: a worker creates them when it starts; while \
             a backup is restored, wait for it",
            server.schema()
        );
        return Err(unusable(server, reason));
    }
    let is_server = connection.process().is_some();
    for _ in 0..BUILDS_MAX {
        if let Some((version, _)) = header.version {
            connection
                .with(async |session| build_indexes(session, version, is_server).await)
                .map_err(into_store_error)?;
        }
        let migrated = connection.with(async |session| migrate(session, server).await);
        if !matches!(migrated, Ok(true)) {
            // `migrated` has the error. If the rollback fails too, the connection is dropped
            // anyway.
            let _ = connection.with(async |session| session.script("ROLLBACK").await);
        }
        if migrated.map_err(into_store_error)? {
            server.note_schema(true);
            return Ok(());
        }
    }
    let reason = "an index is not valid: its creation was interrupted, and it can't be created again; find it in \
                  `pg_index` (`indisvalid`), and let an administrator drop it";
    Err(unusable(server, reason.to_owned()))
}

/// How often indexes are built before the program gives up: another process may be building them.
const BUILDS_MAX: u32 = 5;

/// Builds the indexes of migrations without keeping other processes from writing. A pooler has no
/// session for that, and a server may refuse it; then the migration builds them.
///
/// A process that is killed meanwhile leaves an index that is not valid. It is dropped here.
async fn build_indexes(session: Session<'_>, version: i64, is_server: bool) -> Result<(), PgError> {
    let session = session.slow();
    if is_server {
        // Other builds, and transactions that have begun before, are waited for; not for ever.
        session.script("SET statement_timeout = 600000; SET lock_timeout = 0").await?;
    }
    for Index { name, of, .. } in INDEXES.iter().filter(|index| index.version > version) {
        let build = format!("CREATE INDEX CONCURRENTLY IF NOT EXISTS {name} ON {of}");
        let drop = format!("DROP INDEX CONCURRENTLY IF EXISTS @{name}");
        // Waits for another process that builds it.
        let is_built = is_server && attempt(session, &build).await?;
        if state_of(session, name).await? == IndexState::Abandoned {
            attempt(session, &drop).await?;
            // It was there before. If our own build has failed, the migration builds it.
            if is_built && !attempt(session, &build).await? {
                attempt(session, &drop).await?;
            }
        }
    }
    Ok(())
}

/// Executes a statement outside of a transaction. Returns whether the server accepted it.
async fn attempt(session: Session<'_>, sql: &str) -> Result<bool, PgError> {
    match session.script(sql).await {
        Ok(()) => Ok(true),
        Err(error) if error.is_broken() => Err(error),
        Err(_) => Ok(false),
    }
}

/// What is known of an index.
#[derive(PartialEq, Eq)]
enum IndexState {
    /// It is complete, or there is none.
    Fine,
    /// Another process builds it.
    Growing,
    /// The process that built it has been killed, or was refused.
    Abandoned,
}

async fn state_of(session: Session<'_>, index: &str) -> Result<IndexState, PgError> {
    let mut args = Args::default();
    args.text(session.schema());
    args.text(index);
    let rows = session.query(queries::INVALID_INDEX, args).await?;
    let Some(row) = rows.first() else { return Ok(IndexState::Fine) };
    Ok(if row.try_get(0)? { IndexState::Growing } else { IndexState::Abandoned })
}

/// Checks a database that was opened before: a newer release may have migrated its tables to a
/// version that this one must not use.
pub(super) fn check_again(connection: &Connection, server: &ServerConfig) -> Result<(), StoreError> {
    let found = connection
        .with(async |session| versions(session).await)
        .map_err(|error| error.into_store_error(server))?;
    let known = newest_version();
    match found {
        Some((found, oldest)) if oldest > known => {
            Err(server.judged(StoreError::Newer { path: server.name().into(), found, known }))
        }
        _ => Ok(()),
    }
}

/// The schema's version, and the oldest version that may use it.
async fn versions(session: Session<'_>) -> Result<Option<(i64, i64)>, PgError> {
    let rows = session.query(queries::SCHEMA_VERSION, Args::default()).await?;
    rows.first().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).transpose()
}

/// An error while opening: missing privileges or objects stay until an operator fixes them.
fn into_store_error(error: PgError, server: &ServerConfig) -> StoreError {
    match error {
        PgError::Postgres(error) => super::error::at_opening(server, &error),
        other => other.into_store_error(server),
    }
}

fn unusable(server: &ServerConfig, reason: String) -> StoreError {
    StoreError::Unusable { path: server.name().into(), action: "opened", reason }
}

async fn check_server(session: Session<'_>, server: &ServerConfig) -> Result<(), PgError> {
    let rows = session.query(queries::SERVER_VERSION, Args::default()).await?;
    let Some(row) = rows.first() else { return Ok(()) };
    let (version, encoding, product): (&str, &str, &str) =
        (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
    // It would seem to work.
    if product.starts_with("CockroachDB") {
        let reason = "the server is CockroachDB, which accepts advisory locks and locks nothing, so two \
                      processes could change the same schedule at the same time; name a database of \
                      PostgreSQL";
        return Err(unusable(server, reason.to_owned()).into());
    }
    if version.parse::<i64>().is_ok_and(|version| version < SERVER_MIN) {
        let reason = format!("the server's version is {version}; PostgreSQL 12 or newer is needed");
        return Err(unusable(server, reason).into());
    }
    if encoding != "UTF8" {
        let reason = format!(
            "its encoding is {encoding}, which can't hold every text; name a database that was made with \
             `createdb -T template0 -E UTF8`"
        );
        return Err(unusable(server, reason).into());
    }
    Ok(())
}

async fn header(session: Session<'_>, server: &ServerConfig) -> Result<Header, PgError> {
    let mut args = Args::default();
    args.text(server.schema());
    let rows = session.query(queries::SCHEMA_STATE, args).await?;
    let mut header = Header { has_schema: false, has_tables: false, version: None };
    if let Some(row) = rows.first() {
        let counts: [i64; 3] = [row.try_get(0)?, row.try_get(1)?, row.try_get(2)?];
        header.has_schema = counts[0] > 0;
        server.note_schema(header.has_schema);
        header.has_tables = counts[1] > 0;
        if counts[2] > 0 {
            header.version = versions(session).await?;
        }
    }
    Ok(header)
}

/// Refuses a schema that is too new or belongs to something else.
fn check(header: Header, server: &ServerConfig) -> Result<(), StoreError> {
    let known = newest_version();
    match header.version {
        Some((found, oldest)) if oldest > known => {
            Err(StoreError::Newer { path: server.name().into(), found, known })
        }
        None if header.has_tables => Err(unusable(
            server,
            format!(
                "its schema `{0}` holds tables of something else; name another schema with `?schema=`",
                server.schema()
            ),
        )),
        _ => Ok(()),
    }
}

/// Returns whether the tables are up to date: not if an index has to be built again first.
async fn migrate(session: Session<'_>, server: &ServerConfig) -> Result<bool, PgError> {
    let session = session.slow();
    session.script(&format!("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; {WITHOUT_LIMITS}")).await?;
    let mut args = Args::default();
    args.text(server.schema());
    session.query(queries::LOCK_MIGRATION, args).await?;
    // Another process may have finished the migration while this one waited for the lock.
    let header = header(session, server).await?;
    check(header, server)?;
    let done = header.version.map_or(0, |(version, _)| version);
    if done < newest_version() {
        if !header.has_schema {
            session.script(&format!("CREATE SCHEMA {}", quoted(server.schema()))).await?;
        }
        if header.version.is_none() {
            session.script("CREATE TABLE @version (version bigint NOT NULL, oldest bigint NOT NULL)").await?;
            session.script("INSERT INTO @version VALUES (0, 0)").await?;
        }
        let mut oldest = 0;
        for (migration, version) in MIGRATIONS.iter().zip(1..).filter(|(_, version)| *version > done) {
            for Index { name, of, .. } in INDEXES.iter().filter(|index| index.version == version) {
                if state_of(session, name).await? != IndexState::Fine {
                    return Ok(false);
                }
                session.script(&format!("CREATE INDEX IF NOT EXISTS {name} ON {of}")).await?;
            }
            // The script that comes twice gathers statistics, of which only the last remain. It
            // takes a quarter of the time of a new schema.
            let comes_again = MIGRATIONS
                .iter()
                .zip(1..)
                .any(|(it, later)| later > version && it.script == migration.script);
            if !comes_again {
                session.script(migration.script).await?;
            }
            oldest = migration.oldest;
        }
        session
            .script(&format!("UPDATE @version SET version = {}, oldest = {oldest}", newest_version()))
            .await?;
    }
    session.script("COMMIT").await?;
    Ok(true)
}
