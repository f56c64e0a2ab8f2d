//! Requests of clients: creates, reads, and changes schedules and runs. Blocking callers and
//! callers with a callback share one mechanism. Also opens databases and starts workers,
//! if both databases are compiled in.

mod backfills;
mod calendars;
mod context;
#[cfg(all(feature = "sqlite", feature = "postgres"))]
mod database;
mod delayed;
mod entry;
mod events;
#[cfg(all(feature = "sqlite", feature = "postgres"))]
mod hints;
mod limits;
#[cfg(all(feature = "sqlite", feature = "postgres"))]
pub mod monitor;
mod overview;
mod request;
mod response;
mod run_waiters;
mod runs;
mod schedule_runs;
mod schedules;
mod skips;
mod starts;
mod transactions;
#[cfg(all(feature = "sqlite", feature = "postgres"))]
mod worker;
#[cfg(all(feature = "sqlite", feature = "postgres"))]
mod worker_setup;

pub use context::{Reply, Service};
#[cfg(all(feature = "sqlite", feature = "postgres"))]
pub use database::{Database, DatabaseOptions};
pub use request::{Drafts, Request};
pub use response::wait_response;
pub use run_waiters::WaitId;
pub use runs::random_bits;
pub use schedules::new_schedules;
pub use starts::{DebounceOptions, Invocation, Start};
#[cfg(all(feature = "sqlite", feature = "postgres"))]
pub use worker::{Claim, Tell, Worker, WorkerEvents};
#[cfg(all(feature = "sqlite", feature = "postgres"))]
pub use worker_setup::WorkerSetup;
