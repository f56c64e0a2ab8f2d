//! Suggestions for a time zone name that does not exist.

use std::sync::Arc;

use super::zone::ZoneError;

/// How many names to offer.
const OFFERED_MAX: usize = 3;
/// Longer texts get no suggestion.
const GUESSED_CHARS_MAX: usize = 40;

/// Abbreviations that people take for zone names, and places that use them.
///
/// They aren't names: each says only one half of the year, and several are used in far-away places.
const ABBREVIATIONS: [(&str, &[&str]); 45] = [
    ("ACDT", &["Australia/Adelaide"]),
    ("ACST", &["Australia/Adelaide", "Australia/Darwin"]),
    ("ADT", &["America/Halifax"]),
    ("AEDT", &["Australia/Sydney"]),
    ("AEST", &["Australia/Sydney", "Australia/Brisbane"]),
    ("AKDT", &["America/Anchorage"]),
    ("AKST", &["America/Anchorage"]),
    ("ART", &["America/Argentina/Buenos_Aires"]),
    ("AST", &["America/Halifax", "America/Puerto_Rico"]),
    ("AWST", &["Australia/Perth"]),
    ("BRT", &["America/Sao_Paulo"]),
    ("BST", &["Europe/London"]),
    ("CAT", &["Africa/Maputo"]),
    ("CDT", &["America/Chicago"]),
    ("CEST", &["Europe/Paris", "Europe/Berlin"]),
    ("CST", &["America/Chicago", "Asia/Shanghai"]),
    ("CT", &["America/Chicago"]),
    ("EAT", &["Africa/Nairobi"]),
    ("EDT", &["America/New_York"]),
    ("EEST", &["Europe/Athens", "Europe/Helsinki"]),
    ("ET", &["America/New_York"]),
    ("GST", &["Asia/Dubai"]),
    ("HKT", &["Asia/Hong_Kong"]),
    ("ICT", &["Asia/Bangkok"]),
    ("IDT", &["Asia/Jerusalem"]),
    ("IST", &["Asia/Kolkata", "Europe/Dublin", "Asia/Jerusalem"]),
    ("JST", &["Asia/Tokyo"]),
    ("KST", &["Asia/Seoul"]),
    ("MDT", &["America/Denver"]),
    ("MSK", &["Europe/Moscow"]),
    ("MT", &["America/Denver"]),
    ("NDT", &["America/St_Johns"]),
    ("NPT", &["Asia/Kathmandu"]),
    ("NST", &["America/St_Johns"]),
    ("NZDT", &["Pacific/Auckland"]),
    ("NZST", &["Pacific/Auckland"]),
    ("PDT", &["America/Los_Angeles"]),
    ("PHT", &["Asia/Manila"]),
    ("PKT", &["Asia/Karachi"]),
    ("PST", &["America/Los_Angeles"]),
    ("PT", &["America/Los_Angeles"]),
    ("SAST", &["Africa/Johannesburg"]),
    ("SGT", &["Asia/Singapore"]),
    ("WEST", &["Europe/Lisbon"]),
    ("WIB", &["Asia/Jakarta"]),
];

/// Abbreviations that are names of zones, but of zones without daylight saving time: an hour off
/// all summer for whoever means the place.
const FIXED: &[(&str, &[&str])] = &[
    ("EST", &["America/New_York"]),
    ("HST", &["Pacific/Honolulu"]),
    ("MST", &["America/Denver", "America/Phoenix"]),
];

/// The error for a name that isn't in `names`.
pub(super) fn unknown(given: &str, names: &[Arc<str>]) -> ZoneError {
    let name = quote(given);
    if names.len() < 2 {
        return ZoneError::NoData { name };
    }
    let typed = given.trim();
    if typed.is_empty() {
        return ZoneError::Empty;
    }
    let (hint, suggestions) = guess(typed, names);
    ZoneError::Unknown { name, hint, suggestions }
}

