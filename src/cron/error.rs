//! Why a text is not a valid cron expression, in words that help its author fix it.

use super::field::Field;

/// Longest expression that a message repeats in full.
const QUOTED_CHARS_MAX: usize = 80;
/// Longest offending text that a message repeats in full.
const OFFENDING_CHARS_MAX: usize = 40;

/// A text that is not a valid cron expression.
///
/// `Display` gives one line that names the expression, the field, the offending text and what is
/// allowed there:
///
/// ```
/// use polos::cron::CronExpr;
///
/// let error = CronExpr::parse("0 25 * * *").unwrap_err();
/// assert_eq!(
///     error.to_string(),
///     "cron field `hour`: `25` is out of range, expected 0–23 (in `0 25 * * *`, column 3)"
/// );
/// ```
///
/// Control characters, marks that change the direction of writing and the like are shown escaped,
/// and long texts are shortened, so the message is safe to print.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{}", .0.message)]
pub struct CronError(Box<Details>);

#[derive(Clone, PartialEq, Eq, Debug)]
struct Details {
    message: String,
    field: Option<Field>,
    offending: String,
    position: Option<usize>,
}

impl CronError {
    /// The field that is wrong; `None` where the expression as a whole is.
    pub fn field(&self) -> Option<Field> {
        self.0.field
    }

    /// The offending part of the text, escaped and shortened as in the message.
    pub fn offending(&self) -> &str {
        &self.0.offending
    }

    /// Where the offending part starts in the text as it was given: characters, counted from 1.
    pub fn position(&self) -> Option<usize> {
        self.0.position
    }

    /// An error about one place: `start..end` are byte offsets in `text`, `what` follows the quoted
    /// place.
    pub(crate) fn at(text: &str, field: Option<Field>, start: usize, end: usize, what: &str) -> CronError {
        let place = &text[start..end];
        let column = text[..start].chars().count() + 1;
        let subject =
            field.map_or_else(|| "cron expression".to_owned(), |field| format!("cron field `{field}`"));
        let offending = quote(place, OFFENDING_CHARS_MAX);
        let whole = quote(text, QUOTED_CHARS_MAX);
        CronError(Box::new(Details {
            message: format!("{subject}: `{offending}` {what} (in `{whole}`, column {column})"),
            field,
            offending,
            position: Some(column),
        }))
    }

    /// An error about the expression as a whole: `what` follows "cron expression".
    pub(crate) fn whole(text: &str, what: &str) -> CronError {
        let offending = quote(text, QUOTED_CHARS_MAX);
        CronError(Box::new(Details {
            message: format!("cron expression {what} (in `{offending}`)"),
            field: None,
            offending,
            position: None,
        }))
    }
}

/// `text`, printable and at most `chars_max` characters long (before escaping).
fn quote(text: &str, chars_max: usize) -> String {
    let mut quoted = String::new();
    for (count, char) in text.chars().enumerate() {
        if count == chars_max {
            quoted.push('…');
            break;
        }
        match char {
            '\'' | '"' | '\\' => quoted.push(char),
            _ => quoted.extend(char.escape_debug()),
        }
    }
    quoted
}
