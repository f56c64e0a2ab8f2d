//! New schedules, and declarations of schedules that exist.

use super::cadence_change::{CHANGED, CadenceChange, first_after_return};
use super::declarations;
use super::transitions::{StoredSchedule, active_while, forget_moved, missed_until, skipped_while_retired};
use crate::calendar::Timestamp;
use crate::model::{
    Declaration, LedgerLine, NewSchedule, Schedule, ScheduleId, ScheduleStatus, StoredCounts,
};
use crate::store::{Rejection, UpsertOutcome};
use std::collections::HashSet;
use std::sync::Arc;

/// Creates the row of a new schedule.
pub(in crate::store) fn create_schedule(new: &NewSchedule, now: Timestamp) -> StoredSchedule {
    let schedule = Schedule {
        id: new.id.clone(),
        project: Arc::clone(&new.project),
        workflow: Arc::clone(&new.workflow),
        key: Arc::clone(&new.key),
        owner: new.owner.clone(),
        spec: new.spec.clone(),
        input: new.input.clone(),
        tags: new.tags.clone(),
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
            let mut declaration =
                Declaration::new(new.spec.text(), new.input.as_deref(), new.tags.as_deref(), now);
            declaration.version = new.version.as_deref().map(str::to_owned);
            declaration.to_json()
        }),
        settled: None,
        counts: StoredCounts::default(),
    };
    StoredSchedule { schedule, compiled_spec: Arc::clone(&new.compiled_spec) }
}

/// Checks that each of these schedules can be upserted: one whose key is new must have an id that
/// is not in use.
pub(in crate::store) fn check_ids<E: From<Rejection>>(
    new: &[NewSchedule],
    mut has_key: impl FnMut(&NewSchedule) -> Result<bool, E>,
    is_in_use: impl Fn(&ScheduleId) -> bool,
) -> Result<(), E> {
    let mut taken = HashSet::new();
    let mut created = HashSet::new();
    for new in new {
        let key = (&*new.project, &*new.workflow, &*new.key);
        if created.contains(&key) || has_key(new)? {
            continue;
        }
        if is_in_use(&new.id) || !taken.insert(&new.id) {
            return Err(id_in_use(&new.id).into());
        }
        created.insert(key);
    }
    Ok(())
}

/// Rejects a new schedule whose id is in use.
pub(in crate::store) fn id_in_use(id: &ScheduleId) -> Rejection {
    Rejection::Invalid(format!("the schedule id `{id}` is in use"))
}

/// Whether upserting `new` over the row would change anything.
pub(in crate::store) fn upsert_changes(row: &StoredSchedule, new: &NewSchedule, now: Timestamp) -> bool {
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
        || old.tags != new.tags
        || old.owner != new.owner
        || old.declaration != declaration
}

/// What upserting `new` did to the existing schedule `id`.
pub(in crate::store) fn upsert_outcome(id: &ScheduleId, new: &NewSchedule, changes: bool) -> UpsertOutcome {
    match changes {
        // An earlier transmission of the same command created it, and its reply was lost.
        _ if *id == new.id => UpsertOutcome::Created,
        true => UpsertOutcome::Updated,
        false => UpsertOutcome::Unchanged,
    }
}

/// Upserts `new` over the row, whose early claims have been revoked. Returns the ledger lines of
/// the slots that this forgets.
#[must_use]
pub(in crate::store) fn upsert(
    row: &mut StoredSchedule,
    new: &NewSchedule,
    now: Timestamp,
) -> Vec<LedgerLine> {
    let forgotten = missed_until(&row.schedule, now, CHANGED);
    let (new, declaration) = declarations::effective(row, new, now);
    let schedule = &mut row.schedule;
    let spec_changed = schedule.spec != new.spec;
    let paused = Declaration::parse(schedule.declaration.as_deref()).and_then(|known| known.paused);
    let change = (row.compiled_spec != new.compiled_spec)
        .then(|| CadenceChange::new(schedule, &new.spec, new.next_slot, now));
    if change.is_some() {
        forget_moved(schedule);
    }
    let first = first_after_return(schedule, &new.spec, new.next_slot, now);
    schedule.spec.clone_from(&new.spec);
    schedule.input.clone_from(&new.input);
    schedule.tags.clone_from(&new.tags);
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
                // Slots that were due before the retirement are in the ledger already.
                ScheduleStatus::Retired => {
                    if let Some(paused) = paused {
                        schedule.note = paused.note.map(Into::into);
                        if schedule.status == ScheduleStatus::Active {
                            schedule.status = ScheduleStatus::Paused;
                        }
                    }
                    skipped_while_retired(forgotten)
                }
                // A finished schedule has no slot left.
                _ => Vec::new(),
            }
        }
    }
}
