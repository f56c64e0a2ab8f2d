//! Decisions about slots: a table for every policy, then properties that hold for any schedule at
//! any time.
//!
//! Tables are on Monday 2026-03-02, UTC. A decision is written as one line per run or ledger line,
//! in the order of slots: `10:15 claim`, `10:15-10:45 missed 3`.
#![allow(clippy::unwrap_used, reason = "test helpers")]

use polos::calendar::{Timestamp, Zone};
use polos::model::spec::CompiledSpec;
use polos::model::{
    Admission, CatchUp, FirePlan, Overlap, RunId, RunState, Schedule, ScheduleId, ScheduleSpec,
    ScheduleStatus, SlotOutcome,
};
use polos::plan::transition::{Event, next_state};
use polos::plan::{Situation, plan_fire};
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;

use crate::property::config;

mod jitter;
mod recompute;
mod retry;
mod upcoming;

const SECOND: i64 = 1_000_000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

// ---- writing cases
// ---------------------------------------------------------------------------------------------------

/// `10:15` and `10:15:30` are on the day of the tables, `03-05T10:15` in its year; anything else is
/// RFC 3339.
fn at(text: &str) -> Timestamp {
    let full = match text.len() {
        5 => format!("2026-03-02T{text}:00Z"),
        8 => format!("2026-03-02T{text}Z"),
        11 => format!("2026-{text}:00Z"),
        _ => text.to_owned(),
    };
    Timestamp::from_micros(full.parse::<jiff::Timestamp>().unwrap().as_microsecond())
}

fn written(at: Timestamp) -> String {
    let full = at.to_string();
    let text = full.strip_prefix("2026-03-02T").or_else(|| full.strip_prefix("2026-")).unwrap_or(&full);
    let text = text.trim_end_matches('Z');
    text.strip_suffix(":00").unwrap_or(text).to_owned()
}

fn plus(at: Timestamp, micros: i64) -> Timestamp {
    Timestamp::from_micros(at.as_micros().saturating_add(micros))
}

fn spec(fields: &Value) -> ScheduleSpec {
    serde_json::from_value(fields.clone()).unwrap()
}

fn compiled_spec(fields: &Value) -> Arc<CompiledSpec> {
    Arc::new(CompiledSpec::new(spec(fields)).unwrap())
}

/// The input of one decision. By default, the worker has watched all along and no run is
/// unfinished.
struct Case {
    compiled_spec: Arc<CompiledSpec>,
    schedule: Schedule,
    situation: Situation,
}

/// A schedule with these fields and next slot `next`, decided at `now`.
fn when(fields: &Value, next: &str, now: &str) -> Case {
    let schedule = schedule(Some(at(next)));
    let compiled_spec = Arc::new(schedule.bound(&compiled_spec(fields)));
    let situation = Situation {
        now: at(now),
        horizon: at(now),
        watching_since: Timestamp::MIN,
        unfinished_count: 0,
        buffered_count: 0,
    };
    Case { compiled_spec, schedule, situation }
}

fn schedule(next_slot: Option<Timestamp>) -> Schedule {
    Schedule {
        id: ScheduleId::from("sch_test"),
        project: "default".into(),
        workflow: "wf".into(),
        key: "global".into(),
        owner: None,
        spec: "{}".into(),
        input: None,
        status: ScheduleStatus::Active,
        note: None,
        next_slot,
        last_slot: None,
        run_count: 0,
        failure_count: 0,
        attended_from: Timestamp::MIN,
        created_at: Timestamp::MIN,
        updated_at: Timestamp::MIN,
        revision: 7,
        declaration: None,
        settled: None,
        counts: polos::model::StoredCounts::default(),
        tags: None,
    }
}

impl Case {
    /// No worker watched until now.
    fn unwatched(self) -> Self {
        let now = written_full(self.situation.now);
        self.watched_from(&now)
    }

    fn watched_from(mut self, from: &str) -> Self {
        self.situation.watching_since = at(from);
        self
    }

    fn resumed_at(mut self, from: &str) -> Self {
        self.schedule.attended_from = at(from);
        self
    }

    fn unfinished(mut self, count: u32) -> Self {
        self.situation.unfinished_count = count;
        self
    }

    fn buffered(mut self, count: u32) -> Self {
        self.situation.buffered_count = count;
        self
    }

    fn with_lead(mut self, lead_us: i64) -> Self {
        self.situation.horizon = plus(self.situation.now, lead_us);
        self
    }

    fn after_runs(mut self, count: u64) -> Self {
        self.schedule.run_count = count;
        self
    }

    fn plan(&self) -> Option<FirePlan> {
        plan_fire(&self.schedule, &self.compiled_spec, &self.situation)
    }

    #[track_caller]
    fn gives(&self, expected: &[&str]) -> FirePlan {
        let plan = self.plan().expect("a decision");
        check_rules(self, &plan);
        assert_eq!(lines(&plan), expected);
        plan
    }

    #[track_caller]
    fn gives_nothing_yet(&self) {
        assert_eq!(self.plan(), None);
    }
}

fn written_full(at: Timestamp) -> String {
    at.to_string()
}

fn lines(plan: &FirePlan) -> Vec<String> {
    let mut all: Vec<(Timestamp, String)> = Vec::new();
    for run in &plan.runs {
        let admission = match run.admission {
            Admission::Claim => "claim",
            Admission::Queue => "queue",
            Admission::Behind => "behind",
        };
        all.push((run.slot, format!("{} {admission}", written(run.slot))));
    }
    for line in &plan.ledger {
        let outcome = match line.outcome {
            SlotOutcome::Skipped => "skipped",
            SlotOutcome::Missed => "missed",
            SlotOutcome::Ran => "ran",
        };
        let from = written(line.from);
        let slots = if line.from == line.until { from } else { format!("{from}-{}", written(line.until)) };
        all.push((line.from, format!("{slots} {outcome} {}", line.count)));
    }
    all.sort();
    all.into_iter().map(|(_, text)| text).collect()
}

fn quarterly(more: &Value) -> Value {
    let mut fields = json!({"cron": "*/15 * * * *"});
    fields.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    fields
}

// ---- when there is something to decide
// -------------------------------------------------------------------------------

#[test]
fn a_slot_fires_at_its_instant_and_not_before() {
    let fields = quarterly(&json!({}));
    when(&fields, "10:15", "10:14:59").gives_nothing_yet();
    let plan = when(&fields, "10:15", "10:15").gives(&["10:15 claim"]);
    assert_eq!(plan.next_slot, Some(at("10:30")));
    assert_eq!((plan.status, plan.revision), (ScheduleStatus::Active, 7));
    assert_eq!(plan.runs[0].id, RunId::of_slot(&ScheduleId::from("sch_test"), at("10:15")));
}

