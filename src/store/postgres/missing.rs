//! Rows that a locking read should have returned and did not.
//!
//! A row that is not there any more is normal: a schedule was deleted, a worker has left. A row that
//! is there and was not returned is a failure of the read, and must not be taken for the former: a
//! parent would wait forever for a child that has succeeded. A second look tells them apart.

use super::fetch::Part;
use super::pipeline::Statement;
use super::read_set::ReadSet;
use super::rows::Args;
use crate::model::{RunId, RunState, ScheduleId, WorkerId};
use std::collections::BTreeSet;

/// Keys of rows that were expected.
#[derive(Default)]
pub(super) struct Missing {
    workers: BTreeSet<String>,
    schedules: BTreeSet<String>,
    runs: BTreeSet<String>,
}

impl Missing {
    /// What the commands take for stored, and what belongs to the runs that end: their schedules and
    /// their parents.
    pub fn of(needs: &ReadSet<'_>, part: &Part) -> Self {
        let tables = &part.tables;
        let mut missing = Self::default();
        for id in &needs.known_workers {
            if !tables.workers.contains_key(&WorkerId::from(*id)) {
                missing.workers.insert((*id).to_owned());
            }
        }
        for id in &needs.known_schedules {
            if !part.stored_schedules.contains(&ScheduleId::from(*id)) {
                missing.schedules.insert((*id).to_owned());
            }
        }
        for id in &needs.known_runs {
            if !tables.runs.contains_key(&RunId::from(*id)) {
                missing.runs.insert((*id).to_owned());
            }
        }
        for id in ending(needs, part) {
            let Some(row) = tables.runs.get(&id) else { continue };
            if let Some(schedule) = &row.run.schedule_id
                && !part.stored_schedules.contains(schedule)
            {
                missing.schedules.insert(schedule.to_string());
            }
            if let Some(parent) = &row.run.parent
                && !tables.runs.contains_key(parent)
            {
                missing.runs.insert(parent.to_string());
            }
        }
        missing
    }

    pub fn is_empty(&self) -> bool {
        self.workers.is_empty() && self.schedules.is_empty() && self.runs.is_empty()
    }

    /// Asks which of them exist: each row of the answer is one that was missed.
    pub fn statement(&self) -> Statement<'_> {
        let mut args = Args::default();
        let mut parts = Vec::new();
        for (table, ids) in [("worker", &self.workers), ("schedule", &self.schedules), ("run", &self.runs)] {
            if !ids.is_empty() {
                let ids = args.texts(ids.iter().map(String::as_str));
                parts.push(format!("SELECT id FROM @{table} WHERE id = ANY(${ids})"));
            }
        }
        Statement::Query(parts.join(" UNION ALL "), args)
    }
}

/// Runs that may end: those that the commands name, those below them, and those that are freed.
fn ending(needs: &ReadSet<'_>, part: &Part) -> BTreeSet<RunId> {
    let tables = &part.tables;
    let mut found: BTreeSet<RunId> = needs.ended.iter().map(|id| RunId::from(*id)).collect();
    let mut open: Vec<RunId> = needs.cancelled.iter().map(|id| RunId::from(*id)).collect();
    for row in tables.runs.values() {
        let run = &row.run;
        if run.state == RunState::Running
            && run.worker.as_ref().is_some_and(|worker| needs.left.contains(worker.as_str()))
        {
            found.insert(run.id.clone());
        }
        if !run.state.is_finished()
            && run.schedule_id.as_ref().is_some_and(|id| needs.stopped.contains(id.as_str()))
        {
            open.push(run.id.clone());
        }
    }
    while let Some(id) = open.pop() {
        if found.insert(id.clone()) {
            open.extend(tables.children.get(&id).into_iter().flatten().cloned());
        }
    }
    found
}
