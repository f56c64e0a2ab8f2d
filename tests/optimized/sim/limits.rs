//! Limits, rates, and priorities: what the code declares, what operators set, and the checks that
//! no claim exceeds a limit, and that no run is overtaken by one that comes after it.

use super::checks::{Checks, PROJECT};
use super::faults::Rng;
use super::world::{Power, SECOND, World};
use polos::calendar::Timestamp;
use polos::model::{ClaimRules, ClaimedRun, DeclaredLimit, LimitSpec, Run, RunId, RunState};
use polos::store::{Answer, Command, Store};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The limit of each workflow: two workflows share one.
const LIMIT_OF: [(&str, &str); 3] = [("mail", "shared"), ("report", "shared"), ("sync", "paced")];

/// What a level of priority is worth, as the documentation says.
const MINUTE_OF_WAITING: i64 = 60 * SECOND;

/// Room for more runs than there are, so that only limits hold runs back.
pub const CONCURRENCY: usize = 1_000;

/// The limits and rules that a version of the code declares. The numbers change with the version.
pub fn declared_limits(seed: u64, version: u64) -> (Vec<DeclaredLimit>, BTreeMap<Arc<str>, ClaimRules>) {
    let mut rng = Rng(seed.wrapping_mul(0x9e37) ^ 0x11);
    let mut number = |low, high| u32::try_from(rng.range(low, high)).unwrap();
    let grown = u32::try_from(version % 2).unwrap();
    let shared =
        LimitSpec { max: Some(number(2, 4) + grown), per_key: Some(number(1, 2)), ..LimitSpec::default() };
    let per_us = i64::from(number(20, 60)) * SECOND;
    let paced = LimitSpec {
        max: Some(number(4, 8)),
        rate: Some(number(4, 8) + grown),
        per_us: Some(per_us),
        ..LimitSpec::default()
    };
    let declared = [("shared", shared), ("paced", paced)];
    let mut rules = BTreeMap::new();
    for (workflow, limit) in LIMIT_OF {
        let priority = u8::try_from(number(0, 9)).unwrap();
        rules.insert(
            workflow.into(),
            ClaimRules { limit: Some(limit.into()), priority, ..ClaimRules::default() },
        );
    }
    let declared = declared.map(|(name, spec)| DeclaredLimit { name: name.into(), spec });
    (declared.to_vec(), rules)
}

fn limit_of(workflow: &str) -> &'static str {
    LIMIT_OF.iter().find(|(id, _)| *id == workflow).expect("each workflow has a limit").1
}

/// Where a run stands in the order of claims.
fn position(run: &Run) -> (i64, Timestamp, Option<Timestamp>, &RunId) {
    let head_start = i64::from(run.priority) * MINUTE_OF_WAITING;
    (run.available_at.as_micros() - head_start, run.available_at, run.slot, &run.id)
}

/// Whether a claim may take the run, as far as its limit has room.
fn is_claimable(run: &Run, until: Timestamp) -> bool {
    matches!(run.state, RunState::Queued | RunState::Waiting)
        && run.available_at <= until
        && !run.cancel_requested
        && !run.is_suspect()
        && run.refused_by.is_none()
}

