//! Which declared schedules are retired: pure rules about a worker's declarations and those of its live peers.
//!
//! A schedule belongs to the application (the owner) whose code declared it last. A worker that runs all of its
//! application retires what the application declared earlier and no live worker declares any more.

use super::Rejection;
use super::transitions::StoredSchedule;
use crate::calendar::Timestamp;
use crate::model::spec::CompiledSpec;
use crate::model::{
    Declaration, DeclaredKey, Json, NewSchedule, Peer, Reconciliation, Schedule, ScheduleLabel,
    ScheduleStatus, WorkerEntry, WorkerId,
};
use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

type WorkflowAndKey = (Arc<str>, Arc<str>);
/// Of declarations.
type Fingerprints = HashSet<Arc<str>>;

/// What the other live workers declare.
#[derive(Debug, Default)]
pub(super) struct LiveDeclarations {
    /// By workflow and key.
    keys: HashMap<WorkflowAndKey, Fingerprints>,
    /// Workflows of workers whose release does not register what they declare: all their schedules count as declared.
    workflows: HashSet<Arc<str>>,
}

impl LiveDeclarations {
    /// Of these workers of one project, except `own` and those that are still at a beat in `silent`.
    pub fn of<'p>(
        peers: impl IntoIterator<Item = &'p Peer>,
        own: &WorkerId,
        silent: &[(WorkerId, i64)],
    ) -> Self {
        let mut live = Self::default();
        for peer in peers {
            let is_silent =
                silent.iter().any(|(id, heartbeat)| *id == peer.id && *heartbeat == peer.heartbeat);
            if peer.id == *own || is_silent {
                continue;
            }
            let declared = peer.declares.as_deref().and_then(|text| serde_json::from_str(text).ok());
            let declared: Option<Vec<DeclaredKey>> = declared;
            match declared {
                Some(declared) => {
                    for DeclaredKey(workflow, key, fingerprint) in declared {
                        live.keys.entry((workflow, key)).or_default().insert(fingerprint);
                    }
                }
                None => live.workflows.extend(peer.workflows.iter().cloned()),
            }
        }
        live
    }

    /// Whether one of them declares this schedule.
    pub fn declare(&self, schedule: &Schedule) -> bool {
        self.workflows.contains(&schedule.workflow)
            || self.keys.contains_key(&(Arc::clone(&schedule.workflow), Arc::clone(&schedule.key)))
    }
}

/// Which of two declarations of a schedule counts.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum Declared {
    /// The worker's.
    Counts,
    /// The worker's, but somebody changed the schedule through the API, and that stays.
    IsOverridden,
    /// The stored one: it is newer, and a live worker still declares it.
    IsOutdated,
}

/// Compares what a worker declares with what is stored.
pub(super) fn declared(schedule: &Schedule, new: &NewSchedule, live: &LiveDeclarations) -> Declared {
    let Some(known) = Declaration::parse(schedule.declaration.as_deref()) else { return Declared::Counts };
    if known.is_same(new) {
        return if known.is_overridden { Declared::IsOverridden } else { Declared::Counts };
    }
    let current = known.fingerprint();
    let key = (Arc::clone(&schedule.workflow), Arc::clone(&schedule.key));
    if !live.keys.get(&key).is_some_and(|declared| declared.contains(&*current)) {
        return Declared::Counts;
    }
    let by_version = match (&new.version, &known.version) {
        (Some(new), Some(known)) => compare_versions(new, known),
        _ => Ordering::Equal,
    };
    let is_older = match by_version {
        Ordering::Less => true,
        Ordering::Greater => false,
        Ordering::Equal => {
            let first_seen = known.first_seen(&new.fingerprint());
            first_seen.is_some_and(|at| known.first_seen(&current).is_some_and(|current| at < current))
        }
    };
    if is_older { Declared::IsOutdated } else { Declared::Counts }
}

/// Compares piece by piece, numbers as numbers: `1.10` is newer than `1.9`.
pub(super) fn compare_versions(one: &str, other: &str) -> Ordering {
    fn pieces(version: &str) -> Vec<(u64, &str)> {
        let mut pieces = Vec::new();
        let mut rest = version;
        while !rest.is_empty() {
            let is_number = rest.starts_with(|c: char| c.is_ascii_digit());
            let end = rest.find(|c: char| c.is_ascii_digit() != is_number).unwrap_or(rest.len());
            let (piece, behind) = rest.split_at(end);
            let number = if is_number { piece.parse().unwrap_or(u64::MAX) } else { 0 };
            pieces.push((number, piece.trim_start_matches('0')));
            rest = behind;
        }
        pieces
    }
    pieces(one).cmp(&pieces(other))
}

