//! Compiled specifications: parsed once, shared by all schedules with the same text.

use super::schedule::{ScheduleSpec, Trigger};
use super::{Json, cron_rules, whole_days};
use crate::calendar::{self, Timestamp, Zone, ZoneError};
use crate::cron::{CronError, CronUnion};
use jiff::civil::Date;
use std::sync::Arc;
use std::time::Duration;

mod explained;
mod moved;

/// Shortest period of `every`, in microseconds.
pub const PERIOD_MIN_US: i64 = 1_000_000;

const HOUR_US: i64 = 3_600_000_000;
const DAY_US: i64 = 24 * HOUR_US;
/// So many dates in a row that cron expressions exclude are looked at: those of ten years.
const EXCLUDED_DATES_MAX: usize = 3_660;
/// No zone is further than this from UTC.
const OFFSET_MAX_US: i64 = 26 * HOUR_US;

/// Why a specification is invalid.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
pub enum SpecError {
    /// The cron expression.
    #[error(transparent)]
    Cron(#[from] CronError),
    /// The time zone.
    #[error(transparent)]
    Zone(#[from] ZoneError),
    /// Another invalid field.
    #[error("{0}")]
    Invalid(String),
}

/// The slots of a specification, and the rest of it.
#[derive(Clone, Debug)]
pub struct CompiledSpec {
    spec: ScheduleSpec,
    text: Json,
    trigger_key: Json,
    zone: Zone,
    kind: Kind,
    skip_dates: Vec<Date>,
    skip_days: Option<CronUnion>,
    /// The dates of its stored calendars, in order. Until they are read, or if one does not exist:
    /// the name of a calendar.
    calendar_dates: Result<Arc<[Date]>, String>,
    /// Slots that already have an outcome, in order; they are skipped.
    settled: Vec<Timestamp>,
    /// What is known about moved slots, where slots move; see [`Self::with_moved`].
    moves: Option<moved::Moves>,
}

#[derive(Clone, Debug)]
enum Kind {
    Cron(CronUnion),
    Every { period_us: i64, anchor_us: i64 },
    At(Timestamp),
}

impl CompiledSpec {
    /// Parses and checks the stored JSON text.
    pub fn parse(text: &str) -> Result<Self, SpecError> {
        let spec = serde_json::from_str(text).map_err(|e| SpecError::Invalid(e.to_string()))?;
        Self::new(spec)
    }

    /// Checks every field. The error message names the field, what was given, and what is allowed.
    pub fn new(spec: ScheduleSpec) -> Result<Self, SpecError> {
        let invalid = |text: String| Err(SpecError::Invalid(text));
        let zone = Zone::get(&spec.timezone)?;
        if let Some(trigger) = spec.trigger() {
            cron_rules::check_other_trigger(&spec, &trigger)?;
            cron_rules::check_on_skip(&spec, &trigger)?;
        }
        let kind = match spec.trigger() {
            Some(Trigger::Cron(texts)) => Kind::Cron(cron_rules::compile(&spec, texts, &zone)?),
            Some(Trigger::Every(period_us)) if period_us < PERIOD_MIN_US => {
                return invalid(format!(
                    "`every` is {period_us} microseconds; the shortest period is one second"
                ));
            }
            Some(Trigger::Every(period_us)) => {
                Kind::Every { period_us, anchor_us: spec.start_at_us.map_or(0, Timestamp::as_micros) }
            }
            Some(Trigger::At(at)) => Kind::At(at),
            None => return invalid("a schedule takes exactly one of `cron`, `every` and `at`".to_owned()),
        };
        if let (Some(start), Some(end)) = (spec.start_at_us, spec.end_at_us)
            && end <= start
        {
            return invalid("`end_at` must be later than `start_at`".to_owned());
        }
        if spec.max_runs == Some(0) {
            return invalid("`max_runs` is 0; give 1 or more, or leave it out for no limit".to_owned());
        }
        if spec.max_catch_up == 0 {
            return invalid("`max_catch_up` is 0; give 1 or more, or `catch_up=\"none\"`".to_owned());
        }
        if spec.pause_after_failures == Some(0) {
            return invalid("`pause_after_failures` is 0; give 1 or more, or leave it out".to_owned());
        }
        if spec.priority.is_some_and(|priority| priority > 9) {
            return invalid("`priority` is above 9; give 0 to 9, or leave it out".to_owned());
        }
        if spec.jitter_us < 0 || spec.catch_up_window_us < 0 {
            return invalid("`jitter` and `catch_up_window` can't be negative".to_owned());
        }
        let mut skip_dates = Vec::with_capacity(spec.skip_dates.len());
        for text in &spec.skip_dates {
            match text.parse::<Date>() {
                Ok(date) => skip_dates.push(date),
                Err(_) => {
                    return invalid(format!("`skip` has `{text}`; dates are written like `2026-12-25`"));
                }
            }
        }
        skip_dates.sort_unstable();
        let skip_days = cron_rules::compile_skips(&spec.skip_cron)?;
        if let Some(objection) = cron_rules::objection_to_calendars(&spec.calendars) {
            return invalid(objection);
        }
        let calendar_dates =
            spec.calendars.first().map_or_else(|| Ok(Arc::default()), |name| Err(name.clone()));
        let text = serde_json::to_string(&spec).map_err(|error| SpecError::Invalid(error.to_string()))?;
        let (text, trigger_key) = (text.into(), spec.trigger_key().into());
        let (settled, moves) = (Vec::new(), None);
        let compiled = Self {
            spec,
            text,
            trigger_key,
            zone,
            kind,
            skip_dates,
            skip_days,
            calendar_dates,
            settled,
            moves,
        };
        if compiled.moves_slots() && compiled.cron().is_some_and(CronUnion::is_too_frequent) {
            return invalid(
                "`on_skip` is `next_workday`, but the schedule fires more often than every five minutes; leave it \
                 out: there are enough slots on the next workday"
                    .to_owned(),
            );
        }
        Ok(compiled)
    }

    /// Checks the additional rules for new specifications. Specifications that an older release
    /// accepted stay valid.
    pub fn check_new(&self) -> Result<(), SpecError> {
        self.check_skips()?;
        let Kind::Every { period_us, .. } = self.kind else { return Ok(()) };
        match whole_days::objection(period_us, &self.zone, self.spec.start_at_us) {
            Some(objection) => Err(SpecError::Invalid(objection)),
            None => Ok(()),
        }
    }

    /// Refused if cron expressions exclude all slots that it has.
    pub fn check_skips(&self) -> Result<(), SpecError> {
        let start = Timestamp::from_micros(0);
        // Calendars change, so they don't count.
        let without_calendars = Self { calendar_dates: Ok(Arc::default()), ..self.clone() };
        let without_calendars = without_calendars.with_moved(Vec::new(), start);
        if self.skip_days.is_none()
            || without_calendars.upcoming(start).is_some()
            || self.next(start).is_none()
        {
            return Ok(());
        }
        let skips: Vec<_> = self.spec.skip_cron.iter().map(|text| format!("`cron:{text}`")).collect();
        Err(SpecError::Invalid(format!(
            "`skip` excludes all slots of the schedule, with {}",
            skips.join(", ")
        )))
    }

    /// The same specification without slots that already have an outcome.
    #[must_use]
    pub fn without(mut self, settled: Vec<Timestamp>) -> Self {
        self.settled = settled;
        self
    }

    /// The same specification with the dates of its stored calendars; `dates` finds those of one by
    /// name.
    #[must_use]
    pub fn with_calendars(mut self, dates: impl Fn(&str) -> Option<Arc<[Date]>>) -> Self {
        let mut merged = Vec::new();
        for name in &self.spec.calendars {
            let Some(dates) = dates(name) else {
                self.calendar_dates = Err(name.clone());
                return self;
            };
            merged.extend(dates.iter().copied());
        }
        merged.sort_unstable();
        self.calendar_dates = Ok(merged.into());
        self
    }

    /// The same specification with the calendar dates that `other` knows.
    #[must_use]
    pub fn with_calendars_of(mut self, other: &Self) -> Self {
        self.calendar_dates.clone_from(&other.calendar_dates);
        self
    }

    /// The name of a stored calendar that does not exist, or has not been read. While there is one,
    /// no slot can be decided.
    pub fn missing_calendar(&self) -> Option<&str> {
        self.calendar_dates.as_ref().err().map(String::as_str)
    }

    fn calendar_dates(&self) -> &[Date] {
        self.calendar_dates.as_deref().unwrap_or_default()
    }

    /// Slots that already have an outcome, in order.
    pub fn settled(&self) -> &[Timestamp] {
        &self.settled
    }

    /// Whether it fires once.
    pub fn is_one_off(&self) -> bool {
        matches!(self.kind, Kind::At(_))
    }

    /// Whether both have the same slots within the bounds of both.
    pub fn has_same_grid(&self, other: &Self) -> bool {
        match (&self.kind, &other.kind) {
            (Kind::Cron(union), Kind::Cron(other_union)) => union == other_union && self.zone == other.zone,
            (
                Kind::Every { period_us, anchor_us },
                Kind::Every { period_us: other_period, anchor_us: other_anchor },
            ) => {
                period_us == other_period
                    && anchor_us.rem_euclid(*period_us) == other_anchor.rem_euclid(*period_us)
            }
            (Kind::At(at), Kind::At(other)) => at == other,
            _ => false,
        }
    }

    /// The specification that was compiled.
    pub fn spec(&self) -> &ScheduleSpec {
        &self.spec
    }

    /// Its canonical JSON text: equal specifications have equal texts.
    pub fn text(&self) -> &Json {
        &self.text
    }

    /// See [`ScheduleSpec::trigger_key`].
    pub fn trigger_key(&self) -> &Json {
        &self.trigger_key
    }

    /// The time zone of its local times.
    pub fn zone(&self) -> &Zone {
        &self.zone
    }

    /// The first slot of a schedule that begins at `now`: for a one-off schedule its instant, even
    /// if it has passed; otherwise the first slot after `now`.
    pub fn first(&self, now: Timestamp) -> Option<Timestamp> {
        match &self.kind {
            Kind::At(at) => self.next(before(*at)),
            Kind::Cron(_) | Kind::Every { .. } => self.next(now),
        }
    }

    /// The first slot after `after`, excluded dates included.
    pub fn next(&self, after: Timestamp) -> Option<Timestamp> {
        let mut slot = self.next_on_grid(after);
        while let Some(at) = slot.filter(|slot| self.settled.binary_search(slot).is_ok()) {
            slot = self.next_on_grid(at);
        }
        self.next_moved(after, slot).or(slot)
    }

    fn next_on_grid(&self, after: Timestamp) -> Option<Timestamp> {
        let floor = self.spec.start_at_us.map_or(after, |start| after.max(before(start)));
        let slot = match &self.kind {
            Kind::Cron(union) => calendar::next_of_union(union, &self.zone, floor),
            Kind::Every { period_us, anchor_us } => {
                let periods = floor.as_micros().saturating_sub(*anchor_us).div_euclid(*period_us) + 1;
                anchor_us.checked_add(periods.checked_mul(*period_us)?).map(Timestamp::from_micros)
            }
            Kind::At(at) => (*at > floor).then_some(*at),
        }?;
        (slot < self.end()).then_some(slot)
    }

    /// The last slot at or before `until`, excluded dates included.
    pub fn prev(&self, until: Timestamp) -> Option<Timestamp> {
        let mut slot = self.prev_on_grid(until);
        while let Some(at) = slot.filter(|slot| self.settled.binary_search(slot).is_ok()) {
            slot = self.prev_on_grid(before(at));
        }
        self.prev_moved(slot, until).or(slot)
    }

    fn prev_on_grid(&self, until: Timestamp) -> Option<Timestamp> {
        let until = until.min(before(self.end()));
        let slot = match &self.kind {
            Kind::Cron(union) => calendar::prev_of_union(union, &self.zone, until),
            Kind::Every { period_us, anchor_us } => {
                let periods = until.as_micros().saturating_sub(*anchor_us).div_euclid(*period_us);
                let slot = anchor_us.checked_add(periods.checked_mul(*period_us)?)?;
                (slot >= Timestamp::MIN.as_micros()).then_some(Timestamp::from_micros(slot))
            }
            Kind::At(at) => (*at <= until).then_some(*at),
        }?;
        self.spec.start_at_us.is_none_or(|start| slot >= start).then_some(slot)
    }

    /// Number of slots in `(after, until]`.
    pub fn count(&self, after: Timestamp, until: Timestamp) -> u64 {
        let is_in_range = |slot: &&Timestamp| **slot > after && **slot <= until;
        let settled = self.settled.iter().filter(is_in_range);
        let settled = settled.filter(|slot| self.prev_on_grid(**slot) == Some(**slot)).count();
        self.count_on_grid(after, until).saturating_sub(settled as u64) + self.count_moved(after, until)
    }

    fn count_on_grid(&self, after: Timestamp, until: Timestamp) -> u64 {
        let after = self.spec.start_at_us.map_or(after, |start| after.max(before(start)));
        let until = until.min(before(self.end()));
        if until <= after {
            return 0;
        }
        match &self.kind {
            Kind::Cron(union) => calendar::count_of_union(union, &self.zone, after, until),
            Kind::Every { period_us, anchor_us } => {
                let index = |t: Timestamp| t.as_micros().saturating_sub(*anchor_us).div_euclid(*period_us);
                u64::try_from(index(until) - index(after)).unwrap_or(0)
            }
            Kind::At(at) => u64::from(*at > after && *at <= until),
        }
    }

    /// The local date that excludes `slot`, if one does.
    pub fn excluded_on(&self, slot: Timestamp) -> Option<Date> {
        if self.skip_dates.is_empty() && self.skip_days.is_none() && self.calendar_dates().is_empty() {
            return None;
        }
        let date = self.zone.local_date(slot);
        self.excludes(date).then_some(date)
    }

    /// Why slots on an excluded date are skipped, for the history.
    pub fn exclusion(&self, date: Date) -> String {
        match self.workday_after(date).filter(|_| self.moves_slots()) {
            Some(workday) => format!("{date} is excluded; moved to {workday}"),
            None if self.moves_slots() => {
                format!("{date} is excluded, and no workday follows within a month")
            }
            None => format!("{date} is excluded"),
        }
    }

    fn excludes(&self, date: Date) -> bool {
        self.skip_dates.binary_search(&date).is_ok()
            || self.calendar_dates().binary_search(&date).is_ok()
            || self.is_skip_day(date)
    }

    fn is_skip_day(&self, date: Date) -> bool {
        self.skip_days.as_ref().is_some_and(|days| cron_rules::names(days, date))
    }

    /// The first slot after `after` that is not excluded. `None` if a calendar is missing. Cron
    /// expressions may exclude all slots, so the search ends after many excluded dates.
    pub fn upcoming(&self, after: Timestamp) -> Option<Timestamp> {
        self.upcoming_from(self.next(after)?)
    }

    /// `slot`, or the first slot after it that is not excluded.
    pub fn upcoming_from(&self, mut slot: Timestamp) -> Option<Timestamp> {
        if self.missing_calendar().is_some() {
            return None;
        }
        let listed = self.skip_dates.len() + self.calendar_dates().len();
        let mut rest = listed.saturating_add(EXCLUDED_DATES_MAX);
        while let Some(date) = self.excluded_on(slot) {
            rest = rest.checked_sub(1)?;
            // Steps by whole dates: one date may exclude a slot every second.
            let stretches = self.stretches_of(date);
            let end = stretches.into_iter().find(|(from, until)| (*from..=*until).contains(&slot));
            slot = self.next(end.map_or(slot, |(_, until)| until))?;
        }
        Some(slot)
    }

    /// The first `count` slots after `after` that are not excluded.
    pub fn upcoming_slots(&self, after: Timestamp, count: usize) -> Vec<Timestamp> {
        if self.moves_slots() && self.moves.is_none() {
            let from = after.saturating_add(Duration::from_micros(1));
            return self.clone().with_moved(Vec::new(), from).upcoming_slots(after, count);
        }
        let mut slots = Vec::with_capacity(count.min(1_000));
        let mut last = after;
        while slots.len() < count
            && let Some(slot) = self.upcoming(last)
        {
            slots.push(slot);
            last = slot;
        }
        slots
    }

    /// The stretches of `[from, until]` on excluded dates, first and last instant of each, in
    /// order.
    pub fn excluded_stretches(&self, from: Timestamp, until: Timestamp) -> Vec<(Date, Timestamp, Timestamp)> {
        // One more date on either side: where the clock is set back over midnight, dates don't come
        // in order.
        let first = self.zone.local_date(Timestamp::from_micros(from.as_micros() - DAY_US));
        let last = self.zone.local_date(Timestamp::from_micros(until.as_micros().saturating_add(DAY_US)));
        let stretches =
            |date: Date| self.stretches_of(date).into_iter().map(move |(from, until)| (date, from, until));
        let listed = |dates: &'_ [Date]| {
            let listed = &dates[dates.partition_point(|date| *date < first)..];
            listed[..listed.partition_point(|date| *date <= last)].to_vec()
        };
        let mut found: Vec<_> = listed(&self.skip_dates)
            .into_iter()
            .chain(listed(self.calendar_dates()))
            .chain(self.skip_days_of(first, last))
            .flat_map(stretches)
            .map(|(date, start, end)| (date, start.max(from), end.min(until)))
            .filter(|(_, start, end)| start <= end)
            .collect();
        found.sort_unstable_by_key(|(_, start, _)| *start);
        found.dedup();
        found
    }

    /// The dates of `[first, last]` that cron expressions exclude: of a range that is longer than
    /// any outage, only those at its end.
    fn skip_days_of(&self, first: Date, last: Date) -> impl Iterator<Item = Date> {
        let count = if self.skip_days.is_some() { EXCLUDED_DATES_MAX } else { 0 };
        let back = std::iter::successors(Some(last), |date| date.yesterday().ok());
        back.take(count).take_while(move |date| *date >= first).filter(|date| self.is_skip_day(*date))
    }

    /// First and last instant at which the local calendar shows `date`. More than one stretch only
    /// where the clock is set back over midnight.
    fn stretches_of(&self, date: Date) -> Vec<(Timestamp, Timestamp)> {
        let Ok(midnight) =
            jiff::tz::Offset::UTC.to_timestamp(date.to_datetime(jiff::civil::Time::midnight()))
        else {
            return Vec::new();
        };
        let midnight = midnight.as_microsecond();
        let mut stretches: Vec<(Timestamp, Timestamp)> = Vec::new();
        let end = midnight + DAY_US + OFFSET_MAX_US;
        let mut piece = midnight - OFFSET_MAX_US;
        while piece < end {
            let offset = self.offset_us(piece);
            let next = self.next_offset_change(piece, end);
            let from = piece.max(midnight - offset);
            let until = (next - 1).min(midnight - offset + DAY_US - 1);
            piece = next;
            if from > until {
                continue;
            }
            let (from, until) = (Timestamp::from_micros(from), Timestamp::from_micros(until));
            match stretches.last_mut() {
                Some(last) if last.1.as_micros() + 1 == from.as_micros() => last.1 = until,
                _ => stretches.push((from, until)),
            }
        }
        stretches
    }

    fn offset_us(&self, at_us: i64) -> i64 {
        i64::from(self.zone.offset_seconds(Timestamp::from_micros(at_us))) * 1_000_000
    }

    /// When the offset of `from` ends, or `limit` where it lasts until then. No zone has changed
    /// its clock twice within an hour.
    fn next_offset_change(&self, from: i64, limit: i64) -> i64 {
        let offset = self.offset_us(from);
        let mut same = from;
        while same < limit {
            let mut changed = (same + HOUR_US).min(limit);
            if self.offset_us(changed) == offset {
                same = changed;
                continue;
            }
            while changed - same > 1 {
                let middle = i64::midpoint(same, changed);
                if self.offset_us(middle) == offset { same = middle } else { changed = middle }
            }
            return changed;
        }
        limit
    }

    /// The cron expressions, where there are any.
    pub fn cron(&self) -> Option<&CronUnion> {
        match &self.kind {
            Kind::Cron(union) => Some(union),
            Kind::Every { .. } | Kind::At(_) => None,
        }
    }

    fn end(&self) -> Timestamp {
        self.spec.end_at_us.unwrap_or(Timestamp::MAX)
    }
}

impl PartialEq for CompiledSpec {
    fn eq(&self, other: &Self) -> bool {
        self.spec == other.spec
            && self.settled == other.settled
            && self.calendar_dates == other.calendar_dates
            && self.moves == other.moves
    }
}

fn before(t: Timestamp) -> Timestamp {
    Timestamp::from_micros(t.as_micros().saturating_sub(1))
}
