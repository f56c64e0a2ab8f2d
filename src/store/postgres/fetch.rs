//! Reads and locks the rows that a group of commands needs, in one round trip.
//!
//! Locks are taken in one order (events, workers, schedules, runs; each by id), so that two batches
//! rarely deadlock. If they do, the server rejects one, which is then repeated. Each statement sees
//! what was committed when it began. So what is read after a schedule was locked is up to date,
//! because every commit that changes which of its runs are unfinished locks it first.

use super::calendars;
use super::events;
use super::hook_calls;
use super::limits;
use super::locked::locked;
use super::pipeline::Statement;
use super::queries::{self, LIGHT_RUN_COLUMNS, RUN_ROW_COLUMNS, SCHEDULE_COLUMNS};
use super::rows::{Args, Columns};
use crate::calendar::Timestamp;
use crate::model::{
    LedgerLine, RunId, Schedule, ScheduleId, SlotOutcome, StepRecord, StepState, backfill, stored_calendar,
};
use crate::store::row_reader::RowReader;
use crate::store::tables::read_set::{Key, ReadSet};
use crate::store::tables::transitions::{self, StoredSchedule};
use crate::store::tables::{Tables, Touched, WorkerRow};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use tokio_postgres::{Error, Row};

/// The first number of rows that exist only in memory: above all numbers of the database.
pub(super) const FIRST_NEW: u64 = 1 << 62;

/// What a statement returns.
#[derive(Copy, Clone)]
enum Includes {
    Workers,
    Peers,
    Workflows,
    Limits,
    Calendars,
    Schedules,
    Runs,
    Steps,
    Waits,
    UnreadEvents,
    Events,
    /// Nothing: the statement locks.
    Nothing,
    AcceptedEvents,
    RunsWithSteps,
    NewestLines,
    NewestSteps,
    HookCalls,
    Completed,
}

/// The statements that read what a group of commands needs.
#[derive(Default)]
pub(super) struct Fetch<'c> {
    pub statements: Vec<Statement<'c>>,
    includes: Vec<Includes>,
}

/// A part of the tables, and which of its rows are in the database.
#[derive(Default)]
pub(super) struct Part {
    pub tables: Tables,
    /// The numbers of the stored runs.
    pub stored_runs: HashMap<RunId, u64>,
    /// The schedules as they are stored.
    pub stored_schedules: HashMap<ScheduleId, StoredSchedule>,
    pub stored_hook_calls: HashSet<Arc<str>>,
    /// Schedules with runs that a prune has kept.
    pub with_kept_runs: HashSet<ScheduleId>,
    /// The places of commands that completed their runs by a statement of their own, and whether
    /// each freed a permit of a limit.
    pub completed: Vec<(usize, bool)>,
}

/// The stored schedules that a group of commands edits, and when.
pub(super) struct Edits {
    ids: Vec<ScheduleId>,
    /// Whether a failed run may pause its schedule.
    may_pause: bool,
    /// The largest number of slots that one of the schedules skips.
    settled_max: usize,
    /// Calendars that decide what becomes of the due slots that the edits forget, by project and
    /// name.
    calendars: BTreeSet<(Arc<str>, Arc<str>)>,
    now: Timestamp,
}

