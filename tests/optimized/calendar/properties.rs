//! Any expression, in any zone, at any time.

use jiff::ToSpan;
use jiff::civil::Date;
use polos::calendar::{
    Timestamp, Zone, count_fires, count_of_union, next_fire, next_of_union, prev_fire, prev_of_union,
    zone_names,
};
use polos::cron::{CivilDate, CronExpr, CronUnion, WeekCycle};
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

/// Expressions of one schedule, whether both day fields must match, and which weeks count: every so
/// many, from that of a day since 1970.
type Rules = (Vec<String>, bool, Option<(u32, i64)>);

fn rules() -> impl Strategy<Value = Rules> {
    let weeks = prop::option::of((2u32..7, -40_000i64..80_000));
    (prop::collection::vec(expression(), 1..4), any::<bool>(), weeks)
}

/// The rules for the code under test; `None` if one of the expressions never fires.
fn union((texts, both, weeks): &Rules) -> Option<CronUnion> {
    let mut union = CronUnion::parse(texts).ok()?;
    if *both {
        union = union.with_both_days().ok()?;
    }
    if let Some((number, day)) = weeks {
        let anchor = CivilDate::from_days(*day);
        union = union.in_weeks(WeekCycle::new(*number, anchor), anchor).ok()?;
    }
    Some(union)
}

/// The rules for the oracle.
fn naive((texts, both, weeks): &Rules) -> Vec<Naive> {
    let one = |text: &String| {
        let naive = if *both { Naive::new(text).both() } else { Naive::new(text) };
        let Some((number, day)) = weeks else { return naive };
        let anchor = Date::constant(1970, 1, 1).checked_add(day.days()).unwrap();
        naive.in_weeks(i32::try_from(*number).unwrap(), anchor)
    };
    texts.iter().map(one).collect()
}

proptest! {
    #![proptest_config(config(300))]

    #[test]
    fn four_days_of_several_expressions_are_the_oracles(rules in rules(), zone in zone(), from in minute()) {
        let Some(union) = union(&rules) else { return Ok(()) };
        let to = from + 4 * 1440;
        let fires = oracle::fires(&naive(&rules), &zone, from, to);
        let expected: Vec<i64> =
            fires.into_iter().flatten().collect::<std::collections::BTreeSet<_>>().into_iter().collect();
        let mut found = Vec::new();
        let mut last = at(from - 1);
        while let Some(fire) = next_of_union(&union, &zone, last).filter(|fire| *fire <= at(to)) {
            found.push(fire.as_micros() / 60_000_000);
            last = fire;
        }
        prop_assert_eq!(&found, &expected);
        prop_assert_eq!(count_of_union(&union, &zone, at(from - 1), at(to)), expected.len() as u64);
    }

    #[test]
    fn several_expressions_tell_one_story(rules in rules(), zone in zone(), from in minute(), days in 0i64..4_000) {
        let Some(union) = union(&rules) else { return Ok(()) };
        let to = at(from + days * 1440);
        let mut last = at(from);
        let mut passed = 0u64;
        while passed < 200 {
            let Some(fire) = next_of_union(&union, &zone, last).filter(|fire| *fire <= to) else { break };
            prop_assert_eq!(prev_of_union(&union, &zone, fire), Some(fire));
            let before = Timestamp::from_micros(fire.as_micros() - 1);
            prop_assert!(prev_of_union(&union, &zone, before).is_none_or(|earlier| earlier <= last));
            passed += 1;
            last = fire;
        }
        prop_assert_eq!(count_of_union(&union, &zone, at(from), last), passed);
        let rest = count_of_union(&union, &zone, last, to);
        prop_assert_eq!(count_of_union(&union, &zone, at(from), to), passed + rest);
        prop_assert_eq!(rest > 0, passed == 200 && next_of_union(&union, &zone, last).is_some_and(|fire| fire <= to));
    }

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
