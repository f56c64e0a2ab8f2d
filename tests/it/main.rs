//! The single Rust integration binary.

// Most files still name the library by its former name.
extern crate polos as _polos;

mod api;
mod bell;
mod cadence;
mod calendar;
mod clock;
mod commit;
mod cron;
mod engine;
mod host;
mod hung;
mod plan;
mod property;
mod protocol;
mod sim;
mod store;
mod tidy;
