//! Requests to skip coming slots of a schedule, and to undo skips.
//!
//! A skip is in the ledger from the moment of the request, and its slot is no slot of the schedule
//! any more. Until the slot passes, this is provisional: undoing the skip deletes the line, and the
//! slot gets its only outcome when it comes due.

use super::context::{NextStep, RequestContext};
use super::schedules::{edit, page};
use crate::calendar::Timestamp;
use crate::error::Error;
use crate::model::spec::CompiledSpec;
use crate::model::{LedgerLine, Schedule, ScheduleStatus, SlotOutcome};
use crate::store::Patch;

/// How many coming slots of one schedule may be skipped. More are a case for excluded dates.
const SKIPS_MAX: usize = 1_000;

/// So many slots are named in an error.
const NAMED_MAX: usize = 5;

/// Which coming slots to skip.
#[derive(Copy, Clone, Debug)]
pub(super) enum Which {
    /// The next ones that would run.
    Next(usize),
    /// The slot at this instant.
    At(Timestamp),
}

pub(super) fn skip(context: &RequestContext, id: &str, which: Which) -> Result<NextStep, Error> {
    edit(context, id, |schedule, now| {
        let slots = match which {
            Which::Next(count) => next_slots(schedule, count, now)?,
            Which::At(at) => slot_at(schedule, at, now)?,
        };
        let pending = schedule.settled_slots().into_iter().filter(|slot| *slot > now).count();
        if pending + slots.len() > SKIPS_MAX {
            return Err(Error::State(format!(
                "{pending} coming slots of the schedule `{}` are skipped, and at most {SKIPS_MAX} can be; pause it, or \
                 leave out dates with its option `skip`",
                schedule.id
            )));
        }
        let line = |slot| LedgerLine {
            from: slot,
            until: slot,
            count: 1,
            outcome: SlotOutcome::Skipped,
            reason: "skipped on request".into(),
        };
        Ok(Patch { ledger: slots.into_iter().map(line).collect(), ..Patch::default() })
    })
}

/// The next slots that would run, at most `count`.
fn next_slots(schedule: &Schedule, count: usize, now: Timestamp) -> Result<Vec<Timestamp>, Error> {
    let compiled_spec = schedule.compiled_spec().map_err(Clone::clone)?;
    let Some(next) = schedule.next_slot else {
        return Err(Error::State(format!("the schedule `{}` has no coming slot to skip", schedule.id)));
    };
    if next <= now && schedule.status != ScheduleStatus::Paused {
        // A worker may be starting it at this moment.
        return Err(is_due(schedule, &compiled_spec, next));
    }
    let mut slots = Vec::new();
    let mut slot = if next > now { Some(next) } else { compiled_spec.next(now) };
    while let Some(at) = slot.filter(|_| slots.len() < count) {
        if compiled_spec.excluded_on(at).is_none() {
            slots.push(at);
        }
        slot = compiled_spec.upcoming(at);
    }
    if slots.is_empty() {
        return Err(Error::State(format!("the schedule `{}` has no coming slot to skip", schedule.id)));
    }
    Ok(slots)
}

fn is_due(schedule: &Schedule, compiled_spec: &CompiledSpec, slot: Timestamp) -> Error {
    Error::State(format!(
        "the slot {} of the schedule `{}` is due already; cancel its run instead",
        compiled_spec.local(slot),
        schedule.id
    ))
}

/// The slot at exactly this instant; none if it is skipped already.
fn slot_at(schedule: &Schedule, at: Timestamp, now: Timestamp) -> Result<Vec<Timestamp>, Error> {
    let compiled_spec = schedule.spec.compiled().map_err(Clone::clone)?;
    let id = &schedule.id;
    let is_moved = || schedule.compiled_spec().is_ok_and(|spec| spec.prev(at) == Some(at));
    if compiled_spec.prev(at) != Some(at) && schedule.next_slot != Some(at) && !is_moved() {
        let before =
            compiled_spec.prev(at).map(|slot| format!("the one before is {}", compiled_spec.local(slot)));
        let after =
            compiled_spec.next(at).map(|slot| format!("the one after is {}", compiled_spec.local(slot)));
        let neighbors: Vec<_> = before.into_iter().chain(after).collect();
        let neighbors =
            if neighbors.is_empty() { "it has none".to_owned() } else { neighbors.join(", and ") };
        return Err(Error::Argument(format!(
            "at: the schedule `{id}` has no slot at {}; {neighbors}",
            compiled_spec.local(at)
        )));
    }
    if at <= now {
        return Err(is_due(schedule, compiled_spec, at));
    }
    if let Some(date) = compiled_spec.excluded_on(at) {
        return Err(Error::State(format!(
            "the slot {} of the schedule `{id}` will not run anyway: {date} is excluded",
            compiled_spec.local(at)
        )));
    }
    refuse_used_up(schedule, compiled_spec)?;
    let is_skipped = schedule.settled_slots().contains(&at);
    Ok(if is_skipped { Vec::new() } else { vec![at] })
}

