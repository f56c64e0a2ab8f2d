//! Reads the rows that a group of commands needs, locked, in one trip.
//!
//! Locks are taken in one order, workers, schedules, runs, each by id, so that two batches rarely meet crosswise; where
//! they do, one is told so by the server and is done again. Each statement sees what was committed when it began. So what
//! is read after a schedule was locked is up to date: all who change which of its runs are unfinished lock it first.

use super::needs::{Key, Needs};
use super::pipeline::Statement;
use super::rows::{Args, Columns, LIGHT_RUN, RUN_ROW, SCHEDULE, limit_to_sql};
use crate::calendar::Timestamp;
use crate::model::{Fate, LedgerLine, Peer, RunId, ScheduleId, StepRecord, StepState, WorkerId};
use crate::store::memory::{Tables, Touched, WorkerRow};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use tokio_postgres::{Error, Row};

/// Numbers of rows in memory start here: above all that a database hands out.
pub(super) const FIRST_NEW: u64 = 1 << 62;

/// What a statement brings.
#[derive(Copy, Clone)]
enum Brings {
    Workers,
    Schedules,
    Runs,
    Steps,
    RunsWithSteps,
    NewestLines,
}

/// The statements that bring what is needed.
pub(super) struct Load<'c> {
    pub statements: Vec<Statement<'c>>,
    brings: Vec<Brings>,
}

/// A part of the tables, and what of it is in the database.
pub(super) struct Part {
    pub tables: Tables,
    /// Numbers of stored runs.
    pub stored_runs: HashMap<RunId, u64>,
    pub stored_schedules: HashSet<ScheduleId>,
    /// Schedules of which the sweep has laid runs aside.
    pub with_kept_runs: HashSet<ScheduleId>,
}

impl<'c> Load<'c> {
    pub fn of(needs: &Needs<'c>) -> Self {
        let mut load = Self { statements: Vec::new(), brings: Vec::new() };
        load.add(Brings::Workers, workers(needs));
        load.add(Brings::Schedules, schedules(needs));
        load.add(Brings::Runs, runs(needs));
        load.add(Brings::Steps, steps(needs));
        load.add(Brings::RunsWithSteps, runs_with_steps(needs));
        load.add(Brings::NewestLines, newest_lines(needs));
        load
    }

    fn add(&mut self, brings: Brings, statement: Option<Statement<'c>>) {
        if let Some(statement) = statement {
            self.statements.push(statement);
            self.brings.push(brings);
        }
    }

    /// Puts the answers together.
    pub fn part(&self, answers: &[Vec<Row>]) -> Result<Part, Error> {
        let mut part = Part {
            tables: Tables::default(),
            stored_runs: HashMap::new(),
            stored_schedules: HashSet::new(),
            with_kept_runs: HashSet::new(),
        };
        for (brings, rows) in self.brings.iter().zip(answers) {
            for row in rows {
                part.take(*brings, &mut Columns::of(row))?;
            }
        }
        part.tables.count_from(FIRST_NEW);
        part.tables.touched = Some(Touched::default());
        Ok(part)
    }
}

impl Part {
    fn take(&mut self, brings: Brings, columns: &mut Columns<'_>) -> Result<(), Error> {
        let tables = &mut self.tables;
        match brings {
            Brings::Workers => {
                let row = worker(columns)?;
                tables.workers.insert(row.peer.id.clone(), row);
            }
            Brings::Schedules => {
                let row = columns.stored_schedule()?;
                if columns.flag()? {
                    self.with_kept_runs.insert(row.schedule.id.clone());
                }
                self.stored_schedules.insert(row.schedule.id.clone());
                tables.store_schedule(row);
            }
            Brings::Runs => {
                let row = columns.run_row()?;
                self.stored_runs.insert(row.run.id.clone(), row.no);
                tables.add_run(row);
            }
            Brings::Steps => {
                let run = columns.run_id()?;
                let (name, state) = (columns.text()?, columns.word()?.unwrap_or(StepState::Retrying));
                add_step(tables, run, name, state);
            }
            Brings::RunsWithSteps => {
                let run = columns.run_id()?;
                // That there is one is all that is asked.
                if !tables.steps.contains_key(&run) {
                    add_step(tables, run, Arc::default(), StepState::Done);
                }
            }
            Brings::NewestLines => {
                let (schedule, project) = (columns.schedule_id()?, columns.text()?);
                let (from, until) = (columns.time()?, columns.time()?);
                let fate = Fate::Missed;
                let line = LedgerLine { from, until, count: 1, fate, reason: Arc::default() };
                tables.add_ledger(&project, &schedule, &line);
            }
        }
        Ok(())
    }
}

