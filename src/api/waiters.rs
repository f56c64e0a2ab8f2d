//! Those who wait for a run to end. A run that ends in this process is noticed at its commit; one that ends in
//! another, by looking whether the store has changed.

use super::desk::{Done, Reply};
use super::view::{RunView, Success, to_json};
use crate::engine::commit::GroupCommit;
use crate::error::Error;
use crate::model::{Ending, RunId, RunState};
use crate::store::{Answer, Command, Rejection, Store, StoreError};
use crate::sync::{Condvar, Mutex};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

/// How often the store is asked while somebody waits for a run of another process.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// The waiting room.
pub(super) struct Waiters {
    store: GroupCommit,
    project: Arc<str>,
    state: Mutex<State>,
    wake: Condvar,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Default)]
struct State {
    waiting: BTreeMap<RunId, Vec<Done>>,
    /// Runs to look at: new arrivals, and those whose end was just committed here.
    to_check: BTreeSet<RunId>,
    /// Runs that were claimed here as they were created, and whose claim has not ended here: they need no look at arrival.
    under_way: BTreeSet<RunId>,
    /// The thread waits until it is woken, however long that takes.
    is_asleep: bool,
    is_closed: bool,
}

/// Of runs whose claim ends elsewhere nobody hears here; past so many, all are forgotten, and looked at when somebody waits for them.
const UNDER_WAY_MAX: usize = 100_000;

impl State {
    fn note_claim(&mut self, run: &RunId) {
        if self.under_way.len() >= UNDER_WAY_MAX {
            self.under_way.clear();
        }
        self.under_way.insert(run.clone());
    }
}

impl Waiters {
    pub fn start(store: GroupCommit, project: Arc<str>) -> std::io::Result<Arc<Self>> {
        let (state, wake, thread) = (Mutex::new(State::default()), Condvar::new(), Mutex::new(None));
        let this = Arc::new(Self { store, project, state, wake, thread });
        let observed = Arc::downgrade(&this);
        this.store.observe(Box::new(move |commands, outcomes| {
            if let Some(this) = Weak::upgrade(&observed) {
                this.note_ends(commands, outcomes);
            }
        }));
        let watcher = Arc::clone(&this);
        let handle =
            std::thread::Builder::new().name("polos-waiters".to_owned()).spawn(move || watcher.watch())?;
        *this.thread.lock() = Some(handle);
        Ok(this)
    }

    pub fn add(&self, run: RunId, done: Done) {
        let mut state = self.state.lock();
        if state.is_closed {
            drop(state);
            return done(Err(StoreError::Closed.into()));
        }
        state.waiting.entry(run.clone()).or_default().push(done);
        let must_look = !state.under_way.contains(&run);
        if must_look {
            state.to_check.insert(run);
        }
        if must_look || state.is_asleep {
            self.wake.notify_one();
        }
    }

    pub fn close(&self) {
        let waiting = {
            let mut state = self.state.lock();
            state.is_closed = true;
            std::mem::take(&mut state.waiting)
        };
        self.wake.notify_one();
        for done in waiting.into_values().flatten() {
            done(Err(StoreError::Closed.into()));
        }
        let thread = self.thread.lock().take();
        if let Some(thread) = thread {
            // A panic of the thread has been reported by its hook.
            let _ = thread.join();
        }
    }

    fn note_ends(&self, commands: &[Command], outcomes: &[Result<Answer, Rejection>]) {
        let mut state = self.state.lock();
        let mut answered = Vec::new();
        let mut must_look = false;
        for (command, outcome) in commands.iter().zip(outcomes) {
            if let Ok(Answer::Created { claimed: Some(run), .. }) = outcome {
                state.note_claim(&run.id);
            }
            let (Command::EndRun { run, .. } | Command::CancelRun { run, .. }) = command else { continue };
            state.under_way.remove(run);
            if let Some(reply) = success(command, outcome) {
                let waiting = state.waiting.remove(run);
                answered.extend(waiting.into_iter().flatten().map(|done| (done, reply.clone())));
            } else if outcome.is_ok() && state.waiting.contains_key(run) {
                state.to_check.insert(run.clone());
                must_look = true;
            }
        }
        if must_look {
            self.wake.notify_one();
        }
        drop(state);
        for (done, reply) in answered {
            done(Ok(reply));
        }
    }

    fn watch(&self) {
        let mut seen_mark = None;
        loop {
            let to_check = {
                let mut state = self.state.lock();
                while state.to_check.is_empty() && !state.is_closed {
                    if state.waiting.is_empty() {
                        state.is_asleep = true;
                        self.wake.wait(&mut state);
                        state.is_asleep = false;
                    } else if self.wake.wait_for(&mut state, LOOK_INTERVAL).timed_out() {
                        break;
                    }
                }
                if state.is_closed {
                    return;
                }
                std::mem::take(&mut state.to_check)
            };
            if to_check.is_empty() {
                self.look_if_changed(&mut seen_mark);
            }
            for run in to_check {
                self.check(&run);
            }
        }
    }

    fn look_if_changed(&self, seen_mark: &mut Option<u64>) {
        // While the store is in trouble nobody's wait ends; it goes on when the store does.
        let Ok(mark) = self.store.change_mark() else { return };
        if *seen_mark == Some(mark) {
            return;
        }
        *seen_mark = Some(mark);
        let waiting: Vec<RunId> = self.state.lock().waiting.keys().cloned().collect();
        for run in waiting {
            self.check(&run);
        }
    }

    fn check(&self, run: &RunId) {
        if !self.state.lock().waiting.contains_key(run) {
            return;
        }
        let reply: Reply = match self.store.run(&self.project, run) {
            Err(error) if error.is_passing() => return,
            Err(error) => Err(error.into()),
            Ok(None) => Err(Error::RunNotFound(run.to_string())),
            Ok(Some(found)) if !found.state.is_finished() => return,
            Ok(Some(found)) => Ok(to_json(&RunView::new(&found, &[]))),
        };
        let waiting = self.state.lock().waiting.remove(run);
        for done in waiting.into_iter().flatten() {
            done(reply.clone());
        }
    }
}

/// What is said of a run that has succeeded by this command: nobody needs to look it up.
fn success(command: &Command, outcome: &Result<Answer, Rejection>) -> Option<String> {
    let Command::EndRun { ending, .. } = command else { return None };
    match (&**ending, outcome) {
        (Ending::Succeeded { result }, Ok(Answer::Ended { state: RunState::Succeeded, .. })) => {
            Some(to_json(&Success { status: RunState::Succeeded, result: result.as_deref() }))
        }
        _ => None,
    }
}
