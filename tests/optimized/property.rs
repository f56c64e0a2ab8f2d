//! Configuration of property tests.

use proptest::test_runner::{Config, RngSeed};

/// The default seed, so that test runs are repeatable; `PROPTEST_RNG_SEED` overrides it.
const SEED: u64 = 20_260_101;

/// A configuration with `cases` cases, the same ones in every test run.
pub fn config(cases: u32) -> Config {
    let given = Config::default();
    let rng_seed = match given.rng_seed {
        RngSeed::Random => RngSeed::Fixed(SEED),
        fixed @ RngSeed::Fixed(_) => fixed,
    };
    Config { cases, failure_persistence: None, rng_seed, ..given }
}
