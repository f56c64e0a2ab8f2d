-- The indexes of lists leave out the runs that workers hold. A run that is claimed when it is created
-- is entered into them once, when it completes, and not twice. They are created beforehand
-- (`schema.rs`), in the order of version 24, and replace these.
DROP INDEX IF EXISTS @run_by_creation, @run_by_workflow, @run_by_key;

-- A fire writes a new version of its schedule's row. Where it fits into the same page, it takes a
-- third of the log, and the old version makes room for the next one.
ALTER TABLE @schedule SET (fillfactor = 60);
