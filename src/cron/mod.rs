//! What a cron expression says about the calendar: which civil minutes it names.
//!
//! Knows years, months, weekdays and wall-clock minutes. Does not know time zones, instants or
//! clocks; turning a civil minute into an instant, with all that daylight saving does to it, is the
//! [`calendar`](crate::calendar) layer's business.
//!
//! The grammar is closed: five fields, `minute hour day-of-month month day-of-week`, each a list of
//! `*`, `a`, `a-b`, `*/n`, `a-b/n`, `a/n`; three-letter names for months and weekdays; `L`, `L-n`,
//! `nW`, `LW` in the day of month and `nL`, `n#k` in the day of week; `?` for `*` in these two; and
//! the names `@hourly @daily @midnight @weekly @monthly @yearly @annually`. Everything else is
//! refused with a [`CronError`] that says where and why.

mod civil;
mod days;
mod describe;
mod diagnose;
mod error;
mod field;
mod parse;
mod search;
mod union;
mod warnings;
mod weeks;

use std::fmt;
use std::sync::Arc;

pub use civil::{CivilDate, CivilMinute};
pub use error::CronError;
pub use field::Field;
pub use union::CronUnion;
pub use weeks::WeekCycle;

use days::DayRule;

/// A valid cron expression, parsed.
///
/// Two expressions are equal when their normalised texts are, and the weeks that count: `0 9 * *
/// mon` equals `0  9 * * MON`, but not `0 9 * * 1`. Cloning is cheap (the text is shared).
///
/// ```
/// use polos::cron::CronExpr;
///
/// let expr = CronExpr::parse("  0 9 *\t* mon-fri ").unwrap();
/// assert_eq!(expr.to_string(), "0 9 * * MON-FRI");
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct CronExpr {
    text: Arc<str>,
    minutes: u64,
    hours: u32,
    days: DayRule,
    wild: bool,
}

impl CronExpr {
    /// Parses `text`.
    ///
    /// Refused, besides what is not in the grammar: expressions that name no day at all, such as `0
    /// 0 30 2 *`, because a schedule that never fires is never what its author meant.
    pub fn parse(text: &str) -> Result<CronExpr, CronError> {
        parse::parse(text)
    }

    /// The same expression with days on which the day of the month and the day of the week both
    /// match, also where either would do. Refused if there is no such day.
    pub fn with_both_days(mut self) -> Result<CronExpr, CronError> {
        self.days.both = true;
        self.days.finish();
        if self.days.is_possible() { Ok(self) } else { Err(diagnose::never_on_both_days(&self.text)) }
    }

    /// The same expression in the weeks that count. Refused if it names no day in them from `from`
    /// on.
    pub fn in_weeks(mut self, weeks: WeekCycle, from: CivilDate) -> Result<CronExpr, CronError> {
        self.days.weeks = Some(weeks);
        match self.days.next(from.days()) {
            Some(_) => Ok(self),
            None => Err(diagnose::never_in_these_weeks(&self.text)),
        }
    }

    /// The normalised text: single spaces, names in capitals, `*` for `?`, `@` names in lower case.
    /// Parsing it again gives an equal expression.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether the minute or the hour field starts with `*`.
    ///
    /// Such an expression means a pace ("every 15 minutes") and follows real time across a change
    /// of the clocks; any other means times of day. This is the rule of Vixie's cron as Debian
    /// ships it.
    pub fn is_wild(&self) -> bool {
        self.wild
    }

    /// Minutes of the hour it names, as a bit set: bit `n` is minute `n`.
    pub fn minutes(&self) -> u64 {
        self.minutes
    }

    /// Hours of the day it names, as a bit set: bit `n` is hour `n`.
    pub fn hours(&self) -> u32 {
        self.hours
    }

    /// Whether it names every minute of its days.
    pub fn has_whole_days(&self) -> bool {
        self.minutes == (1 << 60) - 1 && self.hours == (1 << 24) - 1
    }

    /// Whether it can fire twice within less than five minutes.
    pub fn is_too_frequent(&self) -> bool {
        const LIMIT: u32 = 5;
        let mut rest = self.minutes;
        let first = rest.trailing_zeros();
        let mut last = first;
        rest &= rest - 1;
        while rest != 0 {
            let minute = rest.trailing_zeros();
            if minute - last < LIMIT {
                return true;
            }
            last = minute;
            rest &= rest - 1;
        }
        // The last minute of one hour and the first of the next, where two such hours are named.
        let over_midnight = self.hours & 1 != 0 && self.hours >> 23 != 0;
        first + 60 - last < LIMIT
            && (self.hours & self.hours >> 1 != 0 || over_midnight && self.days.has_two_in_a_row())
    }
}

impl fmt::Display for CronExpr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for CronExpr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CronExpr({:?})", self.text)
    }
}

impl std::str::FromStr for CronExpr {
    type Err = CronError;

    fn from_str(text: &str) -> Result<CronExpr, CronError> {
        CronExpr::parse(text)
    }
}
