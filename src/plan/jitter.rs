//! Deterministic jitter: a delay is a function of the event's name and number, on every worker.

/// A number in [0, 1), derived from the name and salt of an event.
pub fn fraction_of(name: &str, salt: i64) -> f64 {
    // FNV-1a over the name, then splitmix64's finisher: stable across releases, machines, and
    // processes, which the standard library's hasher does not promise.
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in name.as_bytes().iter().chain(&salt.to_le_bytes()) {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^= hash >> 31;
    #[expect(clippy::cast_precision_loss, reason = "53 bits fit")]
    let fraction = (hash >> 11) as f64 / (1_u64 << 53) as f64;
    fraction
}

/// A whole number of microseconds in `[0, limit_us)`; 0 for a limit of 0.
pub fn delay_us(name: &str, salt: i64, limit_us: i64) -> i64 {
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        reason = "a delay needs no such precision"
    )]
    let delay = (fraction_of(name, salt) * limit_us as f64) as i64;
    delay.clamp(0, limit_us.saturating_sub(1).max(0))
}
