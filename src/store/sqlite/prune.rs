//! Deletes what is old.
//!
//! A run is examined once when it is old enough. If it is still one of the newest of its schedule,
//! it is marked as kept (`kept`), so that the next prune doesn't meet it again. A new run of the
//! schedule, or a smaller `keep`, removes the mark. So the work of a prune is bounded by what has
//! changed, not by what is kept.

use super::batch::{Applied, Batch};
use super::queries;
use super::rows::{Columns, limit_to_sql};
use super::run_id_range::{ids, ids_from};
use crate::calendar::Timestamp;
use crate::model::ScheduleId;
use crate::store::Answer;
use crate::store::row_reader::RowReader;
use rusqlite::{Result, Row, params};

/// Runs to examine for each run that may be deleted.
const LOOKS_PER_RUN: usize = 8;
/// Fewest runs to examine.
const LOOKS_MIN: usize = 1000;

impl Batch<'_> {
    pub(super) fn prune(&mut self, project: &str, before: Timestamp, keep: u32, limit: usize) -> Applied {
        let mut looks = limit.saturating_mul(LOOKS_PER_RUN).max(LOOKS_MIN);
        self.run(queries::RECONSIDER_FOR_FEWER, params![project, keep, limit_to_sql(looks)])?;
        let mut pruned = 0;
        while pruned < limit && looks > 0 {
            let count = limit.min(looks);
            let old =
                self.all_rows(queries::OLD_RUNS, params![project, before, limit_to_sql(count)], |row| {
                    let mut columns = Columns::of(row);
                    Ok((columns.int()?, columns.optional_schedule_id()?, columns.optional_time()?))
                })?;
            looks -= count;
            let is_last = old.len() < count;
            for (no, schedule, slot) in old {
                if let (Some(schedule), Some(slot)) = (schedule, slot)
                    && self.is_kept(&schedule, slot, no, keep)?
                {
                    self.run(queries::KEEP_RUN, params![no, keep])?;
                    self.run(queries::NOTE_KEPT_RUN, [&schedule])?;
                } else if pruned < limit {
                    self.delete_run(no)?;
                    pruned += 1;
                }
            }
            if is_last {
                break;
            }
        }
        self.run(queries::PRUNE_HOOK_CALLS, params![project, before])?;
        let room = limit_to_sql(limit - pruned);
        self.run(queries::MARK_PRUNED, params![project, before, room])?;
        let lines = self.run(queries::PRUNE_LEDGER, params![project, before, room])?;
        let schedules = self.prune_finished_once(project, before, limit - pruned - lines)?;
        Ok(Answer::Count((pruned + lines + schedules) as u64))
    }

    /// Deletes finished one-off schedules with their runs and their ledger, and returns how many.
    fn prune_finished_once(&mut self, project: &str, before: Timestamp, limit: usize) -> Result<usize> {
        let finished =
            self.all_rows(queries::FINISHED_ONCE, params![project, before, limit_to_sql(limit)], |row| {
                Columns::of(row).schedule_id()
            })?;
        let mut count = 0;
        for id in finished {
            let (first, behind) = ids(&id);
            if self.any(queries::HAS_RUN_SINCE, params![id, before, first, behind])? {
                continue;
            }
            let runs = self.all_rows(queries::RUN_NUMBERS, params![id, first, behind], |row| row.get(0))?;
            for run in runs {
                self.delete_run(run)?;
            }
            self.run(queries::DELETE_LEDGER, [&id])?;
            count += self.run(queries::DELETE_SCHEDULE, [&id])?;
        }
        Ok(count)
    }

    /// Whether the run is one of the newest of its schedule.
    fn is_kept(&mut self, schedule: &ScheduleId, slot: Timestamp, no: i64, keep: u32) -> Result<bool> {
        let (first, behind) = ids_from(schedule, slot);
        let read = |row: &Row<'_>| Columns::of(row).small_count();
        let mut newer =
            self.one(queries::NEWER_RUNS, params![schedule, slot, no, keep, first, behind], read)?;
        if newer.unwrap_or(0) < keep {
            let others = self.one(queries::NEWER_RUNS_OFF_SLOT, params![schedule, slot, no, keep], read)?;
            newer = newer.zip(others).map(|(some, others)| some + others);
        }
        Ok(newer.unwrap_or(0) < keep)
    }

    /// Removes the marks of a schedule's kept runs.
    pub(super) fn reconsider_runs(&mut self, schedule: &ScheduleId) -> Result<()> {
        let (first, behind) = ids(schedule);
        self.run(queries::RECONSIDER_RUNS, params![schedule, first, behind])?;
        self.run(queries::RECONSIDER_RUNS_OFF_SLOT, [schedule])?;
        self.run(queries::FORGET_KEPT_RUN, [schedule])?;
        Ok(())
    }
}
