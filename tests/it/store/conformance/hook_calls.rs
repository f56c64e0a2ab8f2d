//! Hook calls: recorded with what they tell, handed to one worker, and kept until it has made them.

use super::super::fixture::{
    Fixture, PROJECT, at, done_step, end, failed, new_run, new_schedule, new_worker, patch_command,
    succeeded, text,
};
use super::cases;
use polos::calendar::Timestamp;
use polos::model::{
    Admission, CallKind, ClaimRules, Completion, HookCall, HookEvent, LedgerLine, Origin, Run, RunId,
    RunState, Schedule, SlotOutcome, WaitingCalls, WantedCalls, WorkerEntry,
};
use polos::store::{Answer, Command, Patch, Rejection};
use std::sync::Arc;

cases! {
    a_skipped_slot_is_told_if_a_worker_wants_to_know,
    nothing_is_recorded_that_no_worker_wants_to_know,
    slots_that_an_operator_skips_are_told,
    a_slot_that_the_application_skips_is_told,
    missed_slots_and_a_retirement_are_not_told_as_skipped,
    missed_slots_are_told_if_a_worker_wants_to_know,
    a_hook_call_goes_to_one_worker,
    the_calls_of_a_dead_worker_go_to_another,
    a_late_run_stays_late_for_the_next_worker,
    a_call_that_was_made_is_gone,
    a_worker_that_lost_its_call_does_not_end_it,
    a_run_that_waits_is_late,
    a_run_that_started_in_time_is_not_late,
    a_run_that_started_late_is_told_afterward,
    a_run_that_was_cancelled_before_its_start_is_not_late,
    a_run_that_catches_up_is_late_at_once,
    a_backfilled_or_triggered_run_is_never_late,
    a_run_whose_worker_died_before_it_recorded_anything_is_late,
    a_run_whose_worker_dies_after_the_deadline_is_late_even_if_it_is_claimed_at_once,
    a_run_that_recorded_a_step_started,
    a_run_that_was_given_back_while_it_was_executed_started,
    a_run_that_was_given_back_before_its_slot_has_not_started,
    another_workers_claim_is_looked_at_twice,
    the_shortest_time_that_a_live_worker_wants_counts,
    what_is_wanted_outlasts_the_workers_and_not_their_code,
    hook_calls_of_other_projects_and_workflows_are_not_seen,
    old_hook_calls_are_pruned,
    an_outcome_is_told_by_the_worker_of_its_claim,
    the_outcomes_of_a_dead_worker_are_told_by_another,
    an_outcome_that_is_not_recorded_or_not_final_is_not_told,
    an_outcome_is_told_only_if_it_is_asked_for,
    a_repeated_completion_is_told_once,
    each_failure_is_told_with_its_own_error,
    calls_are_for_workers_that_make_them,
    a_worker_that_wants_no_calls_leaves_those_that_others_want,
    the_outcome_of_a_run_that_is_gone_is_not_told,
    calls_that_wait_for_a_worker_are_counted,
    a_skip_that_was_taken_back_is_not_told,
    a_skip_that_is_made_again_is_told,
}

const LATE_AFTER: i64 = 300;

fn wants(id: &str, hooks: WantedCalls) -> WorkerEntry {
    let rules = ClaimRules { hooks, ..ClaimRules::default() };
    WorkerEntry { rules: [(text("w"), rules)].into(), ..new_worker(id) }
}

fn late_after(seconds: i64) -> WantedCalls {
    WantedCalls { late_after_us: Some(seconds * 1_000_000), ..WantedCalls::NONE }
}

const SKIPPED: WantedCalls = WantedCalls { skipped: true, ..WantedCalls::NONE };
const MISSED: WantedCalls = WantedCalls { missed: true, ..WantedCalls::NONE };

fn register(fixture: &Fixture<'_>, now: Timestamp, entry: WorkerEntry) {
    fixture.ok(now, Command::RegisterWorker(Box::new(entry)));
}

/// A fixture's worker that wants all calls, and a schedule that is due at 60.
fn scheduled(fixture: &Fixture<'_>) -> Schedule {
    register(fixture, at(0), wants("wkr_1", WantedCalls { skipped: true, ..late_after(LATE_AFTER) }));
    fixture.put(at(0), new_schedule("a", Some(at(60))))
}

/// All calls about a workflow.
fn kinds(workflow: &str) -> Vec<CallKind> {
    let all =
        [HookEvent::Skipped, HookEvent::Missed, HookEvent::Late, HookEvent::Succeeded, HookEvent::Failed];
    all.into_iter().map(|event| CallKind { event, workflow: text(workflow) }).collect()
}

