//! How arguments and rows travel: two types, text and 64-bit integers, to and from each driver (DESIGN 10.12).

use std::borrow::Cow;
use std::sync::Arc;

use sqlx::encode::IsNull;
use sqlx::error::BoxDynError;
use sqlx::mysql::{MySqlArguments, MySqlRow};
use sqlx::postgres::types::Oid;
use sqlx::postgres::{PgArgumentBuffer, PgArguments, PgRow, PgTypeInfo};
use sqlx::query::Query;
use sqlx::sqlite::SqliteRow;
use sqlx::{
    AssertSqlSafe, Column, Encode, MySql, Postgres, Row as _, SqlSafeStr, SqlStr, Sqlite, Type, TypeInfo,
    ValueRef,
};

use crate::dialect::Dialect;
use crate::value::{Arg, Row};

/// Binds the arguments in order.
pub(crate) fn sqlite_query(
    sql: SqlStr,
    args: Vec<Arg>,
) -> Query<'static, Sqlite, <Sqlite as sqlx::Database>::Arguments> {
    args.into_iter().fold(sqlx::query(sql), |query, arg| match arg {
        Arg::Null => query.bind(None::<i64>),
        Arg::Int(number) => query.bind(number),
        Arg::Text(text) => query.bind(text),
    })
}

/// The same, with PostgreSQL's placeholders.
pub(crate) fn postgres_query(sql: SqlStr, args: Vec<Arg>) -> Query<'static, Postgres, PgArguments> {
    let numbered = match Dialect::Postgres.placeholders(sql.as_str()) {
        Cow::Borrowed(_) => None,
        Cow::Owned(text) => Some(text),
    };
    let sql = numbered.map_or(sql, |text| AssertSqlSafe(text).into_sql_str());
    args.into_iter().fold(sqlx::query(sql), |query, arg| match arg {
        Arg::Null => query.bind(None::<Untyped>),
        Arg::Int(number) => query.bind(number),
        Arg::Text(text) => query.bind(text),
    })
}

pub(crate) fn mysql_query(sql: SqlStr, args: Vec<Arg>) -> Query<'static, MySql, MySqlArguments> {
    args.into_iter().fold(sqlx::query(sql), |query, arg| match arg {
        Arg::Null => query.bind(None::<i64>),
        Arg::Int(number) => query.bind(number),
        Arg::Text(text) => query.bind(text),
    })
}

/// A null of no type: PostgreSQL takes the type of where it stands. A null of a number would be refused by a text column.
struct Untyped;

/// `unknown` in `pg_type`.
const UNKNOWN: Oid = Oid(705);

impl Type<Postgres> for Untyped {
    fn type_info() -> PgTypeInfo {
        PgTypeInfo::with_oid(UNKNOWN)
    }
}

impl Encode<'_, Postgres> for Untyped {
    fn encode_by_ref(&self, _: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        Ok(IsNull::Yes)
    }
}

/// Rows as the two types this package knows.
pub(crate) fn sqlite_rows(rows: &[SqliteRow]) -> sqlx::Result<Vec<Row>> {
    table(rows, |row, i| {
        let raw = row.try_get_raw(i)?;
        if raw.is_null() {
            return Ok(Arg::Null);
        }
        match raw.type_info().name() {
            "INTEGER" => row.try_get_unchecked(i).map(Arg::Int),
            _ => row.try_get_unchecked(i).map(Arg::Text),
        }
    })
}

pub(crate) fn postgres_rows(rows: &[PgRow]) -> sqlx::Result<Vec<Row>> {
    table(rows, |row, i| {
        let raw = row.try_get_raw(i)?;
        if raw.is_null() {
            return Ok(Arg::Null);
        }
        match raw.type_info().name() {
            "INT8" => row.try_get_unchecked(i).map(Arg::Int),
            "INT4" => row.try_get_unchecked::<i32, _>(i).map(|number| Arg::Int(number.into())),
            "TEXT" | "VARCHAR" | "CHAR" | "NAME" | "UNKNOWN" => row.try_get_unchecked(i).map(Arg::Text),
            other => Err(foreign(other)),
        }
    })
}

pub(crate) fn mysql_rows(rows: &[MySqlRow]) -> sqlx::Result<Vec<Row>> {
    table(rows, |row, i| {
        let raw = row.try_get_raw(i)?;
        if raw.is_null() {
            return Ok(Arg::Null);
        }
        match raw.type_info().name() {
            "BIGINT" | "BIGINT UNSIGNED" | "INT" | "INT UNSIGNED" => row.try_get_unchecked(i).map(Arg::Int),
            // A collation by bytes is told as "binary" on the wire; we have no other binary columns.
            name if ["TEXT", "BLOB", "CHAR", "BINARY"].iter().any(|text| name.ends_with(text)) => {
                row.try_get_unchecked(i).map(Arg::Text)
            }
            other => Err(foreign(other)),
        }
    })
}

/// A column of a type that our schema does not have, or an expression that should have been cast.
fn foreign(name: &str) -> sqlx::Error {
    sqlx::Error::Decode(format!("a column of type {name} is neither text nor a 64-bit integer").into())
}

fn table<R: sqlx::Row>(rows: &[R], value: impl Fn(&R, usize) -> sqlx::Result<Arg>) -> sqlx::Result<Vec<Row>> {
    let Some(first) = rows.first() else { return Ok(Vec::new()) };
    let columns: Arc<[String]> = first.columns().iter().map(|column| column.name().to_owned()).collect();
    rows.iter()
        .map(|row| {
            let values = (0..row.len()).map(|i| value(row, i)).collect::<sqlx::Result<_>>()?;
            Ok(Row { columns: columns.clone(), values })
        })
        .collect()
}
