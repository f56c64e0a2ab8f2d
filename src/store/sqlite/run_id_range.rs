//! Ranges of run ids. The ids of a schedule's slots are neighbors, in the order of the slots.

use crate::calendar::Timestamp;
use crate::model::{Run, RunId, ScheduleId};

/// Slots whose text has the same number of digits, so that it sorts as the number does: from 2001
/// to 2286.
const IN_ORDER: std::ops::RangeInclusive<i64> = 1_000_000_000_000_000..=9_999_999_999_999_999;

/// Whether the run's id is made from its schedule and slot, and sorts by the slot.
pub(super) fn is_slot(run: &Run) -> bool {
    match (&run.schedule_id, run.slot) {
        (Some(schedule), Some(slot)) => {
            IN_ORDER.contains(&slot.as_micros()) && run.id == RunId::of_slot(schedule, slot)
        }
        _ => false,
    }
}

/// The range of the ids of a schedule's slots from this slot on; the end is exclusive.
pub(super) fn ids_from(schedule: &ScheduleId, slot: Timestamp) -> (RunId, RunId) {
    let first = slot.as_micros().clamp(*IN_ORDER.start(), *IN_ORDER.end());
    let from = RunId::of_slot(schedule, Timestamp::from_micros(first));
    let last = RunId::of_slot(schedule, Timestamp::from_micros(*IN_ORDER.end()));
    // `:` sorts after the digits.
    let behind = format!("{}:", last.as_str());
    (from, RunId::from(behind))
}

/// The range of the ids of all slots of a schedule; the end is exclusive.
pub(super) fn ids(schedule: &ScheduleId) -> (RunId, RunId) {
    ids_from(schedule, Timestamp::from_micros(i64::MIN))
}
