//! Skips of coming slots, skips that are taken back, and decisions that come with a resumption.

use super::super::fixture::{Fixture, PROJECT, at, everything, new_schedule, patch_command, succeeded, text};
use super::cases;
use polos::calendar::Timestamp;
use polos::model::{
    Admission, FirePlan, LedgerLine, PlannedRun, RunId, RunState, Schedule, ScheduleStatus, SlotOutcome,
};
use polos::store::{Command, Patch, Rejection};

cases! {
    a_skipped_slot_is_left_out_and_those_before_it_are_not,
    a_skip_of_the_next_slot_moves_on,
    a_skip_of_a_claimed_slot_takes_the_claim_back,
    a_skip_of_a_decided_slot_is_refused_and_changes_nothing,
    a_skip_ahead_does_not_protect_claims,
    a_skip_of_the_slot_after_a_claimed_one_leaves_the_claim,
    a_skip_is_taken_back_with_its_line,
    the_only_slot_left_comes_back,
    a_skip_before_a_decided_slot_is_not_taken_back,
    a_skip_and_its_end_in_one_commit_leave_no_line,
    a_resumption_decides_about_what_is_due,
    a_decision_for_a_schedule_that_stays_paused_is_refused,
}

fn line(slot: Timestamp) -> LedgerLine {
    let outcome = SlotOutcome::Skipped;
    LedgerLine { from: slot, until: slot, count: 1, outcome, reason: text("skipped on request") }
}

fn skip(slots: &[Timestamp]) -> Patch {
    Patch { ledger: slots.iter().copied().map(line).collect(), ..Patch::default() }
}

fn unskip(slots: &[Timestamp]) -> Patch {
    Patch { unskipped: slots.to_vec(), ..Patch::default() }
}

fn pause() -> Patch {
    Patch { status: Some(ScheduleStatus::Paused), ..Patch::default() }
}

/// A schedule with a slot every minute.
fn minutely(fixture: &Fixture<'_>) -> Schedule {
    fixture.put(at(0), new_schedule("a", Some(at(60))))
}

/// What is on record, oldest first: the slot and the outcome.
fn record(fixture: &Fixture<'_>, schedule: &Schedule) -> Vec<(Timestamp, SlotOutcome)> {
    let history = fixture.store.history(PROJECT, &schedule.id, &everything()).unwrap().unwrap_or_default();
    history.into_iter().rev().map(|entry| (entry.from, entry.outcome)).collect()
}

const SKIPPED: SlotOutcome = SlotOutcome::Skipped;

fn a_skipped_slot_is_left_out_and_those_before_it_are_not(fixture: &Fixture<'_>) {
    let schedule = minutely(fixture);
    let skipped = fixture.patch(at(1), &schedule.id, skip(&[at(180)]));
    assert_eq!(skipped.next_slot, Some(at(60)));
    assert_eq!(skipped.compiled_spec().unwrap().next(at(120)), Some(at(240)));
    assert_eq!(record(fixture, &schedule), [(at(180), SKIPPED)]);
}

fn a_skip_of_the_next_slot_moves_on(fixture: &Fixture<'_>) {
    let schedule = minutely(fixture);
    let skipped = fixture.patch(at(1), &schedule.id, skip(&[at(60), at(120)]));
    assert_eq!((skipped.next_slot, skipped.status), (Some(at(180)), ScheduleStatus::Active));
    assert_eq!(record(fixture, &schedule), [(at(60), SKIPPED), (at(120), SKIPPED)]);
}

fn a_skip_of_a_claimed_slot_takes_the_claim_back(fixture: &Fixture<'_>) {
    let schedule = minutely(fixture);
    let run = fixture.fire(at(59), &schedule, at(60), Admission::Claim);
    let skipped = fixture.patch(at(59), &schedule.id, skip(&[at(60)]));
    assert_eq!((skipped.next_slot, skipped.run_count), (Some(at(120)), 0));
    assert_eq!(fixture.find_run(&run), None);
    assert_eq!(record(fixture, &schedule), [(at(60), SKIPPED)]);
}

