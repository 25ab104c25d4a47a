//! Opening the database that a URL names, and what can be asked of any of the three.

use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use sqlx::{MySql, Postgres, SqlStr};

use crate::bus::Speaker;
use crate::dialect::Dialect;
use crate::durability::{Durability, Finding};
use crate::error::{Error, Result};
use crate::server::{Server, mysql, postgres};
use crate::sqlite::Sqlite;
use crate::transaction::{Tx, TxKind};
use crate::value::{Arg, Row};

/// How an SQLite file is shared. The servers are shared by any number of engines, whichever of the two is asked for.
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
    /// SQLite: how long a writer waits for one of another process.
    pub busy_timeout: Duration,
    /// SQLite: connections that read.
    pub readers: u32,
    /// SQLite: the most pages the file may have; `None`: the disk decides.
    pub max_pages: Option<u32>,
    /// The servers: most connections of this process.
    pub connections: u32,
    /// The servers: how long one waits for a free connection.
    pub acquire: Duration,
    /// The servers: how their settings are met.
    pub durability: Durability,
}

impl Options {
    pub fn new(access: Access) -> Options {
        Options {
            access,
            // 5 s outlasts any unit of ours and a checkpoint; 4 readers keep lists and the event stream from waiting on each other.
            busy_timeout: Duration::from_secs(5),
            readers: 4,
            max_pages: None,
            // Units hold a connection for a few round trips, so 16 serve thousands a second; three engines and three APIs then stay
            // below the hundred (PostgreSQL) and the 151 (MariaDB) that servers allow by default.
            connections: 16,
            // An engine's lease is 10 s (balanced): who waited half of it should know that it cannot renew.
            acquire: Duration::from_secs(5),
            durability: Durability::Strict,
        }
    }
}

/// The database, cheap to clone.
#[derive(Clone, Debug)]
pub enum Db {
    Sqlite(Arc<Sqlite>),
    Postgres(PostgresDb),
    Mysql(MysqlDb),
}

/// Connections to a PostgreSQL server.
#[derive(Clone, Debug)]
pub struct PostgresDb(pub(crate) Arc<Server<Postgres>>);

/// Connections to a MariaDB or MySQL server, or a Galera cluster.
#[derive(Clone, Debug)]
pub struct MysqlDb(pub(crate) Arc<Server<MySql>>);

impl Db {
    /// Opens `sqlite:PATH` (created if missing, its schema brought up to date), `postgres://..` or `mysql://..` (also
    /// `postgresql://`, `mariadb://`), whose schema [`crate::migrate::migrate`] makes.
    ///
    /// # Errors
    /// [`Error::Url`], [`Error::Locked`] when another engine holds the file, [`Error::Unavailable`] for a server that cannot be
    /// reached or must not be used, [`Error::NotDurable`], [`Error::Schema`].
    pub async fn open(url: &str, access: Access) -> Result<Db> {
        Db::open_with(url, Options::new(access)).await
    }

    /// [`Db::open`] with every option.
    pub async fn open_with(url: &str, options: Options) -> Result<Db> {
        match dialect_of(url)? {
            Dialect::Sqlite => Ok(Db::Sqlite(Arc::new(Sqlite::open(url, &options).await?))),
            Dialect::Postgres => {
                let connect = postgres::options(url).map_err(|reason| refused(url, reason))?;
                Ok(Db::Postgres(PostgresDb(Arc::new(Server::open(connect, &options).await?))))
            }
            Dialect::Mysql => {
                let connect = mysql::options(url).map_err(|reason| refused(url, reason))?;
                Ok(Db::Mysql(MysqlDb(Arc::new(Server::open(connect, &options).await?))))
            }
        }
    }

    /// Whether no other engine can be at work here: former leases need not be waited out (DESIGN 3). Never so on a server.
    pub fn holds_exclusive_lock(&self) -> bool {
        match self {
            Db::Sqlite(sqlite) => sqlite.holds_lock(),
            Db::Postgres(_) | Db::Mysql(_) => false,
        }
    }

