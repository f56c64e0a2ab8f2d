//! Decisions: what stands and what time it is in, what to do out. Knows neither clocks nor stores.

pub mod chance;
pub mod fire;
pub mod realign;
pub mod retry;
pub mod transition;

pub use fire::{Situation, plan_fire};
pub use realign::realigned;
pub use retry::Backoff;
