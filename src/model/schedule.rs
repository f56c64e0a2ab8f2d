//! A schedule: what the user declared, and where it stands.

use super::{CatchUp, Json, Overlap, ScheduleId};
use crate::calendar::Timestamp;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// What the user declared. Stored as JSON text; schedules with equal text share one compiled copy in memory.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScheduleSpec {
    /// Cron expression; exactly one of this, `every_us` and `at_us` is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cron: Option<String>,
    /// Period in microseconds, from 1,000,000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every_us: Option<i64>,
    /// The one instant of a schedule that fires once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_us: Option<Timestamp>,
    /// IANA name.
    #[serde(default = "utc")]
    pub timezone: String,
    /// Scope: this schedule alone.
    #[serde(default)]
    pub overlap: Overlap,
    /// For slots that nobody could run on time.
    #[serde(default)]
    pub catch_up: CatchUp,
    /// Most runs that one catching-up makes, for [`CatchUp::All`].
    #[serde(default = "hundred")]
    pub max_catch_up: u32,
    /// Slots older than this are missed whatever the policy.
    #[serde(default = "one_day_us")]
    pub catch_up_window_us: i64,
    /// Longest delay added to a start; the delay of a slot never changes.
    #[serde(default)]
    pub jitter_us: i64,
    /// No slot before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_at_us: Option<Timestamp>,
    /// No slot at or after.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_at_us: Option<Timestamp>,
    /// The schedule is finished after so many runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_runs: Option<u64>,
    /// Local dates (`2026-12-25`) whose slots are skipped, sorted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub skip_dates: Vec<String>,
    /// The application holds a calendar to ask when a slot comes due.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub skip_calendar: bool,
    /// Failed runs in a row after which the schedule pauses itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pause_after_failures: Option<u32>,
}

fn utc() -> String {
    "UTC".to_owned()
}
fn hundred() -> u32 {
    100
}
fn one_day_us() -> i64 {
    86_400_000_000
}

/// Which of the three triggers a specification has.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Trigger<'a> {
    /// A cron expression, not yet parsed.
    Cron(&'a str),
    /// A period in microseconds.
    Every(i64),
    /// One instant.
    At(Timestamp),
}

impl ScheduleSpec {
    /// The trigger, or `None` where not exactly one is given.
    pub fn trigger(&self) -> Option<Trigger<'_>> {
        match (&self.cron, self.every_us, self.at_us) {
            (Some(cron), None, None) => Some(Trigger::Cron(cron)),
            (None, Some(every), None) => Some(Trigger::Every(every)),
            (None, None, Some(at)) => Some(Trigger::At(at)),
            _ => None,
        }
    }

    /// The part that decides when slots are. Two specifications with equal text have the same slots, so an update
    /// that leaves it alone keeps the next one.
    pub fn trigger_key(&self) -> String {
        let at = |t: Option<Timestamp>| t.map_or(String::new(), |t| t.as_micros().to_string());
        format!(
            "{}|{}|{}|{}|{}|{}",
            self.cron.as_deref().unwrap_or(""),
            self.every_us.map_or(String::new(), |us| us.to_string()),
            at(self.at_us),
            self.timezone,
            at(self.start_at_us),
            at(self.end_at_us)
        )
    }
}

/// Where a schedule stands.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScheduleStatus {
    /// Fires.
    Active,
    /// Stopped by somebody, or by its own failures; slots wait for the resumption and then follow the catch-up policy.
    Paused,
    /// The application that declared it no longer does.
    Retired,
    /// No slot is left.
    Finished,
    /// Its stored row can't be understood; `note` says why.
    Broken,
}

impl ScheduleStatus {
    /// Every one.
    pub const ALL: [Self; 5] = [Self::Active, Self::Paused, Self::Retired, Self::Finished, Self::Broken];
}

/// A schedule as stored.
#[derive(Clone, PartialEq, Debug)]
pub struct Schedule {
    /// Never changes.
    pub id: ScheduleId,
    /// Namespace.
    pub project: Arc<str>,
    /// Id of the workflow that it starts.
    pub workflow: Arc<str>,
    /// The user's key; unique with `project` and `workflow`.
    pub key: Arc<str>,
    /// Application that declared it in code; `None` for one made through the API.
    pub owner: Option<Arc<str>>,
    /// JSON text of its [`ScheduleSpec`].
    pub spec: Json,
    /// Data given to every run.
    pub input: Option<Json>,
    /// Where it stands.
    pub status: ScheduleStatus,
    /// Why it stands there, for people.
    pub note: Option<Arc<str>>,
    /// The coming slot; `None` when none is left.
    pub next_slot: Option<Timestamp>,
    /// Slot of the newest run.
    pub last_slot: Option<Timestamp>,
    /// Runs that its slots made so far.
    pub run_count: u64,
    /// Failed runs in a row.
    pub failure_count: u32,
    /// Since when somebody has wanted its slots: creation, change of cadence, resumption. A slot before that is late by wish.
    pub attended_from: Timestamp,
    /// Creation.
    pub created_at: Timestamp,
    /// Last edit by a person or a program (not by a fire).
    pub updated_at: Timestamp,
    /// Grows with every fire and every edit; a decision commits only on the revision that it was made from.
    pub revision: i64,
    /// JSON text of its [`Declaration`]; `None` where code has not declared it since releases record this.
    pub declaration: Option<Json>,
    /// Slots that have an outcome although `next_slot` may come before them: skipped on request, or
    /// backfilled while they were due. JSON array of microseconds; see [`Schedule::settled_slots`].
    pub settled: Option<Json>,
}

