//! Statements that read.

use super::{Composed, Sql};
use crate::store::query::COUNTED_MAX;
use crate::store::row_reader::{peer_columns, run_columns, schedule_columns, step_columns};

// As in `DUE`.
const _: () = assert!(COUNTED_MAX == 2);

/// Counts a schedule's unfinished runs of one phase, up to [`COUNTED_MAX`].
macro_rules! unfinished_count {
    ($phase:literal) => {
        concat!(
            "(SELECT count(*) FROM (SELECT FROM @run r WHERE r.schedule_id = s.id AND r.phase = ",
            $phase,
            " AND r.finished_at IS NULL LIMIT 2) c)"
        )
    };
}

macro_rules! due {
    ($in_shard:literal) => {
        concat!(
            "SELECT ",
            schedule_columns!(),
            ", ",
            unfinished_count!("1"),
            ", ",
            unfinished_count!("2"),
            " FROM (SELECT h.id, h.next_slot FROM unnest($2::text[]) AS w (id) \
             CROSS JOIN LATERAL (SELECT s.id, s.next_slot FROM @schedule s WHERE s.project = $1 \
             AND s.workflow = w.id AND s.status = 'active' AND s.next_slot IS NOT NULL \
             AND s.next_slot <= $3 ",
            $in_shard,
            "ORDER BY s.next_slot, s.id LIMIT $4) h ORDER BY h.next_slot, h.id LIMIT $4) d \
             JOIN @schedule s ON s.id = d.id ORDER BY d.next_slot, d.id"
        )
    };
}

/// Finds the next workflow that has active schedules.
macro_rules! next_due_workflow {
    ($more:literal) => {
        concat!(
            "SELECT s.workflow FROM @schedule s WHERE s.project = $1 ",
            $more,
            " AND s.status = 'active' AND s.next_slot IS NOT NULL \
             ORDER BY s.workflow, s.next_slot LIMIT 1"
        )
    };
}

/// The workflows that have active schedules, as a table `w`. Skips from one workflow to the next,
/// however many schedules each has.
macro_rules! due_workflows {
    () => {
        concat!(
            "WITH RECURSIVE w (id) AS ((",
            next_due_workflow!(""),
            ") UNION ALL SELECT (",
            next_due_workflow!("AND s.workflow > w.id"),
            ") FROM w WHERE w.id IS NOT NULL)"
        )
    };
}

/// The slots of the workflows in `w` that are before $3.
macro_rules! overdue {
    ($what:literal, $limit:literal) => {
        concat!(
            " FROM w CROSS JOIN LATERAL (SELECT ",
            $what,
            " FROM @schedule s WHERE s.project = $1 AND s.workflow = w.id AND s.status = 'active' \
             AND s.next_slot IS NOT NULL AND s.next_slot < $3 ORDER BY s.next_slot LIMIT ",
            $limit,
            ") h"
        )
    };
}

macro_rules! count {
    ($($rows:expr),+) => {
        concat!("(SELECT count(*) FROM (", $($rows),+, ") c)")
    };
}

macro_rules! count_in_status {
    ($status:literal) => {
        count!(
            "SELECT FROM @schedule s WHERE s.project = $1 AND s.status = '",
            $status,
            "' ORDER BY s.id LIMIT $2"
        )
    };
}

macro_rules! count_in_state {
    ($state:literal) => {
        count!(
            "SELECT FROM @run r WHERE r.project = $1 AND r.state = '",
            $state,
            "' ORDER BY r.workflow, r.created_at LIMIT $2"
        )
    };
}

/// Runs that a worker may claim and that are not held for other code.
macro_rules! claimable {
    () => {
        "r.state IN ('queued', 'waiting') AND NOT r.cancel_requested AND r.refused_by IS NULL"
    };
}

macro_rules! error_class {
    () => {
        r#"split_part(ltrim(substr(r.error, 9, 300), ' "'), '"', 1)"#
    };
}

