//! The SQL statements. The comment of each says what it guarantees and, in parentheses, which index
//! serves it.

use crate::store::row_reader::{
    event_columns, hook_call_columns, peer_columns, run_columns, schedule_columns, step_columns,
};

macro_rules! error_class {
    () => {
        "substr(ltrim(substr(r.error, 9, 300), ' \"'), 1, \
         instr(ltrim(substr(r.error, 9, 300), ' \"') || '\"', '\"') - 1)"
    };
}

/// Whether a schedule `s` names stored calendars, as the index has it.
macro_rules! has_calendars {
    () => {
        r#"instr(s.spec, '"calendars":[') > 0"#
    };
}

/// The specification of a schedule `s` from its calendars on.
macro_rules! calendars_on {
    () => {
        r#"substr(s.spec, instr(s.spec, '"calendars":['))"#
    };
}

/// Whether a schedule `s` has all tags of a JSON object, a parameter that may be NULL.
/// (primary key of `schedule_tag`)
macro_rules! wanted_tags {
    ($tags:literal) => {
        concat!(
            "AND (",
            $tags,
            " IS NULL OR NOT EXISTS (SELECT 1 FROM json_each(",
            $tags,
            ") w WHERE NOT EXISTS (SELECT 1 FROM schedule_tag t WHERE t.project = s.project \
             AND t.name = w.key AND t.value = w.value AND t.schedule_id = s.id)))"
        )
    };
}

/// What changes in a run that succeeds.
macro_rules! success {
    () => {
        "state = 'succeeded', result = ?2, error = NULL, finished_at = ?3, ended_token = token, \
         ended_print = ?4, ended_state = 'succeeded', ended_released = 0"
    };
}

