//! Where the server is, and what is known of it: hosts, database, schema.

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
    /// What the URL says, without hosts.
    config: Config,
    hosts: Vec<HostPort>,
    schema: String,
    /// For people: without the password.
    name: String,
    ssl: Ssl,
    wants_primary: bool,
    is_balanced: bool,
    connect_timeout: Option<Duration>,
    passfile: Option<PathBuf>,
    /// Copies share it.
    known: Arc<Known>,
}

/// One of the hosts.
#[derive(Clone, Debug)]
struct HostPort {
    host: Option<Host>,
    ip: Option<IpAddr>,
    port: u16,
}

/// What the connections found out.
#[derive(Default)]
struct Known {
    is_pooled: AtomicBool,
    has_worked: AtomicBool,
    has_schema: AtomicBool,
    /// The host of the last connection: it takes writes, as far as is known.
    host: AtomicUsize,
    /// How often a connection turned out to be dead.
    deaths: AtomicU64,
}

/// What the URL says about TLS.
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

    /// The hosts in the order in which they are tried: the last one that took writes first.
    pub fn order(&self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.hosts.len()).collect();
        if self.is_balanced {
            let mut bytes = [0];
            // Without randomness they are tried as they stand.
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

    /// The server with this number accepts writes: it comes first from now on.
    pub fn note_host(&self, host: usize) {
        self.known.host.store(host, Ordering::Release);
    }

    /// Whether the address names more than one server.
    pub fn has_several_hosts(&self) -> bool {
        self.hosts.len() > 1
    }

    /// Whether only a server that accepts writes will do.
    pub fn wants_primary(&self) -> bool {
        self.wants_primary
    }

    /// How long a host may take until it has let us in.
    pub fn connect_timeout(&self) -> Option<Duration> {
        self.connect_timeout
    }

    /// The name that has to be looked up, and the port, where a host is given by name.
    pub fn to_resolve(&self, host: usize) -> Option<(String, u16)> {
        let endpoint = &self.hosts[host];
        match (&endpoint.ip, &endpoint.host) {
            (None, Some(Host::Tcp(name))) => Some((name.clone(), endpoint.port)),
            _ => None,
        }
    }

    /// How to connect to one host, at this address of it.
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

    /// One host, for people.
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

    /// How often a connection turned out to be dead: others that were made before may be as well.
    pub fn deaths(&self) -> u64 {
        self.known.deaths.load(Ordering::Acquire)
    }

    pub(super) fn note_death(&self) {
        self.known.deaths.fetch_add(1, Ordering::AcqRel);
    }

    /// The same, with a setting of the session.
    pub(super) fn with_setting(&self, name: &str, value: &str) -> Self {
        let mut other = self.clone();
        let own = self.config.get_options().map_or_else(String::new, |own| format!("{own} "));
        other.config.options(format!("{own}-c {name}={value}"));
        other
    }

    // ---- what is known -------------------------------------------------------------------------

    /// Whether a pooler is in between, as far as is known.
    pub fn is_pooled(&self) -> bool {
        self.known.is_pooled.load(Ordering::Acquire)
    }

    pub(super) fn note_pooler(&self) {
        self.known.is_pooled.store(true, Ordering::Release);
    }

    /// Whether the store has been opened, so that what is wrong later can pass.
    pub fn has_worked(&self) -> bool {
        self.known.has_worked.load(Ordering::Acquire)
    }

    /// A connection has worked.
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

    /// An error of a new connection: strict at the first one, patient afterwards.
    pub fn judged(&self, error: StoreError) -> StoreError {
        if self.has_worked() { error.after_success() } else { error }
    }

    // ---- names ---------------------------------------------------------------------------------

    /// For people: without the password.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The role that we log in with.
    pub fn user(&self) -> &str {
        self.config.get_user().unwrap_or("<user>")
    }

    pub(super) fn schema(&self) -> &str {
        &self.schema
    }

    /// The schema as SQL has it, with its dot.
    pub fn prefix(&self) -> String {
        format!("{}.", quoted(&self.schema))
    }

    /// The number of the lock that edits share: one for each schema, since such locks are a whole database's.
    pub fn edits(&self) -> i64 {
        let name = format!("polos edits {}", self.schema);
        name.bytes()
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
                (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
            })
            .cast_signed()
    }

    // ---- TLS -----------------------------------------------------------------------------------

    /// Whether TLS is only the second choice.
    pub fn tries_plain_first(&self) -> bool {
        self.ssl.mode == Some("allow") && self.config.get_ssl_mode() == SslMode::Require
    }

    /// How to speak TLS.
    pub(super) fn tls(&self) -> Result<Tls, StoreError> {
        let ssl = &self.ssl;
        let verification = match ssl.mode {
            Some("verify-full") => Verification::Full,
            Some("verify-ca") => Verification::Chain,
            // As libpq does, for the sake of old configurations.
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

/// An identifier as SQL has it.
pub(super) fn quoted(identifier: &str) -> String {
    format!("\"{}\"", identifier.replace('"', "\"\""))
}
