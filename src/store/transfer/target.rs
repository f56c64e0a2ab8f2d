//! The target of a transfer: the database into which projects move.

use super::{
    Batch, CALENDARS, Cell, EVENTS, Kind, LEDGER, LIMITS, Mark, RUNS, Row, SCHEDULES, STEPS, Side, Table,
    TransferError, WORKFLOWS,
};
use crate::calendar::Timestamp;
use crate::model::WorkerId;
use crate::store::postgres::connection::{Connection, Session};
use crate::store::postgres::error::PgError;
use crate::store::postgres::pipeline::Statement;
use crate::store::postgres::queries::{self, Sql};
use crate::store::postgres::rows::{Args, Columns, limit_to_sql};
use crate::store::postgres::{PostgresOptions, PostgresStore};
use crate::store::row_reader::RowReader;
use crate::store::{Answer, Command, StoreError, StoreWrites};

/// A database into which a transfer writes rows in order.
pub(super) struct TransferTarget {
    store: PostgresStore,
    connection: Connection,
}

/// Reads what has been written.
pub(super) struct Arrived<'a>(&'a TransferTarget);

/// While a project moves, only the transfer may write to these tables. A worker can't register, and
/// what others would change (send an event, cancel a run, set a limit) might be lost: the transfer
/// compares both sides, and may be abandoned.
const CLOSED: [&str; 9] =
    ["worker", "schedule", "run", "step", "event", "ledger", "workflow", "run_limit", "calendar"];

/// Refuses a write to a project that is being transferred. Steps and events belong to the project
/// of their run.
const REFUSE_WHILE_MOVING: &str = "CREATE OR REPLACE FUNCTION @refuse_while_moving() RETURNS trigger \
    LANGUAGE plpgsql AS $$ DECLARE it record; home text; BEGIN \
    IF TG_OP = 'DELETE' THEN it := OLD; ELSE it := NEW; END IF; \
    IF current_setting('polos.moving', true) = '1' THEN RETURN it; END IF; \
    IF TG_TABLE_NAME IN ('step', 'event') THEN SELECT r.project INTO home FROM @run r WHERE r.no = it.run; \
    ELSE home := it.project; END IF; \
    IF NOT EXISTS (SELECT FROM @moving m WHERE m.project = home AND NOT m.is_done) THEN RETURN it; END IF; \
    RAISE EXCEPTION 'the project \"%\" is on its way here; let \"polos migrate\" finish first', home \
    USING ERRCODE = '23514'; END $$";

/// How many rows to delete in one transaction.
const DELETED_AT_ONCE: usize = 10_000;

/// Begins a transaction that may write although the project is closed to others.
const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; SET LOCAL polos.moving = '1'; \
    SET LOCAL statement_timeout = 0";

impl TransferTarget {
    pub fn open(url: &str) -> Result<Self, StoreError> {
        let store = PostgresStore::open(url, PostgresOptions::default())?;
        store.server.begin_transfer();
        let connection = Connection::open_to_work(&store.server)?;
        Ok(Self { store, connection })
    }

    /// Its URL without password and parameters.
    pub fn name(&self) -> &str {
        self.store.name()
    }

    pub fn time(&self) -> Result<Timestamp, StoreError> {
        self.store.time()
    }

