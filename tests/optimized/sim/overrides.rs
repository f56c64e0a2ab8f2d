//! A model of declared schedules: which declaration, or which change through the API, wins for
//! each.

use super::checks::PROJECT;
use super::world::World;
use polos::calendar::Timestamp;
use polos::model::spec::CompiledSpec;
use polos::model::{
    Declaration, NewSchedule, Schedule, ScheduleId, ScheduleSpec, ScheduleStatus, StoredSpec, WorkerId,
};
use polos::store::{Command, Patch};
use std::collections::BTreeMap;

/// The expected state of a schedule.
#[derive(Clone, Debug)]
struct Expected {
    declared: StoredSpec,
    version: u64,
    overridden: Option<StoredSpec>,
}

/// The expected state of each declared schedule, computed from the commands alone.
#[derive(Default)]
pub struct Overrides {
    expected: BTreeMap<ScheduleId, Expected>,
    /// What the registered workers declare.
    live: BTreeMap<WorkerId, Vec<NewSchedule>>,
}

fn version_of(new: &NewSchedule) -> u64 {
    new.version.as_deref().map_or(0, |version| version.parse().unwrap())
}

impl Overrides {
    /// Applies an accepted command; `rows` are the schedules before it, `silent` the workers that
    /// don't count. Returns what happened, for the record.
    #[expect(clippy::needless_pass_by_value, reason = "an iterator, cloned for every look")]
    pub fn apply<'a>(
        &mut self,
        command: &Command,
        silent: &[WorkerId],
        rows: impl Iterator<Item = &'a Schedule> + Clone,
    ) -> Vec<&'static str> {
        let mut events = Vec::new();
        match command {
            Command::RegisterWorker(entry) | Command::Reconcile { entry, .. } => {
                for new in &entry.declared {
                    let is_it = |row: &&Schedule| (&row.workflow, &row.key) == (&new.workflow, &new.key);
                    let row = rows.clone().find(is_it);
                    let id = row.map_or(&new.id, |row| &row.id).clone();
                    events.extend(self.declare(&id, new, &entry.id, silent));
                }
                self.live.insert(entry.id.clone(), entry.declared.clone());
            }
            Command::DeregisterWorker { worker } | Command::ExpireWorker { worker, .. } => {
                self.live.remove(worker);
            }
            Command::UpsertSchedules(new) => {
                for new in new {
                    let is_it = |row: &&Schedule| (&row.workflow, &row.key) == (&new.workflow, &new.key);
                    if let Some(row) = rows.clone().find(is_it) {
                        events.extend(self.put(row, &new.spec));
                    }
                }
            }
            Command::PatchSchedule { id, patch, .. } => {
                let row = rows.clone().find(|row| row.id == *id);
                if let (Some(row), Some((spec, ..))) = (row, &patch.spec) {
                    events.extend(self.change(row, spec));
                }
            }
            _ => {}
        }
        events
    }

    /// Code declares a schedule. Its declaration wins, unless a live worker has newer code that
    /// declares it differently.
    fn declare(
        &mut self,
        id: &ScheduleId,
        new: &NewSchedule,
        worker: &WorkerId,
        silent: &[WorkerId],
    ) -> Option<&'static str> {
        let first = Expected { declared: new.spec.clone(), version: version_of(new), overridden: None };
        let Some(known) = self.expected.get_mut(id) else {
            self.expected.insert(id.clone(), first);
            return None;
        };
        if known.declared == new.spec {
            known.version = first.version;
            return known.overridden.is_some().then_some("kept an override at a start");
        }
        let key = (&new.workflow, &new.key);
        let others = self.live.iter().filter(|(id, _)| *id != worker && !silent.contains(id));
        let is_live = others
            .flat_map(|(_, declared)| declared)
            .any(|other| (&other.workflow, &other.key) == key && other.spec == known.declared);
        if is_live && first.version < known.version {
            return Some("left a newer declaration");
        }
        let had_override = known.overridden.is_some();
        *known = first;
        had_override.then_some("replaced an override by a new declaration")
    }

    /// A user creates a schedule that code declares.
    fn put(&mut self, row: &Schedule, spec: &StoredSpec) -> Option<&'static str> {
        if row.status == ScheduleStatus::Retired {
            // From now on it belongs to the API, until code declares it again.
            self.expected.remove(&row.id);
        }
        self.change(row, spec)
    }

    /// A user changes a declared schedule through the API.
    fn change(&mut self, row: &Schedule, spec: &StoredSpec) -> Option<&'static str> {
        let known = self.expected.get_mut(&row.id).filter(|_| row.owner.is_some())?;
        if *spec == row.spec {
            return None;
        }
        let was_overridden = known.overridden.is_some();
        known.overridden = (*spec != known.declared).then(|| spec.clone());
        match (was_overridden, &known.overridden) {
            (_, Some(_)) => Some("overridden"),
            (true, None) => Some("reset to its declaration"),
            (false, None) => None,
        }
    }

    /// Describes what is wrong with a stored schedule.
    pub fn objection(&self, row: &Schedule) -> Option<String> {
        let expected = self.expected.get(&row.id)?;
        if row.owner.is_none() || matches!(row.status, ScheduleStatus::Retired | ScheduleStatus::Broken) {
            return None;
        }
        let spec = expected.overridden.as_ref().unwrap_or(&expected.declared);
        let is_overridden =
            Declaration::parse(row.declaration.as_deref()).is_some_and(|known| known.is_overridden);
        let is_right = *spec == row.spec && is_overridden == expected.overridden.is_some();
        (!is_right).then(|| format!("{expected:?}, and it is {row:?}"))
    }
}

impl World {
    /// Discards changes made through the API, like `schedules.reset`.
    pub fn reset(&mut self, schedule: &Schedule) {
        let Some(declared) = Declaration::parse(schedule.declaration.as_deref()) else { return };
        if !declared.is_overridden {
            return;
        }
        let spec: ScheduleSpec = serde_json::from_str(&declared.spec).unwrap();
        let compiled_spec = CompiledSpec::new(spec).unwrap();
        let next_slot = compiled_spec.next(Timestamp::from_micros(self.truth));
        let spec = Some((declared.spec.into(), compiled_spec.spec().trigger_key().into(), next_slot));
        let patch = Patch { spec, input: Some(declared.input.map(Into::into)), ..Patch::default() };
        self.ask(Command::PatchSchedule {
            project: PROJECT.into(),
            id: schedule.id.clone(),
            revision: Some(schedule.revision),
            patch: Box::new(patch),
        });
    }
}
