//! The edges of a specification: where its slots begin and end, and what is rejected.
#![allow(clippy::unwrap_used, reason = "test helpers")]

use polos::calendar::Timestamp;
use polos::model::spec::{CompiledSpec, SpecError};
use serde_json::{Value, json};

fn at(time: &str) -> Timestamp {
    let time: jiff::Timestamp = format!("2026-03-02T{time}Z").parse().unwrap();
    Timestamp::from_micros(time.as_microsecond())
}

fn just_before(time: &str) -> Timestamp {
    Timestamp::from_micros(at(time).as_micros() - 1)
}

fn micros(time: &str) -> i64 {
    at(time).as_micros()
}

fn parse(fields: &Value) -> Result<CompiledSpec, SpecError> {
    CompiledSpec::parse(&fields.to_string())
}

fn each_trigger(fields: &[(&str, i64)]) -> Vec<CompiledSpec> {
    [json!({"cron": "0 * * * *"}), json!({"every_us": 3_600_000_000_i64})]
        .into_iter()
        .map(|mut spec| {
            for (name, value) in fields {
                spec[name] = json!(value);
            }
            parse(&spec).unwrap()
        })
        .collect()
}

#[test]
fn start_at_is_inclusive() {
    for compiled_spec in each_trigger(&[("start_at_us", micros("06:00:00"))]) {
        assert_eq!(compiled_spec.next(at("01:00:00")), Some(at("06:00:00")));
        assert_eq!(compiled_spec.next(just_before("06:00:00")), Some(at("06:00:00")));
        assert_eq!(compiled_spec.next(at("06:00:00")), Some(at("07:00:00")));
        assert_eq!(compiled_spec.prev(at("06:30:00")), Some(at("06:00:00")));
        assert_eq!(compiled_spec.prev(just_before("06:00:00")), None);
        assert_eq!(compiled_spec.count(at("01:00:00"), at("07:00:00")), 2);
    }
}

#[test]
fn end_at_is_exclusive() {
    for compiled_spec in each_trigger(&[("end_at_us", micros("09:00:00"))]) {
        assert_eq!(compiled_spec.next(at("07:30:00")), Some(at("08:00:00")));
        assert_eq!(compiled_spec.next(at("08:00:00")), None);
        assert_eq!(compiled_spec.prev(at("09:00:00")), Some(at("08:00:00")));
        assert_eq!(compiled_spec.prev(at("23:00:00")), Some(at("08:00:00")));
        assert_eq!(compiled_spec.count(at("06:30:00"), at("23:00:00")), 2);
    }
}

#[test]
fn every_counts_from_start_at() {
    let spec = json!({"every_us": 3_600_000_000_i64, "start_at_us": micros("06:20:00")});
    let compiled_spec = parse(&spec).unwrap();
    assert_eq!(compiled_spec.next(at("06:20:00")), Some(at("07:20:00")));
    assert_eq!(compiled_spec.prev(at("08:00:00")), Some(at("07:20:00")));
}

#[test]
fn at_fires_once() {
    let compiled_spec = parse(&json!({"at_us": micros("06:00:00")})).unwrap();
    assert_eq!(compiled_spec.next(just_before("06:00:00")), Some(at("06:00:00")));
    assert_eq!(compiled_spec.next(at("06:00:00")), None);
    assert_eq!(compiled_spec.prev(at("06:00:00")), Some(at("06:00:00")));
    assert_eq!(compiled_spec.prev(just_before("06:00:00")), None);
    assert_eq!(compiled_spec.count(just_before("06:00:00"), at("06:00:00")), 1);
    assert_eq!(compiled_spec.count(at("06:00:00"), at("07:00:00")), 0);
}

#[test]
fn an_invalid_field_is_rejected_and_named_in_the_message() {
    let refused = [
        (json!({"every_us": 999_999}), "`every`"),
        (json!({}), "exactly one of"),
        (json!({"cron": "* * * * *", "max_runs": 0}), "`max_runs`"),
        (json!({"cron": "* * * * *", "max_catch_up": 0}), "`max_catch_up`"),
        (json!({"cron": "* * * * *", "pause_after_failures": 0}), "`pause_after_failures`"),
        (json!({"cron": "* * * * *", "jitter_us": -1}), "`jitter`"),
        (json!({"cron": "* * * * *", "catch_up_window_us": -1}), "`catch_up_window`"),
        (json!({"cron": "* * * * *", "skip_dates": ["2026-13-01"]}), "`2026-13-01`"),
        (json!({"cron": "* * * * *", "start_at_us": 20, "end_at_us": 10}), "`end_at`"),
        (json!({"cron": "* * * * *", "start_at_us": 10, "end_at_us": 10}), "`end_at`"),
    ];
    for (spec, named) in refused {
        let refusal = parse(&spec).unwrap_err().to_string();
        assert!(refusal.contains(named), "{spec}: {refusal}");
    }
    for spec in [
        json!({"every_us": 1_000_000}),
        json!({"cron": "* * * * *", "max_runs": 1, "max_catch_up": 1, "pause_after_failures": 1}),
        json!({"cron": "* * * * *", "jitter_us": 0, "catch_up_window_us": 0}),
        json!({"cron": "* * * * *", "start_at_us": 10, "end_at_us": 11}),
    ] {
        parse(&spec).unwrap();
    }
}