/// Numbers of running runs of each limit: all, and of each key.
type Counts = BTreeMap<(&'static str, Option<Arc<str>>), u32>;

/// What must hold of the limits, computed from the commands and the runs alone.
#[derive(Default)]
pub struct Limits {
    /// The values that operators set and have not reset.
    set: BTreeMap<Arc<str>, LimitSpec>,
    /// The values in effect.
    values: BTreeMap<Arc<str>, LimitSpec>,
    /// When these last changed.
    changed_at: i64,
    counts: Counts,
    /// When runs of the paced limit started, since its values last changed.
    starts: Vec<i64>,
    /// The same of late, whatever changed.
    late_starts: Vec<i64>,
    /// When each limit, and each of its keys, was last full.
    full_at: BTreeMap<(&'static str, Option<Arc<str>>), i64>,
    /// When each run last became free to be claimed.
    free_since: BTreeMap<RunId, i64>,
}

impl Limits {
    fn values_of(&self, limit: &str) -> LimitSpec {
        self.values.get(limit).cloned().unwrap_or_default()
    }

    /// The bound on what is counted under this.
    fn bound(&self, (limit, key): &(&'static str, Option<Arc<str>>)) -> u32 {
        let values = self.values_of(limit);
        let bound = if key.is_some() { values.per_key } else { values.max };
        bound.unwrap_or(u32::MAX)
    }

    fn count(&self, counted: &(&'static str, Option<Arc<str>>)) -> u32 {
        self.counts.get(counted).copied().unwrap_or(0)
    }

    fn is_full(&self, counted: &(&'static str, Option<Arc<str>>)) -> bool {
        self.count(counted) >= self.bound(counted)
    }

    /// Takes the values from the store; returns a mistake about those that operators set.
    fn read_values(&mut self, store: &dyn Store, now: Timestamp, truth: i64) -> Option<String> {
        for status in store.limits(PROJECT, 0, now).unwrap() {
            let expected = self.set.get(&status.name);
            if status.limit.set.as_ref() != expected {
                return Some(format!("an operator set {expected:?}, and stored is {:?}", status.limit));
            }
            let declared = status.limit.declared();
            let values = expected.map_or_else(|| declared.clone(), |set| in_effect(set, &declared));
            if status.limit.spec() != values {
                return Some(format!("in effect are {:?} and not {values:?}", status.limit.spec()));
            }
            let former = self.values.insert(Arc::clone(&status.name), values.clone());
            if former != Some(values) {
                self.changed_at = truth;
                if &*status.name == "paced" {
                    self.starts.clear();
                }
            }
        }
        None
    }

    /// Compares the running runs with the limits; returns a mistake.
    fn recount<'r>(&mut self, running: impl Iterator<Item = &'r Run>, truth: i64) -> Option<String> {
        let mut counts = Counts::new();
        for run in running {
            let limit = limit_of(&run.workflow);
            *counts.entry((limit, None)).or_default() += 1;
            *counts.entry((limit, Some(Arc::clone(&run.key)))).or_default() += 1;
        }
        let full: Vec<_> = self.counts.keys().filter(|counted| self.is_full(counted)).cloned().collect();
        self.full_at.extend(full.into_iter().map(|counted| (counted, truth)));
        let before = std::mem::replace(&mut self.counts, counts);
        let full: Vec<_> = self.counts.keys().filter(|counted| self.is_full(counted)).cloned().collect();
        self.full_at.extend(full.into_iter().map(|counted| (counted, truth)));
        let is_exceeded = |(counted, count): &(&(&'static str, Option<Arc<str>>), &u32)| {
            **count > before.get(*counted).copied().unwrap_or(0) && **count > self.bound(counted)
        };
        let (counted, count) = self.counts.iter().find(is_exceeded)?;
        Some(format!("{count} runs of {counted:?} are running, of {}", self.bound(counted)))
    }

    /// Records starts of the paced limit; returns a mistake.
    fn start(&mut self, started: &[ClaimedRun], truth: i64) -> Option<String> {
        let paced = started.iter().filter(|claimed| limit_of(&claimed.run.workflow) == "paced");
        let starts = paced.map(|claimed| claimed.run.available_at.as_micros().max(truth));
        let starts: Vec<i64> = starts.collect();
        self.late_starts.retain(|at| *at > truth - 3 * MINUTE_OF_WAITING);
        self.late_starts.extend(&starts);
        let values = self.values_of("paced");
        let (rate, per_us) = values.rate.zip(values.per_us)?;
        self.starts.extend(starts);
        self.starts.sort_unstable();
        let width = usize::try_from(rate).unwrap() + 1;
        let window = self.starts.windows(width).find(|window| window[width - 1] - window[0] < per_us)?;
        Some(format!("{width} runs started within {} us of {per_us}", window[width - 1] - window[0]))
    }

    /// Whether a token of this limit has been left at each moment since then. A token returns a
    /// period, and two of 64 parts of it, after the start; clocks drift apart by less than a
    /// second.
    fn has_had_tokens(&self, limit: &str, since: i64) -> bool {
        let values = self.values_of(limit);
        let Some((rate, per_us)) = values.rate.zip(values.per_us) else { return true };
        let out = self.late_starts.iter().filter(|at| **at > since - per_us - per_us / 32 - SECOND);
        out.count() < usize::try_from(rate).unwrap()
    }

    /// Returns the mistake if one of the claimed runs has overtaken this one, which is left.
    fn is_overtaken(&self, left: &Run, claimed: &[&Run], is_full_claim: bool) -> Option<String> {
        let limit = limit_of(&left.workflow);
        let key = (limit, Some(Arc::clone(&left.key)));
        let is_key_full = self.is_full(&key);
        let is_limit_full = self.is_full(&(limit, None)) || self.values_of(limit).rate.is_some();
        if !is_key_full && !is_limit_full && !is_full_claim {
            return Some(format!("{left:?} is left although there is room"));
        }
        let competes = |other: &&&Run| {
            if is_key_full {
                limit_of(&other.workflow) == limit && other.key == left.key
            } else {
                !is_limit_full || limit_of(&other.workflow) == limit
            }
        };
        let overtakes = |other: &&&Run| position(other) > position(left);
        let other = claimed.iter().filter(competes).find(overtakes)?;
        Some(format!("{left:?} is overtaken by {other:?}"))
    }
}

/// The values in effect of a limit of which these are set.
fn in_effect(set: &LimitSpec, declared: &LimitSpec) -> LimitSpec {
    let (rate, per_us) =
        if set.rate.is_some() { (set.rate, set.per_us) } else { (declared.rate, declared.per_us) };
    LimitSpec { max: set.max.or(declared.max), per_key: set.per_key.or(declared.per_key), rate, per_us }
}

impl World {
    /// An operator sets a limit, or goes back to the declared values.
    pub fn set_limit(&mut self) {
        let is_reset = self.rng.chance(350);
        let number = |rng: &mut Rng, low, high| u32::try_from(rng.range(low, high)).unwrap();
        let (name, values) = if self.rng.chance(600) {
            let max = self.rng.chance(700).then(|| number(&mut self.rng, 0, 5));
            let per_key = self.rng.chance(500).then(|| number(&mut self.rng, 1, 3));
            ("shared", LimitSpec { max, per_key, ..LimitSpec::default() })
        } else {
            let max = self.rng.chance(300).then(|| number(&mut self.rng, 1, 8));
            let rate = self.rng.chance(700).then(|| number(&mut self.rng, 1, 10));
            let per_us = self.rng.chance(500).then(|| self.rng.range(20, 60) * SECOND);
            ("paced", LimitSpec { max, rate, per_us, ..LimitSpec::default() })
        };
        let values = (!is_reset).then_some(values);
        self.ask(Command::SetLimit { project: PROJECT.into(), name: name.into(), values });
    }

    /// No operator's value is left that could stop everything.
    pub fn reset_limits(&mut self) {
        if self.theme.has_limits() {
            for name in ["shared", "paced"] {
                self.ask(Command::SetLimit { project: PROJECT.into(), name: name.into(), values: None });
            }
        }
    }

    /// While healthy workers have room, no run waits for a permit that is free.
    pub fn check_idle_permits(&self) {
        if !self.theme.has_limits() {
            return;
        }
        let busy_retry = self.pace.poll + 2 * SECOND;
        let checks = self.checks.lock();
        for machine in &self.machines {
            let Some(engine) = &machine.engine else { continue };
            let is_healthy = machine.power == Power::Up
                && engine.is_registered()
                && !machine.is_draining
                && machine.well_since < self.truth - busy_retry;
            if is_healthy {
                checks.check_idle_permits(&machine.workflows, engine.worker(), busy_retry);
            }
        }
    }
}

impl Checks {
    /// Checks which runs a claim took, before the shadow copy follows it.
    pub fn check_claim_order(&mut self, command: &Command, answer: &Answer) {
        let (Command::ClaimRuns { workflows, limit, until, .. }, Answer::Claimed(claimed)) =
            (command, answer)
        else {
            return;
        };
        let Some(limits) = &self.limits else { return };
        let is_held = |run: &&Run| run.refused_by.is_some();
        let before: Vec<&Run> = claimed
            .iter()
            .map(|claimed| self.known_run(&claimed.run.id))
            .filter(|run| !is_held(run))
            .collect();
        // A suspect is executed alone.
        if before.iter().any(|run| run.is_suspect()) {
            return;
        }
        let mut after =
            Limits { values: limits.values.clone(), counts: limits.counts.clone(), ..Limits::default() };
        for run in &before {
            let limit = limit_of(&run.workflow);
            *after.counts.entry((limit, None)).or_default() += 1;
            *after.counts.entry((limit, Some(Arc::clone(&run.key)))).or_default() += 1;
        }
        let is_full_claim = claimed.len() == *limit;
        let left = self.unfinished_rows().filter(|run| {
            workflows.contains(&run.workflow)
                && is_claimable(run, *until)
                && claimed.iter().all(|claimed| claimed.run.id != run.id)
        });
        let suspects_come_first = matches!(command, Command::ClaimRuns { suspects, .. }
            if *suspects != polos::store::Suspects::Never);
        let mistake = left
            .filter(|_| !suspects_come_first)
            .find_map(|run| after.is_overtaken(run, &before, is_full_claim));
        if let Some(mistake) = mistake {
            self.fail(format_args!("{mistake}"));
        }
        if before.iter().any(|run| run.priority > 0) && before.len() > 1 {
            self.count_event("claimed by priority");
        }
    }

    /// Follows an accepted command, once the shadow copy has.
    pub fn check_limits(&mut self, store: &dyn Store, command: &Command, answer: &Answer, now: Timestamp) {
        let Some(mut limits) = self.limits.take() else { return };
        let truth = self.truth;
        if let Command::SetLimit { name, values, .. } = command {
            match values {
                Some(values) => {
                    let current = limits.values_of(name);
                    let set = limits.set.entry(Arc::clone(name)).or_default();
                    set.max = values.max.or(set.max);
                    set.per_key = values.per_key.or(set.per_key);
                    if values.rate.is_some() || values.per_us.is_some() {
                        set.rate = values.rate.or(current.rate);
                        set.per_us = values.per_us.or(current.per_us);
                    }
                }
                None => _ = limits.set.remove(name),
            }
            self.count_event("set a limit");
        }
        let may_change = matches!(
            command,
            Command::SetLimit { .. } | Command::RegisterWorker(_) | Command::Reconcile { .. }
        );
        let mut mistake = if may_change { limits.read_values(store, now, truth) } else { None };
        let running: Vec<&Run> =
            self.unfinished_rows().filter(|run| run.state == RunState::Running).collect();
        mistake = mistake.or(limits.recount(running.into_iter(), truth));
        let is_held = limits.is_full(&("shared", None));
        if let (Command::ClaimRuns { .. }, Answer::Claimed(claimed)) = (command, answer) {
            mistake = mistake.or(limits.start(claimed, truth));
        }
        let free: Vec<RunId> = self
            .unfinished_rows()
            .filter(|run| is_claimable(run, Timestamp::MAX))
            .map(|run| run.id.clone())
            .collect();
        let mut free_since = std::mem::take(&mut limits.free_since);
        limits.free_since =
            free.into_iter().map(|id| (id.clone(), free_since.remove(&id).unwrap_or(truth))).collect();
        self.limits = Some(limits);
        if is_held {
            self.count_event("filled a limit");
        }
        if let Some(mistake) = mistake {
            self.fail(format_args!("{mistake}"));
        }
    }

    /// A healthy worker with these workflows leaves no run queued for longer than `busy_retry`
    /// while its limit has room.
    fn check_idle_permits(&self, workflows: &[&str], worker: &polos::model::WorkerId, busy_retry: i64) {
        let Some(limits) = &self.limits else { return };
        let since = self.truth - busy_retry;
        if limits.changed_at >= since {
            return;
        }
        let is_alone = |run: &Run| run.is_suspect() && run.worker.as_ref() == Some(worker);
        if self.unfinished_rows().any(is_alone) {
            return;
        }
        let has_been_full = |counted: &(&'static str, Option<Arc<str>>)| {
            limits.is_full(counted) || limits.full_at.get(counted).is_some_and(|at| *at >= since)
        };
        let waits = |run: &&Run| {
            let limit = limit_of(&run.workflow);
            workflows.contains(&&*run.workflow)
                && is_claimable(run, Timestamp::from_micros(since))
                && limits.has_had_tokens(limit, since)
                && limits.free_since.get(&run.id).is_some_and(|at| *at < since)
                && !has_been_full(&(limit, None))
                && !has_been_full(&(limit, Some(Arc::clone(&run.key))))
        };
        if let Some(run) = self.unfinished_rows().find(waits) {
            self.fail(format_args!("{worker} does not claim {run:?} although there is room"));
        }
    }
}
