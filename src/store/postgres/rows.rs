//! Converts between PostgreSQL's values and ours. [`RowReader`] decodes whole rows.

use crate::model::text::TextEnum;
use crate::model::{Debounced, Peer, Token};
use crate::store::Answer;
use crate::store::row_reader::RowReader;
use crate::store::tables::{EndedClaim, RunRow};
use std::borrow::Cow;
use std::sync::Arc;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Error, Row};

type Result<T> = std::result::Result<T, Error>;

/// The parameters of one statement.
#[derive(Default)]
pub(in crate::store) struct Args<'a>(Vec<(Box<dyn ToSql + Sync + Send + 'a>, Type)>);

impl<'a> Args<'a> {
    /// Adds a parameter; returns its number.
    pub fn add(&mut self, value: impl ToSql + Sync + Send + 'a, kind: Type) -> usize {
        self.0.push((Box::new(value), kind));
        self.0.len()
    }

    pub fn text(&mut self, value: &'a str) -> usize {
        self.add(encoded(value), Type::TEXT)
    }

    pub fn owned_text(&mut self, value: &str) -> usize {
        self.add(encoded(value).into_owned(), Type::TEXT)
    }

    pub fn texts(&mut self, values: impl IntoIterator<Item = &'a str>) -> usize {
        let values: Vec<_> = values.into_iter().map(encoded).collect();
        self.add(values, Type::TEXT_ARRAY)
    }

    pub fn optional_text(&mut self, value: Option<&'a str>) -> usize {
        self.add(value.map(encoded), Type::TEXT)
    }

    pub fn optional_texts(&mut self, values: impl IntoIterator<Item = Option<&'a str>>) -> usize {
        let values: Vec<_> = values.into_iter().map(|value| value.map(encoded)).collect();
        self.add(values, Type::TEXT_ARRAY)
    }

    /// Texts that are made for the statement.
    pub fn shared_texts(&mut self, values: impl IntoIterator<Item = Option<Arc<str>>>) -> usize {
        let values: Vec<_> =
            values.into_iter().map(|value| value.map(|text| encoded(&text).into_owned())).collect();
        self.add(values, Type::TEXT_ARRAY)
    }

    pub fn int(&mut self, value: i64) -> usize {
        self.add(value, Type::INT8)
    }

    pub fn ints(&mut self, values: impl IntoIterator<Item = i64>) -> usize {
        self.add(values.into_iter().collect::<Vec<_>>(), Type::INT8_ARRAY)
    }

    pub fn optional_ints(&mut self, values: impl IntoIterator<Item = Option<i64>>) -> usize {
        self.add(values.into_iter().collect::<Vec<_>>(), Type::INT8_ARRAY)
    }

    pub fn flag(&mut self, value: bool) -> usize {
        self.add(value, Type::BOOL)
    }

    pub fn flags(&mut self, values: impl IntoIterator<Item = bool>) -> usize {
        self.add(values.into_iter().collect::<Vec<_>>(), Type::BOOL_ARRAY)
    }

    pub fn optional_flags(&mut self, values: impl IntoIterator<Item = Option<bool>>) -> usize {
        self.add(values.into_iter().collect::<Vec<_>>(), Type::BOOL_ARRAY)
    }

    pub fn kinds(&self) -> Vec<Type> {
        self.0.iter().map(|(_, kind)| kind.clone()).collect()
    }

    pub fn values(&self) -> Vec<&(dyn ToSql + Sync)> {
        self.0.iter().map(|(value, _)| &**value as &(dyn ToSql + Sync)).collect()
    }

    /// The parameters in the form that the client library takes.
    pub fn borrowed(&self) -> Vec<(&(dyn ToSql + Sync), Type)> {
        self.0.iter().map(|(value, kind)| (&**value as &(dyn ToSql + Sync), kind.clone())).collect()
    }
}

/// The query of these parameters as rows, one column each; see `rows!` among the queries.
pub(super) fn rows(numbers: &[usize]) -> String {
    let columns: Vec<_> = numbers.iter().map(|number| format!("unnest(${number})")).collect();
    format!("SELECT {}", columns.join(", "))
}

