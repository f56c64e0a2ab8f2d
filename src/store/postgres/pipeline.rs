//! Statements that are sent one after another without waiting for each other's answers: one trip to the server.
//!
//! Where the connection is to the server itself, what is sent again and again is prepared there: to plan a statement anew
//! takes longer than to carry it out.

use super::rows::Args;
use std::cell::RefCell;
use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;
use tokio_postgres::{Client, Error, Row};

/// One statement.
pub(super) enum Statement<'a> {
    /// With parameters, and rows or none.
    Query(String, Args<'a>),
    /// Without either; may be several.
    Script(String),
}

/// Statements of one connection that are prepared on the server, by their text. `None`: seen once.
#[derive(Default)]
pub(super) struct Prepared(RefCell<HashMap<String, Option<tokio_postgres::Statement>>>);

/// Most of them; past it all are forgotten. What we send has few shapes.
const PREPARED_MAX: usize = 200;

impl Prepared {
    /// Prepares those that come for the second time.
    async fn learn(&self, client: &Client, statements: &[Statement<'_>]) -> Result<(), Error> {
        for statement in statements {
            let Statement::Query(sql, args) = statement else { continue };
            let known = self.0.borrow().get(sql).map(Option::is_some);
            match known {
                Some(true) => {}
                Some(false) => {
                    let prepared = client.prepare_typed(sql, &args.kinds()).await?;
                    self.0.borrow_mut().insert(sql.clone(), Some(prepared));
                }
                None => {
                    let mut all = self.0.borrow_mut();
                    if all.len() >= PREPARED_MAX {
                        all.clear();
                    }
                    all.insert(sql.clone(), None);
                }
            }
        }
        Ok(())
    }

    fn find(&self, sql: &str) -> Option<tokio_postgres::Statement> {
        self.0.borrow().get(sql).cloned().flatten()
    }
}

type Answer<'a> = Pin<Box<dyn Future<Output = Result<Vec<Row>, Error>> + 'a>>;

/// Sends all of them in their order, and waits for all answers. The error is that of the first that failed: inside a
/// transaction, the others failed because of it.
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
    poll_fn(|context| {
        // A statement is sent when its future is polled for the first time: in order, therefore.
        for (place, done) in open.iter_mut().zip(&mut done) {
            if let Some(future) = place
                && let Poll::Ready(answer) = future.as_mut().poll(context)
            {
                *done = Some(answer);
                *place = None;
            }
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
            None => Box::pin(async move { client.query_typed(sql, &args.borrowed()).await }),
        },
    }
}
