//! Writes what the commands of a group changed: a few statements, whatever the number of rows.

use super::events;
use super::fetch::Part;
use super::pipeline::Statement;
use super::queries::{self, Sql};
use super::rows::{Args, count_to_sql};
use crate::calendar::Timestamp;
use crate::model::text::{origin_word, outcome_word, state_word, status_word, step_word};
use crate::model::{Run, RunId, Schedule, ScheduleId, StepRecord, WorkerId};
use crate::store::Answer;
use crate::store::limits::WorkflowRow;
use crate::store::tables::transitions::StoredSchedule;
use crate::store::tables::{EndedClaim, RunRow, Tables, Touched, WorkerRow};
use std::collections::BTreeSet;

/// How many rows one statement inserts. The server inserts them while the next ones are being
/// encoded, and writes arrays that are much larger to a file before it reads them.
///
/// COPY would be faster by a fifth. But no timeout of the server ends one whose client has stopped:
/// its locks would stay, and workers would wait for them before they start runs.
const INSERTED_MAX: usize = 2_000;

/// The statements that bring the database up to date with `part`. None if nothing changed.
pub(super) fn changes(part: &Part) -> Vec<Statement<'_>> {
    let Some(touched) = &part.tables.touched else { return Vec::new() };
    let mut changes = WriteBack { part, touched, statements: Vec::new() };
    changes.deleted_runs();
    changes.schedules();
    changes.workers();
    changes.workflows();
    changes.limits();
    changes.runs();
    changes.steps();
    changes.statements.extend(events::insert_events(&part.tables, touched));
    changes.ledger();
    changes.hook_calls();
    changes.followed_limits();
    changes.statements
}

/// The statements that insert these schedules.
pub(super) fn insertions<'p>(rows: impl Iterator<Item = &'p StoredSchedule>) -> Vec<Statement<'p>> {
    let mut rows: Vec<&StoredSchedule> = rows.collect();
    // In one order, so that two transactions that create the same schedules don't deadlock.
    rows.sort_by(|a, b| a.schedule.unique_key().cmp(&b.schedule.unique_key()));
    let insert =
        |rows: &[&'p StoredSchedule]| Statement::Query(queries::INSERT_SCHEDULES, schedule_args(rows));
    rows.chunks(INSERTED_MAX).map(insert).collect()
}

pub(super) struct WriteBack<'p> {
    pub part: &'p Part,
    pub touched: &'p Touched,
    statements: Vec<Statement<'p>>,
}

impl<'p> WriteBack<'p> {
    pub fn add(&mut self, sql: Sql, args: Args<'p>) {
        self.statements.push(Statement::Query(sql, args));
    }

