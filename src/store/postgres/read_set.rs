//! Which rows a batch of commands has to see.
//!
//! The rules are applied to a part of the tables in memory, so everything that they might look at has to be in it. Of
//! a schedule whose unfinished runs only decide who is next, a few are enough: each command ends at most one of them.

use crate::model::{Admission, Completion, NewSchedule, RunId, ScheduleId, WorkerEntry, WorkerId};
use crate::store::Command;
use crate::store::transitions;
use std::collections::{BTreeSet, HashSet};

/// Text of the commands.
type Ids<'c> = BTreeSet<&'c str>;

/// A project, a workflow and a key of one of its schedules or runs.
pub(super) type Key<'c> = (&'c str, &'c str, &'c str);

/// What a group of commands needs.
#[derive(Default)]
pub(super) struct ReadSet<'c> {
    /// Workers.
    pub workers: Ids<'c>,
    /// Workers whose runs are freed.
    pub left: Ids<'c>,
    /// Of those, the ones that died: what their runs recorded last is asked for.
    pub expired: Ids<'c>,
    /// Schedules.
    pub schedules: Ids<'c>,
    /// Of those, the ones that are edited: what was claimed ahead is taken back.
    pub edited: Ids<'c>,
    /// Schedules that are put, by key: edited too.
    pub keys: Vec<Key<'c>>,
    /// Applications (with their project) whose schedules are edited.
    pub owners: Vec<(&'c str, &'c str)>,
    /// Schedules that a run may have to wait in, or be released in.
    pub queues: Ids<'c>,
    /// Schedules whose unfinished runs are cancelled.
    pub stopped: Ids<'c>,
    /// Runs, without anything around them.
    pub runs: Ids<'c>,
    /// Runs whose schedule is changed with them.
    pub retried: Ids<'c>,
    /// Runs that end: with their schedule, its queue, and their parent.
    pub ended: Ids<'c>,
    /// Of those, the ones whose end may pause their schedule, which is an edit.
    pub pausing: Ids<'c>,
    /// Runs that are cancelled, with all below them.
    pub cancelled: Ids<'c>,
    /// Idempotency keys.
    pub idempotency_keys: Vec<Key<'c>>,
    /// Steps, by run and name.
    pub steps: Vec<(&'c str, &'c str)>,
    /// Runs of which it matters whether they have recorded a step.
    pub with_steps: Ids<'c>,
    /// Schedules that are deleted.
    pub deleted: Ids<'c>,
    /// Of the workers, those that a command takes for registered.
    pub known_workers: Ids<'c>,
    /// Of the schedules, those that a command takes for stored.
    pub known_schedules: Ids<'c>,
    /// Of the runs, those that a command takes for stored.
    pub known_runs: Ids<'c>,
}

impl<'c> ReadSet<'c> {
    pub fn of(commands: &'c [Command]) -> Self {
        let mut needs = Self::default();
        for command in commands {
            needs.add(command);
            needs.add_known(command);
        }
        needs
    }

    /// Whether stored schedules may be edited.
    pub fn has_edits(&self) -> bool {
        !self.edited.is_empty()
            || !self.keys.is_empty()
            || !self.owners.is_empty()
            || !self.pausing.is_empty()
    }

