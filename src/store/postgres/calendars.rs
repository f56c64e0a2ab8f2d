//! Stored calendars.

use super::batch::Batch;
use super::connection::Session;
use super::error::PgError;
use super::pipeline::Statement;
use super::queries;
use super::read::each;
use super::rows::{Args, Columns, limit_to_sql};
use crate::model::{Schedule, StoredCalendar};
use crate::store::row_reader::RowReader;
use crate::store::tables::Tables;
use crate::store::{Answer, Command, Rejection};
use std::sync::Arc;
use tokio_postgres::Error;

/// Applies a [`Command::SetCalendar`].
pub(super) async fn set(
    batch: &mut Batch<'_>,
    command: &Command,
) -> Result<Result<Answer, Rejection>, PgError> {
    let Command::SetCalendar { project, name, dates } = command else { return Ok(Err(Rejection::Stale)) };
    let key = || {
        let mut args = Args::default();
        args.text(project);
        args.text(name);
        args
    };
    let mut args = key();
    let statement = if let Some(dates) = dates {
        args.text(dates);
        // The statement that begins the transaction is sent first: only then is it known when the
        // command happens.
        batch.send(Vec::new()).await?;
        args.int(batch.now().as_micros());
        queries::SET_CALENDAR
    } else {
        // Waits for transactions that are creating a schedule with it, and makes later ones wait.
        batch.query(queries::LOCK_CALENDAR_TO_DELETE, key()).await?;
        if !batch.query(queries::USES_CALENDAR, key()).await?.is_empty() {
            return Ok(Err(Rejection::CalendarInUse(Arc::clone(name))));
        }
        queries::DELETE_CALENDAR
    };
    batch.save(vec![Statement::Query(statement, args)]).await?;
    Ok(Ok(Answer::Done))
}

/// These calendars of projects, locked so that none is deleted before the transaction ends.
pub(super) fn named<'c>(names: impl Iterator<Item = (&'c str, &'c str)> + Clone) -> Option<Statement<'c>> {
    names.clone().next()?;
    let mut args = Args::default();
    args.texts(names.clone().map(|(project, _)| project));
    args.texts(names.map(|(_, name)| name));
    Some(Statement::Query(queries::LOCK_CALENDARS, args))
}

pub(super) fn take(tables: &mut Tables, columns: &mut Columns<'_>) -> Result<(), Error> {
    let project = columns.text()?;
    let calendar = columns.calendar()?;
    let name = Arc::clone(&calendar.name);
    *tables.calendars.slot(&project, &name) = Some(calendar);
    Ok(())
}

impl Session<'_> {
    /// The calendars with these names, or all, by name.
    pub async fn calendars(
        self,
        project: &str,
        names: Option<&[Arc<str>]>,
    ) -> Result<Vec<StoredCalendar>, PgError> {
        let mut args = Args::default();
        args.text(project);
        let Some(names) = names else {
            return each(&self.query(queries::ALL_CALENDARS, args).await?, |columns| columns.calendar());
        };
        args.texts(names.iter().map(|name| &**name));
        each(&self.query(queries::CALENDARS, args).await?, |columns| columns.calendar())
    }

    /// Schedules that name any calendar, by id.
    pub async fn schedules_with_calendars(
        self,
        project: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Schedule>, PgError> {
        let mut args = Args::default();
        args.text(project);
        args.text(after.unwrap_or(""));
        args.int(limit_to_sql(limit));
        let rows = self.query(queries::SCHEDULES_WITH_CALENDARS, args).await?;
        each(&rows, |columns| columns.schedule())
    }
}
