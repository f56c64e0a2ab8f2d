//! Where the server is, as the URL says it: what libpq's URLs mean, and the schema.

use super::tls::{Tls, Verification};
use crate::store::StoreError;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode, TargetSessionAttrs};

/// Where the tables are, unless the URL says otherwise.
const DEFAULT_SCHEMA: &str = "polos";

/// Longest wait for a connection, unless the URL says otherwise.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A server, a database and a schema.
#[derive(Clone)]
pub(super) struct Address {
    config: Config,
    schema: String,
    /// For people: without the password.
    name: String,
    ssl: Ssl,
    wants_primary: bool,
    /// Copies share it.
    known: Arc<Known>,
}

/// What the connections found out.
#[derive(Default)]
struct Known {
    is_pooled: AtomicBool,
    has_worked: AtomicBool,
    has_schema: AtomicBool,
}

/// What the URL says about TLS.
#[derive(Clone, Default)]
struct Ssl {
    mode: Option<String>,
    root: Option<String>,
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
}

impl Address {
    /// Reads a URL. What it says of the password is in no message.
    pub fn parse(url: &str) -> Result<Self, StoreError> {
        let (base, parameters) = url.split_once('?').unwrap_or((url, ""));
        let mut address = Self {
            config: Config::new(),
            schema: DEFAULT_SCHEMA.to_owned(),
            name: shown(url),
            ssl: Ssl::default(),
            wants_primary: false,
            known: Arc::default(),
        };
        let mut others = Vec::new();
        for parameter in parameters.split('&').filter(|parameter| !parameter.is_empty()) {
            if !address.take(parameter)? {
                others.push(parameter);
            }
        }
        let url = if others.is_empty() { base.to_owned() } else { format!("{base}?{}", others.join("&")) };
        address.config = url.parse().map_err(|error: tokio_postgres::Error| {
            address.refused(&format!(
                "{}; expected `postgresql://user:password@host:5432/database`, with reserved \
                signs of user and password written as %XX",
                super::failure::reason(&error)
            ))
        })?;
        address.complete()?;
        Ok(address)
    }

    fn refused(&self, reason: &str) -> StoreError {
        StoreError::Unusable { path: self.name.clone().into(), action: "opened", reason: reason.to_owned() }
    }

