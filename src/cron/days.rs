//! Which days an expression names: months, days of the month, days of the week, and how these
//! combine.

use std::ops::RangeInclusive;

use super::civil::{FIRST_DAY, LAST_DAY, civil_from_days, days_from_civil, month_length, weekday};
use super::weeks::{WeekCycle, sunday};

/// Bits 1 to 31.
const ALL_DAYS: u32 = 0xffff_fffe;
/// Bits 0 to 6.
const ALL_WEEKDAYS: u8 = 0x7f;
/// Bits 1 to 12.
const ALL_MONTHS: u16 = 0x1ffe;
/// One bit for the same weekday in each of five weeks.
const WEEKLY: u32 = 1 | 1 << 7 | 1 << 14 | 1 << 21 | 1 << 28;

/// 2000-02-29
const LEAP_DAY_2000: i64 = 11_016;
const FOUR_YEARS: i64 = 1461;
/// 1904-02-29 to 2096-02-29: from any of these days the leap days before and after are four years
/// apart.
const EVERY_FOURTH_YEAR: RangeInclusive<i64> = -24_048..=46_080;

/// The day-of-month, month and day-of-week fields.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) struct DayRule {
    /// Bits 1 to 31.
    pub dom: u32,
    /// `L-n` is bit `n`; `L` is bit 0.
    pub dom_from_last: u32,
    /// `nW` is bit `n`.
    pub dom_nearest: u32,
    /// `LW`
    pub dom_last_workday: bool,
    /// Bits 1 to 12.
    pub months: u16,
    /// Bits 0 (Sunday) to 6.
    pub dow: u8,
    /// `nL` is bit `n`.
    pub dow_last: u8,
    /// `n#k` is bit `n` of element `k - 1`.
    pub dow_nth: [u8; 5],
    /// Either field starts with `*`: both must match. Otherwise either may.
    pub both: bool,
    /// The weeks that count; `None` for all.
    pub weeks: Option<WeekCycle>,
    /// How much work a search is; derived from the rest by [`DayRule::finish`].
    pub kind: DayKind,
}

/// The shapes that have a shortcut.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) enum DayKind {
    /// Every day.
    Every,
    /// Certain weekdays, in every month.
    Weekdays,
    /// Plain days of certain months, whatever the weekday.
    Dates,
    /// 29 February: dates that only leap years have.
    LeapDay,
    /// Anything else: both fields, or `L`, `W`, `#`.
    #[default]
    General,
}

impl DayRule {
    /// Fills in `kind` once all fields are set.
    pub fn finish(&mut self) {
        let special = self.dom_from_last != 0
            || self.dom_nearest != 0
            || self.dom_last_workday
            || self.dow_last != 0
            || self.dow_nth != [0; 5];
        let any_weekday = self.both && self.dow == ALL_WEEKDAYS;
        let any_date = self.both && self.dom == ALL_DAYS;
        self.kind = match () {
            () if special => DayKind::General,
            () if any_date && any_weekday && self.months == ALL_MONTHS => DayKind::Every,
            () if any_weekday && self.months == 1 << 2 && self.dom & (ALL_DAYS >> 3) == 0 => DayKind::LeapDay,
            () if any_weekday => DayKind::Dates,
            () if any_date && self.months == ALL_MONTHS => DayKind::Weekdays,
            () => DayKind::General,
        };
    }

    /// Whether there is any such day at all. Exact: the calendar repeats every 400 years.
    pub fn is_possible(&self) -> bool {
        match self.kind {
            DayKind::Every | DayKind::Weekdays => true,
            DayKind::Dates | DayKind::LeapDay => {
                let long = if self.months & 0b1010_1101_0101 << 1 != 0 { ALL_DAYS } else { 0 };
                let medium = if self.months & 0b0101_0010_1000 << 1 != 0 { ALL_DAYS >> 1 } else { 0 };
                let february = if self.months & 1 << 2 != 0 { ALL_DAYS >> 2 } else { 0 };
                self.dom & (long | (medium & ALL_DAYS) | (february & ALL_DAYS)) != 0
            }
            DayKind::General => {
                let from = days_from_civil(2000, 1, 1);
                self.next(from).is_some_and(|day| day < from + 146_097)
            }
        }
    }

    /// Days of one month, bit `n` for day `n`. `first` is the day number of the month's first day.
    pub fn mask(&self, year: i32, month: u32, first: i64) -> u32 {
        let length = month_length(year, month);
        let valid = ALL_DAYS >> (31 - length) & ALL_DAYS;
        if matches!(self.kind, DayKind::Dates | DayKind::LeapDay) {
            return self.dom & valid;
        }
        let first_weekday = weekday(first);
        let dom = self.dom_mask(length, first_weekday);
        let dow = self.dow_mask(length, first_weekday);
        (if self.both { dom & dow } else { dom | dow }) & valid
    }

