//! The protocol of claims, leases, and fencing tokens as a model of two workers, checked in every
//! reachable state.
//!
//! The checker is our own, a breadth-first search of seventy lines. The model needs properties of a
//! *change* ("what is finished stays finished") and of the whole graph ("from every state, work can
//! be completed without another fault"); `stateright` does not offer those for graphs with cycles,
//! and depends on a web server.
//!
//! Abstractions, and why they err on the safe side:
//!
//! - A pause (a suspended process) is a worker that does not take a step. Any worker may take any
//!   number of steps between two steps of the other, so everything it knows may be stale when it
//!   continues.
//! - Time does not exist: a lease may expire as soon as a heartbeat was seen. What holds here holds
//!   whatever clocks do.
//! - A handler never receives a request to stop: it continues until the store rejects it.
//!
//! The rows and rules of [`Store`] are those of `store::command`; [`Rules`] has a switch for each
//! rule that is claimed to be necessary, and the tests below show what breaks without it.
#![allow(clippy::unwrap_used, reason = "test helpers")]

use std::collections::HashMap;
use std::collections::hash_map::Entry;

const SLOTS: u8 = 2;

/// The parts of the protocol that can be switched off.
#[derive(Copy, Clone)]
#[expect(clippy::struct_excessive_bools, reason = "independent switches")]
struct Rules {
    /// A handler's write is rejected unless its token is the run's.
    is_fenced: bool,
    /// A claim raises the token.
    raises_token: bool,
    /// A decision is rejected if the schedule has changed since it was read.
    checks_revision: bool,
    /// A slot's run id derives from the slot, so that the run can't exist twice.
    has_slot_ids: bool,
    /// Expiring a worker is rejected if it has sent a heartbeat since.
    checks_heartbeat: bool,
    /// A claim returns the recorded steps.
    brings_journal: bool,
    /// A worker that lost the reply to a claim looks up what it holds.
    adopts: bool,
}

const PROTOCOL: Rules = Rules {
    is_fenced: true,
    raises_token: true,
    checks_revision: true,
    has_slot_ids: true,
    checks_heartbeat: true,
    brings_journal: true,
    adopts: true,
};

// ---- the store
// ---------------------------------------------------------------------------------------------------

#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
enum RunState {
    Queued,
    /// Claimed by this worker.
    Running(u8),
    Finished,
}

#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
struct Run {
    slot: u8,
    state: RunState,
    token: u8,
    /// The claim that recorded the run's one step.
    step: Option<u8>,
    /// The claim whose completion was recorded last.
    ended: Option<u8>,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Store {
    revision: u8,
    next_slot: u8,
    runs: Vec<Run>,
    /// `(id, heartbeat)` of the registered workers.
    workers: Vec<(u8, u8)>,
}

#[derive(Copy, Clone, PartialEq, Eq, Debug)]
enum Rejection {
    WorkerGone,
    Stale,
    Fenced,
}

impl Store {
    fn bump_heartbeat(&mut self, worker: u8) -> Result<(), Rejection> {
        let row = self.workers.iter_mut().find(|(id, _)| *id == worker).ok_or(Rejection::WorkerGone)?;
        row.1 += 1;
        Ok(())
    }

    fn fire(&mut self, worker: u8, decision: Decision, rules: Rules) -> Result<Option<usize>, Rejection> {
        if rules.checks_revision && decision.revision != self.revision {
            return Err(Rejection::Stale);
        }
        if !self.workers.iter().any(|(id, _)| *id == worker) {
            return Err(Rejection::WorkerGone);
        }
        self.revision += 1;
        self.next_slot = decision.slot + 1;
        if rules.has_slot_ids && self.runs.iter().any(|run| run.slot == decision.slot) {
            return Ok(None);
        }
        let state = RunState::Running(worker);
        self.runs.push(Run { slot: decision.slot, state, token: 1, step: None, ended: None });
        self.bump_heartbeat(worker)?;
        Ok(Some(self.runs.len() - 1))
    }

