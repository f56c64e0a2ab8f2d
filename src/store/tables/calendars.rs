//! Stored calendars.

use super::rows::Tables;
use super::transitions;
use crate::calendar::Timestamp;
use crate::model::{Json, Schedule, StoredCalendar, stored_calendar};
use crate::store::{Answer, Rejection};
use std::sync::Arc;

impl Tables {
    pub(super) fn set_calendar(
        &mut self,
        project: &Arc<str>,
        name: &Arc<str>,
        dates: Option<&Json>,
        now: Timestamp,
    ) -> Result<Answer, Rejection> {
        let in_use = || self.schedules_with_calendars(project, None, usize::MAX);
        if dates.is_none() && in_use().iter().any(|schedule| stored_calendar::is_named_by(schedule, name)) {
            return Err(Rejection::CalendarInUse(Arc::clone(name)));
        }
        let calendar = dates.map(|dates| StoredCalendar::from_row(Arc::clone(name), dates, now));
        let known = std::mem::replace(self.calendars.slot(project, name), calendar);
        if dates.is_some() || known.is_some() {
            self.note_change();
        }
        Ok(Answer::Done)
    }

    /// Rejects schedules that name a calendar which does not exist.
    pub(super) fn check_calendars<'n>(
        &self,
        project: &str,
        names: impl IntoIterator<Item = &'n str>,
    ) -> Result<(), Rejection> {
        let is_missing = |name: &&str| self.calendars.get(project, name).is_none_or(Option::is_none);
        match names.into_iter().find(is_missing) {
            Some(name) => Err(Rejection::CalendarNotFound(name.into())),
            None => Ok(()),
        }
    }

    /// Tells a schedule the dates of its calendars, if a change that forgets its due slots needs
    /// them.
    pub(super) fn attach_calendars(&self, schedule: &mut Schedule, now: Timestamp) {
        if transitions::needs_calendars(schedule, now) {
            let calendars = self.calendars(&schedule.project, None);
            stored_calendar::attach(&calendars, [schedule]);
        }
    }

    /// The calendars with these names, or all, by name.
    pub(in crate::store) fn calendars(
        &self,
        project: &str,
        names: Option<&[Arc<str>]>,
    ) -> Vec<StoredCalendar> {
        let is_wanted = |name: &Arc<str>| names.is_none_or(|names| names.contains(name));
        let all = self.calendars.of(project).filter(|(name, _)| is_wanted(name));
        all.filter_map(|(_, calendar)| calendar.clone()).collect()
    }

    /// Schedules that name any calendar, by id.
    pub(in crate::store) fn schedules_with_calendars(
        &self,
        project: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Vec<Schedule> {
        let ids = self.schedules_of.get(project).into_iter().flatten();
        let schedules = ids.filter(|id| after.is_none_or(|after| id.as_str() > after));
        let schedules = schedules.map(|id| &self.schedules[id].schedule);
        let named =
            |schedule: &&Schedule| schedule.spec.fields().is_some_and(|fields| !fields.calendars.is_empty());
        schedules.filter(named).take(limit).cloned().collect()
    }
}
