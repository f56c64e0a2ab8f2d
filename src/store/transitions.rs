//! What the commands mean for a row, as arithmetic. Every database applies these; none has rules of its own.

use super::cadence_change::{CHANGED, CadenceChange, first_after_return};
use super::{Patch, Rejection, declarations};
use crate::calendar::Timestamp;
use crate::model::missed::MissedSpan;
use crate::model::spec::CompiledSpec;
use crate::model::{
    Completion, Declaration, Json, LedgerLine, NewRun, NewSchedule, Origin, PausedState, PlannedRun, Run,
    RunState, Schedule, ScheduleId, ScheduleStatus, SlotOutcome, Token, WorkerId,
};
use serde::Deserialize;
use std::borrow::Cow;
use std::sync::Arc;

/// Why a due slot of a deleted schedule made no run.
const DELETED: &str = "the schedule was deleted";
/// Why a due slot of a retired schedule made no run.
const RETIRED: &str = "the schedule was retired";

/// A schedule with what only the database needs to know of it.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct StoredSchedule {
    /// The schedule.
    pub schedule: Schedule,
    /// The cadence text that its next slot was computed from.
    pub compiled_spec: Json,
}

/// The row of a schedule that is new.
pub(super) fn create_schedule(new: &NewSchedule, now: Timestamp) -> StoredSchedule {
    let schedule = Schedule {
        id: new.id.clone(),
        project: Arc::clone(&new.project),
        workflow: Arc::clone(&new.workflow),
        key: Arc::clone(&new.key),
        owner: new.owner.clone(),
        spec: Arc::clone(&new.spec),
        input: new.input.clone(),
        status: active_while(new.next_slot),
        note: None,
        next_slot: new.next_slot,
        last_slot: None,
        run_count: 0,
        failure_count: 0,
        attended_from: now,
        created_at: now,
        updated_at: now,
        revision: 1,
        declaration: new.owner.is_some().then(|| {
            let mut declaration = Declaration::new(&new.spec, new.input.as_deref(), now);
            declaration.version = new.version.as_deref().map(str::to_owned);
            declaration.to_json()
        }),
        settled: None,
    };
    StoredSchedule { schedule, compiled_spec: Arc::clone(&new.compiled_spec) }
}

fn active_while(next_slot: Option<Timestamp>) -> ScheduleStatus {
    if next_slot.is_some() { ScheduleStatus::Active } else { ScheduleStatus::Finished }
}

/// Whether putting `new` over the row would change anything.
pub(super) fn upsert_changes(row: &StoredSchedule, new: &NewSchedule, now: Timestamp) -> bool {
    let old = &row.schedule;
    let (new, declaration) = declarations::effective(row, new, now);
    let comes_back = match old.status {
        ScheduleStatus::Retired | ScheduleStatus::Broken => true,
        ScheduleStatus::Active | ScheduleStatus::Paused | ScheduleStatus::Finished => false,
    };
    comes_back
        || old.spec != new.spec
        || row.compiled_spec != new.compiled_spec
        || old.input != new.input
        || old.owner != new.owner
        || old.declaration != declaration
}

