-- Instants are microseconds since the epoch, UTC. Small columns come first: a row is read from its beginning.

-- In the order of its ids, as due ones are fired: neighbours share pages.
CREATE TABLE schedule (
    id TEXT NOT NULL PRIMARY KEY,
    revision INTEGER NOT NULL,
    status TEXT NOT NULL,
    next_slot INTEGER,
    last_slot INTEGER,
    run_count INTEGER NOT NULL DEFAULT 0,
    failure_count INTEGER NOT NULL DEFAULT 0,
    attended_from INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    -- Some of its runs have `kept` set: a new run makes the sweep look at them again.
    has_kept_run INTEGER NOT NULL DEFAULT 0,
    project TEXT NOT NULL,
    workflow TEXT NOT NULL,
    key TEXT NOT NULL,
    owner TEXT,
    cadence TEXT NOT NULL,
    spec TEXT NOT NULL,
    input TEXT,
    note TEXT
) STRICT, WITHOUT ROWID;

-- Nearly empty: the end of a run looks here rather than at its schedule.
CREATE INDEX schedule_failing ON schedule (id) WHERE failure_count > 0;
CREATE UNIQUE INDEX schedule_by_key ON schedule (project, key, workflow);
CREATE INDEX schedule_by_workflow ON schedule (project, workflow, id);
CREATE INDEX schedule_by_owner ON schedule (project, owner, id) WHERE owner IS NOT NULL;
CREATE INDEX schedule_by_status ON schedule (project, status, id) WHERE status <> 'active';
CREATE INDEX schedule_due ON schedule (project, workflow, next_slot, id)
    WHERE status = 'active' AND next_slot IS NOT NULL;

CREATE TABLE run (
    no INTEGER PRIMARY KEY,
    -- That of a slot is `run_`, the schedule's, `_` and the slot: one index finds runs and has each schedule's in order.
    id TEXT NOT NULL UNIQUE,
    -- Whether it is such an id.
    is_slot INTEGER NOT NULL,
    state TEXT NOT NULL,
    -- 0 finished, 1 queued, running or waiting, 2 buffered.
    phase INTEGER GENERATED ALWAYS AS (
        CASE state WHEN 'running' THEN 1 WHEN 'queued' THEN 1 WHEN 'waiting' THEN 1 WHEN 'buffered' THEN 2 ELSE 0 END
    ) VIRTUAL,
    token INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    cancel_requested INTEGER NOT NULL DEFAULT 0,
    -- A child finished while the newest claim ran.
    child_ended INTEGER NOT NULL DEFAULT 0,
    available_at INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    started_at INTEGER,
    finished_at INTEGER,
    slot INTEGER,
    last_slot INTEGER,
    upcoming INTEGER,
    -- The newest ending of a claim, for its repetition.
    ended_token INTEGER,
    ended_print INTEGER,
    ended_state TEXT,
    ended_released INTEGER,
    -- The number of runs per schedule among which the sweep left it. 0: not looked at since.
    kept INTEGER NOT NULL DEFAULT 0,
    origin TEXT NOT NULL,
    project TEXT NOT NULL,
    workflow TEXT NOT NULL,
    key TEXT NOT NULL,
    schedule_id TEXT,
    worker TEXT,
    timezone TEXT NOT NULL,
    parent TEXT,
    idempotency_key TEXT,
    payload TEXT,
    input TEXT,
    result TEXT,
    error TEXT
) STRICT;

-- Runs of a schedule that are not in its order by their id.
CREATE INDEX run_off_slot ON run (schedule_id, slot) WHERE schedule_id IS NOT NULL AND is_slot = 0;
CREATE INDEX run_unfinished ON run (schedule_id, phase, slot)
    WHERE schedule_id IS NOT NULL AND finished_at IS NULL;
CREATE INDEX run_by_workflow ON run (project, workflow, created_at);
CREATE INDEX run_claimable ON run (project, workflow, available_at, slot, id)
    WHERE state IN ('queued', 'waiting') AND cancel_requested = 0;
CREATE INDEX run_held ON run (worker, cancel_requested) WHERE state = 'running';
CREATE INDEX run_finished ON run (project, kept, finished_at) WHERE finished_at IS NOT NULL;
CREATE INDEX run_by_parent ON run (parent, id) WHERE parent IS NOT NULL AND finished_at IS NULL;
CREATE UNIQUE INDEX run_by_idempotency_key ON run (project, workflow, idempotency_key)
    WHERE idempotency_key IS NOT NULL;

CREATE TABLE step (
    -- Grows with the order of first recording.
    no INTEGER PRIMARY KEY,
    -- `run.no`.
    run INTEGER NOT NULL,
    name TEXT NOT NULL,
    state TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    run_attempt INTEGER NOT NULL,
    wakes_at INTEGER,
    started_at INTEGER NOT NULL,
    finished_at INTEGER NOT NULL,
    result TEXT,
    error TEXT
) STRICT;

CREATE UNIQUE INDEX step_by_name ON step (run, name);

CREATE TABLE ledger (
    no INTEGER PRIMARY KEY,
    project TEXT NOT NULL,
    schedule_id TEXT NOT NULL,
    from_slot INTEGER NOT NULL,
    until_slot INTEGER NOT NULL,
    slot_count INTEGER NOT NULL,
    fate TEXT NOT NULL,
    reason TEXT NOT NULL
) STRICT;

CREATE INDEX ledger_by_schedule ON ledger (schedule_id, from_slot);
CREATE INDEX ledger_by_age ON ledger (project, until_slot);

CREATE TABLE worker (
    id TEXT NOT NULL PRIMARY KEY,
    project TEXT NOT NULL,
    app TEXT NOT NULL,
    host TEXT NOT NULL,
    pid INTEGER NOT NULL,
    process_mark TEXT NOT NULL,
    about TEXT NOT NULL,
    beat INTEGER NOT NULL,
    entered_at INTEGER NOT NULL,
    beat_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE worker_workflow (
    worker TEXT NOT NULL,
    workflow TEXT NOT NULL,
    PRIMARY KEY (worker, workflow)
) STRICT, WITHOUT ROWID;

CREATE TABLE workflow (
    project TEXT NOT NULL,
    id TEXT NOT NULL,
    schedulable INTEGER NOT NULL,
    PRIMARY KEY (project, id)
) STRICT, WITHOUT ROWID;
