//! Events: who sends them, handlers that wait for them, and a model of what each wait gets.

use super::checks::{Checks, PROJECT};
use super::handlers::{Doing, Task, record};
use super::world::{Event, SECOND, World};
use polos::calendar::Timestamp;
use polos::model::{Completion, Json, NO_DEADLINE, NewEvent, Run, RunId, RunState, StepRecord, StepState};
use polos::store::{Answer, Command, Outcome, Rejection, Store, StoreWrites};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What a run that waits for events waits for.
pub const NAMES: [&str; 2] = ["e0", "e1"];

/// The model of one event of one run.
#[derive(Default, Debug)]
struct Expected {
    /// The payload and the idempotency key of the accepted event.
    event: Option<(Json, Option<Arc<str>>)>,
    /// The deadline of the first command to wait, if there was one.
    deadline: Option<Option<Timestamp>>,
    /// What the wait gets: the payload, or nothing after its deadline. Never changes.
    outcome: Option<Option<Json>>,
}

/// The model of all events.
#[derive(Default)]
pub struct Events {
    expected: BTreeMap<(RunId, Arc<str>), Expected>,
    /// Claimed runs, and the events that they wait for and that came during the claim. Such a run
    /// must not park for long, and its claim may have read the step before.
    rung: BTreeMap<RunId, BTreeSet<Arc<str>>>,
}

impl World {
    /// Others send events to a run that starts: before it waits, while it waits, or too late.
    pub fn expect_events(&mut self, run: &RunId) {
        for name in NAMES {
            for _ in 0..self.rng.range(0, 2) {
                let command = self.event(run, name);
                let delay = self.rng.range(0, 40 * SECOND);
                self.after(delay, Event::Call { command: Box::new(command) });
            }
        }
    }

    fn event(&mut self, run: &RunId, name: &str) -> Command {
        let new = NewEvent {
            project: PROJECT.into(),
            run: run.clone(),
            name: name.into(),
            payload: self.rng.bits().to_string().into(),
            idempotency_key: self.rng.chance(700).then(|| format!("k{}", self.rng.range(0, 2)).into()),
            sent_to: None,
        };
        Command::SendEvent(Box::new(new))
    }

    /// Calls the API. A caller that got no answer calls again later, and so do some others.
    pub fn call(&mut self, command: Box<Command>) {
        let now = Timestamp::from_micros(self.truth);
        let is_unsure = self.api.commit(std::slice::from_ref(&command), now).is_err();
        if is_unsure || !self.is_calm && self.rng.chance(100) {
            let delay = self.rng.range(0, 20 * SECOND);
            self.checks.lock().count_event("called again");
            self.after(delay, Event::Call { command });
        }
        self.hint_machines();
    }

    /// Sends what runs wait for that would otherwise wait for ever.
    pub fn send_what_is_awaited(&mut self) {
        let awaited = self.checks.lock().awaited();
        for (run, name) in awaited {
            let command = self.event(&run, &name);
            self.call(Box::new(command));
        }
    }

    /// A handler that waits for all events, or for one after the other. `None` once it has all.
    pub fn wait_for_events(
        &mut self,
        task: &Task,
        (timeout, together): (Option<i64>, bool),
        wall: Timestamp,
    ) -> Option<Doing> {
        let mut wakes_at = Vec::new();
        for name in NAMES {
            let known = task.steps.get(name);
            if let Some(step) = known.filter(|step| step.state == StepState::Done) {
                self.checks.lock().check_delivery(&task.run.id, step);
                continue;
            }
            if !task.asked.contains(name) {
                let deadline = timeout.map(|timeout| Timestamp::from_micros(wall.as_micros() + timeout));
                return Some(await_event(task, name, deadline, wall));
            }
            wakes_at.push(known.and_then(|step| step.wakes_at));
            if !together {
                break;
            }
        }
        let wakes_at = wakes_at.into_iter().map(|at| at.unwrap_or(NO_DEADLINE)).min()?;
        Some(Self::end(task, Completion::Parked { wakes_at }))
    }

