-- Debounced calls; see `Debounced`. NULL for all other runs.
ALTER TABLE run ADD COLUMN debounce_key TEXT;
ALTER TABLE run ADD COLUMN debounce_until INTEGER;
ALTER TABLE run ADD COLUMN debounce_call TEXT;
-- At most one run of a key waits for further calls.
CREATE UNIQUE INDEX run_debounced ON run (project, workflow, debounce_key)
    WHERE debounce_key IS NOT NULL AND state = 'queued' AND started_at IS NULL AND attempt = 1;
CREATE INDEX run_by_debounce_call ON run (debounce_call) WHERE debounce_call IS NOT NULL;
