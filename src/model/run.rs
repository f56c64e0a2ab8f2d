//! A run: one execution of a workflow.

use super::{Json, RunId, ScheduleId, StepRecord, Token, WorkerId};
use crate::calendar::Timestamp;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Where a run stands. `plan::transition` has the moves.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunState {
    /// Behind an unfinished run of its schedule. Shown to users as queued.
    Buffered,
    /// Free for any worker from `available_at` on.
    Queued,
    /// Claimed by a worker.
    Running,
    /// Asleep, or behind a child run; holds no task. Claimable from `available_at` on.
    Waiting,
    /// Ended with a result.
    Succeeded,
    /// Ended with an error, no retry left.
    Failed,
    /// Ended on request.
    Cancelled,
}

impl RunState {
    /// Those in which something can still happen.
    pub const UNFINISHED: [Self; 4] = [Self::Buffered, Self::Queued, Self::Running, Self::Waiting];

    /// Whether nothing can happen any more (short of a retry by hand).
    pub fn is_finished(self) -> bool {
        match self {
            Self::Succeeded | Self::Failed | Self::Cancelled => true,
            Self::Buffered | Self::Queued | Self::Running | Self::Waiting => false,
        }
    }

    /// As users know it.
    #[must_use]
    pub fn shown(self) -> Self {
        if self == Self::Buffered { Self::Queued } else { self }
    }
}

impl std::fmt::Display for RunState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self.shown() {
            Self::Buffered | Self::Queued => "queued",
            Self::Running => "running",
            Self::Waiting => "waiting",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        })
    }
}

/// Who asked for a run.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// A slot came due.
    Schedule,
    /// `schedules.trigger`.
    Trigger,
    /// `schedules.backfill`.
    Backfill,
    /// `workflow.invoke` or `.run`.
    Invoke,
    /// `ctx.step.invoke` of another run.
    Child,
}

/// A run as stored.
#[derive(Clone, PartialEq, Debug)]
pub struct Run {
    /// Never changes.
    pub id: RunId,
    /// Namespace.
    pub project: Arc<str>,
    /// Id of its workflow.
    pub workflow: Arc<str>,
    /// Key of its schedule; `"global"` without one.
    pub key: Arc<str>,
    /// Its schedule, which may be deleted by now.
    pub schedule_id: Option<ScheduleId>,
    /// The slot, or the moment of a trigger by hand; `None` for an invoked run.
    pub slot: Option<Timestamp>,
    /// Slot of the schedule's previous run.
    pub last_slot: Option<Timestamp>,
    /// The slot that comes next, as decided when this one fired.
    pub upcoming: Option<Timestamp>,
    /// Zone of its schedule when the slot fired.
    pub timezone: Arc<str>,
    /// Who asked for it.
    pub origin: Origin,
    /// Payload of an invoked run.
    pub payload: Option<Json>,
    /// Data of its schedule when the slot fired.
    pub input: Option<Json>,
    /// Where it stands.
    pub state: RunState,
    /// 1 for the first start after creation, one more after each failure that is retried.
    pub attempt: u32,
    /// Of the newest claim.
    pub token: Token,
    /// Holder of the newest claim.
    pub worker: Option<WorkerId>,
    /// From when a queued or waiting run may be claimed.
    pub available_at: Timestamp,
    /// When it was created.
    pub created_at: Timestamp,
    /// First claim; of one that was claimed ahead of its time, the time itself.
    pub started_at: Option<Timestamp>,
    /// End.
    pub finished_at: Option<Timestamp>,
    /// Somebody asked the running run to stop.
    pub cancel_requested: bool,
    /// What the handler returned.
    pub result: Option<Json>,
    /// What it raised: the record that the application's side made.
    pub error: Option<Json>,
    /// The run whose step invoked it.
    pub parent: Option<RunId>,
    /// Given by the caller of `invoke`; unique with `project` and `workflow`.
    pub idempotency_key: Option<Arc<str>>,
    /// How many executions in a row lost their worker without recording a step. Zero again after a recorded step, a
    /// new attempt, or a retry by hand.
    pub interruptions: u32,
    /// Whether the newest interrupted execution was the only run of its process, so that no other run can have ended it.
    pub interrupted_alone: bool,
    /// Why it waits, for people.
    pub note: Option<Arc<str>>,
    /// Fingerprints of the code that can't continue it, separated by blanks; see [`Completion::Held`].
    pub refused_by: Option<Arc<str>>,
}

