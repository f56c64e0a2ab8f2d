//! Stored calendars: who reads schedules to decide about their slots reads the calendars too.

use super::{DueSchedule, StoreError, StoreReads};
use crate::model::{Schedule, stored_calendar};

/// Tells the schedules the dates of the calendars that they name. Reads nothing if they name none.
///
/// The calendars are read after the schedules. So a decision knows every calendar that was set
/// before its schedules were read.
pub fn attach_calendars<'s>(
    reads: &dyn StoreReads,
    project: &str,
    schedules: impl IntoIterator<Item = &'s mut Schedule>,
) -> Result<(), StoreError> {
    let mut schedules: Vec<&mut Schedule> = schedules.into_iter().collect();
    let names = stored_calendar::named(schedules.iter().map(|schedule| &**schedule));
    if names.is_empty() {
        return Ok(());
    }
    let calendars = reads.calendars(project, Some(&names))?;
    stored_calendar::attach(&calendars, schedules.iter_mut().map(|schedule| &mut **schedule));
    Ok(())
}

/// The same for due schedules.
pub fn attach_calendars_to_due(
    reads: &dyn StoreReads,
    project: &str,
    due: &mut [DueSchedule],
) -> Result<(), StoreError> {
    attach_calendars(reads, project, due.iter_mut().map(|due| &mut due.schedule))
}