/// Finds the next error class and workflow.
macro_rules! next_error_class {
    ($more:expr) => {
        concat!(
            "(SELECT ",
            error_class!(),
            " AS class, r.workflow FROM @run r WHERE r.project = $1 \
             AND r.state = 'failed' AND ",
            $more,
            " ORDER BY ",
            error_class!(),
            ", r.workflow LIMIT 1)"
        )
    };
}

/// The class of a run's error, as the index `run_newest_by_error` has it.
pub(in crate::store::postgres) const ERROR_CLASS: &str = error_class!();

composed! {
    /// A page of schedules. (`schedule_by_workflow`, `schedule_by_owner`, `schedule_by_status`,
    /// `schedule_by_key`, `schedule_tag_pkey`, scan of `schedule_pkey` or `schedule_by_id` until
    /// the page is full)
    SCHEDULES_PAGE;
    /// A page of runs, newest first. (`run_newest`, `run_newest_by_workflow`, `run_by_schedule`,
    /// `run_newest_by_key`, `run_newest_by_state`, `run_held`, `run_id_key`, `run_pkey`)
    RUNS_PAGE;
    /// A page of the runs that failed with errors of some classes, newest first.
    /// (`run_newest_by_error`, `run_id_key`, `run_pkey`)
    RUNS_WITH_ERROR;
    /// Which of some rows exist. (`worker_pkey`, `schedule_pkey`, `run_id_key`)
    MISSED_ROWS;
}

