//! Requests: a JSON object with one member, named after the operation.

use super::starts::{Invocation, Start};
use crate::calendar::Timestamp;
use crate::model::schedule::Tags;
use crate::model::{CatchUp, Json, LimitSpec, RunState, ScheduleStatus};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::sync::Arc;

/// The default page size.
fn default_limit() -> usize {
    100
}

fn one() -> usize {
    1
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
    /// Like `Create`, answered with what happened to each schedule.
    Put {
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
        /// With all of these tags.
        #[serde(default)]
        tags: Tags,
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
    Upcoming {
        id: String,
        count: usize,
    },
    Update {
        id: String,
        changes: serde_json::Map<String, serde_json::Value>,
        #[serde(default)]
        input: Option<InputChange>,
        /// Replaces the tags; an empty object removes them.
        #[serde(default)]
        tags: Option<Tags>,
    },
    Pause {
        id: String,
        note: Option<String>,
    },
    Resume {
        id: String,
        /// Replaces the schedule's policy for the slots that are due now.
        #[serde(default)]
        catch_up: Option<CatchUp>,
    },
    /// Skips the next `count` slots, or the one at `at`.
    Skip {
        id: String,
        #[serde(default = "one")]
        count: usize,
        #[serde(default)]
        at: Option<Timestamp>,
    },
    /// Undoes the skip of the slot at `at`, or of all coming slots.
    Unskip {
        id: String,
        at: Option<Timestamp>,
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
        /// For this run only. `None` takes the schedule's.
        #[serde(default)]
        input: Option<InputChange>,
    },
    Backfill {
        id: String,
        start: Timestamp,
        end: Timestamp,
        #[serde(default)]
        dry_run: bool,
        /// Runs at most so many slots.
        #[serde(default)]
        limit: Option<usize>,
        /// How many of its runs are in progress at once, whatever the overlap policy.
        #[serde(default)]
        concurrency: Option<u32>,
    },
    GetBackfill {
        id: String,
    },
    ListBackfills {},
    CancelBackfill {
        id: String,
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
        #[serde(default)]
        start: Start,
    },
    /// Starts several runs of one workflow in one transaction.
    InvokeMany {
        workflow: String,
        runs: Vec<Invocation>,
        is_local: bool,
        #[serde(default)]
        local_workflows: Vec<String>,
    },
    /// Gives what a transaction of the application executes to start a run.
    InvokeIn {
        workflow: String,
        payload: Option<Box<RawValue>>,
        idempotency_key: Option<String>,
        is_local: bool,
        #[serde(default)]
        local_workflows: Vec<String>,
        #[serde(default)]
        start: Start,
    },
    /// Gives what a transaction of the application executes to create one schedule.
    CreateIn {
        drafts: Drafts,
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
    /// Answered when this step of the run is done.
    AwaitStep {
        run: String,
        name: Arc<str>,
    },
    /// Sends an event to a run, or to the only unfinished run of a workflow and key.
    SendEvent {
        run: Option<String>,
        workflow: Option<Arc<str>>,
        key: Option<Arc<str>>,
        name: String,
        payload: Box<RawValue>,
        idempotency_key: Option<String>,
    },
    /// Tells whether a claim is still valid.
    ClaimStands {
        run: String,
        token: i64,
    },
    /// Tells for each claim, a run and a token, whether the run may be entered for the first time.
    MayEnter {
        claims: Vec<(String, i64)>,
    },
    /// Tells whether cancellation of the run was requested.
    CancelRequested {
        id: String,
    },
    PreviousResult {
        schedule_id: String,
        before: String,
    },
    /// Lists limits, or only that of a workflow; counts the runs that wait for one up to
    /// `count_to`.
    ListLimits {
        count_to: usize,
        workflow: Option<Arc<str>>,
        /// Counts the running runs with this key, too.
        key: Option<String>,
    },
    /// Sets values of a limit; without `changes`, goes back to the declared ones.
    SetLimit {
        name: Arc<str>,
        changes: Option<LimitSpec>,
    },
    /// Deletes a limit that no worker declares and no unfinished run counts against.
    DeleteLimit {
        name: Arc<str>,
    },
    ListCalendars {},
    GetCalendar {
        name: Arc<str>,
    },
    /// Creates a calendar, or replaces its dates, given like `2026-12-25`.
    SetCalendar {
        name: Arc<str>,
        dates: Vec<String>,
    },
    DeleteCalendar {
        name: Arc<str>,
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

/// A new input of a schedule, or of one run of it.
#[derive(Deserialize, Debug)]
#[serde(deny_unknown_fields)]
pub struct InputChange {
    /// Replaces the input; `null` removes it.
    pub set: Option<Box<RawValue>>,
}

/// Schedules to create or update. Many schedules share few distinct specifications, so each
/// specification is sent once.
#[derive(Deserialize, Debug)]
#[serde(deny_unknown_fields)]
pub struct Drafts {
    /// JSON texts of the distinct specifications. Whoever sends one has compiled it.
    pub specs: Vec<Json>,
    /// The schedules; the response has the same order.
    pub schedules: Vec<Draft>,
}

impl Drafts {
    /// Whether a specification names stored calendars.
    pub fn name_calendars(&self) -> bool {
        self.specs.iter().any(|text| text.contains("\"calendars\":["))
    }
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
    /// The user's tags.
    #[serde(default)]
    pub tags: Tags,
    /// Whether to start a run if this creates the schedule.
    #[serde(default)]
    pub run_on_create: bool,
}
