-- Events that were sent to runs. The first one under a name stays until its run is forgotten.
CREATE TABLE event (
    -- `run.no`.
    run INTEGER NOT NULL,
    name TEXT NOT NULL,
    payload TEXT NOT NULL,
    idempotency_key TEXT,
    received_at INTEGER NOT NULL,
    PRIMARY KEY (run, name)
) STRICT, WITHOUT ROWID;

-- Events go with their run, also where an older release forgets it: numbers of runs are used again.
CREATE TRIGGER event_with_run AFTER DELETE ON run BEGIN
    DELETE FROM event WHERE run = OLD.no;
END;
