//! The schema's steps, built into the program. On SQLite they run when the database is opened; the shared databases are
//! migrated by one explicit command.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::time::Duration;

use sqlx::migrate::{MigrateError, Migration, MigrationType, Migrator};
use sqlx::{SqlStr, SqlitePool};

use crate::dialect::classify;
use crate::error::{Error, Result};

/// Number, name and text of each step, oldest first. A released step is never edited: its checksum stands in every database.
const SQLITE: &[(i64, &str, &str)] = &[
    (1, "initial", include_str!("../../../migrations/sqlite/0001_initial.sql")),
    (2, "bus", include_str!("../../../migrations/sqlite/0002_bus.sql")),
    (3, "hooks", include_str!("../../../migrations/sqlite/0003_hooks.sql")),
];

fn sqlite() -> Migrator {
    let steps = SQLITE.iter().map(|&(version, name, sql)| {
        Migration::new(version, Cow::Borrowed(name), MigrationType::Simple, SqlStr::from_static(sql), false)
    });
    Migrator::with_migrations(steps.collect())
}

/// Applies what is missing. A database that a newer version migrated is refused, as is one whose applied steps differ.
pub(crate) async fn run(pool: &SqlitePool) -> Result<()> {
    let mut connection = pool.acquire().await.map_err(classify)?;
    sqlite().run(&mut *connection).await.map_err(Error::Migrate)
}

/// Beside a running engine nothing is changed; its schema must be ours. An engine that is just starting may still be at it.
pub(crate) async fn check(pool: &SqlitePool) -> Result<()> {
    let ours = SQLITE.last().map_or(0, |step| step.0);
    let mut applied = 0;
    for _ in 0..50 {
        applied = newest(pool).await?;
        if applied >= ours {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    match applied.cmp(&ours) {
        Ordering::Equal => Ok(()),
        Ordering::Less => Err(Error::Migrate(MigrateError::VersionTooOld(applied, ours))),
        Ordering::Greater => Err(Error::Migrate(MigrateError::VersionTooNew(applied, ours))),
    }
}

/// The newest step applied; 0 for an empty database.
async fn newest(pool: &SqlitePool) -> Result<i64> {
    let table = "SELECT COUNT(*) FROM sqlite_master WHERE name = '_sqlx_migrations'";
    let tables: i64 = sqlx::query_scalar(table).fetch_one(pool).await.map_err(classify)?;
    if tables == 0 {
        return Ok(0);
    }
    let newest = "SELECT COALESCE(MAX(version), 0) FROM _sqlx_migrations WHERE success = 1";
    sqlx::query_scalar(newest).fetch_one(pool).await.map_err(classify)
}
