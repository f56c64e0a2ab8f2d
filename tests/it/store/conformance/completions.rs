//! Ending, cancelling and retrying runs, and what that sets free.

use super::super::fixture::{
    Fixture, PROJECT, at, done_step, end, failed, new_run, new_schedule, succeeded, text,
};
use super::cases;
use polos::model::{
    Admission, Completion, NewRun, NewSchedule, Origin, RunId, RunState, Schedule, ScheduleStatus,
    StepRecord, StepState, Token,
};
use polos::store::{Answer, Command, Rejection};
use serde_json::json;

cases! {
    an_idempotency_key_stays_used_after_the_end_of_its_run,
    a_success_keeps_the_result,
    a_failure_keeps_the_error,
    a_failure_to_be_retried_is_queued_for_then,
    a_success_after_a_failure_clears_the_error,
    a_cancelled_run_has_ended,
    a_released_run_is_free_at_once,
    a_release_ahead_of_time_waits_for_it,
    a_skipped_slot_is_in_the_ledger_and_leaves_no_run,
    a_skipped_slot_releases_the_next,
    what_has_recorded_a_step_is_cancelled_instead_of_skipped,
    an_ending_of_another_claim_is_fenced,
    the_repetition_of_an_ending_is_answered_as_the_first_time,
    another_ending_under_the_same_token_is_fenced,
    a_finished_run_releases_the_next_buffered_one,
    nothing_is_released_while_another_goes_on,
    a_released_run_keeps_its_own_time,
    a_batch_completes_runs_and_fires_the_next_slots,
    a_batch_records_the_last_step_of_a_run_before_its_end,
    of_two_runs_that_end_together_the_second_releases_the_next,
    failures_count_and_pause_the_schedule,
    a_success_resets_the_failures,
    a_failure_to_be_retried_does_not_count,
    a_paused_schedule_is_not_paused_again,
    parking_a_run_that_shall_stop_cancels_it,
    releasing_a_run_that_shall_stop_cancels_it,
    retrying_a_run_that_shall_stop_cancels_it,
    a_finished_child_wakes_its_parent,
    a_child_that_ended_before_its_parent_parked_wakes_it_too,
    claims_made_together_forget_children_that_have_ended,
    a_queued_run_is_cancelled_at_once,
    a_running_run_is_asked_to_stop,
    cancelling_goes_down_to_the_children,
    a_finished_run_stays_as_it_is,
    cancelling_what_is_not_there_is_rejected,
    cancelling_releases_the_next,
    a_retried_run_goes_on_from_its_first_unfinished_step,
    only_what_has_failed_can_be_retried,
    retrying_what_is_not_there_is_rejected,
}

fn cancel(run: &RunId) -> Command {
    Command::CancelRun { project: text(PROJECT), run: run.clone() }
}

fn retry(run: &RunId) -> Command {
    Command::RetryRun { project: text(PROJECT), run: run.clone() }
}

fn a_success_keeps_the_result(fixture: &Fixture<'_>) {
    let run = fixture.running(at(0), "run_1").id;
    assert_eq!(fixture.end(at(5), &run, succeeded()), (RunState::Succeeded, false));
    let ended = fixture.run(&run);
    assert_eq!((ended.state, ended.finished_at), (RunState::Succeeded, Some(at(5))));
    assert_eq!((ended.result, ended.error), (Some(text("42")), None));
    assert_eq!(ended.worker, Some(fixture.worker.clone()), "who claimed it last");
    assert_eq!(fixture.store.peers(PROJECT).unwrap()[0].held_count, 0);
}

