//! Counting executions whose worker died, and claiming the runs that this happened to repeatedly.

use super::super::fixture::{
    Fixture, PROJECT, at, done_step, end, failed, new_run, new_schedule, new_worker, text,
};
use super::cases;
use polos::calendar::Timestamp;
use polos::model::{
    Admission, ClaimedRun, Completion, NewRun, Run, RunId, RunState, StepRecord, StepState, Token,
};
use polos::store::{Answer, Command, NextWork, Suspects};

cases! {
    a_burial_counts_an_interruption,
    a_repeated_burial_counts_once,
    a_worker_that_leaves_interrupts_nothing,
    a_release_and_a_park_interrupt_nothing,
    a_run_held_for_later_is_not_interrupted,
    only_a_run_without_company_was_interrupted_alone,
    an_execution_that_recorded_a_step_was_not_interrupted,
    a_recorded_step_forgets_interruptions,
    recording_a_done_step_again_forgets_nothing,
    an_interrupted_run_records_steps_under_its_token_only,
    a_new_attempt_forgets_interruptions,
    a_retry_by_hand_forgets_interruptions,
    what_was_outlived_is_uncounted_once,
    only_the_newest_interruption_is_uncounted,
    history_says_that_interruptions_made_it_fail,
    suspects_are_left_out_of_ordinary_claims,
    an_idle_worker_takes_the_first_suspect_and_nothing_else,
    a_run_that_waits_for_longer_comes_before_a_suspect,
    a_busy_worker_takes_one_suspect_that_has_waited,
    the_next_wake_tells_suspects_apart,
    remarkable_runs_are_unfinished_and_newest_first,
}

fn expire(fixture: &Fixture<'_>, now: Timestamp) {
    bury_with(fixture, now, false);
}

/// The worker is buried, and signs in again.
fn bury_with(fixture: &Fixture<'_>, now: Timestamp, shares_process: bool) {
    let (worker, heartbeat) = (fixture.worker.clone(), fixture.heartbeat());
    fixture.ok(now, Command::ExpireWorker { worker, heartbeat, shares_process });
    fixture.ok(now, Command::RegisterWorker(Box::new(new_worker("wkr_1"))));
}

fn claim(fixture: &Fixture<'_>, now: Timestamp, limit: usize, suspects: Suspects) -> Vec<String> {
    let claimed = claim_runs(fixture, now, limit, suspects);
    claimed.iter().map(|claimed| claimed.run.id.to_string()).collect()
}

fn claim_runs(fixture: &Fixture<'_>, now: Timestamp, limit: usize, suspects: Suspects) -> Vec<ClaimedRun> {
    let command = Command::ClaimRuns {
        project: text(PROJECT),
        worker: fixture.worker.clone(),
        workflows: vec![text("w")],
        limit,
        until: now,
        suspects,
        codes: None,
    };
    match fixture.ok(now, command) {
        Answer::Claimed(claimed) => claimed,
        other => panic!("{other:?}"),
    }
}

fn queued(fixture: &Fixture<'_>, id: &str, at: Timestamp) -> RunId {
    fixture.create(at, NewRun { available_at: at, ..new_run(id) })
}

/// A run that was interrupted so often, alone, and is queued since `now`.
fn interrupted(fixture: &Fixture<'_>, id: &str, count: u32, now: Timestamp) -> RunId {
    let run = queued(fixture, id, now);
    for _ in 0..count {
        claim_runs(fixture, now, 100, Suspects::Alone);
        expire(fixture, now);
    }
    assert_eq!(fixture.run(&run).interruptions, count);
    run
}

fn record(fixture: &Fixture<'_>, run: &Run, step: StepRecord) {
    fixture.ok(at(9), Command::RecordStep { run: run.id.clone(), token: run.token, step });
}

fn a_burial_counts_an_interruption(fixture: &Fixture<'_>) {
    let run = fixture.running(at(1), "run_1");
    assert_eq!(run.interruptions, 0);
    expire(fixture, at(20));
    let freed = fixture.run(&run.id);
    assert_eq!((freed.state, freed.interruptions, freed.attempt), (RunState::Queued, 1, 1));
    let claimed = claim_runs(fixture, at(20), 1, Suspects::Never);
    assert_eq!(claimed[0].run.interruptions, 1, "who claims it is told");
}

