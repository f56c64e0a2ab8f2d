//! A zone as a table: the periods between its transitions, in minutes.
//!
//! Built once per zone from jiff's reading of the zone data, so that asking for an offset is a
//! look-up without a lock. The table ends in the year 2500: from 2100 on, zone data is only a rule
//! ("second Sunday in March"), the calendar repeats every 400 years, and so does everything built
//! on these two.

use jiff::tz::TimeZone;

/// Minutes in 400 years.
const CYCLE: i64 = 146_097 * 1440;
/// 2100-01-01T00:00Z. Time zone data lists transitions one by one up to 2037, for Morocco up to
/// 2087.
const CYCLE_START: i64 = 68_374_080;
/// 1900-01-01T00:00Z, where the index starts.
const INDEX_START: i64 = -36_816_480;
/// 2^18 minutes, half a year: about one period per entry of the index.
const INDEX_SHIFT: u32 = 18;
/// Earlier than any minute that is asked about, and far from overflow.
const FAR: i64 = i64::MAX / 4;
/// A gap this long or longer swallows the times in it (R4); a repeat longer than this is a new
/// start (R3).
pub(super) const THREE_HOURS: i64 = 180;

/// A period as it is stored.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// First UTC minute.
    pub start: i64,
    /// Local minus UTC, minutes, rounded down.
    pub offset: i16,
    /// [`Period::fixed_from`] relative to the local minute at `start`.
    pub fixed_shift: i16,
}

/// The periods of one zone, in order, without gaps.
#[derive(Debug)]
pub(crate) struct OffsetTable {
    entries: Vec<Entry>,
    /// Number of entries at the end that repeat every 400 years; 0 if the last entry lasts for
    /// ever.
    cycle: usize,
    /// Element `n` is the entry at minute `INDEX_START + (n << INDEX_SHIFT)`.
    index: Vec<u16>,
}

/// A stretch of time with one offset. All values are minutes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Period {
    /// First UTC minute.
    pub start: i64,
    /// UTC minute after the last.
    pub end: i64,
    /// Local minus UTC.
    pub offset: i64,
    /// First local minute that fixed schedules have from this period.
    ///
    /// After a short gap: the first one skipped (R2, they all fire at `start`). After a repeat: the
    /// first one that is new (R3). Otherwise the local minute at `start` (R4).
    pub fixed_from: i64,
}

impl Period {
    /// First local minute that a schedule has from this period.
    pub fn first_local(&self, wild: bool) -> i64 {
        if wild { self.start + self.offset } else { self.fixed_from }
    }

    /// Local minute after the last.
    pub fn end_local(&self) -> i64 {
        self.end + self.offset
    }

    /// The UTC minute of a local one that this period has; skipped ones are at the start.
    pub fn utc(&self, local: i64) -> i64 {
        self.start.max(local - self.offset)
    }
}

impl OffsetTable {
    /// A zone without transitions.
    pub fn fixed(offset: i16) -> OffsetTable {
        OffsetTable {
            entries: vec![Entry { start: -FAR, offset, fixed_shift: 0 }],
            cycle: 0,
            index: Vec::new(),
        }
    }

    /// Reads the transitions of `zone`.
    pub fn of(zone: &TimeZone) -> OffsetTable {
        let mut spans = vec![(-FAR, minutes(zone.to_offset(jiff::Timestamp::MIN)))];
        for transition in zone.following(jiff::Timestamp::MIN) {
            // The first minute of UTC that has the new offset.
            let start = -(-transition.timestamp().as_second()).div_euclid(60);
            if start >= CYCLE_START + CYCLE {
                break;
            }
            push(&mut spans, start, minutes(transition.offset()));
        }
        let cycle = spans.iter().filter(|(start, _)| *start >= CYCLE_START).count();
        let entries = with_fixed_shifts(&spans);
        let index = build_index(&entries);
        OffsetTable { entries, cycle, index }
    }

    /// Whether the offset has always been 0.
    pub fn is_utc(&self) -> bool {
        matches!(self.entries.as_slice(), [only] if only.offset == 0)
    }

