//! PostgreSQL and MariaDB/MySQL: a pool, and transactions that end whatever happens.
//!
//! Any of these connections may be dead without knowing it (a failover, a partition). So every statement has a deadline, a
//! connection that missed one is closed and not used again, and what a pool cannot say (why nobody gave it a connection) is found
//! out by one connection of its own.

pub(crate) mod mysql;
pub(crate) mod postgres;

use std::fmt;
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use sqlx::pool::{PoolConnection, PoolOptions};
use sqlx::{Connection, Database, Pool, SqlStr};
use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};
use tokio::time::timeout;

use crate::bus::Speaker;
use crate::db::Options;
use crate::dialect::Dialect;
use crate::durability::{Durability, Finding};
use crate::error::{Error, Result};
use crate::migrate;
use crate::refusal::{FOREIGN, classify, classify_commit, is_stale_plan};
use crate::value::{Arg, Row};

/// Longest wait for one statement's answer. A lock is waited for 5 s (the sessions say so) and a flush takes a second when the disk
/// is busy; who is silent for longer is gone, and an engine must know that before its lease runs out on others' clocks.
const ANSWER: Duration = Duration::from_secs(15);
/// Longest wait for a login, TLS included.
const LOGIN: Duration = Duration::from_secs(10);
/// A connection idle for so long is tried out before it is used; a younger one is trusted, as the try costs a round trip.
const FRESH: Duration = Duration::from_secs(1);
/// A rollback that takes longer is left to the server, which rolls back when its connection closes.
const FAREWELL: Duration = Duration::from_secs(5);

/// What differs between the drivers of two servers.
pub(crate) trait Driver: Database {
    const DIALECT: Dialect;

    fn fetch(
        connection: &mut Self::Connection,
        sql: SqlStr,
        args: Vec<Arg>,
    ) -> impl Future<Output = sqlx::Result<Vec<Row>>> + Send;

    /// Runs a statement; the answer is how many rows matched.
    fn execute(
        connection: &mut Self::Connection,
        sql: SqlStr,
        args: Vec<Arg>,
    ) -> impl Future<Output = sqlx::Result<u64>> + Send;

    /// Runs a statement without arguments that is not worth preparing.
    fn run(
        connection: &mut Self::Connection,
        sql: &'static str,
    ) -> impl Future<Output = sqlx::Result<()>> + Send;

    /// Makes a new connection ready, or says why this server must not be used.
    fn settle(connection: &mut Self::Connection) -> impl Future<Output = sqlx::Result<()>> + Send;

    /// Says why a database must not be opened, though its server may be used.
    fn refuse(_connection: &mut Self::Connection) -> impl Future<Output = Result<()>> + Send {
        std::future::ready(Ok(()))
    }

    /// Every setting that could be better.
    fn findings(connection: &mut Self::Connection)
    -> impl Future<Output = sqlx::Result<Vec<Finding>>> + Send;
}

pub(crate) type ConnectOptions<D> = <<D as Database>::Connection as Connection>::Options;

/// A server and the connections to it.
pub(crate) struct Server<D: Driver> {
    pool: Pool<D>,
    options: ConnectOptions<D>,
    /// Units share it; one that met others has it alone when it runs again, so that units of this process meet once.
    turn: RwLock<()>,
    /// Set once, where changes are told on the message bus.
    pub(crate) speaker: OnceLock<Arc<Speaker>>,
    connected: Arc<AtomicU64>,
}

impl<D: Driver> fmt::Debug for Server<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("dialect", &D::DIALECT)
            .field("pool", &self.pool)
            .finish_non_exhaustive()
    }
}

