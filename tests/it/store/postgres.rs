//! What only PostgreSQL can get wrong: several at once, cut connections, addresses.

use super::fixture::{
    self, Fixture, PROJECT, at, check_former_counts, end, everything, former_history, new_run, new_schedule,
    new_worker, patch_command, succeeded, text,
};
use super::server::{Server, stand_before};
use polos::calendar::Timestamp;
use polos::model::{Admission, Completion, NewRun, RunId, RunState, Token, WorkerId};
use polos::store::{
    Answer, ChangeObserver, Command, Patch, PostgresOptions, PostgresStore, Rejection, RunFilter, StoreError,
    StoreReads, StoreWrites, Suspects,
};
use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier, Mutex, mpsc};
use std::time::Duration;

/// How long something that must happen may take on a busy machine.
pub(super) const BUSY_TIMEOUT: Duration = Duration::from_secs(30);

pub(super) fn open(url: &str) -> PostgresStore {
    PostgresStore::open(url, PostgresOptions::default()).unwrap()
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

#[test]
fn many_open_a_new_database_at_once() {
    let url = Server::shared().new_schema();
    let barrier = Barrier::new(8);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                barrier.wait();
                open(&url).workflows(PROJECT).unwrap();
            });
        }
    });
}

#[test]
fn counting_from_many_connections_loses_nothing() {
    const WORKERS: usize = 4;
    const TIMES: usize = 25;
    let url = Server::shared().new_schema();
    let id = new_schedule("counter", None).id;
    Fixture::on(&open(&url)).put(at(0), new_schedule("counter", Some(at(60))));
    let shared = Mutex::new(BTreeSet::new());
    std::thread::scope(|scope| {
        for name in 0..WORKERS {
            let (url, id, shared) = (&url, &id, &shared);
            scope.spawn(move || {
                let store = open(url);
                for time in 0..TIMES {
                    loop {
                        let seen = store.schedule(PROJECT, id).unwrap().unwrap();
                        let before: u64 = seen.note.as_deref().unwrap_or("0").parse().unwrap();
                        let note = Some(Some(text(&(before + 1).to_string())));
                        let patch = Patch { note, ..Patch::default() };
                        let run = NewRun {
                            idempotency_key: Some(text(&time.to_string())),
                            ..new_run(&format!("run_shared_{name}_{time}"))
                        };
                        let commands = [
                            patch_command(id, Some(seen.revision), patch),
                            Command::CreateRun(Box::new(run)),
                        ];
                        let answers = store.commit(&commands, at(1)).unwrap();
                        let Ok(Answer::Created { run, .. }) = &answers[1] else { panic!("{answers:?}") };
                        shared.lock().unwrap().insert(run.clone());
                        match &answers[0] {
                            Ok(_) => break,
                            Err(rejection) => assert_eq!(*rejection, Rejection::Stale),
                        }
                    }
                }
            });
        }
    });
    let store = open(&url);
    let note = store.schedule(PROJECT, &id).unwrap().unwrap().note;
    assert_eq!(note.as_deref(), Some(&*(WORKERS * TIMES).to_string()));
    assert_eq!(shared.into_inner().unwrap().len(), TIMES, "one run for each key, whoever was first");
    assert_eq!(store.runs(PROJECT, &RunFilter::default(), &everything()).unwrap().len(), TIMES);
}

