//! Runs that failed with errors of one class.

#![expect(
    clippy::redundant_closure_for_method_calls,
    reason = "a method of a type with a lifetime is no function for all lifetimes"
)]

use super::connection::Session;
use super::error::PgError;
use super::read::{Way, each};
use super::rows::{Args, RUN, limit_to_sql};
use crate::model::Run;
use crate::store::query::MANY_RUNS;
use crate::store::{Page, RunFilter};

/// The class of a run's error, as the index `run_by_error` has it.
const CLASS: &str = r#"split_part(ltrim(substr(r.error, 9, 300), ' "'), '"', 1)"#;

impl Session<'_> {
    /// Newest first, however many runs have failed with other errors.
    pub(super) async fn runs_with_error(
        self,
        project: &str,
        filter: &RunFilter,
        page: &Page,
    ) -> Result<Vec<Run>, PgError> {
        let Some(failed) = filter.without_error() else { return Ok(Vec::new()) };
        if matches!(self.way_to(project, &failed).await?, Way::Key(..) | Way::Schedule) {
            // Fewer than `MANY_RUNS` have this key or belong to this schedule.
            let all = Page { limit: MANY_RUNS, after: page.after.clone() };
            let mut runs = self.runs(project, &failed, &all).await?;
            runs.retain(|run| filter.wants_error_of(run));
            runs.truncate(page.limit);
            return Ok(runs);
        }
        let sources = self.workflows_with_error(project, filter).await?;
        if sources.is_empty() {
            return Ok(Vec::new());
        }
        let mut args = Args::default();
        let classes = args.texts(sources.iter().map(|(class, _)| &**class));
        let workflows = args.texts(sources.iter().map(|(_, workflow)| &**workflow));
        let (project, limit) = (args.text(project), args.int(limit_to_sql(page.limit)));
        let mut conditions = vec![format!("r.project = ${project} AND r.state = 'failed'")];
        if let Some(after) = &page.after {
            let after = args.text(after);
            conditions.push(format!(
                "(r.created_at, r.id) < (SELECT p.created_at, p.id FROM @run p \
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
            "SELECT {RUN} FROM (SELECT h.* FROM unnest(${classes}, ${workflows}) AS w (class, workflow) \
             CROSS JOIN LATERAL (SELECT r.no, r.created_at, r.id FROM @run r WHERE {conditions} \
             AND {CLASS} = w.class AND r.workflow = w.workflow \
             ORDER BY r.created_at DESC, r.id DESC LIMIT ${limit}) h) h JOIN @run r ON r.no = h.no \
             ORDER BY h.created_at DESC, h.id DESC LIMIT ${limit}"
        );
        each(&self.query(sql, args).await?, |columns| columns.run())
    }

    /// The classes that the filter asks for, each with the workflows whose runs have failed with it.
    async fn workflows_with_error(
        self,
        project: &str,
        filter: &RunFilter,
    ) -> Result<Vec<(String, String)>, PgError> {
        let mut args = Args::default();
        let project = args.text(project);
        let next = |more: &str| {
            format!(
                "(SELECT {CLASS} AS class, r.workflow FROM @run r WHERE r.project = ${project} \
                 AND r.state = 'failed' AND {more} ORDER BY {CLASS}, r.workflow LIMIT 1)"
            )
        };
        let (first, later) =
            (next(&format!("{CLASS} > ''")), next(&format!("({CLASS}, r.workflow) > (w.class, w.workflow)")));
        // Skips from one pair to the next, whatever number of runs each has.
        let sql = format!(
            "WITH RECURSIVE w (class, workflow) AS ({first} UNION ALL \
             SELECT n.class, n.workflow FROM w CROSS JOIN LATERAL {later} n) SELECT class, workflow FROM w"
        );
        let pairs = each(&self.query(sql, args).await?, |columns| {
            Ok((columns.text()?.to_string(), columns.text()?.to_string()))
        })?;
        let is_asked_for = |(class, workflow): &(String, String)| {
            filter.workflow.as_deref().is_none_or(|wanted| wanted == workflow)
                && filter.wants_spelled_class(class)
        };
        Ok(pairs.into_iter().filter(is_asked_for).collect())
    }
}
