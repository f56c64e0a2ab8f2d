//! The application: handlers that start, record steps, sleep, wait for children, fail, hang, and
//! complete.

use super::checks::PROJECT;
use super::faults::{FaultyStore, Rng, SentLog};
use super::world::{Event, MINUTE, MS, Power, RETRY_MAX, SECOND, Theme, WORKFLOWS, World};
use polos::calendar::Timestamp;
use polos::clock::Now;
use polos::engine::entry::is_confirmed;
use polos::engine::{Engine, Message, Permit, QueuedRequest, StopReason};
use polos::model::{
    ClaimedRun, Completion, EntryRefusal, NewRun, Origin, Run, RunId, RunState, StepRecord, StepState,
};
use polos::plan::Backoff;
use polos::store::{Answer, Command, Rejection, StoreReads, StoreWrites};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// A running handler.
pub struct Task {
    pub run: Run,
    pub doing: Doing,
    /// Recorded steps.
    pub steps: BTreeMap<Arc<str>, StepRecord>,
    /// The waits that this execution has asked about.
    pub asked: BTreeSet<Arc<str>>,
    pub kind: Kind,
    pub stop: Option<StopReason>,
    pub is_deaf: bool,
    /// Whether this execution has recorded a step.
    pub has_recorded: bool,
}

impl Task {
    fn is_done(&self, step: &str) -> bool {
        self.steps.get(step).is_some_and(|step| step.state == StepState::Done)
    }
}

#[derive(Clone, Debug)]
pub enum Doing {
    /// Its handler is to be entered; when its claim was confirmed.
    Entering(Option<Duration>),
    Deciding,
    Stepping(u32),
    /// Writes, and continues when the write is durable.
    Recording(Box<Command>),
    Completion(Box<Command>),
    Hanging,
    /// Kills its process.
    Killing,
}

/// The behavior of a handler, determined by run and attempt.
#[derive(Copy, Clone, Debug)]
pub enum Kind {
    /// This many steps, each of about this duration.
    Steps(u32, i64),
    /// A step, then an error.
    Failing,
    /// A step, then a durable sleep, then another.
    Sleeping(i64),
    /// A step, then a run of another workflow, then another step.
    Invoking(&'static str),
    /// Runs until it is stopped.
    Hanging,
    /// Kills its process: without steps, at once each time; otherwise after each recorded step.
    Killing(u32),
    /// Was interrupted too often: failed without starting its handler.
    TooOften,
    /// A step, a durable sleep, and a step, all with the code that it started with.
    OfOneCode(i64),
    /// A step, waits for events with this timeout, together or one after the other, and a step.
    Waiting(Option<i64>, bool),
}

impl World {
    pub fn enter_handler(
        &mut self,
        machine: usize,
        claimed: ClaimedRun,
        confirmed_at: Option<Duration>,
        wall: Timestamp,
    ) {
        let ClaimedRun { run, journal, .. } = claimed;
        let is_done = |step: &&StepRecord| step.state == StepState::Done;
        let done = journal.iter().filter(is_done).map(|step| Arc::clone(&step.name)).collect();
        {
            let mut checks = self.checks.lock();
            checks.note(format_args!("machine {machine} starts {} under {}", run.id, run.token.0));
            checks.check_start(&run, &done, wall);
        }
        let steps = journal.into_iter().map(|step| (Arc::clone(&step.name), step)).collect();
        let (kind, is_deaf) = character(&run);
        let kind = self.kind_in_theme(&run, kind);
        if matches!(kind, Kind::Waiting(..)) {
            self.expect_events(&run.id);
        }
        let doing = Doing::Entering(confirmed_at);
        let asked = BTreeSet::new();
        let task = Task { run, doing, steps, asked, kind, stop: None, is_deaf, has_recorded: false };
        self.sequence += 1;
        let number = self.sequence;
        let delay = self.rng.range(0, 5 * MS) + self.delay_of_entry(&task);
        self.machines[machine].tasks.insert(number, task);
        self.after(delay, Event::Continue { machine, task: number });
    }

