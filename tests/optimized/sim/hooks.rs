//! Hook calls: the application that makes them, and a model of what it must be told.

use super::checks::{Checks, PROJECT};
use super::world::{Event, MINUTE, SECOND, Theme, World};
use polos::calendar::Timestamp;
use polos::engine::Message;
use polos::model::{
    Completion, HookCall, HookEvent, Run, RunId, RunState, SlotOutcome, WantedCalls, WorkerId,
};
use polos::store::{Answer, Command, Outcome, Store};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A run is late when it has not started so long after its slot.
const LATE_AFTER: i64 = 30 * SECOND;

/// What every worker wants to be told.
pub const WANTED: WantedCalls = WantedCalls { skipped: true, missed: true, late_after_us: Some(LATE_AFTER) };

/// What every worker tells.
pub const CALLS: [HookEvent; 5] =
    [HookEvent::Skipped, HookEvent::Missed, HookEvent::Late, HookEvent::Succeeded, HookEvent::Failed];

/// Longer than it takes from a claim to its entry on a healthy machine.
const ENTRY_MAX: i64 = 5 * SECOND;

/// The first entry of a run of which nothing shows that it was entered before.
struct Entry {
    at: i64,
    /// Whether its machine was healthy since before the run was available.
    is_steady: bool,
}

/// What has to be told, computed from the commands and the entries alone.
#[derive(Default)]
pub struct Hooks {
    /// When each run of a slot is late.
    due: BTreeMap<RunId, Timestamp>,
    entries: BTreeMap<RunId, Entry>,
    /// Runs whose worker died before it recorded a step.
    interrupted: BTreeSet<RunId>,
    /// Runs that a worker gave back: nobody knows whether it had entered them.
    given_back: BTreeSet<RunId>,
    /// Skipped and missed slots that have to be told.
    slots: BTreeSet<Arc<str>>,
    /// Outcomes of runs that have to be told.
    outcomes: BTreeSet<Arc<str>>,
    /// Who makes each call.
    taken: BTreeMap<Arc<str>, WorkerId>,
    made: BTreeSet<Arc<str>>,
}

impl World {
    /// Commits a completion. With hooks, the outcome is told.
    pub fn complete(&mut self, machine: usize, command: &Command) -> Option<Outcome> {
        let mut command = command.clone();
        if let Command::CompleteRun { tells, .. } = &mut command {
            *tells = self.theme == Theme::Hooks;
        }
        self.commit(machine, &command)
    }

    /// The application calls the hook of an outcome that is recorded.
    pub fn hold_hook(&mut self, machine: usize, run: &Run, outcome: &Outcome) {
        let Ok(Answer::Ended { state, .. }) = outcome else { return };
        let call = HookCall::outcome_id(&run.id, run.attempt, *state);
        if let Some(call) = call.filter(|_| self.theme == Theme::Hooks) {
            let (run, token) = (run.id.clone(), run.token);
            self.receive(machine, Message::HookHeld { run, token, call: Arc::clone(&call) });
            self.call_hooks(machine, vec![call]);
        }
    }

    /// The application calls hooks, and reports that later: it may die meanwhile.
    pub fn call_hooks(&mut self, machine: usize, calls: Vec<Arc<str>>) {
        for call in calls {
            self.note(format_args!("machine {machine} calls the hook of {call}"));
            let is_slow = !self.is_calm && self.rng.chance(300);
            let longest = if is_slow { 2 * MINUTE } else { SECOND };
            let delay = self.rng.range(0, longest);
            let incarnation = self.machines[machine].incarnation;
            self.after(delay, Event::HookReturns { machine, incarnation, call });
        }
    }
}

impl Checks {
    /// A handler is entered, as far as anything shows for the first time.
    pub fn note_first_entry(&mut self, run: &Run, well_since: i64) {
        let at = self.truth;
        let is_steady = well_since < run.available_at.as_micros();
        if let Some(hooks) = &mut self.hooks {
            hooks.entries.entry(run.id.clone()).or_insert(Entry { at, is_steady });
        }
    }

