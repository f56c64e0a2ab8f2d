//! The rules again, as slowly and plainly as possible: reads the text itself and walks minute by
//! minute.
//!
//! Shares nothing with the code under test but the zone's offset at an instant.

use std::collections::BTreeSet;

use jiff::ToSpan;
use jiff::civil::Date;
use polos::calendar::{Timestamp, Zone};

/// An expression as sets of numbers, plus the day fields' text for `L`, `W` and `#`.
pub struct Naive {
    minutes: BTreeSet<u32>,
    hours: BTreeSet<u32>,
    months: BTreeSet<u32>,
    dates: String,
    weekdays: String,
    wild: bool,
    both: bool,
    /// Only every so many weeks, counted from that of a day.
    weeks: Option<(i32, Date)>,
}

impl Naive {
    pub fn new(text: &str) -> Naive {
        let fields: Vec<&str> = text.split_whitespace().collect();
        Naive {
            minutes: values(fields[0], 0, 59, &[]),
            hours: values(fields[1], 0, 23, &[]),
            dates: fields[2].to_owned(),
            months: values(
                fields[3],
                1,
                12,
                &["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"],
            ),
            weekdays: fields[4].to_owned(),
            wild: fields[0].starts_with('*') || fields[1].starts_with('*'),
            both: false,
            weeks: None,
        }
    }

    /// Both day fields must match.
    pub fn both(self) -> Naive {
        Naive { both: true, ..self }
    }

    /// Only every `number`th week counts, from the one of `anchor`.
    pub fn in_weeks(self, number: i32, anchor: Date) -> Naive {
        Naive { weeks: Some((number, anchor)), ..self }
    }

    pub fn matches_day(&self, date: Date) -> bool {
        if !self.months.contains(&number(date.month())) {
            return false;
        }
        if let Some((number, anchor)) = self.weeks {
            let days = monday(anchor).until(monday(date)).unwrap().get_days();
            if days % (7 * number) != 0 {
                return false;
            }
        }
        let by_date = self.dates.split(',').any(|item| date_matches(item, date));
        let by_weekday = self.weekdays.split(',').any(|item| weekday_matches(item, date));
        if self.both || self.dates.starts_with('*') || self.weekdays.starts_with('*') {
            by_date && by_weekday
        } else {
            by_date || by_weekday
        }
    }

    pub fn matches_time(&self, minute_of_day: i64) -> bool {
        let minute = u32::try_from(minute_of_day).unwrap();
        self.hours.contains(&(minute / 60)) && self.minutes.contains(&(minute % 60))
    }

    /// Matching times of day, in minutes.
    pub fn times(&self) -> Vec<i64> {
        (0..1440).filter(|minute| self.matches_time(*minute)).collect()
    }
}

/// All fires with `from <= minute <= to`, minutes of UTC since the epoch, in all of `expressions`.
///
/// Follows the wall clock like Debian's cron: it remembers the latest minute that the clock has
/// shown, and a fixed schedule runs for what the clock newly shows. Starts four hours early, so
/// that a repeat just before is known.
pub fn fires(expressions: &[Naive], zone: &Zone, from: i64, to: i64) -> Vec<Vec<i64>> {
    const THREE_HOURS: i64 = 180;
    let wall = |minute: i64| {
        let offset = i64::from(zone.offset_seconds(Timestamp::from_second(minute * 60)));
        (minute * 60 + offset).div_euclid(60)
    };
    let start = from - 240;
    // Matching minutes of all the days that the clock may show.
    let first_day = wall(start).div_euclid(1440) - 2;
    let last_day = wall(to).div_euclid(1440) + 2;
    let mut tables: Vec<Vec<bool>> = vec![Vec::new(); expressions.len()];
    let times: Vec<Vec<bool>> = expressions
        .iter()
        .map(|naive| (0..1440).map(|minute| naive.matches_time(minute)).collect())
        .collect();
    for day in first_day..=last_day {
        let date = Date::constant(1970, 1, 1).checked_add(day.days()).unwrap();
        for ((table, naive), times) in tables.iter_mut().zip(expressions).zip(&times) {
            let is_day = naive.matches_day(date);
            table.extend(times.iter().map(|is_time| is_day && *is_time));
        }
    }
    let index = |local: i64| usize::try_from(local - first_day * 1440).unwrap();

    let mut found = vec![Vec::new(); expressions.len()];
    let mut last = wall(start) - 1;
    let mut seen = last;
    for minute in start..=to {
        let local = wall(minute);
        let jump = local - (last + 1);
        if jump < -THREE_HOURS {
            seen = local - 1;
        }
        // What fixed schedules have to run for now: nothing, this minute, or this and the skipped
        // ones.
        let fresh = match () {
            () if local <= seen => None,
            () if jump >= THREE_HOURS => Some(local..=local),
            () => Some(seen + 1..=local),
        };
        for ((found, naive), table) in found.iter_mut().zip(expressions).zip(&tables) {
            let fires = if naive.wild {
                table[index(local)]
            } else {
                fresh.clone().is_some_and(|mut fresh| fresh.any(|local| table[index(local)]))
            };
            if fires && minute >= from {
                found.push(minute);
            }
        }
        seen = seen.max(local);
        last = local;
    }
    found
}

