//! Which declared schedules are retired: pure rules about the declarations of a worker and of its
//! live peers.
//!
//! A schedule belongs to the application (the owner) whose code declared it last. A worker that
//! runs all of its application retires the schedules that the application declared earlier and that
//! no live worker declares any more.

use super::transitions::StoredSchedule;
use crate::calendar::Timestamp;
use crate::model::{
    Declaration, DeclaredKey, Json, NewSchedule, Peer, Reconciliation, Schedule, ScheduleLabel,
    ScheduleStatus, StoredSpec, WantedCalls, WorkerEntry, WorkerId, hook,
};
use crate::store::Rejection;
use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

type WorkflowAndKey = (Arc<str>, Arc<str>);
/// Fingerprints of declarations.
type Fingerprints = HashSet<Arc<str>>;

/// What the other live workers declare.
#[derive(Debug, Default)]
pub(in crate::store) struct LiveDeclarations {
    /// Fingerprints by workflow and key.
    keys: HashMap<WorkflowAndKey, Fingerprints>,
    /// Workflows of workers whose release does not register declarations. All their schedules count
    /// as declared.
    workflows: HashSet<Arc<str>>,
}

impl LiveDeclarations {
    /// Collects the declarations of these workers of one project, except `own` and those whose
    /// heartbeat still has the value in `silent`.
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

    /// Which hook calls one of them wants recorded.
    pub fn wanted_calls(&self, workflow: &str) -> WantedCalls {
        let wanted = self.keys.get(&(Arc::default(), hook::hooks_label(workflow)));
        let wanted = wanted.into_iter().flatten().map(|text| WantedCalls::parse(Some(text)));
        wanted.fold(WantedCalls::NONE, WantedCalls::union)
    }

    /// Whether one of them declares this schedule.
    pub fn declare(&self, schedule: &Schedule) -> bool {
        self.workflows.contains(&schedule.workflow)
            || self.keys.contains_key(&(Arc::clone(&schedule.workflow), Arc::clone(&schedule.key)))
    }
}

/// Which of two declarations of a schedule counts.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(in crate::store) enum Declared {
    /// The worker's.
    Counts,
    /// The worker's, but the schedule was changed through the API, and that change stays.
    IsOverridden,
    /// The stored one: it is newer, and a live worker still declares it.
    IsOutdated,
}

/// Compares a worker's declaration with the stored one.
pub(in crate::store) fn declared(
    schedule: &Schedule,
    new: &NewSchedule,
    live: &LiveDeclarations,
) -> Declared {
    let Some(known) = Declaration::parse(schedule.declaration.as_deref()) else { return Declared::Counts };
    if known.is_same(new) {
        return if known.is_overridden { Declared::IsOverridden } else { Declared::Counts };
    }
    let key = (Arc::clone(&schedule.workflow), Arc::clone(&schedule.key));
    if is_outdated(&known, &new.fingerprint(), new.version.as_deref(), live.keys.get(&key)) {
        Declared::IsOutdated
    } else {
        Declared::Counts
    }
}

/// Whether the known declaration stays, because it is newer than the other one with this
/// fingerprint and version, and a live worker declares it.
fn is_outdated(
    known: &Declaration,
    fingerprint: &str,
    version: Option<&str>,
    live: Option<&Fingerprints>,
) -> bool {
    let current = known.fingerprint();
    if !live.is_some_and(|declared| declared.contains(&*current)) {
        return false;
    }
    let by_version = match (version, &known.version) {
        (Some(new), Some(known)) => compare_versions(new, known),
        _ => Ordering::Equal,
    };
    match by_version {
        Ordering::Less => true,
        Ordering::Greater => false,
        Ordering::Equal => known
            .first_seen(fingerprint)
            .is_some_and(|at| known.first_seen(&current).is_some_and(|current| at <= current)),
    }
}

/// The declaration to store of something that has no owner and no overrides: a limit, or the rules
/// of a workflow. `None` if the known one stays as it is.
pub(in crate::store) fn newer(
    known: Option<Declaration>,
    spec: &Json,
    version: Option<&Arc<str>>,
    (label, live): (Arc<str>, &LiveDeclarations),
    now: Timestamp,
) -> Option<Declaration> {
    let version = version.map(ToString::to_string);
    let Some(mut known) = known else {
        return Some(Declaration { version, ..Declaration::new(spec, None, None, now) });
    };
    let is_same = known.spec == **spec;
    if is_same && (version.is_none() || known.version == version) {
        return None;
    }
    let print = crate::model::limit::declared_fingerprint(spec);
    let live = live.keys.get(&(Arc::default(), label));
    if !is_same && is_outdated(&known, &print, version.as_deref(), live) {
        return None;
    }
    known.spec = spec.to_string();
    known.version = version.or(known.version);
    known.note_seen(now);
    Some(known)
}

