//! The interface through which the engine reaches the application's handlers.

use crate::model::{
    ClaimedRun, HookCall, LedgerLine, Run, RunId, ScheduleId, ScheduleLabel, Token, WorkerId,
};
use std::sync::Arc;
use std::time::Duration;

/// Receives what the engine decided. Calls return at once: a busy application must not block the
/// engine.
pub trait Dispatcher: Send + 'static {
    /// Runs will start in a moment: a sleeping dispatcher may wake up already.
    fn warm_up(&self) {}
    /// Start these runs, all at once, with one wake-up for the batch. Their claims and schedules
    /// were seen in the store at `confirmed_at` of the steady clock or later; `None` if they were
    /// not. See [`super::entry`] for when a handler may be entered.
    fn start(&self, runs: Vec<ClaimedRun>, confirmed_at: Option<Duration>);
    /// Stop these runs.
    fn stop(&self, stops: Vec<Stop>);
    /// These timers, set through [`super::Message::SetTimer`], have run out.
    fn fire_timers(&self, timers: Vec<u64>);
    /// Report something that an operator may want to know.
    fn emit(&self, notice: Notice);
}

/// A request to stop one run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Stop {
    /// Which.
    pub run: RunId,
    /// Under which claim.
    pub token: Token,
    /// Why.
    pub reason: StopReason,
}

/// Why a run must stop.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum StopReason {
    /// Cancellation was requested.
    Cancelled,
    /// The attempt exceeded its workflow's timeout.
    TimedOut,
    /// Another worker may own the run by now: nothing that this attempt does is recorded any more.
    LeaseLost,
}

/// An event that an operator may want to know about.
#[derive(Clone, PartialEq, Debug)]
pub enum Notice {
    /// The worker has registered, under this id.
    Registered(WorkerId),
    /// The store fails; reported once, when the outage begins.
    StoreTrouble(String),
    /// The store denies access until an operator acts; reported once per outage.
    StoreDenied(String),
    /// The store works again, after an outage of this length.
    StoreRecovered(Duration),
    /// The store is unusable for good; the engine has stopped.
    StoreLost(String),
    /// A schedule was marked broken, for this reason.
    ScheduleBroken(ScheduleId, String),
    /// Another worker expired this one; it registers again.
    LeaseLost {
        /// Runs that it held.
        held_count: usize,
    },
    /// The store has lost its newest commits; this worker registers again.
    RollbackDetected {
        /// Runs that it held.
        held_count: usize,
    },
    /// Runs of a worker that went silent were released.
    TookOver {
        /// Display name of the silent worker.
        worker: String,
        /// How many runs.
        run_count: u64,
    },
    /// A run that has interrupted its workers repeatedly is about to be executed.
    Suspect {
        /// Which.
        run: RunId,
        /// Its workflow.
        workflow: Arc<str>,
        /// Interruptions in a row.
        interruptions: u32,
        /// Whether the worker takes no other run meanwhile.
        is_alone: bool,
    },
    /// The store did not answer for this long, without failing (another process held it): slots in
    /// between follow the catch-up policy.
    StoreStalled(Duration),
    /// This worker was not watching for this long (suspended, starved): slots in between follow the
    /// catch-up policy.
    WasAway(Duration),
    /// Something about the database that an operator should know; reported once.
    Advice(String),
    /// The number of schedules whose stored next slot was wrong: new zone data, or a clock that was
    /// wrong.
    Recomputed(u64),
    /// The number of runs that waited for a child run that had already completed, and were woken.
    WokeParents(u64),
    /// These schedules were retired: the application no longer declares them, nor does a live
    /// worker.
    Retired {
        /// The application.
        app: Arc<str>,
        /// Which.
        schedules: Vec<ScheduleLabel>,
    },
    /// The application no longer declares these schedules, but another live worker does, so they
    /// stay.
    Protected {
        /// The application.
        app: Arc<str>,
        /// Which.
        schedules: Vec<ScheduleLabel>,
    },
    /// The application declares these schedules, and somebody changed them through the API: the
    /// change stays.
    Overridden {
        /// The application.
        app: Arc<str>,
        /// Which.
        schedules: Vec<ScheduleLabel>,
    },
    /// Live workers declare these schedules with newer code: the newer declaration stays.
    Outdated {
        /// The application.
        app: Arc<str>,
        /// Which.
        schedules: Vec<ScheduleLabel>,
    },
    /// An older release recorded these schedules, and the application does not declare them: kept
    /// for now.
    Adopted {
        /// The application.
        app: Arc<str>,
        /// Which.
        schedules: Vec<ScheduleLabel>,
    },
    /// Slots of one decision that were missed because no worker was running.
    Missed(Vec<MissedSlots>),
    /// Hook calls to make. [`super::Message::HookCalled`] reports each that has been made.
    HookCalls(Vec<DueCall>),
}

/// A hook call to make.
#[derive(Clone, PartialEq, Debug)]
pub struct DueCall {
    /// What to tell.
    pub call: HookCall,
    /// The run, if its outcome is told.
    pub run: Option<Box<Run>>,
}

/// Slots of one schedule that were missed because no worker was running.
#[derive(Clone, PartialEq, Debug)]
pub struct MissedSlots {
    /// Which schedule.
    pub schedule: ScheduleId,
    /// Its workflow.
    pub workflow: Arc<str>,
    /// Its key.
    pub key: Arc<str>,
    /// The slots, and the reason.
    pub line: LedgerLine,
}
