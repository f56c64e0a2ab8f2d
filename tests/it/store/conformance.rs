//! The suite that every store passes. Each case is a sentence of the contract.

use super::fixture::Fixture;
use polos::store::{MemoryStore, Store};

mod backfills;
mod batches;
mod calendars;
mod claims;
mod completions;
mod counts;
mod debounces;
mod entries;
mod events;
mod families;
mod fires;
mod held;
mod hook_calls;
mod interruptions;
pub mod limits;
mod one_offs;
mod outcomes;
pub mod owners;
mod progress;
mod prunes;
mod reads;
mod skips;
mod upserts;
mod workers;

/// A case, by name.
type Case = (&'static str, fn(&Fixture<'_>));

/// Names the cases of one file.
macro_rules! cases {
    ($($name:ident),+ $(,)?) => {
        pub const CASES: &[super::Case] = &[$((stringify!($name), $name)),+];
    };
}
use cases;

fn all() -> impl Iterator<Item = Case> {
    let cases = [
        workers::CASES,
        owners::CASES,
        upserts::CASES,
        skips::CASES,
        outcomes::CASES,
        fires::CASES,
        claims::CASES,
        entries::CASES,
        backfills::CASES,
        batches::CASES,
        calendars::CASES,
        completions::CASES,
        debounces::CASES,
        interruptions::CASES,
        held::CASES,
        hook_calls::CASES,
        limits::CASES,
        families::CASES,
        progress::CASES,
        events::CASES,
        prunes::CASES,
        counts::CASES,
        one_offs::CASES,
        reads::CASES,
    ];
    cases.into_iter().flatten().copied()
}

/// Runs every case on an empty store, and names all that fail. `POLOS_TEST_CASE` names those to
/// run, separated by commas.
fn check(open: impl Fn(&str) -> Box<dyn Store>) {
    let only = std::env::var("POLOS_TEST_CASE").ok();
    let cases: Vec<_> = all()
        .filter(|(name, _)| only.as_ref().is_none_or(|only| only.split(',').any(|it| it == *name)))
        .collect();
    assert!(!cases.is_empty(), "there is no case {only:?}");
    let mut failures = Vec::new();
    for (name, case) in cases {
        let store = open(name);
        let run = std::panic::AssertUnwindSafe(|| {
            case(&Fixture::on(&*store));
            counts::check(&*store, name);
        });
        if std::panic::catch_unwind(run).is_err() {
            failures.push(name);
        }
    }
    assert!(failures.is_empty(), "failed: {failures:?}");
}

/// Whether there is a case of this name.
pub fn has_case(name: &str) -> bool {
    all().any(|(each, _)| each == name)
}

#[test]
fn every_case_has_its_own_name() {
    let mut names: Vec<_> = all().map(|(name, _)| name).collect();
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count);
}

#[test]
fn memory_conforms() {
    check(|_| Box::new(MemoryStore::new()));
}

#[cfg(feature = "sqlite")]
#[test]
fn sqlite_conforms() {
    let folder = tempfile::tempdir().unwrap();
    check(|name| {
        let path = folder.path().join(format!("{name}.db"));
        Box::new(polos::store::SqliteStore::open(path, super::quick()).unwrap())
    });
}

#[cfg(feature = "postgres")]
#[test]
fn postgres_conforms() {
    use polos::store::{PostgresOptions, PostgresStore};
    let server = super::server::Server::shared();
    let url = server.new_schema();
    drop(PostgresStore::open(&url, PostgresOptions::default()).unwrap());
    // One schema for all: to make its tables takes longer than most cases.
    check(|_| {
        server.empty(&url);
        Box::new(PostgresStore::open(&url, PostgresOptions::default()).unwrap())
    });
}
