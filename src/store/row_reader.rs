//! Decodes rows: each kind of row in one place, for every database.
//!
//! Decoding is tolerant: a value that only foreign software can have written must not hide the
//! other rows. Such a value becomes the most cautious one of its kind.

use super::tables::transitions::StoredSchedule;
use super::{DueSchedule, KeyedRun, WaitingParent};
use crate::calendar::Timestamp;
use crate::model::limit::TakenTokens;
use crate::model::text::TextEnum;
use crate::model::{
    EventRecord, HookCall, Limit, Origin, Peer, Run, RunId, RunState, Schedule, ScheduleId, ScheduleStatus,
    StepRecord, StepState, StoredCalendar, StoredCounts, Token, WorkerId, WorkflowEntry,
};
use std::sync::Arc;

/// The columns of a schedule `s`, in the order in which [`RowReader::schedule`] reads them.
macro_rules! schedule_columns {
    () => {
        "s.id, s.project, s.workflow, s.key, s.owner, s.spec, s.input, s.status, s.note, s.next_slot, \
         s.last_slot, s.run_count, s.failure_count, s.attended_from, s.created_at, s.updated_at, \
         s.revision, s.declaration, s.settled, s.tags, s.ran_beyond, s.skipped_count, s.missed_count"
    };
}

/// The columns of a run `r`, in the order in which [`RowReader::run`] reads them.
macro_rules! run_columns {
    () => {
        "r.id, r.project, r.workflow, r.key, r.schedule_id, r.slot, r.last_slot, r.upcoming, r.timezone, \
         r.origin, r.payload, r.input, r.state, r.attempt, r.token, r.worker, r.available_at, \
         r.created_at, r.started_at, r.finished_at, r.cancel_requested, r.result, r.error, r.parent, \
         r.idempotency_key, r.interruptions, r.interrupted_alone, r.note, r.progress, \
         r.refused_by, r.limit_name, r.priority"
    };
}

/// The columns of a step `t`, in the order in which [`RowReader::step`] reads them.
macro_rules! step_columns {
    () => {
        "t.name, t.state, t.attempt, t.run_attempt, t.result, t.error, t.wakes_at, t.started_at, \
         t.finished_at"
    };
}

/// The columns of an event `e`, in the order in which [`RowReader::event`] reads them.
macro_rules! event_columns {
    () => {
        "e.name, e.payload, e.idempotency_key, e.received_at"
    };
}

/// The columns of a hook call `h`, in the order in which [`RowReader::hook_call`] reads them.
macro_rules! hook_call_columns {
    () => {
        "h.id, h.project, h.workflow, h.event, h.schedule_id, h.key, h.from_slot, h.until_slot, \
         h.slot_count, h.reason, h.due_at, h.check_at, h.seen_token, h.is_late, h.worker"
    };
}

/// The columns of a worker `w`, in the order in which [`RowReader::peer`] reads them.
macro_rules! peer_columns {
    () => {
        "w.id, w.app, w.host, w.pid, w.process_mark, w.about, w.beat, w.entered_at, w.beat_at, w.declares"
    };
}

/// The columns of a limit `l`, in the order in which [`RowReader::limit`] reads them.
#[cfg(feature = "postgres")]
macro_rules! limit_columns {
    () => {
        "l.declaration, l.set_values, l.taken, l.updated_at"
    };
}

#[cfg(feature = "postgres")]
pub(super) use limit_columns;
pub(super) use {
    event_columns, hook_call_columns, peer_columns, run_columns, schedule_columns, step_columns,
};

/// Reads the columns of one row, from left to right.
///
/// A database provides the first methods; the others follow from them.
pub(super) trait RowReader {
    /// The error of the database's client library.
    type Error;

    /// A number; `None` for NULL.
    fn optional_int(&mut self) -> Result<Option<i64>, Self::Error>;

    /// A flag; `None` for NULL.
    fn optional_flag(&mut self) -> Result<Option<bool>, Self::Error>;

