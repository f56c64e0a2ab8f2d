//! A schedule: what the user declared, and its current state.

use super::spec::{CompiledSpec, SpecError};
use super::{
    CatchUp, CronTexts, Days, Json, LedgerLine, OnSkip, Overlap, ScheduleId, SlotOutcome, StoredSpec,
};
use crate::calendar::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What the user declared. Stored as JSON text; schedules with equal text share one compiled copy
/// in memory.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScheduleSpec {
    /// Cron expressions. Exactly one of this, `every_us`, and `at_us` is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cron: Option<CronTexts>,
    /// Period in microseconds, from 1,000,000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every_us: Option<i64>,
    /// The one instant of a schedule that fires once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_us: Option<Timestamp>,
    /// IANA name.
    #[serde(default = "utc")]
    pub timezone: Arc<str>,
    /// Applies within this schedule only.
    #[serde(default)]
    pub overlap: Overlap,
    /// Applies to slots that no worker could run on time.
    #[serde(default)]
    pub catch_up: CatchUp,
    /// Limit of runs per catch-up, for [`CatchUp::All`].
    #[serde(default = "hundred")]
    pub max_catch_up: u32,
    /// Slots older than this are missed, whatever the policy.
    #[serde(default = "one_day_us")]
    pub catch_up_window_us: i64,
    /// Longest delay added to a start. The delay of a slot is deterministic.
    #[serde(default)]
    pub jitter_us: i64,
    /// No slot is before this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_at_us: Option<Timestamp>,
    /// No slot is at or after this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_at_us: Option<Timestamp>,
    /// The schedule is finished after this many runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_runs: Option<u64>,
    /// Local dates (`2026-12-25`) whose slots are skipped, sorted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub skip_dates: Vec<String>,
    /// Cron expressions that name whole local days whose slots are skipped, such as `* * 1 * *`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub skip_cron: Vec<String>,
    /// Stored calendars whose dates are skipped, by name, sorted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub calendars: Vec<String>,
    /// What happens to slots on excluded dates; without it, they are skipped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_skip: Option<OnSkip>,
    /// Whether the application has a calendar that must be asked when a slot comes due.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub skip_calendar: bool,
    /// Consecutive failed runs after which the schedule pauses itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pause_after_failures: Option<u32>,
    /// Priority of its runs, from 0 to 9; that of the workflow if none is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<u8>,
    /// How the day fields of `cron` combine.
    #[serde(default, skip_serializing_if = "Days::is_or")]
    pub days: Days,
    /// Only every so many weeks have slots of `cron`, counted from the week of `start_at_us`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weeks: Option<u32>,
}

fn utc() -> Arc<str> {
    "UTC".into()
}
fn hundred() -> u32 {
    100
}
fn one_day_us() -> i64 {
    86_400_000_000
}

/// The trigger of a specification, one of three.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Trigger<'a> {
    /// Cron expressions, not yet parsed.
    Cron(&'a CronTexts),
    /// A period in microseconds.
    Every(i64),
    /// One instant.
    At(Timestamp),
}

impl ScheduleSpec {
    /// The trigger; `None` unless exactly one is given.
    pub fn trigger(&self) -> Option<Trigger<'_>> {
        match (&self.cron, self.every_us, self.at_us) {
            (Some(cron), None, None) => Some(Trigger::Cron(cron)),
            (None, Some(every), None) => Some(Trigger::Every(every)),
            (None, None, Some(at)) => Some(Trigger::At(at)),
            _ => None,
        }
    }

    /// Text of the fields that determine the slots. Specifications with equal text have the same
    /// slots, so an update that does not change it keeps the next slot.
    pub fn trigger_key(&self) -> String {
        let at = |t: Option<Timestamp>| t.map_or(String::new(), |t| t.as_micros().to_string());
        let mut key = format!(
            "{}|{}|{}|{}|{}|{}",
            self.cron.as_ref().map_or_else(String::new, CronTexts::key),
            self.every_us.map_or(String::new(), |us| us.to_string()),
            at(self.at_us),
            self.timezone,
            at(self.start_at_us),
            at(self.end_at_us)
        );
        // Added only where they are given: most keys are as older releases wrote them.
        let days = (!self.days.is_or()).then(|| "|days=and".to_owned());
        let weeks = self.weeks.map(|weeks| format!("|weeks={weeks}"));
        key.extend(days.into_iter().chain(weeks));
        key
    }
}

