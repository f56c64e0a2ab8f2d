//! Reporting the progress of a run.

use super::super::fixture::{Fixture, PROJECT, at, failed, new_run, new_worker, succeeded, text};
use super::cases;
use polos::model::{RunId, RunState, Token};
use polos::store::{Answer, Command, Page, Rejection, RunFilter};

cases! {
    a_running_run_has_the_progress_that_it_reported_last,
    a_report_changes_nothing_else,
    a_report_under_another_claim_is_rejected,
    a_report_of_a_finished_run_is_rejected,
    progress_stays_when_the_run_is_claimed_again,
    a_finished_run_keeps_its_progress,
    a_retry_forgets_progress,
    lists_of_runs_have_their_progress,
}

const HALF: &str = r#"{"fraction": 0.5, "message": "page 15 of 30"}"#;

fn report(run: &RunId, token: Token, progress: &str) -> Command {
    Command::ReportProgress { run: run.clone(), token, progress: progress.into() }
}

fn progress(fixture: &Fixture<'_>, run: &RunId) -> Option<String> {
    fixture.run(run).progress.map(|progress| progress.to_string())
}

fn a_running_run_has_the_progress_that_it_reported_last(fixture: &Fixture<'_>) {
    let run = fixture.running(at(1), "run_1");
    assert_eq!(progress(fixture, &run.id), None);
    for text in ["{}", HALF] {
        assert_eq!(fixture.ok(at(2), report(&run.id, run.token, text)), Answer::Done);
        assert_eq!(progress(fixture, &run.id).as_deref(), Some(text));
    }
}

fn a_report_changes_nothing_else(fixture: &Fixture<'_>) {
    let before = fixture.running(at(1), "run_1");
    fixture.ok(at(2), report(&before.id, before.token, HALF));
    let mut after = fixture.run(&before.id);
    after.progress = None;
    assert_eq!(after, before);
}

fn a_report_under_another_claim_is_rejected(fixture: &Fixture<'_>) {
    let run = fixture.running(at(1), "run_1");
    let other = Token(run.token.0 + 1);
    assert_eq!(fixture.no(at(2), report(&run.id, other, HALF)), Rejection::Fenced);
    assert_eq!(fixture.no(at(2), report(&"run_2".into(), run.token, HALF)), Rejection::Fenced);
    assert_eq!(progress(fixture, &run.id), None);
}

fn a_report_of_a_finished_run_is_rejected(fixture: &Fixture<'_>) {
    let run = fixture.running(at(1), "run_1");
    fixture.end(at(2), &run.id, succeeded());
    assert_eq!(fixture.no(at(3), report(&run.id, run.token, HALF)), Rejection::Fenced);
}

fn progress_stays_when_the_run_is_claimed_again(fixture: &Fixture<'_>) {
    let run = fixture.running(at(1), "run_1");
    fixture.ok(at(2), report(&run.id, run.token, HALF));
    fixture.ok(at(3), Command::DeregisterWorker { worker: fixture.worker.clone() });
    fixture.ok(at(3), Command::RegisterWorker(Box::new(new_worker("wkr_1"))));
    fixture.claim(at(4));
    assert_eq!(fixture.state(&run.id), RunState::Running);
    assert_eq!(progress(fixture, &run.id).as_deref(), Some(HALF));
}

fn a_finished_run_keeps_its_progress(fixture: &Fixture<'_>) {
    let run = fixture.running(at(1), "run_1");
    fixture.ok(at(2), report(&run.id, run.token, HALF));
    fixture.end(at(3), &run.id, succeeded());
    assert_eq!(progress(fixture, &run.id).as_deref(), Some(HALF));
}

fn a_retry_forgets_progress(fixture: &Fixture<'_>) {
    let run = fixture.running(at(1), "run_1");
    fixture.ok(at(2), report(&run.id, run.token, HALF));
    fixture.end(at(3), &run.id, failed());
    fixture.ok(at(4), Command::RetryRun { project: text(PROJECT), run: run.id.clone() });
    assert_eq!(progress(fixture, &run.id), None);
}

fn lists_of_runs_have_their_progress(fixture: &Fixture<'_>) {
    let run = fixture.running(at(1), "run_1");
    fixture.create(at(1), new_run("run_2"));
    fixture.ok(at(2), report(&run.id, run.token, HALF));
    let page = Page { after: None, limit: 10 };
    let runs = fixture.store.runs(PROJECT, &RunFilter::default(), &page).unwrap();
    let of = |id: &str| runs.iter().find(|run| run.id.as_str() == id).unwrap().progress.as_deref();
    assert_eq!((of("run_1"), of("run_2")), (Some(HALF), None));
}
