-- Names and values by which users find schedules, as a JSON object; NULL where there are none.
ALTER TABLE @schedule ADD COLUMN tags text;

-- The same, one row for each, to find schedules by them. Kept by the triggers, so that workers of
-- an older release and transactions of applications keep it too.
CREATE TABLE @schedule_tag (
    project text COLLATE "C" NOT NULL,
    name text COLLATE "C" NOT NULL,
    value text COLLATE "C" NOT NULL,
    schedule_id text COLLATE "C" NOT NULL,
    PRIMARY KEY (project, name, value, schedule_id)
);

-- With the rights of its owner: an application's role may add schedules without rights on this table.
CREATE FUNCTION @keep_tags() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog AS $$ BEGIN
    IF TG_OP <> 'INSERT' THEN
        EXECUTE format('DELETE FROM %I.schedule_tag t USING json_each_text($3) w WHERE t.project = $1 '
            'AND t.name = w.key AND t.value = w.value AND t.schedule_id = $2', TG_TABLE_SCHEMA)
        USING OLD.project, OLD.id, coalesce(OLD.tags, '{}')::json;
    END IF;
    IF TG_OP <> 'DELETE' THEN
        EXECUTE format('INSERT INTO %I.schedule_tag (project, name, value, schedule_id) '
            'SELECT $1, w.key, w.value, $2 FROM json_each_text($3) w', TG_TABLE_SCHEMA)
        USING NEW.project, NEW.id, coalesce(NEW.tags, '{}')::json;
    END IF;
    RETURN NULL;
END $$;

CREATE TRIGGER tags_of_new AFTER INSERT ON @schedule FOR EACH ROW
WHEN (NEW.tags IS NOT NULL) EXECUTE FUNCTION @keep_tags();
CREATE TRIGGER tags_of_changed AFTER UPDATE OF tags ON @schedule FOR EACH ROW
WHEN (NEW.tags IS DISTINCT FROM OLD.tags) EXECUTE FUNCTION @keep_tags();
CREATE TRIGGER tags_of_deleted AFTER DELETE ON @schedule FOR EACH ROW
WHEN (OLD.tags IS NOT NULL) EXECUTE FUNCTION @keep_tags();
