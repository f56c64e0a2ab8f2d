//! Stored calendars and moved slots: operators who set, change, and delete calendars, and a plain
//! model of what becomes of each slot on an excluded date.
//!
//! A decision and the calendars that it reads belong to one instant of the simulation. So each
//! decision must agree exactly with the calendars as they are when it takes effect.

use super::checks::{Checks, PROJECT};
use super::faults::Rng;
use super::world::{DAY, HOUR, MINUTE, Pace, Theme, World};
use jiff::Timestamp as Instant;
use jiff::civil::{Date, Weekday};
use jiff::tz::{AmbiguousOffset, TimeZone};
use polos::calendar::{Timestamp, Zone};
use polos::model::spec::CompiledSpec;
use polos::model::{
    FirePlan, LedgerEntry, LedgerLine, OnSkip, Schedule, ScheduleId, ScheduleSpec, ScheduleStatus,
    SlotOutcome,
};
use polos::store::{Command, Outcome, Page, Rejection, Store, mending};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

const NAMES: [&str; 2] = ["closed", "holidays"];
/// Most leave room for moved slots: one that meets a slot of its schedule is not a slot of its own.
const CRONS: [&str; 8] = [
    "0 9 * * *",
    "0 9 * * 1-5",
    "0 9 */3 * *",
    "30 2 */2 * *",
    "15 1-3 * * 2,4,6",
    "*/30 22-23 * * 0,3",
    "0 */5 */4 * *",
    "30 2 * * 0",
];
const ZONES: [&str; 5] = ["UTC", "America/New_York", "Europe/Paris", "Australia/Lord_Howe", "Asia/Kolkata"];
/// What `skip` excludes besides dates. [`is_named`] says which days these are.
const SKIP_CRONS: [&str; 3] = ["* * * * SAT,SUN", "* * 1 * *", "* * */3 * *"];
/// A slot moves at most so many days.
const MOVE_DAYS_MAX: usize = 31;
/// How a skipped slot's reason says that its date is excluded.
const EXCLUDED: &str = "is excluded";

/// What is known about calendars and moved slots, from the commands alone.
#[derive(Default)]
pub struct Calendars {
    /// The calendars that exist.
    dates: BTreeMap<Arc<str>, BTreeSet<Date>>,
    /// Where slots of each schedule were moved, as long as its trigger stays.
    moved: BTreeMap<ScheduleId, BTreeSet<Timestamp>>,
}

/// What a decision must say about the slots that it decides.
pub struct DecidedSlots {
    /// The slots, those that were moved included.
    pub slots: BTreeSet<Timestamp>,
    /// Slots that moved beyond them.
    moved: BTreeSet<Timestamp>,
    /// What is wrong with their outcomes.
    pub mistake: Option<String>,
}

/// A kind of slot and outcome, for the record.
#[derive(Copy, Clone)]
enum Found {
    Ran,
    Line(SlotOutcome, bool),
}

impl Calendars {
    fn missing<'s>(&self, spec: &'s ScheduleSpec) -> Option<&'s String> {
        spec.calendars.iter().find(|name| !self.dates.contains_key(&***name))
    }

    fn is_excluded(&self, spec: &ScheduleSpec, date: Date) -> bool {
        let is_listed = || spec.skip_dates.contains(&date.to_string());
        let is_named = || spec.skip_cron.iter().any(|days| is_named(days, date));
        let calendars = || spec.calendars.iter().filter_map(|name| self.dates.get(&**name));
        is_listed() || is_named() || calendars().any(|dates| dates.contains(&date))
    }

    /// Where a slot on an excluded date goes.
    fn moves_to(&self, spec: &ScheduleSpec, slot: Timestamp) -> Option<Timestamp> {
        let zone = Zone::get(&spec.timezone).unwrap();
        let zone = zone.rules();
        let local = zone.to_datetime(instant(slot));
        let days = std::iter::successors(local.date().tomorrow().ok(), |day| day.tomorrow().ok());
        let is_workday = |day: &Date| {
            !matches!(day.weekday(), Weekday::Saturday | Weekday::Sunday) && !self.is_excluded(spec, *day)
        };
        let day = days.take(MOVE_DAYS_MAX).find(is_workday)?;
        let moved = zone.to_ambiguous_timestamp(day.to_datetime(local.time()));
        let moved = match moved.offset() {
            // The end of the gap.
            AmbiguousOffset::Gap { .. } => {
                let within = moved.later().unwrap();
                zone.preceding(within + jiff::SignedDuration::from_nanos(1)).next()?.timestamp()
            }
            AmbiguousOffset::Unambiguous { .. } | AmbiguousOffset::Fold { .. } => moved.earlier().unwrap(),
        };
        Some(Timestamp::from_micros(moved.as_microsecond())).filter(|at| is_before_end(spec, *at))
    }

    /// Moved slots of a schedule in `[from, until]`.
    fn moved_slots(&self, id: &ScheduleId, from: Timestamp, until: Timestamp) -> Vec<Timestamp> {
        let known = self.moved.get(id).into_iter().flatten();
        known.copied().filter(|slot| (from..=until).contains(slot)).collect()
    }
}

