//! Runs: claiming, tracking, starting, and stopping them.

use super::{Engine, Phase};
use crate::calendar::Timestamp;
use crate::clock::Now;
use crate::engine::dispatcher::{Dispatcher, Notice, Stop, StopReason};
use crate::engine::due_queue::DueQueue;
use crate::engine::entry::must_be_confirmed;
use crate::engine::permits::{Permit, Permits};
use crate::engine::suspects::SuspectWatch;
use crate::model::{ClaimedRun, Completion, EntryRefusal, Run, RunId, RunState, Token};
use crate::store::{Answer, Codes, Command, Page, Rejection, RunFilter, StoreError, StoreWrites, Suspects};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// Most runs dispatched at a time, so that the first of a burst start while the rest are still
/// being handed over.
const START_MAX: usize = 128;

/// The shortest interval between searches for held runs while other things change. The first search
/// runs at once.
const HELD_LOOK_INTERVAL: Duration = Duration::from_secs(5);

/// The runs that this worker has claimed, and its permits.
pub(super) struct Claims {
    pub(super) tracked: BTreeMap<RunId, Tracked>,
    /// Runs claimed early, by their start time.
    pub(super) early: DueQueue<Timestamp, ClaimedRun>,
    /// Deadlines of attempts.
    pub(super) timeouts: DueQueue<Duration, (RunId, Token)>,
    /// Some permits are lent to callers that create runs in this process.
    pub(super) permits: Arc<Permits>,
    pub(super) suspects: SuspectWatch,
    pub(super) codes: Arc<Codes>,
    /// Look for held runs: this worker has just registered, or something changed since the last
    /// look.
    pub(super) must_look_for_held: bool,
    /// Search no earlier than this.
    pub(super) next_look_for_held: Duration,
    /// Claims that others may have counted as interrupted, although this process lives.
    pub(super) outlived: Vec<(RunId, Token)>,
    /// Runs with a requested cancellation that arrived before this worker tracked them.
    pub(super) unacknowledged_stops: BTreeSet<RunId>,
    /// A commit that would have claimed runs failed, but may have been applied all the same.
    pub(super) has_unknown: bool,
    /// A commit has made runs claimable since the last claim: created them, or freed permits of
    /// their limit.
    pub(super) was_added: bool,
    /// How many runs the last claim found.
    pub(super) last_found: usize,
}

impl Claims {
    /// No run is claimed.
    pub(super) fn new(permits: Arc<Permits>, codes: Codes) -> Self {
        Self {
            tracked: BTreeMap::new(),
            early: DueQueue::new(),
            timeouts: DueQueue::new(),
            permits,
            suspects: SuspectWatch::default(),
            codes: Arc::new(codes),
            must_look_for_held: false,
            next_look_for_held: Duration::ZERO,
            outlived: Vec::new(),
            unacknowledged_stops: BTreeSet::new(),
            has_unknown: false,
            was_added: false,
            last_found: 0,
        }
    }
}

/// A run that this worker executes.
#[derive(Debug)]
pub(super) struct Tracked {
    pub(super) token: Token,
    /// Whether the run occupies a permit. It no longer does once its handler has returned and only
    /// the write is missing.
    pub(super) holds_permit: bool,
    /// Its handler waits for another run, or for a long time: its permit is free meanwhile.
    pub(super) is_blocked: bool,
    /// Whether the handler knows of the requested cancellation.
    pub(super) is_stop_sent: bool,
}

impl<W: StoreWrites, D: Dispatcher> Engine<W, D> {
    /// Whether to look for held runs that the code of this worker can continue.
    pub(super) fn looks_for_held(&self, mono: Duration) -> bool {
        self.scheduling.next_work.has_held
            && self.claims.must_look_for_held
            && mono >= self.claims.next_look_for_held
    }

    /// Whether this worker holds no run, and none is on its way.
    pub(super) fn is_idle(&self) -> bool {
        self.claims.tracked.is_empty() && !self.claims.permits.is_in_use()
    }

    /// Whether to claim without looking first whether a run can be claimed. That saves a round trip
    /// for each completion under a limit that is full; where it finds nothing, it costs one, so the
    /// next time looks first. Hook calls are read when the worker looks, before it claims.
    pub(super) fn claims_at_once(&mut self) -> bool {
        let at_once =
            std::mem::take(&mut self.claims.was_added) && self.claims.last_found > 0 && !self.hooks.has_any();
        if at_once {
            // The look after the claim finds moved slots as well.
            self.scheduling.is_next_work_stale = false;
            self.scheduling.is_next_run_stale = true;
        }
        at_once
    }