/// Puts `new` over the row, from which nothing is claimed ahead any more. Gives what the ledger says of the slots that
/// this forgets.
#[must_use]
pub(super) fn upsert(row: &mut StoredSchedule, new: &NewSchedule, now: Timestamp) -> Vec<LedgerLine> {
    let forgotten = missed_until(&row.schedule, now, CHANGED);
    let (new, declaration) = declarations::effective(row, new, now);
    let schedule = &mut row.schedule;
    let spec_changed = schedule.spec != new.spec;
    let paused = Declaration::parse(schedule.declaration.as_deref()).and_then(|known| known.paused);
    let change = (row.compiled_spec != new.compiled_spec)
        .then(|| CadenceChange::new(schedule, &new.spec, new.next_slot, now));
    let first = first_after_return(schedule, &new.spec, new.next_slot, now);
    schedule.spec = Arc::clone(&new.spec);
    schedule.input.clone_from(&new.input);
    schedule.owner.clone_from(&new.owner);
    schedule.declaration = declaration;
    row.compiled_spec = Arc::clone(&new.compiled_spec);
    schedule.updated_at = now;
    schedule.revision += 1;

    match schedule.status {
        ScheduleStatus::Active | ScheduleStatus::Paused => {
            let Some(change) = change else { return Vec::new() };
            schedule.next_slot = change.next_slot;
            if change.starts_now {
                schedule.attended_from = now;
            }
            if schedule.status == ScheduleStatus::Active {
                schedule.status = active_while(schedule.next_slot);
            }
            change.lines
        }
        ScheduleStatus::Finished if !spec_changed => Vec::new(),
        ScheduleStatus::Finished | ScheduleStatus::Retired | ScheduleStatus::Broken => {
            let old_status = std::mem::replace(&mut schedule.status, active_while(first));
            schedule.note = None;
            schedule.next_slot = first;
            schedule.attended_from = now;
            schedule.failure_count = 0;
            match old_status {
                ScheduleStatus::Broken => forgotten,
                // What came due before the retirement is on record since then.
                ScheduleStatus::Retired => {
                    if let Some(paused) = paused {
                        schedule.note = paused.note.map(Into::into);
                        if schedule.status == ScheduleStatus::Active {
                            schedule.status = ScheduleStatus::Paused;
                        }
                    }
                    skipped_while_retired(forgotten)
                }
                // It has no slot left.
                _ => Vec::new(),
            }
        }
    }
}

/// What the ledger says of the slots that a deletion leaves without a run.
#[must_use]
pub(super) fn missed_by_deletion(schedule: &Schedule, now: Timestamp) -> Vec<LedgerLine> {
    match schedule.status {
        // A paused schedule's slots wait for its resumption, which now never comes.
        ScheduleStatus::Active | ScheduleStatus::Paused | ScheduleStatus::Broken => {
            missed_until(schedule, now, DELETED)
        }
        ScheduleStatus::Retired | ScheduleStatus::Finished => Vec::new(),
    }
}

/// What the ledger says of all slots that are due and not decided, where nobody will decide them any more. Read before
/// the specification is replaced: they are slots of the old one.
pub(super) fn missed_until(schedule: &Schedule, now: Timestamp, reason: &str) -> Vec<LedgerLine> {
    let Some(first) = schedule.next_slot.filter(|slot| *slot <= now) else { return Vec::new() };
    match CompiledSpec::of(schedule) {
        Ok(compiled_spec) => MissedSpan::new(&compiled_spec, Some(first)).missed(first, now, reason),
        // Where it can't be read, no slot is known but the one that was promised.
        Err(_) => {
            vec![LedgerLine {
                from: first,
                until: first,
                count: 1,
                outcome: SlotOutcome::Missed,
                reason: reason.into(),
            }]
        }
    }
}

/// Slots of the time in which the schedule was retired: nobody wanted them.
fn skipped_while_retired(mut lines: Vec<LedgerLine>) -> Vec<LedgerLine> {
    for line in lines.iter_mut().filter(|line| line.outcome == SlotOutcome::Missed) {
        line.outcome = SlotOutcome::Skipped;
        line.reason = RETIRED.into();
    }
    lines
}

/// Whether a run of a slot is as it was made: nothing has become of it yet, its claim aside. One that waited, for a
/// child or a retry, has been executed by a clock faster than that of the edit.
pub(super) fn is_untouched(run: &Run) -> bool {
    matches!(run.state, RunState::Queued | RunState::Buffered | RunState::Running)
        && run.origin == Origin::Schedule
        && run.attempt == 1
}

