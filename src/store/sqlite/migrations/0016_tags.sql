-- Names and values by which users find schedules, as a JSON object; NULL where there are none.
ALTER TABLE schedule ADD COLUMN tags TEXT;

-- The same, one row for each, to find schedules by them. Kept by the triggers, so that workers of
-- an older release keep it too.
CREATE TABLE schedule_tag (
    project TEXT NOT NULL,
    name TEXT NOT NULL,
    value TEXT NOT NULL,
    schedule_id TEXT NOT NULL,
    PRIMARY KEY (project, name, value, schedule_id)
) STRICT, WITHOUT ROWID;

CREATE TRIGGER tags_of_new AFTER INSERT ON schedule WHEN NEW.tags IS NOT NULL BEGIN
    INSERT INTO schedule_tag (project, name, value, schedule_id)
    SELECT NEW.project, key, value, NEW.id FROM json_each(NEW.tags);
END;

CREATE TRIGGER tags_of_changed AFTER UPDATE OF tags ON schedule WHEN NEW.tags IS NOT OLD.tags BEGIN
    DELETE FROM schedule_tag WHERE schedule_id = OLD.id AND (project, name, value) IN (
        SELECT OLD.project, key, value FROM json_each(coalesce(OLD.tags, '{}')));
    INSERT INTO schedule_tag (project, name, value, schedule_id)
    SELECT NEW.project, key, value, NEW.id FROM json_each(coalesce(NEW.tags, '{}'));
END;

CREATE TRIGGER tags_of_deleted AFTER DELETE ON schedule WHEN OLD.tags IS NOT NULL BEGIN
    DELETE FROM schedule_tag WHERE schedule_id = OLD.id AND (project, name, value) IN (
        SELECT OLD.project, key, value FROM json_each(OLD.tags));
END;
