-- Lists of dates with a name, which schedules name to skip them. Dates are a JSON array of texts.
CREATE TABLE @calendar (
    project text COLLATE "C" NOT NULL,
    name text COLLATE "C" NOT NULL,
    dates text NOT NULL,
    updated_at bigint NOT NULL,
    PRIMARY KEY (project, name)
);

-- Finds the schedules that name calendars. Has no entry for any other.
CREATE INDEX schedule_with_calendars ON @schedule (project, id) WHERE strpos(spec, '"calendars":[') > 0;
