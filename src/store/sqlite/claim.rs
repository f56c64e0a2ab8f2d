//! Claiming runs, within the room that limits leave.

use super::batch::{Applied, Batch};
use super::candidates::{Candidate, Order, Search, candidate, heads, limited, rooms};
use super::queries;
use super::rows::Columns;
use crate::calendar::Timestamp;
use crate::model::{ClaimedRun, WorkerId};
use crate::store::limits::Rooms;
use crate::store::row_reader::RowReader;
use crate::store::tables::transitions;
use crate::store::{Answer, Codes, Rejection, Suspects};
use rusqlite::{Result, params};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

impl Batch<'_> {
    pub(super) fn claim_runs(
        &mut self,
        project: &str,
        worker: &WorkerId,
        workflows: &[Arc<str>],
        (limit, until): (usize, Timestamp),
        suspects: Suspects,
        codes: Option<&Codes>,
    ) -> Applied {
        if !self.is_registered(worker)? {
            return Err(Rejection::WorkerGone.into());
        }
        let now = self.now();
        let workflows: BTreeSet<&Arc<str>> = workflows.iter().collect();
        let mut rooms = rooms(&mut self.session, project, |id| workflows.contains(id), now)?;
        let suspect = match suspects {
            Suspects::Never => None,
            Suspects::Alone => {
                self.first_suspect(project, &workflows, &rooms)?.filter(|run| run.at() <= until)
            }
            Suspects::Since(since) => {
                self.first_suspect(project, &workflows, &rooms)?.filter(|run| run.at() <= since.min(until))
            }
        };
        let free: Vec<&Arc<str>> = workflows.iter().copied().filter(|id| rooms.of(id).is_none()).collect();
        let search = Search { project, until, limit, order: Order::Claims };
        let mut available = heads(&mut self.session, search, &free)?;
        if !rooms.is_empty() {
            for index in 0..rooms.rooms().len() {
                available.extend(limited(&mut self.session, search, &rooms, index)?);
            }
            available.sort_unstable();
        }
        if let Some(suspect) = suspect {
            let is_first = available.first().is_none_or(|first| suspect < *first);
            match suspects {
                Suspects::Alone if is_first => available = vec![suspect],
                Suspects::Since(_) => {
                    available.push(suspect);
                    available.sort_unstable();
                }
                Suspects::Alone | Suspects::Never => {}
            }
        }
        let mut chosen = Vec::with_capacity(available.len());
        for run in available {
            if chosen.len() == limit {
                break;
            }
            if rooms.admit(&run.workflow, &run.key, run.at()) {
                chosen.push((run.no, rooms.of(&run.workflow).map(|room| Arc::clone(&room.name))));
            }
        }
        if let Some(codes) = codes {
            let most = limit - chosen.len();
            chosen.extend(self.held_for(project, codes, (most, until), &mut rooms)?);
        }
        let claimed = self.claim_all(chosen, worker)?;
        if !claimed.is_empty() {
            self.bump_heartbeat(worker)?;
        }
        for room in rooms.rooms() {
            if let Some(taken) = room.taken_after() {
                self.run(queries::TAKE_TOKENS, params![project, room.name, taken.to_json()])?;
            }
        }
        Ok(Answer::Claimed(claimed))
    }

    /// Held runs that this code has not refused, and runs that were held once and are due; by
    /// number, with their limits.
    fn held_for(
        &mut self,
        project: &str,
        codes: &Codes,
        (limit, until): (usize, Timestamp),
        rooms: &mut Rooms,
    ) -> Result<Vec<(i64, Option<Arc<str>>)>> {
        let now = self.now();
        let held = self.all_rows(queries::HELD_FOR_CODE, [project], |row| {
            let mut columns = Columns::of(row);
            columns.run_id()?;
            Ok((columns.int()?, columns.text()?, columns.text()?, columns.text()?, columns.time()?))
        })?;
        let mut chosen = Vec::new();
        for (no, workflow, key, refused_by, available_at) in held {
            if chosen.len() == limit {
                break;
            }
            if !transitions::is_due_when_held(available_at, until) {
                continue;
            }
            let is_new = |code: &Arc<str>| !refused_by.split(' ').any(|refused| *refused == **code);
            if codes.get(&workflow).is_some_and(is_new) && rooms.admit(&workflow, &key, now) {
                chosen.push((no, rooms.of(&workflow).map(|room| Arc::clone(&room.name))));
            }
        }
        Ok(chosen)
    }

    /// The earliest claimable suspect of these workflows for which there is room.
    fn first_suspect(
        &mut self,
        project: &str,
        workflows: &BTreeSet<&Arc<str>>,
        rooms: &Rooms,
    ) -> Result<Option<Candidate>> {
        self.first(
            queries::SUSPECTS,
            [project],
            |row| {
                let mut columns = Columns::of(row);
                let mut found = candidate(&mut columns, &Arc::default(), Order::Claims)?;
                found.workflow = columns.text()?;
                Ok(found)
            },
            |found| workflows.contains(&found.workflow) && rooms.has_room(&found.workflow, &found.key),
        )
    }

    /// Claims the runs with these numbers, each with its limit.
    fn claim_all(
        &mut self,
        chosen: Vec<(i64, Option<Arc<str>>)>,
        worker: &WorkerId,
    ) -> Result<Vec<ClaimedRun>> {
        let mut claimed = Vec::with_capacity(chosen.len());
        let mut together: BTreeMap<Option<Arc<str>>, Vec<i64>> = BTreeMap::new();
        let is_single = chosen.len() == 1;
        for (no, limit) in chosen {
            let Some(mut run) = self.one(queries::RUN_BY_NO, [no], |row| Columns::of(row).run())? else {
                continue;
            };
            let is_fresh = run.started_at.is_none();
            run.limit.clone_from(&limit);
            transitions::claim(&mut run, worker, self.now());
            if is_single || run.refused_by.is_some() {
                self.run(
                    queries::CLAIM_RUN,
                    params![no, run.token, run.worker, run.started_at, run.available_at, run.note, run.limit],
                )?;
            } else {
                together.entry(limit).or_default().push(no);
            }
            let journal = if is_fresh {
                Vec::new()
            } else {
                self.all_rows(queries::STEPS, [no], |row| Columns::of(row).step())?
            };
            claimed.push(ClaimedRun { run, journal, is_first: is_fresh });
        }
        for (limit, numbers) in together {
            self.run(queries::CLAIM_RUNS, params![json!(numbers).to_string(), worker, self.now(), limit])?;
        }
        Ok(claimed)
    }
}
