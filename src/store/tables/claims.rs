//! Claiming runs, within the room that limits leave.

use super::rows::{Pairs, Tables};
use crate::calendar::Timestamp;
use crate::model::{ClaimedRun, Run, RunId, WorkerId};
use crate::store::limits::Rooms;
use crate::store::tables::transitions;
use crate::store::{Answer, Codes, Rejection, Suspects};
use std::collections::BTreeSet;
use std::sync::Arc;

/// A position in the order in which runs are claimed.
type Position = (Timestamp, Option<Timestamp>, RunId);

impl Tables {
    /// The runs that a claim takes, in order.
    pub(super) fn available(
        &self,
        project: &str,
        workflows: &[Arc<str>],
        limit: usize,
        (until, suspects): (Timestamp, Suspects),
        rooms: &mut Rooms,
    ) -> Vec<RunId> {
        let workflows: BTreeSet<&Arc<str>> = workflows.iter().collect();
        let position = |entry: &Position| {
            let priority = self.runs[&entry.2].run.priority;
            (Run::rank(entry.0, priority), entry.clone())
        };
        let has_room = |entry: &Position, rooms: &Rooms| {
            let run = &self.runs[&entry.2].run;
            rooms.has_room(&run.workflow, &run.key)
        };
        let first_suspect = workflows
            .iter()
            .filter_map(|workflow| {
                self.suspects.get(project, workflow)?.iter().find(|entry| has_room(entry, rooms))
            })
            .filter(|(at, ..)| *at <= until)
            .min();
        let mut available = BTreeSet::new();
        for workflow in &workflows {
            let of = |set: &Pairs<BTreeSet<Position>>, most| -> Vec<_> {
                let set = set.get(project, workflow).into_iter().flatten();
                set.take_while(|(at, ..)| *at <= until).take(most).map(position).collect()
            };
            match rooms.of(workflow) {
                Some(room) if room.left() == 0 => {}
                Some(_) => available.extend(of(&self.claimable, usize::MAX)),
                None => {
                    available.extend(of(&self.claimable, limit));
                    available.extend(of(&self.with_priority, usize::MAX));
                }
            }
        }
        if let Some(suspect) = first_suspect.map(position) {
            let is_first = available.iter().find(|(_, entry)| has_room(entry, rooms));
            let is_first = is_first.is_none_or(|first| suspect < *first);
            match suspects {
                Suspects::Alone if is_first => available = BTreeSet::from([suspect]),
                Suspects::Since(since) if suspect.1.0 <= since => _ = available.insert(suspect),
                Suspects::Alone | Suspects::Since(_) | Suspects::Never => {}
            }
        }
        let mut chosen = Vec::new();
        for (_, (at, _, id)) in available {
            if chosen.len() == limit {
                break;
            }
            let run = &self.runs[&id].run;
            if rooms.admit(&run.workflow, &run.key, at) {
                chosen.push(id);
            }
        }
        chosen
    }

    /// Held runs that this code has not refused, and runs that were held once and are due.
    pub(super) fn held_for(
        &self,
        project: &str,
        codes: Option<&Codes>,
        (limit, until): (usize, Timestamp),
        (rooms, now): (&mut Rooms, Timestamp),
    ) -> Vec<RunId> {
        let Some(codes) = codes else { return Vec::new() };
        let held = self.held_for_code.get(project).into_iter().flatten();
        held.filter(|id| {
            let run = &self.runs[*id].run;
            codes.get(&run.workflow).is_some_and(|code| transitions::is_claimable_when_held(run, code, until))
                && rooms.admit(&run.workflow, &run.key, now)
        })
        .take(limit)
        .cloned()
        .collect()
    }

    pub(super) fn claim_runs(
        &mut self,
        project: &Arc<str>,
        worker: &WorkerId,
        available: Vec<RunId>,
        rooms: &Rooms,
        now: Timestamp,
    ) -> Result<Answer, Rejection> {
        if !self.workers.contains_key(worker) {
            return Err(Rejection::WorkerGone);
        }
        let mut claimed = Vec::with_capacity(available.len());
        for id in available {
            let limit = rooms.of(&self.runs[&id].run.workflow).map(|room| Arc::clone(&room.name));
            let (run, is_fresh) = self.edit_run(&id, |row| {
                let is_fresh = row.run.started_at.is_none();
                row.run.limit = limit;
                transitions::claim(&mut row.run, worker, now);
                row.child_ended = false;
                (row.run.clone(), is_fresh)
            });
            let journal = if is_fresh { Vec::new() } else { self.steps_of(&id) };
            claimed.push(ClaimedRun { run, journal, is_first: is_fresh });
        }
        if !claimed.is_empty() {
            self.bump_heartbeat(worker, now)?;
        }
        for room in rooms.rooms() {
            if let Some(taken) = room.taken_after() {
                self.edit_limit(project, &room.name, |limit| limit.taken = taken);
            }
        }
        Ok(Answer::Claimed(claimed))
    }
}
