//! Slots that move: with `on_skip` set to the next workday, a slot on an excluded date comes at the
//! same local time of the next workday. A workday is a day from Monday to Friday that is not
//! excluded.
//!
//! A slot is moved when it is decided: it is recorded as skipped, and the moved slot is kept with
//! the schedule. From then on, neither calendars nor edits of `skip` bring it a second time or take
//! it away.

use super::{CompiledSpec, DAY_US, HOUR_US, OFFSET_MAX_US, before};
use crate::calendar::Timestamp;
use jiff::civil::{Date, Weekday};

/// A slot moves by at most this many days. If there is no workday by then, it is dropped.
const MOVE_DAYS_MAX: i32 = 31;
/// No moved slot is further than this from where it was.
const MOVE_MAX_US: i64 = (MOVE_DAYS_MAX as i64 + 3) * DAY_US;
/// Moved slots stay known so long after their time: the claim of one ahead of its time may be
/// revoked.
const KEPT_US: i64 = HOUR_US;

/// What is known about moved slots.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Moves {
    /// Moved slots of earlier decisions, in order.
    pending: Vec<Timestamp>,
    /// Slots from here on are undecided, so those on excluded dates will be moved.
    from: Timestamp,
}

impl CompiledSpec {
    /// Whether slots on excluded dates move.
    pub fn moves_slots(&self) -> bool {
        self.spec.on_skip.is_some()
    }

    /// Whether there are slots that have been moved, or may be.
    pub fn has_moves(&self) -> bool {
        self.moves_slots() || self.moves.is_some()
    }

    /// The same specification with the slots that earlier decisions have moved; `from` is the first
    /// slot that is not decided. Those come although no other slot moves any more.
    #[must_use]
    pub fn with_moved(mut self, mut pending: Vec<Timestamp>, from: Timestamp) -> Self {
        if self.moves_slots() || !pending.is_empty() {
            pending.sort_unstable();
            self.moves = Some(Moves { pending, from });
        }
        self
    }

    /// The moved slots to keep after the slots up to `until` have been decided.
    pub fn pending_after(&self, until: Timestamp) -> Vec<Timestamp> {
        let kept_from = Timestamp::from_micros(until.as_micros().saturating_sub(KEPT_US));
        self.all_moved(until, (kept_from, Timestamp::MAX))
    }

    /// The moved slot that comes first after `after`, and before `limit`.
    pub(super) fn next_moved(&self, after: Timestamp, limit: Option<Timestamp>) -> Option<Timestamp> {
        let until = limit.map_or(Timestamp::MAX, before);
        // Slots after `after` move beyond the next slot.
        self.moved(after, (after, until)).first().copied()
    }

    /// The last moved slot after `limit`, and at or before `until`.
    pub(super) fn prev_moved(&self, limit: Option<Timestamp>, until: Timestamp) -> Option<Timestamp> {
        // Without a slot before it, only a slot that was moved earlier can be meant.
        let limit = limit.unwrap_or(Timestamp::from_micros(until.as_micros().saturating_sub(MOVE_MAX_US)));
        self.moved(until, (limit, until)).last().copied()
    }

    /// Number of moved slots in `(after, until]`.
    pub(super) fn count_moved(&self, after: Timestamp, until: Timestamp) -> u64 {
        self.moved(until, (after, until)).len() as u64
    }

    /// [`Self::all_moved`] without those that already have an outcome.
    fn moved(&self, decided: Timestamp, range: (Timestamp, Timestamp)) -> Vec<Timestamp> {
        let mut found = self.all_moved(decided, range);
        found.retain(|slot| self.settled.binary_search(slot).is_err());
        found
    }

    /// The moved slots in `(after, until]` of slots up to `decided`, in order, without those at the
    /// time of another slot.
    fn all_moved(&self, decided: Timestamp, (after, until): (Timestamp, Timestamp)) -> Vec<Timestamp> {
        let Some(moves) = &self.moves else { return Vec::new() };
        let pending = moves.pending.iter().copied().filter(|slot| *slot >= moves.from);
        let reach = after.min(decided).as_micros().saturating_sub(MOVE_MAX_US);
        let excluded = self.slots_on_excluded_dates(moves.from.max(Timestamp::from_micros(reach)), decided);
        let is_settled = |slot: &Timestamp| self.settled.binary_search(slot).is_ok();
        let again = pending.clone().filter(|slot| *slot <= decided && !is_settled(slot));
        let again = again.filter(|slot| self.moves_slots() && self.excluded_on(*slot).is_some());
        let coming = excluded.into_iter().chain(again).filter_map(|slot| self.moved_to(slot));
        let is_own = |slot: &Timestamp| {
            *slot > after && *slot <= until && *slot < self.end() && self.prev_on_grid(*slot) != Some(*slot)
        };
        let mut found: Vec<_> = pending.chain(coming).filter(is_own).collect();
        found.sort_unstable();
        found.dedup();
        found
    }

    fn slots_on_excluded_dates(&self, from: Timestamp, until: Timestamp) -> Vec<Timestamp> {
        let mut found = Vec::new();
        if until < from || !self.moves_slots() {
            return found;
        }
        for (_, start, end) in self.excluded_stretches(from, until) {
            let mut slot = self.next_on_grid(before(start));
            while let Some(at) = slot.filter(|at| *at <= end) {
                // One that was skipped on request does not come back.
                if self.settled.binary_search(&at).is_err() {
                    found.push(at);
                }
                slot = self.next_on_grid(at);
            }
        }
        found
    }

    /// Where a slot on an excluded date moves to.
    fn moved_to(&self, slot: Timestamp) -> Option<Timestamp> {
        let date = self.workday_after(self.zone.local_date(slot))?;
        let local = slot.as_micros().saturating_add(self.offset_us(slot.as_micros()));
        Some(self.instant_of(date, local.rem_euclid(DAY_US)))
    }

    /// The day to which slots of an excluded date move.
    pub(super) fn workday_after(&self, date: Date) -> Option<Date> {
        let days = std::iter::successors(date.tomorrow().ok(), |day| day.tomorrow().ok());
        let is_weekend = |day: &Date| matches!(day.weekday(), Weekday::Saturday | Weekday::Sunday);
        days.take(usize::try_from(MOVE_DAYS_MAX).unwrap_or(0)).find(|day| {
            // A zone may leave out a day.
            !is_weekend(day) && !self.excludes(*day) && !self.stretches_of(*day).is_empty()
        })
    }

    /// When the local clock first shows this time on this date. A time that the clock leaves out is
    /// at the end of the gap, as for cron expressions.
    fn instant_of(&self, date: Date, time_us: i64) -> Timestamp {
        let midnight = date.to_datetime(jiff::civil::Time::midnight());
        let midnight = jiff::tz::Offset::UTC.to_timestamp(midnight);
        let local = midnight.map_or(i64::MAX, jiff::Timestamp::as_microsecond).saturating_add(time_us);
        let end = local.saturating_add(OFFSET_MAX_US);
        let mut piece = local - OFFSET_MAX_US;
        while piece < end {
            let next = self.next_offset_change(piece, end);
            let at = local - self.offset_us(piece);
            if at < next {
                return Timestamp::from_micros(at.max(piece));
            }
            piece = next;
        }
        Timestamp::from_micros(end)
    }
}
