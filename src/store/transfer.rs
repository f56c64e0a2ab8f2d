//! Moves projects from a `SQLite` file to PostgreSQL: row by row in the order of their creation, a batch and the mark of
//! how far it went in one transaction, so that it can be killed at any moment and goes on from there.
//!
//! Nobody works while it moves: as soon as it begins, neither side lets a worker sign in to the project, and the file takes
//! no more changes of it; when it has ended, the database is open, and the file stays closed and says where the project
//! went. So no slot runs on both. At the end each table is read again on both sides, and compared.

use super::StoreError;
use super::postgres::TransferTarget;
use super::sqlite::TransferSource;
use crate::calendar::Timestamp;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;

/// A value as both databases know it.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) enum Cell {
    Null,
    Int(i64),
    Text(String),
}

/// What a column holds.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Int,
    /// 0 and 1 in one database, a boolean in the other.
    Flag,
    Text,
}

pub(super) type Row = Vec<Cell>;

/// A table, as far as it moves.
#[derive(Copy, Clone)]
pub(super) struct Table {
    pub name: &'static str,
    pub columns: &'static [(&'static str, Kind)],
}

macro_rules! table {
    ($table:literal, $($column:ident $kind:ident),+ $(,)?) => {
        Table { name: $table, columns: &[$((stringify!($column), Kind::$kind)),+] }
    };
}

pub(super) const WORKFLOWS: Table = table!["workflow", id Text, schedulable Flag];
pub(super) const RUNS: Table = table![
    "run", id Text, state Text, token Int, attempt Int, cancel_requested Flag, child_ended Flag,
    available_at Int, created_at Int, started_at Int, finished_at Int, slot Int, last_slot Int, upcoming Int,
    ended_token Int, ended_print Int, ended_state Text, ended_released Flag, kept Int, origin Text, workflow Text,
    key Text, schedule_id Text, worker Text, timezone Text, parent Text, idempotency_key Text, payload Text,
    input Text, result Text, error Text, interruptions Int, interrupted_token Int, interrupted_alone Flag, note Text,
    refused_by Text,
];
/// Their first column is the id of the run that they belong to.
pub(super) const STEPS: Table = table![
    "step", run Text, name Text, state Text, attempt Int, run_attempt Int, wakes_at Int, started_at Int,
    finished_at Int, result Text, error Text,
];
pub(super) const LEDGER: Table = table![
    "ledger", schedule_id Text, from_slot Int, until_slot Int, slot_count Int, fate Text, reason Text,
];
pub(super) const SCHEDULES: Table = table![
    "schedule", id Text, revision Int, status Text, next_slot Int, last_slot Int, run_count Int, failure_count Int,
    attended_from Int, created_at Int, updated_at Int, has_kept_run Flag, workflow Text, key Text, owner Text,
    cadence Text, spec Text, input Text, note Text, declaration Text,
    settled Text,
];

/// In this order: what could start something comes last. Steps move with their runs.
const MOVED: [Table; 4] = [WORKFLOWS, RUNS, LEDGER, SCHEDULES];
/// Behind the last table: everything is there.
const ARRIVED: &str = "arrived";
/// Behind that: and was compared.
const COMPARED: &str = "compared";

/// How to move.
#[derive(Clone, Debug)]
pub struct TransferOptions {
    /// These projects; all of the file where there are none.
    pub projects: Vec<String>,
    /// Finished runs move too.
    pub with_history: bool,
    /// Though workers seem to be at work.
    pub is_forced: bool,
    /// Rows that move in one transaction.
    pub batch: usize,
    /// Which machine this is; see [`crate::model::WorkerEntry::host`].
    pub host: String,
    /// Whether a worker's process (host, id, mark) is known to have ended.
    pub is_gone: fn(&str, i64, &str) -> bool,
}

impl Default for TransferOptions {
    fn default() -> Self {
        Self {
            projects: Vec::new(),
            with_history: true,
            is_forced: false,
            batch: 2_000,
            host: String::new(),
            is_gone: |_, _, _| false,
        }
    }
}

/// How far it is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TransferProgress<'a> {
    /// The project that moves.
    pub project: &'a str,
    /// Whether the two sides are being compared.
    pub is_comparing: bool,
    /// The table that moves.
    pub table: &'static str,
    /// Rows of it that are done.
    pub done: u64,
    /// Of so many.
    pub total: u64,
}

/// What was moved and compared of one table.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TransferredTable {
    /// Its name.
    pub table: &'static str,
    /// Rows.
    pub count: u64,
    /// The same number on both sides, made from every value of every row in order.
    pub checksum: u64,
}

/// What became of a project.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TransferredProject {
    /// Which.
    pub project: String,
    /// Table by table; empty where it had been moved before.
    pub tables: Vec<TransferredTable>,
    /// Runs of workers that had been killed, free now for others.
    pub freed: u64,
}

/// Why nothing, or not everything, was moved.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// One of the databases could not do its work.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Moving now would lose or double something.
    #[error("{0}")]
    Refused(String),
    /// Whoever was told of the progress wants no more. It can go on later.
    #[error("stopped; start it again to go on")]
    Stopped,
}

/// Hears of the progress; false stops it.
pub type Tell<'a> = dyn FnMut(&TransferProgress<'_>) -> bool + 'a;