#[test]
fn a_schedule_without_a_next_slot_decides_nothing() {
    let mut case = when(&quarterly(&json!({})), "10:15", "11:00");
    case.schedule.next_slot = None;
    case.gives_nothing_yet();
}

#[test]
fn a_slot_within_the_lead_is_planned_early() {
    let plan = when(&quarterly(&json!({})), "10:15", "10:14:59").with_lead(SECOND).gives(&["10:15 claim"]);
    assert_eq!(plan.runs[0].available_at, at("10:15"), "planned early is not started early");
    assert_eq!(plan.next_slot, Some(at("10:30")));
    when(&quarterly(&json!({})), "10:15", "10:14:58").with_lead(SECOND).gives_nothing_yet();
}

#[test]
fn nothing_is_planned_early_while_a_run_is_unfinished() {
    for overlap in ["buffer_one", "skip", "buffer_all", "cancel_running"] {
        let fields = quarterly(&json!({"overlap": overlap}));
        when(&fields, "10:15", "10:14:59").with_lead(SECOND).unfinished(1).gives_nothing_yet();
    }
    let allow = quarterly(&json!({"overlap": "allow"}));
    when(&allow, "10:15", "10:14:59").with_lead(SECOND).unfinished(1).gives(&["10:15 claim"]);
}

#[test]
fn an_excluded_slot_can_be_skipped_early() {
    let fields = quarterly(&json!({"skip_dates": ["2026-03-02"]}));
    let plan = when(&fields, "10:15", "10:14:59").with_lead(SECOND).gives(&["10:15 skipped 1"]);
    assert_eq!(&*plan.ledger[0].reason, "2026-03-02 is excluded");
}

#[test]
fn a_clock_set_back_before_the_next_slot_decides_nothing() {
    when(&quarterly(&json!({})), "10:15", "09:00").gives_nothing_yet();
    when(&quarterly(&json!({})), "10:15", "0001-01-01T00:00:00Z").gives_nothing_yet();
}

// ---- overlap
// ---------------------------------------------------------------------------------------------------------

#[test]
fn without_an_unfinished_run_every_overlap_policy_claims() {
    for overlap in ["buffer_one", "skip", "buffer_all", "cancel_running", "allow"] {
        let fields = quarterly(&json!({"overlap": overlap}));
        let plan = when(&fields, "10:15", "10:15").gives(&["10:15 claim"]);
        assert!(!plan.cancel_unfinished, "{overlap}");
    }
}

#[test]
fn buffer_one_buffers_one_run_and_skips_the_next() {
    let fields = quarterly(&json!({}));
    when(&fields, "10:15", "10:15").unfinished(1).gives(&["10:15 behind"]);
    let plan = when(&fields, "10:15", "10:15").unfinished(2).buffered(1).gives(&["10:15 skipped 1"]);
    assert!(plan.ledger[0].reason.contains("overlap"), "{}", plan.ledger[0].reason);
    when(&fields, "10:15", "10:46").gives(&["10:15 claim", "10:30 behind", "10:45 skipped 1"]);
}

#[test]
fn skip_neither_runs_nor_buffers_beside_an_unfinished_run() {
    let fields = quarterly(&json!({"overlap": "skip"}));
    when(&fields, "10:15", "10:15").unfinished(1).gives(&["10:15 skipped 1"]);
    when(&fields, "10:15", "10:31").gives(&["10:15 claim", "10:30 skipped 1"]);
}

#[test]
fn buffer_all_buffers_every_slot() {
    let fields = quarterly(&json!({"overlap": "buffer_all"}));
    when(&fields, "10:15", "10:46").unfinished(9).buffered(8).gives(&[
        "10:15 behind",
        "10:30 behind",
        "10:45 behind",
    ]);
}

#[test]
fn allow_runs_all_concurrently() {
    let fields = quarterly(&json!({"overlap": "allow"}));
    when(&fields, "10:15", "10:46").unfinished(9).gives(&["10:15 claim", "10:30 claim", "10:45 claim"]);
}

#[test]
fn cancel_running_cancels_and_waits_for_the_end() {
    let fields = quarterly(&json!({"overlap": "cancel_running"}));
    let plan = when(&fields, "10:15", "10:15").unfinished(1).gives(&["10:15 behind"]);
    assert!(plan.cancel_unfinished);
}

#[test]
fn of_slots_that_cancel_each_other_the_newest_runs() {
    let fields = quarterly(&json!({"overlap": "cancel_running"}));
    let mut case = when(&fields, "10:15", "10:46").unfinished(1);
    case.schedule.last_slot = Some(at("10:00"));
    let plan = case.gives(&["10:15 skipped 1", "10:30 skipped 1", "10:45 behind"]);
    assert!(plan.cancel_unfinished);
    assert_eq!(plan.runs[0].last_slot, Some(at("10:00")), "the slots between never started");
}

// ---- catch-up
// --------------------------------------------------------------------------------------------------------

#[test]
fn a_month_of_downtime_makes_one_run() {
    let case = when(&quarterly(&json!({})), "10:15", "04-02T10:20").unwatched();
    let plan = case.gives(&[
        // Thirty days and a quarter of an hour before 10:20 on the 2nd of April.
        "10:15-04-01T10:15 missed 2881",
        "04-01T10:30-04-02T10:00 missed 95",
        "04-02T10:15 claim",
    ]);
    assert_eq!(&*plan.ledger[0].reason, "older than the catch-up window");
    assert_eq!(&*plan.ledger[1].reason, "no worker could run it on time; a newer slot replaces it");
    assert_eq!(plan.next_slot, Some(at("04-02T10:30")));
}

#[test]
fn latest_prefers_the_newest_missed_slot() {
    when(&quarterly(&json!({})), "10:15", "11:10")
        .unwatched()
        .gives(&["10:15-10:45 missed 3", "11:00 claim"]);
    when(&quarterly(&json!({})), "10:15", "10:20").unwatched().gives(&["10:15 claim"]);
}

#[test]
fn slots_on_time_run_beside_the_one_caught_up() {
    let fields = quarterly(&json!({"overlap": "buffer_all"}));
    when(&fields, "10:00", "10:46").watched_from("10:20").gives(&[
        "10:00 missed 1",
        "10:15 claim",
        "10:30 behind",
        "10:45 behind",
    ]);
}

#[test]
fn all_catches_up_oldest_first_one_after_the_other() {
    for overlap in ["buffer_one", "skip", "buffer_all"] {
        let fields = quarterly(&json!({"overlap": overlap, "catch_up": "all"}));
        let plan = when(&fields, "10:15", "10:50").unwatched().gives(&[
            "10:15 claim",
            "10:30 behind",
            "10:45 behind",
        ]);
        assert!(!plan.cancel_unfinished, "{overlap}");
    }
}

