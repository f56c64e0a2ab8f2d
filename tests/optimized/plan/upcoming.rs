//! The slots that a schedule will have next.

use super::*;
use polos::plan::upcoming_slots;

/// The next slots of a schedule with these fields whose stored next slot is 10:00.
fn slots(fields: &Value, change: impl Fn(&mut Schedule), count: usize) -> Vec<String> {
    let mut schedule = schedule(Some(at("10:00")));
    change(&mut schedule);
    upcoming_slots(&schedule, &compiled_spec(fields), count).into_iter().map(written).collect()
}

#[test]
fn they_begin_with_the_stored_one() {
    let hourly = json!({"cron": "0 * * * *"});
    assert_eq!(slots(&hourly, |_| (), 3), ["10:00", "11:00", "12:00"]);
    assert_eq!(slots(&hourly, |_| (), 0), Vec::<String>::new());
    // It was promised, also where the specification no longer has it.
    let odd = |schedule: &mut Schedule| schedule.next_slot = Some(at("10:15"));
    assert_eq!(slots(&hourly, odd, 2), ["10:15", "11:00"]);
}

#[test]
fn what_has_run_counts_against_max_runs() {
    let limited = json!({"cron": "0 * * * *", "max_runs": 3});
    assert_eq!(slots(&limited, |schedule| schedule.run_count = 1, 5), ["10:00", "11:00"]);
    assert_eq!(slots(&limited, |schedule| schedule.run_count = 3, 5), Vec::<String>::new());
}

#[test]
fn excluded_dates_have_none() {
    let fields = json!({"cron": "0 */8 * * *", "skip_dates": ["2026-03-02"]});
    assert_eq!(slots(&fields, |_| (), 2), ["03-03T00:00", "03-03T08:00"]);
}

#[test]
fn a_schedule_that_is_not_active_has_none() {
    for status in [ScheduleStatus::Paused, ScheduleStatus::Retired, ScheduleStatus::Finished] {
        let inactive = |schedule: &mut Schedule| schedule.status = status;
        assert_eq!(slots(&json!({"cron": "0 * * * *"}), inactive, 2), Vec::<String>::new());
    }
}
