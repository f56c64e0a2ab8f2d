//! Slots: how early to decide them, the decisions, and their commits.

use super::{Engine, Phase};
use crate::calendar::Timestamp;
use crate::clock::Now;
use crate::engine::dispatcher::{Dispatcher, MissedSlots, Notice};
use crate::engine::permits::Reserved;
use crate::model::spec::CompiledSpec;
use crate::model::{Admission, FirePlan, Schedule, ScheduleStatus, SlotOutcome, stored_calendar};
use crate::plan::{Situation, plan_fire};
use crate::store::{
    Answer, Command, DueSchedule, NextWork, Page, Patch, Rejection, Shard, StoreError, StoreWrites,
    attach_calendars_to_due,
};
use std::sync::Arc;
use std::time::Duration;

/// Most slots that are counted to estimate a burst.
const BURST_MAX: usize = 100_000;

/// The next slots, and which of them this worker decides first.
pub(super) struct Scheduling {
    pub(super) next_work: NextWork,
    pub(super) is_next_work_stale: bool,
    /// Whether its runs alone are stale.
    pub(super) is_next_run_stale: bool,
    pub(super) burst: Option<Burst>,
    /// The schedules that this worker decides first when others run the same workflows.
    pub(super) shard: Shard,
    /// Whether this worker's own shard is done while those of others are not.
    pub(super) is_helping: bool,
    /// No worker was watching for slots before this instant: the catch-up policy decides about
    /// them.
    pub(super) watching_since: Timestamp,
}

impl Scheduling {
    /// Starts with nothing read yet.
    pub(super) fn new() -> Self {
        Self {
            next_work: NextWork::default(),
            is_next_work_stale: true,
            is_next_run_stale: false,
            burst: None,
            shard: Shard::WHOLE,
            is_helping: false,
            watching_since: Timestamp::MAX,
        }
    }

    /// Notes that the next slots may have changed.
    pub(super) fn note_change(&mut self) {
        self.is_next_work_stale = true;
        if let Some(burst) = &mut self.burst {
            burst.is_stale = true;
        }
    }
}

/// The next slot, and how early the runs due then must be claimed.
#[derive(Copy, Clone, Debug)]
pub(super) struct Burst {
    pub(super) slot: Timestamp,
    pub(super) lead: Duration,
    /// Whether schedules may have changed since it was estimated.
    is_stale: bool,
}

/// Decisions about a batch of due schedules.
#[derive(Debug, Default)]
pub(super) struct Decided {
    pub(super) commands: Vec<Command>,
    /// The schedules of `commands`, in the same order.
    pub(super) schedules: Vec<Schedule>,
    /// Permits for the runs that the commands claim.
    pub(super) permits: Option<Reserved>,
    /// Whether more may be due.
    pub(super) is_full: bool,
}

impl<W: StoreWrites, D: Dispatcher> Engine<W, D> {
    /// Estimates the burst at the next slot: a large one must be claimed earlier than the usual
    /// lead for the last run to start on time. Returns whether that time has come already.
    pub(super) fn estimate_burst(&mut self, now: Now) -> Result<bool, StoreError> {
        let (lead, lead_max) = (self.config.lead, self.config.lead_max);
        let Some(slot) = self.scheduling.next_work.slot.filter(|_| self.phase == Phase::Working) else {
            return Ok(false);
        };
        let is_near = slot > now.wall.saturating_add(lead) && slot <= now.wall.saturating_add(lead_max);
        let former = self.scheduling.burst.filter(|burst| burst.slot == slot);
        if !is_near || former.is_some_and(|burst| !burst.is_stale) {
            return Ok(false);
        }
        let count = self.reads.due_count(&self.config.project, &self.workflow_ids, slot, BURST_MAX)?;
        let needed = self.config.lead_per_slot.saturating_mul(u32::try_from(count).unwrap_or(u32::MAX));
        // In a burst that is being claimed, fewer are left. A shorter lead would stop it halfway.
        let needed = former.map_or(needed, |former| former.lead.max(needed));
        let burst = Burst { slot, lead: needed.clamp(lead, lead_max), is_stale: false };
        self.scheduling.burst = Some(burst);
        Ok(slot <= now.wall.saturating_add(burst.lead))
    }

    /// Whether held runs are due before another batch would be committed: they must not wait for
    /// it.
    pub(super) fn is_about_to_start(&self, now: Timestamp) -> bool {
        let batch_max = u32::try_from(self.config.batch_max).unwrap_or(u32::MAX);
        let batch = self.config.lead_per_slot.saturating_mul(batch_max).min(self.config.lead);
        self.claims.early.next_deadline().is_some_and(|at| at <= now.saturating_add(batch))
    }

