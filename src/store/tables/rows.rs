//! The rows and their indexes. Only this file changes an index.

use crate::calendar::Timestamp;
use crate::model::{
    Debounced, EventRecord, HookCall, LedgerLine, Limit, Origin, Peer, Run, RunId, RunState, ScheduleId,
    ScheduleStatus, SlotOutcome, StepRecord, StoredCalendar, Token, WorkerId, is_replaceable,
};
use crate::store::Answer;
use crate::store::limits::WorkflowRow;
use crate::store::tables::transitions::{StoredSchedule, phase};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

/// A map keyed by two texts. A lookup copies neither.
pub(in crate::store) struct Pairs<T>(BTreeMap<Arc<str>, BTreeMap<Arc<str>, T>>);

impl<T> Default for Pairs<T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<T: Default> Pairs<T> {
    pub fn get(&self, first: &str, second: &str) -> Option<&T> {
        self.0.get(first)?.get(second)
    }

    pub fn slot(&mut self, first: &Arc<str>, second: &Arc<str>) -> &mut T {
        if !self.0.contains_key(first) {
            self.0.insert(Arc::clone(first), BTreeMap::new());
        }
        let inner = self.0.get_mut(first).expect("inserted above");
        if !inner.contains_key(second) {
            inner.insert(Arc::clone(second), T::default());
        }
        inner.get_mut(second).expect("inserted above")
    }

    pub fn of(&self, first: &str) -> impl Iterator<Item = (&Arc<str>, &T)> {
        self.0.get(first).into_iter().flatten()
    }
}

/// How a claim was completed, kept to answer a repetition.
#[derive(Clone, Debug)]
pub(in crate::store) struct EndedClaim {
    pub token: Token,
    pub print: i64,
    pub answer: Answer,
}

/// A run and what only the store needs to know about it.
#[derive(Clone, Debug)]
pub(in crate::store) struct RunRow {
    pub run: Run,
    /// The order of creation.
    pub no: u64,
    /// Whether a child finished while the newest claim ran.
    pub child_ended: bool,
    /// The newest completion.
    pub ended: Option<EndedClaim>,
    /// The claim that was counted as interrupted last.
    pub interrupted_token: Option<Token>,
    /// Of a run that a debounced call created.
    pub debounced: Option<Debounced>,
}

/// A worker and its project.
#[derive(Clone, Debug)]
pub(in crate::store) struct WorkerRow {
    pub project: Arc<str>,
    /// Everything but `held_count`, which is counted.
    pub peer: Peer,
}

/// The steps of one run.
#[derive(Default)]
pub(in crate::store) struct Steps {
    pub records: Vec<StepRecord>,
    pub by_name: HashMap<Arc<str>, usize>,
}

/// Runs by a key, and by the order of creation within it.
type Ordered<K> = BTreeMap<(K, u64), RunId>;

/// Ledger lines by first slot and creation, each with its project.
type Lines = BTreeMap<(Timestamp, u64), (Arc<str>, LedgerLine)>;

/// Where each ledger line is, by last slot and creation.
type LinesByAge = BTreeMap<(Timestamp, u64), (ScheduleId, Timestamp)>;

/// What commands have changed, for a store that applies them to a part of its rows.
#[derive(Default)]
pub(in crate::store) struct Touched {
    pub schedules: BTreeSet<ScheduleId>,
    pub runs: BTreeSet<RunId>,
    /// In the order of recording; a step may occur several times.
    pub steps: Vec<(RunId, Arc<str>)>,
    /// Events that were added.
    pub events: Vec<(RunId, Arc<str>)>,
    /// Runs whose failed steps were deleted.
    pub retried: BTreeSet<RunId>,
    /// Runs whose payload a debounced call has replaced.
    pub replaced: BTreeSet<RunId>,
    pub ledger: Vec<(Arc<str>, ScheduleId, LedgerLine)>,
    /// Slots whose skips were undone: their lines are deleted before `ledger` is written.
    pub removed_skips: Vec<(ScheduleId, Timestamp)>,
    /// Hook calls, by id.
    pub hook_calls: BTreeSet<Arc<str>>,
    /// Hook calls whose run was interrupted at an instant before it had recorded a step. They may
    /// not be loaded.
    pub interrupted: Vec<(Arc<str>, Timestamp)>,
    pub workers: BTreeSet<WorkerId>,
    /// Those of `workers` that registered.
    pub registered: BTreeSet<WorkerId>,
    pub workflows: BTreeSet<(Arc<str>, Arc<str>)>,
    /// Limits, by project and name.
    pub limits: BTreeSet<(Arc<str>, Arc<str>)>,
    /// Workflows, by project, whose limit has changed: their unfinished runs follow.
    pub relimited: BTreeSet<(Arc<str>, Arc<str>)>,
}

