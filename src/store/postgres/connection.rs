//! One connection. The thread that uses it drives it, so no other thread has to be woken for an
//! answer.

use super::config::ServerConfig;
use super::connect::{NotConnected, NotificationHandler, answered, connect};
use super::error::PgError;
use super::pipeline::{self, Prepared, Sent, Statement};
use super::queries::{self, Sql};
use super::rows::Args;
use super::schema;
use crate::store::StoreError;
use std::cell::Cell;
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::Notify;
use tokio_postgres::{Client, Row};

/// How long a server that may be dead has to answer an empty request.
const LIVES_MAX: Duration = Duration::from_millis(1_500);

/// The longest wait for the answers of one round trip. The server gives up waiting for locks
/// sooner.
const ANSWER_MAX: Duration = Duration::from_secs(30);

/// The same for a migration, which rewrites tables and waits for other migrations.
const LONG_ANSWER_MAX: Duration = Duration::from_secs(3_600);

/// A setting that a server keeps and a pooler does not, since it lends its connections to many.
/// [`queries::SESSION_NUMBER`] asks for it.
const MARK: &str = "polos.session";

/// The server keeps a plan while tables grow, so one made for small tables would scan large ones
/// forever. Our statements look rows up by indexes, which is right for tables of any size, so the
/// cost of reading a row is set high.
const SETTINGS: &str = "SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off; SET jit = off; \
    SET plan_cache_mode = force_generic_plan; SET cpu_tuple_cost = 1; SET cpu_index_tuple_cost = 1";

/// Settings of a role or database that must not apply to us. We give a read up before its
/// `statement_timeout`. Rows that row-level security hides must be an error, not missing.
const OWN_LIMITS: &str = "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL READ COMMITTED; \
    SET row_security = off; SET statement_timeout = 40000; SET lock_timeout = 5000; \
    SELECT set_config('transaction_timeout', '0', false) \
    WHERE current_setting('transaction_timeout', true) IS NOT NULL";

/// The server must not cut a connection that waits for notifications or for the next request.
/// Servers before release 14 do not know the setting.
pub(super) const NO_IDLE_LIMIT: &str = "SELECT set_config('idle_session_timeout', '0', false) \
    WHERE current_setting('idle_session_timeout', true) IS NOT NULL";

/// Committed means on disk, whatever the database's default. A `statement_timeout` would make the
/// server acknowledge what its synchronous standby does not have. A client that stops inside a
/// transaction (a suspended process, a lost machine) must not keep its locks, because the workers
/// that take over its runs wait for them.
const TO_WRITE: &str = "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL READ COMMITTED READ WRITE; \
    SET statement_timeout = 0; SET idle_in_transaction_session_timeout = 1000; SET lock_timeout = 5000; \
    SELECT set_config('synchronous_commit', CASE current_setting('synchronous_commit') WHEN 'off' THEN 'on' \
    ELSE current_setting('synchronous_commit') END, false)";

/// The same for one transaction, on a connection that others use in between.
const TO_WRITE_ONCE: &str = "SET LOCAL idle_in_transaction_session_timeout = 1000; SET LOCAL lock_timeout = 5000; \
    SET LOCAL statement_timeout = 0; SET LOCAL row_security = off; \
    SELECT set_config('synchronous_commit', 'on', true) WHERE current_setting('synchronous_commit') = 'off'";

/// For one question on a connection that others use in between; see [`OWN_LIMITS`].
const TO_READ_ONCE: &str = "BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY; SET LOCAL statement_timeout = 40000; \
    SET LOCAL lock_timeout = 5000; SET LOCAL row_security = off";

/// For one transaction that may run long, and may wait long for another one.
pub(super) const WITHOUT_LIMITS: &str = "SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = 0; \
    SET LOCAL idle_in_transaction_session_timeout = 60000; \
    SELECT set_config('transaction_timeout', '0', true) \
    WHERE current_setting('transaction_timeout', true) IS NOT NULL";

