//! Counting executions whose worker died, and claiming the runs that this happened to repeatedly.

use super::super::fixture::{
    PROJECT, Stage, at, done_step, end, failed, new_run, new_schedule, new_worker, text,
};
use super::cases;
use polos::calendar::Timestamp;
use polos::model::{
    Admission, ClaimedRun, Ending, NewRun, Run, RunId, RunState, StepRecord, StepState, Token,
};
use polos::store::{Answer, Command, Suspects, Wake};

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

fn bury(stage: &Stage<'_>, now: Timestamp) {
    bury_with(stage, now, false);
}

/// The worker is buried, and signs in again.
fn bury_with(stage: &Stage<'_>, now: Timestamp, shares_process: bool) {
    let (worker, beat) = (stage.worker.clone(), stage.beat());
    stage.ok(now, Command::BuryWorker { worker, beat, shares_process });
    stage.ok(now, Command::EnterWorker(Box::new(new_worker("wkr_1"))));
}

fn claim(stage: &Stage<'_>, now: Timestamp, limit: usize, suspects: Suspects) -> Vec<String> {
    let claimed = claim_runs(stage, now, limit, suspects);
    claimed.iter().map(|claimed| claimed.run.id.to_string()).collect()
}

fn claim_runs(stage: &Stage<'_>, now: Timestamp, limit: usize, suspects: Suspects) -> Vec<ClaimedRun> {
    let command = Command::ClaimRuns {
        project: text(PROJECT),
        worker: stage.worker.clone(),
        workflows: vec![text("w")],
        limit,
        until: now,
        suspects,
        codes: None,
    };
    match stage.ok(now, command) {
        Answer::Claimed(claimed) => claimed,
        other => panic!("{other:?}"),
    }
}

fn queued(stage: &Stage<'_>, id: &str, at: Timestamp) -> RunId {
    stage.create(at, NewRun { available_at: at, ..new_run(id) })
}

/// A run that was interrupted so often, alone, and is queued since `now`.
fn interrupted(stage: &Stage<'_>, id: &str, count: u32, now: Timestamp) -> RunId {
    let run = queued(stage, id, now);
    for _ in 0..count {
        claim_runs(stage, now, 100, Suspects::Alone);
        bury(stage, now);
    }
    assert_eq!(stage.run(&run).interruptions, count);
    run
}

fn record(stage: &Stage<'_>, run: &Run, step: StepRecord) {
    stage.ok(at(9), Command::RecordStep { run: run.id.clone(), token: run.token, step });
}

fn a_burial_counts_an_interruption(stage: &Stage<'_>) {
    let run = stage.running(at(1), "run_1");
    assert_eq!(run.interruptions, 0);
    bury(stage, at(20));
    let freed = stage.run(&run.id);
    assert_eq!((freed.state, freed.interruptions, freed.attempt), (RunState::Queued, 1, 1));
    let claimed = claim_runs(stage, at(20), 1, Suspects::Never);
    assert_eq!(claimed[0].run.interruptions, 1, "who claims it is told");
}

fn a_repeated_burial_counts_once(stage: &Stage<'_>) {
    let run = stage.running(at(1), "run_1");
    let (worker, beat) = (stage.worker.clone(), stage.beat());
    let bury = Command::BuryWorker { worker, beat, shares_process: false };
    assert_eq!(stage.ok(at(20), bury.clone()), Answer::Count(1));
    assert_eq!(stage.ok(at(21), bury), Answer::Count(0));
    assert_eq!(stage.run(&run.id).interruptions, 1);
}

fn a_worker_that_leaves_interrupts_nothing(stage: &Stage<'_>) {
    let run = stage.running(at(1), "run_1");
    stage.ok(at(2), Command::LeaveWorker { worker: stage.worker.clone() });
    assert_eq!(stage.run(&run.id).interruptions, 0);
}

fn a_release_and_a_park_interrupt_nothing(stage: &Stage<'_>) {
    let released = stage.running(at(1), "run_1");
    stage.end(at(2), &released.id, Ending::Released);
    let parked = stage.running(at(3), "run_2");
    stage.end(at(4), &parked.id, Ending::Parked { wakes_at: at(100) });
    bury(stage, at(20));
    assert_eq!([stage.run(&released.id).interruptions, stage.run(&parked.id).interruptions], [1, 0]);
}

fn a_run_held_for_later_is_not_interrupted(stage: &Stage<'_>) {
    let schedule = stage.put(at(0), new_schedule("a", Some(at(60))));
    let run = stage.fire(at(59), &schedule, at(60), Admission::Claim);
    bury(stage, at(59));
    assert_eq!(stage.run(&run).interruptions, 0);
    stage.claim(at(60));
    bury(stage, at(60));
    assert_eq!(stage.run(&run).interruptions, 1);
}