/// A run that was made ahead of its slot and is deleted again.
#[derive(Clone, Debug)]
pub(super) struct TakenBack {
    /// Its slot.
    pub slot: Timestamp,
    /// The slot of the run before.
    pub last_slot: Option<Timestamp>,
    /// Of its newest claim.
    pub token: Token,
}

/// Gives the slots back to the schedule: the earliest is the next one again.
pub(super) fn take_back(schedule: &mut Schedule, taken: &[TakenBack]) {
    let Some(first) = taken.iter().min_by_key(|run| run.slot) else { return };
    schedule.next_slot = Some(first.slot);
    schedule.last_slot = first.last_slot;
    // Tokens of a slot's run start below the revision, which the edit now raises: none that was given out comes again.
    let newest_token = taken.iter().map(|run| run.token.0).max().unwrap_or(0);
    schedule.revision = schedule.revision.max(newest_token);
    schedule.run_count = schedule.run_count.saturating_sub(taken.len() as u64);
    // The claim of its last slot had finished it; the slot is to come again.
    if schedule.status == ScheduleStatus::Finished {
        schedule.status = ScheduleStatus::Active;
    }
}

/// Whether the edit must first take back what was claimed ahead. An edit of the coming slot alone was computed from
/// the slot behind the claimed one: giving that back would lose it.
pub(super) fn patch_takes_back(patch: &Patch) -> bool {
    patch.next_slot.is_none()
}

/// Edits the row. Gives what the ledger says of the slots that this forgets.
pub(super) fn patch(row: &mut StoredSchedule, patch: &Patch, now: Timestamp) -> Vec<LedgerLine> {
    let schedule = &mut row.schedule;
    let mut missed = Vec::new();
    if patch.spec.is_some() || patch.input.is_some() {
        let spec = patch.spec.as_ref().map_or(&schedule.spec, |(spec, ..)| spec);
        let input = patch.input.as_ref().unwrap_or(&schedule.input);
        schedule.declaration = declarations::overridden(schedule, spec, input.as_ref());
    }
    if let Some((spec, compiled_spec, next_slot)) = &patch.spec {
        let is_finished = schedule.status == ScheduleStatus::Finished;
        if row.compiled_spec != *compiled_spec || (is_finished && schedule.spec != *spec) {
            let change = CadenceChange::new(schedule, spec, *next_slot, now);
            missed = change.lines;
            row.compiled_spec = Arc::clone(compiled_spec);
            schedule.next_slot = change.next_slot.filter(|_| !is_used_up(schedule, spec));
            if change.starts_now || is_finished {
                schedule.attended_from = now;
            }
            if matches!(schedule.status, ScheduleStatus::Active | ScheduleStatus::Finished) {
                schedule.status = active_while(schedule.next_slot);
            }
        }
        schedule.spec = Arc::clone(spec);
    }
    if let Some(input) = &patch.input {
        schedule.input.clone_from(input);
    }
    if let Some(status) = patch.status {
        if schedule.status == ScheduleStatus::Paused && status == ScheduleStatus::Active {
            schedule.attended_from = now;
            schedule.failure_count = 0;
        }
        schedule.status = status;
    }
    if let Some(note) = &patch.note {
        schedule.note.clone_from(note);
    }
    if let Some(next_slot) = patch.next_slot {
        schedule.next_slot = next_slot;
    }
    let skipped = patch.ledger.iter().map(|line| line.from);
    let settled: Vec<Timestamp> = patch.settled.iter().copied().chain(skipped).collect();
    if !settled.is_empty() {
        schedule.settled = schedule.settled_with(&settled, now);
        if let Some(next) = schedule.next_slot.filter(|next| patch.settled.contains(next)) {
            schedule.next_slot =
                CompiledSpec::of(schedule).ok().and_then(|compiled_spec| compiled_spec.next(next));
            if schedule.status == ScheduleStatus::Active {
                schedule.status = active_while(schedule.next_slot);
            }
        }
    }
    missed
}

