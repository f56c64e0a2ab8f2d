//! Any expression, in any zone, at any time.

use polos::calendar::{Timestamp, Zone, count_fires, next_fire, prev_fire, zone_names};
use polos::cron::CronExpr;
use proptest::prelude::*;

use super::oracle::{self, Naive};
use crate::cron::properties::expression;
use crate::property::config;

fn zone() -> impl Strategy<Value = Zone> {
    let names = zone_names();
    (0..names.len()).prop_map(move |number| Zone::get(&names[number]).unwrap())
}

/// Years 1850 to 2200, minutes.
fn minute() -> impl Strategy<Value = i64> {
    -63_000_000i64..121_000_000
}

fn at(minute: i64) -> Timestamp {
    Timestamp::from_second(minute * 60)
}

proptest! {
    #![proptest_config(config(300))]

    #[test]
    fn four_days_are_the_oracles(text in expression(), zone in zone(), from in minute()) {
        let Ok(expr) = CronExpr::parse(&text) else { return Ok(()) };
        let to = from + 4 * 1440;
        let expected = oracle::fires(&[Naive::new(&text)], &zone, from, to).remove(0);
        let mut found = Vec::new();
        let mut last = at(from - 1);
        while let Some(fire) = next_fire(&expr, &zone, last).filter(|fire| *fire <= at(to)) {
            found.push(fire.as_micros() / 60_000_000);
            last = fire;
        }
        prop_assert_eq!(&found, &expected);
        prop_assert_eq!(count_fires(&expr, &zone, at(from - 1), at(to)), expected.len() as u64);
    }

    #[test]
    fn next_previous_and_count_tell_one_story(text in expression(), zone in zone(), from in minute(), days in 0i64..20_000) {
        let Ok(expr) = CronExpr::parse(&text) else { return Ok(()) };
        let to = at(from + days * 1440);
        let mut last = at(from);
        let mut passed = 0u64;
        while passed < 500 {
            let Some(fire) = next_fire(&expr, &zone, last).filter(|fire| *fire <= to) else { break };
            prop_assert!(fire > last);
            prop_assert_eq!(prev_fire(&expr, &zone, fire), Some(fire));
            let before = Timestamp::from_micros(fire.as_micros() - 1);
            prop_assert!(prev_fire(&expr, &zone, before).is_none_or(|earlier| earlier <= last));
            passed += 1;
            prop_assert_eq!(count_fires(&expr, &zone, at(from), fire), passed);
            last = fire;
        }
        if passed < 500 {
            prop_assert_eq!(count_fires(&expr, &zone, at(from), to), passed);
        }
    }

    #[test]
    fn counts_add_up(text in expression(), zone in zone(), a in minute(), b in minute(), c in minute()) {
        let Ok(expr) = CronExpr::parse(&text) else { return Ok(()) };
        let mut at = [at(a), at(b), at(c)];
        at.sort();
        let count = |from, to| count_fires(&expr, &zone, from, to);
        prop_assert_eq!(count(at[0], at[1]) + count(at[1], at[2]), count(at[0], at[2]));
    }
}
