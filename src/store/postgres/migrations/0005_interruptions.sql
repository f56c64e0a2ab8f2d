-- How many executions in a row lost their worker without recording a step; the last claim that was
-- counted; and whether its run was the only one of its process.
ALTER TABLE @run ADD COLUMN interruptions bigint NOT NULL DEFAULT 0;
ALTER TABLE @run ADD COLUMN interrupted_token bigint;
ALTER TABLE @run ADD COLUMN interrupted_alone boolean NOT NULL DEFAULT false;
-- Why the run waits, for users.
ALTER TABLE @run ADD COLUMN note text;

-- Both indexes are nearly empty.
CREATE INDEX run_suspect ON @run (project, available_at, slot NULLS FIRST, id)
    WHERE interruptions >= 2 AND state IN ('queued', 'waiting') AND NOT cancel_requested;
CREATE INDEX run_remarkable ON @run (project, created_at, id)
    WHERE (interruptions > 0 OR note IS NOT NULL) AND finished_at IS NULL;
