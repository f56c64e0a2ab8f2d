//! Expressions: grammar and errors.
#![allow(clippy::unwrap_used, reason = "test helpers")]