fn only_a_run_without_company_was_interrupted_alone(stage: &Stage<'_>) {
    let run = stage.running(at(1), "run_1").id;
    let other = stage.running(at(1), "run_2").id;
    bury(stage, at(2));
    assert!(!stage.run(&run).interrupted_alone, "another run was there");
    stage.ok(at(3), Command::CancelRun { project: text(PROJECT), run: other });
    stage.claim(at(4));
    bury_with(stage, at(5), true);
    assert!(!stage.run(&run).interrupted_alone, "another worker of the process had runs");
    claim(stage, at(6), 1, Suspects::Alone);
    bury(stage, at(7));
    assert!(stage.run(&run).interrupted_alone);
    claim(stage, at(8), 1, Suspects::Alone);
    bury_with(stage, at(9), true);
    assert!(!stage.run(&run).interrupted_alone, "the newest decides");
    assert_eq!(stage.run(&run).interruptions, 4);
}

fn an_execution_that_recorded_a_step_was_not_interrupted(stage: &Stage<'_>) {
    let run = stage.running(at(1), "run_1");
    let other = stage.running(at(1), "run_2");
    record(stage, &run, StepRecord { finished_at: at(5), ..done_step("a") });
    bury(stage, at(20));
    assert_eq!(stage.run(&run.id).interruptions, 0);
    assert_eq!(stage.run(&other.id).interruptions, 1);
    stage.claim(at(21));
    bury(stage, at(40));
    assert_eq!(stage.run(&run.id).interruptions, 1, "nothing new was recorded");
}

fn a_recorded_step_forgets_interruptions(stage: &Stage<'_>) {
    let id = interrupted(stage, "run_1", 3, at(1));
    let run = claim_runs(stage, at(2), 1, Suspects::Alone).remove(0).run;
    assert!(run.interrupted_alone);
    record(stage, &run, StepRecord { state: StepState::Sleeping, ..done_step("nap") });
    let run = stage.run(&id);
    assert_eq!((run.interruptions, run.interrupted_alone), (0, false));
    assert_eq!(stage.steps(&id), ["nap"]);
    assert_eq!(run.state, RunState::Running);
}

fn recording_a_done_step_again_forgets_nothing(stage: &Stage<'_>) {
    let run = stage.running(at(1), "run_1");
    record(stage, &run, done_step("a"));
    bury(stage, at(2));
    stage.claim(at(3));
    bury(stage, at(3));
    let run = stage.claim(at(3)).remove(0).run;
    record(stage, &run, done_step("a"));
    assert_eq!(stage.run(&run.id).interruptions, 1);
    record(stage, &run, done_step("b"));
    assert_eq!(stage.run(&run.id).interruptions, 0);
}

fn an_interrupted_run_records_steps_under_its_token_only(stage: &Stage<'_>) {
    let run = stage.running(at(1), "run_1");
    bury(stage, at(2));
    stage.claim(at(3));
    let command = Command::RecordStep { run: run.id.clone(), token: run.token, step: done_step("a") };
    assert_eq!(stage.no(at(4), command), polos::store::Rejection::Fenced);
    assert_eq!((stage.run(&run.id).interruptions, stage.steps(&run.id).len()), (1, 0));
}

fn a_new_attempt_forgets_interruptions(stage: &Stage<'_>) {
    let id = interrupted(stage, "run_1", 2, at(1));
    claim(stage, at(2), 1, Suspects::Alone);
    stage.end(at(3), &id, Ending::Failed { error: text("{}"), retry_at: Some(at(4)) });
    let run = stage.run(&id);
    assert_eq!((run.attempt, run.interruptions, run.interrupted_alone), (2, 0, false));
}

fn a_retry_by_hand_forgets_interruptions(stage: &Stage<'_>) {
    let id = interrupted(stage, "run_1", 2, at(1));
    claim(stage, at(2), 1, Suspects::Alone);
    stage.end(at(3), &id, failed());
    assert_eq!(stage.run(&id).interruptions, 2, "kept with the failure");
    stage.ok(at(4), Command::RetryRun { project: text(PROJECT), run: id.clone() });
    let run = stage.run(&id);
    assert_eq!((run.state, run.interruptions, run.interrupted_alone), (RunState::Queued, 0, false));
}

fn what_was_outlived_is_uncounted_once(stage: &Stage<'_>) {
    let run = stage.running(at(1), "run_1");
    bury(stage, at(2));
    let uncount = Command::UncountInterruptions { claims: vec![(run.id.clone(), run.token)] };
    assert_eq!(stage.ok(at(3), uncount.clone()), Answer::Done);
    let freed = stage.run(&run.id);
    assert_eq!((freed.interruptions, freed.interrupted_alone), (0, false));
    stage.claim(at(4));
    bury(stage, at(5));
    stage.ok(at(6), uncount.clone());
    assert_eq!(stage.run(&run.id).interruptions, 1, "another claim was interrupted since");
    let nobody = Command::UncountInterruptions { claims: vec![("run_none".into(), Token(1))] };
    assert_eq!(stage.ok(at(7), nobody), Answer::Done);
}

