//! Decisions: what stands and what time it is in, what to do out. Knows neither clocks nor stores.

pub mod fire;
pub mod jitter;
pub mod recompute;
pub mod retry;
pub mod transition;

pub use fire::{Situation, plan_fire};
pub use recompute::recomputed;
pub use retry::Backoff;
