//! Requests: a JSON object with one member, named after the operation.

use crate::calendar::Timestamp;
use crate::model::{Json, RunState, ScheduleSpec, ScheduleStatus};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::sync::Arc;

/// The default page size.
fn default_limit() -> usize {
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
        #[serde(default = "default_limit")]
        limit: usize,
        after: Option<String>,
        /// Key and workflow of the last row of the previous page. Replaces `after` in a list by
        /// `key_prefix`.
        after_key: Option<(String, String)>,
    },
    /// Lists active schedules by their next slot.
    Coming {
        until: Timestamp,
        #[serde(default = "default_limit")]
        limit: usize,
    },
    History {
        id: String,
        #[serde(default = "default_limit")]
        limit: usize,
        after: Option<i64>,
    },
    Update {
        id: String,
        changes: serde_json::Map<String, serde_json::Value>,
        /// Replaces the input if present; `null` removes it.
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
    /// Restores what the code declares.
    Reset {
        id: String,
    },
    Trigger {
        /// Whether to apply the schedule's overlap policy. Otherwise the run starts beside any
        /// other.
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
        /// The run whose step invokes this one.
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
        #[serde(default = "default_limit")]
        limit: usize,
        after: Option<String>,
        /// Omits results and tracebacks.
        #[serde(default)]
        brief: bool,
    },
    /// Lists unfinished runs that interrupted their workers, or that wait with a note.
    RemarkableRuns {
        #[serde(default = "default_limit")]
        limit: usize,
    },
    CancelRun {
        id: String,
    },
    RetryRun {
        id: String,
    },
    /// Answered when the run has finished: with the whole run, or, if it succeeded, only with its
    /// status and result.
    AwaitRun {
        id: String,
    },
    /// Tells whether a claim is still valid.
    ClaimStands {
        run: String,
        token: i64,
    },
    /// Tells whether cancellation of the run was requested.
    CancelRequested {
        id: String,
    },
    PreviousResult {
        schedule_id: String,
        before: String,
    },
    Workers {},
    /// Lists runs that still wait for a child run that has finished. Looks only at the first
    /// `look_at` runs that wait for a child.
    StuckParents {
        look_at: usize,
    },
    /// Counts what the project holds, each count limited to `count_to`.
    Overview {
        count_to: usize,
    },
}

/// Schedules to create or update. Many schedules share few distinct specifications, so each
/// specification is sent and checked once.
#[derive(Deserialize, Debug)]
#[serde(deny_unknown_fields)]
pub struct Drafts {
    /// The distinct specifications.
    pub specs: Vec<ScheduleSpec>,
    /// The schedules; the response has the same order.
    pub schedules: Vec<Draft>,
}

/// One schedule of [`Drafts`].
#[derive(Deserialize, Debug)]
#[serde(deny_unknown_fields)]
pub struct Draft {
    /// Id of the schedule's workflow.
    pub workflow: Arc<str>,
    /// The user's key.
    pub key: Arc<str>,
    /// Index into [`Drafts::specs`].
    pub spec: usize,
    /// Data for the handler, as JSON text.
    pub input: Option<Json>,
    /// `None` if this process has not registered the workflow; otherwise whether the workflow is
    /// schedulable.
    pub local: Option<bool>,
}
