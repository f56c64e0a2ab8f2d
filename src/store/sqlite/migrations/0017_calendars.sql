-- Lists of dates with a name, which schedules name to skip them. Dates are a JSON array of texts.
CREATE TABLE calendar (
    project TEXT NOT NULL,
    name TEXT NOT NULL,
    dates TEXT NOT NULL,
    updated_at INTEGER NOT NULL,
    PRIMARY KEY (project, name)
) STRICT, WITHOUT ROWID;

-- Finds the schedules that name calendars. Has no entry for any other.
CREATE INDEX schedule_with_calendars ON schedule (project, id) WHERE instr(spec, '"calendars":[') > 0;
