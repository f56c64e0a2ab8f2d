//! What a command means for one row: pure rules. Every store applies these; none has rules of its
//! own.

use super::cadence_change::CadenceChange;
pub(in crate::store) use super::completion_print::completion_print;
use super::declarations;
use crate::calendar::Timestamp;
use crate::model::missed::MissedSpan;
use crate::model::{
    Completion, Declaration, Json, LedgerLine, NewRun, Origin, PausedState, Run, RunState, Schedule,
    ScheduleId, ScheduleStatus, SlotOutcome, StoredSpec, Token, stored_calendar,
};
use crate::store::{Patch, Rejection};
use std::sync::Arc;

pub(in crate::store) use super::new_runs::*;
pub(in crate::store) use super::upserts::*;

/// Why a due slot of a deleted schedule has no run.
const DELETED: &str = "the schedule was deleted";
/// Why a due slot of a retired schedule has no run.
const RETIRED: &str = "the schedule was retired";

/// A schedule and what only the store needs to know about it.
#[derive(Clone, PartialEq, Debug)]
pub(in crate::store) struct StoredSchedule {
    pub schedule: Schedule,
    /// The cadence text from which its next slot was computed.
    pub compiled_spec: Json,
}

impl StoredSchedule {
    /// The slot of a finished one-off schedule that no code declares: a prune may delete it.
    pub fn finished_once(&self) -> Option<Timestamp> {
        let is_finished = self.schedule.status == ScheduleStatus::Finished && self.schedule.owner.is_none();
        let slot = self.compiled_spec.strip_prefix("||").filter(|_| is_finished)?;
        slot.split('|').next()?.parse().ok().map(Timestamp::from_micros)
    }
}

pub(super) fn active_while(next_slot: Option<Timestamp>) -> ScheduleStatus {
    if next_slot.is_some() { ScheduleStatus::Active } else { ScheduleStatus::Finished }
}

/// Returns the ledger lines of the slots that a deletion leaves without a run.
#[must_use]
pub(in crate::store) fn missed_by_deletion(schedule: &Schedule, now: Timestamp) -> Vec<LedgerLine> {
    match schedule.status {
        // The slots of a paused schedule wait for it to be resumed, which will not happen.
        ScheduleStatus::Active | ScheduleStatus::Paused | ScheduleStatus::Broken => {
            missed_until(schedule, now, DELETED)
        }
        ScheduleStatus::Retired | ScheduleStatus::Finished => Vec::new(),
    }
}

