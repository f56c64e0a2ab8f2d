//! What a transaction of the application executes to create a row, and how commits of polos keep
//! out of its way.
//!
//! A transaction of the application may stay open for minutes. It only adds rows, so it blocks only
//! transactions that add a row of the same name (an idempotency key, or the key of a schedule): the
//! unique index makes them wait for its end. A commit of polos must not wait, because it carries
//! the commands of many callers. So the transaction locks the name, by an advisory lock, and a
//! commit checks whether that lock is held before it adds a row of that name.

use super::PostgresStore;
use super::error::PgError;
use super::listener::channel_name;
use super::pipeline::Statement;
use super::queries::{self, Sql};
use super::rows::{Args, Columns, encoded};
use super::schema;
use crate::calendar::Timestamp;
use crate::model::text::{origin_word, state_word, status_word};
use crate::model::{ClaimRules, NewRun, NewSchedule};
use crate::store::row_reader::RowReader;
use crate::store::tables::transitions;
use crate::store::transaction::{NewRow, Part, TransactionScript, TransactionStatement, Value};
use crate::store::{Command, StoreError};
use std::collections::BTreeSet;
use std::sync::Arc;
use tokio_postgres::Row;

/// Names up to this number are locked by a commit. A lock takes room in a table of the server that
/// is made for some thousands.
const LOCKED_MAX: usize = 256;

/// The tables that both kinds of rows need, besides their own.
const COMMON_TABLES: usize = 3;

impl PostgresStore {
    /// See [`crate::store::StoreReads::in_transaction`].
    pub(super) fn script_for(
        &self,
        new: NewRow<'_>,
        now: Timestamp,
    ) -> Result<TransactionScript, StoreError> {
        let database = self.readers.read(async |session| {
            let rows = session.query(queries::DATABASE_ID, Args::default()).await?;
            Ok(rows.first().map(|row| Columns::of(row).text()).transpose()?)
        })?;
        let Some(database) = database else {
            return Err(StoreError::Denied(format!(
                "the table `database` of `{}` is empty: row-level security hides its row from this role, or \
                 somebody deleted it; let an administrator give the role BYPASSRLS, or restore the table",
                self.server.name()
            )));
        };
        let home = Home { database, schema: self.server.schema(), prefix: self.server.prefix() };
        Ok(match new {
            NewRow::Run(new) => home.run(new, now),
            NewRow::Schedule(new) => home.schedule(new, now),
        })
    }
}

/// Where the row goes.
struct Home<'s> {
    database: Arc<str>,
    schema: &'s str,
    prefix: String,
}

impl Home<'_> {
    fn run(&self, new: &NewRun, now: Timestamp) -> TransactionScript {
        // The limit and the priority are those of the workflow when the transaction executes this.
        let run = transitions::new_run(new, &ClaimRules::default(), now);
        let name =
            new.idempotency_key.as_deref().map(|key| self.name("run", &new.project, &new.workflow, key));
        let mut values = self.first_values(run.id.as_str());
        values.extend([
            text(&run.project),
            text(&run.workflow),
            text(run.id.as_str()),
            text(&run.key),
            text(&run.timezone),
            text(origin_word(run.origin)),
            optional_text(run.payload.as_deref()),
            text(state_word(run.state)),
            int(i64::from(run.attempt)),
            int(run.token.0),
            int(run.available_at.as_micros()),
            int(run.created_at.as_micros()),
            optional_text(run.idempotency_key.as_deref()),
            Value::Int(new.priority.map(i64::from)),
            text(&channel_name(self.schema)),
        ]);
        self.script("run", run.id.as_str(), name, &queries::CREATE_RUN_IN_TRANSACTION, values)
    }

    fn schedule(&self, new: &NewSchedule, now: Timestamp) -> TransactionScript {
        let row = transitions::create_schedule(new, now);
        let schedule = &row.schedule;
        let name = self.name("schedule", &new.project, &new.workflow, &new.key);
        let mut values = self.first_values(schedule.id.as_str());
        values.extend([
            text(schedule.spec.text()),
            optional_text(schedule.input.as_deref()),
            text(&schedule.project),
            text(&schedule.workflow),
            text(&schedule.key),
            text(schedule.id.as_str()),
            text(&row.compiled_spec),
            text(status_word(schedule.status)),
            Value::Int(schedule.next_slot.map(Timestamp::as_micros)),
            int(schedule.attended_from.as_micros()),
            int(schedule.created_at.as_micros()),
            int(schedule.updated_at.as_micros()),
            int(schedule.revision),
            optional_text(schedule.tags.as_deref()),
            text(&channel_name(self.schema)),
        ]);
        let create = &queries::CREATE_SCHEDULE_IN_TRANSACTION;
        self.script("schedule", schedule.id.as_str(), Some(name), create, values)
    }

    /// The values with which both statements that create begin.
    fn first_values(&self, call: &str) -> Vec<Value> {
        vec![text(&self.database), int(schema::newest_version()), text(call)]
    }

    fn script(
        &self,
        table: &str,
        call: &str,
        name: Option<i64>,
        create: &Sql,
        values: Vec<Value>,
    ) -> TransactionScript {
        let check = vec![text(call), Value::Int(name), text(self.schema), text(table)];
        TransactionScript {
            schema: self.schema.to_owned(),
            tables: COMMON_TABLES + 1,
            check: statement(&queries::CHECK_TRANSACTION, &self.prefix, check),
            create: statement(create, &self.prefix, values),
        }
    }

    fn name(&self, kind: &str, project: &str, workflow: &str, key: &str) -> i64 {
        name_of(self.schema, kind, (project, workflow, key))
    }
}