    pub fn go(&mut self, machine: usize, number: u64) {
        let Some(mut task) = self.machines[machine].tasks.remove(&number) else { return };
        let wall = self.machines[machine].clock.now(self.truth).wall;
        let mut wait = 0;
        let mut is_over = false;
        let doing = match std::mem::replace(&mut task.doing, Doing::Deciding) {
            Doing::Entering(confirmed_at) => self.enter(machine, &task, confirmed_at),
            doing => doing,
        };
        task.doing = match doing {
            Doing::Recording(command) => match self.commit(machine, &command) {
                None => {
                    wait = self.rng.range(20 * MS, SECOND);
                    Doing::Recording(command)
                }
                // The child that was created, now or by an earlier execution of this step: which
                // one is recorded.
                Some(Ok(Answer::Created { run, .. })) => {
                    record(&task, "child", StepState::Sleeping, Some(run.as_str()), wall)
                }
                Some(Ok(Answer::Wait(step))) => {
                    self.send_at_the_deadline(&task.run.id, &step);
                    task.asked.insert(Arc::clone(&step.name));
                    task.steps.insert(Arc::clone(&step.name), *step);
                    Doing::Deciding
                }
                Some(Ok(_)) => {
                    if let Command::RecordStep { step, .. } = *command {
                        task.steps.insert(Arc::clone(&step.name), step);
                        task.has_recorded = true;
                        self.tell_of_progress(machine, &task.run);
                    }
                    Doing::Deciding
                }
                Some(Err(_)) => {
                    is_over = true;
                    self.receive(
                        machine,
                        Message::Fenced { run: task.run.id.clone(), token: task.run.token },
                    );
                    Doing::Deciding
                }
            },
            Doing::Completion(command) => match self.complete(machine, &command) {
                None => {
                    wait = self.rng.range(20 * MS, SECOND);
                    Doing::Completion(command)
                }
                Some(outcome) => {
                    is_over = true;
                    let (run, token) = (task.run.id.clone(), task.run.token);
                    let is_skipped = matches!(
                        &*command,
                        Command::CompleteRun { ending, .. } if matches!(**ending, Completion::Skipped { .. })
                    );
                    self.hold_hook(machine, &task.run, &outcome);
                    self.receive(machine, Message::settled(run, token, is_skipped, Some(&outcome)));
                    Doing::Deciding
                }
            },
            Doing::Killing => return self.kill(machine, &task.run),
            Doing::Entering(_) => {
                wait = SECOND / 2;
                doing
            }
            Doing::Deciding | Doing::Hanging | Doing::Stepping(_) => {
                let (doing, delay) = self.decide(machine, &task, &doing, wall);
                wait = delay;
                if matches!(doing, Doing::Completion(_)) {
                    let (run, token) = (task.run.id.clone(), task.run.token);
                    self.receive(machine, Message::Returned { run, token });
                }
                doing
            }
        };
        if is_over {
            return;
        }
        if !matches!(task.doing, Doing::Hanging) {
            self.after(wait, Event::Continue { machine, task: number });
        }
        self.machines[machine].tasks.insert(number, task);
    }

    /// In some simulations, the application is busy when a run starts, and a user may delete its
    /// schedule meanwhile.
    fn delay_of_entry(&mut self, task: &Task) -> i64 {
        let mut rng = Rng(hash(1, task.run.id.as_str()));
        let is_first = task.run.may_be_unentered(!task.steps.is_empty());
        if !self.has_late_entries() || !is_first || !rng.chance(300) {
            return 0;
        }
        let delay = rng.range(0, 3 * SECOND);
        if let Some(schedule) = task.run.schedule_id.clone().filter(|_| rng.chance(300)) {
            let deletion = rng.range(0, delay);
            self.after(deletion, Event::Delete { schedule });
        }
        delay
    }

