//! Fence devices of each host. The API seals them when they are set; only an engine opens them; everybody else sees them with
//! their secrets masked (DESIGN 10.11).

use halberd_core::id::HostId;
use halberd_core::time::Stamp;
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;

use crate::error::{Error, Result};
use crate::fence_drills;
use crate::legible::legible;
use crate::seal::{Place, SealError, Sealer};
use crate::transaction::{Read, Tx, all, first};
use crate::value::{Row, args};

/// What anybody may see of a host's devices.
#[derive(Clone, Debug, PartialEq)]
pub struct FenceDevicesRow {
    pub host: HostId,
    /// `{"levels": [{"devices": [..]}]}` with a mask in place of secrets.
    pub masked: Value,
    pub version: i64,
    pub updated_at: Stamp,
}

/// A host's devices with their secrets; for an engine.
#[derive(Debug)]
pub struct OpenedDevices {
    pub host: HostId,
    /// The JSON text as it was set.
    pub levels: SecretString,
    pub version: i64,
}

/// Seals and stores a host's devices in place of the former; the answer is the row's version. Their last checks are forgotten, and
/// what a drill showed of others. `masked` is the same document as anybody may see it: whoever knows which keys are secret makes it.
pub async fn set(
    tx: &mut Tx,
    sealer: &Sealer,
    host: HostId,
    levels: &Value,
    masked: &Value,
    now: Stamp,
) -> Result<i64> {
    let former = get(&mut *tx, host).await?;
    let old = former.as_ref().map(|row| row.version);
    let version = old.unwrap_or(0) + 1;
    let text = SecretString::from(levels.to_string());
    let sealed = sealer.seal(place(&host.to_string(), version), text.expose_secret().as_bytes())?;
    let shown = masked.to_string();
    match old {
        Some(seen) => {
            let sql = "UPDATE fence_devices SET masked = ?, sealed = ?, version = ?, updated_at = ? WHERE host = ? AND version = ?";
            if tx.exec(sql, args![shown, sealed, version, now, host, seen]).await? != 1 {
                return Err(Error::Conflict { attempts: 1, source: None });
            }
        }
        None => {
            let sql = "INSERT INTO fence_devices (host, masked, sealed, version, updated_at) VALUES (?, ?, ?, ?, ?)";
            tx.exec(sql, args![host, shown, sealed, version, now]).await.map_err(Error::raced)?;
        }
    }
    tx.exec("DELETE FROM fence_checks WHERE host = ?", args![host]).await?;
    let former = former.map_or(Value::Null, |row| row.masked);
    fence_drills::carry_over(tx, host, masked, &former, version).await?;
    Ok(version)
}

/// Removes a host's devices. `false`: it had none.
pub async fn remove(tx: &mut Tx, host: HostId) -> Result<bool> {
    fence_drills::forget(tx, host).await?;
    tx.exec("DELETE FROM fence_checks WHERE host = ?", args![host]).await?;
    Ok(tx.exec("DELETE FROM fence_devices WHERE host = ?", args![host]).await? == 1)
}

/// A host's devices with their secrets masked.
pub async fn get(mut on: impl Read, host: HostId) -> Result<Option<FenceDevicesRow>> {
    let sql = "SELECT host, masked, version, updated_at FROM fence_devices WHERE host = ?";
    first(&mut on, sql, args![host]).await?.as_ref().map(read).transpose()
}

/// Every host's, masked.
pub async fn list(mut on: impl Read) -> Result<Vec<FenceDevicesRow>> {
    let sql = "SELECT host, masked, version, updated_at FROM fence_devices ORDER BY host";
    legible(&all(&mut on, sql, vec![]).await?, read)
}

/// Hosts whose devices nobody needs just now, with the version of their devices: none of their recoveries is open, the way back
/// included.
pub async fn idle(mut on: impl Read) -> Result<Vec<(HostId, i64)>> {
    let sql = "SELECT f.host, f.version FROM fence_devices f JOIN hosts h ON h.id = f.host AND h.deleted = 0 \
               WHERE NOT EXISTS (SELECT 1 FROM recoveries r WHERE r.host = f.host AND r.open_key IS NOT NULL \
               AND r.kind IN ('host', 'return')) ORDER BY f.host";
    let read = |row: &Row| {
        let row = row.of("fence_devices", "host");
        Ok((row.id("host")?, row.int("version")?))
    };
    all(&mut on, sql, vec![]).await?.iter().map(read).collect()
}

