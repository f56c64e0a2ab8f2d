//! The door behind which handlers live.

use crate::model::{ClaimedRun, LedgerLine, RunId, ScheduleId, ScheduleLabel, Token, WorkerId};
use std::sync::Arc;
use std::time::Duration;

/// Where the engine sends what it decided. Calls return at once: an application that is busy must not stop the clock.
pub trait Dispatcher: Send + 'static {
    /// Runs will be started in a moment. Who sleeps until then may wake up already.
    fn warm_up(&self) {}
    /// Start these runs, all at once; one wake-up for the batch.
    fn start(&self, runs: Vec<ClaimedRun>);
    /// Stop these runs.
    fn stop(&self, stops: Vec<Stop>);
    /// These timers, set through [`super::Message::SetTimer`], have run out.
    fn fire_timers(&self, timers: Vec<u64>);
    /// Something that a person may want to know.
    fn emit(&self, notice: Notice);
}

/// An order to stop one run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Stop {
    /// Which.
    pub run: RunId,
    /// Under which claim.
    pub token: Token,
    /// Why.
    pub reason: StopReason,
}

/// Why a run is to stop.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum StopReason {
    /// Somebody asked for it.
    Cancelled,
    /// It took longer than its workflow allows.
    TimedOut,
    /// Another worker may own it by now: whatever it does is recorded no more.
    LeaseLost,
}

/// What a person may want to know.
#[derive(Clone, PartialEq, Debug)]
pub enum Notice {
    /// The worker has signed in, under this id.
    Registered(WorkerId),
    /// The store fails; said once, when trouble begins.
    StoreTrouble(String),
    /// The store refuses us until somebody acts; said once in an outage.
    StoreDenied(String),
    /// The store works again, after so long.
    StoreRecovered(Duration),
    /// The store can't be used any more; the engine has stopped.
    StoreLost(String),
    /// A schedule was set aside.
    ScheduleBroken(ScheduleId, String),
    /// This worker was taken for dead; it signs in anew.
    LeaseLost {
        /// Runs that it held.
        held_count: usize,
    },
    /// The store has forgotten its newest commits; this worker signs in anew.
    RollbackDetected {
        /// Runs that it held.
        held_count: usize,
    },
    /// Runs of a worker that went silent are free again.
    TookOver {
        /// Who went silent, for people.
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
        /// How often in a row.
        interruptions: u32,
        /// Whether the worker takes no other run meanwhile.
        is_alone: bool,
    },
    /// The store answered nothing for this long, and failed nothing either (somebody else held it): slots in between
    /// follow the catch-up policy.
    StoreStalled(Duration),
    /// Nobody was watching for this long (suspended, starved): slots in between follow the catch-up policy.
    WasAway(Duration),
    /// Something about the database that a person should know; said once.
    Advice(String),
    /// So many schedules come next at another time than was stored: new zone data, or a clock that was wrong.
    Recomputed(u64),
    /// So many runs waited for a child run that had ended already, and have been woken.
    WokeParents(u64),
    /// These schedules were retired: the application no longer declares them, nor does a live worker.
    Retired {
        /// The application.
        app: Arc<str>,
        /// Which.
        schedules: Vec<ScheduleLabel>,
    },
    /// The application no longer declares these schedules, but another live worker does, so they stay.
    Protected {
        /// The application.
        app: Arc<str>,
        /// Which.
        schedules: Vec<ScheduleLabel>,
    },
    /// The application declares these schedules, and somebody changed them through the API: the change stays.
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
    /// An older release recorded these schedules, and the application does not declare them: kept for now.
    Adopted {
        /// The application.
        app: Arc<str>,
        /// Which.
        schedules: Vec<ScheduleLabel>,
    },
    /// Nobody could run these slots; what one decision found.
    Missed(Vec<MissedSlots>),
}

/// Slots of one schedule that nobody could run.
#[derive(Clone, PartialEq, Debug)]
pub struct MissedSlots {
    /// Which schedule.
    pub schedule: ScheduleId,
    /// Its workflow.
    pub workflow: Arc<str>,
    /// Its key.
    pub key: Arc<str>,
    /// Which slots, and why.
    pub line: LedgerLine,
}
