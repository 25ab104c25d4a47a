//! The schema's steps, built into the program. On SQLite they run when the database is opened. On the servers, which several programs
//! share, they run by one explicit command ([`migrate`]), and a program whose schema is another's refuses to start.

mod mysql;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::cmp::Ordering;
use std::time::Duration;

use sqlx::migrate::{Migrate, MigrateError, Migration, MigrationType};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{Connection, Postgres, SqlSafeStr, SqlStr, SqlitePool};

use crate::db::{Access, Db, dialect_of, refused};
use crate::dialect::Dialect;
use crate::error::{Error, Result};
use crate::refusal::{classified, classify};
use crate::server::{self, Driver};
use crate::sqlite::sqlite_path;

/// Number, name and text of each step, oldest first. A released step is never edited: its checksum stands in every database.
type Step = (i64, &'static str, &'static str);

/// The same names in three folders: each step has its twins.
macro_rules! steps {
    ($($number:literal $name:literal $file:literal),+ $(,)?) => {
        const SQLITE: &[Step] = &[$(($number, $name, include_str!(concat!("../../../../migrations/sqlite/", $file)))),+];
        const POSTGRES: &[Step] =
            &[$(($number, $name, include_str!(concat!("../../../../migrations/postgres/", $file)))),+];
        const MYSQL: &[Step] = &[$(($number, $name, include_str!(concat!("../../../../migrations/mysql/", $file)))),+];
    };
}
steps!(
    1 "initial" "0001_initial.sql",
    2 "bus" "0002_bus.sql",
    3 "hooks" "0003_hooks.sql",
    4 "fencing" "0004_fencing.sql",
    5 "stranded" "0005_stranded.sql",
);

const OLDER: &str = "it is older than this program; run `halberd db migrate` of this version";
const NEWER: &str =
    "a newer version migrated it; run that version, or restore the backup that was made before the migration";
const INTERRUPTED: &str =
    "a migration of it was interrupted; run `halberd db migrate` again, it goes on from there";

/// How far a database's schema is, and how far this program's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version {
    /// The newest step applied; 0 for an empty database.
    pub found: i64,
    pub ours: i64,
}

impl Version {
    /// # Errors
    /// [`Error::Schema`] with the way out, unless they are equal.
    pub fn check(self) -> Result<()> {
        let Version { found, ours } = self;
        match found.cmp(&ours) {
            Ordering::Equal => Ok(()),
            Ordering::Less => Err(Error::Schema { found, ours, cure: OLDER }),
            Ordering::Greater => Err(Error::Schema { found, ours, cure: NEWER }),
        }
    }
}

fn steps(dialect: Dialect) -> &'static [Step] {
    match dialect {
        Dialect::Sqlite => SQLITE,
        Dialect::Postgres => POSTGRES,
        Dialect::Mysql => MYSQL,
    }
}

pub(crate) fn newest_of_ours(dialect: Dialect) -> i64 {
    steps(dialect).last().map_or(0, |step| step.0)
}

/// The texts of the steps after `from` up to `to`, oldest first.
pub(crate) fn texts(dialect: Dialect, from: i64, to: i64) -> impl Iterator<Item = &'static str> {
    steps(dialect).iter().filter(move |step| step.0 > from && step.0 <= to).map(|step| step.2)
}

/// What the driver's table of applied steps says of each of them: number, name and checksum in hex.
pub(crate) fn applied(dialect: Dialect, to: i64) -> impl Iterator<Item = (i64, &'static str, String)> {
    steps(dialect).iter().filter(move |step| step.0 <= to).map(|&(version, name, sql)| {
        let sql = SqlStr::from_static(sql);
        let step = Migration::new(version, Cow::Borrowed(name), MigrationType::Simple, sql, false);
        (version, name, step.checksum.iter().map(|byte| format!("{byte:02x}")).collect())
    })
}

/// The driver's own table of what was applied.
pub(crate) const APPLIED: &str = "_sqlx_migrations";

