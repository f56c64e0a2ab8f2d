//! Names, data and offsets of zones.

use std::path::{Path, PathBuf};

use chrono::Offset as _;
use chrono::TimeZone as _;
use polos::calendar::{Timestamp, Zone, ZoneError, configure_tzdb, tzdb_version, zone_names};

fn offset(zone: &str, at: &str) -> i32 {
    Zone::get(zone).unwrap().offset_seconds(super::at(at))
}

#[test]
fn names_are_those_of_the_database() {
    let names = zone_names();
    for name in [
        "UTC",
        "America/New_York",
        "Europe/Kyiv",
        "EST",
        "EST5EDT",
        "MST7MDT",
        "GMT",
        "Etc/GMT+5",
        "America/Argentina/Ushuaia",
    ] {
        assert!(names.iter().any(|known| &**known == name), "{name}");
        assert_eq!(Zone::get(name).unwrap().name(), name);
    }
    assert!(names.is_sorted());
    for name in names {
        assert_eq!(Zone::get(&name), Ok(Zone::get(&name).unwrap()));
    }
}

#[test]
fn nothing_else_is_a_name_and_the_nearest_is_suggested() {
    for (given, expected) in [
        ("US/Estern", "unknown time zone `US/Estern`; did you mean `US/Eastern`?"),
        ("New_York", "unknown time zone `New_York`; did you mean `America/New_York`?"),
        ("america/new_york", "unknown time zone `america/new_york`; did you mean `America/New_York`?"),
        ("America/New York", "unknown time zone `America/New York`; did you mean `America/New_York`?"),
        ("utc", "unknown time zone `utc`; did you mean `UTC`?"),
        ("Z", "unknown time zone `Z`; did you mean `UTC`?"),
        ("Europe/Berln", "unknown time zone `Europe/Berln`; did you mean `Europe/Berlin`?"),
        ("Paris", "unknown time zone `Paris`; did you mean `Europe/Paris`?"),
        ("London ", "unknown time zone `London `; did you mean `Europe/London`?"),
        ("PST", "unknown time zone `PST`; an abbreviation isn't a zone, name a place: `America/Los_Angeles`"),
        ("est", "unknown time zone `est`; an abbreviation isn't a zone, name a place: `America/New_York`"),
        ("edt", "unknown time zone `edt`; an abbreviation isn't a zone, name a place: `America/New_York`"),
        (
            "IST",
            "unknown time zone `IST`; an abbreviation isn't a zone, name a place: `Asia/Kolkata`, `Europe/Dublin` or `Asia/Jerusalem`",
        ),
        (
            "UTC+2",
            "unknown time zone `UTC+2`; an offset isn't a zone, name a place (`Europe/Paris`) or `UTC`",
        ),
        (
            "+02:00",
            "unknown time zone `+02:00`; an offset isn't a zone, name a place (`Europe/Paris`) or `UTC`",
        ),
        // Two slips in sixteen letters.
        ("Europe/Amsterdxx", "unknown time zone `Europe/Amsterdxx`; did you mean `Europe/Amsterdam`?"),
        ("Mars/ROK", "unknown time zone `Mars/ROK`; expected an IANA name such as `Europe/Paris`"),
        ("+abcdefgh", "unknown time zone `+abcdefgh`; expected an IANA name such as `Europe/Paris`"),
        ("x12345678", "unknown time zone `x12345678`; expected an IANA name such as `Europe/Paris`"),
        ("123456789", "unknown time zone `123456789`; expected an IANA name such as `Europe/Paris`"),
        ("abcdefg:h", "unknown time zone `abcdefg:h`; expected an IANA name such as `Europe/Paris`"),
        ("Mars/Phobos", "unknown time zone `Mars/Phobos`; expected an IANA name such as `Europe/Paris`"),
        ("", "time zone is empty; expected an IANA name such as `Europe/Paris`, or `UTC`"),
        (" ", "time zone is empty; expected an IANA name such as `Europe/Paris`, or `UTC`"),
    ] {
        assert_eq!(Zone::get(given).unwrap_err().to_string(), expected);
    }
    let Err(ZoneError::Unknown { suggestions, .. }) = Zone::get("US/Estern") else { panic!("accepted") };
    assert_eq!(suggestions, ["US/Eastern"]);
}

