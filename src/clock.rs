//! Sources of time. The only file that reads the machine's clocks; everything else takes time as an
//! argument.

use crate::calendar::Timestamp;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// One reading of both clocks.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Now {
    /// Wall-clock time; may jump. Decides when slots are due.
    pub wall: Timestamp,
    /// Monotonic time since an arbitrary moment; never jumps. Measures leases, timeouts, and waits.
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
    /// Starts monotonic time at zero.
    #[expect(clippy::disallowed_methods, reason = "the only place that reads the clock")]
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
    #[expect(clippy::disallowed_methods, reason = "the only place that reads the clock")]
    fn now(&self) -> Now {
        let micros = match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(since) => i64::try_from(since.as_micros()).unwrap_or(i64::MAX),
            Err(before) => -i64::try_from(before.duration().as_micros()).unwrap_or(i64::MAX),
        };
        Now { wall: Timestamp::from_micros(micros), mono: self.origin.elapsed() }
    }
}

/// Longest time between two readings of the followed clock.
const SYNC_INTERVAL: Duration = Duration::from_secs(30);

/// A change of more than this between the machine's two clocks means that the wall clock was set or
/// the machine slept.
const JUMP_US: i64 = 100_000;

/// The most readings per synchronization: the fastest response is the most accurate.
const READINGS: u32 = 3;

/// A response within this time is accurate enough, in microseconds.
const FAST_US: i64 = 1_000;

/// What rounds a time up to whole microseconds.
const ROUND_UP: Duration = Duration::from_nanos(999);

/// Follows another clock, such as that of a database that many machines share. Between two readings
/// of it, time continues by the machine's monotonic clock, so the machine's wall clock may be
/// wrong, or be set, without effect. Clones share state.
#[derive(Clone, Debug)]
pub struct SharedClock {
    machine: SystemClock,
    state: Arc<SharedState>,
}

/// In microseconds.
#[derive(Debug)]
struct SharedState {
    /// How far the followed clock is ahead of the monotonic one.
    lead: AtomicI64,
    /// Monotonic time of the last reading.
    last_look: AtomicI64,
    /// How far the machine's wall clock was ahead of the monotonic one at the last reading.
    wall_lead_at_look: AtomicI64,
}

impl SharedClock {
    /// Follows the clock that `ask` reads.
    pub fn new<E>(ask: impl Fn() -> Result<Timestamp, E>) -> Result<Self, E> {
        let state = SharedState {
            lead: AtomicI64::new(0),
            last_look: AtomicI64::new(0),
            wall_lead_at_look: AtomicI64::new(0),
        };
        let clock = Self { machine: SystemClock::new(), state: Arc::new(state) };
        clock.look(ask)?;
        Ok(clock)
    }

    /// Whether the followed clock should be read again.
    pub fn is_look_due(&self) -> bool {
        let now = self.machine.now();
        let since = micros(now.mono) - self.state.last_look.load(Ordering::SeqCst);
        let jump = wall_lead(now) - self.state.wall_lead_at_look.load(Ordering::SeqCst);
        since >= i64::try_from(SYNC_INTERVAL.as_micros()).unwrap_or(i64::MAX) || jump.abs() > JUMP_US
    }

    /// Reads the followed clock. A response is as old as it took, so the time shown is never ahead
    /// of that clock.
    pub fn look<E>(&self, ask: impl Fn() -> Result<Timestamp, E>) -> Result<(), E> {
        let mut lead = i64::MIN;
        for _ in 0..READINGS {
            let asked_from = micros(self.machine.now().mono);
            let answer = ask()?;
            // Rounded up: the fraction that `micros` cuts off would put us ahead.
            let asked_until = micros(self.machine.now().mono + ROUND_UP);
            lead = lead.max(answer.as_micros() - asked_until);
            if asked_until - asked_from <= FAST_US {
                break;
            }
        }
        let now = self.machine.now();
        self.state.lead.store(lead, Ordering::SeqCst);
        self.state.last_look.store(micros(now.mono), Ordering::SeqCst);
        self.state.wall_lead_at_look.store(wall_lead(now), Ordering::SeqCst);
        Ok(())
    }
}

impl Clock for SharedClock {
    fn now(&self) -> Now {
        let mono = self.machine.now().mono;
        let lead = self.state.lead.load(Ordering::SeqCst);
        Now { wall: Timestamp::from_micros(lead + micros(mono)), mono }
    }
}

fn micros(time: Duration) -> i64 {
    i64::try_from(time.as_micros()).unwrap_or(i64::MAX)
}

fn wall_lead(now: Now) -> i64 {
    now.wall.as_micros() - micros(now.mono)
}

/// A clock that moves only when told to; both readings move together. Clones share state.
#[derive(Clone, Debug)]
pub struct ManualClock {
    wall_us: Arc<AtomicI64>,
    mono_us: Arc<AtomicI64>,
}

impl ManualClock {
    /// Starts at `wall`.
    pub fn new(wall: Timestamp) -> Self {
        Self { wall_us: Arc::new(AtomicI64::new(wall.as_micros())), mono_us: Arc::new(AtomicI64::new(0)) }
    }

    /// Advances both clocks until the wall clock shows `wall`; never backwards.
    pub fn advance_to(&self, wall: Timestamp) {
        let step = wall.as_micros() - self.wall_us.load(Ordering::SeqCst);
        if step > 0 {
            self.wall_us.fetch_add(step, Ordering::SeqCst);
            self.mono_us.fetch_add(step, Ordering::SeqCst);
        }
    }

    /// Sets the wall clock; monotonic time does not move.
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
