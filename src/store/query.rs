//! Shapes of questions and answers.

use crate::calendar::Timestamp;
use crate::model::{Run, RunId, RunState, Schedule, ScheduleId, ScheduleStatus};
use std::sync::Arc;

/// With fewer runs than these, all runs of a schedule or with a key are read and sorted; with more, an index that has
/// them in order is walked until the page is full.
pub(super) const MANY_RUNS: usize = 250;

/// Unfinished runs that are counted of each kind, waiting behind others or not: a decision asks for none, one, or more,
/// and must not cost more where there are many.
pub(super) const COUNTED_MAX: u32 = 2;

/// A due schedule with what a decision needs.
#[derive(Clone, PartialEq, Debug)]
pub struct DueSchedule {
    /// The schedule.
    pub schedule: Schedule,
    /// Its unfinished runs, buffered ones included. Of each of the two kinds, no more than two are counted.
    pub unfinished_count: u32,
    /// Its buffered runs, two at most.
    pub buffered_count: u32,
}

/// A part of all schedules, by their ids: workers that are there at the same time look at different ones first.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Shard {
    /// Which part, from 0.
    pub part: u32,
    /// Of how many.
    pub of: u32,
}

impl Shard {
    /// All of them.
    pub const WHOLE: Self = Self { part: 0, of: 1 };

    /// Whether the schedule is in it. Its last two characters decide, in new ids the most random ones. Databases that can
    /// say so themselves must say the same.
    pub fn holds(self, id: &ScheduleId) -> bool {
        let mut last = id.as_str().chars().rev().map(u32::from);
        let (last, before) = (last.next().unwrap_or(0), last.next());
        (last + 31 * before.unwrap_or(last)) % self.of.max(1) == self.part
    }
}

/// When there is next something to do.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub struct NextWork {
    /// The earliest next slot of an active schedule.
    pub slot: Option<Timestamp>,
    /// The earliest `available_at` of a queued or waiting run that is no suspect.
    pub run: Option<Timestamp>,
    /// The same of the suspects ([`crate::model::Run::is_suspect`]).
    pub suspect: Option<Timestamp>,
    /// Whether any run of the project waits for a worker with other code ([`crate::model::Completion::Held`]).
    pub has_held: bool,
}

/// A run that waits for a child run and for nothing else: it has no time at which it resumes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WaitingParent {
    /// The run that waits.
    pub run: RunId,
    /// None of its children is unfinished: nothing will ever wake it.
    pub is_stuck: bool,
}

/// Which schedules.
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
    /// With a key that begins so. The answer is then ordered by key and workflow rather than by id.
    pub key_prefix: Option<Arc<str>>,
}

impl ScheduleFilter {
    /// The keys that begin so: from the first text to before the second, where there is such a text.
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

    /// For [`Page::after`] where there is a `key_prefix`: the place behind the schedule with this key and workflow.
    pub fn cursor(key: &str, workflow: &str) -> String {
        format!("{}:{key}{workflow}", key.len())
    }

    /// Key and workflow of a [`Self::cursor`].
    pub fn parse_cursor(cursor: &str) -> Option<(&str, &str)> {
        let (length, texts) = cursor.split_once(':')?;
        texts.split_at_checked(length.parse().ok()?)
    }
}

/// How many there are of what, each counted to a bound at most.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ProjectStats {
    /// Schedules by status, every status once. An active one without a next slot, which there should not be, isn't counted.
    pub schedules: Vec<(ScheduleStatus, usize)>,
    /// Runs that are not finished, by state, every such state once.
    pub runs: Vec<(RunState, usize)>,
    /// Active schedules whose next slot has been due since before the instant that was asked about.
    pub overdue: usize,
    /// The earliest of these slots.
    pub oldest_due: Option<Timestamp>,
}

/// Which runs.
#[derive(Clone, Debug, Default)]
pub struct RunFilter {
    /// Of this workflow.
    pub workflow: Option<Arc<str>>,
    /// With this key.
    pub key: Option<Arc<str>>,
    /// Of this schedule.
    pub schedule: Option<ScheduleId>,
    /// In one of these states; empty means any.
    pub states: Vec<RunState>,
    /// Created at or after.
    pub since: Option<Timestamp>,
    /// Failed with an error of this class, named with or without its module.
    pub error: Option<Arc<str>>,
}

impl RunFilter {
    /// The filter for all failed runs among those that it asks for; `None` if it asks for no failed run.
    pub(super) fn without_error(&self) -> Option<Self> {
        let has_failed = self.states.is_empty() || self.states.contains(&RunState::Failed);
        has_failed.then(|| Self { error: None, states: vec![RunState::Failed], ..self.clone() })
    }

    /// Whether it asks for errors of this class, recorded as `module:Name`.
    pub(super) fn wants_class(&self, class: &str) -> bool {
        self.error.as_deref().is_none_or(|name| {
            let dotted = class.replace(':', ".");
            dotted.strip_suffix(name).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        })
    }

    /// As [`Self::wants_class`], of a class as it is spelled within a JSON text.
    pub(super) fn wants_spelled_class(&self, spelled: &str) -> bool {
        let class: Option<String> = serde_json::from_str(&format!("\"{spelled}\"")).ok();
        class.is_some_and(|class| self.wants_class(&class))
    }

    /// Whether the run has failed with an error that it asks for.
    pub(super) fn wants_error_of(&self, run: &Run) -> bool {
        #[derive(serde::Deserialize)]
        struct Record {
            r#type: String,
        }
        let record = run.error.as_deref().filter(|_| run.state == RunState::Failed);
        let record: Option<Record> = record.and_then(|text| serde_json::from_str(text).ok());
        self.error.is_none() || record.is_some_and(|record| self.wants_class(&record.r#type))
    }

    /// Whether it asks only for states that few runs are in: nearly all have succeeded.
    pub(super) fn is_for_rare_states(&self) -> bool {
        !self.states.is_empty() && !self.states.contains(&RunState::Succeeded)
    }
}

/// Which part of a long answer.
#[derive(Clone, Debug)]
pub struct Page {
    /// Most rows.
    pub limit: usize,
    /// Go on behind this row: the id of the last one seen (for history its `from` in microseconds, as text; for
    /// schedules by the beginning of their keys, its [`ScheduleFilter::cursor`]).
    pub after: Option<String>,
}
