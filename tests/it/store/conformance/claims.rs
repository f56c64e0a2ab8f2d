//! Claiming runs and recording steps.

use super::super::fixture::{Fixture, PROJECT, at, done_step, new_run, new_schedule, new_worker, text};
use super::cases;
use polos::calendar::Timestamp;
use polos::model::{
    Completion, NewRun, Origin, Run, RunId, RunState, StepRecord, StepState, Token, WorkerId,
};
use polos::store::{Answer, Command, Rejection, Suspects};

cases! {
    runs_are_claimed_in_the_order_of_their_time,
    a_run_is_not_claimed_before_its_time,
    at_most_so_many_are_claimed,
    only_these_workflows_are_claimed,
    many_workflows_are_merged_in_order,
    a_run_is_claimed_once,
    a_run_is_claimed_as_it_is_created,
    what_exists_is_not_claimed_by_creating_it_again,
    only_what_is_claimed_as_it_is_created_beats,
    a_new_run_that_has_to_wait_is_not_claimed_yet,
    a_new_run_for_nobody_is_queued,
    a_claim_by_nobody_is_rejected,
    claiming_nothing_is_no_sign_of_life,
    a_waiting_run_is_claimed_when_it_wakes,
    a_claim_brings_the_journal,
    claims_stand_until_they_end,
    a_step_is_recorded,
    a_done_step_never_changes,
    a_step_keeps_the_time_at_which_it_was_begun_first,
    another_recording_replaces_what_is_not_done,
    steps_keep_the_order_of_their_first_recording,
    a_step_of_another_claim_is_fenced,
    a_step_of_a_run_that_is_not_there_is_fenced,
    a_rejected_command_does_not_disturb_the_others,
}

fn available(fixture: &Fixture<'_>, id: &str, at: Timestamp) {
    fixture.create(at, NewRun { available_at: at, ..new_run(id) });
}

/// Creates a run that `worker` is to have: the run, if it was claimed.
fn create_for(fixture: &Fixture<'_>, now: Timestamp, worker: &str, new: NewRun) -> Option<Run> {
    let new = NewRun { claim_for: Some(WorkerId::from(worker)), ..new };
    match fixture.ok(now, Command::CreateRun(Box::new(new))) {
        Answer::Created { claimed, .. } => claimed.map(|run| *run),
        other => panic!("{other:?}"),
    }
}

fn heartbeat(fixture: &Fixture<'_>) -> i64 {
    fixture
        .store
        .peers(PROJECT)
        .unwrap()
        .into_iter()
        .find(|peer| peer.id == fixture.worker)
        .unwrap()
        .heartbeat
}

fn a_run_is_claimed_as_it_is_created(fixture: &Fixture<'_>) {
    let before = heartbeat(fixture);
    let run = create_for(fixture, at(5), fixture.worker.as_str(), new_run("run_1")).expect("it is claimed");
    assert_eq!(run, fixture.run(&run.id));
    assert_eq!((run.state, run.token, run.started_at), (RunState::Running, Token(1), Some(at(5))));
    assert_eq!(run.worker.as_ref(), Some(&fixture.worker));
    assert!(heartbeat(fixture) > before, "a claim raises the heartbeat");
    assert_eq!(ids(&fixture.claim(at(9))), [""; 0], "nobody else has it");
    assert_eq!(
        fixture.end(at(6), &run.id, Completion::Succeeded { result: None }),
        (RunState::Succeeded, false)
    );
}

fn what_exists_is_not_claimed_by_creating_it_again(fixture: &Fixture<'_>) {
    let keyed = |id: &str| NewRun { idempotency_key: Some(text("once")), ..new_run(id) };
    fixture.create(at(1), keyed("run_1"));
    let before = heartbeat(fixture);
    assert_eq!(create_for(fixture, at(2), fixture.worker.as_str(), keyed("run_1")), None);
    assert_eq!(create_for(fixture, at(2), fixture.worker.as_str(), keyed("run_2")), None);
    assert_eq!(fixture.state(&RunId::from("run_1")), RunState::Queued);
    assert_eq!(heartbeat(fixture), before, "nothing happened");
}