/// An open connection.
pub(in crate::store) struct Connection {
    /// Present until the connection is dropped.
    runtime: Option<Runtime>,
    client: Client,
    /// Whether the other end is the server itself, not a pooler.
    prepared: Option<Prepared>,
    /// The schema, quoted, with its dot.
    prefix: String,
    server: ServerConfig,
    /// Which of the hosts is at the other end.
    host: usize,
    /// The number of our session at the server, if known.
    process: Option<i32>,
    /// How many connections had been found dead when this one was last known to work.
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
    /// Opens a connection as it is. Its errors are those of a first connection.
    fn connect(server: &ServerConfig, handler: Option<NotificationHandler>) -> Result<Self, NotConnected> {
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
            Err(failed) => {
                // A name may still be looked up, on a thread that can't be interrupted.
                runtime.shutdown_background();
                Err(failed)
            }
        }
    }

    /// Opens a connection. It has a [`process`](Self::process) if the other end is the server
    /// itself rather than a pooler, which lends its connections to many. Only connections to the
    /// server get `handler`.
    pub fn open(server: &ServerConfig, handler: Option<NotificationHandler>) -> Result<Self, StoreError> {
        Self::open_strictly(server, handler).map_err(|error| server.judged(error))
    }

    fn open_strictly(
        server: &ServerConfig,
        handler: Option<NotificationHandler>,
    ) -> Result<Self, StoreError> {
        if server.is_pooled() {
            return Ok(Self::connect(server, None)?);
        }
        // A pooler refuses the setting, or forgets it.
        let connection = match Self::connect(&server.with_setting(MARK, "1"), handler) {
            Ok(mut connection) => {
                let process =
                    connection.with(session_number).map_err(|error| error.into_store_error(server))?;
                connection.process = process;
                connection
            }
            Err(failed) if failed.refuses_settings => Self::connect(server, None)?,
            Err(failed) => return Err(failed.error),
        };
        if connection.process.is_none() {
            server.note_pooler();
        }
        Ok(connection)
    }

    /// Opens a connection for reads or writes. If the other end is the server itself, frequent
    /// statements are prepared there.
    pub fn open_to_work(server: &ServerConfig) -> Result<Self, StoreError> {
        let mut connection = Self::open(server, None)?;
        if connection.process.is_some() {
            let settings = format!("{SETTINGS}; {OWN_LIMITS}; {NO_IDLE_LIMIT}");
            connection
                .with(async |session| session.script(&settings).await)
                .map_err(|error| error.into_store_error(server))?;
            connection.prepared = Some(Prepared::default());
        }
        if server.has_worked() {
            // The schema may have been migrated to a version that this release must not use.
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

    /// Has the server keep the settings with which transactions begin, so that they need not be
    /// sent each time. A pooler would pass them on to other clients.
    pub fn prepare_to_write(&self) -> Result<(), PgError> {
        if self.prepared.is_none() {
            return Ok(());
        }
        self.with(async |session| session.script(TO_WRITE).await)
    }

    /// The number of our session, if the other end is the server itself.
    pub fn process(&self) -> Option<i32> {
        self.process
    }

    /// Whether the server is known to have hung up.
    pub fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    /// Whether the connection works. If another connection was found dead since this one was used,
    /// the server is asked first: the same cause may have cut this one, and a request would notice
    /// late.
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
        let runtime = self.runtime.as_ref().expect("it is there until the connection is dropped");
        runtime.block_on(work)
    }

    /// Runs `work` on the connection.
    pub fn with<T>(&self, work: impl AsyncFnOnce(Session<'_>) -> Result<T, PgError>) -> Result<T, PgError> {
        let session = Session { connection: self, is_slow: false, is_reading: false };
        let done = self.run(work(session));
        if done.as_ref().is_err_and(PgError::is_hangup) {
            self.server.note_death();
        }
        done
    }

    /// Lets the connection process incoming messages until it is woken, or for `time`. Returns
    /// whether it was woken.
    pub fn wait_for(&self, wake: &Notify, time: Duration) -> bool {
        self.run(async { tokio::time::timeout(time, wake.notified()).await }).is_ok()
    }

    /// Lets the connection process incoming messages for `time`.
    pub fn idle(&self, time: Duration) {
        self.run(async { tokio::time::sleep(time).await });
    }
}

/// The number of our session, if the server knows the setting with which we connected. A pooler
/// would give the next request another session.
async fn session_number(session: Session<'_>) -> Result<Option<i32>, PgError> {
    let rows = session.query(queries::SESSION_NUMBER, Args::default()).await?;
    Ok(rows.first().map(|row| row.try_get(0)).transpose()?)
}

/// A connection in use.
#[derive(Copy, Clone)]
pub(in crate::store) struct Session<'l> {
    connection: &'l Connection,
    /// Whether answers may take as long as those of a migration.
    is_slow: bool,
    /// Whether each statement is a transaction of its own.
    is_reading: bool,
}

