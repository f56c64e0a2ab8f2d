//! Sources of faults: random numbers, a store that fails before or after it did its work, clocks
//! that disagree.

use polos::calendar::Timestamp;
use polos::clock::Now;
use polos::engine::{Dispatcher, Notice, Stop};
use polos::model::{
    CallKind, ClaimedRun, EntryRefusal, HookCall, LedgerEntry, LimitStatus, Peer, Run, RunId, Schedule,
    ScheduleId, StepRecord, StoredCalendar, Token, WaitingCalls, WorkerId, WorkflowEntry,
};
use polos::store::{
    Answer, Command, DueSchedule, KeyedRun, NextWork, Page, ProjectStats, Rejection, RunFilter,
    ScheduleFilter, Store, StoreError, StoreReads, StoreWrites, WaitingParent,
};
use polos::sync::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// The only source of randomness: splitmix64.
#[derive(Clone, Debug)]
pub struct Rng(pub u64);

impl Rng {
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    /// A number from `low` to `high`, inclusive.
    pub fn range(&mut self, low: i64, high: i64) -> i64 {
        let width = u64::try_from(high - low).unwrap() + 1;
        low + i64::try_from(self.bits() % width).unwrap()
    }

    /// True with probability `per_mille` / 1000.
    pub fn chance(&mut self, per_mille: u32) -> bool {
        self.bits() % 1_000 < u64::from(per_mille)
    }

    pub fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[usize::try_from(self.range(0, i64::try_from(items.len()).unwrap() - 1)).unwrap()]
    }
}

/// The fault of a store call.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Fault {
    /// Nothing was done.
    Before,
    /// The work was done, and the reply was lost.
    After,
}

/// Called with the number of a read before it happens.
pub type OnRead = Arc<Mutex<dyn FnMut(u64) + Send>>;

/// How the store misbehaves, and what was requested of it.
#[expect(clippy::struct_excessive_bools, reason = "independent faults, not states of one machine")]
pub struct Trouble {
    pub rng: Rng,
    /// Per mille of commits that fail before, of commits that fail after, and of reads that fail.
    pub before: u32,
    pub after: u32,
    pub reads: u32,
    /// Every call fails.
    pub is_down: bool,
    /// Calls fail with an error that needs an operator.
    pub is_denying: bool,
    /// Calls fail with a permanent error.
    pub is_closed: bool,
    /// Commands that are rejected for good, as by a database constraint.
    pub refuses: Option<fn(&Command) -> bool>,
    /// Faults of the next commits; take precedence over the random ones.
    pub scripted: VecDeque<Option<Fault>>,
    /// Calls that failed so far.
    pub failure_count: u64,
    /// Commands that were requested, including those that failed; kept only if a test asks for it.
    pub commands: Option<Vec<Command>>,
    /// Number of reads so far, and a callback for each.
    pub read_count: u64,
    pub on_read: Option<OnRead>,
    /// The store says that it announces changes; and the number of polls so far.
    pub announces: bool,
    pub poll_count: u64,
    /// Called before a commit.
    pub on_commit: Option<Box<dyn FnMut() + Send>>,
}

impl Trouble {
    pub fn none() -> Self {
        Self {
            rng: Rng(0),
            before: 0,
            after: 0,
            reads: 0,
            is_down: false,
            is_denying: false,
            is_closed: false,
            refuses: None,
            scripted: VecDeque::new(),
            failure_count: 0,
            commands: None,
            read_count: 0,
            on_read: None,
            announces: false,
            poll_count: 0,
            on_commit: None,
        }
    }
}

impl Trouble {
    fn error(&self, text: &str) -> StoreError {
        if self.is_closed {
            StoreError::Closed
        } else if self.is_denying {
            StoreError::Denied(text.to_owned())
        } else {
            StoreError::Unavailable(text.to_owned())
        }
    }
}

/// Observes every command that takes effect, including those whose reply is lost.
pub trait Witness: Send {
    fn saw(
        &mut self,
        store: &dyn Store,
        command: &Command,
        outcome: &Result<Answer, Rejection>,
        now: Timestamp,
    );
}