impl Edits {
    /// `None` if no stored schedule is edited.
    pub fn of(needs: &ReadSet<'_>, part: &Part, now: Timestamp) -> Option<Self> {
        let keys: HashSet<&Key<'_>> = needs.keys.iter().collect();
        let is_edited = |schedule: &Schedule| {
            let key = (&*schedule.project, &*schedule.workflow, &*schedule.key);
            let owner = schedule.owner.as_deref().map(|owner| (&*schedule.project, owner));
            needs.edited.contains(schedule.id.as_str())
                || keys.contains(&key)
                || owner.is_some_and(|owner| needs.owners.contains(&owner))
        };
        let schedules = part.tables.schedules.values().map(|row| &row.schedule);
        let ids: Vec<_> = schedules.filter(|row| is_edited(row)).map(|row| row.id.clone()).collect();
        let pauses = |schedule: &Schedule| {
            schedule.spec.fields().is_some_and(|fields| fields.pause_after_failures.is_some())
        };
        let mut schedules = part.tables.schedules.values().map(|row| &row.schedule);
        let may_pause = !needs.pausing.is_empty() && schedules.any(pauses);
        let rows = part.tables.schedules.values();
        let settled_max = rows.map(|row| row.schedule.settled_slots().len()).max().unwrap_or(0);
        let due = part.tables.schedules.values().map(|row| &row.schedule);
        let due = due.filter(|row| is_edited(row) && transitions::needs_calendars(row, now));
        let calendars = due.flat_map(|row| {
            let names = stored_calendar::named([&row.spec]).into_iter();
            names.map(|name| (Arc::clone(&row.project), name))
        });
        let calendars = calendars.collect();
        (!ids.is_empty() || may_pause).then_some(Self { ids, may_pause, settled_max, calendars, now })
    }
}

impl<'c> Fetch<'c> {
    /// Workers and schedules, which are locked first.
    pub fn first(needs: &ReadSet<'c>) -> Self {
        let mut load = Self { statements: Vec::new(), includes: Vec::new() };
        load.add(Includes::Nothing, events::lock_shared(needs));
        load.add(Includes::Workers, workers(needs));
        load.add(Includes::Schedules, schedules(needs));
        load.add(Includes::Peers, peers(needs));
        load.add(Includes::Workflows, limits::registered(needs));
        load.add(Includes::Workflows, limits::with_rules(needs));
        load.add(Includes::Limits, limits::limits(needs));
        load.add(Includes::Calendars, calendars::named(needs.calendars.iter().copied()));
        load
    }

    /// Adds runs and what belongs to them. An edit reads only runs after its time.
    pub fn add_runs(&mut self, needs: &ReadSet<'c>, edits: Option<&'c Edits>) {
        let calendars = edits.into_iter().flat_map(|edits| &edits.calendars);
        let calendars = calendars.map(|(project, name)| (&**project, &**name));
        self.add(Includes::Calendars, calendars::named(calendars));
        self.add(Includes::Runs, runs(needs, edits));
        self.add(Includes::Steps, steps(needs));
        self.add(Includes::Waits, events::waits(needs));
        self.add(Includes::UnreadEvents, events::unread_events(needs));
        self.add(Includes::Events, events::named_events(needs));
        self.add(Includes::AcceptedEvents, events::accepted(needs));
        self.add(Includes::RunsWithSteps, runs_with_steps(needs, edits));
        self.add(Includes::NewestLines, newest_lines(needs, edits));
        self.add(Includes::NewestSteps, newest_steps(needs));
        self.add(Includes::HookCalls, hook_calls::named(needs));
    }

    /// Adds the statement that completes runs. Their schedules are locked by then.
    pub fn add_completions(&mut self, statement: Statement<'c>) {
        self.add(Includes::Completed, Some(statement));
    }

    fn add(&mut self, includes: Includes, statement: Option<Statement<'c>>) {
        if let Some(statement) = statement {
            self.statements.push(statement);
            self.includes.push(includes);
        }
    }

    /// Number of the statements.
    pub fn len(&self) -> usize {
        self.includes.len()
    }

    /// Adds the rows that the statements returned to `part`.
    pub fn take(&self, part: &mut Part, answers: &[Vec<Row>]) -> Result<(), Error> {
        part.tables.touched = None;
        for (includes, rows) in self.includes.iter().zip(answers) {
            for row in rows {
                part.take(*includes, &mut Columns::of(row))?;
            }
        }
        part.tables.count_from(FIRST_NEW);
        part.tables.touched = Some(Touched::default());
        Ok(())
    }
}

