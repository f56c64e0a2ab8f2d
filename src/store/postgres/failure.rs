//! What the server's errors mean for the caller, with advice. Messages carry neither a password nor a payload: what the
//! server adds as "detail" may quote rows and is left out.

use crate::store::StoreError;
use std::error::Error as _;
use tokio_postgres::Error;
use tokio_postgres::error::{Severity, SqlState};

/// Why something did not get through.
#[derive(Debug)]
pub(super) enum Trouble {
    /// The server or the connection says so.
    Postgres(Error),
    /// No answer in time.
    Silence,
    /// There is no connection.
    Store(StoreError),
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Self::Postgres(error)
    }
}

impl From<StoreError> for Trouble {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl Trouble {
    fn code(&self) -> Option<&SqlState> {
        match self {
            Self::Postgres(error) => error.code(),
            Self::Silence | Self::Store(_) => None,
        }
    }

    /// Whether the connection is of no more use.
    pub fn is_broken(&self) -> bool {
        match self {
            Self::Postgres(error) => error.as_db_error().is_none_or(|said| {
                matches!(said.parsed_severity(), Some(Severity::Fatal | Severity::Panic))
                    // It has become a standby: the next connection finds the one that takes writes.
                    || *said.code() == SqlState::READ_ONLY_SQL_TRANSACTION
            }),
            Self::Silence | Self::Store(_) => true,
        }
    }

    /// Whether the server itself says that the transaction met another one, and is to be done again.
    pub fn is_collision(&self) -> bool {
        self.code().is_some_and(|code| {
            [
                SqlState::T_R_SERIALIZATION_FAILURE,
                SqlState::T_R_DEADLOCK_DETECTED,
                // Somebody created the same at the same time: the next look finds it.
                SqlState::UNIQUE_VIOLATION,
            ]
            .contains(code)
        })
    }

    /// Whether the transaction certainly did not happen, though the connection is gone.
    pub fn was_cut_off(&self) -> bool {
        self.code() == Some(&SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT)
    }

    /// As callers see it.
    pub fn told(self, name: &str) -> StoreError {
        match self {
            Self::Store(error) => error,
            Self::Silence => StoreError::Unavailable(format!(
                "the database `{name}` gave no answer in time; check the server and the network"
            )),
            Self::Postgres(error) => StoreError::Unavailable(match advice(&error) {
                Some(advice) => format!("the database `{name}` failed: {}; {advice}", reason(&error)),
                None => format!("the database `{name}` failed: {}", reason(&error)),
            }),
        }
    }
}

/// What the database says, where the error is one that only a command's data can have caused.
pub(super) fn refusal(trouble: &Trouble) -> Option<String> {
    let code = trouble.code()?;
    // Data exceptions, violated constraints, limits of the database (an index entry that is too long).
    let is_about_data = ["22", "23", "54"].iter().any(|class| code.code().starts_with(class));
    match trouble {
        Trouble::Postgres(error) if is_about_data => Some(reason(error)),
        _ => None,
    }
}

/// Why a connection could not be made: passing trouble, or something that somebody has to put right.
pub(super) fn at_opening(name: &str, error: &Error) -> StoreError {
    let Some(code) = error.code() else {
        return StoreError::Unavailable(format!(
            "the database `{name}` can't be reached: {}; check that the server runs, its address and its port",
            reason(error)
        ));
    };
    // 08P01 is what a pooler says to a setting that it doesn't know.
    let is_for_good = ["28", "3D", "42", "08P01"].iter().any(|class| code.code().starts_with(class));
    let reason = match advice(error) {
        Some(advice) => format!("{}; {advice}", reason(error)),
        None => reason(error),
    };
    if is_for_good {
        return StoreError::Unusable { path: name.into(), action: "opened", reason };
    }
    StoreError::Unavailable(format!("the database `{name}` can't be opened: {reason}"))
}

fn advice(error: &Error) -> Option<&'static str> {
    let code = error.code()?;
    Some(match code.code() {
        "28P01" | "28000" => "check user and password, and the server's pg_hba.conf",
        "3D000" => "create it (`createdb`), or name another one",
        "42501" => {
            "the user needs its own schema: let an administrator run `CREATE SCHEMA polos AUTHORIZATION <user>`"
        }
        "53300" => {
            "the server has no connections left: raise max_connections, or put PgBouncer in front of it"
        }
        "53100" => "free some space on the server, work then goes on by itself",
        "55P03" => "another transaction holds the rows; see pg_stat_activity for one that is left open",
        "25006" => "it is a standby: name the primary too, with `target_session_attrs=read-write`",
        _ => return None,
    })
}

/// What is said, without details.
pub(super) fn reason(error: &Error) -> String {
    if let Some(said) = error.as_db_error() {
        return format!("{} (SQLSTATE {})", said.message(), said.code().code());
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
