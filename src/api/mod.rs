//! What a client can ask for: schedules and runs, created, read and changed. One mechanism for callers that wait and
//! callers that are called back.

mod desk;
mod overview;
mod request;
mod runs;
mod schedules;
mod view;
mod waiters;

pub use desk::{Desk, Reply};
pub use request::{Drafts, Request};
pub use runs::random_bits;
pub use schedules::new_schedules;
pub use waiters::WaitId;
