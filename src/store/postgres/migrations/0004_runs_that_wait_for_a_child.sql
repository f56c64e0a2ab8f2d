-- Finds the runs that wait for a child run. Nearly empty, since most resume within seconds.
CREATE INDEX IF NOT EXISTS run_waits_for_child ON @run (project, id)
    WHERE state = 'waiting' AND available_at >= 253402300799999999;
