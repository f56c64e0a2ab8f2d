//! Cron expressions: what is accepted, what is rejected and how, and which minutes match.
#![allow(clippy::unwrap_used, reason = "test helpers")]

mod peers;
pub mod properties;
mod unions;

use polos::cron::{CronExpr, Field};

fn parse(text: &str) -> CronExpr {
    CronExpr::parse(text).unwrap_or_else(|error| panic!("{error}"))
}

fn bits(values: impl IntoIterator<Item = u32>) -> u64 {
    values.into_iter().fold(0, |bits, value| bits | 1 << value)
}

#[test]
fn minutes_and_hours_of_every_form() {
    for (field, expected) in [
        ("*", bits(0..60)),
        ("5", bits([5])),
        ("007", bits([7])),
        ("5-8", bits(5..9)),
        ("5-5", bits([5])),
        ("5-5/2", bits([5])),
        ("0-0", bits([0])),
        ("1,2,40", bits([1, 2, 40])),
        ("*/15", bits([0, 15, 30, 45])),
        ("*/1", bits(0..60)),
        ("*/45", bits([0, 45])),
        ("*/60", bits([0])),
        ("10-20/5", bits([10, 15, 20])),
        ("10-20/60", bits([10])),
        ("5/15", bits([5, 20, 35, 50])),
        ("50/5,*/30,3-4", bits([50, 55, 0, 30, 3, 4])),
        ("59/1", bits([59])),
    ] {
        assert_eq!(parse(&format!("{field} * * * *")).minutes(), expected, "{field}");
    }
    assert_eq!(u64::from(parse("0 22-23,0-6 * * *").hours()), bits([22, 23, 0, 1, 2, 3, 4, 5, 6]));
    assert_eq!(u64::from(parse("0 */24 * * *").hours()), bits([0]));
}

/// The first days in 2027 that an expression names.
fn days(expression: &str, count: usize) -> String {
    let expr = parse(&format!("0 0 {expression}"));
    let mut from = jiff_minute("2027-01-01");
    let mut found = Vec::new();
    while found.len() < count {
        let hit = expr.next_civil(from).unwrap();
        let date = hit.date();
        found.push(format!("{}-{}", date.month, date.day));
        from = polos::cron::CivilMinute(hit.0 + 1);
    }
    found.join(" ")
}

fn jiff_minute(date: &str) -> polos::cron::CivilMinute {
    let date: jiff::civil::Date = date.parse().unwrap();
    let days = jiff::civil::date(1970, 1, 1).until(date).unwrap().get_days();
    polos::cron::CivilMinute(i64::from(days) * 1440)
}

#[test]
fn days_of_every_form() {
    // 1 January 2027 is a Friday.
    for (expression, expected) in [
        ("* * *", "1-1 1-2 1-3"),
        ("15 * *", "1-15 2-15 3-15"),
        ("31 * *", "1-31 3-31 5-31"),
        ("* 2 *", "2-1 2-2 2-3"),
        ("1-3 2 *", "2-1 2-2 2-3 2-1"),
        ("1 MAR-may,Dec *", "3-1 4-1 5-1 12-1"),
        ("* * 0", "1-3 1-10 1-17"),
        ("* * 7", "1-3 1-10 1-17"),
        ("* * sun", "1-3 1-10 1-17"),
        ("* * 5-7", "1-1 1-2 1-3 1-8"),
        ("* * 6-7/1", "1-2 1-3 1-9"),
        ("* * 3/2", "1-1 1-3 1-6 1-8"),
        ("* * MON,Wed-THU", "1-4 1-6 1-7 1-11"),
        // Either one.
        ("13 * 5", "1-1 1-8 1-13 1-15"),
        // Both, because one starts with a star.
        ("*/2 * 1", "1-11 1-25 2-1 2-15"),
        ("13 * */5", "6-13 8-13 2-13"),
        ("*,10 * 1", "1-4 1-11 1-18"),
        // Last days.
        ("L * *", "1-31 2-28 3-31 4-30"),
        ("L-3 * *", "1-28 2-25 3-28 4-27"),
        ("L-30 * *", "1-1 3-1 5-1"),
        // Working days: 15 May is a Saturday, 15 August a Sunday, 1 May a Saturday, 31 January a
        // Sunday.
        ("15W 5,8 *", "5-14 8-16"),
        ("1W 5 *", "5-3"),
        ("31W * *", "1-29 3-31 5-31"),
        ("LW * *", "1-29 2-26 3-31 4-30 5-31"),
        ("L,1W,15 * *", "1-1 1-15 1-31 2-1"),
        // Weekdays of the month.
        ("* * 5L", "1-29 2-26 3-26"),
        ("* * friL", "1-29 2-26 3-26"),
        ("* * 7L", "1-31 2-28 3-28"),
        ("* * 1#2", "1-11 2-8 3-8"),
        ("* * mon#5", "3-29 5-31 8-30"),
        ("* * 1#1,3#3,5L", "1-4 1-20 1-29 2-1"),
        ("L * 1#1", "1-4 1-31 2-1 2-28"),
        ("*/2 * 1#1", "2-1 3-1 4-5"),
    ] {
        let count = expected.split(' ').count();
        assert_eq!(days(expression, count), expected, "{expression}");
    }
    // Only where February has 29 days.
    let date = parse("0 0 L-28 2 *").next_civil(jiff_minute("2027-01-01")).unwrap().date();
    assert_eq!((date.year, date.month, date.day), (2028, 2, 1));
}

