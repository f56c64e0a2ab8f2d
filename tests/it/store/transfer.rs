//! From a `SQLite` file to PostgreSQL: all of it, once, whatever happens on the way.

use super::fixture::{Fixture, PROJECT, at, end, everything, new_run, new_schedule, new_worker, text};
use super::model::{PROJECTS, compare};
use super::quick;
use super::server::Server;
use polos::calendar::Timestamp;
use polos::model::{
    Admission, Debounce, DeclaredLimit, LedgerEntry, LimitSpec, NewEvent, Run, RunId, RunState, Schedule,
    ScheduleStatus, StepRecord, StepState, StoredCalendar, WorkerEntry, WorkflowEntry,
};
use polos::store::{
    Answer, Command, Page, Patch, PostgresOptions, PostgresStore, Rejection, RunFilter, ScheduleFilter,
    SqliteStore, Store, StoreReads, StoreWrites, Suspects, TransferError, TransferOptions, TransferProgress,
    TransferredProject, abandon_transfer, transfer_projects,
};
use std::path::PathBuf;

/// A file, and the URL of an empty schema.
struct Road {
    folder: tempfile::TempDir,
    from: PathBuf,
    to: String,
}

impl Road {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let from = folder.path().join("polos.db");
        Self { folder, from, to: Server::shared().new_schema() }
    }

    fn file(&self) -> SqliteStore {
        SqliteStore::open(&self.from, quick()).unwrap()
    }

    /// The file as it is now, which the move doesn't know of.
    fn copy(&self) -> SqliteStore {
        let path = self.folder.path().join("copy.db");
        let vacuum = format!("VACUUM INTO '{}'", path.display());
        rusqlite::Connection::open(&self.from).unwrap().execute_batch(&vacuum).unwrap();
        SqliteStore::open(path, quick()).unwrap()
    }

    fn database(&self) -> PostgresStore {
        PostgresStore::open(&self.to, PostgresOptions::default()).unwrap()
    }

    fn schema(&self) -> &str {
        self.to.rsplit_once("schema=").unwrap().1
    }

    fn travel(&self, options: &TransferOptions) -> Result<Vec<TransferredProject>, TransferError> {
        transfer_projects(&self.from, &self.to, options, &mut |_| true)
    }

    /// Stops when `is_enough`.
    fn stop_when(&self, options: &TransferOptions, is_enough: impl Fn(&TransferProgress<'_>) -> bool) {
        let stopped = transfer_projects(&self.from, &self.to, options, &mut |progress| !is_enough(progress));
        assert!(matches!(stopped, Err(TransferError::Stopped)), "{stopped:?}");
    }
}

/// In small parts, and though workers of a story seem to live.
fn by_force() -> TransferOptions {
    TransferOptions { is_forced: true, batch: 3, ..politely() }
}

fn politely() -> TransferOptions {
    let host = polos::process::host_id();
    TransferOptions { host, ..TransferOptions::default() }
}

fn refusal(result: Result<Vec<TransferredProject>, TransferError>) -> String {
    match result {
        Err(TransferError::Refused(why)) => why,
        other => panic!("{other:?}"),
    }
}

/// All that can be asked about a project.
#[derive(PartialEq, Debug)]
struct Answers {
    workflows: Vec<WorkflowEntry>,
    calendars: Vec<StoredCalendar>,
    schedules: Vec<Schedule>,
    histories: Vec<Option<Vec<LedgerEntry>>>,
    runs: Vec<Run>,
    steps: Vec<Vec<StepRecord>>,
    due: usize,
}

fn ask(store: &dyn Store, project: &str) -> Answers {
    let schedules = store.schedules(project, &ScheduleFilter::default(), &everything()).unwrap();
    let runs = store.runs(project, &RunFilter::default(), &Page { limit: 100_000, after: None }).unwrap();
    let workflows = store.workflows(project).unwrap();
    let ids: Vec<_> = workflows.iter().map(|entry| entry.id.clone()).collect();
    Answers {
        histories: schedules
            .iter()
            .map(|each| store.history(project, &each.id, &everything()).unwrap())
            .collect(),
        steps: runs.iter().map(|run| store.steps(&run.id).unwrap()).collect(),
        due: store.due(project, &ids, at(10_000_000_000), 100_000).unwrap().len(),
        calendars: store.calendars(project, None).unwrap(),
        workflows,
        schedules,
        runs,
    }
}

