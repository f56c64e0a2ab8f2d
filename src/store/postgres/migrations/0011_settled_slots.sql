-- Slots that already have an outcome although the next slot may be earlier, as JSON. NULL if there
-- are none.
ALTER TABLE @schedule ADD COLUMN settled text;
