//! Statements of commits: reads that lock, and writes.

use super::{Composed, Sql};
use crate::store::row_reader::{peer_columns, run_columns, step_columns};

/// The columns of a schedule that an edit may change, for a macro.
macro_rules! changing_schedule_columns {
    ($each:ident) => {
        $each!(
            project,
            workflow,
            key,
            owner,
            cadence,
            spec,
            input,
            status,
            note,
            next_slot,
            last_slot,
            run_count,
            failure_count,
            attended_from,
            created_at,
            updated_at,
            revision,
            declaration,
            settled,
            tags
        )
    };
}

/// The columns of a schedule that may change while its definition stays, for a macro.
macro_rules! advancing_schedule_columns {
    ($each:ident) => {
        $each!(
            status,
            note,
            next_slot,
            last_slot,
            run_count,
            failure_count,
            attended_from,
            updated_at,
            revision,
            settled
        )
    };
}

/// Schedules as rows of a table `w`.
macro_rules! schedule_rows {
    () => {
        concat!(
            rows!(
                1 text, 2 text, 3 text, 4 text, 5 text, 6 text, 7 text, 8 text, 9 text, 10 text,
                11 bigint, 12 bigint, 13 bigint, 14 bigint, 15 bigint, 16 bigint, 17 bigint,
                18 bigint, 19 text, 20 text, 21 text
            ),
            " AS w (id, ",
            changing_schedule_columns!(names),
            ")"
        )
    };
}

/// The columns of a run that may change, for a macro.
macro_rules! changing_run_columns {
    ($each:ident) => {
        $each!(
            state,
            attempt,
            token,
            worker,
            available_at,
            started_at,
            finished_at,
            cancel_requested,
            result,
            error,
            child_ended,
            ended_token,
            ended_print,
            ended_state,
            ended_released,
            interruptions,
            interrupted_token,
            interrupted_alone,
            note,
            progress,
            refused_by,
            limit_name
        )
    };
}

macro_rules! new_run_columns {
    () => {
        "id, project, workflow, key, schedule_id, slot, last_slot, upcoming, timezone, origin, \
         payload, input, state, attempt, token, worker, available_at, created_at, started_at, \
         finished_at, cancel_requested, parent, idempotency_key, limit_name, priority"
    };
}

/// The columns of new runs that only the general path writes.
macro_rules! rare_new_run_columns {
    () => {
        "child_ended, interruptions, interrupted_token, interrupted_alone, debounce_key, \
         debounce_until, debounce_call"
    };
}

macro_rules! new_step_columns {
    () => {
        names!(name, state, attempt, run_attempt, wakes_at, started_at, finished_at, result, error)
    };
}

/// What a recording replaces of a stored step: all but its name and start.
macro_rules! step_replacement {
    () => {
        "state = excluded.state, attempt = excluded.attempt, run_attempt = excluded.run_attempt, \
         wakes_at = excluded.wakes_at, finished_at = excluded.finished_at, \
         result = excluded.result, error = excluded.error"
    };
}

/// Runs that no worker holds and that are not finished.
macro_rules! free {
    () => {
        "r.state IN ('queued', 'waiting') AND NOT r.cancel_requested"
    };
}

/// The columns that every new run is written with, in the order of `new_run_args`.
pub(in crate::store::postgres) const NEW_RUN_COLUMNS: &str = new_run_columns!();

/// The columns that a step is written with, besides its run.
pub(in crate::store::postgres) const NEW_STEP_COLUMNS: &str = new_step_columns!();

/// The assignments that replace a stored step.
pub(in crate::store::postgres) const STEP_REPLACEMENT: &str = step_replacement!();

composed! {
    /// The schedules that a group of commands looks at or changes, locked. (`schedule_pkey`,
    /// `schedule_by_key`, `schedule_by_owner`, `run_id_key`, `run_held`, `run_by_parent`,
    /// `run_unfinished`)
    LOCK_SCHEDULES;
    /// The runs that a group of commands looks at or changes, locked. (`run_id_key`, `run_held`,
    /// `run_by_parent`, `run_unfinished`, `run_by_schedule`, `run_by_idempotency_key`,
    /// `run_debounced`, `run_by_debounce_call`)
    LOCK_RUNS;
    /// Which of some runs have recorded a step. (`run_id_key`, `step_pkey`, `run_unfinished`)
    RUNS_WITH_STEPS;
    /// The newest line of the ledger of each of some schedules. (`ledger_by_schedule`,
    /// `run_id_key`)
    NEWEST_LINES;
    /// Commits commands of the fast path: checks what must hold, writes, and counts the commit.
    /// (`run_id_key`, `worker_pkey`, `commits_pkey`, `workflow_with_rules` or `workflow_pkey`)
    FAST_PATH;
}

