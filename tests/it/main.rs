//! The single Rust integration binary.

mod calendar;
mod clock;
mod compiled_spec;
mod cron;
mod engine;
mod group_commit;
mod hung;
mod ids;
mod plan;
mod process;
mod property;
mod protocol;
mod service;
mod sim;
mod store;
mod tidy;
mod wake_queue;