#[test]
fn names_are_whole_expressions() {
    for (name, meaning) in [
        ("@hourly", "0 * * * *"),
        ("@daily", "0 0 * * *"),
        ("@midnight", "0 0 * * *"),
        ("@weekly", "0 0 * * 0"),
        ("@monthly", "0 0 1 * *"),
        ("@yearly", "0 0 1 1 *"),
        (" @Annually ", "0 0 1 1 *"),
    ] {
        let (name, meaning) = (parse(name), parse(meaning));
        let mut from = jiff_minute("2027-01-01");
        for _ in 0..10 {
            let hit = name.next_civil(from);
            assert_eq!(hit, meaning.next_civil(from), "{name}");
            from = polos::cron::CivilMinute(hit.unwrap().0 + 1);
        }
    }
}

#[test]
fn the_text_is_normalised_and_nothing_else() {
    for (text, normal) in [
        ("0 9 * * *", "0 9 * * *"),
        (" 0 9 * * *", "0 9 * * *"),
        ("0 9 * * * ", "0 9 * * *"),
        ("  0 9\t*  * mon-Fri\t", "0 9 * * MON-FRI"),
        ("0 0 l,15w * 5l", "0 0 L,15W * 5L"),
        ("@Daily ", "@daily"),
    ] {
        let expr = parse(text);
        assert_eq!(expr.text(), normal);
        assert_eq!(expr, parse(normal));
    }
    assert_ne!(parse("0 9 * * 1"), parse("0 9 * * MON"));
}

#[test]
fn wild_is_a_star_at_the_start_of_minute_or_hour() {
    for (text, wild) in [
        ("* 9 * * *", true),
        ("*/5 9 * * *", true),
        ("0 * * * *", true),
        ("0 */6 * * *", true),
        ("*,5 9 * * *", true),
        ("5,* 9 * * *", false),
        ("0-59 0-23 * * *", false),
        ("0 9 * * *", false),
        ("@hourly", true),
        ("@daily", false),
    ] {
        assert_eq!(parse(text).is_wild(), wild, "{text}");
    }
}

#[test]
fn too_frequent_is_less_than_five_minutes_apart() {
    for (text, expected) in [
        ("* * * * *", true),
        ("*/4 * * * *", true),
        ("*/5 * * * *", false),
        ("0,4 9 1 1 *", true),
        ("30,34 9 * * *", true),
        ("30,35 9 * * *", false),
        ("2,58 * * * *", true),
        ("2,58 9 * * *", false),
        ("3,58 * * * *", false),
        ("2,58 9,10 * * *", true),
        ("2,58 0 * * *", false),
        ("2,58 23 * * *", false),
        ("2,58 0,23 * * *", true),
        ("2,58 0,23 1 * *", false),
        ("2,58 0,23 1,L * *", true),
        ("2,58 0,23 * * 1,3", false),
        ("0 9 * * *", false),
    ] {
        assert_eq!(parse(text).is_too_frequent(), expected, "{text}");
    }
}

