//! The edges of a specification: where its slots begin and end, and what is rejected.
#![allow(clippy::unwrap_used, reason = "test helpers")]

use polos::calendar::Timestamp;
use polos::model::spec::{CompiledSpec, SpecError};
use polos::model::stored_spec;
use serde_json::{Value, json};

mod edges;
mod explained;
mod moved_slots;
mod skip_days;

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

#[test]
fn a_compiled_specification_is_known_by_its_text() {
    let terse = parse(&json!({"cron": "17 3 * * *"})).unwrap();
    let wordy = parse(&json!({"timezone": "UTC", "overlap": "buffer_one", "cron": "17 3 * * *"})).unwrap();
    assert_eq!(terse.text(), wordy.text(), "equal specifications have equal texts");
    assert_eq!(**terse.trigger_key(), terse.spec().trigger_key());
    let kept = stored_spec::keep_compiled(terse);
    for _ in 0..2 {
        let found = stored_spec::compiled(kept.text()).unwrap();
        assert_eq!((found.spec(), found.text()), (kept.spec(), kept.text()));
    }
}

#[test]
fn a_text_that_cannot_be_compiled_is_an_error_every_time() {
    for _ in 0..2 {
        let error = stored_spec::compiled(r#"{"cron":"61 * * * *"}"#).unwrap_err();
        assert!(matches!(error, SpecError::Cron(_)), "{error}");
    }
}

/// What is stored of a specification.
fn stored(fields: &Value) -> String {
    serde_json::to_string(parse(fields).unwrap().spec()).unwrap()
}

#[test]
fn a_simple_specification_is_stored_as_older_releases_wrote_it() {
    let old = concat!(
        r#"{"cron":"0 9 * * *","timezone":"UTC","overlap":"buffer_one","catch_up":"latest","max_catch_up":100,"#,
        r#""catch_up_window_us":86400000000,"jitter_us":0}"#
    );
    assert_eq!(serde_json::to_string(CompiledSpec::parse(old).unwrap().spec()).unwrap(), old);
    assert_eq!(stored(&json!({"cron": ["0 9 * * *", "0 9 * * *"]})), old, "a list of one");
    assert_eq!(stored(&json!({"cron": "0 9 * * *", "days": "or"})), old);
    let key = |fields: &Value| parse(fields).unwrap().spec().trigger_key();
    assert_eq!(key(&json!({"cron": "0 9 * * *"})), "0 9 * * *|||UTC||");
    let list = json!({"cron": ["0 9 * * 1-5", "0 11 * * 6"]});
    assert!(stored(&list).starts_with(r#"{"cron":["0 9 * * 1-5","0 11 * * 6"],"#), "{}", stored(&list));
    assert_eq!(key(&list), key(&json!({"cron": ["0 11 * * 6", "0 9 * * 1-5"]})), "the order means nothing");
    let [plain, both, weeks] = [json!({}), json!({"days": "and"}), json!({"weeks": 2})].map(|more| {
        let mut fields = json!({"cron": "0 9 1-7 * 1", "start_at_us": 0});
        fields.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        key(&fields)
    });
    assert!(plain != both && plain != weeks && both != weeks);
}

#[test]
fn slots_of_several_expressions_at_one_instant_are_one() {
    let list = parse(&json!({"cron": ["0 9 * * *", "0 */3 * * *", "30 9 * * 1"]})).unwrap();
    assert_eq!(list.count(at("08:00:00"), at("12:00:00")), 3);
    assert_eq!(list.upcoming_slots(at("08:00:00"), 3), [at("09:00:00"), at("09:30:00"), at("12:00:00")]);
    assert_eq!(list.prev(at("09:29:59")), Some(at("09:00:00")));
    let same = parse(&json!({"cron": ["30 9 * * 1", "0 */3 * * *", "0 9 * * *"]})).unwrap();
    assert!(list.has_same_grid(&same));
    assert!(!list.has_same_grid(&parse(&json!({"cron": ["0 9 * * *", "0 */3 * * *"]})).unwrap()));
}

#[test]
fn weeks_count_from_the_local_week_of_start_at() {
    // 23:30 on Sunday in UTC is Monday in Berlin.
    let start = micros("00:00:00") - 1_800_000_000;
    let spec = |zone: &str| {
        parse(&json!({"cron": "0 9 * * 1", "timezone": zone, "weeks": 2, "start_at_us": start})).unwrap()
    };
    let days = |compiled_spec: &CompiledSpec| {
        let slots = compiled_spec.upcoming_slots(Timestamp::from_micros(0), 2);
        slots.iter().map(|slot| slot.to_string()[..10].to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(days(&spec("Europe/Berlin")), ["2026-03-02", "2026-03-16"]);
    assert_eq!(days(&spec("UTC")), ["2026-03-09", "2026-03-23"]);
    let shifted = |weeks: i64| {
        let start = start + weeks * 7 * 86_400_000_000;
        let fields = json!({"cron": "0 9 * * 1", "weeks": 2, "start_at_us": start});
        parse(&fields).unwrap()
    };
    assert!(shifted(0).has_same_grid(&shifted(2)));
    assert!(!shifted(0).has_same_grid(&shifted(1)));
    let english = spec("UTC").explain(Timestamp::from_micros(0), 0).english;
    assert_eq!(english, "Every Monday at 09:00; only in every second week, counted from that of 2026-03-01");
}

#[test]
fn days_may_both_have_to_match() {
    let spec = parse(&json!({"cron": "0 9 1-7 * 1", "days": "and"})).unwrap();
    assert_eq!(
        spec.upcoming_slots(at("10:00:00"), 1),
        [at("09:00:00").saturating_add(std::time::Duration::from_secs(35 * 86_400))]
    );
}

#[test]
fn rules_of_cron_expressions_are_checked() {
    let start = micros("00:00:00");
    let many: Vec<String> = (0..33).map(|minute| format!("{minute} 9 * * *")).collect();
    for (spec, named) in [
        (json!({"cron": []}), "empty list"),
        (json!({"cron": many}), "33 expressions"),
        (json!({"cron": ["0 9 * * *", "0 25 * * *"]}), "`0 25 * * *`"),
        (json!({"cron": "0 9 * * *", "weeks": 2}), "give `start_at`"),
        (json!({"cron": "0 9 * * *", "weeks": 0, "start_at_us": start}), "`weeks` is 0"),
        (json!({"cron": "0 9 * * *", "weeks": 521, "start_at_us": start}), "`weeks` is 521"),
        (
            json!({"every_us": 3_600_000_000_i64, "weeks": 2, "start_at_us": start}),
            "`every=timedelta(weeks=2)`",
        ),
        (json!({"at_us": start, "days": "and"}), "belongs to `cron`"),
        (json!({"cron": "0 9 1-7 * 1#2", "days": "and"}), "`days=\"and\"`"),
    ] {
        let refusal = parse(&spec).unwrap_err().to_string();
        assert!(refusal.contains(named), "{spec}: {refusal}");
    }
    parse(&json!({"cron": "0 9 * * *", "weeks": 1})).unwrap();
}

#[test]
fn whole_days_of_a_zone_with_other_days_are_refused_when_they_are_new() {
    let day = 86_400_000_000_i64;
    for (period, zone, start, named) in [
        (day, "America/New_York", None, Some("`cron=\"0 9 * * *\"`")),
        (day, "America/New_York", Some(micros("14:30:00")), Some("`cron=\"30 9 * * *\"`")),
        (7 * day, "Europe/Paris", Some(micros("14:30:00")), Some("`cron=\"30 15 * * 1\"`")),
        (14 * day, "Europe/Paris", Some(micros("14:30:00")), Some("`weeks=2`")),
        (3 * day, "Asia/Tokyo", None, Some("leave out `timezone`")),
        (3 * day, "UTC", None, None),
        (day, "Etc/UTC", None, None),
        (day / 2, "America/New_York", None, None),
    ] {
        let mut spec = json!({"every_us": period, "timezone": zone});
        if let Some(start) = start {
            spec["start_at_us"] = json!(start);
        }
        // Those that an older release accepted still run.
        let checked = parse(&spec).unwrap().check_new();
        match named {
            None => assert_eq!(checked, Ok(()), "{spec}"),
            Some(named) => {
                let refusal = checked.unwrap_err().to_string();
                assert!(refusal.contains(named), "{spec}: {refusal}");
            }
        }
    }
}
