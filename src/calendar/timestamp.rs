//! An instant.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::cron::CivilMinute;

const MICROS_PER_SECOND: i64 = 1_000_000;
const MICROS_PER_MINUTE: i64 = 60 * MICROS_PER_SECOND;

/// An instant: microseconds since 1970-01-01T00:00:00Z, without leap seconds.
///
/// Always in the years 1 to 9999 of UTC, which is what Python's `datetime` can hold; every way of
/// making one moves a value outside to the nearer end. Stored and sent as the bare number of
/// microseconds.
///
/// ```
/// use polos::calendar::Timestamp;
///
/// assert_eq!(Timestamp::from_second(0).to_string(), "1970-01-01T00:00:00Z");
/// assert_eq!(Timestamp::from_micros(i64::MAX), Timestamp::MAX);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "i64", into = "i64")]
pub struct Timestamp(i64);

impl Timestamp {
    /// 0001-01-01T00:00:00Z
    pub const MIN: Timestamp = Timestamp(-62_135_596_800 * MICROS_PER_SECOND);
    /// 9999-12-31T23:59:59.999999Z
    pub const MAX: Timestamp = Timestamp(253_402_300_800 * MICROS_PER_SECOND - 1);

    /// The instant `micros` microseconds after the epoch.
    pub const fn from_micros(micros: i64) -> Timestamp {
        if micros < Timestamp::MIN.0 {
            Timestamp::MIN
        } else if micros > Timestamp::MAX.0 {
            Timestamp::MAX
        } else {
            Timestamp(micros)
        }
    }

    /// The instant `second` seconds after the epoch.
    pub const fn from_second(second: i64) -> Timestamp {
        Timestamp::from_micros(second.saturating_mul(MICROS_PER_SECOND))
    }

    /// Microseconds since the epoch; negative before it.
    pub const fn as_micros(self) -> i64 {
        self.0
    }

    /// Whole seconds since the epoch, rounded down.
    pub const fn as_second(self) -> i64 {
        self.0.div_euclid(MICROS_PER_SECOND)
    }

    /// This instant and `duration` more (whole microseconds of it), at most [`Timestamp::MAX`].
    #[must_use]
    pub fn saturating_add(self, duration: Duration) -> Timestamp {
        let micros = i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
        Timestamp::from_micros(self.0.saturating_add(micros))
    }

    /// `duration` before this instant (whole microseconds of it), at least [`Timestamp::MIN`].
    #[must_use]
    pub fn saturating_sub(self, duration: Duration) -> Timestamp {
        let micros = i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
        Timestamp::from_micros(self.0.saturating_sub(micros))
    }

    /// How long after `earlier` this is; zero if it isn't.
    pub fn saturating_since(self, earlier: Timestamp) -> Duration {
        Duration::from_micros(u64::try_from(self.0 - earlier.0).unwrap_or(0))
    }

    /// Whole minutes since the epoch, rounded down.
    pub(crate) fn minute(self) -> i64 {
        self.0.div_euclid(MICROS_PER_MINUTE)
    }

    /// The start of a minute, or `None` if that is outside the supported years.
    pub(crate) fn from_minute(minute: i64) -> Option<Timestamp> {
        let micros = minute.checked_mul(MICROS_PER_MINUTE)?;
        (Timestamp::MIN.0..=Timestamp::MAX.0).contains(&micros).then_some(Timestamp(micros))
    }
}

impl From<i64> for Timestamp {
    fn from(micros: i64) -> Timestamp {
        Timestamp::from_micros(micros)
    }
}

impl From<Timestamp> for i64 {
    fn from(timestamp: Timestamp) -> i64 {
        timestamp.0
    }
}

/// RFC 3339 in UTC, with a fraction only where there is one: `2027-03-14T07:00:00Z`.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let civil = CivilMinute(self.minute());
        let (date, (hour, minute)) = (civil.date(), civil.time());
        let in_minute = self.0.rem_euclid(MICROS_PER_MINUTE);
        let (second, micros) = (in_minute / MICROS_PER_SECOND, in_minute % MICROS_PER_SECOND);
        write!(f, "{:04}-{:02}-{:02}T{hour:02}:{minute:02}:{second:02}", date.year, date.month, date.day)?;
        if micros != 0 {
            write!(f, ".{micros:06}")?;
        }
        f.write_str("Z")
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}
