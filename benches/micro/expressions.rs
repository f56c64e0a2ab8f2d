//! The expressions and instants that all crates get.

/// Name, expression, and the expression for the crate `cron`, which has seconds and where Sunday is 1.
pub const EXPRESSIONS: &[(&str, &str, &str)] = &[
    ("daily", "0 9 * * *", "0 0 9 * * *"),
    ("weekdays", "*/15 9-17 * * 1-5", "0 */15 9-17 * * 2-6"),
    ("monthly", "30 2 1 * *", "0 30 2 1 * *"),
    ("leap day", "0 0 29 2 *", "0 0 0 29 2 *"),
];

/// Seconds since the epoch, from 2020 to 2030, unordered; their number is a power of two.
pub fn instants() -> Vec<i64> {
    const START: i64 = 1_577_836_800;
    const LENGTH: u64 = 10 * 365 * 86_400;
    let mut state = 7_u64;
    let mut chance = || {
        // A linear congruential generator with the constants of Knuth's MMIX. Its high bits are the
        // most random ones.
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state >> 33
    };
    (0..1024).map(|_| START + i64::try_from(chance() % LENGTH).unwrap()).collect()
}
