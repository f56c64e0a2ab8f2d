//! The configuration of a worker, as the application gives it.

use super::monitor::MonitorSetup;
use super::{Database, Drafts, new_schedules};
use crate::calendar::Timestamp;
use crate::engine::{EngineConfig, WorkflowConfig};
use crate::error::Error;
use crate::model::{ClaimRules, DeclaredLimit, HookEvent, LimitSpec, WantedCalls};
use crate::plan::Backoff;
use crate::process;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Newest runs of each schedule that pruning keeps whatever their age.
const RETENTION_KEEP: u32 = 10;

/// A worker's configuration; durations in microseconds. [`EngineConfig`] describes the fields.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorkerSetup {
    app: Arc<str>,
    aliases: Vec<Arc<str>>,
    former: Vec<Arc<str>>,
    version: Option<Arc<str>>,
    is_whole: bool,
    about: serde_json::Value,
    workflows: BTreeMap<Arc<str>, WorkflowSetup>,
    declared: Drafts,
    limits: BTreeMap<Arc<str>, LimitSpec>,
    concurrency: usize,
    lease: u64,
    idle_heartbeat: u64,
    lead: u64,
    lead_per_slot: u64,
    lead_max: u64,
    poll_interval: u64,
    retention: Option<u64>,
    batch_max: usize,
    pub(super) monitor: MonitorSetup,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WorkflowSetup {
    is_schedulable: bool,
    retry_max: u32,
    backoff: Option<Backoff>,
    timeout: Option<u64>,
    code: Arc<str>,
    limit: Option<Arc<str>>,
    priority: u8,
    #[serde(default)]
    hooks: HooksSetup,
}

/// The hooks of a workflow.
#[expect(clippy::struct_excessive_bools, reason = "one for each kind of call")]
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct HooksSetup {
    skipped: bool,
    missed: bool,
    late_after_us: Option<i64>,
    succeeded: bool,
    failed: bool,
}

impl WorkerSetup {
    /// The configuration of an engine in this process. Checks the schedules that the application's
    /// code declares.
    pub(super) fn into_config(self, database: &Database, now: Timestamp) -> Result<EngineConfig, Error> {
        let is_first: Vec<bool> = self.declared.schedules.iter().map(|draft| draft.run_on_create).collect();
        let mut declared = new_schedules(&database.project, Some(&self.app), self.declared, now)?;
        for new in &mut declared {
            new.version.clone_from(&self.version);
        }
        let run_on_create = declared.iter().zip(is_first).filter(|(_, is_first)| *is_first);
        let run_on_create = run_on_create.map(|(new, _)| new.id.clone()).collect();
        let pid = i64::from(std::process::id());
        Ok(EngineConfig {
            project: Arc::clone(&database.project),
            app: self.app,
            aliases: self.aliases,
            former: self.former,
            version: self.version,
            is_whole: self.is_whole,
            host: process::host_id().into(),
            pid,
            process_mark: process::process_mark(pid).into(),
            about: self.about.to_string().into(),
            workflows: self.workflows.into_iter().map(|(id, setup)| (id, setup.into_config())).collect(),
            declared,
            run_on_create,
            limits: self.limits.into_iter().map(|(name, spec)| DeclaredLimit { name, spec }).collect(),
            concurrency: self.concurrency,
            lease: Duration::from_micros(self.lease),
            idle_heartbeat: Duration::from_micros(self.idle_heartbeat),
            lead: Duration::from_micros(self.lead),
            lead_per_slot: Duration::from_micros(self.lead_per_slot),
            lead_max: Duration::from_micros(self.lead_max),
            poll_interval: Duration::from_micros(self.poll_interval),
            retention: self.retention.map(Duration::from_micros),
            retention_keep: RETENTION_KEEP,
            batch_max: self.batch_max,
        })
    }
}

impl WorkflowSetup {
    fn into_config(self) -> WorkflowConfig {
        let HooksSetup { skipped, missed, late_after_us, succeeded, failed } = self.hooks;
        let hooks = WantedCalls { skipped, missed, late_after_us };
        let calls = [
            (HookEvent::Skipped, skipped),
            (HookEvent::Missed, missed),
            (HookEvent::Late, late_after_us.is_some()),
            (HookEvent::Succeeded, succeeded),
            (HookEvent::Failed, failed),
        ];
        WorkflowConfig {
            is_schedulable: self.is_schedulable,
            retry_max: self.retry_max,
            backoff: self.backoff.unwrap_or_default(),
            timeout: self.timeout.map(Duration::from_micros),
            rules: ClaimRules { limit: self.limit, priority: self.priority, hooks },
            calls: calls.into_iter().filter(|(_, is_made)| *is_made).map(|(event, _)| event).collect(),
            code: self.code,
        }
    }
}
