//! Spelling of enums in the database: the words that users see.

use super::{HookEvent, Origin, RunState, ScheduleStatus, SlotOutcome, StepState};
use std::sync::Arc;

macro_rules! spelled {
    ($name:ident, $kind:ident, { $($variant:ident => $text:literal),+ $(,)? }) => {
        /// The word for a value.
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

/// Enums that can be parsed from their word.
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
    Hook => "hook",
});
spelled!(step_word, StepState, {
    Done => "done", Failed => "failed", Retrying => "retrying", Sleeping => "sleeping",
    Waiting => "waiting",
});
spelled!(event_word, HookEvent, {
    Skipped => "skipped", Missed => "missed", Late => "late", Succeeded => "succeeded", Failed => "failed",
});
spelled!(outcome_word, SlotOutcome, { Ran => "ran", Skipped => "skipped", Missed => "missed" });

/// The state as shown to users.
pub(crate) fn shown_state(state: RunState) -> &'static str {
    state_word(state.shown())
}

/// The reason that history gives for a slot's run: its state, plus interruptions if they caused the
/// failure.
pub(crate) fn run_reason(state: RunState, interruptions: u32) -> Arc<str> {
    match (state, interruptions) {
        (RunState::Failed, 1) => "failed after 1 interruption".into(),
        (RunState::Failed, 2..) => format!("failed after {interruptions} interruptions").into(),
        _ => shown_state(state).into(),
    }
}

impl Origin {
    /// The word for it.
    pub fn word(self) -> &'static str {
        origin_word(self)
    }
}

impl HookEvent {
    /// The word for it.
    pub fn word(self) -> &'static str {
        event_word(self)
    }
}

impl StepState {
    /// The word for it.
    pub fn word(self) -> &'static str {
        step_word(self)
    }

    /// The state with this word, or `None` if there is none.
    pub fn of_word(word: &str) -> Option<Self> {
        Self::from_word(word)
    }
}
