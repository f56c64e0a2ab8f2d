//! The state transitions of a run, as a table. Stores make only these transitions; the simulation
//! checks every change against it.

use crate::model::RunState;

/// An event that can change a run's state.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// The unfinished run that it waited for finished.
    Released,
    /// A worker claimed it.
    Claimed,
    /// Its handler sleeps durably or waits for a child.
    Parked,
    /// Its worker died, deregistered, or gave it back; or it is to be retried.
    Requeued,
    /// The handler returned.
    Returned,
    /// The handler raised, no retry left.
    Raised,
    /// It was cancelled on request.
    Stopped,
    /// A user asked for a retry.
    RetriedByHand,
    /// A user asked for a retry, and its backfill has as many runs in progress as it may have.
    RetriedBehind,
}

/// The state after `event`; `None` if `event` can't happen in `state`.
pub fn next_state(state: RunState, event: Event) -> Option<RunState> {
    use Event as E;
    use RunState as S;
    match (state, event) {
        (S::Buffered, E::Released)
        | (S::Running, E::Requeued)
        | (S::Failed | S::Cancelled, E::RetriedByHand) => Some(S::Queued),
        (S::Failed | S::Cancelled, E::RetriedBehind) => Some(S::Buffered),
        (S::Queued | S::Waiting, E::Claimed) => Some(S::Running),
        (S::Running, E::Parked) => Some(S::Waiting),
        (S::Running, E::Returned) => Some(S::Succeeded),
        (S::Running, E::Raised) => Some(S::Failed),
        (S::Buffered | S::Queued | S::Waiting | S::Running, E::Stopped) => Some(S::Cancelled),
        (S::Buffered, E::Claimed | E::Parked | E::Requeued | E::Returned | E::Raised)
        | (S::Queued | S::Waiting, E::Released | E::Parked | E::Requeued | E::Returned | E::Raised)
        | (S::Running, E::Released | E::Claimed)
        | (S::Buffered | S::Queued | S::Waiting | S::Running, E::RetriedByHand | E::RetriedBehind)
        | (S::Succeeded, _)
        | (
            S::Failed | S::Cancelled,
            E::Released | E::Claimed | E::Parked | E::Requeued | E::Returned | E::Raised | E::Stopped,
        ) => None,
    }
}
