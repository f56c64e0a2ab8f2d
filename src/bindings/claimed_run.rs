//! A run that this worker has claimed, as its event loop gets it.

use polos::calendar::Timestamp;
use polos::model::{self, Origin, ScheduleId, StepRecord};
use polos::service::Claim;
use pyo3::prelude::*;
use pyo3::types::{PyList, PyString};
use std::sync::Arc;
use std::time::Duration;

/// A claimed run. Instants are microseconds since the epoch, and data is JSON text.
///
/// Its values are made with it, so that reading one needs no memory.
#[pyclass(frozen, module = "polos._polos")]
pub struct ClaimedRun {
    /// For its completion.
    pub(super) claim: Claim,
    slot_due: Option<Timestamp>,
    /// Whether the run belongs to a slot, and nothing shows that its handler was entered before.
    #[pyo3(get)]
    is_first_of_slot: bool,
    #[pyo3(get)]
    run_id: Py<PyAny>,
    #[pyo3(get)]
    token: Py<PyAny>,
    #[pyo3(get)]
    workflow: Py<PyAny>,
    #[pyo3(get)]
    key: Py<PyAny>,
    #[pyo3(get)]
    schedule_id: Py<PyAny>,
    #[pyo3(get)]
    slot: Py<PyAny>,
    #[pyo3(get)]
    last_slot: Py<PyAny>,
    #[pyo3(get)]
    upcoming: Py<PyAny>,
    #[pyo3(get)]
    timezone: Py<PyAny>,
    #[pyo3(get)]
    origin: Py<PyAny>,
    #[pyo3(get)]
    attempt: Py<PyAny>,
    #[pyo3(get)]
    payload: Py<PyAny>,
    #[pyo3(get)]
    input: Py<PyAny>,
    #[pyo3(get)]
    journal: Py<PyAny>,
    #[pyo3(get)]
    interruptions: Py<PyAny>,
    #[pyo3(get)]
    interrupted_alone: Py<PyAny>,
    /// When its claim and its schedule were last seen in the store, by the core's steady clock, in
    /// microseconds; `None` if they were not.
    #[pyo3(get)]
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
    /// The slot that came due, if the handler is entered for it for the first time.
    pub(super) fn first_slot(&self) -> Option<Timestamp> {
        self.slot_due.filter(|_| self.is_first_of_slot)
    }

    fn new(py: Python<'_>, claimed: &model::ClaimedRun, shared: &mut Shared) -> PyResult<Self> {
        let run = &claimed.run;
        let text = |value: &str| PyResult::Ok(text(py, value)?.into_any().unbind());
        let maybe_text = |value: Option<&str>| value.map_or_else(|| Ok(py.None()), text);
        let maybe_time = |value: Option<Timestamp>| -> PyResult<Py<PyAny>> {
            Ok(value.map(Timestamp::as_micros).into_pyobject(py)?.unbind())
        };
        Ok(Self {
            claim: Claim::of(run),
            slot_due: run.slot.filter(|_| run.origin == Origin::Schedule),
            is_first_of_slot: run.may_be_unentered(!claimed.journal.is_empty()),
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
