//! Stored calendars that are missing: a warning for declared schedules, and the end of the wait for
//! schedules that were marked broken without theirs.

use super::Engine;
use crate::clock::Now;
use crate::engine::dispatcher::{Dispatcher, Notice};
use crate::model::stored_calendar;
use crate::store::{Page, StoreError, StoreWrites, mending};

/// What is to be looked at.
#[derive(Default)]
pub(super) struct MissingCalendars {
    /// Whether calendars that declared schedules name may be missing.
    may_lack_declared: bool,
    /// Whether schedules may be broken whose calendar exists.
    may_be_mended: bool,
}

impl MissingCalendars {
    /// This worker has registered.
    pub(super) fn note_registered(&mut self) {
        *self = Self { may_lack_declared: true, may_be_mended: true };
    }

    /// This worker marks a schedule broken because its calendar does not exist.
    pub(super) fn note_broken(&mut self) {
        self.may_be_mended = true;
    }
}

impl<W: StoreWrites, D: Dispatcher> Engine<W, D> {
    /// Does what is to be done about missing calendars.
    pub(super) fn tend_calendars(&mut self, now: Now) -> Result<(), StoreError> {
        if self.calendars.may_lack_declared {
            self.warn_about_missing_calendars()?;
            self.calendars.may_lack_declared = false;
        }
        if self.calendars.may_be_mended {
            self.mend_schedules(now)?;
            self.calendars.may_be_mended = false;
        }
        Ok(())
    }

    /// Declarations may name calendars that nobody has created yet. Their schedules can't be
    /// decided until then.
    fn warn_about_missing_calendars(&self) -> Result<(), StoreError> {
        let declared = self.config.declared.iter();
        let named = declared.filter_map(|new| Some((new, new.spec.compiled().ok()?)));
        let named: Vec<_> = named.filter(|(_, spec)| !spec.spec().calendars.is_empty()).collect();
        if named.is_empty() {
            return Ok(());
        }
        let found = self.reads.calendars(&self.config.project, None)?;
        for (new, spec) in named {
            let is_missing = |name: &&String| !found.iter().any(|calendar| *calendar.name == ***name);
            for name in spec.spec().calendars.iter().filter(is_missing) {
                self.dispatcher.emit(Notice::Advice(format!(
                    "the schedule of `{}` (key `{}`): {}",
                    new.workflow,
                    new.key,
                    stored_calendar::missing(name)
                )));
            }
        }
        Ok(())
    }

    /// Makes broken schedules active again whose missing calendar exists. Whoever sets a calendar
    /// does so too, but cannot know of a schedule that is being marked broken at that moment. So a
    /// worker looks after it has marked one, and when it registers, for workers that died before
    /// they looked.
    fn mend_schedules(&mut self, now: Now) -> Result<(), StoreError> {
        let mut page = Page { limit: self.config.batch_max.max(1), after: None };
        loop {
            let (commands, after) = mending(&*self.reads, &self.config.project, &page)?;
            if !commands.is_empty() {
                // A rejection means that somebody else has changed the schedule meanwhile.
                self.writes.commit(&commands, now.wall)?;
                self.scheduling.is_next_work_stale = true;
            }
            if after.is_none() {
                return Ok(());
            }
            page.after = after;
        }
    }
}