/// A step as far as its state goes: nothing else of it is looked at.
fn add_step(tables: &mut Tables, run: RunId, name: Arc<str>, state: StepState) {
    let never = Timestamp::from_micros(0);
    let steps = tables.steps.entry(run).or_default();
    steps.by_name.insert(Arc::clone(&name), steps.records.len());
    steps.records.push(StepRecord {
        name,
        state,
        attempt: 0,
        run_attempt: 0,
        result: None,
        error: None,
        wakes_at: None,
        started_at: never,
        finished_at: never,
    });
}

fn worker(columns: &mut Columns<'_>) -> Result<WorkerRow, Error> {
    let id = columns.worker_id()?;
    let project = columns.text()?;
    let peer = peer(id, columns)?;
    Ok(WorkerRow { project, peer })
}

/// A worker as others see it, from the columns behind its id and project.
pub(super) fn peer(id: WorkerId, columns: &mut Columns<'_>) -> Result<Peer, Error> {
    Ok(Peer {
        id,
        app: columns.text()?,
        host: columns.text()?,
        pid: columns.int()?,
        process_mark: columns.text()?,
        about: columns.text()?,
        beat: columns.int()?,
        entered_at: columns.time()?,
        beat_at: columns.time()?,
        workflows: columns.texts()?,
        held_count: 0,
    })
}

/// Columns of a worker behind its id.
pub(super) const WORKER: &str =
    "w.project, w.app, w.host, w.pid, w.process_mark, w.about, w.beat, w.entered_at, w.beat_at, w.workflows";

fn workers<'c>(needs: &Needs<'c>) -> Option<Statement<'c>> {
    if needs.workers.is_empty() {
        return None;
    }
    let mut args = Args::default();
    let ids = args.texts(needs.workers.iter().copied());
    let sql =
        format!("SELECT w.id, {WORKER} FROM @worker w WHERE w.id = ANY(${ids}) ORDER BY w.id FOR UPDATE");
    Some(Statement::Query(sql, args))
}

fn schedules<'c>(needs: &Needs<'c>) -> Option<Statement<'c>> {
    let mut args = Args::default();
    let tree = tree(needs, &mut args);
    let mut ids = Vec::new();
    add_ids(&mut ids, needs.schedules.iter().copied(), &mut args);
    ids.extend(edited_by_key(needs, &mut args));
    ids.extend(edited_by_owner(needs, &mut args));
    let of_runs: Vec<&str> = needs.ended.union(&needs.retried).copied().collect();
    if !of_runs.is_empty() {
        let runs = args.texts(of_runs);
        ids.push(format!("SELECT r.schedule_id FROM @run r WHERE r.id = ANY(${runs})"));
    }
    ids.extend(held(needs, "r.schedule_id", &mut args));
    if tree.is_some() {
        ids.push("SELECT tree.schedule_id FROM tree".to_owned());
    }
    if ids.is_empty() {
        return None;
    }
    let sql = format!(
        "{} SELECT {SCHEDULE}, s.cadence, s.has_kept_run FROM @schedule s WHERE s.id IN ({}) ORDER BY s.id FOR UPDATE",
        tree.unwrap_or_default(),
        ids.join(" UNION ALL ")
    );
    Some(Statement::Query(sql, args))
}

fn add_ids<'c>(parts: &mut Vec<String>, ids: impl Iterator<Item = &'c str>, args: &mut Args<'c>) {
    let ids: Vec<&str> = ids.collect();
    if !ids.is_empty() {
        parts.push(format!("SELECT unnest(${})", args.texts(ids)));
    }
}

fn add_keys<'c>(keys: &[Key<'c>], args: &mut Args<'c>) -> String {
    let projects = args.texts(keys.iter().map(|(project, _, _)| *project));
    let workflows = args.texts(keys.iter().map(|(_, workflow, _)| *workflow));
    let keys = args.texts(keys.iter().map(|(_, _, key)| *key));
    format!("unnest(${projects}, ${workflows}, ${keys}) AS w (project, workflow, key)")
}

fn edited_by_key<'c>(needs: &Needs<'c>, args: &mut Args<'c>) -> Option<String> {
    (!needs.keys.is_empty()).then(|| {
        format!(
            "SELECT k.id FROM {} JOIN @schedule k ON k.project = w.project AND k.workflow = w.workflow AND k.key = w.key",
            add_keys(&needs.keys, args)
        )
    })
}

