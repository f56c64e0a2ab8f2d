//! Diagnoses a text that the parser rejected: what is wrong, and what its author probably meant.
//!
//! Runs only once parsing has failed, so it may take its time and look at the text again.

use super::error::CronError;
use super::field::{Field, MONTHS, WEEKDAYS};
use super::parse::{Fault, MACROS};

const FIVE: &str = "five (minute hour day-of-month month day-of-week)";

pub(crate) fn too_long(text: &str) -> CronError {
    let most = super::parse::BYTES_MAX;
    CronError::whole(text, &format!("has {} bytes, expected at most {most}", text.len()))
}

pub(crate) fn never_fires(text: &str) -> CronError {
    CronError::whole(text, "never fires: no month that it names has such a day")
}

pub(crate) fn never_on_both_days(text: &str) -> CronError {
    CronError::whole(text, "never fires with `days=\"and\"`: no day matches both day fields")
}

pub(crate) fn never_in_these_weeks(text: &str) -> CronError {
    CronError::whole(text, "never fires with these `weeks`: none of its days is in a week that counts")
}

/// An `@` name that isn't one of ours.
pub(crate) fn unknown_name(text: &str) -> CronError {
    let name = text.trim_matches([' ', '\t']);
    let start = text.len() - text.trim_start_matches([' ', '\t']).len();
    let word_end = name.find([' ', '\t']).unwrap_or(name.len());
    let word = name[..word_end].to_ascii_lowercase();
    let at = |what: &str| CronError::at(text, None, start, start + word_end, what);
    if word == "@reboot" {
        return at("is not a time; do start-up work where the application starts");
    }
    if word == "@every" {
        return at("is not supported; use `every=timedelta(...)` instead of `cron=`");
    }
    if MACROS.iter().any(|(known, _)| *known == word) {
        return at("stands alone: it is a whole expression, nothing may follow it");
    }
    let nearest = MACROS
        .iter()
        .map(|(known, _)| (strsim::osa_distance(known, &word), *known))
        .min()
        .filter(|(distance, _)| *distance <= 3);
    if let Some((_, known)) = nearest {
        return at(&format!("is unknown; did you mean `{known}`?"));
    }
    let known = MACROS.map(|(known, _)| known).join(" ");
    at(&format!("is unknown, expected one of {known}"))
}

/// The error for a `fault` that the parser met in `field`.
pub(crate) fn explain(text: &str, field: Field, fault: Fault) -> CronError {
    if let Some(error) = whole_text(text) {
        return error;
    }
    let at = |start, end, what: &str| CronError::at(text, Some(field), start, end, what);
    match fault {
        // The number of fields is right, or `whole_text` would have reported it.
        Fault::FieldCount => field_count(text, text.split_ascii_whitespace().count()),
        Fault::Syntax { start, end } => {
            let (start, end, what) = syntax(text, field, start, end);
            at(start, end, &what)
        }
        Fault::Range { start, end } => {
            at(start, end, &format!("is out of range, expected {}", field.expected()))
        }
        Fault::Reversed { start, end, from, to } => {
            at(start, end, &reversed(field, &text[start..end], from, to))
        }
        Fault::Step { start, end } => at(start, end, &step(field, &text[start..end])),
        Fault::Ordinal { start, end } if field == Field::DayOfWeek => {
            at(start, end, "is not a week of the month, expected 1–5 after `#`")
        }
        Fault::Ordinal { start, end } => {
            at(start, end, "is out of range, expected 1–30 days before the last")
        }
    }
}

/// Faults that concern the whole text and matter more than the first bad item.
fn whole_text(text: &str) -> Option<CronError> {
    let odd = |char: char| !char.is_ascii_graphic() && char != ' ' && char != '\t';
    if let Some((start, char)) = text.char_indices().find(|(_, char)| odd(*char)) {
        let what = if char.is_whitespace() {
            "is not allowed: only spaces and tabs may stand between fields"
        } else {
            "is not allowed: expressions are plain ASCII"
        };
        return Some(CronError::at(text, None, start, start + char.len_utf8(), what));
    }
    let first = text.split_ascii_whitespace().next().unwrap_or_default();
    if first.contains("TZ=") {
        let start = text.find(first).unwrap_or_default();
        let what = "is not part of an expression: give the zone as `timezone=`";
        return Some(CronError::at(text, None, start, start + first.len(), what));
    }
    let fields = text.split_ascii_whitespace().count();
    (fields != 5).then(|| field_count(text, fields))
}

fn field_count(text: &str, fields: usize) -> CronError {
    if fields == 0 {
        let what = format!("is empty, expected {FIVE}");
        return CronError::whole(text, &what.replacen("five (", "five fields (", 1));
    }
    let plural = if fields == 1 { "field" } else { "fields" };
    let mut what = format!("has {fields} {plural}, expected {FIVE}");
    if fields == 6 {
        what += "; there is no field for seconds: use `every=timedelta(seconds=...)` instead of `cron=`";
    } else if fields == 7 {
        what += "; there are no fields for seconds and years: for seconds use `every=timedelta(seconds=...)`";
    }
    CronError::whole(text, &what)
}