fn only_what_is_claimed_as_it_is_created_beats(fixture: &Fixture<'_>) {
    let claimed = |id: &str| {
        let claim_for = Some(fixture.worker.clone());
        Command::CreateRun(Box::new(NewRun { claim_for, ..new_run(id) }))
    };
    fixture.ok(at(1), claimed("run_1"));
    let before = heartbeat(fixture);
    fixture.ok(at(2), claimed("run_1"));
    assert_eq!(heartbeat(fixture), before, "a repetition claims nothing");
    fixture.create(at(3), NewRun { origin: Origin::Invoke, ..new_run("run_2") });
    fixture.ok(at(3), claimed("run_2"));
    assert_eq!((heartbeat(fixture), fixture.state(&RunId::from("run_2"))), (before, RunState::Queued));
    // Beside others that are new, too.
    let commands = ["run_1", "run_3", "run_2", "run_4"].map(claimed);
    let answers = fixture.store.commit(&commands, at(4)).unwrap();
    let is_new = |answer: &Result<Answer, Rejection>| match answer {
        Ok(Answer::Created { is_new, claimed, .. }) => (*is_new, claimed.is_some()),
        other => panic!("{other:?}"),
    };
    let (old, new) = ((false, false), (true, true));
    assert_eq!(answers.iter().map(is_new).collect::<Vec<_>>(), [old, new, old, new]);
    assert_eq!(heartbeat(fixture), before + 2);
}

fn a_new_run_that_has_to_wait_is_not_claimed_yet(fixture: &Fixture<'_>) {
    let later = NewRun { available_at: at(9), ..new_run("run_later") };
    assert_eq!(create_for(fixture, at(1), fixture.worker.as_str(), later), None);
    let schedule = fixture.put(at(0), new_schedule("a", Some(at(60))));
    let behind = |id: &str, slot| NewRun {
        schedule_id: Some(schedule.id.clone()),
        slot: Some(slot),
        origin: Origin::Backfill,
        behind: true,
        revokes_claims: false,
        revision: None,
        ..new_run(id)
    };
    let first = create_for(fixture, at(1), fixture.worker.as_str(), behind("run_1", at(20)));
    let first = first.expect("nothing is before it");
    assert_eq!(create_for(fixture, at(1), fixture.worker.as_str(), behind("run_2", at(30))), None);
    assert_eq!(fixture.state(&RunId::from("run_2")), RunState::Buffered);
    fixture.end(at(2), &first.id, Completion::Succeeded { result: None });
    assert_eq!(ids(&fixture.claim(at(9))), ["run_2", "run_later"]);
}

fn a_new_run_for_nobody_is_queued(fixture: &Fixture<'_>) {
    assert_eq!(create_for(fixture, at(1), "wkr_gone", new_run("run_1")), None);
    assert_eq!(ids(&fixture.claim(at(2))), ["run_1"]);
}

fn ids(claimed: &[polos::model::ClaimedRun]) -> Vec<&str> {
    claimed.iter().map(|claim| claim.run.id.as_str()).collect()
}

fn claim(fixture: &Fixture<'_>, workflows: &[&str], limit: usize, until: Timestamp) -> Command {
    Command::ClaimRuns {
        project: text(PROJECT),
        worker: fixture.worker.clone(),
        workflows: workflows.iter().map(|id| text(id)).collect(),
        limit,
        until,
        suspects: Suspects::Never,
        codes: None,
    }
}

fn runs_are_claimed_in_the_order_of_their_time(fixture: &Fixture<'_>) {
    let new = |id: &str, available: i64, slot: Option<i64>| {
        fixture.create(at(0), NewRun { available_at: at(available), slot: slot.map(at), ..new_run(id) });
    };
    new("run_e", 3, None);
    new("run_d", 2, Some(1));
    new("run_c", 2, Some(0));
    new("run_b", 2, None);
    new("run_a", 2, Some(1));
    assert_eq!(ids(&fixture.claim(at(9))), ["run_b", "run_c", "run_a", "run_d", "run_e"]);
}

fn a_run_is_not_claimed_before_its_time(fixture: &Fixture<'_>) {
    available(fixture, "run_1", at(10));
    assert_eq!(fixture.claim(Timestamp::from_micros(at(10).as_micros() - 1)), []);
    let claimed = fixture.claim(at(10)).remove(0).run;
    assert_eq!((claimed.state, claimed.token), (RunState::Running, Token(1)));
    assert_eq!((claimed.worker, claimed.started_at), (Some(fixture.worker.clone()), Some(at(10))));
}

fn at_most_so_many_are_claimed(fixture: &Fixture<'_>) {
    // The earliest has the last id.
    for number in 0..5 {
        available(fixture, &format!("run_{}", 9 - number), at(number));
    }
    assert_eq!(fixture.claim_up_to(at(9), 0), []);
    assert_eq!(ids(&fixture.claim_up_to(at(9), 2)), ["run_9", "run_8"]);
    assert_eq!(ids(&fixture.claim_up_to(at(9), 9)), ["run_7", "run_6", "run_5"]);
}

fn only_these_workflows_are_claimed(fixture: &Fixture<'_>) {
    fixture.create(at(0), NewRun { workflow: text("v"), ..new_run("run_v") });
    fixture.create(at(0), NewRun { project: text("other"), ..new_run("run_other") });
    assert_eq!(fixture.claim(at(9)), []);
    assert_eq!(fixture.ok(at(9), claim(fixture, &[], 9, at(9))), Answer::Claimed(Vec::new()));
    let Answer::Claimed(claimed) = fixture.ok(at(9), claim(fixture, &["v", "v"], 9, at(9))) else { panic!() };
    assert_eq!(ids(&claimed), ["run_v"], "named twice, claimed once");
}

