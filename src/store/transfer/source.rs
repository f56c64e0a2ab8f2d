//! The source of a transfer: the file whose projects move.

use super::{
    Batch, Cell, EVENTS, Kind, RUNS, Row, SCHEDULES, STEPS, Side, Table, TransferOptions, is_long_ago,
};
use crate::calendar::Timestamp;
use crate::process;
use crate::store::StoreError;
use crate::store::sqlite::SqliteOptions;
use crate::store::sqlite::error;
use crate::store::sqlite::file::DatabaseFile;
use crate::store::sqlite::open;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, Result, ToSql};
use std::fmt::Write;
use std::path::Path;

/// A file that is read in order.
pub(super) struct TransferSource {
    connection: Connection,
    file: DatabaseFile,
    name: String,
    with_history: bool,
}

/// What a closed file refuses: a table, and the kind of change. A change that it accepted would be
/// lost. A worker that was left behind may still go and prune.
const CLOSED: [(&str, &str); 16] = [
    ("worker", "INSERT"),
    ("event", "INSERT"),
    ("step", "INSERT"),
    ("step", "UPDATE"),
    ("run", "INSERT"),
    ("run", "UPDATE"),
    ("schedule", "INSERT"),
    ("schedule", "UPDATE"),
    ("schedule", "DELETE"),
    ("ledger", "INSERT"),
    ("workflow", "INSERT"),
    ("workflow", "UPDATE"),
    ("run_limit", "UPDATE"),
    ("calendar", "INSERT"),
    ("calendar", "UPDATE"),
    ("calendar", "DELETE"),
];

/// Runs that are transferred without the rest of the history: unfinished runs, the children that
/// these may still ask for, and runs with idempotency keys, which must not be used twice.
const ALIVE: &str = "(r.finished_at IS NULL OR r.idempotency_key IS NOT NULL OR r.parent IN \
    (SELECT p.id FROM run p WHERE p.finished_at IS NULL AND p.project = r.project))";

impl TransferSource {
    /// Opens an existing file, and updates its tables to this release as any opening does.
    pub fn open(path: &Path, with_history: bool) -> std::result::Result<Self, StoreError> {
        let unusable = |reason: String| StoreError::Unusable { path: path.into(), action: "opened", reason };
        let path = std::path::absolute(path).map_err(|error| unusable(error.to_string()))?;
        if !path.exists() {
            return Err(unusable("there is no such file; say which one with `--from`".to_owned()));
        }
        let (file, connection) = open::open(&path, &SqliteOptions::default())?;
        let name = path.display().to_string();
        Ok(Self { connection, file, name, with_history })
    }

    /// The path of the file.
    pub fn name(&self) -> &str {
        &self.name
    }

    fn in_store_error<T>(&self, done: Result<T>) -> std::result::Result<T, StoreError> {
        done.map_err(|error| error::in_use(&self.file.path, &error))
    }

    /// Names of the projects that have any rows.
    pub fn projects(&mut self) -> std::result::Result<Vec<String>, StoreError> {
        let list = || -> Result<Vec<String>> {
            let mut projects = Vec::new();
            let next = "SELECT min(project) FROM (SELECT min(project) AS project FROM schedule WHERE project > ?1 \
                UNION ALL SELECT min(project) FROM run WHERE project > ?1 \
                UNION ALL SELECT min(project) FROM workflow WHERE project > ?1 \
                UNION ALL SELECT min(project) FROM ledger WHERE project > ?1)";
            let mut statement = self.connection.prepare(next)?;
            let mut found: Option<String> = statement.query_row([""], |row| row.get(0))?;
            while let Some(project) = found {
                found = statement.query_row([&project], |row| row.get(0))?;
                projects.push(project);
            }
            Ok(projects)
        };
        self.in_store_error(list())
    }