macro_rules! statements {
    ($($(#[$doc:meta])* $name:ident = $sql:expr;)+) => {
        $($(#[$doc])* pub(super) const $name: &str = $sql;)+

        /// All statements by name, so that tests can check their plans.
        pub(super) const ALL: &[(&str, &str)] = &[$((stringify!($name), $name)),+];
    };
}

statements! {
    // Statements that change schedules.

    /// The schedule that a decision was made for, if it has not changed since. (primary key)
    DECIDED = "SELECT s.project, s.workflow, s.key, s.input, s.last_slot, s.has_kept_run \
        FROM schedule s WHERE s.id = ?1 AND s.revision = ?2 AND s.status = 'active'";
    /// Replaces what is kept about single slots of a schedule. (primary key)
    SET_SETTLED = "UPDATE schedule SET settled = ?2 WHERE id = ?1";
    /// Advances a schedule whose decision was just checked and that stays active. (primary key)
    MOVE_ON = "UPDATE schedule SET next_slot = ?2, last_slot = ?3, run_count = run_count + ?4, revision = revision + 1 WHERE id = ?1";
    /// The same, with a new status. (primary key)
    MOVE_ON_TO_STATUS = "UPDATE schedule SET next_slot = ?2, last_slot = ?3, run_count = run_count + ?4, \
        revision = revision + 1, status = ?5 WHERE id = ?1";
    /// A schedule with its cadence. (primary key)
    STORED_SCHEDULE = concat!("SELECT ", schedule_columns!(), ", s.cadence FROM schedule s WHERE s.id = ?1");
    /// The schedule with this key. (`schedule_by_key`)
    STORED_SCHEDULE_BY_KEY = concat!("SELECT ", schedule_columns!(), ", s.cadence FROM schedule s WHERE s.project = ?1 AND s.key = ?2 AND s.workflow = ?3");
    /// The ids in use from one to another. (primary key)
    IDS_IN_USE = "SELECT id FROM schedule WHERE id BETWEEN ?1 AND ?2";
    /// Inserts a schedule, unless its id or its key is in use.
    INSERT_SCHEDULE = "INSERT INTO schedule (id, project, workflow, key, owner, spec, cadence, input, status, \
        next_slot, attended_from, created_at, updated_at, revision, declaration) \
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?11, ?11, 1, ?12) ON CONFLICT DO NOTHING";
    /// Gives a new schedule its tags. (primary key)
    SET_TAGS = "UPDATE schedule SET tags = ?2 WHERE id = ?1";
    /// Counts the slot of a run that a backfill has created. (primary key)
    COUNT_BACKFILLED = "UPDATE schedule SET ran_beyond = coalesce(ran_beyond, 0) + 1 WHERE id = ?1";
    /// Writes everything that an edit may change. (primary key)
    UPDATE_SCHEDULE = "UPDATE schedule SET owner = ?2, spec = ?3, cadence = ?4, input = ?5, status = ?6, note = ?7, \
        next_slot = ?8, last_slot = ?9, run_count = ?10, failure_count = ?11, attended_from = ?12, \
        updated_at = ?13, revision = ?14, declaration = ?15, settled = ?16, \
        tags = ?17 WHERE id = ?1";
    /// Deletes a schedule. (primary key)
    DELETE_SCHEDULE = "DELETE FROM schedule WHERE id = ?1";
    /// Live schedules that an application declared. (`schedule_by_owner`)
    OWNED = concat!("SELECT ", schedule_columns!(), ", s.cadence FROM schedule s \
        WHERE s.project = ?1 AND s.owner = ?2 AND s.status IN ('active', 'paused') ORDER BY s.id");
    /// Makes decisions stale that did not count a new unfinished run. (primary key)
    BUMP_REVISION = "UPDATE schedule SET revision = revision + 1 WHERE id = ?1 RETURNING revision - 1";
    /// Whether the schedule exists in the project. (primary key)
    HAS_SCHEDULE = "SELECT 1 FROM schedule WHERE id = ?1 AND project = ?2";
    /// Resets the failures after a success; writes nothing if there were none. (`schedule_failing`)
    RESET_FAILURES = "UPDATE schedule INDEXED BY schedule_failing SET failure_count = 0 \
        WHERE id = ?1 AND failure_count > 0";
    /// Counts a run that failed for good. (primary key)
    COUNT_FAILURE = "UPDATE schedule SET failure_count = min(failure_count + 1, 4294967295) WHERE id = ?1 \
        RETURNING failure_count, status, spec";
    /// Deletes the line of a slot that was skipped on request. (`ledger_by_schedule`)
    DELETE_SKIP = "DELETE FROM ledger WHERE schedule_id = ?1 AND from_slot = ?2 AND until_slot = ?2 AND fate = 'skipped'";
    /// Inserts a ledger line.
    INSERT_LEDGER = "INSERT INTO ledger (project, schedule_id, from_slot, until_slot, slot_count, fate, reason) \
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";

    // Statements that read schedules.

    /// The earliest active slots of one workflow. (`schedule_due`, covering)
    DUE_HEADS = "SELECT s.next_slot, s.id FROM schedule s WHERE s.project = ?1 AND s.workflow = ?2 \
        AND s.status = 'active' AND s.next_slot IS NOT NULL AND s.next_slot <= ?3 \
        ORDER BY s.next_slot, s.id LIMIT ?4 OFFSET ?5";
    /// A due schedule with what a decision needs. (primary key, `run_unfinished`)
    DUE_SCHEDULE = concat!("SELECT ", schedule_columns!(), ", \
        (SELECT count(*) FROM (SELECT 1 FROM run r WHERE r.schedule_id = s.id AND r.phase = 1 \
        AND r.finished_at IS NULL LIMIT ?2)), \
        (SELECT count(*) FROM (SELECT 1 FROM run r WHERE r.schedule_id = s.id AND r.phase = 2 \
        AND r.finished_at IS NULL LIMIT ?2)) \
        FROM schedule s WHERE s.id = ?1");
    /// How many active slots of one workflow there are until then. (`schedule_due`, covering)
    DUE_COUNT = "SELECT count(*) FROM (SELECT 1 FROM schedule s WHERE s.project = ?1 AND s.workflow = ?2 \
        AND s.status = 'active' AND s.next_slot IS NOT NULL AND s.next_slot <= ?3 LIMIT ?4)";
    /// The earliest active slot of one workflow. (`schedule_due`, covering)
    NEXT_SLOT = "SELECT s.next_slot FROM schedule s WHERE s.project = ?1 AND s.workflow = ?2 \
        AND s.status = 'active' AND s.next_slot IS NOT NULL ORDER BY s.next_slot LIMIT 1";
    /// One schedule. (primary key)
    SCHEDULE = concat!("SELECT ", schedule_columns!(), " FROM schedule s WHERE s.id = ?1 AND s.project = ?2");
    /// The first workflow, by name, that has schedules. (`schedule_by_workflow`, covering)
    FIRST_SCHEDULED = "SELECT workflow FROM schedule WHERE project = ?1 ORDER BY workflow LIMIT 1";
    /// The next workflow, by name, that has schedules. (`schedule_by_workflow`, covering)
    NEXT_SCHEDULED = "SELECT workflow FROM schedule WHERE project = ?1 AND workflow > ?2 ORDER BY workflow LIMIT 1";
    /// Part of the page that a project's schedules fill: those of one workflow.
    /// (`schedule_by_workflow`)
    SCHEDULE_HEADS = concat!("SELECT ", schedule_columns!(), " FROM schedule s WHERE s.project = ?1 \
        AND s.workflow = ?2 AND s.id > ?3 AND (?4 IS NULL OR s.status = ?4) ORDER BY s.id LIMIT ?5 OFFSET ?6");
    /// A page of those in a rare status. (`schedule_by_status`)
    SCHEDULES_BY_STATUS = concat!("SELECT ", schedule_columns!(), " FROM schedule s \
        WHERE s.project = ?1 AND s.status <> 'active' AND s.status = ?4 AND s.id > ?2 \
        AND (?5 IS NULL OR s.owner = ?5) AND (?6 IS NULL OR s.workflow = ?6) ", wanted_tags!("?7"), " \
        ORDER BY s.id LIMIT ?3");
    /// A page of those with a tag, in the order of their ids. (primary key)
    SCHEDULES_BY_TAG = concat!("SELECT ", schedule_columns!(), " FROM schedule_tag g \
        CROSS JOIN schedule s ON s.id = g.schedule_id WHERE g.project = ?1 AND g.name = ?8 AND g.value = ?9 \
        AND g.schedule_id > ?2 AND (?4 IS NULL OR s.status = ?4) AND (?5 IS NULL OR s.owner = ?5) \
        AND (?6 IS NULL OR s.workflow = ?6) ", wanted_tags!("?7"), " ORDER BY g.schedule_id LIMIT ?3");
    /// A page of those of an application. (`schedule_by_owner`)
    SCHEDULES_BY_OWNER = concat!("SELECT ", schedule_columns!(), " FROM schedule s \
        WHERE s.project = ?1 AND s.owner = ?5 AND s.id > ?2 AND (?4 IS NULL OR s.status = ?4) \
        AND (?6 IS NULL OR s.workflow = ?6) ORDER BY s.id LIMIT ?3");
    /// A page of those of a workflow. (`schedule_by_workflow`)
    SCHEDULES_BY_WORKFLOW = concat!("SELECT ", schedule_columns!(), " FROM schedule s \
        WHERE s.project = ?1 AND s.workflow = ?6 AND s.id > ?2 AND (?4 IS NULL OR s.status = ?4) \
        AND (?5 IS NULL OR s.owner = ?5) ORDER BY s.id LIMIT ?3");
    /// A page of those with a key: at most one for each workflow, so sorting beats walking by id.
    /// (`schedule_by_key`)
    SCHEDULES_BY_KEY = concat!("SELECT ", schedule_columns!(), " FROM schedule s \
        WHERE s.project = ?1 AND s.key = ?7 AND s.id > ?2 AND (?4 IS NULL OR s.status = ?4) \
        AND (?5 IS NULL OR s.owner = ?5) AND (?6 IS NULL OR s.workflow = ?6) ", wanted_tags!("?8"), " \
        ORDER BY +s.id LIMIT ?3");
    /// A page of those whose keys are in a range, in their order. (`schedule_by_key`)
    SCHEDULES_BY_PREFIX = concat!("SELECT ", schedule_columns!(), " FROM schedule s \
        WHERE s.project = ?1 AND s.key >= ?2 AND s.key < ?3 AND (?4 IS NULL OR (s.key, s.workflow) > (?2, ?4)) \
        AND (?5 IS NULL OR s.status = ?5) AND (?6 IS NULL OR s.owner = ?6) AND (?7 IS NULL OR s.workflow = ?7) \
        AND (?8 IS NULL OR s.key = ?8) ", wanted_tags!("?10"), " ORDER BY s.key, s.workflow LIMIT ?9");
    /// The first workflow, by name, that has active schedules. (`schedule_due`, covering)
    FIRST_DUE = "SELECT workflow FROM schedule INDEXED BY schedule_due WHERE project = ?1 AND status = 'active' \
        AND next_slot IS NOT NULL ORDER BY workflow LIMIT 1";
    /// The next workflow, by name, that has active schedules. (`schedule_due`, covering)
    NEXT_DUE = "SELECT workflow FROM schedule INDEXED BY schedule_due WHERE project = ?1 AND workflow > ?2 \
        AND status = 'active' AND next_slot IS NOT NULL ORDER BY workflow LIMIT 1";
    /// How many active schedules there are, up to a bound. (`schedule_due`, covering)
    COUNT_ACTIVE = "SELECT count(*) FROM (SELECT 1 FROM schedule INDEXED BY schedule_due WHERE project = ?1 \
        AND status = 'active' AND next_slot IS NOT NULL LIMIT ?2)";
    /// How many schedules are in a rare status, up to a bound. (`schedule_by_status`, covering)
    COUNT_IN_STATUS = "SELECT count(*) FROM (SELECT 1 FROM schedule WHERE project = ?1 AND status <> 'active' \
        AND status = ?2 LIMIT ?3)";

    // Statements that change runs.

    /// Inserts a run, unless one with this id exists.
    INSERT_RUN = "INSERT INTO run (id, is_slot, project, workflow, key, schedule_id, slot, last_slot, upcoming, timezone, \
        origin, payload, input, state, attempt, token, worker, available_at, created_at, started_at, parent, \
        idempotency_key, limit_name, priority) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, \
        ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22, ?23, ?24) ON CONFLICT (id) DO NOTHING";
    /// Whether the run exists. (unique id)
    HAS_RUN = "SELECT 1 FROM run WHERE id = ?1";
    /// The run that has this key. (`run_by_idempotency_key`)
    RUN_BY_IDEMPOTENCY_KEY = "SELECT id FROM run WHERE project = ?1 AND workflow = ?2 AND idempotency_key = ?3";
    /// The run that waits for further calls with a debounce key. (`run_debounced`)
    DEBOUNCED = "SELECT no, debounce_until, id FROM run WHERE project = ?1 AND workflow = ?2 AND debounce_key = ?3 \
        AND state = 'queued' AND started_at IS NULL AND attempt = 1";
    /// The run that a debounced call created or changed last. (`run_by_debounce_call`)
    RUN_BY_DEBOUNCE_CALL = "SELECT id FROM run WHERE debounce_call = ?1";
    /// Replaces what a debounced run is to do, and moves its start. (primary key)
    REPLACE_DEBOUNCED = "UPDATE run SET payload = ?2, available_at = ?3, debounce_call = ?4, priority = ?5 \
        WHERE no = ?1";
    /// Notes that a debounced call created the run. (unique id)
    NOTE_DEBOUNCED = "UPDATE run SET debounce_key = ?2, debounce_until = ?3, debounce_call = ?1 WHERE id = ?1";
    /// Whether a run of the schedule is queued, running or waiting, other than one.
    /// (`run_unfinished`)
    HAS_LIVE = "SELECT 1 FROM run WHERE schedule_id = ?1 AND phase = 1 AND finished_at IS NULL AND no <> ?2 LIMIT 1";
    /// The idempotency keys of the schedule's runs that are queued, running or waiting.
    /// (`run_unfinished`)
    LIVE_KEYS = "SELECT idempotency_key FROM run WHERE schedule_id = ?1 AND phase = 1 AND finished_at IS NULL \
        AND idempotency_key IS NOT NULL";
    /// The idempotency key of a run. (primary key)
    IDEMPOTENCY_KEY = "SELECT idempotency_key FROM run WHERE no = ?1";
    /// Runs of a workflow with idempotency keys in a range. (`run_by_idempotency_key`)
    RUNS_WITH_KEYS = "SELECT idempotency_key, id, state FROM run WHERE project = ?1 AND workflow = ?2 \
        AND idempotency_key > ?3 AND idempotency_key < ?4 ORDER BY idempotency_key LIMIT ?5";
    /// The next buffered run of the schedule. (`run_unfinished`)
    NEXT_BUFFERED = "SELECT no, idempotency_key FROM run WHERE schedule_id = ?1 AND phase = 2 AND finished_at IS NULL ORDER BY slot, no LIMIT 1";
    /// Queues a buffered run. (primary key)
    RELEASE_RUN = "UPDATE run SET state = 'queued', available_at = max(available_at, ?2) WHERE no = ?1";
    /// Unfinished runs of the schedule in one phase, in order. (`run_unfinished`)
    UNFINISHED = "SELECT no, state, origin, parent, schedule_id, id FROM run WHERE schedule_id = ?1 AND phase = ?2 AND finished_at IS NULL \
        ORDER BY slot, no";
    /// Runs of the schedule that were made ahead of their slot, and are as they were made
    /// (`transitions::is_untouched`). (`run_unfinished`, `step_by_name`)
    MADE_AHEAD = "SELECT no, slot, last_slot, token FROM run WHERE schedule_id = ?1 AND phase IN (1, 2) \
        AND finished_at IS NULL AND slot > ?2 AND state IN ('queued', 'buffered', 'running') \
        AND origin = 'schedule' AND attempt = 1 AND NOT EXISTS (SELECT 1 FROM step WHERE step.run = run.no)";
    /// Whether a run of a slot of the schedule is claimed and has recorded nothing.
    /// (`run_unfinished`, `step_by_name`)
    IS_CLAIMED = "SELECT 1 FROM run WHERE schedule_id = ?1 AND phase = 1 AND finished_at IS NULL \
        AND state = 'running' AND origin IN ('schedule', 'backfill') AND attempt = 1 \
        AND NOT EXISTS (SELECT 1 FROM step WHERE step.run = run.no) LIMIT 1";
    /// Whether the run has recorded a step. (`step_by_name`)
    HAS_STEP = "SELECT 1 FROM step WHERE run = ?1 LIMIT 1";
    /// Whether the run has recorded a step since an instant. (`step_by_name`)
    HAS_STEP_SINCE = "SELECT 1 FROM step WHERE run = ?1 AND finished_at >= ?2 LIMIT 1";
    /// Its newest slots with runs. (unique id)
    NEWEST_SLOTS = "SELECT no, slot FROM run WHERE id >= ?2 AND id < ?3 AND +schedule_id = ?1 AND is_slot = 1 \
        AND origin = 'schedule' ORDER BY id DESC LIMIT ?4";
    /// Its slots without a run, newest first. (`ledger_by_schedule`)
    NEWEST_LINES = "SELECT until_slot FROM ledger WHERE schedule_id = ?1 ORDER BY from_slot DESC, no DESC";
    /// The earliest claimable runs of one workflow that are no suspects. (`run_claimable`)
    CLAIMABLE_HEADS = "SELECT available_at, slot, id, no, key, priority FROM run WHERE project = ?1 AND workflow = ?2 \
        AND state IN ('queued', 'waiting') AND cancel_requested = 0 AND interruptions < 2 AND refused_by IS NULL AND available_at <= ?3 \
        ORDER BY available_at, slot, id LIMIT ?4 OFFSET ?5";
    /// Claimable suspects, earliest first. (`run_suspect`)
    SUSPECTS = "SELECT available_at, slot, id, no, key, priority, workflow FROM run WHERE project = ?1 AND interruptions >= 2 \
        AND state IN ('queued', 'waiting') AND cancel_requested = 0 AND refused_by IS NULL ORDER BY available_at, slot, id";
    /// Runs that some code can't continue and that no worker holds. (`run_held_for_code`)
    HELD_FOR_CODE = "SELECT id, no, workflow, key, refused_by, available_at FROM run WHERE project = ?1 AND refused_by IS NOT NULL \
        AND state IN ('queued', 'waiting') AND cancel_requested = 0 ORDER BY id";
    /// One run by its number. (primary key)
    RUN_BY_NO = concat!("SELECT ", run_columns!(), " FROM run r WHERE r.no = ?1");
    /// Claims a run. (primary key)
    CLAIM_RUN = "UPDATE run SET state = 'running', token = ?2, worker = ?3, started_at = ?4, child_ended = 0, \
        available_at = ?5, note = ?6, limit_name = ?7 WHERE no = ?1";
    /// Claims runs that no code has refused, with one limit or none. A violated constraint undoes
    /// the transaction, so this needs no journal of the statement. (primary key)
    CLAIM_RUNS = "UPDATE OR FAIL run SET state = 'running', token = token + 1, worker = ?2, \
        started_at = coalesce(started_at, max(?3, available_at)), child_ended = 0, limit_name = ?4 \
        WHERE no IN (SELECT value FROM json_each(?1))";
    /// What the completion of a claim depends on. (unique id)
    CLAIM = "SELECT no, state, token, attempt, available_at, cancel_requested, child_ended, schedule_id, parent, \
        ended_token, ended_print, ended_state, ended_released, refused_by, limit_name, id FROM run WHERE id = ?1";
    /// The same for the runs that a worker holds. (`run_held`)
    HELD = "SELECT no, state, token, attempt, available_at, cancel_requested, child_ended, schedule_id, parent, \
        ended_token, ended_print, ended_state, ended_released, refused_by, limit_name, id FROM run \
        WHERE worker = ?1 AND state = 'running' ORDER BY id";
    /// Whether the run is running under this token, and where its steps are. (unique id)
    STANDS = "SELECT no, interruptions FROM run WHERE id = ?1 AND token = ?2 AND state = 'running'";
    /// Whether the run, which is running under this token, has a schedule or needs none.
    /// (unique id, `step_by_name`)
    MAY_ENTER = "SELECT origin NOT IN ('schedule', 'backfill') OR attempt > 1 \
        OR EXISTS (SELECT 1 FROM schedule WHERE schedule.id = run.schedule_id) \
        OR EXISTS (SELECT 1 FROM step WHERE step.run = run.no) \
        FROM run WHERE id = ?1 AND token = ?2 AND state = 'running'";
    /// Completes a claim. (primary key)
    END_CLAIM = "UPDATE run SET state = ?2, attempt = ?3, available_at = ?4, result = ?5, \
        error = CASE WHEN ?6 THEN error ELSE ?7 END, finished_at = ?8, ended_token = ?9, ended_print = ?10, \
        ended_state = ?11, ended_released = ?12 WHERE no = ?1";
    /// Completes a run that succeeded, and whose end released nothing. (primary key)
    END_SUCCESS = concat!("UPDATE run SET ", success!(), " WHERE no = ?1");
    /// The same for several. (primary key)
    END_SUCCESSES = concat!("UPDATE OR FAIL run SET ", success!(), " WHERE no IN (SELECT value FROM json_each(?1))");
    /// Counts that the worker of a run has died while it executed it. (primary key)
    COUNT_INTERRUPTION = "UPDATE run SET interruptions = min(interruptions + 1, 4294967295), \
        interrupted_token = token, interrupted_alone = ?2 WHERE no = ?1";
    /// Undoes the count, if it was the last one. (unique id)
    UNCOUNT_INTERRUPTION = "UPDATE run SET interruptions = max(interruptions - 1, 0), interrupted_token = NULL, \
        interrupted_alone = 0 WHERE id = ?1 AND interrupted_token = ?2";
    /// Resets the interruptions. (primary key)
    FORGET_INTERRUPTIONS = "UPDATE run SET interruptions = 0, interrupted_token = NULL, interrupted_alone = 0 \
        WHERE no = ?1";
    /// Records the code that can't continue a run. (primary key)
    HOLD_RUN = "UPDATE run SET refused_by = ?2, note = ?3 WHERE no = ?1";
    /// Notes the progress of a run. (primary key)
    REPORT_PROGRESS = "UPDATE run SET progress = ?2 WHERE no = ?1";
    /// Takes a claim from its worker. (primary key)
    FREE_RUN = "UPDATE run SET state = ?2, available_at = ?3, finished_at = ?4 WHERE no = ?1";
    /// The parent of a finished child, which is woken if it waits, or will check again. (unique id)
    PARENT = "SELECT no, state FROM run WHERE id = ?1";
    /// Wakes a waiting parent. (primary key)
    WAKE_PARENT = "UPDATE run SET available_at = min(available_at, ?2) WHERE no = ?1";
    /// The number of a run that waits for a child run and for nothing else. (unique id)
    WAITING_PARENT = "SELECT no FROM run WHERE id = ?1 AND project = ?2 AND state = 'waiting' \
        AND available_at >= 253402300799999999";
    /// Records that a child finished while its parent ran. (primary key)
    NOTE_CHILD = "UPDATE run SET child_ended = 1 WHERE no = ?1";
    /// A run of the project, as far as cancelling and retrying need it. (unique id)
    RUN_TO_CHANGE = "SELECT no, state, origin, parent, schedule_id, id FROM run WHERE id = ?1 AND project = ?2";
    /// The same in any project. (unique id)
    RUN_BY_ID = "SELECT no, state, origin, parent, schedule_id, id FROM run WHERE id = ?1";
    /// Unfinished children of a run. (`run_by_parent`)
    CHILDREN = "SELECT no, state, origin, parent, schedule_id, id FROM run WHERE parent = ?1 \
        AND finished_at IS NULL ORDER BY id";
    /// Cancels at once. (primary key)
    CANCEL_NOW = "UPDATE run SET state = 'cancelled', finished_at = ?2 WHERE no = ?1";
    /// Asks its worker to stop the run. (primary key)
    REQUEST_CANCEL = "UPDATE run SET cancel_requested = 1 WHERE no = ?1";
    /// Starts a finished run again. (primary key)
    RETRY_RUN = "UPDATE run SET state = ?3, available_at = ?2, attempt = attempt + 1, finished_at = NULL, \
        cancel_requested = 0, kept = 0, note = NULL, progress = NULL, refused_by = NULL, interruptions = 0, interrupted_token = NULL, \
        interrupted_alone = 0 WHERE no = ?1";
    /// Deletes a run. (primary key)
    DELETE_RUN = "DELETE FROM run WHERE no = ?1";

    // Steps.

    /// Records a step; a done one never changes, nor when it was begun. (`step_by_name`)
    RECORD_STEP = "INSERT INTO step (run, name, state, attempt, run_attempt, wakes_at, started_at, finished_at, \
        result, error) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10) \
        ON CONFLICT (run, name) DO UPDATE SET state = excluded.state, attempt = excluded.attempt, \
        run_attempt = excluded.run_attempt, wakes_at = excluded.wakes_at, \
        finished_at = excluded.finished_at, result = excluded.result, error = excluded.error \
        WHERE step.state <> 'done'";
    /// Steps of a run in the order of their first recording. (`step_by_name`)
    STEPS = concat!("SELECT ", step_columns!(), " FROM step t WHERE t.run = ?1 ORDER BY t.no");
    /// The same, by the run's id. (unique id, `step_by_name`)
    STEPS_OF_RUN = concat!("SELECT ", step_columns!(), " FROM step t \
        WHERE t.run = (SELECT no FROM run WHERE id = ?1) ORDER BY t.no");
    /// A new attempt executes failed steps again. (`step_by_name`)
    FORGET_FAILED_STEPS = "DELETE FROM step WHERE run = ?1 AND state = 'failed'";
    /// Steps go with their run. (`step_by_name`)
    DELETE_STEPS = "DELETE FROM step WHERE run = ?1";

    // Events.

    /// The run that an event is sent to. (unique id)
    EVENT_RUN = "SELECT no, state, slot FROM run WHERE id = ?1 AND project = ?2";
    /// What was sent to a run under a name. (primary key)
    EVENT = concat!("SELECT ", event_columns!(), " FROM event e WHERE e.run = ?1 AND e.name = ?2");
    /// Runs that have an event with an idempotency key and a name, up to a bound, each with whether
    /// it is of a workflow and key. (`event_by_key`, primary key)
    RUNS_WITH_EVENT = "SELECT r.project = ?4 AND r.workflow = ?5 AND r.key = ?6, r.id FROM event e \
        JOIN run r ON r.no = e.run WHERE e.idempotency_key = ?1 AND e.name = ?2 ORDER BY e.run DESC LIMIT ?3";
    /// A run that has such an event, of the newest ones of a workflow and key that are not running.
    /// (`run_by_key`, `event_by_key`, scan of the runs found)
    RUN_OF_KEY_WITH_EVENT = "SELECT r.id FROM (SELECT no, id FROM run INDEXED BY run_by_key WHERE project = ?1 \
        AND key = ?2 AND workflow = ?3 AND state <> 'running' ORDER BY created_at DESC LIMIT ?4) r \
        WHERE EXISTS (SELECT 1 FROM event e WHERE e.run = r.no AND e.name = ?5 AND e.idempotency_key = ?6) LIMIT 1";
    /// Records an event; the first one stays. (primary key)
    ADD_EVENT = "INSERT INTO event (run, name, payload, idempotency_key, received_at) VALUES (?1, ?2, ?3, ?4, ?5) \
        ON CONFLICT DO NOTHING";
    /// How many events of a run have no step, up to a bound. (primary key, `step_by_name`)
    UNREAD_EVENTS = "SELECT count(*) FROM (SELECT 1 FROM event WHERE run = ?1 AND NOT EXISTS \
        (SELECT 1 FROM step WHERE step.run = event.run AND step.name = event.name) LIMIT ?2)";
    /// One step. (`step_by_name`)
    STEP_BY_NAME = concat!("SELECT ", step_columns!(), " FROM step t WHERE t.run = ?1 AND t.name = ?2");

    // Statements that read runs.

    /// The earliest claimable run of one workflow that is no suspect. (`run_claimable`)
    NEXT_AVAILABLE = "SELECT available_at FROM run WHERE project = ?1 AND workflow = ?2 \
        AND state IN ('queued', 'waiting') AND cancel_requested = 0 AND interruptions < 2 AND refused_by IS NULL ORDER BY available_at LIMIT 1";
    /// Runs that a worker shall stop. (`run_held`)
    CANCEL_REQUESTS = "SELECT id FROM run WHERE worker = ?1 AND cancel_requested = 1 AND state = 'running' ORDER BY id";
    /// One run. (unique id)
    RUN = concat!("SELECT ", run_columns!(), " FROM run r WHERE r.id = ?1 AND r.project = ?2");
    /// Newest unfinished runs that interrupted their workers, or that wait with a note.
    /// (`run_remarkable`)
    REMARKABLE_RUNS = concat!("SELECT ", run_columns!(), " FROM run r WHERE r.project = ?1 \
        AND (interruptions > 0 OR note IS NOT NULL) AND finished_at IS NULL \
        ORDER BY r.created_at DESC, r.no DESC LIMIT ?2");
    /// When a run was created. (unique id)
    CREATED_AT = "SELECT created_at FROM run WHERE id = ?1";
    /// Its place in the list of runs. (unique id)
    PLACE_OF_RUN = "SELECT created_at, no FROM run WHERE id = ?1 AND project = ?2";
    /// The first workflow, by name, that has runs. (`run_by_workflow`, covering)
    FIRST_WORKFLOW = "SELECT workflow FROM run WHERE project = ?1 ORDER BY workflow LIMIT 1";
    /// The next workflow, by name, that has runs. (`run_by_workflow`, covering)
    NEXT_WORKFLOW = "SELECT workflow FROM run WHERE project = ?1 AND workflow > ?2 ORDER BY workflow LIMIT 1";
    /// Newest runs of one workflow. (`run_by_workflow`)
    RUN_HEADS = "SELECT r.created_at, r.no FROM run r WHERE r.project = ?1 AND r.workflow = ?2 \
        AND r.created_at <= ?3 AND r.created_at >= ?5 AND (r.created_at < ?3 OR r.no < ?4) \
        AND (?6 IS NULL OR r.key = ?6) AND (?7 = '' OR instr(?7, r.state) > 0) \
        ORDER BY r.created_at DESC, r.no DESC LIMIT ?8 OFFSET ?9";
    /// The first workflow, by name, that has runs with a key. (`run_by_key`, covering)
    FIRST_WITH_KEY = "SELECT workflow FROM run INDEXED BY run_by_key WHERE project = ?1 AND key = ?2 \
        ORDER BY workflow LIMIT 1";
    /// The next workflow, by name, that has runs with a key. (`run_by_key`, covering)
    NEXT_WITH_KEY = "SELECT workflow FROM run INDEXED BY run_by_key WHERE project = ?1 AND key = ?2 \
        AND workflow > ?3 ORDER BY workflow LIMIT 1";
    /// Newest runs of one workflow with a key. (`run_by_key`)
    RUN_HEADS_WITH_KEY = "SELECT r.created_at, r.no FROM run r INDEXED BY run_by_key WHERE r.project = ?1 \
        AND r.key = ?2 AND r.workflow = ?3 AND r.created_at <= ?4 AND r.created_at >= ?6 \
        AND (r.created_at < ?4 OR r.no < ?5) AND (?7 = '' OR instr(?7, r.state) > 0) \
        AND (?8 IS NULL OR r.schedule_id = ?8) ORDER BY r.created_at DESC, r.no DESC LIMIT ?9 OFFSET ?10";
    /// How many runs have a key, up to a bound. (`run_by_key`, covering)
    COUNT_BY_KEY = "SELECT count(*) FROM (SELECT 1 FROM run INDEXED BY run_by_key WHERE project = ?1 AND key = ?2 \
        LIMIT ?3)";
    /// How many runs a schedule has, up to a bound, and their key and workflow. (unique id)
    COUNT_OF_SCHEDULE = "SELECT count(*), min(key), min(workflow) FROM (SELECT key, workflow FROM run WHERE id >= ?2 AND id < ?3 \
        AND +schedule_id = ?1 AND is_slot = 1 LIMIT ?4)";
    /// The same for runs with another kind of id. (`run_off_slot`)
    COUNT_OF_SCHEDULE_OFF_SLOT = "SELECT count(*), min(key), min(workflow) FROM (SELECT key, workflow FROM run WHERE schedule_id = ?1 \
        AND is_slot = 0 LIMIT ?2)";
    /// The first workflow, by name, that has runs in a state. (`run_by_state`, covering)
    FIRST_IN_STATE = "SELECT workflow FROM run WHERE project = ?1 AND state = ?2 AND state <> 'succeeded' \
        AND state <> 'running' ORDER BY workflow LIMIT 1";
    /// The next workflow, by name, that has runs in a state. (`run_by_state`, covering)
    NEXT_IN_STATE = "SELECT workflow FROM run WHERE project = ?1 AND state = ?2 AND workflow > ?3 \
        AND state <> 'succeeded' AND state <> 'running' ORDER BY workflow LIMIT 1";
    /// Newest runs of one workflow in one state. (`run_by_state`)
    RUN_HEADS_IN_STATE = "SELECT r.created_at, r.no FROM run r WHERE r.project = ?1 AND r.state = ?2 \
        AND r.state <> 'succeeded' AND r.state <> 'running' AND r.workflow = ?3 \
        AND r.created_at <= ?4 AND r.created_at >= ?6 AND (r.created_at < ?4 OR r.no < ?5) \
        AND (?7 IS NULL OR r.key = ?7) AND (?10 IS NULL OR r.schedule_id = ?10) \
        ORDER BY r.created_at DESC, r.no DESC LIMIT ?8 OFFSET ?9";
    /// The next error class, by name, with which runs have failed. (`run_by_error`)
    NEXT_ERROR_CLASS = concat!("SELECT ", error_class!(), " AS class FROM run r INDEXED BY run_by_error \
        WHERE r.project = ?1 AND r.state = 'failed' AND ", error_class!(), " > ?2 ORDER BY class LIMIT 1");
    /// The next workflow, by name, whose runs have failed with an error of a class.
    /// (`run_by_error`)
    NEXT_WITH_ERROR = concat!("SELECT r.workflow FROM run r INDEXED BY run_by_error WHERE r.project = ?1 \
        AND r.state = 'failed' AND ", error_class!(), " = ?2 AND r.workflow > ?3 ORDER BY r.workflow LIMIT 1");
    /// Newest runs of one workflow that have failed with an error of a class. (`run_by_error`)
    RUN_HEADS_WITH_ERROR = concat!("SELECT r.created_at, r.no FROM run r INDEXED BY run_by_error \
        WHERE r.project = ?1 AND r.state = 'failed' AND ", error_class!(), " = ?2 AND r.workflow = ?3 \
        AND r.created_at <= ?4 AND r.created_at >= ?6 AND (r.created_at < ?4 OR r.no < ?5) \
        AND (?7 IS NULL OR r.key = ?7) AND (?10 IS NULL OR r.schedule_id = ?10) \
        ORDER BY r.created_at DESC, r.no DESC LIMIT ?8 OFFSET ?9");
    /// Newest runs that one worker holds. (`run_held`)
    RUN_HEADS_HELD = "SELECT r.created_at, r.no FROM run r WHERE r.worker = ?2 AND r.state = 'running' \
        AND r.project = ?1 AND (?3 IS NULL OR r.workflow = ?3) \
        AND r.created_at <= ?4 AND r.created_at >= ?6 AND (r.created_at < ?4 OR r.no < ?5) \
        AND (?7 IS NULL OR r.key = ?7) AND (?10 IS NULL OR r.schedule_id = ?10) \
        ORDER BY r.created_at DESC, r.no DESC LIMIT ?8 OFFSET ?9";
    /// Runs that wait for a child run, each with whether no child is unfinished.
    /// (`run_waits_for_child`, `run_by_parent`)
    WAITING_PARENTS = "SELECT r.id, NOT EXISTS (SELECT 1 FROM run c WHERE c.parent = r.id AND c.finished_at IS NULL) \
        FROM run r WHERE r.project = ?1 AND r.state = 'waiting' AND r.available_at >= 253402300799999999 \
        AND r.id > ?2 ORDER BY r.id LIMIT ?3";
    /// How many runs are in a state, up to a bound. (`run_by_state`, covering)
    COUNT_IN_STATE = "SELECT count(*) FROM (SELECT 1 FROM run WHERE project = ?1 AND state = ?2 \
        AND state <> 'succeeded' AND state <> 'running' LIMIT ?3)";
    /// How many runs of the project a worker holds, up to a bound. (`run_held`)
    COUNT_HELD = "SELECT count(*) FROM (SELECT 1 FROM run WHERE worker = ?1 AND state = 'running' AND project = ?2 \
        LIMIT ?3)";
    /// Newest runs of one schedule. (unique id, `run_off_slot`)
    RUNS_OF_SCHEDULE = concat!("SELECT ", run_columns!(), " FROM run r WHERE r.no IN ( \
        SELECT no FROM run WHERE id >= ?10 AND id < ?11 AND +schedule_id = ?2 AND is_slot = 1 \
        UNION ALL SELECT no FROM run WHERE schedule_id = ?2 AND is_slot = 0) \
        AND +r.project = ?1 AND (r.created_at < ?3 OR r.created_at = ?3 AND r.no < ?4) AND r.created_at >= ?5 \
        AND (?6 IS NULL OR r.key = ?6) AND (?7 = '' OR instr(?7, r.state) > 0) \
        AND (?9 IS NULL OR r.workflow = ?9) ORDER BY r.created_at DESC, r.no DESC LIMIT ?8");
    /// Slots of a schedule that made a run, newest first. (unique id)
    HISTORY_RUNS = "SELECT slot, no, state, id, started_at, worker, interruptions FROM run WHERE id >= ?5 AND id < ?6 \
        AND +schedule_id = ?1 AND is_slot = 1 AND slot < ?2 AND slot >= ?3 AND +project = ?4 \
        AND origin IN ('schedule', 'backfill') ORDER BY id DESC LIMIT ?7";
    /// The same for runs with another kind of id. (`run_off_slot`)
    HISTORY_RUNS_OFF_SLOT = "SELECT slot, no, state, id, started_at, worker, interruptions FROM run WHERE schedule_id = ?1 \
        AND is_slot = 0 AND slot < ?2 AND slot >= ?3 AND project = ?4 AND origin IN ('schedule', 'backfill') \
        ORDER BY slot DESC, no DESC LIMIT ?5";
    /// Slots of a schedule that made none, newest first. (`ledger_by_schedule`)
    HISTORY_LINES = "SELECT from_slot, until_slot, slot_count, fate, reason FROM ledger WHERE schedule_id = ?1 \
        AND from_slot < ?2 AND from_slot >= ?3 AND project = ?4 ORDER BY from_slot DESC, no DESC LIMIT ?5";
    /// The succeeded run of a schedule with the newest slot. (unique id)
    PREVIOUS_RESULT = concat!("SELECT r.slot, r.no, ", run_columns!(), " FROM run r WHERE r.id >= ?3 AND r.id < ?4 \
        AND +r.schedule_id = ?1 AND r.is_slot = 1 AND r.state = 'succeeded' AND r.finished_at < ?2 \
        ORDER BY r.id DESC LIMIT 1");
    /// The same for runs with another kind of id. (`run_off_slot`)
    PREVIOUS_RESULT_OFF_SLOT = concat!("SELECT r.slot, r.no, ", run_columns!(), " FROM run r \
        WHERE r.schedule_id = ?1 AND r.is_slot = 0 AND r.state = 'succeeded' AND r.finished_at < ?2 \
        ORDER BY r.slot DESC, r.no DESC LIMIT 1");

    // Hook calls.

    /// What a hook call takes from its schedule. (primary key)
    SCHEDULE_NAMES = "SELECT project, workflow, key FROM schedule WHERE id = ?1";
    /// Records a hook call, unless it is recorded.
    ADD_HOOK_CALL = "INSERT INTO hook_call (id, project, workflow, event, schedule_id, key, from_slot, until_slot, \
        slot_count, reason, due_at, check_at, worker) \
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13) \
        ON CONFLICT DO NOTHING";
    /// A hook call, and whether a registered worker has it. (primary key of both tables)
    HOOK_CALL = concat!("SELECT ", hook_call_columns!(), ", EXISTS (SELECT 1 FROM worker w WHERE w.id = h.worker) \
        FROM hook_call h WHERE h.id = ?1");
    /// The run that a hook call is about. (unique id)
    RUN_OF_CALL = concat!("SELECT ", run_columns!(), " FROM run r WHERE r.id = ?1");
    /// Hands a hook call to a worker. (primary key)
    TAKE_HOOK_CALL = "UPDATE hook_call SET worker = ?2, is_late = ?3 WHERE id = ?1";
    /// Has a hook call looked at again. (primary key)
    RECHECK_HOOK_CALL = "UPDATE hook_call SET seen_token = ?2, check_at = ?3, worker = NULL WHERE id = ?1";
    /// Records that the run of a hook call that was due is late. (primary key)
    NOTE_INTERRUPTED_LATE = "UPDATE hook_call SET is_late = 1 WHERE id = ?1 AND due_at <= ?2";
    /// Deletes a hook call. (primary key)
    DELETE_HOOK_CALL = "DELETE FROM hook_call WHERE id = ?1";
    /// Deletes a hook call that no registered worker has. (primary key of both tables)
    FORGET_HOOK_CALL = "DELETE FROM hook_call WHERE id = ?1 \
        AND NOT EXISTS (SELECT 1 FROM worker w WHERE w.id = hook_call.worker)";
    /// Hook calls that are due and that no registered worker has, by workflow.
    /// (`hook_call_by_time`, primary key)
    WAITING_HOOK_CALLS = "SELECT h.workflow, count(*), min(h.due_at) FROM hook_call h \
        INDEXED BY hook_call_by_time WHERE h.project = ?1 AND h.check_at <= ?2 \
        AND NOT EXISTS (SELECT 1 FROM worker w WHERE w.id = h.worker) GROUP BY h.workflow ORDER BY h.workflow";
    /// Deletes a hook call that a worker has made. (primary key)
    END_HOOK_CALL = "DELETE FROM hook_call WHERE id = ?1 AND worker = ?2";
    /// The earliest hook calls of some kinds that no registered worker has.
    /// (`hook_call_by_time`, scan of the given kinds, primary key)
    HOOK_CALLS = concat!("SELECT ", hook_call_columns!(), " FROM hook_call h INDEXED BY hook_call_by_time \
        WHERE h.project = ?1 AND h.event || ' ' || h.workflow IN (SELECT value FROM json_each(?2)) \
        AND NOT EXISTS (SELECT 1 FROM worker w WHERE w.id = h.worker) ORDER BY h.check_at, h.id LIMIT ?3");
    /// Deletes hook calls that nobody has made for long. (`hook_call_by_time`)
    PRUNE_HOOK_CALLS = "DELETE FROM hook_call WHERE project = ?1 AND check_at < ?2";

    // Limits and priorities.

    /// What workflows declare about their runs, where they declare anything. (scan)
    RULES = "SELECT project, id, limit_name, priority, hooks FROM workflow WHERE limit_name IS NOT NULL OR priority > 0 \
        OR hooks IS NOT NULL";
    /// The limits of the project's workflows, with their values. (`workflow_with_rules`, primary
    /// key)
    LIMITS_OF_WORKFLOWS = "SELECT f.id, l.name, l.declaration, l.set_values, l.taken, l.updated_at \
        FROM workflow f INDEXED BY workflow_with_rules JOIN run_limit l ON l.project = f.project \
        AND l.name = f.limit_name WHERE f.project = ?1 AND (f.limit_name IS NOT NULL OR f.priority > 0)";
    /// How many runs of a limit are running, by key. (`run_under_limit`, covering)
    CLAIMED_UNDER = "SELECT key, count(*) FROM run WHERE project = ?1 AND limit_name = ?2 AND state = 'running' \
        GROUP BY key";
    /// How many runs of a limit with a key are running. (`run_under_limit`, covering)
    RUNNING_WITH_KEY = "SELECT count(*) FROM run WHERE project = ?1 AND limit_name = ?2 AND key = ?3 \
        AND state = 'running'";
    /// Whether any claimable run of the project has a priority. (`run_with_priority`, covering)
    HAS_PRIORITY = "SELECT 1 FROM run WHERE project = ?1 AND priority > 0 AND state IN ('queued', 'waiting') \
        AND cancel_requested = 0 LIMIT 1";
    /// The earliest claimable runs of one workflow and priority that are no suspects.
    /// (`run_with_priority`)
    PRIORITY_HEADS = "SELECT available_at, slot, id, no, key, priority FROM run INDEXED BY run_with_priority \
        WHERE project = ?1 AND workflow = ?2 AND priority = ?6 AND priority > 0 \
        AND state IN ('queued', 'waiting') AND cancel_requested = 0 AND interruptions < 2 AND refused_by IS NULL AND available_at <= ?3 \
        ORDER BY available_at, slot, id LIMIT ?4 OFFSET ?5";
    /// The next key, by name, with a claimable run under a limit. (`run_queued_by_key`, covering)
    NEXT_QUEUED_KEY = "SELECT key FROM run INDEXED BY run_queued_by_key WHERE project = ?1 AND workflow = ?2 \
        AND limit_name IS NOT NULL AND state IN ('queued', 'waiting') AND cancel_requested = 0 AND key > ?3 \
        ORDER BY key LIMIT 1";
    /// The earliest claimable runs of one workflow and key that are no suspects.
    /// (`run_queued_by_key`)
    HEADS_OF_KEY = "SELECT available_at, slot, id, no, key, priority FROM run INDEXED BY run_queued_by_key \
        WHERE project = ?1 AND workflow = ?2 AND key = ?3 AND limit_name IS NOT NULL \
        AND state IN ('queued', 'waiting') AND cancel_requested = 0 AND interruptions < 2 AND refused_by IS NULL AND available_at <= ?4 \
        ORDER BY available_at, slot, id LIMIT ?5";
    /// Notes the tokens of a rate that are out. (primary key)
    TAKE_TOKENS = "UPDATE run_limit SET taken = ?3 WHERE project = ?1 AND name = ?2";
    /// Sets the values of a limit, or takes them back. (primary key)
    SET_LIMIT = "UPDATE run_limit SET set_values = ?3, updated_at = ?4 WHERE project = ?1 AND name = ?2";
    /// A workflow with an unfinished run that counts against a limit. (`workflow_with_rules`,
    /// `run_by_state`, `run_under_limit`)
    UNFINISHED_UNDER = "SELECT f.id FROM workflow f INDEXED BY workflow_with_rules WHERE f.project = ?1 AND f.limit_name = ?2 \
        AND (f.limit_name IS NOT NULL OR f.priority > 0) AND (EXISTS (SELECT 1 FROM run r WHERE r.project = f.project \
        AND r.state IN ('queued', 'waiting', 'buffered') AND r.state <> 'succeeded' AND r.state <> 'running' \
        AND r.workflow = f.id) OR EXISTS (SELECT 1 FROM run r WHERE r.project = f.project AND r.limit_name = ?2 \
        AND r.limit_name IS NOT NULL AND r.state = 'running')) ORDER BY f.id LIMIT 1";
    /// The workflows of a limit no longer declare it, so that a declaration of it is a new one.
    /// (primary key)
    FORGET_LIMIT = "UPDATE workflow SET limit_name = NULL, declaration = NULL WHERE project = ?1 AND limit_name = ?2";
    /// Deletes a limit. (primary key)
    DELETE_LIMIT = "DELETE FROM run_limit WHERE project = ?1 AND name = ?2";
    /// One limit. (primary key)
    LIMIT = "SELECT declaration, set_values, taken, updated_at FROM run_limit WHERE project = ?1 AND name = ?2";
    /// All limits of the project. (primary key)
    LIMITS = "SELECT name, declaration, set_values, taken, updated_at FROM run_limit WHERE project = ?1 ORDER BY name";
    /// Declares a limit. (primary key)
    DECLARE_LIMIT = "INSERT INTO run_limit (project, name, declaration, updated_at) VALUES (?1, ?2, ?3, ?4) \
        ON CONFLICT (project, name) DO UPDATE SET declaration = excluded.declaration, updated_at = excluded.updated_at";
    /// What a workflow declares about claims, and how. (primary key)
    WORKFLOW_RULES = "SELECT limit_name, priority, declaration, hooks FROM workflow WHERE project = ?1 AND id = ?2";
    /// Declares that. (primary key)
    DECLARE_RULES = "UPDATE workflow SET limit_name = ?3, priority = ?4, declaration = ?5 WHERE project = ?1 AND id = ?2";
    /// Which hook calls workers want recorded about a workflow. (primary key)
    DECLARE_HOOKS = "UPDATE workflow SET hooks = ?3 WHERE project = ?1 AND id = ?2";
    /// Runs that are not claimed count against the new limit of their workflow. (`run_by_state`)
    FOLLOW_LIMIT = "UPDATE run SET limit_name = ?4 WHERE project = ?1 AND workflow = ?2 AND state = ?3 \
        AND state <> 'succeeded' AND state <> 'running' AND limit_name IS NOT ?4";
    /// The same for those that a worker holds. (`run_held`)
    FOLLOW_LIMIT_WHILE_HELD = "UPDATE run INDEXED BY run_held SET limit_name = ?4 WHERE worker = ?3 AND state = 'running' \
        AND project = ?1 AND workflow = ?2 AND limit_name IS NOT ?4";
    /// How many runs of a workflow are available, up to a bound, and since when. (`run_claimable`)
    AVAILABLE_COUNT = "SELECT count(*), min(available_at) FROM (SELECT available_at FROM run WHERE project = ?1 \
        AND workflow = ?2 AND state IN ('queued', 'waiting') AND cancel_requested = 0 AND interruptions < 2 \
        AND refused_by IS NULL AND available_at <= ?3 ORDER BY available_at LIMIT ?4)";

    // Workers.

    /// Registers a worker; a repetition keeps the heartbeat. (primary key)
    REGISTER_WORKER = "INSERT INTO worker (id, project, app, host, pid, process_mark, about, beat, entered_at, beat_at, \
        declares) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, 1, ?8, ?8, ?9) ON CONFLICT (id) DO UPDATE SET project = excluded.project, \
        app = excluded.app, host = excluded.host, pid = excluded.pid, process_mark = excluded.process_mark, \
        about = excluded.about, beat_at = excluded.beat_at, declares = excluded.declares";
    /// Raises the heartbeat. (primary key)
    BUMP_HEARTBEAT = "UPDATE worker SET beat = beat + ?2, beat_at = ?3 WHERE id = ?1";
    /// The heartbeat of a registered worker. (primary key)
    HEARTBEAT = "SELECT beat FROM worker WHERE id = ?1";
    /// When a worker registered. (primary key)
    ENTERED_AT = "SELECT entered_at FROM worker WHERE id = ?1";
    /// Deletes a worker. (primary key)
    DELETE_WORKER = "DELETE FROM worker WHERE id = ?1";
    /// Deletes the workflows of a worker. (primary key)
    DELETE_WORKER_WORKFLOWS = "DELETE FROM worker_workflow WHERE worker = ?1";
    /// Inserts a workflow of a worker.
    INSERT_WORKER_WORKFLOW = "INSERT OR IGNORE INTO worker_workflow (worker, workflow) VALUES (?1, ?2)";
    /// A workflow of the project. (primary key)
    UPSERT_WORKFLOW = "INSERT INTO workflow (project, id, schedulable) VALUES (?1, ?2, ?3) \
        ON CONFLICT (project, id) DO UPDATE SET schedulable = excluded.schedulable";
    /// Workers of the project with the runs that they hold. (scan of the few workers; `run_held`)
    PEERS = concat!("SELECT ", peer_columns!(), ", (SELECT count(*) FROM run r WHERE r.worker = w.id AND r.state = 'running') \
        FROM worker w WHERE w.project = ?1 ORDER BY w.id");
    /// All workers. (scan of the few workers)
    WORKERS = "SELECT id FROM worker ORDER BY id";
    /// The workflows of a worker. (primary key)
    WORKER_WORKFLOWS = "SELECT workflow FROM worker_workflow WHERE worker = ?1 ORDER BY workflow";
    /// Workflows of the project. (primary key)
    WORKFLOWS = "SELECT id, schedulable FROM workflow WHERE project = ?1 ORDER BY id";

    // Calendars.

    /// Creates a calendar, or replaces its dates. (primary key)
    SET_CALENDAR = "INSERT INTO calendar (project, name, dates, updated_at) VALUES (?1, ?2, ?3, ?4) \
        ON CONFLICT (project, name) DO UPDATE SET dates = excluded.dates, updated_at = excluded.updated_at";
    /// Deletes a calendar. (primary key)
    DELETE_CALENDAR = "DELETE FROM calendar WHERE project = ?1 AND name = ?2";
    /// Whether a schedule names the calendar. The names are in brackets, each in quotes, and have
    /// neither in them. (`schedule_with_calendars`)
    USES_CALENDAR = concat!("SELECT 1 FROM schedule s WHERE s.project = ?1 AND ", has_calendars!(), " \
        AND instr(substr(", calendars_on!(), ", 1, instr(", calendars_on!(), ", ']')), '\"' || ?2 || '\"') > 0 LIMIT 1");
    /// Calendars of the project, all or those in a JSON array, by name. (primary key)
    CALENDARS = "SELECT c.name, c.dates, c.updated_at FROM calendar c WHERE c.project = ?1 \
        AND (?2 IS NULL OR c.name IN (SELECT w.value FROM json_each(?2) w)) ORDER BY c.name";
    /// Schedules that name calendars, by id. (`schedule_with_calendars`)
    SCHEDULES_WITH_CALENDARS = concat!("SELECT ", schedule_columns!(), " FROM schedule s \
        WHERE s.project = ?1 AND s.id > ?2 AND ", has_calendars!(), " ORDER BY s.id LIMIT ?3");

    // Prune.

    /// Finished runs that no prune has examined, oldest first. (`run_finished`)
    OLD_RUNS = "SELECT no, schedule_id, slot FROM run WHERE project = ?1 AND kept = 0 AND finished_at < ?2 \
        AND finished_at IS NOT NULL ORDER BY finished_at, no LIMIT ?3";
    /// How many runs of the schedule are newer, up to a bound. (unique id)
    NEWER_RUNS = "SELECT count(*) FROM (SELECT 1 FROM run WHERE id >= ?5 AND id < ?6 AND schedule_id = ?1 \
        AND is_slot = 1 AND (slot, no) > (?2, ?3) LIMIT ?4)";
    /// The same for runs with another kind of id. (`run_off_slot`)
    NEWER_RUNS_OFF_SLOT = "SELECT count(*) FROM (SELECT 1 FROM run WHERE schedule_id = ?1 AND is_slot = 0 \
        AND (slot, no) > (?2, ?3) LIMIT ?4)";
    /// Marks a run as kept: it is one of the newest of its schedule. (primary key)
    KEEP_RUN = "UPDATE run SET kept = ?2 WHERE no = ?1";
    /// Records that the schedule may have kept runs. (primary key)
    NOTE_KEPT_RUN = "UPDATE schedule SET has_kept_run = 1 WHERE id = ?1 AND has_kept_run = 0";
    /// Removes the marks of kept runs after the schedule got a new run. (unique id)
    RECONSIDER_RUNS = "UPDATE run SET kept = 0 WHERE id >= ?2 AND id < ?3 AND +schedule_id = ?1 AND is_slot = 1 \
        AND kept > 0";
    /// The same for runs with another kind of id. (`run_off_slot`)
    RECONSIDER_RUNS_OFF_SLOT = "UPDATE run SET kept = 0 WHERE schedule_id = ?1 AND is_slot = 0 AND kept > 0";
    /// Records that the schedule has no kept runs. (primary key)
    FORGET_KEPT_RUN = "UPDATE schedule SET has_kept_run = 0 WHERE id = ?1";
    /// Whether the schedule may have kept runs. (primary key)
    HAS_KEPT_RUN = "SELECT has_kept_run FROM schedule WHERE id = ?1";
    /// Runs that were kept when more runs were to be kept. (`run_finished`)
    RECONSIDER_FOR_FEWER = "UPDATE run SET kept = 0 WHERE no IN (SELECT no FROM run WHERE project = ?1 AND kept > ?2 \
        AND finished_at IS NOT NULL LIMIT ?3)";
    /// Finished one-off schedules that no code declares, by their slot. (`schedule_finished_once`)
    FINISHED_ONCE = "SELECT id FROM schedule WHERE project = ?1 AND CAST(substr(cadence, 3) AS INTEGER) < ?2 \
        AND status = 'finished' AND owner IS NULL AND substr(cadence, 1, 2) = '||' AND substr(cadence, 3, 1) <> '|' \
        ORDER BY CAST(substr(cadence, 3) AS INTEGER), id LIMIT ?3";
    /// Whether a schedule has a run that has not finished before an instant. (unique id,
    /// `run_off_slot`)
    HAS_RUN_SINCE = "SELECT 1 FROM run WHERE id >= ?3 AND id < ?4 AND schedule_id = ?1 AND is_slot = 1 \
        AND (finished_at IS NULL OR finished_at >= ?2) UNION ALL SELECT 1 FROM run WHERE schedule_id = ?1 \
        AND is_slot = 0 AND (finished_at IS NULL OR finished_at >= ?2) LIMIT 1";
    /// All runs of a schedule. (unique id, `run_off_slot`)
    RUN_NUMBERS = "SELECT no FROM run WHERE id >= ?2 AND id < ?3 AND schedule_id = ?1 AND is_slot = 1 \
        UNION ALL SELECT no FROM run WHERE schedule_id = ?1 AND is_slot = 0";
    /// Deletes the ledger of a schedule. (`ledger_by_schedule`)
    DELETE_LEDGER = "DELETE FROM ledger WHERE schedule_id = ?1";
    /// Marks skips among the lines that are deleted next: they stay counted. (`ledger_by_age`)
    MARK_PRUNED = "UPDATE ledger SET fate = 'pruned' WHERE no IN (SELECT no FROM ledger WHERE project = ?1 \
        AND until_slot < ?2 ORDER BY until_slot, no LIMIT ?3) AND fate = 'skipped' AND until_slot = from_slot";
    /// Ledger lines that are old enough to delete. (`ledger_by_age`)
    PRUNE_LEDGER = "DELETE FROM ledger WHERE no IN (SELECT no FROM ledger WHERE project = ?1 AND until_slot < ?2 \
        ORDER BY until_slot, no LIMIT ?3)";
}
