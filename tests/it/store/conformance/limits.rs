//! Limits on claimed runs, rates, and priorities.

use super::super::fixture::{Fixture, PROJECT, at, end, new_run, new_schedule, new_worker, succeeded, text};
use super::cases;
use polos::calendar::Timestamp;
use polos::model::{
    Admission, ClaimRules, ClaimedRun, Completion, DeclaredLimit, LimitSpec, LimitStatus, NewRun,
    Reconciliation, RunState, WorkerEntry, WorkerId, WorkflowEntry,
};
use polos::store::{Answer, Command, Rejection, Suspects};
use std::collections::BTreeMap;

cases! {
    at_most_as_many_runs_as_the_limit_are_claimed,
    a_limit_counts_the_claims_of_all_workers,
    a_limit_is_shared_by_workflows,
    a_full_limit_does_not_hold_up_other_workflows,
    a_full_key_does_not_hold_up_other_keys,
    a_key_with_room_is_found_behind_many_runs_without,
    a_finished_run_makes_room_and_says_so,
    a_parked_run_makes_room_and_needs_room_to_continue,
    an_expired_worker_makes_room,
    a_run_under_a_limit_is_not_claimed_as_it_is_created,
    a_slot_under_a_limit_is_queued,
    a_retried_run_needs_room,
    suspects_need_room,
    a_lower_limit_cancels_nothing,
    a_changed_limit_counts_at_once,
    an_operators_values_win_until_they_are_reset,
    what_an_operator_does_not_set_follows_the_code,
    two_operators_lose_no_change,
    a_rate_and_its_period_are_set_together,
    a_rate_without_a_period_is_rejected,
    an_unknown_limit_is_rejected,
    the_newest_declaration_of_a_limit_counts,
    the_version_decides_which_limit_is_newer,
    a_limit_that_is_declared_again_is_not_touched,
    runs_follow_their_workflow_to_another_limit,
    without_room_there_is_no_next_work,
    no_period_holds_more_claims_than_the_rate,
    claims_in_quick_succession_return_no_token_early,
    the_next_work_waits_for_a_token,
    a_token_returns_a_period_after_the_start_of_an_early_claim,
    an_early_claim_returns_no_other_token,
    clocks_that_differ_a_little_do_not_exceed_the_rate,
    tokens_of_a_clock_that_was_ahead_return_within_a_period,
    a_clock_that_stays_ahead_keeps_to_the_rate,
    a_reset_returns_no_token,
    starts_that_are_left_are_told,
    a_higher_priority_is_claimed_first,
    a_priority_is_worth_a_minute_of_waiting,
    the_priority_of_a_workflow_is_that_of_its_runs,
    limits_are_listed_with_their_use,
    a_suspended_limit_claims_nothing,
    a_limit_is_deleted_when_nothing_uses_it,
    a_declared_limit_is_not_deleted,
    a_limit_of_unfinished_runs_is_not_deleted,
}

pub(in super::super) fn limit(name: &str, max: u32) -> DeclaredLimit {
    DeclaredLimit { name: text(name), spec: LimitSpec { max: Some(max), ..LimitSpec::default() } }
}

fn per_key(name: &str, max: u32, per_key: u32) -> DeclaredLimit {
    let spec = LimitSpec { max: Some(max), per_key: Some(per_key), ..LimitSpec::default() };
    DeclaredLimit { name: text(name), spec }
}

fn rate(name: &str, count: u32, seconds: i64) -> DeclaredLimit {
    let spec = LimitSpec { rate: Some(count), per_us: Some(seconds * 1_000_000), ..LimitSpec::default() };
    DeclaredLimit { name: text(name), spec }
}

fn under(name: &str) -> ClaimRules {
    ClaimRules { limit: Some(text(name)), ..ClaimRules::default() }
}

/// A worker with workflows, each under a limit or none.
pub(in super::super) fn worker(
    id: &str,
    limits: &[DeclaredLimit],
    workflows: &[(&str, Option<&str>)],
) -> WorkerEntry {
    let limited = workflows.iter().filter_map(|(id, limit)| Some((text(id), under((*limit)?))));
    WorkerEntry {
        workflows: workflows
            .iter()
            .map(|(id, _)| WorkflowEntry { id: text(id), schedulable: true })
            .collect(),
        limits: limits.to_vec(),
        rules: limited.collect(),
        ..new_worker(id)
    }
}

fn register(fixture: &Fixture<'_>, now: Timestamp, entry: WorkerEntry) -> Reconciliation {
    match fixture.ok(now, Command::RegisterWorker(Box::new(entry))) {
        Answer::Reconciled(report) => *report,
        other => panic!("{other:?}"),
    }
}

/// `wkr_1` with `w` under the limit `openai`.
fn with_limit(fixture: &Fixture<'_>, declared: DeclaredLimit) {
    let name = declared.name.to_string();
    register(fixture, at(0), worker("wkr_1", &[declared], &[("w", Some(&name))]));
}

fn claim_by(
    fixture: &Fixture<'_>,
    now: Timestamp,
    worker: &str,
    workflows: &[&str],
    suspects: Suspects,
) -> Vec<ClaimedRun> {
    let command = Command::ClaimRuns {
        project: text(PROJECT),
        worker: WorkerId::from(worker),
        workflows: workflows.iter().map(|id| text(id)).collect(),
        limit: 100,
        until: now,
        suspects,
        codes: None,
    };
    match fixture.ok(now, command) {
        Answer::Claimed(claimed) => claimed,
        other => panic!("{other:?}"),
    }
}

fn ids(claimed: &[ClaimedRun]) -> Vec<&str> {
    claimed.iter().map(|claimed| claimed.run.id.as_str()).collect()
}

