//! The first entry of a run's handler, and the deletion of its schedule.

use super::super::fixture::{Fixture, PROJECT, at, done_step, new_run, new_schedule, text};
use super::cases;
use polos::calendar::Timestamp;
use polos::model::{Admission, Completion, EntryRefusal, NewRun, Origin, RunId, RunState, Schedule, Token};
use polos::store::{Answer, Command};

cases! {
    a_deletion_tells_that_a_due_run_is_claimed,
    a_deletion_tells_that_a_run_was_claimed_that_it_revokes,
    a_deletion_tells_that_a_backfilled_run_is_claimed,
    a_deletion_without_a_claimed_run_tells_so,
    a_run_may_be_entered_while_its_schedule_exists,
    a_due_run_of_a_deleted_schedule_may_not_be_entered,
    a_run_of_a_deleted_schedule_that_was_freed_may_not_be_entered,
    what_was_entered_before_the_deletion_goes_on,
    runs_that_belong_to_no_slot_may_be_entered,
    nothing_may_be_entered_under_an_old_claim,
    a_refused_run_is_on_record_as_skipped,
    a_claim_says_whether_it_is_the_first,
}

fn schedule(fixture: &Fixture<'_>) -> Schedule {
    fixture.put(at(0), new_schedule("a", Some(at(60))))
}

/// A schedule with a claimed run whose slot has passed.
fn claimed(fixture: &Fixture<'_>) -> (Schedule, RunId) {
    let schedule = schedule(fixture);
    let run = fixture.fire(at(60), &schedule, at(60), Admission::Claim);
    (schedule, run)
}

fn delete(fixture: &Fixture<'_>, now: Timestamp, schedule: &Schedule) -> bool {
    let command = Command::DeleteSchedule { project: text(PROJECT), id: schedule.id.clone() };
    match fixture.ok(now, command) {
        Answer::Deleted { is_claimed } => is_claimed,
        other => panic!("{other:?}"),
    }
}

fn may_enter(fixture: &Fixture<'_>, run: &RunId) -> Result<(), EntryRefusal> {
    let claim = (run.clone(), fixture.run(run).token);
    let mut answers = fixture.store.may_enter(&[claim]).unwrap();
    assert_eq!(answers.len(), 1);
    answers.remove(0)
}

fn record(fixture: &Fixture<'_>, run: &RunId) {
    let token = fixture.run(run).token;
    fixture.ok(at(60), Command::RecordStep { run: run.clone(), token, step: done_step("one") });
}

/// A run that `schedules.trigger` or `schedules.backfill` adds.
fn added(fixture: &Fixture<'_>, schedule: &Schedule, origin: Origin) -> RunId {
    let new = NewRun {
        schedule_id: Some(schedule.id.clone()),
        slot: Some(at(30)),
        origin,
        available_at: at(50),
        ..new_run("run_added")
    };
    let run = fixture.create(at(50), new);
    assert_eq!(fixture.claim(at(50)).len(), 1);
    run
}

fn a_deletion_tells_that_a_due_run_is_claimed(fixture: &Fixture<'_>) {
    let (schedule, run) = claimed(fixture);
    assert!(delete(fixture, at(61), &schedule));
    assert_eq!(fixture.state(&run), RunState::Running, "its handler may have been entered");
}

fn a_deletion_tells_that_a_run_was_claimed_that_it_revokes(fixture: &Fixture<'_>) {
    let schedule = schedule(fixture);
    let run = fixture.fire(at(59), &schedule, at(60), Admission::Claim);
    assert!(delete(fixture, at(59), &schedule), "the clock of its worker may be ahead");
    assert_eq!(fixture.find_run(&run), None);
}

fn a_deletion_tells_that_a_backfilled_run_is_claimed(fixture: &Fixture<'_>) {
    let schedule = schedule(fixture);
    added(fixture, &schedule, Origin::Backfill);
    assert!(delete(fixture, at(51), &schedule));
}

fn a_deletion_without_a_claimed_run_tells_so(fixture: &Fixture<'_>) {
    let idle = schedule(fixture);
    assert!(!delete(fixture, at(1), &idle));
    let queued = schedule(fixture);
    fixture.fire(at(60), &queued, at(60), Admission::Queue);
    assert!(!delete(fixture, at(60), &queued));
    let entered = fixture.put(at(60), new_schedule("a", Some(at(120))));
    let run = fixture.fire(at(120), &entered, at(120), Admission::Claim);
    record(fixture, &run);
    assert!(!delete(fixture, at(120), &entered), "a recorded step shows that it was entered");
    let triggered = fixture.put(at(120), new_schedule("a", Some(at(300))));
    added(fixture, &triggered, Origin::Trigger);
    assert!(!delete(fixture, at(121), &triggered), "a triggered run belongs to no slot");
}

