//! What sending an event, and waiting for one, mean for the rows. Every store applies these rules.
//!
//! An event and the timeout of its wait may coincide. Both decisions are made under the lock of the
//! run's row, from the same two facts: whether an event is recorded, and whether the step is done.
//! So exactly one of them is recorded, whoever crashes and whichever reply is lost.

use super::Rejection;
use crate::calendar::Timestamp;
use crate::model::{EventRecord, NewEvent, RunId, RunState, StepRecord, StepState};
use std::sync::Arc;

/// Most events that a run keeps without having waited for them.
pub const UNREAD_EVENTS_MAX: usize = 1_000;

/// Most events with one name and idempotency key that are looked at, to find out who has accepted
/// one: an idempotency key usually belongs to one event.
pub const EVENTS_LOOKED_AT: usize = 100;

/// Most runs of a workflow and key that are looked at otherwise.
pub const RUNS_LOOKED_AT: usize = 1_000;

/// What a run has under the name of an event.
#[derive(Debug, Default)]
pub(super) struct Known<'a> {
    /// The event.
    pub event: Option<&'a EventRecord>,
    /// The step.
    pub step: Option<&'a StepRecord>,
}

/// What becomes of an event that was sent.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Delivery {
    /// It is not accepted.
    Refused,
    /// It was accepted before.
    Repeated,
    /// It is recorded. If the run waits for it, the step is done with it.
    Accepted {
        /// The step to record.
        step: Option<Box<StepRecord>>,
    },
}

/// Decides what becomes of an event.
pub(super) fn deliver(
    (run, state, slot): (&RunId, RunState, Option<Timestamp>),
    known: &Known<'_>,
    new: &NewEvent,
    now: Timestamp,
) -> Result<Delivery, Rejection> {
    if let Some(event) = known.event
        && event.idempotency_key.is_some()
        && event.idempotency_key == new.idempotency_key
    {
        return Ok(Delivery::Repeated);
    }
    if state.is_finished() {
        return Err(Rejection::RunFinished(run.clone(), state, Arc::clone(&new.name)));
    }
    if known.event.is_some() {
        return Ok(Delivery::Refused);
    }
    match known.step {
        // Revoking the early claim would delete the event with the run.
        None if slot.is_some_and(|slot| slot > now) => Err(Rejection::RunNotDue(run.clone())),
        None => Ok(Delivery::Accepted { step: None }),
        Some(step) if step.state == StepState::Waiting && !has_passed(step.wakes_at, now) => {
            let step = done(step, Some(Arc::clone(&new.payload)), now);
            Ok(Delivery::Accepted { step: Some(Box::new(step)) })
        }
        Some(_) => Ok(Delivery::Refused),
    }
}

/// What is recorded of an accepted event.
pub(super) fn record(new: &NewEvent, now: Timestamp) -> EventRecord {
    EventRecord {
        name: Arc::clone(&new.name),
        payload: Arc::clone(&new.payload),
        idempotency_key: new.idempotency_key.clone(),
        received_at: now,
    }
}

/// The step of a wait after [`super::Command::AwaitEvent`], and whether that has to be recorded.
pub(super) fn settle(known: &Known<'_>, asked: &StepRecord, now: Timestamp) -> (StepRecord, bool) {
    let reached = known.step.filter(|step| matches!(step.state, StepState::Waiting | StepState::Done));
    match (reached, known.event) {
        (Some(step), _) if step.state == StepState::Done => (step.clone(), false),
        (step, Some(event)) => {
            let step = done(step.unwrap_or(asked), Some(Arc::clone(&event.payload)), now);
            (StepRecord { run_attempt: asked.run_attempt, ..step }, true)
        }
        (Some(step), None) if !has_passed(step.wakes_at, now) => (step.clone(), false),
        (None, None) if !has_passed(asked.wakes_at, now) => (asked.clone(), true),
        (step, None) => {
            let step = done(step.unwrap_or(asked), None, now);
            (StepRecord { run_attempt: asked.run_attempt, ..step }, true)
        }
    }
}

fn has_passed(deadline: Option<Timestamp>, now: Timestamp) -> bool {
    deadline.is_some_and(|deadline| deadline <= now)
}

fn done(step: &StepRecord, result: Option<Arc<str>>, now: Timestamp) -> StepRecord {
    StepRecord { state: StepState::Done, result, error: None, finished_at: now, ..step.clone() }
}