#[test]
fn long_names_are_neither_guessed_nor_quoted_in_full() {
    let ends_in_paris = |length: usize| format!("{}/Paris", "x".repeat(length - 6));
    let message = |given: &str| Zone::get(given).unwrap_err().to_string();
    assert!(message(&ends_in_paris(40)).contains("did you mean `Europe/Paris`?"));
    assert!(!message(&ends_in_paris(41)).contains("did you mean"));
    assert!(message(&"x".repeat(60)).contains(&format!("`{}`", "x".repeat(60))));
    assert!(message(&"x".repeat(61)).contains(&format!("`{}…`", "x".repeat(60))));
}

#[test]
fn zones_are_equal_by_their_names() {
    use std::hash::{BuildHasher, RandomState};
    let (utc, paris) = (Zone::utc(), Zone::get("Europe/Paris").unwrap());
    assert_ne!(utc, paris);
    let state = RandomState::new();
    assert_ne!(state.hash_one(&utc), state.hash_one(&paris));
    assert_eq!(state.hash_one(&paris), state.hash_one(Zone::get("Europe/Paris").unwrap()));
    assert_eq!(format!("{paris:?}"), "Zone(\"Europe/Paris\")");
}

#[test]
fn paths_and_special_files_are_not_names() {
    let long = "A/".repeat(500_000);
    for given in [
        "../../../etc/passwd",
        "/usr/share/zoneinfo/UTC",
        "Europe/../UTC",
        "./UTC",
        "Europe",
        "Europe/",
        "/UTC",
        "posix/UTC",
        "right/UTC",
        "posixrules",
        "localtime",
        "zone.tab",
        "tzdata.zi",
        "leapseconds",
        "UTC\0",
        "UTC\n",
        "\u{200f}UTC",
        "Ｕtc",
        &long,
    ] {
        let message = Zone::get(given).unwrap_err().to_string();
        assert!(message.starts_with("unknown time zone `") && message.len() < 400, "{message}");
        assert!(!message.contains(|char: char| char.is_control() || char == '\u{200f}'), "{message:?}");
    }
}

#[test]
fn dates_and_offsets_are_local() {
    assert_eq!(offset("America/New_York", "2026-07-01T00:00:00Z"), -14_400);
    assert_eq!(offset("America/New_York", "1850-01-01T00:00:00Z"), -17_762);
    assert_eq!(offset("Asia/Kathmandu", "2026-07-01T00:00:00Z"), 20_700);
    assert_eq!(Zone::utc().offset_seconds(Timestamp::MAX), 0);
    let date = |zone: &str, at| Zone::get(zone).unwrap().local_date(at).to_string();
    assert_eq!(date("America/New_York", super::at("2026-07-01T03:59:59Z")), "2026-06-30");
    assert_eq!(date("America/New_York", super::at("2026-07-01T04:00:00Z")), "2026-07-01");
    assert_eq!(date("Pacific/Kiritimati", super::at("2026-07-01T10:00:00Z")), "2026-07-02");
    assert_eq!(date("Pacific/Kiritimati", Timestamp::MAX), "9999-12-31");
    assert_eq!(date("America/New_York", Timestamp::MIN), "0000-12-31");
}

#[test]
fn daylight_saving_goes_on_after_2100() {
    for year in [2100, 2101, 2499, 2500, 3333, 9998] {
        assert_eq!(offset("America/New_York", &format!("{year}-07-01T00:00:00Z")), -14_400);
        assert_eq!(offset("America/New_York", &format!("{year}-01-01T00:00:00Z")), -18_000);
    }
    // The reason not to use this crate: its tables end, and with them daylight saving.
    let summer = chrono::DateTime::from_timestamp(4_118_083_200, 0).unwrap();
    let offset = chrono_tz::America::New_York.offset_from_utc_datetime(&summer.naive_utc()).fix();
    assert_eq!(offset.local_minus_utc(), -18_000);
}

