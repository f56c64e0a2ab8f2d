//! The slots that a schedule will have next.

use crate::calendar::Timestamp;
use crate::model::spec::CompiledSpec;
use crate::model::{Schedule, ScheduleStatus};

/// The next `count` slots of `schedule` that will not be skipped, from its stored next slot on. As
/// far as the schedule alone decides: `max_runs` counts what has run. None unless it is active.
pub fn upcoming_slots(schedule: &Schedule, compiled_spec: &CompiledSpec, count: usize) -> Vec<Timestamp> {
    let (ScheduleStatus::Active, Some(next)) = (schedule.status, schedule.next_slot) else {
        return Vec::new();
    };
    let runs_left = compiled_spec.spec().max_runs.map(|max| max.saturating_sub(schedule.run_count));
    let runs_left = runs_left.and_then(|left| usize::try_from(left).ok()).unwrap_or(usize::MAX);
    let count = count.min(runs_left);
    let first = compiled_spec.upcoming_from(next);
    let Some(first) = first.filter(|_| count > 0) else { return Vec::new() };
    let mut slots = vec![first];
    slots.extend(compiled_spec.upcoming_slots(first, count - 1));
    slots
}