fn values(field: &str, least: u32, most: u32, names: &[&str]) -> BTreeSet<u32> {
    field.split(',').flat_map(|item| plain(item, least, most, names)).collect()
}

fn plain(item: &str, least: u32, most: u32, names: &[&str]) -> Vec<u32> {
    let value = |text: &str| {
        let known = (least..).zip(names).find(|(_, name)| name.eq_ignore_ascii_case(text));
        known.map_or_else(|| text.parse().unwrap(), |(value, _)| value)
    };
    let (range, step) = match item.split_once('/') {
        Some((range, step)) => (range, Some(step.parse::<usize>().unwrap())),
        None => (item, None),
    };
    let (from, to) = match range.split_once('-') {
        _ if range == "*" => (least, most),
        Some((from, to)) => (value(from), value(to)),
        None if step.is_some() => (value(range), most),
        None => (value(range), value(range)),
    };
    (from..=to).step_by(step.unwrap_or(1)).collect()
}

fn date_matches(item: &str, date: Date) -> bool {
    let item = item.to_ascii_uppercase();
    let last = date.last_of_month();
    if item == "LW" {
        return date == workday_near(last);
    }
    if item == "L" {
        return date == last;
    }
    if let Some(before) = item.strip_prefix("L-") {
        return last.day() - date.day() == before.parse::<i8>().unwrap();
    }
    if let Some(day) = item.strip_suffix('W') {
        let day: i8 = day.parse().unwrap();
        return day <= last.day() && date == workday_near(date.with().day(day).build().unwrap());
    }
    plain(&item, 1, 31, &[]).contains(&number(date.day()))
}

/// The nearest day from Monday to Friday in the same month.
fn workday_near(date: Date) -> Date {
    let is_workday =
        |candidate: &Date| candidate.month() == date.month() && (1..=5).contains(&weekday(*candidate));
    [0, -1, 1, -2, 2]
        .into_iter()
        .map(|days| date.checked_add(days.days()).unwrap())
        .find(|candidate| is_workday(candidate))
        .unwrap()
}

fn weekday_matches(item: &str, date: Date) -> bool {
    let names = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];
    let value = |text: &str| plain(text, 0, 7, &names)[0] % 7;
    if let Some((day, week)) = item.split_once('#') {
        return weekday(date) == value(day) && (date.day() - 1) / 7 + 1 == week.parse::<i8>().unwrap();
    }
    if let Some(day) = item.strip_suffix(['L', 'l']) {
        return weekday(date) == value(day) && date.last_of_month().day() - date.day() < 7;
    }
    plain(item, 0, 7, &names).iter().any(|day| day % 7 == weekday(date))
}

/// The first day of the date's week.
fn monday(date: Date) -> Date {
    date.checked_sub(i64::from(date.weekday().to_monday_zero_offset()).days()).unwrap()
}

fn weekday(date: Date) -> u32 {
    number(date.weekday().to_sunday_zero_offset())
}

fn number(value: i8) -> u32 {
    u32::try_from(value).unwrap()
}
