//! Limits: reading, declaring, and describing them.

use super::connection::Session;
use super::error::PgError;
use super::expected_limits::Expected;
use super::pipeline::Statement;
use super::queries;
use super::read::each;
use super::rows::{Args, Columns, limit_to_sql};
use super::write_back::WriteBack;
use crate::calendar::Timestamp;
use crate::model::{ClaimRules, Limit, LimitStatus, WantedCalls};
use crate::store::limits::{KEYS_MAX, Room, WorkflowRow, walked};
use crate::store::row_reader::RowReader;
use crate::store::tables::Tables;
use crate::store::tables::read_set::ReadSet;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio_postgres::{Error, Row};

/// The workflows that a group of commands registers.
pub(super) fn registered<'c>(needs: &ReadSet<'c>) -> Option<Statement<'c>> {
    if needs.registered.is_empty() {
        return None;
    }
    let mut args = Args::default();
    args.texts(needs.registered.iter().map(|(project, _)| *project));
    args.texts(needs.registered.iter().map(|(_, id)| *id));
    Some(Statement::Query(queries::WORKFLOWS_BY_ID, args))
}

/// The workflows that declare anything, for a group of commands that creates runs or skips slots.
pub(super) fn with_rules<'c>(needs: &ReadSet<'c>) -> Option<Statement<'c>> {
    needs.needs_rules.then(|| Statement::Query(queries::WORKFLOWS_WITH_RULES, Args::default()))
}

/// The limits that a group of commands declares or sets, locked.
pub(super) fn limits<'c>(needs: &ReadSet<'c>) -> Option<Statement<'c>> {
    if needs.limits.is_empty() {
        return None;
    }
    let mut args = Args::default();
    args.texts(needs.limits.iter().map(|(project, _)| *project));
    args.texts(needs.limits.iter().map(|(_, name)| *name));
    Some(Statement::Query(queries::LOCK_LIMITS, args))
}

pub(super) fn take_workflow(tables: &mut Tables, columns: &mut Columns<'_>) -> Result<(), Error> {
    let (project, id) = (columns.text()?, columns.text()?);
    let schedulable = columns.flag()?;
    let (limit, priority) = (columns.optional_text()?, columns.priority()?);
    let declaration = columns.optional_text()?;
    let hooks = WantedCalls::parse(columns.optional_text()?.as_deref());
    let row = WorkflowRow { schedulable, rules: ClaimRules { limit, priority, hooks }, declaration };
    *tables.workflows.slot(&project, &id) = row;
    Ok(())
}

pub(super) fn take_limit(tables: &mut Tables, columns: &mut Columns<'_>) -> Result<(), Error> {
    let (project, name) = (columns.text()?, columns.text()?);
    *tables.limits.slot(&project, &name) = Some(columns.limit()?);
    Ok(())
}

/// Adds the limit of a workflow, from [`locked_limits`]. Returns the workflow.
pub(super) fn take_limit_of_workflow(
    tables: &mut Tables,
    project: &Arc<str>,
    row: &Row,
) -> Result<Arc<str>, Error> {
    let mut columns = Columns::of(row);
    let (workflow, name) = (columns.text()?, columns.text()?);
    *tables.limits.slot(project, &name) = Some(columns.limit()?);
    tables.workflows.slot(project, &workflow).rules.limit = Some(name);
    Ok(workflow)
}

/// A workflow with a limit, and when its first run is available; at the first workflow of a limit,
/// also when the first suspect of all of them is.
struct Head {
    workflow: Arc<str>,
    run: Option<Timestamp>,
    suspect: Option<Timestamp>,
}

/// Adds the limit of a workflow with its use, from [`queries::LIMITS_OF_WORKFLOWS`].
fn take_head(tables: &mut Tables, project: &Arc<str>, row: &Row) -> Result<Head, Error> {
    let mut columns = Columns::of(row);
    let (workflow, name) = (columns.text()?, columns.text()?);
    *tables.limits.slot(project, &name) = Some(columns.limit()?);
    if let Some(count) = columns.optional_int()? {
        set_use(tables, project, &name, u32::try_from(count).unwrap_or(u32::MAX));
    }
    tables.workflows.slot(project, &workflow).rules.limit = Some(name);
    Ok(Head { workflow, suspect: columns.optional_time()?, run: columns.optional_time()? })
}

/// Sets how many runs of a limit are running that counts no keys.
pub(super) fn set_use(tables: &mut Tables, project: &Arc<str>, name: &Arc<str>, count: u32) {
    *tables.claimed_under.slot(project, name) = BTreeMap::from([(Arc::default(), count)]);
}