impl Part {
    fn take(&mut self, includes: Includes, columns: &mut Columns<'_>) -> Result<(), Error> {
        let tables = &mut self.tables;
        match includes {
            Includes::Workers | Includes::Peers => {
                let row = worker(columns)?;
                tables.workers.insert(row.peer.id.clone(), row);
            }
            Includes::Workflows => limits::take_workflow(tables, columns)?,
            Includes::Limits => limits::take_limit(tables, columns)?,
            Includes::Calendars => calendars::take(tables, columns)?,
            Includes::Schedules => {
                let row = columns.stored_schedule()?;
                if columns.flag()? {
                    self.with_kept_runs.insert(row.schedule.id.clone());
                }
                self.stored_schedules.insert(row.schedule.id.clone(), row.clone());
                tables.store_schedule(row);
            }
            Includes::Runs => {
                let row = columns.run_row()?;
                self.stored_runs.insert(row.run.id.clone(), row.no);
                tables.add_run(row);
            }
            Includes::Steps => {
                let run = columns.run_id()?;
                let (name, state) = (columns.text()?, columns.word()?.unwrap_or(StepState::Retrying));
                add_step(tables, run, name, state);
            }
            Includes::Waits => events::take_wait(tables, columns)?,
            Includes::UnreadEvents => events::take_unread_event(tables, columns)?,
            Includes::Events => events::take_event(tables, columns)?,
            Includes::Nothing => {}
            Includes::AcceptedEvents => events::take_accepted(tables, columns)?,
            Includes::RunsWithSteps => {
                let run = columns.run_id()?;
                // Only whether there is a step matters.
                if !tables.steps.contains_key(&run) {
                    add_step(tables, run, Arc::default(), StepState::Done);
                }
            }
            Includes::NewestSteps => {
                let (run, finished_at) = (columns.run_id()?, columns.time()?);
                add_step(tables, run.clone(), Arc::default(), StepState::Done);
                let steps = tables.steps.entry(run).or_default();
                steps.records.last_mut().expect("added above").finished_at = finished_at;
            }
            Includes::HookCalls => hook_calls::take(self, columns)?,
            Includes::Completed => {
                let place = columns.int()?;
                let frees = columns.flag()?;
                self.completed.extend(usize::try_from(place).ok().map(|place| (place, frees)));
            }
            Includes::NewestLines => {
                let (schedule, project) = (columns.schedule_id()?, columns.text()?);
                let (from, until) = (columns.time()?, columns.time()?);
                let outcome = SlotOutcome::Missed;
                let line = LedgerLine { from, until, count: 1, outcome, reason: Arc::default() };
                tables.store_line(&project, &schedule, &line);
            }
        }
        Ok(())
    }
}

/// Adds a step of which only the state is known and needed.
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
    let peer = columns.worker()?;
    Ok(WorkerRow { peer, project: columns.text()? })
}

fn workers<'c>(needs: &ReadSet<'c>) -> Option<Statement<'c>> {
    if needs.workers.is_empty() {
        return None;
    }
    let mut args = Args::default();
    args.texts(needs.workers.iter().copied());
    Some(Statement::Query(queries::LOCK_WORKERS, args))
}

/// The other workers of the projects whose declared schedules the commands change. Read after these
/// schedules were locked: another transaction that declares one of them has committed or waits.
fn peers<'c>(needs: &ReadSet<'c>) -> Option<Statement<'c>> {
    if needs.owners.is_empty() {
        return None;
    }
    let mut args = Args::default();
    args.texts(needs.owners.iter().map(|(project, _)| *project));
    args.texts(needs.workers.iter().copied());
    Some(Statement::Query(queries::OTHER_WORKERS, args))
}

fn schedules<'c>(needs: &ReadSet<'c>) -> Option<Statement<'c>> {
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
    if ids.is_empty() && needs.completed.is_empty() {
        return None;
    }
    let columns = format!("{SCHEDULE_COLUMNS}, s.cadence, s.has_kept_run");
    if !needs.completed.is_empty() {
        // These schedules are locked, but need not be read.
        let completed = args.texts(needs.completed.iter().copied());
        ids.push(format!("SELECT r.schedule_id FROM @run r WHERE r.id = ANY(${completed})"));
        let read = args.texts(needs.schedules.iter().copied());
        let sql = format!(
            "WITH l AS MATERIALIZED ({}) SELECT {columns} FROM l s WHERE s.id = ANY(${read})",
            locked("s.* FROM @schedule s", "s.id", &ids)
        );
        return Some(Statement::Query(queries::LOCK_SCHEDULES.of(sql), args));
    }
    let sql = format!(
        "{} {}",
        tree.unwrap_or_default(),
        locked(&format!("{columns} FROM @schedule s"), "s.id", &ids)
    );
    Some(Statement::Query(queries::LOCK_SCHEDULES.of(sql), args))
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

