//! Every store does the same: one suite for all, then what only one of them can get wrong.

mod model;
#[cfg(feature = "sqlite")]
mod probe;
mod stage;
