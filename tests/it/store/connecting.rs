//! The way to a PostgreSQL server: hosts, logins, TLS, limits of roles, and what is said when it
//! can't be gone.

use super::fixture::{PROJECT, at, new_run};
use super::postgres::{pass_on, with_tls};
use super::server::{Server, administer, stand_before};
use polos::store::{Command, PostgresOptions, PostgresStore, RunFilter, StoreError, StoreReads, StoreWrites};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

fn open(url: &str) -> Result<PostgresStore, StoreError> {
    PostgresStore::open(url, PostgresOptions::default())
}

/// A server of one's own, on which these lines of `pg_hba.conf` come first.
fn with_hba(arguments: &[&str], lines: &[&str], sql: &str) -> Server {
    let server = Server::start(&[arguments, &["--set", "max_connections=40"]].concat());
    administer(&server.url, sql);
    let file = administer(&server.url, "SHOW hba_file").remove(0);
    let before = std::fs::read_to_string(&file).expect("the tests may read the server's files");
    let lines: Vec<&str> =
        lines.iter().copied().chain(before.lines().filter(|line| !line.starts_with('#'))).collect();
    let array = lines.iter().map(|line| format!("'{line}'")).collect::<Vec<_>>().join(",");
    administer(&server.url, &format!("COPY (SELECT unnest(ARRAY[{array}])) TO '{file}'"));
    administer(&server.url, "SELECT pg_reload_conf()");
    server
}

/// `host:port` of a server.
fn permit(server: &Server) -> String {
    server.url.split(['@', '/']).nth(3).unwrap().to_owned()
}

/// Asks until the server has read its configuration.
fn soon<T>(attempt: impl Fn() -> Option<T>) -> T {
    (0..2_000).find_map(|_| attempt()).expect("the server reads its configuration anew")
}

#[test]
fn what_is_wrong_with_a_login_is_said_and_what_to_do() {
    let server = with_hba(
        &[],
        &["host all scram all scram-sha-256", "host all gss all gss"],
        "CREATE ROLE scram LOGIN PASSWORD 's3cret'; CREATE ROLE gss LOGIN; CREATE ROLE plain LOGIN",
    );
    let url = |user: &str, parameters: &str| {
        format!("postgresql://{user}@{}/postgres{parameters}", permit(&server))
    };
    soon(|| {
        open(&url("scram", "?sslmode=disable"))
            .err()
            .filter(|error| error.to_string().contains("asks for a password"))
    });
    for (user, parameters, said) in [
        ("scram", "", "the server asks for a password, and the URL has none"),
        ("scram:wrong", "", "check user and password"),
        ("gss", "", "another kind of login"),
        ("plain", "?sslmode=require", "this server offers none"),
        ("scram:s3cret", "?channel_binding=require", "scram-sha-256"),
        ("plain", "", "CREATE SCHEMA \"polos\" AUTHORIZATION \"plain\""),
    ] {
        let error =
            open(&url(user, parameters)).err().unwrap_or_else(|| panic!("{user}{parameters} is let in"));
        assert!(!error.is_passing(), "{user}{parameters}: somebody has to act: {error}");
        let text = error.to_string();
        assert!(text.contains(said), "{user}{parameters}: {text}");
        assert!(!text.contains("can't be reached") && !text.contains("s3cret"), "{user}{parameters}: {text}");
    }
    // The schema is there, and what is missing are rights to it.
    drop(open(&server.url).unwrap());
    let error = open(&url("plain", "")).err().unwrap().to_string();
    assert!(error.contains("GRANT USAGE ON SCHEMA \"polos\" TO \"plain\""), "{error}");
    assert!(!error.contains("CREATE SCHEMA"), "{error}");
}

