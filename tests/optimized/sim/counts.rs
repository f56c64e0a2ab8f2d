//! Counts of workers: no slot is counted twice, and none is lost unless a reply was. Counts of
//! schedules: they equal the history, whatever happened.

use super::checks::{Checks, PROJECT};
use super::world::{FaultKind, World};
use polos::engine::metrics::SlotCount;
use polos::model::{FirePlan, Schedule, ScheduleId, SlotOutcome};
use polos::store::{Page, Store};

impl Checks {
    pub fn note_decided(&mut self, plan: &FirePlan) {
        self.slots_decided[0] += plan.runs.len() as u64;
        for line in &plan.ledger {
            self.slots_decided[line.outcome as usize] += line.count;
        }
    }

    /// Each schedule has counted what its history says, and what was pruned from it.
    pub fn audit_outcomes(&mut self, store: &dyn Store) {
        for row in self.live_schedules().iter().filter(|row| !self.was_deleted(&row.id)) {
            let pruned = self.pruned_outcomes.get(&row.id).copied().unwrap_or_default();
            let sums = recorded(store, &row.id);
            let counted = counted(&store.schedule(PROJECT, &row.id).unwrap().unwrap());
            if (0..3).any(|at| counted[at] != sums[at] + pruned[at]) {
                self.fail(format_args!(
                    "{counted:?} slots counted, {sums:?} on record and {pruned:?} pruned of {row:?}"
                ));
            }
        }
    }

    /// What is pruned stays counted.
    pub fn note_pruned_outcomes(&mut self, store: &dyn Store) {
        for known in self.live_schedules() {
            let row = store.schedule(PROJECT, &known.id).unwrap().unwrap();
            let (counted, sums) = (counted(&row), recorded(store, &row.id));
            if row.counts != known.counts {
                self.fail(format_args!("pruning changed the counts of {known:?} to {counted:?}"));
            }
            let pruned = [0, 1, 2].map(|at| counted[at].saturating_sub(sums[at]));
            self.pruned_outcomes.insert(row.id, pruned);
        }
    }
}

fn counted(row: &Schedule) -> [u64; 3] {
    [row.ran_count(), row.counts.skipped, row.counts.missed]
}

/// The sums of a schedule's history: ran, skipped, missed.
fn recorded(store: &dyn Store, id: &ScheduleId) -> [u64; 3] {
    let page = Page { limit: usize::MAX, after: None };
    let mut sums = [0; 3];
    for entry in store.history(PROJECT, id, &page).unwrap().unwrap_or_default() {
        sums[entry.outcome as usize] += entry.count;
    }
    sums
}

impl World {
    /// Compares what all workers have counted with the decisions that took effect.
    pub fn check_counts(&self) {
        let checks = self.checks.lock();
        for (outcome, index) in [
            (SlotCount::Ran, SlotOutcome::Ran),
            (SlotCount::Skipped, SlotOutcome::Skipped),
            (SlotCount::Missed, SlotOutcome::Missed),
        ] {
            let counts = self.metrics.iter().flat_map(|metrics| metrics.workflows());
            let counted: u64 = counts.map(|(_, counts)| counts.slots(outcome)).sum();
            let decided = checks.slots_decided[index as usize];
            // With a store that loses replies, a worker may die or lose its lease before it can
            // look.
            let may_be_lost = matches!(self.fault_kind, FaultKind::Store | FaultKind::Everything);
            if counted > decided || (counted < decided && !may_be_lost) {
                checks.fail(format_args!("{counted} slots counted as {}, of {decided}", outcome.word()));
            }
        }
    }
}
