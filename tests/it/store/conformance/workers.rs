//! Signing in, living, leaving, being buried.

use super::super::fixture::{Fixture, PROJECT, at, end, new_run, new_schedule, new_worker, succeeded, text};
use super::cases;
use polos::model::{
    Admission, Completion, NewRun, NewSchedule, RunId, RunState, ScheduleStatus, Token, WorkerEntry,
    WorkerId, WorkflowEntry,
};
use polos::store::{Answer, Command, Rejection};

cases! {
    a_worker_that_signs_in_is_a_peer,
    signing_in_twice_keeps_the_beat,
    workflows_are_remembered_after_the_worker_left,
    signing_in_puts_the_declared_schedules,
    what_the_application_no_longer_declares_is_retired,
    a_retired_schedule_gives_back_what_was_claimed_ahead,
    signing_in_with_a_bad_schedule_leaves_no_trace,
    a_beat_counts,
    a_beat_of_nobody_is_rejected,
    a_leaving_worker_frees_its_runs,
    a_freed_run_keeps_attempt_and_token,
    a_freed_run_claimed_ahead_waits_for_its_time,
    a_freed_run_that_was_to_stop_is_cancelled,
    leaving_twice_is_no_error,
    one_that_leaves_and_comes_back_at_once_has_come_anew,
    burying_frees_the_runs,
    burying_one_that_has_beaten_since_is_stale,
    burying_nobody_is_no_error,
}

fn declaring(worker: &str, schedules: Vec<NewSchedule>) -> Command {
    let declared =
        schedules.into_iter().map(|new| NewSchedule { owner: Some(text("app.py")), ..new }).collect();
    Command::RegisterWorker(Box::new(WorkerEntry { declared, ..new_worker(worker) }))
}

fn a_worker_that_signs_in_is_a_peer(fixture: &Fixture<'_>) {
    let workflows = ["v", "w"].map(|id| WorkflowEntry { id: text(id), schedulable: true }).to_vec();
    let entry = WorkerEntry { app: text("web"), pid: 42, workflows, ..new_worker("wkr_2") };
    fixture.ok(at(5), Command::RegisterWorker(Box::new(entry)));
    let peers = fixture.store.peers(PROJECT).unwrap();
    assert_eq!(peers.len(), 2);
    assert_eq!((&*peers[1].app, peers[1].pid, peers[1].held_count), ("web", 42, 0));
    assert_eq!(peers[1].workflows, [text("v"), text("w")]);
    assert_eq!((peers[1].entered_at, peers[1].beat_at), (at(5), at(5)));
    assert!(fixture.store.peers("other").unwrap().is_empty());
}

fn signing_in_twice_keeps_the_beat(fixture: &Fixture<'_>) {
    fixture.ok(at(1), Command::Heartbeat { worker: fixture.worker.clone() });
    let heartbeat = fixture.heartbeat();
    fixture.ok(at(2), Command::RegisterWorker(Box::new(new_worker("wkr_1"))));
    assert_eq!(fixture.heartbeat(), heartbeat);
    assert_eq!(fixture.store.peers(PROJECT).unwrap()[0].entered_at, at(0));
}

fn workflows_are_remembered_after_the_worker_left(fixture: &Fixture<'_>) {
    fixture.ok(at(1), Command::DeregisterWorker { worker: fixture.worker.clone() });
    let workflows = fixture.store.workflows(PROJECT).unwrap();
    assert_eq!(workflows, [WorkflowEntry { id: text("w"), schedulable: true }]);
    let changed = vec![WorkflowEntry { id: text("w"), schedulable: false }];
    fixture.ok(
        at(2),
        Command::RegisterWorker(Box::new(WorkerEntry { workflows: changed.clone(), ..new_worker("wkr_2") })),
    );
    assert_eq!(fixture.store.workflows(PROJECT).unwrap(), changed);
}

fn signing_in_puts_the_declared_schedules(fixture: &Fixture<'_>) {
    fixture.ok(at(1), declaring("wkr_2", vec![new_schedule("a", Some(at(60)))]));
    let schedule = fixture.schedule(&new_schedule("a", None).id);
    assert_eq!(schedule.owner.as_deref(), Some("app.py"));
    fixture.ok(at(2), declaring("wkr_3", vec![new_schedule("a", Some(at(120)))]));
    assert_eq!(fixture.schedule(&schedule.id), schedule, "unchanged: not touched");
}

