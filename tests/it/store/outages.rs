//! A PostgreSQL database that refuses its clients for a while, is altered under them, or forgets
//! their sessions.

use super::fixture::{Fixture, at, everything, new_run, new_schedule, succeeded, text};
use super::server::{Server, administer, stand_before};
use polos::calendar::Timestamp;
use polos::model::{RunId, RunState, Token};
use polos::store::{
    ChangeObserver, Command, PostgresOptions, PostgresStore, RunFilter, StoreError, StoreReads, StoreWrites,
};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

const CUT: &str = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'worker'";

/// Rights and policies of all tables of the schema `polos`, by a statement with `%I` for the table.
fn for_all_tables(statement: &str) -> String {
    format!(
        "DO $$ DECLARE t text; BEGIN FOR t IN SELECT tablename FROM pg_tables WHERE schemaname = 'polos' \
         LOOP EXECUTE format('{statement}', t); END LOOP; END $$"
    )
}

/// Asks until the server has come to it.
fn soon(what: &str, is_so: impl Fn() -> bool) {
    assert!((0..2_000).any(|_| is_so()), "{what}: it doesn't come to pass");
}

struct Refusal {
    what: &'static str,
    begin: String,
    end: String,
    /// What the message must contain.
    advice: &'static str,
}

fn refusals(database: &str, hba_file: &str, hba: &str) -> Vec<Refusal> {
    let refusal = |what, begin: &str, end: &str, advice| Refusal {
        what,
        begin: begin.to_owned(),
        end: end.to_owned(),
        advice,
    };
    let write_hba = |first: &str| {
        format!(
            "COPY (SELECT unnest(ARRAY[{first}{}])) TO '{hba_file}'; SELECT pg_reload_conf()",
            hba.lines().map(|line| format!("'{line}'")).collect::<Vec<_>>().join(",")
        )
    };
    vec![
        refusal(
            "pg_hba rejects the role",
            &format!("{}; {CUT}", write_hba("'host all worker all reject',")),
            &write_hba(""),
            "pg_hba.conf",
        ),
        refusal(
            "the password was changed",
            &format!(
                "ALTER ROLE worker PASSWORD 'new'; {}; {CUT}",
                write_hba("'host all worker all scram-sha-256',")
            ),
            "ALTER ROLE worker PASSWORD 'first'",
            "check user and password",
        ),
        refusal(
            "the role may not log in",
            &format!("ALTER ROLE worker NOLOGIN; {CUT}"),
            "ALTER ROLE worker LOGIN",
            "whether the role may log in",
        ),
        refusal(
            "the database has another name",
            &format!("{CUT}; ALTER DATABASE {database} RENAME TO away"),
            &format!("ALTER DATABASE away RENAME TO {database}"),
            "createdb",
        ),
        refusal(
            "it may not connect to the database",
            &format!("REVOKE CONNECT ON DATABASE {database} FROM public, worker; {CUT}"),
            &format!("GRANT CONNECT ON DATABASE {database} TO public, worker"),
            "GRANT CONNECT",
        ),
    ]
}

