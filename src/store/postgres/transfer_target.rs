//! The database that a project moves into.

use super::connection::{Connection, Session};
use super::error::PgError;
use super::pipeline::Statement;
use super::rows::{Args, Columns, limit_to_sql};
use super::{PostgresOptions, PostgresStore};
use crate::calendar::Timestamp;
use crate::model::WorkerId;
use crate::store::transfer::{
    Batch, Cell, Kind, LEDGER, Mark, RUNS, Row, SCHEDULES, STEPS, Side, Table, TransferError, WORKFLOWS,
};
use crate::store::{Answer, Command, Store, StoreError};
use tokio_postgres::types::Type;

/// A database that rows are written to in order.
pub(in crate::store) struct TransferTarget {
    store: PostgresStore,
    connection: Connection,
}

/// Reads what has arrived.
pub(in crate::store) struct Arrived<'a>(&'a TransferTarget);

/// A project that moves takes nothing from anybody else.
const CLOSED: [&str; 3] = ["worker", "run", "schedule"];

/// Rows that are taken away in one transaction.
const TAKEN_AT_ONCE: usize = 10_000;

/// Begins a transaction that may write while all others may not.
const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; SET LOCAL polos.moving = '1'; \
    SET LOCAL statement_timeout = 0";

impl TransferTarget {
    pub fn open(url: &str) -> Result<Self, StoreError> {
        let store = PostgresStore::open(url, PostgresOptions::default())?;
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

    /// How far the move of a project is; `None` where none was begun.
    pub fn mark(&self, project: &str) -> Result<Option<Mark>, StoreError> {
        let schema = self.store.server.schema();
        self.with(async |session| {
            let mut args = Args::default();
            let schema = args.text(schema);
            let sql = format!(
                "SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
                 WHERE n.nspname = ${schema} AND c.relname = 'moving'"
            );
            let rows = session.query(sql, args).await?;
            if rows.first().is_none_or(|row| Columns::of(row).count().unwrap_or(0) == 0) {
                return Ok(None);
            }
            let mut args = Args::default();
            let project = args.text(project);
            let sql =
                format!("SELECT source, part, after, done, is_done FROM @moving WHERE project = ${project}");
            let rows = session.query(sql, args).await?;
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

    /// What of the project is there already.
    pub fn finds(&self, project: &str) -> Result<Option<&'static str>, StoreError> {
        let kinds = [
            ("worker", "a worker at work"),
            ("schedule", "schedules"),
            ("run", "runs"),
            ("ledger", "a history"),
            ("workflow", "workflows"),
        ];
        self.with(async |session| {
            for (table, what) in kinds {
                let mut args = Args::default();
                let project = args.text(project);
                let sql = format!("SELECT true FROM @{table} WHERE project = ${project} LIMIT 1");
                if !session.query(sql, args).await?.is_empty() {
                    return Ok(Some(what));
                }
            }
            Ok(None)
        })
    }

    /// Lets nobody else write to the project, and leaves the first mark where there is none.
    pub fn close(&self, project: &str, source: &str, first: &str) -> Result<(), StoreError> {
        let triggers: Vec<_> = CLOSED
            .iter()
            .map(|table| {
                format!(
                    "DROP TRIGGER IF EXISTS moving ON @{table}; CREATE TRIGGER moving BEFORE INSERT ON @{table} \
                     FOR EACH ROW EXECUTE FUNCTION @refuse_while_moving();"
                )
            })
            .collect();
        let script = format!(
            "{BEGIN}; CREATE TABLE IF NOT EXISTS @moving (project text COLLATE \"C\" PRIMARY KEY, source text NOT NULL, \
             part text NOT NULL, after text COLLATE \"C\" NOT NULL, done bigint NOT NULL, is_done boolean NOT NULL); \
             CREATE OR REPLACE FUNCTION @refuse_while_moving() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
             IF current_setting('polos.moving', true) = '1' OR NOT EXISTS (SELECT FROM @moving m \
             WHERE m.project = NEW.project AND NOT m.is_done) THEN RETURN NEW; END IF; \
             RAISE EXCEPTION 'the project \"%\" is on its way here; let \"polos migrate\" finish first', NEW.project \
             USING ERRCODE = '23514'; END $$; {}",
            triggers.join(" ")
        );
        self.with(async |session| {
            let mut args = Args::default();
            let values = [args.text(project), args.text(source), args.text(first)];
            let insert = format!(
                "INSERT INTO @moving VALUES (${}, ${}, ${}, '', 0, false) ON CONFLICT DO NOTHING",
                values[0], values[1], values[2]
            );
            session.script(&script).await?;
            transact(session, vec![Statement::Query(insert, args)]).await.map(drop)
        })
    }

    /// Lets all write; from now on the project lives here.
    pub fn reopen(&self, project: &str) -> Result<(), StoreError> {
        self.end(project, "UPDATE @moving SET is_done = true WHERE project = $1")
    }

    /// Changes the mark, and opens the tables where nothing else is on its way.
    fn end(&self, project: &str, change: &str) -> Result<(), StoreError> {
        self.with(async |session| {
            let mut args = Args::default();
            args.text(project);
            session.script(BEGIN).await?;
            let others = vec![
                Statement::Query(change.to_owned(), args),
                Statement::Query(
                    "SELECT true FROM @moving WHERE NOT is_done LIMIT 1".to_owned(),
                    Args::default(),
                ),
            ];
            let others = session.send(others).await.map(|rows| rows.into_iter().nth(1).unwrap_or_default());
            let ended = match others {
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
            if ended.is_err() {
                let _ = session.script("ROLLBACK").await;
            }
            ended
        })
    }

    /// Writes rows, and how far it is with them, unless another process has come further.
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
            let (place, after) = (args.text(next.0), args.text(next.1));
            let done = args.int(i64::try_from(next.2).unwrap_or(i64::MAX));
            let (project_no, old, old_after) = (args.text(project), args.text(before.0), args.text(before.1));
            let mark = format!(
                "UPDATE @moving SET part = ${place}, after = ${after}, done = ${done} WHERE project = ${project_no} \
                 AND part = ${old} AND after = ${old_after} AND NOT is_done RETURNING true"
            );
            let mut statements = vec![Statement::Query(mark, args)];
            if !batch.rows.is_empty() {
                statements.push(insert(table, project, &batch.rows));
            }
            if !batch.steps.is_empty() {
                statements.push(insert(STEPS, project, &batch.steps));
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

    /// Notes that it has come so far.
    pub fn note(&self, project: &str, part: &str) -> Result<(), StoreError> {
        self.with(async |session| {
            let mut args = Args::default();
            let (part, project) = (args.text(part), args.text(project));
            let sql = format!("UPDATE @moving SET part = ${part}, after = '' WHERE project = ${project}");
            transact(session, vec![Statement::Query(sql, args)]).await.map(drop)
        })
    }

    /// Takes the runs of workers that were killed from them, as another worker would; how many.
    pub fn free_runs(&self, project: &str) -> Result<u64, StoreError> {
        let workers = self.with(async |session| {
            let mut args = Args::default();
            let project = args.text(project);
            let sql = format!(
                "SELECT DISTINCT r.worker FROM @run r WHERE r.state = 'running' AND r.worker IS NOT NULL \
                 AND r.project = ${project} ORDER BY 1"
            );
            let rows = session.query(sql, args).await?;
            let mut workers = Vec::new();
            for row in &rows {
                workers.push(Columns::of(row).worker_id()?);
            }
            Ok(workers)
        })?;
        let mut freed = 0;
        for worker in workers {
            self.enter(project, &worker)?;
            let command = Command::ExpireWorker { worker, heartbeat: 0, shares_process: true };
            let answers = self.store.commit(&[command], self.time()?)?;
            if let Some(Ok(Answer::Count(count))) = answers.first() {
                freed += count;
            }
        }
        Ok(freed)
    }

    /// A row for one that is dead, so that it can be buried.
    fn enter(&self, project: &str, worker: &WorkerId) -> Result<(), StoreError> {
        self.with(async |session| {
            let mut args = Args::default();
            let (id, project) = (args.text(worker.as_str()), args.text(project));
            let sql = format!(
                "INSERT INTO @worker (id, project, app, host, pid, process_mark, about, beat, entered_at, beat_at, \
                 workflows) VALUES (${id}, ${project}, '', '', 0, '', '{{}}', 0, 0, 0, '{{}}') ON CONFLICT DO NOTHING"
            );
            transact(session, vec![Statement::Query(sql, args)]).await.map(drop)
        })
    }

    /// Removes all that has arrived of the project, and the mark.
    pub fn take_away(&self, project: &str) -> Result<(), StoreError> {
        let most = limit_to_sql(TAKEN_AT_ONCE);
        for table in [SCHEDULES, LEDGER, RUNS, WORKFLOWS] {
            let place = if [RUNS.name, LEDGER.name].contains(&table.name) { "no" } else { "id" };
            let name = table.name;
            let chosen = format!("SELECT {place} FROM @{name} WHERE project = $1 LIMIT $2");
            loop {
                let gone = self.with(async |session| {
                    let mut args = Args::default();
                    args.text(project);
                    args.int(most);
                    // The steps go with their runs: both see the tables as they were.
                    let sql = if name == RUNS.name {
                        format!(
                            "WITH chosen AS ({chosen}), steps AS (DELETE FROM @step WHERE run IN (SELECT no FROM chosen)) \
                             DELETE FROM @run WHERE no IN (SELECT no FROM chosen) RETURNING true"
                        )
                    } else {
                        format!(
                            "DELETE FROM @{name} WHERE project = $1 AND {place} IN ({chosen}) RETURNING true"
                        )
                    };
                    Ok(transact(session, vec![Statement::Query(sql, args)]).await?.len())
                })?;
                if gone == 0 {
                    break;
                }
            }
        }
        self.end(project, "DELETE FROM @moving WHERE project = $1")
    }

    pub fn reader(&self) -> Arrived<'_> {
        Arrived(self)
    }
}

/// Sends statements as one transaction that may write; the rows of the last.
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
    let arrays: Vec<_> = table
        .columns
        .iter()
        .enumerate()
        .map(|(place, (_, kind))| {
            let cells = rows.iter().map(|row| row.get(place).unwrap_or(&Cell::Null));
            let number = match kind {
                Kind::Text => args.optional_texts(cells.map(as_text)),
                Kind::Int => args.optional_ints(cells.map(as_int)),
                Kind::Flag => args.optional_flags(cells.map(|cell| as_int(cell).map(|value| value != 0))),
            };
            format!("${number}")
        })
        .collect();
    let names: Vec<_> = table.columns.iter().map(|(name, _)| *name).collect();
    let columns = names.join(", ");
    let rows = format!("unnest({}) WITH ORDINALITY AS w ({columns}, place)", arrays.join(", "));
    let sql = if table.name == STEPS.name {
        let others = names[1..].join(", ");
        let values: Vec<_> = names[1..].iter().map(|name| format!("w.{name}")).collect();
        format!(
            "INSERT INTO @step (run, {others}) SELECT r.no, {} FROM {rows} JOIN @run r ON r.id = w.run \
             ORDER BY w.place ON CONFLICT DO NOTHING",
            values.join(", ")
        )
    } else {
        let project = args.add(super::rows::encoded(project), Type::TEXT);
        format!(
            "INSERT INTO @{} (project, {columns}) SELECT ${project}, {columns} FROM {rows} ORDER BY w.place \
             ON CONFLICT DO NOTHING",
            table.name
        )
    };
    Statement::Query(sql, args)
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
    let by_number = [RUNS.name, LEDGER.name].contains(&table.name);
    let place = if by_number { "no" } else { "id" };
    let names: Vec<_> = table.columns.iter().map(|(name, _)| format!("r.{name}")).collect();
    let project_no = args.text(project);
    let behind = if by_number { args.int(after.parse().unwrap_or(i64::MIN)) } else { args.text(after) };
    let most = args.int(limit_to_sql(limit));
    let sql = format!(
        "SELECT r.{place}, {} FROM @{} r WHERE r.project = ${project_no} AND r.{place} > ${behind} \
         ORDER BY r.{place} LIMIT ${most}",
        names.join(", "),
        table.name
    );
    let found = session.query(sql, args).await?;
    let mut rows = Vec::with_capacity(found.len());
    let (mut first, mut last) = (None, String::new());
    for row in &found {
        let mut columns = Columns::of(row);
        last = if by_number { columns.int()?.to_string() } else { columns.text()?.to_string() };
        first.get_or_insert_with(|| last.clone());
        rows.push(cells(&mut columns, table.columns)?);
    }
    let steps = match first {
        Some(first) if table.name == RUNS.name => steps(session, project, &first, &last).await?,
        _ => Vec::new(),
    };
    let after = (found.len() == limit).then_some(last);
    Ok(Batch { rows, steps, after })
}

async fn steps(session: Session<'_>, project: &str, first: &str, last: &str) -> Result<Vec<Row>, PgError> {
    let number = |text: &str| text.parse().unwrap_or(0);
    let mut args = Args::default();
    let (project, first, last) = (args.text(project), args.int(number(first)), args.int(number(last)));
    let names: Vec<_> = STEPS.columns[1..].iter().map(|(name, _)| format!("t.{name}")).collect();
    let sql = format!(
        "SELECT r.id, {} FROM @run r JOIN @step t ON t.run = r.no WHERE r.no >= ${first} AND r.no <= ${last} \
         AND r.project = ${project} ORDER BY t.run, t.no",
        names.join(", ")
    );
    let found = session.query(sql, args).await?;
    let mut rows = Vec::with_capacity(found.len());
    for row in &found {
        rows.push(cells(&mut Columns::of(row), STEPS.columns)?);
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
