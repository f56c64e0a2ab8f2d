//! A queue of items ordered by deadline. The caller passes the time in.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

/// A priority queue by deadline; equal deadlines come out in the order of insertion.
#[derive(Debug)]
pub struct DueQueue<K, T> {
    heap: BinaryHeap<Entry<K, T>>,
    inserted_count: u64,
}

#[derive(Debug)]
struct Entry<K, T> {
    deadline: K,
    sequence: u64,
    item: T,
}

impl<K: Ord, T> PartialEq for Entry<K, T> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}
impl<K: Ord, T> Eq for Entry<K, T> {}
impl<K: Ord, T> PartialOrd for Entry<K, T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl<K: Ord, T> Ord for Entry<K, T> {
    fn cmp(&self, other: &Self) -> Ordering {
        // Reversed: the heap returns its greatest element, and we want the earliest.
        other.deadline.cmp(&self.deadline).then_with(|| other.sequence.cmp(&self.sequence))
    }
}

impl<K: Ord + Copy, T> DueQueue<K, T> {
    /// Creates an empty queue.
    pub fn new() -> Self {
        Self { heap: BinaryHeap::new(), inserted_count: 0 }
    }

    /// Adds an item.
    pub fn insert(&mut self, deadline: K, item: T) {
        self.heap.push(Entry { deadline, sequence: self.inserted_count, item });
        self.inserted_count += 1;
    }

    /// The earliest deadline.
    pub fn next_deadline(&self) -> Option<K> {
        self.heap.peek().map(|entry| entry.deadline)
    }

    /// Takes the earliest item whose deadline is at or before `now`.
    pub fn pop_due(&mut self, now: K) -> Option<T> {
        if self.next_deadline()? > now {
            return None;
        }
        self.heap.pop().map(|entry| entry.item)
    }

    /// All queued items, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.heap.iter().map(|entry| &entry.item)
    }

    /// Removes everything.
    pub fn clear(&mut self) {
        self.heap.clear();
    }

    /// The number of queued items.
    pub fn len(&self) -> usize {
        self.heap.len()
    }

    /// Whether the queue is empty.
    pub fn is_empty(&self) -> bool {
        self.heap.is_empty()
    }
}

impl<K: Ord + Copy, T> Default for DueQueue<K, T> {
    fn default() -> Self {
        Self::new()
    }
}
