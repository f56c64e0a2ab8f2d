//! Responses: JSON objects. Instants and durations are whole microseconds; the application's data
//! (`input`, `result`) passes through as unparsed text.

use crate::calendar::Timestamp;
use crate::model::schedule::{Tags, parse_tags};
use crate::model::text::{shown_state, status_word};
use crate::model::{
    CatchUp, CronTexts, Days, Declaration, LedgerEntry, NO_DEADLINE, OnSkip, Overlap, Peer, Run, RunId,
    RunState, Schedule, ScheduleId, ScheduleSpec, ScheduleStatus, SlotOutcome, StepRecord, StepState,
    WaitingCalls,
};
use crate::store::ProjectStats;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A schedule as shown to users.
#[derive(Serialize)]
pub struct ScheduleResponse<'a> {
    id: &'a str,
    workflow: &'a str,
    key: &'a str,
    cron: Option<&'a CronTexts>,
    days: Days,
    weeks: Option<u32>,
    every: Option<i64>,
    at: Option<Timestamp>,
    timezone: &'a str,
    status: ScheduleStatus,
    note: Option<&'a str>,
    upcoming: Option<Timestamp>,
    last_timestamp: Option<Timestamp>,
    overlap: Overlap,
    catch_up: CatchUp,
    max_catch_up: u32,
    catch_up_window: i64,
    jitter: i64,
    start_at: Option<Timestamp>,
    end_at: Option<Timestamp>,
    max_runs: Option<u64>,
    skip: &'a [String],
    skip_cron: &'a [String],
    calendars: &'a [String],
    on_skip: Option<OnSkip>,
    skipped: Vec<Timestamp>,
    pause_after_failures: Option<u32>,
    priority: Option<u8>,
    input: Option<&'a str>,
    tags: Tags,
    counts: CountsResponse,
    owner: Option<&'a str>,
    overridden: bool,
    worker_available: bool,
    created_at: Timestamp,
    updated_at: Timestamp,
}

/// How many slots of a schedule had which outcome.
#[derive(Serialize)]
struct CountsResponse {
    ran: u64,
    skipped: u64,
    missed: u64,
}

/// A blank specification if the stored one can't be parsed: such rows are still listed, and their
/// status says that they are broken.
pub fn spec_or_blank(schedule: &Schedule) -> Cow<'_, ScheduleSpec> {
    schedule.spec.fields().unwrap_or_else(|| Cow::Owned(blank()))
}

fn blank() -> ScheduleSpec {
    ScheduleSpec {
        cron: None,
        every_us: None,
        at_us: None,
        timezone: "UTC".into(),
        overlap: Overlap::default(),
        catch_up: CatchUp::default(),
        max_catch_up: 100,
        catch_up_window_us: 0,
        jitter_us: 0,
        start_at_us: None,
        end_at_us: None,
        max_runs: None,
        skip_dates: Vec::new(),
        skip_cron: Vec::new(),
        calendars: Vec::new(),
        on_skip: None,
        skip_calendar: false,
        pause_after_failures: None,
        priority: None,
        days: Days::Or,
        weeks: None,
    }
}

