//! Events: the first one under a name stays, and either it or the deadline ends the wait.

use super::super::fixture::{Fixture, PROJECT, at, end, failed, new_run, new_schedule, succeeded, text};
use super::cases;
use polos::calendar::Timestamp;
use polos::model::{
    Admission, Completion, NewEvent, NewRun, Run, RunId, RunState, StepRecord, StepState, Token,
};
use polos::store::{Answer, Command, EVENTS_LOOKED_AT, Rejection, UNREAD_EVENTS_MAX};

cases! {
    an_event_wakes_the_run_that_waits_for_it,
    an_event_before_the_wait_is_kept_for_it,
    the_first_event_of_a_name_stays,
    an_event_sent_again_with_its_key_is_answered_alike,
    a_wait_without_an_event_ends_at_its_deadline,
    the_deadline_is_that_of_the_first_command,
    an_event_at_the_deadline_is_late,
    an_event_and_a_timeout_in_one_commit_leave_one_of_them,
    a_wait_and_its_event_in_one_commit,
    an_event_during_the_claim_wakes_the_run_that_parks,
    an_event_wakes_no_run_that_waits_for_something_else,
    a_step_of_another_kind_is_not_touched,
    a_finished_run_takes_no_event,
    a_run_takes_no_event_before_its_slot,
    an_event_needs_its_run_in_the_project,
    only_the_claim_can_wait,
    a_wait_without_a_deadline_never_times_out,
    a_retry_keeps_events_and_deadlines,
    events_go_with_their_run,
    unread_events_are_limited,
    an_accepted_event_is_found_by_its_key,
    an_event_is_found_though_many_share_its_key,
    an_event_for_a_key_is_accepted_by_one_of_its_runs,
    an_event_for_a_key_is_accepted_once_though_many_share_its_idempotency_key,
}

/// The deadline of the waits below.
const DEADLINE: i64 = 100;

fn wait(run: &Run, name: &str, deadline: Option<i64>) -> Command {
    let step = StepRecord {
        name: text(name),
        state: StepState::Waiting,
        attempt: 1,
        run_attempt: run.attempt,
        result: None,
        error: None,
        wakes_at: deadline.map(at),
        started_at: at(0),
        finished_at: at(0),
    };
    Command::AwaitEvent { run: run.id.clone(), token: run.token, step }
}

fn event(run: &RunId, name: &str, payload: &str, key: Option<&str>) -> NewEvent {
    let idempotency_key = key.map(text);
    NewEvent {
        project: text(PROJECT),
        run: run.clone(),
        name: text(name),
        payload: text(payload),
        idempotency_key,
        sent_to: None,
    }
}

fn send(run: &RunId, name: &str, payload: &str) -> Command {
    Command::SendEvent(Box::new(event(run, name, payload, None)))
}

/// The state, result, and deadline of a wait.
type Wait = (StepState, Option<String>, Option<Timestamp>);

fn waited(answer: Answer) -> Wait {
    match answer {
        Answer::Wait(step) => (step.state, step.result.as_deref().map(str::to_owned), step.wakes_at),
        other => panic!("{other:?}"),
    }
}

fn is_accepted(answer: Answer) -> bool {
    match answer {
        Answer::Accepted { is_accepted, .. } => is_accepted,
        other => panic!("{other:?}"),
    }
}

fn result(fixture: &Fixture<'_>, run: &RunId, name: &str) -> Option<String> {
    let steps = fixture.store.steps(run).unwrap();
    let step = steps.iter().find(|step| &*step.name == name).expect("it is recorded");
    assert_eq!(step.state, StepState::Done);
    step.result.as_deref().map(str::to_owned)
}

const PENDING: StepState = StepState::Waiting;
const DONE: StepState = StepState::Done;

/// A run that waits for `a`, parked until the deadline.
fn parked(fixture: &Fixture<'_>, id: &str) -> Run {
    let run = fixture.running(at(0), id);
    assert_eq!(waited(fixture.ok(at(0), wait(&run, "a", Some(DEADLINE)))).0, PENDING);
    fixture.end(at(0), &run.id, Completion::Parked { wakes_at: at(DEADLINE) });
    run
}

