//! The extension module: converts arguments, calls the core, converts results. The only part that
//! depends on the interpreter.

mod bridge;
mod claimed_run;
mod convert;
mod core;
mod errors;
#[cfg(unix)]
mod exit;
#[cfg(unix)]
mod lifeline;
mod notices;
mod time;
mod transfer;
mod worker;

use pyo3::prelude::*;

/// The engine of polos. Private: the public API is the package around it.
#[pymodule]
mod _polos {
    #[pymodule_export]
    use super::bridge::Bridge;
    #[pymodule_export]
    use super::claimed_run::ClaimedRun;
    #[pymodule_export]
    use super::core::Core;
    #[cfg(unix)]
    #[pymodule_export]
    use super::exit::ExitGuard;
    #[cfg(unix)]
    #[pymodule_export]
    use super::lifeline::end_with_stdin;
    #[pymodule_export]
    use super::time::{compile_spec, configure_tzdb, explain, first_slots, spec_slots, tzdb_version};
    #[pymodule_export]
    use super::transfer::{abandon_transfer, transfer_projects};
    #[pymodule_export]
    use super::worker::WorkerCore;

    #[pymodule_init]
    fn init(module: &pyo3::Bound<'_, pyo3::types::PyModule>) -> pyo3::PyResult<()> {
        use pyo3::types::PyModuleMethods;
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}
