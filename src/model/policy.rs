//! Policies as values. What they do is decided in `plan`.

use serde::{Deserialize, Serialize};

/// What happens to a slot that comes due while an earlier run of the same schedule is unfinished.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Overlap {
    /// One run waits for the unfinished one; further slots are skipped.
    #[default]
    BufferOne,
    /// The slot is skipped.
    Skip,
    /// Every slot waits its turn.
    BufferAll,
    /// The unfinished run is cancelled, then the slot runs.
    CancelRunning,
    /// Runs go side by side.
    Allow,
}

/// What happens to slots that nobody could run on time.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CatchUp {
    /// One run, for the newest; the others are missed.
    #[default]
    Latest,
    /// The newest `max_catch_up` of them, oldest first; the others are missed.
    All,
    /// All are missed.
    None,
}