/// The narrowest place inside the item `start..end` that is to blame, and why.
fn syntax(text: &str, field: Field, start: usize, end: usize) -> (usize, usize, String) {
    let item = &text[start..end];
    if item.is_empty() {
        // A comma too many: point at it. There is one before the item or right behind it.
        let comma = if text[end..].starts_with(',') { end } else { start - 1 };
        return (comma, comma + 1, "has no value beside it: a list item is empty".to_owned());
    }
    let upper = item.to_ascii_uppercase();
    let values = field.expected();
    let what = match (upper.as_str(), field) {
        ("?", field) if field.is_of_days() => "stands alone in its field, where it means `*`".to_owned(),
        ("?", _) => "may stand in the day fields only, where it means `*`; write `*` here".to_owned(),
        ("L", Field::DayOfWeek) => {
            "needs a weekday before it: `5L` is the last Friday of the month, `6` every Saturday".to_owned()
        }
        (word, _) if is_hash(word) => {
            "is a Jenkins word; write a fixed value and spread the load with `jitter=`".to_owned()
        }
        (word, _) if word.contains('#') && field != Field::DayOfWeek => {
            "is a week of the month and belongs in the day-of-week field".to_owned()
        }
        (word, _) if word.contains('L') && special(word, "L") && field != Field::DayOfMonth => {
            if field == Field::DayOfWeek {
                "is not understood; `L` follows one weekday, as in `5L`".to_owned()
            } else {
                "is not understood; `L` belongs in the day-of-month or day-of-week field".to_owned()
            }
        }
        (word, _) if word.contains('W') && special(word, "LW") => {
            if field == Field::DayOfMonth {
                "is not understood; `W` follows one day, as in `15W`, or `L`, as in `LW`".to_owned()
            } else {
                "is not understood; `W` belongs in the day-of-month field".to_owned()
            }
        }
        (word, _) => match misplaced_name(word, field) {
            Some(hint) => hint,
            None => format!("is not understood, expected {values}, `*`, `a-b`, `*/n`, `a-b/n` or `a/n`"),
        },
    };
    (start, end, what)
}

fn is_hash(word: &str) -> bool {
    word == "H" || word.starts_with("H/") || word.starts_with("H(")
}

/// Whether the only letters in `word` are among `letters`.
fn special(word: &str, letters: &str) -> bool {
    word.chars().all(|char| !char.is_ascii_alphabetic() || letters.contains(char))
}

/// What to say about a word made of names that are misspelt, too long or in the wrong field.
fn misplaced_name(word: &str, field: Field) -> Option<String> {
    let name =
        word.split(['-', '/', '#']).find(|part| part.starts_with(|char: char| char.is_ascii_alphabetic()))?;
    let known = |names: &[&'static str]| names.iter().copied().find(|known| name.starts_with(known));
    let (place, short) = match (known(&MONTHS), known(&WEEKDAYS)) {
        (Some(month), _) => (Field::Month, month),
        (_, Some(weekday)) => (Field::DayOfWeek, weekday),
        _ => return None,
    };
    if place != field {
        return (name.len() == 3 || name.len() > 4)
            .then(|| format!("is a name for the {place} field, expected {}", field.expected()));
    }
    (name.len() > 3).then(|| format!("is not understood; names have three letters, write `{short}`"))
}

fn reversed(field: Field, item: &str, from: u32, to: u32) -> String {
    let (least, most) = field.range();
    let named = item.starts_with(|char: char| char.is_ascii_alphabetic());
    let write = |value: u32| match field {
        Field::Month if named => MONTHS[value as usize - 1].to_owned(),
        Field::DayOfWeek if named => WEEKDAYS[value as usize % 7].to_owned(),
        _ => value.to_string(),
    };
    let span = |a, b| if a == b { write(a) } else { format!("{}-{}", write(a), write(b)) };
    // The week ends on Saturday here, so that Sunday isn't written twice.
    let most = if field == Field::DayOfWeek { 6 } else { most };
    let hint =
        if from > most { span(least, to) } else { format!("{},{}", span(from, most), span(least, to)) };
    format!("runs backwards, write `{hint}`")
}

fn step(field: Field, step: &str) -> String {
    let most = field.size();
    let expected = format!("expected 1–{most}");
    if step.bytes().all(|byte| byte == b'0') {
        return format!("is not a step, {expected}");
    }
    let unit = match field {
        Field::Minute => "minutes",
        Field::Hour => "hours",
        Field::DayOfMonth | Field::DayOfWeek => "days",
        Field::Month => return format!("is too long a step, {expected}"),
    };
    let length: u32 = step.parse().unwrap_or(u32::MAX);
    if length > 100_000 {
        return format!("is too long a step, {expected}");
    }
    format!(
        "is too long a step, {expected}; for a pace of {length} {unit} use `every=timedelta({unit}={length})`"
    )
}
