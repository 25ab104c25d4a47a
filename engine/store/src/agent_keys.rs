//! The key each agent signs with, sealed. API and engine both open them (DESIGN 10.11).

use halberd_core::id::HostId;
use halberd_core::time::Stamp;
use secrecy::SecretSlice;

use crate::error::{Error, Result};
use crate::legible::legible;
use crate::seal::{Place, Sealer};
use crate::transaction::{Read, Tx, all, first};
use crate::value::{Row, args};

/// Seals and stores a host's key in place of the former, which is void from then on; the answer is the row's version.
pub async fn set(tx: &mut Tx, sealer: &Sealer, host: HostId, key: &[u8], now: Stamp) -> Result<i64> {
    let row =
        first(&mut &mut *tx, "SELECT host, version FROM agent_keys WHERE host = ?", args![host]).await?;
    let old = row.map(|row| row.of("agent_keys", "host").int("version")).transpose()?;
    let version = old.unwrap_or(0) + 1;
    let sealed = sealer.seal(place(&host.to_string(), version), key)?;
    match old {
        Some(seen) => {
            let sql = "UPDATE agent_keys SET sealed = ?, version = ?, at = ? WHERE host = ? AND version = ?";
            if tx.exec(sql, args![sealed, version, now, host, seen]).await? != 1 {
                return Err(Error::Conflict { attempts: 1, source: None });
            }
        }
        None => {
            let sql = "INSERT INTO agent_keys (host, sealed, version, at) VALUES (?, ?, ?, ?)";
            tx.exec(sql, args![host, sealed, version, now]).await.map_err(Error::raced)?;
        }
    }
    Ok(version)
}

/// A host's key; `None`: it has no agent.
pub async fn get(mut on: impl Read, sealer: &Sealer, host: HostId) -> Result<Option<SecretSlice<u8>>> {
    let row =
        first(&mut on, "SELECT host, sealed, version FROM agent_keys WHERE host = ?", args![host]).await?;
    row.map(|row| open(&row, sealer).map(|(_, _, key)| key)).transpose()
}

/// The keys of all living hosts, each with its row's version: a listener reads them at its start and again when
/// [`versions`] differ.
pub async fn all_keys(mut on: impl Read, sealer: &Sealer) -> Result<Vec<(HostId, i64, SecretSlice<u8>)>> {
    let sql = "SELECT k.host, k.sealed, k.version FROM agent_keys k JOIN hosts h ON h.id = k.host WHERE h.deleted = 0";
    legible(&all(&mut on, sql, vec![]).await?, |row| open(row, sealer))
}

/// Which living hosts have a key, and of which version.
pub async fn versions(mut on: impl Read) -> Result<Vec<(HostId, i64)>> {
    let sql = "SELECT k.host, k.version FROM agent_keys k JOIN hosts h ON h.id = k.host WHERE h.deleted = 0";
    let read = |row: &Row| {
        let row = row.of("agent_keys", "host");
        Ok((row.id("host")?, row.int("version")?))
    };
    all(&mut on, sql, vec![]).await?.iter().map(read).collect()
}

/// Withdraws a host's key. `false`: it had none.
pub async fn remove(tx: &mut Tx, host: HostId) -> Result<bool> {
    Ok(tx.exec("DELETE FROM agent_keys WHERE host = ?", args![host]).await? == 1)
}

fn place(host: &str, version: i64) -> Place<'_> {
    Place { table: "agent_keys", row: host, version }
}

fn open(row: &Row, sealer: &Sealer) -> Result<(HostId, i64, SecretSlice<u8>)> {
    let row = row.of("agent_keys", "host");
    let (host, version): (HostId, i64) = (row.id("host")?, row.int("version")?);
    Ok((host, version, sealer.open(place(&host.to_string(), version), row.text("sealed")?)?))
}