/// Applies what is missing. (The driver's migrator does the same in a future that cannot be moved to another thread.)
async fn apply<C: Migrate + Send>(
    connection: &mut C,
    dialect: Dialect,
) -> std::result::Result<(), MigrateError> {
    connection.ensure_migrations_table(APPLIED).await?;
    if let Some(step) = connection.dirty_version(APPLIED).await? {
        return Err(MigrateError::Dirty(step));
    }
    let applied = connection.list_applied_migrations(APPLIED).await?;
    let known = |version: i64| steps(dialect).iter().any(|step| step.0 == version);
    if let Some(newer) = applied.iter().map(|step| step.version).filter(|version| !known(*version)).max() {
        return Err(MigrateError::VersionMissing(newer));
    }
    for &(version, name, sql) in steps(dialect) {
        let (name, sql) = (Cow::Borrowed(name), SqlStr::from_static(sql));
        let step = Migration::new(version, name, MigrationType::Simple, sql, false);
        match applied.iter().find(|done| done.version == version) {
            Some(done) if done.checksum != step.checksum => {
                return Err(MigrateError::VersionMismatch(version));
            }
            Some(_) => {}
            None => {
                connection.apply(APPLIED, &step).await?;
            }
        }
    }
    Ok(())
}

/// Brings a database's schema up to date; the answer is where it was before. Of two at once one waits for the other.
///
/// # Errors
/// [`Error::Schema`] for one that a newer version migrated, [`Error::Migrate`] for one whose applied steps differ from ours.
pub async fn migrate(url: &str) -> Result<Version> {
    let dialect = dialect_of(url)?;
    let ours = newest_of_ours(dialect);
    let found = match dialect {
        Dialect::Sqlite => {
            let before = if sqlite_path(url)?.exists() { version(url).await?.found } else { 0 };
            Db::open(url, Access::Shared).await?.close().await;
            before
        }
        Dialect::Postgres => {
            let options = server::postgres::options(url).map_err(|reason| refused(url, reason))?;
            let mut connection = server::connect::<Postgres>(options).await?;
            // A step may take its time, and so may another's that is waited for.
            let patient = "SET statement_timeout = 0; SET lock_timeout = 0; SET idle_in_transaction_session_timeout = 0";
            classified(dialect, Postgres::run(&mut connection, patient).await)?;
            let before = newest::<Postgres>(&mut connection).await?;
            // An advisory lock: others wait for it, and it goes with the connection.
            connection.lock().await.map_err(Error::Migrate)?;
            apply(&mut connection, dialect).await.map_err(|error| told(error, before, ours))?;
            let _ = connection.close().await;
            before
        }
        Dialect::Mysql => {
            let options = server::mysql::options(url).map_err(|reason| refused(url, reason))?;
            mysql::migrate(options, ours).await?
        }
    };
    Ok(Version { found, ours })
}

/// How far a database's schema is. Changes nothing.
pub async fn version(url: &str) -> Result<Version> {
    let dialect = dialect_of(url)?;
    let found = match dialect {
        Dialect::Sqlite => {
            let options = SqliteConnectOptions::new().filename(sqlite_path(url)?).read_only(true);
            let mut connection = classified(dialect, SqliteConnection::connect_with(&options).await)?;
            newest_sqlite(&mut connection).await?
        }
        Dialect::Postgres => {
            let options = server::postgres::options(url).map_err(|reason| refused(url, reason))?;
            newest::<Postgres>(&mut server::connect::<Postgres>(options).await?).await?
        }
        Dialect::Mysql => {
            let options = server::mysql::options(url).map_err(|reason| refused(url, reason))?;
            newest::<sqlx::MySql>(&mut server::connect::<sqlx::MySql>(options).await?).await?
        }
    };
    Ok(Version { found, ours: newest_of_ours(dialect) })
}

/// The migrator's refusals in the words of [`Version::check`].
fn told(error: MigrateError, found: i64, ours: i64) -> Error {
    match error {
        MigrateError::VersionMissing(found) => Error::Schema { found, ours, cure: NEWER },
        MigrateError::Dirty(_) => Error::Schema { found, ours, cure: INTERRUPTED },
        other => Error::Migrate(other),
    }
}

/// Applies what is missing to an SQLite file.
pub(crate) async fn run(pool: &SqlitePool) -> Result<()> {
    let mut connection = classified(Dialect::Sqlite, pool.acquire().await)?;
    let found = newest_sqlite(&mut connection).await?;
    let done = apply(&mut *connection, Dialect::Sqlite).await;
    done.map_err(|error| told(error, found, newest_of_ours(Dialect::Sqlite)))
}

