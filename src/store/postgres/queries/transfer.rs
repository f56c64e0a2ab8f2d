//! Statements of a transfer into the database. Its mark is in the table `moving`, which the first
//! transfer creates.

use super::{Composed, Sql};
use crate::store::transfer::{
    CALENDARS, EVENTS, Kind, LEDGER, LIMITS, RUNS, SCHEDULES, STEPS, Table, WORKFLOWS,
};

composed! {
    /// Whether a table has a row of a project. (an index that begins with the project, scan of
    /// `run_held`)
    HAS_ROWS;
    /// A batch of a project's rows in order. (`run_limit_pkey`, `calendar_pkey`, `workflow_pkey`,
    /// `run_pkey`, `ledger_pkey`, `schedule_by_id` or `schedule_pkey`)
    TRANSFERRED_ROWS;
    /// The steps, or the events, of a project's runs in a range of numbers, in order. (`run_pkey`,
    /// `step_pkey` or `event_pkey`)
    TRANSFERRED_WITH_RUNS;
    /// Writes rows in the given order; rows that exist stay. (`run_id_key`)
    INSERT_ROWS;
    /// Deletes a batch of a project's rows, with the steps of deleted runs. (an index that begins
    /// with the project, scan of `run_held`)
    DELETE_ROWS;
}

statements! {
    /// Whether a schema has the table of marks. (catalog)
    HAS_MARKS = "SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
        WHERE n.nspname = $1 AND c.relname = 'moving'";
    /// How far the transfer of a project is. (`moving_pkey`)
    MARK = "SELECT source, part, after, done, is_done FROM @moving WHERE project = $1";
    /// Leaves the first mark, unless there is one. (no index)
    FIRST_MARK = "INSERT INTO @moving VALUES ($1, $2, $3, '', 0, false) ON CONFLICT DO NOTHING";
    /// Advances the mark, unless another process has done so. (`moving_pkey`)
    ADVANCE_MARK = "UPDATE @moving SET part = $1, after = $2, done = $3 WHERE project = $4 \
        AND part = $5 AND after = $6 AND NOT is_done RETURNING true";
    /// Records which part of the transfer comes next. (`moving_pkey`)
    NOTE_PART = "UPDATE @moving SET part = $1, after = '' WHERE project = $2";
    /// Records that a transfer is done. (`moving_pkey`)
    FINISH_MARK = "UPDATE @moving SET is_done = true WHERE project = $1";
    /// Removes the mark of a transfer that was abandoned. (`moving_pkey`)
    DELETE_MARK = "DELETE FROM @moving WHERE project = $1";
    /// Whether another project is being transferred. (scan of the few transfers)
    OTHER_TRANSFER = "SELECT true FROM @moving WHERE NOT is_done LIMIT 1";
    /// The workers that hold runs of a project. (scan of `run_held`)
    HOLDERS = "SELECT DISTINCT r.worker FROM @run r WHERE r.state = 'running' \
        AND r.worker IS NOT NULL AND r.project = $1 ORDER BY 1";
    /// Registers a dead worker, so that it can be expired. (no index)
    REGISTER_DEAD_WORKER = "INSERT INTO @worker (id, project, app, host, pid, process_mark, about, \
        beat, entered_at, beat_at, workflows) \
        VALUES ($1, $2, '', '', 0, '', '{}', 0, 0, 0, '{}') ON CONFLICT DO NOTHING";
}

/// The column by which the rows of a table are ordered.
pub(in crate::store) fn order_of(table: &str) -> &'static str {
    match table {
        "run" | "ledger" => "no",
        "run_limit" | "calendar" => "name",
        _ => "id",
    }
}

/// [`HAS_ROWS`] of a table.
pub(in crate::store) fn has_rows(table: &str) -> Sql {
    HAS_ROWS.of(some_rows(table, "true", "1"))
}

/// Some rows of a project.
fn some_rows(table: &str, what: &str, limit: &str) -> String {
    let rows =
        |condition: &str| format!("SELECT {what} FROM @{table} WHERE project = $1{condition} LIMIT {limit}");
    if table != RUNS.name {
        return rows("");
    }
    // The index of all runs leaves out those that workers hold.
    format!("({}) UNION ALL ({})", rows(" AND state <> 'running'"), rows(" AND state = 'running'"))
}

