//! Answers callers that wait for a run to finish, or for one of its steps. What happens in this
//! process is noticed when it commits. What happens in another process is announced by the store,
//! if it can, and otherwise found by polling the store's change mark.

use super::context::{Done, Reply};
use super::response::{RunResponse, Success, to_json};
use crate::engine::group_commit::GroupCommit;
use crate::error::Error;
use crate::model::{Completion, RunId, RunState, StepState};
use crate::store::{Answer, Command, Rejection, StoreError, StoreReads};
use crate::sync::{Condvar, Mutex};
use crate::thread::Thread;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Weak};
use std::time::Duration;

#[cfg(all(feature = "sqlite", feature = "postgres"))]
mod hints;

#[cfg(all(feature = "sqlite", feature = "postgres"))]
pub(super) use hints::WaitHints;

/// Polling interval while a caller waits for a run that another process executes.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// The same while ends are announced: polling begins with the interval above, which doubles up to
/// this.
const ANNOUNCED_POLL_MAX: Duration = Duration::from_secs(1);

/// How many runs are asked about again when polling has slowed down, since a worker that started
/// after the first time does not know of them.
const ASKED_AGAIN_MAX: usize = 64;

/// What a caller waits for.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Awaited {
    /// The end of a run.
    End(RunId),
    /// That a step of a run is done.
    Step(RunId, Arc<str>),
}

/// The callers that wait for a run to finish, and the thread that polls for them.
pub(super) struct RunWaiters {
    reads: Arc<dyn StoreReads>,
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
    waiting: BTreeMap<Awaited, Vec<(WaitId, Done)>>,
    /// A wait is withdrawn by its id alone, so what it is for has to be found from the id.
    awaited_by: BTreeMap<WaitId, Awaited>,
    last_wait: u64,
    /// What to read: for new waits, and what was just committed here.
    to_check: BTreeSet<Awaited>,
    /// Runs claimed here at creation whose claim is still open here: a new wait on one need not
    /// read the store.
    claimed_here: BTreeSet<RunId>,
    /// Look at all waits at once: another process has committed.
    must_poll: bool,
    /// Called before the first wait for another process.
    on_first_wait: Option<Box<dyn FnOnce() + Send>>,
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

    fn add(&mut self, awaited: Awaited, done: Done) -> WaitId {
        self.last_wait += 1;
        let wait = WaitId(self.last_wait);
        self.awaited_by.insert(wait, awaited.clone());
        self.waiting.entry(awaited).or_default().push((wait, done));
        wait
    }

    /// Removes and returns the callbacks of all callers that wait for this.
    fn take(&mut self, awaited: &Awaited) -> Vec<Done> {
        let waits = self.waiting.remove(awaited).unwrap_or_default();
        waits
            .into_iter()
            .map(|(wait, done)| {
                self.awaited_by.remove(&wait);
                done
            })
            .collect()
    }

    /// Removes one wait. The caller must drop its callback after releasing the lock.
    fn withdraw(&mut self, wait: WaitId) -> Option<Done> {
        let awaited = self.awaited_by.remove(&wait)?;
        let waits = self.waiting.get_mut(&awaited)?;
        let position = waits.iter().position(|(id, _)| *id == wait)?;
        let (_, done) = waits.swap_remove(position);
        if waits.is_empty() {
            self.waiting.remove(&awaited);
            self.to_check.remove(&awaited);
        }
        Some(done)
    }
}

impl RunWaiters {
    pub fn start(writes: &GroupCommit, project: Arc<str>) -> std::io::Result<Arc<Self>> {
        let reads = writes.reads();
        let (state, wake, thread) = (Mutex::new(State::default()), Condvar::new(), Mutex::new(None));
        let this = Arc::new(Self { reads, project, state, wake, thread });
        let observed = Arc::downgrade(&this);
        writes.observe(Box::new(move |commands, outcomes| {
            if let Some(this) = Weak::upgrade(&observed) {
                this.on_commit(commands, outcomes);
            }
        }));
        let watcher = Arc::clone(&this);
        let thread = Thread::spawn("polos-waiters", move || watcher.watch())?;
        *this.thread.lock() = Some(thread);
        Ok(this)
    }