    fn dom_mask(&self, length: u32, first_weekday: u32) -> u32 {
        let mut mask = self.dom;
        if self.dom_from_last != 0 {
            // Bit n of `dom_from_last` is day `length - n`. Days before the first fall off the end
            // or on bit 0.
            mask |= (self.dom_from_last.reverse_bits() >> (31 - length)) & ALL_DAYS;
        }
        if self.dom_last_workday {
            mask |= 1 << nearest_workday(length, length, first_weekday);
        }
        let mut rest = self.dom_nearest;
        while rest != 0 {
            let day = rest.trailing_zeros();
            if day <= length {
                mask |= 1 << nearest_workday(day, length, first_weekday);
            }
            rest &= rest - 1;
        }
        mask
    }

    fn dow_mask(&self, length: u32, first_weekday: u32) -> u32 {
        let mut mask = rotate(self.dow, first_weekday).wrapping_mul(WEEKLY);
        if self.dow_last != 0 {
            let last_week = 0x7f << (length - 7);
            mask |= rotate(self.dow_last, first_weekday).wrapping_mul(WEEKLY) & last_week;
        }
        for (week, &days) in (0u32..).zip(&self.dow_nth) {
            mask |= rotate(days, first_weekday) << (7 * week);
        }
        mask << 1
    }

    fn has(&self, day: i64) -> bool {
        self.next_in_any_week(day) == Some(day)
    }

    /// First matching day at or after `day`.
    pub fn next(&self, day: i64) -> Option<i64> {
        let Some(weeks) = self.weeks else { return self.next_in_any_week(day) };
        let mut from = day;
        loop {
            let found = self.next_in_any_week(weeks.first_day_from(from))?;
            if weeks.contains(found) {
                return Some(found);
            }
            from = found;
        }
    }

    /// [`DayRule::next`], whatever the week.
    fn next_in_any_week(&self, day: i64) -> Option<i64> {
        let day = day.max(FIRST_DAY);
        match self.kind {
            DayKind::Every => Some(day),
            DayKind::Weekdays => {
                let ahead = rotate(self.dow, weekday(day));
                Some(day + i64::from(ahead.trailing_zeros()))
            }
            DayKind::LeapDay if EVERY_FOURTH_YEAR.contains(&day) => {
                Some(LEAP_DAY_2000 - (LEAP_DAY_2000 - day).div_euclid(FOUR_YEARS) * FOUR_YEARS)
            }
            DayKind::Dates | DayKind::LeapDay | DayKind::General => self.next_in_months(day),
        }
        .filter(|&day| day <= LAST_DAY)
    }

    fn next_in_months(&self, day: i64) -> Option<i64> {
        if day > LAST_DAY {
            return None;
        }
        let (mut year, mut month, day_of_month) = civil_from_days(day);
        if self.months >> month & 1 != 0 {
            let first = day - i64::from(day_of_month) + 1;
            let ahead = self.mask(year, month, first) >> day_of_month;
            if ahead != 0 {
                return Some(day + i64::from(ahead.trailing_zeros()));
            }
        }
        loop {
            let later = self.months & (!1u16 << month);
            if later == 0 {
                year += 1;
                if year > 10_000 {
                    return None;
                }
                month = self.months.trailing_zeros();
            } else {
                month = later.trailing_zeros();
            }
            let first = days_from_civil(year, month, 1);
            let mask = self.mask(year, month, first);
            if mask != 0 {
                return Some(first + i64::from(mask.trailing_zeros()) - 1);
            }
        }
    }

    /// Last matching day at or before `day`.
    pub fn previous(&self, day: i64) -> Option<i64> {
        let Some(weeks) = self.weeks else { return self.previous_in_any_week(day) };
        let mut to = day;
        loop {
            let found = self.previous_in_any_week(weeks.last_day_until(to))?;
            if weeks.contains(found) {
                return Some(found);
            }
            to = found;
        }
    }

    /// [`DayRule::previous`], whatever the week.
    fn previous_in_any_week(&self, day: i64) -> Option<i64> {
        let day = day.min(LAST_DAY);
        match self.kind {
            DayKind::Every => Some(day),
            DayKind::Weekdays => {
                // Bits 0 to 6: the weekday of `day` last.
                let behind = rotate(self.dow, (weekday(day) + 1) % 7);
                Some(day - i64::from(behind.leading_zeros() - 25))
            }
            DayKind::LeapDay if EVERY_FOURTH_YEAR.contains(&day) => {
                Some(LEAP_DAY_2000 + (day - LEAP_DAY_2000).div_euclid(FOUR_YEARS) * FOUR_YEARS)
            }
            DayKind::Dates | DayKind::LeapDay | DayKind::General => self.previous_in_months(day),
        }
        .filter(|&day| day >= FIRST_DAY)
    }

