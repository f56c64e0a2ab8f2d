//! Days that cron expressions exclude, against the oracle.

use super::{at, parse};
use crate::calendar::oracle::Naive;
use polos::calendar::Timestamp;
use polos::model::spec::CompiledSpec;
use serde_json::json;

const HOUR_US: i64 = 3_600_000_000;
/// 2011-11-01: Samoa leaves out a day soon, and clocks change.
const FROM: i64 = 1_320_105_600_000_000;
const SLOTS: usize = 1_200;

fn six_hourly(zone: &str, skip_cron: &[&str]) -> CompiledSpec {
    parse(&json!({"every_us": 6 * HOUR_US, "timezone": zone, "skip_cron": skip_cron})).unwrap()
}

#[test]
fn slots_are_left_out_on_the_days_that_the_oracle_finds() {
    let texts = ["* * 1 * *", "* * * * 0,6", "* * L * *", "* * 31 12 *", "* * 13 * 5", "* * LW 1-6 *"];
    for text in texts {
        for zone in ["UTC", "America/New_York", "Australia/Lord_Howe", "Pacific/Apia"] {
            let (spec, naive) = (six_hourly(zone, &[text]), Naive::new(text));
            let all: Vec<_> =
                std::iter::successors(spec.next(Timestamp::from_micros(FROM)), |slot| spec.next(*slot))
                    .take(SLOTS)
                    .collect();
            let is_left_out = |slot: &&Timestamp| naive.matches_day(spec.zone().local_date(**slot));
            let kept: Vec<_> = all.iter().filter(|slot| !is_left_out(slot)).copied().collect();
            assert_eq!(spec.upcoming_slots(Timestamp::from_micros(FROM), kept.len()), kept, "{text} {zone}");
            let stretches = spec.excluded_stretches(all[0], all[SLOTS - 1]);
            let in_stretches =
                |slot: &&Timestamp| stretches.iter().any(|(_, from, until)| (from..=until).contains(slot));
            let left_out: Vec<_> = all.iter().filter(is_left_out).collect();
            assert_eq!(all.iter().filter(in_stretches).collect::<Vec<_>>(), left_out, "{text} {zone}");
            assert!(left_out.iter().all(|slot| spec.excluded_on(**slot).is_some()), "{text} {zone}");
        }
    }
}

#[test]
fn dates_and_expressions_add_up() {
    let fields = json!({
        "cron": "0 9 * * *", "skip_dates": ["2026-03-04"], "skip_cron": ["* * 3 * *", "* * * * FRI"],
    });
    let spec = parse(&fields).unwrap();
    let days: Vec<_> = spec
        .upcoming_slots(at("10:00:00"), 3)
        .iter()
        .map(|slot| spec.zone().local_date(*slot).day())
        .collect();
    assert_eq!(days, [5, 7, 8]);
    let (_, notes) = {
        let found = spec.explain(at("10:00:00"), 0);
        (found.english, found.notes)
    };
    assert_eq!(
        notes,
        [
            "slots on 2026-03-04 are skipped",
            "slots on day 3 of every month (`cron:* * 3 * *`) are skipped",
            "slots on Friday (`cron:* * * * FRI`) are skipped",
        ]
    );
}

#[test]
fn times_of_day_and_every_day_are_rejected() {
    let refused = [
        (vec!["0 9 1 * *"], "names times of day"),
        (vec!["* 0-22 1 * *"], "names times of day"),
        (vec!["* * * * *"], "excludes every day"),
        (vec!["* * * * 1-5", "* * * * 0,6"], "excludes every day"),
        (vec!["* * 30 2 *"], "30"),
        (vec!["* * nope * *"], "nope"),
    ];
    for (skip_cron, message) in refused {
        let refusal = parse(&json!({"cron": "0 9 * * *", "skip_cron": skip_cron})).unwrap_err().to_string();
        assert!(refusal.contains(message), "{refusal}");
    }
}

#[test]
fn a_new_schedule_needs_a_slot_that_is_not_left_out() {
    let first = parse(&json!({"cron": "0 9 1 * *", "skip_cron": ["* * 1 * *"]})).unwrap();
    assert_eq!(first.upcoming(at("10:00:00")), None);
    assert!(first.check_new().unwrap_err().to_string().contains("excludes all slots"));
    parse(&json!({"cron": "0 9 1,2 * *", "skip_cron": ["* * 1 * *"]})).unwrap().check_new().unwrap();
}