/// Adds the use of limits, from [`counts`].
pub(super) fn take_counts(tables: &mut Tables, project: &Arc<str>, rows: &[Row]) -> Result<(), Error> {
    for row in rows {
        let mut columns = Columns::of(row);
        let (name, key) = (columns.text()?, columns.text()?);
        tables.claimed_under.slot(project, &name).insert(key, columns.small_count()?);
    }
    Ok(())
}

impl WriteBack<'_> {
    pub fn limits(&mut self) {
        let changed: Vec<(&str, &str, &Limit)> = self
            .touched
            .limits
            .iter()
            .filter_map(|(project, name)| {
                Some((&**project, &**name, self.tables().limits.get(project, name)?.as_ref()?))
            })
            .collect();
        if changed.is_empty() {
            return;
        }
        let mut args = Args::default();
        args.texts(changed.iter().map(|(project, ..)| *project));
        args.texts(changed.iter().map(|(_, name, _)| *name));
        args.texts(changed.iter().map(|(.., limit)| &*limit.declaration));
        args.shared_texts(changed.iter().map(|(.., limit)| limit.stored_set()));
        args.shared_texts(changed.iter().map(|(.., limit)| limit.taken.to_json()));
        args.ints(changed.iter().map(|(.., limit)| limit.updated_at.as_micros()));
        self.add(queries::UPSERT_LIMITS, args);
    }

    /// The unfinished runs of a workflow count against its new limit.
    pub fn followed_limits(&mut self) {
        for (project, workflow) in &self.touched.relimited {
            for statement in [queries::FOLLOW_LIMIT, queries::FOLLOW_LIMIT_WHILE_HELD] {
                let mut args = Args::default();
                let row = self.tables().workflows.get(project, workflow);
                args.text(project);
                args.text(workflow);
                args.optional_text(row.and_then(|row| row.rules.limit.as_deref()));
                self.add(statement, args);
            }
        }
    }
}

impl Session<'_> {
    /// All limits with their use.
    pub async fn limits(
        self,
        project: &str,
        count_to: usize,
        now: Timestamp,
    ) -> Result<Vec<LimitStatus>, PgError> {
        let mut args = Args::default();
        args.text(project);
        args.int(now.as_micros());
        args.int(limit_to_sql(count_to));
        let rows = each(&self.query(queries::LIMIT_STATUSES, args).await?, |columns| {
            let (name, limit, running) = (columns.text()?, columns.limit()?, columns.count()?);
            let status = LimitStatus { name, limit, workflows: Vec::new(), running, queued: 0, oldest: None };
            Ok((status, columns.optional_text()?, columns.count()?, columns.optional_time()?))
        })?;
        let mut statuses: Vec<LimitStatus> = Vec::new();
        for (status, workflow, queued, oldest) in rows {
            if statuses.last().is_none_or(|last| last.name != status.name) {
                statuses.push(status);
            }
            let Some(last) = statuses.last_mut() else { continue };
            last.workflows.extend(workflow);
            last.queued = (last.queued + queued).min(count_to as u64);
            last.oldest = last.oldest.into_iter().chain(oldest).min();
        }
        Ok(statuses)
    }

    pub async fn running_with_key(self, project: &str, limit: &str, key: &str) -> Result<u64, PgError> {
        let mut args = Args::default();
        for text in [project, limit, key] {
            args.text(text);
        }
        let counts = each(&self.query(queries::RUNNING_WITH_KEY, args).await?, |columns| columns.count())?;
        Ok(counts.first().copied().unwrap_or(0))
    }

    /// When the first run, and the first suspect, of a workflow with a limit may be available; and
    /// what limits to expect next time. `answers` are those to [`limits_asked_at_once`].
    pub async fn next_limited(
        self,
        project: &str,
        workflows: &[Arc<str>],
        now: Timestamp,
        mut answers: Vec<Vec<Row>>,
    ) -> Result<(Option<Timestamp>, Option<Timestamp>, Expected), PgError> {
        if answers.is_empty() {
            answers = self.all(vec![next_under_limits(project, workflows)]).await?;
        }
        let mut counted = answers.split_off(1).pop();
        let project: Arc<str> = project.into();
        let mut tables = Tables::default();
        let mut heads = Vec::new();
        for row in answers.iter().flatten() {
            heads.push(take_head(&mut tables, &project, row)?);
        }
        if counted.is_none() && tables.rooms(&project, workflows, now).have_keys() {
            counted = self.all(vec![counts(&project, workflows)]).await?.pop();
        }
        if let Some(counted) = counted {
            drop(std::mem::take(&mut tables.claimed_under));
            take_counts(&mut tables, &project, &counted)?;
        }
        let rooms = tables.rooms(&project, workflows, now);
        let (mut run, mut suspect) = (None, None);
        for (index, room) in rooms.rooms().iter().enumerate() {
            let Some(opens_at) = room.opens_at() else { continue };
            let workflows = rooms.workflows(index);
            let (next, next_suspect) = if room.spec.per_key.is_some() {
                let answers = self.all(first_keys(&project, &workflows)).await?;
                self.next_of(&project, &workflows, room, &answers).await?
            } else {
                let of_limit = || heads.iter().filter(|head| workflows.contains(&head.workflow));
                (of_limit().filter_map(|head| head.run).min(), of_limit().find_map(|head| head.suspect))
            };
            let at = |found: Option<Timestamp>| found.map(|at| at.max(opens_at));
            run = at(next).into_iter().chain(run).min();
            suspect = at(next_suspect).into_iter().chain(suspect).min();
        }
        Ok((run, suspect, Expected::of(&rooms)))
    }

    /// When the first run and the first suspect of one limit's workflows are available whose keys
    /// have room. `answers` are those to [`heads`].
    async fn next_of(
        self,
        project: &str,
        workflows: &[Arc<str>],
        room: &Room,
        answers: &[Vec<Row>],
    ) -> Result<(Option<Timestamp>, Option<Timestamp>), PgError> {
        let first = |rows: &[Row]| -> Result<Option<Timestamp>, Error> {
            let mut first = None;
            for row in rows {
                let mut columns = Columns::of(row);
                let (at, key) = (columns.time()?, columns.text()?);
                if room.has_slot_for(&key) {
                    first = std::iter::once(at).chain(first).min();
                }
            }
            Ok(first)
        };
        let [rows, suspects] = answers else { return Ok((None, None)) };
        let mut next = first(rows)?;
        if next.is_none() && rows.len() == walked(1) {
            for workflow in workflows {
                let mut args = Args::default();
                args.text(project);
                args.text(workflow);
                args.texts(room.full_keys());
                args.int(limit_to_sql(KEYS_MAX));
                let found = first(&self.query(queries::NEXT_LIMITED_BY_KEY, args).await?)?;
                next = next.into_iter().chain(found).min();
            }
        }
        Ok((next, first(suspects)?))
    }
}

