//! Steps alone, which is what most commits are made of: the claim is checked and the steps are written by one statement, so that
//! one trip to the server is enough.

use super::pipeline::Statement;
use super::rows::{Args, Columns};
use super::save::{STEP_COLUMNS, step_args, step_sets};
use crate::store::{Answer, Command, Rejection};
use std::collections::BTreeSet;
use tokio_postgres::{Error, Row};

/// The statement that records them, and counts the commit in `slot` if there was anything to record; none where there is anything else among the commands, or one step is there twice.
pub(super) fn statement(commands: &[Command], slot: usize) -> Option<Statement<'_>> {
    let mut seen = BTreeSet::new();
    let mut steps = Vec::with_capacity(commands.len());
    let mut tokens = Vec::with_capacity(commands.len());
    for command in commands {
        let Command::RecordStep { run, token, step } = command else { return None };
        if !seen.insert((run, &step.name)) {
            return None;
        }
        steps.push((run.as_str(), step));
        tokens.push(token.0);
    }
    let mut args = Args::default();
    let mut numbers = step_args(&steps, &mut args);
    numbers.push(args.ints(tokens));
    let numbers: Vec<_> = numbers.iter().map(|number| format!("${number}")).collect();
    let columns = STEP_COLUMNS.join(", ");
    let values: Vec<_> = STEP_COLUMNS.iter().map(|name| format!("w.{name}")).collect();
    let sql = format!(
        "WITH held AS (SELECT r.no, {values}, w.place FROM unnest({numbers}) WITH ORDINALITY \
         AS w (run, {columns}, token, place) JOIN @run r ON r.id = w.run \
         WHERE r.state = 'running' AND r.token = w.token ORDER BY r.id FOR UPDATE OF r), \
         recorded AS (INSERT INTO @step AS t (run, {columns}) SELECT no, {columns} FROM held ORDER BY place \
         ON CONFLICT (run, name) DO UPDATE SET {sets} WHERE t.state <> 'done' RETURNING run), \
         counted AS (UPDATE @commits SET no = no + 1 WHERE slot = {slot} AND EXISTS (SELECT FROM recorded) RETURNING no) \
         SELECT place, (SELECT no FROM counted) FROM held",
        values = values.join(", "),
        numbers = numbers.join(", "),
        sets = step_sets(),
    );
    Some(Statement::Query(sql, args))
}

/// How each step of a statement fared, in their order.
pub(super) type Outcomes = Vec<Result<Answer, Rejection>>;

/// How each of `count` steps fared, the statement names those whose claim stands; and the number of the commit.
pub(super) fn outcomes(count: usize, rows: &[Row]) -> Result<(Outcomes, Option<i64>), Error> {
    let mut outcomes = vec![Err(Rejection::Fenced); count];
    let mut number = None;
    for row in rows {
        let mut columns = Columns::of(row);
        let place = usize::try_from(columns.int()?).unwrap_or(0);
        number = columns.optional_int()?;
        if let Some(outcome) = outcomes.get_mut(place.wrapping_sub(1)) {
            *outcome = Ok(Answer::Done);
        }
    }
    Ok((outcomes, number))
}
