//! The baseline of a cron library: fields as bit sets and a table of a zone's offsets. It has no rules
//! for clock changes, no names, no `L`, `W`, or `#`, and no errors, so no library can be faster.

use jiff::Timestamp;
use jiff::tz::TimeZone;

pub struct Expression {
    minutes: u64,
    hours: u32,
    days: u32,
    months: u16,
    weekdays: u8,
}

impl Expression {
    pub fn parse(text: &str) -> Option<Self> {
        let mut fields = text.split(' ');
        let expression = Self {
            minutes: field(fields.next()?, 0, 59)?,
            hours: u32::try_from(field(fields.next()?, 0, 23)?).ok()?,
            days: u32::try_from(field(fields.next()?, 1, 31)?).ok()?,
            months: u16::try_from(field(fields.next()?, 1, 12)?).ok()?,
            weekdays: u8::try_from(field(fields.next()?, 0, 6)?).ok()?,
        };
        fields.next().is_none().then_some(expression)
    }

    /// Returns the first matching local minute at or after `minute` (minutes since the epoch, in local
    /// time).
    fn next_local(&self, minute: i64) -> Option<i64> {
        let mut day = minute.div_euclid(1440);
        let mut rest = u32::try_from(minute.rem_euclid(1440)).ok()?;
        for _ in 0..366 * 9 {
            let (month, date) = civil(day);
            if self.months >> month & 1 == 0 {
                // At the 1st or a few days before it, since no month has more than 31 days.
                (day, rest) = (day + (29 - date).max(1), 0);
                continue;
            }
            let weekday = (day + 4).rem_euclid(7);
            if self.days >> date & 1 != 0
                && self.weekdays >> weekday & 1 != 0
                && let Some(found) = self.next_in_day(rest)
            {
                return Some(day * 1440 + i64::from(found));
            }
            (day, rest) = (day + 1, 0);
        }
        None
    }

    fn next_in_day(&self, from: u32) -> Option<u32> {
        let (hour, minute) = (from / 60, from % 60);
        if self.hours >> hour & 1 != 0 {
            let later = self.minutes >> minute << minute;
            if later != 0 {
                return Some(hour * 60 + later.trailing_zeros());
            }
        }
        let later = self.hours >> hour >> 1 << hour << 1;
        (later != 0).then(|| later.trailing_zeros() * 60 + self.minutes.trailing_zeros())
    }
}

/// Parses one field (a list of numbers, ranges, and steps) into a bit set.
fn field(text: &str, least: u32, most: u32) -> Option<u64> {
    let mut bits = 0;
    let mut rest = text.as_bytes();
    loop {
        let (mut value, mut end) = (least, most);
        if rest.first() == Some(&b'*') {
            rest = &rest[1..];
        } else {
            value = digits(&mut rest)?;
            end = value;
            if rest.first() == Some(&b'-') {
                rest = &rest[1..];
                end = digits(&mut rest)?;
            }
        }
        let mut step = 1;
        if rest.first() == Some(&b'/') {
            rest = &rest[1..];
            step = digits(&mut rest)?;
        }
        if end > most || step == 0 {
            return None;
        }
        while value <= end {
            bits |= 1 << value;
            value += step;
        }
        match rest.first() {
            None => return Some(bits),
            Some(b',') => rest = &rest[1..],
            Some(_) => return None,
        }
    }
}

/// Parses a number of one or two digits.
fn digits(text: &mut &[u8]) -> Option<u32> {
    let mut value = None;
    while let [digit @ b'0'..=b'9', rest @ ..] = *text {
        value = Some(value.unwrap_or(0) * 10 + u32::from(digit - b'0'));
        *text = rest;
    }
    value
}

/// Returns the month and the day of the month of a day since the epoch.
fn civil(day: i64) -> (i64, i64) {
    // Years begin in March: then the leap day is the last day, and the lengths of months repeat every
    // five months.
    let day = day + 719_468;
    let of_era = day.rem_euclid(146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    (if month < 10 { month + 3 } else { month - 9 }, of_year - (153 * month + 2) / 5 + 1)
}

/// The instants at which a zone's offset from UTC changes, and the offsets from then on, in seconds.
pub struct Zone(Vec<(i64, i64)>);

impl Zone {
    pub fn named(name: &str) -> Self {
        let zone = TimeZone::get(name).unwrap();
        let start = Timestamp::from_second(1_500_000_000).unwrap();
        let mut table = vec![(i64::MIN, i64::from(zone.to_offset(start).seconds()))];
        let changes = zone.following(start).take(60);
        table.extend(changes.map(|to| (to.timestamp().as_second(), i64::from(to.offset().seconds()))));
        Self(table)
    }

    /// Returns the offset at `second` and the instant until which it holds.
    fn offset(&self, second: i64) -> (i64, i64) {
        let number = self.0.partition_point(|&(from, _)| from <= second);
        (self.0[number - 1].1, self.0.get(number).map_or(i64::MAX, |&(from, _)| from))
    }
}

/// Returns the next match after `second`, in seconds since the epoch.
pub fn next(expression: &Expression, zone: &Zone, second: i64) -> Option<i64> {
    let (offset, until) = zone.offset(second);
    let local = expression.next_local((second + offset).div_euclid(60) + 1)? * 60;
    let found = local - offset;
    Some(if found < until { found } else { local - zone.offset(found).0 })
}
