-- `event_by_key` finds who has accepted an event that is sent again. It is created beforehand
-- (`schema.rs`).
SELECT;
