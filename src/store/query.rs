//! Parameters and results of queries.

use crate::calendar::Timestamp;
use crate::model::schedule::{Tags, parse_tags};
use crate::model::{Run, RunId, RunState, Schedule, ScheduleId, ScheduleStatus};
use std::sync::Arc;

/// With fewer runs than this, all runs of a schedule or key are read and sorted. With more, an
/// index that has them in order is walked until the page is full.
pub(super) const MANY_RUNS: usize = 250;

/// Limit up to which unfinished runs and buffered runs are counted. A decision distinguishes none,
/// one, and more, and must not cost more when there are many.
pub(super) const COUNTED_MAX: u32 = 2;

/// A due schedule, with the counts that a decision needs.
#[derive(Clone, PartialEq, Debug)]
pub struct DueSchedule {
    /// The schedule.
    pub schedule: Schedule,
    /// Number of its unfinished runs, buffered ones included. Buffered runs and the others are each
    /// counted up to two.
    pub unfinished_count: u32,
    /// Number of its buffered runs, counted up to two.
    pub buffered_count: u32,
}

/// A part of all schedules, chosen by id. Live workers each read a different shard first.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Shard {
    /// Number of this part, from 0.
    pub part: u32,
    /// Number of parts.
    pub of: u32,
}

impl Shard {
    /// All schedules.
    pub const WHOLE: Self = Self { part: 0, of: 1 };

    /// Whether the schedule belongs to the shard. The last two characters of the id decide; in new
    /// ids these are the most random ones. A database that computes this itself must agree.
    pub fn holds(self, id: &ScheduleId) -> bool {
        let mut last = id.as_str().chars().rev().map(u32::from);
        let (last, before) = (last.next().unwrap_or(0), last.next());
        (last + 31 * before.unwrap_or(last)) % self.of.max(1) == self.part
    }
}

/// When a worker next has something to do.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub struct NextWork {
    /// The earliest next slot of an active schedule.
    pub slot: Option<Timestamp>,
    /// The earliest `available_at` of a queued or waiting run that is not a suspect.
    pub run: Option<Timestamp>,
    /// The same for suspects ([`crate::model::Run::is_suspect`]).
    pub suspect: Option<Timestamp>,
    /// Whether any run of the project waits for a worker with other code
    /// ([`crate::model::Completion::Held`]).
    pub has_held: bool,
}

/// A run that waits for a child run and for nothing else, so it has no time at which it resumes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WaitingParent {
    /// The run that waits.
    pub run: RunId,
    /// Whether it has no unfinished child, so that nothing will ever wake it.
    pub is_stuck: bool,
}

/// A run and its idempotency key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeyedRun {
    /// Its idempotency key.
    pub key: Arc<str>,
    /// The run.
    pub run: RunId,
    /// Its state.
    pub state: RunState,
}

/// Selects schedules. A field that is `None` does not restrict.
#[derive(Clone, Debug, Default)]
pub struct ScheduleFilter {
    /// Of this workflow.
    pub workflow: Option<Arc<str>>,
    /// With this key.
    pub key: Option<Arc<str>>,
    /// In this status.
    pub status: Option<ScheduleStatus>,
    /// Declared by this application.
    pub owner: Option<Arc<str>>,
    /// With a key that starts with this. The result is then ordered by key and workflow instead of
    /// id.
    pub key_prefix: Option<Arc<str>>,
    /// With all of these tags. Empty means any.
    pub tags: Tags,
}

impl ScheduleFilter {
    /// Whether the schedule has all tags that are wanted.
    pub fn wants_tags_of(&self, schedule: &Schedule) -> bool {
        if self.tags.is_empty() {
            return true;
        }
        let known = parse_tags(schedule.tags.as_deref());
        self.tags.iter().all(|(name, value)| known.get(name) == Some(value))
    }

