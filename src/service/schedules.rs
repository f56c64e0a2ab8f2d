//! Requests about schedules.

use super::context::{NextStep, RequestContext};
use super::request::Drafts;
use super::response::{LedgerResponse, ScheduleResponse, spec_or_blank, to_json};
use super::runs::{created, only, random_number, shortened};
use crate::calendar::Timestamp;
use crate::error::Error;
use crate::model::spec::CompiledSpec;
use crate::model::{
    Declaration, Json, LedgerLine, NewRun, NewSchedule, Origin, Overlap, Run, RunId, RunState, Schedule,
    ScheduleId, ScheduleSpec, ScheduleStatus, SlotOutcome, WorkflowEntry,
};
use crate::process;
use crate::store::{Answer, Command, Page, Patch, Rejection, RunFilter, ScheduleFilter, Store};
use serde_json::json;
use serde_json::value::RawValue;
use std::sync::Arc;

/// Row limit of one response.
const PAGE_MAX: usize = 10_000;

/// Schedules that can be filtered in memory within a few milliseconds.
const FILTERED_IN_MEMORY_MAX: usize = 500;

/// Slot limit of one backfill: a year of a schedule that fires every five minutes.
const BACKFILL_MAX: usize = 105_408;

/// How often an edit is retried because the schedule fired or was edited concurrently.
const EDIT_TRIES_MAX: usize = 50;

pub(super) fn page(limit: usize, after: Option<String>) -> Page {
    Page { limit: limit.min(PAGE_MAX), after }
}

/// A specification that passed the checks.
struct Checked {
    spec: Json,
    compiled_spec: Json,
    /// The first slot from now.
    next_slot: Option<Timestamp>,
}

impl Checked {
    fn new(spec: ScheduleSpec, now: Timestamp) -> Result<Self, Error> {
        let text = to_json(&spec);
        let compiled_spec = CompiledSpec::new(spec)?;
        Ok(Self {
            spec: text.into(),
            compiled_spec: compiled_spec.spec().trigger_key().into(),
            next_slot: compiled_spec.first(now),
        })
    }
}

/// Checks schedules and finds their first slots. Used for the API and for the schedules that an
/// application declares in code.
pub fn new_schedules(
    project: &Arc<str>,
    owner: Option<&Arc<str>>,
    drafts: Drafts,
    now: Timestamp,
) -> Result<Vec<NewSchedule>, Error> {
    let specs = drafts
        .specs
        .into_iter()
        .map(|spec| Checked::new(spec, now))
        .collect::<Result<Vec<Checked>, Error>>()?;
    // Consecutive ids keep the given order in the store.
    let mut random = random_number();
    drafts
        .schedules
        .into_iter()
        .map(|draft| {
            let checked = specs.get(draft.spec).ok_or_else(|| {
                Error::Argument(format!("there is no specification {} among {}", draft.spec, specs.len()))
            })?;
            random = random.wrapping_add(1);
            Ok(NewSchedule {
                id: ScheduleId::new(now, random),
                project: Arc::clone(project),
                workflow: draft.workflow,
                key: draft.key,
                owner: owner.cloned(),
                spec: Arc::clone(&checked.spec),
                compiled_spec: Arc::clone(&checked.compiled_spec),
                input: draft.input,
                version: None,
                next_slot: checked.next_slot,
            })
        })
        .collect()
}