impl<'a> ScheduleResponse<'a> {
    /// `worker_available`: whether a live worker registers the schedule's workflow.
    pub fn new(
        schedule: &'a Schedule,
        spec: &'a ScheduleSpec,
        worker_available: bool,
        now: Timestamp,
    ) -> Self {
        Self {
            id: schedule.id.as_str(),
            workflow: &schedule.workflow,
            key: &schedule.key,
            cron: spec.cron.as_ref(),
            days: spec.days,
            weeks: spec.weeks,
            every: spec.every_us,
            at: spec.at_us,
            timezone: &spec.timezone,
            status: schedule.status,
            note: schedule.note.as_deref(),
            upcoming: upcoming(schedule, spec),
            last_timestamp: schedule.last_slot,
            overlap: spec.overlap,
            catch_up: spec.catch_up,
            max_catch_up: spec.max_catch_up,
            catch_up_window: spec.catch_up_window_us,
            jitter: spec.jitter_us,
            start_at: spec.start_at_us,
            end_at: spec.end_at_us,
            max_runs: spec.max_runs,
            skip: &spec.skip_dates,
            skip_cron: &spec.skip_cron,
            calendars: &spec.calendars,
            on_skip: spec.on_skip,
            skipped: schedule.settled_slots().into_iter().filter(|slot| *slot > now).collect(),
            pause_after_failures: spec.pause_after_failures,
            priority: spec.priority,
            input: schedule.input.as_deref(),
            tags: parse_tags(schedule.tags.as_deref()),
            counts: CountsResponse {
                ran: schedule.ran_count(),
                skipped: schedule.counts.skipped,
                missed: schedule.counts.missed,
            },
            owner: schedule.owner.as_deref(),
            overridden: Declaration::parse(schedule.declaration.as_deref())
                .is_some_and(|declaration| declaration.is_overridden),
            worker_available,
            created_at: schedule.created_at,
            updated_at: schedule.updated_at,
        }
    }
}

/// The next slot that will fire: excluded dates are skipped. `None` unless the schedule is active.
fn upcoming(schedule: &Schedule, spec: &ScheduleSpec) -> Option<Timestamp> {
    if schedule.status != ScheduleStatus::Active {
        return None;
    }
    let slot = schedule.next_slot?;
    if spec.skip_dates.is_empty() && spec.skip_cron.is_empty() && spec.calendars.is_empty() {
        return Some(slot);
    }
    let compiled_spec = schedule.compiled_spec().ok()?;
    compiled_spec.upcoming_from(slot)
}

/// What a run is shown to have started from.
fn shown_origin(run: &Run) -> &'static str {
    let is_first = |schedule: &ScheduleId| run.id == RunId::of_creation(schedule);
    if run.schedule_id.as_ref().is_some_and(is_first) { "create" } else { run.origin.word() }
}

/// A run as shown to users.
#[derive(Serialize)]
pub struct RunResponse<'a> {
    id: &'a str,
    workflow: &'a str,
    key: &'a str,
    schedule_id: Option<&'a str>,
    timestamp: Option<Timestamp>,
    timezone: &'a str,
    status: RunState,
    origin: &'static str,
    attempt: u32,
    priority: u8,
    interruptions: u32,
    note: Option<&'a str>,
    progress: Option<&'a RawValue>,
    worker: Option<&'a str>,
    created_at: Timestamp,
    /// When a queued run may start.
    due_at: Option<Timestamp>,
    started_at: Option<Timestamp>,
    finished_at: Option<Timestamp>,
    result: Option<&'a str>,
    error: Option<Cow<'a, RawValue>>,
    steps: Vec<StepResponse<'a>>,
    #[serde(flatten)]
    circumstances: Option<Circumstances<'a>>,
}

/// A run that has succeeded, with only the fields that a caller waiting for it needs.
#[derive(Serialize)]
pub struct Success<'a> {
    /// Always `succeeded`.
    pub status: RunState,
    /// The handler's encoded return value.
    pub result: Option<&'a str>,
}

/// The inputs of one run. Not in lists, because they may be megabytes.
#[derive(Serialize)]
struct Circumstances<'a> {
    payload: Option<&'a str>,
    input: Option<&'a str>,
    parent: Option<&'a str>,
    last_timestamp: Option<Timestamp>,
    upcoming: Option<Timestamp>,
}

impl<'a> RunResponse<'a> {
    /// With everything that was recorded.
    pub fn whole(run: &'a Run, steps: &'a [StepRecord]) -> Self {
        let circumstances = Circumstances {
            payload: run.payload.as_deref(),
            input: run.input.as_deref(),
            parent: run.parent.as_ref().map(crate::model::RunId::as_str),
            last_timestamp: run.last_slot,
            upcoming: run.upcoming,
        };
        Self { circumstances: Some(circumstances), ..Self::new(run, steps) }
    }