/// Returns the ledger lines of all slots that are due and undecided, for a schedule that will not
/// decide them any more. Call it before replacing the specification, because the slots belong to
/// the old one.
pub(in crate::store) fn missed_until(schedule: &Schedule, now: Timestamp, reason: &str) -> Vec<LedgerLine> {
    let Some(first) = schedule.next_slot.filter(|slot| *slot <= now) else { return Vec::new() };
    match schedule.compiled_spec() {
        Ok(compiled_spec) => MissedSpan::new(&compiled_spec, Some(first)).missed(first, now, reason),
        // If the specification can't be read, the only known slot is the announced one.
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

/// Records the slots of the time in which the schedule was retired as skipped: no code declared it.
pub(super) fn skipped_while_retired(mut lines: Vec<LedgerLine>) -> Vec<LedgerLine> {
    for line in lines.iter_mut().filter(|line| line.outcome == SlotOutcome::Missed) {
        line.outcome = SlotOutcome::Skipped;
        line.reason = RETIRED.into();
    }
    lines
}

/// Whether the run of a slot is unchanged since its creation, apart from its claim. A run that has
/// waited for a child or a retry was executed, by a clock ahead of the edit's.
pub(in crate::store) fn is_untouched(run: &Run) -> bool {
    matches!(run.state, RunState::Queued | RunState::Buffered | RunState::Running)
        && run.origin == Origin::Schedule
        && run.attempt == 1
}

/// A run that was created ahead of its slot and has been deleted again.
#[derive(Clone, Debug)]
pub(in crate::store) struct RevokedRun {
    pub slot: Timestamp,
    /// The slot of the run before it.
    pub last_slot: Option<Timestamp>,
    /// The token of its newest claim.
    pub token: Token,
}

/// Gives slots of revoked early claims back to the schedule: the earliest becomes the next slot
/// again.
pub(in crate::store) fn revoke_early_claims(schedule: &mut Schedule, taken: &[RevokedRun]) {
    let Some(first) = taken.iter().min_by_key(|run| run.slot) else { return };
    schedule.next_slot = Some(first.slot);
    schedule.last_slot = first.last_slot;
    // Tokens of a slot's run start below the revision, which the edit raises. So no token is given
    // out twice.
    let newest_token = taken.iter().map(|run| run.token.0).max().unwrap_or(0);
    schedule.revision = schedule.revision.max(newest_token);
    schedule.run_count = schedule.run_count.saturating_sub(taken.len() as u64);
    // The claim of its last slot had finished it, and that slot is due again.
    if schedule.status == ScheduleStatus::Finished {
        schedule.status = ScheduleStatus::Active;
    }
}

/// Whether the edit must first revoke early claims. An edit of the coming slot alone was computed
/// from the slot after the claimed one, so revoking the claim would lose the edit. A skip revokes
/// early claims only if it concerns a claimed slot.
pub(in crate::store) fn patch_revokes_claims(patch: &Patch, schedule: &Schedule) -> bool {
    let concerns_claimed = |line: &LedgerLine| schedule.next_slot.is_none_or(|next| line.from < next);
    patch.next_slot.is_none() && (patch.ledger.is_empty() || patch.ledger.iter().any(concerns_claimed))
}

/// Checks that no slot gets a second outcome by the edit of a schedule whose early claims have been
/// revoked: skips concern slots that are undecided, and no slot after one that is no longer skipped
/// has been decided.
pub(in crate::store) fn check_skips(schedule: &Schedule, patch: &Patch) -> Result<(), Rejection> {
    let is_decided = |slot: Timestamp| schedule.next_slot.is_none_or(|next| slot < next);
    let skipped = patch.ledger.iter().filter(|_| patch.next_slot.is_none());
    if let Some(line) = skipped.into_iter().find(|line| is_decided(line.from)) {
        return Err(Rejection::SlotDecided(line.from));
    }
    let Some(first) = removed_skips(schedule, patch).into_iter().min() else { return Ok(()) };
    let Ok(compiled_spec) = schedule.compiled_spec() else { return Ok(()) };
    match compiled_spec.next(first).filter(|slot| is_decided(*slot)) {
        Some(_) => Err(Rejection::SlotDecided(first)),
        None => Ok(()),
    }
}

/// The calendars that must exist for the edit: those that only its specification names. The code's
/// declaration may name others.
pub(in crate::store) fn newly_named<'p>(schedule: &Schedule, patch: &'p Patch) -> Vec<&'p str> {
    let Some((spec, ..)) = &patch.spec else { return Vec::new() };
    let Ok(new) = spec.compiled() else { return Vec::new() };
    let names = || new.spec().calendars.iter().map(String::as_str);
    if names().next().is_none() {
        return Vec::new();
    }
    let declared = Declaration::parse(schedule.declaration.as_deref()).map(|known| known.spec);
    if declared.is_some_and(|declared| *declared == **spec.text()) {
        return Vec::new();
    }
    let known = schedule.spec.fields();
    let known = known.map_or_else(Vec::new, |fields| fields.into_owned().calendars);
    names().filter(|name| !known.iter().any(|known| known == name)).collect()
}

/// Whether the change forgets slots whose outcome depends on calendars: it needs their dates.
pub(in crate::store) fn needs_calendars(schedule: &Schedule, now: Timestamp) -> bool {
    schedule.next_slot.is_some_and(|slot| slot <= now) && !stored_calendar::named([&schedule.spec]).is_empty()
}

/// Checks that the decision which comes with the edit can be applied to the schedule as edited.
pub(in crate::store) fn check_fire(schedule: &Schedule, patch: &Patch) -> Result<(), Rejection> {
    match &patch.fire {
        Some(_) if schedule.status != ScheduleStatus::Active => Err(Rejection::Stale),
        _ => Ok(()),
    }
}

