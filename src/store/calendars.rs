//! Stored calendars: who reads schedules to decide about their slots reads the calendars too.

use super::{Command, DueSchedule, Page, Patch, ScheduleFilter, StoreError, StoreReads};
use crate::model::{Schedule, ScheduleStatus, stored_calendar};
use std::sync::Arc;

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
    let names = stored_calendar::named(schedules.iter().map(|schedule| &schedule.spec));
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

/// Of a page of broken schedules, makes those active again that were broken because a calendar did
/// not exist, or because a worker of an older release could not read them, and that can be read and
/// have their calendars now. What was due meanwhile follows their catch-up policy, as after a
/// pause. The second value continues with the next page; `None` after the last.
pub fn mending(
    reads: &dyn StoreReads,
    project: &Arc<str>,
    page: &Page,
) -> Result<(Vec<Command>, Option<String>), StoreError> {
    let filter = ScheduleFilter { status: Some(ScheduleStatus::Broken), ..ScheduleFilter::default() };
    let mut schedules = reads.schedules(project, &filter, page)?;
    let after = schedules.last().map(|schedule| schedule.id.to_string());
    let after = after.filter(|_| schedules.len() == page.limit);
    schedules.retain(|schedule| {
        schedule.note.as_deref().is_some_and(|note| note.starts_with(stored_calendar::MISSING))
            || schedule.note.as_deref().is_some_and(stored_calendar::is_of_older_release)
    });
    attach_calendars(reads, project, &mut schedules)?;
    schedules.retain(|schedule| {
        schedule.spec.compiled().is_ok_and(|compiled_spec| compiled_spec.missing_calendar().is_none())
    });
    let commands = schedules.into_iter().map(|schedule| {
        let is_over = schedule.next_slot.is_none();
        let status = if is_over { ScheduleStatus::Finished } else { ScheduleStatus::Active };
        Command::PatchSchedule {
            project: Arc::clone(project),
            id: schedule.id,
            revision: Some(schedule.revision),
            patch: Box::new(Patch { status: Some(status), note: Some(None), ..Patch::default() }),
        }
    });
    Ok((commands.collect(), after))
}