/// The state of a schedule.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScheduleStatus {
    /// Fires.
    Active,
    /// Paused by a user, or by its own failures. Slots are decided after the resumption, by the
    /// catch-up policy.
    Paused,
    /// The application that declared it no longer declares it.
    Retired,
    /// No slot is left.
    Finished,
    /// Its stored row can't be parsed; `note` says why.
    Broken,
}

impl ScheduleStatus {
    /// Every status.
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
    /// The application that declared it in code; `None` for a schedule made through the API.
    pub owner: Option<Arc<str>>,
    /// Its [`ScheduleSpec`].
    pub spec: StoredSpec,
    /// Data given to every run.
    pub input: Option<Json>,
    /// The user's tags, as JSON text; see [`Tags`].
    pub tags: Option<Json>,
    /// Whether it fires.
    pub status: ScheduleStatus,
    /// The reason for the status, for people.
    pub note: Option<Arc<str>>,
    /// The next slot; `None` if none is left.
    pub next_slot: Option<Timestamp>,
    /// Slot of the newest run.
    pub last_slot: Option<Timestamp>,
    /// Number of runs that its slots have created.
    pub run_count: u64,
    /// Consecutive failed runs.
    pub failure_count: u32,
    /// Since when its slots are wanted: creation, change of trigger, or resumption. Earlier slots
    /// are late on purpose.
    pub attended_from: Timestamp,
    /// Time of creation.
    pub created_at: Timestamp,
    /// Last edit by a user or a program (not by a fire).
    pub updated_at: Timestamp,
    /// Bumped by every fire and every edit; a decision commits only at the revision it was made
    /// from.
    pub revision: i64,
    /// JSON text of its [`Declaration`]; `None` if no code has declared it since releases record
    /// this.
    pub declaration: Option<Json>,
    /// Slots that have an outcome although `next_slot` may come before them: skipped on request, or
    /// backfilled while due; and slots that were moved. JSON array of microseconds; see
    /// [`Schedule::settled_slots`] and [`Schedule::moved_slots`].
    pub settled: Option<Json>,
    /// Outcomes of its slots. The store counts them when it writes the outcomes.
    pub counts: StoredCounts,
}

/// The outcomes of a schedule's slots since its creation, as far as [`Schedule::run_count`] doesn't
/// have them. They equal the history, including what was pruned from it.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub struct StoredCounts {
    /// Slots that ran beyond `run_count`, such as those of backfills. Negative if a history was
    /// pruned before slots were counted.
    pub ran_beyond: i64,
    /// Slots that were skipped.
    pub skipped: u64,
    /// Slots that were missed.
    pub missed: u64,
}

impl StoredCounts {
    /// Counts the slots of a new line of the ledger.
    pub fn add(&mut self, line: &LedgerLine) {
        match line.outcome {
            // Those have no line.
            SlotOutcome::Ran => {}
            SlotOutcome::Skipped => self.skipped += line.count,
            SlotOutcome::Missed => self.missed += line.count,
        }
    }
}

impl Schedule {
    /// What only one schedule has. Commits insert schedules in this order.
    pub fn unique_key(&self) -> (&str, &str, &str) {
        (&self.project, &self.key, &self.workflow)
    }

    /// Number of its slots that ran.
    pub fn ran_count(&self) -> u64 {
        self.run_count.saturating_add_signed(self.counts.ran_beyond)
    }

    /// What its specification compiles to, without slots that already have an outcome.
    pub fn compiled_spec(&self) -> Result<Arc<CompiledSpec>, &SpecError> {
        let compiled_spec = Arc::clone(self.spec.compiled()?);
        if self.settled.is_none() && !compiled_spec.moves_slots() {
            return Ok(compiled_spec);
        }
        Ok(Arc::new(self.bound(&compiled_spec)))
    }

