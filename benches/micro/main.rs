//! What single functions of the core cost, beside other crates and beside bare loops that do the same.
//!
//! `cargo bench --package polos-benches -- next` runs those whose name has `next`.

#![allow(clippy::unwrap_used, reason = "a benchmark that can't run should stop")]

mod claims;
mod cron_next;
mod cron_parse;
mod expressions;
mod floor;
mod queue;

use criterion::{criterion_group, criterion_main};

criterion_group!(micro, cron_parse::parse, cron_next::next, queue::queue, claims::claims);
criterion_main!(micro);
