//! A specification in words: its trigger, its bounds, and what else decides when its runs start.

use super::{CompiledSpec, Kind};
use crate::calendar::{self, Explanation, Timestamp};
use crate::cron::CronUnion;
use crate::model::cron_rules;
use jiff::civil::Date;
use jiff::tz::Offset;

const DAY_US: i64 = 86_400_000_000;
/// So many dates are named one by one.
const DATES_NAMED_MAX: usize = 5;

impl CompiledSpec {
    /// What it means in words, with up to `count` slots after `after`.
    pub fn explain(&self, after: Timestamp, count: usize) -> Explanation {
        let mut notes = match &self.kind {
            Kind::Cron(union) => self.cron_notes(union, after),
            Kind::Every { .. } => self.elapsed_time_note().into_iter().collect(),
            Kind::At(_) => Vec::new(),
        };
        notes.extend(self.bound_notes(after));
        notes.extend(self.skip_notes(after));
        if self.spec.jitter_us > 0 {
            let longest = period(self.spec.jitter_us);
            notes.push(format!(
                "each run starts up to {longest} after its slot, always the same for a given slot"
            ));
        }
        Explanation { english: self.english(), upcoming: self.first_slots(after, count), notes }
    }

    /// The first `count` slots after `after` of a schedule without runs.
    pub fn first_slots(&self, after: Timestamp, count: usize) -> Vec<Timestamp> {
        let max = self.spec.max_runs.and_then(|max| usize::try_from(max).ok()).unwrap_or(usize::MAX);
        self.upcoming_slots(after, count.min(max))
    }

    fn english(&self) -> String {
        match &self.kind {
            Kind::Cron(union) => union.describe() + &cron_rules::describe_weeks(&self.spec, &self.zone),
            Kind::At(at) => format!("Once, at {}", self.local(*at)),
            Kind::Every { period_us, anchor_us } => {
                let period = period(*period_us);
                let period = period.strip_prefix("1 ").filter(|unit| !unit.contains(' ')).unwrap_or(&period);
                // A period that divides the day has the same times on every day of UTC.
                if self.spec.start_at_us.is_none() && DAY_US % period_us == 0 {
                    return format!("Every {period}");
                }
                format!("Every {period}, counted from {}", self.local(Timestamp::from_micros(*anchor_us)))
            }
        }
    }

    /// What changes of the clocks do to a period.
    fn elapsed_time_note(&self) -> Option<String> {
        (!self.zone.is_utc()).then(|| {
            format!(
                "a period is elapsed time: when the clocks change in {}, the local times of its slots move",
                self.zone.name()
            )
        })
    }

    /// The bounds that are still ahead, and the number of runs.
    fn bound_notes(&self, after: Timestamp) -> Vec<String> {
        let spec = &self.spec;
        let start = spec.start_at_us.filter(|start| *start > after);
        let start = start.map(|start| format!("there is no slot before {}", self.local(start)));
        let end = spec.end_at_us.map(|end| format!("there is no slot at or after {}", self.local(end)));
        let runs = spec.max_runs.map(|max| match max {
            1 => "the schedule is finished after one run".to_owned(),
            max => format!("the schedule is finished after {max} runs"),
        });
        [start, end, runs].into_iter().flatten().collect()
    }

    fn what_exclusion_does(&self) -> &'static str {
        if self.moves_slots() { "move to the next workday (Monday to Friday)" } else { "are skipped" }
    }

    /// Which days are skipped, from `after` on.
    fn skip_notes(&self, after: Timestamp) -> Vec<String> {
        let what = self.what_exclusion_does();
        let today = self.zone.local_date(after);
        let coming = |dates: &[Date]| named_dates(&dates[dates.partition_point(|date| *date < today)..]);
        let mut notes = Vec::new();
        if self.spec.skip_calendar {
            notes.push("the application's calendar decides about each slot when it comes due".to_owned());
        }
        notes.extend(coming(&self.skip_dates).map(|dates| format!("slots on {dates} {what}")));
        let days = self.skip_days.iter().flat_map(CronUnion::exprs);
        notes.extend(days.map(|days| format!("slots {} (`cron:{days}`) {what}", days.describe_days())));
        notes.extend(self.calendars_note(coming(self.calendar_dates()), today));
        notes
    }

    /// Which stored calendars are skipped, and their coming dates if they are known.
    fn calendars_note(&self, coming: Option<String>, today: Date) -> Option<String> {
        let names: Vec<String> = self.spec.calendars.iter().map(|name| format!("`{name}`")).collect();
        let (calendars, pronoun) = match names.as_slice() {
            [] => return None,
            [name] => (format!("calendar {name}"), "it has"),
            names => (format!("calendars {}", listed(names)), "they have"),
        };
        let dates = match coming {
            _ if self.missing_calendar().is_some() => String::new(),
            Some(dates) => format!(": {dates}"),
            None => format!("; {pronoun} none from {today} on"),
        };
        Some(format!("slots on the dates of the {calendars} {}{dates}", self.what_exclusion_does()))
    }

    /// What there is to note on the expressions, within the bounds and apart from excluded days.
    fn cron_notes(&self, union: &CronUnion, after: Timestamp) -> Vec<String> {
        let start = self.spec.start_at_us.map_or(after, |start| start.max(after));
        calendar::notes(union, &self.zone, (start, self.end()), &|day| {
            calendar::jiff_date(day).is_some_and(|date| self.excludes(date))
        })
    }

    /// An instant in the schedule's zone; with seconds only where there are any.
    pub fn local(&self, at: Timestamp) -> String {
        let offset = Offset::from_seconds(self.zone.offset_seconds(at)).unwrap_or(Offset::UTC);
        let Ok(instant) = jiff::Timestamp::from_microsecond(at.as_micros()) else { return at.to_string() };
        let local = offset.to_datetime(instant);
        let format = if at.as_micros() % 60_000_000 == 0 { "%Y-%m-%d %H:%M" } else { "%Y-%m-%d %H:%M:%S" };
        format!("{} in {}", local.strftime(format), self.zone.name())
    }
}

/// The first of these dates, and how many there are beside them; `None` without any.
fn named_dates(dates: &[Date]) -> Option<String> {
    let named: Vec<String> = dates.iter().take(DATES_NAMED_MAX).map(ToString::to_string).collect();
    match dates.len() - named.len() {
        _ if named.is_empty() => None,
        0 => Some(listed(&named)),
        1 => Some(format!("{} and one later date", named.join(", "))),
        rest => Some(format!("{} and {rest} later dates", named.join(", "))),
    }
}

fn listed(texts: &[String]) -> String {
    match texts {
        [] => String::new(),
        [one] => one.clone(),
        [most @ .., last] => format!("{} and {last}", most.join(", ")),
    }
}

/// A duration in full: `1 hour 30 minutes`.
fn period(micros: i64) -> String {
    if micros % 1_000_000 != 0 {
        #[expect(clippy::cast_precision_loss, reason = "for people")]
        return format!("{} seconds", micros as f64 / 1e6);
    }
    let mut rest = micros / 1_000_000;
    let mut parts = Vec::new();
    for (unit, seconds) in
        [("week", 604_800), ("day", 86_400), ("hour", 3_600), ("minute", 60), ("second", 1)]
    {
        let number = rest / seconds;
        rest %= seconds;
        if number > 0 {
            parts.push(format!("{number} {unit}{}", if number == 1 { "" } else { "s" }));
        }
    }
    parts.join(" ")
}
