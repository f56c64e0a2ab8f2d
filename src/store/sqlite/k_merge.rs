//! Merges the first rows of many ordered sources, and reads each only as far as needed.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

/// How far a source has been read.
struct Source<T> {
    rows: VecDeque<T>,
    fetched: usize,
    /// How many rows to fetch next; 0 when the source has ended.
    next: usize,
}

/// Merges the sources `0..sources`. `fetch(source, offset, count)` returns rows in order; fewer
/// than `count` of them end the source.
pub(super) fn merge<K: Ord, T, E>(
    sources: usize,
    limit: usize,
    mut fetch: impl FnMut(usize, usize, usize) -> Result<Vec<(K, T)>, E>,
) -> Result<Vec<T>, E> {
    if limit == 0 || sources == 0 {
        return Ok(Vec::new());
    }
    if sources == 1 {
        return Ok(fetch(0, 0, limit)?.into_iter().map(|(_, row)| row).collect());
    }
    let first_count = (limit / sources + 1).max(4).min(limit);
    let mut open: Vec<Source<(K, T)>> =
        (0..sources).map(|_| Source { rows: VecDeque::new(), fetched: 0, next: first_count }).collect();
    let mut heads = BinaryHeap::with_capacity(sources);
    let mut values: Vec<Option<T>> = (0..sources).map(|_| None).collect();
    let mut merged = Vec::new();

    let mut advance = |index: usize, wanted: usize, values: &mut Vec<Option<T>>| -> Result<Option<K>, E> {
        let source = &mut open[index];
        if source.rows.is_empty() && source.next > 0 {
            let count = source.next.min(wanted);
            let rows = fetch(index, source.fetched, count)?;
            source.fetched += rows.len();
            source.next = if rows.len() < count { 0 } else { count.saturating_mul(2) };
            source.rows = rows.into();
        }
        Ok(source.rows.pop_front().map(|(key, value)| {
            values[index] = Some(value);
            key
        }))
    };

    for index in 0..sources {
        if let Some(key) = advance(index, limit, &mut values)? {
            heads.push(Reverse((key, index)));
        }
    }
    while let Some(Reverse((_, index))) = heads.pop() {
        merged.extend(values[index].take());
        if merged.len() == limit {
            break;
        }
        if let Some(key) = advance(index, limit - merged.len(), &mut values)? {
            heads.push(Reverse((key, index)));
        }
    }
    Ok(merged)
}
