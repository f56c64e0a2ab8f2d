-- Finds who has accepted an event that is sent again.
CREATE INDEX event_by_key ON event (idempotency_key, name, run) WHERE idempotency_key IS NOT NULL;
