//! Intents: effects that may have happened. Committed before the first byte of the call (I7), resolved afterwards; an
//! unresolved one tells the next owner to ask the world.

use std::collections::BTreeMap;

use halberd_core::id::{HostId, RecoveryId};
use halberd_core::runner::{Intent, Resolution};
use halberd_core::time::Stamp;
use serde_json::Value;
use sqlx::AssertSqlSafe;
use uuid::Uuid;

pub use crate::fence_history::{FenceAct, FenceActKind, fence_history};

use crate::dialect::ROWS_PER_STATEMENT;
use crate::error::{Error, Result};
use crate::transaction::{Read, Tx, all, first};
use crate::value::{Arg, Row, args};

const COLUMNS: &[&str] =
    &["id", "recovery", "host", "vmove", "effect", "open_key", "epoch", "attempt", "detail", "created_at"];

/// An intent as stored.
#[derive(Clone, Debug, PartialEq)]
pub struct IntentRow {
    /// Its `open_key` is `None` once it is resolved.
    pub intent: Intent,
    pub created_at: Stamp,
    pub resolved_at: Option<Stamp>,
    pub result: Option<String>,
    pub result_detail: Option<Value>,
}

/// Inserts intents.
///
/// # Errors
/// [`Error::IntentOpen`] when one of their keys is held by an unresolved intent.
pub(crate) async fn insert(tx: &mut Tx, intents: &[Intent], now: Stamp) -> Result<()> {
    if let Some(key) = open_among(tx, intents).await? {
        return Err(Error::IntentOpen { key });
    }
    let row = |intent: &Intent| {
        args![
            intent.id,
            intent.recovery,
            intent.host,
            intent.vmove,
            &intent.effect,
            intent.open_key.clone(),
            intent.epoch,
            intent.attempt,
            intent.detail.to_string(),
            now
        ]
    };
    tx.insert_rows("intents", COLUMNS, intents.iter().map(row).collect()).await.map_err(Error::raced)
}

/// The first key that is held already, by a stored intent or twice within the batch.
async fn open_among(tx: &mut Tx, intents: &[Intent]) -> Result<Option<String>> {
    let keys: Vec<&str> = intents.iter().filter_map(|intent| intent.open_key.as_deref()).collect();
    let mut sorted = keys.clone();
    sorted.sort_unstable();
    if let Some(twice) = sorted.windows(2).find(|pair| pair[0] == pair[1]) {
        return Ok(Some(twice[0].to_owned()));
    }
    for chunk in keys.chunks(ROWS_PER_STATEMENT) {
        let marks = vec!["?"; chunk.len()].join(", ");
        let sql = AssertSqlSafe(format!("SELECT open_key FROM intents WHERE open_key IN ({marks}) LIMIT 1"));
        let values: Vec<Arg> = chunk.iter().map(|key| Arg::from(*key)).collect();
        if let Some(row) = first(&mut &mut *tx, sql, values).await? {
            return row.of("intents", "open_key").string("open_key").map(Some);
        }
    }
    Ok(None)
}

/// Records how intents ended and frees their keys. One that was resolved before stays as it was.
pub(crate) async fn resolve(tx: &mut Tx, resolved: &[Resolution], now: Stamp) -> Result<()> {
    // Most of a batch end alike: one statement for all that do.
    let mut alike: BTreeMap<(&str, String), Vec<Uuid>> = BTreeMap::new();
    for resolution in resolved {
        alike.entry((&resolution.result, resolution.detail.to_string())).or_default().push(resolution.intent);
    }
    for ((result, detail), ids) in alike {
        for chunk in ids.chunks(ROWS_PER_STATEMENT) {
            let marks = vec!["?"; chunk.len()].join(", ");
            let sql = AssertSqlSafe(format!(
                "UPDATE intents SET open_key = NULL, resolved_at = ?, result = ?, result_detail = ? \
                 WHERE resolved_at IS NULL AND id IN ({marks})"
            ));
            let mut values = args![now, result, &detail];
            values.extend(chunk.iter().map(|id| Arg::from(*id)));
            tx.exec(sql, values).await?;
        }
    }
    Ok(())
}

pub async fn get(mut on: impl Read, id: Uuid) -> Result<IntentRow> {
    let row = first(&mut on, "SELECT * FROM intents WHERE id = ?", args![id]).await?;
    read(&row.ok_or_else(|| Error::not_found("intent", id))?)
}

/// Unresolved intents of a recovery, oldest first.
pub async fn open_of_recovery(mut on: impl Read, recovery: RecoveryId) -> Result<Vec<IntentRow>> {
    let sql = "SELECT * FROM intents WHERE recovery = ? AND resolved_at IS NULL ORDER BY created_at, id";
    all(&mut on, sql, args![recovery]).await?.iter().map(read).collect()
}

/// Unresolved intents of a host, whatever recovery wrote them: a host's own outlive it (DESIGN 10.1).
pub async fn open_of_host(mut on: impl Read, host: HostId) -> Result<Vec<IntentRow>> {
    let sql = "SELECT * FROM intents WHERE host = ? AND resolved_at IS NULL ORDER BY created_at, id";
    all(&mut on, sql, args![host]).await?.iter().map(read).collect()
}

/// Every intent of a recovery, oldest first; for `explain`.
pub async fn of_recovery(mut on: impl Read, recovery: RecoveryId) -> Result<Vec<IntentRow>> {
    let sql = "SELECT * FROM intents WHERE recovery = ? ORDER BY created_at, id";
    all(&mut on, sql, args![recovery]).await?.iter().map(read).collect()
}

/// Writes intents of a host outside any recovery (its return), and resolves others, in one unit with the caller's writes.
pub async fn record(tx: &mut Tx, intents: &[Intent], resolved: &[Resolution], now: Stamp) -> Result<()> {
    resolve(tx, resolved, now).await?;
    insert(tx, intents, now).await
}

pub(crate) fn read(row: &Row) -> Result<IntentRow> {
    let row = row.of("intents", "id");
    let intent = Intent {
        id: row.id("id")?,
        recovery: row.opt_id("recovery")?,
        host: row.opt_id("host")?,
        vmove: row.opt_id("vmove")?,
        effect: row.string("effect")?,
        open_key: row.opt_string("open_key")?,
        epoch: row.int("epoch")?,
        attempt: row.int("attempt")?,
        detail: row.json("detail")?,
    };
    Ok(IntentRow {
        intent,
        created_at: row.stamp("created_at")?,
        resolved_at: row.opt_stamp("resolved_at")?,
        result: row.opt_string("result")?,
        result_detail: row.opt_json("result_detail")?,
    })
}
