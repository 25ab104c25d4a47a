//! Audit records, hash-chained: one chain per recovery (its id) and one per process for the rest (DESIGN 10.12).
//!
//! The head of each chain is a row of its own, moved by compare-and-swap; a checkpoint, itself a chain, lists heads each
//! minute: all of them when an engine starts, then those that moved. So a flipped byte, a missing record, a cut tail and a lost chain
//! are found and the first bad record is named (S16, [`verify`]). What retention takes away is noted in the checkpoints too
//! (module `cut`): a record that is gone without such a note is missing.

mod cut;
mod verify;

use std::collections::BTreeMap;

use halberd_core::audit::{Entry, GENESIS, Link, hash};
use halberd_core::id::{EngineId, RecoveryId};
use halberd_core::time::Stamp;
use serde_json::Value;

pub(crate) use cut::{Told, cut, cut_checkpoints, delete_below, fold_from, note_purged, remove_head};
pub use verify::{Chain, inspect, verify};

use crate::error::{Error, Result};
use crate::transaction::{Read, Tx, all, first};
use crate::value::{Row, args};

/// The chain of checkpoints.
pub const CHECKPOINTS: &str = "checkpoints";

const COLUMNS: &[&str] =
    &["chain", "sequence", "before_hash", "at", "epoch", "what", "text", "detail", "hash"];

/// The chain of an engine's records that belong to no recovery.
pub fn engine_chain(engine: EngineId) -> String {
    format!("engine:{engine}")
}

/// The chain of an API process.
pub fn api_chain(process: uuid::Uuid) -> String {
    format!("api:{process}")
}

/// Appends entries to a chain, inside the transaction of what they tell of.
pub async fn append(tx: &mut Tx, chain: &str, epoch: i64, entries: &[Entry], now: Stamp) -> Result<()> {
    if entries.is_empty() {
        return Ok(());
    }
    let head = first(&mut &mut *tx, "SELECT * FROM audit_heads WHERE chain = ?", args![chain]).await?;
    let (start, mut before) = match &head {
        Some(row) => {
            let row = row.of("audit_heads", "chain");
            (row.int("sequence")?, row.string("hash")?)
        }
        None => (0, GENESIS.to_owned()),
    };
    let mut rows = Vec::with_capacity(entries.len());
    let mut sequence = start;
    for entry in entries {
        sequence += 1;
        let link = Link { sequence, before, at: now.0, epoch, entry: settled(entry) };
        let hashed = hash(chain, &link);
        let Link { before: previous, entry, .. } = link;
        rows.push(args![
            chain,
            sequence,
            previous,
            now,
            epoch,
            entry.what,
            entry.text,
            entry.detail.to_string(),
            &hashed
        ]);
        before = hashed;
    }
    tx.insert_rows("audit", COLUMNS, rows).await.map_err(Error::raced)?;
    move_head(tx, chain, head.is_some().then_some(start), sequence, &before).await
}

async fn move_head(tx: &mut Tx, chain: &str, from: Option<i64>, sequence: i64, hash: &str) -> Result<()> {
    match from {
        Some(seen) => {
            let sql = "UPDATE audit_heads SET sequence = ?, hash = ? WHERE chain = ? AND sequence = ?";
            if tx.exec(sql, args![sequence, hash, chain, seen]).await? != 1 {
                return Err(Error::Conflict { attempts: 1, source: None });
            }
        }
        None => {
            let sql = "INSERT INTO audit_heads (chain, sequence, hash) VALUES (?, ?, ?)";
            tx.exec(sql, args![chain, sequence, hash]).await.map_err(Error::raced)?;
        }
    }
    Ok(())
}

/// A detail whose text reads back to the same text: some decimal numbers change once when they go through text.
fn settled(entry: &Entry) -> Entry {
    let mut detail = entry.detail.clone();
    for _ in 0..3 {
        let again: Value = serde_json::from_str(&detail.to_string()).unwrap_or(Value::Null);
        if again == detail {
            break;
        }
        detail = again;
    }
    Entry { detail, ..entry.clone() }
}

/// The records of a chain, oldest first, each with its stored hash.
pub async fn of_chain(mut on: impl Read, chain: &str) -> Result<Vec<(Link, String)>> {
    let rows = all(&mut on, "SELECT * FROM audit WHERE chain = ? ORDER BY sequence", args![chain]).await?;
    rows.iter().map(|row| read(chain, row)).collect()
}