#[test]
fn a_standby_in_the_list_does_not_hide_what_is_wrong_with_the_primary() {
    let standby = Server::start(&["--set", "default_transaction_read_only=on"]);
    let primary = with_hba(&[], &["host all worker all reject"], "CREATE ROLE worker LOGIN");
    administer(&standby.url, "BEGIN READ WRITE; CREATE ROLE worker LOGIN; COMMIT");
    for hosts in [
        format!("{},{}", permit(&standby), permit(&primary)),
        format!("{},{}", permit(&primary), permit(&standby)),
    ] {
        let url = format!("postgresql://worker@{hosts}/postgres?target_session_attrs=read-write");
        let error = soon(|| open(&url).err().filter(|error| !error.is_passing())).to_string();
        assert!(error.contains("pg_hba.conf") && error.contains(&permit(&primary)), "{error}");
        // Both are told, and the cause comes first.
        let [cause, other] =
            ["pg_hba.conf", "it takes no writes"].map(|part| error.find(part).expect(&error));
        assert!(cause < other, "{error}");
    }
    let url = format!("postgresql://worker@{}/postgres?target_session_attrs=primary", permit(&standby));
    let error = open(&url).err().unwrap();
    assert!(error.is_passing() && error.to_string().contains("a promotion may be under way"), "{error}");
}

/// A host that accepts connections and says nothing; and how many it has accepted.
fn silent_host() -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let permit = listener.local_addr().unwrap().to_string();
    let count = Arc::new(AtomicUsize::new(0));
    let accepted = Arc::clone(&count);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            accepted.fetch_add(1, Ordering::SeqCst);
            // Until the other side hangs up.
            std::thread::spawn(move || stream.unwrap().read_to_end(&mut Vec::new()));
        }
    });
    (permit, count)
}

#[test]
fn the_last_primary_is_asked_first_and_a_silent_host_does_not_hold_up_the_others() {
    let (silent, accepted) = silent_host();
    let schema = Server::shared().new_schema();
    let (_, parameters) = schema.split_once('?').unwrap();
    // It would take longer than the test may.
    let url = format!(
        "postgresql://polos@{silent},{}/postgres?{parameters}&connect_timeout=3600",
        permit(Server::shared())
    );
    let store = open(&url).unwrap();
    assert_eq!(accepted.load(Ordering::SeqCst), 1);
    // Further connections, one after the other and at the same time.
    store.workflows(PROJECT).unwrap();
    std::thread::scope(|scope| {
        for number in 0..8 {
            let store = &store;
            scope.spawn(move || {
                store.runs(PROJECT, &RunFilter::default(), &super::fixture::everything()).unwrap();
                let new = new_run(&format!("run_{number}"));
                store.commit(&[Command::CreateRun(Box::new(new))], at(0)).unwrap();
            });
        }
    });
    assert_eq!(accepted.load(Ordering::SeqCst), 1, "the silent host is asked only once");
}

#[test]
fn a_login_can_be_bound_to_the_certificate() {
    let folder = tempfile::tempdir().unwrap();
    let server = with_tls(folder.path(), |arguments| {
        with_hba(
            arguments,
            &["hostssl all scram all scram-sha-256"],
            "CREATE ROLE scram LOGIN PASSWORD 's3cret'; GRANT CREATE ON DATABASE postgres TO scram",
        )
    });
    let root = folder.path().join("server.crt");
    let port = server.url.split([':', '/']).nth(4).unwrap();
    let url = |parameters: &str| format!("postgresql://scram:s3cret@localhost:{port}/postgres?{parameters}");
    soon(|| open(&format!("postgresql://scram@localhost:{port}/postgres?sslmode=require")).err());
    for parameters in [
        // As hosted services write it.
        "sslmode=require&channel_binding=require".to_owned(),
        "sslmode=require&channel_binding=prefer".to_owned(),
        "sslmode=require&channel_binding=disable".to_owned(),
        format!("sslmode=verify-full&sslrootcert={}&channel_binding=require", root.display()),
        "sslmode=require&channel_binding=require&ssl_min_protocol_version=TLSv1.3".to_owned(),
        "sslmode=require&channel_binding=require&ssl_max_protocol_version=TLSv1.2&sslsni=0".to_owned(),
    ] {
        let store = open(&url(&parameters)).unwrap_or_else(|error| panic!("{parameters}: {error}"));
        assert!(store.is_encrypted().unwrap(), "{parameters}");
    }
}

