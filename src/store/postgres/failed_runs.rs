//! Reads runs that failed with errors of one class.

use super::connection::Session;
use super::error::PgError;
use super::queries;
use super::read::each;
use super::rows::Args;
use super::run_pages::{Way, runs_with_error_page};
use crate::model::Run;
use crate::store::query::MANY_RUNS;
use crate::store::row_reader::RowReader;
use crate::store::{Page, RunFilter};

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
        let statement = runs_with_error_page(&sources, project, filter, page);
        each(&self.one(statement).await?, |columns| columns.run())
    }

    /// The classes that the filter asks for, each with the workflows whose runs have failed with
    /// it.
    async fn workflows_with_error(
        self,
        project: &str,
        filter: &RunFilter,
    ) -> Result<Vec<(String, String)>, PgError> {
        let mut args = Args::default();
        args.text(project);
        let pairs = each(&self.query(queries::ERROR_CLASSES, args).await?, |columns| {
            Ok((columns.text()?.to_string(), columns.text()?.to_string()))
        })?;
        let is_asked_for = |(class, workflow): &(String, String)| {
            filter.workflow.as_deref().is_none_or(|wanted| wanted == workflow)
                && filter.wants_spelled_class(class)
        };
        Ok(pairs.into_iter().filter(is_asked_for).collect())
    }
}
