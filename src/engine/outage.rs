//! What a worker logs about a store that fails: one line when an outage begins, one when it is over.
//!
//! A store that fails and works in turns several times a second is one outage: its end is logged
//! only after the store has worked for a while. The work itself goes on at once.

use super::dispatch::Notice;
use crate::store::StoreError;
use std::time::Duration;

/// How long the store must work before its recovery is logged.
const CALM_MIN: Duration = Duration::from_secs(1);

/// The same, at most: it doubles while one outage follows on another.
const CALM_MAX: Duration = Duration::from_secs(30);

/// An outage that begins within so many calm times of the one before follows on it.
const FOLLOWS_ON: u32 = 3;

/// Outages of one store, as they are logged. Instants are those of the worker's steady clock.
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
    /// The store failed at `mono`. What is to be logged about it.
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
            // A restart may end in a rejected login: only now does anybody have to act.
            let is_logged = std::mem::replace(&mut outage.is_denial_logged, true);
            return (!is_logged).then(|| Notice::StoreDenied(error.to_string()));
        }
        is_new.then(|| Notice::StoreTrouble(error.to_string()))
    }

    /// The store worked at `mono`; `is_last`: nobody will ask again. What is to be logged about it.
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

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn unavailable() -> StoreError {
        StoreError::Unavailable("gone".to_owned())
    }

    #[test]
    fn flapping_is_one_outage() {
        let mut log = OutageLog::default();
        let mut logged = Vec::new();
        // Seven times in 0.4 s.
        for time in 0..7 {
            logged.extend(log.note_failure(&unavailable(), at(time * 60)));
            logged.extend(log.note_success(at(time * 60 + 30), false));
        }
        assert!(matches!(logged[..], [Notice::StoreTrouble(_)]), "{logged:?}");
        assert_eq!(log.next_deadline(), Some(at(390) + CALM_MIN));
        assert_eq!(log.note_success(at(1_389), false), None);
        assert_eq!(log.note_success(at(1_390), false), Some(Notice::StoreRecovered(at(390))));
        assert_eq!(log.next_deadline(), None);
    }

    #[test]
    fn outages_that_follow_on_each_other_are_logged_less_and_less() {
        let mut log = OutageLog::default();
        let mut count = 0;
        // It fails for a tenth of every three seconds, for ten minutes.
        for tick in 0..6_000 {
            let logged = if tick % 30 == 0 {
                log.note_failure(&unavailable(), at(tick * 100))
            } else {
                log.note_success(at(tick * 100), false)
            };
            count += usize::from(logged.is_some());
        }
        assert!(count <= 6, "{count} lines");
        // After a long time without one it is logged at once again, and so is its end.
        let later = at(7_200_000);
        assert!(log.note_success(later, false).is_some());
        assert!(log.note_failure(&unavailable(), later * 2).is_some());
        log.note_success(later * 2, false);
        assert_eq!(log.next_deadline(), Some(later * 2 + CALM_MIN));
    }

    #[test]
    fn a_denial_is_logged_once_also_in_an_outage_that_is_known() {
        let mut log = OutageLog::default();
        let denied = StoreError::Denied("login rejected".to_owned());
        assert!(matches!(log.note_failure(&unavailable(), at(0)), Some(Notice::StoreTrouble(_))));
        assert!(matches!(log.note_failure(&denied, at(10)), Some(Notice::StoreDenied(_))));
        assert_eq!(log.note_failure(&denied, at(20)), None);
        assert_eq!(log.note_failure(&unavailable(), at(30)), None);
        assert_eq!(log.note_success(at(40), false), None);
        assert_eq!(log.note_failure(&denied, at(50)), None);
        log.note_success(at(60), false);
        assert!(matches!(log.note_success(at(5_000), false), Some(Notice::StoreRecovered(_))));
    }

    #[test]
    fn who_ends_says_at_once_that_it_works_again() {
        let mut log = OutageLog::default();
        log.note_failure(&unavailable(), at(0));
        assert_eq!(log.note_success(at(30), true), Some(Notice::StoreRecovered(at(30))));
    }
}