/// All rows and their indexes.
#[derive(Default)]
pub(in crate::store) struct Tables {
    last_no: u64,
    /// Recorded only for a store that asks for it.
    pub touched: Option<Touched>,
    changed: bool,
    commits: u64,

    pub schedules: BTreeMap<ScheduleId, StoredSchedule>,
    pub schedule_by_key: Pairs<BTreeMap<Arc<str>, ScheduleId>>,
    pub schedules_of: BTreeMap<Arc<str>, BTreeSet<ScheduleId>>,
    pub owned: Pairs<BTreeSet<ScheduleId>>,
    pub due: Pairs<BTreeSet<(Timestamp, ScheduleId)>>,
    /// See [`StoredSchedule::finished_once`].
    pub finished_once: BTreeMap<Arc<str>, BTreeSet<(Timestamp, ScheduleId)>>,

    pub runs: BTreeMap<RunId, RunRow>,
    /// Claimable runs that are no suspects.
    pub claimable: Pairs<BTreeSet<(Timestamp, Option<Timestamp>, RunId)>>,
    /// Those of `claimable` that have a priority.
    pub with_priority: Pairs<BTreeSet<(Timestamp, Option<Timestamp>, RunId)>>,
    /// Unfinished runs that some code has refused and no worker holds.
    pub held_for_code: BTreeMap<Arc<str>, BTreeSet<RunId>>,
    /// Claimable suspects.
    pub suspects: Pairs<BTreeSet<(Timestamp, Option<Timestamp>, RunId)>>,
    /// Unfinished runs of each schedule, by phase and slot.
    pub unfinished: BTreeMap<ScheduleId, Ordered<(i64, Option<Timestamp>)>>,
    /// Runs of each schedule, by slot.
    pub by_slot: BTreeMap<ScheduleId, Ordered<Option<Timestamp>>>,
    pub held: BTreeMap<WorkerId, BTreeSet<RunId>>,
    pub asked_to_stop: BTreeMap<WorkerId, BTreeSet<RunId>>,
    pub children: BTreeMap<RunId, BTreeSet<RunId>>,
    pub by_idempotency_key: Pairs<BTreeMap<Arc<str>, RunId>>,
    /// By debounce key: the run that waits for further calls.
    pub debounced: Pairs<BTreeMap<Arc<str>, RunId>>,
    /// By the newest debounced call.
    pub by_debounce_call: BTreeMap<RunId, RunId>,
    pub created: BTreeMap<Arc<str>, Ordered<Timestamp>>,
    pub finished: BTreeMap<Arc<str>, Ordered<Timestamp>>,

    pub steps: BTreeMap<RunId, Steps>,
    /// Of a run, by name.
    pub events: BTreeMap<RunId, BTreeMap<Arc<str>, EventRecord>>,
    /// The runs that have an event with this idempotency key and name.
    pub events_by_key: Pairs<BTreeSet<RunId>>,
    /// Runs that have accepted events that are not among `events`, by
    /// [`NewEvent::shared_key`](crate::model::NewEvent::shared_key).
    pub accepted: Vec<([Arc<str>; 5], RunId)>,
    pub ledger: BTreeMap<ScheduleId, Lines>,
    pub ledger_by_age: BTreeMap<Arc<str>, LinesByAge>,
    pub hook_calls: BTreeMap<Arc<str>, HookCall>,

    pub workers: BTreeMap<WorkerId, WorkerRow>,
    pub workflows: Pairs<WorkflowRow>,
    pub limits: Pairs<Option<Limit>>,
    /// Stored calendars, by project and name; `None` for deleted ones.
    pub calendars: Pairs<Option<StoredCalendar>>,
    /// Numbers of running runs by limit, and then by key.
    pub claimed_under: Pairs<BTreeMap<Arc<str>, u32>>,
}

/// Removes an entry of a map of sets, and the set when it becomes empty.
macro_rules! drop_entry {
    ($map:expr, $key:expr, $entry:expr) => {
        if let Some(set) = $map.get_mut($key) {
            set.remove($entry);
            if set.is_empty() {
                $map.remove($key);
            }
        }
    };
}

