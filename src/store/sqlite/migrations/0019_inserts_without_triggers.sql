-- With a trigger on it, SQLite keeps a journal of each statement that inserts a row, in case the
-- statement has to be undone. That takes a third of the time of creating a run, so what the
-- triggers did is done by whoever inserts such a row. An earlier release that makes a backfill
-- while this one is in use does not count its slots.
DROP TRIGGER backfilled_slot;
DROP TRIGGER tags_of_new;