fn what_the_application_no_longer_declares_is_retired(fixture: &Fixture<'_>) {
    let others = NewSchedule { owner: Some(text("web")), ..new_schedule("web", Some(at(60))) };
    let by_hand = new_schedule("by-hand", Some(at(60)));
    let (others, by_hand) = (fixture.put(at(0), others), fixture.put(at(0), by_hand));
    let both = vec![new_schedule("a", Some(at(60))), new_schedule("b", Some(at(60)))];
    fixture.ok(at(1), declaring("wkr_2", both.clone()));
    fixture.ok(at(2), Command::DeregisterWorker { worker: "wkr_2".into() });
    fixture.ok(at(2), declaring("wkr_3", both[..1].to_vec()));

    let status = |key: &str| fixture.schedule(&new_schedule(key, None).id).status;
    assert_eq!((status("a"), status("b")), (ScheduleStatus::Active, ScheduleStatus::Retired));
    assert_eq!(fixture.schedule(&others.id), others);
    assert_eq!(fixture.schedule(&by_hand.id), by_hand);

    let retired = fixture.schedule(&both[1].id);
    assert!(retired.note.is_some());
    fixture.ok(at(3), declaring("wkr_4", both[..1].to_vec()));
    assert_eq!(fixture.schedule(&retired.id), retired, "once is enough");

    fixture.ok(at(9), declaring("wkr_5", both));
    let back = fixture.schedule(&retired.id);
    assert_eq!((back.status, back.note, back.attended_from), (ScheduleStatus::Active, None, at(9)));
}

fn a_retired_schedule_gives_back_what_was_claimed_ahead(fixture: &Fixture<'_>) {
    let new = NewSchedule { owner: Some(text("app.py")), ..new_schedule("a", Some(at(60))) };
    let schedule = fixture.put(at(0), new);
    let run = fixture.fire(at(59), &schedule, at(60), Admission::Claim);
    fixture.ok(at(59), declaring("wkr_2", Vec::new()));
    assert_eq!(fixture.find_run(&run), None);
    assert_eq!(fixture.schedule(&schedule.id).next_slot, Some(at(60)));
}

fn signing_in_with_a_bad_schedule_leaves_no_trace(fixture: &Fixture<'_>) {
    let taken = fixture.put(at(0), new_schedule("a", Some(at(60))));
    let bad = NewSchedule { id: taken.id.clone(), ..new_schedule("b", None) };
    let answer = fixture.no(at(1), declaring("wkr_2", vec![new_schedule("c", None), bad]));
    assert!(matches!(answer, Rejection::Invalid(_)), "{answer:?}");
    assert_eq!(fixture.store.peers(PROJECT).unwrap().len(), 1);
    assert_eq!(fixture.find_schedule(&new_schedule("c", None).id), None);
}

fn a_beat_counts(fixture: &Fixture<'_>) {
    let heartbeat = fixture.heartbeat();
    fixture.ok(at(7), Command::Heartbeat { worker: fixture.worker.clone() });
    assert_eq!(fixture.heartbeat(), heartbeat + 1);
    assert_eq!(fixture.store.peers(PROJECT).unwrap()[0].beat_at, at(7));
}

fn a_beat_of_nobody_is_rejected(fixture: &Fixture<'_>) {
    let heartbeat = Command::Heartbeat { worker: WorkerId::from("wkr_none") };
    assert_eq!(fixture.no(at(1), heartbeat), Rejection::WorkerGone);
}

fn a_leaving_worker_frees_its_runs(fixture: &Fixture<'_>) {
    let run = fixture.running(at(1), "run_1");
    let leave = Command::DeregisterWorker { worker: fixture.worker.clone() };
    assert_eq!(fixture.ok(at(5), leave), Answer::Count(1));
    let freed = fixture.run(&run.id);
    assert_eq!((freed.state, freed.available_at), (RunState::Queued, at(5)));
    assert!(fixture.store.peers(PROJECT).unwrap().is_empty());
    let late = end(&run.id, run.token, succeeded());
    assert_eq!(fixture.no(at(6), late), Rejection::Fenced);
}

