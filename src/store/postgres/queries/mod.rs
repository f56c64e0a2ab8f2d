//! The statements. The comment above each says what it guarantees and, in parentheses, which
//! indexes serve it.
//!
//! `tests/it/store/postgres_plans.rs` has the server plan every statement and fails if the server
//! uses other indexes than the comment names, or if the comment names none. So only this module
//! makes [`Sql`]: either a constant, or, for the few statements that are put together at run time,
//! a [`Composed`] name that the test must exercise.
//!
//! `@` stands for the schema, quoted, with its dot.

use crate::store::row_reader::{run_columns, schedule_columns};
use std::borrow::Cow;

/// A statement and its name.
#[derive(Clone, Debug)]
pub(in crate::store) struct Sql {
    pub name: &'static str,
    pub text: Cow<'static, str>,
}

impl Sql {
    const fn constant(name: &'static str, text: &'static str) -> Self {
        Self { name, text: Cow::Borrowed(text) }
    }
}

/// The name of statements that are put together at run time.
pub(in crate::store) struct Composed(&'static str);

impl Composed {
    /// Gives the text of a statement this name.
    pub fn of(&self, text: String) -> Sql {
        Sql { name: self.0, text: Cow::Owned(text) }
    }
}

macro_rules! statements {
    ($($(#[$doc:meta])* $name:ident = $sql:expr;)+) => {
        $($(#[$doc])* pub(in crate::store) const $name: Sql =
            Sql::constant(stringify!($name), $sql);)+

        /// All constant statements of this file.
        pub(super) const ALL: &[Sql] = &[$($name),+];
    };
}

macro_rules! composed {
    ($($(#[$doc:meta])* $name:ident;)+) => {
        $($(#[$doc])* pub(in crate::store) const $name: Composed =
            Composed(stringify!($name));)+
    };
}

/// Names of columns, separated by commas.
macro_rules! names {
    ($first:ident $(, $name:ident)*) => {
        concat!(stringify!($first) $(, ", ", stringify!($name))*)
    };
}

/// Assignments of the columns of a table `w` to columns of the same name.
macro_rules! assignments {
    ($first:ident $(, $name:ident)*) => {
        concat!(
            stringify!($first), " = w.", stringify!($first)
            $(, ", ", stringify!($name), " = w.", stringify!($name))*
        )
    };
}

/// Arrays as rows, from the numbers and types of their parameters; the alias names the columns. A
/// function in `FROM` would copy all of them first, which costs a fifth of an insertion.
macro_rules! rows {
    ($first:literal $kind:ident $(, $number:literal $kinds:ident)*) => {
        concat!(
            "(SELECT unnest($", $first, "::", stringify!($kind), "[])"
            $(, ", unnest($", $number, "::", stringify!($kinds), "[])")*, ")"
        )
    };
}

/// The same, and each row's place as the last column.
macro_rules! numbered_rows {
    ($first:literal $kind:ident $(, $number:literal $kinds:ident)*) => {
        concat!(
            "(SELECT unnest($", $first, "::", stringify!($kind), "[])"
            $(, ", unnest($", $number, "::", stringify!($kinds), "[])")*,
            ", generate_subscripts($", $first, ", 1))"
        )
    };
}

macro_rules! run_row_columns {
    () => {
        "r.no, r.child_ended, r.ended_token, r.ended_print, r.ended_state, r.ended_released, \
         r.interrupted_token, r.debounce_key, r.debounce_until, r.debounce_call"
    };
}

/// The columns of a worker `w`, as [`super::rows::Columns::worker`] reads them.
macro_rules! worker_columns {
    () => {
        concat!(peer_columns!(), ", w.workflows")
    };
}

macro_rules! state {
    () => {
        "r.state || ''"
    };
}

/// The workflow `w.id` has no limit.
macro_rules! is_unlimited {
    ($id:literal) => {
        concat!(
            "NOT EXISTS (SELECT FROM @workflow f JOIN @run_limit l ON l.project = f.project \
             AND l.name = f.limit_name WHERE f.project = $1 AND f.id = ",
            $id,
            " \
             AND (f.limit_name IS NOT NULL OR f.priority > 0))"
        )
    };
}

mod calendars;
mod commits;
mod events;
mod hook_calls;
mod limits;
pub(super) mod plans;
mod reads;
mod transaction;
#[cfg(feature = "sqlite")]
mod transfer;

pub(in crate::store) use calendars::*;
pub(in crate::store) use commits::*;
pub(in crate::store) use events::*;
pub(in crate::store) use hook_calls::*;
pub(in crate::store) use limits::*;
pub(in crate::store) use reads::*;
pub(in crate::store) use transaction::*;
#[cfg(feature = "sqlite")]
pub(in crate::store) use transfer::*;

/// Columns of a schedule, as `RowReader::schedule` reads them.
pub(super) const SCHEDULE_COLUMNS: &str = schedule_columns!();

/// Columns of a run, as `RowReader::run` reads them.
pub(super) const RUN_COLUMNS: &str = run_columns!();

/// The same without the columns that never change and may be large.
pub(super) const LIGHT_RUN_COLUMNS: &str = "r.id, r.project, r.workflow, r.key, r.schedule_id, r.slot, r.last_slot, r.upcoming, r.timezone, \
     r.origin, NULL::text, NULL::text, r.state, r.attempt, r.token, r.worker, r.available_at, \
     r.created_at, r.started_at, r.finished_at, r.cancel_requested, r.result, r.error, r.parent, \
     r.idempotency_key, r.interruptions, r.interrupted_alone, r.note, r.progress, \
     r.refused_by, r.limit_name, r.priority";

/// The columns before those of a run, as [`super::rows::Columns::run_row`] reads them.
pub(super) const RUN_ROW_COLUMNS: &str = run_row_columns!();

/// The state of a run that another column finds. Written like this, the state matches no partial
/// index. Otherwise a plan made while no run was in that state would read all runs in it later.
pub(super) const STATE: &str = state!();

/// All constant statements, and those of a transfer.
pub(super) fn all() -> Vec<Sql> {
    let all = reads::ALL.iter().chain(commits::ALL).chain(events::ALL).chain(hook_calls::ALL);
    let all = all.chain(calendars::ALL).chain(limits::ALL).chain(transaction::ALL).cloned();
    #[cfg(feature = "sqlite")]
    let all = all.chain(transfer::ALL.iter().cloned()).chain(transfer::all_of_tables());
    all.collect()
}
