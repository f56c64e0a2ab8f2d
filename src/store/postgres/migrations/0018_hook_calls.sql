-- What hooks of the application are to be told, until a worker has told them.
CREATE TABLE @hook_call (
    id text COLLATE "C" NOT NULL PRIMARY KEY,
    project text COLLATE "C" NOT NULL,
    workflow text COLLATE "C" NOT NULL,
    event text NOT NULL,
    schedule_id text COLLATE "C" NOT NULL,
    key text NOT NULL,
    from_slot bigint NOT NULL,
    until_slot bigint NOT NULL,
    slot_count bigint NOT NULL,
    reason text NOT NULL,
    due_at bigint NOT NULL,
    -- When to look at it.
    check_at bigint NOT NULL,
    -- The claim that its run was seen under when it was due.
    seen_token bigint,
    -- The run is known to be late, whatever its claims say.
    is_late boolean NOT NULL DEFAULT false,
    -- The worker that calls the hook.
    worker text COLLATE "C"
);

CREATE INDEX hook_call_by_time ON @hook_call (project, check_at, id);

-- The calls that workers want recorded about the workflow's slots, as JSON; NULL for none.
ALTER TABLE @workflow ADD COLUMN hooks text;
CREATE INDEX workflow_with_hooks ON @workflow (project, id) WHERE hooks IS NOT NULL;
