//! Reading a URL: what libpq's URLs mean, and the schema.

use super::super::parameters::Parameters;
use super::super::tls::Protocols;
use super::{Address, Place, Ssl};
use crate::store::StoreError;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio_postgres::Config;
use tokio_postgres::config::{ChannelBinding, Host, SslMode, SslNegotiation};

/// Where the tables are, unless the URL says otherwise.
const DEFAULT_SCHEMA: &str = "polos";

/// How long a host may take until it has let us in, unless the URL says otherwise.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long what we sent may stay unacknowledged until the connection is given up, unless the URL says otherwise. It is
/// the other machine that acknowledges, not the server: a slow query is not cut by it, a dead host is.
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(6);

/// A connection on which nothing was heard for so long is tested, unless the URL says otherwise.
const KEEPALIVES_IDLE: Duration = Duration::from_secs(4);

/// How often, and how many times, it is tested until it is given up.
const KEEPALIVES_INTERVAL: Duration = Duration::from_secs(2);
const KEEPALIVES_COUNT: u32 = 3;

impl Address {
    /// Reads a URL. What it says of the password is in no message.
    pub fn parse(url: &str) -> Result<Self, StoreError> {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        Self::parse_in(url, variable)
    }

    /// The same, with these environment variables.
    fn parse_in(url: &str, variable: impl Fn(&str) -> Option<String>) -> Result<Self, StoreError> {
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
                super::super::failure::reason(&error)
            ))
        })?;
        let mut address = Self {
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
        address.take_hosts(&given, &parameters, &variable).map_err(refused)?;
        address.take_login(&given, &parameters, &variable);
        address.take_parameters(&parameters).map_err(refused)?;
        address.take_ssl(&parameters).map_err(refused)?;
        // What TLS needs must be there before it is needed.
        address.tls()?;
        Ok(address)
    }

    fn take_hosts(
        &mut self,
        given: &Config,
        parameters: &Parameters,
        variable: &impl Fn(&str) -> Option<String>,
    ) -> Result<(), String> {
        // A parameter is meant rather than what stands before the `?`.
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
            self.hosts.push(Place { host: hosts.get(number).cloned(), ip: ips.get(number).copied(), port });
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
        // Of several hosts, one that takes no writes is of no use.
        self.wants_primary |= self.hosts.len() > 1;
        self.is_balanced = parameters.word("load_balance_hosts", &["disable", "random"])? == Some("random");
        if parameters.get("connect_timeout").is_some() {
            let seconds = parameters.number("connect_timeout")?.filter(|seconds| *seconds > 0);
            self.connect_timeout = seconds.map(Duration::from_secs);
        }
        if let Some(time) = self.connect_timeout {
            self.config.connect_timeout(time);
        }
        // Zero is the system's own value.
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
        // The client library knows no "system's own" for the first test: two hours, as systems have it.
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
    // The client library tells folders of sockets from names.
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

/// An empty one is the usual one.
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
    // The last `@` ends the user's part: a password that should have been spelled %40 must not be shown either.
    let Some((user, place)) = rest.rsplit_once('@') else { return format!("{scheme}://{rest}") };
    let user = user.split(':').next().unwrap_or("");
    format!("{scheme}://{user}@{place}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> Result<Address, StoreError> {
        Address::parse_in(url, |_| None)
    }

    #[test]
    fn the_password_is_not_shown() {
        for url in [
            "postgresql://ada:s3cret@host/db",
            "postgresql://ada:s3c@s3cret@host/db?sslmode=disable",
            "postgresql://ada:s3c/s3cret@host:5x/db",
            "postgresql://ada:s3cret@host/db?password=s3cret",
            "postgresql://ada@host/db?password=s3cret&sslpassword=s3cret",
            "postgresql://ada@host/db?passwort=s3cret",
        ] {
            match parse(url) {
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
            ("postgresql://h/d?ssl_mode=require", "sslmode"),
            ("postgresql://h:port/d", "port"),
            ("postgresql://a,b/d?port=1,2,3", "3 ports"),
            ("postgresql://h/d?keepalives_count=many", "keepalives_count=many"),
        ] {
            let error = parse(url).err().expect(url).to_string();
            assert!(error.contains(named), "{error}");
        }
    }

    #[test]
    fn several_hosts_are_asked_for_the_one_that_takes_writes_the_last_one_first() {
        let address = parse("postgresql://u@a:1,b:2/d").unwrap();
        assert!(address.wants_primary() && address.has_several_hosts());
        assert_eq!(address.name(), "postgresql://u@a:1,b:2/d");
        assert_eq!((address.host_name(0), address.host_name(1)), ("a:1".to_owned(), "b:2".to_owned()));
        assert_eq!(address.order(), [0, 1]);
        address.note_host(1);
        address.note_success();
        assert_eq!(address.clone().order(), [1, 0]);
    }

    #[test]
    fn a_schema_is_quoted() {
        let address = parse("postgresql://u@h/d?schema=My%22Schema").unwrap();
        assert_eq!(address.prefix(), "\"My\"\"Schema\".");
    }

    /// What becomes of each parameter of libpq, release 17: `Ok` is accepted, `Err` refused with this in the message.
    #[test]
    #[expect(clippy::too_many_lines, reason = "a table")]
    fn every_parameter_of_libpq_is_used_ignored_or_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("certificate.pem");
        let made = rcgen::generate_simple_self_signed(["h".to_owned()]).unwrap();
        std::fs::write(&file, made.cert.pem()).unwrap();
        let key = folder.path().join("key.pem");
        std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        let (file, key) = (file.display(), key.display());
        let own_key = format!("sslcert={file}&sslkey={key}");
        let root = format!("sslmode=verify-full&sslrootcert={file}");
        let accepted = [
            "host=other",
            "hostaddr=10.0.0.1",
            "port=5433",
            "dbname=other",
            "user=eve",
            "password=p",
            "passfile=/nowhere",
            "channel_binding=disable",
            "channel_binding=prefer",
            "channel_binding=require",
            "connect_timeout=15",
            "connect_timeout=0",
            "client_encoding=UTF8",
            "client_encoding=auto",
            "options=-c%20geqo%3Doff",
            "options=endpoint%3Dep-1",
            "application_name=a",
            "fallback_application_name=a",
            "keepalives=0",
            "keepalives=1",
            "keepalives_idle=5",
            "keepalives_idle=0",
            "keepalives_interval=5",
            "keepalives_interval=0",
            "keepalives_count=5",
            "keepalives_count=0",
            "tcp_user_timeout=5000",
            "tcp_user_timeout=0",
            "replication=false",
            "gssencmode=disable",
            "gssencmode=prefer",
            "sslmode=disable",
            "sslmode=allow",
            "sslmode=prefer",
            "sslmode=require",
            &*root,
            "requiressl=0",
            "requiressl=1",
            "sslmode=require&sslnegotiation=direct",
            "sslnegotiation=postgres",
            "sslcompression=0",
            "sslcompression=1",
            &*own_key,
            "sslpassword=",
            "sslcertmode=disable",
            "sslcertmode=allow",
            "sslcrl=",
            "sslcrldir=",
            "sslsni=0",
            "sslsni=1",
            "requirepeer=",
            "ssl_min_protocol_version=TLSv1",
            "ssl_min_protocol_version=TLSv1.2",
            "ssl_min_protocol_version=TLSv1.3",
            "ssl_max_protocol_version=TLSv1.2",
            "ssl_max_protocol_version=TLSv1.3",
            "krbsrvname=postgres",
            "gsslib=gssapi",
            "gssdelegation=0",
            "service=",
            "target_session_attrs=any",
            "target_session_attrs=read-write",
            "target_session_attrs=primary",
            "load_balance_hosts=disable",
            "load_balance_hosts=random",
            "require_auth=",
            // What hosted services and other drivers write.
            "pgbouncer=true&connection_limit=1&pool_timeout=0",
            "supa=base-pooler.x",
            "ssl=true",
            "ssl=false",
            "sslmode=require&channel_binding=require",
            "uselibpqcompat=true&sslmode=require",
            "sslmode=verify-full&sslrootcert=system",
        ];
        for parameters in accepted {
            let url = format!("postgresql://u@h/d?{parameters}");
            parse(&url).unwrap_or_else(|error| panic!("{parameters}: {error}"));
        }
        for (parameters, said) in [
            ("require_auth=scram-sha-256", "`require_auth`"),
            ("replication=database", "`replication`"),
            ("gssencmode=require", "`gssencmode`"),
            ("sslmode=nonsense", "`sslmode=nonsense`"),
            ("sslmode=verify-full&sslrootcert=/nowhere", "/nowhere"),
            ("sslmode=require&sslcrl=/nowhere&sslrootcert=system", "/nowhere"),
            ("sslnegotiation=direct", "sslmode=require"),
            ("sslpassword=x", "`sslpassword`"),
            ("sslcertmode=require", "sslcertmode=require"),
            ("sslcrldir=/tmp", "`sslcrldir`"),
            ("sslsni=maybe", "sslsni=maybe"),
            ("requirepeer=postgres", "`requirepeer`"),
            ("ssl_min_protocol_version=TLSv9", "ssl_min_protocol_version=TLSv9"),
            ("ssl_max_protocol_version=TLSv1.1", "ssl_max_protocol_version=TLSv1.1"),
            ("ssl_min_protocol_version=TLSv1.3&ssl_max_protocol_version=TLSv1.2", "ssl_max_protocol_version"),
            ("service=app", "`service`"),
            ("target_session_attrs=read-only", "read-only"),
            ("target_session_attrs=prefer-standby", "prefer-standby"),
            ("load_balance_hosts=always", "load_balance_hosts=always"),
            ("channel_binding=always", "channel_binding=always"),
            ("hostaddr=nowhere", "hostaddr"),
            ("port=x", "port"),
            ("connect_timeout=soon", "connect_timeout=soon"),
            ("tcp_user_timeout=1s", "tcp_user_timeout=1s"),
        ] {
            let url = format!("postgresql://u@h/d?{parameters}");
            let error = parse(&url).err().expect(parameters).to_string();
            assert!(error.contains(said), "{parameters}: {error}");
            assert!(!error.contains("invalid connection string") || parameters.len() < 20, "{error}");
        }
    }

    #[test]
    fn the_environment_fills_in_what_the_url_leaves_out_as_with_libpq() {
        let variable = |name: &str| {
            let value = match name {
                "PGHOST" => "h1,h2",
                "PGPORT" => "1,2",
                "PGDATABASE" => "d",
                "PGUSER" => "u",
                "PGPASSWORD" => "p",
                "PGAPPNAME" => "a",
                "PGCONNECT_TIMEOUT" => "3",
                "PGSSLMODE" => "disable",
                _ => return None,
            };
            Some(value.to_owned())
        };
        let address = Address::parse_in("postgresql://", variable).unwrap();
        let config = address.config_of(1, None);
        assert_eq!(address.host_name(1), "h2:2");
        assert_eq!((config.get_user(), config.get_dbname()), (Some("u"), Some("d")));
        assert_eq!((config.get_password(), config.get_application_name()), (Some(&b"p"[..]), Some("a")));
        assert_eq!(address.connect_timeout(), Some(Duration::from_secs(3)));
        assert_eq!(config.get_ssl_mode(), SslMode::Disable);
        let address =
            Address::parse_in("postgresql://v:w@h:9/e?connect_timeout=4&sslmode=require", variable).unwrap();
        let config = address.config_of(0, None);
        assert_eq!((address.host_name(0), config.get_user()), ("h:9".to_owned(), Some("v")));
        assert_eq!((config.get_dbname(), config.get_password()), (Some("e"), Some(&b"w"[..])));
        assert_eq!(address.connect_timeout(), Some(Duration::from_secs(4)));
        assert_eq!(config.get_ssl_mode(), SslMode::Require);
    }

    #[test]
    fn a_dead_host_is_noticed_within_seconds_unless_the_url_says_otherwise() {
        let config = parse("postgresql://u@h/d").unwrap().config_of(0, None);
        assert_eq!(config.get_tcp_user_timeout(), Some(&TCP_USER_TIMEOUT));
        assert_eq!(config.get_keepalives_idle(), KEEPALIVES_IDLE);
        let url = "postgresql://u@h/d?tcp_user_timeout=1500&keepalives_idle=7&keepalives_interval=3&keepalives_count=9";
        let config = parse(url).unwrap().config_of(0, None);
        // Milliseconds, as with libpq.
        assert_eq!(config.get_tcp_user_timeout(), Some(&Duration::from_millis(1_500)));
        assert_eq!(config.get_keepalives_idle(), Duration::from_secs(7));
        assert_eq!(config.get_keepalives_interval(), Some(Duration::from_secs(3)));
        assert_eq!(config.get_keepalives_retries(), Some(9));
        let off = parse("postgresql://u@h/d?tcp_user_timeout=0&keepalives=0").unwrap().config_of(0, None);
        assert_eq!((off.get_tcp_user_timeout(), off.get_keepalives()), (None, false));
    }
}
