//! Several expressions in one schedule: it fires when any of them does.

use std::sync::Arc;

use super::CronExpr;
use super::civil::{CivilDate, CivilMinute, DAY, days_from_civil, minute_of_day};
use super::error::CronError;
use super::weeks::WeekCycle;

/// Runs closer to each other than this are too frequent, minutes.
const FREQUENT: usize = 5;
/// Days in which two expressions must meet on a day, or else they are taken not to: weekdays and
/// leap years repeat after 28 years.
const DAYS_SEARCHED: i64 = 28 * 366;

/// The expressions of one schedule, in the order in which they were given. Cheap to clone.
///
/// Two unions are equal when they have the same expressions, in any order.
#[derive(Clone, Debug)]
pub struct CronUnion(Arc<[CronExpr]>);

impl CronUnion {
    /// Parses each of `texts`; a second copy of an expression is dropped.
    pub fn parse<T: AsRef<str>>(texts: &[T]) -> Result<CronUnion, CronError> {
        let mut exprs: Vec<CronExpr> = Vec::with_capacity(texts.len());
        for text in texts {
            let expr = CronExpr::parse(text.as_ref())?;
            if !exprs.contains(&expr) {
                exprs.push(expr);
            }
        }
        Ok(CronUnion(exprs.into()))
    }

    /// See [`CronExpr::with_both_days`].
    pub fn with_both_days(&self) -> Result<CronUnion, CronError> {
        Ok(CronUnion(self.0.iter().cloned().map(CronExpr::with_both_days).collect::<Result<_, _>>()?))
    }

    /// See [`CronExpr::in_weeks`].
    pub fn in_weeks(&self, weeks: WeekCycle, from: CivilDate) -> Result<CronUnion, CronError> {
        let exprs = self.0.iter().cloned().map(|expr| expr.in_weeks(weeks, from));
        Ok(CronUnion(exprs.collect::<Result<_, _>>()?))
    }

    /// The expressions.
    pub fn exprs(&self) -> &[CronExpr] {
        &self.0
    }

    /// Whether one of the expressions names this day.
    pub fn names_day(&self, date: CivilDate) -> bool {
        self.0.iter().any(|expr| expr.days.contains(date.days()))
    }

    /// What the expressions mean together, as one phrase without a full stop.
    pub fn describe(&self) -> String {
        let phrases = self.0.iter().map(CronExpr::describe).enumerate();
        let joined = phrases.map(|(index, phrase)| if index == 0 { phrase } else { lower_first(&phrase) });
        joined.collect::<Vec<_>>().join("; and ")
    }

    /// Remarks on the expressions as such; those of several name theirs.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings: Vec<String> = self
            .0
            .iter()
            .flat_map(|expr| expr.warnings().into_iter().map(|warning| self.named(expr, warning)))
            .collect();
        if self.is_too_frequent() && !self.0.iter().any(CronExpr::is_too_frequent) {
            warnings.push("two of the expressions have runs less than 5 minutes apart".to_owned());
        }
        warnings
    }

    /// `note` on one of the expressions; names it where there are several.
    pub fn named(&self, expr: &CronExpr, note: String) -> String {
        if self.0.len() < 2 { note } else { format!("`{expr}`: {note}") }
    }

    /// Whether it can fire twice within less than five minutes.
    pub fn is_too_frequent(&self) -> bool {
        self.0.iter().enumerate().any(|(index, one)| {
            one.is_too_frequent() || self.0[index + 1..].iter().any(|other| one.is_close_to(other))
        })
    }

    /// How many minutes of `from..=to` any of the expressions names.
    pub fn count_civil(&self, from: CivilMinute, to: CivilMinute) -> u64 {
        if let [expr] = self.exprs() {
            return expr.count_civil(from, to);
        }
        let mut total = 0;
        let mut named: Vec<&CronExpr> = Vec::with_capacity(self.0.len());
        // Most days are named by the same expressions as the one before.
        let (mut before, mut whole_day): (Vec<&CronExpr>, u64) = (Vec::new(), 0);
        for day in from.day()..=to.day() {
            named.clear();
            named.extend(self.0.iter().filter(|expr| expr.days.contains(day)));
            let first = if day == from.day() { minute_of_day(from.0) } else { 0 };
            let last = if day == to.day() { minute_of_day(to.0) } else { minute_of_day(DAY - 1) };
            if (first, last) != (0, minute_of_day(DAY - 1)) {
                total += times_between(&named, first, last);
                continue;
            }
            if before != named {
                before.clone_from(&named);
                whole_day = times_between(&named, first, last);
            }
            total += whole_day;
        }
        total
    }
}

