//! A run: one execution of a workflow.

use super::{ClaimRules, Json, NewSchedule, RunId, ScheduleId, StepRecord, Token, WorkerId};
use crate::calendar::Timestamp;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;

/// The state of a run. `plan::transition` defines the transitions.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunState {
    /// Waits for an unfinished run of its schedule. Shown to users as queued.
    Buffered,
    /// Claimable by any worker from `available_at` on.
    Queued,
    /// Claimed by a worker.
    Running,
    /// Sleeps or waits for a child run; holds no task. Claimable from `available_at` on.
    Waiting,
    /// Completed with a result.
    Succeeded,
    /// Completed with an error, and no retry is left.
    Failed,
    /// Cancelled on request.
    Cancelled,
}

impl RunState {
    /// The states that are not final.
    pub const UNFINISHED: [Self; 4] = [Self::Buffered, Self::Queued, Self::Running, Self::Waiting];

    /// Whether the state is final (except for a manual retry).
    pub fn is_finished(self) -> bool {
        match self {
            Self::Succeeded | Self::Failed | Self::Cancelled => true,
            Self::Buffered | Self::Queued | Self::Running | Self::Waiting => false,
        }
    }

    /// The state as shown to users.
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

/// What created a run.
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
    /// A hook call about another run or a slot.
    Hook,
}

impl Origin {
    /// Whether such a run is the outcome of a slot, and goes with its schedule.
    pub fn is_slot(self) -> bool {
        matches!(self, Self::Schedule | Self::Backfill)
    }
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
    /// Key of its schedule; `"global"` if it has none.
    pub key: Arc<str>,
    /// May name a schedule that was deleted since.
    pub schedule_id: Option<ScheduleId>,
    /// The slot, or the time of a manual trigger; `None` for an invoked run.
    pub slot: Option<Timestamp>,
    /// Slot of the schedule's previous run.
    pub last_slot: Option<Timestamp>,
    /// The next slot, as decided when this one fired.
    pub upcoming: Option<Timestamp>,
    /// Time zone of its schedule when the slot fired.
    pub timezone: Arc<str>,
    /// What created it.
    pub origin: Origin,
    /// Payload of an invoked run.
    pub payload: Option<Json>,
    /// The schedule's input when the slot fired.
    pub input: Option<Json>,
    /// Current state.
    pub state: RunState,
    /// 1 for the first start after creation; one more after each failure that is retried.
    pub attempt: u32,
    /// Token of the newest claim.
    pub token: Token,
    /// Holder of the newest claim.
    pub worker: Option<WorkerId>,
    /// A queued or waiting run may be claimed from this time on.
    pub available_at: Timestamp,
    /// When it was created.
    pub created_at: Timestamp,
    /// Time of the first claim; for an early claim, the time the run was due.
    pub started_at: Option<Timestamp>,
    /// Time of completion.
    pub finished_at: Option<Timestamp>,
    /// Whether cancellation of the running run was requested.
    pub cancel_requested: bool,
    /// What the handler returned.
    pub result: Option<Json>,
    /// The error that the handler raised, as recorded by the Python side.
    pub error: Option<Json>,
    /// The run whose step invoked it.
    pub parent: Option<RunId>,
    /// Given by the caller of `invoke`; unique with `project` and `workflow`.
    pub idempotency_key: Option<Arc<str>>,
    /// Consecutive executions that lost their worker without recording a step. Reset by a recorded
    /// step, a new attempt, or a manual retry.
    pub interruptions: u32,
    /// Whether the newest interrupted execution was the only run of its process, so that no other
    /// run can have killed it.
    pub interrupted_alone: bool,
    /// Why it waits, for people.
    pub note: Option<Arc<str>>,
    /// What its handler last reported about its progress, as the Python side encodes it. Best
    /// effort: reports may be lost.
    pub progress: Option<Json>,
    /// Fingerprints of code that can't continue it, separated by spaces; see [`Completion::Held`].
    pub refused_by: Option<Arc<str>>,
    /// The limit that it counts against while it is running.
    pub limit: Option<Arc<str>>,
    /// From 0 to 9: a higher one is claimed earlier; see [`Run::rank`].
    pub priority: u8,
}

/// A run with this many interruptions is a suspect: workers execute it apart from other runs where
/// they can, so that it interrupts no others and is not blamed for interruptions that they cause.
pub const SUSPECT_FROM: u32 = 2;

/// What one level of priority is worth: a run is claimed as if it had been available this much
/// earlier for each level. A waiting run therefore overtakes every later one in the end.
pub const PRIORITY_STEP: Duration = Duration::from_secs(60);

impl Run {
    /// The run's position in the order of claims.
    pub fn rank(available_at: Timestamp, priority: u8) -> Timestamp {
        let step = i64::try_from(PRIORITY_STEP.as_micros()).unwrap_or(i64::MAX);
        let head_start = i64::from(priority).saturating_mul(step);
        Timestamp::from_micros(available_at.as_micros().saturating_sub(head_start))
    }

    /// Whether workers with this code must not continue it.
    pub fn is_refused_by(&self, code: &str) -> bool {
        self.refused_by.as_deref().is_some_and(|codes| codes.split(' ').any(|refused| refused == code))
    }

    /// Whether the run is a slot's, and nothing shows that its handler was entered.
    pub fn may_be_unentered(&self, has_steps: bool) -> bool {
        self.origin.is_slot() && self.attempt == 1 && !has_steps
    }

    /// See [`SUSPECT_FROM`].
    pub fn is_suspect(&self) -> bool {
        self.interruptions >= SUSPECT_FROM
    }
}