/// A store that fails on demand. Each worker has its own, so that one worker can be cut off alone.
#[derive(Clone)]
pub struct FaultyStore {
    pub inner: Arc<dyn Store>,
    pub trouble: Arc<Mutex<Trouble>>,
    pub witness: Option<Arc<Mutex<dyn Witness>>>,
}

impl FaultyStore {
    pub fn new(inner: impl Store) -> Self {
        Self::on(Arc::new(inner))
    }

    pub fn on(inner: Arc<dyn Store>) -> Self {
        Self { inner, trouble: Arc::new(Mutex::new(Trouble::none())), witness: None }
    }

    fn read(&self) -> Result<(), StoreError> {
        let mut trouble = self.trouble.lock();
        trouble.read_count += 1;
        let count = trouble.read_count;
        if let Some(on_read) = trouble.on_read.clone() {
            // It may hang, and a commit must not hang with it.
            drop(trouble);
            (on_read.lock())(count);
            trouble = self.trouble.lock();
        }
        let per_mille = trouble.reads;
        if trouble.is_down || trouble.rng.chance(per_mille) {
            trouble.failure_count += 1;
            return Err(trouble.error("a read failed"));
        }
        Ok(())
    }

    fn commit_fault(&self, commands: &[Command]) -> Option<Fault> {
        let mut trouble = self.trouble.lock();
        if let Some(on_commit) = &mut trouble.on_commit {
            on_commit();
        }
        if let Some(log) = &mut trouble.commands {
            log.extend_from_slice(commands);
        }
        let fault = if trouble.is_down {
            Some(Fault::Before)
        } else if let Some(scripted) = trouble.scripted.pop_front() {
            scripted
        } else {
            let (before, after) = (trouble.before, trouble.after);
            let is_before = trouble.rng.chance(before);
            let is_after = trouble.rng.chance(after);
            if is_before { Some(Fault::Before) } else { is_after.then_some(Fault::After) }
        };
        trouble.failure_count += u64::from(fault.is_some());
        fault
    }
}

impl StoreWrites for FaultyStore {
    fn commit_when(
        &self,
        commands: &[Command],
        now: &dyn Fn() -> Timestamp,
    ) -> Result<Vec<Result<Answer, Rejection>>, StoreError> {
        let now = now();
        let fault = self.commit_fault(commands);
        if fault == Some(Fault::Before) {
            return Err(self.trouble.lock().error("a commit failed"));
        }
        let refuses = self.trouble.lock().refuses;
        let mut outcomes = Vec::with_capacity(commands.len());
        for command in commands {
            if refuses.is_some_and(|refuses| refuses(command)) {
                outcomes.push(Err(Rejection::Invalid("a constraint failed".to_owned())));
                continue;
            }
            // One by one, so that the witness sees each by itself; no other call can come in
            // between.
            let outcome = self.inner.commit(std::slice::from_ref(command), now)?.remove(0);
            if let Some(witness) = &self.witness {
                witness.lock().saw(&*self.inner, command, &outcome, now);
            }
            outcomes.push(outcome);
        }
        if fault == Some(Fault::After) {
            return Err(StoreError::Unavailable("the reply of a commit was lost".to_owned()));
        }
        Ok(outcomes)
    }

    fn barrier(&self) -> Result<(), StoreError> {
        self.read()?;
        self.inner.barrier()
    }
}

impl StoreReads for FaultyStore {
    fn due(
        &self,
        project: &str,
        workflows: &[Arc<str>],
        until: Timestamp,
        limit: usize,
    ) -> Result<Vec<DueSchedule>, StoreError> {
        self.read()?;
        self.inner.due(project, workflows, until, limit)
    }

    fn due_count(
        &self,
        project: &str,
        workflows: &[Arc<str>],
        until: Timestamp,
        limit: usize,
    ) -> Result<usize, StoreError> {
        self.read()?;
        self.inner.due_count(project, workflows, until, limit)
    }

    fn next_work(
        &self,
        project: &str,
        workflows: &[Arc<str>],
        now: Timestamp,
    ) -> Result<NextWork, StoreError> {
        self.read()?;
        self.inner.next_work(project, workflows, now)
    }

