//! What the server's errors mean for the caller, with advice. Messages contain neither a password
//! nor a payload: what the server adds as "detail" may quote rows and is not included.

use super::config::ServerConfig;
use crate::store::StoreError;
use std::error::Error as _;
use tokio_postgres::Error;
use tokio_postgres::error::{Severity, SqlState};

/// Why a request failed.
#[derive(Debug)]
pub(in crate::store) enum PgError {
    /// An error of the server or the connection.
    Postgres(Error),
    /// No answer within the time limit.
    Silence,
    /// There is no connection.
    Store(StoreError),
}

impl From<Error> for PgError {
    fn from(error: Error) -> Self {
        Self::Postgres(error)
    }
}

impl From<StoreError> for PgError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl PgError {
    fn code(&self) -> Option<&SqlState> {
        match self {
            Self::Postgres(error) => error.code(),
            Self::Silence | Self::Store(_) => None,
        }
    }

    /// Whether the connection can't be used any more.
    pub fn is_broken(&self) -> bool {
        match self {
            Self::Postgres(error) => error.as_db_error().is_none_or(|db_error| {
                matches!(db_error.parsed_severity(), Some(Severity::Fatal | Severity::Panic))
                    // The server has become a standby. The next connection finds the primary.
                    || *db_error.code() == SqlState::READ_ONLY_SQL_TRANSACTION
                    || is_stale(db_error.code())
            }),
            Self::Silence | Self::Store(_) => true,
        }
    }

    /// Whether the connection was cut or fell silent: other connections to the server may be dead
    /// too.
    pub fn is_hangup(&self) -> bool {
        match self {
            Self::Postgres(error) => {
                error.is_closed() || error.source().is_some_and(<dyn std::error::Error>::is::<std::io::Error>)
            }
            Self::Silence => true,
            Self::Store(_) => false,
        }
    }

    /// Whether the server rejected the transaction because of a concurrent one, so that it should
    /// be retried.
    pub fn is_collision(&self) -> bool {
        self.code().is_some_and(|code| {
            [
                SqlState::T_R_SERIALIZATION_FAILURE,
                SqlState::T_R_DEADLOCK_DETECTED,
                // Another transaction created the same row. The next read finds it.
                SqlState::UNIQUE_VIOLATION,
            ]
            .contains(code)
        })
    }

    /// Whether the transaction certainly did not happen, although the connection is broken: either
    /// the server answered with an error, which rolls the transaction back, or it ended the session
    /// because the transaction was idle.
    pub fn was_rolled_back(&self) -> bool {
        match self {
            Self::Postgres(error) => error.as_db_error().is_some_and(|db_error| {
                db_error.parsed_severity() == Some(Severity::Error)
                    || *db_error.code() == SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT
            }),
            Self::Silence | Self::Store(_) => false,
        }
    }

    /// The error that callers get.
    pub fn into_store_error(self, server: &ServerConfig) -> StoreError {
        let name = server.name();
        match self {
            Self::Store(error) => error,
            Self::Silence => StoreError::Unavailable(format!(
                "the database `{name}` gave no answer in time; check the server and the network"
            )),
            Self::Postgres(error) => {
                let message = with_advice(&error, server);
                if error.code().is_some_and(needs_action) || is_of_another_type(&error) {
                    StoreError::Denied(format!("the database `{name}` refuses: {message}"))
                } else {
                    StoreError::Unavailable(format!("the database `{name}` failed: {message}"))
                }
            }
        }
    }
}

/// Whether our prepared statements are lost or stale: a column's type changed, `DEALLOCATE ALL`, or
/// a pooler mixed up sessions. A new connection prepares them again.
fn is_stale(code: &SqlState) -> bool {
    [
        // "cached plan must not change result type".
        SqlState::FEATURE_NOT_SUPPORTED,
        SqlState::INVALID_SQL_STATEMENT_NAME,
        SqlState::DUPLICATE_PSTATEMENT,
        SqlState::INVALID_CURSOR_NAME,
        SqlState::PROTOCOL_VIOLATION,
    ]
    .contains(code)
        // Internal errors, such as "cache lookup failed for type" after a table was altered.
        || code.code().starts_with("XX")
}

/// Whether the error stays until an operator acts: login rejected (28), database (3D) or schema
/// (3F) missing, privileges revoked or tables missing (42).
fn needs_action(code: &SqlState) -> bool {
    !is_stale(code) && ["28", "3D", "3F", "42"].iter().any(|class| code.code().starts_with(class))
}

/// Whether a column has a type that polos can't read.
fn is_of_another_type(error: &Error) -> bool {
    error.code().is_none() && error.to_string().contains("deserializing column")
}

/// The server's message, if only the data of a command can have caused the error.
pub(super) fn refusal(error: &PgError) -> Option<String> {
    let code = error.code()?;
    // Data exceptions, violated constraints, limits of the server (an index entry that is too
    // long).
    let is_about_data = ["22", "23", "54"].iter().any(|class| code.code().starts_with(class));
    match error {
        PgError::Postgres(error) if is_about_data => Some(reason(error)),
        _ => None,
    }
}