fn a_repeated_burial_counts_once(fixture: &Fixture<'_>) {
    let run = fixture.running(at(1), "run_1");
    let (worker, heartbeat) = (fixture.worker.clone(), fixture.heartbeat());
    let expire = Command::ExpireWorker { worker, heartbeat, shares_process: false };
    assert_eq!(fixture.ok(at(20), expire.clone()), Answer::Count(1));
    assert_eq!(fixture.ok(at(21), expire), Answer::Count(0));
    assert_eq!(fixture.run(&run.id).interruptions, 1);
}

fn a_worker_that_leaves_interrupts_nothing(fixture: &Fixture<'_>) {
    let run = fixture.running(at(1), "run_1");
    fixture.ok(at(2), Command::DeregisterWorker { worker: fixture.worker.clone() });
    assert_eq!(fixture.run(&run.id).interruptions, 0);
}

fn a_release_and_a_park_interrupt_nothing(fixture: &Fixture<'_>) {
    let released = fixture.running(at(1), "run_1");
    fixture.end(at(2), &released.id, Completion::Released);
    let parked = fixture.running(at(3), "run_2");
    fixture.end(at(4), &parked.id, Completion::Parked { wakes_at: at(100) });
    expire(fixture, at(20));
    assert_eq!([fixture.run(&released.id).interruptions, fixture.run(&parked.id).interruptions], [1, 0]);
}

fn a_run_held_for_later_is_not_interrupted(fixture: &Fixture<'_>) {
    let schedule = fixture.put(at(0), new_schedule("a", Some(at(60))));
    let run = fixture.fire(at(59), &schedule, at(60), Admission::Claim);
    expire(fixture, at(59));
    assert_eq!(fixture.run(&run).interruptions, 0);
    fixture.claim(at(60));
    expire(fixture, at(60));
    assert_eq!(fixture.run(&run).interruptions, 1);
}

fn only_a_run_without_company_was_interrupted_alone(fixture: &Fixture<'_>) {
    let run = fixture.running(at(1), "run_1").id;
    let other = fixture.running(at(1), "run_2").id;
    expire(fixture, at(2));
    assert!(!fixture.run(&run).interrupted_alone, "another run was there");
    fixture.ok(at(3), Command::CancelRun { project: text(PROJECT), run: other });
    fixture.claim(at(4));
    bury_with(fixture, at(5), true);
    assert!(!fixture.run(&run).interrupted_alone, "another worker of the process had runs");
    claim(fixture, at(6), 1, Suspects::Alone);
    expire(fixture, at(7));
    assert!(fixture.run(&run).interrupted_alone);
    claim(fixture, at(8), 1, Suspects::Alone);
    bury_with(fixture, at(9), true);
    assert!(!fixture.run(&run).interrupted_alone, "the newest decides");
    assert_eq!(fixture.run(&run).interruptions, 4);
}

fn an_execution_that_recorded_a_step_was_not_interrupted(fixture: &Fixture<'_>) {
    let run = fixture.running(at(1), "run_1");
    let other = fixture.running(at(1), "run_2");
    record(fixture, &run, StepRecord { finished_at: at(5), ..done_step("a") });
    expire(fixture, at(20));
    assert_eq!(fixture.run(&run.id).interruptions, 0);
    assert_eq!(fixture.run(&other.id).interruptions, 1);
    fixture.claim(at(21));
    expire(fixture, at(40));
    assert_eq!(fixture.run(&run.id).interruptions, 1, "nothing new was recorded");
}

fn a_recorded_step_forgets_interruptions(fixture: &Fixture<'_>) {
    let id = interrupted(fixture, "run_1", 3, at(1));
    let run = claim_runs(fixture, at(2), 1, Suspects::Alone).remove(0).run;
    assert!(run.interrupted_alone);
    record(fixture, &run, StepRecord { state: StepState::Sleeping, ..done_step("nap") });
    let run = fixture.run(&id);
    assert_eq!((run.interruptions, run.interrupted_alone), (0, false));
    assert_eq!(fixture.steps(&id), ["nap"]);
    assert_eq!(run.state, RunState::Running);
}

