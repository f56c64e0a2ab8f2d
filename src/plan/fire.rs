//! Decides which slots of a due schedule run, wait, are skipped, or were missed. Applies policies;
//! no clock, no store.

use super::jitter;
use crate::calendar::Timestamp;
use crate::model::missed::MissedSpan;
use crate::model::spec::CompiledSpec;
use crate::model::{
    Admission, CatchUp, FirePlan, LedgerLine, Overlap, PlannedRun, RunId, Schedule, ScheduleStatus,
    SlotOutcome,
};
use std::sync::Arc;

/// Input of the decision, besides the schedule itself.
#[derive(Copy, Clone, Debug)]
pub struct Situation {
    /// The current time.
    pub now: Timestamp,
    /// Slots up to here may be claimed early.
    pub horizon: Timestamp,
    /// Since when this worker has been watching without a gap. An earlier slot came due while no
    /// worker watched.
    pub watching_since: Timestamp,
    /// Unfinished runs of the schedule, buffered ones included.
    pub unfinished_count: u32,
    /// Of these, the buffered runs.
    pub buffered_count: u32,
}

/// Decides about the due slots of `schedule`; `None` if there is nothing to decide yet.
///
/// A slot in the future (up to the horizon) is planned only if nothing can change the decision
/// before it comes: no run of the schedule is unfinished, or overlap is allowed.
pub fn plan_fire(
    schedule: &Schedule,
    compiled_spec: &Arc<CompiledSpec>,
    situation: &Situation,
) -> Option<FirePlan> {
    let first = schedule.next_slot?;
    if first > situation.horizon {
        return None;
    }
    let settled = situation.unfinished_count == 0 || compiled_spec.spec().overlap == Overlap::Allow;
    if first > situation.now && !settled {
        return None;
    }
    let mut draft = Draft::new(schedule, compiled_spec, situation);
    if draft.is_used_up() {
        draft.skip(first, "`max_runs` is reached".to_owned());
        return Some(draft.finish(first));
    }
    if first > situation.now {
        draft.on_time(first);
        return Some(draft.finish(first));
    }
    let newest = compiled_spec.prev(situation.now).map_or(first, |slot| slot.max(first));
    for slot in draft.chosen(first, newest) {
        if draft.is_used_up() {
            break;
        }
        match slot {
            Chosen::Late(slot) => draft.caught_up(slot),
            Chosen::OnTime(slot) => draft.on_time(slot),
        }
    }
    // The last of `max_runs` finishes the schedule. Later slots no longer belong to it, so they are
    // not missed.
    let newest = draft.runs.last().filter(|_| draft.is_used_up()).map_or(newest, |run| run.slot);
    draft.account_for_the_rest(first, newest);
    Some(draft.finish(newest))
}

/// A slot that the catch-up policy admits, before the overlap policy applies.
#[derive(Copy, Clone)]
enum Chosen {
    Late(Timestamp),
    OnTime(Timestamp),
}

struct Draft<'a> {
    schedule: &'a Schedule,
    compiled_spec: &'a Arc<CompiledSpec>,
    situation: &'a Situation,
    unfinished_count: u32,
    buffered_count: u32,
    last_slot: Option<Timestamp>,
    runs: Vec<PlannedRun>,
    ledger: Vec<LedgerLine>,
    cancel_unfinished: bool,
}

impl<'a> Draft<'a> {
    fn new(schedule: &'a Schedule, compiled_spec: &'a Arc<CompiledSpec>, situation: &'a Situation) -> Self {
        Self {
            schedule,
            compiled_spec,
            situation,
            unfinished_count: situation.unfinished_count,
            buffered_count: situation.buffered_count,
            last_slot: schedule.last_slot,
            runs: Vec::new(),
            ledger: Vec::new(),
            cancel_unfinished: false,
        }
    }