/// [`TRANSFERRED_ROWS`] of a table.
pub(in crate::store) fn transferred_rows(table: Table) -> Sql {
    let order = order_of(table.name);
    let names: Vec<_> = table.columns.iter().map(|(name, _)| format!("r.{name}")).collect();
    TRANSFERRED_ROWS.of(format!(
        "SELECT r.{order}, {} FROM @{} r WHERE r.project = $1 AND r.{order} > $2 \
         ORDER BY r.{order} LIMIT $3",
        names.join(", "),
        table.name
    ))
}

/// [`TRANSFERRED_WITH_RUNS`] of a table, ordered by a column.
pub(in crate::store) fn transferred_with_runs(table: Table, order: &str) -> Sql {
    let names: Vec<_> = table.columns[1..].iter().map(|(name, _)| format!("t.{name}")).collect();
    TRANSFERRED_WITH_RUNS.of(format!(
        "SELECT r.id, {} FROM @run r JOIN @{} t ON t.run = r.no \
         WHERE r.no >= $2 AND r.no <= $3 AND r.project = $1 ORDER BY t.run, t.{order}",
        names.join(", "),
        table.name
    ))
}

/// [`INSERT_ROWS`] into a table: one array for each column and, except for steps and events,
/// the project.
pub(in crate::store) fn insert_rows(table: Table) -> Sql {
    let arrays: Vec<_> = table
        .columns
        .iter()
        .zip(1..)
        .map(|((_, kind), number)| match kind {
            Kind::Text => format!("${number}::text[]"),
            Kind::Int => format!("${number}::bigint[]"),
            Kind::Flag => format!("${number}::boolean[]"),
        })
        .collect();
    let names: Vec<_> = table.columns.iter().map(|(name, _)| *name).collect();
    let columns = names.join(", ");
    let rows = format!("unnest({}) WITH ORDINALITY AS w ({columns}, place)", arrays.join(", "));
    INSERT_ROWS.of(if [STEPS.name, EVENTS.name].contains(&table.name) {
        let others = names[1..].join(", ");
        let values: Vec<_> = names[1..].iter().map(|name| format!("w.{name}")).collect();
        format!(
            "INSERT INTO @{} (run, {others}) SELECT r.no, {} FROM {rows} \
             JOIN @run r ON r.id = w.run ORDER BY w.place ON CONFLICT DO NOTHING",
            table.name,
            values.join(", ")
        )
    } else {
        format!(
            "INSERT INTO @{} (project, {columns}) SELECT ${}, {columns} FROM {rows} \
             ORDER BY w.place ON CONFLICT DO NOTHING",
            table.name,
            names.len() + 1
        )
    })
}

/// [`DELETE_ROWS`] of a table.
pub(in crate::store) fn delete_rows(table: Table) -> Sql {
    let (order, name) = (order_of(table.name), table.name);
    let chosen = some_rows(name, order, "$2");
    DELETE_ROWS.of(if name == RUNS.name {
        // Both deletions see the tables as they were before the statement.
        format!(
            "WITH chosen AS ({chosen}), \
             steps AS (DELETE FROM @step WHERE run IN (SELECT no FROM chosen)) \
             DELETE FROM @run WHERE no IN (SELECT no FROM chosen) RETURNING true"
        )
    } else {
        format!("DELETE FROM @{name} WHERE project = $1 AND {order} IN ({chosen}) RETURNING true")
    })
}

/// The statements of every table that a transfer carries.
pub(super) fn all_of_tables() -> Vec<Sql> {
    let tables = [LIMITS, CALENDARS, WORKFLOWS, RUNS, LEDGER, SCHEDULES];
    let mut all = vec![has_rows("worker")];
    for (table, order) in [(STEPS, "no"), (EVENTS, "name")] {
        all.extend([transferred_with_runs(table, order), insert_rows(table)]);
    }
    for table in tables {
        all.extend([has_rows(table.name), transferred_rows(table), insert_rows(table)]);
        all.push(delete_rows(table));
    }
    all
}