fn queue(fixture: &Fixture<'_>, second: i64, id: &str, workflow: &str, key: &str) {
    let new = NewRun { workflow: text(workflow), key: text(key), available_at: at(second), ..new_run(id) };
    fixture.create(at(second), new);
}

fn status(fixture: &Fixture<'_>, now: Timestamp) -> LimitStatus {
    fixture.store.limits(PROJECT, 1_000, now).expect("the store works").remove(0)
}

fn set(fixture: &Fixture<'_>, now: Timestamp, name: &str, max: Option<u32>) -> Result<Answer, Rejection> {
    let values = max.map(|max| LimitSpec { max: Some(max), ..LimitSpec::default() });
    fixture.try_one(now, Command::SetLimit { project: text(PROJECT), name: text(name), values })
}

fn at_most_as_many_runs_as_the_limit_are_claimed(fixture: &Fixture<'_>) {
    with_limit(fixture, limit("openai", 2));
    for n in 1..=5 {
        queue(fixture, n, &format!("run_{n}"), "w", "global");
    }
    let claimed = fixture.claim(at(10));
    assert_eq!(ids(&claimed), ["run_1", "run_2"], "in the order of their time");
    assert_eq!(claimed[0].run.limit.as_deref(), Some("openai"));
    assert_eq!(ids(&fixture.claim(at(10))), Vec::<&str>::new());
}

fn a_limit_counts_the_claims_of_all_workers(fixture: &Fixture<'_>) {
    with_limit(fixture, limit("openai", 3));
    register(fixture, at(0), worker("wkr_2", &[limit("openai", 3)], &[("w", Some("openai"))]));
    for n in 1..=5 {
        queue(fixture, n, &format!("run_{n}"), "w", "global");
    }
    assert_eq!(fixture.claim_up_to(at(10), 2).len(), 2);
    assert_eq!(ids(&claim_by(fixture, at(10), "wkr_2", &["w"], Suspects::Never)), ["run_3"]);
    assert_eq!(status(fixture, at(10)).running, 3);
}

fn a_limit_is_shared_by_workflows(fixture: &Fixture<'_>) {
    let workflows = [("v", Some("openai")), ("w", Some("openai")), ("x", None)];
    register(fixture, at(0), worker("wkr_1", &[limit("openai", 3)], &workflows));
    for n in 1..=3 {
        queue(fixture, 2 * n, &format!("run_v{n}"), "v", "global");
        queue(fixture, 2 * n + 1, &format!("run_w{n}"), "w", "global");
        queue(fixture, 20 + n, &format!("run_x{n}"), "x", "global");
    }
    let claimed = claim_by(fixture, at(60), "wkr_1", &["w", "v", "x"], Suspects::Never);
    assert_eq!(ids(&claimed), ["run_v1", "run_w1", "run_v2", "run_x1", "run_x2", "run_x3"]);
}

fn a_full_limit_does_not_hold_up_other_workflows(fixture: &Fixture<'_>) {
    let workflows = [("v", None), ("w", Some("openai"))];
    register(fixture, at(0), worker("wkr_1", &[limit("openai", 1)], &workflows));
    for n in 1..=300 {
        queue(fixture, n, &format!("run_w{n}"), "w", "global");
    }
    queue(fixture, 400, "run_v", "v", "global");
    let claimed = claim_by(fixture, at(500), "wkr_1", &["v", "w"], Suspects::Never);
    assert_eq!(ids(&claimed), ["run_w1", "run_v"]);
}

fn a_full_key_does_not_hold_up_other_keys(fixture: &Fixture<'_>) {
    with_limit(fixture, per_key("openai", 10, 2));
    for n in 1..=5 {
        queue(fixture, n, &format!("run_a{n}"), "w", "a");
    }
    queue(fixture, 6, "run_b1", "w", "b");
    let claimed = fixture.claim(at(10));
    assert_eq!(ids(&claimed), ["run_a1", "run_a2", "run_b1"]);
    fixture.end(at(11), &claimed[0].run.id, succeeded());
    assert_eq!(ids(&fixture.claim(at(12))), ["run_a3"]);
}

fn a_key_with_room_is_found_behind_many_runs_without(fixture: &Fixture<'_>) {
    with_limit(fixture, per_key("openai", 3, 1));
    for n in 1..=600 {
        queue(fixture, n, &format!("run_a{n}"), "w", ["a", "m"][(n % 2) as usize]);
    }
    queue(fixture, 700, "run_z", "w", "z");
    assert_eq!(ids(&fixture.claim(at(1_000))), ["run_a1", "run_a2", "run_z"]);
    for name in ["run_z", "run_a1"] {
        fixture.end(at(1_001), &name.into(), succeeded());
    }
    queue(fixture, 1_002, "run_0", "w", "0");
    assert_eq!(ids(&fixture.claim(at(1_003))), ["run_a3", "run_0"]);
    assert_eq!(fixture.store.next_work(PROJECT, &[text("w")], at(0)).unwrap().run, None);
    fixture.end(at(1_004), &"run_0".into(), succeeded());
    assert_eq!(
        fixture.store.next_work(PROJECT, &[text("w")], at(0)).unwrap().run,
        None,
        "both keys are full"
    );
    queue(fixture, 1_005, "run_y", "w", "y");
    assert_eq!(fixture.store.next_work(PROJECT, &[text("w")], at(0)).unwrap().run, Some(at(1_005)));
}

