//! Hook calls: recorded with what they tell, handed to one worker, and kept until it has made them.

use super::super::fixture::{
    Fixture, PROJECT, at, done_step, end, failed, new_run, new_schedule, new_worker, patch_command,
    succeeded, text,
};
use super::cases;
use polos::calendar::Timestamp;
use polos::model::{
    Admission, ClaimRules, Completion, HookCall, HookEvent, LedgerLine, Origin, RunId, RunState, Schedule,
    SlotOutcome, WantedCalls, WorkerEntry,
};
use polos::store::{Answer, Command, Patch, Rejection};
use std::sync::Arc;

cases! {
    a_skipped_slot_is_told_if_a_worker_wants_to_know,
    nothing_is_recorded_that_no_worker_wants_to_know,
    slots_that_an_operator_skips_are_told,
    a_slot_that_the_application_skips_is_told,
    missed_slots_and_a_retirement_are_not_told_as_skipped,
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
}

const LATE_AFTER: i64 = 300;

fn wants(id: &str, hooks: WantedCalls) -> WorkerEntry {
    let rules = ClaimRules { hooks, ..ClaimRules::default() };
    WorkerEntry { rules: [(text("w"), rules)].into(), ..new_worker(id) }
}

fn late_after(seconds: i64) -> WantedCalls {
    WantedCalls { late_after_us: Some(seconds * 1_000_000), ..WantedCalls::NONE }
}

const SKIPPED: WantedCalls = WantedCalls { skipped: true, late_after_us: None };

fn register(fixture: &Fixture<'_>, now: Timestamp, entry: WorkerEntry) {
    fixture.ok(now, Command::RegisterWorker(Box::new(entry)));
}

/// A fixture's worker that wants all calls, and a schedule that is due at 60.
fn scheduled(fixture: &Fixture<'_>) -> Schedule {
    register(fixture, at(0), wants("wkr_1", WantedCalls { skipped: true, ..late_after(LATE_AFTER) }));
    fixture.put(at(0), new_schedule("a", Some(at(60))))
}

fn open(fixture: &Fixture<'_>) -> Vec<HookCall> {
    fixture.store.hook_calls(PROJECT, &[text("w")], 100).unwrap()
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
        let workflows: Vec<_> = workflows.iter().map(|id| text(id)).collect();
        fixture.store.hook_calls(project, &workflows, limit).unwrap().len()
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