    /// What a handler does that is to be entered, as the application decides it.
    fn enter(&mut self, machine: usize, task: &Task, confirmed_at: Option<Duration>) -> Doing {
        let it = &self.machines[machine];
        let now = it.clock.now(self.truth);
        if task.stop.is_some() || !task.run.may_be_unentered(!task.steps.is_empty()) {
            return Doing::Deciding;
        }
        if confirmed_at.is_some_and(|at| is_confirmed(at, now.mono)) {
            self.checks.lock().check_entry(&task.run, it.well_since);
            return Doing::Deciding;
        }
        let claim = (task.run.id.clone(), task.run.token);
        match it.store.may_enter(&[claim]).map(|answers| answers[0]) {
            Ok(Ok(())) => {
                self.checks.lock().check_entry(&task.run, it.well_since);
                Doing::Deciding
            }
            Ok(Err(EntryRefusal::ScheduleDeleted)) => {
                self.checks.lock().count_event("refused before its entry");
                Self::end(task, Completion::Skipped { reason: "the schedule was deleted".into() })
            }
            Ok(Err(EntryRefusal::ClaimLost)) => Self::end(task, Completion::Released),
            // A read that failed is repeated.
            Err(_) => Doing::Entering(None),
        }
    }

    /// As the service does: a suspect that has recorded a step no longer keeps other runs out.
    fn tell_of_progress(&mut self, machine: usize, run: &Run) {
        if run.is_suspect() {
            let (run, token) = (run.id.clone(), run.token);
            self.receive(machine, Message::Progressed { run, token });
        }
    }

    /// Decides the handler's next action, and how long that takes.
    fn decide(&mut self, machine: usize, task: &Task, doing: &Doing, wall: Timestamp) -> (Doing, i64) {
        let is_waking = matches!(doing, Doing::Hanging);
        let must_stop = task.stop.is_some() && (!task.is_deaf || is_waking || self.rng.chance(300));
        if must_stop {
            let ending = match task.stop {
                Some(StopReason::TimedOut) => failure(task, wall),
                _ => Completion::Cancelled { error: None },
            };
            return (Self::end(task, ending), self.rng.range(0, 2 * SECOND));
        }
        if let Doing::Stepping(step) = doing {
            return (record(task, &format!("s{step}"), StepState::Done, Some("1"), wall), 0);
        }
        let (steps, length) = match task.kind {
            Kind::Killing(steps) if steps == 0 || task.has_recorded => return (Doing::Killing, 0),
            Kind::TooOften => {
                return (Self::end(task, Completion::Failed { error: "{}".into(), retry_at: None }), 0);
            }
            Kind::OfOneCode(_) => match self.begun_with(machine, task, wall) {
                Some(doing) => return (doing, 0),
                None => (2, 500 * MS),
            },
            Kind::Killing(steps) => (steps, SECOND),
            Kind::Steps(steps, length) => (steps, length),
            Kind::Failing => (1, SECOND),
            Kind::Sleeping(_) | Kind::Invoking(_) | Kind::Waiting(..) => (2, 500 * MS),
            Kind::Hanging => return (Doing::Hanging, 0),
        };
        if task.is_done("s0") {
            let between = match task.kind {
                Kind::Sleeping(sleep) | Kind::OfOneCode(sleep) if !task.is_done("sleep") => {
                    Some(Self::sleep(task, sleep, wall))
                }
                Kind::Invoking(workflow) if !task.is_done("child") => {
                    Some(self.invoke(machine, task, workflow, wall))
                }
                Kind::Waiting(timeout, together) => self.wait_for_events(task, (timeout, together), wall),
                _ => None,
            };
            if let Some(doing) = between {
                // A read that failed is repeated.
                return (doing.clone(), if matches!(doing, Doing::Deciding) { SECOND } else { 0 });
            }
        }
        match (0..steps).find(|step| !task.is_done(&format!("s{step}"))) {
            Some(step) => {
                let name: Arc<str> = format!("s{step}").into();
                self.checks.lock().check_step(&task.run.id, task.run.token, &name);
                let delay = self.rng.range(length / 2, length);
                (Doing::Stepping(step), delay)
            }
            None if matches!(task.kind, Kind::Failing) => (Self::end(task, failure(task, wall)), 0),
            None => {
                let result = Some(format!("\"{}\"", task.run.id).as_str().into());
                (Self::end(task, Completion::Succeeded { result }), self.rng.range(0, 10 * MS))
            }
        }
    }