fn refusals_inside() -> Vec<Refusal> {
    let refusal = |what, begin: String, end: String, advice| Refusal { what, begin, end, advice };
    vec![
        refusal(
            "the schema has another name",
            "ALTER SCHEMA polos RENAME TO away".to_owned(),
            "ALTER SCHEMA away RENAME TO polos".to_owned(),
            "missing",
        ),
        refusal(
            "the rights to the schema were revoked",
            "ALTER SCHEMA polos OWNER TO polos; REVOKE ALL ON SCHEMA polos FROM worker".to_owned(),
            "ALTER SCHEMA polos OWNER TO worker; GRANT ALL ON SCHEMA polos TO worker".to_owned(),
            "GRANT USAGE ON SCHEMA",
        ),
        refusal(
            "the rights to the tables were revoked",
            for_all_tables("REVOKE ALL ON polos.%I FROM worker"),
            for_all_tables("GRANT ALL ON polos.%I TO worker"),
            "GRANT USAGE ON SCHEMA",
        ),
        refusal(
            "row-level security hides all rows",
            for_all_tables(
                "ALTER TABLE polos.%1$I ENABLE ROW LEVEL SECURITY; \
                 ALTER TABLE polos.%1$I FORCE ROW LEVEL SECURITY",
            ),
            for_all_tables(
                "ALTER TABLE polos.%1$I NO FORCE ROW LEVEL SECURITY; \
                 ALTER TABLE polos.%1$I DISABLE ROW LEVEL SECURITY",
            ),
            "BYPASSRLS",
        ),
        refusal(
            "a newer release has migrated, and this one must not go on",
            format!("UPDATE polos.version SET oldest = 99; {CUT}"),
            "UPDATE polos.version SET oldest = 1".to_owned(),
            "upgrade polos",
        ),
    ]
}

/// Counts what it hears.
#[derive(Default)]
struct Heard {
    rollbacks: AtomicUsize,
    advice: Mutex<Vec<String>>,
}

impl ChangeObserver for Heard {
    fn on_change(&self) {}
    fn on_rollback(&self) {
        self.rollbacks.fetch_add(1, Ordering::SeqCst);
    }
    fn on_advice(&self, what: &str) {
        self.advice.lock().unwrap().push(what.to_owned());
    }
    fn may_set_clock(&self, _: &dyn Fn() -> Result<Timestamp, StoreError>) {}
}

#[test]
fn a_database_that_has_worked_is_waited_for_whatever_it_says_and_a_new_one_is_not() {
    let server = Server::start(&["--set", "max_connections=50"]);
    let admin = &server.url;
    administer(admin, "CREATE ROLE worker LOGIN PASSWORD 'first'");
    administer(admin, "CREATE DATABASE app OWNER worker");
    let app_admin = admin.replace("/postgres", "/app");
    let url = app_admin.replace("polos@", "worker:first@");
    let hba_file = administer(admin, "SHOW hba_file").remove(0);
    let hba = std::fs::read_to_string(&hba_file).expect("the tests may read the server's files");
    let rules = |line: &&str| !line.trim().is_empty() && !line.starts_with('#');
    let hba = hba.lines().filter(rules).collect::<Vec<_>>().join("\n") + "\n";

    let store = PostgresStore::open(&url, PostgresOptions::default()).unwrap();
    let heard = Arc::new(Heard::default());
    store.listen(Arc::clone(&heard) as Arc<dyn ChangeObserver>).unwrap();
    let fixture = Fixture::on(&store);
    let mut number = 0;
    let mut check = |refusal: &Refusal, permit: &str| {
        let what = refusal.what;
        number += 1;
        administer(permit, &refusal.begin);
        if refusal.begin.contains(CUT) {
            // The server reads its configuration anew, and ends sessions, when it comes to it.
            soon(what, || {
                administer(admin, CUT);
                store.change_mark().is_err()
            });
        }
        let create = |name: &str| store.commit(&[Command::CreateRun(Box::new(new_run(name)))], at(0));
        let id = format!("run_{number}");
        for error in [store.change_mark().unwrap_err(), create(&id).unwrap_err()] {
            let said = error.to_string();
            assert!(matches!(error, StoreError::Denied(_)), "{what}: {error:?}");
            assert!(error.is_passing() && error.needs_action(), "{what}: {said}");
            assert!(said.contains(refusal.advice), "{what}: {said}");
            assert!(!said.contains("CREATE SCHEMA") && !said.contains("first"), "{what}: {said}");
        }
        // Who comes now is told at once: that is a mistake rather than a fault. Without its schema,
        // the database looks new, and a new schema looks older to who knows the other one.
        if !what.contains("schema has another name") {
            let error = PostgresStore::open(&url, PostgresOptions::default()).err().unwrap();
            assert!(!error.is_passing(), "{what}: {error:?}");
        }
        administer(permit, &refusal.end);
        soon(what, || store.change_mark().is_ok());
        create(&id).unwrap_or_else(|error| panic!("after `{what}`: {error}"))[0].as_ref().unwrap();
        assert_eq!(fixture.state(&RunId::from(&*id)), RunState::Queued);
    };
    for refusal in &refusals("app", &hba_file, &hba) {
        check(refusal, admin);
    }
    for refusal in &refusals_inside() {
        check(refusal, &app_admin);
    }
    assert_eq!(heard.rollbacks.load(Ordering::SeqCst), 0, "the database is no older than it was");
    assert_eq!(*heard.advice.lock().unwrap(), Vec::<String>::new(), "there is no pooler");
}

