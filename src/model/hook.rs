//! Hook calls: events of slots and runs that a hook of the application must be called for,
//! recorded in the database until a worker has called the hook.

use super::{Json, LedgerLine, Run, RunId, RunState, ScheduleId, SlotOutcome, Token, WorkerId};
use crate::calendar::Timestamp;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Which hook calls live workers want recorded for one workflow.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct WantedCalls {
    /// Slots that were skipped.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub skipped: bool,
    /// Slots that were missed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub missed: bool,
    /// Runs of slots that have not started so long after their time, in microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub late_after_us: Option<i64>,
}

impl WantedCalls {
    /// Nothing is wanted.
    pub const NONE: Self = Self { skipped: false, missed: false, late_after_us: None };

    /// Parses the stored text. Nothing is wanted if there is none, or if it can't be parsed.
    pub fn parse(text: Option<&str>) -> Self {
        text.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
    }

    /// As stored; `None` if nothing is wanted.
    pub fn to_json(self) -> Option<Json> {
        (self != Self::NONE).then(|| serde_json::to_string(&self).unwrap_or_default().into())
    }

    /// The call to record for a ledger line, if it is one that is wanted.
    pub fn event_of(self, line: &LedgerLine) -> Option<HookEvent> {
        HookEvent::of_line(line).filter(|event| match event {
            HookEvent::Skipped => self.skipped,
            HookEvent::Missed => self.missed,
            HookEvent::Late | HookEvent::Succeeded | HookEvent::Failed => false,
        })
    }

    /// What at least one of the two wants. A run is late as soon as it is for one of them.
    #[must_use]
    pub fn union(self, other: Self) -> Self {
        Self {
            skipped: self.skipped || other.skipped,
            missed: self.missed || other.missed,
            late_after_us: self.late_after_us.into_iter().chain(other.late_after_us).min(),
        }
    }
}

/// Identifies the [`WantedCalls`] of a workflow among the declarations of a live worker.
pub fn hooks_label(workflow: &str) -> Arc<str> {
    format!("hooks {workflow}").into()
}

/// The event that a hook is called for.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum HookEvent {
    /// A slot, or an interval of slots, was skipped.
    Skipped,
    /// A slot, or an interval of slots, was missed.
    Missed,
    /// The run of a slot has not started in time.
    Late,
    /// A run has succeeded.
    Succeeded,
    /// A run has failed, and is not retried.
    Failed,
}

impl HookEvent {
    /// What a ledger line is told as. A line without slots records something else.
    pub fn of_line(line: &LedgerLine) -> Option<Self> {
        match line.outcome {
            SlotOutcome::Skipped if line.count > 0 => Some(Self::Skipped),
            SlotOutcome::Missed if line.count > 0 => Some(Self::Missed),
            SlotOutcome::Skipped | SlotOutcome::Missed | SlotOutcome::Ran => None,
        }
    }
}

/// The hook calls of one event about one workflow.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct CallKind {
    /// What the hook is told.
    pub event: HookEvent,
    /// The workflow whose hook is called.
    pub workflow: Arc<str>,
}

/// Hook calls about one workflow that are due and that no live worker makes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WaitingCalls {
    /// The workflow.
    pub workflow: Arc<str>,
    /// How many.
    pub count: u64,
    /// When the first of them became due.
    pub since: Timestamp,
}

/// A hook call, from the commit that gave the reason for it until a worker has called the hook.
#[derive(Clone, PartialEq, Debug)]
pub struct HookCall {
    /// Unique, and the same whenever the same is recorded again.
    pub id: Arc<str>,
    /// Namespace.
    pub project: Arc<str>,
    /// The workflow whose hook is called.
    pub workflow: Arc<str>,
    /// `None` for an event that only a newer release knows.
    pub event: Option<HookEvent>,
    /// The schedule of the slots, or of the run; empty for a run without one.
    pub schedule: ScheduleId,
    /// Its key.
    pub key: Arc<str>,
    /// The first slot. For the outcome of a run, when it finished.
    pub from: Timestamp,
    /// The last slot.
    pub until: Timestamp,
    /// Number of slots. For the outcome of a run, the number of its attempt.
    pub count: u64,
    /// Why they were skipped or missed. For a failed run, its error.
    pub reason: Arc<str>,
    /// When the call became due; for a late run, the time by which it had to start.
    pub due_at: Timestamp,
    /// When to look at it.
    pub check_at: Timestamp,
    /// The claim that the run was seen under when the call was due.
    pub seen_token: Option<Token>,
    /// Whether the run is known to be late, whatever its claims say.
    pub is_late: bool,
    /// The worker that calls the hook.
    pub worker: Option<WorkerId>,
}

