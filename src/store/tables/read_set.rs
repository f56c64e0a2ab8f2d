//! Which rows a batch of commands looks at.
//!
//! A store that applies the commands to a part of the tables must load all of these. If a
//! schedule's unfinished runs only decide which one is next, a few of them are enough, because each
//! command finishes at most one.

use crate::model::{
    Admission, Completion, FirePlan, HookCall, HookEvent, LedgerLine, NewRun, NewSchedule, RunId, ScheduleId,
    StoredSpec, WorkerEntry, WorkerId,
};
use crate::store::Command;
use crate::store::tables::transitions;
use std::collections::{BTreeSet, HashSet};

/// Ids, borrowed from the commands.
type Ids<'c> = BTreeSet<&'c str>;

/// A project, a workflow, and the key of a schedule or run.
pub(in crate::store) type Key<'c> = (&'c str, &'c str, &'c str);

/// The rows that a group of commands looks at.
#[derive(Default)]
pub(in crate::store) struct ReadSet<'c> {
    /// Workers.
    pub workers: Ids<'c>,
    /// Workers whose runs are freed.
    pub left: Ids<'c>,
    /// Those of `left` that died: the newest steps of their runs are needed.
    pub expired: Ids<'c>,
    /// Schedules.
    pub schedules: Ids<'c>,
    /// Those of `schedules` that are edited, which revokes their early claims.
    pub edited: Ids<'c>,
    /// Schedules that are upserted, by key. They are edited too.
    pub keys: Vec<Key<'c>>,
    /// Applications (with their project) whose schedules are edited.
    pub owners: Vec<(&'c str, &'c str)>,
    /// Schedules in which a run may have to wait or may be released.
    pub queues: Ids<'c>,
    /// Schedules whose unfinished runs are cancelled.
    pub stopped: Ids<'c>,
    /// Runs alone, without their schedule or parent.
    pub runs: Ids<'c>,
    /// Runs whose schedule changes with them.
    pub retried: Ids<'c>,
    /// Runs that finish: with their schedule, its unfinished runs, and their parent.
    pub ended: Ids<'c>,
    /// Runs that finish by a statement of their own: only their schedules are locked.
    #[cfg(feature = "postgres")]
    pub completed: Ids<'c>,
    /// Those of `ended` that may pause their schedule, which is an edit.
    pub pausing: Ids<'c>,
    /// Runs that are cancelled, with all runs below them.
    pub cancelled: Ids<'c>,
    /// Idempotency keys.
    pub idempotency_keys: Vec<Key<'c>>,
    /// Debounce keys.
    pub debounced: Vec<Key<'c>>,
    /// Debounced calls.
    pub debounce_calls: Ids<'c>,
    /// Steps, by run and name.
    pub steps: Vec<(&'c str, &'c str)>,
    /// Waits for events, by run and name: the step and the event.
    pub waits: Vec<(&'c str, &'c str)>,
    /// Runs that events are sent to.
    pub sent_to: Ids<'c>,
    /// What identifies events that are sent to workflows and keys: project, workflow, key, name,
    /// and idempotency key.
    pub shared_events: BTreeSet<[&'c str; 5]>,
    /// Runs for which it matters whether they have recorded a step.
    pub with_steps: Ids<'c>,
    /// Schedules that are deleted.
    pub deleted: Ids<'c>,
    /// Whether runs are created, or slots skipped or missed: what workflows declare has to be
    /// known.
    pub needs_rules: bool,
    /// Hook calls.
    pub hook_calls: Ids<'c>,
    /// Projects, with workflows that are registered.
    pub registered: Vec<(&'c str, &'c str)>,
    /// Projects, with limits that are declared or set.
    pub limits: Vec<(&'c str, &'c str)>,
    /// Calendars that schedules name, by project and name: they stay until the transaction ends.
    pub calendars: BTreeSet<(&'c str, &'c str)>,
    /// Those of `workers` that a command assumes to be registered.
    pub known_workers: Ids<'c>,
    /// Those of `schedules` that a command assumes to be stored.
    pub known_schedules: Ids<'c>,
    /// The runs that a command assumes to be stored.
    pub known_runs: Ids<'c>,
}

