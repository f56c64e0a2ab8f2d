//! A seeded simulation of whole installations: real engines over a real store, in virtual time,
//! with faults of every kind. A seed determines the whole simulation; one that breaks a promise
//! prints its seed and its last events.
//!
//! `POLOS_SIM_SEEDS=n` runs `n` seeds, `POLOS_SIM_SEED=seed` only that one. `POLOS_SIM_FROM=n`
//! starts at that seed.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::large_enum_variant, reason = "test helpers")]

mod calendars;
mod checks;
mod counts;
mod debounces;
mod events;
mod fault_events;
#[allow(dead_code, reason = "`tests/it` uses the rest")]
pub mod faults;
mod handlers;
mod hooks;
mod interruptions;
mod limits;
mod overrides;
mod workload;
mod world;

use polos::store::{MemoryStore, Store};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};
use world::SimResult;

/// Number of seeds in a daily run.
const SEEDS: u64 = 40;

/// The first seed of the daily run; earlier ones include long simulations.
const FROM: u64 = 10;

/// This many seeds cover every event at least once.
const ALL_IN: u64 = 200;

/// One of this many seeds also runs on SQLite; at least three do.
const ON_SQLITE: u64 = 67;

/// Each answer of PostgreSQL takes a round trip: if seeds are asked for, one of this many also runs
/// there.
#[cfg(feature = "postgres")]
const ON_POSTGRES: usize = 20;

/// Seeds with short simulations: of each theme, and two without one.
#[cfg(feature = "postgres")]
const SHORT: [u64; 8] = [1, 3, 5, 6, 8, 12, 20, 23];

/// Seeds that once broke a promise.
const FOUND: &[u64] = &[0, 2, 11, 14, 31, 36, 68, 76, 106, 121, 173, 191, 505, 506];

/// Every pair of an overlap and a catch-up policy.
const POLICY_PAIRS: usize = 15;

/// The events of the themes, which every daily run must cover.
const THEME_EVENTS: [&str; 20] = [
    "broken without its calendar",
    "claimed by priority",
    "continued with its calendar",
    "failed after interruptions",
    "filled a limit",
    "held for other code",
    "kept an override at a start",
    "killed its worker",
    "moved slots",
    "overridden",
    "ran a moved slot",
    "resumed by other code",
    "set a limit",
    "skipped by a calendar",
    "told of a late run",
    "told of an outcome",
    "told of an outcome by another",
    "told of missed slots",
    "told of skipped slots",
    "took over a hook call",
];

/// All events of the simulation, sorted.
const ALL_EVENTS: [&str; 55] = [
    "a debounced call repeated",
    "a due slot discarded",
    "a parent woken from another machine",
    "a wait timed out",
    "an event after its deadline",
    "an event before its wait",
    "an event behind another",
    "an event delivered",
    "an event for a wait",
    "an event sent again",
    "an event to a finished run",
    "backfilled",
    "broken without its calendar",
    "called again",
    "claimed as created",
    "claimed by priority",
    "claimed early and released",
    "continued with its calendar",
    "debounced",
    "debounced into a waiting run",
    "delayed",
    "deleted a calendar",
    "early claim revoked",
    "failed after interruptions",
    "filled a limit",
    "held for other code",
    "invoked",
    "invoked by the application",
    "kept a calendar in use",
    "kept an override at a start",
    "killed its worker",
    "left a newer declaration",
    "moved slots",
    "overridden",
    "paused after failures",
    "pruned",
    "pruned a one-off schedule",
    "ran a moved slot",
    "refused before its entry",
    "replaced an override by a new declaration",
    "reset to its declaration",
    "resumed by other code",
    "set a calendar",
    "set a limit",
    "several due slots discarded",
    "skip taken back",
    "skipped by a calendar",
    "skipped on request",
    "told of a late run",
    "told of an outcome",
    "told of an outcome by another",
    "told of missed slots",
    "told of skipped slots",
    "took over a hook call",
    "triggered",
];

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number of seeds"))
}

