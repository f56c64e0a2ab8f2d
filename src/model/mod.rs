//! The domain types: plain data and its invariants. Depends on `calendar`; no clock, no store, no
//! decisions.

pub mod backfill;
mod cron_rules;
pub mod cron_texts;
pub mod debounce;
pub mod event;
pub mod fire;
pub mod hook;
pub mod ids;
pub mod ledger;
pub mod limit;
pub mod missed;
pub mod policy;
pub mod run;
pub mod schedule;
pub mod spec;
pub mod step;
pub mod stored_calendar;
pub mod stored_spec;
pub(crate) mod text;
mod whole_days;
pub mod worker;

pub use cron_texts::CronTexts;
pub use debounce::{Debounce, Debounced, is_replaceable};
pub use event::{EventRecord, NO_DEADLINE, NewEvent};
pub use fire::{Admission, FirePlan, PlannedRun};
pub use hook::{CallKind, HookCall, HookEvent, WaitingCalls, WantedCalls};
pub use ids::{RunId, ScheduleId, Token, WorkerId};
pub use ledger::{LedgerEntry, LedgerLine, SlotOutcome};
pub use limit::{ClaimRules, DeclaredLimit, Limit, LimitSpec, LimitStatus};
pub use policy::{CatchUp, Days, OnSkip, Overlap};
pub use run::{ClaimedRun, Completion, EntryRefusal, NewRun, Origin, Run, RunState, SUSPECT_FROM};
pub use schedule::{
    Declaration, NewSchedule, PausedState, Schedule, ScheduleSpec, ScheduleStatus, StoredCounts, Trigger,
};
pub use step::{StepRecord, StepState};
pub use stored_calendar::StoredCalendar;
pub use stored_spec::StoredSpec;
pub use worker::{
    BusyProcesses, DeclaredKey, Peer, Reconciliation, ScheduleLabel, WorkerEntry, WorkflowEntry,
};

/// JSON text that the engine passes through without parsing.
pub type Json = std::sync::Arc<str>;