    pub fn tables(&self) -> &'p Tables {
        &self.part.tables
    }

    /// The number of a run's row in the database. `None` if it has none.
    fn stored_no(&self, id: &RunId) -> Option<u64> {
        self.part.stored_runs.get(id).copied()
    }

    fn deleted_runs(&mut self) {
        let deleted: Vec<i64> = self
            .touched
            .runs
            .iter()
            .filter_map(|id| {
                let stored = self.stored_no(id)?;
                let now = self.tables().runs.get(id).map(|row| row.no);
                (now != Some(stored)).then_some(count_to_sql(stored))
            })
            .collect();
        if !deleted.is_empty() {
            let mut args = Args::default();
            args.ints(deleted.iter().copied());
            self.add(queries::DELETE_STEPS_OF_RUNS, args);
            let mut args = Args::default();
            args.ints(deleted);
            self.add(queries::DELETE_RUNS, args);
        }
    }

    fn schedules(&mut self) {
        let tables = self.tables();
        let is_stored = |id: &ScheduleId| self.part.stored_schedules.contains_key(id);
        let touched = || self.touched.schedules.iter();
        let deleted: Vec<&str> = touched()
            .filter(|id| is_stored(id) && !tables.schedules.contains_key(*id))
            .map(ScheduleId::as_str)
            .collect();
        let (advanced, changed): (Vec<&StoredSchedule>, Vec<&StoredSchedule>) = touched()
            .filter_map(|id| Some((self.part.stored_schedules.get(id)?, tables.schedules.get(id)?)))
            .fold(Default::default(), |(mut advanced, mut changed), (stored, row)| {
                if has_same_definition(stored, row) { &mut advanced } else { &mut changed }.push(row);
                (advanced, changed)
            });
        let new = touched().filter(|id| !is_stored(id)).filter_map(|id| tables.schedules.get(id));
        if !deleted.is_empty() {
            let mut args = Args::default();
            args.texts(deleted);
            self.add(queries::DELETE_SCHEDULES, args);
        }
        if !advanced.is_empty() {
            self.add(queries::ADVANCE_SCHEDULES, advanced_schedule_args(&advanced));
        }
        if !changed.is_empty() {
            self.add(queries::UPDATE_SCHEDULES, schedule_args(&changed));
        }
        self.statements.extend(insertions(new));
    }

    fn workers(&mut self) {
        let tables = self.tables();
        let rows = |ids: &'p BTreeSet<WorkerId>| ids.iter().filter_map(|id| tables.workers.get(id));
        let deleted: Vec<&str> = self
            .touched
            .workers
            .iter()
            .filter(|id| !tables.workers.contains_key(*id))
            .map(WorkerId::as_str)
            .collect();
        if !deleted.is_empty() {
            let mut args = Args::default();
            args.texts(deleted);
            self.add(queries::DELETE_WORKERS, args);
        }
        for row in rows(&self.touched.registered) {
            self.add(queries::REGISTER_WORKER, worker_args(row));
        }
        let alive: Vec<&WorkerRow> = rows(&self.touched.workers)
            .filter(|row| !self.touched.registered.contains(&row.peer.id))
            .collect();
        if !alive.is_empty() {
            let mut args = Args::default();
            args.texts(alive.iter().map(|row| row.peer.id.as_str()));
            args.ints(alive.iter().map(|row| row.peer.heartbeat));
            args.ints(alive.iter().map(|row| row.peer.beat_at.as_micros()));
            self.add(queries::BUMP_HEARTBEATS, args);
        }
    }

    fn workflows(&mut self) {
        let known: Vec<(&str, &str, &WorkflowRow)> = self
            .touched
            .workflows
            .iter()
            .filter_map(|(project, id)| Some((&**project, &**id, self.tables().workflows.get(project, id)?)))
            .collect();
        if known.is_empty() {
            return;
        }
        let mut args = Args::default();
        args.texts(known.iter().map(|(project, ..)| *project));
        args.texts(known.iter().map(|(_, id, _)| *id));
        args.flags(known.iter().map(|(.., row)| row.schedulable));
        args.optional_texts(known.iter().map(|(.., row)| row.rules.limit.as_deref()));
        args.ints(known.iter().map(|(.., row)| i64::from(row.rules.priority)));
        args.optional_texts(known.iter().map(|(.., row)| row.declaration.as_deref()));
        args.shared_texts(known.iter().map(|(.., row)| row.rules.hooks.to_json()));
        self.add(queries::UPSERT_WORKFLOWS, args);
    }

    fn runs(&mut self) {
        let rows = || self.touched.runs.iter().filter_map(|id| self.tables().runs.get(id));
        let is_stored = |row: &&RunRow| self.stored_no(&row.run.id) == Some(row.no);
        let changed: Vec<&RunRow> = rows().filter(is_stored).collect();
        let mut new: Vec<&RunRow> = rows().filter(|row| !is_stored(row)).collect();
        new.sort_by_key(|row| row.no);
        if !changed.is_empty() {
            self.add(queries::UPDATE_RUNS, changed_run_args(&changed));
            self.replaced_payloads(&changed);
        }
        if !new.is_empty() {
            self.add(queries::INSERT_RUNS, created_run_args(&new));
            self.reconsider_kept(&new);
        }
    }

    /// Payloads and priorities that debounced calls have replaced. Those of other runs stay as they
    /// are stored.
    fn replaced_payloads(&mut self, changed: &[&'p RunRow]) {
        let replaced: Vec<&RunRow> =
            changed.iter().copied().filter(|row| self.touched.replaced.contains(&row.run.id)).collect();
        if replaced.is_empty() {
            return;
        }
        let call = |row: &'p RunRow| row.debounced.as_ref().map(|debounced| debounced.call.as_str());
        let mut args = Args::default();
        args.ints(replaced.iter().map(|row| count_to_sql(row.no)));
        args.optional_texts(replaced.iter().map(|row| row.run.payload.as_deref()));
        args.optional_texts(replaced.iter().copied().map(call));
        args.ints(replaced.iter().map(|row| i64::from(row.run.priority)));
        self.add(queries::REPLACE_DEBOUNCED, args);
    }

    /// A schedule with a new run may have kept runs that are no longer among its newest.
    fn reconsider_kept(&mut self, new: &[&'p RunRow]) {
        let schedules: BTreeSet<&str> = new
            .iter()
            .filter_map(|row| row.run.schedule_id.as_ref())
            .filter(|id| self.part.with_kept_runs.contains(*id))
            .map(ScheduleId::as_str)
            .collect();
        if schedules.is_empty() {
            return;
        }
        let mut args = Args::default();
        args.texts(schedules);
        self.add(queries::RECONSIDER_RUNS, args);
    }

    fn steps(&mut self) {
        let mut seen = BTreeSet::new();
        let mut recorded = Vec::new();
        let mut deleted = Vec::new();
        for (run, name) in &self.touched.steps {
            if !self.tables().runs.contains_key(run) || !seen.insert((run, name)) {
                continue;
            }
            let steps = self.tables().steps.get(run);
            match steps.and_then(|steps| Some(&steps.records[*steps.by_name.get(name)?])) {
                Some(step) => recorded.push((run.as_str(), step)),
                None => deleted.push((run.as_str(), &**name)),
            }
        }
        if !deleted.is_empty() {
            let mut args = Args::default();
            args.texts(deleted.iter().map(|(run, _)| *run));
            args.texts(deleted.iter().map(|(_, name)| *name));
            self.add(queries::DELETE_STEPS, args);
        }
        if !self.touched.retried.is_empty() {
            let mut args = Args::default();
            args.texts(self.touched.retried.iter().map(RunId::as_str));
            self.add(queries::DELETE_FAILED_STEPS, args);
        }
        if !recorded.is_empty() {
            let mut args = Args::default();
            step_args(&recorded, &mut args);
            self.add(queries::RECORD_STEPS, args);
        }
    }

    fn ledger(&mut self) {
        let removed = &self.touched.removed_skips;
        if !removed.is_empty() {
            for statement in [queries::UNDO_SKIPS, queries::DELETE_SKIPS] {
                let mut args = Args::default();
                args.texts(removed.iter().map(|(schedule, _)| schedule.as_str()));
                args.ints(removed.iter().map(|(_, slot)| slot.as_micros()));
                self.add(statement, args);
            }
        }
        let lines = &self.touched.ledger;
        if lines.is_empty() {
            return;
        }
        let mut args = Args::default();
        args.texts(lines.iter().map(|(project, _, _)| &**project));
        args.texts(lines.iter().map(|(_, schedule, _)| schedule.as_str()));
        args.ints(lines.iter().map(|(_, _, line)| line.from.as_micros()));
        args.ints(lines.iter().map(|(_, _, line)| line.until.as_micros()));
        args.ints(lines.iter().map(|(_, _, line)| count_to_sql(line.count)));
        args.texts(lines.iter().map(|(_, _, line)| outcome_word(line.outcome)));
        args.texts(lines.iter().map(|(_, _, line)| &*line.reason));
        self.add(queries::INSERT_LEDGER, args);
    }
}

fn micros(time: Option<Timestamp>) -> Option<i64> {
    time.map(Timestamp::as_micros)
}

/// Whether what users define of a schedule is unchanged, so that only the columns of
/// [`advanced_schedule_args`] may differ. Names every field, so that a new one is not forgotten.
fn has_same_definition(stored: &StoredSchedule, row: &StoredSchedule) -> bool {
    let Schedule {
        id,
        project,
        workflow,
        key,
        owner,
        spec,
        input,
        tags,
        declaration,
        created_at,
        status: _,
        note: _,
        next_slot: _,
        last_slot: _,
        run_count: _,
        failure_count: _,
        attended_from: _,
        updated_at: _,
        revision: _,
        settled: _,
        counts: _, // kept by triggers
    } = &row.schedule;
    let old = &stored.schedule;
    stored.compiled_spec == row.compiled_spec
        && (&old.id, &old.project, &old.workflow, &old.key) == (id, project, workflow, key)
        && (&old.owner, &old.spec, &old.input) == (owner, spec, input)
        && (&old.tags, &old.declaration, &old.created_at) == (tags, declaration, created_at)
}

/// The columns of schedules that a fire or a pause may change, the id first.
fn advanced_schedule_args<'p>(rows: &[&'p StoredSchedule]) -> Args<'p> {
    let mut args = Args::default();
    let all = || rows.iter().map(|row| &row.schedule);
    args.texts(all().map(|schedule| schedule.id.as_str()));
    args.texts(all().map(|schedule| status_word(schedule.status)));
    args.optional_texts(all().map(|schedule| schedule.note.as_deref()));
    args.optional_ints(all().map(|schedule| micros(schedule.next_slot)));
    args.optional_ints(all().map(|schedule| micros(schedule.last_slot)));
    args.ints(all().map(|schedule| count_to_sql(schedule.run_count)));
    args.ints(all().map(|schedule| i64::from(schedule.failure_count)));
    args.ints(all().map(|schedule| schedule.attended_from.as_micros()));
    args.ints(all().map(|schedule| schedule.updated_at.as_micros()));
    args.ints(all().map(|schedule| schedule.revision));
    args.optional_texts(all().map(|schedule| schedule.settled.as_deref()));
    args
}