fn a_skip_of_a_decided_slot_is_refused_and_changes_nothing(fixture: &Fixture<'_>) {
    let schedule = minutely(fixture);
    let run = fixture.fire(at(60), &schedule, at(60), Admission::Claim);
    fixture.end(at(60), &run, succeeded());
    // By the clock of another machine, the slot is still to come.
    let ahead = fixture.fire(at(60), &schedule, at(120), Admission::Claim);
    let before = fixture.schedule(&schedule.id);
    let refusal = fixture.no(at(59), patch_command(&schedule.id, None, skip(&[at(60)])));
    assert_eq!(refusal, Rejection::SlotDecided(at(60)));
    assert_eq!(fixture.schedule(&schedule.id), before);
    assert_eq!(fixture.state(&ahead), RunState::Running, "its claim was not taken back either");
}

fn a_skip_ahead_does_not_protect_claims(fixture: &Fixture<'_>) {
    let schedule = minutely(fixture);
    fixture.patch(at(1), &schedule.id, skip(&[at(600)]));
    let run = fixture.fire(at(59), &schedule, at(60), Admission::Claim);
    let paused = fixture.patch(at(59), &schedule.id, pause());
    assert_eq!(paused.next_slot, Some(at(60)));
    assert_eq!(fixture.find_run(&run), None, "a paused schedule starts nothing");
}

fn a_skip_of_the_slot_after_a_claimed_one_leaves_the_claim(fixture: &Fixture<'_>) {
    let schedule = minutely(fixture);
    let run = fixture.fire(at(59), &schedule, at(60), Admission::Claim);
    let skipped = fixture.patch(at(59), &schedule.id, skip(&[at(120)]));
    assert_eq!((skipped.next_slot, skipped.run_count), (Some(at(180)), 1));
    assert_eq!(fixture.state(&run), RunState::Running);
}

fn a_skip_is_taken_back_with_its_line(fixture: &Fixture<'_>) {
    let schedule = minutely(fixture);
    fixture.patch(at(1), &schedule.id, skip(&[at(60), at(120), at(240)]));
    let taken = fixture.patch(at(2), &schedule.id, unskip(&[at(120)]));
    assert_eq!(taken.next_slot, Some(at(120)));
    assert_eq!(record(fixture, &schedule), [(at(60), SKIPPED), (at(240), SKIPPED)]);
    let taken = fixture.patch(at(3), &schedule.id, unskip(&[at(60), at(240)]));
    assert_eq!((taken.next_slot, &taken.settled), (Some(at(60)), &None));
    assert_eq!(record(fixture, &schedule), []);
    let revision = taken.revision;
    let again = fixture.patch(at(4), &schedule.id, unskip(&[at(60)]));
    assert_eq!(again.revision, revision, "nothing is left to take back");
}

