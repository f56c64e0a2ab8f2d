//! Applies a batch of commands in one transaction.

use super::queries;
use super::statements::Session;
use super::successes::Successes;
use crate::calendar::Timestamp;
use crate::model::{ClaimRules, WorkerId};
use crate::store::{Answer, Command, Rejection};
use rusqlite::{Connection, ErrorCode, Params, Result, Row};
use std::sync::Arc;

/// Why a command was not applied.
pub(super) enum BatchError {
    /// The command was rejected.
    Rejected(Rejection),
    /// The database failed.
    Database(rusqlite::Error),
}

impl From<Rejection> for BatchError {
    fn from(rejection: Rejection) -> Self {
        Self::Rejected(rejection)
    }
}

impl From<rusqlite::Error> for BatchError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Database(error)
    }
}

/// The result of a command.
pub(super) type Applied<T = Answer> = std::result::Result<T, BatchError>;

/// A worker for which runs are claimed in this transaction.
struct Claimant {
    id: WorkerId,
    is_registered: bool,
    bumps: i64,
}

/// A project and a workflow of it.
pub(super) type ProjectWorkflow = (Arc<str>, Arc<str>);

/// A transaction in which commands are applied.
pub(super) struct Batch<'c> {
    pub(super) session: Session<'c>,
    now: Timestamp,
    claimants: Vec<Claimant>,
    pub(super) successes: Successes,
    /// What workflows declare about their runs, if it was read.
    pub(super) rules: Option<Vec<(ProjectWorkflow, ClaimRules)>>,
}

/// Applies the commands as one transaction.
pub(super) fn commit(
    connection: &Connection,
    commands: &[Command],
    now: &dyn Fn() -> Timestamp,
) -> Result<Vec<std::result::Result<Answer, Rejection>>> {
    match attempt(connection, commands, now, false) {
        // A constraint refused what no check had foreseen. What each command has written by then is
        // unknown, so the batch is repeated with a savepoint around each command.
        Err(error) if refusal(&error).is_some() => attempt(connection, commands, now, true),
        done => done,
    }
}

fn attempt(
    connection: &Connection,
    commands: &[Command],
    now: &dyn Fn() -> Timestamp,
    is_careful: bool,
) -> Result<Vec<std::result::Result<Answer, Rejection>>> {
    connection.execute_batch("BEGIN IMMEDIATE")?;
    // Not sooner: see `StoreWrites::commit_when`.
    let now = now();
    let mut batch = Batch {
        session: Session::on(connection),
        now,
        claimants: Vec::new(),
        successes: Successes::default(),
        rules: None,
    };
    let answers = batch.all(commands, is_careful);
    drop(batch);
    let committed = answers.and_then(|answers| {
        // If every command was rejected, nothing has to be written to disk.
        let end = if answers.iter().all(std::result::Result::is_err) { "ROLLBACK" } else { "COMMIT" };
        connection.execute_batch(end).map(|()| answers)
    });
    if committed.is_err() && !connection.is_autocommit() {
        // SQLite may have rolled back by itself. A connection that fails to roll back is discarded.
        let _ = connection.execute_batch("ROLLBACK");
    }
    committed
}

/// The text of a violated constraint, if the error is one that only this command's data can have
/// caused.
fn refusal(error: &rusqlite::Error) -> Option<String> {
    match error {
        rusqlite::Error::SqliteFailure(failure, text) => match failure.code {
            ErrorCode::ConstraintViolation | ErrorCode::TooBig | ErrorCode::TypeMismatch => {
                Some(text.clone().unwrap_or_else(|| failure.to_string()))
            }
            _ => None,
        },
        rusqlite::Error::ToSqlConversionFailure(reason) => Some(reason.to_string()),
        _ => None,
    }
}

