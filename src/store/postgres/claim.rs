//! Claims available runs. A run that another transaction is claiming is skipped, not waited for.

use super::batch::Batch;
use super::candidates::Search;
use super::error::PgError;
use super::expected_limits::{Expected, PlainLimit};
use super::fetch::{Fetch, Part};
use super::limits;
use super::pipeline::Statement;
use super::queries;
use super::rows::{Args, Columns, count_to_sql, limit_to_sql};
use super::write_back::changes;
use crate::calendar::Timestamp;
use crate::model::RunId;
use crate::store::limits::walked;
use crate::store::row_reader::RowReader;
use crate::store::tables::read_set::ReadSet;
use crate::store::tables::{Steps, Touched, transitions};
use crate::store::{Answer, Codes, Command, Rejection, Suspects};
use std::collections::BTreeSet;
use std::sync::Arc;
use tokio_postgres::Row;

/// Most suspects that are looked at where limits may leave no room for the first.
const SUSPECTS_MAX: usize = 16;

pub(super) async fn claim(
    batch: &mut Batch<'_>,
    command: &Command,
) -> Result<Result<Answer, Rejection>, PgError> {
    let Command::ClaimRuns { project, worker, workflows, limit, until, suspects, codes } = command else {
        return Ok(Err(Rejection::Stale));
    };
    let workers = BTreeSet::from([worker.as_str()]);
    let needs = ReadSet { known_workers: workers.clone(), workers, ..ReadSet::default() };
    let expected = batch.expected_limits().get();
    let mut load = Fetch::first(&needs);
    let mut statements = std::mem::take(&mut load.statements);
    let ids: BTreeSet<&str> = workflows.iter().map(|id| &**id).collect();
    let search = Search { project, until: *until, limit: *limit };
    let may_take_suspect = *suspects != Suspects::Never;
    if may_take_suspect {
        statements.push(search.first_suspect(ids.iter().copied()));
    }
    if let Some(codes) = codes {
        statements.push(held_for(project, codes, (*limit, *until)));
    }
    // Limits are locked after workers and before runs, by everybody.
    statements.insert(load.len(), limits::locked_limits(project, workflows));
    statements.push(search.unlimited(ids.iter().copied()));
    // Where suspects may be claimed, the answer would not be all that is needed.
    let guess = expected.only().filter(|_| !may_take_suspect);
    if expected.is_any() {
        // Sees what was committed until the limits were locked.
        statements.push(limits::counts(project, workflows));
    }
    statements.extend(guess.map(|limit| search.under(limit)));
    let mut answers = batch.send(statements).await?;
    let guessed = guess.and_then(|limit| Some((limit, answers.pop()?)));
    let counted = if expected.is_any() { answers.pop() } else { None };
    let claimable = answers.pop().unwrap_or_default();
    let held = if codes.is_some() { answers.pop().unwrap_or_default() } else { Vec::new() };
    let suspect = if may_take_suspect { answers.pop().unwrap_or_default() } else { Vec::new() };
    let locked = answers.pop().unwrap_or_default();
    let mut part = Part::default();
    load.take(&mut part, &answers)?;
    if part.tables.workers.is_empty() {
        // The worker is gone, or the read missed it; in the latter case this finds it.
        part = batch.load(&needs).await?.0;
    }
    let mut begun = Vec::new();
    for rows in [&suspect, &held, &claimable] {
        add(&mut part, rows, &mut begun)?;
    }
    if locked.is_empty() {
        batch.expected_limits().set(Expected::Nothing);
    } else {
        let counted = match counted {
            Some(rows) => rows,
            None => batch.send(vec![limits::counts(project, workflows)]).await?.concat(),
        };
        let mut claim = LimitedClaim { batch, part: &mut part, begun: &mut begun, search, may_take_suspect };
        claim.read(&locked, &counted, guessed).await?;
    }
    // So far the rows were only read.
    part.tables.touched = Some(Touched::default());
    if !begun.is_empty() {
        read_steps(batch, &mut part, begun).await?;
    }
    let outcome = part.tables.apply(command, batch.now());
    batch.save(changes(&part)).await?;
    Ok(outcome)
}

/// Adds runs to the part, and their numbers to `begun` if they were started before.
fn add(part: &mut Part, rows: &[Row], begun: &mut Vec<i64>) -> Result<(), PgError> {
    for row in rows {
        let row = Columns::of(row).run_row()?;
        if part.stored_runs.insert(row.run.id.clone(), row.no).is_some() {
            continue;
        }
        if row.run.started_at.is_some() {
            begun.push(count_to_sql(row.no));
        }
        part.tables.add_run(row);
    }
    Ok(())
}

