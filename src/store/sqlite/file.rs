//! The file on disk: creates it, and notices when it is no longer the one that was opened.

use super::error::foreign;
use crate::store::StoreError;
use std::fmt::Write;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

/// The identity of a file, whatever its name.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) struct Identity(u64, u64);

impl Identity {
    #[cfg(unix)]
    fn of(metadata: &Metadata) -> Self {
        use std::os::unix::fs::MetadataExt;
        Self(metadata.dev(), metadata.ino())
    }

    /// On other systems, an open file can't be removed or replaced.
    #[cfg(not(unix))]
    fn of(_: &Metadata) -> Self {
        Self(0, 0)
    }
}

/// A database file and its write-ahead log, as they were when they were opened.
#[derive(Debug)]
pub(in crate::store) struct DatabaseFile {
    pub path: PathBuf,
    log: PathBuf,
    identities: [Identity; 2],
    is_closed: AtomicBool,
}

impl DatabaseFile {
    /// Identifies the files of a database that is open and in WAL mode.
    pub fn opened(path: &Path) -> Result<Self, StoreError> {
        let log = beside(path, "-wal");
        let identity = |path: &Path| {
            fs::metadata(path).map(|metadata| Identity::of(&metadata)).map_err(|_| replaced(path))
        };
        let identities = [identity(path)?, identity(&log)?];
        Ok(Self { path: path.into(), log, identities, is_closed: AtomicBool::new(false) })
    }

    /// The write-ahead log, which every commit writes to.
    #[cfg(target_os = "linux")]
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// From now on, nothing may use the file.
    pub fn close(&self) {
        self.is_closed.store(true, Ordering::Release);
    }

    /// Whether [`Self::close`] was called.
    pub fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Acquire)
    }

    /// Refuses to continue if a file was deleted, moved, or replaced: what is written would be
    /// lost. Refuses too once it is closed.
    pub fn check(&self) -> Result<(), StoreError> {
        if self.is_closed() {
            return Err(StoreError::Closed);
        }
        for (path, identity) in [&self.path, &self.log].into_iter().zip(self.identities) {
            match fs::metadata(path) {
                Ok(metadata) if Identity::of(&metadata) == identity => {}
                Ok(_) => return Err(replaced(&self.path)),
                Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                    return Err(replaced(&self.path));
                }
                // Permissions of a folder have changed, or a network drive hangs: the state is
                // unknown.
                Err(error) => {
                    return Err(StoreError::Denied(format!(
                        "the database `{}` can't be looked at: {error}; its folder must be readable",
                        self.path.display()
                    )));
                }
            }
        }
        Ok(())
    }
}

