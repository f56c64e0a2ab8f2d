//! An expression as an English phrase.
//!
//! Describes what the expression matches, not of how it is spelt: `0,15,30,45 * * * *` is "Every 15
//! minutes", too. The one exception is `*/6` in the hour field, which people mean as a pace.

use super::CronExpr;
use super::days::DayRule;
use super::field::Field;

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const WEEKDAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
const ORDINALS: [&str; 5] = ["first", "second", "third", "fourth", "fifth"];
const WORKDAYS: u8 = 0b011_1110;

/// Up to this many times of day are listed one by one.
const TIMES_LISTED_MAX: u32 = 6;

impl CronExpr {
    /// What the expression means, as a phrase without a full stop: `At 17:00, Monday to Friday`.
    ///
    /// ```
    /// use polos::cron::CronExpr;
    ///
    /// let either = CronExpr::parse("0 0 1 * 1").unwrap();
    /// assert_eq!(
    ///     either.describe(),
    ///     "At 00:00 on day 1 of the month or on Monday (either one matches)"
    /// );
    /// ```
    pub fn describe(&self) -> String {
        let (time, is_moment) = self.time_phrase();
        let days = &self.days;
        if days.is_every_day() {
            let months = months_in(days.months);
            return match (is_moment, months) {
                (true, None) => format!("{time}, every day"),
                (true, Some(months)) => format!("{time}, every day in {months}"),
                (false, None) => time,
                (false, Some(months)) => format!("{time} in {months}"),
            };
        }
        let single = days.dow.is_power_of_two() && days.is_plain_weekdays();
        if let (true, true, Some(at)) = (single, is_moment, time.strip_prefix("At ")) {
            let weekday = WEEKDAYS[days.dow.ilog2() as usize];
            let months = months_in(days.months).map(|months| format!(" in {months}")).unwrap_or_default();
            return format!("Every {weekday} at {at}{months}");
        }
        format!("{time}{}", days.phrase())
    }

    /// The days that it names: `on day 1 of every month`, `from Monday to Friday`, `in August`.
    pub fn describe_days(&self) -> String {
        let days = &self.days;
        if days.is_every_day() {
            return months_in(days.months).map_or("every day".to_owned(), |months| format!("in {months}"));
        }
        let phrase = days.phrase();
        match phrase.strip_prefix(", ") {
            Some(span) => format!("from {span}"),
            None => phrase.trim_start().to_owned(),
        }
    }

    /// The time of day, and whether it is a list of times rather than a pace.
    fn time_phrase(&self) -> (String, bool) {
        const ALL_MINUTES: u64 = (1 << 60) - 1;
        const ALL_HOURS: u32 = (1 << 24) - 1;
        let (minutes, hours) = (self.minutes, self.hours);
        let (first_hour, last_hour) = (hours.trailing_zeros(), hours.ilog2());
        let (first_minute, last_minute) = (minutes.trailing_zeros(), minutes.ilog2());
        let one_minute = minutes.is_power_of_two();
        let every_hour = hours == ALL_HOURS;
        let hour_step =
            self.field_text(Field::Hour).strip_prefix("*/").and_then(|step| step.parse::<u32>().ok());
        if let Some(step @ 2..) = hour_step
            && one_minute
            && 24 % step == 0
            && !hours.is_power_of_two()
        {
            let at = if first_minute == 0 {
                "on the hour".to_owned()
            } else {
                format!("from {}", time(first_hour, first_minute))
            };
            return (format!("Every {step} hours, {at}"), false);
        }
        if minutes.count_ones() * hours.count_ones() <= TIMES_LISTED_MAX {
            let times = bits(hours.into())
                .flat_map(|hour| bits(minutes).map(move |minute| time(hour, minute)))
                .collect::<Vec<_>>();
            return (format!("At {}", join(&times, "and")), true);
        }
        let pace = match regular_step(minutes) {
            _ if minutes == ALL_MINUTES => Some("Every minute".to_owned()),
            Some(step) => Some(format!("Every {step} minutes")),
            None if one_minute && every_hour && first_minute == 0 => {
                Some("Every hour, on the hour".to_owned())
            }
            None if one_minute && first_minute == 0 => Some("Every hour".to_owned()),
            None => None,
        };
        let is_run = hours.count_ones() == last_hour - first_hour + 1;
        let phrase = match pace {
            Some(pace) if every_hour && regular_step(minutes).is_some() && first_minute > 0 => {
                format!("{pace}, from minute {first_minute} of every hour")
            }
            Some(pace) if every_hour => pace,
            Some(pace) if is_run => {
                format!("{pace} from {} to {}", time(first_hour, first_minute), time(last_hour, last_minute))
            }
            Some(_) if one_minute => {
                let times: Vec<_> = bits(hours.into()).map(|hour| time(hour, first_minute)).collect();
                return (format!("At {}", join(&times, "and")), true);
            }
            Some(pace) => {
                let from =
                    if first_minute > 0 { format!(", from minute {first_minute},") } else { String::new() };
                format!("{pace}{from} in the hours {}", spans(hours.into(), |hour| hour.to_string()))
            }
            None => {
                let plural = if one_minute { "minute" } else { "minutes" };
                let listed = spans(minutes, |minute| minute.to_string());
                let which = if every_hour {
                    "every hour".to_owned()
                } else if is_run {
                    format!("every hour from {first_hour} to {last_hour}")
                } else {
                    format!("the hours {}", spans(hours.into(), |hour| hour.to_string()))
                };
                format!("At {plural} {listed} of {which}")
            }
        };
        (phrase, false)
    }
}

