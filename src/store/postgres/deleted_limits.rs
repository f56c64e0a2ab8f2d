//! Limits that the code no longer declares.

use super::batch::Batch;
use super::error::PgError;
use super::pipeline::Statement;
use super::queries;
use super::rows::{Args, Columns};
use crate::model::limit;
use crate::store::row_reader::RowReader;
use crate::store::{Answer, Command, Rejection};
use std::sync::Arc;

/// Applies a [`Command::DeleteLimit`].
pub(super) async fn delete(
    batch: &mut Batch<'_>,
    command: &Command,
) -> Result<Result<Answer, Rejection>, PgError> {
    let Command::DeleteLimit { project, name } = command else { return Ok(Err(Rejection::Stale)) };
    let key = || {
        let mut args = Args::default();
        args.text(project);
        args.text(name);
        args
    };
    // Waits for workers that are declaring it and for claims under it, and makes later ones wait.
    if batch.query(queries::LOCK_LIMIT_TO_DELETE, key()).await?.is_empty() {
        return Ok(Err(Rejection::LimitNotFound(Arc::clone(name))));
    }
    let mut of_project = Args::default();
    of_project.text(project);
    for row in batch.query(queries::DECLARATIONS_OF_WORKERS, of_project).await? {
        let mut columns = Columns::of(&row);
        let (app, declares) = (columns.text()?, columns.optional_text()?);
        if limit::is_declared(declares.as_deref(), name) {
            return Ok(Err(Rejection::LimitDeclared(Arc::clone(name), app)));
        }
    }
    if let Some(row) = batch.query(queries::UNFINISHED_UNDER, key()).await?.first() {
        let workflow = Columns::of(row).text()?;
        return Ok(Err(Rejection::LimitHasRuns(Arc::clone(name), workflow)));
    }
    batch
        .save(vec![
            Statement::Query(queries::FORGET_LIMIT, key()),
            Statement::Query(queries::DELETE_LIMIT, key()),
        ])
        .await?;
    Ok(Ok(Answer::Done))
}
