//! Statements about events of runs, and about the steps that wait for them.

use super::Sql;
use crate::store::row_reader::{event_columns, step_columns};

statements! {
    /// Steps as they stand, by run and name. (`run_id_key`, `step_pkey`)
    WAITING_STEPS = concat!(
        "SELECT DISTINCT r.id, ", step_columns!(),
        " FROM unnest($1::text[], $2::text[]) AS w (run, name) JOIN @run r ON r.id = w.run \
         JOIN @step t ON t.run = r.no AND t.name = w.name"
    );
    /// Events, by run and name. (`run_id_key`, `event_pkey`)
    EVENTS_BY_NAME = concat!(
        "SELECT DISTINCT r.id, ", event_columns!(),
        " FROM unnest($1::text[], $2::text[]) AS w (run, name) JOIN @run r ON r.id = w.run \
         JOIN @event e ON e.run = r.no AND e.name = w.name"
    );
    /// The names of events for which runs have no step, up to a bound for each run. (`run_id_key`,
    /// `event_pkey`, `step_pkey`)
    UNREAD_EVENTS = "SELECT r.id, u.name FROM @run r CROSS JOIN LATERAL ( \
        SELECT e.name FROM @event e WHERE e.run = r.no AND (SELECT true FROM @step t \
        WHERE t.run = e.run AND t.name = e.name) IS NULL LIMIT $2) u WHERE r.id = ANY($1)";
    /// Runs that have an event with an idempotency key and a name, up to a bound, each with whether
    /// it is of a workflow and key. (`event_by_key`, `run_pkey`)
    RUNS_WITH_EVENT = "SELECT r.project = $1 AND r.workflow = $2 AND r.key = $3, r.id FROM (SELECT e.run \
        FROM @event e WHERE e.idempotency_key = $5 AND e.name = $4 ORDER BY e.run DESC LIMIT $6) e \
        JOIN @run r ON r.no = e.run";
    /// A run that has such an event, of the newest ones of a workflow and key that are not running.
    /// (`run_newest_by_key`, `event_by_key` or `event_pkey`)
    RUN_OF_KEY_WITH_EVENT = "SELECT r.id FROM (SELECT r.no, r.id FROM @run r WHERE r.project = $1 \
        AND r.workflow = $2 AND r.key = $3 AND r.state <> 'running' ORDER BY r.created_at DESC, r.no DESC \
        LIMIT $6) r WHERE (SELECT true FROM @event e WHERE e.run = r.no AND e.name = $4 \
        AND e.idempotency_key = $5) LIMIT 1";
    /// Locks events, in the given order. (no table)
    LOCK_EVENTS = "SELECT CAST(pg_advisory_xact_lock(w.event) AS text) FROM unnest($1::bigint[]) AS w (event)";
    /// For several events, the run that has accepted each, as `RUNS_WITH_EVENT` and
    /// `RUN_OF_KEY_WITH_EVENT` find it. (`event_by_key`, `run_pkey`,
    /// `run_newest_by_key`)
    ACCEPTED_EVENTS = "SELECT w.project, w.workflow, w.key, w.name, w.idempotency_key, f.id \
        FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[]) \
        AS w (project, workflow, key, name, idempotency_key) CROSS JOIN LATERAL ( \
        WITH e AS MATERIALIZED (SELECT e.run FROM @event e WHERE e.idempotency_key = w.idempotency_key \
        AND e.name = w.name ORDER BY e.run DESC LIMIT $6) \
        (SELECT r.id FROM e JOIN @run r ON r.no = e.run WHERE r.project = w.project \
        AND r.workflow = w.workflow AND r.key = w.key LIMIT 1) UNION ALL \
        (SELECT r.id FROM (SELECT r.no, r.id FROM @run r WHERE r.project = w.project \
        AND r.workflow = w.workflow AND r.key = w.key AND r.state <> 'running' \
        AND (SELECT count(*) FROM e) >= $6 ORDER BY r.created_at DESC, r.no DESC LIMIT $7) r \
        WHERE (SELECT true FROM @event e WHERE e.run = r.no AND e.name = w.name \
        AND e.idempotency_key = w.idempotency_key) LIMIT 1) LIMIT 1) f";
    /// Records events. (`run_id_key`)
    ADD_EVENTS = "INSERT INTO @event (run, name, payload, idempotency_key, received_at) \
        SELECT r.no, w.name, w.payload, w.idempotency_key, w.received_at \
        FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::bigint[]) \
        AS w (run, name, payload, idempotency_key, received_at) JOIN @run r ON r.id = w.run";
}