pub(super) fn create(
    context: &RequestContext,
    drafts: Drafts,
    local_workflows: &[String],
) -> Result<NextStep, Error> {
    let mut known: Option<Vec<WorkflowEntry>> = None;
    for request in &drafts.schedules {
        let is_schedulable = if let Some(is_schedulable) = request.local {
            is_schedulable
        } else {
            if known.is_none() {
                known = Some(context.store.workflows(&context.project)?);
            }
            let entries = known.as_deref().unwrap_or_default();
            match entries.iter().find(|entry| *entry.id == *request.workflow) {
                Some(entry) => entry.schedulable,
                None => return Err(unknown_workflow(&request.workflow, entries, local_workflows)),
            }
        };
        if !is_schedulable {
            return Err(Error::WorkflowNotSchedulable(format!(
                "the workflow `{}` is registered without `schedule=`; write `@workflow(id=\"{}\", schedule=True)` to \
                 create schedules for it",
                shortened(&request.workflow),
                shortened(&request.workflow)
            )));
        }
    }
    let schedules = new_schedules(&context.project, None, drafts, context.now())?;
    Ok(NextStep::Commit(
        vec![Command::UpsertSchedules(schedules)],
        Box::new(|outcomes| match only(outcomes)? {
            Answer::Schedules(ids) => Ok(to_json(&ids)),
            other => unreachable!("an upsert is answered with their ids, not {other:?}"),
        }),
    ))
}

/// The error for a workflow that no process has registered: suggests a similar one.
pub(super) fn unknown_workflow(id: &str, known: &[WorkflowEntry], local: &[String]) -> Error {
    let names = known.iter().map(|entry| &*entry.id).chain(local.iter().map(String::as_str));
    let nearest = names
        .map(|name| (strsim::normalized_damerau_levenshtein(name, id), name))
        .filter(|(likeness, _)| *likeness >= 0.5)
        .max_by(|a, b| a.0.total_cmp(&b.0));
    let hint = match nearest {
        Some((_, name)) => format!("; did you mean `{name}`?"),
        None => "; import the module that defines it, or start the worker that does, first".to_owned(),
    };
    Error::WorkflowNotFound(format!(
        "no workflow `{}` is registered in this process or by any worker{hint}",
        shortened(id)
    ))
}

fn find(context: &RequestContext, id: &str) -> Result<Schedule, Error> {
    context
        .store
        .schedule(&context.project, &id.into())?
        .ok_or_else(|| Error::ScheduleNotFound(shortened(id)))
}

/// Ids of the workflows that a live worker registers.
fn served_workflows(context: &RequestContext) -> Result<std::collections::HashSet<Arc<str>>, Error> {
    let peers = context.store.peers(&context.project)?;
    Ok(peers
        .into_iter()
        .filter(|peer| !process::is_gone(&peer.host, peer.pid, &peer.process_mark))
        .flat_map(|peer| peer.workflows)
        .collect())
}

fn show(context: &RequestContext, schedules: &[Schedule]) -> Result<Vec<String>, Error> {
    let served = served_workflows(context)?;
    Ok(schedules
        .iter()
        .map(|schedule| {
            let spec = spec_or_blank(schedule);
            to_json(&ScheduleResponse::new(schedule, &spec, served.contains(&schedule.workflow)))
        })
        .collect())
}

fn show_one(context: &RequestContext, schedule: &Schedule) -> Result<NextStep, Error> {
    Ok(NextStep::Answered(show(context, std::slice::from_ref(schedule))?.remove(0)))
}

pub(super) fn get(context: &RequestContext, id: &str) -> Result<NextStep, Error> {
    show_one(context, &find(context, id)?)
}

pub(super) fn list(
    context: &RequestContext,
    filter: &ScheduleFilter,
    limit: usize,
    after: Option<String>,
    after_key: Option<(String, String)>,
) -> Result<NextStep, Error> {
    let after = match (after_key, after) {
        (Some((key, workflow)), _) => Some(ScheduleFilter::cursor(&key, &workflow)),
        (None, Some(id)) if filter.key_prefix.is_some() => {
            let last = find(context, &id)?;
            Some(ScheduleFilter::cursor(&last.key, &last.workflow))
        }
        (None, after) => after,
    };
    let page = page(limit, after);
    let schedules = match filtered_in_memory(context, filter, &page)? {
        Some(found) => found,
        None => context.store.schedules(&context.project, filter, &page)?,
    };
    Ok(NextStep::Answered(format!("[{}]", show(context, &schedules)?.join(","))))
}

