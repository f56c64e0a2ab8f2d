-- What a run's handler last reported about its progress, as JSON; NULL if it has reported nothing.
ALTER TABLE @run ADD COLUMN progress text;
