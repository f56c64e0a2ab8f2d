//! An expression in words for its author: what it means, when it fires, and what a change of the
//! clocks does to it.

use super::offsets::{Period, THREE_HOURS};
use super::timestamp::Timestamp;
use super::union::next_of_union;
use super::zone::Zone;
use crate::cron::{CivilDate, CivilMinute, CronExpr, CronUnion};

/// How far ahead to look for a change of the clocks that matters, minutes: ten years.
const AHEAD_MAX: i64 = 10 * 366 * 1440;
/// So many affected times are named one by one.
const TIMES_NAMED_MAX: usize = 4;

/// What an expression means in a zone.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Explanation {
    /// A phrase such as `At 17:00, Monday to Friday`, without a full stop. Times are those of the
    /// zone.
    pub english: String,
    /// The next fires.
    pub upcoming: Vec<Timestamp>,
    /// Things worth knowing: what happens when the clocks change, and spellings that may not mean
    /// what they seem to. Each is one sentence without a full stop.
    pub notes: Vec<String>,
}

/// Explains `union` in `zone`, with up to `count` fires after `after`.
pub fn explain(union: &CronUnion, zone: &Zone, after: Timestamp, count: usize) -> Explanation {
    let mut upcoming = Vec::new();
    let mut last = after;
    while upcoming.len() < count
        && let Some(fire) = next_of_union(union, zone, last)
    {
        upcoming.push(fire);
        last = fire;
    }
    let notes = notes(union, zone, (after, Timestamp::MAX), &|_| false);
    Explanation { english: union.describe(), upcoming, notes }
}

/// The notes of an explanation: on the expressions as such, and on the next changes of the clocks
/// within `range`, without what happens on excluded days.
pub fn notes(
    union: &CronUnion,
    zone: &Zone,
    range: (Timestamp, Timestamp),
    is_excluded: &IsExcluded<'_>,
) -> Vec<String> {
    let mut notes = union.warnings();
    for expr in union.exprs() {
        let changes = clock_changes(expr, zone, range, is_excluded).into_iter();
        notes.extend(changes.map(|note| union.named(expr, note)));
    }
    notes
}

/// Whether no slot runs on a day.
type IsExcluded<'f> = dyn Fn(CivilDate) -> bool + 'f;

/// Notes on the next gap and the next repeat that touch a fire.
fn clock_changes(
    expr: &CronExpr,
    zone: &Zone,
    (after, until): (Timestamp, Timestamp),
    is_excluded: &IsExcluded<'_>,
) -> Vec<String> {
    let periods = zone.table();
    let mut number = periods.find(after.minute());
    let horizon = until.minute().min(after.minute() + AHEAD_MAX);
    let (mut gap_note, mut repeat_note) = (None, None);
    let Some(mut before) = periods.get(number) else {
        return Vec::new();
    };
    while before.end < horizon
        && (gap_note.is_none() || repeat_note.is_none())
        && let Some(period) = periods.get(number + 1)
    {
        if period.offset > before.offset && gap_note.is_none() {
            gap_note = gap(expr, zone, (&before, &period), is_excluded);
        } else if period.offset < before.offset && repeat_note.is_none() {
            repeat_note = repeat(expr, zone, (&before, &period), is_excluded);
        }
        before = period;
        number += 1;
    }
    gap_note.into_iter().chain(repeat_note).collect()
}

fn gap(
    expr: &CronExpr,
    zone: &Zone,
    (before, after): (&Period, &Period),
    is_excluded: &IsExcluded<'_>,
) -> Option<String> {
    let (from, to) = (before.end_local(), after.start + after.offset);
    let keeps_pace = expr.is_wild() && expr.hours() == (1 << 24) - 1 && (to - from) % 60 == 0;
    let times = matches(expr, from, to, is_excluded);
    // The run stands in on the day on which the gap ends.
    let stands_in_on_excluded = !expr.is_wild() && is_excluded(CivilMinute(to).date());
    if times.is_empty() || keeps_pace || stands_in_on_excluded {
        return None;
    }
    let dates = dates(from, to - 1);
    let (times, plural) = name_times(&times, from, to);
    let verb = if plural { "do" } else { "does" };
    let missing = format!("{times} {verb} not exist on {dates} in {}", zone.name());
    if expr.is_wild() {
        return Some(format!(
            "{missing}: no run stands in, because an expression whose minutes or hours start with `*` follows real time"
        ));
    }
    if to - from >= THREE_HOURS {
        return Some(format!("{missing}: there is no run for {}", if plural { "them" } else { "it" }));
    }
    let at = clock(to);
    let day = if CivilMinute(from).day() == CivilMinute(to).day() { "that day" } else { "the day after" };
    let run = if plural { "there is one run for all of them" } else { "the run is" };
    Some(format!("{missing}: {run} at {at} {day}"))
}

fn repeat(
    expr: &CronExpr,
    zone: &Zone,
    (before, after): (&Period, &Period),
    is_excluded: &IsExcluded<'_>,
) -> Option<String> {
    let (from, to) = (after.start + after.offset, before.end_local());
    let keeps_pace = expr.is_wild() && expr.hours() == (1 << 24) - 1 && (to - from) % 60 == 0;
    let times = matches(expr, from, to, is_excluded);
    if times.is_empty() || keeps_pace {
        return None;
    }
    let runs_twice = expr.is_wild() || to - from > THREE_HOURS;
    let dates = dates(from, to - 1);
    let (times, plural) = name_times(&times, from, to);
    let verb = if plural { "happen" } else { "happens" };
    let repeated = format!("{times} {verb} twice on {dates} in {}", zone.name());
    Some(match (runs_twice, plural) {
        (true, _) => format!("{repeated}: there is a run each time"),
        (false, true) => format!("{repeated}: the runs are at the first pass"),
        (false, false) => format!("{repeated}: the run is at the first pass"),
    })
}

/// Matching minutes in `from..to` on days that are not excluded: all that can be named and one
/// more.
fn matches(expr: &CronExpr, from: i64, to: i64, is_excluded: &IsExcluded<'_>) -> Vec<i64> {
    let mut found = Vec::new();
    let mut low = from;
    while found.len() <= TIMES_NAMED_MAX
        && let Some(hit) = expr.next_civil(CivilMinute(low)).filter(|hit| hit.0 < to)
    {
        if !is_excluded(hit.date()) {
            found.push(hit.0);
        }
        low = hit.0 + 1;
    }
    found
}

/// The times, and whether they are several.
fn name_times(times: &[i64], from: i64, to: i64) -> (String, bool) {
    let named: Vec<String> = times.iter().map(|time| clock(*time)).collect();
    match named.as_slice() {
        [one] => (one.clone(), false),
        many if many.len() > TIMES_NAMED_MAX => {
            (format!("times from {} to {}", clock(from), clock(to - 1)), true)
        }
        [most @ .., last] => (format!("{} and {last}", most.join(", ")), true),
        [] => (String::new(), false),
    }
}

fn clock(minute: i64) -> String {
    let (hour, minute) = CivilMinute(minute).time();
    format!("{hour:02}:{minute:02}")
}

fn dates(first: i64, last: i64) -> String {
    let name = |minute: i64| {
        let date = CivilMinute(minute).date();
        format!("{:04}-{:02}-{:02}", date.year, date.month, date.day)
    };
    let (first, last) = (name(first), name(last));
    if first == last { first } else { format!("{first}/{last}") }
}
