-- Fingerprints of code that can't continue the run, separated by spaces. Workers with other code
-- claim it.
ALTER TABLE @run ADD COLUMN refused_by text;

-- This index is nearly empty.
CREATE INDEX run_held_for_code ON @run (project, id)
    WHERE refused_by IS NOT NULL AND state IN ('queued', 'waiting') AND NOT cancel_requested;