/// The part of a claim that concerns workflows with limits.
struct LimitedClaim<'a, 'b, 's, 'c> {
    batch: &'b mut Batch<'s>,
    part: &'a mut Part,
    begun: &'a mut Vec<i64>,
    search: Search<'c>,
    may_take_suspect: bool,
}

impl LimitedClaim<'_, '_, '_, '_> {
    /// Reads the runs for which the limits leave room: they are locked, and then their use was
    /// counted. `guessed` are the first runs of a limit that was expected to be the only one.
    async fn read(
        &mut self,
        locked: &[Row],
        counted: &[Row],
        guessed: Option<(&PlainLimit, Vec<Row>)>,
    ) -> Result<(), PgError> {
        let project: Arc<str> = self.search.project.into();
        let mut workflows = Vec::new();
        for row in locked {
            workflows.push(limits::take_limit_of_workflow(&mut self.part.tables, &project, row)?);
        }
        limits::take_counts(&mut self.part.tables, &project, counted)?;
        let rooms = self.part.tables.rooms(&project, &workflows, self.batch.now());
        let expected = Expected::of(&rooms);
        let guessed = guessed.filter(|(limit, _)| expected.only() == Some(limit));
        self.batch.expected_limits().set(expected);
        if let Some((_, rows)) = guessed {
            return add(self.part, &rows, self.begun);
        }
        let open: Vec<usize> =
            (0..rooms.rooms().len()).filter(|index| rooms.rooms()[*index].left() > 0).collect();
        if open.is_empty() {
            return Ok(());
        }
        let workflows: Vec<Vec<Arc<str>>> = open.iter().map(|index| rooms.workflows(*index)).collect();
        let base = self.search;
        let mut statements = Vec::new();
        for (index, workflows) in open.iter().zip(&workflows) {
            let room = &rooms.rooms()[*index];
            let count = room.left().min(base.limit);
            let limit = if room.spec.per_key.is_some() { walked(count) } else { count };
            let ids = workflows.iter().map(|id| &**id);
            statements.push(Search { limit, ..base }.limited(ids));
        }
        if self.may_take_suspect {
            let ids = workflows.iter().flatten().map(|id| &**id);
            statements.push(Search { limit: SUSPECTS_MAX, ..base }.limited_suspects(ids));
        }
        let found = self.batch.send(statements).await?;
        let mut statements = Vec::new();
        for ((index, workflows), rows) in open.iter().zip(&workflows).zip(&found) {
            let full = &rooms.rooms()[*index];
            let Some(per_key) = full.spec.per_key else { continue };
            let count = full.left().min(base.limit);
            let mut room = full.clone();
            let mut admitted = 0;
            for row in rows {
                let run = Columns::of(row).run_row()?.run;
                admitted += usize::from(room.admit(&run.key, run.available_at));
            }
            if admitted >= count || rows.len() < walked(count) {
                continue;
            }
            // All that is left to see may belong to keys without room. Ask for the others.
            let per_key = usize::try_from(per_key).unwrap_or(usize::MAX).min(count);
            for workflow in workflows {
                let keys = full.full_keys();
                statements.push(base.by_key(workflow, keys, per_key));
            }
        }
        for rows in &found {
            add(self.part, rows, self.begun)?;
        }
        if !statements.is_empty() {
            for rows in self.batch.send(statements).await? {
                add(self.part, &rows, self.begun)?;
            }
        }
        Ok(())
    }
}

/// Held runs that this code has not refused, and runs that were held once and are due.
fn held_for<'c>(project: &'c str, codes: &'c Codes, (limit, until): (usize, Timestamp)) -> Statement<'c> {
    let mut args = Args::default();
    args.text(project);
    args.texts(codes.keys().map(|id| &**id));
    args.texts(codes.values().map(|code| &**code));
    args.int(limit_to_sql(limit));
    args.int(until.as_micros());
    args.int(transitions::HELD_UNTIL.as_micros());
    Statement::Query(queries::HELD_RUNS, args)
}

/// Adds the steps that earlier claims of these runs recorded.
async fn read_steps(batch: &mut Batch<'_>, part: &mut Part, begun: Vec<i64>) -> Result<(), PgError> {
    let mut args = Args::default();
    args.ints(begun);
    for row in batch.query(queries::STEPS_OF_RUNS, args).await? {
        let mut columns = Columns::of(&row);
        let run: RunId = columns.run_id()?;
        let steps: &mut Steps = part.tables.steps.entry(run).or_default();
        steps.records.push(columns.step()?);
    }
    Ok(())
}