    /// Follows an accepted command, before the shadow copy does.
    pub fn check_hooks(&mut self, store: &dyn Store, command: &Command, answer: &Answer) {
        let Some(mut hooks) = self.hooks.take() else { return };
        let held = |worker: &WorkerId| -> Vec<RunId> {
            let is_held = |run: &&Run| run.state == RunState::Running && run.worker.as_ref() == Some(worker);
            self.unfinished_rows().filter(is_held).map(|run| run.id.clone()).collect()
        };
        let mut mistake = None;
        match (command, answer) {
            (Command::Fire { plan, .. }, _) => {
                for run in &plan.runs {
                    let due = Timestamp::from_micros(run.available_at.as_micros() + LATE_AFTER);
                    hooks.due.entry(run.id.clone()).or_insert(due);
                }
                for line in plan.ledger.iter().filter(|line| line.count > 0) {
                    let id = match line.outcome {
                        SlotOutcome::Ran => continue,
                        SlotOutcome::Skipped => HookCall::skipped_id(&plan.schedule, line.from),
                        SlotOutcome::Missed => HookCall::missed_id(&plan.schedule, line.from),
                    };
                    hooks.slots.insert(id);
                }
            }
            // A skip that is taken back can be made again.
            (Command::PatchSchedule { id, .. }, _) => {
                let skips = format!("skipped:{id}:");
                hooks.made.retain(|call| !call.starts_with(&skips));
            }
            (Command::ExpireWorker { worker, .. }, _) => hooks.interrupted.extend(held(worker)),
            (Command::DeregisterWorker { worker }, _) => hooks.given_back.extend(held(worker)),
            (Command::CompleteRun { run, ending, .. }, _) if matches!(**ending, Completion::Released) => {
                hooks.given_back.insert(run.clone());
            }
            (Command::CompleteRun { run, tells: true, .. }, Answer::Ended { state, .. }) => {
                let row = self.unfinished_rows().find(|row| row.id == *run);
                let attempt = row.map_or(0, |row| row.attempt);
                let worker = row.and_then(|row| row.worker.clone());
                if let (Some(id), Some(worker)) = (HookCall::outcome_id(run, attempt, *state), worker) {
                    hooks.outcomes.insert(Arc::clone(&id));
                    hooks.taken.entry(id).or_insert(worker);
                    self.count_event("told of an outcome");
                }
            }
            (Command::TakeHookCalls { worker, .. }, Answer::HookCalls(calls)) => {
                for call in calls {
                    mistake = mistake.or(hooks.check_taken(store, worker, call));
                    let former = hooks.taken.insert(Arc::clone(&call.id), worker.clone());
                    if former.is_some_and(|former| former != *worker) {
                        self.count_event("took over a hook call");
                    }
                    self.count_event(match call.event {
                        Some(HookEvent::Late) => "told of a late run",
                        Some(HookEvent::Succeeded | HookEvent::Failed) => "told of an outcome by another",
                        Some(HookEvent::Missed) => "told of missed slots",
                        Some(HookEvent::Skipped) | None => "told of skipped slots",
                    });
                }
            }
            (Command::EndHookCalls { worker, calls }, _) => {
                let is_own = |id: &&Arc<str>| hooks.taken.get(*id) == Some(worker);
                let ended: Vec<_> = calls.iter().filter(is_own).cloned().collect();
                hooks.made.extend(ended);
            }
            _ => {}
        }
        self.hooks = Some(hooks);
        if let Some(mistake) = mistake {
            self.fail(format_args!("{mistake}"));
        }
    }

    /// In the end, everything has been told that had to be.
    pub fn check_all_told(&self) {
        let Some(hooks) = &self.hooks else { return };
        let concerns_run = |id: &&Arc<str>| HookCall::run_of(id).is_some();
        if let Some(id) = hooks.taken.keys().filter(concerns_run).find(|id| !hooks.made.contains(*id)) {
            self.fail(format_args!("the hook call {id} was never made"));
        }
        if let Some(id) = hooks.slots.iter().find(|id| !hooks.taken.contains_key(*id)) {
            self.fail(format_args!("{id} was never told"));
        }
        for (run, entry) in &hooks.entries {
            let Some(due) = hooks.due.get(run) else { continue };
            let is_late = entry.is_steady && entry.at >= due.as_micros() + ENTRY_MAX;
            let is_reported = hooks.taken.contains_key(&HookCall::late_id(run));
            if is_late && !hooks.given_back.contains(run) && !is_reported {
                let at = Timestamp::from_micros(entry.at);
                self.fail(format_args!("{run} was entered at {at} and due at {due}, which was never told"));
            }
        }
    }
}

impl Hooks {
    /// Returns what is wrong about handing this call to the worker.
    fn check_taken(&self, store: &dyn Store, worker: &WorkerId, call: &HookCall) -> Option<String> {
        let id = &call.id;
        if self.made.contains(id) {
            return Some(format!("{id} is told again after its hook was called"));
        }
        let peers = store.peers(PROJECT).unwrap();
        let holder = self.taken.get(id).filter(|holder| *holder != worker);
        if let Some(holder) = holder.filter(|holder| peers.iter().any(|peer| peer.id == **holder)) {
            return Some(format!("{id} is told by {worker} while {holder} lives"));
        }
        if matches!(call.event, Some(HookEvent::Succeeded | HookEvent::Failed)) {
            let is_recorded = self.outcomes.contains(id);
            return (!is_recorded).then(|| format!("{id} is told, and no outcome was recorded"));
        }
        let run = HookCall::run_of(id).map(RunId::from)?;
        let entry = self.entries.get(&run)?;
        let was_in_time = entry.at < call.due_at.as_micros();
        (was_in_time && !self.interrupted.contains(&run)).then(|| {
            let at = Timestamp::from_micros(entry.at);
            format!("{run} is told to be late, and was entered at {at}: {call:?}")
        })
    }
}
