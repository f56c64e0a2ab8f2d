//! Claiming whatever is free. What somebody else is just claiming is passed over, not waited for.

use super::batch::Batch;
use super::error::PgError;
use super::fetch::{Fetch, Part};
use super::locked::one_of;
use super::pipeline::Statement;
use super::read_set::ReadSet;
use super::rows::{Args, Columns, RUN, RUN_ROW, STATE, STEP, count_to_sql, limit_to_sql};
use super::write_back::changes;
use crate::calendar::Timestamp;
use crate::model::RunId;
use crate::store::memory::Steps;
use crate::store::{Answer, Codes, Command, Rejection, Suspects};
use std::collections::BTreeSet;
use std::sync::Arc;

pub(super) async fn claim(
    batch: &mut Batch<'_>,
    command: &Command,
) -> Result<Result<Answer, Rejection>, PgError> {
    let Command::ClaimRuns { project, worker, workflows, limit, until, suspects, codes } = command else {
        return Ok(Err(Rejection::Stale));
    };
    let workers = BTreeSet::from([worker.as_str()]);
    let needs = ReadSet { known_workers: workers.clone(), workers, ..ReadSet::default() };
    let mut load = Fetch::first(&needs);
    let mut statements = std::mem::take(&mut load.statements);
    let may_take_suspect = *suspects != Suspects::Never;
    if may_take_suspect {
        statements.push(first_suspect(project, workflows, *until));
    }
    if let Some(codes) = codes {
        statements.push(held_for(project, codes, *limit));
    }
    statements.push(heads(project, workflows, *limit, *until));
    let mut answers = batch.send(statements).await?;
    let heads = answers.pop().unwrap_or_default();
    let held = if codes.is_some() { answers.pop().unwrap_or_default() } else { Vec::new() };
    let suspect = if may_take_suspect { answers.pop().unwrap_or_default() } else { Vec::new() };
    let mut part = Part::default();
    load.take(&mut part, &answers)?;
    if part.tables.workers.is_empty() {
        // Gone, or missed by the read; only the latter brings it now.
        part = batch.load(&needs).await?.0;
    }
    let mut begun = Vec::new();
    for head in suspect.iter().chain(&held).chain(&heads) {
        let row = Columns::of(head).run_row()?;
        part.stored_runs.insert(row.run.id.clone(), row.no);
        if row.run.started_at.is_some() {
            begun.push(count_to_sql(row.no));
        }
        part.tables.add_run(row);
    }
    // They were read, not changed.
    part.tables.touched = Some(crate::store::memory::Touched::default());
    if !begun.is_empty() {
        journals(batch, &mut part, begun).await?;
    }
    let outcome = part.tables.apply(command, batch.now());
    batch.save(changes(&part)).await?;
    Ok(outcome)
}

/// The earliest claimable runs that nobody else has locked, locked. The conditions stand twice: the outer ones are asked
/// again of a row that changed while we looked. Some more are looked at than taken, for those that are passed over.
fn heads<'c>(project: &'c str, workflows: &'c [Arc<str>], limit: usize, until: Timestamp) -> Statement<'c> {
    let mut args = Args::default();
    let workflows: BTreeSet<&str> = workflows.iter().map(|id| &**id).collect();
    let project = args.text(project);
    let workflows = args.texts(workflows);
    let until = args.int(until.as_micros());
    let looked_at = args.int(limit_to_sql(limit.saturating_mul(4).saturating_add(64)));
    let limit = args.int(limit_to_sql(limit));
    let still_free = format!(
        "{STATE} IN ('queued', 'waiting') AND NOT r.cancel_requested AND r.interruptions < 2 AND r.refused_by IS NULL"
    );
    let looked_at = one_of(
        "r.no",
        &format!(
            "SELECT h.no FROM unnest(${workflows}) AS w (id) CROSS JOIN LATERAL (SELECT r.no FROM @run r \
             WHERE r.project = ${project} AND r.workflow = w.id AND {FREE} AND r.interruptions < 2 \
             AND r.refused_by IS NULL \
             AND r.available_at <= ${until} \
             ORDER BY r.available_at, r.slot NULLS FIRST, r.id LIMIT ${looked_at}) h"
        ),
    );
    let sql = format!(
        "SELECT {RUN_ROW}, {RUN} FROM @run r WHERE {looked_at} AND {still_free} AND r.available_at <= ${until} \
         ORDER BY r.available_at, r.slot NULLS FIRST, r.id LIMIT ${limit} FOR UPDATE SKIP LOCKED"
    );
    Statement::Query(sql, args)
}

/// Neither held by a worker nor over.
const FREE: &str = "r.state IN ('queued', 'waiting') AND NOT r.cancel_requested";

/// The earliest claimable suspect that nobody else has locked, locked.
fn first_suspect<'c>(project: &'c str, workflows: &'c [Arc<str>], until: Timestamp) -> Statement<'c> {
    let mut args = Args::default();
    let project = args.text(project);
    let workflows = args.texts(workflows.iter().map(|id| &**id));
    let until = args.int(until.as_micros());
    let sql = format!(
        "SELECT {RUN_ROW}, {RUN} FROM @run r WHERE r.project = ${project} AND r.interruptions >= 2 AND {FREE} \
         AND r.refused_by IS NULL \
         AND r.workflow = ANY(${workflows}) AND r.available_at <= ${until} \
         ORDER BY r.available_at, r.slot NULLS FIRST, r.id LIMIT 1 FOR UPDATE SKIP LOCKED"
    );
    Statement::Query(sql, args)
}

/// Held runs that this code has not refused and that nobody else has locked, locked.
fn held_for<'c>(project: &'c str, codes: &'c Codes, limit: usize) -> Statement<'c> {
    let mut args = Args::default();
    let project = args.text(project);
    let workflows = args.texts(codes.keys().map(|id| &**id));
    let prints = args.texts(codes.values().map(|code| &**code));
    let limit = args.int(limit_to_sql(limit));
    let sql = format!(
        "SELECT {RUN_ROW}, {RUN} FROM @run r WHERE r.project = ${project} AND r.refused_by IS NOT NULL AND {FREE} \
         AND EXISTS (SELECT FROM unnest(${workflows}, ${prints}) AS w (id, code) WHERE w.id = r.workflow \
         AND w.code <> ALL(string_to_array(r.refused_by, ' '))) \
         ORDER BY r.id LIMIT ${limit} FOR UPDATE OF r SKIP LOCKED"
    );
    Statement::Query(sql, args)
}

/// What earlier claims of these runs recorded.
async fn journals(batch: &mut Batch<'_>, part: &mut Part, begun: Vec<i64>) -> Result<(), PgError> {
    let mut args = Args::default();
    let runs = args.ints(begun);
    let sql = format!(
        "SELECT r.id, {STEP} FROM @step t JOIN @run r ON r.no = t.run WHERE t.run = ANY(${runs}) ORDER BY t.no"
    );
    for row in batch.query(sql, args).await? {
        let mut columns = Columns::of(&row);
        let run: RunId = columns.run_id()?;
        let steps: &mut Steps = part.tables.steps.entry(run).or_default();
        steps.records.push(columns.step()?);
    }
    Ok(())
}