    /// A text; `None` for NULL.
    fn optional_text(&mut self) -> Result<Option<Arc<str>>, Self::Error>;

    /// A value of an enum; `None` for NULL and for a word that this release doesn't know.
    fn word<T: TextEnum>(&mut self) -> Result<Option<T>, Self::Error>;

    fn int(&mut self) -> Result<i64, Self::Error> {
        Ok(self.optional_int()?.unwrap_or(0))
    }

    fn flag(&mut self) -> Result<bool, Self::Error> {
        Ok(self.optional_flag()?.unwrap_or(false))
    }

    fn count(&mut self) -> Result<u64, Self::Error> {
        Ok(u64::try_from(self.int()?).unwrap_or(0))
    }

    fn small_count(&mut self) -> Result<u32, Self::Error> {
        Ok(u32::try_from(self.int()?.max(0)).unwrap_or(u32::MAX))
    }

    fn priority(&mut self) -> Result<u8, Self::Error> {
        Ok(u8::try_from(self.int()?).unwrap_or(0))
    }

    /// A limit, from `limit_columns!`.
    fn limit(&mut self) -> Result<Limit, Self::Error> {
        Ok(Limit {
            declaration: self.text()?,
            set: self.optional_text()?.and_then(|text| Limit::parse_set(&text)),
            taken: TakenTokens::parse(self.optional_text()?.as_deref()),
            updated_at: self.time()?,
        })
    }

    fn time(&mut self) -> Result<Timestamp, Self::Error> {
        self.int().map(Timestamp::from_micros)
    }

    fn optional_time(&mut self) -> Result<Option<Timestamp>, Self::Error> {
        Ok(self.optional_int()?.map(Timestamp::from_micros))
    }

    fn text(&mut self) -> Result<Arc<str>, Self::Error> {
        Ok(self.optional_text()?.unwrap_or_else(|| "".into()))
    }

    fn schedule_id(&mut self) -> Result<ScheduleId, Self::Error> {
        Ok(ScheduleId::from(&*self.text()?))
    }

    fn optional_schedule_id(&mut self) -> Result<Option<ScheduleId>, Self::Error> {
        Ok(self.optional_text()?.map(|text| ScheduleId::from(&*text)))
    }

    fn run_id(&mut self) -> Result<RunId, Self::Error> {
        Ok(RunId::from(&*self.text()?))
    }

    fn optional_run_id(&mut self) -> Result<Option<RunId>, Self::Error> {
        Ok(self.optional_text()?.map(|text| RunId::from(&*text)))
    }

    fn worker_id(&mut self) -> Result<WorkerId, Self::Error> {
        Ok(WorkerId::from(&*self.text()?))
    }

    fn optional_worker_id(&mut self) -> Result<Option<WorkerId>, Self::Error> {
        Ok(self.optional_text()?.map(|text| WorkerId::from(&*text)))
    }

    /// The state of a run. An unknown one counts as failed, so that no worker executes the run.
    fn state(&mut self) -> Result<RunState, Self::Error> {
        Ok(self.word()?.unwrap_or(RunState::Failed))
    }

    /// A schedule, from `schedule_columns!`. One in an unknown status counts as broken.
    fn schedule(&mut self) -> Result<Schedule, Self::Error> {
        let (id, project, workflow, key) = (self.schedule_id()?, self.text()?, self.text()?, self.text()?);
        let (owner, spec, input) = (self.optional_text()?, self.text()?, self.optional_text()?);
        let (status, note) = (self.word()?, self.optional_text()?);
        Ok(Schedule {
            id,
            project,
            workflow,
            key,
            owner,
            spec: spec.into(),
            input,
            status: status.unwrap_or(ScheduleStatus::Broken),
            note: if status.is_none() { Some("its stored status is unknown".into()) } else { note },
            next_slot: self.optional_time()?,
            last_slot: self.optional_time()?,
            run_count: self.count()?,
            failure_count: self.small_count()?,
            attended_from: self.time()?,
            created_at: self.time()?,
            updated_at: self.time()?,
            revision: self.int()?,
            declaration: self.optional_text()?,
            settled: self.optional_text()?,
            tags: self.optional_text()?,
            counts: StoredCounts {
                ran_beyond: self.optional_int()?.unwrap_or(0),
                skipped: self.count()?,
                missed: self.count()?,
            },
        })
    }

