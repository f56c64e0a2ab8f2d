//! What other threads may know about an engine without asking it: whether it still ticks, and
//! whether its store answers.

use crate::sync::Mutex;
use std::time::Duration;

/// The vital signs of one engine. Instants are those of the worker's steady clock.
#[derive(Debug)]
pub struct Vitals(Mutex<VitalSigns>);

/// One reading of [`Vitals`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VitalSigns {
    /// When the engine last began or ended a tick; later than any instant before the first one.
    pub last_beat: Duration,
    /// Whether it is inside a tick. Ticks compute next to nothing: in a long one, the store does
    /// not answer.
    pub is_ticking: bool,
    /// Whether the worker is registered.
    pub is_registered: bool,
    /// How far its life has gone.
    pub stage: Stage,
    /// Since when the store fails, if it does.
    pub failing_since: Option<Duration>,
}

/// The stages of a worker's life.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Stage {
    /// It accepts work.
    Working,
    /// It finishes what it has.
    Draining,
    /// Its engine has stopped.
    Over,
}

impl Vitals {
    /// The vital signs of an engine that is about to tick for the first time.
    pub fn new() -> Self {
        Self(Mutex::new(VitalSigns {
            last_beat: Duration::MAX,
            is_ticking: false,
            is_registered: false,
            stage: Stage::Working,
            failing_since: None,
        }))
    }

    /// The signs as they are now.
    pub fn read(&self) -> VitalSigns {
        self.0.lock().clone()
    }

    /// Changes the signs.
    pub(super) fn update(&self, change: impl FnOnce(&mut VitalSigns)) {
        change(&mut self.0.lock());
    }
}

impl Default for Vitals {
    fn default() -> Self {
        Self::new()
    }
}
