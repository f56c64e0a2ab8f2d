//! Errors of a database as a whole.

use std::path::PathBuf;

/// The store could not do its work. Messages say what to do. No message contains a password or a
/// payload.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum StoreError {
    /// A temporary problem: locked for too long, disk full, I/O error, connection lost. A retry may
    /// succeed.
    #[error("{0}")]
    Unavailable(String),
    /// The database refuses access until somebody acts: login rejected, database or schema missing,
    /// rights revoked, disk mounted read-only. Reported only for a database that has worked before;
    /// a worker waits until it works again.
    #[error("{0}")]
    Denied(String),
    /// The file is damaged.
    #[error("the database `{}` is damaged: {reason}; restore it from a copy, or move it away to start afresh", path.display())]
    Corrupt {
        /// Which file.
        path: PathBuf,
        /// The damage found.
        reason: String,
    },
    /// The file is not a polos database.
    #[error("`{}` is not a polos database: {reason}; choose another path, or move the file away", path.display())]
    Foreign {
        /// Which file.
        path: PathBuf,
        /// Why it is not one.
        reason: String,
    },
    /// A newer release wrote the file.
    #[error("the database `{}` has schema version {found}, and this release of polos knows up to {known}; upgrade polos", path.display())]
    Newer {
        /// Which file.
        path: PathBuf,
        /// The file's schema version.
        found: i64,
        /// The newest schema version that this release knows.
        known: i64,
    },
    /// The file can't be opened, created or written.
    #[error("the database `{}` can't be {action}: {reason}", path.display())]
    Unusable {
        /// Which file.
        path: PathBuf,
        /// `opened`, `created` or `written`.
        action: &'static str,
        /// The system's error, and what to do.
        reason: String,
    },
    /// The store was closed.
    #[error("the client is closed; make a new `PolosClient`")]
    Closed,
}

impl StoreError {
    /// Whether the same call may succeed later, by itself or after somebody repairs the database.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Unavailable(_) | Self::Denied(_) => true,
            Self::Corrupt { .. }
            | Self::Foreign { .. }
            | Self::Newer { .. }
            | Self::Unusable { .. }
            | Self::Closed => false,
        }
    }

    /// Whether the call keeps failing until somebody acts.
    pub fn needs_action(&self) -> bool {
        !matches!(self, Self::Unavailable(_))
    }

    /// Converts the error for a database that has worked before. It was usable then, so the problem
    /// can be fixed, and waiting for that is worthwhile.
    #[must_use]
    pub fn after_success(self) -> Self {
        match self {
            Self::Unusable { .. } | Self::Newer { .. } => Self::Denied(self.to_string()),
            other => other,
        }
    }
}
