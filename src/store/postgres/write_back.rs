//! Writes what the commands of a group changed: a few statements, whatever the number of rows.

use super::fetch::Part;
use super::pipeline::Statement;
use super::rows::{Args, count_to_sql, parameters};
use crate::calendar::Timestamp;
use crate::model::text::{origin_word, outcome_word, state_word, status_word, step_word};
use crate::model::{Run, RunId, ScheduleId, WorkerId};
use crate::store::Answer;
use crate::store::memory::{EndedClaim, RunRow, Tables, Touched, WorkerRow};
use crate::store::transitions::StoredSchedule;
use std::collections::BTreeSet;

/// The statements that bring the database up to the part. None where nothing changed.
pub(super) fn changes(part: &Part) -> Vec<Statement<'_>> {
    let Some(touched) = &part.tables.touched else { return Vec::new() };
    let mut save = WriteBack { part, touched, statements: Vec::new() };
    save.runs_gone();
    save.schedules();
    save.workers();
    save.workflows();
    save.runs();
    save.steps();
    save.ledger();
    save.statements
}

struct WriteBack<'p> {
    part: &'p Part,
    touched: &'p Touched,
    statements: Vec<Statement<'p>>,
}

impl<'p> WriteBack<'p> {
    fn add(&mut self, sql: String, args: Args<'p>) {
        self.statements.push(Statement::Query(sql, args));
    }

