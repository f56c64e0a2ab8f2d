//! Transfers projects from a file to a server.

use super::errors::{refused, to_exception};
use polos::error::Error;
use polos::process;
use polos::store::{self, TransferError, TransferOptions, TransferProgress, TransferredProject};
use pyo3::prelude::*;
use serde_json::json;
use std::path::PathBuf;

fn to_py_error(error: TransferError, raised: Option<PyErr>) -> PyErr {
    match error {
        TransferError::Store(error) => to_exception(&Error::Store(error)),
        stopped @ TransferError::Stopped => raised.unwrap_or_else(|| refused(&stopped.to_string())),
        other @ TransferError::Refused(_) => refused(&other.to_string()),
    }
}

/// Transfers projects with `store::transfer_projects`; returns JSON. `tell(project, is_comparing,
/// table, done, total)` reports progress and stops the transfer by raising.
#[pyfunction]
#[expect(
    clippy::needless_pass_by_value,
    clippy::too_many_arguments,
    reason = "flat arguments, as Python passes them"
)]
pub fn transfer_projects(
    py: Python<'_>,
    source: PathBuf,
    target: &str,
    projects: Vec<String>,
    with_history: bool,
    is_forced: bool,
    batch: usize,
    tell: Py<PyAny>,
) -> PyResult<String> {
    let options = TransferOptions { projects, with_history, is_forced, batch, host: process::host_id() };
    let mut raised = None;
    let moved = py.detach(|| {
        let mut on_progress = |progress: &TransferProgress<'_>| {
            let TransferProgress { project, is_comparing, table, done, total } = *progress;
            let outcome = Python::attach(|py| {
                py.check_signals()?;
                tell.call1(py, (project, is_comparing, table, done, total)).map(drop)
            });
            raised = outcome.err();
            raised.is_none()
        };
        store::transfer_projects(&source, target, &options, &mut on_progress)
    });
    let moved = moved.map_err(|error| to_py_error(error, raised))?;
    Ok(json!(moved.iter().map(shown).collect::<Vec<_>>()).to_string())
}

fn shown(moved: &TransferredProject) -> serde_json::Value {
    let tables: Vec<_> = moved
        .tables
        .iter()
        .map(|table| {
            let checksum = format!("{:016x}", table.checksum);
            json!({"table": table.table, "count": table.count, "checksum": checksum})
        })
        .collect();
    json!({"project": moved.project, "tables": tables, "freed": moved.freed})
}

/// Rolls back an unfinished transfer; returns its projects.
#[pyfunction]
#[expect(clippy::needless_pass_by_value, reason = "flat arguments, as Python passes them")]
pub fn abandon_transfer(
    py: Python<'_>,
    source: PathBuf,
    target: &str,
    projects: Vec<String>,
) -> PyResult<Vec<String>> {
    py.detach(|| store::abandon_transfer(&source, target, &projects))
        .map_err(|error| to_py_error(error, None))
}