fn a_finished_run_makes_room_and_says_so(fixture: &Fixture<'_>) {
    with_limit(fixture, limit("openai", 1));
    queue(fixture, 1, "run_1", "w", "global");
    queue(fixture, 2, "run_2", "w", "global");
    let claimed = fixture.claim(at(10));
    let ending = end(&claimed[0].run.id, claimed[0].run.token, succeeded());
    let (state, released) = fixture.end(at(11), &claimed[0].run.id, succeeded());
    assert_eq!((state, released), (RunState::Succeeded, true), "another run may be claimed");
    let again = fixture.ok(at(11), ending);
    assert_eq!(again, Answer::Ended { state, released }, "the repetition has the same answer");
    assert_eq!(ids(&fixture.claim(at(12))), ["run_2"]);
}

fn a_parked_run_makes_room_and_needs_room_to_continue(fixture: &Fixture<'_>) {
    with_limit(fixture, limit("openai", 1));
    queue(fixture, 1, "run_1", "w", "global");
    queue(fixture, 2, "run_2", "w", "global");
    fixture.claim(at(10));
    fixture.end(at(11), &"run_1".into(), Completion::Parked { wakes_at: at(20) });
    assert_eq!(ids(&fixture.claim(at(12))), ["run_2"]);
    assert_eq!(ids(&fixture.claim(at(30))), Vec::<&str>::new(), "the limit is full");
    fixture.end(at(31), &"run_2".into(), succeeded());
    assert_eq!(ids(&fixture.claim(at(32))), ["run_1"]);
}

fn an_expired_worker_makes_room(fixture: &Fixture<'_>) {
    with_limit(fixture, limit("openai", 1));
    register(fixture, at(0), worker("wkr_2", &[limit("openai", 1)], &[("w", Some("openai"))]));
    queue(fixture, 1, "run_1", "w", "global");
    queue(fixture, 2, "run_2", "w", "global");
    fixture.claim(at(10));
    let heartbeat = fixture.heartbeat();
    assert_eq!(claim_by(fixture, at(20), "wkr_2", &["w"], Suspects::Never), Vec::new());
    let worker = WorkerId::from("wkr_1");
    fixture.ok(at(30), Command::ExpireWorker { worker, heartbeat, shares_process: false });
    let claimed = claim_by(fixture, at(31), "wkr_2", &["w"], Suspects::Never);
    assert_eq!(ids(&claimed), ["run_2"], "it has waited longest");
    assert_eq!(claim_by(fixture, at(32), "wkr_2", &["w"], Suspects::Never), Vec::new());
}

fn a_run_under_a_limit_is_not_claimed_as_it_is_created(fixture: &Fixture<'_>) {
    with_limit(fixture, limit("openai", 1));
    let heartbeat = fixture.heartbeat();
    for id in ["run_1", "run_2"] {
        let claim_for = Some(WorkerId::from("wkr_1"));
        let new = NewRun { claim_for, available_at: at(1), ..new_run(id) };
        let answer = fixture.ok(at(1), Command::CreateRun(Box::new(new)));
        assert_eq!(answer, Answer::Created { run: id.into(), is_new: true, claimed: None });
        assert_eq!(fixture.state(&id.into()), RunState::Queued);
    }
    assert_eq!(fixture.heartbeat(), heartbeat, "nothing was claimed");
    assert_eq!(ids(&fixture.claim(at(2))), ["run_1"]);
}

fn a_slot_under_a_limit_is_queued(fixture: &Fixture<'_>) {
    with_limit(fixture, limit("openai", 1));
    let schedules = ["a", "b"].map(|key| fixture.put(at(0), new_schedule(key, Some(at(60)))));
    for schedule in &schedules {
        let claimed = fixture.commit_plan(at(60), fixture.plan(schedule, &[(at(60), Admission::Claim)]));
        assert_eq!(claimed, Vec::new());
    }
    assert_eq!(fixture.claim(at(61)).len(), 1);
    assert_eq!(fixture.schedule(&schedules[1].id).run_count, 1);
}

fn a_retried_run_needs_room(fixture: &Fixture<'_>) {
    with_limit(fixture, limit("openai", 1));
    queue(fixture, 1, "run_1", "w", "global");
    queue(fixture, 2, "run_2", "w", "global");
    fixture.claim(at(10));
    let failed = Completion::Failed { error: text("{}"), retry_at: Some(at(20)) };
    fixture.end(at(11), &"run_1".into(), failed);
    assert_eq!(ids(&fixture.claim(at(12))), ["run_2"]);
    assert_eq!(ids(&fixture.claim(at(30))), Vec::<&str>::new());
}

fn suspects_need_room(fixture: &Fixture<'_>) {
    with_limit(fixture, limit("openai", 1));
    queue(fixture, 1, "run_1", "w", "global");
    for round in 0..2_i64 {
        let id = format!("wkr_d{round}");
        register(fixture, at(5), worker(&id, &[limit("openai", 1)], &[("w", Some("openai"))]));
        let claimed = claim_by(fixture, at(10 + 10 * round), &id, &["w"], Suspects::Never);
        assert_eq!(claimed.len(), 1);
        let worker = WorkerId::from(&*id);
        fixture
            .ok(at(20 + 10 * round), Command::ExpireWorker { worker, heartbeat: 2, shares_process: false });
    }
    queue(fixture, 2, "run_2", "w", "global");
    assert!(fixture.run(&"run_1".into()).is_suspect());
    assert_eq!(ids(&fixture.claim(at(40))), ["run_2"]);
    assert_eq!(fixture.store.next_work(PROJECT, &[text("w")], at(0)).unwrap().suspect, None);
    let alone = |now| claim_by(fixture, now, "wkr_1", &["w"], Suspects::Alone);
    assert_eq!(ids(&alone(at(41))), Vec::<&str>::new());
    fixture.end(at(42), &"run_2".into(), succeeded());
    assert!(fixture.store.next_work(PROJECT, &[text("w")], at(0)).unwrap().suspect.is_some());
    assert_eq!(ids(&alone(at(43))), ["run_1"]);
}

