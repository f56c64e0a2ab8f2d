//! The only file that asks the machine what time it is. Everything else is told.

use crate::calendar::Timestamp;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// One reading of both clocks.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Now {
    /// What the wall says; may jump. Slots are due by it.
    pub wall: Timestamp,
    /// Since some moment in the past; never jumps. Leases, timeouts and waits go by it.
    pub mono: Duration,
}

/// A source of time.
pub trait Clock: Send + Sync + 'static {
    /// Reads both clocks.
    fn now(&self) -> Now;
}

/// The machine's clocks.
#[derive(Clone, Debug)]
pub struct SystemClock {
    origin: Instant,
}

impl SystemClock {
    /// Counts monotonic time from now on.
    #[expect(clippy::disallowed_methods, reason = "this is the door")]
    pub fn new() -> Self {
        Self { origin: Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the door")]
    fn now(&self) -> Now {
        let micros = match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(since) => i64::try_from(since.as_micros()).unwrap_or(i64::MAX),
            Err(before) => -i64::try_from(before.duration().as_micros()).unwrap_or(i64::MAX),
        };
        Now { wall: Timestamp::from_micros(micros), mono: self.origin.elapsed() }
    }
}

/// A clock that somebody turns by hand; both readings move together. Clones share it.
#[derive(Clone, Debug)]
pub struct ManualClock {
    wall_us: Arc<AtomicI64>,
    mono_us: Arc<AtomicI64>,
}

impl ManualClock {
    /// Stands at `wall`.
    pub fn new(wall: Timestamp) -> Self {
        Self { wall_us: Arc::new(AtomicI64::new(wall.as_micros())), mono_us: Arc::new(AtomicI64::new(0)) }
    }

    /// Time goes on until the wall says `wall`; not backwards.
    pub fn advance_to(&self, wall: Timestamp) {
        let step = wall.as_micros() - self.wall_us.load(Ordering::SeqCst);
        if step > 0 {
            self.wall_us.fetch_add(step, Ordering::SeqCst);
            self.mono_us.fetch_add(step, Ordering::SeqCst);
        }
    }

    /// Somebody sets the wall clock; monotonic time does not move.
    pub fn set_wall(&self, wall: Timestamp) {
        self.wall_us.store(wall.as_micros(), Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Now {
        Now {
            wall: Timestamp::from_micros(self.wall_us.load(Ordering::SeqCst)),
            mono: Duration::from_micros(u64::try_from(self.mono_us.load(Ordering::SeqCst)).unwrap_or(0)),
        }
    }
}