    fn cancel_requests(&self, worker: &WorkerId) -> Result<Vec<RunId>, StoreError> {
        self.read()?;
        self.inner.cancel_requests(worker)
    }

    fn claims_stand(&self, claims: &[(RunId, Token)]) -> Result<Vec<bool>, StoreError> {
        self.read()?;
        self.inner.claims_stand(claims)
    }

    fn may_enter(&self, claims: &[(RunId, Token)]) -> Result<Vec<Result<(), EntryRefusal>>, StoreError> {
        self.read()?;
        self.inner.may_enter(claims)
    }

    fn peers(&self, project: &str) -> Result<Vec<Peer>, StoreError> {
        self.read()?;
        self.inner.peers(project)
    }

    fn hook_calls(
        &self,
        project: &str,
        kinds: &[CallKind],
        limit: usize,
    ) -> Result<Vec<HookCall>, StoreError> {
        self.read()?;
        self.inner.hook_calls(project, kinds, limit)
    }

    fn waiting_hook_calls(&self, project: &str, now: Timestamp) -> Result<Vec<WaitingCalls>, StoreError> {
        self.read()?;
        self.inner.waiting_hook_calls(project, now)
    }

    fn limits(&self, project: &str, count_to: usize, now: Timestamp) -> Result<Vec<LimitStatus>, StoreError> {
        self.read()?;
        self.inner.limits(project, count_to, now)
    }

    fn calendars(
        &self,
        project: &str,
        names: Option<&[Arc<str>]>,
    ) -> Result<Vec<StoredCalendar>, StoreError> {
        self.read()?;
        self.inner.calendars(project, names)
    }

    fn schedules_with_calendars(&self, project: &str, page: &Page) -> Result<Vec<Schedule>, StoreError> {
        self.read()?;
        self.inner.schedules_with_calendars(project, page)
    }

    fn workflows(&self, project: &str) -> Result<Vec<WorkflowEntry>, StoreError> {
        self.read()?;
        self.inner.workflows(project)
    }

    fn schedule(&self, project: &str, id: &ScheduleId) -> Result<Option<Schedule>, StoreError> {
        self.read()?;
        self.inner.schedule(project, id)
    }

    fn schedules(
        &self,
        project: &str,
        filter: &ScheduleFilter,
        page: &Page,
    ) -> Result<Vec<Schedule>, StoreError> {
        self.read()?;
        self.inner.schedules(project, filter, page)
    }

    fn coming(&self, project: &str, until: Timestamp, limit: usize) -> Result<Vec<Schedule>, StoreError> {
        self.read()?;
        self.inner.coming(project, until, limit)
    }

    fn project_stats(
        &self,
        project: &str,
        due_before: Timestamp,
        count_to: usize,
    ) -> Result<ProjectStats, StoreError> {
        self.read()?;
        self.inner.project_stats(project, due_before, count_to)
    }

    fn history(
        &self,
        project: &str,
        id: &ScheduleId,
        page: &Page,
    ) -> Result<Option<Vec<LedgerEntry>>, StoreError> {
        self.read()?;
        self.inner.history(project, id, page)
    }

    fn run(&self, project: &str, id: &RunId) -> Result<Option<Run>, StoreError> {
        self.read()?;
        self.inner.run(project, id)
    }

    fn runs(&self, project: &str, filter: &RunFilter, page: &Page) -> Result<Vec<Run>, StoreError> {
        self.read()?;
        self.inner.runs(project, filter, page)
    }

    fn runs_with_keys(
        &self,
        project: &str,
        workflow: &str,
        keys: (&str, &str),
        limit: usize,
    ) -> Result<Vec<KeyedRun>, StoreError> {
        self.read()?;
        self.inner.runs_with_keys(project, workflow, keys, limit)
    }

    fn running_with_key(&self, project: &str, limit: &str, key: &str) -> Result<u64, StoreError> {
        self.read()?;
        self.inner.running_with_key(project, limit, key)
    }

    fn run_with_event(
        &self,
        project: &str,
        of: (&str, &str),
        name: &str,
        idempotency_key: &str,
    ) -> Result<Option<RunId>, StoreError> {
        self.read()?;
        self.inner.run_with_event(project, of, name, idempotency_key)
    }

