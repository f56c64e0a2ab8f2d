//! Transfers projects from a `SQLite` file (the source) to PostgreSQL (the target): row by row in
//! the order of creation. Each transaction writes a batch and the mark that says how far the
//! transfer is, so a killed transfer continues from its mark.
//!
//! No worker executes anything meanwhile. From the beginning, neither side lets a worker register
//! in the project, and the file refuses changes of it. At the end, the database is open, and the
//! file stays closed and says where the project is. So no slot runs on both sides. Finally, both
//! sides are read again and compared, table by table.

mod source;
mod target;

use super::StoreError;
use crate::calendar::Timestamp;
use source::TransferSource;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;
use target::TransferTarget;

/// A value as both databases represent it.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) enum Cell {
    Null,
    Int(i64),
    Text(String),
}

/// The type of a column.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Int,
    /// 0 and 1 in SQLite, a boolean in PostgreSQL.
    Flag,
    Text,
}

pub(super) type Row = Vec<Cell>;

/// A table and the columns that are transferred.
#[derive(Copy, Clone)]
pub(super) struct Table {
    pub name: &'static str,
    pub columns: &'static [(&'static str, Kind)],
}

impl Table {
    /// The column by which its rows are read in order.
    pub fn order(self) -> &'static str {
        match self.name {
            "run" | "ledger" => "no",
            "run_limit" | "calendar" => "name",
            _ => "id",
        }
    }
}

macro_rules! table {
    ($table:literal, $($column:ident $kind:ident),+ $(,)?) => {
        Table { name: $table, columns: &[$((stringify!($column), Kind::$kind)),+] }
    };
}

pub(super) const WORKFLOWS: Table = table![
    "workflow", id Text, schedulable Flag, limit_name Text, priority Int, declaration Text,
];
pub(super) const LIMITS: Table = table![
    "run_limit", name Text, declaration Text, set_values Text, taken Text, updated_at Int,
];
pub(super) const CALENDARS: Table = table![
    "calendar", name Text, dates Text, updated_at Int,
];
pub(super) const RUNS: Table = table![
    "run", id Text, state Text, token Int, attempt Int, cancel_requested Flag, child_ended Flag,
    available_at Int, created_at Int, started_at Int, finished_at Int, slot Int, last_slot Int, upcoming Int,
    ended_token Int, ended_print Int, ended_state Text, ended_released Flag, kept Int, origin Text, workflow Text,
    key Text, schedule_id Text, worker Text, timezone Text, parent Text, idempotency_key Text, payload Text,
    input Text, result Text, error Text, interruptions Int, interrupted_token Int, interrupted_alone Flag, note Text,
    refused_by Text, debounce_key Text, debounce_until Int, debounce_call Text,
    progress Text, limit_name Text, priority Int,
];
/// The first column is the id of the run that the step belongs to.
pub(super) const STEPS: Table = table![
    "step", run Text, name Text, state Text, attempt Int, run_attempt Int, wakes_at Int, started_at Int,
    finished_at Int, result Text, error Text,
];
/// Their first column is the id of the run that they were sent to.
pub(super) const EVENTS: Table = table![
    "event", run Text, name Text, payload Text, idempotency_key Text, received_at Int,
];
pub(super) const LEDGER: Table = table![
    "ledger", schedule_id Text, from_slot Int, until_slot Int, slot_count Int, fate Text, reason Text,
];
pub(super) const SCHEDULES: Table = table![
    "schedule", id Text, revision Int, status Text, next_slot Int, last_slot Int, run_count Int, failure_count Int,
    attended_from Int, created_at Int, updated_at Int, has_kept_run Flag, workflow Text, key Text, owner Text,
    cadence Text, spec Text, input Text, note Text, declaration Text,
    settled Text, tags Text, ran_beyond Int, skipped_count Int, missed_count Int,
];

/// The tables in the order of their transfer: what could start something comes last, and schedules
/// after the outcomes that they have counted. Steps and events are transferred with their runs.
const MOVED: [Table; 6] = [LIMITS, CALENDARS, WORKFLOWS, RUNS, LEDGER, SCHEDULES];
/// A mark after the last table: all rows have been transferred.
const ARRIVED: &str = "arrived";
/// A mark after that: both sides have been compared.
const COMPARED: &str = "compared";

