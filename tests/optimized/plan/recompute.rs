//! Next slots after new time-zone data and after a clock that was ahead.

use polos::calendar::Timestamp;
use polos::model::spec::CompiledSpec;
use polos::model::{Schedule, ScheduleSpec, ScheduleStatus};
use polos::plan::recomputed;

const HOUR: i64 = 3_600_000_000;
const DAY: i64 = 24 * HOUR;
/// 2026-01-05T00:00Z.
const NOW: i64 = 1_767_571_200_000_000;

fn at(micros: i64) -> Timestamp {
    Timestamp::from_micros(micros)
}

fn compiled_spec(cron: &str) -> CompiledSpec {
    let spec = format!(r#"{{"cron":"{cron}","timezone":"UTC"}}"#);
    let spec: ScheduleSpec = serde_json::from_str(&spec).expect("a spec");
    CompiledSpec::new(spec).expect("a valid specification")
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
        settled: None,
        counts: polos::model::StoredCounts::default(),
        tags: None,
    }
}

#[test]
fn a_next_slot_that_is_still_valid_stays() {
    let daily = compiled_spec("0 9 * * *");
    let next = NOW + 9 * HOUR;
    assert_eq!(recomputed(&schedule(next, None, NOW), &daily, at(NOW)), None);
    // The next slot was skipped on request.
    assert_eq!(recomputed(&schedule(next + DAY, None, NOW), &daily, at(NOW)), None);
    // It is due, and was promised.
    assert_eq!(recomputed(&schedule(NOW - HOUR, None, NOW), &daily, at(NOW)), None);
}

#[test]
fn a_wall_time_that_has_moved_is_followed() {
    let daily = compiled_spec("0 9 * * *");
    for moved in [-2 * HOUR, HOUR, 5 * HOUR] {
        let stored = schedule(NOW + 9 * HOUR + moved, None, NOW - DAY);
        assert_eq!(recomputed(&stored, &daily, at(NOW)), Some(at(NOW + 9 * HOUR)));
    }
}

#[test]
fn a_wall_time_that_has_run_does_not_run_again_when_it_moves() {
    let daily = compiled_spec("0 9 * * *");
    // It ran at 08:00, which was 09:00 by the old data. Now it is 08:30, and 09:00 is still to
    // come.
    let ran = NOW + 8 * HOUR;
    let stored = schedule(ran + DAY, Some(ran), NOW - DAY);
    let now = at(ran + HOUR / 2);
    assert_eq!(recomputed(&stored, &daily, now), Some(at(NOW + 9 * HOUR + DAY)));
}

#[test]
fn a_wall_time_that_was_skipped_stays_skipped_when_it_moves() {
    let daily = compiled_spec("0 9 * * *");
    // 08:00, which was 09:00 by the old data, was skipped on request before it came.
    let skipped = NOW + 8 * HOUR;
    let settled = Some(format!("[{skipped}]").into());
    let stored = Schedule { settled, ..schedule(skipped + DAY, None, NOW - DAY) };
    let daily = daily.without(stored.settled_slots());
    for now in [NOW, skipped - HOUR, skipped + HOUR / 2] {
        assert_eq!(recomputed(&stored, &daily, at(now)), Some(at(NOW + 9 * HOUR + DAY)));
    }
}

#[test]
fn a_wall_time_that_ran_late_by_the_data_of_today_leaves_the_slot_of_tomorrow() {
    let daily = compiled_spec("0 9 * * *");
    // It ran at 10:00, which was 09:00 by the old data; by the new data it should have run an hour
    // earlier.
    let ran = NOW + 10 * HOUR;
    let stored = schedule(ran + DAY, Some(ran), NOW - DAY);
    assert_eq!(recomputed(&stored, &daily, at(ran + HOUR / 2)), Some(at(NOW + 9 * HOUR + DAY)));
}

#[test]
fn only_an_active_schedule_is_recomputed() {
    let daily = compiled_spec("0 9 * * *");
    let stored = schedule(NOW + 10 * HOUR, None, NOW - DAY);
    let paused = Schedule { status: ScheduleStatus::Paused, ..stored };
    assert_eq!(recomputed(&paused, &daily, at(NOW)), None);
}

#[test]
fn a_schedule_moved_far_ahead_by_a_fast_clock_is_recomputed() {
    let daily = compiled_spec("0 9 * * *");
    let then = NOW + 73 * 365 * DAY;
    let ran = schedule(then + 9 * HOUR, Some(then - 15 * HOUR), NOW - DAY);
    assert_eq!(recomputed(&ran, &daily, at(NOW)), Some(at(NOW + 9 * HOUR)));
    let made = schedule(then + 9 * HOUR, None, then);
    assert_eq!(recomputed(&made, &daily, at(NOW)), Some(at(NOW + 9 * HOUR)));
    // Fires of a clock that was only an hour ahead stay.
    let hour = schedule(NOW + 9 * HOUR + DAY, Some(NOW + 9 * HOUR), NOW - DAY);
    assert_eq!(recomputed(&hour, &daily, at(NOW + 8 * HOUR)), None);
}

#[test]
fn a_slot_that_is_due_at_this_moment_stays() {
    // 10:00, which was 09:00 by the old data.
    let daily = compiled_spec("0 9 * * *");
    let due = NOW + 10 * HOUR;
    assert_eq!(recomputed(&schedule(due, None, NOW - DAY), &daily, at(due)), None);
    let tomorrow = Some(at(NOW + 9 * HOUR + DAY));
    assert_eq!(recomputed(&schedule(due, None, NOW - DAY), &daily, at(due - 1)), tomorrow);
}

#[test]
fn a_clock_that_was_a_day_ahead_is_left_alone() {
    let daily = compiled_spec("0 9 * * *");
    let next = NOW + 9 * HOUR + 3 * DAY;
    assert_eq!(recomputed(&schedule(next, None, NOW + DAY), &daily, at(NOW)), None);
    assert_eq!(recomputed(&schedule(next, None, NOW + DAY + 1), &daily, at(NOW)), Some(at(NOW + 9 * HOUR)));
}