impl Schedule {
    /// The slots that must not get a second outcome, in order.
    pub fn settled_slots(&self) -> Vec<Timestamp> {
        let Some(text) = &self.settled else { return Vec::new() };
        let micros: Vec<i64> = serde_json::from_str(text).unwrap_or_default();
        let mut slots: Vec<_> = micros.into_iter().map(Timestamp::from_micros).collect();
        slots.sort_unstable();
        slots
    }

    /// [`Self::settled`] with these slots added. Slots that the schedule can't return to are dropped.
    pub fn settled_with(&self, added: &[Timestamp], now: Timestamp) -> Option<Json> {
        let oldest = self.next_slot.map_or(now, |next| next.min(now));
        let mut slots = self.settled_slots();
        slots.retain(|slot| *slot >= oldest);
        slots.extend_from_slice(added);
        slots.sort_unstable();
        slots.dedup();
        let micros: Vec<i64> = slots.into_iter().map(Timestamp::as_micros).collect();
        (!micros.is_empty()).then(|| serde_json::to_string(&micros).unwrap_or_default().into())
    }
}

/// What is known of the code's declaration of a schedule.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Declaration {
    /// Specification that the code declares.
    pub spec: String,
    /// Input that the code declares.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<String>,
    /// [`super::WorkerEntry::version`] of the worker that declared it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// When each declaration was seen first, by fingerprint, in microseconds.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub seen: Vec<(String, i64)>,
    /// Whether somebody changed the schedule through the API, so that it differs from what the code declares.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_overridden: bool,
    /// It was paused when it was retired: it comes back paused, with this note.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<PausedState>,
}

/// The state that a paused schedule had when it was retired.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct PausedState {
    /// Its note.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

impl Declaration {
    /// The stored one; `None` where there is none, or it can't be read.
    pub fn parse(text: Option<&str>) -> Option<Self> {
        serde_json::from_str(text?).ok()
    }

    /// Of this specification and input, first seen at `now`.
    pub fn new(spec: &str, input: Option<&str>, now: Timestamp) -> Self {
        let input = input.map(str::to_owned);
        let mut declaration = Self { spec: spec.to_owned(), input, ..Self::default() };
        declaration.note_seen(now);
        declaration
    }

    /// Its fingerprint.
    pub fn fingerprint(&self) -> String {
        fingerprint(&self.spec, self.input.as_deref())
    }

    /// Whether it is what `new` declares.
    pub fn is_same(&self, new: &NewSchedule) -> bool {
        self.spec == *new.spec && self.input.as_deref() == new.input.as_deref()
    }

    /// When the declaration with this fingerprint was seen first.
    pub fn first_seen(&self, fingerprint: &str) -> Option<i64> {
        self.seen.iter().find(|(known, _)| known == fingerprint).map(|(_, at)| *at)
    }

    /// Records that the current declaration was seen. The oldest are forgotten.
    pub fn note_seen(&mut self, now: Timestamp) {
        const KEPT: usize = 32;
        let current = self.fingerprint();
        if self.first_seen(&current).is_none() {
            self.seen.push((current, now.as_micros()));
        }
        let excess = self.seen.len().saturating_sub(KEPT);
        self.seen.drain(..excess);
    }

    /// As it is stored.
    pub fn to_json(&self) -> Json {
        serde_json::to_string(self).unwrap_or_default().into()
    }
}

/// FNV-1a of a specification and an input: the same in every process and release.
pub fn fingerprint(spec: &str, input: Option<&str>) -> String {
    let feed = |hash: u64, text: &str| {
        text.bytes().fold(hash, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
    };
    let hash = feed(0xcbf2_9ce4_8422_2325, spec);
    let hash = input.map_or(hash, |input| feed(feed(hash, "+"), input));
    format!("{hash:016x}")
}

/// A schedule to create, or to bring up to date where `(project, workflow, key)` exists.
#[derive(Clone, PartialEq, Debug)]
pub struct NewSchedule {
    /// Used where the schedule is new.
    pub id: ScheduleId,
    /// Namespace.
    pub project: Arc<str>,
    /// Id of the workflow that it starts.
    pub workflow: Arc<str>,
    /// The user's key.
    pub key: Arc<str>,
    /// Application that declares it in code.
    pub owner: Option<Arc<str>>,
    /// JSON text of its [`ScheduleSpec`], canonical: equal specifications have equal text.
    pub spec: Json,
    /// [`ScheduleSpec::trigger_key`].
    pub compiled_spec: Json,
    /// Data given to every run.
    pub input: Option<Json>,
    /// [`super::WorkerEntry::version`] of the worker that declares it.
    pub version: Option<Arc<str>>,
    /// The first slot from now on; used where the schedule is new, its cadence changed, or it comes back.
    pub next_slot: Option<Timestamp>,
}

impl NewSchedule {
    /// Tells declarations apart: equal for equal ones.
    pub fn fingerprint(&self) -> String {
        fingerprint(&self.spec, self.input.as_deref())
    }
}