fn instant(at: Timestamp) -> Instant {
    Instant::from_microsecond(at.as_micros()).unwrap()
}

fn local_date(spec: &ScheduleSpec, slot: Timestamp) -> Date {
    Zone::get(&spec.timezone).unwrap().rules().to_datetime(instant(slot)).date()
}

fn is_before_end(spec: &ScheduleSpec, at: Timestamp) -> bool {
    spec.end_at_us.is_none_or(|end| at < end)
}

/// Whether one of [`SKIP_CRONS`] names the date.
fn is_named(days: &str, date: Date) -> bool {
    match days {
        "* * * * SAT,SUN" => matches!(date.weekday(), Weekday::Saturday | Weekday::Sunday),
        "* * 1 * *" => date.day() == 1,
        "* * */3 * *" => date.day() % 3 == 1,
        other => panic!("what does {other} name?"),
    }
}

fn has_exclusions(spec: &ScheduleSpec) -> bool {
    !(spec.skip_dates.is_empty() && spec.skip_cron.is_empty() && spec.calendars.is_empty())
}

/// The slots of `[from, until]` that a specification has by itself.
fn own_slots(compiled_spec: &CompiledSpec, from: Timestamp, until: Timestamp) -> BTreeSet<Timestamp> {
    let mut slots = BTreeSet::new();
    let mut slot = compiled_spec.next(Timestamp::from_micros(from.as_micros() - 1));
    while let Some(at) = slot.filter(|at| *at <= until) {
        slots.insert(at);
        slot = compiled_spec.next(at);
    }
    slots
}

/// Whether the schedule has this slot without a move.
fn grid_has(row: &Schedule, slot: Timestamp) -> bool {
    row.spec.compiled().is_ok_and(|compiled_spec| compiled_spec.prev(slot) == Some(slot))
}

fn found_in_plan(plan: &FirePlan, slot: Timestamp) -> Option<Found> {
    if plan.runs.iter().any(|run| run.slot == slot) {
        return Some(Found::Ran);
    }
    let is_of = |line: &&LedgerLine| (line.from..=line.until).contains(&slot);
    let line = plan.ledger.iter().find(is_of)?;
    Some(Found::Line(line.outcome, line.reason.contains(EXCLUDED)))
}

fn found_in_history(history: &[LedgerEntry], slot: Timestamp) -> Option<Found> {
    let is_of = |line: &&LedgerEntry| line.count > 0 && (line.from..=line.until).contains(&slot);
    let line = history.iter().find(is_of)?;

    Some(Found::Line(line.outcome, line.reason.contains(EXCLUDED)))
}