#[test]
fn of_late_slots_that_cancel_each_other_the_newest_is_caught_up() {
    let fields = quarterly(&json!({"overlap": "cancel_running", "catch_up": "all"}));
    let late = ["10:15 skipped 1", "10:30 skipped 1", "10:45 behind"];
    let plan = when(&fields, "10:15", "10:50").unwatched().gives(&late);
    assert_eq!(&*plan.ledger[0].reason, "overlap: a newer slot cancelled it before it started");
    // A run that was running when the outage began is cancelled, too.
    assert!(when(&fields, "10:15", "10:50").unwatched().unfinished(1).gives(&late).cancel_unfinished);
    when(&fields, "10:15", "10:20").unwatched().gives(&["10:15 claim"]);
}

#[test]
fn all_catches_up_concurrently_if_overlap_is_allowed() {
    let fields = quarterly(&json!({"overlap": "allow", "catch_up": "all"}));
    when(&fields, "10:15", "10:35").unwatched().gives(&["10:15 claim", "10:30 claim"]);
}

#[test]
fn all_catches_up_the_newest_of_too_many() {
    let fields = quarterly(&json!({"catch_up": "all", "max_catch_up": 2}));
    let plan = when(&fields, "10:00", "10:50").unwatched().gives(&[
        "10:00-10:15 missed 2",
        "10:30 claim",
        "10:45 behind",
    ]);
    assert!(plan.ledger[0].reason.contains("max_catch_up"), "{}", plan.ledger[0].reason);
}

#[test]
fn none_catches_up_nothing() {
    let fields = quarterly(&json!({"catch_up": "none"}));
    let plan = when(&fields, "10:15", "10:50").unwatched().gives(&["10:15-10:45 missed 3"]);
    assert_eq!(plan.next_slot, Some(at("11:00")));
    when(&fields, "10:15", "10:50").watched_from("10:40").gives(&["10:15-10:30 missed 2", "10:45 claim"]);
}

#[test]
fn slots_older_than_the_window_are_missed_whatever_the_policy() {
    let fields = quarterly(&json!({"catch_up": "all", "catch_up_window_us": 30 * MINUTE}));
    let plan = when(&fields, "10:00", "10:59").unwatched().gives(&[
        "10:00-10:15 missed 2",
        "10:30 claim",
        "10:45 behind",
    ]);
    assert_eq!(&*plan.ledger[0].reason, "older than the catch-up window");
    let latest = quarterly(&json!({"catch_up_window_us": 2 * MINUTE}));
    when(&latest, "10:00", "10:20").unwatched().gives(&["10:00-10:15 missed 2"]);
}

#[test]
fn the_edge_of_the_window_is_inside() {
    let fields = quarterly(&json!({"catch_up": "all", "catch_up_window_us": 15 * MINUTE}));
    when(&fields, "10:00", "10:15").unwatched().gives(&["10:00 claim", "10:15 behind"]);
}

#[test]
fn an_empty_window_still_runs_slots_on_time() {
    let fields = quarterly(&json!({"catch_up_window_us": 0, "overlap": "buffer_all"}));
    when(&fields, "10:15", "10:15:01").unfinished(1).gives(&["10:15 behind"]);
    when(&fields, "10:15", "10:15:01").unwatched().gives(&["10:15 missed 1"]);
}

#[test]
fn slots_from_before_the_resumption_are_late() {
    let fields = quarterly(&json!({"overlap": "buffer_all"}));
    when(&fields, "10:00", "10:31").resumed_at("10:20").gives(&[
        "10:00 missed 1",
        "10:15 claim",
        "10:30 behind",
    ]);
    let none = quarterly(&json!({"catch_up": "none"}));
    when(&none, "10:00", "10:31").resumed_at("10:20").gives(&["10:00-10:15 missed 2", "10:30 claim"]);
}

#[test]
fn a_slot_at_the_moment_of_the_first_look_is_on_time() {
    let fields = quarterly(&json!({"catch_up": "none"}));
    when(&fields, "10:15", "10:15").watched_from("10:15").resumed_at("10:15").gives(&["10:15 claim"]);
}

#[test]
fn caught_up_runs_obey_overlap() {
    when(&quarterly(&json!({"overlap": "skip"})), "10:15", "10:20")
        .unwatched()
        .unfinished(1)
        .gives(&["10:15 skipped 1"]);
    when(&quarterly(&json!({})), "10:15", "10:20").unwatched().unfinished(1).gives(&["10:15 behind"]);
    when(&quarterly(&json!({"catch_up": "all", "overlap": "skip"})), "10:15", "10:20")
        .unwatched()
        .unfinished(1)
        .gives(&["10:15 behind"]);
}

// ---- limits
// ----------------------------------------------------------------------------------------------------------

#[test]
fn the_last_of_max_runs_finishes_the_schedule() {
    let fields = quarterly(&json!({"max_runs": 3}));
    let plan = when(&fields, "10:15", "10:15").after_runs(2).gives(&["10:15 claim"]);
    assert_eq!((plan.next_slot, plan.status), (None, ScheduleStatus::Finished));
    assert_eq!(plan.runs[0].upcoming, None);
    let plan = when(&fields, "10:15", "10:15").after_runs(1).gives(&["10:15 claim"]);
    assert_eq!((plan.next_slot, plan.status), (Some(at("10:30")), ScheduleStatus::Active));
}

#[test]
fn slots_after_the_last_of_max_runs_are_not_missed() {
    // The schedule was finished by then, so it missed nothing.
    let fields = quarterly(&json!({"max_runs": 2, "overlap": "buffer_all"}));
    let plan = when(&fields, "10:15", "11:00").gives(&["10:15 claim", "10:30 behind"]);
    assert_eq!((plan.next_slot, plan.status), (None, ScheduleStatus::Finished));
}

#[test]
fn a_skipped_slot_uses_up_none_of_max_runs() {
    let fields = quarterly(&json!({"max_runs": 1, "overlap": "skip"}));
    let plan = when(&fields, "10:15", "10:31").unfinished(1).gives(&["10:15 skipped 1", "10:30 skipped 1"]);
    assert_eq!(plan.status, ScheduleStatus::Active);
    assert!(plan.ledger.iter().all(|line| line.reason.contains("overlap")), "{:?}", plan.ledger);
}

#[test]
fn no_slot_at_or_after_end_at() {
    let fields = quarterly(&json!({"end_at_us": at("10:45").as_micros(), "overlap": "buffer_all"}));
    let plan = when(&fields, "10:15", "11:00").gives(&["10:15 claim", "10:30 behind"]);
    assert_eq!((plan.next_slot, plan.status), (None, ScheduleStatus::Finished));
    assert_eq!(plan.runs[1].upcoming, None);
}

