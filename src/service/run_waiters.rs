//! Answers callers that wait for a run to finish. A run that finishes in this process is noticed
//! when its completion commits; one that finishes in another process, by polling the store's change
//! mark.

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

/// Polling interval while a caller waits for a run that another process executes.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// The callers that wait for a run to finish, and the thread that polls for them.
pub(super) struct RunWaiters {
    store: GroupCommit,
    project: Arc<str>,
    state: Mutex<State>,
    wake: Condvar,
    thread: Mutex<Option<Thread>>,
}

/// Identifies one wait, so that a caller that gives up can withdraw it.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct WaitId(pub u64);

#[derive(Default)]
struct State {
    waiting: BTreeMap<RunId, Vec<(WaitId, Done)>>,
    /// A wait is withdrawn by its id alone, so its run has to be found from the id.
    run_of_wait: BTreeMap<WaitId, RunId>,
    last_wait: u64,
    /// Runs to read: those of new waits, and those whose completion was just committed here.
    to_check: BTreeSet<RunId>,
    /// Runs claimed here at creation whose claim is still open here: a new wait on one need not
    /// read the store.
    claimed_here: BTreeSet<RunId>,
    /// The thread waits without a timeout until it is notified.
    is_asleep: bool,
    is_closed: bool,
}

/// Bounds `claimed_here`: a claim that ends in another process is never reported here. Past this
/// many, all entries are dropped, and such a run is read when a caller waits for it.
const CLAIMED_HERE_MAX: usize = 100_000;

impl State {
    fn note_claim(&mut self, run: &RunId) {
        if self.claimed_here.len() >= CLAIMED_HERE_MAX {
            self.claimed_here.clear();
        }
        self.claimed_here.insert(run.clone());
    }

    fn add(&mut self, run: RunId, done: Done) -> WaitId {
        self.last_wait += 1;
        let wait = WaitId(self.last_wait);
        self.run_of_wait.insert(wait, run.clone());
        self.waiting.entry(run).or_default().push((wait, done));
        wait
    }

    /// Removes and returns the callbacks of all callers that wait for `run`.
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

    /// Removes one wait. The caller must drop its callback after releasing the lock.
    fn withdraw(&mut self, wait: WaitId) -> Option<Done> {
        let run = self.run_of_wait.remove(&wait)?;
        let waits = self.waiting.get_mut(&run)?;
        let position = waits.iter().position(|(id, _)| *id == wait)?;
        let (_, done) = waits.swap_remove(position);
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
                this.on_commit(commands, outcomes);
            }
        }));
        let watcher = Arc::clone(&this);
        let thread = Thread::spawn("polos-waiters", move || watcher.watch())?;
        *this.thread.lock() = Some(thread);
        Ok(this)
    }

    /// Calls `done` when `run` has finished. The id is for [`Self::withdraw`]; `None` if the answer
    /// was given at once.
    pub fn add(&self, run: RunId, done: Done) -> Option<WaitId> {
        let mut state = self.state.lock();
        if state.is_closed {
            drop(state);
            done(Err(StoreError::Closed.into()));
            return None;
        }
        let wait = state.add(run.clone(), done);
        let must_check = !state.claimed_here.contains(&run);
        if must_check {
            state.to_check.insert(run);
        }
        if must_check || state.is_asleep {
            self.wake.notify_one();
        }
        Some(wait)
    }

    /// Forgets a wait whose caller has given up, so that its callback and whatever that holds (an
    /// event loop, its descriptors) don't stay until the run finishes. Does nothing if the wait was
    /// answered already.
    pub fn withdraw(&self, wait: WaitId) {
        let withdrawn = self.state.lock().withdraw(wait);
        // Outside of the lock: dropping the callback may run code of the interpreter.
        drop(withdrawn);
    }

    /// Number of open waits.
    pub fn count(&self) -> usize {
        self.state.lock().run_of_wait.len()
    }

    /// Fails all open waits with `Closed`. Returns whether the thread has ended within `limit`.
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

    fn on_commit(&self, commands: &[Command], outcomes: &[Result<Answer, Rejection>]) {
        let mut state = self.state.lock();
        let mut answered = Vec::new();
        let mut must_check = false;
        for (command, outcome) in commands.iter().zip(outcomes) {
            if let Ok(Answer::Created { claimed: Some(run), .. }) = outcome {
                state.note_claim(&run.id);
            }
            let (Command::CompleteRun { run, .. } | Command::CancelRun { run, .. }) = command else {
                continue;
            };
            state.claimed_here.remove(run);
            if let Some(reply) = success(command, outcome) {
                answered.extend(state.take(run).into_iter().map(|done| (done, reply.clone())));
            } else if outcome.is_ok() && state.waiting.contains_key(run) {
                state.to_check.insert(run.clone());
                must_check = true;
            }
        }
        if must_check {
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
                    } else if self.wake.wait_for(&mut state, POLL_INTERVAL).timed_out() {
                        break;
                    }
                }
                if state.is_closed {
                    return;
                }
                std::mem::take(&mut state.to_check)
            };
            if to_check.is_empty() {
                self.poll_if_changed(&mut seen_mark);
            }
            for run in to_check {
                if !self.check(&run) {
                    seen_mark = None;
                }
            }
        }
    }

    fn poll_if_changed(&self, seen_mark: &mut Option<u64>) {
        // While the store fails, no wait can be answered; polling resumes when the store recovers.
        let Ok(mark) = self.store.change_mark() else { return };
        if *seen_mark == Some(mark) {
            return;
        }
        let waiting: Vec<RunId> = self.state.lock().waiting.keys().cloned().collect();
        let mut has_read_all = true;
        for run in waiting {
            has_read_all &= self.check(&run);
        }
        // A run that could not be read may have finished: read again even if nothing changes any
        // more.
        *seen_mark = has_read_all.then_some(mark);
    }

    /// Answers the callers that wait for `run` if it has finished. Returns whether the store could
    /// be read.
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

/// The answer for a run that this command completes with success; it needs no read of the store.
fn success(command: &Command, outcome: &Result<Answer, Rejection>) -> Option<String> {
    let Command::CompleteRun { ending, .. } = command else { return None };
    match (&**ending, outcome) {
        (Completion::Succeeded { result }, Ok(Answer::Ended { state: RunState::Succeeded, .. })) => {
            Some(to_json(&Success { status: RunState::Succeeded, result: result.as_deref() }))
        }
        _ => None,
    }
}
