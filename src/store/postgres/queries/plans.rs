//! The plans that the server makes for our statements. For tests.

use super::{Sql, all};
use crate::store::postgres::connection::Session;
use crate::store::postgres::error::PgError;
use crate::store::postgres::pipeline::Sent;
use crate::store::postgres::rows::{Args, Columns};
use crate::store::row_reader::RowReader;

/// A statement and its plan, as `EXPLAIN` shows it.
#[derive(Clone, Debug)]
pub struct QueryPlan {
    /// The name of the statement.
    pub name: &'static str,
    /// Its text.
    pub sql: String,
    /// The lines of the plan.
    pub lines: Vec<String>,
}

/// The plans of all constant statements, and of those of a transfer.
pub(in crate::store::postgres) async fn of_all(session: Session<'_>) -> Result<Vec<QueryPlan>, PgError> {
    let mut plans = Vec::new();
    for Sql { name, text } in all() {
        plans.push(plan(session, name, text.into_owned(), "").await?);
    }
    Ok(plans)
}

/// The plans of the statements that the connection has sent and still remembers.
pub(in crate::store::postgres) async fn of_sent(session: Session<'_>) -> Result<Vec<QueryPlan>, PgError> {
    let mut plans = Vec::new();
    for (text, Sent { name, kinds, .. }) in session.sent() {
        if name != EXPLAIN {
            let kinds: Vec<_> = kinds.iter().map(tokio_postgres::types::Type::name).collect();
            let kinds = if kinds.is_empty() { String::new() } else { format!("({})", kinds.join(", ")) };
            plans.push(plan(session, name, text, &kinds).await?);
        }
    }
    Ok(plans)
}

/// The name of our own statements.
const EXPLAIN: &str = "EXPLAIN";

/// Has the server plan a statement in the way it plans prepared ones: without knowing parameters.
async fn plan(
    session: Session<'_>,
    name: &'static str,
    sql: String,
    kinds: &str,
) -> Result<QueryPlan, PgError> {
    let query =
        async |text: String| session.query(Sql { name: EXPLAIN, text: text.into() }, Args::default()).await;
    session.script(&format!("PREPARE polos_plan {kinds} AS {sql}")).await?;
    let count = "SELECT cardinality(parameter_types)::bigint FROM pg_prepared_statements \
        WHERE name = 'polos_plan'";
    let count = match query(count.to_owned()).await?.first() {
        Some(row) => Columns::of(row).int()?,
        None => 0,
    };
    let nulls = vec!["NULL"; usize::try_from(count).unwrap_or(0)].join(", ");
    let values = if nulls.is_empty() { nulls } else { format!("({nulls})") };
    let rows = query(format!("EXPLAIN (COSTS OFF) EXECUTE polos_plan{values}")).await?;
    session.script("DEALLOCATE polos_plan").await?;
    let mut lines = Vec::new();
    for row in &rows {
        lines.push(Columns::of(row).text()?.to_string());
    }
    Ok(QueryPlan { name, sql, lines })
}
