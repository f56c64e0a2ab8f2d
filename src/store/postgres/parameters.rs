//! The parameters of a connection URL: those of libpq (release 17 and the new ones of 18), and
//! those that hosted services and other drivers add. Each one is used, ignored because it has no
//! effect on polos, or rejected by name with the reason. None is silently misread.

use std::collections::BTreeMap;

/// How a parameter is handled.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum Treatment {
    /// It has the same meaning as in libpq.
    Used,
    /// Passed to the client library unchanged.
    PassedOn,
    /// Harmless: it concerns a feature that polos does not have or detects itself.
    Ignored,
    /// Rejected, with this reason, unless its value is one of these harmless ones.
    Only(&'static [&'static str], &'static str),
}

use Treatment::{Ignored, Only, PassedOn, Used};

struct Parameter {
    name: &'static str,
    /// The environment variable that replaces a missing parameter. Those of hosts and login, which
    /// also replace what the URL has before its `?`, are in `config/url.rs`.
    variable: Option<&'static str>,
    treatment: Treatment,
}

const fn parameter(name: &'static str, variable: Option<&'static str>, treatment: Treatment) -> Parameter {
    Parameter { name, variable, treatment }
}

const NO_GSS: &str = "polos has no GSSAPI; use TLS (`sslmode=verify-full`)";
const OFF: &[&str] = &["", "0", "off", "no", "false"];

const PARAMETERS: &[Parameter] = &[
    // The server.
    parameter("host", None, Used),
    parameter("hostaddr", None, Used),
    parameter("port", None, Used),
    parameter("dbname", None, PassedOn),
    parameter("target_session_attrs", Some("PGTARGETSESSIONATTRS"), Used),
    parameter("load_balance_hosts", Some("PGLOADBALANCEHOSTS"), Used),
    parameter("service", None, Only(&[""], "polos reads no service file; write its parameters into the URL")),
    parameter(
        "servicefile",
        None,
        Only(&[""], "polos reads no service file; write its parameters into the URL"),
    ),
    // The login.
    parameter("user", None, PassedOn),
    parameter("password", None, PassedOn),
    parameter("passfile", Some("PGPASSFILE"), Used),
    parameter(
        "require_auth",
        Some("PGREQUIREAUTH"),
        Only(
            &[""],
            "polos can't enforce a method; `channel_binding=require` accepts none but scram-sha-256, from the server \
             itself, and `sslmode=verify-full` makes sure of the server",
        ),
    ),
    parameter("channel_binding", Some("PGCHANNELBINDING"), Used),
    parameter("krbsrvname", Some("PGKRBSRVNAME"), Ignored),
    parameter("gsslib", Some("PGGSSLIB"), Ignored),
    parameter("gssdelegation", Some("PGGSSDELEGATION"), Ignored),
    parameter("gssencmode", Some("PGGSSENCMODE"), Only(&["", "disable", "prefer"], NO_GSS)),
    parameter(
        "requirepeer",
        Some("PGREQUIREPEER"),
        Only(
            &[""],
            "polos does not check which user runs the server at a socket; see the permissions of its directory",
        ),
    ),
    parameter("scram_client_key", None, Only(&[""], "give the password instead")),
    parameter("scram_server_key", None, Only(&[""], "give the password instead")),
    parameter("oauth_issuer", None, Only(&[""], "polos logs in with a password or a certificate")),
    parameter("oauth_client_id", None, Only(&[""], "polos logs in with a password or a certificate")),
    parameter("oauth_client_secret", None, Only(&[""], "polos logs in with a password or a certificate")),
    parameter("oauth_scope", None, Only(&[""], "polos logs in with a password or a certificate")),
    // The connection.
    parameter("connect_timeout", Some("PGCONNECT_TIMEOUT"), Used),
    parameter("tcp_user_timeout", None, Used),
    parameter("keepalives", None, Used),
    parameter("keepalives_idle", None, Used),
    parameter("keepalives_interval", None, Used),
    parameter("keepalives_count", None, Used),
    parameter("keepalives_retries", None, Used),
    parameter("options", None, PassedOn),
    parameter("application_name", None, PassedOn),
    parameter("fallback_application_name", None, Used),
    // The client library always uses UTF-8.
    parameter("client_encoding", Some("PGCLIENTENCODING"), Ignored),
    parameter("min_protocol_version", None, Ignored),
    parameter("max_protocol_version", None, Ignored),
    parameter("replication", None, Only(OFF, "polos runs statements, and follows no replication stream")),
    // TLS.
    parameter("sslmode", Some("PGSSLMODE"), Used),
    parameter("requiressl", Some("PGREQUIRESSL"), Used),
    parameter("ssl", None, Used),
    parameter("sslnegotiation", Some("PGSSLNEGOTIATION"), Used),
    parameter("sslcompression", Some("PGSSLCOMPRESSION"), Ignored),
    parameter("sslcert", Some("PGSSLCERT"), Used),
    parameter("sslkey", Some("PGSSLKEY"), Used),
    parameter(
        "sslpassword",
        None,
        Only(&[""], "polos reads no encrypted keys; name one that isn't encrypted"),
    ),
    parameter("sslcertmode", Some("PGSSLCERTMODE"), Used),
    parameter("sslrootcert", Some("PGSSLROOTCERT"), Used),
    parameter("sslcrl", Some("PGSSLCRL"), Used),
    parameter(
        "sslcrldir",
        Some("PGSSLCRLDIR"),
        Only(&[""], "name one file of revocation lists with `sslcrl`"),
    ),
    parameter("sslsni", Some("PGSSLSNI"), Used),
    parameter("ssl_min_protocol_version", Some("PGSSLMINPROTOCOLVERSION"), Used),
    parameter("ssl_max_protocol_version", Some("PGSSLMAXPROTOCOLVERSION"), Used),
    parameter("sslkeylogfile", None, Only(&[""], "polos writes no keys to files")),
    // Our own.
    parameter("schema", None, Used),
    // Hints for other drivers, poolers, and hosted services. polos detects what it needs to know.
    parameter("pgbouncer", None, Ignored),
    parameter("supa", None, Ignored),
    parameter("uselibpqcompat", None, Ignored),
    parameter("connection_limit", None, Ignored),
    parameter("pool_timeout", None, Ignored),
    parameter("socket_timeout", None, Ignored),
    parameter("statement_cache_size", None, Ignored),
    parameter("prepareThreshold", None, Ignored),
    parameter(
        "sslaccept",
        None,
        Only(&["accept_invalid_certs"], "say `sslmode=verify-full` for `sslaccept=strict`"),
    ),
];

