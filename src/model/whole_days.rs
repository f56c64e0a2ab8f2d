//! A period of whole days where days differ in length.

use crate::calendar::{Timestamp, Zone};
use jiff::tz::Offset;

const DAY_US: i64 = 86_400_000_000;

/// Why `every` is not what its author means, if it is whole days of a zone other than UTC: a period
/// is elapsed time, and the author names a zone because a time of day matters.
pub(super) fn objection(period_us: i64, zone: &Zone, start_at: Option<Timestamp>) -> Option<String> {
    if period_us % DAY_US != 0 || zone.is_utc() {
        return None;
    }
    let days = period_us / DAY_US;
    let plural = if days == 1 { "day" } else { "days" };
    Some(format!(
        "`every` is {days} {plural} in the zone `{}`: a period is elapsed time, so the time of day moves when the \
         clocks change; {}for elapsed time leave out `timezone`",
        zone.name(),
        time_of_day(days, zone, start_at)
    ))
}

/// The cron expression for the same days at the same time of day, if there is one.
fn time_of_day(days: i64, zone: &Zone, start_at: Option<Timestamp>) -> String {
    let start = start_at.unwrap_or(Timestamp::from_second(0));
    let local = Offset::from_seconds(zone.offset_seconds(start)).ok().and_then(|offset| {
        let start = jiff::Timestamp::from_microsecond(start.as_micros()).ok()?;
        Some(offset.to_datetime(start))
    });
    // Without `start_at`, nothing says which time of day is meant.
    let (hour, minute) = match local {
        Some(local) if start_at.is_some() => (local.hour(), local.minute()),
        _ => (9, 0),
    };
    let weekday = local.map_or(1, |local| local.weekday().to_sunday_zero_offset());
    match days {
        1 => format!("for a time of day use `cron=\"{minute} {hour} * * *\"`; "),
        7 => format!("for a time of day use `cron=\"{minute} {hour} * * {weekday}\"`; "),
        _ if days % 7 == 0 => {
            let weeks = days / 7;
            format!(
                "for a time of day use `cron=\"{minute} {hour} * * {weekday}\"` with `weeks={weeks}` and `start_at`; "
            )
        }
        _ => String::new(),
    }
}