fn open(fixture: &Fixture<'_>) -> Vec<HookCall> {
    fixture.store.hook_calls(PROJECT, &kinds("w"), 100).unwrap()
}

fn take_by(fixture: &Fixture<'_>, worker: &str, now: Timestamp, calls: &[HookCall]) -> Vec<HookCall> {
    let calls = calls.iter().map(|call| Arc::clone(&call.id)).collect();
    let recheck_at = Timestamp::from_micros(now.as_micros() + 30_000_000);
    match fixture.ok(now, Command::TakeHookCalls { worker: worker.into(), calls, recheck_at }) {
        Answer::HookCalls(calls) => calls,
        other => panic!("{other:?}"),
    }
}

/// What `wkr_1` gets when it looks.
fn take(fixture: &Fixture<'_>, now: Timestamp) -> Vec<HookCall> {
    let open = open(fixture);
    take_by(fixture, "wkr_1", now, &open)
}

fn told(calls: &[HookCall]) -> Vec<(HookEvent, Timestamp, u64, &str)> {
    calls.iter().map(|call| (call.event.unwrap(), call.from, call.count, &*call.reason)).collect()
}

fn line(outcome: SlotOutcome, from: Timestamp, until: Timestamp, count: u64) -> LedgerLine {
    LedgerLine { from, until, count, outcome, reason: text("why") }
}

fn skip(fixture: &Fixture<'_>, now: Timestamp, schedule: &Schedule, lines: Vec<LedgerLine>) {
    let mut plan = fixture.plan(schedule, &[]);
    plan.ledger = lines;
    fixture.commit_plan(now, plan);
}

fn expire(fixture: &Fixture<'_>, now: Timestamp, worker: &str) {
    let peers = fixture.store.peers(PROJECT).unwrap();
    let heartbeat = peers.iter().find(|peer| peer.id.as_str() == worker).unwrap().heartbeat;
    let command = Command::ExpireWorker { worker: worker.into(), heartbeat, shares_process: false };
    fixture.ok(now, command);
}

/// The run of the slot at 60, claimed by another worker when it is due.
fn claimed_by_other(fixture: &Fixture<'_>) -> RunId {
    let schedule = scheduled(fixture);
    register(fixture, at(0), new_worker("other"));
    let plan = fixture.plan(&schedule, &[(at(60), Admission::Claim)]);
    fixture.ok(at(60), Command::Fire { worker: "other".into(), plan: Box::new(plan) });
    RunId::of_slot(&schedule.id, at(60))
}

fn a_skipped_slot_is_told_if_a_worker_wants_to_know(fixture: &Fixture<'_>) {
    let schedule = scheduled(fixture);
    skip(fixture, at(61), &schedule, vec![line(SlotOutcome::Skipped, at(60), at(180), 3)]);
    let calls = take(fixture, at(61));
    assert_eq!(told(&calls), [(HookEvent::Skipped, at(60), 3, "why")]);
    let call = &calls[0];
    assert_eq!((&*call.workflow, &*call.key, call.until), ("w", "a", at(180)));
    assert_eq!((&call.schedule, call.worker.as_ref()), (&schedule.id, Some(&fixture.worker)));
}

fn nothing_is_recorded_that_no_worker_wants_to_know(fixture: &Fixture<'_>) {
    let schedule = fixture.put(at(0), new_schedule("a", Some(at(60))));
    skip(fixture, at(61), &schedule, vec![line(SlotOutcome::Skipped, at(60), at(60), 1)]);
    fixture.fire(at(120), &schedule, at(120), Admission::Queue);
    assert_eq!(open(fixture), []);
    register(fixture, at(130), wants("late", late_after(1)));
    skip(fixture, at(181), &schedule, vec![line(SlotOutcome::Skipped, at(180), at(180), 1)]);
    register(fixture, at(190), wants("late", SKIPPED));
    fixture.fire(at(240), &schedule, at(240), Admission::Queue);
    assert_eq!(open(fixture), []);
}

fn slots_that_an_operator_skips_are_told(fixture: &Fixture<'_>) {
    let schedule = scheduled(fixture);
    let ledger = vec![line(SlotOutcome::Skipped, at(60), at(60), 1)];
    let patch = Patch { next_slot: Some(Some(at(120))), ledger, ..Patch::default() };
    fixture.ok(at(10), patch_command(&schedule.id, None, patch));
    assert_eq!(told(&take(fixture, at(10))), [(HookEvent::Skipped, at(60), 1, "why")]);
}