    /// Without the large parts: no result, and of the error only what a list shows.
    pub fn brief(run: &'a Run) -> Self {
        let error = run.error.as_deref().and_then(headline).map(Cow::Owned);
        Self { result: None, error, ..Self::new(run, &[]) }
    }

    /// `steps` may be empty if they were not requested.
    pub fn new(run: &'a Run, steps: &'a [StepRecord]) -> Self {
        Self {
            id: run.id.as_str(),
            workflow: &run.workflow,
            key: &run.key,
            schedule_id: run.schedule_id.as_ref().map(crate::model::ScheduleId::as_str),
            timestamp: run.slot,
            timezone: &run.timezone,
            // Buffered runs are shown as queued: the run that one waits for is internal.
            status: run.state.shown(),
            origin: shown_origin(run),
            attempt: run.attempt,
            priority: run.priority,
            interruptions: run.interruptions,
            note: run.note.as_deref(),
            progress: run.progress.as_deref().and_then(raw),
            worker: run.worker.as_ref().map(crate::model::WorkerId::as_str),
            created_at: run.created_at,
            due_at: matches!(run.state, RunState::Queued | RunState::Waiting)
                .then_some(run.available_at)
                .filter(|at| *at < NO_DEADLINE),
            started_at: run.started_at,
            finished_at: run.finished_at,
            result: run.result.as_deref(),
            error: run.error.as_deref().and_then(raw).map(Cow::Borrowed),
            steps: steps.iter().map(StepResponse::new).collect(),
            circumstances: None,
        }
    }
}

/// A step as shown to users.
#[derive(Serialize)]
struct StepResponse<'a> {
    name: &'a str,
    status: &'static str,
    attempt: u32,
    started_at: Timestamp,
    finished_at: Timestamp,
    result: Option<&'a str>,
    error: Option<&'a RawValue>,
    wakes_at: Option<Timestamp>,
    /// Whether it waits for an event.
    awaits_event: bool,
    /// Whether it waited for an event, which did not come in time.
    timed_out: bool,
}

impl<'a> StepResponse<'a> {
    fn new(step: &'a StepRecord) -> Self {
        Self {
            name: &step.name,
            // Steps use the same status words as runs.
            status: match step.state {
                StepState::Done => "succeeded",
                StepState::Failed => "failed",
                StepState::Retrying | StepState::Sleeping | StepState::Waiting => "waiting",
            },
            attempt: step.attempt,
            started_at: step.started_at,
            finished_at: step.finished_at,
            result: step.result.as_deref(),
            error: step.error.as_deref().and_then(raw),
            wakes_at: step.wakes_at,
            awaits_event: step.state == StepState::Waiting,
            // Of done steps, only waits for events keep a deadline or may lack a result.
            timed_out: step.state == StepState::Done && step.wakes_at.is_some() && step.result.is_none(),
        }
    }
}

/// A line of history as shown to users.
#[derive(Serialize)]
pub struct LedgerResponse<'a> {
    timezone: &'a str,
    timestamp: Timestamp,
    until: Timestamp,
    count: u64,
    status: SlotOutcome,
    reason: &'a str,
    run_id: Option<&'a str>,
    late_by: Option<i64>,
    worker: Option<&'a str>,
}

impl<'a> LedgerResponse<'a> {
    /// `late_by` is the time from the slot to the first claim. Never negative, although an early
    /// claim precedes its slot.
    pub fn new(entry: &'a LedgerEntry, timezone: &'a str) -> Self {
        Self {
            timezone,
            timestamp: entry.from,
            until: entry.until,
            count: entry.count,
            status: entry.outcome,
            reason: &entry.reason,
            run_id: entry.run.as_ref().map(crate::model::RunId::as_str),
            late_by: entry.started_at.map(|at| (at.as_micros() - entry.from.as_micros()).max(0)),
            worker: entry.worker.as_ref().map(crate::model::WorkerId::as_str),
        }
    }
}