    /// A schedule and its compiled specification: `schedule_columns!`, `s.cadence`.
    fn stored_schedule(&mut self) -> Result<StoredSchedule, Self::Error> {
        Ok(StoredSchedule { schedule: self.schedule()?, compiled_spec: self.text()? })
    }

    /// A due schedule: `schedule_columns!`, the number of its live runs, and that of its buffered
    /// ones.
    fn due_schedule(&mut self) -> Result<DueSchedule, Self::Error> {
        let schedule = self.schedule()?;
        let (live_count, buffered_count) = (self.small_count()?, self.small_count()?);
        let unfinished_count = live_count.saturating_add(buffered_count);
        Ok(DueSchedule { schedule, unfinished_count, buffered_count })
    }

    /// A run, from `run_columns!`.
    fn run(&mut self) -> Result<Run, Self::Error> {
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
            progress: self.optional_text()?,
            refused_by: self.optional_text()?,
            limit: self.optional_text()?,
            priority: self.priority()?,
        })
    }

    /// A run with its idempotency key: the key, the id, and the state.
    fn keyed_run(&mut self) -> Result<KeyedRun, Self::Error> {
        Ok(KeyedRun { key: self.text()?, run: self.run_id()?, state: self.state()? })
    }

    /// A run that waits for a child run: its id, and whether it is stuck.
    fn waiting_parent(&mut self) -> Result<WaitingParent, Self::Error> {
        Ok(WaitingParent { run: self.run_id()?, is_stuck: self.flag()? })
    }

    /// A step, from `step_columns!`. One in an unknown state is executed again.
    fn step(&mut self) -> Result<StepRecord, Self::Error> {
        Ok(StepRecord {
            name: self.text()?,
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

    /// An event, from `event_columns!`.
    fn event(&mut self) -> Result<EventRecord, Self::Error> {
        Ok(EventRecord {
            name: self.text()?,
            payload: self.text()?,
            idempotency_key: self.optional_text()?,
            received_at: self.time()?,
        })
    }

    /// A hook call, from `hook_call_columns!`.
    fn hook_call(&mut self) -> Result<HookCall, Self::Error> {
        Ok(HookCall {
            id: self.text()?,
            project: self.text()?,
            workflow: self.text()?,
            event: self.word()?,
            schedule: self.schedule_id()?,
            key: self.text()?,
            from: self.time()?,
            until: self.time()?,
            count: self.count()?,
            reason: self.text()?,
            due_at: self.time()?,
            check_at: self.time()?,
            seen_token: self.optional_int()?.map(Token),
            is_late: self.flag()?,
            worker: self.optional_worker_id()?,
        })
    }

    /// A worker as others see it, from `peer_columns!`; without its workflows and the number of
    /// runs that it holds.
    fn peer(&mut self) -> Result<Peer, Self::Error> {
        Ok(Peer {
            id: self.worker_id()?,
            app: self.text()?,
            host: self.text()?,
            pid: self.int()?,
            process_mark: self.text()?,
            about: self.text()?,
            heartbeat: self.int()?,
            entered_at: self.time()?,
            beat_at: self.time()?,
            declares: self.optional_text()?,
            workflows: Vec::new(),
            held_count: 0,
        })
    }

    /// A stored calendar: its name, its dates, and when it was set.
    fn calendar(&mut self) -> Result<StoredCalendar, Self::Error> {
        let (name, dates) = (self.text()?, self.text()?);
        Ok(StoredCalendar::from_row(name, &dates, self.time()?))
    }

    /// A registered workflow: its id, and whether it is schedulable.
    fn workflow_entry(&mut self) -> Result<WorkflowEntry, Self::Error> {
        Ok(WorkflowEntry { id: self.text()?, schedulable: self.flag()? })
    }
}
