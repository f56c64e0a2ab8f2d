//! Parses a connection URL: libpq's syntax, plus the schema.

use super::super::parameters::Parameters;
use super::super::tls::Protocols;
use super::{HostPort, ServerConfig, Ssl};
use crate::store::StoreError;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio_postgres::Config;
use tokio_postgres::config::{ChannelBinding, Host, SslMode, SslNegotiation};

/// The default schema.
const DEFAULT_SCHEMA: &str = "polos";

/// The default limit for connecting to a host and logging in.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The default time after which a connection with unacknowledged data is given up. The operating
/// system of the other machine acknowledges, not the server, so this cuts no slow query but detects
/// a dead host.
pub const TCP_USER_TIMEOUT: Duration = Duration::from_secs(6);

/// The default idle time after which TCP probes a connection.
pub const KEEPALIVES_IDLE: Duration = Duration::from_secs(4);

/// The default interval and number of TCP probes before the connection is given up.
const KEEPALIVES_INTERVAL: Duration = Duration::from_secs(2);
const KEEPALIVES_COUNT: u32 = 3;

impl ServerConfig {
    /// Parses a URL. Error messages don't contain its password.
    pub fn parse(url: &str) -> Result<Self, StoreError> {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        Self::parse_in(url, variable)
    }

    /// The same, with these environment variables.
    pub fn parse_in(url: &str, variable: impl Fn(&str) -> Option<String>) -> Result<Self, StoreError> {
        let (base, parameters) = url.split_once('?').unwrap_or((url, ""));
        let name = shown(base);
        let refused =
            |reason: String| StoreError::Unusable { path: name.clone().into(), action: "opened", reason };
        let parameters = Parameters::parse(parameters, &variable).map_err(refused)?;
        let passed_on = parameters.passed_on();
        let url = if passed_on.is_empty() { base.to_owned() } else { format!("{base}?{passed_on}") };
        let given: Config = url.parse().map_err(|error: tokio_postgres::Error| {
            refused(format!(
                "{}; expected `postgresql://user:password@host:5432/database`, with reserved \
                signs of user and password written as %XX",
                super::super::error::reason(&error)
            ))
        })?;
        let mut server = Self {
            config: Config::new(),
            hosts: Vec::new(),
            schema: DEFAULT_SCHEMA.to_owned(),
            ssl: Ssl::default(),
            wants_primary: false,
            is_balanced: false,
            connect_timeout: Some(CONNECT_TIMEOUT),
            passfile: None,
            known: Arc::default(),
            name: name.clone(),
        };
        server.take_hosts(&given, &parameters, &variable).map_err(refused)?;
        server.take_login(&given, &parameters, &variable);
        server.take_parameters(&parameters).map_err(refused)?;
        server.take_ssl(&parameters).map_err(refused)?;
        // Report missing certificate files now rather than at the first connection.
        server.tls()?;
        Ok(server)
    }

    fn take_hosts(
        &mut self,
        given: &Config,
        parameters: &Parameters,
        variable: &impl Fn(&str) -> Option<String>,
    ) -> Result<(), String> {
        // A parameter overrides the part before the `?`.
        let mut hosts = match parameters.get("host") {
            Some(names) => hosts_of(names),
            None => given.get_hosts().to_vec(),
        };
        let mut ips = ips_of("hostaddr", parameters.get("hostaddr"))?;
        let mut ports = match parameters.get("port") {
            Some(ports) => ports_of("port", ports)?,
            None => given.get_ports().to_vec(),
        };
        if hosts.is_empty() && ips.is_empty() {
            let names = variable("PGHOST");
            if names.is_none() {
                ips = ips_of("PGHOSTADDR", variable("PGHOSTADDR").as_deref())?;
            }
            if ips.is_empty() {
                const USUAL_SOCKET: &str = "/var/run/postgresql";
                let has_socket = cfg!(unix) && std::path::Path::new(USUAL_SOCKET).exists();
                let usual = if has_socket { USUAL_SOCKET } else { "localhost" };
                hosts = hosts_of(names.as_deref().unwrap_or(usual));
            }
        }
        if ports.is_empty()
            && let Some(of_environment) = variable("PGPORT")
        {
            ports = ports_of("PGPORT", &of_environment)?;
        }
        let count = hosts.len().max(ips.len());
        if !hosts.is_empty() && !ips.is_empty() && hosts.len() != ips.len() {
            return Err(format!(
                "there are {} hosts and {} `hostaddr`s; each host needs one",
                hosts.len(),
                ips.len()
            ));
        }
        if ports.len() > 1 && ports.len() != count {
            return Err(format!("there are {} ports and {count} hosts; each host needs one", ports.len()));
        }
        for number in 0..count {
            let port = ports.get(number).or(ports.first()).copied().unwrap_or(5432);
            self.hosts.push(HostPort {
                host: hosts.get(number).cloned(),
                ip: ips.get(number).copied(),
                port,
            });
        }
        Ok(())
    }