#[test]
fn a_slot_that_was_skipped_stays_skipped() {
    let road = Road::new();
    let file = road.file();
    let fixture = Fixture::on(&file);
    let skipped = fixture.put(at(0), new_schedule("a", Some(at(60))));
    let patch = Patch { settled: vec![at(60), at(120)], ..Patch::default() };
    fixture.patch(at(1), &skipped.id, patch);
    drop(file);
    road.travel(&by_force()).unwrap();
    let moved = road.database().schedule(PROJECT, &skipped.id).unwrap().unwrap();
    assert_eq!(moved.settled_slots(), [at(60), at(120)]);
}

#[test]
fn all_that_was_stored_is_answered_as_before() {
    for seed in [1, 2] {
        let road = Road::new();
        compare(seed, 300, &road.file());
        let before = road.copy();
        let moved = road.travel(&by_force()).unwrap();
        assert_eq!(moved.len(), 2);
        let after = road.database();
        for project in PROJECTS {
            let (mut before, mut after) = (ask(&before, project), ask(&after, project));
            assert!(before.runs.len() + before.schedules.len() > 5, "a story with much in it");
            let held: Vec<_> = before
                .runs
                .iter()
                .map(|run| (run.state == RunState::Running).then(|| run.id.clone()))
                .collect();
            for (permit, id) in held.iter().enumerate() {
                if id.is_some() {
                    let run = &after.runs[permit];
                    assert!(matches!(run.state, RunState::Queued | RunState::Cancelled), "{run:?}");
                    assert_eq!(
                        (run.attempt, run.token),
                        (before.runs[permit].attempt, before.runs[permit].token)
                    );
                    after.runs[permit] = before.runs[permit].clone();
                }
            }
            let is_free =
                |entry: &LedgerEntry| entry.run.as_ref().is_none_or(|id| !held.contains(&Some(id.clone())));
            for histories in [&mut before.histories, &mut after.histories] {
                histories.iter_mut().flatten().for_each(|history| history.retain(is_free));
            }
            // Who waits behind a run that was cancelled as it was freed is free too.
            let is_settled = |run: &Run| run.state != RunState::Buffered && run.state != RunState::Queued;
            let (was, is): (Vec<_>, Vec<_>) = before
                .runs
                .iter()
                .zip(&after.runs)
                .filter(|(before, after)| is_settled(before) && is_settled(after))
                .unzip();
            assert_eq!(was, is);
            assert_eq!(before.schedules, after.schedules);
            assert_eq!(before.workflows, after.workflows);
            assert_eq!(before.steps, after.steps);
            assert_eq!(before.due, after.due);
            assert_eq!(before.runs.len(), after.runs.len());
        }
    }
}