#[test]
fn the_table_of_minutes_is_jiffs_answer_in_every_zone_and_age() {
    for name in zone_names() {
        let zone = Zone::get(&name).unwrap();
        // A step that meets all hours and weekdays; finer where history is eventful.
        let far = (-62_135_596_800..253_402_214_400).step_by(1_234_567_891);
        let near = (-3_000_000_000..4_200_000_000).step_by(7_654_321);
        for second in far.chain(near) {
            let minute = second / 60 * 60;
            let at = Timestamp::from_second(minute);
            let seconds = i64::from(zone.offset_seconds(at));
            assert_eq!(zone.offset_minutes(at), seconds.div_euclid(60), "{name} at {at}");
        }
    }
}

#[test]
fn offsets_are_those_of_chrono_tz_until_2100() {
    // Its tables are built in: only zones whose history is the same in both releases can be
    // compared.
    let same_release = tzdb_version() == chrono_tz::IANA_TZDB_VERSION;
    // Distributions differ in what these old names mean: zones of their own, or links to a city.
    let legacy =
        ["CET", "CST6CDT", "EET", "EST", "EST5EDT", "HST", "MET", "MST", "MST7MDT", "PST8PDT", "WET"]
            .map(Into::into);
    let (mut compared, mut different) = (0, Vec::new());
    for name in zone_names() {
        let Ok(theirs) = name.parse::<chrono_tz::Tz>() else { continue };
        if legacy.contains(&name) {
            continue;
        }
        let zone = Zone::get(&name).unwrap();
        let differs = (0..4_102_444_800i64).step_by(1_234_567).find(|second| {
            let there = chrono::DateTime::from_timestamp(*second, 0).unwrap().naive_utc();
            let expected = theirs.offset_from_utc_datetime(&there).fix().local_minus_utc();
            zone.offset_seconds(Timestamp::from_second(*second)) != expected
        });
        compared += 1;
        different.extend(differs.map(|second| (name, Timestamp::from_second(second))));
    }
    assert!(compared > 400, "only {compared} zones compared");
    let tolerated = if same_release { 0 } else { compared / 10 };
    assert!(different.len() <= tolerated, "{different:?}");
}

#[test]
fn the_version_is_the_release_of_the_data() {
    let folder =
        ["/usr/share/zoneinfo", "/usr/lib/zoneinfo"].map(PathBuf::from).into_iter().find(|dir| dir.exists());
    let stated = folder.and_then(|dir| std::fs::read_to_string(dir.join("tzdata.zi")).ok());
    if let Some(stated) = stated {
        assert_eq!(format!("# version {}", tzdb_version()), stated.lines().next().unwrap());
    }
    assert!(!tzdb_version().is_empty());
}

/// A folder like the `zoneinfo` of the package `tzdata`, with some of this machine's zones.
fn package(folder: &Path, names: &[&str], version: Option<&str>) -> PathBuf {
    let zones = folder.join("zoneinfo");
    for name in names {
        let to = zones.join(name);
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::fs::copy(Path::new("/usr/share/zoneinfo").join(name), to).unwrap();
    }
    std::fs::write(zones.join("zone.tab"), "not a zone").unwrap();
    std::fs::write(zones.join("NotAZone"), "not a zone").unwrap();
    std::fs::copy("/usr/share/zoneinfo/UTC", zones.join("UTC.bak")).unwrap();
    if let Some(version) = version {
        std::fs::write(folder.join("__init__.py"), format!("IANA_VERSION = \"{version}\"\n")).unwrap();
    }
    zones
}

