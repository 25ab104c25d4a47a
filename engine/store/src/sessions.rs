//! BMC sessions that carried an order: closed and forgotten before their host may return, so that no late order of theirs can
//! strike (DESIGN 10.1).

use halberd_core::id::{HostId, RecoveryId};
use halberd_core::time::Stamp;
use secrecy::{ExposeSecret, SecretString};
use uuid::Uuid;

use crate::error::Result;
use crate::seal::{Place, SealError, Sealer};
use crate::transaction::{Read, Tx, all};
use crate::value::{Row, args};

/// A session of a BMC.
#[derive(Clone, Debug)]
pub struct Session {
    pub id: Uuid,
    pub host: HostId,
    /// Kind and address.
    pub device: String,
    /// Whatever closes it: a token, a session's address.
    pub token: SecretString,
    pub recovery: Option<RecoveryId>,
    pub at: Stamp,
}

/// Records a session, before its order goes out.
pub async fn add(tx: &mut Tx, sealer: &Sealer, session: &Session) -> Result<()> {
    let sealed = sealer.seal(place(&session.id.to_string()), session.token.expose_secret().as_bytes())?;
    let sql = "INSERT INTO sessions (id, host, device, sealed, recovery, at) VALUES (?, ?, ?, ?, ?, ?)";
    let values = args![session.id, session.host, &session.device, sealed, session.recovery, session.at];
    tx.exec(sql, values).await?;
    Ok(())
}

/// Forgets a session that was closed. `false`: it was forgotten before.
pub async fn remove(tx: &mut Tx, id: Uuid) -> Result<bool> {
    Ok(tx.exec("DELETE FROM sessions WHERE id = ?", args![id]).await? == 1)
}

/// A host's sessions that are not known to be closed, oldest first.
pub async fn list(mut on: impl Read, sealer: &Sealer, host: HostId) -> Result<Vec<Session>> {
    let rows = all(&mut on, "SELECT * FROM sessions WHERE host = ? ORDER BY at, id", args![host]).await?;
    rows.iter().map(|row| read(row, sealer)).collect()
}

/// How many a host has; needs no key.
pub async fn count(mut on: impl Read, host: HostId) -> Result<i64> {
    let rows = all(&mut on, "SELECT COUNT(*) AS n FROM sessions WHERE host = ?", args![host]).await?;
    Ok(rows.first().map_or(0, Row::first_int))
}

fn place(id: &str) -> Place<'_> {
    Place { table: "sessions", row: id, version: 1 }
}

fn read(row: &Row, sealer: &Sealer) -> Result<Session> {
    let row = row.of("sessions", "id");
    let id: Uuid = row.id("id")?;
    let name = id.to_string();
    let opened = sealer.open(place(&name), row.text("sealed")?)?;
    let token = std::str::from_utf8(opened.expose_secret())
        .map_err(|_| SealError::Unopened { table: "sessions", row: name.clone() })?;
    Ok(Session {
        id,
        host: row.id("host")?,
        device: row.string("device")?,
        token: SecretString::from(token),
        recovery: row.opt_id("recovery")?,
        at: row.stamp("at")?,
    })
}