fn guess(typed: &str, names: &[Arc<str>]) -> (String, Vec<String>) {
    if typed.chars().count() > GUESSED_CHARS_MAX || !typed.is_ascii() {
        return ("; expected an IANA name such as `Europe/Paris`".to_owned(), Vec::new());
    }
    let of_abbreviation = |table: &[(&str, &[&str])]| {
        let (_, places) = table.iter().find(|(short, _)| short.eq_ignore_ascii_case(typed))?;
        let places: Vec<String> = existing(places, names);
        let hint = format!("; an abbreviation isn't a zone, name a place: {}", list(&places));
        Some((hint, places))
    };
    if let Some(answer) = of_abbreviation(FIXED) {
        return answer;
    }
    let same = normalise(typed);
    let spelt: Vec<String> =
        names.iter().filter(|name| normalise(name) == same).map(ToString::to_string).collect();
    if !spelt.is_empty() {
        return (did_you_mean(&spelt), spelt);
    }
    if same == "z" || same == "zulu time" {
        return (did_you_mean(&["UTC".to_owned()]), vec!["UTC".to_owned()]);
    }
    if let Some(answer) = of_abbreviation(&ABBREVIATIONS) {
        return answer;
    }
    if looks_like_offset(typed) {
        let hint = "; an offset isn't a zone, name a place (`Europe/Paris`) or `UTC`".to_owned();
        return (hint, Vec::new());
    }
    let close = nearest(&same, names);
    if close.is_empty() {
        return ("; expected an IANA name such as `Europe/Paris`".to_owned(), close);
    }
    (did_you_mean(&close), close)
}

fn existing(places: &[&str], names: &[Arc<str>]) -> Vec<String> {
    let found = places.iter().filter(|place| names.iter().any(|name| **name == ***place));
    found.map(ToString::to_string).collect()
}

/// Names whose spelling, or whose last part's, is close to `typed` (normalised).
fn nearest(typed: &str, names: &[Arc<str>]) -> Vec<String> {
    // One slip in four letters, and never more than three.
    let allowed = |length: usize| (length / 4).clamp(1, 3);
    let last = |name: &str| name.rsplit('/').next().unwrap_or_default().to_owned();
    let mut scored: Vec<(usize, usize, &str)> = names
        .iter()
        .filter_map(|name| {
            let known = normalise(name);
            let whole = strsim::osa_distance(typed, &known);
            // `New_York`, `Europe/New_York`: the right city in the wrong place is a little further
            // away.
            let city = strsim::osa_distance(&last(typed), &last(&known));
            let by_city = (city <= allowed(last(typed).len()) && last(&known).len() > 3).then_some(city + 1);
            let by_whole = (whole <= allowed(typed.len())).then_some(whole);
            let score = by_whole.into_iter().chain(by_city).min()?;
            Some((score, name.len(), &**name))
        })
        .collect();
    scored.sort_unstable();
    let best = scored.first().map_or(0, |first| first.0);
    // Offer only the candidates with the best score.
    scored.retain(|(score, ..)| *score == best);
    scored.truncate(OFFERED_MAX);
    scored.into_iter().map(|(.., name)| name.to_owned()).collect()
}

fn normalise(name: &str) -> String {
    name.to_ascii_lowercase().replace([' ', '-'], "_")
}

fn looks_like_offset(typed: &str) -> bool {
    let upper = typed.to_ascii_uppercase();
    let rest = upper.strip_prefix("UTC").or_else(|| upper.strip_prefix("GMT")).unwrap_or(&upper);
    rest.starts_with(['+', '-']) && rest[1..].starts_with(|char: char| char.is_ascii_digit())
        || rest.starts_with(|char: char| char.is_ascii_digit()) && rest.contains(':')
}

fn did_you_mean(names: &[String]) -> String {
    format!("; did you mean {}?", list(names))
}

fn list(names: &[String]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    match quoted.as_slice() {
        [] => String::new(),
        [one] => one.clone(),
        [most @ .., last] => format!("{} or {last}", most.join(", ")),
    }
}

fn quote(text: &str) -> String {
    let mut quoted: String = text.chars().take(GUESSED_CHARS_MAX + 20).flat_map(char::escape_debug).collect();
    if text.chars().nth(GUESSED_CHARS_MAX + 20).is_some() {
        quoted.push('…');
    }
    quoted
}
