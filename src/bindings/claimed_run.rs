//! A run that this worker has claimed, as its event loop gets it.

use polos::calendar::Timestamp;
use polos::model::{self, ScheduleId, StepRecord};
use pyo3::prelude::*;
use pyo3::types::{PyList, PyString};
use std::sync::Arc;
use std::time::Duration;

/// A claimed run. Instants are microseconds since the epoch, and data is JSON text.
///
/// Its values are made with it, so that reading one needs no memory.
#[pyclass(frozen, get_all, module = "polos._polos")]
pub struct ClaimedRun {
    run_id: Py<PyAny>,
    token: Py<PyAny>,
    workflow: Py<PyAny>,
    key: Py<PyAny>,
    schedule_id: Py<PyAny>,
    slot: Py<PyAny>,
    last_slot: Py<PyAny>,
    upcoming: Py<PyAny>,
    timezone: Py<PyAny>,
    origin: Py<PyAny>,
    attempt: Py<PyAny>,
    payload: Py<PyAny>,
    input: Py<PyAny>,
    journal: Py<PyAny>,
    interruptions: Py<PyAny>,
    interrupted_alone: Py<PyAny>,
    /// When its claim and its schedule were last seen in the store, by the core's steady clock, in
    /// microseconds; `None` if they were not.
    confirmed_at: Py<PyAny>,
}

/// Converts the runs of a batch, which were confirmed together.
pub fn claimed_runs<'py>(
    py: Python<'py>,
    runs: &[model::ClaimedRun],
    confirmed_at: Option<Duration>,
) -> PyResult<Bound<'py, PyList>> {
    let confirmed_at = confirmed_at.map(|at| u64::try_from(at.as_micros()).unwrap_or(u64::MAX));
    let mut shared = Shared::new(confirmed_at.into_pyobject(py)?.unbind());
    let list = PyList::empty(py);
    for claimed in runs {
        list.append(ClaimedRun::new(py, claimed, &mut shared)?)?;
    }
    Ok(list)
}

impl ClaimedRun {
    fn new(py: Python<'_>, claimed: &model::ClaimedRun, shared: &mut Shared) -> PyResult<Self> {
        let run = &claimed.run;
        let text = |value: &str| PyResult::Ok(text(py, value)?.into_any().unbind());
        let maybe_text = |value: Option<&str>| value.map_or_else(|| Ok(py.None()), text);
        let maybe_time = |value: Option<Timestamp>| -> PyResult<Py<PyAny>> {
            Ok(value.map(Timestamp::as_micros).into_pyobject(py)?.unbind())
        };
        Ok(Self {
            run_id: text(run.id.as_str())?,
            token: run.token.0.into_pyobject(py)?.into_any().unbind(),
            workflow: shared.workflow.get(py, &run.workflow)?,
            key: text(&run.key)?,
            schedule_id: maybe_text(run.schedule_id.as_ref().map(ScheduleId::as_str))?,
            slot: maybe_time(run.slot)?,
            last_slot: maybe_time(run.last_slot)?,
            upcoming: maybe_time(run.upcoming)?,
            timezone: shared.timezone.get(py, &run.timezone)?,
            origin: text(run.origin.word())?,
            attempt: run.attempt.into_pyobject(py)?.into_any().unbind(),
            payload: maybe_text(run.payload.as_deref())?,
            input: maybe_text(run.input.as_deref())?,
            journal: journal(py, &claimed.journal)?,
            interruptions: run.interruptions.into_pyobject(py)?.into_any().unbind(),
            interrupted_alone: run.interrupted_alone.into_pyobject(py)?.to_owned().into_any().unbind(),
            confirmed_at: shared.confirmed_at.clone_ref(py),
        })
    }
}

/// `[(name, state, attempt, run_attempt, result, error, wakes_at), ...]`, or `None` if it is empty.
fn journal(py: Python<'_>, journal: &[StepRecord]) -> PyResult<Py<PyAny>> {
    if journal.is_empty() {
        return Ok(py.None());
    }
    let steps = PyList::empty(py);
    for step in journal {
        steps.append((
            &*step.name,
            step.state.word(),
            step.attempt,
            step.run_attempt,
            step.result.as_deref(),
            step.error.as_deref(),
            step.wakes_at.map(Timestamp::as_micros),
        ))?;
    }
    Ok(steps.into_any().unbind())
}

/// Values that repeat within a batch of runs.
struct Shared {
    workflow: Newest,
    timezone: Newest,
    confirmed_at: Py<PyAny>,
}

impl Shared {
    fn new(confirmed_at: Py<PyAny>) -> Self {
        Self { workflow: Newest::default(), timezone: Newest::default(), confirmed_at }
    }
}

/// The newest of several texts.
#[derive(Default)]
struct Newest(Option<(Arc<str>, Py<PyAny>)>);

impl Newest {
    fn get(&mut self, py: Python<'_>, value: &Arc<str>) -> PyResult<Py<PyAny>> {
        if let Some((known, made)) = &self.0
            && known == value
        {
            return Ok(made.clone_ref(py));
        }
        let made = text(py, value)?.into_any().unbind();
        self.0 = Some((Arc::clone(value), made.clone_ref(py)));
        Ok(made)
    }
}

/// A text of any length; may fail for lack of memory.
pub fn text<'py>(py: Python<'py>, text: &str) -> PyResult<Bound<'py, PyString>> {
    PyString::from_bytes(py, text.as_bytes())
}
