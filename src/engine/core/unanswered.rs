//! Decisions whose commit was not answered: it may have been applied all the same, and then its
//! slots are to be counted.

use super::Engine;
use crate::engine::dispatcher::Dispatcher;
use crate::model::{FirePlan, Schedule};
use crate::store::{Command, StoreError, StoreWrites};
use std::sync::Arc;

/// Most decisions that are remembered; more are not counted.
const UNANSWERED_MAX: usize = 10_000;

/// A decision without an answer, and the workflow of its schedule.
#[derive(Debug)]
pub(super) struct Unanswered {
    workflow: Arc<str>,
    plan: Box<FirePlan>,
}

impl<W: StoreWrites, D: Dispatcher> Engine<W, D> {
    /// Remembers the decisions of a commit that was not answered.
    pub(super) fn remember_unanswered(&mut self, commands: &[Command], schedules: &[Schedule]) {
        let room = UNANSWERED_MAX.saturating_sub(self.unanswered.len());
        for (command, schedule) in commands.iter().zip(schedules).take(room) {
            if let Command::Fire { plan, .. } = command {
                self.unanswered
                    .push(Unanswered { workflow: Arc::clone(&schedule.workflow), plan: plan.clone() });
            }
        }
    }

    /// Counts those remembered decisions that were applied.
    ///
    /// A run that this worker has claimed proves it. If no other worker is registered, so does any
    /// run of the decision, or, where it has none, a schedule that has moved on. Otherwise it is
    /// unknown which worker decided, and the slots are not counted, rather than twice.
    pub(super) fn count_unanswered(&mut self) -> Result<(), StoreError> {
        while let Some(unanswered) = self.unanswered.last() {
            if self.was_applied(&unanswered.plan)? {
                self.metrics.add_plan(&unanswered.workflow, &unanswered.plan);
            }
            self.unanswered.pop();
        }
        Ok(())
    }

    fn was_applied(&self, plan: &FirePlan) -> Result<bool, StoreError> {
        let project = &self.config.project;
        let is_alone = !self.peers.watch.has_peers();
        if let Some(planned) = plan.runs.first() {
            let run = self.reads.run(project, &planned.id)?;
            return Ok(
                run.is_some_and(|run| is_alone || run.worker.as_ref() == Some(&self.membership.worker))
            );
        }
        let schedule = self.reads.schedule(project, &plan.schedule)?;
        Ok(is_alone && schedule.is_some_and(|schedule| schedule.revision > plan.revision))
    }
}
