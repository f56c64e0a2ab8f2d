//! Single functions of the core, compared with other crates and with bare loops that do the same.
//!
//! `cargo bench --package polos-benches -- next` runs those whose name contains `next`.

#![allow(clippy::unwrap_used, reason = "a benchmark that can't run should stop")]

mod baseline;
mod claims;
mod cron_next;
mod cron_parse;
mod expressions;
mod queue;

use criterion::{criterion_group, criterion_main};

criterion_group!(micro, cron_parse::parse, cron_next::next, queue::queue, claims::claims);
criterion_main!(micro);
