//! SQL for a page of schedules.

use super::pipeline::Statement;
use super::queries::{SCHEDULE_COLUMNS, SCHEDULES_PAGE};
use super::rows::{Args, limit_to_sql};
use crate::model::ScheduleStatus;
use crate::model::text::status_word;
use crate::store::{Page, ScheduleFilter};

/// The status of most schedules.
const ACTIVE: ScheduleStatus = ScheduleStatus::Active;

/// A page of the schedules that a filter selects, in the order that the filter implies: by key if
/// it has a prefix of keys, else by id.
pub(super) fn schedules_page<'a>(
    project: &'a str,
    filter: &'a ScheduleFilter,
    page: &'a Page,
) -> Statement<'a> {
    let ScheduleFilter { workflow, key, status, owner, key_prefix, tags } = filter;
    let mut args = Args::default();
    let mut conditions = vec![format!("s.project = ${}", args.text(project))];
    let is_of_few = key.is_some() || owner.is_some() || status.is_some_and(|status| status != ACTIVE);
    let by_tag = tags.first_key_value().filter(|_| key_prefix.is_none() && !is_of_few);
    let mut workflow = workflow.as_deref();
    let order = if let Some(prefix) = key_prefix {
        add_keys(&mut conditions, prefix, page, &mut args);
        "s.key, s.workflow"
    } else if let Some((name, value)) = by_tag {
        // As a range, for the reason given for workflows.
        let (name, value) = (args.text(name), args.text(value));
        let (project, after) = (args.text(project), args.text(page.after.as_deref().unwrap_or("")));
        conditions.push(format!(
            "g.schedule_id = s.id AND g.project = ${project} AND g.name = ${name} AND g.value <= ${value} \
             AND (g.value, g.schedule_id) > (${value}, ${after})"
        ));
        "g.value, g.schedule_id"
    } else if !is_of_few && let Some(workflow) = workflow.take() {
        // As a range, so that only the index of workflows has this order. Otherwise the planner
        // might read all schedules by id in the hope to meet enough of this workflow soon.
        let (workflow, after) = (args.text(workflow), args.text(page.after.as_deref().unwrap_or("")));
        conditions
            .push(format!("s.workflow <= ${workflow} AND (s.workflow, s.id) > (${workflow}, ${after})"));
        "s.workflow, s.id"
    } else {
        if let Some(after) = &page.after {
            conditions.push(format!("s.id > ${}", args.text(after)));
        }
        "s.id"
    };
    let columns = [("workflow", workflow), ("key", key.as_deref()), ("owner", owner.as_deref())];
    for (column, value) in columns {
        if let Some(value) = value {
            conditions.push(format!("s.{column} = ${}", args.text(value)));
        }
    }
    if let Some(status) = status {
        // As a literal, so that the planner sees that the index of rare statuses serves it.
        conditions.push(format!("s.status = '{}'", status_word(*status)));
    }
    for (name, value) in tags {
        // As a value and not as a join, so that the planner looks at the schedules one by one.
        let (name, value) = (args.text(name), args.text(value));
        conditions.push(format!(
            "coalesce((SELECT true FROM @schedule_tag t WHERE t.project = s.project AND t.name = ${name} \
             AND t.value = ${value} AND t.schedule_id = s.id), false)"
        ));
    }
    let limit = args.int(limit_to_sql(page.limit));
    let conditions = conditions.join(" AND ");
    let sql = if key.is_some() {
        // Few schedules have the same key: find them first, then sort.
        format!(
            "SELECT {SCHEDULE_COLUMNS} FROM (SELECT * FROM @schedule s WHERE {conditions} OFFSET 0) s \
             ORDER BY {order} LIMIT ${limit}"
        )
    } else {
        let tags = if by_tag.is_some() { "@schedule_tag g, " } else { "" };
        format!(
            "SELECT {SCHEDULE_COLUMNS} FROM {tags}@schedule s WHERE {conditions} ORDER BY {order} LIMIT ${limit}"
        )
    };
    Statement::Query(SCHEDULES_PAGE.of(sql), args)
}

/// Keys with a prefix, after those of the previous page.
fn add_keys<'a>(conditions: &mut Vec<String>, prefix: &'a str, page: &'a Page, args: &mut Args<'a>) {
    let (_, end) = ScheduleFilter::key_range(prefix);
    conditions.push(format!("s.key >= ${}", args.text(prefix)));
    if let Some(end) = end {
        conditions.push(format!("s.key < ${}", args.owned_text(&end)));
    }
    if let Some((key, workflow)) = page.after.as_deref().and_then(ScheduleFilter::parse_cursor) {
        let (key, workflow) = (args.text(key), args.text(workflow));
        conditions.push(format!("(s.key, s.workflow) > (${key}, ${workflow})"));
    }
}