fn a_slot_that_the_application_skips_is_told(fixture: &Fixture<'_>) {
    let schedule = scheduled(fixture);
    let run = fixture.fire(at(60), &schedule, at(60), Admission::Claim);
    fixture.end(at(61), &run, Completion::Skipped { reason: text("closed") });
    assert_eq!(told(&take(fixture, at(61))), [(HookEvent::Skipped, at(60), 1, "closed")]);
    assert_eq!(take(fixture, at(360)), [], "a slot that was skipped is not late");
}

fn missed_slots_and_a_retirement_are_not_told_as_skipped(fixture: &Fixture<'_>) {
    let schedule = scheduled(fixture);
    let lines =
        vec![line(SlotOutcome::Missed, at(60), at(120), 2), line(SlotOutcome::Skipped, at(130), at(130), 0)];
    skip(fixture, at(131), &schedule, lines);
    assert_eq!(open(fixture), []);
}

fn missed_slots_are_told_if_a_worker_wants_to_know(fixture: &Fixture<'_>) {
    register(fixture, at(0), wants("wkr_1", MISSED));
    let schedule = fixture.put(at(0), new_schedule("a", Some(at(60))));
    let lines = vec![
        line(SlotOutcome::Missed, at(60), at(180), 3),
        line(SlotOutcome::Skipped, at(240), at(240), 1),
        line(SlotOutcome::Missed, at(300), at(300), 1),
    ];
    skip(fixture, at(301), &schedule, lines);
    let calls = take(fixture, at(301));
    assert_eq!(told(&calls), [(HookEvent::Missed, at(60), 3, "why"), (HookEvent::Missed, at(300), 1, "why")]);
    let call = &calls[0];
    assert_eq!((&*call.workflow, &*call.key, call.until), ("w", "a", at(180)));
    assert_eq!((&call.schedule, call.worker.as_ref()), (&schedule.id, Some(&fixture.worker)));
    // Whoever takes over from a dead worker tells the same.
    register(fixture, at(302), wants("other", MISSED));
    expire(fixture, at(303), "wkr_1");
    let again = open(fixture);
    assert_eq!(told(&take_by(fixture, "other", at(303), &again)), told(&calls));
}

fn a_hook_call_goes_to_one_worker(fixture: &Fixture<'_>) {
    let schedule = scheduled(fixture);
    register(fixture, at(0), wants("other", SKIPPED));
    skip(fixture, at(61), &schedule, vec![line(SlotOutcome::Skipped, at(60), at(60), 1)]);
    let seen = open(fixture);
    assert_eq!(take_by(fixture, "other", at(61), &seen).len(), 1);
    assert_eq!(open(fixture), []);
    assert_eq!(take_by(fixture, "wkr_1", at(61), &seen), []);
    assert_eq!(take_by(fixture, "other", at(62), &seen).len(), 1, "the same when a reply was lost");
    let command = Command::TakeHookCalls {
        worker: "gone".into(),
        calls: vec![Arc::clone(&seen[0].id)],
        recheck_at: at(99),
    };
    assert_eq!(fixture.no(at(62), command), Rejection::WorkerGone);
}

fn the_calls_of_a_dead_worker_go_to_another(fixture: &Fixture<'_>) {
    let schedule = scheduled(fixture);
    register(fixture, at(0), wants("other", SKIPPED));
    skip(fixture, at(61), &schedule, vec![line(SlotOutcome::Skipped, at(60), at(60), 1)]);
    let seen = open(fixture);
    take_by(fixture, "other", at(61), &seen);
    expire(fixture, at(90), "other");
    assert_eq!(open(fixture).len(), 1);
    assert_eq!(take(fixture, at(90)).len(), 1);
    assert_eq!(open(fixture), []);
}

fn a_late_run_stays_late_for_the_next_worker(fixture: &Fixture<'_>) {
    claimed_by_other(fixture);
    expire(fixture, at(80), "other");
    register(fixture, at(90), wants("third", SKIPPED));
    let seen = open(fixture);
    assert_eq!(take_by(fixture, "third", at(360), &seen).len(), 1);
    fixture.claim(at(361));
    expire(fixture, at(400), "third");
    assert_eq!(told(&take(fixture, at(400))), [(HookEvent::Late, at(60), 1, "")]);
}

