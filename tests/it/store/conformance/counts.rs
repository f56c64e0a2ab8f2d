//! Counts of slots by outcome: what a schedule has counted equals its history.

use super::super::fixture::{
    Fixture, PROJECT, at, end, everything, missed, new_run, new_schedule, patch_command, spec, succeeded,
    text,
};
use super::cases;
use polos::calendar::Timestamp;
use polos::model::{
    Admission, Completion, FirePlan, LedgerLine, NewRun, NewSchedule, Origin, RunId, Schedule, ScheduleId,
    ScheduleStatus, SlotOutcome, WorkerEntry,
};
use polos::store::{Command, Patch, ScheduleFilter, Store};

cases! {
    the_outcomes_of_a_decision_are_counted,
    a_decision_that_is_repeated_counts_once,
    a_skip_that_is_undone_is_not_counted,
    a_skip_that_is_undone_after_others_passed_is_not_counted,
    a_slot_that_its_handler_skips_counts_as_skipped,
    a_backfilled_slot_counts_as_run,
    a_backfilled_slot_that_its_handler_skips_counts_as_skipped,
    a_trigger_counts_nothing,
    a_revoked_claim_counts_nothing,
    a_buffered_run_counts_before_it_is_released,
    slots_that_an_edit_leaves_are_counted,
    slots_of_a_retired_schedule_are_counted,
    what_is_pruned_stays_counted,
    the_skip_of_a_paused_schedule_stays_counted_when_it_is_pruned,
    a_new_schedule_with_a_former_key_begins_at_zero,
}

type Counts = (u64, u64, u64);

fn counts(schedule: &Schedule) -> Counts {
    (schedule.ran_count(), schedule.counts.skipped, schedule.counts.missed)
}

/// The sums of the history.
pub fn recorded(store: &dyn Store, project: &str, id: &ScheduleId) -> Counts {
    let mut sums = (0, 0, 0);
    for entry in store.history(project, id, &everything()).unwrap().unwrap_or_default() {
        match entry.outcome {
            SlotOutcome::Ran => sums.0 += entry.count,
            SlotOutcome::Skipped => sums.1 += entry.count,
            SlotOutcome::Missed => sums.2 += entry.count,
        }
    }
    sums
}

/// Checks what the schedules have counted at the end of a case.
pub fn check(store: &dyn Store, case: &str) {
    let is_pruned = super::prunes::CASES.iter().chain(super::one_offs::CASES).any(|(name, _)| *name == case);
    if is_pruned || case.contains("pruned") {
        return;
    }
    for project in [PROJECT, "other"] {
        for schedule in store.schedules(project, &ScheduleFilter::default(), &everything()).unwrap() {
            assert_eq!(counts(&schedule), recorded(store, project, &schedule.id), "{case}: {schedule:?}");
        }
    }
}

fn expect(fixture: &Fixture<'_>, schedule: &Schedule, expected: Counts) {
    assert_eq!(counts(&fixture.schedule(&schedule.id)), expected);
}

/// A schedule with a slot every minute, from the first minute on.
fn minutely(fixture: &Fixture<'_>) -> Schedule {
    fixture.put(at(0), new_schedule("a", Some(at(60))))
}

fn line(from: i64, until: i64, count: u64, outcome: SlotOutcome) -> LedgerLine {
    LedgerLine { from: at(from), until: at(until), count, outcome, reason: text("why") }
}

fn skip(slots: &[i64]) -> Patch {
    let lines = slots.iter().map(|slot| line(*slot, *slot, 1, SlotOutcome::Skipped));
    Patch { ledger: lines.collect(), ..Patch::default() }
}

fn unskip(slots: &[i64]) -> Patch {
    Patch { unskipped: slots.iter().copied().map(at).collect(), ..Patch::default() }
}

fn prune(fixture: &Fixture<'_>, before: i64) {
    let project = text(PROJECT);
    fixture.ok(at(before), Command::Prune { project, before: at(before), keep: 0, limit: 100 });
}

fn backfill(fixture: &Fixture<'_>, schedule: &Schedule, slot: Timestamp) -> RunId {
    fixture.create(
        at(3_000),
        NewRun {
            id: RunId::of_slot(&schedule.id, slot),
            schedule_id: Some(schedule.id.clone()),
            slot: Some(slot),
            origin: Origin::Backfill,
            available_at: at(3_000),
            ..new_run("")
        },
    )
}

fn skipped() -> Completion {
    Completion::Skipped { reason: text("not today") }
}

fn the_outcomes_of_a_decision_are_counted(fixture: &Fixture<'_>) {
    let schedule = minutely(fixture);
    let plan = FirePlan {
        ledger: vec![
            line(60, 540, 9, SlotOutcome::Missed),
            line(600, 600, 1, SlotOutcome::Skipped),
            line(660, 720, 2, SlotOutcome::Missed),
        ],
        ..fixture.plan(&schedule, &[(at(780), Admission::Claim), (at(840), Admission::Behind)])
    };
    fixture.commit_plan(at(840), plan);
    expect(fixture, &schedule, (2, 1, 11));
}

