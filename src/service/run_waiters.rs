//! Those who wait for a run to end. A run that ends in this process is noticed at its commit; one that ends in
//! another, by looking whether the store has changed.

use super::context::{Done, Reply};
use super::response::{RunResponse, Success, to_json};
use crate::engine::group_commit::GroupCommit;
use crate::error::Error;
use crate::model::{Completion, RunId, RunState};
use crate::store::{Answer, Command, Rejection, Store, StoreError};
use crate::sync::{Condvar, Mutex};
use crate::thread::Thread;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Weak};
use std::time::Duration;

/// How often the store is asked while somebody waits for a run of another process.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// The waiting room.
pub(super) struct RunWaiters {
    store: GroupCommit,
    project: Arc<str>,
    state: Mutex<State>,
    wake: Condvar,
    thread: Mutex<Option<Thread>>,
}

/// Names one wait, so that a caller who gives up can withdraw it.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct WaitId(pub u64);

#[derive(Default)]
struct State {
    waiting: BTreeMap<RunId, Vec<(WaitId, Done)>>,
    /// The run of each wait: a wait is withdrawn by its id alone.
    run_of_wait: BTreeMap<WaitId, RunId>,
    last_wait: u64,
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

    fn add(&mut self, run: RunId, done: Done) -> WaitId {
        self.last_wait += 1;
        let wait = WaitId(self.last_wait);
        self.run_of_wait.insert(wait, run.clone());
        self.waiting.entry(run).or_default().push((wait, done));
        wait
    }

    /// Removes and returns the callbacks of everyone who waits for `run`.
    fn take(&mut self, run: &RunId) -> Vec<Done> {
        let waits = self.waiting.remove(run).unwrap_or_default();
        waits
            .into_iter()
            .map(|(wait, done)| {
                self.run_of_wait.remove(&wait);
                done
            })
            .collect()
    }

    /// Removes one wait. The caller drops its callback after the lock is released.
    fn withdraw(&mut self, wait: WaitId) -> Option<Done> {
        let run = self.run_of_wait.remove(&wait)?;
        let waits = self.waiting.get_mut(&run)?;
        let place = waits.iter().position(|(id, _)| *id == wait)?;
        let (_, done) = waits.swap_remove(place);
        if waits.is_empty() {
            self.waiting.remove(&run);
            self.to_check.remove(&run);
        }
        Some(done)
    }
}

impl RunWaiters {
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
        let thread = Thread::spawn("polos-waiters", move || watcher.watch())?;
        *this.thread.lock() = Some(thread);
        Ok(this)
    }

    /// Calls `done` when `run` has ended. The id is for [`Self::withdraw`]; `None` where the answer was given at once.
    pub fn add(&self, run: RunId, done: Done) -> Option<WaitId> {
        let mut state = self.state.lock();
        if state.is_closed {
            drop(state);
            done(Err(StoreError::Closed.into()));
            return None;
        }
        let wait = state.add(run.clone(), done);
        let must_look = !state.under_way.contains(&run);
        if must_look {
            state.to_check.insert(run);
        }
        if must_look || state.is_asleep {
            self.wake.notify_one();
        }
        Some(wait)
    }

    /// Forgets a wait whose caller has given up: neither its callback nor what that holds (an event loop, its
    /// descriptors) may stay until the run ends. Does nothing where the answer was given already.
    pub fn withdraw(&self, wait: WaitId) {
        let withdrawn = self.state.lock().withdraw(wait);
        // Outside of the lock: dropping the callback may run code of the interpreter.
        drop(withdrawn);
    }

    /// How many waits are open.
    pub fn count(&self) -> usize {
        self.state.lock().run_of_wait.len()
    }

    /// Tells all who wait that the client is closed. Returns whether the thread has ended within `limit`.
    pub fn close_within(&self, limit: Duration) -> bool {
        let waiting = {
            let mut state = self.state.lock();
            state.is_closed = true;
            state.run_of_wait.clear();
            std::mem::take(&mut state.waiting)
        };
        self.wake.notify_one();
        for (_, done) in waiting.into_values().flatten() {
            done(Err(StoreError::Closed.into()));
        }
        let thread = self.thread.lock().take();
        thread.is_none_or(|thread| thread.join_for(limit))
    }

    fn note_ends(&self, commands: &[Command], outcomes: &[Result<Answer, Rejection>]) {
        let mut state = self.state.lock();
        let mut answered = Vec::new();
        let mut must_look = false;
        for (command, outcome) in commands.iter().zip(outcomes) {
            if let Ok(Answer::Created { claimed: Some(run), .. }) = outcome {
                state.note_claim(&run.id);
            }
            let (Command::CompleteRun { run, .. } | Command::CancelRun { run, .. }) = command else {
                continue;
            };
            state.under_way.remove(run);
            if let Some(reply) = success(command, outcome) {
                answered.extend(state.take(run).into_iter().map(|done| (done, reply.clone())));
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
                if !self.check(&run) {
                    seen_mark = None;
                }
            }
        }
    }

    fn look_if_changed(&self, seen_mark: &mut Option<u64>) {
        // While the store is in trouble nobody's wait ends; it goes on when the store does.
        let Ok(mark) = self.store.change_mark() else { return };
        if *seen_mark == Some(mark) {
            return;
        }
        let waiting: Vec<RunId> = self.state.lock().waiting.keys().cloned().collect();
        let mut has_seen_all = true;
        for run in waiting {
            has_seen_all &= self.check(&run);
        }
        // A run that could not be read may have ended: look again, even if nothing changes any more.
        *seen_mark = has_seen_all.then_some(mark);
    }

    /// Answers those who wait for `run` if it has ended. Returns whether the store could be read.
    fn check(&self, run: &RunId) -> bool {
        if !self.state.lock().waiting.contains_key(run) {
            return true;
        }
        let reply: Reply = match self.store.run(&self.project, run) {
            Err(error) if error.is_passing() => return false,
            Err(error) => Err(error.into()),
            Ok(None) => Err(Error::RunNotFound(run.to_string())),
            Ok(Some(found)) if !found.state.is_finished() => return true,
            Ok(Some(found)) => Ok(to_json(&RunResponse::new(&found, &[]))),
        };
        let waiting = self.state.lock().take(run);
        for done in waiting {
            done(reply.clone());
        }
        true
    }
}

/// What is said of a run that has succeeded by this command: nobody needs to look it up.
fn success(command: &Command, outcome: &Result<Answer, Rejection>) -> Option<String> {
    let Command::CompleteRun { ending, .. } = command else { return None };
    match (&**ending, outcome) {
        (Completion::Succeeded { result }, Ok(Answer::Ended { state: RunState::Succeeded, .. })) => {
            Some(to_json(&Success { status: RunState::Succeeded, result: result.as_deref() }))
        }
        _ => None,
    }
}