fn text(value: &str) -> Value {
    optional_text(Some(value))
}

fn optional_text(value: Option<&str>) -> Value {
    Value::Text(value.map(|value| encoded(value).into_owned()))
}

fn int(value: i64) -> Value {
    Value::Int(Some(value))
}

/// Splits a statement at its parameters, before the name of the schema is in it: that may contain
/// what looks like one.
fn statement(sql: &Sql, prefix: &str, values: Vec<Value>) -> TransactionStatement {
    let mut parts = Vec::new();
    let mut pieces = sql.text.split('$');
    parts.extend(pieces.next().map(|piece| Part::Sql(piece.replace('@', prefix))));
    for piece in pieces {
        let digits = piece.find(|sign: char| !sign.is_ascii_digit()).unwrap_or(piece.len());
        let (number, rest) = piece.split_at(digits);
        parts.push(Part::Value(number.parse::<usize>().unwrap_or(1) - 1));
        parts.push(Part::Sql(rest.replace('@', prefix)));
    }
    TransactionStatement { parts, values }
}

/// The advisory lock of a name. Advisory locks are those of the whole database, so the schema is a
/// part of it.
fn name_of(schema: &str, kind: &str, (project, workflow, key): (&str, &str, &str)) -> i64 {
    advisory_lock(&["polos", kind, schema, project, workflow, key])
}

/// The advisory lock of what these texts name.
pub(super) fn advisory_lock(texts: &[&str]) -> i64 {
    texts
        .iter()
        .flat_map(|part| part.bytes().chain([0xff]))
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
        .cast_signed()
}

/// The names of the rows that a command may add, where a transaction of the application may add
/// them too.
fn names<'c>(command: &'c Command, schema: &'c str) -> Box<dyn Iterator<Item = i64> + 'c> {
    let schedules = move |new: &'c [NewSchedule]| {
        new.iter().map(move |new| name_of(schema, "schedule", (&new.project, &new.workflow, &new.key)))
    };
    match command {
        Command::CreateRun(new) => Box::new(
            chosen_key(new)
                .into_iter()
                .map(move |key| name_of(schema, "run", (&new.project, &new.workflow, key))),
        ),
        Command::UpsertSchedules(new) => Box::new(schedules(new)),
        Command::RegisterWorker(entry) => Box::new(schedules(&entry.declared)),
        _ => Box::new(std::iter::empty()),
    }
}

/// The idempotency key of a run, if a person chose it. No transaction of the application has a key
/// that polos chose: that of a child run, or of a request that a handler may repeat.
fn chosen_key(new: &NewRun) -> Option<&str> {
    new.idempotency_key.as_deref().filter(|key| new.parent.is_none() && !key.starts_with("auto:"))
}

/// The statement that locks the names of the rows that the commands may add, and returns those that
/// transactions of the application hold. `None` if there are no names.
pub(super) fn lock_names<'a>(commands: &[Command], schema: &str) -> Option<Statement<'a>> {
    let all: BTreeSet<i64> = commands.iter().flat_map(|command| names(command, schema)).collect();
    if all.is_empty() {
        return None;
    }
    let mut args = Args::default();
    if all.len() > LOCKED_MAX {
        return Some(Statement::Query(queries::HELD_NAMES, args));
    }
    args.ints(all);
    Some(Statement::Query(queries::LOCK_NAMES, args))
}

/// The names that transactions of the application are creating.
#[derive(Default)]
pub(super) struct Held<'s> {
    schema: &'s str,
    names: BTreeSet<i64>,
    /// Runs with these numbers, of which one has such a name.
    together: BTreeSet<u64>,
}

impl<'s> Held<'s> {
    /// Reads the answer to [`lock_names`].
    pub fn of(commands: &[Command], schema: &'s str, rows: &[Row]) -> Result<Self, PgError> {
        let mut held = Self { schema, ..Self::default() };
        for row in rows {
            held.names.insert(Columns::of(row).int()?);
        }
        held.together =
            commands.iter().filter(|command| held.has_name_of(command)).filter_map(together).collect();
        Ok(held)
    }

    /// Whether the command can't be applied before such a transaction has ended. Runs that are
    /// created together are all created or none of them.
    pub fn rejects(&self, command: &Command) -> bool {
        !self.names.is_empty()
            && (self.has_name_of(command)
                || together(command).is_some_and(|number| self.together.contains(&number)))
    }

    fn has_name_of(&self, command: &Command) -> bool {
        names(command, self.schema).any(|name| self.names.contains(&name))
    }
}

fn together(command: &Command) -> Option<u64> {
    match command {
        Command::CreateRun(new) => new.together,
        _ => None,
    }
}
