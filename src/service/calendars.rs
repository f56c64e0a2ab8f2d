//! Requests about stored calendars.

use super::context::{NextStep, RequestContext};
use super::response::to_json;
use super::runs::shortened;
use crate::error::Error;
use crate::model::stored_calendar::{self, StoredCalendar, objection_to_name, stored_dates};
use crate::model::{Schedule, StoredSpec};
use crate::store::{Command, Page, Rejection, StoreWrites, mending};
use serde_json::json;
use std::sync::Arc;

/// So many schedules and calendars are named in an error.
const NAMED_MAX: usize = 5;
/// Schedules that are read at once.
const PAGE: usize = 1_000;

fn shown(calendar: &StoredCalendar) -> serde_json::Value {
    let dates: Vec<String> = calendar.dates.iter().map(ToString::to_string).collect();
    json!({"name": &*calendar.name, "dates": dates, "updated_at": calendar.updated_at})
}

pub(super) fn list(context: &RequestContext) -> Result<NextStep, Error> {
    let calendars = context.reads.calendars(&context.project, None)?;
    Ok(NextStep::Answered(to_json(&calendars.iter().map(shown).collect::<Vec<_>>())))
}

pub(super) fn get(context: &RequestContext, name: &Arc<str>) -> Result<NextStep, Error> {
    Ok(NextStep::Answered(to_json(&shown(&find(context, name)?))))
}

fn find(context: &RequestContext, name: &Arc<str>) -> Result<StoredCalendar, Error> {
    let found = context.reads.calendars(&context.project, Some(std::slice::from_ref(name)))?;
    found.into_iter().next().ok_or_else(|| Error::CalendarNotFound(not_found(name, &known(context))))
}

/// The names of all calendars; none if they can't be read, because they are only for a message.
fn known(context: &RequestContext) -> Vec<Arc<str>> {
    let calendars = context.reads.calendars(&context.project, None).unwrap_or_default();
    calendars.into_iter().map(|calendar| calendar.name).collect()
}

fn not_found(name: &str, known: &[Arc<str>]) -> String {
    let names: Vec<String> = known.iter().take(NAMED_MAX).map(|name| format!("`{name}`")).collect();
    let others = match known.len() - names.len() {
        0 => String::new(),
        rest => format!(", and {rest} more"),
    };
    let there = if names.is_empty() {
        "there are none yet".to_owned()
    } else {
        format!("there are {}{others}", names.join(", "))
    };
    let name = shortened(name);
    format!(
        "there is no calendar `{name}` in this project; {there}; create it with `calendars.set(client, \"{name}\", \
         dates)` or `polos calendars set {name} FILE`"
    )
}

/// Refuses specifications that name calendars which do not exist.
pub(super) fn check_named<'s>(
    context: &RequestContext,
    specs: impl IntoIterator<Item = &'s StoredSpec>,
) -> Result<(), Error> {
    let names = stored_calendar::named(specs);
    if names.is_empty() {
        return Ok(());
    }
    let found = context.reads.calendars(&context.project, Some(&names))?;
    match names.iter().find(|name| !found.iter().any(|calendar| calendar.name == **name)) {
        Some(missing) => Err(Error::CalendarNotFound(not_found(missing, &known(context)))),
        None => Ok(()),
    }
}

/// Sets the dates of a calendar. Schedules that are broken because it did not exist continue.
pub(super) fn set(context: &RequestContext, name: &Arc<str>, dates: &[String]) -> Result<NextStep, Error> {
    if let Some(objection) = objection_to_name(name) {
        return Err(Error::Argument(objection));
    }
    let dates = Some(stored_dates(dates).map_err(Error::Argument)?);
    commit(context, name, dates)?;
    let mut page = Page { limit: PAGE, after: None };
    loop {
        let (commands, after) = mending(&*context.reads, &context.project, &page)?;
        if !commands.is_empty() {
            for outcome in context.writes.commit(&commands, context.now())? {
                match outcome {
                    // Somebody else has changed or deleted it meanwhile.
                    Ok(_) | Err(Rejection::Stale | Rejection::ScheduleNotFound(_)) => {}
                    Err(rejection) => return Err(rejection.into()),
                }
            }
        }
        if after.is_none() {
            return get(context, name);
        }
        page.after = after;
    }
}

pub(super) fn delete(context: &RequestContext, name: &Arc<str>) -> Result<NextStep, Error> {
    find(context, name)?;
    match commit(context, name, None) {
        Err(Error::State(_)) => Err(Error::State(in_use(context, name)?)),
        done => done.map(|()| NextStep::Answered("null".to_owned())),
    }
}

fn commit(context: &RequestContext, name: &Arc<str>, dates: Option<crate::model::Json>) -> Result<(), Error> {
    let command =
        Command::SetCalendar { project: Arc::clone(&context.project), name: Arc::clone(name), dates };
    context.writes.commit(&[command], context.now())?.remove(0)?;
    Ok(())
}

/// Names the schedules that use the calendar.
fn in_use(context: &RequestContext, name: &str) -> Result<String, Error> {
    let mut found = Vec::new();
    let mut after = None;
    loop {
        let page = Page { limit: PAGE, after };
        let schedules = context.reads.schedules_with_calendars(&context.project, &page)?;
        after = schedules.last().map(|schedule| schedule.id.to_string());
        let is_last = schedules.len() < PAGE;
        found.extend(schedules.into_iter().filter(|schedule| stored_calendar::is_named_by(schedule, name)));
        if is_last || found.len() > NAMED_MAX {
            break;
        }
    }
    if found.is_empty() {
        return Ok(format!(
            "the calendar `{name}` was in use when it was to be deleted, and no longer is; delete it again"
        ));
    }
    let users = found.iter().take(NAMED_MAX);
    let users: Vec<String> = users
        .map(|schedule| {
            format!("`{}` (workflow `{}`, key `{}`)", schedule.id, schedule.workflow, schedule.key)
        })
        .collect();
    let more = if found.len() > NAMED_MAX { ", and others" } else { "" };
    Ok(format!(
        "the calendar `{name}` is in use by the schedules {}{more}; take it out of their `skip`, or delete them, first",
        users.join(", ")
    ))
}

/// Refuses a schedule whose calendar is missing.
pub(super) fn refuse_missing(schedule: &Schedule) -> Result<(), Error> {
    let compiled_spec = schedule.spec.compiled().map_err(Clone::clone)?;
    match compiled_spec.missing_calendar() {
        Some(name) => Err(Error::State(stored_calendar::missing(name))),
        None => Ok(()),
    }
}
