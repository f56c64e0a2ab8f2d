//! What a command means for others than its sender: which engines must look again, and which early
//! claims it revokes. One table, so that every store notifies of the same commands.

use super::{Answer, Command};
use crate::model::{Admission, Completion};

/// What an engine has to look at again after a commit, its own process's or another's.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Effect {
    /// Nothing: a heartbeat, or a record of a run in progress.
    Nothing,
    /// Runs: one can be claimed that could not be claimed before.
    AddsRuns,
    /// Everything: slots, requested cancellations, or the set of workers may have changed.
    ChangesSchedules,
}

impl Command {
    /// What the command changed, given its answer. Without an answer, what it may have changed.
    pub fn effect(&self, answer: Option<&Answer>) -> Effect {
        let adds_runs = |it_does: bool| if it_does { Effect::AddsRuns } else { Effect::Nothing };
        match self {
            // The worker that it was claimed for learns of it from the answer.
            Self::CreateRun(_) if matches!(answer, Some(Answer::Created { claimed: Some(_), .. })) => {
                Effect::Nothing
            }
            Self::CreateRun(new) if new.revokes_claims => Effect::ChangesSchedules,
            Self::CreateRun(_)
            | Self::DebounceRun { .. }
            | Self::RetryRun { .. }
            | Self::WakeParents { .. } => Effect::AddsRuns,
            Self::SendEvent(_) => adds_runs(!matches!(
                answer,
                Some(Answer::Accepted { woken: false, .. } | Answer::AcceptedBy(_))
            )),
            // The runs may be executing in other workers, which must stop them.
            Self::Fire { plan, .. } if plan.cancel_unfinished => Effect::ChangesSchedules,
            // Other workers claim the runs for which this worker had no permit.
            Self::Fire { plan, .. } => {
                adds_runs(plan.runs.iter().any(|run| run.admission == Admission::Queue))
            }
            Self::CompleteRun { .. } => adds_runs(matches!(
                answer,
                Some(Answer::Ended { state, released }) if *released || !state.is_finished()
            )),
            Self::Reconcile { .. } => match answer {
                Some(Answer::Reconciled(report))
                    if report.retired.is_empty() && report.adopted.is_empty() =>
                {
                    Effect::Nothing
                }
                _ => Effect::ChangesSchedules,
            },
            Self::RegisterWorker(_)
            | Self::UpsertSchedules(_)
            | Self::PatchSchedule { .. }
            | Self::DeleteSchedule { .. }
            | Self::SetLimit { .. }
            | Self::DeleteLimit { .. }
            | Self::SetCalendar { .. }
            | Self::CancelRun { .. }
            | Self::ExpireWorker { .. }
            | Self::DeregisterWorker { .. } => Effect::ChangesSchedules,
            Self::Heartbeat { .. }
            | Self::UncountInterruptions { .. }
            | Self::ClaimRuns { .. }
            | Self::RecordStep { .. }
            | Self::ReportProgress { .. }
            | Self::AwaitEvent { .. }
            | Self::TakeHookCalls { .. }
            | Self::EndHookCalls { .. }
            | Self::Prune { .. } => Effect::Nothing,
        }
    }

    /// Whether the command may revoke early claims, as [`Command`] defines it.
    pub fn may_revoke_early_claims(&self) -> bool {
        match self {
            Self::RegisterWorker(_)
            | Self::Reconcile { .. }
            | Self::UpsertSchedules(_)
            | Self::PatchSchedule { .. }
            | Self::DeleteSchedule { .. } => true,
            Self::CreateRun(new) => new.revokes_claims,
            // The failure may be the one that pauses its schedule.
            Self::CompleteRun { ending, .. } => {
                matches!(**ending, Completion::Failed { retry_at: None, .. })
            }
            Self::Heartbeat { .. }
            | Self::DeregisterWorker { .. }
            | Self::ExpireWorker { .. }
            | Self::UncountInterruptions { .. }
            | Self::Fire { .. }
            | Self::ClaimRuns { .. }
            | Self::DebounceRun { .. }
            | Self::RecordStep { .. }
            | Self::ReportProgress { .. }
            | Self::AwaitEvent { .. }
            | Self::SendEvent(_)
            | Self::SetLimit { .. }
            | Self::DeleteLimit { .. }
            | Self::SetCalendar { .. }
            | Self::CancelRun { .. }
            | Self::RetryRun { .. }
            | Self::WakeParents { .. }
            | Self::TakeHookCalls { .. }
            | Self::EndHookCalls { .. }
            | Self::Prune { .. } => false,
        }
    }
}
