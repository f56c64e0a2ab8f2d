-- What hooks of the application are to be told, until a worker has told them.
CREATE TABLE hook_call (
    id TEXT NOT NULL PRIMARY KEY,
    project TEXT NOT NULL,
    workflow TEXT NOT NULL,
    event TEXT NOT NULL,
    schedule_id TEXT NOT NULL,
    key TEXT NOT NULL,
    from_slot INTEGER NOT NULL,
    until_slot INTEGER NOT NULL,
    slot_count INTEGER NOT NULL,
    reason TEXT NOT NULL,
    due_at INTEGER NOT NULL,
    -- When to look at it.
    check_at INTEGER NOT NULL,
    -- The claim that its run was seen under when it was due.
    seen_token INTEGER,
    -- The run is known to be late, whatever its claims say.
    is_late INTEGER NOT NULL DEFAULT 0,
    -- The worker that calls the hook.
    worker TEXT
) STRICT, WITHOUT ROWID;

CREATE INDEX hook_call_by_time ON hook_call (project, check_at, id);

-- The calls that workers want recorded about the workflow's slots, as JSON; NULL for none.
ALTER TABLE workflow ADD COLUMN hooks TEXT;
CREATE INDEX workflow_with_hooks ON workflow (project, id) WHERE hooks IS NOT NULL;
