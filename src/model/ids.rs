//! Identifiers. Each kind has its own type, so that a run id can't be passed as a schedule id.

use crate::calendar::Timestamp;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The identifier as stored and shown.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(text.into())
            }
        }
        impl From<String> for $name {
            fn from(text: String) -> Self {
                Self(text.into())
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

text_id!(
    /// A schedule: `sch_`, its creation time, and a random part. The same `(workflow, key)` keeps
    /// its id for life.
    ScheduleId
);
text_id!(
    /// A run. A slot's run id derives from `(schedule, slot)`, so two workers can only create the
    /// same run.
    RunId
);
text_id!(
    /// A worker process, new at every start: a restarted process is a different worker.
    WorkerId
);

/// The alphabet of generated parts, in order of value: no vowels (no words), no look-alike
/// characters.
const ALPHABET: &[u8; 30] = b"0123456789bcdfghjkmnpqrstvwxyz";

/// Characters needed for [`dated`].
const DATED_LENGTH: usize = 20;

/// Encodes with the most significant character first, so texts sort like their numbers.
fn spell(mut bits: u128, length: usize) -> String {
    let mut characters = vec![ALPHABET[0]; length];
    for character in characters.iter_mut().rev() {
        *character = ALPHABET[(bits % 30) as usize];
        bits /= 30;
    }
    characters.into_iter().map(char::from).collect()
}

/// The millisecond (42 bits, until the year 2109) and 56 random bits. Ids created at about the same
/// time sort together, so a database that inserts a hundred thousand at once writes adjacent index
/// pages instead of a random one for each.
fn dated(at: Timestamp, random: u64) -> u128 {
    let millis = at.as_micros().div_euclid(1_000).cast_unsigned() & ((1 << 42) - 1);
    u128::from(millis) << 56 | u128::from(random & ((1 << 56) - 1))
}

impl ScheduleId {
    /// An id for creation time `at`, with 56 random bits.
    pub fn new(at: Timestamp, random: u64) -> Self {
        Self(format!("sch_{}", spell(dated(at, random), DATED_LENGTH)).into())
    }
}

impl WorkerId {
    /// From 128 random bits.
    pub fn from_random(bits: u128) -> Self {
        Self(format!("wkr_{}", spell(bits, 16)).into())
    }
}

impl RunId {
    /// An id for a run that no slot created, with creation time `at` and 56 random bits.
    pub fn new(at: Timestamp, random: u64) -> Self {
        Self(format!("run_{}", spell(dated(at, random), DATED_LENGTH)).into())
    }

    /// The id of the one run of `slot` of `schedule`: the schedule's part, then the slot in
    /// microseconds since the epoch.
    pub fn of_slot(schedule: &ScheduleId, slot: Timestamp) -> Self {
        let body = schedule.0.strip_prefix("sch_").unwrap_or(&schedule.0);
        Self(format!("run_{body}_{}", slot.as_micros()).into())
    }

    /// Whether this can be the id of a slot's run. Such a run has a schedule and no parent.
    pub fn may_be_of_slot(&self) -> bool {
        self.0.rsplit_once('_').is_some_and(|(body, slot)| body != "run" && slot.parse::<i64>().is_ok())
    }
}

impl RunId {
    /// The id of the run with which a schedule begins (`run_on_create`).
    pub fn of_creation(schedule: &ScheduleId) -> Self {
        let body = schedule.0.strip_prefix("sch_").unwrap_or(&schedule.0);
        Self(format!("run_{body}_created").into())
    }
}

/// The fencing token of a claim. Grows with every claim of a run; a write that carries an older
/// token changes nothing.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Token(pub i64);

impl Token {
    /// The token of a run that was never claimed.
    pub const NONE: Token = Token(0);

    /// The token of the next claim.
    #[must_use]
    pub fn next(self) -> Token {
        Token(self.0 + 1)
    }
}
