-- Fingerprints of the code that can't continue the run, separated by blanks. Workers with other code claim it.
ALTER TABLE run ADD COLUMN refused_by TEXT;

-- Nearly empty.
CREATE INDEX run_held_for_code ON run (project, id)
    WHERE refused_by IS NOT NULL AND state IN ('queued', 'waiting') AND cancel_requested = 0;