/// Why a connection could not be opened: a temporary fault, or one that an operator has to fix.
pub(super) fn at_opening(server: &ServerConfig, error: &Error) -> StoreError {
    let name = server.name();
    match verdict(server, error) {
        (true, reason) => StoreError::Unusable { path: name.into(), action: "opened", reason },
        (false, reason) => {
            let reached = if error.code().is_some() { "opened" } else { "reached" };
            StoreError::Unavailable(format!("the database `{name}` can't be {reached}: {reason}"))
        }
    }
}

/// Whether an operator has to act before a connection can be opened, and what is wrong.
pub(super) fn verdict(server: &ServerConfig, error: &Error) -> (bool, String) {
    if let Some(code) = error.code() {
        return (needs_action(code) || refuses_settings(error), with_advice(error, server));
    }
    let advice = local_advice(error);
    let text = advice.unwrap_or("check that the server runs, its address and its port");
    (advice.is_some(), format!("{}; {text}", reason(error)))
}

/// Whether a login failed because of a setting in it, which only poolers refuse: PgBouncer by the
/// first code, Amazon's RDS Proxy by the second. What a server refuses for a while, such as a
/// password or a role, has other codes.
pub(super) fn refuses_settings(error: &Error) -> bool {
    error.code().is_some_and(|code| ["08P01", "0A000"].contains(&code.code()))
}

fn with_advice(error: &Error, server: &ServerConfig) -> String {
    match advice(error, server) {
        Some(advice) => format!("{}; {advice}", reason(error)),
        None => reason(error),
    }
}

/// Advice on an error of the client library, unless the server could not be reached at all.
fn local_advice(error: &Error) -> Option<&'static str> {
    let text = reason(error);
    let says = |part: &str| text.contains(part);
    if says("password missing") {
        Some(
            "the server asks for a password, and the URL has none: write it into the URL \
             (`postgresql://user:password@host/database`), PGPASSWORD or the password file",
        )
    } else if says("server does not support TLS") {
        Some(
            "`sslmode` asks for encryption, and this server offers none: turn TLS on there \
             (`ssl = on`), or say `sslmode=prefer` where the network is trusted",
        )
    } else if says("did not use channel binding") {
        Some(
            "`channel_binding=require` needs TLS, and a password that the server checks by \
             scram-sha-256; say `channel_binding=prefer` where it can't do that",
        )
    } else if says("authentication error") {
        Some("the server asks for another kind of login than a password; see its pg_hba.conf")
    } else if says("performing TLS handshake") {
        Some("see `sslmode` and `sslrootcert` in the URL, and the server's certificate")
    } else {
        None
    }
}

fn advice(error: &Error, server: &ServerConfig) -> Option<String> {
    let code = if is_of_another_type(error) { "42703" } else { error.code()?.code() };
    let text = match code {
        "28P01" | "28000" => {
            "check user and password, whether the role may log in, and the server's pg_hba.conf"
        }
        "3D000" => "create it (`createdb`), or name another one",
        "42501" => return Some(advice_on_privileges(error, server)),
        "3F000" | "42P01" | "42703" | "42883" => {
            return Some(format!(
                "the schema `{}` or some of its tables are missing or were altered: restore them from a \
                 backup; where there is none, start a worker anew, which creates what is missing",
                server.schema()
            ));
        }
        "53300" => {
            "the server has no connections left: raise max_connections, or put PgBouncer in front of it"
        }
        "53100" => "the server's disk is full: free some space on it",
        "55P03" => "another transaction holds the rows; see pg_stat_activity for one that is left open",
        "25006" => "it is a standby: name the primary too, with `target_session_attrs=read-write`",
        _ => return None,
    };
    Some(text.to_owned())
}

/// How to grant the privileges that the role lacks.
fn advice_on_privileges(error: &Error, server: &ServerConfig) -> String {
    let (role, schema) = (server.user(), server.schema());
    // The message may be in another language. If it is not recognized, the advice is general.
    let message = error.as_db_error().map_or("", |db_error| db_error.message());
    if message.contains("row-level security") || message.contains("row security") {
        format!(
            "polos has to see every row of its tables: let an administrator run `ALTER ROLE \"{role}\" \
             BYPASSRLS`, or `ALTER TABLE ... DISABLE ROW LEVEL SECURITY` for the tables of schema `{schema}`"
        )
    } else if error.as_db_error().is_some_and(|db_error| db_error.parsed_severity() == Some(Severity::Fatal))
    {
        // At login. Later, privileges concern schemas and tables.
        format!("let an administrator run `GRANT CONNECT ON DATABASE ... TO \"{role}\"`")
    } else if !server.has_schema() {
        format!(
            "the role needs a schema of its own: let an administrator run `CREATE SCHEMA \"{schema}\" \
             AUTHORIZATION \"{role}\"`"
        )
    } else {
        format!(
            "the schema is there, and the role has no rights in it: let an administrator run `ALTER SCHEMA \
             \"{schema}\" OWNER TO \"{role}\"` and the same for its tables, or `GRANT USAGE ON SCHEMA \
             \"{schema}\" TO \"{role}\"; GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA \
             \"{schema}\" TO \"{role}\"`"
        )
    }
}

/// The message of the error, without the server's "detail".
pub(super) fn reason(error: &Error) -> String {
    if let Some(db_error) = error.as_db_error() {
        return format!("{} (SQLSTATE {})", db_error.message(), db_error.code().code());
    }
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}