/// Whether the schedule has made all runs that `spec` allows.
fn is_used_up(schedule: &Schedule, spec: &str) -> bool {
    let compiled_spec = CompiledSpec::parse(spec).ok();
    compiled_spec
        .and_then(|compiled_spec| compiled_spec.spec().max_runs)
        .is_some_and(|max| schedule.run_count >= max)
}

/// Marks an edit that changed something.
pub(super) fn touch(schedule: &mut Schedule, now: Timestamp) {
    schedule.updated_at = now;
    schedule.revision += 1;
}

/// The run of `slot` was left out by the application: the schedule is as if it had never been made.
pub(super) fn leave_out(schedule: &mut Schedule, slot: Timestamp, last_slot: Option<Timestamp>) {
    if schedule.last_slot == Some(slot) {
        schedule.last_slot = last_slot;
    }
    schedule.run_count = schedule.run_count.saturating_sub(1);
    // A decision that is being made from the old values must be made again.
    schedule.revision += 1;
}

/// What the ledger says of such a slot.
pub(super) fn left_out_line(slot: Timestamp, reason: &Arc<str>) -> LedgerLine {
    LedgerLine {
        from: slot,
        until: slot,
        count: 1,
        outcome: SlotOutcome::Skipped,
        reason: Arc::clone(reason),
    }
}

/// Retires a schedule that its application no longer declares. Gives what the ledger says of it: the slots that this
/// forgets, and a line without a slot (`count` 0) that records the retirement itself.
#[must_use]
pub(super) fn retire(schedule: &mut Schedule, app: &str, now: Timestamp) -> Vec<LedgerLine> {
    let mut lines = missed_until(schedule, now, RETIRED);
    if !lines.is_empty() {
        schedule.next_slot =
            CompiledSpec::of(schedule).ok().and_then(|compiled_spec| compiled_spec.next(now));
    }
    // Behind the slots that were due, so that no two lines overlap.
    let newest = lines.iter().map(|line| line.until.as_micros() + 1).max();
    let at = Timestamp::from_micros(newest.map_or(now.as_micros(), |newest| newest.max(now.as_micros())));
    let reason = format!("retired: `{app}` no longer declares it");
    lines.push(LedgerLine {
        from: at,
        until: at,
        count: 0,
        outcome: SlotOutcome::Skipped,
        reason: reason.into(),
    });
    if let Some(mut known) = Declaration::parse(schedule.declaration.as_deref()) {
        let is_paused = schedule.status == ScheduleStatus::Paused;
        let note = schedule.note.as_deref().map(str::to_owned);
        known.paused = is_paused.then_some(PausedState { note });
        schedule.declaration = Some(known.to_json());
    }
    schedule.status = ScheduleStatus::Retired;
    schedule.note = Some(format!("`{app}` no longer declares it").into());
    touch(schedule, now);
    lines
}

/// Pauses a schedule, from which nothing is claimed ahead any more, after so many failures.
pub(super) fn pause_itself(schedule: &mut Schedule, now: Timestamp) {
    schedule.status = ScheduleStatus::Paused;
    schedule.note = Some(format!("paused after {} failed runs in a row", schedule.failure_count).into());
    touch(schedule, now);
}

/// The time zone that a specification names.
pub(super) fn zone_of(spec: &str) -> Arc<str> {
    #[derive(Deserialize)]
    struct Zone<'a> {
        #[serde(borrow)]
        timezone: Option<Cow<'a, str>>,
    }
    match serde_json::from_str::<Zone<'_>>(spec) {
        Ok(Zone { timezone: Some(zone) }) => zone.into(),
        Ok(Zone { timezone: None }) | Err(_) => "UTC".into(),
    }
}

/// The worker of a running run has died: counts that, where the run was being executed rather than held for later.
/// Whether it did.
pub(super) fn count_interruption(run: &mut Run, was_alone: bool, now: Timestamp) -> bool {
    if !is_interrupted(run.available_at, now) {
        return false;
    }
    run.interruptions = run.interruptions.saturating_add(1);
    run.interrupted_alone = was_alone;
    true
}

