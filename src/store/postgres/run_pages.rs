//! SQL for a page of runs: the newest runs that a filter selects.

use super::pipeline::Statement;
use super::queries::{ERROR_CLASS, RUN_COLUMNS, RUNS_PAGE, RUNS_WITH_ERROR};
use super::rows::{Args, limit_to_sql};
use crate::model::RunState;
use crate::model::text::state_word;
use crate::store::{Page, RunFilter};
use std::collections::BTreeSet;
use std::sync::Arc;

/// How to find the runs that a filter selects.
pub(super) enum Way {
    /// Read all runs of the schedule and sort them: they are few.
    Schedule,
    /// Read the newest runs with the key, of one workflow or of each.
    Key(Arc<str>, Option<Arc<str>>),
    /// Read the newest runs in the rare states that the filter asks for, or else the newest runs of
    /// a workflow or of all.
    Plain,
}

/// A page of the runs that a filter selects, newest first.
pub(super) fn runs_page<'a>(
    way: &'a Way,
    project: &'a str,
    filter: &'a RunFilter,
    page: &'a Page,
) -> Statement<'a> {
    let is_rare = matches!(way, Way::Plain) && filter.is_for_rare_states();
    let mut args = Args::default();
    let project = args.text(project);
    let (conditions, leading_order) = conditions(way, project, filter, page, &mut args);
    let limit = args.int(limit_to_sql(page.limit));
    let sql = if let Way::Key(key, workflow) = way {
        let (key, workflow) = (args.text(key), workflow.as_ref().map(|workflow| args.text(workflow)));
        let mut sources = vec![newest_with_key(&conditions, project, key, workflow, limit)];
        if includes_running(filter) {
            let workflow = workflow.map_or(String::new(), |workflow| format!("AND r.workflow = ${workflow}"));
            sources.push(newest_running(&format!("{conditions} AND r.key = ${key} {workflow}"), limit));
        }
        newest_of(&sources, limit)
    } else if is_rare {
        let states: BTreeSet<_> = filter.states.iter().copied().collect();
        let parts: Vec<_> = states
            .into_iter()
            .map(|state| newest_in_state(state, &conditions, project, limit, filter.workflow.is_some()))
            .collect();
        newest_of(&parts, limit)
    } else if matches!(way, Way::Schedule) {
        // A schedule has few runs: find them first, then sort.
        format!(
            "SELECT {RUN_COLUMNS} FROM (SELECT * FROM @run r WHERE {conditions} OFFSET 0) r \
             ORDER BY {leading_order}r.created_at DESC, r.no DESC LIMIT ${limit}"
        )
    } else {
        let mut sources = vec![format!(
            "(SELECT r.no, r.created_at FROM @run r WHERE {conditions} AND {IS_LISTED} \
             ORDER BY {leading_order}r.created_at DESC, r.no DESC LIMIT ${limit})"
        )];
        if includes_running(filter) {
            sources.push(newest_running(&conditions, limit));
        }
        newest_of(&sources, limit)
    };
    Statement::Query(RUNS_PAGE.of(sql), args)
}

/// The indexes that have the order of a list leave out the runs that workers hold, so that a run
/// which is claimed when it is created is entered into them once, at its end.
const IS_LISTED: &str = "r.state <> 'running'";

fn includes_running(filter: &RunFilter) -> bool {
    filter.states.is_empty() || filter.states.contains(&RunState::Running)
}

/// The newest runs of sources that each have `no` and `created_at`.
fn newest_of(sources: &[String], limit: usize) -> String {
    format!(
        "SELECT {RUN_COLUMNS} FROM ({}) h JOIN @run r ON r.no = h.no \
         ORDER BY h.created_at DESC, h.no DESC LIMIT ${limit}",
        sources.join(" UNION ALL ")
    )
}

/// The newest runs that workers hold: reads all that each worker holds, which are no more than its
/// permits.
fn newest_running(conditions: &str, limit: usize) -> String {
    format!(
        "(SELECT h.* FROM @worker w CROSS JOIN LATERAL (SELECT r.no, r.created_at FROM @run r \
         WHERE {conditions} AND r.state = 'running' AND r.worker = w.id \
         ORDER BY r.created_at DESC, r.no DESC LIMIT ${limit}) h)"
    )
}