    fn with<T>(&self, work: impl AsyncFnOnce(Session<'_>) -> Result<T, PgError>) -> Result<T, StoreError> {
        self.connection.with(work).map_err(|error| error.into_store_error(&self.store.server))
    }

    /// How far the transfer of a project is. `None` if none has begun.
    pub fn mark(&self, project: &str) -> Result<Option<Mark>, StoreError> {
        let schema = self.store.server.schema();
        self.with(async |session| {
            let mut args = Args::default();
            args.text(schema);
            let rows = session.query(queries::HAS_MARKS, args).await?;
            if rows.first().is_none_or(|row| Columns::of(row).count().unwrap_or(0) == 0) {
                return Ok(None);
            }
            let mut args = Args::default();
            args.text(project);
            let rows = session.query(queries::MARK, args).await?;
            let Some(row) = rows.first() else { return Ok(None) };
            let mut columns = Columns::of(row);
            Ok(Some(Mark {
                source: columns.text()?.to_string(),
                table: columns.text()?.to_string(),
                after: columns.text()?.to_string(),
                done: columns.count()?,
                is_done: columns.flag()?,
            }))
        })
    }

    /// What the database already has of the project, for a message.
    pub fn finds(&self, project: &str) -> Result<Option<&'static str>, StoreError> {
        let kinds = [
            ("worker", "a worker at work"),
            ("schedule", "schedules"),
            ("run", "runs"),
            ("ledger", "a history"),
            ("workflow", "workflows"),
            ("run_limit", "limits"),
            ("calendar", "calendars"),
        ];
        self.with(async |session| {
            for (table, what) in kinds {
                let mut args = Args::default();
                args.text(project);
                if !session.query(queries::has_rows(table), args).await?.is_empty() {
                    return Ok(Some(what));
                }
            }
            Ok(None)
        })
    }

    /// Closes the project to other writers, and leaves the first mark if there is none.
    pub fn close(&self, project: &str, source: &str, first: &str) -> Result<(), StoreError> {
        let triggers: Vec<_> = CLOSED
            .iter()
            .map(|table| {
                // A worker that registered just before may leave again.
                let changes = if *table == "worker" { "INSERT" } else { "INSERT OR UPDATE OR DELETE" };
                format!(
                    "DROP TRIGGER IF EXISTS moving ON @{table}; CREATE TRIGGER moving BEFORE {changes} ON @{table} \
                     FOR EACH ROW EXECUTE FUNCTION @refuse_while_moving();"
                )
            })
            .collect();
        let script = format!(
            "{BEGIN}; CREATE TABLE IF NOT EXISTS @moving (project text COLLATE \"C\" PRIMARY KEY, source text NOT NULL, \
             part text NOT NULL, after text COLLATE \"C\" NOT NULL, done bigint NOT NULL, is_done boolean NOT NULL); \
             {REFUSE_WHILE_MOVING}; {}",
            triggers.join(" ")
        );
        self.with(async |session| {
            let mut args = Args::default();
            args.text(project);
            args.text(source);
            args.text(first);
            session.script(&script).await?;
            transact(session, vec![Statement::Query(queries::FIRST_MARK, args)]).await.map(drop)
        })
    }

    /// Opens the project to all writers. From now on it is in this database.
    pub fn reopen(&self, project: &str) -> Result<(), StoreError> {
        self.finish(project, &queries::FINISH_MARK)
    }

    /// Changes the mark, and removes the triggers if no other project is moving.
    fn finish(&self, project: &str, change: &Sql) -> Result<(), StoreError> {
        self.with(async |session| {
            let mut args = Args::default();
            args.text(project);
            session.script(BEGIN).await?;
            let others = vec![
                Statement::Query(change.clone(), args),
                Statement::Query(queries::OTHER_TRANSFER, Args::default()),
            ];
            let others = session.send(others).await.map(|rows| rows.into_iter().nth(1).unwrap_or_default());
            let finished = match others {
                Ok(others) if others.is_empty() => {
                    let triggers =
                        CLOSED.map(|table| format!("DROP TRIGGER IF EXISTS moving ON @{table};")).join(" ");
                    session
                        .script(&format!("{triggers} DROP FUNCTION IF EXISTS @refuse_while_moving(); COMMIT"))
                        .await
                }
                Ok(_) => session.script("COMMIT").await,
                Err(error) => Err(error),
            };
            if finished.is_err() {
                let _ = session.script("ROLLBACK").await;
            }
            finished
        })
    }