/// Whose turn it is; held while a unit runs.
#[derive(Debug)]
pub(crate) enum Turn<'s> {
    Shared { _with_others: RwLockReadGuard<'s, ()> },
    Alone { _alone: RwLockWriteGuard<'s, ()> },
}

impl<D: Driver> Server<D> {
    /// Connects, and refuses a server that must not be used: a standby, one that forgets, one with another schema.
    pub(crate) async fn open(options: ConnectOptions<D>, how: &Options) -> Result<Server<D>> {
        let mut first = connect::<D>(options.clone()).await?;
        D::refuse(&mut first).await?;
        if how.durability == Durability::Strict {
            let findings = answered::<D, _>(D::findings(&mut first)).await?;
            let (fatal, others): (Vec<_>, Vec<_>) = findings.into_iter().partition(|finding| finding.fatal);
            if !fatal.is_empty() {
                return Err(Error::NotDurable(fatal));
            }
            for finding in others {
                tracing::warn!("the database server: {finding}");
            }
        }
        migrate::check_server::<D>(&mut first).await?;
        let _ = timeout(FAREWELL, first.close()).await;
        Ok(Server::unasked(options, how))
    }

    /// Connections to a server that was not asked whether it may be used; each asks when it is made.
    pub(crate) fn unasked(options: ConnectOptions<D>, how: &Options) -> Server<D> {
        let connected = Arc::new(AtomicU64::new(0));
        let pool = PoolOptions::<D>::new()
            .max_connections(how.connections.max(2))
            .acquire_timeout(how.acquire)
            .idle_timeout(Duration::from_secs(600))
            .max_lifetime(Duration::from_secs(3600))
            .test_before_acquire(false)
            .before_acquire(|connection, meta| {
                Box::pin(async move {
                    if meta.idle_for >= FRESH {
                        connection.ping().await?;
                    }
                    Ok(true)
                })
            })
            .after_connect({
                let connected = connected.clone();
                move |connection, _| {
                    connected.fetch_add(1, Ordering::AcqRel);
                    Box::pin(D::settle(connection))
                }
            })
            .connect_lazy_with(options.clone());
        Server { pool, options, turn: RwLock::new(()), speaker: OnceLock::new(), connected }
    }
}

impl<D: Driver> Server<D> {
    pub(crate) async fn turn(&self, attempt: u32) -> Turn<'_> {
        match attempt {
            1 => Turn::Shared { _with_others: self.turn.read().await },
            _ => Turn::Alone { _alone: self.turn.write().await },
        }
    }

    pub(crate) async fn read(&self, sql: SqlStr, args: Vec<Arg>) -> Result<Vec<Row>> {
        let mut left = self.pool.options().get_max_connections();
        loop {
            let mut connection = self.acquire().await?;
            let rows = in_time(D::fetch(&mut connection, sql.clone(), args.clone())).await;
            if rows.as_ref().is_err_and(is_broken) {
                connection.close_on_drop();
            }
            match rows {
                // Each connection of the pool may know such a plan, and is met with it once.
                Err(error) if is_stale_plan(&error) && left > 0 => left -= 1,
                rows => return rows.map_err(|error| classify(D::DIALECT, error)),
            }
        }
    }

    pub(crate) async fn begin(&self, sql: &'static str) -> Result<ServerTx<D>> {
        let mut tx = ServerTx { connection: Some(self.acquire().await?), spoiled: false };
        tx.run(sql).await.map_err(|error| classify(D::DIALECT, error))?;
        Ok(tx)
    }

    /// Every setting that could be better.
    pub(crate) async fn findings(&self) -> Result<Vec<Finding>> {
        let mut connection = self.acquire().await?;
        let found = in_time(D::findings(&mut connection)).await;
        if found.as_ref().is_err_and(is_broken) {
            connection.close_on_drop();
        }
        found.map_err(|error| classify(D::DIALECT, error))
    }

    /// Proves that the server may still be used: the same questions as at a connection's start.
    pub(crate) async fn ping(&self) -> Result<()> {
        let mut connection = self.acquire().await?;
        let done = in_time(D::settle(&mut connection)).await;
        if done.is_err() {
            connection.close_on_drop();
        }
        done.map_err(|error| classify(D::DIALECT, error))
    }

    /// How many connections the pool has made so far.
    pub(crate) fn connections(&self) -> u64 {
        self.connected.load(Ordering::Acquire)
    }

    pub(crate) async fn close(&self) {
        self.pool.close().await;
    }

    async fn acquire(&self) -> Result<PoolConnection<D>> {
        match self.pool.acquire().await {
            // The pool tried until its time was over and does not say what it met.
            Err(sqlx::Error::PoolTimedOut) => match connect::<D>(self.options.clone()).await {
                Err(why) => Err(why),
                Ok(connection) => {
                    let _ = timeout(FAREWELL, connection.close()).await;
                    Err(classify(D::DIALECT, sqlx::Error::PoolTimedOut))
                }
            },
            acquired => acquired.map_err(|error| classify(D::DIALECT, error)),
        }
    }
}

/// One connection outside the pool, ready for use.
pub(crate) async fn connect<D: Driver>(options: ConnectOptions<D>) -> Result<D::Connection> {
    let late = |_| sqlx::Error::Io(std::io::ErrorKind::TimedOut.into());
    let connected = timeout(LOGIN, <D::Connection as Connection>::connect_with(&options)).await;
    let mut connection = match connected.map_err(late).and_then(|done| done) {
        Ok(connection) => connection,
        // Before the login anything may answer: a port is soon mistyped.
        Err(error @ (sqlx::Error::Protocol(_) | sqlx::Error::Decode(_))) => {
            return Err(Error::Unavailable { reason: FOREIGN, source: Some(error) });
        }
        Err(error) => return Err(classify(D::DIALECT, error)),
    };
    answered::<D, _>(D::settle(&mut connection)).await?;
    Ok(connection)
}

