//! SQL for pages of runs: the newest that an index finds, of one workflow or of each.

use crate::model::RunState;
use crate::model::text::state_word;

/// The newest runs in a state that few are in: what is `no`, `created_at` and `id` of each, in no order.
pub(super) fn part_in_state(
    state: RunState,
    conditions: &str,
    project: usize,
    limit: usize,
    is_of_one_workflow: bool,
) -> String {
    let newest = |more: &str| {
        format!(
            "SELECT r.no, r.created_at, r.id FROM @run r WHERE {conditions} AND r.state = '{}' {more} \
             ORDER BY r.created_at DESC, r.id DESC LIMIT ${limit}",
            state_word(state)
        )
    };
    if state == RunState::Running {
        let held = newest("AND r.worker = w.id");
        return format!("(SELECT h.* FROM @worker w CROSS JOIN LATERAL ({held}) h)");
    }
    if is_of_one_workflow {
        return format!("({})", newest(""));
    }
    let next = |more: &str| {
        format!(
            "SELECT r.workflow FROM @run r WHERE r.project = ${project} AND r.state = '{}' {more} \
             ORDER BY r.workflow, r.created_at LIMIT 1",
            state_word(state)
        )
    };
    format!(
        "(WITH RECURSIVE w (id) AS (({}) UNION ALL SELECT ({}) FROM w WHERE w.id IS NOT NULL) \
         SELECT h.* FROM w CROSS JOIN LATERAL ({}) h)",
        next(""),
        next("AND r.workflow > w.id"),
        newest("AND r.workflow = w.id")
    )
}

/// The newest runs with a key, of one workflow or of each that has any: what is `no`, `created_at` and `id` of each, in no
/// order.
pub(super) fn part_with_key(
    conditions: &str,
    project: usize,
    key: usize,
    workflow: Option<usize>,
    limit: usize,
) -> String {
    let newest = |workflow: &str| {
        format!(
            "SELECT r.no, r.created_at, r.id FROM @run r WHERE {conditions} AND r.key = ${key} \
             AND r.workflow = {workflow} ORDER BY r.created_at DESC, r.id DESC LIMIT ${limit}"
        )
    };
    if let Some(workflow) = workflow {
        return format!("({})", newest(&format!("${workflow}")));
    }
    let next = |more: &str| {
        format!(
            "SELECT r.workflow FROM @run r WHERE r.project = ${project} AND r.key = ${key} {more} \
             ORDER BY r.workflow LIMIT 1"
        )
    };
    format!(
        "(WITH RECURSIVE w (id) AS (({}) UNION ALL SELECT ({}) FROM w WHERE w.id IS NOT NULL) \
         SELECT h.* FROM w CROSS JOIN LATERAL ({}) h)",
        next(""),
        next("AND r.workflow > w.id"),
        newest("w.id")
    )
}
