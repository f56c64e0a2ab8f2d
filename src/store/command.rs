//! Commands: the changes that a store can make. Their documentation is the contract.

use crate::calendar::Timestamp;
use crate::model::{
    ClaimedRun, Completion, Debounce, FirePlan, HookCall, Json, LimitSpec, NewEvent, NewRun, NewSchedule,
    Reconciliation, Run, RunId, RunState, Schedule, ScheduleId, ScheduleStatus, StepRecord, StoredSpec,
    Token, WorkerEntry, WorkerId,
};
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;

/// One change, all-or-nothing.
///
/// **Revoking early claims.** A worker decides slots shortly ahead of their time. A change to a
/// schedule therefore first revokes what was decided ahead. Such changes are an `UpsertSchedules`
/// that changes the schedule's row, `PatchSchedule`, `DeleteSchedule`, a pause after failures, and
/// a `CreateRun` with `revokes_claims`.
///
/// The runs affected have origin `schedule`, a slot after `now`, are running, queued or buffered,
/// are in their first attempt, and have no recorded step. Each is deleted, `next_slot` becomes its
/// slot again, `last_slot` becomes the run's `last_slot`, and `run_count` decreases by one.
///
/// A worker that claimed such a run checks the claim ([`super::StoreReads::may_enter`]) before it
/// starts the run.
///
/// **Forgotten slots.** A change can leave slots of an active or paused schedule that are due at
/// `now` and undecided: its cadence changes, it is deleted, or it is retired. All of these slots
/// that the new cadence does not have enter the ledger: as skipped if they are on excluded dates,
/// otherwise as missed.
#[derive(Clone, Debug)]
pub enum Command {
    /// Registers a worker with its workflows, limits, and declarations, and upserts its declared
    /// schedules as [`Command::UpsertSchedules`] does. Answer: [`Answer::Reconciled`].
    ///
    /// It also decides about active and paused schedules that the worker's application owns but the
    /// worker does not declare. Such a schedule is retired if no live worker declares it and this
    /// worker runs all of its application.
    ///
    /// A schedule that only an older release recorded is renamed and kept.
    ///
    /// Rejected as [`Rejection::NameHeld`], like [`Command::UpsertSchedules`].
    ///
    /// Of two declarations of a limit, or of a workflow's claim rules, the newer one counts, as for
    /// schedules. Where the limit of a workflow changes, its unfinished runs count against the new
    /// one from now on.
    RegisterWorker(Box<WorkerEntry>),
    /// Repeats the decision of [`Command::RegisterWorker`] about the declared schedules of a
    /// registered worker, because the set of live workers has changed. Answer:
    /// [`Answer::Reconciled`].
    ///
    /// Rejected as [`Rejection::WorkerGone`].
    Reconcile {
        /// The entry with which the worker registered.
        entry: Box<WorkerEntry>,
        /// Workers that count as dead as long as their heartbeat still has the given value.
        silent: Vec<(WorkerId, i64)>,
    },
    /// Raises the worker's heartbeat.
    ///
    /// Rejected as [`Rejection::WorkerGone`] if the worker expired, deregistered, or never
    /// registered.
    Heartbeat {
        /// The worker that is alive.
        worker: WorkerId,
    },
    /// Deregisters a worker: its running runs become queued at `now` (attempt and token unchanged),
    /// and its row is deleted. Answer: [`Answer::Count`] of the runs freed.
    ///
    /// Deregistering an unknown worker is not an error.
    DeregisterWorker {
        /// The worker to deregister.
        worker: WorkerId,
    },
    /// Expires a worker that is presumed dead: like [`Command::DeregisterWorker`], but only while
    /// its heartbeat is still `heartbeat`.
    ///
    /// Rejected as [`Rejection::Stale`] if the heartbeat has changed.
    ///
    /// A run that counts as interrupted and that was to have started by `now` is late, for its hook
    /// call.
    ///
    /// An execution counts as interrupted ([`Run::interruptions`]) for each of its runs whose time
    /// had come and for which it has recorded no step since it registered. A repetition finds no
    /// runs, so it counts nothing.
    ExpireWorker {
        /// The worker that is presumed dead.
        worker: WorkerId,
        /// The heartbeat that has not changed for the lease time.
        heartbeat: i64,
        /// Whether other workers of the same process held runs. If so, none of this worker's runs
        /// was alone in the process.
        shares_process: bool,
    },
    /// Undoes the counting of interruptions for claims whose worker turned out to be alive: it was
    /// only cut off from the database. Answer: [`Answer::Done`].
    ///
    /// Each count that such a claim was the last to raise is lowered again, once.
    UncountInterruptions {
        /// The claims, as the worker held them.
        claims: Vec<(RunId, Token)>,
    },
    /// Creates schedules, or updates those that exist for `(project, workflow, key)`; all or none.
    /// Answer: [`Answer::Schedules`], the ids and what the command did, in order.
    ///
    /// A repetition of the command that created a schedule (the same id) is answered like the first
    /// one.
    ///
    /// An update replaces `spec`, `compiled_spec`, `input`, and `tags`. It replaces `owner` if one
    /// is given.
    ///
    /// Nothing is written for a row that would not change.
    ///
    /// Cadence unchanged, and status active or paused: `next_slot` and `attended_from` stay. Where
    /// only the bounds changed, slots that are due and within the bounds stay due.
    ///
    /// Another trigger or time zone: `next_slot` is the first slot after `now` without an outcome
    /// (or the given one, if the specification can't be read), and `attended_from` is `now`. The
    /// old slots at or before `now` are forgotten ("the schedule was changed").
    ///
    /// Status: paused stays paused. Retired, broken, and finished with a changed `spec` become
    /// active again from `now`, or finished if the given `next_slot` is none. Finished with the
    /// same `spec` stays finished. A schedule that comes back has its `failure_count` reset.
    ///
    /// A schedule that was paused when it was retired comes back paused, with its note. The slots
    /// of the time in between enter the ledger as skipped.
    ///
    /// Rejected as [`Rejection::NameHeld`] if a transaction of the application that is still open
    /// is creating a schedule with one of the keys, or as [`Rejection::CalendarNotFound`] if one of
    /// the schedules names a calendar that does not exist. Declarations
    /// ([`Command::RegisterWorker`]) may.
    UpsertSchedules(Vec<NewSchedule>),
    /// Changes one schedule. Answer: [`Answer::Schedule`], the schedule after the change.
    ///
    /// Rejected as [`Rejection::ScheduleNotFound`], as [`Rejection::Stale`] if `revision` is given
    /// and the schedule is at another one, as [`Rejection::SlotDecided`] if it would skip a slot
    /// that has an outcome, or undo a skip of a slot before one that has, or as
    /// [`Rejection::CalendarNotFound`] if a new specification names a calendar that does not exist,
    /// and neither the former one nor the code's declaration does.
    PatchSchedule {
        /// Namespace.
        project: Arc<str>,
        /// The schedule to change.
        id: ScheduleId,
        /// Applies the patch only at this revision.
        revision: Option<i64>,
        /// The edit.
        patch: Box<Patch>,
    },
    /// Deletes a schedule, and keeps its runs and ledger. Answer: [`Answer::Done`].
    ///
    /// Its buffered and queued runs (of origin schedule or backfill) are cancelled. Running and
    /// waiting ones continue. Slots that are due are forgotten.
    ///
    /// Rejected as [`Rejection::ScheduleNotFound`], or as [`Rejection::DeclaredInCode`] while code
    /// declares it.
    DeleteSchedule {
        /// Namespace.
        project: Arc<str>,
        /// The schedule to delete.
        id: ScheduleId,
    },
    /// Commits a decision about due slots. Answer: [`Answer::Claimed`], the claimed runs.
    ///
    /// If a worker wants to know of late runs of the workflow ([`crate::model::WantedCalls`]), each
    /// created run gets a hook call, due so long after its `available_at`. Every command that
    /// writes skipped slots into the ledger records a hook call for each line, if a worker wants to
    /// know.
    ///
    /// A planned run that exists already stays as it is.
    ///
    /// Claimed runs get `token` 1, `worker`, and `started_at` (`now`, or `available_at` if that is
    /// later). The worker's heartbeat is raised in the same commit.
    ///
    /// A run of a workflow with a limit is queued instead: only [`Command::ClaimRuns`] keeps
    /// limits.
    ///
    /// The schedule's `last_slot` and `run_count` advance by the runs created.
    ///
    /// Rejected as [`Rejection::Stale`] if the schedule is gone, not active, or at another
    /// revision. Rejected as [`Rejection::WorkerGone`] if it would claim for a worker that is not
    /// registered.
    Fire {
        /// The worker that decided, and that the runs are claimed for.
        worker: WorkerId,
        /// The decision.
        plan: Box<FirePlan>,
    },
    /// Claims queued and waiting runs of these workflows that are available at `until`, ordered by
    /// `available_at`, then slot, then id. Answer: [`Answer::Claimed`].
    ///
    /// Claiming raises each run's token and the worker's heartbeat. `started_at` is set only once.
    ///
    /// A run of a workflow with a limit is claimed only while the limit has room: with this run, at
    /// most `max` of its runs are running, at most `per_key` of them with the run's key, and at
    /// most `rate` were claimed in the last period. Runs without room are passed over; they stay
    /// queued.
    ///
    /// Runs whose cancellation was requested are never claimed. Suspects ([`Run::is_suspect`]) are
    /// claimed as `suspects` says.
    ///
    /// Rejected as [`Rejection::WorkerGone`].
    ClaimRuns {
        /// Namespace.
        project: Arc<str>,
        /// The worker that claims.
        worker: WorkerId,
        /// The workflows that the worker can execute.
        workflows: Vec<Arc<str>>,
        /// Claims at most this many runs.
        limit: usize,
        /// Claims runs that are available at this instant.
        until: Timestamp,
        /// Whether a suspect may be among them.
        suspects: Suspects,
        /// The fingerprint of each workflow's code. With it, held runs ([`Completion::Held`]) that
        /// this code has not refused are claimed as well. Without it, no held run is claimed.
        codes: Option<Arc<Codes>>,
    },
    /// Sets values of a limit in place of the declared ones, beside those that were set before, or
    /// goes back to the declared ones. Answer: [`Answer::Done`].
    ///
    /// Cancels nothing: with a lower limit, runs are claimed again when fewer of them are running.
    ///
    /// Rejected as [`Rejection::LimitNotFound`], or as [`Rejection::Invalid`] if it sets a rate
    /// without a period or a period without a rate, and the limit has no rate yet.
    SetLimit {
        /// Namespace.
        project: Arc<str>,
        /// The limit to change.
        name: Arc<str>,
        /// The values to set; `None` to go back to all declared ones.
        values: Option<LimitSpec>,
    },
    /// Deletes a limit that the code no longer declares. Its workflows have no limit then, until
    /// one is declared again. Answer: [`Answer::Done`].
    ///
    /// Rejected as [`Rejection::LimitNotFound`], as [`Rejection::LimitDeclared`] if a registered
    /// worker declares it, or as [`Rejection::LimitHasRuns`] if an unfinished run counts against
    /// it.
    DeleteLimit {
        /// Namespace.
        project: Arc<str>,
        /// The limit.
        name: Arc<str>,
    },
    /// Creates a stored calendar or replaces its dates, or deletes it. Answer: [`Answer::Done`],
    /// also if there is nothing to delete.
    ///
    /// Changes no schedule: a decision reads the calendars that its schedule names.
    ///
    /// Rejected as [`Rejection::CalendarInUse`] if a schedule names the calendar to delete.
    SetCalendar {
        /// Namespace.
        project: Arc<str>,
        /// The calendar.
        name: Arc<str>,
        /// Its dates, as [`crate::model::stored_calendar::stored_dates`] has them. `None` deletes
        /// it.
        dates: Option<Json>,
    },
    /// Creates a run that no slot caused. Answer: [`Answer::Created`].
    ///
    /// If the idempotency key is in use, the answer is the run that has it.
    ///
    /// Rejected as [`Rejection::NameHeld`] if a transaction of the application that is still open
    /// is creating a run with the idempotency key, or with that of a run created together with this
    /// one.
    ///
    /// With `revokes_claims`, early claims of the schedule's coming slots are revoked first.
    ///
    /// If a worker to claim it for is given and registered, and the run is available at `now`, it
    /// is claimed as [`Command::Fire`] claims. Otherwise it is queued.
    ///
    /// The tokens of a backfilled slot's run begin where those of a run created by its schedule
    /// begin.
    ///
    /// Rejected as [`Rejection::Stale`] if `revision` is given and the schedule is at another one.
    CreateRun(Box<NewRun>),
    /// Debounces: if a run of the same project, workflow, and debounce key waits and no worker has
    /// claimed it ([`crate::model::is_replaceable`]), its payload and its priority are replaced and
    /// its start moved.
    /// Otherwise the run is created, queued for its start. Answer: [`Answer::Created`].
    ///
    /// The run starts `delay` after `now`, but at most `at_most` after the call that created it.
    ///
    /// A repetition of a call (the same id of `new`) returns the run that it created or changed,
    /// whatever became of that run, unless a newer call has changed the run since.
    ///
    /// `new` is a run without schedule, idempotency key, and worker to claim it for.
    DebounceRun {
        /// The run to create; of a run that waits, only its payload and its priority count.
        new: Box<NewRun>,
        /// Which calls belong together, and when their run starts.
        debounce: Debounce,
    },
    /// Records a step of a running run, and resets the run's interruptions. Answer:
    /// [`Answer::Done`].
    ///
    /// Recording a step that is already done changes nothing.
    ///
    /// Rejected as [`Rejection::Fenced`] if the run is not running under `token`.
    RecordStep {
        /// The run that the step belongs to.
        run: RunId,
        /// The claim under which the step ran.
        token: Token,
        /// The step, with its result or error.
        step: StepRecord,
    },
    /// Replaces the progress of a running run. Answer: [`Answer::Done`].
    ///
    /// Rejected as [`Rejection::Fenced`] if the run is not running under `token`.
    ReportProgress {
        /// The run that reports.
        run: RunId,
        /// The claim under which it executes.
        token: Token,
        /// See [`Run::progress`].
        progress: Json,
    },
    /// Makes a running run wait for the event named as the step, or decides the wait. Answer:
    /// [`Answer::Wait`], the step as it stands afterward.
    ///
    /// The first of these that applies: a step that is done stays. An event that was received makes
    /// the step done, with its payload. A deadline (`wakes_at`) that is at or before `now` makes it
    /// done, without a result. Otherwise the step waits.
    ///
    /// The deadline is that of the first command for this step; a later one does not change it.
    ///
    /// Rejected as [`Rejection::Fenced`] if the run is not running under `token`.
    AwaitEvent {
        /// The run that waits.
        run: RunId,
        /// The claim under which it waits.
        token: Token,
        /// The wait, with the deadline to use if this is the first command for it.
        step: StepRecord,
    },
    /// Sends an event to a run. Answer: [`Answer::Accepted`].
    ///
    /// An event is accepted, and recorded, if the run has no event and no step under its name, or
    /// waits for it and `now` is before the deadline. Sending an accepted event again, with its
    /// idempotency key, changes nothing and is answered alike. Any other event is not accepted.
    ///
    /// If the event was sent to a workflow and key, and another of their runs has accepted one with
    /// its name and idempotency key, nothing changes. Answer: [`Answer::AcceptedBy`].
    ///
    /// A run that waits for it becomes available at `now`, and its step is done with the payload,
    /// in the same commit.
    ///
    /// Rejected as [`Rejection::RunNotFound`], as [`Rejection::RunFinished`], as
    /// [`Rejection::RunNotDue`] if it was claimed ahead of its slot, or as
    /// [`Rejection::TooManyEvents`] if the run has [`crate::store::UNREAD_EVENTS_MAX`] events that
    /// it has not waited for.
    SendEvent(Box<NewEvent>),
    /// Completes a claim. Answer: [`Answer::Ended`].
    ///
    /// Rejected as [`Rejection::Fenced`] if the run is not running under `token`. Repeating exactly
    /// the completion that this token recorded (lost reply) returns the first answer.
    ///
    /// A finished run releases the next buffered run of its schedule (smallest slot), which becomes
    /// queued, available from the later of `now` and its own `available_at`.
    ///
    /// A run of a schedule that failed for good raises `failure_count`, and pauses the schedule
    /// when the count reaches the `pause_after_failures` of its specification. A run that succeeded
    /// resets the count.
    ///
    /// `Parked` on a run whose cancellation was requested is cancelled at once.
    ///
    /// A finished child makes its waiting parent available at `now`. So does `Parked` if an event
    /// that the run waits for was sent during the claim.
    ///
    /// With `tells`, a run that has succeeded, or failed for good, gets a hook call in the same
    /// commit. It is handed to the worker of the claim.
    ///
    /// `Skipped` deletes the run and undoes what its creation did to the schedule's `last_slot` and
    /// `run_count`. A run that has recorded a step, or that has no slot, is cancelled instead. A
    /// repeated `Skipped` is rejected as fenced, because the run is gone.
    CompleteRun {
        /// The run whose claim completes.
        run: RunId,
        /// The claim to complete.
        token: Token,
        /// The completion.
        ending: Box<Completion>,
        /// Hint that the run was seen to have neither a schedule nor a parent. A store may then
        /// complete it without checking what the completion releases. A wrong hint costs time,
        /// nothing else.
        stands_alone: bool,
        /// Whether to record a hook call about the outcome, which the worker of the claim makes.
        tells: bool,
    },
    /// Asks a run to stop. Answer: [`Answer::State`] after the change.
    ///
    /// Buffered, queued and waiting runs are cancelled at once, and release as a completion does. A
    /// running run is marked for its worker. Its unfinished children are treated likewise. A
    /// finished run stays as it is.
    ///
    /// Rejected as [`Rejection::RunNotFound`].
    CancelRun {
        /// Namespace.
        project: Arc<str>,
        /// The run to cancel.
        run: RunId,
    },
    /// Restarts a failed or cancelled run from its first unfinished step. Answer:
    /// [`Answer::State`].
    ///
    /// The run is queued at `now` with the next attempt number. Failed steps are deleted, and done
    /// steps are kept. Its progress is forgotten.
    ///
    /// A run of a backfill that has as many runs in progress as it may have is buffered instead
    /// ([`crate::model::backfill`]): it follows one of those.
    ///
    /// Rejected as [`Rejection::RunNotFound`], or as [`Rejection::RunNotFinished`] if the run has
    /// neither failed nor been cancelled.
    RetryRun {
        /// Namespace.
        project: Arc<str>,
        /// The run to retry.
        run: RunId,
    },
    /// Makes those of the given runs available at `now` that wait for a child run and for nothing
    /// else; the others stay as they are. Answer: [`Answer::Count`] of the runs woken.
    ///
    /// A run that is woken without need checks its child and waits again.
    WakeParents {
        /// Namespace.
        project: Arc<str>,
        /// Runs that [`super::StoreReads::waiting_parents`] found to be stuck.
        runs: Vec<RunId>,
    },
    /// Hands due hook calls to a worker that will make them. Answer: [`Answer::HookCalls`], those
    /// that it has now.
    ///
    /// A call that a registered worker has, or that is not due (`check_at`), is passed over. One
    /// that this worker has already is handed out again.
    ///
    /// A call about a late run is handed out if the run has not started, or started at or after
    /// `due_at`. It is deleted if the run started before, is finished without a start, or is gone.
    /// If only a claim of another worker suggests that it started, the call is looked at again at
    /// `recheck_at`. A call about the outcome of a run is deleted if the run is gone.
    ///
    /// Rejected as [`Rejection::WorkerGone`].
    TakeHookCalls {
        /// The worker that will call the hooks.
        worker: WorkerId,
        /// Ids of the calls.
        calls: Vec<Arc<str>>,
        /// When to look again at those that can't be decided yet.
        recheck_at: Timestamp,
    },
    /// Deletes hook calls that a worker has made. Answer: [`Answer::Done`].
    ///
    /// A call that another worker has by now stays.
    EndHookCalls {
        /// The worker that they were handed to.
        worker: WorkerId,
        /// Ids of the calls.
        calls: Vec<Arc<str>>,
    },
    /// Deletes finished runs (with their steps) and ledger lines older than `before`, but keeps the
    /// newest `keep` runs of each schedule. Answer: [`Answer::Count`] of the rows deleted.
    ///
    /// Also deletes finished one-off schedules that no code declares, with all of their runs and
    /// their ledger, if the slot is older than `before` and no run finished later or is unfinished.
    /// Such a schedule counts as one row.
    ///
    /// Hook calls that were to be looked at before `before` are deleted as well, and not counted.
    Prune {
        /// Namespace.
        project: Arc<str>,
        /// Deletes only what finished before this instant.
        before: Timestamp,
        /// Number of runs kept per schedule, whatever their age.
        keep: u32,
        /// Deletes at most this many rows in one call.
        limit: usize,
    },
}

