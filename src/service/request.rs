//! Requests as they arrive: a JSON object with one member, named after the operation.

use crate::calendar::Timestamp;
use crate::model::{Json, RunState, ScheduleSpec, ScheduleStatus};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::sync::Arc;

/// Rows of a page when the caller does not say.
fn hundred() -> usize {
    100
}

/// A request. Instants and durations are whole microseconds.
#[derive(Deserialize, Debug)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
#[expect(missing_docs, reason = "the fields are those of the public Python functions with the same names")]
pub enum Request {
    Create {
        drafts: Drafts,
        #[serde(default)]
        local_workflows: Vec<String>,
    },
    GetSchedule {
        id: String,
    },
    ListSchedules {
        workflow: Option<Arc<str>>,
        key: Option<Arc<str>>,
        status: Option<ScheduleStatus>,
        owner: Option<Arc<str>>,
        key_prefix: Option<Arc<str>>,
        #[serde(default = "hundred")]
        limit: usize,
        after: Option<String>,
        /// Key and workflow of the last one seen, in place of `after`, for a list by `key_prefix`.
        after_key: Option<(String, String)>,
    },
    /// Active schedules by their next slot.
    Coming {
        until: Timestamp,
        #[serde(default = "hundred")]
        limit: usize,
    },
    History {
        id: String,
        #[serde(default = "hundred")]
        limit: usize,
        after: Option<i64>,
    },
    Update {
        id: String,
        changes: serde_json::Map<String, serde_json::Value>,
        /// Replaces the input where present; `null` removes it.
        #[serde(default)]
        input: Option<Box<RawValue>>,
        #[serde(default)]
        has_input: bool,
    },
    Pause {
        id: String,
        note: Option<String>,
    },
    Resume {
        id: String,
    },
    Skip {
        id: String,
    },
    Delete {
        id: String,
    },
    /// Back to what the code declares.
    Reset {
        id: String,
    },
    Trigger {
        /// Whether the schedule's overlap policy applies; otherwise it starts beside whatever runs.
        #[serde(default)]
        applies_overlap: bool,
        id: String,
    },
    Backfill {
        id: String,
        start: Timestamp,
        end: Timestamp,
        #[serde(default)]
        dry_run: bool,
    },
    Invoke {
        workflow: String,
        payload: Option<Box<RawValue>>,
        idempotency_key: Option<String>,
        /// The run whose step invokes it.
        parent: Option<String>,
        /// Whether this process has registered the workflow.
        is_local: bool,
        #[serde(default)]
        local_workflows: Vec<String>,
    },
    GetRun {
        id: String,
    },
    ListRuns {
        workflow: Option<Arc<str>>,
        key: Option<Arc<str>>,
        schedule: Option<String>,
        #[serde(default)]
        states: Vec<RunState>,
        since: Option<Timestamp>,
        error: Option<Arc<str>>,
        #[serde(default = "hundred")]
        limit: usize,
        after: Option<String>,
        /// Without results and tracebacks.
        #[serde(default)]
        brief: bool,
    },
    /// Unfinished runs that interrupted their workers, or that wait with a note.
    RemarkableRuns {
        #[serde(default = "hundred")]
        limit: usize,
    },
    CancelRun {
        id: String,
    },
    RetryRun {
        id: String,
    },
    /// Answered when the run has ended: how it stands, or, where it has succeeded, only that and its result.
    AwaitRun {
        id: String,
    },
    /// Whether a claim is still valid.
    ClaimStands {
        run: String,
        token: i64,
    },
    /// Whether somebody has asked for the cancellation of a run.
    CancelRequested {
        id: String,
    },
    PreviousResult {
        schedule_id: String,
        before: String,
    },
    Workers {},
    /// Runs that wait for a child run that has ended, of the first `look_at` runs that wait for a child.
    StuckParents {
        look_at: usize,
    },
    /// How many there are of what, each counted to `count_to` at most.
    Overview {
        count_to: usize,
    },
}

/// Schedules to create or bring up to date. A million users have few distinct specifications: each is said, and checked,
/// once.
#[derive(Deserialize, Debug)]
#[serde(deny_unknown_fields)]
pub struct Drafts {
    /// What decides when and how they fire.
    pub specs: Vec<ScheduleSpec>,
    /// The schedules, in the order of the answer.
    pub schedules: Vec<Draft>,
}

/// One of [`Drafts`].
#[derive(Deserialize, Debug)]
#[serde(deny_unknown_fields)]
pub struct Draft {
    /// Id of its workflow.
    pub workflow: Arc<str>,
    /// The user's key.
    pub key: Arc<str>,
    /// Its place in [`Drafts::specs`].
    pub spec: usize,
    /// Data for the handler, as JSON text.
    pub input: Option<Json>,
    /// What this process has registered under the workflow's id: nothing, or whether it may be scheduled.
    pub local: Option<bool>,
}
