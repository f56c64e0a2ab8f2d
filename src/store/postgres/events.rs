//! Events of runs: what a group of commands has to see of them, and how new ones are written.

use super::pipeline::Statement;
use super::queries;
use super::rows::{Args, Columns, limit_to_sql};
use super::transaction::advisory_lock;
use crate::calendar::Timestamp;
use crate::model::{EventRecord, RunId, StepRecord};
use crate::store::events::{EVENTS_LOOKED_AT, RUNS_LOOKED_AT, UNREAD_EVENTS_MAX};
use crate::store::row_reader::RowReader;
use crate::store::tables::read_set::ReadSet;
use crate::store::tables::{Tables, Touched};
use std::collections::BTreeSet;
use std::sync::Arc;
use tokio_postgres::Error;

/// The steps that wait, or that an event may belong to, whole.
pub(super) fn waits<'c>(needs: &ReadSet<'c>) -> Option<Statement<'c>> {
    Some(Statement::Query(queries::WAITING_STEPS, named(needs)?))
}

/// The events of the same names.
pub(super) fn named_events<'c>(needs: &ReadSet<'c>) -> Option<Statement<'c>> {
    Some(Statement::Query(queries::EVENTS_BY_NAME, named(needs)?))
}

fn named<'c>(needs: &ReadSet<'c>) -> Option<Args<'c>> {
    if needs.waits.is_empty() {
        return None;
    }
    let mut args = Args::default();
    args.texts(needs.waits.iter().map(|(run, _)| *run));
    args.texts(needs.waits.iter().map(|(_, name)| *name));
    Some(args)
}

/// Names of the events for which the runs have no step: their number is limited.
pub(super) fn unread_events<'c>(needs: &ReadSet<'c>) -> Option<Statement<'c>> {
    if needs.sent_to.is_empty() {
        return None;
    }
    let mut args = Args::default();
    args.texts(needs.sent_to.iter().copied());
    args.int(limit_to_sql(UNREAD_EVENTS_MAX));
    Some(Statement::Query(queries::UNREAD_EVENTS, args))
}

/// Locks events that are sent to workflows and keys, so that of two transactions that send the same
/// one to two runs, the second sees what the first has done.
pub(super) fn lock_shared<'c>(needs: &ReadSet<'c>) -> Option<Statement<'c>> {
    if needs.shared_events.is_empty() {
        return None;
    }
    let lock = |event: &[&str; 5]| advisory_lock(&[&["polos", "event"], event.as_slice()].concat());
    // In one order.
    let locks: BTreeSet<i64> = needs.shared_events.iter().map(lock).collect();
    let mut args = Args::default();
    args.ints(locks);
    Some(Statement::Query(queries::LOCK_EVENTS, args))
}

/// The runs that have accepted these events.
pub(super) fn accepted<'c>(needs: &ReadSet<'c>) -> Option<Statement<'c>> {
    if needs.shared_events.is_empty() {
        return None;
    }
    let mut args = Args::default();
    for part in 0..5 {
        args.texts(needs.shared_events.iter().map(|event| event[part]));
    }
    args.int(limit_to_sql(EVENTS_LOOKED_AT));
    args.int(limit_to_sql(RUNS_LOOKED_AT));
    Some(Statement::Query(queries::ACCEPTED_EVENTS, args))
}

/// Takes a row of [`accepted`].
pub(super) fn take_accepted(tables: &mut Tables, columns: &mut Columns<'_>) -> Result<(), Error> {
    let shared_key = [columns.text()?, columns.text()?, columns.text()?, columns.text()?, columns.text()?];
    tables.accepted.push((shared_key, columns.run_id()?));
    Ok(())
}

/// Takes a row of [`waits`].
pub(super) fn take_wait(tables: &mut Tables, columns: &mut Columns<'_>) -> Result<(), Error> {
    let run = columns.run_id()?;
    let step: StepRecord = columns.step()?;
    let steps = tables.steps.entry(run).or_default();
    if let Some(place) = steps.by_name.get(&step.name) {
        steps.records[*place] = step;
    } else {
        steps.by_name.insert(Arc::clone(&step.name), steps.records.len());
        steps.records.push(step);
    }
    Ok(())
}

/// Takes a row of [`named_events`].
pub(super) fn take_event(tables: &mut Tables, columns: &mut Columns<'_>) -> Result<(), Error> {
    let run = columns.run_id()?;
    let event = columns.event()?;
    tables.events.entry(run).or_default().insert(Arc::clone(&event.name), event);
    Ok(())
}

/// Takes a row of [`unread_events`]: that there is such an event is all that is asked.
pub(super) fn take_unread_event(tables: &mut Tables, columns: &mut Columns<'_>) -> Result<(), Error> {
    let (run, name) = (columns.run_id()?, columns.text()?);
    let event = EventRecord {
        name: Arc::clone(&name),
        payload: Arc::default(),
        idempotency_key: None,
        received_at: Timestamp::from_micros(0),
    };
    tables.events.entry(run).or_default().entry(name).or_insert(event);
    Ok(())
}

/// Writes the events that the commands added.
pub(super) fn insert_events<'p>(tables: &'p Tables, touched: &'p Touched) -> Option<Statement<'p>> {
    let added: Vec<(&RunId, &EventRecord)> = touched
        .events
        .iter()
        .filter_map(|(run, name)| Some((run, tables.events.get(run)?.get(name)?)))
        .collect();
    if added.is_empty() {
        return None;
    }
    let mut args = Args::default();
    args.texts(added.iter().map(|(run, _)| run.as_str()));
    args.texts(added.iter().map(|(_, event)| &*event.name));
    args.texts(added.iter().map(|(_, event)| &*event.payload));
    args.optional_texts(added.iter().map(|(_, event)| event.idempotency_key.as_deref()));
    args.ints(added.iter().map(|(_, event)| event.received_at.as_micros()));
    Some(Statement::Query(queries::ADD_EVENTS, args))
}