fn a_decision_that_is_repeated_counts_once(fixture: &Fixture<'_>) {
    let schedule = minutely(fixture);
    let plan = FirePlan {
        ledger: vec![line(60, 60, 1, SlotOutcome::Missed)],
        ..fixture.plan(&schedule, &[(at(120), Admission::Claim)])
    };
    fixture.commit_plan(at(120), plan.clone());
    fixture.no(at(121), Command::Fire { worker: fixture.worker.clone(), plan: Box::new(plan) });
    expect(fixture, &schedule, (1, 0, 1));
}

fn a_skip_that_is_undone_is_not_counted(fixture: &Fixture<'_>) {
    let schedule = minutely(fixture);
    let edited = fixture.patch(at(1), &schedule.id, skip(&[60, 120, 240]));
    assert_eq!(counts(&edited), (0, 3, 0));
    let edited = fixture.patch(at(2), &schedule.id, unskip(&[120]));
    assert_eq!(counts(&edited), (0, 2, 0));
    let edited = fixture.patch(at(2), &schedule.id, unskip(&[120]));
    assert_eq!(counts(&edited), (0, 2, 0));
    let batch = vec![
        patch_command(&schedule.id, None, skip(&[120])),
        patch_command(&schedule.id, None, unskip(&[60, 120])),
    ];
    assert!(fixture.store.commit(&batch, at(3)).unwrap().iter().all(Result::is_ok));
    expect(fixture, &schedule, (0, 1, 0));
}

fn a_skip_that_is_undone_after_others_passed_is_not_counted(fixture: &Fixture<'_>) {
    let schedule = minutely(fixture);
    fixture.patch(at(1), &schedule.id, skip(&[120, 240]));
    fixture.fire(at(60), &schedule, at(60), Admission::Claim);
    fixture.fire(at(180), &schedule, at(180), Admission::Behind);
    fixture.patch(at(181), &schedule.id, unskip(&[240]));
    expect(fixture, &schedule, (2, 1, 0));
}

fn a_slot_that_its_handler_skips_counts_as_skipped(fixture: &Fixture<'_>) {
    let schedule = minutely(fixture);
    let first = fixture.fire(at(60), &schedule, at(60), Admission::Claim);
    fixture.end(at(61), &first, succeeded());
    let run = fixture.fire(at(120), &schedule, at(120), Admission::Claim);
    let command = end(&run, fixture.run(&run).token, skipped());
    fixture.ok(at(121), command.clone());
    fixture.no(at(122), command);
    expect(fixture, &schedule, (1, 1, 0));
}

fn a_backfilled_slot_counts_as_run(fixture: &Fixture<'_>) {
    let schedule = fixture.put(at(0), new_schedule("a", Some(at(9_000))));
    let run = backfill(fixture, &schedule, at(60));
    assert_eq!(backfill(fixture, &schedule, at(60)), run, "as after a lost answer");
    fixture.claim(at(3_001));
    fixture.end(at(3_002), &run, succeeded());
    expect(fixture, &schedule, (1, 0, 0));
}

fn a_backfilled_slot_that_its_handler_skips_counts_as_skipped(fixture: &Fixture<'_>) {
    let schedule = minutely(fixture);
    let own = fixture.fire(at(60), &schedule, at(60), Admission::Claim);
    fixture.end(at(61), &own, succeeded());
    let run = backfill(fixture, &schedule, at(-60));
    fixture.claim(at(3_001));
    fixture.end(at(3_002), &run, skipped());
    expect(fixture, &schedule, (1, 1, 0));
    assert_eq!(fixture.schedule(&schedule.id).run_count, 1, "its own runs stay counted");
}

fn a_trigger_counts_nothing(fixture: &Fixture<'_>) {
    let schedule = minutely(fixture);
    let trigger = NewRun {
        schedule_id: Some(schedule.id.clone()),
        slot: Some(at(5)),
        origin: Origin::Trigger,
        available_at: at(5),
        ..new_run("run_1")
    };
    let run = fixture.create(at(5), trigger);
    expect(fixture, &schedule, (0, 0, 0));
    let own = fixture.fire(at(60), &schedule, at(60), Admission::Behind);
    fixture.claim(at(61));
    fixture.end(at(62), &run, succeeded());
    assert_eq!(fixture.run(&own).slot, Some(at(60)));
    expect(fixture, &schedule, (1, 0, 0));
}