    fn add(&mut self, command: &'c Command) {
        match command {
            Command::RegisterWorker(entry) | Command::Reconcile { entry, .. } => {
                self.workers.insert(entry.id.as_str());
                self.reconcile(entry);
            }
            Command::Heartbeat { worker } => {
                self.workers.insert(worker.as_str());
            }
            Command::DeregisterWorker { worker } => {
                self.workers.insert(worker.as_str());
                self.left.insert(worker.as_str());
            }
            Command::ExpireWorker { worker, .. } => {
                self.workers.insert(worker.as_str());
                self.left.insert(worker.as_str());
                self.expired.insert(worker.as_str());
            }
            Command::UncountInterruptions { claims } => {
                self.runs.extend(claims.iter().map(|(run, _)| run.as_str()));
            }
            Command::UpsertSchedules(new) => self.upsert(new),
            Command::PatchSchedule { id, .. } => {
                self.schedules.insert(id.as_str());
                self.edited.insert(id.as_str());
            }
            Command::DeleteSchedule { id, .. } => {
                self.schedules.insert(id.as_str());
                self.edited.insert(id.as_str());
                self.deleted.insert(id.as_str());
            }
            Command::Fire { worker, plan } => {
                let schedule = plan.schedule.as_str();
                self.schedules.insert(schedule);
                self.runs.extend(plan.runs.iter().map(|run| run.id.as_str()));
                if plan.runs.iter().any(|run| run.admission == Admission::Claim) {
                    self.workers.insert(worker.as_str());
                }
                if plan.runs.iter().any(|run| run.admission == Admission::Behind) {
                    self.queues.insert(schedule);
                }
                if plan.cancel_unfinished {
                    self.stopped.insert(schedule);
                }
            }
            Command::WakeParents { runs, .. } => self.runs.extend(runs.iter().map(RunId::as_str)),
            Command::ClaimRuns { .. } | Command::Prune { .. } => {}
            Command::CreateRun(new) => {
                self.runs.insert(new.id.as_str());
                self.workers.extend(new.claim_for.as_ref().map(WorkerId::as_str));
                if let Some(key) = &new.idempotency_key {
                    self.idempotency_keys.push((&new.project, &new.workflow, key));
                }
                if let Some(id) = new.schedule_id.as_ref().or(transitions::needs_schedule(new)) {
                    self.schedules.insert(id.as_str());
                    if new.behind {
                        self.queues.insert(id.as_str());
                    }
                    if new.takes_back {
                        self.edited.insert(id.as_str());
                    }
                }
            }
            Command::RecordStep { run, step, .. } => {
                self.runs.insert(run.as_str());
                self.steps.push((run.as_str(), &step.name));
            }
            Command::CompleteRun { run, ending, pause_after_failures, .. } => {
                self.ended.insert(run.as_str());
                if may_pause(ending, *pause_after_failures) {
                    self.pausing.insert(run.as_str());
                }
                if matches!(**ending, Completion::Skipped { .. }) {
                    self.with_steps.insert(run.as_str());
                }
            }
            Command::CancelRun { run, .. } => {
                self.cancelled.insert(run.as_str());
            }
            Command::RetryRun { run, .. } => {
                self.retried.insert(run.as_str());
            }
        }
    }

    /// Notes the rows that the command takes for stored. One that does not come back is either gone,
    /// which is for the rules to answer, or was missed, which must never look like gone.
    fn add_known(&mut self, command: &'c Command) {
        match command {
            Command::Heartbeat { worker }
            | Command::DeregisterWorker { worker }
            | Command::ClaimRuns { worker, .. }
            | Command::ExpireWorker { worker, .. } => {
                self.known_workers.insert(worker.as_str());
            }
            Command::PatchSchedule { id, .. } | Command::DeleteSchedule { id, .. } => {
                self.known_schedules.insert(id.as_str());
            }
            Command::Fire { worker, plan } => {
                self.known_schedules.insert(plan.schedule.as_str());
                if plan.runs.iter().any(|run| run.admission == Admission::Claim) {
                    self.known_workers.insert(worker.as_str());
                }
            }
            Command::Reconcile { entry, .. } => {
                self.known_workers.insert(entry.id.as_str());
            }
            Command::CreateRun(new) => {
                self.known_workers.extend(new.claim_for.as_ref().map(WorkerId::as_str));
                let schedule = new.schedule_id.as_ref().or(transitions::needs_schedule(new));
                self.known_schedules.extend(schedule.map(ScheduleId::as_str));
            }
            Command::RecordStep { run, .. }
            | Command::CompleteRun { run, .. }
            | Command::CancelRun { run, .. }
            | Command::RetryRun { run, .. } => {
                self.known_runs.insert(run.as_str());
            }
            Command::WakeParents { runs, .. } => {
                self.known_runs.extend(runs.iter().map(RunId::as_str));
            }
            Command::UncountInterruptions { claims } => {
                self.known_runs.extend(claims.iter().map(|(run, _)| run.as_str()));
            }
            // What these name by key may be new.
            Command::RegisterWorker(_) | Command::UpsertSchedules(_) | Command::Prune { .. } => {}
        }
    }

