//! A connection in use, with its prepared statements: one lookup per statement and transaction
//! instead of one per call.

use rusqlite::{CachedStatement, Connection, Params, Result, Row, StatementStatus};
use std::cell::Cell;

thread_local! {
    static STEPS: Cell<u64> = const { Cell::new(0) };
}

/// Steps of SQLite's virtual machine that statements of this thread have taken so far: a measure of
/// work that does not depend on the machine.
pub(super) fn steps_taken() -> u64 {
    STEPS.get()
}

/// The prepared statements of one connection.
pub(super) struct Session<'c> {
    connection: &'c Connection,
    statements: Vec<(&'static str, CachedStatement<'c>)>,
}

impl Drop for Session<'_> {
    fn drop(&mut self) {
        let steps =
            self.statements.iter().map(|(_, statement)| statement.reset_status(StatementStatus::VmStep));
        let taken: u64 = steps.map(|steps| u64::try_from(steps).unwrap_or(0)).sum();
        STEPS.set(STEPS.get().wrapping_add(taken));
    }
}

impl<'c> Session<'c> {
    pub fn on(connection: &'c Connection) -> Self {
        Self { connection, statements: Vec::with_capacity(16) }
    }

    fn statement(&mut self, sql: &'static str) -> Result<&mut CachedStatement<'c>> {
        let known = self.statements.iter().position(|(known, _)| std::ptr::eq(*known, sql));
        let place = known.unwrap_or(self.statements.len());
        if known.is_none() {
            self.statements.push((sql, self.connection.prepare_cached(sql)?));
        }
        Ok(&mut self.statements[place].1)
    }

    /// Executes a statement, and returns the number of changed rows.
    pub fn run(&mut self, sql: &'static str, params: impl Params) -> Result<usize> {
        self.statement(sql)?.execute(params)
    }

    /// The first row, if any.
    pub fn one<T>(
        &mut self,
        sql: &'static str,
        params: impl Params,
        read: impl FnOnce(&Row<'_>) -> Result<T>,
    ) -> Result<Option<T>> {
        let mut rows = self.statement(sql)?.query(params)?;
        match rows.next()? {
            Some(row) => read(row).map(Some),
            None => Ok(None),
        }
    }

    /// The first wanted row, if any.
    pub fn first<T>(
        &mut self,
        sql: &'static str,
        params: impl Params,
        mut read: impl FnMut(&Row<'_>) -> Result<T>,
        is_wanted: impl Fn(&T) -> bool,
    ) -> Result<Option<T>> {
        let mut rows = self.statement(sql)?.query(params)?;
        while let Some(row) = rows.next()? {
            let found = read(row)?;
            if is_wanted(&found) {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// Whether there is a row.
    pub fn any(&mut self, sql: &'static str, params: impl Params) -> Result<bool> {
        Ok(self.one(sql, params, |_| Ok(()))?.is_some())
    }

    /// All rows.
    pub fn all<T>(
        &mut self,
        sql: &'static str,
        params: impl Params,
        mut read: impl FnMut(&Row<'_>) -> Result<T>,
    ) -> Result<Vec<T>> {
        let mut rows = self.statement(sql)?.query(params)?;
        let mut all = Vec::new();
        while let Some(row) = rows.next()? {
            all.push(read(row)?);
        }
        Ok(all)
    }
}