#[test]
#[allow(clippy::too_many_lines, reason = "a table")]
fn errors_say_what_where_and_what_would_be_right() {
    for (text, expected) in [
        ("0 25 * * *", "cron field `hour`: `25` is out of range, expected 0–23 (in `0 25 * * *`, column 3)"),
        (
            "60 * * * *",
            "cron field `minute`: `60` is out of range, expected 0–59 (in `60 * * * *`, column 1)",
        ),
        (
            "0 0 0 * *",
            "cron field `day-of-month`: `0` is out of range, expected 1–31 (in `0 0 0 * *`, column 5)",
        ),
        (
            "0 0 * 13 *",
            "cron field `month`: `13` is out of range, expected 1–12 or JAN–DEC (in `0 0 * 13 *`, column 7)",
        ),
        (
            "0 0 * * 8",
            "cron field `day-of-week`: `8` is out of range, expected 0–7 or SUN–SAT (in `0 0 * * 8`, column 9)",
        ),
        (
            "99999999999999999999 * * * *",
            "cron field `minute`: `99999999999999999999` is out of range, expected 0–59 (in `99999999999999999999 * * * *`, column 1)",
        ),
        (
            "0 1,22-6 * * *",
            "cron field `hour`: `22-6` runs backwards, write `22-23,0-6` (in `0 1,22-6 * * *`, column 5)",
        ),
        (
            "0 0 * * FRI-MON",
            "cron field `day-of-week`: `FRI-MON` runs backwards, write `FRI-SAT,SUN-MON` (in `0 0 * * FRI-MON`, column 9)",
        ),
        (
            "0 0 * * SAT-SUN",
            "cron field `day-of-week`: `SAT-SUN` runs backwards, write `SAT,SUN` (in `0 0 * * SAT-SUN`, column 9)",
        ),
        (
            "0 0 * * 7-2",
            "cron field `day-of-week`: `7-2` runs backwards, write `0-2` (in `0 0 * * 7-2`, column 9)",
        ),
        (
            "0 0 * DEC-JAN *",
            "cron field `month`: `DEC-JAN` runs backwards, write `DEC,JAN` (in `0 0 * DEC-JAN *`, column 7)",
        ),
        (
            "0 0 * 12-1 *",
            "cron field `month`: `12-1` runs backwards, write `12,1` (in `0 0 * 12-1 *`, column 7)",
        ),
        ("*/0 * * * *", "cron field `minute`: `0` is not a step, expected 1–60 (in `*/0 * * * *`, column 3)"),
        (
            "*/90 * * * *",
            "cron field `minute`: `90` is too long a step, expected 1–60; for a pace of 90 minutes use `every=timedelta(minutes=90)` (in `*/90 * * * *`, column 3)",
        ),
        (
            "1,,2 * * * *",
            "cron field `minute`: `,` has no value beside it: a list item is empty (in `1,,2 * * * *`, column 3)",
        ),
        (
            "1, * * * *",
            "cron field `minute`: `,` has no value beside it: a list item is empty (in `1, * * * *`, column 2)",
        ),
        (
            "0 ? * * *",
            "cron field `hour`: `?` may stand in the day fields only, where it means `*`; write `*` here (in `0 ? * * *`, column 3)",
        ),
        (
            "0 0 ?,5 * *",
            "cron field `day-of-month`: `?` stands alone in its field, where it means `*` (in `0 0 ?,5 * *`, column 5)",
        ),
        (
            "MON * * * *",
            "cron field `minute`: `MON` is a name for the day-of-week field, expected 0–59 (in `MON * * * *`, column 1)",
        ),
        (
            "0 0 * MON *",
            "cron field `month`: `MON` is a name for the day-of-week field, expected 1–12 or JAN–DEC (in `0 0 * MON *`, column 7)",
        ),
        // A name with an `L` is no last day.
        (
            "0 0 * * JUL",
            "cron field `day-of-week`: `JUL` is a name for the month field, expected 0–7 or SUN–SAT (in `0 0 * * JUL`, column 9)",
        ),
        (
            "0 0 * * monday",
            "cron field `day-of-week`: `monday` is not understood; names have three letters, write `MON` (in `0 0 * * monday`, column 9)",
        ),
        (
            "* * * * * *",
            "cron expression has 6 fields, expected five (minute hour day-of-month month day-of-week); there is no field for seconds: use `every=timedelta(seconds=...)` instead of `cron=` (in `* * * * * *`)",
        ),
        (
            "* * *",
            "cron expression has 3 fields, expected five (minute hour day-of-month month day-of-week) (in `* * *`)",
        ),
        (
            "",
            "cron expression is empty, expected five fields (minute hour day-of-month month day-of-week) (in ``)",
        ),
        ("@dayly", "cron expression: `@dayly` is unknown; did you mean `@daily`? (in `@dayly`, column 1)"),
        (
            "@reboot",
            "cron expression: `@reboot` is not a time; do start-up work where the application starts (in `@reboot`, column 1)",
        ),
        (
            "0 0 30 2 *",
            "cron expression never fires: no month that it names has such a day (in `0 0 30 2 *`)",
        ),
        (
            "TZ=Europe/Paris 0 9 * * *",
            "cron expression: `TZ=Europe/Paris` is not part of an expression: give the zone as `timezone=` (in `TZ=Europe/Paris 0 9 * * *`, column 1)",
        ),
        (
            "0 9 * * *\n",
            "cron expression: `\\n` is not allowed: only spaces and tabs may stand between fields (in `0 9 * * *\\n`, column 10)",
        ),
        (
            "0 ٣ * * *",
            "cron expression: `٣` is not allowed: expressions are plain ASCII (in `0 ٣ * * *`, column 3)",
        ),
    ] {
        assert_eq!(CronExpr::parse(text).unwrap_err().to_string(), expected);
    }
}

