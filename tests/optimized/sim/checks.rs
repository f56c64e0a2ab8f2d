//! Invariants, checked independently of the store: every command is compared with a shadow copy of
//! all rows as it takes effect.

use super::calendars::Calendars;
use super::debounces::Debounces;
use super::events::Events;
use super::faults::Witness;
use super::hooks::Hooks;
use super::interruptions::{Count, Interruptions};
use super::limits::Limits;
use super::overrides::Overrides;
use polos::calendar::Timestamp;
use polos::engine::ENTRY_WINDOW;
use polos::model::spec::CompiledSpec;
use polos::model::{
    Admission, Completion, FirePlan, Json, LedgerEntry, NewSchedule, Origin, Overlap, Peer, Run, RunId,
    RunState, Schedule, ScheduleId, ScheduleStatus, StepState, StoredSpec, Token, WorkerId,
};
use polos::plan::transition::{Event, next_state};
use polos::store::{Answer, Command, Page, Rejection, RunFilter, ScheduleFilter, Store};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Write;
use std::sync::Arc;

pub const PROJECT: &str = "default";

/// Held runs are available later than this (the year 9000).
const HELD_FROM: i64 = 221_845_392_000_000_000;

const EVENTS: [Event; 9] = [
    Event::Released,
    Event::Claimed,
    Event::Parked,
    Event::Requeued,
    Event::Returned,
    Event::Raised,
    Event::Stopped,
    Event::RetriedByHand,
    Event::RetriedBehind,
];

/// A worker's health, which only the simulation knows.
#[derive(Copy, Clone, Debug)]
pub struct Health {
    /// Since when it has been up and not suspended, with a store that answers and clocks that were
    /// not set.
    pub well_since: Option<i64>,
    /// Its last heartbeat.
    pub beat_at: i64,
}

/// The shadow of a schedule.
struct Known {
    row: Schedule,
    /// Its first slot, as long as all its slots belong to one trigger.
    first_slot: Option<Timestamp>,
    /// When something other than a fire changed it.
    touched_at: i64,
}

pub struct Checks {
    pub seed: u64,
    /// True time.
    pub truth: i64,
    pub lead_us: i64,
    pub lease_us: i64,
    pub poll_us: i64,
    pub workers: BTreeMap<WorkerId, Health>,
    pub fired_count: u64,
    /// Slots of all decisions that took effect: ran, skipped, missed.
    pub slots_decided: [u64; 3],
    pub expired_count: u64,
    pub fenced_count: u64,
    pub policies: BTreeSet<String>,
    pub event_counts: BTreeMap<&'static str, u64>,
    schedules: BTreeMap<ScheduleId, Known>,
    runs: BTreeMap<RunId, Run>,
    unfinished: BTreeSet<RunId>,
    retried_by_hand: BTreeSet<RunId>,
    slots: BTreeSet<(ScheduleId, Timestamp)>,
    /// Schedules that allow concurrent runs, or once allowed them.
    allowed: BTreeSet<ScheduleId>,
    done: BTreeMap<RunId, BTreeSet<Arc<str>>>,
    /// Runs that have recorded anything.
    touched: BTreeSet<RunId>,
    /// Runs created by a decision, not by a backfill.
    fired: BTreeSet<RunId>,
    /// Schedules whose next slot was recomputed because a clock had been far ahead: the ledger
    /// keeps its lines for slots that are due only now, and these slots get a second line.
    recomputed: BTreeSet<ScheduleId>,
    /// Schedules that were deleted, and when the deletion returned.
    deleted: BTreeMap<ScheduleId, i64>,
    /// Schedules that pruning removed something from.
    pruned: BTreeSet<ScheduleId>,
    /// Number of rows that were pruned.
    pruned_count: u64,
    /// Claimed more than once.
    reclaimed: BTreeSet<RunId>,
    /// Tokens of runs whose early claims were revoked.
    given_back: BTreeMap<RunId, Token>,
    ended: BTreeSet<(RunId, Token)>,
    compiled_specs: BTreeMap<Json, Arc<CompiledSpec>>,
    interruptions: Interruptions,
    pub calendars: Calendars,
    pub debounces: Debounces,
    pub events: Events,
    /// Outcomes of each schedule that were pruned: ran, skipped, missed.
    pub pruned_outcomes: BTreeMap<ScheduleId, [u64; 3]>,
    /// In simulations of this theme: the expected state of declared schedules.
    pub overrides: Option<Overrides>,
    /// In simulations of this theme: what must hold of limits.
    pub hooks: Option<Hooks>,
    pub limits: Option<Limits>,
    /// Whether clocks agree well enough to predict how often each run was interrupted.
    pub counts_interruptions: bool,
    /// The code that each machine runs since its last start, by the first two parts of its workers'
    /// ids.
    pub codes: BTreeMap<String, Arc<str>>,
    recent: VecDeque<String>,
    hash: u64,
}

impl Checks {
    pub fn new(seed: u64, lead_us: i64, lease_us: i64, poll_us: i64) -> Self {
        Self {
            seed,
            truth: 0,
            lead_us,
            lease_us,
            poll_us,
            workers: BTreeMap::new(),
            fired_count: 0,
            slots_decided: [0; 3],
            expired_count: 0,
            fenced_count: 0,
            policies: BTreeSet::new(),
            event_counts: BTreeMap::new(),
            schedules: BTreeMap::new(),
            runs: BTreeMap::new(),
            unfinished: BTreeSet::new(),
            retried_by_hand: BTreeSet::new(),
            slots: BTreeSet::new(),
            allowed: BTreeSet::new(),
            done: BTreeMap::new(),
            touched: BTreeSet::new(),
            fired: BTreeSet::new(),
            recomputed: BTreeSet::new(),
            deleted: BTreeMap::new(),
            pruned: BTreeSet::new(),
            pruned_count: 0,
            reclaimed: BTreeSet::new(),
            given_back: BTreeMap::new(),
            ended: BTreeSet::new(),
            compiled_specs: BTreeMap::new(),
            interruptions: Interruptions::default(),
            calendars: Calendars::default(),
            debounces: Debounces::default(),
            events: Events::default(),
            pruned_outcomes: BTreeMap::new(),
            overrides: None,
            limits: None,
            hooks: None,
            counts_interruptions: false,
            codes: BTreeMap::new(),
            recent: VecDeque::new(),
            hash: 0xcbf2_9ce4_8422_2325,
        }
    }

