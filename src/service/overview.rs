//! Requests about the whole project: workers, counts, and late slots.

use super::context::{NextStep, RequestContext};
use super::response::{OverviewResponse, WorkerResponse, to_json};
use crate::calendar::Timestamp;
use crate::error::Error;
use crate::process;
use crate::store::Page;

/// A slot that has been due for less than this is not reported as late.
const LATE_AFTER_US: i64 = 5_000_000;

pub(super) fn workers(context: &RequestContext) -> Result<NextStep, Error> {
    let peers = context.reads.peers(&context.project)?;
    let views: Vec<_> = peers
        .iter()
        .map(|peer| WorkerResponse::new(peer, process::is_gone(&peer.host, peer.pid, &peer.process_mark)))
        .collect();
    Ok(NextStep::Answered(to_json(&views)))
}

pub(super) fn overview(context: &RequestContext, count_to: usize) -> Result<NextStep, Error> {
    let now = context.now();
    let due_before = Timestamp::from_micros(now.as_micros().saturating_sub(LATE_AFTER_US));
    let project_stats = context.reads.project_stats(&context.project, due_before, count_to)?;
    let waiting = context.reads.waiting_hook_calls(&context.project, now)?;
    Ok(NextStep::Answered(to_json(&OverviewResponse::new(now, &project_stats, count_to, &waiting))))
}

/// Lists parent runs that nothing will wake: their child has finished.
pub(super) fn stuck_parents(context: &RequestContext, look_at: usize) -> Result<NextStep, Error> {
    let page = Page { limit: look_at, after: None };
    let parents = context.reads.waiting_parents(&context.project, &page)?;
    let stuck: Vec<_> =
        parents.iter().filter(|parent| parent.is_stuck).map(|parent| parent.run.as_str()).collect();
    Ok(NextStep::Answered(to_json(&stuck)))
}
