//! Cron expressions and time zones, without a client.

use super::errors::to_exception;
use polos::calendar::{self, Timestamp};
use polos::cron::CronUnion;
use polos::error::Error;
use polos::model::spec::CompiledSpec;
use polos::model::stored_calendar::parsed_dates;
use polos::model::stored_spec;
use polos::model::{CronTexts, ScheduleSpec};
use pyo3::prelude::*;
use serde::de::{DeserializeOwned, IntoDeserializer};
use std::collections::HashMap;
use std::sync::Arc;

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

fn parse(spec: &str) -> PyResult<Arc<CompiledSpec>> {
    stored_spec::compiled(spec).map_err(|error| to_exception(&error.into()))
}

/// The dates of stored calendars, by name.
type Calendars = HashMap<String, Vec<String>>;

/// The specification with the dates of the calendars that it names.
fn with_calendars(spec: &str, calendars: Calendars) -> PyResult<CompiledSpec> {
    let dates = calendars.into_iter().map(|(name, dates)| Ok((name, parsed_dates(&dates)?)));
    let dates: HashMap<_, _> =
        dates.collect::<Result<_, _>>().map_err(|text| to_exception(&Error::Argument(text)))?;
    Ok((*parse(spec)?).clone().with_calendars(|name| dates.get(name).cloned()))
}

/// What a specification (JSON) means: `(english, slots, notes)`; slots after an instant, both in
/// microseconds since the epoch, without its excluded dates. There are no slots while the dates of
/// a calendar that it names are unknown.
#[pyfunction]
#[pyo3(signature = (spec, count, after, calendars=HashMap::new()))]
pub fn explain(
    spec: &str,
    count: usize,
    after: i64,
    calendars: Calendars,
) -> PyResult<(String, Vec<i64>, Vec<String>)> {
    let explanation = with_calendars(spec, calendars)?.explain(Timestamp::from_micros(after), count);
    Ok((explanation.english, micros(explanation.upcoming), explanation.notes))
}

/// The slots of [`explain`], without the words.
#[pyfunction]
#[pyo3(signature = (spec, count, after, calendars=HashMap::new()))]
pub fn first_slots(spec: &str, count: usize, after: i64, calendars: Calendars) -> PyResult<Vec<i64>> {
    let compiled_spec = with_calendars(spec, calendars)?;
    Ok(micros(compiled_spec.first_slots(Timestamp::from_micros(after), count)))
}

fn micros(slots: Vec<Timestamp>) -> Vec<i64> {
    slots.into_iter().map(Timestamp::as_micros).collect()
}

/// Compiles a new specification, and keeps it for requests that name its text. Returns its JSON
/// text, and whether it fires more often than every five minutes.
#[pyfunction]
#[pyo3(signature = (*, timezone, overlap, catch_up, max_catch_up, catch_up_window_us, jitter_us, cron=None,
                    every_us=None, at_us=None, start_at_us=None, end_at_us=None, max_runs=None,
                    skip_dates=Vec::new(), skip_cron=Vec::new(), calendars=Vec::new(), on_skip=None,
                    skip_calendar=false, pause_after_failures=None, priority=None, days=None, weeks=None))]
#[expect(clippy::too_many_arguments, reason = "the fields of a specification, by name")]
pub fn compile_spec(
    timezone: &str,
    overlap: &str,
    catch_up: &str,
    max_catch_up: u32,
    catch_up_window_us: i64,
    jitter_us: i64,
    cron: Option<Vec<String>>,
    every_us: Option<i64>,
    at_us: Option<i64>,
    start_at_us: Option<i64>,
    end_at_us: Option<i64>,
    max_runs: Option<u64>,
    skip_dates: Vec<String>,
    skip_cron: Vec<String>,
    calendars: Vec<String>,
    on_skip: Option<&str>,
    skip_calendar: bool,
    pause_after_failures: Option<u32>,
    priority: Option<u8>,
    days: Option<&str>,
    weeks: Option<u32>,
) -> PyResult<(String, bool)> {
    let spec = ScheduleSpec {
        cron: cron.map(CronTexts::from),
        every_us,
        at_us: at_us.map(Timestamp::from_micros),
        timezone: timezone.into(),
        overlap: word(overlap)?,
        catch_up: word(catch_up)?,
        max_catch_up,
        catch_up_window_us,
        jitter_us,
        start_at_us: start_at_us.map(Timestamp::from_micros),
        end_at_us: end_at_us.map(Timestamp::from_micros),
        max_runs,
        skip_dates,
        skip_cron,
        calendars,
        on_skip: on_skip.map(word).transpose()?,
        skip_calendar,
        pause_after_failures,
        priority,
        days: days.map(word).transpose()?.unwrap_or_default(),
        weeks,
    };
    let compiled_spec = CompiledSpec::new(spec).map_err(|error| to_exception(&error.into()))?;
    compiled_spec.check_new().map_err(|error| to_exception(&error.into()))?;
    let compiled_spec = stored_spec::keep_compiled(compiled_spec);
    let is_frequent = compiled_spec.cron().is_some_and(CronUnion::is_too_frequent);
    Ok((compiled_spec.text().to_string(), is_frequent))
}

/// The policy with this name.
fn word<T: DeserializeOwned>(text: &str) -> PyResult<T> {
    let found: Result<T, serde::de::value::Error> = T::deserialize(text.into_deserializer());
    found.map_err(|error| to_exception(&Error::Schedule(error.to_string())))
}

/// The next slots of a specification (JSON) after an instant, in microseconds since the epoch,
/// without its excluded dates.
#[pyfunction]
pub fn spec_slots(spec: &str, count: usize, after: i64) -> PyResult<Vec<i64>> {
    // Those that moved past `after` are among them.
    let compiled_spec = (*parse(spec)?).clone().with_moved(Vec::new(), Timestamp::MIN);
    Ok(micros(compiled_spec.upcoming_slots(Timestamp::from_micros(after), count)))
}
