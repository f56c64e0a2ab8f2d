//! Replies that wait for a moment of the steady clock.

use super::context::{Done, Reply};
use crate::clock::Clock;
use crate::store::StoreError;
use crate::sync::Mutex;
use crate::thread::Thread;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use std::sync::Arc;
use std::time::Duration;

/// The replies, and the thread that waits for their moments; it starts with the first one.
pub(super) struct DelayedReplies {
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

#[derive(Default)]
enum State {
    #[default]
    Idle,
    Running {
        /// In the order of their moments: all wait equally long.
        queue: Sender<Delayed>,
        /// Disconnected when the service closes.
        is_open: Sender<()>,
        thread: Thread,
    },
    Closed,
}

struct Delayed {
    due: Duration,
    reply: Reply,
    done: Done,
}

impl DelayedReplies {
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, state: Mutex::default() }
    }

    /// Calls `done` at `due` of the steady clock, or with [`StoreError::Closed`] if the service
    /// closes before. A later call must not have an earlier moment.
    pub fn add(&self, due: Duration, reply: Reply, done: Done) {
        let delayed = Delayed { due, reply, done };
        let mut state = self.state.lock();
        if matches!(*state, State::Idle) {
            *state = match self.started() {
                Ok(running) => running,
                Err(error) => {
                    drop(state);
                    let reason = format!("no thread can be started to wait for workers: {error}");
                    return (delayed.done)(Err(StoreError::Unavailable(reason).into()));
                }
            };
        }
        let refused = match &*state {
            State::Running { queue, .. } => {
                queue.send(delayed).err().map(crossbeam_channel::SendError::into_inner)
            }
            State::Idle | State::Closed => Some(delayed),
        };
        drop(state);
        if let Some(delayed) = refused {
            (delayed.done)(Err(StoreError::Closed.into()));
        }
    }

    fn started(&self) -> std::io::Result<State> {
        let (queue, delayed) = crossbeam_channel::unbounded();
        let (open, closed) = crossbeam_channel::bounded(0);
        let clock = Arc::clone(&self.clock);
        let thread = Thread::spawn("polos-delayed", move || reply_to_all(&*clock, &delayed, &closed))?;
        Ok(State::Running { queue, is_open: open, thread })
    }

    /// Ends the thread. What still waits fails with [`StoreError::Closed`].
    pub fn close(&self) {
        let state = std::mem::replace(&mut *self.state.lock(), State::Closed);
        if let State::Running { queue, is_open, thread } = state {
            drop((queue, is_open));
            thread.join();
        }
    }
}

fn reply_to_all(clock: &dyn Clock, delayed: &Receiver<Delayed>, closed: &Receiver<()>) {
    for Delayed { due, reply, done } in delayed {
        done(if waits_until(clock, due, closed) { reply } else { Err(StoreError::Closed.into()) });
    }
}

/// Waits for the moment. Returns false if the service closes before.
fn waits_until(clock: &dyn Clock, due: Duration, closed: &Receiver<()>) -> bool {
    loop {
        let left = due.saturating_sub(clock.now().mono);
        if left.is_zero() {
            return true;
        }
        if closed.recv_timeout(left) != Err(RecvTimeoutError::Timeout) {
            return false;
        }
    }
}
