//! From civil time to instants and back: when, in a zone, does an expression fire?
//!
//! Knows time zones and their data. Does not know the present: every function takes the instants it
//! is about.
//!
//! # The rules
//!
//! A schedule is *wild* if its minute or hour field starts with `*` ([`CronExpr::is_wild`]);
//! otherwise it is *fixed*. These are the rules of Vixie's cron as Debian ships it, made exact:
//!
//! * **R1** Wild schedules follow real time. They fire at every UTC minute whose local wall clock
//!   matches: not at all in a gap, in both passes of a repeated hour.
//! * **R2** A fixed time in a gap shorter than 3 hours fires once, at the first instant after the
//!   gap. Several such times, and a regular one at that instant, are one fire.
//! * **R3** A fixed time in a repeated period of 3 hours or less fires once, at the first pass.
//! * **R4** A fixed time in a gap of 3 hours or more does not fire.
//! * **R5** Fires are strictly increasing and on whole minutes of UTC.
//! * **R6** They depend on nothing but the expression, the zone, the start and the zone data.
//!
//! ## Whole minutes where the offset isn't
//!
//! Before about 1970 (and in Liberia until 1972) offsets had odd seconds: local mean time in New
//! York is 4 h 56 min 2 s behind UTC. R1 and R5 together say what that means: walk the minutes of
//! UTC and read the wall clock at each, as hours and minutes. So 09:00 is the first minute of UTC
//! at which the clock shows 09:00, here 09:00:58 local time, and all of this module calculates with
//! offsets and transitions taken to the minute ([`Zone`] still reports offsets to the second). Gaps
//! and repeats are measured on the same clock.
//!
//! [`CronExpr::is_wild`]: crate::cron::CronExpr::is_wild

mod explain;
mod occurrences;
mod offsets;
mod suggest;
mod timestamp;
mod tzdb;
mod union;
mod zone;

pub use explain::{Explanation, explain, notes};
pub use occurrences::{count_fires, next_fire, prev_fire};
pub use timestamp::Timestamp;
pub use tzdb::{configure_tzdb, tzdb_version, zone_names};
pub use union::{count_of_union, next_of_union, prev_of_union};
pub use zone::{Zone, ZoneError, jiff_date};

/// What the tests examine on its own.
#[doc(hidden)]
pub mod internals {
    pub use super::offsets::{push, with_fixed_shifts};
}
