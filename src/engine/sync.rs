//! The lock and the flag of [`super::wake_queue`]; the tests put those of a model checker in their place.

pub use crate::sync::Mutex;
pub use std::sync::atomic::{AtomicBool, Ordering};