fn only_the_newest_interruption_is_uncounted(stage: &Stage<'_>) {
    let id = interrupted(stage, "run_1", 3, at(1));
    let token = stage.run(&id).token;
    let claims = vec![(id.clone(), Token(token.0 - 1)), (id.clone(), token), (id.clone(), token)];
    stage.ok(at(3), Command::UncountInterruptions { claims });
    assert_eq!(stage.run(&id).interruptions, 2);
}

fn history_says_that_interruptions_made_it_fail(stage: &Stage<'_>) {
    let schedule = stage.put(at(0), new_schedule("a", Some(at(60))));
    let run = stage.fire(at(60), &schedule, at(60), Admission::Claim);
    bury(stage, at(61));
    claim(stage, at(62), 1, Suspects::Never);
    bury(stage, at(63));
    assert_eq!(stage.history(&schedule.id), [(at(60), "queued".to_owned())]);
    let claimed = claim_runs(stage, at(64), 1, Suspects::Alone).remove(0).run;
    let command = end(&run, claimed.token, failed());
    stage.ok(at(65), command);
    assert_eq!(stage.history(&schedule.id), [(at(60), "failed after 2 interruptions".to_owned())]);
}

fn suspects_are_left_out_of_ordinary_claims(stage: &Stage<'_>) {
    two_suspects(stage);
    queued(stage, "run_3", at(2));
    assert_eq!(claim(stage, at(10), 100, Suspects::Never), ["run_3"]);
    assert_eq!(claim(stage, at(99), 100, Suspects::Never), Vec::<String>::new());
}

fn an_idle_worker_takes_the_first_suspect_and_nothing_else(stage: &Stage<'_>) {
    let (first, second) = two_suspects(stage);
    queued(stage, "run_3", at(9));
    assert_eq!(claim(stage, at(10), 100, Suspects::Alone), [first.to_string()]);
    assert_eq!(claim(stage, at(10), 100, Suspects::Never), ["run_3"]);
    assert_eq!(claim(stage, at(10), 100, Suspects::Alone), [second.to_string()]);
    assert_eq!(claim(stage, at(10), 100, Suspects::Alone), Vec::<String>::new());
}

/// In the order in which they are claimed.
fn two_suspects(stage: &Stage<'_>) -> (RunId, RunId) {
    let runs = (queued(stage, "run_1", at(1)), queued(stage, "run_2", at(1)));
    for _ in 0..2 {
        assert_eq!(claim(stage, at(1), 100, Suspects::Never), ["run_1", "run_2"]);
        bury(stage, at(1));
    }
    runs
}

fn a_run_that_waits_for_longer_comes_before_a_suspect(stage: &Stage<'_>) {
    two_suspects(stage);
    queued(stage, "run_3", at(0));
    queued(stage, "run_4", at(2));
    assert_eq!(claim(stage, at(10), 100, Suspects::Alone), ["run_3", "run_4"]);
    assert_eq!(claim(stage, at(10), 0, Suspects::Alone), Vec::<String>::new());
}

fn a_busy_worker_takes_one_suspect_that_has_waited(stage: &Stage<'_>) {
    two_suspects(stage);
    queued(stage, "run_3", at(2));
    queued(stage, "run_4", at(2));
    assert_eq!(claim(stage, at(10), 1, Suspects::Since(at(0))), ["run_3"]);
    assert_eq!(claim(stage, at(10), 100, Suspects::Since(at(1))), ["run_1", "run_4"]);
}

fn the_next_wake_tells_suspects_apart(stage: &Stage<'_>) {
    interrupted(stage, "run_1", 2, at(1));
    queued(stage, "run_2", at(5));
    let wake = stage.store.next_wake(PROJECT, &[text("v"), text("w")]).unwrap();
    assert_eq!(wake, Wake { slot: None, run: Some(at(5)), suspect: Some(at(1)), has_held: false });
    assert_eq!(stage.store.next_wake(PROJECT, &[text("v")]).unwrap(), Wake::default());
    assert_eq!(stage.store.next_wake("other", &[text("w")]).unwrap(), Wake::default());
}

fn remarkable_runs_are_unfinished_and_newest_first(stage: &Stage<'_>) {
    let (_, cancelled) = two_suspects(stage);
    stage.ok(at(2), Command::CancelRun { project: text(PROJECT), run: cancelled });
    queued(stage, "run_3", at(3));
    claim(stage, at(3), 1, Suspects::Never);
    bury(stage, at(3));
    queued(stage, "run_4", at(4));
    let ids = |limit| -> Vec<String> {
        let runs = stage.store.remarkable_runs(PROJECT, limit).unwrap();
        runs.iter().map(|run| run.id.to_string()).collect()
    };
    assert_eq!(ids(9), ["run_3", "run_1"]);
    assert_eq!(ids(1), ["run_3"]);
    assert_eq!(stage.store.remarkable_runs("other", 9).unwrap(), []);
}