fn a_freed_run_keeps_attempt_and_token(fixture: &Fixture<'_>) {
    let run = fixture.running(at(1), "run_1");
    fixture.ok(at(5), Command::DeregisterWorker { worker: fixture.worker.clone() });
    let freed = fixture.run(&run.id);
    assert_eq!((freed.attempt, freed.token), (run.attempt, run.token));
    fixture.ok(at(6), Command::RegisterWorker(Box::new(new_worker("wkr_1"))));
    let again = fixture.claim(at(7)).remove(0).run;
    assert_eq!((again.attempt, again.token), (1, Token(2)));
    assert_eq!(again.started_at, run.started_at, "set once");
}

fn a_freed_run_claimed_ahead_waits_for_its_time(fixture: &Fixture<'_>) {
    let schedule = fixture.put(at(0), new_schedule("a", Some(at(60))));
    let run = fixture.fire(at(59), &schedule, at(60), Admission::Claim);
    fixture.ok(at(59), Command::DeregisterWorker { worker: fixture.worker.clone() });
    assert_eq!(fixture.run(&run).available_at, at(60));
}

fn a_freed_run_that_was_to_stop_is_cancelled(fixture: &Fixture<'_>) {
    let run = fixture.running(at(1), "run_1");
    fixture.ok(at(2), Command::CancelRun { project: text(PROJECT), run: run.id.clone() });
    let leave = Command::DeregisterWorker { worker: fixture.worker.clone() };
    assert_eq!(fixture.ok(at(3), leave), Answer::Count(1));
    assert_eq!(fixture.state(&run.id), RunState::Cancelled);
}

fn one_that_leaves_and_comes_back_at_once_has_come_anew(fixture: &Fixture<'_>) {
    let leave = Command::DeregisterWorker { worker: fixture.worker.clone() };
    let enter = Command::RegisterWorker(Box::new(new_worker("wkr_1")));
    let answers = fixture.store.commit(&[leave, enter], at(50)).unwrap();
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    let peers = fixture.store.peers(PROJECT).unwrap();
    assert_eq!((peers.len(), peers[0].entered_at, peers[0].beat_at), (1, at(50), at(50)));
}

fn leaving_twice_is_no_error(fixture: &Fixture<'_>) {
    let leave = Command::DeregisterWorker { worker: fixture.worker.clone() };
    fixture.ok(at(1), leave.clone());
    assert_eq!(fixture.ok(at(2), leave), Answer::Count(0));
}

fn burying_frees_the_runs(fixture: &Fixture<'_>) {
    let runs = ["run_1", "run_2"];
    for id in runs {
        fixture.create(at(0), NewRun { available_at: at(0), ..new_run(id) });
    }
    fixture.claim(at(1));
    fixture.end(at(1), &RunId::from("run_2"), Completion::Parked { wakes_at: at(100) });
    let expire = Command::ExpireWorker {
        worker: fixture.worker.clone(),
        heartbeat: fixture.heartbeat(),
        shares_process: false,
    };
    assert_eq!(fixture.ok(at(20), expire), Answer::Count(1));
    assert_eq!(fixture.state(&RunId::from("run_1")), RunState::Queued);
    assert_eq!(fixture.state(&RunId::from("run_2")), RunState::Waiting);
    assert_eq!(
        fixture.no(at(21), Command::Heartbeat { worker: fixture.worker.clone() }),
        Rejection::WorkerGone
    );
}

fn burying_one_that_has_beaten_since_is_stale(fixture: &Fixture<'_>) {
    let heartbeat = fixture.heartbeat();
    let run = fixture.running(at(1), "run_1");
    assert_ne!(fixture.heartbeat(), heartbeat, "a claim raises the heartbeat");
    let expire = Command::ExpireWorker { worker: fixture.worker.clone(), heartbeat, shares_process: false };
    assert_eq!(fixture.no(at(20), expire), Rejection::Stale);
    assert_eq!(fixture.state(&run.id), RunState::Running);
}

fn burying_nobody_is_no_error(fixture: &Fixture<'_>) {
    let expire =
        Command::ExpireWorker { worker: WorkerId::from("wkr_none"), heartbeat: 3, shares_process: false };
    assert_eq!(fixture.ok(at(1), expire), Answer::Count(0));
}
