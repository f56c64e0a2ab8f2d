-- In the order in which workers take their locks. The counts below must see every outcome.
LOCK TABLE @schedule IN ACCESS EXCLUSIVE MODE;
LOCK TABLE @run, @ledger IN SHARE ROW EXCLUSIVE MODE;

-- How many slots of the schedule had which outcome since its creation: run_count + ran_beyond ran.
-- NULL for none. Kept by the triggers, so that they equal the history whatever release writes it.
-- What is pruned stays counted.
ALTER TABLE @schedule ADD COLUMN ran_beyond bigint;
ALTER TABLE @schedule ADD COLUMN skipped_count bigint;
ALTER TABLE @schedule ADD COLUMN missed_count bigint;

-- They begin with the history that there is.
UPDATE @schedule s SET ran_beyond = nullif(coalesce(f.ran, 0) - s.run_count, 0) FROM (
    SELECT w.id, r.ran FROM @schedule w LEFT JOIN (
        SELECT schedule_id, count(*) AS ran FROM @run
        WHERE slot IS NOT NULL AND origin IN ('schedule', 'backfill') GROUP BY schedule_id
    ) r ON r.schedule_id = w.id
) f WHERE f.id = s.id AND coalesce(f.ran, 0) <> s.run_count;
UPDATE @schedule s SET skipped_count = nullif(f.skipped, 0), missed_count = nullif(f.missed, 0) FROM (
    SELECT schedule_id, sum(CASE fate WHEN 'skipped' THEN slot_count ELSE 0 END)::bigint AS skipped,
    sum(CASE fate WHEN 'missed' THEN slot_count ELSE 0 END)::bigint AS missed FROM @ledger GROUP BY schedule_id
) f WHERE f.schedule_id = s.id;

CREATE FUNCTION @count_backfilled() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog AS $$ BEGIN
    IF TG_OP = 'INSERT' THEN
        EXECUTE format('UPDATE %I.schedule SET ran_beyond = coalesce(ran_beyond, 0) + 1 WHERE id = $1',
            TG_TABLE_SCHEMA)
        USING NEW.schedule_id;
    ELSE
        EXECUTE format('UPDATE %I.schedule SET ran_beyond = coalesce(ran_beyond, 0) - 1 WHERE id = $1',
            TG_TABLE_SCHEMA)
        USING OLD.schedule_id;
    END IF;
    RETURN NULL;
END $$;

CREATE TRIGGER backfilled_slot AFTER INSERT ON @run FOR EACH ROW
WHEN (NEW.origin = 'backfill' AND NEW.slot IS NOT NULL) EXECUTE FUNCTION @count_backfilled();

-- A run that is pruned has finished. Another one is deleted if its handler skips the slot.
CREATE TRIGGER backfilled_slot_skipped AFTER DELETE ON @run FOR EACH ROW
WHEN (OLD.origin = 'backfill' AND OLD.slot IS NOT NULL AND OLD.finished_at IS NULL)
EXECUTE FUNCTION @count_backfilled();

CREATE FUNCTION @count_lines() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog AS $$ BEGIN
    EXECUTE format('UPDATE %I.schedule s SET '
        'skipped_count = nullif(coalesce(s.skipped_count, 0) + f.skipped, 0), '
        'missed_count = nullif(coalesce(s.missed_count, 0) + f.missed, 0) FROM ('
            'SELECT schedule_id, sum(CASE fate WHEN ''skipped'' THEN slot_count ELSE 0 END)::bigint AS skipped, '
            'sum(CASE fate WHEN ''missed'' THEN slot_count ELSE 0 END)::bigint AS missed '
            'FROM added GROUP BY schedule_id) f WHERE s.id = f.schedule_id', TG_TABLE_SCHEMA);
    RETURN NULL;
END $$;

CREATE TRIGGER counted_slots AFTER INSERT ON @ledger REFERENCING NEW TABLE AS added
FOR EACH STATEMENT EXECUTE FUNCTION @count_lines();

-- The line of a skip that is undone is marked before it is deleted. Lines that are pruned stay
-- counted. An earlier release says neither; it undoes a skip where the slot is given back to the
-- schedule.
CREATE FUNCTION @count_undone() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog AS $$ BEGIN
    IF TG_OP = 'UPDATE' THEN
        EXECUTE format('UPDATE %I.schedule SET skipped_count = nullif(skipped_count - $1, 0) WHERE id = $2',
            TG_TABLE_SCHEMA)
        USING OLD.slot_count, OLD.schedule_id;
    ELSIF current_setting('polos.pruning', true) IS DISTINCT FROM 'on' THEN
        EXECUTE format('UPDATE %I.schedule SET skipped_count = nullif(skipped_count - $1, 0) '
            'WHERE id = $2 AND next_slot <= $3 AND NOT EXISTS ('
                'SELECT FROM json_array_elements_text(coalesce(settled, ''[]'')::json) j (slot) '
                'WHERE j.slot::bigint = $3)', TG_TABLE_SCHEMA)
        USING OLD.slot_count, OLD.schedule_id, OLD.from_slot;
    END IF;
    RETURN NULL;
END $$;

CREATE TRIGGER undone_skip AFTER UPDATE OF fate ON @ledger FOR EACH ROW
WHEN (OLD.fate = 'skipped' AND NEW.fate = 'undone') EXECUTE FUNCTION @count_undone();
CREATE TRIGGER deleted_skip AFTER DELETE ON @ledger FOR EACH ROW
WHEN (OLD.fate = 'skipped' AND OLD.until_slot = OLD.from_slot) EXECUTE FUNCTION @count_undone();