    /// Takes a parameter that the client library doesn't know, or not as libpq does. Whether it was one.
    fn take(&mut self, parameter: &str) -> Result<bool, StoreError> {
        let (key, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        let value = decoded(value).ok_or_else(|| {
            self.refused(&format!("`{key}` is not written as URLs are: a % without two digits"))
        })?;
        match key {
            "schema" => {
                if value.is_empty() || value.len() > 63 || value.contains(['\0', '@']) {
                    return Err(self.refused("`schema` needs a name of 1 to 63 bytes, without `@`"));
                }
                self.schema = value;
            }
            "sslmode" => {
                const MODES: [&str; 6] =
                    ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"];
                if !MODES.contains(&&*value) {
                    let modes = MODES.join("`, `");
                    return Err(
                        self.refused(&format!("`sslmode={value}` isn't known; it is one of `{modes}`"))
                    );
                }
                self.ssl.mode = Some(value);
            }
            "sslrootcert" => self.ssl.root = Some(value),
            "sslcert" => self.ssl.certificate = Some(value.into()),
            "sslkey" => self.ssl.key = Some(value.into()),
            "target_session_attrs" if value == "primary" => {
                self.wants_primary = true;
            }
            "target_session_attrs" if value != "any" && value != "read-write" => {
                return Err(self.refused(&format!(
                    "`target_session_attrs={value}` isn't possible: polos writes; it is `read-write` or `any`"
                )));
            }
            "channel_binding" if value == "require" => {
                return Err(self.refused(
                    "`channel_binding=require` isn't supported; `sslmode=verify-full` \
                    makes sure of the server",
                ));
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Fills in what libpq takes from its surroundings.
    fn complete(&mut self) -> Result<(), StoreError> {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let config = &mut self.config;
        if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
            match variable("PGHOST") {
                Some(host) => config.host(host),
                None if std::path::Path::new("/var/run/postgresql").exists() => {
                    config.host("/var/run/postgresql")
                }
                None => config.host("localhost"),
            };
        }
        if config.get_ports().is_empty()
            && let Some(port) = variable("PGPORT").and_then(|port| port.parse().ok())
        {
            config.port(port);
        }
        if config.get_user().is_none()
            && let Some(user) = variable("PGUSER").or_else(|| variable("USER"))
        {
            config.user(user);
        }
        if config.get_password().is_none()
            && let Some(password) = variable("PGPASSWORD")
        {
            config.password(password);
        }
        if config.get_application_name().is_none() {
            config.application_name("polos");
        }
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(CONNECT_TIMEOUT);
        }
        if self.wants_primary || config.get_hosts().len() > 1 {
            // Of several hosts, one that takes no writes is of no use.
            config.target_session_attrs(TargetSessionAttrs::ReadWrite);
        }
        config.keepalives_idle(Duration::from_secs(10));
        let ssl = &mut self.ssl;
        ssl.mode = ssl.mode.take().or_else(|| variable("PGSSLMODE"));
        ssl.root = ssl.root.take().or_else(|| variable("PGSSLROOTCERT"));
        let is_local = config.get_hosts().iter().all(|host| matches!(host, Host::Unix(_)));
        config.ssl_mode(match self.ssl.mode.as_deref() {
            Some("disable") => SslMode::Disable,
            _ if is_local && !config.get_hosts().is_empty() => SslMode::Disable,
            Some("require" | "verify-ca" | "verify-full" | "allow") => SslMode::Require,
            _ => SslMode::Prefer,
        });
        // What TLS needs must be there before it is needed.
        self.tls().map(drop)
    }

    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The same, with a setting of the session.
    pub fn with_setting(&self, name: &str, value: &str) -> Self {
        let mut other = self.clone();
        let own = self.config.get_options().map_or_else(String::new, |own| format!("{own} "));
        other.config.options(format!("{own}-c {name}={value}"));
        other
    }

    /// Whether a pooler is in between, as far as is known.
    pub fn is_pooled(&self) -> bool {
        self.known.is_pooled.load(Ordering::Acquire)
    }

    pub fn note_pooler(&self) {
        self.known.is_pooled.store(true, Ordering::Release);
    }

    /// Whether the store has been opened, so that what is wrong later can pass.
    pub fn has_worked(&self) -> bool {
        self.known.has_worked.load(Ordering::Acquire)
    }

    pub fn note_success(&self) {
        self.known.has_worked.store(true, Ordering::Release);
    }

    /// Whether the schema was seen in the database.
    pub fn has_schema(&self) -> bool {
        self.known.has_schema.load(Ordering::Acquire)
    }

    pub fn note_schema(&self, exists: bool) {
        self.known.has_schema.store(exists, Ordering::Release);
    }

    /// An error of a new connection: strict at the first one, patient afterwards.
    pub fn judged(&self, error: StoreError) -> StoreError {
        if self.has_worked() { error.after_success() } else { error }
    }

    /// For people: without the password.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The role that we log in with.
    pub fn user(&self) -> &str {
        self.config.get_user().unwrap_or("<user>")
    }

    pub fn schema(&self) -> &str {
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

    /// Whether TLS is only the second choice.
    pub fn tries_plain_first(&self) -> bool {
        self.ssl.mode.as_deref() == Some("allow") && self.config.get_ssl_mode() == SslMode::Require
    }

    /// How to speak TLS.
    pub fn tls(&self) -> Result<Tls, StoreError> {
        let verification = match self.ssl.mode.as_deref() {
            Some("verify-full") => Verification::Full,
            Some("verify-ca") => Verification::Chain,
            // As libpq does, for the sake of old configurations.
            Some("require") if self.ssl.root.is_some() => Verification::Chain,
            _ => Verification::None,
        };
        if self.config.get_ssl_mode() == SslMode::Disable {
            return Ok(Tls::unverified());
        }
        let folder = std::env::home_dir().map(|home| home.join(".postgresql"));
        let root = self.ssl.root.clone().or_else(|| {
            let usual = folder.as_ref()?.join("root.crt");
            usual.exists().then(|| usual.to_string_lossy().into_owned())
        });
        Tls::new(verification, root.as_deref(), self.ssl.certificate.as_deref(), self.ssl.key.as_deref())
            .map_err(|reason| self.refused(&reason))
    }
}

/// An identifier as SQL has it.
pub(super) fn quoted(identifier: &str) -> String {
    format!("\"{}\"", identifier.replace('"', "\"\""))
}

/// The URL without its password and parameters. Where a reserved sign may belong to the password, nothing but the
/// scheme is shown.
fn shown(url: &str) -> String {
    let (base, parameters) = url.split_once('?').unwrap_or((url, ""));
    let Some((scheme, rest)) = base.split_once("://") else { return "postgresql".to_owned() };
    let (login, place) = rest.rsplit_once('@').unwrap_or(("", rest));
    let is_ambiguous = login.contains(['@', '/']) || parameters.contains('@');
    let (hosts, _) = place.split_once('/').unwrap_or((place, ""));
    // Without an `@`, what looks like a port may be a password.
    let is_port = |port: &str| port.bytes().all(|digit| digit.is_ascii_digit());
    let has_odd_port = hosts.split(',').any(|host| {
        let host = host.rsplit_once(']').map_or(host, |(_, behind)| behind);
        host.split_once(':').is_some_and(|(_, port)| !is_port(port))
    });
    if is_ambiguous || has_odd_port {
        return format!("{scheme}://...");
    }
    let user = login.split(':').next().unwrap_or("");
    let separator = if rest.contains('@') { "@" } else { "" };
    format!("{scheme}://{user}{separator}{place}")
}

/// What `%XX` stands for.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let digits = [rest.next()?, rest.next()?];
            bytes.push(u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_password_is_not_shown() {
        for url in [
            "postgresql://ada:s3cret@host/db",
            "postgresql://ada:s3c@s3cret@host/db?sslmode=disable",
            "postgresql://ada:s3c/s3cret@host:5x/db",
            "postgresql://ada:s3c?s3cret@host/db",
            "postgresql://ada:s3cret/db",
            "postgresql://ada:s3c,s3cret/db",
            "postgresql://ada:s3cret?sslmode=disable",
            "postgresql:/ada:s3cret@host/db",
            "postgresql://ada:s3cret@host/db?password=s3cret",
        ] {
            match Address::parse(url) {
                Ok(address) => assert!(!address.name().contains("s3c"), "{}", address.name()),
                Err(error) => assert!(!error.to_string().contains("s3c"), "{error}"),
            }
        }
    }

    #[test]
    fn wrong_parameters_are_named() {
        for (url, named) in [
            ("postgresql://h/d?sslmode=yes", "sslmode=yes"),
            ("postgresql://h/d?target_session_attrs=standby", "standby"),
            ("postgresql://h/d?schema=", "schema"),
            ("postgresql://h/d?nonsense=1", "nonsense"),
            ("postgresql://h:port/d", "port"),
        ] {
            let error = Address::parse(url).err().expect(url).to_string();
            assert!(error.contains(named), "{error}");
        }
    }

    #[test]
    fn several_hosts_are_asked_for_the_one_that_takes_writes() {
        let address = Address::parse("postgresql://u@a:1,b:2/d").unwrap();
        assert_eq!(address.config().get_hosts().len(), 2);
        assert_eq!(address.config().get_target_session_attrs(), TargetSessionAttrs::ReadWrite);
        assert_eq!(address.name(), "postgresql://u@a:1,b:2/d");
    }

    #[test]
    fn a_schema_is_quoted() {
        let address = Address::parse("postgresql://u@h/d?schema=My%22Schema").unwrap();
        assert_eq!(address.prefix(), "\"My\"\"Schema\".");
    }
}
