//! Whether a worker is alive, and whether it is ready. The decision is pure: vital signs and a time
//! in, sentences out.

use crate::clock::Clock;
use crate::engine::{Stage, VitalSigns, Vitals};
use crate::sync::Mutex;
use serde::Serialize;
use std::sync::Arc;
use std::time::Duration;

/// A database that has not answered for this long is not reachable.
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// What is known about one worker at one moment.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Health {
    /// Why the process should be restarted; none while it is alive.
    pub live_problem: Option<String>,
    /// Why the worker takes no work; none while it does.
    pub ready_problem: Option<String>,
    /// Whether it is registered in the database.
    pub is_registered: bool,
    /// Whether it takes no more work, and finishes what it has.
    pub is_draining: bool,
    /// Whether the database answers.
    pub is_database_reachable: bool,
    /// Microseconds since the core last moved.
    pub core_silent_us: u64,
    /// For how many microseconds the event loop owes an answer.
    pub loop_silent_us: u64,
}

impl Health {
    /// Judges a worker by its vital signs at `now`, when its event loop has owed an answer for
    /// `loop_silent`.
    pub fn new(
        signs: &VitalSigns,
        loop_silent: Duration,
        lease: Duration,
        stall: Duration,
        now: Duration,
    ) -> Self {
        let core_silent = now.saturating_sub(signs.last_beat);
        let is_answering = !(signs.is_ticking && core_silent >= ANSWER_MAX.min(lease));
        let core = (core_silent >= lease).then(|| {
            let what =
                if signs.is_ticking { "the database has not answered" } else { "the core has not run" };
            format!("{what} for {}, and the lease is {}", seconds(core_silent), seconds(lease))
        });
        let ended = (signs.stage == Stage::Over).then(|| "the worker has ended; its log says why".to_owned());
        let stalled = (loop_silent > stall).then(|| {
            format!(
                "the event loop has not answered for {}, and may take {}: something blocks it",
                seconds(loop_silent),
                seconds(stall)
            )
        });
        let draining = (signs.stage == Stage::Draining).then(|| "the worker is draining".to_owned());
        let failing = signs.failing_since.map(|since| {
            format!(
                "the database has failed for {}; the worker's log says how",
                seconds(now.saturating_sub(since))
            )
        });
        let hanging =
            (!is_answering).then(|| format!("the database has not answered for {}", seconds(core_silent)));
        let unregistered = (!signs.is_registered).then(|| "the worker is not registered yet".to_owned());
        Self {
            live_problem: ended.clone().or_else(|| core.clone()).or(stalled),
            ready_problem: ended.or(draining).or(hanging).or(core).or(failing).or(unregistered),
            is_registered: signs.is_registered && signs.stage != Stage::Over,
            is_draining: signs.stage == Stage::Draining,
            is_database_reachable: is_answering && signs.failing_since.is_none(),
            core_silent_us: micros(core_silent),
            loop_silent_us: micros(loop_silent),
        }
    }
}

/// Whether the event loop owes an answer, and since when.
#[derive(Debug, Default)]
pub struct LoopPulse(Mutex<Option<Duration>>);

impl LoopPulse {
    /// Notes that the loop is asked at `now`. Returns false if it still owes an earlier answer.
    pub fn ask(&self, now: Duration) -> bool {
        let mut asked_at = self.0.lock();
        let is_new = asked_at.is_none();
        asked_at.get_or_insert(now);
        is_new
    }

    /// Notes that the loop has answered.
    pub fn answer(&self) {
        *self.0.lock() = None;
    }

    /// For how long the loop has owed an answer at `now`.
    pub fn silent_for(&self, now: Duration) -> Duration {
        self.0.lock().map_or(Duration::ZERO, |asked_at| now.saturating_sub(asked_at))
    }
}

/// Reads the health of one worker.
pub struct HealthMonitor {
    /// The worker's engine.
    pub vitals: Arc<Vitals>,
    /// The worker's event loop.
    pub pulse: Arc<LoopPulse>,
    /// Asks the loop to call [`LoopPulse::answer`].
    pub ask_loop: Box<dyn Fn(Arc<LoopPulse>) + Send + Sync>,
    /// The database's clock.
    pub clock: Arc<dyn Clock>,
    /// The worker's lease.
    pub lease: Duration,
    /// How long the loop may take to answer.
    pub stall: Duration,
}

impl HealthMonitor {
    /// The health at this moment. Never blocks.
    pub fn check(&self) -> Health {
        let now = self.clock.now().mono;
        if self.pulse.ask(now) {
            (self.ask_loop)(Arc::clone(&self.pulse));
        }
        Health::new(&self.vitals.read(), self.pulse.silent_for(now), self.lease, self.stall, now)
    }
}

fn seconds(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    if seconds.fract() == 0.0 { format!("{seconds:.0} s") } else { format!("{seconds:.1} s") }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
