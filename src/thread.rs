//! Threads that can be joined with a limit, so that a thread that hangs in a database call does not
//! keep the process from ending.

use crossbeam_channel::{Receiver, RecvTimeoutError};
use std::thread::{JoinHandle, ThreadId};
use std::time::Duration;

/// A running thread. Dropping it detaches the thread.
#[derive(Debug)]
pub struct Thread {
    handle: JoinHandle<()>,
    /// Disconnected when the thread ends, also by a panic.
    ended: Receiver<()>,
}

impl Thread {
    /// Starts a thread that runs `work`.
    pub fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> std::io::Result<Self> {
        let (alive, ended) = crossbeam_channel::bounded(0);
        let handle = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            let _alive = alive;
            work();
        })?;
        Ok(Self { handle, ended })
    }

    /// Identifies the thread.
    pub fn id(&self) -> ThreadId {
        self.handle.thread().id()
    }

    /// Waits until the thread ends.
    pub fn join(self) {
        // The panic hook has already reported a panic.
        let _ = self.handle.join();
    }

    /// Waits until the thread ends, for at most `limit`. Returns whether it has ended; otherwise
    /// the thread is abandoned and ends, unobserved, when its call returns.
    pub fn join_for(self, limit: Duration) -> bool {
        let has_ended = self.ended.recv_timeout(limit) != Err(RecvTimeoutError::Timeout);
        if has_ended {
            self.join();
        }
        has_ended
    }
}
