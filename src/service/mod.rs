//! Requests of clients: creates, reads, and changes schedules and runs. Blocking callers and
//! callers with a callback share one mechanism.

mod context;
mod overview;
mod request;
mod response;
mod run_waiters;
mod runs;
mod schedules;

pub use context::{Reply, Service};
pub use request::{Drafts, Request};
pub use run_waiters::WaitId;
pub use runs::random_bits;
pub use schedules::new_schedules;