fn replaced(path: &Path) -> StoreError {
    StoreError::Unusable {
        path: path.into(),
        action: "written",
        reason:
            "it or its `-wal` file was deleted, moved or replaced while in use; put it back, or start again"
                .into(),
    }
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Whether there is a log that is not empty.
pub(super) fn has_log(path: &Path) -> bool {
    fs::metadata(beside(path, "-wal")).is_ok_and(|metadata| metadata.len() > 0)
}

/// Whether an interrupted transaction from before the log has to be rolled back.
pub(super) fn has_journal(path: &Path) -> bool {
    fs::metadata(beside(path, "-journal")).is_ok_and(|metadata| metadata.len() > 0)
}

/// Whether the first page of the file has this application id. Only for a file that this process
/// has not opened: closing it here drops the process's locks on it.
pub(super) fn is_marked(path: &Path, application_id: i64) -> bool {
    let mut header = [0; 72];
    let read = File::open(path).and_then(|mut file| file.read_exact(&mut header));
    read.is_ok()
        && header.starts_with(b"SQLite format 3\0")
        && i64::from(u32::from_be_bytes([header[68], header[69], header[70], header[71]])) == application_id
}

/// Whether a creation was interrupted after other pages, but not the first, had reached the file.
/// Its first bytes are empty, and the journal beside it says that there was nothing before. The
/// next use makes it empty again.
pub(super) fn is_creation_to_be_undone(path: &Path) -> bool {
    let mut header = [0; 100];
    let mut journal = [0; 20];
    let read = |path: &Path, room: &mut [u8]| File::open(path).and_then(|mut file| file.read_exact(room));
    let is_read = read(path, &mut header).is_ok() && read(&beside(path, "-journal"), &mut journal).is_ok();
    let page_count_before = &journal[16..20];
    is_read
        && header.iter().all(|byte| *byte == 0)
        && journal.starts_with(&JOURNAL_MAGIC)
        && page_count_before.iter().all(|byte| *byte == 0)
}

/// The first bytes of a rollback journal of SQLite.
const JOURNAL_MAGIC: [u8; 8] = [0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7];

/// Size of the log in bytes.
pub(super) fn log_size(file: &DatabaseFile) -> u64 {
    fs::metadata(&file.log).map_or(0, |metadata| metadata.len())
}

/// Makes sure that there is a file to open: a new one is empty, and only its owner can read it.
/// Returns its size. `has_log` was determined before, because a process that creates a database
/// starts its log only after the tables are in the file.
pub(super) fn prepare(path: &Path, has_log: bool) -> Result<u64, StoreError> {
    let size = match fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => {
            return Err(unusable(path, "opened", "it is a folder; give the path of a file in it".into()));
        }
        Ok(metadata) if !metadata.is_file() => {
            return Err(unusable(path, "opened", "it is not a regular file".into()));
        }
        Ok(metadata) => metadata.len(),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            check_folder(path)?;
            if has_log {
                return Err(lost_database(path));
            }
            create(path)?;
            0
        }
        Err(error) => return Err(unusable(path, "opened", explain(&error))),
    };
    if size == 0 && has_log {
        return Err(lost_database(path));
    }
    // SQLite would treat some of them as empty.
    if (1..SMALLEST).contains(&size) {
        return Err(foreign(path, "it is too short for a SQLite file"));
    }
    Ok(size)
}

/// One page of the smallest size.
const SMALLEST: u64 = 512;

fn lost_database(path: &Path) -> StoreError {
    unusable(
        path,
        "opened",
        "it is gone, but its `-wal` file is still there; put the database back, or move that file away"
            .into(),
    )
}

fn check_folder(path: &Path) -> Result<(), StoreError> {
    let folder = folder_of(path);
    match fs::metadata(folder) {
        Ok(metadata) if metadata.is_dir() => Ok(()),
        Ok(_) => Err(unusable(path, "created", format!("`{}` is not a folder", folder.display()))),
        Err(error) if error.kind() == ErrorKind::NotFound => Err(unusable(
            path,
            "created",
            format!("there is no folder `{}`; make it first", folder.display()),
        )),
        Err(error) => Err(unusable(path, "created", explain(&error))),
    }
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Creates the file. `SQLite` gives its `-wal` and `-shm` files the same mode.
fn create(path: &Path) -> Result<(), StoreError> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    match options.open(path) {
        Ok(_) => {}
        // Another process was faster.
        Err(error) if error.kind() == ErrorKind::AlreadyExists => return Ok(()),
        Err(error) => return Err(unusable(path, "created", explain(&error))),
    }
    // The name must survive a loss of power, too. Some systems can't sync folders, which is not an
    // error.
    #[cfg(unix)]
    let _ = File::open(folder_of(path)).and_then(|folder| folder.sync_all());
    Ok(())
}

fn explain(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::PermissionDenied => {
            format!("{error}; the file and its folder must be readable and writable for this user")
        }
        _ => error.to_string(),
    }
}

fn unusable(path: &Path, action: &'static str, reason: String) -> StoreError {
    StoreError::Unusable { path: path.into(), action, reason }
}

/// The path as a URI that reads the file as it is, without locks, journal, or log.
pub(super) fn immutable_uri(path: &Path) -> Result<String, StoreError> {
    let Some(text) = path.to_str() else {
        return Err(unusable(path, "opened", "its name is not valid Unicode".into()));
    };
    if text.contains('\0') {
        return Err(foreign(path, "its name holds a NUL"));
    }
    let mut uri = String::from("file:");
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'-' | b'_' | b'.' | b'~' => {
                uri.push(char::from(byte));
            }
            _ => {
                let _ = write!(uri, "%{byte:02X}");
            }
        }
    }
    uri.push_str("?immutable=1");
    Ok(uri)
}
