//! Which schema the source has, and how its columns are asked for.

use std::collections::BTreeSet;

use super::error::ImportError;
use super::source::{Cell, Kind, Source};
use crate::dialect::Dialect;

/// A column of the source, and whether a schema that can be read may lack it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Column {
    pub name: &'static str,
    pub kind: Kind,
    /// Came with a later revision; null before.
    pub late: bool,
}

const fn int(name: &'static str) -> Column {
    Column { name, kind: Kind::Int, late: false }
}
const fn time(name: &'static str) -> Column {
    Column { name, kind: Kind::Time, late: false }
}
const fn text(name: &'static str) -> Column {
    Column { name, kind: Kind::Text, late: false }
}
const fn late(column: Column) -> Column {
    Column { late: true, ..column }
}

/// A table with the columns that are read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    pub table: &'static str,
    pub columns: &'static [Column],
}

pub(super) const SEGMENTS: Shape = Shape {
    table: "failover_segments",
    columns: &[
        int("id"),
        text("uuid"),
        text("name"),
        text("service_type"),
        text("description"),
        text("recovery_method"),
        late(int("enabled")),
        time("created_at"),
        time("updated_at"),
        time("deleted_at"),
        int("deleted"),
    ],
};
pub(super) const HOSTS: Shape = Shape {
    table: "hosts",
    columns: &[
        int("id"),
        text("uuid"),
        text("name"),
        int("reserved"),
        text("type"),
        text("control_attributes"),
        text("failover_segment_id"),
        int("on_maintenance"),
        time("created_at"),
        time("updated_at"),
        time("deleted_at"),
        int("deleted"),
    ],
};
pub(super) const NOTIFICATIONS: Shape = Shape {
    table: "notifications",
    columns: &[
        int("id"),
        text("notification_uuid"),
        time("generated_time"),
        text("source_host_uuid"),
        text("type"),
        text("payload"),
        text("status"),
        late(text("failover_segment_uuid")),
        late(text("message")),
        time("created_at"),
        time("updated_at"),
        int("deleted"),
    ],
};
pub(super) const VMOVES: Shape = Shape {
    table: "vmoves",
    columns: &[
        int("id"),
        text("uuid"),
        text("notification_uuid"),
        text("instance_uuid"),
        text("instance_name"),
        text("source_host"),
        text("dest_host"),
        time("start_time"),
        time("end_time"),
        text("type"),
        text("status"),
        text("message"),
        time("created_at"),
        time("updated_at"),
        int("deleted"),
    ],
};

/// Masakari's Alembic revisions, oldest first, and what each brought.
const REVISIONS: &[(&str, &str)] = &[
    ("8f848eb45d03", "the first under Alembic"),
    ("8bdf5929c5a6", "vmoves"),
    ("13adff5efb9a", "notifications name segment and message"),
];
/// Versions under sqlalchemy-migrate whose tables are those of the first revision.
const LEGACY: &[i64] = &[7, 8];

/// What was found.
#[derive(Debug)]
pub(super) struct Schema {
    /// For people.
    pub revision: String,
    found: BTreeSet<(String, String)>,
    dialect: Dialect,
}

impl Schema {
    /// Looks at tables, version and columns, in this order.
    pub async fn read(source: &mut Source) -> Result<Schema, ImportError> {
        let dialect = source.dialect();
        let place = source.place.to_string();
        let rows = source.rows(catalog(dialect).to_owned(), &[Kind::Text, Kind::Text]).await?;
        let found: BTreeSet<(String, String)> = rows.into_iter().filter_map(pair).collect();
        let tables: BTreeSet<&str> = found.iter().map(|(table, _)| table.as_str()).collect();
        for needed in [SEGMENTS.table, HOSTS.table, NOTIFICATIONS.table] {
            if !tables.contains(needed) {
                let what = match tables.len() {
                    0 => "it has no tables that this user may read".to_owned(),
                    n => format!("there is no table {needed} among the {n} that this user may read"),
                };
                return Err(ImportError::NotMasakari { place, what });
            }
        }
        let revision = revision(source, &tables, &place).await?;
        let schema = Schema { revision, found, dialect };
        for shape in [SEGMENTS, HOSTS, NOTIFICATIONS] {
            schema.check(&shape, &place)?;
        }
        if schema.has_vmoves() {
            schema.check(&VMOVES, &place)?;
        }
        Ok(schema)
    }

    pub fn has_vmoves(&self) -> bool {
        self.found.iter().any(|(table, _)| table == VMOVES.table)
    }

    fn has(&self, table: &str, column: &str) -> bool {
        self.found.contains(&(table.to_owned(), column.to_owned()))
    }

