//! Forgetting.

use super::super::fixture::{PROJECT, Stage, at, done_step, missed, new_run, new_schedule, succeeded, text};
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

fn sweep(stage: &Stage<'_>, before: i64, keep: u32, limit: usize) -> u64 {
    let command = Command::Sweep { project: text(PROJECT), before: at(before), keep, limit };
    match stage.ok(at(100_000), command) {
        Answer::Count(count) => count,
        other => panic!("{other:?}"),
    }
}

fn old_runs_are_forgotten_with_their_steps(stage: &Stage<'_>) {
    let run = stage.running(at(0), "run_1").id;
    stage.ok(at(1), Command::RecordStep { run: run.clone(), token: Token(1), step: done_step("one") });
    stage.end(at(10), &run, succeeded());
    assert_eq!(sweep(stage, 10, 0, 100), 0, "older than, not as old as");
    assert_eq!(sweep(stage, 11, 0, 100), 1);
    assert_eq!(stage.find_run(&run), None);
    assert_eq!(stage.steps(&run), Vec::<String>::new());
    let again = stage.running(at(20), "run_1").id;
    assert_eq!(stage.steps(&again), Vec::<String>::new(), "a new run has no old steps");
}

fn unfinished_runs_are_never_forgotten(stage: &Stage<'_>) {
    stage.running(at(0), "run_1");
    stage.create(at(0), new_run("run_2"));
    assert_eq!(sweep(stage, 99_999, 0, 100), 0);
}

fn slots(stage: &Stage<'_>, schedule: &Schedule, slots: std::ops::Range<i64>) {
    for slot in slots {
        let run = stage.fire(at(slot * 60), schedule, at(slot * 60), Admission::Claim);
        stage.end(at(slot * 60 + 1), &run, succeeded());
    }
}

fn left(stage: &Stage<'_>, schedule: &Schedule) -> Vec<i64> {
    let first = at(0).as_micros();
    let history = stage.history(&schedule.id).into_iter();
    history.map(|(slot, _)| (slot.as_micros() - first) / 60_000_000).collect()
}

fn the_newest_of_each_schedule_are_kept(stage: &Stage<'_>) {
    let [a, b] = ["a", "b"].map(|key| stage.put(at(0), new_schedule(key, Some(at(60)))));
    slots(stage, &a, 1..6);
    slots(stage, &b, 1..3);
    assert_eq!(sweep(stage, 99_999, 2, 100), 3);
    assert_eq!(left(stage, &a), [5, 4]);
    assert_eq!(left(stage, &b), [2, 1]);
    assert_eq!(sweep(stage, 99_999, 2, 100), 0);
}

fn kept_ones_go_when_newer_ones_come(stage: &Stage<'_>) {
    let schedule = stage.put(at(0), new_schedule("a", Some(at(60))));
    slots(stage, &schedule, 1..4);
    assert_eq!(sweep(stage, 99_999, 3, 100), 0);
    slots(stage, &schedule, 4..6);
    assert_eq!(sweep(stage, 200, 3, 100), 2, "the newer ones need not be old themselves");
    assert_eq!(left(stage, &schedule), [5, 4, 3]);
    let by_hand = NewRun {
        schedule_id: Some(schedule.id.clone()),
        slot: Some(at(999)),
        origin: Origin::Trigger,
        ..new_run("run_by_hand")
    };
    stage.create(at(999), by_hand);
    assert_eq!(sweep(stage, 99_999, 3, 100), 1);
    assert_eq!(left(stage, &schedule), [5, 4]);
}

fn kept_ones_go_when_fewer_are_kept(stage: &Stage<'_>) {
    let schedule = stage.put(at(0), new_schedule("a", Some(at(60))));
    slots(stage, &schedule, 1..6);
    assert_eq!(sweep(stage, 99_999, 5, 100), 0);
    assert_eq!(sweep(stage, 99_999, 1, 100), 4);
    assert_eq!(sweep(stage, 99_999, 0, 100), 1);
}

fn old_ledger_lines_are_forgotten(stage: &Stage<'_>) {
    let schedule = stage.put(at(0), new_schedule("a", Some(at(60))));
    let mut plan = stage.plan(&schedule, &[]);
    plan.ledger = vec![missed(at(60)), missed(at(120)), missed(at(180))];
    stage.commit_plan(at(200), plan);
    assert_eq!(sweep(stage, 180, 100, 100), 2);
    assert_eq!(left(stage, &schedule), [3]);
}

fn a_sweep_is_bounded(stage: &Stage<'_>) {
    let schedule = stage.put(at(0), new_schedule("a", Some(at(60))));
    slots(stage, &schedule, 1..4);
    let mut plan = stage.plan(&schedule, &[]);
    plan.ledger = vec![missed(at(10)), missed(at(20))];
    stage.commit_plan(at(200), plan);
    assert_eq!(sweep(stage, 99_999, 0, 2), 2);
    assert_eq!(left(stage, &schedule).len(), 3);
    assert_eq!(sweep(stage, 99_999, 0, 2), 2);
    assert_eq!(sweep(stage, 99_999, 0, 2), 1);
    assert_eq!(sweep(stage, 99_999, 0, 2), 0);
    assert_eq!(sweep(stage, 99_999, 0, 0), 0);
}

fn another_project_is_not_swept(stage: &Stage<'_>) {
    let run = stage.create(at(0), NewRun { project: text("other"), ..new_run("run_1") });
    stage.ok(at(1), Command::CancelRun { project: text("other"), run: run.clone() });
    assert_eq!(sweep(stage, 99_999, 0, 100), 0);
    assert!(stage.store.run("other", &run).unwrap().is_some());
}

fn a_swept_key_is_free_again(stage: &Stage<'_>) {
    let keyed = |id: &str| NewRun { idempotency_key: Some(text("once")), ..new_run(id) };
    stage.create(at(0), keyed("run_1"));
    stage.ok(at(1), Command::CancelRun { project: text(PROJECT), run: RunId::from("run_1") });
    assert_eq!(sweep(stage, 99_999, 0, 100), 1);
    assert_eq!(stage.create(at(2), keyed("run_2")), RunId::from("run_2"));
}
