//! The one form of a statement that locks rows: it collects the keys first, and locks the rows with
//! these keys then.
//!
//! Under `READ COMMITTED`, PostgreSQL checks a row again when another transaction has updated it
//! between the statement's snapshot and its lock (`EvalPlanQual`). The check runs the whole plan
//! with the new version of that row. Where the plan joins the row to a set of keys, the check may
//! not find the key again: with `id IN (a UNION ALL b)` it looks for it in one branch only, and
//! the statement silently returns fewer rows than exist.
//!
//! A key set in an array has no such problem. The server computes `ARRAY(...)` once, before it
//! looks at any row, and the check sees the finished array.

/// `condition` that is true for rows whose key is among those that `keys`, a query, returns.
pub(super) fn one_of(column: &str, keys: &str) -> String {
    format!("{column} = ANY(ARRAY({keys}))")
}

/// Selects and locks, in the order of their key, the rows whose key is among those that the queries
/// return. `what` names columns and table.
pub(super) fn locked(what: &str, column: &str, keys: &[String]) -> String {
    format!("SELECT {what} WHERE {} ORDER BY {column} FOR UPDATE", one_of(column, &keys.join(" UNION ALL ")))
}
