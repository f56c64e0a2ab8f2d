//! Spellings that are valid but may not mean what they seem to.

use super::CronExpr;
use super::field::Field;
use super::parse::MACROS;

impl CronExpr {
    /// Remarks on the expression as such, each a sentence without a full stop; often none.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.hours == (1 << 24) - 1 && !self.wild {
            let [minute, _, rest @ ..] = self.field_texts();
            let better = format!("{minute} * {}", rest.join(" "));
            warnings.push(format!(
                "the hours are all named but don't start with `*`: when the clocks go back there is no run in the \
                 repeated hour; write `{better}` for every hour"
            ));
        }
        warnings.extend(self.uneven_step(Field::Minute, 60, "hour", "minutes"));
        warnings.extend(self.uneven_step(Field::Hour, 24, "day", "hours"));
        let day_fields = [Field::DayOfMonth, Field::DayOfWeek];
        if day_fields.iter().any(|field| self.field_text(*field).starts_with('*'))
            && day_fields.iter().all(|field| self.is_restricted(*field))
        {
            warnings.push(
                "a day field starts with `*`: the day of the month and the day of the week must both match"
                    .to_owned(),
            );
        }
        if let Some((week, weekday)) = self.days.nth_weekday_lookalike() {
            warnings.push(format!(
                "either day field matches by itself; for one such weekday a month write `{weekday}#{week}` as the day of week"
            ));
        }
        if let Some(first) = self.days.missing_in_some_months() {
            warnings.push(format!(
                "months without day {first} have no run; `L` in the day of month is the last day of any month"
            ));
        }
        if self.is_too_frequent() {
            warnings.push(
                "runs less than 5 minutes apart: a run is a database write each time; where it needn't be, use a loop \
                 inside one long-running workflow or react to the event itself"
                    .to_owned(),
            );
        }
        warnings
    }

    /// `*/45` in the minutes: 45 and then 15 minutes apart.
    fn uneven_step(&self, field: Field, size: u32, whole: &str, unit: &str) -> Option<String> {
        let step: u32 = self.field_text(field).strip_prefix("*/")?.parse().ok()?;
        if size.is_multiple_of(step) {
            return None;
        }
        let last = (size - 1) / step * step;
        let values: Vec<String> = (0..size).step_by(step as usize).map(|value| value.to_string()).collect();
        Some(format!(
            "`*/{step}` starts again every {whole} ({unit} {}): the last interval is {} {unit}; for an even pace use \
             `every=timedelta({unit}={step})`",
            values.join(", "),
            size - last
        ))
    }

    /// Whether a day field says more than `*` does.
    fn is_restricted(&self, field: Field) -> bool {
        match field {
            Field::DayOfMonth => self.days.dom != 0xffff_fffe,
            _ => self.days.dow != 0x7f,
        }
    }

    /// The text of one field; of what an `@` name stands for.
    pub(crate) fn field_text(&self, field: Field) -> &str {
        self.field_texts()[field as usize]
    }

    fn field_texts(&self) -> [&str; 5] {
        let meaning =
            MACROS.iter().find(|(name, _)| *name == self.text()).map_or(self.text(), |(_, text)| *text);
        let mut fields = meaning.split(' ');
        std::array::from_fn(|_| fields.next().unwrap_or_default())
    }
}
