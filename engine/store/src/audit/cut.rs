//! How records leave the audit (retention), so that nothing can be hidden by it.
//!
//! A chain goes as a whole, or from its start up to an anchor: a record that stays and whose sequence and hash are the chain's new
//! beginning. Either is an entry of the checkpoint chain, in the transaction that begins it: `chains_purged` names each chain with its
//! last sequence and hash, `chain_cut` the anchor. The checkpoint chain's own start is cut the same way, and the entry carries over all
//! that the records before it said (`checkpoints_cut`), so that a chain which was once listed and is lost stays known as lost.
//! Records before an anchor are deleted in steps later; until then they are there and mean nothing.

use std::collections::BTreeMap;

use halberd_core::audit::{Broken, Entry, Link};
use halberd_core::time::Stamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{CHECKPOINTS, append, read};
use crate::error::{Error, Result};
use crate::transaction::{Read, Tx, all, first};
use crate::value::args;

pub(super) const PURGED: &str = "chains_purged";
pub(super) const CUT: &str = "chain_cut";
pub(super) const CHECKPOINTS_CUT: &str = "checkpoints_cut";

/// Records read at once.
pub(super) const PAGE: u32 = 500;

/// What checkpoints have said: heads that were seen, anchors at which chains begin.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Told {
    pub(crate) heads: BTreeMap<String, (i64, String)>,
    pub(crate) anchors: BTreeMap<String, (i64, String)>,
    /// A purge that took less than what was listed before: what lay between was gone already.
    #[serde(skip)]
    pub(crate) faults: Vec<Broken>,
}

impl Told {
    /// One record of the checkpoint chain.
    pub(crate) fn fold(&mut self, link: &Link) {
        let detail = &link.entry.detail;
        let heads = |value: &Value| -> BTreeMap<String, (i64, String)> {
            serde_json::from_value(value.clone()).unwrap_or_default()
        };
        match link.entry.what.as_str() {
            "checkpoint_written" => raise(&mut self.heads, heads(detail)),
            CUT => raise(&mut self.anchors, heads(&detail["anchors"])),
            PURGED => {
                for (chain, (last, hash)) in heads(&detail["chains"]) {
                    if let Some((seen, was)) = self.heads.remove(&chain) {
                        if seen > last {
                            self.faults.push(Broken::Gap {
                                chain: chain.clone(),
                                expected: last + 1,
                                found: seen,
                            });
                        } else if seen == last && was != hash {
                            self.faults.push(Broken::Hash { chain: chain.clone(), sequence: seen });
                        }
                    }
                    self.anchors.remove(&chain);
                }
            }
            CHECKPOINTS_CUT => {
                raise(&mut self.heads, heads(&detail["heads"]));
                raise(&mut self.anchors, heads(&detail["anchors"]));
            }
            _ => {}
        }
    }
}

/// The higher sequence stays.
fn raise(known: &mut BTreeMap<String, (i64, String)>, more: BTreeMap<String, (i64, String)>) {
    for (chain, head) in more {
        match known.get(&chain) {
            Some((sequence, _)) if *sequence >= head.0 => {}
            _ => {
                known.insert(chain, head);
            }
        }
    }
}

/// Folds the checkpoint chain's records after a sequence; the answer is the last one's.
pub(crate) async fn fold_from(on: &mut impl Read, after: i64, told: &mut Told) -> Result<i64> {
    let mut last = after;
    loop {
        let sql = "SELECT * FROM audit WHERE chain = ? AND sequence > ? ORDER BY sequence LIMIT ?";
        let rows = all(on, sql, args![CHECKPOINTS, last, PAGE]).await?;
        for row in &rows {
            let (link, _) = read(CHECKPOINTS, row)?;
            last = link.sequence;
            told.fold(&link);
        }
        if rows.len() < PAGE as usize {
            return Ok(last);
        }
    }
}