fn a_lower_limit_cancels_nothing(fixture: &Fixture<'_>) {
    with_limit(fixture, limit("openai", 3));
    for n in 1..=6 {
        queue(fixture, n, &format!("run_{n}"), "w", "global");
    }
    let claimed = fixture.claim(at(10));
    set(fixture, at(11), "openai", Some(1)).unwrap();
    assert_eq!(status(fixture, at(11)).running, 3);
    for (n, run) in claimed.iter().enumerate() {
        assert_eq!(fixture.claim(at(12)), Vec::new(), "{n} have ended");
        fixture.end(at(13), &run.run.id, succeeded());
    }
    assert_eq!(ids(&fixture.claim(at(14))), ["run_4"]);
}

fn a_changed_limit_counts_at_once(fixture: &Fixture<'_>) {
    with_limit(fixture, limit("openai", 1));
    for n in 1..=9 {
        queue(fixture, n, &format!("run_{n}"), "w", if n <= 5 { "a" } else { "b" });
    }
    let next = |workflows: &[&str]| {
        let workflows: Vec<_> = workflows.iter().map(|id| text(id)).collect();
        fixture.store.next_work(PROJECT, &workflows, at(0)).unwrap().run
    };
    let claim = |second, workflows: &[&str]| {
        let claimed = claim_by(fixture, at(second), "wkr_1", workflows, Suspects::Never);
        ids(&claimed).join(" ")
    };
    assert_eq!(claim(10, &["w"]), "run_1");
    assert_eq!((next(&["w"]), claim(10, &["w"])), (None, String::new()));

    set(fixture, at(11), "openai", Some(3)).unwrap();
    assert_eq!(claim(12, &["w"]), "run_2 run_3");
    set(fixture, at(13), "openai", None).unwrap();

    with_limit(fixture, per_key("openai", 9, 4));
    assert_eq!(claim(14, &["w"]), "run_4 run_6 run_7 run_8 run_9", "four of each key");
    assert_eq!(next(&["w"]), None);

    let workflows = [("v", Some("openai")), ("w", Some("openai"))];
    register(fixture, at(15), worker("wkr_1", &[limit("openai", 20)], &workflows));
    assert_eq!((next(&["v"]), next(&["v", "w"]), next(&["v"])), (None, Some(at(5)), None));
    queue(fixture, 16, "run_v", "v", "a");
    assert_eq!(claim(17, &["v"]), "run_v");
    assert_eq!(claim(17, &["v", "w"]), "run_5", "of the other workflow under the limit");
}

fn an_operators_values_win_until_they_are_reset(fixture: &Fixture<'_>) {
    with_limit(fixture, limit("openai", 2));
    set(fixture, at(1), "openai", Some(5)).unwrap();
    with_limit(fixture, limit("openai", 3));
    let shown = status(fixture, at(2)).limit;
    assert_eq!((shown.spec().max, shown.declared().max), (Some(5), Some(3)));
    set(fixture, at(3), "openai", None).unwrap();
    let shown = status(fixture, at(4)).limit;
    assert_eq!((shown.spec().max, shown.set), (Some(3), None));
}

fn spec(max: u32, rate: u32, seconds: i64) -> LimitSpec {
    LimitSpec { max: Some(max), rate: Some(rate), per_us: Some(seconds * 1_000_000), per_key: None }
}

fn declare(fixture: &Fixture<'_>, name: &str, spec: LimitSpec) {
    with_limit(fixture, DeclaredLimit { name: text(name), spec });
}

fn change(fixture: &Fixture<'_>, name: &str, values: LimitSpec) -> Result<Answer, Rejection> {
    fixture
        .try_one(at(1), Command::SetLimit { project: text(PROJECT), name: text(name), values: Some(values) })
}

fn what_an_operator_does_not_set_follows_the_code(fixture: &Fixture<'_>) {
    declare(fixture, "mail", spec(20, 100, 60));
    set(fixture, at(1), "mail", Some(5)).unwrap();
    declare(fixture, "mail", spec(30, 10, 30));
    assert_eq!(status(fixture, at(2)).limit.spec(), spec(5, 10, 30), "the provider lowered the rate");
    let shown = status(fixture, at(2)).limit;
    assert_eq!(shown.set, Some(LimitSpec { max: Some(5), ..LimitSpec::default() }));
    // Claims keep to it.
    for n in 1..=20 {
        queue(fixture, 2, &format!("run_{n}"), "w", "global");
    }
    let mut claimed = 0;
    for _ in 0..4 {
        let runs = fixture.claim(at(3));
        claimed += runs.len();
        assert!(runs.len() <= 5);
        for claimed in &runs {
            fixture.end(at(3), &claimed.run.id, succeeded());
        }
    }
    assert_eq!(claimed, 10);
}

fn two_operators_lose_no_change(fixture: &Fixture<'_>) {
    declare(fixture, "mail", spec(20, 100, 60));
    set(fixture, at(1), "mail", Some(5)).unwrap();
    change(fixture, "mail", LimitSpec { per_key: Some(2), ..LimitSpec::default() }).unwrap();
    change(fixture, "mail", LimitSpec { rate: Some(7), ..LimitSpec::default() }).unwrap();
    let expected = LimitSpec { per_key: Some(2), ..spec(5, 7, 60) };
    assert_eq!(status(fixture, at(2)).limit.spec(), expected);
    set(fixture, at(3), "mail", None).unwrap();
    assert_eq!(status(fixture, at(4)).limit.spec(), spec(20, 100, 60));
}