#[test]
fn no_slot_before_start_at() {
    let fields = quarterly(&json!({"start_at_us": at("10:20").as_micros()}));
    assert_eq!(compiled_spec(&fields).next(at("09:00")), Some(at("10:30")));
    assert_eq!(compiled_spec(&fields).prev(at("10:29")), None);
}

#[test]
fn a_period_counts_from_start_at() {
    let fields = json!({"every_us": 40 * MINUTE, "start_at_us": at("10:10").as_micros(), "overlap": "allow"});
    let plan = when(&fields, "10:10", "11:30").gives(&["10:10 claim", "10:50 claim", "11:30 claim"]);
    assert_eq!(plan.next_slot, Some(at("12:10")));
    assert_eq!(compiled_spec(&json!({"every_us": 30 * SECOND})).next(at("10:00:01")), Some(at("10:00:30")));
}

#[test]
fn a_single_instant_fires_once() {
    let fields = json!({"at_us": at("10:15").as_micros()});
    let plan = when(&fields, "10:15", "10:16").gives(&["10:15 claim"]);
    assert_eq!((plan.next_slot, plan.status), (None, ScheduleStatus::Finished));
    when(&fields, "10:15", "03-02T10:16").unwatched().gives(&["10:15 claim"]);
    when(&fields, "10:15", "03-04T10:16").unwatched().gives(&["10:15 missed 1"]);
}

// ---- excluded dates
// --------------------------------------------------------------------------------------------------

#[test]
fn an_excluded_date_is_skipped_with_its_name() {
    let fields = json!({"cron": "0 9 * * *", "skip_dates": ["2026-03-02"]});
    let plan = when(&fields, "09:00", "09:00").gives(&["09:00 skipped 1"]);
    assert_eq!(&*plan.ledger[0].reason, "2026-03-02 is excluded");
    assert_eq!(plan.next_slot, Some(at("03-03T09:00")));
}

#[test]
fn the_first_minute_of_an_excluded_date_is_excluded() {
    let fields = json!({"cron": "0 0 * * *", "catch_up_window_us": 30 * DAY, "skip_dates": ["2026-03-03"]});
    when(&fields, "00:00", "03-03T09:00").unwatched().gives(&["00:00 claim", "03-03T00:00 skipped 1"]);
    when(&fields, "03-03T00:00", "03-03T00:00").gives(&["03-03T00:00 skipped 1"]);
}

#[test]
fn an_excluded_date_is_a_date_in_the_zone_of_the_schedule() {
    // 23:30 in New York is the day before in Greenwich's morning.
    let fields = json!({"cron": "30 23 * * *", "timezone": "America/New_York", "skip_dates": ["2026-03-01"]});
    when(&fields, "04:30", "04:30").gives(&["04:30 skipped 1"]);
}

#[test]
fn excluded_slots_do_not_count_against_the_catch_up_limit() {
    let fields = json!({"cron": "0 9 * * *", "catch_up_window_us": 30 * DAY, "skip_dates": ["2026-03-04", "2026-03-05"]});
    when(&fields, "09:00", "03-05T12:00").unwatched().gives(&[
        "09:00 missed 1",
        "03-03T09:00 claim",
        "03-04T09:00 skipped 1",
        "03-05T09:00 skipped 1",
    ]);
}

#[test]
fn slots_on_days_that_an_expression_excludes_are_skipped() {
    let fields = json!({"cron": "0 9 * * *", "catch_up_window_us": 30 * DAY, "skip_cron": ["* * 4-5 * *"]});
    when(&fields, "09:00", "03-06T12:00").unwatched().gives(&[
        "09:00-03-03T09:00 missed 2",
        "03-04T09:00 skipped 1",
        "03-05T09:00 skipped 1",
        "03-06T09:00 claim",
    ]);
}

/// Each Friday, but not on 6 March.
fn fridays() -> Value {
    json!({"cron": "0 9 * * 5", "skip_dates": ["2026-03-06"], "on_skip": "next_workday",
        "catch_up_window_us": 30 * DAY})
}

#[test]
fn a_slot_on_an_excluded_date_is_moved_when_it_is_decided() {
    let mut case = when(&fridays(), "03-06T09:00", "03-06T09:00");
    let plan = case.gives(&["03-06T09:00 skipped 1"]);
    assert_eq!(&*plan.ledger[0].reason, "2026-03-06 is excluded; moved to 2026-03-09");
    assert_eq!(plan.next_slot, Some(at("03-09T09:00")));
    case.schedule.next_slot = plan.next_slot;
    case.schedule.settled = plan.settled.expect("the moved slot is kept");
    // Whatever is excluded by then.
    let unlisted = json!({"cron": "0 9 * * 5", "on_skip": "next_workday"});
    for fields in [fridays(), unlisted] {
        case.compiled_spec = Arc::new(case.schedule.bound(&compiled_spec(&fields)));
        (case.situation.now, case.situation.horizon) = (at("03-09T09:00"), at("03-09T09:00"));
        let plan = case.gives(&["03-09T09:00 claim"]);
        assert_eq!(plan.next_slot, Some(at("03-13T09:00")));
        assert_eq!(plan.settled, None, "it stays known, since the claim may be revoked");
    }
}

#[test]
fn a_schedule_knows_where_its_next_slot_moves() {
    let spec = json!({"cron": "0 9 * * 5", "on_skip": "next_workday", "skip_dates": ["2026-03-06"]});
    let stored = Schedule { spec: spec.to_string().as_str().into(), ..schedule(Some(at("03-06T09:00"))) };
    let slots = stored.compiled_spec().unwrap();
    assert_eq!(slots.next(at("03-06T09:00")), Some(at("03-09T09:00")));
}

#[test]
fn a_date_that_is_excluded_after_its_slot_has_run_moves_nothing() {
    let plan = when(&fridays(), "03-13T09:00", "03-13T09:00").gives(&["03-13T09:00 claim"]);
    assert_eq!((plan.next_slot, plan.settled), (Some(at("03-20T09:00")), None));
}

#[test]
fn a_moved_slot_can_be_caught_up() {
    when(&fridays(), "03-06T09:00", "03-10T12:00")
        .unwatched()
        .gives(&["03-06T09:00 skipped 1", "03-09T09:00 claim"]);
}

#[test]
fn a_moved_slot_at_the_time_of_another_is_one() {
    let mut fields = fridays();
    fields["cron"] = json!("0 9 * * 1,5");
    let plan = when(&fields, "03-06T09:00", "03-06T09:00").gives(&["03-06T09:00 skipped 1"]);
    assert_eq!((plan.next_slot, plan.settled), (Some(at("03-09T09:00")), None));
    when(&fields, "03-09T09:00", "03-09T09:00").gives(&["03-09T09:00 claim"]);
}