impl Checks {
    /// The slots that a decision of everything in `[first, end]` decides, and what becomes of them;
    /// `None` for a specification that excludes nothing and has no moved slots.
    pub fn decided_slots(
        &self,
        before: &Schedule,
        compiled_spec: &CompiledSpec,
        (first, end): (Timestamp, Timestamp),
        plan: &FirePlan,
    ) -> Option<DecidedSlots> {
        let known = &self.calendars;
        let spec = compiled_spec.spec();
        let moved = known.moved_slots(&before.id, first, end);
        if !has_exclusions(spec) && moved.is_empty() {
            return None;
        }
        let mut found = DecidedSlots { slots: BTreeSet::new(), moved: BTreeSet::new(), mistake: None };
        if let Some(name) = known.missing(spec) {
            found.mistake = Some(format!("decided without its calendar {name}"));
        }
        let settled = before.settled_slots();
        let mut due = own_slots(compiled_spec, first, end);
        due.insert(first);
        due.extend(moved.into_iter().filter(|slot| !settled.contains(slot)));
        while let Some(slot) = due.pop_first() {
            found.slots.insert(slot);
            let is_excluded = known.is_excluded(spec, local_date(spec, slot));
            let outcome = found_in_plan(plan, slot);
            let is_right = match outcome {
                // The last of `max_runs` has come.
                Some(Found::Line(SlotOutcome::Skipped, false)) if plan.next_slot.is_none() => true,
                Some(Found::Line(SlotOutcome::Skipped, says_so)) => says_so == is_excluded,
                Some(Found::Ran | Found::Line(..)) => !is_excluded,
                None => false,
            };
            if !is_right {
                let what = if is_excluded { "excluded" } else { "not excluded" };
                found.mistake.get_or_insert(format!("{slot} is {what}"));
            }
            if !is_excluded || spec.on_skip.is_none() {
                continue;
            }
            let Some(target) = known.moves_to(spec, slot) else { continue };
            if grid_has(before, target) || settled.contains(&target) {
                continue;
            }
            found.moved.insert(target);
            if target <= end {
                due.insert(target);
            }
        }
        Some(found)
    }

    /// A decision has moved slots: the schedule keeps those that come after it.
    pub fn note_moved(&mut self, decided: DecidedSlots, plan: &FirePlan, after: &Schedule) {
        let spec = plan.spec.spec();
        let excluded = plan.ledger.iter().filter(|line| line.reason.contains(EXCLUDED)).count();
        if excluded > 0 && !spec.calendars.is_empty() {
            self.count_event("skipped by a calendar");
        }
        let known = self.calendars.moved.get(&plan.schedule);
        if plan.runs.iter().any(|run| known.is_some_and(|known| known.contains(&run.slot))) {
            self.count_event("ran a moved slot");
        }
        if !decided.moved.is_empty() {
            self.count_event("moved slots");
        }
        let known = self.calendars.moved.entry(plan.schedule.clone()).or_default();
        known.extend(decided.moved);
        let Some(next) = plan.next_slot else { return };
        let expected = known.range(next..).copied();
        // Whether it keeps a slot that was skipped on request does not matter: the slot has its outcome.
        let settled = after.settled_slots();
        let kept = after.moved_slots().into_iter().filter(|slot| *slot >= next && !settled.contains(slot));
        let kept: Vec<Timestamp> = kept.collect();
        let expected: Vec<Timestamp> = expected.filter(|slot| !settled.contains(slot)).collect();
        if kept != expected && !self.is_recomputed(&plan.schedule) {
            self.fail(format_args!("{expected:?} were moved, and the schedule keeps {kept:?}: {after:?}"));
        }
    }

    /// The number of moved slots in `[from, until]`.
    pub fn moved_count(&self, row: &Schedule, from: Timestamp, until: Timestamp) -> u64 {
        self.calendars.moved_slots(&row.id, from, until).len() as u64
    }

    /// A calendar was set or deleted. Only one that no schedule names is deleted.
    pub fn check_calendar(&mut self, command: &Command, outcome: &Outcome) {
        let Command::SetCalendar { name, dates, .. } = command else { return };
        let is_used = self.schedule_rows().any(|row| {
            row.spec.compiled().is_ok_and(|spec| spec.spec().calendars.iter().any(|each| **each == **name))
        });
        if let Some(dates) = dates {
            let dates: Vec<String> = serde_json::from_str(dates).unwrap();
            let dates = dates.iter().map(|date| date.parse().unwrap()).collect();
            self.calendars.dates.insert(Arc::clone(name), dates);
            self.count_event("set a calendar");
            return;
        }
        let is_refused = matches!(outcome, Err(Rejection::CalendarInUse(_)));
        if is_refused != is_used {
            self.fail(format_args!("{name} is in use: {is_used}, and its deletion got {outcome:?}"));
        }
        if is_used {
            return self.count_event("kept a calendar in use");
        }
        self.calendars.dates.remove(name);
        self.count_event("deleted a calendar");
    }

