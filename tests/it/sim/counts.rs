//! Counts of workers: no slot is counted twice, and none is lost unless a reply was.

use super::checks::Checks;
use super::world::{FaultKind, World};
use polos::engine::metrics::SlotCount;
use polos::model::{FirePlan, SlotOutcome};

impl Checks {
    pub fn note_decided(&mut self, plan: &FirePlan) {
        self.slots_decided[0] += plan.runs.len() as u64;
        for line in &plan.ledger {
            self.slots_decided[line.outcome as usize] += line.count;
        }
    }
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
