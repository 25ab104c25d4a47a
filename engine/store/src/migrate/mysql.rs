//! Migrating MariaDB and MySQL, which commit at each statement of a schema, and Galera, whose nodes share no lock: `GET_LOCK` was given
//! by two nodes at once. So who migrates holds a row, renewed while he works, and who finds it held watches it: unchanged for the
//! lease on the watcher's own clock, its holder is gone.

use std::time::{Duration, Instant};

use sqlx::migrate::MigrateError;
use sqlx::mysql::MySqlConnectOptions;
use sqlx::{AssertSqlSafe, Connection, MySql, MySqlConnection, SqlSafeStr};
use tokio::task::JoinHandle;
use uuid::Uuid;

use super::{apply, newest, told};
use crate::dialect::Dialect;
use crate::error::{Error, Result};
use crate::refusal::{classified, classify};
use crate::server::{self, Driver};
use crate::value::{Arg, Row, args};

/// A step stops the whole cluster's writes while it runs, the holder's renewals among them: a minute is longer than any step of ours
/// takes on tables that retention keeps small.
const LEASE: Duration = Duration::from_secs(60);
const RENEW: Duration = Duration::from_secs(5);
const LOOK: Duration = Duration::from_millis(250);

const TABLE: &str = "CREATE TABLE IF NOT EXISTS _halberd_migrating (num BIGINT PRIMARY KEY, owner VARCHAR(36) NOT NULL, \
                     counter BIGINT NOT NULL) ENGINE = InnoDB";

/// Migrates; the answer is the step before.
pub(super) async fn migrate(options: MySqlConnectOptions, ours: i64) -> Result<i64> {
    let mut connection = server::connect::<MySql>(options.clone()).await?;
    compare_by_bytes(&mut connection).await?;
    run(&mut connection, TABLE).await?;
    let held = Held::take(&mut connection, &options).await?;
    let before = newest::<MySql>(&mut connection).await?;
    let done = again_if_interrupted(&mut connection).await.map_err(|error| told(error, before, ours));
    held.give_back(&mut connection).await?;
    let _ = connection.close().await;
    done.map(|()| before)
}

async fn run(connection: &mut MySqlConnection, sql: &'static str) -> Result<()> {
    classified(Dialect::Mysql, MySql::run(connection, sql).await)
}

async fn rows(connection: &mut MySqlConnection, sql: &'static str, values: Vec<Arg>) -> Result<Vec<Row>> {
    classified(Dialect::Mysql, MySql::fetch(connection, sql.into_sql_str(), values).await)
}

/// Every step can be run again from its beginning, so one that was interrupted is.
async fn again_if_interrupted(connection: &mut MySqlConnection) -> std::result::Result<(), MigrateError> {
    match apply(connection, Dialect::Mysql).await {
        Err(MigrateError::Dirty(step)) => {
            tracing::warn!(step, "a migration was interrupted at this step; it runs again");
            MySql::run(connection, "DELETE FROM _sqlx_migrations WHERE success = FALSE").await?;
            apply(connection, Dialect::Mysql).await
        }
        done => done,
    }
}

/// Text compares and sorts by its bytes, a trailing space counts: as on SQLite. The tables take the database's collation; MariaDB and
/// MySQL name theirs differently, which is why the steps do not.
async fn compare_by_bytes(connection: &mut MySqlConnection) -> Result<()> {
    let ask = "SELECT COLLATION_NAME AS name, DATABASE() AS here, @@collation_database AS now FROM information_schema.COLLATIONS \
               WHERE COLLATION_NAME IN ('utf8mb4_nopad_bin', 'utf8mb4_0900_bin')";
    let found = rows(connection, ask, vec![]).await?;
    let Some(row) = found.first() else {
        return Err(Error::Unavailable {
            reason: "it knows no utf8mb4 collation by bytes without padding; use MariaDB 10.5 or MySQL 8.0.17, or later ones",
            source: None,
        });
    };
    let row = row.of("COLLATIONS", "name");
    let (name, here) = (row.text("name")?, row.text("here")?);
    if row.text("now")? == name {
        return Ok(());
    }
    let sql = format!("ALTER DATABASE `{}` CHARACTER SET utf8mb4 COLLATE {name}", here.replace('`', "``"));
    let done = MySql::execute(connection, AssertSqlSafe(sql).into_sql_str(), Vec::new()).await;
    classified(Dialect::Mysql, done.map(|_| ()))
}

/// The row of who migrates.
struct Held {
    owner: Uuid,
    renewing: JoinHandle<()>,
}

/// A migration that was given up half way must not be renewed for ever: others would wait for it.
impl Drop for Held {
    fn drop(&mut self) {
        self.renewing.abort();
    }
}

impl Held {
    async fn take(connection: &mut MySqlConnection, options: &MySqlConnectOptions) -> Result<Held> {
        let owner = Uuid::new_v4();
        let mut seen: Option<((String, i64), Instant)> = None;
        loop {
            let look = "SELECT owner, counter FROM _halberd_migrating WHERE num = 1";
            let now = rows(connection, look, vec![]).await?;
            let row = now.first().map(|row| row.of("_halberd_migrating", "owner"));
            let taken = match row
                .map(|row| Ok::<_, Error>((row.string("owner")?, row.int("counter")?)))
                .transpose()?
            {
                None => {
                    let sql = "INSERT INTO _halberd_migrating (num, owner, counter) VALUES (1, ?, 0)";
                    execute(connection, sql, args![owner]).await?
                }
                Some(holder) => match &seen {
                    Some((before, since)) if *before == holder && since.elapsed() >= LEASE => {
                        let sql = "UPDATE _halberd_migrating SET owner = ?, counter = counter + 1 \
                                   WHERE num = 1 AND owner = ? AND counter = ?";
                        execute(connection, sql, args![owner, holder.0, holder.1]).await?
                    }
                    Some((before, _)) if *before == holder => false,
                    _ => {
                        if seen.is_none() {
                            tracing::info!("another migration of this database is under way; waiting for it");
                        }
                        seen = Some((holder, Instant::now()));
                        false
                    }
                },
            };
            if taken {
                let renewing = tokio::spawn(renew(options.clone(), owner));
                return Ok(Held { owner, renewing });
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn give_back(self, connection: &mut MySqlConnection) -> Result<()> {
        self.renewing.abort();
        execute(connection, "DELETE FROM _halberd_migrating WHERE num = 1 AND owner = ?", args![self.owner])
            .await?;
        Ok(())
    }
}

/// Whether one row was met; another's being faster, by key or by Galera's certification, is no error.
async fn execute(connection: &mut MySqlConnection, sql: &'static str, values: Vec<Arg>) -> Result<bool> {
    match MySql::execute(connection, sql.into_sql_str(), values).await {
        Ok(matched) => Ok(matched == 1),
        Err(error) => match classify(Dialect::Mysql, error) {
            Error::Conflict { .. } | Error::Duplicate { .. } => Ok(false),
            other => Err(other),
        },
    }
}

async fn renew(options: MySqlConnectOptions, owner: Uuid) {
    let Ok(mut connection) = server::connect::<MySql>(options).await else { return };
    loop {
        tokio::time::sleep(RENEW).await;
        let sql = "UPDATE _halberd_migrating SET counter = counter + 1 WHERE num = 1 AND owner = ?";
        if let Err(error) = execute(&mut connection, sql, args![owner]).await {
            tracing::warn!(%error, "the migration's lease was not renewed");
        }
    }
}
