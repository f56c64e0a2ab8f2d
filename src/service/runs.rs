//! Requests about runs.

use super::context::{NextStep, RequestContext};
use super::response::{RunResponse, to_json};
use super::schedules::{page, unknown_workflow};
use super::starts::{DebounceOptions, Invocation};
use crate::engine::{Message, Permit};
use crate::error::Error;
use crate::model::{ClaimedRun, Debounce, NewRun, Origin, Run, RunId, RunState, Token};
use crate::store::{Answer, Command, Outcome, RunFilter};
use crossbeam_channel::Sender;
use serde_json::json;
use std::sync::Arc;

/// 128 random bits from the system.
///
/// # Panics
///
/// On a system without a source of random numbers: ids would not be unique.
pub fn random_bits() -> u128 {
    let mut bytes = [0_u8; 16];
    getrandom::fill(&mut bytes).expect("the system gives random numbers");
    u128::from_le_bytes(bytes)
}

/// Like [`random_bits`], but 64 bits.
pub(super) fn random_number() -> u64 {
    getrandom::u64().expect("the system gives random numbers")
}

/// For the ids of what one call creates. Consecutive ids keep the given order in the store, and are
/// appended to its indexes.
pub(super) fn consecutive_numbers() -> impl Iterator<Item = u64> {
    let first = random_number();
    (0..).map(move |place| first.wrapping_add(place))
}

/// Builds the run that a caller of `invoke`, or a step of another run, asks for. `random` is for
/// its id.
pub(super) fn invoked(
    context: &RequestContext,
    workflow: &str,
    invocation: Invocation,
    parent: Option<String>,
    random: u64,
) -> (NewRun, Option<Debounce>) {
    let Invocation { payload, idempotency_key, start } = invocation;
    let now = context.now();
    let new = NewRun {
        id: RunId::new(now, random),
        project: Arc::clone(&context.project),
        workflow: workflow.into(),
        available_at: start.instant(now),
        priority: start.priority.map(|priority| priority.min(9)),
        key: start.key.unwrap_or_else(|| "global".into()),
        schedule_id: None,
        slot: None,
        last_slot: None,
        upcoming: None,
        timezone: "UTC".into(),
        origin: match &parent {
            Some(_) => Origin::Child,
            None if start.is_hook => Origin::Hook,
            None => Origin::Invoke,
        },
        payload: payload.map(|raw| raw.get().into()),
        input: None,
        behind: false,
        revokes_claims: false,
        revision: None,
        parent: parent.map(RunId::from),
        idempotency_key: idempotency_key.map(Into::into),
        together: None,
        claim_for: None,
    };
    (new, start.debounce.map(DebounceOptions::debounce))
}

/// The command that starts a run without claiming it.
fn starting((new, debounce): (NewRun, Option<Debounce>)) -> Command {
    let new = Box::new(new);
    match debounce {
        Some(debounce) => Command::DebounceRun { new, debounce },
        None => Command::CreateRun(new),
    }
}

pub(super) fn invoke(
    context: &RequestContext,
    mut new: NewRun,
    debounce: Option<Debounce>,
    is_local: bool,
    local_workflows: &[String],
) -> Result<NextStep, Error> {
    check_workflow(context, &new.workflow, is_local, local_workflows)?;
    let now = context.now_by_both_clocks();
    if debounce.is_some() || new.available_at > now.wall {
        return Ok(NextStep::Commit(vec![starting((new, debounce))], Box::new(created)));
    }
    let (permit, worker) = match context.permit_pools.reserve(&context.project, &new.workflow, now.mono) {
        Ok(reserved) => reserved,
        Err(lines) => {
            let finish = move |outcomes| {
                drop(lines);
                created(outcomes)
            };
            return Ok(NextStep::Commit(vec![Command::CreateRun(Box::new(new))], Box::new(finish)));
        }
    };
    new.claim_for = Some(permit.worker().clone());
    let mut lent = Lent { permit: Some(permit), worker };
    let finish = move |outcomes: Vec<Outcome>| {
        match (outcomes.first(), lent.permit.take()) {
            (Some(Ok(Answer::Created { claimed: Some(run), .. })), Some(permit)) => {
                let run = Box::new(ClaimedRun { run: (**run).clone(), journal: Vec::new(), is_first: true });
                // A worker that has ended has given back its claims.
                let _ = lent.worker.send(Message::Claimed { run, permit });
            }
            (_, permit) => permit.into_iter().for_each(Permit::settle),
        }
        created(outcomes)
    };
    Ok(NextStep::Commit(vec![Command::CreateRun(Box::new(new))], Box::new(finish)))
}

/// A permit that a worker has lent for a run, until the commit that creates the run is answered. If
/// that fails, the run may have been created and claimed all the same: the permit returns, and the
/// worker is woken to look up what became of the run. Otherwise it could sleep until its lease is
/// over, since an idle worker sends few heartbeats.
struct Lent {
    permit: Option<Permit>,
    worker: Sender<Message>,
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(permit) = self.permit.take() {
            drop(permit);
            let _ = self.worker.send(Message::Added);
        }
    }
}

