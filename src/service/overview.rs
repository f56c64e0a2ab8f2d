//! Requests about the whole project: who works, how much there is, what is late.

use super::context::{Counter, Course};
use super::response::{OverviewView, WorkerView, to_json};
use crate::calendar::Timestamp;
use crate::error::Error;
use crate::process;
use crate::store::{Page, Store};

/// A slot that has been due for less is on its way.
const LATE_AFTER_US: i64 = 5_000_000;

pub(super) fn workers(counter: &Counter) -> Result<Course, Error> {
    let peers = counter.store.peers(&counter.project)?;
    let views: Vec<_> = peers
        .iter()
        .map(|peer| WorkerView::new(peer, process::is_gone(&peer.host, peer.pid, &peer.process_mark)))
        .collect();
    Ok(Course::Answered(to_json(&views)))
}

pub(super) fn overview(counter: &Counter, count_to: usize) -> Result<Course, Error> {
    let now = counter.now();
    let due_before = Timestamp::from_micros(now.as_micros().saturating_sub(LATE_AFTER_US));
    let census = counter.store.census(&counter.project, due_before, count_to)?;
    Ok(Course::Answered(to_json(&OverviewView::new(now, &census, count_to))))
}

/// Runs that nothing will ever wake.
pub(super) fn stuck_parents(counter: &Counter, look_at: usize) -> Result<Course, Error> {
    let page = Page { limit: look_at, after: None };
    let parents = counter.store.waiting_parents(&counter.project, &page)?;
    let stuck: Vec<_> =
        parents.iter().filter(|parent| parent.is_stuck).map(|parent| parent.run.as_str()).collect();
    Ok(Course::Answered(to_json(&stuck)))
}