/// Begins the id of a call about a late run; the run's id follows.
const LATE: &str = "late:";
/// Begins the id of a call about a run that succeeded; the run's id follows.
const SUCCEEDED: &str = "succeeded:";
/// Begins the id of a call about a run that failed; the number of the attempt and the run's id
/// follow.
const FAILED: &str = "failed:";

impl HookCall {
    /// The id of the call about a late run.
    pub fn late_id(run: &RunId) -> Arc<str> {
        format!("{LATE}{run}").into()
    }

    /// The run that the call with this id is about.
    pub fn run_of(id: &str) -> Option<&str> {
        let of_failed = || id.strip_prefix(FAILED)?.split_once(':').map(|(_, run)| run);
        id.strip_prefix(LATE).or_else(|| id.strip_prefix(SUCCEEDED)).or_else(of_failed)
    }

    /// The id of the call about the outcome of a run. `None` for one that was cancelled or is not
    /// finished.
    pub fn outcome_id(run: &RunId, attempt: u32, state: RunState) -> Option<Arc<str>> {
        match state {
            RunState::Succeeded => Some(format!("{SUCCEEDED}{run}").into()),
            RunState::Failed => Some(format!("{FAILED}{attempt}:{run}").into()),
            RunState::Buffered
            | RunState::Queued
            | RunState::Running
            | RunState::Waiting
            | RunState::Cancelled => None,
        }
    }

    /// The call about the outcome of a run that has just finished, made by the worker that executed
    /// it. `None` for a run that was cancelled or is not finished.
    pub fn outcome(run: &Run, now: Timestamp) -> Option<Self> {
        let event = match run.state {
            RunState::Succeeded => HookEvent::Succeeded,
            _ => HookEvent::Failed,
        };
        // A retry replaces the error of the run.
        let error = run.error.as_ref().filter(|_| event == HookEvent::Failed);
        Some(Self {
            id: Self::outcome_id(&run.id, run.attempt, run.state)?,
            project: Arc::clone(&run.project),
            workflow: Arc::clone(&run.workflow),
            event: Some(event),
            schedule: run.schedule_id.clone().unwrap_or_else(|| ScheduleId::from("")),
            key: Arc::clone(&run.key),
            from: now,
            until: now,
            count: u64::from(run.attempt),
            reason: error.map_or_else(Arc::default, Arc::clone),
            due_at: now,
            check_at: now,
            seen_token: None,
            is_late: false,
            worker: run.worker.clone(),
        })
    }

    /// The id of the call about slots that were skipped, the first of them at `from`.
    pub fn skipped_id(schedule: &ScheduleId, from: Timestamp) -> Arc<str> {
        format!("skipped:{schedule}:{}", from.as_micros()).into()
    }

    /// The id of the call about slots that were missed, the first of them at `from`.
    pub fn missed_id(schedule: &ScheduleId, from: Timestamp) -> Arc<str> {
        format!("missed:{schedule}:{}", from.as_micros()).into()
    }

    /// The call about slots that were skipped or missed.
    pub fn of_slots(
        event: HookEvent,
        (project, workflow, key): (&Arc<str>, &Arc<str>, &Arc<str>),
        schedule: &ScheduleId,
        line: &LedgerLine,
        now: Timestamp,
    ) -> Self {
        Self {
            id: match event {
                HookEvent::Missed => Self::missed_id(schedule, line.from),
                _ => Self::skipped_id(schedule, line.from),
            },
            project: Arc::clone(project),
            workflow: Arc::clone(workflow),
            event: Some(event),
            schedule: schedule.clone(),
            key: Arc::clone(key),
            from: line.from,
            until: line.until,
            count: line.count,
            reason: Arc::clone(&line.reason),
            due_at: now,
            check_at: now,
            seen_token: None,
            is_late: false,
            worker: None,
        }
    }

    /// The call about the run of a slot, due if it has not started by then.
    pub fn late(run: &Run, schedule: &ScheduleId, slot: Timestamp, late_after_us: i64) -> Self {
        let due_at = Timestamp::from_micros(run.available_at.as_micros().saturating_add(late_after_us));
        Self {
            id: Self::late_id(&run.id),
            project: Arc::clone(&run.project),
            workflow: Arc::clone(&run.workflow),
            event: Some(HookEvent::Late),
            schedule: schedule.clone(),
            key: Arc::clone(&run.key),
            from: slot,
            until: slot,
            count: 1,
            reason: Arc::default(),
            due_at,
            check_at: due_at,
            seen_token: None,
            is_late: false,
            worker: None,
        }
    }
}
