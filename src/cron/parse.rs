//! Text to fields, in one pass over the bytes.
//!
//! This pass only knows *that* something is wrong and roughly where; [`diagnose`](super::diagnose)
//! finds the words.

use std::sync::Arc;

use super::CronExpr;
use super::days::DayRule;
use super::diagnose;
use super::error::CronError;
use super::field::Field;

/// Longer texts are refused unread. Every minute, hour, day, month and weekday listed one by one
/// takes 390.
pub(crate) const BYTES_MAX: usize = 1024;

/// The `@` names and what they stand for.
pub(crate) const MACROS: [(&str, &str); 7] = [
    ("@hourly", "0 * * * *"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@weekly", "0 0 * * 0"),
    ("@monthly", "0 0 1 * *"),
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
];

/// What the fast pass found wrong: enough for the slow one to look closer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fault {
    /// Not exactly five fields.
    FieldCount,
    /// `start..end` is not of the grammar.
    Syntax { start: usize, end: usize },
    /// A number outside its field's range.
    Range { start: usize, end: usize },
    /// A range whose end is before its start.
    Reversed { start: usize, end: usize, from: u32, to: u32 },
    /// A step of 0, or one longer than the field.
    Step { start: usize, end: usize },
    /// The `k` of `n#k` outside 1 to 5, or the `n` of `L-n` outside 1 to 30.
    Ordinal { start: usize, end: usize },
}

pub(crate) fn parse(text: &str) -> Result<CronExpr, CronError> {
    if text.len() > BYTES_MAX {
        return Err(diagnose::too_long(text));
    }
    let source = if text.trim_start_matches(is_blank).starts_with('@') {
        let name = text.trim_matches(is_blank);
        MACROS.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, meaning)| *meaning)
    } else {
        Some(text)
    };
    let source = source.ok_or_else(|| diagnose::unknown_name(text))?;
    let mut parser = Parser { bytes: source.as_bytes(), at: 0 };
    let (minutes, hours, days, wild) =
        parser.expression().map_err(|(field, fault)| diagnose::explain(text, field, fault))?;
    let expr = CronExpr { text: normalise(text), minutes, hours, days, wild };
    if expr.days.is_possible() { Ok(expr) } else { Err(diagnose::never_fires(text)) }
}

fn is_blank(char: char) -> bool {
    char == ' ' || char == '\t'
}

fn normalise(text: &str) -> Arc<str> {
    let bytes = text.as_bytes();
    let is_normal = |pair: &[u8]| pair != b"  ";
    if bytes.iter().all(|byte| matches!(byte, b' '..=b'>' | b'A'..=b'Z'))
        && bytes.windows(2).all(is_normal)
        && !text.starts_with(' ')
        && !text.ends_with(' ')
    {
        return text.into();
    }
    let mut normal = String::with_capacity(text.len());
    for word in text.split(is_blank).filter(|word| !word.is_empty()) {
        if !normal.is_empty() {
            normal.push(' ');
        }
        normal.push_str(if word == "?" { "*" } else { word });
    }
    if normal.starts_with('@') {
        normal.make_ascii_lowercase();
    } else {
        normal.make_ascii_uppercase();
    }
    normal.into()
}

struct Parser<'a> {
    bytes: &'a [u8],
    at: usize,
}

/// One field's plain values, one bit each, and whether it starts with `*`.
#[derive(Default)]
struct Values {
    bits: u64,
    star: bool,
}