    fn take_login(
        &mut self,
        given: &Config,
        parameters: &Parameters,
        variable: &impl Fn(&str) -> Option<String>,
    ) {
        let config = &mut self.config;
        if let Some(user) =
            given.get_user().map(str::to_owned).or_else(|| variable("PGUSER").or_else(|| variable("USER")))
        {
            config.user(user);
        }
        if let Some(password) = given.get_password() {
            config.password(password);
        } else if let Some(password) = variable("PGPASSWORD") {
            config.password(password);
        } else {
            let usual = || std::env::home_dir().map(|home| home.join(".pgpass"));
            self.passfile = parameters.get("passfile").map(PathBuf::from).or_else(usual);
        }
        if let Some(database) = given.get_dbname().map(str::to_owned).or_else(|| variable("PGDATABASE")) {
            config.dbname(database);
        }
        if let Some(options) = given.get_options().map(str::to_owned).or_else(|| variable("PGOPTIONS")) {
            config.options(options);
        }
        let application = given.get_application_name().map(str::to_owned).or_else(|| variable("PGAPPNAME"));
        let fallback = parameters.get("fallback_application_name").unwrap_or("polos");
        config.application_name(application.unwrap_or_else(|| fallback.to_owned()));
    }

    fn take_parameters(&mut self, parameters: &Parameters) -> Result<(), String> {
        const TARGETS: &[&str] = &["any", "read-write", "primary", "read-only", "standby", "prefer-standby"];
        if let Some(schema) = parameters.get("schema") {
            schema.clone_into(&mut self.schema);
        }
        if parameters.has("schema") && !(1..=63).contains(&parameters.get("schema").unwrap_or("").len())
            || self.schema.contains(['\0', '@'])
        {
            return Err("`schema` needs a name of 1 to 63 bytes, without `@`".to_owned());
        }
        match parameters.word("target_session_attrs", TARGETS)? {
            Some("read-write" | "primary") => self.wants_primary = true,
            Some(other @ ("read-only" | "standby" | "prefer-standby")) => {
                return Err(format!(
                    "`target_session_attrs={other}` isn't possible: polos writes; it is `read-write` or `any`"
                ));
            }
            _ => {}
        }
        // With several hosts, one that accepts no writes is passed over.
        self.wants_primary |= self.hosts.len() > 1;
        self.is_balanced = parameters.word("load_balance_hosts", &["disable", "random"])? == Some("random");
        if parameters.get("connect_timeout").is_some() {
            let seconds = parameters.number("connect_timeout")?.filter(|seconds| *seconds > 0);
            self.connect_timeout = seconds.map(Duration::from_secs);
        }
        if let Some(time) = self.connect_timeout {
            self.config.connect_timeout(time);
        }
        // Zero means the operating system's default.
        let seconds = |name: &str, usual: Duration| {
            Ok::<_, String>(match parameters.number(name)? {
                Some(0) => None,
                number => Some(number.map_or(usual, Duration::from_secs)),
            })
        };
        match parameters.number("tcp_user_timeout")? {
            Some(0) => {}
            millis => {
                self.config.tcp_user_timeout(millis.map_or(TCP_USER_TIMEOUT, Duration::from_millis));
            }
        }
        self.config.keepalives(parameters.number("keepalives")? != Some(0));
        // The client library has no such default for the first probe. Systems use two hours.
        let idle = seconds("keepalives_idle", KEEPALIVES_IDLE)?.unwrap_or(Duration::from_secs(7_200));
        self.config.keepalives_idle(idle);
        if let Some(interval) = seconds("keepalives_interval", KEEPALIVES_INTERVAL)? {
            self.config.keepalives_interval(interval);
        }
        let count = match parameters.number("keepalives_count")? {
            None => parameters.number("keepalives_retries")?,
            count => count,
        };
        match count {
            Some(0) => {}
            count => {
                let count = count.map_or(KEEPALIVES_COUNT, |count| u32::try_from(count).unwrap_or(u32::MAX));
                self.config.keepalives_retries(count);
            }
        }
        Ok(())
    }