/// The records of a recovery, oldest first.
pub async fn of_recovery(on: impl Read, recovery: RecoveryId) -> Result<Vec<Link>> {
    Ok(of_chain(on, &recovery.to_string()).await?.into_iter().map(|(link, _)| link).collect())
}

/// Writes a checkpoint: the heads of all chains. `false`: nothing happened since the last.
pub async fn checkpoint(tx: &mut Tx, now: Stamp) -> Result<bool> {
    let heads = heads(&mut *tx).await?;
    let listed: BTreeMap<&String, &(i64, String)> =
        heads.iter().filter(|(chain, _)| *chain != CHECKPOINTS).collect();
    let detail = serde_json::to_value(&listed).unwrap_or(Value::Null);
    let last = first(
        &mut &mut *tx,
        "SELECT * FROM audit WHERE chain = ? ORDER BY sequence DESC LIMIT 1",
        args![CHECKPOINTS],
    )
    .await?;
    if let Some(row) = last
        && read(CHECKPOINTS, &row)?.0.entry.detail == detail
    {
        return Ok(false);
    }
    let text = format!("{} chains", listed.len());
    append(tx, CHECKPOINTS, 0, &[Entry::new("checkpoint_written", text, detail)], now).await?;
    Ok(true)
}

/// What the checkpoints have said so far, as far as an engine has read them. Its default knows of nothing: the next checkpoint lists
/// every chain.
#[derive(Clone, Debug, Default)]
pub struct Listed {
    upto: i64,
    told: Told,
}

/// Writes a checkpoint of the heads that moved since `listed`, by whichever engine that was written. `false`: none did.
///
/// Ten thousand recoveries have a megabyte of heads, which no database wants to take each minute.
pub async fn checkpoint_changes(tx: &mut Tx, listed: &Listed, now: Stamp) -> Result<(Listed, bool)> {
    let mut listed = listed.clone();
    let heads = heads(&mut *tx).await?;
    let end = heads.get(CHECKPOINTS).map_or(0, |head| head.0);
    if listed.upto > 0 {
        fold_from(&mut &mut *tx, listed.upto, &mut listed.told).await?;
    }
    listed.upto = end;
    let moved: BTreeMap<&String, &(i64, String)> = heads
        .iter()
        .filter(|(chain, head)| *chain != CHECKPOINTS && listed.told.heads.get(*chain) != Some(*head))
        .collect();
    if moved.is_empty() {
        return Ok((listed, false));
    }
    let detail = serde_json::to_value(&moved).unwrap_or(Value::Null);
    let text = format!("{} of {} chains", moved.len(), heads.len());
    append(tx, CHECKPOINTS, 0, &[Entry::new("checkpoint_written", text, detail)], now).await?;
    listed.told.heads.extend(moved.into_iter().map(|(chain, head)| (chain.clone(), head.clone())));
    listed.upto = end + 1;
    Ok((listed, true))
}

/// Every chain's head: last sequence and hash.
pub async fn heads(mut on: impl Read) -> Result<BTreeMap<String, (i64, String)>> {
    heads_of(&mut on).await
}

pub(crate) async fn heads_of(on: &mut impl Read) -> Result<BTreeMap<String, (i64, String)>> {
    let rows = all(on, "SELECT * FROM audit_heads", vec![]).await?;
    let read = |row: &Row| {
        let row = row.of("audit_heads", "chain");
        Ok((row.string("chain")?, (row.int("sequence")?, row.string("hash")?)))
    };
    rows.iter().map(read).collect()
}

pub(crate) fn read(chain: &str, row: &Row) -> Result<(Link, String)> {
    let row = row.of("audit", "sequence");
    let detail: Value = row.json("detail")?;
    // The hash covers the detail as we write it; another spelling of the same value is a change as well.
    let spelled = detail.to_string();
    if spelled != row.text("detail")? || row.text("chain")? != chain {
        return Err(row.corrupt("detail", "it is not spelled as it was written"));
    }
    let link = Link {
        sequence: row.int("sequence")?,
        before: row.string("before_hash")?,
        at: row.int("at")?,
        epoch: row.int("epoch")?,
        entry: Entry { what: row.string("what")?, text: row.string("text")?, detail },
    };
    Ok((link, row.string("hash")?))
}