fn a_call_that_was_made_is_gone(fixture: &Fixture<'_>) {
    let schedule = scheduled(fixture);
    skip(fixture, at(61), &schedule, vec![line(SlotOutcome::Skipped, at(60), at(60), 1)]);
    let calls = take(fixture, at(61));
    let ended = Command::EndHookCalls {
        worker: fixture.worker.clone(),
        calls: calls.iter().map(|call| Arc::clone(&call.id)).collect(),
    };
    assert_eq!(fixture.ok(at(62), ended.clone()), Answer::Done);
    assert_eq!(fixture.ok(at(62), ended), Answer::Done);
    fixture.ok(at(63), Command::DeregisterWorker { worker: fixture.worker.clone() });
    assert_eq!(open(fixture), []);
    register(fixture, at(64), new_worker("wkr_1"));
    assert_eq!(take_by(fixture, "wkr_1", at(64), &calls), []);
}

fn a_worker_that_lost_its_call_does_not_end_it(fixture: &Fixture<'_>) {
    let schedule = scheduled(fixture);
    register(fixture, at(0), wants("other", SKIPPED));
    skip(fixture, at(61), &schedule, vec![line(SlotOutcome::Skipped, at(60), at(60), 1)]);
    let seen = open(fixture);
    take_by(fixture, "other", at(61), &seen);
    expire(fixture, at(90), "other");
    take(fixture, at(90));
    let calls = vec![Arc::clone(&seen[0].id)];
    fixture.ok(at(91), Command::EndHookCalls { worker: "other".into(), calls });
    fixture.ok(at(92), Command::DeregisterWorker { worker: fixture.worker.clone() });
    assert_eq!(open(fixture).len(), 1);
}

fn a_run_that_waits_is_late(fixture: &Fixture<'_>) {
    let schedule = scheduled(fixture);
    let first = fixture.fire(at(60), &schedule, at(60), Admission::Queue);
    let second = fixture.fire(at(120), &schedule, at(120), Admission::Behind);
    assert_eq!(fixture.state(&second), RunState::Buffered);
    let calls = open(fixture);
    assert_eq!(calls.iter().map(|call| call.check_at).collect::<Vec<_>>(), [at(360), at(420)]);
    assert_eq!(take(fixture, at(359)), []);
    let calls = take(fixture, at(360));
    assert_eq!(told(&calls), [(HookEvent::Late, at(60), 1, "")]);
    assert_eq!(HookCall::run_of(&calls[0].id), Some(first.as_str()));
    assert_eq!((calls[0].due_at, calls[0].until), (at(360), at(60)));
    assert_eq!(told(&take(fixture, at(420))), [(HookEvent::Late, at(120), 1, "")]);
    assert_eq!(open(fixture), []);
}

fn a_run_that_started_in_time_is_not_late(fixture: &Fixture<'_>) {
    let schedule = scheduled(fixture);
    let run = fixture.fire(at(60), &schedule, at(60), Admission::Claim);
    fixture.fire(at(120), &schedule, at(120), Admission::Queue);
    assert_eq!(fixture.claim(at(130)).len(), 1);
    assert_eq!(take(fixture, at(360)), []);
    fixture.end(at(361), &run, succeeded());
    assert_eq!(take(fixture, at(420)), []);
    assert_eq!(open(fixture), []);
}

fn a_run_that_started_late_is_told_afterward(fixture: &Fixture<'_>) {
    let schedule = scheduled(fixture);
    let run = fixture.fire(at(60), &schedule, at(60), Admission::Queue);
    fixture.claim(at(360));
    fixture.end(at(361), &run, failed());
    assert_eq!(told(&take(fixture, at(400))), [(HookEvent::Late, at(60), 1, "")]);
}

fn a_run_that_was_cancelled_before_its_start_is_not_late(fixture: &Fixture<'_>) {
    let schedule = scheduled(fixture);
    let run = fixture.fire(at(60), &schedule, at(60), Admission::Queue);
    fixture.ok(at(100), Command::CancelRun { project: text(PROJECT), run });
    assert_eq!(take(fixture, at(360)), []);
    assert_eq!(open(fixture), []);
}

fn a_run_that_catches_up_is_late_at_once(fixture: &Fixture<'_>) {
    let schedule = scheduled(fixture);
    fixture.fire(at(400), &schedule, at(60), Admission::Claim);
    assert_eq!(told(&take(fixture, at(400))), [(HookEvent::Late, at(60), 1, "")]);
}

fn a_backfilled_or_triggered_run_is_never_late(fixture: &Fixture<'_>) {
    let schedule = scheduled(fixture);
    for (id, origin) in [("run_1", Origin::Backfill), ("run_2", Origin::Trigger)] {
        let (schedule_id, slot) = (Some(schedule.id.clone()), Some(at(-60)));
        fixture.create(at(1), polos::model::NewRun { origin, schedule_id, slot, ..new_run(id) });
    }
    assert_eq!(open(fixture), []);
}