fn recording_a_done_step_again_forgets_nothing(fixture: &Fixture<'_>) {
    let run = fixture.running(at(1), "run_1");
    record(fixture, &run, done_step("a"));
    expire(fixture, at(2));
    fixture.claim(at(3));
    expire(fixture, at(3));
    let run = fixture.claim(at(3)).remove(0).run;
    record(fixture, &run, done_step("a"));
    assert_eq!(fixture.run(&run.id).interruptions, 1);
    record(fixture, &run, done_step("b"));
    assert_eq!(fixture.run(&run.id).interruptions, 0);
}

fn an_interrupted_run_records_steps_under_its_token_only(fixture: &Fixture<'_>) {
    let run = fixture.running(at(1), "run_1");
    expire(fixture, at(2));
    fixture.claim(at(3));
    let command = Command::RecordStep { run: run.id.clone(), token: run.token, step: done_step("a") };
    assert_eq!(fixture.no(at(4), command), polos::store::Rejection::Fenced);
    assert_eq!((fixture.run(&run.id).interruptions, fixture.steps(&run.id).len()), (1, 0));
}

fn a_new_attempt_forgets_interruptions(fixture: &Fixture<'_>) {
    let id = interrupted(fixture, "run_1", 2, at(1));
    claim(fixture, at(2), 1, Suspects::Alone);
    fixture.end(at(3), &id, Completion::Failed { error: text("{}"), retry_at: Some(at(4)) });
    let run = fixture.run(&id);
    assert_eq!((run.attempt, run.interruptions, run.interrupted_alone), (2, 0, false));
}

fn a_retry_by_hand_forgets_interruptions(fixture: &Fixture<'_>) {
    let id = interrupted(fixture, "run_1", 2, at(1));
    claim(fixture, at(2), 1, Suspects::Alone);
    fixture.end(at(3), &id, failed());
    assert_eq!(fixture.run(&id).interruptions, 2, "kept with the failure");
    fixture.ok(at(4), Command::RetryRun { project: text(PROJECT), run: id.clone() });
    let run = fixture.run(&id);
    assert_eq!((run.state, run.interruptions, run.interrupted_alone), (RunState::Queued, 0, false));
}

fn what_was_outlived_is_uncounted_once(fixture: &Fixture<'_>) {
    let run = fixture.running(at(1), "run_1");
    expire(fixture, at(2));
    let uncount = Command::UncountInterruptions { claims: vec![(run.id.clone(), run.token)] };
    assert_eq!(fixture.ok(at(3), uncount.clone()), Answer::Done);
    let freed = fixture.run(&run.id);
    assert_eq!((freed.interruptions, freed.interrupted_alone), (0, false));
    fixture.claim(at(4));
    expire(fixture, at(5));
    fixture.ok(at(6), uncount.clone());
    assert_eq!(fixture.run(&run.id).interruptions, 1, "another claim was interrupted since");
    let nobody = Command::UncountInterruptions { claims: vec![("run_none".into(), Token(1))] };
    assert_eq!(fixture.ok(at(7), nobody), Answer::Done);
}

fn only_the_newest_interruption_is_uncounted(fixture: &Fixture<'_>) {
    let id = interrupted(fixture, "run_1", 3, at(1));
    let token = fixture.run(&id).token;
    let claims = vec![(id.clone(), Token(token.0 - 1)), (id.clone(), token), (id.clone(), token)];
    fixture.ok(at(3), Command::UncountInterruptions { claims });
    assert_eq!(fixture.run(&id).interruptions, 2);
}

fn history_says_that_interruptions_made_it_fail(fixture: &Fixture<'_>) {
    let once = fixture.put(at(0), new_schedule("b", Some(at(50))));
    let run = fixture.fire(at(50), &once, at(50), Admission::Claim);
    expire(fixture, at(51));
    let claimed = claim_runs(fixture, at(52), 1, Suspects::Never).remove(0).run;
    fixture.ok(at(53), end(&run, claimed.token, failed()));
    assert_eq!(fixture.history(&once.id), [(at(50), "failed after 1 interruption".to_owned())]);

    let schedule = fixture.put(at(0), new_schedule("a", Some(at(60))));
    let run = fixture.fire(at(60), &schedule, at(60), Admission::Claim);
    expire(fixture, at(61));
    claim(fixture, at(62), 1, Suspects::Never);
    expire(fixture, at(63));
    assert_eq!(fixture.history(&schedule.id), [(at(60), "queued".to_owned())]);
    let claimed = claim_runs(fixture, at(64), 1, Suspects::Alone).remove(0).run;
    let command = end(&run, claimed.token, failed());
    fixture.ok(at(65), command);
    assert_eq!(fixture.history(&schedule.id), [(at(60), "failed after 2 interruptions".to_owned())]);
}