/// The conditions on the runs of a page, and the columns to order by before the time of creation.
fn conditions<'a>(
    way: &Way,
    project: usize,
    filter: &'a RunFilter,
    page: &'a Page,
    args: &mut Args<'a>,
) -> (String, &'static str) {
    let is_rare = matches!(way, Way::Plain) && filter.is_for_rare_states();
    let RunFilter { workflow, key, schedule, states, since, .. } = filter;
    let mut conditions = vec![format!("r.project = ${project}")];
    // What to put before the columns that order the runs: the workflow, as a range, so that only
    // the index of workflows has this order. Otherwise the planner might read the runs of all
    // workflows in the hope to meet enough of this one soon.
    let (mut lead, mut lead_value, mut leading_order) = ("", String::new(), "");
    if let Some(workflow) = workflow {
        let workflow = args.text(workflow);
        if is_rare || !matches!(way, Way::Plain) {
            conditions.push(format!("r.workflow = ${workflow}"));
        } else {
            (lead, lead_value, leading_order) =
                ("r.workflow, ", format!("${workflow}, "), "r.workflow DESC, ");
            conditions.push(format!("r.workflow >= ${workflow} AND r.workflow <= ${workflow}"));
        }
    }
    if let Some(after) = &page.after {
        let after = args.text(after);
        conditions.push(format!(
            "({lead}r.created_at, r.no) < (SELECT {lead_value}p.created_at, p.no FROM @run p \
             WHERE p.id = ${after} AND p.project = ${project})"
        ));
    }
    if let Some(key) = key {
        conditions.push(format!("r.key = ${}", args.text(key)));
    }
    if let Some(schedule) = schedule {
        // If the schedule has many runs, an expression keeps the planner from reading all of them
        // by their index.
        let column = if matches!(way, Way::Schedule) { "r.schedule_id" } else { "r.schedule_id || ''" };
        conditions.push(format!("{column} = ${}", args.text(schedule.as_str())));
    }
    if !is_rare && !states.is_empty() {
        let states = args.texts(states.iter().map(|state| state_word(*state)));
        conditions.push(format!("r.state = ANY(${states})"));
    }
    if let Some(since) = since {
        let since = args.int(since.as_micros());
        conditions.push(format!("({lead}r.created_at) >= ({lead_value}${since})"));
    }
    (conditions.join(" AND "), leading_order)
}

/// The newest runs in a rare state, in no order: `no` and `created_at` of each.
fn newest_in_state(
    state: RunState,
    conditions: &str,
    project: usize,
    limit: usize,
    is_of_one_workflow: bool,
) -> String {
    let newest = |more: &str| {
        format!(
            "SELECT r.no, r.created_at FROM @run r WHERE {conditions} AND r.state = '{}' {more} \
             ORDER BY r.created_at DESC, r.no DESC LIMIT ${limit}",
            state_word(state)
        )
    };
    if state == RunState::Running {
        return newest_running(conditions, limit);
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
    of_each_workflow(&next, &newest("AND r.workflow = w.id"))
}

/// The newest listed runs with a key, of one workflow or of each that has any, in no order: `no`,
/// `created_at`, and `id` of each.
fn newest_with_key(
    conditions: &str,
    project: usize,
    key: usize,
    workflow: Option<usize>,
    limit: usize,
) -> String {
    let newest = |workflow: &str| {
        format!(
            "SELECT r.no, r.created_at FROM @run r WHERE {conditions} AND r.key = ${key} \
             AND r.workflow = {workflow} AND {IS_LISTED} ORDER BY r.created_at DESC, r.no DESC LIMIT ${limit}"
        )
    };
    if let Some(workflow) = workflow {
        return format!("({})", newest(&format!("${workflow}")));
    }
    let next = |more: &str| {
        format!(
            "SELECT r.workflow FROM @run r WHERE r.project = ${project} AND r.key = ${key} {more} \
             AND {IS_LISTED} ORDER BY r.workflow LIMIT 1"
        )
    };
    of_each_workflow(&next, &newest("w.id"))
}

/// Runs a query for each workflow `w.id`. `next` selects the next workflow: skips from one to the
/// next, however many runs each has.
fn of_each_workflow(next: &dyn Fn(&str) -> String, query: &str) -> String {
    format!(
        "(WITH RECURSIVE w (id) AS (({}) UNION ALL SELECT ({}) FROM w WHERE w.id IS NOT NULL) \
         SELECT h.* FROM w CROSS JOIN LATERAL ({query}) h)",
        next(""),
        next("AND r.workflow > w.id"),
    )
}

/// A page of the runs of some workflows that failed with errors of some classes, newest first.
pub(super) fn runs_with_error_page<'a>(
    sources: &'a [(String, String)],
    project: &'a str,
    filter: &'a RunFilter,
    page: &'a Page,
) -> Statement<'a> {
    let mut args = Args::default();
    let classes = args.texts(sources.iter().map(|(class, _)| &**class));
    let workflows = args.texts(sources.iter().map(|(_, workflow)| &**workflow));
    let (project, limit) = (args.text(project), args.int(limit_to_sql(page.limit)));
    let mut conditions = vec![format!("r.project = ${project} AND r.state = 'failed'")];
    if let Some(after) = &page.after {
        let after = args.text(after);
        conditions.push(format!(
            "(r.created_at, r.no) < (SELECT p.created_at, p.no FROM @run p \
             WHERE p.id = ${after} AND p.project = ${project})"
        ));
    }
    if let Some(since) = filter.since {
        conditions.push(format!("r.created_at >= ${}", args.int(since.as_micros())));
    }
    if let Some(key) = &filter.key {
        conditions.push(format!("r.key = ${}", args.text(key)));
    }
    if let Some(schedule) = &filter.schedule {
        conditions.push(format!("r.schedule_id || '' = ${}", args.text(schedule.as_str())));
    }
    let conditions = conditions.join(" AND ");
    let sql = format!(
        "SELECT {RUN_COLUMNS} FROM (SELECT h.* FROM unnest(${classes}, ${workflows}) AS w (class, workflow) \
         CROSS JOIN LATERAL (SELECT r.no, r.created_at FROM @run r WHERE {conditions} \
         AND {ERROR_CLASS} = w.class AND r.workflow = w.workflow \
         ORDER BY r.created_at DESC, r.no DESC LIMIT ${limit}) h) h JOIN @run r ON r.no = h.no \
         ORDER BY h.created_at DESC, h.no DESC LIMIT ${limit}"
    );
    Statement::Query(RUNS_WITH_ERROR.of(sql), args)
}
