//! The file that a project moves out of.

use super::open;
use super::{DatabaseFile, SqliteOptions, error};
use crate::calendar::Timestamp;
use crate::store::StoreError;
use crate::store::transfer::{
    Batch, Cell, Kind, LEDGER, RUNS, Row, SCHEDULES, STEPS, Side, Table, TransferOptions, is_long_ago,
};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, Result, ToSql};
use std::fmt::Write;
use std::path::Path;

/// A file, read in order.
pub(in crate::store) struct TransferSource {
    connection: Connection,
    file: DatabaseFile,
    name: String,
    with_history: bool,
}

/// What a file that is left takes no more of: a table, and what would be done to it.
const CLOSED: [(&str, &str); 5] = [
    ("worker", "INSERT"),
    ("run", "INSERT"),
    ("run", "UPDATE"),
    ("schedule", "INSERT"),
    ("schedule", "UPDATE"),
];

/// Runs that go along without the rest of history: unfinished ones, what they may still ask for, and keys that must not
/// be used twice.
const ALIVE: &str = "(r.finished_at IS NULL OR r.idempotency_key IS NOT NULL OR r.parent IN \
    (SELECT p.id FROM run p WHERE p.finished_at IS NULL AND p.project = r.project))";

impl TransferSource {
    /// Opens a file that exists, and brings it up to this release's tables as any opening does.
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

    /// Its path.
    pub fn name(&self) -> &str {
        &self.name
    }

    fn told<T>(&self, done: Result<T>) -> std::result::Result<T, StoreError> {
        done.map_err(|error| error::in_use(&self.file.path, &error))
    }

    /// Projects that have anything, by name.
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
        self.told(list())
    }

    /// A worker of the project that is, or may be, alive.
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
                let is_dead = (options.is_gone)(&host, pid, &mark)
                    || host != options.host && is_long_ago(Timestamp::from_micros(beat_at), now);
                if !is_dead {
                    return Ok(Some(format!("a worker of `{app}` (process {pid})")));
                }
            }
            Ok(None)
        };
        self.told(look())
    }

    /// Lets nobody work on the project any more; whoever tries is told `why`.
    pub fn close(&mut self, project: &str, why: &str) -> std::result::Result<(), StoreError> {
        let triggers = CLOSED.map(|(table, event)| {
            let place = if event == "INSERT" { "NEW" } else { "OLD" };
            format!(
                "CREATE TRIGGER {} BEFORE {event} ON {table} WHEN {place}.project = {} \
                 BEGIN SELECT RAISE(ABORT, {}); END;",
                trigger(project, table, event),
                quoted(project),
                quoted(why)
            )
        });
        let script = format!("{} {}", dropped(project), triggers.concat());
        self.change(&script)
    }

    /// Lets work go on.
    pub fn reopen(&mut self, project: &str) -> std::result::Result<(), StoreError> {
        self.change(&dropped(project))
    }

    fn change(&mut self, script: &str) -> std::result::Result<(), StoreError> {
        let done = self.connection.execute_batch(&format!("BEGIN IMMEDIATE; {script} COMMIT"));
        if done.is_err() {
            // The error says what happened.
            let _ = self.connection.execute_batch("ROLLBACK");
        }
        self.told(done)
    }

    /// From now on all is read as it is now.
    pub fn stand_still(&mut self) -> std::result::Result<(), StoreError> {
        let done = self.connection.execute_batch("BEGIN; SELECT count(*) FROM sqlite_schema");
        self.told(done)
    }

    /// Ends what [`Self::stand_still`] began.
    pub fn move_on(&mut self) -> std::result::Result<(), StoreError> {
        let done = self.connection.execute_batch("COMMIT");
        self.told(done)
    }

    /// Rows that move.
    pub fn count(&mut self, table: Table, project: &str) -> std::result::Result<u64, StoreError> {
        let chosen = self.chosen(table);
        let sql = format!("SELECT count(*) FROM {} r WHERE r.project = ?1 {chosen}", table.name);
        let count = self.connection.query_row(&sql, [project], |row| row.get::<_, i64>(0));
        self.told(count).map(|count| u64::try_from(count).unwrap_or(0))
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
        let by_number = [RUNS.name, LEDGER.name].contains(&table.name);
        let place = if by_number { "no" } else { "id" };
        let number: i64 = after.parse().unwrap_or(i64::MIN);
        let after: &dyn ToSql = if by_number { &number } else { &after };
        let chosen = self.chosen(table);
        // Walks in the order of the table itself, whatever else it holds.
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
        let steps = match (table.name == RUNS.name, rows.first(), &last) {
            (true, Some((Cell::Int(first), _)), Some(Cell::Int(last))) => {
                self.steps(project, *first, *last)?
            }
            _ => Vec::new(),
        };
        let after = match last {
            Some(Cell::Int(number)) if !is_last => Some(number.to_string()),
            Some(Cell::Text(id)) if !is_last => Some(id),
            _ => None,
        };
        Ok(Batch { rows: rows.into_iter().map(|(_, row)| row).collect(), steps, after })
    }

    fn steps(&self, project: &str, first: i64, last: i64) -> Result<Vec<Row>> {
        let names: Vec<_> = STEPS.columns[1..].iter().map(|(name, _)| format!("s.{name}")).collect();
        let chosen = self.chosen(RUNS);
        let sql = format!(
            "SELECT s.no, r.id, {} FROM run r JOIN step s ON s.run = r.no \
             WHERE r.no >= ?2 AND r.no <= ?3 AND +r.project = ?1 {chosen} ORDER BY s.run, s.no",
            names.join(", ")
        );
        let rows = self.rows(&sql, &[&project, &first, &last], STEPS)?;
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
        self.told(page)
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

/// Its name: of this project alone.
fn trigger(project: &str, table: &str, event: &str) -> String {
    let mut name = format!("moved_{table}_{event}_");
    for byte in project.bytes() {
        // Writing to a text does not fail.
        let _ = write!(name, "{byte:02x}");
    }
    name
}

fn dropped(project: &str) -> String {
    CLOSED
        .map(|(table, event)| format!("DROP TRIGGER IF EXISTS {};", trigger(project, table, event)))
        .join(" ")
}