    fn tables(&self) -> &'p Tables {
        &self.part.tables
    }

    /// The stored row of a run, if it is still the same.
    fn stored_no(&self, id: &RunId) -> Option<u64> {
        self.part.stored_runs.get(id).copied()
    }

    fn runs_gone(&mut self) {
        let gone: Vec<i64> = self
            .touched
            .runs
            .iter()
            .filter_map(|id| {
                let stored = self.stored_no(id)?;
                let now = self.tables().runs.get(id).map(|row| row.no);
                (now != Some(stored)).then_some(count_to_sql(stored))
            })
            .collect();
        if !gone.is_empty() {
            let mut args = Args::default();
            let runs = args.ints(gone.iter().copied());
            self.add(format!("DELETE FROM @step WHERE run = ANY(${runs})"), args);
            let mut args = Args::default();
            let runs = args.ints(gone);
            self.add(format!("DELETE FROM @run WHERE no = ANY(${runs})"), args);
        }
    }

    fn schedules(&mut self) {
        let tables = self.tables();
        let is_stored = |id: &ScheduleId| self.part.stored_schedules.contains(id);
        let touched = || self.touched.schedules.iter();
        let gone: Vec<&str> = touched()
            .filter(|id| is_stored(id) && !tables.schedules.contains_key(*id))
            .map(ScheduleId::as_str)
            .collect();
        let changed: Vec<&StoredSchedule> =
            touched().filter(|id| is_stored(id)).filter_map(|id| tables.schedules.get(id)).collect();
        let mut new: Vec<&StoredSchedule> =
            touched().filter(|id| !is_stored(id)).filter_map(|id| tables.schedules.get(id)).collect();
        // Two who create the same ones wait for each other here, not crosswise.
        new.sort_by(|a, b| {
            let key = |row: &StoredSchedule| {
                let schedule = &row.schedule;
                (schedule.project.clone(), schedule.key.clone(), schedule.workflow.clone())
            };
            key(a).cmp(&key(b))
        });
        if !gone.is_empty() {
            let mut args = Args::default();
            let ids = args.texts(gone);
            self.add(format!("DELETE FROM @schedule WHERE id = ANY(${ids})"), args);
        }
        if !changed.is_empty() {
            let mut args = Args::default();
            let rows = schedule_rows(&changed, &mut args);
            let sets: Vec<_> =
                SCHEDULE_COLUMNS[1..].iter().map(|name| format!("{name} = w.{name}")).collect();
            self.add(
                format!("UPDATE @schedule s SET {} FROM {rows} WHERE s.id = w.id", sets.join(", ")),
                args,
            );
        }
        if !new.is_empty() {
            let mut args = Args::default();
            let rows = schedule_rows(&new, &mut args);
            let names = SCHEDULE_COLUMNS.join(", ");
            self.add(format!("INSERT INTO @schedule ({names}) SELECT {names} FROM {rows}"), args);
        }
    }

    fn workers(&mut self) {
        let tables = self.tables();
        let rows = |ids: &'p BTreeSet<WorkerId>| ids.iter().filter_map(|id| tables.workers.get(id));
        let gone: Vec<&str> = self
            .touched
            .workers
            .iter()
            .filter(|id| !tables.workers.contains_key(*id))
            .map(WorkerId::as_str)
            .collect();
        if !gone.is_empty() {
            let mut args = Args::default();
            let ids = args.texts(gone);
            self.add(format!("DELETE FROM @worker WHERE id = ANY(${ids})"), args);
        }
        for row in rows(&self.touched.registered) {
            let (sql, args) = register(row);
            self.add(sql, args);
        }
        let beaten: Vec<&WorkerRow> = rows(&self.touched.workers)
            .filter(|row| !self.touched.registered.contains(&row.peer.id))
            .collect();
        if !beaten.is_empty() {
            let mut args = Args::default();
            let ids = args.texts(beaten.iter().map(|row| row.peer.id.as_str()));
            let heartbeats = args.ints(beaten.iter().map(|row| row.peer.heartbeat));
            let times = args.ints(beaten.iter().map(|row| row.peer.beat_at.as_micros()));
            let sql = format!(
                "UPDATE @worker w SET beat = b.beat, beat_at = b.beat_at \
                 FROM unnest(${ids}, ${heartbeats}, ${times}) AS b (id, beat, beat_at) WHERE w.id = b.id"
            );
            self.add(sql, args);
        }
    }

    fn workflows(&mut self) {
        let known: Vec<(&str, &str, bool)> = self
            .touched
            .workflows
            .iter()
            .filter_map(|(project, id)| Some((&**project, &**id, *self.tables().workflows.get(project, id)?)))
            .collect();
        if known.is_empty() {
            return;
        }
        let mut args = Args::default();
        let projects = args.texts(known.iter().map(|(project, _, _)| *project));
        let ids = args.texts(known.iter().map(|(_, id, _)| *id));
        let flags = args.flags(known.iter().map(|(_, _, schedulable)| *schedulable));
        let sql = format!(
            "INSERT INTO @workflow AS f (project, id, schedulable) \
             SELECT * FROM unnest(${projects}, ${ids}, ${flags}) ON CONFLICT (project, id) \
             DO UPDATE SET schedulable = excluded.schedulable WHERE f.schedulable <> excluded.schedulable"
        );
        self.add(sql, args);
    }

    fn runs(&mut self) {
        let rows = || self.touched.runs.iter().filter_map(|id| self.tables().runs.get(id));
        let is_stored = |row: &&RunRow| self.stored_no(&row.run.id) == Some(row.no);
        let changed: Vec<&RunRow> = rows().filter(is_stored).collect();
        let mut new: Vec<&RunRow> = rows().filter(|row| !is_stored(row)).collect();
        new.sort_by_key(|row| row.no);
        if !changed.is_empty() {
            let mut args = Args::default();
            let sql = update_runs(&changed, &mut args);
            self.add(sql, args);
        }
        if !new.is_empty() {
            let mut args = Args::default();
            let sql = insert_runs(&new, &mut args);
            self.add(sql, args);
            self.reconsider_kept(&new);
        }
    }

    /// A schedule has a new run: what the sweep left among its newest may be no longer.
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
        let ids = args.texts(schedules);
        let sql = format!(
            "WITH s AS (UPDATE @schedule SET has_kept_run = false WHERE id = ANY(${ids}) RETURNING id) \
             UPDATE @run r SET kept = 0 FROM s WHERE r.schedule_id = s.id AND r.kept > 0"
        );
        self.add(sql, args);
    }

    fn steps(&mut self) {
        let mut seen = BTreeSet::new();
        let mut kept = Vec::new();
        let mut gone = Vec::new();
        for (run, name) in &self.touched.steps {
            if !self.tables().runs.contains_key(run) || !seen.insert((run, name)) {
                continue;
            }
            let steps = self.tables().steps.get(run);
            match steps.and_then(|steps| Some(&steps.records[*steps.by_name.get(name)?])) {
                Some(step) => kept.push((run.as_str(), step)),
                None => gone.push((run.as_str(), &**name)),
            }
        }
        if !gone.is_empty() {
            let mut args = Args::default();
            let runs = args.texts(gone.iter().map(|(run, _)| *run));
            let names = args.texts(gone.iter().map(|(_, name)| *name));
            let sql = format!(
                "DELETE FROM @step t USING unnest(${runs}, ${names}) AS w (run, name), @run r \
                 WHERE r.id = w.run AND t.run = r.no AND t.name = w.name"
            );
            self.add(sql, args);
        }
        if !self.touched.retried.is_empty() {
            let mut args = Args::default();
            let runs = args.texts(self.touched.retried.iter().map(RunId::as_str));
            let sql = format!(
                "DELETE FROM @step t USING @run r WHERE r.id = ANY(${runs}) AND t.run = r.no AND t.state = 'failed'"
            );
            self.add(sql, args);
        }
        if !kept.is_empty() {
            let mut args = Args::default();
            let sql = record_steps(&kept, &mut args);
            self.add(sql, args);
        }
    }

    fn ledger(&mut self) {
        let lines = &self.touched.ledger;
        if lines.is_empty() {
            return;
        }
        let mut args = Args::default();
        let projects = args.texts(lines.iter().map(|(project, _, _)| &**project));
        let schedules = args.texts(lines.iter().map(|(_, schedule, _)| schedule.as_str()));
        let from = args.ints(lines.iter().map(|(_, _, line)| line.from.as_micros()));
        let until = args.ints(lines.iter().map(|(_, _, line)| line.until.as_micros()));
        let counts = args.ints(lines.iter().map(|(_, _, line)| count_to_sql(line.count)));
        let outcomes = args.texts(lines.iter().map(|(_, _, line)| outcome_word(line.outcome)));
        let reasons = args.texts(lines.iter().map(|(_, _, line)| &*line.reason));
        let sql = format!(
            "INSERT INTO @ledger (project, schedule_id, from_slot, until_slot, slot_count, fate, reason) \
             SELECT w.a, w.b, w.c, w.d, w.e, w.f, w.g \
             FROM unnest(${projects}, ${schedules}, ${from}, ${until}, ${counts}, ${outcomes}, ${reasons}) \
             WITH ORDINALITY AS w (a, b, c, d, e, f, g, place) ORDER BY w.place"
        );
        self.add(sql, args);
    }
}