fn a_revoked_claim_counts_nothing(fixture: &Fixture<'_>) {
    let schedule = minutely(fixture);
    fixture.fire(at(59), &schedule, at(60), Admission::Claim);
    let pause = Patch { status: Some(ScheduleStatus::Paused), ..Patch::default() };
    assert_eq!(counts(&fixture.patch(at(59), &schedule.id, pause)), (0, 0, 0));
    expect(fixture, &schedule, (0, 0, 0));
}

fn a_buffered_run_counts_before_it_is_released(fixture: &Fixture<'_>) {
    let schedule = minutely(fixture);
    let first = fixture.fire(at(60), &schedule, at(60), Admission::Claim);
    let second = fixture.fire(at(120), &schedule, at(120), Admission::Behind);
    expect(fixture, &schedule, (2, 0, 0));
    fixture.end(at(121), &first, succeeded());
    fixture.claim(at(122));
    fixture.end(at(123), &second, skipped());
    expect(fixture, &schedule, (1, 1, 0));
}

fn slots_that_an_edit_leaves_are_counted(fixture: &Fixture<'_>) {
    let schedule = minutely(fixture);
    let hourly = spec("0 * * * *");
    let new =
        NewSchedule { spec: hourly, compiled_spec: text("0 * * * *"), ..new_schedule("a", Some(at(3_600))) };
    fixture.put(at(200), new);
    expect(fixture, &schedule, recorded(fixture.store, PROJECT, &schedule.id));
    assert_eq!(fixture.schedule(&schedule.id).counts.missed, 3);
}

fn slots_of_a_retired_schedule_are_counted(fixture: &Fixture<'_>) {
    let declared = NewSchedule { owner: Some(text("app.py")), ..new_schedule("a", Some(at(60))) };
    let entry = |declared| WorkerEntry {
        id: "wkr_2".into(),
        app: text("app.py"),
        declared,
        ..super::super::fixture::new_worker("wkr_2")
    };
    fixture.ok(at(0), Command::RegisterWorker(Box::new(entry(vec![declared.clone()]))));
    fixture.ok(at(1), Command::DeregisterWorker { worker: "wkr_2".into() });
    fixture.ok(at(200), Command::RegisterWorker(Box::new(entry(Vec::new()))));
    fixture.ok(at(300), Command::DeregisterWorker { worker: "wkr_2".into() });
    fixture.ok(at(400), Command::RegisterWorker(Box::new(entry(vec![declared]))));
    let schedule = fixture.schedule(&new_schedule("a", None).id);
    assert!(counts(&schedule).1 + counts(&schedule).2 > 0);
    assert_eq!(counts(&schedule), recorded(fixture.store, PROJECT, &schedule.id));
}

fn what_is_pruned_stays_counted(fixture: &Fixture<'_>) {
    let schedule = minutely(fixture);
    fixture.patch(at(1), &schedule.id, skip(&[120]));
    let plan =
        FirePlan { ledger: vec![missed(at(60))], ..fixture.plan(&schedule, &[(at(180), Admission::Claim)]) };
    fixture.commit_plan(at(180), plan);
    fixture.end(at(181), &RunId::of_slot(&schedule.id, at(180)), succeeded());
    let run = backfill(fixture, &schedule, at(60));
    fixture.claim(at(3_001));
    fixture.end(at(3_002), &run, succeeded());
    expect(fixture, &schedule, (2, 1, 1));
    prune(fixture, 90_000);
    assert_eq!(recorded(fixture.store, PROJECT, &schedule.id), (0, 0, 0));
    expect(fixture, &schedule, (2, 1, 1));
    fixture.patch(at(90_001), &schedule.id, skip(&[90_060]));
    expect(fixture, &schedule, (2, 2, 1));
}

fn the_skip_of_a_paused_schedule_stays_counted_when_it_is_pruned(fixture: &Fixture<'_>) {
    let schedule = minutely(fixture);
    fixture.patch(at(1), &schedule.id, skip(&[120, 180]));
    let pause = Patch { status: Some(ScheduleStatus::Paused), ..Patch::default() };
    fixture.patch(at(2), &schedule.id, pause);
    fixture.patch(at(3), &schedule.id, unskip(&[180]));
    expect(fixture, &schedule, (0, 1, 0));
    prune(fixture, 90_000);
    expect(fixture, &schedule, (0, 1, 0));
}

fn a_new_schedule_with_a_former_key_begins_at_zero(fixture: &Fixture<'_>) {
    let schedule = minutely(fixture);
    fixture.fire(at(60), &schedule, at(60), Admission::Claim);
    fixture.patch(at(61), &schedule.id, skip(&[120]));
    fixture.delete(at(62), &schedule.id);
    let new = NewSchedule { id: "sch_new".into(), ..new_schedule("a", Some(at(180))) };
    let schedule = fixture.put(at(63), new);
    assert_eq!(schedule.id.as_str(), "sch_new");
    expect(fixture, &schedule, (0, 0, 0));
}