    /// A specification with what is known about this schedule's slots.
    pub fn bound(&self, compiled_spec: &CompiledSpec) -> CompiledSpec {
        let from = self.next_slot.unwrap_or(Timestamp::MAX);
        compiled_spec.clone().without(self.settled_slots()).with_moved(self.moved_slots(), from)
    }

    /// The slots that must not get a second outcome, in order.
    pub fn settled_slots(&self) -> Vec<Timestamp> {
        let micros = stored_micros(self.settled.as_deref()).into_iter();
        micros.filter(|micros| *micros < MOVED_US / 2).map(Timestamp::from_micros).collect()
    }

    /// Slots that were moved from excluded dates when these were decided, in order.
    pub fn moved_slots(&self) -> Vec<Timestamp> {
        let micros = stored_micros(self.settled.as_deref()).into_iter();
        let moved = micros.filter(|micros| *micros >= MOVED_US / 2);
        moved.map(|micros| Timestamp::from_micros(micros - MOVED_US)).collect()
    }

    /// [`Self::settled`] with these moved slots in place of the known ones.
    pub fn settled_with_moved(&self, moved: &[Timestamp]) -> Option<Json> {
        settled_json(&self.settled_slots(), moved)
    }

    /// [`Self::settled`] with these slots added. Slots that the schedule can't return to are
    /// dropped.
    pub fn settled_with(&self, added: &[Timestamp], now: Timestamp) -> Option<Json> {
        let oldest = self.next_slot.map_or(now, |next| next.min(now));
        let mut slots = self.settled_slots();
        slots.retain(|slot| *slot >= oldest);
        slots.extend_from_slice(added);
        slots.sort_unstable();
        slots.dedup();
        settled_json(&slots, &self.moved_slots())
    }

    /// [`Self::settled`] without these slots.
    pub fn settled_without(&self, removed: &[Timestamp]) -> Option<Json> {
        let mut slots = self.settled_slots();
        slots.retain(|slot| !removed.contains(slot));
        settled_json(&slots, &self.moved_slots())
    }
}

/// What is added to the microseconds of a moved slot where it is stored among the settled ones. All
/// instants are far below it. So the text is an array of numbers for every release, and for the
/// triggers that look for a slot in it.
const MOVED_US: i64 = 1 << 62;

/// The numbers of [`Schedule::settled`], in order.
fn stored_micros(text: Option<&str>) -> Vec<i64> {
    let mut micros: Vec<i64> = text.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
    micros.sort_unstable();
    micros
}

fn settled_json(settled: &[Timestamp], moved: &[Timestamp]) -> Option<Json> {
    let settled = settled.iter().map(|slot| slot.as_micros());
    let micros: Vec<i64> = settled.chain(moved.iter().map(|slot| slot.as_micros() + MOVED_US)).collect();
    (!micros.is_empty()).then(|| serde_json::to_string(&micros).unwrap_or_default().into())
}

/// Names and values by which users find schedules. Stored as a JSON object whose names are in
/// order, so equal tags have equal texts; none are stored as no text.
pub type Tags = BTreeMap<Arc<str>, Arc<str>>;

/// Tags as they are stored.
pub fn stored_tags(tags: &Tags) -> Option<Json> {
    (!tags.is_empty()).then(|| serde_json::to_string(tags).unwrap_or_default().into())
}

/// Tags from their stored text. None from a text that only foreign software can have written.
pub fn parse_tags(text: Option<&str>) -> Tags {
    text.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
}

/// What is known about the code's declaration of a schedule.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Declaration {
    /// Specification that the code declares.
    pub spec: String,
    /// Input that the code declares.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<String>,
    /// Tags that the code declares.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tags: Option<String>,
    /// [`super::WorkerEntry::version`] of the worker that declared it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// When each declaration was first seen, by fingerprint, in microseconds.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub seen: Vec<(String, i64)>,
    /// Whether the schedule was changed through the API, so that it differs from the code's
    /// declaration.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_overridden: bool,
    /// Set if the schedule was paused when it was retired: it comes back paused, with this note.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<PausedState>,
}

/// The state of a paused schedule when it was retired.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct PausedState {
    /// The note it was paused with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

impl Declaration {
    /// Parses the stored text; `None` if there is none or it can't be parsed.
    pub fn parse(text: Option<&str>) -> Option<Self> {
        serde_json::from_str(text?).ok()
    }

