//! The fast path: commits that need no read first. These are steps, standalone runs, and their
//! final completions. One statement checks the conditions, writes, and counts the commit, so one
//! round trip is enough. Commands whose conditions do not hold take the general path.

use super::pipeline::Statement;
use super::queries::{FAST_PATH, NEW_RUN_COLUMNS, NEW_STEP_COLUMNS, STATE, STEP_REPLACEMENT};
use super::rows::{Args, Columns, limit_to_sql, rows};
use super::write_back::{new_run_args, step_args};
use crate::calendar::Timestamp;
use crate::model::text::state_word;
use crate::model::{ClaimRules, NewRun, Run, RunId, RunState, StepRecord, Token, WorkerId};
use crate::store::row_reader::RowReader;
use crate::store::tables::transitions::{self, Ended};
use crate::store::{Answer, Command, Outcome};
use std::collections::{BTreeSet, HashMap};
use tokio_postgres::{Error, Row};

/// A step to record, and its place among the commands.
struct Recording<'c> {
    place: usize,
    run: &'c RunId,
    token: Token,
    step: &'c StepRecord,
}

/// A run to complete, and its place among the commands.
struct Completed<'c> {
    place: usize,
    run: &'c RunId,
    token: Token,
    print: i64,
    ended: Ended,
}

/// A run to create, and its place among the commands.
struct Creation {
    place: usize,
    run: Run,
}

/// Commands that can take the fast path.
pub(super) struct FastPath<'c> {
    count: usize,
    now: Timestamp,
    recordings: Vec<Recording<'c>>,
    completed: Vec<Completed<'c>>,
    created: Vec<Creation>,
    /// Each new run that is claimed when it is created, and the worker that claims it.
    claims: Vec<(&'c NewRun, &'c WorkerId)>,
}

impl<'c> FastPath<'c> {
    /// `None` if a command needs a read or depends on another command. Calls `now` only if no
    /// command is of a kind that always needs a read, since those need the time after the read.
    pub fn of(commands: &'c [Command], now: &dyn Fn() -> Timestamp) -> Option<Self> {
        if commands.iter().any(needs_read) {
            return None;
        }
        let now = now();
        let mut path = Self {
            count: commands.len(),
            now,
            recordings: Vec::new(),
            completed: Vec::new(),
            created: Vec::new(),
            claims: Vec::new(),
        };
        let mut steps = BTreeSet::new();
        let mut others = BTreeSet::new();
        for (place, command) in commands.iter().enumerate() {
            let is_first = match command {
                Command::RecordStep { run, token, step } => {
                    path.recordings.push(Recording { place, run, token: *token, step });
                    steps.insert((run, &step.name))
                }
                Command::CompleteRun { run, token, ending, .. } => {
                    let (ended, print) =
                        (transitions::final_completion(ending, now)?, transitions::completion_print(ending));
                    path.completed.push(Completed { place, run, token: *token, print, ended });
                    others.insert(run)
                }
                Command::CreateRun(new) => {
                    path.create(place, new);
                    others.insert(&new.id)
                }
                _ => return None,
            };
            if !is_first {
                return None;
            }
        }
        if steps.iter().any(|(run, _)| others.contains(run)) {
            return None;
        }
        // Every commit locks rows in this order.
        path.completed.sort_by_key(|completed| completed.run);
        Some(path)
    }

    fn create(&mut self, place: usize, new: &'c NewRun) {
        let mut run = transitions::new_run(new, &ClaimRules::default(), self.now);
        if let Some(worker) = &new.claim_for
            && transitions::is_claimable(&run, self.now)
        {
            transitions::claim(&mut run, worker, self.now);
            self.claims.push((new, worker));
        }
        self.created.push(Creation { place, run });
    }

