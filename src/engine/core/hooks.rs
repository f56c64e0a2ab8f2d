//! Hook calls: taking those that are due, handing them to the application, and deleting them when
//! it has made them.

use super::Engine;
use crate::calendar::Timestamp;
use crate::clock::Now;
use crate::engine::config::{EngineConfig, WorkflowConfig};
use crate::engine::dispatcher::{Dispatcher, DueCall, Notice};
use crate::model::{CallKind, HookCall, HookEvent, RunId, WorkerId};
use crate::store::{Answer, Command, Rejection, StoreError, StoreWrites};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The hook calls of this worker.
pub(super) struct Hooks {
    /// The calls that this worker makes.
    kinds: Vec<CallKind>,
    /// Whether to read which calls there are.
    pub(super) is_stale: bool,
    /// When the next call has to be looked at.
    next_check: Option<Timestamp>,
    /// Calls that were asked for, while the answer is not known.
    asked: Vec<Arc<str>>,
    /// Calls that the application is making, and the worker that they were handed to.
    dispatched: BTreeMap<Arc<str>, WorkerId>,
    /// Calls that the application has made, until that is written.
    made: Vec<Arc<str>>,
}

impl Hooks {
    /// Nothing is known yet.
    pub(super) fn new(config: &EngineConfig) -> Self {
        let of_workflow = |(id, workflow): (&Arc<str>, &WorkflowConfig)| {
            let kind = |event: &HookEvent| CallKind { event: *event, workflow: Arc::clone(id) };
            workflow.calls.iter().map(kind).collect::<Vec<_>>()
        };
        Self {
            kinds: config.workflows.iter().flat_map(of_workflow).collect(),
            is_stale: true,
            next_check: None,
            asked: Vec::new(),
            dispatched: BTreeMap::new(),
            made: Vec::new(),
        }
    }

    /// Whether this worker makes calls.
    pub(super) fn has_any(&self) -> bool {
        !self.kinds.is_empty()
    }

    /// The application has made a call.
    pub(super) fn note_made(&mut self, call: Arc<str>) {
        self.made.push(call);
    }

    /// The application makes a call that was recorded for `worker`. `None` if this worker has lost
    /// its lease since: then the call is for whoever takes it.
    pub(super) fn note_held(&mut self, call: Arc<str>, worker: Option<WorkerId>) {
        match worker {
            Some(worker) => _ = self.dispatched.insert(call, worker),
            None => self.is_stale = true,
        }
    }

    /// When to look at the next call; none without hooks.
    pub(super) fn next_deadline(&self) -> Option<Timestamp> {
        self.next_check.filter(|_| !self.kinds.is_empty())
    }

    fn is_due(&self, now: Timestamp) -> bool {
        let is_due = self.next_check.is_some_and(|at| at <= now);
        !self.kinds.is_empty() && (self.is_stale || is_due || !self.asked.is_empty())
    }
}

impl<W: StoreWrites, D: Dispatcher> Engine<W, D> {
    /// Hands calls that are due to the application. Returns whether more may be due.
    ///
    /// A worker that claims a run must have done this in the same tick: a claim counts as the start
    /// of its run.
    pub(super) fn call_hooks(&mut self, now: Now) -> Result<bool, StoreError> {
        if !self.hooks.is_due(now.wall) {
            return Ok(false);
        }
        let limit = self.config.batch_max;
        let open = self.reads.hook_calls(&self.config.project, &self.hooks.kinds, limit)?;
        let is_full = open.len() == limit;
        let open = open.into_iter().filter(|call| !self.hooks.dispatched.contains_key(&call.id));
        let (due, later): (Vec<HookCall>, Vec<HookCall>) = open.partition(|call| call.check_at <= now.wall);
        self.hooks.is_stale = false;
        self.hooks.next_check = later.iter().map(|call| call.check_at).min();
        let due = due.into_iter().map(|call| call.id);
        let mut calls: Vec<Arc<str>> = std::mem::take(&mut self.hooks.asked).into_iter().chain(due).collect();
        calls.dedup();
        if calls.is_empty() {
            return Ok(false);
        }
        // By then, this worker has expired the one that holds the run, if it is dead.
        let recheck_at = now.wall.saturating_add(self.config.lease.saturating_mul(2));
        let worker = self.membership.worker.clone();
        let command = Command::TakeHookCalls { worker, calls: calls.clone(), recheck_at };
        self.hooks.asked = calls;
        let outcome = self.commit_one(command, now)?;
        let outcome = match outcome {
            Ok(Answer::HookCalls(calls)) => Ok(self.with_runs(calls)?),
            Ok(_) => Ok(Vec::new()),
            Err(rejection) => Err(rejection),
        };
        self.hooks.asked.clear();
        self.hooks.is_stale = is_full;
        self.hooks.next_check = self.hooks.next_check.into_iter().chain([recheck_at]).min();
        match outcome {
            Ok(calls) => {
                let mut new = Vec::new();
                for call in calls {
                    let worker = self.membership.worker.clone();
                    let id = Arc::clone(&call.call.id);
                    if self.hooks.dispatched.insert(id, worker).is_none() {
                        new.push(call);
                    }
                }
                if !new.is_empty() {
                    self.dispatcher.emit(Notice::HookCalls(new));
                }
                Ok(is_full)
            }
            Err(Rejection::WorkerGone) => {
                self.lose_everything();
                Ok(true)
            }
            Err(_) => Ok(false),
        }
    }

    /// Adds the runs whose outcomes are told.
    fn with_runs(&self, calls: Vec<HookCall>) -> Result<Vec<DueCall>, StoreError> {
        let with_run = |call: HookCall| {
            let tells = matches!(call.event, Some(HookEvent::Succeeded | HookEvent::Failed));
            let run = HookCall::run_of(&call.id).filter(|_| tells).map(RunId::from);
            let run = run.map(|run| self.reads.run(&self.config.project, &run)).transpose()?.flatten();
            Ok(DueCall { call, run: run.map(Box::new) })
        };
        calls.into_iter().map(with_run).collect()
    }

    /// Deletes the calls that the application has made.
    pub(super) fn end_hook_calls(&mut self, now: Now) -> Result<(), StoreError> {
        if self.hooks.made.is_empty() {
            return Ok(());
        }
        let mut by_worker: BTreeMap<WorkerId, Vec<Arc<str>>> = BTreeMap::new();
        for call in &self.hooks.made {
            if let Some(worker) = self.hooks.dispatched.get(call) {
                by_worker.entry(worker.clone()).or_default().push(Arc::clone(call));
            }
        }
        let end = |(worker, calls)| Command::EndHookCalls { worker, calls };
        let commands: Vec<Command> = by_worker.into_iter().map(end).collect();
        if !commands.is_empty() {
            // A call that another worker took over meanwhile is its own.
            let _ = self.writes.commit(&commands, now.wall)?;
        }
        for call in std::mem::take(&mut self.hooks.made) {
            self.hooks.dispatched.remove(&call);
        }
        Ok(())
    }
}
