//! The configuration of a server (hosts, database, schema, TLS) and what connections found out
//! about it.

mod url;

pub use url::{KEEPALIVES_IDLE, TCP_USER_TIMEOUT};

use super::passfile::{self, Login};
use super::tls::{Protocols, Tls, TlsOptions, Verification};
use crate::store::StoreError;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;
use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode};

/// A server, a database and a schema.
#[derive(Clone)]
pub struct ServerConfig {
    /// The client library's settings, without hosts.
    config: Config,
    hosts: Vec<HostPort>,
    schema: String,
    /// The URL without the password, for messages.
    name: String,
    ssl: Ssl,
    wants_primary: bool,
    is_balanced: bool,
    connect_timeout: Option<Duration>,
    passfile: Option<PathBuf>,
    /// Shared by copies.
    known: Arc<Known>,
}

/// One of the hosts.
#[derive(Clone, Debug)]
struct HostPort {
    host: Option<Host>,
    ip: Option<IpAddr>,
    port: u16,
}

/// What connections found out about the server.
#[derive(Default)]
struct Known {
    is_pooled: AtomicBool,
    has_worked: AtomicBool,
    has_schema: AtomicBool,
    is_transferring: AtomicBool,
    /// The host of the last connection. It accepts writes, as far as we know.
    host: AtomicUsize,
    /// How many connections were found dead.
    deaths: AtomicU64,
    /// Round trips and statements.
    sent: [AtomicU64; 2],
}

/// The TLS parameters of the URL.
#[derive(Clone, Default)]
struct Ssl {
    mode: Option<&'static str>,
    root: Option<String>,
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
    revoked: Option<PathBuf>,
    hides_name: bool,
    is_direct: bool,
    protocols: Protocols,
}

impl ServerConfig {
    // ---- hosts ---------------------------------------------------------------------------------