    /// Describes a worker of the project that is or may be alive.
    pub fn live_worker(
        &mut self,
        project: &str,
        options: &TransferOptions,
        now: Timestamp,
    ) -> std::result::Result<Option<String>, StoreError> {
        let look = || -> Result<Option<String>> {
            let mut statement = self.connection.prepare(
                "SELECT app, host, pid, process_mark, beat_at FROM worker WHERE project = ?1 ORDER BY id",
            )?;
            let mut rows = statement.query([project])?;
            while let Some(row) = rows.next()? {
                let (app, host, pid): (String, String, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
                let (mark, beat_at): (String, i64) = (row.get(3)?, row.get(4)?);
                let is_dead = process::is_gone(&host, pid, &mark)
                    || host != options.host && is_long_ago(Timestamp::from_micros(beat_at), now);
                if !is_dead {
                    return Ok(Some(format!("a worker of `{app}` (process {pid})")));
                }
            }
            Ok(None)
        };
        self.in_store_error(look())
    }

    /// Closes the project: whoever tries to change it gets the error `why`.
    pub fn close(&mut self, project: &str, why: &str) -> std::result::Result<(), StoreError> {
        let triggers = CLOSED.map(|(table, event)| {
            let of_row = match (table, event) {
                ("event" | "step", _) => "(SELECT r.project FROM run r WHERE r.no = NEW.run)",
                (_, "INSERT") => "NEW.project",
                _ => "OLD.project",
            };
            format!(
                "CREATE TRIGGER {} BEFORE {event} ON {table} WHEN {of_row} = {} \
                 BEGIN SELECT RAISE(ABORT, {}); END;",
                trigger(project, table, event),
                quoted(project),
                quoted(why)
            )
        });
        let script = format!("{} {}", dropped(project), triggers.concat());
        self.change(&script)
    }

    /// Opens the project again.
    pub fn reopen(&mut self, project: &str) -> std::result::Result<(), StoreError> {
        self.change(&dropped(project))
    }

    fn change(&mut self, script: &str) -> std::result::Result<(), StoreError> {
        let done = self.connection.execute_batch(&format!("BEGIN IMMEDIATE; {script} COMMIT"));
        if done.is_err() {
            // The error says what happened.
            let _ = self.connection.execute_batch("ROLLBACK");
        }
        self.in_store_error(done)
    }

    /// Begins a snapshot: everything is read as it is now.
    pub fn begin_snapshot(&mut self) -> std::result::Result<(), StoreError> {
        let done = self.connection.execute_batch("BEGIN; SELECT count(*) FROM sqlite_schema");
        self.in_store_error(done)
    }

    /// Ends the snapshot.
    pub fn end_snapshot(&mut self) -> std::result::Result<(), StoreError> {
        let done = self.connection.execute_batch("COMMIT");
        self.in_store_error(done)
    }

    /// Number of rows to transfer.
    pub fn count(&mut self, table: Table, project: &str) -> std::result::Result<u64, StoreError> {
        let chosen = self.chosen(table);
        let sql = format!("SELECT count(*) FROM {} r WHERE r.project = ?1 {chosen}", table.name);
        let count = self.connection.query_row(&sql, [project], |row| row.get::<_, i64>(0));
        self.in_store_error(count).map(|count| u64::try_from(count).unwrap_or(0))
    }

    fn chosen(&self, table: Table) -> String {
        if table.name == RUNS.name && !self.with_history { format!("AND {ALIVE}") } else { String::new() }
    }

    fn rows(&self, sql: &str, params: &[&dyn ToSql], table: Table) -> Result<Vec<(Cell, Row)>> {
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut rows = statement.query(params)?;
        let mut all = Vec::new();
        while let Some(row) = rows.next()? {
            let cells = (0..=table.columns.len())
                .map(|place| row.get_ref(place).map(cell))
                .collect::<Result<Row>>()?;
            let mut cells = cells.into_iter();
            let place = cells.next().unwrap_or(Cell::Null);
            let kinds = table.columns.iter().map(|(_, kind)| *kind);
            all.push((place, cells.zip(kinds).map(|(cell, kind)| as_kind(cell, kind)).collect()));
        }
        Ok(all)
    }

    fn page(&self, table: Table, project: &str, after: &str, limit: usize) -> Result<Batch> {
        let names: Vec<_> = table.columns.iter().map(|(name, _)| format!("r.{name}")).collect();
        let names = names.join(", ");
        let place = table.order();
        let by_number = place == "no";
        let number: i64 = after.parse().unwrap_or(i64::MIN);
        let after: &dyn ToSql = if by_number { &number } else { &after };
        let chosen = self.chosen(table);
        // Keeps the planner from other indexes, so that it walks the table in its own order.
        let project_column =
            if table.name == SCHEDULES.name || by_number { "+r.project" } else { "r.project" };
        let sql = format!(
            "SELECT r.{place}, {names} FROM {} r WHERE r.{place} > ?2 AND {project_column} = ?1 {chosen} \
             ORDER BY r.{place} LIMIT ?3",
            table.name
        );
        let limit_to_sql = i64::try_from(limit).unwrap_or(i64::MAX);
        let rows = self.rows(&sql, &[&project, after, &limit_to_sql], table)?;
        let is_last = rows.len() < limit;
        let last = rows.last().map(|(place, _)| place.clone());
        let (steps, events) = match (table.name == RUNS.name, rows.first(), &last) {
            (true, Some((Cell::Int(first), _)), Some(Cell::Int(last))) => (
                self.with_runs(STEPS, "no", project, (*first, *last))?,
                self.with_runs(EVENTS, "name", project, (*first, *last))?,
            ),
            _ => (Vec::new(), Vec::new()),
        };
        let after = match last {
            Some(Cell::Int(number)) if !is_last => Some(number.to_string()),
            Some(Cell::Text(id)) if !is_last => Some(id),
            _ => None,
        };
        Ok(Batch { rows: rows.into_iter().map(|(_, row)| row).collect(), steps, events, after })
    }

    /// Rows of a table that move with their runs.
    fn with_runs(
        &self,
        table: Table,
        order: &str,
        project: &str,
        (first, last): (i64, i64),
    ) -> Result<Vec<Row>> {
        let names: Vec<_> = table.columns[1..].iter().map(|(name, _)| format!("s.{name}")).collect();
        let chosen = self.chosen(RUNS);
        let sql = format!(
            "SELECT s.{order}, r.id, {} FROM run r JOIN {} s ON s.run = r.no \
             WHERE r.no >= ?2 AND r.no <= ?3 AND +r.project = ?1 {chosen} ORDER BY s.run, s.{order}",
            names.join(", "),
            table.name
        );
        let rows = self.rows(&sql, &[&project, &first, &last], table)?;
        Ok(rows.into_iter().map(|(_, row)| row).collect())
    }
}

impl Side for TransferSource {
    fn read(
        &mut self,
        table: Table,
        project: &str,
        after: &str,
        limit: usize,
    ) -> std::result::Result<Batch, StoreError> {
        let page = self.page(table, project, after, limit);
        self.in_store_error(page)
    }
}

fn cell(value: ValueRef<'_>) -> Cell {
    match value {
        ValueRef::Null => Cell::Null,
        ValueRef::Integer(value) => Cell::Int(value),
        ValueRef::Real(value) => Cell::Text(value.to_string()),
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => {
            Cell::Text(String::from_utf8_lossy(bytes).into_owned())
        }
    }
}

fn as_kind(cell: Cell, kind: Kind) -> Cell {
    match (cell, kind) {
        (Cell::Int(value), Kind::Flag) => Cell::Int(i64::from(value != 0)),
        (cell, _) => cell,
    }
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// The name of a trigger, unique per project.
fn trigger(project: &str, table: &str, event: &str) -> String {
    let mut name = format!("moved_{table}_{event}_");
    for byte in project.bytes() {
        // Writing to a string does not fail.
        let _ = write!(name, "{byte:02x}");
    }
    name
}

fn dropped(project: &str) -> String {
    CLOSED
        .map(|(table, event)| format!("DROP TRIGGER IF EXISTS {};", trigger(project, table, event)))
        .join(" ")
}