    pub(super) fn claim_waiting(&mut self, at_once: bool, now: Now) -> Result<bool, StoreError> {
        if !at_once {
            self.refresh_next_work(now)?;
        }
        let horizon = now.wall.saturating_add(self.config.lead);
        if self.claims.suspects.is_isolating(now.mono) {
            return Ok(false);
        }
        let times = (now.wall, horizon, now.mono);
        let suspects = self.claims.suspects.wanted(self.is_idle(), self.scheduling.next_work.suspect, times);
        let codes = self.looks_for_held(now.mono).then(|| Arc::clone(&self.claims.codes));
        if !at_once
            && suspects == Suspects::Never
            && codes.is_none()
            && self.scheduling.next_work.run.is_none_or(|at| at > horizon)
        {
            return Ok(false);
        }
        let permits = self.claims.permits.reserve_up_to(self.config.batch_max);
        let limit = permits.count();
        if limit == 0 {
            return Ok(false);
        }
        self.scheduling.is_next_run_stale = true;
        let command = Command::ClaimRuns {
            project: Arc::clone(&self.config.project),
            worker: self.membership.worker.clone(),
            workflows: self.workflow_ids.clone(),
            limit,
            until: horizon,
            suspects,
            codes: codes.clone(),
        };
        self.claims.has_unknown = true;
        let outcome = self.commit_one(command, now)?;
        self.claims.has_unknown = false;
        match outcome {
            Ok(Answer::Claimed(runs)) => {
                let is_full = runs.len() == limit;
                self.claims.last_found = runs.len();
                if codes.is_some() {
                    self.claims.must_look_for_held = is_full;
                    self.claims.next_look_for_held = now.mono + HELD_LOOK_INTERVAL;
                }
                if suspects != Suspects::Never && !runs.iter().any(|claimed| claimed.run.is_suspect()) {
                    self.claims.suspects.found_none(now.mono);
                }
                self.accept_claims(runs, now);
                Ok(is_full)
            }
            Err(Rejection::WorkerGone) => {
                self.lose_everything();
                Ok(true)
            }
            Ok(_) | Err(_) => Ok(false),
        }
    }

    /// Accepts the runs of a claim whose reply was lost. No other worker would: they are ours as
    /// long as we heartbeat.
    pub(super) fn find_unknown_claims(&mut self, now: Now) -> Result<(), StoreError> {
        // Runs on their way to us must not be found here as well.
        if !self.claims.has_unknown || !self.claims.permits.close() {
            return Ok(());
        }
        let filter = RunFilter { states: vec![RunState::Running], ..RunFilter::default() };
        let mut page = Page { limit: self.config.batch_max.max(1), after: None };
        let mut found = Vec::new();
        loop {
            let runs = self.reads.runs(&self.config.project, &filter, &page)?;
            page.after = runs.last().map(|run| run.id.to_string());
            let is_last = runs.len() < page.limit;
            for run in runs {
                let is_held =
                    self.claims.tracked.get(&run.id).is_some_and(|tracked| tracked.token == run.token);
                if run.worker.as_ref() == Some(&self.membership.worker) && !is_held {
                    let journal = self.reads.steps(&run.id)?;
                    found.push(ClaimedRun { run, journal, is_first: false });
                }
            }
            if is_last {
                break;
            }
        }
        if !found.is_empty() {
            // A primary that is shutting down briefly shows commits that its synchronous standby
            // never received. A commit that is acknowledged after the read proves that what was
            // read is kept.
            match self.commit_one(Command::Heartbeat { worker: self.membership.worker.clone() }, now)? {
                Err(Rejection::WorkerGone) => {
                    self.lose_everything();
                    return Ok(());
                }
                Ok(_) | Err(_) => self.note_alive(now.mono),
            }
        }
        self.claims.has_unknown = false;
        // In slot order, as they would have been claimed.
        found.sort_by_key(|claimed| (claimed.run.available_at, claimed.run.slot));
        self.accept_claims(found, now);
        Ok(())
    }

