//! Paging of a schedule's history.

use crate::model::LedgerEntry;

/// Truncates entries, newest first, to one page.
///
/// The next page continues after the `from` of the last entry, so entries with the same `from` stay
/// together: they move to the next page, or, if they alone exceed a page, they make it longer.
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
