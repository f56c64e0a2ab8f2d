//! Commands about hook calls.

use super::batch::{Applied, Batch};
use super::queries;
use super::read::View;
use super::rows::{Columns, count_to_sql, limit_to_sql};
use crate::calendar::Timestamp;
use crate::model::text::event_word;
use crate::model::{CallKind, HookCall, HookEvent, LedgerLine, ScheduleId, WaitingCalls, WorkerId};
use crate::store::row_reader::RowReader;
use crate::store::tables::hook_calls::{Standing, standing};
use crate::store::{Answer, Rejection};
use rusqlite::{Result, params};
use std::sync::Arc;

impl Batch<'_> {
    /// Records the calls about slots that were skipped or missed, if a worker wants them.
    pub(super) fn note_slots(&mut self, schedule: &ScheduleId, lines: &[LedgerLine]) -> Result<()> {
        if !lines.iter().any(|line| HookEvent::of_line(line).is_some()) {
            return Ok(());
        }
        let found = self.one(queries::SCHEDULE_NAMES, [schedule], |row| {
            let mut columns = Columns::of(row);
            Ok((columns.text()?, columns.text()?, columns.text()?))
        })?;
        let Some((project, workflow, key)) = found else { return Ok(()) };
        let wanted = self.rules_of(&project, &workflow)?.hooks;
        for line in lines {
            if let Some(event) = wanted.event_of(line) {
                let names = (&project, &workflow, &key);
                let call = HookCall::of_slots(event, names, schedule, line, self.now());
                self.add_hook_call(&call)?;
            }
        }
        Ok(())
    }

    /// Records a call, unless it is recorded.
    pub(super) fn add_hook_call(&mut self, call: &HookCall) -> Result<()> {
        self.run(
            queries::ADD_HOOK_CALL,
            params![
                call.id,
                call.project,
                call.workflow,
                call.event.map_or("", event_word),
                call.schedule,
                call.key,
                call.from,
                call.until,
                count_to_sql(call.count),
                call.reason,
                call.due_at,
                call.check_at,
                call.worker
            ],
        )?;
        Ok(())
    }

    pub(super) fn take_hook_calls(
        &mut self,
        worker: &WorkerId,
        calls: &[Arc<str>],
        recheck_at: Timestamp,
    ) -> Applied {
        if !self.is_registered(worker)? {
            return Err(Rejection::WorkerGone.into());
        }
        let mut taken = Vec::new();
        for id in calls {
            let found = self.one(queries::HOOK_CALL, [id], |row| {
                let mut columns = Columns::of(row);
                Ok((columns.hook_call()?, columns.flag()?))
            })?;
            let Some((mut call, is_held)) = found else { continue };
            if call.worker.as_ref() == Some(worker) {
                taken.push(call);
                continue;
            }
            if is_held || call.check_at > self.now() {
                continue;
            }
            let run = match HookCall::run_of(id) {
                Some(run) => self.one(queries::RUN_OF_CALL, [run], |row| Columns::of(row).run())?,
                None => None,
            };
            match standing(&call, run.as_ref(), worker) {
                Standing::Call => {
                    call.worker = Some(worker.clone());
                    // Whatever becomes of the run, if this worker dies.
                    call.is_late = call.event == Some(HookEvent::Late);
                    self.run(queries::TAKE_HOOK_CALL, params![id, worker, call.is_late])?;
                    taken.push(call);
                }
                Standing::Recheck => {
                    let seen = run.map(|run| run.token);
                    self.run(queries::RECHECK_HOOK_CALL, params![id, seen, recheck_at])?;
                }
                Standing::Drop => {
                    self.run(queries::DELETE_HOOK_CALL, [id])?;
                }
            }
        }
        Ok(Answer::HookCalls(taken))
    }

    pub(super) fn end_hook_calls(&mut self, worker: &WorkerId, calls: &[Arc<str>]) -> Applied {
        for id in calls {
            self.run(queries::END_HOOK_CALL, params![id, worker])?;
        }
        Ok(Answer::Done)
    }
}

impl View<'_> {
    /// The earliest calls that no registered worker has.
    pub fn hook_calls(&mut self, project: &str, kinds: &[CallKind], limit: usize) -> Result<Vec<HookCall>> {
        let name = |kind: &CallKind| format!("{} {}", event_word(kind.event), kind.workflow);
        let kinds: Vec<String> = kinds.iter().map(name).collect();
        let kinds = serde_json::to_string(&kinds).unwrap_or_default();
        self.session.all(queries::HOOK_CALLS, params![project, kinds, limit_to_sql(limit)], |row| {
            Columns::of(row).hook_call()
        })
    }

    /// Due calls that no registered worker has.
    pub fn waiting_hook_calls(&mut self, project: &str, now: Timestamp) -> Result<Vec<WaitingCalls>> {
        self.session.all(queries::WAITING_HOOK_CALLS, params![project, now], |row| {
            let mut columns = Columns::of(row);
            let (workflow, count, since) = (columns.text()?, columns.count()?, columns.time()?);
            Ok(WaitingCalls { workflow, count, since })
        })
    }
}