#[test]
fn what_is_not_understood_is_explained_if_its_author_can_be_guessed() {
    const ANYTHING: &str = "is not understood, expected";
    for (text, expected) in [
        ("H * * * *", "`H` is a Jenkins word"),
        ("H/5 * * * *", "`H/5` is a Jenkins word"),
        ("H(0-5) * * * *", "`H(0-5)` is a Jenkins word"),
        ("1#1 * * * *", "`1#1` is a week of the month and belongs in the day-of-week field"),
        ("0 0 * * 1#", ANYTHING),
        ("0 0 * * 1#6", "`6` is not a week of the month, expected 1–5 after `#`"),
        ("0 0 L-31 * *", "`31` is out of range, expected 1–30 days before the last"),
        ("0 0 * * 5LL", "`5LL` is not understood; `L` follows one weekday, as in `5L`"),
        ("5L * * * *", "`5L` is not understood; `L` belongs in the day-of-month or day-of-week field"),
        ("0 0 L3 * *", ANYTHING),
        ("0 0 W15 * *", "`W15` is not understood; `W` follows one day, as in `15W`, or `L`, as in `LW`"),
        ("0 0 * * 5W", "`5W` is not understood; `W` belongs in the day-of-month field"),
        ("1/2/3 * * * *", ANYTHING),
        ("0 0 WED * *", "`WED` is a name for the day-of-week field, expected 1–31"),
        ("0 0 * * JANUARY", "`JANUARY` is a name for the month field, expected 0–7 or SUN–SAT"),
        ("0 0 * * JULY", ANYTHING),
        ("0 0 * * MON/x", ANYTHING),
        ("*/100000 * * * *", "for a pace of 100000 minutes use `every=timedelta(minutes=100000)`"),
        ("*/100001 * * * *", "`100001` is too long a step, expected 1–60 (in"),
        ("0 9 * * '1'", "`'1'` is not understood, expected"),
    ] {
        let message = CronExpr::parse(text).unwrap_err().to_string();
        assert!(message.contains(expected), "{text}: {message}");
    }
}

#[test]
fn a_text_has_at_most_1024_bytes() {
    let padded = |length: usize| format!("{:length$}", "0 9 * * *");
    parse(&padded(1024));
    let error = CronExpr::parse(&padded(1025)).unwrap_err().to_string();
    assert!(error.contains("has 1025 bytes, expected at most 1024"), "{error}");
}

