//! Commands about events.

use super::Tables;
use crate::calendar::Timestamp;
use crate::model::{EventRecord, NewEvent, Run, RunId, RunState, StepRecord, Token};
use crate::store::events::{self, Delivery, Known, UNREAD_EVENTS_MAX};
use crate::store::{Answer, Rejection};
use std::sync::Arc;

impl Tables {
    pub(super) fn await_event(
        &mut self,
        run: &RunId,
        token: Token,
        asked: &StepRecord,
        now: Timestamp,
    ) -> Result<Answer, Rejection> {
        self.claimed_row(run, token).ok_or(Rejection::Fenced)?;
        let (step, is_new) = events::settle(&self.known(run, &asked.name), asked, now);
        if is_new {
            self.store_step(run, step.clone());
            self.note_progress(run);
        }
        Ok(Answer::Wait(Box::new(step)))
    }

    pub(super) fn send_event(&mut self, new: &NewEvent, now: Timestamp) -> Result<Answer, Rejection> {
        let row = self.run(&new.project, &new.run).ok_or_else(|| Rejection::RunNotFound(new.run.clone()))?;
        let state = row.run.state;
        if let Some(run) = self.accepted_by(new).filter(|run| *run != new.run) {
            return Ok(Answer::AcceptedBy(run));
        }
        let known = self.known(&new.run, &new.name);
        let step = match events::deliver((&new.run, state, row.run.slot), &known, new, now)? {
            Delivery::Refused => return Ok(Answer::Accepted { is_accepted: false, woken: false }),
            Delivery::Repeated => return Ok(Answer::Accepted { is_accepted: true, woken: false }),
            Delivery::Accepted { step } => step,
        };
        if step.is_none() && self.unread_count(&new.run) >= UNREAD_EVENTS_MAX {
            return Err(Rejection::TooManyEvents(new.run.clone()));
        }
        self.add_event(&new.run, events::record(new, now));
        let Some(step) = step else { return Ok(Answer::Accepted { is_accepted: true, woken: false }) };
        self.store_step(&new.run, *step);
        self.edit_run(&new.run, |row| match state {
            RunState::Waiting => row.run.available_at = row.run.available_at.min(now),
            // Its handler may be about to park, without having seen the event.
            RunState::Running => row.child_ended = true,
            _ => {}
        });
        Ok(Answer::Accepted { is_accepted: true, woken: state == RunState::Waiting })
    }

    pub fn run_with_event(
        &self,
        project: &str,
        (workflow, key): (&str, &str),
        name: &str,
        idempotency_key: &str,
    ) -> Option<RunId> {
        let runs = self.events_by_key.get(idempotency_key, name)?;
        let is_of = |run: &Run| &*run.project == project && &*run.workflow == workflow && &*run.key == key;
        runs.iter().find(|id| is_of(&self.runs[*id].run)).cloned()
    }

    /// The run that has accepted this event, of those of the workflow and key that it was sent to.
    fn accepted_by(&self, new: &NewEvent) -> Option<RunId> {
        let shared_key = new.shared_key()?;
        let [project, workflow, key, name, idempotency_key] = shared_key;
        let stored = self.accepted.iter().find(|(known, _)| known.iter().map(|part| &**part).eq(shared_key));
        let here = || self.run_with_event(project, (workflow, key), name, idempotency_key);
        stored.map(|(_, run)| run.clone()).or_else(here)
    }

    fn known(&self, run: &RunId, name: &str) -> Known<'_> {
        let steps = self.steps.get(run);
        let step = steps.and_then(|steps| Some(&steps.records[*steps.by_name.get(name)?]));
        Known { event: self.events.get(run).and_then(|events| events.get(name)), step }
    }

    /// Number of events for which the run has no step.
    fn unread_count(&self, run: &RunId) -> usize {
        let steps = self.steps.get(run);
        let is_unread = |name: &Arc<str>| steps.is_none_or(|steps| !steps.by_name.contains_key(name));
        self.events.get(run).map_or(0, |events| events.keys().filter(|name| is_unread(name)).count())
    }

    /// Adds an event that isn't there.
    pub fn add_event(&mut self, run: &RunId, event: EventRecord) {
        let name = Arc::clone(&event.name);
        if let Some(key) = &event.idempotency_key {
            self.events_by_key.slot(key, &name).insert(run.clone());
        }
        self.events.entry(run.clone()).or_default().insert(Arc::clone(&name), event);
        self.touch(|touched| touched.events.push((run.clone(), name)));
    }
}