fn run_seed(seed: u64) -> SimResult {
    world::simulate(seed, Arc::new(MemoryStore::new()))
}

/// The same on a SQLite file.
#[cfg(feature = "sqlite")]
fn run_on_sqlite(seed: u64) -> SimResult {
    use polos::store::{SqliteOptions, SqliteStore, Synchronous};
    let folder = tempfile::tempdir().unwrap();
    // Power loss is not tested here: the file is deleted at the end.
    let options = SqliteOptions { synchronous: Synchronous::Normal, ..SqliteOptions::default() };
    let store: Arc<dyn Store> = Arc::new(SqliteStore::open(folder.path().join("polos.db"), options).unwrap());
    world::simulate(seed, store)
}

#[test]
#[expect(clippy::disallowed_methods, reason = "reports the speed, and decides nothing by it")]
fn promises_hold_for_every_seed() {
    if let Some(seed) = setting("POLOS_SIM_SEED") {
        run_seed(seed);
        return;
    }
    let began = Instant::now();
    let (mut worker_us, mut fired, mut expired, mut fenced) = (0, 0, 0, 0);
    let mut policies = BTreeSet::new();
    let mut event_counts: BTreeMap<&str, u64> = BTreeMap::new();
    let first = setting("POLOS_SIM_FROM").unwrap_or(FROM);
    for seed in first..first + setting("POLOS_SIM_SEEDS").unwrap_or(SEEDS) {
        let mut result = run_seed(seed);
        worker_us += result.worker_us;
        fired += result.fired_count;
        expired += result.expired_count;
        fenced += result.fenced_count;
        policies.append(&mut result.policies);
        for (event, count) in result.event_counts {
            *event_counts.entry(event).or_default() += count;
        }
    }
    let days = Duration::from_micros(u64::try_from(worker_us).unwrap()).as_secs_f64() / 86_400.0;
    let per_minute = days / began.elapsed().as_secs_f64() * 60.0;
    println!(
        "{days:.0} worker-days, {per_minute:.0} a minute; {fired} slots fired, {expired} workers expired, {fenced} writes fenced; {event_counts:?}"
    );
    if first == FROM && setting("POLOS_SIM_SEEDS").is_none_or(|seeds| seeds >= SEEDS) {
        let missing: Vec<_> =
            THEME_EVENTS.iter().filter(|event| !event_counts.contains_key(*event)).collect();
        assert!(missing.is_empty(), "{missing:?} of {event_counts:?}");
    }
    assert!(fired > 0 && expired > 0 && fenced > 0, "the simulations are too calm to prove anything");
    if setting("POLOS_SIM_SEEDS").is_some_and(|seeds| seeds >= ALL_IN) {
        assert_eq!(policies.len(), POLICY_PAIRS, "{policies:?}");
        assert!(event_counts.keys().eq(ALL_EVENTS.iter()), "{event_counts:?}");
    }
}

#[test]
fn seeds_that_once_broke_a_promise_pass() {
    for seed in FOUND {
        run_seed(*seed);
    }
}

/// Runs these seeds, and checks that each of these events happened.
fn run_themed<const N: usize>(seeds: [u64; N], event_counts: &[&str]) {
    let results = seeds.map(|seed| run_seed(seed).event_counts);
    for event in event_counts {
        assert!(results.iter().any(|result| result.contains_key(event)), "{event}: {results:?}");
    }
}

#[test]
fn interruption_counts_match_the_model() {
    run_themed([6, 22], &["killed its worker", "failed after interruptions"]);
}

#[test]
fn declared_schedules_match_the_model() {
    let event_counts = ["overridden", "reset to its declaration", "kept an override at a start"];
    run_themed([7, 39], &event_counts);
    run_themed([103, 135], &["left a newer declaration", "replaced an override by a new declaration"]);
}

#[test]
fn held_runs_continue_only_with_other_code() {
    run_themed([8, 24], &["held for other code", "resumed by other code"]);
}