/// Lists by key prefix if another filter leaves few schedules: filters those in memory instead of
/// scanning all keys with the prefix. `None` if there are too many.
fn filtered_in_memory(
    context: &RequestContext,
    filter: &ScheduleFilter,
    page: &Page,
) -> Result<Option<Vec<Schedule>>, Error> {
    let Some(prefix) = &filter.key_prefix else { return Ok(None) };
    let is_rare = filter.status.is_some_and(|status| status != ScheduleStatus::Active);
    if !is_rare && filter.workflow.is_none() && filter.owner.is_none() {
        return Ok(None);
    }
    let others = ScheduleFilter { key_prefix: None, ..filter.clone() };
    let mut found = context.store.schedules(
        &context.project,
        &others,
        &Page { limit: FILTERED_IN_MEMORY_MAX + 1, after: None },
    )?;
    if found.len() > FILTERED_IN_MEMORY_MAX {
        return Ok(None);
    }
    let after = page.after.as_deref().and_then(ScheduleFilter::parse_cursor);
    found.retain(|each| {
        each.key.starts_with(&**prefix) && after.is_none_or(|after| (&*each.key, &*each.workflow) > after)
    });
    found.sort_by(|one, other| (&one.key, &one.workflow).cmp(&(&other.key, &other.workflow)));
    found.truncate(page.limit);
    Ok(Some(found))
}

pub(super) fn coming(context: &RequestContext, until: Timestamp, limit: usize) -> Result<NextStep, Error> {
    let schedules = context.store.coming(&context.project, until, limit.min(PAGE_MAX))?;
    Ok(NextStep::Answered(format!("[{}]", show(context, &schedules)?.join(","))))
}

pub(super) fn history(
    context: &RequestContext,
    id: &str,
    limit: usize,
    after: Option<i64>,
) -> Result<NextStep, Error> {
    let page = page(limit, after.map(|micros| micros.to_string()));
    let entries = context
        .store
        .history(&context.project, &id.into(), &page)?
        .ok_or_else(|| Error::ScheduleNotFound(shortened(id)))?;
    let schedule = context.store.schedule(&context.project, &id.into())?;
    let timezone = schedule.map_or_else(|| "UTC".to_owned(), |schedule| spec_or_blank(&schedule).timezone);
    let views: Vec<_> = entries.iter().map(|entry| LedgerResponse::new(entry, &timezone)).collect();
    Ok(NextStep::Answered(to_json(&views)))
}

/// Reads, decides, and commits; decides anew if the schedule changed concurrently.
fn edit(
    context: &RequestContext,
    id: &str,
    decide: impl Fn(&Schedule, Timestamp) -> Result<Patch, Error>,
) -> Result<NextStep, Error> {
    for _ in 0..EDIT_TRIES_MAX {
        let schedule = find(context, id)?;
        let now = context.now();
        let command = Command::PatchSchedule {
            project: Arc::clone(&context.project),
            id: schedule.id.clone(),
            revision: Some(schedule.revision),
            patch: Box::new(decide(&schedule, now)?),
        };
        match context.store.commit(&[command], now)?.remove(0) {
            Ok(Answer::Schedule(schedule)) => return show_one(context, &schedule),
            Ok(other) => unreachable!("an edit is answered with the schedule, not {other:?}"),
            Err(Rejection::Stale) => {}
            Err(rejection) => return Err(rejection.into()),
        }
    }
    Err(Error::State(format!("the schedule `{}` changes too fast to be edited; try again", shortened(id))))
}

pub(super) fn update(
    context: &RequestContext,
    id: &str,
    changes: &serde_json::Map<String, serde_json::Value>,
    input: Option<Option<&RawValue>>,
) -> Result<NextStep, Error> {
    edit(context, id, |schedule, now| {
        let mut spec: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&schedule.spec)
            .map_err(|error| {
                Error::State(format!("the stored schedule can't be read ({error}); create it again"))
            })?;
        if ["cron", "every_us", "at_us"]
            .iter()
            .any(|trigger| changes.get(*trigger).is_some_and(|v| !v.is_null()))
        {
            for trigger in ["cron", "every_us", "at_us"] {
                spec.remove(trigger);
            }
        }
        for (name, value) in changes {
            if value.is_null() {
                spec.remove(name);
            } else {
                spec.insert(name.clone(), value.clone());
            }
        }
        let spec: ScheduleSpec = serde_json::from_value(serde_json::Value::Object(spec))
            .map_err(|error| Error::Schedule(error.to_string()))?;
        let Checked { spec, compiled_spec, next_slot } = Checked::new(spec, now)?;
        Ok(Patch {
            spec: Some((spec, compiled_spec, next_slot)),
            input: input.map(|input| input.map(|raw| raw.get().into())),
            ..Patch::default()
        })
    })
}

