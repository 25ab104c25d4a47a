//! Engines and their leases. A lease is held by observation: who sees (engine, counter) unchanged for the lease on its own
//! monotonic clock may take over (DESIGN 3). The times here are for display.

use halberd_core::id::EngineId;
use halberd_core::time::Stamp;
use serde_json::Value;

use crate::db::Db;
use crate::error::{Error, Result};
use crate::migrate::newest_of_ours;
use crate::transaction::{Read, Tx, all, first};
use crate::value::{Row, args};

/// An engine as stored.
#[derive(Clone, Debug, PartialEq)]
pub struct EngineRow {
    /// Unique among engines; a restart keeps it.
    pub name: String,
    /// One run of the process.
    pub id: EngineId,
    /// Raised by each renewal.
    pub counter: i64,
    pub started_at: Stamp,
    pub renewed_at: Stamp,
    /// Set by a graceful stop: nobody need wait for the lease.
    pub stopped_at: Option<Stamp>,
    /// Version, addresses.
    pub detail: Value,
}

/// What came of registering.
#[derive(Clone, Debug, PartialEq)]
pub enum Registered {
    /// The name is ours; the former run of that name, if there was one, is replaced.
    Done { former: Option<EngineId> },
    /// The name may belong to a living engine. Watch it for the lease, then register again with what was seen.
    Taken(EngineRow),
}

/// Registers an engine under its name.
///
/// A row of the same name is replaced only if that engine stopped, if the caller saw exactly this (id, counter) unchanged
/// for the lease, or if `alone` (the exclusive lock is held, [`crate::Db::holds_exclusive_lock`]).
pub async fn register(
    tx: &mut Tx,
    name: &str,
    id: EngineId,
    seen: Option<(EngineId, i64)>,
    alone: bool,
    detail: &Value,
    now: Stamp,
) -> Result<Registered> {
    let row = first(&mut &mut *tx, "SELECT * FROM engines WHERE name = ?", args![name]).await?;
    let Some(old) = row.as_ref().map(read).transpose()? else {
        let sql = "INSERT INTO engines (name, id, counter, started_at, renewed_at, detail) VALUES (?, ?, 1, ?, ?, ?)";
        tx.exec(sql, args![name, id, now, now, detail.to_string()]).await.map_err(Error::raced)?;
        return Ok(Registered::Done { former: None });
    };
    if !(alone || old.stopped_at.is_some() || old.id == id || seen == Some((old.id, old.counter))) {
        return Ok(Registered::Taken(old));
    }
    let sql = "UPDATE engines SET id = ?, counter = counter + 1, started_at = ?, renewed_at = ?, stopped_at = NULL, detail = ? \
               WHERE name = ? AND id = ? AND counter = ?";
    let changed = tx.exec(sql, args![id, now, now, detail.to_string(), name, old.id, old.counter]).await?;
    if changed == 1 {
        Ok(Registered::Done { former: Some(old.id) })
    } else {
        Err(Error::Conflict { attempts: 1, source: None })
    }
}

/// Renews the lease. `None`: another run has taken the name; this engine must stop acting.
pub async fn renew(tx: &mut Tx, id: EngineId, now: Stamp) -> Result<Option<i64>> {
    let sql = "UPDATE engines SET counter = counter + 1, renewed_at = ? WHERE id = ? AND stopped_at IS NULL";
    if tx.exec(sql, args![now, id]).await? == 0 {
        return Ok(None);
    }
    let row = first(&mut &mut *tx, "SELECT name, counter FROM engines WHERE id = ?", args![id]).await?;
    row.map(|row| row.of("engines", "name").int("counter")).transpose()
}

/// Renews the lease and says what the engine has to say of itself, in one statement. `None` as with [`renew`].
pub async fn renew_saying(tx: &mut Tx, id: EngineId, detail: &Value, now: Stamp) -> Result<Option<i64>> {
    let sql = "UPDATE engines SET counter = counter + 1, renewed_at = ?, detail = ? WHERE id = ? AND stopped_at IS NULL";
    if tx.exec(sql, args![now, detail.to_string(), id]).await? == 0 {
        return Ok(None);
    }
    let row = first(&mut &mut *tx, "SELECT name, counter FROM engines WHERE id = ?", args![id]).await?;
    row.map(|row| row.of("engines", "name").int("counter")).transpose()
}

