-- One-off schedules that have finished, by their slot (the third part of the cadence), for pruning.
CREATE INDEX schedule_finished_once
    ON @schedule (project, (NULLIF(split_part(cadence, '|', 3), '')::bigint), id)
    WHERE status = 'finished' AND owner IS NULL AND left(cadence, 2) = '||';
