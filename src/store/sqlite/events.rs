//! Commands about events.

use super::batch::{Applied, Batch};
use super::queries;
use super::rows::{Columns, limit_to_sql};
use super::statements::Session;
use crate::model::{EventRecord, NewEvent, RunId, RunState, StepRecord, Token};
use crate::store::events::{self, Delivery, Known, UNREAD_EVENTS_MAX};
use crate::store::row_reader::RowReader;
use crate::store::{Answer, EVENTS_LOOKED_AT, RUNS_LOOKED_AT, Rejection};
use rusqlite::{Result, params};

impl Session<'_> {
    /// See [`crate::store::StoreReads::run_with_event`]. What identifies the request is that of
    /// [`NewEvent::shared_key`].
    pub(super) fn run_with_event(
        &mut self,
        [project, workflow, key, name, idempotency_key]: [&str; 5],
    ) -> Result<Option<RunId>> {
        let most = limit_to_sql(EVENTS_LOOKED_AT);
        let params = params![idempotency_key, name, most, project, workflow, key];
        let found = self.all(queries::RUNS_WITH_EVENT, params, |row| {
            let mut columns = Columns::of(row);
            Ok((columns.flag()?, columns.run_id()?))
        })?;
        let count = found.len();
        if let Some((_, run)) = found.into_iter().find(|(is_of, _)| *is_of) {
            return Ok(Some(run));
        }
        if count < EVENTS_LOOKED_AT {
            return Ok(None);
        }
        let most = limit_to_sql(RUNS_LOOKED_AT);
        let params = params![project, key, workflow, most, name, idempotency_key];
        self.one(queries::RUN_OF_KEY_WITH_EVENT, params, |row| Columns::of(row).run_id())
    }
}

impl Batch<'_> {
    pub(super) fn await_event(&mut self, run: &RunId, token: Token, asked: &StepRecord) -> Applied {
        let (no, interruptions) = self
            .one(queries::STANDS, params![run, token], |row| {
                Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?))
            })?
            .ok_or(Rejection::Fenced)?;
        let (event, step) = self.known(no, &asked.name)?;
        let known = Known { event: event.as_ref(), step: step.as_ref() };
        let (step, is_new) = events::settle(&known, asked, self.now());
        if is_new {
            self.store_step(no, &step)?;
            if interruptions > 0 {
                self.run(queries::FORGET_INTERRUPTIONS, [no])?;
            }
        }
        Ok(Answer::Wait(Box::new(step)))
    }

    pub(super) fn send_event(&mut self, new: &NewEvent) -> Applied {
        let found = self.one(queries::EVENT_RUN, params![new.run, new.project], |row| {
            let mut columns = Columns::of(row);
            Ok((columns.int()?, columns.state()?, columns.optional_time()?))
        })?;
        let (no, state, slot) = found.ok_or_else(|| Rejection::RunNotFound(new.run.clone()))?;
        if let Some(run) = self.accepted_by(new)?.filter(|run| *run != new.run) {
            return Ok(Answer::AcceptedBy(run));
        }
        let (event, step) = self.known(no, &new.name)?;
        let known = Known { event: event.as_ref(), step: step.as_ref() };
        let step = match events::deliver((&new.run, state, slot), &known, new, self.now())? {
            Delivery::Refused => return Ok(Answer::Accepted { is_accepted: false, woken: false }),
            Delivery::Repeated => return Ok(Answer::Accepted { is_accepted: true, woken: false }),
            Delivery::Accepted { step } => step,
        };
        if step.is_none() {
            let most = i64::try_from(UNREAD_EVENTS_MAX).unwrap_or(i64::MAX);
            let count = self.one(queries::UNREAD_EVENTS, params![no, most], |row| row.get::<_, i64>(0))?;
            if count.is_some_and(|count| count >= most) {
                return Err(Rejection::TooManyEvents(new.run.clone()).into());
            }
        }
        let event = events::record(new, self.now());
        self.run(
            queries::ADD_EVENT,
            params![no, event.name, event.payload, event.idempotency_key, event.received_at],
        )?;
        let Some(step) = step else { return Ok(Answer::Accepted { is_accepted: true, woken: false }) };
        self.store_step(no, &step)?;
        match state {
            RunState::Waiting => {
                self.run(queries::WAKE_PARENT, params![no, self.now()])?;
            }
            // Its handler may be about to park, without having seen the event.
            RunState::Running => {
                self.run(queries::NOTE_CHILD, [no])?;
            }
            _ => {}
        }
        Ok(Answer::Accepted { is_accepted: true, woken: state == RunState::Waiting })
    }

    /// The run that has accepted this event, of those of the workflow and key that it was sent to.
    fn accepted_by(&mut self, new: &NewEvent) -> Result<Option<RunId>> {
        new.shared_key().map_or(Ok(None), |shared_key| self.session.run_with_event(shared_key))
    }

    fn known(&mut self, run: i64, name: &str) -> Result<(Option<EventRecord>, Option<StepRecord>)> {
        let event = self.one(queries::EVENT, params![run, name], |row| Columns::of(row).event())?;
        let step = self.one(queries::STEP_BY_NAME, params![run, name], |row| Columns::of(row).step())?;
        Ok((event, step))
    }
}
