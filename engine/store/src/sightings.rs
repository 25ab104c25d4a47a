//! What each engine sees of each host, written on transitions (DESIGN 10.8). A sighting counts only while its engine's lease
//! counter moves on the reader's own clock; `since` is for display.

use halberd_core::id::{BootId, EngineId, HostId};
use halberd_core::time::Stamp;

use crate::error::{Error, Result};
use crate::legible::legible;
use crate::transaction::{Read, Tx, all};
use crate::value::{Row, args};

/// One engine's sight of one host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SightingRow {
    pub host: HostId,
    pub engine: EngineId,
    pub boot: Option<BootId>,
    /// `alive`, `silent`, `partial`, ...
    pub state: String,
    pub since: Stamp,
}

/// Replaces an engine's sight of a host.
pub async fn record(tx: &mut Tx, sighting: &SightingRow) -> Result<()> {
    let key = args![sighting.host, sighting.engine];
    tx.exec("DELETE FROM sightings WHERE host = ? AND engine = ?", key).await?;
    let sql = "INSERT INTO sightings (host, engine, boot, state, since) VALUES (?, ?, ?, ?, ?)";
    let values = args![sighting.host, sighting.engine, sighting.boot, &sighting.state, sighting.since];
    tx.exec(sql, values).await.map_err(Error::raced)?;
    Ok(())
}

/// Every engine's sight of every host.
pub async fn list(mut on: impl Read) -> Result<Vec<SightingRow>> {
    legible(&all(&mut on, "SELECT * FROM sightings ORDER BY host, engine", vec![]).await?, read)
}

/// Every engine's sight of one host.
pub async fn of_host(mut on: impl Read, host: HostId) -> Result<Vec<SightingRow>> {
    all(&mut on, "SELECT * FROM sightings WHERE host = ? ORDER BY engine", args![host])
        .await?
        .iter()
        .map(read)
        .collect()
}

/// Forgets what an engine saw: its run is over.
pub async fn forget(tx: &mut Tx, engine: EngineId) -> Result<()> {
    tx.exec("DELETE FROM sightings WHERE engine = ?", args![engine]).await?;
    Ok(())
}

pub(crate) fn read(row: &Row) -> Result<SightingRow> {
    let row = row.of("sightings", "host");
    Ok(SightingRow {
        host: row.id("host")?,
        engine: row.id("engine")?,
        boot: row.opt_id("boot")?,
        state: row.string("state")?,
        since: row.stamp("since")?,
    })
}