/// All columns of schedules, the id first.
fn schedule_args<'p>(rows: &[&'p StoredSchedule]) -> Args<'p> {
    let mut args = Args::default();
    let all = || rows.iter().map(|row| &row.schedule);
    args.texts(all().map(|schedule| schedule.id.as_str()));
    args.texts(all().map(|schedule| &*schedule.project));
    args.texts(all().map(|schedule| &*schedule.workflow));
    args.texts(all().map(|schedule| &*schedule.key));
    args.optional_texts(all().map(|schedule| schedule.owner.as_deref()));
    args.texts(rows.iter().map(|row| &*row.compiled_spec));
    args.texts(all().map(|schedule| &**schedule.spec.text()));
    args.optional_texts(all().map(|schedule| schedule.input.as_deref()));
    args.texts(all().map(|schedule| status_word(schedule.status)));
    args.optional_texts(all().map(|schedule| schedule.note.as_deref()));
    args.optional_ints(all().map(|schedule| micros(schedule.next_slot)));
    args.optional_ints(all().map(|schedule| micros(schedule.last_slot)));
    args.ints(all().map(|schedule| count_to_sql(schedule.run_count)));
    args.ints(all().map(|schedule| i64::from(schedule.failure_count)));
    args.ints(all().map(|schedule| schedule.attended_from.as_micros()));
    args.ints(all().map(|schedule| schedule.created_at.as_micros()));
    args.ints(all().map(|schedule| schedule.updated_at.as_micros()));
    args.ints(all().map(|schedule| schedule.revision));
    args.optional_texts(all().map(|schedule| schedule.declaration.as_deref()));
    args.optional_texts(all().map(|schedule| schedule.settled.as_deref()));
    args.optional_texts(all().map(|schedule| schedule.tags.as_deref()));
    args
}