#[test]
fn upcoming_passes_over_excluded_dates_and_next_slot_does_not() {
    let fields = json!({"cron": "0 9 * * *", "skip_dates": ["2026-03-03"]});
    let plan = when(&fields, "09:00", "09:00").gives(&["09:00 claim"]);
    assert_eq!(plan.next_slot, Some(at("03-03T09:00")), "the ledger will say why it was skipped");
    assert_eq!(plan.runs[0].upcoming, Some(at("03-04T09:00")));
}

#[test]
fn upcoming_passes_over_a_date_full_of_slots() {
    let compiled_spec =
        compiled_spec(&json!({"every_us": SECOND, "skip_dates": ["2026-03-03", "2026-03-04"]}));
    assert_eq!(compiled_spec.upcoming(at("23:59:59")), Some(at("03-05T00:00")));
}

#[test]
fn a_date_that_the_clock_returns_to_is_excluded_both_times() {
    // Until 2011 Newfoundland set its clocks back at one minute past midnight, into the evening
    // before.
    let fields = json!({"cron": "*/30 * * * *", "timezone": "America/St_Johns", "skip_dates": ["2010-11-06"],
        "catch_up_window_us": 30 * DAY});
    let (first, now) = ("2010-11-07T01:00:00Z", "2010-11-07T05:00:01Z");
    let plan = when(&fields, first, now).unwatched().plan().unwrap();
    let skipped = |line: &&polos::model::LedgerLine| line.outcome == SlotOutcome::Skipped;
    // 22:30 to 23:30, midnight itself is the 7th, then 23:30 once more.
    let slots: Vec<_> =
        plan.ledger.iter().filter(skipped).map(|line| (line.from.to_string(), line.count)).collect();
    assert_eq!(slots, [("2010-11-07T01:00:00Z".to_owned(), 3), ("2010-11-07T03:00:00Z".to_owned(), 1)]);
}

#[test]
fn years_of_seconds_with_an_excluded_date_are_counted_quickly() {
    let fields = json!({"every_us": SECOND, "skip_dates": ["2026-03-04"], "catch_up_window_us": 4_000 * DAY});
    let plan = when(&fields, "10:00", "2036-03-02T10:00:00Z").unwatched().plan().unwrap();
    let counts: Vec<(SlotOutcome, u64)> = plan.ledger.iter().map(|line| (line.outcome, line.count)).collect();
    assert_eq!(
        counts,
        [
            (SlotOutcome::Missed, 38 * 3_600),
            (SlotOutcome::Skipped, 86_400),
            (SlotOutcome::Missed, 315_619_199 - 38 * 3_600 - 86_400),
        ]
    );
}

// ---- jitter
// ----------------------------------------------------------------------------------------------------------

#[test]
fn jitter_delays_the_start_and_leaves_the_slot_alone() {
    let fields = quarterly(&json!({"jitter_us": 10 * MINUTE}));
    let plan = when(&fields, "10:15", "10:15").gives(&["10:15 queue"]);
    let run = &plan.runs[0];
    assert!(run.available_at > at("10:15") && run.available_at < at("10:25"), "{:?}", run.available_at);
    assert_eq!(when(&fields, "10:15", "10:15").plan(), Some(plan), "the delay belongs to the slot");
}

#[test]
fn a_delay_that_is_over_is_claimed_at_once() {
    let fields = quarterly(&json!({"jitter_us": 10 * MINUTE}));
    when(&fields, "10:15", "10:29").gives(&["10:15 claim"]);
}

#[test]
fn a_delayed_run_counts_as_unfinished_for_the_next_slot() {
    let fields = quarterly(&json!({"jitter_us": 40 * MINUTE, "overlap": "skip"}));
    when(&fields, "10:15", "10:15").gives(&["10:15 queue"]);
    when(&fields, "10:30", "10:30").unfinished(1).gives(&["10:30 skipped 1"]);
}

// ---- zone data that changed
// ------------------------------------------------------------------------------------------

#[test]
fn a_promised_slot_that_the_zone_no_longer_knows_is_kept() {
    when(&quarterly(&json!({})), "10:07", "10:10").gives(&["10:07 claim"]);
    let all = quarterly(&json!({"catch_up": "all"}));
    when(&all, "10:07", "10:31").unwatched().gives(&["10:07 claim", "10:15 behind", "10:30 behind"]);
    when(&quarterly(&json!({})), "10:07", "10:31")
        .unwatched()
        .gives(&["10:07-10:15 missed 2", "10:30 claim"]);
}

#[test]
fn a_promised_slot_enters_the_ledger_among_excluded_dates_too() {
    let fields = quarterly(&json!({"skip_dates": ["2026-12-25"]}));
    when(&fields, "10:07", "10:31").unwatched().gives(&["10:07-10:15 missed 2", "10:30 claim"]);
}

#[test]
fn slots_across_a_change_of_the_clocks_are_those_of_the_calendar() {
    let fields = json!({"cron": "30 2 * * *", "timezone": "America/New_York", "catch_up": "all",
        "catch_up_window_us": 30 * DAY});
    when(&fields, "03-07T07:30", "03-09T12:00").unwatched().gives(&[
        "03-07T07:30 claim",
        "03-08T07:00 behind",
        "03-09T06:30 behind",
    ]);
}

// ---- the payload's chain
// ---------------------------------------------------------------------------------------------

#[test]
fn each_run_knows_its_neighbours() {
    let fields = quarterly(&json!({"overlap": "buffer_all"}));
    let mut case = when(&fields, "10:15", "10:46");
    case.schedule.last_slot = Some(at("09:30"));
    let plan = case.plan().unwrap();
    let chain: Vec<_> = plan.runs.iter().map(|run| (run.last_slot, run.slot, run.upcoming)).collect();
    assert_eq!(
        chain,
        [
            (Some(at("09:30")), at("10:15"), Some(at("10:30"))),
            (Some(at("10:15")), at("10:30"), Some(at("10:45"))),
            (Some(at("10:30")), at("10:45"), Some(at("11:00"))),
        ]
    );
}

#[test]
fn upcoming_is_the_slot_that_comes_for_a_thousand_fires() {
    let fields = json!({"cron": "*/7 3-22 * * MON-FRI", "timezone": "Europe/London", "overlap": "allow"});
    let compiled_spec = compiled_spec(&fields);
    let mut promised = compiled_spec.next(at("03-20T10:00"));
    let mut row = schedule(promised);
    for _ in 0..1_000 {
        let now = row.next_slot.unwrap();
        let situation = Situation {
            now,
            horizon: now,
            watching_since: Timestamp::MIN,
            unfinished_count: 0,
            buffered_count: 0,
        };
        let plan = plan_fire(&row, &compiled_spec, &situation).unwrap();
        assert_eq!(Some(plan.runs[0].slot), promised);
        assert_eq!(plan.runs[0].last_slot, row.last_slot);
        promised = plan.runs[0].upcoming;
        row.last_slot = Some(plan.runs[0].slot);
        row.next_slot = plan.next_slot;
    }
}

