//! The schema's steps, built into the program. On SQLite they run when the database is opened; the shared databases are
//! migrated by one explicit command.

use std::borrow::Cow;

use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::{SqlStr, SqlitePool};

use crate::dialect::classify;
use crate::error::{Error, Result};

/// Number, name and text of each step, oldest first. A released step is never edited: its checksum stands in every database.
const SQLITE: &[(i64, &str, &str)] =
    &[(1, "initial", include_str!("../../../migrations/sqlite/0001_initial.sql"))];

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

/// Beside a running engine nothing is changed; its schema must be ours.
pub(crate) async fn check(pool: &SqlitePool) -> Result<()> {
    let applied: i64 = sqlx::query_scalar("SELECT MAX(version) FROM _sqlx_migrations")
        .fetch_one(pool)
        .await
        .map_err(classify)?;
    let ours = SQLITE.last().map_or(0, |step| step.0);
    if applied == ours {
        return Ok(());
    }
    Err(Error::Migrate(sqlx::migrate::MigrateError::VersionTooNew(applied, ours)))
}
