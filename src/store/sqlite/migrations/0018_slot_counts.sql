-- How many slots of the schedule had which outcome since its creation: run_count + ran_beyond ran.
-- NULL for none. Kept by the triggers, so that they equal the history whatever release writes it.
-- What is pruned stays counted.
ALTER TABLE schedule ADD COLUMN ran_beyond INTEGER;
ALTER TABLE schedule ADD COLUMN skipped_count INTEGER;
ALTER TABLE schedule ADD COLUMN missed_count INTEGER;

-- They begin with the history that there is.
UPDATE schedule SET ran_beyond = nullif(coalesce(f.ran, 0) - run_count, 0) FROM (
    SELECT s.id, r.ran FROM schedule s LEFT JOIN (
        SELECT schedule_id, count(*) AS ran FROM run
        WHERE slot IS NOT NULL AND origin IN ('schedule', 'backfill') GROUP BY schedule_id
    ) r ON r.schedule_id = s.id
) f WHERE f.id = schedule.id AND coalesce(f.ran, 0) <> run_count;
UPDATE schedule SET skipped_count = nullif(f.skipped, 0), missed_count = nullif(f.missed, 0) FROM (
    SELECT schedule_id, sum(CASE fate WHEN 'skipped' THEN slot_count ELSE 0 END) AS skipped,
    sum(CASE fate WHEN 'missed' THEN slot_count ELSE 0 END) AS missed FROM ledger GROUP BY schedule_id
) f WHERE f.schedule_id = schedule.id;

CREATE TRIGGER backfilled_slot AFTER INSERT ON run
WHEN NEW.origin = 'backfill' AND NEW.slot IS NOT NULL BEGIN
    UPDATE schedule SET ran_beyond = coalesce(ran_beyond, 0) + 1 WHERE id = NEW.schedule_id;
END;

-- A run that is pruned has finished. Another one is deleted if its handler skips the slot.
CREATE TRIGGER backfilled_slot_skipped AFTER DELETE ON run
WHEN OLD.origin = 'backfill' AND OLD.slot IS NOT NULL AND OLD.finished_at IS NULL BEGIN
    UPDATE schedule SET ran_beyond = coalesce(ran_beyond, 0) - 1 WHERE id = OLD.schedule_id;
END;

CREATE TRIGGER skipped_slots AFTER INSERT ON ledger WHEN NEW.fate = 'skipped' BEGIN
    UPDATE schedule SET skipped_count = coalesce(skipped_count, 0) + NEW.slot_count
    WHERE id = NEW.schedule_id;
END;

CREATE TRIGGER missed_slots AFTER INSERT ON ledger WHEN NEW.fate = 'missed' BEGIN
    UPDATE schedule SET missed_count = coalesce(missed_count, 0) + NEW.slot_count
    WHERE id = NEW.schedule_id;
END;

-- A skip is undone after its slot was given back to the schedule. Lines that are pruned stay
-- counted; an earlier release doesn't mark them.
CREATE TRIGGER unskipped_slot AFTER DELETE ON ledger
WHEN OLD.fate = 'skipped' AND OLD.until_slot = OLD.from_slot BEGIN
    UPDATE schedule SET skipped_count = skipped_count - OLD.slot_count
    WHERE id = OLD.schedule_id AND next_slot <= OLD.from_slot AND NOT EXISTS (
        SELECT 1 FROM json_each(coalesce(settled, '[]')) j WHERE j.value = OLD.from_slot);
END;
