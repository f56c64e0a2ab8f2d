//! Requests about backfills: what has become of their runs, and cancelling them as a whole.

use super::context::{NextStep, RequestContext};
use super::response::to_json;
use super::runs::shortened;
use super::schedules::PAGE_MAX;
use crate::error::Error;
use crate::model::{RunState, ScheduleId, backfill};
use crate::store::{Command, KeyedRun, StoreWrites};
use serde::Serialize;
use std::sync::Arc;

/// Runs that one transaction cancels.
const CANCELLED_AT_ONCE: usize = 1_000;

/// Most backfills in a list.
const LISTED_MAX: usize = 1_000;

/// A backfill as shown to users.
#[derive(Serialize)]
struct BackfillResponse {
    id: Arc<str>,
    schedule_id: ScheduleId,
    workflow: Arc<str>,
    /// `None` where the overlap policy decides.
    concurrency: Option<u32>,
    succeeded: usize,
    failed: usize,
    cancelled: usize,
    /// In progress.
    running: usize,
    /// Not started.
    waiting: usize,
}

/// All runs of a backfill.
fn runs_of(context: &RequestContext, workflow: &str, id: &str) -> Result<Vec<KeyedRun>, Error> {
    let (mut after, end) = backfill::keys(id);
    let mut runs = Vec::new();
    loop {
        let page = context.reads.runs_with_keys(&context.project, workflow, (&after, &end), PAGE_MAX)?;
        let is_last = page.len() < PAGE_MAX;
        runs.extend(page);
        match runs.last() {
            Some(last) if !is_last => after = last.key.to_string(),
            _ => return Ok(runs),
        }
    }
}

/// The workflow of a backfill, and its runs.
fn find(context: &RequestContext, id: &str) -> Result<(ScheduleId, Arc<str>, Vec<KeyedRun>), Error> {
    let missing = || Error::BackfillNotFound(shortened(id));
    let schedule = backfill::schedule_of(id).ok_or_else(missing)?;
    let schedule = context.reads.schedule(&context.project, &schedule)?.ok_or_else(missing)?;
    let runs = runs_of(context, &schedule.workflow, id)?;
    if runs.is_empty() {
        return Err(missing());
    }
    Ok((schedule.id, schedule.workflow, runs))
}

fn response(id: &str, schedule_id: ScheduleId, workflow: Arc<str>, runs: &[KeyedRun]) -> BackfillResponse {
    let count = |states: &[RunState]| runs.iter().filter(|run| states.contains(&run.state)).count();
    let concurrency = runs.first().and_then(|run| backfill::parse_key(&run.key));
    BackfillResponse {
        id: id.into(),
        schedule_id,
        workflow,
        concurrency: concurrency.map(|(_, concurrency)| concurrency).filter(|concurrency| *concurrency > 0),
        succeeded: count(&[RunState::Succeeded]),
        failed: count(&[RunState::Failed]),
        cancelled: count(&[RunState::Cancelled]),
        running: count(&[RunState::Running, RunState::Waiting]),
        waiting: count(&[RunState::Queued, RunState::Buffered]),
    }
}

pub(super) fn get(context: &RequestContext, id: &str) -> Result<NextStep, Error> {
    let (schedule, workflow, runs) = find(context, id)?;
    Ok(NextStep::Answered(to_json(&response(id, schedule, workflow, &runs))))
}

/// Lists the backfills whose runs are stored, by workflow and schedule. Jumps from one to the next
/// in the index of idempotency keys.
pub(super) fn list(context: &RequestContext) -> Result<NextStep, Error> {
    let mut found = Vec::new();
    for entry in context.reads.workflows(&context.project)? {
        let mut after = backfill::KEYS.to_owned();
        while found.len() < LISTED_MAX {
            let range = (&*after, backfill::BEHIND_KEYS);
            let first = context.reads.runs_with_keys(&context.project, &entry.id, range, 1)?;
            let Some((id, _)) = first.first().and_then(|run| backfill::parse_key(&run.key)) else { break };
            if let Some(schedule) = backfill::schedule_of(id) {
                let runs = runs_of(context, &entry.id, id)?;
                found.push(response(id, schedule, Arc::clone(&entry.id), &runs));
            }
            after = backfill::keys(id).1;
        }
    }
    Ok(NextStep::Answered(to_json(&found)))
}

/// Cancels what is unfinished, the last slots first, so that none of them starts in between.
pub(super) fn cancel(context: &RequestContext, id: &str) -> Result<NextStep, Error> {
    let (schedule, workflow, mut runs) = find(context, id)?;
    // A worker may start one while others are cancelled, which the next pass sees.
    loop {
        let mut pending: Vec<&KeyedRun> = runs
            .iter()
            .filter(|run| matches!(run.state, RunState::Buffered | RunState::Queued | RunState::Waiting))
            .collect();
        // Buffered ones before those whose end would start them.
        pending.sort_by_key(|run| (run.state != RunState::Buffered, std::cmp::Reverse(run.key.clone())));
        let is_done = pending.is_empty();
        let running = runs.iter().filter(|run| is_done && run.state == RunState::Running);
        let commands: Vec<Command> = pending
            .into_iter()
            .chain(running)
            .map(|run| Command::CancelRun { project: Arc::clone(&context.project), run: run.run.clone() })
            .collect();
        for chunk in commands.chunks(CANCELLED_AT_ONCE) {
            context.writes.commit(chunk, context.now())?;
        }
        runs = runs_of(context, &workflow, id)?;
        if is_done {
            return Ok(NextStep::Answered(to_json(&response(id, schedule, workflow, &runs))));
        }
    }
}