    fn claim(&mut self, worker: u8, rules: Rules) -> Result<Option<usize>, Rejection> {
        if !self.workers.iter().any(|(id, _)| *id == worker) {
            return Err(Rejection::WorkerGone);
        }
        let Some(permit) = self.runs.iter().position(|run| run.state == RunState::Queued) else {
            return Ok(None);
        };
        self.runs[permit].state = RunState::Running(worker);
        self.runs[permit].token += u8::from(rules.raises_token);
        self.bump_heartbeat(worker)?;
        Ok(Some(permit))
    }

    fn accepts(&self, run: usize, token: u8, rules: Rules) -> bool {
        let run = &self.runs[run];
        matches!(run.state, RunState::Running(_)) && (run.token == token || !rules.is_fenced)
    }

    fn record(&mut self, run: usize, token: u8, rules: Rules) -> Result<(), Rejection> {
        if !self.accepts(run, token, rules) {
            return Err(Rejection::Fenced);
        }
        self.runs[run].step.get_or_insert(token);
        Ok(())
    }

    fn end(&mut self, run: usize, token: u8, state: RunState, rules: Rules) -> Result<(), Rejection> {
        if !self.accepts(run, token, rules) {
            let is_repeated = self.runs[run].ended == Some(token);
            return if is_repeated { Ok(()) } else { Err(Rejection::Fenced) };
        }
        self.runs[run].state = state;
        self.runs[run].ended = Some(token);
        Ok(())
    }

    fn expire(&mut self, worker: u8, heartbeat: u8, rules: Rules) -> Result<(), Rejection> {
        if let Some((_, current)) = self.workers.iter().find(|(id, _)| *id == worker)
            && *current != heartbeat
            && rules.checks_heartbeat
        {
            return Err(Rejection::Stale);
        }
        for run in self.runs.iter_mut().filter(|run| run.state == RunState::Running(worker)) {
            run.state = RunState::Queued;
        }
        self.workers.retain(|(id, _)| *id != worker);
        Ok(())
    }
}

// ---- the workers
// -------------------------------------------------------------------------------------------------

#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
struct Decision {
    revision: u8,
    slot: u8,
}

#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
enum Fixture {
    /// Before the step, which the journal does not contain.
    Ready,
    /// The step has had its effect, and is being recorded.
    Executed,
    /// The step is known to be recorded; the run is being completed.
    Recorded,
    /// The attempt has failed, and the run is being given back for another attempt.
    Failed,
}

#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
struct Handler {
    run: usize,
    token: u8,
    fixture: Fixture,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Worker {
    id: u8,
    decision: Option<Decision>,
    handlers: Vec<Handler>,
    has_unknown_claims: bool,
    /// A peer and the heartbeat that was seen last.
    seen: Option<(u8, u8)>,
}

/// How many faults may happen, in any combination: crashes, lost replies, expiry of a worker that
/// is only slow, failed attempts.
const FAULTS: u8 = 2;

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct State {
    store: Store,
    workers: [Worker; 2],
    /// Faults that may still happen.
    faults: u8,
    next_id: u8,
}

/// One change, with its description for the trace.
struct Change {
    label: String,
    to: State,
    /// A fault: progress must not depend on it.
    is_fault: bool,
    /// The property that the change itself breaks.
    broke: Option<&'static str>,
}

impl State {
    fn first() -> Self {
        let worker =
            |id| Worker { id, decision: None, handlers: vec![], has_unknown_claims: false, seen: None };
        Self {
            store: Store { revision: 0, next_slot: 0, runs: vec![], workers: vec![(0, 1), (1, 1)] },
            workers: [worker(0), worker(1)],
            faults: FAULTS,
            next_id: 2,
        }
    }

