//! Opening the database: pools, the exclusive lock beside an SQLite file, migrations.
//!
//! SQLite runs with its write-ahead log and synchronous FULL: with less, an acknowledged commit can vanish with the power
//! (SAFETY 3.2). One connection writes, so that writers of this process queue fairly instead of polling for the file's lock, and
//! share its syncs (module `group`).

use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{SqlStr, SqlitePool};

use crate::bus::Speaker;
use crate::dialect::{self, Dialect, classify};
use crate::error::{Error, Result};
use crate::group::Group;
use crate::migrate;
use crate::transaction::{Tx, TxKind};
use crate::value::{Arg, Row};

/// How the file is shared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// An engine: takes the lock beside the file or refuses.
    Exclusive,
    /// API and CLI beside an engine of another process.
    Shared,
}

/// What may be set when opening.
#[derive(Clone, Debug)]
pub struct Options {
    pub access: Access,
    /// How long a writer waits for one of another process.
    pub busy_timeout: Duration,
    /// Connections that read.
    pub readers: u32,
    /// The most pages the file may have; `None`: the disk decides.
    pub max_pages: Option<u32>,
}

impl Options {
    pub fn new(access: Access) -> Options {
        // 5 s outlasts any unit of ours and a checkpoint; 4 readers keep lists and the event stream from waiting on each other.
        Options { access, busy_timeout: Duration::from_secs(5), readers: 4, max_pages: None }
    }
}

/// The database, cheap to clone.
#[derive(Clone, Debug)]
pub enum Db {
    Sqlite(Arc<Sqlite>),
}

/// SQLite's pools and lock.
#[derive(Debug)]
pub struct Sqlite {
    pub(crate) write: SqlitePool,
    pub(crate) group: Group,
    read: SqlitePool,
    path: PathBuf,
    /// Held as long as this lives; the operating system releases it when the process dies.
    lock: Option<File>,
    /// Set once, where changes are told on the message bus.
    pub(crate) speaker: OnceLock<Arc<Speaker>>,
}

impl Db {
    /// Opens `sqlite:PATH`, creates it if missing, and brings its schema up to date.
    ///
    /// # Errors
    /// [`Error::Url`] for what this version cannot open, [`Error::Locked`] when another engine holds the file.
    pub async fn open(url: &str, access: Access) -> Result<Db> {
        Db::open_with(url, Options::new(access)).await
    }

