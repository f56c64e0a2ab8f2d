//! The lock and the flag of [`super::wake_queue`]; the tests replace them with a model checker's.

pub use crate::sync::Mutex;
pub use std::sync::atomic::{AtomicBool, Ordering};
