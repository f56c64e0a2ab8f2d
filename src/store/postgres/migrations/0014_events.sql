-- Events that were sent to runs. The first one under a name stays until its run is forgotten, by whichever release.
CREATE TABLE @event (
    run bigint NOT NULL REFERENCES @run (no) ON DELETE CASCADE,
    name text COLLATE "C" NOT NULL,
    payload text NOT NULL,
    idempotency_key text COLLATE "C",
    received_at bigint NOT NULL,
    PRIMARY KEY (run, name)
);