fn a_failure_keeps_the_error(fixture: &Fixture<'_>) {
    let run = fixture.running(at(0), "run_1").id;
    assert_eq!(fixture.end(at(5), &run, failed()), (RunState::Failed, false));
    let ended = fixture.run(&run);
    assert_eq!((ended.finished_at, ended.result), (Some(at(5)), None));
    assert_eq!(ended.error, Some(text(r#"{"type":"ValueError"}"#)));
}

fn retry_at(seconds: i64) -> Completion {
    Completion::Failed { error: text("{}"), retry_at: Some(at(seconds)) }
}

fn a_failure_to_be_retried_is_queued_for_then(fixture: &Fixture<'_>) {
    let run = fixture.running(at(0), "run_1").id;
    assert_eq!(fixture.end(at(5), &run, retry_at(30)), (RunState::Queued, false));
    let queued = fixture.run(&run);
    assert_eq!((queued.attempt, queued.available_at, queued.finished_at), (2, at(30), None));
    assert_eq!(queued.error, Some(text("{}")));
}

fn a_success_after_a_failure_clears_the_error(fixture: &Fixture<'_>) {
    let run = fixture.running(at(0), "run_1").id;
    fixture.end(at(5), &run, retry_at(5));
    fixture.claim(at(5));
    fixture.end(at(6), &run, succeeded());
    assert_eq!(fixture.run(&run).error, None);
}

fn a_cancelled_run_has_ended(fixture: &Fixture<'_>) {
    let run = fixture.running(at(0), "run_1").id;
    let ending = Completion::Cancelled { error: Some(text("stopped")) };
    assert_eq!(fixture.end(at(5), &run, ending), (RunState::Cancelled, false));
    let ended = fixture.run(&run);
    assert_eq!((ended.finished_at, ended.error), (Some(at(5)), Some(text("stopped"))));
}

fn a_released_run_is_free_at_once(fixture: &Fixture<'_>) {
    let run = fixture.running(at(0), "run_1").id;
    assert_eq!(fixture.end(at(5), &run, Completion::Released), (RunState::Queued, false));
    let freed = fixture.run(&run);
    assert_eq!((freed.attempt, freed.token, freed.available_at), (1, Token(1), at(5)));
}

fn a_release_ahead_of_time_waits_for_it(fixture: &Fixture<'_>) {
    let schedule = fixture.put(at(0), new_schedule("a", Some(at(60))));
    let run = fixture.fire(at(59), &schedule, at(60), Admission::Claim);
    fixture.end(at(59), &run, Completion::Released);
    assert_eq!(fixture.run(&run).available_at, at(60), "never early");
}

fn skipped() -> Completion {
    Completion::Skipped { reason: text("a holiday") }
}

fn a_skipped_slot_is_in_the_ledger_and_leaves_no_run(fixture: &Fixture<'_>) {
    let schedule = fixture.put(at(0), new_schedule("a", Some(at(60))));
    let before = fixture.fire(at(60), &schedule, at(60), Admission::Claim);
    fixture.end(at(61), &before, succeeded());
    let schedule = fixture.schedule(&schedule.id);
    let run = fixture.fire(at(120), &schedule, at(120), Admission::Claim);
    let fired = fixture.schedule(&schedule.id);
    assert_eq!(fired.run_count, 2);
    assert_eq!(fixture.end(at(120), &run, skipped()), (RunState::Cancelled, false));
    assert_eq!(fixture.find_run(&run), None);
    assert_eq!(fixture.history(&schedule.id)[0], (at(120), "a holiday".to_owned()));
    let after = fixture.schedule(&schedule.id);
    assert_eq!((after.run_count, after.last_slot), (1, Some(at(60))), "as if it had never been made");
    assert!(after.revision > fired.revision, "decisions that are based on it are stale");
    let token = Token(schedule.revision + 1);
    assert_eq!(fixture.no(at(121), end(&run, token, succeeded())), Rejection::Fenced);
}

fn a_skipped_slot_releases_the_next(fixture: &Fixture<'_>) {
    let schedule = fixture.put(at(0), new_schedule("a", Some(at(60))));
    let run = fixture.fire(at(60), &schedule, at(60), Admission::Claim);
    let next = fixture.fire(at(120), &fixture.schedule(&schedule.id), at(120), Admission::Behind);
    assert_eq!(fixture.end(at(121), &run, skipped()), (RunState::Cancelled, true));
    assert_eq!(fixture.state(&next), RunState::Queued);
    assert_eq!(fixture.schedule(&schedule.id).last_slot, Some(at(120)), "that of the newest run stays");
}

fn what_has_recorded_a_step_is_cancelled_instead_of_skipped(fixture: &Fixture<'_>) {
    let schedule = fixture.put(at(0), new_schedule("a", Some(at(60))));
    let run = fixture.fire(at(60), &schedule, at(60), Admission::Claim);
    let token = fixture.run(&run).token;
    fixture.ok(at(61), Command::RecordStep { run: run.clone(), token, step: done_step("one") });
    assert_eq!(fixture.end(at(62), &run, skipped()).0, RunState::Cancelled);
    assert_eq!(fixture.state(&run), RunState::Cancelled);
}

fn an_ending_of_another_claim_is_fenced(fixture: &Fixture<'_>) {
    let run = fixture.running(at(0), "run_1").id;
    fixture.end(at(1), &run, Completion::Released);
    let late = end(&run, Token(1), succeeded());
    assert_eq!(fixture.no(at(2), late.clone()), Rejection::Fenced);
    fixture.claim(at(3));
    assert_eq!(fixture.no(at(4), late), Rejection::Fenced);
    assert_eq!(fixture.state(&run), RunState::Running);
    let nobody = end(&RunId::from("run_none"), Token(1), succeeded());
    assert_eq!(fixture.no(at(5), nobody), Rejection::Fenced);
}

fn the_repetition_of_an_ending_is_answered_as_the_first_time(fixture: &Fixture<'_>) {
    let endings = [
        succeeded(),
        Completion::Succeeded { result: None },
        failed(),
        retry_at(30),
        Completion::Cancelled { error: None },
        Completion::Parked { wakes_at: at(30) },
        Completion::Released,
    ];
    for (number, ending) in endings.into_iter().enumerate() {
        let now = at(1000 * i64::try_from(number).unwrap());
        let run = fixture.running(now, &format!("run_{number}")).id;
        let command = end(&run, Token(1), ending.clone());
        let first = fixture.ok(now, command.clone());
        let before = fixture.run(&run);
        assert_eq!(fixture.ok(at(99_999), command), first, "{ending:?}");
        assert_eq!(fixture.run(&run), before, "{ending:?}");
        // Out of the way of the next.
        fixture.try_one(now, cancel(&run)).unwrap();
    }
    let schedule = fixture.put(at(0), new_schedule("a", Some(at(60))));
    let slots = [(at(60), Admission::Claim), (at(120), Admission::Behind)];
    fixture.commit_plan(at(120), fixture.plan(&schedule, &slots));
    let command = end(&RunId::of_slot(&schedule.id, at(60)), Token(1), succeeded());
    let released = Answer::Ended { state: RunState::Succeeded, released: true };
    assert_eq!(fixture.ok(at(130), command.clone()), released);
    assert_eq!(fixture.ok(at(131), command), released);
    let next = RunId::of_slot(&schedule.id, at(120));
    assert_eq!(fixture.run(&next).available_at, at(130), "released once");
}

fn another_ending_under_the_same_token_is_fenced(fixture: &Fixture<'_>) {
    let run = fixture.running(at(0), "run_1").id;
    fixture.end(at(1), &run, succeeded());
    for ending in [failed(), Completion::Succeeded { result: None }, Completion::Released] {
        assert_eq!(fixture.no(at(2), end(&run, Token(1), ending)), Rejection::Fenced);
    }
    for number in (0..100).filter(|number| *number != 42) {
        let ending = Completion::Succeeded { result: Some(text(&number.to_string())) };
        assert_eq!(fixture.no(at(2), end(&run, Token(1), ending)), Rejection::Fenced, "{number}");
    }
    assert_eq!(fixture.run(&run).result, Some(text("42")));
}

/// A schedule whose first slot runs and whose next two wait behind it.
fn in_line(fixture: &Fixture<'_>) -> (Schedule, [RunId; 3]) {
    let schedule = fixture.put(at(0), new_schedule("a", Some(at(60))));
    let slots = [(at(60), Admission::Claim), (at(120), Admission::Behind), (at(180), Admission::Behind)];
    fixture.commit_plan(at(180), fixture.plan(&schedule, &slots));
    let runs = [at(60), at(120), at(180)].map(|slot| RunId::of_slot(&schedule.id, slot));
    (schedule, runs)
}

fn a_finished_run_releases_the_next_buffered_one(fixture: &Fixture<'_>) {
    let (_, [first, second, third]) = in_line(fixture);
    assert_eq!(fixture.end(at(200), &first, succeeded()), (RunState::Succeeded, true));
    assert_eq!((fixture.state(&second), fixture.state(&third)), (RunState::Queued, RunState::Buffered));
    assert_eq!(fixture.run(&second).available_at, at(200));
    fixture.claim(at(201));
    assert_eq!(fixture.end(at(202), &second, failed()), (RunState::Failed, true));
    assert_eq!(fixture.state(&third), RunState::Queued);
}

fn nothing_is_released_while_another_goes_on(fixture: &Fixture<'_>) {
    let (schedule, [first, second, _]) = in_line(fixture);
    let new = NewRun {
        schedule_id: Some(schedule.id.clone()),
        slot: Some(at(190)),
        origin: Origin::Trigger,
        ..new_run("run_by_hand")
    };
    let by_hand = fixture.create(at(190), new);
    fixture.claim(at(190));
    assert_eq!(fixture.end(at(200), &by_hand, succeeded()), (RunState::Succeeded, false));
    assert_eq!(fixture.state(&second), RunState::Buffered, "the first still runs");
    assert_eq!(fixture.end(at(201), &first, retry_at(300)), (RunState::Queued, false));
    assert_eq!(fixture.state(&second), RunState::Buffered, "the first will run again");
    fixture.ok(at(202), cancel(&first));
    assert_eq!(fixture.state(&second), RunState::Queued);
}

fn a_released_run_keeps_its_own_time(fixture: &Fixture<'_>) {
    let schedule = fixture.put(at(0), new_schedule("a", Some(at(60))));
    let mut plan = fixture.plan(&schedule, &[(at(60), Admission::Claim), (at(120), Admission::Behind)]);
    plan.runs[1].available_at = at(500);
    fixture.commit_plan(at(120), plan);
    fixture.end(at(130), &RunId::of_slot(&schedule.id, at(60)), succeeded());
    assert_eq!(fixture.run(&RunId::of_slot(&schedule.id, at(120))).available_at, at(500), "its jitter");
}

fn a_batch_completes_runs_and_fires_the_next_slots(fixture: &Fixture<'_>) {
    let names = ["a", "b", "c"];
    let schedules = names.map(|key| fixture.put(at(0), new_schedule(key, Some(at(60)))));
    let runs = schedules.each_ref().map(|schedule| fixture.fire(at(60), schedule, at(60), Admission::Claim));
    let token = |run: &RunId| fixture.run(run).token;
    let fire = |schedule: &Schedule| Command::Fire {
        worker: fixture.worker.clone(),
        plan: Box::new(fixture.plan(schedule, &[(at(120), Admission::Claim)])),
    };
    let stale = Token(token(&runs[2]).0 + 1);
    let commands = [
        fire(&schedules[0]),
        end(&runs[0], token(&runs[0]), succeeded()),
        end(&runs[1], token(&runs[1]), Completion::Cancelled { error: None }),
        end(&runs[2], stale, succeeded()),
        fire(&schedules[2]),
    ];
    let outcomes = fixture.store.commit(&commands, at(120)).unwrap();
    let ended = |state| Ok(Answer::Ended { state, released: false });
    assert_eq!(outcomes[1], ended(RunState::Succeeded));
    assert_eq!(outcomes[2], ended(RunState::Cancelled));
    assert_eq!(outcomes[3], Err(Rejection::Fenced), "of another claim");
    for (place, key) in [(0, "a"), (4, "c")] {
        assert!(matches!(&outcomes[place], Ok(Answer::Claimed(runs)) if runs.len() == 1), "{key}");
    }
    let states = runs.each_ref().map(|run| fixture.run(run).state);
    assert_eq!(states, [RunState::Succeeded, RunState::Cancelled, RunState::Running]);
    assert_eq!(fixture.run(&runs[0]).result, Some(text("42")));
    let after = schedules.each_ref().map(|schedule| fixture.schedule(&schedule.id));
    assert_eq!(after.each_ref().map(|schedule| schedule.run_count), [2, 1, 2]);
    assert_eq!(after[0].next_slot, Some(at(180)));
    assert_eq!(after[1].revision, 2, "a completion does not change its schedule");
    let again = fixture.store.commit(&commands[1..2], at(130)).unwrap();
    assert_eq!(again, [ended(RunState::Succeeded)], "a repetition is answered alike");
    assert_eq!(fixture.run(&runs[0]).finished_at, Some(at(120)));
}

fn a_batch_records_the_last_step_of_a_run_before_its_end(fixture: &Fixture<'_>) {
    let schedule = fixture.put(at(0), new_schedule("a", Some(at(60))));
    let run = fixture.fire(at(60), &schedule, at(60), Admission::Claim);
    let token = fixture.run(&run).token;
    let step = Command::RecordStep { run: run.clone(), token, step: done_step("last") };
    let outcomes = fixture.store.commit(&[step, end(&run, token, succeeded())], at(61)).unwrap();
    let ended = Answer::Ended { state: RunState::Succeeded, released: false };
    assert_eq!(outcomes, [Ok(Answer::Done), Ok(ended)]);
    assert_eq!(fixture.steps(&run), ["last"]);
}

fn of_two_runs_that_end_together_the_second_releases_the_next(fixture: &Fixture<'_>) {
    let schedule = fixture.put(at(0), new_schedule("a", Some(at(60))));
    let slots = [(at(60), Admission::Claim), (at(120), Admission::Claim), (at(180), Admission::Behind)];
    fixture.commit_plan(at(180), fixture.plan(&schedule, &slots));
    let [first, second, behind] = [60, 120, 180].map(|slot| RunId::of_slot(&schedule.id, at(slot)));
    assert_eq!(fixture.run(&behind).state, RunState::Buffered);
    let ends = [&first, &second].map(|run| end(run, fixture.run(run).token, succeeded()));
    let outcomes = fixture.store.commit(&ends, at(190)).unwrap();
    let ended = |released| Ok(Answer::Ended { state: RunState::Succeeded, released });
    assert_eq!(outcomes, [ended(false), ended(true)]);
    assert_eq!(fixture.run(&behind).state, RunState::Queued);
}

/// A schedule that pauses after so many failed runs in a row.
fn pausing(key: &str, pause_after_failures: u32) -> NewSchedule {
    let spec = json!({"cron": "* * * * *", "pause_after_failures": pause_after_failures});
    NewSchedule { spec: spec.to_string().into(), ..new_schedule(key, Some(at(60))) }
}

fn fail(fixture: &Fixture<'_>, schedule: &Schedule, slot: i64, ending: Completion) -> Schedule {
    let run = fixture.fire(at(slot), schedule, at(slot), Admission::Claim);
    let token = fixture.run(&run).token;
    let ending = Box::new(ending);
    fixture.ok(at(slot + 1), Command::CompleteRun { run, token, ending, stands_alone: false, tells: false });
    fixture.schedule(&schedule.id)
}

fn failures_count_and_pause_the_schedule(fixture: &Fixture<'_>) {
    let schedule = fixture.put(at(0), pausing("a", 2));
    let after = fail(fixture, &schedule, 60, failed());
    assert_eq!((after.failure_count, after.status, after.revision), (1, ScheduleStatus::Active, 2));
    let after = fail(fixture, &schedule, 120, failed());
    assert_eq!((after.failure_count, after.status), (2, ScheduleStatus::Paused));
    assert!(after.note.is_some_and(|note| note.contains('2')), "it says why");
    assert_eq!((after.revision, after.updated_at), (4, at(121)), "older decisions are stale");
}

fn a_success_resets_the_failures(fixture: &Fixture<'_>) {
    let schedule = fixture.put(at(0), pausing("a", 2));
    fail(fixture, &schedule, 60, failed());
    assert_eq!(fail(fixture, &schedule, 120, Completion::Cancelled { error: None }).failure_count, 1);
    assert_eq!(fail(fixture, &schedule, 180, succeeded()).failure_count, 0);
    let after = fail(fixture, &schedule, 240, failed());
    assert_eq!((after.failure_count, after.status), (1, ScheduleStatus::Active));
}

fn a_failure_to_be_retried_does_not_count(fixture: &Fixture<'_>) {
    let schedule = fixture.put(at(0), pausing("a", 2));
    assert_eq!(fail(fixture, &schedule, 60, retry_at(100)).failure_count, 0);
}

fn a_paused_schedule_is_not_paused_again(fixture: &Fixture<'_>) {
    let schedule = fixture.put(at(0), pausing("a", 1));
    let run = fixture.fire(at(60), &schedule, at(60), Admission::Claim);
    let patch = polos::store::Patch {
        status: Some(ScheduleStatus::Paused),
        note: Some(Some(text("by hand"))),
        ..Default::default()
    };
    let paused = fixture.patch(at(61), &schedule.id, patch);
    let ending = Box::new(failed());
    fixture
        .ok(at(62), Command::CompleteRun { run, token: Token(1), ending, stands_alone: false, tells: false });
    assert_eq!(fixture.schedule(&schedule.id), Schedule { failure_count: 1, ..paused });
}

fn asked_to_stop(fixture: &Fixture<'_>, ending: Completion) {
    let run = fixture.running(at(0), "run_1").id;
    fixture.ok(at(1), cancel(&run));
    assert_eq!(fixture.end(at(2), &run, ending), (RunState::Cancelled, false));
    assert_eq!(fixture.run(&run).finished_at, Some(at(2)));
    assert_eq!(fixture.claim(at(9_999)), []);
}

fn parking_a_run_that_shall_stop_cancels_it(fixture: &Fixture<'_>) {
    asked_to_stop(fixture, Completion::Parked { wakes_at: at(60) });
}

fn releasing_a_run_that_shall_stop_cancels_it(fixture: &Fixture<'_>) {
    asked_to_stop(fixture, Completion::Released);
}

fn retrying_a_run_that_shall_stop_cancels_it(fixture: &Fixture<'_>) {
    asked_to_stop(fixture, retry_at(60));
}

fn child_of(parent: &RunId, id: &str) -> NewRun {
    NewRun { parent: Some(parent.clone()), origin: Origin::Child, ..new_run(id) }
}

fn a_finished_child_wakes_its_parent(fixture: &Fixture<'_>) {
    let parent = fixture.running(at(0), "run_parent").id;
    let child = fixture.create(at(1), child_of(&parent, "run_child"));
    fixture.end(at(2), &parent, Completion::Parked { wakes_at: at(9_999) });
    fixture.claim(at(3));
    assert_eq!(fixture.end(at(4), &child, succeeded()), (RunState::Succeeded, true));
    let woken = fixture.run(&parent);
    assert_eq!((woken.state, woken.available_at), (RunState::Waiting, at(4)));
    assert_eq!(fixture.claim(at(4)).remove(0).run.id, parent);
}

fn a_child_that_ended_before_its_parent_parked_wakes_it_too(fixture: &Fixture<'_>) {
    let parent = fixture.running(at(0), "run_parent").id;
    let child = fixture.create(at(1), child_of(&parent, "run_child"));
    fixture.claim(at(2));
    assert_eq!(fixture.end(at(3), &child, succeeded()), (RunState::Succeeded, false));
    fixture.end(at(4), &parent, Completion::Parked { wakes_at: at(9_999) });
    assert_eq!(fixture.run(&parent).available_at, at(4), "nobody else would wake it");
    fixture.claim(at(5));
    fixture.end(at(6), &parent, Completion::Parked { wakes_at: at(9_999) });
    assert_eq!(fixture.run(&parent).available_at, at(9_999), "it has been told");
}

fn claims_made_together_forget_children_that_have_ended(fixture: &Fixture<'_>) {
    let parent = fixture.running(at(0), "run_parent").id;
    let child = fixture.create(at(1), child_of(&parent, "run_child"));
    fixture.claim(at(2));
    fixture.end(at(3), &child, succeeded());
    fixture.end(at(4), &parent, Completion::Parked { wakes_at: at(9_999) });
    fixture.create(at(5), new_run("run_other"));
    assert_eq!(fixture.claim(at(5)).len(), 2);
    fixture.end(at(6), &parent, Completion::Parked { wakes_at: at(9_999) });
    assert_eq!(fixture.run(&parent).available_at, at(9_999), "it has been told");
}

fn a_queued_run_is_cancelled_at_once(fixture: &Fixture<'_>) {
    let queued = fixture.create(at(0), new_run("run_1"));
    assert_eq!(fixture.ok(at(1), cancel(&queued)), Answer::State(RunState::Cancelled));
    assert_eq!(fixture.run(&queued).finished_at, Some(at(1)));
    let waiting = fixture.running(at(2), "run_2").id;
    fixture.end(at(2), &waiting, Completion::Parked { wakes_at: at(99) });
    assert_eq!(fixture.ok(at(3), cancel(&waiting)), Answer::State(RunState::Cancelled));
    let (_, [_, buffered, _]) = in_line(fixture);
    assert_eq!(fixture.ok(at(200), cancel(&buffered)), Answer::State(RunState::Cancelled));
    assert_eq!(fixture.claim(at(9_999)), []);
}

fn a_running_run_is_asked_to_stop(fixture: &Fixture<'_>) {
    let run = fixture.running(at(0), "run_1").id;
    assert_eq!(fixture.store.cancel_requests(&fixture.worker).unwrap(), []);
    for _ in 0..2 {
        assert_eq!(fixture.ok(at(1), cancel(&run)), Answer::State(RunState::Running));
    }
    assert!(fixture.run(&run).cancel_requested);
    assert_eq!(fixture.store.cancel_requests(&fixture.worker).unwrap(), std::slice::from_ref(&run));
    assert_eq!(fixture.end(at(2), &run, succeeded()).0, RunState::Succeeded, "it was faster");
    assert_eq!(fixture.store.cancel_requests(&fixture.worker).unwrap(), []);
}

fn cancelling_goes_down_to_the_children(fixture: &Fixture<'_>) {
    let parent = fixture.running(at(0), "run_parent").id;
    let child = fixture.create(at(1), child_of(&parent, "run_child"));
    fixture.claim(at(2));
    let grandchild = fixture.create(at(3), child_of(&child, "run_grandchild"));
    fixture.end(at(4), &parent, Completion::Parked { wakes_at: at(9_999) });
    fixture.ok(at(5), cancel(&parent));
    assert_eq!(fixture.state(&parent), RunState::Cancelled);
    assert!(fixture.run(&child).cancel_requested);
    assert_eq!(fixture.state(&grandchild), RunState::Cancelled);
}

fn a_finished_run_stays_as_it_is(fixture: &Fixture<'_>) {
    let run = fixture.running(at(0), "run_1").id;
    fixture.end(at(1), &run, succeeded());
    let before = fixture.run(&run);
    assert_eq!(fixture.ok(at(2), cancel(&run)), Answer::State(RunState::Succeeded));
    assert_eq!(fixture.run(&run), before);
}

fn cancelling_what_is_not_there_is_rejected(fixture: &Fixture<'_>) {
    let none = RunId::from("run_none");
    assert_eq!(fixture.no(at(0), cancel(&none)), Rejection::RunNotFound(none.clone()));
    fixture.create(at(0), new_run("run_1"));
    let elsewhere = Command::CancelRun { project: text("other"), run: RunId::from("run_1") };
    assert_eq!(fixture.no(at(0), elsewhere), Rejection::RunNotFound(RunId::from("run_1")));
}

fn cancelling_releases_the_next(fixture: &Fixture<'_>) {
    let (_, [first, second, _]) = in_line(fixture);
    fixture.end(at(190), &first, Completion::Parked { wakes_at: at(9_999) });
    assert_eq!(fixture.state(&second), RunState::Buffered);
    fixture.ok(at(200), cancel(&first));
    assert_eq!(fixture.state(&second), RunState::Queued);
}

fn a_retried_run_goes_on_from_its_first_unfinished_step(fixture: &Fixture<'_>) {
    let run = fixture.running(at(0), "run_1").id;
    let step = |name, state| StepRecord { state, ..done_step(name) };
    for step in [step("a", StepState::Failed), step("b", StepState::Done), step("c", StepState::Sleeping)] {
        fixture.ok(at(1), Command::RecordStep { run: run.clone(), token: Token(1), step });
    }
    fixture.ok(at(2), cancel(&run));
    fixture.end(at(3), &run, failed());
    assert_eq!(fixture.ok(at(10), retry(&run)), Answer::State(RunState::Queued));
    let queued = fixture.run(&run);
    assert_eq!((queued.state, queued.attempt, queued.available_at), (RunState::Queued, 2, at(10)));
    assert_eq!((queued.finished_at, queued.cancel_requested), (None, false));
    assert_eq!(fixture.steps(&run), ["b", "c"]);
    let claimed = fixture.claim(at(10)).remove(0);
    assert_eq!((claimed.run.token, claimed.journal.len()), (Token(2), 2));
    fixture.ok(at(11), Command::RecordStep { run: run.clone(), token: Token(2), step: done_step("a") });
    assert_eq!(fixture.steps(&run), ["b", "c", "a"]);
}

fn only_what_has_failed_can_be_retried(fixture: &Fixture<'_>) {
    let run = fixture.running(at(0), "run_1").id;
    let expected = |state| Rejection::RunNotFinished(run.clone(), state);
    assert_eq!(fixture.no(at(1), retry(&run)), expected(RunState::Running));
    fixture.end(at(2), &run, succeeded());
    assert_eq!(fixture.no(at(3), retry(&run)), expected(RunState::Succeeded));
    let cancelled = fixture.create(at(4), new_run("run_2"));
    fixture.ok(at(5), cancel(&cancelled));
    assert_eq!(fixture.ok(at(6), retry(&cancelled)), Answer::State(RunState::Queued));
}

fn retrying_what_is_not_there_is_rejected(fixture: &Fixture<'_>) {
    let none = RunId::from("run_none");
    assert_eq!(fixture.no(at(0), retry(&none)), Rejection::RunNotFound(none.clone()));
}

fn an_idempotency_key_stays_used_after_the_end_of_its_run(fixture: &Fixture<'_>) {
    let with_key = |id: &str| NewRun { idempotency_key: Some(text("once")), ..new_run(id) };
    let first = fixture.create(at(1), with_key("run_1"));
    fixture.claim(at(1));
    fixture.end(at(2), &first, succeeded());
    assert_eq!(fixture.create(at(3), with_key("run_2")), first);
    assert_eq!(fixture.find_run(&RunId::from("run_2")), None);
}