/// A host's devices with their secrets; for an engine only.
pub async fn open(mut on: impl Read, sealer: &Sealer, host: HostId) -> Result<Option<OpenedDevices>> {
    let sql = "SELECT host, sealed, version FROM fence_devices WHERE host = ?";
    let Some(row) = first(&mut on, sql, args![host]).await? else { return Ok(None) };
    let row = row.of("fence_devices", "host");
    let version = row.int("version")?;
    let name = host.to_string();
    let opened = sealer.open(place(&name, version), row.text("sealed")?)?;
    let text = std::str::from_utf8(opened.expose_secret())
        .map_err(|_| SealError::Unopened { table: "fence_devices", row: name.clone() })?;
    Ok(Some(OpenedDevices { host, levels: SecretString::from(text), version }))
}

/// The last check of one device.
#[derive(Clone, Debug, PartialEq)]
pub struct CheckRow {
    pub host: HostId,
    /// Level and place within it, from 0.
    pub level: u32,
    pub position: u32,
    /// Kind and address.
    pub device: String,
    pub at: Stamp,
    pub ok: bool,
    /// As read: `on`, `off`, or the device's own word.
    pub power: Option<String>,
    /// What is wrong and what to do, or that all is well.
    pub text: String,
    pub detail: Value,
}

/// Replaces the last check of a device; `detail.since` says from when on it has been as it is. The answer is whether it was ok before,
/// `None` for the first one.
pub async fn record_check(tx: &mut Tx, check: &CheckRow) -> Result<Option<bool>> {
    let key = args![check.host, check.level, check.position];
    let sql = "SELECT * FROM fence_checks WHERE host = ? AND level = ? AND position = ?";
    let before = first(&mut &mut *tx, sql, key.clone()).await?.as_ref().map(read_check).transpose()?;
    let lasts = before.as_ref().filter(|before| before.ok == check.ok && before.device == check.device);
    let since = lasts.and_then(|before| before.detail["since"].as_i64()).unwrap_or(check.at.0);
    let mut detail = check.detail.clone();
    if let Some(fields) = detail.as_object_mut() {
        fields.insert("since".to_owned(), since.into());
    }
    tx.exec("DELETE FROM fence_checks WHERE host = ? AND level = ? AND position = ?", key).await?;
    tx.exec(
        "INSERT INTO fence_checks (host, level, position, device, at, ok, power, text, detail) \
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        args![
            check.host,
            check.level,
            check.position,
            &check.device,
            check.at,
            check.ok,
            check.power.clone(),
            &check.text,
            detail.to_string()
        ],
    )
    .await
    .map_err(Error::raced)?;
    Ok(before.map(|before| before.ok))
}

/// The last checks of a host's devices, by level and place.
pub async fn checks(mut on: impl Read, host: HostId) -> Result<Vec<CheckRow>> {
    let sql = "SELECT * FROM fence_checks WHERE host = ? ORDER BY level, position";
    all(&mut on, sql, args![host]).await?.iter().map(read_check).collect()
}

/// The last checks of every device; for readiness.
pub async fn all_checks(mut on: impl Read) -> Result<Vec<CheckRow>> {
    let sql = "SELECT * FROM fence_checks ORDER BY host, level, position";
    legible(&all(&mut on, sql, vec![]).await?, read_check)
}

fn place(host: &str, version: i64) -> Place<'_> {
    Place { table: "fence_devices", row: host, version }
}

pub(crate) fn read(row: &Row) -> Result<FenceDevicesRow> {
    let row = row.of("fence_devices", "host");
    Ok(FenceDevicesRow {
        host: row.id("host")?,
        masked: row.json("masked")?,
        version: row.int("version")?,
        updated_at: row.stamp("updated_at")?,
    })
}

pub(crate) fn read_check(row: &Row) -> Result<CheckRow> {
    let row = row.of("fence_checks", "host");
    Ok(CheckRow {
        host: row.id("host")?,
        level: row.number("level")?,
        position: row.number("position")?,
        device: row.string("device")?,
        at: row.stamp("at")?,
        ok: row.flag("ok")?,
        power: row.opt_string("power")?,
        text: row.string("text")?,
        detail: row.json("detail")?,
    })
}