impl Batch<'_> {
    fn all(
        &mut self,
        commands: &[Command],
        is_careful: bool,
    ) -> Result<Vec<std::result::Result<Answer, Rejection>>> {
        let mut answers = Vec::with_capacity(commands.len());
        for command in commands {
            answers.push(if is_careful { self.careful(command)? } else { self.plain(command)? });
        }
        self.write_successes()?;
        self.write_heartbeats()?;
        Ok(answers)
    }

    fn plain(&mut self, command: &Command) -> Result<std::result::Result<Answer, Rejection>> {
        match self.apply(command) {
            Ok(answer) => Ok(Ok(answer)),
            Err(BatchError::Rejected(rejection)) => Ok(Err(rejection)),
            Err(BatchError::Database(error)) => Err(error),
        }
    }

    fn careful(&mut self, command: &Command) -> Result<std::result::Result<Answer, Rejection>> {
        match self.guarded(|batch| {
            let answer = batch.apply(command)?;
            batch.write_successes()?;
            batch.write_heartbeats()?;
            Ok(answer)
        }) {
            Ok(answer) => Ok(Ok(answer)),
            Err(BatchError::Rejected(rejection)) => Ok(Err(rejection)),
            Err(BatchError::Database(error)) => match refusal(&error) {
                Some(reason) => Ok(Err(Rejection::Invalid(reason))),
                None => Err(error),
            },
        }
    }

    /// Does the work, or undoes what it wrote.
    pub(super) fn guarded<T>(&mut self, work: impl FnOnce(&mut Self) -> Applied<T>) -> Applied<T> {
        // What earlier commands have noted must not be undone with it.
        self.write_successes()?;
        self.write_heartbeats()?;
        self.run("SAVEPOINT command", [])?;
        let done = work(self);
        if done.is_err() {
            self.claimants.clear();
            self.successes = Successes::default();
            self.rules = None;
            self.run("ROLLBACK TO command", [])?;
        }
        self.run("RELEASE command", [])?;
        done
    }

    fn apply(&mut self, command: &Command) -> Applied {
        if !matches!(command, Command::CompleteRun { .. }) {
            self.write_successes()?;
        }
        match command {
            Command::RegisterWorker(entry) => self.register_worker(entry),
            Command::Reconcile { entry, silent } => self.reconcile(entry, silent),
            Command::Heartbeat { worker } => self.heartbeat(worker),
            Command::DeregisterWorker { worker } => self.deregister_worker(worker),
            Command::ExpireWorker { worker, heartbeat, shares_process } => {
                self.expire_worker(worker, *heartbeat, *shares_process)
            }
            Command::UncountInterruptions { claims } => self.uncount_interruptions(claims),
            Command::UpsertSchedules(new) => self.upsert_schedules(new),
            Command::PatchSchedule { project, id, revision, patch } => {
                self.patch_schedule(project, id, *revision, patch)
            }
            Command::DeleteSchedule { project, id } => self.delete_schedule(project, id),
            Command::Fire { worker, plan } => self.fire(worker, plan),
            Command::ClaimRuns { project, worker, workflows, limit, until, suspects, codes } => {
                let held = codes.as_deref();
                self.claim_runs(project, worker, workflows, (*limit, *until), *suspects, held)
            }
            Command::SetLimit { project, name, values } => self.set_limit(project, name, values.as_ref()),
            Command::DeleteLimit { project, name } => self.delete_limit(project, name),
            Command::SetCalendar { project, name, dates } => self.set_calendar(project, name, dates.as_ref()),
            Command::CreateRun(new) => self.create_run(new),
            Command::DebounceRun { new, debounce } => self.debounce_run(new, debounce),
            Command::RecordStep { run, token, step } => self.record_step(run, *token, step),
            Command::ReportProgress { run, token, progress } => self.report_progress(run, *token, progress),
            Command::AwaitEvent { run, token, step } => self.await_event(run, *token, step),
            Command::SendEvent(new) => self.send_event(new),
            Command::CompleteRun { run, token, ending, tells, .. } => {
                self.complete_run(run, *token, ending, *tells)
            }
            Command::CancelRun { project, run } => self.cancel_run(project, run),
            Command::RetryRun { project, run } => self.retry_run(project, run),
            Command::WakeParents { project, runs } => self.wake_parents(project, runs),
            Command::TakeHookCalls { worker, calls, recheck_at } => {
                self.take_hook_calls(worker, calls, *recheck_at)
            }
            Command::EndHookCalls { worker, calls } => self.end_hook_calls(worker, calls),
            Command::Prune { project, before, keep, limit } => self.prune(project, *before, *keep, *limit),
        }
    }

    /// The instant of the commands.
    pub(super) fn now(&self) -> Timestamp {
        self.now
    }

    /// See [`Session::run`].
    pub(super) fn run(&mut self, sql: &'static str, params: impl Params) -> Result<usize> {
        self.session.run(sql, params)
    }

    /// See [`Session::one`].
    pub(super) fn one<T>(
        &mut self,
        sql: &'static str,
        params: impl Params,
        read: impl FnOnce(&Row<'_>) -> Result<T>,
    ) -> Result<Option<T>> {
        self.session.one(sql, params, read)
    }

    /// See [`Session::first`].
    pub(super) fn first<T>(
        &mut self,
        sql: &'static str,
        params: impl Params,
        read: impl FnMut(&Row<'_>) -> Result<T>,
        is_wanted: impl Fn(&T) -> bool,
    ) -> Result<Option<T>> {
        self.session.first(sql, params, read, is_wanted)
    }

    /// See [`Session::any`].
    pub(super) fn any(&mut self, sql: &'static str, params: impl Params) -> Result<bool> {
        self.session.any(sql, params)
    }

    /// See [`Session::all`].
    pub(super) fn all_rows<T>(
        &mut self,
        sql: &'static str,
        params: impl Params,
        read: impl FnMut(&Row<'_>) -> Result<T>,
    ) -> Result<Vec<T>> {
        self.session.all(sql, params, read)
    }

    /// Whether the worker is registered. Read once for a batch of its claims.
    pub(super) fn is_registered(&mut self, worker: &WorkerId) -> Result<bool> {
        if let Some(known) = self.claimants.iter().find(|known| known.id == *worker) {
            return Ok(known.is_registered);
        }
        let is_registered = self.any(queries::HEARTBEAT, [worker])?;
        self.claimants.push(Claimant { id: worker.clone(), is_registered, bumps: 0 });
        Ok(is_registered)
    }

    /// Raises the heartbeat of a registered worker. Written once for a batch of its claims.
    pub(super) fn bump_heartbeat(&mut self, worker: &WorkerId) -> Result<()> {
        if self.is_registered(worker)?
            && let Some(known) = self.claimants.iter_mut().find(|known| known.id == *worker)
        {
            known.bumps += 1;
        }
        Ok(())
    }

    /// Writes the heartbeats that are due, and forgets what is known about workers. Called at the
    /// end, and before anything that reads or changes workers.
    pub(super) fn write_heartbeats(&mut self) -> Result<()> {
        for worker in std::mem::take(&mut self.claimants) {
            if worker.bumps > 0 {
                self.run(queries::BUMP_HEARTBEAT, (&worker.id, worker.bumps, self.now()))?;
            }
        }
        Ok(())
    }
}