    /// Slots up to this instant are decided at `now`.
    pub(super) fn horizon(&self, now: Timestamp) -> Timestamp {
        self.horizon_with_lead(now, |lead| lead)
    }

    fn horizon_with_lead(&self, now: Timestamp, part: impl Fn(Duration) -> Duration) -> Timestamp {
        let usual = now.saturating_add(part(self.config.lead));
        match self.scheduling.burst {
            Some(burst) if burst.slot <= now.saturating_add(part(burst.lead)) => usual.max(burst.slot),
            _ => usual,
        }
    }

    /// Decides one batch of due schedules. Returns whether there may be more.
    pub(super) fn fire_due(&mut self, now: Now) -> Result<bool, StoreError> {
        if self.is_about_to_start(now.wall) {
            return Ok(false);
        }
        let horizon = self.horizon(now.wall);
        if !self.scheduling.is_next_work_stale
            && self.scheduling.next_work.slot.is_none_or(|slot| slot > horizon)
        {
            return Ok(false);
        }
        // The reservation ends after the claimed runs have taken their permits.
        let Decided { commands, schedules, permits: _permits, is_full } = self.decide_batch(now, horizon)?;
        // Another worker may have decided what was due here a moment ago: the known next slot is
        // stale.
        self.scheduling.is_next_work_stale = true;
        if commands.is_empty() {
            return Ok(false);
        }
        self.claims.has_unknown = true;
        let outcomes = self.writes.commit(&commands, now.wall)?;
        self.claims.has_unknown = false;
        let mut has_stale = false;
        let mut has_cancelled = false;
        let mut is_gone = false;
        let mut claimed = Vec::with_capacity(commands.len());
        let mut missed = Vec::new();
        for ((command, schedule), outcome) in commands.iter().zip(&schedules).zip(outcomes) {
            match outcome {
                Ok(Answer::Claimed(mut runs)) => {
                    claimed.append(&mut runs);
                    if matches!(command, Command::Fire { plan, .. } if plan.cancel_unfinished) {
                        // The runs that it cancels may be executing here: the next tick, which is
                        // immediate, stops them.
                        self.peers.must_refresh = true;
                        has_cancelled = true;
                    }
                    if let Command::Fire { plan, .. } = command {
                        self.metrics.add_plan(&schedule.workflow, plan);
                    }
                    missed.extend(missed_by(command, schedule));
                }
                Ok(_) => {}
                // Decisions beside it that claim nothing have taken effect all the same.
                Err(Rejection::WorkerGone) => is_gone = true,
                Err(Rejection::Stale) => has_stale = true,
                Err(rejection) => self.set_aside(command, &rejection, now)?,
            }
        }
        if is_gone {
            self.lose_everything();
        } else {
            self.accept_claims(claimed, now);
        }
        if !missed.is_empty() {
            self.dispatcher.emit(Notice::Missed(missed));
        }
        Ok(is_gone || is_full || has_stale || has_cancelled)
    }

    /// Decides a batch of due schedules, of our shard first, then of all. The shards of others are
    /// left to them for half of the lead; after that, their workers are gone or slow.
    fn decide_batch(&mut self, now: Now, horizon: Timestamp) -> Result<Decided, StoreError> {
        if self.scheduling.shard == Shard::WHOLE {
            return self.decide_shard(Shard::WHOLE, now, horizon);
        }
        if !self.scheduling.is_helping {
            let own = self.decide_shard(self.scheduling.shard, now, horizon)?;
            if !own.commands.is_empty() {
                return Ok(own);
            }
        }
        let early = self.horizon_with_lead(now.wall, |lead| lead / 2);
        let others = self.decide_shard(Shard::WHOLE, now, early)?;
        self.scheduling.is_helping = others.is_full;
        Ok(others)
    }

    fn decide_shard(&mut self, shard: Shard, now: Now, horizon: Timestamp) -> Result<Decided, StoreError> {
        let limit = self.config.batch_max;
        let is_isolating = self.claims.suspects.is_isolating(now.mono);
        let mut due =
            self.reads.due_in_shard(&self.config.project, &self.workflow_ids, horizon, shard, limit)?;
        attach_calendars_to_due(&*self.reads, &self.config.project, &mut due)?;
        let mut permits = self.claims.permits.reserve_up_to(0);
        let mut decided = Decided { is_full: due.len() == limit, ..Decided::default() };
        for due in due {
            if let Some(command) = self.decide(&due, now.wall, horizon, &mut permits, is_isolating)? {
                decided.commands.push(command);
                decided.schedules.push(due.schedule);
            }
        }
        decided.permits = Some(permits);
        Ok(decided)
    }