/// Fingerprint of the code of each workflow.
pub type Codes = BTreeMap<Arc<str>, Arc<str>>;

/// Which suspects ([`Run::is_suspect`]) a claim may take: at most one.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Suspects {
    /// None, because the worker is already executing one.
    Never,
    /// The first suspect if it comes before all other runs, and then nothing else. The worker has
    /// no other run.
    Alone,
    /// The first suspect if it has been available since this instant, together with other runs. The
    /// worker is not free of other runs.
    Since(Timestamp),
}

/// An edit of a schedule. A field that is `None` leaves its value unchanged.
#[derive(Clone, Debug, Default)]
pub struct Patch {
    /// New specification, its trigger key, and the next slot to use if the specification can't be
    /// read. A finished schedule becomes active again if the new specification has a slot left.
    pub spec: Option<(StoredSpec, Json, Option<Timestamp>)>,
    /// New input (or none).
    pub input: Option<Option<Json>>,
    /// New tags (or none).
    pub tags: Option<Option<Json>>,
    /// New status. Resuming (paused to active) sets `attended_from` to `now` and resets
    /// `failure_count`.
    pub status: Option<ScheduleStatus>,
    /// New note (or none).
    pub note: Option<Option<Arc<str>>>,
    /// New next slot, used to skip the coming one.
    pub next_slot: Option<Option<Timestamp>>,
    /// Ledger lines that are written with a skip. Their slots get no other outcome; if one is the
    /// next slot, the slot after it becomes the next.
    pub ledger: Vec<crate::model::LedgerLine>,
    /// Slots whose skips are undone: their ledger lines are deleted, and they are slots again.
    pub unskipped: Vec<Timestamp>,
    /// A decision about the slots that are due, made for the schedule as this edit leaves it. It
    /// claims no run. Committed as [`Command::Fire`] would.
    pub fire: Option<Box<FirePlan>>,
    /// Slots that get their outcome elsewhere, so no other outcome may be decided for them.
    pub settled: Vec<Timestamp>,
}

