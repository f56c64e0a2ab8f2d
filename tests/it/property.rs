//! How property tests are configured.

use proptest::test_runner::{Config, RngSeed};

/// Used unless `PROPTEST_RNG_SEED` names another seed, so that a run of the tests is repeatable.
const SEED: u64 = 20_260_101;

/// A configuration with so many cases, the same ones in every run.
pub fn config(cases: u32) -> Config {
    let given = Config::default();
    let rng_seed = match given.rng_seed {
        RngSeed::Random => RngSeed::Fixed(SEED),
        fixed @ RngSeed::Fixed(_) => fixed,
    };
    Config { cases, failure_persistence: None, rng_seed, ..given }
}
