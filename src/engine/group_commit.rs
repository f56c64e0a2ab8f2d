//! Group commit: jobs that arrive while one transaction syncs go into the next one.
//!
//! One thread does all the writing. Jobs of claims in progress (steps, completions) set
//! `retries_when_busy`: while the store is in trouble they wait and are retried, because a handler
//! must neither get the answer that its step was recorded when it was not, nor fail because a disk
//! was full for a minute. All other jobs report the trouble to their caller.

use crate::calendar::Timestamp;
use crate::clock::Clock;
use crate::model::{RunId, Token};
use crate::plan::Backoff;
use crate::store::{Command, Outcome, Store, StoreError, StoreReads, StoreWrites};
use crate::sync::{Condvar, Mutex};
use crate::thread::Thread;
use std::sync::Arc;
use std::time::Duration;

/// Most commands in one transaction; bounds how long the first of them waits for the last.
const BATCH_MAX: usize = 2_000;

/// How many times the thread checks for more work before it sleeps. A step that follows a step
/// arrives within this time, and finding the thread awake saves both sides a trip through the
/// operating system's scheduler.
const SPIN_ROUNDS: u32 = 60;

/// The result of a job: an outcome per command, or the failure of the store.
pub type Report = Result<Vec<Outcome>, StoreError>;

/// Commands of one caller. They go into one transaction, together with other pending jobs.
pub struct Job {
    /// What to commit.
    pub commands: Vec<Command>,
    /// Whether to wait out passing trouble of the store and retry.
    pub retries_when_busy: bool,
    /// Called once, on the writing thread, when the outcome is durable or the job has failed.
    pub done: Box<dyn FnOnce(Report) + Send>,
}

/// The writes of a store, batched into group commits. Clones share it.
#[derive(Clone)]
pub struct GroupCommit {
    shared: Arc<Shared>,
}

struct Shared {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    line: Line,
    /// `None` where commits happen on the caller's thread.
    thread: Mutex<Option<Thread>>,
    is_inline: bool,
    observers: Mutex<Vec<Observer>>,
}

/// Called after every batch with its commands and their outcomes, before the jobs' `done`.
pub type Observer = Box<dyn Fn(&[Command], &[Outcome]) + Send>;

/// The queue of pending jobs.
#[derive(Default)]
struct Line {
    state: Mutex<LineState>,
    arrived: Condvar,
}

#[derive(Default)]
struct LineState {
    jobs: Vec<Job>,
    is_closed: bool,
    is_thread_asleep: bool,
}

impl GroupCommit {
    /// Starts the writing thread.
    pub fn start(store: Arc<dyn Store>, clock: Arc<dyn Clock>) -> std::io::Result<Self> {
        let this = Self::new(store, clock, false);
        let shared = Arc::clone(&this.shared);
        let thread = Thread::spawn("polos-writer", move || write_all(&shared))?;
        *this.shared.thread.lock() = Some(thread);
        Ok(this)
    }

    /// Commits each job on the thread that submits it: for a store in memory, under a manual clock.
    pub fn inline(store: Arc<dyn Store>, clock: Arc<dyn Clock>) -> Self {
        Self::new(store, clock, true)
    }

    fn new(store: Arc<dyn Store>, clock: Arc<dyn Clock>, is_inline: bool) -> Self {
        let (line, thread, observers) = (Line::default(), Mutex::default(), Mutex::default());
        Self { shared: Arc::new(Shared { store, clock, line, thread, is_inline, observers }) }
    }

    /// Calls `observer` after every batch from now on.
    pub fn observe(&self, observer: Observer) {
        self.shared.observers.lock().push(observer);
    }

    /// Whether each job is committed on the thread that submits it.
    pub fn is_inline(&self) -> bool {
        self.shared.is_inline
    }

    /// The store's reads, which need no queue.
    pub fn reads(&self) -> Arc<dyn StoreReads> {
        Arc::clone(&self.shared.store) as _
    }

    /// The clock that stamps the commits.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.shared.clock
    }

    /// Queues a job. After [`Self::close`], the job fails with [`StoreError::Closed`] at once.
    pub fn submit(&self, job: Job) {
        let refused = {
            let mut state = self.shared.line.state.lock();
            if state.is_closed || self.shared.is_inline {
                Some((job, state.is_closed))
            } else {
                state.jobs.push(job);
                if state.is_thread_asleep {
                    self.shared.line.arrived.notify_one();
                }
                None
            }
        };
        match refused {
            None => {}
            Some((job, true)) => (job.done)(Err(StoreError::Closed)),
            Some((job, false)) => {
                let (kept, _) = write_batch(&self.shared, vec![job], true);
                debug_assert!(kept.is_empty(), "nothing is kept while closing");
            }
        }
    }

    /// Writes the queued jobs, then ends the thread. Jobs that would retry fail if the store is
    /// still in trouble.
    pub fn close(&self) {
        self.close_within(Duration::MAX);
    }

    /// Like [`Self::close`], but waits for `limit` at most. Returns whether everything was written.
    /// If not, a commit hangs in the store, and the jobs queued behind it fail with
    /// [`StoreError::Closed`].
    pub fn close_within(&self, limit: Duration) -> bool {
        self.shared.line.state.lock().is_closed = true;
        self.shared.line.arrived.notify_one();
        let thread = self.shared.thread.lock().take();
        let has_ended = match thread.filter(|thread| thread.id() != std::thread::current().id()) {
            None => true,
            Some(thread) if limit == Duration::MAX => {
                thread.join();
                true
            }
            Some(thread) => thread.join_for(limit),
        };
        if !has_ended {
            drop(CloseOnDrop(&self.shared));
        }
        self.shared.observers.lock().clear();
        has_ended
    }
}