    fn sleep(task: &Task, sleep: i64, wall: Timestamp) -> Doing {
        // Once it has slept, the run comes back when its sleep is over.
        let is_over = task.run.started_at.is_some_and(|at| at.as_micros() + sleep < wall.as_micros());
        if task.run.token.0 > 1 && is_over {
            return record(task, "sleep", StepState::Done, Some("1"), wall);
        }
        let wakes_at = Timestamp::from_micros(wall.as_micros() + sleep);
        Self::end(task, Completion::Parked { wakes_at })
    }

    /// In themed simulations, some runs have another kind.
    fn kind_in_theme(&self, run: &Run, kind: Kind) -> Kind {
        let mut rng = Rng(hash(0, run.id.as_str()));
        match self.theme {
            Theme::Killers if self.checks.lock().interruptions_of(&run.id).is_too_often() => {
                self.checks.lock().count_event("failed after interruptions");
                Kind::TooOften
            }
            Theme::Killers if rng.chance(40) => {
                Kind::Killing(if rng.chance(600) { 0 } else { u32::try_from(rng.range(1, 6)).unwrap() })
            }
            Theme::Holds if rng.chance(300) => Kind::OfOneCode(rng.range(SECOND, 40 * SECOND)),
            Theme::Events | Theme::Combined if rng.chance(400) => {
                let timeout = rng.chance(600).then(|| rng.range(0, 30) * SECOND);
                Kind::Waiting(timeout, rng.chance(500))
            }
            Theme::None
            | Theme::Overrides
            | Theme::Limits
            | Theme::Killers
            | Theme::Holds
            | Theme::Events
            | Theme::Hooks
            | Theme::Calendars
            | Theme::Combined => kind,
        }
    }

    /// This run kills the process; the machine starts it again.
    fn kill(&mut self, machine: usize, run: &Run) {
        self.checks.lock().count_event("killed its worker");
        self.note(format_args!("{} kills machine {machine}", run.id));
        self.crash(machine);
        let delay = self.rng.range(SECOND, MINUTE / 2);
        self.after(delay, Event::Start { machine });
    }

    /// What a handler does that continues only with the code it started with; `None` if this is
    /// that code.
    fn begun_with(&self, machine: usize, task: &Task, wall: Timestamp) -> Option<Doing> {
        let code = &self.machines[machine].code;
        let own = format!("\"{code}\"");
        let Some(step) = task.steps.get("code") else {
            return Some(record(task, "code", StepState::Done, Some(&own), wall));
        };
        let is_own = step.result.as_deref() == Some(&*own);
        let note = "begun with other code".into();
        (!is_own).then(|| Self::end(task, Completion::Held { code: Arc::clone(code), note }))
    }

