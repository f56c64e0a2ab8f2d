//! Paging of a schedule's history.

use crate::model::LedgerEntry;

/// Shortens entries, newest first, to a page. A page goes on behind the `from` of its last entry, so entries that
/// share one stay together: they wait for the next page, or, where they alone are more than a page, make it longer.
pub(super) fn cut_page(entries: &mut Vec<LedgerEntry>, limit: usize) {
    if limit == 0 || entries.len() <= limit {
        entries.truncate(limit);
        return;
    }
    let split = entries[limit].from;
    if entries[limit - 1].from != split {
        entries.truncate(limit);
        return;
    }
    let start = entries.partition_point(|entry| entry.from > split);
    let end = entries.partition_point(|entry| entry.from >= split);
    entries.truncate(if start > 0 { start } else { end });
}
