//! Converts between SQLite's values and ours. [`RowReader`] decodes whole rows.

use crate::calendar::Timestamp;
use crate::model::text::{TextEnum, origin_word, outcome_word, state_word, status_word, step_word};
use crate::model::{
    Origin, RunId, RunState, ScheduleId, ScheduleStatus, SlotOutcome, StepState, Token, WorkerId,
};
use crate::store::row_reader::RowReader;
use rusqlite::types::{ToSql, ToSqlOutput, ValueRef};
use rusqlite::{Result, Row};
use std::sync::Arc;

macro_rules! bound {
    ($($kind:ty: $self:ident => $value:expr),+ $(,)?) => {
        $(impl ToSql for $kind {
            fn to_sql(&$self) -> Result<ToSqlOutput<'_>> {
                Ok(ToSqlOutput::from($value))
            }
        })+
    };
}

bound! {
    Timestamp: self => self.as_micros(),
    Token: self => self.0,
    ScheduleId: self => self.as_str(),
    RunId: self => self.as_str(),
    WorkerId: self => self.as_str(),
    ScheduleStatus: self => status_word(*self),
    RunState: self => state_word(*self),
    Origin: self => origin_word(*self),
    StepState: self => step_word(*self),
    SlotOutcome: self => outcome_word(*self),
}

/// Converts an unsigned number for the database.
pub(super) fn count_to_sql(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// Converts a limit for the database.
pub(super) fn limit_to_sql(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

/// Reads the columns of a row from left to right.
pub(super) struct Columns<'r, 's> {
    row: &'r Row<'s>,
    next: usize,
}

impl<'r, 's> Columns<'r, 's> {
    pub fn of(row: &'r Row<'s>) -> Self {
        Self { row, next: 0 }
    }

    fn value(&mut self) -> Result<ValueRef<'r>> {
        self.next += 1;
        self.row.get_ref(self.next - 1)
    }
}

impl RowReader for Columns<'_, '_> {
    type Error = rusqlite::Error;

    fn optional_int(&mut self) -> Result<Option<i64>> {
        Ok(match self.value()? {
            ValueRef::Integer(value) => Some(value),
            _ => None,
        })
    }

    fn optional_flag(&mut self) -> Result<Option<bool>> {
        Ok(self.optional_int()?.map(|value| value != 0))
    }

    fn optional_text(&mut self) -> Result<Option<Arc<str>>> {
        Ok(match self.value()? {
            ValueRef::Text(bytes) | ValueRef::Blob(bytes) => Some(String::from_utf8_lossy(bytes).into()),
            ValueRef::Integer(value) => Some(value.to_string().into()),
            ValueRef::Real(value) => Some(value.to_string().into()),
            ValueRef::Null => None,
        })
    }

    fn word<T: TextEnum>(&mut self) -> Result<Option<T>> {
        Ok(match self.value()? {
            ValueRef::Text(bytes) => std::str::from_utf8(bytes).ok().and_then(T::from_word),
            _ => None,
        })
    }
}
