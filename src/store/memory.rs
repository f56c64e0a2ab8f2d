//! A store in memory: the reference state machine behind a lock. Tests, the simulator, and virtual
//! time use it.

use super::tables::Tables;
use super::{
    Answer, Command, DueSchedule, KeyedRun, NextWork, Page, ProjectStats, Rejection, RunFilter,
    ScheduleFilter, StoreError, StoreReads, StoreWrites, WaitingParent,
};
use crate::calendar::Timestamp;
use crate::model::{
    CallKind, EntryRefusal, HookCall, LedgerEntry, LimitStatus, Peer, Run, RunId, Schedule, ScheduleId,
    StepRecord, StoredCalendar, Token, WaitingCalls, WorkerId, WorkflowEntry,
};
use crate::sync::Mutex;
use std::sync::Arc;

/// A store in memory. Clones share it, as processes share a database.
#[derive(Clone, Default)]
pub struct MemoryStore {
    tables: Arc<Mutex<Tables>>,
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }
}

impl StoreWrites for MemoryStore {
    fn commit_when(
        &self,
        commands: &[Command],
        now: &dyn Fn() -> Timestamp,
    ) -> Result<Vec<Result<Answer, Rejection>>, StoreError> {
        let mut tables = self.tables.lock();
        let now = now();
        let answers = commands.iter().map(|command| tables.apply(command, now)).collect();
        tables.close_commit();
        Ok(answers)
    }

    fn barrier(&self) -> Result<(), StoreError> {
        drop(self.tables.lock());
        Ok(())
    }
}

impl StoreReads for MemoryStore {
    fn due(
        &self,
        project: &str,
        workflows: &[Arc<str>],
        until: Timestamp,
        limit: usize,
    ) -> Result<Vec<DueSchedule>, StoreError> {
        Ok(self.tables.lock().due(project, workflows, until, limit))
    }

    fn due_count(
        &self,
        project: &str,
        workflows: &[Arc<str>],
        until: Timestamp,
        limit: usize,
    ) -> Result<usize, StoreError> {
        Ok(self.tables.lock().due_count(project, workflows, until, limit))
    }

    fn next_work(
        &self,
        project: &str,
        workflows: &[Arc<str>],
        now: Timestamp,
    ) -> Result<NextWork, StoreError> {
        Ok(self.tables.lock().next_work(project, workflows, now))
    }

    fn cancel_requests(&self, worker: &WorkerId) -> Result<Vec<RunId>, StoreError> {
        Ok(self.tables.lock().cancel_requests(worker))
    }

    fn claims_stand(&self, claims: &[(RunId, Token)]) -> Result<Vec<bool>, StoreError> {
        let tables = self.tables.lock();
        Ok(claims.iter().map(|(run, token)| tables.claimed_row(run, *token).is_some()).collect())
    }

    fn may_enter(&self, claims: &[(RunId, Token)]) -> Result<Vec<Result<(), EntryRefusal>>, StoreError> {
        let tables = self.tables.lock();
        Ok(claims.iter().map(|(run, token)| tables.may_enter(run, *token)).collect())
    }

    fn peers(&self, project: &str) -> Result<Vec<Peer>, StoreError> {
        Ok(self.tables.lock().peers(project))
    }

    fn hook_calls(
        &self,
        project: &str,
        kinds: &[CallKind],
        limit: usize,
    ) -> Result<Vec<HookCall>, StoreError> {
        Ok(self.tables.lock().open_hook_calls(project, kinds, limit))
    }

    fn waiting_hook_calls(&self, project: &str, now: Timestamp) -> Result<Vec<WaitingCalls>, StoreError> {
        Ok(self.tables.lock().waiting_hook_calls(project, now))
    }

    fn limits(&self, project: &str, count_to: usize, now: Timestamp) -> Result<Vec<LimitStatus>, StoreError> {
        Ok(self.tables.lock().limit_statuses(project, count_to, now))
    }

    fn calendars(
        &self,
        project: &str,
        names: Option<&[Arc<str>]>,
    ) -> Result<Vec<StoredCalendar>, StoreError> {
        Ok(self.tables.lock().calendars(project, names))
    }

    fn schedules_with_calendars(&self, project: &str, page: &Page) -> Result<Vec<Schedule>, StoreError> {
        Ok(self.tables.lock().schedules_with_calendars(project, page.after.as_deref(), page.limit))
    }

    fn workflows(&self, project: &str) -> Result<Vec<WorkflowEntry>, StoreError> {
        Ok(self.tables.lock().workflows(project))
    }

    fn schedule(&self, project: &str, id: &ScheduleId) -> Result<Option<Schedule>, StoreError> {
        Ok(self.tables.lock().schedule(project, id).map(|row| row.schedule.clone()))
    }

    fn schedules(
        &self,
        project: &str,
        filter: &ScheduleFilter,
        page: &Page,
    ) -> Result<Vec<Schedule>, StoreError> {
        Ok(self.tables.lock().list_schedules(project, filter, page))
    }

    fn coming(&self, project: &str, until: Timestamp, limit: usize) -> Result<Vec<Schedule>, StoreError> {
        Ok(self.tables.lock().coming(project, until, limit))
    }

    fn project_stats(
        &self,
        project: &str,
        due_before: Timestamp,
        count_to: usize,
    ) -> Result<ProjectStats, StoreError> {
        Ok(self.tables.lock().project_stats(project, due_before, count_to))
    }

    fn history(
        &self,
        project: &str,
        id: &ScheduleId,
        page: &Page,
    ) -> Result<Option<Vec<LedgerEntry>>, StoreError> {
        Ok(self.tables.lock().history(project, id, page))
    }

    fn run(&self, project: &str, id: &RunId) -> Result<Option<Run>, StoreError> {
        Ok(self.tables.lock().run(project, id).map(|row| row.run.clone()))
    }

    fn runs(&self, project: &str, filter: &RunFilter, page: &Page) -> Result<Vec<Run>, StoreError> {
        Ok(self.tables.lock().list_runs(project, filter, page))
    }

    fn runs_with_keys(
        &self,
        project: &str,
        workflow: &str,
        keys: (&str, &str),
        limit: usize,
    ) -> Result<Vec<KeyedRun>, StoreError> {
        Ok(self.tables.lock().runs_with_keys(project, workflow, keys, limit))
    }

    fn running_with_key(&self, project: &str, limit: &str, key: &str) -> Result<u64, StoreError> {
        Ok(self.tables.lock().running_with_key(project, limit, key))
    }

    fn run_with_event(
        &self,
        project: &str,
        of: (&str, &str),
        name: &str,
        idempotency_key: &str,
    ) -> Result<Option<RunId>, StoreError> {
        Ok(self.tables.lock().run_with_event(project, of, name, idempotency_key))
    }

    fn waiting_parents(&self, project: &str, page: &Page) -> Result<Vec<WaitingParent>, StoreError> {
        Ok(self.tables.lock().waiting_parents(project, page))
    }

    fn remarkable_runs(&self, project: &str, limit: usize) -> Result<Vec<Run>, StoreError> {
        Ok(self.tables.lock().remarkable_runs(project, limit))
    }

    fn steps(&self, id: &RunId) -> Result<Vec<StepRecord>, StoreError> {
        Ok(self.tables.lock().steps_of(id))
    }

    fn previous_result(&self, schedule: &ScheduleId, before: &RunId) -> Result<Option<Run>, StoreError> {
        Ok(self.tables.lock().previous_result(schedule, before))
    }

    fn change_mark(&self) -> Result<u64, StoreError> {
        Ok(self.tables.lock().change_mark())
    }
}
