//! Engines and their leases. A lease is held by observation: who sees (engine, counter) unchanged for the lease on its own
//! monotonic clock may take over (DESIGN 3). The times here are for display.

use halberd_core::id::EngineId;
use halberd_core::time::Stamp;
use serde_json::Value;

use crate::error::{Error, Result};
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

/// Keeps one member of a running engine's detail. `false`: another run has taken its name.
pub async fn note(tx: &mut Tx, id: EngineId, member: &str, value: &Value) -> Result<bool> {
    let Some(row) = first(&mut &mut *tx, "SELECT * FROM engines WHERE id = ?", args![id]).await? else {
        return Ok(false);
    };
    let mut detail = read(&row)?.detail;
    detail[member] = value.clone();
    let sql = "UPDATE engines SET detail = ? WHERE id = ?";
    Ok(tx.exec(sql, args![detail.to_string(), id]).await? == 1)
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

fn read(row: &Row) -> Result<EngineRow> {
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
