//! Sends statements without waiting for each other's answers: one round trip to the server.
//!
//! On a direct connection, statements that are sent repeatedly are prepared on the server, because
//! planning a statement takes longer than executing it.

use super::queries::Sql;
use super::rows::Args;
use std::cell::RefCell;
use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Error, Row};

/// One statement.
pub(in crate::store) enum Statement<'a> {
    /// With parameters; may return rows.
    Query(Sql, Args<'a>),
    /// One or more statements without parameters, whose rows are ignored.
    Script(String),
}

/// The statements that one connection has sent, by their text.
#[derive(Default)]
pub(super) struct Prepared(RefCell<HashMap<String, Sent>>);

/// A statement that was sent.
#[derive(Clone)]
pub(super) struct Sent {
    pub name: &'static str,
    /// The types of its parameters.
    pub kinds: Vec<Type>,
    /// Its prepared form on the server; `None` if it was sent only once.
    prepared: Option<tokio_postgres::Statement>,
}

/// The most statements to remember; beyond it, all are forgotten. We send few different ones.
const PREPARED_MAX: usize = 200;

impl Prepared {
    /// Prepares statements that are sent for the second time.
    async fn learn(&self, client: &Client, statements: &[Statement<'_>]) -> Result<(), Error> {
        for statement in statements {
            let Statement::Query(sql, args) = statement else { continue };
            let text = &*sql.text;
            let known = self.0.borrow().get(text).map(|sent| sent.prepared.is_some());
            match known {
                Some(true) => {}
                Some(false) => {
                    let prepared = client.prepare_typed(text, &args.kinds()).await?;
                    if let Some(sent) = self.0.borrow_mut().get_mut(text) {
                        sent.prepared = Some(prepared);
                    }
                }
                None => {
                    let mut all = self.0.borrow_mut();
                    if all.len() >= PREPARED_MAX {
                        all.clear();
                    }
                    let sent = Sent { name: sql.name, kinds: args.kinds(), prepared: None };
                    all.insert(text.to_owned(), sent);
                }
            }
        }
        Ok(())
    }

    fn find(&self, sql: &Sql) -> Option<tokio_postgres::Statement> {
        self.0.borrow().get(&*sql.text)?.prepared.clone()
    }

    /// The statements that were sent, with their texts. For tests.
    pub fn sent(&self) -> Vec<(String, Sent)> {
        self.0.borrow().iter().map(|(text, sent)| (text.clone(), sent.clone())).collect()
    }
}

/// How many statements to encode before the connection may write them. The server executes them
/// while the next ones are encoded; the few statements of most batches go out together.
const BEFORE_PAUSE: usize = 16;

type Answer<'a> = Pin<Box<dyn Future<Output = Result<Vec<Row>, Error>> + 'a>>;

/// Sends all statements in order and waits for all answers. Returns the error of the first one that
/// failed: inside a transaction, the others failed because of it.
pub(super) async fn send(
    client: &Client,
    prepared: Option<&Prepared>,
    statements: &[Statement<'_>],
) -> Result<Vec<Vec<Row>>, Error> {
    if let Some(prepared) = prepared {
        prepared.learn(client, statements).await?;
    }
    let mut open: Vec<Option<Answer<'_>>> =
        statements.iter().map(|statement| Some(answer(client, prepared, statement))).collect();
    let mut done: Vec<Option<Result<Vec<Row>, Error>>> = statements.iter().map(|_| None).collect();
    let mut sent = 0;
    poll_fn(|context| {
        // The first poll of a future sends its statement, so this sends them in order.
        sent = open.len().min(sent + BEFORE_PAUSE);
        for (place, done) in open.iter_mut().zip(&mut done).take(sent) {
            if let Some(future) = place
                && let Poll::Ready(answer) = future.as_mut().poll(context)
            {
                *done = Some(answer);
                *place = None;
            }
        }
        if sent < open.len() {
            context.waker().wake_by_ref();
        }
        if open.iter().all(Option::is_none) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    done.into_iter().flatten().collect()
}

fn answer<'a>(client: &'a Client, prepared: Option<&Prepared>, statement: &'a Statement<'_>) -> Answer<'a> {
    match statement {
        Statement::Script(sql) => {
            Box::pin(async move { client.batch_execute(sql).await.map(|()| Vec::new()) })
        }
        Statement::Query(sql, args) => match prepared.and_then(|prepared| prepared.find(sql)) {
            Some(prepared) => Box::pin(async move { client.query(&prepared, &args.values()).await }),
            None => Box::pin(async move { client.query_typed(&sql.text, &args.borrowed()).await }),
        },
    }
}