    pub(super) fn decide(
        &mut self,
        due: &DueSchedule,
        now: Timestamp,
        horizon: Timestamp,
        permits: &mut Reserved,
        is_isolating: bool,
    ) -> Result<Option<Command>, StoreError> {
        let schedule = &due.schedule;
        let compiled_spec = match schedule.compiled_spec() {
            Ok(compiled_spec) => compiled_spec,
            Err(error) => {
                let reason = error.to_string();
                self.dispatcher.emit(Notice::ScheduleBroken(schedule.id.clone(), reason.clone()));
                return Ok(Some(self.breaking(schedule.id.clone(), Some(schedule.revision), reason)));
            }
        };
        if let Some(name) = compiled_spec.missing_calendar() {
            let reason = stored_calendar::missing(name);
            self.calendars.note_broken();
            self.dispatcher.emit(Notice::ScheduleBroken(schedule.id.clone(), reason.clone()));
            return Ok(Some(self.breaking(schedule.id.clone(), Some(schedule.revision), reason)));
        }
        let situation = Situation {
            now,
            horizon,
            watching_since: self.scheduling.watching_since,
            unfinished_count: due.unfinished_count,
            buffered_count: due.buffered_count,
        };
        let Some(mut plan) = plan_fire(schedule, &compiled_spec, &situation) else { return Ok(None) };
        if let Some(slot) = late_one_off(schedule, &compiled_spec, now) {
            if self.has_outcome(schedule, slot)? {
                plan.runs.clear();
                plan.ledger.clear();
                plan.cancel_unfinished = false;
            }
            self.dispatcher.emit(Notice::Advice(describe_late_one_off(schedule, slot, &plan)));
        }
        for run in &mut plan.runs {
            if run.admission == Admission::Claim && (is_isolating || !permits.add()) {
                run.admission = Admission::Queue;
            }
        }
        Ok(Some(Command::Fire { worker: self.membership.worker.clone(), plan: Box::new(plan) }))
    }

    /// Whether the ledger already has an outcome for the slot.
    fn has_outcome(&self, schedule: &Schedule, slot: Timestamp) -> Result<bool, StoreError> {
        let page = Page { limit: 1, after: Some((slot.as_micros() + 1).to_string()) };
        let newest = self.reads.history(&self.config.project, &schedule.id, &page)?;
        Ok(newest.unwrap_or_default().iter().any(|entry| entry.count > 0 && entry.until >= slot))
    }

    fn breaking(&self, id: crate::model::ScheduleId, revision: Option<i64>, reason: String) -> Command {
        let patch = Patch {
            status: Some(ScheduleStatus::Broken),
            note: Some(Some(reason.into())),
            ..Patch::default()
        };
        Command::PatchSchedule {
            project: Arc::clone(&self.config.project),
            id,
            revision,
            patch: Box::new(patch),
        }
    }

    /// Marks the schedule broken whose decision the store rejected for good: it must not come due
    /// again and again.
    fn set_aside(&mut self, command: &Command, rejection: &Rejection, now: Now) -> Result<(), StoreError> {
        if let Command::Fire { plan, .. } = command {
            let reason = rejection.to_string();
            self.dispatcher.emit(Notice::ScheduleBroken(plan.schedule.clone(), reason.clone()));
            let breaking = self.breaking(plan.schedule.clone(), None, reason);
            // If even this is rejected, the schedule no longer exists, which serves as well.
            let _ = self.commit_one(breaking, now)?;
        }
        Ok(())
    }
}

/// The slot of a one-off schedule, if it had already passed when the schedule was created or
/// changed.
fn late_one_off(schedule: &Schedule, compiled_spec: &CompiledSpec, now: Timestamp) -> Option<Timestamp> {
    let slot = schedule.next_slot.filter(|slot| *slot <= now && *slot < schedule.attended_from)?;
    compiled_spec.is_one_off().then_some(slot)
}

fn describe_late_one_off(schedule: &Schedule, slot: Timestamp, plan: &FirePlan) -> String {
    let (workflow, key) = (&schedule.workflow, &schedule.key);
    let outcome = match (plan.runs.is_empty(), plan.ledger.first()) {
        (false, _) => "it runs once, late".to_owned(),
        (true, Some(line)) => format!("it does not run: {}", line.reason),
        (true, None) => "it does not run again: this slot is in the history already".to_owned(),
    };
    format!("`at` of the schedule of `{workflow}` (key `{key}`) is {slot}, which has passed; {outcome}")
}

/// The slots that a decision records as missed.
fn missed_by(command: &Command, schedule: &Schedule) -> Vec<MissedSlots> {
    let Command::Fire { plan, .. } = command else { return Vec::new() };
    let missed = plan.ledger.iter().filter(|line| line.outcome == SlotOutcome::Missed);
    missed
        .map(|line| MissedSlots {
            schedule: schedule.id.clone(),
            workflow: Arc::clone(&schedule.workflow),
            key: Arc::clone(&schedule.key),
            line: line.clone(),
        })
        .collect()
}