fn edited_by_key<'c>(needs: &ReadSet<'c>, args: &mut Args<'c>) -> Option<String> {
    (!needs.keys.is_empty()).then(|| {
        format!(
            "SELECT k.id FROM {} JOIN @schedule k ON k.project = w.project AND k.workflow = w.workflow AND k.key = w.key",
            add_keys(&needs.keys, args)
        )
    })
}

fn edited_by_owner<'c>(needs: &ReadSet<'c>, args: &mut Args<'c>) -> Option<String> {
    (!needs.owners.is_empty()).then(|| {
        let projects = args.texts(needs.owners.iter().map(|(project, _)| *project));
        let apps = args.texts(needs.owners.iter().map(|(_, app)| *app));
        format!(
            "SELECT o.id FROM unnest(${projects}, ${apps}) AS w (project, app) \
             JOIN @schedule o ON o.project = w.project AND o.owner = w.app"
        )
    })
}

/// A column of the runs held by workers that deregister or expire.
fn held<'c>(needs: &ReadSet<'c>, what: &str, args: &mut Args<'c>) -> Option<String> {
    (!needs.left.is_empty()).then(|| {
        let workers = args.texts(needs.left.iter().copied());
        format!("SELECT {what} FROM @run r WHERE r.worker = ANY(${workers}) AND r.state = 'running'")
    })
}

/// Runs that are cancelled, and their unfinished descendants.
fn tree<'c>(needs: &ReadSet<'c>, args: &mut Args<'c>) -> Option<String> {
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

/// Queries for the ids of the edited schedules.
fn edited<'c>(needs: &ReadSet<'c>, edits: &'c Edits, args: &mut Args<'c>) -> Vec<String> {
    let mut ids = Vec::new();
    add_ids(&mut ids, edits.ids.iter().map(ScheduleId::as_str), args);
    if edits.may_pause {
        let runs = args.texts(needs.pausing.iter().copied());
        ids.push(format!("SELECT r.schedule_id FROM @run r WHERE r.id = ANY(${runs})"));
    }
    ids
}

fn runs<'c>(needs: &ReadSet<'c>, edits: Option<&'c Edits>) -> Option<Statement<'c>> {
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
    if !needs.debounced.is_empty() {
        ids.push(format!(
            "SELECT d.id FROM {} JOIN @run d ON d.project = w.project AND d.workflow = w.workflow \
             AND d.debounce_key = w.key AND d.state = 'queued' AND d.started_at IS NULL AND d.attempt = 1",
            add_keys(&needs.debounced, &mut args)
        ));
        let calls = args.texts(needs.debounce_calls.iter().copied());
        ids.push(format!("SELECT c.id FROM @run c WHERE c.debounce_call = ANY(${calls})"));
    }
    ids.extend(heads(needs, edits, tree.is_some(), &mut args));
    ids.extend(beside_retried(needs, &mut args));
    if !needs.deleted.is_empty() {
        // All runs that have not started are cancelled.
        let mut deleted = Vec::new();
        add_ids(&mut deleted, needs.deleted.iter().copied(), &mut args);
        ids.push(in_both_phases(&deleted.join(" UNION ALL "), ""));
    }
    if let Some(edits) = edits {
        let schedules = edited(needs, edits, &mut args).join(" UNION ALL ");
        let now = args.int(edits.now.as_micros());
        ids.push(in_both_phases(&schedules, &format!("AND r.slot > ${now}")));
        // The newest slot with an outcome: a finished run in the future, or any run in the past.
        let newest = |which: &str| {
            format!(
                "(SELECT r.id FROM @run r WHERE r.schedule_id = s.id AND r.origin = 'schedule' AND {which} \
                 ORDER BY r.slot DESC NULLS LAST, r.no DESC LIMIT 1)"
            )
        };
        ids.push(format!(
            "SELECT n.id FROM ({schedules}) AS s (id) CROSS JOIN LATERAL ({} UNION ALL {}) n",
            newest(&format!("r.slot > ${now} AND r.finished_at IS NOT NULL")),
            newest(&format!("r.slot <= ${now}")),
        ));
    }
    if ids.is_empty() {
        return None;
    }
    let what = format!("{RUN_ROW_COLUMNS}, {LIGHT_RUN_COLUMNS} FROM @run r");
    let sql = format!("{} {}", tree.unwrap_or_default(), locked(&what, "r.id", &ids));
    Some(Statement::Query(queries::LOCK_RUNS.of(sql), args))
}

