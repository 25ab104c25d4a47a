//! The high-water file: what this engine remembers of the database, where no restore of the database reaches it.
//!
//! Written whole to a new file, synced, renamed over the old one, and the directory synced, so that after a power cut it is the one or the
//! other. It carries its version and a checksum. One that is broken, newer or of another database stops the start and says what to do: a
//! guard that mends itself in silence guards nothing.
//!
//! One that cannot be *written* (a full disk) stops nothing. What is remembered stays in memory and goes on guarding as long as this
//! run lives; to stop every recovery of a cloud because a controller's own disk is full would be the greater harm. It is said as an error,
//! once, and again when it works.

use std::fs::{self, File as Handle, OpenOptions, Permissions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use halberd_core::rewind::Marks;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

/// The file's layout. A newer one is not read: what it would mean to forget half of it is not known here.
const VERSION: u32 = 1;

/// Why the file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    #[error(
        "the high-water file {path} is broken ({reason}): what this engine remembered of its database cannot be told. If the database is \
         known to be whole, move the file away and start again; if not, stop all acting first (`halberd disarm`, through a running API)"
    )]
    Broken { path: PathBuf, reason: String },
    #[error(
        "the high-water file {path} is of version {found}, this program writes version {VERSION}: start the newer program"
    )]
    Newer { path: PathBuf, found: u32 },
    #[error(
        "the high-water file {path} is of database {theirs}, and [database] url leads to database {ours}: mend the url. If the engine is \
         to work on this other database from now on, move the file away and start again"
    )]
    Foreign { path: PathBuf, theirs: Uuid, ours: Uuid },
    #[error("the high-water file {path} cannot be read: {source}")]
    Unreadable { path: PathBuf, source: std::io::Error },
}

#[derive(Serialize, Deserialize)]
struct Content {
    version: u32,
    /// Hex SHA-256 of the marks as they are written here.
    checksum: String,
    marks: Marks,
}

#[derive(Deserialize)]
struct VersionAlone {
    version: u32,
}

fn checksum(marks: &Marks) -> String {
    let text = serde_json::to_string(marks).unwrap_or_default();
    Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Reads what was remembered; `None`: nothing yet.
///
/// # Errors
/// [`FileError`] names the file and what to do.
pub fn read(path: &Path) -> Result<Option<Marks>, FileError> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) if error.kind() == ErrorKind::InvalidData => {
            return Err(broken(path, "it is no text"));
        }
        Err(source) => return Err(FileError::Unreadable { path: path.to_owned(), source }),
    };
    let version: VersionAlone = serde_json::from_str(&text).map_err(|error| broken(path, error))?;
    if version.version != VERSION {
        return Err(FileError::Newer { path: path.to_owned(), found: version.version });
    }
    let content: Content = serde_json::from_str(&text).map_err(|error| broken(path, error))?;
    if checksum(&content.marks) != content.checksum {
        return Err(broken(path, "its checksum does not fit"));
    }
    Ok(Some(content.marks))
}

fn broken(path: &Path, reason: impl ToString) -> FileError {
    FileError::Broken { path: path.to_owned(), reason: reason.to_string() }
}

fn replace(path: &Path, marks: &Marks) -> std::io::Result<()> {
    let content = Content { version: VERSION, checksum: checksum(marks), marks: marks.clone() };
    let text = serde_json::to_vec(&content).map_err(std::io::Error::other)?;
    let new = path.with_extension("high-water.new");
    let mut handle = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    // One that was left by a crash keeps its own mode.
    handle.set_permissions(Permissions::from_mode(0o600))?;
    handle.write_all(&text)?;
    handle.sync_all()?;
    fs::rename(&new, path)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    Handle::open(folder)?.sync_all()
}

/// Where it is kept.
#[derive(Debug)]
pub struct File {
    path: PathBuf,
    /// Taken while it is written: one write stands for all who wait for it.
    turn: tokio::sync::Mutex<()>,
    written: AtomicU64,
    failing: AtomicBool,
}

impl File {
    pub fn new(path: PathBuf) -> File {
        File { path, turn: Default::default(), written: AtomicU64::new(0), failing: AtomicBool::new(false) }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the last write failed.
    pub fn is_failing(&self) -> bool {
        self.failing.load(Ordering::Acquire)
    }

    /// Whether what was known at that number is on the disk.
    pub fn has(&self, number: u64) -> bool {
        self.written.load(Ordering::Acquire) >= number
    }

    /// Puts on the disk what is remembered when its turn comes, which is at least what was known at `number`. `marks` gives it with its own
    /// number.
    pub async fn write(&self, number: u64, marks: impl FnOnce() -> (u64, Marks)) {
        let _turn = self.turn.lock().await;
        if self.has(number) {
            return;
        }
        let (number, marks) = marks();
        let path = self.path.clone();
        let done = tokio::task::spawn_blocking(move || replace(&path, &marks)).await;
        let done = done.unwrap_or_else(|error| Err(std::io::Error::other(error)));
        let path = self.path.display();
        match done {
            Ok(()) => {
                self.written.store(number, Ordering::Release);
                if self.failing.swap(false, Ordering::AcqRel) {
                    tracing::info!(%path, "the high-water file is written again");
                }
            }
            Err(error) => {
                if !self.failing.swap(true, Ordering::AcqRel) {
                    tracing::error!(
                        %path, %error,
                        "the high-water file cannot be written: until it can, a rewound database is noticed by this run alone"
                    );
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marks() -> Marks {
        let mut marks = Marks::default();
        marks.identity.own = Some(Uuid::from_u128(7));
        marks.registered("one", halberd_core::id::EngineId(Uuid::from_u128(1)), 5, None);
        marks
    }

    #[test]
    fn what_is_written_is_read_again_and_is_nobody_elses() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("halberd.high-water");
        assert!(read(&path).unwrap().is_none());
        replace(&path, &Marks::default()).unwrap();
        replace(&path, &marks()).unwrap();
        assert_eq!(read(&path).unwrap(), Some(marks()));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left over");
    }

    #[test]
    fn a_changed_byte_a_cut_and_a_newer_version_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("halberd.high-water");
        replace(&path, &marks()).unwrap();
        let good = fs::read_to_string(&path).unwrap();
        fs::write(&path, good.replace("\"counter\":5", "\"counter\":4")).unwrap();
        assert!(matches!(read(&path), Err(FileError::Broken { reason, .. }) if reason.contains("checksum")));
        for length in [0, 1, good.len() / 2, good.len() - 1] {
            fs::write(&path, &good[..length]).unwrap();
            assert!(matches!(read(&path), Err(FileError::Broken { .. })), "{length}");
        }
        fs::write(&path, [0xff, 0xfe, 0x00]).unwrap();
        let said = read(&path).unwrap_err().to_string();
        assert!(said.contains("halberd.high-water") && said.contains("move the file away"), "{said}");
        fs::write(&path, "{\"version\": 2, \"more\": true}").unwrap();
        assert!(matches!(read(&path), Err(FileError::Newer { found: 2, .. })));
    }

    #[tokio::test]
    async fn one_that_cannot_be_written_is_said_and_waits_for_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let file = File::new(dir.path().join("none").join("halberd.high-water"));
        file.write(1, || (1, marks())).await;
        assert!(file.is_failing() && !file.has(1));
        fs::create_dir(dir.path().join("none")).unwrap();
        file.write(1, || (3, marks())).await;
        assert!(!file.is_failing() && file.has(3) && !file.has(4));
        file.write(2, || panic!("what was asked for is on the disk already")).await;
    }
}