// ---- what must hold for any decision
// ---------------------------------------------------------------------------------

/// Every slot from the old next slot up to now has exactly one outcome, and the plan is consistent.
fn check_rules(case: &Case, plan: &FirePlan) {
    let Case { compiled_spec, schedule, situation } = case;
    let first = schedule.next_slot.unwrap();
    let is_slot = |slot: Timestamp| compiled_spec.prev(slot) == Some(slot);
    let max_runs = compiled_spec.spec().max_runs;
    let run_count = schedule.run_count + plan.runs.len() as u64;
    let is_used_up = max_runs.is_some_and(|max| run_count >= max);
    let last = if first > situation.now {
        first
    } else if is_used_up {
        plan.runs.last().map_or(first, |run| run.slot)
    } else {
        compiled_spec.prev(situation.now).map_or(first, |slot| slot.max(first))
    };

    // Exactly one outcome.
    let mut covers: Vec<(Timestamp, Timestamp, u64)> =
        plan.runs.iter().map(|run| (run.slot, run.slot, 1)).collect();
    covers.extend(plan.ledger.iter().map(|line| (line.from, line.until, line.count)));
    covers.sort_unstable();
    let slots_in = |from: Timestamp, until: Timestamp| {
        let stray = from <= first && first <= until && !is_slot(first);
        compiled_spec.count(plus(from, -1), until) + u64::from(stray)
    };
    for (from, until, count) in &covers {
        assert!(from <= until && (is_slot(*from) || *from == first) && (is_slot(*until) || *until == first));
        assert_eq!(slots_in(*from, *until), *count, "{from}-{until}");
    }
    for pair in covers.windows(2) {
        assert!(pair[0].1 < pair[1].0, "{pair:?}");
    }
    if let (Some(start), Some(end)) = (covers.first(), covers.last()) {
        assert!(start.0 >= first && end.1 <= last, "{covers:?} outside {first}-{last}");
    }
    let covered: u64 = covers.iter().map(|(_, _, count)| count).sum();
    assert_eq!(covered, slots_in(first, last), "{:?}", lines(plan));

    // The runs.
    let mut last_slot = schedule.last_slot;
    for run in &plan.runs {
        assert_eq!((run.last_slot, &run.id), (last_slot, &RunId::of_slot(&schedule.id, run.slot)));
        assert!(compiled_spec.excluded_on(run.slot).is_none());
        let delay = run.available_at.as_micros() - run.slot.as_micros();
        assert!((0..=compiled_spec.spec().jitter_us.max(0)).contains(&delay), "{delay}");
        assert!(run.admission != Admission::Claim || run.available_at <= situation.horizon);
        last_slot = Some(run.slot);
    }
    assert!(plan.runs.windows(2).all(|pair| pair[0].slot < pair[1].slot));
    assert!(plan.runs.windows(2).all(|pair| pair[0].upcoming == Some(pair[1].slot)));
    let after = last.max(situation.now);
    if let Some(run) = plan.runs.last() {
        assert_eq!(run.upcoming, if is_used_up { None } else { compiled_spec.upcoming(after) });
    }
    assert!(max_runs.is_none_or(|max| plan.runs.is_empty() || run_count <= max));

    // The next slot.
    assert_eq!(plan.next_slot, if is_used_up { None } else { compiled_spec.next(after) });
    assert!(plan.next_slot.is_none_or(|slot| slot > situation.now && is_slot(slot)));
    assert_eq!(plan.status == ScheduleStatus::Finished, plan.next_slot.is_none());
    assert_eq!(plan.revision, schedule.revision);

    // Overlap: which runs may start at once.
    let at_once = plan.runs.iter().filter(|run| run.admission != Admission::Behind).count();
    if compiled_spec.spec().overlap != Overlap::Allow {
        assert!(at_once <= usize::from(situation.unfinished_count == 0), "{:?}", lines(plan));
    }
}