    /// The number of the period that `minute` of UTC is in.
    pub fn find(&self, minute: i64) -> usize {
        if self.cycle > 0 && minute >= CYCLE_START + CYCLE {
            let cycles = (minute - CYCLE_START) / CYCLE;
            let number = self.find_entry(minute - cycles * CYCLE);
            return number + self.cycle * usize::try_from(cycles).unwrap_or(0);
        }
        self.find_entry(minute)
    }

    fn find_entry(&self, minute: i64) -> usize {
        let bucket = (minute - INDEX_START) >> INDEX_SHIFT;
        let Some(&number) = usize::try_from(bucket).ok().and_then(|bucket| self.index.get(bucket)) else {
            return self.entries.partition_point(|entry| entry.start <= minute) - 1;
        };
        let mut number = usize::from(number);
        while self.entries.get(number + 1).is_some_and(|next| next.start <= minute) {
            number += 1;
        }
        number
    }

    /// The period of that number. In a zone whose rules repeat there is no last number.
    pub fn get(&self, number: usize) -> Option<Period> {
        let (entry, shift) = self.entry(number)?;
        let end = self.entry(number + 1).map_or(FAR, |(next, shift)| next.start + shift);
        let start = entry.start + shift;
        let offset = i64::from(entry.offset);
        Some(Period { start, end, offset, fixed_from: start + offset + i64::from(entry.fixed_shift) })
    }

    fn entry(&self, number: usize) -> Option<(&Entry, i64)> {
        if let Some(entry) = self.entries.get(number) {
            return Some((entry, 0));
        }
        if self.cycle == 0 {
            return None;
        }
        let first = self.entries.len() - self.cycle;
        let (cycles, rest) = ((number - first) / self.cycle, (number - first) % self.cycle);
        Some((&self.entries[first + rest], i64::try_from(cycles).unwrap_or(0) * CYCLE))
    }

    /// Local minus UTC at `minute` of UTC.
    pub fn offset_at(&self, minute: i64) -> i64 {
        self.entry(self.find(minute)).map_or(0, |(entry, _)| i64::from(entry.offset))
    }
}

#[expect(clippy::cast_possible_truncation, reason = "offsets are below 26 hours")]
fn minutes(offset: jiff::tz::Offset) -> i16 {
    offset.seconds().div_euclid(60) as i16
}

/// Adds a span, dropping what leaves no minute or changes nothing.
pub fn push(spans: &mut Vec<(i64, i16)>, start: i64, offset: i16) {
    while spans.last().is_some_and(|(last, _)| *last >= start) {
        spans.pop();
    }
    if spans.last().is_none_or(|(_, last)| *last != offset) {
        spans.push((start, offset));
    }
}

/// Works out where fixed schedules begin in each span.
///
/// `seen` is the local minute up to which the clock has run since it was last set back by more than
/// three hours. That is how Debian's cron sees it: a clock put back makes fixed times wait until it
/// has caught up, a clock put forward makes up for what was skipped, and a larger change than three
/// hours is a correction of the clock.
pub fn with_fixed_shifts(spans: &[(i64, i16)]) -> Vec<Entry> {
    let mut seen = -2 * FAR;
    let mut entries: Vec<Entry> = Vec::with_capacity(spans.len());
    for &(start, offset) in spans {
        let local = start + i64::from(offset);
        let fixed_from = match entries.last() {
            None => local,
            Some(before) => {
                let end_before = start + i64::from(before.offset);
                seen = seen.max(end_before);
                let jump = local - end_before;
                if jump < -THREE_HOURS {
                    seen = local;
                    local
                } else if jump >= THREE_HOURS {
                    seen.max(local)
                } else {
                    seen
                }
            }
        };
        let fixed_shift = i16::try_from(fixed_from - local).unwrap_or(0);
        entries.push(Entry { start, offset, fixed_shift });
    }
    entries
}

fn build_index(entries: &[Entry]) -> Vec<u16> {
    let Some(last) = entries.last().map(|entry| entry.start).filter(|last| *last > INDEX_START) else {
        return Vec::new();
    };
    let mut number = 0;
    (0..=(last - INDEX_START) >> INDEX_SHIFT)
        .map(|bucket| {
            let minute = INDEX_START + (bucket << INDEX_SHIFT);
            while entries.get(number + 1).is_some_and(|next| next.start <= minute) {
                number += 1;
            }
            u16::try_from(number).unwrap_or(0)
        })
        .collect()
}
