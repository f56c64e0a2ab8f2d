//! Backfills: which runs belong to one, and how many of them are in progress at once.
//!
//! Its runs have idempotency keys that polos chose, which begin with the id of the backfill. So the
//! index of those keys finds them, and no table of backfills is needed.

use super::ids::{RunId, ScheduleId};
use crate::calendar::Timestamp;
use std::sync::Arc;

/// How all idempotency keys of backfilled runs begin.
pub const KEYS: &str = "auto:backfill:";
/// Sorts after all of them.
pub const BEHIND_KEYS: &str = "auto:backfill;";

/// A new id for a backfill of the schedule.
pub fn new_id(schedule: &ScheduleId, now: Timestamp, random: u64) -> String {
    let run = RunId::new(now, random);
    let own = run.as_str().trim_start_matches("run_");
    format!("bf_{}_{own}", schedule.as_str().trim_start_matches("sch_"))
}

/// The schedule of the backfill with this id; `None` if it isn't one.
pub fn schedule_of(id: &str) -> Option<ScheduleId> {
    let (schedule, own) = id.strip_prefix("bf_")?.rsplit_once('_')?;
    let is_id = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric());
    (is_id(schedule) && is_id(own)).then(|| ScheduleId::from(format!("sch_{schedule}").as_str()))
}

/// The idempotency key of a run. A `concurrency` of 0 leaves it to the schedule's overlap policy
/// how many runs are in progress.
pub fn key(id: &str, slot: Timestamp, concurrency: u32) -> Arc<str> {
    format!("{KEYS}{id}:{}:{concurrency}", slot.as_micros()).into()
}

/// The bounds of the keys of one backfill's runs, both exclusive.
pub fn keys(id: &str) -> (String, String) {
    (format!("{KEYS}{id}:"), format!("{KEYS}{id};"))
}

/// The id of the backfill and its concurrency, from the key of one of its runs.
pub fn parse_key(key: &str) -> Option<(&str, u32)> {
    let (id, rest) = key.strip_prefix(KEYS)?.split_once(':')?;
    Some((id, rest.rsplit_once(':')?.1.parse().ok()?))
}

/// Whether a run with the key `retried` has to wait: its backfill has as many runs in progress as
/// it may have. `live` are the keys of the runs of its schedule that are in progress.
pub fn must_wait<'k>(retried: Option<&str>, live: impl IntoIterator<Item = Option<&'k str>>) -> bool {
    let Some((id, concurrency)) = retried.and_then(parse_key).filter(|(_, concurrency)| *concurrency > 0)
    else {
        return false;
    };
    let is_beside = |key: Option<&str>| key.and_then(parse_key).is_some_and(|(other, _)| other == id);
    live.into_iter().filter(|key| is_beside(*key)).count()
        >= usize::try_from(concurrency).unwrap_or(usize::MAX)
}

/// Whether the run with the key `next` takes the place of the one with the key `ended`, however
/// many other runs of their schedule are in progress. As many are as a backfill has begun with.
pub fn takes_over(next: Option<&str>, ended: Option<&str>) -> bool {
    let is_counted =
        |key: Option<&str>| key.and_then(parse_key).is_some_and(|(_, concurrency)| concurrency > 0);
    is_counted(next) && is_counted(ended)
}