/// Rows of one table on one side, in order.
pub(super) struct Batch {
    pub rows: Vec<Row>,
    /// Steps of these runs.
    pub steps: Vec<Row>,
    /// Where the next one begins; `None` at the end.
    pub after: Option<String>,
}

/// Where rows are read.
pub(super) trait Side {
    /// The rows behind `after` (empty: from the beginning), at most `limit`.
    fn read(&mut self, table: Table, project: &str, after: &str, limit: usize) -> Result<Batch, StoreError>;
}

/// Count and checksum of a table, and of the steps that are read with it.
#[derive(Default)]
struct Digest {
    rows: (u64, DefaultHasher),
    steps: (u64, DefaultHasher),
}

impl Digest {
    fn add(&mut self, batch: &Batch) {
        for (rows, (count, hasher)) in [(&batch.rows, &mut self.rows), (&batch.steps, &mut self.steps)] {
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
        }
        tables
    }
}

/// Moves projects from the file `from` to the database at `to`. What was begun goes on; what has been moved is left alone.
pub fn transfer_projects(
    from: &Path,
    to: &str,
    options: &TransferOptions,
    tell: &mut Tell<'_>,
) -> Result<Vec<TransferredProject>, TransferError> {
    let mut source = TransferSource::open(from, options.with_history)?;
    let target = TransferTarget::open(to)?;
    let projects = chosen(&mut source, &options.projects)?;
    for project in &projects {
        check(&mut source, &target, project, options)?;
    }
    let mut moved = Vec::new();
    for project in projects {
        let mut journey = Transfer { source: &mut source, target: &target, project: &project, tell };
        moved.push(journey.run(options)?);
    }
    Ok(moved)
}

/// Forgets moves that were begun and have not ended: takes what arrived away again, and opens both sides.
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
            // Killed before it could leave a mark.
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
        "the project `{project}` in the database was begun to be moved there from another file, `{source}`; go on from that \
         one, or abandon it there with `--abandon`"
    ))
}

fn at_work(worker: &str, project: &str, source: &TransferSource) -> TransferError {
    TransferError::Refused(format!(
        "{worker} works on the project `{project}` of `{}`; stop it first, what it runs goes on from its first unfinished \
         step after the move (or `--force`, if it is certainly dead)",
        source.name()
    ))
}

/// Refuses what would lose or double something, before anything is touched.
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

/// One project on its way.
struct Transfer<'m, 't> {
    source: &'m mut TransferSource,
    target: &'m TransferTarget,
    project: &'m str,
    tell: &'m mut Tell<'t>,
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
        // From here on nobody signs in; has somebody just done so?
        if is_new
            && !options.is_forced
            && let Some(worker) = self.source.live_worker(self.project, options, self.target.time()?)?
        {
            self.source.reopen(self.project)?;
            return Err(at_work(&worker, self.project, self.source));
        }
        self.target.close(self.project, self.source.name(), MOVED[0].name)?;
        self.source.stand_still()?;
        let compared = self.copy(batch)?;
        let tables = if compared { Vec::new() } else { self.compare(batch)? };
        let freed = self.target.free_runs(self.project)?;
        self.target.reopen(self.project)?;
        self.source.move_on()?;
        self.source.close(self.project, &transferred_text(self.project, &to))?;
        Ok(TransferredProject { project: self.project.to_owned(), tables, freed })
    }

    /// Goes on from the mark. Whether all was compared before.
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
            self.say(*table, false, done, total)?;
            loop {
                let rows = self.source.read(*table, self.project, &after, batch)?;
                let count = done + rows.rows.len() as u64;
                let before = (table.name, after.as_str());
                let next = match &rows.after {
                    Some(after) => (table.name, after.as_str(), count),
                    None => (MOVED.get(place + 1).map_or(ARRIVED, |table| table.name), "", 0),
                };
                self.target.store(*table, self.project, &rows, before, next)?;
                self.say(*table, false, count, total.max(count))?;
                done = next.2;
                next.1.clone_into(&mut after);
                if rows.after.is_none() {
                    break;
                }
            }
        }
        Ok(false)
    }

    /// Reads both sides again.
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
            // The two sides count as half each.
            let done = digest.rows.0 / 2 + if has_arrived { 0 } else { total / 2 };
            self.say(table, true, done.min(total), total)?;
            match rows.after {
                Some(next) => after = next,
                None => return Ok(digest.tables(table)),
            }
        }
    }

    fn say(&mut self, table: Table, is_comparing: bool, done: u64, total: u64) -> Result<(), TransferError> {
        let progress =
            TransferProgress { project: self.project, is_comparing, table: table.name, done, total };
        if (self.tell)(&progress) { Ok(()) } else { Err(TransferError::Stopped) }
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

/// How far a move is, as its target says.
pub(super) struct Mark {
    /// Where it comes from.
    pub source: String,
    /// The table that moves, or [`COMPARED`].
    pub table: String,
    /// The last row of it that has arrived.
    pub after: String,
    /// Rows of it that have arrived.
    pub done: u64,
    pub is_done: bool,
}

/// A worker that has given no sign of life for so long is taken for dead, where its process can't be asked.
pub(super) fn is_long_ago(beat_at: Timestamp, now: Timestamp) -> bool {
    const SILENCE_US: i64 = 60_000_000;
    now.as_micros().saturating_sub(beat_at.as_micros()) > SILENCE_US
}
