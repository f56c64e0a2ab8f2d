//! A worker, as it registers and as other workers see it.

use super::{ClaimRules, DeclaredLimit, NewSchedule, Schedule, ScheduleId, WorkerId, hook, limit};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A workflow that a worker executes.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct WorkflowEntry {
    /// Identifier.
    pub id: Arc<str>,
    /// Whether schedules may be created for it.
    pub schedulable: bool,
}

/// A worker at registration.
#[derive(Clone, PartialEq, Debug)]
pub struct WorkerEntry {
    /// New at every start.
    pub id: WorkerId,
    /// Namespace.
    pub project: Arc<str>,
    /// The application whose code it runs; owns the schedules in `declared`.
    pub app: Arc<str>,
    /// Other identities of the same code: schedules that they declared belong to `app`.
    pub aliases: Vec<Arc<str>>,
    /// Ambiguous former names of this code, which other programs may also have had: those that
    /// older releases computed. Schedules of these owners are renamed if this worker executes their
    /// workflow.
    pub former: Vec<Arc<str>>,
    /// Version of the code, if given: of two declarations of a schedule, the newer version wins.
    pub version: Option<Arc<str>>,
    /// Whether it executes every workflow of its application. A worker that executes only some
    /// retires no schedules.
    pub is_whole: bool,
    /// Identifies the machine, its boot, and its process namespace: process ids compare only within
    /// one.
    pub host: Arc<str>,
    /// Process id.
    pub pid: i64,
    /// Distinguishes the process from a later one with the same id.
    pub process_mark: Arc<str>,
    /// Versions and similar facts for people, as JSON.
    pub about: Arc<str>,
    /// All workflows that it executes.
    pub workflows: Vec<WorkflowEntry>,
    /// Schedules declared by the application's code. Other schedules that the same `app` declared
    /// earlier are retired, unless a live worker declares them.
    pub declared: Vec<NewSchedule>,
    /// Limits declared by the application's code.
    pub limits: Vec<DeclaredLimit>,
    /// What the code declares about runs, for each workflow that has a limit, a priority, or hooks
    /// whose calls are recorded.
    pub rules: BTreeMap<Arc<str>, ClaimRules>,
}

impl WorkerEntry {
    /// All owner names whose schedules this worker decides about.
    pub fn owners(&self) -> impl Iterator<Item = &Arc<str>> {
        std::iter::once(&self.app).chain(&self.aliases).chain(&self.former)
    }

    /// What the code declares about the runs of a workflow.
    pub fn rules_of(&self, workflow: &str) -> ClaimRules {
        self.rules.get(workflow).cloned().unwrap_or_default()
    }

    /// The declared schedules, limits, rules, and wanted hook calls, as JSON text for
    /// [`Peer::declares`]. No workflow has an empty id, so none of these can be mistaken for a
    /// schedule.
    pub fn declares(&self) -> Arc<str> {
        let none: Arc<str> = Arc::default();
        let limits = self.limits.iter().map(|limit| {
            let print = limit::declared_fingerprint(&limit.spec.to_json());
            DeclaredKey(Arc::clone(&none), limit::limit_label(&limit.name), print)
        });
        let rules = self.workflows.iter().map(|workflow| {
            let print = limit::declared_fingerprint(&self.rules_of(&workflow.id).to_json());
            DeclaredKey(Arc::clone(&none), limit::rules_label(&workflow.id), print)
        });
        let hooks = self.rules.iter().filter_map(|(workflow, rules)| {
            Some(DeclaredKey(Arc::clone(&none), hook::hooks_label(workflow), rules.hooks.to_json()?))
        });
        let schedules = self.declared.iter().map(DeclaredKey::of);
        let keys: Vec<_> = schedules.chain(limits).chain(rules).chain(hooks).collect();
        serde_json::to_string(&keys).unwrap_or_else(|_| "[]".to_owned()).into()
    }
}

/// A schedule that a live worker declares: workflow, key, and fingerprint of the declaration.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DeclaredKey(pub Arc<str>, pub Arc<str>, pub Arc<str>);

