//! Ids of schedules sort by the time of their creation.

use polos::calendar::Timestamp;
use polos::model::ScheduleId;

#[test]
fn ids_sort_by_the_time_of_their_creation() {
    let id = |millis: i64, random: u64| {
        ScheduleId::new(Timestamp::from_micros(millis * 1_000), random).as_str().to_owned()
    };
    // Around each bit of the time that an id has.
    for bit in 0..42 {
        let millis = 1_i64 << bit;
        let ids = [id(millis - 1, u64::MAX), id(millis, 0), id(millis, u64::MAX), id(millis + 1, 0)];
        assert!(ids.is_sorted(), "{ids:?}");
        assert_ne!(ids[0], ids[1]);
    }
}