/// The slots of the schedule whose skips the edit undoes.
pub(in crate::store) fn removed_skips(schedule: &Schedule, patch: &Patch) -> Vec<Timestamp> {
    if patch.unskipped.is_empty() {
        return Vec::new();
    }
    let settled = schedule.settled_slots();
    patch.unskipped.iter().copied().filter(|slot| settled.binary_search(slot).is_ok()).collect()
}

/// The newest slot of the given ledger lines, newest first, that a revoked claim must not come
/// before. Skips of coming slots are recorded too, but these slots are not slots of the schedule.
pub(in crate::store) fn newest_decided(
    schedule: &Schedule,
    mut lines: impl Iterator<Item = Timestamp>,
) -> Option<Timestamp> {
    let settled = schedule.settled_slots();
    lines.find(|slot| settled.binary_search(slot).is_err())
}

/// Edits the row. Returns the ledger lines of the slots that this forgets.
pub(in crate::store) fn patch(row: &mut StoredSchedule, patch: &Patch, now: Timestamp) -> Vec<LedgerLine> {
    let schedule = &mut row.schedule;
    let mut missed = Vec::new();
    if patch.spec.is_some() || patch.input.is_some() || patch.tags.is_some() {
        let spec = patch.spec.as_ref().map_or(&schedule.spec, |(spec, ..)| spec);
        let input = patch.input.as_ref().unwrap_or(&schedule.input);
        let tags = patch.tags.as_ref().unwrap_or(&schedule.tags);
        schedule.declaration = declarations::overridden(schedule, spec, input.as_ref(), tags.as_ref());
    }
    if let Some((spec, compiled_spec, next_slot)) = &patch.spec {
        let is_finished = schedule.status == ScheduleStatus::Finished;
        if row.compiled_spec != *compiled_spec || (is_finished && schedule.spec != *spec) {
            let change = CadenceChange::new(schedule, spec, *next_slot, now);
            forget_moved(schedule);
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
        schedule.spec.clone_from(spec);
    }
    if let Some(input) = &patch.input {
        schedule.input.clone_from(input);
    }
    if let Some(tags) = &patch.tags {
        schedule.tags.clone_from(tags);
    }
    if let Some(status) = patch.status {
        let is_resumed = matches!(schedule.status, ScheduleStatus::Paused | ScheduleStatus::Broken);
        if is_resumed && status == ScheduleStatus::Active {
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
    if let Some(first) = removed_skips(schedule, patch).into_iter().min() {
        schedule.settled = schedule.settled_without(&patch.unskipped);
        if schedule.next_slot.is_none_or(|next| first < next) {
            schedule.next_slot = Some(first);
            if schedule.status == ScheduleStatus::Finished {
                schedule.status = ScheduleStatus::Active;
            }
        }
    }
    let skipped = patch.ledger.iter().map(|line| line.from);
    let settled: Vec<Timestamp> = patch.settled.iter().copied().chain(skipped).collect();
    if !settled.is_empty() {
        schedule.settled = schedule.settled_with(&settled, now);
        let next = schedule.next_slot.filter(|_| patch.next_slot.is_none());
        if let Some(next) = next.filter(|next| settled.contains(next)) {
            schedule.next_slot =
                schedule.compiled_spec().ok().and_then(|compiled_spec| compiled_spec.next(next));
            if schedule.status == ScheduleStatus::Active {
                schedule.status = active_while(schedule.next_slot);
            }
        }
    }
    missed
}

/// Drops slots that were moved: like the other coming slots, they belong to the trigger before.
pub(super) fn forget_moved(schedule: &mut Schedule) {
    if !schedule.moved_slots().is_empty() {
        schedule.settled = schedule.settled_with_moved(&[]);
    }
}

/// Whether the schedule has created all runs that `spec` allows.
fn is_used_up(schedule: &Schedule, spec: &StoredSpec) -> bool {
    let max = spec.compiled().ok().and_then(|compiled_spec| compiled_spec.spec().max_runs);
    max.is_some_and(|max| schedule.run_count >= max)
}

/// Records an edit that changed something.
pub(in crate::store) fn touch(schedule: &mut Schedule, now: Timestamp) {
    schedule.updated_at = now;
    schedule.revision += 1;
}

/// Undoes the creation of a run whose slot the application skipped.
pub(in crate::store) fn undo_run(schedule: &mut Schedule, run: &Run, slot: Timestamp) {
    if run.origin == Origin::Schedule {
        skip_slot(schedule, slot, run.last_slot);
    } else {
        // The schedule has not counted it. Decisions that are based on the run are stale.
        schedule.revision += 1;
    }
}

/// Undoes the creation of the run of `slot`, which the application skipped.
fn skip_slot(schedule: &mut Schedule, slot: Timestamp, last_slot: Option<Timestamp>) {
    if schedule.last_slot == Some(slot) {
        schedule.last_slot = last_slot;
    }
    schedule.run_count = schedule.run_count.saturating_sub(1);
    // Makes decisions that are based on the old values stale.
    schedule.revision += 1;
}

/// Returns the ledger line of a slot that the application skipped.
pub(in crate::store) fn skipped_line(slot: Timestamp, reason: &Arc<str>) -> LedgerLine {
    LedgerLine {
        from: slot,
        until: slot,
        count: 1,
        outcome: SlotOutcome::Skipped,
        reason: Arc::clone(reason),
    }
}

/// Retires a schedule that its application no longer declares. Returns the ledger lines of the
/// slots that this forgets, and a line without a slot (`count` 0) that records the retirement
/// itself.
#[must_use]
pub(in crate::store) fn retire(schedule: &mut Schedule, app: &str, now: Timestamp) -> Vec<LedgerLine> {
    let mut lines = missed_until(schedule, now, RETIRED);
    if !lines.is_empty() {
        schedule.next_slot = schedule.compiled_spec().ok().and_then(|compiled_spec| compiled_spec.next(now));
    }
    // After the slots that were due, so that no two lines overlap.
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

/// Whether a schedule pauses itself that has failed so often.
pub(in crate::store) fn pauses_after(spec: &StoredSpec, status: ScheduleStatus, failure_count: u32) -> bool {
    let most = spec.fields().and_then(|fields| fields.pause_after_failures);
    status == ScheduleStatus::Active && most.is_some_and(|most| failure_count >= most)
}

/// Pauses a schedule, whose early claims have been revoked, after too many failures.
pub(in crate::store) fn pause_itself(schedule: &mut Schedule, now: Timestamp) {
    schedule.status = ScheduleStatus::Paused;
    schedule.note = Some(format!("paused after {} failed runs in a row", schedule.failure_count).into());
    touch(schedule, now);
}

/// Counts an interruption of a running run whose worker has died, unless the claim was still
/// waiting for its slot. Returns whether it counted.
pub(in crate::store) fn count_interruption(run: &mut Run, was_alone: bool, now: Timestamp) -> bool {
    if !is_interrupted(run.available_at, now) {
        return false;
    }
    run.interruptions = run.interruptions.saturating_add(1);
    run.interrupted_alone = was_alone;
    true
}

/// Whether a claim whose worker has died was being executed. An early claim waits for its slot.
pub(in crate::store) fn is_interrupted(available_at: Timestamp, now: Timestamp) -> bool {
    available_at <= now
}

/// What the outcome of a completion depends on.
#[derive(Clone, Debug)]
pub(in crate::store) struct Claim {
    /// See [`crate::model::Run::attempt`].
    pub attempt: u32,
    /// See [`crate::model::Run::available_at`].
    pub available_at: Timestamp,
    /// See [`crate::model::Run::cancel_requested`].
    pub cancel_requested: bool,
    /// Whether a child finished while this claim ran. The handler may have checked before that.
    pub child_ended: bool,
}

/// A run after the completion of a claim.
#[derive(Clone, PartialEq, Debug)]
pub(in crate::store) struct Ended {
    pub state: RunState,
    pub attempt: u32,
    /// From when it can be claimed again.
    pub available_at: Timestamp,
    /// The result of the handler.
    pub result: Option<Json>,
    /// The error. If the completion carries none, the error of the last attempt stays.
    pub error: Option<Json>,
    /// Whether the error stays.
    pub keeps_error: bool,
}

/// Applies a completion to a run. A run whose cancellation was requested is never queued or parked
/// again, because no worker would claim it.
pub(in crate::store) fn end(claim: &Claim, ending: &Completion, now: Timestamp) -> Ended {
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
        // A store deletes a skipped run before it calls this. A skipped run that can't be deleted
        // is cancelled.
        Completion::Skipped { .. } => {}
        Completion::Parked { wakes_at } => {
            ended.state = RunState::Waiting;
            // The child may have finished before its parent was known to wait for it. Then nothing
            // else would wake the parent.
            ended.available_at = if claim.child_ended { now.min(*wakes_at) } else { *wakes_at };
        }
        Completion::Released => {
            ended.state = RunState::Queued;
            // An early claim that was given back is still not due before its slot.
            ended.available_at = claim.available_at.max(now);
        }
    }
    ended
}

/// The result of a completion that doesn't depend on its claim; otherwise `None`.
#[cfg(feature = "postgres")]
pub(in crate::store) fn final_completion(ending: &Completion, now: Timestamp) -> Option<Ended> {
    let is_final = matches!(
        ending,
        Completion::Succeeded { .. }
            | Completion::Failed { retry_at: None, .. }
            | Completion::Cancelled { .. }
    );
    let unseen = Claim { attempt: 1, available_at: now, cancel_requested: false, child_ended: false };
    is_final.then(|| end(&unseen, ending, now))
}

/// The phase of a run among the runs of its schedule: `BEHIND` runs wait until no run is `LIVE`.
pub(in crate::store) fn phase(state: RunState) -> i64 {
    match state {
        RunState::Succeeded | RunState::Failed | RunState::Cancelled => OVER,
        RunState::Queued | RunState::Running | RunState::Waiting => LIVE,
        RunState::Buffered => BEHIND,
    }
}

/// The `available_at` of a held run: so late that releases that don't know held runs never claim
/// it, but different from that of a run that waits for a child.
pub(in crate::store) const HELD_UNTIL: Timestamp = Timestamp::from_micros(253_402_300_798_000_000);

/// Returns the fingerprints of code that has refused the run, including this refusal, and the note.
pub(in crate::store) fn hold(
    refused_by: Option<&Arc<str>>,
    ending: &Completion,
) -> Option<(Arc<str>, Arc<str>)> {
    let Completion::Held { code, note } = ending else { return None };
    let known = refused_by.map_or("", |codes| &**codes).split(' ');
    let others = known.filter(|known| !known.is_empty() && **known != **code);
    let mut codes: Vec<&str> = others.collect();
    // Bounds the list, for code that differs at every start.
    if codes.len() >= REFUSED_MAX {
        codes.remove(0);
    }
    codes.push(code);
    Some((codes.join(" ").into(), Arc::clone(note)))
}

/// Most fingerprints to keep per run.
const REFUSED_MAX: usize = 50;

/// Whether a worker with this code of its workflow can claim a held run.
pub(in crate::store) fn is_claimable_when_held(run: &Run, code: &str, until: Timestamp) -> bool {
    matches!(run.state, RunState::Queued | RunState::Waiting)
        && !run.cancel_requested
        && run.refused_by.is_some()
        && is_due_when_held(run.available_at, until)
        && !run.is_refused_by(code)
}

/// Whether a run that was held once is due: it waits for other code, or other code has continued it
/// and its sleep, event, or next attempt has come.
pub(in crate::store) fn is_due_when_held(available_at: Timestamp, until: Timestamp) -> bool {
    available_at <= until || available_at == HELD_UNTIL
}

/// Whether the run waits for a child run and for nothing else.
pub(in crate::store) fn waits_for_child(run: &Run) -> bool {
    run.state == RunState::Waiting && run.available_at == Timestamp::MAX
}

/// Finished.
pub(in crate::store) const OVER: i64 = 0;
/// Neither finished nor buffered.
pub(in crate::store) const LIVE: i64 = 1;
/// Buffered.
pub(in crate::store) const BEHIND: i64 = 2;

/// The schedule that must exist for this run to be created: a deleted one starts no run.
pub(in crate::store) fn needs_schedule(new: &NewRun) -> Option<&ScheduleId> {
    match new.origin {
        Origin::Schedule | Origin::Trigger | Origin::Backfill => new.schedule_id.as_ref(),
        Origin::Invoke | Origin::Child | Origin::Hook => None,
    }
}