fn edited_by_owner<'c>(needs: &Needs<'c>, args: &mut Args<'c>) -> Option<String> {
    (!needs.owners.is_empty()).then(|| {
        let projects = args.texts(needs.owners.iter().map(|(project, _)| *project));
        let apps = args.texts(needs.owners.iter().map(|(_, app)| *app));
        format!(
            "SELECT o.id FROM unnest(${projects}, ${apps}) AS w (project, app) \
             JOIN @schedule o ON o.project = w.project AND o.owner = w.app"
        )
    })
}

/// Something of the runs that leaving workers hold.
fn held<'c>(needs: &Needs<'c>, what: &str, args: &mut Args<'c>) -> Option<String> {
    (!needs.left.is_empty()).then(|| {
        let workers = args.texts(needs.left.iter().copied());
        format!("SELECT {what} FROM @run r WHERE r.worker = ANY(${workers}) AND r.state = 'running'")
    })
}

/// Runs that are cancelled, and the unfinished ones below them.
fn tree<'c>(needs: &Needs<'c>, args: &mut Args<'c>) -> Option<String> {
    let mut roots = Vec::new();
    if !needs.cancelled.is_empty() {
        roots.push(format!("r.id = ANY(${})", args.texts(needs.cancelled.iter().copied())));
    }
    if !needs.stopped.is_empty() {
        let schedules = args.texts(needs.stopped.iter().copied());
        roots.push(format!("r.schedule_id = ANY(${schedules}) AND r.finished_at IS NULL"));
    }
    (!roots.is_empty()).then(|| {
        let roots: Vec<_> = roots
            .iter()
            .map(|root| format!("SELECT r.id, r.schedule_id, r.parent FROM @run r WHERE {root}"))
            .collect();
        format!(
            "WITH RECURSIVE tree AS ({} UNION SELECT c.id, c.schedule_id, c.parent FROM tree t CROSS JOIN LATERAL \
             (SELECT r.id, r.schedule_id, r.parent FROM @run r WHERE r.parent = t.id AND r.finished_at IS NULL OFFSET 0) c)",
            roots.join(" UNION ")
        )
    })
}

/// Schedules that are edited.
fn edited<'c>(needs: &Needs<'c>, args: &mut Args<'c>) -> Vec<String> {
    let mut ids = Vec::new();
    add_ids(&mut ids, needs.edited.iter().copied(), args);
    ids.extend(edited_by_key(needs, args));
    ids.extend(edited_by_owner(needs, args));
    if !needs.pausing.is_empty() {
        let runs = args.texts(needs.pausing.iter().copied());
        ids.push(format!("SELECT r.schedule_id FROM @run r WHERE r.id = ANY(${runs})"));
    }
    ids
}

fn runs<'c>(needs: &Needs<'c>) -> Option<Statement<'c>> {
    let mut args = Args::default();
    let mut ids = Vec::new();
    let tree = tree(needs, &mut args);
    let named = needs.runs.iter().chain(&needs.retried).chain(&needs.ended).copied();
    add_ids(&mut ids, named, &mut args);
    ids.extend(parents_of_ended(needs, &mut args));
    ids.extend(held(needs, "r.id", &mut args));
    ids.extend(held(needs, "r.parent", &mut args));
    if tree.is_some() {
        ids.push("SELECT tree.id FROM tree".to_owned());
        ids.push("SELECT tree.parent FROM tree".to_owned());
    }
    if !needs.idempotency_keys.is_empty() {
        ids.push(format!(
            "SELECT i.id FROM {} JOIN @run i \
             ON i.project = w.project AND i.workflow = w.workflow AND i.idempotency_key = w.key",
            add_keys(&needs.idempotency_keys, &mut args)
        ));
    }
    ids.extend(heads(needs, &mut args));
    let edited = edited(needs, &mut args);
    let mut whole = edited.clone();
    whole.extend(held(needs, "r.schedule_id", &mut args));
    if tree.is_some() {
        whole.push("SELECT tree.schedule_id FROM tree".to_owned());
    }
    if !whole.is_empty() {
        ids.push(format!(
            "SELECT u.id FROM ({}) AS s (id) CROSS JOIN LATERAL (SELECT r.id FROM @run r \
             WHERE r.schedule_id = s.id AND r.finished_at IS NULL OFFSET 0) u",
            whole.join(" UNION ALL ")
        ));
    }
    if !edited.is_empty() {
        // The newest slot whose fate is decided; unfinished ones are there anyway.
        ids.push(format!(
            "SELECT n.id FROM ({}) AS s (id) CROSS JOIN LATERAL (SELECT r.id FROM @run r \
             WHERE r.schedule_id = s.id AND r.slot IS NOT NULL AND r.origin = 'schedule' \
             AND r.finished_at IS NOT NULL ORDER BY r.slot DESC, r.no DESC LIMIT 1) n",
            edited.join(" UNION ALL ")
        ));
    }
    if ids.is_empty() {
        return None;
    }
    let sql = format!(
        "{} SELECT {RUN_ROW}, {LIGHT_RUN} FROM @run r WHERE r.id IN ({}) ORDER BY r.id FOR UPDATE",
        tree.unwrap_or_default(),
        ids.join(" UNION ALL ")
    );
    Some(Statement::Query(sql, args))
}

