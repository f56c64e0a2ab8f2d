//! Stored calendars.

use super::batch::{Applied, Batch};
use super::queries;
use super::read::View;
use super::rows::{Columns, limit_to_sql};
use crate::model::{Json, Schedule, StoredCalendar};
use crate::store::row_reader::RowReader;
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
