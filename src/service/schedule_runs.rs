//! Requests that start runs of a schedule: triggers and backfills.

use super::calendars;
use super::context::{NextStep, RequestContext};
use super::request::InputChange;
use super::response::{spec_or_blank, to_json};
use super::runs::{created, random_number, shortened};
use super::schedules::{EDIT_TRIES_MAX, PAGE_MAX, find, page};
use crate::calendar::Timestamp;
use crate::error::Error;
use crate::model::backfill;
use crate::model::{NewRun, Origin, Overlap, Run, RunId, RunState, Schedule};
use crate::store::{Answer, Command, Patch, Rejection, RunFilter, StoreWrites};
use serde_json::json;
use std::sync::Arc;

/// Slot limit of one backfill: a year of a schedule that fires every five minutes.
const BACKFILL_MAX: usize = 105_408;

fn run_of(
    context: &RequestContext,
    schedule: &Schedule,
    zone: &Arc<str>,
    id: RunId,
    origin: Origin,
    slot: Timestamp,
) -> NewRun {
    NewRun {
        id,
        project: Arc::clone(&context.project),
        workflow: Arc::clone(&schedule.workflow),
        key: Arc::clone(&schedule.key),
        schedule_id: Some(schedule.id.clone()),
        slot: Some(slot),
        last_slot: schedule.last_slot,
        upcoming: schedule.next_slot,
        timezone: Arc::clone(zone),
        origin,
        payload: None,
        input: schedule.input.clone(),
        available_at: context.now(),
        behind: false,
        revokes_claims: false,
        revision: None,
        parent: None,
        idempotency_key: None,
        together: None,
        claim_for: None,
        priority: spec_or_blank(schedule).priority,
    }
}

/// Starts a run now, with `input` instead of the schedule's, if it is given.
pub(super) fn trigger(
    context: &RequestContext,
    id: &str,
    applies_overlap: bool,
    input: Option<&InputChange>,
) -> Result<NextStep, Error> {
    let new_trigger = |schedule: &Schedule, overlap: Overlap, zone: &Arc<str>| {
        let now = context.now();
        let run_id = RunId::new(now, random_number());
        let mut new = run_of(context, schedule, zone, run_id, Origin::Trigger, now);
        // Slots that were claimed early were decided without this run.
        new.revokes_claims = overlap != Overlap::Allow;
        if let Some(input) = input {
            new.input = input.set.as_deref().map(|raw| raw.get().into());
        }
        new
    };
    if !applies_overlap {
        let schedule = find(context, id)?;
        let spec = spec_or_blank(&schedule);
        let new = new_trigger(&schedule, spec.overlap, &spec.timezone);
        return Ok(NextStep::Commit(vec![Command::CreateRun(Box::new(new))], Box::new(created)));
    }
    for _ in 0..EDIT_TRIES_MAX {
        let schedule = find(context, id)?;
        let spec = spec_or_blank(&schedule);
        let mut new = new_trigger(&schedule, spec.overlap, &spec.timezone);
        // Fires, triggers, and backfills bump the revision: no run is added between this read and
        // the commit.
        new.revision = Some(schedule.revision);
        let stops = apply_overlap(context, &schedule, spec.overlap, &mut new)?;
        let mut commands = vec![Command::CreateRun(Box::new(new))];
        commands.extend(stops);
        let mut outcomes = context.writes.commit(&commands, context.now())?;
        match outcomes.remove(0) {
            Err(Rejection::Stale) => {}
            outcome => return created(vec![outcome]).map(NextStep::Answered),
        }
    }
    Err(Error::State(format!("the schedule `{}` changes too fast to be triggered; try again", shortened(id))))
}

/// Applies the overlap policy to a manually triggered run. Returns the commands that cancel earlier
/// runs.
fn apply_overlap(
    context: &RequestContext,
    schedule: &Schedule,
    overlap: Overlap,
    new: &mut NewRun,
) -> Result<Vec<Command>, Error> {
    let unfinished = |states: &[RunState]| {
        let filter = RunFilter {
            schedule: Some(schedule.id.clone()),
            states: states.to_vec(),
            ..RunFilter::default()
        };
        context.reads.runs(&context.project, &filter, &page(PAGE_MAX, None))
    };
    let refuse = |run: &Run, why: &str| {
        let overlap = to_json(&overlap);
        Error::State(format!(
            "the run `{}` of the schedule `{}` is {}, {why} (overlap={overlap}); wait for it, cancel it, or \
             trigger without `overlap=\"schedule\"` to start beside it",
            run.id, schedule.id, run.state
        ))
    };
    match overlap {
        Overlap::Allow => {}
        Overlap::BufferAll => new.behind = true,
        Overlap::Skip => {
            if let Some(run) = unfinished(&RunState::UNFINISHED)?.first() {
                return Err(refuse(run, "and no other may start until it ends"));
            }
        }
        Overlap::BufferOne => {
            if let Some(run) = unfinished(&[RunState::Buffered])?.first() {
                return Err(refuse(run, "and waits for an earlier run already"));
            }
            new.behind = true;
        }
        Overlap::CancelRunning => {
            new.behind = true;
            let project = &context.project;
            let cancel = |run: Run| Command::CancelRun { project: Arc::clone(project), run: run.id };
            return Ok(unfinished(&RunState::UNFINISHED)?.into_iter().map(cancel).collect());
        }
    }
    Ok(Vec::new())
}