fn suspects_are_left_out_of_ordinary_claims(fixture: &Fixture<'_>) {
    two_suspects(fixture);
    queued(fixture, "run_3", at(2));
    assert_eq!(claim(fixture, at(10), 100, Suspects::Never), ["run_3"]);
    assert_eq!(claim(fixture, at(99), 100, Suspects::Never), Vec::<String>::new());
}

fn an_idle_worker_takes_the_first_suspect_and_nothing_else(fixture: &Fixture<'_>) {
    let (first, second) = two_suspects(fixture);
    queued(fixture, "run_3", at(9));
    assert_eq!(claim(fixture, at(10), 100, Suspects::Alone), [first.to_string()]);
    assert_eq!(claim(fixture, at(10), 100, Suspects::Never), ["run_3"]);
    assert_eq!(claim(fixture, at(10), 100, Suspects::Alone), [second.to_string()]);
    assert_eq!(claim(fixture, at(10), 100, Suspects::Alone), Vec::<String>::new());
}

/// In the order in which they are claimed.
fn two_suspects(fixture: &Fixture<'_>) -> (RunId, RunId) {
    let runs = (queued(fixture, "run_1", at(1)), queued(fixture, "run_2", at(1)));
    for _ in 0..2 {
        assert_eq!(claim(fixture, at(1), 100, Suspects::Never), ["run_1", "run_2"]);
        expire(fixture, at(1));
    }
    runs
}

fn a_run_that_waits_for_longer_comes_before_a_suspect(fixture: &Fixture<'_>) {
    two_suspects(fixture);
    queued(fixture, "run_3", at(0));
    queued(fixture, "run_4", at(2));
    assert_eq!(claim(fixture, at(10), 100, Suspects::Alone), ["run_3", "run_4"]);
    assert_eq!(claim(fixture, at(10), 0, Suspects::Alone), Vec::<String>::new());
}

fn a_busy_worker_takes_one_suspect_that_has_waited(fixture: &Fixture<'_>) {
    two_suspects(fixture);
    queued(fixture, "run_3", at(2));
    queued(fixture, "run_4", at(2));
    assert_eq!(claim(fixture, at(10), 1, Suspects::Since(at(0))), ["run_3"]);
    assert_eq!(claim(fixture, at(10), 100, Suspects::Since(at(1))), ["run_1", "run_4"]);
}

fn the_next_wake_tells_suspects_apart(fixture: &Fixture<'_>) {
    interrupted(fixture, "run_1", 2, at(1));
    queued(fixture, "run_2", at(5));
    let wake = fixture.store.next_work(PROJECT, &[text("v"), text("w")], at(0)).unwrap();
    assert_eq!(wake, NextWork { slot: None, run: Some(at(5)), suspect: Some(at(1)), has_held: false });
    assert_eq!(fixture.store.next_work(PROJECT, &[text("v")], at(0)).unwrap(), NextWork::default());
    assert_eq!(fixture.store.next_work("other", &[text("w")], at(0)).unwrap(), NextWork::default());
}

fn remarkable_runs_are_unfinished_and_newest_first(fixture: &Fixture<'_>) {
    let (_, cancelled) = two_suspects(fixture);
    fixture.ok(at(2), Command::CancelRun { project: text(PROJECT), run: cancelled });
    queued(fixture, "run_3", at(3));
    claim(fixture, at(3), 1, Suspects::Never);
    expire(fixture, at(3));
    queued(fixture, "run_4", at(4));
    let ids = |limit| -> Vec<String> {
        let runs = fixture.store.remarkable_runs(PROJECT, limit).unwrap();
        runs.iter().map(|run| run.id.to_string()).collect()
    };
    assert_eq!(ids(9), ["run_3", "run_1"]);
    assert_eq!(ids(1), ["run_3"]);
    assert_eq!(fixture.store.remarkable_runs("other", 9).unwrap(), []);
}
