//! The engine of one worker: waits for slots, decides, commits, hands runs to the application.
//!
//! [`Engine`] is the whole of its logic and owns no thread: told the time, it does what is due and answers when it
//! wants to be told again. [`driver`] turns it with the machine's clock on a thread of its own; simulations and virtual time turn it
//! by hand. What crosses to the application goes through [`Dispatcher`], what is durable through [`crate::store::Store`].

pub mod config;
mod core;
mod dispatcher;
pub mod driver;
pub mod due_queue;
pub mod group_commit;
mod message;
pub mod outage;
pub mod peers;
mod permits;
mod stuck_parents;
mod suspects;
mod sync;
pub mod wake_queue;

pub use config::{EngineConfig, WorkflowConfig};
pub use core::{Deadline, Engine};
pub use dispatcher::{Dispatcher, MissedSlots, Notice, Stop, StopReason};
pub use message::Message;
pub use permits::{Permit, PermitPools, Permits, QueuedRequest};