    /// Slots of `[first, newest]` that the catch-up policy admits, oldest first.
    fn chosen(&self, first: Timestamp, newest: Timestamp) -> Vec<Chosen> {
        let attended_from = self.situation.watching_since.max(self.schedule.attended_from);
        let spec = self.compiled_spec.spec();
        let late_max = match spec.catch_up {
            CatchUp::Latest => 1,
            CatchUp::All => spec.max_catch_up as usize,
            CatchUp::None => 0,
        };
        let window_start = self.window_start();
        let mut excluded = self.compiled_spec.excluded_stretches(first, newest);
        let mut chosen = Vec::new();
        let mut late_count = 0;
        let mut slot = Some(newest);
        while let Some(candidate) = slot {
            // Only late slots are caught up, so only they can be older than the window.
            let is_late = candidate < attended_from;
            if is_late && (late_count >= late_max || candidate < window_start) {
                break;
            }
            while excluded.last().is_some_and(|(_, from, _)| *from > candidate) {
                excluded.pop();
            }
            if let Some((_, from, _)) = excluded.last().filter(|(.., until)| *until >= candidate) {
                // An excluded slot does not count against the limit; `account_for_the_rest` enters
                // it into the ledger.
                slot = self.slot_before(*from, first);
                continue;
            }
            if is_late {
                late_count += 1;
                chosen.push(Chosen::Late(candidate));
            } else {
                chosen.push(Chosen::OnTime(candidate));
            }
            slot = self.slot_before(candidate, first);
        }
        chosen.reverse();
        chosen
    }

    /// The slot before `at`, down to `first`: `first` was promised, so it counts even if the
    /// specification no longer yields it (after a change of zone data).
    fn slot_before(&self, at: Timestamp, first: Timestamp) -> Option<Timestamp> {
        if at <= first {
            return None;
        }
        let before = self.compiled_spec.prev(Timestamp::from_micros(at.as_micros() - 1));
        Some(before.map_or(first, |slot| slot.max(first)))
    }

    /// Whether the runs so far reach the schedule's `max_runs`.
    fn is_used_up(&self) -> bool {
        let run_count = self.schedule.run_count + self.runs.len() as u64;
        self.compiled_spec.spec().max_runs.is_some_and(|max| run_count >= max)
    }

    fn on_time(&mut self, slot: Timestamp) {
        if let Some(date) = self.compiled_spec.excluded_on(slot) {
            self.skip(slot, self.compiled_spec.exclusion(date));
            return;
        }
        if self.unfinished_count == 0 {
            self.run(slot, Admission::Claim);
            return;
        }
        match self.compiled_spec.spec().overlap {
            Overlap::Allow => self.run(slot, Admission::Claim),
            Overlap::BufferAll => self.run(slot, Admission::Behind),
            Overlap::BufferOne if self.buffered_count == 0 => self.run(slot, Admission::Behind),
            Overlap::BufferOne => {
                self.skip(slot, "overlap: one run is unfinished and one waits already".to_owned());
            }
            Overlap::Skip => self.skip(slot, "overlap: an earlier run is unfinished".to_owned()),
            Overlap::CancelRunning => {
                self.cancel_unfinished = true;
                // Of several such slots in one decision, only the newest runs; the earlier ones
                // never start.
                for run in std::mem::take(&mut self.runs) {
                    self.skip(run.slot, "overlap: a newer slot cancelled it before it started".to_owned());
                }
                self.last_slot = self.schedule.last_slot;
                self.run(slot, Admission::Behind);
            }
        }
    }

    /// Plans the run of a late slot. `CatchUp::All` promises every slot, so they are buffered even
    /// where an on-time slot would be skipped. Except if each run cancels the one before: then only
    /// the newest is left.
    fn caught_up(&mut self, slot: Timestamp) {
        let is_buffered = match self.compiled_spec.spec().overlap {
            Overlap::BufferOne | Overlap::Skip | Overlap::BufferAll => self.unfinished_count > 0,
            Overlap::CancelRunning | Overlap::Allow => false,
        };
        if is_buffered && self.compiled_spec.spec().catch_up == CatchUp::All {
            self.run(slot, Admission::Behind);
        } else {
            self.on_time(slot);
        }
    }

