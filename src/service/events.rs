//! Requests about events.

use super::context::{NextStep, RequestContext};
use super::runs::{only, shortened};
use crate::error::Error;
use crate::model::{NewEvent, RunState};
use crate::store::{Answer, Command, Page, RunFilter};
use serde_json::json;
use serde_json::value::RawValue;
use std::sync::Arc;

/// Most runs that an error names.
const NAMED_MAX: usize = 5;

/// Where an event is sent to.
pub(super) enum Receiver<'a> {
    /// The run with this id.
    Run(&'a str),
    /// The only unfinished run of this workflow and key.
    Of(&'a Arc<str>, &'a Arc<str>),
}

impl<'a> Receiver<'a> {
    /// The receiver that a request names.
    pub fn of(
        run: Option<&'a str>,
        workflow: Option<&'a Arc<str>>,
        key: Option<&'a Arc<str>>,
    ) -> Result<Self, Error> {
        match (run, workflow, key) {
            (Some(run), None, None) => Ok(Self::Run(run)),
            (None, Some(workflow), Some(key)) => Ok(Self::Of(workflow, key)),
            _ => Err(Error::Argument("expected either a run, or a workflow and a key".to_owned())),
        }
    }
}

/// Sends an event. The response says which run it was sent to, and whether it was accepted.
pub(super) fn send(
    context: &RequestContext,
    receiver: &Receiver<'_>,
    name: &str,
    payload: &RawValue,
    idempotency_key: Option<String>,
) -> Result<NextStep, Error> {
    let run = match receiver {
        Receiver::Run(id) => (*id).to_owned(),
        Receiver::Of(workflow, key) => {
            let unfinished = only_unfinished(context, workflow, key)?;
            // If there is a run to send it to, the commit decides whether another has accepted it.
            // Read afterwards: if a run accepts the event and finishes in between, it is found.
            if unfinished.is_err()
                && let Some(idempotency_key) = &idempotency_key
                && let Some(run) =
                    context.reads.run_with_event(&context.project, (workflow, key), name, idempotency_key)?
            {
                let answer = json!({"run_id": run.as_str(), "is_accepted": true});
                return Ok(NextStep::Answered(answer.to_string()));
            }
            unfinished?
        }
    };
    let sent_to = match receiver {
        Receiver::Run(_) => None,
        Receiver::Of(workflow, key) => Some((Arc::clone(workflow), Arc::clone(key))),
    };
    let new = NewEvent {
        sent_to,
        project: Arc::clone(&context.project),
        run: run.as_str().into(),
        name: name.into(),
        payload: payload.get().into(),
        idempotency_key: idempotency_key.map(Into::into),
    };
    let finish = move |outcomes| match only(outcomes) {
        Ok(Answer::Accepted { is_accepted, .. }) => {
            Ok(json!({"run_id": run, "is_accepted": is_accepted}).to_string())
        }
        Ok(Answer::AcceptedBy(run)) => Ok(json!({"run_id": run.as_str(), "is_accepted": true}).to_string()),
        Ok(other) => unreachable!("sending an event is answered with what became of it, not {other:?}"),
        Err(Error::RunNotFound(id)) => Err(Error::RunNotFound(shortened(&id))),
        Err(error) => Err(error),
    };
    Ok(NextStep::Commit(vec![Command::SendEvent(Box::new(new))], Box::new(finish)))
}

/// The only unfinished run of a workflow and key, or why there is none.
fn only_unfinished(
    context: &RequestContext,
    workflow: &Arc<str>,
    key: &Arc<str>,
) -> Result<Result<String, Error>, Error> {
    let filter = RunFilter {
        workflow: Some(Arc::clone(workflow)),
        key: Some(Arc::clone(key)),
        states: vec![RunState::Buffered, RunState::Queued, RunState::Running, RunState::Waiting],
        ..RunFilter::default()
    };
    let mut found = context.reads.runs(&context.project, &filter, &Page { limit: NAMED_MAX, after: None })?;
    // To its user, a run that was claimed ahead of its slot does not exist yet.
    let now = context.now();
    found.retain(|run| run.slot.is_none_or(|slot| slot <= now));
    Ok(match found.as_slice() {
        [run] => Ok(run.id.to_string()),
        [] => Err(Error::NoFittingRun(format!(
            "there is no unfinished run of workflow `{workflow}` with key `{key}` in this project; `runs.list` shows \
             the runs"
        ))),
        several => {
            let ids: Vec<_> = several.iter().map(|run| format!("`{}`", run.id)).collect();
            Err(Error::State(format!(
                "workflow `{workflow}` has several unfinished runs with key `{key}`, and an event goes to one run: \
                 send it to the id of one of them ({}{})",
                ids.join(", "),
                if several.len() == NAMED_MAX { ", ..." } else { "" }
            )))
        }
    })
}