/// Compares versions piece by piece, and numbers as numbers: `1.10` is newer than `1.9`.
pub(in crate::store) fn compare_versions(one: &str, other: &str) -> Ordering {
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

/// Returns the specification, input, tags, and declaration that the row gets when `new` is
/// upserted. Code that declares a schedule keeps a change that was made through the API; such a
/// change is recorded in the declaration.
pub(in crate::store) fn effective(
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
            effective.spec.clone_from(&schedule.spec);
            effective.compiled_spec = Arc::clone(&row.compiled_spec);
            effective.input.clone_from(&schedule.input);
            effective.tags.clone_from(&schedule.tags);
            effective.next_slot =
                schedule.compiled_spec().ok().and_then(|compiled_spec| compiled_spec.next(now));
        }
        let mut next = match known {
            Some(known) => known,
            // An older release stored this code's specification without a declaration.
            None if schedule.owner.is_some() => of_stored(schedule),
            None => Declaration::default(),
        };
        next.spec = new.spec.text().to_string();
        next.input = new.input.as_deref().map(str::to_owned);
        next.tags = new.tags.as_deref().map(str::to_owned);
        next.version = new.version.as_deref().map(str::to_owned).or(next.version);
        next.is_overridden = keeps_override;
        next.paused = None;
        next.note_seen(now);
        return (effective, Some(next.to_json()));
    }
    if schedule.status == ScheduleStatus::Retired {
        // Code no longer declares it, so it becomes a schedule of the API.
        return (effective, None);
    }
    effective.owner.clone_from(&schedule.owner);
    let declaration = overridden(schedule, &new.spec, new.input.as_ref(), new.tags.as_ref());
    (effective, declaration)
}

/// The declaration of a schedule whose specification, input, and tags are set through the API.
pub(in crate::store) fn overridden(
    schedule: &Schedule,
    spec: &StoredSpec,
    input: Option<&Json>,
    tags: Option<&Json>,
) -> Option<Json> {
    schedule.owner.as_ref()?;
    if *spec == schedule.spec && input == schedule.input.as_ref() && tags == schedule.tags.as_ref() {
        return schedule.declaration.clone();
    }
    let mut known =
        Declaration::parse(schedule.declaration.as_deref()).unwrap_or_else(|| of_stored(schedule));
    known.is_overridden = !known.is_declaring(spec.text(), input, tags);
    Some(known.to_json())
}

/// The declaration of a schedule that an older release stored without one.
fn of_stored(schedule: &Schedule) -> Declaration {
    let (input, tags) = (schedule.input.as_deref(), schedule.tags.as_deref());
    Declaration::new(schedule.spec.text(), input, tags, schedule.updated_at)
}

/// Refuses to delete a schedule that code declares: the next start would bring it back.
pub(in crate::store) fn check_deletion(schedule: &Schedule) -> Result<(), Rejection> {
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

/// What happens to a schedule that belongs to a worker's application, under its name or a former
/// one, and that the worker does not declare.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(in crate::store) enum Undeclared {
    /// Nothing.
    Stays,
    /// It is retired.
    Retires,
    /// It stays, because another live worker declares it.
    IsProtected,
    /// An older release recorded it. It gets the owner's new name, and can be retired from the next
    /// start on.
    IsAdopted,
}

/// Decides about one such schedule.
pub(in crate::store) fn undeclared(
    schedule: &Schedule,
    entry: &WorkerEntry,
    live: &LiveDeclarations,
) -> Undeclared {
    let Some(owner) = &schedule.owner else { return Undeclared::Stays };
    if !entry.is_whole {
        return Undeclared::Stays;
    }
    if *owner != entry.app && !entry.aliases.contains(owner) {
        // Another program may have had the same old name. Only the workflow shows which program
        // owns it.
        let is_ours = entry.former.contains(owner)
            && entry.workflows.iter().any(|workflow| workflow.id == schedule.workflow);
        return if is_ours { Undeclared::IsAdopted } else { Undeclared::Stays };
    }
    if schedule.declaration.is_none() {
        return Undeclared::IsAdopted;
    }
    if live.declare(schedule) { Undeclared::IsProtected } else { Undeclared::Retires }
}

/// Assigns a schedule of an older release to the application.
pub(in crate::store) fn adopt(schedule: &mut Schedule, app: &Arc<str>) {
    schedule.owner = Some(Arc::clone(app));
    if schedule.declaration.is_none() {
        schedule.declaration = Some(of_stored(schedule).to_json());
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
