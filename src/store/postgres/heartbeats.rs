//! Heartbeats alone: one statement commits them, since nothing has to be read first.

use super::pipeline::Statement;
use super::queries;
use super::rows::{Args, Columns, limit_to_sql};
use crate::calendar::Timestamp;
use crate::model::WorkerId;
use crate::store::row_reader::RowReader;
use crate::store::{Answer, Command, Outcome};
use std::collections::BTreeSet;
use tokio_postgres::{Error, Row};

/// The workers of a batch that consists of heartbeats.
pub(super) struct Heartbeats<'c> {
    workers: Vec<&'c WorkerId>,
}

impl<'c> Heartbeats<'c> {
    /// `None` if there are other commands, or two heartbeats of one worker.
    pub fn of(commands: &'c [Command]) -> Option<Self> {
        let worker = |command: &'c Command| match command {
            Command::Heartbeat { worker } => Some(worker),
            _ => None,
        };
        let workers: Vec<&WorkerId> = commands.iter().map(worker).collect::<Option<_>>()?;
        let distinct: BTreeSet<&WorkerId> = workers.iter().copied().collect();
        (distinct.len() == workers.len()).then_some(Self { workers })
    }

    /// The statement. Counts the commit with the counter `slot` if a worker holds runs, or if it
    /// must be counted.
    pub fn statement(&self, now: Timestamp, slot: usize, must_count: bool) -> Statement<'_> {
        // Every commit locks workers in this order.
        let sorted: BTreeSet<&WorkerId> = self.workers.iter().copied().collect();
        let mut args = Args::default();
        args.texts(sorted.into_iter().map(WorkerId::as_str));
        args.int(now.as_micros());
        args.int(limit_to_sql(slot));
        args.flag(must_count);
        Statement::Query(queries::HEARTBEATS, args)
    }

    /// The outcomes of the commands, `None` for workers that are not registered: the general path
    /// rejects those. Also the number of the commit, if it was counted.
    pub fn outcomes(&self, rows: &[Row]) -> Result<(Vec<Option<Outcome>>, Option<i64>), Error> {
        let mut alive = BTreeSet::new();
        let mut number = None;
        for row in rows {
            let mut columns = Columns::of(row);
            alive.extend(columns.optional_text()?);
            number = columns.optional_int()?;
        }
        let outcome = |worker: &&WorkerId| alive.contains(worker.as_str()).then_some(Ok(Answer::Done));
        Ok((self.workers.iter().map(outcome).collect(), number))
    }
}
