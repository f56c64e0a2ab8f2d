//! Configuration of a worker, fixed when it starts.

use crate::model::{
    ClaimRules, DeclaredLimit, HookEvent, NewSchedule, ScheduleId, WorkerEntry, WorkerId, WorkflowEntry,
};
use crate::plan::Backoff;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// Configuration of one workflow.
#[derive(Clone, PartialEq, Debug)]
pub struct WorkflowConfig {
    /// Whether schedules may be created for it.
    pub is_schedulable: bool,
    /// Most retries of a failed run.
    pub retry_max: u32,
    /// Delays between attempts.
    pub backoff: Backoff,
    /// The time limit of one attempt.
    pub timeout: Option<Duration>,
    /// What the code declares about its runs.
    pub rules: ClaimRules,
    /// Which hook calls this worker makes for it.
    pub calls: Vec<HookEvent>,
    /// Fingerprint of its code: without blanks, and equal for workers that execute the same code.
    pub code: Arc<str>,
}

/// Configuration of one engine.
#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// The namespace of all schedules and runs.
    pub project: Arc<str>,
    /// Name of the application; owner of `declared`.
    pub app: Arc<str>,
    /// See [`WorkerEntry::aliases`].
    pub aliases: Vec<Arc<str>>,
    /// See [`WorkerEntry::former`].
    pub former: Vec<Arc<str>>,
    /// See [`WorkerEntry::version`].
    pub version: Option<Arc<str>>,
    /// See [`WorkerEntry::is_whole`].
    pub is_whole: bool,
    /// See [`WorkerEntry::host`].
    pub host: Arc<str>,
    /// Process id.
    pub pid: i64,
    /// See [`WorkerEntry::process_mark`].
    pub process_mark: Arc<str>,
    /// See [`WorkerEntry::about`].
    pub about: Arc<str>,
    /// The workflows that the worker executes.
    pub workflows: BTreeMap<Arc<str>, WorkflowConfig>,
    /// Schedules that the application's code declares.
    pub declared: Vec<NewSchedule>,
    /// Those of them that begin with a run, when they are created.
    pub run_on_create: BTreeSet<ScheduleId>,
    /// Limits that the application's code declares.
    pub limits: Vec<DeclaredLimit>,
    /// Most runs in progress at once.
    pub concurrency: usize,
    /// How long a silent worker keeps its runs.
    pub lease: Duration,
    /// How often a worker without runs sends a heartbeat, if there are other workers. A worker
    /// without runs that has not done so for three times as long no longer protects what it
    /// declares.
    pub idle_heartbeat: Duration,
    /// How far ahead of its time a slot is claimed, to keep the commit off the critical path.
    pub lead: Duration,
    /// Additional lead for each of many slots that come due at once.
    pub lead_per_slot: Duration,
    /// The upper bound of the total lead.
    pub lead_max: Duration,
    /// How often the store is polled for changes.
    pub poll_interval: Duration,
    /// How long completed runs and ledger lines are kept; `None` keeps them forever.
    pub retention: Option<Duration>,
    /// Newest runs of each schedule that are kept regardless of age.
    pub retention_keep: u32,
    /// Most schedules or runs in one decision; the first of them start before the last are decided.
    pub batch_max: usize,
}

impl EngineConfig {
    /// The registration of this worker under `id`.
    pub fn entry(&self, id: &WorkerId) -> WorkerEntry {
        WorkerEntry {
            id: id.clone(),
            project: Arc::clone(&self.project),
            app: Arc::clone(&self.app),
            aliases: self.aliases.clone(),
            former: self.former.clone(),
            version: self.version.clone(),
            is_whole: self.is_whole,
            host: Arc::clone(&self.host),
            pid: self.pid,
            process_mark: Arc::clone(&self.process_mark),
            about: Arc::clone(&self.about),
            workflows: self
                .workflows
                .iter()
                .map(|(id, config)| WorkflowEntry { id: Arc::clone(id), schedulable: config.is_schedulable })
                .collect(),
            declared: self.declared.clone(),
            limits: self.limits.clone(),
            rules: self
                .workflows
                .iter()
                .filter(|(_, config)| config.rules != ClaimRules::default())
                .map(|(id, config)| (Arc::clone(id), config.rules.clone()))
                .collect(),
        }
    }
}