impl DeclaredKey {
    fn of(new: &NewSchedule) -> Self {
        Self(Arc::clone(&new.workflow), Arc::clone(&new.key), new.fingerprint().into())
    }
}

/// A schedule, as named in messages.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ScheduleLabel {
    /// Identifier.
    pub id: ScheduleId,
    /// Workflow id.
    pub workflow: Arc<str>,
    /// The user's key.
    pub key: Arc<str>,
}

impl ScheduleLabel {
    /// The label of `schedule`.
    pub fn of(schedule: &Schedule) -> Self {
        Self {
            id: schedule.id.clone(),
            workflow: Arc::clone(&schedule.workflow),
            key: Arc::clone(&schedule.key),
        }
    }
}

/// How a worker's declarations differ from what is stored, and what was decided for each
/// difference.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Reconciliation {
    /// Retired: the worker's application declared them earlier, and no live worker declares them
    /// any more.
    pub retired: Vec<ScheduleLabel>,
    /// Left alone: dropped by the worker, but another live worker still declares them.
    pub protected: Vec<ScheduleLabel>,
    /// Renamed, and kept until the worker's next start: schedules of an older release that the
    /// worker does not declare.
    pub adopted: Vec<ScheduleLabel>,
    /// The stored declaration stays: a live worker with newer code declares them differently.
    pub outdated: Vec<ScheduleLabel>,
    /// The change stays: they were changed through the API.
    pub overridden: Vec<ScheduleLabel>,
    /// Limits of which the stored declaration stays, or of which a workflow stays under or outside:
    /// a live worker with newer code declares them differently.
    pub outdated_limits: BTreeSet<Arc<str>>,
    /// Whether another live worker wants more hook calls recorded than this one.
    pub others_want_calls: bool,
}

impl Reconciliation {
    /// Whether the decision may change when the set of live workers changes.
    pub fn depends_on_peers(&self) -> bool {
        !self.protected.is_empty()
            || !self.outdated.is_empty()
            || !self.outdated_limits.is_empty()
            || self.others_want_calls
    }
}

/// A worker as other workers see it.
#[derive(Clone, PartialEq, Debug)]
pub struct Peer {
    /// Identifier.
    pub id: WorkerId,
    /// Application whose code it runs.
    pub app: Arc<str>,
    /// See [`WorkerEntry::host`].
    pub host: Arc<str>,
    /// Process id.
    pub pid: i64,
    /// See [`WorkerEntry::process_mark`].
    pub process_mark: Arc<str>,
    /// See [`WorkerEntry::about`].
    pub about: Arc<str>,
    /// Changes with every heartbeat and every claim.
    pub heartbeat: i64,
    /// Number of runs that it holds.
    pub held_count: u64,
    /// Workflows that it executes.
    pub workflows: Vec<Arc<str>>,
    /// When it registered.
    pub entered_at: crate::calendar::Timestamp,
    /// Time of its last heartbeat, by its own clock; for people, not for decisions.
    pub beat_at: crate::calendar::Timestamp,
    /// [`WorkerEntry::declares`]; `None` for a worker of a release that did not store it.
    pub declares: Option<Arc<str>>,
}

/// Which processes hold runs, and through how many workers.
#[derive(Debug)]
pub struct BusyProcesses<'a> {
    workers: BTreeMap<(&'a str, i64, &'a str), u64>,
}

impl<'a> BusyProcesses<'a> {
    /// Counts the processes of `peers`.
    pub fn of(peers: &'a [Peer]) -> Self {
        let mut workers = BTreeMap::new();
        for peer in peers.iter().filter(|peer| peer.held_count > 0) {
            *workers.entry(peer.process()).or_default() += 1;
        }
        Self { workers }
    }

    /// Whether another worker than `peer` holds runs in the process of `peer`, which must be one of
    /// the peers.
    pub fn has_another(&self, peer: &Peer) -> bool {
        let own = u64::from(peer.held_count > 0);
        self.workers.get(&peer.process()).is_some_and(|count| *count > own)
    }
}

impl Peer {
    fn process(&self) -> (&str, i64, &str) {
        (&self.host, self.pid, &self.process_mark)
    }
}
