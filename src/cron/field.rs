//! The five fields: their names, ranges and the words allowed in them.

use std::fmt;

/// One of the five fields of a cron expression.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Field {
    /// Minute of the hour, 0 to 59.
    Minute,
    /// Hour of the day, 0 to 23.
    Hour,
    /// Day of the month, 1 to 31.
    DayOfMonth,
    /// Month, 1 to 12 or `JAN` to `DEC`.
    Month,
    /// Day of the week, 0 to 7 or `SUN` to `SAT`; 0 and 7 are both Sunday.
    DayOfWeek,
}

pub(crate) const MONTHS: [&str; 12] =
    ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"];
pub(crate) const WEEKDAYS: [&str; 7] = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];

impl Field {
    /// All five, in the order in which they are written.
    pub const ALL: [Field; 5] =
        [Field::Minute, Field::Hour, Field::DayOfMonth, Field::Month, Field::DayOfWeek];

    /// The field's name as used in messages, such as `day-of-month`.
    pub fn name(self) -> &'static str {
        match self {
            Field::Minute => "minute",
            Field::Hour => "hour",
            Field::DayOfMonth => "day-of-month",
            Field::Month => "month",
            Field::DayOfWeek => "day-of-week",
        }
    }

    /// Smallest and largest number allowed.
    pub fn range(self) -> (u32, u32) {
        match self {
            Field::Minute => (0, 59),
            Field::Hour => (0, 23),
            Field::DayOfMonth => (1, 31),
            Field::Month => (1, 12),
            Field::DayOfWeek => (0, 7),
        }
    }

    /// Whether it is one of the two fields that name days of the month or of the week.
    pub(crate) fn is_of_days(self) -> bool {
        matches!(self, Field::DayOfMonth | Field::DayOfWeek)
    }

    /// How many different values the field has: also the largest step.
    pub(crate) fn size(self) -> u32 {
        match self {
            Field::Minute => 60,
            Field::Hour => 24,
            Field::DayOfMonth => 31,
            Field::Month => 12,
            Field::DayOfWeek => 7,
        }
    }

    /// The value that `name` stands for, whatever its case.
    pub(crate) fn value_of(self, name: &[u8]) -> Option<u32> {
        let (names, first): (&[&str], u32) = match self {
            Field::Month => (&MONTHS, 1),
            Field::DayOfWeek => (&WEEKDAYS, 0),
            _ => return None,
        };
        (first..)
            .zip(names)
            .find(|(_, known)| known.as_bytes().eq_ignore_ascii_case(name))
            .map(|(value, _)| value)
    }

    /// What a value may be, in words for a message.
    pub(crate) fn expected(self) -> &'static str {
        match self {
            Field::Minute => "0–59",
            Field::Hour => "0–23",
            Field::DayOfMonth => "1–31",
            Field::Month => "1–12 or JAN–DEC",
            Field::DayOfWeek => "0–7 or SUN–SAT",
        }
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
