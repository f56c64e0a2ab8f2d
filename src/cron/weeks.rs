//! Every so many weeks. Weeks are those of ISO 8601: they begin on Monday.

use super::civil::CivilDate;

/// 1970-01-01 was a Thursday: three days after the Monday of its week.
const THURSDAY: i64 = 3;

/// Every so many weeks, counted from one of them, in both directions.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct WeekCycle {
    length: i64,
    /// The number of a week that counts, below `length`.
    first: i64,
}

impl WeekCycle {
    /// Every `length`th week (at least 1), counted from the week of `anchor`.
    pub fn new(length: u32, anchor: CivilDate) -> WeekCycle {
        let length = i64::from(length.max(1));
        WeekCycle { length, first: week(anchor.days()).rem_euclid(length) }
    }

    /// Whether the week of `day` counts.
    pub(crate) fn contains(self, day: i64) -> bool {
        (week(day) - self.first).rem_euclid(self.length) == 0
    }

    /// The first day at or after `day` in a week that counts.
    pub(crate) fn first_day_from(self, day: i64) -> i64 {
        let ahead = (self.first - week(day)).rem_euclid(self.length);
        if ahead == 0 { day } else { monday(week(day) + ahead) }
    }

    /// The last day at or before `day` in a week that counts.
    pub(crate) fn last_day_until(self, day: i64) -> i64 {
        let behind = (week(day) - self.first).rem_euclid(self.length);
        if behind == 0 { day } else { monday(week(day) - behind + 1) - 1 }
    }
}

/// Weeks since the one of 1970-01-01.
fn week(day: i64) -> i64 {
    (day + THURSDAY).div_euclid(7)
}

fn monday(week: i64) -> i64 {
    week * 7 - THURSDAY
}

/// The Sunday of the week of `day`.
pub(crate) fn sunday(day: i64) -> i64 {
    monday(week(day) + 1) - 1
}