/// What to transfer, and how.
#[derive(Clone, Debug)]
pub struct TransferOptions {
    /// The projects to transfer; all projects of the file if empty.
    pub projects: Vec<String>,
    /// Whether to transfer finished runs.
    pub with_history: bool,
    /// Whether to transfer although workers seem to be active.
    pub is_forced: bool,
    /// Rows per transaction.
    pub batch: usize,
    /// The identity of this machine; see [`crate::model::WorkerEntry::host`].
    pub host: String,
}

impl Default for TransferOptions {
    fn default() -> Self {
        Self { projects: Vec::new(), with_history: true, is_forced: false, batch: 2_000, host: String::new() }
    }
}

/// The progress of a transfer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TransferProgress<'a> {
    /// The project that is transferred.
    pub project: &'a str,
    /// Whether the two sides are being compared.
    pub is_comparing: bool,
    /// The current table.
    pub table: &'static str,
    /// Rows of the table that are done.
    pub done: u64,
    /// Number of rows of the table.
    pub total: u64,
}

/// What was transferred and compared of one table.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TransferredTable {
    /// The name of the table.
    pub table: &'static str,
    /// Number of rows.
    pub count: u64,
    /// The checksum of all values of all rows in order, equal on both sides.
    pub checksum: u64,
}

/// The result for one project.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TransferredProject {
    /// The name of the project.
    pub project: String,
    /// Its tables; empty if it had been transferred before.
    pub tables: Vec<TransferredTable>,
    /// Number of runs of killed workers that other workers can claim now.
    pub freed: u64,
}

/// Why nothing, or not everything, was transferred.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// One of the databases failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The transfer would lose or duplicate something.
    #[error("{0}")]
    Refused(String),
    /// The observer of the progress stopped the transfer. It can continue later.
    #[error("stopped; start it again to continue")]
    Stopped,
}

/// Observes the progress; returns false to stop the transfer.
pub type OnProgress<'a> = dyn FnMut(&TransferProgress<'_>) -> bool + 'a;

/// Rows of one table of one side, in order.
pub(super) struct Batch {
    pub rows: Vec<Row>,
    /// The steps of these runs.
    pub steps: Vec<Row>,
    /// The events of these runs.
    pub events: Vec<Row>,
    /// Where the next batch begins; `None` at the end.
    pub after: Option<String>,
}

/// A side whose rows can be read.
pub(super) trait Side {
    /// Reads at most `limit` rows after `after` (from the first row if it is empty).
    fn read(&mut self, table: Table, project: &str, after: &str, limit: usize) -> Result<Batch, StoreError>;
}

/// Count and checksum of the rows of a table, and of the steps and events that are read with it.
#[derive(Default)]
struct Digest {
    rows: (u64, DefaultHasher),
    steps: (u64, DefaultHasher),
    events: (u64, DefaultHasher),
}

impl Digest {
    fn add(&mut self, batch: &Batch) {
        for (rows, (count, hasher)) in [
            (&batch.rows, &mut self.rows),
            (&batch.steps, &mut self.steps),
            (&batch.events, &mut self.events),
        ] {
            *count += rows.len() as u64;
            for row in rows {
                row.hash(hasher);
            }
        }
    }

    fn tables(&self, table: Table) -> Vec<TransferredTable> {
        let of = |table: &'static str, digest: &(u64, DefaultHasher)| TransferredTable {
            table,
            count: digest.0,
            checksum: digest.1.finish(),
        };
        let mut tables = vec![of(table.name, &self.rows)];
        if table.name == RUNS.name {
            tables.push(of(STEPS.name, &self.steps));
            tables.push(of(EVENTS.name, &self.events));
        }
        tables
    }
}

/// Transfers projects from the file `from` to the database at `to`. An unfinished transfer
/// continues; a finished one is not repeated.
pub fn transfer_projects(
    from: &Path,
    to: &str,
    options: &TransferOptions,
    on_progress: &mut OnProgress<'_>,
) -> Result<Vec<TransferredProject>, TransferError> {
    let mut source = TransferSource::open(from, options.with_history)?;
    let target = TransferTarget::open(to)?;
    let projects = chosen(&mut source, &options.projects)?;
    for project in &projects {
        check(&mut source, &target, project, options)?;
    }
    let mut moved = Vec::new();
    for project in projects {
        let mut transfer = Transfer { source: &mut source, target: &target, project: &project, on_progress };
        moved.push(transfer.run(options)?);
    }
    Ok(moved)
}

