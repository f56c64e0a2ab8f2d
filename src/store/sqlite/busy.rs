//! Waiting for another process to let go of the database.

use std::time::{Duration, Instant};

/// Longest pause between two tries while the wait is young.
const SHORT: Duration = Duration::from_millis(1);
/// Longest pause once it is not.
const LONG: Duration = Duration::from_millis(8);

/// A bounded wait in uneven steps. `SQLite`'s own waits grow to 100 ms: whoever came first then tries least often, and
/// a busy neighbour starves it. Here everybody tries about equally often for as long as it takes.
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

    /// A new wait begins.
    #[expect(clippy::disallowed_methods, reason = "bounds how long a lock is waited for; decides nothing")]
    pub fn renew(&mut self) {
        self.since = Instant::now();
    }

    /// Pauses and says true, or says false at once when the time is up.
    pub fn wait(&mut self) -> bool {
        let waited = self.since.elapsed();
        if waited >= self.limit {
            return false;
        }
        // xorshift: only to keep processes from trying in step.
        self.dice ^= self.dice << 13;
        self.dice ^= self.dice >> 7;
        self.dice ^= self.dice << 17;
        let longest = if waited < Duration::from_secs(1) { SHORT } else { LONG };
        let longest = u64::try_from(longest.as_micros()).unwrap_or(u64::MAX);
        std::thread::park_timeout(Duration::from_micros(50 + self.dice % longest));
        true
    }
}
