//! The engine of one worker: waits for slots, decides, commits, hands runs to the application.
//!
//! [`Engine`] is the whole of its logic and owns no thread: told the time, it does what is due and answers when it
//! wants to be told again. [`driver`] turns it with the machine's clock on a thread of its own; simulations and virtual time turn it
//! by hand. What crosses to the application goes through [`Dispatcher`], what is durable through [`crate::store::Store`].

pub mod bell;
pub mod commit;
pub mod config;
mod core;
mod dispatch;
pub mod driver;
mod message;
mod offer;
pub mod outage;
mod stuck_parents;
mod suspects;
mod sync;
pub mod timer;
pub mod watch;

pub use config::{EngineConfig, WorkflowConfig};
pub use core::{Engine, Next};
pub use dispatch::{Dispatcher, MissedSlots, Notice, Stop, StopReason};
pub use message::Message;
pub use offer::{InLine, Offer, Offers, Place};
