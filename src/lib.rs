//! The engine of polos: time, storage and claims behind a Python package.
//!
//! Read, decide, commit: the engine reads what is due, decides with pure functions, and commits the
//! decision with one conditional write. Layers, lowest first; a layer may use only those above it in this list.

pub mod api;
#[cfg(feature = "python")]
mod bindings;
pub mod calendar;
pub mod clock;
pub mod cron;
pub mod engine;
pub mod error;
pub mod host;
pub mod model;
pub mod plan;
pub mod store;
pub mod sync;
pub mod thread;
