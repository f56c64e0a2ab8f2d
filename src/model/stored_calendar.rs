//! Stored calendars: lists of dates with a name. A specification names calendars, and the dates of
//! a calendar can change without a change of the schedules that name it.

use super::{Json, Schedule, StoredSpec};
use crate::calendar::Timestamp;
use jiff::civil::Date;
use std::collections::HashMap;
use std::sync::Arc;

/// Most dates of one calendar.
pub const DATES_MAX: usize = 10_000;
/// Most calendars of one schedule.
pub const CALENDARS_MAX: usize = 16;
/// Most characters of a name.
pub const NAME_LENGTH_MAX: usize = 100;

/// How the note of a schedule begins that is broken only because a calendar does not exist.
pub const MISSING: &str = "there is no calendar";

/// A calendar as stored.
#[derive(Clone, PartialEq, Debug)]
pub struct StoredCalendar {
    /// Unique in the project.
    pub name: Arc<str>,
    /// Its dates, in order, each once.
    pub dates: Arc<[Date]>,
    /// When it was set last.
    pub updated_at: Timestamp,
}

impl StoredCalendar {
    /// From its stored text. A text that only foreign software can have written is a calendar
    /// without dates.
    pub fn from_row(name: Arc<str>, dates: &str, updated_at: Timestamp) -> Self {
        let texts: Vec<String> = serde_json::from_str(dates).unwrap_or_default();
        let mut dates: Vec<Date> = texts.iter().filter_map(|text| text.parse().ok()).collect();
        dates.sort_unstable();
        dates.dedup();
        Self { name, dates: dates.into(), updated_at }
    }
}

/// Dates as they are stored: a JSON array of texts, in order, each once. The error names what is
/// not a date, or says that there are too many.
pub fn stored_dates(texts: &[String]) -> Result<Json, String> {
    if texts.len() > DATES_MAX {
        return Err(format!(
            "the calendar has {} dates; give at most {DATES_MAX}, or several calendars",
            texts.len()
        ));
    }
    let texts: Vec<String> = parsed_dates(texts)?.iter().map(ToString::to_string).collect();
    Ok(serde_json::to_string(&texts).unwrap_or_default().into())
}

/// Dates in order, each once. The error names what is not a date.
pub fn parsed_dates(texts: &[String]) -> Result<Arc<[Date]>, String> {
    let mut dates = Vec::with_capacity(texts.len());
    for text in texts {
        let date = text.parse::<Date>();
        dates.push(date.map_err(|_| format!("`{text}` is no date; dates are written like `2026-12-25`"))?);
    }
    dates.sort_unstable();
    dates.dedup();
    Ok(dates.into())
}

/// Why `name` can't be the name of a calendar. In `skip`, names stand beside dates and cron
/// expressions, so they begin with a letter.
pub fn objection_to_name(name: &str) -> Option<String> {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let is_valid = name.starts_with(|c: char| c.is_ascii_alphabetic()) && name.chars().all(is_allowed);
    if is_valid && name.len() <= NAME_LENGTH_MAX {
        return None;
    }
    Some(format!(
        "`{}` can't be the name of a calendar; it begins with a letter and has at most {NAME_LENGTH_MAX} letters, \
         digits, `-`, `_`, and `.`",
        name.chars().take(NAME_LENGTH_MAX).collect::<String>().escape_debug()
    ))
}

/// Why a schedule can't be decided whose calendar does not exist.
pub fn missing(name: &str) -> String {
    format!(
        "{MISSING} `{name}`, which `skip` names, so nobody knows which days to skip; create it with \
         `polos calendars set {name} FILE`, and the schedule continues"
    )
}

/// Whether the note of a broken schedule is that of a worker whose release could not read it: an
/// older one rejects a field, a value, or a list that it does not know.
pub fn is_of_older_release(note: &str) -> bool {
    let unread = ["unknown field `", "unknown variant `", "invalid type: "];
    unread.iter().any(|beginning| note.starts_with(beginning))
}

/// The calendars that the specifications name, without repetitions.
pub fn named<'s>(specs: impl IntoIterator<Item = &'s StoredSpec>) -> Vec<Arc<str>> {
    let mut names: Vec<Arc<str>> = Vec::new();
    for compiled_spec in specs.into_iter().filter_map(|spec| spec.compiled().ok()) {
        for name in &compiled_spec.spec().calendars {
            if !names.iter().any(|known| **known == **name) {
                names.push(name.as_str().into());
            }
        }
    }
    names
}

/// Whether the schedule names the calendar.
pub fn is_named_by(schedule: &Schedule, name: &str) -> bool {
    schedule.spec.fields().is_some_and(|fields| fields.calendars.iter().any(|each| each == name))
}

/// Tells the schedules the dates of the calendars that they name. Schedules with equal
/// specifications share the result.
pub fn attach<'s>(calendars: &[StoredCalendar], schedules: impl IntoIterator<Item = &'s mut Schedule>) {
    let mut known: HashMap<Json, StoredSpec> = HashMap::new();
    for schedule in schedules {
        let Ok(compiled_spec) = schedule.spec.compiled() else { continue };
        if compiled_spec.spec().calendars.is_empty() {
            continue;
        }
        let text = Arc::clone(schedule.spec.text());
        let spec = known.entry(text).or_insert_with(|| {
            let dates = |name: &str| {
                calendars.iter().find(|each| *each.name == *name).map(|each| Arc::clone(&each.dates))
            };
            StoredSpec::from(Arc::new((**compiled_spec).clone().with_calendars(dates)))
        });
        schedule.spec = spec.clone();
    }
}
