-- `@` stands for the schema. Times are microseconds since the epoch, UTC. Texts are compared byte by
-- byte. They contain no NUL, which is encoded in two characters that sort like it (see `rows.rs`).

CREATE TABLE @schedule (
    id text COLLATE "C" PRIMARY KEY,
    revision bigint NOT NULL,
    status text COLLATE "C" NOT NULL,
    next_slot bigint,
    last_slot bigint,
    run_count bigint NOT NULL DEFAULT 0,
    failure_count bigint NOT NULL DEFAULT 0,
    attended_from bigint NOT NULL,
    created_at bigint NOT NULL,
    updated_at bigint NOT NULL,
    -- Some of its runs have `kept` set: after a new run, a prune looks at them again.
    has_kept_run boolean NOT NULL DEFAULT false,
    project text COLLATE "C" NOT NULL,
    workflow text COLLATE "C" NOT NULL,
    key text COLLATE "C" NOT NULL,
    owner text COLLATE "C",
    cadence text NOT NULL,
    spec text NOT NULL,
    input text,
    note text
);

CREATE UNIQUE INDEX schedule_by_key ON @schedule (project, key, workflow);
CREATE INDEX schedule_by_id ON @schedule (project, id);
CREATE INDEX schedule_by_workflow ON @schedule (project, workflow, id);
CREATE INDEX schedule_by_owner ON @schedule (project, owner, id) WHERE owner IS NOT NULL;
CREATE INDEX schedule_by_status ON @schedule (project, status, id) WHERE status <> 'active';
CREATE INDEX schedule_due ON @schedule (project, workflow, next_slot, id)
    WHERE status = 'active' AND next_slot IS NOT NULL;

CREATE TABLE @run (
    -- Grows with the order of creation.
    no bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id text COLLATE "C" NOT NULL UNIQUE,
    state text COLLATE "C" NOT NULL,
    -- 0 finished, 1 queued, running or waiting, 2 buffered.
    phase smallint GENERATED ALWAYS AS (
        CASE state WHEN 'running' THEN 1 WHEN 'queued' THEN 1 WHEN 'waiting' THEN 1 WHEN 'buffered' THEN 2 ELSE 0 END
    ) STORED,
    token bigint NOT NULL,
    attempt bigint NOT NULL,
    cancel_requested boolean NOT NULL DEFAULT false,
    -- A child finished while the newest claim ran.
    child_ended boolean NOT NULL DEFAULT false,
    available_at bigint NOT NULL,
    created_at bigint NOT NULL,
    started_at bigint,
    finished_at bigint,
    slot bigint,
    last_slot bigint,
    upcoming bigint,
    -- The newest completion of a claim, to answer its repetition.
    ended_token bigint,
    ended_print bigint,
    ended_state text COLLATE "C",
    ended_released boolean,
    -- The number of newest runs per schedule among which a prune kept it. 0: not kept.
    kept bigint NOT NULL DEFAULT 0,
    origin text COLLATE "C" NOT NULL,
    project text COLLATE "C" NOT NULL,
    workflow text COLLATE "C" NOT NULL,
    key text COLLATE "C" NOT NULL,
    schedule_id text COLLATE "C",
    worker text COLLATE "C",
    timezone text NOT NULL,
    parent text COLLATE "C",
    idempotency_key text COLLATE "C",
    payload text,
    input text,
    result text,
    error text
);

CREATE INDEX run_by_schedule ON @run (schedule_id, slot NULLS FIRST, no) WHERE schedule_id IS NOT NULL;
CREATE INDEX run_unfinished ON @run (schedule_id, phase, slot NULLS FIRST, no)
    WHERE schedule_id IS NOT NULL AND finished_at IS NULL;
CREATE INDEX run_by_workflow ON @run (project, workflow, created_at, id);
CREATE INDEX run_by_creation ON @run (project, created_at, id);
CREATE INDEX run_claimable ON @run (project, workflow, available_at, slot NULLS FIRST, id)
    WHERE state IN ('queued', 'waiting') AND NOT cancel_requested;
CREATE INDEX run_held ON @run (worker, cancel_requested) WHERE state = 'running';
CREATE INDEX run_finished ON @run (project, kept, finished_at, no) WHERE finished_at IS NOT NULL;
CREATE INDEX run_by_parent ON @run (parent) WHERE parent IS NOT NULL AND finished_at IS NULL;
CREATE UNIQUE INDEX run_by_idempotency_key ON @run (project, workflow, idempotency_key)
    WHERE idempotency_key IS NOT NULL;

CREATE TABLE @step (
    -- Grows with the order of first recording.
    no bigint GENERATED ALWAYS AS IDENTITY,
    -- `run.no`.
    run bigint NOT NULL,
    name text COLLATE "C" NOT NULL,
    state text COLLATE "C" NOT NULL,
    attempt bigint NOT NULL,
    run_attempt bigint NOT NULL,
    wakes_at bigint,
    started_at bigint NOT NULL,
    finished_at bigint NOT NULL,
    result text,
    error text,
    PRIMARY KEY (run, name)
);

CREATE TABLE @ledger (
    no bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    project text COLLATE "C" NOT NULL,
    schedule_id text COLLATE "C" NOT NULL,
    from_slot bigint NOT NULL,
    until_slot bigint NOT NULL,
    slot_count bigint NOT NULL,
    fate text COLLATE "C" NOT NULL,
    reason text NOT NULL
);

CREATE INDEX ledger_by_schedule ON @ledger (schedule_id, from_slot, no);
CREATE INDEX ledger_by_age ON @ledger (project, until_slot, no);

CREATE TABLE @worker (
    id text COLLATE "C" PRIMARY KEY,
    project text COLLATE "C" NOT NULL,
    app text COLLATE "C" NOT NULL,
    host text NOT NULL,
    pid bigint NOT NULL,
    process_mark text NOT NULL,
    about text NOT NULL,
    beat bigint NOT NULL,
    entered_at bigint NOT NULL,
    beat_at bigint NOT NULL,
    workflows text[] NOT NULL
);

CREATE INDEX worker_by_project ON @worker (project, id);

CREATE TABLE @workflow (
    project text COLLATE "C" NOT NULL,
    id text COLLATE "C" NOT NULL,
    schedulable boolean NOT NULL,
    PRIMARY KEY (project, id)
);

-- Commit counters. Each process uses one of them, so that processes rarely wait for each other.
-- Mostly empty pages leave room for new versions of the rows.
CREATE TABLE @commits (
    slot bigint PRIMARY KEY,
    no bigint NOT NULL
) WITH (fillfactor = 10);

INSERT INTO @commits SELECT slot, 0 FROM generate_series(0, 63) AS slot;
