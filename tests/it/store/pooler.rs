//! Poolers, which lend the server's connections to many clients: how they are told from a server,
//! and that everything works behind one.

use super::fixture::{Fixture, PROJECT, at, everything, new_run};
use super::postgres::{BUSY_TIMEOUT, Notes, open, pass_on};
use super::rows_read::Administrator;
use super::server::{Server, stand_before};
use polos::store::{ChangeObserver, Command, RunFilter, StoreReads, StoreWrites};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Condvar, Mutex};

/// What stands in front of a server, and refuses logins with the setting that only servers keep.
#[derive(Default)]
struct Front {
    /// The SQLSTATE of the refusals, if logins are refused.
    code: Mutex<Option<&'static str>>,
    refusals: Mutex<u32>,
    refused: Condvar,
    /// The ends of the connections to the server.
    open: Mutex<Vec<TcpStream>>,
}

impl Front {
    /// Returns it and its URL.
    fn of(url: &str) -> (Arc<Self>, String) {
        let front = Arc::new(Self::default());
        let serving = Arc::clone(&front);
        let url = stand_before(url, move |client, server| {
            let serving = Arc::clone(&serving);
            std::thread::spawn(move || serving.serve(client, server));
        });
        (front, format!("{url}&sslmode=disable"))
    }

    fn serve(&self, mut client: TcpStream, mut server: TcpStream) {
        let mut length = [0; 4];
        // A process that ends in the middle of a login is no fault.
        if client.read_exact(&mut length).is_err() {
            return;
        }
        let mut startup = vec![0; u32::from_be_bytes(length) as usize - 4];
        client.read_exact(&mut startup).unwrap();
        let refusal = *self.code.lock().unwrap();
        let has_setting = startup.windows(13).any(|part| part == b"polos.session");
        if let Some(code) = refusal
            && has_setting
        {
            let fields = format!("SFATAL\0VFATAL\0C{code}\0Mthis login is refused\0\0");
            let length = u32::try_from(fields.len() + 4).unwrap().to_be_bytes();
            client.write_all(&[b"E", &length[..], fields.as_bytes()].concat()).unwrap();
            drop(client);
            *self.refusals.lock().unwrap() += 1;
            self.refused.notify_all();
            return;
        }
        server.write_all(&[&length[..], &startup].concat()).unwrap();
        self.open.lock().unwrap().push(server.try_clone().unwrap());
        let (asking, asked) = (client.try_clone().unwrap(), server.try_clone().unwrap());
        std::thread::spawn(move || pass_on(asking, asked, || false));
        pass_on(server, client, || false);
    }

    /// Cuts all connections, and refuses logins with this SQLSTATE from now on.
    fn refuse(&self, code: &'static str) {
        *self.code.lock().unwrap() = Some(code);
        *self.refusals.lock().unwrap() = 0;
        for connection in self.open.lock().unwrap().drain(..) {
            // The client may have hung up.
            let _ = connection.shutdown(Shutdown::Both);
        }
    }

    fn admit(&self) {
        *self.code.lock().unwrap() = None;
    }

    fn wait_for_refusals(&self, count: u32) {
        let refusals = self.refusals.lock().unwrap();
        let late =
            self.refused.wait_timeout_while(refusals, BUSY_TIMEOUT, |refusals| *refusals < count).unwrap().1;
        assert!(!late.timed_out(), "it tries to log in");
    }
}

#[test]
fn a_server_that_refuses_logins_for_a_while_is_not_taken_for_a_pooler() {
    let (front, url) = Front::of(&Server::shared().new_schema());
    let store = open(&url);
    let notes = Arc::new(Notes::default());
    store.listen(Arc::clone(&notes) as Arc<dyn ChangeObserver>).unwrap();
    notes.wait_for_ticks();
    // A login without the setting succeeds meanwhile, as it may if the cause goes and comes back.
    for code in ["28000", "3D000", "53300", "57P03"] {
        front.refuse(code);
        let error = (0..10).find_map(|_| store.change_mark().err()).expect("the connection was cut");
        assert!(error.is_passing(), "{code}: {error:?}");
        // One of them is the listener's.
        front.wait_for_refusals(2);
        front.admit();
        notes.wait_for_ticks();
        store.change_mark().unwrap();
        assert_eq!(*notes.told.lock().unwrap(), Vec::<String>::new(), "{code}");
    }
    let before = *notes.changes.lock().unwrap();
    notes.wait_for_ticks();
    assert_eq!(*notes.changes.lock().unwrap(), before, "it is told, and doesn't ask every second");
}

