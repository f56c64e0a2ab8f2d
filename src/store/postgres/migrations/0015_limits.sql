-- Limits on claimed runs. The use of a limit is not stored: it is the number of running runs that carry its name.
CREATE TABLE @run_limit (
    project text COLLATE "C" NOT NULL,
    name text COLLATE "C" NOT NULL,
    -- What the code declares, as JSON.
    declaration text NOT NULL,
    -- What an operator set in its place, as JSON.
    set_values text,
    -- The claims of the last period, as JSON, for a limit with a rate.
    taken text,
    updated_at bigint NOT NULL,
    PRIMARY KEY (project, name)
);

-- The limit and the priority of a workflow's runs, and the declaration that they come from.
ALTER TABLE @workflow ADD COLUMN limit_name text COLLATE "C";
ALTER TABLE @workflow ADD COLUMN priority bigint NOT NULL DEFAULT 0;
ALTER TABLE @workflow ADD COLUMN declaration text;
CREATE INDEX workflow_with_rules ON @workflow (project, id) WHERE limit_name IS NOT NULL OR priority > 0;

ALTER TABLE @run ADD COLUMN limit_name text COLLATE "C";
ALTER TABLE @run ADD COLUMN priority bigint NOT NULL DEFAULT 0;
-- Counts what a limit has claimed.
CREATE INDEX run_under_limit ON @run (project, limit_name, key)
    WHERE limit_name IS NOT NULL AND state = 'running';
-- Finds queued runs whose key has room behind any number of runs whose key has none.
CREATE INDEX run_queued_by_key ON @run (project, workflow, key, available_at, slot NULLS FIRST, id)
    WHERE limit_name IS NOT NULL AND state IN ('queued', 'waiting') AND NOT cancel_requested;
-- Nearly empty.
CREATE INDEX run_with_priority ON @run (project, workflow, priority, available_at, slot NULLS FIRST, id)
    WHERE priority > 0 AND state IN ('queued', 'waiting') AND NOT cancel_requested;