impl DayRule {
    fn is_every_day(&self) -> bool {
        let (every_date, every_weekday) = (self.dom == 0xffff_fffe, self.dow == 0x7f);
        if self.both { every_date && every_weekday } else { every_date || every_weekday }
    }

    /// Plain weekdays, whatever the date.
    fn is_plain_weekdays(&self) -> bool {
        self.both && self.dom == 0xffff_fffe && self.dow_last == 0 && self.dow_nth == [0; 5]
    }

    /// ` on day 1 of every month`, `, Monday to Friday` and so on: what follows the time.
    fn phrase(&self) -> String {
        let any_date = self.both && self.dom == 0xffff_fffe;
        let any_weekday = self.both && self.dow == 0x7f;
        let months = months_in(self.months);
        let in_months = months.as_ref().map(|months| format!(", in {months}")).unwrap_or_default();
        if any_date {
            let month = if months.is_some() { "the month" } else { "every month" };
            return match weekday_span(self.dow).filter(|_| self.is_plain_weekdays()) {
                Some(span) => format!(", {span}{in_months}"),
                None => format!(" on {}{in_months}", self.weekdays_phrase(month)),
            };
        }
        if any_weekday {
            if let (true, true) = (self.has_plain_dates_only(), self.months.is_power_of_two())
                && self.dom.is_power_of_two()
            {
                return format!(" on {} {}", self.dom.ilog2(), MONTHS[self.months.ilog2() as usize - 1]);
            }
            let month = months.unwrap_or_else(|| "every month".to_owned());
            return format!(" on {} of {month}", self.dates_phrase());
        }
        if self.both {
            let plain = self.dow_last == 0 && self.dow_nth == [0; 5];
            let weekday = match weekday_span(self.dow).filter(|_| plain) {
                Some(span) => format!("one from {span}"),
                None if plain => format!("a {}", join(&weekday_names(self.dow), "or")),
                None => self.weekdays_phrase("the month"),
            };
            let dates = self.dates_phrase();
            return format!(" on {dates} of the month, but only if that day is {weekday}{in_months}");
        }
        let (dates, weekdays) = (self.dates_phrase(), self.weekdays_phrase("the month"));
        format!(" on {dates} of the month or on {weekdays} (either one matches){in_months}")
    }

    fn has_plain_dates_only(&self) -> bool {
        self.dom_from_last == 0 && self.dom_nearest == 0 && !self.dom_last_workday
    }

    /// `day 1`, `days 1 and 15`, `the last day`.
    fn dates_phrase(&self) -> String {
        let mut parts = Vec::new();
        match (self.dom.count_ones(), date_step(self.dom)) {
            (0, _) => {}
            (1, _) => parts.push(format!("day {}", self.dom.ilog2())),
            (_, Some(step)) => {
                let first = self.dom.trailing_zeros();
                parts.push(format!("every {} day from day {first}", nth(step)));
            }
            _ => parts.push(format!("days {}", spans(self.dom.into(), |day| day.to_string()))),
        }
        for day in bits(self.dom_nearest.into()) {
            parts.push(format!("the working day (Monday to Friday) nearest to day {day}"));
        }
        // From the earliest to the last.
        for before in (0..31).rev().filter(|before| self.dom_from_last >> before & 1 != 0) {
            parts.push(match before {
                0 => "the last day".to_owned(),
                1 => "the last day but one".to_owned(),
                _ => format!("the day {before} days before the last"),
            });
        }
        if self.dom_last_workday {
            parts.push("the last working day (Monday to Friday)".to_owned());
        }
        join(&parts, "and")
    }

