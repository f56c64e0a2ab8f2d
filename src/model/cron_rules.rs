//! What a specification says about its cron expressions: the list, `days`, and `weeks`.

use super::schedule::{ScheduleSpec, Trigger};
use super::spec::SpecError;
use super::stored_calendar::{CALENDARS_MAX, objection_to_name};
use super::{CronTexts, Days};
use crate::calendar::{Timestamp, Zone};
use crate::cron::{CivilDate, CronUnion, WeekCycle};

/// Most cron expressions of a schedule.
const EXPRESSIONS_MAX: usize = 32;
/// After so many days, weekdays and dates come in the same order again.
const DAYS_OF_CALENDAR: i64 = 146_097;
/// Most `weeks`: ten years.
const WEEKS_MAX: u32 = 520;

/// The expressions of `spec`, which has cron expressions as its trigger.
pub(super) fn compile(spec: &ScheduleSpec, texts: &CronTexts, zone: &Zone) -> Result<CronUnion, SpecError> {
    let invalid = |text: String| Err(SpecError::Invalid(text));
    let texts = texts.as_slice();
    if texts.is_empty() {
        return invalid("`cron` is an empty list; give at least one expression".to_owned());
    }
    if texts.len() > EXPRESSIONS_MAX {
        return invalid(format!(
            "`cron` has {} expressions; give at most {EXPRESSIONS_MAX}, or make several schedules with keys of \
             their own",
            texts.len()
        ));
    }
    let mut union = CronUnion::parse(texts)?;
    if spec.days == Days::And {
        union = union.with_both_days()?;
    }
    match spec.weeks {
        None | Some(1) => Ok(union),
        Some(weeks) if !(1..=WEEKS_MAX).contains(&weeks) => {
            invalid(format!("`weeks` is {weeks}; give 1 (every week) to {WEEKS_MAX}"))
        }
        Some(weeks) => {
            let Some(start) = spec.start_at_us else {
                return invalid(format!(
                    "`weeks` is {weeks}, but nothing says which weeks; give `start_at`, a time in the first week \
                     that counts"
                ));
            };
            let anchor = local_date(zone, start);
            Ok(union.in_weeks(WeekCycle::new(weeks, anchor), anchor)?)
        }
    }
}

/// The days that `skip` excludes by cron expressions; `None` without any. Refused unless each of
/// them names whole days, and together not every day.
pub(super) fn compile_skips(texts: &[String]) -> Result<Option<CronUnion>, SpecError> {
    let invalid = |text: String| Err(SpecError::Invalid(text));
    if texts.is_empty() {
        return Ok(None);
    }
    if texts.len() > EXPRESSIONS_MAX {
        return invalid(format!(
            "`skip` has {} cron expressions; give at most {EXPRESSIONS_MAX}",
            texts.len()
        ));
    }
    let union = CronUnion::parse(texts)?;
    if let Some(expr) = union.exprs().iter().find(|expr| !expr.has_whole_days()) {
        return invalid(format!(
            "`skip` has `cron:{expr}`, which names times of day; it skips whole days, so its minute and hour are \
             `*`: `cron:* * 1 * *` skips the first day of each month"
        ));
    }
    let first = CivilDate { year: 2000, month: 1, day: 1 }.days();
    if (first..first + DAYS_OF_CALENDAR).all(|day| union.names_day(CivilDate::from_days(day))) {
        return invalid("`skip` excludes every day, so the schedule would never run".to_owned());
    }
    Ok(Some(union))
}

/// What is wrong with the calendars that `skip` names.
pub(super) fn objection_to_calendars(names: &[String]) -> Option<String> {
    if names.len() > CALENDARS_MAX {
        return Some(format!("`skip` names {} calendars; give at most {CALENDARS_MAX}", names.len()));
    }
    let objection = names.iter().find_map(|name| objection_to_name(name))?;
    Some(format!("`skip`: {objection}"))
}

/// Whether `date` is one of these days.
pub(super) fn names(days: &CronUnion, date: jiff::civil::Date) -> bool {
    days.names_day(civil(date))
}

/// Refuses to move slots where that means nothing.
pub(super) fn check_on_skip(spec: &ScheduleSpec, trigger: &Trigger<'_>) -> Result<(), SpecError> {
    let invalid = |text: &str| Err(SpecError::Invalid(format!("`on_skip` is `next_workday`, {text}")));
    match trigger {
        _ if spec.on_skip.is_none() => Ok(()),
        Trigger::Every(_) => invalid(
            "but `every` is elapsed time, not a time of day; use `cron`, such as `0 9 * * *`, or leave it out",
        ),
        Trigger::Cron(_) | Trigger::At(_) if spec.skip_calendar => invalid(
            "but `skip` is a calendar of the application, which is asked when the slot has come; store its dates with \
             `calendars.set` and give the name",
        ),
        Trigger::Cron(_) | Trigger::At(_) => Ok(()),
    }
}

/// Refuses what only cron expressions can have.
pub(super) fn check_other_trigger(spec: &ScheduleSpec, trigger: &Trigger<'_>) -> Result<(), SpecError> {
    let given = match trigger {
        Trigger::Cron(_) => return Ok(()),
        Trigger::Every(_) => "`every`",
        Trigger::At(_) => "`at`",
    };
    let invalid = |text: String| Err(SpecError::Invalid(text));
    if let Some(weeks) = spec.weeks {
        return invalid(format!(
            "`weeks` is {weeks} beside {given}, but belongs to `cron`; for elapsed time use \
             `every=timedelta(weeks={weeks})`"
        ));
    }
    if spec.days == Days::And {
        return invalid(format!("`days` is `and` beside {given}, but belongs to `cron`; leave it out"));
    }
    Ok(())
}

/// Which weeks count, for the end of a description; empty if all do.
pub(super) fn describe_weeks(spec: &ScheduleSpec, zone: &Zone) -> String {
    let (Some(weeks @ 2..), Some(start)) = (spec.weeks, spec.start_at_us) else {
        return String::new();
    };
    let date = local_date(zone, start);
    let pace = match (weeks, weeks % 10, weeks / 10 % 10) {
        (2, ..) => "second".to_owned(),
        (3, ..) => "third".to_owned(),
        (_, 1, tens) if tens != 1 => format!("{weeks}st"),
        (_, 2, tens) if tens != 1 => format!("{weeks}nd"),
        (_, 3, tens) if tens != 1 => format!("{weeks}rd"),
        _ => format!("{weeks}th"),
    };
    format!(
        "; only in every {pace} week, counted from that of {:04}-{:02}-{:02}",
        date.year, date.month, date.day
    )
}

fn local_date(zone: &Zone, at: Timestamp) -> CivilDate {
    civil(zone.local_date(at))
}

fn civil(date: jiff::civil::Date) -> CivilDate {
    CivilDate {
        year: date.year().into(),
        month: date.month().unsigned_abs().into(),
        day: date.day().unsigned_abs().into(),
    }
}
