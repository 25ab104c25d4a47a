//! How big the database is, table by table. Reads only, but all of it: for people, not for a metric.

use halberd_core::time::Stamp;
use sqlx::AssertSqlSafe;

use crate::db::Db;
use crate::dialect::Dialect;
use crate::error::Result;
use crate::refusal::classified;
use crate::retention::{RULES, Rule};
use crate::transaction::{all, first};
use crate::value::{Row, args};

/// One table.
#[derive(Clone, Debug)]
pub struct TableSize {
    pub rule: &'static Rule,
    pub rows: u64,
    /// With its indexes, as far as the database tells.
    pub bytes: Option<u64>,
    pub oldest: Option<Stamp>,
}

/// The whole.
#[derive(Clone, Debug)]
pub struct Size {
    pub tables: Vec<TableSize>,
    /// The file's, or the sum of the tables'.
    pub bytes: u64,
    /// Of the file: free for new rows. `None`: the server does not tell.
    pub free: Option<u64>,
}

/// Measures every table.
pub async fn size(db: &Db) -> Result<Size> {
    let mut tables = Vec::with_capacity(RULES.len());
    for rule in RULES {
        let (rows, oldest) = counted(db, rule).await?;
        tables.push(TableSize { rule, rows, bytes: bytes(db, rule.table).await?, oldest });
    }
    let sum = tables.iter().filter_map(|table| table.bytes).sum();
    let file = match db.dialect() {
        Dialect::Sqlite => Some(file(db).await?),
        Dialect::Postgres | Dialect::Mysql => None,
    };
    Ok(Size {
        tables,
        bytes: file.as_ref().map_or(sum, |file| file.pages.saturating_mul(file.page_size)),
        free: file.map(|file| file.free.saturating_mul(file.page_size)),
    })
}

async fn counted(db: &Db, rule: &Rule) -> Result<(u64, Option<Stamp>)> {
    let table = rule.table;
    let sql = format!("SELECT COUNT(*) AS n, MIN({}) AS at FROM {table}", rule.at.unwrap_or("NULL"));
    // PostgreSQL's MIN(NULL) is text.
    let sql = if rule.at.is_none() { format!("SELECT COUNT(*) AS n FROM {table}") } else { sql };
    let Some(row) = first(&mut &*db, AssertSqlSafe(sql), vec![]).await? else { return Ok((0, None)) };
    let oldest = match rule.at {
        Some(_) => row.of(table, "n").opt_stamp("at")?,
        None => None,
    };
    Ok((row.first_int().unsigned_abs(), oldest))
}

async fn bytes(db: &Db, table: &'static str) -> Result<Option<u64>> {
    let sql = match db.dialect() {
        // A virtual table that our own SQLite has and another's may lack.
        Dialect::Sqlite => {
            "SELECT COALESCE(SUM(pgsize), 0) AS n FROM dbstat WHERE aggregate = TRUE AND name IN \
             (SELECT name FROM sqlite_master WHERE tbl_name = ?)"
        }
        Dialect::Postgres => {
            "SELECT COALESCE(pg_total_relation_size(c.oid), 0) AS n FROM pg_class c JOIN pg_namespace s ON s.oid = c.relnamespace \
             WHERE s.nspname = current_schema() AND c.relname = ?"
        }
        Dialect::Mysql => {
            "SELECT CAST(COALESCE(data_length + index_length, 0) AS SIGNED) AS n FROM information_schema.tables \
             WHERE table_schema = DATABASE() AND table_name = ?"
        }
    };
    match first(&mut &*db, sql, args![table]).await {
        Ok(row) => Ok(row.map(|row| row.first_int().unsigned_abs())),
        Err(_) if db.dialect() == Dialect::Sqlite => Ok(None),
        Err(error) => Err(error),
    }
}

/// SQLite's file, in pages.
#[derive(Clone, Copy, Debug)]
struct File {
    page_size: u64,
    pages: u64,
    free: u64,
    /// Whether free pages can be given back piece by piece.
    incremental: bool,
}

async fn file(db: &Db) -> Result<File> {
    let ask = async |sql: &'static str| {
        let rows = all(&mut &*db, sql, vec![]).await?;
        Ok::<u64, crate::Error>(rows.first().map_or(0, Row::first_int).unsigned_abs())
    };
    Ok(File {
        page_size: ask("PRAGMA page_size").await?,
        pages: ask("PRAGMA page_count").await?,
        free: ask("PRAGMA freelist_count").await?,
        incremental: ask("PRAGMA auto_vacuum").await? == 2,
    })
}

/// Writes an SQLite file anew, as small as it can be, so that it can give pages back bit by bit from then on. Nobody else may have it
/// open; needs as much free disk as the file has. Nothing on the servers, which reuse the room themselves.
pub async fn compact(db: &Db) -> Result<()> {
    let Db::Sqlite(sqlite) = db else { return Ok(()) };
    let done = sqlx::raw_sql("PRAGMA auto_vacuum = INCREMENTAL; VACUUM").execute(&sqlite.write).await;
    classified(Dialect::Sqlite, done.map(|_| ()))
}

/// What of the free pages is more than new rows will soon need: a tenth of the file stays free, as a file that shrinks and grows again
/// writes twice. 0 where pages cannot be given back.
pub(crate) async fn pages_to_free(db: &Db) -> Result<u64> {
    if db.dialect() != Dialect::Sqlite {
        return Ok(0);
    }
    let file = file(db).await?;
    Ok(if file.incremental { file.free.saturating_sub(file.pages / 10) } else { 0 })
}

#[cfg(test)]
mod tests {
    use sqlx::{ConnectOptions as _, Connection as _};
    use tempfile::TempDir;

    use super::*;
    use crate::tests::url;
    use crate::{Access, write};

    #[tokio::test]
    async fn a_new_file_gives_pages_back_and_an_old_one_after_it_was_compacted() {
        let dir = TempDir::new().unwrap();
        let db = Db::open(&url(dir.path()), Access::Exclusive).await.unwrap();
        assert!(file(&db).await.unwrap().incremental);
        let fill = "INSERT INTO settings (name, value, version, updated_at) VALUES ('x', ?, 1, 0)";
        let text = "x".repeat(1 << 20);
        write(&db, async |tx| tx.exec(fill, args![&text]).await).await.unwrap();
        write(&db, async |tx| tx.exec("DELETE FROM settings WHERE name = 'x'", vec![]).await).await.unwrap();
        let (before, free) = (file(&db).await.unwrap().pages, pages_to_free(&db).await.unwrap());
        assert!(free > 100, "{free}");
        write(&db, async |tx| tx.exec("PRAGMA incremental_vacuum(100)", vec![]).await).await.unwrap();
        let after = file(&db).await.unwrap();
        assert_eq!((after.pages, after.free > 0), (before - 100, true));
        db.close().await;
        // A file of before, made without the setting.
        let dir = TempDir::new().unwrap();
        let options = sqlx::sqlite::SqliteConnectOptions::new().create_if_missing(true);
        let mut old = options.filename(dir.path().join("halberd.db")).connect().await.unwrap();
        sqlx::raw_sql("CREATE TABLE old (a INTEGER); DROP TABLE old").execute(&mut old).await.unwrap();
        old.close().await.unwrap();
        let db = Db::open(&url(dir.path()), Access::Shared).await.unwrap();
        assert!(!file(&db).await.unwrap().incremental);
        compact(&db).await.unwrap();
        db.close().await;
        let db = Db::open(&url(dir.path()), Access::Shared).await.unwrap();
        let now = file(&db).await.unwrap();
        assert_eq!((now.incremental, now.free), (true, 0));
    }
}