    fn take_ssl(&mut self, parameters: &Parameters) -> Result<(), String> {
        const MODES: &[&str] = &["disable", "allow", "prefer", "require", "verify-ca", "verify-full"];
        let switch = |name: &str| parameters.word(name, &["0", "1", "false", "true"]);
        let ssl = &mut self.ssl;
        ssl.mode = match parameters.word("sslmode", MODES)? {
            Some(mode) => MODES.iter().find(|known| **known == mode).copied(),
            None => match (switch("requiressl")?, switch("ssl")?) {
                (Some("1" | "true"), _) | (_, Some("1" | "true")) => Some("require"),
                (_, Some("0" | "false")) => Some("disable"),
                _ => None,
            },
        };
        ssl.root = parameters.get("sslrootcert").map(str::to_owned);
        if ssl.root.as_deref() == Some("system") && ssl.mode.is_none() {
            ssl.mode = Some("verify-full");
        }
        match parameters.word("sslcertmode", &["disable", "allow", "require"])? {
            Some("disable") => {}
            Some("require") => {
                return Err(
                    "`sslcertmode=require` isn't supported: polos can't enforce that the server asks \
                    for a certificate; `clientcert` in its pg_hba.conf can"
                        .to_owned(),
                );
            }
            _ => {
                ssl.certificate = parameters.get("sslcert").map(PathBuf::from);
                ssl.key = parameters.get("sslkey").map(PathBuf::from);
            }
        }
        ssl.revoked = parameters.get("sslcrl").map(PathBuf::from);
        ssl.hides_name = matches!(switch("sslsni")?, Some("0" | "false"));
        ssl.protocols = Protocols::between(
            parameters.get("ssl_min_protocol_version"),
            parameters.get("ssl_max_protocol_version"),
        )?;
        let is_local = self.hosts.iter().all(|place| matches!(place.host, Some(Host::Unix(_))));
        let config = &mut self.config;
        config.ssl_mode(match ssl.mode {
            Some("disable") => SslMode::Disable,
            _ if is_local => SslMode::Disable,
            Some("require" | "verify-ca" | "verify-full" | "allow") => SslMode::Require,
            _ => SslMode::Prefer,
        });
        if parameters.word("sslnegotiation", &["postgres", "direct"])? == Some("direct") {
            if !matches!(ssl.mode, Some("require" | "verify-ca" | "verify-full")) {
                return Err("`sslnegotiation=direct` needs `sslmode=require`, `verify-ca` or `verify-full`"
                    .to_owned());
            }
            ssl.is_direct = true;
            config.ssl_negotiation(SslNegotiation::Direct);
        }
        match parameters.word("channel_binding", &["disable", "prefer", "require"])? {
            Some("disable") => _ = config.channel_binding(ChannelBinding::Disable),
            Some("require") => _ = config.channel_binding(ChannelBinding::Require),
            _ => {}
        }
        Ok(())
    }
}

fn hosts_of(names: &str) -> Vec<Host> {
    // The client library distinguishes socket directories from names.
    let mut config = Config::new();
    for name in names.split(',') {
        config.host(name);
    }
    config.get_hosts().to_vec()
}

fn ips_of(name: &str, list: Option<&str>) -> Result<Vec<IpAddr>, String> {
    let each = list.into_iter().flat_map(|list| list.split(','));
    each.map(|ip| ip.parse().map_err(|_| format!("`{name}`: `{ip}` is no IP address"))).collect()
}

/// Parses a list of ports. An empty one is the default port.
fn ports_of(name: &str, list: &str) -> Result<Vec<u16>, String> {
    let number = |port: &str| match port {
        "" => Ok(5432),
        port => port.parse().map_err(|_| format!("`{name}`: `{port}` is no port")),
    };
    list.split(',').map(number).collect()
}

/// The URL without its password and parameters.
fn shown(base: &str) -> String {
    let Some((scheme, rest)) = base.split_once("://") else { return "postgresql".to_owned() };
    // The last `@` ends the user info, so that a password with an unescaped `@` isn't shown either.
    let Some((user, place)) = rest.rsplit_once('@') else { return format!("{scheme}://{rest}") };
    let user = user.split(':').next().unwrap_or("");
    format!("{scheme}://{user}@{place}")
}
