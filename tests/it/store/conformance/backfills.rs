//! Runs of backfills, and runs with which schedules begin.

use super::super::fixture::{
    Fixture, PROJECT, at, failed, new_run, new_schedule, new_worker, succeeded, text,
};
use super::cases;
use polos::calendar::Timestamp;
use polos::model::{
    Admission, Completion, NewRun, NewSchedule, Origin, RunId, RunState, Schedule, ScheduleId, backfill,
};
use polos::store::{Answer, Command, Rejection};

cases! {
    as_many_runs_of_a_backfill_are_in_progress_as_it_asks_for,
    a_retried_run_of_a_backfill_waits_for_those_in_progress,
    a_cancelled_run_of_a_backfill_is_followed_only_if_it_was_in_progress,
    a_skipped_run_of_a_backfill_is_followed,
    a_run_of_a_slot_still_waits_for_the_runs_of_a_backfill,
    a_backfill_that_leaves_it_to_the_policy_runs_one_after_another,
    the_runs_of_a_backfill_are_found_by_its_id,
    a_schedule_begins_with_a_run_once,
    a_declared_schedule_begins_with_a_run_once,
}

/// The minutely slots from the first minute on that a backfill of `concurrency` runs.
fn backfilled(fixture: &Fixture<'_>, schedule: &Schedule, count: i64, concurrency: u32) -> Vec<RunId> {
    let runs = (1..=count).map(|n| {
        let slot = at(n * 60);
        let in_line = usize::try_from(n).unwrap() > concurrency as usize;
        NewRun {
            id: RunId::of_slot(&schedule.id, slot),
            schedule_id: Some(schedule.id.clone()),
            slot: Some(slot),
            origin: Origin::Backfill,
            available_at: at(1_000),
            behind: in_line,
            idempotency_key: Some(backfill::key("bf_a_1", slot, concurrency)),
            ..new_run("")
        }
    });
    runs.map(|new| fixture.create(at(1_000), new)).collect()
}

fn states(fixture: &Fixture<'_>, runs: &[RunId]) -> String {
    let letter = |run| match fixture.state(run) {
        RunState::Queued => 'q',
        RunState::Running => 'r',
        RunState::Buffered => 'b',
        RunState::Succeeded => 's',
        RunState::Failed => 'f',
        RunState::Cancelled => 'c',
        RunState::Waiting => 'w',
    };
    runs.iter().map(letter).collect()
}

fn as_many_runs_of_a_backfill_are_in_progress_as_it_asks_for(fixture: &Fixture<'_>) {
    let schedule = fixture.put(at(0), new_schedule("a", Some(at(9_000))));
    let runs = backfilled(fixture, &schedule, 5, 2);
    assert_eq!(states(fixture, &runs), "qqbbb");
    fixture.claim(at(1_001));
    assert_eq!(fixture.end(at(1_002), &runs[1], failed()), (RunState::Failed, true));
    assert_eq!(states(fixture, &runs), "rfqbb");
    fixture.claim(at(1_003));
    assert_eq!(fixture.end(at(1_004), &runs[0], succeeded()), (RunState::Succeeded, true));
    assert_eq!(states(fixture, &runs), "sfrqb");
    fixture.claim(at(1_005));
    fixture.end(at(1_006), &runs[2], succeeded());
    fixture.end(at(1_006), &runs[3], succeeded());
    assert_eq!(states(fixture, &runs), "sfssq");
}