impl From<CronExpr> for CronUnion {
    fn from(expr: CronExpr) -> Self {
        Self([expr].into())
    }
}

impl PartialEq for CronUnion {
    fn eq(&self, other: &Self) -> bool {
        // Each has an expression once.
        self.0.len() == other.0.len() && self.0.iter().all(|expr| other.0.contains(expr))
    }
}

impl Eq for CronUnion {}

impl CronExpr {
    /// Whether one can fire less than five minutes before or after the other, but not with it.
    fn is_close_to(&self, other: &CronExpr) -> bool {
        let (mine, others) = (self.times(), other.times());
        let is_close = |time: usize| {
            let around = time.saturating_sub(FREQUENT - 1)..=(time + FREQUENT - 1).min(others.len() - 1);
            around.into_iter().any(|near| near != time && others[near])
        };
        let is_close_on_one_day = (0..mine.len()).any(|time| mine[time] && is_close(time));
        is_close_on_one_day && self.meets(other, 0)
            || self.is_close_over_midnight(other)
            || other.is_close_over_midnight(self)
    }

    /// Whether `next` can fire less than five minutes after this, on the day after.
    fn is_close_over_midnight(&self, next: &CronExpr) -> bool {
        let last = self.times().iter().rposition(|time| *time);
        let first = next.times().iter().position(|time| *time);
        let is_close =
            last.zip(first).is_some_and(|(last, first)| first + self.times().len() - last < FREQUENT);
        is_close && self.meets(next, 1)
    }

    /// Whether this names a day so that the other names the one `shift` days later.
    fn meets(&self, other: &CronExpr, shift: i64) -> bool {
        let start = days_from_civil(2000, 1, 1);
        let mut from = start;
        while let Some(day) = self.days.next(from).filter(|day| *day < start + DAYS_SEARCHED) {
            if other.days.contains(day + shift) {
                return true;
            }
            let Some(next) = other.days.next(day + shift) else { break };
            from = next - shift;
        }
        false
    }

    /// Whether it names each minute of a day.
    fn times(&self) -> Vec<bool> {
        let is_named =
            |hour: u32, minute: u32| self.hours >> hour & 1 != 0 && self.minutes >> minute & 1 != 0;
        (0..24).flat_map(|hour| (0..60).map(move |minute| is_named(hour, minute))).collect()
    }
}

/// Times of day from `first` to `last`, minutes, that any of the expressions has.
fn times_between(exprs: &[&CronExpr], first: u32, last: u32) -> u64 {
    let mut total = 0;
    for hour in first / 60..=last / 60 {
        let mut minutes =
            exprs.iter().filter(|expr| expr.hours >> hour & 1 != 0).fold(0, |all, expr| all | expr.minutes);
        if hour == first / 60 {
            minutes &= u64::MAX << (first % 60);
        }
        if hour == last / 60 {
            minutes &= (1 << (last % 60 + 1)) - 1;
        }
        total += u64::from(minutes.count_ones());
    }
    total
}

fn lower_first(phrase: &str) -> String {
    let mut chars = phrase.chars();
    chars.next().map_or_else(String::new, |first| first.to_lowercase().chain(chars).collect())
}