    /// The hosts in the order in which to try them: the last one that accepted writes first.
    pub fn order(&self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.hosts.len()).collect();
        if self.is_balanced {
            let mut bytes = [0];
            // Without randomness, they are tried in the order of the URL.
            let _ = getrandom::fill(&mut bytes);
            let start = usize::from(bytes[0]) % order.len();
            order.rotate_left(start);
        }
        if self.has_worked() {
            let last = self.known.host.load(Ordering::Acquire);
            order.sort_by_key(|host| *host != last);
        }
        order
    }

    /// Records that this host accepts writes: it is tried first from now on.
    pub fn note_host(&self, host: usize) {
        self.known.host.store(host, Ordering::Release);
    }

    /// Whether the URL names more than one host.
    pub fn has_several_hosts(&self) -> bool {
        self.hosts.len() > 1
    }

    /// Whether a server that accepts no writes is to be passed over.
    pub fn wants_primary(&self) -> bool {
        self.wants_primary
    }

    /// How long connecting to a host and logging in may take.
    pub fn connect_timeout(&self) -> Option<Duration> {
        self.connect_timeout
    }

    /// The name and port to resolve, if the host is given by name.
    pub fn to_resolve(&self, host: usize) -> Option<(String, u16)> {
        let endpoint = &self.hosts[host];
        match (&endpoint.ip, &endpoint.host) {
            (None, Some(Host::Tcp(name))) => Some((name.clone(), endpoint.port)),
            _ => None,
        }
    }

    /// The client library's settings for one host, at this address.
    pub fn config_of(&self, host: usize, ip: Option<IpAddr>) -> Config {
        let endpoint = &self.hosts[host];
        let mut config = self.config.clone();
        match &endpoint.host {
            Some(Host::Tcp(name)) => _ = config.host(name),
            #[cfg(unix)]
            Some(Host::Unix(path)) => _ = config.host_path(path),
            None => {}
        }
        if let Some(ip) = ip.or(endpoint.ip) {
            config.hostaddr(ip);
        }
        config.port(endpoint.port);
        if config.get_password().is_none()
            && let Some(file) = &self.passfile
        {
            let named = match &endpoint.host {
                Some(Host::Tcp(name)) => name.clone(),
                None => endpoint.ip.map_or_else(String::new, |ip| ip.to_string()),
                #[cfg(unix)]
                Some(Host::Unix(_)) => "localhost".to_owned(),
            };
            let user = self.user();
            let database = config.get_dbname().unwrap_or(user).to_owned();
            let login = Login { host: &named, port: endpoint.port, database: &database, user };
            if let Some(password) = passfile::password(file, login) {
                config.password(password);
            }
        }
        config
    }

    /// A host's name and port, for messages.
    pub fn host_name(&self, host: usize) -> String {
        let endpoint = &self.hosts[host];
        let name = match &endpoint.host {
            Some(Host::Tcp(name)) => name.clone(),
            #[cfg(unix)]
            Some(Host::Unix(path)) => path.display().to_string(),
            None => endpoint.ip.map_or_else(String::new, |ip| ip.to_string()),
        };
        format!("{name}:{}", endpoint.port)
    }

    /// How many connections were found dead. Those that were opened earlier may be dead too.
    pub fn deaths(&self) -> u64 {
        self.known.deaths.load(Ordering::Acquire)
    }

    pub(super) fn note_death(&self) {
        self.known.deaths.fetch_add(1, Ordering::AcqRel);
    }

    /// How many round trips its connections have taken, and with how many statements. Does not
    /// count the preparation of statements.
    pub(super) fn sent(&self) -> (u64, u64) {
        let [trips, statements] = &self.known.sent;
        (trips.load(Ordering::Relaxed), statements.load(Ordering::Relaxed))
    }

    pub(super) fn note_sent(&self, statements: usize) {
        let [trips, sent] = &self.known.sent;
        trips.fetch_add(1, Ordering::Relaxed);
        sent.fetch_add(u64::try_from(statements).unwrap_or(0), Ordering::Relaxed);
    }

    /// A copy that also sets a setting of the session.
    pub(super) fn with_setting(&self, name: &str, value: &str) -> Self {
        let mut other = self.clone();
        let own = self.config.get_options().map_or_else(String::new, |own| format!("{own} "));
        other.config.options(format!("{own}-c {name}={value}"));
        other
    }

    // ---- findings ------------------------------------------------------------------------------

    /// Whether connections are known to go through a pooler.
    pub fn is_pooled(&self) -> bool {
        self.known.is_pooled.load(Ordering::Acquire)
    }

    pub(super) fn note_pooler(&self) {
        self.known.is_pooled.store(true, Ordering::Release);
    }

    /// Whether transactions may write to projects that a transfer has closed: they are its own.
    pub fn is_transferring(&self) -> bool {
        self.known.is_transferring.load(Ordering::Acquire)
    }

    /// Lets all later transactions write to closed projects.
    pub fn begin_transfer(&self) {
        self.known.is_transferring.store(true, Ordering::Release);
    }

    /// Whether the store has been opened. Errors after that may be temporary.
    pub fn has_worked(&self) -> bool {
        self.known.has_worked.load(Ordering::Acquire)
    }

    /// Records that a connection has worked.
    pub fn note_success(&self) {
        self.known.has_worked.store(true, Ordering::Release);
    }

    /// Whether the schema was seen in the database.
    pub fn has_schema(&self) -> bool {
        self.known.has_schema.load(Ordering::Acquire)
    }

    pub(super) fn note_schema(&self, exists: bool) {
        self.known.has_schema.store(exists, Ordering::Release);
    }

    /// The error to report for a new connection: after a first success, it counts as temporary.
    pub fn judged(&self, error: StoreError) -> StoreError {
        if self.has_worked() { error.after_success() } else { error }
    }

    // ---- names ---------------------------------------------------------------------------------

    /// The URL without the password, for messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The role to log in with.
    pub fn user(&self) -> &str {
        self.config.get_user().unwrap_or("<user>")
    }

    pub(in crate::store) fn schema(&self) -> &str {
        &self.schema
    }

    /// The schema as an SQL prefix: quoted, with its dot.
    pub fn prefix(&self) -> String {
        format!("{}.", quoted(&self.schema))
    }

    /// The advisory lock that edits share. It differs by schema, because advisory locks are those
    /// of the whole database.
    pub fn edits(&self) -> i64 {
        let name = format!("polos edits {}", self.schema);
        name.bytes()
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
                (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
            })
            .cast_signed()
    }

    // ---- TLS -----------------------------------------------------------------------------------

    /// Whether to try a connection without TLS first.
    pub fn tries_plain_first(&self) -> bool {
        self.ssl.mode == Some("allow") && self.config.get_ssl_mode() == SslMode::Require
    }

    /// The TLS connector for this configuration.
    pub(super) fn tls(&self) -> Result<Tls, StoreError> {
        let ssl = &self.ssl;
        let verification = match ssl.mode {
            Some("verify-full") => Verification::Full,
            Some("verify-ca") => Verification::Chain,
            // Like libpq, for compatibility with old configurations.
            Some("require") if ssl.root.is_some() => Verification::Chain,
            _ => Verification::None,
        };
        if self.config.get_ssl_mode() == SslMode::Disable {
            return Ok(Tls::unverified());
        }
        let folder = std::env::home_dir().map(|home| home.join(".postgresql"));
        let root = ssl.root.clone().or_else(|| {
            let usual = folder.as_ref()?.join("root.crt");
            usual.exists().then(|| usual.to_string_lossy().into_owned())
        });
        let options = TlsOptions {
            demands: verification,
            root: root.as_deref(),
            certificate: ssl.certificate.as_deref(),
            key: ssl.key.as_deref(),
            revoked: ssl.revoked.as_deref(),
            hides_name: ssl.hides_name,
            is_direct: ssl.is_direct,
            protocols: ssl.protocols,
        };
        Tls::new(&options).map_err(|reason| StoreError::Unusable {
            path: self.name.clone().into(),
            action: "opened",
            reason,
        })
    }
}

/// An identifier quoted for SQL.
pub(super) fn quoted(identifier: &str) -> String {
    format!("\"{}\"", identifier.replace('"', "\"\""))
}
