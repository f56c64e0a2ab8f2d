//! Stored calendars.

use super::batch::{Applied, Batch};
use super::queries;
use super::read::View;
use super::rows::{Columns, limit_to_sql};
use crate::model::{Json, NewSchedule, Schedule, StoredCalendar, StoredSpec, stored_calendar};
use crate::store::row_reader::RowReader;
use crate::store::tables::transitions;
use crate::store::{Answer, Rejection};
use rusqlite::{Result, params};
use std::sync::Arc;

impl Batch<'_> {
    pub(super) fn set_calendar(&mut self, project: &str, name: &Arc<str>, dates: Option<&Json>) -> Applied {
        let now = self.now();
        match dates {
            Some(dates) => self.run(queries::SET_CALENDAR, params![project, name, dates, now])?,
            None if self.any(queries::USES_CALENDAR, params![project, name])? => {
                return Err(Rejection::CalendarInUse(Arc::clone(name)).into());
            }
            None => self.run(queries::DELETE_CALENDAR, params![project, name])?,
        };
        Ok(Answer::Done)
    }

    /// Rejects schedules that name a calendar which does not exist.
    pub(super) fn check_calendars_of(&mut self, new: &[NewSchedule]) -> Applied<()> {
        // Many schedules of one call have equal specifications.
        let mut checked: Option<&StoredSpec> = None;
        for new in new.iter().filter(|new| checked.replace(&new.spec) != Some(&new.spec)) {
            let names = stored_calendar::named([&new.spec]);
            self.check_calendars(&new.project, names.iter().map(|name| &**name).collect())?;
        }
        Ok(())
    }

    /// Rejects a calendar that does not exist.
    pub(super) fn check_calendars(&mut self, project: &str, names: Vec<&str>) -> Applied<()> {
        if names.is_empty() {
            return Ok(());
        }
        let found = self.named_calendars(project, &names)?;
        match names.into_iter().find(|name| !found.iter().any(|calendar| *calendar.name == **name)) {
            Some(name) => Err(Rejection::CalendarNotFound(name.into()).into()),
            None => Ok(()),
        }
    }

    /// Tells a schedule the dates of its calendars, if a change that forgets its due slots needs
    /// them.
    pub(super) fn attach_calendars(&mut self, schedule: &mut Schedule) -> Result<()> {
        if !transitions::needs_calendars(schedule, self.now()) {
            return Ok(());
        }
        let names = stored_calendar::named([&schedule.spec]);
        let names: Vec<&str> = names.iter().map(|name| &**name).collect();
        let calendars = self.named_calendars(&schedule.project, &names)?;
        stored_calendar::attach(&calendars, [schedule]);
        Ok(())
    }

    fn named_calendars(&mut self, project: &str, names: &[&str]) -> Result<Vec<StoredCalendar>> {
        let names = serde_json::to_string(names).unwrap_or_default();
        self.all_rows(queries::CALENDARS, params![project, names], |row| Columns::of(row).calendar())
    }
}

impl View<'_> {
    /// The calendars with these names, or all, by name.
    pub fn calendars(&mut self, project: &str, names: Option<&[Arc<str>]>) -> Result<Vec<StoredCalendar>> {
        let names = names.map(|names| serde_json::to_string(names).unwrap_or_default());
        self.session.all(queries::CALENDARS, params![project, names], |row| Columns::of(row).calendar())
    }

    /// Schedules that name any calendar, by id.
    pub fn schedules_with_calendars(
        &mut self,
        project: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Schedule>> {
        let params = params![project, after.unwrap_or(""), limit_to_sql(limit)];
        self.session.all(queries::SCHEDULES_WITH_CALENDARS, params, |row| Columns::of(row).schedule())
    }
}
