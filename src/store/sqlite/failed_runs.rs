//! Pages of runs that failed with errors of given classes.

use super::k_merge::merge;
use super::queries;
use super::read::View;
use super::rows::{Columns, limit_to_sql};
use super::run_pages::{AccessPath, run_head};
use crate::calendar::Timestamp;
use crate::model::Run;
use crate::store::query::MANY_RUNS;
use crate::store::row_reader::RowReader;
use crate::store::{Page, RunFilter};
use rusqlite::{Result, Row, params};
use std::sync::Arc;

impl View<'_> {
    /// A page, newest first. Runs that failed with other errors cost nothing.
    pub(super) fn runs_with_error(
        &mut self,
        project: &str,
        filter: &RunFilter,
        page: &Page,
    ) -> Result<Vec<Run>> {
        let Some(failed) = filter.without_error() else { return Ok(Vec::new()) };
        if matches!(self.access_path(project, &failed)?, AccessPath::Key(..) | AccessPath::Schedule) {
            // Fewer than `MANY_RUNS` runs have this key or belong to this schedule.
            let all = Page { limit: MANY_RUNS, after: page.after.clone() };
            let mut runs = self.runs(project, &failed, &all)?;
            runs.retain(|run| filter.wants_error_of(run));
            runs.truncate(page.limit);
            return Ok(runs);
        }
        let Some(before) = self.cursor(project, page)? else { return Ok(Vec::new()) };
        let since = filter.since.map_or(i64::MIN, Timestamp::as_micros);
        let sources = self.workflows_with_error(project, filter)?;
        let newest = merge(sources.len(), page.limit, |source, offset, count| {
            let (class, workflow) = &sources[source];
            self.session.all(
                queries::RUN_HEADS_WITH_ERROR,
                params![
                    project,
                    class,
                    workflow,
                    before.created_at,
                    before.no,
                    since,
                    filter.key,
                    limit_to_sql(count),
                    limit_to_sql(offset),
                    filter.schedule
                ],
                run_head,
            )
        })?;
        self.runs_by_no(newest)
    }

    /// The error classes that the filter wants, each with the workflows whose runs have failed with
    /// it.
    fn workflows_with_error(
        &mut self,
        project: &str,
        filter: &RunFilter,
    ) -> Result<Vec<(Arc<str>, Arc<str>)>> {
        let read = |row: &Row<'_>| Columns::of(row).text();
        let mut sources: Vec<(Arc<str>, Arc<str>)> = Vec::new();
        let mut class: Arc<str> = "".into();
        while let Some(next) = self.session.one(queries::NEXT_ERROR_CLASS, params![project, class], read)? {
            class = next;
            if !filter.wants_spelled_class(&class) {
                continue;
            }
            if let Some(workflow) = &filter.workflow {
                sources.push((Arc::clone(&class), Arc::clone(workflow)));
                continue;
            }
            let mut workflow: Arc<str> = "".into();
            while let Some(next) =
                self.session.one(queries::NEXT_WITH_ERROR, params![project, class, workflow], read)?
            {
                workflow = next;
                sources.push((Arc::clone(&class), Arc::clone(&workflow)));
            }
        }
        Ok(sources)
    }
}
