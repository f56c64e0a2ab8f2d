//! Runs that succeed in one transaction with the same result, mostly none: they are written
//! together. Opening the indexes of `run` takes longer than the change of one run.

use super::batch::Batch;
use super::queries;
use crate::model::Json;
use rusqlite::{Result, params};
use serde_json::json;

/// Runs that have succeeded with one result and are not written yet.
#[derive(Default)]
pub(super) struct Successes {
    /// Where they are.
    numbers: Vec<i64>,
    result: Option<Json>,
    print: i64,
}

impl Batch<'_> {
    /// Whether the end of this run is not written yet.
    pub(super) fn is_unwritten_success(&self, no: i64) -> bool {
        self.successes.numbers.contains(&no)
    }

    /// Notes that a run has succeeded. `print` is the fingerprint of its completion.
    pub(super) fn add_success(&mut self, no: i64, result: Option<&Json>, print: i64) -> Result<()> {
        if self.successes.result.as_ref() != result || self.successes.print != print {
            self.write_successes()?;
            self.successes.result = result.cloned();
            self.successes.print = print;
        }
        self.successes.numbers.push(no);
        Ok(())
    }

    /// Writes what was noted. Called at the end, and before anything that reads or changes runs.
    pub(super) fn write_successes(&mut self) -> Result<()> {
        let Successes { numbers, result, print } = std::mem::take(&mut self.successes);
        let now = self.now();
        match *numbers {
            [] => Ok(0),
            [no] => self.run(queries::END_SUCCESS, params![no, result, now, print]),
            _ => self.run(queries::END_SUCCESSES, params![json!(numbers).to_string(), result, now, print]),
        }?;
        Ok(())
    }
}