impl Tables {
    /// Ends a commit: raises the change mark if anything changed.
    pub fn close_commit(&mut self) {
        if std::mem::take(&mut self.changed) {
            self.commits += 1;
        }
    }

    pub fn change_mark(&self) -> u64 {
        self.commits
    }

    /// Records that something was written, and what.
    pub fn touch(&mut self, note: impl FnOnce(&mut Touched)) {
        self.changed = true;
        if let Some(touched) = &mut self.touched {
            note(touched);
        }
    }

    /// Records that something was written that only this store has in its tables.
    pub fn note_change(&mut self) {
        self.changed = true;
    }

    /// Gives rows that are created from now on numbers above this one.
    #[cfg(feature = "postgres")]
    pub fn count_from(&mut self, no: u64) {
        self.last_no = no;
    }

    fn next_no(&mut self) -> u64 {
        self.last_no += 1;
        self.last_no
    }

    pub fn schedule(&self, project: &str, id: &ScheduleId) -> Option<&StoredSchedule> {
        self.schedules.get(id).filter(|row| &*row.schedule.project == project)
    }

    pub fn run(&self, project: &str, id: &RunId) -> Option<&RunRow> {
        self.runs.get(id).filter(|row| &*row.run.project == project)
    }

    /// The run, if it is running under this token.
    pub fn claimed_row(&self, id: &RunId, token: Token) -> Option<&RunRow> {
        self.runs.get(id).filter(|row| row.run.state == RunState::Running && row.run.token == token)
    }

    /// Stores a schedule, replacing the row with its id.
    pub fn store_schedule(&mut self, row: StoredSchedule) {
        self.remove_schedule(&row.schedule.id.clone());
        let schedule = &row.schedule;
        let id = schedule.id.clone();
        self.schedule_by_key
            .slot(&schedule.project, &schedule.workflow)
            .insert(Arc::clone(&schedule.key), id.clone());
        self.schedules_of.entry(Arc::clone(&schedule.project)).or_default().insert(id.clone());
        if let Some(owner) = &schedule.owner {
            self.owned.slot(&schedule.project, owner).insert(id.clone());
        }
        if let (ScheduleStatus::Active, Some(slot)) = (schedule.status, schedule.next_slot) {
            self.due.slot(&schedule.project, &schedule.workflow).insert((slot, id.clone()));
        }
        if let Some(slot) = row.finished_once() {
            self.finished_once.entry(Arc::clone(&schedule.project)).or_default().insert((slot, id.clone()));
        }
        self.touch(|touched| _ = touched.schedules.insert(id.clone()));
        self.schedules.insert(id, row);
    }

    pub fn remove_schedule(&mut self, id: &ScheduleId) -> Option<StoredSchedule> {
        let row = self.schedules.remove(id)?;
        let schedule = &row.schedule;
        self.schedule_by_key.slot(&schedule.project, &schedule.workflow).remove(&schedule.key);
        drop_entry!(self.schedules_of, &schedule.project, id);
        if let Some(owner) = &schedule.owner {
            self.owned.slot(&schedule.project, owner).remove(id);
        }
        if let Some(slot) = schedule.next_slot {
            self.due.slot(&schedule.project, &schedule.workflow).remove(&(slot, id.clone()));
        }
        if let Some(slot) = row.finished_once() {
            drop_entry!(self.finished_once, &schedule.project, &(slot, id.clone()));
        }
        self.touch(|touched| _ = touched.schedules.insert(id.clone()));
        Some(row)
    }

    /// Creates a run.
    pub fn create_run(&mut self, run: Run) {
        let no = self.next_no();
        self.count_beyond(&run, 1);
        self.add_run(RunRow {
            run,
            no,
            child_ended: false,
            ended: None,
            interrupted_token: None,
            debounced: None,
        });
    }

    /// Stores a run that a debounced call creates.
    pub fn create_debounced_run(&mut self, run: Run, debounced: Debounced) {
        let no = self.next_no();
        self.add_run(RunRow {
            run,
            no,
            child_ended: false,
            ended: None,
            interrupted_token: None,
            debounced: Some(debounced),
        });
    }

