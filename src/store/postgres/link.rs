//! One connection, driven by whichever thread uses it: nobody else has to be woken for an answer.

use super::address::Address;
use super::failure::{Trouble, at_opening};
use super::pipeline::{self, Statement};
use super::rows::Args;
use super::tls::Tls;
use crate::store::StoreError;
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::Notify;
use tokio_postgres::config::SslMode;
use tokio_postgres::{AsyncMessage, Client, Config, Error, Row};

/// Longest wait for the answers of one trip. Locks are given up sooner, by the server.
const ANSWER_MAX: Duration = Duration::from_secs(30);

/// Hears what the server says of its own accord.
pub(super) type Hearer = Box<dyn FnMut(AsyncMessage) + Send>;

/// An open connection.
pub(super) struct Link {
    runtime: Runtime,
    client: Client,
    /// The schema, quoted, with its dot.
    prefix: String,
}

impl Link {
    pub fn open(address: &Address, hearer: Option<Hearer>) -> Result<Self, StoreError> {
        let runtime = Builder::new_current_thread().enable_all().build().map_err(|error| {
            StoreError::Unavailable(format!("no connection to `{}` can be made: {error}", address.name()))
        })?;
        let client = runtime.block_on(connect(address, hearer))?;
        Ok(Self { runtime, client, prefix: address.prefix() })
    }

    /// Whether the server has hung up, as far as was noticed.
    pub fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    /// Works with the connection.
    pub fn with<T>(&self, work: impl AsyncFnOnce(Session<'_>) -> Result<T, Trouble>) -> Result<T, Trouble> {
        let session = Session { client: &self.client, prefix: &self.prefix };
        self.runtime.block_on(work(session))
    }

    /// Lets the connection do what it has to do of its own accord, until somebody wakes it, or for so long.
    pub fn wait_for(&self, wake: &Notify, time: Duration) {
        // Which of the two it was does not matter.
        let _ = self.runtime.block_on(async { tokio::time::timeout(time, wake.notified()).await });
    }

    /// Lets the connection do what it has to do of its own accord, for so long.
    pub fn idle(&self, time: Duration) {
        self.runtime.block_on(async { tokio::time::sleep(time).await });
    }
}

async fn connect(address: &Address, hearer: Option<Hearer>) -> Result<Client, StoreError> {
    let told = |error: &Error| at_opening(address.name(), error);
    if address.tries_plain_first() {
        let mut plain = address.config().clone();
        plain.ssl_mode(SslMode::Disable);
        match connect_as(&plain, None, hearer).await {
            Ok(client) => return Ok(client),
            Err((error, hearer)) if error.as_db_error().is_some() => {
                let tls = address.tls()?;
                return connect_as(address.config(), Some(tls), hearer)
                    .await
                    .map_err(|(error, _)| told(&error));
            }
            Err((error, _)) => return Err(told(&error)),
        }
    }
    let tls = address.tls()?;
    connect_as(address.config(), Some(tls), hearer).await.map_err(|(error, _)| told(&error))
}

async fn connect_as(
    config: &Config,
    tls: Option<Tls>,
    mut hearer: Option<Hearer>,
) -> Result<Client, (Error, Option<Hearer>)> {
    macro_rules! start {
        ($connected:expr) => {
            match $connected {
                Ok((client, mut connection)) => {
                    // Driven whenever somebody works with the connection; ends with it.
                    tokio::spawn(async move {
                        while let Some(Ok(message)) =
                            std::future::poll_fn(|context| connection.poll_message(context)).await
                        {
                            if let Some(hear) = &mut hearer {
                                hear(message);
                            }
                        }
                    });
                    Ok(client)
                }
                Err(error) => Err((error, hearer)),
            }
        };
    }
    match tls {
        Some(tls) => start!(config.connect(tls).await),
        None => start!(config.connect(tokio_postgres::NoTls).await),
    }
}

/// A connection in use.
#[derive(Copy, Clone)]
pub(super) struct Session<'l> {
    client: &'l Client,
    prefix: &'l str,
}

impl Session<'_> {
    /// Sends statements in one go; the rows of each.
    pub async fn send(&self, mut statements: Vec<Statement<'_>>) -> Result<Vec<Vec<Row>>, Trouble> {
        for statement in &mut statements {
            let (Statement::Query(sql, _) | Statement::Script(sql)) = statement;
            *sql = sql.replace('@', self.prefix);
        }
        let sent = pipeline::send(self.client, &statements);
        match tokio::time::timeout(ANSWER_MAX, sent).await {
            Ok(answers) => Ok(answers?),
            Err(_) => Err(Trouble::Silence),
        }
    }

    /// Statements without parameters.
    pub async fn script(&self, sql: &str) -> Result<(), Trouble> {
        self.send(vec![Statement::Script(sql.to_owned())]).await.map(drop)
    }

    /// One question.
    pub async fn query(&self, sql: impl Into<String>, args: Args<'_>) -> Result<Vec<Row>, Trouble> {
        let mut answers = self.send(vec![Statement::Query(sql.into(), args)]).await?;
        Ok(answers.pop().unwrap_or_default())
    }
}
