//! What SQLite's failures tell the user.

use polos::store::internals::{failed_at_opening as at_opening, failed_in_use as in_use};
use rusqlite::ffi;
use std::path::Path;

#[test]
fn no_error_promises_that_somebody_tries_again() {
    let path = Path::new("/data/polos.db");
    let mut texts = Vec::new();
    for code in [
        ffi::SQLITE_FULL,
        ffi::SQLITE_IOERR,
        ffi::SQLITE_IOERR_SHMSIZE,
        ffi::SQLITE_IOERR_WRITE,
        ffi::SQLITE_BUSY,
        ffi::SQLITE_CANTOPEN,
        ffi::SQLITE_READONLY,
        ffi::SQLITE_NOMEM,
    ] {
        let error = rusqlite::Error::SqliteFailure(ffi::Error::new(code), None);
        texts.push(at_opening(path, &error).to_string());
        texts.push(in_use(path, &error).to_string());
    }
    for text in &texts {
        assert!(text.contains("/data/polos.db"), "{text}");
        for promise in ["by itself", "goes on", "continue"] {
            assert!(!text.contains(promise), "{text}");
        }
    }
    let asking_for_space = texts.iter().filter(|text| text.ends_with("free some space")).count();
    assert_eq!(asking_for_space, 4, "{texts:?}");
}
