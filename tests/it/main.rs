//! The single Rust integration binary.

mod api;
mod bell;
mod cadence;
mod calendar;
mod commit;
mod cron;
mod engine;
mod hung;
mod plan;
mod property;
mod protocol;
mod sim;
mod store;
mod tidy;