    /// Adds a run row that does not exist yet.
    pub fn add_run(&mut self, row: RunRow) {
        let run = &row.run;
        if let Some(schedule) = &run.schedule_id {
            self.by_slot.entry(schedule.clone()).or_default().insert((run.slot, row.no), run.id.clone());
        }
        if let Some(parent) = &run.parent {
            self.children.entry(parent.clone()).or_default().insert(run.id.clone());
        }
        if let Some(key) = &run.idempotency_key {
            self.by_idempotency_key.slot(&run.project, &run.workflow).insert(Arc::clone(key), run.id.clone());
        }
        self.created
            .entry(Arc::clone(&run.project))
            .or_default()
            .insert((run.created_at, row.no), run.id.clone());
        self.index_run(&row);
        self.touch(|touched| _ = touched.runs.insert(row.run.id.clone()));
        self.runs.insert(row.run.id.clone(), row);
    }

    /// Edits a run, and its index entries with it.
    pub fn edit_run<T>(&mut self, id: &RunId, edit: impl FnOnce(&mut RunRow) -> T) -> T {
        let mut row = self.runs.remove(id).expect("only runs that exist are edited");
        self.unindex_run(&row);
        let answer = edit(&mut row);
        self.index_run(&row);
        self.runs.insert(id.clone(), row);
        self.touch(|touched| _ = touched.runs.insert(id.clone()));
        answer
    }

    /// Deletes a run, its steps, and its events.
    pub fn delete_run(&mut self, id: &RunId) {
        let Some(row) = self.runs.remove(id) else { return };
        self.unindex_run(&row);
        let run = &row.run;
        // A run that is pruned has finished, and stays counted.
        if run.finished_at.is_none() {
            self.count_beyond(run, -1);
        }
        if let Some(schedule) = &run.schedule_id {
            drop_entry!(self.by_slot, schedule, &(run.slot, row.no));
        }
        if let Some(parent) = &run.parent {
            drop_entry!(self.children, parent, id);
        }
        if let Some(key) = &run.idempotency_key {
            self.by_idempotency_key.slot(&run.project, &run.workflow).remove(key);
        }
        drop_entry!(self.created, &run.project, &(run.created_at, row.no));
        self.steps.remove(id);
        for event in self.events.remove(id).into_iter().flat_map(BTreeMap::into_values) {
            if let Some(key) = &event.idempotency_key {
                self.events_by_key.slot(key, &event.name).remove(id);
            }
        }
        self.touch(|touched| _ = touched.runs.insert(id.clone()));
    }

    /// Counts the slot of a run that `run_count` doesn't have. The databases do the same.
    fn count_beyond(&mut self, run: &Run, count: i64) {
        if run.origin == Origin::Backfill
            && run.slot.is_some()
            && let Some(row) = run.schedule_id.as_ref().and_then(|id| self.schedules.get_mut(id))
        {
            row.schedule.counts.ran_beyond += count;
        }
    }

    fn index_run(&mut self, row: &RunRow) {
        let run = &row.run;
        let id = || run.id.clone();
        if let Some(debounced) = &row.debounced {
            self.by_debounce_call.insert(debounced.call.clone(), id());
            if is_replaceable(run) {
                let keys = self.debounced.slot(&run.project, &run.workflow);
                keys.insert(Arc::clone(&debounced.key), id());
            }
        }
        match run.state {
            RunState::Queued | RunState::Waiting if !run.cancel_requested => {
                if run.refused_by.is_some() {
                    self.held_for_code.entry(Arc::clone(&run.project)).or_default().insert(id());
                }
                let entry = (run.available_at, run.slot, id());
                let set = if run.is_suspect() { &mut self.suspects } else { &mut self.claimable };
                if run.refused_by.is_none() {
                    set.slot(&run.project, &run.workflow).insert(entry.clone());
                    if run.priority > 0 && !run.is_suspect() {
                        self.with_priority.slot(&run.project, &run.workflow).insert(entry);
                    }
                }
            }
            RunState::Running => {
                if let Some(limit) = &run.limit {
                    let by_key = self.claimed_under.slot(&run.project, limit);
                    *by_key.entry(Arc::clone(&run.key)).or_default() += 1;
                }
                if let Some(worker) = &run.worker {
                    self.held.entry(worker.clone()).or_default().insert(id());
                    if run.cancel_requested {
                        self.asked_to_stop.entry(worker.clone()).or_default().insert(id());
                    }
                }
            }
            _ => {}
        }
        if let (false, Some(schedule)) = (run.state.is_finished(), &run.schedule_id) {
            let key = ((phase(run.state), run.slot), row.no);
            self.unfinished.entry(schedule.clone()).or_default().insert(key, id());
        }
        if let Some(at) = run.finished_at {
            self.finished.entry(Arc::clone(&run.project)).or_default().insert((at, row.no), id());
        }
    }