    /// Accepts new claims: runs that are due start now, the others wait for their start time.
    pub(super) fn accept_claims(&mut self, runs: Vec<ClaimedRun>, now: Now) {
        if runs.is_empty() {
            return;
        }
        // The claim counted as a heartbeat.
        self.note_alive(now.mono);
        self.track(runs, now, now.mono);
    }

    /// Accepts a run that was claimed by the commit that created it.
    pub(super) fn accept_created(&mut self, claimed: ClaimedRun, permit: Permit, now: Now) {
        if *permit.worker() == self.membership.worker && self.phase != Phase::Over {
            // Cancellation was requested before we tracked the run: the next peer refresh delivers
            // it.
            self.peers.must_refresh |= self.claims.unacknowledged_stops.contains(&claimed.run.id);
            // The commit came later than the permit; how much later, and whether the machine slept
            // in between, is unknown.
            self.note_alive(permit.asked_at());
            self.track(vec![claimed], now, permit.asked_at());
        }
        permit.settle();
    }

    /// Tracks runs that were claimed at `claimed_at` of the steady clock or later.
    fn track(&mut self, runs: Vec<ClaimedRun>, now: Now, claimed_at: Duration) {
        let may_be_lost = now.mono.saturating_sub(claimed_at) >= self.config.lease;
        let mut ready = Vec::with_capacity(runs.len());
        for claimed in runs {
            let run = &claimed.run;
            let tracked =
                Tracked { token: run.token, holds_permit: true, is_blocked: false, is_stop_sent: false };
            // An early claim may have been revoked, and the run claimed again under another
            // token.
            let former = self.claims.tracked.insert(run.id.clone(), tracked);
            if former.is_none_or(|former| !former.holds_permit) {
                self.claims.permits.take();
            }
            let must_ask = may_be_lost || must_be_confirmed(&claimed);
            if self.claims.suspects.track(run, self.claims.tracked.len() == 1, now.mono) {
                self.note_suspect(run, now);
            }
            // A draining worker starts nothing more and gives back what arrives now. Early claims
            // are verified before they start.
            if run.available_at > now.wall || must_ask || self.phase != Phase::Working {
                self.claims.early.insert(run.available_at, claimed);
            } else {
                ready.push(claimed);
            }
        }
        self.start(ready, Some(claimed_at), now);
    }

    fn note_suspect(&self, run: &Run, now: Now) {
        let is_alone = self.claims.suspects.is_isolating(now.mono);
        if is_alone {
            self.claims.permits.set_open(false);
        }
        self.dispatcher.emit(Notice::Suspect {
            run: run.id.clone(),
            workflow: Arc::clone(&run.workflow),
            interruptions: run.interruptions,
            is_alone,
        });
    }

    /// Starts the early claims that are due now, unless they were revoked meanwhile.
    pub(super) fn start_early_claims(&mut self, now: Now) -> Result<(), StoreError> {
        if self.claims.early.next_deadline().is_none_or(|at| at > now.wall) {
            return Ok(());
        }
        // An edit decided before this instant may still be syncing to disk, and take claims back.
        // Later edits do not.
        self.writes.barrier()?;
        // In parts, so that the first runs start before the last are verified.
        while self.claims.early.next_deadline().is_some_and(|at| at <= now.wall) {
            self.start_due_claims(now)?;
        }
        Ok(())
    }

    fn start_due_claims(&mut self, now: Now) -> Result<(), StoreError> {
        let due: Vec<ClaimedRun> =
            std::iter::from_fn(|| self.claims.early.pop_due(now.wall)).take(START_MAX).collect();
        let claims: Vec<(RunId, Token)> =
            due.iter().map(|claimed| (claimed.run.id.clone(), claimed.run.token)).collect();
        match self.reads.may_enter(&claims) {
            Ok(answers) => {
                let mut ready = Vec::with_capacity(due.len());
                let mut refused = Vec::new();
                for (claimed, answer) in due.into_iter().zip(answers) {
                    match answer {
                        Ok(()) => ready.push(claimed),
                        // The application asks again, and reports the refusal like any other.
                        Err(EntryRefusal::ScheduleDeleted) => refused.push(claimed),
                        Err(EntryRefusal::ClaimLost) => self.untrack(&claimed.run.id, claimed.run.token),
                    }
                }
                self.start(ready, Some(now.mono), now);
                self.start(refused, None, now);
                Ok(())
            }
            Err(error) => {
                // If the store cannot confirm a claim, do not start it: a deleted schedule must not
                // fire.
                for claimed in due {
                    self.claims.early.insert(claimed.run.available_at, claimed);
                }
                Err(error)
            }
        }
    }

