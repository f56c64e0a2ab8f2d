//! Rust tests that compute for long. They are compiled with optimization, which costs more than it
//! gains for the tests in `tests/it`.

mod calendar;
mod compiled_spec;
mod cron;
mod plan;
mod property;
#[cfg(feature = "postgres")]
#[allow(dead_code, clippy::unwrap_used, reason = "test helpers; `tests/it` uses the rest")]
#[path = "../it/store/server.rs"]
mod server;
mod sim;
mod values;