/// Whether a claim whose worker has died was being executed: one that was made ahead of its time waits for that.
pub(super) fn is_interrupted(available_at: Timestamp, now: Timestamp) -> bool {
    available_at <= now
}

/// What the end of a claim depends on.
#[derive(Clone, Debug)]
pub(super) struct Claim {
    /// See [`crate::model::Run::attempt`].
    pub attempt: u32,
    /// See [`crate::model::Run::available_at`].
    pub available_at: Timestamp,
    /// See [`crate::model::Run::cancel_requested`].
    pub cancel_requested: bool,
    /// A child finished while this claim ran; the handler may have looked before.
    pub child_ended: bool,
}

/// A run after the end of a claim.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Ended {
    /// Its state.
    pub state: RunState,
    /// Its attempt.
    pub attempt: u32,
    /// From when it may be claimed again.
    pub available_at: Timestamp,
    /// What the handler returned.
    pub result: Option<Json>,
    /// Its error; that of the last attempt stays where the ending says nothing about one.
    pub error: Option<Json>,
    /// Whether it stays.
    pub keeps_error: bool,
}

/// What an ending makes of a run. A run that somebody asked to stop is never queued or parked again: nobody would
/// ever claim it.
pub(super) fn end(claim: &Claim, ending: &Completion, now: Timestamp) -> Ended {
    let mut ended = Ended {
        state: RunState::Cancelled,
        attempt: claim.attempt,
        available_at: claim.available_at,
        result: None,
        error: None,
        keeps_error: true,
    };
    match ending {
        Completion::Succeeded { result } => {
            ended.state = RunState::Succeeded;
            ended.result.clone_from(result);
            ended.keeps_error = false;
        }
        Completion::Failed { error, retry_at } => {
            ended.error = Some(Arc::clone(error));
            ended.keeps_error = false;
            match retry_at {
                None => ended.state = RunState::Failed,
                Some(_) if claim.cancel_requested => {}
                Some(at) => {
                    ended.state = RunState::Queued;
                    ended.attempt += 1;
                    ended.available_at = *at;
                }
            }
        }
        Completion::Cancelled { error } => {
            ended.error.clone_from(error);
            ended.keeps_error = false;
        }
        Completion::Parked { .. }
        | Completion::Held { .. }
        | Completion::Released
        | Completion::Skipped { .. }
            if claim.cancel_requested => {}
        Completion::Held { .. } => {
            ended.state = RunState::Waiting;
            ended.available_at = HELD_UNTIL;
        }
        // Stores take a skipped run out before they ask; one that can't be taken out is cancelled.
        Completion::Skipped { .. } => {}
        Completion::Parked { wakes_at } => {
            ended.state = RunState::Waiting;
            // The child may have ended before the parent was seen to wait for it: nobody else would wake it.
            ended.available_at = if claim.child_ended { now.min(*wakes_at) } else { *wakes_at };
        }
        Completion::Released => {
            ended.state = RunState::Queued;
            // Claimed ahead and given back: still not before its time.
            ended.available_at = claim.available_at.max(now);
        }
    }
    ended
}

/// What an ending makes of a run whatever its claim has seen; `None` where that matters.
#[cfg(feature = "postgres")]
pub(super) fn final_completion(ending: &Completion, now: Timestamp) -> Option<Ended> {
    let is_final = matches!(
        ending,
        Completion::Succeeded { .. }
            | Completion::Failed { retry_at: None, .. }
            | Completion::Cancelled { .. }
    );
    let unseen = Claim { attempt: 1, available_at: now, cancel_requested: false, child_ended: false };
    is_final.then(|| end(&unseen, ending, now))
}