    fn reconcile(&mut self, entry: &'c WorkerEntry) {
        self.owners.extend(entry.owners().map(|owner| (&*entry.project, &**owner)));
        self.upsert(&entry.declared);
    }

    fn upsert(&mut self, new: &'c [NewSchedule]) {
        for new in new {
            self.schedules.insert(new.id.as_str());
            self.keys.push((&new.project, &new.workflow, &new.key));
        }
    }
}

/// Whether the command may take back what was claimed ahead.
pub(super) fn may_edit(command: &Command) -> bool {
    match command {
        Command::RegisterWorker(_)
        | Command::Reconcile { .. }
        | Command::UpsertSchedules(_)
        | Command::PatchSchedule { .. }
        | Command::DeleteSchedule { .. } => true,
        Command::CreateRun(new) => new.takes_back,
        Command::CompleteRun { ending, pause_after_failures, .. } => may_pause(ending, *pause_after_failures),
        _ => false,
    }
}

/// Whether an ending may pause the run's schedule.
fn may_pause(ending: &Completion, pause_after_failures: Option<u32>) -> bool {
    pause_after_failures.is_some() && matches!(ending, Completion::Failed { retry_at: None, .. })
}

/// Commands that are applied to one part of the tables.
pub(super) enum Group<'c> {
    /// To the rows that they name.
    Named(&'c [Command]),
    /// To whatever is free.
    Claim(&'c Command),
    /// To whatever is old.
    Prune(&'c Command),
}

/// Splits a batch where a command needs rows that only the ones before it determine.
pub(super) fn groups(commands: &[Command]) -> Vec<Group<'_>> {
    let mut groups = Vec::new();
    let mut start = 0;
    let mut hazards = Hazards::default();
    for (place, command) in commands.iter().enumerate() {
        let single = match command {
            Command::ClaimRuns { .. } => Some(Group::Claim(command)),
            Command::Prune { .. } => Some(Group::Prune(command)),
            _ => None,
        };
        if single.is_some() || hazards.are_met_by(command) {
            if start < place {
                groups.push(Group::Named(&commands[start..place]));
            }
            start = place;
            hazards = Hazards::default();
        }
        match single {
            Some(single) => {
                groups.push(single);
                start = place + 1;
            }
            None => hazards.note(command),
        }
    }
    if start < commands.len() {
        groups.push(Group::Named(&commands[start..]));
    }
    groups
}

/// What the commands of a group do that a later one can't be asked about beforehand.
#[derive(Default)]
struct Hazards<'c> {
    created: HashSet<&'c str>,
    leaves_out: bool,
    retries: bool,
}

impl<'c> Hazards<'c> {
    fn note(&mut self, command: &'c Command) {
        match command {
            Command::Fire { plan, .. } => self.created.extend(plan.runs.iter().map(|run| run.id.as_str())),
            Command::CreateRun(new) => _ = self.created.insert(new.id.as_str()),
            Command::CompleteRun { ending, .. } => {
                self.leaves_out |= matches!(**ending, Completion::Skipped { .. });
            }
            Command::RetryRun { .. } => self.retries = true,
            _ => {}
        }
    }

    fn are_met_by(&self, command: &Command) -> bool {
        match command {
            // What lies around a run can be looked up only when it is stored.
            Command::CompleteRun { run, ending, pause_after_failures, .. } => {
                self.created.contains(run.as_str())
                    || (self.leaves_out && may_pause(ending, *pause_after_failures))
            }
            Command::RetryRun { run, .. } => self.created.contains(run.as_str()),
            Command::CancelRun { run, .. } => self.retries || self.created.contains(run.as_str()),
            Command::Fire { plan, .. } => self.retries && plan.cancel_unfinished,
            Command::CreateRun(new) => self.leaves_out && new.takes_back,
            // Which slot of a schedule is the newest, when the one that was is left out?
            Command::RegisterWorker(_)
            | Command::Reconcile { .. }
            | Command::UpsertSchedules(_)
            | Command::PatchSchedule { .. }
            | Command::DeleteSchedule { .. } => self.leaves_out,
            _ => false,
        }
    }
}
