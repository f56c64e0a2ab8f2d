//! Clocks that are set forward or back, and the slots around the change.

use super::*;

/// A schedule whose late slots are missed, so that it shows which ones count as late.
fn strict(store: &MemoryStore) -> ScheduleId {
    let spec = json!({"cron": "* * * * *", "overlap": "allow", "catch_up": "none"});
    create(store, "k", &spec, "10:00:30")
}

fn missed(store: &MemoryStore, id: &ScheduleId) -> Vec<(String, String)> {
    let lines = history(store, id).into_iter().filter(|line| line.outcome == SlotOutcome::Missed);
    lines.map(|line| (time_of(line.from), time_of(line.until))).collect()
}

#[test]
fn a_clock_set_back_by_two_days_leaves_the_slots_of_today_on_time() {
    let store = MemoryStore::new();
    let id = strict(&store);
    let mut worker = Worker::new(&store, "a", "10:00:30");
    worker.until("10:01:30");
    worker.clock.set_wall(at("2026-02-28T10:00:30"));
    worker.tick();
    worker.until("2026-02-28T10:03:00");
    let slots: Vec<_> = worker.started.iter().map(|claimed| claimed.run.slot.unwrap().to_string()).collect();
    let of_today = |time| format!("2026-02-28T{time}Z");
    assert_eq!(
        slots,
        ["2026-03-02T10:01:00Z".to_owned(), of_today("10:01:00"), of_today("10:02:00"), of_today("10:03:00")]
    );
    assert_eq!(missed(&store, &id), []);
}

#[test]
fn slots_skipped_by_a_clock_set_forward_are_missed() {
    let store = MemoryStore::new();
    let id = strict(&store);
    let mut worker = Worker::new(&store, "a", "10:00:30");
    worker.until("10:01:30");
    worker.clock.set_wall(at("10:05:30"));
    worker.tick().until("10:06:00");
    assert_eq!(worker.slots_started(), ["10:01:00", "10:06:00"]);
    assert_eq!(missed(&store, &id), [("10:02:00".to_owned(), "10:05:00".to_owned())]);
    assert_eq!(worker.count_notices(|notice| matches!(notice, Notice::WasAway(_))), 1);
    let told = worker.notices.iter().filter_map(|notice| match notice {
        Notice::Missed(slots) => Some(slots.iter().map(|slots| slots.line.count).sum::<u64>()),
        _ => None,
    });
    assert_eq!(told.collect::<Vec<_>>(), [4]);
}

/// With a run in progress, slots are decided when they are due, not early.
#[test]
fn a_clock_set_back_makes_no_slot_late() {
    let store = MemoryStore::new();
    let spec = json!({"cron": "* * * * *", "overlap": "buffer_all", "catch_up": "none"});
    // Created long before; no worker was running until now.
    let id = create(&store, "k", &spec, "2026-02-27T10:00:30");
    let mut worker = Worker::new(&store, "a", "10:00:30");
    worker.until("10:01:30");
    worker.clock.set_wall(at("2026-02-28T10:00:30"));
    worker.tick();
    worker.until("2026-02-28T10:03:00");
    assert_eq!(runs(&store).len(), 4);
    assert_eq!(missed(&store, &id).len(), 2, "those before it started, in and behind the window");
}