/// The policies once more, slot by slot, as a user would explain them.
fn explained(case: &Case) -> BTreeSet<(Timestamp, &'static str)> {
    let Case { compiled_spec, schedule, situation } = case;
    let spec = compiled_spec.spec();
    let first = schedule.next_slot.unwrap();
    let mut slots = vec![first];
    while let Some(slot) = compiled_spec.next(*slots.last().unwrap()).filter(|slot| *slot <= situation.now) {
        slots.push(slot);
    }
    let attended_from = situation.watching_since.max(schedule.attended_from);
    let window_start = plus(situation.now, -spec.catch_up_window_us);
    let is_excluded = |slot: &Timestamp| compiled_spec.excluded_on(*slot).is_some();
    let is_late = |slot: &Timestamp| *slot < attended_from;
    let turns = match spec.catch_up {
        CatchUp::Latest => 1,
        CatchUp::All => spec.max_catch_up as usize,
        CatchUp::None => 0,
    };
    let caught_up: BTreeSet<Timestamp> = slots
        .iter()
        .copied()
        .filter(|slot| is_late(slot) && *slot >= window_start && !is_excluded(slot))
        .rev()
        .take(turns)
        .collect();

    if spec.max_runs.is_some_and(|max| schedule.run_count >= max) {
        return BTreeSet::from([(first, "skipped")]);
    }
    let mut outcomes: Vec<(Timestamp, &'static str)> = Vec::new();
    let (mut unfinished, mut buffered) = (situation.unfinished_count, situation.buffered_count);
    for slot in slots {
        let ran = outcomes.iter().filter(|(_, outcome)| *outcome == "run").count() as u64;
        if spec.max_runs.is_some_and(|max| schedule.run_count + ran >= max) {
            break;
        }
        let is_wanted = caught_up.contains(&slot) || !is_late(&slot);
        let cancels = spec.overlap == Overlap::CancelRunning;
        let waits_anyway = is_late(&slot) && spec.catch_up == CatchUp::All && !cancels;
        let outcome = if is_excluded(&slot) {
            "skipped"
        } else if !is_wanted {
            "missed"
        } else if unfinished == 0 || spec.overlap == Overlap::Allow {
            "run"
        } else if waits_anyway || spec.overlap == Overlap::BufferAll {
            buffered += 1;
            "run"
        } else if spec.overlap == Overlap::BufferOne && buffered == 0 {
            buffered = 1;
            "run"
        } else if spec.overlap == Overlap::CancelRunning {
            for (_, outcome) in outcomes.iter_mut().filter(|(_, outcome)| *outcome == "run") {
                *outcome = "skipped";
            }
            "run"
        } else {
            "skipped"
        };
        unfinished += u32::from(outcome == "run");
        outcomes.push((slot, outcome));
    }
    outcomes.into_iter().collect()
}

const CRONS: &[&str] =
    &["* * * * *", "*/5 * * * *", "0 * * * *", "30 2 * * *", "0 0 * * SUN", "15,45 1-3 * * *", "0 0 29 2 *"];

fn any_trigger() -> impl Strategy<Value = Value> {
    prop_oneof![
        4 => select(CRONS).prop_map(|cron| json!({"cron": cron})),
        3 => (1_i64..10_000).prop_map(|seconds| json!({"every_us": seconds * SECOND + seconds})),
        1 => any::<i32>().prop_map(|second| json!({"at_us": i64::from(second) * SECOND})),
    ]
}

fn any_instant() -> impl Strategy<Value = Timestamp> {
    prop_oneof![
        // The clocks change on 2026-03-08, 2026-03-29, 2026-10-25 and 2026-11-01.
        6 => (at("02-20T00:00").as_second()..at("11-20T00:00").as_second()).prop_map(Timestamp::from_second),
        // Any year, but for its very ends, where a microsecond more or less is none.
        1 => any::<i64>().prop_map(|micros| {
            let (least, most) = (Timestamp::MIN.as_micros() + 2 * DAY, Timestamp::MAX.as_micros() - 2 * DAY);
            Timestamp::from_micros(least + micros.rem_euclid(most - least))
        }),
        1 => (-100_000_000_i64..100_000_000).prop_map(Timestamp::from_micros),
    ]
}

prop_compose! {
    fn any_spec()(
        trigger in any_trigger(),
        zone in select(&["UTC", "America/New_York", "Europe/Paris", "Australia/Lord_Howe", "Asia/Kolkata"][..]),
        overlap in select(&["buffer_one", "skip", "buffer_all", "cancel_running", "allow"][..]),
        catch_up in select(&["latest", "all", "none"][..]),
        max_catch_up in 1_u32..20,
        window in select(&[0, 90 * SECOND, HOUR, DAY, 400 * DAY, i64::MAX][..]),
        jitter in select(&[0, SECOND, HOUR, i64::MAX][..]),
        max_runs in prop::option::weighted(0.3, 1_u64..6),
        start_at in prop::option::weighted(0.2, any_instant()),
        end_at in prop::option::weighted(0.2, any_instant()),
        skip_dates in prop::option::weighted(0.3, prop::collection::vec(0_i64..270, 1..5)),
    ) -> Value {
        let mut fields = trigger;
        let map = fields.as_object_mut().unwrap();
        map.insert("timezone".to_owned(), json!(zone));
        map.insert("overlap".to_owned(), json!(overlap));
        map.insert("catch_up".to_owned(), json!(catch_up));
        map.insert("max_catch_up".to_owned(), json!(max_catch_up));
        map.insert("catch_up_window_us".to_owned(), json!(window));
        map.insert("jitter_us".to_owned(), json!(jitter));
        if let Some(max_runs) = max_runs {
            map.insert("max_runs".to_owned(), json!(max_runs));
        }
        if let Some(start_at) = start_at {
            map.insert("start_at_us".to_owned(), json!(start_at.as_micros()));
        }
        if let Some(end_at) = end_at.filter(|end| start_at.is_none_or(|start| start < *end)) {
            map.insert("end_at_us".to_owned(), json!(end_at.as_micros()));
        }
        if let Some(days) = skip_dates {
            let utc = Zone::utc();
            let mut dates: Vec<String> =
                days.iter().map(|day| utc.local_date(plus(at("02-20T00:00"), day * DAY)).to_string()).collect();
            dates.sort();
            map.insert("skip_dates".to_owned(), json!(dates));
        }
        fields
    }
}

prop_compose! {
    fn any_case()(
        fields in any_spec(),
        from in any_instant(),
        is_stray in prop::bool::weighted(0.1),
        downtime in prop_oneof![Just(0_i64), 0..10 * MINUTE, 0..5 * DAY, 0..400 * DAY, Just(9_000 * 365 * DAY)],
        lead in select(&[0, SECOND, HOUR][..]),
        back in select(&[0, 0, 0, 1, HOUR][..]),
        attentive in prop_oneof![Just(0_i64), 0..HOUR, 0..30 * DAY],
        resumed in prop_oneof![Just(i64::MAX), 0..30 * DAY],
        live in 0_u32..3,
        buffered in 0_u32..3,
        run_count in 0_u64..4,
        last_slot in prop::option::of(any_instant()),
    ) -> Option<Case> {
        let compiled_spec = compiled_spec(&fields);
        let first = if is_stray { from } else { compiled_spec.next(from)? };
        let now = plus(plus(first, downtime), -back);
        let mut schedule = schedule(Some(first));
        schedule.attended_from = plus(now, -resumed);
        schedule.last_slot = last_slot.map(|slot| slot.min(plus(first, -1)));
        schedule.run_count = compiled_spec.spec().max_runs.map_or(run_count, |max| run_count.min(max));
        let situation = Situation {
            now,
            horizon: plus(now, lead),
            watching_since: plus(now, -attentive),
            unfinished_count: live + buffered.min(live),
            buffered_count: buffered.min(live),
        };
        Some(Case { compiled_spec, schedule, situation })
    }
}

/// Caps the slots that are due, to limit the work of a test.
fn due_count(case: &Case) -> u64 {
    case.compiled_spec.count(plus(case.schedule.next_slot.unwrap(), -1), case.situation.now)
}

impl std::fmt::Debug for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { compiled_spec, schedule, situation } = self;
        write!(f, "{:?} next {:?} {situation:?}", compiled_spec.spec(), schedule.next_slot)
    }
}

