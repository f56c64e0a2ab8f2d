//! Placeholder of the civil-time layer: only the instant.
mod timestamp;
pub use timestamp::Timestamp;