/// Notes that chains go as a whole, each with its last sequence and hash.
pub(crate) async fn note_purged(
    tx: &mut Tx,
    chains: &BTreeMap<String, (i64, String)>,
    before: Stamp,
    now: Stamp,
) -> Result<()> {
    let text = format!("{} chains went as retention says", chains.len());
    let detail = json!({ "chains": chains, "closed_before": before });
    append(tx, CHECKPOINTS, 0, &[Entry::new(PURGED, text, detail)], now).await
}

/// A chain's head goes; the records are deleted after it ([`delete_below`]). A chain that grew since it was looked at stays.
pub(crate) async fn remove_head(tx: &mut Tx, chain: &str, seen: i64) -> Result<()> {
    let sql = "DELETE FROM audit_heads WHERE chain = ? AND sequence = ?";
    match tx.exec(sql, args![chain, seen]).await? {
        1 => Ok(()),
        _ => Err(Error::Conflict { attempts: 1, source: None }),
    }
}

/// Notes that a chain begins at one of its records from now on.
pub(crate) async fn cut(tx: &mut Tx, chain: &str, anchor: i64, now: Stamp) -> Result<()> {
    let hash = hash_of(tx, chain, anchor).await?;
    let text = format!("{chain} begins at record {anchor}, as retention says");
    let detail = json!({ "anchors": { chain: (anchor, hash) } });
    append(tx, CHECKPOINTS, 0, &[Entry::new(CUT, text, detail)], now).await
}

/// The same for the checkpoint chain. `told` is what its records say up to sequence `upto`.
pub(crate) async fn cut_checkpoints(
    tx: &mut Tx,
    anchor: i64,
    mut told: Told,
    upto: i64,
    now: Stamp,
) -> Result<()> {
    fold_from(&mut &mut *tx, upto, &mut told).await?;
    let hash = hash_of(tx, CHECKPOINTS, anchor).await?;
    let text = format!("the checkpoints begin at record {anchor}, as retention says");
    let detail = json!({ "anchor": (anchor, hash), "heads": told.heads, "anchors": told.anchors });
    append(tx, CHECKPOINTS, 0, &[Entry::new(CHECKPOINTS_CUT, text, detail)], now).await
}

async fn hash_of(tx: &mut Tx, chain: &str, sequence: i64) -> Result<String> {
    let sql = "SELECT chain, hash FROM audit WHERE chain = ? AND sequence = ?";
    let row = first(&mut &mut *tx, sql, args![chain, sequence]).await?;
    row.ok_or_else(|| Error::not_found("audit record", format!("{chain}/{sequence}")))?
        .of("audit", "chain")
        .string("hash")
}

/// The anchor that the checkpoint chain's own last cut names.
pub(super) async fn own_anchor(on: &mut impl Read) -> Result<Option<(i64, String)>> {
    let sql = "SELECT * FROM audit WHERE chain = ? AND what = ? ORDER BY sequence DESC LIMIT 1";
    let Some(row) = first(on, sql, args![CHECKPOINTS, CHECKPOINTS_CUT]).await? else { return Ok(None) };
    // One that cannot be read is found by the walk.
    Ok(read(CHECKPOINTS, &row)
        .ok()
        .and_then(|(link, _)| serde_json::from_value(link.entry.detail["anchor"].clone()).ok()))
}

/// Deletes records below a sequence, the oldest first, at most `limit`; the answer is how many.
pub(crate) async fn delete_below(tx: &mut Tx, chain: &str, below: i64, limit: u32) -> Result<u64> {
    let sql = "SELECT COALESCE(MIN(sequence), 0) AS n FROM audit WHERE chain = ?";
    let first = first(&mut &mut *tx, sql, args![chain]).await?.map_or(0, |row| row.first_int());
    if first == 0 || first >= below {
        return Ok(0);
    }
    let to = below.min(first.saturating_add(i64::from(limit)));
    tx.exec("DELETE FROM audit WHERE chain = ? AND sequence >= ? AND sequence < ?", args![chain, first, to])
        .await
}
