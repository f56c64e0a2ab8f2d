//! Cron expressions and time zones, without a client.

use super::errors::to_exception;
use polos::calendar::{self, Timestamp, Zone};
use polos::cron::CronExpr;
use polos::error::Error;
use polos::model::ScheduleSpec;
use polos::model::spec::CompiledSpec;
use pyo3::prelude::*;
use pyo3::types::PyList;

/// Sets the folders with time-zone data, in search order.
#[pyfunction]
pub fn configure_tzdb(dirs: Vec<std::path::PathBuf>) {
    calendar::configure_tzdb(dirs);
}

/// The version of the zone data in use; `unknown` if the data does not state it.
#[pyfunction]
pub fn tzdb_version() -> String {
    calendar::tzdb_version()
}

fn parse(cron: &str, timezone: &str) -> PyResult<(CronExpr, Zone)> {
    let expr = CronExpr::parse(cron).map_err(|error| to_exception(&error.into()))?;
    let zone = Zone::get(timezone).map_err(|error| to_exception(&error.into()))?;
    Ok((expr, zone))
}

/// The next `count` slots after `after`, in microseconds since the epoch.
#[pyfunction]
pub fn next_slots<'py>(
    py: Python<'py>,
    cron: &str,
    timezone: &str,
    count: usize,
    after: i64,
) -> PyResult<Bound<'py, PyList>> {
    let (expr, zone) = parse(cron, timezone)?;
    let slots = PyList::empty(py);
    let mut after = Timestamp::from_micros(after);
    for _ in 0..count {
        let Some(slot) = calendar::next_fire(&expr, &zone, after) else { break };
        slots.append(slot.as_micros())?;
        after = slot;
    }
    Ok(slots)
}

/// `(english, slots, notes)`; slots in microseconds since the epoch.
#[pyfunction]
pub fn explain(
    cron: &str,
    timezone: &str,
    count: usize,
    after: i64,
) -> PyResult<(String, Vec<i64>, Vec<String>)> {
    let (expr, zone) = parse(cron, timezone)?;
    let explanation = calendar::explain(&expr, &zone, Timestamp::from_micros(after), count);
    let slots = explanation.upcoming.iter().map(|slot| slot.as_micros()).collect();
    Ok((explanation.english, slots, explanation.notes))
}

/// Checks a specification (JSON); returns whether it fires more often than every five minutes.
#[pyfunction]
pub fn check_spec(spec: &str) -> PyResult<bool> {
    let spec: ScheduleSpec =
        serde_json::from_str(spec).map_err(|error| to_exception(&Error::Schedule(error.to_string())))?;
    let period_us = spec.every_us;
    let compiled_spec = CompiledSpec::new(spec).map_err(|error| to_exception(&error.into()))?;
    Ok(compiled_spec.cron().is_some_and(calendar::is_too_frequent) && period_us.is_none())
}

/// The next slots of a specification (JSON) after an instant, in microseconds since the epoch,
/// without its excluded dates.
#[pyfunction]
pub fn spec_slots(spec: &str, count: usize, after: i64) -> PyResult<Vec<i64>> {
    let spec: ScheduleSpec =
        serde_json::from_str(spec).map_err(|error| to_exception(&Error::Schedule(error.to_string())))?;
    let compiled_spec = CompiledSpec::new(spec).map_err(|error| to_exception(&error.into()))?;
    let mut slots = Vec::with_capacity(count);
    let mut after = Timestamp::from_micros(after);
    while let Some(slot) = compiled_spec.upcoming(after).filter(|_| slots.len() < count) {
        slots.push(slot.as_micros());
        after = slot;
    }
    Ok(slots)
}
