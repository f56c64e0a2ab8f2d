//! What a worker logs about a store that fails.

use polos::engine::Notice;
use polos::engine::outage::{CALM_MIN, OutageLog};
use polos::store::StoreError;
use std::time::Duration;

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
fn repeated_outages_are_logged_less_and_less_often() {
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
    // After a long time without outages, the next one and its end are logged at once again.
    let later = at(7_200_000);
    assert!(log.note_success(later, false).is_some());
    assert!(log.note_failure(&unavailable(), later * 2).is_some());
    log.note_success(later * 2, false);
    assert_eq!(log.next_deadline(), Some(later * 2 + CALM_MIN));
}

#[test]
fn a_denial_is_logged_once_even_during_a_known_outage() {
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
fn a_stopping_worker_logs_the_recovery_at_once() {
    let mut log = OutageLog::default();
    log.note_failure(&unavailable(), at(0));
    assert_eq!(log.note_success(at(30), true), Some(Notice::StoreRecovered(at(30))));
}