fn parents_of_ended<'c>(needs: &Needs<'c>, args: &mut Args<'c>) -> Option<String> {
    (!needs.ended.is_empty()).then(|| {
        let runs = args.texts(needs.ended.iter().copied());
        format!("SELECT r.parent FROM @run r WHERE r.id = ANY(${runs})")
    })
}

/// The first unfinished runs of schedules in which a run may have to wait, or be released.
fn heads<'c>(needs: &Needs<'c>, args: &mut Args<'c>) -> Option<String> {
    let mut schedules = Vec::new();
    add_ids(&mut schedules, needs.queues.iter().copied(), args);
    if !needs.ended.is_empty() {
        let runs = args.texts(needs.ended.iter().copied());
        schedules.push(format!("SELECT r.schedule_id FROM @run r WHERE r.id = ANY(${runs})"));
    }
    (!schedules.is_empty()).then(|| {
        let count = args.int(limit_to_sql(needs.count + 2));
        let in_phase = |phase| {
            format!(
                "(SELECT u.id FROM @run u WHERE u.schedule_id = s.id AND u.phase = {phase} \
                 AND u.finished_at IS NULL ORDER BY u.slot NULLS FIRST, u.no LIMIT ${count})"
            )
        };
        // `UNION`, since many runs of one schedule may end at once.
        format!(
            "SELECT h.id FROM ({}) AS s (id) CROSS JOIN LATERAL ({} UNION ALL {}) h",
            schedules.join(" UNION "),
            in_phase(1),
            in_phase(2)
        )
    })
}

fn steps<'c>(needs: &Needs<'c>) -> Option<Statement<'c>> {
    if needs.steps.is_empty() {
        return None;
    }
    let mut args = Args::default();
    let runs = args.texts(needs.steps.iter().map(|(run, _)| *run));
    let names = args.texts(needs.steps.iter().map(|(_, name)| *name));
    let sql = format!(
        "SELECT DISTINCT r.id, t.name, t.state FROM unnest(${runs}, ${names}) AS w (run, name) \
         JOIN @run r ON r.id = w.run JOIN @step t ON t.run = r.no AND t.name = w.name"
    );
    Some(Statement::Query(sql, args))
}

fn runs_with_steps<'c>(needs: &Needs<'c>) -> Option<Statement<'c>> {
    let mut args = Args::default();
    let mut parts = Vec::new();
    let has_step = "(SELECT true FROM @step t WHERE t.run = r.no LIMIT 1)";
    if !needs.with_steps.is_empty() {
        let runs = args.texts(needs.with_steps.iter().copied());
        parts.push(format!("SELECT r.id FROM @run r WHERE r.id = ANY(${runs}) AND {has_step}"));
    }
    let edited = edited(needs, &mut args);
    if !edited.is_empty() {
        parts.push(format!(
            "SELECT u.id FROM ({}) AS s (id) CROSS JOIN LATERAL (SELECT r.id FROM @run r \
             WHERE r.schedule_id = s.id AND r.finished_at IS NULL AND {has_step} OFFSET 0) u",
            edited.join(" UNION ALL ")
        ));
    }
    (!parts.is_empty()).then(|| Statement::Query(parts.join(" UNION "), args))
}

fn newest_lines<'c>(needs: &Needs<'c>) -> Option<Statement<'c>> {
    let mut args = Args::default();
    let edited = edited(needs, &mut args);
    if edited.is_empty() {
        return None;
    }
    let sql = format!(
        "SELECT s.id, n.project, n.from_slot, n.until_slot FROM ({}) AS s (id) CROSS JOIN LATERAL ( \
         SELECT l.project, l.from_slot, l.until_slot FROM @ledger l WHERE l.schedule_id = s.id \
         ORDER BY l.from_slot DESC, l.no DESC LIMIT 1) n",
        edited.join(" UNION ")
    );
    Some(Statement::Query(sql, args))
}