fn a_rate_and_its_period_are_set_together(fixture: &Fixture<'_>) {
    declare(fixture, "mail", spec(20, 100, 60));
    change(fixture, "mail", LimitSpec { rate: Some(7), ..LimitSpec::default() }).unwrap();
    declare(fixture, "mail", spec(20, 2, 1));
    assert_eq!(status(fixture, at(2)).limit.spec(), spec(20, 7, 60), "7 a second was never meant");
    change(fixture, "mail", LimitSpec { per_us: Some(90_000_000), ..LimitSpec::default() }).unwrap();
    assert_eq!(status(fixture, at(2)).limit.spec(), spec(20, 7, 90));
}

fn a_rate_without_a_period_is_rejected(fixture: &Fixture<'_>) {
    with_limit(fixture, limit("openai", 2));
    for values in [(Some(7), None), (None, Some(1_000_000))] {
        let values = LimitSpec { rate: values.0, per_us: values.1, ..LimitSpec::default() };
        let refused = change(fixture, "openai", values);
        assert!(
            matches!(&refused, Err(Rejection::Invalid(text)) if text.contains("give both")),
            "{refused:?}"
        );
    }
    let shown = status(fixture, at(4)).limit;
    assert_eq!((shown.spec().max, shown.set), (Some(2), None));
}

fn an_unknown_limit_is_rejected(fixture: &Fixture<'_>) {
    assert_eq!(set(fixture, at(1), "openai", Some(5)), Err(Rejection::LimitNotFound(text("openai"))));
}

fn the_newest_declaration_of_a_limit_counts(fixture: &Fixture<'_>) {
    let entry = |id: &str, max| worker(id, &[limit("openai", max)], &[("w", Some("openai"))]);
    register(fixture, at(1), entry("wkr_old", 2));
    register(fixture, at(2), entry("wkr_new", 5));
    let max = || status(fixture, at(9)).limit.spec().max;
    assert_eq!(max(), Some(5));
    let report = register(fixture, at(3), entry("wkr_old2", 2));
    assert_eq!(max(), Some(5), "the old code restarts while the new one is live");
    assert_eq!(report.outdated_limits.into_iter().collect::<Vec<_>>(), [text("openai")]);
    fixture.ok(at(4), Command::DeregisterWorker { worker: WorkerId::from("wkr_new") });
    register(fixture, at(5), entry("wkr_old3", 2));
    assert_eq!(max(), Some(2), "the old code was deployed again");
    // The same for the limit that a workflow has.
    register(fixture, at(6), worker("wkr_mail", &[limit("mail", 1)], &[("w", Some("mail"))]));
    assert_eq!(status(fixture, at(9)).workflows, [text("w")], "`mail` comes first");
    let report = register(fixture, at(7), entry("wkr_old4", 2));
    assert_eq!(status(fixture, at(9)).workflows, [text("w")]);
    assert!(report.outdated_limits.contains("mail"));
}

fn the_version_decides_which_limit_is_newer(fixture: &Fixture<'_>) {
    let entry = |id: &str, max, version: &str| WorkerEntry {
        version: Some(text(version)),
        ..worker(id, &[limit("openai", max)], &[("w", Some("openai"))])
    };
    let max = || status(fixture, at(9)).limit.spec().max;
    register(fixture, at(1), entry("wkr_2", 5, "2"));
    register(fixture, at(2), entry("wkr_1", 3, "1"));
    assert_eq!(max(), Some(5), "the first declaration has a version, too");
    // The same values in a newer version: from now on, that one counts.
    register(fixture, at(3), entry("wkr_4", 5, "4"));
    register(fixture, at(4), entry("wkr_3", 7, "3"));
    assert_eq!(max(), Some(5));
    register(fixture, at(5), entry("wkr_5", 8, "5"));
    assert_eq!(max(), Some(8));
}

fn a_limit_that_is_declared_again_is_not_touched(fixture: &Fixture<'_>) {
    let entry = |id: &str, version: Option<&str>| WorkerEntry {
        version: version.map(text),
        ..worker(id, &[limit("openai", 2)], &[("w", Some("openai"))])
    };
    register(fixture, at(1), entry("wkr_a", Some("1")));
    let declared = status(fixture, at(9)).limit;
    for (id, version) in [("wkr_b", Some("1")), ("wkr_c", None)] {
        register(fixture, at(2), entry(id, version));
        assert_eq!(status(fixture, at(9)).limit, declared, "{version:?}");
    }
}

fn runs_follow_their_workflow_to_another_limit(fixture: &Fixture<'_>) {
    queue(fixture, 0, "run_0", "w", "global");
    fixture.claim(at(0));
    fixture.end(at(0), &"run_0".into(), succeeded());
    queue(fixture, 0, "run_v", "v", "global");
    for n in 1..=4 {
        queue(fixture, n, &format!("run_{n}"), "w", "global");
    }
    assert_eq!(fixture.claim_up_to(at(5), 1).len(), 1);
    with_limit(fixture, limit("openai", 2));
    assert_eq!(status(fixture, at(6)).running, 1, "runs that are running count at once");
    let limits = ["run_0", "run_v", "run_4"].map(|id| fixture.run(&id.into()).limit);
    assert_eq!(limits, [None, None, Some(text("openai"))]);
    assert_eq!(ids(&fixture.claim(at(7))), ["run_2"]);
    register(fixture, at(8), worker("wkr_1", &[limit("mail", 1)], &[("w", Some("mail"))]));
    let running: Vec<_> = fixture.store.limits(PROJECT, 10, at(9)).unwrap();
    let running: Vec<_> = running.iter().map(|limit| (&*limit.name, limit.running)).collect();
    assert_eq!(running, [("mail", 2), ("openai", 0)]);
}

