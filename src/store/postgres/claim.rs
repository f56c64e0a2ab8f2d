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
use crate::store::tables::{RunRow, Steps, Touched, transitions};
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
    // Where suspects may be claimed, the answer would not be all that is needed.
    let guess = expected.only().filter(|_| !may_take_suspect);
    let unlimited = || search.unlimited(ids.iter().copied());
    // If that limit is the limit of all workflows, no run is without one.
    let has_unlimited = !guess.is_some_and(|limit| limit.is_of_all(&ids));
    statements.extend(has_unlimited.then(unlimited));
    // These see what was committed until the limits were locked.
    statements.extend(match guess {
        Some(limit) => Some(search.under(limit)),
        None => expected.is_any().then(|| limits::counts(project, workflows)),
    });
    let mut answers = batch.send(statements).await?;
    let guessed = guess.and_then(|limit| Some((limit, answers.pop()?)));
    let mut counted = if guessed.is_none() && expected.is_any() { answers.pop() } else { None };
    let mut claimable = if has_unlimited { answers.pop() } else { None };
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
    let project: Arc<str> = Arc::clone(project);
    let mut limited = Vec::new();
    for row in &locked {
        limited.push(limits::take_limit_of_workflow(&mut part.tables, &project, row)?);
    }
    let found = Expected::of(&part.tables.rooms(&project, &limited, batch.now()));
    let guessed = guessed.filter(|(limit, _)| found.only() == Some(limit));
    if let Some((limit, rows)) = &guessed {
        add_under(&mut part, (&project, limit), rows, &mut begun)?;
    } else {
        // What was not asked for because something else was expected.
        let mut statements = Vec::new();
        if counted.is_none() && found.is_any() {
            statements.push(limits::counts(&project, workflows));
        }
        if claimable.is_none() {
            statements.push(unlimited());
        }
        if !statements.is_empty() {
            let mut answers = batch.send(statements).await?;
            claimable = if claimable.is_none() { answers.pop() } else { claimable };
            counted = counted.or_else(|| answers.pop());
        }
        limits::take_counts(&mut part.tables, &project, &counted.unwrap_or_default())?;
    }
    for rows in [&suspect, &held, &claimable.unwrap_or_default()] {
        add(&mut part, rows, &mut begun)?;
    }
    if guessed.is_none() && found.is_any() {
        let mut claim = LimitedClaim { batch, part: &mut part, begun: &mut begun, search, may_take_suspect };
        claim.read(&limited).await?;
    }
    batch.expected_limits().set(found);
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
        add_run(part, Columns::of(row).run_row()?, begun);
    }
    Ok(())
}

fn add_run(part: &mut Part, row: RunRow, begun: &mut Vec<i64>) {
    if part.stored_runs.insert(row.run.id.clone(), row.no).is_some() {
        return;
    }
    if row.run.started_at.is_some() {
        begun.push(count_to_sql(row.no));
    }
    part.tables.add_run(row);
}

/// The same for the runs of a limit, from [`queries::RUNS_UNDER_LIMIT`], with its use.
fn add_under(
    part: &mut Part,
    (project, limit): (&Arc<str>, &PlainLimit),
    rows: &[Row],
    begun: &mut Vec<i64>,
) -> Result<(), PgError> {
    for row in rows {
        let mut columns = Columns::of(row);
        limits::set_use(&mut part.tables, project, &limit.name, columns.small_count()?);
        if columns.is_null()? {
            // The limit has no room, or no run is queued.
            continue;
        }
        add_run(part, columns.run_row()?, begun);
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
    /// Reads the runs of these workflows for which the limits leave room: they are locked, and then
    /// their use was counted.
    async fn read(&mut self, workflows: &[Arc<str>]) -> Result<(), PgError> {
        let rooms = self.part.tables.rooms(self.search.project, workflows, self.batch.now());
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