pub(super) fn pause(context: &RequestContext, id: &str, note: Option<&str>) -> Result<NextStep, Error> {
    edit(context, id, |schedule, _| match schedule.status {
        ScheduleStatus::Active | ScheduleStatus::Paused => Ok(Patch {
            status: Some(ScheduleStatus::Paused),
            note: Some(note.map(Into::into)),
            ..Patch::default()
        }),
        status @ (ScheduleStatus::Retired | ScheduleStatus::Finished | ScheduleStatus::Broken) => {
            Err(Error::State(format!(
                "the schedule `{}` is {}; only an active one can be paused",
                schedule.id,
                to_json(&status).trim_matches('"')
            )))
        }
    })
}

pub(super) fn resume(context: &RequestContext, id: &str) -> Result<NextStep, Error> {
    edit(context, id, |schedule, _| match schedule.status {
        ScheduleStatus::Active => Ok(Patch::default()),
        ScheduleStatus::Paused => {
            let is_over = schedule.next_slot.is_none();
            let status = if is_over { ScheduleStatus::Finished } else { ScheduleStatus::Active };
            Ok(Patch { status: Some(status), note: Some(None), ..Patch::default() })
        }
        status @ (ScheduleStatus::Retired | ScheduleStatus::Finished | ScheduleStatus::Broken) => {
            Err(Error::State(format!(
                "the schedule `{}` is {}; only a paused one can be resumed, others come back by creating them again",
                schedule.id,
                to_json(&status).trim_matches('"')
            )))
        }
    })
}

pub(super) fn skip(context: &RequestContext, id: &str) -> Result<NextStep, Error> {
    edit(context, id, |schedule, now| {
        let compiled_spec = CompiledSpec::of(schedule)?;
        let Some(slot) = schedule.next_slot else {
            return Err(Error::State(format!("the schedule `{}` has no coming slot to skip", schedule.id)));
        };
        if slot <= now {
            // A worker may be starting it at this moment.
            return Err(Error::State(format!(
                "the slot {slot} of the schedule `{}` is due already; cancel its run instead",
                schedule.id
            )));
        }
        let line = LedgerLine {
            from: slot,
            until: slot,
            count: 1,
            outcome: SlotOutcome::Skipped,
            reason: "skipped on request".into(),
        };
        let next_slot = compiled_spec.next(slot);
        Ok(Patch {
            status: next_slot.is_none().then_some(ScheduleStatus::Finished),
            next_slot: Some(next_slot),
            ledger: vec![line],
            ..Patch::default()
        })
    })
}

/// Discards changes made through the API to a schedule that code declares.
pub(super) fn reset(context: &RequestContext, id: &str) -> Result<NextStep, Error> {
    edit(context, id, |schedule, now| {
        let Some(declared) = Declaration::parse(schedule.declaration.as_deref()) else {
            return Err(Error::State(format!(
                "no code declares the schedule `{}`, so there is nothing to reset it to; use `schedules.update`",
                schedule.id
            )));
        };
        if !declared.is_overridden {
            return Ok(Patch::default());
        }
        let spec: ScheduleSpec =
            serde_json::from_str(&declared.spec).map_err(|error| Error::Schedule(error.to_string()))?;
        let compiled_spec = CompiledSpec::new(spec)?;
        Ok(Patch {
            spec: Some((
                declared.spec.into(),
                compiled_spec.spec().trigger_key().into(),
                compiled_spec.next(now),
            )),
            input: Some(declared.input.map(Into::into)),
            ..Patch::default()
        })
    })
}