/// Encodes NUL, which PostgreSQL's texts can't hold: NUL becomes U+0001 U+0001, and U+0001 becomes
/// U+0001 U+0002. So different texts stay different and keep their order.
pub fn encoded(text: &str) -> Cow<'_, str> {
    if !text.bytes().any(|byte| byte <= 1) {
        return Cow::Borrowed(text);
    }
    let mut spelled = String::with_capacity(text.len() + 8);
    for sign in text.chars() {
        match sign {
            '\0' => spelled.push_str("\u{1}\u{1}"),
            '\u{1}' => spelled.push_str("\u{1}\u{2}"),
            other => spelled.push(other),
        }
    }
    Cow::Owned(spelled)
}

/// Reverses [`encoded`].
pub fn decoded(text: &str) -> Cow<'_, str> {
    if !text.contains('\u{1}') {
        return Cow::Borrowed(text);
    }
    let mut plain = String::with_capacity(text.len());
    let mut signs = text.chars();
    while let Some(sign) = signs.next() {
        match sign {
            '\u{1}' => plain.push(if signs.next() == Some('\u{1}') { '\0' } else { '\u{1}' }),
            other => plain.push(other),
        }
    }
    Cow::Owned(plain)
}

/// An unsigned number as the database stores it.
pub(super) fn count_to_sql(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// A limit as the database takes it.
pub(in crate::store) fn limit_to_sql(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

/// Reads the columns of a row from left to right.
pub(in crate::store) struct Columns<'r> {
    row: &'r Row,
    next: usize,
}

impl<'r> Columns<'r> {
    pub fn of(row: &'r Row) -> Self {
        Self { row, next: 0 }
    }

    pub fn skip(&mut self) {
        self.next += 1;
    }

    /// Whether the next number is missing, as it is in a row of an outer join without a match.
    /// Does not advance.
    pub fn is_null(&self) -> Result<bool> {
        Ok(self.row.try_get::<_, Option<i64>>(self.next)?.is_none())
    }

    fn raw_text(&mut self) -> Result<Option<&'r str>> {
        self.next += 1;
        self.row.try_get(self.next - 1)
    }

    pub fn texts(&mut self) -> Result<Vec<Arc<str>>> {
        self.next += 1;
        let texts: Vec<&str> = self.row.try_get(self.next - 1)?;
        Ok(texts.into_iter().map(|text| decoded(text).into()).collect())
    }

    /// A worker with its workflows. The number of runs that it holds is not included.
    pub fn worker(&mut self) -> Result<Peer> {
        let peer = self.peer()?;
        Ok(Peer { workflows: self.texts()?, ..peer })
    }

    /// A run with the columns that only the store uses.
    pub fn run_row(&mut self) -> Result<RunRow> {
        let no = self.count()?;
        let child_ended = self.flag()?;
        let token = self.optional_int()?;
        let print = self.int()?;
        let state = self.state()?;
        let released = self.flag()?;
        let ended = token.map(|token| EndedClaim {
            token: Token(token),
            print,
            answer: Answer::Ended { state, released },
        });
        let interrupted_token = self.optional_int()?.map(Token);
        let (key, until, call) = (self.optional_text()?, self.optional_time()?, self.optional_run_id()?);
        let debounced = match (key, until, call) {
            (Some(key), Some(until), Some(call)) => Some(Debounced { key, until, call }),
            _ => None,
        };
        Ok(RunRow { run: self.run()?, no, child_ended, ended, interrupted_token, debounced })
    }
}

impl RowReader for Columns<'_> {
    type Error = Error;

    fn optional_int(&mut self) -> Result<Option<i64>> {
        self.next += 1;
        self.row.try_get(self.next - 1)
    }

    fn optional_flag(&mut self) -> Result<Option<bool>> {
        self.next += 1;
        self.row.try_get(self.next - 1)
    }

    fn optional_text(&mut self) -> Result<Option<Arc<str>>> {
        Ok(self.raw_text()?.map(|text| decoded(text).into()))
    }

    fn word<T: TextEnum>(&mut self) -> Result<Option<T>> {
        Ok(self.raw_text()?.and_then(T::from_word))
    }
}