fn a_run_may_be_entered_while_its_schedule_exists(fixture: &Fixture<'_>) {
    let (_, run) = claimed(fixture);
    assert_eq!(may_enter(fixture, &run), Ok(()));
}

fn a_due_run_of_a_deleted_schedule_may_not_be_entered(fixture: &Fixture<'_>) {
    let (schedule, run) = claimed(fixture);
    delete(fixture, at(61), &schedule);
    assert_eq!(may_enter(fixture, &run), Err(EntryRefusal::ScheduleDeleted));
    let backfilled = fixture.put(at(61), new_schedule("b", Some(at(120))));
    let run = added(fixture, &backfilled, Origin::Backfill);
    delete(fixture, at(61), &backfilled);
    assert_eq!(may_enter(fixture, &run), Err(EntryRefusal::ScheduleDeleted));
}

fn a_run_of_a_deleted_schedule_that_was_freed_may_not_be_entered(fixture: &Fixture<'_>) {
    let (schedule, run) = claimed(fixture);
    delete(fixture, at(61), &schedule);
    fixture.end(at(62), &run, Completion::Released);
    assert_eq!(fixture.claim(at(63)).len(), 1);
    assert_eq!(may_enter(fixture, &run), Err(EntryRefusal::ScheduleDeleted));
}

fn what_was_entered_before_the_deletion_goes_on(fixture: &Fixture<'_>) {
    let (schedule, run) = claimed(fixture);
    record(fixture, &run);
    delete(fixture, at(61), &schedule);
    assert_eq!(may_enter(fixture, &run), Ok(()), "it has recorded a step");
    let failed = fixture.put(at(61), new_schedule("b", Some(at(120))));
    let run = fixture.fire(at(120), &failed, at(120), Admission::Claim);
    fixture.end(at(121), &run, Completion::Failed { error: text("{}"), retry_at: Some(at(122)) });
    assert_eq!(fixture.claim(at(122)).len(), 1);
    delete(fixture, at(122), &failed);
    assert_eq!(may_enter(fixture, &run), Ok(()), "it is in its second attempt");
}

fn runs_that_belong_to_no_slot_may_be_entered(fixture: &Fixture<'_>) {
    let invoked = fixture.running(at(0), "run_1").id;
    assert_eq!(may_enter(fixture, &invoked), Ok(()));
    let schedule = schedule(fixture);
    let triggered = added(fixture, &schedule, Origin::Trigger);
    delete(fixture, at(51), &schedule);
    assert_eq!(may_enter(fixture, &triggered), Ok(()));
}

fn nothing_may_be_entered_under_an_old_claim(fixture: &Fixture<'_>) {
    let (_, run) = claimed(fixture);
    let token = fixture.run(&run).token;
    let lost = Err(EntryRefusal::ClaimLost);
    let claims = [(run.clone(), token), (run.clone(), token.next()), (RunId::from("run_none"), Token(1))];
    assert_eq!(fixture.store.may_enter(&claims).unwrap(), [Ok(()), lost, lost]);
    fixture.end(at(61), &run, Completion::Released);
    assert_eq!(fixture.store.may_enter(&claims).unwrap(), [lost, lost, lost]);
}

fn a_refused_run_is_on_record_as_skipped(fixture: &Fixture<'_>) {
    let (schedule, run) = claimed(fixture);
    delete(fixture, at(61), &schedule);
    let reason = text("refused before its entry: the schedule was deleted");
    fixture.end(at(62), &run, Completion::Skipped { reason: reason.clone() });
    assert_eq!(fixture.find_run(&run), None);
    assert_eq!(fixture.history(&schedule.id), [(at(60), reason.to_string())]);
}

fn a_claim_says_whether_it_is_the_first(fixture: &Fixture<'_>) {
    let schedule = schedule(fixture);
    let plan = fixture.plan(&schedule, &[(at(60), Admission::Claim), (at(61), Admission::Queue)]);
    assert!(fixture.commit_plan(at(61), plan)[0].is_first);
    let claimed = fixture.claim(at(61)).remove(0);
    assert!(claimed.is_first);
    fixture.end(at(62), &claimed.run.id, Completion::Released);
    assert!(!fixture.claim(at(63))[0].is_first);
}
