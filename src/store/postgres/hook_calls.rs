//! Hook calls: what a group of commands has to see of them, and how they are written.

use super::connection::Session;
use super::error::PgError;
use super::fetch::Part;
use super::pipeline::Statement;
use super::queries;
use super::read::each;
use super::rows::{Args, Columns, count_to_sql, limit_to_sql};
use super::write_back::WriteBack;
use crate::calendar::Timestamp;
use crate::model::text::event_word;
use crate::model::{CallKind, HookCall, WaitingCalls, WorkerId};
use crate::store::row_reader::RowReader;
use crate::store::tables::read_set::ReadSet;
use std::sync::Arc;
use tokio_postgres::Error;

/// The hook calls that a group of commands names, locked, unless a worker that the group does not
/// name has them.
pub(super) fn named<'c>(needs: &ReadSet<'c>) -> Option<Statement<'c>> {
    if needs.hook_calls.is_empty() {
        return None;
    }
    let mut args = Args::default();
    args.texts(needs.hook_calls.iter().copied());
    args.texts(needs.workers.iter().copied());
    Some(Statement::Query(queries::LOCK_HOOK_CALLS, args))
}

/// Takes a row of [`named`].
pub(super) fn take(part: &mut Part, columns: &mut Columns<'_>) -> Result<(), Error> {
    let call = columns.hook_call()?;
    part.stored_hook_calls.insert(Arc::clone(&call.id));
    part.tables.hook_calls.insert(Arc::clone(&call.id), call);
    Ok(())
}

impl WriteBack<'_> {
    pub fn hook_calls(&mut self) {
        let tables = self.tables();
        let stored = |id: &&Arc<str>| self.part.stored_hook_calls.contains(*id);
        let touched = || self.touched.hook_calls.iter();
        let gone: Vec<&str> = touched()
            .filter(stored)
            .filter(|id| !tables.hook_calls.contains_key(*id))
            .map(|id| &**id)
            .collect();
        let changed: Vec<&HookCall> =
            touched().filter(stored).filter_map(|id| tables.hook_calls.get(id)).collect();
        let new: Vec<&HookCall> =
            touched().filter(|id| !stored(id)).filter_map(|id| tables.hook_calls.get(id)).collect();
        // First, because the slot may have been skipped again.
        if !self.touched.removed_skips.is_empty() {
            let removed = self.touched.removed_skips.iter();
            let ids: Vec<_> = removed.map(|(schedule, slot)| HookCall::skipped_id(schedule, *slot)).collect();
            let mut args = Args::default();
            args.shared_texts(ids.into_iter().map(Some));
            self.add(queries::FORGET_HOOK_CALLS, args);
        }
        if !gone.is_empty() {
            let mut args = Args::default();
            args.texts(gone);
            self.add(queries::DELETE_HOOK_CALLS, args);
        }
        if !changed.is_empty() {
            let mut args = Args::default();
            args.texts(changed.iter().map(|call| &*call.id));
            args.ints(changed.iter().map(|call| call.check_at.as_micros()));
            args.optional_ints(changed.iter().map(|call| call.seen_token.map(|token| token.0)));
            args.optional_texts(changed.iter().map(|call| call.worker.as_ref().map(WorkerId::as_str)));
            args.flags(changed.iter().map(|call| call.is_late));
            self.add(queries::UPDATE_HOOK_CALLS, args);
        }
        if !new.is_empty() {
            let mut args = Args::default();
            let all = || new.iter().copied();
            args.texts(all().map(|call| &*call.id));
            args.texts(all().map(|call| &*call.project));
            args.texts(all().map(|call| &*call.workflow));
            args.texts(all().map(|call| call.event.map_or("", event_word)));
            args.texts(all().map(|call| call.schedule.as_str()));
            args.texts(all().map(|call| &*call.key));
            args.ints(all().map(|call| call.from.as_micros()));
            args.ints(all().map(|call| call.until.as_micros()));
            args.ints(all().map(|call| count_to_sql(call.count)));
            args.texts(all().map(|call| &*call.reason));
            args.ints(all().map(|call| call.due_at.as_micros()));
            args.ints(all().map(|call| call.check_at.as_micros()));
            args.optional_texts(all().map(|call| call.worker.as_ref().map(WorkerId::as_str)));
            self.add(queries::ADD_HOOK_CALLS, args);
        }
        if !self.touched.interrupted.is_empty() {
            let mut args = Args::default();
            args.texts(self.touched.interrupted.iter().map(|(id, _)| &**id));
            args.ints(self.touched.interrupted.iter().map(|(_, now)| now.as_micros()));
            self.add(queries::NOTE_INTERRUPTED_LATE, args);
        }
    }
}

impl Session<'_> {
    /// The earliest calls that no registered worker has.
    pub async fn hook_calls(
        self,
        project: &str,
        kinds: &[CallKind],
        limit: usize,
    ) -> Result<Vec<HookCall>, PgError> {
        let mut args = Args::default();
        args.text(project);
        args.texts(kinds.iter().map(|kind| event_word(kind.event)));
        args.texts(kinds.iter().map(|kind| &*kind.workflow));
        args.int(limit_to_sql(limit));
        each(&self.query(queries::HOOK_CALLS, args).await?, |columns| columns.hook_call())
    }

    /// Due calls that no registered worker has.
    pub async fn waiting_hook_calls(
        self,
        project: &str,
        now: Timestamp,
    ) -> Result<Vec<WaitingCalls>, PgError> {
        let mut args = Args::default();
        args.text(project);
        args.int(now.as_micros());
        each(&self.query(queries::WAITING_HOOK_CALLS, args).await?, |columns| {
            let (workflow, count, since) = (columns.text()?, columns.count()?, columns.time()?);
            Ok(WaitingCalls { workflow, count, since })
        })
    }
}
