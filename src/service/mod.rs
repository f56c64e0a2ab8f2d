//! What a client can ask for: schedules and runs, created, read and changed. One mechanism for callers that wait and
//! callers that are called back.

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