/// The runs in progress of the backfills of runs that are retried.
fn beside_retried<'c>(needs: &ReadSet<'c>, args: &mut Args<'c>) -> Option<String> {
    (!needs.retried.is_empty()).then(|| {
        let runs = args.texts(needs.retried.iter().copied());
        let backfill = |run: &str| format!("split_part({run}.idempotency_key, ':', 3)");
        format!(
            "SELECT u.id FROM @run r CROSS JOIN LATERAL (SELECT b.id FROM @run b WHERE b.schedule_id = r.schedule_id \
             AND b.phase = 1 AND b.finished_at IS NULL AND {} = {} OFFSET 0) u \
             WHERE r.id = ANY(${runs}) AND r.origin = 'backfill' AND r.idempotency_key LIKE '{}%'",
            backfill("b"),
            backfill("r"),
            backfill::KEYS,
        )
    })
}

fn parents_of_ended<'c>(needs: &ReadSet<'c>, args: &mut Args<'c>) -> Option<String> {
    (!needs.ended.is_empty()).then(|| {
        let runs = args.texts(needs.ended.iter().copied());
        format!("SELECT r.parent FROM @run r WHERE r.id = ANY(${runs})")
    })
}

/// Unfinished runs of schedules that fulfill a condition.
fn in_both_phases(schedules: &str, condition: &str) -> String {
    let in_phase = |phase| {
        format!(
            "SELECT r.id FROM @run r WHERE r.schedule_id = s.id AND r.phase = {phase} \
             AND r.finished_at IS NULL {condition}"
        )
    };
    // `OFFSET 0` makes the server look up the runs of each schedule separately.
    format!(
        "SELECT u.id FROM ({schedules}) AS s (id) CROSS JOIN LATERAL ({} UNION ALL {} OFFSET 0) u",
        in_phase(1),
        in_phase(2)
    )
}

/// The first unfinished runs of schedules in which a run may have to wait or be released: as many
/// as the commands may complete there plus two, however many runs are unfinished. Runs that are not
/// buffered are read only if another run waits for them.
fn heads<'c>(
    needs: &ReadSet<'c>,
    edits: Option<&'c Edits>,
    has_tree: bool,
    args: &mut Args<'c>,
) -> Option<String> {
    let mut schedules = Vec::new();
    if !needs.queues.is_empty() {
        schedules.push(format!("SELECT unnest(${}), true", args.texts(needs.queues.iter().copied())));
    }
    if !needs.ended.is_empty() {
        let runs = args.texts(needs.ended.iter().copied());
        schedules.push(format!("SELECT r.schedule_id, false FROM @run r WHERE r.id = ANY(${runs})"));
    }
    schedules.extend(held(needs, "r.schedule_id, false", args));
    if has_tree {
        schedules.push("SELECT tree.schedule_id, false FROM tree".to_owned());
    }
    if let Some(edits) = edits {
        let mut edited = edited(needs, edits, args);
        schedules.extend(edited.drain(..).map(|ids| format!("SELECT e.id, false FROM ({ids}) AS e (id)")));
    }
    (!schedules.is_empty()).then(|| {
        let in_phase = |phase, limit: &str| {
            format!(
                "(SELECT u.id FROM @run u WHERE u.schedule_id = s.id AND u.phase = {phase} \
                 AND u.finished_at IS NULL ORDER BY u.slot NULLS FIRST, u.no LIMIT {limit})"
            )
        };
        format!(
            "SELECT h.id FROM (SELECT q.id, count(*) + 2 AS many, bool_or(q.waits) OR COALESCE(\
             (SELECT true FROM @run b WHERE b.schedule_id = q.id AND b.phase = 2 AND b.finished_at IS NULL LIMIT 1), \
             false) AS waits FROM ({}) AS q (id, waits) WHERE q.id IS NOT NULL GROUP BY q.id) AS s \
             CROSS JOIN LATERAL ({} UNION ALL {}) h",
            schedules.join(" UNION ALL "),
            in_phase(1, "CASE WHEN s.waits THEN s.many ELSE 0 END"),
            in_phase(2, "s.many")
        )
    })
}

