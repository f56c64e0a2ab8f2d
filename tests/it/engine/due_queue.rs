//! The queue of deadlines.

use polos::engine::due_queue::DueQueue;

#[test]
fn items_come_out_by_deadline_then_by_insertion() {
    let mut queue = DueQueue::new();
    for (deadline, item) in [(30, "c"), (10, "a"), (20, "b"), (10, "a2")] {
        queue.insert(deadline, item);
    }
    assert_eq!(queue.next_deadline(), Some(10));
    let mut out = Vec::new();
    while let Some(item) = queue.pop_due(20) {
        out.push(item);
    }
    assert_eq!(out, ["a", "a2", "b"]);
    assert_eq!(queue.len(), 1);
}
