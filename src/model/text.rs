//! How states and the like are spelled in a database: the words that people see.

use super::{Origin, RunState, ScheduleStatus, SlotOutcome, StepState};
use std::sync::Arc;

macro_rules! spelled {
    ($name:ident, $kind:ident, { $($variant:ident => $text:literal),+ $(,)? }) => {
        /// The word for it.
        pub(crate) fn $name(value: $kind) -> &'static str {
            match value { $($kind::$variant => $text),+ }
        }

        impl TextEnum for $kind {
            fn from_word(word: &str) -> Option<Self> {
                match word { $($text => Some($kind::$variant),)+ _ => None }
            }
        }
    };
}

/// What can be read back from its word.
pub(crate) trait TextEnum: Sized {
    /// `None` for a word that this release doesn't know.
    fn from_word(word: &str) -> Option<Self>;
}

spelled!(status_word, ScheduleStatus, {
    Active => "active", Paused => "paused", Retired => "retired", Finished => "finished", Broken => "broken",
});
spelled!(state_word, RunState, {
    Buffered => "buffered", Queued => "queued", Running => "running", Waiting => "waiting",
    Succeeded => "succeeded", Failed => "failed", Cancelled => "cancelled",
});
spelled!(origin_word, Origin, {
    Schedule => "schedule", Trigger => "trigger", Backfill => "backfill", Invoke => "invoke", Child => "child",
});
spelled!(step_word, StepState, {
    Done => "done", Failed => "failed", Retrying => "retrying", Sleeping => "sleeping",
});
spelled!(outcome_word, SlotOutcome, { Ran => "ran", Skipped => "skipped", Missed => "missed" });

/// The state as people see it.
pub(crate) fn shown_state(state: RunState) -> &'static str {
    state_word(state.shown())
}

/// What history says of a slot's run: its state, and that interruptions are why it failed, where they are.
pub(crate) fn run_reason(state: RunState, interruptions: u32) -> Arc<str> {
    match (state, interruptions) {
        (RunState::Failed, 1) => "failed after 1 interruption".into(),
        (RunState::Failed, 2..) => format!("failed after {interruptions} interruptions").into(),
        _ => shown_state(state).into(),
    }
}
