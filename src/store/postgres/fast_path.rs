//! What can be written without a look at the rows first: steps, runs that stand alone, and their final ends. One statement checks
//! what has to hold, writes, and counts the commit, so that one trip to the server is enough. What does not hold is left to those
//! who look.

use super::pipeline::Statement;
use super::rows::{Args, Columns, STATE, limit_to_sql, parameters};
use super::write_back::{NEW_COLUMNS, STEP_COLUMNS, new_run_args, step_args, step_sets};
use crate::calendar::Timestamp;
use crate::model::text::state_word;
use crate::model::{NewRun, Run, RunId, RunState, StepRecord, Token, WorkerId};
use crate::store::transitions::{self, Ended};
use crate::store::{Answer, Command, Outcome};
use std::collections::{BTreeSet, HashMap};
use tokio_postgres::{Error, Row};

/// A step, and its place among the commands.
struct Step<'c> {
    place: usize,
    run: &'c RunId,
    token: Token,
    record: &'c StepRecord,
}

/// The end of a run, and its place among the commands.
struct End<'c> {
    place: usize,
    run: &'c RunId,
    token: Token,
    print: i64,
    ended: Ended,
}

/// A new run, and its place among the commands.
struct Creation {
    place: usize,
    run: Run,
}

/// Commands of which none needs a look.
pub(super) struct FastPath<'c> {
    count: usize,
    now: Timestamp,
    steps: Vec<Step<'c>>,
    ends: Vec<End<'c>>,
    created: Vec<Creation>,
    /// Each new run that is to be claimed as it is created, and by which worker.
    claims: Vec<(&'c RunId, &'c WorkerId)>,
}

impl<'c> FastPath<'c> {
    /// `None` where one of them needs a look, or depends on another. `now` is asked only if none is one of those that always
    /// need a look: for them it has to be asked behind it.
    pub fn of(commands: &'c [Command], now: &dyn Fn() -> Timestamp) -> Option<Self> {
        if commands.iter().any(needs_look) {
            return None;
        }
        let now = now();
        let mut direct = Self {
            count: commands.len(),
            now,
            steps: Vec::new(),
            ends: Vec::new(),
            created: Vec::new(),
            claims: Vec::new(),
        };
        let mut steps = BTreeSet::new();
        let mut others = BTreeSet::new();
        for (place, command) in commands.iter().enumerate() {
            let is_first = match command {
                Command::RecordStep { run, token, step } => {
                    direct.steps.push(Step { place, run, token: *token, record: step });
                    steps.insert((run, &step.name))
                }
                Command::CompleteRun { run, token, ending, .. } => {
                    let (ended, print) =
                        (transitions::final_completion(ending, now)?, transitions::completion_print(ending));
                    direct.ends.push(End { place, run, token: *token, print, ended });
                    others.insert(run)
                }
                Command::CreateRun(new) => {
                    direct.create(place, new);
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
        // Rows are locked in this order by everybody.
        direct.ends.sort_by_key(|end| end.run);
        Some(direct)
    }

    fn create(&mut self, place: usize, new: &'c NewRun) {
        let mut run = transitions::new_run(new, self.now);
        if let Some(worker) = &new.claim_for
            && transitions::is_claimable(&run, self.now)
        {
            transitions::claim(&mut run, worker, self.now);
            self.claims.push((&new.id, worker));
        }
        self.created.push(Creation { place, run });
    }

    /// The statement that does it, and counts the commit in `slot` if there was anything to do.
    pub fn statement(&self, slot: usize) -> Statement<'_> {
        let mut args = Args::default();
        let mut parts = Vec::new();
        let mut writes = Vec::new();
        let mut answers = Vec::new();
        if !self.claims.is_empty() {
            parts.push(self.heartbeats(&mut args));
        }
        if !self.steps.is_empty() {
            parts.extend(self.recordings(&mut args));
            writes.push("recorded");
            answers.push("SELECT place, NULL::text FROM held");
        }
        if !self.ends.is_empty() {
            parts.push(self.endings(&mut args));
            writes.push("ended");
            answers.push("SELECT place, NULL::text FROM ended");
        }
        if !self.created.is_empty() {
            parts.push(self.creations(&mut args));
            writes.push("created");
            answers.push("SELECT NULL::bigint AS place, id FROM created");
        }
        // Behind all else, so that others wait for the counter as briefly as can be.
        let writes: Vec<_> = writes.iter().map(|part| format!("(SELECT count(*) FROM {part})")).collect();
        parts.push(format!(
            "counted AS (UPDATE @commits SET no = no + 1 WHERE slot = {slot} AND {} > 0 RETURNING no)",
            writes.join(" + ")
        ));
        let sql = format!(
            "WITH {} SELECT *, (SELECT no FROM counted) FROM ({}) AS answer",
            parts.join(", "),
            answers.join(" UNION ALL ")
        );
        Statement::Query(sql, args)
    }

    /// One heartbeat of its worker for each run that is claimed. There is none for a run that exists already, since it
    /// isn't claimed again, and none of a worker that isn't registered.
    fn heartbeats<'a>(&'a self, args: &mut Args<'a>) -> String {
        let runs = args.texts(self.claims.iter().map(|(run, _)| run.as_str()));
        let workers = args.texts(self.claims.iter().map(|(_, worker)| worker.as_str()));
        let now = args.int(self.now.as_micros());
        format!(
            "beaten AS (UPDATE @worker w SET beat = w.beat + b.count, beat_at = ${now} \
             FROM (SELECT c.worker, count(*) FROM unnest(${runs}, ${workers}) AS c (run, worker) \
             WHERE NOT EXISTS (SELECT FROM @run r WHERE r.id = c.run) GROUP BY c.worker) AS b (id, count) \
             WHERE w.id = b.id RETURNING w.id)"
        )
    }

    /// Has a part carried out behind the signs of life: workers are locked before runs by everybody.
    fn after_heartbeats(&self) -> &'static str {
        if self.claims.is_empty() { "" } else { " AND (SELECT count(*) FROM beaten) >= 0" }
    }