#[test]
fn configured_folders_are_searched_in_order() {
    // The folders are the process's: this needs one of its own.
    let test = "calendar::zones::configured_folders_in_a_process_of_their_own";
    let mut command = std::process::Command::new(std::env::current_exe().unwrap());
    let output = command.args(["--exact", test, "--ignored"]).output().unwrap();
    let report = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && report.contains("1 passed"), "{report}");
}

#[test]
#[ignore = "changes the folders of the whole process; run by the test before"]
fn configured_folders_in_a_process_of_their_own() {
    let folder = tempfile::tempdir().unwrap();
    let names = ["UTC", "Etc/UTC", "Europe/Paris", "Asia/Tokyo", "posix/Asia/Tokyo", "right/UTC"];
    let first = package(&folder.path().join("first"), &names, Some("1999z"));
    let second = package(&folder.path().join("second"), &["Etc/UTC", "Asia/Tokyo", "Africa/Lagos"], None);
    std::fs::copy("/usr/share/zoneinfo/Asia/Kolkata", second.join("Asia/Tokyo")).unwrap();

    let missing = folder.path().join("missing");
    configure_tzdb(vec![missing.clone(), first, second.clone()]);
    let known: Vec<String> = zone_names().iter().map(ToString::to_string).collect();
    assert_eq!(known, ["Africa/Lagos", "Asia/Tokyo", "Etc/UTC", "Europe/Paris", "UTC"]);
    let message = Zone::get("NotAZone").unwrap_err().to_string();
    assert!(message.starts_with("unknown time zone `NotAZone`"), "{message}");
    assert_eq!(offset("Asia/Tokyo", "2026-01-01T00:00:00Z"), 32_400);
    assert_eq!(tzdb_version(), "1999z");

    // A folder that doesn't say its version still has one.
    configure_tzdb(vec![second.clone()]);
    assert_eq!(offset("Asia/Tokyo", "2026-01-01T00:00:00Z"), 19_800);
    let version = tzdb_version();
    assert!(version.starts_with("unversioned-"), "{version}");
    std::fs::copy("/usr/share/zoneinfo/Asia/Tokyo", second.join("Asia/Tokyo")).unwrap();
    configure_tzdb(vec![second.clone(), missing.clone()]);
    assert_ne!(tzdb_version(), version);

    // It is the same in every process and release.
    let pinned = folder.path().join("pinned");
    std::fs::create_dir_all(pinned.join("Etc")).unwrap();
    std::fs::write(pinned.join("Etc/Pinned"), "TZif2 and then nothing").unwrap();
    configure_tzdb(vec![pinned]);
    assert_eq!(tzdb_version(), "unversioned-5b4c0e8d9ea3160a");
    let message = Zone::get("Europe/Paris").unwrap_err().to_string();
    assert!(message.starts_with("unknown time zone `Europe/Paris`"), "{message}");

    // One of the names for UTC is enough. Only places that the folder has are offered.
    let names = ["Etc/UTC", "Asia/Kolkata"];
    configure_tzdb(vec![package(&folder.path().join("third"), &names, Some("2001a"))]);
    assert_eq!(tzdb_version(), "2001a");
    let message = Zone::get("IST").unwrap_err().to_string();
    assert!(message.ends_with("name a place: `Asia/Kolkata`"), "{message}");

    std::fs::write(second.join("Asia/Damaged"), "TZif2 and then nothing").unwrap();
    configure_tzdb(vec![second]);
    let message = Zone::get("Asia/Damaged").unwrap_err().to_string();
    assert!(message.starts_with("time zone `Asia/Damaged`: "), "{message}");

    configure_tzdb(vec![missing]);
    assert_eq!(tzdb_version(), "unknown");
    assert!(Zone::get("UTC").is_ok());
    let message = Zone::get("Europe/Paris").unwrap_err().to_string();
    assert!(message.starts_with("no time zone data found for `Europe/Paris`"), "{message}");
}
