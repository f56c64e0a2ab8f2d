//! Turns an engine with the machine's clock, on an operating-system thread of its own.

use super::core::{Engine, Next};
use super::dispatch::Dispatcher;
use super::message::Message;
use crate::clock::{Clock, Now};
use crate::store::Store;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

/// Longest wait: the wall clock may jump while we wait by the steady one, and this bounds how late we notice.
const WAIT_MAX: Duration = Duration::from_millis(200);

/// A running engine.
pub struct Driver {
    sender: Sender<Message>,
    thread: Option<JoinHandle<()>>,
}

impl Driver {
    /// Starts the thread; `on_end` is called on it when the engine is over.
    pub fn start<S: Store, D: Dispatcher>(
        engine: Engine<S, D>,
        clock: Arc<dyn Clock>,
        on_end: Box<dyn FnOnce() + Send>,
    ) -> std::io::Result<Self> {
        let (sender, receiver) = crossbeam_channel::unbounded();
        let thread = std::thread::Builder::new().name("polos-timing".to_owned()).spawn(move || {
            drive(engine, &*clock, &receiver);
            on_end();
        })?;
        Ok(Self { sender, thread: Some(thread) })
    }

    /// Tells the engine something.
    pub fn send(&self, message: Message) {
        // An engine that is over needs no messages.
        let _ = self.sender.send(message);
    }

    /// Where others may send messages.
    pub fn sender(&self) -> Sender<Message> {
        self.sender.clone()
    }

    /// Waits until the engine is over. Send [`Message::Leave`] first.
    pub fn join(&mut self) {
        if let Some(thread) = self.thread.take() {
            // A panic has been reported by its hook.
            let _ = thread.join();
        }
    }
}

fn drive<S: Store, D: Dispatcher>(mut engine: Engine<S, D>, clock: &dyn Clock, receiver: &Receiver<Message>) {
    loop {
        let began = clock.now();
        let next = engine.turn(began);
        if next.is_over {
            return;
        }
        let ended = clock.now();
        engine.note_turn_took(ended.mono.saturating_sub(began.mono));
        let first = match receiver.recv_timeout(wait(next, ended)) {
            Ok(message) => message,
            Err(RecvTimeoutError::Timeout) => continue,
            Err(RecvTimeoutError::Disconnected) => Message::Leave,
        };
        let now = clock.now();
        engine.receive(first, now);
        for message in receiver.try_iter() {
            engine.receive(message, now);
        }
    }
}

/// How long to wait at `now`.
fn wait(next: Next, now: Now) -> Duration {
    let by_mono = next.mono.saturating_sub(now.mono);
    let by_wall = next.wall.map_or(WAIT_MAX, |at| {
        Duration::from_micros(u64::try_from(at.as_micros().saturating_sub(now.wall.as_micros())).unwrap_or(0))
    });
    by_mono.min(by_wall).min(WAIT_MAX)
}
