//! Statements about limits and priorities, and those of claims, which keep both.

use super::Sql;
use crate::model::run::PRIORITY_STEP;
use crate::store::row_reader::{limit_columns, run_columns};

/// Runs that no worker holds and that are not finished.
macro_rules! free {
    () => {
        "r.state IN ('queued', 'waiting') AND NOT r.cancel_requested"
    };
}

/// Runs that can be claimed and are no suspects.
macro_rules! claimable {
    () => {
        concat!(free!(), " AND r.interruptions < 2 AND r.refused_by IS NULL")
    };
}

/// The order of claims: as `Run::rank` has it, then by time.
macro_rules! order {
    () => {
        "r.available_at - r.priority * 60000000, r.available_at, r.slot NULLS FIRST, r.id"
    };
}

const _: () = assert!(PRIORITY_STEP.as_micros() == 60_000_000, "as `order!` has it");

macro_rules! earliest {
    () => {
        "ORDER BY r.available_at, r.slot NULLS FIRST, r.id"
    };
}

/// The numbers of the first claimable runs of each workflow in $2, and of each of its priorities.
/// The second part is not executed where no run has a priority.
macro_rules! heads {
    ($of:expr, $and_of:expr) => {
        concat!(
            "SELECT h.no FROM unnest($2::text[]) AS w (id) CROSS JOIN LATERAL (SELECT r.no FROM @run r \
             WHERE r.project = $1 AND r.workflow = w.id AND ", claimable!(), " \
             AND r.available_at <= $3 ", earliest!(), " LIMIT $4) h ", $of, " UNION ALL \
             SELECT h.no FROM unnest($2::text[]) AS w (id) CROSS JOIN generate_series(1, 9) AS p (priority) \
             CROSS JOIN LATERAL (SELECT r.no FROM @run r WHERE r.project = $1 AND r.workflow = w.id AND ",
            claimable!(), " AND r.priority = p.priority AND r.priority > 0 AND r.available_at <= $3 ",
            earliest!(), " LIMIT $4) h WHERE EXISTS (SELECT FROM @run r WHERE r.project = $1 \
             AND r.priority > 0 AND ", free!(), ") ", $and_of
        )
    };
}

/// Locks the runs with some numbers, unless others have, and returns the first $5.
macro_rules! lock_runs {
    ($keys:expr) => {
        lock_runs!($keys, "$5")
    };
    ($keys:expr, $limit:expr) => {
        concat!(
            "SELECT ",
            run_row_columns!(),
            ", ",
            run_columns!(),
            " FROM @run r \
             WHERE r.no = ANY(ARRAY(",
            $keys,
            ")) AND ",
            state!(),
            " IN ('queued', 'waiting') \
             AND NOT r.cancel_requested AND r.interruptions < 2 AND r.refused_by IS NULL \
             AND r.available_at <= $3 ORDER BY ",
            order!(),
            " LIMIT ",
            $limit,
            " FOR UPDATE SKIP LOCKED"
        )
    };
}

/// The first $6 keys of a workflow that have queued runs.
macro_rules! queued_keys {
    () => {
        concat!(
            "WITH RECURSIVE k (key) AS ((SELECT r.key FROM @run r WHERE r.project = $1 AND r.workflow = $2 \
             AND r.limit_name IS NOT NULL AND ",
            free!(),
            " ORDER BY r.key LIMIT 1) \
             UNION ALL SELECT (SELECT r.key FROM @run r WHERE r.project = $1 AND r.workflow = $2 \
             AND r.limit_name IS NOT NULL AND ",
            free!(),
            " AND r.key > k.key ORDER BY r.key LIMIT 1) \
             FROM k WHERE k.key IS NOT NULL), first AS (SELECT key FROM k LIMIT $4) "
        )
    };
}

/// The number of running runs of a limit.
macro_rules! running_under {
    ($name:literal) => {
        concat!(
            "(SELECT count(*) FROM @run c WHERE c.project = $1 AND c.limit_name = ",
            $name,
            " AND c.limit_name IS NOT NULL AND c.state = 'running')"
        )
    };
}

macro_rules! from_limits {
    () => {
        "FROM @workflow f JOIN @run_limit l \
         ON l.project = f.project AND l.name = f.limit_name WHERE f.project = $1 AND f.id = ANY($2) \
         AND (f.limit_name IS NOT NULL OR f.priority > 0)"
    };
}