fn a_run_whose_worker_died_before_it_recorded_anything_is_late(fixture: &Fixture<'_>) {
    let run = claimed_by_other(fixture);
    expire(fixture, at(80), "other");
    assert_eq!(fixture.state(&run), RunState::Queued);
    assert_eq!(told(&take(fixture, at(360))), [(HookEvent::Late, at(60), 1, "")]);
}

fn a_run_whose_worker_dies_after_the_deadline_is_late_even_if_it_is_claimed_at_once(fixture: &Fixture<'_>) {
    claimed_by_other(fixture);
    let seen = open(fixture);
    expire(fixture, at(361), "other");
    fixture.claim(at(361));
    assert_eq!(told(&take_by(fixture, "wkr_1", at(362), &seen)), [(HookEvent::Late, at(60), 1, "")]);
}

fn a_run_that_recorded_a_step_started(fixture: &Fixture<'_>) {
    let id = claimed_by_other(fixture);
    let token = fixture.run(&id).token;
    fixture.ok(
        at(61),
        Command::RecordStep {
            run: id,
            token,
            step: polos::model::StepRecord { finished_at: at(61), ..done_step("a") },
        },
    );
    expire(fixture, at(361), "other");
    assert_eq!(take(fixture, at(362)), []);
    assert_eq!(open(fixture), []);
}

fn a_run_that_was_given_back_while_it_was_executed_started(fixture: &Fixture<'_>) {
    claimed_by_other(fixture);
    fixture.ok(at(200), Command::DeregisterWorker { worker: "other".into() });
    assert_eq!(take(fixture, at(360)), []);
    assert_eq!(open(fixture), []);
}

fn a_run_that_was_given_back_before_its_slot_has_not_started(fixture: &Fixture<'_>) {
    let schedule = scheduled(fixture);
    let id = fixture.fire(at(59), &schedule, at(60), Admission::Claim);
    let token = fixture.run(&id).token;
    fixture.ok(at(59), end(&id, token, Completion::Released));
    assert_eq!(told(&take(fixture, at(360))), [(HookEvent::Late, at(60), 1, "")]);
}

fn another_workers_claim_is_looked_at_twice(fixture: &Fixture<'_>) {
    claimed_by_other(fixture);
    assert_eq!(take(fixture, at(360)), []);
    let calls = open(fixture);
    assert_eq!(
        calls.iter().map(|call| (call.due_at, call.check_at)).collect::<Vec<_>>(),
        [(at(360), at(390))]
    );
    assert_eq!(take(fixture, at(370)), [], "not before its time");
    assert_eq!(open(fixture).len(), 1);
    assert_eq!(take(fixture, at(390)), []);
    assert_eq!(open(fixture), []);
}

fn the_shortest_time_that_a_live_worker_wants_counts(fixture: &Fixture<'_>) {
    register(fixture, at(0), wants("wkr_1", late_after(300)));
    let report = fixture.ok(at(0), Command::RegisterWorker(Box::new(wants("short", late_after(100)))));
    assert!(matches!(report, Answer::Reconciled(report) if !report.others_want_calls));
    let report = fixture.ok(at(0), Command::RegisterWorker(Box::new(wants("wkr_1", late_after(300)))));
    assert!(matches!(report, Answer::Reconciled(report) if report.others_want_calls));
    let schedule = fixture.put(at(0), new_schedule("a", Some(at(60))));
    fixture.fire(at(60), &schedule, at(60), Admission::Queue);
    fixture.ok(at(61), Command::DeregisterWorker { worker: "short".into() });
    fixture.fire(at(120), &schedule, at(120), Admission::Queue);
    let entry = Box::new(wants("wkr_1", late_after(300)));
    fixture.ok(at(121), Command::Reconcile { entry, silent: Vec::new() });
    fixture.fire(at(180), &schedule, at(180), Admission::Queue);
    assert_eq!(open(fixture).iter().map(|call| call.due_at).collect::<Vec<_>>(), [at(160), at(220), at(480)]);
}

fn what_is_wanted_outlasts_the_workers_and_not_their_code(fixture: &Fixture<'_>) {
    let schedule = scheduled(fixture);
    fixture.ok(at(1), Command::DeregisterWorker { worker: fixture.worker.clone() });
    let skip_next = |next: Timestamp, skipped: Timestamp| {
        let ledger = vec![line(SlotOutcome::Skipped, skipped, skipped, 1)];
        let patch = Patch { next_slot: Some(Some(next)), ledger, ..Patch::default() };
        fixture.ok(at(10), patch_command(&schedule.id, None, patch));
    };
    skip_next(at(120), at(60));
    assert_eq!(open(fixture).len(), 1);
    register(fixture, at(20), new_worker("wkr_1"));
    skip_next(at(180), at(120));
    assert_eq!(open(fixture).len(), 1);
}