/// Starts several runs in one transaction. Workers claim them as they have room.
pub(super) fn invoke_many(
    context: &RequestContext,
    workflow: &str,
    invocations: Vec<Invocation>,
    is_local: bool,
    local_workflows: &[String],
) -> Result<NextStep, Error> {
    check_workflow(context, workflow, is_local, local_workflows)?;
    let together = Some(random_number());
    let command = |(invocation, random)| {
        let (new, debounce) = invoked(context, workflow, invocation, None, random);
        starting((NewRun { together, ..new }, debounce))
    };
    let commands = invocations.into_iter().zip(consecutive_numbers()).map(command).collect();
    let finish = |outcomes: Vec<Outcome>| {
        let ids: Result<Vec<_>, Error> = outcomes
            .into_iter()
            .map(|outcome| match outcome? {
                Answer::Created { run, .. } => Ok(run.as_str().to_owned()),
                other => unreachable!("creating a run is answered with the run, not {other:?}"),
            })
            .collect();
        Ok(to_json(&ids?))
    };
    Ok(NextStep::Commit(commands, Box::new(finish)))
}

/// Fails for a workflow that neither this process nor any worker has registered.
pub(super) fn check_workflow(
    context: &RequestContext,
    workflow: &str,
    is_local: bool,
    local_workflows: &[String],
) -> Result<(), Error> {
    if is_local {
        return Ok(());
    }
    let known = context.reads.workflows(&context.project)?;
    if known.iter().any(|entry| &*entry.id == workflow) {
        return Ok(());
    }
    Err(unknown_workflow(workflow, &known, local_workflows))
}

/// The response to a request that creates one run.
pub(super) fn created(outcomes: Vec<Outcome>) -> Result<String, Error> {
    match only(outcomes)? {
        Answer::Created { run, is_new, .. } => {
            Ok(json!({"run_id": run.as_str(), "is_new": is_new}).to_string())
        }
        other => unreachable!("creating a run is answered with the run, not {other:?}"),
    }
}

/// The outcome of a request with a single command.
pub(super) fn only(mut outcomes: Vec<Outcome>) -> Result<Answer, Error> {
    assert_eq!(outcomes.len(), 1, "a store answers every command");
    outcomes.remove(0).map_err(Error::from)
}

pub(super) fn get(context: &RequestContext, id: &str) -> Result<NextStep, Error> {
    let run = find(context, id)?;
    let steps = context.reads.steps(&run.id)?;
    Ok(NextStep::Answered(to_json(&RunResponse::whole(&run, &steps))))
}

fn find(context: &RequestContext, id: &str) -> Result<Run, Error> {
    context.reads.run(&context.project, &id.into())?.ok_or_else(|| Error::RunNotFound(shortened(id)))
}

/// Shortens an id for a message: the text is user input and may have any length.
pub(super) fn shortened(id: &str) -> String {
    if id.chars().count() <= 100 { id.to_owned() } else { id.chars().take(97).chain("...".chars()).collect() }
}

pub(super) fn list(
    context: &RequestContext,
    mut filter: RunFilter,
    limit: usize,
    after: Option<String>,
    brief: bool,
) -> Result<NextStep, Error> {
    // A buffered run is shown as queued, so a filter by `queued` includes it.
    if filter.states.contains(&RunState::Queued) {
        filter.states.push(RunState::Buffered);
    }
    let runs = context.reads.runs(&context.project, &filter, &page(limit, after))?;
    let view = |run| if brief { RunResponse::brief(run) } else { RunResponse::new(run, &[]) };
    Ok(NextStep::Answered(to_json(&runs.iter().map(view).collect::<Vec<_>>())))
}

pub(super) fn remarkable(context: &RequestContext, limit: usize) -> Result<NextStep, Error> {
    let runs = context.reads.remarkable_runs(&context.project, limit)?;
    Ok(NextStep::Answered(to_json(&runs.iter().map(RunResponse::brief).collect::<Vec<_>>())))
}

pub(super) fn cancel(context: &RequestContext, id: &str) -> NextStep {
    state_change(Command::CancelRun { project: Arc::clone(&context.project), run: id.into() })
}

pub(super) fn retry(context: &RequestContext, id: &str) -> NextStep {
    state_change(Command::RetryRun { project: Arc::clone(&context.project), run: id.into() })
}

fn state_change(command: Command) -> NextStep {
    NextStep::Commit(
        vec![command],
        Box::new(|outcomes| match only(outcomes)? {
            Answer::State(state) => Ok(to_json(&state.shown())),
            other => unreachable!("a change of state is answered with the state, not {other:?}"),
        }),
    )
}

pub(super) fn claim_stands(context: &RequestContext, run: &str, token: i64) -> Result<NextStep, Error> {
    let standing = context.reads.claims_stand(&[(run.into(), Token(token))])?;
    Ok(NextStep::Answered(to_json(&standing.first())))
}

pub(super) fn cancel_requested(context: &RequestContext, id: &str) -> Result<NextStep, Error> {
    Ok(NextStep::Answered(to_json(&find(context, id)?.cancel_requested)))
}

pub(super) fn previous_result(
    context: &RequestContext,
    schedule: &str,
    before: &str,
) -> Result<NextStep, Error> {
    let run = context.reads.previous_result(&schedule.into(), &before.into())?;
    Ok(NextStep::Answered(to_json(&run.as_ref().map(|run| RunResponse::new(run, &[])))))
}