#[test]
fn the_parts_of_an_error_are_there_by_themselves() {
    let error = CronExpr::parse(" 0\t0 * 1-13 *").unwrap_err();
    assert_eq!((error.field(), error.offending(), error.position()), (Some(Field::Month), "13", Some(10)));
    let error = CronExpr::parse("0 0 30 2 *").unwrap_err();
    assert_eq!((error.field(), error.offending(), error.position()), (None, "0 0 30 2 *", None));
}

#[test]
fn everything_else_is_refused() {
    for field in [
        "-5", "5-", "-", "*5", "5*", "**", "*-5", "1-2-3", "1/2/3", "1//2", "/5", "5/", "*/", "*/-1", "1.5",
        "+1", "0x1", "1e1", "١", ",", "*,", ",*", "1,,2", "H", "H/5", "H(0-5)", "R", "~", "0~9", "?", "L",
        "W", "5L", "5W", "1#1", "LW", "@daily", "a", "MON", "JAN", "60", "1-60", "5-4", "*/0", "0/0",
        "1-2/0", "*/61", "1/x",
    ] {
        assert!(CronExpr::parse(&format!("{field} 0 * * *")).is_err(), "{field}");
    }
    for field in [
        "0", "32", "0-5", "L-0", "L-31", "L-", "L3", "L/2", "L-3/2", "LL", "WL", "W", "W15", "0W", "32W",
        "15W-16W", "15-16W", "15W/2", "15WL", "LW-1", "-L", "5L", "1#1", "MON", "?/2", "??", "*/32", "L-L",
    ] {
        assert!(CronExpr::parse(&format!("0 0 {field} * *")).is_err(), "{field}");
    }
    for field in
        ["0", "13", "JANUARY", "JA", "J", "JAN-", "-JAN", "DEC-JAN", "11-2", "L", "MON", "*/13", "JAN#1", "?"]
    {
        assert!(CronExpr::parse(&format!("0 0 * {field} *")).is_err(), "{field}");
    }
    for field in [
        "8", "L", "5LL", "5L-6L", "1-5L", "8L", "1#0", "1#6", "1#", "#1", "1#1#1", "8#1", "1-5#1", "1#1-2",
        "1#1/2", "5L/2", "MONDAY", "MO", "6-0", "SAT-SUN", "*/8", "JAN", "15W", "?,1", "5W", "1#L",
    ] {
        assert!(CronExpr::parse(&format!("0 0 * * {field}")).is_err(), "{field}");
    }
    for text in [
        "* * * *",
        "* * * * * *",
        "0 0 9 * * * 2030",
        "*****",
        "@",
        "@@daily",
        "@daily @daily",
        "@every 5m",
        "@never",
    ] {
        assert!(CronExpr::parse(text).is_err(), "{text}");
    }
}

#[test]
fn expressions_that_never_fire_are_refused() {
    for text in [
        "0 0 30 2 *",
        "0 0 31 2 *",
        "0 0 30,31 2 *",
        "0 0 31 4,6,9,11 *",
        "0 0 31W 2 *",
        "0 0 30W 2 *",
        "0 0 L-30 2 *",
        "0 0 L-30 4 *",
        "0 0 L-29,31 2 *",
        "0 0 31 2 */2",
        "0 0 31 2 *,MON",
    ] {
        let error = CronExpr::parse(text).unwrap_err().to_string();
        assert!(error.contains("never fires"), "{error}");
    }
    for text in [
        "0 0 29 2 *",
        "0 0 31 1-2 *",
        "0 0 L-28 2 *",
        "0 0 29W 2 *",
        "0 0 31 2 MON",
        "0 0 30 2 1#5",
        "0 0 29 2 */7",
        "0 0 * 2 1#5",
    ] {
        parse(text);
    }
}