    fn unindex_run(&mut self, row: &RunRow) {
        let run = &row.run;
        let id = &run.id;
        if let Some(debounced) = &row.debounced {
            self.by_debounce_call.remove(&debounced.call);
            if is_replaceable(run) {
                self.debounced.slot(&run.project, &run.workflow).remove(&debounced.key);
            }
        }
        match run.state {
            RunState::Queued | RunState::Waiting => {
                drop_entry!(self.held_for_code, &run.project, id);
                let entry = (run.available_at, run.slot, id.clone());
                let set = if run.is_suspect() { &mut self.suspects } else { &mut self.claimable };
                set.slot(&run.project, &run.workflow).remove(&entry);
                if run.priority > 0 {
                    self.with_priority.slot(&run.project, &run.workflow).remove(&entry);
                }
            }
            RunState::Running => {
                if let Some(limit) = &run.limit {
                    let by_key = self.claimed_under.slot(&run.project, limit);
                    if let Some(count) = by_key.get_mut(&run.key) {
                        *count -= 1;
                        if *count == 0 {
                            by_key.remove(&run.key);
                        }
                    }
                }
                if let Some(worker) = &run.worker {
                    drop_entry!(self.held, worker, id);
                    drop_entry!(self.asked_to_stop, worker, id);
                }
            }
            _ => {}
        }
        if let Some(schedule) = &run.schedule_id {
            drop_entry!(self.unfinished, schedule, &((phase(run.state), run.slot), row.no));
        }
        if let Some(at) = run.finished_at {
            drop_entry!(self.finished, &run.project, &(at, row.no));
        }
    }

    /// Adds a new line to the ledger.
    pub fn add_ledger(&mut self, project: &Arc<str>, schedule: &ScheduleId, line: &LedgerLine) {
        if let Some(row) = self.schedules.get_mut(schedule) {
            row.schedule.counts.add(line);
        }
        self.store_line(project, schedule, line);
        self.touch(|touched| {
            touched.ledger.push((Arc::clone(project), schedule.clone(), line.clone()));
        });
    }

    /// Stores a line that the ledger has.
    pub fn store_line(&mut self, project: &Arc<str>, schedule: &ScheduleId, line: &LedgerLine) {
        let no = self.next_no();
        self.ledger
            .entry(schedule.clone())
            .or_default()
            .insert((line.from, no), (Arc::clone(project), line.clone()));
        self.ledger_by_age
            .entry(Arc::clone(project))
            .or_default()
            .insert((line.until, no), (schedule.clone(), line.from));
    }

    /// Deletes the line of a slot that was skipped on request.
    pub fn remove_skip(&mut self, schedule: &ScheduleId, slot: Timestamp) {
        let is_skip =
            |line: &LedgerLine| (line.from, line.until, line.outcome) == (slot, slot, SlotOutcome::Skipped);
        let lines = self.ledger.get(schedule).into_iter().flat_map(|lines| lines.range((slot, 0)..));
        let skips = lines.take_while(|((from, _), _)| *from == slot);
        let skips = skips.filter(|(_, (_, line))| is_skip(line));
        let count = skips.clone().map(|(_, (_, line))| line.count).sum();
        let found: Vec<_> = skips.map(|((_, no), (project, _))| (Arc::clone(project), *no)).collect();
        // A store that applies commands to a part of its rows doesn't load these lines.
        let count = if self.touched.is_some() { 1 } else { count };
        for (project, no) in found {
            self.delete_ledger(&project, slot, no);
        }
        if let Some(row) = self.schedules.get_mut(schedule) {
            let counts = &mut row.schedule.counts;
            counts.skipped = counts.skipped.saturating_sub(count);
        }
        self.touch(|touched| {
            touched.ledger.retain(|(_, id, line)| id != schedule || !is_skip(line));
            touched.removed_skips.push((schedule.clone(), slot));
        });
    }

    pub fn delete_ledger(&mut self, project: &Arc<str>, until: Timestamp, no: u64) {
        let Some(lines) = self.ledger_by_age.get_mut(project) else { return };
        let Some((schedule, from)) = lines.remove(&(until, no)) else { return };
        drop_entry!(self.ledger, &schedule, &(from, no));
        self.changed = true;
    }
}
