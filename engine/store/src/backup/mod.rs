//! One portable backup for all three databases: what a person restores when the database is lost, and the road from one kind of
//! database to another.
//!
//! A backup is a text file of lines, each one JSON: first who made it and of what, then each table with its rows (arrays in the order
//! of the columns named before them), the files that belong to the database (the secrets key, the engine's high-water file), how many
//! rows each table has, and at last the SHA-256 of every byte before that line. It needs no program of ours to be read, and no
//! database to be verified. The rows are those of one moment ([`crate::Db::snapshot`]); engines go on beside it.
//!
//! A restore reads the file three times: once for its digest, once for its form and its counts, and only then to write. What it
//! writes is one transaction on SQLite and PostgreSQL. MariaDB commits at each statement of a schema and Galera wants small
//! transactions, so there a table stands from the first write to the last ([`MARK`]) with which the database does not open.
//!
//! A restored database shows less than the world has seen: every engine starts in reconcile-only ([`crate::rewind`]).

mod read;
mod restore;
mod shape;
#[cfg(test)]
mod tests;
mod write;

use std::collections::BTreeMap;
use std::path::PathBuf;

use halberd_core::time::Stamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub use read::{Backup, open};
pub use restore::{Former, Restore, Restored, restore};
pub use write::{Files, write};

use crate::error::Error;
use crate::value::Arg;

/// The form of the file. Raised when an older program could misread it.
pub const FORMAT: u32 = 1;

/// The table that marks a MariaDB database whose restore has not ended.
pub(crate) const MARK: &str = "_halberd_restoring";

/// Longest line that is read: a thousand times our longest document, and a bound for a file that is none of ours.
const LONGEST_LINE: u64 = 64 << 20;

/// Why there is no backup, or nothing was restored. Nothing was changed unless it says so.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    #[error("{path}: {source}")]
    File { path: PathBuf, source: std::io::Error },
    #[error("{path} exists already; name another file, or say --force to replace it")]
    Exists { path: PathBuf },
    #[error("{path} could not be written, and nothing of it is left: {source}")]
    Unwritten { path: PathBuf, source: std::io::Error },
    #[error("{path} is no backup made by `halberd db backup`")]
    Foreign { path: PathBuf },
    #[error(
        "{path} is of format {found} and this program reads up to {FORMAT}: restore it with the version that made it ({by}) or a later one"
    )]
    Newer { path: PathBuf, found: u64, by: String },
    #[error(
        "{path} ends too early, at line {line}: it was cut off when it was made or copied; take another backup"
    )]
    Truncated { path: PathBuf, line: u64 },
    #[error(
        "{path} is damaged: its digest is {found} and should be {wanted}; copy it again from where it was made, or take another backup"
    )]
    Damaged { path: PathBuf, found: String, wanted: String },
    #[error("{path}, line {line}: {reason}; its digest is right, so it was made so: take another backup")]
    Malformed { path: PathBuf, line: u64, reason: String },
    #[error(
        "the backup's schema is at step {found} and this program's at {ours}: restore it with the version that made it ({by}) or a later one"
    )]
    Schema { found: i64, ours: i64, by: String },
    #[error(
        "the backup's recoveries are of workflow version {found} and this program knows up to {ours}: restore it with the version that \
         made it ({by}) or a later one"
    )]
    Workflow { found: u32, ours: u32, by: String },

    #[error(
        "the database is not empty: it holds {}; restore into an empty one, or say --replace to have all of that removed", told(.0)
    )]
    NotEmpty(BTreeMap<String, u64>),
    #[error("this removes from the database: {}; say --yes as well to do it", told(.0))]
    Unconfirmed(BTreeMap<String, u64>),
    #[error(
        "engine {0} has not stopped on this database: stop every engine and API of it; when they are known to be gone, say \
         --engines-are-stopped"
    )]
    Engines(String),
    #[error("engine {0} works on this database at this very moment: stop every engine and API of it first")]
    AtWork(String),
    #[error(
        "another key lies in {path} than the one in the backup, which opens its secrets: move that file away, or say --without-key \
         and put the right one there yourself"
    )]
    OtherKey { path: PathBuf },
    #[error(
        "the backup has a secrets key and there is no place for it: set [engine] secrets_key_file to where it shall lie, or say \
         --without-key"
    )]
    NoPlaceForKey,
    #[error(
        "the secrets key {path} does not open this database's secrets, so a backup with it would not help: {source}"
    )]
    WrongKey { path: PathBuf, source: Box<Error> },
    #[error(
        "table {table}, line {line} of the backup, was refused by the database; nothing was restored: {source}"
    )]
    Row { table: String, line: u64, source: Box<Error> },
    #[error("the backup changed while it was read; nothing was restored")]
    Changed,
    #[error(transparent)]
    Store(#[from] Error),
}

fn told(rows: &BTreeMap<String, u64>) -> String {
    rows.iter().map(|(table, rows)| format!("{table} {rows}")).collect::<Vec<_>>().join(", ")
}

/// What a backup says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Header {
    pub format: u32,
    /// The version that made it.
    pub halberd: String,
    /// `sqlite`, `postgres` or `mysql`.
    pub database: String,
    /// The schema's step.
    pub schema: i64,
    /// The newest workflow version of that program.
    pub workflow: u32,
    /// The database's identity; none when no engine has opened it yet.
    pub identity: Option<Uuid>,
    /// By the clock of where it was made; for display.
    pub taken_at: Stamp,
}

/// A backup as verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    pub header: Header,
    /// Rows of each table.
    pub rows: BTreeMap<String, u64>,
    /// Whether the secrets key is in it: then whoever reads the file can open every sealed secret.
    pub with_key: bool,
    pub with_high_water: bool,
    pub sha256: String,
}

/// A line that is no row.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Section {
    HalberdBackup(Header),
    /// Its rows follow.
    Table {
        name: String,
        columns: Vec<String>,
    },
    /// In hex.
    SecretsKey(String),
    /// In hex: whatever the engine keeps there.
    HighWater(String),
    Rows(BTreeMap<String, u64>),
    /// The last line: of every byte before it.
    Sha256(String),
}

/// A value of a row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum Cell {
    Null,
    Int(i64),
    Text(String),
}

impl From<Arg> for Cell {
    fn from(value: Arg) -> Cell {
        match value {
            Arg::Null => Cell::Null,
            Arg::Int(number) => Cell::Int(number),
            Arg::Text(text) => Cell::Text(text),
        }
    }
}

impl From<Cell> for Arg {
    fn from(cell: Cell) -> Arg {
        match cell {
            Cell::Null => Arg::Null,
            Cell::Int(number) => Arg::Int(number),
            Cell::Text(text) => Arg::Text(text),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