/// The limits of a claim's workflows, locked.
pub(super) fn locked_limits<'c>(project: &'c str, workflows: &'c [Arc<str>]) -> Statement<'c> {
    Statement::Query(queries::LOCK_LIMITS_OF_WORKFLOWS, of_workflows(project, workflows))
}

/// The statements that [`Session::next_limited`] will probably need.
pub(super) fn limits_asked_at_once<'c>(
    project: &'c str,
    workflows: &'c [Arc<str>],
    expected: &Expected,
) -> Vec<Statement<'c>> {
    match expected {
        Expected::Nothing => Vec::new(),
        Expected::One(_) => vec![next_under_limits(project, workflows)],
        Expected::Some => vec![next_under_limits(project, workflows), counts(project, workflows)],
    }
}

/// The first runs and suspects of the workflows of a limit that counts keys.
fn first_keys<'c>(project: &'c str, workflows: &'c [Arc<str>]) -> Vec<Statement<'c>> {
    let mut args = of_workflows(project, workflows);
    // One of them may have a key with room.
    args.int(limit_to_sql(walked(1)));
    let suspects = of_workflows(project, workflows);
    vec![
        Statement::Query(queries::NEXT_LIMITED, args),
        Statement::Query(queries::NEXT_LIMITED_SUSPECTS, suspects),
    ]
}

/// The limits of some workflows, with their use and their first runs.
fn next_under_limits<'c>(project: &'c str, workflows: &'c [Arc<str>]) -> Statement<'c> {
    Statement::Query(queries::LIMITS_OF_WORKFLOWS, of_workflows(project, workflows))
}

/// Numbers of running runs of the limits of some workflows, by limit and key.
pub(super) fn counts<'c>(project: &'c str, workflows: &'c [Arc<str>]) -> Statement<'c> {
    Statement::Query(queries::CLAIMED_UNDER, of_workflows(project, workflows))
}

fn of_workflows<'c>(project: &'c str, workflows: &'c [Arc<str>]) -> Args<'c> {
    let mut args = Args::default();
    args.text(project);
    args.texts(workflows.iter().map(|id| &**id));
    args
}