    /// The range of keys that start with `prefix`: the inclusive lower bound, and the exclusive
    /// upper bound if there is one.
    pub fn key_range(prefix: &str) -> (&str, Option<String>) {
        let mut behind: Vec<char> = prefix.chars().collect();
        while let Some(last) = behind.pop() {
            let next = (u32::from(last) + 1..=u32::from(char::MAX)).find_map(char::from_u32);
            if let Some(next) = next {
                behind.push(next);
                return (prefix, Some(behind.into_iter().collect()));
            }
        }
        (prefix, None)
    }

    /// [`Page::after`] for a query with a `key_prefix`: continues after the schedule with this key
    /// and workflow.
    pub fn cursor(key: &str, workflow: &str) -> String {
        format!("{}:{key}{workflow}", key.len())
    }

    /// Key and workflow of a [`Self::cursor`].
    pub fn parse_cursor(cursor: &str) -> Option<(&str, &str)> {
        let (length, texts) = cursor.split_once(':')?;
        texts.split_at_checked(length.parse().ok()?)
    }
}

/// Numbers of schedules and runs in a project, each counted up to a limit.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ProjectStats {
    /// Number of schedules in each status; lists every status once. An active schedule without a
    /// next slot, which should not exist, is not counted.
    pub schedules: Vec<(ScheduleStatus, usize)>,
    /// Number of unfinished runs in each state; lists every unfinished state once.
    pub runs: Vec<(RunState, usize)>,
    /// Active schedules whose next slot is before the `due_before` of the query.
    pub overdue: usize,
    /// The earliest next slot among the overdue schedules.
    pub oldest_due: Option<Timestamp>,
}

/// Selects runs. A field that is `None` does not restrict.
#[derive(Clone, Debug, Default)]
pub struct RunFilter {
    /// Of this workflow.
    pub workflow: Option<Arc<str>>,
    /// With this key.
    pub key: Option<Arc<str>>,
    /// Of this schedule.
    pub schedule: Option<ScheduleId>,
    /// In one of these states. Empty means any state.
    pub states: Vec<RunState>,
    /// Created at or after this instant.
    pub since: Option<Timestamp>,
    /// Failed with an error of this class, named with or without its module.
    pub error: Option<Arc<str>>,
}

impl RunFilter {
    /// The same filter for failed runs with any error. `None` if the filter excludes failed runs.
    pub(super) fn without_error(&self) -> Option<Self> {
        let has_failed = self.states.is_empty() || self.states.contains(&RunState::Failed);
        has_failed.then(|| Self { error: None, states: vec![RunState::Failed], ..self.clone() })
    }

    /// Whether the filter accepts errors of this class, which is recorded as `module:Name`.
    pub(super) fn wants_class(&self, class: &str) -> bool {
        self.error.as_deref().is_none_or(|name| {
            let dotted = class.replace(':', ".");
            dotted.strip_suffix(name).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        })
    }

    /// Like [`Self::wants_class`], for a class as it is escaped inside a JSON text.
    pub(super) fn wants_spelled_class(&self, spelled: &str) -> bool {
        let class: Option<String> = serde_json::from_str(&format!("\"{spelled}\"")).ok();
        class.is_some_and(|class| self.wants_class(&class))
    }

    /// Whether the run failed with an error that the filter accepts. True if it filters by no
    /// error.
    pub(super) fn wants_error_of(&self, run: &Run) -> bool {
        #[derive(serde::Deserialize)]
        struct Record {
            r#type: String,
        }
        let record = run.error.as_deref().filter(|_| run.state == RunState::Failed);
        let record: Option<Record> = record.and_then(|text| serde_json::from_str(text).ok());
        self.error.is_none() || record.is_some_and(|record| self.wants_class(&record.r#type))
    }

    /// Whether the filter accepts only states that few runs have. Nearly all runs have succeeded.
    pub(super) fn is_for_rare_states(&self) -> bool {
        !self.states.is_empty() && !self.states.contains(&RunState::Succeeded)
    }
}

/// Selects one page of a long result.
#[derive(Clone, Debug)]
pub struct Page {
    /// Maximum number of rows.
    pub limit: usize,
    /// Continues after this row: the id of the last one seen. For history it is the entry's `from`
    /// in microseconds, as text; for schedules by key prefix, the [`ScheduleFilter::cursor`].
    pub after: Option<String>,
}
