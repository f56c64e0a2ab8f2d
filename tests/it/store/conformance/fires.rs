//! Committing decisions.

use super::super::fixture::{Fixture, PROJECT, at, minute_after, missed, new_run, new_schedule, text};
use super::cases;
use polos::model::{
    Admission, FirePlan, NewRun, NewSchedule, Origin, Run, RunId, RunState, Schedule, ScheduleStatus, Token,
    WorkerId,
};
use polos::store::{Answer, Command, Patch, Rejection};

cases! {
    what_a_decision_keeps_about_slots_is_stored,
    a_run_that_is_claimed_ahead_has_started_at_its_slot,
    a_fire_creates_the_run_and_moves_on,
    a_run_knows_its_zone,
    a_queued_slot_waits_for_whoever_has_room,
    a_decision_from_an_older_state_is_stale,
    two_decisions_make_one_run,
    a_schedule_that_is_not_active_does_not_fire,
    a_run_that_exists_is_left_as_it_is,
    a_claim_for_nobody_is_rejected,
    a_plan_that_claims_nothing_needs_no_worker,
    a_claim_is_a_sign_of_life,
    behind_an_unfinished_run_it_waits,
    behind_nothing_it_is_queued,
    cancelling_first_stops_what_is_under_way,
    slots_without_a_run_enter_the_ledger,
    the_last_slot_finishes_the_schedule,
    a_new_run_makes_older_decisions_stale,
    a_trigger_of_a_deleted_schedule_is_rejected,
    a_trigger_leaves_the_cadence_alone,
    a_backfill_twice_adds_nothing,
    an_idempotency_key_gives_the_first_run,
    creating_a_run_twice_is_once,
}

fn two(fixture: &Fixture<'_>) -> Schedule {
    fixture.put(at(0), NewSchedule { input: Some(text("7")), ..new_schedule("a", Some(at(60))) })
}

fn try_fire(fixture: &Fixture<'_>, plan: FirePlan) -> Result<Answer, Rejection> {
    fixture.try_one(at(60), Command::Fire { worker: fixture.worker.clone(), plan: Box::new(plan) })
}

fn a_fire_creates_the_run_and_moves_on(fixture: &Fixture<'_>) {
    let schedule = two(fixture);
    let plan = fixture.plan(&schedule, &[(at(60), Admission::Claim)]);
    let claimed = fixture.commit_plan(at(61), plan);
    assert_eq!(claimed.len(), 1);
    assert!(claimed[0].journal.is_empty());
    let expected = Run {
        id: RunId::of_slot(&schedule.id, at(60)),
        project: text(PROJECT),
        workflow: text("w"),
        key: text("a"),
        schedule_id: Some(schedule.id.clone()),
        slot: Some(at(60)),
        last_slot: None,
        upcoming: Some(at(120)),
        timezone: text("Europe/Berlin"),
        origin: Origin::Schedule,
        payload: None,
        input: Some(text("7")),
        state: RunState::Running,
        attempt: 1,
        token: Token(1),
        worker: Some(fixture.worker.clone()),
        available_at: at(60),
        created_at: at(61),
        started_at: Some(at(61)),
        finished_at: None,
        cancel_requested: false,
        result: None,
        error: None,
        parent: None,
        idempotency_key: None,
        interruptions: 0,
        interrupted_alone: false,
        note: None,
        progress: None,
        refused_by: None,
        limit: None,
        priority: 0,
    };
    assert_eq!(claimed[0].run, expected);
    assert_eq!(fixture.run(&expected.id), expected);
    let moved = fixture.schedule(&schedule.id);
    let expected =
        Schedule { next_slot: Some(at(120)), last_slot: Some(at(60)), run_count: 1, revision: 2, ..schedule };
    assert_eq!(moved, expected, "a fire is not an edit");
}

