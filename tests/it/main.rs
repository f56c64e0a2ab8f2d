//! The single Rust integration binary.

mod store;
