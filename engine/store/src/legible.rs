//! One row that cannot be read must not blind an engine to all others: a document that somebody damaged, a word of a newer version.
//!
//! What lists things that stand each for itself (hosts, open recoveries, reports, wishes) leaves such a row out and says so, once. It
//! stays as it is, for whoever can read it or mends it: nothing here writes. What belongs together is read whole or not at all: the
//! intents and moves of a recovery (without one of them a guest could be sent twice) and the engines (without one of them its
//! recoveries would seem to be nobody's).

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use serde::Serialize;
use sqlx::AssertSqlSafe;

use crate::db::Db;
use crate::error::{Error, Result};
use crate::seal::SealError;
use crate::transaction::{Read, all};
use crate::value::{Row, args};
use crate::{engines, fence_devices, hosts, intents, notifications, recoveries, segments, vmoves, wishes};

/// Rows that were spoken of. More than this are one damage, not so many.
const SPOKEN_KEPT: usize = 10_000;
/// Rows of a table that are looked at for [`unreadable`]; it is asked every few seconds.
const LOOKED_AT: u32 = 1_000;

/// A row that is left out until it is mended.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Unreadable {
    pub table: String,
    /// Its id, or what names it.
    pub row: String,
    /// What is wrong, with the column, and the way out.
    pub why: String,
}

/// The rows that can be read.
pub(crate) fn legible<T>(rows: &[Row], read: impl Fn(&Row) -> Result<T>) -> Result<Vec<T>> {
    rows.iter().filter_map(|row| or_left(read(row)).transpose()).collect()
}

/// Rows after a number that can be read, oldest first, at most `limit`. `sql` has a `?` for the number and one for the limit; rows that
/// cannot be read take no room from the others.
pub(crate) async fn legible_from<T>(
    on: &mut impl Read,
    sql: &'static str,
    after: i64,
    limit: u32,
    read: impl Fn(&Row) -> Result<T>,
) -> Result<Vec<T>> {
    let mut found = Vec::new();
    let mut after = after;
    loop {
        let wanted = limit as usize - found.len();
        let rows = all(on, sql, args![after, wanted as u32]).await?;
        found.extend(legible(&rows, &read)?);
        match rows.last() {
            Some(last) if rows.len() == wanted && found.len() < limit as usize => {
                after = last.of("rows", "num").int("num")?;
            }
            _ => return Ok(found),
        }
    }
}

/// `None` for a row that cannot be read.
pub(crate) fn or_left<T>(read: Result<T>) -> Result<Option<T>> {
    match read {
        Ok(value) => Ok(Some(value)),
        Err(error) => match named(&error) {
            Some(bad) => {
                speak(bad);
                Ok(None)
            }
            None => Err(error),
        },
    }
}

/// Whether an error is one row's own, and of which.
pub(crate) fn named(error: &Error) -> Option<Unreadable> {
    let (table, row, way_out) = match error {
        Error::UnknownWord { table, row, .. } => (
            table,
            row,
            "a newer version wrote it, which will see to it, or somebody edited it: start an engine of that version, or mend the row",
        ),
        Error::Corrupt { table, row, .. } => (table, row, "mend the row, or restore a backup"),
        Error::Seal(SealError::Unopened { table, row }) => {
            (table, row, "set that host's fence devices or agent key anew")
        }
        _ => return None,
    };
    Some(Unreadable { table: (*table).to_owned(), row: row.clone(), why: format!("{error}; {way_out}") })
}

/// Once: lists are read several times a second.
fn speak(bad: Unreadable) {
    static SPOKEN: Mutex<BTreeSet<Unreadable>> = Mutex::new(BTreeSet::new());
    let mut spoken = SPOKEN.lock().unwrap_or_else(PoisonError::into_inner);
    if spoken.len() < SPOKEN_KEPT && spoken.insert(bad.clone()) {
        tracing::error!(
            table = bad.table,
            row = bad.row,
            "a row cannot be read and is left out: {}",
            bad.why
        );
    }
}

/// Every row that engines leave out now, for readiness: living hosts, segments, devices, what is open of recoveries, moves, intents,
/// reports and wishes, and engines.
pub async fn unreadable(db: &Db) -> Result<Vec<Unreadable>> {
    let open = "recovery IN (SELECT id FROM recoveries WHERE open_key IS NOT NULL)";
    let tables: [(String, Try); 10] = [
        ("hosts WHERE deleted = 0".to_owned(), |row| hosts::read(row).map(drop)),
        ("segments WHERE deleted = 0".to_owned(), |row| segments::read(row).map(drop)),
        ("segment_policy".to_owned(), |row| {
            row.of("segment_policy", "segment").json::<serde_json::Value>("policy").map(drop)
        }),
        ("fence_devices".to_owned(), |row| fence_devices::read(row).map(drop)),
        ("recoveries WHERE open_key IS NOT NULL".to_owned(), |row| recoveries::read(row).map(drop)),
        (format!("vmoves WHERE {open}"), |row| vmoves::read(row).map(drop)),
        ("intents WHERE resolved_at IS NULL".to_owned(), |row| intents::read(row).map(drop)),
        ("notifications WHERE status = 'new'".to_owned(), |row| notifications::read(row).map(drop)),
        ("wishes WHERE done_at IS NULL".to_owned(), |row| wishes::read(row).map(drop)),
        ("engines".to_owned(), |row| engines::read(row).map(drop)),
    ];
    let mut found = BTreeSet::new();
    for (from, read) in tables {
        let sql = AssertSqlSafe(format!("SELECT * FROM {from} LIMIT {LOOKED_AT}"));
        let mut on = db;
        for row in all(&mut on, sql, vec![]).await? {
            if let Err(error) = read(&row) {
                found.insert(named(&error).ok_or(error)?);
            }
        }
    }
    Ok(found.into_iter().collect())
}

/// Reads a row for its errors.
type Try = fn(&Row) -> Result<()>;
