-- Slots that have an outcome though the next slot may still come before them, as JSON; NULL where there are none.
ALTER TABLE schedule ADD COLUMN settled TEXT;
