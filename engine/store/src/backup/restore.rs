//! Restoring: everything is verified and asked before the first write, and what is written is all there in the end or not at all.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use halberd_core::time::Stamp;
use sqlx::{AssertSqlSafe, MySql, Postgres};
use uuid::Uuid;

use super::read::Met;
use super::shape::{self, Table};
use super::{Backup, BackupError, MARK, Manifest};
use crate::db::{Access, Db, MysqlDb, Options, PostgresDb, dialect_of, refused};
use crate::dialect::{Dialect, ROWS_PER_STATEMENT};
use crate::error::Error;
use crate::migrate;
use crate::rewind;
use crate::seal::{SealError, key_of};
use crate::server::{self, Server};
use crate::transaction::{Tx, all, first};
use crate::value::Arg;

/// A statement is sent when it has this many bytes, far below what servers take by default (MariaDB 16 MiB).
const BYTES_PER_STATEMENT: usize = 1 << 20;
/// MariaDB: rows of one transaction; a Galera cluster certifies it as a whole.
const ROWS_PER_COMMIT: usize = 2_000;

/// The audit's chain of restores.
const CHAIN: &str = "restores";

/// What becomes of a database that is not empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Former {
    /// It is left as it is, with an error.
    Keep,
    /// What would be removed is named, in an error.
    Name,
    /// It goes, in the same transaction.
    Remove,
}

/// What may be set when restoring.
#[derive(Clone, Debug)]
pub struct Restore {
    pub former: Former,
    /// The operator's word that no engine of the database's list lives. On SQLite the lock tells.
    pub engines_are_stopped: bool,
    /// How long such a word is doubted: an engine that lives renews its lease within it.
    pub watch: Duration,
    /// Where the key shall lie.
    pub secrets_key: Option<PathBuf>,
    /// The key in the backup is left there.
    pub without_key: bool,
    /// Where the engine's high-water file lies; one that is there remembers more than the backup and stays.
    pub high_water: Option<PathBuf>,
    /// Who restores, for the row that stops the engines and for the audit: for instance `restore by root`.
    pub by: String,
    /// From what, in words, as the engines and the operator will read it.
    pub why: String,
    /// Who is told of that.
    pub webhooks: Vec<String>,
}

/// What was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    pub manifest: Manifest,
    /// Rows that were there before and are gone.
    pub removed: BTreeMap<String, u64>,
    /// The key file that was written; `None` when there was none to write, or the same lay there.
    pub secrets_key: Option<PathBuf>,
    pub high_water: Option<PathBuf>,
}

/// Restores a verified backup into the database that the URL names. Afterwards every engine starts in reconcile-only.
///
/// # Errors
/// [`BackupError`]; with all but [`BackupError::Store`] of MariaDB nothing of the backup is in the database, and there a database
/// whose restore did not end is not opened by any engine until this is run again.
pub async fn restore(
    url: &str,
    backup: &mut Backup,
    how: &Restore,
    now: Stamp,
) -> Result<Restored, BackupError> {
    let key = key_to_write(backup, how)?;
    let target = Target::open(url).await?;
    let done = into(&target, backup, how, key, now).await;
    target.db.close().await;
    done
}

async fn into(
    target: &Target,
    backup: &mut Backup,
    how: &Restore,
    key: Option<PathBuf>,
    now: Stamp,
) -> Result<Restored, BackupError> {
    let tables = shape::at(migrate::newest_of_ours(target.db.dialect())).await?;
    let mut removed = BTreeMap::new();
    if !target.half {
        nobody_at_work(&target.db, how).await?;
        removed = rows(&target.db, &tables).await?;
        match how.former {
            Former::Keep if !removed.is_empty() => return Err(BackupError::NotEmpty(removed)),
            Former::Name if !removed.is_empty() => return Err(BackupError::Unconfirmed(removed)),
            _ => {}
        }
    }
    // The key first: without its database it opens nothing, and a database without its key cannot be used.
    if let (Some(path), Some(key)) = (&key, &backup.secrets_key) {
        put(path, key)?;
    }
    fill(target, backup, &tables, !removed.is_empty(), how, now).await?;
    let mut high_water = None;
    if let (Some(path), Some(bytes)) = (&how.high_water, &backup.high_water)
        && !path.exists()
    {
        put(path, bytes)?;
        high_water = Some(path.clone());
    }
    Ok(Restored { manifest: backup.manifest.clone(), removed, secrets_key: key, high_water })
}

/// A database that may be written, its schema at this program's step unless a restore of it was interrupted.
struct Target {
    db: Db,
    /// A restore of it was interrupted: whatever it holds is not what anybody wants.
    half: bool,
}

