//! The one corner that knows the databases: how a transaction begins, how placeholders look, what an error code means.
//!
//! Every statement of this package is written once, with `?` for its arguments, in the SQL that SQLite, PostgreSQL and
//! MariaDB share; columns hold only text and 64-bit integers (DESIGN 10.12). So arguments and rows need two types, and a new
//! database is one more arm in each `match` of this file.

use std::borrow::Cow;
use std::sync::Arc;

use sqlx::sqlite::SqliteRow;
use sqlx::{Column, Row as _, SqlStr, Sqlite, Transaction, TypeInfo, ValueRef};

use crate::error::{Error, Result};
use crate::value::{Arg, Row};

/// Which SQL is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    Sqlite,
    /// Comes with the shared databases; its placeholders are known here already.
    Postgres,
    Mysql,
}

impl Dialect {
    /// Begins a transaction that will write. SQLite must take its lock at once: a deferred transaction that reads first cannot
    /// wait for the lock and fails on the spot (CRATES 4).
    pub fn begin_for_write(self) -> &'static str {
        match self {
            Dialect::Sqlite => "BEGIN IMMEDIATE",
            Dialect::Postgres | Dialect::Mysql => "BEGIN",
        }
    }

    /// Begins a transaction that sees one moment and cannot write.
    pub fn begin_snapshot(self) -> &'static str {
        match self {
            // In WAL mode its first read fixes the moment.
            Dialect::Sqlite => "BEGIN DEFERRED",
            Dialect::Postgres => "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY",
            Dialect::Mysql => "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY",
        }
    }

    /// `?` outside quotes becomes `$1`, `$2`, ... where the database wants that.
    pub fn placeholders(self, sql: &str) -> Cow<'_, str> {
        if self != Dialect::Postgres {
            return Cow::Borrowed(sql);
        }
        let (mut out, mut n, mut quoted) = (String::with_capacity(sql.len() + 16), 0, false);
        for c in sql.chars() {
            match c {
                '\'' => quoted = !quoted,
                '?' if !quoted => {
                    n += 1;
                    out.push_str(&format!("${n}"));
                    continue;
                }
                _ => {}
            }
            out.push(c);
        }
        Cow::Owned(out)
    }

    /// An insert of `rows` rows that overwrites `changed` columns of a row with the same `key`.
    pub fn upsert(
        self,
        table: &str,
        key: &[&str],
        columns: &[&str],
        changed: &[&str],
        rows: usize,
    ) -> String {
        let head = insert(table, columns, rows);
        let set = |new: &dyn Fn(&str) -> String| {
            changed.iter().map(|column| format!("{column} = {}", new(column))).collect::<Vec<_>>().join(", ")
        };
        match self {
            Dialect::Sqlite | Dialect::Postgres => {
                let set = set(&|column| format!("excluded.{column}"));
                format!("{head} ON CONFLICT ({}) DO UPDATE SET {set}", key.join(", "))
            }
            Dialect::Mysql => {
                format!("{head} ON DUPLICATE KEY UPDATE {}", set(&|column| format!("VALUES({column})")))
            }
        }
    }
}

/// A plain insert of several rows.
pub(crate) fn insert(table: &str, columns: &[&str], rows: usize) -> String {
    let one = format!("({})", vec!["?"; columns.len()].join(", "));
    format!("INSERT INTO {table} ({}) VALUES {}", columns.join(", "), vec![one.as_str(); rows].join(", "))
}

/// Rows written by one statement. More gain little; the number of different texts stays below the statement cache.
pub(crate) const ROWS_PER_STATEMENT: usize = 32;

