//! A worker, as it signs in and as others see it.

use super::{NewSchedule, Schedule, ScheduleId, WorkerId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A workflow that a worker executes.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct WorkflowEntry {
    /// Its id.
    pub id: Arc<str>,
    /// Whether schedules may be created for it.
    pub schedulable: bool,
}

/// A worker signing in.
#[derive(Clone, PartialEq, Debug)]
pub struct WorkerEntry {
    /// New at every start.
    pub id: WorkerId,
    /// Namespace.
    pub project: Arc<str>,
    /// Application whose code it runs; the owner of the schedules in `declared`.
    pub app: Arc<str>,
    /// Other identities of the same code: what they declared earlier belongs to `app`.
    pub aliases: Vec<Arc<str>>,
    /// Names that this code was known by, and other programs may have been, too: those that older releases computed.
    /// Schedules of these owners are renamed where this worker executes their workflow.
    pub former: Vec<Arc<str>>,
    /// Version of the code, where it was given: of two declarations of a schedule, the one of the newer version counts.
    pub version: Option<Arc<str>>,
    /// Whether it executes every workflow of its application. One that executes a chosen part retires nothing.
    pub is_whole: bool,
    /// Identifies the machine, its boot and its process namespace: process ids compare only inside one.
    pub host: Arc<str>,
    /// Process id.
    pub pid: i64,
    /// Distinguishes the process from a later one with the same id.
    pub process_mark: Arc<str>,
    /// Versions and the like for people, as JSON.
    pub about: Arc<str>,
    /// All workflows that it executes.
    pub workflows: Vec<WorkflowEntry>,
    /// Schedules declared by the application's code. Others that the same `app` declared earlier are retired, unless
    /// a live worker declares them.
    pub declared: Vec<NewSchedule>,
}

impl WorkerEntry {
    /// Every name whose schedules it decides about.
    pub fn owners(&self) -> impl Iterator<Item = &Arc<str>> {
        std::iter::once(&self.app).chain(&self.aliases).chain(&self.former)
    }

    /// The schedules that it declares, as JSON text for [`Peer::declares`].
    pub fn declares(&self) -> Arc<str> {
        let keys: Vec<_> = self.declared.iter().map(DeclaredKey::of).collect();
        serde_json::to_string(&keys).unwrap_or_else(|_| "[]".to_owned()).into()
    }
}

/// A schedule that a live worker declares: workflow, key, and a fingerprint of the declaration.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DeclaredKey(pub Arc<str>, pub Arc<str>, pub Arc<str>);

impl DeclaredKey {
    fn of(new: &NewSchedule) -> Self {
        Self(Arc::clone(&new.workflow), Arc::clone(&new.key), new.fingerprint().into())
    }
}

/// A schedule, for messages about it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ScheduleLabel {
    /// Its id.
    pub id: ScheduleId,
    /// Its workflow.
    pub workflow: Arc<str>,
    /// Its key.
    pub key: Arc<str>,
}

impl ScheduleLabel {
    /// Of this schedule.
    pub fn of(schedule: &Schedule) -> Self {
        Self {
            id: schedule.id.clone(),
            workflow: Arc::clone(&schedule.workflow),
            key: Arc::clone(&schedule.key),
        }
    }
}

/// How a worker's declarations compare with what is stored: what was decided where they differ.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Reconciliation {
    /// Schedules that the worker's application declared earlier, and nobody declares any more: retired.
    pub retired: Vec<ScheduleLabel>,
    /// The same, except that another live worker still declares them: left alone.
    pub protected: Vec<ScheduleLabel>,
    /// Schedules of an older release that the worker does not declare: renamed, and kept until its next start.
    pub adopted: Vec<ScheduleLabel>,
    /// Schedules that the worker declares otherwise than a live worker with newer code: the newer declaration stays.
    pub outdated: Vec<ScheduleLabel>,
    /// Schedules that the worker declares and that somebody changed through the API: the change stays.
    pub overridden: Vec<ScheduleLabel>,
}

impl Reconciliation {
    /// Whether the decision may be another one when the set of live workers changes.
    pub fn depends_on_peers(&self) -> bool {
        !self.protected.is_empty() || !self.outdated.is_empty()
    }
}

/// A worker as the others see it.
#[derive(Clone, PartialEq, Debug)]
pub struct Peer {
    /// Its id.
    pub id: WorkerId,
    /// Its application.
    pub app: Arc<str>,
    /// See [`WorkerEntry::host`].
    pub host: Arc<str>,
    /// Process id.
    pub pid: i64,
    /// See [`WorkerEntry::process_mark`].
    pub process_mark: Arc<str>,
    /// See [`WorkerEntry::about`].
    pub about: Arc<str>,
    /// Changes with every sign of life and every claim.
    pub heartbeat: i64,
    /// Runs that it holds.
    pub held_count: u64,
    /// Workflows that it executes.
    pub workflows: Vec<Arc<str>>,
    /// When it signed in.
    pub entered_at: crate::calendar::Timestamp,
    /// Its last sign of life, by its own clock; for people, not for decisions.
    pub beat_at: crate::calendar::Timestamp,
    /// [`WorkerEntry::declares`]; `None` for a worker of a release that did not register it.
    pub declares: Option<Arc<str>>,
}

/// Which processes hold runs, and through how many workers.
#[derive(Debug)]
pub struct BusyProcesses<'a> {
    workers: BTreeMap<(&'a str, i64, &'a str), u64>,
}

impl<'a> BusyProcesses<'a> {
    /// Those of `peers`.
    pub fn of(peers: &'a [Peer]) -> Self {
        let mut workers = BTreeMap::new();
        for peer in peers.iter().filter(|peer| peer.held_count > 0) {
            *workers.entry(peer.process()).or_default() += 1;
        }
        Self { workers }
    }

    /// Whether a worker other than `peer` holds runs in the process of `peer`, which is one of the peers.
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
