//! The single Rust integration binary.