/// All columns that a schedule is written with, its id first.
const SCHEDULE_COLUMNS: [&str; 20] = [
    "id",
    "project",
    "workflow",
    "key",
    "owner",
    "cadence",
    "spec",
    "input",
    "status",
    "note",
    "next_slot",
    "last_slot",
    "run_count",
    "failure_count",
    "attended_from",
    "created_at",
    "updated_at",
    "revision",
    "declaration",
    "settled",
];

/// The schedules as rows of a table `w`.
fn schedule_rows<'p>(rows: &[&'p StoredSchedule], args: &mut Args<'p>) -> String {
    let all = || rows.iter().map(|row| &row.schedule);
    let micros = |time: Option<Timestamp>| time.map(Timestamp::as_micros);
    let numbers = [
        args.texts(all().map(|schedule| schedule.id.as_str())),
        args.texts(all().map(|schedule| &*schedule.project)),
        args.texts(all().map(|schedule| &*schedule.workflow)),
        args.texts(all().map(|schedule| &*schedule.key)),
        args.optional_texts(all().map(|schedule| schedule.owner.as_deref())),
        args.texts(rows.iter().map(|row| &*row.compiled_spec)),
        args.texts(all().map(|schedule| &*schedule.spec)),
        args.optional_texts(all().map(|schedule| schedule.input.as_deref())),
        args.texts(all().map(|schedule| status_word(schedule.status))),
        args.optional_texts(all().map(|schedule| schedule.note.as_deref())),
        args.optional_ints(all().map(|schedule| micros(schedule.next_slot))),
        args.optional_ints(all().map(|schedule| micros(schedule.last_slot))),
        args.ints(all().map(|schedule| count_to_sql(schedule.run_count))),
        args.ints(all().map(|schedule| i64::from(schedule.failure_count))),
        args.ints(all().map(|schedule| schedule.attended_from.as_micros())),
        args.ints(all().map(|schedule| schedule.created_at.as_micros())),
        args.ints(all().map(|schedule| schedule.updated_at.as_micros())),
        args.ints(all().map(|schedule| schedule.revision)),
        args.optional_texts(all().map(|schedule| schedule.declaration.as_deref())),
        args.optional_texts(all().map(|schedule| schedule.settled.as_deref())),
    ];
    table(&numbers, &SCHEDULE_COLUMNS)
}

