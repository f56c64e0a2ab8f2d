//! The first entry of a run's handler: how long a confirmed claim may be used for it.
//!
//! Slots are claimed ahead of their handlers, and a schedule may be deleted in between. A worker
//! enters a handler only if it has seen the claim and its schedule in the store within
//! [`CONFIRMED_FOR`]. A deletion that may have overtaken such a worker is answered only after
//! [`ENTRY_WINDOW`], so no handler is entered for the first time once it has returned.

use crate::model::ClaimedRun;
use std::time::Duration;

/// How long the deletion of a schedule waits for workers that were about to enter its runs. It is
/// longer than [`CONFIRMED_FOR`], because clocks don't run equally fast, and because the handler's
/// first line comes a moment after the last look at the clock.
pub const ENTRY_WINDOW: Duration = Duration::from_secs(1);

/// How long a worker may enter a run after it has begun to confirm its claim.
pub const CONFIRMED_FOR: Duration = Duration::from_millis(900);

/// Whether a claim that was confirmed at `confirmed_at` of the steady clock may be used at `now`.
pub fn is_confirmed(confirmed_at: Duration, now: Duration) -> bool {
    now.saturating_sub(confirmed_at) < CONFIRMED_FOR
}

/// Whether the claim proves nothing about the schedule: the run was claimed before, by a worker
/// that may have died before it entered the handler, and the schedule may be gone since.
pub fn must_be_confirmed(claimed: &ClaimedRun) -> bool {
    !claimed.is_first && claimed.run.may_be_unentered(!claimed.journal.is_empty())
}
