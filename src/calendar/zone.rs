//! A time zone by its IANA name.

use std::fmt;
use std::sync::{Arc, LazyLock};

use jiff::civil::Date;
use jiff::tz::TimeZone;

use super::offsets::OffsetTable;
use super::timestamp::Timestamp;
use super::tzdb;
use crate::cron::CivilDate;

/// A time zone with its history and its rules. Cheap to clone; equal to any other of the same name.
#[derive(Clone)]
pub struct Zone(Arc<Data>);

struct Data {
    name: Box<str>,
    rules: TimeZone,
    periods: OffsetTable,
}

/// A name that is not a time zone, or one whose data can't be had.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ZoneError {
    /// No such name in the time zone database.
    #[error("unknown time zone `{name}`{hint}")]
    Unknown {
        /// The name as given, escaped and shortened.
        name: String,
        /// What was probably meant, as the end of a sentence; may be empty.
        hint: String,
        /// Names that exist and are close, best first; may be empty.
        suggestions: Vec<String>,
    },
    /// The empty string.
    #[error("time zone is empty; expected an IANA name such as `Europe/Paris`, or `UTC`")]
    Empty,
    /// There is no time zone database in any of the configured folders.
    #[error(
        "no time zone data found for `{name}`; install the system package or the `tzdata` package from PyPI"
    )]
    NoData {
        /// The name as given, escaped and shortened.
        name: String,
    },
    /// The zone's file can't be read or is damaged.
    #[error("time zone `{name}`: {reason}")]
    Unreadable {
        /// The zone.
        name: String,
        /// What went wrong.
        reason: String,
    },
}

impl Zone {
    /// The zone of that exact IANA name, such as `America/New_York`. Names are case-sensitive.
    ///
    /// Neither abbreviations (`PST`) nor offsets nor paths are names, and the name is never used as
    /// a path: it is looked up in [`zone_names`](super::zone_names). Zones are read once per
    /// process. `UTC` needs no data.
    pub fn get(name: &str) -> Result<Zone, ZoneError> {
        tzdb::zone(name)
    }

    /// Coordinated universal time; named `UTC`.
    pub fn utc() -> Zone {
        static UTC: LazyLock<Zone> = LazyLock::new(|| {
            Zone(Arc::new(Data { name: "UTC".into(), rules: TimeZone::UTC, periods: OffsetTable::fixed(0) }))
        });
        UTC.clone()
    }

    /// Reads a compiled zone file (`TZif`, RFC 9636).
    pub(super) fn from_tzif(name: &str, data: &[u8]) -> Result<Zone, ZoneError> {
        let rules = TimeZone::tzif(name, data)
            .map_err(|error| ZoneError::Unreadable { name: name.to_owned(), reason: error.to_string() })?;
        let periods = OffsetTable::of(&rules);
        Ok(Zone(Arc::new(Data { name: name.into(), rules, periods })))
    }

    /// The IANA name.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The rules of the zone, independent of our own table of offsets. For tests.
    #[doc(hidden)]
    pub fn rules(&self) -> &TimeZone {
        &self.0.rules
    }

    /// Whether it has always been UTC, under this or another name.
    pub fn is_utc(&self) -> bool {
        self.0.periods.is_utc()
    }

    /// The date on the wall at `at`.
    pub fn local_date(&self, at: Timestamp) -> Date {
        let second = at.as_second() + i64::from(self.offset_seconds(at));
        // Only the year 10000 doesn't fit, which the last hours of 9999 reach in the east.
        jiff_date(CivilDate::from_days(second.div_euclid(86_400))).unwrap_or(Date::MAX)
    }

    /// Local time minus UTC at `at`, in seconds: -14400 for New York in summer.
    pub fn offset_seconds(&self, at: Timestamp) -> i32 {
        // jiff's instants end a day before ours.
        let second = at.as_second().min(jiff::Timestamp::MAX.as_second());
        let at = jiff::Timestamp::from_second(second).unwrap_or(jiff::Timestamp::MAX);
        self.0.rules.to_offset(at).seconds()
    }

    /// Local time minus UTC at `at`, in whole minutes, rounded down: what cron expressions are
    /// matched by.
    pub fn offset_minutes(&self, at: Timestamp) -> i64 {
        self.0.periods.offset_at(at.minute())
    }

    pub(super) fn table(&self) -> &OffsetTable {
        &self.0.periods
    }
}

/// The date as a date of jiff. `None` outside the years that those have.
pub fn jiff_date(date: CivilDate) -> Option<Date> {
    Date::new(date.year.try_into().ok()?, date.month.try_into().ok()?, date.day.try_into().ok()?).ok()
}

impl PartialEq for Zone {
    fn eq(&self, other: &Zone) -> bool {
        self.0.name == other.0.name
    }
}

impl Eq for Zone {}

impl std::hash::Hash for Zone {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.0.name.hash(state);
    }
}

impl fmt::Debug for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Zone({:?})", self.name())
    }
}
