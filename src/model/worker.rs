//! A worker, as it signs in and as others see it.

use super::{NewSchedule, WorkerId};
use serde::{Deserialize, Serialize};
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
    /// Schedules declared by the application's code. Others that the same `app` owns are retired.
    pub declared: Vec<NewSchedule>,
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
    pub beat: i64,
    /// Runs that it holds.
    pub held_count: u64,
    /// Workflows that it executes.
    pub workflows: Vec<Arc<str>>,
    /// When it signed in.
    pub entered_at: crate::calendar::Timestamp,
    /// Its last sign of life, by its own clock; for people, not for decisions.
    pub beat_at: crate::calendar::Timestamp,
}

impl Peer {
    /// Whether another of these workers holds runs in the same process.
    pub fn shares_process(&self, peers: &[Self]) -> bool {
        let place = |peer: &Self| (peer.host.clone(), peer.pid, peer.process_mark.clone());
        peers.iter().any(|other| other.id != self.id && other.held_count > 0 && place(other) == place(self))
    }
}