    fn run(&mut self, slot: Timestamp, admission: Admission) {
        let delay = jitter::delay_us(
            self.schedule.id.as_str(),
            slot.as_micros(),
            self.compiled_spec.spec().jitter_us,
        );
        let available_at = Timestamp::from_micros(slot.as_micros().saturating_add(delay));
        // A jittered start beyond the horizon is queued rather than held by this worker.
        let admission = match admission {
            Admission::Claim if available_at > self.situation.horizon => Admission::Queue,
            other => other,
        };
        self.unfinished_count += 1;
        if admission == Admission::Behind {
            self.buffered_count += 1;
        }
        self.runs.push(PlannedRun {
            id: RunId::of_slot(&self.schedule.id, slot),
            slot,
            last_slot: self.last_slot,
            upcoming: None,
            available_at,
            admission,
        });
        self.last_slot = Some(slot);
    }

    fn skip(&mut self, slot: Timestamp, reason: String) {
        self.ledger.push(LedgerLine {
            from: slot,
            until: slot,
            count: 1,
            outcome: SlotOutcome::Skipped,
            reason: reason.into(),
        });
    }

    fn window_start(&self) -> Timestamp {
        let window = self.compiled_spec.spec().catch_up_window_us;
        Timestamp::from_micros(self.situation.now.as_micros().saturating_sub(window))
    }

    /// Enters every slot of `[first, newest]` into the ledger that neither runs nor was skipped
    /// above.
    fn account_for_the_rest(&mut self, first: Timestamp, newest: Timestamp) {
        let mut settled: Vec<Timestamp> =
            self.runs.iter().map(|run| run.slot).chain(self.ledger.iter().map(|line| line.from)).collect();
        settled.sort_unstable();
        let window_start = self.window_start();
        let account = MissedSpan::new(self.compiled_spec, self.schedule.next_slot);
        let mut from = first;
        for end in settled.into_iter().map(Some).chain([None]) {
            // Slots in [from, end); the last stretch includes `newest`.
            let until = end.map_or(newest, |slot| Timestamp::from_micros(slot.as_micros() - 1));
            let too_old = until.min(Timestamp::from_micros(window_start.as_micros() - 1));
            self.ledger.extend(account.missed(from, too_old, "older than the catch-up window"));
            let reason = match self.compiled_spec.spec().catch_up {
                CatchUp::Latest => "no worker could run it on time; a newer slot replaces it",
                CatchUp::All => "no worker could run it on time; more slots were missed than `max_catch_up`",
                CatchUp::None => "no worker could run it on time, and catch_up is none",
            };
            self.ledger.extend(account.missed(from.max(window_start), until, reason));
            let Some(slot) = end else { break };
            from = Timestamp::from_micros(slot.as_micros() + 1);
        }
        self.ledger.sort_by_key(|line| line.from);
    }

    /// Completes the plan, once all slots up to `settled_until` are decided.
    fn finish(mut self, settled_until: Timestamp) -> FirePlan {
        let is_used_up = self.is_used_up();
        let after = settled_until.max(self.situation.now);
        let next_slot = if is_used_up { None } else { self.compiled_spec.next(after) };
        let mut upcoming = if is_used_up { None } else { self.compiled_spec.upcoming(after) };
        for run in self.runs.iter_mut().rev() {
            run.upcoming = upcoming;
            upcoming = Some(run.slot);
        }
        let moved = self.compiled_spec.has_moves().then(|| self.compiled_spec.pending_after(after));
        let settled = moved.map(|moved| self.schedule.settled_with_moved(&moved));
        FirePlan {
            schedule: self.schedule.id.clone(),
            revision: self.schedule.revision,
            spec: Arc::clone(self.compiled_spec),
            next_slot,
            status: if next_slot.is_some() { ScheduleStatus::Active } else { ScheduleStatus::Finished },
            runs: self.runs,
            ledger: self.ledger,
            cancel_unfinished: self.cancel_unfinished,
            settled: settled.filter(|settled| *settled != self.schedule.settled),
        }
    }
}
