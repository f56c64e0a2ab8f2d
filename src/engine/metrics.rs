//! Counts of what one worker has committed, per workflow. Numbers only grow, and are read without a
//! lock.
//!
//! A count is made when the store has answered the commit that made it true, so a commit that is
//! repeated counts once. Where the answer to a decision is lost, another worker may have decided
//! the same: its slots are not counted, rather than twice.

use crate::model::{FirePlan, RunState, SlotOutcome};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Upper bounds of the buckets of lateness: slots start within milliseconds, or catch up.
pub const LATENESS_BOUNDS: [Duration; 12] = [
    Duration::from_millis(1),
    Duration::from_millis(5),
    Duration::from_millis(10),
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(5),
    Duration::from_secs(30),
    Duration::from_secs(120),
    Duration::from_secs(600),
    Duration::from_secs(3_600),
];

/// Upper bounds of the buckets of durations: handlers take milliseconds, or hours.
pub const DURATION_BOUNDS: [Duration; 12] = [
    Duration::from_millis(5),
    Duration::from_millis(25),
    Duration::from_millis(100),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(5),
    Duration::from_secs(15),
    Duration::from_secs(60),
    Duration::from_secs(300),
    Duration::from_secs(900),
    Duration::from_secs(3_600),
    Duration::from_secs(14_400),
];

/// What became of a slot, as it is counted.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum SlotCount {
    /// A run was created for it.
    Ran,
    /// It was skipped by a rule.
    Skipped,
    /// It was missed.
    Missed,
    /// Its run, counted as `Ran`, was deleted before its handler was entered, and the slot is
    /// skipped.
    Withdrawn,
}

impl SlotCount {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Ran, Self::Skipped, Self::Missed, Self::Withdrawn];

    /// Its name as a label.
    pub fn word(self) -> &'static str {
        match self {
            Self::Ran => "ran",
            Self::Skipped => "skipped",
            Self::Missed => "missed",
            Self::Withdrawn => "withdrawn",
        }
    }
}

/// The states in which a run is over, with their names as labels.
pub const FINISHED: [(RunState, &str); 3] =
    [(RunState::Succeeded, "succeeded"), (RunState::Failed, "failed"), (RunState::Cancelled, "cancelled")];

/// The counts of one worker. Its workflows are known when it starts, which bounds their number.
#[derive(Debug)]
pub struct Metrics {
    workflows: BTreeMap<Arc<str>, WorkflowMetrics>,
}

/// The counts of one workflow.
#[derive(Debug)]
pub struct WorkflowMetrics {
    slots: [AtomicU64; SlotCount::ALL.len()],
    runs: [AtomicU64; FINISHED.len()],
    /// From slots to the entries of their handlers.
    pub lateness: Histogram,
    /// From entries of handlers to the ends of their executions.
    pub duration: Histogram,
}

impl Metrics {
    /// Nothing counted yet.
    pub fn new<'a>(workflows: impl Iterator<Item = &'a Arc<str>>) -> Self {
        let zero = || WorkflowMetrics {
            slots: Default::default(),
            runs: Default::default(),
            lateness: Histogram::new(&LATENESS_BOUNDS),
            duration: Histogram::new(&DURATION_BOUNDS),
        };
        Self { workflows: workflows.map(|id| (Arc::clone(id), zero())).collect() }
    }

    /// The workflows, by id.
    pub fn workflows(&self) -> impl Iterator<Item = (&Arc<str>, &WorkflowMetrics)> {
        self.workflows.iter()
    }

    /// The counts of one workflow; `None` if the worker does not execute it.
    pub fn of(&self, workflow: &str) -> Option<&WorkflowMetrics> {
        self.workflows.get(workflow)
    }

    /// Counts slots.
    pub fn add_slots(&self, workflow: &str, outcome: SlotCount, count: u64) {
        if let Some(counts) = self.of(workflow) {
            counts.slots[outcome as usize].fetch_add(count, Ordering::Relaxed);
        }
    }

    /// Counts the slots of a decision that is committed.
    pub(super) fn add_plan(&self, workflow: &str, plan: &FirePlan) {
        self.add_slots(workflow, SlotCount::Ran, plan.runs.len() as u64);
        for line in &plan.ledger {
            let outcome = match line.outcome {
                SlotOutcome::Ran => SlotCount::Ran,
                SlotOutcome::Skipped => SlotCount::Skipped,
                SlotOutcome::Missed => SlotCount::Missed,
            };
            self.add_slots(workflow, outcome, line.count);
        }
    }

    /// Counts a run that is over.
    pub fn add_run(&self, workflow: &str, state: RunState) {
        if let Some(counts) = self.of(workflow)
            && let Some(index) = FINISHED.iter().position(|(finished, _)| *finished == state)
        {
            counts.runs[index].fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl WorkflowMetrics {
    /// How many slots became this.
    pub fn slots(&self, outcome: SlotCount) -> u64 {
        self.slots[outcome as usize].load(Ordering::Relaxed)
    }

    /// How many runs ended in this state, one of [`FINISHED`].
    pub fn runs(&self, state: RunState) -> u64 {
        let index = FINISHED.iter().position(|(finished, _)| *finished == state);
        index.map_or(0, |index| self.runs[index].load(Ordering::Relaxed))
    }
}

/// Counts durations by size.
#[derive(Debug)]
pub struct Histogram {
    bounds: &'static [Duration],
    /// One more than there are bounds.
    buckets: Vec<AtomicU64>,
    sum_us: AtomicU64,
}

/// One reading of a [`Histogram`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HistogramReading {
    /// For each bound, how many durations were not longer.
    pub up_to: Vec<(Duration, u64)>,
    /// How many there were.
    pub count: u64,
    /// Their sum.
    pub sum: Duration,
}

impl Histogram {
    fn new(bounds: &'static [Duration]) -> Self {
        let buckets = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Self { bounds, buckets, sum_us: AtomicU64::new(0) }
    }

    /// Counts one duration.
    pub fn add(&self, duration: Duration) {
        let index = self.bounds.partition_point(|bound| *bound < duration);
        self.buckets[index].fetch_add(1, Ordering::Relaxed);
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        self.sum_us.fetch_add(micros, Ordering::Relaxed);
    }

    /// The counts as they are now. The total is that of the buckets, so they agree.
    pub fn read(&self) -> HistogramReading {
        let mut count = 0;
        let mut up_to = Vec::with_capacity(self.bounds.len());
        for (index, bucket) in self.buckets.iter().enumerate() {
            count += bucket.load(Ordering::Relaxed);
            up_to.extend(self.bounds.get(index).map(|bound| (*bound, count)));
        }
        HistogramReading { up_to, count, sum: Duration::from_micros(self.sum_us.load(Ordering::Relaxed)) }
    }
}