impl Session<'_> {
    /// The same, for reads outside of transactions.
    pub fn reading(self) -> Self {
        Self { is_reading: true, ..self }
    }

    /// The same, for statements that may take long.
    pub fn slow(self) -> Self {
        Self { is_slow: true, ..self }
    }

    /// The name of the schema.
    pub fn schema(&self) -> &str {
        self.connection.server.schema()
    }

    /// How a transaction that writes begins.
    pub fn begin(&self) -> String {
        let begin = if self.connection.prepared.is_some() {
            "BEGIN".to_owned()
        } else {
            format!("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; {TO_WRITE_ONCE}")
        };
        if self.connection.server.is_transferring() {
            return format!("{begin}; SET LOCAL polos.moving = '1'");
        }
        begin
    }

    /// Sends statements in one round trip; returns the rows of each.
    pub async fn send(&self, mut statements: Vec<Statement<'_>>) -> Result<Vec<Vec<Row>>, PgError> {
        for statement in &mut statements {
            let prefix = &self.connection.prefix;
            match statement {
                Statement::Query(sql, _) => sql.text = sql.text.replace('@', prefix).into(),
                Statement::Script(sql) => *sql = sql.replace('@', prefix),
            }
        }
        let connection = self.connection;
        connection.server.note_sent(statements.len());
        let sent = pipeline::send(&connection.client, connection.prepared.as_ref(), &statements);
        let time = if self.is_slow { LONG_ANSWER_MAX } else { ANSWER_MAX };
        answered(sent, (&connection.server, connection.host, connection.process), time).await
    }

    /// Commits one statement in one round trip; returns its rows.
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

    /// The statements that were sent on this connection, if it is to the server itself. For tests.
    pub(super) fn sent(&self) -> Vec<(String, Sent)> {
        self.connection.prepared.as_ref().map(Prepared::sent).unwrap_or_default()
    }

    /// Sends a constant statement; returns its rows.
    pub async fn query(&self, sql: Sql, args: Args<'_>) -> Result<Vec<Row>, PgError> {
        self.one(Statement::Query(sql, args)).await
    }

    /// Sends one statement; returns its rows.
    pub async fn one(&self, statement: Statement<'_>) -> Result<Vec<Row>, PgError> {
        Ok(self.all(vec![statement]).await?.pop().unwrap_or_default())
    }

    /// Sends several statements at once; returns the rows of each.
    pub async fn all(&self, mut statements: Vec<Statement<'_>>) -> Result<Vec<Vec<Row>>, PgError> {
        if !self.is_reading || self.connection.prepared.is_some() {
            return self.send(statements).await;
        }
        // The session is a pooler's: settings of a role or database must not cut the answers.
        let count = statements.len();
        statements.insert(0, Statement::Script(TO_READ_ONCE.to_owned()));
        statements.push(Statement::Script("COMMIT".to_owned()));
        let answers = self.send(statements).await?;
        Ok(answers.into_iter().skip(1).take(count).collect())
    }
}
