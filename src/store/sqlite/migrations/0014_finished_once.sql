-- One-off schedules that have finished, by their slot (the third part of the cadence), for pruning.
CREATE INDEX schedule_finished_once ON schedule (project, CAST(substr(cadence, 3) AS INTEGER), id)
    WHERE status = 'finished' AND owner IS NULL AND substr(cadence, 1, 2) = '||' AND substr(cadence, 3, 1) <> '|';