/// Rolls back unfinished transfers: deletes what was written to the target, and opens both sides.
pub fn abandon_transfer(from: &Path, to: &str, projects: &[String]) -> Result<Vec<String>, TransferError> {
    let mut source = TransferSource::open(from, true)?;
    let target = TransferTarget::open(to)?;
    let mut abandoned = Vec::new();
    for project in chosen(&mut source, projects)? {
        match target.mark(&project)? {
            Some(mark) if mark.source != source.name() => {
                return Err(other_source(&project, &mark.source));
            }
            Some(mark) if mark.is_done => {
                return Err(TransferError::Refused(format!(
                    "the project `{project}` has been moved to `{}`, where it may have gone on since; there is nothing to \
                     abandon",
                    target.name()
                )));
            }
            Some(_) => {
                target.take_away(&project)?;
                source.reopen(&project)?;
                abandoned.push(project);
            }
            // The transfer was killed before it could write a mark.
            None => source.reopen(&project)?,
        }
    }
    Ok(abandoned)
}

fn chosen(source: &mut TransferSource, asked: &[String]) -> Result<Vec<String>, TransferError> {
    let there = source.projects()?;
    if asked.is_empty() {
        return Ok(there);
    }
    if let Some(unknown) = asked.iter().find(|project| !there.contains(project)) {
        let known: Vec<_> = there.iter().map(|project| format!("`{project}`")).collect();
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        return Err(TransferError::Refused(format!(
            "`{}` has no project `{unknown}`; it has {known}",
            source.name()
        )));
    }
    Ok(asked.to_vec())
}

fn other_source(project: &str, source: &str) -> TransferError {
    TransferError::Refused(format!(
        "the project `{project}` in the database was begun to be moved there from another file, `{source}`; continue from that \
         one, or abandon it there with `--abandon`"
    ))
}

fn at_work(worker: &str, project: &str, source: &TransferSource) -> TransferError {
    TransferError::Refused(format!(
        "{worker} works on the project `{project}` of `{}`; stop it first, what it runs continues from its first unfinished \
         step after the move (or `--force`, if it is certainly dead)",
        source.name()
    ))
}

/// Refuses a transfer that would lose or duplicate something, before anything is changed.
fn check(
    source: &mut TransferSource,
    target: &TransferTarget,
    project: &str,
    options: &TransferOptions,
) -> Result<(), TransferError> {
    match target.mark(project)? {
        Some(mark) if mark.source != source.name() => return Err(other_source(project, &mark.source)),
        Some(_) => return Ok(()),
        None => {}
    }
    let now = target.time()?;
    if !options.is_forced
        && let Some(worker) = source.live_worker(project, options, now)?
    {
        return Err(at_work(&worker, project, source));
    }
    if let Some(found) = target.finds(project)? {
        return Err(TransferError::Refused(format!(
            "the project `{project}` in `{}` has {found} already; move into an empty one: name another schema with \
             `?schema=`",
            target.name()
        )));
    }
    Ok(())
}

/// The transfer of one project.
struct Transfer<'m, 't> {
    source: &'m mut TransferSource,
    target: &'m TransferTarget,
    project: &'m str,
    on_progress: &'m mut OnProgress<'t>,
}

impl Transfer<'_, '_> {
    fn run(&mut self, options: &TransferOptions) -> Result<TransferredProject, TransferError> {
        let batch = options.batch.max(1);
        let done = TransferredProject { project: self.project.to_owned(), tables: Vec::new(), freed: 0 };
        let to = self.target.name().to_owned();
        if self.target.mark(self.project)?.is_some_and(|mark| mark.is_done) {
            self.source.close(self.project, &transferred_text(self.project, &to))?;
            return Ok(done);
        }
        let is_new = self.target.mark(self.project)?.is_none();
        self.source.close(self.project, &transfer_text(self.project, &to))?;
        // From here on, no worker can register. One may have done so just before.
        if is_new
            && !options.is_forced
            && let Some(worker) = self.source.live_worker(self.project, options, self.target.time()?)?
        {
            self.source.reopen(self.project)?;
            return Err(at_work(&worker, self.project, self.source));
        }
        self.target.close(self.project, self.source.name(), MOVED[0].name)?;
        self.source.begin_snapshot()?;
        let compared = self.copy(batch)?;
        let tables = if compared { Vec::new() } else { self.compare(batch)? };
        let freed = self.target.free_runs(self.project)?;
        self.target.reopen(self.project)?;
        self.source.end_snapshot()?;
        self.source.close(self.project, &transferred_text(self.project, &to))?;
        Ok(TransferredProject { project: self.project.to_owned(), tables, freed })
    }