/// Beside a running engine nothing is changed; its schema must be ours. An engine that is just starting may still be at it.
pub(crate) async fn check(pool: &SqlitePool) -> Result<()> {
    let mut version = Version { found: 0, ours: newest_of_ours(Dialect::Sqlite) };
    for _ in 0..50 {
        let mut connection = classified(Dialect::Sqlite, pool.acquire().await)?;
        version.found = newest_sqlite(&mut connection).await?;
        if version.found >= version.ours {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    version.check()
}

async fn newest_sqlite(connection: &mut SqliteConnection) -> Result<i64> {
    let failed = |error| classify(Dialect::Sqlite, error);
    let table = "SELECT COUNT(*) FROM sqlite_master WHERE name = '_sqlx_migrations'";
    let tables: i64 = sqlx::query_scalar(table).fetch_one(&mut *connection).await.map_err(failed)?;
    if tables == 0 {
        return Ok(0);
    }
    let newest = "SELECT COALESCE(MAX(version), 0) FROM _sqlx_migrations WHERE success = 1";
    sqlx::query_scalar(newest).fetch_one(connection).await.map_err(failed)
}

/// The setting in which a step leaves how far back programs may be that work on its schema. While a cloud is upgraded engine by engine,
/// programs of two versions serve on the newer one's schema (expand first, contract a release later): a step that only adds keeps the
/// number that stands, or writes the step before it; one that takes away raises it. Without the setting only the newest program serves.
const SERVES_FROM: &str = "SELECT name, value FROM settings WHERE name = 'schema_serves_from'";

/// Whether a newer schema says that our programs work on it.
async fn serves_us<D: Driver>(connection: &mut D::Connection, version: Version) -> Result<bool> {
    let rows = classified(D::DIALECT, D::fetch(connection, SERVES_FROM.into_sql_str(), Vec::new()).await)?;
    let Some(row) = rows.first() else { return Ok(false) };
    let from = row.of("settings", "name").string("value")?;
    Ok(from.parse::<i64>().is_ok_and(|from| from <= version.ours))
}

/// On the servers nothing is changed when they are opened; their schema must be ours, or a newer one that says we may serve on it.
pub(crate) async fn check_server<D: Driver>(connection: &mut D::Connection) -> Result<()> {
    let version = Version { found: newest::<D>(connection).await?, ours: newest_of_ours(D::DIALECT) };
    let broken = "SELECT COUNT(*) AS n FROM _sqlx_migrations WHERE success = FALSE";
    if version.found > 0 && number::<D>(connection, broken).await? > 0 {
        return Err(Error::Schema { found: version.found, ours: version.ours, cure: INTERRUPTED });
    }
    if version.found > version.ours && serves_us::<D>(connection, version).await? {
        let Version { found, ours } = version;
        tracing::warn!(
            found,
            ours,
            "a newer version migrated the database; this one serves on it until it is replaced"
        );
        return Ok(());
    }
    version.check()
}

async fn newest<D: Driver>(connection: &mut D::Connection) -> Result<i64> {
    let table = match D::DIALECT {
        Dialect::Mysql => {
            "SELECT COUNT(*) AS n FROM information_schema.tables WHERE table_schema = DATABASE() AND table_name = '_sqlx_migrations'"
        }
        _ => {
            // Of the catalogue: the standard's view hides what one has no right to.
            "SELECT COUNT(*) AS n FROM pg_class c JOIN pg_namespace s ON s.oid = c.relnamespace \
             WHERE s.nspname = current_schema() AND c.relname = '_sqlx_migrations'"
        }
    };
    if number::<D>(connection, table).await? == 0 {
        return Ok(0);
    }
    number::<D>(
        connection,
        "SELECT COALESCE(MAX(version), 0) AS n FROM _sqlx_migrations WHERE success = TRUE",
    )
    .await
}

async fn number<D: Driver>(connection: &mut D::Connection, sql: &'static str) -> Result<i64> {
    let rows = classified(D::DIALECT, D::fetch(connection, sql.into_sql_str(), Vec::new()).await)?;
    Ok(rows.first().map_or(0, |row| row.first_int()))
}
