//! The core of polos, a durable scheduler: time, storage, and claims behind a Python package.
//!
//! The engine follows one cycle: it reads what is due, decides with pure functions, and commits the
//! decision with one conditional write.
//!
//! Layers, lowest first. A layer may use only the layers before it in this list; `plan` and `store`
//! do not use each other. `tests/it/tidy.rs` checks this.
//!
//! 1. `cron`
//! 2. `calendar`
//! 3. `model`
//! 4. `plan`, `store`
//! 5. `engine`
//! 6. `service`
//! 7. `bindings`
//!
//! `clock`, `error`, `process`, `sync`, and `thread` are helpers outside of this order.

pub mod calendar;
pub mod clock;
pub mod cron;
pub mod engine;
pub mod error;
pub mod model;
pub mod plan;
pub mod process;
pub mod service;
pub mod store;
pub mod sync;
pub mod thread;
