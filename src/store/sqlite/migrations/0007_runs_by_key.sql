-- Finds the newest runs with a key, and those of a schedule with a long history, without reading all runs.
CREATE INDEX IF NOT EXISTS run_by_key ON run (project, key, workflow, created_at);
