//! Limits: declaring, changing, and describing them.

use super::batch::{Applied, Batch};
use super::queries;
use super::read::{View, read_peers};
use super::rows::{Columns, limit_to_sql};
use crate::calendar::Timestamp;
use crate::model::{
    ClaimRules, Declaration, LimitSpec, LimitStatus, Peer, Reconciliation, RunState, WantedCalls,
    WorkerEntry, limit,
};
use crate::store::row_reader::RowReader;
use crate::store::tables::declarations::{self, LiveDeclarations};
use crate::store::tables::limits::set_values;
use crate::store::{Answer, Rejection};
use rusqlite::{Result, params};
use std::sync::Arc;

impl Batch<'_> {
    /// What the workflow declares about its runs. Read once for a batch.
    pub(super) fn rules_of(&mut self, project: &str, workflow: &str) -> Result<ClaimRules> {
        if self.rules.is_none() {
            let rules = self.session.all(queries::RULES, [], |row| {
                let mut columns = Columns::of(row);
                let workflow = (columns.text()?, columns.text()?);
                let (limit, priority) = (columns.optional_text()?, columns.priority()?);
                let hooks = WantedCalls::parse(columns.optional_text()?.as_deref());
                Ok((workflow, ClaimRules { limit, priority, hooks }))
            })?;
            self.rules = Some(rules);
        }
        let known = self.rules.iter().flatten().find(|((of, id), _)| **of == *project && **id == *workflow);
        Ok(known.map(|(_, rules)| rules.clone()).unwrap_or_default())
    }

    /// Stores what the worker declares about limits, where it is not older than what is stored.
    pub(super) fn declare_limits(
        &mut self,
        entry: &WorkerEntry,
        live: &LiveDeclarations,
        report: &mut Reconciliation,
    ) -> Result<()> {
        let (project, version, now) = (&entry.project, entry.version.as_ref(), self.now());
        for declared in &entry.limits {
            let stored =
                self.one(queries::LIMIT, params![project, declared.name], |row| Columns::of(row).limit())?;
            let known = stored.and_then(|limit| Declaration::parse(Some(&limit.declaration)));
            let spec = declared.spec.to_json();
            let labeled = (limit::limit_label(&declared.name), live);
            let is_other = known.as_ref().is_none_or(|known| known.spec != *spec);
            match declarations::newer(known, &spec, version, labeled, now) {
                Some(newer) => {
                    self.run(queries::DECLARE_LIMIT, params![project, declared.name, newer.to_json(), now])?;
                }
                None if is_other => _ = report.outdated_limits.insert(Arc::clone(&declared.name)),
                None => {}
            }
        }
        for workflow in &entry.workflows {
            let declared = entry.rules_of(&workflow.id);
            let hooks = declared.hooks.union(live.wanted_calls(&workflow.id));
            report.others_want_calls |= hooks != declared.hooks;
            let rules = ClaimRules { hooks, ..declared };
            let (mut former, known) = self
                .one(queries::WORKFLOW_RULES, params![project, workflow.id], |row| {
                    let mut columns = Columns::of(row);
                    let (limit, priority) = (columns.optional_text()?, columns.priority()?);
                    let declaration = Declaration::parse(columns.optional_text()?.as_deref());
                    let hooks = WantedCalls::parse(columns.optional_text()?.as_deref());
                    Ok((ClaimRules { limit, priority, hooks }, declaration))
                })?
                .unwrap_or_default();
            if former.hooks != hooks {
                former.hooks = hooks;
                self.run(queries::DECLARE_HOOKS, params![project, workflow.id, hooks.to_json()])?;
                self.rules = None;
            }
            let labeled = (limit::rules_label(&workflow.id), live);
            let Some(newer) = declarations::newer(known, &rules.to_json(), version, labeled, now) else {
                if former != rules {
                    report.outdated_limits.extend(former.limit.into_iter().chain(rules.limit));
                }
                continue;
            };
            self.run(
                queries::DECLARE_RULES,
                params![project, workflow.id, rules.limit, rules.priority, newer.to_json()],
            )?;
            self.rules = None;
            if rules.limit != former.limit {
                self.follow_limit(project, &workflow.id, rules.limit.as_ref())?;
            }
        }
        Ok(())
    }

    /// The unfinished runs of a workflow count against its new limit.
    fn follow_limit(&mut self, project: &str, workflow: &str, limit: Option<&Arc<str>>) -> Result<()> {
        for state in [RunState::Buffered, RunState::Queued, RunState::Waiting] {
            self.run(queries::FOLLOW_LIMIT, params![project, workflow, state, limit])?;
        }
        for worker in self.all_rows(queries::WORKERS, [], |row| Columns::of(row).text())? {
            self.run(queries::FOLLOW_LIMIT_WHILE_HELD, params![project, workflow, worker, limit])?;
        }
        Ok(())
    }

    pub(super) fn set_limit(
        &mut self,
        project: &str,
        name: &Arc<str>,
        values: Option<&LimitSpec>,
    ) -> Applied {
        let now = self.now();
        let stored = self.one(queries::LIMIT, params![project, name], |row| Columns::of(row).limit())?;
        let mut limit = stored.ok_or_else(|| Rejection::LimitNotFound(Arc::clone(name)))?;
        limit.set = set_values(name, &limit, values)?;
        self.run(queries::SET_LIMIT, params![project, name, limit.stored_set(), now])?;
        Ok(Answer::Done)
    }

    pub(super) fn delete_limit(&mut self, project: &str, name: &Arc<str>) -> Applied {
        if !self.any(queries::LIMIT, params![project, name])? {
            return Err(Rejection::LimitNotFound(Arc::clone(name)).into());
        }
        let peers = read_peers(&mut self.session, project)?;
        let declares = |peer: &&Peer| limit::is_declared(peer.declares.as_deref(), name);
        if let Some(peer) = peers.iter().find(declares) {
            return Err(Rejection::LimitDeclared(Arc::clone(name), Arc::clone(&peer.app)).into());
        }
        let workflow =
            self.one(queries::UNFINISHED_UNDER, params![project, name], |row| Columns::of(row).text())?;
        if let Some(workflow) = workflow {
            return Err(Rejection::LimitHasRuns(Arc::clone(name), workflow).into());
        }
        self.run(queries::FORGET_LIMIT, params![project, name])?;
        self.run(queries::DELETE_LIMIT, params![project, name])?;
        self.rules = None;
        Ok(Answer::Done)
    }
}

