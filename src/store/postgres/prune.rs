//! Prunes old runs and old lines of the ledger.
//!
//! A prune looks at a run once when it is old enough. It marks a run that is still among the newest
//! of its schedule (`kept`), so that later prunes skip it. A new run of the schedule, or a smaller
//! `keep`, removes the mark. So the work of a prune depends on what has changed, not on what is
//! kept.

use super::batch::Batch;
use super::error::PgError;
use super::pipeline::Statement;
use super::queries;
use super::rows::{Args, Columns, limit_to_sql};
use crate::calendar::Timestamp;
use crate::store::row_reader::RowReader;
use crate::store::{Answer, Command, Rejection};
use std::sync::Arc;

/// How many runs to look at for each run that may be deleted.
const LOOKS_PER_RUN: usize = 8;
/// The fewest runs to look at.
const LOOKS_MIN: usize = 1000;

pub(super) async fn prune(
    batch: &mut Batch<'_>,
    command: &Command,
) -> Result<Result<Answer, Rejection>, PgError> {
    let Command::Prune { project, before, keep, limit } = command else { return Ok(Err(Rejection::Stale)) };
    let looks = limit.saturating_mul(LOOKS_PER_RUN).max(LOOKS_MIN);
    reconsider(batch, project, *keep, looks).await?;
    let old = old_runs(batch, project, *before, *keep, looks).await?;
    let mut deleted = Vec::new();
    let mut kept = Vec::new();
    let mut of_schedules = Vec::new();
    for run in old {
        if deleted.len() == *limit {
            break;
        }
        if run.is_kept {
            kept.push(run.no);
            of_schedules.extend(run.schedule);
        } else {
            deleted.push(run.no);
        }
    }
    let pruned = deleted.len();
    let mut statements = Vec::new();
    if !kept.is_empty() {
        statements.extend(mark_kept(kept, *keep, &of_schedules));
    }
    if !deleted.is_empty() {
        statements.extend(delete(deleted));
    }
    let place = statements.len();
    statements.push(prune_ledger(project, *before, limit - pruned));
    statements.push(prune_hook_calls(project, *before));
    let answers = batch.send(statements).await?;
    batch.has_written = true;
    let lines = answers.get(place).map_or(0, Vec::len);
    let schedules = finished_once(batch, project, *before, limit - pruned - lines).await?;
    let count = pruned + lines + schedules.len();
    batch.save(if schedules.is_empty() { Vec::new() } else { delete_schedules(&schedules).into() }).await?;
    Ok(Ok(Answer::Count(count as u64)))
}

/// Finished one-off schedules whose runs are all old.
async fn finished_once(
    batch: &mut Batch<'_>,
    project: &str,
    before: Timestamp,
    limit: usize,
) -> Result<Vec<Arc<str>>, PgError> {
    let mut args = Args::default();
    args.text(project);
    args.int(before.as_micros());
    args.int(limit_to_sql(limit));
    let rows = batch.query(queries::FINISHED_ONCE, args).await?;
    rows.iter().map(|row| Ok(Columns::of(row).text()?)).collect()
}

/// Deletes schedules with their steps, runs, and ledger.
fn delete_schedules(ids: &[Arc<str>]) -> [Statement<'_>; 4] {
    [
        queries::DELETE_STEPS_OF_SCHEDULES,
        queries::DELETE_RUNS_OF_SCHEDULES,
        queries::DELETE_LEDGER_OF_SCHEDULES,
        queries::DELETE_SCHEDULES,
    ]
    .map(|statement| {
        let mut args = Args::default();
        args.texts(ids.iter().map(|id| &**id));
        Statement::Query(statement, args)
    })
}

/// An old run without the mark.
struct OldRun {
    no: i64,
    schedule: Option<Arc<str>>,
    is_kept: bool,
}

/// Removes the marks of runs that were kept while more were kept.
async fn reconsider(batch: &mut Batch<'_>, project: &str, keep: u32, looks: usize) -> Result<(), PgError> {
    let mut args = Args::default();
    args.text(project);
    args.int(i64::from(keep));
    args.int(limit_to_sql(looks));
    batch.query(queries::RECONSIDER_FOR_FEWER, args).await.map(drop)
}

async fn old_runs(
    batch: &mut Batch<'_>,
    project: &str,
    before: Timestamp,
    keep: u32,
    looks: usize,
) -> Result<Vec<OldRun>, PgError> {
    let mut args = Args::default();
    args.text(project);
    args.int(before.as_micros());
    args.int(i64::from(keep));
    args.int(limit_to_sql(looks));
    let mut runs = Vec::new();
    for row in batch.query(queries::OLD_RUNS, args).await? {
        let mut columns = Columns::of(&row);
        runs.push(OldRun {
            no: columns.int()?,
            schedule: columns.optional_text()?,
            is_kept: columns.flag()?,
        });
    }
    Ok(runs)
}

/// Marks runs as kept, and records that their schedules have such runs.
fn mark_kept(runs: Vec<i64>, keep: u32, schedules: &[Arc<str>]) -> [Statement<'_>; 2] {
    let mut args = Args::default();
    args.ints(runs);
    args.int(i64::from(keep));
    let mut noted = Args::default();
    noted.texts(schedules.iter().map(|id| &**id));
    [Statement::Query(queries::KEEP_RUNS, args), Statement::Query(queries::NOTE_KEPT_RUNS, noted)]
}

/// Deletes runs with their steps.
fn delete<'a>(runs: Vec<i64>) -> [Statement<'a>; 2] {
    let mut of_steps = Args::default();
    of_steps.ints(runs.iter().copied());
    let mut args = Args::default();
    args.ints(runs);
    [Statement::Query(queries::DELETE_STEPS_OF_RUNS, of_steps), Statement::Query(queries::DELETE_RUNS, args)]
}

fn prune_hook_calls(project: &str, before: Timestamp) -> Statement<'_> {
    let mut args = Args::default();
    args.text(project);
    args.int(before.as_micros());
    Statement::Query(queries::PRUNE_HOOK_CALLS, args)
}

fn prune_ledger(project: &str, before: Timestamp, limit: usize) -> Statement<'_> {
    let mut args = Args::default();
    args.text(project);
    args.int(before.as_micros());
    args.int(limit_to_sql(limit));
    Statement::Query(queries::PRUNE_LEDGER, args)
}
