//! Ticks an engine with the machine's clock, on an operating-system thread of its own.

use super::core::{Deadline, Engine};
use super::dispatcher::Dispatcher;
use super::message::Message;
use crate::calendar::Timestamp;
use crate::clock::{Clock, Now};
use crate::store::StoreWrites;
use crate::thread::Thread;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TryRecvError};
use std::sync::Arc;
use std::time::Duration;

/// The longest wait. The wall clock may jump while we wait by the steady clock; this bounds how
/// late we notice.
const WAIT_MAX: Duration = Duration::from_millis(200);

/// How long before held runs are due the thread is awake: the system's timers are late by a
/// twentieth of a millisecond and more. Meanwhile it yields to other threads.
const SHARP: Duration = Duration::from_micros(150);

/// How long before held runs are due the thread exercises their start, after a wait of at least
/// [`QUIET`]: processors that slept, with cold caches, are slow at first.
const WARM_UP_LEAD: Duration = Duration::from_micros(700);

/// See [`WARM_UP_LEAD`].
const QUIET: Duration = Duration::from_millis(5);

/// A running engine.
pub struct Driver {
    sender: Sender<Message>,
    thread: Option<Thread>,
}

impl Driver {
    /// Starts the thread, which calls `on_end` when the engine is over.
    pub fn start<W: StoreWrites, D: Dispatcher>(
        engine: Engine<W, D>,
        clock: Arc<dyn Clock>,
        on_end: Box<dyn FnOnce() + Send>,
    ) -> std::io::Result<Self> {
        let (sender, receiver) = crossbeam_channel::unbounded();
        let thread = Thread::spawn("polos-timing", move || {
            drive(engine, &*clock, &receiver);
            on_end();
        })?;
        Ok(Self { sender, thread: Some(thread) })
    }

    /// Sends a message to the engine.
    pub fn send(&self, message: Message) {
        // The send fails only if the engine is over and needs no messages.
        let _ = self.sender.send(message);
    }

    /// A channel for sending messages to the engine.
    pub fn sender(&self) -> Sender<Message> {
        self.sender.clone()
    }

    /// Waits until the engine is over. Send [`Message::Deregister`] first.
    pub fn join(&mut self) {
        if let Some(thread) = self.thread.take() {
            thread.join();
        }
    }

    /// Waits until the engine is over, for `limit` at most. Returns whether it is. An engine that
    /// hangs in a call to its store is left alone: it deregisters by itself if the call ever
    /// returns.
    pub fn join_for(&mut self, limit: Duration) -> bool {
        self.thread.take().is_none_or(|thread| thread.join_for(limit))
    }
}

fn drive<W: StoreWrites, D: Dispatcher>(
    mut engine: Engine<W, D>,
    clock: &dyn Clock,
    receiver: &Receiver<Message>,
) {
    loop {
        let began = clock.now();
        let next = engine.tick(began);
        if next.is_over {
            return;
        }
        let ended = clock.now();
        engine.note_tick_took(ended.mono.saturating_sub(began.mono));
        let is_near =
            |start: &Timestamp| next.wall == Some(*start) && *start <= ended.wall.saturating_add(WAIT_MAX);
        let start = engine.next_start().filter(is_near);
        let time = wait(next, ended);
        let is_quiet = start.is_some() && time >= QUIET;
        let ahead = match start {
            None => Duration::ZERO,
            Some(_) if is_quiet => WARM_UP_LEAD,
            Some(_) => SHARP,
        };
        let first = match receiver.recv_timeout(time.saturating_sub(ahead)) {
            Ok(message) => message,
            Err(RecvTimeoutError::Timeout) if is_quiet => {
                engine.warm_up_start();
                continue;
            }
            Err(RecvTimeoutError::Timeout) => {
                match start.and_then(|start| stay_awake(start, clock, receiver)) {
                    Some(message) => message,
                    None => continue,
                }
            }
            Err(RecvTimeoutError::Disconnected) => Message::Deregister,
        };
        let now = clock.now();
        engine.receive(first, now);
        for message in receiver.try_iter() {
            engine.receive(message, now);
        }
    }
}

/// Stays awake until `start`, for [`SHARP`] at most. Returns early with a message that arrives.
fn stay_awake(start: Timestamp, clock: &dyn Clock, receiver: &Receiver<Message>) -> Option<Message> {
    let began = clock.now().mono;
    loop {
        let now = clock.now();
        // Also check the steady clock: the wall clock may be set back.
        if now.wall >= start || now.mono > began + SHARP {
            return None;
        }
        match receiver.try_recv() {
            Ok(message) => return Some(message),
            Err(TryRecvError::Empty) => std::thread::yield_now(),
            Err(TryRecvError::Disconnected) => return Some(Message::Deregister),
        }
    }
}

/// How long to wait at `now`.
fn wait(next: Deadline, now: Now) -> Duration {
    let by_mono = next.mono.saturating_sub(now.mono);
    let by_wall = next.wall.map_or(WAIT_MAX, |at| {
        Duration::from_micros(u64::try_from(at.as_micros().saturating_sub(now.wall.as_micros())).unwrap_or(0))
    });
    by_mono.min(by_wall).min(WAIT_MAX)
}