impl View<'_> {
    pub fn running_with_key(&mut self, project: &str, limit: &str, key: &str) -> Result<u64> {
        let params = params![project, limit, key];
        let found = self.session.one(queries::RUNNING_WITH_KEY, params, |row| Columns::of(row).count())?;
        Ok(found.unwrap_or(0))
    }

    /// All limits with their use.
    pub fn limits(&mut self, project: &str, count_to: usize, now: Timestamp) -> Result<Vec<LimitStatus>> {
        let limits = self.session.all(queries::LIMITS, [project], |row| {
            let mut columns = Columns::of(row);
            Ok((columns.text()?, columns.limit()?))
        })?;
        let of = self.session.all(queries::LIMITS_OF_WORKFLOWS, [project], |row| {
            let mut columns = Columns::of(row);
            Ok((columns.text()?, columns.text()?))
        })?;
        let mut statuses = Vec::with_capacity(limits.len());
        for (name, limit) in limits {
            let running = self.session.all(queries::CLAIMED_UNDER, params![project, name], |row| {
                let mut columns = Columns::of(row);
                columns.text()?;
                columns.count()
            })?;
            let mut workflows: Vec<Arc<str>> =
                of.iter().filter(|(_, of)| *of == name).map(|(id, _)| Arc::clone(id)).collect();
            workflows.sort_unstable();
            let (mut queued, mut oldest) = (0, None);
            for workflow in &workflows {
                let most = limit_to_sql(count_to.saturating_sub(usize::try_from(queued).unwrap_or(count_to)));
                let found = self.session.one(
                    queries::AVAILABLE_COUNT,
                    params![project, workflow, now, most],
                    |row| {
                        let mut columns = Columns::of(row);
                        Ok((columns.count()?, columns.optional_time()?))
                    },
                )?;
                let (count, since) = found.unwrap_or_default();
                queued += count;
                oldest = oldest.into_iter().chain(since).min();
            }
            let running = running.into_iter().sum();
            statuses.push(LimitStatus { name, limit, workflows, running, queued, oldest });
        }
        Ok(statuses)
    }
}