/// Puts `new` into the row's terms: what the row's specification, input, and declaration are to be. Code that declares
/// a schedule leaves a change that somebody made through the API; such a change is noted.
pub(super) fn effective(
    row: &StoredSchedule,
    new: &NewSchedule,
    now: Timestamp,
) -> (NewSchedule, Option<Json>) {
    let schedule = &row.schedule;
    let known = Declaration::parse(schedule.declaration.as_deref());
    let mut effective = new.clone();
    if new.owner.is_some() {
        let is_same = known.as_ref().is_some_and(|known| known.is_same(new));
        let keeps_override = is_same && known.as_ref().is_some_and(|known| known.is_overridden);
        if keeps_override {
            effective.spec = Arc::clone(&schedule.spec);
            effective.compiled_spec = Arc::clone(&row.compiled_spec);
            effective.input.clone_from(&schedule.input);
            effective.next_slot =
                CompiledSpec::of(schedule).ok().and_then(|compiled_spec| compiled_spec.next(now));
        }
        let mut next = match known {
            Some(known) => known,
            // What an older release stored for this code was there before.
            None if schedule.owner.is_some() => {
                Declaration::new(&schedule.spec, schedule.input.as_deref(), schedule.updated_at)
            }
            None => Declaration::default(),
        };
        next.spec = new.spec.to_string();
        next.input = new.input.as_deref().map(str::to_owned);
        next.version = new.version.as_deref().map(str::to_owned).or(next.version);
        next.is_overridden = keeps_override;
        next.paused = None;
        next.note_seen(now);
        return (effective, Some(next.to_json()));
    }
    if schedule.status == ScheduleStatus::Retired {
        // The code no longer has it: from now on it is one of the API's.
        return (effective, None);
    }
    effective.owner.clone_from(&schedule.owner);
    let declaration = overridden(schedule, &new.spec, new.input.as_ref());
    (effective, declaration)
}

/// The declaration of a schedule that gets this specification and input through the API.
pub(super) fn overridden(schedule: &Schedule, spec: &Json, input: Option<&Json>) -> Option<Json> {
    schedule.owner.as_ref()?;
    if *spec == schedule.spec && input == schedule.input.as_ref() {
        return schedule.declaration.clone();
    }
    let mut known = Declaration::parse(schedule.declaration.as_deref())
        .unwrap_or_else(|| Declaration::new(&schedule.spec, schedule.input.as_deref(), schedule.updated_at));
    known.is_overridden = known.spec != **spec || known.input.as_deref() != input.map(|input| &**input);
    Some(known.to_json())
}

/// Refuses to delete a schedule that code declares: it would be back at the next start.
pub(super) fn check_deletion(schedule: &Schedule) -> Result<(), Rejection> {
    match &schedule.owner {
        Some(owner) if schedule.declaration.is_some() && schedule.status != ScheduleStatus::Retired => {
            Err(Rejection::DeclaredInCode {
                id: schedule.id.clone(),
                workflow: Arc::clone(&schedule.workflow),
                owner: Arc::clone(owner),
            })
        }
        _ => Ok(()),
    }
}

/// What becomes of a schedule that a worker's application owns, or owned under a former name, and that the worker
/// does not declare.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum Undeclared {
    /// Nothing.
    Stays,
    /// It is retired.
    Retires,
    /// Another live worker declares it, so it stays.
    IsProtected,
    /// An older release recorded it: it gets the owner's new name, and can be retired from the next start on.
    IsAdopted,
}

/// Decides about one such schedule.
pub(super) fn undeclared(schedule: &Schedule, entry: &WorkerEntry, live: &LiveDeclarations) -> Undeclared {
    let Some(owner) = &schedule.owner else { return Undeclared::Stays };
    if !entry.is_whole {
        return Undeclared::Stays;
    }
    if *owner != entry.app && !entry.aliases.contains(owner) {
        // Another program may have had the same old name: only the workflow tells whose it is.
        let is_ours = entry.former.contains(owner)
            && entry.workflows.iter().any(|workflow| workflow.id == schedule.workflow);
        return if is_ours { Undeclared::IsAdopted } else { Undeclared::Stays };
    }
    if schedule.declaration.is_none() {
        return Undeclared::IsAdopted;
    }
    if live.declare(schedule) { Undeclared::IsProtected } else { Undeclared::Retires }
}

/// Gives a schedule of an older release to the application.
pub(super) fn adopt(schedule: &mut Schedule, app: &Arc<str>) {
    schedule.owner = Some(Arc::clone(app));
    if schedule.declaration.is_none() {
        let declaration = Declaration::new(&schedule.spec, schedule.input.as_deref(), schedule.updated_at);
        schedule.declaration = Some(declaration.to_json());
    }
}

impl Undeclared {
    /// Records the decision.
    pub fn note(self, schedule: &Schedule, report: &mut Reconciliation) {
        let list = match self {
            Self::Stays => return,
            Self::Retires => &mut report.retired,
            Self::IsProtected => &mut report.protected,
            Self::IsAdopted => &mut report.adopted,
        };
        list.push(ScheduleLabel::of(schedule));
    }
}

impl Declared {
    /// Records the comparison.
    pub fn note(self, schedule: &Schedule, report: &mut Reconciliation) {
        match self {
            Self::Counts => {}
            Self::IsOverridden => report.overridden.push(ScheduleLabel::of(schedule)),
            Self::IsOutdated => report.outdated.push(ScheduleLabel::of(schedule)),
        }
    }
}
