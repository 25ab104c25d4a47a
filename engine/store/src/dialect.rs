//! Where the databases' SQL differs: how a transaction begins, how placeholders look, how a row is overwritten. What their
//! errors mean is in `refusal`, how arguments and rows travel in `wire`.
//!
//! Every statement of this package is written once, with `?` for its arguments, in the SQL that SQLite, PostgreSQL and
//! MariaDB share; columns hold only text and 64-bit integers (DESIGN 10.12).
//!
//! # Isolation
//!
//! Units were written for SQLite, where one writer works at a time: they read, then write under a condition. On the servers they run
//! at REPEATABLE READ, so that all reads of a unit see one moment, and a row that somebody changed after that moment cannot be
//! overwritten: PostgreSQL answers 40001, MariaDB 1020 or no matched row, and the unit runs again. At READ COMMITTED each read would
//! see another moment, and what was read before the condition's version could be older than the version. SERIALIZABLE is not asked
//! for: no Galera has it across nodes, so every invariant must stand without it (conditional updates and unique keys, SAFETY 3.2),
//! and on tables as small as ours it refuses units that never met. What snapshots do not see is two units that read what the other
//! changes and write different rows; where that matters (a report that joins a recovery which closes), both write one row.

use std::borrow::Cow;

/// Which SQL is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    Sqlite,
    Postgres,
    Mysql,
}

impl Dialect {
    /// Begins a transaction that will write. SQLite must take its lock at once: a deferred transaction that reads first cannot
    /// wait for the lock and fails on the spot (CRATES 4).
    pub fn begin_for_write(self) -> &'static str {
        match self {
            Dialect::Sqlite => "BEGIN IMMEDIATE",
            Dialect::Postgres => "BEGIN ISOLATION LEVEL REPEATABLE READ",
            // The session's level is set when it connects.
            Dialect::Mysql => "BEGIN",
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

    /// An insert of `rows` rows that overwrites `changed` columns of a row with the same `key`, and is refused by a row with another
    /// key that is unique as well. `None`: MySQL's statement would overwrite such a row too; see [`crate::Tx`]'s own way.
    pub fn upsert(
        self,
        table: &str,
        key: &[&str],
        columns: &[&str],
        changed: &[&str],
        rows: usize,
    ) -> Option<String> {
        if self == Dialect::Mysql {
            return None;
        }
        let set: Vec<String> = changed.iter().map(|column| format!("{column} = excluded.{column}")).collect();
        let head = insert(table, columns, rows);
        Some(format!("{head} ON CONFLICT ({}) DO UPDATE SET {}", key.join(", "), set.join(", ")))
    }
}

/// A plain insert of several rows.
pub(crate) fn insert(table: &str, columns: &[&str], rows: usize) -> String {
    let one = format!("({})", vec!["?"; columns.len()].join(", "));
    format!("INSERT INTO {table} ({}) VALUES {}", columns.join(", "), vec![one.as_str(); rows].join(", "))
}

/// Rows written by one statement. More gain little; the number of different texts stays below the statement cache.
pub(crate) const ROWS_PER_STATEMENT: usize = 32;

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
        let text =
            "INSERT INTO t (id, a) VALUES (?, ?), (?, ?) ON CONFLICT (id) DO UPDATE SET a = excluded.a";
        assert_eq!(make(Dialect::Sqlite).as_deref(), Some(text));
        assert_eq!(make(Dialect::Postgres), make(Dialect::Sqlite));
        assert_eq!(make(Dialect::Mysql), None);
    }
}
