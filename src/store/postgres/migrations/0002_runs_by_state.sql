-- Finds the few runs that failed, wait, or are queued among millions that succeeded. Runs that start
-- when they are created and succeed are never in it.
CREATE INDEX run_by_state ON @run (project, state, workflow, created_at, id)
    WHERE state <> 'succeeded' AND state <> 'running';
