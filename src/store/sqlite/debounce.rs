//! Debounced calls.

use super::batch::{Applied, Batch};
use super::queries;
use super::rows::Columns;
use crate::model::{Debounce, NewRun, Run};
use crate::store::Answer;
use crate::store::row_reader::RowReader;
use crate::store::tables::transitions;
use rusqlite::params;

impl Batch<'_> {
    pub(super) fn debounce_run(&mut self, new: &NewRun, debounce: &Debounce) -> Applied {
        if self.any(queries::HAS_RUN, [&new.id])? {
            return Ok(Answer::Created { run: new.id.clone(), is_new: false, claimed: None });
        }
        let repeated = self.one(queries::RUN_BY_DEBOUNCE_CALL, [&new.id], |row| Columns::of(row).run_id())?;
        if let Some(run) = repeated {
            return Ok(Answer::Created { run, is_new: false, claimed: None });
        }
        let waiting =
            self.one(queries::DEBOUNCED, params![new.project, new.workflow, debounce.key], |row| {
                let mut columns = Columns::of(row);
                Ok((columns.int()?, columns.time()?, columns.run_id()?))
            })?;
        let rules = self.rules_of(&new.project, &new.workflow)?;
        if let Some((no, until, run)) = waiting {
            let start = debounce.start(until, self.now());
            let priority = new.priority_under(&rules);
            self.run(queries::REPLACE_DEBOUNCED, params![no, new.payload, start, new.id, priority])?;
            return Ok(Answer::Created { run, is_new: false, claimed: None });
        }
        let (debounced, start) = debounce.first(new, self.now());
        let run = Run { available_at: start, ..transitions::new_run(new, &rules, self.now()) };
        self.insert_run(&run)?;
        self.run(queries::NOTE_DEBOUNCED, params![run.id, debounced.key, debounced.until])?;
        Ok(Answer::Created { run: run.id, is_new: true, claimed: None })
    }
}