async fn answered<D: Driver, T>(work: impl Future<Output = sqlx::Result<T>>) -> Result<T> {
    in_time(work).await.map_err(|error| classify(D::DIALECT, error))
}

async fn in_time<T>(work: impl Future<Output = sqlx::Result<T>>) -> sqlx::Result<T> {
    match timeout(ANSWER, work).await {
        Ok(done) => done,
        Err(_) => Err(sqlx::Error::Io(std::io::ErrorKind::TimedOut.into())),
    }
}

/// Whether the connection is of no use any more.
fn is_broken(error: &sqlx::Error) -> bool {
    is_stale_plan(error)
        || !matches!(
            error,
            sqlx::Error::Database(_) | sqlx::Error::Decode(_) | sqlx::Error::ColumnDecode { .. }
        )
}

/// A transaction on a connection of its own. Dropped, it rolls back and its connection returns to the pool, or is closed.
pub(crate) struct ServerTx<D: Driver> {
    /// `None` once it ended.
    connection: Option<PoolConnection<D>>,
    /// A statement failed. PostgreSQL answers the COMMIT of such a transaction with success and rolls back; MariaDB may have rolled
    /// back already and would commit what came after.
    spoiled: bool,
}

impl<D: Driver> fmt::Debug for ServerTx<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerTx")
            .field("dialect", &D::DIALECT)
            .field("spoiled", &self.spoiled)
            .finish_non_exhaustive()
    }
}

impl<D: Driver> ServerTx<D> {
    pub(crate) async fn rows(&mut self, sql: SqlStr, args: Vec<Arg>) -> Result<Vec<Row>> {
        let connection = self.connection.as_mut().ok_or_else(ended)?;
        let done = in_time(D::fetch(connection, sql, args)).await;
        self.noted(done).map_err(|error| classify(D::DIALECT, error))
    }

    pub(crate) async fn execute(&mut self, sql: SqlStr, args: Vec<Arg>) -> Result<u64> {
        let connection = self.connection.as_mut().ok_or_else(ended)?;
        let done = in_time(D::execute(connection, sql, args)).await;
        self.noted(done).map_err(|error| classify(D::DIALECT, error))
    }

    /// Makes it durable: the server has it on disk, and where it replicates synchronously its standbys too, when this returns.
    pub(crate) async fn commit(mut self) -> Result<()> {
        if self.spoiled {
            return Err(Error::Database(sqlx::Error::Protocol(
                "a unit went on after one of its statements had failed; nothing of it was committed".into(),
            )));
        }
        self.run("COMMIT").await.map_err(|error| classify_commit(D::DIALECT, error))?;
        // Ended: nothing is left to roll back.
        self.connection = None;
        Ok(())
    }

    pub(crate) async fn run(&mut self, sql: &'static str) -> sqlx::Result<()> {
        let Some(connection) = self.connection.as_mut() else { return Err(sqlx::Error::WorkerCrashed) };
        let done = in_time(D::run(connection, sql)).await;
        self.noted(done)
    }

    fn noted<T>(&mut self, done: sqlx::Result<T>) -> sqlx::Result<T> {
        if let Err(error) = &done {
            self.spoiled = true;
            if is_broken(error)
                && let Some(mut connection) = self.connection.take()
            {
                connection.close_on_drop();
            }
        }
        done
    }
}

fn ended() -> Error {
    Error::Unavailable { reason: "the connection failed", source: None }
}

impl<D: Driver> Drop for ServerTx<D> {
    fn drop(&mut self) {
        let Some(mut connection) = self.connection.take() else { return };
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => {
                runtime.spawn(async move {
                    let rolled_back = timeout(FAREWELL, D::run(&mut connection, "ROLLBACK")).await;
                    if !matches!(rolled_back, Ok(Ok(()))) {
                        connection.close_on_drop();
                    }
                });
            }
            // No runtime to talk in: the socket closes, and the server rolls back.
            Err(_) => drop(connection.detach()),
        }
    }
}

/// The statements of a driver: the same text for each, as the drivers share no trait that says so briefly.
macro_rules! statements {
    ($query:path, $rows:path) => {
        async fn fetch(
            connection: &mut Self::Connection,
            sql: sqlx::SqlStr,
            args: Vec<$crate::value::Arg>,
        ) -> sqlx::Result<Vec<$crate::value::Row>> {
            $rows(&$query(sql, args).fetch_all(connection).await?)
        }

        async fn execute(
            connection: &mut Self::Connection,
            sql: sqlx::SqlStr,
            args: Vec<$crate::value::Arg>,
        ) -> sqlx::Result<u64> {
            Ok($query(sql, args).execute(connection).await?.rows_affected())
        }

        async fn run(connection: &mut Self::Connection, sql: &'static str) -> sqlx::Result<()> {
            sqlx::raw_sql(sql).execute(connection).await.map(|_| ())
        }
    };
}
pub(crate) use statements;
