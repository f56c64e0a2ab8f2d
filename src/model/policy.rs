//! Policies as values. `plan` implements them.

use serde::{Deserialize, Serialize};

/// How to treat a slot that comes due while an earlier run of the same schedule is unfinished.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Overlap {
    /// One run waits for the unfinished one; further slots are skipped.
    #[default]
    BufferOne,
    /// The slot is skipped.
    Skip,
    /// Every slot is buffered, and runs in order.
    BufferAll,
    /// The unfinished run is cancelled, then the slot runs.
    CancelRunning,
    /// Runs execute concurrently.
    Allow,
}

/// How to treat slots that no worker could run on time.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CatchUp {
    /// One run, for the newest slot; the others are missed.
    #[default]
    Latest,
    /// The newest `max_catch_up` slots run, oldest first; the others are missed.
    All,
    /// All are missed.
    None,
}

/// What happens to a slot on an excluded date, where it is not just skipped.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnSkip {
    /// It moves to the same local time of the next workday: a day from Monday to Friday that is not
    /// excluded.
    NextWorkday,
}

/// How the day of month and the day of week of a cron expression combine where both are restricted.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Days {
    /// Either one matches, as in Vixie's cron.
    #[default]
    Or,
    /// Both must match.
    And,
}

impl Days {
    /// Whether it is the default, which is not stored.
    pub fn is_or(&self) -> bool {
        *self == Self::Or
    }
}
