//! Finding the runs that a claim may take, whatever number of runs is queued.

use super::k_merge::merge;
use super::queries;
use super::rows::{Columns, limit_to_sql};
use super::statements::Session;
use crate::calendar::Timestamp;
use crate::model::{Run, RunId};
use crate::store::limits::{KEYS_MAX, Room, Rooms, walked};
use crate::store::row_reader::RowReader;
use rusqlite::{Result, params};
use std::collections::BTreeMap;
use std::sync::Arc;

/// How candidates are sorted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Order {
    /// As they are claimed: by priority and time.
    Claims,
    /// By the time from which they are available.
    Time,
}

/// A run that could be claimed; sorted in the order that it was read for.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Candidate {
    rank: Timestamp,
    position: (Timestamp, Option<Timestamp>, RunId),
    pub no: i64,
    pub workflow: Arc<str>,
    pub key: Arc<str>,
}

impl Candidate {
    /// When it became available.
    pub fn at(&self) -> Timestamp {
        self.position.0
    }
}

/// Reads a candidate of this workflow.
pub(super) fn candidate(
    columns: &mut Columns<'_, '_>,
    workflow: &Arc<str>,
    order: Order,
) -> Result<Candidate> {
    let position = (columns.time()?, columns.optional_time()?, columns.run_id()?);
    let (no, key) = (columns.int()?, columns.text()?);
    let priority = columns.priority()?;
    let rank = match order {
        Order::Claims => Run::rank(position.0, priority),
        Order::Time => position.0,
    };
    Ok(Candidate { rank, position, no, workflow: Arc::clone(workflow), key })
}

/// The limits of those of the project's workflows that are wanted, with the room that they leave.
pub(super) fn rooms(
    session: &mut Session<'_>,
    project: &str,
    is_wanted: impl Fn(&Arc<str>) -> bool,
    now: Timestamp,
) -> Result<Rooms> {
    let found = session.all(queries::LIMITS_OF_WORKFLOWS, [project], |row| {
        let mut columns = Columns::of(row);
        Ok((columns.text()?, columns.text()?, columns.limit()?))
    })?;
    let mut by_limit = BTreeMap::new();
    for (workflow, name, limit) in found.into_iter().filter(|(workflow, ..)| is_wanted(workflow)) {
        by_limit.entry(name).or_insert_with(|| (limit, Vec::new())).1.push(workflow);
    }
    let mut rooms = Rooms::default();
    for (name, (limit, workflows)) in by_limit {
        let running = session.all(queries::CLAIMED_UNDER, params![project, name], |row| {
            let mut columns = Columns::of(row);
            Ok((columns.text()?, columns.small_count()?))
        })?;
        rooms.add(Room::new(name, limit.spec(), limit.taken, running, now), workflows);
    }
    Ok(rooms)
}

/// Which candidates to find.
#[derive(Clone, Copy)]
pub(super) struct Search<'p> {
    pub project: &'p str,
    /// Available at this instant.
    pub until: Timestamp,
    /// At most this many.
    pub limit: usize,
    /// The first in this order.
    pub order: Order,
}

/// The first runs of these workflows, whether or not limits leave room.
pub(super) fn heads(
    session: &mut Session<'_>,
    search: Search<'_>,
    workflows: &[&Arc<str>],
) -> Result<Vec<Candidate>> {
    let Search { project, until, limit, order } = search;
    let mut found = merge(workflows.len(), limit, |source, offset, count| {
        let workflow = workflows[source];
        session.all(
            queries::CLAIMABLE_HEADS,
            params![project, workflow, until, limit_to_sql(count), limit_to_sql(offset)],
            |row| {
                candidate(&mut Columns::of(row), workflow, order).map(|found| (found.position.clone(), found))
            },
        )
    })?;
    if order == Order::Claims && session.any(queries::HAS_PRIORITY, [project])? {
        // Each source is in order of rank, because all of its runs have the same priority.
        let sources: Vec<_> = workflows
            .iter()
            .flat_map(|workflow| (1..=9).map(move |priority| (*workflow, priority)))
            .collect();
        let prioritized = merge(sources.len(), limit, |source, offset, count| {
            let (workflow, priority) = sources[source];
            session.all(
                queries::PRIORITY_HEADS,
                params![project, workflow, until, limit_to_sql(count), limit_to_sql(offset), priority],
                |row| candidate(&mut Columns::of(row), workflow, order).map(|found| (found.clone(), found)),
            )
        })?;
        found.extend(prioritized);
        found.sort_unstable();
        found.dedup_by(|one, other| one.no == other.no);
        found.truncate(limit);
    }
    Ok(found)
}

/// The first runs for which one limit leaves room.
pub(super) fn limited(
    session: &mut Session<'_>,
    search: Search<'_>,
    rooms: &Rooms,
    index: usize,
) -> Result<Vec<Candidate>> {
    let Search { project, until, order, .. } = search;
    let mut room = rooms.rooms()[index].clone();
    let count = room.left().min(search.limit);
    if count == 0 {
        return Ok(Vec::new());
    }
    let workflows = rooms.workflows(index);
    let workflows: Vec<&Arc<str>> = workflows.iter().collect();
    if room.spec.per_key.is_none() {
        return heads(session, Search { limit: count, ..search }, &workflows);
    }
    let walked = walked(count);
    let seen = heads(session, Search { limit: walked, ..search }, &workflows)?;
    let is_all = seen.len() < walked;
    let full = room.clone();
    let mut chosen: Vec<Candidate> =
        seen.into_iter().filter(|run| room.admit(&run.key, run.at())).take(count).collect();
    if is_all || chosen.len() == count {
        return Ok(chosen);
    }
    // All that is left to see may belong to keys without room. Ask for each key that has room.
    for workflow in workflows {
        let mut key: Arc<str> = Arc::default();
        for _ in 0..KEYS_MAX {
            let next = session.one(queries::NEXT_QUEUED_KEY, params![project, workflow, key], |row| {
                Columns::of(row).text()
            })?;
            let Some(next) = next else { break };
            key = next;
            let left = full.left_for(&key).min(count);
            if left > 0 {
                chosen.extend(session.all(
                    queries::HEADS_OF_KEY,
                    params![project, workflow, key, until, limit_to_sql(left)],
                    |row| candidate(&mut Columns::of(row), workflow, order),
                )?);
            }
        }
    }
    chosen.sort_unstable();
    chosen.dedup_by(|one, other| one.no == other.no);
    let mut room = full;
    Ok(chosen.into_iter().filter(|run| room.admit(&run.key, run.at())).take(count).collect())
}

/// When the first run of one limit may be available: `None` if only the end of a run makes room.
pub(super) fn next_limited(
    session: &mut Session<'_>,
    project: &str,
    rooms: &Rooms,
    index: usize,
) -> Result<Option<Timestamp>> {
    let room = &rooms.rooms()[index];
    let Some(opens_at) = room.opens_at() else { return Ok(None) };
    let mut slots = Rooms::default();
    slots.add(room.without_rate(), rooms.workflows(index));
    let search = Search { project, until: Timestamp::MAX, limit: 1, order: Order::Time };
    let found = limited(session, search, &slots, 0)?;
    Ok(found.first().map(|found| found.at().max(opens_at)))
}
