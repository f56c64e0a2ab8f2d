//! The due queue with a million entries: takes one out and puts one in.

use super::expressions::instants;
use criterion::{BenchmarkId, Criterion};
use polos::engine::due_queue::DueQueue;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

const LENGTH: u32 = 1_000_000;

pub fn queue(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("queue");
    let delays: Vec<u64> =
        instants().into_iter().map(|second| u64::try_from(second).unwrap() % 86_400).collect();
    let delay = |number: u32| delays[number as usize % delays.len()] * 1_000 + u64::from(number % 1_000);

    let mut queue = DueQueue::new();
    for number in 0..LENGTH {
        queue.insert(delay(number), number);
    }
    group.bench_function(BenchmarkId::new("out and in", "polos"), |bench| {
        bench.iter(|| {
            let now = queue.next_deadline().unwrap();
            let item = queue.pop_due(now).unwrap();
            queue.insert(now + delay(item), item);
        });
    });

    let mut heap: BinaryHeap<Reverse<(u64, u32)>> =
        (0..LENGTH).map(|number| Reverse((delay(number), number))).collect();
    group.bench_function(BenchmarkId::new("out and in", "baseline"), |bench| {
        bench.iter(|| {
            let Reverse((now, item)) = heap.pop().unwrap();
            heap.push(Reverse((now + delay(item), item)));
        });
    });
    group.finish();
}
