//! Statements that are sent one after another without waiting for each other's answers: one trip to the server.

use super::rows::Args;
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

type Answer<'a> = Pin<Box<dyn Future<Output = Result<Vec<Row>, Error>> + 'a>>;

/// Sends all of them in their order, and waits for all answers. The error is that of the first that failed: inside a
/// transaction, the others failed because of it.
pub(super) async fn send(client: &Client, statements: &[Statement<'_>]) -> Result<Vec<Vec<Row>>, Error> {
    let mut open: Vec<Option<Answer<'_>>> =
        statements.iter().map(|statement| Some(answer(client, statement))).collect();
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

fn answer<'a>(client: &'a Client, statement: &'a Statement<'_>) -> Answer<'a> {
    match statement {
        Statement::Script(sql) => {
            Box::pin(async move { client.batch_execute(sql).await.map(|()| Vec::new()) })
        }
        Statement::Query(sql, args) => {
            Box::pin(async move { client.query_typed(sql, &args.borrowed()).await })
        }
    }
}