#[test]
fn hostile_texts_are_refused_quickly_and_quoted_safely() {
    let long = "*".repeat(1_000_000);
    let long_item = format!("{} * * * *", "1".repeat(600));
    let wide = "９ ".repeat(400);
    for text in [
        long.as_str(),
        &long_item,
        &wide,
        &" ".repeat(1_000_000),
        &"0,".repeat(500_000),
        &"* ".repeat(500_000),
        &"@".repeat(1_000_000),
        "0 9 * * *\0",
        "\u{202e}0 9 * * *",
        "0 9 * * \u{200f}1",
        "0\u{a0}9 * * *",
        "0 9 * * 1\u{feff}",
        "\u{1b}[31m0 9 * * *",
        "0 9 * * ＭＯＮ",
        "0 9 * * ſun",
        "0 9 * * 1²",
        "@daılyx",
        "@da\u{301}ly",
    ] {
        let message = CronExpr::parse(text).unwrap_err().to_string();
        assert!(message.len() < 600, "{message}");
        let is_safe = |char: char| {
            !char.is_control() && !('\u{2000}'..='\u{200f}').contains(&char) && char != '\u{202e}'
        };
        assert!(message.chars().all(is_safe), "{message:?}");
    }
    // Everything written out in full is long but correct.
    let all = |range: std::ops::RangeInclusive<u32>| {
        range.map(|value| value.to_string()).collect::<Vec<_>>().join(",")
    };
    let text = format!("{} {} {} {} {}", all(0..=59), all(0..=23), all(1..=31), all(1..=12), all(0..=7));
    assert_eq!(parse(&text).minutes(), bits(0..60));
}

#[test]
fn in_english() {
    for (text, expected) in [
        ("0 * * * *", "Every hour, on the hour"),
        ("0 9 * * *", "At 09:00, every day"),
        ("0 8 * * 1", "Every Monday at 08:00"),
        ("*/15 * * * *", "Every 15 minutes"),
        ("0,15,30,45 * * * *", "Every 15 minutes"),
        ("0 0 1 * *", "At 00:00 on day 1 of every month"),
        ("0 17 * * 1-5", "At 17:00, Monday to Friday"),
        ("0 */6 * * *", "Every 6 hours, on the hour"),
        ("0 3 * * *", "At 03:00, every day"),
        ("* * * * *", "Every minute"),
        ("*/45 * * * *", "At minutes 0 and 45 of every hour"),
        ("5/15 * * * *", "Every 15 minutes, from minute 5 of every hour"),
        ("30 * * * *", "At minute 30 of every hour"),
        ("5 */6 * 6,7 *", "Every 6 hours, from 00:05 in June and July"),
        ("0 */5 * * *", "At 00:00, 05:00, 10:00, 15:00 and 20:00, every day"),
        ("0 9,17 * * *", "At 09:00 and 17:00, every day"),
        ("0 9 * 7 *", "At 09:00, every day in July"),
        ("* 9 * * *", "Every minute from 09:00 to 09:59"),
        ("*/5 9-17 * * MON-FRI", "Every 5 minutes from 09:00 to 17:55, Monday to Friday"),
        ("30 8-18 * * 1-5", "At minute 30 of every hour from 8 to 18, Monday to Friday"),
        ("*/10 8-18/2 * * *", "Every 10 minutes in the hours 8, 10, 12, 14, 16 and 18"),
        ("5/10 8-18/2 * * *", "Every 10 minutes, from minute 5, in the hours 8, 10, 12, 14, 16 and 18"),
        ("5/15 9-17 * * *", "Every 15 minutes from 09:05 to 17:50"),
        ("* 22,23,0-4 * * *", "Every minute in the hours 0 to 4, 22 and 23"),
        ("30 1,3,5,7,9,11,13 * * *", "At minute 30 of the hours 1, 3, 5, 7, 9, 11 and 13"),
        ("0 9-17 * * *", "Every hour from 09:00 to 17:00"),
        ("*/30 9-17 * * *", "Every 30 minutes from 09:00 to 17:30"),
        ("0,30 1,3,5,7 * * *", "Every 30 minutes in the hours 1, 3, 5 and 7"),
        ("0 1,3,5,7,9,11,13 * * *", "At 01:00, 03:00, 05:00, 07:00, 09:00, 11:00 and 13:00, every day"),
        ("0 0 */3 * *", "At 00:00 on every 3rd day from day 1 of every month"),
        ("0 0 */10 * *", "At 00:00 on every 10th day from day 1 of every month"),
        ("0 0 1,3,4,5,8 * *", "At 00:00 on days 1, 3 to 5 and 8 of every month"),
        ("0 0 20-31 * *", "At 00:00 on days 20 to 31 of every month"),
        ("0 0 15,L 3 *", "At 00:00 on day 15 and the last day of March"),
        ("0 0 15,LW 3 *", "At 00:00 on day 15 and the last working day (Monday to Friday) of March"),
        (
            "0 0 15,1W 3 *",
            "At 00:00 on day 15 and the working day (Monday to Friday) nearest to day 1 of March",
        ),
        (
            "0 0 */2 * 1#1",
            "At 00:00 on every 2nd day from day 1 of the month, but only if that day is the first Monday of the month",
        ),
        (
            "0 0 */2 * 5L",
            "At 00:00 on every 2nd day from day 1 of the month, but only if that day is the last Friday of the month",
        ),
        ("0 0 1 * 1", "At 00:00 on day 1 of the month or on Monday (either one matches)"),
        ("0 0 1-31 * 1", "At 00:00, every day"),
        (
            "0 0 */2 * 1",
            "At 00:00 on every 2nd day from day 1 of the month, but only if that day is a Monday",
        ),
        ("0 0 13 * */5", "At 00:00 on day 13 of the month, but only if that day is a Friday or Sunday"),
        ("0 0 L * *", "At 00:00 on the last day of every month"),
        ("0 0 L-1 * *", "At 00:00 on the last day but one of every month"),
        ("0 0 L-3,15 * *", "At 00:00 on day 15 and the day 3 days before the last of every month"),
        ("0 9 15W * *", "At 09:00 on the working day (Monday to Friday) nearest to day 15 of every month"),
        ("0 9 LW 3 *", "At 09:00 on the last working day (Monday to Friday) of March"),
        ("0 9 * * 5L", "At 09:00 on the last Friday of every month"),
        ("0 9 * 1,7 1#2", "At 09:00 on the second Monday of the month, in January and July"),
        ("0 9 1 1 *", "At 09:00 on 1 January"),
        ("0 22 * * 0-4", "At 22:00, Sunday to Thursday"),
        ("0 22 * * 5,6,0,1", "At 22:00, Friday to Monday"),
        ("0 12 * * 6,0", "At 12:00 on Saturday and Sunday"),
        ("@weekly", "Every Sunday at 00:00"),
        ("@yearly", "At 00:00 on 1 January"),
    ] {
        assert_eq!(parse(text).describe(), expected, "{text}");
    }
}