pub(super) fn delete(context: &RequestContext, id: &str) -> NextStep {
    let command = Command::DeleteSchedule { project: Arc::clone(&context.project), id: id.into() };
    NextStep::Commit(vec![command], Box::new(|outcomes| only(outcomes).map(|_| "null".to_owned())))
}

fn run_of(
    context: &RequestContext,
    schedule: &Schedule,
    zone: &str,
    id: RunId,
    origin: Origin,
    slot: Timestamp,
) -> NewRun {
    NewRun {
        id,
        project: Arc::clone(&context.project),
        workflow: Arc::clone(&schedule.workflow),
        key: Arc::clone(&schedule.key),
        schedule_id: Some(schedule.id.clone()),
        slot: Some(slot),
        last_slot: schedule.last_slot,
        upcoming: schedule.next_slot,
        timezone: zone.into(),
        origin,
        payload: None,
        input: schedule.input.clone(),
        available_at: context.now(),
        behind: false,
        takes_back: false,
        revision: None,
        parent: None,
        idempotency_key: None,
        claim_for: None,
    }
}

pub(super) fn trigger(context: &RequestContext, id: &str, applies_overlap: bool) -> Result<NextStep, Error> {
    let new_trigger = |schedule: &Schedule, overlap: Overlap, zone: &str| {
        let now = context.now();
        let run_id = RunId::new(now, random_number());
        let mut new = run_of(context, schedule, zone, run_id, Origin::Trigger, now);
        // Slots that were claimed early were decided without this run.
        new.takes_back = overlap != Overlap::Allow;
        new
    };
    if !applies_overlap {
        let schedule = find(context, id)?;
        let spec = spec_or_blank(&schedule);
        let new = new_trigger(&schedule, spec.overlap, &spec.timezone);
        return Ok(NextStep::Commit(vec![Command::CreateRun(Box::new(new))], Box::new(created)));
    }
    for _ in 0..EDIT_TRIES_MAX {
        let schedule = find(context, id)?;
        let spec = spec_or_blank(&schedule);
        let mut new = new_trigger(&schedule, spec.overlap, &spec.timezone);
        // Fires, triggers, and backfills bump the revision: no run is added between this read and
        // the commit.
        new.revision = Some(schedule.revision);
        let stops = apply_overlap(context, &schedule, spec.overlap, &mut new)?;
        let mut commands = vec![Command::CreateRun(Box::new(new))];
        commands.extend(stops);
        let mut outcomes = context.store.commit(&commands, context.now())?;
        match outcomes.remove(0) {
            Err(Rejection::Stale) => {}
            outcome => return created(vec![outcome]).map(NextStep::Answered),
        }
    }
    Err(Error::State(format!("the schedule `{}` changes too fast to be triggered; try again", shortened(id))))
}

/// Applies the overlap policy to a manually triggered run. Returns the commands that cancel earlier
/// runs.
fn apply_overlap(
    context: &RequestContext,
    schedule: &Schedule,
    overlap: Overlap,
    new: &mut NewRun,
) -> Result<Vec<Command>, Error> {
    let unfinished = |states: &[RunState]| {
        let filter = RunFilter {
            schedule: Some(schedule.id.clone()),
            states: states.to_vec(),
            ..RunFilter::default()
        };
        context.store.runs(&context.project, &filter, &page(PAGE_MAX, None))
    };
    let refuse = |run: &Run, why: &str| {
        let overlap = to_json(&overlap);
        Error::State(format!(
            "the run `{}` of the schedule `{}` is {}, {why} (overlap={overlap}); wait for it, cancel it, or \
             trigger without `overlap=\"schedule\"` to start beside it",
            run.id, schedule.id, run.state
        ))
    };
    match overlap {
        Overlap::Allow => {}
        Overlap::BufferAll => new.behind = true,
        Overlap::Skip => {
            if let Some(run) = unfinished(&RunState::UNFINISHED)?.first() {
                return Err(refuse(run, "and no other may start until it ends"));
            }
        }
        Overlap::BufferOne => {
            if let Some(run) = unfinished(&[RunState::Buffered])?.first() {
                return Err(refuse(run, "and waits for an earlier run already"));
            }
            new.behind = true;
        }
        Overlap::CancelRunning => {
            new.behind = true;
            let project = &context.project;
            let cancel = |run: Run| Command::CancelRun { project: Arc::clone(project), run: run.id };
            return Ok(unfinished(&RunState::UNFINISHED)?.into_iter().map(cancel).collect());
        }
    }
    Ok(Vec::new())
}