fn refuse_used_up(schedule: &Schedule, compiled_spec: &CompiledSpec) -> Result<(), Error> {
    match compiled_spec.spec().max_runs {
        Some(max) if schedule.run_count >= max && schedule.status == ScheduleStatus::Finished => {
            Err(Error::State(format!(
                "the schedule `{}` is finished: it has had all of its `max_runs`, {max}",
                schedule.id
            )))
        }
        _ => Ok(()),
    }
}

/// Undoes the skip of the slot at this instant, or all skips of coming slots.
pub(super) fn unskip(context: &RequestContext, id: &str, at: Option<Timestamp>) -> Result<NextStep, Error> {
    edit(context, id, |schedule, now| {
        let compiled_spec = schedule.spec.compiled().map_err(Clone::clone)?;
        let skipped = skipped_slots(context, schedule, now)?;
        let unskipped = match at {
            Some(at) if skipped.contains(&at) => vec![at],
            Some(at) => return Err(is_not_skipped(schedule, compiled_spec, at, &skipped)),
            None => skipped,
        };
        if !unskipped.is_empty() {
            refuse_used_up(schedule, compiled_spec)?;
        }
        Ok(Patch { unskipped, ..Patch::default() })
    })
}

/// The coming slots that are skipped on request, in order. A slot that a changed cadence no longer
/// has is not among them: there is nothing to undo.
fn skipped_slots(
    context: &RequestContext,
    schedule: &Schedule,
    now: Timestamp,
) -> Result<Vec<Timestamp>, Error> {
    let compiled_spec = schedule.spec.compiled().map_err(Clone::clone)?;
    let mut settled = schedule.settled_slots();
    let moved = schedule.moved_slots();
    let will_move = schedule.bound(compiled_spec).without(Vec::new());
    let is_slot = |slot: Timestamp| {
        [&**compiled_spec, &will_move].iter().any(|spec| spec.prev(slot) == Some(slot))
            || moved.contains(&slot)
    };
    settled.retain(|slot| *slot > now && is_slot(*slot));
    if settled.is_empty() {
        return Ok(settled);
    }
    // A slot that a worker with a faster clock has backfilled is settled too, but it has a run.
    let lines = page(settled.len() + SKIPS_MAX, None);
    let lines = context.reads.history(&context.project, &schedule.id, &lines)?.unwrap_or_default();
    let is_skip = |slot: &Timestamp| {
        let mut of_slot = lines.iter().filter(|line| (line.from..=line.until).contains(slot));
        of_slot.all(|line| line.outcome == SlotOutcome::Skipped && line.run.is_none())
    };
    settled.retain(is_skip);
    Ok(settled)
}

fn is_not_skipped(
    schedule: &Schedule,
    compiled_spec: &CompiledSpec,
    at: Timestamp,
    skipped: &[Timestamp],
) -> Error {
    let named: Vec<_> = skipped.iter().take(NAMED_MAX).map(|slot| compiled_spec.local(*slot)).collect();
    let rest = skipped.len() - named.len();
    let known = match named.as_slice() {
        [] => "no coming slot is".to_owned(),
        _ if rest > 0 => format!("skipped are {}, and {rest} more", named.join(", ")),
        _ => format!("skipped are {}", named.join(", ")),
    };
    Error::State(format!(
        "no coming slot of the schedule `{}` at {} is skipped; {known}",
        schedule.id,
        compiled_spec.local(at)
    ))
}