fn an_event_wakes_the_run_that_waits_for_it(fixture: &Fixture<'_>) {
    let run = parked(fixture, "run_1").id;
    assert_eq!(fixture.claim(at(5)), []);
    let answer = fixture.ok(at(10), send(&run, "a", r#""yes""#));
    assert_eq!(answer, Answer::Accepted { is_accepted: true, woken: true });
    assert_eq!((fixture.state(&run), fixture.run(&run).available_at), (RunState::Waiting, at(10)));
    let claimed = fixture.claim(at(10)).remove(0);
    assert_eq!(claimed.run.id, run);
    let step = &claimed.journal[0];
    assert_eq!((&*step.name, step.state, step.result.as_deref()), ("a", DONE, Some(r#""yes""#)));
    assert_eq!((step.started_at, step.finished_at, step.run_attempt), (at(0), at(10), 1));
    let again = waited(fixture.ok(at(11), wait(&claimed.run, "a", Some(500))));
    assert_eq!(again, (DONE, Some(r#""yes""#.to_owned()), Some(at(DEADLINE))));
}

fn an_event_before_the_wait_is_kept_for_it(fixture: &Fixture<'_>) {
    let run = fixture.create(at(0), new_run("run_1"));
    assert!(is_accepted(fixture.ok(at(1), send(&run, "a", "1"))));
    assert_eq!(fixture.steps(&run), [""; 0], "it is no step before the run waits for it");
    let claimed = fixture.claim(at(2)).remove(0);
    assert_eq!(claimed.journal, []);
    let other = waited(fixture.ok(at(2), wait(&claimed.run, "b", None)));
    assert_eq!(other, (PENDING, None, None));
    let wait = wait(&claimed.run, "a", Some(DEADLINE));
    let expected = (DONE, Some("1".to_owned()), Some(at(DEADLINE)));
    assert_eq!(waited(fixture.ok(at(3), wait.clone())), expected);
    assert_eq!(waited(fixture.ok(at(4), wait)), expected, "the same when a reply was lost");
    assert_eq!(result(fixture, &run, "a"), Some("1".to_owned()));
}

fn the_first_event_of_a_name_stays(fixture: &Fixture<'_>) {
    let run = fixture.running(at(0), "run_1");
    for (number, is_first) in [("1", true), ("2", false), ("3", false)] {
        assert_eq!(is_accepted(fixture.ok(at(1), send(&run.id, "a", number))), is_first);
    }
    assert_eq!(waited(fixture.ok(at(2), wait(&run, "a", None))).1, Some("1".to_owned()));
    assert!(!is_accepted(fixture.ok(at(3), send(&run.id, "a", "4"))));
    assert_eq!(result(fixture, &run.id, "a"), Some("1".to_owned()));
    assert!(is_accepted(fixture.ok(at(4), send(&run.id, "A", "5"))), "another name");
}

fn an_event_sent_again_with_its_key_is_answered_alike(fixture: &Fixture<'_>) {
    let run = parked(fixture, "run_1").id;
    let send =
        |payload: &str, key: Option<&str>| Command::SendEvent(Box::new(event(&run, "a", payload, key)));
    let first = fixture.ok(at(10), send("1", Some("k")));
    assert_eq!(first, Answer::Accepted { is_accepted: true, woken: true });
    let repeated = Answer::Accepted { is_accepted: true, woken: false };
    assert_eq!(fixture.ok(at(11), send("2", Some("k"))), repeated);
    for other in [None, Some("other")] {
        assert!(!is_accepted(fixture.ok(at(11), send("3", other))));
    }
    assert_eq!(result(fixture, &run, "a"), Some("1".to_owned()));
    let claimed = fixture.claim(at(12)).remove(0).run;
    fixture.ok(at(13), end(&run, claimed.token, succeeded()));
    assert_eq!(fixture.ok(at(14), send("4", Some("k"))), repeated, "though the run has finished");
    assert!(matches!(fixture.no(at(14), send("4", Some("other"))), Rejection::RunFinished(..)));
}

fn a_wait_without_an_event_ends_at_its_deadline(fixture: &Fixture<'_>) {
    let run = parked(fixture, "run_1").id;
    assert_eq!(fixture.claim(at(DEADLINE - 1)), []);
    let claimed = fixture.claim(at(DEADLINE)).remove(0).run;
    let wait = wait(&claimed, "a", Some(9_999));
    let expected = (DONE, None, Some(at(DEADLINE)));
    assert_eq!(waited(fixture.ok(at(DEADLINE), wait.clone())), expected);
    assert!(!is_accepted(fixture.ok(at(DEADLINE + 1), send(&run, "a", "1"))));
    assert_eq!(waited(fixture.ok(at(DEADLINE + 2), wait)), expected);
    assert_eq!(result(fixture, &run, "a"), None);
    let at_once = fixture.running(at(200), "run_2");
    let zero = self::wait(&at_once, "a", Some(200));
    assert_eq!(waited(fixture.ok(at(200), zero)), (DONE, None, Some(at(200))));
}

fn the_deadline_is_that_of_the_first_command(fixture: &Fixture<'_>) {
    let run = fixture.running(at(0), "run_1");
    for deadline in [Some(DEADLINE), Some(500), Some(50), None] {
        let answer = waited(fixture.ok(at(60), wait(&run, "a", deadline)));
        assert_eq!(answer, (PENDING, None, Some(at(DEADLINE))));
    }
}

fn an_event_at_the_deadline_is_late(fixture: &Fixture<'_>) {
    let (early, late) = (parked(fixture, "run_1").id, parked(fixture, "run_2").id);
    let just_before = Timestamp::from_micros(at(DEADLINE).as_micros() - 1);
    assert!(is_accepted(fixture.ok(just_before, send(&early, "a", "1"))));
    assert!(!is_accepted(fixture.ok(at(DEADLINE), send(&late, "a", "1"))), "no worker has seen it yet");
    for claimed in fixture.claim(at(DEADLINE)) {
        fixture.ok(at(DEADLINE), wait(&claimed.run, "a", None));
    }
    assert_eq!(result(fixture, &early, "a"), Some("1".to_owned()));
    assert_eq!(result(fixture, &late, "a"), None);
}

fn an_event_and_a_timeout_in_one_commit_leave_one_of_them(fixture: &Fixture<'_>) {
    for (id, is_event_first) in [("run_1", true), ("run_2", false)] {
        let run = fixture.running(at(0), id);
        // No deadline has passed for the event; the wait is asked about with one that has.
        let mut commands = vec![send(&run.id, "a", "1"), wait(&run, "a", Some(0))];
        if !is_event_first {
            commands.reverse();
        }
        let answers = fixture.store.commit(&commands, at(1)).unwrap();
        let answers: Vec<Answer> = answers.into_iter().map(Result::unwrap).collect();
        let (mut sent, mut asked) = (answers[0].clone(), answers[1].clone());
        if !is_event_first {
            std::mem::swap(&mut sent, &mut asked);
        }
        assert_eq!(is_accepted(sent), is_event_first);
        let expected = is_event_first.then(|| "1".to_owned());
        assert_eq!(waited(asked), (DONE, expected.clone(), Some(at(0))));
        assert_eq!(result(fixture, &run.id, "a"), expected);
    }
}

fn a_wait_and_its_event_in_one_commit(fixture: &Fixture<'_>) {
    let run = fixture.running(at(0), "run_1");
    let commands = [
        wait(&run, "a", Some(DEADLINE)),
        send(&run.id, "a", "1"),
        send(&run.id, "a", "2"),
        wait(&run, "a", Some(DEADLINE)),
        end(&run.id, run.token, Completion::Parked { wakes_at: at(DEADLINE) }),
    ];
    let answers: Vec<Answer> =
        fixture.store.commit(&commands, at(1)).unwrap().into_iter().map(Result::unwrap).collect();
    assert_eq!(waited(answers[0].clone()).0, PENDING);
    assert_eq!([is_accepted(answers[1].clone()), is_accepted(answers[2].clone())], [true, false]);
    assert_eq!(waited(answers[3].clone()).1, Some("1".to_owned()));
    assert_eq!(fixture.run(&run.id).available_at, at(1));
    let (created, sent) = (new_run("run_2"), send(&RunId::from("run_2"), "a", "3"));
    let both = fixture.store.commit(&[Command::CreateRun(Box::new(created)), sent], at(2)).unwrap();
    assert!(is_accepted(both[1].clone().unwrap()));
    let claimed = fixture.claim(at(2)).into_iter().find(|claimed| claimed.run.id.as_str() == "run_2");
    let answer = fixture.ok(at(3), wait(&claimed.unwrap().run, "a", None));
    assert_eq!(waited(answer).1, Some("3".to_owned()));
}

fn an_event_during_the_claim_wakes_the_run_that_parks(fixture: &Fixture<'_>) {
    let run = fixture.running(at(0), "run_1");
    fixture.ok(at(0), wait(&run, "a", Some(DEADLINE)));
    let sent = fixture.ok(at(1), send(&run.id, "a", "1"));
    assert_eq!(sent, Answer::Accepted { is_accepted: true, woken: false });
    fixture.end(at(2), &run.id, Completion::Parked { wakes_at: at(DEADLINE) });
    assert_eq!((fixture.state(&run.id), fixture.run(&run.id).available_at), (RunState::Waiting, at(2)));
    // Once woken, its next wait is not ended by the same event.
    let run = fixture.claim(at(2)).remove(0).run;
    fixture.ok(at(3), wait(&run, "b", Some(DEADLINE)));
    fixture.end(at(3), &run.id, Completion::Parked { wakes_at: at(DEADLINE) });
    assert_eq!(fixture.run(&run.id).available_at, at(DEADLINE));
}

fn an_event_wakes_no_run_that_waits_for_something_else(fixture: &Fixture<'_>) {
    let run = parked(fixture, "run_1").id;
    let answer = fixture.ok(at(1), send(&run, "b", "1"));
    assert_eq!(answer, Answer::Accepted { is_accepted: true, woken: false });
    assert_eq!(fixture.run(&run).available_at, at(DEADLINE));
    let running = fixture.running(at(2), "run_2");
    fixture.ok(at(2), send(&running.id, "b", "1"));
    fixture.end(at(3), &running.id, Completion::Parked { wakes_at: at(DEADLINE) });
    assert_eq!(fixture.run(&running.id).available_at, at(DEADLINE));
}

fn a_step_of_another_kind_is_not_touched(fixture: &Fixture<'_>) {
    let run = fixture.running(at(0), "run_1");
    for state in [StepState::Sleeping, StepState::Retrying, StepState::Failed, StepState::Done] {
        let step = StepRecord {
            name: text(&format!("{state:?}")),
            state,
            attempt: 1,
            run_attempt: 1,
            result: Some(text("0")),
            error: None,
            wakes_at: None,
            started_at: at(0),
            finished_at: at(0),
        };
        fixture.ok(at(0), Command::RecordStep { run: run.id.clone(), token: run.token, step: step.clone() });
        assert!(!is_accepted(fixture.ok(at(1), send(&run.id, &step.name, "1"))), "{state:?}");
        let steps = fixture.store.steps(&run.id).unwrap();
        assert!(steps.contains(&step), "{steps:?}");
    }
}

fn a_finished_run_takes_no_event(fixture: &Fixture<'_>) {
    let endings = [succeeded(), failed(), Completion::Cancelled { error: None }];
    for (number, ending) in endings.into_iter().enumerate() {
        let run = fixture.running(at(0), &format!("run_{number}")).id;
        let (state, _) = fixture.end(at(1), &run, ending);
        let refused = fixture.no(at(2), send(&run, "a", "1"));
        assert_eq!(refused, Rejection::RunFinished(run.clone(), state, text("a")));
        assert_eq!(fixture.steps(&run), [""; 0]);
    }
    let cancelled = parked(fixture, "run_9").id;
    fixture.ok(at(3), Command::CancelRun { project: text(PROJECT), run: cancelled.clone() });
    assert!(matches!(fixture.no(at(3), send(&cancelled, "a", "1")), Rejection::RunFinished(..)));
}

fn a_run_takes_no_event_before_its_slot(fixture: &Fixture<'_>) {
    let schedule = fixture.put(at(0), new_schedule("a", Some(at(60))));
    let run = fixture.fire(at(59), &schedule, at(60), Admission::Claim);
    assert_eq!(fixture.no(at(59), send(&run, "a", "1")), Rejection::RunNotDue(run.clone()));
    assert!(is_accepted(fixture.ok(at(60), send(&run, "a", "1"))));
    assert!(!is_accepted(fixture.ok(at(60), send(&run, "a", "2"))));
}

fn an_event_needs_its_run_in_the_project(fixture: &Fixture<'_>) {
    let (gone, run) = (RunId::from("run_gone"), parked(fixture, "run_1").id);
    assert_eq!(fixture.no(at(1), send(&gone, "a", "1")), Rejection::RunNotFound(gone));
    let foreign = NewEvent { project: text("other"), ..event(&run, "a", "1", None) };
    let refused = fixture.no(at(1), Command::SendEvent(Box::new(foreign)));
    assert_eq!(refused, Rejection::RunNotFound(run.clone()));
    assert_eq!(fixture.run(&run).available_at, at(DEADLINE));
}

fn only_the_claim_can_wait(fixture: &Fixture<'_>) {
    let run = parked(fixture, "run_1");
    assert_eq!(fixture.no(at(1), wait(&run, "b", None)), Rejection::Fenced);
    fixture.ok(at(2), send(&run.id, "a", "1"));
    let newer = fixture.claim(at(2)).remove(0).run;
    let older = Run { token: Token(newer.token.0 - 1), ..newer.clone() };
    assert_eq!(fixture.no(at(3), wait(&older, "b", None)), Rejection::Fenced);
    assert_eq!(fixture.steps(&run.id), ["a"]);
}

fn a_wait_without_a_deadline_never_times_out(fixture: &Fixture<'_>) {
    let run = fixture.running(at(0), "run_1");
    for seconds in [1, 1_000_000_000] {
        let answer = waited(fixture.ok(at(seconds), wait(&run, "a", None)));
        assert_eq!(answer, (PENDING, None, None));
    }
    assert!(is_accepted(fixture.ok(at(2_000_000_000), send(&run.id, "a", "1"))));
}

fn a_retry_keeps_events_and_deadlines(fixture: &Fixture<'_>) {
    let run = parked(fixture, "run_1").id;
    fixture.ok(at(1), send(&run, "b", "1"));
    fixture.ok(at(2), Command::CancelRun { project: text(PROJECT), run: run.clone() });
    fixture.ok(at(3), Command::RetryRun { project: text(PROJECT), run: run.clone() });
    let claimed = fixture.claim(at(3)).remove(0).run;
    let first = waited(fixture.ok(at(4), wait(&claimed, "a", Some(9_999))));
    assert_eq!(first, (PENDING, None, Some(at(DEADLINE))));
    assert_eq!(waited(fixture.ok(at(4), wait(&claimed, "b", None))).1, Some("1".to_owned()));
    assert!(is_accepted(fixture.ok(at(5), send(&run, "a", "2"))));
    assert_eq!(result(fixture, &run, "a"), Some("2".to_owned()));
}

fn events_go_with_their_run(fixture: &Fixture<'_>) {
    for _ in 0..2 {
        // The same id, and in SQLite the same number, again: nothing of the former run is left.
        let run = fixture.running(at(0), "run_1");
        assert_eq!(waited(fixture.ok(at(0), wait(&run, "a", None))).0, PENDING);
        assert!(is_accepted(fixture.ok(at(1), send(&run.id, "a", "1"))));
        assert!(is_accepted(fixture.ok(at(1), send(&run.id, "b", "1"))));
        fixture.end(at(2), &run.id, succeeded());
        let project = text(PROJECT);
        fixture.ok(at(9), Command::Prune { project, before: at(10), keep: 0, limit: 10 });
        assert_eq!(fixture.find_run(&run.id), None);
    }
}

fn unread_events_are_limited(fixture: &Fixture<'_>) {
    let run = fixture.running(at(0), "run_1");
    let all: Vec<Command> =
        (0..UNREAD_EVENTS_MAX).map(|number| send(&run.id, &format!("e{number}"), "1")).collect();
    for answer in fixture.store.commit(&all, at(1)).unwrap() {
        assert!(is_accepted(answer.unwrap()));
    }
    assert_eq!(fixture.no(at(2), send(&run.id, "more", "1")), Rejection::TooManyEvents(run.id.clone()));
    assert!(!is_accepted(fixture.ok(at(2), send(&run.id, "e5", "1"))), "it is known");
    let other = fixture.create(at(2), new_run("run_2"));
    assert!(is_accepted(fixture.ok(at(2), send(&other, "more", "1"))));
    // One that the run has read, or waits for, does not count.
    fixture.ok(at(3), wait(&run, "asked", None));
    assert!(is_accepted(fixture.ok(at(3), send(&run.id, "asked", "1"))));
    assert_eq!(fixture.no(at(3), send(&run.id, "more", "1")), Rejection::TooManyEvents(run.id.clone()));
    fixture.ok(at(4), wait(&run, "e7", None));
    assert!(is_accepted(fixture.ok(at(4), send(&run.id, "more", "1"))));
}

fn found(fixture: &Fixture<'_>, of: (&str, &str), name: &str, key: &str) -> Option<RunId> {
    fixture.store.run_with_event(PROJECT, of, name, key).unwrap()
}

fn an_accepted_event_is_found_by_its_key(fixture: &Fixture<'_>) {
    let of = ("w", "k");
    let run = fixture.create(at(0), NewRun { key: text("k"), ..new_run("run_1") });
    let sent = |name: &str, key| Command::SendEvent(Box::new(event(&run, name, "1", key)));
    fixture.ok(at(1), sent("a", Some("evt_1")));
    fixture.ok(at(1), sent("b", None));
    assert!(!is_accepted(fixture.ok(at(1), sent("a", Some("evt_2")))));
    assert_eq!(found(fixture, of, "a", "evt_1"), Some(run.clone()));
    for (of, name, key) in
        [(of, "a", "evt_2"), (of, "b", "evt_1"), (("w", "other"), "a", "evt_1"), (("v", "k"), "a", "evt_1")]
    {
        assert_eq!(found(fixture, of, name, key), None, "{of:?} {name} {key}");
    }
    assert_eq!(fixture.store.run_with_event("other", of, "a", "evt_1").unwrap(), None);
    // Another run of the key changes nothing, and neither does the end.
    fixture.ok(at(2), Command::CancelRun { project: text(PROJECT), run: run.clone() });
    fixture.create(at(3), NewRun { key: text("k"), ..new_run("run_2") });
    assert_eq!(found(fixture, of, "a", "evt_1"), Some(run));
    fixture.ok(at(9), Command::Prune { project: text(PROJECT), before: at(10), keep: 0, limit: 10 });
    assert_eq!(found(fixture, of, "a", "evt_1"), None);
}

fn an_event_is_found_though_many_share_its_key(fixture: &Fixture<'_>) {
    let run = |number: usize| {
        let key = text(&format!("k{number}"));
        Command::CreateRun(Box::new(NewRun { key, ..new_run(&format!("run_{number}")) }))
    };
    let sent = |number: usize| {
        let id = RunId::from(&*format!("run_{number}"));
        Command::SendEvent(Box::new(event(&id, "a", "1", Some("same"))))
    };
    let count = EVENTS_LOOKED_AT + 5;
    fixture.store.commit(&(0..count).map(run).collect::<Vec<_>>(), at(0)).unwrap();
    fixture.store.commit(&(0..count).map(sent).collect::<Vec<_>>(), at(1)).unwrap();
    for number in [0, count - 1] {
        let expected = RunId::from(&*format!("run_{number}"));
        assert_eq!(found(fixture, ("w", &format!("k{number}")), "a", "same"), Some(expected));
    }
    assert_eq!(found(fixture, ("w", "k0"), "a", "other"), None);
    assert_eq!(found(fixture, ("w", "none"), "a", "same"), None);
}

/// An event that is sent to a workflow and key, of which this run was found.
fn for_key((run, key): (&RunId, &str), idempotency_key: Option<&str>) -> Command {
    let sent_to = Some((text("w"), text(key)));
    Command::SendEvent(Box::new(NewEvent { sent_to, ..event(run, "a", "1", idempotency_key) }))
}

fn an_event_for_a_key_is_accepted_by_one_of_its_runs(fixture: &Fixture<'_>) {
    let create = |id: &str, key: &str| fixture.create(at(0), NewRun { key: text(key), ..new_run(id) });
    let (first, second, other) = (create("run_1", "k"), create("run_2", "k"), create("run_3", "other"));
    let accepted = Answer::Accepted { is_accepted: true, woken: false };
    let by_first = Answer::AcceptedBy(first.clone());
    let send = |run: &RunId, key| fixture.ok(at(1), for_key((run, "k"), key));
    assert_eq!(send(&first, Some("evt_1")), accepted);
    assert_eq!(send(&second, Some("evt_1")), by_first);
    assert_eq!(send(&first, Some("evt_1")), accepted, "its own");
    // The run that has accepted it finishes, and is retried: it stays the one.
    fixture.ok(at(2), Command::CancelRun { project: text(PROJECT), run: first.clone() });
    assert_eq!(send(&second, Some("evt_1")), by_first);
    fixture.ok(at(3), Command::RetryRun { project: text(PROJECT), run: first.clone() });
    assert_eq!(send(&second, Some("evt_1")), by_first);
    // Nothing was recorded: another request is accepted, and then this one no more.
    let both = [Some("evt_2"), Some("evt_2")].map(|key| for_key((&second, "k"), key));
    let answers = fixture.store.commit(&both, at(4)).unwrap();
    assert_eq!(answers, [Ok(accepted.clone()), Ok(accepted.clone())]);
    assert_eq!(send(&first, Some("evt_2")), Answer::AcceptedBy(second));
    // Another key, and a sender who names the run, have nothing to do with it.
    assert_eq!(fixture.ok(at(5), for_key((&other, "other"), Some("evt_1"))), accepted);
    let named = create("run_4", "k");
    let by_id = Command::SendEvent(Box::new(event(&named, "a", "1", Some("evt_1"))));
    assert_eq!(fixture.ok(at(5), by_id), accepted);
    // In one commit, to two runs.
    let pair = [create("run_5", "k"), create("run_6", "k")];
    let both = pair.each_ref().map(|run| for_key((run, "k"), Some("evt_3")));
    let answers = fixture.store.commit(&both, at(6)).unwrap();
    assert_eq!(answers, [Ok(accepted.clone()), Ok(Answer::AcceptedBy(pair[0].clone()))]);
    let pair = [create("run_7", "k"), create("run_8", "k")];
    let both = pair.each_ref().map(|run| for_key((run, "k"), None));
    let answers = fixture.store.commit(&both, at(6)).unwrap();
    assert_eq!(answers, [Ok(accepted.clone()), Ok(accepted)], "without an idempotency key");
}

fn an_event_for_a_key_is_accepted_once_though_many_share_its_idempotency_key(fixture: &Fixture<'_>) {
    let first = fixture.create(at(0), NewRun { key: text("k"), ..new_run("run_first") });
    fixture.ok(at(0), for_key((&first, "k"), Some("same")));
    let run = |number: usize| Command::CreateRun(Box::new(new_run(&format!("run_{number}"))));
    let sent = |number: usize| {
        let id = RunId::from(&*format!("run_{number}"));
        Command::SendEvent(Box::new(event(&id, "a", "1", Some("same"))))
    };
    let count = EVENTS_LOOKED_AT + 5;
    fixture.store.commit(&(0..count).map(run).collect::<Vec<_>>(), at(1)).unwrap();
    fixture.store.commit(&(0..count).map(sent).collect::<Vec<_>>(), at(1)).unwrap();
    let second = fixture.create(at(2), NewRun { key: text("k"), ..new_run("run_second") });
    assert_eq!(fixture.ok(at(3), for_key((&second, "k"), Some("same"))), Answer::AcceptedBy(first));
}
