//! Batches in which a command needs rows that only a command before it determines. The answers are
//! those of the same commands one by one.

use super::super::fixture::{
    Fixture, PROJECT, at, end, failed, new_run, new_schedule, patch_command, succeeded, text,
};
use super::cases;
use polos::calendar::Timestamp;
use polos::model::{
    Admission, Completion, NewRun, NewSchedule, Origin, RunId, RunState, Schedule, ScheduleStatus, Token,
};
use polos::store::{Command, Patch};

cases! {
    a_child_that_is_created_and_ends_wakes_its_parent,
    what_is_retried_takes_its_children_with_it_when_its_parent_is_cancelled,
    of_two_in_line_the_stored_one_comes_first,
    what_is_retried_and_replaced_takes_its_children_with_it,
    what_is_retried_and_replaced_by_a_resumption_takes_its_children_with_it,
    a_skip_and_an_edit_take_back_what_the_two_would,
}

fn commit(fixture: &Fixture<'_>, now: Timestamp, commands: &[Command]) {
    let answers = fixture.store.commit(commands, now).unwrap();
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
}

fn cancel(run: &RunId) -> Command {
    Command::CancelRun { project: text(PROJECT), run: run.clone() }
}

fn retry(run: &RunId) -> Command {
    Command::RetryRun { project: text(PROJECT), run: run.clone() }
}

fn a_child_that_is_created_and_ends_wakes_its_parent(fixture: &Fixture<'_>) {
    for (number, ends) in [(1, true), (2, false)] {
        let claim_for = Some(fixture.worker.clone());
        let name = format!("run_parent{number}");
        let parent = fixture.create(at(0), NewRun { claim_for: claim_for.clone(), ..new_run(&name) });
        fixture.end(at(0), &parent, Completion::Parked { wakes_at: Timestamp::MAX });
        let origin = Origin::Child;
        let child = RunId::from(format!("run_child{number}").as_str());
        let new = NewRun { claim_for, origin, parent: Some(parent.clone()), ..new_run(child.as_str()) };
        let ending = if ends { end(&child, Token(1), succeeded()) } else { cancel(&child) };
        let create = Command::CreateRun(Box::new(new));
        commit(fixture, at(5), &[create, ending]);
        if !ends {
            fixture.end(at(5), &child, Completion::Cancelled { error: None });
        }
        assert_eq!(fixture.run(&parent).available_at, at(5), "{number}");
    }
}

/// A run that failed, with a child that has not finished.
fn failed_with_child(fixture: &Fixture<'_>, run: &RunId) -> RunId {
    let new = |id: &str, parent: &RunId| NewRun { parent: Some(parent.clone()), ..new_run(id) };
    let child = fixture.create(at(100), NewRun { available_at: at(9_999), ..new("run_child", run) });
    fixture.end(at(100), run, failed());
    assert_eq!((fixture.state(run), fixture.state(&child)), (RunState::Failed, RunState::Queued));
    child
}

fn what_is_retried_takes_its_children_with_it_when_its_parent_is_cancelled(fixture: &Fixture<'_>) {
    let parent = fixture.create(at(0), NewRun { available_at: at(9_999), ..new_run("run_parent") });
    let run = fixture.create(at(0), NewRun { parent: Some(parent.clone()), ..new_run("run_1") });
    fixture.claim(at(0));
    let child = failed_with_child(fixture, &run);
    commit(fixture, at(101), &[retry(&run), cancel(&parent)]);
    assert_eq!((fixture.state(&run), fixture.state(&child)), (RunState::Cancelled, RunState::Cancelled));
}

fn of_two_in_line_the_stored_one_comes_first(fixture: &Fixture<'_>) {
    let schedule = fixture.put(at(0), new_schedule("a", Some(at(60))));
    let behind = |id: &str| NewRun {
        schedule_id: Some(schedule.id.clone()),
        slot: Some(at(30)),
        origin: Origin::Trigger,
        behind: true,
        ..new_run(id)
    };
    let live = fixture.fire(at(60), &schedule, at(60), Admission::Claim);
    let stored = fixture.create(at(61), behind("run_stored"));
    let create = Command::CreateRun(Box::new(behind("run_new")));
    commit(fixture, at(62), &[create, end(&live, fixture.run(&live).token, succeeded())]);
    let states = (fixture.state(&stored), fixture.state(&"run_new".into()));
    assert_eq!(states, (RunState::Queued, RunState::Buffered));
}

/// A schedule, its run that failed, and the child of that, which has not finished.
fn failed_slot(fixture: &Fixture<'_>) -> (Schedule, RunId, RunId) {
    let schedule = fixture.put(at(0), new_schedule("a", Some(at(60))));
    let run = fixture.fire(at(60), &schedule, at(60), Admission::Claim);
    let child = failed_with_child(fixture, &run);
    (schedule, run, child)
}

fn what_is_retried_and_replaced_takes_its_children_with_it(fixture: &Fixture<'_>) {
    let (schedule, run, child) = failed_slot(fixture);
    let mut plan = fixture.plan(&schedule, &[(at(120), Admission::Queue)]);
    plan.cancel_unfinished = true;
    plan.revision += 1;
    let fire = Command::Fire { worker: fixture.worker.clone(), plan: Box::new(plan) };
    commit(fixture, at(120), &[retry(&run), fire]);
    assert_eq!((fixture.state(&run), fixture.state(&child)), (RunState::Cancelled, RunState::Cancelled));
}

fn what_is_retried_and_replaced_by_a_resumption_takes_its_children_with_it(fixture: &Fixture<'_>) {
    let (schedule, run, child) = failed_slot(fixture);
    let status = |status| Patch { status: Some(status), ..Patch::default() };
    fixture.patch(at(101), &schedule.id, status(ScheduleStatus::Paused));
    let mut plan = fixture.plan(&schedule, &[(at(120), Admission::Queue)]);
    plan.cancel_unfinished = true;
    let resume = Patch { fire: Some(Box::new(plan)), ..status(ScheduleStatus::Active) };
    commit(fixture, at(120), &[retry(&run), patch_command(&schedule.id, None, resume)]);
    assert_eq!((fixture.state(&run), fixture.state(&child)), (RunState::Cancelled, RunState::Cancelled));
}

fn a_skip_and_an_edit_take_back_what_the_two_would(fixture: &Fixture<'_>) {
    // A clock that is ahead has claimed the slots of two and three minutes.
    let slots = [at(60), at(120), at(180)];
    for (key, skipped, next) in [("a", 1, at(180)), ("b", 2, at(240)), ("c", 0, at(120))] {
        let schedule = fixture.put(at(0), new_schedule(key, Some(at(60))));
        let runs = slots.map(|slot| fixture.fire(at(110), &schedule, slot, Admission::Claim));
        let token = fixture.run(&runs[skipped]).token;
        let skip = end(&runs[skipped], token, Completion::Skipped { reason: text("closed") });
        let edit = NewSchedule { input: Some(text("1")), ..new_schedule(key, None) };
        commit(fixture, at(110), &[skip, Command::UpsertSchedules(vec![edit])]);
        assert_eq!(fixture.schedule(&schedule.id).next_slot, Some(next), "{key}");
    }
}
