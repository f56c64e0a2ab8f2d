//! One connection, driven by whichever thread uses it: nobody else has to be woken for an answer.

use super::config::ServerConfig;
use super::connect::{NotificationHandler, answered, connect};
use super::error::PgError;
use super::pipeline::{self, Prepared, Statement};
use super::rows::Args;
use super::schema;
use crate::store::StoreError;
use std::cell::Cell;
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::Notify;
use tokio_postgres::{Client, Row};

/// How long a server may take to answer nothing, where it may be dead.
const LIVES_MAX: Duration = Duration::from_millis(1_500);

/// Longest wait for the answers of one trip. Locks are given up sooner, by the server.
const ANSWER_MAX: Duration = Duration::from_secs(30);

/// The same for a migration, which rewrites tables and waits for other migrations.
const LONG_ANSWER_MAX: Duration = Duration::from_secs(3_600);

/// A setting that only a server keeps, not a pooler in between, which lends its connections to many.
const MARK: &str = "polos.session";

/// A plan is kept while the tables grow: made for small ones, it would read them whole for ever. What we send looks rows
/// up by indexes, one after another, and that is right for tables of any size: so a row that is looked at is made dear.
const SETTINGS: &str = "SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off; SET jit = off; \
    SET plan_cache_mode = force_generic_plan; SET cpu_tuple_cost = 1; SET cpu_index_tuple_cost = 1";

/// What a role or database may be set to, and must not be for us. A read is cut when we
/// have given it up. Rows that row-level security hides must be an error, not missing.
const OWN_LIMITS: &str = "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL READ COMMITTED; \
    SET row_security = off; SET statement_timeout = 40000; SET lock_timeout = 5000; \
    SELECT set_config('transaction_timeout', '0', false) \
    WHERE current_setting('transaction_timeout', true) IS NOT NULL";

/// A connection that waits for notifications, or for the next request, is not to be cut. Servers before release 14
/// don't know the setting.
pub(super) const NO_IDLE_LIMIT: &str = "SELECT set_config('idle_session_timeout', '0', false) \
    WHERE current_setting('idle_session_timeout', true) IS NOT NULL";

/// Committed means on disk, whatever the database's default. A `statement_timeout` would make a server acknowledge what
/// its synchronous standby does not have. A client that stops in the middle of a transaction (a
/// process suspended, a machine gone) must not keep its locks: those who take its work over wait for them.
const TO_WRITE: &str = "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL READ COMMITTED READ WRITE; \
    SET statement_timeout = 0; SET idle_in_transaction_session_timeout = 1000; SET lock_timeout = 5000; \
    SELECT set_config('synchronous_commit', CASE current_setting('synchronous_commit') WHEN 'off' THEN 'on' \
    ELSE current_setting('synchronous_commit') END, false)";

/// The same for one transaction, on a connection that others use in between.
const TO_WRITE_ONCE: &str = "SET LOCAL idle_in_transaction_session_timeout = 1000; SET LOCAL lock_timeout = 5000; \
    SET LOCAL statement_timeout = 0; SET LOCAL row_security = off; \
    SELECT set_config('synchronous_commit', 'on', true) WHERE current_setting('synchronous_commit') = 'off'";

/// For one question on a connection that others use in between; as [`OWN_LIMITS`].
const TO_READ_ONCE: &str = "BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY; SET LOCAL statement_timeout = 40000; \
    SET LOCAL lock_timeout = 5000; SET LOCAL row_security = off";

/// For one transaction that may take long, and wait long for another one's.
pub(super) const WITHOUT_LIMITS: &str = "SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = 0; \
    SET LOCAL idle_in_transaction_session_timeout = 60000; \
    SELECT set_config('transaction_timeout', '0', true) \
    WHERE current_setting('transaction_timeout', true) IS NOT NULL";

/// An open connection.
pub(super) struct Connection {
    /// There until it is dropped.
    runtime: Option<Runtime>,
    client: Client,
    /// Where the server itself is at the other end.
    prepared: Option<Prepared>,
    /// The schema, quoted, with its dot.
    prefix: String,
    server: ServerConfig,
    /// Which of the hosts is at the other end.
    host: usize,
    /// Our session's number at the server, where it is known.
    process: Option<i32>,
    /// How many connections had turned out to be dead when this one was last known to live.
    deaths: Cell<u64>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // A name may still be looked up, on a thread that can't be interrupted.
            runtime.shutdown_background();
        }
    }
}

