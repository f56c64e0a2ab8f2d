//! Requests about schedules.

use super::calendars;
use super::context::{NextStep, RequestContext};
use super::request::Drafts;
use super::response::{LedgerResponse, ScheduleResponse, spec_or_blank, to_json};
use super::runs::{consecutive_numbers, only, shortened};
use crate::calendar::Timestamp;
use crate::error::Error;
use crate::model::schedule::{Tags, stored_tags};
use crate::model::spec::CompiledSpec;
use crate::model::stored_calendar::named;
use crate::model::stored_spec;
use crate::model::{
    Admission, CatchUp, Declaration, FirePlan, NewRun, NewSchedule, RunState, Schedule, ScheduleId,
    ScheduleSpec, ScheduleStatus, SlotOutcome, StoredSpec, WorkflowEntry,
};
use crate::plan::{self, Situation};
use crate::process;
use crate::store::{
    Answer, Command, Outcome, Page, Patch, Rejection, RunFilter, ScheduleFilter, StoreWrites, Upserted,
    attach_calendars,
};
use serde_json::json;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::sync::Arc;

/// Row limit of one response.
pub(super) const PAGE_MAX: usize = 10_000;

/// Schedules that can be filtered in memory within a few milliseconds.
const FILTERED_IN_MEMORY_MAX: usize = 500;

/// How often an edit is retried because the schedule fired or was edited concurrently.
pub(super) const EDIT_TRIES_MAX: usize = 50;

/// Most slots of one answer.
const UPCOMING_MAX: usize = 10_000;

pub(super) fn page(limit: usize, after: Option<String>) -> Page {
    Page { limit: limit.min(PAGE_MAX), after }
}

/// Checks schedules and finds their first slots. Used for the API and for the schedules that an
/// application declares in code.
pub fn new_schedules(
    project: &Arc<str>,
    owner: Option<&Arc<str>>,
    drafts: Drafts,
    now: Timestamp,
) -> Result<Vec<NewSchedule>, Error> {
    let mut specs = Vec::with_capacity(drafts.specs.len());
    for text in &drafts.specs {
        let compiled_spec = stored_spec::compiled(text)?;
        let first = compiled_spec.first(now);
        specs.push((compiled_spec, first));
    }
    drafts
        .schedules
        .into_iter()
        .zip(consecutive_numbers())
        .map(|(draft, random)| {
            let (compiled_spec, first) = specs.get(draft.spec).ok_or_else(|| {
                Error::Argument(format!("there is no specification {} among {}", draft.spec, specs.len()))
            })?;
            Ok(NewSchedule {
                id: ScheduleId::new(now, random),
                project: Arc::clone(project),
                workflow: draft.workflow,
                key: draft.key,
                owner: owner.cloned(),
                spec: Arc::clone(compiled_spec).into(),
                compiled_spec: Arc::clone(compiled_spec.trigger_key()),
                input: draft.input,
                tags: stored_tags(&draft.tags),
                version: None,
                next_slot: *first,
            })
        })
        .collect()
}

pub(super) fn create(
    context: &RequestContext,
    drafts: Drafts,
    local_workflows: &[String],
) -> Result<NextStep, Error> {
    let commands = upsert(context, drafts, local_workflows)?;
    Ok(NextStep::Commit(
        commands,
        Box::new(|outcomes| {
            let ids: Vec<_> = upserted(outcomes)?.into_iter().map(|upserted| upserted.id).collect();
            Ok(to_json(&ids))
        }),
    ))
}

/// Like [`create`], but tells what happened to each schedule.
pub(super) fn put(
    context: &RequestContext,
    drafts: Drafts,
    local_workflows: &[String],
) -> Result<NextStep, Error> {
    let commands = upsert(context, drafts, local_workflows)?;
    Ok(NextStep::Commit(
        commands,
        Box::new(|outcomes| {
            let results = upserted(outcomes)?;
            let results: Vec<_> =
                results.iter().map(|each| json!({"id": each.id, "outcome": each.outcome})).collect();
            Ok(to_json(&results))
        }),
    ))
}

fn upserted(mut outcomes: Vec<Outcome>) -> Result<Vec<Upserted>, Error> {
    for first_run in outcomes.drain(1..) {
        match first_run {
            // The schedule existed before.
            Ok(_) | Err(Rejection::Stale | Rejection::ScheduleNotFound(_)) => {}
            Err(rejection) => return Err(rejection.into()),
        }
    }
    match only(outcomes)? {
        Answer::Schedules(upserted) => Ok(upserted),
        other => unreachable!("an upsert is answered with the schedules, not {other:?}"),
    }
}