    /// An event at the very deadline of a wait.
    pub fn send_at_the_deadline(&mut self, run: &RunId, step: &StepRecord) {
        let Some(deadline) = step.wakes_at.filter(|_| step.state == StepState::Waiting) else { return };
        if self.is_calm || deadline.as_micros() < self.truth || self.rng.chance(600) {
            return;
        }
        let command = self.event(run, &step.name);
        let delay = deadline.as_micros() + self.rng.range(-1, 1) - self.truth;
        self.after(delay, Event::Call { command: Box::new(command) });
    }
}

/// Asks how a wait stands.
fn await_event(task: &Task, name: &str, wakes_at: Option<Timestamp>, wall: Timestamp) -> Doing {
    let Doing::Recording(command) = record(task, name, StepState::Waiting, None, wall) else {
        unreachable!("a step is recorded")
    };
    let Command::RecordStep { run, token, step } = *command else { unreachable!("a step is recorded") };
    let step = StepRecord { wakes_at, result: None, ..step };
    Doing::Recording(Box::new(Command::AwaitEvent { run, token, step }))
}

impl Events {
    fn of(&mut self, run: &RunId, name: &Arc<str>) -> &mut Expected {
        self.expected.entry((run.clone(), Arc::clone(name))).or_default()
    }

    /// Forgets a deleted run.
    pub fn remove(&mut self, run: &RunId) {
        self.expected.retain(|(id, _), _| id != run);
        self.rung.remove(run);
    }

    /// What the store must answer to an event for this run.
    fn sent(&mut self, run: Option<&Run>, new: &NewEvent, now: Timestamp) -> (Outcome, &'static str) {
        let Some(run) = run else {
            // It finished so long ago that it was pruned.
            return (Err(Rejection::RunNotFound(new.run.clone())), "an event to a finished run");
        };
        let answer = |is_accepted, woken| Ok(Answer::Accepted { is_accepted, woken });
        let it = self.of(&new.run, &new.name);
        if let Some((_, Some(key))) = &it.event
            && new.idempotency_key.as_ref() == Some(key)
        {
            return (answer(true, false), "an event sent again");
        }
        if run.state.is_finished() {
            let refused = Rejection::RunFinished(new.run.clone(), run.state, Arc::clone(&new.name));
            return (Err(refused), "an event to a finished run");
        }
        if it.event.is_some() {
            return (answer(false, false), "an event behind another");
        }
        if it.deadline.is_none() && it.outcome.is_none() && run.slot.is_some_and(|slot| slot > now) {
            return (Err(Rejection::RunNotDue(new.run.clone())), "an event ahead of its run's slot");
        }
        let is_late = it.deadline.flatten().is_some_and(|deadline| deadline <= now);
        if it.outcome.is_some() || is_late {
            return (answer(false, false), "an event after its deadline");
        }
        it.event = Some((Arc::clone(&new.payload), new.idempotency_key.clone()));
        if it.deadline.is_none() {
            return (answer(true, false), "an event before its wait");
        }
        it.outcome = Some(Some(Arc::clone(&new.payload)));
        if run.state == RunState::Running {
            self.rung.entry(new.run.clone()).or_default().insert(Arc::clone(&new.name));
        }
        (answer(true, run.state == RunState::Waiting), "an event for a wait")
    }

    /// How a wait must stand after a command to wait: its state, result, and deadline.
    fn asked(
        &mut self,
        run: &RunId,
        asked: &StepRecord,
        now: Timestamp,
    ) -> (StepState, Option<Json>, Option<Timestamp>) {
        let it = self.of(run, &asked.name);
        let deadline = *it.deadline.get_or_insert(asked.wakes_at);
        if it.outcome.is_none() {
            let is_late = deadline.is_some_and(|deadline| deadline <= now);
            it.outcome = match &it.event {
                Some((payload, _)) => Some(Some(Arc::clone(payload))),
                None => is_late.then_some(None),
            };
        }
        match &it.outcome {
            Some(outcome) => (StepState::Done, outcome.clone(), deadline),
            None => (StepState::Waiting, None, deadline),
        }
    }
}