impl Parser<'_> {
    #[expect(clippy::cast_possible_truncation, reason = "the field's range bounds the bits")]
    fn expression(&mut self) -> Result<(u64, u32, DayRule, bool), (Field, Fault)> {
        let mut days = DayRule::default();
        let minute = self.field(Field::Minute, &mut days)?;
        let hour = self.field(Field::Hour, &mut days)?;
        let dom = self.field(Field::DayOfMonth, &mut days)?;
        let month = self.field(Field::Month, &mut days)?;
        let dow = self.field(Field::DayOfWeek, &mut days)?;
        self.skip_blanks();
        if self.at < self.bytes.len() {
            return Err((Field::DayOfWeek, Fault::FieldCount));
        }
        days.dom = dom.bits as u32;
        days.months = month.bits as u16;
        // 7 is Sunday, too.
        days.dow = (dow.bits | dow.bits >> 7) as u8 & 0x7f;
        days.both = dom.star || dow.star;
        days.finish();
        Ok((minute.bits, hour.bits as u32, days, minute.star || hour.star))
    }

    fn field(&mut self, field: Field, days: &mut DayRule) -> Result<Values, (Field, Fault)> {
        self.skip_blanks();
        if self.at == self.bytes.len() {
            return Err((field, Fault::FieldCount));
        }
        if field.is_of_days() && self.is_question_mark() {
            self.at += 1;
            let (least, most) = field.range();
            return Ok(Values { bits: (2u64 << most) - (1 << least), star: true });
        }
        let mut values = Values { bits: 0, star: self.bytes[self.at] == b'*' };
        loop {
            values.bits |= self.item(field, days).map_err(|fault| (field, fault))?;
            match self.peek() {
                Some(b',') => self.at += 1,
                _ => return Ok(values),
            }
        }
    }

    /// Whether the whole field is `?`, which other dialects write for `*` where a day field says
    /// nothing.
    fn is_question_mark(&self) -> bool {
        let after = self.bytes.get(self.at + 1);
        self.bytes[self.at] == b'?' && matches!(after, None | Some(b' ' | b'\t'))
    }

    /// One item of a list; leaves `at` on the comma, blank or end behind it.
    fn item(&mut self, field: Field, days: &mut DayRule) -> Result<u64, Fault> {
        let start = self.at;
        let (least, most) = field.range();
        let bits = if self.eat(b'*') {
            (least, most, self.step(field, start)?.unwrap_or(1))
        } else if field == Field::DayOfMonth && matches!(self.peek(), Some(b'L' | b'l')) {
            self.at += 1;
            self.counted_from_last(start, days)?;
            return self.end_of_item(start).map(|()| 0);
        } else {
            let from = self.value(field, start)?;
            match self.peek() {
                Some(b'-') => {
                    self.at += 1;
                    let to = self.value(field, start)?;
                    if to < from {
                        return Err(Fault::Reversed { start, end: self.at, from, to });
                    }
                    (from, to, self.step(field, start)?.unwrap_or(1))
                }
                Some(b'/') => (from, most, self.step(field, start)?.unwrap_or(1)),
                Some(b'W' | b'w') if field == Field::DayOfMonth => {
                    self.at += 1;
                    days.dom_nearest |= 1 << from;
                    return self.end_of_item(start).map(|()| 0);
                }
                Some(b'L' | b'l') if field == Field::DayOfWeek => {
                    self.at += 1;
                    days.dow_last |= 1 << (from % 7);
                    return self.end_of_item(start).map(|()| 0);
                }
                Some(b'#') if field == Field::DayOfWeek => {
                    self.at += 1;
                    let week = self.ordinal(start, 5)?;
                    days.dow_nth[week as usize - 1] |= 1 << (from % 7);
                    return self.end_of_item(start).map(|()| 0);
                }
                _ => (from, from, 1),
            }
        };
        self.end_of_item(start)?;
        let (from, to, step) = bits;
        if step == 1 {
            return Ok((2u64 << to) - (1 << from));
        }
        Ok((from..=to).step_by(step as usize).fold(0, |bits, value| bits | 1 << value))
    }

    /// What may follow `L` in the day of month.
    fn counted_from_last(&mut self, start: usize, days: &mut DayRule) -> Result<(), Fault> {
        match self.peek() {
            Some(b'W' | b'w') => {
                self.at += 1;
                days.dom_last_workday = true;
            }
            Some(b'-') => {
                self.at += 1;
                days.dom_from_last |= 1 << self.ordinal(start, 30)?;
            }
            _ => days.dom_from_last |= 1,
        }
        Ok(())
    }

    /// A number or a name.
    fn value(&mut self, field: Field, item: usize) -> Result<u32, Fault> {
        let start = self.at;
        let Some(value) = self.number() else {
            let name = self.bytes.get(start..start + 3).and_then(|name| field.value_of(name));
            self.at += 3;
            return name.ok_or_else(|| self.syntax(item));
        };
        let (least, most) = field.range();
        if value < least || value > most {
            return Err(Fault::Range { start, end: self.at });
        }
        Ok(value)
    }

    /// `/n`, if there is one.
    fn step(&mut self, field: Field, item: usize) -> Result<Option<u32>, Fault> {
        if !self.eat(b'/') {
            return Ok(None);
        }
        let start = self.at;
        match self.number() {
            None => Err(self.syntax(item)),
            Some(step) if step == 0 || step > field.size() => Err(Fault::Step { start, end: self.at }),
            step => Ok(step),
        }
    }

    fn ordinal(&mut self, item: usize, most: u32) -> Result<u32, Fault> {
        let start = self.at;
        match self.number() {
            None => Err(self.syntax(item)),
            Some(number) if number == 0 || number > most => Err(Fault::Ordinal { start, end: self.at }),
            Some(number) => Ok(number),
        }
    }

    /// ASCII digits; saturates, since every range ends far below.
    fn number(&mut self) -> Option<u32> {
        let mut value = None;
        while let Some(digit @ b'0'..=b'9') = self.peek() {
            value = Some(value.unwrap_or(0u32).saturating_mul(10).saturating_add(u32::from(digit - b'0')));
            self.at += 1;
        }
        value
    }

    fn end_of_item(&self, start: usize) -> Result<(), Fault> {
        match self.peek() {
            None | Some(b',' | b' ' | b'\t') => Ok(()),
            Some(_) => Err(self.syntax(start)),
        }
    }

    /// The whole item that starts at `start`.
    fn syntax(&self, start: usize) -> Fault {
        let rest = &self.bytes[start..];
        let length = rest.iter().position(|byte| matches!(byte, b',' | b' ' | b'\t')).unwrap_or(rest.len());
        Fault::Syntax { start, end: start + length }
    }

    fn skip_blanks(&mut self) {
        while let Some(b' ' | b'\t') = self.peek() {
            self.at += 1;
        }
    }

    fn eat(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }
}