statements! {
    // Schedules.

    /// The schedules of some workflows that are due, earliest first, with the numbers of their
    /// unfinished runs. (`schedule_due`, `schedule_pkey`, `run_unfinished`)
    DUE = due!("");
    /// The same for the schedules of one shard, as `Shard::holds` defines it. (`schedule_due`,
    /// `schedule_pkey`, `run_unfinished`)
    DUE_IN_SHARD = due!(
        "AND (ascii(right(s.id, 1)) + 31 * ascii(right(s.id, 2))) % $6::bigint = $5::bigint "
    );
    /// How many schedules of some workflows are due, up to a bound. (`schedule_due`)
    DUE_COUNT = "SELECT count(*) FROM (SELECT FROM @schedule s WHERE s.project = $1 \
        AND s.workflow = ANY($2) AND s.status = 'active' AND s.next_slot IS NOT NULL \
        AND s.next_slot <= $3 LIMIT $4) due";
    /// When some workflows next have work: the earliest slot, claimable run, and suspect, and
    /// whether runs are held for other code; runs of a limited workflow count only if it has room.
    /// (`schedule_due`, `run_claimable`, `run_suspect`, `run_held_for_code`, `run_limit_pkey`,
    /// `workflow_with_rules`)
    NEXT_WORK = concat!(
        "SELECT (SELECT min(h.next_slot) FROM unnest($2::text[]) AS w (id) CROSS JOIN LATERAL ( \
         SELECT s.next_slot FROM @schedule s WHERE s.project = $1 AND s.workflow = w.id \
         AND s.status = 'active' AND s.next_slot IS NOT NULL ORDER BY s.next_slot LIMIT 1) h), \
         (SELECT min(h.available_at) FROM unnest($2::text[]) AS w (id) CROSS JOIN LATERAL ( \
         SELECT r.available_at FROM @run r WHERE r.project = $1 AND r.workflow = w.id \
         AND r.interruptions < 2 AND ", claimable!(), " ORDER BY r.available_at LIMIT 1) h \
         WHERE ", is_unlimited!("w.id"), "), \
         (SELECT r.available_at FROM @run r WHERE r.project = $1 AND r.interruptions >= 2 \
         AND r.workflow = ANY($2) AND ", claimable!(), " AND ", is_unlimited!("r.workflow"), " ORDER BY r.available_at LIMIT 1), \
         EXISTS (SELECT FROM @run r WHERE r.project = $1 AND r.refused_by IS NOT NULL \
         AND r.state IN ('queued', 'waiting') AND NOT r.cancel_requested), \
         EXISTS (SELECT FROM unnest($2::text[]) AS w (id) WHERE NOT ", is_unlimited!("w.id"), ")"
    );
    /// One schedule. (`schedule_pkey` or `schedule_by_id`)
    SCHEDULE = concat!(
        "SELECT ", schedule_columns!(), " FROM @schedule s WHERE s.id = $1 AND s.project = $2"
    );
    /// The schedules of all workflows that fire until an instant, earliest first. (`schedule_due`,
    /// `schedule_pkey`)
    COMING = concat!(
        due_workflows!(), " SELECT ", schedule_columns!(),
        " FROM (SELECT h.id, h.next_slot FROM w CROSS JOIN LATERAL ( \
         SELECT s.id, s.next_slot FROM @schedule s WHERE s.project = $1 AND s.workflow = w.id \
         AND s.status = 'active' AND s.next_slot IS NOT NULL AND s.next_slot <= $2 \
         ORDER BY s.next_slot, s.id LIMIT $3) h ORDER BY h.next_slot, h.id LIMIT $3) d \
         JOIN @schedule s ON s.id = d.id ORDER BY d.next_slot, d.id"
    );
    /// How many schedules are in each status, how many runs are in each unfinished state, and how
    /// many schedules are overdue, all up to a bound; and the earliest overdue slot. The columns
    /// are in the order of `ScheduleStatus::ALL` and `RunState::UNFINISHED`. (`schedule_due`,
    /// `schedule_by_status`, `run_newest_by_state`, `run_held`)
    PROJECT_STATS = concat!(
        due_workflows!(), " SELECT ",
        // The order is that of the index that serves it.
        count!(
            "SELECT FROM @schedule s WHERE s.project = $1 AND s.status = 'active' \
             AND s.next_slot IS NOT NULL ORDER BY s.workflow, s.next_slot LIMIT $2"
        ), ", ",
        count_in_status!("paused"), ", ",
        count_in_status!("retired"), ", ",
        count_in_status!("finished"), ", ",
        count_in_status!("broken"), ", ",
        count_in_state!("buffered"), ", ",
        count_in_state!("queued"), ", ",
        count!(
            "SELECT FROM @worker w CROSS JOIN LATERAL (SELECT FROM @run r WHERE r.worker = w.id \
             AND r.state = 'running' AND r.project = $1 LIMIT $2) h LIMIT $2"
        ), ", ",
        count_in_state!("waiting"), ", ",
        count!("SELECT", overdue!("", "$2"), " LIMIT $2"),
        ", (SELECT min(h.next_slot)", overdue!("s.next_slot", "1"), ")"
    );
    /// The history of a schedule in a range of slots, newest first: its runs and the lines of the
    /// ledger. (`run_by_schedule`, `ledger_by_schedule`)
    HISTORY = "(SELECT 0 AS kind, r.slot AS from_slot, r.no, r.slot, 1::bigint, NULL::text, \
        r.state, r.id, r.started_at, r.worker, r.interruptions FROM @run r \
        WHERE r.schedule_id = $2 AND r.slot >= $3 AND r.slot < $4 AND r.project = $1 \
        AND r.origin IN ('schedule', 'backfill') \
        ORDER BY r.slot DESC NULLS LAST, r.no DESC LIMIT $5) UNION ALL \
        (SELECT 1, l.from_slot, l.no, l.until_slot, l.slot_count, l.fate, l.reason, NULL, NULL, \
        NULL, NULL FROM @ledger l WHERE l.schedule_id = $2 AND l.from_slot >= $3 \
        AND l.from_slot < $4 AND l.project = $1 ORDER BY l.from_slot DESC, l.no DESC LIMIT $5) \
        ORDER BY from_slot DESC, kind, no DESC LIMIT $5";

    // Runs.

    /// One run. (`run_id_key`)
    RUN = concat!("SELECT ", run_columns!(), " FROM @run r WHERE r.id = $1 AND r.project = $2");
    /// Unfinished runs that have a note or interrupted their workers, newest first.
    /// (`run_newest_remarkable`)
    REMARKABLE_RUNS = concat!(
        "SELECT ", run_columns!(), " FROM @run r WHERE r.project = $1 \
         AND (r.interruptions > 0 OR r.note IS NOT NULL) AND r.finished_at IS NULL \
         ORDER BY r.created_at DESC, r.no DESC LIMIT $2"
    );
    /// How many runs a schedule has, up to a bound, and a key and a workflow of theirs.
    /// (`run_by_schedule`)
    COUNT_OF_SCHEDULE = "SELECT count(*), min(c.key), min(c.workflow) FROM \
        (SELECT r.key, r.workflow FROM @run r WHERE r.schedule_id = $1 \
        ORDER BY r.slot NULLS FIRST, r.no LIMIT $2) c";
    /// How many runs that no worker holds have a key, up to a bound, and a workflow of theirs.
    /// (`run_newest_by_key`)
    COUNT_OF_KEY = "SELECT count(*), min(c.key), min(c.workflow) FROM \
        (SELECT r.key, r.workflow FROM @run r \
        WHERE r.project = $1 AND r.key >= $2 AND r.key <= $2 AND r.state <> 'running' \
        ORDER BY r.key, r.workflow, r.created_at, r.no LIMIT $3) c";
    /// The classes of the errors with which runs failed, each with the workflows of these runs.
    /// Skips from one pair to the next, however many runs each has. (`run_newest_by_error`)
    ERROR_CLASSES = concat!(
        "WITH RECURSIVE w (class, workflow) AS (",
        next_error_class!(concat!(error_class!(), " > ''")),
        " UNION ALL SELECT n.class, n.workflow FROM w CROSS JOIN LATERAL ",
        next_error_class!(
            concat!("(", error_class!(), ", r.workflow) > (w.class, w.workflow)")
        ),
        " n) SELECT class, workflow FROM w"
    );
    /// Runs of a workflow with idempotency keys in a range. (`run_by_idempotency_key`)
    RUNS_WITH_KEYS = "SELECT r.idempotency_key, r.id, r.state FROM @run r WHERE r.project = $1 \
        AND r.workflow = $2 AND r.idempotency_key > $3 AND r.idempotency_key < $4 \
        ORDER BY r.idempotency_key LIMIT $5";
    /// Runs that wait for a child run, each with whether no child is unfinished.
    /// (`run_waits_for_child`, `run_by_parent`)
    WAITING_PARENTS = "SELECT w.id, (SELECT true FROM @run c WHERE c.parent = w.id \
        AND c.finished_at IS NULL LIMIT 1) IS NULL FROM (SELECT r.id FROM @run r \
        WHERE r.project = $1 AND r.state = 'waiting' AND r.available_at >= 253402300799999999 \
        AND r.id > $2 ORDER BY r.id LIMIT $3) w ORDER BY w.id";
    /// The succeeded run of a schedule with the newest slot that finished before a run was
    /// created. (`run_by_schedule`, `run_id_key`)
    PREVIOUS_RESULT = concat!(
        "SELECT ", run_columns!(), " FROM @run r WHERE r.schedule_id = $1 \
         AND r.state = 'succeeded' \
         AND r.finished_at < (SELECT created_at FROM @run WHERE id = $2) \
         ORDER BY r.slot DESC NULLS LAST, r.no DESC LIMIT 1"
    );
    /// The steps of a run in the order in which they were first recorded. (`run_id_key`,
    /// `step_pkey`)
    STEPS_OF_RUN = concat!(
        "SELECT ", step_columns!(), " FROM @step t \
         WHERE t.run = (SELECT no FROM @run WHERE id = $1) ORDER BY t.no"
    );
    /// Whether each of some claims is the newest of its run, which still runs. (`run_id_key`)
    CLAIMS_STAND = "SELECT r.id IS NOT NULL \
        FROM unnest($1::text[], $2::bigint[]) WITH ORDINALITY AS w (id, token, place) \
        LEFT JOIN @run r ON r.id = w.id AND r.token = w.token AND r.state = 'running' \
        ORDER BY w.place";
    /// For each of some claims, whether it is the newest of its run, which still runs, and whether
    /// that run has a schedule or needs none. (`run_id_key`, `schedule_pkey`, `step_pkey`)
    MAY_ENTER = "SELECT r.id IS NOT NULL, coalesce(r.origin NOT IN ('schedule', 'backfill') OR r.attempt > 1 \
        OR coalesce((SELECT true FROM @schedule s WHERE s.id = r.schedule_id LIMIT 1), \
        (SELECT true FROM @step t WHERE t.run = r.no LIMIT 1)), false) \
        FROM unnest($1::text[], $2::bigint[]) WITH ORDINALITY AS w (id, token, place) \
        LEFT JOIN @run r ON r.id = w.id AND r.token = w.token AND r.state = 'running' \
        ORDER BY w.place";
    /// The runs that a worker is asked to stop. (`run_held`)
    CANCEL_REQUESTS = "SELECT id FROM @run \
        WHERE worker = $1 AND cancel_requested AND state = 'running' ORDER BY id";

    // Workers and workflows.

    /// The workers of a project with the numbers of runs that they hold. (`worker_by_project`,
    /// `run_held`)
    PEERS = concat!(
        "SELECT ", worker_columns!(), ", (SELECT count(*) FROM @run r \
         WHERE r.worker = w.id AND r.state = 'running') \
         FROM @worker w WHERE w.project = $1 ORDER BY w.id"
    );
    /// The workflows of a project. (`workflow_pkey`)
    WORKFLOWS = "SELECT id, schedulable FROM @workflow WHERE project = $1 ORDER BY id";

    // The database.

    /// The values of all commit counters. (scan of 64 rows)
    COMMIT_COUNTS = "SELECT no FROM @commits ORDER BY slot";
    /// The time by the database's clock. (no table)
    CLOCK = "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint";
    /// Whether this connection is encrypted. (catalog)
    IS_ENCRYPTED = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    /// The number of our session, if the server knows the setting with which we connected.
    /// (no table)
    SESSION_NUMBER = "SELECT pg_backend_pid() \
        WHERE current_setting('polos.session', true) IS NOT DISTINCT FROM '1'";
    /// The version of the server, the encoding of the database, and which product it is. (no table)
    SERVER_VERSION = "SELECT current_setting('server_version_num'), \
        current_setting('server_encoding'), version()";
    /// Whether a schema exists, how many tables it has, and whether one of them has the version.
    /// (catalog)
    SCHEMA_STATE = "SELECT count(DISTINCT n.oid), count(c.oid), \
        count(c.oid) FILTER (WHERE c.relname = 'version') \
        FROM pg_namespace n LEFT JOIN pg_class c ON c.relnamespace = n.oid \
        AND c.relkind IN ('r', 'p', 'v', 'm', 'f') WHERE n.nspname = $1";
    /// An index whose creation was interrupted or is in progress, and whether it is in progress.
    /// (catalog)
    INVALID_INDEX = "SELECT EXISTS (SELECT FROM pg_locks l WHERE l.relation = i.indrelid \
        AND l.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database()) \
        AND l.mode = 'ShareUpdateExclusiveLock' AND l.granted AND l.pid <> pg_backend_pid()) \
        FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid \
        JOIN pg_namespace n ON n.oid = c.relnamespace \
        WHERE n.nspname = $1 AND c.relname = $2 AND NOT i.indisvalid";
    /// The version of the schema, and the oldest version that may use it. (scan of one row)
    SCHEMA_VERSION = "SELECT version, oldest FROM @version";
    /// Waits until no other process migrates a schema. (no table)
    LOCK_MIGRATION = "SELECT pg_advisory_xact_lock(hashtextextended('polos ' || $1, 0))";
}