fn steps<'c>(needs: &ReadSet<'c>) -> Option<Statement<'c>> {
    if needs.steps.is_empty() {
        return None;
    }
    let mut args = Args::default();
    args.texts(needs.steps.iter().map(|(run, _)| *run));
    args.texts(needs.steps.iter().map(|(_, name)| *name));
    Some(Statement::Query(queries::STEPS_BY_NAME, args))
}

fn runs_with_steps<'c>(needs: &ReadSet<'c>, edits: Option<&'c Edits>) -> Option<Statement<'c>> {
    let mut args = Args::default();
    let mut parts = Vec::new();
    let has_step = "(SELECT true FROM @step t WHERE t.run = r.no LIMIT 1)";
    if !needs.with_steps.is_empty() {
        let runs = args.texts(needs.with_steps.iter().copied());
        parts.push(format!("SELECT r.id FROM @run r WHERE r.id = ANY(${runs}) AND {has_step}"));
    }
    if !needs.deleted.is_empty() {
        // The deletion tells whether a run may not have been entered yet.
        let mut deleted = Vec::new();
        add_ids(&mut deleted, needs.deleted.iter().copied(), &mut args);
        parts.push(in_both_phases(&deleted.join(" UNION ALL "), &format!("AND {has_step}")));
    }
    if let Some(edits) = edits {
        let schedules = edited(needs, edits, &mut args).join(" UNION ALL ");
        let now = args.int(edits.now.as_micros());
        parts.push(in_both_phases(&schedules, &format!("AND r.slot > ${now} AND {has_step}")));
    }
    let sql = queries::RUNS_WITH_STEPS.of(parts.join(" UNION "));
    (!parts.is_empty()).then(|| Statement::Query(sql, args))
}

/// When the runs of expired workers recorded their newest steps.
fn newest_steps<'c>(needs: &ReadSet<'c>) -> Option<Statement<'c>> {
    if needs.expired.is_empty() {
        return None;
    }
    let mut args = Args::default();
    args.texts(needs.expired.iter().copied());
    Some(Statement::Query(queries::NEWEST_STEPS, args))
}

fn newest_lines<'c>(needs: &ReadSet<'c>, edits: Option<&'c Edits>) -> Option<Statement<'c>> {
    let edits = edits?;
    let mut args = Args::default();
    let edited = edited(needs, edits, &mut args);
    // One that does not tell of a slot that was skipped on request.
    let count = args.int(i64::try_from(edits.settled_max + 1).unwrap_or(i64::MAX));
    let sql = format!(
        "SELECT s.id, n.project, n.from_slot, n.until_slot FROM ({}) AS s (id) CROSS JOIN LATERAL ( \
         SELECT l.project, l.from_slot, l.until_slot FROM @ledger l WHERE l.schedule_id = s.id \
         ORDER BY l.from_slot DESC, l.no DESC LIMIT ${count}) n",
        edited.join(" UNION ")
    );
    Some(Statement::Query(queries::NEWEST_LINES.of(sql), args))
}