    /// The same state without history that nothing depends on, so that equal futures are one state.
    /// Of a heartbeat, it keeps only whether it is the one that was seen; of ids, only their owner;
    /// of sightings of live workers, nothing once no expiry of them can happen; of a handler that
    /// will be rejected whatever it sends, only that it will send something.
    fn canonical(mut self, rules: Rules) -> Self {
        let rows = std::mem::take(&mut self.store.workers);
        let mut names: Vec<u8> = self.workers.iter().map(|worker| worker.id).collect();
        names.extend(rows.iter().map(|row| row.0).filter(|id| self.workers.iter().all(|w| w.id != *id)));
        let name = |id| u8::try_from(names.iter().position(|known| *known == id).unwrap()).unwrap();
        for worker in &mut self.workers {
            if rules.is_fenced && rules.raises_token {
                for held in &mut worker.handlers {
                    let is_repeating = self.store.runs[held.run].ended == Some(held.token);
                    if !is_repeating && !self.store.accepts(held.run, held.token, rules) {
                        held.fixture = Fixture::Executed;
                    }
                }
                worker.handlers.sort_unstable();
            }
            worker.id = name(worker.id);
            worker.seen = worker.seen.and_then(|(peer, heartbeat)| {
                let row = rows.iter().find(|row| row.0 == peer)?;
                let is_current = row.1 == heartbeat;
                let can_bury = self.faults > 0 || name(peer) > 1;
                can_bury.then_some((name(peer), u8::from(is_current)))
            });
        }
        for run in &mut self.store.runs {
            if let RunState::Running(id) = &mut run.state {
                *id = name(*id);
            }
        }
        self.store.workers = rows.iter().map(|row| (name(row.0), 1)).collect();
        self.store.workers.sort_unstable();
        self.next_id = u8::try_from(names.len()).unwrap();
        self
    }

    fn is_complete(&self) -> bool {
        self.store.next_slot == SLOTS && self.store.runs.iter().all(|run| run.state == RunState::Finished)
    }

    /// The worker continues under a new id. Its handlers may not have noticed.
    fn register(&mut self, who: usize) {
        let id = self.next_id;
        self.next_id += 1;
        self.store.workers.push((id, 0));
        let worker = &mut self.workers[who];
        (worker.id, worker.decision, worker.has_unknown_claims, worker.seen) = (id, None, false, None);
    }

    fn hold(&mut self, who: usize, run: usize, rules: Rules) {
        let row = &self.store.runs[run];
        let fixture =
            if rules.brings_journal && row.step.is_some() { Fixture::Recorded } else { Fixture::Ready };
        let handlers = &mut self.workers[who].handlers;
        handlers.push(Handler { run, token: row.token, fixture });
        handlers.sort_unstable();
    }

    fn changes(&self, rules: Rules) -> Vec<Change> {
        let mut changes = Vec::new();
        for who in 0..self.workers.len() {
            self.claims(who, rules, &mut changes);
            self.handler_steps(who, rules, &mut changes);
            self.heartbeats(who, rules, &mut changes);
        }
        changes
    }

    /// Adds a change, and the same change with its reply lost if `unknowing` says what the worker
    /// does then.
    fn commit(
        &self,
        label: String,
        knowing: impl FnOnce(&mut Self),
        unknowing: impl FnOnce(&mut Self),
        changes: &mut Vec<Change>,
    ) {
        if self.faults > 0 {
            let mut to = self.clone();
            to.faults -= 1;
            unknowing(&mut to);
            changes.push(Change { label: format!("{label}, reply lost"), to, is_fault: true, broke: None });
        }
        let mut to = self.clone();
        knowing(&mut to);
        changes.push(Change { label, to, is_fault: false, broke: None });
    }