impl Target {
    async fn open(url: &str) -> Result<Target, BackupError> {
        let dialect = dialect_of(url)?;
        let options = Options::new(Access::Exclusive);
        let mut half = false;
        let db = match dialect {
            Dialect::Sqlite => Db::open_with(url, options).await?,
            Dialect::Postgres => {
                ready(url).await?;
                let connect = server::postgres::options(url).map_err(|reason| refused(url, reason))?;
                Db::Postgres(PostgresDb(Arc::new(Server::<Postgres>::unasked(connect, &options))))
            }
            Dialect::Mysql => {
                let connect = server::mysql::options(url).map_err(|reason| refused(url, reason))?;
                let mut asking = server::connect::<MySql>(connect.clone()).await?;
                half = server::mysql::is_marked(&mut asking).await?;
                if !half {
                    ready(url).await?;
                }
                Db::Mysql(MysqlDb(Arc::new(Server::<MySql>::unasked(connect, &options))))
            }
        };
        Ok(Target { db, half })
    }
}

/// An empty database gets its schema; one of another version is somebody's.
async fn ready(url: &str) -> Result<(), Error> {
    let version = migrate::version(url).await?;
    if version.found == 0 {
        migrate::migrate(url).await?;
        return Ok(());
    }
    version.check()
}

/// What the tables hold beyond what they are born with.
async fn rows(db: &Db, tables: &[Table]) -> Result<BTreeMap<String, u64>, BackupError> {
    let mut found = BTreeMap::new();
    for table in tables {
        let sql = AssertSqlSafe(format!("SELECT COUNT(*) AS n FROM {}", table.name));
        let row = first(&mut &*db, sql, vec![]).await?;
        let count = row.map_or(0, |row| row.first_int()).unsigned_abs();
        if count > table.born {
            found.insert(table.name.clone(), count);
        }
    }
    Ok(found)
}

/// On SQLite the lock that is held says so. Elsewhere an engine that did not say farewell may be dead or only elsewhere.
async fn nobody_at_work(db: &Db, how: &Restore) -> Result<(), BackupError> {
    if db.holds_exclusive_lock() {
        return Ok(());
    }
    let living = async || -> Result<Vec<_>, Error> {
        let sql = "SELECT name, id, counter FROM engines WHERE stopped_at IS NULL ORDER BY name";
        let found = all(&mut &*db, sql, vec![]).await?;
        let told = |row: &crate::value::Row| {
            let row = row.of("engines", "name");
            Ok((row.string("name")?, row.string("id")?, row.int("counter")?))
        };
        found.iter().map(told).collect()
    };
    let before: Vec<(String, String, i64)> = living().await?;
    let Some(one) = before.first() else { return Ok(()) };
    if !how.engines_are_stopped {
        return Err(BackupError::Engines(one.0.clone()));
    }
    tokio::time::sleep(how.watch).await;
    match living().await?.into_iter().find(|now| !before.contains(now)) {
        Some(moved) => Err(BackupError::AtWork(moved.0)),
        None => Ok(()),
    }
}

async fn fill(
    target: &Target,
    backup: &mut Backup,
    tables: &[Table],
    occupied: bool,
    how: &Restore,
    now: Stamp,
) -> Result<(), BackupError> {
    let dialect = target.db.dialect();
    let (step, ours) = (backup.manifest.header.schema, migrate::newest_of_ours(dialect));
    let mut work =
        Work { db: &target.db, tx: Tx::begin(&target.db).await?, apart: dialect == Dialect::Mysql, since: 0 };
    if work.apart {
        work.exec(format!("CREATE TABLE IF NOT EXISTS {MARK} (num BIGINT PRIMARY KEY) ENGINE = InnoDB"))
            .await?;
    }
    if occupied || target.half || step != ours {
        for table in tables.iter().rev() {
            work.exec(format!("DROP TABLE IF EXISTS {}", table.name)).await?;
        }
        work.exec(format!("DELETE FROM {}", migrate::APPLIED)).await?;
        work.build(0, step).await?;
    }
    for table in backup.tables.iter().rev().filter(|table| table.born > 0) {
        work.exec(format!("DELETE FROM {}", table.name)).await?;
    }
    work.part().await?;
    let numbered: Vec<String> =
        backup.tables.iter().filter(|table| table.numbered()).map(|table| table.name.clone()).collect();
    pour(&mut work, backup).await?;
    if dialect == Dialect::Postgres {
        for table in numbered {
            // The numbers given by hand are not known to what counts them up.
            let sql = format!(
                "SELECT setval(pg_get_serial_sequence('{table}', 'num'), GREATEST(MAX(num), 1)) AS n FROM {table} HAVING MAX(num) IS NOT NULL"
            );
            all(&mut &mut work.tx, AssertSqlSafe(sql), vec![]).await?;
        }
    }
    work.part().await?;
    work.build(step, ours).await?;
    work.part().await?;
    rewind::declare(&mut work.tx, &how.by, &how.why, &[], CHAIN, &how.webhooks, now).await?;
    let apart = work.apart;
    work.tx.commit().await?;
    if apart {
        let mut tx = Tx::begin(&target.db).await?;
        tx.exec(AssertSqlSafe(format!("DROP TABLE {MARK}")), vec![]).await?;
        tx.commit().await?;
    }
    Ok(())
}

