//! Decides whether a stored next slot is still correct. Takes the schedule and the time; no store.
//!
//! The next slot is computed once, when the slot before it is decided. Two things can make it wrong
//! later: new zone data, and a clock that was far ahead at that time.

use crate::calendar::Timestamp;
use crate::model::spec::CompiledSpec;
use crate::model::{Schedule, ScheduleStatus};

/// How far ahead the clock must have been for its decisions to be undone. The effects of a smaller
/// error are left alone: it will be right again soon, and nothing may fire twice.
const FAR_US: i64 = 86_400_000_000;

/// The correct next slot of an active schedule; `None` if the stored one is correct.
pub fn recomputed(schedule: &Schedule, compiled_spec: &CompiledSpec, now: Timestamp) -> Option<Timestamp> {
    let stored = schedule.next_slot.filter(|slot| *slot > now)?;
    if schedule.status != ScheduleStatus::Active {
        return None;
    }
    let right = if is_from_the_future(schedule, now) {
        // Fires beyond this were a mistake of the clock, and no reason to skip slots until then.
        compiled_spec.next(now)?
    } else if compiled_spec.prev(stored) == Some(stored) {
        return None;
    } else {
        // Neither a slot that has run nor one that was skipped comes again if its wall time has
        // moved.
        let skipped = schedule.settled_slots().into_iter().filter(|slot| *slot < stored).max();
        let decided = [schedule.last_slot, skipped].into_iter().flatten();
        let after = decided.map(|slot| place_now(compiled_spec, slot)).max();
        compiled_spec.next(after.map_or(now, |after| now.max(after)))?
    };
    (right != stored).then_some(right)
}

/// Whether the schedule was last changed at a time far in the future.
fn is_from_the_future(schedule: &Schedule, now: Timestamp) -> bool {
    let latest = schedule.last_slot.map_or(schedule.updated_at, |slot| slot.max(schedule.updated_at));
    latest > now.saturating_add(std::time::Duration::from_micros(FAR_US.unsigned_abs()))
}

/// Where the current zone data puts a slot that has run: the same wall time must not run twice.
fn place_now(compiled_spec: &CompiledSpec, ran: Timestamp) -> Timestamp {
    let distance = |slot: Timestamp| slot.as_micros().abs_diff(ran.as_micros());
    let compiled_spec = compiled_spec.clone().without(Vec::new());
    let around = [compiled_spec.prev(ran), compiled_spec.next(ran)];
    around.into_iter().flatten().min_by_key(|slot| distance(*slot)).unwrap_or(ran)
}