    /// Writes rows and advances the mark, unless another process has advanced it.
    pub fn store(
        &self,
        table: Table,
        project: &str,
        batch: &Batch,
        before: (&str, &str),
        next: (&str, &str, u64),
    ) -> Result<(), TransferError> {
        let moved = self.with(async |session| {
            let mut args = Args::default();
            args.text(next.0);
            args.text(next.1);
            args.int(i64::try_from(next.2).unwrap_or(i64::MAX));
            args.text(project);
            args.text(before.0);
            args.text(before.1);
            let mut statements = vec![Statement::Query(queries::ADVANCE_MARK, args)];
            if !batch.rows.is_empty() {
                statements.push(insert(table, project, &batch.rows));
            }
            for (table, rows) in [(STEPS, &batch.steps), (EVENTS, &batch.events)] {
                if !rows.is_empty() {
                    statements.push(insert(table, project, rows));
                }
            }
            session.script(BEGIN).await?;
            let done = session.send(statements).await;
            let is_ours = match &done {
                Ok(answers) => answers.first().is_some_and(|rows| !rows.is_empty()),
                Err(_) => false,
            };
            if is_ours {
                return session.script("COMMIT").await.map(|()| true);
            }
            let _ = session.script("ROLLBACK").await;
            done.map(|_| false)
        })?;
        if moved {
            return Ok(());
        }
        Err(TransferError::Refused(format!(
            "another `polos migrate` moves the project `{project}` into `{}` at the same time",
            self.name()
        )))
    }

    /// Records which part of the transfer comes next.
    pub fn note(&self, project: &str, part: &str) -> Result<(), StoreError> {
        self.with(async |session| {
            let mut args = Args::default();
            args.text(part);
            args.text(project);
            transact(session, vec![Statement::Query(queries::NOTE_PART, args)]).await.map(drop)
        })
    }

    /// Frees the runs of workers that were killed, as another worker would. Returns how many.
    pub fn free_runs(&self, project: &str) -> Result<u64, StoreError> {
        let workers = self.with(async |session| {
            let mut args = Args::default();
            args.text(project);
            let rows = session.query(queries::HOLDERS, args).await?;
            let mut workers = Vec::new();
            for row in &rows {
                workers.push(Columns::of(row).worker_id()?);
            }
            Ok(workers)
        })?;
        let mut freed = 0;
        for worker in workers {
            self.register_dead(project, &worker)?;
            let command = Command::ExpireWorker { worker, heartbeat: 0, shares_process: true };
            let answers = self.store.commit(&[command], self.time()?)?;
            if let Some(Ok(Answer::Count(count))) = answers.first() {
                freed += count;
            }
        }
        Ok(freed)
    }

    /// Registers a dead worker, so that it can be expired.
    fn register_dead(&self, project: &str, worker: &WorkerId) -> Result<(), StoreError> {
        self.with(async |session| {
            let mut args = Args::default();
            args.text(worker.as_str());
            args.text(project);
            transact(session, vec![Statement::Query(queries::REGISTER_DEAD_WORKER, args)]).await.map(drop)
        })
    }

    /// Deletes everything that was written of the project, and the mark.
    pub fn take_away(&self, project: &str) -> Result<(), StoreError> {
        for table in [SCHEDULES, LEDGER, RUNS, WORKFLOWS, CALENDARS, LIMITS] {
            loop {
                let deleted = self.with(async |session| {
                    let mut args = Args::default();
                    args.text(project);
                    args.int(limit_to_sql(DELETED_AT_ONCE));
                    let statement = Statement::Query(queries::delete_rows(table), args);
                    Ok(transact(session, vec![statement]).await?.len())
                })?;
                if deleted == 0 {
                    break;
                }
            }
        }
        self.finish(project, &queries::DELETE_MARK)
    }

    pub fn reader(&self) -> Arrived<'_> {
        Arrived(self)
    }
}

/// Sends statements as one transaction that may write. Returns the rows of the last one.
async fn transact(
    session: Session<'_>,
    statements: Vec<Statement<'_>>,
) -> Result<Vec<tokio_postgres::Row>, PgError> {
    session.script(BEGIN).await?;
    let done = session.send(statements).await;
    if done.is_err() {
        let _ = session.script("ROLLBACK").await;
    } else {
        session.script("COMMIT").await?;
    }
    done.map(|mut rows| rows.pop().unwrap_or_default())
}