fn hook_calls_of_other_projects_and_workflows_are_not_seen(fixture: &Fixture<'_>) {
    let schedule = scheduled(fixture);
    skip(fixture, at(61), &schedule, vec![line(SlotOutcome::Skipped, at(60), at(60), 1)]);
    skip(fixture, at(122), &schedule, vec![line(SlotOutcome::Skipped, at(120), at(120), 1)]);
    let of = |project: &str, workflows: &[&str], limit| {
        let kinds: Vec<_> = workflows.iter().flat_map(|id| kinds(id)).collect();
        fixture.store.hook_calls(project, &kinds, limit).unwrap().len()
    };
    assert_eq!(of("other", &["w"], 10), 0);
    assert_eq!(of(PROJECT, &["v"], 10), 0);
    assert_eq!(of(PROJECT, &[], 10), 0);
    assert_eq!(of(PROJECT, &["v", "w"], 10), 2);
    assert_eq!(of(PROJECT, &["w"], 1), 1);
    assert_eq!(open(fixture)[0].from, at(60), "the earliest first");
}

fn old_hook_calls_are_pruned(fixture: &Fixture<'_>) {
    let schedule = scheduled(fixture);
    register(fixture, at(0), wants("wkr_1", SKIPPED));
    skip(fixture, at(61), &schedule, vec![line(SlotOutcome::Skipped, at(60), at(60), 1)]);
    skip(fixture, at(122), &schedule, vec![line(SlotOutcome::Skipped, at(120), at(120), 1)]);
    let prune = |before| Command::Prune { project: text(PROJECT), before, keep: 10, limit: 100 };
    fixture.ok(at(200), prune(at(61)));
    assert_eq!(open(fixture).len(), 2);
    fixture.ok(at(200), prune(at(62)));
    assert_eq!(open(fixture).iter().map(|call| call.from).collect::<Vec<_>>(), [at(120)]);
}

fn complete(run: &Run, ending: Completion, tells: bool) -> Command {
    let stands_alone = run.schedule_id.is_none();
    Command::CompleteRun {
        run: run.id.clone(),
        token: run.token,
        ending: Box::new(ending),
        stands_alone,
        tells,
    }
}

/// A run of no schedule, claimed by `worker`.
fn running(fixture: &Fixture<'_>, id: &str, worker: &str) -> Run {
    register(fixture, at(0), new_worker(worker));
    let claim_for = Some(worker.into());
    fixture.create(at(1), polos::model::NewRun { claim_for, ..new_run(id) });
    fixture.run(&RunId::from(id))
}

fn an_outcome_is_told_by_the_worker_of_its_claim(fixture: &Fixture<'_>) {
    let schedule = scheduled(fixture);
    let of_slot = fixture.fire(at(60), &schedule, at(60), Admission::Claim);
    fixture.ok(at(61), complete(&fixture.run(&of_slot), succeeded(), true));
    let alone = running(fixture, "run_1", "wkr_1");
    fixture.ok(at(62), complete(&alone, failed(), true));
    assert_eq!(open(fixture).iter().map(|call| call.event).collect::<Vec<_>>(), [Some(HookEvent::Late)]);
    let worker = fixture.worker.clone();
    let ids = [
        HookCall::outcome_id(&of_slot, 1, RunState::Succeeded),
        HookCall::outcome_id(&alone.id, 1, RunState::Failed),
    ];
    let calls: Vec<_> = ids.into_iter().flatten().collect();
    let taken = fixture.ok(
        at(63),
        Command::TakeHookCalls { worker: worker.clone(), calls: calls.clone(), recheck_at: at(99) },
    );
    let Answer::HookCalls(taken) = taken else { panic!("{taken:?}") };
    assert_eq!(
        taken.iter().map(|call| (call.event, call.schedule.as_str(), &*call.key)).collect::<Vec<_>>(),
        [(Some(HookEvent::Succeeded), schedule.id.as_str(), "a"), (Some(HookEvent::Failed), "", &*alone.key)]
    );
    fixture.ok(at(64), Command::EndHookCalls { worker: worker.clone(), calls });
    fixture.ok(at(65), Command::DeregisterWorker { worker });
    assert_eq!(open(fixture).len(), 1, "what was told is gone");
}