/// How to run the slots of a backfill.
#[derive(Copy, Clone, Debug)]
pub(super) struct HowToBackfill {
    /// Whether to start nothing.
    pub dry_run: bool,
    /// Runs at most so many slots.
    pub limit: Option<usize>,
    /// How many of its runs are in progress at once; `None` leaves it to the overlap policy.
    pub concurrency: Option<u32>,
}

pub(super) fn backfill(
    context: &RequestContext,
    id: &str,
    start: Timestamp,
    end: Timestamp,
    how: &HowToBackfill,
) -> Result<NextStep, Error> {
    let schedule = find(context, id)?;
    let now = context.now();
    if end <= start {
        return Err(Error::Argument(format!("`end` ({end}) must be later than `start` ({start})")));
    }
    if end > now {
        return Err(Error::Argument(format!(
            "`end` ({end}) is in the future; a backfill is for slots that have passed, the coming ones fire by themselves"
        )));
    }
    calendars::refuse_missing(&schedule)?;
    let compiled_spec = schedule.spec.compiled().map_err(Clone::clone)?;
    let mut slots = Vec::new();
    let mut slot = compiled_spec.next(Timestamp::from_micros(start.as_micros() - 1));
    while let Some(at) = slot.filter(|at| *at < end) {
        if compiled_spec.excluded_on(at).is_none() {
            slots.push(at);
        }
        if slots.len() > BACKFILL_MAX {
            return Err(Error::Argument(format!(
                "the range has more than {BACKFILL_MAX} slots; backfill it in shorter parts"
            )));
        }
        slot = compiled_spec.next(at);
    }
    let mut left = 0;
    if how.dry_run || how.limit.is_some() {
        slots = without_runs(context, &schedule, &slots)?;
        left = slots.len();
        slots.truncate(how.limit.unwrap_or(usize::MAX));
        left -= slots.len();
    }
    if how.dry_run {
        return Ok(NextStep::Answered(json!({"slots": slots, "left": left, "id": null}).to_string()));
    }
    let backfill_id = backfill::new_id(&schedule.id, now, random_number());
    let concurrency = how.concurrency.unwrap_or(0);
    let at_once = usize::try_from(concurrency).unwrap_or(usize::MAX);
    let zone = &compiled_spec.spec().timezone;
    let is_behind = concurrency == 0 && compiled_spec.spec().overlap != Overlap::Allow;
    let commands = slots.iter().enumerate().map(|(index, slot)| {
        let run_id = RunId::of_slot(&schedule.id, *slot);
        let mut new = run_of(context, &schedule, zone, run_id, Origin::Backfill, *slot);
        new.idempotency_key = Some(backfill::key(&backfill_id, *slot, concurrency));
        new.behind = is_behind || (concurrency > 0 && index >= at_once);
        // Once is enough: one commit creates all of them.
        new.revokes_claims = (is_behind || concurrency > 0) && index == 0;
        new.last_slot = compiled_spec.prev(Timestamp::from_micros(slot.as_micros() - 1));
        new.upcoming = compiled_spec.upcoming(*slot);
        Command::CreateRun(Box::new(new))
    });
    // Slots that are due and undecided get their outcome here, so catch-up skips them.
    let is_due = |slot: &&Timestamp| schedule.next_slot.is_some_and(|next| **slot >= next);
    let settled: Vec<Timestamp> = slots.iter().filter(is_due).copied().collect();
    let settle = (!settled.is_empty()).then(|| Command::PatchSchedule {
        project: Arc::clone(&context.project),
        id: schedule.id.clone(),
        revision: None,
        patch: Box::new(Patch { settled, ..Patch::default() }),
    });
    let settle_count = usize::from(settle.is_some());
    let commands = settle.into_iter().chain(commands).collect();
    Ok(NextStep::Commit(
        commands,
        Box::new(move |mut outcomes| {
            for settled in outcomes.drain(..settle_count) {
                settled?;
            }
            let mut created = Vec::with_capacity(outcomes.len());
            for outcome in outcomes {
                created.push(matches!(outcome?, Answer::Created { is_new: true, .. }));
            }
            let new = slots.iter().zip(created).filter(|(_, is_new)| *is_new).map(|(slot, _)| slot);
            let new: Vec<_> = new.collect();
            let id = Some(backfill_id).filter(|_| !new.is_empty());
            Ok(json!({"slots": new, "left": left, "id": id}).to_string())
        }),
    ))
}

/// The slots that have no run yet.
fn without_runs(
    context: &RequestContext,
    schedule: &Schedule,
    slots: &[Timestamp],
) -> Result<Vec<Timestamp>, Error> {
    let mut missing = Vec::new();
    for slot in slots {
        if context.reads.run(&context.project, &RunId::of_slot(&schedule.id, *slot))?.is_none() {
            missing.push(*slot);
        }
    }
    Ok(missing)
}