/// The result of a command that was applied.
#[derive(Clone, PartialEq, Debug)]
pub enum Answer {
    /// Applied, with nothing to report.
    Done,
    /// Number of runs or rows affected.
    Count(u64),
    /// The upserted schedules.
    Schedules(Vec<Upserted>),
    /// The schedule after the change.
    Schedule(Box<Schedule>),
    /// The schedule is deleted.
    Deleted {
        /// Whether a run of one of its slots is claimed and has recorded nothing, so that a worker
        /// may be about to enter it.
        is_claimed: bool,
    },
    /// Runs claimed for the worker.
    Claimed(Vec<ClaimedRun>),
    /// The run, and whether this command created it.
    Created {
        /// Its id.
        run: RunId,
        /// False if the run existed before.
        is_new: bool,
        /// The run, if it was claimed as it was created.
        claimed: Option<Box<Run>>,
    },
    /// The claim completed.
    Ended {
        /// State of the run afterward.
        state: RunState,
        /// Whether the completion made another run claimable: one that waited for this run, or one
        /// that the run's limit held back.
        released: bool,
    },
    /// State of the run afterward.
    State(RunState),
    /// The step of a wait as it stands.
    Wait(Box<StepRecord>),
    /// What became of an event that was sent.
    Accepted {
        /// Whether the run has it now.
        is_accepted: bool,
        /// Whether this made the run claimable.
        woken: bool,
    },
    /// The event was sent before, and this other run of its workflow and key has accepted it.
    AcceptedBy(RunId),
    /// Hook calls that were handed to the worker.
    HookCalls(Vec<HookCall>),
    /// Decisions about declared schedules.
    Reconciled(Box<Reconciliation>),
}