fn a_run_knows_its_zone(fixture: &Fixture<'_>) {
    let berlin = r#"{"cron":"* * * * *","timezone":"Europe/Berlin"}"#;
    let cases =
        [("a", r#"{"cron":"* * * * *"}"#, "UTC"), ("b", "garbage", "UTC"), ("c", berlin, "Europe/Berlin")];
    for (key, spec, zone) in cases {
        let schedule =
            fixture.put(at(0), NewSchedule { spec: spec.into(), ..new_schedule(key, Some(at(60))) });
        let run = fixture.fire(at(60), &schedule, at(60), Admission::Claim);
        assert_eq!(&*fixture.run(&run).timezone, zone);
    }
    let by_hand = fixture.create(at(1), NewRun { timezone: text("Asia/Tokyo"), ..new_run("run_1") });
    assert_eq!(&*fixture.run(&by_hand).timezone, "Asia/Tokyo");
}

fn a_queued_slot_waits_for_whoever_has_room(fixture: &Fixture<'_>) {
    let schedule = two(fixture);
    let mut plan = fixture.plan(&schedule, &[(at(60), Admission::Queue)]);
    plan.runs[0].available_at = at(75);
    assert!(fixture.commit_plan(at(60), plan).is_empty());
    let run = fixture.run(&RunId::of_slot(&schedule.id, at(60)));
    assert_eq!((run.state, run.available_at, run.token), (RunState::Queued, at(75), Token::NONE));
    assert_eq!((run.worker, run.started_at), (None, None));
}

fn a_decision_from_an_older_state_is_stale(fixture: &Fixture<'_>) {
    let schedule = two(fixture);
    let plan = fixture.plan(&schedule, &[(at(60), Admission::Claim)]);
    fixture.put(at(1), NewSchedule { input: None, ..new_schedule("a", Some(at(60))) });
    assert_eq!(try_fire(fixture, plan), Err(Rejection::Stale));
    assert_eq!(fixture.history(&schedule.id), []);
    let gone = fixture.plan(&schedule, &[(at(60), Admission::Claim)]);
    fixture.delete(at(2), &schedule.id);
    assert_eq!(try_fire(fixture, gone), Err(Rejection::Stale));
}

fn two_decisions_make_one_run(fixture: &Fixture<'_>) {
    let schedule = two(fixture);
    let plan = fixture.plan(&schedule, &[(at(60), Admission::Claim)]);
    let fire = Command::Fire { worker: fixture.worker.clone(), plan: Box::new(plan) };
    let answers = fixture.store.commit(&[fire.clone(), fire], at(60)).unwrap();
    assert!(answers[0].is_ok());
    assert_eq!(answers[1], Err(Rejection::Stale));
    assert_eq!(fixture.schedule(&schedule.id).run_count, 1);
}

fn a_schedule_that_is_not_active_does_not_fire(fixture: &Fixture<'_>) {
    let schedule = two(fixture);
    for status in [ScheduleStatus::Paused, ScheduleStatus::Retired, ScheduleStatus::Broken] {
        let status = Patch { status: Some(status), ..Patch::default() };
        fixture.patch(at(1), &schedule.id, status);
        let plan = fixture.plan(&schedule, &[(at(60), Admission::Claim)]);
        assert_eq!(try_fire(fixture, plan), Err(Rejection::Stale));
    }
}

fn a_run_that_exists_is_left_as_it_is(fixture: &Fixture<'_>) {
    let schedule = two(fixture);
    let slot = RunId::of_slot(&schedule.id, at(60));
    let backfill = NewRun {
        schedule_id: Some(schedule.id.clone()),
        slot: Some(at(60)),
        origin: Origin::Backfill,
        ..new_run(slot.as_str())
    };
    fixture.create(at(50), backfill);
    let before = fixture.run(&slot);
    let plan = fixture.plan(&schedule, &[(at(60), Admission::Claim), (at(120), Admission::Claim)]);
    let claimed = fixture.commit_plan(at(120), plan);
    assert_eq!(claimed.len(), 1);
    assert_eq!(claimed[0].run.slot, Some(at(120)));
    assert_eq!(fixture.run(&slot), before);
    let moved = fixture.schedule(&schedule.id);
    assert_eq!((moved.run_count, moved.last_slot), (1, Some(at(120))));
}

fn a_claim_for_nobody_is_rejected(fixture: &Fixture<'_>) {
    let schedule = two(fixture);
    let plan = Box::new(fixture.plan(&schedule, &[(at(60), Admission::Claim)]));
    let fire = Command::Fire { worker: WorkerId::from("wkr_none"), plan };
    assert_eq!(fixture.no(at(60), fire), Rejection::WorkerGone);
    assert_eq!(fixture.schedule(&schedule.id), schedule);
}

fn a_plan_that_claims_nothing_needs_no_worker(fixture: &Fixture<'_>) {
    let schedule = two(fixture);
    let plan = Box::new(fixture.plan(&schedule, &[(at(60), Admission::Queue)]));
    fixture.ok(at(60), Command::Fire { worker: WorkerId::from("wkr_none"), plan });
    assert_eq!(fixture.schedule(&schedule.id).run_count, 1);
}

fn a_claim_is_a_sign_of_life(fixture: &Fixture<'_>) {
    let schedule = two(fixture);
    let heartbeat = fixture.heartbeat();
    fixture.fire(at(60), &schedule, at(60), Admission::Claim);
    assert_eq!(fixture.heartbeat(), heartbeat + 1);
    assert_eq!(fixture.store.peers(PROJECT).unwrap()[0].beat_at, at(60));
    assert_eq!(fixture.store.peers(PROJECT).unwrap()[0].held_count, 1);
    fixture.fire(at(120), &schedule, at(120), Admission::Queue);
    assert_eq!(fixture.heartbeat(), heartbeat + 1, "nothing was claimed");
}

fn behind_an_unfinished_run_it_waits(fixture: &Fixture<'_>) {
    let schedule = two(fixture);
    let slots = [(at(60), Admission::Claim), (at(120), Admission::Behind)];
    let claimed = fixture.commit_plan(at(120), fixture.plan(&schedule, &slots));
    assert_eq!(claimed.len(), 1);
    assert_eq!(fixture.state(&RunId::of_slot(&schedule.id, at(120))), RunState::Buffered);
    let due = fixture.store.due(PROJECT, &[text("w")], at(180), 10).unwrap();
    assert_eq!((due[0].unfinished_count, due[0].buffered_count), (2, 1));
    assert_eq!(fixture.claim(at(500)), [], "a buffered run is nobody's yet");
}

fn behind_nothing_it_is_queued(fixture: &Fixture<'_>) {
    let schedule = two(fixture);
    let run = fixture.fire(at(60), &schedule, at(60), Admission::Behind);
    assert_eq!(fixture.state(&run), RunState::Queued, "nobody's end would ever release it");
}

fn cancelling_first_stops_what_is_under_way(fixture: &Fixture<'_>) {
    let schedule = two(fixture);
    let slots = [(at(60), Admission::Claim), (at(120), Admission::Behind), (at(180), Admission::Queue)];
    fixture.commit_plan(at(180), fixture.plan(&schedule, &slots));
    let child = NewRun { parent: Some(RunId::of_slot(&schedule.id, at(60))), ..new_run("run_child") };
    let child = fixture.create(at(200), child);
    let mut plan = fixture.plan(&schedule, &[(at(240), Admission::Behind)]);
    plan.cancel_unfinished = true;
    fixture.commit_plan(at(240), plan);
    let run = |slot| fixture.run(&RunId::of_slot(&schedule.id, slot));
    assert_eq!((run(at(60)).state, run(at(60)).cancel_requested), (RunState::Running, true));
    assert_eq!([run(at(120)).state, run(at(180)).state], [RunState::Cancelled, RunState::Cancelled]);
    assert_eq!(fixture.state(&child), RunState::Cancelled);
    assert_eq!(run(at(240)).state, RunState::Buffered, "until the one that was asked has stopped");
}

fn slots_without_a_run_enter_the_ledger(fixture: &Fixture<'_>) {
    let schedule = two(fixture);
    let mut plan = fixture.plan(&schedule, &[]);
    plan.ledger = vec![missed(at(60)), missed(at(120))];
    plan.next_slot = Some(at(180));
    assert!(fixture.commit_plan(at(170), plan).is_empty());
    assert_eq!(fixture.history(&schedule.id), [at(120), at(60)].map(|slot| (slot, "late".to_owned())));
    let moved = fixture.schedule(&schedule.id);
    assert_eq!((moved.next_slot, moved.last_slot, moved.run_count), (Some(at(180)), None, 0));
}

fn the_last_slot_finishes_the_schedule(fixture: &Fixture<'_>) {
    let schedule = two(fixture);
    let mut plan = fixture.plan(&schedule, &[(at(60), Admission::Claim)]);
    plan.next_slot = None;
    plan.status = ScheduleStatus::Finished;
    fixture.commit_plan(at(60), plan);
    let finished = fixture.schedule(&schedule.id);
    assert_eq!((finished.status, finished.next_slot), (ScheduleStatus::Finished, None));
    assert_eq!(fixture.store.next_work(PROJECT, &[text("w")], at(0)).unwrap().slot, None);
}

fn trigger(schedule: &Schedule, id: &str) -> NewRun {
    NewRun {
        schedule_id: Some(schedule.id.clone()),
        slot: Some(at(30)),
        origin: Origin::Trigger,
        ..new_run(id)
    }
}

fn a_new_run_makes_older_decisions_stale(fixture: &Fixture<'_>) {
    let schedule = two(fixture);
    let plan = fixture.plan(&schedule, &[(at(60), Admission::Claim)]);
    let run = fixture.create(at(30), trigger(&schedule, "run_1"));
    assert_eq!(try_fire(fixture, plan), Err(Rejection::Stale), "it did not count on the run");
    fixture.ok(at(31), Command::CancelRun { project: text(PROJECT), run: run.clone() });
    let plan = fixture.plan(&schedule, &[(at(60), Admission::Claim)]);
    fixture.ok(at(32), Command::RetryRun { project: text(PROJECT), run });
    assert_eq!(try_fire(fixture, plan), Err(Rejection::Stale), "nor on its coming back");
}

fn a_trigger_of_a_deleted_schedule_is_rejected(fixture: &Fixture<'_>) {
    let schedule = two(fixture);
    fixture.delete(at(1), &schedule.id);
    let answer = fixture.no(at(2), Command::CreateRun(Box::new(trigger(&schedule, "run_1"))));
    assert_eq!(answer, Rejection::ScheduleNotFound(schedule.id));
    assert_eq!(fixture.find_run(&RunId::from("run_1")), None);
}

fn a_trigger_leaves_the_cadence_alone(fixture: &Fixture<'_>) {
    let schedule = two(fixture);
    fixture.create(at(30), trigger(&schedule, "run_1"));
    assert_eq!(fixture.schedule(&schedule.id), Schedule { revision: 2, ..schedule });
}

fn a_backfill_twice_adds_nothing(fixture: &Fixture<'_>) {
    let schedule = two(fixture);
    let new = NewRun { origin: Origin::Backfill, ..trigger(&schedule, "run_1") };
    let created = |is_new| Answer::Created { run: RunId::from("run_1"), is_new, claimed: None };
    assert_eq!(fixture.ok(at(1), Command::CreateRun(Box::new(new.clone()))), created(true));
    let before = fixture.schedule(&schedule.id);
    assert_eq!(fixture.ok(at(2), Command::CreateRun(Box::new(new))), created(false));
    assert_eq!(fixture.schedule(&schedule.id), before);
}

fn an_idempotency_key_gives_the_first_run(fixture: &Fixture<'_>) {
    let with_key = |id: &str, workflow: &str, project: &str| {
        let idempotency_key = Some(text("once"));
        let (workflow, project) = (text(workflow), text(project));
        Command::CreateRun(Box::new(NewRun { idempotency_key, workflow, project, ..new_run(id) }))
    };
    let created = |id: &str, is_new| Answer::Created { run: RunId::from(id), is_new, claimed: None };
    assert_eq!(fixture.ok(at(1), with_key("run_1", "w", PROJECT)), created("run_1", true));
    assert_eq!(fixture.ok(at(2), with_key("run_2", "w", PROJECT)), created("run_1", false));
    assert_eq!(fixture.find_run(&RunId::from("run_2")), None);
    assert_eq!(fixture.ok(at(3), with_key("run_3", "v", PROJECT)), created("run_3", true));
    assert_eq!(fixture.ok(at(4), with_key("run_4", "w", "other")), created("run_4", true));
}

fn creating_a_run_twice_is_once(fixture: &Fixture<'_>) {
    fixture.create(at(1), new_run("run_1"));
    let before = fixture.run(&RunId::from("run_1"));
    let again = NewRun { payload: Some(text("other")), ..new_run("run_1") };
    let answer = fixture.ok(at(2), Command::CreateRun(Box::new(again)));
    assert_eq!(answer, Answer::Created { run: RunId::from("run_1"), is_new: false, claimed: None });
    assert_eq!(fixture.run(&before.id), before);
    assert_eq!(minute_after(at(0)), at(60));
}

fn a_run_that_is_claimed_ahead_has_started_at_its_slot(fixture: &Fixture<'_>) {
    let schedule = fixture.put(at(0), new_schedule("a", Some(at(60))));
    let early = fixture.fire(at(59), &schedule, at(60), Admission::Claim);
    assert_eq!(fixture.run(&early).started_at, Some(at(60)), "not when its worker took it");
}

fn what_a_decision_keeps_about_slots_is_stored(fixture: &Fixture<'_>) {
    let schedule = fixture.put(at(0), new_schedule("k", Some(at(60))));
    let kept = schedule.settled_with_moved(&[at(300)]);
    let plan = FirePlan { settled: Some(kept), ..fixture.plan(&schedule, &[(at(60), Admission::Queue)]) };
    fixture.commit_plan(at(60), plan);
    let after = fixture.schedule(&schedule.id);
    assert_eq!((after.moved_slots(), after.settled_slots()), (vec![at(300)], vec![]));
    fixture.commit_plan(at(120), fixture.plan(&after, &[(at(120), Admission::Queue)]));
    assert_eq!(fixture.schedule(&schedule.id).moved_slots(), [at(300)], "a plan without it changes nothing");
    // A skip on request stands beside it, and a new trigger ends it.
    let after = fixture.patch(at(130), &schedule.id, Patch { settled: vec![at(240)], ..Patch::default() });
    assert_eq!((after.moved_slots(), after.settled_slots()), (vec![at(300)], vec![at(240)]));
    let spec = Some((super::super::fixture::spec("*/2 * * * *"), text("another"), Some(at(360))));
    let after = fixture.patch(at(140), &schedule.id, Patch { spec, ..Patch::default() });
    assert_eq!((after.moved_slots(), after.settled_slots()), (vec![], vec![at(240)]));
}