#[test]
fn who_refuses_the_setting_alone_is_a_pooler() {
    for code in ["08P01", "0A000"] {
        let (front, url) = Front::of(&Server::shared().new_schema());
        front.refuse(code);
        let store = open(&url);
        let notes = Arc::new(Notes::default());
        store.listen(Arc::clone(&notes) as Arc<dyn ChangeObserver>).unwrap();
        notes.wait_for_ticks();
        assert_eq!(notes.told.lock().unwrap().len(), 1, "{code}");
        store.commit(&[Command::CreateRun(Box::new(new_run("run_1")))], at(0)).unwrap()[0].as_ref().unwrap();
        assert_eq!(store.runs(PROJECT, &RunFilter::default(), &everything()).unwrap().len(), 1);
        assert_eq!(*front.refusals.lock().unwrap(), 1, "{code}: it is asked once");
    }
}

#[test]
#[ignore = "needs PgBouncer, which no package manager of ours installs: `make test-pooler`"]
fn everything_works_behind_a_pooler_and_it_is_said_once() {
    let pooler = Server::start_pooler(Server::shared());
    super::model::compare(7, 60, &pooler.new_store());
    let url = pooler.new_schema();
    let store = open(&url);
    let notes = Arc::new(Notes::default());
    store.listen(Arc::clone(&notes) as Arc<dyn ChangeObserver>).unwrap();
    notes.wait_for_ticks();
    let told = notes.told.lock().unwrap();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains("pooler"), "{told:?}");
    drop(told);
    // Transactions of the application do not count their commits.
    assert!(*notes.changes.lock().unwrap() > 1, "workers look without being told");
    // Several connections of ours share few of the server's.
    std::thread::scope(|scope| {
        for name in 0..4 {
            let url = &url;
            scope.spawn(move || {
                let store = open(url);
                for number in 0..10 {
                    let new = new_run(&format!("run_{name}_{number}"));
                    store.commit(&[Command::CreateRun(Box::new(new))], at(0)).unwrap();
                }
            });
        }
    });
    assert_eq!(store.runs(PROJECT, &RunFilter::default(), &everything()).unwrap().len(), 40);
}

#[test]
#[ignore = "needs PgBouncer, which no package manager of ours installs: `make test-pooler`"]
fn limits_of_the_server_apply_to_no_read_behind_a_pooler() {
    let server = Server::start(&["--set", "statement_timeout=1234ms"]);
    let pooler = Server::start_pooler(&server);
    let url = pooler.new_schema();
    let schema = url.rsplit_once("schema=").unwrap().1;
    let store = open(&url);
    Fixture::on(&store).create(at(0), new_run("run_1"));
    Administrator::new(&server.url).execute(&format!(
        "CREATE FUNCTION {schema}.is_without_limits() RETURNS boolean STABLE LANGUAGE plpgsql AS $$ BEGIN
             IF current_setting('statement_timeout') = '1234ms' OR current_setting('row_security') = 'on' THEN
                 RAISE EXCEPTION 'limits of the server apply';
             END IF;
             RETURN true;
         END $$;
         ALTER TABLE {schema}.run RENAME TO all_runs;
         CREATE VIEW {schema}.run AS SELECT * FROM {schema}.all_runs WHERE {schema}.is_without_limits();"
    ));
    assert_eq!(store.runs(PROJECT, &RunFilter::default(), &everything()).unwrap().len(), 1);
    assert!(store.run(PROJECT, &"run_1".into()).unwrap().is_some());
    store.peers(PROJECT).unwrap();
}
