//! Forgetting.

use super::super::fixture::{
    Fixture, PROJECT, at, done_step, missed, new_run, new_schedule, succeeded, text,
};
use super::cases;
use polos::model::{Admission, NewRun, Origin, RunId, Schedule, Token};
use polos::store::{Answer, Command};

cases! {
    old_runs_are_forgotten_with_their_steps,
    unfinished_runs_are_never_forgotten,
    the_newest_of_each_schedule_are_kept,
    kept_ones_go_when_newer_ones_come,
    kept_ones_go_when_fewer_are_kept,
    old_ledger_lines_are_forgotten,
    a_sweep_is_bounded,
    another_project_is_not_swept,
    a_swept_key_is_free_again,
}

fn prune(fixture: &Fixture<'_>, before: i64, keep: u32, limit: usize) -> u64 {
    let command = Command::Prune { project: text(PROJECT), before: at(before), keep, limit };
    match fixture.ok(at(100_000), command) {
        Answer::Count(count) => count,
        other => panic!("{other:?}"),
    }
}

fn old_runs_are_forgotten_with_their_steps(fixture: &Fixture<'_>) {
    let run = fixture.running(at(0), "run_1").id;
    fixture.ok(at(1), Command::RecordStep { run: run.clone(), token: Token(1), step: done_step("one") });
    fixture.end(at(10), &run, succeeded());
    assert_eq!(prune(fixture, 10, 0, 100), 0, "older than, not as old as");
    assert_eq!(prune(fixture, 11, 0, 100), 1);
    assert_eq!(fixture.find_run(&run), None);
    assert_eq!(fixture.steps(&run), Vec::<String>::new());
    let again = fixture.running(at(20), "run_1").id;
    assert_eq!(fixture.steps(&again), Vec::<String>::new(), "a new run has no old steps");
}

fn unfinished_runs_are_never_forgotten(fixture: &Fixture<'_>) {
    fixture.running(at(0), "run_1");
    fixture.create(at(0), new_run("run_2"));
    assert_eq!(prune(fixture, 99_999, 0, 100), 0);
}

fn slots(fixture: &Fixture<'_>, schedule: &Schedule, slots: std::ops::Range<i64>) {
    for slot in slots {
        let run = fixture.fire(at(slot * 60), schedule, at(slot * 60), Admission::Claim);
        fixture.end(at(slot * 60 + 1), &run, succeeded());
    }
}

fn left(fixture: &Fixture<'_>, schedule: &Schedule) -> Vec<i64> {
    let first = at(0).as_micros();
    let history = fixture.history(&schedule.id).into_iter();
    history.map(|(slot, _)| (slot.as_micros() - first) / 60_000_000).collect()
}

fn the_newest_of_each_schedule_are_kept(fixture: &Fixture<'_>) {
    let [a, b] = ["a", "b"].map(|key| fixture.put(at(0), new_schedule(key, Some(at(60)))));
    slots(fixture, &a, 1..6);
    slots(fixture, &b, 1..3);
    assert_eq!(prune(fixture, 99_999, 2, 100), 3);
    assert_eq!(left(fixture, &a), [5, 4]);
    assert_eq!(left(fixture, &b), [2, 1]);
    assert_eq!(prune(fixture, 99_999, 2, 100), 0);
}

fn kept_ones_go_when_newer_ones_come(fixture: &Fixture<'_>) {
    let schedule = fixture.put(at(0), new_schedule("a", Some(at(60))));
    slots(fixture, &schedule, 1..4);
    assert_eq!(prune(fixture, 99_999, 3, 100), 0);
    slots(fixture, &schedule, 4..6);
    assert_eq!(prune(fixture, 200, 3, 100), 2, "the newer ones need not be old themselves");
    assert_eq!(left(fixture, &schedule), [5, 4, 3]);
    let by_hand = NewRun {
        schedule_id: Some(schedule.id.clone()),
        slot: Some(at(999)),
        origin: Origin::Trigger,
        ..new_run("run_by_hand")
    };
    fixture.create(at(999), by_hand);
    assert_eq!(prune(fixture, 99_999, 3, 100), 1);
    assert_eq!(left(fixture, &schedule), [5, 4]);
}

fn kept_ones_go_when_fewer_are_kept(fixture: &Fixture<'_>) {
    let schedule = fixture.put(at(0), new_schedule("a", Some(at(60))));
    slots(fixture, &schedule, 1..6);
    assert_eq!(prune(fixture, 99_999, 5, 100), 0);
    assert_eq!(prune(fixture, 99_999, 1, 100), 4);
    assert_eq!(prune(fixture, 99_999, 0, 100), 1);
}

fn old_ledger_lines_are_forgotten(fixture: &Fixture<'_>) {
    let schedule = fixture.put(at(0), new_schedule("a", Some(at(60))));
    let mut plan = fixture.plan(&schedule, &[]);
    plan.ledger = vec![missed(at(60)), missed(at(120)), missed(at(180))];
    fixture.commit_plan(at(200), plan);
    assert_eq!(prune(fixture, 180, 100, 100), 2);
    assert_eq!(left(fixture, &schedule), [3]);
}

fn a_sweep_is_bounded(fixture: &Fixture<'_>) {
    let schedule = fixture.put(at(0), new_schedule("a", Some(at(60))));
    slots(fixture, &schedule, 1..4);
    let mut plan = fixture.plan(&schedule, &[]);
    plan.ledger = vec![missed(at(10)), missed(at(20))];
    fixture.commit_plan(at(200), plan);
    assert_eq!(prune(fixture, 99_999, 0, 2), 2);
    assert_eq!(left(fixture, &schedule).len(), 3);
    assert_eq!(prune(fixture, 99_999, 0, 2), 2);
    assert_eq!(prune(fixture, 99_999, 0, 2), 1);
    assert_eq!(prune(fixture, 99_999, 0, 2), 0);
    assert_eq!(prune(fixture, 99_999, 0, 0), 0);
}

fn another_project_is_not_swept(fixture: &Fixture<'_>) {
    let run = fixture.create(at(0), NewRun { project: text("other"), ..new_run("run_1") });
    fixture.ok(at(1), Command::CancelRun { project: text("other"), run: run.clone() });
    assert_eq!(prune(fixture, 99_999, 0, 100), 0);
    assert!(fixture.store.run("other", &run).unwrap().is_some());
}

fn a_swept_key_is_free_again(fixture: &Fixture<'_>) {
    let keyed = |id: &str| NewRun { idempotency_key: Some(text("once")), ..new_run(id) };
    fixture.create(at(0), keyed("run_1"));
    fixture.ok(at(1), Command::CancelRun { project: text(PROJECT), run: RunId::from("run_1") });
    assert_eq!(prune(fixture, 99_999, 0, 100), 1);
    assert_eq!(fixture.create(at(2), keyed("run_2")), RunId::from("run_2"));
}
