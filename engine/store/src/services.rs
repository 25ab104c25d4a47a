//! The control plane: what state each watched service is in, and the ledger of when it was down. Written on transitions only.

use halberd_core::id::ServiceId;
use halberd_core::time::Stamp;
use serde_json::Value;

use crate::error::{Error, Result};
use crate::legible::legible;
use crate::transaction::{Read, Tx, all, first};
use crate::value::{Row, args};

/// A service as last seen.
#[derive(Clone, Debug, PartialEq)]
pub struct ServiceRow {
    pub num: i64,
    pub id: ServiceId,
    pub name: String,
    pub kind: String,
    /// `up`, `down`, `slow`, ...
    pub state: String,
    pub since: Stamp,
    pub reason: String,
    pub probe: Value,
    pub version: i64,
    pub updated_at: Stamp,
}

/// A transition to record.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen<'a> {
    pub name: &'a str,
    pub kind: &'a str,
    pub state: &'a str,
    /// Whether it counts as down in the ledger.
    pub down: bool,
    pub reason: &'a str,
    pub probe: &'a Value,
}

/// An interval in which a service was down.
#[derive(Clone, Debug, PartialEq)]
pub struct DownRow {
    pub service: ServiceId,
    pub began_at: Stamp,
    /// `None`: it is down still.
    pub ended_at: Option<Stamp>,
    pub state: String,
    pub reason: String,
}

/// Records what a service is seen to be. The answer is the state before, when this is a transition (or the first sight);
/// `None` when only reason or probe changed. `fresh` is the id that a new service gets.
pub async fn record(
    tx: &mut Tx,
    fresh: ServiceId,
    seen: &Seen<'_>,
    now: Stamp,
) -> Result<Option<Transition>> {
    let old = by_name(&mut *tx, seen.name).await?;
    let changed = old.as_ref().is_none_or(|old| old.state != seen.state);
    let (id, since) =
        old.as_ref().map_or((fresh, now), |old| (old.id, if changed { now } else { old.since }));
    let probe = seen.probe.to_string();
    match &old {
        Some(old) => {
            let sql = "UPDATE services SET kind = ?, state = ?, since = ?, reason = ?, probe = ?, version = version + 1, \
                       updated_at = ? WHERE id = ? AND version = ?";
            let values = args![seen.kind, seen.state, since, seen.reason, probe, now, id, old.version];
            if tx.exec(sql, values).await? != 1 {
                return Err(Error::Conflict { attempts: 1, source: None });
            }
        }
        None => {
            let sql = "INSERT INTO services (id, name, kind, state, since, reason, probe, version, updated_at) \
                       VALUES (?, ?, ?, ?, ?, ?, ?, 1, ?)";
            tx.exec(sql, args![id, seen.name, seen.kind, seen.state, since, seen.reason, probe, now])
                .await
                .map_err(Error::raced)?;
        }
    }
    if changed {
        keep_ledger(tx, id, seen, now).await?;
    }
    Ok(changed.then(|| Transition { id, from: old.map(|old| old.state) }))
}

/// A change of a service's state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transition {
    pub id: ServiceId,
    /// `None`: seen for the first time.
    pub from: Option<String>,
}

async fn keep_ledger(tx: &mut Tx, id: ServiceId, seen: &Seen<'_>, now: Stamp) -> Result<()> {
    let open = "SELECT num, began_at FROM service_downs WHERE service = ? AND ended_at IS NULL";
    let is_open = first(&mut &mut *tx, open, args![id]).await?.is_some();
    if seen.down && !is_open {
        let sql = "INSERT INTO service_downs (service, began_at, state, reason) VALUES (?, ?, ?, ?)";
        tx.exec(sql, args![id, now, seen.state, seen.reason]).await?;
    }
    if !seen.down && is_open {
        let sql = "UPDATE service_downs SET ended_at = ? WHERE service = ? AND ended_at IS NULL";
        tx.exec(sql, args![now, id]).await?;
    }
    Ok(())
}

pub async fn list(mut on: impl Read) -> Result<Vec<ServiceRow>> {
    legible(&all(&mut on, "SELECT * FROM services ORDER BY name", vec![]).await?, read)
}

pub async fn by_name(mut on: impl Read, name: &str) -> Result<Option<ServiceRow>> {
    first(&mut on, "SELECT * FROM services WHERE name = ?", args![name]).await?.as_ref().map(read).transpose()
}

/// Intervals of a service that reach into the time since `from`, oldest first.
pub async fn downs(mut on: impl Read, service: ServiceId, from: Stamp) -> Result<Vec<DownRow>> {
    let sql =
        "SELECT * FROM service_downs WHERE service = ? AND (ended_at IS NULL OR ended_at >= ?) ORDER BY num";
    let read = |row: &Row| {
        let row = row.of("service_downs", "num");
        Ok(DownRow {
            service: row.id("service")?,
            began_at: row.stamp("began_at")?,
            ended_at: row.opt_stamp("ended_at")?,
            state: row.string("state")?,
            reason: row.string("reason")?,
        })
    };
    all(&mut on, sql, args![service, from]).await?.iter().map(read).collect()
}

pub(crate) fn read(row: &Row) -> Result<ServiceRow> {
    let row = row.of("services", "name");
    Ok(ServiceRow {
        num: row.int("num")?,
        id: row.id("id")?,
        name: row.string("name")?,
        kind: row.string("kind")?,
        state: row.string("state")?,
        since: row.stamp("since")?,
        reason: row.string("reason")?,
        probe: row.json("probe")?,
        version: row.int("version")?,
        updated_at: row.stamp("updated_at")?,
    })
}