    fn previous_in_months(&self, day: i64) -> Option<i64> {
        if day < FIRST_DAY {
            return None;
        }
        let (mut year, mut month, day_of_month) = civil_from_days(day);
        if self.months >> month & 1 != 0 {
            let first = day - i64::from(day_of_month) + 1;
            let behind = self.mask(year, month, first) << (31 - day_of_month);
            if behind != 0 {
                return Some(day - i64::from(behind.leading_zeros()));
            }
        }
        loop {
            let earlier = self.months & ((1u16 << month) - 1);
            if earlier == 0 {
                year -= 1;
                if year < 0 {
                    return None;
                }
                month = self.months.ilog2();
            } else {
                month = earlier.ilog2();
            }
            let first = days_from_civil(year, month, 1);
            let mask = self.mask(year, month, first);
            if mask != 0 {
                return Some(first + i64::from(mask.ilog2()) - 1);
            }
        }
    }

    /// How many matching days there are in `from..=to`.
    pub fn count(&self, from: i64, to: i64) -> u64 {
        let (from, to) = (from.max(FIRST_DAY), to.min(LAST_DAY));
        let Some(weeks) = self.weeks else { return self.count_in_any_week(from, to) };
        let mut total = 0;
        let mut first = weeks.first_day_from(from);
        while first <= to {
            total += self.count_in_any_week(first, sunday(first).min(to));
            first = weeks.first_day_from(sunday(first) + 1);
        }
        total
    }

    fn count_in_any_week(&self, from: i64, to: i64) -> u64 {
        if from > to {
            return 0;
        }
        if self.kind == DayKind::Every {
            return (to - from + 1).unsigned_abs();
        }
        if self.kind == DayKind::Weekdays {
            let (weeks, rest) = ((to - from + 1) / 7, (to - from + 1) % 7);
            let ahead = rotate(self.dow, weekday(from)) & ((1 << rest) - 1);
            return weeks.unsigned_abs() * u64::from(self.dow.count_ones()) + u64::from(ahead.count_ones());
        }
        let (mut year, mut month, day) = civil_from_days(from);
        let mut first = from - i64::from(day) + 1;
        let mut total = 0;
        while first <= to {
            let length = i64::from(month_length(year, month));
            if self.months >> month & 1 != 0 {
                let mut mask = self.mask(year, month, first);
                if first < from {
                    mask &= u32::MAX << (from - first + 1);
                }
                if to < first + length - 1 {
                    mask &= (1 << (to - first + 2)) - 1;
                }
                total += u64::from(mask.count_ones());
            }
            first += length;
            month += 1;
            if month > 12 {
                (year, month) = (year + 1, 1);
            }
        }
        total
    }

    /// Whether it can name a day and the one after.
    pub fn has_two_in_a_row(&self) -> bool {
        // Enough to see every month begin and end on every weekday, at one day a month or more.
        let mut day = self.next(days_from_civil(2000, 1, 1));
        for _ in 0..1500 {
            let Some(this) = day else {
                return false;
            };
            day = self.next(this + 1);
            if day == Some(this + 1) {
                return true;
            }
        }
        false
    }

    /// The week and the weekday of something like `1-7 * 1`, which reads like "the first Monday"
    /// but isn't.
    pub fn nth_weekday_lookalike(&self) -> Option<(u32, u32)> {
        let week = (1..=4).find(|week| self.dom == 0xfe << (7 * (week - 1)))?;
        (!self.both && self.dow.is_power_of_two()).then(|| (week, self.dow.ilog2()))
    }

    /// The first of the days 29 to 31 that it names, if it names no other and some of its months
    /// end before.
    pub fn missing_in_some_months(&self) -> Option<u32> {
        let first = self.dom.trailing_zeros();
        let shortest =
            (1..=12).filter(|month| self.months >> month & 1 != 0).map(|month| month_length(2001, month));
        let is_short = shortest.min().is_some_and(|length| length < first);
        (matches!(self.kind, DayKind::Dates | DayKind::LeapDay) && first > 28 && is_short).then_some(first)
    }

    /// Whether `day` matches.
    pub fn contains(&self, day: i64) -> bool {
        self.weeks.is_none_or(|weeks| weeks.contains(day))
            && match self.kind {
                DayKind::Every => true,
                DayKind::Weekdays => self.dow >> weekday(day) & 1 != 0,
                DayKind::Dates | DayKind::LeapDay | DayKind::General => self.has(day),
            }
    }
}

/// Bit `n` of the result is the weekday `n` days after `first`.
fn rotate(weekdays: u8, first: u32) -> u32 {
    let twice = u32::from(weekdays) | u32::from(weekdays) << 7;
    twice >> first & 0x7f
}

/// The Monday-to-Friday day nearest to `day`, never leaving the month.
fn nearest_workday(day: u32, length: u32, first_weekday: u32) -> u32 {
    match (first_weekday + day - 1) % 7 {
        6 if day > 1 => day - 1,
        6 => day + 2,
        0 if day < length => day + 1,
        0 => day - 2,
        _ => day,
    }
}
