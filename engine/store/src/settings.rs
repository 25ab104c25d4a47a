//! Facts about this database and switches of the whole service: its identity, the disarm row.

use halberd_core::time::Stamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::db::Db;
use crate::error::{Error, Result};
use crate::transaction::{Read, Tx, first, write};
use crate::value::{args, json};

/// What the secrets key is checked against.
pub(crate) const SEAL_CHECK: &str = "seal_check";
const IDENTITY: &str = "identity";
const DISARM: &str = "disarm";

/// The switch that stops all acting (break-glass).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disarm {
    pub actor: String,
    pub reason: String,
    pub since: Stamp,
    /// When it ends by itself, as the operator said; the engine counts that time on its own clock.
    pub until: Option<Stamp>,
}

/// The database's identity, made at its first use: an engine that finds another one knows that history changed under it.
pub async fn identity(db: &Db, now: Stamp) -> Result<Uuid> {
    write(db, async |tx| {
        if let Some((text, _)) = get(&mut *tx, IDENTITY).await? {
            return text.parse().map_err(|_| Error::Corrupt {
                table: "settings",
                row: IDENTITY.to_owned(),
                column: "value",
                reason: format!("'{text}' is no id"),
            });
        }
        let id = Uuid::new_v4();
        insert(tx, IDENTITY, &id.to_string(), now).await?;
        Ok(id)
    })
    .await
}

/// The disarm row, while one stands.
pub async fn disarm(mut on: impl Read) -> Result<Option<Disarm>> {
    let row = first(&mut on, "SELECT name, value FROM settings WHERE name = ?", args![DISARM]).await?;
    row.map(|row| row.of("settings", "name").json("value")).transpose()
}

/// Disarms, or arms again with `None`.
pub async fn set_disarm(tx: &mut Tx, disarm: Option<&Disarm>, now: Stamp) -> Result<()> {
    match disarm {
        Some(disarm) => set(tx, DISARM, &json(disarm), now).await,
        None => {
            tx.exec("DELETE FROM settings WHERE name = ?", args![DISARM]).await?;
            Ok(())
        }
    }
}

/// A named value and its version.
pub async fn get(mut on: impl Read, name: &str) -> Result<Option<(String, i64)>> {
    let row = first(&mut on, "SELECT * FROM settings WHERE name = ?", args![name]).await?;
    let read = |row: crate::value::Row| {
        let row = row.of("settings", "name");
        Ok((row.string("value")?, row.int("version")?))
    };
    row.map(read).transpose()
}

/// Sets a named value.
pub async fn set(tx: &mut Tx, name: &str, value: &str, now: Stamp) -> Result<()> {
    let sql = "UPDATE settings SET value = ?, version = version + 1, updated_at = ? WHERE name = ?";
    if tx.exec(sql, args![value, now, name]).await? == 0 {
        insert(tx, name, value, now).await?;
    }
    Ok(())
}

pub(crate) async fn insert(tx: &mut Tx, name: &str, value: &str, now: Stamp) -> Result<()> {
    let sql = "INSERT INTO settings (name, value, version, updated_at) VALUES (?, ?, 1, ?)";
    tx.exec(sql, args![name, value, now]).await.map_err(Error::raced)?;
    Ok(())
}
