//! Messages about a claim that is over, while the same worker holds a newer claim of the same run.

use super::*;
use polos::model::Token;

/// A worker that executes a run for the second time, after a failure; and the claims.
fn executing_again(workflow: impl FnOnce(&mut WorkflowConfig)) -> (Worker, Run, Run) {
    let store = MemoryStore::new();
    create(&store, "k", &json!({"at_us": at("10:01:00").as_micros()}), "10:00:30");
    let mut config = EngineConfig { concurrency: 1, ..config("w") };
    workflow(config.workflows.get_mut("wf").unwrap());
    let mut worker = Worker::with(&store, config, "10:00:30");
    worker.until("10:01:00");
    let first = worker.started[0].run.clone();
    worker.wait(Duration::from_secs(20));
    let retry_at = Some(at("10:01:20"));
    worker.end(&first, Completion::Failed { error: "{}".into(), retry_at }).unwrap();
    worker.until("10:01:20");
    let second = worker.started[1].run.clone();
    assert_eq!((&second.id, second.token > first.token), (&first.id, true));
    (worker, first, second)
}

/// Queues a run for which there is no permit as long as the other has it.
fn queue_another(worker: &Worker) {
    let (project, workflow, available_at) = (PROJECT.into(), "wf".into(), worker.now());
    let new = NewRun { project, workflow, available_at, ..new_run("run_another") };
    let create = Command::CreateRun(Box::new(new));
    worker.store.inner.commit(&[create], worker.now()).unwrap().remove(0).unwrap();
}

#[test]
fn the_timeout_of_an_older_claim_does_not_stop_a_newer_one() {
    let (mut worker, _, second) =
        executing_again(|workflow| workflow.timeout = Some(Duration::from_secs(30)));
    worker.until("10:01:49");
    assert_eq!(worker.stops, [], "the first claim had until 10:01:30");
    worker.until("10:01:51");
    let stop = Stop { run: second.id, token: second.token, reason: StopReason::TimedOut };
    assert_eq!(worker.stops, [stop]);
}

#[test]
fn what_is_said_of_an_older_claim_leaves_a_newer_one_alone() {
    let messages: [fn(RunId, Token) -> Message; 5] = [
        |run, token| Message::Returned { run, token },
        |run, token| Message::Blocked { run, token },
        |run, token| Message::Fenced { run, token },
        |run, token| Message::Settled { run, token, is_accepted: true, leaves_work: true },
        |run, token| Message::Settled { run, token, is_accepted: false, leaves_work: true },
    ];
    for message in messages {
        let (mut worker, first, _) = executing_again(|_| {});
        queue_another(&worker);
        let message = message(first.id.clone(), first.token);
        let about = format!("{message:?}");
        worker.hear(message).hear(Message::Added).wait(Duration::from_secs(1));
        assert_eq!((worker.started.len(), worker.engine.held_count()), (2, (1, 0)), "{about}");
        assert_eq!(worker.stops, [], "{about}");
    }
}

#[test]
fn the_end_of_a_wait_in_an_older_claim_takes_no_permit_from_a_newer_one() {
    let (mut worker, first, second) = executing_again(|_| {});
    let blocked = |claim: &Run| Message::Blocked { run: claim.id.clone(), token: claim.token };
    let unblocked = |claim: &Run| Message::Unblocked { run: claim.id.clone(), token: claim.token };
    worker.hear(blocked(&second)).hear(unblocked(&first)).tick();
    queue_another(&worker);
    worker.hear(Message::Added).wait(Duration::from_secs(1));
    assert_eq!(worker.started.len(), 3, "the newer claim still waits, and its permit is free");
}