fn the_outcomes_of_a_dead_worker_are_told_by_another(fixture: &Fixture<'_>) {
    register(fixture, at(0), new_worker("wkr_1"));
    for (id, ending) in [("run_1", succeeded()), ("run_2", failed())] {
        let run = running(fixture, id, "other");
        fixture.ok(at(2), complete(&run, ending, true));
    }
    assert_eq!(take(fixture, at(3)), []);
    expire(fixture, at(80), "other");
    let calls = take(fixture, at(80));
    let mut events: Vec<_> =
        calls.iter().map(|call| (call.event.unwrap(), HookCall::run_of(&call.id))).collect();
    events.sort();
    assert_eq!(events, [(HookEvent::Succeeded, Some("run_1")), (HookEvent::Failed, Some("run_2"))]);
    assert!(calls.iter().all(|call| call.due_at == at(2) && call.count == 1));
    assert_eq!(open(fixture), []);
}

fn an_outcome_that_is_not_recorded_or_not_final_is_not_told(fixture: &Fixture<'_>) {
    let run = running(fixture, "run_1", "other");
    expire(fixture, at(80), "other");
    assert_eq!(fixture.no(at(81), complete(&run, succeeded(), true)), Rejection::Fenced);
    for (id, ending) in [
        ("run_2", Completion::Failed { error: text("{}"), retry_at: Some(at(900)) }),
        ("run_3", Completion::Cancelled { error: None }),
        ("run_4", Completion::Released),
        ("run_5", Completion::Parked { wakes_at: at(900) }),
    ] {
        let run = running(fixture, id, "third");
        fixture.ok(at(82), complete(&run, ending, true));
    }
    let cancelled = running(fixture, "run_6", "third");
    fixture.ok(at(83), Command::CancelRun { project: text(PROJECT), run: cancelled.id.clone() });
    let retried = Completion::Failed { error: text("{}"), retry_at: Some(at(900)) };
    fixture.ok(at(84), complete(&cancelled, retried, true));
    fixture.ok(at(85), Command::DeregisterWorker { worker: "third".into() });
    assert_eq!(open(fixture), []);
}

fn an_outcome_is_told_only_if_it_is_asked_for(fixture: &Fixture<'_>) {
    let run = running(fixture, "run_1", "other");
    fixture.ok(at(2), complete(&run, succeeded(), false));
    expire(fixture, at(80), "other");
    assert_eq!(open(fixture), []);
}

fn a_repeated_completion_is_told_once(fixture: &Fixture<'_>) {
    let run = running(fixture, "run_1", "other");
    let completion = complete(&run, succeeded(), true);
    let answer = fixture.ok(at(2), completion.clone());
    assert_eq!(fixture.ok(at(3), completion.clone()), answer);
    let calls: Vec<_> = HookCall::outcome_id(&run.id, 1, RunState::Succeeded).into_iter().collect();
    fixture.ok(at(4), Command::EndHookCalls { worker: "other".into(), calls });
    fixture.ok(at(5), completion);
    expire(fixture, at(80), "other");
    assert_eq!(open(fixture), [], "it is not recorded again");
}