/// Every row of the backup, in its order: each table stands behind those that it refers to.
async fn pour(work: &mut Work<'_>, backup: &mut Backup) -> Result<(), BackupError> {
    let mut batch = Batch::default();
    let mut walk = backup.walk()?;
    while let Some(met) = walk.next()? {
        match met {
            Met::Table { name, columns } => {
                work.send(&mut batch).await?;
                batch = Batch { table: name, columns, ..Batch::default() };
            }
            Met::Row { line, cells } => {
                batch.add(line, cells.into_iter().map(Arg::from).collect());
                if batch.rows.len() >= ROWS_PER_STATEMENT || batch.bytes >= BYTES_PER_STATEMENT {
                    work.send(&mut batch).await?;
                }
            }
            Met::SecretsKey(_) | Met::HighWater(_) => {}
        }
    }
    work.send(&mut batch).await
}

/// Rows of one table that go out together.
#[derive(Default)]
struct Batch {
    table: String,
    columns: Vec<String>,
    rows: Vec<Vec<Arg>>,
    bytes: usize,
    line: u64,
}

impl Batch {
    fn add(&mut self, line: u64, row: Vec<Arg>) {
        if self.rows.is_empty() {
            self.line = line;
        }
        self.bytes +=
            row.iter().map(|value| if let Arg::Text(text) = value { text.len() } else { 8 }).sum::<usize>();
        self.rows.push(row);
    }
}

/// The transaction; on MariaDB one after the other.
struct Work<'d> {
    db: &'d Db,
    tx: Tx,
    apart: bool,
    since: usize,
}

impl Work<'_> {
    async fn exec(&mut self, sql: String) -> Result<(), BackupError> {
        self.tx.exec(AssertSqlSafe(sql), vec![]).await?;
        Ok(())
    }

    /// Applies steps of the schema and notes them as the migrator does.
    async fn build(&mut self, from: i64, to: i64) -> Result<(), BackupError> {
        let dialect = self.tx.dialect();
        for sql in migrate::texts(dialect, from, to) {
            self.tx.script(sql).await?;
        }
        for (version, name, checksum) in migrate::applied(dialect, to).filter(|step| step.0 > from) {
            let bytes = match dialect {
                Dialect::Postgres => format!("decode('{checksum}', 'hex')"),
                Dialect::Sqlite | Dialect::Mysql => format!("x'{checksum}'"),
            };
            let sql = format!(
                "INSERT INTO {} (version, description, success, checksum, execution_time) VALUES ({version}, '{name}', TRUE, {bytes}, 0)",
                migrate::APPLIED
            );
            self.exec(sql).await?;
        }
        Ok(())
    }

    async fn send(&mut self, batch: &mut Batch) -> Result<(), BackupError> {
        let rows = std::mem::take(&mut batch.rows);
        batch.bytes = 0;
        if rows.is_empty() {
            return Ok(());
        }
        self.since += rows.len();
        let columns: Vec<&str> = batch.columns.iter().map(String::as_str).collect();
        let (table, line) = (batch.table.clone(), batch.line);
        let refused = |source| BackupError::Row { table, line, source: Box::new(source) };
        self.tx.insert_rows(&batch.table, &columns, rows).await.map_err(refused)?;
        if self.since >= ROWS_PER_COMMIT { self.part().await } else { Ok(()) }
    }

    /// Where transactions are kept small, this one ends and the next begins.
    async fn part(&mut self) -> Result<(), BackupError> {
        if self.apart {
            self.since = 0;
            std::mem::replace(&mut self.tx, Tx::begin(self.db).await?).commit().await?;
        }
        Ok(())
    }
}

/// Where the key goes; `None`: nowhere, or it lies there.
fn key_to_write(backup: &Backup, how: &Restore) -> Result<Option<PathBuf>, BackupError> {
    let Some(key) = backup.secrets_key.as_ref().filter(|_| !how.without_key) else { return Ok(None) };
    let path = how.secrets_key.clone().ok_or(BackupError::NoPlaceForKey)?;
    match std::fs::read(&path).map(zeroize::Zeroizing::new) {
        Ok(there) if key_of(&there).is_some_and(|there| there.as_slice() == key.as_slice()) => Ok(None),
        Ok(_) => Err(BackupError::OtherKey { path }),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Some(path)),
        Err(error) => Err(Error::Seal(SealError::KeyFile { path, reason: error.to_string() }).into()),
    }
}

/// A file of mode 0600, whole or not at all.
fn put(path: &Path, bytes: &[u8]) -> Result<(), BackupError> {
    let unwritten = |source| BackupError::Unwritten { path: path.to_owned(), source };
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".part-{}", Uuid::new_v4().simple()));
    let part = PathBuf::from(name);
    let written = (|| {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&part)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&part, path)?;
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(folder)?.sync_all()
    })();
    if written.is_err() {
        let _ = std::fs::remove_file(&part);
    }
    written.map_err(unwritten)
}
