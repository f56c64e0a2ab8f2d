//! The moves of a run, as a table. Stores make these moves and no others: the simulation checks every change against it.

use crate::model::RunState;

/// What can happen to a run.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// The unfinished run ahead of it ended.
    Released,
    /// A worker claimed it.
    Claimed,
    /// Its handler sleeps durably or waits for a child.
    Parked,
    /// Its worker died, left, or gave it back; or it is to be tried again.
    Requeued,
    /// The handler returned.
    Returned,
    /// The handler raised, no retry left.
    Raised,
    /// It was stopped on request.
    Stopped,
    /// Somebody wants it tried again.
    RetriedByHand,
}

/// The state after `event`, or `None` where that can't happen in `state`.
pub fn next_state(state: RunState, event: Event) -> Option<RunState> {
    use Event as E;
    use RunState as S;
    match (state, event) {
        (S::Buffered, E::Released)
        | (S::Running, E::Requeued)
        | (S::Failed | S::Cancelled, E::RetriedByHand) => Some(S::Queued),
        (S::Queued | S::Waiting, E::Claimed) => Some(S::Running),
        (S::Running, E::Parked) => Some(S::Waiting),
        (S::Running, E::Returned) => Some(S::Succeeded),
        (S::Running, E::Raised) => Some(S::Failed),
        (S::Buffered | S::Queued | S::Waiting | S::Running, E::Stopped) => Some(S::Cancelled),
        (S::Buffered, E::Claimed | E::Parked | E::Requeued | E::Returned | E::Raised)
        | (S::Queued | S::Waiting, E::Released | E::Parked | E::Requeued | E::Returned | E::Raised)
        | (S::Running, E::Released | E::Claimed)
        | (S::Buffered | S::Queued | S::Waiting | S::Running, E::RetriedByHand)
        | (S::Succeeded, _)
        | (
            S::Failed | S::Cancelled,
            E::Released | E::Claimed | E::Parked | E::Requeued | E::Returned | E::Raised | E::Stopped,
        ) => None,
    }
}