fn each_failure_is_told_with_its_own_error(fixture: &Fixture<'_>) {
    let fail = |run: &Run, error| {
        fixture.ok(at(2), complete(run, Completion::Failed { error: text(error), retry_at: None }, true));
    };
    let first = running(fixture, "run_1", "other");
    fail(&first, r#"{"n":1}"#);
    fixture.ok(at(3), Command::RetryRun { project: text(PROJECT), run: first.id.clone() });
    let claim = fixture.claim(at(4));
    fail(&claim[0].run, r#"{"n":2}"#);
    fixture.ok(at(5), Command::DeregisterWorker { worker: "other".into() });
    fixture.ok(at(5), Command::DeregisterWorker { worker: fixture.worker.clone() });
    let mut found: Vec<_> = open(fixture).into_iter().map(|call| (call.count, call.reason)).collect();
    found.sort();
    assert_eq!(found, [(1, text(r#"{"n":1}"#)), (2, text(r#"{"n":2}"#))]);
}

fn a_worker_that_wants_no_calls_leaves_those_that_others_want(fixture: &Fixture<'_>) {
    let schedule = scheduled(fixture);
    let rules = ClaimRules { priority: 5, ..ClaimRules::default() };
    let newer = WorkerEntry { rules: [(text("w"), rules)].into(), ..new_worker("newer") };
    register(fixture, at(1), newer);
    let run = fixture.fire(at(60), &schedule, at(60), Admission::Queue);
    assert_eq!(fixture.run(&run).priority, 5, "its rules count");
    assert_eq!(told(&open(fixture)), [(HookEvent::Late, at(60), 1, "")]);
}

fn calls_are_for_workers_that_make_them(fixture: &Fixture<'_>) {
    for (id, ending) in [("run_1", succeeded()), ("run_2", failed())] {
        let run = running(fixture, id, "other");
        fixture.ok(at(2), complete(&run, ending, true));
    }
    expire(fixture, at(80), "other");
    let of = |event| {
        let kinds = [CallKind { event, workflow: text("w") }, CallKind { event, workflow: text("v") }];
        fixture.store.hook_calls(PROJECT, &kinds, 10).unwrap().len()
    };
    assert_eq!([HookEvent::Succeeded, HookEvent::Failed, HookEvent::Late].map(of), [1, 1, 0]);
}

fn the_outcome_of_a_run_that_is_gone_is_not_told(fixture: &Fixture<'_>) {
    let run = running(fixture, "run_1", "other");
    fixture.ok(at(2), complete(&run, succeeded(), true));
    let seen = {
        expire(fixture, at(80), "other");
        open(fixture)
    };
    register(fixture, at(81), new_worker("wkr_1"));
    fixture.ok(at(200), Command::Prune { project: text(PROJECT), before: at(3), keep: 0, limit: 100 });
    assert_eq!((seen.len(), open(fixture).len()), (1, 0));
    assert_eq!(take_by(fixture, "wkr_1", at(201), &seen), []);
}

fn calls_that_wait_for_a_worker_are_counted(fixture: &Fixture<'_>) {
    let waiting = |now| fixture.store.waiting_hook_calls(PROJECT, now).unwrap();
    let schedule = scheduled(fixture);
    skip(fixture, at(61), &schedule, vec![line(SlotOutcome::Skipped, at(60), at(60), 1)]);
    fixture.fire(at(120), &schedule, at(120), Admission::Queue);
    let calls = |count, since| vec![WaitingCalls { workflow: text("w"), count, since }];
    assert_eq!(waiting(at(419)), calls(1, at(61)), "the run is not late yet");
    assert_eq!(waiting(at(420)), calls(2, at(61)));
    assert_eq!(take(fixture, at(100)).len(), 1);
    assert_eq!(waiting(at(420)), calls(1, at(420)), "a worker makes the other one");
    fixture.ok(at(430), Command::DeregisterWorker { worker: fixture.worker.clone() });
    assert_eq!(waiting(at(430)), calls(2, at(61)));
    assert_eq!(fixture.store.waiting_hook_calls("other", at(430)).unwrap(), []);
}

/// A schedule whose slots at 60 and 120 are skipped.
fn with_skips(fixture: &Fixture<'_>) -> Schedule {
    let schedule = scheduled(fixture);
    let ledger = [60, 120].map(|slot| line(SlotOutcome::Skipped, at(slot), at(slot), 1)).to_vec();
    fixture.ok(at(10), patch_command(&schedule.id, None, Patch { ledger, ..Patch::default() }));
    schedule
}

fn unskip(fixture: &Fixture<'_>, schedule: &Schedule, slot: i64) {
    let patch = Patch { unskipped: vec![at(slot)], ..Patch::default() };
    fixture.ok(at(20), patch_command(&schedule.id, None, patch));
}

fn a_skip_that_was_taken_back_is_not_told(fixture: &Fixture<'_>) {
    let schedule = with_skips(fixture);
    unskip(fixture, &schedule, 120);
    assert_eq!(told(&take(fixture, at(20))), [(HookEvent::Skipped, at(60), 1, "why")]);
    unskip(fixture, &schedule, 60);
    fixture.ok(at(30), Command::DeregisterWorker { worker: fixture.worker.clone() });
    assert_eq!(open(fixture).len(), 1, "a worker was about to make it");
}

fn a_skip_that_is_made_again_is_told(fixture: &Fixture<'_>) {
    let schedule = with_skips(fixture);
    let patch = |patch| patch_command(&schedule.id, None, patch);
    let back = patch(Patch { unskipped: vec![at(120)], ..Patch::default() });
    let again = vec![line(SlotOutcome::Skipped, at(120), at(120), 1)];
    let again = patch(Patch { ledger: again, ..Patch::default() });
    let outcomes = fixture.store.commit(&[back, again], at(20)).unwrap();
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
    assert_eq!(take(fixture, at(20)).len(), 2);
}
