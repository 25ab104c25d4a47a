//! The tables as they are at a step of the schema, told by SQLite: the steps are built into this program and have the same tables
//! and columns on every database, so a file in memory shows what a backup of any older step must look like.

use std::collections::BTreeMap;

use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{AssertSqlSafe, Connection, Row as _};

use crate::dialect::Dialect;
use crate::error::Result;
use crate::migrate;
use crate::refusal::classified;

/// What a column takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Column {
    pub name: String,
    pub text: bool,
    pub nullable: bool,
}

/// One table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Table {
    pub name: String,
    pub columns: Vec<Column>,
    /// Its primary key's columns, by their places among `columns`.
    pub key: Vec<usize>,
    /// Rows that the steps themselves put in.
    pub born: u64,
}

impl Table {
    pub(crate) fn names(&self) -> Vec<&str> {
        self.columns.iter().map(|column| column.name.as_str()).collect()
    }

    /// Whether the database counts its rows up by itself.
    pub(crate) fn numbered(&self) -> bool {
        matches!(self.key.as_slice(), [place] if self.columns[*place].name == "num")
    }
}

/// Every table after this step, each behind those that it refers to.
pub(crate) async fn at(step: i64) -> Result<Vec<Table>> {
    let failed = |done| classified(Dialect::Sqlite, done);
    let memory = SqliteConnectOptions::new().in_memory(true);
    let mut connection = failed(SqliteConnection::connect_with(&memory).await)?;
    for sql in migrate::texts(Dialect::Sqlite, 0, step) {
        classified(Dialect::Sqlite, sqlx::raw_sql(sql).execute(&mut connection).await)?;
    }
    let ask =
        "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY name";
    let names: Vec<String> =
        classified(Dialect::Sqlite, sqlx::query_scalar(ask).fetch_all(&mut connection).await)?;
    let mut tables = BTreeMap::new();
    let mut needs = BTreeMap::new();
    for name in names {
        let (table, parents) = classified(Dialect::Sqlite, told(&mut connection, &name).await)?;
        tables.insert(name.clone(), table);
        needs.insert(name, parents);
    }
    let _ = connection.close().await;
    Ok(in_order(tables, needs))
}

async fn told(connection: &mut SqliteConnection, name: &str) -> sqlx::Result<(Table, Vec<String>)> {
    let ask = "SELECT name, upper(type), \"notnull\", pk FROM pragma_table_info(?) ORDER BY cid";
    let rows = sqlx::query(ask).bind(name).fetch_all(&mut *connection).await?;
    let mut columns = Vec::new();
    let mut key = Vec::new();
    for (place, row) in rows.iter().enumerate() {
        let (kind, not_null, part): (String, bool, i64) = (row.try_get(1)?, row.try_get(2)?, row.try_get(3)?);
        let text = !kind.contains("INT");
        columns.push(Column { name: row.try_get(0)?, text, nullable: !not_null && part == 0 });
        if part > 0 {
            key.push((part, place));
        }
    }
    key.sort_unstable();
    let key = key.into_iter().map(|(_, place)| place).collect();
    let ask = "SELECT \"table\" FROM pragma_foreign_key_list(?)";
    let parents = sqlx::query_scalar(ask).bind(name).fetch_all(&mut *connection).await?;
    let born: i64 = sqlx::query_scalar(AssertSqlSafe(format!("SELECT COUNT(*) FROM {name}")))
        .fetch_one(connection)
        .await?;
    Ok((Table { name: name.to_owned(), columns, key, born: born.unsigned_abs() }, parents))
}

fn in_order(mut tables: BTreeMap<String, Table>, needs: BTreeMap<String, Vec<String>>) -> Vec<Table> {
    let mut ordered: Vec<Table> = Vec::with_capacity(tables.len());
    while !tables.is_empty() {
        let free =
            |name: &String| !needs[name].iter().any(|parent| parent != name && tables.contains_key(parent));
        // Two that need each other would be a mistake in a step; then the first goes first, and the database says so.
        let next = tables.keys().find(|name| free(name)).or_else(|| tables.keys().next()).cloned();
        ordered.extend(next.and_then(|name| tables.remove(&name)));
    }
    ordered
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_table_has_a_key_and_stands_behind_those_it_needs() {
        let tables = at(migrate::newest_of_ours(Dialect::Sqlite)).await.unwrap();
        let place = |name: &str| tables.iter().position(|table| table.name == name).expect("it is there");
        assert!(tables.iter().all(|table| !table.key.is_empty()), "{tables:?}");
        assert!(place("segments") < place("hosts") && place("recoveries") < place("vmoves"));
        assert!(place("events") < place("deliveries"));
        let audit = &tables[place("audit")];
        let key: Vec<_> = audit.key.iter().map(|part| audit.columns[*part].name.as_str()).collect();
        assert_eq!((key, audit.numbered()), (vec!["chain", "sequence"], false));
        assert!(tables[place("hosts")].numbered());
    }

    #[tokio::test]
    async fn an_older_step_has_what_it_had() {
        let has_hooks = |tables: &[Table]| {
            let table = tables.iter().find(|table| table.name == "recoveries").expect("it is there");
            table.columns.iter().any(|column| column.name == "hooks")
        };
        assert!(!has_hooks(&at(2).await.unwrap()) && has_hooks(&at(3).await.unwrap()));
        assert_eq!(at(0).await.unwrap(), []);
    }
}
