//! Lists as v1 asks for them: limit, marker, repeated sort keys and directions (contract 1.7).
//!
//! A marker looks its row up and the list goes on by key from there, so ids need not be dense or in the order of time.

use std::ops::Deref;

use halberd_core::time::Stamp;
use sqlx::AssertSqlSafe;
use uuid::Uuid;

use crate::error::{Error, Result};
use crate::transaction::{Read, all, first};
use crate::value::{Arg, Reader, Row};

/// A row with what every v1 resource shows beside its own content.
#[derive(Clone, Debug, PartialEq)]
pub struct Stored<T> {
    /// v1's `id`.
    pub num: i64,
    pub created_at: Stamp,
    pub updated_at: Option<Stamp>,
    pub deleted_at: Option<Stamp>,
    pub value: T,
}

impl<T> Deref for Stored<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T> Stored<T> {
    pub(crate) fn read(row: &Reader<'_>, deletable: bool, value: T) -> Result<Stored<T>> {
        Ok(Stored {
            num: row.int("num")?,
            created_at: row.stamp("created_at")?,
            updated_at: row.opt_stamp("updated_at")?,
            deleted_at: if deletable { row.opt_stamp("deleted_at")? } else { None },
            value,
        })
    }
}

/// The last row of the page before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Marker {
    Num(i64),
    Id(Uuid),
}

/// A sort direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    Asc,
    Desc,
}

/// Which rows of a list, in which order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// At most so many rows; 0 is an empty list.
    pub limit: u32,
    pub marker: Option<Marker>,
    /// v1's column names; the creation time and the numeric id are appended with the first direction.
    pub sort: Vec<(String, Direction)>,
}

impl Default for Page {
    /// v1's: the newest thousand.
    fn default() -> Page {
        Page { limit: 1000, marker: None, sort: Vec::new() }
    }
}

/// A table as lists see it: v1's column names with the SQL that sorts by them (never null, so that all databases agree).
pub(crate) struct Table {
    pub what: &'static str,
    /// `FROM` and what follows up to the conditions.
    pub from: &'static str,
    pub select: &'static str,
    pub id: &'static str,
    /// The column that `created_at` sorts by.
    pub created: &'static str,
    pub columns: &'static [(&'static str, &'static str)],
}

/// Conditions joined by AND; SQL from constants, values as arguments.
#[derive(Debug, Default)]
pub(crate) struct Filter {
    sql: Vec<&'static str>,
    args: Vec<Arg>,
}

impl Filter {
    /// `condition` has one `?` for each of `args`.
    pub(crate) fn and(&mut self, condition: &'static str, args: Vec<Arg>) -> &mut Filter {
        self.sql.push(condition);
        self.args.extend(args);
        self
    }

    /// Only when a value is given.
    pub(crate) fn and_some(&mut self, condition: &'static str, value: Option<impl Into<Arg>>) -> &mut Filter {
        if let Some(value) = value {
            self.and(condition, vec![value.into()]);
        }
        self
    }
}

/// Runs a list.
pub(crate) async fn list(on: &mut impl Read, table: &Table, filter: Filter, page: &Page) -> Result<Vec<Row>> {
    let order = order(table, page)?;
    let Filter { sql, mut args } = filter;
    let mut conditions: Vec<String> = sql.into_iter().map(str::to_owned).collect();
    if let Some(marker) = page.marker {
        let (after, values) = after(on, table, &order, marker).await?;
        conditions.push(after);
        args.extend(values);
    }
    if page.limit == 0 {
        return Ok(Vec::new());
    }
    let mut text = format!("SELECT {} FROM {}", table.select, table.from);
    if !conditions.is_empty() {
        text += " WHERE ";
        text += &conditions.join(" AND ");
    }
    let by: Vec<String> =
        order.iter().map(|(expression, direction)| format!("{expression} {}", word(*direction))).collect();
    text += &format!(" ORDER BY {} LIMIT ?", by.join(", "));
    args.push(page.limit.into());
    all(on, AssertSqlSafe(text), args).await
}

fn word(direction: Direction) -> &'static str {
    match direction {
        Direction::Asc => "ASC",
        Direction::Desc => "DESC",
    }
}

fn order(table: &Table, page: &Page) -> Result<Vec<(&'static str, Direction)>> {
    let mut order = Vec::with_capacity(page.sort.len() + 2);
    for (key, direction) in &page.sort {
        let column = table.columns.iter().find(|(name, _)| name == key);
        let (_, expression) = column
            .ok_or_else(|| Error::BadList(format!("sort_key '{key}' is no column of {}", table.what)))?;
        order.push((*expression, *direction));
    }
    let direction = page.sort.first().map_or(Direction::Desc, |(_, direction)| *direction);
    // v1's pages end with these two already.
    for tie_breaker in [table.created, "num"] {
        if !order.iter().any(|(expression, _)| *expression == tie_breaker) {
            order.push((tie_breaker, direction));
        }
    }
    Ok(order)
}

/// "Comes after the marker's row" as a condition: a > x OR (a = x AND (b > y OR ...)), written flat.
async fn after(
    on: &mut impl Read,
    table: &Table,
    order: &[(&'static str, Direction)],
    marker: Marker,
) -> Result<(String, Vec<Arg>)> {
    let expressions: Vec<&str> = order.iter().map(|(expression, _)| *expression).collect();
    let (column, value) = match marker {
        Marker::Num(num) => ("num", Arg::from(num)),
        Marker::Id(id) => (table.id, Arg::from(id)),
    };
    let text = format!("SELECT {} FROM {} WHERE {column} = ?", expressions.join(", "), table.from);
    let row = first(on, AssertSqlSafe(text), vec![value]).await?;
    let values =
        row.ok_or_else(|| Error::BadList(format!("marker not found among the {}s", table.what)))?.values;
    let (mut branches, mut args) = (Vec::new(), Vec::new());
    for (i, (expression, direction)) in order.iter().enumerate() {
        let mut branch: Vec<String> = expressions[..i].iter().map(|equal| format!("{equal} = ?")).collect();
        branch.push(format!("{expression} {} ?", if *direction == Direction::Asc { ">" } else { "<" }));
        branches.push(format!("({})", branch.join(" AND ")));
        args.extend(values[..=i].iter().cloned());
    }
    Ok((format!("({})", branches.join(" OR ")), args))
}
