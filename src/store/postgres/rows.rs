//! Rows to values and back. Reading is tolerant: a value that only a foreign hand can have written must not hide the
//! rows beside it.

use crate::calendar::Timestamp;
use crate::model::text::TextEnum;
use crate::model::{
    Origin, Run, RunId, RunState, Schedule, ScheduleId, ScheduleStatus, StepRecord, StepState, Token,
    WorkerId,
};
use crate::store::Answer;
use crate::store::memory::{EndedClaim, RunRow};
use crate::store::transitions::StoredSchedule;
use std::borrow::Cow;
use std::sync::Arc;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Error, Row};

type Result<T> = std::result::Result<T, Error>;

/// Parameters of one statement.
#[derive(Default)]
pub(super) struct Args<'a>(Vec<(Box<dyn ToSql + Sync + Send + 'a>, Type)>);

impl<'a> Args<'a> {
    /// Adds a parameter; its number.
    pub fn add(&mut self, value: impl ToSql + Sync + Send + 'a, kind: Type) -> usize {
        self.0.push((Box::new(value), kind));
        self.0.len()
    }

    pub fn text(&mut self, value: &'a str) -> usize {
        self.add(encoded(value), Type::TEXT)
    }

    pub fn texts(&mut self, values: impl IntoIterator<Item = &'a str>) -> usize {
        let values: Vec<_> = values.into_iter().map(encoded).collect();
        self.add(values, Type::TEXT_ARRAY)
    }

    pub fn optional_text(&mut self, value: Option<&'a str>) -> usize {
        self.add(value.map(encoded), Type::TEXT)
    }

    pub fn optional_texts(&mut self, values: impl IntoIterator<Item = Option<&'a str>>) -> usize {
        let values: Vec<_> = values.into_iter().map(|value| value.map(encoded)).collect();
        self.add(values, Type::TEXT_ARRAY)
    }

    pub fn int(&mut self, value: i64) -> usize {
        self.add(value, Type::INT8)
    }

    pub fn ints(&mut self, values: impl IntoIterator<Item = i64>) -> usize {
        self.add(values.into_iter().collect::<Vec<_>>(), Type::INT8_ARRAY)
    }

    pub fn optional_ints(&mut self, values: impl IntoIterator<Item = Option<i64>>) -> usize {
        self.add(values.into_iter().collect::<Vec<_>>(), Type::INT8_ARRAY)
    }

    pub fn flags(&mut self, values: impl IntoIterator<Item = bool>) -> usize {
        self.add(values.into_iter().collect::<Vec<_>>(), Type::BOOL_ARRAY)
    }

    pub fn optional_flags(&mut self, values: impl IntoIterator<Item = Option<bool>>) -> usize {
        self.add(values.into_iter().collect::<Vec<_>>(), Type::BOOL_ARRAY)
    }

    pub fn kinds(&self) -> Vec<Type> {
        self.0.iter().map(|(_, kind)| kind.clone()).collect()
    }

    pub fn values(&self) -> Vec<&(dyn ToSql + Sync)> {
        self.0.iter().map(|(value, _)| &**value as &(dyn ToSql + Sync)).collect()
    }

    /// As the client library takes them.
    pub fn borrowed(&self) -> Vec<(&(dyn ToSql + Sync), Type)> {
        self.0.iter().map(|(value, kind)| (&**value as &(dyn ToSql + Sync), kind.clone())).collect()
    }
}

/// The parameters of these numbers, in a row.
pub(super) fn parameters(numbers: &[usize]) -> String {
    numbers.iter().map(|number| format!("${number}")).collect::<Vec<_>>().join(", ")
}

/// PostgreSQL's texts hold no NUL. It becomes U+0001 U+0001, and U+0001 becomes U+0001 U+0002: so texts stay different,
/// and keep their order.
pub fn encoded(text: &str) -> Cow<'_, str> {
    if !text.bytes().any(|byte| byte <= 1) {
        return Cow::Borrowed(text);
    }
    let mut spelled = String::with_capacity(text.len() + 8);
    for sign in text.chars() {
        match sign {
            '\0' => spelled.push_str("\u{1}\u{1}"),
            '\u{1}' => spelled.push_str("\u{1}\u{2}"),
            other => spelled.push(other),
        }
    }
    Cow::Owned(spelled)
}

/// What was [`encoded`].
pub fn decoded(text: &str) -> Cow<'_, str> {
    if !text.contains('\u{1}') {
        return Cow::Borrowed(text);
    }
    let mut plain = String::with_capacity(text.len());
    let mut signs = text.chars();
    while let Some(sign) = signs.next() {
        match sign {
            '\u{1}' => plain.push(if signs.next() == Some('\u{1}') { '\0' } else { '\u{1}' }),
            other => plain.push(other),
        }
    }
    Cow::Owned(plain)
}