    /// Copies all rows, from the mark on. Returns whether both sides had been compared before.
    fn copy(&mut self, batch: usize) -> Result<bool, TransferError> {
        let mark = self.target.mark(self.project)?;
        let Some(mark) = mark else {
            return Err(TransferError::Refused("the mark of this move was removed meanwhile".to_owned()));
        };
        if mark.table == COMPARED {
            return Ok(true);
        }
        let first = MOVED.iter().position(|table| table.name == mark.table).unwrap_or(MOVED.len());
        let (mut after, mut done) = (mark.after, mark.done);
        for (place, table) in MOVED.iter().enumerate().skip(first) {
            let total = self.source.count(*table, self.project)?;
            self.report(*table, false, done, total)?;
            loop {
                let rows = self.source.read(*table, self.project, &after, batch)?;
                let count = done + rows.rows.len() as u64;
                let before = (table.name, after.as_str());
                let next = match &rows.after {
                    Some(after) => (table.name, after.as_str(), count),
                    None => (MOVED.get(place + 1).map_or(ARRIVED, |table| table.name), "", 0),
                };
                self.target.store(*table, self.project, &rows, before, next)?;
                self.report(*table, false, count, total.max(count))?;
                done = next.2;
                next.1.clone_into(&mut after);
                if rows.after.is_none() {
                    break;
                }
            }
        }
        Ok(false)
    }

    /// Reads both sides again and compares them.
    fn compare(&mut self, batch: usize) -> Result<Vec<TransferredTable>, TransferError> {
        let mut all = Vec::new();
        let mut arrived = self.target.reader();
        for table in MOVED {
            let total = self.source.count(table, self.project)?;
            let there = self.digest(table, total, batch, true, &mut arrived)?;
            let here = self.digest(table, total, batch, false, &mut arrived)?;
            for (here, there) in here.iter().zip(&there) {
                if here != there {
                    return Err(TransferError::Refused(format!(
                        "the table `{}` of the project `{}` differs: {} rows in the file and {} in the database{}; somebody \
                         has changed one of them meanwhile: `--abandon` takes away what arrived, then start again",
                        here.table,
                        self.project,
                        here.count,
                        there.count,
                        if here.count == there.count { ", with other values" } else { "" }
                    )));
                }
            }
            all.extend(here);
        }
        self.target.note(self.project, COMPARED)?;
        Ok(all)
    }

    fn digest(
        &mut self,
        table: Table,
        total: u64,
        batch: usize,
        has_arrived: bool,
        arrived: &mut dyn Side,
    ) -> Result<Vec<TransferredTable>, TransferError> {
        let mut digest = Digest::default();
        let mut after = String::new();
        loop {
            let rows = if has_arrived {
                arrived.read(table, self.project, &after, batch)?
            } else {
                self.source.read(table, self.project, &after, batch)?
            };
            digest.add(&rows);
            // Each side counts as half of the work.
            let done = digest.rows.0 / 2 + if has_arrived { 0 } else { total / 2 };
            self.report(table, true, done.min(total), total)?;
            match rows.after {
                Some(next) => after = next,
                None => return Ok(digest.tables(table)),
            }
        }
    }

    fn report(
        &mut self,
        table: Table,
        is_comparing: bool,
        done: u64,
        total: u64,
    ) -> Result<(), TransferError> {
        let progress =
            TransferProgress { project: self.project, is_comparing, table: table.name, done, total };
        if (self.on_progress)(&progress) { Ok(()) } else { Err(TransferError::Stopped) }
    }
}

fn transfer_text(project: &str, to: &str) -> String {
    format!(
        "the project `{project}` is on its way to `{to}`; let `polos migrate` finish, or take it back with `--abandon`"
    )
}

fn transferred_text(project: &str, to: &str) -> String {
    format!(
        "the project `{project}` has moved to `{to}`; use that database, for example by POLOS_DATABASE_URL"
    )
}

/// How far a transfer is, as recorded in the target.
pub(super) struct Mark {
    /// The name of the source.
    pub source: String,
    /// The current table, or [`COMPARED`].
    pub table: String,
    /// The last row of it that was transferred.
    pub after: String,
    /// Number of its rows that were transferred.
    pub done: u64,
    pub is_done: bool,
}

/// Whether a worker counts as dead because of the age of its last heartbeat. Used where its process
/// can't be checked.
pub(super) fn is_long_ago(beat_at: Timestamp, now: Timestamp) -> bool {
    const SILENCE_US: i64 = 60_000_000;
    now.as_micros().saturating_sub(beat_at.as_micros()) > SILENCE_US
}
