//! The lock and the flag of [`super::bell`]; the tests put those of a model checker in their place.

pub use crate::sync::Mutex;
pub use std::sync::atomic::{AtomicBool, Ordering};
