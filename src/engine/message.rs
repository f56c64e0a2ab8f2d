//! Messages to an engine.

use super::permits::Permit;
use crate::model::{ClaimedRun, RunId, Token};
use crate::store::{Answer, Command, Effect, Rejection};
use std::sync::Arc;
use std::time::Duration;

/// A message to the engine from the application or the writing thread.
#[derive(Debug)]
pub enum Message {
    /// A handler has returned: its permit is free, and its completion is on the way to the store.
    Returned {
        /// Which run.
        run: RunId,
        /// Under which claim.
        token: Token,
    },
    /// The completion of a run is durable, or was rejected because the claim is lost.
    Settled {
        /// Which run.
        run: RunId,
        /// Under which claim.
        token: Token,
        /// Whether the store accepted the claim's token.
        is_accepted: bool,
        /// Whether this may leave more to claim: the run again, one queued behind it, or its
        /// parent.
        leaves_work: bool,
    },
    /// A step was rejected because the claim is lost.
    Fenced {
        /// Which run.
        run: RunId,
        /// Under which claim.
        token: Token,
    },
    /// A run that was a suspect has recorded a step.
    Progressed {
        /// Which run.
        run: RunId,
        /// Under which claim.
        token: Token,
    },
    /// A run was created in this process and claimed by the same commit.
    Claimed {
        /// The run.
        run: Box<ClaimedRun>,
        /// The permit that was reserved for it.
        permit: Permit,
    },
    /// A handler waits for another run, or for a long time: its permit is free meanwhile.
    Blocked {
        /// Which run.
        run: RunId,
        /// Under which claim.
        token: Token,
    },
    /// A handler continues after [`Self::Blocked`]. It takes its permit back at once, free or not.
    Unblocked {
        /// Which run.
        run: RunId,
        /// Under which claim.
        token: Token,
    },
    /// A run was added in this process.
    Added,
    /// Something else was changed in this process.
    Changed,
    /// Rollback detected: the store has lost its newest commits.
    RollbackDetected,
    /// Fire timer `id` after `delay`.
    SetTimer {
        /// Chosen by the sender.
        id: u64,
        /// From now.
        delay: Duration,
    },
    /// The completion of a run has recorded this hook call for the worker of its claim, which makes
    /// it now. Sent before [`Self::Settled`].
    HookHeld {
        /// Which run.
        run: RunId,
        /// Under which claim.
        token: Token,
        /// The call.
        call: Arc<str>,
    },
    /// The application has made this hook call.
    HookCalled(Arc<str>),
    /// Take no more work; active runs continue.
    Drain,
    /// Deregister, giving back all held runs, and stop.
    Deregister,
}

impl Message {
    /// The message for a command that was committed in this process, if it may have changed what
    /// engines have to do next. An engine knows its own commands, and learns of a run that was
    /// claimed at its creation by [`Self::Claimed`].
    pub fn news_of(command: &Command, outcome: &Result<Answer, Rejection>) -> Option<Self> {
        let is_own = match command {
            Command::Fire { .. } => true,
            // A free permit of a limit, or a run that was waiting, may be for another worker.
            Command::CompleteRun { .. } => !matches!(outcome, Ok(Answer::Ended { released: true, .. })),
            _ => false,
        };
        if is_own {
            return None;
        }
        match command.effect(outcome.as_ref().ok()) {
            Effect::Nothing => None,
            Effect::AddsRuns => Some(Self::Added),
            Effect::ChangesSchedules => Some(Self::Changed),
        }
    }

    /// The message for the completion of a run; `outcome` is `None` if the store could not be
    /// asked.
    pub fn settled(
        run: RunId,
        token: Token,
        is_skipped: bool,
        outcome: Option<&Result<Answer, Rejection>>,
    ) -> Self {
        match outcome {
            Some(Ok(Answer::Ended { state, released })) => {
                // A skipped slot may give its schedule another next slot.
                let leaves_work = is_skipped || *released || !state.is_finished();
                Self::Settled { run, token, is_accepted: true, leaves_work }
            }
            _ => Self::Settled { run, token, is_accepted: false, leaves_work: true },
        }
    }
}
