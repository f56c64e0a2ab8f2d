//! Whether a stored next slot is still the one to wait for. Knows the schedule and the time; no store.
//!
//! A next slot is worked out once, when the slot before it is decided. Two things can make it wrong later: new time
//! zone data, and a clock that was far ahead when it was worked out.

use crate::calendar::Timestamp;
use crate::model::spec::CompiledSpec;
use crate::model::{Schedule, ScheduleStatus};

/// By how much the clock must have been ahead for its decisions to be undone. What a smaller error has fired is left
/// alone: it will be right again soon, and nothing may fire twice.
const FAR_US: i64 = 86_400_000_000;

/// The next slot that an active schedule should have instead of its own; `None` when its own is right.
pub fn recomputed(schedule: &Schedule, compiled_spec: &CompiledSpec, now: Timestamp) -> Option<Timestamp> {
    let stored = schedule.next_slot.filter(|slot| *slot > now)?;
    if schedule.status != ScheduleStatus::Active {
        return None;
    }
    let right = if is_from_the_future(schedule, now) {
        // Whatever has fired beyond was a mistake of the clock, and no reason to be silent until then.
        compiled_spec.next(now)?
    } else if compiled_spec.prev(stored) == Some(stored) {
        return None;
    } else {
        // Neither a slot that has run nor one that was skipped comes again where its wall time has moved.
        let skipped = schedule.settled_slots().into_iter().filter(|slot| *slot < stored).max();
        let decided = [schedule.last_slot, skipped].into_iter().flatten();
        let after = decided.map(|slot| place_now(compiled_spec, slot)).max();
        compiled_spec.next(after.map_or(now, |after| now.max(after)))?
    };
    (right != stored).then_some(right)
}

/// Whether the schedule was last touched at a time that has not come yet, by far.
fn is_from_the_future(schedule: &Schedule, now: Timestamp) -> bool {
    let latest = schedule.last_slot.map_or(schedule.updated_at, |slot| slot.max(schedule.updated_at));
    latest > now.saturating_add(std::time::Duration::from_micros(FAR_US.unsigned_abs()))
}

/// Where a slot that has run lies by the zone data of today: the same wall time must not run twice.
fn place_now(compiled_spec: &CompiledSpec, ran: Timestamp) -> Timestamp {
    let distance = |slot: Timestamp| slot.as_micros().abs_diff(ran.as_micros());
    let compiled_spec = compiled_spec.clone().without(Vec::new());
    let around = [compiled_spec.prev(ran), compiled_spec.next(ran)];
    around.into_iter().flatten().min_by_key(|slot| distance(*slot)).unwrap_or(ran)
}
