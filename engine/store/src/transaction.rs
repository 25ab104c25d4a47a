//! Units of work: short, whole, repeatable. A unit reads and writes the database and nothing else (STYLE 17).

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use rand::Rng;
use sqlx::{AssertSqlSafe, MySql, Postgres, SqlSafeStr, SqlStr};

use crate::bus::Speaker;
use crate::db::{Db, MysqlDb, PostgresDb};
use crate::dialect::{self, Dialect};
use crate::error::{Error, Result};
use crate::group;
use crate::refusal::{classified, classify, classify_commit};
use crate::server::ServerTx;
use crate::sqlite::SqliteTx;
use crate::value::{Arg, Row};
use crate::wire;

/// How often a unit is run in all when others are in the way (DESIGN 3).
pub const ATTEMPTS: u32 = 5;

/// First pause between two runs of a unit; doubles, and half of it is chance, so that two that met do not meet again.
const PAUSE: Duration = Duration::from_millis(10);

/// A transaction that writes. Dropped without [`Tx::commit`], it leaves nothing.
#[derive(Debug)]
pub struct Tx {
    pub(crate) inner: TxKind,
    /// Where there is one, changes are told on the message bus.
    pub(crate) speaker: Option<Arc<Speaker>>,
}

#[derive(Debug)]
pub(crate) enum TxKind {
    Sqlite(SqliteTx),
    Postgres(ServerTx<Postgres>),
    Mysql(ServerTx<MySql>),
}

impl Tx {
    /// Begins a transaction that may write at once.
    pub async fn begin(db: &Db) -> Result<Tx> {
        db.begin_for_write().await
    }

    /// Makes it durable: on SQLite the write-ahead log is synced when this returns.
    ///
    /// # Errors
    /// [`Error::Ambiguous`] when the connection broke before the answer: nobody knows, until it is read back.
    pub async fn commit(self) -> Result<()> {
        match self.inner {
            TxKind::Sqlite(tx) => tx.commit().await.map_err(|error| classify_commit(Dialect::Sqlite, error)),
            TxKind::Postgres(tx) => tx.commit().await,
            TxKind::Mysql(tx) => tx.commit().await,
        }
    }

    /// Whether changes are told on the message bus; what only a message needs is not read where they are not.
    pub fn speaks(&self) -> bool {
        self.speaker.is_some()
    }

    pub(crate) fn dialect(&self) -> Dialect {
        match self.inner {
            TxKind::Sqlite(_) => Dialect::Sqlite,
            TxKind::Postgres(_) => Dialect::Postgres,
            TxKind::Mysql(_) => Dialect::Mysql,
        }
    }

    /// Runs one statement; the answer is how many rows matched.
    pub(crate) async fn exec(&mut self, sql: impl SqlSafeStr, args: Vec<Arg>) -> Result<u64> {
        match &mut self.inner {
            TxKind::Sqlite(tx) => {
                let done = wire::sqlite_query(sql.into_sql_str(), args).execute(&mut **tx).await;
                Ok(done.map_err(|error| classify(Dialect::Sqlite, error))?.rows_affected())
            }
            TxKind::Postgres(tx) => tx.execute(sql.into_sql_str(), args).await,
            TxKind::Mysql(tx) => tx.execute(sql.into_sql_str(), args).await,
        }
    }

    /// Runs statements without arguments, one after the other.
    pub(crate) async fn script(&mut self, sql: &'static str) -> Result<()> {
        match &mut self.inner {
            TxKind::Sqlite(tx) => {
                classified(Dialect::Sqlite, sqlx::raw_sql(sql).execute(&mut **tx).await).map(|_| ())
            }
            TxKind::Postgres(tx) => classified(Dialect::Postgres, tx.run(sql).await),
            TxKind::Mysql(tx) => classified(Dialect::Mysql, tx.run(sql).await),
        }
    }

    /// Inserts rows, a bounded number per statement; every row has one value for each column.
    pub(crate) async fn insert_rows(
        &mut self,
        table: &str,
        columns: &[&str],
        rows: Vec<Vec<Arg>>,
    ) -> Result<()> {
        let mut rows = rows.into_iter().peekable();
        while rows.peek().is_some() {
            let chunk: Vec<Vec<Arg>> = rows.by_ref().take(dialect::ROWS_PER_STATEMENT).collect();
            let sql = dialect::insert(table, columns, chunk.len());
            self.exec(AssertSqlSafe(sql), chunk.into_iter().flatten().collect()).await?;
        }
        Ok(())
    }

    /// Inserts rows, or overwrites the `changed` columns of a row with the same `key` (a column with an id in it, the first of
    /// `columns`). A row that meets another unique key is refused.
    pub(crate) async fn upsert_rows(
        &mut self,
        table: &str,
        key: &str,
        columns: &[&str],
        changed: &[&str],
        rows: Vec<Vec<Arg>>,
    ) -> Result<()> {
        let mut rows = rows.into_iter().peekable();
        while rows.peek().is_some() {
            let chunk: Vec<Vec<Arg>> = rows.by_ref().take(dialect::ROWS_PER_STATEMENT).collect();
            match self.dialect().upsert(table, &[key], columns, changed, chunk.len()) {
                Some(sql) => {
                    self.exec(AssertSqlSafe(sql), chunk.into_iter().flatten().collect()).await?;
                }
                None => self.upsert_by_key(table, key, columns, changed, chunk).await?,
            }
        }
        Ok(())
    }