/// Closes the queue when the writing thread ends, also by a panic: queued and later jobs fail with
/// [`StoreError::Closed`].
struct CloseOnDrop<'a>(&'a Shared);

impl Drop for CloseOnDrop<'_> {
    fn drop(&mut self) {
        let left = {
            let mut state = self.0.line.state.lock();
            state.is_closed = true;
            std::mem::take(&mut state.jobs)
        };
        for job in left {
            (job.done)(Err(StoreError::Closed));
        }
    }
}

/// The writing thread's loop: runs until the queue is closed and empty.
fn write_all(shared: &Shared) {
    let _close_on_drop = CloseOnDrop(shared);
    let mut waiting: Vec<Job> = Vec::new();
    let mut failure_count = 0;
    while let Some(jobs) = next_batch(&shared.line, std::mem::take(&mut waiting), pause_after(failure_count))
    {
        let is_closing = shared.line.state.lock().is_closed;
        let (kept, is_trouble) = write_batch(shared, jobs, is_closing);
        failure_count = if is_trouble { failure_count + 1 } else { 0 };
        waiting = kept;
    }
}

fn pause_after(failure_count: u32) -> Option<Duration> {
    let backoff = Backoff { initial_us: 20_000, factor: 2.0, maximum_us: 1_000_000, jitter: 0.0 };
    (failure_count > 0).then(|| {
        let wait = backoff.retry_at("writer", failure_count, Timestamp::from_micros(0)).as_micros();
        Duration::from_micros(u64::try_from(wait).unwrap_or(0))
    })
}

/// Waits for jobs (for `pause` at most when some are `waiting` for the store to recover). Returns
/// `None` when the queue is closed and empty.
fn next_batch(line: &Line, mut waiting: Vec<Job>, pause: Option<Duration>) -> Option<Vec<Job>> {
    for _ in 0..SPIN_ROUNDS {
        if pause.is_some() || !line.state.lock().jobs.is_empty() {
            break;
        }
        std::thread::yield_now();
    }
    let mut state = line.state.lock();
    if let Some(pause) = pause.filter(|_| !waiting.is_empty() && !state.is_closed) {
        // New jobs need not cut the pause short: they would meet the same trouble.
        state.is_thread_asleep = false;
        line.arrived.wait_for(&mut state, pause);
    }
    while state.jobs.is_empty() && waiting.is_empty() {
        if state.is_closed {
            return None;
        }
        state.is_thread_asleep = true;
        line.arrived.wait(&mut state);
        state.is_thread_asleep = false;
    }
    waiting.append(&mut state.jobs);
    let mut command_count = 0;
    let taken = waiting.iter().take_while(|job| {
        let fits = command_count == 0 || command_count + job.commands.len() <= BATCH_MAX;
        command_count += job.commands.len();
        fits
    });
    let taken_count = taken.count();
    let mut rest = waiting.split_off(taken_count);
    // Jobs that did not fit stay ahead of later arrivals.
    rest.append(&mut state.jobs);
    state.jobs = rest;
    Some(waiting)
}

/// Commits one transaction. Returns the jobs to retry, and whether the store was in trouble.
fn write_batch(shared: &Shared, mut jobs: Vec<Job>, is_closing: bool) -> (Vec<Job>, bool) {
    let counts: Vec<usize> = jobs.iter().map(|job| job.commands.len()).collect();
    let mut commands = Vec::with_capacity(counts.iter().sum());
    for job in &mut jobs {
        commands.append(&mut job.commands);
    }
    match shared.store.commit_when(&commands, &|| shared.clock.now().wall) {
        Ok(outcomes) => {
            for observer in shared.observers.lock().iter() {
                observer(&commands, &outcomes);
            }
            let mut outcomes = outcomes.into_iter();
            for (job, count) in jobs.into_iter().zip(counts) {
                (job.done)(Ok(outcomes.by_ref().take(count).collect()));
            }
            (Vec::new(), false)
        }
        Err(error) => {
            let mut kept = Vec::new();
            let mut commands = commands.into_iter();
            for (mut job, count) in jobs.into_iter().zip(counts) {
                job.commands = commands.by_ref().take(count).collect();
                if job.retries_when_busy && error.is_passing() && !is_closing {
                    kept.push(job);
                } else {
                    (job.done)(Err(error.clone()));
                }
            }
            (kept, true)
        }
    }
}

/// Commits through the queue, so that the engine's writes share transactions with all others.
impl StoreWrites for GroupCommit {
    fn commit_when(
        &self,
        commands: &[Command],
        _now: &dyn Fn() -> Timestamp,
    ) -> Result<Vec<Outcome>, StoreError> {
        let (sender, receiver) = crossbeam_channel::bounded(1);
        self.submit(Job {
            commands: commands.to_vec(),
            retries_when_busy: false,
            done: Box::new(move |report| {
                // The receiver waits below until this is sent.
                let _ = sender.send(report);
            }),
        });
        receiver.recv().unwrap_or(Err(StoreError::Closed))
    }

    fn barrier(&self) -> Result<(), StoreError> {
        self.shared.store.barrier()
    }

    fn warm_up_start(&self, claims: &[(RunId, Token)]) {
        self.shared.store.warm_up_start(claims);
    }
}
