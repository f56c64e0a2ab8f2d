//! The changes that a store knows how to make.

use crate::calendar::Timestamp;
use crate::model::{
    ClaimedRun, Completion, FirePlan, Json, NewRun, NewSchedule, Reconciliation, Run, RunId, RunState,
    Schedule, ScheduleId, ScheduleStatus, StepRecord, Token, WorkerEntry, WorkerId,
};
use std::collections::BTreeMap;
use std::sync::Arc;

/// One change, all-or-nothing.
///
/// **Taking back.** A worker decides slots shortly ahead of their time. A change to a schedule (`UpsertSchedules` that
/// changes its row, `PatchSchedule`, `DeleteSchedule`, a pause after failures, a `CreateRun` with `takes_back`) first takes back what was decided ahead: a running, queued or
/// buffered run with origin `schedule` and slot after `now`, in its first attempt and without a recorded step, is
/// deleted, `next_slot` is its slot again, `last_slot` its `last_slot`, `run_count` one less.
/// A worker that claimed it looks ([`super::Store::claims_stand`]) before it starts it.
///
/// **Forgotten slots.** Where a change leaves slots of an active or paused schedule that are due at `now` and not decided (its cadence
/// changes, it is deleted, it is retired), all of them that the new cadence doesn't have enter the ledger as missed, those on excluded dates as skipped.
#[derive(Clone, Debug)]
pub enum Command {
    /// Registers a worker with its workflows and its declarations, upserts its declared schedules (as
    /// [`Command::UpsertSchedules`]), and decides about schedules, status active or paused, that its application owns
    /// and it does not declare: one that no live worker declares is retired, if the worker runs all of its
    /// application. One that only an older release recorded is renamed and kept.
    /// Answer: [`Answer::Reconciled`].
    RegisterWorker(Box<WorkerEntry>),
    /// Decides again about the declared schedules of a registered worker, as [`Command::RegisterWorker`] does: the set of
    /// live workers has changed. Rejected as [`Rejection::WorkerGone`]. Answer: [`Answer::Reconciled`].
    Reconcile {
        /// As the worker registered.
        entry: Box<WorkerEntry>,
        /// Workers that count as dead while their beat is still the given one.
        silent: Vec<(WorkerId, i64)>,
    },
    /// A sign of life. Rejected as [`Rejection::WorkerGone`] when the worker was buried or never signed in.
    Heartbeat {
        /// Who lives.
        worker: WorkerId,
    },
    /// A worker signs out: its running runs become queued at `now` (attempt and token unchanged), its row goes.
    /// Answer: [`Answer::Count`] of the runs freed. Nothing to do is not an error.
    DeregisterWorker {
        /// Who leaves.
        worker: WorkerId,
    },
    /// Another worker is taken for dead: as [`Command::DeregisterWorker`], but only while its beat is still `heartbeat`.
    /// Rejected as [`Rejection::Stale`] when it has beaten since.
    ///
    /// Each of its runs whose time had come, and for which it has recorded no step since it signed in, counts the
    /// execution as interrupted ([`Run::interruptions`]). A repetition finds no runs any more, and counts nothing.
    ExpireWorker {
        /// Who is taken for dead.
        worker: WorkerId,
        /// The beat that has not moved for the lease time.
        heartbeat: i64,
        /// Whether other workers of the same process held runs: then none of its runs was alone in the process.
        shares_process: bool,
    },
    /// These claims were counted as interrupted, but the worker that held them lives: it was cut off from the database.
    /// Each count that such a claim was the newest to raise is lowered again, once. Answer: [`Answer::Done`].
    UncountInterruptions {
        /// The claims, as the worker held them.
        claims: Vec<(RunId, Token)>,
    },
    /// Creates schedules, or brings those up to date that exist for `(project, workflow, key)`; all or none.
    /// Answer: [`Answer::Schedules`], the ids in order.
    ///
    /// Existing: `spec`, `compiled_spec`, `input` are replaced; `owner` is replaced when one is given. Cadence unchanged
    /// and status active or paused: `next_slot`, `attended_from` stay. Where only the
    /// bounds changed, slots that are due and within them stay due. Another trigger or time zone: the first slot after
    /// `now` without an outcome (or the given one, where the specification can't be read), `attended_from` is `now`, and
    /// the old slots at or before `now` are forgotten ("the schedule was changed"). Paused stays paused; retired, broken, and finished with a changed `spec` become
    /// active again from `now` (or finished where the given `next_slot` is none); finished with the same spec stays.
    /// `failure_count` is reset when it comes back. One that was paused when it was retired comes back paused, with its
    /// note; slots of the time in between enter the ledger as skipped. Nothing at all is written for a row that would not change.
    UpsertSchedules(Vec<NewSchedule>),
    /// Changes one schedule. Rejected as [`Rejection::ScheduleNotFound`], or [`Rejection::Stale`] when `revision` is
    /// given and another. Answer: [`Answer::Schedule`], as it is now.
    PatchSchedule {
        /// Namespace.
        project: Arc<str>,
        /// Which.
        id: ScheduleId,
        /// Only while at this revision.
        revision: Option<i64>,
        /// What changes.
        patch: Box<Patch>,
    },
    /// Deletes a schedule, keeping its runs and ledger. Its buffered and queued runs (of origin schedule or
    /// backfill) are cancelled; running and waiting ones go on. Slots that are due are
    /// forgotten. Rejected as [`Rejection::ScheduleNotFound`], and as [`Rejection::DeclaredInCode`] while code declares
    /// it. Answer: [`Answer::Done`].
    DeleteSchedule {
        /// Namespace.
        project: Arc<str>,
        /// Which.
        id: ScheduleId,
    },
    /// Commits a decision about due slots. Rejected as [`Rejection::Stale`] when the schedule is gone, not active, or
    /// at another revision. A planned run that exists already is left as it is. Claimed runs get `token` 1,
    /// `started_at` (now, or `available_at` if that is later) and `worker`; the worker's beat is bumped with them. `last_slot`, `run_count` move on by the runs created.
    /// Rejected as [`Rejection::WorkerGone`] when it would claim for a worker that is not signed in.
    /// Answer: [`Answer::Claimed`], the claimed runs.
    Fire {
        /// Who commits.
        worker: WorkerId,
        /// The decision.
        plan: Box<FirePlan>,
    },
    /// Claims queued and waiting runs of these workflows that are available at `until`, in the order of
    /// `available_at`, then slot, then id. Token and beat are bumped; `started_at` is set once. Runs whose cancellation was requested are
    /// never claimed. Suspects ([`Run::is_suspect`]) are claimed as `suspects` says.
    /// Rejected as [`Rejection::WorkerGone`]. Answer: [`Answer::Claimed`].
    ClaimRuns {
        /// Namespace.
        project: Arc<str>,
        /// Who claims.
        worker: WorkerId,
        /// What it can execute.
        workflows: Vec<Arc<str>>,
        /// Most runs.
        limit: usize,
        /// Runs available by then.
        until: Timestamp,
        /// Whether a suspect may be among them.
        suspects: Suspects,
        /// The fingerprint of the code of each workflow, to claim held runs as well ([`Completion::Held`]): those that this
        /// code has not refused. Without it, none is claimed.
        codes: Option<Arc<Codes>>,
    },
    /// Creates a run that no slot asked for. The tokens of a backfilled slot's run begin where they do for a run that its schedule makes. Answer: [`Answer::Created`]. With an idempotency key in use, the answer is the run that has it.
    /// With `takes_back`, the coming slots of its schedule that were claimed early are taken back first. Rejected as
    /// [`Rejection::Stale`] when `revision` is given and another.
    /// With a worker to claim it for that is signed in, and available at `now`, it is claimed as [`Command::Fire`] claims;
    /// else it is queued.
    CreateRun(Box<NewRun>),
    /// Records a step of a running run, whose interruptions are then forgotten.
    /// Rejected as [`Rejection::Fenced`] when the run is not running under `token`.
    /// Recording a step that is done already changes nothing. Answer: [`Answer::Done`].
    RecordStep {
        /// Its run.
        run: RunId,
        /// The claim that speaks.
        token: Token,
        /// What to record.
        step: StepRecord,
    },
    /// Ends a claim. Rejected as [`Rejection::Fenced`] when the run is not running under `token`; a repetition of
    /// the very ending that was recorded by this token (reply lost) is answered as the first time.
    ///
    /// A finished run releases the next buffered run of its schedule (smallest slot): it becomes queued, available from the later of `now` and
    /// its own `available_at`. A run of a schedule that failed for good adds to `failure_count`, and pauses the
    /// schedule when that reaches `pause_after_failures`; one that succeeded resets it. `Parked` on a run whose cancellation was requested is cancelled at once.
    /// A finished child makes its waiting parent available at `now`.
    /// `Skipped` deletes the run and undoes what its creation did to the schedule's `last_slot` and `run_count`; a run
    /// that has recorded a step, or has no slot, is cancelled instead. Repeated, it is rejected as fenced: the run is gone.
    /// Answer: [`Answer::Ended`].
    CompleteRun {
        /// Which.
        run: RunId,
        /// The claim that speaks.
        token: Token,
        /// How it ends.
        ending: Box<Completion>,
        /// From the schedule's policy.
        pause_after_failures: Option<u32>,
        /// Said of a run that was seen to have neither a schedule nor a parent: a store may end it without a look
        /// at what its end sets free. Where it is wrong, it costs time, nothing else.
        stands_alone: bool,
    },
    /// Asks a run to stop: buffered, queued and waiting ones are cancelled at once (and release as an ending does), a
    /// running one is marked for its worker; its unfinished children likewise. A finished one stays. Rejected as [`Rejection::RunNotFound`].
    /// Answer: [`Answer::State`] after the change.
    CancelRun {
        /// Namespace.
        project: Arc<str>,
        /// Which.
        run: RunId,
    },
    /// Starts a failed or cancelled run again from its first unfinished step: queued at `now`, attempt one higher, failed steps
    /// forgotten, done steps kept. Rejected as [`Rejection::RunNotFound`], or [`Rejection::RunNotFinished`] when it has not failed and was not cancelled.
    /// Answer: [`Answer::State`].
    RetryRun {
        /// Namespace.
        project: Arc<str>,
        /// Which.
        run: RunId,
    },
    /// Makes runs available at `now` that wait for a child run and for nothing else; leaves all others as they are. A
    /// run that is woken for nothing looks at its child and waits again. Answer: [`Answer::Count`] of those woken.
    WakeParents {
        /// Namespace.
        project: Arc<str>,
        /// Runs that [`super::Store::waiting_parents`] found to be stuck.
        runs: Vec<RunId>,
    },
    /// Forgets finished runs (with their steps) and ledger lines older than `before`, but keeps the newest `keep`
    /// runs of each schedule; at most `limit` rows a call. Answer: [`Answer::Count`] of what went.
    Prune {
        /// Namespace.
        project: Arc<str>,
        /// Only what finished before.
        before: Timestamp,
        /// Runs kept per schedule whatever their age.
        keep: u32,
        /// Bound on the work.
        limit: usize,
    },
}