    /// [`Db::open`] with every option.
    pub async fn open_with(url: &str, options: Options) -> Result<Db> {
        let path = sqlite_path(url)?;
        let lock = match options.access {
            Access::Exclusive => Some(wait_for_lock(&path).await?),
            Access::Shared => None,
        };
        let connect = SqliteConnectOptions::new()
            .filename(&path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(options.busy_timeout)
            .statement_cache_capacity(256)
            // A whole page of a list at once (v1's limit): with sqlx's 50 the reading thread and its caller wake each other 20 times.
            .row_buffer_size(1_024);
        let writer = match options.max_pages {
            Some(pages) => connect.clone().pragma("max_page_count", pages.to_string()),
            None => connect.clone(),
        };
        // No idle or age limit: a connection is a file handle, and a fresh one has an empty statement cache.
        // Nor is one tried out before each use: a file handle does not go stale, and the try costs as much as a small read.
        let pool = |size| {
            SqlitePoolOptions::new()
                .max_connections(size)
                .idle_timeout(None)
                .max_lifetime(None)
                .test_before_acquire(false)
        };
        let write = pool(1).connect_with(writer).await.map_err(classify)?;
        let migrating = match options.access {
            Access::Exclusive => None,
            Access::Shared => take_lock(&path)?,
        };
        if lock.is_some() || migrating.is_some() {
            migrate::run(&write).await?;
        } else {
            migrate::check(&write).await?;
        }
        drop(migrating);
        // Readers cannot write, whatever statement reaches them.
        let reader = connect.pragma("query_only", "1");
        let read = pool(options.readers.max(1)).connect_with(reader).await.map_err(classify)?;
        Ok(Db::Sqlite(Arc::new(Sqlite {
            write,
            group: Group::default(),
            read,
            path,
            lock,
            speaker: OnceLock::new(),
        })))
    }

    /// Whether no other engine can be at work here: former leases need not be waited out (DESIGN 3).
    pub fn holds_exclusive_lock(&self) -> bool {
        match self {
            Db::Sqlite(sqlite) => sqlite.lock.is_some(),
        }
    }

    /// The file, where the database is one; the key lies beside it.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Db::Sqlite(sqlite) => Some(&sqlite.path),
        }
    }

    pub(crate) fn speaker(&self) -> &OnceLock<Arc<Speaker>> {
        match self {
            Db::Sqlite(sqlite) => &sqlite.speaker,
        }
    }

    pub fn dialect(&self) -> Dialect {
        match self {
            Db::Sqlite(_) => Dialect::Sqlite,
        }
    }

    /// Waits for statements under way and closes every connection; dropping it does so without waiting.
    pub async fn close(&self) {
        match self {
            Db::Sqlite(sqlite) => {
                sqlite.read.close().await;
                sqlite.write.close().await;
            }
        }
    }

    /// Proves that the database answers and takes writes.
    pub async fn ping(&self) -> Result<()> {
        // Beginning to write finds a file that was lost or made read-only; an empty commit changes nothing.
        Tx::begin(self).await?.commit().await
    }

    /// A view of one moment, for reads that must agree with each other. Writers go on beside it; it cannot write.
    pub async fn snapshot(&self) -> Result<Tx> {
        match self {
            Db::Sqlite(sqlite) => {
                let begun =
                    sqlite.read.begin_with(Dialect::Sqlite.begin_snapshot()).await.map_err(classify)?;
                Ok(Tx { inner: TxKind::Sqlite(begun), speaker: None })
            }
        }
    }

    pub(crate) async fn begin_for_write(&self) -> Result<Tx> {
        match self {
            Db::Sqlite(sqlite) => Ok(sqlite.tx(sqlite.begin_for_write().await?)),
        }
    }

    pub(crate) async fn read(&self, sql: SqlStr, args: Vec<Arg>) -> Result<Vec<Row>> {
        match self {
            Db::Sqlite(sqlite) => {
                let rows =
                    dialect::sqlite_query(sql, args).fetch_all(&sqlite.read).await.map_err(classify)?;
                dialect::sqlite_rows(rows)
            }
        }
    }
}

fn sqlite_path(url: &str) -> Result<PathBuf> {
    let refuse = |reason: &str| {
        let shown = url.split_once("://").map_or(url, |(scheme, _)| scheme);
        Err(Error::Url { url: shown.to_owned(), reason: reason.to_owned() })
    };
    let scheme = url.split(':').next().unwrap_or_default();
    match scheme {
        "sqlite" => {}
        "postgres" | "postgresql" | "mysql" | "mariadb" => {
            return refuse(
                "PostgreSQL and MariaDB/MySQL come with a later version; use sqlite:PATH, for instance sqlite:halberd.db",
            );
        }
        _ => return refuse("write sqlite:PATH, for instance sqlite:halberd.db"),
    }
    let path = url.trim_start_matches("sqlite:");
    let path = path.strip_prefix("//").unwrap_or(path);
    match path {
        "" | ":memory:" => refuse("name a file: what is kept in memory only is lost when it is needed"),
        path if path.contains('?') => refuse("options after '?' are not supported"),
        path => PathBuf::from_str(path).or_else(|_| refuse("this is no path")),
    }
}

/// An API or CLI holds the lock for the moment of a migration; only an engine holds it longer than this waits.
async fn wait_for_lock(path: &Path) -> Result<File> {
    for _ in 0..10 {
        if let Some(lock) = take_lock(path)? {
            return Ok(lock);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Err(Error::Locked { path: path.to_owned() })
}

/// `Ok(None)`: another process, or another opening in this one, holds it.
fn take_lock(path: &Path) -> Result<Option<File>> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let path = PathBuf::from(name);
    let failed = |reason| {
        let path = path.clone();
        move |source| Error::File { path, reason, source }
    };
    let file =
        OpenOptions::new().create(true).truncate(false).write(true).open(&path).map_err(failed(
            "the lock file beside the database cannot be opened; does its directory exist?",
        ))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => {
            Err(failed("the lock file beside the database cannot be locked")(error))
        }
    }
}