/// Parameters as columns of a table `w`.
fn table(numbers: &[usize], names: &[&str]) -> String {
    format!("unnest({}) AS w ({})", parameters(numbers), names.join(", "))
}

/// Registers a worker; one that repeats itself keeps its beat.
fn register(row: &WorkerRow) -> (String, Args<'_>) {
    let mut args = Args::default();
    let peer = &row.peer;
    let numbers = [
        args.text(peer.id.as_str()),
        args.text(&row.project),
        args.text(&peer.app),
        args.text(&peer.host),
        args.int(peer.pid),
        args.text(&peer.process_mark),
        args.text(&peer.about),
        args.int(peer.heartbeat),
        args.int(peer.entered_at.as_micros()),
        args.int(peer.beat_at.as_micros()),
        args.texts(peer.workflows.iter().map(|id| &**id)),
        args.optional_text(peer.declares.as_deref()),
    ];
    let sql = format!(
        "INSERT INTO @worker (id, project, app, host, pid, process_mark, about, beat, entered_at, beat_at, workflows, \
         declares) \
         VALUES ({}) ON CONFLICT (id) DO UPDATE SET project = excluded.project, app = excluded.app, \
         host = excluded.host, pid = excluded.pid, process_mark = excluded.process_mark, about = excluded.about, \
         beat = excluded.beat, entered_at = excluded.entered_at, beat_at = excluded.beat_at, \
         workflows = excluded.workflows, declares = excluded.declares",
        parameters(&numbers)
    );
    (sql, args)
}

/// What may change of a run, its number first.
const CHANGING_COLUMNS: [&str; 21] = [
    "no",
    "state",
    "attempt",
    "token",
    "worker",
    "available_at",
    "started_at",
    "finished_at",
    "cancel_requested",
    "result",
    "error",
    "child_ended",
    "ended_token",
    "ended_print",
    "ended_state",
    "ended_released",
    "interruptions",
    "interrupted_token",
    "interrupted_alone",
    "note",
    "refused_by",
];

fn update_runs<'p>(rows: &[&'p RunRow], args: &mut Args<'p>) -> String {
    let all = || rows.iter().map(|row| &row.run);
    let micros = |time: Option<Timestamp>| time.map(Timestamp::as_micros);
    let ended = || rows.iter().map(|row| row.ended.as_ref());
    let answer = |ended: &EndedClaim| match &ended.answer {
        Answer::Ended { state, released } => Some((state_word(*state), *released)),
        _ => None,
    };
    let numbers = [
        args.ints(rows.iter().map(|row| count_to_sql(row.no))),
        args.texts(all().map(|run| state_word(run.state))),
        args.ints(all().map(|run| i64::from(run.attempt))),
        args.ints(all().map(|run| run.token.0)),
        args.optional_texts(all().map(|run| run.worker.as_ref().map(WorkerId::as_str))),
        args.ints(all().map(|run| run.available_at.as_micros())),
        args.optional_ints(all().map(|run| micros(run.started_at))),
        args.optional_ints(all().map(|run| micros(run.finished_at))),
        args.flags(all().map(|run| run.cancel_requested)),
        args.optional_texts(all().map(|run| run.result.as_deref())),
        args.optional_texts(all().map(|run| run.error.as_deref())),
        args.flags(rows.iter().map(|row| row.child_ended)),
        args.optional_ints(ended().map(|ended| ended.map(|ended| ended.token.0))),
        args.optional_ints(ended().map(|ended| ended.map(|ended| ended.print))),
        args.optional_texts(ended().map(|ended| ended.and_then(answer).map(|(state, _)| state))),
        args.optional_flags(ended().map(|ended| ended.and_then(answer).map(|(_, released)| released))),
        args.ints(all().map(|run| i64::from(run.interruptions))),
        args.optional_ints(rows.iter().map(|row| row.interrupted_token.map(|token| token.0))),
        args.flags(all().map(|run| run.interrupted_alone)),
        args.optional_texts(all().map(|run| run.note.as_deref())),
        args.optional_texts(all().map(|run| run.refused_by.as_deref())),
    ];
    let sets: Vec<_> = CHANGING_COLUMNS[1..].iter().map(|name| format!("{name} = w.{name}")).collect();
    format!(
        "UPDATE @run r SET {}, kept = 0 FROM {} WHERE r.no = w.no",
        sets.join(", "),
        table(&numbers, &CHANGING_COLUMNS)
    )
}

