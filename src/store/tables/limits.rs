//! Limits: declaring, changing, and describing them.

use super::rows::Tables;
use crate::calendar::Timestamp;
use crate::model::{
    ClaimRules, Declaration, Limit, LimitSpec, LimitStatus, Reconciliation, RunId, WorkerEntry, limit,
};
use crate::store::limits::{Room, Rooms};
use crate::store::tables::declarations::{self, LiveDeclarations};
use crate::store::{Answer, Rejection};
use std::collections::BTreeMap;
use std::sync::Arc;

impl Tables {
    /// What the workflow declares about its runs.
    pub(super) fn rules_of(&self, project: &str, workflow: &str) -> ClaimRules {
        self.workflows.get(project, workflow).map(|row| row.rules.clone()).unwrap_or_default()
    }

    /// The workflows of these that have a limit, by limit.
    fn by_limit<'w>(
        &self,
        project: &str,
        workflows: impl IntoIterator<Item = &'w Arc<str>>,
    ) -> BTreeMap<Arc<str>, Vec<Arc<str>>> {
        let mut by_limit: BTreeMap<Arc<str>, Vec<Arc<str>>> = BTreeMap::new();
        for workflow in workflows {
            let row = self.workflows.get(project, workflow);
            if let Some(limit) = row.and_then(|row| row.rules.limit.as_ref()) {
                by_limit.entry(Arc::clone(limit)).or_default().push(Arc::clone(workflow));
            }
        }
        by_limit
    }

    fn room(&self, project: &str, name: &Arc<str>, limit: &Limit, now: Timestamp) -> Room {
        let running = self.claimed_under.get(project, name).into_iter().flatten();
        let running = running.map(|(key, count)| (Arc::clone(key), *count));
        Room::new(Arc::clone(name), limit.spec(), limit.taken.clone(), running, now)
    }

    /// The limits of these workflows, with the room that they leave.
    pub(in crate::store) fn rooms(&self, project: &str, workflows: &[Arc<str>], now: Timestamp) -> Rooms {
        let mut rooms = Rooms::default();
        for (name, workflows) in self.by_limit(project, workflows) {
            if let Some(Some(limit)) = self.limits.get(project, &name) {
                rooms.add(self.room(project, &name, limit, now), workflows);
            }
        }
        rooms
    }

    /// Stores what the worker declares about limits, where it is not older than what is stored.
    pub(super) fn declare_limits(
        &mut self,
        entry: &WorkerEntry,
        live: &LiveDeclarations,
        report: &mut Reconciliation,
        now: Timestamp,
    ) {
        let (project, version) = (&entry.project, entry.version.as_ref());
        for declared in &entry.limits {
            let stored = self.limits.get(project, &declared.name).cloned().flatten();
            let known = stored.as_ref().and_then(|limit| Declaration::parse(Some(&limit.declaration)));
            let spec = declared.spec.to_json();
            let labeled = (limit::limit_label(&declared.name), live);
            if known.as_ref().is_none_or(|known| known.spec != *spec) {
                report.outdated_limits.insert(Arc::clone(&declared.name));
            }
            if let Some(newer) = declarations::newer(known, &spec, version, labeled, now) {
                report.outdated_limits.remove(&declared.name);
                let (set, taken) = stored.map(|limit| (limit.set, limit.taken)).unwrap_or_default();
                let limit = Limit { declaration: newer.to_json(), set, taken, updated_at: now };
                *self.limits.slot(project, &declared.name) = Some(limit);
                let name = (Arc::clone(project), Arc::clone(&declared.name));
                self.touch(|touched| _ = touched.limits.insert(name));
            }
        }
        for workflow in &entry.workflows {
            let declared = entry.rules_of(&workflow.id);
            let hooks = declared.hooks.union(live.wanted_calls(&workflow.id));
            report.others_want_calls |= hooks != declared.hooks;
            let rules = ClaimRules { hooks, ..declared };
            let row = self.workflows.slot(project, &workflow.id);
            if row.rules.hooks != hooks {
                row.rules.hooks = hooks;
                let name = (Arc::clone(project), Arc::clone(&workflow.id));
                self.touch(|touched| _ = touched.workflows.insert(name));
            }
            let row = self.workflows.slot(project, &workflow.id);
            let known = Declaration::parse(row.declaration.as_deref());
            let labeled = (limit::rules_label(&workflow.id), live);
            let Some(newer) = declarations::newer(known, &rules.to_json(), version, labeled, now) else {
                if row.rules != rules {
                    report.outdated_limits.extend(row.rules.limit.iter().chain(&rules.limit).cloned());
                }
                continue;
            };
            row.declaration = Some(newer.to_json());
            let former = std::mem::replace(&mut row.rules, rules);
            let name = (Arc::clone(project), Arc::clone(&workflow.id));
            self.touch(|touched| _ = touched.workflows.insert(name));
            self.follow_limit(entry, &workflow.id, &former);
        }
    }

    /// The unfinished runs of a workflow count against its new limit.
    fn follow_limit(&mut self, entry: &WorkerEntry, workflow: &Arc<str>, former: &ClaimRules) {
        let limit = self.rules_of(&entry.project, workflow).limit;
        if limit == former.limit {
            return;
        }
        let is_affected = |run: &crate::model::Run| {
            run.project == entry.project && run.workflow == *workflow && !run.state.is_finished()
        };
        let runs = self.runs.values().filter(|row| is_affected(&row.run));
        let runs: Vec<RunId> = runs.map(|row| row.run.id.clone()).collect();
        for id in runs {
            self.edit_run(&id, |row| row.run.limit.clone_from(&limit));
        }
        let name = (Arc::clone(&entry.project), Arc::clone(workflow));
        self.touch(|touched| _ = touched.relimited.insert(name));
    }

    /// Changes a stored limit.
    pub(super) fn edit_limit(&mut self, project: &Arc<str>, name: &Arc<str>, edit: impl FnOnce(&mut Limit)) {
        if let Some(limit) = self.limits.slot(project, name) {
            edit(limit);
        }
        let entry = (Arc::clone(project), Arc::clone(name));
        self.touch(|touched| _ = touched.limits.insert(entry));
    }

    pub(super) fn set_limit(
        &mut self,
        project: &Arc<str>,
        name: &Arc<str>,
        values: Option<&LimitSpec>,
        now: Timestamp,
    ) -> Result<Answer, Rejection> {
        let Some(Some(limit)) = self.limits.get(project, name) else {
            return Err(Rejection::LimitNotFound(Arc::clone(name)));
        };
        let set = set_values(name, limit, values)?;
        self.edit_limit(project, name, |limit| {
            limit.set = set;
            limit.updated_at = now;
        });
        Ok(Answer::Done)
    }

    pub(super) fn delete_limit(&mut self, project: &Arc<str>, name: &Arc<str>) -> Result<Answer, Rejection> {
        if self.limits.get(project, name).is_none_or(Option::is_none) {
            return Err(Rejection::LimitNotFound(Arc::clone(name)));
        }
        let mut peers = self.workers.values().filter(|row| row.project == *project).map(|row| &row.peer);
        if let Some(peer) = peers.find(|peer| limit::is_declared(peer.declares.as_deref(), name)) {
            return Err(Rejection::LimitDeclared(Arc::clone(name), Arc::clone(&peer.app)));
        }
        let workflows = self.workflows.of(project).filter(|(_, row)| row.rules.limit.as_ref() == Some(name));
        let workflows: Vec<Arc<str>> = workflows.map(|(id, _)| Arc::clone(id)).collect();
        let is_unfinished = |id: &&Arc<str>| {
            let mut runs = self.runs.values().map(|row| &row.run);
            runs.any(|run| run.project == *project && run.workflow == **id && !run.state.is_finished())
        };
        if let Some(workflow) = workflows.iter().find(is_unfinished) {
            return Err(Rejection::LimitHasRuns(Arc::clone(name), Arc::clone(workflow)));
        }
        for id in &workflows {
            let row = self.workflows.slot(project, id);
            row.rules.limit = None;
            row.declaration = None;
        }
        *self.limits.slot(project, name) = None;
        self.note_change();
        Ok(Answer::Done)
    }

    pub fn running_with_key(&self, project: &str, limit: &str, key: &str) -> u64 {
        let running = self.claimed_under.get(project, limit);
        running.and_then(|by_key| by_key.get(key)).map_or(0, |count| u64::from(*count))
    }

    /// All limits with their use.
    pub fn limit_statuses(&self, project: &str, count_to: usize, now: Timestamp) -> Vec<LimitStatus> {
        let mut of = self.by_limit(project, self.workflows.of(project).map(|(id, _)| id));
        let limits = self.limits.of(project).filter_map(|(name, limit)| Some((name, limit.as_ref()?)));
        limits
            .map(|(name, limit)| {
                let workflows = of.remove(name).unwrap_or_default();
                let sets = workflows.iter().filter_map(|workflow| self.claimable.get(project, workflow));
                let available = sets.flatten().filter(|(at, ..)| *at <= now);
                LimitStatus {
                    name: Arc::clone(name),
                    limit: limit.clone(),
                    running: u64::from(self.room(project, name, limit, now).running),
                    queued: available.clone().take(count_to).count() as u64,
                    oldest: available.map(|(at, ..)| *at).min(),
                    workflows,
                }
            })
            .collect()
    }
}

/// What an operator has set after this change.
pub(in crate::store) fn set_values(
    name: &str,
    limit: &Limit,
    changes: Option<&LimitSpec>,
) -> Result<Option<LimitSpec>, Rejection> {
    let Some(changes) = changes else { return Ok(None) };
    match limit.after(changes) {
        Some(set) => Ok(Some(set)),
        None => Err(Rejection::Invalid(format!(
            "the limit `{name}` has no rate yet: give both `rate` and `per`, its period"
        ))),
    }
}