/// A worker as shown to users.
#[derive(Serialize)]
pub struct WorkerResponse<'a> {
    id: &'a str,
    app: &'a str,
    host: &'a str,
    pid: i64,
    held_count: u64,
    workflows: Vec<&'a str>,
    entered_at: Timestamp,
    beat_at: Timestamp,
    is_gone: bool,
    about: Option<&'a RawValue>,
}

impl<'a> WorkerResponse<'a> {
    /// `is_gone`: the worker's process is known to have ended.
    pub fn new(peer: &'a Peer, is_gone: bool) -> Self {
        Self {
            id: peer.id.as_str(),
            app: &peer.app,
            host: &peer.host,
            pid: peer.pid,
            held_count: peer.held_count,
            workflows: peer.workflows.iter().map(|id| &**id).collect(),
            entered_at: peer.entered_at,
            beat_at: peer.beat_at,
            is_gone,
            about: raw(&peer.about),
        }
    }
}

/// Counts for the whole project, as shown to users.
#[derive(Serialize)]
pub struct OverviewResponse {
    now: Timestamp,
    schedules: BTreeMap<&'static str, usize>,
    runs: BTreeMap<&'static str, usize>,
    overdue: usize,
    oldest_due: Option<Timestamp>,
    hook_calls: BTreeMap<Arc<str>, u64>,
    oldest_hook_call: Option<Timestamp>,
    counted_to: usize,
}

impl OverviewResponse {
    /// The counts as of `now`.
    pub fn new(
        now: Timestamp,
        project_stats: &ProjectStats,
        counted_to: usize,
        waiting: &[WaitingCalls],
    ) -> Self {
        let mut runs = BTreeMap::new();
        for (state, count) in &project_stats.runs {
            let shown = runs.entry(shown_state(*state)).or_insert(0);
            *shown = (*shown + count).min(counted_to);
        }
        Self {
            now,
            schedules: project_stats
                .schedules
                .iter()
                .map(|(status, count)| (status_word(*status), *count))
                .collect(),
            runs,
            overdue: project_stats.overdue,
            oldest_due: project_stats.oldest_due,
            hook_calls: waiting.iter().map(|calls| (Arc::clone(&calls.workflow), calls.count)).collect(),
            oldest_hook_call: waiting.iter().map(|calls| calls.since).min(),
            counted_to,
        }
    }
}

/// Stored JSON, unparsed; `None` if the text is not valid JSON (edited by hand in the database).
fn raw(text: &str) -> Option<&RawValue> {
    serde_json::from_str(text).ok()
}

/// The type and message of a recorded error.
fn headline(record: &str) -> Option<Box<RawValue>> {
    #[derive(Deserialize, Serialize)]
    struct Headline {
        r#type: Option<String>,
        message: Option<String>,
    }
    let headline: Headline = serde_json::from_str(record).ok()?;
    serde_json::value::to_raw_value(&headline).ok()
}

/// Serializes a response to JSON text.
pub fn to_json<T: Serialize + ?Sized>(view: &T) -> String {
    serde_json::to_string(view).expect("answers have string keys and no failing parts")
}

/// A wait for an event: whether it is over, with which payload (as JSON text; `null` after its
/// deadline), and until when to wait otherwise.
#[derive(Serialize)]
struct WaitResponse<'a> {
    is_over: bool,
    payload: Option<&'a str>,
    wakes_at: Option<Timestamp>,
    parks_until: Timestamp,
}

/// The step of a wait as it stands.
pub fn wait_response(step: &StepRecord) -> String {
    to_json(&WaitResponse {
        is_over: step.state == StepState::Done,
        payload: step.result.as_deref(),
        wakes_at: step.wakes_at,
        parks_until: step.wakes_at.unwrap_or(NO_DEADLINE),
    })
}