    fn check(&self, shape: &Shape, place: &str) -> Result<(), ImportError> {
        match shape.columns.iter().find(|column| !column.late && !self.has(shape.table, column.name)) {
            None => Ok(()),
            Some(column) => Err(ImportError::Incomplete {
                place: place.to_owned(),
                table: shape.table,
                column: column.name,
            }),
        }
    }

    /// `SELECT` of a shape's columns; what comes after `FROM table` is the caller's.
    pub fn select(&self, shape: &Shape, rest: &str) -> (String, Vec<Kind>) {
        let columns: Vec<String> = shape
            .columns
            .iter()
            .map(|column| {
                if self.has(shape.table, column.name) {
                    asked(self.dialect, column)
                } else {
                    "NULL".to_owned()
                }
            })
            .collect();
        let kinds = shape.columns.iter().map(|column| column.kind).collect();
        (format!("SELECT {} FROM {} {rest}", columns.join(", "), shape.table), kinds)
    }
}

/// Tables and columns of the schema one is in.
fn catalog(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::Sqlite => {
            "SELECT m.name, c.name FROM sqlite_master m JOIN pragma_table_info(m.name) c WHERE m.type = 'table'"
        }
        Dialect::Postgres => {
            "SELECT table_name::text, column_name::text FROM information_schema.columns WHERE table_schema = current_schema()"
        }
        Dialect::Mysql => {
            "SELECT TABLE_NAME, COLUMN_NAME FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = DATABASE()"
        }
    }
}

/// A column so that integers come as 64 bits and times as text with microseconds.
fn asked(dialect: Dialect, column: &Column) -> String {
    let name = column.name;
    match (dialect, column.kind) {
        (Dialect::Sqlite, _) => format!("\"{name}\""),
        (Dialect::Postgres, Kind::Int) => format!("\"{name}\"::int::bigint"),
        (Dialect::Postgres, Kind::Time) => format!("to_char(\"{name}\", 'YYYY-MM-DD HH24:MI:SS.US')"),
        (Dialect::Postgres, Kind::Text) => format!("\"{name}\"::text"),
        (Dialect::Mysql, Kind::Int) => format!("CAST(`{name}` AS SIGNED)"),
        (Dialect::Mysql, Kind::Time) => format!("DATE_FORMAT(`{name}`, '%Y-%m-%d %H:%i:%s.%f')"),
        (Dialect::Mysql, Kind::Text) => format!("`{name}`"),
    }
}

async fn revision(source: &mut Source, tables: &BTreeSet<&str>, place: &str) -> Result<String, ImportError> {
    let too_old = |found: String| ImportError::TooOld { place: place.to_owned(), found };
    if tables.contains("masakari_alembic_version") {
        let sql = "SELECT version_num FROM masakari_alembic_version".to_owned();
        let rows = source.rows(sql, &[Kind::Text]).await?;
        let found: Vec<String> = rows.into_iter().flatten().filter_map(words).collect();
        match found.as_slice() {
            [] => {}
            [one] => {
                return match REVISIONS.iter().find(|(revision, _)| revision == one) {
                    Some((revision, brought)) => Ok(format!("{revision} ({brought})")),
                    None => Err(too_new(place, one)),
                };
            }
            several => return Err(too_new(place, &several.join(" and "))),
        }
    }
    if tables.contains("migrate_version") {
        let sql = match source.dialect() {
            Dialect::Sqlite => "SELECT version FROM migrate_version",
            Dialect::Postgres => "SELECT version::bigint FROM migrate_version",
            Dialect::Mysql => "SELECT CAST(version AS SIGNED) FROM migrate_version",
        };
        let rows = source.rows(sql.to_owned(), &[Kind::Int]).await?;
        let newest = rows.iter().flatten().filter_map(|cell| match cell {
            Cell::Int(version) => Some(*version),
            _ => None,
        });
        return match newest.max() {
            Some(version) if LEGACY.contains(&version) => Ok(format!("legacy version {version}")),
            Some(version) => Err(too_old(format!("legacy version {version}"))),
            None => Err(too_old("without a number".into())),
        };
    }
    Err(too_old("without a number".into()))
}

fn too_new(place: &str, found: &str) -> ImportError {
    let known: Vec<&str> = REVISIONS.iter().map(|(revision, _)| *revision).collect();
    ImportError::TooNew { place: place.to_owned(), found: found.to_owned(), known: known.join(", ") }
}

fn words(cell: Cell) -> Option<String> {
    match cell {
        Cell::Bytes(bytes) => Some(String::from_utf8_lossy(&bytes).into_owned()),
        Cell::Int(number) => Some(number.to_string()),
        Cell::Null => None,
    }
}

fn pair(row: Vec<Cell>) -> Option<(String, String)> {
    let mut row = row.into_iter().filter_map(words);
    Some((row.next()?, row.next()?))
}