/// A schedule that was upserted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Upserted {
    /// Its id.
    pub id: ScheduleId,
    /// What the command did.
    pub outcome: UpsertOutcome,
}

/// What an upsert did to a schedule.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum UpsertOutcome {
    /// Created it.
    Created,
    /// Changed it.
    Updated,
    /// Nothing: it was so already.
    Unchanged,
}

/// The result of a command.
pub type Outcome = Result<Answer, Rejection>;

/// Why a command was not applied. Final: sending the same command again does not help.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Rejection {
    /// The worker expired, deregistered, or never registered.
    #[error("the worker is no longer signed in")]
    WorkerGone,
    /// The decision was based on an older state.
    #[error("the state has changed since the decision was made")]
    Stale,
    /// Code declares the schedule, so a deletion would not last.
    #[error(
        "the schedule `{id}` is declared by the decorator of the workflow `{workflow}` in `{owner}`, which would bring it back \
         at its next start; pause it, or take `schedule=` out of the decorator"
    )]
    DeclaredInCode {
        /// Its id.
        id: ScheduleId,
        /// Its workflow.
        workflow: Arc<str>,
        /// The application that declares it.
        owner: Arc<str>,
    },
    /// The slot has an outcome already, or a later one has.
    #[error(
        "the slot {0} has been decided already: a worker has claimed it, or one after it, ahead of its time"
    )]
    SlotDecided(Timestamp),
    /// The run is not running under this token: another claim owns it, or it has completed.
    #[error("the claim on the run is no longer valid")]
    Fenced,
    /// No such schedule in this project.
    #[error("there is no schedule `{0}`")]
    ScheduleNotFound(ScheduleId),
    /// No such run in this project.
    #[error("there is no run `{0}`")]
    RunNotFound(RunId),
    /// No such limit in this project.
    #[error("there is no limit `{0}` in this project: no worker has declared it")]
    LimitNotFound(Arc<str>),
    /// A registered worker declares the limit.
    #[error(
        "the limit `{0}` is in use: a worker of `{1}` declares it. Stop that worker, or deploy its code without the \
         limit, first; a worker that was killed counts until another one has started"
    )]
    LimitDeclared(Arc<str>, Arc<str>),
    /// Unfinished runs count against the limit.
    #[error(
        "the limit `{0}` is in use: unfinished runs of the workflow `{1}` count against it. Wait until they have \
         completed, or cancel them, first"
    )]
    LimitHasRuns(Arc<str>, Arc<str>),
    /// A schedule names a calendar that does not exist.
    #[error(
        "there is no calendar `{0}` in this project: it has just been deleted, or never created; create it with \
         `polos calendars set {0} FILE`, or leave it out of `skip`"
    )]
    CalendarNotFound(Arc<str>),
    /// A schedule names the calendar.
    #[error("the calendar `{0}` is in use")]
    CalendarInUse(Arc<str>),
    /// Only a failed or cancelled run can be retried.
    #[error("the run `{0}` is {1}; only a failed or cancelled run can be retried")]
    RunNotFinished(RunId, RunState),
    /// A finished run takes no events.
    #[error("the run `{0}` is {1} and takes no more events; it was sent `{2}`")]
    RunFinished(RunId, RunState, Arc<str>),
    /// The slot of the run has not come, so it may still be revoked.
    #[error(
        "the run `{0}` takes no events yet: its slot has not come, and until then the run is deleted if its schedule \
         is changed; send the event again within a second or two"
    )]
    RunNotDue(RunId),
    /// The run has too many events that it has not waited for.
    #[error(
        "the run `{0}` has {limit} events that it has not waited for yet, the most that are kept; check the name \
         of the event",
        limit = crate::store::UNREAD_EVENTS_MAX
    )]
    TooManyEvents(RunId),
    /// A transaction of the application, which has not ended, is creating a row of the same name: a
    /// run with the same idempotency key, or a schedule with the same key.
    #[error(
        "a transaction of an application that is still open is creating a run with the same idempotency key, or a \
         schedule with the same key; try again when it has ended"
    )]
    NameHeld,
    /// The database refused the data: a value out of range, or a constraint.
    #[error("{0}")]
    Invalid(String),
}