/// Checks the drafts, and returns the command that upserts them, and those that start their first
/// runs.
fn upsert(
    context: &RequestContext,
    drafts: Drafts,
    local_workflows: &[String],
) -> Result<Vec<Command>, Error> {
    let run_on_create: Vec<bool> = drafts.schedules.iter().map(|draft| draft.run_on_create).collect();
    let schedules = checked(context, drafts, local_workflows)?;
    let now = context.now();
    let first = schedules.iter().zip(run_on_create).filter(|(_, runs)| *runs);
    let first: Vec<_> = first.map(|(new, _)| NewRun::of_creation(new, now)).collect();
    let upsert = std::iter::once(Command::UpsertSchedules(schedules));
    Ok(upsert.chain(first.into_iter().map(|run| Command::CreateRun(Box::new(run)))).collect())
}

/// Checks the drafts, and returns the new schedules.
pub(super) fn checked(
    context: &RequestContext,
    drafts: Drafts,
    local_workflows: &[String],
) -> Result<Vec<NewSchedule>, Error> {
    let mut known: Option<Vec<WorkflowEntry>> = None;
    for request in &drafts.schedules {
        let is_schedulable = if let Some(is_schedulable) = request.local {
            is_schedulable
        } else {
            if known.is_none() {
                known = Some(context.reads.workflows(&context.project)?);
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
    let new = new_schedules(&context.project, None, drafts, context.now())?;
    // Schedules with equal specifications share them.
    let mut checked: Option<&StoredSpec> = None;
    let specs = new.iter().map(|new| &new.spec).filter(|spec| checked.replace(spec) != Some(*spec));
    calendars::check_named(context, specs)?;
    Ok(new)
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

pub(super) fn find(context: &RequestContext, id: &str) -> Result<Schedule, Error> {
    let mut schedule = context
        .reads
        .schedule(&context.project, &id.into())?
        .ok_or_else(|| Error::ScheduleNotFound(shortened(id)))?;
    attach_calendars(&*context.reads, &context.project, [&mut schedule])?;
    Ok(schedule)
}

/// Ids of the workflows that a live worker registers.
fn served_workflows(context: &RequestContext) -> Result<std::collections::HashSet<Arc<str>>, Error> {
    let peers = context.reads.peers(&context.project)?;
    Ok(peers
        .into_iter()
        .filter(|peer| !process::is_gone(&peer.host, peer.pid, &peer.process_mark))
        .flat_map(|peer| peer.workflows)
        .collect())
}

fn show(context: &RequestContext, schedules: &[Schedule]) -> Result<Vec<String>, Error> {
    let (served, now) = (served_workflows(context)?, context.now());
    let mut schedules = Cow::Borrowed(schedules);
    if !named(schedules.iter().map(|schedule| &schedule.spec)).is_empty() {
        attach_calendars(&*context.reads, &context.project, schedules.to_mut())?;
    }
    Ok(schedules
        .iter()
        .map(|schedule| {
            let spec = spec_or_blank(schedule);
            to_json(&ScheduleResponse::new(schedule, &spec, served.contains(&schedule.workflow), now))
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
        None => context.reads.schedules(&context.project, filter, &page)?,
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
    if !is_rare && filter.workflow.is_none() && filter.owner.is_none() && filter.tags.is_empty() {
        return Ok(None);
    }
    let others = ScheduleFilter { key_prefix: None, ..filter.clone() };
    let mut found = context.reads.schedules(
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
    let schedules = context.reads.coming(&context.project, until, limit.min(PAGE_MAX))?;
    Ok(NextStep::Answered(format!("[{}]", show(context, &schedules)?.join(","))))
}

pub(super) fn upcoming(context: &RequestContext, id: &str, count: usize) -> Result<NextStep, Error> {
    let schedule = find(context, id)?;
    if schedule.status != ScheduleStatus::Active {
        return Ok(NextStep::Answered(json!({"slots": [], "timezone": "UTC"}).to_string()));
    }
    let compiled_spec = schedule.compiled_spec().map_err(Clone::clone)?;
    let slots = plan::upcoming_slots(&schedule, &compiled_spec, count.min(UPCOMING_MAX));
    let timezone = compiled_spec.zone().name();
    Ok(NextStep::Answered(json!({"slots": slots, "timezone": timezone}).to_string()))
}

pub(super) fn history(
    context: &RequestContext,
    id: &str,
    limit: usize,
    after: Option<i64>,
) -> Result<NextStep, Error> {
    let page = page(limit, after.map(|micros| micros.to_string()));
    let entries = context
        .reads
        .history(&context.project, &id.into(), &page)?
        .ok_or_else(|| Error::ScheduleNotFound(shortened(id)))?;
    let schedule = context.reads.schedule(&context.project, &id.into())?;
    let timezone =
        schedule.map_or_else(|| "UTC".into(), |schedule| Arc::clone(&spec_or_blank(&schedule).timezone));
    let views: Vec<_> = entries.iter().map(|entry| LedgerResponse::new(entry, &timezone)).collect();
    Ok(NextStep::Answered(to_json(&views)))
}

/// Reads, decides, and commits; decides again if the schedule changed concurrently.
pub(super) fn edit(
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
        match context.writes.commit(&[command], now)?.remove(0) {
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
    tags: Option<&Tags>,
) -> Result<NextStep, Error> {
    edit(context, id, |schedule, now| {
        let mut spec: serde_json::Map<String, serde_json::Value> = serde_json::from_str(schedule.spec.text())
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
        let compiled_spec = CompiledSpec::new(spec)?;
        compiled_spec.check_skips()?;
        if changes.contains_key("calendars") {
            let new = StoredSpec::from(Arc::new(compiled_spec.clone()));
            calendars::check_named(context, [&new])?;
        }
        if ["every_us", "timezone"].iter().any(|name| changes.contains_key(*name)) {
            compiled_spec.check_new()?;
        }
        let compiled_spec = stored_spec::keep_compiled(compiled_spec);
        let (trigger_key, first) = (Arc::clone(compiled_spec.trigger_key()), compiled_spec.first(now));
        Ok(Patch {
            spec: Some((compiled_spec.into(), trigger_key, first)),
            input: input.map(|input| input.map(|raw| raw.get().into())),
            tags: tags.map(stored_tags),
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

/// Resumes a schedule. With `catch_up`, decides about its due slots at once, by that policy.
pub(super) fn resume(
    context: &RequestContext,
    id: &str,
    catch_up: Option<CatchUp>,
) -> Result<NextStep, Error> {
    edit(context, id, |schedule, now| match schedule.status {
        ScheduleStatus::Active => Ok(Patch::default()),
        ScheduleStatus::Paused => {
            let is_over = schedule.next_slot.is_none();
            let status = if is_over { ScheduleStatus::Finished } else { ScheduleStatus::Active };
            let fire = match catch_up {
                Some(catch_up) => caught_up(context, schedule, catch_up, now)?.map(Box::new),
                None => None,
            };
            Ok(Patch { status: Some(status), note: Some(None), fire, ..Patch::default() })
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

/// Decides about the slots of a pause that ends now by another catch-up policy than the schedule's.
/// `None` if no slot is due.
fn caught_up(
    context: &RequestContext,
    schedule: &Schedule,
    catch_up: CatchUp,
    now: Timestamp,
) -> Result<Option<FirePlan>, Error> {
    let compiled_spec = schedule.compiled_spec().map_err(Clone::clone)?;
    let spec = ScheduleSpec { catch_up, ..compiled_spec.spec().clone() };
    calendars::refuse_missing(schedule)?;
    let overridden = schedule.bound(&CompiledSpec::new(spec)?);
    let overridden = Arc::new(overridden.with_calendars_of(&compiled_spec));
    let has_any = |states: &[RunState]| -> Result<u32, Error> {
        let schedule = Some(schedule.id.clone());
        let filter = RunFilter { schedule, states: states.to_vec(), ..RunFilter::default() };
        Ok(u32::from(!context.reads.runs(&context.project, &filter, &page(1, None))?.is_empty()))
    };
    let situation = Situation {
        now,
        horizon: now,
        watching_since: now,
        unfinished_count: has_any(&RunState::UNFINISHED)?,
        buffered_count: has_any(&[RunState::Buffered])?,
    };
    let resumed = Schedule { status: ScheduleStatus::Active, attended_from: now, ..schedule.clone() };
    let Some(mut plan) = plan::plan_fire(&resumed, &overridden, &situation) else { return Ok(None) };
    plan.spec = compiled_spec;
    for run in plan.runs.iter_mut().filter(|run| run.admission == Admission::Claim) {
        // Any worker may execute it.
        run.admission = Admission::Queue;
    }
    let policy = to_json(&catch_up);
    for line in plan.ledger.iter_mut().filter(|line| line.outcome == SlotOutcome::Missed) {
        line.reason =
            format!("the schedule was paused, and resumed with catch_up={}", policy.trim_matches('"')).into();
    }
    Ok(Some(plan))
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
        let spec = StoredSpec::from(declared.spec);
        let compiled_spec = spec.compiled().map_err(Clone::clone)?;
        let (trigger_key, next) = (Arc::clone(compiled_spec.trigger_key()), compiled_spec.next(now));
        Ok(Patch {
            spec: Some((spec, trigger_key, next)),
            input: Some(declared.input.map(Into::into)),
            tags: Some(declared.tags.map(Into::into)),
            ..Patch::default()
        })
    })
}
