//! Waits for another process to release the database.

use std::time::{Duration, Instant};

/// The longest pause between two attempts at the beginning of a wait.
const SHORT: Duration = Duration::from_millis(1);
/// The longest pause between two attempts later on.
const LONG: Duration = Duration::from_millis(8);

/// A bounded wait in uneven steps. `SQLite`'s own pauses grow to 100 ms, so the process that has
/// waited longest tries least often and starves beside a busy neighbor. Here, all processes try
/// about equally often for as long as they wait.
#[derive(Debug)]
pub(super) struct BusyRetry {
    limit: Duration,
    since: Instant,
    dice: u64,
}

impl BusyRetry {
    #[expect(clippy::disallowed_methods, reason = "bounds how long a lock is waited for; decides nothing")]
    pub fn of(limit: Duration, seed: u64) -> Self {
        let now = Instant::now();
        Self { limit, since: now, dice: seed | 1 }
    }

    /// Starts a wait.
    #[expect(clippy::disallowed_methods, reason = "bounds how long a lock is waited for; decides nothing")]
    pub fn renew(&mut self) {
        self.since = Instant::now();
    }

    /// Pauses and returns true, or returns false at once if the time is up.
    pub fn wait(&mut self) -> bool {
        let waited = self.since.elapsed();
        if waited >= self.limit {
            return false;
        }
        // xorshift: good enough to keep processes from trying in step.
        self.dice ^= self.dice << 13;
        self.dice ^= self.dice >> 7;
        self.dice ^= self.dice << 17;
        let longest = if waited < Duration::from_secs(1) { SHORT } else { LONG };
        let longest = u64::try_from(longest.as_micros()).unwrap_or(u64::MAX);
        std::thread::park_timeout(Duration::from_micros(50 + self.dice % longest));
        true
    }
}