/// Fingerprints of code by workflow.
pub type Codes = BTreeMap<Arc<str>, Arc<str>>;

/// Which suspects ([`Run::is_suspect`]) a claim may take: one at most.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Suspects {
    /// None: the worker executes one already.
    Never,
    /// The first, if it comes before all other runs, and then nothing else: the worker has no other run.
    Alone,
    /// The first, if it has been available since then, beside other runs: the worker is not free of them.
    Since(Timestamp),
}

/// An edit of a schedule. A field that is `None` stays as it is.
#[derive(Clone, Debug, Default)]
pub struct Patch {
    /// New specification, its cadence text, and the next slot where the specification can't be read. A finished
    /// schedule is active again if the new specification has a slot left.
    pub spec: Option<(Json, Json, Option<Timestamp>)>,
    /// New input (or none).
    pub input: Option<Option<Json>>,
    /// New status. Resuming (paused to active) sets `attended_from` to `now` and resets `failure_count`.
    pub status: Option<ScheduleStatus>,
    /// New note (or none).
    pub note: Option<Option<Arc<str>>>,
    /// New next slot, for skipping the coming one.
    pub next_slot: Option<Option<Timestamp>>,
    /// A line for the ledger, with the skip. Its slot gets no other outcome.
    pub ledger: Vec<crate::model::LedgerLine>,
    /// Slots that get their outcome elsewhere: no other one is to be decided for them.
    pub settled: Vec<Timestamp>,
}