/// From so many interruptions on, a run is a suspect: workers execute it apart from other runs where they can, so that
/// it interrupts no others and is not blamed for what they do.
pub const SUSPECT_FROM: u32 = 2;

impl Run {
    /// Whether workers with this code may continue it.
    pub fn is_refused_by(&self, code: &str) -> bool {
        self.refused_by.as_deref().is_some_and(|codes| codes.split(' ').any(|refused| refused == code))
    }

    /// See [`SUSPECT_FROM`].
    pub fn is_suspect(&self) -> bool {
        self.interruptions >= SUSPECT_FROM
    }
}

/// A run to create that no slot asked for.
#[derive(Clone, PartialEq, Debug)]
pub struct NewRun {
    /// Id of the new run; where it exists already, nothing is created (the command was repeated).
    pub id: RunId,
    /// Namespace.
    pub project: Arc<str>,
    /// Id of its workflow.
    pub workflow: Arc<str>,
    /// Key of its schedule, or `"global"`.
    pub key: Arc<str>,
    /// Schedule that is triggered or backfilled. Its revision is bumped with the creation.
    pub schedule_id: Option<ScheduleId>,
    /// See [`Run::slot`].
    pub slot: Option<Timestamp>,
    /// See [`Run::last_slot`].
    pub last_slot: Option<Timestamp>,
    /// See [`Run::upcoming`].
    pub upcoming: Option<Timestamp>,
    /// See [`Run::timezone`].
    pub timezone: Arc<str>,
    /// Who asks.
    pub origin: Origin,
    /// Payload of an invoked run.
    pub payload: Option<Json>,
    /// Data of the schedule.
    pub input: Option<Json>,
    /// From when it may be claimed.
    pub available_at: Timestamp,
    /// Wait behind unfinished runs of the schedule (backfill without `overlap="allow"`).
    pub behind: bool,
    /// Take back the coming slots that were claimed early, so that they are decided with this run in view.
    pub takes_back: bool,
    /// Create it only while the schedule is at this revision.
    pub revision: Option<i64>,
    /// The run whose step invokes it.
    pub parent: Option<RunId>,
    /// A second creation with the same key gives the first one's run.
    pub idempotency_key: Option<Arc<str>>,
    /// The worker that claims it as it is created, if it is signed in and the run need not wait.
    pub claim_for: Option<WorkerId>,
}

/// A run that this worker has just claimed, with what its replay needs.
#[derive(Clone, PartialEq, Debug)]
pub struct ClaimedRun {
    /// The run, `state` running and `token` that of the claim.
    pub run: Run,
    /// Steps recorded by earlier claims, in the order of their first recording; empty for a fresh run.
    pub journal: Vec<StepRecord>,
}

/// How a claim of a run ends.
#[derive(Clone, PartialEq, Debug)]
pub enum Completion {
    /// The handler returned.
    Succeeded {
        /// Encoded return value.
        result: Option<Json>,
    },
    /// The handler raised; with `retry_at`, the run is queued again for then, its attempt one higher.
    Failed {
        /// Record of the error.
        error: Json,
        /// When to try again.
        retry_at: Option<Timestamp>,
    },
    /// Stopped on request.
    Cancelled {
        /// Why, for people.
        error: Option<Json>,
    },
    /// The run sleeps or waits for a child: no task is held until `wakes_at`.
    Parked {
        /// When to go on.
        wakes_at: Timestamp,
    },
    /// The code of this worker can't continue the run: it waits for a worker with other code, attempt unchanged.
    Held {
        /// Fingerprint of the code; no worker with it claims the run again.
        code: Arc<str>,
        /// Why, for people.
        note: Arc<str>,
    },
    /// Given back unfinished (drain): free at once, attempt unchanged.
    Released,
    /// The application leaves this slot out (its calendar excludes the day): the run goes as if it had never been
    /// created, and the slot enters the ledger as skipped. Only for a run of a slot that has recorded nothing.
    Skipped {
        /// Why, for people.
        reason: Arc<str>,
    },
}