/// All columns of a worker.
fn worker_args(row: &WorkerRow) -> Args<'_> {
    let mut args = Args::default();
    let peer = &row.peer;
    args.text(peer.id.as_str());
    args.text(&row.project);
    args.text(&peer.app);
    args.text(&peer.host);
    args.int(peer.pid);
    args.text(&peer.process_mark);
    args.text(&peer.about);
    args.int(peer.heartbeat);
    args.int(peer.entered_at.as_micros());
    args.int(peer.beat_at.as_micros());
    args.texts(peer.workflows.iter().map(|id| &**id));
    args.optional_text(peer.declares.as_deref());
    args
}

/// The columns of runs that may change, the number first.
fn changed_run_args<'p>(rows: &[&'p RunRow]) -> Args<'p> {
    let mut args = Args::default();
    let all = || rows.iter().map(|row| &row.run);
    let ended = || rows.iter().map(|row| row.ended.as_ref());
    let answer = |ended: &EndedClaim| match &ended.answer {
        Answer::Ended { state, released } => Some((state_word(*state), *released)),
        _ => None,
    };
    args.ints(rows.iter().map(|row| count_to_sql(row.no)));
    args.texts(all().map(|run| state_word(run.state)));
    args.ints(all().map(|run| i64::from(run.attempt)));
    args.ints(all().map(|run| run.token.0));
    args.optional_texts(all().map(|run| run.worker.as_ref().map(WorkerId::as_str)));
    args.ints(all().map(|run| run.available_at.as_micros()));
    args.optional_ints(all().map(|run| micros(run.started_at)));
    args.optional_ints(all().map(|run| micros(run.finished_at)));
    args.flags(all().map(|run| run.cancel_requested));
    args.optional_texts(all().map(|run| run.result.as_deref()));
    args.optional_texts(all().map(|run| run.error.as_deref()));
    args.flags(rows.iter().map(|row| row.child_ended));
    args.optional_ints(ended().map(|ended| ended.map(|ended| ended.token.0)));
    args.optional_ints(ended().map(|ended| ended.map(|ended| ended.print)));
    args.optional_texts(ended().map(|ended| ended.and_then(answer).map(|(state, _)| state)));
    args.optional_flags(ended().map(|ended| ended.and_then(answer).map(|(_, released)| released)));
    args.ints(all().map(|run| i64::from(run.interruptions)));
    args.optional_ints(rows.iter().map(|row| row.interrupted_token.map(|token| token.0)));
    args.flags(all().map(|run| run.interrupted_alone));
    args.optional_texts(all().map(|run| run.note.as_deref()));
    args.optional_texts(all().map(|run| run.progress.as_deref()));
    args.optional_texts(all().map(|run| run.refused_by.as_deref()));
    args.optional_texts(all().map(|run| run.limit.as_deref()));
    args
}

