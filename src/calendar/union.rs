//! The fires of several expressions in one schedule. Those at the same instant are one.

use super::occurrences::{count_fires, next_fire, prev_fire, sum_over_periods};
use super::offsets::Period;
use super::timestamp::Timestamp;
use super::zone::Zone;
use crate::cron::{CivilMinute, CronUnion};

/// The first fire of any of the expressions strictly after `after`.
pub fn next_of_union(union: &CronUnion, zone: &Zone, after: Timestamp) -> Option<Timestamp> {
    union.exprs().iter().filter_map(|expr| next_fire(expr, zone, after)).min()
}

/// The last fire of any of the expressions at or before `at_or_before`.
pub fn prev_of_union(union: &CronUnion, zone: &Zone, at_or_before: Timestamp) -> Option<Timestamp> {
    union.exprs().iter().filter_map(|expr| prev_fire(expr, zone, at_or_before)).max()
}

/// How many fires there are in `(after, until]`.
///
/// Looks at each day, so ten years take a few hundred microseconds.
pub fn count_of_union(union: &CronUnion, zone: &Zone, after: Timestamp, until: Timestamp) -> u64 {
    if let [expr] = union.exprs() {
        return count_fires(expr, zone, after, until);
    }
    sum_over_periods(zone, after, until, |period, from, to| count_in_period(union, zone, period, from, to))
}

/// Fires from `from` to `to`, both UTC minutes in `period`.
fn count_in_period(union: &CronUnion, zone: &Zone, period: &Period, from: i64, to: i64) -> u64 {
    // At the beginning, the expressions don't all have the same minutes: fixed ones make up for a
    // gap, or wait until a repeat is over. That is at most a few hours, so fires are found one by
    // one.
    let regular = match period.fixed_from - period.offset {
        fixed if fixed < period.start => period.start + 1,
        fixed => fixed,
    };
    let mut total = 0;
    let mut minute = from - 1;
    while let Some(fire) = next_minute(union, zone, minute).filter(|fire| *fire < regular && *fire <= to) {
        total += 1;
        minute = fire;
    }
    let low = CivilMinute(from.max(regular) + period.offset);
    let high = CivilMinute(to + period.offset);
    total + if low <= high { union.count_civil(low, high) } else { 0 }
}

fn next_minute(union: &CronUnion, zone: &Zone, after: i64) -> Option<i64> {
    next_of_union(union, zone, Timestamp::from_minute(after)?).map(Timestamp::minute)
}