fn many_workflows_are_merged_in_order(fixture: &Fixture<'_>) {
    let workflows: Vec<String> = (0..7).map(|number| format!("w{number}")).collect();
    for number in 0..200 {
        // Most belong to one workflow, so that the merge must go back to it again and again.
        let workflow = if number % 10 < 7 { &workflows[0] } else { &workflows[(number % 7) as usize] };
        let new = NewRun {
            available_at: at(number),
            workflow: text(workflow),
            ..new_run(&format!("run_{number:03}"))
        };
        fixture.create(at(0), new);
    }
    let workflows: Vec<&str> = workflows.iter().map(String::as_str).collect();
    let Answer::Claimed(claimed) = fixture.ok(at(9), claim(fixture, &workflows, 150, at(500))) else {
        panic!()
    };
    let expected: Vec<String> = (0..150).map(|number| format!("run_{number:03}")).collect();
    assert_eq!(ids(&claimed), expected);
}

fn a_run_is_claimed_once(fixture: &Fixture<'_>) {
    available(fixture, "run_1", at(0));
    let answers = fixture
        .store
        .commit(&[claim(fixture, &["w"], 9, at(1)), claim(fixture, &["w"], 9, at(1))], at(1))
        .unwrap();
    let Ok(Answer::Claimed(first)) = &answers[0] else { panic!() };
    assert_eq!(ids(first), ["run_1"]);
    assert_eq!(answers[1], Ok(Answer::Claimed(Vec::new())));
}

fn a_claim_by_nobody_is_rejected(fixture: &Fixture<'_>) {
    let Command::ClaimRuns { project, workflows, limit, until, suspects, codes, .. } =
        claim(fixture, &["w"], 1, at(1))
    else {
        panic!()
    };
    let worker = WorkerId::from("wkr_none");
    let command = Command::ClaimRuns { project, worker, workflows, limit, until, suspects, codes };
    assert_eq!(fixture.no(at(1), command), Rejection::WorkerGone);
}

fn claiming_nothing_is_no_sign_of_life(fixture: &Fixture<'_>) {
    let (heartbeat, mark) = (fixture.heartbeat(), fixture.store.change_mark().unwrap());
    assert_eq!(fixture.claim(at(5)), []);
    assert_eq!(fixture.heartbeat(), heartbeat);
    assert_eq!(fixture.store.change_mark().unwrap(), mark, "nothing is written");
    available(fixture, "run_1", at(5));
    fixture.claim(at(6));
    assert_eq!(fixture.heartbeat(), heartbeat + 1);
}

fn a_waiting_run_is_claimed_when_it_wakes(fixture: &Fixture<'_>) {
    let run = fixture.running(at(0), "run_1");
    assert_eq!(
        fixture.end(at(1), &run.id, Completion::Parked { wakes_at: at(60) }),
        (RunState::Waiting, false)
    );
    assert_eq!(fixture.store.next_work(PROJECT, &[text("w")], at(0)).unwrap().run, Some(at(60)));
    assert_eq!(fixture.claim(at(59)), []);
    let again = fixture.claim(at(60)).remove(0).run;
    assert_eq!((again.token, again.attempt, again.started_at), (Token(2), 1, Some(at(0))));
}

fn record(run: &RunId, token: i64, step: StepRecord) -> Command {
    Command::RecordStep { run: run.clone(), token: Token(token), step }
}

fn a_claim_brings_the_journal(fixture: &Fixture<'_>) {
    let run = fixture.running(at(0), "run_1");
    fixture.ok(at(1), record(&run.id, 1, done_step("one")));
    fixture.ok(at(1), record(&run.id, 1, done_step("two")));
    fixture.end(at(2), &run.id, Completion::Released);
    let claimed = fixture.claim(at(3)).remove(0);
    assert_eq!(claimed.journal, [done_step("one"), done_step("two")]);
}

fn claims_stand_until_they_end(fixture: &Fixture<'_>) {
    let run = fixture.running(at(0), "run_1").id;
    let stands = || {
        let claims = [(run.clone(), Token(1)), (run.clone(), Token(2)), (RunId::from("run_none"), Token(1))];
        fixture.store.claims_stand(&claims).unwrap()
    };
    assert_eq!(stands(), [true, false, false]);
    fixture.end(at(1), &run, Completion::Released);
    assert_eq!(stands(), [false, false, false]);
    fixture.claim(at(2));
    assert_eq!(stands(), [false, true, false]);
}