/// A project with something of everything, and a worker that was killed holding a run.
fn fill(store: &dyn Store) {
    let fixture = Fixture::on(store);
    for key in ["a", "b", "c", "d", "e"] {
        let schedule = fixture.put(at(0), new_schedule(key, Some(at(60))));
        let run = fixture.fire(at(60), &schedule, at(60), Admission::Claim);
        let token = fixture.run(&run).token;
        fixture.ok(
            at(61),
            Command::RecordStep { run: run.clone(), token, step: super::fixture::done_step("first") },
        );
        let progress = r#"{"message": "halfway"}"#.into();
        fixture.ok(at(61), Command::ReportProgress { run: run.clone(), token, progress });
        if key != "e" {
            fixture.end(at(62), &run, super::fixture::succeeded());
        }
    }
    fixture.create(at(70), new_run("run_by_hand"));
    fixture.ok(at(71), an_event("payment", Some("key")));
    let dates = Some(text(r#"["2026-07-04"]"#));
    fixture.ok(at(72), Command::SetCalendar { project: text(PROJECT), name: text("us"), dates });
}

/// An event for the run that nobody has claimed.
fn an_event(name: &str, key: Option<&str>) -> Command {
    Command::SendEvent(Box::new(NewEvent {
        project: text(PROJECT),
        run: "run_by_hand".into(),
        name: text(name),
        payload: text("1"),
        idempotency_key: key.map(text),
        sent_to: None,
    }))
}

#[test]
fn events_move_with_their_runs_and_the_file_takes_no_more() {
    let road = Road::new();
    fill(&road.file());
    let moved = road.travel(&by_force()).unwrap();
    let of_events = moved[0].tables.iter().find(|table| table.table == "event").unwrap();
    assert_eq!(of_events.count, 1);
    let (file, database) = (road.file(), road.database());
    let send = |store: &dyn Store, name: &str, key: Option<&str>| {
        store.commit(&[an_event(name, key)], at(90)).unwrap().remove(0)
    };
    let accepted = Answer::Accepted { is_accepted: true, woken: false };
    assert_eq!(send(&database, "payment", Some("key")), Ok(accepted.clone()), "it is the same event");
    let refused = Answer::Accepted { is_accepted: false, woken: false };
    assert_eq!(send(&database, "payment", None), Ok(refused));
    assert!(why_not(send(&file, "other", None)).contains("has moved to"));
    assert_eq!(send(&database, "other", None), Ok(accepted));
}

#[test]
fn it_goes_on_wherever_it_was_stopped() {
    let road = Road::new();
    fill(&road.file());
    let before = ask(&road.copy(), PROJECT);
    let mut moved = None;
    let mut tries = 0;
    while moved.is_none() {
        tries += 1;
        let mut calls = 0;
        let done =
            transfer_projects(&road.from, &road.to, &TransferOptions { batch: 1, ..by_force() }, &mut |_| {
                calls += 1;
                calls <= tries
            });
        moved = match done {
            Err(TransferError::Stopped) => None,
            other => Some(other.unwrap()),
        };
    }
    assert!(tries > 3, "stopped {tries} times");
    let after = ask(&road.database(), PROJECT);
    assert_eq!(before.schedules, after.schedules);
    assert_eq!(before.histories.len(), after.histories.len());
    assert_eq!(before.steps, after.steps);
    let moved = moved.unwrap().remove(0);
    assert_eq!((moved.freed, moved.tables.len()), (1, 8));
    let counts: Vec<_> = moved.tables.iter().map(|table| (table.table, table.count)).collect();
    assert_eq!(
        counts,
        [
            ("run_limit", 0),
            ("calendar", 1),
            ("workflow", 1),
            ("run", 6),
            ("step", 5),
            ("event", 1),
            ("ledger", 0),
            ("schedule", 5)
        ]
    );
    let again = road.travel(&politely()).unwrap();
    assert_eq!(again[0].tables, [], "a second time there is nothing to do");
}

#[test]
fn what_a_killed_worker_held_is_free_and_keeps_its_steps() {
    let road = Road::new();
    fill(&road.file());
    road.travel(&by_force()).unwrap();
    let store = road.database();
    let queued = RunFilter { states: vec![RunState::Queued], ..RunFilter::default() };
    let queued = store.runs(PROJECT, &queued, &everything()).unwrap();
    assert_eq!(queued.len(), 2, "and the one that nobody had");
    store.commit(&[Command::RegisterWorker(Box::new(new_worker("wkr_new")))], at(5_000_000_000)).unwrap();
    let claim = Command::ClaimRuns {
        project: text(PROJECT),
        worker: "wkr_new".into(),
        workflows: vec![text("w")],
        limit: 10,
        until: at(5_000_000_000),
        suspects: Suspects::Never,
        codes: None,
    };
    let answers = store.commit(&[claim], at(5_000_000_000)).unwrap();
    let Ok(Answer::Claimed(claimed)) = &answers[0] else { panic!("{answers:?}") };
    let journals: Vec<_> = claimed.iter().map(|claim| claim.journal.len()).collect();
    assert_eq!(journals.iter().sum::<usize>(), 1, "the recorded step goes along");
    assert!(store.peers(PROJECT).unwrap().iter().all(|peer| peer.id.as_str() == "wkr_new"));
}

fn enter(store: &dyn Store) -> Result<Answer, Rejection> {
    store.commit(&[Command::RegisterWorker(Box::new(new_worker("wkr_late")))], at(90)).unwrap().remove(0)
}

fn why_not(outcome: Result<Answer, Rejection>) -> String {
    match outcome {
        Err(Rejection::Invalid(why)) => why,
        other => panic!("{other:?}"),
    }
}

#[test]
fn nobody_works_on_either_side_while_it_moves_and_only_on_the_new_one_afterwards() {
    let road = Road::new();
    fill(&road.file());
    road.stop_when(&by_force(), |progress| progress.table == "ledger");
    assert!(why_not(enter(&road.file())).contains("`--abandon`"));
    assert!(why_not(enter(&road.database())).contains("polos migrate"));
    let other =
        Command::CreateRun(Box::new(polos::model::NewRun { project: text("other"), ..new_run("run_o") }));
    assert!(road.file().commit(std::slice::from_ref(&other), at(90)).unwrap()[0].is_ok());
    assert!(road.database().commit(&[other], at(90)).unwrap()[0].is_ok(), "other projects go on");
    road.travel(&TransferOptions { projects: vec![PROJECT.to_owned()], ..by_force() }).unwrap();
    let why = why_not(enter(&road.file()));
    assert!(why.contains("has moved to `postgresql://") && why.contains("POLOS_DATABASE_URL"), "{why}");
    assert!(matches!(enter(&road.database()), Ok(Answer::Reconciled(_))));
    let new = new_schedule("late", Some(at(200)));
    let put = road.file().commit(&[Command::UpsertSchedules(vec![new.clone()])], at(90)).unwrap().remove(0);
    assert!(why_not(put).contains("has moved"), "no schedule is lost in a file that nobody reads");
    assert!(road.database().commit(&[Command::UpsertSchedules(vec![new])], at(90)).unwrap()[0].is_ok());
}

/// A wait of a running run, and the event for it.
fn wait(run: &Run) -> Command {
    let step = StepRecord {
        state: StepState::Waiting,
        wakes_at: Some(at(1_000)),
        result: None,
        ..super::fixture::done_step("approval")
    };
    Command::AwaitEvent { run: run.id.clone(), token: run.token, step }
}

fn debounced(id: &str, key: &str) -> Command {
    let debounce = Debounce { key: text(key), delay: std::time::Duration::from_secs(500), at_most: None };
    Command::DebounceRun { new: Box::new(new_run(id)), debounce }
}

fn approval(run: &Run) -> Command {
    let Command::SendEvent(new) = an_event("approval", None) else { unreachable!("it is an event") };
    Command::SendEvent(Box::new(NewEvent { run: run.id.clone(), ..*new }))
}

/// Everything that users and workers may want to change in a project.
fn changes(held: &Run) -> Vec<Command> {
    let (project, token) = (text(PROJECT), held.token);
    let patch = Box::new(Patch { status: Some(ScheduleStatus::Paused), ..Patch::default() });
    vec![
        an_event("other", None),
        approval(held),
        debounced("run_newest", "u7"),
        debounced("run_more", "u8"),
        Command::CreateRun(Box::new(new_run("run_more"))),
        Command::CancelRun { project: text(PROJECT), run: "run_by_hand".into() },
        Command::RetryRun { project: text(PROJECT), run: "run_cancelled".into() },
        Command::UpsertSchedules(vec![new_schedule("late", Some(at(200)))]),
        Command::PatchSchedule { project: text(PROJECT), id: "sch_b".into(), revision: None, patch },
        Command::DeleteSchedule { project: text(PROJECT), id: "sch_a".into() },
        Command::SetLimit {
            project,
            name: text("mails"),
            values: Some(LimitSpec { max: Some(1), ..LimitSpec::default() }),
        },
        Command::SetCalendar { project: text(PROJECT), name: text("us"), dates: Some(text("[]")) },
        Command::SetCalendar { project: text(PROJECT), name: text("us"), dates: None },
        Command::RecordStep { run: held.id.clone(), token, step: super::fixture::done_step("more") },
        Command::ReportProgress { run: held.id.clone(), token, progress: text("{}") },
        end(&held.id, token, super::fixture::succeeded()),
    ]
}

#[test]
fn neither_side_accepts_a_change_while_it_moves() {
    let road = Road::new();
    let file = road.file();
    fill(&file);
    let fixture = Fixture::on(&file);
    let held = fixture.run(&RunId::of_slot(&"sch_e".into(), at(60)));
    fixture.ok(at(80), wait(&held));
    fixture.ok(at(80), debounced("run_first", "u7"));
    fixture.create(at(80), new_run("run_cancelled"));
    fixture.ok(at(80), Command::CancelRun { project: text(PROJECT), run: "run_cancelled".into() });
    let spec = LimitSpec { max: Some(3), ..LimitSpec::default() };
    let limits = vec![DeclaredLimit { name: text("mails"), spec }];
    fixture.ok(at(80), Command::RegisterWorker(Box::new(WorkerEntry { limits, ..new_worker("wkr_1") })));
    road.stop_when(&by_force(), |progress| progress.is_comparing);
    let database = road.database();
    let tell = |store: &dyn Store, command: &Command| {
        store.commit(std::slice::from_ref(command), at(90)).unwrap().remove(0)
    };
    for command in changes(&held) {
        for (store, remedy) in [(&file as &dyn Store, "`--abandon`"), (&database, "polos migrate")] {
            let outcome = tell(store, &command);
            assert!(
                matches!(&outcome, Err(Rejection::Invalid(why)) if why.contains(remedy)),
                "{command:?}: {outcome:?}"
            );
        }
    }
    road.travel(&by_force()).unwrap();
    for command in changes(&held) {
        let outcome = tell(&database, &command);
        let is_of_the_dead = outcome == Err(Rejection::Fenced);
        assert!(outcome.is_ok() || is_of_the_dead, "{command:?}: {outcome:?}");
    }
}

#[test]
fn a_live_worker_is_not_robbed() {
    let road = Road::new();
    let store = road.file();
    fill(&store);
    let worker = polos::model::WorkerEntry {
        app: text("web"),
        host: polos::process::host_id().into(),
        pid: i64::from(std::process::id()),
        process_mark: polos::process::process_mark(i64::from(std::process::id())).into(),
        ..new_worker("wkr_live")
    };
    store.commit(&[Command::DeregisterWorker { worker: "wkr_1".into() }], at(80)).unwrap();
    store.commit(&[Command::RegisterWorker(Box::new(worker))], at(80)).unwrap();
    let why = refusal(road.travel(&politely()));
    assert!(why.contains("a worker of `web`") && why.contains("stop it first"), "{why}");
    assert_eq!(
        store.commit(&[Command::Heartbeat { worker: "wkr_live".into() }], at(81)).unwrap(),
        [Ok(Answer::Done)]
    );
    assert!(
        road.database().schedules(PROJECT, &ScheduleFilter::default(), &everything()).unwrap().is_empty()
    );
    store.commit(&[Command::DeregisterWorker { worker: "wkr_live".into() }], at(82)).unwrap();
    road.travel(&politely()).unwrap();
}

/// Who sends no heartbeats because it is idle is alive as long as its process is; of other
/// machines, only the heartbeat tells.
#[test]
fn an_idle_worker_of_this_machine_is_not_robbed_however_old_its_heartbeat() {
    let road = Road::new();
    let store = road.file();
    fill(&store);
    let long_ago = Timestamp::from_micros(1_000_000_000_000_000);
    let commit = |command| store.commit(&[command], long_ago).unwrap().remove(0).unwrap();
    let leave = |worker: &str| _ = commit(Command::DeregisterWorker { worker: worker.into() });
    let enter = |host: &str, pid: i64, mark: String| {
        let entry = polos::model::WorkerEntry {
            app: text("web"),
            host: text(host),
            pid,
            process_mark: mark.into(),
            ..new_worker("wkr_idle")
        };
        commit(Command::RegisterWorker(Box::new(entry)));
    };
    leave("wkr_1");
    let (here, pid) = (polos::process::host_id(), i64::from(std::process::id()));
    enter(&here, pid, polos::process::process_mark(pid));
    let why = refusal(road.travel(&politely()));
    assert!(why.contains("a worker of `web`"), "{why}");
    leave("wkr_idle");

    // Elsewhere, and just heard of.
    enter("another machine", pid, "1".to_owned());
    store.commit(&[Command::Heartbeat { worker: "wkr_idle".into() }], at(81)).unwrap().remove(0).unwrap();
    let why = refusal(road.travel(&politely()));
    assert!(why.contains("a worker of `web`"), "{why}");
    leave("wkr_idle");

    // Elsewhere, and not heard of for years; and one of this machine that has ended.
    enter("another machine", pid, "1".to_owned());
    let ended = polos::model::WorkerEntry {
        host: here.into(),
        pid,
        process_mark: text("1"),
        ..new_worker("wkr_ended")
    };
    commit(Command::RegisterWorker(Box::new(ended)));
    road.travel(&politely()).unwrap();
}

#[test]
fn what_is_there_is_not_mixed_with() {
    let road = Road::new();
    fill(&road.file());
    Fixture::on(&road.database()).put(at(0), new_schedule("mine", Some(at(60))));
    let why = refusal(road.travel(&by_force()));
    assert!(why.contains("already") && why.contains("?schema="), "{why}");
    assert!(matches!(enter(&road.file()), Ok(Answer::Reconciled(_))), "nothing was touched");

    let (one, two) = (Road::new(), Road::new());
    fill(&one.file());
    fill(&two.file());
    one.stop_when(&by_force(), |progress| progress.table == "run");
    let mixed = transfer_projects(&two.from, &one.to, &by_force(), &mut |_| true);
    assert!(refusal(mixed).contains("from another file"));
}

#[test]
fn a_planted_difference_is_found_and_an_abandoned_move_leaves_nothing() {
    for (plant, table) in [
        ("UPDATE run SET key = 'other' WHERE id = 'run_by_hand'", "run"),
        ("DELETE FROM run WHERE id = 'run_by_hand'", "run"),
        ("UPDATE step SET result = '2'", "step"),
        (
            "INSERT INTO ledger (project, schedule_id, from_slot, until_slot, slot_count, fate, reason) \
          VALUES ('default', 's', 1, 1, 1, 'missed', 'late')",
            "ledger",
        ),
        ("UPDATE schedule SET next_slot = next_slot + 1 WHERE key = 'b'", "schedule"),
    ] {
        let road = Road::new();
        fill(&road.file());
        road.stop_when(&by_force(), |progress| progress.is_comparing);
        administer(&format!("SET search_path = {}; SET polos.moving = '1'; {plant}", road.schema()));
        let why = refusal(road.travel(&by_force()));
        assert!(why.contains(&format!("the table `{table}`")), "{plant}: {why}");
        assert!(why.contains("--abandon"), "{why}");
        assert_eq!(abandon_transfer(&road.from, &road.to, &[]).unwrap(), [PROJECT]);
        let store = road.database();
        let left = ask(&store, PROJECT);
        assert_eq!((left.schedules.len(), left.runs.len(), left.workflows.len()), (0, 0, 0));
        let file = road.file();
        assert!(matches!(enter(&file), Ok(Answer::Reconciled(_))), "the file is open again");
        file.commit(&[Command::DeregisterWorker { worker: "wkr_late".into() }], at(91)).unwrap();
        drop(file);
        road.travel(&by_force()).unwrap();
    }
}

#[test]
fn what_was_moved_is_not_abandoned() {
    let road = Road::new();
    fill(&road.file());
    road.travel(&by_force()).unwrap();
    let refused = abandon_transfer(&road.from, &road.to, &[]).map(|_| Vec::new());
    assert!(refusal(refused).contains("has been moved"));
}

#[test]
fn history_may_stay_behind() {
    let road = Road::new();
    fill(&road.file());
    road.travel(&TransferOptions { with_history: false, ..by_force() }).unwrap();
    let after = ask(&road.database(), PROJECT);
    let mut ids: Vec<_> = after.runs.iter().map(|run| (run.key.to_string(), run.state)).collect();
    ids.sort();
    assert_eq!(ids, [("e".to_owned(), RunState::Queued), ("global".to_owned(), RunState::Queued)]);
    assert_eq!(after.schedules.len(), 5);
}

#[test]
fn a_wrong_name_is_answered() {
    let road = Road::new();
    let missing = transfer_projects(&road.from, &road.to, &by_force(), &mut |_| true);
    assert!(missing.unwrap_err().to_string().contains("no such file"));
    assert!(!road.from.exists(), "none is made");
    fill(&road.file());
    let unknown = road.travel(&TransferOptions { projects: vec!["nobody".to_owned()], ..by_force() });
    assert!(refusal(unknown).contains("it has `default`"));
}

/// Executes SQL on the server, as somebody else would.
fn administer(sql: &str) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let connected = tokio_postgres::connect(&Server::shared().url, tokio_postgres::NoTls).await;
        let (client, connection) = connected.unwrap();
        tokio::spawn(connection);
        client.batch_execute(sql).await.unwrap();
    });
}
