//! What a new cadence does to a schedule: its next slot, and the slots that it leaves without a run.
//!
//! Every slot gets one outcome. A change therefore starts from what is known of the slots of the
//! schedule, and not from the time alone: slots that are due and not decided, slots that have an
//! outcome although they are still to come, and slots that a faster clock has run.

use super::transitions::missed_until;
use crate::calendar::Timestamp;
use crate::model::missed::MissedSpan;
use crate::model::spec::CompiledSpec;
use crate::model::{LedgerLine, Schedule, ScheduleStatus};

/// Why a due slot of a changed schedule made no run.
pub(super) const CHANGED: &str = "the schedule was changed";

/// A newest run further ahead than this is a mistake of a clock, which must not silence the schedule.
const AHEAD_MAX_US: i64 = 86_400_000_000;

/// What a new specification makes of a schedule.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct CadenceChange {
    /// The next slot.
    pub next_slot: Option<Timestamp>,
    /// Due slots of the old cadence that the new one doesn't have.
    pub lines: Vec<LedgerLine>,
    /// Whether the slots that are due are late from now on: they belong to another cadence.
    pub starts_now: bool,
}

impl CadenceChange {
    /// Replaces the specification of `schedule` by `spec`, whose first slot from now is `given`.
    pub fn new(schedule: &Schedule, spec: &str, given: Option<Timestamp>, now: Timestamp) -> Self {
        let due = matches!(schedule.status, ScheduleStatus::Active | ScheduleStatus::Paused)
            .then_some(schedule.next_slot)
            .flatten()
            .filter(|slot| *slot <= now);
        let Ok(new) = CompiledSpec::parse(spec) else {
            let lines = if due.is_some() { missed_until(schedule, now, CHANGED) } else { Vec::new() };
            return Self { next_slot: given, lines, starts_now: true };
        };
        let new = new.without(schedule.settled_slots());
        let floor = floor(schedule, now);
        let first_on_grid = pick(given, floor, &new);
        let old = CompiledSpec::of(schedule).ok();
        if let Some(old) = old.filter(|old| old.has_same_grid(&new)) {
            return match due {
                Some(first) => Self::keeping_due(&old, &new, first, now, floor),
                None => Self {
                    next_slot: first_on_grid.unwrap_or_else(|| new.next(floor)),
                    lines: Vec::new(),
                    starts_now: false,
                },
            };
        }
        let first = first_on_grid.unwrap_or_else(|| first_of_another(schedule, &new, floor));
        let lines = match due {
            // A one-off in the past may be a slot that is due already: it stays so.
            Some(_) => missed_except(schedule, now, first.filter(|slot| *slot <= now)),
            None => Vec::new(),
        };
        Self { next_slot: first, lines, starts_now: true }
    }

    /// Only the bounds have changed: what is due and within them stays due. Where the new end leaves
    /// out a due slot, all due slots are missed: the next slot is behind everything on record.
    fn keeping_due(
        old: &CompiledSpec,
        new: &CompiledSpec,
        first: Timestamp,
        now: Timestamp,
        floor: Timestamp,
    ) -> Self {
        let account = MissedSpan::new(old, Some(first));
        let next = new.next(micros_before(first));
        let is_cut = new.spec().end_at_us.is_some_and(|end| old.prev(now).is_some_and(|slot| slot >= end));
        let Some(next) = next.filter(|slot| *slot <= now && !is_cut) else {
            let lines = account.missed(first, now, CHANGED);
            return Self { next_slot: new.next(floor), lines, starts_now: true };
        };
        let lines = account.missed(first, micros_before(next), CHANGED);
        Self { next_slot: Some(next), lines, starts_now: false }
    }
}

/// The due slots of `schedule` as missed, without the one that stays due.
fn missed_except(schedule: &Schedule, now: Timestamp, kept: Option<Timestamp>) -> Vec<LedgerLine> {
    let (Some(kept), Some(first), Ok(compiled_spec)) = (kept, schedule.next_slot, CompiledSpec::of(schedule))
    else {
        return missed_until(schedule, now, CHANGED);
    };
    let mut settled = schedule.settled_slots();
    settled.push(kept);
    settled.sort_unstable();
    let compiled_spec = compiled_spec.without(settled);
    MissedSpan::new(&compiled_spec, Some(first).filter(|first| *first != kept)).missed(first, now, CHANGED)
}

/// No slot that has been run, by a clock ahead of ours, comes again.
pub(super) fn floor(schedule: &Schedule, now: Timestamp) -> Timestamp {
    let limit = now.as_micros().saturating_add(AHEAD_MAX_US);
    schedule.last_slot.filter(|slot| slot.as_micros() <= limit).map_or(now, |slot| slot.max(now))
}

/// The first slot of a schedule that comes back: none that was decided, or left out, comes again.
pub(super) fn first_after_return(
    schedule: &Schedule,
    spec: &str,
    given: Option<Timestamp>,
    now: Timestamp,
) -> Option<Timestamp> {
    let Ok(new) = CompiledSpec::parse(spec) else { return given };
    let new = new.without(schedule.settled_slots());
    let floor = floor(schedule, now);
    if let Some(first) = pick(given, floor, &new) {
        return first;
    }
    match CompiledSpec::parse(&schedule.spec) {
        Ok(old) if old.has_same_grid(&new) => new.next(floor),
        _ => first_of_another(schedule, &new, floor),
    }
}

/// What the caller worked out, where that still is the next slot without an outcome; `None` where it
/// is not.
fn pick(given: Option<Timestamp>, floor: Timestamp, new: &CompiledSpec) -> Option<Option<Timestamp>> {
    match given {
        None => Some(None),
        Some(slot) if slot > floor && new.settled().binary_search(&slot).is_err() => Some(Some(slot)),
        Some(_) => None,
    }
}

/// The first slot of another trigger or time zone.
fn first_of_another(schedule: &Schedule, new: &CompiledSpec, floor: Timestamp) -> Option<Timestamp> {
    new.first(floor).filter(|slot| Some(*slot) != schedule.last_slot)
}

fn micros_before(slot: Timestamp) -> Timestamp {
    Timestamp::from_micros(slot.as_micros() - 1)
}
