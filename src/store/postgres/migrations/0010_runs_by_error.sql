-- Finds the newest runs that failed with an error of a class, however many runs have failed. The
-- class is the first field of the error: `{"type": "module:Name", ...`.
CREATE INDEX IF NOT EXISTS run_by_error
    ON @run (project, split_part(ltrim(substr(error, 9, 300), ' "'), '"', 1), workflow, created_at, id)
    WHERE state = 'failed';
