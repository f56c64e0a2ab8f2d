//! Deletions of schedules, and workers that may be about to enter their runs.

use super::context::{NextStep, RequestContext};
use super::response::to_json;
use super::runs::only;
use crate::engine::ENTRY_WINDOW;
use crate::error::Error;
use crate::model::Token;
use crate::store::{Answer, Command};
use std::sync::Arc;
use std::time::Duration;

/// Deletes a schedule. Answers when no worker can be about to enter a run of one of its slots: at
/// once if none is claimed, and otherwise when the last look at the schedule is too long ago.
pub(super) fn delete(context: &RequestContext, id: &str) -> NextStep {
    let command = Command::DeleteSchedule { project: Arc::clone(&context.project), id: id.into() };
    // In virtual time, every entry asks the store.
    let asks_always = context.writes.is_inline();
    NextStep::CommitAndWait(
        vec![command],
        Box::new(move |outcomes| match only(outcomes)? {
            Answer::Deleted { is_claimed } => {
                let wait = if is_claimed && !asks_always { ENTRY_WINDOW } else { Duration::ZERO };
                Ok(("null".to_owned(), wait))
            }
            other => unreachable!("a deletion is not answered with {other:?}"),
        }),
    )
}

/// Tells for each claim whether its run may be entered for the first time: `null`, or why not.
pub(super) fn may_enter(context: &RequestContext, claims: Vec<(String, i64)>) -> Result<NextStep, Error> {
    let claims: Vec<_> = claims.into_iter().map(|(run, token)| (run.as_str().into(), Token(token))).collect();
    let answers = context.reads.may_enter(&claims)?;
    let refusals: Vec<_> = answers.into_iter().map(Result::err).collect();
    Ok(NextStep::Answered(to_json(&refusals)))
}