/// Keeps one member of a running engine's detail. `false`: another run has taken its name.
///
/// # Errors
/// [`Error::Conflict`] when somebody else wrote the detail between the two statements; the unit is run again.
pub async fn note(tx: &mut Tx, id: EngineId, member: &str, value: &Value) -> Result<bool> {
    match seen(tx, id).await? {
        Some((row, text)) => mark(tx, &row, &text, member, value.clone()).await,
        None => Ok(false),
    }
}

/// Marks an engine whose lease lapsed at this counter: its death is told. `false`: it was told, or the engine is not as it was seen.
///
/// # Errors
/// As [`note`].
pub async fn mark_dead(tx: &mut Tx, id: EngineId, counter: i64, now: Stamp) -> Result<bool> {
    match seen(tx, id).await? {
        Some((row, text)) if row.counter == counter && row.stopped_at.is_none() && !is_marked_dead(&row) => {
            mark(tx, &row, &text, DIED, now.0.into()).await
        }
        _ => Ok(false),
    }
}

/// Whether its death was told and it has not renewed since.
pub fn is_marked_dead(row: &EngineRow) -> bool {
    row.detail.get(DIED).is_some()
}

/// Marks that another run of this name waits for this one's lease. `false`: it is not as it was seen.
///
/// # Errors
/// As [`note`].
pub async fn mark_awaited(tx: &mut Tx, id: EngineId, counter: i64, by: EngineId) -> Result<bool> {
    match seen(tx, id).await? {
        Some((row, text)) if row.counter == counter => {
            mark(tx, &row, &text, AWAITED_BY, by.to_string().into()).await
        }
        _ => Ok(false),
    }
}

/// Whether another run of its name waits for its lease, so that its end is a restart.
pub fn is_awaited(row: &EngineRow) -> bool {
    row.detail.get(AWAITED_BY).is_some()
}

/// Members of the detail that others write into an engine's row; its next renewal writes them over.
const DIED: &str = "died_at";
const AWAITED_BY: &str = "awaited_by";

/// The row, and its detail as it stands there.
async fn seen(tx: &mut Tx, id: EngineId) -> Result<Option<(EngineRow, String)>> {
    let row = first(&mut &mut *tx, "SELECT * FROM engines WHERE id = ?", args![id]).await?;
    row.map(|row| Ok((read(&row)?, row.of("engines", "name").string("detail")?))).transpose()
}

async fn mark(tx: &mut Tx, row: &EngineRow, text: &str, member: &str, value: Value) -> Result<bool> {
    let mut detail = row.detail.clone();
    detail[member] = value;
    // What is known of the row is all in its counter and its detail: nobody else's word is written over.
    let sql = "UPDATE engines SET detail = ? WHERE id = ? AND counter = ? AND detail = ?";
    let values = args![detail.to_string(), row.id, row.counter, text];
    match tx.exec(sql, values).await? {
        1 => Ok(true),
        _ => Err(Error::Conflict { attempts: 1, source: None }),
    }
}

/// The schema step that this program speaks on such a database.
pub fn schema_step(db: &Db) -> i64 {
    newest_of_ours(db.dialect())
}

/// A graceful stop.
pub async fn stop(tx: &mut Tx, id: EngineId, now: Stamp) -> Result<()> {
    tx.exec("UPDATE engines SET stopped_at = ?, counter = counter + 1 WHERE id = ?", args![now, id]).await?;
    Ok(())
}

/// Every engine that ever registered, by name.
pub async fn list(mut on: impl Read) -> Result<Vec<EngineRow>> {
    all(&mut on, "SELECT * FROM engines ORDER BY name", vec![]).await?.iter().map(read).collect()
}

/// Forgets an engine that stopped. `false`: it did not, or there is none.
pub async fn forget(tx: &mut Tx, name: &str) -> Result<bool> {
    Ok(tx.exec("DELETE FROM engines WHERE name = ? AND stopped_at IS NOT NULL", args![name]).await? == 1)
}

pub(crate) fn read(row: &Row) -> Result<EngineRow> {
    let row = row.of("engines", "name");
    Ok(EngineRow {
        name: row.string("name")?,
        id: row.id("id")?,
        counter: row.int("counter")?,
        started_at: row.stamp("started_at")?,
        renewed_at: row.stamp("renewed_at")?,
        stopped_at: row.opt_stamp("stopped_at")?,
        detail: row.json("detail")?,
    })
}
