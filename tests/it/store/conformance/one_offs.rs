//! Pruning of one-off schedules that have finished.

use super::super::fixture::{Fixture, PROJECT, at, failed, missed, new_run, new_schedule, succeeded, text};
use super::cases;
use polos::model::{
    Admission, NewRun, NewSchedule, Origin, RunId, Schedule, ScheduleId, ScheduleSpec, ScheduleStatus,
};
use polos::store::{Answer, Command};

cases! {
    a_fired_one_off_goes_with_its_run_and_its_ledger,
    a_missed_one_off_goes_too,
    one_offs_of_code_and_other_schedules_stay,
    a_one_off_stays_while_it_or_one_of_its_runs_is_young,
    pruning_of_one_offs_is_bounded_and_by_project,
    runs_lines_and_one_offs_have_one_bound,
    a_pruned_one_off_can_be_created_again,
}

fn one_off(key: &str, slot: i64) -> NewSchedule {
    let micros = at(slot).as_micros();
    let spec: ScheduleSpec =
        serde_json::from_str(&format!(r#"{{"at_us":{micros},"timezone":"UTC"}}"#)).unwrap();
    NewSchedule {
        spec: serde_json::to_string(&spec).unwrap().into(),
        compiled_spec: spec.trigger_key().into(),
        ..new_schedule(key, Some(at(slot)))
    }
}

/// Creates a schedule and has its only slot fire, with or without a run.
fn fired(fixture: &Fixture<'_>, new: NewSchedule, slot: i64, has_run: bool) -> Schedule {
    let schedule = fixture.put(at(0), new);
    let slots = [(at(slot), Admission::Claim)];
    let mut plan = fixture.plan(&schedule, if has_run { &slots } else { &[] });
    plan.next_slot = None;
    plan.status = ScheduleStatus::Finished;
    if !has_run {
        plan.ledger = vec![missed(at(slot))];
    }
    fixture.commit_plan(at(slot), plan);
    fixture.schedule(&schedule.id)
}

fn run_of(schedule: &Schedule, slot: i64) -> RunId {
    RunId::of_slot(&schedule.id, at(slot))
}

fn prune(fixture: &Fixture<'_>, before: i64, limit: usize) -> u64 {
    let command = Command::Prune { project: text(PROJECT), before: at(before), keep: 10, limit };
    match fixture.ok(at(100_000), command) {
        Answer::Count(count) => count,
        other => panic!("{other:?}"),
    }
}

fn a_fired_one_off_goes_with_its_run_and_its_ledger(fixture: &Fixture<'_>) {
    let schedule = fired(fixture, one_off("a", 60), 60, true);
    let run = run_of(&schedule, 60);
    fixture.end(at(61), &run, succeeded());
    assert_eq!(prune(fixture, 61, 100), 0, "it finished then, not before");
    assert_eq!(prune(fixture, 62, 100), 1);
    assert_eq!(fixture.find_schedule(&schedule.id), None);
    assert_eq!(fixture.find_run(&run), None);
    assert_eq!(fixture.history(&schedule.id), []);
    assert_eq!(prune(fixture, 1_000, 100), 0);
}

fn a_missed_one_off_goes_too(fixture: &Fixture<'_>) {
    let schedule = fired(fixture, one_off("a", 60), 60, false);
    assert_eq!(prune(fixture, 60, 100), 0, "older than, not as old as");
    prune(fixture, 61, 100);
    assert_eq!(fixture.find_schedule(&schedule.id), None);
    assert_eq!(fixture.history(&schedule.id), []);
}

fn one_offs_of_code_and_other_schedules_stay(fixture: &Fixture<'_>) {
    let owner = Some(text("app.py"));
    let declared = fired(fixture, NewSchedule { owner, ..one_off("a", 60) }, 60, true);
    let cron = fired(fixture, new_schedule("b", Some(at(60))), 60, true);
    let waiting = fixture.put(at(0), one_off("c", 60));
    for schedule in [&declared, &cron] {
        fixture.end(at(61), &run_of(schedule, 60), succeeded());
    }
    prune(fixture, 99_999, 100);
    for schedule in [&declared, &cron, &waiting] {
        assert!(fixture.find_schedule(&schedule.id).is_some(), "{}", schedule.id);
    }
    assert!(fixture.find_run(&run_of(&declared, 60)).is_some());
}

fn a_one_off_stays_while_it_or_one_of_its_runs_is_young(fixture: &Fixture<'_>) {
    let young = fired(fixture, one_off("a", 2_000), 2_000, false);
    let running = fired(fixture, one_off("b", 60), 60, true);
    let late = fired(fixture, one_off("c", 60), 60, true);
    let triggered = fired(fixture, one_off("d", 60), 60, true);
    fixture.end(at(1_500), &run_of(&late, 60), failed());
    fixture.end(at(61), &run_of(&triggered, 60), succeeded());
    let schedule_id = Some(triggered.id.clone());
    fixture.create(
        at(900),
        NewRun { schedule_id, origin: Origin::Trigger, slot: Some(at(900)), ..new_run("run_1") },
    );
    assert_eq!(prune(fixture, 1_000, 100), 0);
    for schedule in [&young, &running, &late, &triggered] {
        assert!(fixture.find_schedule(&schedule.id).is_some(), "{}", schedule.id);
    }
    fixture.end(at(1_600), &run_of(&running, 60), succeeded());
    let run = RunId::from("run_1");
    fixture.ok(at(1_600), Command::CancelRun { project: text(PROJECT), run: run.clone() });
    assert_eq!(prune(fixture, 1_700, 100), 3);
    assert_eq!(fixture.find_run(&run), None);
    assert!(fixture.find_schedule(&young.id).is_some());
}

fn pruning_of_one_offs_is_bounded_and_by_project(fixture: &Fixture<'_>) {
    for key in ["a", "b", "c"] {
        let schedule = fired(fixture, one_off(key, 60), 60, true);
        fixture.end(at(61), &run_of(&schedule, 60), succeeded());
    }
    let command = Command::Prune { project: text("other"), before: at(99_999), keep: 0, limit: 100 };
    assert_eq!(fixture.ok(at(100_000), command), Answer::Count(0));
    assert_eq!([(); 3].map(|()| prune(fixture, 1_000, 2)), [2, 1, 0]);
}

fn runs_lines_and_one_offs_have_one_bound(fixture: &Fixture<'_>) {
    let run = fixture.running(at(0), "run_1").id;
    fixture.end(at(10), &run, succeeded());
    let schedule = fixture.put(at(0), new_schedule("s", Some(at(60))));
    let mut plan = fixture.plan(&schedule, &[]);
    plan.ledger = vec![missed(at(60))];
    fixture.commit_plan(at(61), plan);
    for key in ["a", "b"] {
        let schedule = fired(fixture, one_off(key, 60), 60, true);
        fixture.end(at(61), &run_of(&schedule, 60), succeeded());
    }
    assert_eq!([(); 3].map(|()| prune(fixture, 1_000, 3)), [3, 1, 0]);
}

fn a_pruned_one_off_can_be_created_again(fixture: &Fixture<'_>) {
    let schedule = fired(fixture, one_off("a", 60), 60, true);
    fixture.end(at(61), &run_of(&schedule, 60), succeeded());
    prune(fixture, 1_000, 100);
    let again =
        fired(fixture, NewSchedule { id: ScheduleId::from("sch_again"), ..one_off("a", 60) }, 60, true);
    assert_eq!(again.id, ScheduleId::from("sch_again"));
    assert!(fixture.find_run(&run_of(&again, 60)).is_some());
}