fn without_room_there_is_no_next_work(fixture: &Fixture<'_>) {
    with_limit(fixture, limit("openai", 1));
    let next = || fixture.store.next_work(PROJECT, &[text("w")], at(0)).unwrap().run;
    queue(fixture, 1, "run_1", "w", "global");
    queue(fixture, 2, "run_2", "w", "global");
    assert_eq!(next(), Some(at(1)));
    fixture.claim(at(10));
    assert_eq!(next(), None, "only the end of a run makes room");
    fixture.end(at(11), &"run_1".into(), succeeded());
    assert_eq!(next(), Some(at(2)));
}

fn no_period_holds_more_claims_than_the_rate(fixture: &Fixture<'_>) {
    with_limit(fixture, rate("mail", 5, 60));
    let mut claims = Vec::new();
    for second in 0..600 {
        queue(fixture, second, &format!("run_{second}"), "w", "global");
        let claimed = fixture.claim(at(second)).len();
        claims.extend(std::iter::repeat_n(second, claimed));
    }
    assert_eq!(claims[..5], [0, 1, 2, 3, 4], "all tokens may be taken at once");
    for pair in claims.windows(6) {
        assert!(pair[5] - pair[0] >= 60, "{claims:?}");
    }
    assert!(claims.len() >= 45, "nearly the whole rate can be used: {claims:?}");
}

fn claims_in_quick_succession_return_no_token_early(fixture: &Fixture<'_>) {
    with_limit(fixture, rate("mail", 10, 640));
    for n in 0..12 {
        queue(fixture, n, &format!("run_{n:02}"), "w", "global");
    }
    let claim = |second| fixture.claim_up_to(at(second), 1).len();
    assert_eq!(claim(20), 1);
    // Several claims in each cell of the grid on which tokens return.
    for second in (620..627).chain([661, 662]) {
        assert_eq!(claim(second), 1, "{second}");
    }
    for second in [663, 670, 678] {
        assert_eq!(claim(second), 0, "{second}: the first token has not returned");
    }
    assert_eq!(claim(20 + 640 + 20), 1, "the first token has returned");
    assert_eq!(claim(20 + 640 + 21), 0, "the others have not");
}

fn the_next_work_waits_for_a_token(fixture: &Fixture<'_>) {
    with_limit(fixture, rate("mail", 1, 64));
    let next = || fixture.store.next_work(PROJECT, &[text("w")], at(10)).unwrap().run;
    queue(fixture, 1, "run_1", "w", "global");
    queue(fixture, 2, "run_2", "w", "global");
    assert_eq!(fixture.claim(at(10)).len(), 1);
    let token = next().expect("a token returns");
    assert!(token >= at(75) && token <= at(76), "{token}");
    assert_eq!(fixture.claim(at(74)), Vec::new());
    assert_eq!(ids(&fixture.claim(token)), ["run_2"]);
}

fn a_token_returns_a_period_after_the_start_of_an_early_claim(fixture: &Fixture<'_>) {
    with_limit(fixture, rate("mail", 1, 64));
    queue(fixture, 15, "run_1", "w", "global");
    queue(fixture, 16, "run_2", "w", "global");
    assert_eq!(ids(&claim_early(fixture, 10, 20)), ["run_1"]);
    let token = fixture.store.next_work(PROJECT, &[text("w")], at(10)).unwrap().run.expect("a token returns");
    assert!(token >= at(15 + 64), "{token}: a period after the claim, and not after the start");
    assert_eq!(fixture.claim(at(15 + 63)), Vec::new());
    assert_eq!(ids(&fixture.claim(token)), ["run_2"]);
}

/// Claims what becomes available until then.
fn claim_early(fixture: &Fixture<'_>, now: i64, until: i64) -> Vec<ClaimedRun> {
    let command = Command::ClaimRuns {
        project: text(PROJECT),
        worker: WorkerId::from("wkr_1"),
        workflows: vec![text("w")],
        limit: 10,
        until: at(until),
        suspects: Suspects::Never,
        codes: None,
    };
    let Answer::Claimed(claimed) = fixture.ok(at(now), command) else { unreachable!() };
    claimed
}

fn an_early_claim_returns_no_other_token(fixture: &Fixture<'_>) {
    with_limit(fixture, rate("mail", 3, 4));
    for (second, id) in [(10, "run_1"), (10, "run_2"), (15, "run_3")] {
        queue(fixture, second, id, "w", "global");
    }
    assert_eq!(fixture.claim(at(10)).len(), 2);
    assert_eq!(ids(&claim_early(fixture, 11, 15)), ["run_3"]);
    for id in ["run_4", "run_5"] {
        queue(fixture, 12, id, "w", "global");
    }
    assert_eq!(fixture.claim(at(12)), Vec::new(), "four runs would start within two seconds");
    assert_eq!(fixture.claim(at(12 + 3)).len(), 2, "the tokens of the first two runs have returned");
}

fn clocks_that_differ_a_little_do_not_exceed_the_rate(fixture: &Fixture<'_>) {
    let limits = [rate("mail", 1, 64)];
    register(fixture, at(0), worker("wkr_1", &limits, &[("w", Some("mail"))]));
    register(fixture, at(0), worker("wkr_2", &limits, &[("w", Some("mail"))]));
    queue(fixture, 1, "run_1", "w", "global");
    queue(fixture, 2, "run_2", "w", "global");
    // At the very end of a cell of the grid.
    let now = Timestamp::from_micros(at(11).as_micros() - 1);
    assert_eq!(claim_by(fixture, now, "wkr_1", &["w"], Suspects::Never).len(), 1);
    // The clock of the other is a second ahead, so less than a period has passed.
    assert_eq!(claim_by(fixture, at(11 + 64), "wkr_2", &["w"], Suspects::Never), Vec::new());
}

