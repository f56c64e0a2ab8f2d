//! Statements for transactions of the application, which execute on its connections: every name is
//! qualified, every value has its type, and there is no colon that a client library could take for
//! the beginning of a parameter.
//!
//! They only add rows. A transaction of the application may stay open for minutes, so it must hold
//! no lock for which a worker waits.

use super::Sql;

/// What tells a database from its copies: the id that the schema's creation gave it, and the number
/// of the table that has it, which changes where the schema is restored from a dump.
macro_rules! database_id {
    () => {
        "d.id || ' ' || CAST(d.tableoid AS text) || ' ' || current_database()"
    };
}

/// The schema that a connection of the application leads to, as `h`.
macro_rules! here {
    ($id:literal, $newest:literal, $call:literal) => {
        concat!(
            "h AS (SELECT ",
            database_id!(),
            " = CAST(",
            $id,
            " AS text) AS is_here, v.oldest <= CAST(",
            $newest,
            " AS bigint) AS is_known, coalesce(current_setting('polos.call', true) = CAST(",
            $call,
            " AS text), false) AS is_open FROM @database d CROSS JOIN @version v)"
        )
    };
}

statements! {
    /// The id of the database. (scan of one row)
    DATABASE_ID = concat!("SELECT ", database_id!(), " FROM @database d");
    /// Which of the tables there are, whether the role may use them, and what kind of transaction
    /// it is. Marks the transaction, and locks a name. (catalog)
    CHECK_TRANSACTION = "SELECT count(*), coalesce(sum(CASE WHEN t.may_enter \
        AND has_table_privilege(t.oid, 'SELECT') \
        AND (NOT t.is_target OR has_table_privilege(t.oid, 'INSERT')) THEN 1 ELSE 0 END), 0), \
        current_setting('transaction_read_only'), CAST(current_user AS text), \
        CAST(current_database() AS text), set_config('polos.call', CAST($1 AS text), true), \
        CAST(pg_advisory_xact_lock(CAST($2 AS bigint)) AS text) \
        FROM (SELECT c.oid, c.relname = CAST($4 AS text) AS is_target, \
        has_schema_privilege(n.oid, 'USAGE') AS may_enter \
        FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
        WHERE n.nspname = CAST($3 AS text) \
        AND c.relname IN ('database', 'version', 'workflow', CAST($4 AS text))) t";
    /// Creates a queued run, and tells workers at the commit. (`run_by_idempotency_key`,
    /// `workflow_pkey`)
    CREATE_RUN_IN_TRANSACTION = concat!(
        "WITH ", here!("$1", "$2", "$3"), ", \
         k AS (SELECT f.limit_name, f.priority FROM @workflow f \
         WHERE f.project = CAST($4 AS text) AND f.id = CAST($5 AS text)), \
         c AS (INSERT INTO @run (project, workflow, id, key, timezone, origin, payload, state, \
         attempt, token, available_at, created_at, idempotency_key, limit_name, priority) \
         SELECT CAST($4 AS text), CAST($5 AS text), CAST($6 AS text), CAST($7 AS text), \
         CAST($8 AS text), CAST($9 AS text), CAST($10 AS text), CAST($11 AS text), \
         CAST($12 AS bigint), CAST($13 AS bigint), CAST($14 AS bigint), CAST($15 AS bigint), \
         CAST($16 AS text), k.limit_name, coalesce(CAST($17 AS bigint), k.priority, 0) \
         FROM h LEFT JOIN k ON true WHERE h.is_here AND h.is_known AND h.is_open \
         ON CONFLICT (project, workflow, idempotency_key) WHERE idempotency_key IS NOT NULL \
         DO NOTHING RETURNING id) \
         SELECT h.is_here, h.is_known, h.is_open, (SELECT c.id FROM c), \
         (SELECT r.id FROM @run r WHERE r.project = CAST($4 AS text) \
         AND r.workflow = CAST($5 AS text) AND r.idempotency_key = CAST($16 AS text) LIMIT 1), \
         true, (SELECT CAST(pg_notify(CAST($18 AS text), '') AS text) FROM c) FROM h"
    );
    /// Creates a schedule under a key that has none, and tells workers at the commit.
    /// (`schedule_by_key`)
    CREATE_SCHEDULE_IN_TRANSACTION = concat!(
        "WITH ", here!("$1", "$2", "$3"), ", \
         e AS (SELECT s.id, s.spec = CAST($4 AS text) AND s.input IS NOT DISTINCT FROM CAST($5 AS text) \
         AND s.tags IS NOT DISTINCT FROM CAST($17 AS text) AND s.status IN ('active', 'paused') AS is_equal FROM @schedule s \
         WHERE s.project = CAST($6 AS text) AND s.workflow = CAST($7 AS text) \
         AND s.key = CAST($8 AS text)), \
         c AS (INSERT INTO @schedule (spec, input, project, workflow, key, id, cadence, status, \
         next_slot, attended_from, created_at, updated_at, revision, tags) \
         SELECT CAST($4 AS text), CAST($5 AS text), CAST($6 AS text), CAST($7 AS text), \
         CAST($8 AS text), CAST($9 AS text), CAST($10 AS text), CAST($11 AS text), \
         CAST($12 AS bigint), CAST($13 AS bigint), CAST($14 AS bigint), CAST($15 AS bigint), \
         CAST($16 AS bigint), CAST($17 AS text) FROM h WHERE h.is_here AND h.is_known AND h.is_open \
         ON CONFLICT (project, key, workflow) DO NOTHING RETURNING id) \
         SELECT h.is_here, h.is_known, h.is_open, (SELECT c.id FROM c), (SELECT e.id FROM e), \
         coalesce((SELECT e.is_equal FROM e), false), \
         (SELECT CAST(pg_notify(CAST($18 AS text), '') AS text) FROM c) FROM h"
    );

    // The other side: commits of polos itself.

    /// Locks names that a transaction of the application may be creating, each unless one is.
    /// (no table)
    LOCK_NAMES = "SELECT w.name FROM unnest($1::bigint[]) AS w (name) \
        WHERE NOT pg_try_advisory_xact_lock_shared(w.name)";
    /// The names that transactions of the application are creating, and other locks of that kind.
    /// (catalog)
    HELD_NAMES = "SELECT CAST(CAST(l.classid AS bigint) << 32 | CAST(l.objid AS bigint) AS bigint) \
        FROM pg_catalog.pg_locks l WHERE l.locktype = 'advisory' AND l.objsubid = 1 \
        AND l.mode = 'ExclusiveLock' AND l.granted \
        AND l.database = (SELECT b.oid FROM pg_catalog.pg_database b \
        WHERE b.datname = current_database())";
}