    /// Starts a child once, records which, and waits until it has finished.
    fn invoke(&mut self, machine: usize, task: &Task, workflow: &str, wall: Timestamp) -> Doing {
        let attempt = task.run.attempt;
        let record_of_child = task.steps.get("child");
        let child = match record_of_child {
            Some(step) if step.state == StepState::Sleeping => step.result.as_deref(),
            Some(step) if step.state == StepState::Failed && step.run_attempt == attempt => {
                return Self::end(task, failure(task, wall));
            }
            Some(_) | None => None,
        };
        let Some(child) = child else {
            let id = RunId::new(wall, self.rng.bits());
            let key = format!("{}:child:{attempt}", task.run.id);
            let new = NewRun {
                parent: Some(task.run.id.clone()),
                idempotency_key: Some(key.into()),
                ..any_run(id, workflow, wall)
            };
            return Doing::Recording(Box::new(Command::CreateRun(Box::new(new))));
        };
        match self.machines[machine].store.run(PROJECT, &child.into()) {
            Ok(Some(run)) if run.state == RunState::Succeeded => {
                record(task, "child", StepState::Done, run.result.as_deref(), wall)
            }
            Ok(Some(run)) if run.state.is_finished() => record(task, "child", StepState::Failed, None, wall),
            // Pruned: it finished longer than a retention ago.
            Ok(None) => record(task, "child", StepState::Failed, None, wall),
            // Only the child's completion wakes this run.
            Ok(Some(_)) => {
                let wakes_at = Timestamp::MAX;
                Self::end(task, Completion::Parked { wakes_at })
            }
            Err(_) => Doing::Deciding,
        }
    }

    pub(super) fn end(task: &Task, ending: Completion) -> Doing {
        let command = Command::CompleteRun {
            run: task.run.id.clone(),
            token: task.run.token,
            ending: Box::new(ending),
            stands_alone: task.run.schedule_id.is_none() && task.run.parent.is_none(),
            tells: false,
        };
        Doing::Completion(Box::new(command))
    }

    /// Commits like group commit does: `None` if the store failed and the command must be sent
    /// again.
    pub(super) fn commit(&mut self, machine: usize, command: &Command) -> Option<Result<Answer, Rejection>> {
        let it = &self.machines[machine];
        let wall = it.clock.now(self.truth).wall;
        let mut command = command.clone();
        let reserved =
            it.engine.as_ref().and_then(|engine| reserve(engine, &mut command, it.clock.now(self.truth)));
        let Ok(mut outcomes) = it.store.commit(std::slice::from_ref(&command), wall) else {
            if let Some(Ok(permit)) = reserved {
                // The run may have been created and claimed. As the service does, wakes the engine
                // to look it up.
                drop(permit);
                self.receive(machine, Message::Added);
            }
            return None;
        };
        let outcome = outcomes.remove(0);
        match &outcome {
            Ok(_) | Err(Rejection::Fenced) => {}
            Err(rejection) => self.checks.lock().fail(format_args!("{command:?} was refused: {rejection}")),
        }
        // Informs the engine of this process.
        match (&outcome, reserved) {
            (Ok(Answer::Created { claimed: Some(run), .. }), Some(Ok(permit))) => {
                self.checks.lock().count_event("claimed as created");
                let run = Box::new(ClaimedRun { run: (**run).clone(), journal: Vec::new(), is_first: true });
                self.receive_later(machine, Message::Claimed { run, permit });
            }
            (_, reserved) => {
                if let Some(Ok(permit)) = reserved {
                    permit.settle();
                }
                if let Some(news) = Message::news_of(&command, &outcome) {
                    self.receive(machine, news);
                }
            }
        }
        Some(outcome)
    }

