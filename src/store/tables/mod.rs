//! The reference state machine: what each command does to the rows, and what each query answers.
//!
//! [`Tables`] holds all rows and their indexes. Three stores use it:
//!
//! - The memory store is [`Tables`] behind a lock.
//! - PostgreSQL reads the rows that a batch of commands needs ([`read_set`]) into empty tables,
//!   applies the commands to them, and writes back the rows that they touched ([`Touched`]).
//! - SQLite reads and writes row by row, and computes each row with the same [`transitions`] and
//!   [`declarations`].
//!
//! Every map is ordered, so that equal commands give equal answers in equal order. A command checks
//! before it writes, so that a rejected one leaves no trace.

mod apply;
mod cadence_change;
mod calendars;
mod claims;
mod completion;
mod completion_print;
pub(in crate::store) mod declarations;
mod events;
pub(in crate::store) mod hook_calls;
pub(in crate::store) mod limits;
mod new_runs;
mod prune;
mod read;
#[cfg(feature = "postgres")]
pub(in crate::store) mod read_set;
mod rows;
mod schedules;
pub(in crate::store) mod transitions;
mod upserts;

pub(in crate::store) use rows::Tables;
#[cfg(feature = "postgres")]
pub(in crate::store) use rows::{EndedClaim, RunRow, Steps, Touched, WorkerRow};