fn a_retried_run_of_a_backfill_waits_for_those_in_progress(fixture: &Fixture<'_>) {
    let retry = |run: &RunId| Command::RetryRun { project: text(PROJECT), run: run.clone() };
    let schedule = fixture.put(at(0), new_schedule("a", Some(at(9_000))));
    let runs = backfilled(fixture, &schedule, 5, 2);
    for at_second in [1_001, 1_003] {
        fixture.claim(at(at_second));
        let run = usize::from(at_second > 1_001);
        fixture.end(at(at_second + 1), &runs[run], failed());
    }
    fixture.claim(at(1_005));
    assert_eq!(states(fixture, &runs), "ffrrb");
    let retried = fixture.store.commit(&[retry(&runs[1]), retry(&runs[0])], at(1_006)).unwrap();
    assert_eq!(retried, [Ok(Answer::State(RunState::Buffered)), Ok(Answer::State(RunState::Buffered))]);
    assert_eq!((states(fixture, &runs), fixture.run(&runs[0]).attempt), ("bbrrb".to_owned(), 2));
    fixture.end(at(1_007), &runs[2], succeeded());
    assert_eq!(states(fixture, &runs), "qbsrb");
    fixture.claim(at(1_008));
    for run in [0, 3, 1, 4] {
        fixture.end(at(1_009), &runs[run], failed());
        fixture.claim(at(1_009));
    }
    assert_eq!(states(fixture, &runs), "ffsff");
    let retried = [0, 1, 3].map(|run| retry(&runs[run]));
    fixture.store.commit(&retried, at(1_010)).unwrap();
    assert_eq!(states(fixture, &runs), "qqsbf", "as many as it asks for, also in one commit");
    // Runs of the schedule that do not belong to the backfill don't count.
    let other = fixture.put(at(0), new_schedule("b", Some(at(9_000))));
    let slot = at(60);
    let ended = NewRun {
        id: RunId::of_slot(&other.id, slot),
        schedule_id: Some(other.id.clone()),
        slot: Some(slot),
        origin: Origin::Backfill,
        idempotency_key: Some(backfill::key("bf_b_1", slot, 1)),
        ..new_run("")
    };
    let ended = fixture.create(at(1_011), ended);
    fixture.ok(at(1_012), Command::CancelRun { project: text(PROJECT), run: ended.clone() });
    fixture.create(at(1_013), NewRun { schedule_id: Some(other.id), slot: Some(at(5)), ..new_run("own") });
    assert_eq!(fixture.ok(at(1_014), retry(&ended)), Answer::State(RunState::Queued));
}

fn a_cancelled_run_of_a_backfill_is_followed_only_if_it_was_in_progress(fixture: &Fixture<'_>) {
    let cancel = |run: &RunId| Command::CancelRun { project: text(PROJECT), run: run.clone() };
    let schedule = fixture.put(at(0), new_schedule("a", Some(at(9_000))));
    let runs = backfilled(fixture, &schedule, 5, 2);
    fixture.ok(at(1_001), cancel(&runs[2]));
    assert_eq!(states(fixture, &runs), "qqcbb");
    fixture.ok(at(1_002), cancel(&runs[0]));
    assert_eq!(states(fixture, &runs), "cqcqb");
}

fn a_skipped_run_of_a_backfill_is_followed(fixture: &Fixture<'_>) {
    let schedule = fixture.put(at(0), new_schedule("a", Some(at(9_000))));
    let runs = backfilled(fixture, &schedule, 4, 2);
    fixture.claim(at(1_001));
    let before = fixture.schedule(&schedule.id).revision;
    fixture.end(at(1_002), &runs[0], Completion::Skipped { reason: text("a holiday") });
    assert!(fixture.schedule(&schedule.id).revision > before, "decisions that are based on it are stale");
    assert_eq!(states(fixture, &runs[1..]), "rqb");
}

fn a_run_of_a_slot_still_waits_for_the_runs_of_a_backfill(fixture: &Fixture<'_>) {
    let schedule = fixture.put(at(0), new_schedule("a", Some(at(9_000))));
    let runs = backfilled(fixture, &schedule, 2, 2);
    let schedule = fixture.schedule(&schedule.id);
    fixture.commit_plan(at(9_000), fixture.plan(&schedule, &[(at(9_000), Admission::Behind)]));
    let own = RunId::of_slot(&schedule.id, at(9_000));
    fixture.claim(at(9_001));
    fixture.end(at(9_002), &runs[0], succeeded());
    assert_eq!(fixture.state(&own), RunState::Buffered);
    fixture.end(at(9_003), &runs[1], succeeded());
    assert_eq!(fixture.state(&own), RunState::Queued);
}

fn a_backfill_that_leaves_it_to_the_policy_runs_one_after_another(fixture: &Fixture<'_>) {
    let schedule = fixture.put(at(0), new_schedule("a", Some(at(9_000))));
    let runs = backfilled(fixture, &schedule, 3, 0);
    assert_eq!(states(fixture, &runs), "qbb");
    let by_hand = NewRun { schedule_id: Some(schedule.id), slot: Some(at(5)), ..new_run("run_by_hand") };
    let by_hand = fixture.create(at(1_000), by_hand);
    fixture.claim(at(1_001));
    fixture.end(at(1_002), &runs[0], succeeded());
    assert_eq!(states(fixture, &runs), "sbb", "another run of the schedule is in progress");
    fixture.end(at(1_003), &by_hand, succeeded());
    assert_eq!(states(fixture, &runs), "sqb");
}

