//! SQLite: a file, the exclusive lock beside it, and the schema that is brought up to date when it is opened.
//!
//! It runs with its write-ahead log and synchronous FULL: with less, an acknowledged commit can vanish with the power
//! (SAFETY 3.2). One connection writes, so that writers of this process queue fairly instead of polling for the file's lock, and
//! share its syncs (module `group`).

use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use sqlx::sqlite::{
    SqliteAutoVacuum, SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{SqlStr, SqlitePool};

use crate::bus::Speaker;
use crate::db::{Access, Options};
use crate::dialect::Dialect;
use crate::error::{Error, Result};
use crate::group::Group;
use crate::migrate;
use crate::refusal::classified;
use crate::value::{Arg, Row};
use crate::wire;

pub(crate) type SqliteTx = sqlx::Transaction<'static, sqlx::Sqlite>;

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

impl Sqlite {
    /// Opens the file, creates it if missing, and brings its schema up to date.
    pub(crate) async fn open(url: &str, options: &Options) -> Result<Sqlite> {
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
            // A new file can give pages back bit by bit when rows go (retention); in an older one this changes nothing.
            .auto_vacuum(SqliteAutoVacuum::Incremental)
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
        let pool = |size: u32| {
            SqlitePoolOptions::new()
                .max_connections(size)
                .idle_timeout(None)
                .max_lifetime(None)
                .test_before_acquire(false)
        };
        let write = failed(pool(1).connect_with(writer).await)?;
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
        let read = failed(pool(options.readers.max(1)).connect_with(reader).await)?;
        Ok(Sqlite { write, group: Group::default(), read, path, lock, speaker: OnceLock::new() })
    }

    pub(crate) fn holds_lock(&self) -> bool {
        self.lock.is_some()
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) async fn close(&self) {
        self.read.close().await;
        self.write.close().await;
    }

    pub(crate) async fn begin_for_write(&self) -> Result<SqliteTx> {
        let begin = Dialect::Sqlite.begin_for_write();
        match self.write.begin_with(begin).await {
            // SQLite took a transaction back by itself (a full disk at its commit), and the driver still believes in it: nobody could
            // ever write again on this connection.
            Err(sqlx::Error::InvalidSavePointStatement | sqlx::Error::BeginFailed) => {
                let broken = failed(self.write.acquire().await)?;
                if let Err(error) = broken.close().await {
                    tracing::debug!(%error, "a connection that lost its transaction was closed");
                }
                failed(self.write.begin_with(begin).await)
            }
            begun => failed(begun),
        }
    }

    pub(crate) async fn snapshot(&self) -> Result<SqliteTx> {
        failed(self.read.begin_with(Dialect::Sqlite.begin_snapshot()).await)
    }

    pub(crate) async fn read(&self, sql: SqlStr, args: Vec<Arg>) -> Result<Vec<Row>> {
        let rows = failed(wire::sqlite_query(sql, args).fetch_all(&self.read).await)?;
        failed(wire::sqlite_rows(&rows))
    }
}

fn failed<T>(done: sqlx::Result<T>) -> Result<T> {
    classified(Dialect::Sqlite, done)
}

pub(crate) fn sqlite_path(url: &str) -> Result<PathBuf> {
    let refuse = |reason: &str| {
        let shown = url.split_once("://").map_or(url, |(scheme, _)| scheme);
        Err(Error::Url { url: shown.to_owned(), reason: reason.to_owned() })
    };
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
