//! The store conformance suite, run against every store; then the tests of each single store.
#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "test helpers; the numbers are small"
)]

#[cfg(all(feature = "sqlite", feature = "postgres"))]
mod backlog;
#[cfg(feature = "postgres")]
mod calendars;
#[cfg(feature = "postgres")]
mod commit_counters;
pub mod conformance;
#[cfg(feature = "postgres")]
mod connecting;
#[cfg(all(feature = "sqlite", feature = "postgres"))]
mod deleted_limits;
#[cfg(feature = "postgres")]
mod encoding;
#[cfg(feature = "postgres")]
mod end_point;
#[cfg(feature = "sqlite")]
mod failures;
#[cfg(all(feature = "sqlite", feature = "postgres"))]
mod filters;
pub mod fixture;
#[cfg(all(feature = "sqlite", feature = "postgres"))]
mod leftovers;
mod limited_claims;
#[cfg(feature = "postgres")]
mod locking;
mod model;
#[cfg(all(feature = "sqlite", feature = "postgres"))]
mod older_release;
#[cfg(all(feature = "sqlite", feature = "postgres"))]
mod one_off_retention;
#[cfg(feature = "sqlite")]
mod opening;
#[cfg(feature = "postgres")]
mod outages;
#[cfg(feature = "sqlite")]
mod plans;
#[cfg(feature = "postgres")]
mod pooler;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "postgres")]
mod postgres_migrations;
#[cfg(all(feature = "sqlite", feature = "postgres"))]
mod postgres_plans;
#[cfg(feature = "sqlite")]
mod probe;
#[cfg(feature = "postgres")]
mod round_trips;
#[cfg(feature = "postgres")]
mod rows_read;
#[cfg(feature = "postgres")]
pub mod server;
#[cfg(feature = "postgres")]
mod server_config;
#[cfg(feature = "postgres")]
mod shared_events;
#[cfg(feature = "sqlite")]
mod sharing;
#[cfg(feature = "sqlite")]
mod statements;
#[cfg(all(feature = "sqlite", feature = "postgres"))]
mod transfer;
#[cfg(all(feature = "sqlite", target_os = "linux"))]
mod watching;
#[cfg(all(feature = "sqlite", feature = "postgres"))]
mod without_hooks;

/// Without syncing to disk, which makes no difference here.
#[cfg(feature = "sqlite")]
fn quick() -> polos::store::SqliteOptions {
    polos::store::SqliteOptions { synchronous: polos::store::Synchronous::Normal, ..Default::default() }
}
