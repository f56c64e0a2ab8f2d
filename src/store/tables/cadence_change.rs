//! How a new cadence changes a schedule: its next slot, and the slots that it leaves without a run.
//!
//! Every slot gets exactly one outcome. So a change considers what is known about the schedule's
//! slots, and not only the time: slots that are due and undecided, coming slots that already have
//! an outcome, and slots that a faster clock has run.

use super::transitions::missed_until;
use crate::calendar::Timestamp;
use crate::model::missed::MissedSpan;
use crate::model::spec::CompiledSpec;
use crate::model::{LedgerLine, Schedule, ScheduleStatus, StoredSpec};
use std::sync::Arc;

/// Why a due slot of a changed schedule has no run.
pub(super) const CHANGED: &str = "the schedule was changed";

/// If the newest run is further ahead than this, a clock was wrong. That must not silence the
/// schedule.
const AHEAD_MAX_US: i64 = 86_400_000_000;

/// The effect of a new specification on a schedule.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct CadenceChange {
    /// The next slot.
    pub next_slot: Option<Timestamp>,
    /// Ledger lines of the due slots of the old cadence that the new one doesn't have.
    pub lines: Vec<LedgerLine>,
    /// Whether lateness counts from now, because the due slots belong to another cadence.
    pub starts_now: bool,
}

impl CadenceChange {
    /// Replaces the specification of `schedule` with `spec`. The caller computed `given` as its
    /// first slot from now.
    pub fn new(schedule: &Schedule, spec: &StoredSpec, given: Option<Timestamp>, now: Timestamp) -> Self {
        let due = matches!(schedule.status, ScheduleStatus::Active | ScheduleStatus::Paused)
            .then_some(schedule.next_slot)
            .flatten()
            .filter(|slot| *slot <= now);
        let Ok(new) = spec.compiled() else {
            let lines = if due.is_some() { missed_until(schedule, now, CHANGED) } else { Vec::new() };
            return Self { next_slot: given, lines, starts_now: true };
        };
        let new = (**new).clone().without(schedule.settled_slots());
        let floor = floor(schedule, now);
        let first_on_grid = pick(given, floor, &new);
        let old = schedule.compiled_spec().ok();
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
            // A one-off in the past may be a slot that is due already. It stays due.
            Some(_) => missed_except(schedule, now, first.filter(|slot| *slot <= now)),
            None => Vec::new(),
        };
        Self { next_slot: first, lines, starts_now: true }
    }

    /// Changes only the bounds: slots that are due and within the bounds stay due. If the new end
    /// excludes a due slot, all due slots are missed, because the next slot lies after everything
    /// on record.
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

/// The ledger lines of the due slots of `schedule`, without the one that stays due.
fn missed_except(schedule: &Schedule, now: Timestamp, kept: Option<Timestamp>) -> Vec<LedgerLine> {
    let (Some(kept), Some(first), Ok(compiled_spec)) = (kept, schedule.next_slot, schedule.compiled_spec())
    else {
        return missed_until(schedule, now, CHANGED);
    };
    let mut settled = schedule.settled_slots();
    settled.push(kept);
    settled.sort_unstable();
    let compiled_spec = Arc::unwrap_or_clone(compiled_spec).without(settled);
    MissedSpan::new(&compiled_spec, Some(first).filter(|first| *first != kept)).missed(first, now, CHANGED)
}

/// The instant after which the next slot must lie. A slot that a faster clock has run must not run
/// again.
pub(super) fn floor(schedule: &Schedule, now: Timestamp) -> Timestamp {
    let limit = now.as_micros().saturating_add(AHEAD_MAX_US);
    schedule.last_slot.filter(|slot| slot.as_micros() <= limit).map_or(now, |slot| slot.max(now))
}

/// The first slot of a schedule that becomes active again. A slot that was decided or skipped is
/// not repeated.
pub(super) fn first_after_return(
    schedule: &Schedule,
    spec: &StoredSpec,
    given: Option<Timestamp>,
    now: Timestamp,
) -> Option<Timestamp> {
    let Ok(new) = spec.compiled() else { return given };
    let new = (**new).clone().without(schedule.settled_slots());
    let floor = floor(schedule, now);
    let first = pick(given, floor, &new).unwrap_or_else(|| match schedule.spec.compiled() {
        Ok(old) if old.has_same_grid(&new) => new.next(floor),
        _ => first_of_another(schedule, &new, floor),
    });
    // The caller does not know of slots that were moved.
    let is_coming = |slot: &Timestamp| *slot > floor && new.settled().binary_search(slot).is_err();
    let moved = schedule.moved_slots().into_iter().find(is_coming);
    first.into_iter().chain(moved).min()
}

/// The slot that the caller computed, if it still is the next slot without an outcome; otherwise
/// `None`.
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