/// What a run is created with.
pub(super) const NEW_COLUMNS: [&str; 23] = [
    "id",
    "project",
    "workflow",
    "key",
    "schedule_id",
    "slot",
    "last_slot",
    "upcoming",
    "timezone",
    "origin",
    "payload",
    "input",
    "state",
    "attempt",
    "token",
    "worker",
    "available_at",
    "created_at",
    "started_at",
    "finished_at",
    "cancel_requested",
    "parent",
    "idempotency_key",
];

/// Runs that are new, column by column.
pub(super) fn new_run_args<'p>(runs: &[&'p Run], args: &mut Args<'p>) -> Vec<usize> {
    let all = || runs.iter().copied();
    let micros = |time: Option<Timestamp>| time.map(Timestamp::as_micros);
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
    ]
}

fn insert_runs<'p>(rows: &[&'p RunRow], args: &mut Args<'p>) -> String {
    let runs: Vec<_> = rows.iter().map(|row| &row.run).collect();
    let mut numbers = new_run_args(&runs, args);
    numbers.push(args.flags(rows.iter().map(|row| row.child_ended)));
    numbers.push(args.ints(runs.iter().map(|run| i64::from(run.interruptions))));
    numbers.push(args.optional_ints(rows.iter().map(|row| row.interrupted_token.map(|token| token.0))));
    numbers.push(args.flags(runs.iter().map(|run| run.interrupted_alone)));
    let mut names = NEW_COLUMNS.to_vec();
    names.extend(["child_ended", "interruptions", "interrupted_token", "interrupted_alone"]);
    let columns = names.join(", ");
    names.push("place");
    // Numbered in the order of their creation.
    let rows = table(&numbers, &names).replacen(") AS w", ") WITH ORDINALITY AS w", 1);
    format!("INSERT INTO @run ({columns}) SELECT {columns} FROM {rows} ORDER BY place")
}

/// What a step is written with, besides its run.
pub(super) const STEP_COLUMNS: [&str; 9] =
    ["name", "state", "attempt", "run_attempt", "wakes_at", "started_at", "finished_at", "result", "error"];

/// The runs' ids and the steps, column by column.
pub(super) fn step_args<'p>(
    steps: &[(&'p str, &'p crate::model::StepRecord)],
    args: &mut Args<'p>,
) -> Vec<usize> {
    let all = || steps.iter().map(|(_, step)| *step);
    vec![
        args.texts(steps.iter().map(|(run, _)| *run)),
        args.texts(all().map(|step| &*step.name)),
        args.texts(all().map(|step| step_word(step.state))),
        args.ints(all().map(|step| i64::from(step.attempt))),
        args.ints(all().map(|step| i64::from(step.run_attempt))),
        args.optional_ints(all().map(|step| step.wakes_at.map(Timestamp::as_micros))),
        args.ints(all().map(|step| step.started_at.as_micros())),
        args.ints(all().map(|step| step.finished_at.as_micros())),
        args.optional_texts(all().map(|step| step.result.as_deref())),
        args.optional_texts(all().map(|step| step.error.as_deref())),
    ]
}

/// What a recording replaces of one that is there: all but its name and when it was begun.
pub(super) fn step_sets() -> String {
    let changing = STEP_COLUMNS[1..].iter().filter(|name| **name != "started_at");
    changing.map(|name| format!("{name} = excluded.{name}")).collect::<Vec<_>>().join(", ")
}

fn record_steps<'p>(steps: &[(&'p str, &'p crate::model::StepRecord)], args: &mut Args<'p>) -> String {
    let numbers = step_args(steps, args);
    let mut names = vec!["run"];
    names.extend(STEP_COLUMNS);
    names.push("place");
    let rows = table(&numbers, &names).replacen(") AS w", ") WITH ORDINALITY AS w", 1);
    let values: Vec<_> = STEP_COLUMNS.iter().map(|name| format!("w.{name}")).collect();
    format!(
        "INSERT INTO @step AS t (run, {}) SELECT r.no, {} FROM {rows} JOIN @run r ON r.id = w.run \
         ORDER BY w.place ON CONFLICT (run, name) DO UPDATE SET {} WHERE t.state <> 'done'",
        STEP_COLUMNS.join(", "),
        values.join(", "),
        step_sets()
    )
}