    /// The application invokes a run of one of its workflows.
    pub fn invoke_by_hand(&mut self) {
        let up: Vec<usize> =
            (0..self.machines.len()).filter(|machine| self.machines[*machine].power == Power::Up).collect();
        if up.is_empty() {
            return;
        }
        let machine = *self.rng.pick(&up);
        let workflow = *self.rng.pick(&self.machines[machine].workflows);
        let wall = self.machines[machine].clock.now(self.truth).wall;
        let has_own = self.theme.has_limits() && self.rng.chance(500);
        let priority = has_own.then(|| u8::try_from(self.rng.range(0, 9)).unwrap());
        let key = if has_own { *self.rng.pick(&["u7", "u8", "u9"]) } else { "global" };
        let is_delayed = self.theme == Theme::Combined && self.rng.chance(300);
        let delay = if is_delayed { self.rng.range(0, MINUTE) } else { 0 };
        let at = Timestamp::from_micros(wall.as_micros() + delay);
        let new = NewRun {
            priority,
            key: key.into(),
            origin: Origin::Invoke,
            parent: None,
            idempotency_key: None,
            ..any_run(RunId::new(wall, self.rng.bits()), workflow, at)
        };
        if is_delayed {
            self.checks.lock().count_event("delayed");
        }
        // A caller whose call failed does not retry.
        let _ = self.commit(machine, &Command::CreateRun(Box::new(new)));
    }
}

/// A permit for the run that the command creates, if it creates one and one is free.
fn reserve(
    engine: &Engine<FaultyStore, SentLog>,
    command: &mut Command,
    now: Now,
) -> Option<Result<Permit, QueuedRequest>> {
    let Command::CreateRun(new) = command else { return None };
    let reserved = engine.permits().reserve(PROJECT, &new.workflow, now.mono)?;
    new.claim_for = reserved.as_ref().ok().map(|permit| permit.worker().clone());
    Some(reserved)
}

/// A run that another run invokes.
pub(super) fn any_run(id: RunId, workflow: &str, wall: Timestamp) -> NewRun {
    NewRun {
        id,
        project: PROJECT.into(),
        workflow: workflow.into(),
        key: "global".into(),
        schedule_id: None,
        slot: None,
        last_slot: None,
        upcoming: None,
        timezone: "UTC".into(),
        origin: Origin::Child,
        payload: None,
        input: None,
        available_at: wall,
        behind: false,
        revokes_claims: false,
        revision: None,
        parent: None,
        idempotency_key: None,
        together: None,
        claim_for: None,
        priority: None,
    }
}

/// The behavior of the handler in this attempt, and whether it reacts slowly to a request to stop.
fn character(run: &Run) -> (Kind, bool) {
    let mut rng = Rng(hash(u64::from(run.attempt), run.id.as_str()));
    let kind = match rng.range(0, 99) {
        0..=36 => Kind::Steps(0, 0),
        37..=63 => Kind::Steps(u32::try_from(rng.range(1, 4)).unwrap(), rng.range(100 * MS, 6 * SECOND)),
        // Outlasts the lease.
        64..=73 => Kind::Steps(u32::try_from(rng.range(1, 2)).unwrap(), rng.range(18 * SECOND, 50 * SECOND)),
        74..=82 => Kind::Failing,
        83..=88 => Kind::Sleeping(rng.range(SECOND, 40 * SECOND)),
        // Children start no children, so that the recursion ends.
        89..=95 if run.parent.is_none() => {
            Kind::Invoking(WORKFLOWS[usize::try_from(rng.range(0, 2)).unwrap()])
        }
        89..=95 => Kind::Steps(1, SECOND),
        _ => Kind::Hanging,
    };
    (kind, rng.chance(200))
}

fn hash(seed: u64, text: &str) -> u64 {
    text.bytes().fold(seed, |seed, byte| (seed ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

fn failure(task: &Task, wall: Timestamp) -> Completion {
    let backoff = Backoff { initial_us: SECOND, factor: 2.0, maximum_us: MINUTE, jitter: 0.1 };
    let may_retry = task.run.attempt <= RETRY_MAX;
    let retry_at = may_retry.then(|| backoff.retry_at(task.run.id.as_str(), task.run.attempt, wall));
    Completion::Failed { error: "{}".into(), retry_at }
}

pub(super) fn record(
    task: &Task,
    name: &str,
    state: StepState,
    result: Option<&str>,
    wall: Timestamp,
) -> Doing {
    let step = StepRecord {
        name: name.into(),
        state,
        attempt: 1,
        run_attempt: task.run.attempt,
        result: Some(result.unwrap_or("null").into()),
        error: None,
        wakes_at: None,
        started_at: wall,
        finished_at: wall,
    };
    let command = Command::RecordStep { run: task.run.id.clone(), token: task.run.token, step };
    Doing::Recording(Box::new(command))
}