    /// `Monday and Thursday`, `the first Monday of every month`.
    fn weekdays_phrase(&self, month: &str) -> String {
        let mut parts = Vec::new();
        match weekday_span(self.dow) {
            Some(span) => parts.push(span),
            None => parts.extend(weekday_names(self.dow)),
        }
        let mut special = Vec::new();
        for (ordinal, &weekdays) in ORDINALS.iter().zip(&self.dow_nth) {
            special.extend(weekday_names(weekdays).iter().map(|weekday| format!("the {ordinal} {weekday}")));
        }
        special.extend(weekday_names(self.dow_last).iter().map(|weekday| format!("the last {weekday}")));
        if !special.is_empty() {
            parts.push(format!("{} of {month}", join(&special, "and")));
        }
        join(&parts, "and")
    }
}

/// `None` if all months are named.
fn months_in(months: u16) -> Option<String> {
    (months != 0x1ffe).then(|| spans(months.into(), |month| MONTHS[month as usize - 1].to_owned()))
}

/// `Monday to Friday`, if the weekdays are three to six in a row, over the weekend or not.
fn weekday_span(weekdays: u8) -> Option<String> {
    let count = weekdays.count_ones();
    if !(3..=6).contains(&count) {
        return None;
    }
    let has = |day: u32| weekdays >> (day % 7) & 1 != 0;
    let first = if weekdays == WORKDAYS { 1 } else { (0..7).find(|&day| has(day) && !has(day + 6))? };
    (0..count).all(|after| has(first + after)).then(|| {
        let last = (first + count - 1) % 7;
        format!("{} to {}", WEEKDAYS[first as usize], WEEKDAYS[last as usize])
    })
}

/// From Monday to Sunday.
fn weekday_names(weekdays: u8) -> Vec<String> {
    let order = [1, 2, 3, 4, 5, 6, 0];
    order.into_iter().filter(|day| weekdays >> day & 1 != 0).map(|day| WEEKDAYS[day].to_owned()).collect()
}

/// The step of minutes that are evenly spaced round the clock.
fn regular_step(minutes: u64) -> Option<u32> {
    let count = minutes.count_ones();
    if count < 2 || 60 % count != 0 {
        return None;
    }
    let (first, step) = (minutes.trailing_zeros(), 60 / count);
    (first < step && (0..count).all(|n| minutes >> (first + n * step) & 1 != 0)).then_some(step)
}

/// The step of days that are evenly spaced to the month's end, if there are enough to be worth
/// saying so.
fn date_step(dates: u32) -> Option<u32> {
    if dates.count_ones() < 4 {
        return None;
    }
    let first = dates.trailing_zeros();
    let step = (dates & (dates - 1)).trailing_zeros() - first;
    let even = (first..=31).step_by(step as usize).fold(0u32, |mask, day| mask | 1 << day);
    (step > 1 && even == dates).then_some(step)
}

fn nth(number: u32) -> String {
    match number {
        2 => "2nd".to_owned(),
        3 => "3rd".to_owned(),
        _ => format!("{number}th"),
    }
}

fn time(hour: u32, minute: u32) -> String {
    format!("{hour:02}:{minute:02}")
}

fn bits(mask: u64) -> impl Iterator<Item = u32> {
    (0..64).filter(move |bit| mask >> bit & 1 != 0)
}

/// The set bits by name, three or more in a row as `a to b`.
fn spans(mask: u64, name: impl Fn(u32) -> String) -> String {
    let mut parts = Vec::new();
    let mut rest = mask;
    while rest != 0 {
        let first = rest.trailing_zeros();
        let length = (!(rest >> first)).trailing_zeros();
        if length >= 3 {
            parts.push(format!("{} to {}", name(first), name(first + length - 1)));
        } else {
            parts.extend((first..first + length).map(&name));
        }
        rest &= !(((1u64 << length) - 1) << first);
    }
    join(&parts, "and")
}

fn join(parts: &[String], last_by: &str) -> String {
    match parts {
        [] => String::new(),
        [one] => one.clone(),
        [most @ .., last] => format!("{} {last_by} {last}", most.join(", ")),
    }
}
