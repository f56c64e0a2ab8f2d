//! The fires of an expression in a zone: the next, the previous, how many.
//!
//! A fire is found in civil time, inside one [`Period`] of the zone after another. What a change of
//! the clocks does to it is already in the table: [`Period::fixed_from`] and [`Period::utc`] are
//! rules R1 to R4.

use super::offsets::{OffsetTable, Period};
use super::timestamp::Timestamp;
use super::zone::Zone;
use crate::cron::{CivilMinute, CronExpr};

/// Offsets differ by less than this, minutes.
const OFFSETS_APART_MAX: i64 = 2 * 26 * 60;

/// The first fire strictly after `after`, or `None` if there is none before the year 10000.
///
/// ```
/// use polos::calendar::{Timestamp, Zone, next_fire};
/// use polos::cron::CronExpr;
///
/// let hourly = CronExpr::parse("@hourly").unwrap();
/// let fire = next_fire(&hourly, &Zone::utc(), Timestamp::from_second(0)).unwrap();
/// assert_eq!(fire.to_string(), "1970-01-01T01:00:00Z");
/// ```
pub fn next_fire(expr: &CronExpr, zone: &Zone, after: Timestamp) -> Option<Timestamp> {
    let periods = zone.periods();
    let wild = expr.is_wild();
    let from = after.minute() + 1;
    let mut number = periods.find(from);
    let mut period = periods.get(number)?;
    let mut low = period.first_local(wild);
    if from > period.start {
        low = low.max(from + period.offset);
    }
    let mut hit = expr.next_civil(CivilMinute(low))?.0;
    while hit >= period.end_local() {
        // Nothing matches from `low` to before `hit`: pass over all periods that lie in between.
        let far = hit - period.offset - OFFSETS_APART_MAX;
        let safe = period.end + period.offset - OFFSETS_APART_MAX >= low;
        number = if safe && far > period.end { periods.find(far).max(number + 1) } else { number + 1 };
        period = periods.get(number)?;
        let first = period.first_local(wild);
        if first < low || first > hit {
            hit = expr.next_civil(CivilMinute(first))?.0;
        }
        low = first;
    }
    Timestamp::from_minute(period.utc(hit))
}

/// The last fire at or before `at_or_before`, or `None` if there is none in the year 1 or later.
///
/// The inverse of [`next_fire`]: it sees exactly the same fires.
pub fn prev_fire(expr: &CronExpr, zone: &Zone, at_or_before: Timestamp) -> Option<Timestamp> {
    let periods = zone.periods();
    let wild = expr.is_wild();
    let to = at_or_before.minute();
    let mut number = periods.find(to);
    let mut period = periods.get(number)?;
    let mut high = to + period.offset;
    let mut hit = expr.previous_civil(CivilMinute(high))?.0;
    while hit < period.first_local(wild) {
        let far = hit - period.offset + OFFSETS_APART_MAX;
        let safe = period.start + period.offset + OFFSETS_APART_MAX <= high;
        number = if safe && far < period.start { (periods.find(far) + 1).min(number) } else { number };
        number = number.checked_sub(1)?;
        period = periods.get(number)?;
        let last = period.end_local() - 1;
        if last > high || last < hit {
            hit = expr.previous_civil(CivilMinute(last))?.0;
        }
        high = last;
    }
    Timestamp::from_minute(period.utc(hit))
}

/// How many fires there are in `(after, until]`.
///
/// Counts days by bit sets and whole days by multiplication, so ten years of a per-minute
/// expression take a few microseconds.
pub fn count_fires(expr: &CronExpr, zone: &Zone, after: Timestamp, until: Timestamp) -> u64 {
    sum_over_periods(zone, after, until, |period, from, to| count_in_period(expr, period, from, to))
}

/// The sum of `count` over the parts of `(after, until]` that have one offset each. It is called
/// with the first and the last UTC minute of each part.
pub(super) fn sum_over_periods(
    zone: &Zone,
    after: Timestamp,
    until: Timestamp,
    count: impl Fn(&Period, i64, i64) -> u64,
) -> u64 {
    let periods = zone.periods();
    let (from, to) = (after.minute() + 1, until.minute());
    if from > to {
        return 0;
    }
    let mut total = 0;
    let mut number = periods.find(from);
    while let Some(period) = periods.get(number).filter(|period| period.start <= to) {
        total += count(&period, from.max(period.start), to.min(period.end - 1));
        number += 1;
    }
    total
}

/// Fires from `from` to `to`, both UTC minutes in `period`.
fn count_in_period(expr: &CronExpr, period: &Period, from: i64, to: i64) -> u64 {
    let first = period.first_local(expr.is_wild());
    let (low, high) = (first.max(from + period.offset), to + period.offset);
    let regular = expr.count_civil(CivilMinute(low), CivilMinute(high));
    let start_local = period.start + period.offset;
    if from > period.start || first >= start_local || expr.matches(CivilMinute(start_local)) {
        return regular;
    }
    // Times in the gap before this period: all of them together are one fire, at its start.
    let made_up = expr.next_civil(CivilMinute(first)).is_some_and(|hit| hit.0 < start_local);
    regular + u64::from(made_up)
}

impl Zone {
    fn periods(&self) -> &OffsetTable {
        self.table()
    }
}