proptest! {
    #![proptest_config(config(2_000))]

    #[test]
    fn every_slot_has_exactly_one_outcome(case in any_case()) {
        let Some(case) = case else { return Ok(()) };
        // While watching with minutes between slots, a decision has as many lines as slots:
        // limit them.
        let on_time = case.compiled_spec.count(case.situation.watching_since, case.situation.now);
        prop_assume!(on_time < 20_000);
        let first = case.schedule.next_slot.unwrap();
        let is_settled =
            case.situation.unfinished_count == 0 || case.compiled_spec.spec().overlap == Overlap::Allow;
        let expects = first <= case.situation.now || (first <= case.situation.horizon && is_settled);
        let plan = case.plan();
        prop_assert_eq!(plan.is_some(), expects);
        if let Some(plan) = plan {
            check_rules(&case, &plan);
            prop_assert_eq!(case.plan(), Some(plan), "the same question has the same answer");
        }
    }

    #[test]
    fn decisions_are_those_that_a_user_would_explain(case in any_case()) {
        let Some(case) = case else { return Ok(()) };
        prop_assume!(case.schedule.next_slot.unwrap() <= case.situation.now);
        prop_assume!(due_count(&case) < 3_000);
        let plan = case.plan().unwrap();
        let mut found = BTreeSet::new();
        for run in &plan.runs {
            found.insert((run.slot, "run"));
        }
        for line in &plan.ledger {
            let outcome = if line.outcome == SlotOutcome::Missed { "missed" } else { "skipped" };
            let mut slot = line.from;
            while slot <= line.until {
                found.insert((slot, outcome));
                let Some(next) = case.compiled_spec.next(slot) else { break };
                slot = next;
            }
        }
        prop_assert_eq!(found, explained(&case));
    }

    #[test]
    fn next_prev_and_count_see_the_same_slots(fields in any_spec(), from in any_instant(), steps in 1_usize..60) {
        let compiled_spec = compiled_spec(&fields);
        let mut slots: Vec<Timestamp> = Vec::new();
        let mut after = from;
        while slots.len() < steps {
            let Some(slot) = compiled_spec.next(after) else { break };
            prop_assert!(slot > after);
            slots.push(slot);
            after = slot;
        }
        for (i, slot) in slots.iter().enumerate() {
            prop_assert_eq!(compiled_spec.prev(*slot), Some(*slot));
            let before = if i == 0 { compiled_spec.prev(from) } else { Some(slots[i - 1]) };
            prop_assert_eq!(compiled_spec.prev(plus(*slot, -1)), before, "the slot before {}", slot);
            prop_assert_eq!(compiled_spec.count(from, *slot), i as u64 + 1);
            prop_assert_eq!(compiled_spec.count(from, plus(*slot, -1)), i as u64);
            prop_assert_eq!(compiled_spec.count(*slot, *slot), 0);
        }
        if slots.len() < steps {
            prop_assert_eq!(compiled_spec.count(from, Timestamp::MAX), slots.len() as u64);
            prop_assert_eq!(compiled_spec.prev(Timestamp::MAX), slots.last().copied().or(compiled_spec.prev(from)));
        }
        let spec = compiled_spec.spec();
        for slot in slots.iter().copied().chain(compiled_spec.prev(from)) {
            prop_assert!(spec.start_at_us.is_none_or(|start| slot >= start));
            prop_assert!(spec.end_at_us.is_none_or(|end| slot < end));
        }
    }

    #[test]
    fn upcoming_is_the_first_slot_on_a_date_that_is_not_excluded(fields in any_spec(), from in any_instant()) {
        let compiled_spec = compiled_spec(&fields);
        let expected = std::iter::successors(compiled_spec.next(from), |slot| compiled_spec.next(*slot))
            .take(10_000)
            .find(|slot| compiled_spec.excluded_on(*slot).is_none());
        if let Some(expected) = expected {
            prop_assert_eq!(compiled_spec.upcoming(from), Some(expected));
        }
    }
}

#[test]
fn the_ends_of_the_calendar_are_decided_too() {
    for fields in [json!({"cron": "* * * * *"}), json!({"every_us": i64::MAX, "skip_dates": ["2026-03-02"]})]
    {
        for catch_up in ["latest", "all", "none"] {
            let mut fields = fields.clone();
            fields["catch_up"] = json!(catch_up);
            for (next, now) in [
                (Timestamp::MIN, Timestamp::MIN),
                (Timestamp::MAX, Timestamp::MAX),
                (Timestamp::MIN, plus(Timestamp::MIN, HOUR)),
                (plus(Timestamp::MAX, -HOUR), Timestamp::MAX),
                (at("10:00"), Timestamp::MAX),
            ] {
                for watching_since in [Timestamp::MIN, now, Timestamp::MAX] {
                    if next == at("10:00") && watching_since < now {
                        continue;
                    }
                    let mut case = when(&fields, "10:00", "10:00");
                    case.schedule.next_slot = Some(next);
                    case.situation = Situation { now, horizon: now, watching_since, ..case.situation };
                    assert!(case.plan().is_some_and(|plan| plan.next_slot.is_none_or(|slot| slot > now)));
                }
            }
        }
    }
}

#[test]
fn a_decision_a_decade_late_is_made_quickly_and_small() {
    for catch_up in ["latest", "all", "none"] {
        let fields = json!({"cron": "* * * * *", "timezone": "Europe/Paris", "catch_up": catch_up});
        let plan = when(&fields, "10:00", "2036-03-02T10:00:00Z").unwatched().plan().unwrap();
        assert!(plan.runs.len() <= 100 && plan.ledger.len() <= 3, "{catch_up}: {}", plan.ledger.len());
    }
}

// ---- the table of states
// ---------------------------------------------------------------------------------------------

const STATES: [RunState; 7] = [
    RunState::Buffered,
    RunState::Queued,
    RunState::Running,
    RunState::Waiting,
    RunState::Succeeded,
    RunState::Failed,
    RunState::Cancelled,
];

const EVENTS: [Event; 9] = [
    Event::Released,
    Event::Claimed,
    Event::Parked,
    Event::Requeued,
    Event::Returned,
    Event::Raised,
    Event::Stopped,
    Event::RetriedByHand,
    Event::RetriedBehind,
];

#[test]
fn only_a_running_run_completes_by_itself() {
    for state in STATES {
        for event in [Event::Parked, Event::Requeued, Event::Returned, Event::Raised] {
            assert_eq!(next_state(state, event).is_some(), state == RunState::Running, "{state:?} {event:?}");
        }
    }
}

#[test]
fn a_finished_run_moves_only_when_retried_by_hand() {
    for state in STATES.into_iter().filter(|state| state.is_finished()) {
        for event in EVENTS {
            let expected = match event {
                Event::RetriedByHand => Some(RunState::Queued),
                Event::RetriedBehind => Some(RunState::Buffered),
                _ => None,
            };
            let expected = expected.filter(|_| state != RunState::Succeeded);
            assert_eq!(next_state(state, event), expected, "{state:?} {event:?}");
        }
    }
}

#[test]
fn every_unfinished_run_can_be_stopped_and_every_state_be_reached() {
    for state in STATES {
        let stopped = next_state(state, Event::Stopped);
        assert_eq!(stopped, (!state.is_finished()).then_some(RunState::Cancelled), "{state:?}");
    }
    let mut reached = BTreeSet::from([RunState::Buffered]);
    for _ in STATES {
        for state in reached.clone() {
            reached.extend(EVENTS.into_iter().filter_map(|event| next_state(state, event)));
        }
    }
    assert_eq!(reached, BTreeSet::from(STATES));
}
