-- The code's declaration of a schedule, as JSON. NULL if code has not declared it since this
-- migration.
ALTER TABLE @schedule ADD COLUMN declaration text;
-- The schedules that a worker declares, as JSON. NULL for a worker of an older release.
ALTER TABLE @worker ADD COLUMN declares text;