#[test]
fn remarks_on_what_may_not_be_meant() {
    for (text, expected) in [
        ("0 0-23 * * *", "write `0 * * * *` for every hour"),
        ("*/45 * * * *", "the last interval is 15 minutes"),
        ("0 */5 * * *", "the last interval is 4 hours"),
        ("0 0 */2 * 1", "must both match"),
        ("0 9 1-7 * 1", "write `1#1`"),
        ("0 9 15-21 * 5", "write `5#3`"),
        ("0 9 31 * *", "months without day 31 have no run"),
        ("* * * * *", "less than 5 minutes apart"),
    ] {
        let warnings = parse(text).warnings();
        assert!(warnings.iter().any(|remark| remark.contains(expected)), "{text}: {warnings:?}");
    }
    for text in [
        "0 9 * * *",
        "*/15 * * * *",
        "0 0 1 * *",
        "0 0 * * 1-5",
        "@hourly",
        "0 0 31 1 *",
        "0 */6 * * *",
        "*/60 * * * *",
        "0 9 1-7 * 1-5",
        "0 9 28 * *",
    ] {
        assert!(parse(text).warnings().is_empty(), "{text}: {:?}", parse(text).warnings());
    }
}

#[test]
fn a_question_mark_is_a_star_in_the_day_fields() {
    for (given, same) in
        [("0 9 ? * MON", "0 9 * * MON"), ("0 9 15 * ?", "0 9 15 * *"), ("*/5 9 ? * ?", "*/5 9 * * *")]
    {
        assert_eq!(parse(given), parse(same), "{given}");
        assert_eq!(parse(given).text(), same);
        assert_eq!(parse(given).describe(), parse(same).describe());
        assert_eq!(parse(given).warnings(), parse(same).warnings());
    }
}

#[test]
fn failed_assertions_show_what_was_parsed() {
    assert_eq!(format!("{:?}", parse("0 9 * * *")), r#"CronExpr("0 9 * * *")"#);
}