fn the_runs_of_a_backfill_are_found_by_its_id(fixture: &Fixture<'_>) {
    let schedule = fixture.put(at(0), new_schedule("a", Some(at(9_000))));
    let runs = backfilled(fixture, &schedule, 3, 1);
    for (id, key) in [("other", "auto:backfill:bf_a_2:1:1"), ("chosen", "bf_a_1"), ("none", "")] {
        let idempotency_key = Some(text(key)).filter(|key| !key.is_empty());
        fixture.create(at(1_000), NewRun { idempotency_key, ..new_run(id) });
    }
    let (after, end) = backfill::keys("bf_a_1");
    let found = |after: &str, limit| {
        let found = fixture.store.runs_with_keys(PROJECT, "w", (after, &end), limit).unwrap();
        found.into_iter().map(|run| (run.run, run.state, run.key)).collect::<Vec<_>>()
    };
    let all = found(&after, 10);
    assert_eq!(
        all.iter().map(|(run, ..)| run.clone()).collect::<Vec<_>>(),
        [runs[0].clone(), runs[1].clone(), runs[2].clone()]
    );
    assert_eq!((all[0].1, all[2].1), (RunState::Queued, RunState::Buffered));
    assert_eq!(found(&after, 1), all[..1]);
    assert_eq!(found(&all[0].2, 10), all[1..]);
    assert_eq!(fixture.store.runs_with_keys(PROJECT, "v", (&after, &end), 10).unwrap(), []);
    assert_eq!(fixture.store.runs_with_keys("other", "w", (&after, &end), 10).unwrap(), []);
}

/// Creates the schedule as `run_on_create` does; returns what became of its run.
fn begun(fixture: &Fixture<'_>, now: Timestamp, new: NewSchedule) -> Result<Answer, Rejection> {
    let run = NewRun::of_creation(&new, now);
    let commands = [Command::UpsertSchedules(vec![new]), Command::CreateRun(Box::new(run))];
    fixture.store.commit(&commands, now).unwrap().remove(1)
}

fn a_schedule_begins_with_a_run_once(fixture: &Fixture<'_>) {
    let new = NewSchedule { input: Some(text("7")), ..new_schedule("a", Some(at(60))) };
    let again = NewSchedule { id: ScheduleId::from("sch_again"), ..new.clone() };
    assert!(matches!(begun(fixture, at(1), new.clone()), Ok(Answer::Created { is_new: true, .. })));
    let run = fixture.run(&RunId::of_creation(&new.id));
    assert_eq!((run.slot, run.state), (Some(at(1)), RunState::Queued));
    assert_eq!((run.available_at, run.input), (at(1), Some(text("7"))));
    for (now, new) in [(2, again), (3, new.clone())] {
        let refused = begun(fixture, at(now), new);
        assert!(!matches!(refused, Ok(Answer::Created { is_new: true, .. })), "{refused:?}");
    }
    let project = text(PROJECT);
    fixture.ok(at(4), Command::DeleteSchedule { project, id: new.id });
    let anew = NewSchedule { id: ScheduleId::from("sch_anew"), ..new_schedule("a", Some(at(60))) };
    assert!(matches!(begun(fixture, at(5), anew), Ok(Answer::Created { is_new: true, .. })));
}

fn a_declared_schedule_begins_with_a_run_once(fixture: &Fixture<'_>) {
    for (worker, schedule, is_first) in [("wkr_1", "sch_first", true), ("wkr_2", "sch_second", false)] {
        let declared = NewSchedule {
            id: ScheduleId::from(schedule),
            owner: Some(text("app.py")),
            ..new_schedule("a", Some(at(60)))
        };
        let run = NewRun::of_creation(&declared, at(1));
        let entry = polos::model::WorkerEntry { declared: vec![declared], ..new_worker(worker) };
        let commands = [Command::RegisterWorker(Box::new(entry)), Command::CreateRun(Box::new(run.clone()))];
        let answer = fixture.store.commit(&commands, at(1)).unwrap().remove(1);
        assert_eq!(answer.is_ok(), is_first, "{answer:?}");
        assert_eq!(fixture.find_run(&run.id).is_some(), is_first);
    }
}
