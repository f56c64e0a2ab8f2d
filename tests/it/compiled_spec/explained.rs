//! What a specification means, in words.

use super::{at, micros, parse};
use serde_json::{Value, json};

fn explained(fields: &Value) -> (String, Vec<String>) {
    let explanation = parse(fields).unwrap().explain(at("12:00:00"), 0);
    (explanation.english, explanation.notes)
}

#[test]
fn each_trigger_is_said_in_english() {
    for (fields, english) in [
        (json!({"cron": "0 9 * * *"}), "At 09:00, every day"),
        (json!({"every_us": 60_000_000}), "Every minute"),
        (json!({"every_us": 5_400_000_000_i64}), "Every 1 hour 30 minutes"),
        (json!({"every_us": 1_500_000}), "Every 1.5 seconds"),
        (json!({"every_us": 604_800_000_000_i64}), "Every week, counted from 1970-01-01 00:00 in UTC"),
        (
            json!({"every_us": 3_600_000_000_i64, "start_at_us": micros("06:20:00"), "timezone": "Asia/Tokyo"}),
            "Every hour, counted from 2026-03-02 15:20 in Asia/Tokyo",
        ),
        (json!({"at_us": micros("06:20:05")}), "Once, at 2026-03-02 06:20:05 in UTC"),
    ] {
        assert_eq!(explained(&fields).0, english, "{fields}");
    }
}

#[test]
fn clock_changes_bounds_dates_and_jitter_are_noted() {
    let every = json!({"every_us": 21_600_000_000_i64, "timezone": "Europe/Paris"});
    let moves =
        "a period is elapsed time: when the clocks change in Europe/Paris, the local times of its slots move";
    assert_eq!(explained(&every).1, [moves]);
    assert_eq!(explained(&json!({"every_us": 21_600_000_000_i64})).1, Vec::<String>::new());
    let bounded = json!({
        "cron": "0 9 * * *", "start_at_us": micros("13:00:00"), "end_at_us": micros("23:00:00"),
        "max_runs": 3, "jitter_us": 90_000_000,
        "skip_dates": ["2026-03-01", "2026-03-02", "2026-12-25"],
    });
    assert_eq!(
        explained(&bounded).1,
        [
            "there is no slot before 2026-03-02 13:00 in UTC",
            "there is no slot at or after 2026-03-02 23:00 in UTC",
            "the schedule is finished after 3 runs",
            "slots on 2026-03-02 and 2026-12-25 are skipped",
            "each run starts up to 1 minute 30 seconds after its slot, always the same for a given slot",
        ]
    );
    let dates: Vec<String> = (1..=7).map(|day| format!("2026-04-0{day}")).collect();
    let notes = explained(&json!({"cron": "0 9 * * *", "skip_dates": dates})).1;
    assert!(notes[0].ends_with("2026-04-05 and 2 later dates are skipped"), "{notes:?}");
}

#[test]
fn its_slots_respect_bounds_and_dates() {
    let spec = json!({
        "cron": "0 */6 * * *", "start_at_us": micros("11:00:00"), "max_runs": 3, "skip_dates": ["2026-03-03"],
    });
    let slots = parse(&spec).unwrap().explain(at("01:00:00"), 5).upcoming;
    let shown: Vec<String> = slots.iter().map(ToString::to_string).collect();
    assert_eq!(shown, ["2026-03-02T12:00:00Z", "2026-03-02T18:00:00Z", "2026-03-04T00:00:00Z"]);
}
