//! The domain types: plain data and its invariants. Depends on `calendar`; no clock, no store, no
//! decisions.

pub mod fire;
pub mod ids;
pub mod ledger;
pub mod missed;
pub mod policy;
pub mod run;
pub mod schedule;
pub mod spec;
pub mod step;
pub(crate) mod text;
pub mod worker;

pub use fire::{Admission, FirePlan, PlannedRun};
pub use ids::{RunId, ScheduleId, Token, WorkerId};
pub use ledger::{LedgerEntry, LedgerLine, SlotOutcome};
pub use policy::{CatchUp, Overlap};
pub use run::{ClaimedRun, Completion, NewRun, Origin, Run, RunState, SUSPECT_FROM};
pub use schedule::{Declaration, NewSchedule, PausedState, Schedule, ScheduleSpec, ScheduleStatus, Trigger};
pub use step::{StepRecord, StepState};
pub use worker::{
    BusyProcesses, DeclaredKey, Peer, Reconciliation, ScheduleLabel, WorkerEntry, WorkflowEntry,
};

/// JSON text that the engine passes through without parsing.
pub type Json = std::sync::Arc<str>;
