//! Rust tests that wait for stores, threads, and servers more than they compute.
//! `tests/optimized` has the others.

mod clock;
mod engine;
#[allow(
    dead_code,
    clippy::unwrap_used,
    clippy::large_enum_variant,
    reason = "test helpers; the simulation uses the rest"
)]
#[path = "../optimized/sim/faults.rs"]
mod faults;
mod group_commit;
mod hung;
mod ids;
mod process;
mod protocol;
mod service;
mod store;
mod tidy;
mod wake_queue;
