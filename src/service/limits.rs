//! Requests about limits.

use super::context::{NextStep, RequestContext};
use super::response::to_json;
use super::runs::only;
use crate::calendar::Timestamp;
use crate::error::Error;
use crate::model::{DeclaredKey, LimitSpec, LimitStatus, Peer, limit};
use crate::store::{Answer, Command};
use serde::Serialize;
use std::collections::BTreeSet;
use std::sync::Arc;

/// A limit as shown to users.
#[derive(Serialize)]
struct LimitResponse<'a> {
    name: &'a str,
    #[serde(flatten)]
    values: Values,
    declared: Values,
    overridden: bool,
    declared_by: BTreeSet<Arc<str>>,
    set_values: Values,
    declared_differently: BTreeSet<Arc<str>>,
    workflows: &'a [Arc<str>],
    running: u64,
    running_of_key: Option<u64>,
    starts_left: Option<u32>,
    next_start_at: Option<Timestamp>,
    queued: u64,
    queued_since: Option<Timestamp>,
    updated_at: Timestamp,
}

/// The values of a limit; the period in microseconds.
#[derive(Serialize)]
struct Values {
    max: Option<u32>,
    per_key: Option<u32>,
    rate: Option<u32>,
    per: Option<i64>,
}

impl From<LimitSpec> for Values {
    fn from(spec: LimitSpec) -> Self {
        Self { max: spec.max, per_key: spec.per_key, rate: spec.rate, per: spec.per_us }
    }
}

impl<'a> LimitResponse<'a> {
    fn new(
        status: &'a LimitStatus,
        live: &[LiveDeclarations],
        running_of_key: Option<u64>,
        now: Timestamp,
    ) -> Self {
        let limit = &status.limit;
        let (starts_left, next_start_at) = limit.starts(now).unzip();
        Self {
            name: &status.name,
            values: limit.spec().into(),
            declared: limit.declared().into(),
            overridden: limit.set.is_some(),
            declared_by: declared_by(status, live),
            set_values: limit.set.clone().unwrap_or_default().into(),
            declared_differently: declared_differently(status, live),
            workflows: &status.workflows,
            running: status.running,
            running_of_key,
            starts_left,
            next_start_at: next_start_at.flatten(),
            queued: status.queued,
            queued_since: status.oldest,
            updated_at: limit.updated_at,
        }
    }
}

/// What the code of one live worker declares.
struct LiveDeclarations {
    app: Arc<str>,
    declared: Vec<DeclaredKey>,
}

impl LiveDeclarations {
    fn of(peer: &Peer) -> Self {
        let declared = peer.declares.as_deref().and_then(|text| serde_json::from_str(text).ok());
        Self { app: Arc::clone(&peer.app), declared: declared.unwrap_or_default() }
    }
}

/// The applications whose live workers declare the limit, with whatever values.
fn declared_by(status: &LimitStatus, live: &[LiveDeclarations]) -> BTreeSet<Arc<str>> {
    apps(status, live, |_| true)
}

/// The applications whose live workers declare other values of the limit, which don't count.
fn declared_differently(status: &LimitStatus, live: &[LiveDeclarations]) -> BTreeSet<Arc<str>> {
    let current = limit::declared_fingerprint(&status.limit.declared().to_json());
    apps(status, live, |DeclaredKey(_, _, print)| *print != current)
}

/// The applications of workers with a declaration of the limit that counts.
fn apps(
    status: &LimitStatus,
    live: &[LiveDeclarations],
    counts: impl Fn(&DeclaredKey) -> bool,
) -> BTreeSet<Arc<str>> {
    let label = limit::limit_label(&status.name);
    let is_it = |key: &DeclaredKey| limit::is_labeled(key, &label) && counts(key);
    let declaring = live.iter().filter(|worker| worker.declared.iter().any(is_it));
    declaring.map(|worker| Arc::clone(&worker.app)).collect()
}

/// Lists all limits with their use, or those of one workflow; of a key, too.
pub(super) fn list(
    context: &RequestContext,
    count_to: usize,
    workflow: Option<&Arc<str>>,
    key: Option<&str>,
) -> Result<NextStep, Error> {
    let (project, now) = (&context.project, context.now());
    let mut statuses = context.reads.limits(project, count_to, now)?;
    statuses.retain(|status| workflow.is_none_or(|workflow| status.workflows.contains(workflow)));
    let live: Vec<_> = context.reads.peers(project)?.iter().map(LiveDeclarations::of).collect();
    let mut views = Vec::with_capacity(statuses.len());
    for status in &statuses {
        let of_key = key.map(|key| context.reads.running_with_key(project, &status.name, key)).transpose()?;
        views.push(LimitResponse::new(status, &live, of_key, now));
    }
    Ok(NextStep::Answered(to_json(&views)))
}

/// Sets the given values of a limit and keeps its others, or goes back to the declared ones.
pub(super) fn set(context: &RequestContext, name: &Arc<str>, changes: Option<&LimitSpec>) -> NextStep {
    let (project, name) = (Arc::clone(&context.project), Arc::clone(name));
    committed(Command::SetLimit { project, name, values: changes.cloned() })
}

/// Deletes a limit that the code no longer declares.
pub(super) fn delete(context: &RequestContext, name: &Arc<str>) -> NextStep {
    committed(Command::DeleteLimit { project: Arc::clone(&context.project), name: Arc::clone(name) })
}

fn committed(command: Command) -> NextStep {
    NextStep::Commit(
        vec![command],
        Box::new(|outcomes| match only(outcomes)? {
            Answer::Done => Ok("null".to_owned()),
            other => unreachable!("a change of a limit is answered with nothing, not {other:?}"),
        }),
    )
}