/// The parameters of a URL, completed from the environment.
#[derive(Default, Debug)]
pub(super) struct Parameters {
    used: BTreeMap<&'static str, String>,
    /// Unchanged, as `name=value`.
    passed_on: Vec<String>,
}

impl Parameters {
    /// Parses the part of a URL after its `?`. The last of several equal parameters wins. The error
    /// names the parameter but not a value that may be secret.
    pub fn parse(text: &str, variable: impl Fn(&str) -> Option<String>) -> Result<Self, String> {
        let mut found = Self::default();
        for part in text.split('&').filter(|part| !part.is_empty()) {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            let value = decoded(value)
                .ok_or_else(|| format!("`{name}` is not written as URLs are: a % without two digits"))?;
            let known = PARAMETERS.iter().find(|known| known.name == name).ok_or_else(|| unknown(name))?;
            match known.treatment {
                PassedOn => found.passed_on.push(part.to_owned()),
                _ => found.take(known, value, None)?,
            }
        }
        for known in PARAMETERS {
            if !found.used.contains_key(known.name)
                && let Some(name) = known.variable
                && let Some(value) = variable(name)
            {
                found.take(known, value, Some(name))?;
            }
        }
        Ok(found)
    }

    fn take(&mut self, known: &Parameter, value: String, variable: Option<&str>) -> Result<(), String> {
        match known.treatment {
            Used => _ = self.used.insert(known.name, value),
            Only(harmless, reason) if !harmless.contains(&&*value) => {
                let of = variable.map_or(String::new(), |name| format!(" (of the environment's {name})"));
                return Err(format!("the parameter `{}`{of} isn't supported: {reason}", known.name));
            }
            Only(..) | Ignored | PassedOn => {}
        }
        Ok(())
    }

    /// The value of a parameter that is used. Like libpq, takes an empty one for missing.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.used.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// Whether the URL names it, even without a value.
    pub fn has(&self, name: &str) -> bool {
        self.used.contains_key(name)
    }

    /// A whole number. Like libpq, takes a negative one for missing.
    pub fn number(&self, name: &str) -> Result<Option<u64>, String> {
        let Some(value) = self.get(name) else { return Ok(None) };
        match value.trim().parse::<i64>() {
            Ok(number) => Ok(u64::try_from(number).ok()),
            Err(_) => Err(format!("`{name}={value}` isn't a whole number")),
        }
    }

    /// One of `words`; anything else is an error.
    pub fn word<'w>(&self, name: &str, words: &[&'w str]) -> Result<Option<&'w str>, String> {
        let Some(value) = self.get(name) else { return Ok(None) };
        match words.iter().find(|word| **word == value) {
            Some(word) => Ok(Some(word)),
            None => Err(format!("`{name}={value}` isn't known; it is one of `{}`", words.join("`, `"))),
        }
    }

    /// The parameters that the client library parses.
    pub fn passed_on(&self) -> String {
        self.passed_on.join("&")
    }
}

fn unknown(name: &str) -> String {
    let names = PARAMETERS.iter().map(|known| known.name);
    let nearest = names.min_by_key(|known| strsim::damerau_levenshtein(known, name));
    format!(
        "the parameter `{name}` isn't known; parameters are those of libpq, and `schema`. Is `{}` meant?",
        nearest.unwrap_or_default()
    )
}

/// The text with `%XX` decoded.
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
