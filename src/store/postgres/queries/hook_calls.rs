//! Statements about hook calls.

use super::Sql;
use crate::store::row_reader::hook_call_columns;

statements! {
    /// Hook calls by id that no worker has, or one of those in $2, or one that is not registered;
    /// locked. (`hook_call_pkey`, `worker_pkey`)
    LOCK_HOOK_CALLS = concat!(
        "SELECT ", hook_call_columns!(), " FROM @hook_call h WHERE h.id = ANY($1) \
         AND (h.worker IS NULL OR h.worker = ANY($2) \
         OR NOT EXISTS (SELECT FROM @worker w WHERE w.id = h.worker)) ORDER BY h.id FOR UPDATE OF h"
    );
    /// The earliest hook calls of some kinds that no registered worker has.
    /// (`hook_call_by_time`, `worker_pkey`)
    HOOK_CALLS = concat!(
        "SELECT ", hook_call_columns!(), " FROM @hook_call h WHERE h.project = $1 \
         AND (h.event, h.workflow) IN (SELECT * FROM unnest($2::text[], $3::text[])) AND (h.worker IS NULL \
         OR NOT EXISTS (SELECT FROM @worker w WHERE w.id = h.worker)) ORDER BY h.check_at, h.id LIMIT $4"
    );
    /// Records hook calls, unless they are recorded. (no index)
    ADD_HOOK_CALLS = "INSERT INTO @hook_call (id, project, workflow, event, schedule_id, key, from_slot, \
        until_slot, slot_count, reason, due_at, check_at, worker) SELECT * FROM unnest($1::text[], $2::text[], \
        $3::text[], $4::text[], $5::text[], $6::text[], $7::bigint[], $8::bigint[], $9::bigint[], \
        $10::text[], $11::bigint[], $12::bigint[], $13::text[]) ON CONFLICT DO NOTHING";
    /// Hands hook calls to workers, or has them looked at again. (`hook_call_pkey`)
    UPDATE_HOOK_CALLS = "UPDATE @hook_call h SET check_at = w.check_at, seen_token = w.seen_token, \
        worker = w.worker, is_late = w.is_late \
        FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::text[], $5::boolean[]) \
        AS w (id, check_at, seen_token, worker, is_late) WHERE h.id = w.id";
    /// Records that the runs of hook calls that were due are late. (`hook_call_pkey`)
    NOTE_INTERRUPTED_LATE = "UPDATE @hook_call h SET is_late = true \
        FROM unnest($1::text[], $2::bigint[]) AS w (id, now) WHERE h.id = w.id AND h.due_at <= w.now";
    /// Deletes hook calls that no registered worker has. (`hook_call_pkey`, `worker_pkey`)
    FORGET_HOOK_CALLS = "DELETE FROM @hook_call h WHERE h.id = ANY($1) \
        AND NOT EXISTS (SELECT FROM @worker w WHERE w.id = h.worker)";
    /// Hook calls that are due and that no registered worker has, by workflow.
    /// (`hook_call_by_time`, `worker_pkey`)
    WAITING_HOOK_CALLS = "SELECT h.workflow, count(*), min(h.due_at) FROM @hook_call h \
        WHERE h.project = $1 AND h.check_at <= $2 \
        AND NOT EXISTS (SELECT FROM @worker w WHERE w.id = h.worker) GROUP BY h.workflow ORDER BY h.workflow";
    /// Deletes hook calls. (`hook_call_pkey`)
    DELETE_HOOK_CALLS = "DELETE FROM @hook_call WHERE id = ANY($1)";
    /// Deletes hook calls that nobody has made for long. (`hook_call_by_time`)
    PRUNE_HOOK_CALLS = "DELETE FROM @hook_call WHERE project = $1 AND check_at < $2";
}
