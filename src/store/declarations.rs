//! Which declared schedules are retired: pure rules about a worker's declarations and those of its live peers.
//!
//! A schedule belongs to the application (the owner) whose code declared it last. A worker that runs all of its
//! application retires what the application declared earlier and no live worker declares any more.

use crate::model::{
    Declaration, DeclaredKey, Peer, Reconciliation, Schedule, ScheduleLabel, WorkerEntry, WorkerId,
};
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
            let is_silent = silent.iter().any(|(id, beat)| *id == peer.id && *beat == peer.beat);
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
        let input = schedule.input.as_deref().map(str::to_owned);
        let declaration = Declaration { spec: schedule.spec.to_string(), input, paused: None };
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
