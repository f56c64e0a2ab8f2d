//! Errors that requests return to the application.

use crate::calendar::ZoneError;
use crate::cron::CronError;
use crate::model::spec::SpecError;
use crate::store::{Rejection, StoreError};

/// A request that failed. Every message says what was given, what is allowed, and what to do.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
pub enum Error {
    /// An invalid cron expression.
    #[error(transparent)]
    Cron(#[from] CronError),
    /// An invalid time zone.
    #[error(transparent)]
    Zone(#[from] ZoneError),
    /// Another invalid part of a schedule.
    #[error("{0}")]
    Schedule(String),
    /// Another invalid argument.
    #[error("{0}")]
    Argument(String),
    /// No process has ever registered the workflow.
    #[error("{0}")]
    WorkflowNotFound(String),
    /// The workflow is registered without `schedule=`.
    #[error("{0}")]
    WorkflowNotSchedulable(String),
    /// No such schedule in the project.
    #[error("there is no schedule `{0}` in this project; `schedules.list` shows those there are")]
    ScheduleNotFound(String),
    /// No such run in the project.
    #[error("there is no run `{0}` in this project; `runs.list` shows those there are")]
    RunNotFound(String),
    /// No run fits what the request says about it.
    #[error("{0}")]
    NoFittingRun(String),
    /// No such limit in the project.
    #[error("there is no limit `{0}` in this project; `limits.list` shows those that workers declared")]
    LimitNotFound(String),
    /// No such stored calendar in the project.
    #[error("{0}")]
    CalendarNotFound(String),
    /// No run of this backfill is stored.
    #[error(
        "there is no backfill `{0}`: no run of it is stored; finished runs are deleted after the retention period, \
         and a backfill goes with its schedule"
    )]
    BackfillNotFound(String),
    /// The state of the run or schedule does not allow the operation.
    #[error("{0}")]
    State(String),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<SpecError> for Error {
    fn from(error: SpecError) -> Self {
        match error {
            SpecError::Cron(error) => Self::Cron(error),
            SpecError::Zone(error) => Self::Zone(error),
            SpecError::Invalid(text) => Self::Schedule(text),
        }
    }
}

impl From<Rejection> for Error {
    fn from(rejection: Rejection) -> Self {
        match rejection {
            Rejection::ScheduleNotFound(id) => Self::ScheduleNotFound(id.to_string()),
            Rejection::RunNotFound(id) => Self::RunNotFound(id.to_string()),
            Rejection::DeclaredInCode { .. }
            | Rejection::RunNotFinished(..)
            | Rejection::RunFinished(..)
            | Rejection::RunNotDue(_)
            | Rejection::TooManyEvents(_)
            | Rejection::SlotDecided(_)
            | Rejection::CalendarInUse(_)
            | Rejection::LimitDeclared(..)
            | Rejection::LimitHasRuns(..)
            | Rejection::WorkerGone
            | Rejection::Stale
            | Rejection::Fenced => Self::State(rejection.to_string()),
            Rejection::NameHeld => Self::Store(StoreError::Unavailable(rejection.to_string())),
            Rejection::CalendarNotFound(_) => Self::CalendarNotFound(rejection.to_string()),
            Rejection::LimitNotFound(name) => Self::LimitNotFound(name.to_string()),
            Rejection::Invalid(text) => Self::Argument(text),
        }
    }
}