/// Inserts rows in their order.
fn insert<'r>(table: Table, project: &'r str, rows: &'r [Row]) -> Statement<'r> {
    let mut args = Args::default();
    for (place, (_, kind)) in table.columns.iter().enumerate() {
        let cells = rows.iter().map(|row| row.get(place).unwrap_or(&Cell::Null));
        match kind {
            Kind::Text => args.optional_texts(cells.map(as_text)),
            Kind::Int => args.optional_ints(cells.map(as_int)),
            Kind::Flag => args.optional_flags(cells.map(|cell| as_int(cell).map(|value| value != 0))),
        };
    }
    if ![STEPS.name, EVENTS.name].contains(&table.name) {
        args.text(project);
    }
    Statement::Query(queries::insert_rows(table), args)
}

fn as_text(cell: &Cell) -> Option<&str> {
    match cell {
        Cell::Text(text) => Some(text),
        Cell::Int(_) | Cell::Null => None,
    }
}

fn as_int(cell: &Cell) -> Option<i64> {
    match cell {
        Cell::Int(value) => Some(*value),
        Cell::Text(_) | Cell::Null => None,
    }
}

impl Side for Arrived<'_> {
    fn read(&mut self, table: Table, project: &str, after: &str, limit: usize) -> Result<Batch, StoreError> {
        self.0.with(async |session| page(session, table, project, after, limit).await)
    }
}

async fn page(
    session: Session<'_>,
    table: Table,
    project: &str,
    after: &str,
    limit: usize,
) -> Result<Batch, PgError> {
    let mut args = Args::default();
    let by_number = queries::order_of(table.name) == "no";
    args.text(project);
    if by_number {
        args.int(after.parse().unwrap_or(i64::MIN));
    } else {
        args.text(after);
    }
    args.int(limit_to_sql(limit));
    let found = session.query(queries::transferred_rows(table), args).await?;
    let mut rows = Vec::with_capacity(found.len());
    let (mut first, mut last) = (None, String::new());
    for row in &found {
        let mut columns = Columns::of(row);
        last = if by_number { columns.int()?.to_string() } else { columns.text()?.to_string() };
        first.get_or_insert_with(|| last.clone());
        rows.push(cells(&mut columns, table.columns)?);
    }
    let (steps, events) = match first {
        Some(first) if table.name == RUNS.name => (
            with_runs(session, STEPS, "no", project, (&first, &last)).await?,
            with_runs(session, EVENTS, "name", project, (&first, &last)).await?,
        ),
        _ => (Vec::new(), Vec::new()),
    };
    let after = (found.len() == limit).then_some(last);
    Ok(Batch { rows, steps, events, after })
}

/// Rows of a table that move with their runs.
async fn with_runs(
    session: Session<'_>,
    table: Table,
    order: &str,
    project: &str,
    (first, last): (&str, &str),
) -> Result<Vec<Row>, PgError> {
    let number = |text: &str| text.parse().unwrap_or(0);
    let mut args = Args::default();
    args.text(project);
    args.int(number(first));
    args.int(number(last));
    let found = session.query(queries::transferred_with_runs(table, order), args).await?;
    let mut rows = Vec::with_capacity(found.len());
    for row in &found {
        rows.push(cells(&mut Columns::of(row), table.columns)?);
    }
    Ok(rows)
}

fn cells(columns: &mut Columns<'_>, kinds: &[(&str, Kind)]) -> Result<Row, PgError> {
    let mut row = Vec::with_capacity(kinds.len());
    for (_, kind) in kinds {
        row.push(match kind {
            Kind::Text => columns.optional_text()?.map_or(Cell::Null, |text| Cell::Text(text.to_string())),
            Kind::Int => columns.optional_int()?.map_or(Cell::Null, Cell::Int),
            Kind::Flag => columns.optional_flag()?.map_or(Cell::Null, |flag| Cell::Int(i64::from(flag))),
        });
    }
    Ok(row)
}