    fn waiting_parents(&self, project: &str, page: &Page) -> Result<Vec<WaitingParent>, StoreError> {
        self.read()?;
        self.inner.waiting_parents(project, page)
    }

    fn remarkable_runs(&self, project: &str, limit: usize) -> Result<Vec<Run>, StoreError> {
        self.read()?;
        self.inner.remarkable_runs(project, limit)
    }

    fn steps(&self, id: &RunId) -> Result<Vec<StepRecord>, StoreError> {
        self.read()?;
        self.inner.steps(id)
    }

    fn previous_result(&self, schedule: &ScheduleId, before: &RunId) -> Result<Option<Run>, StoreError> {
        self.read()?;
        self.inner.previous_result(schedule, before)
    }

    fn change_mark(&self) -> Result<u64, StoreError> {
        self.trouble.lock().poll_count += 1;
        self.read()?;
        self.inner.change_mark()
    }

    fn announces_changes(&self) -> bool {
        self.trouble.lock().announces
    }
}

/// What an engine sent to its dispatcher, in order.
#[derive(Clone, Debug)]
pub enum Sent {
    Start(ClaimedRun, Option<Duration>),
    Stop(Stop),
    Ring(u64),
    Tell(Notice),
}

/// Records what the engine sends; the test that plays the application takes it from here.
#[derive(Clone, Default)]
pub struct SentLog(Arc<Mutex<Vec<Sent>>>);

impl SentLog {
    pub fn take(&self) -> Vec<Sent> {
        std::mem::take(&mut *self.0.lock())
    }
}

impl Dispatcher for SentLog {
    fn start(&self, runs: Vec<ClaimedRun>, confirmed_at: Option<Duration>) {
        self.0.lock().extend(runs.into_iter().map(|run| Sent::Start(run, confirmed_at)));
    }

    fn stop(&self, stops: Vec<Stop>) {
        self.0.lock().extend(stops.into_iter().map(Sent::Stop));
    }

    fn fire_timers(&self, timers: Vec<u64>) {
        self.0.lock().extend(timers.into_iter().map(Sent::Ring));
    }

    fn emit(&self, notice: Notice) {
        self.0.lock().push(Sent::Tell(notice));
    }
}

/// Later than the end of every simulation.
const NEVER: i64 = i64::MAX / 4;

/// From here on, an instant means "never": a day before the maximum.
const NEVER_FROM: i64 = Timestamp::MAX.as_micros() - 86_400_000_000;

/// A machine's clocks, as a function of true time (microseconds): the wall clock is wrong and may
/// be set, the monotonic one only runs slightly fast or slow.
#[derive(Copy, Clone, Debug)]
pub struct SkewedClock {
    pub booted_at: i64,
    pub wall_ahead_us: i64,
    pub drift_ppm: i64,
}

impl SkewedClock {
    pub fn now(&self, truth: i64) -> Now {
        let mono = self.mono_us(truth);
        Now {
            wall: Timestamp::from_micros(self.booted_at + mono + self.wall_ahead_us),
            mono: Duration::from_micros(u64::try_from(mono).unwrap()),
        }
    }

    fn mono_us(&self, truth: i64) -> i64 {
        let since = truth - self.booted_at;
        since + since * self.drift_ppm / 1_000_000
    }

    /// The first true time at which the monotonic clock shows `mono_us`.
    pub fn truth_of_mono(&self, mono_us: i64) -> i64 {
        let mut truth = self.booted_at + mono_us - mono_us * self.drift_ppm / 1_000_000;
        while self.mono_us(truth) < mono_us {
            truth += 1;
        }
        truth
    }

    /// The first true time at which the wall clock shows `wall`, if it is not set meanwhile.
    pub fn truth_of_wall(&self, wall: Timestamp) -> i64 {
        if wall.as_micros() > NEVER_FROM {
            // A run that waits for a child has no time of its own. An engine looks for it a little
            // sooner.
            return NEVER;
        }
        self.truth_of_mono((wall.as_micros() - self.booted_at - self.wall_ahead_us).max(0))
    }
}