#[test]
fn every_run_is_claimed_once() {
    const WORKERS: usize = 4;
    const RUNS: usize = 300;
    let url = Server::shared().new_schema();
    let store = open(&url);
    let create: Vec<_> =
        (0..RUNS).map(|number| Command::CreateRun(Box::new(new_run(&format!("run_{number:03}"))))).collect();
    store.commit(&create, at(0)).unwrap();
    let claimed = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for name in 0..WORKERS {
            let (url, claimed) = (&url, &claimed);
            scope.spawn(move || {
                let store = open(url);
                let worker = format!("wkr_{name}");
                let enter = Command::RegisterWorker(Box::new(new_worker(&worker)));
                store.commit(&[enter], at(0)).unwrap();
                let claim = Command::ClaimRuns {
                    project: text(PROJECT),
                    worker: WorkerId::from(&*worker),
                    workflows: vec![text("w")],
                    limit: 7,
                    until: at(0),
                    suspects: Suspects::Never,
                    codes: None,
                };
                // Some may be passed over while another takes them: it ends when nothing is left to
                // claim.
                while store.next_work(PROJECT, &[text("w")], at(0)).unwrap().run.is_some() {
                    let answers = store.commit(std::slice::from_ref(&claim), at(0)).unwrap();
                    let Ok(Answer::Claimed(runs)) = &answers[0] else { panic!("{answers:?}") };
                    assert!(runs.len() <= 7);
                    claimed.lock().unwrap().extend(runs.iter().map(|claim| claim.run.id.clone()));
                }
            });
        }
    });
    let claimed = claimed.into_inner().unwrap();
    assert_eq!(claimed.len(), RUNS);
    assert_eq!(claimed.into_iter().collect::<BTreeSet<_>>().len(), RUNS);
}

#[test]
fn a_run_that_waits_behind_one_that_ends_meanwhile_is_not_forgotten() {
    let url = Server::shared().new_schema();
    let (one, two) = (open(&url), open(&url));
    let fixture = Fixture::on(&one);
    let schedule = fixture.put(at(0), new_schedule("s", Some(at(0))));
    for round in 0..40 {
        let first = fixture.fire(at(round * 10), &schedule, at(round * 10), Admission::Claim);
        let token = fixture.run(&first).token;
        let plan = fixture.plan(&schedule, &[(at(round * 10 + 5), Admission::Behind)]);
        let fire = Command::Fire { worker: fixture.worker.clone(), plan: Box::new(plan) };
        let barrier = Barrier::new(2);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                barrier.wait();
                one.commit(&[end(&first, token, succeeded())], at(round * 10 + 5)).unwrap()[0]
                    .clone()
                    .unwrap();
            });
            scope.spawn(|| {
                barrier.wait();
                two.commit(&[fire], at(round * 10 + 5)).unwrap()[0].clone().unwrap();
            });
        });
        let second = RunId::of_slot(&schedule.id, at(round * 10 + 5));
        assert_eq!(fixture.state(&second), RunState::Queued, "round {round}");
        let claimed = fixture.claim(at(round * 10 + 5));
        assert_eq!(claimed.len(), 1);
        fixture.end(at(round * 10 + 6), &second, succeeded());
    }
}

