//! Tokens of a rate limit.

use super::at;
use polos::calendar::Timestamp;
use polos::model::limit::TakenTokens;
use proptest::prelude::*;

use crate::property::config;

const SECOND: i64 = 1_000_000;
/// A period; a cell of the grid is a second.
const PERIOD: i64 = 64 * SECOND;

fn micros(at: i64) -> Timestamp {
    Timestamp::from_micros(at)
}

#[test]
fn tokens_return_a_period_and_at_most_two_cells_later() {
    let mut taken = TakenTokens::default();
    taken.take(at(1_000), at(1_000), 2, PERIOD);
    assert_eq!(taken.left(at(1_000), 3, PERIOD), 1);
    assert_eq!(taken.next(at(1_000), 3, PERIOD), at(1_000));
    // The end of the next cell.
    let back = micros(1_066 * SECOND - 1);
    assert_eq!(taken.next(at(1_000), 2, PERIOD), back);
    assert_eq!(taken.left(micros(back.as_micros() - 1), 2, PERIOD), 0);
    assert_eq!(taken.left(back, 2, PERIOD), 2);
    assert_eq!(taken.next(at(1_000), 0, PERIOD), Timestamp::MAX);
}

#[test]
fn claims_in_one_cell_share_an_entry_and_a_clock_behind_does_not_return_them_earlier() {
    let mut taken = TakenTokens::default();
    taken.take(at(1_000), at(1_000), 1, PERIOD);
    taken.take(at(1_000), micros(1_000 * SECOND + 999_999), 1, PERIOD);
    taken.take(at(990), at(990), 1, PERIOD);
    assert_eq!(&*taken.to_json().unwrap(), "[[1001999999,3]]");
    taken.take(at(1_001), at(1_001), 1, PERIOD);
    assert_eq!(&*taken.to_json().unwrap(), "[[1001999999,3],[1002999999,1]]");
    // What has returned is forgotten.
    taken.take(micros(1_065_999_999), at(1_066), 1, PERIOD);
    assert_eq!(&*taken.to_json().unwrap(), "[[1002999999,1],[1067999999,1]]");
    taken.take(at(1_066), at(1_066), 0, PERIOD);
    assert_eq!(&*taken.to_json().unwrap(), "[[1002999999,1],[1067999999,1]]");
}

#[test]
fn what_is_stored_is_read_again() {
    assert_eq!(TakenTokens::default().to_json(), None);
    assert_eq!(TakenTokens::parse(None), TakenTokens::default());
    for text in ["[[5,1]]", "[[5,1],[7,2]]", "[[5,1],[9,2],[3,0]]", "[[9,2],[3,0]]"] {
        assert_eq!(&*TakenTokens::parse(Some(text)).to_json().unwrap(), text);
    }
}

#[test]
fn tokens_of_a_clock_that_was_ahead_return_a_period_after_they_were_found() {
    // 5 s for early claims, and three cells.
    let latest = 1_008 * SECOND;
    let settled = |at_us: i64| {
        let mut taken = TakenTokens::parse(Some(&format!("[[{at_us},2]]")));
        let is_new = taken.settle(at(1_000), PERIOD);
        (is_new, taken.to_json().unwrap().to_string())
    };
    assert_eq!(settled(latest), (false, format!("[[{latest},2]]")));
    let ahead = latest + 1;
    let found_at = 1_001_999_999;
    assert_eq!(settled(ahead), (true, format!("[[{ahead},2],[{found_at},0]]")));

    let mut taken = TakenTokens::parse(Some(&format!("[[{ahead},2],[{found_at},0]]")));
    assert_eq!(taken.left(at(1_000), 2, PERIOD), 0);
    assert_eq!(taken.next(at(1_000), 2, PERIOD), micros(found_at + PERIOD));
    assert!(!taken.settle(micros(found_at + PERIOD - 1), PERIOD));
    assert_eq!(taken.left(micros(found_at + PERIOD - 1), 2, PERIOD), 0);
    assert!(!taken.settle(micros(found_at + PERIOD), PERIOD));
    assert_eq!(taken.to_json(), None);
}

#[test]
fn tokens_found_by_a_clock_that_was_itself_ahead_are_found_again() {
    let text = |found_at: i64| format!("[[{},2],[{found_at},0]]", 5_000 * SECOND);
    let settle = |found_at: i64| {
        let mut taken = TakenTokens::parse(Some(&text(found_at)));
        (taken.settle(at(1_000), PERIOD), taken.to_json().map(|json| json.to_string()))
    };
    let latest = 1_008 * SECOND;
    assert_eq!(settle(latest), (false, Some(text(latest))));
    assert_eq!(settle(latest + 1), (true, Some(text(1_001_999_999))));
    // By the clock that took them, they return when they should.
    let mut taken = TakenTokens::parse(Some(&format!("[[{},2],[{},0]]", 1_008 * SECOND, 944 * SECOND)));
    assert!(!taken.settle(at(1_000), PERIOD));
    assert_eq!(taken.to_json().unwrap().to_string(), format!("[[{},2]]", 1_008 * SECOND));
}

proptest! {
    #![proptest_config(config(500))]

    /// No period, wherever it begins, has more claims than there are tokens; the next token can be
    /// taken when it is said, and not before.
    #[test]
    fn a_period_has_no_more_claims_than_tokens(
        waits in prop::collection::vec((0i64..9 * SECOND, 0u32..4), 1..60), rate in 1u32..6,
    ) {
        let mut taken = TakenTokens::default();
        let mut claims: Vec<i64> = Vec::new();
        let mut now = 1_000 * SECOND;
        for (wait, wanted) in waits {
            now += wait;
            let left = taken.left(micros(now), rate, PERIOD);
            let next = taken.next(micros(now), rate, PERIOD);
            prop_assert!(taken.left(next, rate, PERIOD) > 0);
            prop_assert_eq!(next == micros(now), left > 0);
            prop_assert!(left > 0 || taken.left(micros(next.as_micros() - 1), rate, PERIOD) == 0);
            let count = wanted.min(left);
            taken.take(micros(now), micros(now), count, PERIOD);
            claims.extend((0..count).map(|_| now));
            let in_period = claims.iter().filter(|at| **at > now - PERIOD).count();
            prop_assert!(in_period <= rate as usize, "{claims:?}");
            // They return at most two cells late.
            let surely_out = claims.iter().filter(|at| **at > now - PERIOD - 2 * SECOND).count();
            prop_assert!(taken.left(micros(now), rate, PERIOD) as usize + surely_out >= rate as usize);
        }
    }
}