fn tokens_of_a_clock_that_was_ahead_return_within_a_period(fixture: &Fixture<'_>) {
    with_limit(fixture, rate("mail", 2, 64));
    for n in 1..=6 {
        queue(fixture, n, &format!("run_{n}"), "w", "global");
    }
    let next = |now| fixture.store.next_work(PROJECT, &[text("w")], now).unwrap().run;
    let year = 365 * 86_400;
    assert_eq!(fixture.claim(at(year)).len(), 2);
    for round in 0..2 {
        // A claim is worth it, so that somebody notes from when on they count.
        let now = 100 + 80 * round;
        assert!(next(at(now)).is_some_and(|at| at <= self::at(now)), "{round}");
        let claimed = fixture.claim(at(now)).len();
        assert_eq!(claimed, 2 * usize::from(round == 1), "{round}: they count as taken now");
        let token = next(at(now)).expect("they return");
        assert!(token > at(now + 64) && token <= at(now + 66), "{round}: {token}");
        assert_eq!(fixture.claim(at(now + 63)), Vec::new(), "{round}");
    }
    assert_eq!(fixture.claim(at(180 + 66)).len(), 2);
    // A clock that is ahead by less than a period is no better.
    for n in 7..=8 {
        queue(fixture, 300, &format!("run_{n}"), "w", "global");
    }
    assert_eq!(fixture.claim(at(350)).len(), 2);
    queue(fixture, 301, "run_9", "w", "global");
    assert_eq!(fixture.claim(at(320)), Vec::new());
    assert_eq!(fixture.claim(at(320 + 66)).len(), 1);
}

fn a_clock_that_stays_ahead_keeps_to_the_rate(fixture: &Fixture<'_>) {
    let limits = [rate("mail", 2, 64)];
    for id in ["wkr_1", "wkr_2"] {
        register(fixture, at(0), worker(id, &limits, &[("w", Some("mail"))]));
    }
    for n in 1..=40 {
        queue(fixture, n, &format!("run_{n:02}"), "w", "global");
    }
    let hour = 3_600;
    let mut ahead = Vec::new();
    for second in 100..300 {
        let claimed = claim_by(fixture, at(second + hour), "wkr_1", &["w"], Suspects::Never).len();
        ahead.extend(std::iter::repeat_n(second, claimed));
        claim_by(fixture, at(second), "wkr_2", &["w"], Suspects::Never);
    }
    for pair in ahead.windows(3) {
        assert!(pair[2] - pair[0] >= 64, "{ahead:?}");
    }
    assert!(ahead.len() >= 4, "{ahead:?}");
}

fn starts_that_are_left_are_told(fixture: &Fixture<'_>) {
    with_limit(fixture, rate("mail", 2, 64));
    let starts = |second| status(fixture, at(second)).limit.starts(at(second));
    assert_eq!(starts(1), Some((2, None)));
    for n in 1..=3 {
        queue(fixture, n, &format!("run_{n}"), "w", "global");
    }
    fixture.claim_up_to(at(5), 1);
    assert_eq!(starts(6), Some((1, None)));
    fixture.claim(at(10));
    let next = fixture.store.next_work(PROJECT, &[text("w")], at(11)).unwrap().run;
    assert_eq!(starts(11), Some((0, next)));
    with_limit(fixture, limit("mail", 2));
    assert_eq!(starts(12), None);
}

fn a_reset_returns_no_token(fixture: &Fixture<'_>) {
    with_limit(fixture, rate("mail", 2, 64));
    for n in 1..=4 {
        queue(fixture, n, &format!("run_{n}"), "w", "global");
    }
    assert_eq!(fixture.claim(at(10)).len(), 2);
    let values = Some(LimitSpec { rate: Some(2), per_us: Some(64_000_000), ..LimitSpec::default() });
    for values in [values, None] {
        fixture.ok(at(11), Command::SetLimit { project: text(PROJECT), name: text("mail"), values });
        assert_eq!(fixture.claim(at(12)), Vec::new());
    }
    assert_eq!(fixture.claim(at(10 + 66)).len(), 2);
}

fn with_priority(fixture: &Fixture<'_>, second: i64, id: &str, priority: u8) {
    let priority = Some(priority);
    fixture.create(at(second), NewRun { priority, available_at: at(second), ..new_run(id) });
}

fn a_higher_priority_is_claimed_first(fixture: &Fixture<'_>) {
    for n in 1..=30 {
        with_priority(fixture, n, &format!("run_{n}"), 0);
    }
    with_priority(fixture, 40, "run_high", 9);
    with_priority(fixture, 41, "run_mid", 4);
    assert_eq!(ids(&fixture.claim_up_to(at(50), 3)), ["run_high", "run_mid", "run_1"]);
}

fn a_priority_is_worth_a_minute_of_waiting(fixture: &Fixture<'_>) {
    with_priority(fixture, 0, "run_low", 0);
    with_priority(fixture, 59, "run_sooner", 1);
    with_priority(fixture, 61, "run_later", 1);
    with_priority(fixture, 599, "run_highest", 9);
    assert_eq!(ids(&fixture.claim(at(600))), ["run_sooner", "run_low", "run_later", "run_highest"]);
}

fn the_priority_of_a_workflow_is_that_of_its_runs(fixture: &Fixture<'_>) {
    let rules = BTreeMap::from([(text("w"), ClaimRules { priority: 3, ..ClaimRules::default() })]);
    register(fixture, at(0), WorkerEntry { rules, ..new_worker("wkr_1") });
    let claim_for = Some(WorkerId::from("wkr_1"));
    let new = NewRun { claim_for, available_at: at(1), ..new_run("run_1") };
    let answer = fixture.ok(at(1), Command::CreateRun(Box::new(new)));
    assert!(matches!(answer, Answer::Created { claimed: Some(_), .. }), "a priority alone queues nothing");
    with_priority(fixture, 1, "run_2", 7);
    let schedule = fixture.put(at(0), new_schedule("a", Some(at(60))));
    let fired = fixture.fire(at(60), &schedule, at(60), Admission::Queue);
    let priorities = ["run_1", "run_2", fired.as_str()].map(|id| fixture.run(&id.into()).priority);
    assert_eq!(priorities, [3, 7, 3]);
}