#[test]
fn only_one_of_two_buries_and_claims() {
    let url = Server::shared().new_schema();
    let (one, two) = (open(&url), open(&url));
    let fixture = Fixture::on(&one);
    for round in 0..20 {
        let run = fixture.running(at(round), &format!("run_{round}"));
        let heartbeat = fixture.heartbeat();
        let barrier = Barrier::new(2);
        let command =
            Command::ExpireWorker { worker: fixture.worker.clone(), heartbeat, shares_process: false };
        let counts: Vec<u64> = std::thread::scope(|scope| {
            let threads: Vec<_> = [&one, &two]
                .into_iter()
                .map(|store| {
                    let (barrier, command) = (&barrier, &command);
                    scope.spawn(move || {
                        barrier.wait();
                        match store.commit(std::slice::from_ref(command), at(round)).unwrap()[0] {
                            Ok(Answer::Count(count)) => count,
                            ref other => panic!("{other:?}"),
                        }
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(counts.iter().sum::<u64>(), 1, "freed once");
        assert_eq!(fixture.state(&run.id), RunState::Queued);
        fixture.ok(at(round), Command::RegisterWorker(Box::new(new_worker("wkr_1"))));
        assert_eq!(fixture.claim(at(round)).len(), 1);
        fixture.end(at(round), &run.id, succeeded());
    }
}

#[test]
fn a_cut_connection_is_replaced() {
    let url = Server::shared().new_schema();
    let name = format!("cut_{}", std::process::id());
    let store = open(&format!("{url}&application_name={name}"));
    let fixture = Fixture::on(&store);
    fixture.create(at(0), new_run("run_1"));
    for number in 2..5 {
        administer(&format!(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = '{name}'"
        ));
        fixture.create(at(0), new_run(&format!("run_{number}")));
        administer(&format!(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = '{name}'"
        ));
        assert!(fixture.find_run(&RunId::from("run_1")).is_some());
    }
    assert_eq!(store.runs(PROJECT, &RunFilter::default(), &everything()).unwrap().len(), 4);
}

/// Passes on what client and server say to each other, until it is told to keep the server's next
/// words to itself and hang up.
struct Eavesdropper {
    url: String,
    swallows_next: Arc<AtomicBool>,
}

impl Eavesdropper {
    fn before(url: &str) -> Self {
        let swallows_next = Arc::new(AtomicBool::new(false));
        let armed = Arc::clone(&swallows_next);
        let url = stand_before(url, move |client, server| {
            let (asking, asked) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            std::thread::spawn(move || pass_on(asking, asked, || false));
            let armed = Arc::clone(&armed);
            std::thread::spawn(move || pass_on(server, client, || armed.swap(false, Ordering::SeqCst)));
        });
        Self { url, swallows_next }
    }

    fn swallow_next(&self) {
        self.swallows_next.store(true, Ordering::SeqCst);
    }
}

/// Copies until one side hangs up, or what comes next is to be swallowed.
pub(super) fn pass_on(mut from: TcpStream, mut to: TcpStream, is_swallowed: impl Fn() -> bool) {
    let mut bytes = vec![0; 65536];
    while let Ok(count @ 1..) = from.read(&mut bytes) {
        if is_swallowed() || to.write_all(&bytes[..count]).is_err() {
            break;
        }
    }
    for stream in [from, to] {
        // The other side may have hung up.
        let _ = stream.shutdown(Shutdown::Both);
    }
}

#[test]
fn what_was_committed_without_an_answer_is_done_once() {
    let url = Server::shared().new_schema();
    let between = Eavesdropper::before(&url);
    let store = open(&between.url);
    let fixture = Fixture::on(&store);
    let create = |name: &str| {
        let claim_for = Some(fixture.worker.clone());
        fixture.ok(at(0), Command::CreateRun(Box::new(NewRun { claim_for, ..new_run(name) })))
    };
    let finish = |name: &str| {
        let ending = Box::new(succeeded());
        let (run, token) = (RunId::from(name), Token(1));
        fixture.ok(at(1), Command::CompleteRun { run, token, ending, stands_alone: true, tells: false })
    };
    // Statements are prepared at their second time: the answer to that is not the one that is to be
    // lost.
    for name in ["a", "b", "c"] {
        create(name);
        finish(name);
    }
    between.swallow_next();
    let Answer::Created { run, is_new: true, claimed: Some(claimed) } = create("lost") else {
        panic!("it was created, and claimed, by this very command")
    };
    assert_eq!((run, claimed.state, claimed.token), (RunId::from("lost"), RunState::Running, Token(1)));
    for name in ["d", "e", "f"] {
        create(name);
        finish(name);
    }
    between.swallow_next();
    assert_eq!(finish("lost"), Answer::Ended { state: RunState::Succeeded, released: false });
    assert!(!between.swallows_next.load(Ordering::SeqCst), "something was swallowed");
    assert_eq!(store.runs(PROJECT, &RunFilter::default(), &everything()).unwrap().len(), 7);
}

#[test]
fn others_are_heard_of() {
    struct Listener(Mutex<mpsc::Sender<()>>);
    impl ChangeObserver for Listener {
        fn on_change(&self) {
            // Whoever heard enough is gone.
            let _ = self.0.lock().unwrap().send(());
        }
        fn on_rollback(&self) {
            panic!("the database is no older than it was");
        }
        fn on_advice(&self, what: &str) {
            panic!("{what}");
        }
        fn may_set_clock(&self, ask: &dyn Fn() -> Result<Timestamp, StoreError>) {
            assert!(ask().unwrap() > at(-30_000_000));
        }
    }
    struct Deaf;
    impl ChangeObserver for Deaf {
        fn on_change(&self) {}
        fn on_rollback(&self) {}
        fn on_advice(&self, _: &str) {}
        fn may_set_clock(&self, _: &dyn Fn() -> Result<Timestamp, StoreError>) {}
    }
    let url = Server::shared().new_schema();
    let (notification_slot, speaking) = (open(&url), open(&url));
    let (sender, heard) = mpsc::channel();
    notification_slot.listen(Arc::new(Listener(Mutex::new(sender)))).unwrap();
    // It has begun to listen.
    heard.recv_timeout(BUSY_TIMEOUT).unwrap();
    speaking.listen(Arc::new(Deaf)).unwrap();
    let before = notification_slot.change_mark().unwrap();
    speaking.commit(&[Command::CreateRun(Box::new(new_run("run_1")))], at(0)).unwrap();
    heard.recv_timeout(BUSY_TIMEOUT).unwrap();
    assert_ne!(notification_slot.change_mark().unwrap(), before, "the truth can be asked for");
}

/// Passes nothing on but the first news.
struct FirstNews(Mutex<mpsc::Sender<()>>);

impl ChangeObserver for FirstNews {
    fn on_change(&self) {
        let _ = self.0.lock().unwrap().send(());
    }
    fn on_rollback(&self) {}
    fn on_advice(&self, _: &str) {}
    fn may_set_clock(&self, _: &dyn Fn() -> Result<Timestamp, StoreError>) {}
}

#[test]
fn the_heartbeat_of_an_idle_worker_is_no_news_while_news_are_announced() {
    let store = open(&Server::shared().new_schema());
    assert!(!store.announces_changes(), "nobody listens yet");
    let (sender, heard) = mpsc::channel();
    store.listen(Arc::new(FirstNews(Mutex::new(sender)))).unwrap();
    heard.recv_timeout(BUSY_TIMEOUT).unwrap();
    assert!(store.announces_changes());
    let fixture = Fixture::on(&store);
    let beat = || {
        let before = store.change_mark().unwrap();
        fixture.ok(at(1), Command::Heartbeat { worker: fixture.worker.clone() });
        store.change_mark().unwrap() != before
    };
    let heartbeat = fixture.heartbeat();
    assert!(!beat(), "nobody waits for it");
    assert_eq!(fixture.heartbeat(), heartbeat + 1, "it is written all the same");
    let run = NewRun { claim_for: Some(fixture.worker.clone()), ..new_run("run_1") };
    fixture.ok(at(1), Command::CreateRun(Box::new(run)));
    assert!(beat(), "others have to know that the runs have a worker");
    store.close();
    assert!(!store.announces_changes());
}

/// Passes on that others have committed, and which runs have ended.
struct Ends(Mutex<mpsc::Sender<Option<RunId>>>);

impl ChangeObserver for Ends {
    fn on_change(&self) {
        let _ = self.0.lock().unwrap().send(None);
    }
    fn on_ends(&self, runs: &[RunId]) {
        for run in runs {
            let _ = self.0.lock().unwrap().send(Some(run.clone()));
        }
    }
    fn on_rollback(&self) {}
    fn on_advice(&self, _: &str) {}
    fn may_set_clock(&self, _: &dyn Fn() -> Result<Timestamp, StoreError>) {}
}

#[test]
fn who_waits_for_runs_hears_of_their_ends_and_of_no_others() {
    let url = Server::shared().new_schema();
    let listening = || {
        let (store, (sender, heard)) = (open(&url), mpsc::channel());
        store.listen(Arc::new(Ends(Mutex::new(sender)))).unwrap();
        assert_eq!(heard.recv_timeout(BUSY_TIMEOUT), Ok(None), "it has begun to listen");
        (store, heard)
    };
    let ((caller, told), (worker, heard)) = (listening(), listening());
    let fixture = Fixture::on(&worker);
    for id in ["awaited", "ignored", "cancelled"] {
        let run = NewRun { claim_for: Some(fixture.worker.clone()), ..new_run(id) };
        fixture.ok(at(1), Command::CreateRun(Box::new(run)));
    }
    let strange = RunId::from("'; DROP TABLE run; --");
    caller.await_ends(&[RunId::from("awaited"), RunId::from("cancelled"), strange]);
    // Waits are announced before whatever the same process commits afterward.
    caller.commit(&[Command::CreateRun(Box::new(new_run("news")))], at(1)).unwrap();
    while heard.recv_timeout(BUSY_TIMEOUT).unwrap().is_some() {}
    for id in ["ignored", "awaited"] {
        fixture.ok(at(2), end(&RunId::from(id), Token(1), succeeded()));
    }
    let ended = || loop {
        if let Some(run) = told.recv_timeout(BUSY_TIMEOUT).unwrap() {
            return run;
        }
    };
    assert_eq!(ended(), RunId::from("awaited"));
    let cancelled = Completion::Cancelled { error: None };
    fixture.ok(at(2), Command::CancelRun { project: text(PROJECT), run: RunId::from("cancelled") });
    fixture.ok(at(2), end(&RunId::from("cancelled"), Token(1), cancelled));
    assert_eq!(ended(), RunId::from("cancelled"));
}

#[test]
fn tables_of_the_release_before_are_brought_up_to_date_while_that_release_works_on_them() {
    let url = Server::shared().new_schema();
    let schema = url.rsplit_once("schema=").unwrap().1;
    let tables = include_str!("../../../src/store/postgres/migrations/0001_tables.sql");
    administer(&format!(
        "CREATE SCHEMA {schema}; CREATE TABLE {schema}.version (version bigint NOT NULL, oldest bigint NOT NULL); \
         INSERT INTO {schema}.version VALUES (1, 1); {}",
        tables.replace('@', &format!("{schema}."))
    ));
    // As that release inserts it.
    let insert = |run: &str, at: i64| {
        administer(&format!(
            "INSERT INTO {schema}.run (id, state, token, attempt, available_at, created_at, origin, project, \
             workflow, key, timezone) VALUES ('{run}', 'queued', 0, 1, {at}, {at}, 'invoke', '{PROJECT}', 'w', \
             'global', 'UTC')"
        ));
    };
    insert("run_before", 0);
    let history = former_history(&format!("{schema}."));
    administer(&history.replace(" is_slot,", "").replace("', 0, 'succ", "', 'succ"));
    let new = open(&url);
    check_former_counts(&new);
    insert("run_after", 1);
    let queued = RunFilter { states: vec![RunState::Queued], ..RunFilter::default() };
    let found = new.runs(PROJECT, &queued, &everything()).unwrap();
    assert_eq!(found.iter().map(|run| run.id.as_str()).collect::<Vec<_>>(), ["run_after", "run_before"]);
    assert_eq!(new.project_stats(PROJECT, at(0), 10).unwrap().runs[1], (RunState::Queued, 2));
}

#[test]
fn a_newer_schema_and_a_foreign_one_are_refused() {
    let url = Server::shared().new_schema();
    let schema = url.rsplit('=').next().unwrap();
    drop(open(&url));
    administer(&format!("UPDATE {schema}.version SET version = 99"));
    drop(open(&url));
    administer(&format!("UPDATE {schema}.version SET oldest = 99"));
    let refused = PostgresStore::open(&url, PostgresOptions::default()).err().unwrap();
    assert!(matches!(refused, StoreError::Newer { found: 99, .. }), "{refused}");

    let url = Server::shared().new_schema();
    let schema = url.rsplit('=').next().unwrap();
    administer(&format!("CREATE SCHEMA {schema}; CREATE TABLE {schema}.run (mine int)"));
    let refused = PostgresStore::open(&url, PostgresOptions::default()).err().unwrap();
    assert!(refused.to_string().contains("something else"), "{refused}");
    assert!(!refused.is_passing());
}

#[test]
fn errors_of_addresses_say_what_to_do() {
    let server = &Server::shared().url;
    let (_, permit) = server.rsplit_once('@').unwrap();
    for (url, is_passing, expected) in [
        ("postgresql://polos:s3cret@127.0.0.1:1/postgres".to_owned(), true, "can't be reached"),
        (format!("postgresql://polos:s3cret@{permit}_missing"), false, "createdb"),
        (format!("postgresql://nobody_here:s3cret@{permit}"), false, "check user and password"),
    ] {
        let error = PostgresStore::open(&url, PostgresOptions::default()).err().expect(&url);
        assert_eq!(error.is_passing(), is_passing, "{error}");
        assert!(error.to_string().contains(expected), "{error}");
        assert!(!error.to_string().contains("s3cret"), "{error}");
    }
}

#[test]
fn what_the_database_refuses_is_rejected_alone() {
    let store = Server::shared().new_store();
    let fixture = Fixture::on(&store);
    // Random enough not to be compressed into what an index entry may hold.
    let mut dice = super::model::Dice(1);
    let long: String = (0..4_000).map(|_| char::from(b'!' + dice.below(90) as u8)).collect();
    let bad = NewRun { idempotency_key: Some(text(&long)), ..new_run("run_bad") };
    let commands = [
        Command::CreateRun(Box::new(new_run("run_1"))),
        Command::CreateRun(Box::new(bad)),
        Command::CreateRun(Box::new(new_run("run_2"))),
    ];
    let answers = store.commit(&commands, at(0)).unwrap();
    assert!(answers[0].is_ok() && answers[2].is_ok(), "{answers:?}");
    assert!(matches!(&answers[1], Err(Rejection::Invalid(_))), "{answers:?}");
    assert!(fixture.find_run(&RunId::from("run_bad")).is_none());
}

/// Hears, and keeps what it is told.
#[derive(Default)]
pub(super) struct Notes {
    pub(super) changes: Mutex<u32>,
    pub(super) told: Mutex<Vec<String>>,
    ticks: Mutex<u32>,
    rollbacks: Mutex<u32>,
    ticked: std::sync::Condvar,
}

impl Notes {
    /// Waits until the listener has been connected for a while.
    pub(super) fn wait_for_ticks(&self) {
        let ticks = self.ticks.lock().unwrap();
        let enough = *ticks + 2;
        let late = self.ticked.wait_timeout_while(ticks, BUSY_TIMEOUT, |ticks| *ticks < enough).unwrap().1;
        assert!(!late.timed_out(), "it listens");
    }
}

impl ChangeObserver for Notes {
    fn on_change(&self) {
        *self.changes.lock().unwrap() += 1;
    }
    fn on_rollback(&self) {
        *self.rollbacks.lock().unwrap() += 1;
        self.ticked.notify_all();
    }
    fn on_advice(&self, what: &str) {
        self.told.lock().unwrap().push(what.to_owned());
    }
    fn may_set_clock(&self, ask: &dyn Fn() -> Result<Timestamp, StoreError>) {
        if ask().is_err() {
            // The connection was cut.
            return;
        }
        *self.ticks.lock().unwrap() += 1;
        self.ticked.notify_all();
    }
}

#[test]
fn a_database_that_has_become_an_older_one_is_noticed_once() {
    let url = Server::shared().new_schema();
    let schema = url.rsplit('=').next().unwrap();
    let store = open(&url);
    let notes = Arc::new(Notes::default());
    store.listen(Arc::clone(&notes) as Arc<dyn ChangeObserver>).unwrap();
    for number in 0..3 {
        store.commit(&[Command::CreateRun(Box::new(new_run(&format!("run_{number}"))))], at(0)).unwrap();
    }
    // As in a copy that has not seen the last two.
    administer(&format!("UPDATE {schema}.commits SET no = no - 2 WHERE no > 0"));
    store.change_mark().unwrap();
    let mut rollbacks = notes.rollbacks.lock().unwrap();
    while *rollbacks == 0 {
        let (still, late) = notes.ticked.wait_timeout(rollbacks, BUSY_TIMEOUT).unwrap();
        assert!(!late.timed_out(), "nobody is told");
        rollbacks = still;
    }
    drop(rollbacks);
    store.commit(&[Command::CreateRun(Box::new(new_run("run_4")))], at(0)).unwrap();
    store.change_mark().unwrap();
    notes.wait_for_ticks();
    assert_eq!(*notes.rollbacks.lock().unwrap(), 1);
}

#[test]
fn of_several_hosts_the_one_that_takes_writes_is_used() {
    let standby = Server::start(&["--set", "default_transaction_read_only=on"]);
    let permit = |server: &Server| server.url.split(['@', '/']).nth(3).unwrap().to_owned();
    let (read_only, primary) = (permit(&standby), permit(Server::shared()));
    let schema = Server::shared().new_schema();
    let (_, parameters) = schema.split_once('?').unwrap();
    for hosts in
        [format!("{read_only},{primary}"), format!("127.0.0.1:1,{primary}"), format!("{primary},{read_only}")]
    {
        let url = format!("postgresql://polos@{hosts}/postgres?{parameters}&target_session_attrs=read-write");
        open(&url).workflows(PROJECT).unwrap();
    }
}

/// A server with TLS, and a certificate for `localhost`.
pub(super) fn with_tls(folder: &std::path::Path, start: impl Fn(&[&str]) -> Server) -> Server {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(folder.join("server.crt"), made.cert.pem()).unwrap();
    std::fs::write(folder.join("server.key"), made.signing_key.serialize_pem()).unwrap();
    start(&["--tls", folder.to_str().unwrap()])
}

#[test]
fn sslmode_is_what_libpq_means_by_it() {
    let folder = tempfile::tempdir().unwrap();
    let server = with_tls(folder.path(), Server::start);
    let root = folder.path().join("server.crt");
    let root = root.to_str().unwrap();
    let port = server.url.split([':', '/']).nth(4).unwrap();
    let url =
        |host: &str, parameters: &str| format!("postgresql://polos@{host}:{port}/postgres?{parameters}");
    let is_encrypted = |url: &str| {
        PostgresStore::open(url, PostgresOptions::default()).map(|store| store.is_encrypted().unwrap())
    };
    for (host, parameters, encrypted) in [
        ("127.0.0.1", "sslmode=disable".to_owned(), false),
        ("127.0.0.1", "sslmode=allow".to_owned(), false),
        ("127.0.0.1", String::new(), true),
        ("127.0.0.1", "sslmode=prefer".to_owned(), true),
        ("127.0.0.1", "sslmode=require".to_owned(), true),
        ("127.0.0.1", format!("sslmode=verify-ca&sslrootcert={root}"), true),
        ("localhost", format!("sslmode=verify-full&sslrootcert={root}"), true),
    ] {
        assert_eq!(is_encrypted(&url(host, &parameters)).unwrap(), encrypted, "{host} {parameters}");
    }
    for (host, parameters) in [
        // The certificate is for another name.
        ("127.0.0.1", format!("sslmode=verify-full&sslrootcert={root}")),
        // Nobody whom the system trusts has signed it.
        ("localhost", "sslmode=verify-full&sslrootcert=system".to_owned()),
        ("localhost", "sslmode=verify-ca&sslrootcert=/nowhere".to_owned()),
    ] {
        let error = is_encrypted(&url(host, &parameters)).expect_err(&parameters);
        let said = error.to_string();
        assert!(said.contains("certificate") || said.contains("/nowhere"), "{said}");
    }
    // A server without TLS.
    let plain = format!("{}?sslmode=require", Server::shared().url);
    assert!(is_encrypted(&plain).is_err());
}

#[test]
fn a_start_waits_for_an_edit_that_may_take_its_claim_back() {
    let url = Server::shared().new_schema();
    fixture::a_start_waits_for_an_edit(&open(&url), &open(&url));
}
