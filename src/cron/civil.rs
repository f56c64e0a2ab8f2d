//! Civil time as numbers: days and minutes counted from 1970-01-01 00:00, without a time zone.

/// Minutes in a day.
pub(crate) const DAY: i64 = 1440;

/// A minute on a wall clock, counted from 1970-01-01 00:00, without a zone.
///
/// Covers the years 1 to 9999 and two days either side, so that every instant of those years has a
/// civil minute in every zone.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct CivilMinute(pub i64);

/// First and last day that the searches look at: 0001-01-01 and 9999-12-31, two days more on either
/// side.
pub(crate) const FIRST_DAY: i64 = -719_162 - 2;
pub(crate) const LAST_DAY: i64 = 2_932_896 + 2;

/// A day of the proleptic Gregorian calendar.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct CivilDate {
    /// Year; 0 is the year before 1.
    pub year: i32,
    /// Month, 1 to 12.
    pub month: u32,
    /// Day, 1 to 31.
    pub day: u32,
}

impl CivilMinute {
    /// The minute `hour:minute` on `date`. Values are taken as they come: hour 24 is the next
    /// midnight.
    pub fn new(date: CivilDate, hour: u32, minute: u32) -> CivilMinute {
        CivilMinute(date.days() * DAY + i64::from(hour) * 60 + i64::from(minute))
    }

    /// Days from 1970-01-01 to this minute's day.
    pub fn day(self) -> i64 {
        self.0.div_euclid(DAY)
    }

    /// The date this minute is on.
    pub fn date(self) -> CivilDate {
        CivilDate::from_days(self.day())
    }

    /// Hour and minute of the day.
    pub fn time(self) -> (u32, u32) {
        let minute = minute_of_day(self.0);
        (minute / 60, minute % 60)
    }
}

impl CivilDate {
    /// Days from 1970-01-01 to this date.
    pub fn days(self) -> i64 {
        days_from_civil(self.year, self.month, self.day)
    }

    /// The date `days` after 1970-01-01. `days` outside the supported range is moved to its nearest
    /// end.
    pub fn from_days(days: i64) -> CivilDate {
        let (year, month, day) = civil_from_days(days.clamp(FIRST_DAY, LAST_DAY));
        CivilDate { year, month, day }
    }
}

#[expect(clippy::cast_possible_truncation, reason = "a remainder of 1440")]
pub(crate) fn minute_of_day(minute: i64) -> u32 {
    minute.rem_euclid(DAY) as u32
}

/// 0 for Sunday.
#[expect(clippy::cast_possible_truncation, reason = "a remainder of 7")]
pub(crate) fn weekday(days: i64) -> u32 {
    // 1970-01-01 was a Thursday.
    (days + 4).rem_euclid(7) as u32
}

pub(crate) fn is_leap(year: i32) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

pub(crate) fn month_length(year: i32, month: u32) -> u32 {
    if month == 2 { 28 + u32::from(is_leap(year)) } else { 30 + ((month ^ (month >> 3)) & 1) }
}

/// Year, month and day of the day `days` after 1970-01-01, which must lie in years 0 to 32,000.
///
/// Neri and Schneider, "Euclidean affine functions and their application to calendar algorithms"
/// (2022): three multiplications in place of divisions, and no table.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the range is the caller's promise"
)]
pub(crate) fn civil_from_days(days: i64) -> (i32, u32, u32) {
    // Count from 0000-03-01: leap days come last in such a year.
    let n = (days + 719_468) as u32;
    let n1 = 4 * n + 3;
    let century = n1 / 146_097;
    let n2 = (n1 % 146_097) | 3;
    let p2 = 2_939_745 * u64::from(n2);
    let year_of_century = (p2 >> 32) as u32;
    let day_of_year = (p2 as u32) / 2_939_745 / 4;
    let n3 = 2_141 * day_of_year + 197_913;
    let (month, day) = (n3 >> 16, (n3 & 0xffff) / 2_141 + 1);
    let year = (100 * century + year_of_century).cast_signed();
    if day_of_year >= 306 { (year + 1, month - 12, day) } else { (year, month, day) }
}

/// The inverse of [`civil_from_days`]; `year` from 0, `month` 1 to 12.
pub(crate) fn days_from_civil(year: i32, month: u32, day: u32) -> i64 {
    let (year, month) = if month <= 2 { (year - 1, month + 12) } else { (year, month) };
    let century = year.div_euclid(100);
    let of_year = (979 * month - 2_919) >> 5;
    i64::from(1_461 * year.div_euclid(4) + (year.rem_euclid(4)) * 365) - i64::from(century)
        + i64::from(century.div_euclid(4))
        + i64::from(of_year)
        + i64::from(day)
        - 719_469
}