fn limits_are_listed_with_their_use(fixture: &Fixture<'_>) {
    let workflows = [("v", Some("openai")), ("w", Some("openai"))];
    register(fixture, at(0), worker("wkr_1", &[limit("openai", 1), limit("spare", 4)], &workflows));
    queue(fixture, 3, "run_1", "w", "global");
    queue(fixture, 5, "run_2", "w", "global");
    queue(fixture, 4, "run_3", "v", "global");
    queue(fixture, 90, "run_4", "v", "global");
    fixture.claim_up_to(at(3), 1);
    let listed = fixture.store.limits(PROJECT, 100, at(10)).unwrap();
    assert_eq!(listed.iter().map(|limit| &*limit.name).collect::<Vec<_>>(), ["openai", "spare"]);
    let shown = &listed[0];
    assert_eq!((shown.running, shown.queued, shown.oldest), (1, 2, Some(at(4))));
    let of_key = |limit, key| fixture.store.running_with_key(PROJECT, limit, key).unwrap();
    assert_eq!(
        [("openai", "global"), ("openai", "other"), ("spare", "global")].map(|(l, k)| of_key(l, k)),
        [1, 0, 0]
    );
    assert_eq!(shown.workflows, [text("v"), text("w")]);
    assert_eq!((listed[1].running, listed[1].queued, listed[1].oldest), (0, 0, None));
}

fn a_suspended_limit_claims_nothing(fixture: &Fixture<'_>) {
    with_limit(fixture, limit("openai", 2));
    queue(fixture, 1, "run_1", "w", "global");
    set(fixture, at(2), "openai", Some(0)).unwrap();
    assert_eq!(fixture.claim(at(3)), Vec::new());
    set(fixture, at(4), "openai", None).unwrap();
    assert_eq!(fixture.claim(at(5)).len(), 1);
}

fn delete(fixture: &Fixture<'_>, now: Timestamp, name: &str) -> Result<Answer, Rejection> {
    fixture.try_one(now, Command::DeleteLimit { project: text(PROJECT), name: text(name) })
}

fn deregister(fixture: &Fixture<'_>, now: Timestamp, worker: &str) {
    fixture.ok(now, Command::DeregisterWorker { worker: WorkerId::from(worker) });
}

fn a_limit_is_deleted_when_nothing_uses_it(fixture: &Fixture<'_>) {
    let entry = |id: &str| worker(id, &[limit("openai", 1)], &[("w", Some("openai"))]);
    register(fixture, at(0), entry("wkr_1"));
    set(fixture, at(1), "openai", Some(0)).unwrap();
    deregister(fixture, at(2), "wkr_1");
    assert_eq!(delete(fixture, at(3), "openai"), Ok(Answer::Done));
    assert_eq!(fixture.store.limits(PROJECT, 10, at(4)).unwrap(), []);
    assert_eq!(delete(fixture, at(5), "openai"), Err(Rejection::LimitNotFound(text("openai"))));
    assert_eq!(set(fixture, at(5), "openai", Some(2)), Err(Rejection::LimitNotFound(text("openai"))));

    // The same code again declares it as a new one, for the same workflow.
    queue(fixture, 6, "run_1", "w", "global");
    queue(fixture, 7, "run_2", "w", "global");
    assert_eq!(fixture.run(&"run_1".into()).limit, None);
    register(fixture, at(8), entry("wkr_2"));
    let shown = status(fixture, at(9));
    assert_eq!((shown.limit.spec().max, shown.limit.set, shown.workflows), (Some(1), None, vec![text("w")]));
    assert_eq!(ids(&claim_by(fixture, at(10), "wkr_2", &["w"], Suspects::Never)), ["run_1"]);
}

fn a_declared_limit_is_not_deleted(fixture: &Fixture<'_>) {
    let entry = |id: &str, name: &str| worker(id, &[limit(name, 1)], &[("w", Some(name))]);
    register(fixture, at(0), entry("wkr_old", "openai"));
    register(fixture, at(1), entry("wkr_new", "mail"));
    // No workflow counts against it any longer, but its worker would restore it when it restarts.
    let rejected = Err(Rejection::LimitDeclared(text("openai"), text("app.py")));
    assert_eq!(delete(fixture, at(2), "openai"), rejected);
    assert_eq!(fixture.store.limits(PROJECT, 10, at(3)).unwrap().len(), 2);
    deregister(fixture, at(4), "wkr_old");
    assert_eq!(delete(fixture, at(5), "openai"), Ok(Answer::Done));
    assert_eq!(&*status(fixture, at(6)).name, "mail");
    assert_eq!(status(fixture, at(6)).workflows, [text("w")]);
}

fn a_limit_of_unfinished_runs_is_not_deleted(fixture: &Fixture<'_>) {
    with_limit(fixture, limit("openai", 1));
    queue(fixture, 1, "run_1", "w", "global");
    queue(fixture, 90, "run_2", "w", "global");
    fixture.claim_up_to(at(1), 1);
    deregister(fixture, at(2), "wkr_1");
    for (now, run) in [(3, "run_1"), (4, "run_2")] {
        let rejected = Err(Rejection::LimitHasRuns(text("openai"), text("w")));
        assert_eq!(delete(fixture, at(now), "openai"), rejected);
        fixture.ok(at(now), Command::CancelRun { project: text(PROJECT), run: run.into() });
    }
    assert_eq!(delete(fixture, at(5), "openai"), Ok(Answer::Done));
}