impl Connection {
    /// A connection as it is. Its errors are those of a first one.
    fn connect(server: &ServerConfig, handler: Option<NotificationHandler>) -> Result<Self, StoreError> {
        let runtime = Builder::new_current_thread().enable_all().build().map_err(|error| {
            StoreError::Unavailable(format!("no connection to `{}` can be made: {error}", server.name()))
        })?;
        let deaths = Cell::new(server.deaths());
        match runtime.block_on(connect(server, handler)) {
            Ok((client, host)) => {
                let prefix = server.prefix();
                let server = server.clone();
                Ok(Self {
                    runtime: Some(runtime),
                    client,
                    prepared: None,
                    prefix,
                    server,
                    host,
                    process: None,
                    deaths,
                })
            }
            Err(error) => {
                // A name may still be looked up, on a thread that can't be interrupted.
                runtime.shutdown_background();
                Err(error)
            }
        }
    }

    /// A connection, and whether the server itself is at the other end, rather than a pooler, which
    /// lends its connections to many. `handler` is given to connections to the server only.
    pub fn open(
        server: &ServerConfig,
        handler: impl Fn() -> Option<NotificationHandler>,
    ) -> Result<(Self, bool), StoreError> {
        Self::open_strictly(server, handler).map_err(|error| server.judged(error))
    }

    fn open_strictly(
        server: &ServerConfig,
        handler: impl Fn() -> Option<NotificationHandler>,
    ) -> Result<(Self, bool), StoreError> {
        if server.is_pooled() {
            return Ok((Self::connect(server, None)?, false));
        }
        match Self::open_marked(server, handler()) {
            // Either a pooler refuses the setting, or something else is wrong and will be so again.
            Err(StoreError::Unusable { .. }) => {}
            done => return done,
        }
        let connection = Self::connect(server, None)?;
        // What was wrong may have passed between the two; a pooler refuses the setting again.
        match Self::open_marked(server, handler()) {
            Err(StoreError::Unusable { .. }) => {
                server.note_pooler();
                Ok((connection, false))
            }
            done => done,
        }
    }

    /// A connection with a setting by which a server is told from a pooler.
    fn open_marked(
        server: &ServerConfig,
        handler: Option<NotificationHandler>,
    ) -> Result<(Self, bool), StoreError> {
        let mut connection = Self::connect(&server.with_setting(MARK, "1"), handler)?;
        let process = connection.with(session_number).map_err(|error| error.into_store_error(server))?;
        if process.is_none() {
            server.note_pooler();
        }
        connection.process = process;
        Ok((connection, process.is_some()))
    }

    /// A connection to read or write with: where the server itself is at the other end, what is sent
    /// often is prepared there.
    pub fn open_to_work(server: &ServerConfig) -> Result<Self, StoreError> {
        let (mut connection, is_server) = Self::open(server, || None)?;
        if is_server {
            let settings = format!("{SETTINGS}; {OWN_LIMITS}; {NO_IDLE_LIMIT}");
            connection
                .with(async |session| session.script(&settings).await)
                .map_err(|error| error.into_store_error(server))?;
            connection.prepared = Some(Prepared::default());
        }
        if server.has_worked() {
            // Somebody may have brought the tables to a version that this release must not use.
            schema::check_again(&connection, server)?;
        }
        Ok(connection)
    }

    /// The same, for commits.
    pub fn open_to_write(server: &ServerConfig) -> Result<Self, StoreError> {
        let connection = Self::open_to_work(server)?;
        connection.prepare_to_write().map_err(|error| error.into_store_error(server))?;
        Ok(connection)
    }

    /// Has the server keep what transactions begin with, so that it needn't be said each time; a pooler would lend that to others.
    pub fn prepare_to_write(&self) -> Result<(), PgError> {
        if self.prepared.is_none() {
            return Ok(());
        }
        self.with(async |session| session.script(TO_WRITE).await)
    }

    /// Our session's number at the server, where the server itself is at the other end.
    pub fn process(&self) -> Option<i32> {
        self.process
    }

    /// Whether the server has hung up, as far as was noticed.
    pub fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    /// Whether it can be used. Where another connection has turned out to be dead since this one was used, the server
    /// is asked: what killed that one may have killed this one too, and a request would find out late.
    pub fn is_usable(&self, server: &ServerConfig) -> bool {
        if self.is_closed() {
            return false;
        }
        let deaths = server.deaths();
        if deaths == self.deaths.get() {
            return true;
        }
        let asked = self.run(async { tokio::time::timeout(LIVES_MAX, self.client.simple_query("")).await });
        let lives = matches!(asked, Ok(Ok(_)));
        if lives {
            self.deaths.set(deaths);
        }
        lives
    }

