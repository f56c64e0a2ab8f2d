//! Events for the loop as Python tuples, `(kind, ...)`. Items are always valid, so only lack of
//! memory can prevent a conversion.

use super::bridge::Item;
use super::claimed_run::{claimed_runs, text};
use super::errors::to_exception;
use super::notices::describe;
use polos::calendar::Timestamp;
use polos::engine::{DueCall, MissedSlots, Notice, Stop, StopReason};
use polos::model::{HookCall, HookEvent};
use pyo3::prelude::*;
use pyo3::types::PyTuple;

/// The tuple for an item.
pub fn convert<'py>(py: Python<'py>, item: &Item) -> PyResult<Bound<'py, PyTuple>> {
    match item {
        Item::Start(runs, confirmed_at) => {
            ("start", claimed_runs(py, runs, *confirmed_at)?).into_pyobject(py)
        }
        Item::Stop(stops) => {
            let stops: Vec<_> = stops.iter().map(convert_stop).collect();
            ("stop", stops).into_pyobject(py)
        }
        Item::Timers(timers) => ("ring", timers).into_pyobject(py),
        Item::Notice(Notice::Missed(missed)) => {
            let missed: Vec<_> = missed.iter().map(convert_missed).collect();
            ("missed", missed).into_pyobject(py)
        }
        Item::Notice(Notice::HookCalls(calls)) => {
            let calls: Vec<_> = calls.iter().map(convert_hook_call).collect();
            ("hooks", calls).into_pyobject(py)
        }
        Item::Notice(notice) => {
            let (kind, text) = describe(notice);
            ("notice", kind, text).into_pyobject(py)
        }
        Item::Answer(future, Ok(answer)) => ("answer", future, text(py, answer)?).into_pyobject(py),
        Item::Recorded(future, Ok(is_valid)) => ("recorded", future, *is_valid).into_pyobject(py),
        Item::Answer(future, Err(error)) | Item::Recorded(future, Err(error)) => {
            ("failed", future, to_exception(error).into_value(py)).into_pyobject(py)
        }
        Item::Ping(_) => unreachable!("a ping is answered as it is taken"),
        Item::Tell(run, token, call) => ("tell", run.as_str(), token.0, call.as_deref()).into_pyobject(py),
        Item::Stopped => ("over",).into_pyobject(py),
    }
}

/// `(run_id, token, reason)`.
fn convert_stop(stop: &Stop) -> (&str, i64, &'static str) {
    let reason = match stop.reason {
        StopReason::Cancelled => "cancelled",
        StopReason::TimedOut => "timed_out",
        StopReason::LeaseLost => "lease_lost",
    };
    (stop.run.as_str(), stop.token.0, reason)
}

/// A hook call, as `polos._runtime.recorded_calls` reads it.
#[derive(IntoPyObject)]
struct CallItem<'a> {
    id: &'a str,
    event: &'static str,
    workflow: &'a str,
    schedule_id: &'a str,
    key: &'a str,
    first: i64,
    last: i64,
    count: u64,
    reason: &'a str,
    due_at: i64,
    run_id: Option<&'a str>,
    /// The run whose outcome is told.
    run: Option<RunItem<'a>>,
}

/// The run whose outcome is told.
#[derive(IntoPyObject)]
struct RunItem<'a> {
    slot: Option<i64>,
    timezone: &'a str,
    origin: &'static str,
    result: Option<&'a str>,
}

fn convert_hook_call(due: &DueCall) -> CallItem<'_> {
    let call = &due.call;
    CallItem {
        id: &call.id,
        event: call.event.map_or("", HookEvent::word),
        workflow: &call.workflow,
        schedule_id: call.schedule.as_str(),
        key: &call.key,
        first: call.from.as_micros(),
        last: call.until.as_micros(),
        count: call.count,
        reason: &call.reason,
        due_at: call.due_at.as_micros(),
        run_id: HookCall::run_of(&call.id),
        run: due.run.as_deref().map(|run| RunItem {
            slot: run.slot.map(Timestamp::as_micros),
            timezone: &run.timezone,
            origin: run.origin.word(),
            result: run.result.as_deref(),
        }),
    }
}

/// `(workflow, count, reason)`, for the log.
fn convert_missed(slots: &MissedSlots) -> (&str, u64, &str) {
    (&*slots.workflow, slots.line.count, &*slots.line.reason)
}
