//! Rows that a transaction of the application creates, by statements that it executes itself.

use crate::model::{NewRun, NewSchedule};
use serde::Serialize;

/// What the transaction creates.
#[derive(Copy, Clone, Debug)]
pub enum NewRow<'a> {
    /// A run that is queued.
    Run(&'a NewRun),
    /// A schedule under a key that has none.
    Schedule(&'a NewSchedule),
}

/// A statement for a client library of any kind.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct TransactionStatement {
    /// SQL, with the places of values in between.
    pub parts: Vec<Part>,
    /// The values.
    pub values: Vec<Value>,
}

/// A part of a statement.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(untagged)]
pub enum Part {
    /// SQL as it is.
    Sql(String),
    /// The value with this index.
    Value(usize),
}

/// A value of a statement. Its type is in the SQL, so that no client library has to guess it.
#[derive(Clone, PartialEq, Debug, Serialize)]
#[serde(untagged)]
pub enum Value {
    /// Text, or NULL.
    Text(Option<String>),
    /// A number, or NULL.
    Int(Option<i64>),
}

/// The statements by which a transaction of the application creates one row.
///
/// Between the two, the transaction must stay open: the second one finds that out by a setting that
/// the first one makes for the transaction only.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct TransactionScript {
    /// Where the tables are, for messages.
    pub schema: String,
    /// How many tables the first statement has to find.
    pub tables: usize,
    /// Looks at the connection, and waits until no other transaction is creating the same name.
    /// Reads only catalogs, so it fails in no database. One row: the number of tables that it
    /// finds, the number of those that the role may use, whether the transaction is read-only
    /// (`on`), the role, and the database.
    pub check: TransactionStatement,
    /// Creates the row if the connection leads to this database and its schema is of a version
    /// that this release knows. One row: whether it is this database, whether this release knows
    /// the schema, whether the transaction is the one that was checked, the id of the new row, the
    /// id of the row that exists already, and whether that one equals the new one.
    pub create: TransactionStatement,
}
