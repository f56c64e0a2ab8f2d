//! Ids of slots: those of one schedule are neighbours in the order of their slots.

use crate::calendar::Timestamp;
use crate::model::{Run, RunId, ScheduleId};

/// Slots whose text has as many digits as all others here, so that it sorts as the number does: from 2001 to 2286.
const IN_ORDER: std::ops::RangeInclusive<i64> = 1_000_000_000_000_000..=9_999_999_999_999_999;

/// Whether the run's id is made from its schedule and slot, and sorts by it.
pub(super) fn is_slot(run: &Run) -> bool {
    match (&run.schedule_id, run.slot) {
        (Some(schedule), Some(slot)) => {
            IN_ORDER.contains(&slot.as_micros()) && run.id == RunId::of_slot(schedule, slot)
        }
        _ => false,
    }
}

/// Bounds of the ids of a schedule's slots from this one on: the first is one of them, the second behind all.
pub(super) fn ids_from(schedule: &ScheduleId, slot: Timestamp) -> (RunId, RunId) {
    let first = slot.as_micros().clamp(*IN_ORDER.start(), *IN_ORDER.end());
    let from = RunId::of_slot(schedule, Timestamp::from_micros(first));
    let last = RunId::of_slot(schedule, Timestamp::from_micros(*IN_ORDER.end()));
    // `:` follows the digits.
    let behind = format!("{}:", last.as_str());
    (from, RunId::from(behind))
}

/// Bounds of the ids of all slots of a schedule.
pub(super) fn ids(schedule: &ScheduleId) -> (RunId, RunId) {
    ids_from(schedule, Timestamp::from_micros(i64::MIN))
}
