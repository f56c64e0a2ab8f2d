//! Statements about stored calendars.

use super::Sql;
use crate::store::row_reader::schedule_columns;

/// A schedule `s` that names calendars, as the index has it.
macro_rules! has_calendars {
    () => {
        r#"strpos(s.spec, '"calendars":[') > 0"#
    };
}

statements! {
    /// Creates a calendar, or replaces its dates. (no index)
    SET_CALENDAR = "INSERT INTO @calendar (project, name, dates, updated_at) VALUES ($1, $2, $3, $4) \
        ON CONFLICT (project, name) DO UPDATE SET dates = excluded.dates, updated_at = excluded.updated_at";
    /// The calendars that schedules name, locked so that they are not deleted meanwhile. Their
    /// dates may change. (`calendar_pkey`)
    LOCK_CALENDARS = "SELECT c.project, c.name, c.dates, c.updated_at FROM @calendar c \
        WHERE c.project = ANY($1) AND c.name = ANY($2) ORDER BY c.project, c.name FOR KEY SHARE";
    /// Locks a calendar that is to be deleted. (`calendar_pkey`)
    LOCK_CALENDAR_TO_DELETE = "SELECT c.name FROM @calendar c WHERE c.project = $1 AND c.name = $2 FOR UPDATE";
    /// Deletes a calendar. (`calendar_pkey`)
    DELETE_CALENDAR = "DELETE FROM @calendar WHERE project = $1 AND name = $2";
    /// Whether a schedule names the calendar. The names are in brackets, each in quotes, and have
    /// neither in them. (`schedule_with_calendars`)
    USES_CALENDAR = concat!(
        "SELECT FROM @schedule s WHERE s.project = $1 AND ", has_calendars!(),
        r#" AND strpos(split_part(split_part(s.spec, '"calendars":[', 2), ']', 1), '"' || $2::text || '"') > 0 "#,
        "ORDER BY s.id LIMIT 1"
    );
    /// The calendars with some names, by name. (`calendar_pkey`)
    CALENDARS = "SELECT c.name, c.dates, c.updated_at FROM @calendar c WHERE c.project = $1 AND c.name = ANY($2) \
        ORDER BY c.name";
    /// All calendars of a project, by name. (`calendar_pkey`)
    ALL_CALENDARS = "SELECT c.name, c.dates, c.updated_at FROM @calendar c WHERE c.project = $1 ORDER BY c.name";
    /// A page of the schedules that name calendars. (`schedule_with_calendars`)
    SCHEDULES_WITH_CALENDARS = concat!(
        "SELECT ", schedule_columns!(), " FROM @schedule s WHERE s.project = $1 AND s.id > $2 AND ",
        has_calendars!(), " ORDER BY s.id LIMIT $3"
    );
}