fn a_step_is_recorded(fixture: &Fixture<'_>) {
    let run = fixture.running(at(0), "run_1").id;
    let step = StepRecord {
        name: text("pay\0💥"),
        state: StepState::Retrying,
        attempt: 3,
        run_attempt: 2,
        result: None,
        error: Some(text("{}")),
        wakes_at: Some(at(9)),
        started_at: at(1),
        finished_at: at(2),
    };
    assert_eq!(fixture.ok(at(2), record(&run, 1, step.clone())), Answer::Done);
    assert_eq!(fixture.store.steps(&run).unwrap(), [step]);
    assert_eq!(fixture.store.steps(&RunId::from("run_none")).unwrap(), []);
}

fn a_step_keeps_the_time_at_which_it_was_begun_first(fixture: &Fixture<'_>) {
    let run = fixture.running(at(0), "run_1").id;
    let step = |state, second| StepRecord { state, started_at: at(second), ..done_step("one") };
    fixture.ok(at(1), record(&run, 1, step(StepState::Sleeping, 1)));
    fixture.ok(at(9), record(&run, 1, step(StepState::Done, 9)));
    let steps = fixture.store.steps(&run).unwrap();
    assert_eq!((steps[0].state, steps[0].started_at), (StepState::Done, at(1)));
}

fn a_done_step_never_changes(fixture: &Fixture<'_>) {
    let run = fixture.running(at(0), "run_1").id;
    fixture.ok(at(1), record(&run, 1, done_step("one")));
    let mark = fixture.store.change_mark().unwrap();
    let other = StepRecord { result: Some(text("other")), ..done_step("one") };
    assert_eq!(fixture.ok(at(2), record(&run, 1, other)), Answer::Done);
    assert_eq!(fixture.store.steps(&run).unwrap(), [done_step("one")]);
    let _ = mark;
}

fn another_recording_replaces_what_is_not_done(fixture: &Fixture<'_>) {
    let run = fixture.running(at(0), "run_1").id;
    for state in [StepState::Sleeping, StepState::Retrying, StepState::Failed] {
        fixture.ok(at(1), record(&run, 1, StepRecord { state, result: None, ..done_step("one") }));
        assert_eq!(fixture.store.steps(&run).unwrap()[0].state, state);
    }
    fixture.ok(at(2), record(&run, 1, done_step("one")));
    assert_eq!(fixture.store.steps(&run).unwrap(), [done_step("one")]);
}

fn steps_keep_the_order_of_their_first_recording(fixture: &Fixture<'_>) {
    let run = fixture.running(at(0), "run_1").id;
    let failed = |name| StepRecord { state: StepState::Failed, ..done_step(name) };
    for step in [failed("z"), done_step("a"), done_step("m"), done_step("z")] {
        fixture.ok(at(1), record(&run, 1, step));
    }
    assert_eq!(fixture.steps(&run), ["z", "a", "m"]);
}

fn a_step_of_another_claim_is_fenced(fixture: &Fixture<'_>) {
    let run = fixture.running(at(0), "run_1").id;
    let fenced =
        |token| assert_eq!(fixture.no(at(3), record(&run, token, done_step("one"))), Rejection::Fenced);
    fenced(0);
    fenced(2);
    fixture.end(at(1), &run, Completion::Released);
    fenced(1);
    fixture.claim(at(2));
    fenced(1);
    fixture.end(at(3), &run, super::super::fixture::succeeded());
    fenced(2);
    assert_eq!(fixture.steps(&run), Vec::<String>::new());
}

fn a_step_of_a_run_that_is_not_there_is_fenced(fixture: &Fixture<'_>) {
    let command = record(&RunId::from("run_none"), 1, done_step("one"));
    assert_eq!(fixture.no(at(0), command), Rejection::Fenced);
}

fn a_rejected_command_does_not_disturb_the_others(fixture: &Fixture<'_>) {
    let run = fixture.running(at(0), "run_1").id;
    let commands = [
        record(&run, 1, done_step("one")),
        record(&run, 7, done_step("two")),
        Command::Heartbeat { worker: WorkerId::from("wkr_none") },
        Command::RegisterWorker(Box::new(new_worker("wkr_none"))),
        Command::Heartbeat { worker: WorkerId::from("wkr_none") },
        record(&run, 1, done_step("three")),
    ];
    let answers = fixture.store.commit(&commands, at(1)).unwrap();
    let done = || Ok(Answer::Done);
    let entered = || Ok(Answer::Reconciled(Box::default()));
    assert_eq!(
        answers,
        [done(), Err(Rejection::Fenced), Err(Rejection::WorkerGone), entered(), done(), done()]
    );
    assert_eq!(fixture.steps(&run), ["one", "three"]);
    assert_eq!(fixture.store.commit(&[], at(2)).unwrap(), []);
}