#[test]
fn limits_of_a_role_do_not_apply_to_our_own_transactions() {
    let server = Server::start(&["--set", "max_connections=30"]);
    administer(&server.url, "CREATE ROLE hurried LOGIN; GRANT CREATE ON DATABASE postgres TO hurried");
    for setting in [
        "statement_timeout = 100",
        "lock_timeout = 100",
        "idle_in_transaction_session_timeout = 100",
        "default_transaction_isolation = serializable",
        "default_transaction_read_only = on",
    ] {
        administer(&server.url, &format!("ALTER ROLE hurried SET {setting}"));
    }
    let url = server.url.replace("polos@", "hurried@");
    let holder = server.url.clone();
    // Somebody else migrates meanwhile, for longer than the role may wait or take.
    let holding = std::thread::spawn(move || {
        administer(
            &holder,
            "BEGIN; SELECT pg_advisory_xact_lock(hashtextextended('polos polos', 0)); SELECT pg_sleep(1); COMMIT",
        );
    });
    soon(|| {
        let sql = "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND granted";
        (!administer(&server.url, sql).is_empty()).then_some(())
    });
    let store = open(&url).unwrap();
    holding.join().unwrap();
    // Somebody holds rows for longer than the role may wait.
    store.commit(&[Command::CreateRun(Box::new(new_run("run_1")))], at(0)).unwrap();
    let holder = server.url.clone();
    let holding = std::thread::spawn(move || {
        administer(&holder, "BEGIN; LOCK polos.run IN EXCLUSIVE MODE; SELECT pg_sleep(1); COMMIT");
    });
    soon(|| {
        let sql = "SELECT 1 FROM pg_locks WHERE mode = 'ExclusiveLock' AND locktype = 'relation' AND granted";
        (!administer(&server.url, sql).is_empty()).then_some(())
    });
    store.commit(&[Command::CreateRun(Box::new(new_run("run_2")))], at(0)).unwrap();
    holding.join().unwrap();
}

/// Passes the server's messages on, after `change` has seen the content of each.
fn pass_changed(server: &mut TcpStream, client: &mut TcpStream, change: fn(&mut [u8])) -> Option<()> {
    let mut head = [0; 5];
    loop {
        server.read_exact(&mut head).ok()?;
        let length = u32::from_be_bytes(head[1..].try_into().unwrap()) as usize;
        let mut content = vec![0; length - 4];
        server.read_exact(&mut content).ok()?;
        change(&mut content);
        client.write_all(&[&head[..], &content].concat()).ok()?;
    }
}

/// Replaces what stands before or at a mark.
fn overwrite(content: &mut [u8], mark: &[u8], before: usize, text: &[u8]) {
    if let Some(place) = content.windows(mark.len()).position(|part| part == mark) {
        content[place - before..][..text.len()].copy_from_slice(text);
    }
}

#[test]
fn a_server_that_is_too_old_or_locks_nothing_is_refused_before_anything_is_created() {
    // The version number stands before the encoding, with the length of the latter between them.
    let is_old: fn(&mut [u8]) = |content| overwrite(content, b"UTF8", 10, b"110022");
    let is_another: fn(&mut [u8]) = |content| overwrite(content, b"PostgreSQL ", 0, b"CockroachDB");
    for (change, said) in [
        (is_old, "the server's version is 110022; PostgreSQL 12 or newer is needed"),
        (is_another, "the server is CockroachDB, which accepts advisory locks and locks nothing"),
    ] {
        let url = Server::shared().new_schema();
        let front = stand_before(&url, move |mut client, mut server| {
            let (asking, asked) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            std::thread::spawn(move || pass_on(asking, asked, || false));
            std::thread::spawn(move || pass_changed(&mut server, &mut client, change));
        });
        let error = open(&format!("{front}&sslmode=disable")).err().unwrap().to_string();
        assert!(error.contains(said), "{error}");
        let schema = url.rsplit_once("schema=").unwrap().1;
        let found = format!("SELECT count(*) FROM pg_namespace WHERE nspname = '{schema}'");
        assert_eq!(administer(&Server::shared().url, &found), ["0"]);
    }
}
