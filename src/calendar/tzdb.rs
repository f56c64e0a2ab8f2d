//! The time zone database on this machine: where it is, which names it has, which version it is.
//!
//! The same folders in the same order as Python's `zoneinfo`, so that a fire and the `datetime`
//! shown to a handler come from one file. A name is looked up in a list of what was found in the
//! folders; nothing that a user types is ever made into a path.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, OnceLock};

use crate::sync::RwLock;

use super::suggest;
use super::zone::{Zone, ZoneError};

/// Where systems keep the database: the default of Python's `zoneinfo.TZPATH`.
const SYSTEM_DIRS: [&str; 4] =
    ["/usr/share/zoneinfo", "/usr/lib/zoneinfo", "/usr/share/lib/zoneinfo", "/etc/zoneinfo"];

/// How a compiled zone file starts.
const MAGIC: &[u8; 4] = b"TZif";

/// Names longer than this are refused unread; the longest there is has 32 bytes.
const NAME_BYTES_MAX: usize = 255;

static CURRENT: LazyLock<RwLock<Arc<Database>>> = LazyLock::new(|| {
    let dirs = SYSTEM_DIRS.iter().map(PathBuf::from).collect();
    RwLock::new(Arc::new(Database::new(dirs)))
});

struct Database {
    dirs: Vec<PathBuf>,
    files: OnceLock<BTreeMap<Arc<str>, PathBuf>>,
    names: OnceLock<Vec<Arc<str>>>,
    zones: RwLock<HashMap<Arc<str>, Zone>>,
    version: OnceLock<String>,
}

/// Sets the folders to look for zones in, first match wins. Pass `zoneinfo.TZPATH` and, after it,
/// the folder `zoneinfo` of the `tzdata` package.
///
/// Without this call the usual folders of the system are used. Zones that were handed out before
/// keep their data.
pub fn configure_tzdb(dirs: Vec<PathBuf>) {
    let mut current = CURRENT.write();
    if current.dirs != dirs {
        *current = Arc::new(Database::new(dirs));
    }
}

/// The version of the database in use, such as `2026a`.
///
/// Where the folder doesn't say, `unversioned-` and a number that changes with the data; `unknown`
/// if there is none.
pub fn tzdb_version() -> String {
    let database = current();
    database.version.get_or_init(|| database.find_version()).clone()
}

/// All names that [`Zone::get`] accepts, sorted.
///
/// As `zoneinfo.available_timezones()`: everything in the folders that is a zone file, apart from
/// the trees `posix/` and `right/` and the file `posixrules`. `localtime` is excluded too,
/// because it means another zone on every machine.
pub fn zone_names() -> Vec<Arc<str>> {
    current().names().to_vec()
}

pub(super) fn zone(name: &str) -> Result<Zone, ZoneError> {
    if name == "UTC" {
        return Ok(Zone::utc());
    }
    if name.is_empty() {
        return Err(ZoneError::Empty);
    }
    let database = current();
    if let Some(zone) = database.zones.read().get(name) {
        return Ok(zone.clone());
    }
    let known = if name.len() <= NAME_BYTES_MAX { database.files().get_key_value(name) } else { None };
    let Some((name, path)) = known else {
        return Err(suggest::unknown(name, database.names()));
    };
    let data = fs::read(path)
        .map_err(|error| ZoneError::Unreadable { name: name.to_string(), reason: error.to_string() })?;
    if !data.starts_with(MAGIC) {
        return Err(suggest::unknown(name, database.names()));
    }
    let zone = Zone::from_tzif(name, &data)?;
    Ok(database.zones.write().entry(Arc::clone(name)).or_insert(zone).clone())
}

fn current() -> Arc<Database> {
    Arc::clone(&CURRENT.read())
}

impl Database {
    fn new(dirs: Vec<PathBuf>) -> Database {
        Database {
            dirs,
            files: OnceLock::new(),
            names: OnceLock::new(),
            zones: RwLock::default(),
            version: OnceLock::new(),
        }
    }

    /// Name to file, found by walking the folders once. Not opened yet: some may be something else.
    fn files(&self) -> &BTreeMap<Arc<str>, PathBuf> {
        self.files.get_or_init(|| {
            let mut files = BTreeMap::new();
            for dir in &self.dirs {
                walk(dir, "", &mut files);
            }
            files
        })
    }

    fn names(&self) -> &[Arc<str>] {
        self.names.get_or_init(|| {
            let zones = self.files().iter().filter(|(_, path)| is_tzif(path));
            let mut names: Vec<Arc<str>> = zones.map(|(name, _)| Arc::clone(name)).collect();
            if let Err(place) = names.binary_search_by(|name| (**name).cmp("UTC")) {
                names.insert(place, "UTC".into());
            }
            names
        })
    }

    fn find_version(&self) -> String {
        if let Some(version) = self.stated_version() {
            return version;
        }
        if self.names().len() < 2 {
            return "unknown".to_owned();
        }
        let contents = self.files().iter().flat_map(|(name, path)| {
            let data = fs::read(path).unwrap_or_default();
            name.bytes().chain(data).collect::<Vec<u8>>()
        });
        // FNV-1a: must be the same in every process and release; need not resist attacks.
        let print = contents.fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        format!("unversioned-{print:016x}")
    }

    /// The version that the first folder with any zone in it states.
    fn stated_version(&self) -> Option<String> {
        let dir = self.dirs.iter().find(|dir| dir.join("Etc/UTC").is_file() || dir.join("UTC").is_file())?;
        let first_line = |name: &str| {
            let mut start = [0; 100];
            let length = File::open(dir.join(name)).and_then(|mut file| file.read(&mut start)).ok()?;
            let text = String::from_utf8_lossy(&start[..length]).into_owned();
            text.lines().next().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty())
        };
        let compact =
            first_line("tzdata.zi").and_then(|line| line.strip_prefix("# version ").map(str::to_owned));
        // macOS and the BSDs have `+VERSION`; the PyPI package has its version one level up.
        compact.or_else(|| first_line("+VERSION")).or_else(|| {
            let package = fs::read_to_string(dir.parent()?.join("__init__.py")).ok()?;
            let line = package.lines().find(|line| line.starts_with("IANA_VERSION"))?;
            line.split('"').nth(1).map(str::to_owned)
        })
    }
}

/// Adds the zone files below `dir`, whose names start with `prefix`, unless an earlier folder had
/// the name.
fn walk(dir: &Path, prefix: &str, files: &mut BTreeMap<Arc<str>, PathBuf>) {
    let Ok(entries) = fs::read_dir(dir) else {
        return;
    };
    for entry in entries.flatten() {
        let file_name = entry.file_name();
        let Some(part) = file_name.to_str().filter(|part| is_name_part(part)) else {
            continue;
        };
        let name = format!("{prefix}{part}");
        let path = entry.path();
        // Like `os.walk`: links to files count, links to folders aren't followed.
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            if !matches!(name.as_str(), "posix" | "right") {
                walk(&path, &format!("{name}/"), files);
            }
        } else if !matches!(name.as_str(), "posixrules" | "localtime") && !files.contains_key(name.as_str()) {
            files.insert(name.into(), path);
        }
    }
}

/// Letters, digits, `_`, `+` and `-`, as in all IANA names. Tables such as `zone.tab` have a dot.
fn is_name_part(part: &str) -> bool {
    part.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'+' | b'-'))
}

fn is_tzif(path: &Path) -> bool {
    let mut magic = [0; 4];
    File::open(path).and_then(|mut file| file.read_exact(&mut magic)).is_ok() && magic == *MAGIC
}
