//! Ledger lines for slots that get no run.

use super::spec::CompiledSpec;
use super::{LedgerLine, SlotOutcome};
use crate::calendar::Timestamp;

/// The slots of a schedule: those of its specification, plus its stored next slot. The stored slot
/// was promised, so it counts even if the specification no longer yields it (after a change of zone
/// data).
#[derive(Copy, Clone, Debug)]
pub struct MissedSpan<'a> {
    compiled_spec: &'a CompiledSpec,
    promised: Option<Timestamp>,
}

impl<'a> MissedSpan<'a> {
    /// `promised` is the schedule's stored next slot.
    pub fn new(compiled_spec: &'a CompiledSpec, promised: Option<Timestamp>) -> Self {
        Self { compiled_spec, promised }
    }

    /// One line for the slots of `[from, until]`, missed for `reason`; slots on excluded dates get
    /// their own lines.
    pub fn missed(&self, from: Timestamp, until: Timestamp, reason: &str) -> Vec<LedgerLine> {
        let mut lines = Vec::new();
        // No line covers a slot that has an outcome already.
        let (range, mut from) = (from..=until, from);
        for settled in self.compiled_spec.settled().iter().filter(|slot| range.contains(slot)) {
            let before = Timestamp::from_micros(settled.as_micros() - 1);
            lines.extend(self.missed_without_gap(from, before, reason));
            from = Timestamp::from_micros(settled.as_micros() + 1);
        }
        lines.extend(self.missed_without_gap(from, until, reason));
        lines
    }

    fn missed_without_gap(&self, from: Timestamp, until: Timestamp, reason: &str) -> Vec<LedgerLine> {
        let mut lines = Vec::new();
        if until < from {
            return lines;
        }
        let mut from = from;
        let mut stretches = self.compiled_spec.excluded_stretches(from, until);
        stretches.retain(|(_, first, last)| self.count(*first, *last) > 0);
        for (date, first, last) in stretches {
            let before = Timestamp::from_micros(first.as_micros() - 1);
            lines.extend(self.line(from, before, SlotOutcome::Missed, reason));
            lines.extend(self.line(first, last, SlotOutcome::Skipped, &self.compiled_spec.exclusion(date)));
            from = Timestamp::from_micros(last.as_micros() + 1);
        }
        lines.extend(self.line(from, until, SlotOutcome::Missed, reason));
        lines
    }

    /// Number of slots in `[from, until]`.
    fn count(&self, from: Timestamp, until: Timestamp) -> u64 {
        if until < from {
            return 0;
        }
        let is_stray = |slot: Timestamp| self.compiled_spec.prev(slot) != Some(slot);
        let stray = self.promised.filter(|slot| (from..=until).contains(slot) && is_stray(*slot));
        self.compiled_spec.count(Timestamp::from_micros(from.as_micros() - 1), until)
            + u64::from(stray.is_some())
    }

    fn line(
        &self,
        from: Timestamp,
        until: Timestamp,
        outcome: SlotOutcome,
        reason: &str,
    ) -> Option<LedgerLine> {
        let count = self.count(from, until);
        if count == 0 {
            return None;
        }
        let promised = self.promised.filter(|slot| (from..=until).contains(slot));
        let next = self.compiled_spec.next(Timestamp::from_micros(from.as_micros() - 1));
        let first = promised.into_iter().chain(next).min().unwrap_or(from);
        let last = promised.into_iter().chain(self.compiled_spec.prev(until)).max().unwrap_or(until);
        Some(LedgerLine { from: first, until: last, count, outcome, reason: reason.into() })
    }
}