    /// Calls `done` when it has happened. The id is for [`Self::withdraw`]; `None` if the answer
    /// was given at once.
    pub fn add(&self, awaited: Awaited, done: Done) -> Option<WaitId> {
        let mut state = self.state.lock();
        if state.is_closed {
            drop(state);
            done(Err(StoreError::Closed.into()));
            return None;
        }
        let wait = state.add(awaited.clone(), done);
        let must_check = match &awaited {
            Awaited::End(run) => !state.claimed_here.contains(run),
            Awaited::Step(..) => true,
        };
        if must_check {
            state.to_check.insert(awaited);
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
        self.state.lock().awaited_by.len()
    }

    /// Fails all open waits with `Closed`. Returns whether the thread has ended within `limit`.
    pub fn close_within(&self, limit: Duration) -> bool {
        let waiting = {
            let mut state = self.state.lock();
            state.is_closed = true;
            state.awaited_by.clear();
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
            let awaited = match command {
                Command::CompleteRun { run, .. } | Command::CancelRun { run, .. } => {
                    state.claimed_here.remove(run);
                    Awaited::End(run.clone())
                }
                Command::SendEvent(new) => Awaited::Step(new.run.clone(), Arc::clone(&new.name)),
                _ => continue,
            };
            if let Some(reply) = success(command, outcome) {
                answered.extend(state.take(&awaited).into_iter().map(|done| (done, reply.clone())));
            } else if outcome.is_ok() && state.waiting.contains_key(&awaited) {
                state.to_check.insert(awaited);
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
        let mut interval = POLL_INTERVAL;
        loop {
            let to_check = {
                let mut state = self.state.lock();
                while state.to_check.is_empty() && !state.must_poll && !state.is_closed {
                    if state.waiting.is_empty() {
                        state.is_asleep = true;
                        self.wake.wait(&mut state);
                        state.is_asleep = false;
                    } else if self.wake.wait_for(&mut state, interval).timed_out() {
                        break;
                    }
                }
                if state.is_closed {
                    return;
                }
                state.must_poll = false;
                std::mem::take(&mut state.to_check)
            };
            if to_check.is_empty() {
                self.note_first_wait();
                self.poll_if_changed(&mut seen_mark);
                interval = self.interval_after(interval);
                continue;
            }
            let mut unfinished = Vec::new();
            for awaited in to_check {
                if !self.check(&awaited) {
                    seen_mark = None;
                }
                if let Awaited::End(run) = awaited {
                    unfinished.push(run);
                }
            }
            let state = self.state.lock();
            unfinished.retain(|run| state.waiting.contains_key(&Awaited::End(run.clone())));
            drop(state);
            if !unfinished.is_empty() {
                self.note_first_wait();
                self.reads.await_ends(&unfinished);
                // One may have ended before others knew of the wait.
                interval = POLL_INTERVAL;
            }
        }
    }

    fn note_first_wait(&self) {
        let on_first_wait = self.state.lock().on_first_wait.take();
        if let Some(on_first_wait) = on_first_wait {
            on_first_wait();
        }
    }

    /// How long to wait before the next poll, after a poll.
    fn interval_after(&self, interval: Duration) -> Duration {
        if !self.reads.announces_changes() {
            return POLL_INTERVAL;
        }
        let next = interval.saturating_mul(2).min(ANNOUNCED_POLL_MAX);
        if next == ANNOUNCED_POLL_MAX && interval < next {
            let state = self.state.lock();
            let runs = state.waiting.keys().filter_map(|awaited| match awaited {
                Awaited::End(run) => Some(run.clone()),
                Awaited::Step(..) => None,
            });
            let runs: Vec<RunId> = runs.take(ASKED_AGAIN_MAX).collect();
            drop(state);
            self.reads.await_ends(&runs);
        }
        next
    }

    fn poll_if_changed(&self, seen_mark: &mut Option<u64>) {
        // While the store fails, no wait can be answered; polling resumes when the store recovers.
        let Ok(mark) = self.reads.change_mark() else { return };
        if *seen_mark == Some(mark) {
            return;
        }
        let waiting: Vec<Awaited> = self.state.lock().waiting.keys().cloned().collect();
        let mut has_read_all = true;
        for awaited in waiting {
            has_read_all &= self.check(&awaited);
        }
        // A run that could not be read may have finished: read again even if nothing changes any
        // more.
        *seen_mark = has_read_all.then_some(mark);
    }

    /// Answers the callers that wait for this if it has happened. Returns whether the store could
    /// be read.
    fn check(&self, awaited: &Awaited) -> bool {
        if !self.state.lock().waiting.contains_key(awaited) {
            return true;
        }
        let found = match awaited {
            Awaited::End(run) => self.ended(run),
            Awaited::Step(run, name) => self.done_step(run, name),
        };
        let reply: Reply = match found {
            Err(error) if error.is_passing() => return false,
            Err(error) => Err(error.into()),
            Ok(None) => return true,
            Ok(Some(reply)) => reply,
        };
        let waiting = self.state.lock().take(awaited);
        for done in waiting {
            done(reply.clone());
        }
        true
    }

    /// The run, if it has finished.
    fn ended(&self, run: &RunId) -> Result<Option<Reply>, StoreError> {
        Ok(match self.reads.run(&self.project, run)? {
            None => Some(Err(Error::RunNotFound(run.to_string()))),
            Some(found) if !found.state.is_finished() => None,
            Some(found) => Some(Ok(to_json(&RunResponse::new(&found, &[])))),
        })
    }

    /// An empty answer, if the step is done.
    fn done_step(&self, run: &RunId, name: &str) -> Result<Option<Reply>, StoreError> {
        let steps = self.reads.steps(run)?;
        let is_done = steps.iter().any(|step| &*step.name == name && step.state == StepState::Done);
        Ok(is_done.then(|| Ok("null".to_owned())))
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
