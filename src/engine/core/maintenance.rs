//! Low-priority work: recomputing next slots, pruning, waking stuck parents.

use super::Engine;
use crate::calendar::Timestamp;
use crate::clock::Now;
use crate::engine::dispatcher::{Dispatcher, Notice};
use crate::engine::stuck_parents::StuckParents;
use crate::plan::recomputed;
use crate::store::{Answer, Command, Page, Patch, ScheduleFilter, StoreError, StoreWrites};
use std::sync::Arc;
use std::time::Duration;

/// The interval between prunes, if any run has completed meanwhile. A last prune follows when those
/// runs are old enough, though nothing else may happen until then. The first prune waits as long:
/// by then, a machine that booted with a wrong clock has been corrected, and nothing was deleted
/// for being "old".
const PRUNE_INTERVAL: Duration = Duration::from_secs(3_600);

/// How many schedules to recompute at once when slots may be wrong; the rest follow in batches with
/// pauses, so that a million schedules do not keep a core busy at every start.
const RECOMPUTE_BURST: usize = 5_000;

/// See [`RECOMPUTE_BURST`].
const RECOMPUTE_PAUSE: Duration = Duration::from_secs(1);

/// Progress of the low-priority work.
#[derive(Default)]
pub(super) struct Maintenance {
    /// When to prune next; the first tick sets it.
    next_prune: Option<Duration>,
    /// Whether runs have completed here since the last prune.
    has_ended_runs: bool,
    /// When a run last completed here, until a prune finds it old enough.
    last_end: Option<Duration>,
    /// Whether stored next slots are being recomputed, and how far that has come.
    pub(super) recomputation: Option<Recomputation>,
    pub(super) stuck_parents: StuckParents,
}

impl Maintenance {
    /// A run has completed here.
    pub(super) fn note_end(&mut self, mono: Duration) {
        self.has_ended_runs = true;
        self.last_end = Some(mono);
    }

    /// When to prune next.
    pub(super) fn prune_due(&self, retention: Option<Duration>) -> Option<Duration> {
        let (next, old_at) = (self.next_prune?, self.old_at(retention?)?);
        Some(if self.has_ended_runs { next } else { next.max(old_at) })
    }

    /// When all runs that completed here are older than the retention, by either clock.
    fn old_at(&self, retention: Duration) -> Option<Duration> {
        Some(self.last_end?.saturating_add(retention).saturating_add(PRUNE_INTERVAL))
    }

    fn note_prune(&mut self, mono: Duration, retention: Duration) {
        if self.old_at(retention).is_some_and(|old_at| old_at <= mono) {
            self.last_end = None;
        }
        self.has_ended_runs = false;
        self.next_prune = Some(mono + PRUNE_INTERVAL);
    }
}

/// A walk over all schedules.
#[derive(Debug, Default)]
pub(super) struct Recomputation {
    /// The last schedule that was examined.
    pub(super) after: Option<String>,
    pub(super) seen_count: usize,
    pub(super) changed_count: u64,
    /// Continue no earlier than this.
    pub(super) next: Duration,
}

impl<W: StoreWrites, D: Dispatcher> Engine<W, D> {
    /// Prunes a small batch of what is older than the retention. Returns whether more remains.
    pub(super) fn prune(&mut self, now: Now) -> Result<bool, StoreError> {
        let Some(retention) = self.config.retention else { return Ok(false) };
        self.maintenance.next_prune.get_or_insert(now.mono + PRUNE_INTERVAL);
        if self.maintenance.prune_due(Some(retention)).is_none_or(|due| now.mono < due) {
            return Ok(false);
        }
        let age_us = i64::try_from(retention.as_micros()).unwrap_or(i64::MAX);
        let command = Command::Prune {
            project: Arc::clone(&self.config.project),
            before: Timestamp::from_micros(now.wall.as_micros().saturating_sub(age_us)),
            keep: self.config.retention_keep,
            limit: self.config.batch_max,
        };
        let pruned = self.commit_one(command, now)?;
        if matches!(pruned, Ok(Answer::Count(count)) if count >= self.config.batch_max as u64) {
            return Ok(true);
        }
        self.maintenance.note_prune(now.mono, retention);
        Ok(false)
    }

    /// Wakes parents whose child completed without waking them. Returns whether any can be claimed
    /// now.
    pub(super) fn wake_stuck_parents(&mut self, now: Now) -> Result<bool, StoreError> {
        let limit = self.config.batch_max;
        let woken = self.maintenance.stuck_parents.look(
            &*self.reads,
            &self.writes,
            &self.config.project,
            limit,
            now,
        )?;
        self.scheduling.is_next_work_stale |= woken.on_page > 0;
        if let Some(count) = woken.in_all {
            self.dispatcher.emit(Notice::WokeParents(count));
        }
        Ok(woken.on_page > 0)
    }

    /// Recomputes the next slots of a batch of schedules, at startup and after the clock was set
    /// back. Returns whether more remains.
    pub(super) fn recompute(&mut self, now: Now) -> Result<bool, StoreError> {
        let Some(Recomputation { after, seen_count, changed_count, next }) = &self.maintenance.recomputation
        else {
            return Ok(false);
        };
        if now.mono < *next {
            return Ok(false);
        }
        let (mut seen_count, mut changed_count) = (*seen_count, *changed_count);
        let page = Page { limit: self.config.batch_max.max(1), after: after.clone() };
        let schedules = self.reads.schedules(&self.config.project, &ScheduleFilter::default(), &page)?;
        let mut commands = Vec::new();
        for schedule in &schedules {
            // A schedule that cannot be parsed is marked broken when it is due.
            let Ok(compiled_spec) = schedule.compiled_spec() else { continue };
            if let Some(slot) = recomputed(schedule, &compiled_spec, now.wall) {
                commands.push(Command::PatchSchedule {
                    project: Arc::clone(&self.config.project),
                    id: schedule.id.clone(),
                    revision: Some(schedule.revision),
                    patch: Box::new(Patch { next_slot: Some(Some(slot)), ..Patch::default() }),
                });
            }
        }
        if !commands.is_empty() {
            // A rejection means that the schedule was changed meanwhile by a writer that knows the
            // time as well.
            let outcomes = self.writes.commit(&commands, now.wall)?;
            changed_count += outcomes.iter().filter(|outcome| outcome.is_ok()).count() as u64;
            self.scheduling.is_next_work_stale = true;
        }
        if schedules.len() == page.limit {
            let after = schedules.last().map(|schedule| schedule.id.to_string());
            seen_count += schedules.len();
            let is_paced = seen_count >= RECOMPUTE_BURST;
            let next = if is_paced { now.mono + RECOMPUTE_PAUSE } else { now.mono };
            self.maintenance.recomputation = Some(Recomputation { after, seen_count, changed_count, next });
            return Ok(!is_paced);
        }
        self.maintenance.recomputation = None;
        if changed_count > 0 {
            self.dispatcher.emit(Notice::Recomputed(changed_count));
        }
        Ok(!commands.is_empty())
    }
}