/// The columns that every new run is written with; the numbers of the parameters.
pub(super) fn new_run_args<'p>(runs: &[&'p Run], args: &mut Args<'p>) -> Vec<usize> {
    let all = || runs.iter().copied();
    let schedule = |run: &'p Run| run.schedule_id.as_ref().map(ScheduleId::as_str);
    vec![
        args.texts(all().map(|run| run.id.as_str())),
        args.texts(all().map(|run| &*run.project)),
        args.texts(all().map(|run| &*run.workflow)),
        args.texts(all().map(|run| &*run.key)),
        args.optional_texts(all().map(schedule)),
        args.optional_ints(all().map(|run| micros(run.slot))),
        args.optional_ints(all().map(|run| micros(run.last_slot))),
        args.optional_ints(all().map(|run| micros(run.upcoming))),
        args.texts(all().map(|run| &*run.timezone)),
        args.texts(all().map(|run| origin_word(run.origin))),
        args.optional_texts(all().map(|run| run.payload.as_deref())),
        args.optional_texts(all().map(|run| run.input.as_deref())),
        args.texts(all().map(|run| state_word(run.state))),
        args.ints(all().map(|run| i64::from(run.attempt))),
        args.ints(all().map(|run| run.token.0)),
        args.optional_texts(all().map(|run| run.worker.as_ref().map(WorkerId::as_str))),
        args.ints(all().map(|run| run.available_at.as_micros())),
        args.ints(all().map(|run| run.created_at.as_micros())),
        args.optional_ints(all().map(|run| micros(run.started_at))),
        args.optional_ints(all().map(|run| micros(run.finished_at))),
        args.flags(all().map(|run| run.cancel_requested)),
        args.optional_texts(all().map(|run| run.parent.as_ref().map(RunId::as_str))),
        args.optional_texts(all().map(|run| run.idempotency_key.as_deref())),
        args.optional_texts(all().map(|run| run.limit.as_deref())),
        args.ints(all().map(|run| i64::from(run.priority))),
    ]
}

/// All columns that may be set in runs that are created.
fn created_run_args<'p>(rows: &[&'p RunRow]) -> Args<'p> {
    let mut args = Args::default();
    let runs: Vec<_> = rows.iter().map(|row| &row.run).collect();
    new_run_args(&runs, &mut args);
    args.flags(rows.iter().map(|row| row.child_ended));
    args.ints(runs.iter().map(|run| i64::from(run.interruptions)));
    args.optional_ints(rows.iter().map(|row| row.interrupted_token.map(|token| token.0)));
    args.flags(runs.iter().map(|run| run.interrupted_alone));
    let debounced = || rows.iter().map(|row| row.debounced.as_ref());
    args.optional_texts(debounced().map(|debounced| debounced.map(|it| &*it.key)));
    args.optional_ints(debounced().map(|debounced| debounced.map(|it| it.until.as_micros())));
    args.optional_texts(debounced().map(|debounced| debounced.map(|it| it.call.as_str())));
    args
}

/// The ids of the runs and the columns of their steps; the numbers of the parameters.
pub(super) fn step_args<'p>(steps: &[(&'p str, &'p StepRecord)], args: &mut Args<'p>) -> Vec<usize> {
    let all = || steps.iter().map(|(_, step)| *step);
    vec![
        args.texts(steps.iter().map(|(run, _)| *run)),
        args.texts(all().map(|step| &*step.name)),
        args.texts(all().map(|step| step_word(step.state))),
        args.ints(all().map(|step| i64::from(step.attempt))),
        args.ints(all().map(|step| i64::from(step.run_attempt))),
        args.optional_ints(all().map(|step| micros(step.wakes_at))),
        args.ints(all().map(|step| step.started_at.as_micros())),
        args.ints(all().map(|step| step.finished_at.as_micros())),
        args.optional_texts(all().map(|step| step.result.as_deref())),
        args.optional_texts(all().map(|step| step.error.as_deref())),
    ]
}