    /// The file, where the database is one; the key lies beside it.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Db::Sqlite(sqlite) => Some(sqlite.path()),
            Db::Postgres(_) | Db::Mysql(_) => None,
        }
    }

    pub(crate) fn speaker(&self) -> &OnceLock<Arc<Speaker>> {
        match self {
            Db::Sqlite(sqlite) => &sqlite.speaker,
            Db::Postgres(PostgresDb(server)) => &server.speaker,
            Db::Mysql(MysqlDb(server)) => &server.speaker,
        }
    }

    pub fn dialect(&self) -> Dialect {
        match self {
            Db::Sqlite(_) => Dialect::Sqlite,
            Db::Postgres(_) => Dialect::Postgres,
            Db::Mysql(_) => Dialect::Mysql,
        }
    }

    /// Waits for statements under way and closes every connection; dropping it does so without waiting.
    pub async fn close(&self) {
        match self {
            Db::Sqlite(sqlite) => sqlite.close().await,
            Db::Postgres(PostgresDb(server)) => server.close().await,
            Db::Mysql(MysqlDb(server)) => server.close().await,
        }
    }

    /// Proves that the database answers and takes writes.
    pub async fn ping(&self) -> Result<()> {
        match self {
            // Beginning to write finds a file that was lost or made read-only; an empty commit changes nothing.
            Db::Sqlite(_) => Tx::begin(self).await?.commit().await,
            Db::Postgres(PostgresDb(server)) => server.ping().await,
            Db::Mysql(MysqlDb(server)) => server.ping().await,
        }
    }

    /// How many connections were made so far. Each may lead to another server than the one before, or to one that has lost something
    /// since: who relies on what it remembers compares afresh when this has grown. SQLite's file is the same as long as it is open.
    pub fn connections(&self) -> u64 {
        match self {
            Db::Sqlite(_) => 1,
            Db::Postgres(PostgresDb(server)) => server.connections(),
            Db::Mysql(MysqlDb(server)) => server.connections(),
        }
    }

    /// Settings of the server that could be better; for readiness and `halberd doctor`. None of SQLite's: we make them ourselves.
    pub async fn findings(&self) -> Result<Vec<Finding>> {
        match self {
            Db::Sqlite(_) => Ok(Vec::new()),
            Db::Postgres(PostgresDb(server)) => server.findings().await,
            Db::Mysql(MysqlDb(server)) => server.findings().await,
        }
    }

    /// A view of one moment, for reads that must agree with each other. Writers go on beside it; it cannot write.
    pub async fn snapshot(&self) -> Result<Tx> {
        let begin = self.dialect().begin_snapshot();
        let inner = match self {
            Db::Sqlite(sqlite) => TxKind::Sqlite(sqlite.snapshot().await?),
            Db::Postgres(PostgresDb(server)) => TxKind::Postgres(server.begin(begin).await?),
            Db::Mysql(MysqlDb(server)) => TxKind::Mysql(server.begin(begin).await?),
        };
        Ok(Tx { inner, speaker: None })
    }

    pub(crate) async fn begin_for_write(&self) -> Result<Tx> {
        let begin = self.dialect().begin_for_write();
        let inner = match self {
            Db::Sqlite(sqlite) => TxKind::Sqlite(sqlite.begin_for_write().await?),
            Db::Postgres(PostgresDb(server)) => TxKind::Postgres(server.begin(begin).await?),
            Db::Mysql(MysqlDb(server)) => TxKind::Mysql(server.begin(begin).await?),
        };
        Ok(Tx { inner, speaker: self.speaker().get().cloned() })
    }

    pub(crate) async fn read(&self, sql: SqlStr, args: Vec<Arg>) -> Result<Vec<Row>> {
        match self {
            Db::Sqlite(sqlite) => sqlite.read(sql, args).await,
            Db::Postgres(PostgresDb(server)) => server.read(sql, args).await,
            Db::Mysql(MysqlDb(server)) => server.read(sql, args).await,
        }
    }
}

/// Which database a URL names.
pub(crate) fn dialect_of(url: &str) -> Result<Dialect> {
    match url.split(':').next().unwrap_or_default() {
        "sqlite" => Ok(Dialect::Sqlite),
        "postgres" | "postgresql" => Ok(Dialect::Postgres),
        "mysql" | "mariadb" => Ok(Dialect::Mysql),
        _ => {
            let reason = "write sqlite:PATH (for instance sqlite:halberd.db), postgres://USER:PASSWORD@HOST/DATABASE or \
                          mysql://USER:PASSWORD@HOST/DATABASE";
            Err(refused(url, reason.to_owned()))
        }
    }
}

/// Without what may be a password.
pub(crate) fn refused(url: &str, reason: String) -> Error {
    let shown = url.split_once("://").map_or(url, |(scheme, _)| scheme);
    Error::Url { url: shown.to_owned(), reason }
}
