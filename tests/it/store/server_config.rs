//! Addresses of PostgreSQL servers: parameters, the environment, passwords.

use polos::store::StoreError;
use polos::store::internals::{KEEPALIVES_IDLE, Login, ServerConfig, TCP_USER_TIMEOUT, password_in};
use std::time::Duration;
use tokio_postgres::config::SslMode;

fn parse(url: &str) -> Result<ServerConfig, StoreError> {
    ServerConfig::parse_in(url, |_| None)
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

/// What becomes of each parameter of libpq, release 17: `Ok` is accepted, `Err` refused with this
/// in the message.
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
    let address = ServerConfig::parse_in("postgresql://", variable).unwrap();
    let config = address.config_of(1, None);
    assert_eq!(address.host_name(1), "h2:2");
    assert_eq!((config.get_user(), config.get_dbname()), (Some("u"), Some("d")));
    assert_eq!((config.get_password(), config.get_application_name()), (Some(&b"p"[..]), Some("a")));
    assert_eq!(address.connect_timeout(), Some(Duration::from_secs(3)));
    assert_eq!(config.get_ssl_mode(), SslMode::Disable);
    let address =
        ServerConfig::parse_in("postgresql://v:w@h:9/e?connect_timeout=4&sslmode=require", variable).unwrap();
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
    let url =
        "postgresql://u@h/d?tcp_user_timeout=1500&keepalives_idle=7&keepalives_interval=3&keepalives_count=9";
    let config = parse(url).unwrap().config_of(0, None);
    // Milliseconds, as with libpq.
    assert_eq!(config.get_tcp_user_timeout(), Some(&Duration::from_millis(1_500)));
    assert_eq!(config.get_keepalives_idle(), Duration::from_secs(7));
    assert_eq!(config.get_keepalives_interval(), Some(Duration::from_secs(3)));
    assert_eq!(config.get_keepalives_retries(), Some(9));
    let off = parse("postgresql://u@h/d?tcp_user_timeout=0&keepalives=0").unwrap().config_of(0, None);
    assert_eq!((off.get_tcp_user_timeout(), off.get_keepalives()), (None, false));
}

#[test]
fn the_first_line_that_fits_is_meant() {
    let text = "# comment\nother:5432:app:ada:no\ndb:*:app:ada:s3c\\:r\\\\et:more\n*:*:*:*:last\n";
    let login = Login { host: "db", port: 5433, database: "app", user: "ada" };
    assert_eq!(password_in(text, login).as_deref(), Some("s3c:r\\et:more"));
    assert_eq!(password_in(text, Login { user: "bob", ..login }).as_deref(), Some("last"));
    assert_eq!(password_in("db:5432:app", login), None);
}
