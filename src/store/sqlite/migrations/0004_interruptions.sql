-- How many executions in a row lost their worker without recording a step; the claim that was last counted so, and
-- whether its run was the only one of its process.
ALTER TABLE run ADD COLUMN interruptions INTEGER NOT NULL DEFAULT 0;
ALTER TABLE run ADD COLUMN interrupted_token INTEGER;
ALTER TABLE run ADD COLUMN interrupted_alone INTEGER NOT NULL DEFAULT 0;
-- Why it waits, for people.
ALTER TABLE run ADD COLUMN note TEXT;

-- Both are nearly empty.
CREATE INDEX run_suspect ON run (project, available_at, slot, id)
    WHERE interruptions >= 2 AND state IN ('queued', 'waiting') AND cancel_requested = 0;
CREATE INDEX run_remarkable ON run (project, created_at, id)
    WHERE (interruptions > 0 OR note IS NOT NULL) AND finished_at IS NULL;