/// A run from its creation to its end, with whatever is sent along the way.
fn a_life(fixture: &Fixture<'_>, name: &str) {
    let claim_for = Some(fixture.worker.clone());
    let new = polos::model::NewRun { claim_for, ..new_run(name) };
    fixture.ok(at(0), Command::CreateRun(Box::new(new)));
    let run = RunId::from(name);
    let step = super::fixture::done_step("step");
    fixture.ok(at(1), Command::RecordStep { run: run.clone(), token: Token(1), step });
    fixture.ok(
        at(2),
        Command::CompleteRun {
            run: run.clone(),
            token: Token(1),
            ending: Box::new(succeeded()),
            stands_alone: false,
            tells: false,
        },
    );
    assert_eq!(fixture.state(&run), RunState::Succeeded);
    assert_eq!(fixture.steps(&run).len(), 1);
}

/// Everything that a worker asks over and over, often enough to be prepared.
fn work(fixture: &Fixture<'_>, store: &PostgresStore, name: &str) {
    for time in 0..3 {
        a_life(fixture, &format!("{name}_{time}"));
        let schedule = fixture.put(at(0), new_schedule(&format!("{name}_{time}"), Some(at(60))));
        let project = super::fixture::PROJECT;
        assert!(!store.due(project, &[text("w")], at(90), 10).unwrap().is_empty());
        store.next_work(project, &[text("w")], at(0)).unwrap();
        store.peers(project).unwrap();
        store.workflows(project).unwrap();
        store.change_mark().unwrap();
        store.history(project, &schedule.id, &everything()).unwrap();
        store.runs(project, &RunFilter::default(), &everything()).unwrap();
        fixture.claim(at(3));
    }
}

#[test]
fn columns_may_be_altered_under_a_running_worker() {
    let url = Server::shared().new_schema();
    let schema = url.rsplit('=').next().unwrap();
    let store = PostgresStore::open(&url, PostgresOptions::default()).unwrap();
    let fixture = Fixture::on(&store);
    work(&fixture, &store, "before");
    let altered = administer(
        &Server::shared().url,
        &format!(
            "SELECT count(*) FROM information_schema.columns WHERE table_schema = '{schema}' AND data_type = 'text'"
        ),
    );
    assert!(altered[0].parse::<u32>().unwrap() > 20, "there are columns to alter: {altered:?}");
    administer(
        &Server::shared().url,
        &format!(
            "DO $$ DECLARE c record; BEGIN FOR c IN SELECT table_name, column_name FROM information_schema.columns \
             WHERE table_schema = '{schema}' AND data_type = 'text' AND column_name NOT IN ('state', 'tags', 'origin', 'fate') LOOP EXECUTE format('ALTER TABLE {schema}.%I \
             ALTER COLUMN %I TYPE varchar COLLATE \"C\"', c.table_name, c.column_name); END LOOP; END $$"
        ),
    );
    work(&fixture, &store, "after");
    assert_eq!(store.runs("default", &RunFilter::default(), &everything()).unwrap().len(), 6);
}

/// Passes on what client and server say, and says something of its own to the server now and then.
struct Intruder {
    url: String,
    /// What it says on each connection before the client's next request; and how often that
    /// changed.
    says: Arc<Mutex<(usize, String)>>,
    said_count: Arc<AtomicUsize>,
}