    fn claims(&self, who: usize, rules: Rules, changes: &mut Vec<Change>) {
        let worker = &self.workers[who];
        let id = worker.id;
        if worker.has_unknown_claims {
            let mut to = self.clone();
            to.workers[who].has_unknown_claims = false;
            for (permit, run) in self.store.runs.iter().enumerate() {
                let is_held =
                    worker.handlers.iter().any(|held| (held.run, held.token) == (permit, run.token));
                if rules.adopts && run.state == RunState::Running(id) && !is_held {
                    to.hold(who, permit, rules);
                }
            }
            changes.push(Change { label: format!("{who} adopts"), to, is_fault: false, broke: None });
            return;
        }
        let take = |to: &mut Self, outcome: Result<Option<usize>, Rejection>| match outcome {
            Ok(Some(run)) => to.hold(who, run, rules),
            Err(Rejection::WorkerGone) => to.register(who),
            Ok(None) | Err(_) => {}
        };
        if let Some(decision) = worker.decision {
            self.commit(
                format!("{who} commits {decision:?}"),
                |to| {
                    to.workers[who].decision = None;
                    let outcome = to.store.fire(id, decision, rules);
                    take(to, outcome);
                },
                |to| {
                    to.workers[who].decision = None;
                    to.workers[who].has_unknown_claims = true;
                    let _ = to.store.fire(id, decision, rules);
                },
                changes,
            );
        } else if self.store.next_slot < SLOTS {
            let mut to = self.clone();
            to.workers[who].decision =
                Some(Decision { revision: self.store.revision, slot: self.store.next_slot });
            changes.push(Change { label: format!("{who} decides"), to, is_fault: false, broke: None });
        }
        if self.store.runs.iter().any(|run| run.state == RunState::Queued) {
            self.commit(
                format!("{who} claims"),
                |to| {
                    let outcome = to.store.claim(id, rules);
                    take(to, outcome);
                },
                |to| {
                    to.workers[who].has_unknown_claims = true;
                    let _ = to.store.claim(id, rules);
                },
                changes,
            );
        }
    }

    fn handler_steps(&self, who: usize, rules: Rules, changes: &mut Vec<Change>) {
        for (permit, &Handler { run, token, fixture }) in self.workers[who].handlers.iter().enumerate() {
            let name = format!("{who}: handler of run {run}, token {token}");
            let goes_to = |to: &mut Self, fixture| {
                to.workers[who].handlers[permit].fixture = fixture;
                to.workers[who].handlers.sort_unstable();
            };
            let is_over = |to: &mut Self| {
                to.workers[who].handlers.remove(permit);
            };
            match fixture {
                Fixture::Ready => {
                    let mut to = self.clone();
                    goes_to(&mut to, Fixture::Executed);
                    // A handler that lost its claim may repeat the effect, which nothing could
                    // prevent. A handler whose claim came after the record knows the step and must
                    // not.
                    let is_known = self.store.runs[run].step.is_some_and(|recorded| recorded <= token);
                    let broke = is_known.then_some("a recorded step was executed again");
                    changes.push(Change { label: format!("{name} executes"), to, is_fault: false, broke });
                }
                Fixture::Executed => self.commit(
                    format!("{name} records"),
                    |to| match to.store.record(run, token, rules) {
                        Ok(()) => goes_to(to, Fixture::Recorded),
                        Err(_) => is_over(to),
                    },
                    // Sent again until there is a reply.
                    |to| {
                        let _ = to.store.record(run, token, rules);
                    },
                    changes,
                ),
                Fixture::Recorded | Fixture::Failed => {
                    let state =
                        if fixture == Fixture::Failed { RunState::Queued } else { RunState::Finished };
                    self.commit(
                        format!("{name} ends {state:?}"),
                        |to| {
                            // Accepted or rejected, there is nothing left to do.
                            let _ = to.store.end(run, token, state, rules);
                            is_over(to);
                        },
                        |to| {
                            let _ = to.store.end(run, token, state, rules);
                        },
                        changes,
                    );
                }
            }
            if self.faults > 0 && matches!(fixture, Fixture::Ready | Fixture::Recorded) {
                let mut to = self.clone();
                to.faults -= 1;
                goes_to(&mut to, Fixture::Failed);
                changes.push(Change { label: format!("{name} fails"), to, is_fault: true, broke: None });
            }
        }
    }

