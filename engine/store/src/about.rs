//! What a database says of itself, whatever its schema: for whoever stands before one that no program here opens. Changes nothing.

use serde::Serialize;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{Connection, Postgres, SqlSafeStr};

use crate::db::{dialect_of, refused};
use crate::dialect::Dialect;
use crate::error::Result;
use crate::migrate::{self, Version};
use crate::refusal::classified;
use crate::server::{self, Driver};
use crate::sqlite::sqlite_path;
use crate::value::{Arg, Row};
use crate::wire;

/// What was told. `None`: it does not say, or its schema has no such table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct About {
    /// The newest step applied.
    pub schema: i64,
    /// This program's.
    pub ours: i64,
    /// How the two come together; `None`: they are the same.
    pub way_out: Option<String>,
    /// `SQLite`, `PostgreSQL` or `MariaDB/MySQL`, and its version.
    pub server: String,
    pub server_version: Option<String>,
    /// Made by the first engine that used it.
    pub identity: Option<String>,
    /// The newest workflow among open recoveries.
    pub workflow: Option<i64>,
}

const IDENTITY: &str = "SELECT value FROM settings WHERE name = 'identity'";
const WORKFLOW: &str = "SELECT MAX(workflow_version) AS n FROM recoveries WHERE open_key IS NOT NULL";

/// Asks a database of any schema, also an empty one.
///
/// # Errors
/// It cannot be reached, or is no database.
pub async fn about(url: &str) -> Result<About> {
    let dialect = dialect_of(url)?;
    let version = migrate::version(url).await?;
    let (name, rows) = match dialect {
        Dialect::Sqlite => {
            let options = SqliteConnectOptions::new().filename(sqlite_path(url)?).read_only(true);
            let mut connection = classified(dialect, SqliteConnection::connect_with(&options).await)?;
            let mut found = Vec::new();
            for sql in ["SELECT sqlite_version() AS v", IDENTITY, WORKFLOW] {
                let rows =
                    wire::sqlite_query(sql.into_sql_str(), Vec::new()).fetch_all(&mut connection).await;
                found.push(rows.and_then(|rows| wire::sqlite_rows(&rows)).unwrap_or_default());
            }
            ("SQLite", found)
        }
        Dialect::Postgres => {
            let options = server::postgres::options(url).map_err(|reason| refused(url, reason))?;
            let mut connection = server::connect::<Postgres>(options).await?;
            (
                "PostgreSQL",
                answers::<Postgres>(&mut connection, "SELECT current_setting('server_version') AS v").await,
            )
        }
        Dialect::Mysql => {
            let options = server::mysql::options(url).map_err(|reason| refused(url, reason))?;
            let mut connection = server::connect::<sqlx::MySql>(options).await?;
            (
                "MariaDB/MySQL",
                answers::<sqlx::MySql>(&mut connection, "SELECT CONVERT(VERSION() USING utf8mb4) AS v").await,
            )
        }
    };
    let text = |n: usize| match value(&rows, n) {
        Some(Arg::Text(text)) => Some(text.clone()),
        _ => None,
    };
    Ok(About {
        schema: version.found,
        ours: version.ours,
        way_out: way_out(version),
        server: name.to_owned(),
        server_version: text(0),
        identity: text(1),
        workflow: match value(&rows, 2) {
            Some(Arg::Int(n)) => Some(*n),
            _ => None,
        },
    })
}

fn value(rows: &[Vec<Row>], n: usize) -> Option<&Arg> {
    rows.get(n)?.first()?.values.first()
}

/// Each by itself: a schema of long ago lacks some of it.
async fn answers<D: Driver>(connection: &mut D::Connection, version: &'static str) -> Vec<Vec<Row>> {
    let mut found = Vec::new();
    for sql in [version, IDENTITY, WORKFLOW] {
        found.push(D::fetch(connection, sql.into_sql_str(), Vec::new()).await.unwrap_or_default());
    }
    found
}

fn way_out(version: Version) -> Option<String> {
    version.check().err().map(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::On;
    use crate::tests::{everywhere, kit_on};
    use crate::{settings, write};

    everywhere!(any_schema_tells_what_it_is);

    async fn any_schema_tells_what_it_is(on: On) {
        let kit = kit_on(on).await;
        let id = settings::identity(&kit.db, crate::tests::NOW).await.unwrap();
        let told = about(&kit.own.url).await.unwrap();
        assert_eq!((told.identity, told.way_out, told.schema), (Some(id.to_string()), None, told.ours));
        assert!(told.server_version.is_some_and(|version| version.starts_with(|c: char| c.is_ascii_digit())));
        let newer = "UPDATE _sqlx_migrations SET version = version + 1000";
        write(&kit.db, async |tx| tx.exec(newer, vec![]).await).await.unwrap();
        write(&kit.db, async |tx| tx.exec("DROP TABLE settings", vec![]).await).await.unwrap();
        let told = about(&kit.own.url).await.unwrap();
        assert!(told.schema > 1000 && told.way_out.unwrap().contains("a newer version migrated it"));
        assert_eq!(told.identity, None);
    }
}