    /// Gives early claims back, so that they start on time elsewhere.
    pub(super) fn release_early_claims(&mut self, now: Now) -> Result<(), StoreError> {
        if self.claims.early.is_empty() {
            return Ok(());
        }
        let release = |claimed: &ClaimedRun| Command::CompleteRun {
            run: claimed.run.id.clone(),
            token: claimed.run.token,
            ending: Box::new(Completion::Released),
            stands_alone: false,
            tells: false,
        };
        let commands: Vec<Command> = self.claims.early.iter().map(release).collect();
        // A rejected command means that the claim was revoked meanwhile.
        let _ = self.writes.commit(&commands, now.wall)?;
        while let Some(claimed) = self.claims.early.pop_due(Timestamp::MAX) {
            self.untrack(&claimed.run.id, claimed.run.token);
        }
        Ok(())
    }

    /// Starts runs whose claims and schedules were seen at `confirmed_at` or later, if ever.
    fn start(&mut self, runs: Vec<ClaimedRun>, confirmed_at: Option<Duration>, now: Now) {
        if runs.is_empty() {
            return;
        }
        for claimed in &runs {
            let run = &claimed.run;
            if let Some(timeout) = self.config.workflows.get(&run.workflow).and_then(|config| config.timeout)
            {
                self.claims.timeouts.insert(now.mono + timeout, (run.id.clone(), run.token));
            }
        }
        let mut rest = runs;
        while !rest.is_empty() {
            let later = rest.split_off(rest.len().min(START_MAX));
            self.dispatcher.start(rest, confirmed_at);
            rest = later;
        }
    }

    pub(super) fn stop_overdue(&mut self, now: Now) {
        let mut stops = Vec::new();
        while let Some((run, token)) = self.claims.timeouts.pop_due(now.mono) {
            let is_executed = |tracked: &Tracked| tracked.holds_permit || tracked.is_blocked;
            if self
                .claims
                .tracked
                .get(&run)
                .is_some_and(|tracked| tracked.token == token && is_executed(tracked))
            {
                stops.push(Stop { run, token, reason: StopReason::TimedOut });
            }
        }
        if !stops.is_empty() {
            self.dispatcher.stop(stops);
        }
    }

    pub(super) fn free_permit(&mut self, run: &RunId, token: Token) {
        let Some(tracked) = self.claims.tracked.get_mut(run).filter(|tracked| tracked.token == token) else {
            return;
        };
        tracked.is_blocked = false;
        if std::mem::take(&mut tracked.holds_permit) {
            self.claims.permits.give_back(1);
        }
    }

    /// Frees the permit of a waiting handler: the awaited run may need it.
    pub(super) fn block(&mut self, run: &RunId, token: Token) {
        if let Some(tracked) =
            self.claims.tracked.get_mut(run).filter(|tracked| tracked.token == token && tracked.holds_permit)
        {
            tracked.holds_permit = false;
            tracked.is_blocked = true;
            self.claims.permits.give_back(1);
        }
    }

    /// Takes the permit back at once: a handler that waited for a free one could deadlock with a
    /// run that waits for it.
    pub(super) fn unblock(&mut self, run: &RunId, token: Token) {
        if let Some(tracked) =
            self.claims.tracked.get_mut(run).filter(|tracked| tracked.token == token && tracked.is_blocked)
        {
            tracked.holds_permit = true;
            tracked.is_blocked = false;
            self.claims.permits.take();
        }
    }

    pub(super) fn untrack(&mut self, run: &RunId, token: Token) {
        self.free_permit(run, token);
        if self.claims.tracked.get(run).is_some_and(|tracked| tracked.token == token) {
            self.claims.tracked.remove(run);
        }
        self.scheduling.is_next_work_stale |= self.claims.suspects.release(run, token);
    }

    /// Whether callers that create runs may take permits: not ahead of runs that are already
    /// queued.
    pub(super) fn has_permit_to_lend(&self, now: Now) -> bool {
        self.phase == Phase::Working
            && self.membership.is_registered
            && !self.claims.has_unknown
            && !self.claims.suspects.is_isolating(now.mono)
            && self.scheduling.next_work.run.is_none_or(|at| at > now.wall)
    }
}
