//! The next, the previous and the number of civil minutes that an expression names.

use super::CronExpr;
use super::civil::{CivilMinute, DAY, minute_of_day};

impl CronExpr {
    /// Whether the expression names this minute.
    pub fn matches(&self, at: CivilMinute) -> bool {
        let (hour, minute) = at.time();
        self.hours >> hour & 1 != 0 && self.minutes >> minute & 1 != 0 && self.days.contains(at.day())
    }

    /// The first minute at or after `from` that it names, or `None` past the year 9999.
    pub fn next_civil(&self, from: CivilMinute) -> Option<CivilMinute> {
        let from_day = from.day();
        let day = self.days.next(from_day)?;
        if day == from_day {
            if let Some(minute) = self.next_time(minute_of_day(from.0)) {
                return Some(CivilMinute(day * DAY + i64::from(minute)));
            }
            let day = self.days.next(day + 1)?;
            return Some(CivilMinute(day * DAY + i64::from(self.first_time())));
        }
        Some(CivilMinute(day * DAY + i64::from(self.first_time())))
    }

    /// The last minute at or before `to` that it names, or `None` before the year 1.
    pub fn previous_civil(&self, to: CivilMinute) -> Option<CivilMinute> {
        let to_day = to.day();
        let day = self.days.previous(to_day)?;
        if day == to_day {
            if let Some(minute) = self.previous_time(minute_of_day(to.0)) {
                return Some(CivilMinute(day * DAY + i64::from(minute)));
            }
            let day = self.days.previous(day - 1)?;
            return Some(CivilMinute(day * DAY + i64::from(self.last_time())));
        }
        Some(CivilMinute(day * DAY + i64::from(self.last_time())))
    }

    /// How many minutes of `from..=to` it names. Takes a few nanoseconds for each month in between.
    pub fn count_civil(&self, from: CivilMinute, to: CivilMinute) -> u64 {
        if from > to {
            return 0;
        }
        let (from_day, to_day) = (from.day(), to.day());
        let (from_minute, to_minute) = (minute_of_day(from.0), minute_of_day(to.0));
        let before_end = self.times_until(to_minute + 1);
        if from_day == to_day {
            let here = u64::from(self.days.contains(from_day));
            return here * (before_end - self.times_until(from_minute));
        }
        let per_day = u64::from(self.hours.count_ones() * self.minutes.count_ones());
        let first = u64::from(self.days.contains(from_day)) * (per_day - self.times_until(from_minute));
        let last = u64::from(self.days.contains(to_day)) * before_end;
        first + self.days.count(from_day + 1, to_day - 1) * per_day + last
    }

    /// Times of day before minute `end`, 0 to 1440.
    fn times_until(&self, end: u32) -> u64 {
        let (hour, minute) = (end / 60, end % 60);
        let whole = (self.hours & ((1 << hour) - 1)).count_ones() * self.minutes.count_ones();
        let part = (self.hours >> hour & 1) * (self.minutes & ((1 << minute) - 1)).count_ones();
        u64::from(whole + part)
    }

    fn first_time(&self) -> u32 {
        self.hours.trailing_zeros() * 60 + self.minutes.trailing_zeros()
    }

    fn last_time(&self) -> u32 {
        self.hours.ilog2() * 60 + self.minutes.ilog2()
    }

    fn next_time(&self, from: u32) -> Option<u32> {
        let (hour, minute) = (from / 60, from % 60);
        let minutes_left = self.minutes >> minute;
        if self.hours >> hour & 1 != 0 && minutes_left != 0 {
            return Some(from + minutes_left.trailing_zeros());
        }
        let hours_left = self.hours & (!1u32 << hour);
        (hours_left != 0).then(|| hours_left.trailing_zeros() * 60 + self.minutes.trailing_zeros())
    }

    fn previous_time(&self, to: u32) -> Option<u32> {
        let (hour, minute) = (to / 60, to % 60);
        let minutes_passed = self.minutes << (63 - minute);
        if self.hours >> hour & 1 != 0 && minutes_passed != 0 {
            return Some(to - minutes_passed.leading_zeros());
        }
        let hours_passed = self.hours & ((1 << hour) - 1);
        (hours_passed != 0).then(|| hours_passed.ilog2() * 60 + self.minutes.ilog2())
    }
}
