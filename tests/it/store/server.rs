//! A PostgreSQL server for the tests of this process, and a schema of its own for each store.

use polos::store::{PostgresOptions, PostgresStore};
use std::io::{BufRead, BufReader};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// Executes SQL as an administrator; the first column of its last rows.
pub fn administer(url: &str, sql: &str) -> Vec<String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await.unwrap();
        tokio::spawn(connection);
        let answers = client.simple_query(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
        answers
            .iter()
            .filter_map(|answer| match answer {
                tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
                _ => None,
            })
            .collect()
    })
}

/// Returns a URL in front of the server of `url`. `between` gets both ends of each connection: the
/// client's, and one to the server.
pub fn stand_before(url: &str, between: impl Fn(TcpStream, TcpStream) + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (head, tail) = url.split_once("127.0.0.1:").unwrap();
    let (port, tail) = tail.split_once('/').unwrap();
    let (server, own) = (format!("127.0.0.1:{port}"), listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let (client, server) = (client.unwrap(), TcpStream::connect(&server).unwrap());
            for stream in [&client, &server] {
                stream.set_nodelay(true).unwrap();
            }
            between(client, server);
        }
    });
    format!("{head}{own}/{tail}")
}

/// A server that ends when this is dropped, or this process with it.
pub struct Server {
    pub url: String,
    process: Child,
}

impl Server {
    /// Starts one. Fails where there is none to start: nothing is skipped.
    pub fn start(arguments: &[&str]) -> Self {
        // Two packages compile this file.
        let script = "scripts/postgres-for-tests";
        let mut folders = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors();
        let root = folders.find(|folder| folder.join(script).exists()).unwrap();
        let script = root.join(script);
        let of_venv = root.join(".venv/bin/python");
        let python = if of_venv.exists() { of_venv } else { "python3".into() };
        let mut process = Command::new(python)
            .arg(script)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("Python starts the server for the tests");
        let mut url = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut url).unwrap();
        assert!(!url.is_empty(), "there is no PostgreSQL server to test with, see above");
        Self { url: url.trim().to_owned(), process }
    }

    /// PgBouncer in front of a server, which lends its connections for a transaction at a time.
    pub fn start_pooler(server: &Self) -> Self {
        Self::start(&["--pooler", &server.url])
    }

    /// The server that the tests share.
    pub fn shared() -> &'static Self {
        static SERVER: OnceLock<Server> = OnceLock::new();
        SERVER.get_or_init(|| Self::start(&[]))
    }

    /// The URL of a schema that nobody else has.
    pub fn new_schema(&self) -> String {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let sign = if self.url.contains('?') { '&' } else { '?' };
        format!("{}{sign}schema=test_{}_{number}", self.url, std::process::id())
    }

    /// Removes all rows from a schema that no store uses any more, as if it were new.
    pub fn empty(&self, url: &str) {
        let schema = url.rsplit_once("schema=").unwrap().1;
        let sql = format!(
            "DO $$
             DECLARE name text;
             BEGIN
                 FOR name IN SELECT tablename FROM pg_tables
                     WHERE schemaname = '{schema}' AND tablename NOT IN ('version', 'commits', 'database')
                 LOOP
                     EXECUTE format('DELETE FROM {schema}.%I', name);
                 END LOOP;
                 PERFORM setval(oid, 1, false) FROM pg_class
                     WHERE relkind = 'S' AND relnamespace = '{schema}'::regnamespace;
                 UPDATE {schema}.commits SET no = 0;
             END
             $$"
        );
        administer(&self.url, &sql);
    }

    pub fn new_store(&self) -> PostgresStore {
        PostgresStore::open(&self.new_schema(), PostgresOptions::default()).unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        let _ = self.process.wait();
    }
}
