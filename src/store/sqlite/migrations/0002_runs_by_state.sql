-- Finds the few runs that failed, wait or are in line among millions that succeeded. Those that are started as soon as
-- they are created, and succeed, never enter it.
CREATE INDEX run_by_state ON run (project, state, workflow, created_at)
    WHERE state <> 'succeeded' AND state <> 'running';