/// An unsigned number as the database holds it.
pub(super) fn count_to_sql(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// A limit as the database holds it.
pub(super) fn limit_to_sql(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

/// Columns of a schedule, as [`Columns::schedule`] reads them.
pub(super) const SCHEDULE: &str = "s.id, s.project, s.workflow, s.key, s.owner, s.spec, s.input, s.status, s.note, \
    s.next_slot, s.last_slot, s.run_count, s.failure_count, s.attended_from, s.created_at, s.updated_at, s.revision, \
    s.declaration, s.settled";

/// Columns of a run, as [`Columns::run`] reads them.
pub(super) const RUN: &str = "r.id, r.project, r.workflow, r.key, r.schedule_id, r.slot, r.last_slot, r.upcoming, \
    r.timezone, r.origin, r.payload, r.input, r.state, r.attempt, r.token, r.worker, r.available_at, r.created_at, \
    r.started_at, r.finished_at, r.cancel_requested, r.result, r.error, r.parent, r.idempotency_key, \
    r.interruptions, r.interrupted_alone, r.note, r.refused_by";

/// The same without what never changes and may be large.
pub(super) const LIGHT_RUN: &str = "r.id, r.project, r.workflow, r.key, r.schedule_id, r.slot, r.last_slot, \
    r.upcoming, r.timezone, r.origin, NULL::text, NULL::text, r.state, r.attempt, r.token, r.worker, \
    r.available_at, r.created_at, r.started_at, r.finished_at, r.cancel_requested, r.result, r.error, r.parent, \
    r.idempotency_key, r.interruptions, r.interrupted_alone, r.note, r.refused_by";

/// Columns before those of a run, as [`Columns::run_row`] reads them.
pub(super) const RUN_ROW: &str =
    "r.no, r.child_ended, r.ended_token, r.ended_print, r.ended_state, r.ended_released, r.interrupted_token";

/// The state of a run that is found by something else. Said so, the server doesn't think of an index of the runs in that
/// state: a plan that was made while there were none would look through all of them.
pub(super) const STATE: &str = "r.state || ''";

/// Columns of a step, as [`Columns::step`] reads them.
pub(super) const STEP: &str =
    "t.name, t.state, t.attempt, t.run_attempt, t.result, t.error, t.wakes_at, t.started_at, t.finished_at";

/// Reads the columns of a row one after another.
pub(super) struct Columns<'r> {
    row: &'r Row,
    next: usize,
}

impl<'r> Columns<'r> {
    pub fn of(row: &'r Row) -> Self {
        Self { row, next: 0 }
    }

    pub fn skip(&mut self) {
        self.next += 1;
    }

    fn raw_text(&mut self) -> Result<Option<&'r str>> {
        self.next += 1;
        self.row.try_get(self.next - 1)
    }

    pub fn optional_int(&mut self) -> Result<Option<i64>> {
        self.next += 1;
        self.row.try_get(self.next - 1)
    }

    pub fn int(&mut self) -> Result<i64> {
        Ok(self.optional_int()?.unwrap_or(0))
    }

    pub fn optional_flag(&mut self) -> Result<Option<bool>> {
        self.next += 1;
        self.row.try_get(self.next - 1)
    }

    pub fn flag(&mut self) -> Result<bool> {
        Ok(self.optional_flag()?.unwrap_or(false))
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
        Ok(self.raw_text()?.map(|text| decoded(text).into()))
    }

    pub fn text(&mut self) -> Result<Arc<str>> {
        Ok(self.optional_text()?.unwrap_or_else(|| "".into()))
    }

    pub fn texts(&mut self) -> Result<Vec<Arc<str>>> {
        self.next += 1;
        let texts: Vec<&str> = self.row.try_get(self.next - 1)?;
        Ok(texts.into_iter().map(|text| decoded(text).into()).collect())
    }

    pub fn word<T: TextEnum>(&mut self) -> Result<Option<T>> {
        Ok(self.raw_text()?.and_then(T::from_word))
    }

    pub fn schedule_id(&mut self) -> Result<ScheduleId> {
        Ok(ScheduleId::from(&*self.text()?))
    }

    pub fn run_id(&mut self) -> Result<RunId> {
        Ok(RunId::from(&*self.text()?))
    }

    pub fn worker_id(&mut self) -> Result<WorkerId> {
        Ok(WorkerId::from(&*self.text()?))
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
            schedule_id: self.optional_text()?.map(|text| ScheduleId::from(&*text)),
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
            parent: self.optional_text()?.map(|text| RunId::from(&*text)),
            idempotency_key: self.optional_text()?,
            interruptions: self.small_count()?,
            interrupted_alone: self.flag()?,
            note: self.optional_text()?,
            refused_by: self.optional_text()?,
        })
    }

    /// A run with what only the database knows of it.
    pub fn run_row(&mut self) -> Result<RunRow> {
        let no = self.count()?;
        let child_ended = self.flag()?;
        let token = self.optional_int()?;
        let print = self.int()?;
        let state = self.state()?;
        let released = self.flag()?;
        let ended = token.map(|token| EndedClaim {
            token: Token(token),
            print,
            answer: Answer::Ended { state, released },
        });
        let interrupted_token = self.optional_int()?.map(Token);
        Ok(RunRow { run: self.run()?, no, child_ended, ended, interrupted_token })
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
