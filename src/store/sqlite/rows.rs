//! Rows to values and back. Reading is tolerant: a value that only a foreign hand can have written must not hide the
//! rows beside it.

use crate::calendar::Timestamp;
use crate::model::text::{TextEnum, origin_word, outcome_word, state_word, status_word, step_word};
use crate::model::{
    Origin, Run, RunId, RunState, Schedule, ScheduleId, ScheduleStatus, SlotOutcome, StepRecord, StepState,
    Token, WorkerId,
};
use crate::store::transitions::StoredSchedule;
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

/// An unsigned number as the database holds it.
pub(super) fn count_to_sql(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// A limit as the database holds it.
pub(super) fn limit_to_sql(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

/// Reads the columns of a row one after another.
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

    pub fn optional_int(&mut self) -> Result<Option<i64>> {
        Ok(match self.value()? {
            ValueRef::Integer(value) => Some(value),
            _ => None,
        })
    }

    pub fn int(&mut self) -> Result<i64> {
        Ok(self.optional_int()?.unwrap_or(0))
    }

    pub fn flag(&mut self) -> Result<bool> {
        Ok(self.int()? != 0)
    }

    pub fn count(&mut self) -> Result<u64> {
        Ok(u64::try_from(self.int()?).unwrap_or(0))
    }

    pub fn small_count(&mut self) -> Result<u32> {
        Ok(u32::try_from(self.int()?.max(0)).unwrap_or(u32::MAX))
    }

    pub fn time(&mut self) -> Result<Timestamp> {
        self.int().map(Timestamp::from_micros)
    }

    pub fn optional_time(&mut self) -> Result<Option<Timestamp>> {
        Ok(self.optional_int()?.map(Timestamp::from_micros))
    }

    pub fn optional_text(&mut self) -> Result<Option<Arc<str>>> {
        Ok(match self.value()? {
            ValueRef::Text(bytes) | ValueRef::Blob(bytes) => Some(String::from_utf8_lossy(bytes).into()),
            ValueRef::Integer(value) => Some(value.to_string().into()),
            ValueRef::Real(value) => Some(value.to_string().into()),
            ValueRef::Null => None,
        })
    }

    pub fn text(&mut self) -> Result<Arc<str>> {
        Ok(self.optional_text()?.unwrap_or_else(|| "".into()))
    }

    pub fn word<T: TextEnum>(&mut self) -> Result<Option<T>> {
        Ok(match self.value()? {
            ValueRef::Text(bytes) => std::str::from_utf8(bytes).ok().and_then(T::from_word),
            _ => None,
        })
    }

    pub fn schedule_id(&mut self) -> Result<ScheduleId> {
        Ok(ScheduleId::from(&*self.text()?))
    }

    pub fn optional_schedule_id(&mut self) -> Result<Option<ScheduleId>> {
        Ok(self.optional_text()?.map(|text| ScheduleId::from(&*text)))
    }

    pub fn run_id(&mut self) -> Result<RunId> {
        Ok(RunId::from(&*self.text()?))
    }

    pub fn optional_run_id(&mut self) -> Result<Option<RunId>> {
        Ok(self.optional_text()?.map(|text| RunId::from(&*text)))
    }

    pub fn optional_worker_id(&mut self) -> Result<Option<WorkerId>> {
        Ok(self.optional_text()?.map(|text| WorkerId::from(&*text)))
    }

    pub fn schedule(&mut self) -> Result<Schedule> {
        let mut schedule = Schedule {
            id: self.schedule_id()?,
            project: self.text()?,
            workflow: self.text()?,
            key: self.text()?,
            owner: self.optional_text()?,
            spec: self.text()?,
            input: self.optional_text()?,
            status: ScheduleStatus::Broken,
            note: None,
            next_slot: None,
            last_slot: None,
            run_count: 0,
            failure_count: 0,
            attended_from: Timestamp::from_micros(0),
            created_at: Timestamp::from_micros(0),
            updated_at: Timestamp::from_micros(0),
            revision: 0,
            declaration: None,
            settled: None,
        };
        let status = self.word()?;
        schedule.note = self.optional_text()?;
        if status.is_none() {
            schedule.note = Some("its stored status is unknown".into());
        }
        schedule.status = status.unwrap_or(ScheduleStatus::Broken);
        schedule.next_slot = self.optional_time()?;
        schedule.last_slot = self.optional_time()?;
        schedule.run_count = self.count()?;
        schedule.failure_count = self.small_count()?;
        schedule.attended_from = self.time()?;
        schedule.created_at = self.time()?;
        schedule.updated_at = self.time()?;
        schedule.revision = self.int()?;
        schedule.declaration = self.optional_text()?;
        schedule.settled = self.optional_text()?;
        Ok(schedule)
    }

    /// A schedule with its cadence.
    pub fn stored_schedule(&mut self) -> Result<StoredSchedule> {
        Ok(StoredSchedule { schedule: self.schedule()?, compiled_spec: self.text()? })
    }

    /// A state; an unknown one is taken for an end, so that nobody works on it.
    pub fn state(&mut self) -> Result<RunState> {
        Ok(self.word()?.unwrap_or(RunState::Failed))
    }

    pub fn run(&mut self) -> Result<Run> {
        Ok(Run {
            id: self.run_id()?,
            project: self.text()?,
            workflow: self.text()?,
            key: self.text()?,
            schedule_id: self.optional_schedule_id()?,
            slot: self.optional_time()?,
            last_slot: self.optional_time()?,
            upcoming: self.optional_time()?,
            timezone: self.text()?,
            origin: self.word()?.unwrap_or(Origin::Invoke),
            payload: self.optional_text()?,
            input: self.optional_text()?,
            state: self.state()?,
            attempt: self.small_count()?,
            token: Token(self.int()?),
            worker: self.optional_worker_id()?,
            available_at: self.time()?,
            created_at: self.time()?,
            started_at: self.optional_time()?,
            finished_at: self.optional_time()?,
            cancel_requested: self.flag()?,
            result: self.optional_text()?,
            error: self.optional_text()?,
            parent: self.optional_run_id()?,
            idempotency_key: self.optional_text()?,
            interruptions: self.small_count()?,
            interrupted_alone: self.flag()?,
            note: self.optional_text()?,
            refused_by: self.optional_text()?,
        })
    }

    pub fn step(&mut self) -> Result<StepRecord> {
        Ok(StepRecord {
            name: self.text()?,
            // Executed again rather than taken for done.
            state: self.word()?.unwrap_or(StepState::Retrying),
            attempt: self.small_count()?,
            run_attempt: self.small_count()?,
            result: self.optional_text()?,
            error: self.optional_text()?,
            wakes_at: self.optional_time()?,
            started_at: self.time()?,
            finished_at: self.time()?,
        })
    }
}