    /// The statement. Counts the commit with the counter `slot` if it wrote anything.
    pub fn statement(&self, slot: usize) -> Statement<'_> {
        let mut args = Args::default();
        let mut parts = Vec::new();
        let mut writes = Vec::new();
        let mut answers = Vec::new();
        if !self.claims.is_empty() {
            parts.push(self.heartbeats(&mut args));
        }
        if !self.recordings.is_empty() {
            parts.extend(self.record_steps(&mut args));
            writes.push("recorded");
            answers.push("SELECT place, NULL::text AS id, false AS frees FROM held");
        }
        if !self.completed.is_empty() {
            parts.push(self.complete_runs(&mut args));
            writes.push("completed");
            answers.push("SELECT place, NULL::text AS id, frees FROM completed");
        }
        if !self.created.is_empty() {
            parts.push(self.create_runs(&mut args));
            writes.push("created");
            answers.push("SELECT NULL::bigint AS place, id, false AS frees FROM created");
        }
        // Counted last, so that other transactions wait for the counter as briefly as possible.
        let writes: Vec<_> = writes.iter().map(|part| format!("(SELECT count(*) FROM {part})")).collect();
        let slot = args.int(limit_to_sql(slot));
        parts.push(format!(
            "counted AS (UPDATE @commits SET no = no + 1 WHERE slot = ${slot} AND {} > 0 RETURNING no)",
            writes.join(" + ")
        ));
        let sql = format!(
            "WITH {} SELECT *, (SELECT no FROM counted) FROM ({}) AS answer",
            parts.join(", "),
            answers.join(" UNION ALL ")
        );
        Statement::Query(FAST_PATH.of(sql), args)
    }

    /// Adds one heartbeat to the worker of each run that is claimed. A run that exists already is
    /// not claimed again and adds none, and neither does one that the general path creates. A
    /// worker that is not registered gets none.
    fn heartbeats<'a>(&'a self, args: &mut Args<'a>) -> String {
        let claimed = || self.claims.iter().map(|(run, _)| run);
        let columns = [
            args.texts(self.claims.iter().map(|(_, worker)| worker.as_str())),
            args.texts(claimed().map(|run| run.id.as_str())),
            args.texts(claimed().map(|run| &*run.project)),
            args.texts(claimed().map(|run| &*run.workflow)),
        ];
        let now = args.int(self.now.as_micros());
        format!(
            "alive AS (UPDATE @worker w SET beat = w.beat + b.count, beat_at = ${now} \
             FROM (SELECT c.worker, count(*) FROM ({columns}) AS c (worker, run, project, workflow) \
             WHERE NOT EXISTS (SELECT FROM @run r WHERE r.id = c.run) AND {without_rules} \
             GROUP BY c.worker) AS b (id, count) \
             WHERE w.id = b.id RETURNING w.id)",
            columns = rows(&columns),
            without_rules = without_rules("c"),
        )
    }

    /// A condition that executes a part after the heartbeats: every commit locks workers before
    /// runs.
    fn after_heartbeats(&self) -> &'static str {
        if self.claims.is_empty() { "" } else { " AND (SELECT count(*) FROM alive) >= 0" }
    }

    fn record_steps<'a>(&'a self, args: &mut Args<'a>) -> [String; 2] {
        let all = || self.recordings.iter();
        let steps: Vec<_> = all().map(|recording| (recording.run.as_str(), recording.step)).collect();
        let mut numbers = step_args(&steps, args);
        numbers.push(args.ints(all().map(|recording| recording.token.0)));
        numbers.push(args.ints(all().map(|recording| limit_to_sql(recording.place))));
        [
            format!(
                "held AS (SELECT r.no, w.name, w.state, w.attempt, w.run_attempt, w.wakes_at, w.started_at, \
                 w.finished_at, w.result, w.error, w.place \
                 FROM ({rows}) AS w (run, {NEW_STEP_COLUMNS}, token, place) \
                 JOIN @run r ON r.id = w.run WHERE {STATE} = 'running' AND r.token = w.token \
                 AND r.interruptions = 0{after} ORDER BY r.id FOR UPDATE OF r)",
                rows = rows(&numbers),
                after = self.after_heartbeats(),
            ),
            format!(
                "recorded AS (INSERT INTO @step AS t (run, {NEW_STEP_COLUMNS}) \
                 SELECT no, {NEW_STEP_COLUMNS} FROM held ORDER BY place \
                 ON CONFLICT (run, name) DO UPDATE SET {STEP_REPLACEMENT} WHERE t.state <> 'done' RETURNING run)"
            ),
        ]
    }

    fn complete_runs<'a>(&'a self, args: &mut Args<'a>) -> String {
        let all = || self.completed.iter();
        let numbers = [
            args.texts(all().map(|completed| completed.run.as_str())),
            args.ints(all().map(|completed| completed.token.0)),
            args.texts(all().map(|completed| state_word(completed.ended.state))),
            args.optional_texts(all().map(|completed| completed.ended.result.as_deref())),
            args.optional_texts(all().map(|completed| completed.ended.error.as_deref())),
            args.ints(all().map(|completed| completed.print)),
            args.ints(all().map(|completed| limit_to_sql(completed.place))),
        ];
        let now = args.int(self.now.as_micros());
        format!(
            "completed AS (UPDATE @run r SET state = w.state, finished_at = ${now}, result = w.result, error = w.error, \
             ended_token = w.token, ended_print = w.print, ended_state = w.state, \
             ended_released = r.limit_name IS NOT NULL, kept = 0 \
             FROM ({rows}) AS w (run, token, state, result, error, print, place) \
             WHERE r.id = w.run AND {STATE} = 'running' AND r.token = w.token \
             AND r.schedule_id IS NULL AND r.parent IS NULL{after} \
             RETURNING w.place, r.limit_name IS NOT NULL AS frees)",
            rows = rows(&numbers),
            after = self.after_heartbeats(),
        )
    }

    /// Creates runs. If one exists, the statement fails, and the general path answers: looking each
    /// id up first, as `ON CONFLICT` does, would cost every run something.
    fn create_runs<'a>(&'a self, args: &mut Args<'a>) -> String {
        let runs: Vec<_> = self.created.iter().map(|creation| &creation.run).collect();
        let numbers = new_run_args(&runs, args);
        let worker = if self.claims.is_empty() {
            ""
        } else {
            "AND (w.worker IS NULL OR w.worker IN (SELECT id FROM alive)) "
        };
        format!(
            "created AS (INSERT INTO @run ({NEW_RUN_COLUMNS}) SELECT {NEW_RUN_COLUMNS} \
             FROM ({rows}, generate_subscripts(${id}, 1)) AS w ({NEW_RUN_COLUMNS}, place) \
             WHERE {without_rules} {worker}ORDER BY place RETURNING id)",
            rows = rows(&numbers),
            id = numbers[0],
            without_rules = without_rules("w"),
        )
    }

    /// The outcomes of the commands, `None` for those that need the general path; and the number of
    /// the commit.
    pub fn outcomes(self, rows: &[Row]) -> Result<(Vec<Option<Outcome>>, Option<i64>), Error> {
        let places: HashMap<&str, usize> =
            self.created.iter().map(|creation| (creation.run.id.as_str(), creation.place)).collect();
        let mut happened = BTreeSet::new();
        // Those of them that free a permit of a limit.
        let mut freeing = BTreeSet::new();
        let mut number = None;
        for row in rows {
            let mut columns = Columns::of(row);
            let place = columns.optional_int()?.and_then(|place| usize::try_from(place).ok());
            let created = columns.optional_text()?.and_then(|run| places.get(&*run).copied());
            let place = place.or(created);
            happened.extend(place);
            if columns.flag()? {
                freeing.extend(place);
            }
            number = columns.optional_int()?;
        }
        let mut outcomes = vec![None; self.count];
        for Recording { place, .. } in self.recordings {
            // If the run was interrupted, more has to change. If the claim is lost, the general
            // path rejects the command.
            outcomes[place] = happened.contains(&place).then_some(Ok(Answer::Done));
        }
        for Completed { place, ended, .. } in self.completed {
            let answer = Answer::Ended { state: ended.state, released: freeing.contains(&place) };
            outcomes[place] = happened.contains(&place).then_some(Ok(answer));
        }
        for Creation { place, run } in self.created {
            let id = run.id.clone();
            let claimed = (run.state == RunState::Running).then(|| Box::new(run));
            let answer = Answer::Created { run: id, is_new: true, claimed };
            outcomes[place] = happened.contains(&place).then_some(Ok(answer));
        }
        Ok((outcomes, number))
    }
}

/// A condition: the workflow of `row` declares nothing that only the general path respects.
fn without_rules(row: &str) -> String {
    format!(
        "NOT EXISTS (SELECT FROM @workflow f WHERE f.project = {row}.project AND f.id = {row}.workflow \
         AND (f.limit_name IS NOT NULL OR f.priority > 0))"
    )
}

/// Whether a command reads or changes more than one run.
fn needs_read(command: &Command) -> bool {
    match command {
        Command::RecordStep { .. } => false,
        Command::CompleteRun { stands_alone, tells, .. } => !stands_alone || *tells,
        Command::CreateRun(new) => new.schedule_id.is_some() || new.idempotency_key.is_some(),
        _ => true,
    }
}