    fn heartbeats(&self, who: usize, rules: Rules, changes: &mut Vec<Change>) {
        let worker = &self.workers[who];
        let beat_of = |id| self.store.workers.iter().find(|row| row.0 == id).map(|row| row.1);
        let holds = |id| self.store.runs.iter().any(|run| run.state == RunState::Running(id));
        if beat_of(worker.id).is_none() {
            let mut to = self.clone();
            to.register(who);
            changes.push(Change { label: format!("{who} is gone"), to, is_fault: false, broke: None });
        } else if holds(worker.id) {
            let mut to = self.clone();
            let _ = to.store.bump_heartbeat(worker.id);
            changes.push(Change {
                label: format!("{who} sends a heartbeat"),
                to,
                is_fault: false,
                broke: None,
            });
        }
        for row in self.store.workers.iter().filter(|row| row.0 != worker.id && holds(row.0)) {
            if worker.seen != Some(*row) {
                let mut to = self.clone();
                to.workers[who].seen = Some(*row);
                changes.push(Change {
                    label: format!("{who} sees {row:?}"),
                    to,
                    is_fault: false,
                    broke: None,
                });
            }
        }
        if let Some((peer, heartbeat)) = worker.seen {
            let is_alive = self.workers.iter().any(|worker| worker.id == peer);
            let mut to = self.clone();
            to.workers[who].seen = None;
            let outcome = to.store.expire(peer, heartbeat, rules);
            let is_false_alarm = is_alive && outcome.is_ok() && beat_of(peer).is_some();
            if !is_false_alarm || self.faults > 0 {
                to.faults -= u8::from(is_false_alarm);
                let has_moved = beat_of(peer).is_some_and(|current| current != heartbeat);
                let broke = (has_moved && outcome.is_ok())
                    .then_some("a worker expired that had sent a heartbeat since");
                let label = format!("{who} buries {peer} at {heartbeat}: {outcome:?}");
                changes.push(Change { label, to, is_fault: is_false_alarm, broke });
            }
        }
        if self.faults > 0 {
            let mut to = self.clone();
            to.faults -= 1;
            to.workers[who].handlers.clear();
            to.register(who);
            changes.push(Change { label: format!("{who} crashes"), to, is_fault: true, broke: None });
        }
    }
}

// ---- what must hold
// ----------------------------------------------------------------------------------------------

/// The property that the change from one state to the next breaks.
fn broken(from: &State, to: &State, rules: Rules) -> Option<&'static str> {
    let runs = &to.store.runs;
    if (0..SLOTS).any(|slot| runs.iter().filter(|run| run.slot == slot).count() > 1) {
        return Some("a slot has two runs");
    }
    if to.store.next_slot < from.store.next_slot {
        return Some("a decided slot is to come again");
    }
    if (0..to.store.next_slot).any(|slot| !runs.iter().any(|run| run.slot == slot)) {
        return Some("a slot was passed over");
    }
    let handlers = || to.workers.iter().flat_map(|worker| &worker.handlers);
    for run in 0..runs.len() {
        let writers = handlers().filter(|held| held.run == run);
        if writers.filter(|held| to.store.accepts(run, held.token, rules)).count() > 1 {
            return Some("two handlers can write to one run");
        }
    }
    for (was, is) in from.store.runs.iter().zip(runs) {
        if was.state == RunState::Finished && is != was {
            return Some("a finished run has changed");
        }
        if was.step.is_some() && is.step != was.step {
            return Some("a step was recorded twice");
        }
        if is.step.is_none() && is.state == RunState::Finished {
            return Some("a run was finished without its step");
        }
    }
    None
}

#[derive(Debug)]
struct Proof {
    state_count: usize,
    change_count: usize,
}

#[derive(Debug)]
struct Counterexample {
    what: &'static str,
    /// The shortest path there.
    trace: Vec<String>,
}

/// Visits every state; returns the shortest path to a wrong one.
fn check(rules: Rules) -> Result<Proof, Counterexample> {
    let mut numbers = HashMap::from([(State::first(), 0_usize)]);
    let mut states = vec![State::first()];
    let mut came_from = vec![(0, String::new())];
    // Changes that are not faults, reversed.
    let mut back: Vec<Vec<usize>> = vec![vec![]];
    let mut change_count = 0;
    let mut at = 0;
    while at < states.len() {
        let from = states[at].clone();
        for Change { label, to, is_fault, broke } in from.changes(rules) {
            change_count += 1;
            if let Some(what) = broke.or_else(|| broken(&from, &to, rules)) {
                let mut trace = way(&came_from, at);
                trace.push(label);
                return Err(Counterexample { what, trace });
            }
            let number = match numbers.entry(to.canonical(rules)) {
                Entry::Occupied(known) => *known.get(),
                Entry::Vacant(new) => {
                    states.push(new.key().clone());
                    came_from.push((at, label));
                    back.push(vec![]);
                    *new.insert(states.len() - 1)
                }
            };
            if !is_fault {
                back[number].push(at);
            }
        }
        at += 1;
    }
    let mut can_complete: Vec<bool> = states.iter().map(State::is_complete).collect();
    let mut open: Vec<usize> = (0..states.len()).filter(|at| can_complete[*at]).collect();
    while let Some(at) = open.pop() {
        for &before in &back[at] {
            if !std::mem::replace(&mut can_complete[before], true) {
                open.push(before);
            }
        }
    }
    match can_complete.iter().position(|can| !can) {
        Some(at) => Err(Counterexample { what: "work is never completed", trace: way(&came_from, at) }),
        None => Ok(Proof { state_count: states.len(), change_count }),
    }
}

fn way(came_from: &[(usize, String)], mut at: usize) -> Vec<String> {
    let mut trace = Vec::new();
    while at != 0 {
        trace.push(came_from[at].1.clone());
        at = came_from[at].0;
    }
    trace.reverse();
    trace
}

// ---- the tests
// ---------------------------------------------------------------------------------------------------

#[test]
fn the_protocol_holds_in_every_reachable_state() {
    let proof = check(PROTOCOL).unwrap_or_else(|wrong| panic!("{}: {:#?}", wrong.what, wrong.trace));
    eprintln!("the protocol: {} states, {} changes", proof.state_count, proof.change_count);
    assert!(proof.state_count > 10_000, "the model has shrunk to {} states", proof.state_count);
}

fn assert_breaks(rules: Rules, what: &str) {
    let wrong = check(rules).expect_err("a protocol without this rule must fail");
    eprintln!("{}:\n  {}", wrong.what, wrong.trace.join("\n  "));
    assert_eq!(wrong.what, what);
}

#[test]
fn without_fencing_an_overtaken_handler_writes() {
    assert_breaks(Rules { is_fenced: false, ..PROTOCOL }, "two handlers can write to one run");
}

#[test]
fn fencing_needs_claims_that_raise_the_token() {
    assert_breaks(Rules { raises_token: false, ..PROTOCOL }, "two handlers can write to one run");
}

#[test]
fn without_revisions_a_stale_decision_turns_the_schedule_back() {
    assert_breaks(Rules { checks_revision: false, ..PROTOCOL }, "a decided slot is to come again");
}

/// The derived id is a second safeguard for the same property.
#[test]
fn without_revisions_and_ids_of_slots_a_slot_runs_twice() {
    let rules = Rules { checks_revision: false, has_slot_ids: false, ..PROTOCOL };
    assert_breaks(rules, "a slot has two runs");
    check(Rules { has_slot_ids: false, ..PROTOCOL }).expect("revisions alone suffice");
}

#[test]
fn expiry_that_ignores_the_heartbeat_takes_runs_from_a_live_worker() {
    assert_breaks(
        Rules { checks_heartbeat: false, ..PROTOCOL },
        "a worker expired that had sent a heartbeat since",
    );
}

#[test]
fn a_claim_without_the_journal_repeats_steps() {
    assert_breaks(Rules { brings_journal: false, ..PROTOCOL }, "a recorded step was executed again");
}

#[test]
fn a_claim_with_a_lost_reply_must_be_recovered() {
    assert_breaks(Rules { adopts: false, ..PROTOCOL }, "work is never completed");
}