statements! {
    // Claims.

    /// The first claimable runs of workflows without a limit, in the order of claims, that no other
    /// transaction has locked, locked. The outer conditions repeat the inner ones, because the
    /// server checks only these again for a row that changed meanwhile. The inner limit is higher,
    /// to make up for runs that are passed over. (`run_claimable`, `run_with_priority`, `run_pkey`,
    /// `workflow_with_rules`, `run_limit_pkey`)
    CLAIMABLE_RUNS = lock_runs!(heads!(
        concat!("WHERE ", is_unlimited!("w.id")),
        concat!("AND ", is_unlimited!("w.id"))
    ));
    /// The same for workflows with a limit. (`run_claimable`, `run_with_priority`, `run_pkey`)
    LIMITED_RUNS = lock_runs!(heads!("", ""));
    /// The same for the workflows of the limit $6, of which at most $7 may be running: only as many
    /// as it has room for, each after the number of those that are running. If there is none, one
    /// row has this number. (`run_claimable`, `run_with_priority`, `run_pkey`, `run_under_limit`)
    RUNS_UNDER_LIMIT = concat!(
        "WITH used AS MATERIALIZED (SELECT ", running_under!("$6"), " AS count), first AS MATERIALIZED (",
        lock_runs!(heads!("", ""), "least($5, greatest(0, $7 - (SELECT count FROM used)))"),
        ") SELECT used.count, first.* FROM used LEFT JOIN first ON true"
    );
    /// The first $5 claimable runs of each of the first keys of a workflow, without the keys in $6;
    /// locked like those before. (`run_queued_by_key`, `run_pkey`)
    LIMITED_RUNS_BY_KEY = concat!(
        "SELECT ", run_row_columns!(), ", ", run_columns!(), " FROM @run r \
         WHERE r.no = ANY(ARRAY(", queued_keys!(), "SELECT h.no FROM first CROSS JOIN LATERAL ( \
         SELECT r.no FROM @run r WHERE r.project = $1 AND r.workflow = $2 AND r.key = first.key \
         AND r.limit_name IS NOT NULL AND ", claimable!(), " AND r.available_at <= $3 ", earliest!(),
        " LIMIT $5) h WHERE first.key <> ALL($6))) AND ", state!(), " IN ('queued', 'waiting') \
         AND NOT r.cancel_requested AND r.interruptions < 2 AND r.refused_by IS NULL \
         AND r.available_at <= $3 ORDER BY ", order!(), " FOR UPDATE SKIP LOCKED"
    );
    /// The earliest claimable suspect of workflows without a limit that no other transaction has
    /// locked, locked. (`run_suspect`, `workflow_with_rules`, `run_limit_pkey`)
    FIRST_SUSPECT = concat!(
        "SELECT ", run_row_columns!(), ", ", run_columns!(), " FROM @run r WHERE r.project = $1 \
         AND r.interruptions >= 2 AND ", free!(), " AND r.refused_by IS NULL \
         AND r.workflow = ANY($2) AND r.available_at <= $3 AND ", is_unlimited!("r.workflow"), " ",
        earliest!(), " LIMIT 1 FOR UPDATE OF r SKIP LOCKED"
    );
    /// The same for workflows with a limit; several, because the keys of the first may have no
    /// room. (`run_suspect`)
    LIMITED_SUSPECTS = concat!(
        "SELECT ", run_row_columns!(), ", ", run_columns!(), " FROM @run r WHERE r.project = $1 \
         AND r.interruptions >= 2 AND ", free!(), " AND r.refused_by IS NULL \
         AND r.workflow = ANY($2) AND r.available_at <= $3 ", earliest!(),
        " LIMIT $4 FOR UPDATE SKIP LOCKED"
    );

    // The next work under limits.

    /// The limits of some workflows; how many of its runs are running and when the first suspect is
    /// available, at one workflow of each limit; and when the first claimable run of the workflow
    /// is available. (`workflow_with_rules` or `workflow_pkey`, `run_limit_pkey`,
    /// `run_under_limit`, `run_claimable`, `run_suspect`)
    LIMITS_OF_WORKFLOWS = concat!(
        "SELECT q.id, q.name, q.declaration, q.set_values, q.taken, q.updated_at, \
         CASE WHEN q.place = 1 THEN ", running_under!("q.name"), " END, \
         CASE WHEN q.place = 1 THEN (SELECT r.available_at FROM @run r WHERE r.project = $1 \
         AND r.interruptions >= 2 AND ", free!(), " AND r.refused_by IS NULL \
         AND r.workflow = ANY(q.workflows) ORDER BY r.available_at LIMIT 1) END, \
         (SELECT r.available_at FROM @run r WHERE r.project = $1 AND r.workflow = q.id AND ",
        claimable!(), " ", earliest!(), " LIMIT 1) \
         FROM (SELECT f.id, l.*, row_number() OVER (PARTITION BY l.name ORDER BY f.id) AS place, \
         array_agg(f.id) OVER (PARTITION BY l.name) AS workflows ", from_limits!(), ") q"
    );
    /// When the first claimable runs of workflows with a limit are available, and their keys.
    /// (`run_claimable`)
    NEXT_LIMITED = concat!(
        "SELECT h.available_at, h.key FROM unnest($2::text[]) AS w (id) CROSS JOIN LATERAL ( \
         SELECT r.available_at, r.key FROM @run r WHERE r.project = $1 AND r.workflow = w.id \
         AND ", claimable!(), " ", earliest!(), " LIMIT $3) h ORDER BY h.available_at LIMIT $3"
    );
    /// The same for the first keys of a workflow, without the keys in $3. (`run_queued_by_key`)
    NEXT_LIMITED_BY_KEY = concat!(
        queued_keys!(), "SELECT h.available_at, h.key FROM first CROSS JOIN LATERAL ( \
         SELECT r.available_at, r.key FROM @run r WHERE r.project = $1 AND r.workflow = $2 \
         AND r.key = first.key AND r.limit_name IS NOT NULL AND ", claimable!(), " ", earliest!(),
        " LIMIT 1) h WHERE first.key <> ALL($3) ORDER BY h.available_at LIMIT 1"
    );
    /// The same for suspects. (`run_suspect`)
    NEXT_LIMITED_SUSPECTS = concat!(
        "SELECT r.available_at, r.key FROM @run r WHERE r.project = $1 AND r.interruptions >= 2 \
         AND ", free!(), " AND r.refused_by IS NULL AND r.workflow = ANY($2) \
         ORDER BY r.available_at LIMIT 16"
    );

    // Limits.

    /// The limits of some workflows, locked: until the claim is committed, no other claim counts.
    /// (`workflow_with_rules` or `workflow_pkey`, `run_limit_pkey`)
    LOCK_LIMITS_OF_WORKFLOWS = concat!(
        "SELECT f.id, l.name, ", limit_columns!(), " ", from_limits!(), " ORDER BY l.name, f.id FOR UPDATE OF l"
    );
    /// Numbers of running runs of the limits of some workflows, by limit and key.
    /// (`workflow_with_rules` or `workflow_pkey`, `run_under_limit`)
    CLAIMED_UNDER = "SELECT l.name, c.key, c.count FROM (SELECT DISTINCT f.limit_name AS name FROM @workflow f \
        WHERE f.project = $1 AND f.id = ANY($2) AND f.limit_name IS NOT NULL) l \
        CROSS JOIN LATERAL (SELECT r.key, count(*) AS count FROM @run r WHERE r.project = $1 \
        AND r.limit_name = l.name AND r.limit_name IS NOT NULL AND r.state = 'running' \
        GROUP BY r.key) c";
    /// How many runs of a limit with a key are running. (`run_under_limit`)
    RUNNING_WITH_KEY = "SELECT count(*) FROM @run r WHERE r.project = $1 AND r.limit_name = $2 \
        AND r.limit_name IS NOT NULL AND r.key = $3 AND r.state = 'running'";
    /// What workflows declare about their runs, by id. (`workflow_pkey`)
    WORKFLOWS_BY_ID = "SELECT f.project, f.id, f.schedulable, f.limit_name, f.priority, f.declaration, f.hooks \
        FROM unnest($1::text[], $2::text[]) AS w (project, id) \
        JOIN @workflow f ON f.project = w.project AND f.id = w.id";
    /// The same for all workflows that declare anything. (scan of
    /// `workflow_with_rules`, scan of `workflow_with_hooks`)
    WORKFLOWS_WITH_RULES = "SELECT f.project, f.id, f.schedulable, f.limit_name, f.priority, \
        f.declaration, f.hooks FROM @workflow f WHERE f.limit_name IS NOT NULL OR f.priority > 0 \
        UNION SELECT f.project, f.id, f.schedulable, f.limit_name, f.priority, f.declaration, f.hooks \
        FROM @workflow f WHERE f.hooks IS NOT NULL";
    /// The limits with some names, locked. (`run_limit_pkey`)
    LOCK_LIMITS = concat!(
        "SELECT l.project, l.name, ", limit_columns!(), " FROM @run_limit l \
         WHERE l.project = ANY($1) AND l.name = ANY($2) ORDER BY l.project, l.name FOR UPDATE"
    );
    /// Locks a limit that is to be deleted. (`run_limit_pkey`)
    LOCK_LIMIT_TO_DELETE = "SELECT l.name FROM @run_limit l WHERE l.project = $1 AND l.name = $2 FOR UPDATE";
    /// What the workers of a project declare. (`worker_by_project`)
    DECLARATIONS_OF_WORKERS = "SELECT w.app, w.declares FROM @worker w WHERE w.project = $1 ORDER BY w.id";
    /// A workflow with an unfinished run that counts against a limit. (`workflow_with_rules` or
    /// `workflow_pkey`, `run_newest_by_state`, `run_under_limit`)
    UNFINISHED_UNDER = "SELECT f.id FROM @workflow f WHERE f.project = $1 AND f.limit_name = $2 \
        AND (EXISTS (SELECT r.no FROM @run r WHERE r.project = f.project AND r.workflow = f.id \
        AND r.state IN ('queued', 'waiting', 'buffered') ORDER BY r.created_at LIMIT 1) \
        OR EXISTS (SELECT r.no FROM @run r WHERE r.project = f.project AND r.limit_name = $2 \
        AND r.limit_name IS NOT NULL AND r.state = 'running' ORDER BY r.key LIMIT 1)) ORDER BY f.id LIMIT 1";
    /// The workflows of a limit no longer declare it, so that a declaration of it is a new one.
    /// (`workflow_with_rules` or `workflow_pkey`)
    FORGET_LIMIT = "UPDATE @workflow SET limit_name = NULL, declaration = NULL \
        WHERE project = $1 AND limit_name = $2";
    /// Deletes a limit. (`run_limit_pkey`)
    DELETE_LIMIT = "DELETE FROM @run_limit WHERE project = $1 AND name = $2";
    /// Creates or updates limits. (no index)
    UPSERT_LIMITS = "INSERT INTO @run_limit \
        (project, name, declaration, set_values, taken, updated_at) \
        SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::bigint[]) \
        ON CONFLICT (project, name) DO UPDATE SET declaration = excluded.declaration, \
        set_values = excluded.set_values, taken = excluded.taken, updated_at = excluded.updated_at";
    /// The unfinished runs of a workflow count against another limit. (`run_newest_by_state`)
    FOLLOW_LIMIT = "UPDATE @run SET limit_name = $3 WHERE project = $1 AND workflow = $2 \
        AND state IN ('queued', 'waiting', 'buffered') AND limit_name IS DISTINCT FROM $3";
    /// The same for runs that workers hold. (scan of `run_held`)
    FOLLOW_LIMIT_WHILE_HELD = "UPDATE @run SET limit_name = $3 WHERE project = $1 AND workflow = $2 \
        AND state = 'running' AND limit_name IS DISTINCT FROM $3";
    /// All limits of a project with their workflows; how many of their runs are running, and of
    /// each workflow how many are available, up to a bound, and since when. (`run_limit_pkey`,
    /// `run_under_limit`, `workflow_with_rules` or `workflow_pkey`, `run_claimable`)
    LIMIT_STATUSES = concat!(
        "SELECT l.name, ", limit_columns!(), ", \
         (SELECT count(*) FROM @run r WHERE r.project = l.project AND r.limit_name = l.name \
         AND r.limit_name IS NOT NULL AND r.state = 'running'), f.id, q.count, q.since \
         FROM @run_limit l LEFT JOIN @workflow f ON f.project = l.project AND f.limit_name = l.name \
         LEFT JOIN LATERAL (SELECT count(*) AS count, min(h.available_at) AS since FROM ( \
         SELECT r.available_at FROM @run r WHERE r.project = l.project AND r.workflow = f.id AND ",
        claimable!(), " AND r.available_at <= $2 ORDER BY r.available_at LIMIT $3) h) q ON true \
         WHERE l.project = $1 ORDER BY l.name, f.id"
    );
}
