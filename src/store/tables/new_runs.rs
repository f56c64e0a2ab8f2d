//! New runs and new claims: what a run takes from its schedule, its workflow, and its creator.

use crate::calendar::Timestamp;
use crate::model::{
    ClaimRules, Json, NewRun, Origin, PlannedRun, Run, RunId, RunState, ScheduleId, ScheduleSpec, Token,
    WorkerId,
};
use std::sync::Arc;

/// What a run takes from its schedule.
#[derive(Debug)]
pub(in crate::store) struct ScheduleFacts<'a> {
    pub id: &'a ScheduleId,
    pub project: &'a Arc<str>,
    pub workflow: &'a Arc<str>,
    pub key: &'a Arc<str>,
    pub input: Option<&'a Json>,
    pub spec: &'a ScheduleSpec,
    pub revision: i64,
    /// What its workflow declares about claims.
    pub rules: &'a ClaimRules,
}

/// The token with which a new run begins. The same slot may have been claimed and revoked before;
/// `revoke_early_claims` has raised the revision past those tokens, so none is given out again.
pub(in crate::store) fn first_token(origin: Origin, revision: i64) -> Token {
    if origin.is_slot() { Token(revision - 1) } else { Token::NONE }
}

/// The queued run of a slot.
pub(in crate::store) fn planned_run(
    planned: &PlannedRun,
    schedule: &ScheduleFacts<'_>,
    now: Timestamp,
) -> Run {
    Run {
        schedule_id: Some(schedule.id.clone()),
        slot: Some(planned.slot),
        last_slot: planned.last_slot,
        upcoming: planned.upcoming,
        timezone: Arc::clone(&schedule.spec.timezone),
        origin: Origin::Schedule,
        input: schedule.input.cloned(),
        token: first_token(Origin::Schedule, schedule.revision),
        available_at: planned.available_at,
        limit: schedule.rules.limit.clone(),
        priority: schedule.spec.priority.unwrap_or(schedule.rules.priority),
        ..unclaimed_run(&planned.id, (schedule.project, schedule.workflow, schedule.key), now)
    }
}

/// A queued run that no slot caused.
pub(in crate::store) fn new_run(new: &NewRun, rules: &ClaimRules, now: Timestamp) -> Run {
    Run {
        schedule_id: new.schedule_id.clone(),
        slot: new.slot,
        last_slot: new.last_slot,
        upcoming: new.upcoming,
        timezone: Arc::clone(&new.timezone),
        origin: new.origin,
        payload: new.payload.clone(),
        input: new.input.clone(),
        available_at: new.available_at,
        parent: new.parent.clone(),
        idempotency_key: new.idempotency_key.clone(),
        limit: rules.limit.clone(),
        priority: new.priority_under(rules),
        ..unclaimed_run(&new.id, (&new.project, &new.workflow, &new.key), now)
    }
}

/// A queued run as it is before its first claim, whatever causes it.
fn unclaimed_run(
    id: &RunId,
    (project, workflow, key): (&Arc<str>, &Arc<str>, &Arc<str>),
    now: Timestamp,
) -> Run {
    Run {
        id: id.clone(),
        project: Arc::clone(project),
        workflow: Arc::clone(workflow),
        key: Arc::clone(key),
        schedule_id: None,
        slot: None,
        last_slot: None,
        upcoming: None,
        timezone: Arc::default(),
        origin: Origin::Invoke,
        payload: None,
        input: None,
        state: RunState::Queued,
        attempt: 1,
        token: Token::NONE,
        worker: None,
        available_at: now,
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
        progress: None,
        refused_by: None,
        limit: None,
        priority: 0,
    }
}

/// Whether a run can be claimed at its creation. A run under a limit can't:
/// only a claim knows whether the limit has room.
pub(in crate::store) fn is_claimable(run: &Run, now: Timestamp) -> bool {
    run.state == RunState::Queued && run.available_at <= now && run.limit.is_none()
}

/// Claims a run for a worker.
pub(in crate::store) fn claim(run: &mut Run, worker: &WorkerId, now: Timestamp) {
    if run.refused_by.is_some() {
        run.available_at = run.available_at.min(now);
        run.note = None;
    }
    run.state = RunState::Running;
    run.token = run.token.next();
    run.worker = Some(worker.clone());
    // An early claim starts at its slot.
    run.started_at = run.started_at.or(Some(now.max(run.available_at)));
}