    /// A declaration of this specification, input, and tags, first seen at `now`.
    pub fn new(spec: &str, input: Option<&str>, tags: Option<&str>, now: Timestamp) -> Self {
        let (input, tags) = (input.map(str::to_owned), tags.map(str::to_owned));
        let mut declaration = Self { spec: spec.to_owned(), input, tags, ..Self::default() };
        declaration.note_seen(now);
        declaration
    }

    /// Fingerprint of the declaration.
    pub fn fingerprint(&self) -> String {
        fingerprint(&self.spec, self.input.as_deref(), self.tags.as_deref())
    }

    /// Whether `new` declares the same.
    pub fn is_same(&self, new: &NewSchedule) -> bool {
        self.is_declaring(new.spec.text(), new.input.as_ref(), new.tags.as_ref())
    }

    /// Whether it declares this specification, input, and tags.
    pub fn is_declaring(&self, spec: &Json, input: Option<&Json>, tags: Option<&Json>) -> bool {
        self.spec == **spec
            && self.input.as_deref() == input.map(|input| &**input)
            && self.tags.as_deref() == tags.map(|tags| &**tags)
    }

    /// When the declaration with this fingerprint was first seen.
    pub fn first_seen(&self, fingerprint: &str) -> Option<i64> {
        self.seen.iter().find(|(known, _)| known == fingerprint).map(|(_, at)| *at)
    }

    /// Records that the current declaration was seen. The oldest records are dropped.
    pub fn note_seen(&mut self, now: Timestamp) {
        const KEPT: usize = 32;
        let current = self.fingerprint();
        if self.first_seen(&current).is_none() {
            self.seen.push((current, now.as_micros()));
        }
        let excess = self.seen.len().saturating_sub(KEPT);
        self.seen.drain(..excess);
    }

    /// As stored.
    pub fn to_json(&self) -> Json {
        serde_json::to_string(self).unwrap_or_default().into()
    }
}

/// FNV-1a of a specification, an input, and tags: the same in every process and release.
pub fn fingerprint(spec: &str, input: Option<&str>, tags: Option<&str>) -> String {
    let feed = |hash: u64, text: &str| {
        text.bytes().fold(hash, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
    };
    let hash = feed(0xcbf2_9ce4_8422_2325, spec);
    let hash = input.map_or(hash, |input| feed(feed(hash, "+"), input));
    // A text that no input has, so that tags are not taken for one.
    let hash = tags.map_or(hash, |tags| feed(feed(hash, "\0tags"), tags));
    format!("{hash:016x}")
}

/// A schedule to create, or to update if `(project, workflow, key)` exists.
#[derive(Clone, PartialEq, Debug)]
pub struct NewSchedule {
    /// Used if the schedule is new.
    pub id: ScheduleId,
    /// Namespace.
    pub project: Arc<str>,
    /// Id of the workflow that it starts.
    pub workflow: Arc<str>,
    /// The user's key.
    pub key: Arc<str>,
    /// The application that declares it in code.
    pub owner: Option<Arc<str>>,
    /// Its [`ScheduleSpec`], as canonical text: equal specifications have equal texts.
    pub spec: StoredSpec,
    /// [`ScheduleSpec::trigger_key`].
    pub compiled_spec: Json,
    /// Data given to every run.
    pub input: Option<Json>,
    /// The user's tags, as JSON text; see [`Tags`].
    pub tags: Option<Json>,
    /// [`super::WorkerEntry::version`] of the worker that declares it.
    pub version: Option<Arc<str>>,
    /// The first slot from now on. Used if the schedule is new, its trigger changed, or it comes
    /// back.
    pub next_slot: Option<Timestamp>,
}

impl NewSchedule {
    /// [`Schedule::unique_key`].
    pub fn unique_key(&self) -> (&str, &str, &str) {
        (&self.project, &self.key, &self.workflow)
    }

    /// Fingerprint of the declaration: equal for equal declarations.
    pub fn fingerprint(&self) -> String {
        fingerprint(self.spec.text(), self.input.as_deref(), self.tags.as_deref())
    }
}
