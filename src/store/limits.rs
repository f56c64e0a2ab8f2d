//! The room that limits leave: pure rules about which runs a claim may take.
//!
//! The use of a limit is never stored. It is the number of running runs that carry the limit's
//! name, so a permit cannot leak, and a dead worker's permits return exactly when its runs are
//! freed.

use crate::calendar::Timestamp;
use crate::model::limit::TakenTokens;
use crate::model::{ClaimRules, LimitSpec};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Most keys that are asked for runs where the first queued runs belong to keys without room.
pub(super) const KEYS_MAX: usize = 1_000;

/// Number of queued runs that are examined to find `count` whose keys have room.
pub(super) fn walked(count: usize) -> usize {
    count.saturating_mul(4).saturating_add(64)
}

/// What a store knows about a workflow.
#[derive(Clone, PartialEq, Debug, Default)]
pub(super) struct WorkflowRow {
    /// Whether schedules may be created for it.
    pub schedulable: bool,
    /// The rules in effect.
    pub rules: ClaimRules,
    /// The declaration of the rules, as [`crate::model::Declaration`] stores it.
    pub declaration: Option<crate::model::Json>,
}

/// A limit, and how much of it is in use.
#[derive(Clone, Debug)]
pub(super) struct Room {
    /// Unique in the project.
    pub name: Arc<str>,
    /// The values in effect.
    pub spec: LimitSpec,
    /// The tokens of its rate.
    pub taken: TakenTokens,
    /// Whether these have to be stored although none is taken; see [`TakenTokens::settle`].
    is_settled_anew: bool,
    /// Number of its claimed runs.
    pub running: u32,
    /// The same for each key, if the limit counts keys.
    pub by_key: BTreeMap<Arc<str>, u32>,
    /// Number of runs admitted here.
    pub admitted: u32,
    /// When the last of these starts: runs can be claimed ahead of their time.
    starts_until: Timestamp,
    now: Timestamp,
}

impl Room {
    /// The room at `now`.
    pub fn new(
        name: Arc<str>,
        spec: LimitSpec,
        mut taken: TakenTokens,
        running: impl IntoIterator<Item = (Arc<str>, u32)>,
        now: Timestamp,
    ) -> Self {
        let by_key: BTreeMap<Arc<str>, u32> = running.into_iter().collect();
        let running = by_key.values().sum();
        let is_settled_anew = spec.per_us.is_some_and(|per_us| taken.settle(now, per_us));
        Self { name, spec, taken, is_settled_anew, running, by_key, admitted: 0, starts_until: now, now }
    }

    /// The same without the rate.
    #[cfg(feature = "sqlite")]
    pub fn without_rate(&self) -> Self {
        Self { spec: LimitSpec { rate: None, per_us: None, ..self.spec.clone() }, ..self.clone() }
    }

    /// Number of runs that may be claimed, as far as their keys have room.
    pub fn left(&self) -> usize {
        let slots = self.slots_left();
        let tokens = match self.rate() {
            Some((rate, per_us)) => self.taken.left(self.now, rate, per_us).saturating_sub(self.admitted),
            None => u32::MAX,
        };
        usize::try_from(slots.min(tokens)).unwrap_or(usize::MAX)
    }

    fn slots_left(&self) -> u32 {
        self.spec.max.map_or(u32::MAX, |max| max.saturating_sub(self.running))
    }

    /// The limit's rate and period, if it has both.
    pub fn rate(&self) -> Option<(u32, i64)> {
        self.spec.rate.zip(self.spec.per_us)
    }

    /// Number of runs of this key that may be claimed.
    pub fn left_for(&self, key: &str) -> usize {
        let used = self.by_key.get(key).copied().unwrap_or(0);
        let own = self.spec.per_key.map_or(u32::MAX, |most| most.saturating_sub(used));
        usize::try_from(own).unwrap_or(usize::MAX).min(self.left())
    }

    /// The keys that have no room, however many tokens are left.
    #[cfg(feature = "postgres")]
    pub fn full_keys(&self) -> impl Iterator<Item = &str> {
        self.by_key.keys().map(|key| &**key).filter(|key| !self.has_slot_for(key))
    }