    fn run<T>(&self, work: impl Future<Output = T>) -> T {
        let runtime = self.runtime.as_ref().expect("it is there until the link is dropped");
        runtime.block_on(work)
    }

    /// Works with the connection.
    pub fn with<T>(&self, work: impl AsyncFnOnce(Session<'_>) -> Result<T, PgError>) -> Result<T, PgError> {
        let session = Session { connection: self, is_slow: false, is_reading: false };
        let done = self.run(work(session));
        if done.as_ref().is_err_and(PgError::is_hangup) {
            self.server.note_death();
        }
        done
    }

    /// Lets the connection do what it has to do of its own accord, until somebody wakes it, or for so long.
    pub fn wait_for(&self, wake: &Notify, time: Duration) {
        // Which of the two it was does not matter.
        let _ = self.run(async { tokio::time::timeout(time, wake.notified()).await });
    }

    /// Lets the connection do what it has to do of its own accord, for so long.
    pub fn idle(&self, time: Duration) {
        self.run(async { tokio::time::sleep(time).await });
    }
}

/// The number of our session at the server, if the server knows the setting that we connected with: a pooler would give
/// us another session with the next request.
async fn session_number(session: Session<'_>) -> Result<Option<i32>, PgError> {
    let sql =
        format!("SELECT pg_backend_pid() WHERE current_setting('{MARK}', true) IS NOT DISTINCT FROM '1'");
    let rows = session.query(sql, Args::default()).await?;
    Ok(rows.first().map(|row| row.try_get(0)).transpose()?)
}

/// A connection in use.
#[derive(Copy, Clone)]
pub(super) struct Session<'l> {
    connection: &'l Connection,
    /// Answers may take as long as those of a migration.
    is_slow: bool,
    /// Each question is a transaction of its own.
    is_reading: bool,
}

impl Session<'_> {
    /// The same, for questions outside of transactions.
    pub fn reading(self) -> Self {
        Self { is_reading: true, ..self }
    }

    /// The same, for statements that may take long.
    pub fn slow(self) -> Self {
        Self { is_slow: true, ..self }
    }

    /// How a transaction that writes begins.
    pub fn begin(&self) -> String {
        if self.connection.prepared.is_some() {
            return "BEGIN".to_owned();
        }
        format!("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; {TO_WRITE_ONCE}")
    }

    /// Sends statements in one go; the rows of each.
    pub async fn send(&self, mut statements: Vec<Statement<'_>>) -> Result<Vec<Vec<Row>>, PgError> {
        for statement in &mut statements {
            let (Statement::Query(sql, _) | Statement::Script(sql)) = statement;
            *sql = sql.replace('@', &self.connection.prefix);
        }
        let connection = self.connection;
        let sent = pipeline::send(&connection.client, connection.prepared.as_ref(), &statements);
        let time = if self.is_slow { LONG_ANSWER_MAX } else { ANSWER_MAX };
        answered(sent, (&connection.server, connection.host, connection.process), time).await
    }

    /// Commits one statement, in one trip; its rows.
    pub async fn commit(&self, statement: Statement<'_>) -> Result<Vec<Row>, PgError> {
        if self.connection.prepared.is_some() {
            // A transaction of its own, as the settings of the session say.
            return Ok(self.send(vec![statement]).await?.pop().unwrap_or_default());
        }
        let (begin, end) = (Statement::Script(self.begin()), Statement::Script("COMMIT".to_owned()));
        Ok(self.send(vec![begin, statement, end]).await?.into_iter().nth(1).unwrap_or_default())
    }

    /// Statements without parameters.
    pub async fn script(&self, sql: &str) -> Result<(), PgError> {
        self.send(vec![Statement::Script(sql.to_owned())]).await.map(drop)
    }

    /// One question.
    pub async fn query(&self, sql: impl Into<String>, args: Args<'_>) -> Result<Vec<Row>, PgError> {
        if self.is_reading && self.connection.prepared.is_none() {
            // The session is a pooler's: what a role or database is set to must not cut the answer.
            let (begin, end) =
                (Statement::Script(TO_READ_ONCE.to_owned()), Statement::Script("COMMIT".to_owned()));
            let sent = self.send(vec![begin, Statement::Query(sql.into(), args), end]).await;
            return Ok(sent?.into_iter().nth(1).unwrap_or_default());
        }
        let mut answers = self.send(vec![Statement::Query(sql.into(), args)]).await?;
        Ok(answers.pop().unwrap_or_default())
    }
}