    /// Records an event.
    pub fn note(&mut self, text: std::fmt::Arguments<'_>) {
        let mut line =
            if self.recent.len() >= keep_count() { self.recent.pop_front().unwrap() } else { String::new() };
        line.clear();
        let _ = write!(line, "{} {text}", Timestamp::from_micros(self.truth));
        for byte in line.as_bytes() {
            self.hash = (self.hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        self.recent.push_back(line);
    }

    /// A hash of everything that happened.
    pub fn trace_hash(&self) -> u64 {
        self.hash
    }

    pub fn take_last_events(&mut self) -> Vec<String> {
        std::mem::take(&mut self.recent).into()
    }

    pub fn fail(&self, what: std::fmt::Arguments<'_>) -> ! {
        let mut events = String::new();
        for line in &self.recent {
            let _ = writeln!(events, "  {line}");
        }
        panic!(
            "seed={} at {}: {what}\nthe last events:\n{events}",
            self.seed,
            Timestamp::from_micros(self.truth)
        );
    }

    fn compiled_spec(&mut self, spec: &StoredSpec) -> Arc<CompiledSpec> {
        let parse = || Arc::new(CompiledSpec::parse(spec.text()).expect("the world makes valid schedules"));
        Arc::clone(self.compiled_specs.entry(Arc::clone(spec.text())).or_insert_with(parse))
    }

    /// The slots of a schedule that have no outcome yet.
    fn remaining_slots_of(&mut self, row: &Schedule) -> CompiledSpec {
        (*self.compiled_spec(&row.spec)).clone().without(row.settled_slots())
    }

    // ---- what a command did
    // --------------------------------------------------------------------------------------

    fn check_fire(&mut self, plan: &FirePlan, now: Timestamp, after: &Schedule) {
        let Some(known) = self.schedules.get(&plan.schedule) else {
            self.fail(format_args!("fired an unknown schedule: {plan:?}"))
        };
        let (before, is_edited) = (known.row.clone(), known.first_slot.is_none());
        let compiled_spec = self.remaining_slots_of(&before);
        if before.status != ScheduleStatus::Active || before.revision != plan.revision {
            self.fail(format_args!("a decision from {} took effect on {before:?}", plan.revision));
        }
        let Some(first) = before.next_slot else { self.fail(format_args!("fired without a slot: {plan:?}")) };
        let horizon = Timestamp::from_micros(now.as_micros() + self.lead_us);

        // Each slot from the old next slot to the new one has one outcome.
        let mut covers: Vec<_> = plan.runs.iter().map(|run| (run.slot, run.slot, 1)).collect();
        covers.extend(plan.ledger.iter().map(|line| (line.from, line.until, line.count)));
        covers.sort_unstable();
        let last = covers.last().map_or(first, |cover| cover.1);
        let end = plan.next_slot.map_or(last, |next| Timestamp::from_micros(next.as_micros() - 1));
        // An edit by a slow clock can restore a slot of the trigger before last: it was promised,
        // so it counts.
        let is_stray = is_edited && compiled_spec.prev(first) != Some(first);
        let decided = self.decided_slots(&before, &compiled_spec, (first, end), plan);
        let expected = match &decided {
            Some(decided) => decided.slots.len() as u64,
            None => {
                compiled_spec.count(Timestamp::from_micros(first.as_micros() - 1), end) + u64::from(is_stray)
            }
        };
        let covered: u64 = covers.iter().map(|cover| cover.2).sum();
        let is_apart = covers.windows(2).all(|pair| pair[0].1 < pair[1].0);
        // A one-off whose slot is already recorded gets no second outcome.
        let is_on_record = covers.is_empty() && compiled_spec.is_one_off();
        let is_covered =
            covered == expected && is_apart && covers.first().is_some_and(|cover| cover.0 == first);
        if !is_covered && !is_on_record {
            self.fail(format_args!("{expected} slots from {first} to {end} became {covers:?} of {before:?}"));
        }
        if let Some(mistake) = decided.as_ref().and_then(|decided| decided.mistake.as_ref())
            && !is_on_record
        {
            self.fail(format_args!("{mistake}: {plan:?} of {before:?}"));
        }
        if last > horizon {
            self.fail(format_args!("{last} was decided at {now}, earlier than the lead: {plan:?}"));
        }
        if after.next_slot != plan.next_slot || plan.next_slot.is_some_and(|next| next <= first) {
            self.fail(format_args!("the next slot after {first} became {:?}", after.next_slot));
        }

        // Each run belongs to a slot that had no outcome.
        let mut last_slot = before.last_slot;
        let has_unfinished = self.unfinished_of(&plan.schedule).next().is_some();
        for run in &plan.runs {
            let is_moved = decided.as_ref().is_some_and(|decided| decided.slots.contains(&run.slot));
            let is_own = compiled_spec.prev(run.slot) == Some(run.slot);
            if !(is_moved || is_own || is_stray && run.slot == first) {
                self.fail(format_args!("{} was never a slot of {:?}", run.slot, compiled_spec.spec()));
            }
            // An edit by a slow clock can restore a slot that a fast clock has fired; its run is
            // left alone.
            let is_new = self.slots.insert((plan.schedule.clone(), run.slot));
            if is_new == self.runs.contains_key(&run.id) {
                self.fail(format_args!("slot {} of {} fired twice", run.slot, plan.schedule));
            }
            if run.last_slot != last_slot {
                self.fail(format_args!("{run:?} should follow on {last_slot:?}"));
            }
            last_slot = Some(run.slot);
            self.fired.insert(run.id.clone());
            let starts_beside = run.admission != Admission::Behind && has_unfinished;
            if starts_beside && compiled_spec.spec().overlap != Overlap::Allow {
                self.fail(format_args!("{} starts beside an unfinished run: {plan:?}", run.slot));
            }
        }
        if let Some(decided) = decided {
            self.note_moved(decided, plan, after);
        }
        self.fired_count += plan.runs.len() as u64;
        if has_unfinished || covers.len() > 1 {
            let spec = compiled_spec.spec();
            self.policies.insert(format!("{:?} {:?}", spec.overlap, spec.catch_up));
        }
    }

    fn unfinished_of<'a>(&'a self, schedule: &'a ScheduleId) -> impl Iterator<Item = &'a Run> {
        let runs = self.unfinished.iter().map(|id| &self.runs[id]);
        runs.filter(move |run| run.schedule_id.as_ref() == Some(schedule))
    }

    fn check_writer(&self, run: &RunId, token: Token) {
        let Some(known) = self.runs.get(run) else {
            self.fail(format_args!("a write to {run}, which does not exist, was accepted"))
        };
        if known.token != token {
            self.fail(format_args!("a write under {token:?} was accepted; {run} is {known:?}"));
        }
        if known.state != RunState::Running {
            self.fail(format_args!("a write was accepted while {run} is {:?}", known.state));
        }
    }

    /// The first completion of a claim needs the claim; repeating it gives the same answer and
    /// changes nothing.
    fn check_ending(&mut self, run: &RunId, token: Token, after: Option<&Run>) {
        if self.ended.insert((run.clone(), token)) {
            self.check_writer(run, token);
        } else if self.runs.get(run) != after {
            self.fail(format_args!(
                "the repetition of an ending changed {:?} to {after:?}",
                self.runs.get(run)
            ));
        }
    }

    /// Checks that enough consecutive failures have paused the schedule.
    fn check_pause(&mut self, store: &dyn Store, run: &RunId, most: u32) {
        let schedule = self.runs.get(run).and_then(|run| run.schedule_id.clone());
        let Some(row) = schedule.and_then(|id| store.schedule(PROJECT, &id).unwrap()) else { return };
        if row.failure_count >= most {
            self.count_event("paused after failures");
            if row.status == ScheduleStatus::Active {
                self.fail(format_args!("{row:?} is still active after so many failures"));
            }
        }
    }

    fn check_expiry(&mut self, worker: &WorkerId, run_count: u64) {
        self.expired_count += 1;
        // Expiring a worker that holds nothing, because it deregistered or never claimed, does
        // nothing.
        let Some(health) = self.workers.get(worker).filter(|_| run_count > 0) else { return };
        if self.truth - health.beat_at < self.lease_us - self.lease_us / 1_000 {
            self.fail(format_args!("{worker} expired {} us after a heartbeat", self.truth - health.beat_at));
        }
        if run_count > 0 && health.well_since.is_some_and(|since| self.truth - since > self.lease_us) {
            self.fail(format_args!("{worker} expired with {run_count} runs although it is healthy"));
        }
    }

    fn last_alive(&mut self, worker: &WorkerId) {
        let truth = self.truth;
        self.workers.entry(worker.clone()).or_insert(Health { well_since: None, beat_at: truth }).beat_at =
            truth;
    }

    /// Updates the shadow and checks every transition.
    fn refresh(&mut self, store: &dyn Store, ids: Vec<RunId>, command: &Command, now: Timestamp) {
        for id in ids {
            let before = self.runs.get(&id).cloned();
            let after = store.run(PROJECT, &id).unwrap();
            match (before, after) {
                (None, None) => {}
                (None, Some(after)) => {
                    // Until it is claimed, it has the token before its first.
                    let is_claimed = after.state == RunState::Running;
                    let first = if is_claimed { after.token } else { after.token.next() };
                    if self.given_back.get(&after.id).is_some_and(|token| first <= *token) {
                        self.fail(format_args!("a token that was given back comes again: {after:?}"));
                    }
                    self.keep(after);
                }
                (Some(before), None) => {
                    let is_ahead = self.is_as_made(&before) && before.slot.is_some_and(|slot| slot > now);
                    let may_revoke = match command {
                        Command::UpsertSchedules(_)
                        | Command::PatchSchedule { .. }
                        | Command::DeleteSchedule { .. }
                        | Command::RegisterWorker(_)
                        | Command::Reconcile { .. } => true,
                        Command::CompleteRun { run, .. } => self.pause_after_failures(run).is_some(),
                        Command::CreateRun(new) => new.revokes_claims,
                        _ => false,
                    };
                    let is_refused = matches!(
                        command,
                        Command::CompleteRun { run, ending, .. }
                            if *run == id && matches!(**ending, Completion::Skipped { .. })
                    );
                    if is_refused {
                        self.check_refusal(&before);
                        self.forget(&before);
                        continue;
                    }
                    self.count_event("early claim revoked");
                    if !is_ahead || !may_revoke {
                        self.fail(format_args!("{before:?} vanished"));
                    }
                    if !matches!(command, Command::DeleteSchedule { .. }) {
                        self.given_back.insert(id.clone(), before.token);
                    }
                    self.forget(&before);
                }
                (Some(before), Some(after)) => {
                    if before != after {
                        self.check_move(&before, &after);
                        self.check_interruptions(&before, &after);
                        self.check_parent(store, &after, now);
                        self.keep(after);
                    }
                }
            }
        }
    }

    fn forget(&mut self, run: &Run) {
        self.events.remove(&run.id);
        self.interruptions.remove(&run.id);
        self.runs.remove(&run.id);
        self.unfinished.remove(&run.id);
        self.fired.remove(&run.id);
        if let (Some(schedule), Some(slot)) = (run.schedule_id.clone(), run.slot) {
            self.slots.remove(&(schedule, slot));
        }
    }

    /// Only a run of a deleted schedule that has recorded nothing is refused.
    fn check_refusal(&self, run: &Run) {
        let is_deleted = run.schedule_id.as_ref().is_some_and(|id| self.deleted.contains_key(id));
        if !is_deleted || run.attempt != 1 || self.touched.contains(&run.id) {
            self.fail(format_args!("{run:?} was refused before its entry"));
        }
    }

    /// Whether nothing has happened to the run except its claim.
    fn is_as_made(&self, run: &Run) -> bool {
        matches!(run.state, RunState::Queued | RunState::Buffered | RunState::Running)
            && run.origin == Origin::Schedule
            && run.attempt == 1
            && !self.touched.contains(&run.id)
    }

    /// A child's completion wakes the run that waits for it.
    fn check_parent(&self, store: &dyn Store, child: &Run, now: Timestamp) {
        let Some(parent) = child.parent.as_ref().filter(|_| child.state.is_finished()) else { return };
        let parent = store.run(PROJECT, parent).unwrap();
        // Another machine may have completed it, whose clock is ahead of this one's.
        let woken_by = child.finished_at.map_or(now, |at| at.max(now));
        let sleeps = |run: &Run| run.state == RunState::Waiting && run.available_at > woken_by;
        if let Some(parent) = parent.filter(sleeps) {
            self.fail(format_args!("{child:?} has ended, and its parent sleeps on: {parent:?}"));
        }
    }

    /// The runs that a command may have changed; all unfinished ones if that is not obvious.
    fn concerned(&self, command: &Command, answer: &Answer) -> Vec<RunId> {
        let mut ids: Vec<RunId> = match command {
            Command::Fire { plan, .. } if !plan.cancel_unfinished => {
                plan.runs.iter().map(|run| run.id.clone()).collect()
            }
            Command::ClaimRuns { .. } => Vec::new(),
            // Includes finished ones.
            Command::UncountInterruptions { claims } => claims.iter().map(|(run, _)| run.clone()).collect(),
            Command::AwaitEvent { run, .. } => vec![run.clone()],
            Command::SendEvent(new) => vec![new.run.clone()],
            Command::CreateRun(new) => {
                let others = new.schedule_id.as_ref().filter(|_| new.revokes_claims);
                let others = others.into_iter().flat_map(|schedule| self.unfinished_of(schedule));
                others.map(|run| run.id.clone()).chain([new.id.clone()]).collect()
            }
            Command::CompleteRun { run, .. } => {
                let ended = self.runs.get(run);
                let schedule = ended.and_then(|run| run.schedule_id.as_ref());
                let others = schedule.into_iter().flat_map(|schedule| self.unfinished_of(schedule));
                let parent = ended.and_then(|run| run.parent.clone());
                others.map(|run| run.id.clone()).chain(parent).chain([run.clone()]).collect()
            }
            _ => self.unfinished.iter().cloned().collect(),
        };
        match (command, answer) {
            (Command::Fire { plan, .. }, _) if plan.cancel_unfinished => {
                ids.extend(plan.runs.iter().map(|run| run.id.clone()));
            }
            (Command::RetryRun { run, .. }, _)
            | (Command::DebounceRun { .. }, Answer::Created { run, .. }) => {
                ids.push(run.clone());
            }
            (_, Answer::Claimed(claimed)) => ids.extend(claimed.iter().map(|claimed| claimed.run.id.clone())),
            _ => {}
        }
        ids.sort_unstable();
        ids.dedup();
        ids
    }

    /// Whether the run's parent waits, and was executed on a different machine from the run.
    fn is_away_from_parent(&self, run: &RunId) -> bool {
        let machine = |run: &Run| {
            let worker = run.worker.as_ref().map(|worker| worker.as_str().to_owned());
            worker.and_then(|worker| Some(worker.split_once('.')?.0.to_owned()))
        };
        let Some(child) = self.runs.get(run) else { return false };
        let parent = child.parent.as_ref().and_then(|parent| self.runs.get(parent));
        parent.is_some_and(|parent| parent.state == RunState::Waiting && machine(parent) != machine(child))
    }

    pub fn pruned_count(&self) -> u64 {
        self.pruned_count
    }

    pub fn count_event(&mut self, what: &'static str) {
        *self.event_counts.entry(what).or_default() += 1;
    }

    fn check_move(&mut self, before: &Run, after: &Run) {
        let moves = |event: &Event| next_state(before.state, *event) == Some(after.state);
        if before.state != after.state && !EVENTS.iter().any(moves) {
            self.fail(format_args!("{:?} became {:?}: {after:?}", before.state, after.state));
        }
        let is_claimed = after.state == RunState::Running && before.state != RunState::Running;
        let token = if is_claimed { before.token.next() } else { before.token };
        if is_claimed {
            self.check_resumption(before, after);
        }
        if is_claimed && before.started_at.is_some() {
            self.reclaimed.insert(after.id.clone());
        }
        if after.token != token {
            self.fail(format_args!("{:?} became {:?} in {after:?}", before.token, after.token));
        }
        if after.attempt < before.attempt || after.attempt > before.attempt + 1 {
            self.fail(format_args!("attempt {} became {} in {after:?}", before.attempt, after.attempt));
        }
        let is_retried = before.state.is_finished() && after.state == RunState::Queued;
        if is_retried && after.attempt == before.attempt {
            self.fail(format_args!("tried again as the same attempt: {after:?}"));
        }
    }

    /// The number of consecutive interruptions must match the model.
    fn check_interruptions(&mut self, before: &Run, after: &Run) {
        if after.attempt != before.attempt {
            self.interruptions.forget(&after.id);
        }
        let expected = self.interruptions.of(&after.id);
        let found = (after.interruptions, after.interrupted_alone);
        if self.counts_interruptions && found != (expected.interruptions, expected.was_alone) {
            self.fail(format_args!("{expected:?}, and it is {after:?}"));
        }
    }

    /// A recorded step resets the interruptions.
    fn note_progress(&mut self, store: &dyn Store, run: &RunId) {
        let Some(known) = self.runs.get(run) else { return };
        self.interruptions.note_step(run, known.worker.as_ref());
        if known.interruptions > 0 {
            let before = known.clone();
            let after = store.run(PROJECT, run).unwrap().expect("it has recorded a step");
            self.check_interruptions(&before, &after);
            self.keep(after);
        }
    }

    /// The model's count for a run.
    pub fn interruptions_of(&self, run: &RunId) -> Count {
        self.interruptions.of(run)
    }

    /// A held run continues only with code that has not refused it.
    fn check_resumption(&mut self, before: &Run, after: &Run) {
        let is_held = before.refused_by.is_some() && before.available_at.as_micros() > HELD_FROM;
        if !is_held || before.available_at == Timestamp::MAX || before.state != RunState::Waiting {
            return;
        }
        let worker = after.worker.as_ref().map_or("", WorkerId::as_str);
        let machine = worker.rsplit_once('.').map_or(worker, |(machine, _)| machine);
        if let Some(code) = self.codes.get(machine).cloned() {
            if before.is_refused_by(&code) {
                self.fail(format_args!("{worker} runs {code}, which has refused {before:?}"));
            }
            self.count_event("resumed by other code");
        }
    }

    fn keep(&mut self, run: Run) {
        if run.state.is_finished() {
            self.unfinished.remove(&run.id);
        } else {
            self.unfinished.insert(run.id.clone());
        }
        self.runs.insert(run.id.clone(), run);
    }

    /// Two runs of one schedule never run concurrently, unless it allows that.
    fn check_overlap(&self) {
        let mut running: BTreeMap<&ScheduleId, &Run> = BTreeMap::new();
        for id in &self.unfinished {
            let run = &self.runs[id];
            let Some(schedule) = &run.schedule_id else { continue };
            let is_subject = run.state == RunState::Running
                && run.origin == Origin::Schedule
                && !self.retried_by_hand.contains(id)
                && !self.allowed.contains(schedule);
            if is_subject && let Some(other) = running.insert(schedule, run) {
                self.fail(format_args!("two runs of one schedule are running: {other:?} and {run:?}"));
            }
        }
    }

    fn apply_to_overrides(&mut self, store: &dyn Store, command: &Command) {
        let Some(overrides) = &mut self.overrides else { return };
        let silent: Vec<WorkerId> = match command {
            Command::Reconcile { silent, .. } => {
                let peers = store.peers(PROJECT).unwrap();
                let is_still = |peer: &&Peer| silent.contains(&(peer.id.clone(), peer.heartbeat));
                peers.iter().filter(is_still).map(|peer| peer.id.clone()).collect()
            }
            _ => Vec::new(),
        };
        let rows = self.schedules.values().map(|known| &known.row);
        for event in overrides.apply(command, &silent, rows) {
            self.count_event(event);
        }
    }

    /// Each declared schedule matches the model.
    fn check_overrides(&self, command: &Command) {
        let Some(overrides) = &self.overrides else { return };
        let may_change = matches!(
            command,
            Command::RegisterWorker(_)
                | Command::Reconcile { .. }
                | Command::UpsertSchedules(_)
                | Command::PatchSchedule { .. }
        );
        let mut objections = self.schedules.values().filter(|_| may_change);
        if let Some(objection) = objections.find_map(|known| overrides.objection(&known.row)) {
            self.fail(format_args!("{objection}"));
        }
    }

    fn refresh_schedules(&mut self, store: &dyn Store, command: &Command, now: Timestamp) {
        let (one, is_fire) = match command {
            Command::ClaimRuns { .. }
            | Command::Prune { .. }
            | Command::AwaitEvent { .. }
            | Command::SendEvent(_) => return,
            Command::Fire { plan, .. } => (Some(plan.schedule.clone()), true),
            Command::CompleteRun { run, .. } => match self.runs.get(run).map(|run| run.schedule_id.clone()) {
                Some(None) => return,
                Some(schedule) => (schedule, false),
                None => (None, false),
            },
            _ => (None, false),
        };
        if let Command::PatchSchedule { id, patch, .. } = command
            && patch.next_slot.is_some()
            && patch.ledger.is_empty()
        {
            self.recomputed.insert(id.clone());
        }
        let rows = if let Some(id) = &one {
            store.schedule(PROJECT, id).unwrap().into_iter().collect()
        } else {
            let page = Page { limit: 1_000, after: None };
            store.schedules(PROJECT, &ScheduleFilter::default(), &page).unwrap()
        };
        for row in rows {
            self.refresh_schedule(store, row, is_fire, now);
        }
        if one.is_none() {
            let is_gone = |id: &&ScheduleId| store.schedule(PROJECT, id).unwrap().is_none();
            let gone: Vec<ScheduleId> = self.schedules.keys().filter(is_gone).cloned().collect();
            for id in gone {
                let known = self.schedules.remove(&id).unwrap();
                self.check_forgotten(store, &known.row, now);
                self.check_nothing_ahead(store, &id, now);
            }
        }
    }

    fn refresh_schedule(&mut self, store: &dyn Store, row: Schedule, is_fire: bool, now: Timestamp) {
        let truth = self.truth;
        let compiled_spec = self.compiled_spec(&row.spec);
        if compiled_spec.spec().overlap == Overlap::Allow {
            self.allowed.insert(row.id.clone());
        }
        let Some(known) = self.schedules.get_mut(&row.id) else {
            let known = Known { first_slot: row.next_slot, touched_at: truth, row };
            self.schedules.insert(known.row.id.clone(), known);
            return;
        };
        let before = known.row.clone();
        // A retired schedule has no slots.
        if before.spec != row.spec || row.status == ScheduleStatus::Retired {
            known.first_slot = None;
        }
        let what_counts = |row: &Schedule| (row.status, row.next_slot, row.attended_from);
        if what_counts(&before) != what_counts(&row) && !is_fire {
            known.touched_at = truth;
        }
        known.row = row.clone();
        if !is_fire {
            self.check_changed(store, &before, &row);
        }
        if is_fire || before.updated_at == row.updated_at {
            return;
        }
        let is_new_trigger = before.spec != row.spec
            && self.compiled_spec(&before.spec).spec().trigger_key() != compiled_spec.spec().trigger_key();
        let is_retired = before.status != row.status && row.status == ScheduleStatus::Retired;
        if is_new_trigger || is_retired {
            // Slots that are due under both old and new bounds stay due.
            let until =
                row.next_slot.map_or(now, |next| now.min(Timestamp::from_micros(next.as_micros() - 1)));
            self.check_forgotten(store, &before, if is_retired { now } else { until });
        }
        // A skip alone leaves an early claim as it is: its slot comes before the skipped one. The
        // skip of the last slot finishes the schedule.
        let is_skip = before.settled != row.settled && row.status == ScheduleStatus::Finished;
        if before.spec != row.spec || (before.status != row.status && !is_skip) {
            self.check_nothing_ahead(store, &row.id, now);
        }
    }

    /// A change that discards due slots has entered all of them into the ledger.
    fn check_forgotten(&mut self, store: &dyn Store, before: &Schedule, now: Timestamp) {
        if !matches!(before.status, ScheduleStatus::Active | ScheduleStatus::Paused) {
            return;
        }
        if self.recomputed.contains(&before.id) {
            return;
        }
        let Some(first) = before.next_slot.filter(|slot| *slot <= now) else { return };
        let compiled_spec = self.remaining_slots_of(before);
        let is_stray = compiled_spec.prev(first) != Some(first);
        let due =
            compiled_spec.count(Timestamp::from_micros(first.as_micros() - 1), now) + u64::from(is_stray);
        let page = Page { limit: 1_000, after: None };
        let history = store.history(PROJECT, &before.id, &page).unwrap().unwrap_or_default();
        let lines =
            history.iter().filter(|line| line.run.is_none() && line.from >= first && line.until <= now);
        let found: u64 = lines.map(|line| line.count).sum();
        if found < due {
            self.fail(format_args!("{found} of {due} due slots of {before:?} are on record: {history:?}"));
        }
        self.check_discarded(before, &compiled_spec, (first, now), &history);
        self.count_event(if due > 1 { "several due slots discarded" } else { "a due slot discarded" });
    }

    /// After a change, no run of a future slot starts because of an earlier decision.
    fn check_nothing_ahead(&mut self, store: &dyn Store, id: &ScheduleId, now: Timestamp) {
        let ahead = |run: &&Run| self.is_as_made(run) && run.slot.is_some_and(|slot| slot > now);
        let Some(run) = self.unfinished_of(id).find(ahead) else { return };
        // Unless a later slot already has its outcome, by a faster clock.
        let page = Page { limit: 1_000, after: None };
        let history = store.history(PROJECT, id, &page).unwrap().unwrap_or_default();
        let left_out =
            store.schedule(PROJECT, id).unwrap().map(|row| row.settled_slots()).unwrap_or_default();
        let is_later = |line: &LedgerEntry| {
            line.run.as_ref() != Some(&run.id)
                && Some(line.until) >= run.slot
                // A skip on request decides no slot before it; a run does.
                && (line.run.is_some() || !left_out.contains(&line.until))
        };
        if !history.iter().any(is_later) {
            self.fail(format_args!("{run:?} is left although its schedule was changed before its slot"));
        }
    }

    /// Pruning removes only what is finished, old enough, and not among the newest of its schedule.
    fn check_prune(&mut self, store: &dyn Store, before: Timestamp, keep: u32) {
        // The final audit checks that all other rows are still there.
        let is_old = |run: &&Run| run.state.is_finished() && run.finished_at.is_some_and(|at| at < before);
        let is_gone = |run: &&Run| store.run(PROJECT, &run.id).unwrap().is_none();
        let gone: Vec<Run> = self.runs.values().filter(is_old).filter(is_gone).cloned().collect();
        let vanished = |id: &&ScheduleId| store.schedule(PROJECT, id).unwrap().is_none();
        let schedules: Vec<ScheduleId> = self.schedules.keys().filter(vanished).cloned().collect();
        for id in &schedules {
            let row = &self.schedules[id].row;
            let slot = self.compiled_spec(&row.spec.clone()).spec().at_us;
            let row = &self.schedules[id].row;
            let is_over = row.status == ScheduleStatus::Finished && row.owner.is_none();
            let runs = || self.runs.values().filter(|run| run.schedule_id.as_ref() == Some(id));
            if !is_over || slot.is_none_or(|slot| slot >= before) || !runs().all(|run| is_old(&run)) {
                self.fail(format_args!("pruning before {before} deleted {row:?}"));
            }
        }
        for id in &schedules {
            self.schedules.remove(id);
            self.count_event("pruned a one-off schedule");
        }
        for run in &gone {
            if run.schedule_id.as_ref().is_some_and(|id| schedules.contains(id)) {
                continue;
            }
            let of_schedule = |other: &&Run| other.schedule_id == run.schedule_id && other.slot > run.slot;
            let newer = self.runs.values().filter(of_schedule).count();
            let is_kept = run.schedule_id.is_some() && run.slot.is_some() && newer < keep as usize;
            if is_kept {
                self.fail(format_args!("pruning before {before} with keep={keep} deleted {run:?}"));
            }
        }
        for run in gone {
            if let (Some(schedule), Some(slot)) = (run.schedule_id, run.slot) {
                self.slots.remove(&(schedule.clone(), slot));
            }
            // A backfill of its slot creates another run.
            self.runs.remove(&run.id);
            self.done.remove(&run.id);
            self.interruptions.remove(&run.id);
            self.events.remove(&run.id);
            self.ended.retain(|(id, _)| *id != run.id);
            self.touched.remove(&run.id);
            self.count_event("pruned");
        }
        // Ledger lines were, or may have been, pruned as well.
        self.pruned.extend(self.schedules.keys().cloned());
    }

    // ---- what handlers see
    // ---------------------------------------------------------------------------------------

    /// A handler starts at `wall` of its worker.
    pub fn check_start(&self, run: &Run, journal: &BTreeSet<Arc<str>>, wall: Timestamp) {
        // Later claims are independent of the slot, which may be in the future of a slow clock.
        let is_first = run.attempt == 1 && !self.reclaimed.contains(&run.id);
        let is_early = |slot: Timestamp| wall < slot && is_first && run.origin == Origin::Schedule;
        if wall < run.available_at || run.slot.is_some_and(is_early) {
            self.fail(format_args!("{} started at {wall}, too early: {run:?}", run.id));
        }
        let current = self.runs.get(&run.id);
        if current.is_none_or(|now| now.state != RunState::Running || now.token != run.token) {
            self.fail(format_args!("{} started under a claim that does not stand: {current:?}", run.id));
        }
        let done = self.done.get(&run.id).cloned().unwrap_or_default();
        if !self.is_journal(&run.id, journal, &done) {
            self.fail(format_args!("{} received the steps {journal:?} of {done:?}", run.id));
        }
    }

    /// A handler is entered for the first time: the deletion of its schedule has not returned.
    pub fn check_entry(&mut self, run: &Run, well_since: i64) {
        self.note_first_entry(run, well_since);
        // A declared one may have come back under its id.
        let schedule = run.schedule_id.as_ref().filter(|id| !self.schedules.contains_key(*id));
        if let Some(at) = schedule.and_then(|id| self.deleted.get(id)).filter(|at| **at < self.truth) {
            let at = Timestamp::from_micros(*at);
            self.fail(format_args!("{run:?} is entered after the deletion of its schedule returned at {at}"));
        }
    }

    /// A handler executes a step.
    pub fn check_step(&self, run: &RunId, token: Token, step: &Arc<str>) {
        let is_owner =
            self.runs.get(run).is_some_and(|now| now.state == RunState::Running && now.token == token);
        if is_owner && self.done.get(run).is_some_and(|done| done.contains(step)) {
            self.fail(format_args!("step {step} of {run} is done and executed again"));
        }
    }

    /// The limit of the run's schedule.
    fn pause_after_failures(&self, run: &RunId) -> Option<u32> {
        let row = &self.schedules.get(self.runs.get(run)?.schedule_id.as_ref()?)?.row;
        row.spec.compiled().ok()?.spec().pause_after_failures
    }

    /// A run as it was before the command that is being checked.
    pub fn run(&self, id: &RunId) -> Option<&Run> {
        self.runs.get(id)
    }

    /// A step of a run is done.
    pub fn note_done(&mut self, run: &RunId, step: &Arc<str>) {
        self.done.entry(run.clone()).or_default().insert(Arc::clone(step));
    }

    pub fn unfinished_runs(&self) -> Vec<RunId> {
        self.unfinished.iter().cloned().collect()
    }

    /// All unfinished runs.
    pub fn unfinished_rows(&self) -> impl Iterator<Item = &Run> {
        self.unfinished.iter().map(|id| &self.runs[id])
    }

    /// A run that exists.
    pub fn known_run(&self, id: &RunId) -> &Run {
        &self.runs[id]
    }

    pub fn retryable_runs(&self) -> Vec<RunId> {
        let can = |run: &&Run| matches!(run.state, RunState::Failed | RunState::Cancelled);
        self.runs.values().filter(can).map(|run| run.id.clone()).collect()
    }

    /// Whether a schedule of this id was deleted. Another one may have it now.
    pub fn was_deleted(&self, id: &ScheduleId) -> bool {
        self.deleted.contains_key(id)
    }

    pub fn schedule_rows(&self) -> impl Iterator<Item = &Schedule> {
        self.schedules.values().map(|known| &known.row)
    }

    /// Whether a clock that had been far ahead made its slots unclear.
    pub fn is_recomputed(&self, id: &ScheduleId) -> bool {
        self.recomputed.contains(id)
    }

    pub fn live_schedules(&self) -> Vec<Schedule> {
        self.schedules.values().map(|known| known.row.clone()).collect()
    }

    // ---- now and then
    // --------------------------------------------------------------------------------------------

    /// While a worker is healthy, every slot is decided. `wall` is the clock of a worker that has
    /// been healthy for long enough and serves these workflows.
    pub fn check_on_time(&self, wall: Timestamp, workflows: &[&str]) {
        let busy_retry = self.poll_us + 1_000_000;
        for known in self.schedules.values() {
            let row = &known.row;
            let is_late = |slot: Timestamp| slot.as_micros() < wall.as_micros() - busy_retry;
            let is_settled = known.touched_at < self.truth - busy_retry;
            let is_served = workflows.contains(&&*row.workflow);
            let is_due = row.status == ScheduleStatus::Active && row.next_slot.is_some_and(is_late);
            if is_served && is_due && is_settled {
                self.fail(format_args!("no worker fires {row:?} at {wall}"));
            }
        }
    }

    /// A worker died at `died_at` while holding runs, and some worker has been healthy ever since.
    pub fn check_takeover(&self, store: &dyn Store, worker: &WorkerId, died_at: i64) {
        let is_heir = |health: &Health| health.well_since.is_some_and(|since| since <= died_at);
        if !self.workers.values().any(is_heir) {
            return;
        }
        let peers = store.peers(PROJECT).unwrap();
        if let Some(peer) = peers.iter().find(|peer| peer.id == *worker && peer.held_count > 0) {
            self.fail(format_args!("{peer:?} died {} us ago and has not expired", self.truth - died_at));
        }
    }

    /// Every row matches the shadow: nothing changed unobserved, nothing finished has moved.
    pub fn audit(&mut self, store: &dyn Store) {
        let page = Page { limit: usize::MAX, after: None };
        let rows = store.runs(PROJECT, &RunFilter::default(), &page).unwrap();
        if rows.len() != self.runs.len() {
            self.fail(format_args!("{} runs are stored, {} known", rows.len(), self.runs.len()));
        }
        self.audit_events(store);
        self.audit_outcomes(store);
        for row in &rows {
            if self.runs.get(&row.id) != Some(row) {
                self.fail(format_args!("{row:?} is known as {:?}", self.runs.get(&row.id)));
            }
        }
        let whole: Vec<_> = self
            .schedules
            .values()
            .filter(|known| !self.pruned.contains(&known.row.id) && !self.recomputed.contains(&known.row.id))
            .filter_map(|known| Some((known.row.clone(), known.first_slot?)))
            .collect();
        for (row, first) in whole {
            let compiled_spec = self.compiled_spec(&row.spec);
            let mut history = store.history(PROJECT, &row.id, &page).unwrap().unwrap_or_default();
            history.retain(|line| line.run.as_ref().is_none_or(|run| self.fired.contains(run)));
            history.reverse();
            if self.deleted.contains_key(&row.id) {
                // It has come back under its id. What it did before was checked then.
                history.retain(|line| line.from >= first);
            }
            if let Some(pair) = history.windows(2).find(|pair| pair[0].until >= pair[1].from) {
                self.fail(format_args!("slots of {row:?} with two outcomes: {pair:#?}"));
            }
            // `max_runs` may finish a schedule before slots that were skipped on request.
            let settled = row.settled_slots();
            let mut decided = history.iter().rev().filter(|line| settled.binary_search(&line.until).is_err());
            let last = decided.next().map_or(first, |line| line.until);
            let end = row.next_slot.map_or(last, |next| Timestamp::from_micros(next.as_micros() - 1));
            // Skips of coming slots are on record already.
            history.retain(|line| line.from <= end);
            let expected = compiled_spec.count(Timestamp::from_micros(first.as_micros() - 1), end)
                + self.moved_count(&row, first, end);
            let found: u64 = history.iter().map(|line| line.count).sum();
            if found != expected && !(history.is_empty() && row.next_slot == Some(first)) {
                self.fail(format_args!("{found} of {expected} slots of {row:?} are on record: {history:?}"));
            }
        }
    }

    /// What the newest version declares is stored; what only older versions declared is not.
    pub fn check_deployment(&self, declared: &[NewSchedule]) {
        for known in self.schedules.values().filter(|known| known.row.owner.is_some()) {
            let row = &known.row;
            let is_declared =
                declared.iter().any(|new| (&new.workflow, &new.key) == (&row.workflow, &row.key));
            let is_right = match row.status {
                ScheduleStatus::Active | ScheduleStatus::Paused => is_declared,
                ScheduleStatus::Retired => !is_declared,
                ScheduleStatus::Finished => true,
                ScheduleStatus::Broken => false,
            };
            if !is_right {
                self.fail(format_args!("declared: {is_declared}, and {row:?}"));
            }
        }
        for new in declared {
            if !self
                .schedules
                .values()
                .any(|known| (&known.row.key, &known.row.workflow) == (&new.key, &new.workflow))
            {
                self.fail(format_args!("{new:?} is declared and not there"));
            }
        }
    }

    /// These workers are alive, and no others have a row.
    pub fn check_worker_rows(&self, store: &dyn Store, live: &BTreeSet<WorkerId>) {
        let rows = store.peers(PROJECT).unwrap();
        let stored: BTreeSet<WorkerId> = rows.iter().map(|peer| peer.id.clone()).collect();
        if stored != *live {
            self.fail(format_args!("{live:?} live, and rows are stored of {stored:?}"));
        }
    }

    /// Whether no run can still change.
    pub fn is_settled(&self) -> bool {
        self.unfinished.is_empty()
    }

    pub fn fail_unsettled(&self) -> ! {
        let left: Vec<_> = self.unfinished.iter().take(5).map(|id| &self.runs[id]).collect();
        self.fail(format_args!("{} runs never end: {left:#?}", self.unfinished.len()))
    }
}

impl Witness for Checks {
    #[expect(clippy::too_many_lines, reason = "one check of an outcome after another")]
    fn saw(
        &mut self,
        store: &dyn Store,
        command: &Command,
        outcome: &Result<Answer, Rejection>,
        now: Timestamp,
    ) {
        if let Command::Heartbeat { worker } = command {
            if outcome.is_ok() {
                self.last_alive(worker);
            }
            return;
        }
        self.note(format_args!("{}", brief(command, outcome)));
        if let Command::SendEvent(new) = command {
            self.check_send(store, new, outcome, now);
        }
        self.check_calendar(command, outcome);
        let Ok(answer) = outcome else {
            self.fenced_count += u64::from(*outcome == Err(Rejection::Fenced));
            return;
        };
        match command {
            Command::Fire { worker, plan } => {
                if let Some(after) = store.schedule(PROJECT, &plan.schedule).unwrap() {
                    self.check_fire(plan, now, &after);
                }
                self.note_decided(plan);
                if matches!(answer, Answer::Claimed(claimed) if !claimed.is_empty()) {
                    self.last_alive(worker);
                }
            }
            Command::DeleteSchedule { id, .. } => {
                // This world declares a schedule again under the id that it had, with revisions that
                // begin anew. In fact, its id is a new one, and so are those of its runs.
                let own = format!("run_{}_", id.as_str().trim_start_matches("sch_"));
                self.given_back.retain(|run, _| !run.as_str().starts_with(&own));
                let may_be_entered = matches!(answer, Answer::Deleted { is_claimed: true });
                let wait = if may_be_entered { ENTRY_WINDOW.as_micros() } else { 0 };
                self.deleted.insert(id.clone(), self.truth + i64::try_from(wait).unwrap());
            }
            Command::ClaimRuns { worker, .. } => {
                self.check_started(answer);
                self.check_claim_order(command, answer);
                if matches!(answer, Answer::Claimed(claimed) if !claimed.is_empty()) {
                    self.last_alive(worker);
                }
            }
            Command::RecordStep { run, token, step } => {
                self.check_writer(run, *token);
                self.touched.insert(run.clone());
                self.note_progress(store, run);
                if step.state == StepState::Done {
                    self.note_done(run, &step.name);
                }
                return;
            }
            Command::ReportProgress { run, token, .. } => {
                self.check_writer(run, *token);
                return;
            }
            Command::AwaitEvent { run, token, step } => {
                self.check_writer(run, *token);
                self.touched.insert(run.clone());
                self.check_wait(run, step, answer, now);
            }
            Command::CompleteRun { run, token, ending, .. } => {
                self.check_ending(run, *token, store.run(PROJECT, run).unwrap().as_ref());
                if matches!(answer, Answer::Ended { released: true, .. }) && self.is_away_from_parent(run) {
                    self.count_event("a parent woken from another machine");
                }
                if matches!(**ending, Completion::Parked { .. }) {
                    self.check_parked(store, run, now);
                }
                if matches!(**ending, Completion::Held { .. }) {
                    self.count_event("held for other code");
                }
                if matches!(**ending, Completion::Released) {
                    self.count_event("claimed early and released");
                }
                if let (Some(most), Answer::Ended { state: RunState::Failed, .. }) =
                    (self.pause_after_failures(run), answer)
                {
                    self.check_pause(store, run, most);
                }
            }
            Command::ExpireWorker { worker, .. } => {
                if let Answer::Count(run_count) = answer {
                    self.check_expiry(worker, *run_count);
                }
            }
            Command::CreateRun(new) => {
                if let (Origin::Backfill, Some(schedule), Some(slot)) =
                    (new.origin, &new.schedule_id, new.slot)
                {
                    self.slots.insert((schedule.clone(), slot));
                }
                self.count_event(match new.origin {
                    Origin::Backfill => "backfilled",
                    Origin::Child => "invoked",
                    Origin::Invoke => "invoked by the application",
                    _ => "triggered",
                });
            }
            Command::DebounceRun { new, debounce } => {
                self.check_debounce(store, (new, debounce), answer, now);
            }
            Command::RetryRun { run, .. } => {
                self.retried_by_hand.insert(run.clone());
            }
            Command::RegisterWorker(entry) => self.last_alive(&entry.id),
            Command::Prune { before, keep, .. } => {
                if let Answer::Count(count) = answer {
                    self.pruned_count += count;
                }
                self.check_prune(store, *before, *keep);
                self.note_pruned_outcomes(store);
            }
            Command::PatchSchedule { patch, .. } if !patch.ledger.is_empty() => {
                self.count_event("skipped on request");
            }
            Command::PatchSchedule { patch, .. } if !patch.unskipped.is_empty() => {
                self.count_event("skip taken back");
            }
            Command::Heartbeat { .. }
            | Command::UncountInterruptions { .. }
            | Command::Reconcile { .. }
            | Command::DeregisterWorker { .. }
            | Command::UpsertSchedules(_)
            | Command::PatchSchedule { .. }
            | Command::SendEvent(_)
            | Command::SetLimit { .. }
            | Command::DeleteLimit { .. }
            | Command::SetCalendar { .. }
            | Command::TakeHookCalls { .. }
            | Command::EndHookCalls { .. }
            | Command::CancelRun { .. } => {}
            Command::WakeParents { runs, .. } => {
                self.fail(format_args!("the end of a child has not woken its parent: {runs:?}"));
            }
        }
        self.check_hooks(store, command, answer);
        if let Answer::Claimed(claimed) = answer {
            for claimed in claimed {
                self.note_claim(&claimed.run.id);
            }
        }
        let unclear = self.interruptions.apply(command, answer, self.runs.values(), now);
        for run in unclear.iter().filter_map(|id| store.run(PROJECT, id).unwrap()) {
            self.interruptions.adopt(&run);
        }
        self.apply_to_overrides(store, command);
        let concerned = self.concerned(command, answer);
        self.refresh(store, concerned, command, now);
        self.refresh_schedules(store, command, now);
        self.check_overrides(command);
        self.check_limits(store, command, answer, now);
        self.check_overlap();
    }
}

/// A command on one line.
fn brief(command: &Command, outcome: &Result<Answer, Rejection>) -> String {
    let what = match command {
        Command::RegisterWorker(entry) => format!("{} enters", entry.id),
        Command::Reconcile { entry, .. } => format!("{} reconciles", entry.id),
        Command::Heartbeat { worker } => format!("{worker} sends a heartbeat"),
        Command::DeregisterWorker { worker } => format!("{worker} leaves"),
        Command::ExpireWorker { worker, heartbeat, .. } => {
            format!("{worker} expires at heartbeat {heartbeat}")
        }
        Command::UncountInterruptions { claims } => format!("{claims:?} were outlived"),
        Command::UpsertSchedules(new) => {
            new.iter().map(|new| format!("put {} {}", new.id, new.spec.text())).collect::<Vec<_>>().join(", ")
        }
        Command::PatchSchedule { id, patch, .. } => format!("patch {id} {:?}", patch.status),
        Command::DeleteSchedule { id, .. } => format!("delete {id}"),
        Command::Fire { worker, plan } => {
            let runs: Vec<_> = plan.runs.iter().map(|run| (run.slot, run.admission)).collect();
            format!(
                "{worker} fires {} {runs:?}, {} ledger lines, next {:?}",
                plan.schedule,
                plan.ledger.len(),
                plan.next_slot
            )
        }
        Command::ClaimRuns { worker, limit, until, .. } => format!("{worker} claims {limit} until {until}"),
        Command::CreateRun(new) => format!("create {}", new.id),
        Command::DebounceRun { new, debounce } => format!("debounce {} as {}", debounce.key, new.id),
        Command::RecordStep { run, token, step } => {
            format!("step {} of {run} under {} is {:?}", step.name, token.0, step.state)
        }
        Command::ReportProgress { run, token, .. } => format!("progress of {run} under {}", token.0),
        Command::AwaitEvent { run, token, step } => {
            format!("{run} under {} waits for {}", token.0, step.name)
        }
        Command::SendEvent(new) => format!("send {} to {}", new.name, new.run),
        Command::CompleteRun { run, token, ending, .. } => {
            format!("{run} under {} ends: {ending:?}", token.0)
        }
        Command::SetLimit { name, values, .. } => format!("set limit {name} to {values:?}"),
        Command::DeleteLimit { name, .. } => format!("delete limit {name}"),
        Command::SetCalendar { name, dates, .. } => format!("set calendar {name} to {dates:?}"),
        Command::CancelRun { run, .. } => format!("cancel {run}"),
        Command::RetryRun { run, .. } => format!("retry {run}"),
        Command::WakeParents { runs, .. } => format!("wake {runs:?}"),
        Command::TakeHookCalls { worker, calls, .. } => format!("{worker} takes {calls:?}"),
        Command::EndHookCalls { worker, calls } => format!("{worker} has made {calls:?}"),
        Command::Prune { .. } => "prune".to_owned(),
    };
    match outcome {
        Ok(Answer::Claimed(runs)) => {
            let runs: Vec<_> = runs.iter().map(|claimed| (&claimed.run.id, claimed.run.token.0)).collect();
            format!("{what}: claimed {runs:?}")
        }
        Ok(Answer::Count(count)) => format!("{what}: {count} runs"),
        Ok(_) => what,
        Err(rejection) => format!("{what}: refused, {rejection}"),
    }
}

/// Number of events that a failure prints.
fn keep_count() -> usize {
    std::env::var("POLOS_SIM_EVENTS").ok().and_then(|text| text.parse().ok()).unwrap_or(50)
}
