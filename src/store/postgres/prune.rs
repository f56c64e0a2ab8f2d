//! Forgetting what is old.
//!
//! A run is looked at once when it is old enough. One that is still among the newest of its schedule is laid aside
//! (`kept`), so that the next sweep doesn't meet it again; a new run of the schedule, or a smaller `keep`, brings it
//! back. The work of a sweep is therefore bounded by what has changed, not by what is kept.

use super::batch::Batch;
use super::error::PgError;
use super::locked::one_of;
use super::pipeline::Statement;
use super::rows::{Args, Columns, limit_to_sql};
use crate::calendar::Timestamp;
use crate::store::{Answer, Command, Rejection};
use std::sync::Arc;

/// Runs looked at for each that may go.
const LOOKS_PER_RUN: usize = 8;
/// Fewest runs looked at.
const LOOKS_MIN: usize = 1000;

pub(super) async fn prune(
    batch: &mut Batch<'_>,
    command: &Command,
) -> Result<Result<Answer, Rejection>, PgError> {
    let Command::Prune { project, before, keep, limit } = command else { return Ok(Err(Rejection::Stale)) };
    let looks = limit.saturating_mul(LOOKS_PER_RUN).max(LOOKS_MIN);
    reconsider(batch, project, *keep, looks).await?;
    let old = old_runs(batch, project, *before, *keep, looks).await?;
    let mut gone = Vec::new();
    let mut kept = Vec::new();
    let mut of_schedules = Vec::new();
    for run in old {
        if gone.len() == *limit {
            break;
        }
        if run.is_kept {
            kept.push(run.no);
            of_schedules.extend(run.schedule);
        } else {
            gone.push(run.no);
        }
    }
    let pruned = gone.len();
    let mut statements = Vec::new();
    if !kept.is_empty() {
        statements.extend(lay_aside(kept, *keep, &of_schedules));
    }
    if !gone.is_empty() {
        statements.extend(forget(gone));
    }
    let place = statements.len();
    statements.push(forget_lines(project, *before, limit - pruned));
    let answers = batch.send(statements).await?;
    batch.has_written = true;
    let lines = answers.get(place).map_or(0, Vec::len);
    batch.save(Vec::new()).await?;
    Ok(Ok(Answer::Count((pruned + lines) as u64)))
}

/// An old run that was not laid aside.
struct OldRun {
    no: i64,
    schedule: Option<Arc<str>>,
    is_kept: bool,
}

/// Runs that were laid aside when more were kept.
async fn reconsider(batch: &mut Batch<'_>, project: &str, keep: u32, looks: usize) -> Result<(), PgError> {
    let mut args = Args::default();
    let (project, keep) = (args.text(project), args.int(i64::from(keep)));
    let looks = args.int(limit_to_sql(looks));
    let runs = one_of(
        "no",
        &format!(
            "SELECT no FROM @run WHERE project = ${project} AND kept > ${keep} AND finished_at IS NOT NULL \
             LIMIT ${looks} FOR UPDATE SKIP LOCKED"
        ),
    );
    let sql = format!("UPDATE @run SET kept = 0 WHERE {runs}");
    batch.query(sql, args).await.map(drop)
}

async fn old_runs(
    batch: &mut Batch<'_>,
    project: &str,
    before: Timestamp,
    keep: u32,
    looks: usize,
) -> Result<Vec<OldRun>, PgError> {
    let mut args = Args::default();
    let (project, before) = (args.text(project), args.int(before.as_micros()));
    let (keep, looks) = (args.int(i64::from(keep)), args.int(limit_to_sql(looks)));
    let sql = format!(
        "WITH o AS (SELECT no, schedule_id, slot, finished_at FROM @run WHERE project = ${project} AND kept = 0 \
         AND finished_at < ${before} ORDER BY finished_at, no LIMIT ${looks} FOR UPDATE SKIP LOCKED) \
         SELECT o.no, o.schedule_id, o.schedule_id IS NOT NULL AND o.slot IS NOT NULL AND (SELECT count(*) FROM \
         (SELECT FROM @run n WHERE n.schedule_id = o.schedule_id AND (n.slot, n.no) > (o.slot, o.no) LIMIT ${keep}) x) \
         < ${keep} FROM o ORDER BY o.finished_at, o.no"
    );
    let mut runs = Vec::new();
    for row in batch.query(sql, args).await? {
        let mut columns = Columns::of(&row);
        runs.push(OldRun {
            no: columns.int()?,
            schedule: columns.optional_text()?,
            is_kept: columns.flag()?,
        });
    }
    Ok(runs)
}

fn lay_aside(runs: Vec<i64>, keep: u32, schedules: &[Arc<str>]) -> [Statement<'_>; 2] {
    let mut args = Args::default();
    let (runs, keep) = (args.ints(runs), args.int(i64::from(keep)));
    let kept = format!("UPDATE @run SET kept = ${keep} WHERE no = ANY(${runs})");
    let mut note = Args::default();
    let ids = note.texts(schedules.iter().map(|id| &**id));
    let noted =
        format!("UPDATE @schedule SET has_kept_run = true WHERE id = ANY(${ids}) AND NOT has_kept_run");
    [Statement::Query(kept, args), Statement::Query(noted, note)]
}

fn forget<'a>(runs: Vec<i64>) -> [Statement<'a>; 2] {
    let mut of_steps = Args::default();
    let all = of_steps.ints(runs.iter().copied());
    let steps = format!("DELETE FROM @step WHERE run = ANY(${all})");
    let mut args = Args::default();
    let all = args.ints(runs);
    let runs = format!("DELETE FROM @run WHERE no = ANY(${all})");
    [Statement::Query(steps, of_steps), Statement::Query(runs, args)]
}

fn forget_lines(project: &str, before: Timestamp, limit: usize) -> Statement<'_> {
    let mut args = Args::default();
    let (project, before) = (args.text(project), args.int(before.as_micros()));
    let limit = args.int(limit_to_sql(limit));
    let lines = one_of(
        "no",
        &format!(
            "SELECT no FROM @ledger WHERE project = ${project} AND until_slot < ${before} \
             ORDER BY until_slot, no LIMIT ${limit} FOR UPDATE SKIP LOCKED"
        ),
    );
    Statement::Query(format!("DELETE FROM @ledger WHERE {lines} RETURNING no"), args)
}
