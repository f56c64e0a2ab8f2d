//! Wakes runs that wait for a child run that completed long ago.
//!
//! The completion of a child wakes its parent, in the same transaction. A parent that was not woken
//! then would wait forever: nothing else looks for it. Earlier releases left such parents in
//! PostgreSQL databases, and a worker of such a release may still use the same database. So each
//! worker searches for them when it starts and periodically after that, a page at a time.

use crate::clock::Now;
use crate::store::{Answer, Command, Page, StoreError, StoreReads, StoreWrites};
use std::sync::Arc;
use std::time::Duration;

/// From the end of one walk to the start of the next.
const INTERVAL: Duration = Duration::from_secs(600);

/// From one page to the next.
const PAUSE: Duration = Duration::from_millis(200);

/// A repeated walk over all runs that wait for a child run.
#[derive(Debug, Default)]
pub(super) struct StuckParents {
    /// The last run that this walk has examined.
    after: Option<String>,
    /// Runs that this walk has woken.
    woken_count: u64,
    /// When to examine the next page, by the steady clock.
    next: Duration,
}

/// The result of examining one page.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Woken {
    /// Runs of this page that can be claimed now.
    pub on_page: u64,
    /// The total that the walk has woken, if it is finished and has woken any.
    pub in_all: Option<u64>,
}

impl StuckParents {
    /// Starts a new walk at once.
    pub fn restart(&mut self) {
        *self = Self::default();
    }

    /// Examines the next page, if it is time to.
    pub fn look(
        &mut self,
        reads: &dyn StoreReads,
        writes: &impl StoreWrites,
        project: &Arc<str>,
        limit: usize,
        now: Now,
    ) -> Result<Woken, StoreError> {
        if now.mono < self.next {
            return Ok(Woken::default());
        }
        let page = Page { limit: limit.max(1), after: self.after.clone() };
        let parents = reads.waiting_parents(project, &page)?;
        let last = parents.last().map(|parent| parent.run.to_string());
        let is_last_page = parents.len() < page.limit;
        let stuck: Vec<_> =
            parents.into_iter().filter(|parent| parent.is_stuck).map(|parent| parent.run).collect();
        let mut woken = Woken::default();
        if !stuck.is_empty() {
            let command = Command::WakeParents { project: Arc::clone(project), runs: stuck };
            let outcomes = writes.commit(&[command], now.wall)?;
            if let Some(Ok(Answer::Count(count))) = outcomes.first() {
                woken.on_page = *count;
                self.woken_count += count;
            }
        }
        if is_last_page {
            woken.in_all = Some(self.woken_count).filter(|count| *count > 0);
            *self = Self { next: now.mono + INTERVAL, ..Self::default() };
        } else {
            self.after = last;
            self.next = now.mono + PAUSE;
        }
        Ok(woken)
    }
}