fn the_only_slot_left_comes_back(fixture: &Fixture<'_>) {
    let spec = format!(r#"{{"at_us":{},"timezone":"UTC"}}"#, at(60).as_micros());
    let once = fixture.put(
        at(0),
        polos::model::NewSchedule { spec: spec.as_str().into(), ..new_schedule("a", Some(at(60))) },
    );
    let skipped = fixture.patch(at(1), &once.id, skip(&[at(60)]));
    assert_eq!((skipped.next_slot, skipped.status), (None, ScheduleStatus::Finished));
    let back = fixture.patch(at(2), &once.id, unskip(&[at(60)]));
    assert_eq!((back.next_slot, back.status), (Some(at(60)), ScheduleStatus::Active));
    assert_eq!(record(fixture, &once), []);
}

fn a_skip_before_a_decided_slot_is_not_taken_back(fixture: &Fixture<'_>) {
    let schedule = minutely(fixture);
    fixture.patch(at(1), &schedule.id, skip(&[at(60)]));
    let run = fixture.fire(at(120), &schedule, at(120), Admission::Claim);
    fixture.end(at(120), &run, succeeded());
    let refusal = fixture.no(at(50), patch_command(&schedule.id, None, unskip(&[at(60)])));
    assert_eq!(refusal, Rejection::SlotDecided(at(60)));
    assert_eq!(fixture.schedule(&schedule.id).next_slot, Some(at(180)));
    assert_eq!(record(fixture, &schedule)[0], (at(60), SKIPPED));
}

fn a_skip_and_its_end_in_one_commit_leave_no_line(fixture: &Fixture<'_>) {
    let schedule = minutely(fixture);
    let commands: Vec<Command> = [skip(&[at(240)]), skip(&[at(60)]), unskip(&[at(60)]), skip(&[at(120)])]
        .map(|patch| patch_command(&schedule.id, None, patch))
        .into();
    let answers = fixture.store.commit(&commands, at(1)).unwrap();
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    assert_eq!(record(fixture, &schedule), [(at(120), SKIPPED), (at(240), SKIPPED)]);
    assert_eq!(fixture.schedule(&schedule.id).next_slot, Some(at(60)));
}

/// The newest two of the slots of 60 to 240 run, the others are missed.
fn two_of_four(schedule: &Schedule) -> FirePlan {
    let run = |slot, last_slot, admission| PlannedRun {
        id: RunId::of_slot(&schedule.id, slot),
        slot,
        last_slot,
        upcoming: Some(at(300)),
        available_at: slot,
        admission,
    };
    let outcome = SlotOutcome::Missed;
    FirePlan {
        schedule: schedule.id.clone(),
        revision: 0,
        spec: schedule.compiled_spec().unwrap(),
        next_slot: Some(at(300)),
        status: ScheduleStatus::Active,
        runs: vec![run(at(180), None, Admission::Queue), run(at(240), Some(at(180)), Admission::Behind)],
        ledger: vec![LedgerLine { from: at(60), until: at(120), count: 2, outcome, reason: text("why") }],
        cancel_unfinished: false,
        settled: None,
    }
}

fn a_resumption_decides_about_what_is_due(fixture: &Fixture<'_>) {
    let schedule = minutely(fixture);
    let paused = fixture.patch(at(1), &schedule.id, pause());
    let patch = Patch {
        status: Some(ScheduleStatus::Active),
        fire: Some(Box::new(two_of_four(&schedule))),
        ..Patch::default()
    };
    let resumed = fixture.ok(at(250), patch_command(&schedule.id, Some(paused.revision), patch));
    let stored = fixture.schedule(&schedule.id);
    assert_eq!(resumed, polos::store::Answer::Schedule(Box::new(stored.clone())));
    assert_eq!((stored.next_slot, stored.last_slot, stored.run_count), (Some(at(300)), Some(at(240)), 2));
    assert_eq!((stored.status, stored.attended_from), (ScheduleStatus::Active, at(250)));
    let (missed, ran) = (SlotOutcome::Missed, SlotOutcome::Ran);
    assert_eq!(record(fixture, &schedule), [(at(60), missed), (at(180), ran), (at(240), ran)]);
    let states = [at(180), at(240)].map(|slot| fixture.state(&RunId::of_slot(&schedule.id, slot)));
    assert_eq!(states, [RunState::Queued, RunState::Buffered]);
}

fn a_decision_for_a_schedule_that_stays_paused_is_refused(fixture: &Fixture<'_>) {
    let schedule = minutely(fixture);
    let paused = fixture.patch(at(1), &schedule.id, pause());
    let patch = Patch {
        note: Some(Some(text("not yet"))),
        fire: Some(Box::new(two_of_four(&schedule))),
        ..Patch::default()
    };
    let refusal = fixture.no(at(250), patch_command(&schedule.id, None, patch));
    assert_eq!(refusal, Rejection::Stale);
    assert_eq!(fixture.schedule(&schedule.id), paused);
    assert_eq!(record(fixture, &schedule), []);
}
