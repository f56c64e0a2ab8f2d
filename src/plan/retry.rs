//! Computes when a failed run or step is retried.

use super::jitter;
use crate::calendar::Timestamp;
use serde::{Deserialize, Serialize};

/// Exponential backoff: `initial`, growing by `factor`, at most `maximum`; then shortened by up to
/// the `jitter` fraction.
#[derive(Copy, Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Backoff {
    /// Wait before the second attempt, in microseconds.
    pub initial_us: i64,
    /// Growth from one wait to the next, at least 1.
    pub factor: f64,
    /// Longest wait, in microseconds.
    pub maximum_us: i64,
    /// From 0 (none) to 1 (anything between nothing and the full wait).
    pub jitter: f64,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { initial_us: 1_000_000, factor: 2.0, maximum_us: 300_000_000, jitter: 0.1 }
    }
}

impl Backoff {
    /// When attempt `failed + 1` of the run or step `name` starts, after attempt `failed` ended at
    /// `now`.
    pub fn retry_at(&self, name: &str, failed: u32, now: Timestamp) -> Timestamp {
        let exponent = i32::try_from(failed.saturating_sub(1)).unwrap_or(i32::MAX);
        #[expect(clippy::cast_precision_loss, reason = "a wait needs no such precision")]
        let full = (self.initial_us as f64 * self.factor.max(1.0).powi(exponent)).min(self.maximum_us as f64);
        let wait = full * (1.0 - self.jitter.clamp(0.0, 1.0) * jitter::fraction_of(name, i64::from(failed)));
        #[expect(clippy::cast_possible_truncation, reason = "below maximum_us, which is an i64")]
        Timestamp::from_micros(now.as_micros().saturating_add(wait.max(0.0) as i64))
    }
}
