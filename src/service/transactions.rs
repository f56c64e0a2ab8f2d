//! Requests for what a transaction of the application executes: the service checks what it is to
//! create, and gives the statements.

use super::context::{NextStep, RequestContext};
use super::request::Drafts;
use super::response::to_json;
use super::runs::{check_workflow, invoked, random_number};
use super::schedules::checked;
use super::starts::Invocation;
use crate::error::Error;
use crate::store::{NewRow, TransactionScript};
use serde::Serialize;

/// What the caller executes, and the id of the row that it creates.
#[derive(Serialize)]
struct InTransaction<'a> {
    id: &'a str,
    /// `None` where only polos itself can write to the database.
    script: Option<TransactionScript>,
}

pub(super) fn create_run(
    context: &RequestContext,
    workflow: &str,
    invocation: Invocation,
    is_local: bool,
    local_workflows: &[String],
) -> Result<NextStep, Error> {
    check_workflow(context, workflow, is_local, local_workflows)?;
    let (new, debounce) = invoked(context, workflow, invocation, None, random_number());
    if debounce.is_some() {
        return Err(Error::Argument(
            "debounce: a run that waits for more calls can't be shared with a transaction that is still open; \
             call `invoke` after the commit"
                .to_owned(),
        ));
    }
    answer(context, new.id.as_str(), NewRow::Run(&new))
}

pub(super) fn create_schedule(
    context: &RequestContext,
    drafts: Drafts,
    local_workflows: &[String],
) -> Result<NextStep, Error> {
    let schedules = checked(context, drafts, local_workflows)?;
    let [new] = &schedules[..] else {
        return Err(Error::Argument(format!("{} schedules given, expected one", schedules.len())));
    };
    answer(context, new.id.as_str(), NewRow::Schedule(new))
}

fn answer(context: &RequestContext, id: &str, new: NewRow<'_>) -> Result<NextStep, Error> {
    let script = context.reads.in_transaction(new, context.now())?;
    Ok(NextStep::Answered(to_json(&InTransaction { id, script })))
}
