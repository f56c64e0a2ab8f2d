//! Pure decisions: (state, now) -> plan. No clocks, no stores.

pub mod fire;
pub mod jitter;
pub mod recompute;
pub mod retry;
pub mod transition;
pub mod upcoming;

pub use fire::{Situation, plan_fire};
pub use recompute::recomputed;
pub use retry::Backoff;
pub use upcoming::upcoming_slots;
