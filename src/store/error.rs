//! What goes wrong with a database as a whole.

use std::path::PathBuf;

/// The store could not do its work. Messages say what to do; none carries a password or a payload.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum StoreError {
    /// Passing trouble: locked for too long, disk full, I/O error, connection lost. Worth trying again.
    #[error("{0}")]
    Unavailable(String),
    /// The database refuses us until somebody acts: login rejected, database or schema missing, rights revoked, disk
    /// mounted read-only. Only said of a database that has worked before; a worker waits until it works again.
    #[error("{0}")]
    Denied(String),
    /// The file is damaged.
    #[error("the database `{}` is damaged: {reason}; restore it from a copy, or move it away to start afresh", path.display())]
    Corrupt {
        /// Which file.
        path: PathBuf,
        /// What was found.
        reason: String,
    },
    /// Not a database of ours.
    #[error("`{}` is not a polos database: {reason}; choose another path, or move the file away", path.display())]
    Foreign {
        /// Which file.
        path: PathBuf,
        /// What was found.
        reason: String,
    },
    /// Written by a newer release.
    #[error("the database `{}` has schema version {found}, and this release of polos knows up to {known}; upgrade polos", path.display())]
    Newer {
        /// Which file.
        path: PathBuf,
        /// Its version.
        found: i64,
        /// The newest that we know.
        known: i64,
    },
    /// Can't be opened, created or written.
    #[error("the database `{}` can't be {action}: {reason}", path.display())]
    Unusable {
        /// Which file.
        path: PathBuf,
        /// `opened`, `created` or `written`.
        action: &'static str,
        /// What the system said, and what to do.
        reason: String,
    },
    /// The store was closed.
    #[error("the client is closed; make a new `PolosClient`")]
    Closed,
}

impl StoreError {
    /// Whether the same call may succeed later, by itself or because somebody repairs the database.
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

    /// Whether it won't work again before somebody acts.
    pub fn needs_action(&self) -> bool {
        !matches!(self, Self::Unavailable(_))
    }

    /// The same error of a database that has worked before. It must have been usable then, so what is wrong now can
    /// be put right, and is worth waiting for.
    #[must_use]
    pub fn after_success(self) -> Self {
        match self {
            Self::Unusable { .. } | Self::Newer { .. } => Self::Denied(self.to_string()),
            other => other,
        }
    }
}
