//! Recognizes a repeated completion.

use crate::model::Completion;

/// A fingerprint of a completion: equal for a repeated one, in any process and release.
pub(in crate::store) fn completion_print(ending: &Completion) -> i64 {
    // FNV-1a, because the standard hasher may change between compilers.
    fn feed(mut hash: u64, bytes: &[u8]) -> u64 {
        for byte in bytes {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
        hash
    }
    fn feed_text(hash: u64, text: Option<&str>) -> u64 {
        match text {
            None => feed(hash, b"-"),
            Some(text) => feed(feed(hash, b"+"), text.as_bytes()),
        }
    }
    let start = 0xcbf2_9ce4_8422_2325;
    let hash = match ending {
        Completion::Succeeded { result } => feed_text(feed(start, b"succeeded"), result.as_deref()),
        Completion::Failed { error, retry_at } => {
            let hash = feed(start, b"failed");
            let hash = match retry_at {
                None => feed(hash, b"-"),
                Some(at) => feed(hash, &at.as_micros().to_le_bytes()),
            };
            feed_text(hash, Some(error))
        }
        Completion::Cancelled { error } => feed_text(feed(start, b"cancelled"), error.as_deref()),
        Completion::Parked { wakes_at } => feed(feed(start, b"parked"), &wakes_at.as_micros().to_le_bytes()),
        Completion::Held { code, note } => feed_text(feed_text(feed(start, b"held"), Some(code)), Some(note)),
        Completion::Released => feed(start, b"released"),
        Completion::Skipped { reason } => feed_text(feed(start, b"skipped"), Some(reason)),
    };
    hash.cast_signed()
}