    /// MySQL's ON DUPLICATE KEY overwrites a row that meets any unique key. So what is there is asked first and updated by its key.
    async fn upsert_by_key(
        &mut self,
        table: &str,
        key: &str,
        columns: &[&str],
        changed: &[&str],
        rows: Vec<Vec<Arg>>,
    ) -> Result<()> {
        let marks = vec!["?"; rows.len()].join(", ");
        let keys = rows.iter().map(|row| row[0].clone()).collect();
        let sql = format!("SELECT {key} FROM {table} WHERE {key} IN ({marks})");
        let there = all(&mut &mut *self, AssertSqlSafe(sql), keys).await?;
        let (old, new): (Vec<_>, Vec<_>) =
            rows.into_iter().partition(|row| there.iter().any(|known| known.values[0] == row[0]));
        self.insert_rows(table, columns, new).await?;
        let set: Vec<String> = changed.iter().map(|column| format!("{column} = ?")).collect();
        let sql = format!("UPDATE {table} SET {} WHERE {key} = ?", set.join(", "));
        for row in old {
            let value = |name: &&str| {
                let place = columns.iter().position(|column| column == name);
                place.map_or(Arg::Null, |place| row[place].clone())
            };
            let values = changed.iter().chain([&key]).map(value).collect();
            self.exec(AssertSqlSafe(sql.clone()), values).await?;
        }
        Ok(())
    }
}

/// Where a read may happen: the pool (`&db`) or inside a transaction (`&mut *tx`).
pub trait Read: Send {
    /// All rows of a query.
    fn rows(&mut self, sql: SqlStr, args: Vec<Arg>) -> impl Future<Output = Result<Vec<Row>>> + Send;
}

impl Read for &Db {
    async fn rows(&mut self, sql: SqlStr, args: Vec<Arg>) -> Result<Vec<Row>> {
        self.read(sql, args).await
    }
}

impl Read for &mut Tx {
    async fn rows(&mut self, sql: SqlStr, args: Vec<Arg>) -> Result<Vec<Row>> {
        match &mut self.inner {
            TxKind::Sqlite(tx) => {
                let rows =
                    classified(Dialect::Sqlite, wire::sqlite_query(sql, args).fetch_all(&mut **tx).await)?;
                classified(Dialect::Sqlite, wire::sqlite_rows(&rows))
            }
            TxKind::Postgres(tx) => tx.rows(sql, args).await,
            TxKind::Mysql(tx) => tx.rows(sql, args).await,
        }
    }
}

pub(crate) async fn all(on: &mut impl Read, sql: impl SqlSafeStr, args: Vec<Arg>) -> Result<Vec<Row>> {
    on.rows(sql.into_sql_str(), args).await
}

pub(crate) async fn first(on: &mut impl Read, sql: impl SqlSafeStr, args: Vec<Arg>) -> Result<Option<Row>> {
    Ok(on.rows(sql.into_sql_str(), args).await?.into_iter().next())
}

/// Runs a unit in one transaction and commits it; when others were in the way, the whole unit again, at most [`ATTEMPTS`] times.
///
/// The unit must not touch the outside world: it may run more than once, each time on a clone. On any error nothing of it
/// remains. On SQLite units that queue for the file share a commit (module `group`); on a server
/// a unit that runs again has this process' writing to itself, so that it meets other processes' units only. (`AsyncFnOnce` and `Clone` rather than `AsyncFn`,
/// because only so the compiler sees that the future is `Send` when the unit borrows from its surroundings.)
pub fn write<T, F: AsyncFnOnce(&mut Tx) -> Result<T> + Clone>(
    db: &Db,
    unit: F,
) -> impl Future<Output = Result<T>> + use<T, F> {
    let db = db.clone();
    async move {
        let mut attempt = 1;
        loop {
            match once(&db, unit.clone(), attempt).await {
                Err(Error::Conflict { source, .. }) if attempt >= ATTEMPTS => {
                    return Err(Error::Conflict { attempts: attempt, source });
                }
                Err(Error::Conflict { .. }) => {
                    tracing::debug!(attempt, "the unit met another writer; it runs again");
                    tokio::time::sleep(pause(attempt)).await;
                    attempt += 1;
                }
                done => return done,
            }
        }
    }
}

fn pause(attempt: u32) -> Duration {
    let half = PAUSE * 2u32.pow(attempt - 1) / 2;
    half + rand::rng().random_range(Duration::ZERO..half)
}

async fn once<T>(db: &Db, unit: impl AsyncFnOnce(&mut Tx) -> Result<T>, attempt: u32) -> Result<T> {
    let _turn = match db {
        Db::Sqlite(sqlite) => return group::run(sqlite, unit).await,
        Db::Postgres(PostgresDb(server)) => server.turn(attempt).await,
        Db::Mysql(MysqlDb(server)) => server.turn(attempt).await,
    };
    let mut tx = db.begin_for_write().await?;
    let done = unit(&mut tx).await?;
    tx.commit().await?;
    Ok(done)
}
