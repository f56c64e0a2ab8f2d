//! The form of every statement that locks rows: it collects the keys first, then locks the rows
//! with these keys.
//!
//! Under `READ COMMITTED`, PostgreSQL checks a row again when another transaction has updated it
//! between the statement's snapshot and its lock (`EvalPlanQual`). The check runs the whole plan
//! with the new version of that row. Where the plan joins the row to a set of keys, the check may
//! not find the key again: with `id IN (a UNION ALL b)` it looks for it in one branch only, and
//! the statement silently returns fewer rows than exist.
//!
//! A key set in an array has no such problem. The server computes `ARRAY(...)` once, before it
//! looks at any row, and the check sees the finished array.

/// A condition that is true for rows whose key is among the keys that the query `keys` returns.
pub(super) fn one_of(column: &str, keys: &str) -> String {
    format!("{column} = ANY(ARRAY({keys}))")
}

/// Selects and locks the rows whose key is among the keys that the queries return, in the order of
/// the key. `what` names columns and table.
pub(super) fn locked(what: &str, column: &str, keys: &[String]) -> String {
    format!("SELECT {what} WHERE {} ORDER BY {column} FOR UPDATE", one_of(column, &keys.join(" UNION ALL ")))
}
