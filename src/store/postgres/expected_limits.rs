//! What a store expects about limits, which is what it found last. It asks at once for what it will
//! probably need, and ignores the answer if it has found something else. So a guess saves round
//! trips and decides nothing.

use crate::store::limits::Rooms;
use crate::sync::Mutex;
use std::collections::BTreeSet;
use std::sync::Arc;

/// The limits of the workflows that were asked about last.
#[derive(Default)]
pub(in crate::store) struct ExpectedLimits(Mutex<Expected>);

/// What limits there probably are.
#[derive(Clone, PartialEq, Debug, Default)]
pub(in crate::store) enum Expected {
    /// None.
    #[default]
    Nothing,
    /// Some.
    Some,
    /// Only this one.
    One(PlainLimit),
}

/// A limit of running runs, with neither keys nor a rate.
#[derive(Clone, PartialEq, Debug)]
pub(in crate::store) struct PlainLimit {
    pub name: Arc<str>,
    pub max: u32,
    /// Its workflows among those that were asked about.
    pub workflows: Vec<Arc<str>>,
}

impl PlainLimit {
    /// Whether all these workflows have it.
    pub fn is_of_all(&self, workflows: &BTreeSet<&str>) -> bool {
        let own: BTreeSet<&str> = self.workflows.iter().map(|id| &**id).collect();
        own.is_superset(workflows)
    }
}

impl ExpectedLimits {
    pub fn get(&self) -> Expected {
        self.0.lock().clone()
    }

    pub fn set(&self, found: Expected) {
        *self.0.lock() = found;
    }
}

impl Expected {
    /// These limits.
    pub fn of(rooms: &Rooms) -> Self {
        match rooms.rooms() {
            [] => Self::Nothing,
            [room] => match room.spec.max {
                Some(max) if room.spec.per_key.is_none() && room.rate().is_none() => {
                    let (name, workflows) = (Arc::clone(&room.name), rooms.workflows(0));
                    Self::One(PlainLimit { name, max, workflows })
                }
                _ => Self::Some,
            },
            _ => Self::Some,
        }
    }

    /// Whether there are any.
    pub fn is_any(&self) -> bool {
        *self != Self::Nothing
    }

    /// The only limit.
    pub fn only(&self) -> Option<&PlainLimit> {
        if let Self::One(limit) = self { Some(limit) } else { None }
    }
}