    /// A schedule was changed, not by a decision. Moved slots stay until the trigger changes, and a
    /// schedule is broken only without its calendar.
    pub fn check_changed(&mut self, store: &dyn Store, before: &Schedule, row: &Schedule) {
        let fields = |row: &Schedule| row.spec.fields().unwrap().into_owned();
        let (old, new) = (fields(before), fields(row));
        if before.status != row.status {
            if row.status == ScheduleStatus::Broken {
                if self.calendars.missing(&new).is_none() {
                    self.fail(format_args!("its calendars exist, and broken is {row:?}"));
                }
                self.count_event("broken without its calendar");
            } else if before.status == ScheduleStatus::Broken && self.calendars.missing(&new).is_none() {
                self.count_event("continued with its calendar");
            }
        }
        if old.trigger_key() != new.trigger_key() {
            self.calendars.moved.remove(&row.id);
            return;
        }
        let (Some(from), true) = (before.next_slot, self.calendars.moved.contains_key(&row.id)) else {
            return;
        };
        let Some(next) = row.next_slot.filter(|next| *next > from && !self.is_recomputed(&row.id)) else {
            return;
        };
        let until = Timestamp::from_micros(next.as_micros() - 1);
        let mut passed = self.calendars.moved_slots(&row.id, from, until);
        let settled = row.settled_slots();
        passed.retain(|slot| !settled.contains(slot) && is_before_end(&new, *slot));
        if passed.is_empty() {
            return;
        }
        let page = Page { limit: 1_000, after: None };
        let history = store.history(PROJECT, &row.id, &page).unwrap().unwrap_or_default();
        if let Some(lost) = passed.iter().find(|slot| found_in_history(&history, **slot).is_none()) {
            self.fail(format_args!("{lost} was moved and is lost: {before:?} became {row:?}"));
        }
    }

    /// Due slots of a changed schedule that is on an excluded date are skipped, the others missed.
    pub fn check_discarded(
        &self,
        before: &Schedule,
        compiled_spec: &CompiledSpec,
        (first, now): (Timestamp, Timestamp),
        history: &[LedgerEntry],
    ) {
        let spec = compiled_spec.spec();
        if !has_exclusions(spec) || self.calendars.missing(spec).is_some() {
            return;
        }
        for slot in own_slots(compiled_spec, first, now) {
            let is_excluded = self.calendars.is_excluded(spec, local_date(spec, slot));
            let is_right = match found_in_history(history, slot) {
                Some(Found::Line(SlotOutcome::Skipped, says_so)) => says_so == is_excluded,
                Some(Found::Line(SlotOutcome::Missed, _)) => !is_excluded,
                // A run of a backfill.
                Some(Found::Line(SlotOutcome::Ran, _) | Found::Ran) | None => true,
            };
            if !is_right {
                self.fail(format_args!("{slot} is excluded: {is_excluded}, of {before:?} in {history:?}"));
            }
        }
    }

    fn has_stuck_schedule(&self) -> Option<Schedule> {
        let mut rows = self.schedule_rows();
        let is_stuck = |row: &&Schedule| {
            row.status == ScheduleStatus::Broken
                && row.spec.fields().is_some_and(|spec| self.calendars.missing(&spec).is_none())
        };
        rows.find(is_stuck).cloned()
    }
}

impl World {
    /// An operator sets or deletes a calendar.
    pub fn change_calendar(&mut self) {
        let name = *self.rng.pick(&NAMES);
        if self.rng.chance(300) {
            let (project, name) = (PROJECT.into(), name.into());
            return self.ask(Command::SetCalendar { project, name, dates: None });
        }
        self.set_calendar(name);
    }

