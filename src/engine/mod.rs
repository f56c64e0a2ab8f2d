//! The engine of one worker: waits for slots, decides, commits, and dispatches runs to the
//! application.
//!
//! [`Engine`] holds all of its logic and owns no thread: given the time, it does what is due and
//! returns its next deadline. [`driver`] ticks it with the machine's clock on a thread of its own;
//! simulations and virtual time tick it by hand. The application is reached through [`Dispatcher`],
//! durable state through [`crate::store::StoreReads`] and
//! [`crate::store::StoreWrites`].

mod completion;
pub mod config;
mod core;
mod dispatcher;
pub mod driver;
pub mod due_queue;
pub mod entry;
pub mod group_commit;
mod message;
pub mod metrics;
pub mod outage;
pub mod peers;
mod permits;
mod stuck_parents;
mod suspects;
mod sync;
mod vitals;
pub mod wake_queue;

pub use completion::ExecutionOutcome;
pub use config::{EngineConfig, WorkflowConfig};
pub use core::{Deadline, Engine};
pub use dispatcher::{Dispatcher, DueCall, MissedSlots, Notice, Stop, StopReason};
pub use entry::ENTRY_WINDOW;
pub use message::Message;
pub use permits::{Permit, PermitPools, Permits, QueuedRequest};
pub use vitals::{Stage, VitalSigns, Vitals};