statements! {
    // Reads of a group of commands.

    /// Workers, locked. (`worker_pkey`)
    LOCK_WORKERS = concat!(
        "SELECT ", worker_columns!(),
        ", w.project FROM @worker w WHERE w.id = ANY($1) ORDER BY w.id FOR UPDATE"
    );
    /// The other workers of some projects. (scan of the few workers)
    OTHER_WORKERS = concat!(
        "SELECT ", worker_columns!(),
        ", w.project FROM @worker w WHERE w.project = ANY($1) AND w.id <> ALL($2) ORDER BY w.id"
    );
    /// The states of steps, by run and name. (`run_id_key`, `step_pkey`)
    STEPS_BY_NAME = "SELECT DISTINCT r.id, t.name, t.state \
        FROM unnest($1::text[], $2::text[]) AS w (run, name) \
        JOIN @run r ON r.id = w.run JOIN @step t ON t.run = r.no AND t.name = w.name";
    /// When the runs that some workers hold recorded their newest steps. (`run_held`, `step_pkey`)
    NEWEST_STEPS = "SELECT r.id, max(t.finished_at) FROM @run r JOIN @step t ON t.run = r.no \
        WHERE r.worker = ANY($1) AND r.state = 'running' GROUP BY r.id";

    // Claims.

    /// Runs that were held for other code, have not been refused by this code, are due, and are not
    /// locked by another transaction, locked. (`run_held_for_code`)
    HELD_RUNS = concat!(
        "SELECT ", run_row_columns!(), ", ", run_columns!(), " FROM @run r WHERE r.project = $1 \
         AND r.refused_by IS NOT NULL AND ", free!(), " AND EXISTS (SELECT \
         FROM unnest($2::text[], $3::text[]) AS w (id, code) WHERE w.id = r.workflow \
         AND w.code <> ALL(string_to_array(r.refused_by, ' '))) \
         AND (r.available_at <= $5 OR r.available_at = $6) \
         ORDER BY r.id LIMIT $4 FOR UPDATE OF r SKIP LOCKED"
    );
    /// The steps that earlier claims of some runs recorded, in order. (`run_pkey`, `step_pkey`)
    STEPS_OF_RUNS = concat!(
        "SELECT r.id, ", step_columns!(), " FROM @step t JOIN @run r ON r.no = t.run \
         WHERE t.run = ANY($1) ORDER BY t.no"
    );

    // Pruning.

    /// Has the next prune look again at runs that were kept while more were kept. (`run_finished`,
    /// `run_pkey`)
    RECONSIDER_FOR_FEWER = "UPDATE @run SET kept = 0 WHERE no = ANY(ARRAY(SELECT no FROM @run \
        WHERE project = $1 AND kept > $2 AND finished_at IS NOT NULL \
        LIMIT $3 FOR UPDATE SKIP LOCKED))";
    /// Old runs that no prune has kept, oldest first, locked; and whether each is among the newest
    /// of its schedule. (`run_finished`, `run_by_schedule`)
    OLD_RUNS = "WITH o AS (SELECT no, schedule_id, slot, finished_at FROM @run WHERE project = $1 \
        AND kept = 0 AND finished_at < $2 ORDER BY finished_at, no \
        LIMIT $4 FOR UPDATE SKIP LOCKED) \
        SELECT o.no, o.schedule_id, o.schedule_id IS NOT NULL AND o.slot IS NOT NULL \
        AND (SELECT count(*) FROM (SELECT FROM @run n WHERE n.schedule_id = o.schedule_id \
        AND (n.slot, n.no) > (o.slot, o.no) LIMIT $3) x) < $3 \
        FROM o ORDER BY o.finished_at, o.no";
    /// Marks runs that are among the newest of their schedules, so that the next prune skips them.
    /// (`run_pkey`)
    KEEP_RUNS = "UPDATE @run SET kept = $2 WHERE no = ANY($1)";
    /// Records that schedules have such runs. (`schedule_pkey`)
    NOTE_KEPT_RUNS = "UPDATE @schedule SET has_kept_run = true \
        WHERE id = ANY($1) AND NOT has_kept_run";
    /// Deletes old lines of the ledger. The setting tells a trigger that they stay counted.
    /// (`ledger_by_age`, `ledger_pkey`)
    PRUNE_LEDGER = "DELETE FROM @ledger WHERE no = ANY(ARRAY(SELECT no FROM @ledger \
        WHERE project = $1 AND until_slot < $2 ORDER BY until_slot, no \
        LIMIT $3 FOR UPDATE SKIP LOCKED)) AND set_config('polos.pruning', 'on', true) = 'on' RETURNING no";

    /// Finished one-off schedules that no code declares and whose runs are all old, by their slot,
    /// locked. (`schedule_finished_once`, `run_by_schedule`)
    FINISHED_ONCE = "SELECT s.id FROM @schedule s WHERE s.project = $1 \
        AND NULLIF(split_part(s.cadence, '|', 3), '')::bigint < $2 \
        AND s.status = 'finished' AND s.owner IS NULL AND left(s.cadence, 2) = '||' \
        AND NOT EXISTS (SELECT FROM @run r WHERE r.schedule_id = s.id \
        AND (r.finished_at IS NULL OR r.finished_at >= $2)) \
        ORDER BY NULLIF(split_part(s.cadence, '|', 3), '')::bigint, s.id \
        LIMIT $3 FOR UPDATE OF s SKIP LOCKED";
    /// Deletes the steps of all runs of schedules. (`run_by_schedule`, `step_pkey`)
    DELETE_STEPS_OF_SCHEDULES = "DELETE FROM @step WHERE run = ANY(ARRAY(SELECT no FROM @run \
        WHERE schedule_id = ANY($1)))";
    /// Deletes all runs of schedules. (`run_by_schedule`)
    DELETE_RUNS_OF_SCHEDULES = "DELETE FROM @run WHERE schedule_id = ANY($1)";
    /// Deletes the ledger of schedules. (`ledger_by_schedule`)
    DELETE_LEDGER_OF_SCHEDULES = "DELETE FROM @ledger WHERE schedule_id = ANY($1)";

    // Writes: runs.

    /// Deletes the steps of runs. (`step_pkey`)
    DELETE_STEPS_OF_RUNS = "DELETE FROM @step WHERE run = ANY($1)";
    /// Deletes runs. (`run_pkey`)
    DELETE_RUNS = "DELETE FROM @run WHERE no = ANY($1)";
    /// Writes what may have changed of runs. (`run_pkey`)
    UPDATE_RUNS = concat!(
        "UPDATE @run r SET ", changing_run_columns!(assignments), ", kept = 0 FROM ",
        rows!(
            1 bigint, 2 text, 3 bigint, 4 bigint, 5 text, 6 bigint, 7 bigint, 8 bigint, 9 boolean,
            10 text, 11 text, 12 boolean, 13 bigint, 14 bigint, 15 text, 16 boolean, 17 bigint,
            18 bigint, 19 boolean, 20 text, 21 text, 22 text, 23 text
        ),
        " AS w (no, ",
        changing_run_columns!(names), ") WHERE r.no = w.no"
    );
    /// Completes runs that are still held, if nothing but the run changes with that: no other run
    /// of its schedule is unfinished, and the schedule counts no failures. Returns their places,
    /// and whether that frees a permit of a limit. The schedules are locked, so no run can be added
    /// meanwhile. (`run_id_key`, `run_unfinished`, `schedule_pkey`)
    COMPLETE_RUNS = concat!(
        "UPDATE @run r SET state = w.state, finished_at = $7, result = w.result, error = NULL, \
         ended_token = w.token, ended_print = w.print, ended_state = w.state, \
         ended_released = r.limit_name IS NOT NULL, kept = 0 FROM ",
        rows!(1 text, 2 bigint, 3 text, 4 text, 5 bigint, 6 bigint),
        " AS w (run, token, state, result, print, place) \
         WHERE r.id = w.run AND ", state!(), " = 'running' AND r.token = w.token \
         AND r.parent IS NULL \
         AND (SELECT true FROM @run u WHERE u.schedule_id = r.schedule_id AND u.finished_at IS NULL \
         AND u.no <> r.no LIMIT 1) IS NULL \
         AND (SELECT true FROM @schedule s WHERE s.id = r.schedule_id AND s.failure_count > 0 \
         LIMIT 1) IS NULL RETURNING w.place, r.limit_name IS NOT NULL"
    );
    /// Replaces the payloads and the priorities of debounced runs. (`run_pkey`)
    REPLACE_DEBOUNCED = "UPDATE @run r SET payload = w.payload, debounce_call = w.call, \
        priority = w.priority FROM unnest($1::bigint[], $2::text[], $3::text[], $4::bigint[]) \
        AS w (no, payload, call, priority) WHERE r.no = w.no";
    /// Creates runs, numbered in the order in which they are given. (no index)
    INSERT_RUNS = concat!(
        "INSERT INTO @run (", new_run_columns!(), ", ", rare_new_run_columns!(), ") \
         SELECT ", new_run_columns!(), ", ", rare_new_run_columns!(), " FROM ",
        numbered_rows!(
            1 text, 2 text, 3 text, 4 text, 5 text, 6 bigint, 7 bigint, 8 bigint, 9 text, 10 text,
            11 text, 12 text, 13 text, 14 bigint, 15 bigint, 16 text, 17 bigint, 18 bigint,
            19 bigint, 20 bigint, 21 boolean, 22 text, 23 text, 24 text, 25 bigint, 26 boolean,
            27 bigint, 28 bigint, 29 boolean, 30 text, 31 bigint, 32 text
        ),
        " AS w (",
        new_run_columns!(), ", ", rare_new_run_columns!(), ", place) ORDER BY place"
    );
    /// Schedules have new runs: their runs that a prune kept may no longer be among the newest.
    /// (`schedule_pkey`, `run_by_schedule`)
    RECONSIDER_RUNS = "WITH s AS (UPDATE @schedule SET has_kept_run = false WHERE id = ANY($1) \
        RETURNING id) \
        UPDATE @run r SET kept = 0 FROM s WHERE r.schedule_id = s.id AND r.kept > 0";

    // Writes: steps.

    /// Deletes steps, by run and name. (`run_id_key`, `step_pkey`)
    DELETE_STEPS = "DELETE FROM @step t USING unnest($1::text[], $2::text[]) AS w (run, name), \
        @run r WHERE r.id = w.run AND t.run = r.no AND t.name = w.name";
    /// Deletes the failed steps of runs, which a new attempt executes again. (`run_id_key`,
    /// `step_pkey`)
    DELETE_FAILED_STEPS = "DELETE FROM @step t USING @run r \
        WHERE r.id = ANY($1) AND t.run = r.no AND t.state = 'failed'";
    /// Records steps in the given order; a step that is done stays. (`run_id_key`)
    RECORD_STEPS = concat!(
        "INSERT INTO @step AS t (run, ", new_step_columns!(), ") SELECT r.no, w.name, w.state, \
         w.attempt, w.run_attempt, w.wakes_at, w.started_at, w.finished_at, w.result, w.error FROM ",
        numbered_rows!(
            1 text, 2 text, 3 text, 4 bigint, 5 bigint, 6 bigint, 7 bigint, 8 bigint, 9 text,
            10 text
        ),
        " AS w (run, ", new_step_columns!(), ", place) \
         JOIN @run r ON r.id = w.run ORDER BY w.place \
         ON CONFLICT (run, name) DO UPDATE SET ", step_replacement!(), " WHERE t.state <> 'done'"
    );

    // Writes: schedules and their ledger.

    /// Deletes schedules. (`schedule_pkey`)
    DELETE_SCHEDULES = "DELETE FROM @schedule WHERE id = ANY($1)";
    /// Writes what may have changed of schedules. (`schedule_pkey`)
    UPDATE_SCHEDULES = concat!(
        "UPDATE @schedule s SET ", changing_schedule_columns!(assignments),
        " FROM ", schedule_rows!(), " WHERE s.id = w.id"
    );
    /// Writes what may have changed of schedules whose definition is the same: a part of the
    /// columns of `UPDATE_SCHEDULES`, and none that a trigger looks at. (`schedule_pkey`)
    ADVANCE_SCHEDULES = concat!(
        "UPDATE @schedule s SET ", advancing_schedule_columns!(assignments),
        " FROM ",
        rows!(
            1 text, 2 text, 3 text, 4 bigint, 5 bigint, 6 bigint, 7 bigint, 8 bigint, 9 bigint,
            10 bigint, 11 text
        ),
        " AS w (id, ",
        advancing_schedule_columns!(names), ") WHERE s.id = w.id"
    );
    /// Creates schedules. (no index)
    INSERT_SCHEDULES = concat!(
        "INSERT INTO @schedule (id, ", changing_schedule_columns!(names), ") SELECT id, ",
        changing_schedule_columns!(names), " FROM ", schedule_rows!()
    );
    /// Marks the lines of slots that were skipped on request: they are undone, not pruned.
    /// (`ledger_by_schedule`)
    UNDO_SKIPS = "UPDATE @ledger l SET fate = 'undone' \
        FROM unnest($1::text[], $2::bigint[]) AS w (schedule_id, slot) \
        WHERE l.schedule_id = w.schedule_id AND l.from_slot = w.slot AND l.until_slot = w.slot \
        AND l.fate = 'skipped'";
    /// Deletes these lines. (`ledger_by_schedule`)
    DELETE_SKIPS = "DELETE FROM @ledger l USING unnest($1::text[], $2::bigint[]) AS w (schedule_id, slot) \
        WHERE l.schedule_id = w.schedule_id AND l.from_slot = w.slot AND l.until_slot = w.slot \
        AND l.fate = 'undone'";
    /// Adds lines to the ledger in the given order. (no index)
    INSERT_LEDGER = "INSERT INTO @ledger (project, schedule_id, from_slot, until_slot, \
        slot_count, fate, reason) SELECT w.a, w.b, w.c, w.d, w.e, w.f, w.g \
        FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[], $5::bigint[], \
        $6::text[], $7::text[]) WITH ORDINALITY AS w (a, b, c, d, e, f, g, place) \
        ORDER BY w.place";

    // Writes: workers and workflows.

    /// Registers a worker. One that registers again keeps the heartbeat count that it is given.
    /// (no index)
    REGISTER_WORKER = "INSERT INTO @worker (id, project, app, host, pid, process_mark, about, \
        beat, entered_at, beat_at, workflows, declares) \
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) \
        ON CONFLICT (id) DO UPDATE SET project = excluded.project, app = excluded.app, \
        host = excluded.host, pid = excluded.pid, process_mark = excluded.process_mark, \
        about = excluded.about, beat = excluded.beat, entered_at = excluded.entered_at, \
        beat_at = excluded.beat_at, workflows = excluded.workflows, declares = excluded.declares";
    /// Writes heartbeats of workers. (`worker_pkey`)
    BUMP_HEARTBEATS = "UPDATE @worker w SET beat = b.beat, beat_at = b.beat_at \
        FROM unnest($1::text[], $2::bigint[], $3::bigint[]) AS b (id, beat, beat_at) \
        WHERE w.id = b.id";
    /// Commits heartbeats of registered workers as one statement. Counts the commit if one of them
    /// holds runs, or if it must be counted. (`worker_pkey`, `run_held`, `commits_pkey`)
    HEARTBEATS = "WITH alive AS (UPDATE @worker w SET beat = w.beat + 1, beat_at = $2 \
        FROM unnest($1::text[]) AS b (id) WHERE w.id = b.id RETURNING w.id), \
        counted AS (UPDATE @commits SET no = no + 1 WHERE slot = $3 \
        AND ($4 OR EXISTS (SELECT FROM alive a JOIN @run r ON r.worker = a.id AND r.state = 'running')) \
        RETURNING no) SELECT id, (SELECT no FROM counted) FROM alive";
    /// Deletes workers. (`worker_pkey`)
    DELETE_WORKERS = "DELETE FROM @worker WHERE id = ANY($1)";
    /// Creates or updates workflows. (no index)
    UPSERT_WORKFLOWS = "INSERT INTO @workflow AS f \
        (project, id, schedulable, limit_name, priority, declaration, hooks) \
        SELECT * FROM unnest($1::text[], $2::text[], $3::boolean[], $4::text[], $5::bigint[], $6::text[], \
        $7::text[]) \
        ON CONFLICT (project, id) DO UPDATE SET schedulable = excluded.schedulable, \
        limit_name = excluded.limit_name, priority = excluded.priority, \
        declaration = excluded.declaration, hooks = excluded.hooks \
        WHERE (f.schedulable, f.limit_name, f.priority, f.declaration, f.hooks) IS DISTINCT FROM \
        (excluded.schedulable, excluded.limit_name, excluded.priority, excluded.declaration, excluded.hooks)";

    // Writes: the commit.

    /// Counts a commit. (`commits_pkey`)
    COUNT_COMMIT = "UPDATE @commits SET no = no + 1 WHERE slot = $1 RETURNING no";
}