/// An error in the store's words. SQLite's extended result codes; the low byte is the primary code.
pub(crate) fn classify(error: sqlx::Error) -> Error {
    if is_full(&error) {
        return Error::Unavailable { reason: "its disk is full", source: Some(error) };
    }
    if is_conflict(&error) {
        return Error::Conflict { attempts: 1, source: Some(error) };
    }
    match &error {
        sqlx::Error::Database(refusal) if refusal.is_unique_violation() => {
            Error::Duplicate { detail: refusal.message().to_owned() }
        }
        sqlx::Error::Database(_) => match sqlite_code(&error).map(|code| code & 0xff) {
            Some(8) => Error::Unavailable { reason: "it is read-only", source: Some(error) },
            Some(10) => {
                Error::Unavailable { reason: "reading or writing its file failed", source: Some(error) }
            }
            Some(11 | 26) => Error::Unavailable { reason: "its file is damaged", source: Some(error) },
            Some(14) => Error::Unavailable { reason: "its file cannot be opened", source: Some(error) },
            _ => Error::Database(error),
        },
        sqlx::Error::PoolTimedOut => {
            Error::Unavailable { reason: "no connection became free in time", source: Some(error) }
        }
        sqlx::Error::PoolClosed => Error::Unavailable { reason: "it was closed", source: Some(error) },
        sqlx::Error::Io(_) => Error::Unavailable { reason: "the connection failed", source: Some(error) },
        _ => Error::Database(error),
    }
}

/// An error of COMMIT itself.
pub(crate) fn classify_commit(error: sqlx::Error) -> Error {
    if is_ambiguous(&error) { Error::Ambiguous(error) } else { classify(error) }
}

fn sqlite_code(error: &sqlx::Error) -> Option<i32> {
    error.as_database_error()?.code()?.parse().ok()
}

/// Others were in the way; the unit may be run again: SQLITE_BUSY (5) and SQLITE_LOCKED (6) in all their kinds.
pub fn is_conflict(error: &sqlx::Error) -> bool {
    matches!(sqlite_code(error).map(|code| code & 0xff), Some(5 | 6))
}

/// The commit may have happened: a broken connection. In-process SQLite has none; its worker thread gone is the one such case.
pub fn is_ambiguous(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Io(_) | sqlx::Error::WorkerCrashed)
}

/// SQLITE_FULL (13): no space, or the page limit.
pub fn is_full(error: &sqlx::Error) -> bool {
    sqlite_code(error).is_some_and(|code| code & 0xff == 13)
}

pub(crate) type SqliteTx = Transaction<'static, Sqlite>;

/// Binds the arguments in order.
pub(crate) fn sqlite_query(
    sql: SqlStr,
    args: Vec<Arg>,
) -> sqlx::query::Query<'static, Sqlite, <Sqlite as sqlx::Database>::Arguments> {
    args.into_iter().fold(sqlx::query(sql), |query, arg| match arg {
        Arg::Null => query.bind(None::<i64>),
        Arg::Int(number) => query.bind(number),
        Arg::Text(text) => query.bind(text),
    })
}

/// Rows as the two types this package knows.
pub(crate) fn sqlite_rows(rows: Vec<SqliteRow>) -> Result<Vec<Row>> {
    let Some(first) = rows.first() else { return Ok(Vec::new()) };
    let columns: Arc<[String]> = first.columns().iter().map(|column| column.name().to_owned()).collect();
    let decode = |row: &SqliteRow| -> std::result::Result<Vec<Arg>, sqlx::Error> {
        (0..row.len())
            .map(|i| {
                let raw = row.try_get_raw(i)?;
                if raw.is_null() {
                    return Ok(Arg::Null);
                }
                let integer = raw.type_info().name() == "INTEGER";
                if integer {
                    row.try_get_unchecked(i).map(Arg::Int)
                } else {
                    row.try_get_unchecked(i).map(Arg::Text)
                }
            })
            .collect()
    };
    rows.iter()
        .map(|row| Ok(Row { columns: columns.clone(), values: decode(row).map_err(Error::Database)? }))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_are_numbered_outside_quotes_only() {
        let sql = "UPDATE t SET a = ?, b = '?' WHERE c = ?";
        assert_eq!(Dialect::Sqlite.placeholders(sql), sql);
        assert_eq!(Dialect::Postgres.placeholders(sql), "UPDATE t SET a = $1, b = '?' WHERE c = $2");
    }

    #[test]
    fn upsert_speaks_each_dialect() {
        let make = |dialect: Dialect| dialect.upsert("t", &["id"], &["id", "a"], &["a"], 2);
        assert_eq!(
            make(Dialect::Sqlite),
            "INSERT INTO t (id, a) VALUES (?, ?), (?, ?) ON CONFLICT (id) DO UPDATE SET a = excluded.a"
        );
        assert!(make(Dialect::Mysql).ends_with("ON DUPLICATE KEY UPDATE a = VALUES(a)"));
    }
}