    fn set_calendar(&mut self, name: &str) {
        let first = instant(Timestamp::from_micros(self.began - 2 * DAY)).to_zoned(TimeZone::UTC).date();
        let days = usize::try_from(self.pace.chaos / DAY).unwrap() + 10;
        let share = *self.rng.pick(&[0, 100, 300, 600]);
        let days = first.series(jiff::Span::new().days(1)).take(days);
        let mut dates: Vec<String> = Vec::new();
        // Some calendars close for longer than a slot can move.
        let is_long = self.rng.chance(50);
        for day in days {
            if is_long || self.rng.chance(share) {
                dates.push(day.to_string());
            }
        }
        if is_long {
            let end = first.checked_add(jiff::Span::new().days(60)).unwrap();
            dates.extend(
                first
                    .series(jiff::Span::new().days(1))
                    .take_while(|day| *day < end)
                    .map(|day| day.to_string()),
            );
            dates.sort_unstable();
            dates.dedup();
        }
        let dates = Some(serde_json::to_string(&dates).unwrap().into());
        self.ask(Command::SetCalendar { project: PROJECT.into(), name: name.into(), dates });
        self.mend();
    }

    /// Schedules continue whose calendar is there, as whoever sets a calendar makes them.
    fn mend(&mut self) {
        let mut page = Page { limit: 5, after: None };
        loop {
            let Ok((commands, after)) = mending(&self.api, &PROJECT.into(), &page) else { continue };
            if !commands.is_empty() {
                self.ask_all(&commands);
            }
            if after.is_none() {
                break;
            }
            page.after = after;
        }
        let stuck = self.checks.lock().has_stuck_schedule();
        if let Some(row) = stuck {
            self.checks.lock().fail(format_args!("its calendar was set, and broken is {row:?}"));
        }
    }

    /// In the end, all calendars exist.
    pub fn set_all_calendars(&mut self) {
        if self.theme == Theme::Calendars {
            for name in NAMES {
                self.set_calendar(name);
            }
        }
    }

    /// Whether the calendars exist that a specification names, as the API checks.
    pub fn has_calendars_of(&self, spec: &ScheduleSpec) -> bool {
        self.checks.lock().calendars.missing(spec).is_none()
    }

    /// Whether a worker may say that this schedule is broken.
    pub fn may_be_broken(&self, id: &ScheduleId) -> bool {
        let checks = self.checks.lock();
        let row = checks.schedule_rows().find(|row| row.id == *id);
        row.and_then(|row| row.spec.fields()).is_some_and(|spec| checks.calendars.missing(&spec).is_some())
    }
}

/// A schedule with days to skip.
pub fn any_spec(rng: &mut Rng, truth: i64, pace: Pace) -> ScheduleSpec {
    let mut fields = match rng.range(0, 9) {
        0..=7 => json!({"cron": *rng.pick(&CRONS)}),
        8 => json!({"every_us": rng.range(30, 600) * MINUTE}),
        _ => json!({"at_us": truth + rng.range(HOUR, pace.chaos / 2)}),
    };
    fields["timezone"] = json!(*rng.pick(&ZONES));
    fields["overlap"] = json!(*rng.pick(&["buffer_one", "skip", "buffer_all", "cancel_running", "allow"]));
    fields["catch_up"] = json!(*rng.pick(&["latest", "all", "none"]));
    fields["max_catch_up"] = json!(rng.range(1, 10));
    if rng.chance(300) {
        fields["catch_up_window_us"] = json!(rng.range(HOUR, 3 * DAY));
    }
    if rng.chance(200) {
        fields["jitter_us"] = json!(rng.range(1_000, 20 * MINUTE));
    }
    if rng.chance(100) {
        fields["max_runs"] = json!(rng.range(1, 10));
    }
    if rng.chance(100) {
        fields["end_at_us"] = json!(truth + rng.range(DAY, pace.chaos * 4 / 3));
    }
    let mut names: Vec<&str> = NAMES.to_vec();
    names.retain(|_| rng.chance(500));
    fields["calendars"] = json!(names);
    if rng.chance(300) {
        let day = instant(Timestamp::from_micros(truth + rng.range(0, pace.chaos)));
        fields["skip_dates"] = json!([day.to_zoned(TimeZone::UTC).date().to_string()]);
    }
    if rng.chance(300) {
        fields["skip_cron"] = json!([*rng.pick(&SKIP_CRONS)]);
    }
    let mut spec: ScheduleSpec = serde_json::from_value(fields).unwrap();
    if spec.every_us.is_none() && rng.chance(600) {
        spec.on_skip = Some(OnSkip::NextWorkday);
    }
    spec
}