impl Intruder {
    fn before(url: &str) -> Self {
        let says = Arc::new(Mutex::new((0, String::new())));
        let said_count = Arc::new(AtomicUsize::new(0));
        let (saying, counting) = (Arc::clone(&says), Arc::clone(&said_count));
        let url = stand_before(url, move |client, server| {
            let is_answer_ours = Arc::new(AtomicBool::new(false));
            let (asking, asked) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            let (says, count) = (Arc::clone(&saying), Arc::clone(&counting));
            let ours = Arc::clone(&is_answer_ours);
            std::thread::spawn(move || intrude(asking, asked, &says, &count, &ours));
            std::thread::spawn(move || keep_own_answers(server, client, &is_answer_ours));
        });
        Self { url, says, said_count }
    }

    fn say(&self, sql: &str) {
        let mut says = self.says.lock().unwrap();
        *says = (says.0 + 1, sql.to_owned());
    }
}

/// Copies requests, with one of our own before the next one of the client.
fn intrude(
    mut client: TcpStream,
    mut server: TcpStream,
    says: &Mutex<(usize, String)>,
    count: &AtomicUsize,
    is_answer_ours: &AtomicBool,
) {
    let mut seen = says.lock().unwrap().0;
    let mut bytes = vec![0; 65536];
    while let Ok(length @ 1..) = client.read(&mut bytes) {
        let (number, sql) = says.lock().unwrap().clone();
        if number != seen {
            seen = number;
            count.fetch_add(1, Ordering::SeqCst);
            is_answer_ours.store(true, Ordering::SeqCst);
            let mut own = vec![b'Q'];
            own.extend(u32::try_from(sql.len() + 5).unwrap().to_be_bytes());
            own.extend(sql.as_bytes());
            own.push(0);
            if server.write_all(&own).is_err() {
                break;
            }
        }
        if server.write_all(&bytes[..length]).is_err() {
            break;
        }
    }
    // The other side may have hung up.
    let _ = server.shutdown(Shutdown::Both);
}

/// Copies answers, without the one to our own request: up to its `ReadyForQuery`.
fn keep_own_answers(mut server: TcpStream, mut client: TcpStream, is_answer_ours: &AtomicBool) {
    let mut bytes = vec![0; 65536];
    let mut kept: Vec<u8> = Vec::new();
    while let Ok(length @ 1..) = server.read(&mut bytes) {
        kept.extend_from_slice(&bytes[..length]);
        while is_answer_ours.load(Ordering::SeqCst) && kept.len() >= 5 {
            let size = 1 + u32::from_be_bytes(kept[1..5].try_into().unwrap()) as usize;
            if kept.len() < size {
                break;
            }
            if kept[0] == b'Z' {
                is_answer_ours.store(false, Ordering::SeqCst);
            }
            kept.drain(..size);
        }
        if !is_answer_ours.load(Ordering::SeqCst) {
            if client.write_all(&kept).is_err() {
                break;
            }
            kept.clear();
        }
    }
    let _ = client.shutdown(Shutdown::Both);
}

#[test]
fn sessions_may_be_forgotten_under_a_running_worker() {
    let url = Server::shared().new_schema();
    let between = Intruder::before(&url);
    let store = PostgresStore::open(&between.url, PostgresOptions::default()).unwrap();
    let fixture = Fixture::on(&store);
    work(&fixture, &store, "before");
    for (number, sql) in ["DEALLOCATE ALL", "DISCARD ALL"].into_iter().enumerate() {
        let before = between.said_count.load(Ordering::SeqCst);
        between.say(sql);
        work(&fixture, &store, &format!("after_{number}"));
        assert!(
            between.said_count.load(Ordering::SeqCst) >= before + 2,
            "{sql}: readers and writer were met"
        );
    }
    assert_eq!(store.runs("default", &RunFilter::default(), &everything()).unwrap().len(), 9);
}