/// A run to create that no slot created.
#[derive(Clone, PartialEq, Debug)]
pub struct NewRun {
    /// If a run with this id exists, nothing is created (the command was repeated).
    pub id: RunId,
    /// Namespace.
    pub project: Arc<str>,
    /// Id of its workflow.
    pub workflow: Arc<str>,
    /// Key of its schedule, or `"global"`.
    pub key: Arc<str>,
    /// The schedule that is triggered or backfilled. Creating the run bumps its revision.
    pub schedule_id: Option<ScheduleId>,
    /// See [`Run::slot`].
    pub slot: Option<Timestamp>,
    /// See [`Run::last_slot`].
    pub last_slot: Option<Timestamp>,
    /// See [`Run::upcoming`].
    pub upcoming: Option<Timestamp>,
    /// See [`Run::timezone`].
    pub timezone: Arc<str>,
    /// What asks for it.
    pub origin: Origin,
    /// Payload of an invoked run.
    pub payload: Option<Json>,
    /// The schedule's input.
    pub input: Option<Json>,
    /// The run may be claimed from this time on.
    pub available_at: Timestamp,
    /// Whether to wait for unfinished runs of the schedule (backfill without `overlap="allow"`).
    pub behind: bool,
    /// Whether to revoke early claims of the schedule's next slots, so that they are decided again
    /// with this run in view.
    pub revokes_claims: bool,
    /// If set, create the run only if the schedule is at this revision.
    pub revision: Option<i64>,
    /// The run whose step invokes it.
    pub parent: Option<RunId>,
    /// A repeated creation with the same key returns the first run.
    pub idempotency_key: Option<Arc<str>>,
    /// Runs with the same number are rejected together, where one of them is.
    pub together: Option<u64>,
    /// The worker that claims the run at creation, if it is registered and the run need not wait. A
    /// run that counts against a limit is queued instead.
    pub claim_for: Option<WorkerId>,
    /// Its priority, from 0 to 9; that of the workflow if none is given.
    pub priority: Option<u8>,
}

impl NewRun {
    /// Its priority, if these are the rules of its workflow.
    pub fn priority_under(&self, rules: &ClaimRules) -> u8 {
        self.priority.unwrap_or(rules.priority)
    }

    /// The run with which a schedule begins, at once. Created together with the schedule, by a
    /// command behind the one that upserts it: rejected unless that one has created it.
    pub fn of_creation(new: &NewSchedule, now: Timestamp) -> Self {
        let compiled_spec = new.spec.compiled().ok();
        Self {
            id: RunId::of_creation(&new.id),
            project: Arc::clone(&new.project),
            workflow: Arc::clone(&new.workflow),
            key: Arc::clone(&new.key),
            schedule_id: Some(new.id.clone()),
            slot: Some(now),
            last_slot: None,
            upcoming: compiled_spec.and_then(|compiled_spec| compiled_spec.upcoming(now)),
            timezone: compiled_spec.map_or_else(|| "UTC".into(), |found| Arc::clone(&found.spec().timezone)),
            // Older releases know no other word for a run that no slot has caused.
            origin: Origin::Trigger,
            payload: None,
            input: new.input.clone(),
            available_at: now,
            behind: false,
            revokes_claims: false,
            revision: Some(1),
            parent: None,
            idempotency_key: None,
            together: None,
            claim_for: None,
            priority: compiled_spec.and_then(|compiled_spec| compiled_spec.spec().priority),
        }
    }
}

/// A run that this worker has just claimed, with what its replay needs.
#[derive(Clone, PartialEq, Debug)]
pub struct ClaimedRun {
    /// The run, with state running and the token of the claim.
    pub run: Run,
    /// Steps recorded by earlier claims, in the order of their first recording; empty for a fresh
    /// run.
    pub journal: Vec<StepRecord>,
    /// Whether this is known to be its first claim.
    pub is_first: bool,
}

/// Why a handler must not be entered for the first time under a claim.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EntryRefusal {
    /// The claim is no longer valid.
    ClaimLost,
    /// The schedule of the run's slot was deleted, and nothing shows that the run was entered
    /// before.
    ScheduleDeleted,
}

impl EntryRefusal {
    /// What follows for a run that a store has found under the claim: whether it has a schedule, or
    /// needs none.
    pub fn of(found: Option<bool>) -> Result<(), Self> {
        match found {
            Some(true) => Ok(()),
            Some(false) => Err(Self::ScheduleDeleted),
            None => Err(Self::ClaimLost),
        }
    }
}

/// How a claim of a run ends.
#[derive(Clone, PartialEq, Debug)]
pub enum Completion {
    /// The handler returned.
    Succeeded {
        /// Encoded return value.
        result: Option<Json>,
    },
    /// The handler raised. With `retry_at`, the run is queued again for that time with its attempt
    /// increased by one.
    Failed {
        /// Record of the error.
        error: Json,
        /// When to try again.
        retry_at: Option<Timestamp>,
    },
    /// Cancelled on request.
    Cancelled {
        /// Why, for people.
        error: Option<Json>,
    },
    /// The run sleeps or waits for a child: no task is held until `wakes_at`.
    Parked {
        /// When the run continues.
        wakes_at: Timestamp,
    },
    /// The code of this worker can't continue the run: it waits for a worker with other code,
    /// attempt unchanged.
    Held {
        /// Fingerprint of the code; no worker with this code claims the run again.
        code: Arc<str>,
        /// Why, for people.
        note: Arc<str>,
    },
    /// Given back unfinished (drain): claimable at once, attempt unchanged.
    Released,
    /// The application skips this slot (its calendar excludes the day): the run is deleted as if it
    /// had never been created, and the ledger records the slot as skipped. Only for a run of a slot
    /// that has recorded nothing.
    Skipped {
        /// Why, for people.
        reason: Arc<str>,
    },
}