    fn recordings<'a>(&'a self, args: &mut Args<'a>) -> [String; 2] {
        let steps: Vec<_> = self.steps.iter().map(|step| (step.run.as_str(), step.record)).collect();
        let mut numbers = step_args(&steps, args);
        numbers.push(args.ints(self.steps.iter().map(|step| step.token.0)));
        numbers.push(args.ints(self.steps.iter().map(|step| limit_to_sql(step.place))));
        let columns = STEP_COLUMNS.join(", ");
        let values: Vec<_> = STEP_COLUMNS.iter().map(|name| format!("w.{name}")).collect();
        [
            format!(
                "held AS (SELECT r.no, {values}, w.place FROM unnest({numbers}) AS w (run, {columns}, token, place) \
                 JOIN @run r ON r.id = w.run WHERE {STATE} = 'running' AND r.token = w.token \
                 AND r.interruptions = 0{behind} ORDER BY r.id FOR UPDATE OF r)",
                values = values.join(", "),
                numbers = parameters(&numbers),
                behind = self.after_heartbeats(),
            ),
            format!(
                "recorded AS (INSERT INTO @step AS t (run, {columns}) SELECT no, {columns} FROM held ORDER BY place \
                 ON CONFLICT (run, name) DO UPDATE SET {sets} WHERE t.state <> 'done' RETURNING run)",
                sets = step_sets(),
            ),
        ]
    }

    fn endings<'a>(&'a self, args: &mut Args<'a>) -> String {
        let ends = || self.ends.iter();
        let numbers = [
            args.texts(ends().map(|end| end.run.as_str())),
            args.ints(ends().map(|end| end.token.0)),
            args.texts(ends().map(|end| state_word(end.ended.state))),
            args.optional_texts(ends().map(|end| end.ended.result.as_deref())),
            args.optional_texts(ends().map(|end| end.ended.error.as_deref())),
            args.ints(ends().map(|end| end.print)),
            args.ints(ends().map(|end| limit_to_sql(end.place))),
        ];
        let now = args.int(self.now.as_micros());
        format!(
            "ended AS (UPDATE @run r SET state = w.state, finished_at = ${now}, result = w.result, error = w.error, \
             ended_token = w.token, ended_print = w.print, ended_state = w.state, ended_released = false, kept = 0 \
             FROM unnest({numbers}) AS w (run, token, state, result, error, print, place) \
             WHERE r.id = w.run AND {STATE} = 'running' AND r.token = w.token \
             AND r.schedule_id IS NULL AND r.parent IS NULL{behind} RETURNING w.place)",
            numbers = parameters(&numbers),
            behind = self.after_heartbeats(),
        )
    }

    fn creations<'a>(&'a self, args: &mut Args<'a>) -> String {
        let runs: Vec<_> = self.created.iter().map(|creation| &creation.run).collect();
        let numbers = new_run_args(&runs, args);
        let names = NEW_COLUMNS.join(", ");
        let worker = if self.claims.is_empty() {
            ""
        } else {
            "WHERE worker IS NULL OR worker IN (SELECT id FROM beaten) "
        };
        format!(
            "created AS (INSERT INTO @run ({names}) SELECT {names} FROM unnest({numbers}) WITH ORDINALITY \
             AS w ({names}, place) {worker}ORDER BY place ON CONFLICT (id) DO NOTHING RETURNING id)",
            numbers = parameters(&numbers),
        )
    }

    /// How the commands fared, `None` for those that need a look after all; and the number of the commit.
    pub fn outcomes(self, rows: &[Row]) -> Result<(Vec<Option<Outcome>>, Option<i64>), Error> {
        let places: HashMap<&str, usize> =
            self.created.iter().map(|creation| (creation.run.id.as_str(), creation.place)).collect();
        let mut happened = BTreeSet::new();
        let mut number = None;
        for row in rows {
            let mut columns = Columns::of(row);
            let place = columns.optional_int()?.and_then(|place| usize::try_from(place).ok());
            let created = columns.optional_text()?.and_then(|run| places.get(&*run).copied());
            happened.extend(place.or(created));
            number = columns.optional_int()?;
        }
        let mut outcomes = vec![None; self.count];
        for step in self.steps {
            // Of a run that was interrupted more is to be changed; of one that is held no more, the look finds that out.
            outcomes[step.place] = happened.contains(&step.place).then_some(Ok(Answer::Done));
        }
        for End { place, ended, .. } in self.ends {
            let answer = Answer::Ended { state: ended.state, released: false };
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

/// Whether more than one run is looked at, or changed.
fn needs_look(command: &Command) -> bool {
    match command {
        Command::RecordStep { .. } => false,
        Command::CompleteRun { stands_alone, .. } => !stands_alone,
        Command::CreateRun(new) => new.schedule_id.is_some() || new.idempotency_key.is_some(),
        _ => true,
    }
}