    /// Whether a run with this key could be claimed, as far as its rate allows it.
    pub fn has_slot_for(&self, key: &str) -> bool {
        let used = self.by_key.get(key).copied().unwrap_or(0);
        self.slots_left() > 0 && self.spec.per_key.is_none_or(|most| used < most)
    }

    /// Takes room for a run with this key that starts at `at`, or now if that has passed; if there
    /// is room.
    pub fn admit(&mut self, key: &Arc<str>, at: Timestamp) -> bool {
        if self.left_for(key) == 0 {
            return false;
        }
        self.starts_until = self.starts_until.max(at);
        self.running += 1;
        self.admitted += 1;
        *self.by_key.entry(Arc::clone(key)).or_default() += 1;
        true
    }

    /// From when on runs may be claimed, as far as the rate decides that; long ago if they may be
    /// claimed now. `None` if only the end of a run makes room.
    ///
    /// Now is also the time for a claim where only that makes tokens return: it stores when they
    /// were found.
    pub fn opens_at(&self) -> Option<Timestamp> {
        if self.slots_left() == 0 {
            return None;
        }
        let is_open = Timestamp::from_micros(0);
        let Some((rate, per_us)) = self.rate() else { return Some(is_open) };
        let opens_at = self.taken.next(self.now, rate, per_us);
        if opens_at == self.now || self.is_settled_anew && rate > 0 {
            return Some(is_open);
        }
        (opens_at < Timestamp::MAX).then_some(opens_at)
    }

    /// The tokens that are out after the admitted runs have been claimed; `None` if that has not
    /// changed.
    pub fn taken_after(&self) -> Option<TakenTokens> {
        let (_, per_us) = self.rate().filter(|_| self.admitted > 0 || self.is_settled_anew)?;
        let mut taken = self.taken.clone();
        taken.take(self.now, self.starts_until, self.admitted, per_us);
        Some(taken)
    }
}

/// The limits that one claim has to keep.
#[derive(Clone, Debug, Default)]
pub(super) struct Rooms {
    rooms: Vec<Room>,
    of: BTreeMap<Arc<str>, usize>,
}

impl Rooms {
    /// Adds a limit with its workflows.
    pub fn add(&mut self, room: Room, workflows: impl IntoIterator<Item = Arc<str>>) {
        let index = self.rooms.len();
        self.rooms.push(room);
        self.of.extend(workflows.into_iter().map(|workflow| (workflow, index)));
    }

    /// Whether no workflow has a limit.
    #[cfg(feature = "sqlite")]
    pub fn is_empty(&self) -> bool {
        self.rooms.is_empty()
    }

    /// Whether some limit counts keys.
    #[cfg(feature = "postgres")]
    pub fn have_keys(&self) -> bool {
        self.rooms.iter().any(|room| room.spec.per_key.is_some())
    }

    /// All limits.
    pub fn rooms(&self) -> &[Room] {
        &self.rooms
    }

    /// The limit of a workflow.
    pub fn of(&self, workflow: &str) -> Option<&Room> {
        self.of.get(workflow).map(|index| &self.rooms[*index])
    }

    /// The workflows of a limit, by its place among [`Self::rooms`].
    pub fn workflows(&self, index: usize) -> Vec<Arc<str>> {
        self.of.iter().filter(|(_, of)| **of == index).map(|(workflow, _)| Arc::clone(workflow)).collect()
    }

    /// Whether a run with this key could be claimed.
    pub fn has_room(&self, workflow: &str, key: &str) -> bool {
        self.of(workflow).is_none_or(|room| room.left_for(key) > 0)
    }

    /// Takes room for a run that starts at `at`, or now. Always succeeds for a workflow without a
    /// limit.
    pub fn admit(&mut self, workflow: &str, key: &Arc<str>, at: Timestamp) -> bool {
        match self.of.get(workflow) {
            Some(index) => self.rooms[*index].admit(key, at),
            None => true,
        }
    }
}