/// What a command answers.
#[derive(Clone, PartialEq, Debug)]
pub enum Answer {
    /// It happened.
    Done,
    /// It happened to so many.
    Count(u64),
    /// Ids of schedules that were put.
    Schedules(Vec<ScheduleId>),
    /// The schedule after the change.
    Schedule(Box<Schedule>),
    /// Runs claimed for the worker.
    Claimed(Vec<ClaimedRun>),
    /// The run, and whether this command created it.
    Created {
        /// Its id.
        run: RunId,
        /// False when it existed.
        is_new: bool,
        /// The run, where it was claimed as it was created.
        claimed: Option<Box<Run>>,
    },
    /// The claim ended.
    Ended {
        /// The state of the run now.
        state: RunState,
        /// Whether another run became claimable by it.
        released: bool,
    },
    /// The state of the run now.
    State(RunState),
    /// What was decided about declared schedules.
    Reconciled(Box<Reconciliation>),
}

/// How a command ended.
pub type Outcome = Result<Answer, Rejection>;

/// Why a command did not happen. Final: sending it again will not help.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Rejection {
    /// The worker was buried, has left, or never signed in.
    #[error("the worker is no longer signed in")]
    WorkerGone,
    /// The decision was made from an older state.
    #[error("the state has changed since the decision was made")]
    Stale,
    /// Code declares the schedule: a deletion would not last.
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
    /// The run is not running under this token: another claim owns it, or it has ended.
    #[error("the claim on the run is no longer valid")]
    Fenced,
    /// No such schedule in this project.
    #[error("there is no schedule `{0}`")]
    ScheduleNotFound(ScheduleId),
    /// No such run in this project.
    #[error("there is no run `{0}`")]
    RunNotFound(RunId),
    /// Only a failed or cancelled run can be tried again.
    #[error("the run `{0}` is {1}; only a failed or cancelled run can be retried")]
    RunNotFinished(RunId, RunState),
    /// The stored data refused it: a value out of range, a constraint.
    #[error("{0}")]
    Invalid(String),
}
