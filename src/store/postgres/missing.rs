//! Detects rows that a locking read should have returned but did not.
//!
//! It is normal that a row no longer exists: a schedule was deleted, a worker has deregistered. But
//! a row that exists and was not returned is a failure of the read and must not count as gone, or a
//! parent would wait forever for a child that has succeeded. A second query tells the two apart.

use super::fetch::Part;
use super::pipeline::Statement;
use super::queries;
use super::rows::Args;
use crate::model::{RunId, RunState, ScheduleId, WorkerId};
use crate::store::tables::read_set::ReadSet;
use std::collections::BTreeSet;

/// Keys of rows that were expected and not returned.
#[derive(Default)]
pub(super) struct Missing {
    workers: BTreeSet<String>,
    schedules: BTreeSet<String>,
    runs: BTreeSet<String>,
}

impl Missing {
    /// The rows that the commands assume to be stored, and the schedules and parents of the runs
    /// that complete.
    pub fn of(needs: &ReadSet<'_>, part: &Part) -> Self {
        let tables = &part.tables;
        let mut missing = Self::default();
        for id in &needs.known_workers {
            if !tables.workers.contains_key(&WorkerId::from(*id)) {
                missing.workers.insert((*id).to_owned());
            }
        }
        for id in &needs.known_schedules {
            if !part.stored_schedules.contains_key(&ScheduleId::from(*id)) {
                missing.schedules.insert((*id).to_owned());
            }
        }
        for id in &needs.known_runs {
            if !tables.runs.contains_key(&RunId::from(*id)) {
                missing.runs.insert((*id).to_owned());
            }
        }
        for id in completing(needs, part) {
            let Some(row) = tables.runs.get(&id) else { continue };
            if let Some(schedule) = &row.run.schedule_id
                && !part.stored_schedules.contains_key(schedule)
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

    /// Asks which of them exist: each row of the answer is one that the read missed.
    pub fn statement(&self) -> Statement<'_> {
        let mut args = Args::default();
        let mut parts = Vec::new();
        for (table, ids) in [("worker", &self.workers), ("schedule", &self.schedules), ("run", &self.runs)] {
            if !ids.is_empty() {
                let ids = args.texts(ids.iter().map(String::as_str));
                parts.push(format!("SELECT id FROM @{table} WHERE id = ANY(${ids})"));
            }
        }
        Statement::Query(queries::MISSED_ROWS.of(parts.join(" UNION ALL ")), args)
    }
}

/// Runs that may complete: those that the commands name, their descendants, and those that are
/// freed.
fn completing(needs: &ReadSet<'_>, part: &Part) -> BTreeSet<RunId> {
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
