//! Translates the database's errors for the caller, with advice.

use crate::store::StoreError;
use rusqlite::ErrorCode;
use std::path::Path;

/// Whether waiting a little and trying again may help.
pub(super) fn is_busy(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked | ErrorCode::FileLockingProtocolFailed)
    )
}

/// Whether to discard the connection. After a failed write or sync, the contents of the system's
/// cache are unknown, and only a fresh connection reads the truth from the file.
pub(super) fn is_poison(error: &rusqlite::Error) -> bool {
    match error.sqlite_error_code() {
        None => false,
        Some(code) => !matches!(
            code,
            ErrorCode::DatabaseBusy
                | ErrorCode::DatabaseLocked
                | ErrorCode::FileLockingProtocolFailed
                | ErrorCode::DiskFull
                | ErrorCode::ConstraintViolation
                | ErrorCode::TooBig
                | ErrorCode::TypeMismatch
        ),
    }
}

/// The error for callers, of a database that was opened before.
pub fn in_use(path: &Path, error: &rusqlite::Error) -> StoreError {
    let shown = path.display();
    let reason = || reason(error);
    let Some(code) = error.sqlite_error_code() else {
        return StoreError::Unavailable(format!("the database `{shown}` gave an unexpected answer: {error}"));
    };
    match code {
        ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked | ErrorCode::FileLockingProtocolFailed => {
            StoreError::Unavailable(format!(
                "the database `{shown}` stayed locked by another process; see what else has the file open, \
                 for instance a backup or an open transaction of the sqlite3 shell"
            ))
        }
        // The caller decides whether to try again; a worker that is starting does not.
        ErrorCode::DiskFull => StoreError::Unavailable(format!(
            "the disk that holds the database `{shown}` is full; free some space"
        )),
        // SQLite reserves space for the index of its log, which a full disk doesn't have.
        ErrorCode::SystemIoFailure
            if error.sqlite_extended_error_code() == Some(rusqlite::ffi::SQLITE_IOERR_SHMSIZE) =>
        {
            StoreError::Unavailable(format!(
                "the disk that holds the database `{shown}` has no space for its file `-shm`; free some space"
            ))
        }
        ErrorCode::SystemIoFailure => StoreError::Unavailable(format!(
            "reading or writing the database `{shown}` failed: {}; check the disk, its quota and its mount",
            reason()
        )),
        ErrorCode::OutOfMemory => StoreError::Unavailable(format!("no memory left to use `{shown}`")),
        ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase => {
            StoreError::Corrupt { path: path.into(), reason: reason() }
        }
        // The file was moved: what is written would be lost.
        ErrorCode::ReadOnly
            if error.sqlite_extended_error_code() == Some(rusqlite::ffi::SQLITE_READONLY_DBMOVED) =>
        {
            unwritable(path, error)
        }
        // It was writable before: the disk was mounted read-only, or permissions were changed.
        ErrorCode::ReadOnly | ErrorCode::PermissionDenied => unwritable(path, error).after_success(),
        ErrorCode::CannotOpen => StoreError::Unavailable(format!(
            "the files of the database `{shown}` can't be opened: {}; check the permissions of its folder and the \
             limit on open files",
            reason()
        )),
        ErrorCode::NoLargeFileSupport => {
            StoreError::Unusable { path: path.into(), action: "written", reason: reason() }
        }
        _ => StoreError::Unavailable(format!("the database `{shown}` failed: {}", reason())),
    }
}

/// The error for callers, of a database that is being opened.
pub fn at_opening(path: &Path, error: &rusqlite::Error) -> StoreError {
    match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase) => foreign(path, "it is not a SQLite file"),
        Some(ErrorCode::CannotOpen) => StoreError::Unusable {
            path: path.into(),
            action: "opened",
            reason: format!(
                "{}; the file and its folder must be readable and writable for this user",
                reason(error)
            ),
        },
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => unwritable(path, error),
        _ => in_use(path, error),
    }
}

fn unwritable(path: &Path, error: &rusqlite::Error) -> StoreError {
    StoreError::Unusable {
        path: path.into(),
        action: "written",
        reason: format!("{}; the file and its folder must be writable", reason(error)),
    }
}

/// The error for a file of another program.
pub(super) fn foreign(path: &Path, reason: &str) -> StoreError {
    StoreError::Foreign { path: path.into(), reason: reason.into() }
}

/// The message of `SQLite`, without the statement, which may contain data.
pub(super) fn reason(error: &rusqlite::Error) -> String {
    match error {
        rusqlite::Error::SqliteFailure(failure, text) => {
            let text = text.clone().unwrap_or_else(|| failure.to_string());
            format!("{text} (SQLite error {})", failure.extended_code)
        }
        rusqlite::Error::SqlInputError { error, msg, .. } => {
            format!("{msg} (SQLite error {})", error.extended_code)
        }
        other => other.to_string(),
    }
}
