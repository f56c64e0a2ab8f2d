//! The single Rust integration binary.

mod calendar;
mod cron;
mod plan;
