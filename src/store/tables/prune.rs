//! Deletes what is older than the retention.

use super::rows::Tables;
use crate::calendar::Timestamp;
use crate::model::{RunId, ScheduleId};
use crate::store::Answer;
use std::collections::BTreeMap;
use std::sync::Arc;

impl Tables {
    pub(super) fn prune(&mut self, project: &Arc<str>, before: Timestamp, keep: u32, limit: usize) -> Answer {
        let old = self.finished.get(project).map(|runs| runs.range(..(before, 0)));
        let runs: Vec<RunId> = old
            .into_iter()
            .flatten()
            .map(|(_, id)| id)
            .filter(|id| !self.is_kept(id, keep))
            .take(limit)
            .cloned()
            .collect();
        for id in &runs {
            self.delete_run(id);
        }
        let old = self.ledger_by_age.get(project).map(|lines| lines.range(..(before, 0)));
        let lines: Vec<(Timestamp, u64)> =
            old.into_iter().flatten().map(|(key, _)| *key).take(limit - runs.len()).collect();
        for (until, no) in &lines {
            self.delete_ledger(project, *until, *no);
        }
        let old = self.hook_calls.values().filter(|call| call.project == *project && call.check_at < before);
        let calls: Vec<Arc<str>> = old.map(|call| Arc::clone(&call.id)).collect();
        for id in calls {
            self.hook_calls.remove(&id);
        }
        let room = limit - runs.len() - lines.len();
        let schedules = self.prune_finished_once(project, before, room);
        Answer::Count((runs.len() + lines.len() + schedules) as u64)
    }

    /// Deletes finished one-off schedules with their runs and their ledger, and returns how many.
    fn prune_finished_once(&mut self, project: &Arc<str>, before: Timestamp, limit: usize) -> usize {
        let old = |run: &RunId| self.runs[run].run.finished_at.is_some_and(|at| at < before);
        let is_old = |id: &ScheduleId| self.by_slot.get(id).is_none_or(|runs| runs.values().all(old));
        let finished = self.finished_once.get(project).into_iter().flatten();
        let schedules: Vec<ScheduleId> = finished
            .take_while(|(slot, _)| *slot < before)
            .map(|(_, id)| id)
            .filter(|id| is_old(id))
            .take(limit)
            .cloned()
            .collect();
        for id in &schedules {
            let runs: Vec<RunId> =
                self.by_slot.get(id).into_iter().flat_map(|runs| runs.values()).cloned().collect();
            for run in &runs {
                self.delete_run(run);
            }
            let lines = self.ledger.get(id).into_iter().flatten();
            let lines: Vec<_> = lines.map(|((_, no), (_, line))| (line.until, *no)).collect();
            for (until, no) in lines {
                self.delete_ledger(project, until, no);
            }
            self.remove_schedule(id);
        }
        schedules.len()
    }

    /// Whether the run is one of the newest `keep` of its schedule.
    fn is_kept(&self, id: &RunId, keep: u32) -> bool {
        let row = &self.runs[id];
        let keep = keep as usize;
        let (Some(schedule), Some(_)) = (&row.run.schedule_id, row.run.slot) else { return false };
        let none = BTreeMap::new();
        let newer = self.by_slot.get(schedule).unwrap_or(&none).range((row.run.slot, row.no + 1)..);
        newer.take(keep).count() < keep
    }
}