/// Tells endings apart: equal for the repetition of an ending, in any process and any release.
pub(super) fn completion_print(ending: &Completion) -> i64 {
    // FNV-1a, since the standard hasher may change between compilers.
    fn feed(mut hash: u64, bytes: &[u8]) -> u64 {
        for byte in bytes {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
        hash
    }
    fn feed_text(hash: u64, text: Option<&str>) -> u64 {
        match text {
            None => feed(hash, b"-"),
            Some(text) => feed(feed(hash, b"+"), text.as_bytes()),
        }
    }
    let start = 0xcbf2_9ce4_8422_2325;
    let hash = match ending {
        Completion::Succeeded { result } => feed_text(feed(start, b"succeeded"), result.as_deref()),
        Completion::Failed { error, retry_at } => {
            let hash = feed(start, b"failed");
            let hash = match retry_at {
                None => feed(hash, b"-"),
                Some(at) => feed(hash, &at.as_micros().to_le_bytes()),
            };
            feed_text(hash, Some(error))
        }
        Completion::Cancelled { error } => feed_text(feed(start, b"cancelled"), error.as_deref()),
        Completion::Parked { wakes_at } => feed(feed(start, b"parked"), &wakes_at.as_micros().to_le_bytes()),
        Completion::Held { code, note } => feed_text(feed_text(feed(start, b"held"), Some(code)), Some(note)),
        Completion::Released => feed(start, b"released"),
        Completion::Skipped { reason } => feed_text(feed(start, b"skipped"), Some(reason)),
    };
    hash.cast_signed()
}

/// Where a run stands towards the others of its schedule: those that are `LIVE` are what `BEHIND` ones wait for.
pub(super) fn phase(state: RunState) -> i64 {
    match state {
        RunState::Succeeded | RunState::Failed | RunState::Cancelled => OVER,
        RunState::Queued | RunState::Running | RunState::Waiting => LIVE,
        RunState::Buffered => BEHIND,
    }
}

/// When a held run is available: never to those who don't know of holding, and not when a run that waits for a child is.
const HELD_UNTIL: Timestamp = Timestamp::from_micros(253_402_300_798_000_000);

/// What the end of a claim makes of the code that can't continue its run, and of the note.
pub(super) fn hold(refused_by: Option<&Arc<str>>, ending: &Completion) -> Option<(Arc<str>, Arc<str>)> {
    let Completion::Held { code, note } = ending else { return None };
    let known = refused_by.map_or("", |codes| &**codes).split(' ');
    let others = known.filter(|known| !known.is_empty() && **known != **code);
    let mut codes: Vec<&str> = others.collect();
    // A bound for code that differs at every start.
    if codes.len() >= REFUSED_MAX {
        codes.remove(0);
    }
    codes.push(code);
    Some((codes.join(" ").into(), Arc::clone(note)))
}

/// Most fingerprints that are kept of one run.
const REFUSED_MAX: usize = 50;

/// Whether a held run can be claimed by a worker with this code of its workflow.
pub(super) fn is_claimable_when_held(run: &Run, code: &str) -> bool {
    matches!(run.state, RunState::Queued | RunState::Waiting)
        && !run.cancel_requested
        && run.refused_by.is_some()
        && !run.is_refused_by(code)
}

/// Whether the run waits for a child run and for nothing else.
pub(super) fn waits_for_child(run: &Run) -> bool {
    run.state == RunState::Waiting && run.available_at == Timestamp::MAX
}

/// Finished.
pub(super) const OVER: i64 = 0;
/// Neither finished nor buffered.
pub(super) const LIVE: i64 = 1;
/// Buffered.
pub(super) const BEHIND: i64 = 2;

/// Whether a run that is created for this origin needs its schedule to exist: what was deleted starts nothing.
pub(super) fn needs_schedule(new: &NewRun) -> Option<&ScheduleId> {
    match new.origin {
        Origin::Schedule | Origin::Trigger | Origin::Backfill => new.schedule_id.as_ref(),
        Origin::Invoke | Origin::Child => None,
    }
}

/// What a run takes over from its schedule.
#[derive(Debug)]
pub(super) struct ScheduleFacts<'a> {
    pub id: &'a ScheduleId,
    pub project: &'a Arc<str>,
    pub workflow: &'a Arc<str>,
    pub key: &'a Arc<str>,
    pub input: Option<&'a Json>,
    pub timezone: &'a Arc<str>,
    pub revision: i64,
}

