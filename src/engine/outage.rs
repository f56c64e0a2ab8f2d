//! Logs store outages: one line when an outage begins, one when it is over.
//!
//! A store that alternates between failing and working several times a second is one outage: its
//! end is logged only after the store has worked for a while. The work itself resumes at once.

use super::dispatcher::Notice;
use crate::store::StoreError;
use std::time::Duration;

/// The minimum time that the store must work before its recovery is logged.
pub const CALM_MIN: Duration = Duration::from_secs(1);

/// The maximum of that time, which doubles while one outage follows on another.
const CALM_MAX: Duration = Duration::from_secs(30);

/// An outage follows on the last one if it begins within this many calm periods of its logged end.
const FOLLOWS_ON: u32 = 3;

/// The outage log of one store. Instants are those of the worker's steady clock.
#[derive(Debug, Default)]
pub struct OutageLog {
    outage: Option<Outage>,
    /// When the end of the last outage was logged, and how long the store had to work for that.
    last: Option<(Duration, Duration)>,
}

#[derive(Debug)]
struct Outage {
    since: Duration,
    /// When the store began to work again, if it has.
    recovered_at: Option<Duration>,
    is_denial_logged: bool,
    calm: Duration,
}

impl OutageLog {
    /// Records a store failure at `mono`. Returns the notice to log.
    pub fn note_failure(&mut self, error: &StoreError, mono: Duration) -> Option<Notice> {
        let is_new = self.outage.is_none();
        let calm = self.calm_at(mono);
        let outage = self.outage.get_or_insert(Outage {
            since: mono,
            recovered_at: None,
            is_denial_logged: false,
            calm,
        });
        outage.recovered_at = None;
        if matches!(error, StoreError::Denied(_)) {
            // A restart may end in a rejected login: only then does an operator have to act.
            let is_logged = std::mem::replace(&mut outage.is_denial_logged, true);
            return (!is_logged).then(|| Notice::StoreDenied(error.to_string()));
        }
        is_new.then(|| Notice::StoreTrouble(error.to_string()))
    }

    /// Records that the store worked at `mono`; `is_last` if this is the last call. Returns the
    /// notice to log.
    pub fn note_success(&mut self, mono: Duration, is_last: bool) -> Option<Notice> {
        let outage = self.outage.as_mut()?;
        let recovered_at = *outage.recovered_at.get_or_insert(mono);
        if !is_last && mono < recovered_at + outage.calm {
            return None;
        }
        let lasted = recovered_at.saturating_sub(outage.since);
        self.last = Some((mono, outage.calm));
        self.outage = None;
        Some(Notice::StoreRecovered(lasted))
    }

    /// When the end of the outage can be logged.
    pub fn next_deadline(&self) -> Option<Duration> {
        let outage = self.outage.as_ref()?;
        outage.recovered_at.map(|at| at + outage.calm)
    }

    fn calm_at(&self, mono: Duration) -> Duration {
        match self.last {
            Some((at, calm)) if mono < at + calm * FOLLOWS_ON => (calm * 2).min(CALM_MAX),
            _ => CALM_MIN,
        }
    }
}