impl Checks {
    /// An event was sent: it is accepted exactly when the model says so.
    pub fn check_send(&mut self, store: &dyn Store, new: &NewEvent, outcome: &Outcome, now: Timestamp) {
        let run = self.run(&new.run).cloned();
        let (expected, event) = self.events.sent(run.as_ref(), new, now);
        if *outcome != expected {
            self.fail(format_args!("{new:?} was answered {outcome:?} and not {expected:?}"));
        }
        self.count_event(event);
        if let Ok(Answer::Accepted { woken: true, .. }) = outcome {
            let run = store.run(PROJECT, &new.run).unwrap();
            if run.as_ref().is_none_or(|run| run.available_at > now) {
                self.fail(format_args!("the event of {run:?} is there, and it sleeps on"));
            }
        }
        if event == "an event for a wait" {
            self.note_done(&new.run, &new.name);
        }
    }

    /// A run asked how its wait stands.
    pub fn check_wait(&mut self, run: &RunId, asked: &StepRecord, answer: &Answer, now: Timestamp) {
        let expected = self.events.asked(run, asked, now);
        let Answer::Wait(step) = answer else { self.fail(format_args!("{asked:?} got {answer:?}")) };
        if (step.state, step.result.clone(), step.wakes_at) != expected {
            self.fail(format_args!("{run} waits for {}: {step:?} and not {expected:?}", asked.name));
        }
        if step.state == StepState::Done {
            self.note_done(run, &asked.name);
        }
    }

    /// A handler gets what its wait got: always the same.
    pub fn check_delivery(&mut self, run: &RunId, step: &StepRecord) {
        let outcome = self.events.of(run, &step.name).outcome.clone();
        if outcome.as_ref() != Some(&step.result) {
            self.fail(format_args!("{run} got {step:?} and not {outcome:?}"));
        }
        self.count_event(if step.result.is_some() { "an event delivered" } else { "a wait timed out" });
    }

    /// A run parked: not for long if its event came meanwhile.
    pub fn check_parked(&self, store: &dyn Store, run: &RunId, now: Timestamp) {
        let Some(row) = store.run(PROJECT, run).unwrap() else { return };
        if self.events.rung.contains_key(run) && row.state == RunState::Waiting && row.available_at > now {
            self.fail(format_args!("the event came before {row:?} was parked, and it sleeps on"));
        }
    }

    /// Whether these are the steps that a claim may have read: all that are done, or all but those
    /// whose event came since.
    pub fn is_journal(&self, run: &RunId, journal: &BTreeSet<Arc<str>>, done: &BTreeSet<Arc<str>>) -> bool {
        let rung = self.events.rung.get(run);
        let is_new = |step: &Arc<str>| rung.is_some_and(|names| names.contains(step));
        journal.is_subset(done) && done.difference(journal).all(is_new)
    }

    /// A claim reads what was recorded.
    pub fn note_claim(&mut self, run: &RunId) {
        self.events.rung.remove(run);
    }

    /// The events without which some run would wait for ever.
    fn awaited(&self) -> Vec<(RunId, Arc<str>)> {
        let is_open = |it: &Expected| it.deadline == Some(None) && it.outcome.is_none();
        let is_unfinished = |run: &RunId| self.run(run).is_some_and(|run| !run.state.is_finished());
        let awaited = self.events.expected.iter().filter(|((run, _), it)| is_open(it) && is_unfinished(run));
        awaited.map(|(key, _)| key.clone()).collect()
    }

    /// Every outcome is stored, as the only one.
    pub fn audit_events(&self, store: &dyn Store) {
        for ((run, name), it) in &self.events.expected {
            let steps = store.steps(run).unwrap();
            let found: Vec<_> = steps.iter().filter(|step| step.name == *name).collect();
            let is_right = match (&it.outcome, it.deadline, found.as_slice()) {
                (Some(outcome), _, [step]) => step.state == StepState::Done && step.result == *outcome,
                (None, Some(_), [step]) => step.state == StepState::Waiting,
                (None, None, []) => true,
                _ => false,
            };
            if !is_right {
                self.fail(format_args!("{run} has {found:?} of {name}, expected {it:?}"));
            }
        }
    }
}