/// Where the tokens of a new run begin. The same slot may have been claimed before and given back: its tokens must not
/// come again, and `take_back` has raised the revision past them.
pub(super) fn first_token(origin: Origin, revision: i64) -> Token {
    match origin {
        Origin::Schedule | Origin::Backfill => Token(revision - 1),
        Origin::Trigger | Origin::Invoke | Origin::Child => Token::NONE,
    }
}

/// The run of a slot, queued.
pub(super) fn planned_run(planned: &PlannedRun, schedule: &ScheduleFacts<'_>, now: Timestamp) -> Run {
    Run {
        id: planned.id.clone(),
        project: Arc::clone(schedule.project),
        workflow: Arc::clone(schedule.workflow),
        key: Arc::clone(schedule.key),
        schedule_id: Some(schedule.id.clone()),
        slot: Some(planned.slot),
        last_slot: planned.last_slot,
        upcoming: planned.upcoming,
        timezone: Arc::clone(schedule.timezone),
        origin: Origin::Schedule,
        payload: None,
        input: schedule.input.cloned(),
        state: RunState::Queued,
        attempt: 1,
        token: first_token(Origin::Schedule, schedule.revision),
        worker: None,
        available_at: planned.available_at,
        created_at: now,
        started_at: None,
        finished_at: None,
        cancel_requested: false,
        result: None,
        error: None,
        parent: None,
        idempotency_key: None,
        interruptions: 0,
        interrupted_alone: false,
        note: None,
        refused_by: None,
    }
}

/// A run that no slot asked for, queued.
pub(super) fn new_run(new: &NewRun, now: Timestamp) -> Run {
    Run {
        id: new.id.clone(),
        project: Arc::clone(&new.project),
        workflow: Arc::clone(&new.workflow),
        key: Arc::clone(&new.key),
        schedule_id: new.schedule_id.clone(),
        slot: new.slot,
        last_slot: new.last_slot,
        upcoming: new.upcoming,
        timezone: Arc::clone(&new.timezone),
        origin: new.origin,
        payload: new.payload.clone(),
        input: new.input.clone(),
        state: RunState::Queued,
        attempt: 1,
        token: Token::NONE,
        worker: None,
        available_at: new.available_at,
        created_at: now,
        started_at: None,
        finished_at: None,
        cancel_requested: false,
        result: None,
        error: None,
        parent: new.parent.clone(),
        idempotency_key: new.idempotency_key.clone(),
        interruptions: 0,
        interrupted_alone: false,
        note: None,
        refused_by: None,
    }
}

/// Whether a run that is being created can be given to a worker at once.
pub(super) fn is_claimable(run: &Run, now: Timestamp) -> bool {
    run.state == RunState::Queued && run.available_at <= now
}

/// Gives a run to a worker.
pub(super) fn claim(run: &mut Run, worker: &WorkerId, now: Timestamp) {
    if run.refused_by.is_some() {
        run.available_at = run.available_at.min(now);
        run.note = None;
    }
    run.state = RunState::Running;
    run.token = run.token.next();
    run.worker = Some(worker.clone());
    // Claimed ahead of its time, it is held until then.
    run.started_at = run.started_at.or(Some(now.max(run.available_at)));
}

/// A new schedule whose id another one has.
pub(super) fn id_in_use(id: &ScheduleId) -> Rejection {
    Rejection::Invalid(format!("the schedule id `{id}` is in use"))
}