impl<'c> ReadSet<'c> {
    pub fn of(commands: impl IntoIterator<Item = &'c Command>) -> Self {
        let mut needs = Self::default();
        for command in commands {
            needs.add(command);
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

    /// Adds the rows that the command looks at.
    ///
    /// Rows that it assumes to be stored are added as known. A known row that is not found either
    /// no longer exists, which the rules answer, or was missed by the read, which must never count
    /// as gone. A row named by its key may be new, so it is not known.
    fn add(&mut self, command: &'c Command) {
        self.add_calendars(command);
        match command {
            Command::RegisterWorker(entry) => {
                self.workers.insert(entry.id.as_str());
                self.reconcile(entry);
            }
            Command::Reconcile { entry, .. } => {
                self.known_worker(&entry.id);
                self.reconcile(entry);
            }
            // A claim reads runs that it does not name.
            Command::Heartbeat { worker } | Command::ClaimRuns { worker, .. } => self.known_worker(worker),
            Command::DeregisterWorker { worker } => {
                self.known_worker(worker);
                self.left.insert(worker.as_str());
            }
            Command::ExpireWorker { worker, .. } => {
                self.known_worker(worker);
                self.left.insert(worker.as_str());
                self.expired.insert(worker.as_str());
            }
            Command::UncountInterruptions { claims } => {
                self.known_runs_of(claims.iter().map(|(run, _)| run));
            }
            Command::UpsertSchedules(new) => {
                self.needs_rules = true;
                self.upsert(new);
            }
            Command::PatchSchedule { id, patch, .. } => {
                self.needs_rules = true;
                self.known_schedule(id);
                self.edited.insert(id.as_str());
                if let Some(plan) = &patch.fire {
                    self.planned(plan);
                }
            }
            Command::DeleteSchedule { id, .. } => {
                self.needs_rules = true;
                self.known_schedule(id);
                self.edited.insert(id.as_str());
                self.deleted.insert(id.as_str());
            }
            Command::SetLimit { project, name, .. } => self.limits.push((project, name)),
            Command::Fire { worker, plan } => self.fire(worker, plan),
            Command::TakeHookCalls { worker, calls, .. } => {
                self.known_worker(worker);
                self.hook_calls.extend(calls.iter().map(|id| &**id));
                self.runs.extend(calls.iter().filter_map(|id| HookCall::run_of(id)));
            }
            Command::EndHookCalls { worker, calls } => {
                self.workers.insert(worker.as_str());
                self.hook_calls.extend(calls.iter().map(|id| &**id));
            }
            // A prune reads old rows that it does not name. Calendars are written, and limits
            // deleted, without tables.
            Command::Prune { .. } | Command::SetCalendar { .. } | Command::DeleteLimit { .. } => {}
            Command::CreateRun(new) => {
                self.needs_rules = true;
                self.create(new);
            }
            Command::DebounceRun { new, debounce } => {
                self.needs_rules = true;
                self.runs.insert(new.id.as_str());
                self.debounced.push((&new.project, &new.workflow, &debounce.key));
                self.debounce_calls.insert(new.id.as_str());
            }
            Command::RecordStep { run, step, .. } => {
                self.known_run(run);
                self.steps.push((run.as_str(), &step.name));
            }
            Command::ReportProgress { run, .. } => self.known_run(run),
            Command::AwaitEvent { run, step, .. } => {
                self.known_run(run);
                self.waits.push((run.as_str(), &step.name));
            }
            Command::SendEvent(new) => {
                self.known_run(&new.run);
                self.sent_to.insert(new.run.as_str());
                self.waits.push((new.run.as_str(), &new.name));
                self.shared_events.extend(new.shared_key());
            }
            Command::CompleteRun { run, ending, .. } => {
                self.known_runs.insert(run.as_str());
                self.ended.insert(run.as_str());
                if command.may_revoke_early_claims() {
                    self.pausing.insert(run.as_str());
                }
                if matches!(**ending, Completion::Skipped { .. }) {
                    self.with_steps.insert(run.as_str());
                    self.needs_rules = true;
                }
            }
            Command::CancelRun { run, .. } => {
                self.known_runs.insert(run.as_str());
                self.cancelled.insert(run.as_str());
            }
            Command::RetryRun { run, .. } => {
                self.known_runs.insert(run.as_str());
                self.retried.insert(run.as_str());
            }
            Command::WakeParents { runs, .. } => self.known_runs_of(runs),
        }
    }

    /// Adds the calendars that new specifications name.
    fn add_calendars(&mut self, command: &'c Command) {
        match command {
            Command::UpsertSchedules(new) => {
                for new in new {
                    self.name_calendars(&new.project, &new.spec);
                }
            }
            Command::PatchSchedule { project, patch, .. } => {
                if let Some((spec, ..)) = &patch.spec {
                    self.name_calendars(project, spec);
                }
            }
            _ => {}
        }
    }

    fn name_calendars(&mut self, project: &'c str, spec: &'c StoredSpec) {
        if let Ok(compiled_spec) = spec.compiled() {
            let names = &compiled_spec.spec().calendars;
            self.calendars.extend(names.iter().map(|name| (project, name.as_str())));
        }
    }

    fn fire(&mut self, worker: &'c WorkerId, plan: &'c FirePlan) {
        if plan.runs.iter().any(|run| run.admission == Admission::Claim) {
            self.known_worker(worker);
        }
        self.planned(plan);
    }

    fn planned(&mut self, plan: &'c FirePlan) {
        self.needs_rules |= !plan.runs.is_empty() || plan.ledger.iter().any(concerns_hooks);
        self.known_schedule(&plan.schedule);
        self.runs.extend(plan.runs.iter().map(|run| run.id.as_str()));
        if plan.runs.iter().any(|run| run.admission == Admission::Behind) {
            self.queues.insert(plan.schedule.as_str());
        }
        if plan.cancel_unfinished {
            self.stopped.insert(plan.schedule.as_str());
        }
    }

    fn known_worker(&mut self, id: &'c WorkerId) {
        self.workers.insert(id.as_str());
        self.known_workers.insert(id.as_str());
    }

    fn known_schedule(&mut self, id: &'c ScheduleId) {
        self.schedules.insert(id.as_str());
        self.known_schedules.insert(id.as_str());
    }

    fn known_runs_of(&mut self, runs: impl IntoIterator<Item = &'c RunId>) {
        for run in runs {
            self.known_run(run);
        }
    }

    fn known_run(&mut self, id: &'c RunId) {
        self.runs.insert(id.as_str());
        self.known_runs.insert(id.as_str());
    }

    fn create(&mut self, new: &'c NewRun) {
        self.runs.insert(new.id.as_str());
        if let Some(worker) = &new.claim_for {
            self.known_worker(worker);
        }
        if let Some(key) = &new.idempotency_key {
            self.idempotency_keys.push((&new.project, &new.workflow, key));
        }
        if let Some(id) = new.schedule_id.as_ref().or(transitions::needs_schedule(new)) {
            self.known_schedule(id);
            if new.behind {
                self.queues.insert(id.as_str());
            }
            if new.revokes_claims {
                self.edited.insert(id.as_str());
            }
        }
    }

    fn reconcile(&mut self, entry: &'c WorkerEntry) {
        self.needs_rules = true;
        self.owners.extend(entry.owners().map(|owner| (&*entry.project, &**owner)));
        self.registered.extend(entry.workflows.iter().map(|workflow| (&*entry.project, &*workflow.id)));
        self.limits.extend(entry.limits.iter().map(|limit| (&*entry.project, &*limit.name)));
        self.upsert(&entry.declared);
    }

    fn upsert(&mut self, new: &'c [NewSchedule]) {
        for new in new {
            self.schedules.insert(new.id.as_str());
            self.keys.push((&new.project, &new.workflow, &new.key));
        }
    }
}

/// Commands that are applied together to one part of the tables.
pub(in crate::store) enum Group<'c> {
    /// To the rows that they name.
    Named(&'c [Command]),
    /// To whatever can be claimed.
    Claim(&'c Command),
    /// To whatever is old.
    Prune(&'c Command),
    /// To a calendar.
    Calendar(&'c Command),
    /// To a limit that is deleted.
    DeletedLimit(&'c Command),
}

/// Splits a batch wherever a command needs rows that only the commands before it determine.
pub(in crate::store) fn groups(commands: &[Command]) -> Vec<Group<'_>> {
    let mut groups = Vec::new();
    let mut start = 0;
    let mut hazards = Hazards::default();
    for (place, command) in commands.iter().enumerate() {
        let single = match command {
            Command::ClaimRuns { .. } => Some(Group::Claim(command)),
            Command::Prune { .. } => Some(Group::Prune(command)),
            Command::SetCalendar { .. } => Some(Group::Calendar(command)),
            Command::DeleteLimit { .. } => Some(Group::DeletedLimit(command)),
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

/// What the commands of a group do that later commands can't be loaded for beforehand.
#[derive(Default)]
struct Hazards<'c> {
    created: HashSet<&'c str>,
    skips_slots: bool,
    retries: bool,
}

impl<'c> Hazards<'c> {
    fn note(&mut self, command: &'c Command) {
        match command {
            Command::Fire { plan, .. } => self.created.extend(plan.runs.iter().map(|run| run.id.as_str())),
            Command::PatchSchedule { patch, .. } => {
                let planned = patch.fire.iter().flat_map(|plan| &plan.runs);
                self.created.extend(planned.map(|run| run.id.as_str()));
            }
            Command::CreateRun(new) | Command::DebounceRun { new, .. } => {
                self.created.insert(new.id.as_str());
            }
            Command::CompleteRun { ending, .. } => {
                self.skips_slots |= matches!(**ending, Completion::Skipped { .. });
            }
            Command::RetryRun { .. } => self.retries = true,
            _ => {}
        }
    }

    fn are_met_by(&self, command: &Command) -> bool {
        // While a slot is being skipped, it is not known which slot of its schedule is the newest.
        if self.skips_slots && command.may_revoke_early_claims() {
            return true;
        }
        match command {
            // The schedule and the parent of a run can be looked up only once it is stored.
            Command::CompleteRun { run, .. } | Command::RetryRun { run, .. } => {
                self.created.contains(run.as_str())
            }
            Command::CancelRun { run, .. } => self.retries || self.created.contains(run.as_str()),
            Command::Fire { plan, .. } => self.retries && plan.cancel_unfinished,
            Command::PatchSchedule { patch, .. } => {
                self.retries && patch.fire.as_ref().is_some_and(|plan| plan.cancel_unfinished)
            }
            _ => false,
        }
    }
}

fn concerns_hooks(line: &LedgerLine) -> bool {
    HookEvent::of_line(line).is_some()
}