pub(super) fn backfill(
    context: &RequestContext,
    id: &str,
    start: Timestamp,
    end: Timestamp,
    dry_run: bool,
) -> Result<NextStep, Error> {
    let schedule = find(context, id)?;
    let now = context.now();
    if end <= start {
        return Err(Error::Argument(format!("`end` ({end}) must be later than `start` ({start})")));
    }
    if end > now {
        return Err(Error::Argument(format!(
            "`end` ({end}) is in the future; a backfill is for slots that have passed, the coming ones fire by themselves"
        )));
    }
    let compiled_spec = CompiledSpec::parse(&schedule.spec)?;
    let mut slots = Vec::new();
    let mut slot = compiled_spec.next(Timestamp::from_micros(start.as_micros() - 1));
    while let Some(at) = slot.filter(|at| *at < end) {
        if compiled_spec.excluded_on(at).is_none() {
            slots.push(at);
        }
        if slots.len() > BACKFILL_MAX {
            return Err(Error::Argument(format!(
                "the range has more than {BACKFILL_MAX} slots; backfill it in shorter parts"
            )));
        }
        slot = compiled_spec.next(at);
    }
    let answer = |created: &[bool], slots: &[Timestamp]| {
        let new: Vec<_> =
            slots.iter().zip(created).filter(|(_, is_new)| **is_new).map(|(slot, _)| slot).collect();
        json!({"slots": new}).to_string()
    };
    if dry_run {
        let mut missing = Vec::with_capacity(slots.len());
        for slot in &slots {
            missing
                .push(context.store.run(&context.project, &RunId::of_slot(&schedule.id, *slot))?.is_none());
        }
        return Ok(NextStep::Answered(answer(&missing, &slots)));
    }
    let zone = compiled_spec.spec().timezone.clone();
    let is_behind = compiled_spec.spec().overlap != Overlap::Allow;
    let commands = slots.iter().enumerate().map(|(index, slot)| {
        let run_id = RunId::of_slot(&schedule.id, *slot);
        let mut new = run_of(context, &schedule, &zone, run_id, Origin::Backfill, *slot);
        new.behind = is_behind;
        // Once is enough: one commit creates all of them.
        new.takes_back = is_behind && index == 0;
        new.last_slot = compiled_spec.prev(Timestamp::from_micros(slot.as_micros() - 1));
        new.upcoming = compiled_spec.upcoming(*slot);
        Command::CreateRun(Box::new(new))
    });
    // Slots that are due and undecided get their outcome here, so catch-up skips them.
    let is_due = |slot: &&Timestamp| schedule.next_slot.is_some_and(|next| **slot >= next);
    let settled: Vec<Timestamp> = slots.iter().filter(is_due).copied().collect();
    let settle = (!settled.is_empty()).then(|| Command::PatchSchedule {
        project: Arc::clone(&context.project),
        id: schedule.id.clone(),
        revision: None,
        patch: Box::new(Patch { settled, ..Patch::default() }),
    });
    let settle_count = usize::from(settle.is_some());
    let commands = settle.into_iter().chain(commands).collect();
    Ok(NextStep::Commit(
        commands,
        Box::new(move |mut outcomes| {
            for settled in outcomes.drain(..settle_count) {
                settled?;
            }
            let mut created = Vec::with_capacity(outcomes.len());
            for outcome in outcomes {
                created.push(matches!(outcome?, Answer::Created { is_new: true, .. }));
            }
            Ok(answer(&created, &slots))
        }),
    ))
}
