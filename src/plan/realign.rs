//! Whether a stored next slot is still the one to wait for. Knows the schedule and the time; no store.
//!
//! A next slot is worked out once, when the slot before it is decided. Two things can make it wrong later: new time
//! zone data, and a clock that was far ahead when it was worked out.

use crate::calendar::Timestamp;
use crate::model::cadence::Cadence;
use crate::model::{Schedule, ScheduleStatus};

/// By how much the clock must have been ahead for its decisions to be undone. What a smaller error has fired is left
/// alone: it will be right again soon, and nothing may fire twice.
const FAR_US: i64 = 86_400_000_000;

/// The next slot that an active schedule should have instead of its own; `None` when its own is right.
pub fn realigned(schedule: &Schedule, cadence: &Cadence, now: Timestamp) -> Option<Timestamp> {
    let stored = schedule.next_slot.filter(|slot| *slot > now)?;
    if schedule.status != ScheduleStatus::Active {
        return None;
    }
    let right = if is_from_the_future(schedule, now) {
        // Whatever has fired beyond was a mistake of the clock, and no reason to be silent until then.
        cadence.next(now)?
    } else if cadence.prev(stored) == Some(stored) {
        return None;
    } else {
        cadence.next(schedule.last_slot.map_or(now, |last| now.max(place_now(cadence, last))))?
    };
    (right != stored).then_some(right)
}

/// Whether the schedule was last touched at a time that has not come yet, by far.
fn is_from_the_future(schedule: &Schedule, now: Timestamp) -> bool {
    let latest = schedule.last_slot.map_or(schedule.updated_at, |slot| slot.max(schedule.updated_at));
    latest > now.saturating_add(std::time::Duration::from_micros(FAR_US.unsigned_abs()))
}

/// Where a slot that has run lies by the zone data of today: the same wall time must not run twice.
fn place_now(cadence: &Cadence, ran: Timestamp) -> Timestamp {
    let distance = |slot: Timestamp| slot.as_micros().abs_diff(ran.as_micros());
    let around = [cadence.prev(ran), cadence.next(ran)];
    around.into_iter().flatten().min_by_key(|slot| distance(*slot)).unwrap_or(ran)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ScheduleSpec;

    const HOUR: i64 = 3_600_000_000;
    const DAY: i64 = 24 * HOUR;
    /// 2026-01-05T00:00Z.
    const NOW: i64 = 1_767_571_200_000_000;

    fn at(micros: i64) -> Timestamp {
        Timestamp::from_micros(micros)
    }

    fn cadence(cron: &str) -> Cadence {
        let spec = format!(r#"{{"cron":"{cron}","timezone":"UTC"}}"#);
        let spec: ScheduleSpec = serde_json::from_str(&spec).expect("a spec");
        Cadence::new(spec).expect("a cadence")
    }

    fn schedule(next: i64, last: Option<i64>, updated: i64) -> Schedule {
        Schedule {
            id: "sch_1".into(),
            project: "p".into(),
            workflow: "w".into(),
            key: "k".into(),
            owner: None,
            spec: "{}".into(),
            input: None,
            status: ScheduleStatus::Active,
            note: None,
            next_slot: Some(at(next)),
            last_slot: last.map(at),
            run_count: 0,
            failure_count: 0,
            attended_from: at(updated),
            created_at: at(updated),
            updated_at: at(updated),
            revision: 1,
            declaration: None,
        }
    }

    #[test]
    fn a_next_slot_that_is_still_one_stays() {
        let daily = cadence("0 9 * * *");
        let next = NOW + 9 * HOUR;
        assert_eq!(realigned(&schedule(next, None, NOW), &daily, at(NOW)), None);
        // The coming slot was skipped on request.
        assert_eq!(realigned(&schedule(next + DAY, None, NOW), &daily, at(NOW)), None);
        // It is due, and was promised.
        assert_eq!(realigned(&schedule(NOW - HOUR, None, NOW), &daily, at(NOW)), None);
    }

    #[test]
    fn a_wall_time_that_has_moved_is_followed() {
        let daily = cadence("0 9 * * *");
        for moved in [-2 * HOUR, HOUR, 5 * HOUR] {
            let stored = schedule(NOW + 9 * HOUR + moved, None, NOW - DAY);
            assert_eq!(realigned(&stored, &daily, at(NOW)), Some(at(NOW + 9 * HOUR)));
        }
    }

    #[test]
    fn a_wall_time_that_has_run_does_not_run_again_when_it_moves() {
        let daily = cadence("0 9 * * *");
        // It ran at 08:00, which was 09:00 by the old data; it is 08:30, and 09:00 is still to come.
        let ran = NOW + 8 * HOUR;
        let stored = schedule(ran + DAY, Some(ran), NOW - DAY);
        let now = at(ran + HOUR / 2);
        assert_eq!(realigned(&stored, &daily, now), Some(at(NOW + 9 * HOUR + DAY)));
    }

    #[test]
    fn a_schedule_that_a_fast_clock_has_moved_far_ahead_comes_back() {
        let daily = cadence("0 9 * * *");
        let then = NOW + 73 * 365 * DAY;
        let ran = schedule(then + 9 * HOUR, Some(then - 15 * HOUR), NOW - DAY);
        assert_eq!(realigned(&ran, &daily, at(NOW)), Some(at(NOW + 9 * HOUR)));
        let made = schedule(then + 9 * HOUR, None, then);
        assert_eq!(realigned(&made, &daily, at(NOW)), Some(at(NOW + 9 * HOUR)));
        // A clock that was an hour ahead has fired what it has fired.
        let hour = schedule(NOW + 9 * HOUR + DAY, Some(NOW + 9 * HOUR), NOW - DAY);
        assert_eq!(realigned(&hour, &daily, at(NOW + 8 * HOUR)), None);
    }
}
