//! The one table from the core's errors to the package's exceptions.

use polos::error::Error;
use polos::store::StoreError;
use pyo3::PyErr;

pyo3::import_exception!(polos.exceptions, InvalidArgumentError);
pyo3::import_exception!(polos.exceptions, InvalidCronError);
pyo3::import_exception!(polos.exceptions, InvalidScheduleError);
pyo3::import_exception!(polos.exceptions, InvalidStateError);
pyo3::import_exception!(polos.exceptions, InvalidTimezoneError);
pyo3::import_exception!(polos.exceptions, BackfillNotFoundError);
pyo3::import_exception!(polos.exceptions, CalendarNotFoundError);
pyo3::import_exception!(polos.exceptions, LimitNotFoundError);
pyo3::import_exception!(polos.exceptions, RunNotFoundError);
pyo3::import_exception!(polos.exceptions, ScheduleNotFoundError);
pyo3::import_exception!(polos.exceptions, ShutdownError);
pyo3::import_exception!(polos.exceptions, StoreCorruptError);
pyo3::import_exception!(polos.exceptions, StoreUnavailableError);
pyo3::import_exception!(polos.exceptions, StoreVersionError);
pyo3::import_exception!(polos.exceptions, WorkflowNotFoundError);
pyo3::import_exception!(polos.exceptions, WorkflowNotSchedulableError);

/// The exception for an error, with its message unchanged.
pub fn to_exception(error: &Error) -> PyErr {
    let text = error.to_string();
    match error {
        Error::Cron(_) => InvalidCronError::new_err(text),
        Error::Zone(_) => InvalidTimezoneError::new_err(text),
        Error::Schedule(_) => InvalidScheduleError::new_err(text),
        Error::Argument(_) => InvalidArgumentError::new_err(text),
        Error::WorkflowNotFound(_) => WorkflowNotFoundError::new_err(text),
        Error::WorkflowNotSchedulable(_) => WorkflowNotSchedulableError::new_err(text),
        Error::ScheduleNotFound(_) => ScheduleNotFoundError::new_err(text),
        Error::BackfillNotFound(_) => BackfillNotFoundError::new_err(text),
        Error::CalendarNotFound(_) => CalendarNotFoundError::new_err(text),
        Error::LimitNotFound(_) => LimitNotFoundError::new_err(text),
        Error::RunNotFound(_) | Error::NoFittingRun(_) => RunNotFoundError::new_err(text),
        Error::State(_) => InvalidStateError::new_err(text),
        Error::Store(store) => match store {
            StoreError::Unavailable(_) | StoreError::Denied(_) | StoreError::Unusable { .. } => {
                StoreUnavailableError::new_err(text)
            }
            StoreError::Corrupt { .. } | StoreError::Foreign { .. } => StoreCorruptError::new_err(text),
            StoreError::Newer { .. } => StoreVersionError::new_err(text),
            StoreError::Closed => ShutdownError::new_err(text),
        },
    }
}

/// The exception for a call that is not allowed in the current state.
pub fn refused(text: &str) -> PyErr {
    InvalidStateError::new_err(text.to_owned())
}