#[test]
fn limits_are_kept_and_no_run_is_overtaken() {
    // The first catches permits that leak and operators' values that are lost, the second tokens
    // that return early, and the last two permits that return early and priorities that starve
    // others.
    run_themed([3, 19], &["claimed by priority", "filled a limit", "set a limit"]);
    run_themed([35, 115], &["claimed by priority", "filled a limit"]);
}

#[test]
fn late_runs_are_told_once_whoever_dies() {
    let event_counts = [
        "told of a late run",
        "told of an outcome",
        "told of an outcome by another",
        "told of skipped slots",
        "took over a hook call",
    ];
    run_themed([12, 28, 44, 60], &event_counts);
}

#[test]
fn each_slot_follows_the_calendars_whoever_dies() {
    let event_counts = [
        "broken without its calendar",
        "continued with its calendar",
        "deleted a calendar",
        "kept a calendar in use",
        "moved slots",
        "ran a moved slot",
        "skipped by a calendar",
    ];
    run_themed([13, 29, 141, 509, 637], &event_counts);
}

#[test]
fn every_wait_gets_one_event_or_times_out() {
    let event_counts = [
        "an event after its deadline",
        "an event before its wait",
        "an event behind another",
        "an event delivered",
        "an event for a wait",
        "an event sent again",
        "an event to a finished run",
        "a wait timed out",
        "called again",
    ];
    run_themed([1, 17, 33, 49], &event_counts);
}

#[test]
fn debounced_calls_match_the_model() {
    let event_counts = ["a debounced call repeated", "debounced", "debounced into a waiting run"];
    run_themed([1, 17], &event_counts);
}

#[test]
fn limits_events_and_debouncing_are_kept_together() {
    let event_counts = [
        "a debounced call repeated",
        "a wait timed out",
        "an event behind another",
        "an event delivered",
        "an event sent again",
        "claimed by priority",
        "debounced into a waiting run",
        "delayed",
        "filled a limit",
        "set a limit",
    ];
    run_themed([9, 73], &event_counts);
}

/// Panics with the first difference, if it is among the events that were kept.
fn assert_same_trace(seed: u64, one: &SimResult, other: &SimResult) {
    if one.trace_hash == other.trace_hash {
        return;
    }
    let (one, other) = (&one.last_events, &other.last_events);
    let place = one.iter().zip(other).position(|(left, right)| left != right).unwrap_or(0);
    let around = |events: &[String]| events[place.saturating_sub(4)..events.len().min(place + 2)].join("\n");
    let (one, other) = (around(one), around(other));
    panic!(
        "seed {seed}: the traces differ; more events are kept with POLOS_SIM_EVENTS:\n{one}\n---\n{other}"
    );
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    // One of each theme, none of them long.
    for seed in [1, 3, 6, 7, 8, 10, 12, 13] {
        assert_same_trace(seed, &run_seed(seed), &run_seed(seed));
    }
    assert_ne!(run_seed(1).trace_hash, run_seed(2).trace_hash);
}

/// PostgreSQL gives the same answers to the last event.
#[cfg(feature = "postgres")]
#[test]
fn a_seed_gives_the_same_trace_on_postgres() {
    let more = (0..setting("POLOS_SIM_SEEDS").unwrap_or(0)).step_by(ON_POSTGRES);
    for seed in SHORT.into_iter().chain(more) {
        let store = Arc::new(crate::server::Server::shared().new_store());
        assert_same_trace(seed, &world::simulate(seed, store), &run_seed(seed));
    }
}

/// SQLite gives the same answers to the last event.
#[cfg(feature = "sqlite")]
#[test]
fn a_seed_gives_the_same_trace_on_sqlite() {
    // The third has limits, and the last four one seed of each other theme.
    for seed in (1..=3 + setting("POLOS_SIM_SEEDS").unwrap_or(SEEDS) / ON_SQLITE).chain([6, 7, 8, 12]) {
        assert_same_trace(seed, &run_on_sqlite(seed), &run_seed(seed));
    }
    // Calendars keep their promises there too, but their traces differ: after some hours, workers have
    // read another number of times, so other reads fail. What makes them do so is not known.
    run_on_sqlite(13);
}
